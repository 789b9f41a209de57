"""What a function reads from outside of itself, as it was when the function was traced.

A trace runs the function once. Numbers that it reads from closures, globals and attributes become constants of the
program, flags decide its branches, lists and models decide which `Value`s take part. When one of these is another one
at a later call, the program is no longer what the function means. A `Captured` remembers them, and says whether they
still are what they were.

Which names a function reads stands in its bytecode (`reads`). The functions that it calls are followed, as far as they
are the user's own: by the same names, by the methods of the objects that can be reached, and into functions that are
wrapped. An attribute counts if any of these functions reads one of that name. That is more than the function has read
on its way, and never less, except for what no name in the code leads to: items that C code keeps, results of
`__getattr__`, files, clocks. The code itself counts: that of a function, and what a class and its bases define. That
nothing is in a place counts where the function may ask for it.

Comparing is done twice. `unchanged` compares identities, some tens of nanoseconds per name, and machine code does the
same in a few (`watches`). `same` compares contents, and is asked where an identity differs: a number that was computed
again is still the same number.
"""

from __future__ import annotations

import array
import collections
import contextlib
import copy
import ctypes
import functools
import operator
import pickle
import random
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import is_
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from ..runtime.builtin import (
    FUNCTION_WORDS,
    ROW,
    WATCH_ARRAY,
    WATCH_ATTRIBUTE,
    WATCH_CELL,
    WATCH_CLASS,
    WATCH_ITEM,
    WATCH_LIST,
    WATCH_MAPPING,
    WATCH_RENEW,
    WATCH_VERSION,
    WATCH_WORD,
    function_word,
    has_version,
    mapping_order,
)
from ..runtime.changes import changes, counts
from ..runtime.errors import CapturedStateWarning
from ..runtime.primitives import Primitive
from ..runtime.sites import PACKAGE, Location, describe
from ..runtime.structure import Static
from ..runtime.tracing import refuse
from ..runtime.value import Condition, TracedCondition, TracedValue, Value
from .reads import Name, Reads, is_library, is_library_module, is_model_module, reads_of

#: How something is read: from a closure's cell, from a dictionary (of a module), as an attribute, among an object's own
#: attributes, in the definition of a class and its bases, by a call.
CELL: Final = "cell"
ITEM: Final = "item"
ATTRIBUTE: Final = "attribute"
OWN: Final = "own"
CLASS: Final = "class"
CALL: Final = "call"

#: So many functions and objects are followed at most, and containers inside of containers.
_FUNCTIONS, _OBJECTS, _DEEP = 5_000, 200_000, 100
#: Types whose objects never change, and are compared by type and bits.
_PLAIN = frozenset(
    [int, float, complex, bool, str, bytes, type(None), type(Ellipsis), np.float64, np.float32, np.int64, np.int32,
     np.bool_]
)  # fmt: skip
_MAPPINGS = (dict, types.MappingProxyType)
#: What is where nothing is: that something is there now is a change, too.
_MISSING: Final = object()


class Reference:
    """A place that a function reads, and what was there.

    Attributes:
        kind: `CELL`, `ITEM`, `ATTRIBUTE`, `OWN`, `CLASS` or `CALL`.
        owner, key: the cell; the dictionary and its key; the object or class and the attribute's name; what is called.
        name: the place as the user would write it.
        value: what was there, or an equal object that has been there since; `_MISSING` for nothing.
        content: the same, as it was.
    """

    __slots__ = ("content", "key", "kind", "name", "owner", "value")

    def __init__(self, kind: str, owner: Any, key: Any, name: str, value: Any, content: Content) -> None:
        self.kind, self.owner, self.key, self.name = kind, owner, key, name
        self.value, self.content = value, content

    def current(self) -> Any:
        """What is there now; `_MISSING` for nothing."""
        try:
            if self.kind is CELL:
                return self.owner.cell_contents
            if self.kind is CALL:
                return self.owner()
            if self.kind is CLASS:
                return _defined(self.owner, self.key)
            if self.kind is OWN:
                return _attributes_of(self.owner).get(self.key, _MISSING)
            return self.owner[self.key] if self.kind is ITEM else getattr(self.owner, self.key)
        except Exception:  # whatever the user's code raises, where it is run
            return _MISSING


class Called(NamedTuple):
    """A root whose result counts: the parameters of a model. It is compared only where something else has changed."""

    function: Callable[[], Any]
    name: str


