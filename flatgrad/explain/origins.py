"""A kernel's scalar program again, with the origin of each equation.

Every function that makes a program of another one keeps the sites of equations. So a program whose equations all have a
site of their own tells, after any number of passes, which equation each of the new ones came from.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..compiler.program.adjoint import adjoint
from ..compiler.program.builder import ProgramBuilder, column
from ..compiler.program.faults import without_faults
from ..compiler.program.passes.constants import fold_constants
from ..compiler.program.program import Program
from ..compiler.program.selections import without_selections
from ..compiler.stage import stage
from ..compiler.stages import Stages
from ..runtime.primitives import TABLE, checked, select, where
from ..runtime.sites import Location
from .derivatives import Derived, derived
from .passes import follow
from .rules import Adjoint, Making, origins


def numbered(program: Program) -> Program:
    """A program whose sites are the numbers of its equations."""
    places = [Location("equation", 0)] * len(program)  # nobody looks at them
    return replace(program, sites=array("i", range(len(program))), locations=places)


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
    gradients: dict[int, int]
    constants: dict[int, float]
    derived: dict[int, Derived]


def with_origins(stages: Stages) -> Origin:
    """The joint program of a kernel's stages, with the origin of each equation."""
    traced = stages.traced
    again = _renewed(stages, numbered(traced))
    found: list[tuple[Program, Program, Adjoint]] = []

    def differentiate(wrt: Sequence[int], **options: Any) -> Program:
        program = adjoint(again.primal, wrt, **options)
        seeded, of = options.get("seeded", False), options.get("of")
        found.append((again.primal, program, origins(again.primal, program, wrt, seeded, of)))
        own = numbered(copy.deepcopy(program))  # more may be appended to it
        return own if again.options.faults == "raise" else without_faults(fold_constants(own))

    again.adjoint = differentiate  # type: ignore[method-assign]
    joint = again.joint
    del again.adjoint
    step = _of_step(traced) if not found and traced.update >= 0 else None
    made, names = Making.none(len(joint)), np.full(len(joint), -1)
    gradients, constants = dict[int, int](), dict[int, float]()
    numbers = np.asarray(joint.sites, dtype=np.int64)
    primal = again.primal
    of_traced = numbers
    if step is not None:
        found, places = [step[:3]], np.array([*step[3], -1])  # of those behind it, and of none, -1
        numbers = places[np.where(numbers < len(places) - 1, numbers, -1)]
    if found:
        primal, raw, sweep = found[-1]
        here = np.full(len(raw) + 1, -1)
        here[numbers] = np.arange(len(numbers))
        here[-1] = -1
        shift = raw.inputs - primal.inputs
        made = sweep.made.of(numbers)
        names = here[made.equations]

        def moved(variable: int) -> int:
            """A variable of the program behind the adjoint, here; -1 if it is gone."""
            if variable < raw.inputs:
                return variable
            equation = int(here[variable - raw.inputs])
            return joint.inputs + equation if equation >= 0 else -1

        folded: dict[int, float] | None = None
        for variable, gradient in sweep.gradients.items():
            place = moved(variable if variable < primal.inputs else variable + shift)
            if place >= 0 and gradient < 0:
                constants[place] = raw.constants[~gradient]
            elif place >= 0 and moved(gradient) >= 0:
                gradients[place] = moved(gradient)
            elif place >= 0:
                folded = follow([fold_constants], raw).constants if folded is None else folded
                if gradient in folded:
                    constants[place] = folded[gradient]
        numbers = of_traced if step is not None else np.append(np.asarray(raw.sites), -1)[numbers]
    sites = column("i", np.append(np.asarray(traced.sites), -1)[numbers])
    places_of_traced, names_of_rules = numbers.tolist(), names.tolist()
    joint = replace(joint, sites=sites, locations=traced.locations)
    again = _renewed(stages, traced)
    again.__dict__["joint"] = joint
    derived_ = {e: each for e, each in _derived(stages, joint, places_of_traced).items() if not made.hows[e]}
    for e, known in derived_.items():
        names_of_rules[e] = known.equation
    return Origin(again, joint, places_of_traced, primal, made, names_of_rules, gradients, constants, derived_)


def _derived(stages: Stages, joint: Program, numbers: Sequence[int]) -> dict[int, Derived]:
    """How the equations of derivatives were made that are in the traced program, with the equations of this one."""
    traced = stages.traced
    if not stages.spliced:
        return {}

    def renewed(other: Stages) -> Stages:
        return _renewed(other, numbered(other.traced))

    known = derived(traced, stages.spliced, renewed, numbered)
    here = {number: e for e, number in reversed(list(enumerate(numbers))) if number >= 0}
    result = {}
    for e, number in enumerate(numbers):
        if number in known:
            each = known[number]
            target = each.target
            if target >= traced.inputs:
                equation = here.get(target - traced.inputs, -1)
                target = joint.inputs + equation if equation >= 0 else -1
            result[e] = each._replace(equation=here.get(each.equation, -1), target=target)
    return result


def _of_step(traced: Program) -> tuple[Program, Program, Adjoint, list[int]] | None:
    """The loss of a traced training step, its adjoint, where that came from, and which of its equations each here is.

    The gradient of a step is a part of what is traced: tracing folds constants, and leaves the adjoint as it is
    otherwise. None if the step has another one.
    """
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
    folded = fold_constants(without_selections(numbered(raw)))
    if _texts(folded, traced.update) != _texts(traced, traced.update):
        return None
    return primal, raw, origins(primal, raw, wrt), folded.sites.tolist()


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


def _renewed(stages: Stages, traced: Program) -> Stages:
    """The same stages of another traced program; nothing of them has been made."""
    again = copy.copy(stages)
    made = [name for kind in type(stages).__mro__ for name, item in vars(kind).items() if isinstance(item, stage)]
    again.__dict__ = {name: item for name, item in stages.__dict__.items() if name not in made}
    again.__dict__["traced"] = traced
    again.family = None
    return again
