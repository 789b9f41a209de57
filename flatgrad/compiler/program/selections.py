"""Selections in a traced program: which of them are exact, and which must be ways.

In the interpreter what `a if c else b` selects *is* a or b: no node stands between. What uses it adds to the gradient
of a (or b) itself, at its turn. A program has an equation `select c a b` instead. It computes the same bits where

* each user of the result hands on its own contribution, at its turn. A select with one user does so, because the
  adjoint takes it right behind that user; so a select with several users is copied for each of them. It is not copied
  where a sum of contributions comes to the same: where the selected operand receives from nobody else at the time.
* the sweep goes through what both sides need in an order that does not depend on the truth value, as far as one
  variable receives three contributions or more (two commute). `selection_order.py` has the proof.
* Python would compute the same of plain numbers: where both operands of a product are numbers, the user's `a / b` is a
  division, and not a product. `blamed` looks at that.

A selection that is not proven becomes a guard again: the last guards of a way (`settled`).
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...runtime import primitives as p
from ...runtime.primitives import TABLE
from .builder import ProgramBuilder
from .passes.dead_code import remove_dead_code
from .program import Group, Program
from .rewriter import Rewriter
from .selection_order import proven
from .ways import with_way

_SELECT = p.select.opcode
#: So many times selections are proven, without those that were not, until all are guards.
_ATTEMPTS = 4


def settled(
    program: Program, inputs: Sequence[Any], roots: int | None
) -> tuple[Program, list[tuple[bool, int]]] | None:
    """A traced program whose selections are exact; others are guards.

    Args:
        program: the traced one, in which none is `blamed`.
        inputs: the numbers at hand.
        roots: how many outputs are differentiated, the first ones; None for all.

    Returns:
        The program, and for each new guard its truth value and its site; None if the program cannot be used at all.
    """
    guards: list[tuple[bool, int]] = []
    for attempt in range(_ATTEMPTS):
        copied, unproven = proven(program, roots)
        if not unproven:
            return copied, guards
        if attempt == _ATTEMPTS - 2:
            unproven = {program.inputs + k for k, opcode in enumerate(program.opcodes) if opcode == _SELECT}
        program, more = _pinned(program, sorted(unproven), inputs)
        guards += more
    return None


def is_proven(program: Program, outputs: Sequence[int]) -> bool:
    """Whether a settled program is exact where only some of its outputs, by position, receive a gradient."""
    copied, unproven = proven(replace(program, outputs=[program.outputs[k] for k in outputs]), None)
    return not unproven and len(copied) == len(program)


def has_selections(program: Program) -> bool:
    """Whether there are any."""
    return _SELECT in program.opcodes


def without_selections(program: Program) -> Program:
    """The program as it is compiled: `select` is `where`."""
    if _SELECT in program.opcodes:
        opcodes = np.array(program.opcodes)
        opcodes[opcodes == _SELECT] = p.where.opcode
        program = replace(program)
        program.opcodes = type(program.opcodes)("H", opcodes.tolist())
    return program


def chosen(program: Program, inputs: Sequence[float]) -> Program:
    """The program with what its selections select for some numbers in their place: the interpreter's graph."""
    numbers = program.evaluate_all(inputs)
    rewriter, variable = Rewriter(program), program.inputs
    for opcode, refs in rewriter.equations():
        if opcode == _SELECT:
            condition = program.operands[program.starts[variable - program.inputs]]
            truth = numbers[condition] if condition >= 0 else program.constants[~condition]
            rewriter.replace(refs[1] if truth else refs[2])
        else:
            rewriter.keep(opcode, refs)
        variable += 1
    return rewriter.finish()


def results_of_way(stages: Any, inputs: list[float]) -> list[float] | None:
    """The results of a function with gradients, with what it selects at these numbers in place of selections.

    None where nothing is selected, and where no gradient is computed.

    Raises:
        FlatgradError: what the interpreter raises.
    """
    if not (stages.is_joint and has_selections(stages.traced)):
        return None
    program = chosen(stages.without_faults(stages.traced), inputs)
    way = type(stages)(program, stages.title, stages.options, stages.wrt, stages.gradients, stages.with_value)
    for repeat in way.replays().values():
        repeat(inputs)
    results: list[float] = way.joint.evaluate(inputs)
    return results


