"""`Deciding`: a trace with numbers at hand, for which conditions have truth values.

They are those of the call that asked for a kernel. What is recorded is not computed, except for what a condition needs
whose truth value is asked for; then a guard is recorded (`ways`).
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import _getframe
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from ...runtime.errors import ARITHMETIC_ERRORS, FlatgradError, ProgramError
from ...runtime.primitives import TABLE, Primitive, guard, logical_not
from ...runtime.sites import Location, Site, locate
from ...runtime.traced import TracedCondition, TracedValue
from ...runtime.tracing import forbidden, refuse
from ...runtime.value import Condition, Value
from .builder import ProgramBuilder
from .program import Program
from .recorded import DATA, LEAVES, Recorded
from .ways import Way

#: In errors, where there are no numbers at hand.
_CHOOSES = "using a comparison of Values to choose a branch (if, while, and, or, max, sorted)"
_REMEDY = "Select with fg.where(condition, a, b), or fg.maximum(a, b), or of a list fg.max(xs)."


class Decided(NamedTuple):
    """A truth value that was asked for: where, and the guard that was recorded."""

    truth: bool
    site: int
    guard: int


class Deciding(Recorded):
    """What has been recorded, with numbers at hand.

    Args:
        builder: as for `Recorded`.
        numbers: one per input; None where there are none: then a truth value is an error.
        truths: the truth values of conditions, in order, in place of those for the numbers: a way that is given. To ask
            for more of them is an error.

    Attributes:
        turns: the truth values that have been asked for.
    """

    def __init__(
        self, builder: ProgramBuilder, numbers: Sequence[Any] | None, truths: Sequence[bool] | None = None
    ) -> None:
        super().__init__(builder)
        self._truths = truths
        self.turns: list[Decided] = []
        self._at_hand = numbers if truths is None else None
        self._results: dict[int, Any] = {}  # the numbers of variables, as far as conditions needed them
        self._decided: dict[int, bool] = {}
        # What a trace has:
        self.faults = "raise"
        self.leaves: list[Value] = []
        self._record_sites = True
        self._lines: list[Site | Location] = []

    def _site(self, frame: FrameType | None) -> int:
        raise NotImplementedError  # pragma: no cover - traces define it

    def site_of(self, location: Location | None) -> int:
        raise NotImplementedError  # pragma: no cover - traces define it

    @property
    def follows(self) -> bool:
        """Whether there are numbers at hand, so that conditions have truth values."""
        return self._at_hand is not None

    def decide(self, condition: TracedCondition) -> bool:
        """The truth value of a condition for the numbers at hand; a guard is recorded.

        Raises:
            TraceError: if there are no numbers at hand.
            FlatgradError: what an operation raises that the condition needs.
        """
        variable = condition._index
        if variable in self._decided:
            return self._decided[variable]
        if self._truths is not None:
            truth = self._given(self._truths)
        elif self.follows:
            truth = bool(self.number_of(variable))
        else:
            raise forbidden(_CHOOSES, _REMEDY)
        site = self._site(_getframe(1)) if self._record_sites else -1
        holds = variable if truth else self.append(logical_not.opcode, (variable,), site)
        self._add_guard(holds, truth, site)
        self._decided[variable] = truth
        return truth

    def _given(self, truths: Sequence[bool]) -> bool:
        """The truth value that is given for the next condition."""
        self.folds = False
        if self._repeated:
            self.write_out()
        if len(self.turns) == len(truths):
            raise refuse("the function asks for more truth values than were given")
        return truths[len(self.turns)]

    def check_way(self) -> None:
        """Check that all truth values that were given have been asked for.

        Raises:
            TraceError: if not.
        """
        if self._truths is not None and len(self.turns) < len(self._truths):
            raise refuse("the function asks for fewer truth values than were given")

    def _add_guard(self, condition: int, truth: bool, site: int) -> None:
        before = self.turns[-1].guard if self.turns else self.builder.constant(True)
        self.turns.append(Decided(truth, site, self.append(guard.opcode, (before, condition), site)))

    def number_of(self, variable: int) -> Any:
        """The number of a variable for the numbers at hand: only what it needs is computed."""
        self.folds = False
        if self._repeated:
            self.write_out()
        program, results = self.settle().program, self._results
        opcodes, starts, operands = program.opcodes, program.starts, program.operands
        inputs, constants, todo = program.inputs, program.constants, [variable]
        while todo:
            each = todo[-1]
            if each in results:
                todo.pop()
            elif each < inputs or each >= LEAVES:
                results[each] = self._number_at_hand(each)
            else:
                refs = operands[starts[each - inputs] : starts[each - inputs + 1]]
                missing = [ref for ref in refs if ref >= 0 and ref not in results]
                if missing:
                    todo += missing
                    continue
                primitive = TABLE[opcodes[each - inputs]]
                arguments = [results[ref] if ref >= 0 else constants[~ref] for ref in refs]
                results[each] = self._result(primitive, arguments, program.sites[each - inputs])
        return results[variable]

    def _number_at_hand(self, variable: int) -> Any:
        """The number of an input, or of a leaf."""
        assert self._at_hand is not None
        if variable >= DATA:
            return float(np.concatenate(self._data)[variable - DATA])
        number = self.leaves[variable - LEAVES] if variable >= LEAVES else self._at_hand[variable]
        if isinstance(number, (TracedValue, TracedCondition)):  # of an outer trace
            if not number._trace.follows:
                raise forbidden(_CHOOSES, _REMEDY)
            return number._trace.number_of(number._index)
        return number._number if isinstance(number, (Value, Condition)) else number

    def _result(self, primitive: Primitive, arguments: Sequence[Any], site: int) -> Any:
        if self.faults == "ieee":
            primitive = primitive.total or primitive
        try:
            return primitive.evaluate(*arguments)
        except FlatgradError:
            raise
        except ARITHMETIC_ERRORS as error:
            raise primitive.error(error, arguments, self._line(site)) from None

    def forget(self, first: int) -> None:
        super().forget(first)
        self.turns = [turn for turn in self.turns if turn.guard < first]
        for known in self._results, self._decided:
            for variable in [each for each in known if first <= each < LEAVES]:
                del known[variable]

    @property
    def way(self) -> Way:
        """The truth values that have been asked for, with the lines."""
        return Way(tuple(turn.truth for turn in self.turns), tuple(self._line(turn.site) for turn in self.turns))

    def _line(self, site: int) -> Location | None:
        line = self._lines[site] if site >= 0 else None
        return line if line is None or isinstance(line, Location) else locate(line)

    def _take_guards(self, program: Program, variables: Sequence[int], way: Way) -> None:
        """Let the guards of a program that was inlined just now, as these variables, be guards of this one."""
        guards = [k for k, opcode in enumerate(program.opcodes) if opcode == guard.opcode]
        if len(guards) not in (0, len(way.truths)):
            raise ProgramError(f"{program.name} has {len(guards)} guards for {len(way.truths)} truth values")
        mine = self.builder.program
        for k, truth, line in zip(guards, way.truths, way.lines, strict=False):
            if k == guards[0] and self.turns:
                mine.operands[mine.starts[len(mine) - len(program) + k]] = self.turns[-1].guard
            self.turns.append(Decided(truth, self.site_of(line), variables[program.inputs + k]))
