"""The search for what a function reads: from its names to objects, and from those to their attributes."""

from __future__ import annotations

import argparse
import array
import builtins
import collections
import contextlib
import functools
import importlib.util
import operator
import sys
import types
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from ....runtime.primitives import Primitive
from ....runtime.sites import PACKAGE, Location
from ....runtime.value import Condition, Value
from .contents import ATOMS, MAPPINGS, MISSING, PLAIN, Content, is_numeric, members_of
from .draws import Draw, generator_of
from .reads import Name, Reads, is_installed, is_library, is_library_module, is_model_module, reads_of
from .references import ATTRIBUTE, CALL, CELL, CLASS, INSTANCE, ITEM, Called, Reference, attributes_of, definition_of

#: At most this many functions and objects are followed.
_FUNCTIONS, _OBJECTS = 5_000, 200_000


class Search:
    """Follows functions and objects from some roots, and collects what they read."""

    def __init__(self, roots: Sequence[Any]) -> None:
        self._objects_by_id: dict[int, Any] = {}  # all objects that have been reached
        self._queue: list[tuple[Any, str]] = []  # objects to follow, with their names
        self._functions = 0
        #: Objects whose attributes count: each with its name, and how many names of attributes have been looked up.
        self._attribute_owners: list[tuple[Any, str, int]] = []
        self._classes: dict[type, dict[str, list[Any]]] = {}
        #: The names of attributes that functions read, each with a line that does.
        self._attributes: dict[str, Location | None] = {}
        self._optional: set[str] = set()  # attributes that may be missing: a function asks whether they are there
        self._write_only: set[str] = set()  # attributes into which functions only put something
        self._all_attributes = False  # whether some function may read all attributes of an object
        self._names: list[str] = []
        self._references: dict[tuple[Any, ...], Reference] = {}
        self._contents: dict[int, Content] = {}
        self.draws: list[Draw] = []
        for root in roots:
            self._root(root)

    def _root(self, item: Any) -> None:
        """Begin at an object. A function counts as the user's own, wherever it is from."""
        if isinstance(item, Called):
            self._reference(CALL, item.function, None, item.name, item.function())
            return
        if isinstance(item, types.MethodType):
            self._enqueue(item.__self__, "self")
            item = item.__func__
        if isinstance(item, types.FunctionType):
            self._objects_by_id[id(item)] = item
            self._function(item)
        else:
            self._enqueue(item, "model" if callable(getattr(item, "parameters", None)) else "self")
            call = definition_of(type(item), "__call__")
            if isinstance(call, types.FunctionType):
                self._objects_by_id[id(call)] = call
                self._function(call)

    def references(self) -> list[Reference]:
        """All places that are read."""
        lengths = (-1, -1)
        while self._queue or lengths != (len(self._attribute_owners), len(self._names)):
            while self._queue:
                self._visit(*self._queue.pop())
            lengths = len(self._attribute_owners), len(self._names)
            # Functions that were reached since then may read more attributes of these objects.
            count = len(self._names)
            for k, (item, name, start) in enumerate(self._attribute_owners):
                if start < count:
                    self._attribute_owners[k] = item, name, count
                    self._read_attributes(item, name, self._names[start:count])
            if self._all_attributes:
                for item, name, _ in list(self._attribute_owners):
                    self._read_all_attributes(item, name)
        return list(self._references.values())

    def _enqueue(self, item: Any, name: str) -> None:
        """Note an object to be followed, unless it has been reached before."""
        if type(item) not in PLAIN and id(item) not in self._objects_by_id:
            self._objects_by_id[id(item)] = item
            self._queue.append((item, name))

    # --- functions ------------------------------------------------------------------------------------------------

    def _function(self, function: types.FunctionType) -> None:
        if self._functions >= _FUNCTIONS:
            return
        self._functions += 1
        code, reads = function.__code__, reads_of(function.__code__)
        for attribute, line in reads.attributes.items():
            location = Location(code.co_filename, line)
            write_only = attribute in reads.write_only
            self._note_attributes((attribute,), location, attribute in reads.optional, write_only)
        self._all_attributes |= reads.all_attributes
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=False))
        for name in reads.free:
            cell = cells.get(name.name)
            if cell is not None:  # else a variable of a function inside this one
                try:
                    value = cell.cell_contents
                except ValueError:
                    value = MISSING  # not assigned yet
                if name.is_write_only and _is_container(value):
                    continue
                self._name(CELL, cell, None, name, value, code.co_filename)
        self._globals(function.__globals__, reads, code.co_filename)
        self._attribute_owners.append((function, function.__name__, 0))  # it may have attributes
        if not code.co_filename.startswith(PACKAGE):  # others may be edited: tools that reload modules do so
            self._reference(ATTRIBUTE, function, "__code__", function.__name__, code)
            for attribute in ("__defaults__", "__kwdefaults__"):
                defaults = getattr(function, attribute)
                if defaults is not None:
                    self._reference(ATTRIBUTE, function, attribute, f"{function.__name__}.{attribute}", defaults)
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None:
            self._enqueue(wrapped, function.__name__)

    def _note_attributes(
        self,
        attributes: Iterable[str],
        location: Location | None = None,
        optional: bool = False,
        write_only: bool = False,
    ) -> None:
        """Note the names of attributes that are read. If an optional one is missing, that counts, too."""
        for attribute in attributes:
            new = attribute not in self._attributes
            if new and write_only:
                self._write_only.add(attribute)
            elif attribute in self._write_only and not write_only:
                self._write_only.remove(attribute)
                new = True
            if attribute not in self._attributes:
                self._attributes[attribute] = location
            if new or (optional and attribute not in self._optional):
                self._names.append(attribute)
            if optional:
                self._optional.add(attribute)

    def _globals(self, table: dict[str, Any], reads: Reads, filename: str) -> None:
        for name in reads.globals:
            value = table.get(name.name, MISSING)
            if name.is_write_only and _is_container(value):
                continue
            if value is not MISSING:
                self._name(ITEM, table, name.name, name, value, filename)
            elif not is_installed(filename):  # a builtin, until a global hides it
                self._reference(ITEM, table, name.name, name.name, MISSING)
                if name.name in vars(builtins):
                    self._reference(ITEM, vars(builtins), name.name, name.name, vars(builtins)[name.name])
        for name in reads.imports:
            module = sys.modules.get(_absolute(name.name, table))
            if module is None:
                continue
            if name.attributes:
                self._module(module, module.__name__, name, filename)
            else:
                self._enqueue(module, name.name)  # a local variable has it

    def _name(self, kind: str, owner: Any, key: Any, name: Name, value: Any, filename: str) -> None:
        """A variable that is read."""
        if kind is ITEM and is_installed(filename):
            self._enqueue(value, name.name)  # users do not change the variables of a library
        else:
            self._reference(kind, owner, key, name.name, value)
        if isinstance(value, types.ModuleType):
            self._module(value, name.name, name, filename)
        else:
            self._note_draw(value, ".".join((name.name, *name.attributes)), Location(filename, name.line))

    def _module(self, module: Any, dotted: str, name: Name, filename: str) -> None:
        """Follow a dotted name into modules, and not their other attributes."""
        for attribute in name.attributes:
            table = vars(module)
            value = table.get(attribute, MISSING)
            if value is MISSING:
                self._enqueue(module, dotted)
                return
            dotted = f"{dotted}.{attribute}"
            if not is_library_module(module.__name__):
                self._reference(ITEM, table, attribute, dotted, value)
            self._note_draw(value, dotted, Location(filename, name.line))
            if not isinstance(value, types.ModuleType):
                return
            module = value
        self._enqueue(module, dotted)  # it is passed on, and any function may read anything of it

    def _reference(self, kind: str, owner: Any, key: Any, name: str, value: Any) -> None:
        if isinstance(value, types.ModuleType) and is_library_module(value.__name__):
            return  # `np` is `np`
        identity = (kind, id(owner), key)
        if identity not in self._references:
            self._references[identity] = Reference(kind, owner, key, name, value, Content.of(value, self._contents))
            if kind is not CLASS and value is not MISSING and not isinstance(value, types.ModuleType):
                self._enqueue(value, name)

    # --- objects --------------------------------------------------------------------------------------------------

    def _visit(self, item: Any, name: str) -> None:
        """Follow an object: note what it refers to."""
        if isinstance(item, (Value, Condition, Primitive, np.generic)):
            return
        self._note_draw(item, name, None)
        if isinstance(item, types.ModuleType):
            if not (is_library_module(item.__name__) or is_model_module(item.__name__)):
                self._attribute_owners.append((item, name, 0))
            return
        if isinstance(item, types.FunctionType):
            if not is_library(item.__code__.co_filename):
                self._function(item)
            elif "__wrapped__" in vars(item):
                self._enqueue(vars(item)["__wrapped__"], name)
                if isinstance(vars(item).get("registry"), types.MappingProxyType):  # of functools.singledispatch
                    self._reference(ATTRIBUTE, item, "registry", f"{name}.registry", vars(item)["registry"])
        elif isinstance(item, types.MethodType):
            self._enqueue(item.__self__, name.rpartition(".")[0] or name)
            self._enqueue(item.__func__, name)
        elif isinstance(item, (operator.attrgetter, operator.methodcaller)):
            self._note_attributes(_texts(item.__reduce__()))
        elif isinstance(item, tuple(_PARTS)):
            if isinstance(item, functools.partial):
                self._enqueue(item.func, name)
            attributes = next(attributes for kind, attributes in _PARTS.items() if isinstance(item, kind))
            for attribute in attributes:
                path = name if len(attributes) == 1 else f"{name}.{attribute}"
                if hasattr(item, attribute):
                    self._reference(ATTRIBUTE, item, attribute, path, getattr(item, attribute))
        elif hasattr(type(item), "_captured_roots"):  # a transformed function
            for root in item._captured_roots():
                if isinstance(root, Called):
                    self._root(root)
                else:
                    self._enqueue(root, name)
        elif is_numeric(item):
            return
        else:
            members = members_of(item)
            if members is not None and not set(map(type, members)) <= ATOMS:
                keys = list(item) if isinstance(item, MAPPINGS) else range(len(members))
                for key, member in zip(keys, members, strict=False):  # another thread may be changing it
                    if type(member) not in ATOMS:
                        self._enqueue(member, f"{name}[{key!r}]")
            if isinstance(item, MAPPINGS):
                for key in list(item):
                    self._enqueue(key, f"the key {key!r:.40} of {name}")
            if len(self._attribute_owners) < _OBJECTS and type(item) not in _BUILT_IN:
                self._attribute_owners.append((item, name, 0))
                self._special(item, name)

    def _special(self, item: Any, name: str) -> None:
        """The methods of an object that are called without their names: `__call__`, `__getitem__`, ..."""
        is_class = isinstance(item, type)
        kind = item if is_class else type(item)
        for attribute, values in self._class(kind).items():
            if _is_special(attribute) and attribute not in _DISPLAY and (is_class or attribute not in _CONSTRUCTION):
                functions = [function for value in values for function in _functions_in(value)]
                for function in functions:
                    self._enqueue(function, f"{name}.{attribute}")
                if functions:
                    self._in_class(kind, attribute)
        attributes = attributes_of(item)
        if "__wrapped__" in attributes:  # what `functools.wraps` and `functools.lru_cache` leave
            self._enqueue(attributes["__wrapped__"], name)

    def _read_attributes(self, item: Any, name: str, attributes: Sequence[str]) -> None:
        """Attributes of an object that functions read, and methods that they call."""
        is_class = isinstance(item, type)
        kind = item if is_class else type(item)
        instance = {} if is_class else attributes_of(item)
        definitions_by_name = self._class(kind)
        optional, write_only = self._optional, self._write_only
        there = [  # few of all names
            a for a in attributes if a in instance or a in definitions_by_name or a in optional or a in write_only
        ]
        for attribute in there:
            path = f"{name}.{attribute}"
            definitions = definitions_by_name.get(attribute, ())
            value = instance.get(attribute, MISSING)
            if attribute in write_only and _is_container(getattr(item, attribute, None)):
                continue
            in_instance = value is not MISSING and not (definitions and hasattr(type(definitions[0]), "__set__"))
            if in_instance:
                self._read_instance(item, attribute, path, value)
            if definitions:
                self._in_class(kind, attribute)
                for each in definitions:  # all of them: `super()` reads what others override
                    for function in _functions_in(each):
                        self._enqueue(function, path)
                if not in_instance:
                    self._read_class(item, attribute, path, definitions[0])
            elif attribute in optional and not in_instance:
                self._in_class(kind, attribute)
                if not is_class and not _is_library_code(item):
                    self._reference(INSTANCE, item, attribute, path, MISSING)

    def _read_all_attributes(self, item: Any, name: str) -> None:
        """All of an object's own attributes."""
        if isinstance(item, (type, types.ModuleType, types.FunctionType)):
            return
        if is_library_module(type(item).__module__) and not isinstance(item, _NAMESPACES):
            return
        table = attributes_of(item)
        if table:
            self._reference(ATTRIBUTE, item, "__dict__", f"{name}.__dict__", table)
        slots = [slot for base in type(item).__mro__ for slot in _texts(getattr(base, "__slots__", ()))]
        self._note_attributes([*slots, *_texts(getattr(type(item), "__match_args__", ()))])

    def _read_instance(self, item: Any, attribute: str, path: str, value: Any) -> None:
        """One of an object's own attributes."""
        if isinstance(item, types.ModuleType):
            self._reference(ITEM, vars(item), attribute, path, value)
        else:
            self._reference(ATTRIBUTE, item, attribute, path, value)
        if isinstance(value, types.ModuleType):
            self._enqueue(value, path)
        self._note_draw(value, path, self._attributes.get(attribute))

    def _read_class(self, item: Any, attribute: str, path: str, definition: Any) -> None:
        """An attribute that an object has from its class."""
        if isinstance(definition, types.MemberDescriptorType) and not isinstance(item, type):  # a slot
            value = getattr(item, attribute, MISSING)
            if value is not MISSING or attribute in self._optional:
                self._reference(ATTRIBUTE, item, attribute, path, value)
        elif not hasattr(type(definition), "__get__"):
            value = getattr(item, attribute, MISSING)
            if value is not MISSING:
                self._reference(ATTRIBUTE, item, attribute, path, value)
        elif not _functions_in(definition):
            self._read_descriptor(item, attribute, path, definition)
        elif not isinstance(item, type) and not hasattr(type(definition), "__set__") and type(item).__dictoffset__:
            self._reference(INSTANCE, item, attribute, path, MISSING)  # a method, until the object has one of its own

    def _read_descriptor(self, item: Any, attribute: str, path: str, descriptor: Any) -> None:
        """What a descriptor returns, if it is the same each time."""
        self._enqueue(descriptor, path)
        if isinstance(item, type):
            return
        with contextlib.suppress(Exception):  # of the user's code, which raises it again where it belongs
            value = getattr(item, attribute)
            if type(value) in PLAIN or value is getattr(item, attribute):
                self._reference(ATTRIBUTE, item, attribute, path, value)

    def _in_class(self, kind: type, attribute: str) -> None:
        """What a class and its bases define: somebody may replace it, but not in the models of this package."""
        for base in kind.__mro__:
            if is_library_module(base.__module__) or is_model_module(base.__module__):
                return
            if base is kind or attribute in vars(base):
                self._reference(CLASS, base, attribute, f"{base.__name__}.{attribute}", definition_of(base, attribute))

    def _class(self, kind: type) -> dict[str, list[Any]]:
        """The definitions of a class and its bases, those of libraries left out: the class's own first."""
        table = self._classes.get(kind)
        if table is None:
            table = self._classes[kind] = {}
            for base in kind.__mro__:
                if not is_library_module(base.__module__) or is_model_module(base.__module__):
                    for name, value in vars(base).copy().items():  # another thread may be changing it
                        table.setdefault(name, []).append(value)
        return table

    # --- random numbers -------------------------------------------------------------------------------------------

    def _note_draw(self, value: Any, name: str, location: Location | None) -> None:
        """Note a line that names a source of random numbers."""
        generator = generator_of(value)
        if generator is not None:
            self.draws.append(Draw(name, location, generator))


