"""Statements as LLVM functions: loops over tiles of lanes, with the accumulators of folds in registers.

A vector or tile that would reach over the end of its dimension begins earlier instead: some lanes are computed twice,
with the same result. An access that is strided along the vectors is copied to scratch memory first, if it is read
several times; the loops then read whole vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...runtime import primitives as p
from ..loops.extents import fixed
from ..loops.grammar import Apply, Fold, Node, Read, Segment, Statement, kinds_of, values_of
from ..loops.reroll.chains import FOLDED
from ..program.spelling import llvm_number as number
from .operations import Writer, spelled
from .text import Function, Value, element, loaded_index, store, type_of

if TYPE_CHECKING:
    from .llvm import Module

#: So many accumulators (vectors) a tile has at most, and so many vectors side by side.
_ACCUMULATORS, _VECTORS = 12, 4
#: Statements with fewer terms in all get tiles of half the size.
_LITTLE = 4_000
#: Where there are no terms, several vectors side by side are worth it for bodies of at most so many nodes.
_SIMPLE = 12
#: Folds that have the same result in any order, to the last bit.
_ASSOCIATIVE = (p.logical_and, p.logical_or)


class Access:
    """A read of a statement, over the dimensions of lanes and terms: strides into memory, or into a table."""

    def __init__(self, read: Read, kind: str, extents: tuple[int, ...], module: Module) -> None:
        self.kind, self.extents = kind, extents
        self.converted = False  # truth values that came in as numbers
        self.scope = ", !alias.scope !2"
        if read.table is not None:
            if kind == "b":
                inputs = read.table < module.program.inputs
                if inputs.all():
                    self.converted, kind = True, "f"
                elif inputs.any():  # truth values of both sorts: those that came in are brought to the others
                    module.input_truths.update(read.table[inputs].tolist())
            self.table = module.table(read.table, kind)
            self.base: str | int = 0
            self.strides = [math.prod(extents[k + 1 :]) for k in range(len(extents))]
        else:
            base = fixed(read.base)
            if kind == "b" and base < module.program.inputs:
                self.converted, kind = True, "f"
            self.table = -1
            self.base = module.plan.place(base, kind)
            self.strides = [fixed(stride) for stride in read.strides]
        self.memory = kind

    def moves(self, dimension: int) -> bool:
        return dimension >= 0 and self.strides[dimension] != 0


class StatementWriter:
    """Writes one statement: loops over lanes outside, tiles of vectors inside, loops over terms in their order."""

    def __init__(self, module: Module, statement: Statement) -> None:
        self.module, self.statement = module, statement
        self.shape = tuple(map(fixed, statement.shape))
        self.function = Function(f"{statement.name}_{len(module.calls)}")
        self.writer = Writer(self.function, module.fast, module.machine)
        self.base: str | int = module.plan.place(fixed(statement.base), statement.kind)
        self.accesses: dict[int, Access] = {}
        self.scratch: list[tuple[int, int]] = []
        self.offsets: list[int] = []  # where each vector of a tile begins, relative to the tile
        self.lane_strides = [math.prod(self.shape[k + 1 :]) for k in range(len(self.shape))]
        self._find_accesses(statement.body, statement.kind, self.shape)
        for node in statement.body:
            if isinstance(node, Fold):
                for segment in node.segments:
                    self._find_accesses(segment.body, node.primitive.operand_kinds[0], self._domain(segment))
        self.terms = sum(
            math.prod(map(fixed, segment.extents))
            for node in statement.body if isinstance(node, Fold) for segment in node.segments
        )  # fmt: skip
        self._choose_tile()

    def _domain(self, segment: Segment) -> tuple[int, ...]:
        return (*self.shape, *map(fixed, segment.extents))

    def _find_accesses(self, body: Sequence[Any], wanted: str, extents: tuple[int, ...]) -> None:
        for node, kind in zip(body, kinds_of(body, wanted), strict=True):
            if isinstance(node, Read):
                self.accesses[id(node)] = Access(node, kind, extents, self.module)

    # --- the tile -------------------------------------------------------------------------------------------------

    def _choose_tile(self) -> None:
        """Which dimension runs along vectors, how many vectors and rows make a tile."""
        shape, rank = self.shape, len(self.shape)
        candidates = [k for k in range(rank) if shape[k] >= 2]
        self.vector = min(candidates, key=self._vector_cost, default=-1)
        self.width = 1
        if self.vector >= 0:
            while self.width * 2 <= min(shape[self.vector], self.module.machine.lanes):
                self.width *= 2
        extent = shape[self.vector] if self.vector >= 0 else 1
        self.lanes = self.width if self.width > 1 else 0
        most = _VECTORS if self.terms or self._is_simple() else 1
        needed = -(-extent // self.width)
        self.vectors = min(needed, most)
        others = [k for k in range(rank) if k != self.vector and shape[k] > 1]
        self.row = others[-1] if others and self.terms >= 2 else -1
        self.rows = 1
        # What little work there is does not need much code: LLVM's time is proportional to that.
        little = math.prod(shape) * max(1, self.terms) < _LITTLE
        accumulators = _ACCUMULATORS // 2 if little else _ACCUMULATORS
        if self.row >= 0:
            room = max(1, accumulators // self.vectors)
            most = min(room, shape[self.row])
            self.rows = max(n for n in range(1, most + 1) if shape[self.row] % n == 0)
            if self.rows * 2 <= most:
                self.rows = min(most, 4)
        elif self.terms >= 4:
            self.vectors = min(needed, max(_VECTORS, accumulators - 4))

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
        extent, rank = self.shape[dimension], len(self.shape)
        width = 1
        while width * 2 <= min(self.module.machine.lanes, extent):
            width *= 2
        per_vector = -(-extent // width) / extent  # of one instruction for a whole vector
        cost = per_vector if self.lane_strides[dimension] == 1 else 1.2
        for access in self.accesses.values():
            reads = math.prod(access.extents[rank:])
            if access.table >= 0:
                cost += 1.5 * reads
            elif access.strides[dimension] in (0, 1):
                cost += per_vector * reads
            elif self._can_pack(access, dimension):
                cost += per_vector * reads + 1.5 * reads * extent / math.prod(self.shape)
            else:
                cost += 1.2 * reads
        return cost - dimension * 1e-3

    def _can_pack(self, access: Access, dimension: int) -> bool:
        """Whether an access is worth copying: strided along vectors, and the same for other lanes."""
        rank = len(self.shape)
        others = math.prod(n for k, n in enumerate(self.shape) if k != dimension)
        return (
            access.table < 0
            and not access.converted
            and access.memory == "f"
            and not any(access.strides[k] for k in range(rank) if k != dimension)
            and access.strides[dimension] not in (0, 1)
            and others >= 4
        )

    def _pack(self, access: Access) -> None:
        """Copy what an access reads to scratch memory, vector by vector."""
        dimension, rank = self.vector, len(self.shape)
        extents = access.extents[rank:]
        length = self.shape[dimension]
        size = math.prod(extents) * length
        place = self.module.arena.take(size)
        self.scratch.append((place, size))
        self._copied(access, extents, access.base, place, 0, length)
        steps = [math.prod(extents[k + 1 :]) * length for k in range(len(extents))]
        access.base = place
        access.strides = [1 if k == dimension else 0 for k in range(rank)] + steps
        access.scope = ""

    def _copied(
        self, access: Access, extents: tuple[int, ...], source: str | int, target: str | int, depth: int, length: int
    ) -> None:
        function, rank = self.function, len(self.shape)
        if depth < len(extents):
            step = math.prod(extents[depth + 1 :]) * length
            with function.loop(extents[depth]) as k:
                inner = function.plus(function.times(k, access.strides[rank + depth]), source)
                self._copied(access, extents, inner, function.plus(function.times(k, step), target), depth + 1, length)
            return
        with function.loop(length) as k:
            place = function.plus(function.times(k, access.strides[self.vector]), source)
            store(function, "f", Value(element(function, "f", place, access.scope)), function.plus(k, target), "")

    # --- loops ----------------------------------------------------------------------------------------------------

    def places(self) -> list[str | int]:
        """The place that it writes to, and those where its accesses begin."""
        return [self.base, *(access.base for access in self.accesses.values())]

    def take_places(self) -> None:
        """Make the places arguments of the function, so that other statements can call it."""
        self.base = "%p0"
        for k, access in enumerate(self.accesses.values()):
            access.base = f"%p{k + 1}"
        self.function.parameters += "".join(f", i64 %p{k}" for k in range(len(self.accesses) + 1))

    def write(self, places: str = "") -> None:
        if self.lanes:
            for access in self.accesses.values():
                if self._can_pack(access, self.vector):
                    self._pack(access)
        self._lanes(0, {})
        self.module.add(self.function, self.writer, places)
        for place, size in self.scratch:
            self.module.arena.give(place, size)

    def _lanes(self, dimension: int, indices: dict[int, str | int]) -> None:
        """Loops over the dimensions of the lanes; the tile inside."""
        if dimension == len(self.shape):
            self._tile(indices)
            return
        extent = self.shape[dimension]
        step = 1
        if dimension == self.vector:
            step = self.vectors * self.width
        elif dimension == self.row:
            step = self.rows
        with self.function.loop(extent, step) as index:
            if step > 1 and extent % step and extent > step:
                index = self.function.least(index, extent - step)
            self._lanes(dimension + 1, {**indices, dimension: index})

    def _tile(self, indices: dict[int, str | int]) -> None:
        extent = self.shape[self.vector] if self.vector >= 0 else 1
        self.offsets = [min(k * self.width, max(extent - self.width, 0)) for k in range(self.vectors)]
        body = self.statement.body
        values = _Values(self, body, indices)
        place: str | int = self.base
        for dimension, index in indices.items():
            place = self.function.plus(self.function.times(index, self.lane_strides[dimension]), place)
        for row in range(self.rows):
            for k, offset in enumerate(self.offsets):
                self._give(values.at(row, k), place, row, offset)

    def _give(self, result: Value, place: str | int, row: int, offset: int) -> None:
        """Store a vector of results."""
        function, kind = self.function, self.statement.kind
        stride = self.lane_strides[self.vector] if self.vector >= 0 else 1
        shift = (row * self.lane_strides[self.row] if self.row >= 0 else 0) + offset * stride
        name = self.writer.splat(result, kind, self.lanes)
        scope = ", !noalias !2"
        if not self.lanes or stride == 1:
            store(function, kind, Value(name, self.lanes), function.plus(place, shift), scope)
            return
        for k in range(self.lanes):
            one = function.let(f"extractelement {type_of(kind, self.lanes)} {name}, i32 {k}")
            store(function, kind, Value(one), function.plus(place, shift + k * stride), scope)

    # --- folds ----------------------------------------------------------------------------------------------------

    def fold(self, fold: Fold, indices: dict[int, str | int]) -> dict[tuple[int, int], Value]:
        """Fold the terms of all lanes of a tile; the accumulators are registers."""
        associative = fold.primitive in _ASSOCIATIVE or (self.module.fast and fold.primitive in (p.add, p.mul))
        if associative and self.vector < 0:
            return {(0, 0): self._fold_across(fold, indices)}
        function, primitive = self.function, fold.primitive
        kind = type_of(primitive.result, self.lanes)
        start = number(FOLDED[primitive])
        first = self.writer.splat(Value(start), primitive.result, self.lanes)
        sums = {
            (row, k): function.allocate(kind) for row in range(self.rows) for k in range(self.vectors)
        }  # fmt: skip
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
        start, lanes = number(FOLDED[fold.primitive]), self.module.machine.lanes
        result = fold.primitive.result
        one_lane = type_of(result, 0)
        total = function.allocate(one_lane)
        function.do(f"store {one_lane} {start}, ptr {total}")
        for segment in fold.segments:
            inner = fixed(segment.extents[-1]) if segment.extents else 1
            vectors = min(_VECTORS, inner // lanes)
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
                self._terms(fold, segment, 0, dict(indices), {(0, 0): total}, (whole, inner - whole, 1))
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
        if depth < len(segment.extents):
            begin, count, step = 0, fixed(segment.extents[depth]), 1
            if part is not None and depth == len(segment.extents) - 1:
                begin, count, step = part
            with function.loop(count, step) as index:
                indices[len(self.shape) + depth] = function.plus(index, begin)
                self._terms(fold, segment, depth + 1, indices, sums, part)
            return
        values = _Values(self, segment.body, indices)
        kind = type_of(fold.primitive.result, self.lanes)
        for (row, k), pointer in sums.items():
            term = values.at(row, k)
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
        constant = owner.module.constant(read)
        if constant is not None:
            return Value(number(constant), 0, constant)
        function = owner.function
        if id(read) not in self.places:
            place: str | int = access.base if access.table < 0 else access.table
            for dimension, index in self.indices.items():
                place = function.plus(function.times(index, access.strides[dimension]), place)
            self.places[id(read)] = place
        shift = access.strides[owner.row] * row if owner.row >= 0 else 0
        stride = access.strides[owner.vector] if owner.vector >= 0 else 0
        shift += owner.offsets[vector] * stride
        place = function.plus(self.places[id(read)], shift)
        if not stride or not owner.lanes:
            return Value(self._scalar(access, place))
        if stride == 1 and access.table < 0 and not access.converted:
            return Value(self._vector(access, place), owner.lanes)
        kind = type_of(access.kind, owner.lanes)
        result = "poison"
        for k in range(owner.lanes):
            one = self._scalar(access, function.plus(place, k * stride))
            result = function.let(f"insertelement {kind} {result}, {type_of(access.kind, 0)} {one}, i32 {k}")
        return Value(result, owner.lanes)

    def _scalar(self, access: Access, place: str | int) -> str:
        function = self.owner.function
        if access.table >= 0:
            place = loaded_index(function, 0, place)
        one = element(function, access.memory, place, access.scope)
        return function.let(f"fcmp une double {one}, {number(0.0)}") if access.converted else one

    def _vector(self, access: Access, place: str | int) -> str:
        function, lanes = self.owner.function, self.owner.lanes
        if access.memory == "b":
            pointer = function.let(f"getelementptr inbounds i8, ptr %b, i64 {place}")
            wide = function.let(f"load <{lanes} x i8>, ptr {pointer}, align 1{access.scope}")
            return function.let(f"trunc <{lanes} x i8> {wide} to <{lanes} x i1>")
        pointer = function.let(f"getelementptr inbounds double, ptr %m, i64 {place}")
        return function.let(f"load <{lanes} x double>, ptr {pointer}, align 8{access.scope}")
