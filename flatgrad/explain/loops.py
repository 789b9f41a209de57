"""The loops, line by line, and the numbers that each of them computes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ..compiler.languages.loader import LoadedModule
from ..compiler.languages.opened import ArrayFunction
from ..compiler.languages.rolled import emit_rolled
from ..compiler.loops.array_printer import placed_lines
from ..compiler.loops.array_program import ArrayProgram
from ..compiler.loops.grammar import Block, Repeat, Statement, members, used_primitives
from ..compiler.printing import foreign_functions
from ..compiler.program.builder import Indices
from ..compiler.program.program import Group, Program, grouped
from ..runtime.errors import ARITHMETIC_ERRORS
from .lines import Line
from .owners import PARTS, Lanes, Owned, Owners, matched, part_of
from .results import cost_of

#: Blocks of more equations are abridged.
_BLOCK = 120
#: Programs of more equations are compared at fewer points.
_LARGE = 50_000


class Loops:
    """The loops of a kernel's functions.

    Args:
        programs: the functions.
        titles: their names.

    Attributes:
        lines: as text.
        line_of: the first line of each statement or block, by identity.
    """

    def __init__(self, programs: Sequence[ArrayProgram], titles: Sequence[str]) -> None:
        self.programs = programs
        self.lines: list[Line] = []
        self.line_of: dict[int, Line] = {}
        self._equations: dict[tuple[int, int], Line] = {}
        self._found: Lanes | None = None
        count = 0
        for k, program in enumerate(programs):
            if k:
                self.lines.append(Line(""))
            if len(programs) > 1:
                self.lines.append(Line(titles[k], facts={"head": True}))
            for placed in placed_lines(program, _BLOCK):
                line = Line(placed.text)
                self.lines.append(line)
                if placed.item is None:
                    continue
                known = self.line_of.get(id(placed.item))
                if placed.equation >= 0:
                    self._equations[id(placed.item), placed.equation] = line
                elif known is not None:
                    line.facts["more"] = known.id  # it goes on with that line
                    continue
                else:
                    self.line_of[id(placed.item)] = line
                line.id = f"l{count}"
                count += 1
        self._note_costs()

    def _note_costs(self) -> None:
        """Say of each line how many operations it does, in how many lanes and rounds."""
        rounds = {id(m): item.count for p in self.programs for item in p.statements if isinstance(item, Repeat)
                  for m in item.statements}  # fmt: skip
        for _, item in self._items():
            if isinstance(item, Statement):
                facts = self.line_of[id(item)].facts
                facts["cost"], facts["lanes"] = cost_of(item), item.lanes
                if id(item) in rounds:
                    facts["rounds"] = rounds[id(item)]
                continue
            for line in self.lines_of(item):
                line.facts["cost"] = 1
            first, hidden = self.line_of.get(id(item)), cost_of(item) - len(self.lines_of(item)) + 1
            if first is not None:
                first.facts.pop("cost", None)
                if hidden:
                    first.facts["cost"] = hidden

    def lines_of(self, item: Statement | Block) -> list[Line]:
        """The lines of a statement or block that have an id."""
        first = self.line_of.get(id(item))
        own = [line for (block, _), line in self._equations.items() if block == id(item)]
        return own if first is None else [first, *own]

    def line_of_equation(self, block: Block, equation: int) -> Line | None:
        """The line of an equation of a block, if it is shown."""
        return self._equations.get((id(block), equation))

    def owners(self, joint: Program, points: Sequence[Sequence[float]], fast: bool = False) -> Owners:
        """For each equation of the joint program the lines that compute it.

        Args:
            joint: the scalar program.
            points: the numbers of all its variables, at several points; without any, the user's lines must do.
            fast: whether the last digits may differ.
        """
        runs = [run for point in points if (run := self._numbers(point[: joint.inputs])) is not None]
        owned, kinds = self._owned
        if not points or len(runs) < len(points):
            return self._by_line(joint)
        owners, self._found = matched(joint, points, owned, kinds, runs, fast)
        return owners

    def lanes(self, inputs: Sequence[float]) -> dict[str, list[tuple[int, Any]]]:
        """What each line computes, lane by lane, at these inputs: an equation that is the same number, and the number.

        The equation is -1 where it is not known. Empty if something raises, or `owners` has not looked.
        """
        numbers = self._numbers(inputs) if self._found is not None else None
        result: dict[str, list[tuple[int, Any]]] = {}
        if numbers is None or self._found is None:
            return result
        equations, lines, titles = self._found
        for k, title in enumerate(titles):
            own = np.flatnonzero(lines == k).tolist()
            result[title] = list(zip(equations[own].tolist(), map(numbers.__getitem__, own), strict=True))
        return result

    def _by_line(self, joint: Program) -> Owners:
        """The lines of the same part that show the same line of the user's."""
        known: dict[Any, list[Line]] = {}
        for owner in self._owned[0]:
            for part in (owner.part,) if owner.part else PARTS:
                known.setdefault((owner.location, part), []).append(owner.line)
        return Owners.of([known.get((joint.equation(e).location, part_of(joint, e)), []) for e in range(len(joint))])

    def _items(self) -> Iterator[tuple[int, Statement | Block]]:
        for k, program in enumerate(self.programs):
            for item in members(program.statements):
                if id(item) in self.line_of:
                    yield k, item

    @cached_property
    def _owned(self) -> tuple[list[Owned], Indices]:
        """Who computes numbers; and for each number that is computed, which of them."""
        places: dict[Owned, int] = {}
        kinds: list[Indices] = []
        for k, item in self._items():
            line = self.line_of[id(item)]
            part = ("value", "gradient")[k] if len(self.programs) > 1 else ""
            if isinstance(item, Statement):
                place = places.setdefault(Owned(line, item.location, part or item.part), len(places))
                kinds.append(np.full(item.lanes, place))
                continue
            own = [
                Owned(self._equations.get((id(item), e), line), equation.location, part)
                for e, equation in enumerate(item.program.equations())
            ]
            kinds.append(np.array([places.setdefault(each, len(places)) for each in own], dtype=np.int64))
        return list(places), np.concatenate([*kinds, np.zeros(0, dtype=np.int64)])

    def _numbers(self, point: Sequence[float]) -> list[Any] | None:
        """All numbers that are computed at a point, in the order of `_owned`; None if something raises."""
        given = list(point)
        inputs, seeds = given[: self.programs[0].inputs], given[self.programs[0].inputs :]
        cells: list[list[Any]] = []
        for k, run in enumerate(self._all_cells):
            cells.append([] if (found := _evaluated(run, inputs)) is None else found)
            if not cells[-1]:
                return None
            program = self.programs[k]
            results = [cells[-1][address] for address in program.outputs.tolist()]
            *_, (_, residuals) = grouped(program.output_groups, results)
            inputs = [*residuals, *seeds]  # of the function behind it
        numbers: list[Any] = []
        for k, item in self._items():
            if isinstance(item, Statement):
                numbers += [cells[k][place] for place in item.places.tolist()]
            else:
                read = [cells[k][address] for address in item.reads.tolist()]
                numbers += item.program.evaluate_all(read)[item.program.inputs :]
        return numbers

    @cached_property
    def _all_cells(self) -> list[Callable[[Sequence[float]], list[Any]]]:
        """Per function, one that computes the numbers at all addresses."""
        return list(map(_cells_of, self.programs))


