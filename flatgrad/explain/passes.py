"""The passes one by one: the program before and behind each, what became of its equations, and by which rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..compiler.program.builder import Indices, noting_rebuildings
from ..compiler.program.passes import Pass
from ..compiler.program.passes.dead_code import remove_dead_code
from ..compiler.program.passes.rules import EXACT_RULES, RULES, Rule
from ..compiler.program.passes.simplify import simplify, simplify_fast, simplify_with
from ..compiler.program.program import Program
from ..compiler.program.spelling import python_number

#: Programs of more equations are not listed pass by pass.
LISTED = 300

#: Where variables go that nothing reads, and those that become constants.
GONE, CONSTANT = -2, -1


@dataclass
class Step:
    """What one pass did.

    Attributes:
        name: of the pass.
        about: its first sentence.
        before, after: how many equations there were, and are.
        counts: how many equations became constants, became one with others, were rewritten, or are not read.
        rules: how often each rule of the table of simplifications was applied.
        lines: the program before, each with what became of it, if it is short.
        result: the program behind it, if it is short and different.
    """

    name: str
    about: str
    before: int
    after: int
    counts: dict[str, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    lines: list[dict[str, str]] = field(default_factory=list)
    result: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The step as data."""
        return {**vars(self), "identities": {name: _IDENTITIES.get(name, "") for name in self.rules}}


_IDENTITIES = {rule.name: rule.identity for rule in RULES}


class Followed(NamedTuple):
    """What passes made of a program.

    Attributes:
        program: the one behind them.
        where: per variable of the first program, the variable that it became; or `GONE`, or `CONSTANT`.
        constants: the numbers of those that became constants.
        steps: what each pass did.
    """

    program: Program
    where: Indices
    constants: dict[int, float]
    steps: list[Step]


def follow(passes: Sequence[Pass], program: Program) -> Followed:
    """Run passes, and follow the variables of the program through them."""
    where = np.arange(program.inputs + len(program))
    constants: dict[int, float] = {}
    steps = []
    for transform in passes:
        fired: dict[int, list[str]] = {}
        with noting_rebuildings() as rebuildings:
            after = _rewritten(transform, fired)(program)
        here = np.arange(program.inputs + len(program))
        numbers: dict[int, float] = {}
        for rebuilding in rebuildings:
            moves = rebuilding.where[np.maximum(here, 0)]
            folded = np.flatnonzero((here >= 0) & (moves < 0))
            if transform is not remove_dead_code:
                numbers |= {k: rebuilding.after.constants[~moves[k]] for k in folded.tolist()}
            here = np.where(here >= 0, moves, here)
            here[folded] = GONE if transform is remove_dead_code else CONSTANT
        steps.append(_step(transform, program, after, here, numbers, fired))
        there = where[where >= 0]
        constants |= {k: numbers[v] for k in np.flatnonzero(where >= 0).tolist() if (v := int(where[k])) in numbers}
        where[where >= 0] = here[there]
        program = after
    return Followed(program, where, constants, steps)


def _rewritten(transform: Pass, fired: dict[int, list[str]]) -> Pass:
    """A pass that notes which rules rewrite which equations."""
    rules: Sequence[Rule] = ()
    if transform is simplify:
        rules = EXACT_RULES
    elif transform is simplify_fast:
        rules = RULES
    elif isinstance(transform, partial) and transform.func is simplify_with:
        rules = transform.args[0]
    if not rules:
        return transform
    return partial(simplify_with, [rule._replace(rewrite=_noting(rule, fired)) for rule in rules])


def _noting(rule: Rule, fired: dict[int, list[str]]) -> Callable[[Any, Sequence[Any]], Any]:
    def rewrite(view: Any, operands: Sequence[Any]) -> Any:
        result = rule.rewrite(view, operands)
        if result is not None:
            fired.setdefault(view.equation, []).append(rule.name)
        return result

    return rewrite


def name_of_pass(transform: Any) -> str:
    """The name of a pass."""
    return str(transform.func.__name__ if isinstance(transform, partial) else transform.__name__)


def _step(
    transform: Pass, before: Program, after: Program, where: Indices, numbers: dict[int, float],
    fired: dict[int, list[str]],
) -> Step:  # fmt: skip
    function = transform.func if isinstance(transform, partial) else transform
    about = (function.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    step = Step(name_of_pass(transform), " ".join(about.split()), len(before), len(after))
    step.rules = dict(Counter(name for names in fired.values() for name in names).most_common())
    places = where[before.inputs :]
    variables = places[places >= after.inputs]
    firsts: dict[int, int] = {}
    for k, place in enumerate(places.tolist()):
        firsts.setdefault(place, k)
    merged = len(variables) - len(np.unique(variables)) + int(((places >= 0) & (places < after.inputs)).sum())
    step.counts = {
        "became constants": int((places == CONSTANT).sum()),
        "became one with others": merged,
        "rewritten": len(fired),
        "read by nothing": int((places == GONE).sum()),
    }
    if len(before) <= LISTED:
        texts = before.lines(0, len(before))[1:]
        for k, place in enumerate(places.tolist()):
            kind, note = "", ""
            if place == GONE:
                kind, note = "gone", "nothing reads it"
            elif place < 0:
                kind, note = "constant", f"is {python_number(numbers[before.inputs + k]).text}"
            elif firsts[place] != k or place < after.inputs:
                kind, note = "merged", f"is {after.name_of(place)}"
            elif fired.get(k):
                kind, note = "rewritten", f"becomes {_text(after, place)}"
            if fired.get(k):
                note += f" ({', '.join(fired[k])})"
            step.lines.append({"text": texts[k].partition("#")[0].strip(), "kind": kind, "note": note})
        if after is not before:
            step.result = [line.partition("#")[0].rstrip() for line in after.lines(0, len(after))[1:]]
    return step


def _text(program: Program, variable: int) -> str:
    """An equation without the name of its result."""
    equation = program.equation(variable - program.inputs)
    return " ".join([equation.primitive.name, *map(program.name_of, equation.operands)])
