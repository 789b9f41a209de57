"""What to write with `where` in place of a branch of an expression, so that nothing raises on the side not taken.

`where` computes both sides. So each operation that is not defined everywhere gets an operand that is selected, too:
`log(x) if x > 0 else y` becomes `where(x > 0, log(where(x > 0, x, 1)), y)`.
"""

from __future__ import annotations

import ast
import copy
import math
from collections.abc import Callable
from functools import reduce

from .runtime.primitive import REAL
from .runtime.primitives import BY_NAME, power

#: The rows of operators that can raise.
_ROWS: dict[type[ast.AST], str] = {ast.Div: "div", ast.FloorDiv: "floordiv", ast.Mod: "mod", ast.Pow: "power"}
#: The fields of an expression that are its operands.
_OPERANDS: dict[type[ast.AST], tuple[str, ...]] = {
    ast.BinOp: ("left", "right"), ast.UnaryOp: ("operand",), ast.Compare: ("left", "comparators"), ast.Call: ("args",),
    ast.List: ("elts",), ast.Tuple: ("elts",),
}  # fmt: skip

#: Selects an operand, or a number where the side is not taken.
_Select = Callable[[ast.expr, ast.expr], ast.expr]


def selection_of(branch: ast.IfExp, modules: tuple[str, ...], raises: Callable[[ast.expr], bool]) -> ast.expr:
    """A call of `where` that stands for a branch, and for those within it.

    Args:
        branch: the branch.
        modules: names of modules, which calls of functions need not have.
        raises: whether an expression without names raises, or a derivative of it.
    """
    result: ast.expr = _Selecting(modules, raises).visit(branch)
    return result


class _Selecting(ast.NodeTransformer):
    """Replaces branches, and `and`, `or`, `not` and chains of comparisons, which conditions do not have."""

    def __init__(self, modules: tuple[str, ...], raises: Callable[[ast.expr], bool]) -> None:
        self._modules, self._raises = modules, raises

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        test, body, orelse = self.visit(node.test), self.visit(node.body), self.visit(node.orelse)
        body, _ = self._guarded(body, lambda operand, number: _call("where", test, operand, number))
        orelse, _ = self._guarded(orelse, lambda operand, number: _call("where", test, number, operand))
        return _call("where", test, body, orelse)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        sign = ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr()
        values: list[ast.expr] = [self.visit(value) for value in node.values]
        return reduce(lambda a, b: ast.BinOp(a, sign, b), values)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        return ast.UnaryOp(ast.Invert() if isinstance(node.op, ast.Not) else node.op, self.visit(node.operand))

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        terms = [self.visit(term) for term in (node.left, *node.comparators)]
        pairs: list[ast.expr] = []
        for left, op, right in zip(terms, node.ops, terms[1:], strict=False):
            pairs.append(ast.Compare(left, [op], [right]))
        return reduce(lambda a, b: ast.BinOp(a, ast.BitAnd(), b), pairs)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        arguments = [self.visit(argument) for argument in node.args]
        if not isinstance(node.func, ast.Attribute) or node.func.attr not in BY_NAME:
            return ast.Call(node.func, arguments, node.keywords)
        owner = node.func.value
        of_module = isinstance(owner, ast.Name) and owner.id in self._modules
        return _call(node.func.attr, *([] if of_module else [self.visit(owner)]), *arguments)

    def _guarded(self, node: ast.expr, select: _Select) -> tuple[ast.expr, ast.expr | None]:
        """A part of a side with operands at which nothing raises; and what it is where the side is not taken.

        The latter is None if it has names, whose numbers nobody knows.
        """
        operands = _operands_of(node)
        if not operands:
            return node, node if isinstance(node, ast.Constant) else None
        pairs = [self._guarded(operand, select) for operand in operands]
        guarded, others = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        other = _with_operands(node, others)
        if other is None or self._raises(other):
            for k, number in _numbers_for(node, operands).items():
                others[k] = ast.Constant(number)
                guarded[k] = select(guarded[k], ast.Constant(number))
            other = _with_operands(node, others)
        return _with_operands(node, guarded) or node, other


def _numbers_for(node: ast.expr, operands: list[ast.expr]) -> dict[int, float]:
    """For an operation that can raise, numbers at which it does not: those of the operands that decide it."""
    name = _ROWS.get(type(node.op), "") if isinstance(node, ast.BinOp) else ""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name = node.func.id
    row = BY_NAME.get(name)
    if row is None or not (row.raises or row.remedy) or row.requires == "a finite x":
        return {}
    varying = [k for k, operand in enumerate(operands) if _constant(operand) is None]
    if row is power:
        exponent = _constant(operands[-1])
        varying = [] if exponent is not None and exponent > 0 and exponent.is_integer() else varying[:1]
    elif any(interval != REAL for interval in row.domain):
        varying = [k for k in varying if row.domain[k] != REAL]
    return {k: _number_in(*row.domain[k]) for k in varying if k < row.arity}


def _number_in(low: float, high: float) -> float:
    """A short number in an open interval."""
    if low < 1.0 < high:
        return 1
    return math.floor(low) + 1 if high == math.inf else (low + high) / 2 or 0


def _constant(node: ast.expr) -> float | None:
    try:
        return float(ast.literal_eval(node))
    except (ValueError, TypeError):
        return None


def _operands_of(node: ast.expr) -> list[ast.expr]:
    found: list[ast.expr] = []
    for field in _OPERANDS.get(type(node), ()):
        value = getattr(node, field)
        found += value if isinstance(value, list) else [value]
    return found


def _with_operands(node: ast.expr, operands: list[ast.expr | None] | list[ast.expr]) -> ast.expr | None:
    """The operation of other operands; None if one is None."""
    if None in operands:
        return None
    rest, result = list(operands), copy.copy(node)
    for field in _OPERANDS[type(node)]:
        old = getattr(node, field)
        setattr(result, field, [rest.pop(0) for _ in old] if isinstance(old, list) else rest.pop(0))
    return result


def _call(name: str, *arguments: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])
