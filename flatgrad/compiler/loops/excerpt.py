"""A loop over rounds as an array program of its own, for languages that make a function of it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..program.program import Group
from .array_program import ArrayProgram
from .buffers import span
from .extents import Size, fixed
from .grammar import Block, Read, Repeat, Statement, addresses, members
from .views import Source, Sources


class Excerpt(NamedTuple):
    """A program of one repeat: what it takes are `reads` of the whole one, what it returns are `writes` with kinds."""

    program: ArrayProgram
    reads: list[Source]
    writes: list[tuple[Source, str]]


def excerpt(program: ArrayProgram, repeat: Repeat, sources: Sources) -> Excerpt:
    """The program of a repeat, which returns what the rest of the program reads of it; lists of constants are inputs.

    Args:
        program: the whole program.
        repeat: one of its items.
        sources: of the whole program.
    """
    own = repeat.members()
    read = np.zeros(program.size, dtype=bool)
    first, last = program.inputs, program.first_result
    for statement in own:
        for access, extents in statement.reads():
            places = addresses(access, extents)
            if not first <= places[0] < last or (places != places[0]).any():  # one constant stands in the text
                read[places] = True
    read[repeat.base : repeat.base + repeat.lanes] = False
    reads = [source for source in sources.among(np.flatnonzero(read)) if source.kind != "number"]
    places = np.full(program.size, -1)
    end = 0
    for source in reads:
        places[source.base : source.base + source.size] = end + np.arange(source.size)
        end += source.size
    shift = end - first
    alone = places[first:last] < 0
    places[first:last][alone] = np.arange(first, last)[alone] + shift
    shift = end + last - first - repeat.base
    places[repeat.base : repeat.base + repeat.lanes] = repeat.base + shift + np.arange(repeat.lanes)

    def moved(access: Read, extents: tuple[Size, ...]) -> Read:
        before = addresses(access, extents)
        now = places[before]
        if access.table is None and (now - before == now[0] - before[0]).all():
            return access._replace(base=fixed(access.base) + int(now[0] - before[0]))
        return Read(0, (), now)

    def with_places(statement: Statement) -> Statement:
        return statement.with_reads(moved, base=fixed(statement.base) + shift)

    used = used_outside(program, repeat)
    wanted = [s for s in repeat.statements if used[s.places].any()]
    writes = [(sources.of(fixed(statement.base)), statement.kind) for statement in wanted]
    outputs = [places[source.base : source.base + source.size] for source, _ in writes]
    part = ArrayProgram(
        program.name,
        [f"{s.name}{k}" for s in reads for k in range(s.size)],
        [Group(source.name, source.size, not source.shape) for source in reads],
        program.constants,
        program.truths,
        [
            replace(
                repeat,
                statements=tuple(map(with_places, repeat.statements)),
                starts=tuple(tuple(map(with_places, starts)) for starts in repeat.starts),
            )
        ],
        np.concatenate(outputs) if outputs else np.zeros(0, dtype=np.int64),
        [Group(source.name, source.size, False) for source, _ in writes],
    )
    return Excerpt(part, reads, writes)


def read_at_once(program: ArrayProgram, repeat: Repeat) -> set[str]:
    """The names of statements of a repeat whose results are single numbers that only the same round reads.

    Lists that one access ranges over are put together as wholes, so those must be lists.
    """
    used = used_outside(program, repeat, ranges=True)
    alone = {
        fixed(statement.base): statement.name
        for statement, starts in zip(repeat.statements, repeat.starts, strict=True)
        if len(statement.shape) == 1 and not starts and not used[fixed(statement.base) :][: repeat.count].any()
    }
    for statement in repeat.statements:
        for access, extents in statement.reads():
            at_once = (
                access.table is None and not access.bends and access.strides[0] == 1 and not any(access.strides[1:])
            )
            if not at_once or fixed(access.base) not in alone:
                low, high = span(access, extents)
                for base in [base for base in alone if base <= high and low < base + repeat.count]:
                    del alone[base]
    return set(alone.values())


def used_outside(
    program: ArrayProgram, repeat: Repeat, ranges: bool = False
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Per address, whether it is read outside of a repeat; or whether it is in the range of a strided access there."""
    used = np.zeros(program.size, dtype=bool)
    used[program.outputs] = True
    for item in members(other for other in program.statements if other is not repeat):
        if isinstance(item, Block):
            used[item.reads] = True
        else:
            for access, extents in item.reads():
                low, high = span(access, extents)
                used[slice(low, high + 1) if ranges and access.table is None else addresses(access, extents)] = True
    return used
