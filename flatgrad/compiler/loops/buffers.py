"""Buffers: where the results of an array program live in memory, with places reused after the last read."""

from __future__ import annotations

import bisect
from collections.abc import Container, Sequence
from typing import NamedTuple

import numpy as np

from .extents import Ragged, Size, fixed
from .grammar import Addresses, Block, Loops, Read, Repeat, Statement, addresses, members


class Plan(NamedTuple):
    """Where each address is in memory: numbers in one array, truth values in another.

    Attributes:
        starts: the first addresses of regions that move together, ascending; inputs and constants are the first one.
        offsets: where each region begins in the array of numbers.
        truth_offsets: where each region begins in the array of truth values.
        numbers, truths: the sizes of the two arrays.
    """

    starts: list[int]
    offsets: list[int]
    truth_offsets: list[int]
    numbers: int
    truths: int

    def place(self, address: int, kind: str) -> int:
        """Where an address is in the array of its kind."""
        region = bisect.bisect_right(self.starts, address) - 1
        return address - self.starts[region] + (self.truth_offsets if kind == "b" else self.offsets)[region]

    def places(self, addresses: Addresses, kind: str) -> Addresses:
        """Where addresses are in the array of their kind."""
        region = np.searchsorted(self.starts, addresses, side="right") - 1
        offsets = np.array(self.truth_offsets if kind == "b" else self.offsets, dtype=np.int64)
        starts = np.array(self.starts, dtype=np.int64)
        result: Addresses = addresses - starts[region] + offsets[region]
        return result


def plan_buffers(
    program: Loops, exact: bool = False, elsewhere: Container[int] = (), again: tuple[int, int] | None = None
) -> Plan:
    """Assign memory to results: first fit, a region being free again behind the last statement that reads it.

    Results that one strided access reads together keep their distances: they are one region. If it is to be `exact`,
    a place is used again only by regions of the same size. Statements whose bases are `elsewhere` get no memory. The
    first item of `again` runs until the second one has run.
    """
    statements = list(members(program.statements))
    bases = [fixed(statement.base) for statement in statements]
    last: list[int] = []  # per statement, the last one that reads it; of repeats, all that runs in the same rounds
    joined: list[tuple[int, int]] = []  # first and last statement of those that one access reads together
    for item in program.statements:
        if isinstance(item, Repeat):
            for before in item.starts:
                joined.append((len(last), len(last) + len(before)))
                last += [0] * (len(before) + 1)
            last[-len(item.members()) :] = [len(last) - 1] * len(item.members())
        else:
            last.append(len(last))
    if again is not None:
        first, until = (sum(1 for _ in members(program.statements[:k])) for k in again)
        until += sum(1 for _ in members([program.statements[again[1]]])) - 1
        for position in range(first, first + sum(1 for _ in members([program.statements[again[0]]]))):
            last[position] = until
    ends = list(last)

    def owner(address: int) -> int:
        return bisect.bisect_right(bases, address) - 1

    for position, statement in enumerate(statements):
        for low, high, table in _ranges_of(statement):
            if table is not None:
                for first in np.unique(np.searchsorted(bases, table, side="right") - 1).tolist():
                    if first >= 0:
                        last[first] = max(last[first], ends[position])
            elif owner(low) >= 0:
                for read in range(owner(low), owner(high) + 1):
                    last[read] = max(last[read], ends[position])
                if owner(low) < owner(high):
                    joined.append((owner(low), owner(high)))
    for first in np.unique(np.searchsorted(bases, program.outputs, side="right") - 1).tolist():
        if first >= 0:
            last[first] = len(statements)
    reaches = list(range(len(statements)))  # per statement, the last one of its region, if it is the first
    for first, end in sorted(joined, reverse=True):
        reaches[first] = max(reaches[first], end)

    starts, offsets, truth_offsets = [0], [0], [0]
    numbers, truths = Arena(program.first_result, exact), Arena(program.first_result, exact)
    expires: dict[int, list[tuple[Arena, int, int]]] = {}
    position = 0
    while position < len(statements):
        end = position + 1
        reach = reaches[position]
        while end <= reach:
            reach = max(reach, reaches[end])
            end += 1
        together = statements[position:end]
        size = sum(member.lanes for member in together)
        kinds = {kind for member in together if fixed(member.base) not in elsewhere for kind in _kinds(member)}
        starts.append(bases[position])
        dies = max(last[position:end])
        for kind, arena, places in (("f", numbers, offsets), ("b", truths, truth_offsets)):
            place = arena.take(size) if kind in kinds else 0
            places.append(place)
            if kind in kinds and dies < len(statements):
                expires.setdefault(max(dies, end - 1), []).append((arena, place, size))
        for k in range(position, end):
            for arena, place, freed in expires.pop(k, ()):
                arena.give(place, freed)
        position = end
    return Plan(starts, offsets, truth_offsets, numbers.peak, truths.peak)


