"""Sizes that are bound at the call: extents, bases and strides that depend on one number."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...runtime.errors import ProgramError


class Extent(NamedTuple):
    """The one size of an array program that is bound at the call: the rows of a batch, the length of a sequence."""

    name: str


class Linear(NamedTuple):
    """`constant + factor * extent`.

    Example:
        >>> Linear(3, 2).at(10)
        23
    """

    constant: int
    factor: int

    def at(self, size: int) -> int:
        """The number for a size."""
        return self.constant + self.factor * size


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


#: An integer, or one that depends on the extent.
Size = int | Linear


def fixed(size: Size) -> int:
    """The size, which must not depend on an extent.

    Raises:
        ProgramError: if it does.
    """
    if isinstance(size, Linear):
        raise ProgramError("this array program has an extent that is not bound; call `bind(size)` first")
    return size


def bound(size: Size, extent: int) -> int:
    """The size with the extent bound."""
    return size.at(extent) if isinstance(size, Linear) else size


def through(a: Any, b: Any, at_a: int, at_b: int) -> Size | None:
    """The line through two integers seen at two extents, or None if it is not one with integer coefficients.

    >>> through(7, 11, 2, 4), through(5, 5, 2, 4), through(1, 2, 2, 4)
    (Linear(constant=3, factor=2), 5, None)
    """
    if a == b:
        return int(a)
    factor, rest = divmod(b - a, at_b - at_a)
    return None if rest else Linear(int(a - factor * at_a), int(factor))
