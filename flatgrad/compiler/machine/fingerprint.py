"""What code does, as a digest: part of the key under which its products are kept.

Two kinds of code decide what a program becomes. *This package's* is digested as it was loaded, not as it is on the
disk, since a process may live on while its source is changed: the code objects of the modules are noted while the
import system executes them. *Code from outside*, such as the rules of a primitive, is digested by `fingerprint`: its
instructions, constants, defaults and closure, and the globals that it names.

Where either is unknown (a module from an archive or loaded again, an object of an unknown class), there is no digest.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import marshal
import sys
from array import array
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

_PACKAGE = __name__.partition(".")[0]
#: The parts of the package that decide what a program becomes.
_PARTS = f"{_PACKAGE}.runtime.", f"{_PACKAGE}.compiler."


class _LoadedModule(NamedTuple):
    """A module of this package: its specification, and the code that was executed, if that is known."""

    spec: ModuleSpec
    code: CodeType | None


_modules: dict[str, _LoadedModule] = {}


class _Finder:
    """Lets the other finders of `sys.meta_path` find our modules, and notes their code when it is loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(_PARTS):
            return None
        others = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None:
            _note(name, spec)
        return spec


def _note(name: str, spec: ModuleSpec) -> None:
    _modules[name] = _LoadedModule(spec, None)
    loader: Any = spec.loader
    if not isinstance(loader, (SourceFileLoader, SourcelessFileLoader)):  # these are made for one module each
        return
    get_code = loader.get_code

    def get_code_once(fullname: str) -> CodeType | None:
        code: CodeType | None = get_code(fullname)
        _modules[name] = _LoadedModule(spec, code)
        del loader.get_code  # the next call reads the file again
        return code

    loader.get_code = get_code_once  # type: ignore[method-assign]


_finder = _Finder()


def begin() -> None:
    """Note the code of this package's modules from now on. The package calls it before it imports its parts."""
    sys.meta_path.insert(0, _finder)


def end() -> None:
    """Leave the import system alone again: all modules that decide what a program becomes are there."""
    sys.meta_path.remove(_finder)


class _PackageCode(NamedTuple):
    """The digest of our code, and the position of each code object in it, by its identity."""

    digest: bytes
    positions: dict[int, int]


_package: _PackageCode | None = None


def package_digest() -> bytes | None:
    """A digest of this package's code as it was loaded into this process.

    Returns:
        The digest; None if some of the code is not known: it came from an archive, or was loaded again later.

    Example:
        >>> package_digest() == package_digest()
        True
    """
    code = _package_code()
    return None if code is None else code.digest


def _package_code() -> _PackageCode | None:
    global _package
    for name, module in _modules.items():
        if module.code is None or getattr(sys.modules.get(name), "__spec__", None) is not module.spec:
            return None
    if _package is None and _modules:  # threads that come at the same time find the same
        digest = hashlib.sha256()
        positions: dict[int, int] = {}
        for name, module in sorted(_modules.items()):
            content = _module_code(module.code)
            digest.update(b"%b\0%d:" % (name.encode(), len(content)) + content)
            for code in _nested(module.code):
                positions[id(code)] = len(positions)
        _package = _PackageCode(digest.digest(), positions)
    return _package


def _module_code(code: CodeType | None) -> bytes:
    """The code of a module, without the path of its file."""
    assert code is not None
    path = code.co_filename.encode("utf-8", "surrogatepass")
    try:
        # In this format equal code is equal bytes; later ones tell how often an object is referred to. A text stands
        # behind its length.
        return marshal.dumps(code, 2).replace(len(path).to_bytes(4, "little") + path, b"")
    except ValueError:  # newer interpreters have constants that it does not know
        return b"".join(
            _instructions(part) + repr(_constants(part)).encode("utf-8", "surrogatepass") for part in _nested(code)
        )


def _nested(code: CodeType | None) -> Iterator[CodeType]:
    """A code object and those within it: of its functions, classes and comprehensions."""
    waiting = [code]
    while waiting:
        here = waiting.pop()
        assert here is not None
        yield here
        waiting += [item for item in here.co_consts if isinstance(item, CodeType)]


def _instructions(code: CodeType) -> bytes:
    """A code object without constants, files and lines."""
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags, code.co_stacksize
    text = repr((code.co_qualname, names, counts, len(code.co_code), len(code.co_consts)))
    return text.encode("utf-8", "surrogatepass") + code.co_code + code.co_exceptiontable


def _constants(code: CodeType) -> list[Any]:
    """The constants of a code object; sets in an order of their own, code objects by name."""
    return [
        item.co_qualname if isinstance(item, CodeType)
        else sorted(map(repr, item)) if isinstance(item, frozenset)
        else item
        for item in code.co_consts
    ]  # fmt: skip


class UnknownError(Exception):
    """An object's behaviour is not known."""


def fingerprint(*things: Any) -> bytes | None:
    """A digest of what things are and what functions do; the same in every process.

    Args:
        things: numbers, texts, arrays, containers, functions and objects of this package's classes. An object may say
            what decides its behaviour by a method `__fingerprint__` that returns such things.

    Returns:
        The digest; None if there is something among them whose behaviour cannot be told.

    Example:
        >>> fingerprint(lambda x: x + 1.0) == fingerprint(lambda x: x + 1.0)
        True
        >>> fingerprint(lambda x: x + 1.0) == fingerprint(lambda x: x + 2.0)
        False
        >>> fingerprint(0.0) == fingerprint(-0.0)
        False
        >>> fingerprint(object()) is None
        True
    """
    package = _package_code()
    writer = _Writer({} if package is None else package.positions)
    try:
        writer.add(things)
    except UnknownError:
        return None
    return writer.digest.digest()


