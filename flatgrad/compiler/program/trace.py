"""Trace: running a function on fresh `Value`s, into a `Program`.

While a function is traced, nothing is computed: its operations are appended to a program as they happen, with the
user's line. `Value`s that it reaches but that it was not given are leaves: inputs that are bound by identity.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Container, Sequence, Set
from sys import _getframe
from types import FrameType
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ...runtime.backward import CONSTANT
from ...runtime.errors import TraceError
from ...runtime.primitives import Primitive, guard, number
from ...runtime.sites import Location, Place, Site, is_internal, locate
from ...runtime.traced import TracedCondition, TracedValue
from ...runtime.tracing import recording, records, refusals_raised
from ...runtime.value import Condition, Value, apply_eagerly, as_condition, as_value, constant
from .builder import Indices, ProgramBuilder
from .catching import is_caught
from .deciding import Deciding, Written
from .family import Family
from .names import Namer, nameless
from .program import Group, Program, default_names
from .splices import Spliced
from .ways import Way, released, with_way

#: Finds names for leaves without a label, given their ids.
LeafNames = Callable[[Container[int]], dict[int, str]]
#: The classes of what a trace gives out, by kind.
_TRACED: dict[str, Any] = {"f": TracedValue, "b": TracedCondition}
#: In place of the sites of a code object: it is not the user's.
_INTERNAL: dict[int, int] = {}
_new = object.__new__


class Trace(Deciding):
    """Records the operations of a function into a program.

    Args:
        name: the program's name.
        groups: the function's arguments.
        input_names: a safe name per input.
        sites: whether to record the user's line of each operation.
        faults: what becomes of operations on constants at which Python raises: "raise", or "ieee" for inf and NaN.
        folds: whether the program may be a family, whose rounds are not written out.
        numbers: the numbers at hand, one per input: the truth values of conditions are those for these numbers. None
            where there are none: then a truth value is an error.
        truths: the truth values of conditions, in order, in place of those for the numbers.
        ints, values: the inputs that are ints, and those that stand for `Value`s.

    Attributes:
        programs: what functions that are called while this goes on keep for their next call, by function.
    """

    def __init__(
        self, name: str, groups: Sequence[Group], input_names: Sequence[str], sites: bool = True, faults: str = "raise",
        folds: bool = False, numbers: Sequence[Any] | None = None, truths: Sequence[bool | int] | None = None,
        ints: Collection[int] = (), values: Collection[int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(ProgramBuilder(name, groups, input_names), numbers, truths, ints, values)
        self._record_sites = sites
        self.faults = faults
        self.folds = folds
        self._numbers: dict[float, int] = {}
        self._lines: list[Site | Location] = []
        self._site_numbers: dict[Location, int] = {}
        self._sites_of: dict[int, dict[int, int]] = {}  # by the number of the code object and the instruction
        self.refusal: TraceError | None = None
        self.leaf_names: LeafNames = lambda ids: {}
        self.programs: dict[Any, Any] = {}

    def record(self, primitive: Primitive, operands: Sequence[Any]) -> Any:
        """The symbolic result of `primitive(*operands)`; of constants alone, the number itself."""
        if primitive.fault is not None and self.faults == "raise" and is_caught(_getframe(2), trace_function.__code__):
            self.raise_fault(primitive, operands)
        kinds = primitive.operand_kinds
        if kinds == "ff":
            a, b = operands
            first = a._index if a.__class__ is TracedValue and a._trace is self else self._operand(a)
            second = b._index if b.__class__ is TracedValue and b._trace is self else self._operand(b)
            if first < 0 and second < 0:
                return self._constant_result(primitive, operands)
            self._operands += (first, second)
        elif kinds == "f":
            (a,) = operands
            first = a._index if a.__class__ is TracedValue and a._trace is self else self._operand(a)
            if first < 0:
                return self._constant_result(primitive, operands)
            self._operands.append(first)
        else:
            refs = [
                o._index if o.__class__ is _TRACED[kind] and o._trace is self else self._operand(o, kind)
                for o, kind in zip(operands, kinds, strict=True)
            ]
            if max(refs) < 0:
                return self._constant_result(primitive, operands)
            self._operands += refs
        self._opcodes.append(primitive.opcode)
        if self._record_sites:
            frame: Any = _getframe(2)
            sites = self._sites_of.get(id(frame.f_code))
            while sites is _INTERNAL:
                frame = frame.f_back
                sites = self._sites_of.get(id(frame.f_code)) if frame is not None else None
            site = None if sites is None else sites.get(frame.f_lasti)
            self._sites.append(self._site(frame) if site is None else site)
        else:
            self._sites.append(-1)
        result: Any = _new(TracedValue if primitive.result == "f" else TracedCondition)
        result._trace = self
        result._index = index = self._next
        self._next = index + 1
        if not index & 0xFFFF:  # the columns of the builder are compact
            self.settle()
        return result

    def _site(self, frame: FrameType | None) -> int:
        """The number of the site of an operation in this frame, or of the user's call that led there."""
        while frame is not None:
            # Known by its number, because the hash of a code object is computed from all that it consists of.
            code, instruction = frame.f_code, frame.f_lasti
            if id(code) not in self._sites_of:
                self._alive.append(code)
                self._sites_of[id(code)] = _INTERNAL if is_internal(code.co_filename) else {}
            sites = self._sites_of[id(code)]
            if sites is not _INTERNAL:
                if instruction not in sites:
                    sites[instruction] = len(self._lines)
                    self._lines.append((code, instruction))
                return sites[instruction]
            frame = frame.f_back
        return -1

    def _operand(self, operand: Any, kind: str = "f") -> int:
        """The operand number for anything that stands where an operand of this kind is wanted."""
        if kind == "b":
            return self.reference(as_condition(operand))
        if operand.__class__ is Value:
            ref = self._references.get(id(operand))
            if ref is not None:
                return ref
        return self.reference(as_value(operand) if isinstance(operand, Condition) else operand)

    def site_of(self, location: Location | None) -> int:
        """The site number of a location, for equations taken over from another program."""
        if location is None:
            return -1
        number = self._site_numbers.get(location)
        if number is None:
            number = self._site_numbers[location] = len(self._lines)
            self._lines.append(location)
        return number

    def _constant_result(self, primitive: Primitive, operands: Sequence[Any]) -> Any:
        if self.faults == "ieee":
            primitive = primitive.total or primitive
        with recording(None):
            numbers = [each._number if isinstance(each, (Value, Condition)) else each for each in operands]
            result = apply_eagerly(primitive, numbers)._number
        return Condition._node(result, CONSTANT, ()) if primitive.result == "b" else constant(result)

    def reference(self, operand: Any) -> int:
        """The operand number for anything that is not of this trace: a number, a leaf, an outer trace's value."""
        if operand.__class__ is float:
            ref = self._numbers.get(operand)
            if ref is None:
                ref = self.builder.constant(operand)
                if operand:  # the two zeros are equal
                    self._numbers[operand] = ref
            return ref
        if isinstance(operand, Value):
            if operand._primitive is CONSTANT:
                return self.reference(operand._number)
            if isinstance(operand, TracedValue):
                if operand._trace is self:
                    return operand._index
                if not records(operand._trace):
                    return int(operand._number)  # raises: it has escaped from a trace that is over
            return self._leaf(operand)
        if isinstance(operand, Condition):
            return self._condition(operand)
        return self.builder.constant(float(number(operand)))  # True, where a number is wanted, is 1.0

    def bind(self, value: Value, index: int) -> None:
        """Let input `index` stand for a `Value` from outside, which then is no leaf."""
        self._references[id(value)] = self.bound[id(value)] = index
        self._alive.append(value)

    def begin_update(self) -> None:
        """What follows is no longer value or gradient, and no longer the user's."""
        self._record_sites = False
        self.builder.program.update = len(self.settle())

    def inline(
        self, program: Program, operands: Sequence[Any], way: Way | None = None, stages: Any = None
    ) -> list[Any]:  # fmt: skip
        """Append the equations of another program, applied to these operands; return its outputs.

        Its guards become those of this program: `way` has the truth values that they are for. Of a derivative, `stages`
        are what it was made of.
        """
        guarded = way is not None and guard.opcode in program.opcodes
        if guarded and self.given is not None:
            program = released(program)
        refs = [self.reference(operand) for operand in operands]
        first, count = self._next, len(program)
        self.settle()
        if stages is not None:
            self.splices.add(program, stages, first)
        where = np.concatenate([np.array(refs, dtype=np.int64), np.arange(first, first + count)])
        sites = list(map(self.site_of, program.locations))
        self.builder.take(program, range(count), where.__getitem__, sites=sites)
        self._next += count
        outputs = program.outputs
        if way is not None and guarded and self.given is not None:
            count = program.output_groups[-1].size
            self.given.conditions += where[outputs[-count:]].tolist()
            outputs = outputs[:-count]
        elif way is not None and guarded:
            self._take_guards(program, where.tolist(), way)
        return [self.value(int(where[o])) if o >= 0 else constant(program.constants[~o]) for o in outputs]

    def finish(self, outputs: Sequence[Any]) -> Program | Family:
        """The program whose outputs are these `Value`s; leaves become its last inputs, one group."""
        refs = [self.reference(output) for output in outputs]
        if self.turns:
            refs = with_way(self, refs or [self.reference(constant(0.0))], self.turns[-1].guard)
        traced = self.close().finish(refs)
        groups, names = list(traced.input_groups), list(traced.input_names)
        arguments, count = len(names), len(self.leaves)
        if count:
            name_of = Namer([*names, *(group.name for group in groups)])
            groups.append(Group(name_of("leaves", "leaves"), count, False))
            if self.leaf_names is nameless:
                names += [f"_{k}" for k in range(count)]
            else:
                outer = self.leaf_names({id(leaf) for leaf in self.leaves if not label_of(leaf)})
                texts = [label_of(leaf) or outer.get(id(leaf), "") for leaf in self.leaves]
                names += [name_of(text, f"p{k}") for k, text in enumerate(texts)]

        lines: dict[Location, int] = {}  # the different lines that the sites met while tracing stand for
        sites = [
            lines.setdefault(site if isinstance(site, Location) else locate(site) or Location("?", 0), len(lines))
            for site in self._lines
        ]

        def made(data: Sequence[int]) -> tuple[ProgramBuilder, Callable[[Any], Indices]]:
            """Some arrays of captured numbers are inputs."""
            added = self.data_groups(data, Namer([*names, *(group.name for group in groups)])) if data else []
            builder = ProgramBuilder(traced.name, [*groups, *added], [*names, *default_names(added)])
            where = functools.partial(self.moved, builder=builder, arguments=arguments, data=data)
            renumber = builder.take(traced, range(len(traced)), where, sites=sites)
            builder.program.locations = list(lines)
            return builder, renumber

        if self._repeated:
            data = self.captured()
            family = self.family(*made(data), sites, data)
            if family is not None:
                return family
            self.write_out()
        builder, renumber = made(())
        return builder.finish(renumber(traced.outputs), traced.output_groups)


