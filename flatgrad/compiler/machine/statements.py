"""Statements as LLVM functions: loops over tiles of lanes, with the accumulators of folds in registers.

A vector or tile that would reach over the end of its dimension begins earlier instead: some lanes are computed twice,
with the same result. An access that is strided along the vectors is copied to scratch memory first, if it is read
several times; the loops then read whole vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ...runtime import primitives as p
from ..loops.extents import Bound, Ragged, fixed
from ..loops.grammar import Apply, Fold, Node, Read, Segment, Statement, values_of
from ..loops.reroll.chains import FOLDED
from ..program.spelling import llvm_number as number
from .lookups import counts
from .memory import Access, Memory
from .operations import Writer, spelled
from .results import Direct
from .text import Function, Value, bound_array, result_array, store, type_of

#: The limits of a tile: accumulators (vectors), and vectors side by side.
_ACCUMULATORS, _VECTORS = 12, 4
#: Rows of at most so many vectors are cut into tiles that overlap little.
_ROW = 32
#: Statements with fewer terms in all get tiles of half the size.
_LITTLE = 4_000
#: Among many statements, those of at most so many terms are small: one vector at a time, with any strides.
_SMALL = 128
#: Copies of what a tile reads have at most so many terms.
_TILED = 256
#: Where there are no terms, several vectors side by side are worth it for bodies of at most so many nodes.
_SIMPLE = 12
#: A look-up of at least so many terms computes the one that it selects, and not all of them: where that is the same one
#: for all lanes of a vector, and where it is not, so that there are no vectors.
_LOOKUP, _LOOKUP_PER_LANE = 8, 64
#: Folds that have the same result in any order, to the last bit.
_ASSOCIATIVE = (p.logical_and, p.logical_or)


def _terms(statement: Statement) -> int:
    """The terms of all folds of one lane."""
    return sum(segment.terms for node in statement.body if isinstance(node, Fold) for segment in node.segments)


def is_small(memory: Memory, statement: Statement) -> bool:
    """Whether a statement is one of many, and small: then it shares its code with as many others as can be."""
    return memory.many and statement.lanes * max(1, _terms(statement)) <= _SMALL


class Lookup(NamedTuple):
    """A segment of a fold that selects one of its terms by an integer.

    Attributes:
        choice, term: positions of the nodes of its body that are the integer and the term.
        extent: how many terms there are.
    """

    choice: int
    term: int
    extent: int


def _is_where(node: Node) -> bool:
    return isinstance(node, Apply) and node.primitive is p.where


class StatementWriter:
    """Writes one statement: loops over lanes outside, tiles of vectors inside, loops over terms in their order.

    Args:
        memory: of the program.
        statement: what is written.
        accesses: its accesses.
        function: what it is written into.
        rounds: how many of its outermost dimensions are loops outside of it.
        target: where its lanes are, if not one after the other from its base: in memory, or in a group of results.

    Attributes:
        registers: in rounds, what accesses read that do not read memory, by the identity of their reads.
        vector, width, lanes, vectors: of a tile: the dimension that runs along vectors, or -1; how many numbers one
            advances by; the lanes of a vector, 0 for scalars; how many vectors there are.
        row, rows: the dimension that the rows of a tile run along, or -1; how many there are.
    """

    vector: int
    width: int
    lanes: int
    vectors: int
    row: int
    rows: int

    def __init__(
        self,
        memory: Memory,
        statement: Statement,
        accesses: dict[int, Access],
        function: Function,
        rounds: int = 0,
        target: Read | Direct | None = None,
    ) -> None:
        self.memory = memory
        self.statement = statement
        self.accesses = accesses
        self.shape: tuple[int, ...] = tuple(map(fixed, statement.shape))
        self.function = function
        self.rounds = rounds
        self.writer: Writer = Writer(function, memory.fast, memory.machine)
        self.array: str = ""
        self.registers: dict[int, Value] = {}
        self.keep: bool = True
        self.result: Value | None = None  # the last one that was computed
        self.scratch: list[tuple[int, int]] = []
        self._range: tuple[str, str] | None = None  # of the first dimension, as the schedule says it
        self.range_at: int = -1  # where that stands in its row of the schedule
        self.offsets: list[str | int] = []  # where each vector of a tile begins, relative to the tile
        #: The group of results that it writes to; None if it writes to memory.
        self.group: int | None = target.group if isinstance(target, Direct) else None
        lanes = target.target if isinstance(target, Direct) else target or statement.target
        self.lane_strides: list[Any] = list(map(fixed, lanes.strides))
        self.lane_bends: tuple[int, ...] = lanes.bends or (0,) * len(self.shape)
        #: The smallest extents: of a ragged one, that of its shortest row.
        self.least: tuple[int, ...] = tuple(n.least if isinstance(n, Ragged) else n for n in self.shape)
        #: The dimension that is ragged, and its first extent, which calls say.
        ragged = [k for k, extent in enumerate(self.shape) if k >= rounds and isinstance(extent, Ragged)]
        self.ragged: int = ragged[0] if ragged else -1
        self.first: str | int = 0
        self.length: str | int = 0  # of the row that is being computed
        self.folds: list[Fold] = [node for node in statement.body if isinstance(node, Fold)]
        self.terms: int = _terms(statement)
        self.small: bool = not rounds and is_small(memory, statement)
        #: The segments of folds that are look-ups, by identity.
        self.lookups: dict[int, Lookup] = {
            id(segment): lookup
            for fold in self.folds
            for segment in fold.segments if (lookup := self._lookup(fold, segment)) is not None
        }  # fmt: skip
        self._take_tile()
        copies = not rounds and not self.lookups
        self.packed: list[Access] = [access for access in accesses.values() if copies and self._packs(access)]
        self.tiled: list[Access] = [access for access in accesses.values() if copies and self._copies_by_tile(access)]
        #: Whether calls may have parts of the first dimension, of at least one step.
        self.ranged: bool = (
            bool(self.shape) and not rounds and (is_open(self.shape[0]) or self.shape[0] > self._step(0))
        )

    # --- sharing --------------------------------------------------------------------------------------------------

    @property
    def form(self) -> tuple[Any, ...]:
        """All that the code depends on: statements of the same form share it, with other places and bounds."""
        forms = {read: (k, access.form(self.small)) for k, (read, access) in enumerate(self.accesses.items())}

        def loops(body: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(
                forms[id(node)] if isinstance(node, Read)
                else (node.primitive, node.operands) if isinstance(node, Apply)
                else (node.primitive, tuple(
                    (tuple(0 if self._binds(node, extent) else extent for extent in map(fixed, segment.extents)),
                     loops(segment.body), id(segment) in self.lookups)
                    for segment in node.segments
                ))
                for node in body
            )  # fmt: skip

        tile = self.vector, self.width, self.vectors, self.row, self.rows
        first = () if self.ranged and not self._needs_first else self.shape[:1]
        shape = tuple((n.step, n.dimension) if isinstance(n, Ragged) else n for n in self.shape[1:])
        if self.ragged == self.vector >= 0:  # the longest and the shortest row decide about the vectors
            fixed_ones = [offset <= self.least[self.vector] - self.width for offset in self._offsets]
            shape += (self.shape[self.vector] > self._step(self.vector), *self._offsets, *fixed_ones)
        strides = self.lane_bends, *(0 if k == self.ragged - 1 else n for k, n in enumerate(self.lane_strides))
        where = self.statement.kind if self.group is None else "results"
        return where, len(self.shape), first, shape, strides, tile, loops(self.statement.body)

    @property
    def bounds(self) -> list[int]:
        """What calls say behind where it writes: of each access, the range of the first dimension, extents of terms."""
        accesses = [word for access in self.accesses.values() for word in access.bounds(self.small)]
        extents = [
            extent
            for fold in self.folds
            for segment in fold.segments
            for extent in map(fixed, segment.extents) if self._binds(fold, extent)
        ]  # fmt: skip
        return [*accesses, *self._firsts, *([0, self.shape[0]] if self.ranged else ()), *extents]

    @property
    def _firsts(self) -> list[int]:
        """The length of the first row, if lanes are ragged."""
        return [extent.first for extent in self.shape if isinstance(extent, Ragged)]

    def _binds(self, fold: Fold, extent: int) -> bool:
        """Whether calls say how far the terms of a fold go along a dimension.

        Copies need to know that, and LLVM's vectoriser is better if it does.
        """
        return is_open(extent) or (
            extent > 1
            and not self.lookups
            and not (isinstance(extent, Ragged) or self._copies or self.memory.fast or self._runs_across(fold))
        )

    @property
    def _copies(self) -> bool:
        """Whether anything is copied before it is read."""
        return bool(self.packed or self.tiled)

    @property
    def _needs_first(self) -> bool:
        """Whether the code depends on the extent of the first dimension, even if calls say how far it goes."""
        return bool(self.packed)

    def _runs_across(self, fold: Fold) -> bool:
        """Whether the terms of a single lane run along vectors."""
        associative = fold.primitive in _ASSOCIATIVE or (self.memory.fast and fold.primitive in (p.add, p.mul))
        varies = any(is_open(extent) for segment in fold.segments for extent in segment.extents)
        return associative and self.vector < 0 and not varies and not self.lookups

    # --- look-ups -------------------------------------------------------------------------------------------------

    def _lookup(self, fold: Fold, segment: Segment) -> Lookup | None:
        """How a segment selects one of its terms, `where(i == 0, t0, -0.0) + where(i == 1, t1, -0.0) + ...`."""
        body = segment.body
        if fold.primitive is not p.add or len(segment.extents) != 1 or not _is_where(body[-1]):
            return None
        (extent,) = segment.extents
        condition, term, other = body[-1].operands  # type: ignore[union-attr]
        compared, nothing = body[condition], body[other]
        if not (isinstance(compared, Apply) and compared.primitive is p.equal and isinstance(nothing, Read)):
            return None
        index, number = compared.operands
        numbers, read = body[number], body[index]
        if not isinstance(numbers, Read) or not isinstance(read, Read) or type(extent) is not int:
            return None
        access, rank = self.accesses[id(read)], len(self.shape)
        has_vectors = any(self.shape[k] >= 2 and not access.moves(k) for k in range(self.rounds, rank))
        if (
            extent < (_LOOKUP if has_vectors else _LOOKUP_PER_LANE)
            or repr(self.accesses[id(nothing)].constant) != "-0.0"
            or access.gathers
            or access.moves(rank)
            or any(isinstance(node, Apply) and node.primitive.raises for node in body)
            or not counts(self.memory.program, numbers, rank, extent)
        ):
            return None
        return Lookup(index, term, extent)

    def _looked_up(self, lookup: Lookup, segment: Segment, indices: dict[int, str | int]) -> dict[Any, Value]:
        """The terms that a look-up selects; -0.0 where it selects none. It reads nothing else."""
        function, writer, dimension = self.function, self.writer, len(self.shape)
        read = _Values(self, segment.body[: lookup.choice + 1], {**indices, dimension: 0}).at(0, 0)
        zero = writer.constant(0.0)
        inside = writer.both(
            writer.compare("oge", read, zero), writer.compare("olt", read, writer.constant(float(lookup.extent)))
        )
        place = function.let(f"fptosi double {writer.select(inside, read, zero).name} to i64")
        there = Value(function.let(f"sitofp i64 {place} to double"))
        selected = writer.both(inside, writer.compare("oeq", there, read))
        values = _Values(self, segment.body[: lookup.term + 1], {**indices, dimension: place})
        return {
            (row, k): writer.select(selected, values.at(row, k), writer.constant(-0.0))
            for row in range(self.rows)
            for k in range(self.vectors)
        }

    # --- the tile -------------------------------------------------------------------------------------------------

    def _take_tile(self) -> None:
        """Choose a tile, or take that which was chosen when the code was written for other extents."""
        # The statements that start rounds have the names of those in the rounds.
        key = f"{type(self).__name__}{f' in {self.rounds} rounds' if self.rounds else ''} {self.statement.name}"
        known = self.memory.tiles.get(key) if self.memory.open else None
        if known is not None:
            self.vector, self.width, self.lanes, self.vectors, self.row, self.rows, self.small = known
        else:
            self._choose_tile()
            tile = self.vector, self.width, self.lanes, self.vectors, self.row, self.rows, self.small
            self.memory.tiles[key] = tile
        for dimension, extent in enumerate(self.shape):
            if is_open(extent):
                self.memory.least.append((int(extent), self._step(dimension)))

    def _choose_tile(self) -> None:
        """Which dimension runs along vectors, how many vectors and rows make a tile."""
        shape, rank = self.shape, len(self.shape)
        uneven = self._uneven() | self._along_lookups()
        if self.memory.open and self.ragged >= 0:
            uneven = uneven | {self.ragged}
        if self.memory.narrow:
            uneven |= {k for k, extent in enumerate(shape) if is_open(extent)}
        candidates = [k for k in range(self.rounds, rank) if shape[k] >= 2 and k not in uneven]
        self.vector = min(candidates, key=self._vector_cost, default=-1)
        self.width = 1
        if self.vector >= 0:
            while self.width * 2 <= min(self.least[self.vector], self.memory.machine.lanes):
                self.width *= 2
        extent = self.least[self.vector] if self.vector >= 0 else 1
        self.lanes = self.width if self.width > 1 else 0
        most = _VECTORS if not self.small and (self.terms or self._is_simple()) else 1
        all_vectors = -(-extent // self.width)
        if self.ragged == self.vector >= 0:
            all_vectors = min(-(-shape[self.vector] // self.width), _VECTORS)
        self.vectors = min(all_vectors, most)
        if most > 1 and not self.terms and all_vectors <= _ROW and not self.memory.open:  # a tile costs half a vector
            choices = range(1, min(all_vectors, 2 * most) + 1)
            self.vectors = min(choices, key=lambda vectors: -(-all_vectors // vectors) * (vectors + 0.5))
        bent = {k for access in self.accesses.values() for k, bend in enumerate(access.bends) if bend}
        others = [
            k for k in range(self.rounds, rank)
            if k not in (self.vector, self.ragged) and shape[k] > 1 and k not in uneven | bent
        ]  # fmt: skip
        self.row = others[-1] if others and self.terms >= 2 and not self.small else -1
        self.rows = 1
        # What little work there is does not need much code: LLVM's time is proportional to that.
        little = self.statement.lanes * max(1, self.terms) < _LITTLE
        accumulators = _ACCUMULATORS // 2 if little else _ACCUMULATORS
        if self.row >= 0:
            room = max(1, accumulators // self.vectors)
            most = min(room, shape[self.row])
            self.rows = (
                1 if is_open(shape[self.row]) else max(n for n in range(1, most + 1) if shape[self.row] % n == 0)
            )
            if self.rows * 2 <= most:
                self.rows = min(most, 4)
        elif self.terms >= 4 and not self.small:
            self.vectors = min(all_vectors, max(_VECTORS, accumulators - 4))

    def _uneven(self) -> set[int]:
        """The dimensions along which the number of lanes or terms changes: a tile has one index of these."""
        extents = [extent for access in self.accesses.values() for extent in access.extents]
        return {extent.dimension for extent in extents if isinstance(extent, Ragged)}

    def _along_lookups(self) -> set[int]:
        """The dimensions along which what a look-up selects is another term."""
        reads = [segment.body[self.lookups[id(segment)].choice] for f in self.folds for segment in f.segments
                 if id(segment) in self.lookups]  # fmt: skip
        return {k for read in reads for k in range(len(self.shape)) if self.accesses[id(read)].moves(k)}

    def _is_simple(self) -> bool:
        """Whether there is little to compute per lane: no function of libm, and a few operations."""
        body = self.statement.body
        return len(body) <= _SIMPLE and not any(isinstance(n, Apply) and n.primitive.slow for n in body)

    def _vector_cost(self, dimension: int) -> float:
        """What a lane costs, in instructions, if this dimension runs along the vectors.

        A number that goes into a lane of a vector by itself, or comes out of it, takes a load or store and most of a
        shuffle (1.2); through a table, the index as well (1.5), as does copying one before (1.5, for a load, a store
        and the address). Of equals, the last dimension is taken.
        """
        extent, rank = self.least[dimension], len(self.shape)
        width = 1
        while width * 2 <= min(self.memory.machine.lanes, extent):
            width *= 2
        per_vector = -(-extent // width) / extent  # of one instruction for a whole vector
        cost = per_vector if self.lane_strides[dimension] == 1 else 1.2
        for access in self.accesses.values():
            reads = math.prod(access.extents[rank:])
            if access.gathers or (access.bends and access.bends[dimension]):
                cost += 1.5 * reads
            elif access.strides[dimension] in (0, 1):
                cost += per_vector * reads
            elif self._can_pack(access, dimension):
                cost += per_vector * reads + 1.5 * reads * extent / math.prod(self.shape)
            elif access.strides[dimension] == -1 and not access.converted:
                cost += 2 * per_vector * reads  # a load, and a shuffle that turns it round
            elif access.strides[dimension] in (-2, 2) and not access.converted:
                cost += 3 * per_vector * reads  # two loads, and a shuffle that takes every other number
            else:
                cost += 1.2 * reads
        return cost - dimension * 1e-3

    def _can_pack(self, access: Access, dimension: int) -> bool:
        """Whether an access is worth copying: strided along vectors, and the same for other lanes."""
        rank = len(self.shape)
        others = math.prod(n for k, n in enumerate(self.shape) if k != dimension)
        return (
            not self.rounds
            and not access.gathers
            and not access.converted
            and not any(map(is_open, (*access.extents, *access.strides)))
            and access.memory == "f"
            and not access.bends
            and not any(isinstance(extent, Ragged) for extent in access.extents[rank:])
            and not any(access.strides[k] for k in range(rank) if k != dimension)
            and access.strides[dimension] not in (0, 1)
            and others >= 4
        )

    def _packs(self, access: Access) -> bool:
        """Whether an access is copied before it is read."""
        return bool(self.lanes) and not self.small and self._can_pack(access, self.vector)

    @property
    def _outer(self) -> int:
        """How many dimensions are loops around the tile; the others are loops in which the tile moves no further."""
        return int(max(self.vector, self.row)) + 1

    def _copies_by_tile(self, access: Access) -> bool:
        """Whether what a tile reads is copied to scratch memory first, because inner loops read it again and again."""
        rank, inner = len(self.shape), range(self._outer, len(self.shape))
        return (
            bool(self.lanes)
            and not self.small
            and access not in self.packed
            and not any(map(is_open, (*access.extents, *access.strides)))
            and not access.gathers
            and not access.converted
            and access.memory == "f"
            and access.strides[self.vector] not in (0, 1)
            and self.ragged < 0
            and not any(access.bends[:rank])
            and not any(access.strides[k] for k in inner)
            and not any(isinstance(extent, Ragged) and extent.dimension >= rank for extent in access.extents)
            and math.prod(self.shape[k] for k in inner) >= 4
            and math.prod(access.extents[rank:]) <= _TILED
        )

    def _copy_tile(self, access: Access, indices: dict[int, str | int]) -> None:
        """Copy what a tile reads of an access to scratch memory, lanes side by side."""
        function, rank = self.function, len(self.shape)
        extents = access.extents[rank:]
        length = min((self.vectors - 1) * self.width, self.shape[self.vector] - self.width) + self.width
        terms = math.prod(extents) * length
        rows = self.rows if self.row >= 0 and access.strides[self.row] else 1
        target, array = self._scratch(rows * terms)
        steps = [math.prod(extents[k + 1 :]) * length for k in range(len(extents))]

        def copied(source: str | int, place: str | int, depth: int) -> None:
            if depth < len(extents):
                with function.loop(int(extents[depth])) as k:
                    inner = function.plus(function.times(k, access.strides[rank + depth]), source)
                    if access.bends and access.bends[rank + depth]:
                        inner = function.plus(function.times(function.pairs(k), access.bends[rank + depth]), inner)
                    copied(inner, function.plus(function.times(k, steps[depth]), place), depth + 1)
                return
            with function.loop(length) as k:
                item = access.scalar(function, function.plus(function.times(k, access.strides[self.vector]), source))
                store(function, "f", Value(item), function.plus(k, place), array=array)

        source: str | int = access.start
        for dimension, index in indices.items():
            source = function.plus(function.times(index, access.strides[dimension]), source)
        for row in range(rows):
            copied(function.plus(source, access.strides[self.row] * row if row else 0), target + row * terms, 0)
        access.array, access.start, access.scope, access.bends, access.tiled = array, target, "", (), True
        moving = {self.vector: 1, self.row: terms if rows > 1 else 0}
        access.strides = [moving.get(k, 0) for k in range(rank)] + steps

    def _pack(self, access: Access) -> None:
        """Copy what an access reads to scratch memory, vector by vector."""
        dimension, rank = self.vector, len(self.shape)
        extents = access.extents[rank:]
        length = int(self.shape[dimension])
        place, array = self._scratch(math.prod(extents) * length)
        self._copied(access, extents, 0, place, 0, length, array)
        steps = [math.prod(extents[k + 1 :]) * length for k in range(len(extents))]
        access.array, access.start = array, place
        access.strides = [1 if k == dimension else 0 for k in range(rank)] + steps
        access.scope = ""

    def _scratch(self, size: int) -> tuple[int, str]:
        """Scratch memory of the statement: a place behind an array."""
        place = self.memory.arena.take(size)
        self.scratch.append((place, size))
        return (0, bound_array(self.function, "f", place)) if self.memory.open else (place, "")

    def _copied(
        self,
        access: Access,
        extents: tuple[int, ...],
        source: str | int,
        target: str | int,
        depth: int,
        length: int,
        array: str,
    ) -> None:
        function, rank = self.function, len(self.shape)
        if depth < len(extents):
            step = math.prod(extents[depth + 1 :]) * length
            with function.loop(extents[depth]) as k:
                inner = function.plus(function.times(k, access.strides[rank + depth]), source)
                place = function.plus(function.times(k, step), target)
                self._copied(access, extents, inner, place, depth + 1, length, array)
            return
        with function.loop(length) as k:
            place = function.plus(function.times(k, access.strides[self.vector]), source)
            item = access.scalar(function, place)
            store(function, "f", Value(item), function.plus(k, target), array=array)

    # --- loops ----------------------------------------------------------------------------------------------------

    def write(self, place: int) -> Function:
        """The function: it gets the places that it writes to and reads from, and a range of its first dimension."""
        self.bind(place)
        for access in self.packed:
            self._pack(access)
        self._lanes(0, {})
        for place, size in self.scratch:
            self.memory.arena.give(place, size)
        return self.function

    def bind(self, place: int) -> None:
        """Let the schedule say where it writes, and where accesses begin that read memory."""
        function, kind = self.function, self.statement.kind
        if self.rounds:
            function.moves.append((len(function.row), kind, fixed(self.statement.base), self.lane_strides[0]))
        self.array = (
            bound_array(function, kind, place) if self.group is None else result_array(function, self.group, place)
        )
        self.lane_strides = [self.function.bound(n) if is_open(n) else n for n in self.lane_strides]
        for read, access in self.accesses.items():
            if read not in self.registers:
                if self.rounds and access.constant is None:
                    array = "i" if access.gathers else access.memory
                    function.moves.append((len(function.row), array, access.address, access.strides[0]))
                access.bind(self.function, self.small)
        if self.ragged >= 0:
            self.first = self.function.bound(self._firsts[0])
            self.lane_strides[self.ragged - 1] = self.function.times(self.first, self.lane_strides[self.ragged])

    def round(self, indices: Sequence[str | int], keep: bool) -> Value | None:
        """Write one round; return the result if it is a single number. It is stored if it is to be kept."""
        self.keep = keep
        self._lanes(len(indices), dict(enumerate(indices)))
        return self.result

    def _lanes(self, dimension: int, indices: dict[int, str | int]) -> None:
        """Loops over the dimensions of the lanes; the tile inside."""
        if dimension == self._outer:
            for access in self.tiled:
                self._copy_tile(access, indices)
        if dimension == len(self.shape):
            self._tile(indices)
            return
        with self._loop(dimension, indices) as (index, _):
            self._lanes(dimension + 1, {**indices, dimension: index})

    @contextmanager
    def _loop(self, dimension: int, indices: dict[int, str | int]) -> Iterator[tuple[str | int, str | int]]:
        """The loop over a dimension of the lanes; yields where a tile begins, and where it would begin by steps."""
        extent, step = self.shape[dimension], self._step(dimension)
        first: str | int = 0
        end: str | int = extent
        bound = dimension == 0 and self.ranged
        if bound:
            if self._range is None:
                self.range_at = len(self.function.row)
                self._range = self.function.bound(0), self.function.bound(extent)
            first, end = self._range
        elif isinstance(extent, Ragged):
            self.length = self.function.plus(self.function.times(indices[extent.dimension], extent.step), self.first)
            end = self.length
        elif is_open(extent):
            end = self.function.bound(extent)
        with self.function.loop(end, step, first) as index:
            begin = index
            reaches_over = bound or dimension == self.ragged or extent % step
            if step > 1 and (is_open(extent) or (extent > step and reaches_over)):
                begin = self.function.least(index, self.function.plus(end, -step))
            yield begin, index

    def _step(self, dimension: int) -> int:
        """How far a tile reaches along a dimension."""
        return self.vectors * self.width if dimension == self.vector else self.rows if dimension == self.row else 1

    @property
    def _offsets(self) -> list[int]:
        """Where each vector of a tile begins, in the longest row."""
        extent = self.shape[self.vector] if self.vector >= 0 else 1
        last = self.vectors * self.width if is_open(extent) else max(int(extent) - self.width, 0)
        return [min(k * self.width, last) for k in range(self.vectors)]

    def _tile(
        self, indices: dict[int, str | int], folds: dict[int, dict[tuple[int, int], Value]] | None = None
    ) -> None:
        """Compute and store a tile; of some folds the results may be there already, by position."""
        offsets = self._offsets
        self.offsets = [*offsets]
        if self.ragged == self.vector >= 0:  # in rows that have not so many vectors, the last ones are the same
            last_of_row, least = self.function.plus(self.length, -self.width), self.least[self.vector] - self.width
            self.offsets = [n if n <= least else self.function.least(n, last_of_row) for n in offsets]
        body = self.statement.body
        values = _Values(self, body, indices)
        values.folds.update(folds or {})
        place: str | int = 0
        for dimension, index in indices.items():
            place = self.function.plus(self.function.times(index, self.lane_strides[dimension]), place)
            if self.lane_bends[dimension]:
                pairs = self.function.times(self.function.pairs(index), self.lane_bends[dimension])
                place = self.function.plus(pairs, place)
        for row in range(self.rows):
            for k, offset in enumerate(self.offsets):
                self._give(values.at(row, k), place, row, offset)

    def _give(self, result: Value, place: str | int, row: int, offset: str | int) -> None:
        """Store a vector of results."""
        function, kind = self.function, self.statement.kind
        stride = self.lane_strides[self.vector] if self.vector >= 0 else 1
        shift = function.times(offset, stride)
        if row:
            shift = function.plus(shift, function.times(row, self.lane_strides[self.row]))
        self.result = result
        if not self.keep:
            return
        name = self.writer.splat(result, kind, self.lanes)
        scope = ", !noalias !2"
        if not self.lanes or stride == 1:
            store(function, kind, Value(name, self.lanes), function.plus(place, shift), scope, self.array)
            return
        for k in range(self.lanes):
            one = function.let(f"extractelement {type_of(kind, self.lanes)} {name}, i32 {k}")
            at = function.plus(place, function.plus(shift, function.times(k, stride)))
            store(function, kind, Value(one), at, scope, self.array)

    # --- folds ----------------------------------------------------------------------------------------------------

    def fold(self, fold: Fold, indices: dict[int, str | int]) -> dict[tuple[int, int], Value]:
        """Fold the terms of all lanes of a tile; the accumulators are registers."""
        if self._runs_across(fold):
            return {(0, 0): self._fold_across(fold, indices)}
        function, primitive = self.function, fold.primitive
        kind = type_of(primitive.result, self.lanes)
        start = number(FOLDED[primitive])
        first = self.writer.splat(Value(start), primitive.result, self.lanes)
        sums = {(row, k): function.allocate(kind) for row in range(self.rows) for k in range(self.vectors)}
        for pointer in sums.values():
            function.do(f"store {kind} {first}, ptr {pointer}")
        for segment in fold.segments:
            self._terms(fold, segment, 0, dict(indices), sums)
        return {key: Value(function.let(f"load {kind}, ptr {pointer}"), self.lanes) for key, pointer in sums.items()}

    def _fold_across(self, fold: Fold, indices: dict[int, str | int]) -> Value:
        """Fold the terms of a single lane along vectors, each lane of which has a part of the terms.

        That is another order: for what is associative, or in fast mode.
        """
        function, write = self.function, spelled(fold.primitive)
        start, lanes = number(FOLDED[fold.primitive]), self.memory.machine.lanes
        result = fold.primitive.result
        one_lane = type_of(result, 0)
        total = function.allocate(one_lane)
        function.do(f"store {one_lane} {start}, ptr {total}")
        for segment in fold.segments:
            inner = fixed(segment.extents[-1]) if segment.extents else 1
            ragged = bool(self._uneven()) or any(access.bends for access in self.accesses.values())
            vectors = 0 if ragged else min(_VECTORS, inner // lanes)
            whole = inner - inner % (lanes * vectors) if vectors else 0
            if whole:
                kind = type_of(result, lanes)
                sums = {(0, k): function.allocate(kind) for k in range(vectors)}
                first = self.writer.splat(Value(start), result, lanes)
                for pointer in sums.values():
                    function.do(f"store {kind} {first}, ptr {pointer}")
                with self._vectors_along(len(self.shape) + len(segment.extents) - 1, lanes, vectors):
                    self._terms(fold, segment, 0, dict(indices), sums, (0, whole, lanes * vectors))
                sum_of_lanes, *others = [Value(function.let(f"load {kind}, ptr {at}"), lanes) for at in sums.values()]
                for other in others:
                    sum_of_lanes = write(self.writer, sum_of_lanes, other)
                for k in range(lanes):
                    one = Value(function.let(f"extractelement {kind} {sum_of_lanes.name}, i32 {k}"))
                    after = write(self.writer, Value(function.let(f"load {one_lane}, ptr {total}")), one)
                    function.do(f"store {one_lane} {after.name}, ptr {total}")
            if whole < inner:
                part = None if ragged else (whole, inner - whole, 1)
                self._terms(fold, segment, 0, dict(indices), {(0, 0): total}, part)
        return Value(function.let(f"load {one_lane}, ptr {total}"))

    @contextmanager
    def _vectors_along(self, dimension: int, lanes: int, vectors: int) -> Iterator[None]:
        """Let vectors run along a dimension of the terms; outside of it the statement has a single lane."""
        before = self.vector, self.lanes, self.vectors, self.offsets
        self.vector, self.lanes, self.vectors = dimension, lanes, vectors
        self.offsets = [k * lanes for k in range(vectors)]
        try:
            yield
        finally:
            self.vector, self.lanes, self.vectors, self.offsets = before

    def _terms(
        self,
        fold: Fold,
        segment: Segment,
        depth: int,
        indices: dict[int, str | int],
        sums: dict[tuple[int, int], str],
        part: tuple[int, int, int] | None = None,
    ) -> None:
        """Loops over the terms; `part` says where the innermost one begins, how far it goes, and in which steps."""
        function = self.function
        lookup = self.lookups.get(id(segment))
        if lookup is not None:
            self._add(fold, sums, self._looked_up(lookup, segment, indices))
            return
        if depth < len(segment.extents):
            begin, step, extent = 0, 1, fixed(segment.extents[depth])
            count: str | int = extent
            if isinstance(extent, Ragged):
                shortest = function.bound(extent.first) if is_open(extent.first) else extent.first
                count = function.plus(function.times(indices[extent.dimension], extent.step), shortest)
            elif self._binds(fold, extent):
                count = function.bound(extent)
            if part is not None and depth == len(segment.extents) - 1:
                begin, count, step = part
            with function.loop(count, step) as index:
                indices[len(self.shape) + depth] = function.plus(index, begin)
                self._terms(fold, segment, depth + 1, indices, sums, part)
            return
        values = _Values(self, segment.body, indices)
        self._add(fold, sums, {key: values.at(*key) for key in sums})

    def _add(self, fold: Fold, sums: dict[tuple[int, int], str], terms: dict[tuple[int, int], Value]) -> None:
        """Bring a term of each lane into the accumulators."""
        function, kind = self.function, type_of(fold.primitive.result, self.lanes)
        for key, pointer in sums.items():
            term = terms[key]
            before = Value(function.let(f"load {kind}, ptr {pointer}"), self.lanes)
            after = spelled(fold.primitive)(self.writer, before, term)
            function.do(f"store {kind} {after.name}, ptr {pointer}")


class _Values:
    """The values of a body's nodes in a tile; what does not move along rows or vectors is computed once."""

    def __init__(self, owner: StatementWriter, body: Sequence[Any], indices: dict[int, str | int]) -> None:
        self.owner, self.body, self.indices = owner, body, indices
        self.values: dict[tuple[int, int, int], Value] = {}
        self.places: dict[int, str | int] = {}
        self.folds: dict[int, dict[tuple[int, int], Value]] = {}
        self.moves = values_of(body, self._moves)  # along rows, along vectors

    def _moves(self, k: int, node: Node, operands: list[tuple[bool, bool]]) -> tuple[bool, bool]:
        if isinstance(node, Read):
            access = self.owner.accesses[id(node)]
            return access.moves(self.owner.row), access.moves(self.owner.vector)
        if isinstance(node, Apply):
            return any(row for row, _ in operands), any(vector for _, vector in operands)
        return True, True

    def at(self, row: int, vector: int) -> Value:
        """The value of the body in one vector of the tile."""

        def compute(k: int, node: Node, operands: list[Value]) -> Value:
            rows, vectors = self.moves[k]
            key = k, row if rows else 0, vector if vectors else 0
            if key not in self.values:
                self.values[key] = self._computed(k, node, operands, row, vector)
            return self.values[key]

        return values_of(self.body, compute)[-1]

    def _computed(self, k: int, node: Node, operands: list[Value], row: int, vector: int) -> Value:
        if isinstance(node, Read):
            return self._read(node, row, vector)
        if isinstance(node, Apply):
            return spelled(node.primitive)(self.owner.writer, *operands)
        if k not in self.folds:
            self.folds[k] = self.owner.fold(node, self.indices)
        return self.folds[k][row, vector]

    def _read(self, read: Read, row: int, vector: int) -> Value:
        owner, access = self.owner, self.owner.accesses[id(read)]
        if id(read) in owner.registers:
            return owner.registers[id(read)]
        if access.constant is not None:
            return Value(number(access.constant), 0, access.constant)
        function = owner.function
        if id(read) not in self.places:
            place: str | int = access.start
            for dimension, index in self.indices.items():
                if access.tiled and dimension < len(owner.shape):
                    continue
                place = function.plus(function.times(index, access.strides[dimension]), place)
                if access.bends and access.bends[dimension]:
                    place = function.plus(function.times(function.pairs(index), access.bends[dimension]), place)
            self.places[id(read)] = place
        shift = function.times(access.strides[owner.row], row) if owner.row >= 0 else 0
        stride = access.strides[owner.vector] if owner.vector >= 0 else 0
        offset, bend = owner.offsets[vector], 0
        if access.bends and owner.vector >= 0 and access.bends[owner.vector]:
            bend = access.bends[owner.vector]  # the stride is that of the tile's first lane
            stride = function.plus(function.times(self.indices[owner.vector], bend), stride)
        shift = function.plus(shift, function.times(stride, offset))
        if bend:
            shift = function.plus(shift, function.times(function.pairs(offset), bend))
        place = function.plus(self.places[id(read)], shift)
        if not access.moves(owner.vector) or not owner.lanes:
            return Value(access.scalar(function, place))
        if bend:
            stride = function.plus(stride, function.times(offset, bend))
            places = [function.plus(function.times(stride, k), bend * (k * (k - 1) // 2)) for k in range(owner.lanes)]
            return self._collected(access, [function.plus(place, one) for one in places])
        if stride == 1 and not access.gathers and not access.converted:
            return Value(access.vector(function, place, owner.lanes), owner.lanes)
        if stride == -1 and not access.gathers and not access.converted:
            return Value(access.backwards(function, place, owner.lanes), owner.lanes)
        if stride in (-2, 2) and not access.gathers and not access.converted:
            return Value(access.every_other(function, place, owner.lanes, stride), owner.lanes)
        return self._collected(access, [function.plus(place, function.times(stride, k)) for k in range(owner.lanes)])

    def _collected(self, access: Access, places: Sequence[str | int]) -> Value:
        """Numbers or truth values from anywhere, as a vector."""
        function, kind = self.owner.function, type_of(access.kind, len(places))
        result = "poison"
        for k, place in enumerate(places):
            one = access.scalar(function, place)
            result = function.let(f"insertelement {kind} {result}, {type_of(access.kind, 0)} {one}, i32 {k}")
        return Value(result, len(places))


def is_open(number: Any) -> bool:
    """Whether a number would be another one at other extents."""
    return isinstance(number, Bound)
