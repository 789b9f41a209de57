"""Recording many equations at once, where it is certain which ones the operators would record one by one."""

from __future__ import annotations

from collections.abc import Sequence
from sys import _getframe
from typing import Any

import numpy as np

from ...runtime.traced import TracedValue
from ...runtime.value import ADD, MUL, Value, constant
from .program import Program
from .trace import Trace

#: So many equations are recorded before the builder gets them, whose columns are compact.
_SETTLED = 1 << 16


def weighted_sum(trace: Trace, start: Any, weights: Sequence[Any], inputs: Sequence[Any]) -> TracedValue | None:
    """`start + weights[0] * inputs[0] + weights[1] * inputs[1] + ...`, from left to right; None if it must be computed.

    It knows floats among the inputs, and `Value`s that the trace has met before.
    """

    def met(value: Any) -> Any:
        if value.__class__ is Value:
            return trace._references.get(id(value))
        return value._index if value.__class__ is TracedValue and value._trace is trace else None

    first, begin = trace._next, met(start)
    factors = list(map(met, weights)), [trace.reference(x) if x.__class__ is float else met(x) for x in inputs]
    end = first + 2 * len(weights)
    if first == end or begin is None or any(None in column for column in factors):
        return None
    if any(a < 0 and b < 0 for a, b in zip(*factors, strict=True)):  # a product of numbers
        return None
    operands = [begin] * (2 * (end - first))
    operands[::4], operands[1::4] = factors
    operands[3::4] = range(first, end, 2)  # the products
    operands[6::4] = range(first + 1, end - 1, 2)  # the sums so far
    trace._opcodes += [MUL.opcode, ADD.opcode] * len(weights)
    trace._operands += operands
    trace._sites += [trace._site(_getframe(1)) if trace._record_sites else -1] * (end - first)
    trace._next = end
    if len(trace._opcodes) >= _SETTLED:
        trace.settle()
    return trace.value(end - 1)


def inline_each(trace: Trace, program: Program, columns: Sequence[Any]) -> list[list[Any]]:
    """Append the equations of another program for each row of operands, row by row; return its outputs as columns.

    `columns` has for each input of the program one operand per row, or one for all rows. Lines are not kept.
    """
    builder, count = trace.settle(), len(program)
    rows, first = max(map(np.size, columns)), builder.next
    refs = [np.broadcast_to(column, rows) for column in columns]
    refs += [np.arange(first + k, first + k + rows * count, count) for k in range(count)]
    refs += reversed([np.full(rows, builder.constant(number)) for number in program.constants])
    operands = np.array([refs[o] for o in program.operands], dtype=np.int64).T.ravel()
    ends, nothing = np.cumsum(np.tile(np.diff(program.starts), rows)), np.full(rows * count, -1)
    builder.extend(np.tile(program.opcodes, rows), ends, operands, nothing, nothing)
    trace._next = builder.next
    return [
        list(map(trace.value, refs[o].tolist())) if o >= 0 else [constant(program.constants[~o])] * rows
        for o in program.outputs
    ]
