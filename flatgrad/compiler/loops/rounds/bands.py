"""Bands: statements for each turn of a loop within rounds become one statement for all turns.

What needs nothing of a loop, or what nothing in it needs, is computed for all rounds at once, before or behind it. Of
a loop whose rounds have turns, that is a statement for each turn, at first:

    v1[i:8] = v9[i, 0] * x[3*i]
    v2[i:8] = v9[i, 1] * x[3*i + 1]
    v3[i:8] = v9[i, 2] * x[3*i + 2]

These compute the same, and what they read goes on evenly, so they are `v1[i:8, j:3] = v9[i, j] * x[3*i + j]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array_program import ArrayProgram
from ..extents import Size, fixed
from ..grammar import Item, Read, Statement, addresses
from .inner import Turns, find_turns
from .moving import Moving
from .units import is_uneven, shape_of


def banded(program: ArrayProgram) -> ArrayProgram:
    """The program with one statement where there is one for each turn; the program itself where there are none."""
    bands = _find(program)
    return _Bands(program, bands).program() if bands else program


def _find(program: ArrayProgram) -> list[Turns]:
    """Statements that could be one, if they read nothing of one another."""
    forms: dict[Any, int] = {}
    symbols, places, begins, sizes = [], [], [0], []
    for k, item in enumerate(program.statements):
        keys: list[Any] = []
        here = [0]
        sizes.append(fixed(item.base))
        single = not isinstance(item, Statement) or not item.shape or item.is_ragged or is_uneven(item)
        for read, extents in item.reads() if isinstance(item, Statement) and not single else ():
            reads = addresses(read, extents)
            constant = program.inputs <= reads.min() and reads.max() < program.first_result
            first = 0 if constant else int(reads[0])
            keys.append("constant" if constant else (reads - first).tobytes())
            here.append(first)
        key: Any = k
        if isinstance(item, Statement) and not single:
            key = item.kind, item.part, item.shape, shape_of(item.body), *keys
        symbols += [(forms.setdefault(key, len(forms)) << 12) + r for r in range(len(here))]
        places += here
        begins.append(len(places))
    found = find_turns(np.array(symbols), np.array(places), np.array(begins), np.array([*sizes, program.size]))
    return [each for each in found if not _reads_itself(program, each)]


def _reads_itself(program: ArrayProgram, band: Turns) -> bool:
    items = program.statements[band.first : band.end]
    low, high = fixed(items[0].base), fixed(items[-1].base) + items[-1].lanes
    reads = (addresses(*each) for item in items if isinstance(item, Statement) for each in item.reads())
    return any(((low <= each) & (each < high)).any() for each in reads)


class _Bands(Moving):
    """Writes a program in which each band is as many statements as a turn has."""

    def __init__(self, program: ArrayProgram, bands: list[Turns]) -> None:
        super().__init__(program)
        self.bands = {band.first: band for band in bands}

    def program(self) -> ArrayProgram:
        position, items = 0, self.old.statements
        heads: list[tuple[int, Turns | None]] = []
        while position < len(items):
            band = self.bands.get(position)
            for q in range(band.period if band else 1):
                heads.append((position + q, band))
                self._place_head(position + q, band)
            position += band.period * band.turns if band else 1
        return self._moved_program([self._item(*head) for head in heads])

    def _columns(self, position: int, band: Turns) -> list[Statement]:
        """A statement of the first turn, and those of the other turns."""
        items = self.old.statements[position : band.end : band.period]
        return [item for item in items if isinstance(item, Statement)]

    def _place_head(self, position: int, band: Turns | None) -> None:
        item = self.old.statements[position]
        if band is None:
            return self._place(fixed(item.base), item.lanes)
        columns = self._columns(position, band)
        rounds, lanes = fixed(columns[0].shape[0]), columns[0].lanes // fixed(columns[0].shape[0])
        base = self._take(columns[0].lanes * band.turns)
        for j, column in enumerate(columns):
            rows = base + (np.arange(rounds)[:, None] * band.turns + j) * lanes + np.arange(lanes)
            self._settle(column.places.reshape(rounds, -1), rows)
        return None

    def _item(self, position: int, band: Turns | None) -> Item:
        if band is None:
            return self._moved_item(self.old.statements[position])
        first, *_ = columns = self._columns(position, band)
        reads = iter(list(zip(*(column.reads() for column in columns), strict=True)))

        def read(_: Read, extents: tuple[Size, ...]) -> Read:
            count, *rest = map(fixed, extents)
            places = [addresses(*each).reshape(count, *rest) for each in next(reads)]
            return self._access_of(np.stack(places, axis=1))

        rounds, *rest = first.shape
        shape = (rounds, band.turns, *rest)
        return first.with_reads(read, shape=shape, base=int(self.final[fixed(first.base)]))
