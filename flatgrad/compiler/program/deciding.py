"""`Deciding`: a trace with numbers at hand, for which conditions have truth values.

They are those of the call that asked for a kernel. What is recorded is not computed, except for what a condition needs
whose truth value is asked for; then a guard is recorded (`ways`).
"""

from __future__ import annotations

import dis
import functools
import itertools
import math
from collections.abc import Collection, Sequence
from sys import _getframe
from types import FrameType
from typing import Any, Final, NamedTuple

import numpy as np

from ...runtime.backward import CONSTANT
from ...runtime.errors import (
    ARITHMETIC_ERRORS,
    DivisionByZeroError,
    FlatgradError,
    ProgramError,
)
from ...runtime.primitives import TABLE, Primitive, add, equal, guard, logical_and, logical_not, power, select, where
from ...runtime.sites import Location, Place, Site, is_internal, locate, place
from ...runtime.traced import OF_ARRAYS, OF_NUMBERS, OF_VALUES, Integer, TracedCondition, TracedInteger, TracedValue
from ...runtime.tracing import forbidden, recorders, refuse
from ...runtime.value import Condition, Value, constant
from .builder import ProgramBuilder
from .program import Program
from .recorded import DATA, LEAVES, Recorded
from .ways import Way

#: In errors, where there are no numbers at hand.
_CHOOSES = "using a comparison of Values to choose a branch (if, while, and, or, max, sorted)"
_STATIC = "Name the argument in static_argnames=(...) to compile one kernel per value."
#: All integers below are floats.
_WHOLE = 2.0**53
#: Operands at which each operation that can raise does so, with each class of exceptions that it can raise.
_FAULTY: Final = (0.0, -1.0, 2.0, 1e308, math.inf, 0.5, 1e-200, -1e308)
_REMEDY = "Select with fg.where(condition, a, b), or fg.maximum(a, b), or of a list fg.max(xs)."


#: The number of `a[b]` among the operators of `BINARY_OP`, from Python 3.14 on.
_SUBSCRIPT: Final = 26
_new = object.__new__


def _is_operator(site: Site | Location) -> bool:
    """Whether an instruction is an operator, such as `+`."""
    if isinstance(site, Location):
        return False
    code, instruction = site
    return dis.opname[code.co_code[instruction]] == "BINARY_OP" and code.co_code[instruction + 1] != _SUBSCRIPT


class Written(NamedTuple):
    """What users wrote as equations, which says what Python computes where their operands are numbers.

    Attributes:
        quotients: those that were written as divisions.
        sums: additions that may be those of the builtin `sum`.
        zeros: selections of an int 0, perhaps.
        integers: selections of ints.
    """

    quotients: frozenset[int] = frozenset()
    sums: frozenset[int] = frozenset()
    zeros: frozenset[int] = frozenset()
    integers: frozenset[int] = frozenset()


class Decided(NamedTuple):
    """A truth value, or the value of an integer, that was asked for: where, and the guard that was recorded."""

    truth: bool | int
    site: int
    guard: int


def _raises(primitive: Primitive, operands: Sequence[Any]) -> Any:
    """The condition under which an operation raises."""
    condition = primitive.fault(*operands)  # type: ignore[misc]
    if condition is not None:
        return condition
    # It raises where it has no finite result of finite numbers.
    raises = logical_not(abs(primitive.total(*operands)) < math.inf)  # type: ignore[misc]
    return functools.reduce(logical_and, [abs(each) < math.inf for each in operands], raises)


def _marks(primitive: Primitive, operands: Sequence[Any]) -> list[Any]:
    """Conditions of which follows what class of exceptions an operation raises, if it does."""
    result = primitive.total(*operands) if primitive.total is not None else 0.0
    return [equal(result, result), equal(operands[0], 0.0)]


def _is_written_as_quotient(frame: FrameType | None) -> bool:
    """Whether this package's code that computes something is that of the operator `/`."""
    while frame is not None and is_internal(frame.f_code.co_filename):
        if frame.f_code.co_name in ("__truediv__", "__rtruediv__"):
            return True
        frame = frame.f_back
    return False


class _FloatingError(DivisionByZeroError, FloatingPointError):
    """A division by zero where NumPy is told to raise, by `np.errstate(divide="raise")`."""


