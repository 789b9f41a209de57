"""Folding of constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....runtime.errors import ARITHMETIC_ERRORS
from ....runtime.primitives import TABLE
from ..builder import Indices, ProgramBuilder
from ..program import Program

#: In so many steps, constants that are computed of constants are looked for by columns.
_STEPS = 6


def fold_constants(program: Program) -> Program:
    """Replace equations whose operands are all constants by the number that they compute.

    An equation that raises stays, so that it raises where the interpreter would: when it runs.

    Example:
        >>> from flatgrad.compiler.program.builder import Group
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> program = f.finish([f.emit("add", 0, f.emit("mul", f.constant(2.0), f.constant(3.0)))])
        >>> print(program)
        program f(x):
            v1 = mul 2.0 3.0
            v2 = add x v1
            return v2
        >>> print(fold_constants(program))
        program f(x):
            v1 = add x 6.0
            return v1
    """
    if not len(program):
        return program
    highest = np.maximum.reduceat(np.array(program.operands), np.array(program.starts)[:-1])
    if not (highest < 0).any():
        return program
    builder = ProgramBuilder.like(program)
    constants = _fold(program, highest, builder)
    variables = program.inputs + len(program)
    stays = np.ones(variables, dtype=bool)
    stays[[operand for operand in constants if operand >= 0]] = False
    where = np.cumsum(stays) - 1
    where[~stays] = [operand for variable, operand in constants.items() if variable >= 0]
    return builder.rebuild(program, np.flatnonzero(stays[program.inputs :]), where.__getitem__)


def _fold(program: Program, highest: Any, builder: ProgramBuilder) -> dict[int, int]:
    """Where the constants go, and the variables that turn out to be constant: to constants of `builder`.

    `highest` is each equation's highest operand. Only where that one is a constant can the equation be folded.
    """
    starts, operands, constants = program.starts, program.operands, builder.program.constants
    targets = {~k: builder.constant(program.constants[k]) for k in reversed(range(len(program.constants)))}
    for index in _candidates(highest, program.inputs):
        refs = operands[starts[index] : starts[index + 1]]
        if all(ref in targets for ref in refs):
            try:
                number = TABLE[program.opcodes[index]].evaluate(*[constants[~targets[ref]] for ref in refs])
            except ARITHMETIC_ERRORS:
                continue
            targets[program.inputs + index] = builder.constant(number)
    return targets


def _candidates(highest: Indices, inputs: int) -> list[int]:
    """The equations whose highest operand is a constant, or the result of such an equation, in order.

    Where constants are computed of each other in many steps: all from the first one on.
    """
    chosen = np.concatenate([np.zeros(inputs, dtype=bool), highest < 0])
    operands = np.maximum(highest, 0)
    for _ in range(_STEPS):
        before = np.count_nonzero(chosen)
        chosen[inputs:] |= chosen[operands] & (highest >= 0)
        if np.count_nonzero(chosen) == before:
            return np.flatnonzero(chosen[inputs:]).tolist()
    return list(range(int(np.argmax(chosen)) - inputs, len(highest)))
