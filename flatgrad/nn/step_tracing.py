"""Tracing training steps: the loss, its gradient, and the optimiser's update."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self, cast, overload

from ..compiler.calls.arguments import Arguments
from ..compiler.calls.captured import Called
from ..compiler.calls.kind import Kind
from ..compiler.calls.number_kinds import NUMBER
from ..compiler.checks import as_list, numbers_of
from ..compiler.languages.loader import collector_paused
from ..compiler.languages.training import emit_step_numbers
from ..compiler.open_stages import OpenStages
from ..compiler.options import WAYS, Backend, Mode
from ..compiler.printing import Printed, print_functions
from ..compiler.program.at_once import inline_each, met
from ..compiler.program.faults import Faults
from ..compiler.program.names import Namer, nameless, outer_names
from ..compiler.program.program import Group
from ..compiler.program.progress import preparing
from ..compiler.program.selections import has_selections
from ..compiler.program.trace import Trace, trace_function
from ..compiler.program.ways import Way
from ..compiler.stages import Stages
from ..compiler.transforms.gradients import GradFunction
from ..compiler.transforms.sizes import TracedCall
from ..compiler.transforms.transformed import Transformed
from ..runtime.errors import InputError
from ..runtime.traced import TracedValue
from ..runtime.tracing import recorder
from ..runtime.value import Value
from .formulas import StepFormulas
from .optim import Optimizer
from .parameters import as_parameters
from .step_kernel import StepKernel
from .step_stages import STEP, AnyStepStages, BoundStepStages, LaterStepStages, StepStages


class Position(NamedTuple):
    """How far training has come: the parameters, the optimiser's state (by kind), and how many steps have been made."""

    numbers: Any
    state: list[Any]
    steps: int


class _Gradient(GradFunction[..., tuple[float, list[float]]]):
    """The gradient inside a step, which is traced anew for each step, and leaves to it to note what is captured."""

    def _traced(
        self, arguments: Arguments, body: Any, groups: list[Group], names: list[str], leaves: Sequence[Value] = (),
        faults: str = "", named: bool = False, values: Sequence[int] | None = None,
        numbers: Sequence[Any] | None = None,
    ) -> Any:  # fmt: skip
        run = functools.partial(
            trace_function, body, self.name, groups, names, leaves, nameless, faults=faults,
            numbers=arguments.all_numbers, as_they_are=arguments.as_they_are(),
        )  # fmt: skip
        traced = self._selecting(run, arguments, functools.partial(self._captured_roots, arguments), ())
        self.selects = has_selections(traced.program)
        return traced, None

    _part = GradFunction._new_part
    #: Whether only the loss is traced, what came of it, and the optimiser as it was then.
    only_forward = False
    forward: Any = None
    optimizer: Optimizer | None = None
    #: Whether the loss selects.
    selects = False

    def _stages(self, arguments: Arguments, faults: str, named: bool = False) -> Any:
        return self.forward or super()._stages(arguments, faults, named)

    def _inline(self, arguments: Arguments) -> Any:
        if not self.only_forward:
            return super()._inline(arguments)
        trace = recorder()
        assert isinstance(trace, Trace)
        self.forward = None
        self.forward = self._stages(arguments, trace.faults, named=False)
        return None


class _StepNumber(Value):
    """A number of a step that is computed if a branch depends on it."""

    __slots__ = ("_asked",)

    _asked: tuple[Callable[[int], Sequence[float]], int, int]

    @classmethod
    def of(cls, ask: Callable[[int], Sequence[float]], step: int, place: int) -> Self:
        """One of the numbers of a step, which `ask` returns."""
        number: Self = object.__new__(cls)
        number._asked = ask, step, place
        return number

    @property
    def _number(self) -> float:  # type: ignore[override]
        ask, step, place = self._asked
        return float(ask(step)[place])


class _NextInputs(Sequence[float]):
    """The inputs of a step. The optimiser is asked for its numbers when they are read, as a rate may be a function.

    >>> inputs = _NextInputs([1.0], lambda step: [0.1 * step], 3, [2.0])
    >>> len(inputs), inputs[-1]
    (3, 2.0)
    """

    def __init__(
        self, inputs: Sequence[float], ask: Callable[[int], Sequence[float]], step: int, leaves: Sequence[float]
    ) -> None:
        self._made = inputs, ask, step, leaves

    @functools.cached_property
    def _numbers(self) -> list[float]:
        inputs, ask, step, leaves = self._made
        return [*inputs, *ask(step), *leaves]

    @overload
    def __getitem__(self, place: int) -> float: ...

    @overload
    def __getitem__(self, place: slice) -> list[float]: ...

    def __getitem__(self, place: int | slice) -> float | list[float]:
        return self._numbers[place]

    def __len__(self) -> int:
        return len(self._numbers)


