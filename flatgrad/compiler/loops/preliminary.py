"""Preliminary addresses: what a program is laid out with, before the number of its constants is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .extents import Size, fixed
from .grammar import Block, Read, Repeat, Statement

#: Preliminary addresses of truth values among the constants, and of results, count from here.
TRUTHS, RESULTS = 1 << 40, 1 << 41


def domain(address: Any) -> Any:
    """The range of preliminary addresses: 0 for inputs and numbers, 1 for truth values, 2 for results."""
    return 1 * (address >= TRUTHS) + (address >= RESULTS)


class Constants:
    """Constants while they are laid out.

    Attributes:
        inputs: of the program; numbers stand behind them.
        numbers, truths: what has been laid out so far.
    """

    def __init__(self, inputs: int, numbers: Sequence[float] = (), truths: Sequence[bool] = ()) -> None:
        self.inputs = inputs
        self.numbers: list[float] = list(numbers)
        self.truths: list[bool] = list(truths)
        self._base_of: dict[tuple[bool, bytes], int] = {}  # by their bits
        for truth, start, items in ((False, inputs, np.array(self.numbers)), (True, TRUTHS, np.array(self.truths))):
            for k in range(len(items)):
                self._base_of.setdefault((truth, items[k].tobytes()), start + k)

    def lay(self, values: Any) -> tuple[int, tuple[int, ...]]:
        """Lay out an array of numbers or of truth values; return base and strides, 0 where nothing varies."""
        for axis in range(values.ndim):
            first = np.take(values, [0], axis=axis)
            if (values.view(f"V{values.itemsize}") == first.view(f"V{values.itemsize}")).all():
                values = first
        truth = values.dtype == bool
        base = self._base_of.setdefault(
            (truth, values.tobytes()), (TRUTHS + len(self.truths)) if truth else (self.inputs + len(self.numbers))
        )
        constants: list[Any] = self.truths if truth else self.numbers
        if base == (TRUTHS if truth else self.inputs) + len(constants):
            constants.extend(values.ravel().tolist())
        strides = []
        step = 1
        for extent in reversed(values.shape):
            strides.append(step if extent > 1 else 0)
            step *= extent
        return base, tuple(strides[::-1])

    def moved(self, addresses: Any) -> Any:
        """Final addresses: inputs, then constants, truth values, and results."""
        truths = self.inputs + len(self.numbers)
        shifts: Any = (0, truths - TRUTHS, truths + len(self.truths) - RESULTS)
        return addresses + (shifts if isinstance(addresses, int) else np.array(shifts))[domain(addresses)]


def moved_statement(statement: Any, moved: Callable[[Any], Any]) -> Any:
    """A statement, block or repeat with its addresses mapped."""

    def read(read: Read, extents: tuple[Size, ...]) -> Read:
        return read._replace(base=int(moved(read.base))) if read.table is None else Read(0, (), moved(read.table))

    if isinstance(statement, Repeat):
        starts = tuple(tuple(moved_statement(each, moved) for each in group) for group in statement.starts)
        return replace(
            statement, statements=tuple(moved_statement(s, moved) for s in statement.statements), starts=starts
        )
    base = int(moved(fixed(statement.base)))
    if isinstance(statement, Block):
        return Block(statement.program, moved(statement.reads), base)
    assert isinstance(statement, Statement)
    return statement.with_reads(read, base=base)
