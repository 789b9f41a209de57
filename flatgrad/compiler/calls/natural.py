"""Calls that a trace cannot take over, `math.exp(x)` or `np.zeros(n)`, are replaced where the source is there.

A function that fails in a trace for such a call is traced again, with code in which calls look up what stands for the
function that they call. The look-up does so while this thread traces, so that all else goes on as it is.

Where code asks for the class of a number, `isinstance(x, float)` or `x.dtype`, nothing fails: it would go another way
than with plain numbers. So such code is changed before the first trace.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import functools
import threading
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import numpy as np

from ...runtime.arrays import decided
from ...runtime.classes import ATTRIBUTES, NAMES, answered, asks_by_name, attribute, pattern
from ...runtime.natural import replaced
from ...runtime.sites import is_internal, is_library
from ...runtime.tracing import refuse
from .rewriting import Change, codes_in, new_codes

#: Stand in the source for the objects with the methods below.
_MARK: Final = "<flatgrad natural calls>"
_CLASS_MARK: Final = "<flatgrad classes>"
#: Builtins that look at the frame that calls them: the call must stay as it is.
_OF_FRAMES: Final = frozenset(["super", "locals", "globals", "vars", "dir", "eval", "exec"])
#: What applies a function that is its argument.
_APPLYING: Final = frozenset(["map", "filter", "reduce", "starmap", "vectorize", "frompyfunc", "partial", "accumulate"])


#: Functions that ask for classes.
_ASKING: Final = frozenset(["isinstance", "type", "isscalar", "result_type"])
#: Of how many functions of installed packages at most the calls are changed.
_INSTALLED: Final = 200
#: Functions that get an attribute by its name.
_GETTERS: Final = frozenset(["getattr", "attrgetter"])
#: Classes of numbers.
_OF_NUMBERS: Final = frozenset(
    ["float", "int", "complex", "Number", "Real", "Complex", "floating", "float64", "number"]
)
_MATCH: Final = dis.opmap["MATCH_CLASS"]


class _Classes(threading.local):
    """What the rewritten code calls that asks for classes.

    Attributes:
        on: whether this thread traces with that code.
    """

    on = False

    def of(self, function: Any) -> Any:
        """What is called in place of a function."""
        return answered(function) if self.on else function

    def attribute(self, item: Any, name: str) -> Any:
        """An attribute that is a class, or a dtype."""
        return attribute(item, name) if self.on else getattr(item, name)

    def pattern(self, kind: Any) -> Any:
        """A class that stands in a pattern of `match`."""
        return pattern(kind) if self.on else kind


class _Natural(_Classes):
    """What rewritten code calls whose calls are natural."""

    def item(self, container: Any, index: Any) -> Any:
        """An item: an array of floats takes no conditions for an index, so that they are asked for truth values."""
        return container[decided(index) if self.on and type(container) is np.ndarray else index]

    def of(self, function: Any) -> Any:
        return answered(replaced(function)) if self.on else function


_classes, _natural = _Classes(), _Natural()


class _Questions(ast.NodeTransformer):
    """Writes what asks for classes as calls."""

    mark = _CLASS_MARK

    def __init__(self, root: ast.AST) -> None:
        self._patterns = 0

    def _called(self, method: str, *arguments: ast.expr) -> ast.expr:
        call = ast.Call(ast.Attribute(ast.Constant(self.mark), method, ast.Load()), list(arguments), [])
        call.is_ours = True  # type: ignore[attr-defined]
        return ast.copy_location(call, arguments[0])

    def looked_up(self, function: ast.expr) -> ast.expr:
        """What stands for a function, if it asks for classes or makes an int, or may be an `operator.attrgetter`."""
        is_getter = isinstance(function, ast.Call) and _name_of(function.func) == "attrgetter"
        may_ask = is_getter or isinstance(function, ast.Name) or _name_of(function) in NAMES
        return self._called("of", function) if may_ask else function

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if hasattr(node, "is_selection") or hasattr(node, "is_ours") or _name_of(node.func) in _OF_FRAMES:
            return node
        if _name_of(node.func) in _APPLYING:
            node.args = [self.looked_up(each) if _name_of(each) else each for each in node.args]
        node.func = self.looked_up(node.func)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if node.attr not in ATTRIBUTES or not isinstance(node.ctx, ast.Load):
            return node
        return ast.copy_location(self._called("attribute", node.value, ast.Constant(node.attr)), node)

    def visit_Match(self, node: ast.Match) -> list[ast.stmt]:
        self.generic_visit(node)
        found = [each for case in node.cases for each in ast.walk(case.pattern) if isinstance(each, ast.MatchClass)]
        before: list[ast.stmt] = []
        for each in found:
            self._patterns += 1
            name = f"{self._patterns}th class"  # no source can have it
            kind = ast.Assign([ast.Name(name, ast.Store())], self._called("pattern", each.cls))
            before.append(ast.copy_location(kind, node.subject))
            each.cls = ast.copy_location(ast.Name(name, ast.Load()), each.cls)
        return [*before, node]


class _Calls(_Questions):
    """Writes all calls as calls of what stands for the function, too, and items that are read."""

    mark = _MARK

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load) or isinstance(node.slice, (ast.Constant, ast.Slice)):
            return node
        index = node.slice
        if any(isinstance(each, (ast.Slice, ast.Starred)) for each in getattr(index, "elts", ())):
            return node
        return ast.copy_location(self._called("item", node.value, index), node)

    def looked_up(self, function: ast.expr) -> ast.expr:
        """What stands for a function."""
        return self._called("of", function)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        super().visit_Call(node)
        if not hasattr(node, "is_selection") and not hasattr(node, "is_ours"):
            for keyword in node.keywords:
                if keyword.arg == "key" and _name_of(keyword.value):
                    keyword.value = self.looked_up(keyword.value)
        return node


def _name_of(function: ast.expr) -> str:
    """The name of a function, or of an attribute; "" for other expressions."""
    return function.id if isinstance(function, ast.Name) else str(getattr(function, "attr", ""))


def _concerns(function: FunctionType) -> bool:
    """Whether a function is the user's, and may call one that is replaced."""
    return not is_internal(function.__code__.co_filename) and not is_library(function.__code__)