def _texts(item: Any) -> list[str]:
    """The names in the parts of an `attrgetter` or `methodcaller`."""
    if isinstance(item, tuple):
        return [text for part in item for text in _texts(part)]
    return item.split(".") if isinstance(item, str) else []


def _functions_in(value: Any) -> list[Any]:
    """The function in a definition of a class, if there is one; a transformed function counts."""
    if isinstance(value, functools.singledispatchmethod):
        return list(value.dispatcher.registry.values())
    for kind, attribute in _WRAPPERS.items():
        if isinstance(value, kind):
            function = getattr(value, attribute)
            return [] if function is None else [function]
    return [value] if isinstance(value, types.FunctionType) or hasattr(type(value), "_captured_roots") else []


def _absolute(module: str, table: dict[str, Any]) -> str:
    """The full name of a module that an `import` statement names: `.settings` is beside the one that imports it."""
    if not module.startswith("."):
        return module
    package = table.get("__package__") or str(table.get("__name__", "")).rpartition(".")[0]
    try:
        return importlib.util.resolve_name(module, package).rstrip(".")
    except ImportError:  # beyond the top: the statement will raise
        return ""


def _is_container(item: Any) -> bool:
    """Whether methods such as `append` only put something into an object. Those of a user's class may do more."""
    return isinstance(item, _CONTAINERS) and is_library_module(type(item).__module__)


