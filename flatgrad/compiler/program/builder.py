"""How a `Program` is built: equation by equation, or of equations of another program, which get other numbers.

`ProgramBuilder.take` is the one place that renumbers a program. Passes, the adjoint, the cutting of programs, inlining
and blocks say which equations they want and where variables go; `take` sees to all columns.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...runtime.primitives import BY_NAME
from .made_of import Rebuilding, noted
from .program import Group, Program, default_names

#: Variables or equations, by their numbers.
Indices = np.ndarray[tuple[int], np.dtype[np.int64]]
#: Where variables go: from variables of one program to operands of another. A variable that goes to no variable goes
#: to a constant, or below zero if nothing reads it.
Where = Callable[[Indices], Indices]


class Columns(NamedTuple):
    """Columns that a pass writes: equation `e` has `operands[starts[e]:starts[e + 1]]`.

    Those `inserted` come from no equation; they have the line of the one on the way to which they were inserted.
    """

    opcodes: list[int]
    starts: list[int]
    operands: list[int]
    inserted: list[int]


class ProgramBuilder:
    """Appends equations to a program.

    The columns of what is appended are lists, which grow fastest; `settle` moves them to the program.

    Args:
        name: the program's name.
        groups: its inputs.
        input_names: one per input; made from the groups' names where not given.
        truth_inputs, numbering: as in `Program`.

    Attributes:
        program: what has been settled so far.
        next: the variable of the next equation.
    """

    def __init__(
        self,
        name: str,
        groups: Sequence[Group],
        input_names: Sequence[str] | None = None,
        truth_inputs: frozenset[int] = frozenset(),
        numbering: int = 0,
    ) -> None:
        names = list(input_names) if input_names is not None else default_names(groups)
        self._begin(Program(name, names, list(groups), truth_inputs=truth_inputs, numbering=numbering))

    def _begin(self, program: Program) -> None:
        self.program = program
        self.next: int = program.inputs + len(program)
        self._primal: int | None = None  # of what has been taken over
        self._constants = {_bits(number): ~k for k, number in enumerate(program.constants)}
        self._opcodes: list[int] = []
        self._operands: list[int] = []
        self._ends: list[int] = []
        self._sites: list[int] = []
        self._adjoint_of: list[int] = []

    @classmethod
    def like(cls, program: Program) -> ProgramBuilder:
        """A builder with the inputs of `program`, and no equations."""
        return cls(program.name, program.input_groups, program.input_names, program.truth_inputs, program.numbering)

    @classmethod
    def behind(cls, program: Program) -> ProgramBuilder:
        """A builder that appends to `program` itself."""
        builder = cls.__new__(cls)
        builder._begin(program)
        builder._primal = program.primal
        program.__dict__.pop("_finished_adjoints", None)
        return builder

    def __len__(self) -> int:
        """The number of equations so far."""
        return self.next - self.program.inputs

    def constant(self, number: float | bool) -> int:
        """The operand for a number or truth value. Numbers with the same bits share one."""
        bits = _bits(number)
        operand = self._constants.get(bits)
        if operand is None:
            operand = self._constants[bits] = ~len(self.program.constants)
            self.program.constants.append(number)
        return operand

    def append(self, opcode: int, operands: Sequence[int], site: int = -1, adjoint_of: int = -1) -> int:
        """Append an equation and return its variable."""
        self._opcodes.append(opcode)
        self._operands += operands
        self._ends.append(len(self._operands))
        self._sites.append(site)
        self._adjoint_of.append(adjoint_of)
        variable = self.next
        self.next = variable + 1
        return variable

    def extend(self, opcodes: Any, ends: Any, operands: Any, sites: Any, adjoint_of: Any) -> None:
        """Append equations given as columns; `ends` says where the operands of each equation end."""
        program = self.settle()
        program.starts += column("q", len(program.operands) + ends)
        program.opcodes += column("H", opcodes)
        program.operands += column("q", operands)
        program.sites += column("i", sites)
        program.adjoint_of += column("q", adjoint_of)
        self.next += len(opcodes)

    def shorten(self, count: int) -> None:
        """Take equations away again, until so many are left; constants stay."""
        program = self.settle()
        del program.operands[program.starts[count] :], program.starts[count + 1 :]
        for each in (program.opcodes, program.sites, program.adjoint_of):
            del each[count:]
        self.next = program.inputs + count

    def remove(self, low: int, high: int) -> None:
        """Take some equations away again; constants stay."""
        program = self.settle()
        first, last = program.starts[low], program.starts[high]
        ends = np.array(program.starts[high + 1 :], dtype=np.int64) - (last - first)
        del program.operands[first:last], program.starts[low + 1 :]
        program.starts += column("q", ends)
        for each in (program.opcodes, program.sites, program.adjoint_of):
            del each[low:high]
        self.next -= high - low

    def emit(self, name: str, *operands: int) -> int:
        """Append an equation given by its primitive's name: for writing programs by hand."""
        return self.append(BY_NAME[name].opcode, operands)

    def take(
        self,
        program: Program,
        equations: Sequence[int] | Indices,
        where: Where,
        *,
        sites: Sequence[int] | None = None,
        columns: Columns | None = None,
        outside: Callable[[int], str] | None = None,
    ) -> Callable[[Any], Indices]:
        """Append equations of another program. This is the only function that copies columns.

        Args:
            program: the other program; it is not changed.
            equations: which equations, in ascending order: a range, which is fastest, or their numbers. What they read
                must go somewhere.
            where: where variables of the other program go. The adjoint of a variable that goes to no variable loses its
                name, unless `outside` names that variable.
            sites: the number here of each location of the other program; by default both have the same locations.
            columns: opcodes and operands of the equations, if they differ from those of the other program.
            outside: names variables that go to no variable.

        Returns:
            The function that takes operands of the other program to operands of this one.
        """
        target, first = self.settle(), len(self)
        rows: Any = slice(equations.start, equations.stop) if isinstance(equations, range) else equations

        def renumber(operands: Any) -> Indices:
            refs = np.asarray(operands, dtype=np.int64)
            constant = refs < 0
            constants = np.zeros(len(program.constants), dtype=np.int64)
            constants[~refs[constant]] = 1
            for k in np.flatnonzero(constants).tolist():
                constants[k] = self.constant(program.constants[k])
            result = np.empty_like(refs)
            result[constant] = constants[~refs[constant]]
            result[~constant] = where(refs[~constant])
            return result

        if columns is None:
            operands, ends = _operands(program, equations)
            refs, opcodes = renumber(operands), np.asarray(program.opcodes)[rows]
        else:
            opcodes, ends, refs = (np.array(integers) for integers in columns[:3])
            ends = ends[1:]
        lines = np.asarray(program.sites)[rows]
        if sites is None:
            target.locations = program.locations
        else:
            lines = np.array([*sites, -1])[lines]
        targets = self._targets(program, np.asarray(program.adjoint_of)[rows], where, outside)
        if columns is not None:
            targets[columns.inserted] = -1
        self.extend(opcodes, ends, refs, lines, targets)
        if self._primal is None:
            self._primal = first + bisect_left(equations, program.primal)
        if program.update >= 0:
            target.update = first + bisect_left(equations, program.update)
        return renumber

    def _targets(
        self, program: Program, targets: Indices, where: Where, outside: Callable[[int], str] | None
    ) -> Indices:
        """Entries of `adjoint_of` as entries of this program."""
        foreign = self.program.foreign_names
        result = np.where(targets < -1, targets - len(foreign), -1)
        foreign += program.foreign_names
        inner = np.flatnonzero(targets >= 0)
        result[inner] = np.maximum(where(targets[inner]), -1)
        if outside is not None:
            for index in inner[result[inner] < 0].tolist():
                foreign.append(outside(int(targets[index])))
                result[index] = -1 - len(foreign)
        return result

    def rebuild(
        self, program: Program, equations: Sequence[int] | Indices, where: Where, columns: Columns | None = None
    ) -> Program:
        """The other program again, with these equations of it; arguments as for `take`.

        Example:
            >>> f = ProgramBuilder("f", [Group("x", 1, True)])
            >>> f.emit("exp", 0)
            1
            >>> program = f.finish([f.emit("mul", 0, 0)])
            >>> where = np.array([0, -1, 1]).__getitem__
            >>> print(ProgramBuilder.like(program).rebuild(program, [1], where))
            program f(x):
                v1 = mul x x
                return v1
        """
        renumber = self.take(program, equations, where, columns=columns)
        result = self.finish(renumber(program.outputs), program.output_groups)
        steps = noted()
        if steps is not None:
            places = where(np.arange(program.inputs + len(program)))
            steps.append(Rebuilding(program, result, places, np.array(equations, dtype=np.int64)))
        return result

    def settle(self) -> Program:
        """The program with everything that has been appended so far."""
        program = self.program
        if self._opcodes:
            program.starts += column("q", np.asarray(array("q", self._ends)) + len(program.operands))
            program.opcodes += array("H", self._opcodes)
            program.operands += array("q", self._operands)
            program.sites += array("i", self._sites)
            program.adjoint_of += array("q", self._adjoint_of)
            for appended in (self._opcodes, self._operands, self._ends, self._sites, self._adjoint_of):
                appended.clear()
        return program

    def finish(self, outputs: Any, groups: Sequence[Group] | None = None, primal: int | None = None) -> Program:
        """The program, with these outputs; `primal` counts the equations that are not taken over, where not given."""
        program = self.settle()
        program.outputs = np.asarray(outputs, dtype=np.int64).tolist()
        if groups is not None:
            program.output_groups = list(groups)
        elif not program.output_groups:
            program.output_groups = [Group(f"out{k}", 1, True) for k in range(len(program.outputs))]
        if primal is None:
            primal = len(program) if self._primal is None else self._primal
        program.primal = primal
        return program


