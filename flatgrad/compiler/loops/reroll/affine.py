"""Recognising strides: vectors of addresses as shape and strides."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from ..grammar import Addresses

#: The largest number of strided pieces of a vector, and their smallest number of lanes on average.
_PIECES, _PIECE = 4, 4


class Shape(NamedTuple):
    """A common shape of several vectors, and the strides of each."""

    extents: tuple[int, ...]
    strides: list[tuple[int, ...]]


class Piece(NamedTuple):
    """Some lanes, in an order in which their vectors are strided; `None` instead of strides stands for a gather."""

    order: Addresses
    extents: tuple[int, ...]
    strides: list[tuple[int, ...] | None]


class Steps(NamedTuple):
    """The strides of a vector along dimensions, and how much each grows from index to index; nothing if none does."""

    strides: tuple[int, ...]
    bends: tuple[int, ...] = ()


def steps_of(vector: Addresses, extents: Sequence[int], bending: Collection[int]) -> Steps | None:
    """The steps of a vector in a shape, along some dimensions of which strides may grow; None if there are none.

    >>> steps_of(np.array([0, 1, 3, 6, 10]), (5,), {0})
    Steps(strides=(1,), bends=(1,))
    >>> steps_of(np.array([0, 1, 3, 6, 10]), (5,), ()) is None
    True
    """
    grid = vector.reshape(extents)
    expected = np.array(grid[(0,) * grid.ndim])
    strides, bends = [], []
    for axis, extent in enumerate(extents):
        line = np.moveaxis(grid, axis, 0).reshape(extent, -1)[:3, 0]
        strides.append(int(line[1] - line[0]) if extent > 1 else 0)
        bends.append(int(line[2] - 2 * line[1] + line[0]) if extent > 2 and axis in bending else 0)
        index = np.arange(extent)
        expected = expected[..., None] + (strides[-1] * index + bends[-1] * (index * (index - 1) // 2))
    return Steps(tuple(strides), tuple(bends) if any(bends) else ()) if np.array_equal(grid, expected) else None


def straightened(vectors: Sequence[Addresses], lengths: Sequence[Addresses]) -> list[Addresses]:
    """Vectors without that part which is quadratic in the number of terms, for lanes with evenly growing lengths.

    What is left has strides if the rows of a packed triangle are read.

    >>> straightened([np.array([0, 1, 3, 6, 10])], [np.array([1, 2, 3, 4, 5])])
    [array([0, 1, 2, 3, 4])]
    """
    result = list(vectors)
    for length in lengths:
        shape = factor([length])
        axes = [] if shape is None else [axis for axis, step in enumerate(shape.strides[0]) if step]
        if shape is None or len(axes) != 1 or shape.extents[axes[0]] < 3:
            continue
        axis = axes[0]
        index = np.indices(shape.extents)[axis].ravel()
        for k, vector in enumerate(result):
            bends = np.diff(vector.reshape(shape.extents), 2, axis=axis)
            if (bends == bends.flat[0]).all():
                result[k] = vector - bends.flat[0] * (index * (index - 1) // 2)
    return result


def factor(vectors: Sequence[Addresses]) -> Shape | None:
    """The shape in which all vectors are strided, or None if there is none.

    The method begins at the innermost dimension. A vector leaves its first stride at certain positions; their greatest
    common divisor is the innermost extent. The same follows for the heads of these runs.

    >>> factor([np.array([0, 1, 5, 6, 10, 11]), np.array([3, 2, 3, 2, 3, 2])])
    Shape(extents=(3, 2), strides=[(5, 1), (0, -1)])
    >>> factor([np.array([0, 1, 5])]) is None
    True
    """
    extents: list[int] = []
    strides: list[list[int]] = [[] for _ in vectors]
    heads = list(vectors)
    count = len(heads[0])
    while count > 1:
        length = count
        for head in heads:
            steps = head[1:] - head[:-1]
            (breaks,) = (steps != steps[0]).nonzero()
            if len(breaks):
                length = math.gcd(length, int(np.gcd.reduce(breaks + 1)))
            if length == 1:
                return None
        extents.append(length)
        for steps_of_head, head in zip(strides, heads, strict=True):
            steps_of_head.append(int(head[1] - head[0]))
        heads = [head[::length] for head in heads]
        count //= length
    return Shape(tuple(extents[::-1]), [tuple(inner_first[::-1]) for inner_first in strides])


def cut(vectors: Sequence[Addresses]) -> list[slice] | None:
    """Consecutive pieces in each of which all vectors are strided, or None if that takes too many.

    >>> [(piece.start, piece.stop) for piece in cut([np.array([*range(8), 40, *range(9, 17)])])]
    [(0, 8), (8, 9), (9, 17)]
    """
    count = len(vectors[0])
    limit = min(_PIECES, count // _PIECE)
    pieces: list[slice] = []
    start = 0
    while start < count:
        if len(pieces) == limit:
            return None
        end = start + _strided_from([vector[start:] for vector in vectors])
        pieces.append(slice(start, end))
        start = end
    return pieces


def _strided_from(vectors: Sequence[Addresses]) -> int:
    """How many leading elements are strided in all vectors: a run, or equal runs whose heads are strided themselves."""
    count = len(vectors[0])
    steps = [np.diff(vector) for vector in vectors]
    breaks = [int(np.argmax(step != step[0])) for step in steps if count > 1 and (step != step[0]).any()]
    if not breaks:
        return count
    run = min(breaks) + 1  # at least 2
    tables = [vector[: count // run * run].reshape(-1, run) for vector in vectors]
    same = np.all([(rows - rows[:, :1] == rows[0] - rows[0, 0]).all(axis=1) for rows in tables], axis=0)
    equal = len(same) if same.all() else int(np.argmin(same))
    if run == 2 and equal == 1 and count > 3 and all(step[1] == step[2] for step in steps):
        return 1  # the second lane belongs to the next piece
    return run * _strided_from([rows[:equal, 0] for rows in tables])


def _rows(vectors: Sequence[Addresses], most: int) -> list[Addresses] | None:
    """The lanes of each row of a triangle, or of the same rows of several; None if there is none, or more rows."""
    heads = list(vectors)
    inner = 1
    while True:  # what is regular inside of the rows
        count = len(heads[0])
        length = count
        for head in heads:
            steps = np.diff(head)
            length = int(np.gcd(length, np.gcd.reduce(np.flatnonzero(steps != steps[0]) + 1)))
        if length in (1, count):
            break
        inner, heads = inner * length, [head[::length] for head in heads]
    if count < 6 or length == count:
        return None
    steps = np.stack([np.diff(head) for head in heads], axis=1)
    _, which, counts = np.unique(steps, axis=0, return_inverse=True, return_counts=True)
    starts = np.append(0, np.flatnonzero(which.ravel() != counts.argmax()) + 1)
    lengths = np.diff(np.append(starts, count))
    shape = factor([lengths])
    if shape is None or not shape.strides[0] or not 3 <= shape.extents[-1] <= most:
        return None
    if not shape.strides[0][-1] or any(shape.strides[0][:-1]):
        return None
    size = shape.extents[-1]
    rows = [starts[k::size, None] + np.arange(lengths[k]) for k in range(size)]
    return [(row.ravel()[:, None] * inner + np.arange(inner)).ravel() for row in rows]


def arrange(vectors: Sequence[Addresses], count: int, rows: int = 0) -> list[Piece]:
    """Lanes in an order and in pieces in which as many vectors as possible are strided.

    It tries in turn: the order of creation; lanes sorted by the addresses that they read; a few pieces; the rows of a
    triangle. Then it leaves out the vectors that are not strided with the others, which become gathers.

    Args:
        vectors: the addresses that each access reads, one per lane.
        count: the number of lanes.
        rows: how many rows a triangle may have, to become a piece per row.

    Example:
        >>> lanes = np.array([3, 1, 0, 2])
        >>> for piece in arrange([lanes, 10 * lanes + 5], 4):
        ...     print(piece.order.tolist(), piece.extents, piece.strides)
        [2, 1, 3, 0] (4,) [(1,), (10,)]
    """
    if not vectors:
        return [Piece(np.arange(count), (count,) if count > 1 else (), [])]
    orders = [np.arange(count), np.lexsort(list(vectors)[::-1])]
    if len(vectors) > 1:
        orders.append(np.lexsort(list(vectors)))
    for order in orders:
        piece = _strided(order, vectors)
        if piece is not None:
            return [piece]
    for order in orders:
        slices = cut([vector[order] for vector in vectors])
        if slices is not None:
            return [piece for part in slices if (piece := _strided(order[part], vectors)) is not None]
    for order in orders if rows else []:
        triangle = _rows([vector[order] for vector in vectors], rows)
        parts = [] if triangle is None else [_strided(order[row], vectors) for row in triangle]
        if parts and None not in parts:
            return [piece for piece in parts if piece is not None]
    # The vectors that are strided together, the first ones first.
    together: list[int] = []
    for k in range(len(vectors)):
        candidates = [vectors[j] for j in [*together, k]]
        if factor(candidates) is not None or cut(candidates) is not None:
            together.append(k)
    return [
        Piece(order, extents, [strides[together.index(k)] if k in together else None for k in range(len(vectors))])
        for order, extents, strides in arrange([vectors[k] for k in together], count)
    ]


def _strided(order: Addresses, vectors: Sequence[Addresses]) -> Piece | None:
    """Some lanes in this order as one piece, if all vectors are strided in it.

    A dimension is reversed where the first vector that moves along it would move downwards.
    """
    shape = factor([vector[order] for vector in vectors])
    if shape is None:
        return None
    lanes = order.reshape(shape.extents)
    signs = []
    for axis in range(len(shape.extents)):
        step = next((strides[axis] for strides in shape.strides if strides[axis]), 1)
        signs.append(-1 if step < 0 else 1)
        if step < 0:
            lanes = np.flip(lanes, axis)
    strides = [tuple(sign * step for sign, step in zip(signs, steps, strict=True)) for steps in shape.strides]
    return Piece(lanes.ravel(), shape.extents, [*strides])
