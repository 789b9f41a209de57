"""Branches of the user's code that only select a number, `x if x > 0 else 0.0`, are done as selections in a trace.

A trace cannot see what a branch selects: Python goes one way. So where a branch has been met, the function's source is
looked up, and what only selects is written as a call; the function is traced again with the code of that. The forms:

    a if c else b                     a and b: names, numbers, attributes, items, sums and products of these, tuples
    x = a  (in `if c`), also several  x has a value before, or `else` and `elif` give it one; or nobody else reads it
    x += a, x -= a, x *= a; x, y = y, x; v[i] = a; ifs within
    return a  (in `if c`)             what follows, or stands in `else` and `elif`, returns as well
    continue  (in `if c`)             what follows in the loop does nothing else
    max(...), min(...), sorted(...)   the builtins, without key; at most 8 items are sorted, none of them NaN

Both sides are computed, which neither raises nor changes anything. All else stays a branch.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from types import FunctionType
from typing import Any, Final, TypeVar

import numpy as np

from ...runtime.primitives import equal, logical_and, logical_not, logical_or, select
from ...runtime.sites import Place, is_internal, place
from ...runtime.traced import TracedCondition, TracedInteger, TracedValue
from ...runtime.tracing import recorders
from ...runtime.value import Value
from .rewriting import BusyError, Change, UnchangedError, codes_in, run_with

R = TypeVar("R")

#: Stands in the source for the object with the methods below.
_MARK: Final = "<flatgrad selections>"
#: So many times some branches are left as they are, because the function failed with selections in their places.
_FAILURES: Final = 6
#: So many items are sorted by selections at most.
_SORTED: Final = 8
_NUMBERS = (Value, float, int, np.floating)
#: What asks for the class of a number, which is another one for a plain number that is selected.
_CLASSES: Final = frozenset(["isinstance", "type", "hasattr", "__class__"])
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult)


class NoSelectionError(BaseException):  # `except Exception` of a function that is traced does not catch it
    """What looked like a selection is none; the argument is its line, if that is not the last one of the traceback."""


class _Selections(threading.local):
    """What the rewritten code calls. In other threads, and in traces inside of the trace, it does what the code did.

    Attributes:
        on: whether this thread traces with selections.
        outer: how many recorders there are outside of that trace.
    """

    on, outer = False, 0

    def begun(self, condition: Any) -> bool:
        """Whether a selection by this condition is to be recorded."""
        if not (self.on and isinstance(condition, TracedCondition)):
            return False
        return all(each is condition._trace for each in recorders()[self.outer :])  # `vmap` adds the same one again

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        """`a if condition else b`."""
        if self.begun(condition) and _selectable(a, b):
            return _selected(condition, a, b)
        return a if condition else b

    def number(self, item: Any) -> None:
        """Check that what `x += ...` changes is a number: other objects it changes in place."""
        if not isinstance(item, _NUMBERS):
            raise NoSelectionError

    def container(self, item: Any) -> None:
        """Check that an item can be assigned to in vain."""
        is_list = isinstance(item, list) and type(item).__setitem__ is list.__setitem__
        if not (is_list or isinstance(item, np.ndarray)):
            raise NoSelectionError

    def item(self, container: Any, place: Any) -> Any:
        """An item, which must be there: Python does not read it, perhaps, and the function may catch the error."""
        if not self.on:
            return container[place]
        if hasattr(container, "__missing__"):
            raise NoSelectionError
        try:
            return container[place]
        except (LookupError, TypeError) as error:
            raise NoSelectionError from error

    def classed(self, item: Any) -> Any:
        """An object whose class is asked for: check that it is not a selection of a plain number."""
        if self.on and isinstance(item, TracedValue) and item._trace.plain:
            if item._index in item._trace.plain:
                raise NoSelectionError(item._trace.plain[item._index])
            if isinstance(item, TracedInteger) and item._index >= item._trace.builder.program.inputs:
                raise NoSelectionError
        return item

    def no(self, condition: Any) -> Any:
        """`not condition`."""
        return logical_not(condition) if self.begun(condition) else not condition

    def both(self, *conditions: Any) -> Any:
        """`a and b`."""
        return functools.reduce(logical_and, conditions) if all(map(self.begun, conditions)) else all(conditions)

    def either(self, *conditions: Any) -> Any:
        """`a or b`."""
        return functools.reduce(logical_or, conditions) if all(map(self.begun, conditions)) else any(conditions)

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


def _selectable(a: Any, b: Any) -> bool:
    """Whether one of two objects can be selected: numbers, or tuples of as many of them."""
    if a is b:
        return True
    if type(a) is tuple and type(b) is tuple:
        return len(a) == len(b) and all(map(_selectable, a, b))
    numbers = isinstance(a, _NUMBERS) and isinstance(b, _NUMBERS)
    return numbers and not isinstance(a, bool) and not isinstance(b, bool)


def _selected(condition: Any, a: Any, b: Any) -> Any:
    if a is b:
        return a
    if type(a) is tuple:
        return tuple(_selected(condition, *each) for each in zip(a, b, strict=True))
    result = select(condition, a, b)
    if not isinstance(result, TracedValue):
        return result
    if any(type(each) is int and not each for each in (a, b)):
        result._trace.zeros.append(result._index)
    if any(not isinstance(each, Value) or isinstance(each, TracedInteger) for each in (a, b)):
        frame: Any = sys._getframe(1)
        while frame.f_globals is globals():
            frame = frame.f_back
        result._trace.plain[result._index] = frame.f_lineno
    if all(isinstance(each, (int, TracedInteger)) for each in (a, b)):  # a place, or how often
        result._trace.integers.append(result._index)
        result.__class__ = TracedInteger
    return result


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


class _Items(ast.NodeTransformer):
    """Items are read where Python does not read them, perhaps."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        return ast.copy_location(_called("item", node.value, node.slice), node)


