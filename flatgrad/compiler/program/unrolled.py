"""Loops that stand unrolled in columns of equations: where the rounds of a recurrence follow each other.

A loop is so many rounds of equations with the same primitives and lines, each operand of which advances evenly from
round to round: by the length of a round (what a round before computed), not at all (what all rounds read), or by any
other step (the elements of an array, or the results of an earlier loop, forwards or backwards). Constants may be
different in each round. Candidates for the length of a round are the distances at which windows of symbols recur
(`periods`); a loop is then compared with its first two rounds, column by column, so that nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...runtime.primitives import BY_NAME
from .builder import Indices
from .periods import longest_run, mixed, periods
from .program import Program

#: At least so many rounds make a loop.
ROUNDS = 12
#: How many equations are looked at first, and how many times more after that.
_FIRST, _MORE = 1 << 13, 8
#: A loop that is so many times as long as the equations in which it was seen is taken without looking at more of them.
_SURELY = 8
#: About so many operands are compared at once.
_AT_ONCE = 1 << 16
#: What folds apply: re-rolling takes a running result of these, which nothing else reads, as one statement.
_FOLDS = {BY_NAME[name].opcode for name in ("add", "mul", "maximum", "minimum", "logical_and", "logical_or")}


class Columns(NamedTuple):
    """Equations, one after the other; the columns are those of `Program`."""

    opcodes: Indices
    starts: Indices
    operands: Indices
    sites: Indices

    @classmethod
    def of(cls, program: Program) -> Columns:
        """The columns of a program; they are not copied."""
        return cls(*map(np.asarray, (program.opcodes, program.starts, program.operands, program.sites)))

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """Parts one behind the other."""
        ends = np.concatenate([[0], *(np.diff(part.starts) for part in parts)]).cumsum()
        return cls(
            np.concatenate([part.opcodes for part in parts]),
            ends,
            np.concatenate([part.operands for part in parts]),
            np.concatenate([part.sites for part in parts]),
        )

    def part(self, low: int, high: int) -> Columns:
        """Some of the equations."""
        starts = self.starts[low : high + 1]
        operands = self.operands[starts[0] : starts[-1]]
        return Columns(self.opcodes[low:high], starts - starts[0], operands, self.sites[low:high])

    def symbols(self, low: int, high: int) -> Indices:
        """Per operand of some equations, a hash of all but where it stands: primitive, line, and what kind it is."""
        starts = self.starts[low : high + 1]
        lengths = np.diff(starts)
        equations = mixed(self.opcodes[low:high]) ^ (mixed(self.sites[low:high]) >> np.uint64(7))
        operands = self.operands[starts[0] : starts[-1]]
        places = np.arange(len(operands)) - np.repeat(starts[:-1] - starts[0], lengths)
        result: Indices = np.repeat(equations, lengths) ^ (mixed(places * 2 + (operands < 0)) >> np.uint64(3))
        return result


class Loop:
    """Rounds of equations: the first one, and how the others differ.

    Attributes:
        first, size, rounds: the first equation, the number of equations of a round, and the number of rounds.
        opcodes, starts, operands, sites: the columns of the first round.
        steps: per operand of a round, by how much it advances from round to round; 0 for constants.
        data: by operand of a round, the constants (`~k`) of all rounds, where they are not all the same.
    """

    def __init__(self, columns: Columns, first: int, size: int) -> None:
        self.first: int = first
        self.size = size
        self.rounds: int = 0
        token, end = columns.starts[[first, first + size]].tolist()
        round_of = slice(first, first + size)
        self.opcodes: Indices = columns.opcodes[round_of].copy()
        self.sites: Indices = columns.sites[round_of].copy()
        self.starts: Indices = columns.starts[first : first + size + 1] - token
        self.operands: Indices = columns.operands[token:end].copy()
        self.constant: np.ndarray[Any, np.dtype[np.bool_]] = self.operands < 0
        after = columns.operands[end : end + len(self.operands)]
        self.steps: Indices = np.where(self.constant, 0, after - self.operands)
        self._data: list[Indices] = []
        self.rounds = self.continued(columns, first)

    @classmethod
    def of(cls, columns: Columns, steps: Indices, first: int, rounds: int) -> Loop:
        """The loop with so many rounds, whose first one has these columns."""
        loop = cls.__new__(cls)
        loop.first, loop.size, loop.rounds = first, len(columns.opcodes), rounds
        loop.opcodes, loop.starts, loop.operands, loop.sites = columns
        loop.steps, loop.constant = steps, columns.operands < 0
        constants = columns.operands[loop.constant]
        loop._data = [np.broadcast_to(constants, (rounds, len(constants)))]
        return loop

    def with_constants_of(self, other: Loop, renumber: Callable[[Any], Indices] | None) -> Loop:
        """This loop with the constants of another one, which may get other numbers."""
        constants = other._constants()
        if constants.strides[0]:
            self._data = [constants if renumber is None else renumber(constants)]
        return self

    @property
    def end(self) -> int:
        """The equation behind the last round."""
        return self.first + self.size * self.rounds

    @property
    def data(self) -> dict[int, Indices]:
        constants = self._constants()
        if not constants.strides[0]:  # one row for all
            return {}
        differ = np.flatnonzero((constants != constants[:1]).any(axis=0))
        places = np.flatnonzero(self.constant)[differ]
        return dict(zip(places.tolist(), constants[:, differ].T, strict=True))

    def _constants(self) -> Indices:
        """The constants of all rounds."""
        if len(self._data) != 1:
            same = not any(block.strides[0] for block in self._data if len(block))
            constants = self.operands[self.constant]
            self._data = [
                np.broadcast_to(constants, (self.rounds, len(constants))) if same else np.concatenate(self._data)
            ]
        return self._data[0]

    def columns(self, low: int, high: int) -> Columns:
        """Some of the rounds, written out."""
        count, length = high - low, len(self.operands)
        operands: Any = self.operands + self.steps * np.arange(low, high)[:, None]
        operands[:, self.constant] = self._constants()[low:high]
        starts = self.starts[:-1] + length * np.arange(count)[:, None]
        ends = np.append(starts, length * count)
        return Columns(np.tile(self.opcodes, count), ends, operands.ravel(), np.tile(self.sites, count))

    def trim(self, head: int, tail: int) -> tuple[Columns, Columns]:
        """Leave out some rounds at both ends, and return them written out."""
        parts = self.columns(0, head), self.columns(self.rounds - tail, self.rounds)
        self._data = [self._constants()[head : self.rounds - tail]]
        self.first += head * self.size
        self.operands = np.where(self.constant, self.operands, self.operands + head * self.steps)
        self.rounds -= head + tail
        if len(self._data[0]):
            self.operands[self.constant] = self._data[0][0]
        return parts

    def continued(self, columns: Columns, equation: int) -> int:
        """How many rounds more begin at an equation of some columns; their constants are noted."""
        rounds, length = 0, len(self.operands)
        while True:
            low = equation + rounds * self.size
            count = min((len(columns.opcodes) - low) // self.size, max(1, _AT_ONCE // length), 4 * rounds + 4)
            if count <= 0:
                return rounds
            agree = self._agree(columns, low, count, self.rounds + rounds)
            wrong = np.flatnonzero(~agree)
            good = int(wrong[0]) if len(wrong) else count
            token = int(columns.starts[low])
            constants = columns.operands[token : token + good * length].reshape(good, length)[:, self.constant]
            first = self.operands[self.constant]
            if (constants == first).all():  # which takes no memory
                constants = np.broadcast_to(first, constants.shape)
            self._data.append(constants)
            rounds += good
            if good < count:
                return rounds

    def _agree(self, columns: Columns, low: int, count: int, past: int) -> Any:
        """Which of so many rounds, of which so many are past, are as they should be."""
        size, length = self.size, len(self.operands)
        rows = slice(low, low + count * size)
        agree = (columns.opcodes[rows].reshape(count, size) == self.opcodes).all(axis=1)
        agree &= (columns.sites[rows].reshape(count, size) == self.sites).all(axis=1)
        count = int(np.argmin(agree)) if not agree.all() else count
        token = int(columns.starts[low])
        operands = columns.operands[token : token + count * length].reshape(count, length)
        expected = self.operands + self.steps * np.arange(past, past + count)[:, None]
        agree[:count] &= np.where(self.constant, operands < 0, operands == expected).all(axis=1)
        return agree

    def begun_best(self, columns: Columns, inputs: int) -> Loop:
        """The loop with rounds that begin where few values are carried from one to the next.

        Where that does not decide, they end where the repetition ends.
        """
        start = inputs + self.first
        reader = np.repeat(np.arange(self.size), np.diff(self.starts))
        ages = np.zeros(self.size, dtype=np.int64)  # of what each equation computes, when it is read last
        own = self._carried(start)
        writer = self.operands[own] - start
        np.maximum.at(ages, writer % self.size, reader[own] - writer)
        rest = ages % self.size
        changes = np.zeros(2 * self.size + 1, dtype=np.int64)
        place = np.arange(self.size) + 1
        np.add.at(changes, place, 1)
        np.add.at(changes, place + rest, -1)
        alive = np.cumsum(changes)
        carried = alive[: self.size] + alive[self.size : 2 * self.size]
        left = (self._left(columns) - np.arange(self.size)) % self.size
        later = int(np.argmin(carried * self.size + left))
        if not later or self.rounds <= ROUNDS:
            return self
        return Loop(columns, self.first + later, self.size)

    def _left(self, columns: Columns) -> int:
        """How many equations behind the last round are as if there were another one."""
        count = min(self.size - 1, len(columns.opcodes) - self.end)
        rows = slice(self.end, self.end + count)
        token, length = int(columns.starts[self.end]), int(self.starts[count])
        operands = columns.operands[token : token + length]
        expected = (self.operands + self.steps * self.rounds)[:length]
        agree = (columns.opcodes[rows] == self.opcodes[:count]) & (columns.sites[rows] == self.sites[:count])
        count = int(np.argmin(agree)) if not agree.all() else count
        length = min(len(operands), int(self.starts[count]))
        wrong = np.where(self.constant[:length], operands[:length] >= 0, operands[:length] != expected[:length])
        first = int(np.argmax(wrong)) if wrong.any() else length
        return int(np.searchsorted(self.starts[: count + 1], first, side="right")) - 1

    def _carried(self, start: int) -> Any:
        """Which operands are computed in the same round or in rounds before; the loop has variables from `start` on."""
        last = self.operands + self.steps * (self.rounds - 1)
        return (self.steps == self.size) & ~self.constant & (last >= start)

    def is_recurrence(self, inputs: int) -> bool:
        """Whether rounds need what rounds before computed, other than as the partial results of a fold."""
        start = inputs + self.first
        carried = self._carried(start)
        reader = np.repeat(np.arange(self.size), np.diff(self.starts))
        writer = (self.operands - start) % self.size
        within = carried & (self.operands >= start)
        readers = np.bincount(writer[carried], minlength=self.size)
        only = np.full(self.size, -1)
        only[writer[within]] = reader[within]
        for token in np.flatnonzero(carried & ~within).tolist():
            at, goal, opcode = int(reader[token]), int(writer[token]), int(self.opcodes[reader[token]])
            if opcode not in _FOLDS or self.operands[token] < start - self.size:
                return True
            while at != goal:
                if readers[at] != 1 or only[at] < 0 or self.opcodes[only[at]] != opcode:
                    return True
                at = int(only[at])
            if readers[goal] != 1:
                return True
        return False


def longest_loop(columns: Columns, inputs: int) -> Loop | None:
    """The loop with most equations in some columns; the first variable is behind so many inputs."""
    loop = _best(columns, 0, len(columns.opcodes))
    return loop and loop.begun_best(columns, inputs)


def find_loops(columns: Columns, inputs: int, patience: int = 0) -> list[Loop]:
    """The loops in some columns, in order; the first variable is behind so many inputs.

    Args:
        patience: at most so many times as many equations as there are, are looked at. Where that is not enough, none
            are found: what has hundreds of short loops, as the matrices of a network, has no long ones. 0: any number.
    """
    result: list[Loop] = []
    count = len(columns.opcodes)
    todo, looked = [(0, count)], 0
    while todo:
        low, high = todo.pop()
        looked += high - low
        if looked > patience * count > 0:
            return []
        loop = _best(columns, low, high)
        if loop is not None:
            loop = loop.begun_best(columns._replace(opcodes=columns.opcodes[:high]), inputs)
            result.append(loop)
            todo += [(low, loop.first), (loop.end, high)]
    return sorted(result, key=lambda loop: loop.first)


def _best(columns: Columns, low: int, high: int) -> Loop | None:
    """The loop with most equations between two equations, or one that has most of them surely."""
    if high - low < ROUNDS:
        return None
    part = columns._replace(opcodes=columns.opcodes[:high], sites=columns.sites[:high])
    for count in _counts(high - low):
        whole = count == high - low
        best: Loop | None = None
        for first, size, gain in _candidates(part, low, low + count):
            if best is None or gain > (best.rounds - 1) * best.size:
                loop = Loop(part, first, size)
                if loop.rounds >= ROUNDS and (best is None or loop.rounds * loop.size > best.rounds * best.size):
                    best = loop
        if best is not None and (whole or best.end - best.first >= min((high - low) // 2, _SURELY * count)):
            return best
    return None


def _counts(total: int) -> Iterator[int]:
    count = _FIRST
    while count < total:
        yield count
        count *= _MORE
    yield total


def _candidates(columns: Columns, low: int, high: int) -> Iterator[tuple[int, int, int]]:
    """Where rounds may begin, how long they are, and about how many equations they save."""
    symbols = columns.symbols(low, high)
    starts = columns.starts[low : high + 1] - columns.starts[low]
    operands = columns.operands[columns.starts[low] : columns.starts[high]]
    places = np.where(operands < 0, 0, operands)
    tried: set[int] = set()

    def runs(several: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        for period in several:
            run = longest_run(symbols, places, period) if period not in tried else None
            tried.add(period)
            if run is not None:
                first, after, end = np.searchsorted(starts, [run[0], run[0] + period, run[1]]).tolist()
                if first < after and 2 * after - first < len(starts):
                    yield low + first, after - first, end - after

    first = periods(symbols, sampled=True)
    most = 0
    for candidate in runs(first):
        most = max(most, candidate[2])
        yield candidate
    if 2 * most >= high - low:
        return
    # Where a round consists of equal parts that read other places, the same steps recur from round to round.
    for period in first:
        if 2 * np.count_nonzero(symbols[period:] == symbols[:-period]) > len(symbols):
            steps = places[period:] - places[:-period]
            yield from runs(periods(symbols[period:] ^ mixed(steps), sampled=True))