def never_nan(joint: Program, gradients: int) -> Program:
    """A program with gradients that raises where one of these is NaN.

    What is not selected receives -0.0, which its partials hand on as a zero: that changes no sum, as gradients are
    zeros without sign in the end. But an infinite partial makes NaN of it, and that reaches a gradient, or a selection
    that stops it. The interpreter would not have been there, so the results are computed without selections then.

    Args:
        joint: the joint program; it is changed.
        gradients: how many outputs, at the end, are gradients.
    """
    if not _may_be_nan(joint):
        return joint
    builder, outputs = ProgramBuilder.behind(joint), list(joint.outputs)
    for k in range(len(outputs) - gradients, len(outputs)):
        gradient = outputs[k]
        if gradient >= 0:
            nan = builder.append(p.logical_not.opcode, (builder.append(p.equal.opcode, (gradient, gradient)),))
            target = joint.adjoint_of[gradient - joint.inputs] if gradient >= joint.inputs else -1
            outputs[k] = builder.append(p.checked.opcode, (gradient, nan), -1, target)
    return builder.finish(outputs)


def _may_be_nan(joint: Program) -> bool:
    """Whether anything behind a selection has a partial that need not be finite."""
    first, starts, operands, opcodes = joint.inputs, joint.starts, joint.operands, joint.opcodes
    behind: set[int] = set()
    for k in range(joint.primal - 1, -1, -1):
        refs = operands[starts[k] : starts[k + 1]]
        if opcodes[k] == _SELECT:
            behind.update(refs[1:])
        elif first + k in behind:
            row = TABLE[opcodes[k]]
            constant = [joint.constants[~ref] for ref in refs if ref < 0]
            if row is not p.add and not (row is p.mul and any(map(math.isfinite, constant))):
                return True
            behind.update(refs)
    return False


def _pinned(program: Program, selects: Sequence[int], inputs: Sequence[Any]) -> tuple[Program, list[tuple[bool, int]]]:
    """The program without some selections, which have guards instead, and the truth values of these."""
    first, starts, operands = program.inputs, program.starts, program.operands
    conditions = [operands[starts[s - first]] for s in selects]
    wanted = remove_dead_code(replace(program, outputs=conditions, output_groups=[Group("c", len(conditions), False)]))
    truths = dict(zip(selects, map(bool, wanted.evaluate(inputs)), strict=True))
    rewriter = Rewriter(program)
    variable = first
    for opcode, refs in rewriter.equations():
        if variable in truths:
            rewriter.replace(refs[1] if truths[variable] else refs[2])
        else:
            rewriter.keep(opcode, refs)
        variable += 1
    new = rewriter.finish()
    builder = ProgramBuilder.behind(new)
    last = [k for k, opcode in enumerate(new.opcodes) if opcode == p.guard.opcode]
    guard = new.inputs + last[-1] if last else builder.constant(True)
    guards, seen = [], set()
    for s, condition in zip(selects, conditions, strict=True):
        if condition not in seen:
            seen.add(condition)
            site, holds = program.sites[s - first], rewriter.renamed(condition)
            if not truths[s]:
                holds = builder.append(p.logical_not.opcode, (holds,), site)
            guard = builder.append(p.guard.opcode, (guard, holds), site)
            guards.append((truths[s], site))
    return builder.finish(with_way(builder, new.outputs, guard), primal=len(builder)), guards


def behind_users(
    program: Program, outputs: Sequence[int], receiving: Sequence[array[int]], order: Sequence[int]
) -> list[int]:
    """The order in which selects with one user hand on what they receive at the turn of that user.

    An operand that is selected is an operand of the user itself.
    """
    inputs, end = program.inputs, program.inputs + len(program)
    selects = {variable for variable in order if program.opcodes[variable - inputs] == _SELECT}
    reads = {variable: [each[variable - inputs] for each in receiving] for variable in order}
    reads = {variable: [each for each in operands if each < end] for variable, operands in reads.items()}
    counts = Counter(operand for operands in (*reads.values(), outputs) for operand in operands if operand in selects)
    moved = {variable for variable, count in counts.items() if count == 1}
    result: list[int] = []

    def place(operands: Sequence[int]) -> None:
        """The selects among these, each behind those that it reads; the first one last, as the sweep is reversed."""
        stack = [(each, False) for each in operands if each in moved]
        while stack:
            variable, done = stack.pop()
            if done:
                result.append(variable)
            else:
                stack.append((variable, True))
                stack += [(each, False) for each in reads[variable] if each in moved]

    for variable in order:
        if variable not in moved:
            place(reads[variable])
            result.append(variable)
    place(outputs)
    return result
