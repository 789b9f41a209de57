"""Dead-code removal."""

from __future__ import annotations

import numpy as np

from ..program import Program, column


def remove_dead_code(program: Program) -> Program:
    """Keep only the equations and constants that the outputs depend on. Inputs stay: they are the signature.

    v1 = exp x              =>
    v2 = mul x x                    v1 = mul x x
    return v2                       return v1
    """
    inputs, count, constants = program.inputs, len(program), len(program.constants)
    starts, operands = program.starts.tolist(), program.operands.tolist()
    # One byte per variable, then one per constant, last first: the operand ~k indexes its constant from the end.
    live = bytearray(inputs + count + constants)
    for output in program.outputs:
        live[output] = 1
    end = starts[count]
    for index in range(count - 1, -1, -1):
        start = starts[index]
        if live[inputs + index]:
            for operand in operands[start:end]:
                live[operand] = 1
        end = start
    marks = np.frombuffer(live, dtype=np.uint8).astype(bool)
    if marks[inputs:].all():
        return program
    alive = marks[inputs : inputs + count]
    kept = marks[: inputs + count].copy()
    kept[:inputs] = True
    # Where each operand goes: variables by counting those kept before, constants likewise, indexed from the end.
    kept_constants = marks[inputs + count :][::-1]
    renamed = np.concatenate([np.cumsum(kept) - 1, (~(np.cumsum(kept_constants) - 1))[::-1]])
    arity = np.diff(np.array(starts))
    result = Program(program.name, program.input_names, program.input_groups)
    result.opcodes = column("H", np.array(program.opcodes)[alive])
    result.operands = column("q", renamed[np.array(operands, dtype=np.int64)[np.repeat(alive, arity)]])
    result.starts = column("q", np.concatenate([[0], np.cumsum(arity[alive])]))
    result.sites = column("i", np.array(program.sites)[alive])
    targets = np.array(program.adjoint_of)[alive]
    known = (targets >= 0) & kept[targets]
    result.adjoint_of = column("q", np.where(known, renamed[targets], -1))
    result.constants = [number for number, keep in zip(program.constants, kept_constants, strict=True) if keep]
    result.locations = program.locations
    result.outputs = [int(renamed[output]) for output in program.outputs]
    result.output_groups = program.output_groups
    if program.update >= 0:
        result.update = int(np.count_nonzero(alive[: program.update]))
    result.primal = int(np.count_nonzero(alive[: program.primal]))
    return result
