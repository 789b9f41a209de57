"""Rounds: what an array program does again and again becomes a loop over rounds, `Repeat`.

`reroll` makes loops of what is independent. A recurrence is not: each round needs the one before. Its rounds stand one
after the other, as straight-line code or as small statements, and differ only in what they read and write: from round
to round every address moves by the same distance. Columns of addresses show that for all rounds (`units`), so it is
proved before it is used. The method is linear in the size of the program: the distances at which windows of operations
recur are the candidates for the length of a round; of each candidate, differences of columns say where it holds.

`units` finds the rounds, `carried` what they read of one another, and `rewrite` writes the program with its loops.
Within the rounds of a loop, `nest` finds rounds again, with `inner`; what stands around it turn by turn, `bands` puts
together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from ...program.program import Program
from ..array_program import ArrayProgram
from ..grammar import Block, Repeat
from ..reroll import reroll
from .bands import banded
from .nest import nested
from .rewrite import Rewriter
from .triangles import with_triangles
from .units import ROUNDS, Units

__all__ = [
    "ALONE", "FEW", "OTHER_WAYS", "count_statements", "find_rounds", "hides_rounds", "in_other_way", "with_rounds",
]  # fmt: skip

#: So many reads in all rounds, and so many rounds, make a loop worth it where there are more rounds at other sizes, or
#: they are computed again.
FEW: Final = 24, 4
#: How else programs are re-rolled if rounds are computed again: no fold stands alone, or no equation is in a statement.
OTHER_WAYS: Final = {"terms": 1_000_000_000}, {"terms": 1_000_000_000, "lanes": 1_000_000_000}

#: Where so many statements are left, which have so few lanes, rounds are sought among scalars, too; and what has so
#: many lanes remains a statement then.
_MANY, _FEW, ALONE = 24, 16, 8
#: Where so many statements and equations have a text of their own, nests whose inner loops grow are looked for; they
#: are worth it if the text becomes so many times shorter.
_LONG, _SHORTER = 160, 2


def with_rounds(program: Program, rerolled: ArrayProgram, *, fast: bool = False) -> ArrayProgram:
    """The array program of a scalar program, with loops over its rounds.

    Small packs of what happens to be alike, as in a filter with matrices of two rows, can hide rounds: they differ from
    round to round. So where many small statements are left, the program is re-rolled again without them. Where much is
    left after that, nests are sought whose inner loops grow, and then rounds that read a table in any order.

    Args:
        program: a scalar program.
        rerolled: the same re-rolled.
        fast: as for `reroll`.
    """
    alone = cache(lambda: reroll(program, fast=fast, lanes=ALONE))
    found = _with_rounds(rerolled, alone)
    if _length(found) < _LONG:
        return found

    def rolled(part: Program) -> ArrayProgram:
        return _with_rounds(reroll(part, fast=fast), lambda: reroll(part, fast=fast, lanes=ALONE))

    triangular = with_triangles(program, rolled)
    if triangular is not None and _SHORTER * _length(triangular) <= _length(found):
        return triangular
    anywhere = _with_rounds(rerolled, alone, anywhere=True)
    return anywhere if _SHORTER * _length(anywhere) <= _length(found) else found


def _with_rounds(rerolled: ArrayProgram, alone: Callable[[], ArrayProgram], anywhere: bool = False) -> ArrayProgram:
    found = find_rounds(rerolled, anywhere=anywhere)
    if not hides_rounds(rerolled, found):
        return found
    other = find_rounds(alone(), anywhere=anywhere)
    return min(found, other, key=count_statements)


def _length(program: ArrayProgram) -> int:
    """How many statements and equations have a text of their own."""
    blocks = (len(item.program) for item in program.statements if isinstance(item, Block))
    return count_statements(program) + sum(blocks)


def hides_rounds(rerolled: ArrayProgram, found: ArrayProgram) -> bool:
    """Whether there are many small statements, in a program and in the same with its rounds as loops."""
    lanes = [statement.lanes for statement in rerolled.statements if not isinstance(statement, Block)]
    return min(len(lanes), count_statements(found)) >= _MANY and sum(lanes) < _FEW * len(lanes)


def in_other_way(program: Program, way: int, *, fast: bool = False) -> ArrayProgram:
    """The array program of a scalar program, re-rolled in one of `OTHER_WAYS`.

    There is more in its rounds, and less that reads all rounds from outside of them.
    """
    return find_rounds(reroll(program, fast=fast, **OTHER_WAYS[way]), *FEW)


def count_statements(program: ArrayProgram) -> int:
    """How many statements there are, those of rounds as well."""
    return sum(len(item.statements) if isinstance(item, Repeat) else 1 for item in program.statements)


def find_rounds(
    program: ArrayProgram,
    least: int | None = None,
    rounds: int | None = None,
    nest: bool = True,
    anywhere: bool = False,
) -> ArrayProgram:
    """The same program, with loops over its rounds, and loops within these; the program itself where there are none.

    Args:
        program: an array program.
        least: the number of reads in all rounds that make a loop worth it, `READS` by default.
        rounds: the number of rounds that make one, `ROUNDS` by default.
        nest: whether loops within the rounds of a loop are sought.
        anywhere: whether rounds may read what is computed before them in any order, through a table.

    Example:
        >>> from flatgrad.compiler.loops.reroll import reroll
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.program.program import Group
        >>> f = ProgramBuilder("f", [Group("a", 1, True), Group("x", 300, False)])
        >>> h = 1
        >>> for k in range(2, 301):
        ...     h = f.emit("mul", f.emit("add", h, k), 0)
        >>> print(find_rounds(reroll(f.finish([h], [Group("h", 1, True)]))))
        array program f(a, x[300]):
            repeat i:299, with v1[0] = x[0]:
                v1[i + 1] = (v1[i] + x[i + 1]) * a
            return v1[299]
    """
    count = sum(len(s.program) if isinstance(s, Block) else 1 for s in program.statements if not isinstance(s, Repeat))
    if count < (rounds or ROUNDS):
        return program
    units = Units(program)
    spans = units.rounds(least, rounds, anywhere)
    if not spans:
        return program
    if nest:
        rewriter = Rewriter(program, units, spans, nest)
        found = rewriter.run()
        result = nested(found)
        if result is not found:
            return banded(result)
        if not rewriter.apart:
            return found
    return Rewriter(program, units, spans).run()
