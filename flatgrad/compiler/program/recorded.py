"""`Recorded`: what a trace has recorded, as columns; equations can be read, taken away, and repeated in rounds."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...runtime.primitives import TABLE
from . import progress
from .builder import Indices, ProgramBuilder
from .progress import report

#: Leaves are numbered from here until the trace is finished, when they become the last inputs.
LEAVES = 1 << 48
#: Numbers that differ from round to round of a loop are numbered from here, and become constants then.
DATA = 1 << 56


class Round(NamedTuple):
    """Some equations of a trace; the columns are those of `Program`."""

    opcodes: Indices
    starts: Indices
    operands: Indices
    sites: Indices


class Recorded:
    """What a trace has recorded.

    Args:
        builder: gets the columns, which are compact; what is new is in lists.
    """

    def __init__(self, builder: ProgramBuilder) -> None:
        self.builder = builder
        # What has been recorded since the builder got it the last time, and the variable of the next equation.
        self._opcodes: list[int] = []
        self._operands: list[int] = []
        self._sites: list[int] = []
        self._next = builder.next
        self._is_large = False
        self._references: dict[int, int] = {}
        self._data: list[Any] = []
        self._captured = 0

    @property
    def next(self) -> int:
        """The variable of the next equation."""
        return self._next

    def append(self, opcode: int, refs: Sequence[int], site: int = -1) -> int:
        """Append an equation and return its variable."""
        self._opcodes.append(opcode)
        self._operands += refs
        self._sites.append(site)
        self._next += 1
        return self._next - 1

    def settle(self) -> ProgramBuilder:
        """The builder, with all that has been recorded."""
        if self._opcodes:
            ends = np.cumsum(np.array([primitive.arity for primitive in TABLE])[self._opcodes])
            operands, sites = array("q", self._operands), array("i", self._sites)
            self.builder.extend(array("H", self._opcodes), ends, operands, sites, np.full(len(sites), -1))
            for recorded in (self._opcodes, self._operands, self._sites):
                recorded.clear()
        count = len(self.builder)
        report("tracing", count)
        if count > progress.MANY and not self._is_large:
            self._is_large = True
            progress.warn_of_size(self.builder.program.name)
        return self.builder

    # --- rounds -------------------------------------------------------------------------------------------------------

    def capture(self, numbers: Any) -> int:
        """The first of the variables that stand for the numbers of an array."""
        first = DATA + self._captured
        self._data.append(np.array(numbers, dtype=float).ravel())
        self._captured += len(self._data[-1])
        return first

    def with_data(self, builder: ProgramBuilder, variables: Indices, where: Indices) -> Indices:
        """Where variables go, if those of captured numbers go to constants."""
        captured = variables >= DATA
        if captured.any():
            numbers = np.concatenate(self._data)[variables[captured] - DATA].view(np.int64)
            different, places = np.unique(numbers, return_inverse=True)
            constants = list(map(builder.constant, different.view(float).tolist()))
            where[captured] = np.array(constants, dtype=np.int64)[places]
        return where

    def since(self, first: int, end: int) -> Round:
        """The equations between two variables."""
        program, offset = self.settle().program, len(self.builder) - self._next
        low, high = first + offset, end + offset
        starts = np.array(program.starts[low : high + 1])
        operands = np.array(program.operands[starts[0] : starts[-1]], dtype=np.int64)
        return Round(
            np.array(program.opcodes[low:high]), starts - starts[0], operands, np.array(program.sites[low:high])
        )

    def forget(self, first: int) -> None:
        """Go back to where this variable was the next one."""
        self.settle().shorten(len(self.builder) - self._next + first)
        self._next = first
        self._references = {key: ref for key, ref in self._references.items() if ref < first or ref >= LEAVES}

    def repeat(self, equations: Round, steps: Indices, count: int) -> None:
        """Append a round so many times; each time its operands have advanced by `steps`."""
        ends = equations.starts[1:] + len(equations.operands) * np.arange(count)[:, None]
        operands = equations.operands + steps * np.arange(count)[:, None]
        sites = np.tile(equations.sites, count)
        columns = np.tile(equations.opcodes, count), ends.ravel(), operands.ravel(), sites
        self.settle().extend(*columns, np.full(len(sites), -1))
        self._next += len(sites)
