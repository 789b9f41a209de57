"""Recognising strides: vectors of addresses as shape and strides."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from ..extents import Ragged, fixed
from ..grammar import Addresses, Read, addresses, packed

#: So many lanes are enough for strides that grow evenly; any three do.
_BENT = 5
#: The largest number of strided pieces of a vector, and their smallest number of lanes on average.
_PIECES, _PIECE = 4, 4
#: Of so many lanes, arrangements are remembered: in each round of a recurrence they are those of the round before.
_REMEMBERED = 512


class Shape(NamedTuple):
    """A common shape of several vectors, and the strides of each."""

    extents: tuple[int, ...]
    strides: list[tuple[int, ...]]


class Steps(NamedTuple):
    """The strides of a vector along dimensions, and how much each grows from index to index; nothing if none does."""

    strides: tuple[int, ...]
    bends: tuple[int, ...] = ()


class Piece(NamedTuple):
    """Some lanes, in an order in which their vectors are strided; `None` instead of steps stands for a gather.

    An extent may be `Ragged`.
    """

    order: Addresses
    extents: tuple[int, ...]
    steps: list[Steps | None]

    @property
    def filled(self) -> Addresses:
        """The lanes, where ragged rows are filled up with the first of the row."""
        ragged = any(isinstance(extent, Ragged) for extent in self.extents)
        return self.order[addresses(packed(self.extents), self.extents)] if ragged else self.order


def steps_of(vector: Addresses, extents: Sequence[int], bending: Collection[int]) -> Steps | None:
    """The steps of a vector in a shape, along some dimensions of which strides may grow; None if there are none.

    >>> steps_of(np.array([0, 1, 3, 6, 10]), (5,), {0})
    Steps(strides=(1,), bends=(1,))
    >>> steps_of(np.array([0, 1, 3, 6, 10]), (5,), ()) is None
    True
    >>> steps_of(np.array([0, 10, 11, 20, 21, 22]), (3, Ragged.over(3, 1, 1, 0)), ())
    Steps(strides=(10, 1), bends=())
    """
    lanes = packed(extents)
    strides, bends = [], []
    for axis, extent in enumerate(extents):
        # the first numbers along the axis; where that is ragged, in the longest row
        place = [0] * len(extents)
        if isinstance(extent, Ragged):
            place[extent.dimension] = extents[extent.dimension] - 1 if extent.step > 0 else 0
        line = []
        for place[axis] in range(min(3, extent)):
            line.append(int(vector[_address(lanes, place)]))
        strides.append(line[1] - line[0] if extent > 1 else 0)
        bends.append(line[2] - 2 * line[1] + line[0] if extent > 2 and axis in bending else 0)
    steps = Steps(tuple(strides), tuple(bends) if any(bends) else ())
    expected = addresses(Read(int(vector[0]), steps.strides, None, steps.bends), extents)
    return steps if np.array_equal(vector[addresses(lanes, extents)], expected) else None


def _address(read: Read, index: Sequence[int]) -> int:
    bends = read.bends or (0,) * len(index)
    return sum(fixed(s) * k + b * (k * (k - 1) // 2) for s, b, k in zip(read.strides, bends, index, strict=True))


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
    heads = np.array(vectors)
    extents: list[int] = []
    strides: list[list[int]] = []
    while (count := heads.shape[1]) > 1:
        steps = heads[:, 1:] - heads[:, :-1]
        length = _run_length(steps, count)
        if length == 1:
            return None
        extents.append(length)
        strides.append(steps[:, 0].tolist())
        heads = heads[:, ::length]
    outer_first = strides[::-1]
    return Shape(tuple(extents[::-1]), [tuple([level[k] for level in outer_first]) for k in range(len(heads))])


def _run_length(steps: Addresses, count: int) -> int:
    """The length of runs, such that within them all vectors of so many addresses go on by their first steps."""
    breaks = np.flatnonzero((steps != steps[:, :1]).any(axis=0))
    return math.gcd(count, int(np.gcd.reduce(breaks + 1))) if len(breaks) else count


def cut(vectors: Sequence[Addresses]) -> list[slice] | None:
    """Consecutive pieces in each of which all vectors are strided, or None if that takes too many.

    >>> [(piece.start, piece.stop) for piece in cut([np.array([*range(8), 40, *range(9, 17)])])]
    [(0, 8), (8, 9), (9, 17)]
    """
    rest = np.array(vectors)
    count = rest.shape[1]
    limit = min(_PIECES, count // _PIECE)
    pieces: list[slice] = []
    start = 0
    while start < count:
        if len(pieces) == limit:
            return None
        end = start + _strided_from(rest[:, start:])
        pieces.append(slice(start, end))
        start = end
    return pieces


def _strided_from(vectors: Addresses) -> int:
    """How many leading elements are strided in all vectors: a run, or equal runs whose heads are strided themselves."""
    count = int(vectors.shape[1])
    if count < 2:
        return count
    steps = vectors[:, 1:] - vectors[:, :-1]
    breaks = (steps != steps[:, :1]).any(axis=0)
    first = int(breaks.argmax())
    if not breaks[first]:
        return count
    run = first + 1  # at least 2
    tables = vectors[:, : count // run * run].reshape(len(vectors), -1, run)
    within = tables - tables[:, :, :1]
    same = (within == within[:, :1]).all(axis=(0, 2))
    equal = len(same) if same.all() else int(same.argmin())
    if run == 2 and equal == 1 and count > 3 and bool((steps[:, 1] == steps[:, 2]).all()):
        return 1  # the second lane belongs to the next piece
    return run * _strided_from(tables[:, :equal, 0])


def in_order(vectors: Sequence[Addresses]) -> Piece | None:
    """All terms in their order, if they are rows of triangles, or lie at distances that grow evenly; else None.

    >>> rows = np.array([0, 10, 11, 20, 21, 22])
    >>> in_order([rows]).extents, in_order([rows]).steps
    ((3, 3), [Steps(strides=(10, 1), bends=())])
    """
    return _triangle(np.arange(len(vectors[0])), vectors, moves=False)


def _triangle(order: Addresses, vectors: Sequence[Addresses], moves: bool = True) -> Piece | None:
    """The lanes in this order as the rows of a triangle, or of several, if all vectors are strided in these.

    Inside of rows all vectors go on as most do; where one does not, the next row begins. What is regular inside of the
    lanes of a row is a dimension of its own. If rows of the same length follow one another, their dimension comes
    first, so that rows that grow are the dimension in front of their lanes. Lanes whose distances grow evenly, such as
    the diagonal, are found as well.

    Args:
        order: the lanes.
        vectors: what they read.
        moves: whether lanes may be put in another order.
    """
    heads = np.array(vectors)[:, order]
    inside: list[int] = []
    while True:
        count = heads.shape[1]
        steps = heads[:, 1:] - heads[:, :-1]
        length = _run_length(steps, count)
        if length in (1, count):
            break
        inside.insert(0, length)
        heads = heads[:, ::length]
    if length == count:
        return None
    if count >= _BENT:
        bends = steps[:, 1:] - steps[:, :-1]
        if (bends == bends[:, :1]).all():
            return _fitted(order, (count, *inside), vectors, {0})
    if count < 6:
        return None
    different = np.zeros(count - 1, dtype=bool)
    # A step that half of them are is in the middle.
    middles = np.sort(steps, axis=1)[:, [(count - 2) // 2, (count - 1) // 2]]
    for row, middle in zip(steps, middles, strict=True):
        others = next((others for others in row != middle[:, None] if 2 * np.count_nonzero(others) < count), None)
        if others is not None:
            different |= others
    starts = np.append(0, np.flatnonzero(different) + 1)
    lengths = np.diff(np.append(starts, count))
    shape = factor([lengths])
    growing = [axis for axis, step in enumerate(shape.strides[0]) if step] if shape is not None else []
    if shape is None or len(growing) != 1 or shape.extents[growing[0]] < 3:
        return None
    if not moves and growing[0] != len(shape.extents) - 1:
        return None
    rows = np.moveaxis(np.arange(len(starts)).reshape(shape.extents), growing[0], -1)
    cells, step, rank = np.arange(math.prod(inside)).reshape(inside), shape.strides[0][growing[0]], rows.ndim

    def piece(signs: Sequence[int]) -> Piece | None:
        """The lanes with some dimensions reversed."""
        numbers, inner = (
            rows[*(slice(None, None, n) for n in signs[:rank])],
            cells[*(slice(None, None, n) for n in signs[rank + 1 :])],
        )
        row = Ragged.over(rows.shape[-1], step * signs[rank - 1], int(lengths[numbers.flat[0]]), rank - 1)
        lanes = np.concatenate([(starts[k] + np.arange(lengths[k]))[:: signs[rank]] for k in numbers.ravel().tolist()])
        lanes = (lanes[:, None] * inner.size + inner.ravel()).ravel()
        return _fitted(order[lanes], (*rows.shape, row, *inside), vectors, {rank - 1, rank})

    result = piece([1] * (rank + 1 + len(inside)))
    if not moves:
        return result
    return result and (piece(_signs([each.strides for each in result.steps if each is not None])) or result)


def _signs(strides: Sequence[Sequence[int]]) -> list[int]:
    """Per dimension, in which direction the first vector moves that moves along it: 1 or -1."""
    return [-1 if next(filter(None, steps), 1) < 0 else 1 for steps in zip(*strides, strict=True)]


def _fitted(
    order: Addresses, extents: tuple[int, ...], vectors: Sequence[Addresses], bending: Collection[int]
) -> Piece | None:
    """Lanes in this order, and of this shape, if all vectors are strided in them."""
    steps = [steps_of(vector[order], extents, bending) for vector in vectors]
    return None if None in steps else Piece(order, extents, [*steps])


def arrange(vectors: Sequence[Addresses], count: int, triangles: bool = True) -> list[Piece]:
    """Lanes in an order and in pieces in which as many vectors as possible are strided.

    It tries in turn: the order of creation; lanes sorted by the addresses that they read; the rows of triangles; a
    few pieces. Then it leaves out the vectors that are not strided with the others, which become gathers.

    Args:
        vectors: the addresses that each access reads, one per lane.
        count: the number of lanes.
        triangles: whether a piece may have a ragged extent.

    Example:
        >>> lanes = np.array([3, 1, 0, 2])
        >>> for piece in arrange([lanes, 10 * lanes + 5], 4):
        ...     print(piece.order.tolist(), piece.extents, [steps.strides for steps in piece.steps])
        [2, 1, 3, 0] (4,) [(1,), (10,)]
    """
    if not vectors:
        return [Piece(np.arange(count), (count,) if count > 1 else (), [])]
    if count > _REMEMBERED:
        return _arrange(vectors, count, triangles)
    distances = [(vector - vector[0]).astype(np.int64, copy=False).tobytes() for vector in vectors]
    return list(_remembered(count, triangles, *distances))


@functools.lru_cache(maxsize=256)
def _remembered(count: int, triangles: bool, *vectors: bytes) -> list[Piece]:
    """The pieces of vectors that begin at 0: they depend on distances only."""
    return _arrange([np.frombuffer(vector, dtype=np.int64) for vector in vectors], count, triangles)


def _arrange(vectors: Sequence[Addresses], count: int, triangles: bool) -> list[Piece]:
    orders = [np.arange(count)]
    for keys in (list(vectors)[::-1], list(vectors)):
        order = np.lexsort(keys)
        if not any(np.array_equal(order, other) for other in orders):
            orders.append(order)
    for order in orders:
        piece = _strided(order, vectors)
        if piece is not None:
            return [piece]
    for order in orders if triangles else []:
        piece = _triangle(order, vectors)
        if piece is not None:
            return [piece]
    for order in orders:
        slices = cut([vector[order] for vector in vectors])
        if slices is not None:
            return [piece for part in slices if (piece := _strided(order[part], vectors)) is not None]
    # The vectors that are strided together, the first ones first.
    together: list[int] = []
    for k in range(len(vectors)):
        candidates = [vectors[j] for j in [*together, k]]
        if (
            factor(candidates) is not None
            or cut(candidates) is not None
            or (triangles and _triangle(orders[0], candidates) is not None)
        ):
            together.append(k)
    return [
        Piece(order, extents, [steps[together.index(k)] if k in together else None for k in range(len(vectors))])
        for order, extents, steps in arrange([vectors[k] for k in together], count, triangles)
    ]


def _strided(order: Addresses, vectors: Sequence[Addresses]) -> Piece | None:
    """Some lanes in this order as one piece, if all vectors are strided in it.

    A dimension is reversed where the first vector that moves along it would move downwards.
    """
    shape = factor([vector[order] for vector in vectors])
    if shape is None:
        return None
    signs = _signs(shape.strides)
    lanes = np.flip(order.reshape(shape.extents), tuple(axis for axis, sign in enumerate(signs) if sign < 0))
    strides = [tuple(sign * step for sign, step in zip(signs, steps, strict=True)) for steps in shape.strides]
    return Piece(lanes.ravel(), shape.extents, [*map(Steps, strides)])
