"""Rounds as LLVM functions: a loop in which all statements run. What is carried is in registers, if it is a number."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np

from ..loops.buffers import span
from ..loops.extents import fixed
from ..loops.grammar import Block, Loops, Repeat, addresses
from .memory import Memory, accesses_of
from .operations import Writer
from .statements import StatementWriter
from .text import Function, Value, load, type_of


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

    with function.loop(function.bound(repeat.count)) as index:
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