def _operands(program: Program, equations: Sequence[int] | Indices) -> tuple[Indices, Indices]:
    """The operands of some equations, one behind the other, and where those of each equation end."""
    starts, operands = np.asarray(program.starts), np.asarray(program.operands)
    if isinstance(equations, range):
        first = starts[equations.start]
        return operands[first : starts[equations.stop]], starts[equations.start + 1 : equations.stop + 1] - first
    chosen = np.zeros(len(program), dtype=bool)
    chosen[equations] = True
    lengths = np.diff(starts)
    return operands[np.repeat(chosen, lengths)], np.cumsum(lengths[chosen])


def column(typecode: str, integers: Any) -> array[int]:
    """A column from a NumPy array of integers."""
    result: array[int] = array(typecode)
    result.frombytes(np.asarray(integers, dtype=result.typecode if typecode != "q" else np.int64).tobytes())
    return result


def distinct(keys: Indices) -> tuple[Indices, Indices, Indices]:
    """What `np.unique` returns with indices and inverse, for numbers from 0 on that are small, without sorting them."""
    if keys.max(initial=0) > 4 * len(keys):
        return np.unique(keys, return_index=True, return_inverse=True)
    firsts = np.full(keys.max(initial=-1) + 1, -1)
    firsts[keys[::-1]] = np.arange(len(keys))[::-1]  # the first one is written last
    present = np.flatnonzero(firsts >= 0)
    places = np.zeros(len(firsts), dtype=np.int64)
    places[present] = np.arange(len(present))
    return present, firsts[present], places[keys]


def _bits(number: float | bool) -> bytes | bool:
    return number if isinstance(number, bool) else struct.pack("<d", number)
