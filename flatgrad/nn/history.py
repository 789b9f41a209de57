"""`History`: what happened in a training run; how it prints, and what a notebook shows of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..display.chart import Curve, Mark, Panel, chart, picture
from ..display.markup import card, pairs
from ..runtime.errors import OptionError
from ..runtime.files import write_atomically
from ..runtime.wording import count_of


@dataclass(repr=False)
class History:
    """What happened in a training run.

    It prints as one line. A notebook shows a table, and the losses as a picture.

    Attributes:
        loss: the loss of each step, before its update.
        epoch_loss: the mean of the losses of each completed epoch.
        validation_loss: the validation loss after each completed epoch, if there are validation data.
        metrics: for each metric its value after each completed epoch.
        steps_per_epoch: how many steps an epoch has.
        seconds: how long the steps took, without tracing and compiling.
        seed: the seed of the shuffling.
        interrupted: whether Ctrl-C ended the run.
        stopped_early: whether patience ended the run.
        best_epoch: with early stopping, the epoch (from 0) whose parameters the model now has.

    Example:
        >>> History(loss=[4.0, 2.0, 1.0, 0.5], epoch_loss=[3.0, 0.75], steps_per_epoch=2)
        <History: 4 steps in 2 epochs, loss 3 -> 0.75>
    """

    loss: list[float] = field(default_factory=list)
    epoch_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    steps_per_epoch: int = 1
    seconds: float = 0.0
    seed: int | None = None
    interrupted: bool = False
    stopped_early: bool = False
    best_epoch: int | None = None
    _step_seconds: float = 0.0  # of processor time, for the steps alone
    _printed: Callable[[], str] | None = None
    _saved: Callable[[bool, str], str] | None = None

    @property
    def source(self) -> str:
        """The generated training loop. If machine code ran: the same loop in flat Python."""
        return self._printed() if self._printed is not None else ""

    @property
    def steps(self) -> int:
        """The number of completed steps."""
        return len(self.loss)

    @property
    def epochs(self) -> int:
        """The number of completed epochs."""
        return len(self.epoch_loss)

    def save_source(self, path: str | os.PathLike[str], *, rolled: bool = False, about: str = "") -> Path:
        """Write the training loop as a standalone module that imports nothing but `math` and `random`, or NumPy.

        The module has the parameters with which the run began as `PARAMETERS`; `train(X, y, steps=..., seed=...)`
        yields the same losses and parameters, bit for bit, as the run did. With `rolled`, the steps have the loops that
        re-rolling found: slower, but short and good to read. `about` ends the docstring of the module.

        Raises:
            OptionError: if the learning rate is a function whose text is not known (use the schedules of `nn`).
        """
        if self._saved is None:
            raise OptionError("this history has no generated loop")
        return write_atomically(path, self._saved(rolled, about).encode())

    def plot(self, *, ax: Any = None) -> Any:
        """A picture of the losses and metrics with Matplotlib (an extra); returns the axes."""
        from .plots import plot_history

        return plot_history(self, ax=ax)

    def svg(self, title: str = "") -> str:
        """A picture of the losses, and below them each metric with an axis of its own, as an SVG file.

        It needs no package. The epoch whose parameters were kept is marked.

        Args:
            title: stands above the picture.

        Example:
            >>> History(loss=[3.0, 2.0, 1.5]).svg("a run")[:4]
            '<svg'
        """
        panels = self._panels()
        places = [curve.places for panel in panels for curve in panel.curves if curve.places]
        # One scale of epochs for all.
        span = (min(each[0] for each in places), max(each[-1] for each in places)) if places else None
        return picture([panel._replace(span=span) for panel in panels], title)

    # --- how it is shown ------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<History: {', '.join([self._length(), *self._changes(), *self._ends()])}>"

    def _repr_html_(self) -> str:
        """How notebooks show it."""
        rows: list[tuple[str, str]] = []
        for name, series in (("loss", self.epoch_loss if self.epochs else self.loss), *self._others()):
            if series:
                rows.append((name, f"{series[0]:.6g} → {series[-1]:.6g}"))
                rows += [(f"best {name}", f"{min(series):.6g}")] if name == "validation loss" else []
        rows += [("best epoch", str(self.best_epoch))] if self.best_epoch is not None else []
        rows += [("seed", str(self.seed))] if self.seed is not None else []
        rows += [("time", self._time())] if self.seconds else []
        title = " and ".join(["Training run", *self._ends()]).replace(" and ", ", ", 1)
        return card(title, *self._pictures(), pairs(rows) if rows else "", note=self._length())

    def _length(self) -> str:
        if not self.steps:
            return "no steps"
        steps = count_of(self.steps, "step")
        return f"{steps} in {count_of(self.epochs, 'epoch')}" if 0 < self.epochs < self.steps else steps

    def _others(self) -> list[tuple[str, list[float]]]:
        """The numbers that there are of each epoch, beside the loss."""
        return [("validation loss", self.validation_loss), *self.metrics.items()]

    def _changes(self) -> list[str]:
        """The first and the last number of each series."""
        series = [("loss", self.epoch_loss if self.epochs > 1 else self.loss), *self._others()]
        return [f"{name} {each[0]:.4g} -> {each[-1]:.4g}" for name, each in series if each]

    def _ends(self) -> list[str]:
        return ["interrupted"] * self.interrupted + ["stopped early"] * self.stopped_early

    def _time(self) -> str:
        each = self.seconds / self.steps if self.steps else 0.0
        return f"{self.seconds:.3g} s" + (f", {_duration(each)} per step" if each else "")

    def _pictures(self) -> list[str]:
        """The losses; and metrics, whose unit is another one."""
        return [chart(panel.curves, panel.title, panel.horizontal, panel.mark) for panel in self._panels()]

    def _panels(self) -> list[Panel]:
        """What the pictures show, one after the other."""
        has_epochs = 0 < self.epochs < self.steps
        per_epoch = self.steps_per_epoch if has_epochs else 1
        curves = [Curve("loss of a batch" if has_epochs else "loss", _places(self.loss, per_epoch), self.loss,
                        "blue", has_epochs)]  # fmt: skip
        if has_epochs:
            curves.append(Curve("loss", _places(self.epoch_loss), self.epoch_loss))
        if self.validation_loss:
            curves.append(Curve("validation loss", _places(self.validation_loss), self.validation_loss, "red"))
        horizontal = "epoch" if has_epochs else "step"
        mark = Mark("kept epoch", self.best_epoch + 1) if self.best_epoch is not None else None
        panels = [Panel(curves, f"Losses by {horizontal}", horizontal, mark=mark)]
        for k, (name, series) in enumerate(self.metrics.items()):
            curve = Curve(name, _places(series), series, ("green", "violet")[k % 2])
            panels.append(Panel([curve], f"{name} by epoch", "epoch", mark=mark))
        return panels


@dataclass
class Progress:
    """What a callback of `fit` is told: the step that was just made, and the history so far."""

    step: int
    epoch: int
    loss: float
    history: History


def _places(series: Sequence[float], per_epoch: int = 1) -> list[float]:
    """Where the numbers of a series are on the axis, which counts from 1."""
    return [(k + 1) / per_epoch for k in range(len(series))]


def _duration(seconds: float) -> str:
    """A short time with its unit.

    >>> _duration(1.5e-5), _duration(0.02), _duration(3.0)
    ('15 µs', '20 ms', '3 s')
    """
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