def _test(node: ast.expr) -> ast.expr:
    """A condition without branches."""
    if isinstance(node, ast.BoolOp) and _compares(node):
        return _called("both" if isinstance(node.op, ast.And) else "either", *map(_test, node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _called("no", _test(node.operand))
    return node


def _gives(node: ast.expr) -> bool:
    """Whether an expression is such a number, or a tuple of these."""
    if isinstance(node, ast.Tuple):
        return all(map(_gives, node.elts))
    return _computes(node)


def _selection(test: ast.expr, a: ast.expr, b: ast.expr) -> ast.expr | None:
    """`a if test else b` as a call; None if it does more than to select."""
    if not (_gives(a) and _gives(b)):
        return None
    return ast.copy_location(_called("select", _test(test), _Items().visit(a), _Items().visit(b)), test)


def _name(name: str, store: bool = False) -> ast.Name:
    return ast.Name(name, ast.Store() if store else ast.Load())


def _reads(node: ast.AST) -> Counter[str]:
    """How often names are read."""
    result: Counter[str] = Counter()
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Store):
            result[each.id] += 1
        elif isinstance(each, ast.AugAssign) and isinstance(each.target, ast.Name):
            result[each.target.id] += 1
        elif isinstance(each, (ast.Global, ast.Nonlocal)):
            result.update(each.names)
    return result


def _seen_after(root: ast.AST) -> set[str]:
    """Names that are read, perhaps, when a function has returned: outside, in functions in it, and in `finally`."""
    result: set[str] = set()
    for each in ast.walk(root):
        if isinstance(each, (ast.Global, ast.Nonlocal)):
            result.update(each.names)
        elif each is not root and isinstance(each, (ast.FunctionDef, ast.Lambda, ast.GeneratorExp)):
            result.update(_reads(each))
        elif isinstance(each, ast.Try):
            result.update(*map(_reads, each.finalbody))
    return result


class _Rewriter(ast.NodeTransformer):
    """Writes selections as calls.

    Args:
        root: what is rewritten.
        lines: where branches have been met: others stay as they are, apart from those that follow.
        without: lines of branches that are no selections.
    """

    def __init__(self, root: ast.AST, lines: Collection[int], without: Collection[int]) -> None:
        self.lines, self.without, self.reads = lines, without, _reads(root)
        self.seen = _seen_after(root)
        self._count = 0

    def fresh(self) -> str:
        """The name of a variable that no source can have."""
        self._count += 1
        return f"{self._count}th"

    def _is_excluded(self, node: Any) -> bool:
        return any(node.lineno <= line <= (node.end_lineno or node.lineno) for line in self.without)

    def _met(self, test: ast.expr, whole: ast.AST | None = None) -> bool:
        return not self._is_excluded(whole or test) and any(
            line in self.lines for line in range(test.lineno, (test.end_lineno or test.lineno) + 1)
        )

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        excluded, met = self._is_excluded(node), self._met(node.test)
        self.generic_visit(node)
        if excluded or not (met or _compares(node.test)):
            return node
        return _selection(node.test, node.body, node.orelse) or node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        met = self._met(node)
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _CLASSES and node.args and not isinstance(node.args[0], ast.Starred):
            node.args[0] = ast.copy_location(_called("classed", node.args[0]), node.args[0])
        plain = node.args and not node.keywords and not any(isinstance(each, ast.Starred) for each in node.args)
        if not (met and plain and name in _BUILTINS):
            return node
        return ast.copy_location(_called("builtin", node.func, *node.args), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.Attribute:
        self.generic_visit(node)
        if node.attr == "__class__":
            node.value = ast.copy_location(_called("classed", node.value), node.value)
        return node

    def visit_Match(self, node: ast.Match) -> ast.Match:
        self.generic_visit(node)
        if any(isinstance(each, ast.MatchClass) for each in ast.walk(node)):
            node.subject = ast.copy_location(_called("classed", node.subject), node.subject)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        before = self.reads, self.seen
        self.reads, self.seen = _reads(node), _seen_after(node)
        self.generic_visit(node)
        self.reads, self.seen = before
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name, value in ast.iter_fields(node):
            if isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
            elif isinstance(value, list) and name in ("body", "orelse", "finalbody"):
                loops = isinstance(node, (ast.For, ast.While)) and name == "body"
                setattr(node, name, self._statements(value, loops))
            elif isinstance(value, list):
                value[:] = [self.visit(each) if isinstance(each, ast.AST) else each for each in value]
        return node

    def _statements(self, statements: list[ast.stmt], loops: bool = False) -> list[ast.stmt]:
        """Statements with selections; `loops` says whether they are the whole of what a loop does in a round."""
        result: list[ast.stmt] = []
        for k, each in enumerate(statements):
            if isinstance(each, ast.If) and self._met(each.test, each):
                ends = loops and any(part and isinstance(part[-1], ast.Continue) for part in (each.body, each.orelse))
                ends = ends or any(isinstance(inner, ast.Return) for inner in ast.walk(each))
                rest = statements[k + 1 :] if ends else []
                name = self.fresh()
                selected = _Sides(self, each, loops).written(name, rest)
                if selected is not None:
                    both: Any = ast.If(_called("begun", each.test), selected, [each, *rest])
                    test = _test(self.visit(copy.deepcopy(each.test)))
                    each.test = ast.copy_location(_name(name), each.test)
                    both.test.args = [_name(name)]
                    each.body, each.orelse = self._statements(each.body), self._statements(each.orelse)
                    both.orelse = [each, *self._statements(rest, loops)]
                    first = ast.Assign([_name(name, True)], test)
                    result += [ast.copy_location(new, each.test) for new in (first, both)]
                    if ends:
                        return result
                    continue
            result.append(self.visit(each))
        return result


#: What stands for what a function returns.
_RETURNED: Final = "return"


class _Sides:
    """Both sides of a branch, and what is selected of them.

    A side does assignments. Each of them makes a new variable, so that one side does not see what the other one does.

    Args:
        rewriter: of the expressions.
        branch: the branch.
        loops: whether it stands in a loop, not in another branch in there.
    """

    def __init__(self, rewriter: _Rewriter, branch: ast.If, loops: bool) -> None:
        self.rewriter, self.branch, self.loops = rewriter, branch, loops
        self.statements: list[ast.stmt] = []
        self.outside: set[str] = set()  # names that are read before they are assigned to
        self.inside: Counter[str] = Counter()  # how often names are read
        self.stores: list[tuple[ast.Subscript, str, str]] = []  # where, what, and the place as it is written

    def written(self, test: str, rest: list[ast.stmt]) -> list[ast.stmt] | None:
        """What computes both sides, and what follows, and selects; None if they do more than that.

        Args:
            test: the name of the condition.
            rest: what follows, where one side does not go on to it.
        """
        for each in (self.branch, *rest):
            self.inside.update(_reads(each))
        self.inside.subtract(_reads(self.branch.test))
        names: dict[str, str | None] = {}
        try:
            if not self._branch(self.branch, _name(test), names, rest) and rest:
                return None
        except NoSelectionError:
            return None
        returned = names.get(_RETURNED)
        if returned is not None:
            self.statements.append(ast.Return(_name(returned)))
        else:
            for name, value in names.items():
                if value is not None and (name in self.outside or not self._is_private(name)):
                    self._assign(_name(name, True), _name(value))
        return [ast.copy_location(each, self.branch.test) for each in self.statements] or None

    def _is_private(self, name: str) -> bool:
        """Whether nobody else reads a name."""
        return self.rewriter.reads[name] <= self.inside[name]

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        self.statements.append(ast.Assign([target], value))

    def _kept(self, value: ast.expr) -> str:
        """The name of a new variable with this value."""
        name = self.rewriter.fresh()
        self._assign(_name(name, True), value)
        return name

    def _value(self, node: ast.expr, names: dict[str, str | None]) -> Any:
        """An expression on one side, which only computes."""
        node = _Renamed(names, self.outside).visit(self.rewriter.visit(copy.deepcopy(node)))
        if not _gives(node):
            raise NoSelectionError
        return _Items().visit(node)

    def _do(self, statements: list[ast.stmt], names: dict[str, str | None]) -> bool:
        """Do statements; whether nothing comes after them."""
        for k, each in enumerate(statements):
            if self.stores:
                raise NoSelectionError  # they could be read
            if isinstance(each, ast.Return) and each.value is not None:
                names[_RETURNED] = self._kept(self._value(each.value, names))
                return True
            if isinstance(each, ast.Continue) and self.loops:
                return True
            if isinstance(each, ast.If):
                test = _Renamed(names, self.outside).visit(self.rewriter.visit(copy.deepcopy(each.test)))
                if not _compares(test):
                    raise NoSelectionError
                if self._branch(each, _name(self._kept(_test(test))), names, statements[k + 1 :], inner=True):
                    return True
            elif not isinstance(each, ast.Pass):
                self._do_one(each, names)
        return False

    def _do_one(self, statement: ast.stmt, names: dict[str, str | None]) -> None:
        """Do an assignment."""
        if isinstance(statement, ast.AugAssign):
            target: Any = copy.deepcopy(statement.target)
            target.ctx = ast.Load()
            value = self._value(ast.BinOp(target, statement.op, statement.value), names)
            before = _name(self._kept(value.left))
            self.statements.append(ast.Expr(_called("number", before)))
            self._store(statement.target, ast.BinOp(before, value.op, value.right), names)
            return
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
            raise NoSelectionError
        targets: list[ast.expr] = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if isinstance(targets[0], ast.Tuple) and len(targets) == 1:
            items = targets[0].elts
            if not isinstance(statement.value, ast.Tuple) or len(statement.value.elts) != len(items):
                raise NoSelectionError
            values = [_name(self._kept(self._value(item, names))) for item in statement.value.elts]
        else:
            items, values = targets, [_name(self._kept(self._value(statement.value, names)))] * len(targets)
        for item, value in zip(items, values, strict=True):
            self._store(item, value, names)

    def _store(self, target: ast.expr, value: ast.expr, names: dict[str, str | None]) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = self._kept(value)
            return
        if not isinstance(target, ast.Subscript) or any(
            isinstance(each, ast.Subscript) for each in ast.walk(target.slice)
        ):
            raise NoSelectionError
        container = _name(self._kept(self._value(target.value, names)))
        self.statements.append(ast.Expr(_called("container", container)))
        place = ast.Subscript(container, _name(self._kept(self._value(target.slice, names))), ast.Load())
        text = "" if any(name in names for name in _reads(target)) else ast.dump(target)
        self.stores.append((place, self._kept(value), text))

    def _branch(
        self, branch: ast.If, test: ast.expr, names: dict[str, str | None], rest: list[ast.stmt], inner: bool = False
    ) -> bool:
        """Do both sides, and what follows if one of them does not go on to it, and select.

        Returns whether nothing comes after them.
        """
        bodies = [branch.body, branch.orelse]
        ends = list(map(_ends, bodies))
        sides, stores = [], []
        for body, end in zip(bodies, ends, strict=True):
            goes_on = any(ends) and not end
            side = dict(names)
            ended = self._do([*body, *rest] if goes_on else body, side)
            if ended is not end and not (goes_on and (ended or not inner)):
                raise NoSelectionError
            sides.append(side)
            stores.append(self.stores)
            self.stores = []
        if (_RETURNED in sides[0]) is not (_RETURNED in sides[1]) or (inner and any(stores)):
            raise NoSelectionError
        self._select(test, sides, stores, names)
        return any(ends)

    def _select(
        self, test: ast.expr, sides: list[dict[str, str | None]], stores: Any, names: dict[str, str | None]
    ) -> None:
        """Select what names are, and what is stored."""
        values: list[list[str]] = [[], []]
        changed = []
        for name in {**sides[0], **sides[1]}:
            missing = not all(name in side for side in sides)
            if not missing and sides[0][name] == sides[1][name]:
                names[name] = sides[0][name]
                continue
            if _RETURNED in sides[0] and name != _RETURNED:
                if name in self.rewriter.seen:
                    raise NoSelectionError
                continue
            if missing and self._is_private(name) and name not in self.outside:
                names[name] = None  # it may have no value
            elif any(side.get(name, name) is None for side in sides):
                names[name] = None
            else:
                if missing:
                    self.outside.add(name)
                changed.append(name)
                for value, side in zip(values, sides, strict=True):
                    value.append(side.get(name) or name)
        first, second = stores
        if first and second:
            if not first[0][2] or [text for *_, text in first] != [text for *_, text in second]:
                raise NoSelectionError  # they may be one place
            places = [place for place, *_ in first]
            for value, kept in zip(values, stores, strict=True):
                value += [stored for _, stored, _ in kept]
        else:
            places = [place for place, *_ in first or second]
            values[not first] += [stored for _, stored, _ in first or second]
            values[bool(first)] += map(self._kept, places)
        if not values[0]:
            return
        results = [self.rewriter.fresh() for _ in values[0]]
        tuples = [ast.Tuple(list(map(_name, value)), ast.Load()) for value in values]
        targets: list[ast.expr] = [_name(each, True) for each in results]
        self._assign(ast.Tuple(targets, ast.Store()), _called("select", test, *tuples))
        names.update(zip(changed, results, strict=False))
        for item, result in zip(places, results[len(changed) :], strict=True):
            self._assign(ast.Subscript(item.value, item.slice, ast.Store()), _name(result))


def _ends(statements: list[ast.stmt]) -> bool:
    """Whether nothing comes after statements: they return, or go on with the next round of a loop."""
    last = statements[-1] if statements else None
    if isinstance(last, ast.If):
        return _ends(last.body) and _ends(last.orelse)
    return isinstance(last, (ast.Return, ast.Continue))


class _Renamed(ast.NodeTransformer):
    """An expression on one side of a branch: what its names stand for; others are noted."""

    def __init__(self, names: dict[str, str | None], outside: set[str]) -> None:
        self.names, self.outside = names, outside

    def visit_Name(self, node: ast.Name) -> ast.Name:
        name = self.names.get(node.id, node.id)
        if name is None:
            raise NoSelectionError
        if node.id not in self.names:
            self.outside.add(node.id)
        return ast.copy_location(_name(name), node)


_BUILTINS = ("max", "min", "sorted")


# --- code -----------------------------------------------------------------------------------------------------------


def selecting(
    run: Callable[[], R],
    functions: Iterable[FunctionType],
    sites: Collection[tuple[Place, int]],
    no_selections: Collection[int] = (),
    others: Sequence[Change] = (),
) -> R | None:
    """What `run` returns while functions select instead of branching; None if that cannot be.

    Args:
        run: traces.
        functions: those that are called.
        sites: the places of the code, and the lines, where they have branched.
        no_selections: the lines of branches that stay as they are.
        others: what else is written in another way.
    """
    places, lines = {each for each, _ in sites}, {line for _, line in sites}
    chosen, without = list(functions), set(no_selections)
    _selections.outer = len(recorders())

    def concerns(function: FunctionType) -> bool:
        code = function.__code__
        if any(place(each) in places for each in codes_in(code)):
            return True
        return not (is_internal(code.co_filename) or all(_CLASSES.isdisjoint(each.co_names) for each in codes_in(code)))

    codes = [code for function in chosen if concerns(function) for code in codes_in(function.__code__)]
    ours = set(map(place, codes))
    for _ in range(_FAILURES):
        visitor = functools.partial(_Rewriter, lines=lines, without=frozenset(without))
        try:
            return run_with(run, chosen, [Change(_MARK, _selections, concerns, visitor), *others], 1.0)
        except (UnchangedError, BusyError):
            return None
        except (Exception, NoSelectionError) as error:  # the user's code, perhaps, which needs a number, or a branch
            line = error.args[0] if isinstance(error, NoSelectionError) and error.args else _line_of(error, ours)
        if line in without:
            return None
        without.add(line)
    return None


def _line_of(error: BaseException, places: Collection[Place]) -> int:
    """The last line of some code that led to an error."""
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if place(frame.f_code) in places]
    return lines[-1] if lines else -1