class TracedStep(Transformed[StepKernel]):
    """A training step as far as it is traced: loss, gradient and update, for one structure of batches after another.

    Attributes:
        optimizer: the optimiser.
        parameters: the `Value`s to train.
    """

    _position: Position

    def __init__(
        self,
        loss_fn: Callable[..., Any],
        optimizer: Optimizer,
        parameters: Any,
        *,
        backend: Backend = "auto",
        mode: Mode = "exact",
        faults: Faults = "raise",
        static_argnames: Sequence[str] | str = (),
        dynamic: bool | None = None,
        max_ways: int = WAYS,
    ) -> None:
        super().__init__(loss_fn, backend, mode, static_argnames, faults, dynamic, max_ways=max_ways)
        if not isinstance(optimizer, Optimizer):
            raise InputError(f"train_step: expected an optimiser such as nn.SGD(0.1), got {type(optimizer).__name__}")
        optimizer.check_numbers()
        self.optimizer = optimizer
        self.parameters: list[Value] = as_parameters(parameters)
        #: What the parameters were taken from; a list of them may be changed, and a model get others.
        self._parameters_source = parameters if callable(getattr(parameters, "parameters", None)) else self.parameters
        self._new_gradient = functools.partial(
            _Gradient, loss_fn, 0, self.parameters, False, True, backend=backend, mode=mode, faults=faults,
            static_argnames=static_argnames,
        )  # fmt: skip
        self._start()

    def _start(self) -> None:
        """What a new training step does last."""

    _transform = "nn.train_step"
    #: The loss selects, and nothing else: the gradient is a part of what is traced.
    _selects = False

    def _choices(self) -> dict[str, str]:
        return {"optimizer": type(self.optimizer).__name__, **super()._choices()}

    def _captured_roots(self, arguments: Arguments | None = None) -> list[Any]:
        optimizer = self.optimizer
        parameters = Called(functools.partial(as_parameters, self._parameters_source), "the parameters")
        return [
            *super()._captured_roots(arguments), optimizer.update, optimizer.clip, parameters
        ]  # fmt: skip

    _opens = True

    def _trace_call(self, arguments: Arguments, named: bool = True) -> TracedCall:
        stages = self._build(arguments, named=named)
        return TracedCall(stages, stages.leaves, stages.captured, [], None, stages.trace_seconds)

    def _value_kinds(self, kinds: Sequence[Kind | None]) -> list[Kind]:
        """The loss."""
        return [NUMBER]

    def _bound_stages(
        self, open_stages: OpenStages, extents: Sequence[int], make: Callable[[], Stages]
    ) -> BoundStepStages:
        return BoundStepStages(open_stages, extents, cast("Callable[[], StepStages]", make))

    def _entry_of(self, call: TracedCall, stages: Any, arguments: Arguments) -> StepKernel:
        kernel = StepKernel(stages, self._printed)
        kernel.traced_at = self._next_inputs(arguments, kernel.leaves)
        return kernel

    def _next_inputs(self, arguments: Arguments, leaves: Sequence[Value]) -> Sequence[float]:
        """All numbers that the step on a batch would get that would come next."""
        position = self._position
        inputs = numbers_of([*arguments.numbers, position.numbers, *position.state])
        return _NextInputs(inputs, self.optimizer.step_numbers, position.steps, [leaf.data for leaf in leaves])

    def _inputs_of(self, arguments: Arguments, leaves: Sequence[Value]) -> list[Any]:
        position = self._position
        state = map(as_list, (position.numbers, *position.state))
        inputs = [*arguments.numbers, *state, *[0.5] * len(self.optimizer.number_names)]
        return [*inputs, [leaf.data for leaf in leaves]] if leaves else inputs

    def _trace_sample(self, arguments: Arguments, first: TracedCall | None, named: bool) -> TracedCall:
        """The loss, at first: what becomes of it is known from the first sample, if the update is this package's."""
        if first is None or first.leaves or not _updates_alike(self.optimizer):
            return self._trace_call(arguments, named)
        groups, names, _ = self._groups(arguments)
        gradient = self._new_gradient()
        gradient.only_forward, gradient.optimizer = True, copy.copy(self.optimizer)

        def body(inputs: list[TracedValue]) -> tuple[None, list[Any]]:
            self._call_traced(arguments, inputs, gradient)
            return None, []

        with collector_paused(), preparing(self.name):
            start = time.perf_counter()
            _, captured = self._traced(arguments, body, groups, names)
            seconds = time.perf_counter() - start
        gradient.only_forward = False
        forward, traced, *_ = gradient.forward
        if len(traced.leaves) > len(self.parameters) or traced.way.truths:
            return self._trace_call(arguments, named)
        stages = LaterStepStages(
            forward, lambda: self._build(arguments, gradient=gradient, named=named), self._results(), self._title(),
            self._options, type(self.optimizer).__name__, captured, seconds,
        )  # fmt: skip
        stages.way = Way(selects=gradient.selects)
        return TracedCall(stages, [], captured, [], None, seconds)

    def _results(self) -> list[Group]:
        """The groups of what a step returns."""
        width = len(self.parameters)
        names = "parameters", *(f"{state}s" for state in self.optimizer.state_names)
        return [Group("loss", 1, True), *(Group(name, width, False) for name in names)]

    def _build(
        self, arguments: Arguments, backend: str = "", gradient: _Gradient | None = None, named: bool = True,
        at_hand: list[Any] | None = None, selects: bool = True,
    ) -> StepStages:  # fmt: skip
        """Trace loss, gradient and update for batches of this structure.

        Args:
            arguments: the batch.
            backend: overrides the step's own.
            gradient: of the loss, if that has been traced already.
            named: whether anybody may read the names of parameters in the program.
            at_hand: the numbers at hand, without leaves; by default those of the next step on this batch.
            selects: whether branches that only select may be selections.
        """
        now = as_parameters(self._parameters_source)
        if len(now) != len(self.parameters) or any(a is not b for a, b in zip(now, self.parameters, strict=True)):
            raise InputError(
                f"{self.name}: the parameters are other ones than when this training step was made, and its optimiser "
                "has no state for them; make a new training step"
            )
        if len(self._position.state) != len(self.optimizer.state_names):
            raise InputError(
                f"{self.name}: the optimiser keeps other numbers per parameter than when this training step was made "
                f"({', '.join(self.optimizer.state_names) or 'none'} now); make a new training step"
            )
        groups, names, _ = self._groups(arguments)
        count, width = len(names), len(self.parameters)
        # Groups are named first: their names are the same for all samples of a kernel for all sizes, labels are not.
        name_of = Namer([*names, *(group.name for group in groups)])
        kinds = [name_of("parameters", "parameters")]
        kinds += [name_of(f"{state}s", "states") for state in self.optimizer.state_names]
        numbers = [name_of(number, "number") for number in self.optimizer.number_names]
        groups = [*groups, *(Group(kind, width, False) for kind in kinds), *(Group(n, 1, True) for n in numbers)]
        labels = [f"_{k}" for k in range(width)]
        if named:
            outer = outer_names(self.function, {id(p) for p in self.parameters})
            labels = [name_of(p.label or outer.get(id(p), ""), f"p{k}") for k, p in enumerate(self.parameters)]
        names = [*names, *labels]
        for state in self.optimizer.state_names:
            names += [name_of(f"{state}_{name}", "s") if named else f"_{state}{name}" for name in labels]
        names += numbers

        part = gradient or self._new_gradient()
        part._selects = selects

        def body(inputs: list[TracedValue]) -> tuple[None, list[Any]]:
            trace = recorder()
            assert isinstance(trace, Trace)
            for k, parameter in enumerate(self.parameters):
                trace.bind(parameter, count + k)
            part._integers = self._integers
            (loss, gradients), _ = self._call_traced(arguments, inputs[:count], part)
            if not any(isinstance(each, TracedValue) for each in gradients):
                raise InputError(f"{self.name} does not depend on any of the parameters: there is nothing to train")
            trace.begin_update()
            return None, [loss, *self._updated(part.optimizer or self.optimizer, inputs[count:], gradients)]

        options = self._options._replace(backend=backend or self.backend)
        with collector_paused(), preparing(self.name):
            start = time.perf_counter()
            traced, captured = self._traced(
                arguments, body, groups, names, named=named, numbers=at_hand or self._at_hand(arguments)
            )
            seconds = time.perf_counter() - start
            traced.program.output_groups = self._results()
            stages = StepStages(
                traced.program, self._results(), self._title(), options, type(self.optimizer).__name__, traced.leaves,
                captured, seconds,
            )  # fmt: skip
            stages.way = traced.way._replace(selects=part.selects)
            stages.spliced = [each for each in traced.spliced if each.stages.spliced]  # of losses with derivatives
            return stages

    def _at_hand(self, arguments: Arguments) -> list[Any]:
        """The inputs of the next step on a batch, without the leaves."""
        position, ask = self._position, self.optimizer.step_numbers
        trained = (n for part in (position.numbers, *position.state) for n in part)
        count = len(self.optimizer.number_names)
        return [*arguments.all_numbers, *trained, *(_StepNumber.of(ask, position.steps, k) for k in range(count))]

    def _updated(self, optimizer: Optimizer, inputs: Sequence[Any], gradients: list[Any]) -> list[Any]:
        """The new parameters, then the new states, kind by kind."""
        width, kinds = len(self.parameters), len(optimizer.state_names)
        parameters, rest = inputs[:width], inputs[width:]
        states = [rest[k * width : (k + 1) * width] for k in range(kinds)]
        numbers = dict(zip(optimizer.number_names, rest[kinds * width :], strict=False))
        gradients = optimizer.clip(gradients)
        if _updates_alike(optimizer) and all(isinstance(gradient, TracedValue) for gradient in gradients):
            return _updated_at_once(optimizer, parameters, gradients, states, numbers)
        new_parameters, new_states = [], []
        for k, gradient in enumerate(gradients):
            parameter, state = optimizer.update(parameters[k], gradient, [s[k] for s in states], numbers)
            new_parameters.append(parameter)
            new_states.append(state)
        return [*new_parameters, *(state[kind] for kind in range(kinds) for state in new_states)]

    def _printed(
        self,
        steps: Mapping[str, AnyStepStages],
        language: str | None = None,
        formulas: StepFormulas | str | None = None,
    ) -> Printed:
        """The source of steps as functions of these names; and of the numbers of a step, where that can be written.

        With `language`, in another one than what runs; with `formulas` in place of the optimiser's present ones.
        """
        stages = list(steps.values())
        language = language or stages[0].backend
        functions = [(name, STEP[1]) for name in steps]
        result = print_functions(language, stages, functions, stages[0].header(language))
        formulas = self.optimizer.formulas() if formulas is None else formulas
        if isinstance(formulas, StepFormulas):
            if formulas.imports:
                result.sections.insert(1, f"from math import {', '.join(formulas.imports)}\n")
            result.sections.append(emit_step_numbers(formulas.statements(), list(formulas.numbers)))
        return result


