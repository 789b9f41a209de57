"""Ways: the truth values that a run of a function met, in order.

A function that is traced is run with numbers at hand, those of the call that asked for a kernel. Where it asks for the
truth value of a condition (`if`, `while`, `and`, `max`, `sorted`), that is computed of these numbers, and a *guard* is
recorded: an equation that says whether all conditions so far have the truth values that they had. The first output of
the program is `checked` by the last guard. So a kernel notices that its numbers would go another way, as it notices a
fault; `turn_of` then finds the guard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple, Protocol

import numpy as np

from ...runtime import primitives as p
from ...runtime.errors import FlatgradError
from ...runtime.sites import Location
from ...runtime.wording import count_of
from .builder import ProgramBuilder
from .passes.dead_code import remove_dead_code
from .program import Group, Program
from .rewriter import Rewriter


class Appends(Protocol):
    """What equations are appended to."""

    def append(self, opcode: int, refs: Sequence[int], site: int = -1, /) -> int: ...


class TurnError(FlatgradError):
    """A call of a kernel whose numbers go another way: its guard of this number fails, and none before it."""

    def __init__(self, guard: int) -> None:
        super().__init__(f"guard {guard} does not hold")
        self.guard = guard


class Way(NamedTuple):
    """The truth values that a run of a function met, in order.

    Attributes:
        truths: one per guard.
        lines: where the function asked for them.

    Example:
        >>> line = Location("model.py", 3)
        >>> print(Way((True, True, False), (line, line, line)))
        model.py:3: True 2 times, then False
    """

    truths: tuple[bool, ...] = ()
    lines: tuple[Location | None, ...] = ()

    def __str__(self) -> str:
        if not self.truths:
            return "no condition"
        parts = []
        for line, pairs in groupby(zip(self.lines, self.truths, strict=True), lambda pair: pair[0]):
            runs = [(truth, len(list(each))) for truth, each in groupby(truth for _, truth in pairs)]
            texts = [f"{truth} {count_of(n, 'time')}" if n > 1 else str(truth) for truth, n in runs]
            parts.append(f"{line or 'somewhere'}: {', then '.join(texts)}")
        return "\n".join(parts)


def with_way(builder: Appends, outputs: Sequence[int], way: int) -> list[int]:
    """The outputs of a program, of which the first one is checked by the last guard."""
    if not outputs:
        return []
    other = builder.append(p.logical_not.opcode, (way,))
    return [builder.append(p.checked.opcode, (outputs[0], other)), *outputs[1:]]


def checked_without_value(joint: Program, value: int) -> Program:
    """A gradient's program that does not return the value: its first output is checked by the guards of the value."""
    index = value - joint.inputs
    if index < 0 or p.guard.opcode not in joint.opcodes or joint.opcodes[index] != p.checked.opcode:
        return joint
    other = joint.operands[joint.starts[index] + 1]
    builder = ProgramBuilder.behind(joint)
    first, *rest = joint.outputs
    target = joint.adjoint_of[first - joint.inputs] if first >= joint.inputs else -1
    return builder.finish([builder.append(p.checked.opcode, (first, other), -1, target), *rest])


def without_guards(program: Program) -> Program:
    """The program as it is compiled: guards are conjunctions.

    Example:
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> condition = f.emit("less", 0, f.constant(1.0))
        >>> way = f.append(p.guard.opcode, [f.constant(True), condition])
        >>> print(without_guards(f.finish(with_way(f, [0], way))))
        program f(x):
            v1 = less x 1.0
            v2 = logical_not v1
            v3 = checked x v2
            return v3
    """
    if p.guard.opcode not in program.opcodes:
        return program
    rewriter = Rewriter(program)
    for opcode, refs in rewriter.equations():
        if opcode != p.guard.opcode:
            rewriter.keep(opcode, refs)
        elif refs[0] < 0:  # the first one
            rewriter.replace(refs[1])
        else:
            rewriter.keep(p.logical_and.opcode, refs)
    return rewriter.finish()


def guards_of(program: Program) -> Program:
    """What the guards of a traced program need, and nothing else: a program whose outputs are the guards."""
    guards = np.flatnonzero(np.array(program.opcodes) == p.guard.opcode) + program.inputs
    groups = [Group("guards", len(guards), False)]
    return remove_dead_code(replace(program, outputs=guards.tolist(), output_groups=groups))


def turn_of(guards: Program, inputs: Sequence[float]) -> int | None:
    """The first guard that fails; None if all hold.

    Args:
        guards: what `guards_of` returned.
        inputs: of that program.

    Raises:
        FlatgradError: what an operation raises that a guard needs, if no guard before it fails.

    Example:
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> condition = f.emit("less", 0, f.constant(1.0))
        >>> way = f.append(p.guard.opcode, [f.constant(True), condition])
        >>> guards = guards_of(f.finish(with_way(f, [0], way)))
        >>> turn_of(guards, [0.5]), turn_of(guards, [1.5])
        (None, 0)
    """
    numbers, count = list(inputs), 0
    for equation in guards.equations():
        numbers.append(guards.result(equation, numbers))
        if equation.primitive is p.guard:
            if not numbers[-1]:
                return count
            count += 1
    return None
