"""A kernel's scalar program again, with the origin of each equation.

Whoever makes a program of another one can note how (`made_of`). So the stages are gone through once more, and what was
noted tells, after any number of passes, which equation each of the new ones came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..compiler.program.adjoint import adjoint
from ..compiler.program.builder import Indices, ProgramBuilder
from ..compiler.program.made_of import Step, noting_steps
from ..compiler.program.passes.constants import fold_constants
from ..compiler.program.program import Program
from ..compiler.program.selections import without_selections
from ..compiler.stage import renewed
from ..compiler.stages import Stages
from ..runtime.primitives import TABLE, checked, select, where
from .derivatives import Derived, derived, differentiation_of
from .rules import Adjoint, Making, origins
from .trail import Trail


@dataclass
class Origin:
    """A joint program, and where its equations come from.

    Attributes:
        stages: those of the kernel again, with this program as the joint one.
        joint: the program, with the user's lines.
        traced: per equation, the one of the traced program that it is or belongs to; -1 for none.
        primal: the primal program behind the passes before the adjoint; of a training step, the loss.
        made: per equation how the adjoint made it; None if it did not.
        names: of equations of the adjoint, the equation here that is the primal one whose rule made it; -1 for none.
        targets: of equations of the adjoint, the variable here that receives something; -1 if it is gone, or for none.
        gradients: per variable of the joint program, the variable that is its gradient.
        constants: per variable, the gradient where that is a constant.
        derived: per equation of a derivative that was spliced into the traced program, how it was made.
    """

    stages: Stages
    joint: Program
    traced: list[int]
    primal: Program
    made: Making
    names: list[int]
    targets: list[int]
    gradients: dict[int, int]
    constants: dict[int, float]
    derived: dict[int, Derived]


class _Differentiated(NamedTuple):
    """The adjoint of a kernel's program.

    Attributes:
        primal, raw: the program that was differentiated, and the joint program that this gave.
        sweep: where the equations of that come from.
        equations: per equation of the primal program, the one of the traced program that it is or belongs to.
        after: what became of the joint program.
        sources: per equation of the joint program at the end, the one of that which it is; -1 for none.
    """

    primal: Program
    raw: Program
    sweep: Adjoint
    equations: Indices
    after: Trail
    sources: Indices


def with_origins(stages: Stages) -> Origin:
    """The joint program of a kernel's stages, with the origin of each equation."""
    again: Stages = renewed(stages)
    traced = again.traced
    with noting_steps() as steps:
        joint = again.joint
    whole = Trail(traced, steps)
    found = _of_joint(traced, steps) or _of_step(traced, whole)
    of_traced = whole.sources.copy()
    made, names, targets = Making.none(len(joint)), np.full(len(joint), -1), np.full(len(joint), -1)
    gradients, constants = dict[int, int](), dict[int, float]()
    if found is not None:
        raw, sweep, after = found.raw, found.sweep, found.after
        shift = raw.inputs - found.primal.inputs
        made = sweep.made.of(np.where(found.sources < len(sweep.made), found.sources, -1))
        by_rule = made.equations >= 0
        names[by_rule] = after.equations(made.equations[by_rule])
        of_traced[by_rule] = found.equations[made.equations[by_rule]]
        receives = made.targets >= 0
        received = made.targets[receives]
        received = np.where(received < found.primal.inputs, received, received + shift)
        targets[receives] = np.maximum(after.where[received], -1)
        for variable, gradient in sweep.gradients.items():
            place = after.of(variable if variable < found.primal.inputs else variable + shift)
            if place < 0:
                continue
            if gradient < 0:
                constants[place] = raw.constants[~gradient]
            elif gradient in after.constants:
                constants[place] = after.constants[gradient]
            elif after.of(gradient) >= 0:
                gradients[place] = after.of(gradient)
    derived_ = {e: each for e, each in _derived(again, whole).items() if not made.hows[e]}
    if traced.update >= 0 and found is not None:  # derivatives in the loss; what lies behind that is its gradient
        in_loss = whole.sources < traced.primal
        derived_ = {e: each for e, each in derived_.items() if in_loss[e]}
    for e, known in derived_.items():
        names[e] = known.equation
    primal = again.primal if found is None else found.primal
    columns = of_traced.tolist(), primal, made, names.tolist(), targets.tolist()
    return Origin(again, joint, *columns, gradients, constants, derived_)


