"""`Recorded`: what a trace has recorded, as columns; equations can be read, taken away, and repeated in rounds.

Rounds that are repeated need no columns: it is noted how often. So do the rounds of a loop in Python: what has been
recorded is looked through from time to time, and where a recurrence goes on and on, its columns are dropped, so that
memory does not grow with the number of rounds. Variables behind them have the numbers that they would
have otherwise. When the trace is finished, its program is a `Family`; where there is none, the rounds are written out.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ...runtime.primitives import TABLE
from ...runtime.tracing import refuse
from . import progress
from .builder import Indices, ProgramBuilder
from .family import Family
from .folding import EQUATIONS, Piece, folded, pieces_of
from .names import Namer
from .program import Group
from .progress import report
from .splices import Splices
from .unrolled import Columns, Loop, find_loops, longest_loop

#: Leaves are numbered from here until the trace is finished, when they become the last inputs.
LEAVES = 1 << 48
#: Numbers that differ from round to round of a loop are numbered from here, and become constants or inputs then.
DATA = 1 << 56
#: After so many equations what has been recorded is looked through for rounds; and later, when it has doubled.
_BLOCK = 1 << 16


@cache
def arities(rows: int) -> Any:
    """How many operands the first rows of the table have."""
    return np.array([primitive.arity for primitive in TABLE[:rows]])


class Repeated(NamedTuple):
    """Rounds that have no columns.

    Attributes:
        first, place: the variable of the first equation, and how many equations before it have columns.
        equations, steps: the first round, and by how much its operands advance from round to round.
        rounds: how many there are.
        loop: the same of rounds that were recorded, and have been dropped; it may go on.
    """

    first: int
    place: int
    equations: Columns
    steps: Indices
    rounds: int
    loop: Loop | None = None

    @property
    def end(self) -> int:
        """The variable behind the last round."""
        return self.first + self.length

    def made(self, first: int, renumber: Callable[[Any], Indices] | None = None, lines: Any = None) -> Loop:
        """The loop, from an equation on; with other numbers of variables, constants and lines."""
        equations = self.equations
        if renumber is not None:
            sites = lines[equations.sites]
            equations = equations._replace(operands=renumber(equations.operands), sites=sites)
        loop = Loop.of(equations, self.steps, first, self.rounds)
        return loop if self.loop is None else loop.with_constants_of(self.loop, renumber)

    @property
    def length(self) -> int:
        """The number of equations in all rounds."""
        return len(self.equations.opcodes) * self.rounds


class Recorded:
    """What a trace has recorded.

    Args:
        builder: gets the columns, which are compact; what is new is in lists.

    Attributes:
        folds: whether rounds need not have columns.
        splices: the derivatives that were spliced in.
    """

    def __init__(self, builder: ProgramBuilder) -> None:
        self.builder = builder
        # What has been recorded since the builder got it the last time, and the variable of the next equation.
        self._opcodes: list[int] = []
        self._operands: list[int] = []
        self._sites: list[int] = []
        self._next = builder.next
        self._is_large = False
        self._references: dict[int, int] = {}
        self._data: list[Any] = []
        self._captured = 0
        self._repeated: list[Repeated] = []
        self.folds = False
        self.splices: Splices = Splices()
        self._looked_through = _BLOCK  # when there are more columns than that behind the last loop

    @property
    def next(self) -> int:
        """The variable of the next equation."""
        return self._next

    def append(self, opcode: int, refs: Sequence[int], site: int = -1) -> int:
        """Append an equation and return its variable."""
        self._opcodes.append(opcode)
        self._operands += refs
        self._sites.append(site)
        self._next += 1
        return self._next - 1

    def settle(self) -> ProgramBuilder:
        """The builder, with all that has been recorded."""
        if self._opcodes:
            ends = np.cumsum(arities(len(TABLE))[self._opcodes])
            operands, sites = array("q", self._operands), array("i", self._sites)
            self.builder.extend(array("H", self._opcodes), ends, operands, sites, np.full(len(sites), -1))
            for recorded in (self._opcodes, self._operands, self._sites):
                recorded.clear()
            if self.folds:
                self._drop_rounds()
        count = len(self.builder)
        report("tracing", count)
        if count > progress.MANY and not self._is_large:
            self._is_large = True
            progress.warn_of_size(self.builder.program.name)
        return self.builder

    def close(self) -> ProgramBuilder:
        """The builder, with all that has been recorded; what goes on as the last rounds did is dropped."""
        builder = self.settle()
        self._go_on()
        return builder

    def _unread(self) -> Columns:
        """The columns behind the last rounds without columns."""
        place = self._repeated[-1].place if self._repeated else 0
        return Columns(*map(np.array, Columns.of(self.builder.program).part(place, len(self.builder))))

    def _go_on(self) -> bool:
        """Drop the columns of rounds that go on as those before; whether there are any."""
        last = self._repeated[-1] if self._repeated else None
        rounds = last.loop.continued(self._unread(), 0) if last is not None and last.loop is not None else 0
        if last is None or last.loop is None or not rounds:
            return False
        last.loop.rounds += rounds
        self._repeated[-1] = last._replace(rounds=last.loop.rounds)
        self.builder.remove(last.place, last.place + rounds * last.loop.size)
        return True

    def _drop_rounds(self) -> None:
        """Drop the columns of rounds that go on as those before, or of a recurrence that most equations belong to."""
        place = self._repeated[-1].place if self._repeated else 0
        count = len(self.builder) - place
        if count < _BLOCK or self._go_on():
            return
        if count < self._looked_through:
            return
        first = self._next - count
        loop = longest_loop(self._unread(), first)
        goes_on = loop is not None and loop.end + loop.size > count and 2 * (loop.end - loop.first) >= count
        if loop is None or not goes_on or not loop.is_recurrence(first):
            self._looked_through = 2 * count
            return
        begin, end = place + loop.first, place + loop.end
        self._repeated.append(Repeated(first + loop.first, begin, loop.columns(0, 1), loop.steps, loop.rounds, loop))
        self.builder.remove(begin, end)
        self._looked_through = _BLOCK

    # --- rounds -------------------------------------------------------------------------------------------------------

    def capture(self, numbers: Any) -> int:
        """The first of the variables that stand for the numbers of an array."""
        first = DATA + self._captured
        self._data.append(np.array(numbers, dtype=float).ravel())
        self._captured += len(self._data[-1])
        return first

    def region(self, variables: Indices) -> Indices:
        """Whether variables are arguments, results of equations, leaves or captured numbers: these move apart."""
        return np.searchsorted([0, self.builder.program.inputs, LEAVES, DATA], variables, side="right")

    def _place(self, variable: int) -> int:
        """How many equations before a variable have columns."""
        if any(each.first < variable < each.end for each in self._repeated):
            self.write_out()
        skipped = sum(each.length for each in self._repeated if each.first < variable)
        return variable - self.builder.program.inputs - skipped

    def since(self, first: int, end: int) -> Columns:
        """The equations between two variables."""
        columns = Columns.of(self.settle().program).part(self._place(first), self._place(end))
        return Columns(*map(np.array, columns))

    def forget(self, first: int) -> None:
        """Go back to where this variable was the next one."""
        self._take_away(first)
        self.splices.forget(first)
        self._references = {key: ref for key, ref in self._references.items() if ref < first or ref >= LEAVES}

    def _take_away(self, first: int) -> None:
        self.settle().shorten(self._place(first))
        self._repeated = [each for each in self._repeated if each.first < first]
        self._next = first

    def repeat(self, first: int, size: int, steps: Indices, count: int) -> None:
        """Let a round, which begins with a variable, be the first of so many; its operands advance by `steps`."""
        equations = self.since(first, first + size)
        self._take_away(first)
        self.splices.repeat(first, size, count)
        self._go_on()
        repeated = Repeated(first, len(self.builder), equations, steps, count)
        self._next = first + repeated.length
        if self.folds and size:
            self._repeated.append(repeated)
        elif size:
            opcodes, starts, operands, sites = Loop.of(equations, steps, 0, count).columns(0, count)
            self.builder.extend(opcodes, starts[1:], operands, sites, np.full(len(opcodes), -1))

    # --- the program --------------------------------------------------------------------------------------------------

    def captured(self) -> list[int]:
        """Which arrays of captured numbers are read."""
        reads = [each.equations.operands for each in self._repeated]
        captured = np.concatenate([np.array(self.settle().program.operands, dtype=np.int64), *reads]) - DATA
        ends = np.cumsum([len(numbers) for numbers in self._data], dtype=np.int64)
        owners: list[int] = np.unique(np.searchsorted(ends, captured[captured >= 0], side="right")).tolist()
        return owners

    def data_groups(self, data: Sequence[int], names: Namer) -> list[Group]:
        """Groups of inputs for some of the arrays of captured numbers."""
        return [Group(names("data", "data"), len(self._data[k]), False) for k in data]

    def moved(self, variables: Indices, builder: ProgramBuilder, arguments: int, data: Sequence[int]) -> Indices:
        """Where variables go in the program that `builder` makes, of which some arrays of captured numbers are inputs.

        The leaves come right behind the arguments. Captured numbers that are no inputs go to constants.
        """
        inputs = builder.program.inputs
        shift = (inputs - arguments) * (variables >= arguments)
        result = np.where(variables >= LEAVES, variables - (LEAVES - arguments), variables + shift)
        captured = np.flatnonzero(variables >= DATA)
        if len(captured):
            sizes = np.array([len(numbers) for numbers in self._data])
            starts = np.cumsum(sizes) - sizes
            places = variables[captured] - DATA
            owners = np.searchsorted(starts + sizes, places, side="right")
            first, chosen = np.full(len(sizes), -1), np.array(data, dtype=np.int64)
            first[chosen] = inputs - sizes[chosen].sum() + np.cumsum(sizes[chosen]) - sizes[chosen]
            is_input = first[owners] >= 0
            result[captured[is_input]] = (first[owners] + places - starts[owners])[is_input]
            numbers = np.concatenate(self._data)[places[~is_input]].view(np.int64)
            different, index = np.unique(numbers, return_inverse=True)
            constants = np.array([*map(builder.constant, different.view(float).tolist())], dtype=np.int64)
            result[captured[~is_input]] = constants[index]
        return result

    def family(
        self, builder: ProgramBuilder, renumber: Callable[[Any], Indices], sites: Sequence[int], data: Sequence[int]
    ) -> Family | None:
        """The family of the program that `builder` has got the columns of; None if there is none."""
        traced = self.builder.program
        total = len(traced) + sum(each.length for each in self._repeated)
        if total < EQUATIONS:
            return None
        count = len(traced.outputs)
        program = builder.finish(renumber(traced.outputs), [Group("outputs", count, count == 1)])
        columns, lines = Columns.of(program), np.array([*sites, -1])
        pieces: list[Piece] = []
        done = equation = 0
        for each in (*self._repeated, None):
            place = len(program) if each is None else each.place
            pieces += _pieces(columns.part(done, place), equation, program.inputs)
            done, equation = place, equation + place - done
            if each is not None:
                pieces.append(each.made(equation, renumber, lines))
                equation += each.length
        family = folded(program, pieces)
        if family is not None and data:
            family.data[:0] = [self._data[k] for k in data]
            family.check()
        return family

    def write_out(self) -> None:
        """Write out the rounds that have no columns."""
        traced, done = self.settle().program, 0
        total = len(traced) + sum(each.length for each in self._repeated if each.loop is None)
        if total > progress.MANY and any(each.loop is None for each in self._repeated):
            raise refuse(
                f"the rounds of fg.scan in {traced.name} are {total:,} equations, too many to be written out, and no "
                "loop could be made of them: a round may read its own row, and what the round before computed"
            )
        columns, parts = Columns.of(traced), list[Columns]()
        for each in self._repeated:
            parts += [columns.part(done, each.place), each.made(0).columns(0, each.rounds)]
            done = each.place
        opcodes, starts, operands, sites = Columns.joined([*parts, columns.part(done, len(traced))])
        del columns, parts
        self.builder.shorten(0)
        self.builder.extend(opcodes, starts[1:], operands, sites, np.full(len(opcodes), -1))
        self._repeated = []


def _pieces(part: Columns, first: int, inputs: int) -> list[Piece]:
    """Equations between rounds that have no columns, from an equation on: loops are found in them, too."""
    if len(part.opcodes) < EQUATIONS:
        return [part]
    loops = find_loops(part, inputs + first)
    pieces = pieces_of(part, loops)
    for loop in loops:
        loop.first += first
    return pieces