def _asks(function: FunctionType) -> bool:
    """Whether a function is the user's, or chooses one of the user's, and may ask for classes."""
    if _concerns(function) and any(map(asks_by_name, _read_by(function))):
        return True
    return (_concerns(function) or function.__code__ in _DISPATCHING) and any(
        not (_ASKING | ATTRIBUTES).isdisjoint(code.co_names)
        or (not _GETTERS.isdisjoint(code.co_names) and any(map(_names_class, code.co_consts)))
        or _MATCH in code.co_code[::2]
        for code in codes_in(function.__code__)
    )


def _read_by(function: FunctionType) -> Iterator[Any]:
    """What a function reads by a name from outside."""
    for code in codes_in(function.__code__):
        yield from (function.__globals__.get(name) for name in code.co_names)
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # it is empty yet
            yield cell.cell_contents


def installed(functions: Iterable[FunctionType]) -> list[FunctionType]:
    """The functions of installed packages that these may call by their names, and those that they call, and so on."""
    found: dict[FunctionType, None] = {}
    todo = list(functions)
    while todo and len(found) < _INSTALLED:
        function = todo.pop()
        for item in [*_read_by(function)]:
            names = {name for code in codes_in(function.__code__) for name in code.co_names}
            members = vars(item) if isinstance(item, ModuleType) else {}
            for each in (item, *(members[name] for name in names & members.keys())):
                each = getattr(each, "__wrapped__", each)
                if isinstance(each, FunctionType) and each not in found and _is_installed(each):
                    found[each] = None
                    todo.append(each)
    return list(found)


def _is_installed(function: FunctionType) -> bool:
    """Whether a function is one of an installed package, other than NumPy, SciPy and this one."""
    code = function.__code__
    return "-packages" in code.co_filename and not is_internal(code.co_filename) and not is_library(code)


#: What calls functions by the class of an argument.
_DISPATCHING: Final = tuple(
    getattr(each, "__code__")  # noqa: B009 - type checkers do not know that it is there
    for each in (functools.singledispatch(lambda x: x), functools.singledispatchmethod.__get__)
)


def _names_class(item: Any) -> bool:
    """Whether a constant is the name of an attribute that is a class, or a path to one."""
    return type(item) is str and not ATTRIBUTES.isdisjoint(item.split("."))


#: Calls are natural.
NATURAL: Final = Change(_MARK, _natural, _concerns, _Calls)
#: Questions for classes are answered as of plain numbers.
CLASSES: Final = Change(_CLASS_MARK, _classes, _asks, _Questions)


def classes_asked(functions: Iterable[FunctionType]) -> list[Change]:
    """What is to be changed in functions because some of them ask for classes.

    Raises:
        TraceError: if one asks for those of numbers, and Python has no source of it.
    """
    asking = list(filter(_asks, functions))
    changed = new_codes(asking, [CLASSES])
    for each in asking:
        if each not in changed and _asks_for_numbers(each.__code__):
            raise refuse(
                f"{each.__name__}() asks for the class of a number, which is a Value while the function is traced, and "
                "Python has no source of it to change that. Write isinstance(x, (float, fg.Value))"
            )
    return [CLASSES] if changed else []


def _asks_for_numbers(code: CodeType) -> bool:
    """Whether code may ask for the class of a number, and does not know of `Value`s."""
    names = {name for each in codes_in(code) for name in each.co_names}
    return (
        not {"isinstance", "type", "__class__"}.isdisjoint(names) and not _OF_NUMBERS.isdisjoint(names)
    ) and "Value" not in names
