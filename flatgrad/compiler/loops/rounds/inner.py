"""Turns: what units of a round do again and again within the round."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...program.periods import longest_run, mixed, periods
from ..grammar import Addresses

#: So many turns make a loop within a round, with so many reads in all of them.
TURNS, READS = 8, 24
#: Turns in front, which read other carried values than later ones do, are so many at most.
_BEFORE = 4


class Turns(NamedTuple):
    """So many `turns`: units from `first` on, `period` of them per turn."""

    first: int
    period: int
    turns: int

    @property
    def end(self) -> int:
        return self.first + self.period * self.turns


def find_turns(symbols: Any, places: Any, begins: Any, sizes: Any) -> list[Turns]:
    """Where units repeat, in order.

    Args:
        symbols, places: per token, what is done with what it reads, and where that is.
        begins: per unit, its first token; one more for the end.
        sizes: per unit, where its results begin; one more for the end.
    """
    result: list[Turns] = []
    distances = np.repeat(sizes[:-1], np.diff(begins)) - places  # how far back it reads results of the round
    near = np.where((distances > 0) & (places >= sizes[0]), distances, 0)
    sequences = mixed(symbols), mixed(symbols) ^ mixed(near) * np.uint64(0xBF58476D1CE4E5B9)
    todo = [(0, len(symbols))]
    while todo:
        low, high = todo.pop()
        best: tuple[int, int, int, int] | None = None
        hashes = [sequence[low:high] for sequence in sequences if high - low >= READS]
        tried = {0}
        while hashes:
            for period in set(periods(hashes.pop())) - tried:
                tried.add(period)
                run = longest_run(symbols[low:high], places[low:high], period)
                if run is None:
                    continue
                unit = int(np.searchsorted(begins, low + run[0]))
                start, turns = int(begins[unit]), (low + run[1] - int(begins[unit])) // period
                if turns < 3 or begins[np.searchsorted(begins, start + period)] != start + period:
                    continue
                if best is None or (turns - 1) * period > (best[2] - 1) * best[1]:
                    best = start, period, turns, int(np.searchsorted(begins, low + run[1], side="right")) - 1
            if not hashes and best is not None and -best[1] not in tried and 2 * best[1] * best[2] < high - low:
                tried.add(-best[1])  # turns of turns: the steps of the inner ones tell where an outer one ends
                steps = places[low + best[1] : high] - places[low : high - best[1]]
                hashes.append(mixed(symbols[low : high - best[1]]) ^ mixed(mixed(steps)))
        if best is None:
            continue
        start, period, turns, end = best
        found = _begun(symbols, places, begins, sizes, low, start, period, turns, end)
        if found is not None and found.turns >= TURNS and found.turns * period >= READS:
            result.append(found)
            todo += [(low, int(begins[found.first])), (int(begins[found.end]), high)]
    return sorted(result)


def turns_of(symbols: Any, places: Any, begins: Any, sizes: Any) -> Addresses:
    """Per unit, a number for the turn that it is in, of the innermost loop; 0 for what is in none.

    Args:
        symbols, places, begins, sizes: as for `find_turns`.
    """
    result = np.zeros(len(begins) - 1, dtype=np.int64)
    for first, period, count in find_turns(symbols, places, begins, sizes):
        second = slice(first + period, first + 2 * period + 1)
        tokens = slice(begins[second.start], begins[second.stop - 1])
        within = turns_of(symbols[tokens], places[tokens], begins[second] - tokens.start, sizes[second])
        result[first : first + period * count] = (
            1 + first + np.repeat(period * np.arange(count), period) + np.tile(within, count)
        )
    return result


def _begun(
    symbols: Any, places: Any, begins: Any, sizes: Any, low: int, start: int, period: int, turns: int, end: int
) -> Turns | None:
    """The turns, from where few values are carried from one to the next, with those in front that only start others."""
    unit, after = np.searchsorted(begins, [start, start + period]).tolist()
    length, size = after - unit, int(sizes[after] - sizes[unit])
    steps = places[start + period : start + 2 * period] - places[start : start + period]
    earliest = unit
    while earliest > 0 and begins[earliest - 1] >= low and unit - earliest < _BEFORE * length:
        tokens = np.arange(begins[earliest - 1], begins[earliest])
        later = tokens + period
        step = steps[(tokens - start) % period]
        goes_on = (places[later] - places[tokens] == step) | (step == size)
        if (symbols[later] != symbols[tokens]).any() or not goes_on.all():
            break
        earliest -= 1
    tokens = np.arange(start, start + period)
    carried = tokens[steps == size] + period * (turns - 1)
    readers = np.searchsorted(begins, carried, side="right") - 1
    writers = np.searchsorted(sizes, places[carried], side="right") - 1
    near = (writers >= unit) & (writers < end)
    readers, writers = readers[near], writers[near]

    def crossing(begin: int) -> int:
        """How many values one turn finds that the turns before it have computed."""
        crosses = (readers - begin) // length != (writers - begin) // length
        return len(set(((writers[crosses] - begin) % length).tolist()))

    first = min(range(earliest, min(earliest + length, unit + 1)), key=crossing, default=unit)
    return Turns(first, length, (end - first) // length)
