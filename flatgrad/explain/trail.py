"""What becomes of the variables of a program on its way through passes, and what its equations come from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..compiler.program.builder import Indices
from ..compiler.program.made_of import GONE, Rebuilding, Step
from ..compiler.program.program import Program

#: Where variables go that become constants.
CONSTANT = -1


class Trail:
    """The way of a program.

    Args:
        program: where the way begins.
        steps: what has become of it, in order; steps of other programs are left out.

    Attributes:
        program: the one at the end.
        where: per variable of the first program, the variable that it became; or `GONE`, or `CONSTANT`.
        constants: the numbers of those that became constants.

    Example:
        >>> from flatgrad.compiler.program.builder import Group, ProgramBuilder
        >>> from flatgrad.compiler.program.made_of import noting_steps
        >>> from flatgrad.compiler.program.passes import fold_constants, share_common_subexpressions
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> two = f.emit("add", f.constant(1.0), f.constant(1.0))
        >>> program = f.finish([f.emit("mul", f.emit("exp", 0), f.emit("exp", 0)), two])
        >>> with noting_steps() as steps:
        ...     _ = share_common_subexpressions(fold_constants(program))
        >>> trail = Trail(program, steps)
        >>> trail.where.tolist(), trail.constants, trail.sources.tolist()
        ([0, -1, 1, 1, 2], {1: 2.0}, [1, 3])
    """

    def __init__(self, program: Program, steps: Iterable[Step] = ()) -> None:
        self.program: Program = program
        self._inputs = program.inputs
        self.where: Indices = np.arange(program.inputs + len(program))
        self.constants: dict[int, float] = {}
        self._sources: Indices = np.arange(len(program))
        for step in steps:
            # Who changes opcodes, or appends equations, leaves this column where it is.
            if step.before.operands is self.program.operands:
                self._add(step)

    @property
    def sources(self) -> Indices:
        """Per equation at the end, the one at the beginning that it was, or was inserted on the way to; -1 for none."""
        appended = len(self.program) - len(self._sources)
        return np.append(self._sources, np.full(appended, -1)) if appended else self._sources

    def of(self, variable: int) -> int:
        """Where a variable went; -1 for nowhere, and for constants."""
        return max(int(self.where[variable]), -1) if variable >= 0 else -1

    def equation(self, equation: int) -> int:
        """The equation that an equation became; -1 if it became none."""
        return max(self.of(self._inputs + equation) - self.program.inputs, -1) if equation >= 0 else -1

    def equations(self, equations: Indices) -> Indices:
        """The equations that equations became; -1 for those that became none, and for -1."""
        places = self.where[self._inputs + np.maximum(equations, -self._inputs)] if len(self.where) else equations
        result: Indices = np.where(equations >= 0, np.maximum(places - self.program.inputs, -1), -1)
        return result

    def go_on(self, other: Trail) -> None:
        """Go on where another way begins: at a program with the equations of the one at the end of this one."""
        folded = np.flatnonzero(np.isin(self.where, list(other.constants)))
        self.constants |= {k: other.constants[int(self.where[k])] for k in folded.tolist()}
        there = self.where >= 0
        self.where[there] = other.where[self.where[there]]
        self.program = other.program

    def _add(self, step: Step) -> None:
        before, after = step.before, step.after
        sources = self.sources
        if isinstance(step, Rebuilding):
            moves = step.where[np.maximum(self.where, 0)]
            folded = np.flatnonzero((self.where >= 0) & (moves < 0) & (moves != GONE))
            self.constants |= {k: after.constants[~moves[k]] for k in folded.tolist()}
            moves[folded] = CONSTANT
            self.where = np.where(self.where >= 0, moves, self.where)
            self._sources = sources[step.sources]
        else:
            self.where[self.where >= before.inputs] += after.inputs - before.inputs
            self._sources = sources
        self.program = after
