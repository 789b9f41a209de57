"""Training steps: forward, backward and the optimiser's update as one generated function."""

from __future__ import annotations

import functools
import hashlib
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..compiler.arguments import Arguments
from ..compiler.captured import Called, Captured
from ..compiler.driver import Lowered, Printed, compared, joint_passes, lower, print_functions, with_faults
from ..compiler.emit.training import emit_step_numbers
from ..compiler.faults import without_faults
from ..compiler.names import Namer, outer_names
from ..compiler.passes import ARRAY_PASSES, run_passes
from ..compiler.passes.constants import fold_constants
from ..compiler.program import Group, Program
from ..compiler.reroll import reroll
from ..compiler.trace import Trace, trace_function
from ..compiler.transforms import GradFunction, Transformed
from ..runtime.atomic import setting
from ..runtime.errors import InputError
from ..runtime.kernel import Routine, as_list
from ..runtime.loader import LoadedModule, collector_paused
from ..runtime.sites import user_line
from ..runtime.tracing import active, forbidden, recorder
from ..runtime.value import TracedValue, Value
from ..runtime.version import VERSION
from .formulas import StepFormulas
from .optim import Optimizer


class StepProgram:
    """The program of a training step for one structure of batches.

    It takes the batch's arguments, the parameters, the optimiser's state (a list per kind), the numbers of the step,
    and the leaves that are not trained; it returns the loss, the new parameters and the new state. `arrays` is the
    program re-rolled, if a back end that works on arrays runs it; `mode` the one for which it was lowered. `meaning` is
    evaluated where a step has a fault: it has the operations of which a compiled one compares only whether they would
    raise. `captured` is what loss and optimiser captured when they were traced.
    """

    def __init__(
        self,
        lowered: Lowered,
        traced: Program,
        meaning: Program,
        leaves: list[Value],
        captured: Captured,
        seconds: float,
        mode: str,
    ) -> None:
        self.backend, self.program, self.leaves, self.seconds = lowered.backend, lowered.whole, leaves, seconds
        self.arrays = lowered.arrays[0] if lowered.arrays else None
        self.traced, self.meaning, self.captured, self.mode = traced, meaning, captured, mode

    def digest(self) -> bytes:
        """A fingerprint of what the step computes, whatever runs it."""
        program, result = self.traced, hashlib.sha256()
        for column in (program.opcodes, program.starts, program.operands, array("q", program.outputs)):
            result.update(column.tobytes())
        result.update(repr(program.constants).encode())
        return result.digest()

    def routine(self, function: Callable[..., Any], source: str) -> Routine:
        """The generated function of the step as a routine."""
        arrays = self.arrays is not None
        return Routine(function, self.meaning, source, arrays=arrays, exact=not arrays or self.mode == "exact")


class _Entry:
    """A step for one structure of batches and one state of what was captured.

    Attributes:
        built: its program.
        captured: what was captured when it was traced.
        routine, source: the generated function, once there is one, and its source.
        loops: loops in machine code that nobody uses at the moment.
    """

    def __init__(self, built: StepProgram) -> None:
        self.built, self.captured = built, built.captured
        self.routine: Routine | None = None
        self.source: str | Callable[[], str] = ""
        self.loops: list[Callable[..., Any]] = []


class _Position(NamedTuple):
    """How far training has come: the parameters, the optimiser's state (by kind), and how many steps have been made."""

    numbers: Any
    state: list[Any]
    steps: int


