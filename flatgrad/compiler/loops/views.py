"""What accesses read, resolved once for all printers: the source and the index; and lists of outputs as repetitions."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..program.program import grouped
from .buffers import span
from .extents import BoundNumber, Size, fixed
from .grammar import Addresses, Block, Loops, Read, members

#: A repetition in a list of outputs is at most so many pieces long.
_PERIOD = 4


class Source:
    """Something that has a name and consecutive addresses: an argument, constants, a result; or a constant alone.

    Attributes:
        kind: "input", "constants", "result", or "number" for a constant alone, which has no name.
        name: how it is called.
        base: its first address.
        shape: its extents; none for a single number.
    """

    def __init__(self, kind: str, name: str, base: int, shape: tuple[int, ...] = ()) -> None:
        self.kind = kind
        self.name = name
        self.base = base
        self.shape = shape
        self.size: int = math.prod(shape)


class View(NamedTuple):
    """What an access reads: element `offset + factors . index` of a source, or of a table that says which elements.

    Attributes:
        low, high: the lowest and the highest address.
        source: the source that has all of them; None where they are in several, which lie side by side in memory.
        offset, factors: without a source, of addresses.
        bends: how the factors grow along the dimensions; none if they do not.
        table: of a gather, the addresses.
    """

    low: int
    high: int
    source: Source | None
    offset: int
    factors: list[int]
    table: Addresses | None
    bends: tuple[int, ...] = ()

    def dimensions(self, extents: Sequence[int]) -> list[tuple[int, list[int]]]:
        """An offset and factors for each dimension of the source; one sum where an index would leave its dimension."""
        assert self.source is not None
        if self.bends:
            return [(self.offset, self.factors)]
        shape, offset, rest, result = self.source.shape, self.offset, list(self.factors), []
        for k, extent in enumerate(shape):
            step = math.prod(shape[k + 1 :])
            factors = [int(math.copysign(abs(factor) // step, factor)) for factor in rest]
            rest = [factor - part * step for factor, part in zip(rest, factors, strict=True)]
            here, offset = divmod(offset, step)
            low, high = reach(here, factors, extents)
            if low < 0 or high >= extent:
                return [(self.offset, self.factors)]
            result.append((here, factors))
        return result


def reach(offset: int, factors: Sequence[int], extents: Sequence[int]) -> tuple[int, int]:
    """The lowest and the highest of `offset + factors . index`."""
    steps = [factor * (extent - 1) for factor, extent in zip(factors, extents, strict=True)]
    return offset + sum(min(0, step) for step in steps), offset + sum(max(0, step) for step in steps)


def row_major(shape: Sequence[int]) -> list[int]:
    """How far apart the elements of an array are along each dimension.

    >>> row_major((2, 3, 4))
    [12, 4, 1]
    """
    return [math.prod(shape[k + 1 :]) for k in range(len(shape))]


class Sources:
    """The names of everything that an array program reads, by address.

    Constants that are laid out together get names `c1`, `c2`, ...; one alone is written as a number.
    """

    def __init__(self, program: Loops) -> None:
        self.program = program
        inputs = [
            Source("input", group.name, places.start, () if group.scalar else (group.size,))
            for group, places in grouped(program.input_groups, range(program.inputs))
        ]
        ends: dict[int, int] = {}
        results: list[Source] = []
        block, flat, steps = 0, False, False
        for statement in members(program.statements):
            if isinstance(statement, Block):
                block += 1
                results.append(Source("result", f"s{block}", fixed(statement.base), (statement.lanes,)))
                continue
            base, shape = fixed(statement.base), tuple(map(fixed, statement.shape))
            if statement.is_ragged:
                shape = (statement.lanes,)
            together = bool(results) and results[-1].name == statement.name
            flat = statement.is_ragged or (together and (flat or bool(statement.steps) != steps))
            steps = bool(statement.steps)
            if together:  # rounds, behind what the first ones read
                base, size, outer = results[-1].base, results.pop().size + statement.lanes, len(statement.steps)
                rest = shape[outer + 1 :]
                shape = (size,) if flat else (*shape[:outer], size // math.prod((*shape[:outer], *rest)), *rest)
            results.append(Source("result", statement.name, base, shape))
            for read, extents in statement.reads():
                base = fixed(read.base)
                moves = read.table is None and any((*read.strides, *read.bends))
                if moves and program.inputs <= base < program.first_result:
                    ends[base] = max(ends.get(base, 0), span(read, extents)[1] + 1)
        for k, constant in enumerate(program.constants):
            if isinstance(constant, BoundNumber) and constant.position == 0 and constant.length > 1:
                base = program.inputs + k
                ends[base] = max(ends.get(base, 0), base + constant.length)
        parts: list[tuple[int, int]] = []
        for base, end in sorted(ends.items()):
            if parts and base < parts[-1][1]:  # parts of one row
                parts[-1] = parts[-1][0], max(end, parts[-1][1])
            else:
                parts.append((base, end))
        self.constants: list[Source] = [
            Source("constants", f"c{k + 1}", base, (end - base,)) for k, (base, end) in enumerate(parts)
        ]
        sources = [source for source in [*inputs, *self.constants, *results] if source.size]
        self.all: list[Source] = sorted(sources, key=lambda source: source.base)
        self._bases = [source.base for source in self.all]
        self._alone: dict[int, Source] = {}

    def of(self, address: int) -> Source:
        """The source that has an address."""
        position = bisect.bisect_right(self._bases, address) - 1
        if position >= 0 and address < self.all[position].base + self.all[position].size:
            return self.all[position]
        return self._alone.setdefault(address, Source("number", "", address))

    def number(self, address: int) -> float | bool:
        """The constant at an address."""
        program = self.program
        if address < program.first_truth:
            return program.constants[address - program.inputs]
        return program.truths[address - program.first_truth]

    def numbers(self, source: Source) -> list[float | bool]:
        """The constants of a source."""
        return [self.number(source.base + k) for k in range(source.size)]

    def holding(self, low: int, high: int) -> Source | None:
        """The array that has all addresses of a range, if there is one."""
        source = self.of(low)
        return source if source.shape and high < source.base + source.size else None

    def between(self, low: int, high: int) -> list[Source]:
        """Everything that has an address in a range, in order."""
        result = []
        while low <= high:
            result.append(self.of(low))
            low = result[-1].base + result[-1].size
        return result

    def among(self, places: Addresses) -> list[Source]:
        """Everything that has one of some addresses, in order."""
        result: list[Source] = []
        addresses, k = np.unique(places), 0
        while k < len(addresses):
            result.append(self.of(int(addresses[k])))
            k = int(np.searchsorted(addresses, result[-1].base + result[-1].size))
        return result

    def view(self, read: Read, extents: Sequence[Size]) -> View:
        """An access, within loops of these extents."""
        low, high = span(read, extents)
        source = self.of(low) if low == high else self.holding(low, high)
        if read.table is not None:
            return View(low, high, source, 0, row_major([fixed(n) for n in extents]), read.table)
        offset = fixed(read.base) - (source.base if source is not None else 0)
        return View(low, high, source, offset, [fixed(stride) for stride in read.strides], None, read.bends)


def places_among(sources: Sequence[Source], places: Any) -> Any:
    """Where addresses are in what sources have, one after the other."""
    starts = np.cumsum([0, *(source.size for source in sources)])
    bases = np.array([source.base for source in sources])
    which = np.searchsorted(bases, places, side="right") - 1
    return places - bases[which] + starts[which]


# --- lists of outputs -------------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """Consecutive outputs: `length` elements of a source from `start`, `step` apart; or one that stands alone."""

    source: Source
    start: int
    length: int = 1
    step: int = 1
    alone: bool = False

    @property
    def address(self) -> int:
        return self.source.base + self.start

    def elements(self) -> list[Piece]:
        """Its elements, each of which stands alone."""
        places = range(self.start, self.start + self.length * self.step, self.step)
        return [Piece(self.source, place, alone=True) for place in places]


class Repetition(NamedTuple):
    """Pieces that come so many `times`, each time so much further on in their sources."""

    pieces: list[Piece]
    shifts: list[int]
    times: int

    def unrolled(self) -> list[Piece]:
        """All pieces, one after the other."""
        pairs = list(zip(self.pieces, self.shifts, strict=True))
        return [piece._replace(start=piece.start + k * shift) for k in range(self.times) for piece, shift in pairs]


def pieces(sources: Sources, places: Addresses, alone: Callable[[int], bool] = lambda address: False) -> list[Piece]:
    """Addresses as runs through sources; some of them, and single numbers, stand alone."""
    result: list[Piece] = []
    for address in places.tolist():
        source = sources.of(address)
        offset = address - source.base
        if not source.shape or alone(address):
            result.append(Piece(source, offset, alone=True))
            continue
        if result and result[-1].source is source and not result[-1].alone:
            last = result[-1]
            step = offset - last.start if last.length == 1 else last.step
            if step and offset == last.start + step * last.length:
                result[-1] = last._replace(length=last.length + 1, step=step)
                continue
        result.append(Piece(source, offset))
    return result


def repetitions(pieces: Sequence[Piece]) -> Iterator[Repetition]:
    """Pieces as repetitions; what is not repeated is one of a single piece, that comes once."""
    k = 0
    while k < len(pieces):
        period, count = _repetition(pieces, k)
        group = list(pieces[k : k + period])
        again = pieces[k + period : k + 2 * period] if count > 1 else group
        yield Repetition(group, [b.start - a.start for a, b in zip(group, again, strict=True)], count)
        k += period * count


def _repetition(pieces: Sequence[Piece], start: int) -> tuple[int, int]:
    """The period with which pieces repeat, moved by the same distance each time, and how often."""
    best = (1, 1)
    for period in range(1, min(_PERIOD, (len(pieces) - start) // 2) + 1):
        first = pieces[start : start + period]
        if any(piece.alone for piece in first):
            break
        shifts = [pieces[start + period + n].start - piece.start for n, piece in enumerate(first)]
        count = 1
        while start + (count + 1) * period <= len(pieces) and all(
            pieces[start + count * period + n] == piece._replace(start=piece.start + count * shift)
            for n, (piece, shift) in enumerate(zip(first, shifts, strict=True))
        ):
            count += 1
        if count > 2 and count * period > best[0] * best[1]:
            best = (period, count)
    return best
