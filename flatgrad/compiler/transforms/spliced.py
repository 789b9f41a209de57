"""The derivatives of a function inside of a trace: its program is differentiated, and spliced into the other one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...runtime.arrays import as_array
from ...runtime.errors import InputError
from ...runtime.tracing import recorder
from ...runtime.value import constant
from ..calls.arguments import Arguments
from ..calls.array_kinds import Array, Numbers, Objects
from ..calls.binding import Signature
from ..calls.captured import Captured
from ..calls.kind import Compound, Flattener, Kind
from ..calls.kinds import Items, is_empty
from ..calls.number_kinds import NUMBER, NUMBER_TYPES
from ..calls.results import NumberFlattener
from ..program.adjoint import adjoint
from ..program.faults import check_gradients, without_faults
from ..program.passes import run_passes
from ..program.passes.constants import fold_constants
from ..program.program import Group, Program
from ..program.selections import never_nan, without_selections
from ..program.tangent import jacobian as jacobian_program
from ..program.tangent import tangent as tangent_program
from ..program.trace import Trace, Traced
from ..program.ways import checked_without_value
from ..sparsity import Sparsity
from ..stages import Stages
from .executed import gradient_groups
from .gradients import GradFunction
from .transformed import TakeApartError


class Parts(NamedTuple):
    """What a function and its derivative have returned, in the trace that they are a part of.

    Attributes:
        arguments: the kinds of the arguments that are differentiated.
        single: whether there is one of them, whose derivative is returned as itself.
        result, aux: the kinds of what the function returned, and of what it returned beside it.
        outputs: the numbers of the result, then those of `aux`.
        derivatives: tangents, gradients, or the entries of a Jacobian.
        places: of these entries, (position in the result, position in the arguments).
    """

    arguments: list[Kind]
    single: bool
    result: Kind
    aux: Kind | None
    outputs: list[Any]
    derivatives: list[Any]
    places: list[tuple[int, int]]

    @property
    def value(self) -> Any:
        """What the function returned."""
        return self.result.put_together(iter(self.outputs), as_array)

    @property
    def beside(self) -> Any:
        """What the function returned beside it."""
        assert self.aux is not None
        return self.aux.put_together(iter(self.outputs[self.result.size :]), as_array)

    @property
    def tangent(self) -> Any:
        """The tangent of the result."""
        return self.result.put_together(iter(self.derivatives), as_array)

    @property
    def gradients(self) -> tuple[Any, ...]:
        """The gradients of the arguments."""
        numbers = iter(self.derivatives)
        return tuple(kind.put_together(numbers, as_array) for kind in self.arguments)

    @property
    def jacobian(self) -> Any:
        """The Jacobian: per item of the result, the derivatives with respect to the arguments."""
        entries = np.full((self.result.size, sum(kind.size for kind in self.arguments)), constant(0.0), dtype=object)
        for place, entry in zip(self.places, self.derivatives, strict=True):
            entries[place] = entry
        return self._rows_of(self.result, entries)

    @property
    def sparsity(self) -> Sparsity:
        """Where the Jacobian has entries."""
        return Sparsity.of((self.result.size, sum(kind.size for kind in self.arguments)), self.places)

    def _rows_of(self, result: Kind, entries: Any) -> Any:
        """The derivatives of a part of the result, which has these rows of the Jacobian."""
        if result.scalar or isinstance(result, Array) or (isinstance(result, Objects) and not result.parts):
            shape = () if result.scalar else tuple(result.shape)
            start, columns = 0, list[Any]()
            for kind in self.arguments:
                columns.append(_columns_of(kind, entries[:, start : start + kind.size], shape))
                start += kind.size
            return columns[0] if self.single else tuple(columns)
        if isinstance(result, Numbers):
            return result.container(self._rows_of(NUMBER, row[None]) for row in entries)
        if not isinstance(result, Compound):
            return result.put_together(iter(()), as_array)
        start, items = 0, list[Any]()
        for part in result.parts:
            items.append(self._rows_of(part, entries[start : start + part.size]))
            start += part.size
        if isinstance(result, Objects):
            raise InputError("the result is an array of arrays or lists, which has no Jacobian; return a list of them")
        return type(result)(result[1], (NUMBER,) * len(items), *result[3:]).put_together(iter(items), as_array)


def _columns_of(kind: Kind, entries: Any, shape: tuple[int, ...]) -> Any:
    """The derivatives of a number, or of an array of this shape, with respect to an argument of a kind."""
    if not shape:
        return kind.put_together(iter(entries[0].tolist()), as_array)

    def stacked(items: list[Any], inner: tuple[int, ...]) -> Any:
        columns = [_objects(item).ravel() for item in items]
        table = np.stack(columns, axis=-1) if columns else np.empty((len(entries), 0), dtype=object)
        return as_array(table.ravel().tolist(), (*shape, *inner))

    columns = (as_array(column, shape) for column in entries.T.tolist())
    return kind.put_together(columns, stacked)


def _objects(item: Any) -> Any:
    """An array of `Value`s as a plain array of objects."""
    return np.asarray(item, dtype=object).view(np.ndarray)


class _Returned(NamedTuple):
    """The kinds of what a function returned and returned beside it, and the places of the entries of its Jacobian."""

    result: Kind
    aux: Kind | None
    places: list[tuple[int, int]]


class SplicedStages(Stages):
    """A traced function and its derivative, as they are spliced into another program.

    Args:
        how: "tangent", "gradient", or how a Jacobian is computed.
        wrt: the inputs with respect to which outputs are differentiated.
        count: how many outputs are differentiated, the first ones.
        with_values: whether the outputs are wanted; without them it raises where they would all the same.

    Attributes:
        places: where the entries of a Jacobian are in it.
    """

    def __init__(
        self, traced: Any, title: str, options: Any, how: str, wrt: Sequence[int], count: int, with_values: bool
    ) -> None:  # fmt: skip
        super().__init__(traced, title, options)
        self.how: str = how
        self.wrt: Sequence[int] = wrt
        self.count: int = count
        self._with_values = with_values
        self.places: list[tuple[int, int]] = []

    def output_groups(self, primal: Program) -> list[Group]:
        return [Group("outputs", len(primal.outputs), False)]

    @property
    def by_rows(self) -> bool:
        """Whether a Jacobian is computed row by row, by sweeps back."""
        return self.how == "reverse" or (self.how == "jacobian" and len(self.wrt) > self.count)

    def differentiated(self) -> Program:
        """The primal program with derivatives behind its outputs."""
        primal, of = self.primal, range(self.count)
        if self.how == "tangent":
            return tangent_program(primal, self.wrt, of)
        if self.how == "gradient":
            return never_nan(adjoint(primal, self.wrt, seeded=True, of=of), len(self.wrt))
        program, self.places[:] = jacobian_program(primal, self.wrt, of, self.by_rows)
        return never_nan(program, len(self.places)) if self.by_rows else program

    def to_inline(self) -> Program:
        """The program that is spliced in."""
        program = self.differentiated()
        if self.options.faults != "raise":
            program = without_faults(fold_constants(program))
        if not self._with_values:
            size = len(self.primal.outputs)
            values = [value for value in program.outputs[: self.count] if value >= 0]
            program.outputs, program.output_groups = program.outputs[size:], program.output_groups[1:]
            entries = len(program.outputs)
            for value in values[:1]:
                program = checked_without_value(program, value)
            if self.options.faults == "raise":
                program = check_gradients(program, values, entries)
        self._let_go("primal")
        return run_passes(self.options.part_passes, without_selections(program))


class _Flattener(NumberFlattener):
    """Takes a result apart that is differentiated: plain numbers are constants, whose derivatives are zero."""

    def flatten(self, item: Any) -> Kind:
        if type(item) in NUMBER_TYPES:
            self.numbers.append(constant(float(item)))
            return NUMBER
        if type(item) is np.ndarray and item.dtype.kind in "fiu":
            self.numbers += map(constant, item.ravel().astype(float).tolist())
            return Array(item.shape)
        return super().flatten(item)


class Part(GradFunction[..., Any]):
    """The derivatives of a function inside of a trace."""

    def __init__(
        self, function: Callable[..., Any], argnums: int | Sequence[int], how: str, has_aux: bool = False,
        with_values: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(function, argnums, None, has_aux, with_values, **options)
        self._how = how

    def parts(self, args: tuple[Any, ...], kwargs: dict[str, Any], direction: Any = None) -> Parts:
        """The derivatives, spliced into the trace; `direction` has tangents of arguments, or the result's gradient."""
        trace = recorder()
        assert isinstance(trace, Trace)
        arguments = self._take_apart(args, kwargs, symbolic=True)
        while True:
            try:
                entry = self._part(arguments, trace)
                break
            except TakeApartError:
                arguments = self._again(arguments, arguments.args, symbolic=True)
        signature: Any = entry.signature
        kinds, (result, aux, places) = list(signature.gradients), signature.aux
        inputs = [*arguments.all_numbers, *entry.leaves]
        if self._how == "tangent":
            named = [arguments.names()[k] for k in self._argnums]
            inputs += _numbers_of(direction, kinds, "direction", [f"argument {each}" for each in named], self.name)
        elif self._how == "gradient":
            inputs += _numbers_of((direction,), [result], "gradient", ["the result"], self.name)
        numbers = trace.inline(entry.program, inputs, entry.way, entry.stages)
        count = {"tangent": result.size, "gradient": sum(kind.size for kind in kinds)}.get(self._how, len(places))
        size = len(numbers) - count
        return Parts(kinds, self._single, result, aux, numbers[:size], numbers[size:], places)

    def _stages(self, arguments: Arguments, faults: str, named: bool = True) -> Any:
        self._check_signature(arguments)
        groups, names, owners = self._groups(arguments)
        kinds = self._differentiated(arguments)

        def body(leaves: list[Any]) -> tuple[tuple[Kind, Kind | None], Sequence[Any]]:
            returned, _ = self._call_traced(arguments, leaves)
            results, aux = _Flattener(), None
            if self._has_aux:
                if not isinstance(returned, tuple) or len(returned) != 2:
                    raise InputError(f"with has_aux=True, {self.name} must return (value, aux)")
                returned, beside = returned
            kind = results.flatten_result(returned, self.function)
            if not kind.size and not is_empty(kind):
                raise InputError(f"{self.name} must return numbers to differentiate, got {type(returned).__name__}")
            if self._has_aux:
                aux = results.flatten_result(beside, self.function, "[1]")
            return (kind, aux), results.numbers

        start = time.perf_counter()
        traced: Traced[Any]
        captured: Captured
        traced, captured = self._traced(arguments, body, groups, names, (), faults, named)
        inputs, _ = gradient_groups(self._argnums, arguments, groups, owners)
        result, aux = traced.result
        options = self._options._replace(faults=faults)
        with_values = self._with_value or self._has_aux
        stages = SplicedStages(traced.program, self._title(), options, self._how, inputs, result.size, with_values)
        stages.way, stages.spliced = traced.way, traced.spliced
        returned: Any = _Returned(result, aux, stages.places)
        signature = Signature(arguments.kinds, kinds, self._single, False, returned)
        return stages, traced, captured, signature, time.perf_counter() - start


