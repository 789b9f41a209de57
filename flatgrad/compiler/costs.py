"""What a call of a kernel costs, by back end: the small model by which `backend="auto"` chooses.

The constants are nanoseconds, measured with CPython 3.11 and NumPy 2 on one core of a server; their ratios matter, not
their size. `python -m benchmarks choice` compares the choice with both back ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..runtime.primitives import TABLE, Primitive
from .array_program import Apply, ArrayProgram, Block, Fold, Read, Segment
from .extents import fixed
from .program import Program

#: Smaller programs are not even re-rolled: flat Python is the fastest.
TINY = 150

#: Flat Python: a call; an equation (one instruction and one float object); a call of a function of `math`.
_PYTHON_CALL, _PYTHON_EQUATION, _PYTHON_FUNCTION = 300.0, 13.0, 60.0
#: NumPy: a call; an array statement; an element of one; a gathered element; an element computed by `math`; a block of
#: straight-line code; a number that goes in or comes out.
_NUMPY_CALL, _NUMPY_STATEMENT, _NUMPY_ELEMENT, _NUMPY_GATHERED = 2500.0, 600.0, 0.6, 2.0
_NUMPY_LANE, _NUMPY_BLOCK, _NUMPY_NUMBER = 90.0, 1500.0, 15.0


def python_cost(program: Program) -> float:
    """Nanoseconds that a call of the flat Python of a program takes, about."""
    functions = {primitive.opcode for primitive in TABLE if _is_function(primitive)}
    slow = sum(opcode in functions for opcode in program.opcodes) if functions else 0
    return _PYTHON_CALL + _PYTHON_EQUATION * len(program) + _PYTHON_FUNCTION * slow


def numpy_cost(program: ArrayProgram) -> float:
    """Nanoseconds that a call of the array statements of a program takes, about."""
    cost = _NUMPY_CALL + _NUMPY_NUMBER * (program.inputs + len(program.outputs))
    for statement in program.statements:
        if isinstance(statement, Block):
            cost += _NUMPY_BLOCK + python_cost(statement.program)
        else:
            cost += _body_cost(statement.body, statement.lanes)
    return cost


def _body_cost(body: Sequence[Any], elements: int) -> float:
    cost = 0.0
    for node in body:
        if isinstance(node, Read):
            if node.table is not None:
                cost += _NUMPY_STATEMENT + _NUMPY_GATHERED * elements
        elif isinstance(node, Apply):
            if node.primitive.numpy is None:
                cost += _NUMPY_STATEMENT + _NUMPY_LANE * elements
            else:
                cost += (_NUMPY_STATEMENT + _NUMPY_ELEMENT * elements) * len(node.primitive.numpy)
        elif isinstance(node, Fold):
            cost += sum(_segment_cost(segment, elements) for segment in node.segments) + _NUMPY_STATEMENT
    return cost


def _segment_cost(segment: Segment, lanes: int) -> float:
    """Computing the terms, which is a statement even if they are only copied, and adding them."""
    elements = lanes * math.prod(map(fixed, segment.extents))
    copied = _NUMPY_STATEMENT if len(segment.body) == 1 else 0.0
    return copied + _body_cost(segment.body, elements) + 2 * _NUMPY_ELEMENT * elements


def _is_function(primitive: Primitive) -> bool:
    return primitive.numpy is None
