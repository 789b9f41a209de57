"""Equations, and what the functions beside `Program`, which it calls, read of a program."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ...runtime.errors import ARITHMETIC_ERRORS
from ...runtime.primitives import TABLE, Primitive
from ...runtime.sites import Location
from .groups import Group


class Equation(NamedTuple):
    """A view of one equation: `variable = primitive(operands)`."""

    variable: int
    primitive: Primitive
    operands: tuple[int, ...]
    location: Location | None


class Equations(Protocol):
    """A `Program`, for hints, pictures and SymPy; see there."""

    name: str
    input_names: list[str]
    constants: list[float]
    outputs: list[int]
    input_groups: list[Group]
    output_groups: list[Group]
    sites: array[int]
    opcodes: array[int]
    starts: array[int]
    operands: array[int]
    primal: int
    update: int

    @property
    def inputs(self) -> int: ...
    def __len__(self) -> int: ...
    def name_of(self, operand: int) -> str: ...
    def equation(self, index: int) -> Equation: ...
    def equations(self) -> Iterator[Equation]: ...
    def result(self, equation: Equation, numbers: Sequence[float]) -> float: ...


def all_results(program: Equations, numbers: list[float]) -> list[float]:
    """The numbers of all variables, from those of the inputs; where an operation raises, `result` says what."""
    evaluate = [primitive.evaluate for primitive in TABLE]
    operands, start, variable = program.operands.tolist(), 0, program.inputs
    # Constants, ~k, index from the end.
    cells = [*numbers, *[0.0] * len(program), *reversed(program.constants)]
    for opcode, end in zip(program.opcodes.tolist(), program.starts[1:].tolist(), strict=True):
        try:
            if end - start == 2:
                cells[variable] = evaluate[opcode](cells[operands[start]], cells[operands[start + 1]])
            else:
                cells[variable] = evaluate[opcode](*[cells[operand] for operand in operands[start:end]])
        except ARITHMETIC_ERRORS:
            cells[variable] = program.result(program.equation(variable - program.inputs), cells[:variable])
        variable += 1
        start = end
    return cells[:variable]
