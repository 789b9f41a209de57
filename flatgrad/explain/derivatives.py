"""Where the equations of derivatives came from that were spliced into a trace, as those of a Hessian.

Each derivative is made once more, from a program whose equations have a site of their own. What was made before must be
the same, equation by equation; otherwise nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..compiler.program.adjoint import adjoint
from ..compiler.program.faults import without_faults
from ..compiler.program.passes.constants import fold_constants
from ..compiler.program.program import Program
from ..compiler.program.sweep import Sweep
from ..compiler.program.template import FIRST, GRADIENT, template
from ..compiler.program.trace import Spliced
from ..compiler.transforms.spliced import SplicedStages
from ..runtime.primitives import TABLE, select, where
from .rules import Made, decided, origins


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


def derived(
    traced: Program, spliced: Sequence[Spliced], renewed: Callable[[Any], Any], numbered: Callable[[Program], Program]
) -> dict[int, Derived]:
    """For each equation of a trace that belongs to a derivative, how it was made.

    Args:
        traced: the traced program.
        spliced: the derivatives in it.
        renewed: stages again, of which nothing has been made, with numbered equations.
        numbered: a program whose sites are the numbers of its equations.
    """
    result: dict[int, Derived] = {}
    for part in spliced:
        end = part.first + len(part.program)
        if traced.opcodes[part.first : end] != part.program.opcodes:
            continue  # as in a function with rounds
        again = renewed(part.stages)
        program, raw, made, of = _made_again(again, numbered)
        if _columns(program) != _columns(part.program):
            continue
        numbers = program.sites.tolist()
        here: dict[int, int] = {}
        for k, number in enumerate(numbers):
            if number >= 0:
                here.setdefault(number, part.first + k)
        primal, place = again.primal, _Place(traced, part, again.primal, here)
        own = {number: k for k, number in enumerate(primal.sites.tolist())}  # of the function that was differentiated
        inner = derived(part.stages.traced, part.stages.spliced, renewed, numbered)
        for k, number in enumerate(numbers):
            each = made[number] if 0 <= number < len(made) else None
            if each is not None:
                result[part.first + k] = _placed(each, of, primal, place)
            elif not 0 <= number < len(made):
                result[part.first + k] = Derived("check", of, None, -1, -1)
            elif number < raw.primal and primal.sites[number] in inner:
                known, inputs = inner[primal.sites[number]], part.stages.traced.inputs
                equation = here.get(own[known.equation], -1) if known.equation in own else -1
                target = known.target
                if target >= inputs:
                    target = primal.inputs + own[target - inputs] if target - inputs in own else -1
                result[part.first + k] = known._replace(equation=equation, target=place.of(target))
    return result


class _Place(NamedTuple):
    """Where the variables of a program are that was differentiated, in the trace that it is a part of."""

    traced: Program
    part: Spliced
    primal: Program
    equations: dict[int, int]

    def of(self, variable: int) -> int:
        """The variable of the trace; -1 if it is gone."""
        if variable < 0:
            return -1
        if variable < self.primal.inputs:
            return self.part.inputs[variable]
        equation = self.equations.get(variable - self.primal.inputs, -1)
        return self.traced.inputs + equation if equation >= 0 else -1


def _placed(made: Made, of: str, primal: Program, place: _Place) -> Derived:
    key, equation = None, -1
    if made.equation >= 0:
        primitive = TABLE[primal.opcodes[made.equation]]
        equation = place.equations.get(made.equation, -1)
        if made.operand >= 0:
            key = primitive.opcode, made.operand, decided(primal, primitive, primal.equation(made.equation).operands)
    return Derived(made.how, of, key, equation, place.of(made.target))


def _made_again(again: Any, numbered: Callable[[Program], Program]) -> tuple[Program, Program, list[Made | None], str]:
    """The program that is spliced in, with the numbers of the equations of the derivative as sites.

    Then the derivative before it is simplified, how its equations were made, and what they are.
    """
    found: list[tuple[Program, list[Made | None]]] = []
    if isinstance(again, SplicedStages):
        make = again.differentiated

        def differentiated() -> Program:
            raw = make()
            found.append((raw, _of_spliced(again, raw)))
            return numbered(raw)

        again.differentiated = differentiated  # type: ignore[method-assign]
        return again.to_inline(), *found[0], "gradient" if again.how == "gradient" or again.by_rows else "tangent"

    def differentiate(wrt: Sequence[int], **options: Any) -> Program:
        raw = adjoint(again.primal, wrt, **options)
        found.append((raw, list(origins(again.primal, raw, wrt, False, options["of"]).made)))
        own = numbered(raw)
        return own if again.options.faults == "raise" else without_faults(fold_constants(own))

    again.adjoint = differentiate
    return again.to_inline(), *found[0], "gradient"


def _of_spliced(stages: SplicedStages, raw: Program) -> list[Made | None]:
    """How the equations of a tangent, gradient or Jacobian were made."""
    primal, wrt = stages.primal, stages.wrt
    if stages.how == "gradient":
        return list(origins(primal, raw, wrt, True, range(stages.count)).made)
    outputs = primal.outputs[: stages.count]
    if stages.how != "tangent" and stages.by_rows:
        return _of_rows(primal, wrt, outputs)
    seeds = {variable: [0 if stages.how == "tangent" else k] for k, variable in enumerate(wrt)}
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


def _columns(program: Program) -> Any:
    return program.opcodes, program.starts, program.operands, list(map(repr, program.constants))
