"""The program with its rounds as loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from ....runtime.primitives import TABLE
from ..array_program import ArrayProgram
from ..extents import Ragged, Size, fixed
from ..grammar import Addresses, Apply, Block, Fold, Item, Read, Repeat, Segment, Statement, addresses
from ..preliminary import RESULTS, TRUTHS, Constants, domain, moved_statement
from ..reroll.layout import extracted
from .carried import Rounds, UnsupportedError, with_tokens
from .units import Span, Units, is_uneven

#: Folds of more segments become folds of as few as possible; so do segments that gather so many terms. What goes on
#: evenly in them does so with at most such a period.
_SEGMENTS, _GATHERED, _PERIOD = 12, 16, 16


class Rewriter:
    """Writes the program with its rounds as loops.

    Attributes:
        nest: whether loops within rounds are sought later: equations of different turns of them stay apart.
        apart: whether any did.
    """

    def __init__(self, program: ArrayProgram, units: Units, spans: Sequence[Span], nest: bool = False) -> None:
        self.program = program
        self.units = units
        self.spans = spans
        self.nest = nest
        self.apart: bool = False
        self.constants: Constants = Constants(program.inputs, program.constants, program.truths)
        self.final: Addresses = np.full(units.size + len(units.outside), -1, dtype=np.int64)
        self.final[: program.first_truth] = np.arange(program.first_truth)
        self.final[program.first_truth : program.first_result] = TRUTHS + np.arange(len(program.truths))
        for k, number in enumerate(units.outside):
            self.final[units.size + k] = self.constants.lay(np.array(number))[0]
        self.copies: Addresses = self.final.copy()  # the same, but of what a start copies, the copy
        self.next: int = RESULTS
        self.in_rounds: bool = False
        self.statements: list[Item] = []
        names = {s.name for s in program.statements if isinstance(s, Statement)}
        self.names: Iterator[str] = (name for k in itertools.count(1) if (name := f"v{k}") not in names)
        self._count_uses()

    def _count_uses(self) -> None:
        units = self.units
        readers = np.repeat(np.arange(len(units.item)), np.diff(units.tokens))
        single = ~units.constant
        single[list(units.statement_tokens)] = False
        self.uses: Addresses = np.bincount(units.address[single], minlength=len(self.final))
        self.last: Addresses = np.full(len(self.final), -1)
        self.last[units.address[single]] = readers[single]
        for token, (places, constant) in units.statement_tokens.items():
            if not constant:
                read = places + units.address[token]
                self.uses[read] += 1
                self.last[read] = np.maximum(self.last[read], readers[token])
        self.uses[units.outputs] += 2
        self.last[units.outputs] = len(units.item)

    def run(self) -> ArrayProgram:
        position = 0
        for span in self.spans:
            rounds = self._rounds(span)
            if rounds is not None:
                self._leave(position, rounds.span.first)
                self._repeat(rounds)
                self.apart |= bool(rounds.turns.any())
                position = rounds.span.first + rounds.span.period * rounds.span.rounds
        self._leave(position, len(self.units.item))
        return self._finished()

    def _rounds(self, span: Span) -> Rounds | None:
        """The rounds of a span, or all but the first, if that is different."""
        later = Span(span.first + span.period, span.period, span.rounds - 1, span.token + span.tokens, span.tokens)
        for each in (span, later):
            if each.rounds < self.units.count:
                break
            with suppress(UnsupportedError):
                rounds = Rounds(self.units, each, self.uses, self.last, self.nest)
                if not rounds.stays(self.last):
                    return None
                return self._evened(rounds)
        return None

    def _evened(self, rounds: Rounds) -> Rounds:
        """The rounds without the last one, and without the first, if these read other places than the others do."""
        for part, skipped in ((slice(-1), 0), (slice(1, None), 1)):
            first, period, count, token, tokens = rounds.span
            if count > self.units.count and self._gathers(rounds, part) < self._gathers(rounds):
                rest = Span(first + skipped * period, period, count - 1, token + skipped * tokens, tokens)
                with suppress(UnsupportedError):
                    rounds = Rounds(self.units, rest, self.uses, self.last, self.nest)
        return rounds

    def _gathers(self, rounds: Rounds, part: slice = slice(None)) -> int:
        """How many accesses of what is computed before would need a table, in a part of the rounds."""
        count = 0
        for t, source in enumerate(rounds.sources):
            if not source.constant and not len(source.units):
                fresh = rounds.places(t)[part]
                count += not (strided(self.final[fresh]) or strided(self.copies[fresh]))
        return count

    # --- what is not repeated -------------------------------------------------------------------------------------

    def _leave(self, start: int, end: int) -> None:
        """Units that stay what they are: statements, and parts of blocks."""
        while start < end:
            item = int(self.units.item[start])
            statement = self.units.items[item]
            if isinstance(statement, Block):
                first = int(self.units.first_unit[item])
                stop = min(end, first + len(statement.program))
                self._part(item, statement, start - first, stop - first)
                start = stop
            else:
                self._move(statement, self.units.whole[item], start)
                start += 1

    def _move(self, statement: Statement, whole: Any, unit: int) -> None:
        """A statement that is not repeated; `whole` is the same with ragged rows, if it has them."""
        lanes = statement.lanes
        first = int(self.units.tokens[unit])
        body = with_tokens(statement.body, iter(range(first, int(self.units.tokens[unit + 1]))))
        base = self._take(lanes)
        self._settle(self.units.base[unit] + np.arange(lanes), base + np.arange(lanes))

        if whole is not statement:
            self.statements.append(whole.with_reads(self._moved, base=base))
            return
        reads = [read for read, _ in statement.reads()]

        def read(tokens: Sequence[int], extents: tuple[int, ...]) -> Read:
            fresh = self.units.token(tokens[0]).places + self.units.address[tokens[0]]
            moved = self._shifted(reads[tokens[0] - first], extents, self.final[fresh])
            return self._fitted(fresh.reshape(extents)) if moved.table is not None and not uneven else moved

        uneven = is_uneven(statement)
        self.statements.append(replace(statement, body=self._body(body, statement.shape, read), base=base))

    def _moved(self, read: Read, extents: tuple[Size, ...]) -> Read:
        return self._shifted(read, extents, self.final[self.units.fresh[addresses(read, extents)]])

    @staticmethod
    def _shifted(read: Read, extents: tuple[Size, ...], places: Any) -> Read:
        """An access where what it reads has moved to these places; a gather, unless all has moved together."""
        shifts = places - addresses(read, extents)
        if read.table is None and (shifts == shifts[0]).all():
            return read._replace(base=fixed(read.base) + int(shifts[0]))
        return Read(0, (), places)

    def _body(self, nodes: Sequence[Any], extents: Any, read: Any) -> tuple[Any, ...]:
        """A body with accesses for tokens."""
        return tuple(
            read([node], extents) if isinstance(node, int)
            else node if isinstance(node, Apply)
            else Fold(node.primitive, tuple(self._segments(node.segments, extents, read)))
            for node in nodes
        )  # fmt: skip

    def _segments(self, segments: Sequence[Any], extents: Any, read: Any) -> Iterator[Segment]:
        """Segments with accesses for tokens; of many, those that compute the same become one."""
        ragged = any(isinstance(extent, Ragged) for s in segments for extent in (*extents, *s.extents))
        if len(segments) <= _SEGMENTS or self.in_rounds or ragged:
            for segment in segments:
                body = self._body(segment.body, (*extents, *segment.extents), read)
                gathers = any(isinstance(node, Read) and node.table is not None for node in body)
                if self.in_rounds or ragged or not gathers or segment.terms < _GATHERED:
                    yield Segment(segment.extents, body)
                else:
                    yield from self._evenly([segment], extents)
            return
        for _, group in itertools.groupby(segments, lambda s: [n if isinstance(n, Apply) else () for n in s.body]):
            yield from self._evenly(list(group), extents)

    def _evenly(self, alike: Sequence[Any], extents: Any) -> Iterator[Segment]:
        """Segments that compute the same, as one; cut where what they read does not go on evenly."""
        terms = [segment.terms for segment in alike]
        columns = list(zip(*(segment.body for segment in alike), strict=True))
        fresh = [self._joined(nodes, terms) if isinstance(nodes[0], int) else None for nodes in columns]
        for start, shape in stretches([self.final[each] for each in fresh if each is not None]):
            part = slice(start, start + math.prod(shape))
            shape = () if shape == (1,) else shape
            yield Segment(shape, tuple(
                nodes[0] if each is None else self._fitted(each[:, part].reshape((*extents, *shape)))
                for nodes, each in zip(columns, fresh, strict=True)
            ))  # fmt: skip

    def _joined(self, tokens: Sequence[int], terms: Sequence[int]) -> Any:
        """What the accesses of several segments read: a row per lane."""
        pairs = zip(tokens, terms, strict=True)
        places = [(self.units.token(t).places + self.units.address[t]).reshape(-1, count) for t, count in pairs]
        return np.concatenate(places, axis=1)

    def _part(self, item: int, block: Block, start: int, end: int) -> None:
        """Some equations of a block."""
        units, part, place_of = self.units, block.program, self.units.places[item]
        if end - start == len(part):
            base = self._take(block.lanes)
            outputs = np.array(part.outputs, dtype=np.int64)
            inner = outputs >= part.inputs
            self._settle(place_of[outputs[inner]], base + np.flatnonzero(inner))
            self.statements.append(Block(part, self.final[place_of[: part.inputs]], base))
            return
        first = int(units.first_unit[item])
        equations = np.arange(start, end)
        needed = equations[self.last[units.base[first + equations]] >= first + end]
        if not len(needed):
            return
        starts, operands = np.array(part.starts), np.array(part.operands, dtype=np.int64)
        read = np.unique(operands[starts[start] : starts[end]])
        read = read[(read >= 0) & (read < part.inputs + start)]
        program = extracted(part, range(start, end), read.tolist(), needed.tolist())
        base = self._take(len(needed))
        self._settle(units.base[first + needed], base + np.arange(len(needed)))
        self.statements.append(Block(program, self.final[place_of[read]], base))

    def _settle(self, fresh: Any, places: Any) -> None:
        """Say where fresh addresses are."""
        self.final[fresh] = self.copies[fresh] = places

    def _take(self, lanes: int) -> int:
        self.next += lanes
        return self.next - lanes

    # --- rounds ---------------------------------------------------------------------------------------------------

    def _repeat(self, rounds: Rounds) -> None:
        units, span = self.units, rounds.span
        count = span.rounds
        bases: dict[int, int] = {}
        lanes = {unit: int(rounds.lanes[unit]) for unit in rounds.bodies}
        before, loop, behind = rounds.parts()
        for unit in (*before, *loop, *behind):
            depth = rounds.depths.get(unit, 0)
            bases[unit] = self._take((depth + count) * lanes[unit]) + depth * lanes[unit]
            columns = rounds.size * np.arange(count)[:, None] + np.arange(lanes[unit])
            places = bases[unit] + np.arange(count * lanes[unit]).reshape(count, -1)
            self._settle(rounds.start + rounds.offsets[unit] + columns, places)

        def read(tokens: Sequence[int], extents: tuple[int, ...]) -> Read:
            source = rounds.sources[t := tokens[0]]
            if source.constant:
                return Read(*self.constants.lay(self._values(rounds, t).reshape(extents)))
            if len(source.units):
                base_of, lanes_of = (
                    np.array([table[unit] for unit in source.units.tolist()]) for table in (bases, lanes)
                )
                rounds_of = np.arange(count)[:, None] - source.depths
                places = (base_of + lanes_of * rounds_of + source.offsets).reshape(extents)
                return strided(places) or Read(0, (), places.ravel())
            return self._fitted(rounds.places(t).reshape(extents))

        statements, starts = {}, {}
        self.in_rounds = True
        for unit in (*before, *loop, *behind):
            nodes = rounds.bodies[unit]
            item, equation = int(units.item[span.first + unit]), int(units.equation[span.first + unit])
            origin = self.units.items[item]
            if isinstance(origin, Block):
                kind, part = TABLE[origin.program.opcodes[equation]].result, ""
                shape: tuple[Size, ...] = ()
                site = origin.program.sites[equation]
                location = origin.program.locations[site] if site >= 0 else None
            else:
                kind, shape, location, part = origin.kind, origin.shape, origin.location, origin.part
            body = self._body(nodes, (count, *shape), read)
            depth = rounds.depths.get(unit, 0)
            name = next(self.names)
            for d in range(1, depth + 1):
                for k, place in enumerate(rounds.starts[unit, d]):
                    if isinstance(place, int):
                        self.copies[place] = bases[unit] - d * lanes[unit] + k
            statements[unit] = Statement(name, (count, *shape), body, bases[unit], kind, location, part)
            starts[unit] = tuple(
                Statement(
                    name,
                    shape,
                    (self._start(rounds.starts[unit, d], shape),),
                    bases[unit] - d * lanes[unit],
                    kind,
                    location,
                    part,
                )
                for d in range(depth, 0, -1)
            )
        self.in_rounds = False
        self.statements += [statements[unit] for unit in before]
        if loop:
            self.statements.append(
                Repeat(tuple(statements[unit] for unit in loop), tuple(starts[unit] for unit in loop))
            )
        self.statements += [
            Repeat((statements[unit],), (starts[unit],)) if starts[unit] else statements[unit] for unit in behind
        ]

    def _values(self, rounds: Rounds, t: int) -> Any:
        """The constants that a token reads, round by round."""
        units, span = self.units, rounds.span
        rows = []
        for token in range(span.token + t, span.token + t + span.rounds * span.tokens, span.tokens):
            if token in units.values:
                rows.append([units.values[token]])
            else:
                rows.append([units.number(place) for place in units.statement_tokens[token].places.tolist()])
        return np.array(rows)

    def _start(self, lanes: list[Any], shape: Any) -> Read:
        """What a first round reads from the round before."""
        origins = [lane for lane in lanes if lane is not None]
        places = [origins[0] if lane is None else lane for lane in lanes]
        if all(isinstance(place, tuple) for place in places):
            return Read(*self.constants.lay(np.array([number for _, number in places]).reshape(shape)))
        final = np.array(
            [
                self.constants.lay(np.array(place[1]))[0] if isinstance(place, tuple) else int(self.final[place])
                for place in places
            ]
        ).reshape(shape)
        return strided(final) or Read(0, (), final.ravel())

    def _fitted(self, fresh: Any) -> Read:
        """The access of an array of fresh addresses: strides, or a table."""
        places = self.final[fresh]
        read = strided(places) or strided(self.copies[fresh])
        return read if read is not None else Read(0, (), places.ravel())

    # --- the end --------------------------------------------------------------------------------------------------

    def _finished(self) -> ArrayProgram:
        constants = self.constants
        moved = constants.moved
        statements = [moved_statement(statement, moved) for statement in self.statements]
        stats = replace(
            self.program.stats,
            statements=len(statements),
            scalars=sum(len(statement.program) for statement in statements if isinstance(statement, Block)),
        )
        return replace(
            self.program, stats=stats, constants=constants.numbers, truths=constants.truths, statements=statements,
            outputs=moved(self.final[self.units.outputs]),
        )  # fmt: skip


def stretches(columns: Sequence[Any]) -> list[tuple[int, tuple[int, ...]]]:
    """Terms as parts, of which one takes in all that goes on evenly: where each begins, and its extents.

    Args:
        columns: per access, the addresses of the terms, a row per lane.

    Example:
        >>> stretches([np.array([[7, 2, 30, 50, 31, 51, 32, 52, 33, 53, 34, 54, 3]])])
        [(0, (2,)), (2, (5, 2)), (12, (1,))]
    """
    count = columns[0].shape[1]
    for period in range(1, min(_PERIOD, count // 4) + 1):
        moves = [column[:, period:] - column[:, :-period] for column in columns]
        even = np.logical_and.reduce([(move[:, 1:] == move[:, :-1]).all(axis=0) for move in moves])
        edges = np.flatnonzero(np.diff(np.concatenate([[0], even.view(np.int8), [0]])))
        if not len(edges):
            continue
        longest = int(np.argmax(edges[1::2] - edges[::2]))
        begin, end = int(edges[::2][longest]), int(edges[1::2][longest]) + period + 1
        for start in range(begin, begin + period):
            rounds = (end - start) // period
            within = [np.diff(column[:, start : start + period], n=2) for column in columns]
            if 2 * rounds * period > count and not any(each.any() for each in within):
                last = start + rounds * period
                parts = [(0, (start,)), (start, (rounds, period) if period > 1 else (rounds,)), (last, (count - last,))]
                return [part for part in parts if math.prod(part[1])]
    return [(0, (count,))]


def strided(places: Any) -> Read | None:
    """The access of an array of addresses, if it is strided."""
    first = places.item(0)
    strides = []
    for axis, extent in enumerate(places.shape):
        index = [0] * places.ndim
        index[axis] = 1
        strides.append(places.item(*index) - first if extent > 1 else 0)
    moves = [stride * (extent - 1) for stride, extent in zip(strides, places.shape, strict=True)]
    if places.item(-1) != first + sum(moves):
        return None  # most of those that are not strided
    low, high = (first + sum(end(move, 0) for move in moves) for end in (min, max))
    expected = np.array(first)
    for stride, extent in zip(strides, places.shape, strict=True):
        expected = expected[..., None] + stride * np.arange(extent)
    return Read(first, tuple(strides)) if domain(low) == domain(high) and (places == expected).all() else None
