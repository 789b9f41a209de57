"""Dead-code removal."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..builder import ProgramBuilder, column
from ..made_of import GONE
from ..program import Program


def remove_dead_code(program: Program) -> Program:
    """Keep only the equations and constants that the outputs depend on. Inputs stay: they are the signature.

    Example:
        >>> from flatgrad.compiler.program.builder import Group
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> exponential = f.emit("exp", 0)
        >>> program = f.finish([f.emit("mul", 0, 0)])
        >>> print(program)
        program f(x):
            v1 = exp x
            v2 = mul x x
            return v2
        >>> print(remove_dead_code(program))
        program f(x):
            v1 = mul x x
            return v1
    """
    inputs, variables = program.inputs, program.inputs + len(program)
    liveness = _liveness(program)
    if liveness[inputs:].all():
        return program
    liveness[:inputs] = True
    live = liveness[:variables]
    where = np.where(live, np.cumsum(live) - 1, GONE)
    return ProgramBuilder.like(program).rebuild(program, np.flatnonzero(live[inputs:]), where.__getitem__)


def _liveness(program: Program) -> Any:
    """Whether each variable is used in the end, and then each constant, last first, so that `~k` indexes its own.

    Uses are counted; an equation without uses takes back its own. (Programs have no cycles, so that counting suffices.)
    """
    inputs, variables = program.inputs, program.inputs + len(program)
    starts, operands = program.starts, program.operands
    total = variables + len(program.constants)
    everything = np.concatenate([np.array(operands), np.array(program.outputs, dtype=np.int64)])
    counts = np.bincount(everything + total * (everything < 0), minlength=total)
    unused = (np.flatnonzero(counts[inputs:variables] == 0) + inputs).tolist()
    uses = column("q", counts)
    while unused:
        index = unused.pop() - inputs
        for operand in operands[starts[index] : starts[index + 1]]:
            uses[operand] -= 1
            if operand >= inputs and not uses[operand]:
                unused.append(operand)
    return np.array(uses) > 0