def label_of(value: Value) -> str:
    """The label of a `Value`; that of a traced one is not known."""
    return "" if isinstance(value, TracedValue) else value.label


#: What a traced function returns.
Result = TypeVar("Result")


class Traced(NamedTuple, Generic[Result]):
    """A traced function: its program (or `Family`), the leaves that it reached, and what it returned.

    `ints` are the inputs that it used as integers, `asked` those whose class it asked for, `spliced` the derivatives
    that were spliced in.
    """

    program: Any
    leaves: list[Value]
    result: Result
    way: Way = Way()
    ints: Collection[int] = frozenset()
    branches: frozenset[tuple[Place, int]] = frozenset()
    written: Written = Written()
    asked: Set[int] = frozenset()
    spliced: Sequence[Spliced] = ()


def trace_function(
    function: Callable[[list[TracedValue]], tuple[Result, Sequence[Any]]],
    name: str, groups: Sequence[Group], input_names: Sequence[str], leaves: Sequence[Value] = (),
    leaf_names: LeafNames | None = None, sites: bool = True, faults: str = "raise", folds: bool = False,
    numbers: Sequence[Any] | None = None, truths: Sequence[bool | int] | None = None, ints: Collection[int] = (),
    values: Collection[int] | None = None, as_they_are: Collection[int] = (), elements: Sequence[range] = (),
) -> Traced[Result]:  # fmt: skip
    """Run `function` on one fresh `Value` per input; it returns any object and the `Value`s that are the outputs.

    `leaves` are `Value`s that are inputs even if the function does not reach them; `leaf_names` finds names for leaves;
    `sites` says whether to record the user's lines, `faults` whether operations on constants raise as Python's do,
    `folds` whether the program may be a `Family`. `numbers` are those at hand, one per input; for `truths`,
    `ints` and `values` see `Trace`. The function gets the numbers in `as_they_are` as plain ints;
    `elements` are those of arrays.

    Raises:
        TraceError: for what the function must not do, also if the function caught that error itself.
    """
    trace = Trace(name, groups, input_names, sites, faults, folds, numbers, truths, ints, values)
    trace.elements = elements
    if leaf_names is not None:
        trace.leaf_names = leaf_names
    for leaf in leaves:
        trace.reference(leaf)
    with refusals_raised(trace), recording(trace):
        arguments: list[Any] = [trace.argument(k) for k in range(trace.builder.program.inputs)]
        for k in as_they_are:
            arguments[k] = trace.integer(arguments[k])
        result, outputs = function(arguments)
        trace.check_way()
        written = trace.written
        program = trace.finish(outputs)
        spliced = trace.splices.listing(len(arguments))
    return Traced(
        program, trace.leaves, result, trace.way, trace.used_ints, trace.branches, written, trace.asked, spliced
    )