class Content:
    """An object as it was: numbers by their bits, lists and dicts by what is in them, arrays by their numbers, anything
    else by identity."""

    __slots__ = ("held", "items", "keys", "plain")

    def __init__(self, held: Any) -> None:
        self.held = held
        self.plain = False
        self.keys: tuple[Any, ...] | None = None
        #: Of a list, tuple or dict what is in it: plain objects as they are, others as `Content`.
        self.items: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, item: Any, seen: dict[int, Content] | None = None, depth: int = 0) -> Content:
        """The content of an object. One that contains itself has a content that contains itself."""
        seen = {} if seen is None else seen
        content = seen.get(id(item))
        if content is not None:
            return content
        content = cls(item)
        kind = type(item)
        if kind in _PLAIN:
            content.plain = True
            return content
        seen[id(item)] = content
        if isinstance(item, np.ndarray) and item.dtype != object:
            content.held, content.items = item, (item.dtype, item.shape, _bits(item))
            return content
        members = _members(item)
        if members is None or depth > _DEEP:
            return content
        if isinstance(item, _MAPPINGS):
            content.keys = tuple(item)
        if isinstance(item, np.ndarray):
            content.keys = item.shape
        if set(map(type, members)) <= _PLAIN:
            content.items = tuple(members)
        else:
            content.items = tuple([m if type(m) in _PLAIN else cls.of(m, seen, depth + 1) for m in members])
        return content

    def matches(self, item: Any, seen: set[tuple[int, int]] | None = None) -> bool:
        """Whether an object has this content."""
        if self.plain:
            return item is self.held or _equal(item, self.held)
        if self.items is None:
            return item is self.held
        if type(item) is not type(self.held):
            return False
        if isinstance(item, np.ndarray) and item.dtype != object:
            dtype, shape, bits = self.items
            return bool(item.dtype == dtype and item.shape == shape and np.array_equal(_bits(item), bits))
        members = _members(item)
        if members is None or len(members) != len(self.items):
            return False
        if isinstance(item, _MAPPINGS) and not all(map(_equal_keys, item, self.keys or ())):
            return False
        if isinstance(item, np.ndarray) and item.shape != self.keys:
            return False
        seen = set() if seen is None else seen
        pair = (id(item), id(self))
        if pair in seen:
            return True
        seen.add(pair)
        for member, was in zip(members, self.items, strict=True):
            if isinstance(was, Content):
                if not was.matches(member, seen):
                    return False
            elif member is not was and not _equal(member, was):
                return False
        return True


def _members(item: Any) -> Sequence[Any] | None:
    """What is in a container whose contents count; None for any other object."""
    if isinstance(item, (list, tuple)):
        return item
    if isinstance(item, _MAPPINGS):
        return list(item.values())
    if isinstance(item, (collections.deque, bytearray)):
        return list(item)
    if isinstance(item, array.array):
        return item.tolist()
    if isinstance(item, (set, frozenset)):
        return sorted(item, key=_order) if set(map(type, item)) <= _PLAIN else sorted(item, key=id)
    if isinstance(item, np.ndarray) and item.dtype == object:
        return item.ravel().tolist()
    return None


def _all_plain(item: Any) -> bool:
    return set(map(type, _members(item) or ())) <= _PLAIN


def _order(item: Any) -> tuple[str, str]:
    return type(item).__name__, repr(item)


def _bits(array: Any) -> Any:
    """The numbers of an array as bytes, in a copy."""
    return np.frombuffer(array.tobytes(), dtype=np.uint8)


def _equal(a: Any, b: Any) -> bool:
    """Whether two plain objects are of the same type and have the same bits."""
    return type(a) is type(b) and type(a) in _PLAIN and Static(a) == Static(b)


def _equal_keys(a: Any, b: Any) -> bool:
    return a is b or _equal(a, b)


class Captured:
    """What a function, and those that it calls, read from outside.

    Args:
        roots: the function, and other objects that lead to what it reads: a model that is an argument.

    Example:
        >>> settings = {"rate": 0.5}
        >>> def f(x):
        ...     return settings["rate"] * x
        >>> captured = Captured([f])
        >>> captured.unchanged()
        True
        >>> settings["rate"] = 1.0
        >>> captured.unchanged(), captured.same()
        (False, False)
        >>> captured.differences()
        ['settings']
    """

    def __init__(self, roots: Sequence[Any]) -> None:
        count = changes.value
        search = _Search(roots)
        self.references = search.references()
        #: What the function may draw random numbers from, and the lines that name it.
        self.generators, self.draws = search.generators, search.draws
        self._identities = Identities(self.references, [reference.value for reference in self.references], count)

    def unchanged(self) -> bool:
        """Whether the very same objects are where they were. If not, `same` says whether that matters."""
        return self._identities.hold()

    def same(self) -> bool:
        """Whether what is there now is what was there, by its contents. If so, `unchanged` is true again."""
        count = changes.value  # before anything is read: another thread may change something at any moment
        renewed = self._identities.renewed(count)
        if renewed is not None:
            self._identities = renewed
            return True
        values = [reference.current() for reference in self.references]
        identities = Identities(self.references, values, count)
        for reference, value in zip(self.references, values, strict=True):
            if not reference.content.matches(value):
                return False
        if not identities.hold():
            return False
        for reference, value in zip(self.references, values, strict=True):
            reference.value = value
        self._identities = identities
        return True

    def differences(self) -> list[str]:
        """The names of what is no longer what it was."""
        changed = (r.name for r in self.references if not r.content.matches(r.current()))
        return list(dict.fromkeys(changed))

    def without_traced(self) -> list[str]:
        """Leave out what holds `Value`s that were made while a function was traced; return the names."""
        names = [reference.name for reference in self.references if _holds_traced(reference.value)]
        self.references = [reference for reference in self.references if reference.name not in names]
        values = [reference.value for reference in self.references]
        self._identities = Identities(self.references, values, self._identities.count)
        return names

    def listing(self) -> dict[str, Any]:
        """What holds numbers, flags, texts or `Value`s, by name. Functions, classes and modules are not listed."""
        return {
            reference.name: reference.value
            for reference in self.references
            if reference.kind not in (OWN, CLASS)
            and not (reference.key in FUNCTION_WORDS and _all_plain(reference.value))
            and (
                type(reference.value) in _PLAIN
                or isinstance(reference.value, (Value, np.ndarray))
                or _members(reference.value) is not None
            )
        }

    def watches(self) -> Watches | None:
        """The same comparison for machine code; None if there is something that only Python can compare."""
        return self._identities.watches()