def _cells_of(program: ArrayProgram) -> Callable[[Sequence[float]], list[Any]]:
    """The numbers at all addresses as a function of the inputs: its loops in Python."""
    results = np.arange(program.first_result, program.size)
    whole = replace(program, outputs=results, output_groups=[Group("cells", len(results), False)])
    data = foreign_functions(used_primitives(program))
    names = LoadedModule(emit_rolled([ArrayFunction(whole, "cells", "")], []), "cells", data).names
    known = [*program.constants, *program.truths]

    def run(inputs: Sequence[float]) -> list[Any]:
        parts = [part[0] if group.scalar else list(part) for group, part in grouped(program.input_groups, inputs)]
        return [*inputs, *known, *names["cells"](*parts)]

    return run


def _evaluated(evaluate: Callable[[Any], list[Any]], inputs: Sequence[float]) -> list[Any] | None:
    try:
        return evaluate(inputs)
    except ARITHMETIC_ERRORS:
        return None


def points_near(inputs: Sequence[float], program: Program) -> list[list[float]]:
    """The numbers of all variables at points where they tell which equation they belong to.

    They lie in pairs on both sides of 0, so that what one of them switches off the other one switches on. Where the
    program is not defined there, they are near the given one; and what is a whole number stays, if it has to be one.
    """
    chance = random.Random(1)
    pairs = 1 if len(program) > _LARGE else 2
    for size, mirrored, moves_all in ((1.0, True, True), (1e-2, False, True), (1e-2, False, False)):
        points = []
        for _ in range(pairs):
            point = []
            for k, number in enumerate(inputs):
                stays = k in program.truth_inputs or (not moves_all and float(number).is_integer())
                reach = size * max(abs(number), 0.1)
                point.append(number if stays else number + reach * chance.uniform(0.2, 1.0))
            points += [point, [-number for number in point]] if mirrored else [point]
        found = _all_evaluated(program, points)
        if found:
            return found
    return _all_evaluated(program, [list(inputs)])


def _all_evaluated(program: Program, points: Sequence[Sequence[float]]) -> list[list[float]]:
    """The numbers at all points; none if the program is not defined at one of them."""
    found: list[list[float]] = []
    for point in points:
        numbers = _evaluated(program.evaluate_all, point)
        if numbers is None:
            return []
        found.append(numbers)
    return found


def repeats(program: ArrayProgram) -> int:
    """How many loops over rounds there are."""
    return sum(1 + len(item.inner) for item in program.statements if isinstance(item, Repeat))
