"""Simplification: the rules of `rules.py`, applied in one forward sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....runtime import primitives as p
from ....runtime.primitives import OPCODES, TABLE
from ..program import Program
from ..rewriter import Rewriter
from .rules import EXACT_RULES, RULES, Rule, View

#: The commonest primitives are looked at only where a rule could apply: where an operand is a constant (a rule that
#: wants a constant and something else finds it so), or was made by a primitive that a rule looks for.
COMMON = (p.add.opcode, p.mul.opcode)


class Rewriting:
    """Rules by the primitives that they rewrite, and how they are applied: until none fires.

    Attributes:
        by_opcode: the rules.
        telling: per opcode, whether rules for the commonest primitives look for it among what made the operands.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.by_opcode: list[list[Rule]] = [[] for _ in TABLE]
        self._total = bytearray(OPCODES)  # total forms: what a rule makes of one is a total form, too
        self.telling: bytearray = bytearray(OPCODES)
        for rule in rules:
            self.by_opcode[rule.primitive.opcode].append(rule)
            for primitive in rule.looks_at if rule.primitive.opcode in COMMON else ():
                self.telling[primitive.opcode] = 1
            form = rule.primitive.total
            if form is not None and form is not rule.primitive:
                self.by_opcode[form.opcode].append(rule)
                self._total[form.opcode] = 1

    def apply(self, view: Any, opcode: int, operands: Sequence[Any]) -> tuple[int, Any]:
        """The opcode and operands of the equation that replaces one; or -1 and the operand that does."""
        if opcode >= len(self.by_opcode):  # a row of a user's, which the table got later
            return opcode, operands
        while True:
            for rule in self.by_opcode[opcode]:
                result = rule.rewrite(view, operands)
                if result is not None:
                    view.note(rule.name)
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
    telling = rewriting.telling
    changed = False
    for opcode, refs in rewriter.equations():
        if opcode in COMMON:
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


def simplify(program: Program) -> Program:
    """Rewrite equations by the rules that keep all bits, and drop those that pass on what they read.

    Must run after the adjoint.

    Example:
        >>> from flatgrad.compiler.program.builder import Group, ProgramBuilder
        >>> f = ProgramBuilder("f", [Group("x", 1, True), Group("y", 1, True)])
        >>> difference = f.emit("add", 0, f.emit("mul", 1, f.constant(-1.0)))
        >>> program = f.finish([f.emit("mul", difference, f.constant(1.0))])
        >>> print(program)
        program f(x, y):
            v2 = mul y -1.0
            v3 = add x v2
            v4 = mul v3 1.0
            return v4

        Dead code is left to the next pass:

        >>> print(simplify(program))
        program f(x, y):
            v2 = neg y
            v3 = sub x y
            return v3
    """
    return simplify_with(EXACT_RULES, program)


def simplify_fast(program: Program) -> Program:
    """Rewrite equations by all rules, those among them that hold for real numbers only; for `mode="fast"`.

    Example:
        >>> from flatgrad.compiler.program.builder import Group, ProgramBuilder
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> program = f.finish([f.emit("power", 0, f.constant(2.0))])
        >>> print(program)
        program f(x):
            v1 = power x 2.0
            return v1
        >>> print(simplify_fast(program))
        program f(x):
            v1 = mul x x
            return v1
    """
    return simplify_with(RULES, program)
