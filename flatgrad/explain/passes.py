"""The passes one by one: the program before and behind each, what became of its equations, and by which rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..compiler.program.builder import Indices
from ..compiler.program.made_of import GONE, noting_steps
from ..compiler.program.passes import Pass
from ..compiler.program.passes.rules import noting_rules
from ..compiler.program.program import Program
from ..compiler.program.spelling import python_number
from .steps import LISTED, Row, Step, chosen, folded_places, written
from .trail import CONSTANT, Trail


class Followed(NamedTuple):
    """What passes made of a program.

    Attributes:
        program: the one behind them.
        trail: what became of its variables.
        steps: what each pass did.
    """

    program: Program
    trail: Trail
    steps: list[Step]


def follow(passes: Sequence[Pass], program: Program, part: str = "") -> Followed:
    """Run passes, and follow the variables of the program through them; `part` is what the steps belong to."""
    first, noted, steps = program, list[Any](), []
    for transform in passes:
        with noting_steps() as own, noting_rules() as fired:
            after = transform(program)
        trail = Trail(program, own)
        steps.append(_step(transform, program, after, trail.where, trail.constants, fired, part))
        noted += own
        program = after
    return Followed(program, Trail(first, noted), steps)


def name_of_pass(transform: Any) -> str:
    """The name of a pass."""
    return str(transform.func.__name__ if isinstance(transform, partial) else transform.__name__)


def _step(
    transform: Pass, before: Program, after: Program, where: Indices, numbers: dict[int, float],
    fired: dict[int, list[str]], part: str,
) -> Step:  # fmt: skip
    function = transform.func if isinstance(transform, partial) else transform
    about = (function.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    step = Step(name_of_pass(transform), " ".join(about.split()), len(before), len(after), part)
    step.rules = dict(Counter(name for names in fired.values() for name in names).most_common())
    change = _Change(before, after, where[before.inputs :], numbers, fired)
    counts = np.bincount(change.kinds, minlength=len(_KINDS)).tolist()
    step.counts = {title: counts[_KINDS.index(kind)] for kind, title in _TITLES.items()} | {"new": len(change.new)}
    if any(step.counts.values()):
        step.rows = change.rows()
        if len(before) <= LISTED:
            step.result = [line.partition("#")[0].strip() for line in after.lines(0, len(after))[1:]]
    return step


#: What becomes of equations.
_KINDS = ("same", "rewritten", "merged", "constant", "gone")
#: How it is said of those that change.
_TITLES = {
    "constant": "became constants",
    "merged": "became one with others",
    "rewritten": "rewritten",
    "gone": "read by nothing",
}


class _Change:
    """What became of the equations of a program.

    Everything is called as in the program before; what is new is n1, n2, and so on.

    Args:
        before, after: the programs.
        places: per equation before, where its variable went.
        numbers: of the variables that became constants.
        fired: the rules that rewrote each equation.
    """

    def __init__(
        self, before: Program, after: Program, places: Indices, numbers: dict[int, float], fired: dict[int, list[str]]
    ) -> None:
        self.before, self.after, self.numbers, self.fired = before, after, numbers, fired
        self.places = places
        is_variable = places >= after.inputs
        variables, firsts = np.unique(places[is_variable], return_index=True)
        first = np.zeros(len(places), dtype=bool)
        first[np.flatnonzero(is_variable)[firsts]] = True
        #: Of equations behind: the equation before that became it; -1 for a new one.
        self._equations = np.full(len(after), -1)
        self._equations[variables - after.inputs] = np.flatnonzero(is_variable)[firsts]
        self.new: list[int] = (np.flatnonzero(self._equations < 0) + after.inputs).tolist()
        self._new = {variable: k for k, variable in enumerate(self.new, 1)}
        is_rewritten = np.zeros(len(places), dtype=bool)
        is_rewritten[list(fired)] = True
        same, rewritten, merged, constant, gone = range(len(_KINDS))
        kinds = np.where(first, np.where(is_rewritten, rewritten, same), merged)
        self.kinds: Indices = np.where(places == GONE, gone, np.where(places == CONSTANT, constant, kinds))

    def _name(self, operand: int) -> str:
        if operand in self._new:
            return f"n{self._new[operand]}"
        if operand < self.after.inputs:
            return self.after.name_of(operand)
        return self.before.name_of(self.before.inputs + int(self._equations[operand - self.after.inputs]))

    def _text(self, variable: int) -> str:
        """An equation of the program behind, without the name of its result."""
        equation = self.after.equation(variable - self.after.inputs)
        return " ".join([equation.primitive.name, *map(self._name, equation.operands)])

    def _note(self, k: int) -> str:
        kind, place = _KINDS[self.kinds[k]], int(self.places[k])
        if kind == "same":
            return ""
        if kind == "gone":
            note = "nothing reads it"
        elif kind == "constant":
            note = f"is {python_number(self.numbers[self.before.inputs + k]).text}"
        elif kind == "merged":
            note = f"is {self._name(place)}"
        else:
            note = f"becomes {self._text(place)}"
        return f"{note} ({', '.join(self.fired[k])})" if self.fired.get(k) else note

    def rows(self) -> list[Row]:
        """The difference, with what is left out of a long program in a line each."""
        before, new = self.before, set(self.new)
        changed = np.flatnonzero(self.kinds).tolist()
        places: Iterable[int | Row] = range(len(before))
        if len(before) > LISTED:
            kinds = zip(changed, self.kinds[changed].tolist(), strict=True)
            alike = [(k, (kind, *self.fired.get(k, ()), before.opcodes[k], before.sites[k])) for k, kind in kinds]
            places = folded_places(len(before), chosen(alike), changed)
        rows: list[Row] = []
        for k in places:
            if isinstance(k, Row):
                rows.append(k)
                continue
            kind, place = _KINDS[self.kinds[k]], int(self.places[k])
            first = place
            while kind == "rewritten" and first - 1 in new:
                first -= 1
            new_ones = [f"{self._name(variable)} = {self._text(variable)}" for variable in range(first, place)]
            rows += [Row(text, "new", "is computed first") for text in new_ones]
            rows.append(Row(written(before, k), kind, self._note(k)))
        return rows
