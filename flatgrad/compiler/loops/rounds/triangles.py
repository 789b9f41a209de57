"""Triangles: rounds with loops that get longer, or shorter, from round to round, as loops of loops.

A recurrence over all earlier rounds, such as the substitution in a triangular system, has rounds that grow: each has
one turn more of an inner loop than the one before. So neither statements nor distances recur. But what is between two
inner loops has always the same length, and the numbers of turns are a line in the number of the round.

They are found in the scalar program. Where equations repeat with a period, and what they read goes on as a line or a
parabola does, there is an inner loop; these loops, in the order in which they run, have a period themselves. What
follows from that for all equations is compared with what they are, for all rounds. Then each equation is a lane of a
statement: of its round, or of its turn in its round. Its operands are where the lanes of other statements are now, so
that any operand can be read: with strides, with strides that grow (`Read.bends`), or through a table.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ....runtime.primitives import TABLE
from ...program.periods import mixed, periods
from ...program.program import Program
from ..array_program import ArrayProgram
from ..extents import Ragged, Size, fixed
from ..grammar import Apply, ArrayStats, Block, Item, Loop, Node, Read, Repeat, Statement
from ..preliminary import RESULTS, TRUTHS, Constants, domain, moved_statement
from ..reroll.fuse import part_of
from ..reroll.layout import extracted
from .moving import Moving
from .rewrite import strided

#: So many rounds make a nest, with so many equations; it is found by inner loops of so many turns.
_ROUNDS, _EQUATIONS, _TURNS = 6, 128, 4
#: At most so many inner loops are in a round; more places than so many where something repeats are too many.
_LOOPS, _RUNS = 8, 200_000
#: Straight-line code of so few equations is not re-rolled. Expressions have at most so many nodes.
_FEW, _NODES = 24, 24


class Part(NamedTuple):
    """Consecutive equations of each round: `period` of them, once (`step` is None), or in turns.

    In round `i` there are `first + step * i` turns.
    """

    period: int
    first: int = 1
    step: int | None = None

    def turns(self, rounds: Any) -> Any:
        """The number of turns in a round, or in an array of rounds."""
        return self.first + (self.step or 0) * rounds


class Nest(NamedTuple):
    """So many `rounds` from equation `first` on."""

    first: int
    rounds: int
    parts: tuple[Part, ...]

    def begin(self, round_: Any) -> Any:
        """The first equation of a round."""
        length = sum(part.period * part.first for part in self.parts)
        step = sum(part.period * (part.step or 0) for part in self.parts)
        return self.first + length * round_ + step * (round_ * (round_ - 1) // 2)

    @property
    def end(self) -> int:
        """The equation behind the last round."""
        return int(self.begin(self.rounds))

    def later(self, rounds: int) -> Nest:
        """The nest without its first rounds; with more of them if the number is negative."""
        parts = tuple(part._replace(first=int(part.turns(rounds))) for part in self.parts)
        return Nest(int(self.begin(rounds)), self.rounds - rounds, parts)


class _Columns:
    """The equations of a program as arrays.

    Attributes:
        operands: per slot and equation, the variable; negative for a constant, and for none.
        symbols: per equation, what is the same for equations that do the same in the same line.
    """

    def __init__(self, program: Program) -> None:
        starts = np.array(program.starts, dtype=np.int64)
        flat, lengths = np.array(program.operands, dtype=np.int64), np.diff(starts)
        width = int(lengths.max(initial=1))
        self.flat = np.full((width, len(lengths)), -1, dtype=np.int64)
        for slot in range(width):
            there = lengths > slot
            self.flat[slot, there] = flat[starts[:-1][there] + slot]
        self.operands = np.maximum(self.flat, -1)
        self.symbols = np.array(program.opcodes, dtype=np.int64)
        for slot in range(width):
            kind = np.where(lengths <= slot, 0, np.where(self.flat[slot] < 0, 1, 2))
            self.symbols = self.symbols * 3 + kind
        sites = np.array(program.sites, dtype=np.int64)
        self.symbols = self.symbols * (len(program.locations) + 1) + sites + 1

    def runs(self) -> list[tuple[int, int, int]]:
        """Where equations repeat: from where to where, and with which period; none of them overlaps another one."""
        found: list[tuple[int, int, int]] = []
        candidates = periods(mixed(self.symbols))
        for period in sorted({1, *candidates, *(each // 2 for each in candidates if each % 2 == 0)}):
            found += self._runs(period)
            if len(found) > _RUNS:
                return []
        taken = np.zeros(len(self.symbols), dtype=bool)
        longest = []
        # Two turns in front belong to longer periods by chance.
        for first, end, period in sorted(found, key=lambda run: (run[0] - run[1] + 2 * run[2], run[2])):
            if 2 * np.count_nonzero(taken[first:end]) < end - first:
                taken[first:end] = True
                longest.append((first, end, period))
        result, behind = [], 0
        for first, end, period in sorted(longest):  # what may belong to two of them belongs to the first
            if end - max(first, behind) >= (_TURNS - 1) * period:
                result.append((max(first, behind), end, period))
                behind = end
        return result

    def _runs(self, period: int) -> Iterator[tuple[int, int, int]]:
        count = len(self.symbols) - 3 * period
        if count < 1:
            return
        symbols, operands = self.symbols, self.operands
        parts = [slice(k * period, k * period + count) for k in range(4)]
        even = np.logical_and.reduce([symbols[part] == symbols[parts[0]] for part in parts[1:]])
        for column in operands:
            a, b, c, d = (column[part] for part in parts)
            even &= (d - a) == 3 * (c - b)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], even.view(np.int8), [0]])))
        firsts, ends = edges[::2], edges[1::2]
        # Even with two turns in front, most runs are too short.
        long = ends - firsts + 2 * period >= (_TURNS - 3) * period
        if not long.any():
            return
        firsts, ends = firsts[long], ends[long]
        begins = self._begun(firsts, period)
        long = ends - begins >= (_TURNS - 3) * period
        for begin, end in zip(begins[long].tolist(), ends[long].tolist(), strict=True):
            yield begin, end + 3 * period, period

    def _begun(self, firsts: Any, period: int) -> Any:
        """Where turns begin: the first ones may read something else instead of what a turn before has computed."""
        count = int(firsts[-1])
        parts = [slice(k * period, k * period + count) for k in range(4)]
        goes_on = self.symbols[parts[0]] == self.symbols[parts[1]]
        for column in self.operands:
            a, b, c, d = (column[part] for part in parts)
            goes_on &= (d - a == 3 * (c - b)) | (c - b == period)
        stops = np.concatenate([[-1], np.flatnonzero(~goes_on)])
        last = stops[np.searchsorted(stops, firsts) - 1]  # the last one in front of each
        return np.maximum(last + 1, firsts - 2 * period)


def find_nests(program: Program) -> list[Nest]:
    """Where a program has rounds with loops whose numbers of turns are lines in the number of the round.

    Example:
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.program.program import Group
        >>> f = ProgramBuilder("f", [Group("x", 30, False)])
        >>> h = 0
        >>> for i in range(30):
        ...     h = f.emit("sin", h)
        ...     for j in range(i):
        ...         h = f.emit("mul", h, j)
        >>> nest, = find_nests(f.finish([h], [Group("h", 1, True)]))
        >>> nest.rounds, nest.parts
        (29, (Part(period=1, first=1, step=None), Part(period=1, first=1, step=1)))
    """
    columns = _Columns(program)
    runs = columns.runs()
    firsts, ends, kinds = (np.array(column, dtype=np.int64) for column in zip(*runs, strict=True)) if runs else [()] * 3
    stretches = {count: _Stretches(firsts, ends, kinds, count) for count in range(1, _LOOPS + 1)}
    nests: list[Nest] = []
    position, low = 0, 0
    while position < len(runs):
        best: tuple[int, int, int] | None = None  # runs, the first one, and how many are in a round
        for count in range(1, _LOOPS + 1):
            length = stretches[count].length(position)
            if length >= _ROUNDS * count and (best is None or length > best[0]):
                best = length, position, count
        nest = None if best is None else _nest(columns, firsts, ends, kinds, *best, low)
        if nest is None:
            position += 1
            continue
        nests.append(nest)
        low = nest.end
        position = int(np.searchsorted(firsts, low))
    return nests


class _Stretches:
    """Which runs, one after the other, are in rounds of so many runs each."""

    def __init__(self, firsts: Any, ends: Any, kinds: Any, count: int) -> None:
        self.runs, self.count = len(firsts), count
        if self.runs < _ROUNDS * count:
            return
        lengths, gaps = ends - firsts, np.append(0, firsts[1:] - ends[:-1])
        a, b, c = (slice(k * count, self.runs - (2 - k) * count) for k in range(3))
        self._begins = (kinds[a] == kinds[b]) & (kinds[b] == kinds[c]) & (gaps[b] == gaps[c])
        self._begins &= (lengths[c] - lengths[b] == lengths[b] - lengths[a]) & (
            (lengths[b] - lengths[a]) % kinds[a] == 0
        )
        goes_on = self._begins & (gaps[a] == gaps[b])  # what is in front of the first run does not matter
        self._stops = np.append(np.flatnonzero(~goes_on), len(goes_on))

    def length(self, position: int) -> int:
        """How many runs, from this one on, are in rounds."""
        if self.runs - position < _ROUNDS * self.count:
            return 0
        if not self._begins[position]:
            return 2 * self.count
        return 2 * self.count + int(self._stops[np.searchsorted(self._stops, position + 1)]) - position


def _nest(
    columns: _Columns, firsts: Any, ends: Any, kinds: Any, length: int, position: int, count: int, low: int
) -> Nest | None:
    """The nest of some runs, with rounds in front and behind that have few turns."""
    parts: list[Part] = []
    behind = int(ends[position + count - 1])  # of what is in parts already; at first, of the round before
    for k in range(count):
        here, then = position + k, position + count + k
        period = int(kinds[here])
        before = int(firsts[then] - behind) if k == 0 else int(firsts[here] - behind)
        turns = int(ends[here] - firsts[here]) // period
        if k == 0:
            last = position + count - 1
            before += int(ends[last] - firsts[last]) % int(kinds[last])
        if before:
            parts.append(Part(before))
        parts.append(Part(period, turns, int(ends[then] - firsts[then] - ends[here] + firsts[here]) // period))
        behind = int(firsts[here]) + turns * period
    if not any(part.step for part in parts):
        return None
    first = int(firsts[position]) - (parts[0].period if parts[0].step is None else 0)
    # Where nothing is between the loops, it is not clear where a round begins.
    shifts = parts[0].period if len(parts) == 1 else 1
    nests = [_held(columns.symbols, Nest(first - shift, 0, tuple(parts)), low) for shift in range(shifts)]
    nest = max(nests, key=lambda nest: nest.rounds)
    return nest if nest.rounds >= _ROUNDS and nest.end - nest.first >= _EQUATIONS else None


def _held(symbols: Any, nest: Nest, low: int) -> Nest:
    """The nest with all rounds that consist of its parts as the second one does, none of which begins before `low`."""
    parts = nest.parts
    bodies, at = [], int(nest.begin(1))
    if at < low:
        return nest
    for part in parts:
        bodies.append(symbols[at : at + part.period])
        at += part.period * part.turns(1)

    def holds(round_: int) -> bool:
        """Whether a round consists of the parts."""
        counts = [int(part.turns(round_)) for part in parts]
        begin, end = int(nest.begin(round_)), int(nest.begin(round_ + 1))
        if min(counts) < 1 or begin < low or end > len(symbols):
            return False
        expected = [np.tile(body, turns) for body, turns in zip(bodies, counts, strict=True)]
        return bool((symbols[begin:end] == np.concatenate(expected)).all())

    earliest, latest = 1, 1
    while holds(earliest - 1):
        earliest -= 1
    while holds(latest):
        latest += 1
    return nest._replace(rounds=latest).later(earliest)


# --- the program ------------------------------------------------------------------------------------------------------


def with_triangles(program: Program, rolled: Callable[[Program], ArrayProgram]) -> ArrayProgram | None:
    """The array program of a scalar program that has such nests; None if it has none.

    Args:
        program: a scalar program.
        rolled: makes the array programs of what is around the nests.
    """
    nests = find_nests(program)
    return _Triangles(program, rolled).program(nests) if nests else None


class _Triangles:
    """Writes an array program with nests.

    Attributes:
        final: per variable of the program, its address.
        last, uses: per variable, the last equation that reads it, and how many operands that are.
    """

    def __init__(self, program: Program, rolled: Callable[[Program], ArrayProgram]) -> None:
        self.scalar, self.rolled, self.columns = program, rolled, _Columns(program)
        self.constants = Constants(program.inputs)
        count = program.inputs + len(program)
        self.final = np.full(count, -1, dtype=np.int64)
        self.final[: program.inputs] = np.arange(program.inputs)
        self.next = RESULTS
        self.statements: list[Item] = []
        self.names: set[str] = set()
        operands = self.columns.flat
        self.last, self.uses = np.full(count, -1, dtype=np.int64), np.zeros(count, dtype=np.int64)
        for column in operands:
            read = np.flatnonzero(column >= 0)
            np.maximum.at(self.last, column[read], read)
            self.uses += np.bincount(column[read], minlength=count)
        outputs = np.array([output for output in program.outputs if output >= 0], dtype=np.int64)
        self.last[outputs] = len(program)
        np.add.at(self.uses, outputs, 2)

    def program(self, nests: Sequence[Nest]) -> ArrayProgram:
        position = 0
        for nest in nests:
            self._piece(position, nest.first)
            self.statements.append(_NestWriter(self, nest).repeat())
            position = nest.end
        program = self.scalar
        self._piece(position, len(program))
        outputs = [
            self.final[output] if output >= 0 else self.constants.lay(np.array(program.constants[~output]))[0]
            for output in program.outputs
        ]
        moved = self.constants.moved
        statements = [moved_statement(statement, moved) for statement in self.statements]
        alone = sum(len(s.program) for s in statements if isinstance(s, Block))
        stats = ArrayStats(len(program), len(statements), len(statements), 0, alone, 1.0, 0, 0.0)
        return ArrayProgram(
            program.name, program.input_names, program.input_groups, self.constants.numbers, self.constants.truths,
            statements, moved(np.array(outputs, dtype=np.int64)), program.output_groups, stats,
        )  # fmt: skip

    def take(self, lanes: int) -> int:
        """Addresses of so many results."""
        self.next += lanes
        return self.next - lanes

    def named(self, name: str) -> str:
        """A name that no other statement has."""
        names = itertools.chain([name], (f"{name}_{k}" for k in itertools.count(2)))
        found = next(each for each in names if each not in self.names)
        self.names.add(found)
        return found

    def _piece(self, first: int, end: int) -> None:
        """Equations between two nests: their array program becomes a part of this one."""
        program, inputs = self.scalar, self.scalar.inputs
        results = first + np.flatnonzero(self.last[inputs + first : inputs + end] >= end)
        if not len(results):
            return
        operands = self.columns.flat[:, first:end]
        reads = np.unique(operands[(operands >= 0) & (operands < inputs + first)])
        part = extracted(program, range(first, end), reads.tolist(), results.tolist())
        if end - first <= _FEW:
            base = self.take(len(results))
            self.statements.append(Block(part, self.final[reads], base))
            self.final[inputs + results] = base + np.arange(len(results))
            return
        piece = _Piece(self, self.rolled(part), self.final[reads], part_of(program, first))
        self.statements += piece.statements
        self.final[inputs + results] = piece.outputs


class _Piece(Moving):
    """An array program as a part of another one."""

    def __init__(self, owner: _Triangles, program: ArrayProgram, reads: Any, part: str) -> None:
        super().__init__(program)
        constants = self.constants = owner.constants
        numbers = program.inputs + np.arange(len(program.constants))
        self._settle(np.arange(program.inputs), reads)
        self._settle(numbers, numbers - program.inputs + constants.inputs + len(constants.numbers))
        truths = np.arange(program.first_truth, program.first_result)
        self._settle(truths, truths - program.first_truth + TRUTHS + len(constants.truths))
        constants.numbers += program.constants
        constants.truths += program.truths
        items = program.statements
        whole = [s for item in items for s in (item.members() if isinstance(item, Repeat) else [item])]
        names = {s.name for s in whole if isinstance(s, Statement)}
        renamed = {name: owner.named(name) for name in sorted(names)}
        shift = owner.take(program.size - program.first_result) - program.first_result
        results = np.arange(program.first_result, program.size)
        self._settle(results, results + shift)

        def labelled(statement: Statement) -> Statement:
            return replace(statement, name=renamed[statement.name], part=part)

        self.statements: list[Item] = []
        for item in map(self._moved_item, items):
            if isinstance(item, Repeat):
                starts = tuple(tuple(map(labelled, group)) for group in item.starts)
                item = replace(item, statements=tuple(map(labelled, item.statements)), starts=starts)
            self.statements.append(labelled(item) if isinstance(item, Statement) else item)
        self.outputs = self.final[program.outputs]


class _Lanes:
    """One equation of a round or of a turn, for all of them.

    Attributes:
        part, position: the part that it is in, and where in its period.
        shape: the number of rounds; and of turns, if it is in a loop.
        index: per lane of a rectangle that has room for all turns, round and turn; 0 for a turn that is missing.
        present: whether a turn is there.
        units: per lane, its equation.
        starts: per number of turns, or of rounds, before the first one, what stands there: per round, variables.
        earlier: of the round before the first one, variables by their distance to the first lane, which is negative.
        bodies: what its operands are: the lanes that become part of it, or None.
        base: the address of the first lane.
    """

    def __init__(self, nest: Nest, part: int, position: int) -> None:
        self.part, self.position, own = part, position, nest.parts[part]
        rounds = np.arange(nest.rounds)
        begin = nest.begin(rounds) + sum(p.period * p.turns(rounds) for p in nest.parts[:part]) + position
        self.in_loop, self.step = own.step is not None, own.step or 0
        self.shape: tuple[Size, ...] = (nest.rounds,)
        self.counts = own.turns(rounds)
        self.round = rounds
        self.turn, self.present = np.zeros_like(rounds), np.ones(nest.rounds, dtype=bool)
        if self.in_loop:
            turns = Ragged.over(nest.rounds, self.step, own.first, 0) if self.step else own.first
            self.shape = nest.rounds, turns
            self.round, self.turn = np.indices((nest.rounds, int(turns)))
            self.present = self.turn < self.counts[:, None]
            self.turn = np.where(self.present, self.turn, 0)
            begin = begin[:, None] + own.period * self.turn
        self.units = begin
        self.starts: dict[int, Any] = {}
        self.earlier: dict[int, int] = {}
        self.bodies: list[_Lanes | None] = []
        self.base = 0
        self.within = False

    @property
    def depth(self) -> int:
        """How many starts stand in front of each row."""
        return max(self.starts, default=0)

    @property
    def before(self) -> int:
        """How many addresses stand in front of the first lane."""
        return max(self.depth, -min(self.earlier, default=0))

    def places(self, rounds: Any, turns: Any) -> Any:
        """Where the lane of a round and a turn is, as an address."""
        if not self.in_loop:
            return self.base + rounds
        row = self.depth + int(self.counts[0])
        return self.base + row * rounds + self.step * (rounds * (rounds - 1) // 2) + turns

    @property
    def lanes(self) -> int:
        """The number of addresses: of lanes and starts."""
        return int(self.counts.sum()) + self.depth * (len(self.counts) - 1 if self.in_loop else 0) + self.before


class _NestWriter:
    """Writes a nest as a repeat."""

    def __init__(self, owner: _Triangles, nest: Nest) -> None:
        self.owner, self.nest, self.program = owner, nest, owner.scalar
        self.lanes = [
            _Lanes(nest, part, position)
            for part, each in enumerate(nest.parts) for position in range(each.period)
        ]  # fmt: skip
        length = nest.end - nest.first
        self.writer, self.round, self.turn = (np.full(length, -1, dtype=np.int64) for _ in range(3))
        for k, lanes in enumerate(self.lanes):
            units = lanes.units[lanes.present] - nest.first
            self.writer[units], self.round[units] = k, lanes.round[lanes.present]
            self.turn[units] = lanes.turn[lanes.present]
        self.inputs = self.program.inputs
        for lanes in self.lanes:
            columns = self._operands(lanes)
            lanes.bodies = [None] * len(columns)
            for slot, column in enumerate(columns):
                lanes.bodies[slot] = self._inside(lanes, column)
        self.depths = {
            (k, slot): self._carried(lanes, column)
            for k, lanes in enumerate(self.lanes)
            for slot, column in enumerate(self._operands(lanes))
        }
        self.reaching: dict[tuple[int, ...], tuple[_Lanes, Any]] = {}
        for k, lanes in enumerate(self.lanes):
            for slot, column in enumerate(self._operands(lanes)):
                if lanes.bodies[slot] is None and self.depths[k, slot] is None:
                    self._reach((k, slot), column, lanes.present)
            for distance, column in lanes.starts.items() if lanes.in_loop else ():
                self._reach((k, -1, distance), column, column >= 0)

    def _operands(self, lanes: _Lanes) -> list[Any]:
        """What equations read, operand by operand."""
        first = int(lanes.units.flat[0])
        count = self.program.starts[first + 1] - self.program.starts[first]
        return [self.owner.columns.flat[slot][lanes.units] for slot in range(count)]

    def _writers(self, variables: Any) -> tuple[Any, Any, Any]:
        """Whose results variables are, in which round and turn; -1 for what is no result of the nest."""
        units = variables - self.inputs - self.nest.first
        inside = (units >= 0) & (units < len(self.writer))
        units = np.where(inside, units, 0)
        return tuple(np.where(inside, column[units], -1) for column in (self.writer, self.round, self.turn))  # type: ignore[return-value]

    def _inside(self, lanes: _Lanes, variables: Any) -> _Lanes | None:
        """The lanes whose results nothing else reads but these, in the same turn: they become part of them."""
        if variables.flat[0] < 0:
            return None
        writers, rounds, turns = self._writers(variables)
        writer = int(writers.flat[0])
        if writer < 0 or (writers != writer).any() or (rounds != lanes.round).any() or (turns != lanes.turn).any():
            return None
        other = self.lanes[writer]
        once = (self.owner.uses[self.inputs + other.units[other.present]] == 1).all()
        if other.part != lanes.part or not once or len(self._nodes(other)) + len(self._nodes(lanes)) > _NODES:
            return None
        other.within = True
        return other

    def _nodes(self, lanes: _Lanes) -> list[Any]:
        """The nodes of a body, with pairs of lanes and slots for accesses."""
        nodes: list[Any] = []
        operands = []
        for slot, inner in enumerate(lanes.bodies):
            if inner is None:
                nodes.append((lanes, slot))
            else:
                shift = len(nodes)
                nodes += [
                    Apply(node.primitive, tuple(o + shift for o in node.operands)) if isinstance(node, Apply) else node
                    for node in self._nodes(inner)
                ]
            operands.append(len(nodes) - 1)
        return [*nodes, Apply(TABLE[self.program.opcodes[int(lanes.units.flat[0])]], tuple(operands))]

    # --- what turns and rounds read of those before ---------------------------------------------------------------

    def _carried(self, lanes: _Lanes, variables: Any) -> tuple[_Lanes, int] | None:
        """Whose results of so many turns before, or of so many rounds before, an operand is; None if it is no such.

        What the first turns or rounds read instead stands in front of the results, if all that read it there agree.
        """
        if variables.flat[0] < 0:
            return None
        writers, rounds, turns = self._writers(variables)
        last = np.unravel_index(int(np.argmax(np.where(lanes.present, lanes.turn, -1))), lanes.turn.shape)
        for index in (last, tuple(n - 1 for n in lanes.turn.shape[:1]) + (0,) * (lanes.turn.ndim - 1)):
            writer = int(writers[index])
            if writer < 0:
                continue
            other = self.lanes[writer]
            if other.in_loop:
                if other.part != lanes.part or rounds[index] != lanes.round[index]:
                    continue
                depth = int(lanes.turn[index] - turns[index])
                first = lanes.turn < depth
                fits = (rounds == lanes.round) & (turns == lanes.turn - depth)
            else:
                depth = int(lanes.round[index] - rounds[index])
                first = lanes.round < depth
                fits = rounds == lanes.round - depth
            fits &= writers == writer
            if depth < 1 or not (fits | first)[lanes.present].all() or (fits & first)[lanes.present].any():
                continue
            if self._started(other, lanes, variables, first & lanes.present, depth):
                return other, depth
        return None

    def _started(self, other: _Lanes, lanes: _Lanes, variables: Any, first: Any, depth: int) -> bool:
        """Take note of what stands before the first turns or rounds; False if something else does already."""
        starts = {distance: column.copy() for distance, column in other.starts.items()}
        column, rounds = variables[first], lanes.round[first]
        here = lanes.turn[first] if other.in_loop else rounds
        if (column < 0).any():
            return False
        begin = other.units[:, 0] - other.position if other.in_loop else np.full_like(other.units, self.nest.first)
        if (column >= self.inputs + begin[rounds]).any():
            return False  # it is not there before the first of them
        for distance in range(1, depth + 1):
            at = depth - here == distance
            into = starts.setdefault(distance, np.full(len(other.counts) if other.in_loop else 1, -1))
            which = rounds[at] if other.in_loop else np.zeros(int(at.sum()), dtype=np.int64)
            order = np.unique(which, return_index=True)[1]
            before = into[which]
            into[which[order]] = column[at][order]
            if (into[which] != column[at]).any() or ((before >= 0) & (before != into[which])).any():
                return False
        kind = self._kind(other)
        if any(self._kind_of(variable) != kind for column in starts.values() for variable in column[column >= 0]):
            return False
        other.starts = starts
        return True

    def _reach(self, key: tuple[int, ...], variables: Any, present: Any) -> None:
        """Take note of what is read in the first round, where later ones read inner loops of the rounds before.

        It stands where the inner loop of one more round in front would have its results, if that is clear.
        """
        writers, rounds, turns = self._writers(variables)
        writer, there = int(writers[(1,) + (0,) * (writers.ndim - 1)]), present[1:]
        if writer < 0 or (writers[1:] != writer)[there].any() or (writers[0] >= 0)[present[0]].any():
            return
        other = self.lanes[writer]
        first = variables[0][present[0]].tolist()
        if not other.in_loop or min(first, default=-1) < 0 or not there[0].any():
            return
        places = other.places(rounds, turns) - other.base
        even = self._even(places[1:], there)
        if even is None:
            return
        (step, *along), (bend, *bends) = even.strides, even.bends or (0,) * places.ndim
        places[0] = fixed(even.base) - fixed(step) + bend
        if along:
            turn = np.arange(places.shape[1])
            places[0] += along[0] * turn + bends[0] * (turn * (turn - 1) // 2)
        distances = places[0][present[0]].tolist()
        limit = other.depth + int(other.counts.max()) + 1
        new = dict(zip(distances, first, strict=True))
        agree = all(other.earlier.get(distance, variable) == variable for distance, variable in new.items())
        clear = len(new) == len(set(zip(distances, first, strict=True)))
        kind = self._kind(other)
        inside = -limit - other.depth <= min(distances) and max(distances) < -other.depth
        if agree and clear and inside and all(self._kind_of(variable) == kind for variable in first):
            other.earlier.update(new)
            self.reaching[key] = other, places

    def _kind(self, lanes: _Lanes) -> str:
        return TABLE[self.program.opcodes[int(lanes.units.flat[0])]].result

    def _kind_of(self, variable: int) -> str:
        return self.program.kind_of(int(variable))

    # --- the repeat -----------------------------------------------------------------------------------------------

    def repeat(self) -> Repeat:
        kept = [lanes for lanes in self.lanes if not lanes.within]
        self.begin = self.owner.next
        for lanes in kept:
            lanes.base = self.owner.take(lanes.lanes) + lanes.before
            units = lanes.units[lanes.present]
            places = lanes.places(lanes.round[lanes.present], lanes.turn[lanes.present])
            self.owner.final[self.inputs + units] = places
        self.bases = np.array([lanes.base - lanes.before for lanes in kept])
        names = {id(lanes): self._named() for lanes in kept}
        statements = [self._statement(lanes, names[id(lanes)]) for lanes in kept]
        starts = [self._starts(lanes, statement) for lanes, statement in zip(kept, statements, strict=True)]
        inner, position = [], 0
        for part, group in itertools.groupby(kept, lambda lanes: lanes.part):
            end = position + len(list(group))
            if self.nest.parts[part].step is not None:
                inner.append(Loop(position, end, 1))
            position = end
        return Repeat(tuple(statements), tuple(starts), tuple(inner))

    def _named(self) -> str:
        return self.owner.named(next(n for k in itertools.count(1) if (n := f"v{k}") not in self.owner.names))

    def _statement(self, lanes: _Lanes, name: str) -> Statement:
        program, first = self.program, int(lanes.units.flat[0])
        body: list[Node] = [
            node if isinstance(node, Apply) else self._read(*node) for node in self._nodes(lanes)
        ]  # fmt: skip
        site = program.sites[first]
        location = program.locations[site] if site >= 0 else None
        steps = (lanes.depth + int(lanes.counts[0]),) if lanes.in_loop else ()
        kind, part = self._kind(lanes), part_of(program, first)
        return Statement(name, lanes.shape, tuple(body), lanes.base, kind, location, part, steps)

    def _starts(self, lanes: _Lanes, statement: Statement) -> tuple[Statement, ...]:
        """What stands in front of the first turns of each round, or of the first round."""
        result = []
        if lanes.before > lanes.depth:
            everywhere = next(iter(lanes.earlier.values()))
            variables = [lanes.earlier.get(k, everywhere) for k in range(-lanes.before, -lanes.depth)]
            places = self.owner.final[np.array(variables)]
            read = self._access(places, np.ones(places.shape, dtype=bool))
            base = lanes.base - lanes.before
            result.append(replace(statement, shape=(len(variables),), body=(read,), base=base, steps=()))
        for distance in range(lanes.depth, 0, -1):
            known = [lanes.starts[d] for d in sorted(lanes.starts, key=lambda d: abs(d - distance))]
            variables = known[0]
            for other in known[1:]:
                variables = np.where(variables < 0, other, variables)
            variables = np.where(variables < 0, variables.max(), variables)
            places = self.owner.final[variables]
            known_places = self.reaching.get((self.lanes.index(lanes), -1, distance))
            if known_places is not None:
                places = known_places[0].base + np.where(known[0] < 0, known_places[1].max(), known_places[1])
            shape = lanes.shape[:1] if lanes.in_loop else ()
            read = self._access(places if lanes.in_loop else places[0], np.ones(places.shape, dtype=bool))
            bends = (lanes.step,) if lanes.in_loop and lanes.step else ()
            result.append(replace(
                statement, shape=shape, body=(read,), base=lanes.base - distance, bends=bends,
            ))  # fmt: skip
        return tuple(result)

    def _read(self, lanes: _Lanes, slot: int) -> Read:
        """The access of an operand."""
        variables = self._operands(lanes)[slot]
        if variables.flat[0] < 0:
            return self._numbers(lanes, variables)
        key = self.lanes.index(lanes), slot
        carried = self.depths[key]
        places = self.owner.final[variables]
        if key in self.reaching:
            other, places = self.reaching[key]
            places = places + other.base
        if carried is not None:
            other, depth = carried
            turns = lanes.turn - depth if other.in_loop else 0
            places = other.places(lanes.round - (0 if other.in_loop else depth), turns)
        return self._access(places, lanes.present)

    def _numbers(self, lanes: _Lanes, variables: Any) -> Read:
        """The access of constants; for turns that are missing, those of the longest round stand there."""
        numbers = np.array([self.program.constants[~k] for k in variables.ravel().tolist()]).reshape(variables.shape)
        if lanes.in_loop:
            longest = np.broadcast_to(numbers[int(np.argmax(lanes.counts))], numbers.shape)
            bits = f"V{numbers.itemsize}"
            if (numbers.view(bits) == np.ascontiguousarray(longest).view(bits))[lanes.present].all():
                numbers = longest
        return Read(*self.owner.constants.lay(np.ascontiguousarray(numbers)))

    def _access(self, places: Any, present: Any) -> Read:
        """The access of an array of addresses."""
        places = np.asarray(places)
        read = self._even(places, present)
        if read is not None and places.max() >= self.begin:
            # All that one access ranges over is of one statement, as lists grow round by round.
            owner = np.searchsorted(self.bases, places, side="right")
            read = read if places.min() >= self.begin and (owner == owner.flat[0]).all() else None
        return read or Read(0, (), places.ravel())

    @staticmethod
    def _even(places: Any, present: Any) -> Read | None:
        """The access if it has strides, which may grow; else None."""
        if places.ndim < 1:
            return strided(places)
        if domain(places.min()) != domain(places.max()):
            return None
        lines = [(places.reshape(len(places), -1)[:, 0], len(places))]
        if places.ndim > 1:
            lines.append((places[int(np.argmax(present.sum(axis=1)))], int(present.sum(axis=1).max())))
        first, strides, bends = int(places.flat[0]), [], []
        expected = np.full(places.shape, first)
        for (line, count), steps in zip(lines, np.indices(places.shape), strict=True):
            strides.append(int(line[1] - line[0]) if count > 1 else 0)
            bends.append(int(line[2] - 2 * line[1] + line[0]) if count > 2 else 0)
            expected += strides[-1] * steps + bends[-1] * (steps * (steps - 1) // 2)
        if (places != expected)[present].any():
            return None
        return Read(first, tuple(strides), None, tuple(bends) if any(bends) else ())
