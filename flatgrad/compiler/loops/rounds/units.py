"""Units: the statements and equations of an array program, one after the other, and where they repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ...program.periods import longest_run, mixed, periods
from ..array_program import ArrayProgram
from ..extents import Ragged, Size, fixed
from ..grammar import Addresses, Apply, Block, Fold, Node, Read, Segment, Statement, addresses, flattened, members

#: At least so many rounds make a loop, with at least so many reads in all of them; less is as good one after the other.
#: A read of an array statement counts as several.
ROUNDS, READS, ARRAY = 6, 256, 16
#: Where the same operations recur within a round, what they read tells which are of the next round: results so near.
_NEAR = 4096
#: So many places are tried where the rounds may begin.
_BEGINS = 16


class Span(NamedTuple):
    """So many `rounds`: units from `first` on, `period` of them per round; the same in tokens."""

    first: int
    period: int
    rounds: int
    token: int
    tokens: int


class Token(NamedTuple):
    """What one access of a statement reads: fresh addresses, or constants; `places` count from `address`."""

    places: Addresses
    constant: bool


class Units:
    """Statements, and equations of blocks, one after the other, with what they read.

    Results get fresh addresses, unit after unit, so that the addresses of equal rounds advance by the same distance.

    Attributes:
        whole: the statements and blocks.
        items: the same, without lanes of ragged extents.
        item, equation: per unit, its statement or block, and its equation there (-1 for a statement).
        base, lanes: per unit, its first fresh address and how many it has.
        fresh: the fresh address of each address of the program.
        tokens: per unit, the first of its tokens; one more for the end. A token is one access.
        form, address, constant: per token, what the unit does with it, the (first) fresh address that it reads, and
            whether it reads constants, which can be different in each round.
        bare: per token, its form without what it reads.
        statement_tokens: of the tokens of statements, all that they read.
        values: constants of blocks, by token.
        places: per block, the fresh addresses of its variables.
        outside: constants that are outputs of blocks; their fresh addresses stand behind all others.
    """

    def __init__(self, program: ArrayProgram) -> None:
        self.program = program
        self.whole: list[Block | Statement] = [
            s if isinstance(s, Block) else self._ordered(s) for s in members(program.statements)
        ]
        self.items: list[Block | Statement] = [s if isinstance(s, Block) else flattened(s) for s in self.whole]
        counts = [len(s.program) if isinstance(s, Block) else 1 for s in self.items]
        self.item: Addresses = np.repeat(np.arange(len(counts)), counts)
        firsts = np.cumsum([0, *counts])
        self.first_unit = firsts
        self.equation: Addresses = np.arange(len(self.item)) - firsts[self.item]
        self.lanes: Addresses = np.ones(len(self.item), dtype=np.int64)
        for k, statement in enumerate(self.items):
            if isinstance(statement, Statement):
                self.equation[firsts[k]] = -1
                self.lanes[firsts[k]] = statement.lanes
        ends = program.first_result + np.cumsum(self.lanes)
        self.base: Addresses = ends - self.lanes
        self.size: int = int(ends[-1]) if len(ends) else program.first_result
        self.values: dict[int, float | bool] = {}
        self.statement_tokens: dict[int, Token] = {}
        self.places: dict[int, Addresses] = {}
        self.outside: list[float | bool] = []
        self.fresh: Addresses = np.arange(program.size, dtype=np.int64)
        self._forms: dict[Any, int] = {}
        self._distances: dict[Any, Addresses] = {}
        self._constants = range(program.inputs, program.first_result)
        self._numbers: list[float | bool] = [*program.constants, *program.truths]
        tokens = [np.zeros(1, dtype=np.int64)]
        bare, forms, places, constants = [], [], [], []
        total = 0
        for k, statement in enumerate(self.items):
            parts = (
                self._block(k, statement, total)
                if isinstance(statement, Block)
                else self._statement(k, statement, total)
            )
            lengths, without, form, address, constant = parts
            tokens.append(total + np.cumsum(lengths))
            total += int(lengths.sum())
            bare.append(without)
            forms.append(form)
            places.append(address)
            constants.append(constant)
        self.tokens: Addresses = np.concatenate(tokens)
        columns = bare, forms, places, constants
        self.bare: Addresses
        self.form: Addresses
        self.address: Addresses
        self.constant: np.ndarray[Any, np.dtype[np.bool_]]
        self.bare, self.form, self.address, self.constant = map(np.concatenate, columns)
        self.outputs: Addresses = self.fresh[program.outputs]

    def _ordered(self, statement: Statement) -> Statement:
        return replace(statement, body=_inputs_first(statement.body, self.program))

    def _block(self, k: int, block: Block, token: int) -> tuple[Any, Any, Any, Any, Any]:
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
        at = np.append(place_of, 0)[np.maximum(outputs, 0)]  # a block may have constants only
        at[outputs < 0] = self.size + len(self.outside) + np.arange(len(alone))
        self.outside += alone
        self.fresh[block.base : block.base + len(outputs)] = at
        self.places[k] = place_of
        in_constants = (address >= self.program.inputs) & (address < self.program.first_result)
        for position in np.flatnonzero(in_constants & ~constant).tolist():
            self.values[token + position] = self.number(int(address[position]))
        constant |= in_constants
        return lengths, form, form, np.where(constant, 0, address), constant

    def number(self, address: int) -> float | bool:
        return self._numbers[address - self._constants.start]

    def _statement(self, k: int, statement: Statement, token: int) -> tuple[Any, Any, Any, Any, Any]:
        unit = self.first_unit[k]
        base = fixed(statement.base)
        self.fresh[base : base + statement.lanes] = self.base[unit] + np.arange(statement.lanes)
        keys: list[Any] = []
        places: list[int] = []
        constants: list[bool] = []
        for read, extents in statement.reads():
            address = self.fresh[self._addresses(read, extents)]
            first = address.item(0)
            constant = first in self._constants and int(address.min()) in self._constants
            constant = constant and int(address.max()) in self._constants
            first = 0 if constant else first
            distances = address - first
            self.statement_tokens[token + len(keys)] = Token(distances, constant)
            keys.append("constant" if constant else distances.tobytes())
            places.append(first)
            constants.append(constant)
        alike = k if is_uneven(statement) else -1  # those stay alone
        key = alike, statement.kind, statement.shape, shape_of(statement.body)
        bare = np.array([self._form(*key, k) for k in range(len(keys))], dtype=np.int64)
        forms = np.array([self._form(*key, k, each) for k, each in enumerate(keys)], dtype=np.int64)
        return np.array([len(keys)]), bare, forms, np.array(places, dtype=np.int64), np.array(constants, dtype=bool)

    def _form(self, *key: Any) -> int:
        return self._forms.setdefault(key, len(self._forms))

    def _addresses(self, read: Read, extents: tuple[Size, ...]) -> Addresses:
        """The addresses that an access reads; the distances between them are those of many accesses."""
        if read.table is not None:
            return read.table
        key = read.strides, read.bends, extents
        if key not in self._distances:
            self._distances[key] = addresses(read._replace(base=0), extents)
        return fixed(read.base) + self._distances[key]

    def token(self, token: int) -> Token:
        """What a token reads."""
        if token in self.statement_tokens:
            return self.statement_tokens[token]
        return Token(np.zeros(1, dtype=np.int64), bool(self.constant[token]))

    # --- recognition ----------------------------------------------------------------------------------------------

    def rounds(self, least: int | None = None, count: int | None = None, anywhere: bool = False) -> list[Span]:
        """Where there are rounds, with so many reads at least in all of them, and at least so many.

        They may read `anywhere` in what is computed before all of them, as a row of a table that is selected in each
        round is; else, what they read moves on evenly.
        """
        self.anywhere = anywhere
        self.least: int = READS if least is None else least
        self.count: int = ROUNDS if count is None else count
        kinds = self.form * 2 + self.constant
        begins = np.zeros(len(kinds) + 1, dtype=bool)
        begins[self.tokens] = True
        distances = np.repeat(self.base, np.diff(self.tokens)) - self.address
        near = kinds * _NEAR + np.where((distances > 0) & (distances < _NEAR) & ~self.constant, distances, 0)
        _, which, times = np.unique(near, return_inverse=True, return_counts=True)
        near = np.where(times[which] < self.count, kinds * _NEAR, near)  # streams are at another distance in each round
        weights = np.ones(len(kinds), dtype=np.int64)
        weights[list(self.statement_tokens)] = ARRAY
        self.weight: Addresses = np.concatenate([[0], np.cumsum(weights)])  # of all tokens before each
        result, todo = [], [(0, len(kinds))]
        while todo:
            low, high = todo.pop()
            if self.weight[high] - self.weight[low] < self.least:
                continue
            best: Span | None = None
            sequences, tried = [mixed(near[low:high]), mixed(kinds[low:high])], set[int]()
            inner, least = 0, -1
            while sequences and (best is None or 2 * best.rounds * best.tokens < high - low):
                for period in periods(sequences.pop()):
                    if period in tried or self.count * period > high - low:
                        continue
                    tried.add(period)
                    span = self._longest(kinds, begins, low, high, period)
                    if span is not None and _gain(span) > least:
                        inner, least = period, _gain(span)
                    if span is not None and self._suffices(span) and (best is None or _gain(span) > _gain(best)):
                        best = span
                if not sequences and inner and -inner not in tried:
                    # Rounds within rounds: the steps from each to the next tell where a round of the outer ones ends.
                    tried.add(-inner)
                    steps = self.address[low + inner : high] - self.address[low : high - inner]
                    sequences.append(mixed(kinds[low : high - inner]) ^ mixed(mixed(steps)))
            if best is not None:
                result.append(best)
                todo += [(low, best.token), (best.token + best.rounds * best.tokens, high)]
        return sorted(result)

    def _longest(self, kinds: Any, begins: Any, low: int, high: int, period: int) -> Span | None:
        """The longest sequence of rounds of so many tokens."""
        address = self.address[low:high]
        if self.anywhere:
            alike = longest_run(kinds[low:high], np.zeros_like(address), period)
            if alike is None:
                return None
            low, high = low + alike[0], low + alike[1]
            address = self.address[low:high]
            before = self.base[np.searchsorted(self.tokens, low, side="right") - 1]
            address = np.where(address < before, 0, address)
        run = longest_run(kinds[low:high], address, period)
        if run is None:
            return None
        start, end = low + run[0], low + run[1]
        start += int(np.argmax(begins[start:end]))
        if (end - start) // period < self.count or not begins[start + period]:
            return None
        start = self._begin(start, period, low)
        count = (end - start) // period
        if count < self.count:
            return None
        unit, next_unit = np.searchsorted(self.tokens, [start, start + period]).tolist()
        return Span(unit, next_unit - unit, count, start, period)

    def _suffices(self, span: Span) -> bool:
        """Whether so much is read in the rounds that a loop is worth it."""
        return bool(self.weight[span.token + span.rounds * span.tokens] - self.weight[span.token] >= self.least)

    def _begin(self, start: int, period: int, low: int) -> int:
        """Where the rounds begin: where few values are carried from one to the next, and as early as can be.

        Tokens in front belong to the rounds as well if they differ only in where they get carried values from.
        """
        unit, next_unit = np.searchsorted(self.tokens, [start, start + period]).tolist()
        size, length = self.base[next_unit] - self.base[unit], next_unit - unit
        first = slice(max(low, start - period), start)
        here = slice(first.start + period, first.stop + period)
        moves = self.address[first.start + 2 * period : first.stop + 2 * period] - self.address[here]
        goes_on = (self.address[here] - self.address[first] == moves) & (self.constant[here] == self.constant[first])
        carries = (moves == size) & ~self.constant[here]
        alike = (self.form[here] == self.form[first]) & (goes_on | carries)
        for k in np.flatnonzero(~alike & carries & (self.bare[here] == self.bare[first])).tolist():
            alike[k] = self._carries_lanes(first.start + k, period, size)
        differs = np.flatnonzero(~alike)
        earliest = first.start + (int(differs[-1]) + 1 if len(differs) else 0)
        units = int(np.searchsorted(self.tokens, earliest)) + np.arange(length)
        order = np.argsort(self._carried(next_unit, length, size)[units % length], kind="stable")
        for begin in self.tokens[units[order]][:_BEGINS].tolist():
            if begin >= start:
                return int(begin)
            carried = np.flatnonzero(~goes_on[begin - first.start :]) + begin
            before, now = self.base[np.searchsorted(self.tokens, [begin, begin + period])]
            read_before = self.constant[carried] | (self.address[carried] < before)
            read_next = self.address[carried + period]  # in the first round
            if read_before.all() and ((read_next >= before) & (read_next < now)).all():
                return int(begin)
        return start

    def _carries_lanes(self, token: int, period: int, size: int) -> bool:
        """Whether a token is like that of the next round, but for lanes that read something of the round before."""
        places, later = (self.token(t).places + self.address[t] for t in (token, token + period))
        if self.constant[token]:
            return True
        start = self.base[np.searchsorted(self.tokens, token, side="right") - 1]
        return bool(((later - places == size) | (later < start + size)).all())

    def _carried(self, unit: int, length: int, size: int) -> Any:
        """How many values each unit of a round (by its number modulo the length) finds that it or later ones read.

        A value that is read once counts more: it could be computed where it is read. The round begins with `unit`; the
        next one is like it.
        """
        tokens = np.arange(self.tokens[unit], self.tokens[unit + length])
        moves = self.address[tokens + len(tokens)] - self.address[tokens]
        tokens = tokens[(moves == size) & ~self.constant[tokens]]
        readers = np.searchsorted(self.tokens, tokens, side="right") - 1
        writers = np.searchsorted(self.base, self.address[tokens], side="right") - 1
        ages = np.zeros(length, dtype=np.int64)  # of what each unit writes, when it is read last
        near = (writers >= 0) & (readers - writers <= unit)
        np.maximum.at(ages, writers[near] % length, (readers - writers)[near])
        weights = np.where(np.bincount(writers[near] % length, minlength=length) == 1, 3, 2)
        weights *= self.lanes[unit + (np.arange(length) - unit) % length]
        whole, rest = np.divmod(ages, length)
        changes = np.zeros(2 * length + 1, dtype=np.int64)
        position = np.arange(length) + 1
        np.add.at(changes, position, weights)
        np.add.at(changes, position + rest, -weights)
        partly = np.cumsum(changes)
        return partly[:length] + partly[length : 2 * length] + (whole * weights).sum()


def _gain(span: Span) -> int:
    return (span.rounds - 1) * span.tokens


def shape_of(body: Sequence[Node]) -> tuple[Any, ...]:
    """A body without its addresses."""
    return tuple(
        () if isinstance(node, Read)
        else (node.primitive, node.operands) if isinstance(node, Apply)
        else (node.primitive, tuple((s.extents, shape_of(s.body)) for s in node.segments))
        for node in body
    )  # fmt: skip


def _inputs_first(body: Sequence[Node], program: ArrayProgram) -> tuple[Any, ...]:
    """A body where inputs stand before constants that they are multiplied with, or added to.

    So they stand before what is carried, and a first round may read a constant instead.
    """
    nodes = list(body)
    uses = Counter(operand for node in body if isinstance(node, Apply) for operand in node.operands)
    for k, node in enumerate(body):
        if isinstance(node, Fold):
            segments = (Segment(s.extents, _inputs_first(s.body, program)) for s in node.segments)
            nodes[k] = Fold(node.primitive, tuple(segments))
        elif isinstance(node, Apply) and node.primitive.commutative:
            first, second = node.operands
            constant = program.inputs <= _first(nodes[first]) < program.first_result
            if constant and 0 <= _first(nodes[second]) < program.inputs and uses[first] == uses[second] == 1:
                nodes[first], nodes[second] = nodes[second], nodes[first]
    return tuple(nodes)


def _first(node: Node) -> int:
    """The first address that a node reads; -1 if it is no access."""
    if not isinstance(node, Read):
        return -1
    return fixed(node.base) if node.table is None else int(node.table[0])


def is_uneven(statement: Statement) -> bool:
    """Whether some extent depends on an index."""
    return any(isinstance(extent, Ragged) for _, extents in statement.reads() for extent in extents)
