"""Large folds, such as the products of matrices: how their loops are nested, tiled, and fed.

A tile of rows and vectors has its accumulators in registers, and runs through its terms in their order. What it reads
along the vectors is a panel: as wide as the tile, as long as the terms are many. All rows of tiles use a panel, one
after the other, before the next panel begins, so that it stays in a cache. If there are very many terms, they are
taken in blocks: the accumulators of all tiles wait in memory meanwhile. If a panel lies badly in memory (strided along
the vectors, or at a distance that brings its lines into the same few places of a cache), it is copied first, block by
block, each of which is turned in registers. So is what rows read. This is how BLAS libraries nest the loops of a
product (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008), but for the order of terms.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from ..loops.extents import Ragged, fixed
from ..loops.grammar import Apply, Fold, Read, Segment, Statement
from ..loops.reroll.chains import FOLDED
from ..program.spelling import llvm_number
from .memory import Access, Memory
from .results import Direct
from .statements import StatementWriter, is_open
from .text import Function, Value, store, type_of

#: A statement with fewer terms in all is not large: what it reads is in the nearest cache anyway. Nor is one
#: whose folds have fewer terms each, or longer bodies, which hardly wait for memory.
_LARGE, _TERMS, _BODY = 30_000, 6, 12
#: The accumulators of a tile: where vectors have eight lanes, as such processors have 32 registers; and elsewhere,
#: as of 16 registers others are needed for what is read.
_MANY, _FEW = 16, 8
#: How many vectors a tile has along an open extent.
_NARROW = 2
#: Lines of memory at multiples of this distance (4096 bytes, in numbers) share a few places of a cache; so many of
#: them do not fit in there.
_DISTANCE, _LINES = 512, 128
#: Panels of more numbers than the first are taken in blocks of about the second.
_PANEL, _BLOCK = 32_768, 8_192

_Index = str | int
_Indices = dict[int, _Index]


def statement_writer(
    memory: Memory, statement: Statement, accesses: dict[int, Access], function: Function, target: Read | Direct
) -> StatementWriter:
    """What writes a statement that is not in rounds."""
    writer = StatementWriter(memory, statement, accesses, function, target=target)
    key = f"large {statement.name}"  # with open extents, it is large if it is at those at which tiles are chosen
    if not (memory.open and key in memory.tiles):
        memory.tiles[key] = _is_large(writer)
    return LargeWriter(memory, statement, accesses, function, target) if memory.tiles[key] else writer


def _is_large(writer: StatementWriter) -> bool:
    """Whether a statement is a large fold of terms that are computed fast, with rows and vectors."""
    accesses = writer.accesses.values()
    inner = [node for fold in writer.folds for segment in fold.segments for node in segment.body]
    return (
        writer.row >= 0
        and not writer.lookups
        and writer.ragged < 0
        and writer.lanes == writer.memory.machine.lanes
        and writer.terms >= _TERMS
        and math.prod(writer.shape) * writer.terms >= _LARGE
        and len(inner) <= _BODY
        and not any(isinstance(node, Apply) and node.primitive.slow for node in inner)
        and not any(isinstance(extent, Ragged) for access in accesses for extent in access.extents)
        and not any(any(access.bends) for access in accesses)
    )


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


class Blocks(NamedTuple):
    """How the terms of a segment are taken in blocks: along one dimension; those outside have loops of their own.

    Example:
        >>> Blocks.of((5000,), 256), Blocks.of((9, 40, 40), 256), Blocks.of((4, 8), 256)
        (Blocks(dimension=0, length=256), Blocks(dimension=1, length=6), Blocks(dimension=0, length=4))
    """

    dimension: int
    length: int

    @classmethod
    def of(cls, extents: Sequence[int], terms: int) -> Blocks:
        """Blocks of at most so many terms, for a segment with these extents."""
        for k, extent in enumerate(extents):
            inner = math.prod(extents[k + 1 :])
            if inner <= terms:
                return cls(k, min(extent, terms // inner))
        return cls(0, 1)  # of a segment without extents


class LargeWriter(StatementWriter):
    """Writes a statement with large folds: panels outside, rows of tiles inside, terms in blocks if they are many.

    Attributes:
        panels: accesses of which the part that a panel reads is copied.
        turned: accesses of which all is copied, each row's terms side by side.
        blocked: whether terms are taken in blocks.
    """

    def __init__(
        self,
        memory: Memory,
        statement: Statement,
        accesses: dict[int, Access],
        function: Function,
        target: Read | Direct,
    ) -> None:
        super().__init__(memory, statement, accesses, function, target=target)
        others = [k for k in range(len(self.shape)) if k not in (self.vector, self.row)]
        #: The loops, from the outermost to the innermost.
        self.order: list[int] = [*others, self.vector, self.row]
        self.panels: list[Access] = [access for access in accesses.values() if self._copies_panel(access)]
        self.turned: list[Access] = [access for access in accesses.values() if self._copies_rows(access)]
        width = self.vectors * self.width
        segments = [segment for fold in self.folds for segment in fold.segments]
        reads = Counter(read for s in segments for read in {id(node) for node in s.body if isinstance(node, Read)})
        self.blocked: bool = (
            self.terms * width > _PANEL
            and not memory.open
            and all(fold.primitive.result == "f" for fold in self.folds)
            and max(reads.values(), default=1) == 1
        )
        self._block = max(1, _BLOCK // width)
        self.offsets: list[str | int] = [
            min(k * self.width, int(self.shape[self.vector]) - self.width) for k in range(self.vectors)
        ]

    @property
    def _copies(self) -> bool:
        return bool(self.panels or self.turned or self.blocked)

    @property
    def _needs_first(self) -> bool:
        return bool(self.turned or self.blocked)

    def _choose_tile(self) -> None:
        super()._choose_tile()
        extent = self.shape[self.vector]
        # Code for open extents is for those of at least a tile, so that should not be wide.
        vectors = _NARROW if is_open(extent) else -(-extent // self.width)
        self.rows: int
        self.vectors: int
        self.rows, self.vectors = tile_of(self.shape[self.row], vectors, _MANY if self.width == 8 else _FEW)

    # --- copies ---------------------------------------------------------------------------------------------------

    def _packs(self, access: Access) -> bool:
        return False

    def _copies_by_tile(self, access: Access) -> bool:
        return False

    def _copies_panel(self, access: Access) -> bool:
        """Whether what a panel has of an access is copied, because all rows of tiles read it."""
        stride = access.strides[self.vector]
        return (
            _can_copy(access, len(self.shape), self.vector)
            and self.shape[self.row] > self.rows
            and access.strides[self.row] == 0
            and stride != 0
            and (stride not in (1, -1) or _lies_badly(access, len(self.shape)))
        )

    def _copies_rows(self, access: Access) -> bool:
        """Whether what the rows read of an access is copied, because all panels read it."""
        rank = len(self.shape)
        return (
            _can_copy(access, rank, self.row)
            and self.shape[self.vector] > self.vectors * self.width
            and access.strides[self.row] != 0
            and not any(access.strides[k] for k in range(rank) if k != self.row)
            and _lies_badly(access, rank)
        )

    def _copy_panels(self, indices: _Indices, accesses: Sequence[Access]) -> None:
        """Copy what a panel has of accesses: the lanes of its vectors side by side, term by term."""
        rank = len(self.shape)
        for access in accesses:
            self._copy_panel(access, indices, 0, list(map(int, access.extents[rank:])), 0)

    def _copy_panel(
        self, access: Access, indices: _Indices, depth: int, extents: Sequence[int], window: _Index
    ) -> None:
        """Copy what a panel has of the terms from one dimension on; of that, a window."""
        function, rank = self.function, len(self.shape)
        length = min((self.vectors - 1) * self.width, int(self.shape[self.vector]) - self.width) + self.width
        steps = [math.prod(extents[k + 1 :]) * length for k in range(len(extents))]
        source: _Index = access.start
        for dimension, index in indices.items():
            if dimension < rank + depth:
                source = function.plus(function.times(index, access.strides[dimension]), source)
        terms = access.strides[rank + depth :]
        if terms:
            source = function.plus(function.times(window, terms[0]), source)
        target, array = self._scratch(length * math.prod(extents))
        copied = _Copied(
            function, access, self.width, [access.strides[self.vector], *terms], [length, *extents], [1, *steps]
        )
        copied.write(source, target, array)
        access.array, access.scope, access.tiled = array, "", True
        access.start = function.plus(function.times(window, -steps[0]), target) if steps else target
        access.strides = [int(k == self.vector) for k in range(rank)] + [0] * depth + steps

    def _copy_rows(self, access: Access) -> None:
        """Copy all that the rows read of an access: the terms of each row side by side."""
        rank = len(self.shape)
        extents = [self.shape[self.row], *map(int, access.extents[rank:])]
        steps = [math.prod(extents[k + 1 :]) for k in range(len(extents))]
        target, array = self._scratch(math.prod(extents))
        sources = [access.strides[self.row], *access.strides[rank:]]
        _Copied(self.function, access, self.width, sources, extents, steps).write(access.start, target, array)
        access.array, access.start, access.scope = array, target, ""
        access.strides = [steps[0] if k == self.row else 0 for k in range(rank)] + steps[1:]

    # --- loops ----------------------------------------------------------------------------------------------------

    def _lanes(self, depth: int, indices: _Indices) -> None:
        if not depth:
            for access in self.turned:
                self._copy_rows(access)
        if depth < len(self.shape) - 2:
            with self._loop(self.order[depth], indices) as (index, _):
                self._lanes(depth + 1, {**indices, self.order[depth]: index})
        elif self.blocked:
            self.function.attributes = "#3"
            self._in_blocks(indices)
        else:
            self._nest(indices, lambda panel: self._copy_panels(panel, self.panels), lambda tile, *_: self._tile(tile))

    def _nest(
        self, indices: _Indices, begin: Callable[[_Indices], None], tile: Callable[[_Indices, _Index, _Index], None]
    ) -> None:
        """The loops over panels, each of which has a beginning, and over rows of tiles.

        A tile is told, too, where it would begin if it did not begin earlier: across and down.
        """
        with self._loop(self.vector, indices) as (vector, across):
            panel = {**indices, self.vector: vector}
            begin(panel)
            with self._loop(self.row, indices) as (row, down):
                tile({**panel, self.row: row}, across, down)

    def _in_blocks(self, indices: _Indices) -> None:
        """All tiles with their terms in blocks; at last what the statement does with the results of its folds."""
        width = self.vectors * self.width
        room = (self.shape[self.vector] + width) * (self.shape[self.row] + self.rows)
        folds = {k: node for k, node in enumerate(self.statement.body) if isinstance(node, Fold)}
        sums = {k: self._scratch(room)[0] for k in folds}
        for k, fold in folds.items():
            self._fold_in_blocks(fold, indices, sums[k])
        inside = {id(node) for fold in self.folds for segment in fold.segments for node in segment.body}
        outside = [self.accesses[key] for key in self.accesses if key not in inside]
        outside = [access for access in outside if access in self.panels]

        def tile(lanes: _Indices, across: _Index, down: _Index) -> None:
            self._tile(lanes, {k: self._loaded(self._room(start, across, down)) for k, start in sums.items()})

        self._nest(indices, lambda panel: self._copy_panels(panel, outside), tile)

    def _fold_in_blocks(self, fold: Fold, indices: _Indices, sums: int) -> None:
        """Run through the terms of a fold, block by block; the accumulators of tiles are in memory in between."""
        start = self.writer.splat(Value(llvm_number(FOLDED[fold.primitive])), "f", self.lanes)

        def begin(_: _Indices, across: _Index, down: _Index) -> None:
            for at in self._places(self._room(sums, across, down)).values():
                self._keep(start, at)

        self._nest(indices, lambda _: None, begin)
        for segment in fold.segments:
            with self._blocks(segment, indices) as (terms, first, count, window):
                self._block_of(fold, segment, terms, first, count, window, sums)

    @contextmanager
    def _blocks(self, segment: Segment, indices: _Indices) -> Iterator[tuple[_Indices, _Index, _Index, _Index]]:
        """Loops over the blocks of a segment: indices, where a block begins, its length, and where its copy begins."""
        function, rank = self.function, len(self.shape)
        extents = [fixed(extent) for extent in segment.extents]
        dimension, block = Blocks.of(extents, self._block)
        with ExitStack() as loops:
            terms = dict(indices)
            for k in range(dimension):
                terms[rank + k] = loops.enter_context(function.loop(extents[k]))
            if not extents:
                yield terms, 0, 1, 0
                return
            extent = extents[dimension]
            first = loops.enter_context(function.loop(extent, block))
            count: _Index = block
            window = first
            if extent % block:
                left = function.plus(function.times(first, -1), extent)
                count = function.least(left, block)
                window = function.least(first, extent - block)  # the last one begins earlier
            yield terms, first, count, window

    def _block_of(
        self, fold: Fold, segment: Segment, terms: _Indices, first: _Index, count: _Index, window: _Index, sums: int
    ) -> None:
        """Add a block of terms to the accumulators of all tiles."""
        function, rank = self.function, len(self.shape)
        extents = [fixed(extent) for extent in segment.extents]
        dimension, block = Blocks.of(extents, self._block)
        reads = [self.accesses[id(node)] for node in segment.body if isinstance(node, Read)]
        kind = type_of("f", self.lanes)

        def begin(panel: _Indices) -> None:
            for access in reads:
                if access in self.panels:
                    copied = [block, *extents[dimension + 1 :]] if extents else []
                    self._copy_panel(access, panel, dimension, copied, window)

        def tile(lanes: _Indices, across: _Index, down: _Index) -> None:
            place = self._room(sums, across, down)
            registers: dict[tuple[int, int], str] = {}
            for key, value in self._loaded(place).items():
                registers[key] = function.allocate(kind)
                function.do(f"store {kind} {value.name}, ptr {registers[key]}")
            if not extents:
                self._terms(fold, segment, 0, lanes, registers)
            else:
                with function.loop(count) as index:
                    inner = {**lanes, rank + dimension: function.plus(index, first)}
                    self._terms(fold, segment, dimension + 1, inner, registers)
            for key, at in self._places(place).items():
                self._keep(function.let(f"load {kind}, ptr {registers[key]}"), at)

        self._nest(terms, begin, tile)

    def _room(self, sums: int, across: _Index, down: _Index) -> _Index:
        """Where the accumulators of a tile are in memory: each tile has room for as many numbers as it has lanes."""
        function = self.function
        column = function.times(across, self.shape[self.row] + self.rows)
        return function.plus(function.plus(column, function.times(down, self.vectors * self.width)), sums)

    def _places(self, place: _Index) -> dict[tuple[int, int], str]:
        """Pointers to the same for each accumulator, by row and vector."""
        keys = itertools.product(range(self.rows), range(self.vectors))
        places = {key: self.function.plus(place, k * self.width) for k, key in enumerate(keys)}
        return {
            key: self.function.let(f"getelementptr inbounds double, ptr %m, i64 {at}") for key, at in places.items()
        }

    def _keep(self, vector: str, pointer: str) -> None:
        """Store an accumulator."""
        self.function.do(f"store {type_of('f', self.lanes)} {vector}, ptr {pointer}, align 8")

    def _loaded(self, place: _Index) -> dict[tuple[int, int], Value]:
        """The accumulators of a tile."""
        kind, let = type_of("f", self.lanes), self.function.let
        return {
            key: Value(let(f"load {kind}, ptr {pointer}, align 8"), self.lanes)
            for key, pointer in self._places(place).items()
        }


# --- copies -----------------------------------------------------------------------------------------------------------


def _can_copy(access: Access, rank: int, dimension: int) -> bool:
    """Whether what an access reads along a dimension and its terms are numbers at regular places, whatever is open."""
    sizes = access.extents[dimension], access.strides[dimension], *access.extents[rank:], *access.strides[rank:]
    regular = access.constant is None and not access.gathers and not access.converted and access.memory == "f"
    return regular and not any(map(is_open, sizes))


def _lies_badly(access: Access, rank: int) -> bool:
    """Whether the terms of an access are so far from each other that they do not stay in a cache together."""
    terms = zip(access.strides[rank:], access.extents[rank:], strict=True)
    return any(stride and stride % _DISTANCE == 0 and extent >= _LINES for stride, extent in terms)


class _Copied:
    """A copy of numbers with several dimensions, while it is written.

    Args:
        function: that copies.
        access: what is copied.
        width: how many numbers a vector has.
        sources, extents, targets: of each dimension, the stride in memory, the extent, and the stride of the copy. One
            of these is 1.
    """

    def __init__(
        self,
        function: Function,
        access: Access,
        width: int,
        sources: Sequence[int],
        extents: Sequence[int],
        targets: Sequence[int],
    ) -> None:
        self.function, self.access, self.width, self.array = function, access, width, ""
        self.sources, self.extents, self.targets = sources, extents, targets
        # Vectors are stored along one dimension, and loaded along one, which can be the same.
        wide = [k for k, extent in enumerate(extents) if extent >= width]
        self.stored = next((k for k in wide if targets[k] == 1), -1)
        loaded = [k for k in wide if sources[k] in (1, -1)]
        self.loaded = min(loaded, key=lambda k: k != self.stored, default=-1)
        self.vectors = {self.loaded, self.stored} if self.loaded >= 0 and self.stored >= 0 else set[int]()

    def write(self, source: _Index, target: _Index, array: str) -> None:
        """Copy, from a place behind the access's array to a place behind another one."""
        self.array = array
        order = sorted(range(len(self.extents)), key=lambda k: (k in self.vectors, k == self.loaded))
        self._loops(source, target, order)

    def _loops(self, source: _Index, target: _Index, order: Sequence[int]) -> None:
        """Loops over dimensions; those of the vectors are the innermost."""
        function = self.function
        if not order:
            self._moved(source, target)
            return
        first, *others = order
        extent, step = self.extents[first], self.width if first in self.vectors else 1
        with function.loop(extent, step) as index:
            if extent % step:
                index = function.least(index, extent - step)
            source = function.plus(function.times(index, self.sources[first]), source)
            self._loops(source, function.plus(function.times(index, self.targets[first]), target), others)

    def _moved(self, source: _Index, target: _Index) -> None:
        """Copy one number, one vector, or a square of vectors."""
        function, access, width = self.function, self.access, self.width
        if not self.vectors:
            store(function, "f", Value(access.scalar(function, source)), target, array=self.array)
            return
        backwards = self.sources[self.loaded] == -1
        if self.loaded == self.stored:
            vector = (access.backwards if backwards else access.vector)(function, source, width)
            store(function, "f", Value(vector, width), target, array=self.array)
            return
        # Backwards, the vectors of the square are simply stored in the other order.
        begin = function.plus(source, 1 - width) if backwards else source
        step, to = self.sources[self.stored], self.targets[self.loaded]
        square = [access.vector(function, function.plus(begin, step * k), width) for k in range(width)]
        turned = _transposed(function, square)
        for k, vector in enumerate(reversed(turned) if backwards else turned):
            store(function, "f", Value(vector, width), function.plus(target, to * k), array=self.array)


def _transposed(function: Function, square: list[str]) -> list[str]:
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
