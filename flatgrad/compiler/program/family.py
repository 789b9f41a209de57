"""`Family`: programs that differ in how many rounds their loops have.

A program of N rounds says the same thing N times. A family says it once: it consists of *stretches*, which are so many
positions, repeated for so many rounds, and the number of rounds depends on an extent. Inputs are stretches as well: an
argument whose numbers are read round by round is one number, repeated. What an operand reads lies on a line over the
rounds, so that a member of the family is computed by columns.

The rounds stand in the program as if it had been written out: variable numbers are those of the whole program.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ...runtime.errors import ARITHMETIC_ERRORS, FlatgradError, ProgramError
from ...runtime.primitives import TABLE, Primitive, where
from ...runtime.sites import Location
from ...runtime.tracing import refuse
from ...runtime.wording import count_of
from .builder import ProgramBuilder, column
from .groups import Group
from .program import Program
from .progress import MANY

#: The columns of references: which stretch is read, at which position of its round, in which round. That round is
#: SLOPE * (the own round) + OFFSET + END * (how many rounds the stretch that is read has). In a reference to a constant
#: the stretch is -1, and the position says which constant.
STRETCH, POSITION, SLOPE, OFFSET, END = range(5)
#: A reference per row.
References = np.ndarray[tuple[int, int], np.dtype[np.int64]]
_NAMES = ("n", "m")


class Count(NamedTuple):
    """A number of rounds: a constant, added to an extent if there is one (-1: there is none).

    >>> Count(3).at([10]), Count(-1, 0).at([10]), Count(-1, 0).text()
    (3, 9, 'n - 1')
    """

    constant: int = 1
    extent: int = -1

    def at(self, sizes: Sequence[int]) -> int:
        """The number, for these extents."""
        return self.constant + (sizes[self.extent] if self.extent >= 0 else 0)

    def text(self) -> str:
        """The number, as it is printed."""
        return str(self.constant) if self.extent < 0 else _sum(_NAMES[self.extent], self.constant)


#: No repetition.
ONCE = Count()


@dataclass
class Stretch:
    """`size` positions, repeated in so many `rounds`; of inputs, or of equations, which have columns.

    Attributes:
        size, rounds: how many positions a round has, and how many rounds there are.
        opcodes, starts, sites: per position, as in `Program`.
        operands: references.
    """

    size: int
    rounds: Count = ONCE
    opcodes: array[int] = field(default_factory=lambda: array("H"))
    starts: array[int] = field(default_factory=lambda: array("q", [0]))
    operands: References = field(default_factory=lambda: references([]))
    sites: array[int] = field(default_factory=lambda: array("i"))


class _Places(NamedTuple):
    """Where stretches are in a member: how many rounds, the positions of a round, and the first variables of each."""

    counts: Any
    widths: Any
    starts: Any

    @classmethod
    def of(cls, items: Sequence[Stretch], sizes: Sequence[int]) -> _Places:
        counts = np.array([item.rounds.at(sizes) for item in items], dtype=np.int64)
        widths = np.array([item.size for item in items], dtype=np.int64)
        return cls(counts, widths, np.concatenate([[0], np.cumsum(widths * counts)]))

    def lines(self, rows: References) -> tuple[Any, Any]:
        """What references read in the first round, and how far that moves from round to round."""
        read = rows[:, STRETCH]
        variables = self.starts[read] + rows[:, POSITION]
        variables += self.widths[read] * (rows[:, OFFSET] + rows[:, END] * self.counts[read])
        return np.where(read < 0, ~rows[:, POSITION], variables), np.where(
            read < 0, 0, self.widths[read] * rows[:, SLOPE]
        )


class Run(NamedTuple):
    """Outputs: the operands of a round, repeated in so many `rounds`."""

    operands: References
    rounds: Count = ONCE


class Part(NamedTuple):
    """A group of inputs or outputs of a family: so many of its stretches, or runs, that come next."""

    name: str
    scalar: bool
    parts: int = 1


def references(rows: Sequence[Sequence[int]]) -> References:
    """References from rows of `STRETCH, POSITION, SLOPE, OFFSET, END`; what is left out is 0.

    >>> references([(-1, 2), (0, 1, 1, -1)]).tolist()
    [[-1, 2, 0, 0, 0], [0, 1, 1, -1, 0]]
    """
    return np.array([[*row, *[0] * (5 - len(row))] for row in rows], dtype=np.int64).reshape(len(rows), 5)


@dataclass(repr=False)
class Family:
    """A scalar program whose rounds are counted by extents.

    Attributes:
        name: as in `Program`.
        input_names: the names of the inputs at the true extents.
        input_groups, output_groups: how inputs and outputs travel together.
        inputs: the stretches of inputs.
        stretches: the stretches of equations, in order. References count the stretches of inputs first.
        outputs: what is returned.
        constants, locations: as in `Program`.
        extents: the true ones: those of the program that was traced.
        data: numbers that differ from round to round and that the function captured. They are inputs: the last groups
            of them, one per array.

    Example:
        Powers of two numbers, one after the other:

        >>> from flatgrad.runtime.primitives import BY_NAME
        >>> mul = array("H", [BY_NAME["mul"].opcode])
        >>> ends, sites = array("q", [0, 2]), array("i", [-1])
        >>> first = Stretch(1, ONCE, mul, ends, references([(0, 0), (1, 0, 0, 0)]), sites)
        >>> rest = Stretch(1, Count(-1, 0), mul, ends, references([(3, 0, 1, -1), (1, 0, 1, 1)]), sites)
        >>> family = Family("f", ["x", "y0", "y1", "y2"], [Part("x", True), Part("y", False)])
        >>> family.inputs, family.stretches = [Stretch(1), Stretch(1, Count(0, 0))], [first, rest]
        >>> family.outputs, family.output_groups = [Run(references([(3, 0, 0, -1, 1)]))], [Part("out", True)]
        >>> family.extents = (3,)
        >>> print(family)
        family f(x, y[n]) for n = 3:
            v0 = mul x y[0]
            repeat n - 1:
                v1 = mul v1[r - 1] y[r + 1]
            return v1[-1]
        >>> print(family.at((2,)))
        program f(x, y=[y0, y1]):
            v3 = mul x y0
            v4 = mul v3 y1
            return v4
    """

    name: str
    input_names: list[str]
    input_groups: list[Part]
    inputs: list[Stretch] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    outputs: list[Run] = field(default_factory=list)
    output_groups: list[Part] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    locations: list[Location] = field(default_factory=list)
    extents: tuple[int, ...] = ()
    data: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        """The number of equations at the true extents."""
        return self.length_at(self.extents)

    def length_at(self, sizes: Sequence[int]) -> int:
        """The number of equations at some extents."""
        return sum(stretch.size * stretch.rounds.at(sizes) for stretch in self.stretches)

    def __repr__(self) -> str:
        return f"<Family {self.name}: {count_of(len(self), 'equation')}>"

    # --- members --------------------------------------------------------------------------------------------------

    def at(self, sizes: Sequence[int]) -> Program:
        """The program with these extents, by columns.

        Raises:
            ProgramError: for extents at which something would be read before it is defined.
        """
        places = _Places.of([*self.inputs, *self.stretches], sizes)
        counts, starts = places.counts, places.starts
        if len(sizes) != len(self.extents) or counts.min(initial=0) < 0:
            raise ProgramError(f"{self.name} has no member with the extents {tuple(sizes)}")

        def operands(rows: References, count: int, limit: Any) -> Any:
            """What the references read in each round; `limit` is one past what the first round may read."""
            read = rows[:, STRETCH]
            offsets = rows[:, OFFSET] + rows[:, END] * counts[read]
            first, step = places.lines(rows)
            # Negative rounds are those that lie before the stretch: equations, or the last inputs if these are no data.
            is_input, first_input = read < len(self.inputs), starts[max(0, len(self.inputs) - (not self.data))]
            least, low = np.where(is_input, 0, -starts[read]), np.where(is_input, 0, first_input)
            for r in (0, count - 1) if count else ():
                rounds, variables, (end, size) = offsets + rows[:, SLOPE] * r, first + step * r, limit
                fits = (least <= rounds) & (rounds < counts[read]) & (variables >= low) & (variables < end + size * r)
                if not (fits | (read < 0)).all():
                    raise ProgramError(f"{self.name} has no member with the extents {tuple(sizes)}")
            return (first + step * np.arange(count)[:, None]).ravel()

        program = Program(self.name, *self._inputs_at(sizes), locations=self.locations, constants=[*self.constants])
        for k, stretch in enumerate(self.stretches, len(self.inputs)):
            count, ends = int(counts[k]), np.asarray(stretch.starts, dtype=np.int64)[1:]
            owners = np.repeat(np.arange(stretch.size), np.diff(stretch.starts))
            limits = starts[k] + owners, np.full(len(owners), stretch.size)
            before = len(program.operands)
            program.operands += column("q", operands(stretch.operands, count, limits))
            width = len(stretch.operands)
            program.starts += column("q", (before + ends + width * np.arange(count)[:, None]).ravel())
            program.opcodes += stretch.opcodes * count
            program.sites += stretch.sites * count
        program.adjoint_of = array("q", [-1]) * len(program)
        program.primal = len(program)
        end = int(starts[-1])
        for group, runs in _by_group(self.output_groups, self.outputs):
            first = len(program.outputs)
            for run in runs:
                limits = np.full(len(run.operands), end), np.zeros(len(run.operands), dtype=np.int64)
                program.outputs += operands(run.operands, run.rounds.at(sizes), limits).tolist()
            program.output_groups.append(Group(group.name, len(program.outputs) - first, group.scalar))
        return program

    def evaluate(self, inputs: Sequence[float]) -> None:
        """Run the equations one by one, as `Program.evaluate` does, without making the program: for what is raised.

        Args:
            inputs: a number per input that is no data.

        Raises:
            DomainError, DivisionByZeroError, RangeError: where an operation is not defined, naming the user's line.
        """
        numbers: list[Any] = [*inputs, *(number for rows in self.data for number in rows.ravel().tolist())]
        places = _Places.of([*self.inputs, *self.stretches], self.extents)
        for k, stretch in enumerate(self.stretches, len(self.inputs)):
            lines = list(zip(*(column.tolist() for column in places.lines(stretch.operands)), strict=True))
            pairs = itertools.pairwise(stretch.starts)
            body = [(TABLE[code], lines[start:end]) for code, (start, end) in zip(stretch.opcodes, pairs, strict=True)]
            for r in range(int(places.counts[k])):
                for primitive, operands in body:
                    arguments = [
                        numbers[first + step * r] if first >= 0 else self.constants[~first] for first, step in operands
                    ]
                    try:
                        numbers.append(primitive.evaluate(*arguments))
                    except FlatgradError:
                        raise
                    except ARITHMETIC_ERRORS as error:
                        self._raise(error, inputs, primitive, arguments, stretch, len(numbers) - int(places.starts[k]))

    def _raise(
        self, error: Exception, inputs: Sequence[float], primitive: Primitive, arguments: list[Any], stretch: Stretch,
        position: int,
    ) -> NoReturn:  # fmt: skip
        """Raise the error of an equation of a stretch."""
        if any(where.opcode in each.opcodes for each in self.stretches):
            self.whole().evaluate(inputs)  # perhaps nothing needs that equation, which its error says
        site = stretch.sites[position % stretch.size]
        raise primitive.error(error, arguments, self.locations[site] if site >= 0 else None) from None

    def groups(self, outputs: bool = False) -> list[Group]:
        """The groups of inputs, or of outputs, of the program with the true extents, without those of data."""
        groups: Any = _by_group(self.input_groups, self.inputs)
        if outputs:
            groups = _by_group(self.output_groups, self.outputs)
        sizes = [sum(self._width(each) * each.rounds.at(self.extents) for each in items) for _, items in groups]
        count = len(groups) - (0 if outputs else len(self.data))
        pairs = zip(groups, sizes, strict=True)
        return [Group(part.name, size, part.scalar) for (part, _), size in pairs][:count]

    @staticmethod
    def _width(item: Stretch | Run) -> int:
        return item.size if isinstance(item, Stretch) else len(item.operands)

    def reduced(self, sizes: Sequence[int]) -> Family:
        """The family for which smaller extents are the true ones: with the first rounds of its data."""
        program = self.at(sizes)
        counts = [group.size for group in program.input_groups[len(program.input_groups) - len(self.data) :]]
        data = [rows.ravel()[:count] for rows, count in zip(self.data, counts, strict=True)]
        return replace(self, input_names=program.input_names, extents=tuple(sizes), data=data)

    def _inputs_at(self, sizes: Sequence[int]) -> tuple[list[str], list[Group]]:
        """The names of a member's inputs, and its groups."""
        names: list[str] = []
        groups, place, taken = [], 0, set(self.input_names)
        for group, stretches in _by_group(self.input_groups, self.inputs):
            true, size = (sum(s.size * s.rounds.at(each) for s in stretches) for each in (self.extents, sizes))
            names += self.input_names[place : place + min(true, size)]
            for k in range(true, size):
                name = f"{group.name}{k}"
                while name in taken:
                    name += "_"
                taken.add(name)
                names.append(name)
            groups.append(Group(group.name, size, group.scalar))
            place += true
        return names, groups

    def whole(self) -> Program:
        """The program with the true extents, in which the data are constants.

        Raises:
            TraceError: if it has too many equations.
        """
        if len(self) > MANY:
            raise refuse(
                f"{self.name} has {len(self):,} equations, too many to be written out. That is needed where a "
                "kernel has no loop of its rounds: on NumPy, for a gradient inside of a traced function, and where "
                "a round reads more than its own row and what the round before computed"
            )
        program, groups = self.at(self.extents), len(self.input_groups) - len(self.data)
        if not self.data:
            return program
        numbers = [number for rows in self.data for number in rows.ravel().tolist()]
        inputs = program.inputs - len(numbers)
        builder = ProgramBuilder(program.name, program.input_groups[:groups], program.input_names[:inputs])
        goes = np.arange(program.inputs + len(program))
        goes[program.inputs :] -= len(numbers)
        goes[inputs : program.inputs] = list(map(builder.constant, numbers))
        return builder.rebuild(program, range(len(program)), goes.__getitem__)

    # --- checker --------------------------------------------------------------------------------------------------

    def check(self) -> Family:
        """Return the family itself if it keeps the rules.

        Raises:
            ProgramError: naming the rule that it breaks.
        """
        for group, parts, what in (
            (self.input_groups, self.inputs, "inputs"),
            (self.output_groups, self.outputs, "outputs"),
        ):
            if sum(each.parts for each in group) != len(parts):
                raise ProgramError(f"{self.name}: the groups do not add up to the {what}")
        total = len(self.inputs) + len(self.stretches)
        for number, rows in enumerate([*(s.operands for s in self.stretches), *(run.operands for run in self.outputs)]):
            limit = min(len(self.inputs) + number + 1, total)
            if (rows[:, STRETCH] >= limit).any() or (rows[rows[:, STRETCH] < 0, POSITION] >= len(self.constants)).any():
                raise ProgramError(f"{self.name}: a stretch reads what comes later, or a constant that is missing")
        for stretch in self.stretches:
            columns = (len(stretch.opcodes), len(stretch.starts) - 1, len(stretch.sites))
            if columns != (stretch.size,) * 3 or stretch.starts[-1] != len(stretch.operands):
                raise ProgramError(f"{self.name}: a stretch of {stretch.size} positions has columns of {columns}")
        groups = _by_group(self.input_groups, self.inputs)
        sizes = [sum(s.size * s.rounds.at(self.extents) for s in stretches) for _, stretches in groups]
        if self.data and sizes[-len(self.data) :] != [rows.size for rows in self.data]:
            raise ProgramError(f"{self.name}: the data do not fill their inputs")
        if sum(sizes) != len(self.input_names):
            raise ProgramError(f"{self.name}: {len(self.input_names)} names for {sum(sizes)} inputs")
        return self

    def digest(self) -> bytes:
        """A fingerprint of what all members compute: of everything but the true extents, names and data."""
        result = hashlib.sha256()
        for stretch in (*self.inputs, *self.stretches):
            result.update(repr((stretch.size, stretch.rounds, len(stretch.operands))).encode())
            for each in (stretch.opcodes, stretch.starts, stretch.operands):
                result.update(each.tobytes())
        for run in self.outputs:
            result.update(repr((len(run.operands), run.rounds)).encode() + run.operands.tobytes())
        result.update(repr((self.input_groups, self.output_groups, self.constants, len(self.data))).encode())
        return result.digest()

    # --- printer --------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        """The family as text: what is repeated stands there once, with the user's line where it changes."""
        names, inputs = self._names()
        arguments = []
        for group, stretches in _by_group(self.input_groups, self.inputs):
            counts = [f"{s.size} * ({s.rounds.text()})" if s.size > 1 else s.rounds.text() for s in stretches]
            sizes = [text if s.rounds.extent >= 0 else str(s.size) for s, text in zip(stretches, counts, strict=True)]
            arguments.append(group.name if group.scalar else f"{group.name}[{' + '.join(sizes)}]")
        extents = ", ".join(f"{name} = {size:,}" for name, size in zip(_NAMES, self.extents, strict=False))
        lines, last = [f"family {self.name}({', '.join(arguments)}) for {extents}:"], -1
        for k, stretch in enumerate(self.stretches, inputs):
            indent = "    "
            if stretch.rounds != ONCE:
                lines.append(f"    repeat {stretch.rounds.text()}:")
                indent = "        "
            for p, opcode in enumerate(stretch.opcodes):
                rows = stretch.operands[stretch.starts[p] : stretch.starts[p + 1]].tolist()
                operands = "".join([f" {self._text(row, names, k)}" for row in rows])
                text = f"{indent}{names[k][p]} = {TABLE[opcode].name}{operands}"
                if stretch.sites[p] not in (-1, last):
                    last = stretch.sites[p]
                    text = f"{text:<40} # {' '.join(str(self.locations[last]).split())}"
                lines.append(text)
        results = []
        for group, runs in _by_group(self.output_groups, self.outputs):
            texts = []
            for run in runs:
                row = ", ".join(self._text(each, names, -1) for each in run.operands.tolist())
                texts.append(row if run.rounds == ONCE else f"*({row} for r in range({run.rounds.text()}))")
            results.append(texts[0] if group.scalar else f"[{', '.join(texts)}]")
        return "\n".join([*lines, f"    return {', '.join(results)}".rstrip()])

    def _names(self) -> tuple[list[list[str]], int]:
        """Names per stretch and position, and how many stretches of inputs there are."""
        names: list[list[str]] = []
        place = number = 0
        for group, stretches in _by_group(self.input_groups, self.inputs):
            for each in stretches:
                true = each.size * each.rounds.at(self.extents)
                repeated = each.rounds != ONCE
                names.append([group.name] * each.size if repeated else self.input_names[place : place + true])
                place += true
        for stretch in self.stretches:
            names.append([f"v{number + p}" for p in range(stretch.size)])
            number += stretch.size
        return names, len(self.inputs)

    def _text(self, row: Sequence[int], names: list[list[str]], own: int) -> str:
        """How a reference is written: `x`, `v7[r - 1]`, `y[r, 0]`; a round counted from the end is negative."""
        read, position, slope, offset, end = row
        if read < 0:
            return repr(self.constants[position])
        items = [*self.inputs, *self.stretches]
        name, repeated = names[read][position], items[read].rounds != ONCE
        if not repeated and (slope, offset, end) == (0, 0, 0):
            return name
        if read == own and (slope, offset, end) == (1, 0, 0):
            return name
        line = {0: "", 1: "r", -1: "-r"}.get(slope, f"{slope}*r")
        if end and not slope and offset >= 0:
            line = items[read].rounds.text()
        index = _sum(line, offset) if line else str(offset)
        is_one = read >= len(self.inputs) or items[read].size == 1
        return f"{name}[{index}]" if is_one else f"{name}[{index}, {position}]"


