"""Training steps: forward, backward and the optimiser's update as one generated function."""

from __future__ import annotations

import functools
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..compiler.calls.arguments import Arguments
from ..compiler.checks import as_list, group_results
from ..compiler.languages.loader import collector_paused
from ..compiler.options import WAYS, Backend, Mode
from ..compiler.program.faults import Faults
from ..compiler.program.progress import preparing
from ..compiler.program.ways import TurnError
from ..compiler.transforms.transformed import TakeApartError
from ..compiler.transforms.ways import WayTable
from ..runtime.atomic import setting
from ..runtime.errors import ARITHMETIC_FAULTS, InputError, KernelLimitWarning
from ..runtime.sites import user_level, user_line
from ..runtime.tracing import active, forbidden, recorder, refuse
from .native_loop import NativeLoop
from .optim import Optimizer
from .step_kernel import StepKernel
from .step_tracing import Position, TracedStep


class TrainStep(TracedStep):
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

    if TYPE_CHECKING:

        def __call__(self, /, *batch: Any, **keywords: Any) -> float: ...

    def __get__(self, instance: object, owner: type | None = None) -> Self:
        """A training step that is a member of a class is no method: its loss has a model already."""
        return self

    def _start(self) -> None:
        self._stepping = threading.RLock()
        self._last: StepKernel | None = None
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
        self._position = Position(numbers, state, steps)

    def _taking(self, numbers: Any, state: list[Any], steps: int) -> Callable[[], None]:
        """A function that does the same in one step: to be a part of a larger one (`atomic.step`)."""
        return functools.partial(setattr, self, "_position", Position(numbers, state, steps))

    @property
    def source(self) -> str:
        """The generated source of the step that ran last. If machine code runs: its loops, in Python."""
        return self._last.source if self._last is not None else ""

    def reload(self) -> None:
        """Take the parameters' current data, and begin with a fresh optimiser state."""
        numbers = [parameter._number for parameter in self.parameters]
        self.take(numbers, [[0.0] * len(numbers) for _ in self.optimizer.state_names], 0)

    def sync(self) -> None:
        """Write the current parameters into the `Value`s' data: all of them, or, if it is interrupted, none."""
        self._syncing(self.numbers)()

    def _syncing(self, numbers: Sequence[float]) -> Callable[[], None]:
        """A function that writes numbers into the `Value`s' data in one step."""
        return setting(self.parameters, "_number", numbers)

    def _renew_locks(self) -> None:
        super()._renew_locks()
        self._stepping = threading.RLock()

    def _call(self, /, *batch: Any, **keywords: Any) -> float:
        """Make one step on a batch; return the loss before the update.

        Raises:
            DomainError, DivisionByZeroError, RangeError: as the loss would; parameters and state stay as they were.
            TraceError: at the first call for a structure of batches, as `fg.compile`.
        """
        self._forbid_tracing()
        arguments = self._take_apart(batch, keywords)
        kernel, arguments = self._step_for(arguments)
        kernel = kernel.ways.last
        try:
            with self._stepping:
                while True:
                    before = self._position
                    numbers = self.optimizer.step_numbers(before.steps)
                    inputs = [*arguments.numbers, before.numbers, *before.state, *numbers]
                    kernel, (loss, parameters, *state) = self._made_step(kernel, arguments, inputs)
                    after, loss = Position(parameters, state, before.steps + 1), float(loss)
                    self._last = kernel
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
            kernel, arguments = self._kernel_for(arguments)
            with self._stepping, self._loop_for(kernel, arguments) as loop:
                if loop is None:
                    losses.extend(self(*batch, **keywords) for _ in range(steps))
                    return losses
                while len(losses) < steps:
                    before = self._position
                    chunks = loop(
                        before.numbers, before.state, first=before.steps,
                        steps=before.steps + steps - len(losses), strict=False, limit=lambda step: steps,
                    )  # fmt: skip
                    for first, chunk, parameters, state in chunks:
                        after = Position(parameters, state, first + len(chunk))
                        if self._position is not before:  # as in a call; the chunk is made again
                            break
                        before = self._position = after
                        losses += chunk
                        self._last = loop.kernels[0]
        except BaseException:
            self.sync()
            raise
        return losses

    @contextmanager
    def _loop_for(self, kernel: StepKernel, arguments: Arguments) -> Iterator[NativeLoop | None]:
        """What makes steps on one batch in machine code; None if another back end makes them.

        It works in memory of its own. So it is taken out of `loops` inside the `with` block: whoever makes steps in
        the middle of these (from a signal handler) gets another one.
        """
        stages, loop = kernel.stages, None
        if stages.backend == "native":
            parts = (part if isinstance(part, list) else [part] for part in arguments.numbers)
            batch = np.array([number for part in parts for number in part], dtype=float)
            try:
                loop = kernel.loops.pop()
                loop.set_batch(batch)
            except IndexError:
                loop = NativeLoop(
                    {1: kernel}, [batch[None]], None, self.optimizer, lambda each: each.stages.leaf_numbers(),
                    lambda which, *turn: self._other_step(which, arguments, *turn),
                )  # fmt: skip
        try:
            yield loop
        finally:
            if loop is not None:
                kernel.loops.append(loop)

    def _take_apart(self, args: tuple[Any, ...], kwargs: dict[str, Any], symbolic: bool = False) -> Arguments:
        arguments = super()._take_apart(args, kwargs, symbolic)
        if arguments.values:
            raise InputError(
                f"{self.name}: the batch holds Values, which no gradient would reach: give numbers (value.data); "
                f"the loss reaches the parameters from outside{user_line()}"
            )
        return arguments

    def _forbid_tracing(self) -> None:
        if active and recorder() is not None:
            raise forbidden("making a training step", "Call the step outside of the compiled function.")

    @property
    def kernels(self) -> list[StepKernel]:
        """The kernels made so far, one per structure of batches and state of what the loss captured."""
        return [kernel for first in self._kernels.entries for kernel in first.ways.entries]

    def ways(self) -> WayTable:
        """The ways that steps have gone: the truth values that loss and optimiser met, with the lines.

        There is a kernel per way. The list prints as a table; steps are not counted.

        Example:
            >>> import flatgrad as fg
            >>> w = fg.Value(0.5)
            >>> step = train_step(lambda x: (w * x) ** 2 if x > 1 else w * x, fg.nn.SGD(0.1), [w])
            >>> step(2.0), step(1.0)
            (1.0, 0.09999999999999998)
            >>> [way.truths for way in step.ways()]
            [(True,), (False,)]
        """
        return WayTable((kernel.way, None) for kernel in self.kernels)

    def prepare(self, /, *batch: Any, **keywords: Any) -> StepKernel:
        """The compiled step for batches of this structure, made if need be; nothing is run."""
        return self._step_for(self._take_apart(batch, keywords))[0]

    def explain(self, path: str | os.PathLike[str], /, *batch: Any, **keywords: Any) -> Path:
        """Write one HTML file that shows what becomes of each line of the loss in a step: its gradient, and the update.

        Args:
            path: where to write; the suffix must be `.html`, or `.json` for the same as data.
            batch, keywords: as for a call. Nothing is run. The numbers are those of the step that would come next.

        Returns:
            The path.

        Raises:
            OptionError: for another suffix, or a program that is too large to be shown.
            TraceError: as a call.

        Example:
            >>> import flatgrad as fg, pathlib, tempfile
            >>> w = fg.Value(0.0)
            >>> step = train_step(lambda x, y: (w * x - y) ** 2, fg.nn.SGD(0.1), [w])
            >>> step.explain(pathlib.Path(tempfile.mkdtemp()) / "step.html", 1.0, 2.0).name
            'step.html'
        """
        kernel, arguments = self._step_for(self._take_apart(batch, keywords))
        return kernel.explain(path, inputs=self._next_inputs(arguments, kernel.leaves))

    def _kernel_for(self, arguments: Arguments) -> tuple[StepKernel, Arguments]:
        """The kernel for batches of this structure, and the batch as it takes it; its program is made, if need be."""
        while True:
            try:
                return self._cached(arguments, functools.partial(self._new_kernel, arguments)), arguments
            except TakeApartError:
                arguments = self._again(arguments, arguments.args)

    def _new_kernel(self, arguments: Arguments, backend: str = "", numbers: list[float] | None = None) -> StepKernel:
        start = time.perf_counter()
        with collector_paused(), preparing(self.name):
            kernel = StepKernel(self._build(arguments, backend, at_hand=numbers), self._printed)
            kernel.traced_at = self._next_inputs(arguments, kernel.leaves)
        kernel.stats.compile_seconds = time.perf_counter() - start - kernel.stats.trace_seconds
        return kernel

    def _made_step(
        self, kernel: StepKernel, arguments: Arguments, inputs: list[Any],
        leaves_of: Callable[[StepKernel], list[float]] = lambda kernel: kernel.stages.leaf_numbers(),
    ) -> tuple[StepKernel, Any]:  # fmt: skip
        """Compute one step, by the kernel of its way; return that kernel, and the results.

        Args:
            kernel: of some way.
            arguments: a batch, or another one of this structure.
            inputs: of the step, without the leaves.
            leaves_of: gives the numbers that a kernel reads and that are not trained.
        """
        while True:
            leaves = [leaves_of(kernel)] if kernel.leaves else []
            turn: tuple[int, bool | int] | None = None
            try:
                return kernel, kernel.routine.run(*inputs, *leaves)
            except TurnError as error:
                turn = error.guard, error.truth
            except ARITHMETIC_FAULTS:
                if not kernel.way.selects:
                    raise
            numbers = [n for part in inputs for n in (as_list(part) if np.ndim(part) else [part])]
            other = self._other_step(kernel, arguments, turn, numbers)
            if not isinstance(other, StepKernel):
                return kernel, group_results(other, self._results())
            kernel = other

    def _other_step(
        self, kernel: StepKernel, arguments: Arguments, turn: tuple[int, bool | int] | None, numbers: list[float]
    ) -> StepKernel | list[float]:
        """The kernel of the way that turns off at a guard: one that is known, or made for these numbers.

        If there are too many ways, it is what the step returns, computed without a kernel. So it is if no guard has
        failed, but a gradient may be NaN because of what is not selected.

        Args:
            kernel: whose guard has failed.
            arguments: a batch of this structure.
            turn: the guard, and what the step has in its place.
            numbers: all inputs of the step, without the leaves.
        """
        with self._lock:
            if turn is None:
                return self._uncompiled(arguments, numbers)
            ways, beginning = kernel.ways, (*kernel.way.truths[: turn[0]], turn[1])
            tried = [kernel]  # not all kernels have the same guards in the same places
            if self._turned[0] == numbers:
                tried = [*self._turned[1], kernel]
            self._turned = numbers, tried
            other: StepKernel | None = ways.find(beginning, (), tried)
            if other is None and len(ways.entries) >= self.max_ways:
                if not ways.warned:
                    ways.warned = True
                    warnings.warn(ways.warning(self.name), KernelLimitWarning, stacklevel=user_level())
                return self._uncompiled(arguments, numbers)
            if other is None:
                other = self._new_kernel(arguments, kernel.backend, numbers)
                counted = kernel.way.selects or other.way.selects  # then guards are counted otherwise
                if other.way.truths[: len(beginning)] != beginning and not counted:
                    raise refuse(
                        f"{self.name} met other truth values when it was traced again with the same numbers; a loss "
                        "must do the same each time"
                    )
                ways.add(other)
            return other

    #: The numbers of the last step whose guards failed, and the kernels that were tried for it.
    _turned: tuple[Any, list[StepKernel]] = (None, [])

    def _uncompiled(self, arguments: Arguments, numbers: list[float]) -> list[float]:
        """What a step returns, computed without a kernel, on the way that it goes."""
        with collector_paused():
            stages = self._build(arguments, "python", at_hand=numbers, selects=False)
        return stages.meaning.evaluate([*numbers, *stages.leaf_numbers()])

    def _step_for(self, arguments: Arguments) -> tuple[StepKernel, Arguments]:
        """The same; its function is made, too."""
        kernel, arguments = self._kernel_for(arguments)
        if "routine" not in vars(kernel):
            with self._lock:
                _ = kernel.routine
        return kernel, arguments


def train_step(
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
) -> TrainStep:
    """A function that makes one training step per call.

    Args:
        loss_fn: takes a batch (numbers, lists, arrays) and returns one `Value`, closing over the model.
        optimizer: `nn.SGD(...)`, `nn.Adam(...)`, ...
        parameters: a Module, or the `Value`s to train.
        backend, mode, faults, static_argnames, dynamic, max_ways: as for `fg.compile`; `faults` is for the update, too.

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
        loss_fn, optimizer, parameters, backend=backend, mode=mode, faults=faults, static_argnames=static_argnames,
        dynamic=dynamic, max_ways=max_ways,
    )  # fmt: skip
