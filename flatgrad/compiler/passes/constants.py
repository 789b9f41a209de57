"""Folding of constants."""

from __future__ import annotations

import numpy as np

from ...runtime.errors import ARITHMETIC_ERRORS
from ...runtime.primitives import TABLE
from ..program import Program, Rewriter


def fold_constants(program: Program) -> Program:
    """Replace equations whose operands are all constants by the number that they compute.

    An equation that raises stays, so that it raises where the interpreter would: when it runs.

        v1 = mul 2.0 3.0        =>
        v2 = add x v1                   v1 = add x 6.0
    """
    if not _any_constant_equation(program):
        return program
    rewriter = Rewriter(program)
    constants = rewriter.constants
    for opcode, refs in rewriter.equations():
        if max(refs) < 0:
            try:
                number = TABLE[opcode].evaluate(*[constants[~ref] for ref in refs])
            except ARITHMETIC_ERRORS:
                rewriter.keep(opcode, refs)
            else:
                rewriter.replace(rewriter.constant(number))
        else:
            rewriter.keep(opcode, refs)
    return rewriter.finish()


def _any_constant_equation(program: Program) -> bool:
    if not len(program):
        return False
    highest = np.maximum.reduceat(np.array(program.operands, dtype=np.int64), np.array(program.starts)[:-1])
    return bool((highest < 0).any())
