"""Sizes that are bound at the call: extents, bases and strides that depend on the number of rows, and the like."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...runtime.errors import ProgramError


class Polynomial(NamedTuple):
    """An integer that depends on open extents: their `monomials`, each times an integer.

    Example:
        >>> Polynomial((3, 2)).at([10]), Polynomial((0, 0, 1)).at([5])
        (23, 10)
        >>> Polynomial((3, -2, 1)).text(["n"]), Polynomial((0, 0, 0, 0, 2)).text(["n", "m"])
        ('n*(n - 1)//2 - 2*n + 3', '2*n*m')
    """

    coefficients: tuple[int, ...]

    def at(self, sizes: Sequence[int]) -> int:
        """The integer for some extents."""
        return sum(k * item for k, item in zip(self.coefficients, monomials(sizes), strict=False) if k)

    def text(self, names: Sequence[str], divided: str = "//") -> str:
        """The polynomial with a sign of division, the highest terms first."""
        products = [f"{a}*({a} - 1){divided}2" if a == b else f"{a}*{b}" for a, b in _pairs(names)]
        result = ""
        for k, name in reversed(list(zip(self.coefficients, ["", *names, *products], strict=False))):
            if not k:
                continue
            factors = [] if abs(k) == 1 and name else [str(abs(k))]
            term = "*".join([*factors, name] if name else factors)
            result += f"{' - ' if k < 0 else ' + '}{term}" if result else f"{'-' if k < 0 else ''}{term}"
        return result or "0"


def monomials(sizes: Sequence[Any]) -> list[Any]:
    """What polynomials in extents are made of: 1, the extents, and how many pairs there are of each two.

    >>> monomials([5]), monomials([5, 7])
    ([1, 5, 10], [1, 5, 7, 10, 35, 21])
    """
    return [1, *sizes, *(a * (a - 1) // 2 if k == m else a * b for (k, a), (m, b) in _pairs(list(enumerate(sizes))))]


def _pairs(items: Sequence[Any]) -> itertools.combinations_with_replacement[Any]:
    return itertools.combinations_with_replacement(items, 2)


class Bound(int):
    """An integer of an array program that would be another one at other extents; so is what is computed with it.

    Machine code takes it from its schedule.

    Example:
        >>> n = Bound(5)
        >>> type(3 * n - 1).__name__, type(n // 2).__name__
        ('Bound', 'int')
    """

    __slots__ = ()

    def __add__(self, other: Any) -> Any:
        return Bound(int(self) + int(other)) if isinstance(other, int) else NotImplemented

    def __mul__(self, other: Any) -> Any:
        return Bound(int(self) * int(other)) if isinstance(other, int) else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return Bound(int(self) - int(other)) if isinstance(other, int) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return Bound(int(other) - int(self)) if isinstance(other, int) else NotImplemented

    def __neg__(self) -> Bound:
        return Bound(-int(self))

    __radd__: Callable[..., Any] = __add__
    __rmul__: Callable[..., Any] = __mul__


class BoundNumber(float):
    """A constant of an array program that would be another one at other extents.

    Attributes:
        formula: what it is computed by.
        position, length: which number of the formula's it is, and how many these are.
        text: how it is computed, if it is the only one.
    """

    __slots__ = ("formula", "length", "position", "text")
    formula: Any
    position: int
    length: int
    text: str

    @classmethod
    def of(cls, number: float, formula: Any, position: int, length: int, text: str = "") -> BoundNumber:
        """A number of a formula."""
        made = cls(number)
        made.formula, made.position, made.length, made.text = formula, position, length, text
        return made


class Ragged(int):
    """An extent of lanes or terms that depends on an outer index: `first + step * index`, at least 1.

    As a number it is the largest of these extents: the extent of a rectangle that has room for all of them.

    Attributes:
        first, step: the extent where the outer index is 0, and how much it grows with it.
        least: the smallest of these extents.
        dimension: which of the indices outside, of lanes and then of terms, it depends on.

    Example:
        >>> extent = Ragged.over(3, 1, 2, 0)
        >>> int(extent), [extent.at(index) for index in range(3)]
        (4, [2, 3, 4])
    """

    first: int
    step: int
    least: int
    dimension: int

    @classmethod
    def over(cls, count: int, step: int, first: int, dimension: int) -> Ragged:
        """The extent, where the index that it depends on has an extent of `count`."""
        ends = first, first + step * (count - 1)
        extent = cls(max(ends))
        extent.first, extent.step, extent.least, extent.dimension = first, step, min(ends), dimension
        return extent

    def at(self, index: Any) -> Any:
        """The extent at an index of the dimension that it depends on, or at an array of them."""
        return self.first + self.step * index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ragged) and self._form == other._form

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._form)

    @property
    def _form(self) -> tuple[int, int, int, int, int]:
        return int(self), self.first, self.step, self.least, self.dimension


def shifted(extents: Sequence[Any], by: int) -> tuple[Any, ...]:
    """Extents where there are so many more dimensions outside of them.

    >>> [extent.dimension for extent in shifted([Ragged.over(3, 1, 1, 0)], 2)]
    [2]
    """
    result: list[Any] = []
    for extent in extents:
        result.append(extent)
        if isinstance(extent, Ragged):
            result[-1] = moved = Ragged(int(extent))
            moved.first, moved.step, moved.least = extent.first, extent.step, extent.least
            moved.dimension = extent.dimension + by
    return tuple(result)


#: An integer, or one that depends on open extents.
Size = int | Polynomial


def size_text(size: Size, names: Sequence[str], divided: str = "//") -> str:
    """The size as text, with the names of the extents."""
    return size.text(names, divided) if isinstance(size, Polynomial) else str(size)


def fixed(size: Size) -> int:
    """The size, which must not depend on an extent.

    Raises:
        ProgramError: if it does.
    """
    if isinstance(size, Polynomial):
        raise ProgramError("this array program has an extent that is not bound; call `bind(size)` first")
    return size


class Samples:
    """Finds integers that depend on extents from what they are at some samples of these.

    A polynomial is taken for the one if it has the right value at more samples than it has coefficients.

    Args:
        sizes: the extents of each sample.

    Example:
        >>> samples = Samples([(4,), (5,), (6,)])
        >>> samples.size(7, 9, 11), samples.size(5, 5, 5), samples.size(1, 2, 4)
        (Polynomial(coefficients=(-1, 2)), 5, None)
    """

    def __init__(self, sizes: Sequence[Sequence[int]]) -> None:
        self.sizes: list[tuple[int, ...]] = [tuple(map(int, each)) for each in sizes]
        every = np.array(list(map(monomials, self.sizes)))
        extents = len(self.sizes[0])
        counts = (1 + extents, 1 + extents + extents * (extents + 1) // 2)
        #: Matrices of monomials, each with the columns that it has of all.
        self._bases = [(every[:, columns], columns) for columns in self._choices(extents, counts)]
        self._known: dict[tuple[int, ...], Size | None] = {}

    def _choices(self, extents: int, counts: tuple[int, int]) -> list[list[int]]:
        linear, all_of_them = list(range(counts[0])), list(range(counts[1]))
        products = [k for k, (a, b) in enumerate(_pairs(range(extents)), counts[0]) if a != b]
        choices = [linear, *([linear + products] if products else []), all_of_them]
        return [columns for columns in choices if len(columns) < len(self.sizes)]

    def size(self, *values: int) -> Size | None:
        """The integer that has these values at the samples; None if there is none."""
        first = values[0]
        if all(value == first for value in values):
            return int(first)
        if values not in self._known:
            columns = self.columns(np.array(values)[:, None])
            self._known[values] = None if columns is None else Polynomial(tuple(columns[:, 0].tolist()))
        return self._known[values]

    def columns(self, values: Any) -> Any:
        """Coefficients for a whole array: `(samples, k)` to `(monomials, k)`; None if some values are no polynomial."""
        for matrix, columns in self._bases:
            found = np.rint(np.linalg.lstsq(matrix, values, rcond=None)[0]).astype(np.int64)
            if np.array_equal(matrix @ found, values):
                result = np.zeros((columns[-1] + 1, values.shape[1]), dtype=np.int64)
                result[columns] = found
                return result
        return None


def samples_of(extents: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Samples of one extent, or of several that have all combinations of two of them, and more.

    >>> samples_of([4, 5, 6], 1)
    [(4,), (5,), (6,)]
    """
    if count == 1:
        return [(extent,) for extent in extents]
    a, b, c, d = extents
    return [(a, b), (b, a), (a, c), (c, b), (d, a), (d, c), (b, d), (c, d)]


#: Extents of as many digits each, at which programs are printed, to merge their texts.
_PRINTED = (211, 223, 227, 239), (131, 137, 149, 163)


def printed_at(count: int) -> Iterator[Samples]:
    """Samples at which programs with so many open extents are printed; the next ones if their texts differ."""
    return (Samples(samples_of(extents, count)) for extents in _PRINTED)


def least_of(fits: Callable[..., bool], count: int) -> list[int]:
    """The smallest extents that fit: of each one, where the others are large."""
    large = _PRINTED[0][-1]
    result = []
    for k in range(count):
        rest = [large] * (count - 1)
        result.append(next((n for n in range(1, large) if fits(*rest[:k], n, *rest[k:])), large))
    return result


class OpenTable(NamedTuple):
    """A table whose extents are open: along these its entries lie on lines.

    Attributes:
        shape: the extents.
        open: the dimensions with open extents.
        features: what the entries are a sum of, by kind: which extent, and which index; -1 for neither.
        coefficients: for each feature, its factor for all indices of the other dimensions.
    """

    shape: tuple[Size, ...]
    open: tuple[int, ...]
    features: tuple[tuple[int, int], ...]
    coefficients: Any

    def at(self, sizes: Sequence[int]) -> Any:
        """The table for some extents, flat."""
        shape = [bound(extent, sizes) for extent in self.shape]
        grid = _features(sizes, [shape[d] for d in self.open], self.features) @ self.coefficients
        closed = [extent for d, extent in enumerate(shape) if d not in self.open]
        grid = grid.reshape([*(shape[d] for d in self.open), *closed])
        return np.ascontiguousarray(np.moveaxis(grid, range(len(self.open)), self.open)).ravel()

    @classmethod
    def through(cls, tables: Sequence[Any], shapes: Sequence[Sequence[int]], samples: Samples) -> AnyTable | None:
        """The table that is these, in these shapes, at the samples; None if there is none that is simple."""
        made = cls._in_one_piece(tables, shapes, samples)
        if made is not None:
            return made
        parts = _in_parts(shapes, samples)
        return cls.through(tables, parts, samples) if parts is not None else None

    @classmethod
    def _in_one_piece(cls, tables: Sequence[Any], shapes: Sequence[Sequence[int]], samples: Samples) -> AnyTable | None:
        """The same where no dimension is two."""
        return cls._on_lines(tables, shapes, samples) or OpenRows.through(tables, shapes, samples)

    @classmethod
    def _on_lines(cls, tables: Sequence[Any], shapes: Sequence[Sequence[int]], samples: Samples) -> OpenTable | None:
        """The same where all entries lie on lines."""
        extents = [samples.size(*map(int, each)) for each in zip(*shapes, strict=True)]
        shape = [extent for extent in extents if extent is not None]
        if len(shape) < len(extents):
            return None
        dimensions = tuple(d for d, extent in enumerate(shape) if isinstance(extent, Polynomial))
        grids = [
            np.moveaxis(np.asarray(table).reshape(list(map(int, each))), dimensions, range(len(dimensions)))
            for table, each in zip(tables, shapes, strict=True)
        ]
        outer = [grid.shape[: len(dimensions)] for grid in grids]
        values = np.concatenate([grid.reshape(int(np.prod(o)), -1) for grid, o in zip(grids, outer, strict=True)])
        # What is linear in each index is known from two of them. A few entries more tell nearly all other tables apart.
        few = [[tuple(sorted({0, 1, n // 2, n - 1} & set(range(n)))) for n in each] for each in outer]
        corners = np.concatenate([
            grid[np.ix_(*places)].reshape(math.prod(map(len, places)), -1)
            for grid, places in zip(grids, few, strict=True)
        ])  # fmt: skip
        alone = [(-1, -1), *((-1, d) for d in range(len(dimensions)))]
        sizes = [(e, -1) for e in range(len(samples.sizes[0]))]
        products = [(e, d) for e, _ in sizes for d in range(len(dimensions))]
        for features in (alone, alone + sizes, alone + sizes + products):
            if len(values) <= len(features):
                continue
            places = zip(samples.sizes, few, strict=True)
            matrix = np.concatenate([_features_at_few(tuple(s), tuple(o), tuple(features)) for s, o in places])
            found = np.rint(np.linalg.lstsq(matrix, corners, rcond=None)[0]).astype(np.int64)
            if not np.array_equal(matrix @ found, corners):
                continue
            matrix = np.concatenate([_features(s, o, features) for s, o in zip(samples.sizes, outer, strict=True)])
            if np.array_equal(matrix @ found, values):
                return cls(tuple(shape), dimensions, tuple(features), found)
        return None

    @classmethod
    def of_lengths(cls, tables: Sequence[Any], samples: Samples) -> AnyTable | None:
        """The same where only the lengths are known: a row, rows of columns, or columns of rows."""
        shapes: list[Sequence[tuple[int, ...]]] = [[(len(table),) for table in tables]]
        for extent in range(len(samples.sizes[0])):
            rows = [each[extent] for each in samples.sizes]
            if all(count and len(table) % count == 0 for table, count in zip(tables, rows, strict=True)):
                shapes.append([(count, len(table) // count) for table, count in zip(tables, rows, strict=True)])
                shapes.append([(len(table) // count, count) for table, count in zip(tables, rows, strict=True)])
        whole = (cls._in_one_piece(tables, shape, samples) for shape in shapes)
        parts = (_in_parts(shape, samples) for shape in shapes)
        split = (cls.through(tables, shape, samples) for shape in parts if shape is not None)
        return next((table for table in itertools.chain(whole, split) if table is not None), None)


class OpenRows(NamedTuple):
    """A table with one open extent, along which the first few rows and the last few are different from the others.

    The others may repeat: then each part of a round of them has its own dimension, behind that of the rounds.

    Attributes:
        parts: the first rows, the others, the last rows.
        axis: the dimension of the rows.
        dimensions: how many the table has.

    Example:
        >>> samples = Samples([(4,), (5,), (6,)])
        >>> tables = [[9, *(10 * k + 3 * r for k in range(n) for r in range(2))] for n in (4, 5, 6)]
        >>> table = OpenTable.through(tables, [(len(table),) for table in tables], samples)
        >>> [part.shape for part in table.parts]
        [(1,), (Polynomial(coefficients=(0, 1)), 2)]
        >>> table.at([3]).tolist()
        [9, 0, 3, 10, 13, 20, 23]
    """

    parts: tuple[OpenTable, ...]
    axis: int
    dimensions: int

    def at(self, sizes: Sequence[int]) -> Any:
        """The table for some extents, flat."""
        grids = []
        for part in self.parts:
            shape = [bound(extent, sizes) for extent in part.shape]
            rows = math.prod(shape[self.axis : self.axis + 1 + len(shape) - self.dimensions])
            closed = shape[self.axis + 1 + len(shape) - self.dimensions :]
            grids.append(part.at(sizes).reshape([*shape[: self.axis], rows, *closed]))
        return np.concatenate(grids, axis=self.axis).ravel()

    @classmethod
    def through(cls, tables: Sequence[Any], shapes: Sequence[Sequence[int]], samples: Samples) -> OpenRows | None:
        """The table that is these, in these shapes, at the samples; None if there is none."""
        columns = list(zip(*shapes, strict=True))
        axes = [d for d, column in enumerate(columns) if len(set(map(int, column))) > 1]
        if len(axes) != 1:
            return None
        axis = axes[0]
        extent = samples.size(*map(int, columns[axis]))
        factors = extent.coefficients[1:] if isinstance(extent, Polynomial) else ()
        grids = [
            np.moveaxis(np.asarray(table).reshape(list(map(int, shape))), axis, 0)
            for table, shape in zip(tables, shapes, strict=True)
        ]
        for period in dict.fromkeys((1, sum(factors))):  # of several extents, one has a factor
            if period < 1:
                continue
            ends = {_longest_line(grid.reshape(len(grid), -1), period) for grid in grids}
            made = cls._of_rows(grids, axis, *ends.pop(), period, samples) if len(ends) == 1 else None
            if made is not None:
                return made
        return None

    @classmethod
    def _of_rows(
        cls, grids: Sequence[Any], axis: int, first: int, last: int, period: int, samples: Samples
    ) -> OpenRows | None:
        """The table of these rows, of which so many stand before and behind the others."""
        parts = []
        for start, end in ((0, first), (first, -last or None), (-last, None) if last else (0, 0)):
            rows = [grid[start:end] for grid in grids]
            if not rows[0].size:
                continue
            if start == first and end != first and period > 1:
                if any(len(each) % period for each in rows):
                    return None
                rows = [each.reshape(-1, period, *each.shape[1:]) for each in rows]
                moved = [np.moveaxis(each, (0, 1), (axis, axis + 1)) for each in rows]
            else:
                moved = [np.moveaxis(each, 0, axis) for each in rows]
            part = OpenTable._on_lines([each.ravel() for each in moved], [each.shape for each in moved], samples)
            if part is None:
                return None
            parts.append(part)
        return cls(tuple(parts), axis, grids[0].ndim)


def _in_parts(shapes: Sequence[Sequence[int]], samples: Samples) -> list[tuple[int, ...]] | None:
    """Shapes in which so many times an extent are two dimensions; None if there are none.

    >>> _in_parts([(2, 15), (2, 18), (2, 21)], Samples([(4,), (5,), (6,)]))
    [(2, 3, 5), (2, 3, 6), (2, 3, 7)]
    """
    for axis, column in enumerate(zip(*shapes, strict=True)):
        extent = samples.size(*map(int, column))
        if not isinstance(extent, Polynomial):
            continue
        count = math.gcd(*extent.coefficients)
        if count > 1:
            return [(*each[:axis], count, int(each[axis]) // count, *each[axis + 1 :]) for each in shapes]
    return None


def _longest_line(grid: Any, period: int) -> tuple[int, int]:
    """How many rows stand in front of the longest run of rows that lie on lines, and how many behind it.

    With a period, each of so many rows lies on a line with those behind it at that distance; the run has whole rounds.
    """
    steps = grid[period:] - grid[:-period]
    straight = (steps[period:] == steps[:-period]).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], straight.view(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    longest = int(np.argmax(edges[1::2] - edges[::2]))
    start, end = int(edges[2 * longest]), int(edges[2 * longest + 1]) + 2 * period
    return start, len(grid) - end + (end - start) % period


#: Tables with open extents.
AnyTable = OpenTable | OpenRows


def _features(sizes: Sequence[int], outer: Sequence[int], features: Sequence[tuple[int, int]]) -> Any:
    """The features of the entries of a table, for all indices of its open dimensions."""
    return _features_at(sizes, [range(extent) for extent in outer], features)


def _features_at(sizes: Sequence[int], places: Sequence[Sequence[int]], features: Sequence[tuple[int, int]]) -> Any:
    """The same for some indices of each open dimension, in all combinations."""
    grid = np.meshgrid(*(np.array(each, dtype=np.int64) for each in places), indexing="ij")
    index = np.reshape(grid, (len(places), math.prod(map(len, places))))
    ones = np.ones(index.shape[1], dtype=np.int64)
    return np.stack([(sizes[e] if e >= 0 else 1) * (index[d] if d >= 0 else ones) for e, d in features], axis=1)


@functools.lru_cache(maxsize=64)
def _features_at_few(
    sizes: tuple[int, ...], places: tuple[tuple[int, ...], ...], features: tuple[tuple[int, int], ...]
) -> Any:
    """The same for a few indices, which are those of most tables of a program."""
    return _features_at(sizes, places, features)


def bound(size: Size, sizes: Sequence[int]) -> int:
    """The size with the extents bound."""
    return size.at(sizes) if isinstance(size, Polynomial) else size
