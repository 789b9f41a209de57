"""One run of `fit`: epochs, validation, patience, checkpoints and interrupts around the loop."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..compiler.transforms.jit import jit
from ..runtime import atomic
from ..runtime.errors import FlatgradError, InputError, OptionError
from ..runtime.value import Value
from .batches import Plan, Rows
from .checkpoint import read_checkpoint, write_checkpoint
from .history import History, Progress
from .loop import Loop, TrainingLoop
from .native_loop import Chunk
from .step import TrainStep


class NonFiniteLossError(FlatgradError, ArithmeticError):
    """The loss of a training step is NaN or infinite."""


def progress_bar(name: str, steps: int, made: int = 0) -> Any:
    """A bar that counts steps, on a terminal or in a notebook; elsewhere None."""
    if "IPython" in sys.modules:  # in a notebook the bar is a widget
        from tqdm.auto import tqdm
    else:
        from tqdm import tqdm
    bar = tqdm(total=steps, initial=made, desc=name, unit="step", disable=None)
    return None if bar.disable else bar


class Run:
    """One run of `fit`."""

    def __init__(
        self, step: TrainStep, data: Rows, validation: Rows | None, plan: Plan, seed: int, checkpoint: Path | None
    ) -> None:  # fmt: skip
        self.step = step
        self.data = data
        self.validation = validation
        self.plan = plan
        self.metrics: dict[str, Callable[[Any, Any], float]] = {}
        self.patience: int | None = None
        self.monitor: str | None = None
        self.min_delta: float = 0.0
        self.checkpoint = checkpoint
        self.checkpoint_every: int | None = None
        self.saved_at: int = -1
        self.history: History = History(steps_per_epoch=plan.steps_per_epoch, seed=seed)
        self.best: tuple[float, int, list[float]] | None = None
        self.loop: TrainingLoop = TrainingLoop(step, data, plan, self.history, checkpoint is not None)
        self._validate = jit(step.function, backend=step.backend, mode=step.mode, faults=step.faults, dynamic=True)

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
            loop = self.loop.generate()
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

        begun = time.process_time()
        for first, losses, parameters, state in self._chunks(loop, strict, limit):
            history._step_seconds += time.process_time() - begun
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
            begun = time.process_time()

    def _chunks(self, loop: Loop, strict: bool, limit: Callable[[int], int]) -> Iterator[Chunk]:
        """The chunks of a loop. Where something that the loss captured has changed, a new loop goes on from there."""
        going = True
        while going:
            going = False
            for chunk in loop(strict, limit):
                yield chunk
                if self.step.steps < self.plan.steps and not self.loop.unchanged():
                    going = True
                    break
            if going:
                loop = self.loop.generate()
                self.history._saved = self._refuse_to_save

    def _refuse_to_save(self, rolled: bool, about: str) -> str:
        raise OptionError(
            "something that the loss captures was changed during the run, so that no single loop can repeat it"
        )

    def _bar(self, progress: bool) -> Any:
        return progress_bar("training", self.plan.steps, self.step.steps) if progress else None

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

    def _validation_loss(self, data: Rows) -> float:
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
            "loss or model": self.loop.source_digest,
            "frozen leaves": [leaf.hex() for leaf in self.loop.fingerprinted_leaves()],
        }

    def save(self) -> None:
        """Write the checkpoint."""
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
            "parameters": np.array(step.numbers),
            "initial": np.array(self.loop.initial),
            "state": np.array(step.state).reshape(len(step.state), len(step.numbers)),
            "loss": np.array(history.loss),
            "epoch_loss": np.array(history.epoch_loss),
            "validation_loss": np.array(history.validation_loss),
            "best": np.array([self.best[0], *self.best[2]] if self.best else []),
        }
        for k, name in enumerate(sorted(history.metrics)):
            arrays[f"metric{k}"] = np.array(history.metrics[name])
        write_checkpoint(self.checkpoint, about, arrays)
        self.saved_at = step.steps

    def load(self) -> None:
        """Go on from the checkpoint."""
        assert self.checkpoint is not None
        about, parts = read_checkpoint(self.checkpoint)
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
            partial(setattr, self.loop, "initial", parts["initial"].tolist()),
            partial(setattr, self, "best", (best[0], int(about["best_epoch"]), best[1:]) if best else self.best),
            partial(setattr, self, "saved_at", steps),
        )()
