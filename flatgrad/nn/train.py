"""`fit`: a whole training run. The loop over batches is generated source, as the step inside it is."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import random
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..compiler.calls.arguments import Arguments
from ..compiler.calls.captured import Captured
from ..compiler.kernel import data_listing, number_listing
from ..compiler.languages.loader import LoadedModule, collector_paused
from ..compiler.languages.training import emit_epochs, emit_loop
from ..compiler.machine.native import available
from ..compiler.options import WAYS, Backend, Mode
from ..compiler.program.faults import Faults
from ..compiler.program.progress import preparing
from ..compiler.transforms.jit import jit
from ..runtime import atomic
from ..runtime.conversion import check_masks
from ..runtime.errors import FlatgradError, InputError, OptionError
from ..runtime.files import write_atomically
from ..runtime.tracing import active, forbidden, recorder
from ..runtime.value import Value
from .history import History, Progress
from .native_loop import Chunk, NativeLoop
from .optim import Optimizer
from .step import AnyStepStages, BoundStepStages, StepKernel, StepStages, TrainStep

Array = np.ndarray[Any, np.dtype[Any]]
#: The step is made for all sizes of batches, if these have more rows than those that it would be traced at. A
#: fingerprint of it is taken on so many.
_ROWS, _FEW = 12, 3
#: What `epochs` of the generated loop needs.
_IMPORT = "import random\n"
#: Makes steps; takes whether to end with a loss that is not finite, and how many steps may be made at once.
Loop = Callable[[bool, Callable[[int], int]], Iterator[Chunk]]


class NonFiniteLossError(FlatgradError, ArithmeticError):
    """The loss of a training step is NaN or infinite."""


class _Data:
    """Rows of numbers, taken out of arrays or lists once."""

    def __init__(self, X: Any, y: Any, what: str) -> None:
        self.X, self.y = _array(X, f"{what}X"), _array(y, f"{what}y")
        if len(self.X) != len(self.y):
            raise InputError(f"{what}X has {len(self.X)} rows and {what}y has {len(self.y)}; they must be equally many")
        if not self.X.size or not self.y.size:
            raise InputError(f"{what}{'y' if self.X.size else 'X'} is empty: there is nothing to train on")

    def __len__(self) -> int:
        return len(self.X)

    def rows(self) -> tuple[list[list[float]], list[list[float]]]:
        """X and y as lists of flat rows."""
        count = len(self)
        return self.X.reshape(count, -1).tolist(), self.y.reshape(count, -1).tolist()

    def take(self, order: Sequence[int]) -> _Data:
        """Some of the rows."""
        return _Data(self.X[list(order)], self.y[list(order)], "")

    def digest(self) -> str:
        """A fingerprint of the data, by which a checkpoint knows its run."""
        return hashlib.sha256(self.X.tobytes() + self.y.tobytes() + repr(self.X.shape).encode()).hexdigest()


def _array(items: Any, name: str) -> Array:
    try:
        if np.iscomplexobj(items):
            raise TypeError("they are complex")
        check_masks(items)
        array = np.asarray(items, dtype=float)
    except InputError as error:
        raise InputError(f"{name} must hold numbers: {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: expected rows of numbers of equal length: {error}") from None
    if array.ndim == 0:
        raise InputError(f"{name}: expected a list or an array, got one number")
    return np.ascontiguousarray(array)


def fit(
    loss_fn: Callable[..., Any],
    model: Any,
    optimizer: Optimizer,
    X: Any,
    y: Any,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    progress: bool = True,
    callback: Callable[[Progress], Any] | None = None,
    validation_split: float = 0.0,
    validation_data: tuple[Any, Any] | None = None,
    metrics: Mapping[str, Callable[[Any, Any], float]] | None = None,
    patience: int | None = None,
    monitor: str | None = None,
    min_delta: float = 0.0,
    restore_best: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    on_nonfinite: str = "raise",
    backend: Backend = "auto",
    mode: Mode = "exact",
    faults: Faults = "raise",
    max_ways: int = WAYS,
) -> History:
    """Train a model.

    Args:
        loss_fn: `loss_fn(X_batch, y_batch) -> Value`, closing over the model; batches are arrays of `Value`s with the
            shape of a slice of X and y.
        model: a Module, or a list of the `Value`s to train.
        optimizer: `nn.SGD(...)`, `nn.Adam(...)`, ...
        X, y: the data, arrays or nested lists of numbers with one row per example.
        steps, epochs: how long; one of the two.
        batch_size: rows per step, by default all of them. The last batch of an epoch may be smaller.
        shuffle: whether the rows of batches are shuffled anew in each epoch, by `random.Random(seed)`; otherwise, and
            where a step takes all rows, they keep their order.
        seed: of the shuffling and of the validation split; drawn at random if not given, and kept in the history.
        progress: whether to show a progress bar (on a terminal or in a notebook).
        callback: called after each step with a `Progress`, with the model's `Value`s up to date; to return True ends
            the run. What it writes into the `Value`s has no effect on the run.
        validation_split: the fraction of rows that is set aside for validation; or give `validation_data`, `(X, y)`.
            The validation loss is the mean over batches of `batch_size`, weighted by their rows.
        metrics: functions `(X, y) -> float` (or a `Value`) by name, called after each epoch with the validation data
            (without any, the training data) and the model's `Value`s up to date.
        patience: stop when the validation loss (without validation data, the epoch's loss) has not improved by more
            than `min_delta` for so many epochs; with `restore_best` the best parameters are restored.
        monitor: the name of a metric, of which less is better: what patience watches instead of the loss.
        checkpoint: a file (.npz) to write, atomically, after every `checkpoint_every` steps (by default after epochs,
            at most once a second), and when the run ends, however it ends.
        resume: go on from the checkpoint, if the file exists; the bits are those of a run that was never stopped.
            Data, model, loss and optimiser must be the same; steps, epochs and patience may differ.
        on_nonfinite: "raise" an error when a loss is NaN or infinite, or "continue".
        backend, mode, faults, max_ways: as for `fg.compile`. With faults="ieee" no operation of a step raises; a loss
            may be NaN or infinite, for which there is `on_nonfinite`.

    Returns:
        The history. Ctrl-C ends the run early: the history says so, and the model has the last completed step's
        parameters.

    Raises:
        InputError, OptionError: for data or options that do not fit.
        NonFiniteLossError: naming the step; the model keeps the parameters with which the step began.
        DomainError, DivisionByZeroError, RangeError: as the loss would; parameters as for the last completed step.

    Example:
        >>> import flatgrad as fg
        >>> slope, offset = fg.Value(0.0), fg.Value(0.0)
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
        >>> def loss(X, y):
        ...     return sum((slope * x[0] + offset - t) ** 2 for x, t in zip(X, y)) * (1.0 / len(y))
        >>> history = fg.nn.fit(loss, [slope, offset], fg.nn.Adam(0.1), X, y, steps=500, progress=False)
        >>> round(slope.data, 3), round(offset.data, 3), history.steps
        (2.0, 1.0, 500)
    """
    if active and recorder() is not None:
        raise forbidden("training a model", "Call fit outside of the compiled function.")
    for name, count in (("steps", steps), ("epochs", epochs), ("batch_size", batch_size), ("seed", seed)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, (int, np.integer))):
            raise OptionError(f"{name} must be a whole number, got {count!r}")
    seed = None if seed is None else int(seed)
    if metrics is not None and not isinstance(metrics, Mapping):
        raise OptionError(f"metrics must be a dict of functions by name, got {type(metrics).__name__}")
    if not isinstance(shuffle, bool):
        raise OptionError(f"shuffle is True or False, got {shuffle!r}; seed=... says which order it is")
    if not isinstance(resume, bool):
        raise OptionError(f"resume is True or False, got {resume!r}; the file is given as checkpoint=...")
    if resume and checkpoint is None:
        raise OptionError("resume=True needs checkpoint=..., the file to resume from")
    if checkpoint is not None:
        _check_writable(Path(checkpoint))
    if checkpoint_every is not None and (checkpoint is None or checkpoint_every < 1):
        raise OptionError(f"checkpoint_every must be at least 1, and needs checkpoint=..., got {checkpoint_every}")
    if not math.isfinite(min_delta):
        raise OptionError(f"min_delta must be a number, got {min_delta}")
    resuming = resume and checkpoint is not None and Path(checkpoint).exists()
    if seed is None:
        seed = _read_checkpoint(Path(checkpoint))[0]["seed"] if resuming and checkpoint else random.randrange(2**32)
    data, validation = _split(_Data(X, y, ""), validation_split, validation_data, seed)
    plan = _Plan.of(len(data), steps, epochs, batch_size, shuffle)
    if on_nonfinite not in ("raise", "continue"):
        raise OptionError(f"on_nonfinite: {on_nonfinite!r} is neither 'raise' nor 'continue'")
    if patience is not None and patience < 1:
        raise OptionError(f"patience must be at least 1 epoch, got {patience}")
    if monitor is not None and (patience is None or monitor not in (metrics or {})):
        raise OptionError(f"monitor={monitor!r} needs patience=..., and a metric of this name")
    run = _Run(
        TrainStep(
            loss_fn, optimizer, model, backend=backend, mode=mode, faults=faults, dynamic=True, max_ways=max_ways
        ),
        data,
        validation,
        plan,
        seed,
    )
    run.metrics, run.patience, run.monitor, run.min_delta = dict(metrics or {}), patience, monitor, min_delta
    run.checkpoint = Path(checkpoint) if checkpoint is not None else None
    run.checkpoint_every = checkpoint_every
    with nullcontext() if progress else preparing("", hidden=True):
        return run.go(progress, callback, on_nonfinite == "raise", restore_best, bool(resuming))


def _split(data: _Data, fraction: float, pair: tuple[Any, Any] | None, seed: int) -> tuple[_Data, _Data | None]:
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)):
        raise OptionError(f"validation_split must be a fraction, got {fraction!r}")
    if pair is not None:
        if fraction:
            raise OptionError("give either validation_split or validation_data, not both")
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise OptionError("validation_data must be a pair, (X, y)")
        return data, _Data(pair[0], pair[1], "validation ")
    if not fraction:
        return data, None
    count = round(fraction * len(data))
    if not 0.0 < fraction < 1.0 or not 0 < count < len(data):
        raise OptionError(f"validation_split={fraction} leaves no rows on one side of {len(data)}")
    order = list(range(len(data)))
    random.Random(f"validation {seed}").shuffle(order)
    return data.take(sorted(order[count:])), data.take(sorted(order[:count]))


@dataclass
class _Plan:
    """How many rows, how they are cut into batches, and how many steps are made."""

    rows: int
    batch: int
    steps: int
    batched: bool
    shuffled: bool

    @classmethod
    def of(cls, rows: int, steps: int | None, epochs: int | None, batch_size: int | None, shuffle: bool) -> _Plan:
        if (steps is None) == (epochs is None):
            raise OptionError("fit: give either steps or epochs")
        if batch_size is not None and batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, got {batch_size}")
        batch = min(batch_size or rows, rows)
        count = steps if steps is not None else (epochs or 0) * -(-rows // batch)
        if count < 0:
            raise OptionError("steps and epochs must not be negative")
        return cls(rows, batch, count, batch_size is not None, batch_size is not None and shuffle)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows // self.batch)

    @property
    def sizes(self) -> list[int]:
        """The sizes of batches that occur."""
        return [self.batch] + ([self.rows % self.batch] if self.rows % self.batch else [])


class _Run:
    """One run of `fit`."""

    def __init__(self, step: TrainStep, data: _Data, validation: _Data | None, plan: _Plan, seed: int) -> None:
        self.step, self.data, self.validation, self.plan = step, data, validation, plan
        self.metrics: dict[str, Callable[[Any, Any], float]] = {}
        self.patience: int | None = None
        self.monitor: str | None = None
        self.min_delta = 0.0
        self.checkpoint: Path | None = None
        self.checkpoint_every: int | None = None
        self.saved_at = -1
        self.leaves: list[float] = []
        self._leaves_of: dict[StepKernel, list[float]] = {}
        self._leaves_of_way: list[float] = []  # of the way that the fingerprint is of
        self._sizes_of: dict[int, Any] = {}
        self.source_digest = ""
        self._captured: list[Captured] = []
        self.history = History(steps_per_epoch=plan.steps_per_epoch, seed=seed)
        self.best: tuple[float, int, list[float]] | None = None
        self._initial = list(step.numbers)
        self.formulas = step.optimizer.formulas()
        self._validate = jit(step.function, backend=step.backend, mode=step.mode, faults=step.faults, dynamic=True)

    # --- the generated loop ---------------------------------------------------------------------------------------

    def generate(self) -> Loop:
        """Trace and print the steps, one per size of batch, and the loop around them; return the loop."""
        first, *others = self.plan.sizes
        opened = self._opened()
        stages: dict[int, AnyStepStages] = {first: opened.get(first) or self._build(first)}
        for size in others:  # all steps are on one back end
            stages[size] = opened.get(size) or self._build(size, stages[first].backend)
        self.leaves, self._leaves_of = stages[first].leaf_numbers(), {}
        kernels = {size: StepKernel(each, self.step._printed) for size, each in stages.items()}
        self._captured = [each.captured for each in stages.values()]
        # The seed and the loop are compared for themselves.
        self.source_digest = self._digest() if self.checkpoint is not None else ""
        by_name = {f"step_{size}": each for size, each in stages.items()}
        if stages[first].backend == "native":
            # What can be read, and saved, beside machine code is the same loop in flat Python.
            self._show(by_name, lambda: self._printed_as(by_name, "python"), {})
            return self._native_loop(kernels)
        sections, data = self.step._printed(by_name, formulas=self.formulas)
        sections = self._with_loop(sections, stages[first].backend != "python")
        module = LoadedModule(sections, f"{self.step.name}_training", data)
        self._show(by_name, lambda: module.source, data)
        names = module.names
        for size, kernel in kernels.items():
            vars(kernel)["routine"] = stages[size].routine(module, f"step_{size}")
        names["STEPS"] = {size: self._step_of(size, kernel) for size, kernel in kernels.items()}
        names["LEAVES"] = self.leaves
        names["numbers"] = self.step.optimizer.step_numbers  # what the text of that name is traced from
        return self._generated_loop(names["train"])

    def _opened(self) -> dict[int, BoundStepStages]:
        """Steps of one kernel for all sizes, by their sizes, where that is ready sooner, and machine code runs."""
        if sum(self.plan.sizes) <= _ROWS or self.step.backend not in ("auto", "native") or not available():
            return {}
        opened = {}
        with collector_paused(), preparing(self.step.name):
            for size in self.plan.sizes:
                kernel, _ = self.step._sized(self._arguments(size))
                if kernel is not None and isinstance(kernel.stages, BoundStepStages):
                    opened[size] = kernel.stages
        return opened if all(each.backend == "native" for each in opened.values()) else {}

    def _digest(self) -> str:
        """A fingerprint of what steps compute, whatever runs them: on a few rows, and on as many as the last batch."""
        few = min(_FEW, len(self.data))
        for kernel in self.step.open_kernels:
            if kernel.stages.at.sizes[0] == (few,):
                return hashlib.sha256(kernel.stages.digest()).hexdigest()
        arguments, step = self._arguments(few), self.step
        others = (1 + len(step.state)) * len(step.numbers) + len(step.optimizer.number_names)
        try:  # with numbers that are the same for all runs: branches depend on them
            stages = step._build(arguments, "python", at_hand=[*arguments.all_numbers, *[0.5] * others])
        except Exception:  # what the loss raises for these numbers is none of the run
            return ""
        if stages.way.truths:
            self._leaves_of_way = stages.leaf_numbers()
        return hashlib.sha256(stages.digest()).hexdigest()

    def _show(self, by_name: Mapping[str, AnyStepStages], printed: Callable[[], str], data: dict[str, Any]) -> None:
        """Let the history say how the loop reads, and what is saved of it."""
        self.history._printed = printed
        self.history._saved = lambda rolled: (
            self._standalone(self._printed_as(by_name, "rolled"), {}) if rolled else self._standalone(printed(), data)
        )

    def _printed_as(self, by_name: Mapping[str, AnyStepStages], language: str) -> str:
        """The training loop in another language than what runs."""
        return "".join(self._with_loop(self.step._printed(by_name, language, self.formulas).sections, False))

    def _with_loop(self, sections: Sequence[str], arrays: bool) -> list[str]:
        """The sections of the steps, with what the loop needs, and the loop."""
        plan, result = self.plan, list(sections)
        if plan.batched:
            result[1:1] = [_IMPORT] * plan.shuffled
            result.append(emit_epochs(plan.rows, plan.shuffled))
        loop = emit_loop(
            plan.rows, plan.sizes, self.history.seed, batched=plan.batched, states=len(self.step.state),
            has_leaves=bool(self.leaves), arrays=arrays,
        )  # fmt: skip
        return [*result, loop]

    def _generated_loop(self, train: Callable[..., Iterator[tuple[int, float, Any, list[Any]]]]) -> Loop:
        """The generated generator, which yields after each step."""
        X, y = self.data.rows()

        def loop(strict: bool, limit: Callable[[int], int]) -> Iterator[Chunk]:
            step = self.step
            for k, loss, parameters, state in train(
                X, y, step.numbers, step.state, steps=self.plan.steps, seed=self.history.seed, first=step.steps
            ):
                yield k, [loss], parameters, state

        return loop

    def _step_of(self, size: int, kernel: StepKernel) -> Callable[..., Any]:
        """What the generated loop calls: the step, by the kernel of its way."""
        if not kernel.way.truths and not kernel.way.selects:
            return kernel.routine.run
        last, count = [kernel], 3 + len(self.step.state) + len(self.step.optimizer.number_names)

        def run(*inputs: Any) -> Any:
            made, results = self.step._made_step(
                last[0], self._arguments(size), list(inputs[:count]), self._frozen_leaves
            )
            if made is not kernel:
                self.history._saved = self._refuse_ways
            last[0] = made
            return results

        return run

    def _frozen_leaves(self, kernel: StepKernel) -> list[float]:
        """The numbers that a kernel reads and that are not trained, as they were when this run first asked."""
        return self._leaves_of.setdefault(kernel, kernel.stages.leaf_numbers())

    def _other_step(self, kernel: StepKernel, turn: tuple[int, bool | int] | None, numbers: list[float]) -> Any:
        """What makes a step that goes another way; see `TrainStep._other_step`."""
        if turn is not None:
            self.history._saved = self._refuse_ways
        (size,) = (size for size, each in self._sizes_of.items() if each is kernel.ways)
        return self.step._other_step(kernel, self._arguments(size), turn, numbers)

    def _native_loop(self, kernels: Mapping[int, StepKernel]) -> Loop:
        """Machine code, which comes back after each chunk of steps."""
        step, plan, epochs = self.step, self.plan, None
        if plan.batched:
            module = LoadedModule([_IMPORT, emit_epochs(plan.rows, plan.shuffled)], f"{step.name}_epochs")
            epochs = partial(module.names["epochs"], self.history.seed)
        # Copies, as the other back ends make them: callbacks may change the originals.
        tables = [np.array(part.reshape(plan.rows, -1)) for part in (self.data.X, self.data.y)]
        self._sizes_of = {size: kernel.ways for size, kernel in kernels.items()}
        run = NativeLoop(kernels, tables, epochs, step.optimizer, self._frozen_leaves, self._other_step)
        return lambda strict, limit: run(
            step.numbers, step.state, first=step.steps, steps=plan.steps, strict=strict, limit=limit
        )

    def _arguments(self, size: int) -> Arguments:
        return self.step._take_apart((self.data.X[:size], self.data.y[:size]), {})

    def _build(self, size: int, backend: str = "") -> StepStages:
        stages = self.step._build(self._arguments(size), backend)
        _ = stages.backend  # chosen now: what has been traced is made
        return stages

    def _standalone(self, source: str, data: dict[str, Any]) -> str:
        if isinstance(self.formulas, str):
            raise OptionError(
                f"{self.formulas}, so the loop cannot be saved; use nn.constant, nn.linear_decay, nn.cosine_decay, "
                "nn.step_decay or nn.warmup, and in step_numbers arithmetic on step and self.lr(step)"
            )
        source += "".join(data_listing(name, item) for name, item in data.items())
        source += number_listing("PARAMETERS", self._initial)
        return source + (number_listing("LEAVES", self.leaves) if self.leaves else "")

    # --- running it -----------------------------------------------------------------------------------------------

    def go(
        self,
        progress: bool,
        callback: Callable[[Progress], Any] | None,
        strict: bool,
        restore_best: bool,
        resuming: bool,
    ) -> History:
        """Run the loop to its end, to Ctrl-C, or to where patience or a callback ends it."""
        history, step = self.history, self.step
        try:
            loop = self.generate()
            if self.validation is not None:  # compiled now, so that it does not count as running
                self._validation_loss(self.validation)
        except KeyboardInterrupt:
            history.interrupted = True
            return history
        if resuming:
            self.load()
        bar = self._bar(progress)
        start = time.perf_counter() - history.seconds
        try:
            self._run(loop, bar, callback, strict)
        except KeyboardInterrupt:
            history.interrupted = True
        finally:
            try:
                self._end(bar, start)
            except KeyboardInterrupt:  # all of it can be done twice
                history.interrupted = True
                self._end(bar, start)
        if self.best is not None and restore_best and not history.interrupted:
            _, epoch, numbers = self.best
            best = step._taking(numbers, step.state, step.steps), step._syncing(numbers)
            atomic.step(*best, partial(setattr, history, "best_epoch", epoch))()
        return history

    def _end(self, bar: Any, start: float) -> None:
        """After the last step: bring everything up to date, and write the last checkpoint."""
        history, step = self.history, self.step
        history.seconds = time.perf_counter() - start
        step.sync()
        self._note_epochs()
        if bar is not None:
            bar.update(step.steps - bar.n)
            bar.close()
        if self.checkpoint is not None and self.saved_at != step.steps == len(history.loss):
            self.save()

    def _run(self, loop: Loop, bar: Any, callback: Callable[[Progress], Any] | None, strict: bool) -> None:
        history, step = self.history, self.step
        per_epoch = self.plan.steps_per_epoch
        finite = math.isfinite
        last_shown = last_saved = time.perf_counter()
        each_epoch = self.validation is not None or bool(self.metrics) or self.patience is not None
        if each_epoch:
            for epoch in range(history.epochs, step.steps // per_epoch):  # an interrupt came before its end was noted
                self._end_of_epoch((epoch + 1) * per_epoch)
        if self._out_of_patience():  # resumed after patience had ended the run
            history.stopped_early = True
            return

        def limit(k: int) -> int:
            """How many steps can be made before something else has to be done."""
            limits = [self.plan.steps - k]
            if callback is not None:
                limits.append(1)
            if each_epoch:
                limits.append(per_epoch - k % per_epoch)
            if self.checkpoint_every:
                limits.append(self.checkpoint_every - k % self.checkpoint_every)
            return min(limits)

        for first, losses, parameters, state in self._chunks(loop, strict, limit):
            k = first + len(losses) - 1
            if strict and not finite(losses[-1]):
                raise NonFiniteLossError(
                    f"the loss of step {k} is {losses[-1]}; the parameters are those with which the step began. Try a "
                    "smaller learning rate or clip_norm; on_nonfinite='continue' goes on regardless"
                )
            atomic.step(step._taking(parameters, state, k + 1), partial(history.loss.extend, losses))()
            ended = False
            end_of_epoch = (k + 1) // per_epoch > first // per_epoch
            if each_epoch:
                for epoch in range(first // per_epoch, (k + 1) // per_epoch):
                    ended = self._end_of_epoch((epoch + 1) * per_epoch)
            else:
                self._note_epochs()
            if callback is not None:
                step.sync()
                ended = bool(callback(Progress(k, k // per_epoch, losses[-1], history))) or ended
            if self.checkpoint is not None:
                now = time.perf_counter()
                every = self.checkpoint_every
                if (k + 1) % every == 0 if every else end_of_epoch and now - last_saved > 1.0:
                    self.save()
                    last_saved = now
            if bar is not None and (now := time.perf_counter()) - last_shown > 0.1:
                last_shown = now
                bar.update(k + 1 - bar.n)
                bar.set_postfix(loss=f"{losses[-1]:.4g}", refresh=False)
            if ended:
                break

    def _chunks(self, loop: Loop, strict: bool, limit: Callable[[int], int]) -> Iterator[Chunk]:
        """The chunks of a loop. Where something that the loss captured has changed, a new loop goes on from there."""
        going = True
        while going:
            going = False
            for chunk in loop(strict, limit):
                yield chunk
                if self.step.steps < self.plan.steps and not all(c.unchanged() or c.same() for c in self._captured):
                    going = True
                    break
            if going:
                loop = self.generate()
                self.history._saved = self._refuse_to_save

    def _refuse_ways(self, rolled: bool) -> str:
        raise OptionError("the steps of the run have gone several ways, so that no single loop can repeat it")

    def _refuse_to_save(self, rolled: bool) -> str:
        raise OptionError(
            "something that the loss captures was changed during the run, so that no single loop can repeat it"
        )

    def _bar(self, progress: bool) -> Any:
        if not progress:
            return None
        from tqdm.auto import tqdm

        bar = tqdm(total=self.plan.steps, initial=self.step.steps, desc="training", unit="step", disable=None)
        return None if bar.disable else bar

    def _note_epochs(self) -> None:
        """Note the epochs that are complete, where nothing but their loss belongs to them."""
        history, per_epoch = self.history, self.plan.steps_per_epoch
        if self.validation is None and not self.metrics and self.patience is None:
            if per_epoch == 1:
                history.epoch_loss += [0 + loss for loss in history.loss[history.epochs :]]
                return
            for epoch in range(history.epochs, len(history.loss) // per_epoch):
                history.epoch_loss.append(self._mean_loss((epoch + 1) * per_epoch))

    def _mean_loss(self, end: int) -> float:
        """The mean of the losses of the epoch that ends behind so many steps."""
        per_epoch = self.plan.steps_per_epoch
        return sum(self.history.loss[end - per_epoch : end]) / per_epoch

    def _end_of_epoch(self, end: int) -> bool:
        """After step number `end`: validate; return whether patience has run out.

        Everything is computed before anything is noted, and all of it is noted in one step.
        """
        history, step = self.history, self.step
        mean = self._mean_loss(end)
        loss = None
        values = {}
        if self.validation is not None or self.metrics:
            step.sync()
            loss = self._validation_loss(self.validation) if self.validation is not None else None
            data = self.validation or self.data
            for name, metric in self.metrics.items():
                try:
                    value: Any = metric(data.X, data.y)
                    values[name] = value.data if isinstance(value, Value) else float(value)
                except (TypeError, ValueError) as error:
                    raise InputError(f"the metric {name!r} must return a number: {error}") from error
        notes = [partial(history.epoch_loss.append, mean)]
        if loss is not None:
            notes.append(partial(history.validation_loss.append, loss))
        for name, value in values.items():
            notes.append(partial(history.metrics.setdefault(name, []).append, value))
        if self.patience is not None:
            score = values[self.monitor] if self.monitor is not None else mean if loss is None else loss
            if self.best is None or math.isnan(self.best[0]) or score < self.best[0] - self.min_delta:
                notes.append(partial(setattr, self, "best", (score, history.epochs, list(step.numbers))))
        atomic.step(*notes)()
        history.stopped_early = self._out_of_patience()
        return history.stopped_early

    def _out_of_patience(self) -> bool:
        if self.patience is None or self.best is None:
            return False
        return self.history.epochs - 1 - self.best[1] >= self.patience

    def _validation_loss(self, data: _Data) -> float:
        """The loss of the validation data: the mean over batches, weighted by their rows.

        Like the training loss it is computed a batch at a time, so that the compiled program stays small.
        """
        size, total = self.plan.batch, 0.0
        for start in range(0, len(data), size):
            X, y = data.X[start : start + size], data.y[start : start + size]
            total += float(self._validate(X, y)) * len(X)
        return total / len(data)

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def _fingerprint(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to belong to this run."""
        optimizer = self.step.optimizer
        settings = {key: repr(value) for key, value in sorted(vars(optimizer).items()) if key != "_lr"}
        rates = optimizer.lr.text or repr([optimizer.lr(k) for k in range(100)])
        return {
            "data": self.data.digest(),
            "validation": self.validation.digest() if self.validation is not None else "",
            "batch_size": self.plan.batch,
            "shuffled": self.plan.shuffled,
            "parameters": len(self.step.numbers),
            "optimizer": type(optimizer).__name__,
            "settings": settings,
            "learning_rate": rates,
            "numbers of a step": optimizer.sampled(),
            "loss or model": self.source_digest,
            "frozen leaves": [leaf.hex() for leaf in self._leaves_of_way or self.leaves],
        }

    def save(self) -> None:
        """Write the checkpoint: a crash at any moment leaves either the old one or the new one."""
        assert self.checkpoint is not None
        history, step = self.history, self.step
        about = {
            "format": 1,
            "fingerprint": self._fingerprint(),
            "step": step.steps,
            "seed": history.seed,
            "metrics": sorted(history.metrics),
            "best_epoch": self.best[1] if self.best else None,
            "seconds": history.seconds,
        }
        arrays: dict[str, Any] = {
            "about": np.array(json.dumps(about)),
            "parameters": np.array(step.numbers),
            "initial": np.array(self._initial),
            "state": np.array(step.state).reshape(len(step.state), len(step.numbers)),
            "loss": np.array(history.loss),
            "epoch_loss": np.array(history.epoch_loss),
            "validation_loss": np.array(history.validation_loss),
            "best": np.array([self.best[0], *self.best[2]] if self.best else []),
        }
        for k, name in enumerate(sorted(history.metrics)):
            arrays[f"metric{k}"] = np.array(history.metrics[name])
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        write_atomically(self.checkpoint, stream.getvalue())
        self.saved_at = step.steps

    def load(self) -> None:
        """Go on from the checkpoint."""
        assert self.checkpoint is not None
        about, parts = _read_checkpoint(self.checkpoint)
        fingerprint = self._fingerprint()
        for key, value in fingerprint.items():
            if about.get("fingerprint", {}).get(key) != value:
                raise OptionError(
                    f"{self.checkpoint} belongs to another run: its {key.replace('_', ' ')} differs. "
                    "Resume with the same data and options, or remove the file"
                )
        history, step = self.history, self.step
        if history.seed != about["seed"]:
            raise OptionError(f"{self.checkpoint} belongs to a run with seed={about['seed']}; give that seed to resume")
        width = len(step.numbers)
        metrics = {name: parts[f"metric{k}"].tolist() for k, name in enumerate(about["metrics"])}
        best = parts["best"].tolist()
        sizes = (parts["parameters"].shape, parts["initial"].shape, parts["state"].shape, parts["loss"].shape)
        if sizes != ((width,), (width,), (len(step.state), width), (about["step"],)) or len(best) not in (0, width + 1):
            raise InputError(f"{self.checkpoint} is damaged: its parts do not fit together")
        numbers, steps = parts["parameters"].tolist(), int(about["step"])
        parts_of_history = {
            "loss": parts["loss"].tolist(),
            "epoch_loss": parts["epoch_loss"].tolist(),
            "validation_loss": parts["validation_loss"].tolist(),
            "metrics": metrics,
            "seconds": float(about["seconds"]),
        }
        atomic.step(
            step._taking(numbers, parts["state"].tolist(), steps),
            step._syncing(numbers),
            *(partial(setattr, history, name, item) for name, item in parts_of_history.items()),
            partial(setattr, self, "_initial", parts["initial"].tolist()),
            partial(setattr, self, "best", (best[0], int(about["best_epoch"]), best[1:]) if best else self.best),
            partial(setattr, self, "saved_at", steps),
        )()


_PARTS = ("parameters", "initial", "state", "loss", "epoch_loss", "validation_loss", "best")


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """What a checkpoint says about its run, and its arrays.

    Raises:
        InputError: if it is damaged, or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            parts = {name: arrays[name] for name in arrays.files if name != "about"}
        fits = about["format"] == 1 and all(parts[name].dtype == float for name in _PARTS)
        fits = fits and isinstance(about["seed"], int) and isinstance(about["step"], int)
        fits = fits and all(f"metric{k}" in parts for k in range(len(about["metrics"])))
        fits = fits and {"fingerprint", "best_epoch", "seconds"} <= set(about)
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, TypeError, LookupError, AttributeError, EOFError,
            RuntimeError, SyntaxError, OverflowError, MemoryError, OSError) as error:  # fmt: skip
        raise InputError(f"{path} is not a checkpoint that can be read: it is damaged, or something else") from error
    if not fits:
        raise InputError(f"{path} is not a checkpoint that can be read: it is damaged, or something else")
    return about, parts


def _check_writable(path: Path) -> None:
    """Before anything is computed: whether a checkpoint can be written there."""
    if path.is_dir():
        raise OptionError(f"checkpoint: {path} is a folder; give a file such as {path / 'run.npz'}")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"checkpoint: there is no folder {path.absolute().parent}")
