"""Rounds: what an array program does again and again becomes a loop over rounds, `Repeat`.

`reroll` makes loops of what is independent. A recurrence is not: each round needs the one before. Its rounds stand one
after the other, as straight-line code or as small statements, and differ only in what they read and write: from round
to round every address moves by the same distance. Columns of addresses show that for all rounds (`_Units`), so it is
proved before it is used. The method is linear in the size of the program: the distances at which windows of operations
recur are the candidates for the length of a round; of each candidate, differences of columns say where it holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ...runtime.primitives import TABLE
from .array_program import ArrayProgram
from .extents import Ragged, Size, fixed
from .grammar import Addresses, Apply, Block, Fold, Item, Node, Read, Repeat, Segment, Statement, addresses, members
from .preliminary import RESULTS, TRUTHS, Constants, domain, moved_statement
from .reroll.layout import extracted

#: At least so many rounds make a loop, with at least so many reads in all of them; less is as good one after the other.
#: A read of an array statement counts as several.
_ROUNDS, _READS, _ARRAY = 6, 256, 16
#: So many lengths of a round are tried per window of operations.
_CANDIDATES = 4
_WINDOWS = (4, 32, 512)
#: Folds of more segments become folds of as few as possible, which gather their terms.
_SEGMENTS = 12
#: Expressions of a round have at most so many nodes.
_NODES = 24
_MIX = np.uint64(0x9E3779B97F4A7C15)


def find_rounds(program: ArrayProgram) -> ArrayProgram:
    """The same program, with loops over its rounds; the program itself where there are none.

    Example:
        >>> from flatgrad.compiler.loops.reroll import reroll
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.program.program import Group
        >>> f = ProgramBuilder("f", [Group("a", 1, True), Group("x", 300, False)])
        >>> h = 1
        >>> for k in range(2, 301):
        ...     h = f.emit("mul", f.emit("add", h, k), 0)
        >>> print(find_rounds(reroll(f.finish([h], [Group("h", 1, True)]))))
        array program f(a, x[300]):
            repeat i:299, with v1[0] = x[0]:
                v1[i + 1] = (v1[i] + x[i + 1]) * a
            return v1[299]
    """
    count = sum(len(s.program) if isinstance(s, Block) else 1 for s in program.statements if not isinstance(s, Repeat))
    if count < _ROUNDS:
        return program
    units = _Units(program)
    spans = units.rounds()
    return _Rewriter(program, units, spans).run() if spans else program


class _Span(NamedTuple):
    """So many `rounds`: units from `first` on, `period` of them per round; the same in tokens."""

    first: int
    period: int
    rounds: int
    token: int
    tokens: int


class _Token(NamedTuple):
    """What one access of a statement reads: fresh addresses, or constants; `places` count from `address`."""

    places: Addresses
    constant: bool


class _Units:
    """Statements, and equations of blocks, one after the other, with what they read.

    Results get fresh addresses, unit after unit, so that the addresses of equal rounds advance by the same distance.

    Attributes:
        items: the statements and blocks.
        item, equation: per unit, its statement or block, and its equation there (-1 for a statement).
        base, lanes: per unit, its first fresh address and how many it has.
        fresh: the fresh address of each address of the program.
        tokens: per unit, the first of its tokens; one more for the end. A token is one access.
        form, address, constant: per token, what the unit does with it, the (first) fresh address that it reads, and
            whether it reads constants, which can be different in each round.
        statement_tokens: of the tokens of statements, all that they read.
        values: constants of blocks, by token.
        places: per block, the fresh addresses of its variables.
        outside: constants that are outputs of blocks; their fresh addresses stand behind all others.
    """

    def __init__(self, program: ArrayProgram) -> None:
        self.program = program
        self.items = list(members(program.statements))
        counts = [len(s.program) if isinstance(s, Block) else 1 for s in self.items]
        self.item = np.repeat(np.arange(len(counts)), counts)
        firsts = np.cumsum([0, *counts])
        self.first_unit = firsts
        self.equation = np.arange(len(self.item)) - firsts[self.item]
        self.lanes = np.ones(len(self.item), dtype=np.int64)
        for k, statement in enumerate(self.items):
            if isinstance(statement, Statement):
                self.equation[firsts[k]] = -1
                self.lanes[firsts[k]] = statement.lanes
        ends = program.first_result + np.cumsum(self.lanes)
        self.base = ends - self.lanes
        self.size = int(ends[-1]) if len(ends) else program.first_result
        self.values: dict[int, float | bool] = {}
        self.statement_tokens: dict[int, _Token] = {}
        self.places: dict[int, Addresses] = {}
        self.outside: list[float | bool] = []
        self.fresh = np.arange(program.size, dtype=np.int64)
        self._forms: dict[Any, int] = {}
        tokens = [np.zeros(1, dtype=np.int64)]
        forms, places, constants = [], [], []
        total = 0
        for k, statement in enumerate(self.items):
            parts = (
                self._block(k, statement, total)
                if isinstance(statement, Block)
                else self._statement(k, statement, total)
            )
            lengths, form, address, constant = parts
            tokens.append(total + np.cumsum(lengths))
            total += int(lengths.sum())
            forms.append(form)
            places.append(address)
            constants.append(constant)
        self.tokens = np.concatenate(tokens)
        self.form, self.address, self.constant = map(np.concatenate, (forms, places, constants))
        self.outputs = self.fresh[program.outputs]

    def _block(self, k: int, block: Block, token: int) -> tuple[Any, Any, Any, Any]:
        part, base = block.program, int(self.base[self.first_unit[k]]) if len(block.program) else 0
        starts = np.array(part.starts, dtype=np.int64)
        operands = np.array(part.operands, dtype=np.int64)
        opcodes = np.array(part.opcodes, dtype=np.int64)
        lengths = np.diff(starts)
        place_of = np.concatenate([self.fresh[block.reads], base + np.arange(len(part))])
        constant = operands < 0
        address = np.where(constant, 0, place_of[np.maximum(operands, 0)])
        for position in np.flatnonzero(constant).tolist():
            self.values[token + position] = part.constants[~int(operands[position])]
        slot = np.arange(len(operands)) - np.repeat(starts[:-1], lengths)
        form = -1 - (np.repeat(opcodes, lengths) * 8 + slot)
        outputs = np.array(part.outputs, dtype=np.int64)
        alone = [part.constants[~operand] for operand in outputs[outputs < 0].tolist()]
        at = place_of[np.maximum(outputs, 0)]
        at[outputs < 0] = self.size + len(self.outside) + np.arange(len(alone))
        self.outside += alone
        self.fresh[block.base : block.base + len(outputs)] = at
        self.places[k] = place_of
        in_constants = (address >= self.program.inputs) & (address < self.program.first_result)
        for position in np.flatnonzero(in_constants & ~constant).tolist():
            self.values[token + position] = self.number(int(address[position]))
        constant |= in_constants
        return lengths, form, np.where(constant, 0, address), constant

    def number(self, address: int) -> float | bool:
        program = self.program
        if address < program.first_truth:
            return program.constants[address - program.inputs]
        return program.truths[address - program.first_truth]

    def _statement(self, k: int, statement: Statement, token: int) -> tuple[Any, Any, Any, Any]:
        program, unit = self.program, self.first_unit[k]
        base = fixed(statement.base)
        self.fresh[base : base + statement.lanes] = self.base[unit] + np.arange(statement.lanes)
        keys: list[Any] = []
        places: list[int] = []
        constants: list[bool] = []
        for read, extents in statement.reads():
            address = self.fresh[addresses(read, extents)]
            constant = bool(program.inputs <= address.min() and address.max() < program.first_result)
            first = 0 if constant else int(address[0])
            self.statement_tokens[token + len(keys)] = _Token(address - first, constant)
            keys.append("constant" if constant else (address - first).tobytes())
            places.append(first)
            constants.append(constant)
        alike = k if _is_uneven(statement) else -1  # those stay alone
        key = alike, statement.kind, statement.shape, _shape_of(statement.body), *keys
        numbers = (self._forms.setdefault(key, len(self._forms)) << 24) + np.arange(len(keys))
        return np.array([len(keys)]), numbers, np.array(places, dtype=np.int64), np.array(constants, dtype=bool)

    def token(self, token: int) -> _Token:
        """What a token reads."""
        if token in self.statement_tokens:
            return self.statement_tokens[token]
        return _Token(np.zeros(1, dtype=np.int64), bool(self.constant[token]))

    # --- recognition ----------------------------------------------------------------------------------------------

    def rounds(self) -> list[_Span]:
        """Where there are rounds."""
        kinds = self.form * 2 + self.constant
        begins = np.zeros(len(kinds) + 1, dtype=bool)
        begins[self.tokens] = True
        weights = np.ones(len(kinds), dtype=np.int64)
        weights[list(self.statement_tokens)] = _ARRAY
        self.weight = np.concatenate([[0], np.cumsum(weights)])  # of all tokens before each
        result, todo = [], [(0, len(kinds))]
        while todo:
            low, high = todo.pop()
            if self.weight[high] - self.weight[low] < _READS:
                continue
            best: _Span | None = None
            for period in _periods(kinds[low:high]):
                if _ROUNDS * period <= high - low:
                    span = self._longest(kinds, begins, low, high, period)
                    if span is not None and (best is None or _gain(span) > _gain(best)):
                        best = span
            if best is not None:
                result.append(best)
                todo += [(low, best.token), (best.token + best.rounds * best.tokens, high)]
        return sorted(result)

    def _longest(self, kinds: Any, begins: Any, low: int, high: int, period: int) -> _Span | None:
        """The longest sequence of rounds of so many tokens."""
        kind, place = kinds[low:high], self.address[low:high]
        same = (kind[2 * period :] == kind[period:-period]) & (kind[period:-period] == kind[: -2 * period])
        steps = place[period:] - place[:-period]
        same &= steps[period:] == steps[:-period]
        if not same.any():
            return None
        edges = np.flatnonzero(np.diff(np.concatenate([[0], same.view(np.int8), [0]])))
        longest = int(np.argmax(edges[1::2] - edges[::2]))
        start, end = low + int(edges[::2][longest]), low + int(edges[1::2][longest]) + 2 * period
        start += int(np.argmax(begins[start:end]))
        count = (end - start) // period
        if count < _ROUNDS or self.weight[start + count * period] - self.weight[start] < _READS:
            return None
        return self._aligned(start, period, count, low)

    def _aligned(self, start: int, period: int, count: int, low: int) -> _Span | None:
        """The rounds as units; the round before, too, if it differs only in where carried values come from."""
        unit = int(np.searchsorted(self.tokens, start))
        length = int(np.searchsorted(self.tokens, start + period)) - unit
        if self.tokens[unit + length] != start + period:
            return None
        size = int(self.base[unit + length] - self.base[unit]) if unit + length < len(self.base) else 0
        before = start - period
        if before >= low:
            here, first = slice(start, start + period), slice(before, start)
            moves = self.address[start + period : start + 2 * period] - self.address[here]
            carried = (moves == size) & ~self.constant[here] & (self.address[here] < self.base[unit])
            carried &= self.address[here] >= self.base[unit] - size
            goes_on = (self.address[here] - self.address[first] == moves) & (
                self.constant[here] == self.constant[first]
            )
            if (self.form[here] == self.form[first]).all() and (goes_on | carried).all():
                start, unit, count = before, unit - length, count + 1
        return _Span(unit, length, count, start, period)


def _gain(span: _Span) -> int:
    return (span.rounds - 1) * span.tokens


def _shape_of(body: Sequence[Node]) -> tuple[Any, ...]:
    """A body without its addresses."""
    return tuple(
        () if isinstance(node, Read)
        else (node.primitive, node.operands) if isinstance(node, Apply)
        else (node.primitive, tuple((s.extents, _shape_of(s.body)) for s in node.segments))
        for node in body
    )  # fmt: skip


def _is_uneven(statement: Statement) -> bool:
    """Whether some extent or stride depends on an index."""
    return any(
        read.bends or any(isinstance(extent, Ragged) for extent in extents) for read, extents in statement.reads()
    )


def _periods(kinds: Any) -> list[int]:
    """The distances at which windows of tokens recur most often."""
    result: dict[int, None] = {}
    hashes = (kinds.astype(np.uint64) + np.uint64(1)) * _MIX
    width = 1
    for window in _WINDOWS:
        if 2 * window > len(kinds):
            break
        while width < window:
            hashes = (hashes[:-width] * np.uint64(0xBF58476D1CE4E5B9)) ^ (
                hashes[width:] * np.uint64(0x94D049BB133111EB)
            )
            hashes ^= hashes >> np.uint64(31)
            width *= 2
        order = np.argsort(hashes, kind="stable")
        equal = hashes[order][1:] == hashes[order][:-1]
        counts = np.bincount((order[1:] - order[:-1])[equal], minlength=1)
        top = np.argsort(-counts, kind="stable")[:_CANDIDATES]
        result.update(dict.fromkeys(top[counts[top] > 0].tolist()))
    return list(result)


class _UnsupportedError(Exception):
    """These rounds cannot be written as a loop."""


class _Source(NamedTuple):
    """Where an access of the rounds reads: constants, what is computed before, or for each number a result of a round.

    Attributes:
        constant: whether it reads constants.
        units: of the rounds, whose results it reads; nothing for what is computed before.
        depths: in how many rounds before this one.
        offsets: which lanes of these units.
    """

    constant: bool
    units: Any = ()
    depths: Any = ()
    offsets: Any = ()

    @property
    def unit(self) -> int:
        """The unit of the same round, whose only number it reads; -1 if it reads anything else."""
        return int(self.units[0]) if len(self.units) == 1 and not self.depths[0] else -1


class _Rounds:
    """The rounds of a span: what each access reads, which results become part of others, and which are carried."""

    def __init__(self, units: _Units, span: _Span, uses: Any, last: Any) -> None:
        self.units, self.span = units, span
        first, period, count, token, tokens = span
        self.address = units.address[token : token + count * tokens].reshape(count, tokens)
        self.constant = units.constant[token : token + count * tokens].reshape(count, tokens)
        self.start = int(units.base[first])
        self.size = int(units.base[first + period]) - self.start
        self.offsets = units.base[first : first + period] - self.start
        self.lanes = units.lanes[first : first + period]
        self.sources = [self._source(t) for t in range(tokens)]
        #: Per unit and distance, where the lanes come from that first rounds read: fresh addresses, or constants.
        self.starts: dict[tuple[int, int], list[Any]] = {}
        for t, source in enumerate(self.sources):
            for r in range(max(source.depths, default=0)):
                self._carry(t, r, source)
        self.bodies: dict[int, list[Any]] = {}
        self._fuse(uses, last)

    def places(self, t: int) -> Any:
        """What a token reads that is computed before: fresh addresses, round by round."""
        return self.address[:, t, None] + self.units.token(self.span.token + self.span.tokens + t).places

    def token(self, unit: int) -> range:
        """The tokens of a unit."""
        token = self.units.tokens - self.span.token
        return range(int(token[self.span.first + unit]), int(token[self.span.first + unit + 1]))

    def _source(self, t: int) -> _Source:
        if self.constant[1, t]:
            if not self.constant[:, t].all():
                raise _UnsupportedError
            return _Source(True)
        places = self.address[1, t] + self.units.token(self.span.token + self.span.tokens + t).places
        moved = places - (self.start + self.size)
        outside = (moved < -self.size * (self.span.rounds - 1)) | (moved >= self.size)
        if self.address[2, t] - self.address[1, t] != self.size or outside.all():
            return _Source(False)
        if outside.any():
            raise _UnsupportedError
        units = np.searchsorted(self.offsets, moved % self.size, side="right") - 1
        return _Source(False, units, -(moved // self.size), moved % self.size - self.offsets[units])

    def _carry(self, t: int, r: int, source: _Source) -> None:
        """Take note of what a round reads from before the first one."""
        token = self.span.token + r * self.span.tokens + t
        places = self.units.token(token).places.tolist()
        for unit, depth, offset, place in zip(*(part.tolist() for part in source[1:]), places, strict=True):
            if depth <= r:
                continue
            lanes = self.starts.setdefault((unit, depth - r), [None] * int(self.lanes[unit]))
            if self.constant[r, t]:
                values = self.units.values
                origin: Any = ("constant", values[token] if token in values else self.units.number(place))
            else:
                origin = int(self.address[r, t]) + place
                if origin >= self.start:
                    raise _UnsupportedError
            if lanes[offset] is not None and lanes[offset] != origin:
                raise _UnsupportedError
            lanes[offset] = origin

    def parts(self) -> tuple[list[int], list[int], list[int]]:
        """The units that run for all rounds before the loop, those of the loop, and those behind it.

        Only a recurrence needs the loop: before it is what needs nothing of it, behind it what nothing in it needs.
        What combines several single numbers of a round stays inside, where these are at hand.
        """
        reads = {unit: self._read_by(unit) for unit in self.bodies}
        before: list[int] = []
        loop: list[int] = []
        behind: list[int] = []
        for unit in self.bodies:
            needs = reads[unit] - set(before)
            (loop if needs or self.depth(unit) else before).append(unit)
        readers = dict.fromkeys(loop, 0)
        for unit in loop:
            for owner in reads[unit] - set(before):
                readers[owner] += 1
        todo = [unit for unit in loop if not readers[unit]]
        while todo:  # what nothing in the loop reads
            unit = todo.pop()
            owners = reads[unit] - set(before)
            if self.lanes[unit] == 1 and (len(owners) > 1 or self.depth(unit)):
                continue
            behind.append(unit)
            for owner in owners:
                readers[owner] -= 1
                if not readers[owner]:
                    todo.append(owner)
        return before, [unit for unit in loop if unit not in set(behind)], behind[::-1]

    def _read_by(self, unit: int) -> set[int]:
        """The units whose results a unit reads."""
        return {owner for t in _tokens_of(self.bodies[unit]) for owner in self.sources[t].units}

    def stays(self, last: Any) -> bool:
        """Whether most results of array statements in the loop are read outside of it, so that it needs their memory.

        Else statements one after the other need less. `last` is per fresh address the last unit that reads it.
        """
        (first, period, count), (_, loop, behind) = self.span[:3], self.parts()
        outside = set[int]().union(*map(self._read_by, behind))
        end = self.start + count * self.size
        kept = lanes = 0
        for unit in loop:
            if self.lanes[unit] > 1:
                places = np.arange(self.start + self.offsets[unit], end, self.size)
                lanes += count
                kept += count if unit in outside else int(np.count_nonzero(last[places] >= first + count * period))
        return 2 * kept >= lanes

    def depth(self, unit: int) -> int:
        """How many rounds back its result is read."""
        return max((depth for owner, depth in self.starts if owner == unit), default=0)

    def _fuse(self, uses: Any, last: Any) -> None:
        """The bodies: operations, and tokens. What one other equation of the same round reads becomes part of it."""
        first, period, count = self.span[:3]
        units = first + np.arange(period)[None, :] + period * np.arange(count)[:, None]
        bases = units_base = self.units.base[units]
        alone = (uses[units_base] == 1).all(axis=0)
        readers = last[bases] - first - period * np.arange(count)[:, None]
        alone &= (readers == readers[0]).all(axis=0) & (readers[0] < period) & (self.units.equation[units[0]] >= 0)
        for unit in range(period):
            item, equation = self.units.item[first + unit], self.units.equation[first + unit]
            tokens = self.token(unit)
            statement = self.units.items[item]
            if isinstance(statement, Block):
                nodes: list[Any] = []
                operands = []
                for t in tokens:
                    source = self.sources[t]
                    inner = self.bodies.get(source.unit)
                    if inner is not None and alone[source.unit] and len(inner) + len(nodes) < _NODES:
                        shift = len(nodes)
                        nodes += [
                            Apply(n.primitive, tuple(o + shift for o in n.operands)) if isinstance(n, Apply) else n
                            for n in inner
                        ]
                        del self.bodies[source.unit]
                    else:
                        nodes.append(t)
                    operands.append(len(nodes) - 1)
                primitive = TABLE[statement.program.opcodes[equation]]
                self.bodies[unit] = [*nodes, Apply(primitive, tuple(operands))]
            else:
                self.bodies[unit] = _with_tokens(statement.body, iter(tokens))


def _tokens_of(nodes: Sequence[Any]) -> Iterator[int]:
    """The tokens of a body."""
    for node in nodes:
        if isinstance(node, Fold):
            for segment in node.segments:
                yield from _tokens_of(segment.body)
        elif isinstance(node, int):
            yield node


def _with_tokens(body: Sequence[Node], tokens: Iterator[int]) -> list[Any]:
    """A body with tokens for accesses."""
    return [
        next(tokens) if isinstance(node, Read)
        else node if isinstance(node, Apply)
        else Fold(node.primitive, tuple(Segment(s.extents, tuple(_with_tokens(s.body, tokens))) for s in node.segments))
        for node in body
    ]  # fmt: skip


class _Rewriter:
    """Writes the program with its rounds as loops."""

    def __init__(self, program: ArrayProgram, units: _Units, spans: Sequence[_Span]) -> None:
        self.program, self.units, self.spans = program, units, spans
        self.constants = Constants(program.inputs, program.constants, program.truths)
        self.final = np.full(units.size + len(units.outside), -1, dtype=np.int64)
        self.final[: program.first_truth] = np.arange(program.first_truth)
        self.final[program.first_truth : program.first_result] = TRUTHS + np.arange(len(program.truths))
        for k, number in enumerate(units.outside):
            self.final[units.size + k] = self.constants.lay(np.array(number))[0]
        self.copies = self.final.copy()  # the same, but of what a start copies, the copy
        self.next = RESULTS
        self.in_rounds = False
        self.statements: list[Item] = []
        names = {s.name for s in program.statements if isinstance(s, Statement)}
        self.names = (name for k in itertools.count(1) if (name := f"v{k}") not in names)
        self._count_uses()

    def _count_uses(self) -> None:
        units = self.units
        readers = np.repeat(np.arange(len(units.item)), np.diff(units.tokens))
        single = ~units.constant
        single[list(units.statement_tokens)] = False
        self.uses = np.bincount(units.address[single], minlength=len(self.final))
        self.last = np.full(len(self.final), -1)
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
                position = rounds.span.first + rounds.span.period * rounds.span.rounds
        self._leave(position, len(self.units.item))
        return self._finished()

    def _rounds(self, span: _Span) -> _Rounds | None:
        """The rounds of a span, or all but the first, if that is different."""
        later = _Span(span.first + span.period, span.period, span.rounds - 1, span.token + span.tokens, span.tokens)
        for each in (span, later):
            with suppress(_UnsupportedError):
                rounds = _Rounds(self.units, each, self.uses, self.last)
                if not rounds.stays(self.last):
                    return None
                if rounds.span.rounds > _ROUNDS and self._gathers(rounds, -1) < self._gathers(rounds):
                    rounds = _Rounds(self.units, each._replace(rounds=each.rounds - 1), self.uses, self.last)
                return rounds
        return None

    def _gathers(self, rounds: _Rounds, end: int | None = None) -> int:
        """How many accesses of what is computed before would need a table; up to some round only."""
        count = 0
        for t, source in enumerate(rounds.sources):
            if not source.constant and not len(source.units):
                fresh = rounds.places(t)[:end]
                count += not (_strided(self.final[fresh]) or _strided(self.copies[fresh]))
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
                self._move(statement, start)
                start += 1

    def _move(self, statement: Statement, unit: int) -> None:
        lanes = statement.lanes
        first = int(self.units.tokens[unit])
        body = _with_tokens(statement.body, iter(range(first, int(self.units.tokens[unit + 1]))))
        base = self._take(lanes)
        self._settle(self.units.base[unit] + np.arange(lanes), base + np.arange(lanes))

        reads = [read for read, _ in statement.reads()]

        def read(tokens: Sequence[int], extents: tuple[int, ...], terms: Sequence[int] = ()) -> Read:
            fresh = [self.units.token(t).places + self.units.address[t] for t in tokens]
            if terms:
                parts = [part.reshape(lanes, count) for part, count in zip(fresh, terms, strict=True)]
                return self._fitted(np.concatenate(parts, axis=1).reshape(*extents, -1))
            before, places = reads[tokens[0] - first], self.final[fresh[0]]
            shifts = places - addresses(before, extents)
            if before.table is None and (shifts == shifts[0]).all():
                return before._replace(base=fixed(before.base) + int(shifts[0]))
            return Read(0, (), places) if _is_uneven(statement) else self._fitted(fresh[0].reshape(extents))

        self.statements.append(replace(statement, body=self._body(body, statement.shape, read), base=base))

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
        ragged = any(isinstance(extent, Ragged) for segment in segments for extent in segment.extents)
        if len(segments) <= _SEGMENTS or self.in_rounds or ragged:
            yield from (Segment(s.extents, self._body(s.body, (*extents, *s.extents), read)) for s in segments)
            return
        for _, group in itertools.groupby(segments, lambda s: [n if isinstance(n, Apply) else () for n in s.body]):
            alike = list(group)
            terms = [segment.terms for segment in alike]
            columns = zip(*(segment.body for segment in alike), strict=True)
            body = [read(nodes, extents, terms) if isinstance(nodes[0], int) else nodes[0] for nodes in columns]
            yield Segment((sum(terms),), tuple(body))

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

    def _repeat(self, rounds: _Rounds) -> None:
        units, span = self.units, rounds.span
        count = span.rounds
        bases: dict[int, int] = {}
        lanes = {unit: int(rounds.lanes[unit]) for unit in rounds.bodies}
        before, loop, behind = rounds.parts()
        for unit in (*before, *loop, *behind):
            depth = rounds.depth(unit)
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
                return _strided(places) or Read(0, (), places.ravel())
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
            depth = rounds.depth(unit)
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

    def _values(self, rounds: _Rounds, t: int) -> Any:
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
        return _strided(final) or Read(0, (), final.ravel())

    def _fitted(self, fresh: Any) -> Read:
        """The access of an array of fresh addresses: strides, or a table."""
        places = self.final[fresh]
        read = _strided(places) or _strided(self.copies[fresh])
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


def _strided(places: Any) -> Read | None:
    """The access of an array of addresses, if it is strided."""
    first = int(places.flat[0])
    steps = np.zeros((1,) * places.ndim, dtype=np.int64)
    strides = []
    for axis, extent in enumerate(places.shape):
        index = [0] * places.ndim
        index[axis] = 1
        stride = int(places[tuple(index)]) - first if extent > 1 else 0
        strides.append(stride)
        steps = steps + (stride * np.arange(extent)).reshape([-1 if k == axis else 1 for k in range(places.ndim)])
    if (places == first + steps).all() and domain(places.min()) == domain(places.max()):
        return Read(first, tuple(strides))
    return None
