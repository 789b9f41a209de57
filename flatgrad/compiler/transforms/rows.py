"""Rows that go different ways: `vmap` of a function that branches on numbers.

The rows of one way are a program that is open in their number, as of any map. A kernel tells of all rows how far they
keep to a way, and so which of the known ways they go; another one computes the results of those that go one way. Rows
that go none of the known ways show a new one, and rows of rare ways are computed one by one. So each row has the bits
and the exceptions that it has alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, Final

import numpy as np

from ...runtime.errors import ARITHMETIC_ERRORS
from ...runtime.primitives import logical_and, where
from ...runtime.traced import TracedCondition
from ...runtime.tracing import recorder, refuse
from ..calls.records import member
from ..program.deciding import Given
from ..program.trace import Trace
from ..program.ways import Way
from .sizes import RowsBranchError
from .structures import is_container, is_structure, labels_of, rebuilt, shape_of

#: So many rows of one way are worth kernels; fewer are computed one by one.
FEW: Final = 100


class RowWay:
    """One way that rows go.

    Args:
        owner: the map.
        way: the truth values that these rows meet, with the lines.

    Attributes:
        rows: how many rows have gone it.
    """

    def __init__(self, owner: Any, way: Way) -> None:
        self._owner = owner
        self.way = way
        self.truths: tuple[bool | int, ...] = way.truths
        self.rows: int = 0

    @cached_property
    def kept(self) -> Any:
        """Of each row, to how many of the truth values it keeps, until it turns off."""
        return self._owner._like(self._kept, 0, faults="ieee")

    @cached_property
    def results(self) -> Any:
        """The results of rows that go this way, stacked, with 1.0 for each row that does."""
        return self._owner._like(self._result, (self._owner._out_axes, 0))

    @property
    def functions(self) -> list[Any]:
        """The functions that have been made."""
        return [self.__dict__[name] for name in ("kept", "results") if name in self.__dict__]

    def _run(self, row: Callable[[], Any]) -> tuple[Any, list[Any]]:
        """The result of a row, and the conditions that hold if it has kept to this way up to each of them."""
        trace = recorder()
        assert isinstance(trace, Trace)
        trace.given = given = Given(self.truths)
        try:
            result = row()
        finally:
            trace.given = None
        conditions: list[Any] = []
        for variable in given.conditions:
            condition: Any = object.__new__(TracedCondition)
            condition._trace, condition._index = trace, variable
            conditions.append(condition)
        return result, list(accumulate(conditions, logical_and))

    def _kept(self, row: Callable[[], Any]) -> Any:
        count: Any = 0.0
        for condition in self._run(row)[1]:
            count = count + where(condition, 1.0, 0.0)
        return count

    def _result(self, row: Callable[[], Any]) -> Any:
        result, conditions = self._run(row)
        return result, where(conditions[-1], 1.0, 0.0)  # so that what the conditions need is computed, and raises


class RowWays:
    """The ways that the rows of a map have gone."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._one = owner._like(None, owner._out_axes, dynamic=False)  # for one row
        self.ways: dict[tuple[bool | int, ...], RowWay] = {}

    @property
    def functions(self) -> list[Any]:
        """The functions that have the kernels."""
        return [*(each for way in self.ways.values() for each in way.functions), self._one]

    def listing(self) -> list[Any]:
        """The ways of rows: those that have kernels for many rows, and those of rows that were computed one by one."""
        known = [way.way for way in self.ways.values()]
        return [*known, *(way for way in self._one.ways() if way not in known)]

    def __call__(self, count: int, args: Sequence[Any], kwargs: Mapping[str, Any], axes: Sequence[Any]) -> Any:
        """The results of all rows."""

        def rows(indices: Any) -> tuple[list[Any], dict[str, Any]]:
            """The arguments with these rows."""
            items = [_chosen(item, axis, indices) for item, axis in zip((*args, *kwargs.values()), axes, strict=True)]
            return items[: len(args)], dict(zip(kwargs, items[len(args) :], strict=True))

        groups: dict[Any, list[Any]] = {}
        pieces: list[tuple[Any, Any]] = []
        try:
            self._sort(rows, np.arange(count), (), groups)
            alone = groups.pop(None, [])
            for way, parts in groups.items():
                chosen = np.concatenate(parts)
                way.rows += len(chosen)
                made = sum("results" in each.__dict__ for each in self.ways.values())
                if way.rows < FEW or ("results" not in way.__dict__ and made >= self._owner.max_ways):
                    alone.append(chosen)
                    continue
                positional, named = rows(_padded(chosen))
                try:
                    pieces.append((chosen, way.results(*positional, **named)[0]))
                except RowsBranchError:  # there is no kernel for all numbers of rows
                    alone.append(chosen)
            for row in np.sort(np.concatenate(alone)) if alone else ():
                positional, named = rows(np.array([row]))
                pieces.append((np.array([row]), self._one(*positional, **named)))
        except ARITHMETIC_ERRORS:
            for row in range(count):  # the first row that raises
                positional, named = rows(np.array([row]))
                self._one(*positional, **named)
            raise
        return _joined(pieces, self._owner._out_axes, count)

    def _sort(
        self, rows: Callable[[Any], Any], rest: Any, beginning: tuple[bool | int, ...], groups: dict[Any, list[Any]]
    ) -> None:
        """Find the ways of rows, all of which meet some truth values at first; those of few rows need not be known."""
        if beginning in self.ways:
            groups.setdefault(self.ways[beginning], []).append(rest)
            return
        if len(rest) < FEW:
            groups.setdefault(None, []).append(rest)
            return
        known = [way for truths, way in self.ways.items() if truths[: len(beginning)] == beginning]
        self._split(
            rows,
            rest,
            max(known, key=lambda each: each.rows, default=None) or self._way_of(rows, rest[:1], beginning),
            groups,
        )

    def _split(self, rows: Callable[[Any], Any], rest: Any, way: RowWay, groups: dict[Any, list[Any]]) -> None:
        """Find the ways of rows by where they turn off one of them."""
        positional, named = rows(_padded(rest))
        try:
            kept = np.asarray(way.kept(*positional, **named))[: len(rest)]
        except RowsBranchError:  # there is no kernel for all numbers of rows
            groups.setdefault(None, []).append(rest)
            return
        for count in np.unique(kept).astype(int).tolist():
            part = rest[kept == count]
            if count == len(way.truths):
                groups.setdefault(way, []).append(part)
            elif type(way.truths[count]) is bool:
                self._sort(rows, part, (*way.truths[:count], not way.truths[count]), groups)
            else:  # an integer with another value
                self._split(rows, part, self._way_of(rows, part[:1]), groups)

    def _way_of(self, rows: Callable[[Any], Any], row: Any, beginning: tuple[bool | int, ...] = ()) -> RowWay:
        """The way of a row, which is traced; it meets some truth values at first."""
        positional, named = rows(row)
        way = self._one._way_of(positional, named)
        if not way.truths or way.truths[: len(beginning)] != beginning:
            raise refuse(f"{self._owner.name} met other truth values when it was traced again; it must not")
        return self.ways.setdefault(way.truths, RowWay(self._owner, way))


