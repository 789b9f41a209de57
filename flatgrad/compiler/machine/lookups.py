"""Look-ups, `where(i == 0, t0, -0.0) + where(i == 1, t1, -0.0) + ...`: comparisons are brought into their folds.

The comparisons are a statement of their own where several look-ups, or a gradient, read them. A fold that has them can
be told to select one term (`StatementWriter`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ...runtime import primitives as p
from ..loops.array_program import ArrayProgram
from ..loops.extents import BoundNumber, fixed
from ..loops.grammar import Apply, Fold, Item, Loops, Read, Repeat, Segment, Statement, members, packed


class _Comparison(NamedTuple):
    """A statement `integer == number`, with the numbers 0.0, 1.0, ... along its last dimension.

    Attributes:
        base, lanes, extent: its first address, how many there are, and how many numbers.
        integers, step: the address of the first integer, and the way to the next one.
        numbers: the address of 0.0.
    """

    base: int
    lanes: int
    extent: int
    integers: int
    step: int
    numbers: int


def counts(program: Loops, read: Read, dimension: int, extent: int) -> bool:
    """Whether an access reads the constants 0.0, 1.0, 2.0, ... along a dimension, whatever the other indices are."""
    if read.table is not None or read.bends:
        return False
    base, strides = fixed(read.base), list(map(fixed, read.strides))
    if strides[dimension] != 1 or any(stride for k, stride in enumerate(strides) if k != dimension):
        return False
    if not program.inputs <= base <= program.first_truth - extent:
        return False
    constants = program.constants[base - program.inputs :][:extent]
    return not any(isinstance(each, BoundNumber) for each in constants) and constants == list(range(extent))


def with_comparisons(program: ArrayProgram) -> ArrayProgram:
    """The program with comparisons in the folds that select by them; only at sizes that are fixed."""
    found = [_comparison(program, item) for item in members(program.statements) if isinstance(item, Statement)]
    comparisons = sorted(each for each in found if each is not None)
    if not comparisons:
        return program

    def changed(item: Item) -> Item:
        if isinstance(item, Repeat):
            starts = tuple(tuple(_changed(each, comparisons) for each in group) for group in item.starts)
            return Repeat(tuple(_changed(each, comparisons) for each in item.statements), starts)
        return _changed(item, comparisons) if isinstance(item, Statement) else item

    return replace(program, statements=list(map(changed, program.statements)))


def _are_fixed(read: Read) -> bool:
    return read.table is None and not read.bends and all(type(n) is int for n in (read.base, *read.strides))


def _comparison(program: ArrayProgram, statement: Statement) -> _Comparison | None:
    body, shape = statement.body, statement.shape
    if len(body) != 3 or not shape or not all(type(n) is int for n in (statement.base, *shape)):
        return None
    integers, numbers, equal = body
    if not (isinstance(integers, Read) and isinstance(numbers, Read) and equal == Apply(p.equal, (0, 1))):
        return None
    *rows, extent = map(fixed, shape)
    if not _are_fixed(integers) or not _are_fixed(numbers) or not counts(program, numbers, len(rows), extent):
        return None
    *strides, last = map(fixed, integers.strides)
    lanes = list(map(fixed, packed(tuple(rows)).strides))
    steps = {stride / lane for stride, lane, count in zip(strides, lanes, rows, strict=True) if count > 1}
    step = int(steps.pop()) if steps else 0
    if last or steps or any(s != step * lane for s, lane, n in zip(strides, lanes, rows, strict=True) if n > 1):
        return None
    return _Comparison(fixed(statement.base), statement.lanes, extent, fixed(integers.base), step, fixed(numbers.base))


def _changed(statement: Statement, comparisons: Sequence[_Comparison]) -> Statement:
    def fold(node: Any) -> Any:
        if not isinstance(node, Fold) or node.primitive is not p.add:
            return node
        return Fold(node.primitive, tuple(_segment(each, len(statement.shape), comparisons) for each in node.segments))

    return replace(statement, body=tuple(map(fold, statement.body)))


def _segment(segment: Segment, rank: int, comparisons: Sequence[_Comparison]) -> Segment:
    """The segment with the comparison in place of the access to its result, if that is what it selects by."""
    last = segment.body[-1]
    if not isinstance(last, Apply) or last.primitive is not p.where or len(segment.extents) != 1:
        return segment
    place = last.operands[0]
    read = segment.body[place]
    if not isinstance(read, Read) or not _are_fixed(read):
        return segment
    base = fixed(read.base)
    k = bisect_right(comparisons, base, key=lambda each: each.base) - 1
    if k < 0 or base >= comparisons[k].base + comparisons[k].lanes:
        return segment
    first, _, extent, integers, step, numbers = comparisons[k]
    *strides, along = map(fixed, read.strides)
    if segment.extents != (extent,) or along != 1 or any(n % extent for n in (base - first, *strides)):
        return segment
    compared = (
        Read(integers + step * ((base - first) // extent), (*(step * (n // extent) for n in strides), 0)),
        Read(numbers, (*[0] * rank, 1)),
        Apply(p.equal, (place, place + 1)),
    )
    rest = [
        Apply(node.primitive, tuple(n if n < place else n + 2 for n in node.operands))
        if isinstance(node, Apply) else node
        for node in segment.body
    ]  # fmt: skip
    return Segment(segment.extents, (*rest[:place], *compared, *rest[place + 1 :]))