def _as_python(error: Exception, primitive: Primitive, numbers: Sequence[Any], is_quotient: bool) -> Exception:
    """An error for a function that catches it: its text is that of Python, of which the function may compute something.

    If it leaves the function, it gets its own text again. Where NumPy is told to raise, it is a `FloatingPointError`.
    """
    kind, text = type(error), str(error)
    if isinstance(error, DivisionByZeroError) and np.geterr()["divide"] == "raise":
        kind = _FloatingError
    try:
        _ = 1.0 / numbers[0] if is_quotient else primitive.evaluate(*numbers)
    except ARITHMETIC_ERRORS as plain:
        text = str(plain)
    result: Any = kind(text)
    result.message = str(error)
    return result  # type: ignore[no-any-return]


def at_hand(number: Any) -> Any:
    """The number of an input, which may stand for one of a function that is being traced outside."""
    if isinstance(number, (TracedValue, TracedCondition)):
        if not number._trace.follows:
            raise forbidden(_CHOOSES, _REMEDY)
        return number._trace.number_of(number._index)
    if number.__class__ is Value:
        traces: Any = recorders()
        for trace in traces:
            if trace is not None and trace.follows and id(number) in trace.bound:
                return trace.number_of(trace.bound[id(number)])
    return number._number if isinstance(number, (Value, Condition)) else number


class Given:
    """The truth values, and values of integers, that a part of a function gets, whatever the numbers are.

    Attributes:
        conditions: variables; these are the truth values for numbers for which all of these hold.
        decided: what has been asked for, by trace and variable.
    """

    def __init__(self, truths: Sequence[bool | int]) -> None:
        self._truths = iter(truths)
        self.conditions: list[int] = []
        self.decided: dict[Any, dict[int, bool | int]] = {}

    def next(self, kind: type) -> bool | int:
        """The next one, which is a bool or an int.

        Raises:
            TraceError: if there is none of this kind.
        """
        truth = next(self._truths, None)
        if truth is None or type(truth) is not kind:
            raise refuse("a function asked for other truth values than before; it must do the same each time")
        return truth


def given_now() -> Given | None:
    """What is given to the function that this thread traces."""
    traces: Any = recorders()
    return next((each.given for each in traces if each is not None and each.given is not None), None)