class TrainStep(Transformed):
    """A training step: called with a batch, it updates the parameters and returns the loss as a float.

    `repeat` makes many steps on one batch.

    Made by `nn.train_step`. The parameters and the optimiser's state are arrays of this object while it is in use; the
    `Value`s are brought up to date by `sync()`, and when a step raises. A step that raises changes nothing, and neither
    does one that is interrupted: parameters, state and `steps` are replaced together.

    Threads may share one. Then their steps are made one after the other, and those of one `repeat` without any other
    between them. `take` and `reload` do not wait for the step that another thread is making: that one is made again,
    with what was taken.

    Attributes:
        optimizer: the optimiser.
    """

    def __init__(
        self,
        loss_fn: Callable[..., Any],
        optimizer: Optimizer,
        parameters: Any,
        *,
        backend: str = "auto",
        mode: str = "exact",
        faults: str = "raise",
        static_argnames: Sequence[str] | str = (),
    ) -> None:
        super().__init__(loss_fn, backend, mode, static_argnames, faults)
        if not isinstance(optimizer, Optimizer):
            raise InputError(f"train_step: expected an optimiser such as nn.SGD(0.1), got {type(optimizer).__name__}")
        optimizer.check_numbers()
        self.optimizer = optimizer
        self.parameters = as_parameters(parameters)
        #: What the parameters were taken from; a list of them may be changed, and a model get others.
        self._given = parameters if callable(getattr(parameters, "parameters", None)) else self.parameters
        self._gradient = GradFunction(
            loss_fn, 0, self.parameters, False, True, backend=backend, mode=mode, faults=faults,
            static_argnames=static_argnames,
        )  # fmt: skip
        self._gradient.passes = False  # the whole step is simplified
        self._stepping = threading.RLock()
        self._source: str | Callable[[], str] = ""
        self.reload()

    @property
    def numbers(self) -> list[float]:
        """The parameters' current numbers."""
        numbers: list[float] = as_list(self._position.numbers)
        return numbers

    @property
    def state(self) -> list[list[float]]:
        """The optimiser's state, a list per kind."""
        return [as_list(kind) for kind in self._position.state]

    @property
    def steps(self) -> int:
        """How many steps have been made."""
        return self._position.steps

    def take(self, numbers: Any, state: list[Any], steps: int) -> None:
        """Go on from these parameters and this state, lists or arrays, after so many steps."""
        self._position = _Position(numbers, state, steps)

    def taking(self, numbers: Any, state: list[Any], steps: int) -> Callable[[], None]:
        """A built-in function that does the same: a part of a larger step (`atomic.step`)."""
        return functools.partial(setattr, self, "_position", _Position(numbers, state, steps))

    @property
    def source(self) -> str:
        """The generated source of the step that ran last. If machine code runs: its loops, in Python."""
        source = self._source
        if not isinstance(source, str):
            source = self._source = source()
        return source

    def reload(self) -> None:
        """Take the parameters' current data, and begin with a fresh optimiser state."""
        numbers = [parameter._data for parameter in self.parameters]
        self.take(numbers, [[0.0] * len(numbers) for _ in self.optimizer.state_names], 0)

    def sync(self) -> None:
        """Write the current parameters into the `Value`s' data: all of them, or, if it is interrupted, none."""
        self.syncing(self.numbers)()

    def syncing(self, numbers: Sequence[float]) -> Callable[[], None]:
        """A built-in function that writes numbers into the `Value`s' data."""
        return setting(self.parameters, "_data", numbers)

    def _renew_locks(self) -> None:
        super()._renew_locks()
        self._stepping = threading.RLock()

    def _call(self, *batch: Any, **keywords: Any) -> float:
        """Make one step on a batch; return the loss before the update.

        Raises:
            DomainError, DivisionByZeroError, RangeError: as the loss would; parameters and state stay as they were.
            TraceError: at the first call for a structure of batches, as `fg.compile`.
        """
        self._forbid_tracing()
        arguments = self._take_apart(batch, keywords)
        entry = self._step_for(arguments)
        routine, leaves = entry.routine, entry.built.leaves
        assert routine is not None
        try:
            with self._stepping:
                while True:
                    before = self._position
                    numbers = self.optimizer.step_numbers(before.steps)
                    given = [*arguments.numbers, before.numbers, *before.state, *numbers]
                    if leaves:
                        given.append([leaf._data for leaf in leaves])
                    loss, parameters, *state = routine.run(*given)
                    after, loss = _Position(parameters, state, before.steps + 1), float(loss)
                    self._source = entry.source
                    # Something else may have been taken meanwhile, or a signal handler may have made a step. (Between
                    # this comparison and the assignment nothing else can run.)
                    if self._position is before:
                        self._position = after
                        return loss
        except BaseException:
            self.sync()
            raise

    def repeat(self, steps: int, /, *batch: Any, **keywords: Any) -> list[float]:
        """Make steps on one and the same batch; return the losses before their updates.

        It makes the steps that so many calls would make, bit for bit. Machine code makes them without coming back to
        Python but about ten times a second, when an interrupt is noticed: the steps that are complete by then count.
        Steps of other threads wait until all of these are made.

        Args:
            steps: how many.
            batch, keywords: as for a call.

        Raises:
            InputError: if `steps` is not a number of steps.
            DomainError, DivisionByZeroError, RangeError: as the loss would; the steps before are made.

        Example:
            >>> import flatgrad as fg
            >>> w = fg.Value(0.0)
            >>> step = train_step(lambda x, y: (w * x - y) ** 2, fg.nn.SGD(0.1), [w])
            >>> losses = step.repeat(3, 1.0, 2.0)
            >>> step.sync()
            >>> losses[0], round(w.data, 12)
            (4.0, 0.976)
        """
        self._forbid_tracing()
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0:
            raise InputError(f"repeat: expected a number of steps, got {steps!r}")
        steps = int(steps)
        arguments = self._take_apart(batch, keywords)
        losses: list[float] = []
        try:
            entry = self._entry_for(arguments)
            with self._stepping, self._loop_for(entry, arguments) as loop:
                if loop is None:
                    losses.extend(self(*batch, **keywords) for _ in range(steps))
                    return losses
                self._source = functools.partial(self._printed_as, entry.built, "rolled")
                while len(losses) < steps:
                    before = self._position
                    chunks = loop(
                        arguments.numbers, before.numbers, before.state, first=before.steps,
                        steps=before.steps + steps - len(losses), strict=False, limit=lambda step: steps,
                    )  # fmt: skip
                    for first, found, parameters, state in chunks:
                        after = _Position(parameters, state, first + len(found))
                        if self._position is not before:  # as in a call; the chunk is made again
                            break
                        before = self._position = after
                        losses += found
        except BaseException:
            self.sync()
            raise
        return losses

    @contextmanager
    def _loop_for(self, entry: _Entry, arguments: Arguments) -> Iterator[Callable[..., Any] | None]:
        """What makes steps on one batch in machine code; None if another back end makes them.

        It works in memory of its own. So it is taken out of `loops` inside the `with` block: whoever makes steps in
        the middle of these (from a signal handler) gets another one.
        """
        try:
            loop = entry.loops.pop()
        except IndexError:
            native = entry.built.backend == "native"
            loop = self._native_loop(entry.built, arguments) if native else None  # type: ignore[assignment]
        try:
            yield loop
        finally:
            if loop is not None:
                entry.loops.append(loop)

    def _take_apart(self, args: tuple[Any, ...], kwargs: dict[str, Any], symbolic: bool = False) -> Arguments:
        arguments = super()._take_apart(args, kwargs, symbolic)
        if arguments.values:
            raise InputError(
                f"{self.name}: the batch holds Values, which no gradient would reach: give numbers (value.data); "
                f"the loss reaches the parameters from outside{user_line()}"
            )
        return arguments

    def _native_loop(self, built: StepProgram, arguments: Arguments) -> Callable[..., Any]:
        from .native_loop import NativeLoop

        def flat(numbers: Sequence[Any]) -> Any:
            return np.array([n for part in numbers for n in (part if isinstance(part, list) else [part])], dtype=float)

        def leaves() -> list[float]:
            return [leaf._data for leaf in built.leaves]

        made = NativeLoop(
            {1: built}, flat(arguments.numbers)[None], np.zeros((1, 0)), shuffled=False, seed=None,
            optimizer=self.optimizer, leaves=leaves(), fast=self.mode == "fast",
        )  # fmt: skip

        def loop(batch: Sequence[Any], *given: Any, **options: Any) -> Any:
            made.set_batch(flat(batch))
            made.set_leaves(leaves())
            return made(*given, **options)

        return loop

    def _forbid_tracing(self) -> None:
        if active and recorder() is not None:
            raise forbidden("making a training step", "Call the step outside of the compiled function.")

    @property
    def kernels(self) -> list[Any]:
        """The routines made so far, one per structure of batches and state of what the loss captured."""
        entries = [entry for variants in list(self._kernels.values()) for entry in variants.entries]
        return [entry.routine for entry in entries if entry.routine is not None]

    def prepare(self, *batch: Any, **keywords: Any) -> Routine:
        """The compiled step for batches of this structure, made if need be; nothing is run."""
        routine = self._step_for(self._take_apart(batch, keywords)).routine
        assert routine is not None
        return routine

    def captured_roots(self, arguments: Arguments | None = None) -> list[Any]:
        optimizer = self.optimizer
        parameters = Called(functools.partial(as_parameters, self._given), "the parameters")
        return [
            *super().captured_roots(arguments), optimizer.update, optimizer.clip, parameters
        ]  # fmt: skip

    def _entry_for(self, arguments: Arguments) -> _Entry:
        """What belongs to batches of this structure; its program is made, if need be."""
        entry: _Entry = self._variant(self._kernels, arguments, lambda: _Entry(self.build(arguments)))
        return entry

    def _step_for(self, arguments: Arguments) -> _Entry:
        """The same; its function is made, too."""
        entry = self._entry_for(arguments)
        if entry.routine is None:
            with self._lock:
                built = entry.built
                printed = self.printed([(built, "step")])
                module = LoadedModule(printed.sections, f"{self.name}_step", printed.data)
                entry.source = module.source
                if built.backend == "native":
                    entry.source = functools.partial(self._printed_as, built, "rolled")
                entry.routine = built.routine(module.names["step"], module.source)
        return entry

    def build(self, arguments: Arguments, backend: str | None = None) -> StepProgram:
        """Trace loss, gradient and update for batches of this structure; `backend` overrides the step's own."""
        now = as_parameters(self._given)
        if len(now) != len(self.parameters) or any(a is not b for a, b in zip(now, self.parameters, strict=True)):
            raise InputError(
                f"{self.name}: the parameters are other ones than when this training step was made, and its optimiser "
                "has no state for them; make a new training step"
            )
        groups, names, _ = self._groups(arguments)
        count, width = len(names), len(self.parameters)
        name_of = Namer([*names, *(group.name for group in groups)])
        known = outer_names(self.function, {id(p) for p in self.parameters})
        own = [name_of(p.label or known.get(id(p), ""), f"p{k}") for k, p in enumerate(self.parameters)]
        groups = [*groups, Group(name_of("parameters", "parameters"), width, False)]
        names = [*names, *own]
        for state in self.optimizer.state_names:
            groups.append(Group(name_of(f"{state}s", "states"), width, False))
            names += [name_of(f"{state}_{name}", "s") for name in own]
        for number in self.optimizer.number_names:
            groups.append(Group(name_of(number, "number"), 1, True))
            names.append(groups[-1].name)

        def body(inputs: list[TracedValue]) -> tuple[None, list[Any]]:
            trace = recorder()
            assert isinstance(trace, Trace)
            for k, parameter in enumerate(self.parameters):
                trace.bind(parameter, count + k)
            (loss, gradients), _ = self._call_traced(arguments, inputs[:count], self._gradient)
            if not any(isinstance(gradient, TracedValue) for gradient in gradients):
                raise InputError(f"{self.name} does not depend on any of the parameters: there is nothing to train")
            trace.begin_update()
            return None, [loss, *self._updated(inputs[count:], gradients)]

        start = time.perf_counter()
        with collector_paused():
            leaf_names = functools.partial(outer_names, self.function)
            run = functools.partial(
                trace_function, body, self.name, groups, names, leaf_names=leaf_names, faults=self.faults
            )
            traced, captured = self._settled(arguments, run)
            program = traced.program if self.faults == "raise" else without_faults(fold_constants(traced.program))
            program.output_groups = [
                Group("loss", 1, True),
                Group("parameters", width, False),
                *(Group(f"{state}s", width, False) for state in self.optimizer.state_names),
            ]
            compiled = compared(program, self.mode)
            lowered = lower(compiled, backend or self.backend, self.mode)
            meaning = lowered.whole if compiled is program else run_passes(ARRAY_PASSES, program)
        return StepProgram(lowered, compiled, meaning, traced.leaves, captured, time.perf_counter() - start, self.mode)

    def _updated(self, inputs: Sequence[Any], gradients: list[Any]) -> list[Any]:
        """The new parameters, then the new states, kind by kind."""
        width, kinds = len(self.parameters), len(self.optimizer.state_names)
        parameters, rest = inputs[:width], inputs[width:]
        states = [rest[k * width : (k + 1) * width] for k in range(kinds)]
        numbers = dict(zip(self.optimizer.number_names, rest[kinds * width :], strict=False))
        updated, new_states = [], []
        for k, gradient in enumerate(self.optimizer.clip(gradients)):
            parameter, state = self.optimizer.update(parameters[k], gradient, [s[k] for s in states], numbers)
            updated.append(parameter)
            new_states.append(state)
        return [*updated, *(state[kind] for kind in range(kinds) for state in new_states)]

    def _printed_as(self, step: StepProgram, backend: str) -> str:
        return "".join(self.printed([(step, "step")], backend).sections)

    def printed(
        self,
        steps: Sequence[tuple[StepProgram, str]],
        backend: str | None = None,
        formulas: StepFormulas | str | None = None,
    ) -> Printed:
        """The source of step functions, under a header; and of the numbers of a step, where that can be written.

        With `backend`, as another back end than the steps' own would run them; with `formulas` in place of the
        optimiser's present ones.
        """
        program, arrays = steps[0][0].program, [step.arrays for step, _ in steps if step.arrays is not None]
        gradient = program.update - program.primal
        value, update = program.primal, len(program) - program.update
        title, *notes = with_faults(self._title(), self.faults).split("\n")
        header = [
            f"Generated by flatgrad {VERSION}: training steps of {title} with {type(self.optimizer).__name__}.",
            f"{len(program)} equations: {value} compute the loss, {gradient} its gradient, {update} the update.",
            *notes,
        ]
        functions = [(name, "Make a training step: return the loss, and what is new.") for _, name in steps]
        programs = [step.program for step, _ in steps]
        backend = backend or steps[0][0].backend
        if backend == "python" and arrays:
            programs, arrays = [run_passes(joint_passes(self.mode), step.traced) for step, _ in steps], []
        elif backend == "rolled" and not arrays:
            cleaned = [run_passes(ARRAY_PASSES, step.traced) for step, _ in steps]
            arrays = [reroll(program, fast=self.mode == "fast") for program in cleaned]
        result = print_functions(backend, programs, arrays or None, functions, header, self.mode)
        formulas = self.optimizer.formulas() if formulas is None else formulas
        if isinstance(formulas, StepFormulas):
            if formulas.imports:
                result.sections.insert(1, f"from math import {', '.join(formulas.imports)}\n")
            result.sections.append(emit_step_numbers(formulas.statements(), list(formulas.numbers)))
        return result


