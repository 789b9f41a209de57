"""Dead-code removal."""

from __future__ import annotations

from ..program import Program, ProgramBuilder


def remove_dead_code(program: Program) -> Program:
    """Keep only the equations and constants that the outputs depend on. Inputs stay: they are the signature.

        v1 = exp x              =>
        v2 = mul x x                    v1 = mul x x
        return v2                       return v1
    """
    starts, operands = program.starts, program.operands
    inputs, count = program.inputs, len(program)
    live = bytearray(inputs + count)
    for output in program.outputs:
        if output >= 0:
            live[output] = 1
    for index in range(count - 1, -1, -1):
        if live[inputs + index]:
            for operand in operands[starts[index] : starts[index + 1]]:
                if operand >= 0:
                    live[operand] = 1
    builder = ProgramBuilder.like(program)
    renamed = list(range(inputs))
    constants: dict[int, int] = {}
    opcodes, sites, adjoint_of, append = program.opcodes, program.sites, program.adjoint_of, builder.append
    primal = 0
    for index in range(count):
        if not live[inputs + index]:
            renamed.append(-1)
            continue
        refs = []
        for operand in operands[starts[index] : starts[index + 1]]:
            if operand >= 0:
                refs.append(renamed[operand])
            else:
                ref = constants.get(operand)
                if ref is None:
                    ref = constants[operand] = builder.constant(program.constants[~operand])
                refs.append(ref)
        target = adjoint_of[index]
        if target >= inputs:
            target = renamed[target]
        renamed.append(append(opcodes[index], refs, sites[index], target))
        if index < program.primal:
            primal += 1
    outputs = [renamed[o] if o >= 0 else builder.constant(program.constants[~o]) for o in program.outputs]
    return builder.finish(outputs, program.output_groups, primal)
