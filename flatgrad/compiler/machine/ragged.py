"""Statements whose rows differ in length, in parts whose rows are about as long: each has vectors as wide as these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..loops.extents import Ragged, Size, fixed
from ..loops.grammar import Read, Statement

#: The longest rows have at least so many vectors, if these are most lanes: then that many are computed side by side.
_VECTORS = 4
#: Shorter rows are not cut further where what they take is at most this part of the whole.
_REST = 4


def by_length(statement: Statement, width: int) -> Iterator[tuple[Statement, Read]]:
    """The parts of a statement with ragged lanes, and where their lanes are; `width` is that of the widest vectors."""
    ragged = next(extent for extent in statement.shape if isinstance(extent, Ragged))
    rows = np.arange(fixed(statement.shape[ragged.dimension]))
    lengths = ragged.at(rows)
    total, limit = int(lengths.sum()), width * _VECTORS
    while limit > 1 and len(rows):
        longer = lengths[rows] >= limit
        if 2 * lengths[rows[longer]].sum() >= lengths[rows].sum():
            yield rows_of(statement, rows[longer])
            rows = rows[~longer]
        limit //= 2
        if lengths[rows].sum() * width * _REST < total:
            break
    if len(rows):
        yield rows_of(statement, rows)


def rows_of(statement: Statement, rows: Any) -> tuple[Statement, Read]:
    """Consecutive rows of a statement with ragged lanes, and where their lanes are."""
    position = next(k for k, extent in enumerate(statement.shape) if isinstance(extent, Ragged))
    ragged, start, count = statement.shape[position], int(rows[0]), len(rows)
    assert isinstance(ragged, Ragged)
    outer, inner = statement.shape[: position - 1], statement.shape[position + 1 :]
    row = Ragged.over(count, ragged.step, int(ragged.at(start)), position - 1)

    def cut_out(read: Read, extents: tuple[Size, ...]) -> Read:
        if read.table is not None:
            table = read.table.reshape(*map(fixed, extents))
            table = table[(*[slice(None)] * len(outer), slice(start, start + count), slice(int(row)))]
            return Read(0, (), np.ascontiguousarray(table).ravel())
        strides, bends = list(map(fixed, read.strides)), read.bends or (0,) * len(read.strides)
        if not strides:
            return read
        first = fixed(read.base) + strides[position - 1] * start + bends[position - 1] * (start * (start - 1) // 2)
        strides[position - 1] += bends[position - 1] * start
        return Read(first, tuple(strides), None, read.bends)

    target = cut_out(statement.target, statement.shape)
    return statement.with_reads(cut_out, shape=(*outer, count, row, *inner), base=target.base), target
