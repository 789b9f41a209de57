"""Branches of the user's code that only select a number, `x if x > 0 else 0.0`, are done as selections in a trace.

A trace cannot see what a branch selects: Python goes one way. So where a branch has been met, the function's source is
looked up, and what only selects is written as a call; the function is traced again with the code of that. The forms:

    a if c else b                     a and b: names, numbers, attributes, items, and sums and products of these
    x = a  (in `if c`), also with     x has a value before, or `else` and `elif` give it one
    x += a, x -= a, x *= a
    return a  (in `if c`)             what follows, or stands in `else` and `elif`, returns as well
    max(...), min(...), sorted(...)   the builtins, without key; at most 8 items are sorted, none of them NaN

Both sides are computed, which neither raises nor changes anything. All else stays a branch.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import linecache
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any, Final, TypeVar

import numpy as np

from ...runtime.atomic import Block, setting, step
from ...runtime.forks import in_child
from ...runtime.primitives import equal, logical_and, logical_not, logical_or, select
from ...runtime.traced import TracedCondition
from ...runtime.tracing import recorders
from ...runtime.value import Value

R = TypeVar("R")

#: Stands in the source for the object with the methods below.
_MARK: Final = "<flatgrad selections>"
_FUTURES: Final = 0x1FE0000  # the flags of `from __future__ import`
#: So many items are sorted by selections at most.
_SORTED: Final = 8
_NUMBERS = (Value, float, int, np.floating)
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult)


class NoSelectionError(Exception):
    """What looked like a selection is none."""


class _Selections(threading.local):
    """What the rewritten code calls. In other threads, and in traces inside of the trace, it does what the code did.

    Attributes:
        on: whether this thread traces with selections.
    """

    on = False

    def _begun(self, condition: Any) -> bool:
        """Whether a selection by this condition is to be recorded."""
        return self.on and isinstance(condition, TracedCondition) and len(recorders()) == 1

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        """`a if condition else b`."""
        counts = isinstance(a, int) and isinstance(b, int)  # they may be places, or say how often
        if self._begun(condition) and isinstance(a, _NUMBERS) and isinstance(b, _NUMBERS) and not counts:
            return a if a is b else select(condition, a, b)
        return a if condition else b

    def update(self, condition: Any, a: Any, b: Any) -> Any:
        """The same for `x += ...`, which changes other objects than numbers."""
        if not (isinstance(a, _NUMBERS) and isinstance(b, _NUMBERS)):
            raise NoSelectionError
        return self.select(condition, a, b)

    def no(self, condition: Any) -> Any:
        """`not condition`."""
        return logical_not(condition) if self._begun(condition) else not condition

    def both(self, *conditions: Any) -> Any:
        """`a and b`."""
        return functools.reduce(logical_and, conditions) if all(map(self._begun, conditions)) else all(conditions)

    def either(self, *conditions: Any) -> Any:
        """`a or b`."""
        return functools.reduce(logical_or, conditions) if all(map(self._begun, conditions)) else any(conditions)

    def builtin(self, function: Any, *items: Any) -> Any:
        """`max`, `min` or `sorted` as Python computes them."""
        every = list(items[0]) if len(items) == 1 else list(items)
        if not self.on or not every or not all(isinstance(item, _NUMBERS) for item in every):
            return function(every) if len(items) == 1 else function(*items)
        if function is builtins.sorted and len(items) == 1:
            return self._sorted(every)
        if function is not builtins.max and function is not builtins.min:
            raise NoSelectionError
        first, *others = every
        for each in others:
            first = self.select(each > first if function is builtins.max else each < first, each, first)
        return first

    def _sorted(self, items: list[Any]) -> list[Any]:
        """Neighbours change places where the second is less: that keeps the order of equal ones, as `sorted` does."""
        if len(items) > _SORTED or not all(bool(equal(item, item)) for item in items if isinstance(item, Value)):
            return sorted(items)
        for end in range(len(items) - 1, 0, -1):
            for k in range(end):
                a, b = items[k : k + 2]
                less = b < a
                items[k : k + 2] = self.select(less, b, a), self.select(less, a, b)
        return items


_selections = _Selections()


# --- source ---------------------------------------------------------------------------------------------------------


def _called(method: str, *arguments: ast.expr) -> ast.expr:
    call = ast.Call(ast.Attribute(ast.Constant(_MARK), method, ast.Load()), list(arguments), [])
    call.is_selection = True  # type: ignore[attr-defined]
    return call


def _loads(node: ast.expr) -> bool:
    """Whether an expression is a number that is there already: a name, a constant, an attribute, an item."""
    if isinstance(node, ast.Constant):
        return type(node.value) in (float, int)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, (ast.USub, ast.UAdd)) and isinstance(node.operand, ast.Constant)
    if isinstance(node, ast.Subscript):
        return _loads(node.value) and _computes(node.slice)
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _loads(node.value))


def _computes(node: ast.expr) -> bool:
    """Whether an expression is made of such numbers, and of selections, by sums and products, and cannot raise."""
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, (ast.USub, ast.UAdd)) and _computes(node.operand)
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Div):
            return _computes(node.left) and isinstance(node.right, ast.Constant) and node.right.value not in (0, 0.0)
        return isinstance(node.op, _ARITHMETIC) and _computes(node.left) and _computes(node.right)
    return _loads(node) or hasattr(node, "is_selection")


def _compares(node: ast.expr) -> bool:
    """Whether a condition can be computed where it is not asked for."""
    if isinstance(node, ast.Compare):
        return len(node.ops) == 1 and _computes(node.left) and _computes(node.comparators[0])
    if isinstance(node, ast.BoolOp):
        return all(map(_compares, node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _compares(node.operand)
    return hasattr(node, "is_selection")


def _test(node: ast.expr) -> ast.expr:
    """A condition without branches."""
    if isinstance(node, ast.BoolOp) and _compares(node):
        return _called("both" if isinstance(node.op, ast.And) else "either", *map(_test, node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _called("no", _test(node.operand))
    return node


def _selection(test: ast.expr, a: ast.expr | None, b: ast.expr | None, method: str = "select") -> ast.expr | None:
    """`a if test else b` as a call; None if it does more than to select."""
    if a is None or b is None or not (_computes(a) and _computes(b)):
        return None
    return ast.copy_location(_called(method, _test(test), a, b), test)


class _Rewriter(ast.NodeTransformer):
    """Writes selections as calls.

    Args:
        lines: where branches have been met: others stay as they are, apart from those that follow.
    """

    def __init__(self, lines: Collection[int]) -> None:
        self.lines = lines

    def _met(self, node: ast.expr) -> bool:
        return any(line in self.lines for line in range(node.lineno, (node.end_lineno or node.lineno) + 1))

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        met = self._met(node.test)
        self.generic_visit(node)
        return (_selection(node.test, node.body, node.orelse) if met or _compares(node.test) else None) or node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        met = self._met(node)
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        plain = node.args and not node.keywords and not any(isinstance(each, ast.Starred) for each in node.args)
        if not (met and plain and name in _BUILTINS):
            return node
        return ast.copy_location(_called("builtin", node.func, *node.args), node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                setattr(node, name, self._statements(statements))
        return super().generic_visit(node)

    def _statements(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for k, each in enumerate(statements):
            if isinstance(each, ast.If) and self._met(each.test):
                value = self._returned(statements[k:], True)
                if value is not None:
                    return [*result, ast.copy_location(ast.Return(value), each)]
                each = self._assigned(each) or each
            result.append(each)
        return result

    def _returned(self, statements: list[ast.stmt], first: bool = False) -> ast.expr | None:
        """What statements return that do nothing else."""
        if not statements:
            return None
        if isinstance(statements[0], ast.Return):
            return self.visit(statements[0].value) if statements[0].value is not None else None
        if not isinstance(statements[0], ast.If) or len(statements[0].body) != 1:
            return None
        branch = statements[0]
        if not isinstance(branch.body[0], ast.Return) or branch.body[0].value is None:
            return None
        test = self.visit(branch.test)
        if not first and not _compares(test):
            return None
        return _selection(test, self.visit(branch.body[0].value), self._returned(branch.orelse or statements[1:]))

    def _assigned(self, branch: ast.If) -> ast.stmt | None:
        """The assignment that a branch is."""
        pair = _assignment(branch.body)
        value = self._value(branch, pair[0]) if pair is not None else None
        if pair is None or value is None:
            return None
        return ast.copy_location(ast.Assign([ast.Name(pair[0], ast.Store())], value), branch)

    def _value(self, branch: ast.If, name: str, first: bool = True) -> ast.expr | None:
        before: ast.expr = ast.Name(name, ast.Load())
        test, pair = self.visit(branch.test), _assignment(branch.body)
        if pair is None or pair[0] != name or not (first or _compares(test)):
            return None
        method = pair[2]
        if not branch.orelse:
            other: ast.expr | None = before
        elif len(branch.orelse) == 1 and isinstance(branch.orelse[0], ast.If):
            other = self._value(branch.orelse[0], name, False)
        else:
            second = _assignment(branch.orelse)
            if second is None or second[0] != name:
                return None
            other, method = self.visit(second[1]), max(method, second[2])
        return _selection(test, self.visit(pair[1]), other, method)


_BUILTINS = ("max", "min", "sorted")


def _assignment(statements: list[ast.stmt]) -> tuple[str, ast.expr, str] | None:
    """The name that one statement assigns to, the value, and the method that selects it."""
    (statement,) = statements if len(statements) == 1 else (None,)
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        (target,) = statement.targets
        return (target.id, statement.value, "select") if isinstance(target, ast.Name) else None
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        value = ast.BinOp(ast.Name(statement.target.id, ast.Load()), statement.op, statement.value)
        return statement.target.id, value, "update"
    return None


# --- code -----------------------------------------------------------------------------------------------------------


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object, and those inside of it."""
    yield code
    for item in code.co_consts:
        if isinstance(item, CodeType):
            yield from _codes(item)