def _padded(indices: Any) -> Any:
    """Rows with the last one repeated, so that there are few different numbers of rows: a kernel is bound to each."""
    count = len(indices)
    step = 1 << max(0, count.bit_length() - 5)
    more = -count % step
    return np.concatenate([indices, np.full(more, indices[-1])]) if more else indices


def _chosen(item: Any, axes: Any, indices: Any) -> Any:
    """Some rows of an argument."""
    if axes is None or item is None:
        return item
    if not isinstance(axes, int) or is_structure(item):
        parts = [
            _chosen(member(item, k), axes if isinstance(axes, int) else member(axes, k), indices)
            for k in labels_of(item)
        ]
        return rebuilt(item, parts)
    if isinstance(item, np.ndarray):
        return np.take(item, indices, axis=axes)
    if axes % len(shape_of(item) or (0,)) == 0:
        return [item[k] for k in indices.tolist()]
    return [_chosen(each, axes - (axes > 0), indices) for each in item]


def _joined(pieces: Sequence[tuple[Any, Any]], axes: Any, count: int) -> Any:
    """The results of all rows, from those of some rows each."""
    where_from = np.empty(count, dtype=np.int64)
    rows = np.concatenate([rows for rows, _ in pieces])
    where_from[rows] = np.arange(count)
    return _stacked([(len(rows), piece) for rows, piece in pieces], axes, where_from)


def _stacked(pieces: Sequence[tuple[int, Any]], axes: Any, where_from: Any) -> Any:
    """The results of all rows: those of some rows each, one behind the other, in another order."""
    first = pieces[0][1]
    if first is None:
        return None
    if is_container(first):
        parts = []
        for k in labels_of(first):
            inner = [(count, member(piece, k)) for count, piece in pieces]
            parts.append(_stacked(inner, axes if isinstance(axes, int) else member(axes, k), where_from))
        return rebuilt(first, parts)
    arrays = [np.moveaxis(np.asarray(piece), axes, 0)[:count] for count, piece in pieces]
    return np.moveaxis(np.take(np.concatenate(arrays), where_from, axis=0), 0, axes)