def as_parameters(parameters: Any) -> list[Value]:
    """The `Value`s of a module or a list; each once.

    Raises:
        InputError: if there are none, or something else is among them.
    """
    if callable(getattr(parameters, "parameters", None)):
        parameters = parameters.parameters()
    if not isinstance(parameters, Iterable) or isinstance(parameters, (str, Value)):
        raise InputError(f"parameters: expected a Module or a list of Values, got {type(parameters).__name__}")
    values = list(parameters)
    for value in values:
        if not isinstance(value, Value):
            raise InputError(f"parameters: expected Values, got {type(value).__name__}")
    if not values:
        raise InputError("parameters: there is nothing to train")
    if len({id(value) for value in values}) != len(values):
        raise InputError("parameters: a Value stands in the list twice")
    return values


def train_step(
    loss_fn: Callable[..., Any],
    optimizer: Optimizer,
    parameters: Any,
    *,
    backend: str = "auto",
    mode: str = "exact",
    faults: str = "raise",
    static_argnames: Sequence[str] | str = (),
) -> TrainStep:
    """A function that makes one training step per call.

    Args:
        loss_fn: takes a batch (numbers, lists, arrays) and returns one `Value`, closing over the model.
        optimizer: `nn.SGD(...)`, `nn.Adam(...)`, ...
        parameters: a Module, or the `Value`s to train.
        backend, mode, faults, static_argnames: as for `fg.compile`; `faults` is for the update, too.

    Returns:
        `step(*batch) -> float`, the loss before the update; `step.source` is the generated function,
        `step.sync()` writes the parameters into the `Value`s.

    Example:
        >>> import flatgrad as fg
        >>> w = fg.Value(0.0)
        >>> step = train_step(lambda x, y: (w * x - y) ** 2, fg.nn.SGD(0.1), [w])
        >>> losses = [step(1.0, 2.0) for _ in range(3)]
        >>> step.sync()
        >>> losses[0], round(w.data, 12)
        (4.0, 0.976)
    """
    return TrainStep(
        loss_fn, optimizer, parameters, backend=backend, mode=mode, faults=faults, static_argnames=static_argnames
    )