def _linked(code: CodeType) -> CodeType:
    """The code with the object that it calls in place of the mark."""
    items = (_linked(item) if isinstance(item, CodeType) else item for item in code.co_consts)
    return code.replace(co_consts=tuple(_selections if item == _MARK else item for item in items))


@functools.lru_cache(maxsize=8)
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _rewritten(code: CodeType, lines: Collection[int]) -> CodeType | None:
    """The code of a function with selections as calls; None if there are none, or the source is another one."""
    source = "".join(linecache.getlines(code.co_filename))
    try:
        tree = _parsed(source)
    except (SyntaxError, ValueError):
        return None
    first = code.co_firstlineno
    inside = [each for each in tree.body if _first_line(each) <= first <= (each.end_lineno or 0)]
    if not inside:
        return None
    imports = _imports(tree.body)  # names that are imported have other code
    compiled = []
    for change in (lambda node: node, _Rewriter(lines).visit):
        module = ast.Module([*imports, change(copy.deepcopy(inside[0]))], [])
        whole = compile(ast.fix_missing_locations(module), code.co_filename, "exec", code.co_flags & _FUTURES, True)
        key = code.co_qualname, first
        compiled.append([each for each in _codes(whole) if (each.co_qualname, each.co_firstlineno) == key])
    plain, changed = compiled
    if plain.count(code) != 1 or len(plain) != len(changed):
        return None
    new = changed[plain.index(code)]
    same = (
        new.co_freevars == code.co_freevars
        and new.co_varnames[: code.co_argcount] == code.co_varnames[: code.co_argcount]
    )
    return _linked(new) if same and new != code else None