_CONTAINERS: Final = (list, dict, set, collections.deque, bytearray, array.array)
#: Objects of the standard library that have the attributes that users give them.
_NAMESPACES: Final = (types.SimpleNamespace, argparse.Namespace)
#: Objects of libraries that consist of other objects, and the attributes that hold these. (NumPy's polynomials are
#: Python objects with arrays in them.)
_PARTS: Final[dict[type, tuple[str, ...]]] = {
    functools.partial: ("args", "keywords"),
    collections.ChainMap: ("maps",),
    collections.UserDict: ("data",),
    collections.UserList: ("data",),
    np.vectorize: ("pyfunc",),
    **dict.fromkeys((np.poly1d, *np.polynomial.Polynomial.__bases__), ("coef", "domain", "window")),
}
#: Definitions with a function inside, and the attribute that holds it.
_WRAPPERS: Final[dict[type, str]] = {
    property: "fget", staticmethod: "__func__", classmethod: "__func__", functools.partialmethod: "func",
    functools.cached_property: "func",
}  # fmt: skip
#: Methods that are called when an object is made, and when it is displayed.
_CONSTRUCTION: Final = frozenset(["__init__", "__new__", "__post_init__"])
_DISPLAY: Final = frozenset(["__repr__", "__str__", "__format__", "__reduce__", "__del__"])
#: Types whose instances have no attributes that anyone could set.
_BUILT_IN: Final = frozenset([list, tuple, dict, set, frozenset, np.ndarray, types.BuiltinFunctionType])


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_library_code(item: Any) -> bool:
    """Whether an object is code of a library or of this package, or a special method: users give it no attributes."""
    if not isinstance(item, types.FunctionType):
        return isinstance(item, types.CodeType)
    return is_installed(item.__code__.co_filename) or _is_special(item.__name__)