def _updates_alike(optimizer: Optimizer) -> bool:
    """Whether an optimiser is one of this package, whose update is the same for all parameters."""
    ours = type(optimizer).__module__ == Optimizer.__module__
    return ours and not {"update", "clip"} & vars(optimizer).keys()


def _updated_at_once(
    optimizer: Optimizer, parameters: Sequence[Any], gradients: list[Any], states: Sequence[Sequence[Any]],
    numbers: dict[str, Any],
) -> list[Any]:  # fmt: skip
    """The new parameters and states, from the update of one parameter."""
    trace = recorder()
    assert isinstance(trace, Trace)
    columns = [parameters, gradients, *states]
    names = ["parameter", "gradient", *optimizer.state_names]

    def body(inputs: list[TracedValue]) -> tuple[None, list[Any]]:
        parameter, gradient, *rest = inputs
        state, given = rest[: len(states)], dict(zip(numbers, rest[len(states) :], strict=True))
        updated, state = optimizer.update(parameter, gradient, state, given)
        return None, [updated, *state]

    names += numbers
    groups = [Group(name, 1, True) for name in names]
    traced = trace_function(body, "update", groups, names, leaf_names=nameless, sites=False, faults=trace.faults)
    indices = [met(trace, column) for column in columns]
    alone = [trace.reference(value) for value in (*numbers.values(), *traced.leaves)]
    outputs = inline_each(trace, traced.program, [*indices, *alone])
    return [value for output in outputs for value in output]
