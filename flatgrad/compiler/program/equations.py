"""Equations, and what the functions beside `Program`, which it calls, read of a program."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ...runtime.primitives import Primitive
from ...runtime.sites import Location
from .groups import Group


class Equation(NamedTuple):
    """A view of one equation: `variable = primitive(operands)`."""

    variable: int
    primitive: Primitive
    operands: tuple[int, ...]
    location: Location | None


class Equations(Protocol):
    """A `Program`, for hints and SymPy; see there."""

    name: str
    input_names: list[str]
    constants: list[float]
    outputs: list[int]
    output_groups: list[Group]
    sites: array[int]
    primal: int

    @property
    def inputs(self) -> int: ...
    def __len__(self) -> int: ...
    def equation(self, index: int) -> Equation: ...
    def equations(self) -> Iterator[Equation]: ...
