"""Rounds as LLVM functions: a loop in which all statements run. What is carried is in registers, if it is a number."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...runtime import primitives as p
from ..loops.buffers import span
from ..loops.extents import Ragged, fixed
from ..loops.grammar import Apply, Block, Loop, Loops, Read, Repeat, Statement, addresses
from ..loops.reroll.chains import FOLDED
from ..program.spelling import llvm_number as number
from .memory import Memory, accesses_of
from .operations import Writer, spelled
from .statements import StatementWriter
from .text import Function, Value, load, store, type_of


def write_rounds(memory: Memory, repeat: Repeat, function: Function, read: Any) -> list[Writer]:
    """Write the rounds of a repeat, whose starts have run; return what has written the statements.

    Args:
        memory: of the program.
        repeat: what is written.
        function: what it is written into.
        read: `read_from_memory` of the program.
    """
    rounds = _Rounds(memory, repeat, function, read)
    rounds.write(repeat.loop)
    return [writer.writer for writer in rounds.written]


class _Rounds:
    """The rounds of a repeat while they are written.

    Attributes:
        writers: of its statements, by position; `written`, of the starts of inner loops as well.
        registers: what is carried, by the position of a statement and the number of rounds.
    """

    def __init__(self, memory: Memory, repeat: Repeat, function: Function, read: Any) -> None:
        self.memory, self.repeat, self.function, self.read = memory, repeat, function, read
        self.origins, self.kinds = _origins(repeat), [statement.kind for statement in repeat.statements]
        self.registers: dict[tuple[int, int], str] = {}
        self.results: dict[int, Any] = {}
        self.written: list[StatementWriter] = []
        self.writers, self.starts = {}, {}
        for loop in (repeat.loop, *repeat.inner):
            self.starts[loop] = [self._writer(s, loop.depth) for s in repeat.starts_of(loop)] if loop.depth else []
            for k in repeat.within(loop):
                if not isinstance(k, Loop):
                    self.writers[k] = self._writer(repeat.statements[k], loop.depth + 1)
        depths = [(k, depth) for k, furthest in self.origins.values() for depth in range(1, furthest + 1)]
        for k, depth in sorted(set(depths)):
            self.registers[k, depth] = function.allocate(type_of(self.kinds[k], 0))

    def _writer(self, statement: Statement, rounds: int) -> StatementWriter:
        repeat, accesses = self.repeat, accesses_of(statement, self.memory)
        for access, extents in statement.reads():
            low, high = span(access, extents)
            if high >= repeat.base and low < repeat.base + repeat.lanes:
                accesses[id(access)].scope = ""  # what it reads is written in the same loop
        writer = StatementWriter(self.memory, statement, accesses, self.function, rounds)
        writer.registers = {key: Value("") for key in accesses if key in self.origins}
        writer.bind(self.memory.plan.place(fixed(statement.base), statement.kind))
        self.written.append(writer)
        return writer

    def _carried(self, k: int, depth: int) -> Value:
        return Value(self.function.let(f"load {type_of(self.kinds[k], 0)}, ptr {self.registers[k, depth]}"))

    def _carry(self, k: int, depth: int, name: str) -> None:
        self.function.do(f"store {type_of(self.kinds[k], 0)} {name}, ptr {self.registers[k, depth]}")

    def write(self, loop: Loop, outer: tuple[str | int, ...] = ()) -> None:
        """Write a loop, in a round of each loop around it."""
        function, repeat = self.function, self.repeat
        for start in self.starts[loop]:
            start.round(outer, True)
        inside = list(repeat.within(loop))
        carried = sorted((k, depth) for k, depth in self.registers if k in inside)
        for k, depth in carried:
            place: str | int = -depth
            writer = self.writers[k]
            for index, stride, bend in zip(outer, writer.lane_strides, writer.lane_bends, strict=False):
                place = function.plus(place, function.times(index, stride))
                if bend:
                    place = function.plus(place, function.times(function.pairs(index), bend))
            self._carry(k, depth, load(function, self.kinds[k], place, array=self.writers[k].array))
        if not loop.depth:
            function.moves.append((len(function.row), "count", 0, 0))
        rounds, first, are_left = repeat.rounds_of(loop), "0", "true"
        if isinstance(rounds, Ragged):
            row = function.times(outer[rounds.dimension], rounds.step)
            count = str(function.plus(function.bound(rounds.first), row))
        else:
            count = function.bound(rounds)
        running = None if outer else _running_extreme(self.memory, repeat, self.written[0], self.origins)
        if running is not None:
            first = function.let(f"and i64 {count}, {-self.memory.machine.lanes}")
            with function.when(function.let(f"icmp ne i64 {first}, 0")):
                _write_running(self.writers[0], running, first, self.registers[0, 1])
            are_left = function.let(f"icmp ult i64 {first}, {count}")
        with function.when(are_left), function.loop(count, 1, first) as index:
            for item in inside:
                if isinstance(item, Loop):
                    self.write(item, (*outer, index))
                else:
                    self._statement(item, (*outer, index))
            for k, depth in reversed(carried):
                value = self._carried(k, depth - 1) if depth > 1 else self.results[k]
                self._carry(k, depth, self.writers[k].writer.splat(value, self.kinds[k], 0))

    def _statement(self, position: int, indices: tuple[str | int, ...]) -> None:
        writer = self.writers[position]
        for key in writer.registers:
            k, depth = self.origins[key]
            writer.registers[key] = self._carried(k, depth) if depth else self.results[k]
        self.results[position] = writer.round(indices, bool(self.read[writer.statement.places].any()))


def _running_extreme(
    memory: Memory, repeat: Repeat, writer: StatementWriter, origins: dict[int, tuple[int, int]]
) -> Read | None:
    """What is read if a repeat is the running maximum or minimum of consecutive numbers; None if it is not."""
    body = repeat.statements[0].body
    if repeat.inner or len(repeat.statements) > 1 or len(body) != 3 or memory.machine.lanes < 4:
        return None
    last, reads = body[2], [node for node in body if isinstance(node, Read) and id(node) not in origins]
    if not isinstance(last, Apply) or last.primitive not in (p.maximum, p.minimum) or len(reads) != 1:
        return None
    access = writer.accesses[id(reads[0])]
    consecutive = access.scope and access.constant is None and not access.gathers and not access.bends
    return reads[0] if consecutive and access.strides in ([1], [-1]) and [*origins.values()] == [(0, 1)] else None


def _write_running(writer: StatementWriter, read: Read, end: str, register: str) -> None:
    """The running maximum or minimum of whole vectors.

    Extremes are associative to the last bit: the result is the first of the largest operands, or a NaN. So each vector
    becomes its own running extreme, in steps of 1, 2, 4 lanes, and is then joined with the one of all vectors before.
    """
    function, lanes, access = writer.function, writer.memory.machine.lanes, writer.accesses[id(read)]
    node = writer.statement.body[2]
    assert isinstance(node, Apply)
    kind, earlier_first = type_of("f", lanes), writer.statement.body[node.operands[1]] is read
    operation = spelled(node.primitive)

    def joined(earlier: Value, later: Value) -> Value:
        return operation(writer.writer, *((earlier, later) if earlier_first else (later, earlier)))

    def shuffled(a: str, b: str, order: Iterable[int]) -> Value:
        places = ", ".join(f"i32 {k}" for k in order)
        return Value(function.let(f"shufflevector {kind} {a}, {kind} {b}, <{lanes} x i32> <{places}>"), lanes)

    nothing = writer.writer.splat(Value(number(FOLDED[node.primitive])), "f", lanes)
    total = function.allocate(kind)
    start = Value(function.let(f"load double, ptr {register}"))
    function.do(f"store {kind} {writer.writer.splat(start, 'f', lanes)}, ptr {total}")
    with function.loop(end, lanes) as index:
        place = function.plus(function.times(index, access.strides[0]), access.start)
        load_vector = access.vector if access.strides[0] == 1 else access.backwards
        own = Value(load_vector(function, place, lanes), lanes)
        step = 1
        while step < lanes:
            shifted = shuffled(nothing, own.name, [*[0] * step, *range(lanes, 2 * lanes - step)])
            own, step = joined(shifted, own), 2 * step
        before = Value(function.let(f"load {kind}, ptr {total}"), lanes)
        store(function, "f", joined(before, own), index, ", !noalias !2", writer.array)
        after = joined(before, shuffled(own.name, own.name, [lanes - 1] * lanes))
        function.do(f"store {kind} {after.name}, ptr {total}")
    last = function.let(f"load {kind}, ptr {total}")
    function.do(f"store double {function.let(f'extractelement {kind} {last}, i32 0')}, ptr {register}")


def read_from_memory(program: Loops) -> Any:
    """One truth value per address: whether it is read from memory, not only from a register."""
    read = np.zeros(program.size, dtype=bool)
    read[program.outputs] = True
    for item in program.statements:
        if isinstance(item, Block):
            read[item.reads] = True
            continue
        origins = _origins(item) if isinstance(item, Repeat) else {}
        for statement in item.members() if isinstance(item, Repeat) else [item]:
            for access, extents in statement.reads():
                if id(access) not in origins:
                    read[addresses(access, extents)] = True
    return read


def _bends(read: Read) -> tuple[int, ...]:
    return read.bends or (0,) * len(read.strides)


def _origins(repeat: Repeat) -> dict[int, tuple[int, int]]:
    """Accesses that read one number of this round or one before: whose result, and how many rounds before."""
    origins = {}
    for loop in (repeat.loop, *repeat.inner):
        inside = [k for k in repeat.within(loop) if not isinstance(k, Loop)]
        statements = [repeat.statements[k] for k in inside]
        single = [
            (fixed(s.base), sum(not loop.depth or len(each.steps) > 0 for each in repeat.starts[k]), k, s.target)
            for k, s in zip(inside, statements, strict=True) if len(s.shape) == loop.depth + 1
        ]  # fmt: skip
        bases = [base for base, *_ in single]
        for statement in statements:
            for read, _ in statement.reads():
                position = bisect.bisect_left(bases, fixed(read.base))
                if read.table is not None or any(read.strides[loop.depth + 1 :]) or position == len(single):
                    continue
                base, before, k, target = single[position]
                depth = base - fixed(read.base)
                moves = zip(target.strides, _bends(target), strict=True)
                if depth <= before and [*zip(read.strides, _bends(read), strict=True)][: loop.depth + 1] == [*moves]:
                    origins[id(read)] = k, depth
    return origins
