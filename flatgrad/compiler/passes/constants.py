"""Folding of constants."""

from __future__ import annotations

from ...runtime.errors import ARITHMETIC_ERRORS
from ...runtime.primitives import TABLE
from ..program import Program, ProgramBuilder


def fold_constants(program: Program) -> Program:
    """Replace equations whose operands are all constants by the number that they compute.

    An equation that raises stays, so that it raises where the interpreter would: when it runs.

        v1 = mul 2.0 3.0        =>
        v2 = add x v1                   v1 = add x 6.0
    """
    starts, operands, opcodes = program.starts, program.operands, program.opcodes
    inputs, constants = program.inputs, program.constants
    if not _any_constant_equation(program):
        return program
    builder = ProgramBuilder.like(program)
    renamed = list(range(inputs))  # variable -> operand of the new program
    kept_constants = [builder.constant(number) for number in constants]
    primal = 0
    for index, opcode in enumerate(opcodes):
        refs = [renamed[o] if o >= 0 else kept_constants[~o] for o in operands[starts[index] : starts[index + 1]]]
        if max(refs) < 0:
            try:
                number = TABLE[opcode].evaluate(*[builder.program.constants[~ref] for ref in refs])
                renamed.append(builder.constant(number))
                continue
            except ARITHMETIC_ERRORS:
                pass
        target = program.adjoint_of[index]
        if target >= inputs:
            target = renamed[target] if renamed[target] >= 0 else -1
        renamed.append(builder.append(opcode, refs, program.sites[index], target))
        if index < program.primal:
            primal += 1
    outputs = [renamed[o] if o >= 0 else kept_constants[~o] for o in program.outputs]
    return builder.finish(outputs, program.output_groups, primal)


def _any_constant_equation(program: Program) -> bool:
    starts, operands = program.starts, program.operands
    return any(max(operands[starts[k] : starts[k + 1]]) < 0 for k in range(len(program)))