def _numbers_of(items: Sequence[Any], kinds: Sequence[Kind], what: str, names: Sequence[str], name: str) -> list[Any]:
    """The numbers of tangents or gradients, which have the structures of what they belong to."""
    if not isinstance(items, (tuple, list)) or len(items) != len(kinds):
        raise InputError(f"{name}: there must be a {what} for {' and '.join(names)}; pass a tuple of them")
    numbers: list[Any] = []
    for item, kind, place in zip(items, kinds, names, strict=True):
        flattener = Flattener(symbolic=True, identity=False)
        given = flattener.flatten(item)
        if _form(given) != _form(kind):
            raise InputError(
                f"{name}: the {what} for {place} must have the same structure, {_plain(kind)}; got {_plain(given)}"
            )
        numbers += flattener.numbers
    return numbers


def _form(kind: Kind) -> Any:
    """What two structures have in common that hold numbers in the same places."""
    if kind.scalar:
        return float
    if isinstance(kind, Array):
        return np.ndarray, tuple(kind.shape)
    if isinstance(kind, Objects) and all(part.scalar for part in kind.parts):
        return np.ndarray, tuple(kind.shape)
    if isinstance(kind, Numbers):
        return kind.container, (float,) * kind.size
    container = getattr(kind, "container", type(kind))
    return container, tuple(map(_form, kind.parts))


def _plain(kind: Kind) -> Kind:
    """A kind in words that users know: `Value`s in a list or array are numbers."""
    if isinstance(kind, (Items, Objects)) and all(part.scalar for part in kind.parts):
        return Array(kind.shape) if isinstance(kind, Objects) else Numbers(kind.container, len(kind.parts))
    return kind