class Deciding(Recorded):
    """What has been recorded, with numbers at hand.

    Args:
        builder: as for `Recorded`.
        numbers: one per input; None where there are none: then a truth value is an error.
        truths: the truth values of conditions, in order, in place of those for the numbers: a way that is given. To ask
            for more of them is an error.
        ints: which inputs are ints.
        values: which inputs stand for `Value`s of the caller's. None where the function is one of numbers, so that all
            its variables are plain numbers if nothing is traced.

    Attributes:
        turns: the truth values, and values of integers, that have been asked for.
        used_ints: the inputs on which these integers depend.
        asked: the inputs whose class was asked for.
        elements: which inputs are elements of arrays.
        given: the truth values that what is recorded now gets, whatever the numbers are.
    """

    def __init__(
        self,
        builder: ProgramBuilder,
        numbers: Sequence[Any] | None,
        truths: Sequence[bool | int] | None,
        ints: Collection[int],
        values: Collection[int] | None,
    ) -> None:
        super().__init__(builder)
        self._truths = truths
        self.turns: list[Decided] = []
        self.given: Given | None = None
        self.used_ints: set[int] = set()
        self.asked: set[int] = set()
        self.elements: Sequence[range] = ()
        self._origins: dict[int, int] = {}
        self.bound: dict[int, int] = {}  # inputs that stand for `Value`s from outside, by their ids
        self.quotients: list[int] = []  # what was written as a division
        self.zeros: list[int] = []  # selections of an int 0, perhaps
        self.plain: dict[int, int] = {}  # selections of plain numbers, perhaps, and their lines
        self.integers: list[int] = []  # selections of ints
        self._at_hand = numbers if truths is None else None
        self._ints, self._values = ints, values
        self._results: dict[int, Any] = {}  # the numbers of variables, as far as conditions needed them
        self._decided: dict[int, bool | int] = {}
        # What a trace has:
        self.faults = "raise"
        self.leaves: list[Value] = []
        self._alive: list[Any] = []  # what the ids in _references and _sites_of belong to
        self._record_sites = True
        self._lines: list[Site | Location] = []

    def _site(self, frame: FrameType | None) -> int:
        raise NotImplementedError  # pragma: no cover - traces define it

    def site_of(self, location: Location | None) -> int:
        raise NotImplementedError  # pragma: no cover - traces define it

    def value(self, variable: int) -> TracedValue:
        """The `Value` that stands for an input, or for the result of an equation."""
        value: TracedValue = _new(TracedValue)
        value._trace, value._index = self, variable
        return value

    def _leaf(self, value: Value) -> int:
        ref = self._references.get(id(value))
        if ref is None:
            ref = self._references[id(value)] = LEAVES + len(self.leaves)
            self.leaves.append(value)
        return ref

    def _condition(self, condition: Condition) -> int:
        if condition._primitive is CONSTANT:
            return self.builder.constant(condition._number)
        if not isinstance(condition, TracedCondition):
            raise refuse(
                "a condition made before the function was traced would freeze one example's truth value into the "
                "compiled program; compare the Values inside the function"
            )
        if condition._trace is self:
            return condition._index
        ref = self._references.get(id(condition))
        if ref is None:  # of an outer trace: it comes in as a number
            leaf = condition._trace.record(where, (condition, 1.0, 0.0))
            self._alive.append(condition)
            ref = self.append(equal.opcode, (self._leaf(leaf), self.builder.constant(1.0)))
            self._references[id(condition)] = ref
        return ref

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
        variable, given = condition._index, given_now()
        decided = self._decided if given is None else given.decided.setdefault(self, {})
        if variable in decided:
            return bool(decided[variable])
        if given is not None:
            truth = bool(given.next(bool))
        elif self._truths is not None:
            truth = bool(self._given(self._truths, bool))
        elif self.follows:
            truth = bool(self.number_of(variable))
        else:
            raise forbidden(_CHOOSES, _REMEDY)
        site = self._site(_getframe(1)) if self._record_sites else -1
        holds = variable if truth else self.append(logical_not.opcode, (variable,), site)
        self._add_guard(holds, truth, site)
        decided[variable] = truth
        return truth

    def raise_fault(self, primitive: Primitive, operands: Sequence[Any]) -> None:
        """Raise what an operation raises for the numbers at hand, where the function may catch it: that is a way."""
        has_truths = self.follows or self._truths is not None
        if primitive.fault is None or not has_truths or given_now() is not None:
            return
        constants = self.builder.program.constants
        refs = list(map(self._operand, operands))
        operands = [operand if ref >= 0 else constants[~ref] for operand, ref in zip(operands, refs, strict=True)]
        if not _raises(primitive, operands):
            return
        site = self._site(_getframe(2)) if self._record_sites else -1
        faulty = itertools.product(*[_FAULTY if ref >= 0 else (constants[~ref],) for ref in refs])
        errors = [(each, error) for each in faulty if (error := self._error_of(primitive, each, site)) is not None]
        marks = None
        if len({type(error) for _, error in errors}) > 1:  # which of them it is is a way, too
            marks = list(map(bool, _marks(primitive, operands)))
        is_quotient = primitive is power and constants[~refs[1]] == -1.0 if refs[-1] < 0 else False
        is_quotient = is_quotient and _is_written_as_quotient(_getframe(2))
        if self.follows:
            numbers = [self.number_of(ref) if ref >= 0 else constants[~ref] for ref in refs]
            error = self._error_of(primitive, numbers, site)
            if error is not None:
                raise _as_python(error, primitive, numbers, is_quotient)
        for each, error in errors:  # without numbers at hand, any will do
            if marks is None or marks == _marks(primitive, each):
                raise _as_python(error, primitive, each, is_quotient)
        raise refuse("the function asks for other truth values than were given")

    def _error_of(self, primitive: Primitive, numbers: Sequence[Any], site: int) -> Exception | None:
        try:
            self._result(primitive, numbers, site)
        except ARITHMETIC_ERRORS as error:
            return error
        return None

    def _operand(self, operand: Any, kind: str = "f") -> int:
        raise NotImplementedError  # pragma: no cover - traces define it

    def _given(self, truths: Sequence[bool | int], kind: type) -> bool | int:
        """The truth value, or the value of an integer, that is given for what is asked for next."""
        self.folds: bool = False
        if self._repeated:
            self.write_out()
        if len(self.turns) == len(truths):
            raise refuse("the function asks for more truth values than were given")
        truth = truths[len(self.turns)]
        if type(truth) is not kind:
            raise refuse("the function asks for other truth values than were given")
        return truth

    def check_way(self) -> None:
        """Check that all truth values that were given have been asked for.

        Raises:
            TraceError: if not.
        """
        if self._truths is not None and len(self.turns) < len(self._truths):
            raise refuse("the function asks for fewer truth values than were given")

    def argument(self, variable: int) -> TracedValue:
        """The `Value` that stands for an input of the function."""
        value = self.value(variable)
        if self.is_int(variable):
            value.__class__ = TracedInteger
        return value

    def is_int(self, variable: int) -> bool:
        """Whether an input is an int."""
        return variable in self._ints or (
            self._at_hand is not None
            and variable < len(self._at_hand)
            and isinstance(self._at_hand[variable], TracedInteger)
        )

    def known_integer(self, variable: int) -> int | None:
        """The value of an integer, if it has been asked for."""
        return self._decided.get(variable)

    def integer(self, value: TracedInteger) -> int:
        """The value of an integer for the numbers at hand; a guard is recorded.

        Raises:
            TraceError: if it has none, because there are no numbers at hand or its number is not whole.
        """
        variable, given = value._index, given_now()
        decided = self._decided if given is None else given.decided.setdefault(self, {})
        if variable in decided:
            return decided[variable]
        if given is not None:
            number = float(given.next(int))
        elif self._truths is not None:
            number = float(self._given(self._truths, int))
        elif self.follows:
            number = self.number_of(variable)
        else:
            raise forbidden("using an integer as its value (in range(), as an index)", _STATIC)
        if not abs(number) < _WHOLE or number != int(number):
            raise refuse(f"{number!r} cannot be used as an integer; whole numbers of less than 2**53 can")
        site = self._site(_getframe(1)) if self._record_sites else -1
        condition = self.append(equal.opcode, (variable, self.builder.constant(number)), site)
        self._add_guard(condition, int(number), site)
        decided[variable] = int(number)
        self._use(variable)
        return int(number)

    def ask(self, variable: int) -> None:
        """Note that the class of a variable was asked for, which is that of an int, perhaps."""
        for number in self._note(variable, self.asked):
            if isinstance(number, (TracedValue, TracedCondition)):
                number._trace.ask(number._index)

    def _use(self, variable: int) -> None:
        """Note the inputs on which an integer depends."""
        for number in self._note(variable, self.used_ints):
            if isinstance(number, TracedInteger):
                number._trace._use(number._index)

    def _note(self, variable: int, noted: set[int]) -> list[Any]:
        """Note the inputs on which a variable depends; return what stands for them."""
        numbers = []
        program = self.settle().program
        todo, seen = [variable], {variable}
        while todo:
            each = todo.pop()
            if program.inputs <= each < LEAVES:
                start, end = program.starts[each - program.inputs : each - program.inputs + 2]
                refs = {ref for ref in program.operands[start:end] if ref >= 0} - seen
                seen |= refs
                todo += refs
            elif each < DATA:
                number = self._number_of_input(each) if self.follows else None
                numbers.append(number)
                if each < program.inputs and not isinstance(number, (TracedValue, TracedCondition)):
                    noted.add(each)
        return numbers

    def origin(self, variable: int) -> int:
        """What a variable is computed from, `OF_ARRAYS` or the like."""
        program, known = self.settle().program, self._origins
        todo = [variable]
        while todo:
            each = todo[-1]
            if each in known:
                todo.pop()
            elif program.inputs <= each < LEAVES:
                start, end = program.starts[each - program.inputs : each - program.inputs + 2]
                refs = [ref for ref in program.operands[start:end] if ref >= 0]
                missing = [ref for ref in refs if ref not in known]
                if not missing:
                    known[each] = max([known[ref] for ref in refs], default=OF_NUMBERS)
                todo += missing
            else:
                known[each] = self._origin_of_input(each)
        return known[variable]

    def _origin_of_input(self, variable: int) -> int:
        if variable >= DATA:
            return OF_ARRAYS
        number = self._number_of_input(variable) if self.follows else None
        if isinstance(number, (TracedValue, TracedCondition)):
            return int(number._trace.origin(number._index))
        if variable >= LEAVES or variable in self.bound.values():
            return OF_VALUES
        return OF_ARRAYS if any(variable in each for each in self.elements) else OF_NUMBERS

    def compares(self, value: TracedValue | TracedCondition) -> bool:
        """Whether a variable is a plain number where the function is called without a trace: it has `==` and `bool`."""
        if self._values is None or (not self.follows and self._truths is None):
            return self._values is None and (self.follows or self._truths is not None)
        return value._index < self.builder.program.inputs and value._index not in self._values

    def shown(self, variable: int, spec: str | None = None) -> str:
        """The number of a variable as text, with a format."""
        if not self.follows:
            return "<traced>" if spec is None else "nan"
        try:
            return repr(self.number_of(variable)) if spec is None else format(self.number_of(variable), spec)
        except FlatgradError as error:
            return f"<{type(error).__name__}>" if spec is None else "nan"

    def put_numbers(self, error: Exception) -> None:
        """Put the numbers at hand in place of `Value`s among the arguments of an error that leaves the trace."""
        message = getattr(error, "message", None)
        if isinstance(error, FlatgradError) and message is not None and not recorders():
            error.args = (message,)
        if not self.follows or recorders() or not any(isinstance(each, TracedValue) for each in error.args):
            return
        try:
            numbers = [self.number_of(each._index) if isinstance(each, TracedValue) else each for each in error.args]
        except FlatgradError:
            return
        values = self._values is not None
        error.args = tuple(
            int(number)
            if isinstance(each, Integer) and number == number // 1
            else constant(number)
            if values and number is not each
            else number
            for number, each in zip(numbers, error.args, strict=True)
        )

    def _add_guard(self, condition: int, truth: bool | int, site: int) -> None:
        if self.given is not None:
            self.given.conditions.append(condition)
            return
        before = self.turns[-1].guard if self.turns else self.builder.constant(True)
        self.turns.append(Decided(truth, site, self.append(guard.opcode, (before, condition), site)))

    def number_of(self, variable: int) -> Any:
        """The number of a variable for the numbers at hand: only what it needs is computed.

        Raises:
            FlatgradError: what the first operation raises that raises, needed or not, as in the interpreter.
        """
        try:
            return self._number_of(variable)
        except ARITHMETIC_ERRORS:
            for each in range(self.settle().program.inputs, min(variable, self._next)):
                self._number_of(each)
            raise

    def _number_of(self, variable: int) -> Any:
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
        if variable >= DATA:
            return float(np.concatenate(self._data)[variable - DATA])
        return at_hand(self._number_of_input(variable))

    def _number_of_input(self, variable: int) -> Any:
        assert self._at_hand is not None
        return self.leaves[variable - LEAVES] if variable >= LEAVES else self._at_hand[variable]

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
        for known in self._results, self._decided, self._origins:
            for variable in [each for each in known if first <= each < LEAVES]:
                del known[variable]

    @property
    def way(self) -> Way:
        """The truth values that have been asked for, with the lines."""
        return Way(tuple(turn.truth for turn in self.turns), tuple(self._line(turn.site) for turn in self.turns))

    @property
    def branches(self) -> frozenset[tuple[Place, int]]:
        """The places of the code, and the lines, that have asked for truth values."""
        lines = [self._lines[site] for site in {turn.site for turn in self.turns} if site >= 0]
        sites = [(line, locate(line)) for line in lines if line is not None and not isinstance(line, Location)]
        return frozenset((place(site[0]), location.line) for site, location in sites if location is not None)

    @property
    def written(self) -> Written:
        """How users wrote some of the equations, if there are selections."""
        program = self.settle().program
        opcodes, sites = np.array(program.opcodes), np.array(program.sites)
        if not (opcodes == select.opcode).any():
            return Written()
        operators = [site for site, line in enumerate(self._lines) if _is_operator(line)]
        sums = np.flatnonzero((opcodes == add.opcode) & ~np.isin(sites, operators))
        quotients, zeros, integers = (
            frozenset(each - program.inputs for each in some) for some in (self.quotients, self.zeros, self.integers)
        )
        return Written(quotients, frozenset(sums.tolist()), zeros, integers)

    def _line(self, site: int) -> Location | None:
        line = self._lines[site] if site >= 0 else None
        return line if line is None or isinstance(line, Location) else locate(line)

    def _take_guards(self, program: Program, variables: Sequence[int], way: Way) -> None:
        """Let the guards of a program that was inlined just now, as these variables, be guards of this one."""
        guards = [k for k, opcode in enumerate(program.opcodes) if opcode == guard.opcode]
        if len(guards) != len(way.truths):
            raise ProgramError(f"{program.name} has {len(guards)} guards for {len(way.truths)} truth values")
        mine = self.builder.program
        for k, truth, line in zip(guards, way.truths, way.lines, strict=False):
            if k == guards[0] and self.turns:
                mine.operands[mine.starts[len(mine) - len(program) + k]] = self.turns[-1].guard
            self.turns.append(Decided(truth, self.site_of(line), variables[program.inputs + k]))
