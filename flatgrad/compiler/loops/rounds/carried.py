"""What rounds read of one another, which of their results become part of others, and which need no loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ....runtime.primitives import TABLE
from ..grammar import Addresses, Apply, Block, Fold, Node, Read, Segment
from .inner import turns_of
from .units import Span, Units

#: Expressions of a round have at most so many nodes.
_NODES = 24
#: More numbers than so many are not kept for nothing.
_MUCH = 100_000


class UnsupportedError(Exception):
    """These rounds cannot be written as a loop."""


class Source(NamedTuple):
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


class Rounds:
    """The rounds of a span: what each access reads, which results become part of others, and which are carried.

    Attributes:
        turns: per unit, in which turn of a loop within the round it is, from 1 on; 0 for what is in none. Equations of
            different turns do not become one expression.
    """

    def __init__(self, units: Units, span: Span, uses: Any, last: Any, nest: bool = False) -> None:
        self.units = units
        self.span = span
        first, period, count, token, tokens = span
        self.address: Addresses = units.address[token : token + count * tokens].reshape(count, tokens)
        self.constant: np.ndarray[Any, np.dtype[np.bool_]] = units.constant[token : token + count * tokens].reshape(
            count, tokens
        )
        self.start: int = int(units.base[first])
        self.size: int = int(units.base[first + period]) - self.start
        self.offsets: Addresses = units.base[first : first + period] - self.start
        self.lanes: Addresses = units.lanes[first : first + period]
        self.sources: list[Source] = [self._source(t) for t in range(tokens)]
        #: Per unit and distance, where the lanes come from that first rounds read: fresh addresses, or constants.
        self.starts: dict[tuple[int, int], list[Any]] = {}
        like = units.form[token : token + tokens] == units.form[token + tokens : token + 2 * tokens]
        for t, source in enumerate(self.sources):
            depth = max(source.depths, default=0)
            if not (depth or source.constant or like[t]):
                raise UnsupportedError
            for r in range(depth):
                self._carry(t, r, source)
        #: Per unit that is carried, how many rounds back its result is read.
        self.depths: dict[int, int] = {}
        for unit, depth in self.starts:
            self.depths[unit] = max(depth, self.depths.get(unit, 0))
        self.bodies: dict[int, list[Any]] = {}
        self.turns: Addresses = self._find_turns() if nest else np.zeros(period, dtype=np.int64)
        self._fuse(uses, last)

    def places(self, t: int) -> Any:
        """What a token reads that is computed before: fresh addresses, round by round."""
        return self.address[:, t, None] + self.units.token(self.span.token + self.span.tokens + t).places

    def token(self, unit: int) -> range:
        """The tokens of a unit."""
        start, end = self.units.tokens[self.span.first + unit : self.span.first + unit + 2].tolist()
        return range(start - self.span.token, end - self.span.token)

    def _source(self, t: int) -> Source:
        if self.constant[1, t]:
            if not self.constant[:, t].all():
                raise UnsupportedError
            return Source(True)
        places = self.address[1, t] + self.units.token(self.span.token + self.span.tokens + t).places
        steps = np.diff(self.address[1:, t])
        if (steps != steps[:1]).any():  # it reads what is selected in each round
            if self.constant[:, t].any() or int(self.address[:, t].max() + places.max()) - places[0] >= self.start:
                raise UnsupportedError
            return Source(False)
        moved = places - (self.start + self.size)
        outside = (moved < -self.size * (self.span.rounds - 1)) | (moved >= self.size)
        if self.address[2, t] - self.address[1, t] != self.size or outside.all():
            latest = int(self.address[:, t].max()) + int(places.max() - self.address[1, t])
            if latest >= self.start or self.constant[:, t].any():
                raise UnsupportedError  # it reads results of the rounds, at another distance in each
            return Source(False)
        if outside.any():
            raise UnsupportedError
        units = np.searchsorted(self.offsets, moved % self.size, side="right") - 1
        return Source(False, units, -(moved // self.size), moved % self.size - self.offsets[units])

    def _carry(self, t: int, r: int, source: Source) -> None:
        """Take note of what a round reads from before the first one."""
        token = self.span.token + r * self.span.tokens + t
        places = self.units.token(token).places.tolist()
        for unit, depth, offset, place in zip(*(part.tolist() for part in source[1:]), places, strict=True):
            if depth <= r:
                own = self.start + (r - depth) * self.size + int(self.offsets[unit]) + offset
                if self.constant[r, t] or int(self.address[r, t]) + place != own:
                    raise UnsupportedError
                continue
            lanes = self.starts.setdefault((unit, depth - r), [None] * int(self.lanes[unit]))
            if self.constant[r, t]:
                values = self.units.values
                origin: Any = ("constant", values[token] if token in values else self.units.number(place))
            else:
                origin = int(self.address[r, t]) + place
                if origin >= self.start:
                    raise UnsupportedError
            if lanes[offset] is not None and lanes[offset] != origin:
                raise UnsupportedError
            lanes[offset] = origin

    def parts(self) -> tuple[list[int], list[int], list[int]]:
        """The units that run for all rounds before the loop, those of the loop, and those behind it.

        Only a recurrence needs the loop: before it is what needs nothing of it, behind it what nothing in it needs.
        What combines several single numbers of a round stays inside, where these are at hand.
        """
        reads = {unit: self._read_by(unit) for unit in self.bodies}
        before: dict[int, None] = {}
        loop: dict[int, set[int]] = {}  # units, and those in the loop that they read
        for unit in self.bodies:
            needs = {owner for owner in reads[unit] if owner not in before}
            if needs or unit in self.depths:
                loop[unit] = needs
            else:
                before[unit] = None
        readers = dict.fromkeys(loop, 0)
        for needs in loop.values():
            for owner in needs:
                readers[owner] += 1
        behind = []
        todo = [unit for unit in loop if not readers[unit]]
        while todo:  # what nothing in the loop reads
            unit = todo.pop()
            if self.lanes[unit] == 1 and (len(loop[unit]) > 1 or unit in self.depths):
                continue
            behind.append(unit)
            for owner in loop.pop(unit):
                readers[owner] -= 1
                if not readers[owner]:
                    todo.append(owner)
        return list(before), list(loop), behind[::-1]

    def _read_by(self, unit: int) -> set[int]:
        """The units whose results a unit reads."""
        return {owner for t in _tokens_of(self.bodies[unit]) for owner in self.sources[t].units}

    def stays(self, last: Any) -> bool:
        """Whether a loop needs not much more memory than statements one after the other, which can use it again.

        That is so if few numbers of array statements in the loop, or most of them, are read outside of it.

        Args:
            last: per fresh address the last unit that reads it.
        """
        (first, period, count), (_, loop, behind) = self.span[:3], self.parts()
        outside = set[int]().union(*map(self._read_by, behind))
        end = self.start + count * self.size
        kept = lanes = 0
        for unit in loop:
            if self.lanes[unit] > 1 and unit not in outside:
                places = np.arange(self.start + self.offsets[unit], end, self.size)
                read = np.count_nonzero(last[places] >= first + count * period)
                lanes += int(self.lanes[unit]) * count
                kept += int(self.lanes[unit] * read)
        return lanes <= _MUCH or 2 * kept >= lanes

    def _find_turns(self) -> Addresses:
        units, (first, period, rounds, token, length) = self.units, self.span
        if rounds < 3:
            return np.zeros(period, dtype=np.int64)
        begins = units.tokens[first + period : first + 2 * period + 1] - token - length
        tokens = slice(token + length, token + 2 * length)
        columns = units.form[tokens], self.constant[1], self.address[2] - self.address[1]
        symbols = np.unique(np.stack(columns), axis=1, return_inverse=True)[1].ravel()
        return turns_of(symbols, self.address[1], begins, units.base[first + period : first + 2 * period + 1])

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
                    fits = inner is not None and alone[source.unit] and self.turns[source.unit] == self.turns[unit]
                    if inner is not None and fits and len(inner) + len(nodes) < _NODES:
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
                self.bodies[unit] = with_tokens(statement.body, iter(tokens))


def _tokens_of(nodes: Sequence[Any]) -> Iterator[int]:
    """The tokens of a body."""
    for node in nodes:
        if isinstance(node, Fold):
            for segment in node.segments:
                yield from _tokens_of(segment.body)
        elif isinstance(node, int):
            yield node


def with_tokens(body: Sequence[Node], tokens: Iterator[int]) -> list[Any]:
    """A body with tokens for accesses."""
    return [
        next(tokens) if isinstance(node, Read)
        else node if isinstance(node, Apply)
        else Fold(node.primitive, tuple(Segment(s.extents, tuple(with_tokens(s.body, tokens))) for s in node.segments))
        for node in body
    ]  # fmt: skip
