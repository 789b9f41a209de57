"""Recording many equations at once, where it is certain which ones the operators would record one by one."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from sys import _getframe
from typing import Any

import numpy as np

from ...runtime.traced import TracedValue
from ...runtime.value import ADD, MUL, Value, constant
from .program import Program
from .trace import Trace

#: So many equations are recorded before the builder gets them, whose columns are compact.
_SETTLED = 1 << 16
_INDEX = attrgetter("_index")


def met(trace: Trace, values: Sequence[Any]) -> list[Any]:
    """The operand numbers of `Value`s that a trace has met before; None for anything else."""
    kinds, references = set(map(type, values)), trace._references
    if kinds == {Value}:
        return list(map(references.get, map(id, values)))
    own = [value.__class__ is TracedValue and value._trace is trace for value in values]
    if all(own):
        return list(map(_INDEX, values))
    return [
        value._index if mine else references.get(id(value)) if value.__class__ is Value else None
        for value, mine in zip(values, own, strict=True)
    ]


def weighted_sum(trace: Trace, start: Any, weights: Sequence[Any], inputs: Sequence[Any]) -> TracedValue | None:
    """`start + weights[0] * inputs[0] + weights[1] * inputs[1] + ...`, from left to right; None if it must be computed.

    It knows floats among the inputs, and `Value`s that the trace has met before.
    """
    first, (begin,), factors = trace.next, met(trace, [start]), [met(trace, weights), met(trace, inputs)]
    if None in factors[1]:
        factors[1] = [
            trace.reference(x) if x.__class__ is float else o for x, o in zip(inputs, factors[1], strict=True)
        ]
    end = first + 2 * len(weights)
    if first == end or begin is None or any(None in column for column in factors):
        return None
    if all(min(column) < 0 for column in factors) and any(a < 0 and b < 0 for a, b in zip(*factors, strict=True)):
        return None  # a product of numbers
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
    rows, first = max(map(np.size, columns)), trace.next
    refs = [np.broadcast_to(column, rows) for column in columns]
    refs += [np.arange(first + k, first + k + rows * count, count) for k in range(count)]
    refs += reversed([np.full(rows, builder.constant(number)) for number in program.constants])
    operands = np.array([refs[o] for o in program.operands], dtype=np.int64).T.ravel()
    ends, nothing = np.cumsum(np.tile(np.diff(program.starts), rows)), np.full(rows * count, -1)
    builder.extend(np.tile(program.opcodes, rows), ends, operands, nothing, nothing)
    trace._next += rows * count
    return [
        list(map(trace.value, refs[o].tolist())) if o >= 0 else [constant(program.constants[~o])] * rows
        for o in program.outputs
    ]
