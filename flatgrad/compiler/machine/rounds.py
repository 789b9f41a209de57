"""Rounds as LLVM functions: a loop in which all statements run. What is carried is in registers, if it is a number."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...runtime import primitives as p
from ..loops.buffers import span
from ..loops.extents import fixed
from ..loops.grammar import Apply, Block, Loops, Read, Repeat, addresses
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
    origins, kinds = _origins(repeat), [statement.kind for statement in repeat.statements]
    writers = []
    for statement in repeat.statements:
        accesses = accesses_of(statement, memory)
        for access, extents in statement.reads():
            low, high = span(access, extents)
            if high >= repeat.base and low < repeat.base + repeat.lanes:
                accesses[id(access)].scope = ""  # what it reads is written in the same loop
        writer = StatementWriter(memory, statement, accesses, function, rounds=True)
        writer.registers = {key: Value("") for key in accesses if key in origins}
        writer.bind(memory.plan.place(fixed(statement.base), statement.kind))
        writers.append(writer)
    registers = {}
    for k in range(len(writers)):
        for depth in range(1, 1 + max((d for owner, d in origins.values() if owner == k), default=0)):
            registers[k, depth] = function.allocate(type_of(kinds[k], 0))
            first = load(function, kinds[k], -depth, array=writers[k].array)
            function.do(f"store {type_of(kinds[k], 0)} {first}, ptr {registers[k, depth]}")

    def carried(k: int, depth: int) -> Value:
        return Value(function.let(f"load {type_of(kinds[k], 0)}, ptr {registers[k, depth]}"))

    function.moves.append((len(function.row), "count", 0, 0))
    count, first, are_left = function.bound(repeat.count), "0", "true"
    running = _running_extreme(memory, repeat, writers[0], origins)
    if running is not None:
        first = function.let(f"and i64 {count}, {-memory.machine.lanes}")
        with function.when(function.let(f"icmp ne i64 {first}, 0")):
            _write_running(writers[0], running, first, registers[0, 1])
        are_left = function.let(f"icmp ult i64 {first}, {count}")
    with function.when(are_left), function.loop(count, 1, first) as index:
        results: list[Any] = []
        for writer in writers:
            for key in writer.registers:
                k, depth = origins[key]
                writer.registers[key] = carried(k, depth) if depth else results[k]
            base = fixed(writer.statement.base)
            results.append(writer.round(index, bool(read[base : base + writer.statement.lanes].any())))
        for k, depth in sorted(registers, reverse=True):
            value = carried(k, depth - 1) if depth > 1 else results[k]
            name = writers[k].writer.splat(value, kinds[k], 0)
            function.do(f"store {type_of(kinds[k], 0)} {name}, ptr {registers[k, depth]}")
    return [writer.writer for writer in writers]


def _running_extreme(
    memory: Memory, repeat: Repeat, writer: StatementWriter, origins: dict[int, tuple[int, int]]
) -> Read | None:
    """What is read if a repeat is the running maximum or minimum of consecutive numbers; None if it is not."""
    body = repeat.statements[0].body
    if len(repeat.statements) > 1 or len(body) != 3 or memory.machine.lanes < 4:
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


def _origins(repeat: Repeat) -> dict[int, tuple[int, int]]:
    """Accesses that read one number of this round or one before: whose result, and how many rounds before."""
    pairs = zip(repeat.statements, repeat.starts, strict=True)
    single = [(fixed(s.base), len(starts), k) for k, (s, starts) in enumerate(pairs) if len(s.shape) == 1]
    bases = [base for base, _, _ in single]
    origins = {}
    for statement in repeat.statements:
        for read, _ in statement.reads():
            if read.table is not None or read.strides[0] != 1 or any(read.strides[1:]):
                continue
            position = bisect.bisect_left(bases, fixed(read.base))
            if position < len(single):
                base, before, k = single[position]
                depth = base - fixed(read.base)
                if depth <= before:
                    origins[id(read)] = k, depth
    return origins
