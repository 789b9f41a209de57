"""Simplification by named rules. The table below is the pass; each row's identity stands beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ....runtime import primitives as p
from ....runtime.primitives import TABLE, Primitive
from ..builder import Rewriter
from ..program import Program


class View:
    """What a rule sees of what is being rewritten: here a program, in `reroll/packs.py` lanes that do the same.

    An operand is an integer as in `Program`: a variable, or `~k` for a constant. Rules treat operands as opaque. What
    cannot be made is None, and a rule that needs it does not apply.
    """

    def __init__(self, rewriter: Rewriter) -> None:
        self._rewriter, self._inputs = rewriter, rewriter.program.inputs

    def number(self, operand: int) -> float | bool | None:
        """The number of a constant; None for a variable."""
        return self._rewriter.constants[~operand] if operand < 0 else None

    def operands_of(self, operand: int, primitive: Primitive) -> Sequence[int] | None:
        """The operands of the equation that made `operand`, if it is one of this primitive; else None."""
        made = self._rewriter
        index = operand - self._inputs
        if index < 0 or made.opcodes[index] != primitive.opcode:
            return None
        return made.operands[made.starts[index] : made.starts[index + 1]]

    def same(self, a: int, b: int) -> bool:
        """Whether two operands are the same."""
        return a == b

    def insert(self, primitive: Primitive, *operands: int) -> int | None:
        """A new equation on the way to the result; returns its variable."""
        return self._rewriter.insert(primitive.opcode, operands)

    def constant(self, number: float | bool) -> int | None:
        """The operand for a number."""
        return self._rewriter.constant(number)


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


def _is(number: float | bool | None, wanted: float) -> bool:
    """Whether a constant is this number, sign of zero included."""
    return (
        number == wanted and not isinstance(number, bool) and math.copysign(1.0, number) == math.copysign(1.0, wanted)
    )


def _other(view: View, refs: Sequence[int], wanted: float) -> int | None:
    """The other operand, where one of the two is the constant `wanted`."""
    a, b = refs
    return a if _is(view.number(b), wanted) else b if _is(view.number(a), wanted) else None


def _negated(view: View, operand: int) -> int | None:
    made = view.operands_of(operand, p.neg)
    return made[0] if made is not None else None


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
    made = view.operands_of(inner, p.add) if inner is not None else None
    return inner if made is not None and _other(view, made, 0.0) is not None else None


def _where_constant(view: View, refs: Sequence[int]) -> Result:
    condition = view.number(refs[0])
    return None if condition is None else refs[1] if condition else refs[2]


def _where_not(view: View, refs: Sequence[int]) -> Result:
    made = view.operands_of(refs[0], p.logical_not)
    return None if made is None else (p.where, (made[0], refs[2], refs[1]))


def _mul_zero(view: View, refs: Sequence[int]) -> Result:
    for wanted in (0.0, -0.0):
        if _other(view, refs, wanted) is not None:
            return view.constant(0.0)
    return None


def _mul_reciprocal(view: View, refs: Sequence[int]) -> Result:
    for a, b in ((refs[0], refs[1]), (refs[1], refs[0])):
        made = view.operands_of(b, p.div)
        if made is not None and _is(view.number(made[0]), 1.0):
            return p.div, (a, made[1])
    return None


def _quotient(a: Any, b: Any) -> Result:
    return None if a is None else (p.div, (a, b))


RULES: tuple[Rule, ...] = (
    # x + (-0.0) -> x        (x + 0.0 -> x is wrong for x = -0.0)
    Rule("add_negative_zero", p.add, "x + (-0.0) -> x", True, lambda v, r: _other(v, r, -0.0)),
    # (x + 0.0) + 0.0 -> x + 0.0
    Rule("add_zero_twice", p.add, "(x + 0.0) + 0.0 -> x + 0.0", True, _add_zero_twice),
    # a + (-b) -> a - b;  (-a) + b -> b - a
    Rule("add_negative", p.add, "a + (-b) -> a - b", True, _add_negative, (p.neg,)),
    # x + (-2) -> x - 2
    Rule("add_negative_constant", p.add, "x + (-c) -> x - c", True, _add_negative_constant),
    # a - (-b) -> a + b
    Rule("sub_negative", p.sub, "a - (-b) -> a + b", True, _sub_negative),
    # x * 1 -> x
    Rule("mul_one", p.mul, "x * 1 -> x", True, lambda v, r: _other(v, r, 1.0)),
    # x * -1 -> -x
    Rule("mul_minus_one", p.mul, "x * -1 -> -x", True, _mul_minus_one),
    # (-a) * (-b) -> a * b
    Rule("mul_negatives", p.mul, "(-a) * (-b) -> a * b", True, _mul_negatives, (p.neg,)),
    # (-a) * b -> -(a * b)
    Rule("mul_negative", p.mul, "(-a) * b -> -(a * b)", True, _mul_negative, (p.neg,)),
    # -(-x) -> x
    Rule("neg_negative", p.neg, "-(-x) -> x", True, lambda v, r: _negated(v, r[0])),
    # x / 1 -> x
    Rule("div_one", p.div, "x / 1 -> x", True, lambda v, r: r[0] if _is(v.number(r[1]), 1.0) else None),
    # x ** 1 -> x
    Rule("power_one", p.power, "x ** 1 -> x", True, _power_is(1.0, lambda v, x: x)),
    # where(not c, a, b) -> where(c, b, a)
    Rule("where_not", p.where, "where(not c, a, b) -> where(c, b, a)", True, _where_not),
    # maximum(x, x) -> x
    Rule("maximum_same", p.maximum, "maximum(x, x) -> x", True, lambda v, r: r[0] if v.same(*r) else None),
    # detach(x) -> x         (after the adjoint it has done its work)
    Rule("detach_identity", p.detach, "detach(x) -> x", True, lambda v, r: r[0]),
    # --- not exact: true of real numbers, not of every float; or it drops an operand whose computation may raise ---
    # where(c, a, a) -> a    (c may raise)
    Rule("where_same", p.where, "where(c, a, a) -> a", False, lambda v, r: r[1] if v.same(*r[1:]) else None),
    # where(True, a, b) -> a (b may raise)
    Rule("where_constant", p.where, "where(True, a, b) -> a", False, _where_constant),
    # x ** 0 -> 1            (x may raise)
    Rule("power_zero", p.power, "x ** 0 -> 1", False, _power_is(0.0, lambda v, x: v.constant(1.0))),
    # x + 0 -> x             (not for x = -0.0)
    Rule("add_zero", p.add, "x + 0 -> x", False, lambda v, r: _other(v, r, 0.0)),
    # x * 0 -> 0             (not for infinities, NaN and negative x)
    Rule("mul_zero", p.mul, "x * 0 -> 0", False, _mul_zero),
    # x ** 2 -> x * x        (differs in the last bit for about 8 arguments in 10,000)
    Rule("power_two", p.power, "x ** 2 -> x * x", False, _power_is(2.0, lambda v, x: (p.mul, (x, x)))),
    # x ** -1 -> 1 / x
    Rule("power_minus_one", p.power, "x ** -1 -> 1 / x", False,
         _power_is(-1.0, lambda v, x: _quotient(v.constant(1.0), x))),
    # x ** 0.5 -> sqrt(x)    (differs for x = -inf)
    Rule("power_half", p.power, "x ** 0.5 -> sqrt(x)", False, _power_is(0.5, lambda v, x: (p.sqrt, (x,)))),
    # a * (1 / b) -> a / b
    Rule("mul_reciprocal", p.mul, "a * (1 / b) -> a / b", False, _mul_reciprocal, (p.div,)),
)  # fmt: skip


class Rewriting:
    """Rules by the primitives that they rewrite, and how they are applied: until none fires."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.by_opcode: list[list[Rule]] = [[] for _ in TABLE]
        self._total = bytearray(len(TABLE))  # total forms: what a rule makes of one is a total form, too
        for rule in rules:
            self.by_opcode[rule.primitive.opcode].append(rule)
            form = rule.primitive.total
            if form is not None and form is not rule.primitive:
                self.by_opcode[form.opcode].append(rule)
                self._total[form.opcode] = 1

    def apply(self, view: Any, opcode: int, operands: Sequence[Any]) -> tuple[int, Any]:
        """The opcode and operands of the equation that replaces one; or -1 and the operand that does."""
        while True:
            for rule in self.by_opcode[opcode]:
                result = rule.rewrite(view, operands)
                if result is not None:
                    FIRED.add(rule.name)
                    break
            else:
                return opcode, operands
            if not isinstance(result, tuple):
                return -1, result
            primitive, operands = result
            opcode = (primitive.total if self._total[opcode] else primitive).opcode