def _ranges_of(statement: Statement | Block) -> list[tuple[int, int, Addresses | None]]:
    """The lowest and highest address of each access, and its table if it is a gather."""
    if isinstance(statement, Block):
        return [(0, 0, statement.reads)] if len(statement.reads) else []
    return [(*span(read, extents), read.table) for read, extents in statement.reads()]


def span(read: Read, extents: Sequence[Size]) -> tuple[int, int]:
    """The lowest and the highest address of an access."""
    if read.table is not None:
        return int(read.table.min()), int(read.table.max())
    if read.bends or any(isinstance(extent, Ragged) for extent in extents):
        places = addresses(read, extents)
        return int(places.min()), int(places.max())
    steps = [fixed(s) * (fixed(n) - 1) for s, n in zip(read.strides, extents, strict=True)]
    base = fixed(read.base)
    return base + sum(min(0, step) for step in steps), base + sum(max(0, step) for step in steps)


def _kinds(statement: Statement | Block) -> set[str]:
    if isinstance(statement, Statement):
        return {statement.kind}
    kinds = {statement.program.kind_of(operand) for operand in statement.program.outputs}
    return {"f", "b"} if "b" in kinds else {"f"}


#: Pieces of at least so many items begin at a multiple of `_LINE`: in numbers, a line of a cache.
_LARGE, _LINE = 512, 8


class Arena:
    """Memory of which pieces are taken and given back; if it is `exact`, only as wholes.

    Large pieces begin at a line of a cache, if it is not.
    """

    def __init__(self, start: int, exact: bool = False) -> None:
        self.free: list[tuple[int, int]] = []  # place and size, ascending
        self.peak: int = start
        self.exact = exact

    def take(self, size: int) -> int:
        if self.exact:
            fitting = [piece for piece in self.free if piece[1] == size and type(piece[1]) is type(size)]
            if fitting:
                self.free.remove(fitting[0])
                return fitting[0][0]
            self.peak += size
            return self.peak - size
        line = _LINE if size >= _LARGE else 1
        for k, (place, room) in enumerate(self.free):
            skipped = -place % line
            if room >= skipped + size:
                pieces = (place, skipped), (place + skipped + size, room - skipped - size)
                self.free[k : k + 1] = [piece for piece in pieces if piece[1]]
                return place + skipped
        if self.free and sum(self.free[-1]) == self.peak:  # the last free piece, made longer
            place, _ = self.free.pop()
        else:
            place = self.peak
        skipped = -place % line
        if skipped:
            self.free.append((place, skipped))
        self.peak = place + skipped + size
        return place + skipped

    def give(self, place: int, size: int) -> None:
        if self.exact:
            self.free.append((place, size))
            return
        k = bisect.bisect(self.free, (place, size))
        self.free.insert(k, (place, size))
        merged: list[tuple[int, int]] = []
        for here, room in self.free[max(k - 1, 0) : k + 2]:
            if merged and sum(merged[-1]) == here:
                merged[-1] = merged[-1][0], merged[-1][1] + room
            else:
                merged.append((here, room))
        self.free[max(k - 1, 0) : k + 2] = merged
