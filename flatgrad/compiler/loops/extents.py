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
