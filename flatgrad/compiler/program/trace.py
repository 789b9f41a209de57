"""Trace: reading a `Value` graph, or running a function on fresh `Value`s, into a `Program`.

While a function is traced, nothing is computed: its operations are appended to a program as they happen, with the
user's line. `Value`s that it reaches but that it was not given are leaves: inputs that are bound by identity.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ...runtime.backward import CONSTANT, post_order
from ...runtime.errors import InputError, TraceError
from ...runtime.primitives import Primitive, number, where
from ...runtime.sites import Location, Site, call_site, locate
from ...runtime.traced import TracedCondition, TracedValue
from ...runtime.tracing import recording, records, refusals_raised, refuse
from ...runtime.value import Condition, Value, apply_eagerly, as_condition, as_value, constant
from .builder import Indices, ProgramBuilder
from .names import Namer
from .program import Group, Program

#: Finds names for leaves without a label, given their ids.
LeafNames = Callable[[Container[int]], dict[int, str]]
#: Leaves are numbered from here until the trace is finished, when they become the last inputs.
_LEAVES = 1 << 48
_new = object.__new__


class Trace:
    """Records the operations of a function into a program.

    Args:
        name: the program's name.
        groups: the function's arguments.
        input_names: a safe name per input.
        sites: whether to record the user's line of each operation.
        faults: what becomes of operations on constants at which Python raises: "raise", or "ieee" for inf and NaN.
    """

    def __init__(
        self, name: str, groups: Sequence[Group], input_names: Sequence[str], sites: bool = True, faults: str = "raise"
    ) -> None:
        self._record_sites, self.faults = sites, faults
        self.builder = ProgramBuilder(name, groups, input_names)
        self.leaves: list[Value] = []
        self._references: dict[int, int] = {}
        self._sites: list[Site | Location] = []
        self._site_numbers: dict[tuple[int, int] | Location, int] = {}
        self.refusal: TraceError | None = None
        self.leaf_names: LeafNames = lambda ids: {}
        self._alive: list[Any] = []  # what the ids in _references belong to

    def value(self, variable: int) -> TracedValue:
        """The `Value` that stands for an input, or for the result of an equation."""
        value: TracedValue = _new(TracedValue)
        value._trace, value._index = self, variable
        return value

    def record(self, primitive: Primitive, operands: Sequence[Any]) -> Any:
        """The symbolic result of `primitive(*operands)`; of constants alone, the number itself."""
        refs = []
        kinds, references = primitive.operand_kinds, self._references
        for k, operand in enumerate(operands):
            cls = operand.__class__
            if cls is TracedValue and kinds[k] == "f" and operand._trace is self:
                refs.append(operand._index)
            elif cls is Value and kinds[k] == "f" and id(operand) in references:
                refs.append(references[id(operand)])
            elif kinds[k] == "b":
                refs.append(self.reference(as_condition(operand)))
            else:
                refs.append(self.reference(as_value(operand) if isinstance(operand, Condition) else operand))
        if refs[0] < 0 and max(refs) < 0:
            return self._constant_result(primitive, operands)
        site = self._call_site() if self._record_sites else -1
        result: Any = _new(TracedValue if primitive.result == "f" else TracedCondition)
        result._trace = self
        result._index = self.builder.append(primitive.opcode, refs, site)
        return result

    def _call_site(self) -> int:
        """The number of the site of the operation that is being recorded."""
        site = call_site(4)
        if site is None:
            return -1
        code, instruction = site  # the hash of a code object itself is computed from all that it consists of
        key = id(code), instruction
        number = self._site_numbers.get(key)
        return self._number_of(key, site) if number is None else number

    def site_of(self, location: Location | None) -> int:
        """The site number of a location, for equations taken over from another program."""
        return -1 if location is None else self._number_of(location, location)

    def _number_of(self, key: tuple[int, int] | Location, site: Site | Location) -> int:
        number = self._site_numbers.get(key)
        if number is None:
            number = self._site_numbers[key] = len(self._sites)
            self._sites.append(site)
        return number

    def _constant_result(self, primitive: Primitive, operands: Sequence[Any]) -> Any:
        if self.faults == "ieee":
            primitive = primitive.total or primitive
        with recording(None):
            numbers = [each._data if isinstance(each, (Value, Condition)) else each for each in operands]
            result = apply_eagerly(primitive, numbers)._data
        return Condition._node(result, CONSTANT, ()) if primitive.result == "b" else constant(result)

    def reference(self, operand: Any) -> int:
        """The operand number for anything that is not of this trace: a number, a leaf, an outer trace's value."""
        if operand.__class__ is float:
            return self.builder.constant(operand)
        if isinstance(operand, Value):
            if operand._primitive is CONSTANT:
                return self.builder.constant(operand._data)
            if isinstance(operand, TracedValue):
                if operand._trace is self:
                    return operand._index
                if not records(operand._trace):
                    return int(operand._data)  # raises: it has escaped from a trace that is over
            return self._leaf(operand)
        if isinstance(operand, Condition):
            return self._condition(operand)
        return self.builder.constant(float(number(operand)))  # True, where a number is wanted, is 1.0

    def _leaf(self, value: Value) -> int:
        ref = self._references.get(id(value))
        if ref is None:
            ref = self._references[id(value)] = _LEAVES + len(self.leaves)
            self.leaves.append(value)
        return ref

    def _condition(self, condition: Condition) -> int:
        if condition._primitive is CONSTANT:
            return self.builder.constant(condition._data)
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
            ref = self.builder.emit("equal", self._leaf(leaf), self.builder.constant(1.0))
            self._references[id(condition)] = ref
        return ref

    def bind(self, value: Value, index: int) -> None:
        """Let input `index` stand for a `Value` from outside, which then is no leaf."""
        self._references[id(value)] = index
        self._alive.append(value)

    def begin_update(self) -> None:
        """What follows is no longer value or gradient, and no longer the user's."""
        self._record_sites = False
        self.builder.program.update = len(self.builder)

    def inline(self, program: Program, operands: Sequence[Any]) -> list[Any]:
        """Append the equations of another program, applied to these operands; return its outputs."""
        refs = [self.reference(operand) for operand in operands]
        first, count = self.builder.next, len(program)
        where = np.array([*refs, *range(first, first + count)], dtype=np.int64)
        sites = list(map(self.site_of, program.locations))
        self.builder.take(program, range(count), where.__getitem__, sites=sites)
        return [self.value(int(where[o])) if o >= 0 else constant(program.constants[~o]) for o in program.outputs]

    def finish(self, outputs: Sequence[Any]) -> Program:
        """The program whose outputs are these `Value`s; leaves become its last inputs, one group."""
        traced = self.builder.finish([self.reference(output) for output in outputs])
        groups, names = list(traced.input_groups), list(traced.input_names)
        arguments, count = len(names), len(self.leaves)
        if count:
            name_of = Namer([*names, *(group.name for group in groups)])
            groups.append(Group(name_of("leaves", "leaves"), count, False))
            outer = self.leaf_names({id(leaf) for leaf in self.leaves if not _label(leaf)})
            names += [name_of(_label(leaf) or outer.get(id(leaf), ""), f"p{k}") for k, leaf in enumerate(self.leaves)]

        def where(variables: Indices) -> Indices:
            """The leaves come right behind the arguments."""
            return np.where(
                variables >= _LEAVES, variables - (_LEAVES - arguments), variables + count * (variables >= arguments)
            )

        lines: dict[Location, int] = {}  # the different lines that the sites met while tracing stand for
        sites = [
            lines.setdefault(site if isinstance(site, Location) else locate(site) or Location("?", 0), len(lines))
            for site in self._sites
        ]
        builder = ProgramBuilder(traced.name, groups, names)
        renumber = builder.take(traced, range(len(traced)), where, sites=sites)
        builder.program.locations = list(lines)
        return builder.finish(renumber(traced.outputs), traced.output_groups)