def _imports(statements: Iterable[Any]) -> list[ast.stmt]:
    """The imports of a module."""
    result: list[ast.stmt] = []
    for each in statements:
        if isinstance(each, (ast.Import, ast.ImportFrom)):
            result.append(each)
        elif isinstance(each, (ast.If, ast.Try, ast.With)):
            result += _imports([*each.body, *getattr(each, "orelse", ()), *getattr(each, "finalbody", ())])
            result += _imports(handled for handler in getattr(each, "handlers", ()) for handled in handler.body)
    return result


def _first_line(node: Any) -> int:
    decorators = getattr(node, "decorator_list", [])
    return int(min([node.lineno, *(each.lineno for each in decorators)]))


#: One thread at a time changes the code of functions.
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


in_child(_renew_lock)


def selecting(
    run: Callable[[], R], functions: Iterable[FunctionType], sites: Collection[tuple[CodeType, int]]
) -> R | None:
    """What `run` returns while functions select instead of branching; None if that cannot be.

    Args:
        run: traces.
        functions: those that are called.
        sites: the code objects, and the lines, where they have branched.
    """
    if not _lock.acquire(timeout=1.0):
        return None
    try:
        codes = _new_codes(functions, sites)
        if not codes:
            return None
        chosen, before = list(codes), [function.__code__ for function in codes]
        begin = setting(chosen, "__code__", codes.values()), partial(setattr, _selections, "on", True)
        end = partial(setattr, _selections, "on", False), setting(chosen, "__code__", before)
        with Block(step(*begin), step(*end)):
            return run()
    except Exception:  # the user's code, perhaps, which needs a number, or a branch
        return None
    finally:
        _lock.release()


def _new_codes(
    functions: Iterable[FunctionType], sites: Collection[tuple[CodeType, int]]
) -> dict[FunctionType, CodeType]:
    places, lines = {code for code, _ in sites}, {line for _, line in sites}
    result = {}
    for function in functions:
        if places.intersection(_codes(function.__code__)):
            code = _rewritten(function.__code__, lines)
            if code is not None:
                result[function] = code
    return result
