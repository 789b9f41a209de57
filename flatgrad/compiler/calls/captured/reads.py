"""The names that a function reads from outside, by its bytecode: globals, variables of enclosing functions, attributes.

No code is run. The names of all branches count, also of those that a call does not take.
"""

from __future__ import annotations

import dis
import os
import sys
import sysconfig
from collections.abc import Mapping
from functools import lru_cache
from types import CodeType
from typing import Any, Literal, NamedTuple

from ....runtime.sites import PACKAGE
from ....runtime.sources import compiled
from ..exact import Same

#: Instructions that read a name, by the kind of name.
_GLOBAL = frozenset(["LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"])
_FREE = frozenset(["LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"])
_ATTRIBUTE = frozenset(["LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "LOAD_SUPER_METHOD"])
#: Instructions that may stand between two parts of a dotted name.
_NOTHING = frozenset(["CACHE", "EXTENDED_ARG", "PRECALL", "PUSH_NULL", "COPY_FREE_VARS", "NOP"])


class Name(NamedTuple):
    """A name with the attributes that directly follow it: `config.limits.upper`.

    Attributes:
        name: the variable, or the module of an `import` statement.
        attributes: the attributes, in order.
        line: the line that reads it.
    """

    name: str
    attributes: tuple[str, ...]
    line: int

    @property
    def is_write_only(self) -> bool:
        """Whether the line only puts something into it: `losses.append(x)`."""
        return self.attributes[:1] != () and self.attributes[0] in _WRITERS


#: Methods that put something into a container, and return nothing about its members.
_WRITERS = frozenset(["append", "appendleft", "extend", "insert", "add", "update", "clear"])


#: Functions and attributes that read an attribute whose name is a text.
_BY_TEXT = frozenset(["getattr", "hasattr", "vars", "attrgetter", "methodcaller", "__dict__"])
#: Functions that read all attributes of an object.
_ALL = frozenset(["vars", "asdict", "astuple", "fields"])
#: Functions that import a module whose name is a text, and that run a text.
_IMPORTING, _RUNNING = frozenset(["import_module", "__import__"]), frozenset(["eval", "exec"])


class Reads(NamedTuple):
    """What a code object reads, together with the functions, lambdas and comprehensions inside it.

    Attributes:
        globals, free: variables of the module, and of enclosing functions.
        imports: what statements inside it import.
        attributes: the names of all attributes that are read, of any object, each with a line that reads it.
        write_only: attributes into which the function only puts something: `self.losses.append(x)`.
        optional: attributes that may be missing: `getattr(model, "training", False)`.
        all_attributes: whether all attributes of an object may be read: `vars(config)`, `dataclasses.asdict(config)`.
    """

    globals: tuple[Name, ...]
    free: tuple[Name, ...]
    imports: tuple[Name, ...]
    attributes: Mapping[str, int]
    write_only: frozenset[str]
    optional: frozenset[str]
    all_attributes: bool = False


def reads_of(code: CodeType) -> Reads:
    """What a code object reads.

    >>> def area(width):
    ...     return width * math.pi
    >>> reads_of(area.__code__).globals[0][:2]
    ('math', ('pi',))
    """
    return _reads(Same(code))  # by identity: the hash of a code object is slow, since it covers all of its parts


@lru_cache(maxsize=4096)
def _reads(same: Same) -> Reads:
    names: dict[str, list[Name]] = {"global": [], "free": [], "import": []}
    attributes: dict[str, int] = {}
    read: set[str] = set()
    strings: dict[str, int] = {}
    stack: list[CodeType] = [same.item]
    while stack:
        code = stack.pop()
        stack += [item for item in code.co_consts if isinstance(item, CodeType)]
        kind, name, chain, line = "", "", [], 0
        at, module, last = 0, "", ""
        constants: list[Any] = [0, None]  # the last two
        for instruction in dis.get_instructions(code):
            operation, argument = instruction.opname, instruction.argval
            if operation in _NOTHING:
                continue
            at = instruction.positions.lineno or at if instruction.positions is not None else at
            if last and not (operation in _ATTRIBUTE and argument in _WRITERS):
                read.add(last)
            last = argument if operation in _ATTRIBUTE else ""
            if operation in _ATTRIBUTE:
                attributes.setdefault(argument, at)
                chain.append(argument)
                continue
            if kind:
                names[kind].append(Name(name, tuple(chain), line))
            kind = ""
            if operation == "IMPORT_NAME":
                level = constants[-2] if isinstance(constants[-2], int) else 0
                module = "." * level + argument
                names["import"].append(Name(module, (), at))
            elif operation == "IMPORT_FROM":
                names["import"].append(Name(module, (argument,), at))
            elif operation in _GLOBAL or (operation in _FREE and argument in code.co_freevars):
                kind = "global" if operation in _GLOBAL else "free"
                name, chain, line = argument, [], at
            elif operation == "MATCH_CLASS":
                attributes.update(dict.fromkeys(_strings_in(constants[-1]), at))
                read.update(_strings_in(constants[-1]))
                if argument:  # by position: names that the class says
                    attributes.setdefault("__match_args__", at)
                    read.add("__match_args__")
            elif operation in ("LOAD_CONST", "LOAD_SMALL_INT"):  # the second one from Python 3.14 on
                constants = [constants[-1], argument]
                for text in _strings_in(argument):
                    strings.setdefault(text, at)
        if kind:
            names[kind].append(Name(name, tuple(chain), line))
        read.add(last)
    mentions = {name.name for name in names["global"]} | attributes.keys()
    # `asdict(config)` and `dataclasses.asdict(config)`, but not `self.fields`.
    functions = {text for name in [*names["global"], *names["import"]] for text in (name.name, *name.attributes[:1])}
    if mentions & _IMPORTING:
        names["import"] += [Name(text, (), line) for text, line in strings.items() if not text.startswith(".")]
    if mentions & _RUNNING:
        for text in strings:
            for code in _compiled(text):
                inner = reads_of(code)
                names["global"] += inner.globals
                attributes = {**inner.attributes, **attributes}
                read |= inner.attributes.keys()
    strings = {part: line for text, line in strings.items() for part in text.split(".") if part.isidentifier()}
    optional: set[str] = set(attributes) if "AttributeError" in mentions else set()
    if mentions & _BY_TEXT:  # `getattr(model, "training", False)`
        attributes = {**strings, **attributes}
        optional |= strings.keys()
        read |= strings.keys()
    if "globals" in mentions:  # `globals()["rate"]`
        names["global"] += [Name(text, (), line) for text, line in strings.items()]
    return Reads(
        globals=tuple(dict.fromkeys(names["global"])),
        free=tuple(dict.fromkeys(names["free"])),
        imports=tuple(dict.fromkeys(names["import"])),
        attributes=attributes,
        write_only=frozenset(attributes.keys() - read),
        optional=frozenset(optional),
        all_attributes=bool(functions & _ALL or "__match_args__" in attributes),
    )


def _strings_in(constant: Any) -> list[str]:
    """The texts in a constant: itself, or items of a tuple."""
    if isinstance(constant, (tuple, frozenset)):
        return [text for item in constant for text in _strings_in(item)]
    return [constant] if isinstance(constant, str) else []


def _compiled(text: str) -> list[CodeType]:
    """A text as code, if it is an expression or statements."""
    modes: tuple[Literal["eval"], Literal["exec"]] = "eval", "exec"
    for mode in modes:
        try:
            return [compiled(text, "<text>", mode)]
        except (SyntaxError, ValueError):
            continue
    return []


_STANDARD = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
#: Files of this package with models, which count like a user's.
_MODELS = (os.path.join(PACKAGE, "nn") + os.sep, os.path.join(PACKAGE, "demo.py"))


@lru_cache(maxsize=4096)
def is_library(filename: str) -> bool:
    """Whether a file belongs to Python's own library, to an installed package, or to this one.

    Users do not change these while they work.

    >>> is_library(dis.__file__), is_library("model.py")
    (True, False)
    """
    if filename.startswith(_MODELS):
        return False
    installed = f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}"
    return (
        filename.startswith((PACKAGE, "<frozen", "<flatgrad"))
        or filename.startswith(_STANDARD)
        or any(part in filename for part in installed)
    )


def is_installed(filename: str) -> bool:
    """The same, where the models of this package count as part of it."""
    return filename.startswith(PACKAGE) or is_library(filename)


@lru_cache(maxsize=4096)
def is_library_module(name: str | None) -> bool:
    """Whether a module belongs to Python's own library, to an installed package, or to this one.

    >>> is_library_module("math"), is_library_module("__main__"), is_library_module("flatgrad.nn.layers")
    (True, False, True)
    """
    module = sys.modules.get(name or "")
    if module is None or name == "__main__":
        return False
    filename = getattr(module, "__file__", None)
    if filename is None:  # built in, or made by the user's own code
        return (name or "").partition(".")[0] in sys.stdlib_module_names
    return is_installed(filename)


def is_model_module(name: str) -> bool:
    """Whether a module of this package has models, which count like a user's."""
    return name.startswith("flatgrad.nn.") or name == "flatgrad.demo"