def _label(value: Value) -> str:
    return "" if isinstance(value, TracedValue) else value.label


#: What a traced function returns.
Result = TypeVar("Result")


class Traced(NamedTuple, Generic[Result]):
    """A traced function: its program, the leaves that it reached, and what it returned."""

    program: Program
    leaves: list[Value]
    result: Result


def trace_function(
    function: Callable[[list[TracedValue]], tuple[Result, Sequence[Any]]],
    name: str,
    groups: Sequence[Group],
    input_names: Sequence[str],
    leaves: Sequence[Value] = (),
    leaf_names: LeafNames | None = None,
    sites: bool = True,
    faults: str = "raise",
) -> Traced[Result]:
    """Run `function` on one fresh `Value` per input; it returns any object and the `Value`s that are the outputs.

    `leaves` are `Value`s that are inputs even if the function does not reach them; `leaf_names` finds names for leaves;
    `sites` says whether to record the user's lines, `faults` whether operations on constants raise as Python's do.

    Raises:
        TraceError: for what the function must not do, also if the function caught that error itself.
    """
    trace = Trace(name, groups, input_names, sites, faults)
    if leaf_names is not None:
        trace.leaf_names = leaf_names
    for leaf in leaves:
        trace.reference(leaf)
    with refusals_raised(trace), recording(trace):
        result, outputs = function([trace.value(k) for k in range(trace.builder.program.inputs)])
        program = trace.finish(outputs)
    return Traced(program, trace.leaves, result)


def trace_graph(outputs: Sequence[Value], inputs: Sequence[Value], name: str) -> Traced[None]:
    """Read the graph below `outputs` into a program, up to `inputs` and the leaves.

    An input may have operands itself: the graph is cut there. The remaining leaves are bound by identity.
    """
    name_of = Namer()
    names = [name_of(_label(value), f"x{k}") for k, value in enumerate(inputs)]
    trace = Trace(name, [Group(name, 1, True) for name in names], names)
    operands: dict[int, int] = {id(value): k for k, value in enumerate(inputs)}
    for output in outputs:
        if not isinstance(output, (Value, Condition)):
            raise InputError(f"expected a Value, got {type(output).__name__}")
    cut = set(operands)
    for node in post_order(outputs, lambda node: isinstance(node._primitive, Primitive) and id(node) not in cut):
        if id(node) in cut:
            continue
        if isinstance(node._primitive, Primitive):
            site = trace.site_of(locate(getattr(node, "_site", None)))
            refs = [operands[id(operand)] for operand in node._operands]
            operands[id(node)] = trace.builder.append(node._primitive.opcode, refs, site)
        else:  # a leaf, a constant, or the result of a compiled call
            operands[id(node)] = trace.reference(node)
    roots = [trace.value(operands[id(node)]) if operands[id(node)] >= 0 else node for node in outputs]
    return Traced(trace.finish(roots), trace.leaves, None)