class Identities:
    """The objects that references and the containers behind them hold: what can be compared fast.

    It does not change, so that several threads can compare at the same time.
    """

    def __init__(self, references: Sequence[Reference], values: Sequence[Any], count: int) -> None:
        self.count = count
        self._counts = any(map(_is_counted, references))
        self._cells, self._items, self._attributes, self._defined = [], [], [], []
        #: Attributes of models. A count says whether there is a reason to look at them.
        self._counted: list[tuple[Any, str, Any]] = []
        #: Where nothing must be: cells; dictionaries and keys.
        self._empty, self._absent = [], []
        #: What only Python can read. It may be an equal object at each time.
        self._read: list[Reference] = []
        by_code: dict[tuple[type, str], bool] = {}
        for reference, value in zip(references, values, strict=True):
            kind, owner, key = reference.kind, reference.owner, reference.key
            if kind is CALL:
                continue
            if _is_counted(reference):
                self._counted.append((owner, key, value))
                continue
            if kind is OWN:
                kind, owner = ITEM, _attributes_of(owner)
            if kind is CLASS:
                self._defined.append((owner, key, value))
            elif kind is CELL:
                self._cells.append((owner, value)) if value is not _MISSING else self._empty.append(owner)
            elif kind is ITEM:
                self._items.append((owner, key, value)) if value is not _MISSING else self._absent.append((owner, key))
            else:
                place = type(owner), key
                if place not in by_code:
                    by_code[place] = not isinstance(owner, type) and _reads_by_code(*place)
                if value is _MISSING or by_code[place]:
                    self._read.append(reference)
                else:
                    self._attributes.append((owner, key, value))
        self._lists: list[tuple[Any, tuple[Any, ...]]] = []
        self._mappings: list[tuple[Any, tuple[tuple[Any, Any], ...]]] = []
        self._arrays: list[tuple[Any, Content]] = []
        self._others: list[tuple[Any, Content]] = []
        for container, content in _containers(references, values):
            if isinstance(container, np.ndarray) and container.dtype != object:
                self._arrays.append((container, content))
            elif type(container) is list:
                self._lists.append((container, tuple(container)))
            elif type(container) is dict:
                self._mappings.append((container, tuple(container.items())))
            elif not isinstance(container, (tuple, frozenset)):
                self._others.append((container, content))
        self._watches: tuple[Watches | None] | None = None

    def renewed(self, count: int) -> Identities | None:
        """The same with another count, if only attributes of models have been set that are none of these."""
        if count == self.count or not self._counts:
            return None
        if any(_attributes_of(owner).get(key, _MISSING) is not value for owner, key, value in self._counted):
            return None
        identities = copy.copy(self)
        identities.count = count
        if self._watches is not None and self._watches[0] is not None:
            identities._watches = (self._watches[0].renewed(count),)
        return identities if identities.hold() else None

    def hold(self) -> bool:
        """Whether all of them are where they were."""
        try:
            for cell, value in self._cells:
                if cell.cell_contents is not value:
                    return False
            for table, key, value in self._items:
                if table[key] is not value:
                    return False
            for owner, key, value in self._attributes:
                if getattr(owner, key) is not value:
                    return False
        except (ValueError, KeyError, AttributeError):
            return False
        for kind, key, value in self._defined:
            for base in kind.__mro__:
                if key in base.__dict__:
                    if base.__dict__[key] is not value:
                        return False
                    break
            else:
                if value is not _MISSING:
                    return False
        for table, key in self._absent:
            if key in table:
                return False
        for cell in self._empty:
            if not _is_empty(cell):
                return False
        for reference in self._read:
            if not reference.content.matches(reference.current()):
                return False
        if self._counts and changes.value != self.count:
            return False
        for items, members in self._lists:
            if len(items) != len(members) or not all(map(is_, items, members)):
                return False
        for mapping, pairs in self._mappings:
            if len(mapping) != len(pairs):
                return False
            for (key, value), (old_key, old_value) in zip(list(mapping.items()), pairs, strict=False):
                if key is not old_key or value is not old_value:
                    return False
        return all(content.matches(item) for item, content in (*self._arrays, *self._others))

    def watches(self) -> Watches | None:
        """The same for machine code."""
        if self._watches is None:
            try:
                self._watches = (Watches(self),)
            except _OnlyPythonError:
                self._watches = (None,)
        return self._watches[0]


