"""What a call of a kernel costs, by back end: the small model by which `backend="auto"` chooses.

The constants are nanoseconds, measured with CPython 3.11 and NumPy 2 on one core of a server; their ratios matter, not
their size. `python -m benchmarks choice` compares the choice with both back ends.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...runtime.errors import PerformanceWarning
from ...runtime.primitives import TABLE
from ...runtime.sites import user_level
from ..loops.array_program import ArrayProgram
from ..loops.grammar import Apply, Block, Fold, Loop, Read, Repeat, Segment, flattened, lanes_of, members
from ..program.program import Program
from .spellings import NUMPY

#: Programs of fewer equations, inputs and outputs together are not even re-rolled: flat Python is ready at once.
#: (Called often, they get machine code all the same: `transforms.OFTEN`.)
TINY = 150

#: A choice that makes calls so many times slower than machine code would be is worth a warning.
SLOW = 5.0

#: Flat Python: a call; an equation (one instruction and one float object); a call of a function of `math`; a number
#: that goes in or comes out.
_PYTHON_CALL, _PYTHON_EQUATION, _PYTHON_FUNCTION, _PYTHON_NUMBER = 300.0, 13.0, 60.0, 30.0
#: NumPy: a call; an array statement; an element of one; a gathered element; an element computed by `math`; a block of
#: straight-line code; a number of an array that goes in or comes out (of a list, it takes as long as in flat Python).
_NUMPY_CALL, _NUMPY_STATEMENT, _NUMPY_ELEMENT, _NUMPY_GATHERED = 2500.0, 600.0, 0.6, 2.0
_NUMPY_LANE, _NUMPY_BLOCK, _NUMPY_NUMBER = 90.0, 1500.0, 0.5
#: Loops over rounds: an item of a list; a loop over lists, and a term of a fold over them; a view in one round.
_LIST_ITEM, _LIST_LOOP, _LIST_TERM, _NUMPY_ROUND = 25.0, 600.0, 120.0, 120.0
#: Machine code: a call by way of Python (a builtin takes a tenth of it); a statement; an element; a gathered one; one
#: computed by libm; an equation of straight-line code; a number that goes in or comes out. What making it costs does
#: not matter for the choice: straight-line code takes LLVM about as long as flat Python takes to print and compile.
_NATIVE_CALL, _NATIVE_STATEMENT, _NATIVE_ELEMENT, _NATIVE_GATHERED = 1000.0, 8.0, 0.05, 1.0
_NATIVE_FUNCTION, _NATIVE_EQUATION, _NATIVE_NUMBER = 10.0, 1.5, 0.5


class Choice(NamedTuple):
    """The back end that runs.

    Attributes:
        backend: its name.
        reason: why it does, as a clause.
        slowdown: how many times longer a call takes, by the estimate, than it would if there could be machine code; 1
            where there can, or where the back end was asked for.
    """

    backend: str
    reason: str
    slowdown: float = 1.0


def is_tiny(program: Program) -> bool:
    """Whether a program is so small that flat Python is what it gets first."""
    return len(program) + program.inputs + len(program.outputs) <= TINY


def python_cost(program: Program) -> float:
    """Nanoseconds that a call of the flat Python of a program takes, about."""
    functions = {primitive.opcode for primitive in TABLE if primitive.slow}
    slow = sum(opcode in functions for opcode in program.opcodes) if functions else 0
    numbers = program.inputs + len(program.outputs)
    return _PYTHON_CALL + _PYTHON_EQUATION * len(program) + _PYTHON_FUNCTION * slow + _PYTHON_NUMBER * numbers


def numpy_cost(program: ArrayProgram) -> float:
    """Nanoseconds that a call of the array statements of a program takes, about."""
    cost = _NUMPY_CALL + _NUMPY_NUMBER * (program.inputs + len(program.outputs))
    for item in program.statements:
        if isinstance(item, Block):
            cost += _NUMPY_BLOCK + python_cost(item.program)
        elif isinstance(item, Repeat):
            cost += item.count * _rounds_costs(item)[0 if is_scalar(item) else 1]
        else:
            cost += _body_cost(flattened(item).body, item.lanes)
    return cost


def is_scalar(repeat: Repeat) -> bool:
    """Whether a round takes less time in plain Python, number by number, than in array statements."""
    python, numpy = _rounds_costs(repeat)
    return repeat.is_ragged or python < numpy


def _rounds_costs(repeat: Repeat) -> tuple[float, float]:
    """Nanoseconds that a round takes in plain Python, and in array statements."""
    python = numpy = 0.0
    for loop in (repeat.loop, *repeat.inner):
        for item in repeat.within(loop):
            if isinstance(item, Loop):
                continue
            statement = repeat.statements[item]
            rounds = lanes_of(statement.shape[: loop.depth + 1])
            turns, lanes = rounds / repeat.count, statement.lanes // rounds
            reads = sum(1 for _ in statement.reads())
            python += turns * (_LIST_ITEM * lanes + _LIST_LOOP * (lanes > 1) + _list_cost(statement.body, lanes))
            numpy += turns * (_body_cost(statement.body, lanes) + _NUMPY_ROUND * (1 + reads))
    return python, numpy


def _list_cost(body: Sequence[Any], elements: int) -> float:
    cost = 0.0
    for node in body:
        if isinstance(node, Read):
            cost += _LIST_ITEM * elements
        elif isinstance(node, Apply):
            cost += (_PYTHON_EQUATION + _PYTHON_FUNCTION * node.primitive.slow) * elements
        elif isinstance(node, Fold):
            for segment in node.segments:
                inner = elements * segment.terms
                cost += (
                    _list_cost(segment.body, inner) + _LIST_TERM * inner + _LIST_LOOP * elements * bool(segment.extents)
                )
    return cost


def native_cost(program: ArrayProgram) -> float:
    """Nanoseconds that a call of the machine code of a program takes, about."""
    cost = _NATIVE_CALL + _NATIVE_NUMBER * (program.inputs + len(program.outputs))
    for statement in members(program.statements):
        if isinstance(statement, Block):
            functions = sum(TABLE[opcode].slow for opcode in statement.program.opcodes)
            cost += _NATIVE_EQUATION * len(statement.program) + _NATIVE_FUNCTION * functions
        else:
            cost += _NATIVE_STATEMENT + _native_body(statement.body, statement.lanes)
    return cost


def _native_body(body: Sequence[Any], elements: int) -> float:
    cost = 0.0
    for node in body:
        if isinstance(node, Read):
            cost += (_NATIVE_GATHERED if node.table is not None else _NATIVE_ELEMENT) * elements
        elif isinstance(node, Apply):
            cost += (_NATIVE_FUNCTION if node.primitive.slow else _NATIVE_ELEMENT) * elements
        elif isinstance(node, Fold):
            for segment in node.segments:
                inner = elements * segment.terms
                cost += _native_body(segment.body, inner) + _NATIVE_ELEMENT * inner
    return cost


def cheapest(programs: Sequence[Program], arrays: Sequence[ArrayProgram], obstacle: str = "") -> Choice:
    """The back end whose calls cost least.

    Args:
        programs: the functions as scalar programs.
        arrays: the same re-rolled, with loops over rounds.
        obstacle: why there can be no machine code; empty if there can.
    """
    native = sum(map(native_cost, arrays))
    costs = {"python": sum(map(python_cost, programs)), "numpy": sum(map(numpy_cost, arrays))}
    if not obstacle:
        costs["native"] = native
    backend = min(costs, key=lambda backend: costs[backend])
    estimates = ", ".join(f"{_duration(cost)} with {name!r}" for name, cost in costs.items())
    reason = f"a call takes about {estimates}"
    if obstacle:
        return Choice(backend, f"{reason}; there is no machine code, as {obstacle}", costs[backend] / native)
    return Choice(backend, reason)


def _duration(nanoseconds: float) -> str:
    """A time as text.

    >>> _duration(540.0), _duration(1.2e6), _duration(3e9)
    ('0.54 µs', '1.2 ms', '3 s')
    """
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if nanoseconds >= 0.9995 * size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{1e-3 * nanoseconds:.3g} µs"


_noted: set[str] = set()


def note(choice: Choice, function: str, obstacle: str) -> None:
    """Warn where calls are many times slower than they would be in machine code, once per reason.

    Args:
        choice: what runs.
        function: the name of the function.
        obstacle: why there is no machine code.
    """
    if choice.slowdown > SLOW and obstacle not in _noted:
        _noted.add(obstacle)
        text = (
            f"{function} runs with backend={choice.backend!r}, and a call takes about {choice.slowdown:.0f} times as "
            f"long as in machine code: {obstacle} (pass backend={choice.backend!r} if that is what you want)"
        )
        warnings.warn(text, PerformanceWarning, stacklevel=user_level())


def _body_cost(body: Sequence[Any], elements: int) -> float:
    cost = 0.0
    for node in body:
        if isinstance(node, Read):
            if node.table is not None:
                cost += _NUMPY_STATEMENT + _NUMPY_GATHERED * elements
        elif isinstance(node, Apply):
            if node.primitive not in NUMPY:
                cost += _NUMPY_STATEMENT + _NUMPY_LANE * elements
            else:
                cost += (_NUMPY_STATEMENT + _NUMPY_ELEMENT * elements) * len(NUMPY[node.primitive])
        elif isinstance(node, Fold):
            cost += sum(_segment_cost(segment, elements) for segment in node.segments) + _NUMPY_STATEMENT
    return cost


def _segment_cost(segment: Segment, lanes: int) -> float:
    """Computing the terms, which is a statement even if they are only copied, and adding them."""
    elements = lanes * segment.terms
    copied = _NUMPY_STATEMENT if len(segment.body) == 1 else 0.0
    return copied + _body_cost(segment.body, elements) + 2 * _NUMPY_ELEMENT * elements