def _by_group(groups: Sequence[Part], items: Sequence[Any]) -> list[tuple[Part, Sequence[Any]]]:
    ends = np.cumsum([group.parts for group in groups]).tolist()
    return [(group, items[end - group.parts : end]) for group, end in zip(groups, ends, strict=True)]


def moved_inputs(inputs: Sequence[int], groups: Sequence[Group], others: Sequence[Group]) -> list[int]:
    """The inputs of another member of a family that correspond to some of one.

    Args:
        inputs: which ones.
        groups, others: the groups of inputs of both.

    Raises:
        ProgramError: if a group is of another size, and only some of it are among them.

    Example:
        >>> x, y = Group("x", 1, True), Group("y", 4, False)
        >>> moved_inputs([1, 2, 3, 4, 0], [x, y], [x, Group("y", 2, False)])
        [1, 2, 0]
    """
    starts = np.cumsum([0, *(group.size for group in groups)]).tolist()
    places = np.cumsum([0, *(group.size for group in others)]).tolist()
    owners = (np.searchsorted(starts, inputs, side="right") - 1).tolist()
    result: list[int] = []
    for owner, run in itertools.groupby(zip(owners, inputs, strict=True), lambda pair: pair[0]):
        chosen = [k for _, k in run]
        if groups[owner].size == others[owner].size:
            result += [k - starts[owner] + places[owner] for k in chosen]
        elif chosen == [*range(starts[owner], starts[owner + 1])]:
            result += range(places[owner], places[owner + 1])
        else:
            raise ProgramError(f"only some of {groups[owner].name} are differentiated, which has other sizes")
    return result


def _sum(text: str, number: int) -> str:
    return text if not number else f"{text} {'+' if number > 0 else '-'} {abs(number)}"
