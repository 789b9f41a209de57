"""Rounds within rounds: what the statements of a loop compute again and again becomes a loop within it.

Once the rounds of a program are a loop, a round may still consist of rounds: the turns of an iteration that solves an
equation at each step, say. They are statements of the loop one after the other, so they are found as rounds are: what
they compute has a period, and columns of what they read show that all turns go on evenly.

A value that goes from the last turn of a round to the next round is copied behind the turns, so that all that reads
what a round has left reads it there.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..array_program import ArrayProgram
from ..extents import Size, fixed
from ..grammar import Loop, Read, Repeat, Statement, addresses
from .carried import UnsupportedError
from .inner import TURNS, Turns, find_turns
from .moving import Moving
from .rewrite import strided
from .units import is_uneven, shape_of


def nested(program: ArrayProgram) -> ArrayProgram:
    """The program with loops within the rounds of its loops; the program itself where there are none."""
    for position, item in enumerate(program.statements):
        if not isinstance(item, Repeat):
            continue
        for loop in (item.loop, *item.inner):
            if loop.end - loop.first >= TURNS and item.rounds_of(loop) > 2:
                columns = _Columns(program, item, loop)
                for turns in columns.turns():
                    try:
                        return nested(_Nest(program, position, columns, turns).program())
                    except UnsupportedError:
                        continue
    return program


class _Columns:
    """The statements of a loop, with what they read.

    Attributes:
        first: the position of the first of them in the repeat.
        rounds: how many rounds the loop has, and the loops around it, from the outermost one on.
        count: how many rounds that are in all.
        fresh: per address of the program, a fresh one: those of equal turns advance by the same distance.
        firsts: per statement, its first fresh address; one more for the end.
        read: per statement, the addresses of each access, a row per round.
    """

    def __init__(self, program: ArrayProgram, repeat: Repeat, loop: Loop) -> None:
        statements, starts = repeat.statements[loop.first : loop.end], repeat.starts[loop.first : loop.end]
        self.repeat, self.loop, self.first = repeat, loop, loop.first
        self.rounds = tuple(map(fixed, statements[0].shape[: loop.depth + 1]))
        self.count = math.prod(self.rounds)
        self.fresh = np.arange(program.size, dtype=np.int64)
        self.firsts = program.size + np.cumsum([0, *(s.lanes for s in statements)])
        far = int(self.firsts[-1])
        for statement, group, first in zip(statements, starts, self.firsts.tolist(), strict=False):
            self.fresh[statement.places] = first + np.arange(statement.lanes)
            for start in group:
                self.fresh[start.places] = far + np.arange(start.lanes)
                far += start.lanes
        # The rounds that read no starts of these loops.
        depths = [max(map(len, starts)), *[1] * loop.depth][: loop.depth + 1][::-1]
        index = np.indices(self.rounds).reshape(len(self.rounds), -1)
        later = np.flatnonzero((index >= np.minimum(depths, np.array(self.rounds) - 1)[:, None]).all(axis=0))
        deeper = [each for each in repeat.inner if each.depth > loop.depth]
        forms: dict[Any, int] = {}
        symbols, places, begins = [], [], [0]
        self.read: list[list[Any]] = []
        for k, statement in enumerate(statements):
            keys, here = [], [0]
            rows = [addresses(read, extents).reshape(self.count, -1) for read, extents in statement.reads()]
            for row in rows:
                fresh = self.fresh[row]
                constant = program.inputs <= row.min() and row.max() < program.first_result
                first = 0 if constant else int(fresh[later[0], 0])
                keys.append("constant" if constant else (fresh[later] - first).tobytes())
                here.append(first)
            within = any(each.first <= loop.first + k < each.end for each in deeper)
            alike = k if is_uneven(statement) or statement.is_ragged or within else -1
            key = alike, statement.kind, statement.part, statement.shape, shape_of(statement.body), *keys
            symbols += [(forms.setdefault(key, len(forms)) << 12) + r for r in range(len(here))]
            places += here
            begins.append(len(places))
            self.read.append(rows)
        self.symbols, self.places, self.begins = np.array(symbols), np.array(places, dtype=np.int64), np.array(begins)

    def turns(self) -> list[Turns]:
        return find_turns(self.symbols, self.places, self.begins, self.firsts)


class _Nest(Moving):
    """Writes a program in which some statements of a repeat are a loop within its rounds."""

    def __init__(self, program: ArrayProgram, position: int, columns: _Columns, turns: Turns) -> None:
        super().__init__(program)
        self.position, self.columns, self.turns = position, columns, turns
        self.repeat, self.count, self.rounds = columns.repeat, columns.count, columns.rounds
        first, period, count = turns
        statements = self.repeat.statements[columns.first : columns.loop.end]
        self.all_lanes = [s.lanes // self.count for s in statements]
        self.statements, self.starts_of = statements, self.repeat.starts[columns.first : columns.loop.end]
        self.names = (name for k in itertools.count(1) if (name := f"u{k}") not in self._names())
        self.inside = statements[first : first + period]
        self.lanes = self.all_lanes[first : first + period]
        #: Per statement of a turn and number of turns before the first: where its lanes come from, a row per round.
        self.starts: dict[tuple[int, int], Any] = {}
        self.sources = [
            [self._source(q, r) for r in range(len(columns.read[first + q]))] for q in range(period)
        ]  # fmt: skip
        self.depths = [max((d for unit, d in self.starts if unit == q), default=0) for q in range(period)]
        self.rows = [(count + depth) * lanes for depth, lanes in zip(self.depths, self.lanes, strict=True)]

    def _names(self) -> set[str]:
        items = self.old.statements
        groups = (item.statements if isinstance(item, Repeat) else (item,) for item in items)
        return {s.name for group in groups for s in group if isinstance(s, Statement)}

    # --- what turns read ------------------------------------------------------------------------------------------

    def _column(self, q: int, r: int) -> Any:
        """What an access reads: addresses by turn and round."""
        first, period, count = self.turns
        return np.stack([self.columns.read[first + q + period * j][r] for j in range(count)])

    def _source(self, q: int, r: int) -> Any:
        """Per number that an access of a turn reads in the last turn: whose result, how many turns before, which lane.

        None for what is no result of these turns in the same round.
        """
        columns, (first, period, count) = self.columns, self.turns
        places = self._column(q, r)
        fresh = columns.fresh[places]
        low, high = columns.firsts[first], columns.firsts[self.turns.end]
        units = np.searchsorted(columns.firsts, fresh, side="right") - 1
        within = (fresh >= low) & (fresh < high)
        lanes = np.array([*self.all_lanes, 1])
        units = np.where(within, units, -1)
        rounds, offsets = np.divmod(fresh - columns.firsts[units], lanes[units])
        now = within & (rounds == np.arange(self.count)[:, None])
        if (within & (rounds > np.arange(self.count)[:, None])).any():
            raise UnsupportedError
        last = now[-1]
        if not last.any():
            if now.any():
                raise UnsupportedError
            return None
        if not last.all():
            raise UnsupportedError
        writers, depths = (units[-1] - first) % period, count - 1 - (units[-1] - first) // period
        offsets = offsets[-1]
        if any((part != part[0]).any() for part in (writers, depths, offsets)) or (depths >= count).any():
            raise UnsupportedError
        source = writers[0], depths[0], offsets[0]
        for j in range(count):
            before = source[1] > j
            expected = first + source[0] + period * (j - source[1])
            if (now[j] & before).any() or not (now[j] | before).all():
                raise UnsupportedError
            if (units[j] != expected)[:, ~before].any():
                raise UnsupportedError
            for column in np.flatnonzero(before).tolist():
                self._carry(int(source[0][column]), int(source[1][column]) - j, int(source[2][column]),
                            places[j, :, column])  # fmt: skip
        return source

    def _carry(self, q: int, depth: int, lane: int, origins: Any) -> None:
        rows = self.starts.setdefault((q, depth), np.full((self.count, self.lanes[q]), -1, dtype=np.int64))
        if (rows[:, lane] >= 0).any() and (rows[:, lane] != origins).any():
            raise UnsupportedError
        rows[:, lane] = origins

    # --- the program ----------------------------------------------------------------------------------------------

    def program(self) -> ArrayProgram:
        old = self.old
        for position, item in enumerate(old.statements):
            if position == self.position:
                self._place_repeat()
            else:
                self._place(fixed(item.base), item.lanes)
        statements = [
            self._repeat() if position == self.position else self._moved_item(item)
            for position, item in enumerate(old.statements)
        ]
        return self._moved_program(statements)

    def _place_repeat(self) -> None:
        repeat, (first, period, count), rounds = self.repeat, self.turns, np.arange(self.count)[:, None]
        begin, end = (self.columns.first + each for each in (first, self.turns.end))
        for k, (statement, starts) in enumerate(zip(repeat.statements, repeat.starts, strict=True)):
            if k == begin:
                self.bases = [self._take(self.count * row) for row in self.rows]
                for j in range(count):
                    for q in range(period):
                        lanes, each = self.lanes[q], self.statements[first + q + period * j]
                        places = self.bases[q] + self.rows[q] * rounds + lanes * (self.depths[q] + j) + np.arange(lanes)
                        self._settle(each.places.reshape(self.count, -1), places)
                self._place_copies()
            if not begin <= k < end:
                together = *starts, statement
                self._place(fixed(together[0].base), sum(each.lanes for each in together))

    def _place_copies(self) -> None:
        """What later rounds read is copied: of one turn, or of all turns."""
        first, period, count = self.turns
        self.copied: list[tuple[int, list[int], int, int]] = []  # a statement, turns, rounds before, and the address
        outer, rounds = math.prod(self.rounds[:-1]), self.rounds[-1]
        for q in range(period):
            starts = [self.starts_of[first + q + period * j] for j in range(count)]
            turns = [j for j in range(count) if starts[j]]
            if not turns:
                continue
            depth = len(starts[turns[0]])
            if any(len(starts[j]) != depth for j in turns) or 1 < len(turns) < count:
                raise UnsupportedError
            lanes = self.lanes[q]
            width = lanes * len(turns)
            base = self._take(outer * (depth + rounds) * width) + depth * width
            begins = base + (depth + rounds) * width * np.arange(outer)[:, None]  # of the rounds, each time
            places = (begins + width * np.arange(rounds)).reshape(-1, 1)
            for n, j in enumerate(turns):
                rows = self.statements[first + q + period * j].places.reshape(self.count, -1)
                self.copies[rows] = places + n * lanes + np.arange(lanes)
                for d, start in enumerate(starts[j]):
                    before = begins - (depth - d) * width + n * lanes + np.arange(lanes)
                    self._settle(start.places.reshape(outer, -1), before)
            self.copied.append((q, turns, depth, base))

    def _repeat(self) -> Repeat:
        repeat, loop, period = self.repeat, self.columns.loop, self.turns.period
        first, end = (self.columns.first + each for each in (self.turns.first, self.turns.end))
        kept = range(len(repeat.statements))
        items = [(self._moved(repeat.statements[k]), tuple(map(self._moved, repeat.starts[k]))) for k in kept[:first]]
        items += [self._turn(q) for q in range(period)]
        items += [self._copy(*each) for each in self.copied]
        items += [(self._moved(repeat.statements[k]), tuple(map(self._moved, repeat.starts[k]))) for k in kept[end:]]
        statements, starts = zip(*items, strict=True)
        shift = len(statements) - len(repeat.statements)
        inner = [
            Loop(each.first + shift * (each.first >= end), each.end + shift * (each.end >= end), each.depth)
            for each in repeat.inner
        ]
        return Repeat(statements, starts, tuple(sorted([*inner, Loop(first, first + period, loop.depth + 1)])))

    def _turn(self, q: int) -> tuple[Statement, tuple[Statement, ...]]:
        """A statement of a turn, and what the first turns read."""
        statement, count = self.inside[q], self.turns.turns
        depth, lanes, rest = self.depths[q], self.lanes[q], statement.shape[len(self.rounds) :]
        steps = self._steps(self.rows[q])
        tokens = iter(range(len(self.sources[q])))

        def read(_: Read, extents: tuple[Size, ...]) -> Read:
            return self._read(q, next(tokens), (*self.rounds, count, *map(fixed, extents[len(self.rounds) :])))

        turn = statement.with_reads(
            read, shape=(*self.rounds, count, *rest), base=self.bases[q] + depth * lanes, steps=steps
        )
        starts = []
        for d in range(depth, 0, -1):
            origins = self.starts.get((q, d))
            if origins is None:
                raise UnsupportedError
            filled = np.where(origins < 0, origins.max(axis=1, keepdims=True), origins)
            access = self._access(filled.reshape(*self.rounds, *map(fixed, rest)))
            starts.append(replace(turn, shape=(*self.rounds, *rest), body=(access,), base=turn.base - d * lanes))  # type: ignore[operator]
        return turn, tuple(starts)

    def _steps(self, row: int) -> tuple[int, ...]:
        """How far apart the rounds of each loop are, if so much is between those of the innermost one."""
        return tuple(row * math.prod(self.rounds[k:]) for k in range(1, len(self.rounds) + 1))

    def _read(self, q: int, r: int, shape: tuple[int, ...]) -> Read:
        """What an access of a turn reads, for all rounds and turns."""
        places, source = self._column(q, r).swapaxes(0, 1), self.sources[q][r]  # by round, turn and number
        if source is None:
            return self._access_of(places.reshape(shape))
        writers, depths, offsets = source
        bases, rows, lanes, before = (
            np.array(each)[writers] for each in (self.bases, self.rows, self.lanes, self.depths)
        )
        rounds, turns = np.arange(self.count)[:, None, None], np.arange(self.turns.turns)[:, None]
        result = bases + rows * rounds + lanes * (before + turns - depths) + offsets
        return strided(result.reshape(shape)) or Read(0, (), result.ravel())

    def _copy(self, q: int, turns: list[int], depth: int, base: int) -> tuple[Statement, tuple[Statement, ...]]:
        """The copy of what later rounds read, with what the first ones read."""
        first, period, _ = self.turns
        of = [first + q + period * j for j in turns]
        statement, name, (*outer, count) = self.inside[q], next(self.names), self.rounds
        rest = (*([len(turns)] if len(turns) > 1 else []), *map(fixed, statement.shape[len(self.rounds) :]))
        places = np.stack([self.statements[k].places.reshape(self.count, -1) for k in of], axis=1)
        width = math.prod(rest)
        steps = tuple((depth + count) * width * math.prod(outer[k:]) for k in range(1, len(outer) + 1))
        copy = replace(statement, name=name, shape=(*self.rounds, *rest), base=base, steps=steps,
                       body=(self._access(places.reshape(*self.rounds, *rest)),))  # fmt: skip
        starts = []
        for d in range(depth):
            rows = []
            for k in of:
                (read,) = (start := self.starts_of[k][d]).body
                if not isinstance(read, Read):
                    raise UnsupportedError
                rows.append(addresses(read, start.shape).reshape(math.prod(outer), 1, -1))
            access = self._access(np.concatenate(rows, axis=1).reshape((*outer, *rest)))
            starts.append(replace(copy, shape=(*outer, *rest), body=(access,), base=base - (depth - d) * width))
        return copy, tuple(starts)