def _containers(references: Sequence[Reference], values: Sequence[Any]) -> Iterator[tuple[Any, Content]]:
    """The lists, dicts, arrays and so on that are reached, each once, with their contents."""
    seen: set[int] = set()
    pairs = zip(references, values, strict=True)
    stack = [(value, reference.content) for reference, value in pairs if reference.kind is not CALL]
    while stack:
        item, content = stack.pop()
        if content.items is None or id(item) in seen:
            continue
        seen.add(id(item))
        yield item, content
        if not (isinstance(item, np.ndarray) and item.dtype != object):
            pairs = zip(_members(item) or (), content.items, strict=False)
            stack += [(member, was) for member, was in pairs if isinstance(was, Content)]


def _is_counted(reference: Reference) -> bool:
    """Whether a change of this would be counted: a plain attribute of a model."""
    owner = reference.owner
    return counts(owner) and (reference.kind is OWN or (reference.kind is ATTRIBUTE and reference.key in vars(owner)))


def _defined(kind: type, name: str) -> Any:
    """What a class or the first of its bases that has it defines under a name."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), _MISSING)


def _is_library_code(item: Any) -> bool:
    """Whether an object is code that no user gives attributes to: of a library, of this package, a special method."""
    if isinstance(item, types.CodeType):
        return True
    if not isinstance(item, types.FunctionType):
        return False
    filename, name = item.__code__.co_filename, item.__name__
    return filename.startswith(PACKAGE) or is_library(filename) or (name.startswith("__") and name.endswith("__"))


def _is_empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is _MISSING
    except ValueError:
        return True


def _holds_traced(item: Any, depth: int = 0) -> bool:
    if isinstance(item, (TracedValue, TracedCondition)):
        return True
    members = _members(item) if depth < _DEEP else None
    if members is None or (isinstance(item, np.ndarray) and item.dtype != object):
        return False
    return any(_holds_traced(member, depth + 1) for member in members if type(member) not in _PLAIN)


def _reads_by_code(kind: type, name: str) -> bool:
    """Whether reading an attribute of an instance runs code of its class."""
    if any("__getattribute__" in vars(base) for base in kind.__mro__ if base not in _READ_PLAINLY):
        return True
    return isinstance(getattr(type(_defined(kind, name)), "__get__", None), types.FunctionType)


#: Types that have a `__getattribute__` and read attributes as any object does.
_READ_PLAINLY = (object, types.SimpleNamespace)


class _OnlyPythonError(Exception):
    """There is something that machine code cannot compare."""


class Watches:
    """What machine code compares: a count of rows, and rows of words (see `runtime.builtin`).

    Attributes:
        words: an array of int64.
        held: what must live as long as it does.
    """

    def __init__(self, identities: Identities) -> None:
        rows: list[tuple[int, ...]] = []
        self.held: list[Any] = [identities]
        if identities._others or identities._read:
            raise _OnlyPythonError
        for cell, value in identities._cells:
            rows.append((WATCH_CELL, id(cell), 0, *self._object(value)))
        # What is in each dictionary, in a row, so that its version can speak for all.
        items: dict[int, list[tuple[int, ...]]] = {}
        tables: dict[int, dict[Any, Any]] = {}
        for table, key, value in identities._items:
            tables[id(table)] = table
            items.setdefault(id(table), []).append((WATCH_ITEM, id(table), id(key), *self._object(value)))
        for table, key in identities._absent:
            tables[id(table)] = table
            items.setdefault(id(table), []).append((WATCH_ITEM, id(table), id(key), 0, 0, 0))
        for owner, key, value in identities._attributes:
            if isinstance(owner, types.FunctionType) and key in FUNCTION_WORDS:
                word = function_word(owner, key)
                if word is None:
                    raise _OnlyPythonError
                rows.append((WATCH_WORD, word, 0, id(value), 0, 0))
                continue
            rows.append((WATCH_ATTRIBUTE, id(owner), id(key), *self._object(value)))
        for kind, key, value in identities._defined:
            rows.append((WATCH_CLASS, id(kind), id(key), 0 if value is _MISSING else id(value), 0, 0))
        rows += [(WATCH_CELL, id(cell), 0, 0, 0, 0) for cell in identities._empty]
        if identities._counts:
            self._count = 1 + ROW * len(rows) + 3
            rows.append((WATCH_WORD, ctypes.addressof(changes), 0, identities.count, 0, 0))
        for sequence, members in identities._lists:
            rows.append((WATCH_LIST, id(sequence), len(members), self._numbers(list(map(id, members))), 0, 0))
        for mapping, pairs in identities._mappings:
            order = mapping_order(mapping)
            if order is None:
                raise _OnlyPythonError
            tables[id(mapping)] = mapping
            own = items.setdefault(id(mapping), [])
            own.append((WATCH_MAPPING, id(mapping), *order, len(pairs), 0))
            for key, value in pairs:
                if type(key) not in _PLAIN:
                    raise _OnlyPythonError
                own.append((WATCH_ITEM, id(mapping), id(key), *self._object(value)))
        for numbers, content in identities._arrays:
            if type(numbers) is not np.ndarray or not numbers.flags.c_contiguous or content.items is None:
                raise _OnlyPythonError
            bits = content.items[2]
            words = [numbers.ctypes.data, numbers.nbytes, bits.ctypes.data, numbers.ndim, *numbers.shape]
            rows.append((WATCH_ARRAY, id(numbers), self._numbers(words), 0, 0, 0))
        for place, of_table in items.items():
            if has_version(tables[place]):
                last = len(of_table) + 1
                rows += [(WATCH_VERSION, place, last, 0, 0, 0), *of_table, (WATCH_RENEW, 0, last, 0, 0, 0)]
            else:
                rows += of_table
        self.words = np.array([len(rows), *(word for row in rows for word in row)], dtype=np.int64)

    def renewed(self, count: int) -> Watches:
        """The same with another count of changes."""
        watches = copy.copy(self)
        watches.words = self.words.copy()
        watches.words[self._count] = count
        return watches

    def _object(self, value: Any) -> tuple[int, int, int]:
        """The words for an object: where it is, and the bits of a float, which may be another object."""
        if type(value) is float:
            return id(value), 1, int(np.array([value]).view(np.int64)[0])
        return id(value), 0, 0

    def _numbers(self, numbers: list[int]) -> int:
        words = np.array(numbers, dtype=np.int64)
        self.held.append(words)
        return int(words.ctypes.data)


class _Search:
    """Follows functions and objects from some roots, and collects what they read."""

    def __init__(self, roots: Sequence[Any]) -> None:
        self._seen: dict[int, Any] = {}
        self._waiting: list[tuple[Any, str]] = []
        self._functions = 0
        #: Objects whose attributes count: each with its name, and how many of the attributes have been looked at.
        self._objects: list[tuple[Any, str, int]] = []
        self._classes: dict[type, dict[str, list[Any]]] = {}
        #: The names of attributes that some function reads, and where.
        self._attributes: dict[str, Location | None] = {}
        #: Those that may be missing: the function asks whether they are there.
        self._optional: set[str] = set()
        self._names: list[str] = []
        self._references: dict[tuple[Any, ...], Reference] = {}
        self._contents: dict[int, Content] = {}
        self.generators: list[Any] = []
        self.draws: list[tuple[str, Location | None, Any]] = []
        for root in roots:
            self._root(root)

    def _root(self, item: Any) -> None:
        """Begin at an object. A function counts as the user's own, wherever it is from."""
        if isinstance(item, Called):
            self._reference(CALL, item.function, None, item.name, item.function())
            return
        if isinstance(item, types.MethodType):
            self._wait(item.__self__, "self")
            item = item.__func__
        if isinstance(item, types.FunctionType):
            self._seen[id(item)] = item
            self._function(item)
        else:
            self._wait(item, "model" if callable(getattr(item, "parameters", None)) else "self")
            call = next((vars(base)["__call__"] for base in type(item).__mro__ if "__call__" in vars(base)), None)
            if isinstance(call, types.FunctionType):
                self._seen[id(call)] = call
                self._function(call)

    def references(self) -> list[Reference]:
        """Everything that is read."""
        done = (-1, -1)
        while self._waiting or done != (len(self._objects), len(self._names)):
            while self._waiting:
                self._visit(*self._waiting.pop())
            done = len(self._objects), len(self._names)
            # Another function may read more attributes of the objects that have been seen.
            count = len(self._names)
            for k, (item, name, start) in enumerate(self._objects):
                if start < count:
                    self._objects[k] = item, name, count
                    self._read_attributes(item, name, self._names[start:count])
        return list(self._references.values())

    def _wait(self, item: Any, name: str) -> None:
        """Let an object be followed later, if it has not been yet."""
        if type(item) not in _PLAIN and id(item) not in self._seen:
            self._seen[id(item)] = item
            self._waiting.append((item, name))

    # --- functions ------------------------------------------------------------------------------------------------

    def _function(self, function: types.FunctionType) -> None:
        if self._functions >= _FUNCTIONS:
            return
        self._functions += 1
        code, reads = function.__code__, reads_of(function.__code__)
        for attribute, line in reads.attributes.items():
            if attribute not in reads.written:
                self._read((attribute,), Location(code.co_filename, line), attribute in reads.optional)
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=False))
        for name in reads.free:
            if name.written:
                continue
            cell = cells.get(name.name)
            if cell is not None:  # else a variable of a function inside this one
                try:
                    value = cell.cell_contents
                except ValueError:
                    value = _MISSING  # not assigned yet
                self._name(CELL, cell, None, name, value, code.co_filename)
        self._globals(function.__globals__, reads, code.co_filename)
        self._objects.append((function, function.__name__, 0))  # it may have attributes
        if not code.co_filename.startswith(PACKAGE):  # others may be edited: tools that reload modules do so
            self._reference(ATTRIBUTE, function, "__code__", function.__name__, code)
            for attribute in ("__defaults__", "__kwdefaults__"):
                defaults = getattr(function, attribute)
                if defaults is not None:
                    self._reference(ATTRIBUTE, function, attribute, f"{function.__name__}.{attribute}", defaults)
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None:
            self._wait(wrapped, function.__name__)

    def _read(self, attributes: Iterable[str], location: Location | None = None, optional: bool = False) -> None:
        """Note the names of attributes that are read. Of optional ones it counts, too, that they are not there."""
        for attribute in attributes:
            new = attribute not in self._attributes
            if new:
                self._attributes[attribute] = location
            if new or (optional and attribute not in self._optional):
                self._names.append(attribute)
            if optional:
                self._optional.add(attribute)

    def _globals(self, table: dict[str, Any], reads: Reads, filename: str) -> None:
        for name in reads.globals:
            if name.written:
                continue
            value = table.get(name.name, _MISSING)
            if value is not _MISSING:
                self._name(ITEM, table, name.name, name, value, filename)
            elif not (filename.startswith(PACKAGE) or is_library(filename)):  # a builtin, until a global hides it
                self._reference(ITEM, table, name.name, name.name, _MISSING)
        for name in reads.imports:
            module = sys.modules.get(name.name)
            if module is None:
                continue
            if name.attributes:
                self._module(module, name.name, name.attributes, name, filename)
            else:
                self._wait(module, name.name)  # a local variable has it

    def _name(self, kind: str, owner: Any, key: Any, name: Name, value: Any, filename: str) -> None:
        """A variable that is read."""
        if kind is ITEM and (filename.startswith(PACKAGE) or is_library(filename)):
            self._wait(value, name.name)  # nobody changes the variables of a library
        else:
            self._reference(kind, owner, key, name.name, value)
        if isinstance(value, types.ModuleType):
            self._module(value, name.name, name.attributes, name, filename)
        else:
            self._draw(value, ".".join((name.name, *name.attributes)), Location(filename, name.line))

    def _module(self, module: Any, dotted: str, attributes: tuple[str, ...], name: Name, filename: str) -> None:
        """Follow a dotted name into modules; only there, since not all that a module has is the function's business."""
        for attribute in attributes:
            table = vars(module)
            value = table.get(attribute, _MISSING)
            if value is _MISSING:
                self._wait(module, dotted)
                return
            dotted = f"{dotted}.{attribute}"
            if not is_library_module(module.__name__):
                self._reference(ITEM, table, attribute, dotted, value)
            self._draw(value, dotted, Location(filename, name.line))
            if not isinstance(value, types.ModuleType):
                return
            module = value
        self._wait(module, dotted)  # it is passed on, and any function may read anything of it

    def _reference(self, kind: str, owner: Any, key: Any, name: str, value: Any) -> None:
        if isinstance(value, types.ModuleType) and is_library_module(value.__name__):
            return  # `np` is `np`
        place = (kind, id(owner), key)
        if place not in self._references:
            self._references[place] = Reference(kind, owner, key, name, value, Content.of(value, self._contents))
            if kind is not CLASS and value is not _MISSING and not isinstance(value, types.ModuleType):
                self._wait(value, name)

    # --- objects --------------------------------------------------------------------------------------------------

    def _visit(self, item: Any, name: str) -> None:
        """Follow an object to what it leads to."""
        if isinstance(item, (Value, Condition, Primitive, np.generic)):
            return
        if isinstance(item, types.ModuleType):
            if not (is_library_module(item.__name__) or is_model_module(item.__name__)):
                self._objects.append((item, name, 0))
            return
        if isinstance(item, types.FunctionType):
            if not is_library(item.__code__.co_filename):
                self._function(item)
            elif "__wrapped__" in vars(item):
                self._wait(vars(item)["__wrapped__"], name)
        elif isinstance(item, types.MethodType):
            self._wait(item.__self__, name.rpartition(".")[0] or name)
            self._wait(item.__func__, name)
        elif isinstance(item, functools.partial):
            self._wait(item.func, name)
            for attribute in ("args", "keywords"):
                self._reference(ATTRIBUTE, item, attribute, f"{name}.{attribute}", getattr(item, attribute))
        elif isinstance(item, (operator.attrgetter, operator.methodcaller)):
            self._read(_texts(item.__reduce__()))
        elif isinstance(item, (collections.UserDict, collections.UserList, collections.ChainMap)):
            kept = "maps" if isinstance(item, collections.ChainMap) else "data"
            self._reference(ATTRIBUTE, item, kept, name, getattr(item, kept))
        elif hasattr(type(item), "captured_roots"):  # a transformed function
            for root in item.captured_roots():
                self._wait(root, name)
        elif isinstance(item, np.ndarray) and item.dtype != object:
            return
        else:
            members = _members(item)
            if members is not None and not set(map(type, members)) <= _PLAIN:
                keys = list(item) if isinstance(item, _MAPPINGS) else range(len(members))
                for key, member in zip(keys, members, strict=False):  # another thread may be changing it
                    self._wait(member, f"{name}[{key!r}]")
            if len(self._objects) < _OBJECTS and type(item) not in _BUILT_IN:
                self._objects.append((item, name, 0))
                self._special(item, name)

    def _special(self, item: Any, name: str) -> None:
        """The methods of an object that are called without being named: `__call__`, `__getitem__`, ..."""
        constructed = isinstance(item, type)
        kind = item if constructed else type(item)
        for attribute, values in self._class(kind).items():
            special = attribute.startswith("__") and attribute.endswith("__")
            if special and attribute not in _SHOWN and (constructed or attribute not in _CONSTRUCTION):
                functions = [function for value in values for function in _functions_in(value)]
                for function in functions:
                    self._wait(function, f"{name}.{attribute}")
                if functions:
                    self._in_class(kind, attribute)
        attributes = _attributes_of(item)
        if "__wrapped__" in attributes:  # what `functools.wraps` and `functools.lru_cache` leave
            self._wait(attributes["__wrapped__"], name)

    def _read_attributes(self, item: Any, name: str, wanted: Sequence[str]) -> None:
        """Attributes of an object that some function reads, and methods that it calls."""
        is_class = isinstance(item, type)
        kind = item if is_class else type(item)
        own = {} if is_class else _attributes_of(item)
        shared = self._class(kind)
        for attribute in wanted:
            place = f"{name}.{attribute}"
            defined = shared.get(attribute, ())
            value = own.get(attribute, _MISSING)
            is_own = value is not _MISSING and not (defined and hasattr(type(defined[0]), "__set__"))
            if is_own:
                self._read_own(item, attribute, place, value)
            if defined:
                self._in_class(kind, attribute)
                for each in defined:  # all of them: `super()` reads what others override
                    for function in _functions_in(each):
                        self._wait(function, place)
                if not is_own:
                    self._read_shared(item, attribute, place, defined[0])
            elif attribute in self._optional and not is_own:
                self._in_class(kind, attribute)
                if not is_class and not _is_library_code(item):
                    self._reference(OWN, item, attribute, place, _MISSING)

    def _read_own(self, item: Any, attribute: str, place: str, value: Any) -> None:
        """An attribute that an object has itself."""
        if isinstance(item, types.ModuleType):
            self._reference(ITEM, vars(item), attribute, place, value)
        else:
            self._reference(ATTRIBUTE, item, attribute, place, value)
        if isinstance(value, types.ModuleType):
            self._wait(value, place)
        self._draw(value, place, self._attributes[attribute])

    def _read_shared(self, item: Any, attribute: str, place: str, value: Any) -> None:
        """An attribute that an object has from its class."""
        if isinstance(value, types.MemberDescriptorType) and not isinstance(item, type):  # a slot
            there = getattr(item, attribute, _MISSING)
            if there is not _MISSING or attribute in self._optional:
                self._reference(ATTRIBUTE, item, attribute, place, there)
        elif not hasattr(type(value), "__get__"):
            there = getattr(item, attribute, _MISSING)
            if there is not _MISSING:
                self._reference(ATTRIBUTE, item, attribute, place, there)
        elif not _functions_in(value):
            self._computed(item, attribute, place, value)
        elif not isinstance(item, type) and not hasattr(type(value), "__set__") and type(item).__dictoffset__:
            self._reference(OWN, item, attribute, place, _MISSING)  # a method, until the object has one of its own

    def _computed(self, item: Any, attribute: str, place: str, descriptor: Any) -> None:
        """What a descriptor returns, if it is the same each time."""
        self._wait(descriptor, place)
        if isinstance(item, type):
            return
        with contextlib.suppress(Exception):  # of the user's code, which raises it again where it belongs
            there = getattr(item, attribute)
            if type(there) in _PLAIN or there is getattr(item, attribute):
                self._reference(ATTRIBUTE, item, attribute, place, there)

    def _in_class(self, kind: type, attribute: str) -> None:
        """What a class and its bases define: somebody may replace it, but not in the models of this package."""
        for base in kind.__mro__:
            if is_library_module(base.__module__) or is_model_module(base.__module__):
                return
            if base is kind or attribute in vars(base):
                self._reference(CLASS, base, attribute, f"{base.__name__}.{attribute}", _defined(base, attribute))

    def _class(self, kind: type) -> dict[str, list[Any]]:
        """What a class and its bases define, as far as they are no library's: the class's own first."""
        table = self._classes.get(kind)
        if table is None:
            table = self._classes[kind] = {}
            for base in kind.__mro__:
                if not is_library_module(base.__module__) or is_model_module(base.__module__):
                    for name, value in vars(base).copy().items():  # another thread may be changing it
                        table.setdefault(name, []).append(value)
        return table

    # --- random numbers -------------------------------------------------------------------------------------------

    def _draw(self, value: Any, name: str, location: Location | None) -> None:
        """Note a line that names a source of random numbers."""
        generator = _generator_of(value)
        if generator is not None:
            if not any(generator is other for other in self.generators):
                self.generators.append(generator)
            self.draws.append((name, location, generator))


