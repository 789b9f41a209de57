"""Contractions as matrix products, for fast mode: a fold of products of two strided accesses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..loops.extents import Ragged, fixed
from ..loops.grammar import Read, Segment, is_product


class Operand(NamedTuple):
    """A view of memory."""

    base: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Product(NamedTuple):
    """`out = left @ right`, where `swapped` says that the lanes of `right` come first in the result."""

    left: Operand
    right: Operand
    rows: int
    columns: int
    swapped: bool


def contraction_of(segment: Segment, lanes: Sequence[int]) -> Product | None:
    """The matrix product that a segment is, or None.

    It is one if each dimension of the lanes moves one of the two accesses, those of each lie side by side, and all
    terms are one dimension.

    Args:
        segment: of a fold of additions.
        lanes: the extents of the lanes.
    """
    if not is_product(segment) or len(segment.extents) != 1:
        return None
    a, b = segment.body[:2]
    assert isinstance(a, Read)
    assert isinstance(b, Read)
    if a.table is not None or b.table is not None or a.bends or b.bends or isinstance(segment.extents[0], Ragged):
        return None
    first, second = _strides(a), _strides(b)
    if first[-1] < 0 or (first[-1] == 0 and second[-1] < 0):  # the order of terms is free: go upwards
        count = fixed(segment.extents[0])
        a, b = (
            Read(fixed(r.base) + (count - 1) * s[-1], (*r.strides[:-1], -s[-1])) for r, s in ((a, first), (b, second))
        )
        first, second = _strides(a), _strides(b)
    owner = [0 if x and not y else 1 if y and not x else -1 for x, y in zip(first[:-1], second[:-1], strict=True)]
    if -1 in owner or owner != sorted(owner, reverse=owner[:1] == [1]):
        return None
    count = fixed(segment.extents[0])
    left = _matrix(a, first, [k for k, which in enumerate(owner) if which == 0], lanes, count)
    right = _matrix(b, second, [k for k, which in enumerate(owner) if which == 1], lanes, count)
    if left is None or right is None:
        return None
    return Product(left, _transposed(right), left.shape[0], right.shape[0], owner[:1] == [1])


def _strides(read: Read) -> list[int]:
    return [fixed(stride) for stride in read.strides]


def _matrix(read: Read, strides: list[int], axes: list[int], lanes: Sequence[int], count: int) -> Operand | None:
    """An access as a matrix of its lanes and the terms; None if its lanes are not one dimension."""
    size, step = 1, 0
    for axis in reversed(axes):
        if size == 1:
            step = strides[axis]
        elif strides[axis] != step * size:
            return None
        size *= lanes[axis]
    return Operand(fixed(read.base), (size, count), (step, strides[-1]))


def _transposed(operand: Operand) -> Operand:
    return Operand(operand.base, operand.shape[::-1], operand.strides[::-1])
