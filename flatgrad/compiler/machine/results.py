"""Results that statements write to where the caller gets them; all others are copied there from memory.

A large result would otherwise be written twice. A statement does so if nothing but the results reads it, and if its
lanes are at a stride in one group of results, as the gradients of one parameter for each row of a batch are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ..loops.array_program import ArrayProgram
from ..loops.buffers import span
from ..loops.extents import Bound, fixed
from ..loops.grammar import Block, Read, Statement, members

#: Groups of at least so many results are large: to copy others takes less than a microsecond.
LARGE: Final = 2_048


class Direct(NamedTuple):
    """Where a statement writes its lanes: the group of results, and their places in it as an access."""

    group: int
    target: Read


def direct_results(
    program: ArrayProgram, pieces: Sequence[Sequence[int]], is_open: bool, least: int | None = None
) -> dict[int, Direct]:
    """The statements that write to results, by their bases.

    Args:
        program: the array program.
        pieces: where extents are open, the lengths of what each group of results is put together from; such a piece
            is written by statements as a whole, or else copied as a whole.
        is_open: whether extents are open; then strides are marked as others at other extents.
        least: the size of the smallest group that is not copied, if not `LARGE`.
    """
    large = [k for k, group in enumerate(program.output_groups) if group.size >= (LARGE if least is None else least)]
    if not large:
        return {}
    ends = np.cumsum([group.size for group in program.output_groups])
    order = np.argsort(program.outputs, kind="stable")
    ordered, is_read, found = program.outputs[order], _is_read(program), {}
    for statement in program.statements:
        base = fixed(statement.base)
        if not isinstance(statement, Statement) or statement.kind != "f" or statement.is_ragged or is_read(statement):
            continue
        low, high = np.searchsorted(ordered, [base, base + statement.lanes])
        group = int(np.searchsorted(ends, order[low], side="right")) if low < high else -1
        if group not in large or not np.array_equal(ordered[low:high], np.arange(base, base + statement.lanes)):
            continue
        target = _strided(order[low:high] - (ends[group] - program.output_groups[group].size), statement, is_open)
        if target is not None and int(order[low:high].max()) < ends[group]:
            found[base] = Direct(group, target)
    return _whole_pieces(program, found, pieces) if pieces else found


def _is_read(program: ArrayProgram) -> Any:
    """A function that says whether any statement may read lanes of one."""
    starts, ends = [], []
    for item in members(program.statements):
        if isinstance(item, Block):
            starts += item.reads.tolist()
            ends += (item.reads + 1).tolist()
            continue
        for read, extents in item.reads():
            low, high = span(read, extents)
            starts.append(low)
            ends.append(high + 1)
    first, last = np.sort(np.array(starts)), np.sort(np.array(ends))

    def is_read(statement: Statement) -> bool:
        """Of the ranges that are read, some begin before its end and do not end before its beginning."""
        base = fixed(statement.base)
        return bool(np.searchsorted(first, base + statement.lanes) > np.searchsorted(last, base, side="right"))

    return is_read


def _strided(places: Any, statement: Statement, is_open: bool) -> Read | None:
    """Places of the lanes of a statement as an access; None if they are not at strides."""
    shape = tuple(map(fixed, statement.shape))
    grid = places.reshape(shape)
    first = int(places[0])
    strides: list[int] = []
    for k, extent in enumerate(shape):
        strides.append(int(grid[(0,) * k + (1,) + (0,) * (len(shape) - k - 1)]) - first if extent > 1 else 0)
    expected = np.full((), first, dtype=np.int64)
    for extent, stride in zip(shape, strides, strict=True):
        expected = expected[..., None] + stride * np.arange(extent, dtype=np.int64)
    if not np.array_equal(expected, grid):
        return None
    if is_open:
        strides = [stride if stride in (0, 1) else Bound(stride) for stride in strides]
    return Read(Bound(first) if is_open else first, tuple(strides))


def _whole_pieces(
    program: ArrayProgram, found: dict[int, Direct], pieces: Sequence[Sequence[int]]
) -> dict[int, Direct]:
    """Those statements that write pieces of results as wholes, together."""
    ends = np.cumsum([length for lengths in pieces for length in lengths])
    bases = np.array([fixed(statement.base) for statement in program.statements])
    owners = np.where(
        program.outputs >= program.first_result,
        bases[np.searchsorted(bases, program.outputs, side="right") - 1] if len(bases) else -1,
        -1,
    )
    parts = [set(np.unique(part).tolist()) for part in np.split(owners, ends[:-1])]
    while True:
        partly = set(itertools.chain(*(part for part in parts if not part <= found.keys()))) & found.keys()
        if not partly:
            return found
        found = {base: direct for base, direct in found.items() if base not in partly}