def _texts(item: Any) -> list[str]:
    """The names in what `attrgetter` and `methodcaller` consist of."""
    if isinstance(item, tuple):
        return [text for part in item for text in _texts(part)]
    return item.split(".") if isinstance(item, str) else []


def _functions_in(value: Any) -> list[Any]:
    if isinstance(value, property):
        return [f for f in (value.fget,) if f is not None]
    if isinstance(value, (staticmethod, classmethod)):
        return [value.__func__]
    if isinstance(value, functools.partialmethod):
        return [value.func]
    wrapped = getattr(value, "func", None) if isinstance(value, functools.cached_property) else None
    if wrapped is not None:
        return [wrapped]
    return [value] if isinstance(value, types.FunctionType) else []


#: Methods that are called where an object is made, and where it is shown.
_CONSTRUCTION = frozenset(["__init__", "__new__", "__post_init__"])
_SHOWN = frozenset(["__repr__", "__str__", "__format__", "__reduce__", "__del__"])
#: Types whose instances have no attributes that anyone could set.
_BUILT_IN = frozenset([list, tuple, dict, set, frozenset, np.ndarray, types.BuiltinFunctionType])


def _attributes_of(item: Any) -> dict[str, Any]:
    try:
        attributes = item.__dict__
    except Exception:  # a proxy, perhaps, for something that is not there now
        return {}
    return attributes if isinstance(attributes, dict) else {}


