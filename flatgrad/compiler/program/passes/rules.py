"""The rules of simplification: a table. Each row says its identity, and whether that holds for every float."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from ....runtime import primitives as p
from ....runtime.primitives import Primitive
from ..notes import Notes
from ..rewriter import Rewriter

#: Names of the rules that have been applied in this process; the tests want to see all of them.
FIRED: set[str] = set()
#: Which rules rewrite which equations.
_notes = Notes("rules", dict[int, list[str]])


def noting_rules() -> AbstractContextManager[dict[int, list[str]]]:
    """Note which rules rewrite which equations of a program, in order: for those who want to show it.

    Example:
        >>> from flatgrad.compiler.program.builder import Group, ProgramBuilder
        >>> from flatgrad.compiler.program.passes import simplify
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> with noting_rules() as fired:
        ...     _ = simplify(f.finish([f.emit("mul", 0, f.constant(1.0))]))
        >>> fired
        {0: ['mul_one']}
    """
    return _notes.asked()


class View:
    """What a rule sees of what is being rewritten: here a program, in `reroll/packs.py` lanes that do the same.

    An operand is an integer as in `Program`: a variable, or `~k` for a constant. Rules treat operands as opaque. What
    cannot be made is None, and a rule that needs it does not apply.
    """

    def __init__(self, rewriter: Rewriter) -> None:
        self._rewriter, self._inputs = rewriter, rewriter.program.inputs
        self._fired = _notes.kept

    @property
    def equation(self) -> int:
        """Which equation is being rewritten."""
        return self._rewriter.index

    def number(self, operand: int) -> float | bool | None:
        """The number of a constant; None for a variable."""
        return self._rewriter.constants[~operand] if operand < 0 else None

    def operands_of(self, operand: int, primitive: Primitive) -> Sequence[int] | None:
        """The operands of the equation that made `operand`, if it is one of this primitive; else None."""
        new, index = self._rewriter, operand - self._inputs
        if index < 0 or new.opcodes[index] != primitive.opcode:
            return None
        return new.operands[new.starts[index] : new.starts[index + 1]]

    def same(self, a: int, b: int) -> bool:
        """Whether two operands are the same."""
        return a == b

    def insert(self, primitive: Primitive, *operands: int) -> int | None:
        """A new equation on the way to the result; returns its variable."""
        return self._rewriter.insert(primitive.opcode, operands)

    def constant(self, number: float | bool) -> int | None:
        """The operand for a number."""
        return self._rewriter.constant(number)

    def note(self, rule: str) -> None:
        """A rule has been applied."""
        FIRED.add(rule)
        if self._fired is not None:
            self._fired.setdefault(self.equation, []).append(rule)


#: A rule returns the operand that replaces the equation, or a new equation, or None where it does not apply.
Result = Any


class Rule(NamedTuple):
    """One simplification.

    Attributes:
        name: for messages and for the test that every rule fires.
        primitive: the row whose equations it rewrites.
        identity: what it does, in a line.
        exact: whether it holds bit for bit for every float, signed zeros, infinities and NaN included.
        rewrite: the rule.
        looks_at: the primitives that it looks for among what made the operands; constants it always sees.
    """

    name: str
    primitive: Primitive
    identity: str
    exact: bool
    rewrite: Callable[[Any, Sequence[Any]], Result]
    looks_at: tuple[Primitive, ...] = ()


def _is(number: float | bool | None, target: float) -> bool:
    """Whether a constant is this number, sign of zero included."""
    return (
        number == target and not isinstance(number, bool) and math.copysign(1.0, number) == math.copysign(1.0, target)
    )


def _other(view: View, refs: Sequence[int], target: float) -> int | None:
    """The other operand, where one of the two is the constant `target`."""
    a, b = refs
    return a if _is(view.number(b), target) else b if _is(view.number(a), target) else None


def _negated(view: View, operand: int) -> int | None:
    operands = view.operands_of(operand, p.neg)
    return operands[0] if operands is not None else None


def _mul_minus_one(view: View, refs: Sequence[int]) -> Result:
    other = _other(view, refs, -1.0)
    return None if other is None else (p.neg, (other,))


def _mul_negatives(view: View, refs: Sequence[int]) -> Result:
    a, b = _negated(view, refs[0]), _negated(view, refs[1])
    return None if a is None or b is None else (p.mul, (a, b))


def _mul_negative(view: View, refs: Sequence[int]) -> Result:
    for x, y in ((refs[0], refs[1]), (refs[1], refs[0])):
        a = _negated(view, x)
        product = view.insert(p.mul, a, y) if a is not None else None
        if product is not None:
            return p.neg, (product,)
    return None


def _add_negative(view: View, refs: Sequence[int]) -> Result:
    b = _negated(view, refs[1])
    if b is not None:
        return p.sub, (refs[0], b)
    a = _negated(view, refs[0])
    return None if a is None else (p.sub, (refs[1], a))


def _add_negative_constant(view: View, refs: Sequence[int]) -> Result:
    for x, c in ((refs[0], refs[1]), (refs[1], refs[0])):
        number = view.number(c)
        positive = view.constant(-number) if number is not None and number < 0.0 else None
        if positive is not None:
            return p.sub, (x, positive)
    return None


def _sub_negative(view: View, refs: Sequence[int]) -> Result:
    b = _negated(view, refs[1])
    return None if b is None else (p.add, (refs[0], b))


def _power_is(exponent: float, result: Callable[[View, int], Result]) -> Callable[[View, Sequence[int]], Result]:
    def rewrite(view: View, refs: Sequence[int]) -> Result:
        number = view.number(refs[1])
        return result(view, refs[0]) if number is not None and number == exponent else None

    return rewrite


def _add_zero_twice(view: View, refs: Sequence[int]) -> Result:
    inner = _other(view, refs, 0.0)
    terms = view.operands_of(inner, p.add) if inner is not None else None
    return inner if terms is not None and _other(view, terms, 0.0) is not None else None


def _where_constant(view: View, refs: Sequence[int]) -> Result:
    condition = view.number(refs[0])
    return None if condition is None else refs[1] if condition else refs[2]


def _where_not(view: View, refs: Sequence[int]) -> Result:
    opposite = view.operands_of(refs[0], p.logical_not)
    return None if opposite is None else (p.where, (opposite[0], refs[2], refs[1]))


def _not_not(view: View, refs: Sequence[int]) -> Result:
    opposite = view.operands_of(refs[0], p.logical_not)
    return None if opposite is None else opposite[0]


def _mul_zero(view: View, refs: Sequence[int]) -> Result:
    for zero in (0.0, -0.0):
        if _other(view, refs, zero) is not None:
            return view.constant(0.0)
    return None


def _mul_reciprocal(view: View, refs: Sequence[int]) -> Result:
    for a, b in ((refs[0], refs[1]), (refs[1], refs[0])):
        quotient = view.operands_of(b, p.div)
        if quotient is not None and _is(view.number(quotient[0]), 1.0):
            return p.div, (a, quotient[1])
    return None


def _quotient(a: Any, b: Any) -> Result:
    return None if a is None else (p.div, (a, b))


RULES: tuple[Rule, ...] = (
    # x + 0.0 -> x is wrong for x = -0.0
    Rule("add_negative_zero", p.add, "x + (-0.0) -> x", True, lambda v, r: _other(v, r, -0.0)),
    Rule("add_zero_twice", p.add, "(x + 0.0) + 0.0 -> x + 0.0", True, _add_zero_twice),
    Rule("add_negative", p.add, "a + (-b) -> a - b", True, _add_negative, (p.neg,)),
    Rule("add_negative_constant", p.add, "x + (-c) -> x - c", True, _add_negative_constant),
    Rule("sub_negative", p.sub, "a - (-b) -> a + b", True, _sub_negative),
    Rule("mul_one", p.mul, "x * 1 -> x", True, lambda v, r: _other(v, r, 1.0)),
    Rule("mul_minus_one", p.mul, "x * -1 -> -x", True, _mul_minus_one),
    Rule("mul_negatives", p.mul, "(-a) * (-b) -> a * b", True, _mul_negatives, (p.neg,)),
    Rule("mul_negative", p.mul, "(-a) * b -> -(a * b)", True, _mul_negative, (p.neg,)),
    Rule("neg_negative", p.neg, "-(-x) -> x", True, lambda v, r: _negated(v, r[0])),
    Rule("div_one", p.div, "x / 1 -> x", True, lambda v, r: r[0] if _is(v.number(r[1]), 1.0) else None),
    Rule("power_one", p.power, "x ** 1 -> x", True, _power_is(1.0, lambda v, x: x)),
    Rule("where_not", p.where, "where(not c, a, b) -> where(c, b, a)", True, _where_not),
    Rule("not_not", p.logical_not, "not (not c) -> c", True, _not_not),
    Rule("maximum_same", p.maximum, "maximum(x, x) -> x", True, lambda v, r: r[0] if v.same(*r) else None),
    # after the adjoint it has done its work
    Rule("detach_identity", p.detach, "detach(x) -> x", True, lambda v, r: r[0]),
    # --- not exact: true of real numbers, not of every float; or it drops an operand whose computation may raise ---
    # c may raise
    Rule("where_same", p.where, "where(c, a, a) -> a", False, lambda v, r: r[1] if v.same(*r[1:]) else None),
    Rule("where_constant", p.where, "where(True, a, b) -> a", False, _where_constant),  # b may raise
    Rule("power_zero", p.power, "x ** 0 -> 1", False, _power_is(0.0, lambda v, x: v.constant(1.0))),  # x may raise
    Rule("add_zero", p.add, "x + 0 -> x", False, lambda v, r: _other(v, r, 0.0)),  # not for x = -0.0
    Rule("mul_zero", p.mul, "x * 0 -> 0", False, _mul_zero),  # not for infinities, NaN and negative x
    # differs in the last bit for about 8 arguments in 10,000
    Rule("power_two", p.power, "x ** 2 -> x * x", False, _power_is(2.0, lambda v, x: (p.mul, (x, x)))),
    Rule("power_minus_one", p.power, "x ** -1 -> 1 / x", False,
         _power_is(-1.0, lambda v, x: _quotient(v.constant(1.0), x))),
    # differs for x = -inf
    Rule("power_half", p.power, "x ** 0.5 -> sqrt(x)", False, _power_is(0.5, lambda v, x: (p.sqrt, (x,)))),
    Rule("mul_reciprocal", p.mul, "a * (1 / b) -> a / b", False, _mul_reciprocal, (p.div,)),
)  # fmt: skip

EXACT_RULES = tuple(rule for rule in RULES if rule.exact)
#: Those of array programs: there, `x + c` and `x - d` would be other rounds of a loop, where constants differ in sign.
ARRAY_RULES = tuple(rule for rule in RULES if rule.name != "add_negative_constant")
#: Those of programs that become parts of others, which may be differentiated: there `detach` has its work before it.
PART_RULES = tuple(rule for rule in ARRAY_RULES if rule.name != "detach_identity")
EXACT_PART_RULES = tuple(rule for rule in PART_RULES if rule.exact)
EXACT_ARRAY_RULES = tuple(rule for rule in ARRAY_RULES if rule.exact)
