"""`Program`: the straight-line, single-assignment scalar program, with its printer, checker and evaluator.

Variables are numbered: first the inputs, then one per equation. An operand is a variable's number, or `~k` for the
k-th constant. The equations are kept as columns of machine integers, because programs of 10^5 to 10^7 equations are
normal; `Equation`s are handed out as views.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...display.listing import two_screens
from ...display.markup import card, code
from ...runtime.drawing import WIDTH
from ...runtime.errors import ARITHMETIC_ERRORS, FlatgradError, ProgramError
from ...runtime.primitives import TABLE
from ...runtime.sites import Location
from ...runtime.wording import count_of
from .equations import Equation as Equation
from .equations import all_results
from .groups import Group as Group
from .groups import default_names as default_names
from .groups import grouped as grouped
from .hints import hint
from .picture import draw_program
from .symbolic import sympy_outputs

#: Longer lists of inputs and outputs are abridged when a program is printed.
_LISTED = 40


@dataclass(repr=False)
class Program:
    """A straight-line scalar program.

    Attributes:
        name: a Python identifier for what the program computes.
        input_names: one name per input, all different and safe to print as identifiers.
        input_groups: how the inputs are passed, in order; sizes add up to the number of inputs.
        opcodes: one opcode (row of the table) per equation.
        starts: equation `e` owns `operands[starts[e]:starts[e + 1]]`.
        operands: operands of all equations: a variable's number, or `~k` for `constants[k]`.
        constants: the numbers that stand in the program.
        outputs: an operand per output.
        output_groups: how the outputs are returned.
        sites: per equation, the index of its provenance in `locations`, or -1.
        locations: lines of the user's source.
        adjoint_of: per equation, the variable whose adjoint it accumulates, or -1; `-2 - k` stands for a variable of
            another program (the forward part), called `foreign_names[k]`.
        primal: how many leading equations belong to the forward part.
        truth_inputs: the inputs that are truth values, in a part cut out of a program; all others are numbers.
        numbering: what is added to a variable's number in its name: a part cut out of a program keeps the names.
        update: the index of the first equation behind the gradient (a training step's update), or -1.

    Example:
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> program = f.finish([f.emit("mul", 0, 0)])
        >>> print(program)
        program f(x):
            v1 = mul x x
            return v1
        >>> program.evaluate([3.0])
        [9.0]
    """

    name: str
    input_names: list[str]
    input_groups: list[Group]
    opcodes: array[int] = field(default_factory=lambda: array("H"))
    starts: array[int] = field(default_factory=lambda: array("q", [0]))
    operands: array[int] = field(default_factory=lambda: array("q"))
    constants: list[float] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    output_groups: list[Group] = field(default_factory=list)
    sites: array[int] = field(default_factory=lambda: array("i"))
    locations: list[Location] = field(default_factory=list)
    adjoint_of: array[int] = field(default_factory=lambda: array("q"))
    primal: int = 0
    update: int = -1
    foreign_names: list[str] = field(default_factory=list)
    numbering: int = 0
    truth_inputs: frozenset[int] = frozenset()

    # --- reading --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of equations."""
        return len(self.opcodes)

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return len(self.input_names)

    def equation(self, index: int) -> Equation:
        """The view of equation `index`, counted from 0."""
        site = self.sites[index]
        return Equation(
            self.inputs + index,
            TABLE[self.opcodes[index]],
            tuple(self.operands[self.starts[index] : self.starts[index + 1]]),
            self.locations[site] if site >= 0 else None,
        )

    def equations(self) -> Iterator[Equation]:
        """Views of all equations, in order."""
        return map(self.equation, range(len(self)))

    def name_of(self, operand: int) -> str:
        """How an operand is written: `x`, `v7`, the adjoint `v7_bar`, or a number."""
        if operand < 0:
            return repr(self.constants[~operand])
        if operand < self.inputs:
            return self.input_names[operand]
        target = self.adjoint_of[operand - self.inputs]
        if target != -1 and self._last_of_adjoint().get(target) == operand:
            return self.bar_name(target)
        return self.plain_name(operand)

    def plain_name(self, variable: int) -> str:
        """The name of a variable that does not say whose adjoint it is: `x`, `v7`."""
        return self.input_names[variable] if variable < self.inputs else f"v{variable + self.numbering}"

    def bar_name(self, target: int) -> str:
        """The name of the adjoint of an entry of `adjoint_of`: `x_bar`, `v7_bar`."""
        if target < -1:
            return f"{self.foreign_names[-2 - target]}_bar"
        return f"{self.plain_name(target)}_bar"

    def _last_of_adjoint(self) -> dict[int, int]:
        """The variable that holds the finished adjoint of each variable (partial sums stay nameless)."""
        finished: dict[int, int] | None = self.__dict__.get("_finished_adjoints")
        if finished is None:
            finished = dict(zip(self.adjoint_of, range(self.inputs, self.inputs + len(self)), strict=True))
            finished.pop(-1, None)
            self.__dict__["_finished_adjoints"] = finished
        return finished

    def kind_of(self, operand: int) -> str:
        """`f` for a number, `b` for a truth value."""
        if operand < 0:
            return "b" if isinstance(self.constants[~operand], bool) else "f"
        if operand < self.inputs:
            return "b" if operand in self.truth_inputs else "f"
        return TABLE[self.opcodes[operand - self.inputs]].result

    # --- printer --------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {count_of(len(self), 'equation')}>"

    def __str__(self) -> str:
        """The program as text, one equation per line, with the user's line where it changes."""
        return "\n".join(self.lines(0, len(self)))

    def _repr_html_(self) -> str:
        """How notebooks show it."""
        count = f"{count_of(len(self), 'equation')}, {count_of(self.inputs, 'input')}"
        return card(f"Program {self.name}", code(self.abridged(40)), note=count, wide=True)

    def abridged(self, height: int) -> str:
        """The program as text; if that is longer than two screens of this height, its first and its last lines."""
        count, ends = len(self), height - 1
        if count + 2 <= 2 * height:
            return str(self)
        return two_screens(self.lines(0, ends), count - 2 * ends, self.lines(count - ends, count))

    def lines(self, first: int, end: int) -> list[str]:
        """The lines of some equations. The first equation has the head above it, the last one the outputs below."""
        lines = []
        if not first:
            arguments = [
                names[0] if group.scalar else f"{group.name}={_listed(names)}"
                for group, names in grouped(self.input_groups, self.input_names)
            ]
            lines.append(f"program {self.name}({', '.join(arguments)}):")
        site = next((self.sites[e] for e in range(first - 1, -1, -1) if self.sites[e] >= 0), -1)
        last = self.locations[site] if site >= 0 else None
        for equation in map(self.equation, range(first, end)):
            text = f"    {self.name_of(equation.variable)} = {equation.primitive.name}"
            text += "".join([f" {self.name_of(operand)}" for operand in equation.operands])
            if equation.location is not None and equation.location != last:
                text = f"{text:<40} # {_one_line(str(equation.location))}"
                last = equation.location
            lines.append(text)
        if end == len(self):
            returned = grouped(self.output_groups, list(map(self.name_of, self.outputs)))
            results = [names[0] if group.scalar else _listed(names) for group, names in returned]
            lines.append(f"    return {', '.join(results)}".rstrip())
        return lines

    def reads_like(self, other: Program) -> bool:
        """Whether another program has the same text. Texts are compared only where columns do not tell."""
        if len(self) != len(other) or self.opcodes != other.opcodes:
            return False
        columns = [(list(map(repr, each.constants)), replace(each, constants=[])) for each in (self, other)]
        return columns[0] == columns[1] or str(self) == str(other)

    # --- checker --------------------------------------------------------------------------------------------------

    def check(self) -> Program:
        """Return the program itself if it keeps the rules.

        Raises:
            ProgramError: naming the equation and the rule that it breaks.
        """
        count, inputs = len(self), self.inputs
        columns = (len(self.starts) - 1, len(self.sites), len(self.adjoint_of))
        if columns != (count, count, count):
            raise ProgramError(f"{self.name}: {count} opcodes but columns of {columns}")
        if self.starts[-1] != len(self.operands):
            raise ProgramError(f"{self.name}: {len(self.operands)} operands, of which equations own {self.starts[-1]}")
        if len(set(self.input_names)) != inputs:
            raise ProgramError(f"{self.name}: two inputs have the same name")
        for groups, total, what in (
            (self.input_groups, inputs, "inputs"),
            (self.output_groups, len(self.outputs), "outputs"),
        ):
            if sum(group.size for group in groups) != total or any(g.scalar and g.size != 1 for g in groups):
                raise ProgramError(f"{self.name}: the groups do not add up to the {total} {what}")
        for equation in self.equations():
            where = f"{self.name}: equation v{equation.variable} = {equation.primitive.name}"
            if len(equation.operands) != equation.primitive.arity:
                raise ProgramError(f"{where} has {len(equation.operands)} operands, not {equation.primitive.arity}")
            for operand, kind in zip(equation.operands, equation.primitive.operand_kinds, strict=True):
                self._check_operand(where, operand, equation.variable)
                if self.kind_of(operand) != kind:
                    raise ProgramError(
                        f"{where}: {self.name_of(operand)} is of kind {self.kind_of(operand)}, not {kind}"
                    )
        for operand in self.outputs:
            self._check_operand(f"{self.name}: return", operand, inputs + count)
        if not 0 <= self.primal <= count:
            raise ProgramError(f"{self.name}: {self.primal} primal equations of {count}")
        return self

    def _check_operand(self, where: str, operand: int, limit: int) -> None:
        if operand >= limit:
            raise ProgramError(f"{where} uses v{operand} before it is defined")
        if ~operand >= len(self.constants):
            raise ProgramError(f"{where} uses constant {~operand} of {len(self.constants)}")

    def digest(self) -> bytes:
        """A fingerprint of what it computes."""
        result = hashlib.sha256()
        for column in (self.opcodes, self.starts, self.operands, array("q", self.outputs)):
            result.update(column.tobytes())
        result.update(repr(self.constants).encode())
        return result.digest()

    # --- evaluator ------------------------------------------------------------------------------------------------

    def evaluate(self, inputs: Sequence[float]) -> list[float]:
        """What the program means: run the equations one by one on floats and return the outputs.

        Raises:
            ProgramError: for a wrong number of inputs.
            DomainError, DivisionByZeroError, RangeError: where an operation is not defined, naming the user's line.
        """
        numbers = self.evaluate_all(inputs)
        return [numbers[operand] if operand >= 0 else self.constants[~operand] for operand in self.outputs]

    def evaluate_all(self, inputs: Sequence[float]) -> list[float]:
        """The numbers of all variables, inputs first; raises as `evaluate`."""
        if len(inputs) != self.inputs:
            raise ProgramError(f"{self.name} takes {count_of(self.inputs, 'input')}, got {len(inputs)}")
        return all_results(self, list(inputs))

    def result(self, equation: Equation, numbers: Sequence[float]) -> float:
        """The number of one equation, given those of all variables before it; raises as `evaluate`."""
        constants = self.constants
        arguments = [numbers[operand] if operand >= 0 else constants[~operand] for operand in equation.operands]
        try:
            return equation.primitive.evaluate(*arguments)
        except FlatgradError:
            raise
        except ARITHMETIC_ERRORS as error:
            advice = hint(self, error, equation.variable - self.inputs, numbers)
            raise equation.primitive.error(error, arguments, equation.location, advice) from None

    def to_sympy(self) -> list[Any]:
        """The outputs as SymPy expressions in real symbols named as the inputs; for small programs.

        Raises:
            ProgramError: for a program of more than 2,000 equations, whose expressions nobody could read.

        Example:
            >>> import flatgrad as fg
            >>> fg.value_and_grad(lambda x: x.sin() * x).kernel_for(1.0).program.to_sympy()
            [x*sin(x), x*cos(x) + sin(x)]
        """
        return sympy_outputs(self)

    def draw_dot(self, format: str = "svg", rankdir: str = "LR", *, width: float | None = WIDTH) -> Any:
        """A picture of the program: inputs are green, leaves blue, equations of the gradient orange, updates violet.

        Args:
            format, rankdir, width: as for `fg.draw_dot`.

        Returns:
            A `graphviz.Digraph`.

        Raises:
            OptionError: for a program of more than 500 equations, or another option than there are.
            MissingExtraError: if the Python package graphviz is not installed.
        """
        return draw_program(self, format, rankdir, width)


def _listed(names: Sequence[str]) -> str:
    return f"[{', '.join(names if len(names) <= _LISTED else [*names[:3], '...', names[-1]])}]"


def _one_line(text: str) -> str:
    return " ".join(text.split())