def _generator_of(value: Any) -> Any:
    """The source of random numbers that an object is, or is a method of; None for any other."""
    owner = getattr(value, "__self__", value) if isinstance(value, _METHODS) else value
    return owner if isinstance(owner, (random.Random, np.random.Generator, np.random.RandomState)) else None


_METHODS = (types.MethodType, types.BuiltinMethodType)


# --- tracing --------------------------------------------------------------------------------------------------------


def trace_settled(run: Callable[[], Any], roots: Callable[[], Sequence[Any]], name: str) -> tuple[Any, Captured]:
    """Trace a function; return what `run` returns, and what the function captured.

    A function that changes what it reads is traced a second time: what has settled by then (something that is computed
    once and kept) is as good as a constant. What changes again is the subject of a warning.

    Args:
        run: traces.
        roots: the function and what else leads to what it reads.
        name: of the function, for messages.

    Raises:
        TraceError: if the function draws random numbers.
    """
    captured = Captured(roots())
    result = _without_draws(run, captured, name)
    if captured.same():
        return result, captured
    captured = Captured(roots())
    result = _without_draws(run, captured, name)
    moving = captured.differences()
    captured = Captured(roots())
    # What holds traced Values was written before it was read, or the second trace would have met one of the first.
    written = captured.without_traced()
    moving = [place for place in moving if place not in written]
    if moving:
        warnings.warn(
            f"{name} changes {', '.join(moving[:3])}, which it also reads. That happens while the function is traced, "
            "not at each call. Return the new value, or pass it as an argument",
            CapturedStateWarning,
            stacklevel=_user_level(),
        )
    return result, captured