def _of_joint(traced: Program, steps: Sequence[Step]) -> _Differentiated | None:
    """The adjoint of a traced program, if there is one among what was noted."""
    found = differentiation_of(traced, steps)
    if found is None:
        return None
    step, before, after = found
    sweep = origins(step.before, step.after, step.wrt, step.seeded, step.outputs)
    return _Differentiated(step.before, step.after, sweep, before.sources, after, after.sources)


def _derived(stages: Stages, whole: Trail) -> dict[int, Derived]:
    """How the equations of derivatives were made that are in the traced program, with those of the joint program."""
    known = derived(stages.traced, stages.spliced)
    result = {}
    for e, number in enumerate(whole.sources.tolist() if known else ()):
        if number in known:
            each = known[number]
            result[e] = each._replace(equation=whole.equation(each.equation), target=whole.of(each.target))
    return result


def _of_step(traced: Program, whole: Trail) -> _Differentiated | None:
    """The adjoint of the loss of a traced training step.

    The gradient of a step is a part of what is traced: tracing folds constants, and leaves the adjoint as it is
    otherwise. None if the step has another one.
    """
    if traced.update < 0:
        return None
    loss, inputs = traced.outputs[0], traced.inputs
    while loss >= inputs and TABLE[traced.opcodes[loss - inputs]] is checked:
        loss = traced.operands[traced.starts[loss - inputs]]
    builder = ProgramBuilder(
        traced.name, list(traced.input_groups), list(traced.input_names), traced.truth_inputs, traced.numbering
    )
    builder.take(traced, range(traced.primal), np.arange(inputs + len(traced)).__getitem__)
    primal = _with_selections(builder.finish([loss]), traced)
    targets = [variable for variable in traced.adjoint_of[traced.primal : traced.update] if 0 <= variable < inputs]
    wrt = list(dict.fromkeys(reversed(targets)))[::-1]  # the finished gradients are the last ones
    raw = adjoint(primal, wrt)
    with noting_steps() as steps:
        folded = fold_constants(without_selections(raw))
    if _texts(folded, traced.update) != _texts(traced, traced.update):
        return None
    trail = Trail(raw, steps)
    numbers = np.append(trail.sources, -1)  # of those behind it, and of none, -1
    sources = numbers[np.where(whole.sources < len(folded), whole.sources, -1)]
    trail.go_on(whole)
    sweep = origins(primal, raw, wrt, False, primal.outputs)
    return _Differentiated(primal, raw, sweep, np.arange(len(primal)), trail, sources)


def _with_selections(primal: Program, traced: Program) -> Program:
    """The loss with branches that select in place of their `where`, as it was when it was differentiated.

    What a branch does not select receives -0.0, and what `where` does not take receives 0.0.
    """
    opcodes, chosen = primal.opcodes[:], set()
    for e in range(traced.primal, traced.update):
        if TABLE[traced.opcodes[e]] is where:
            condition, *others = traced.operands[traced.starts[e] : traced.starts[e + 1]]
            if any(repr(traced.constants[~o]) == "-0.0" for o in others if o < 0):
                chosen.add(condition)
    for e, opcode in enumerate(primal.opcodes):
        if TABLE[opcode] is where and primal.operands[primal.starts[e]] in chosen:
            opcodes[e] = select.opcode
    return replace(primal, opcodes=opcodes)


def _texts(program: Program, count: int) -> list[Any]:
    """The first equations of a program, with constants as text."""
    texts: list[Any] = []
    for e in range(min(count, len(program))):
        own = program.operands[program.starts[e] : program.starts[e + 1]]
        texts.append((program.opcodes[e], *(o if o >= 0 else repr(program.constants[~o]) for o in own)))
    return texts
