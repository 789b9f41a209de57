"""Large folds, such as the products of matrices: how their loops are nested, tiled, and fed.

A tile of rows and vectors has its accumulators in registers, and runs through its terms in their order. What it reads
along the vectors is a panel: as wide as the tile, as long as the terms are many. All rows of tiles use a panel, one
after the other, before the next panel begins, so that it stays in a cache. If it lies badly in memory (strided along
the vectors, or at a distance that brings its lines into the same few places of a cache), it is copied first, block by
block, each of which is turned in registers. So is what rows read. This is how BLAS libraries nest the loops of a
product (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008), but for the order of terms.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from ..loops.extents import Ragged
from .memory import Access
from .text import Function, Value, store, type_of

#: Statements of fewer terms in all are not large: what their operands are is in the nearest cache anyway.
LARGE = 30_000
#: Lines of memory at multiples of this distance (4096 bytes, in numbers) share a few places of a cache; so many of
#: them do not fit in there.
_DISTANCE, _LINES = 512, 128


def tile_of(rows: int, vectors: int, accumulators: int) -> tuple[int, int]:
    """How many rows and vectors make a tile, of so many there are.

    A last tile that would reach over the end begins earlier, which computes some lanes twice: few, if possible. Among
    such tiles that one is taken which loads least for each of its accumulators.

    Example:
        >>> tile_of(64, 16, 16), tile_of(64, 9, 16), tile_of(64, 7, 16), tile_of(5, 2, 16)
        ((4, 4), (4, 3), (2, 7), (5, 2))
    """

    def cost(tile: tuple[int, int]) -> tuple[float, int]:
        r, v = tile
        computed = -(-rows // r) * r * -(-vectors // v) * v
        alone = max(0, 8 - r * v)  # additions wait for one another, if there are few
        return computed / (rows * vectors) * (1 + 0.05 * alone) + 0.2 * (r + v) / (r * v), -v

    tiles = itertools.product(range(1, min(rows, 8) + 1), range(1, min(vectors, 8) + 1))
    return min((tile for tile in tiles if tile[0] * tile[1] <= accumulators), key=cost)


def lies_badly(access: Access, rank: int) -> bool:
    """Whether the terms of an access are so far from each other that they do not stay in a cache together."""
    terms = zip(access.strides[rank:], access.extents[rank:], strict=True)
    return any(stride and stride % _DISTANCE == 0 and extent >= _LINES for stride, extent in terms)


def can_copy(access: Access) -> bool:
    """Whether an access has numbers at regular places."""
    return (
        access.constant is None
        and not access.gathers
        and not access.converted
        and access.memory == "f"
        and not any(access.bends)
        and not any(isinstance(extent, Ragged) for extent in access.extents)
    )


class Copied:
    """A copy of what an access reads along one dimension of the lanes and along its terms, while it is written.

    Args:
        function: that copies.
        access: what is copied; afterwards it reads the copy.
        rank: how many dimensions the lanes have.
        dimension: the one that is copied.
        length: how far it goes along this dimension.
        width: how many numbers a vector has.
        steps: where the copy has the next lane, and the next term along each of their dimensions; one of them is 1.
    """

    def __init__(
        self,
        function: Function,
        access: Access,
        rank: int,
        dimension: int,
        length: int,
        width: int,
        steps: Sequence[int],
    ) -> None:
        self.function, self.access, self.width = function, access, width
        self.sources = [access.strides[dimension], *access.strides[rank:]]
        self.extents = [length, *map(int, access.extents[rank:])]
        self.targets = list(steps)
        # Vectors are stored along one dimension, and loaded along one, which can be the same.
        wide = [k for k, extent in enumerate(self.extents) if extent >= width]
        self.stored = next((k for k in wide if self.targets[k] == 1), -1)
        self.loaded = min((k for k in wide if self.sources[k] in (1, -1)), key=lambda k: k != self.stored, default=-1)
        self.moved = self.stored >= 0 and self.loaded >= 0

    def write(self, source: str | int, target: int) -> None:
        """Copy, from a place behind the access's array to a place in memory."""
        self._loops(source, target, range(len(self.extents)))

    def _loops(self, source: str | int, target: str | int, dimensions: Sequence[int]) -> None:
        """Loops over dimensions; those of the vectors are the innermost."""
        function = self.function
        vectors = {self.loaded, self.stored} if self.moved else set[int]()
        order = sorted(dimensions, key=lambda k: (k in vectors, k == self.loaded))
        if not order:
            self._vectors(source, target)
            return
        first, *others = order
        extent, step = self.extents[first], self.width if first in vectors else 1
        with function.loop(extent, step) as index:
            if extent % step:
                index = function.least(index, extent - step)
            self._loops(
                function.plus(function.times(index, self.sources[first]), source),
                function.plus(function.times(index, self.targets[first]), target),
                others,
            )

    def _vectors(self, source: str | int, target: str | int) -> None:
        """Copy one number, one vector, or a square of vectors."""
        function, access, width = self.function, self.access, self.width
        if not self.moved:
            store(function, "f", Value(access.scalar(function, source)), target)
            return
        backwards = self.sources[self.loaded] == -1
        read: Callable[..., str] = access.backwards if backwards else access.vector
        if self.loaded == self.stored:
            store(function, "f", Value(read(function, source, width), width), target)
            return
        # Backwards, the vectors of the square are simply stored in the other order.
        begin = function.plus(source, 1 - width) if backwards else source
        step, to = self.sources[self.stored], self.targets[self.loaded]
        square = [access.vector(function, function.plus(begin, step * k), width) for k in range(width)]
        turned = transposed(function, square)
        for k, vector in enumerate(reversed(turned) if backwards else turned):
            store(function, "f", Value(vector, width), function.plus(target, to * k))


def transposed(function: Function, square: list[str]) -> list[str]:
    """A square of numbers, as many vectors as each has lanes (a power of two), turned at its diagonal."""
    width = len(square)
    kind = type_of("f", width)

    def shuffled(a: str, b: str, lanes: list[int]) -> str:
        order = ", ".join(f"i32 {lane}" for lane in lanes)
        return function.let(f"shufflevector {kind} {a}, {kind} {b}, <{width} x i32> <{order}>")

    step = 1
    while step < width:  # exchange the blocks of so many lanes that are beside the diagonal
        after = list(square)
        for k in range(width):
            if not k & step:
                a, b = square[k], square[k | step]
                after[k] = shuffled(a, b, [n if not n & step else width + n - step for n in range(width)])
                after[k | step] = shuffled(a, b, [n + step if not n & step else width + n for n in range(width)])
        square, step = after, 2 * step
    return square