def simplify_with(rules: Sequence[Rule], program: Program) -> Program:
    """Apply rules until none fires, in one forward sweep: operands are simplified before their users."""
    rewriting = Rewriting(rules)
    rewriter = Rewriter(program)
    view = View(rewriter)
    made_by, keep, replace = rewriter.opcodes, rewriter.keep, rewriter.replace
    inputs = program.inputs
    # The commonest primitives are looked at only where a rule could apply: where an operand is a constant (a rule that
    # wants a constant and something else finds it so), or was made by a primitive that a rule looks for.
    common = (p.add.opcode, p.mul.opcode)
    telling = bytearray(len(TABLE))
    for rule in rules:
        if rule.primitive.opcode in common:
            for primitive in rule.looks_at:
                telling[primitive.opcode] = 1
    changed = False
    for opcode, refs in rewriter.equations():
        if opcode in common:
            a, b = refs
            if (
                a >= 0
                and b >= 0
                and not (a >= inputs and telling[made_by[a - inputs]])
                and not (b >= inputs and telling[made_by[b - inputs]])
            ):
                keep(opcode, refs)
                continue
        elif not rewriting.by_opcode[opcode]:
            keep(opcode, refs)
            continue
        new, result = rewriting.apply(view, opcode, refs)
        if new < 0:
            replace(result)
        else:
            keep(new, result)
        changed = changed or result is not refs
    return rewriter.finish() if changed else program


#: Names of the rules that have been applied in this process; the tests want to see all of them.
FIRED: set[str] = set()

EXACT_RULES = tuple(rule for rule in RULES if rule.exact)


def simplify(program: Program) -> Program:
    """Apply the exact rules. Must run after the adjoint.

    v1 = mul y -1.0         =>
    v2 = add x v1                   v1 = sub x y
    v3 = mul v2 1.0
    return v3                       return v1
    """
    return simplify_with(EXACT_RULES, program)


def simplify_fast(program: Program) -> Program:
    """Apply all rules, those that hold for real numbers only among them; for `mode="fast"`.

    v1 = power x 2.0        =>      v1 = mul x x
    """
    return simplify_with(RULES, program)
