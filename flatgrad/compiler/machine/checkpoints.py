"""Reverse sweeps in bounded memory: rounds are computed again from checkpoints.

A loop over rounds keeps what its adjoint loop reads, from the last round to the first. If that needs too much memory,
the rounds are cut into *segments*. A buffer has room for one of them. The forward loop runs through all segments, and
what it carries from round to round is saved at some of their beginnings: these are the checkpoints. Then, from the last
segment to the first, the forward loop runs again from the nearest checkpoint, and the adjoint loop runs over the
segment. Rounds that are computed again have the same bits, so all results have.

Where there is room for a checkpoint per segment, each round is computed twice. Where there is not, checkpoints are set
again while the sweep proceeds, by the binomial schedule, which computes as few rounds as can be (Griewank and Walther,
Algorithm 799: Revolve, 2000). With `s` checkpoints and `k` segments each segment is computed at most `r + 1` times,
where `r` is the least number with `(s + r)! / (s! r!) >= k`.

The code is that of the plain program: what is different is its schedule, which is data. It makes the same calls with
other places and counts. A statement whose rounds something else reads, too, keeps all of them.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..loops.array_program import ArrayProgram
from ..loops.buffers import Plan, plan_buffers, span
from ..loops.extents import Ragged, fixed
from ..loops.grammar import Block, Read, Repeat
from .llvm import Module, NativeCode
from .operations import Machine, Writer
from .text import Function, Value, load, loaded_index, store

#: So many of the last rounds may be read by what does not run in rounds; a segment has at least as many.
_TAIL = 64
#: So often a cut is chosen, until it takes as much memory as was foreseen.
_TRIALS = 4
#: There are at most so many segments: of more, the schedule would take the memory that is saved.
_SEGMENTS = 4_096


# --- the order --------------------------------------------------------------------------------------------------------


def splits(segments: int, slots: int) -> int:
    """After how many of the segments, the first of which has a checkpoint, the next checkpoint is set.

    Args:
        segments: how many are to be reversed.
        slots: for how many more checkpoints there is room.

    Example:
        >>> [splits(10, slots) for slots in (1, 2, 3, 9)]
        [6, 4, 1, 1]
    """
    room, repetitions = slots + 1, 1
    while math.comb(room + repetitions, room) < segments:
        repetitions += 1
    least = math.comb(room + repetitions - 2, room) if repetitions > 1 else 0
    return max(1, least, segments - math.comb(room - 1 + repetitions, room - 1))


def reversal(segments: int, slots: int) -> Iterator[tuple[str, int, int]]:
    """What is done to reverse some segments, the first of which has a checkpoint already, in slot 0.

    Args:
        segments: how many there are.
        slots: for how many checkpoints there is room, at least one.

    Yields:
        ("run", a, b): the forward loop, from segment a up to b.
        ("save", a, slot) and ("restore", a, slot): what is carried into segment a.
        ("reverse", a, 0): the forward loop over segment a, then its adjoint.

    Example:
        >>> list(reversal(3, 2))
        [('run', 0, 1), ('save', 1, 1), ('run', 1, 2), ('reverse', 2, 0), ('restore', 1, 1), ('reverse', 1, 0), \
('restore', 0, 0), ('reverse', 0, 0)]
    """
    saved, here = [0], 0
    for segment in reversed(range(segments)):
        at = saved[-1]
        if here != at:
            yield "restore", at, len(saved) - 1
        while at < segment:
            free = slots - len(saved)
            following = at + splits(segment - at + 1, free) if free else segment
            yield "run", at, following
            if free:
                yield "save", following, len(saved)
                saved.append(following)
            at = following
        yield "reverse", segment, 0
        here = -1
        if saved[-1] == segment:
            saved.pop()


def runs(segments: int, slots: int) -> int:
    """How many segments the forward loop runs through beside those that are reversed at once, in `reversal`.

    Example:
        >>> runs(10, 3), sum(b - a for action, a, b in reversal(10, 3) if action == "run")
        (15, 15)
    """
    repetitions = next(r for r in itertools.count(1) if math.comb(slots + r, r) >= segments)
    return repetitions * segments - math.comb(slots + repetitions, repetitions - 1)


# --- what can be cut --------------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """A statement of a repeat that keeps the rounds of one segment.

    Attributes:
        first: its first address, that of the rounds before the first one.
        base: the address of its first round.
        end: the address behind its last round.
        step: the numbers of a round.
        kind: of its memory.
    """

    first: int
    base: int
    end: int
    step: int
    kind: str

    @property
    def depth(self) -> int:
        """How many rounds before the first one there are."""
        return (self.base - self.first) // self.step


class Pair(NamedTuple):
    """A forward loop and its adjoint loop.

    Attributes:
        forward, adjoint: their positions among the items of the program.
        windows: the statements of each that keep one segment.
        rounds: how many rounds each has.
        low, high: segments of the adjoint from round c to d need the rounds from `low - d` up to `high - c` of the
            forward loop.
        tails: how many of the last rounds of each others read.
        head: how many of the first rounds of the forward loop others read behind the adjoint loop.
    """

    forward: int
    adjoint: int
    windows: tuple[list[Window], list[Window]]
    rounds: tuple[int, int]
    low: int
    high: int
    tails: tuple[int, int]
    head: int = 0

    @property
    def width(self) -> int:
        """The numbers of a round in all windows."""
        return sum(window.step for windows in self.windows for window in windows)


def find_pair(program: ArrayProgram) -> Pair | None:
    """The two loops of a program that keep the most; None if there are none that can be cut into segments.

    Pairs are looked at in the order of what they could keep at most, until none can keep more than the best one does.
    """
    loops = {k: item for k, item in enumerate(program.statements) if isinstance(item, Repeat) and _is_plain(item)}
    most = {
        (a, b): (loops[a].lanes / loops[a].count + loops[b].lanes / loops[b].count) * loops[a].count
        for a, b in itertools.combinations(loops, 2)
    }
    best, kept, accesses = None, 0, _Accesses(program)
    for a, b in sorted(most, key=lambda pair: -most[pair]):
        if kept >= most[a, b]:
            break
        pair = _Finder(program, a, b, accesses).pair()
        if pair is not None and pair.width * pair.rounds[0] > kept:
            best, kept = pair, pair.width * pair.rounds[0]
    return best


def _is_plain(repeat: Repeat) -> bool:
    """Whether all that it writes and reads moves by equal steps from round to round."""
    for statement in repeat.members():
        if statement.is_ragged or statement.bends:
            return False
        for read, extents in statement.reads():
            if read.bends or any(isinstance(extent, Ragged) for extent in extents):
                return False
    return True


class _Accesses:
    """What a program reads, for all pairs of its loops.

    Attributes:
        inside: per position of a loop, the accesses of what it runs in rounds, each with its extents and its range.
        ranges: per access the position of its item, the lowest and the highest address, and whether it is in rounds.
        tables: the addresses of all gathers.
    """

    def __init__(self, program: ArrayProgram) -> None:
        self.inside: dict[int, list[tuple[Read, Sequence[Any], int, int]]] = {}
        tables: dict[int, Any] = {}  # by their identity: many accesses may share one
        ranges: set[tuple[int, int, int, bool]] = set()
        for k, item in enumerate(program.statements):
            if isinstance(item, Block):
                ranges.update((k, address, address, False) for address in item.reads.tolist())
                continue
            rounds = isinstance(item, Repeat)
            members = item.members() if isinstance(item, Repeat) else [item]
            starts = set(map(id, item.starts_of(item.loop))) if isinstance(item, Repeat) else set()
            for member in members:
                in_rounds = rounds and id(member) not in starts
                for read, extents in member.reads():
                    if read.table is not None:
                        tables[id(read.table)] = read.table
                        continue
                    low, high = span(read, extents)
                    ranges.add((k, low, high, in_rounds))
                    if in_rounds:
                        self.inside.setdefault(k, []).append((read, extents, low, high))
        self.ranges = np.array(sorted(ranges), dtype=np.int64).reshape(-1, 4)
        self.tables = list(tables.values())


class _Finder:
    """Finds out which statements of two loops can keep one segment."""

    def __init__(self, program: ArrayProgram, forward: int, adjoint: int, accesses: _Accesses) -> None:
        self.program, self.positions, self.accesses = program, (forward, adjoint), accesses
        loops = [program.statements[k] for k in self.positions]
        self.loops: list[Repeat] = [loop for loop in loops if isinstance(loop, Repeat)]
        self.windows: list[list[Window]] = [[], []]
        for windows, loop in zip(self.windows, self.loops, strict=True):
            for statement, starts in zip(loop.statements, loop.starts, strict=True):
                base, step = fixed(statement.base), statement.lanes // loop.count
                first = base - sum(start.lanes for start in starts)
                if statement.steps:  # in an inner loop, which begins with its starts in each round
                    step = fixed(statement.steps[0])
                    first = base = min(fixed(member.base) for member in (*starts, statement))
                windows.append(Window(first, base, base + step * loop.count, step, statement.kind))
        self.all = sorted([*self.windows[0], *self.windows[1]])
        self.bounds = np.array([(window.first, window.end) for window in self.all]).T
        self.refused = {w for w in self.all if w.kind == "b" and w.depth}
        #: Of windows of the forward loop: the rounds that round 0 of the adjoint loop reads, at least and at most.
        self.reads: dict[Window, list[int]] = {}
        self.tails, self.head = [1, 1], 0

    def pair(self) -> Pair | None:
        """The pair; None if nothing is gained by cutting it."""
        self._look()
        kept = [[w for w in windows if w not in self.refused] for windows in self.windows]
        rounds = self.loops[0].count, self.loops[1].count
        reads = {window: rows for window, rows in self.reads.items() if window not in self.refused}
        if not reads or rounds[1] < 4:
            return None
        low = min(rows[0] + window.depth for window, rows in reads.items()) + 1
        high = max(rows[1] for rows in reads.values()) + 1
        if low < rounds[1] or high > rounds[0]:  # it reads rounds that there are not
            return None
        tails = self.tails[0], self.tails[1]
        return Pair(*self.positions, (kept[0], kept[1]), rounds, min(low, high), high, tails, self.head)

    def _touched(self, low: int, high: int) -> list[Window]:
        """The windows some address of which is in a range."""
        position = max(bisect.bisect_right(self.all, low, key=lambda window: window.first) - 1, 0)
        touched = []
        for window in self.all[position:]:
            if window.first > high:
                break
            if window.end > low:
                touched.append(window)
        return touched

    def _look(self) -> None:
        """Look at all that reads a window, first at the rounds: often the adjoint loop reads nothing of the other."""
        for loop, k in enumerate(self.positions):
            for access in self.accesses.inside.get(k, ()):
                self._read_in_rounds(loop, *access)
        if self.reads.keys() <= self.refused:
            return
        items, lows, highs, in_rounds = self.accesses.ranges.T
        firsts, ends = self.bounds
        places = np.maximum(np.searchsorted(firsts, lows, side="right") - 1, 0)
        touching = (firsts[places] <= highs) & (ends[places] > lows)
        touching |= np.searchsorted(firsts, highs, side="right") > places + 1
        touching &= (in_rounds == 0) | ~np.isin(items, self.positions)
        for k, low, high, _ in self.accesses.ranges[touching].tolist():
            # What runs before the forward loop, or with its starts, reads none of it.
            self._read_outside(k, low, high)
        for table in self.accesses.tables:
            self._gathered(table)
        self._gathered(self.program.outputs)

    def _gathered(self, table: Any) -> None:
        firsts, ends = self.bounds
        places = np.searchsorted(firsts, table, side="right") - 1
        inside = (places >= 0) & (table < ends[np.maximum(places, 0)])
        if not inside.any():
            return
        for place in np.unique(places[inside]).tolist():
            window = self.all[place]
            lowest = int(table[inside & (places == place)].min())
            if table is self.program.outputs:
                self._read_outside(len(self.program.statements), lowest, window.end - 1)
            else:
                self.refused.add(window)

    def _read_outside(self, k: int, low: int, high: int) -> None:
        """Something that is not in rounds reads a range: it must be among the last rounds of the latest segment.

        Behind the adjoint loop, that is the first one: of the forward loop, it has the first rounds.
        """
        touched = self._touched(low, high)
        for window in touched:
            loop = int(window in self.windows[1])
            forward, adjoint = self.positions
            latest = forward <= k <= adjoint if not loop else k > adjoint
            tail = -(-(window.end - low) // window.step)
            starts = k == self.positions[loop]
            head = -(-(high + 1 - window.base) // window.step)
            few = head <= min(_TAIL, self.loops[0].count // 4)
            if len(touched) == 1 and not loop and k > adjoint and low >= window.first and few:
                self.head = max(self.head, head)
            elif len(touched) > 1 or not latest or starts or low < window.first or tail > _TAIL:
                self.refused.add(window)
            else:
                self.tails[loop] = max(self.tails[loop], tail)

    def _read_in_rounds(self, loop: int, read: Read, extents: Sequence[Any], low: int, high: int) -> None:
        """A round of a loop reads a range."""
        touched, stride = self._touched(low, high), fixed(read.strides[0])
        for window in touched:
            of = int(window in self.windows[1])
            first, last = span(read._replace(strides=read.strides[1:]), extents[1:])
            rows = [(place - window.base) // window.step for place in (first, last)]
            fits = len(touched) == 1 and low >= window.first and high < window.end
            if of == loop and fits and stride == window.step and rows[0] >= -window.depth and rows[1] <= 0:
                continue
            if of < loop and fits and stride == -window.step:
                known = self.reads.setdefault(window, rows)
                self.reads[window] = [min(known[0], rows[0]), max(known[1], rows[1])]
                continue
            self.refused.add(window)


# --- the schedule -----------------------------------------------------------------------------------------------------


class Cut(NamedTuple):
    """How a pair is cut into segments.

    Attributes:
        length: the rounds of the adjoint in a segment.
        slots: for how many checkpoints there is room.
        rounds: how many rounds the forward loop runs through in all.
        memory: about how many bytes it takes, with the schedule.
    """

    length: int
    slots: int
    rounds: int
    memory: int


class Segments:
    """The segments of a pair, in the order of the forward loop.

    Attributes:
        adjoint: per segment the first round of the adjoint, and the one behind its last.
        forward: per segment the same of the forward loop, for the adjoint.
    """

    def __init__(self, pair: Pair, length: int) -> None:
        total = pair.rounds[1]
        first = min(total, max(length, *pair.tails))  # enough for what is read of the last rounds
        cuts = [0, *range(first, total, length), total]
        least = max(pair.tails[1], *(w.depth for ws in pair.windows for w in ws))
        while len(cuts) > 2 and (total - cuts[-2] < least or pair.high - cuts[-2] < pair.head):
            del cuts[-2]
        self.adjoint: list[tuple[int, int]] = list(itertools.pairwise(cuts))[::-1]
        self.forward: list[tuple[int, int]] = [
            (0 if d == total else max(0, pair.low - d), pair.rounds[0] if c == 0 else pair.high - c)
            for c, d in self.adjoint
        ]

    @property
    def room(self) -> tuple[int, int]:
        """How many rounds the windows of each loop have room for."""
        forward, adjoint = (max(end - start for start, end in rows) for rows in (self.forward, self.adjoint))
        firsts = [start for start, _ in self.forward]
        longest = max((b - a for a, b in itertools.pairwise(firsts)), default=0)
        return max(forward, longest), adjoint


class CheckpointModule(Module):
    """A module whose adjoint loop runs segment by segment.

    Args:
        program, machine, fast: as for `Module`.
        pair: what is cut.
        cut: how.
    """

    def __init__(self, program: ArrayProgram, machine: Machine, fast: bool, pair: Pair, cut: Cut) -> None:
        self.pair = pair
        self.cut = cut
        self.segments: Segments = Segments(pair, cut.length)
        #: The round in which windows begin where the plan says that they are: that of the latest segment.
        self.latest: tuple[int, int] = self.segments.forward[-1][0], self.segments.adjoint[0][0]
        super().__init__(program, machine, fast)
        self.walks = True

    def planned(self) -> Plan:
        pair = self.pair
        bases = {window.first: (k, window) for k in (0, 1) for window in pair.windows[k]}
        loops = [self.program.statements[k] for k in (pair.forward, pair.adjoint)]
        kept = [window for windows in pair.windows for window in windows]
        elsewhere = {
            fixed(member.base)
            for loop in loops if isinstance(loop, Repeat)
            for member in loop.members()
            if any(window.first <= fixed(member.base) < window.end for window in kept)
        }  # fmt: skip
        plan = plan_buffers(self.program, False, elsewhere | self.direct.keys(), (pair.forward, pair.adjoint))
        numbers, truths = plan.numbers, plan.truths
        self.fronts: dict[Window, int] = {}  # where each window begins
        for region, start in enumerate(plan.starts):
            if start not in bases or region == 0:
                continue
            k, window = bases[start]
            size = (window.depth + self.segments.room[k]) * window.step
            shift = self.latest[k] * window.step
            if window.kind == "b":
                plan.truth_offsets[region], self.fronts[window], truths = truths - shift, truths, truths + size
            else:
                plan.offsets[region], self.fronts[window], numbers = numbers - shift, numbers, numbers + size
        return plan._replace(numbers=numbers, truths=truths)

    def reached(self, position: int) -> None:
        """Behind the adjoint loop, the first segment is in the windows of the forward loop."""
        if position != self.pair.adjoint + 1:
            return
        plan = self.plan
        for region, start in enumerate(plan.starts):
            for window in self.pair.windows[0]:
                if window.first == start and region:
                    offsets = plan.truth_offsets if window.kind == "b" else plan.offsets
                    offsets[region] += self.latest[0] * window.step
        self.use(plan)

    def mark_read(self, read: Any) -> None:
        """What is carried into the next segment goes through memory."""
        for k in (self.pair.forward, self.pair.adjoint):
            loop = self.program.statements[k]
            assert isinstance(loop, Repeat)
            for statement, starts in zip(loop.statements, loop.starts, strict=True):
                if starts and not statement.steps:
                    read[fixed(statement.base) : fixed(statement.base) + statement.lanes] = True

    # --- calls ----------------------------------------------------------------------------------------------------

    def arrange(self) -> None:
        pair, segments = self.pair, self.segments
        carries = [_Carry(self, pair.windows[k], k) for k in (0, 1)]
        slot = self.arena.take(max(1, self.cut.slots * carries[0].size))
        save, restore = carries[0].copies(slot)
        begun = [*self.begun, len(self.calls)]
        calls = list(self.calls)
        parts = [calls[start:end] for start, end in itertools.pairwise(begun)]
        first, rounds = parts[pair.forward][:-1], parts[pair.forward][-1]
        starts, adjoint = parts[pair.adjoint][:-1], parts[pair.adjoint][-1]
        between = [call for part in parts[pair.forward + 1 : pair.adjoint] for call in part]
        self.calls: list[tuple[int, list[int]]] = [call for part in parts[: pair.forward] for call in part]
        self.calls += self._in_front(0, first)
        self.calls.append(save(0))
        count = len(segments.forward)
        for action, a, b in reversal(count, self.cut.slots):
            if action == "save":
                self.calls.append(save(b))
            elif action == "restore":
                self.calls.append(restore(b))
            elif action == "run":
                for k in range(a, b):
                    start, end = segments.forward[k][0], segments.forward[k + 1][0]
                    if end > start:
                        self.calls += [self._rounds(rounds, (start, 0), start, end), *carries[0].call(end - start)]
            else:
                (start, end), (c, d) = segments.forward[a], segments.adjoint[a]
                if end > start:
                    self.calls.append(self._rounds(rounds, (start, 0), start, end))
                if c == 0:
                    self.calls += [*between, *self._in_front(1, starts)]
                self.calls.append(self._rounds(adjoint, (start, c), c, d))
                if a:
                    self.calls += carries[1].call(d - c)
        self.calls += [call for part in parts[pair.adjoint + 1 :] for call in part] + calls[begun[-1] :]

    def _in_front(self, k: int, calls: Sequence[tuple[int, list[int]]]) -> list[tuple[int, list[int]]]:
        """The calls of the starts of a loop, which write in front of its first segment."""
        loop = self.program.statements[(self.pair.forward, self.pair.adjoint)[k]]
        assert isinstance(loop, Repeat)
        starts = list(loop.starts_of(loop.loop))
        moved = []
        for (position, row), start in zip(calls, starts, strict=True):
            window = self._window_of(fixed(start.base))
            shift = self.latest[k] * window[1].step if window is not None else 0
            moved.append((position, [row[0] + shift, *row[1:]]))
        return moved

    def _window_of(self, address: int) -> tuple[int, Window] | None:
        """The window that an address is in, and the loop that it belongs to."""
        for k, windows in enumerate(self.pair.windows):
            for window in windows:
                if window.first <= address < window.end:
                    return k, window
        return None

    def _rounds(
        self, call: tuple[int, list[int]], begins: tuple[int, int], first: int, end: int
    ) -> tuple[int, list[int]]:
        """A call of a loop for some of its rounds; the windows begin at these rounds of the two loops."""
        position, row = call
        row = list(row)
        for word, kind, address, stride in self.functions[position].moves:
            if kind == "count":
                row[word] = end - first
                continue
            row[word] += stride * first
            found = self._window_of(address) if kind != "i" else None
            if found is not None:
                k, window = found
                row[word] += (self.latest[k] - begins[k]) * window.step
        return position, row


class _Carry:
    """What a loop carries from one segment to the next: its copies between windows and checkpoints.

    Attributes:
        size: how many numbers that is.
    """

    def __init__(self, module: CheckpointModule, windows: Sequence[Window], k: int) -> None:
        self.module = module
        self.windows = [window for window in windows if window.depth]
        fronts: list[int] = []
        steps: list[int] = []
        for window in self.windows:
            count = window.depth * window.step
            fronts += range(module.fronts[window], module.fronts[window] + count)
            steps += [window.step] * count
        self.size = len(fronts)
        if not self.size:
            return
        self.fronts, self.steps = (module.table(np.array(each, dtype=np.int64)) for each in (fronts, steps))
        self.position = self._function(f"carry{k}", self._carried)

    def call(self, rounds: int) -> list[tuple[int, list[int]]]:
        """The call that takes what the last rounds of a segment carry to the front of the window."""
        return [(self.position, [rounds])] if self.size else []

    def copies(self, slot: int) -> tuple[Any, Any]:
        """What makes the calls that save what is carried to a checkpoint, and restore it."""
        if not self.size:
            self.position = self._function("nothing", lambda *_: None)
            return (lambda _: (self.position, [0])), (lambda _: (self.position, [0]))
        positions = [self._function(name, copy) for name, copy in (("save", self._saved), ("restore", self._restored))]
        return tuple((lambda k, p=p: (p, [slot + k * self.size])) for p in positions)  # type: ignore[return-value]

    def _function(self, name: str, write: Any) -> int:
        """Write a function; it gets one number from the schedule."""
        function = Function(name)
        number = function.bound(0)
        if self.size:
            with function.loop(self.size) as index:
                write(function, index, number)
        self.module.functions.append(function)
        self.module._take_over(Writer(function, False, self.module.machine))
        return len(self.module.functions) - 1

    def _front(self, function: Function, index: Any) -> str:
        return loaded_index(function, function.plus(index, self.fronts))

    def _carried(self, function: Function, index: Any, rounds: str) -> None:
        to = self._front(function, index)
        step = loaded_index(function, function.plus(index, self.steps))
        number = load(function, "f", function.plus(to, function.times(step, rounds)))
        store(function, "f", Value(number), to)

    def _saved(self, function: Function, index: Any, place: str) -> None:
        number = load(function, "f", self._front(function, index))
        store(function, "f", Value(number), function.plus(index, place))

    def _restored(self, function: Function, index: Any, place: str) -> None:
        number = load(function, "f", function.plus(index, place))
        store(function, "f", Value(number), self._front(function, index))


# --- the choice -------------------------------------------------------------------------------------------------------


def choose_cut(pair: Pair, others: int, words: tuple[int, int], limit: float) -> Cut | None:
    """The cut that computes the fewest rounds in a limit of memory, or else the one that takes the least.

    None if there is only one segment.

    Args:
        pair: what is cut.
        others: how many bytes everything else takes.
        words: how many words of the schedule a call of each loop takes.
        limit: in bytes.
    """
    carried = sum(window.depth * window.step for window in pair.windows[0])
    widths = [sum(window.step for window in windows) for windows in pair.windows]
    cuts = []
    length = -(-pair.rounds[1] // _SEGMENTS)
    lengths = set()
    while length < pair.rounds[1]:
        lengths.add(length)
        length = max(length + 1, length * 5 // 4)
    for length in sorted(lengths):
        segments = Segments(pair, length)
        count = len(segments.adjoint)
        room = segments.room
        windows = sum(width * rounds for width, rounds in zip(widths, room, strict=True)) + carried
        slots = count
        while True:
            if count > 1:
                made = runs(count, slots)
                schedule = made * (words[0] + 3) + count * (sum(words) + 9)
                forward = made * length + sum(end - start for start, end in segments.forward)
                cuts.append(Cut(length, slots, forward, others + 8 * (windows + slots * carried + schedule)))
            if slots == 1:
                break
            slots = max(1, slots // 2)
    fitting = [cut for cut in cuts if cut.memory <= limit]
    if not cuts:
        return None
    return min(fitting, key=lambda cut: (cut.rounds, cut.memory)) if fitting else min(cuts, key=lambda cut: cut.memory)


def within_memory(
    programs: Iterable[ArrayProgram], machine: Machine, limit: float, *, fast: bool = False
) -> NativeCode | None:
    """The assembly of the first of some programs that works in so many bytes, or else of that which takes the least.

    Args:
        programs: array programs that compute the same.
        machine: what the code is for.
        limit: in bytes.
        fast: as for `emit_llvm`.

    Returns:
        The assembly; None if none of them has loops that can be cut into segments.
    """
    least: NativeCode | None = None
    for program in programs:
        code = emit_checkpointed(program, machine, limit, fast=fast)
        if code is not None and (least is None or code.layout.bytes < least.layout.bytes):
            least = code
        if least is not None and least.layout.bytes <= limit:
            break
    return least


def emit_checkpointed(
    program: ArrayProgram, machine: Machine, limit: float, *, fast: bool = False
) -> NativeCode | None:
    """The assembly of an array program that works in so many bytes, or in as few as can be; None if it cannot be cut.

    Args:
        program: the array program.
        machine: what the code is for.
        limit: in bytes.
        fast: as for `emit_llvm`.
    """
    pair = find_pair(program)
    if pair is None:
        return None
    plain = Module(program, machine, fast)
    code = plain.emitted()
    words = [len(plain.calls[_rounds_call(plain, k)][1]) + 2 for k in (pair.forward, pair.adjoint)]
    saved = sum(window.end - window.first for windows in pair.windows for window in windows)
    others = max(0, code.layout.bytes - 8 * saved)
    best: NativeCode | None = None
    for _ in range(_TRIALS):
        cut = choose_cut(pair, others, (words[0], words[1]), limit)
        if cut is None:
            break
        module = CheckpointModule(program, machine, fast, pair, cut)
        module.read = plain.read
        made = module.emitted()
        made = made._replace(layout=made.layout._replace(checkpoints=cut.slots))
        size = made.layout.bytes
        if best is None or size < best.layout.bytes:
            best = made
        if size <= limit or size == cut.memory:
            break
        others += size - cut.memory  # now it is known what everything else takes
    return best


def _rounds_call(module: Module, k: int) -> int:
    """The position of the call of a loop: the last of its item."""
    ends = [*module.begun[1:], len(module.calls)]
    return ends[k] - 1
