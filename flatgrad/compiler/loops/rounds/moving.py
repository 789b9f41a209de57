"""Programs that are written anew, with some of their results elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..array_program import ArrayProgram
from ..extents import Ragged, Size, fixed
from ..grammar import Addresses, Block, Item, Read, Statement, addresses
from ..preliminary import RESULTS, TRUTHS, Constants, moved_statement
from .rewrite import strided


class Moving:
    """A program while it is written anew.

    Attributes:
        old: the program.
        constants: those of the new one.
        final: per address of the old program, the address in the new one.
        copies: the same, but of what is copied, the copy.
    """

    def __init__(self, program: ArrayProgram) -> None:
        self.old = program
        self.constants: Constants = Constants(program.inputs, program.constants, program.truths)
        self._numbers = np.array([*program.constants, *program.truths], dtype=object)
        self.final: Addresses = np.arange(program.size, dtype=np.int64)
        self.final[program.first_truth : program.first_result] = TRUTHS + np.arange(len(program.truths))
        self.copies: Addresses = self.final.copy()
        self.next: int = RESULTS

    def _moved_program(self, statements: Sequence[Item]) -> ArrayProgram:
        """The program with these statements, which are written."""
        moved = self.constants.moved
        return replace(
            self.old, constants=self.constants.numbers, truths=self.constants.truths,
            statements=[moved_statement(item, moved) for item in statements],
            outputs=moved(self.final[self.old.outputs]),
        )  # fmt: skip

    def _take(self, lanes: int) -> int:
        self.next += lanes
        return self.next - lanes

    def _place(self, base: int, lanes: int) -> None:
        """Addresses that stay together."""
        self._settle(base + np.arange(lanes), self._take(lanes) + np.arange(lanes))

    def _settle(self, places: Any, final: Any) -> None:
        self.final[places] = self.copies[places] = final

    def _moved_item(self, item: Item) -> Item:
        if isinstance(item, Block):
            return Block(item.program, self.final[item.reads], int(self.final[item.base]))
        if isinstance(item, Statement):
            return self._moved(item)
        starts = tuple(tuple(map(self._moved, group)) for group in item.starts)
        return replace(item, statements=tuple(map(self._moved, item.statements)), starts=starts)

    def _moved(self, statement: Statement) -> Statement:
        return statement.with_reads(self._moved_read, base=int(self.final[fixed(statement.base)]))

    def _moved_read(self, read: Read, extents: tuple[Size, ...]) -> Read:
        places = addresses(read, extents)
        shifts = self.final[places] - places
        if read.table is None and (shifts == shifts[0]).all():
            return read._replace(base=fixed(read.base) + int(shifts[0]))
        if any(isinstance(extent, Ragged) for extent in extents):
            return Read(0, (), self.final[places])
        return self._access(places.reshape(tuple(map(fixed, extents))))

    def _access(self, places: Any) -> Read:
        """The access of an array of addresses; what comes from before the first round is read from the copies."""
        access = strided(self.final[places]) or (
            strided(self.copies[places]) if (self.final[places] == self.copies[places]).any() else None
        )
        return access or Read(0, (), self.final[places].ravel())

    def _access_of(self, places: Any) -> Read:
        """The same; constants, which may come from anywhere, are laid out anew."""
        first, end = self.old.inputs, self.old.first_result
        if first <= places.min() and places.max() < end:
            return Read(
                *self.constants.lay(np.array(self._numbers[places.ravel() - first].tolist()).reshape(places.shape))
            )
        return self._access(places)