def _user_level() -> int:
    """How many frames above `warnings.warn` in the caller the user's code is."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


def _without_draws(run: Callable[[], Any], captured: Captured, name: str) -> Any:
    """Run something that must not draw random numbers.

    If it does, what it has drawn from is put back to where it was.
    """
    sources: list[Any] = [_SHARED, *captured.generators]
    if "numpy.random" in sys.modules:
        sources.append(np.random.mtrand._rand)
    sources = [source for source in {id(s): s for s in sources}.values() if not isinstance(source, random.SystemRandom)]
    before = [_state(source) for source in sources]
    result = run()
    for source, state in zip(sources, before, strict=True):
        if pickle.dumps(_state(source)) == pickle.dumps(state):
            continue
        named = [(what, place) for what, place, generator in captured.draws if generator is source]
        if not named and threading.active_count() > 1:
            continue  # another thread has drawn from it, as far as anyone can tell
        _restore(source, state)
        what, place = named[0] if named else ("", None)
        raise refuse(
            f"{name} draws random numbers{f' ({what})' if what else ''} while it is traced, and every call would get "
            "the same ones. Draw them before the call, and pass them as an argument",
            where=describe(place),
        )
    return result


#: What the functions of `random` draw from.
_SHARED: Any = random.random.__self__  # type: ignore[attr-defined]


def _state(source: Any) -> Any:
    if isinstance(source, random.Random):
        return source.getstate()
    return source.get_state(legacy=False) if isinstance(source, np.random.RandomState) else source.bit_generator.state


def _restore(source: Any, state: Any) -> None:
    if isinstance(source, random.Random):
        source.setstate(state)
    elif isinstance(source, np.random.RandomState):
        source.set_state(state)
    else:
        source.bit_generator.state = state


class Variant(Protocol):
    """A kernel with what was captured when it was traced."""

    captured: Captured


class Variants:
    """What has been made for one structure of arguments: a kernel per state of what was captured.

    Attributes:
        entries: the kernels with what belongs to them, in the order in which they were made.
    """

    #: So many are kept. Whoever needs more has changing numbers that should be arguments.
    MOST = 8

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._last: Any = None
        self._changed: collections.Counter[str] = collections.Counter()

    def find(self) -> Any:
        """The entry that fits what is there now; None if there is none."""
        last, entries = self._last, self.entries
        if last is not None and last.captured.unchanged():
            return last
        for test in (Captured.unchanged, Captured.same):
            for entry in reversed(entries):
                if test(entry.captured):
                    self._last = entry
                    return entry
        return None

    def differences(self) -> list[str]:
        """What is another one now than it was for the last entry."""
        return self._last.captured.differences() if self._last is not None else []

    def add(self, entry: Any, differences: Sequence[str], name: str) -> None:
        """Add an entry, made because of these differences; warn if that happens again and again."""
        self.entries = [*self.entries[1 - self.MOST :], entry]
        self._last = entry
        self._changed.update(differences)
        for what, count in self._changed.items():
            if what in differences and count == self.MOST:
                warnings.warn(
                    f"{name} has been compiled {count + 1} times, because {what} was another one at each time. Pass it "
                    "as an argument, or make it a Value and set its data",
                    CapturedStateWarning,
                    stacklevel=_user_level(),
                )
