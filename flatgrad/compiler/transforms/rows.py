"""Rows that go different ways: `vmap` of a function that branches on numbers.

The rows of one way are a program that is open in their number, as of any map. For each way that is known two kernels
are made: one tells of all rows whether they go that way, the other computes the results of those that do. Rows that go
none of the known ways show a new one. So rows have the bits and the exceptions that they have alone, and are computed
together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...runtime.errors import ARITHMETIC_ERRORS, TraceError
from ...runtime.primitives import logical_and, where
from ...runtime.traced import TracedCondition
from ...runtime.tracing import recorder
from ..program.deciding import Given
from ..program.trace import Trace
from .structures import is_structure, labels_of, rebuilt, shape_of

if TYPE_CHECKING:
    from .vmap import VmapFunction


class RowsBranchError(Exception):
    """Rows branch on numbers, so that a program of all rows would be for the ways of these rows."""


class RowWay:
    """One way that rows go.

    Args:
        owner: the map.
        truths: the truth values that these rows meet.

    Attributes:
        goes: whether each row goes this way, as 1.0 or 0.0.
        results: the results of rows that do, stacked.
    """

    def __init__(self, owner: VmapFunction[Any], truths: Sequence[bool | int]) -> None:
        self.truths = tuple(truths)
        self.goes = owner._like(self._goes, 0, faults="ieee")
        self.results = owner._like(self._result, (owner._out_axes, 0))
        self.goes._selects = self.results._selects = False

    def _run(self, row: Callable[[], Any]) -> tuple[Any, Any]:
        """The result of a row, and the condition that it goes this way."""
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
        way = conditions[0] if conditions else True
        for condition in conditions[1:]:
            way = logical_and(way, condition)
        return result, where(way, 1.0, 0.0)

    def _goes(self, row: Callable[[], Any]) -> Any:
        return self._run(row)[1]

    def _result(self, row: Callable[[], Any]) -> Any:
        return self._run(row)  # with the condition, so that what it needs is computed, and raises


class RowWays:
    """The ways that the rows of a map have gone."""

    def __init__(self, owner: VmapFunction[Any]) -> None:
        self.owner = owner
        self.one = owner._like(None, owner._out_axes, dynamic=False)
        self.one._selects = False  # its ways are those that the functions of a way are given
        self.ways: list[RowWay] = []

    @property
    def functions(self) -> list[VmapFunction[Any]]:
        """The functions that have the kernels."""
        return [*(each for way in self.ways for each in (way.goes, way.results)), self.one]

    def __call__(self, count: int, args: Sequence[Any], kwargs: Mapping[str, Any], axes: Sequence[Any]) -> Any:
        """The results of all rows."""
        try:
            return self._by_ways(count, args, kwargs, axes)
        except ARITHMETIC_ERRORS:
            for k in range(count):  # the first row that raises
                self._alone(args, kwargs, axes, k)
            raise

    def _by_ways(self, count: int, args: Sequence[Any], kwargs: Mapping[str, Any], axes: Sequence[Any]) -> Any:
        rest = np.arange(count)
        pieces: list[tuple[Any, Any]] = []
        for way in self.ways:
            if not len(rest):
                break
            rest = self._follow(way, rest, args, kwargs, axes, pieces)
        while len(rest):
            if len(self.ways) >= self.owner.max_ways:
                pieces += [(np.array([row]), self._alone(args, kwargs, axes, row)) for row in rest.tolist()]
                break
            rows, named = self._rows(args, kwargs, axes, rest[:1])
            way = RowWay(self.owner, self.one._way_of(rows, named))
            before = len(rest)
            rest = self._follow(way, rest, args, kwargs, axes, pieces)
            if len(rest) == before:
                raise TraceError(f"{self.owner.name} met other truth values when it was traced again; it must not")
            self.ways.append(way)
        return _joined(pieces, self.owner._out_axes, count)

    def _follow(
        self, way: RowWay, rest: Any, args: Sequence[Any], kwargs: Mapping[str, Any], axes: Sequence[Any], pieces: Any
    ) -> Any:
        """Compute the results of those rows that go a way, and return the others."""
        padded = _padded(rest)
        rows, named = self._rows(args, kwargs, axes, padded)
        goes = np.asarray(way.goes(*rows, **named))[: len(rest)] == 1.0
        chosen = rest[goes]
        if len(chosen):
            if len(chosen) < len(rest):
                padded = _padded(chosen)
                rows, named = self._rows(args, kwargs, axes, padded)
            results, _ = way.results(*rows, **named)
            pieces.append((chosen, results))
        return rest[~goes]

    def _rows(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], axes: Sequence[Any], indices: Any
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments with these rows."""
        items = [_chosen(item, axis, indices) for item, axis in zip((*args, *kwargs.values()), axes, strict=True)]
        return items[: len(args)], dict(zip(kwargs, items[len(args) :], strict=True))

    def _alone(self, args: Sequence[Any], kwargs: Mapping[str, Any], axes: Sequence[Any], row: int) -> Any:
        """The result of one row, computed without a kernel for all."""
        rows, named = self._rows(args, kwargs, axes, np.array([row]))
        return self.one(*rows, **named)


def _padded(indices: Any) -> Any:
    """Rows with the last one repeated, so that there are few different numbers of rows: a kernel is bound to each."""
    count = len(indices)
    step = 1 << max(0, count.bit_length() - 3)
    more = -count % step
    return np.concatenate([indices, np.full(more, indices[-1])]) if more else indices


def _chosen(item: Any, axes: Any, indices: Any) -> Any:
    """Some rows of an argument."""
    if axes is None or item is None:
        return item
    if not isinstance(axes, int) or is_structure(item):
        parts = [_chosen(item[k], axes if isinstance(axes, int) else axes[k], indices) for k in labels_of(item)]
        return rebuilt(item, parts)
    if isinstance(item, np.ndarray):
        return np.take(item, indices, axis=axes)
    if axes % len(shape_of(item) or (0,)) == 0:
        return [item[k] for k in indices.tolist()]
    return [_chosen(each, axes - (axes > 0), indices) for each in item]


def _joined(pieces: Sequence[tuple[Any, Any]], axes: Any, count: int) -> Any:
    """The results of all rows, from those of some rows each."""
    first: Any = pieces[0][1]
    if isinstance(first, np.ndarray) or not isinstance(first, (list, tuple, dict, type(None))):
        first = np.moveaxis(np.asarray(first), axes, 0)
        result = np.empty((count, *first.shape[1:]))
        for rows, piece in pieces:
            result[rows] = np.moveaxis(np.asarray(piece), axes, 0)[: len(rows)]
        return np.moveaxis(result, 0, axes)
    if first is None:
        return None
    parts = [
        _joined([(rows, piece[k]) for rows, piece in pieces], axes if isinstance(axes, int) else axes[k], count)
        for k in labels_of(first)
    ]
    return rebuilt(first, parts)
