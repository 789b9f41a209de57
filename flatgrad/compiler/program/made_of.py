"""What programs are made of: who makes a program of another one notes it here, for those who follow equations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np

from .notes import Notes
from .program import Program

_Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
#: Where variables go that nothing reads.
GONE: Final = -1 << 62


class Rebuilding(NamedTuple):
    """How a pass made a program of another one.

    Attributes:
        before, after: the two programs.
        where: per variable of the first one, the operand of the second one that it became, or `GONE`.
        sources: per equation of the second one, that of the first one that it is, or was inserted on the way to.
    """

    before: Program
    after: Program
    where: _Numbers
    sources: _Numbers


class Differentiation(NamedTuple):
    """How the equations of a derivative were appended to a program.

    Attributes:
        before, after: the primal program, and that with the derivative, which may have more inputs and begins with the
            same equations.
        how: by a sweep back, by a sweep forward along a direction, or row by row or column by column of a Jacobian.
        wrt: the inputs with respect to which it was differentiated.
        outputs: the operands that were differentiated.
        seeded: whether the gradients of these are inputs.
    """

    before: Program
    after: Program
    how: Literal["gradient", "tangent", "rows", "columns"]
    wrt: Sequence[int]
    outputs: Sequence[int]
    seeded: bool = False


Step: TypeAlias = Rebuilding | Differentiation

_notes = Notes("steps", list[Step])


def noted() -> list[Step] | None:
    """Where steps are noted; None where nobody wants to know."""
    return _notes.kept


def noting_steps() -> AbstractContextManager[list[Step]]:
    """Note how programs are made of other ones, in order.

    Example:
        >>> from flatgrad.compiler.program.builder import Group, ProgramBuilder
        >>> from flatgrad.compiler.program.passes import remove_dead_code
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> f.emit("exp", 0)
        1
        >>> with noting_steps() as steps:
        ...     _ = remove_dead_code(f.finish([f.emit("mul", 0, 0)]))
        >>> [(step.where.tolist() == [0, GONE, 1], step.sources.tolist()) for step in steps]
        [(True, [1])]
    """
    return _notes.asked()
