"""Elimination of common subexpressions."""

from __future__ import annotations

from ....runtime.primitives import TABLE
from ..program import Program
from ..rewriter import Rewriter


def share_common_subexpressions(program: Program) -> Program:
    """Compute each expression once: equations with the same primitive and operands share one variable.

    Value numbering in one forward sweep (Cocke and Schwartz, 1970). The operands of a commutative primitive are put in
    order first: `a + b` and `b + a` have the same bits. Must run after the adjoint; before it, it would merge the
    places where gradients are added.

    Example:
        >>> from flatgrad.compiler.program.builder import Group, ProgramBuilder
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> program = f.finish([f.emit("mul", f.emit("exp", 0), f.emit("exp", 0))])
        >>> print(program)
        program f(x):
            v1 = exp x
            v2 = exp x
            v3 = mul v1 v2
            return v3
        >>> print(share_common_subexpressions(program))
        program f(x):
            v1 = exp x
            v2 = mul v1 v1
            return v2
    """
    rewriter = Rewriter(program)
    variables: dict[tuple[int, ...], int] = {}  # by primitive and operands
    commutative = [primitive.commutative for primitive in TABLE]
    get, keep, replace = variables.get, rewriter.keep, rewriter.replace
    shared = False
    for opcode, refs in rewriter.equations():
        key: tuple[int, ...]
        if commutative[opcode]:
            a, b = refs
            key = (opcode, a, b) if a < b else (opcode, b, a)
        else:
            key = (opcode, *refs)
        variable = get(key)
        if variable is None:
            variables[key] = keep(opcode, refs)
        else:
            replace(variable)
            shared = True
    return rewriter.finish() if shared else program