#: The types of objects that are equal if their `repr` is.
_PLAIN = {type(None), bool, int, str, bytes, complex, type(Ellipsis)}
#: Modules whose version is part of every key anyway.
_VERSIONED = {*sys.stdlib_module_names, "numpy", _PACKAGE.partition(".")[0]}


class _Writer:
    """Writes things into a digest, one after the other.

    Args:
        positions: of each of our own code objects, by identity: their code is told by `package_digest`.
    """

    def __init__(self, positions: dict[int, int]) -> None:
        self.digest = hashlib.sha256()
        self.positions = positions
        #: The objects that have been written, by identity; they are kept so that no identity is used again.
        self.visited: dict[int, tuple[int, Any]] = {}

    def write(self, *texts: Any) -> None:
        """Write plain things, so that what comes next cannot be taken for a part of them."""
        text = repr(texts).encode("utf-8", "surrogatepass")
        self.digest.update(b"%d:" % len(text) + text)

    def add(self, thing: Any) -> None:
        """Write one thing.

        Raises:
            UnknownError: if its behaviour cannot be told.
        """
        kind = type(thing)
        if kind in _PLAIN:
            self.write(thing)
        elif kind is float:
            self.write(thing.hex())
        elif kind is slice:
            self.add(("slice", thing.start, thing.stop, thing.step))
        elif isinstance(thing, (tuple, list)):
            self._sequence(thing)
        elif isinstance(thing, (array, np.ndarray, np.generic)):
            self._numbers(thing)
        elif kind in (dict, set, frozenset):
            self._collection(thing)
        elif id(thing) in self.visited:
            self.write("again", self.visited[id(thing)][0])
        else:
            self.visited[id(thing)] = len(self.visited), thing
            self._object(thing)

    def _sequence(self, things: Sequence[Any]) -> None:
        self.write(type(things).__qualname__, len(things))
        if set(map(type, things)) <= _PLAIN:
            self.write(*things)
            return
        for thing in things:
            self.add(thing)

    def _numbers(self, thing: Any) -> None:
        if isinstance(thing, array):
            self.write("array", thing.typecode, len(thing))
        elif thing.dtype.hasobject:
            raise UnknownError(thing)
        else:
            self.write("numbers", thing.dtype.str, thing.shape)
        self.digest.update(thing.tobytes())

    def _collection(self, things: Any) -> None:
        self.write(type(things).__qualname__, len(things))
        if isinstance(things, dict):
            self.add(list(things.items()))
            return
        parts = [fingerprint(thing) for thing in things]
        if None in parts:
            raise UnknownError(things)
        self.add(sorted(parts))

    def _object(self, thing: Any) -> None:
        kind = type(thing)
        if isinstance(thing, FunctionType):
            self._function(thing)
        elif isinstance(thing, MethodType):
            self.write("method")
            self.add((thing.__func__, thing.__self__))
        elif isinstance(thing, functools.partial):
            self.write("partial")
            self.add((thing.func, thing.args, thing.keywords))
        elif isinstance(thing, BuiltinFunctionType):
            owner = thing.__self__
            self.write("builtin", thing.__name__)
            self.add(owner)
        elif isinstance(thing, ModuleType):
            self.write("module", _name_of(thing, thing.__name__))
        elif isinstance(thing, type):
            self.write("class", _name_of(thing, thing.__module__), thing.__qualname__)
        elif isinstance(thing, np.ufunc):
            self.write("ufunc", thing.__name__)
        elif hasattr(kind, "__fingerprint__"):
            self.write("object", kind.__module__, kind.__qualname__)
            self.add(thing.__fingerprint__())
        elif kind.__module__.startswith(_PARTS) and hasattr(thing, "__dict__") and not hasattr(kind, "__slots__"):
            self.write("object", kind.__module__, kind.__qualname__)
            self.add(vars(thing))
        elif hasattr(thing, "__objclass__") and callable(thing):  # such as `float.__add__`
            self.write("method", thing.__name__)
            self.add(thing.__objclass__)
        else:
            raise UnknownError(thing)

    def _function(self, function: FunctionType) -> None:
        code = function.__code__
        cells = [_content(cell) for cell in function.__closure__ or ()]
        number = self.positions.get(id(code))
        if number is not None:
            self.write("package function", number)
        else:
            self.write("function")
            for part in _nested(code):
                self.digest.update(_instructions(part))
                self.add(_constants(part))
            for name in sorted({name for part in _nested(code) for name in part.co_names}):
                if name in function.__globals__:
                    self.write("global", name)
                    self.add(function.__globals__[name])
                else:
                    self.write("attribute" if not hasattr(builtins, name) else "builtin", name)
        self.add((function.__defaults__, function.__kwdefaults__, cells))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError as error:  # nothing has been assigned to the name yet
        raise UnknownError(cell) from error


def _name_of(thing: Any, module: str) -> str:
    """The name of a module that belongs to a version which is part of every key.

    Raises:
        UnknownError: if it is another's, which may change.
    """
    if module.partition(".")[0] not in _VERSIONED:
        raise UnknownError(thing)
    return module
