"""Where the equations of derivatives came from that were spliced into a trace, as those of a Hessian.

Each derivative is made once more, while it is noted how. What was spliced in must be the same, equation by equation;
otherwise nothing is said of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..compiler.program.builder import Indices
from ..compiler.program.made_of import Differentiation, Step, noting_steps
from ..compiler.program.program import Program
from ..compiler.program.splices import Spliced
from ..compiler.program.sweep import Sweep
from ..compiler.program.template import FIRST, GRADIENT, template
from ..compiler.program.ways import released
from ..compiler.stage import renewed
from ..runtime.primitives import TABLE, guard, select, where
from .rules import Made, decided, origins
from .trail import Trail


class Derived(NamedTuple):
    """How an equation of a derivative was made that is a part of a trace.

    Attributes:
        how: "rule", "sum" and "result" as for `Made`; "selected" for the tangent of what is selected; "check" for what
            raises where the function would.
        of: "gradient" or "tangent".
        key: the opcode whose rule it was, the operand, and the number that decides about the rule; None without a rule.
        equation: the equation of the trace whose rule it was; -1 if it is gone, or there is none.
        target: the variable of the trace whose gradient or tangent this is a part of; -1 if it is gone.
    """

    how: str
    of: str
    key: tuple[int, int, float | None] | None
    equation: int
    target: int


def derived(traced: Program, spliced: Sequence[Spliced]) -> dict[int, Derived]:
    """For each equation of a trace that belongs to a derivative, how it was made.

    Args:
        traced: the traced program.
        spliced: the derivatives in it.
    """
    result: dict[int, Derived] = {}
    for part in spliced:
        forms = list(_made_again(part.stages))
        for first in itertools.chain.from_iterable(part.firsts):
            for program, equations in forms:
                places = _places(traced, first, program)
                if places is None:
                    continue
                for k, each in equations.items():
                    equation = first + each.equation if each.equation >= 0 else -1
                    target = max(int(places[each.target]), -1) if each.target >= 0 else -1
                    result[first + k] = each._replace(equation=equation, target=target)
                break
    return result


def differentiation_of(traced: Program, steps: Sequence[Step]) -> tuple[Differentiation, Trail, Trail] | None:
    """How a traced program was differentiated; what became of it before that, and of the joint program after that."""
    for k, step in enumerate(steps):
        if isinstance(step, Differentiation):
            before = Trail(traced, steps[:k])
            if step.before.operands is before.program.operands:
                return step, before, Trail(step.after, steps[k + 1 :])
    return None


def _made_again(stages: Any) -> Iterator[tuple[Program, dict[int, Derived]]]:
    """The program that is spliced in, and how those of its equations were made that are derivatives.

    The variables are its own. Then the same without its guards, as it is in a trace of which the guards are given.
    """
    again = renewed(stages)
    with noting_steps() as steps:
        program = again.to_inline()
    yield program, _derivatives_in(again, program, steps)
    if guard.opcode in program.opcodes:
        with noting_steps() as more:
            program = released(program)
        yield program, _derivatives_in(again, program, [*steps, *more])


def _derivatives_in(stages: Any, program: Program, steps: Sequence[Step]) -> dict[int, Derived]:
    found = differentiation_of(stages.traced, steps)
    if found is None:
        return {}
    step, before, after = found
    primal, made = step.before, _made(step)
    of = "gradient" if step.how in ("gradient", "rows") else "tangent"
    shift = step.after.inputs - primal.inputs
    inner, numbers = derived(stages.traced, stages.spliced), before.sources.tolist()
    result: dict[int, Derived] = {}

    def joint(variable: int) -> int:
        """A variable of the primal program in the one that is spliced in; -1 if it is gone."""
        return after.of(variable if variable < primal.inputs else variable + shift)

    for k, number in enumerate(after.sources.tolist()):
        each = made[number] if 0 <= number < len(made) else None
        if each is not None:
            key, equation = None, -1
            if each.equation >= 0:
                primitive = TABLE[primal.opcodes[each.equation]]
                equation = after.equation(each.equation)
                if each.operand >= 0:
                    operands = primal.equation(each.equation).operands
                    key = primitive.opcode, each.operand, decided(primal, primitive, operands)
            result[k] = Derived(each.how, of, key, equation, joint(each.target))
        elif not 0 <= number < len(made):
            result[k] = Derived("check", of, None, -1, -1)
        elif numbers[number] in inner:
            known = inner[numbers[number]]
            equation = after.equation(before.equation(known.equation))
            result[k] = known._replace(equation=equation, target=joint(before.of(known.target)))
    return result if after.program.operands is program.operands else {}


def _places(traced: Program, first: int, program: Program) -> Indices | None:
    """Which operands of a trace the variables of a program are whose equations begin there; None if they do not.

    Of inputs that nothing reads it is not known: they are -1.
    """
    end, inputs = first + len(program), program.inputs
    begin = traced.starts[first]
    if traced.opcodes[first:end] != program.opcodes or traced.starts[end] - begin != program.starts[-1]:
        return None
    mine, theirs = np.array(program.operands), np.array(traced.operands[begin : traced.starts[end]])
    starts = np.array(traced.starts[first : end + 1]) - begin
    places = np.full(inputs + len(program), -1)
    places[inputs:] = traced.inputs + np.arange(first, end)
    given = (mine >= 0) & (mine < inputs)
    places[mine[given]] = theirs[given]
    fixed = mine < 0
    guards = [k for k, opcode in enumerate(program.opcodes) if opcode == guard.opcode]
    fixed[[program.starts[k] for k in guards[:1]]] = False  # it reads the guard before it, if there is one
    same = np.array_equal(starts, program.starts) and np.array_equal(places[mine[mine >= 0]], theirs[mine >= 0])
    pairs = zip(mine[fixed].tolist(), theirs[fixed].tolist(), strict=True)
    if not same or any(b >= 0 or repr(program.constants[~a]) != repr(traced.constants[~b]) for a, b in pairs):
        return None
    return places


def _made(step: Differentiation) -> list[Made | None]:
    """How the equations of a tangent, gradient or Jacobian were made."""
    primal, wrt, outputs = step.before, step.wrt, step.outputs
    if step.how == "gradient":
        return list(origins(primal, step.after, wrt, step.seeded, outputs).made)
    if step.how == "rows":
        return _of_rows(primal, wrt, outputs)
    seeds = {variable: [0 if step.how == "tangent" else k] for k, variable in enumerate(wrt)}
    return _of_sweep(primal, seeds, outputs)


def _of_sweep(primal: Program, seeds: dict[int, list[int]], outputs: Iterable[int]) -> list[Made | None]:
    """How the equations of a forward sweep were made, in their order; `seeds` are the directions of inputs."""
    made: list[Made | None] = [None] * len(primal)
    directions: list[dict[int, None]] = [dict.fromkeys(seeds.get(k, ())) for k in range(primal.inputs)]
    for e, equation in enumerate(primal.equations()):
        primitive, target = equation.primitive, primal.inputs + e
        given = [directions[operand] if operand >= 0 else {} for operand in equation.operands]
        result: dict[int, None] = {}
        if primitive in (select, where):
            result = {**given[1], **given[2]}
            made += [Made("selected", e, -1, target)] * len(result)
            directions.append(result)
            continue
        for place, along in enumerate(given):
            if not along or place not in primitive.differentiable:
                continue
            rule = template(primitive, place, decided(primal, primitive, equation.operands))
            reads, own = {GRADIENT}, 0
            for slot, (_, operands) in enumerate(rule.equations, FIRST + primitive.arity):
                if not reads.isdisjoint(operands):
                    reads.add(slot)
                    own += 1
            made += [Made("rule", e, place, target)] * (len(rule.equations) - own)
            for direction in along:
                made += [Made("rule", e, place, target)] * own
                made += [Made("sum", e, place, target)] * (direction in result)
                result[direction] = None
        directions.append(result)
    for output in outputs:
        made += [Made("result", -1, -1, output)] * (len(directions[output]) if output >= 0 else 0)
    return made


def _of_rows(primal: Program, wrt: Sequence[int], outputs: Iterable[int]) -> list[Made | None]:
    """How the equations of a sweep back per output were made, in their order."""
    made: list[Made | None] = [None] * len(primal)
    results: list[Made | None] = []
    places = np.arange(primal.inputs + len(primal) + len(primal.constants))
    for output in outputs:
        if output < 0:
            continue
        sweep, received = Sweep(primal, wrt, [output], places), {output}
        columns = zip(sweep.equations.tolist(), sweep.places.tolist(), sweep.targets.tolist(), strict=True)
        for e, place, target in columns:
            primitive = TABLE[primal.opcodes[e]]
            rule = template(primitive, place, decided(primal, primitive, primal.equation(e).operands))
            made += [Made("rule", e, place, target)] * len(rule.equations)
            made += [Made("sum", e, place, target)] * (target in received)
            received.add(target)
        results += [Made("result", -1, -1, variable) for variable in wrt if variable in received]
    return made + results
