"""Cross-validation: how long to train, with how much weight decay, and how good that is, by many runs on parts.

The rows are cut into folds. Each fold in turn is left out, a model is trained on the others, and measured on it; "10
times 10-fold" cross-validation does so for ten partitions (Kohavi, 1995; Bouckaert and Frank, 2004). All runs are made
by one compiled step and go on side by side, epoch by epoch, so that the mean over all of them says when to stop.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..nn.optim import Optimizer
from ..nn.reruns import Reruns
from ..nn.step import TrainStep
from .model import TabularModel
from .preprocessing import Array, CategoryColumn, ClassTarget
from .report import Part, constant_measures, linear_measures, measures_of

#: Numbers with the standard deviation 1 over all rows are the same in some of them if theirs is less than this; that of
#: equal floats need not be exactly 0.
_SAME = 1e-12


@dataclass
class CrossValidation:
    """What the folds have shown.

    Attributes:
        repeats: how many partitions into folds there were.
        epochs: after how many epochs the mean loss of the rows left out was least.
        decay: with which weight decay; None where the optimiser has none to choose.
        stopped_early: whether patience ended the runs.
        interrupted: whether Ctrl-C did.
        curves: for each measure its mean over the folds, epoch by epoch, with that weight decay.
        model, baseline, linear: for each measure its number for each fold: of the model after these epochs, of a
            constant prediction, and of a linear model (empty where it has too many inputs). R² has a number for each
            partition instead: it is that of all rows together, as a fold of few rows says nothing of their variance.
        step_seconds: the processor time that the steps took.
        steps: how many were made in all.
    """

    repeats: int
    epochs: int = 0
    decay: float | None = None
    stopped_early: bool = False
    interrupted: bool = False
    curves: dict[str, list[float]] = field(default_factory=dict)
    model: dict[str, list[float]] = field(default_factory=dict)
    baseline: dict[str, list[float]] = field(default_factory=dict)
    linear: dict[str, list[float]] = field(default_factory=dict)
    step_seconds: float = 0.0
    steps: int = 0

    @property
    def folds(self) -> dict[str, dict[str, list[float]]]:
        """The measures of each fold, as a report takes them."""
        return {"validation": self.model, "baseline": self.baseline, "linear": self.linear}


class _Fold:
    """The rows of all folds but one to train on, and those of that one to measure on."""

    def __init__(
        self, number: int, training: Part, validation: Part, scale: float, start: list[float], most: int
    ) -> None:  # fmt: skip
        self.training = training
        self.validation = validation
        self.scale = scale
        self.start = start
        inputs, targets = validation.arrays
        # Filled up to the rows of the largest fold, so that one kernel serves all folds.
        self.filled = np.resize(inputs, (most, inputs.shape[1])), np.resize(targets, most)
        self._source = np.random.RandomState(number)  # whose numbers are the same in all versions of NumPy
        self._waiting: Array = np.empty(0, dtype=np.int64)

    def next_rows(self, count: int) -> Array:
        """The next rows to train on: pass after pass through all of them, each in an order of its own."""
        parts, size = [self._waiting], len(self._waiting)
        while size < count:
            parts.append(self._source.permutation(len(self.training)).astype(np.int64))
            size += len(parts[-1])
        rows = np.concatenate(parts)
        self._waiting = rows[count:]
        return rows[:count]


class _Candidate:
    """A weight decay, with the state of its runs, and what was measured after each epoch."""

    def __init__(self, optimizer: Optimizer, decay: float | None, trained: list[Array]) -> None:
        self.optimizer = optimizer
        self.decay = decay
        self.trained = trained
        self.measured: list[list[dict[str, float]]] = []
        self.losses: list[float] = []

    def end_epoch(self, measured: list[dict[str, float]]) -> None:
        self.measured.append(measured)
        self.losses.append(math.fsum(each["loss"] for each in measured) / len(measured))

    @property
    def best(self) -> int:
        """The epoch with the least mean loss."""
        return min(range(len(self.losses)), key=self.losses.__getitem__)

    def is_out_of_patience(self, patience: int) -> bool:
        return bool(patience) and len(self.losses) - 1 - self.best >= patience


def cross_validate(
    model: TabularModel,
    part: Part,
    missing: Array,
    step: TrainStep,
    optimizers: Sequence[tuple[float | None, Optimizer]],
    *,
    folds: int,
    repeats: int,
    batch: int,
    epochs: int,
    patience: int,
    seed: int,
    new_start: Callable[[int], list[float]],
    progress: Callable[[int, float], Any] = lambda steps, loss: None,
) -> CrossValidation:
    """Train on all folds but one, for each of them, and measure on that one.

    Args:
        model: for which inputs and targets are, and whose network the step trains. It stays as it is.
        part: all rows.
        missing: an array of booleans with a row for each example and a column for each column of numbers: where there
            is none.
        step: the training step.
        optimizers: those to choose from, with their weight decays; they differ in the numbers of steps alone.
        folds, repeats: how many folds, for how many partitions.
        batch: rows per step.
        epochs: at most so many, of as many steps as all rows need.
        patience: so many epochs without a lesser mean loss end the runs; 0: none do.
        seed: of partitions, initial parameters and orders.
        new_start: gives initial parameters for a seed.
        progress: is told the number of steps made since the last time, and the mean loss.

    Raises:
        NonFiniteLossError, RangeError: if a run diverges.
        KeyboardInterrupt: if Ctrl-C came before the first epoch was complete.
    """
    result = CrossValidation(repeats)
    cut = _Cut(model, part, missing)
    most = -(-len(part) // folds)
    runs = []
    for repeat in range(repeats):
        start = new_start(start_seed(seed, repeat))
        for k, aside in enumerate(partition(cut.groups, folds, seed_of(seed, "folds", repeat))):
            runs.append(_Fold(seed_of(seed, "order", repeat, k), *cut.at(aside), start, most))
    reruns = Reruns(step, batch, len(part), part.arrays[0].shape[1])
    candidates = [
        _Candidate(optimizer, decay, [reruns.begin(run.start) for run in runs]) for decay, optimizer in optimizers
    ]
    try:
        _run_epochs(model, runs, reruns, candidates, result, epochs, patience, progress)
    except KeyboardInterrupt:
        candidates = [candidate for candidate in candidates if candidate.losses]
        if not candidates:
            raise
        result.interrupted = True
    best = min(candidates, key=lambda candidate: candidate.losses[candidate.best])
    result.epochs, result.decay = best.best + 1, best.decay
    result.stopped_early = len(best.losses) < epochs and not result.interrupted

    def named(measured: Sequence[dict[str, float]]) -> dict[str, list[float]]:
        figures = {name: [each[name] for each in measured] for name in measured[0]}
        if "R²" in figures:
            figures["R²"] = _explained(figures["RMSE"], [len(run.validation) for run in runs], folds, cut.deviation)
        return figures

    by_epoch = [named(measured) for measured in best.measured]
    result.curves = {name: [math.fsum(each[name]) / len(each[name]) for each in by_epoch] for name in by_epoch[0]}
    result.model = by_epoch[best.best]
    target = model.preprocessing.target
    result.baseline = named([constant_measures(target, run.training, run.validation, run.scale) for run in runs])
    result.linear = named([linear_measures(target, run.training, run.validation, run.scale) for run in runs])
    return result


def _run_epochs(
    model: TabularModel, runs: Sequence[_Fold], reruns: Reruns, candidates: Sequence[_Candidate],
    result: CrossValidation, epochs: int, patience: int, progress: Callable[[int, float], Any],
) -> None:  # fmt: skip
    """Make the runs of all candidates side by side, epoch by epoch, and measure after each epoch."""
    per_epoch = -(-len(reruns.X) // reruns.batch)
    going = list(candidates)
    for epoch in range(epochs):
        orders = [run.next_rows(per_epoch * reruns.batch) for run in runs]
        done = []
        for candidate in going:
            first = epoch * per_epoch
            numbers = np.array([candidate.optimizer.step_numbers(first + k) for k in range(per_epoch)])
            begun = time.process_time()
            for run, trained, order in zip(runs, candidate.trained, orders, strict=True):
                reruns.load(*run.training.arrays)
                reruns.advance(trained, numbers, order)
            result.step_seconds += time.process_time() - begun
            result.steps += per_epoch * len(runs)
            measured = [
                _measured(model, run, trained[: len(run.start)])
                for run, trained in zip(runs, candidate.trained, strict=True)
            ]
            done.append((candidate, measured))
        for candidate, measured in done:  # an epoch counts for all candidates, or after Ctrl-C for none
            candidate.end_epoch(measured)
        progress(per_epoch * len(runs) * len(going), min(candidate.losses[-1] for candidate in going))
        going = [candidate for candidate in going if not candidate.is_out_of_patience(patience)]
        if not going:
            break


def partition(groups: Sequence[Sequence[int]], folds: int, seed: int) -> list[list[int]]:
    """The rows of each fold: of each group as many as can be, one more or less.

    >>> sorted(map(len, partition([[0, 1, 2, 3], [4, 5]], 3, seed=0)))
    [2, 2, 2]
    """
    source = random.Random(seed)
    order: list[int] = []
    for group in groups:
        rows = list(group)
        source.shuffle(rows)
        order += rows
    return [sorted(order[k::folds]) for k in range(folds)]


class _Cut:
    """Cuts a table of inputs into the parts of a fold; statistics are those of its training rows alone."""

    def __init__(self, model: TabularModel, part: Part, missing: Array) -> None:
        self.inputs, self.targets = part.arrays
        columns = model.preprocessing.columns
        self.is_category = np.repeat(
            [isinstance(column, CategoryColumn) for column in columns], [column.width for column in columns]
        )
        numbers = self.inputs[:, ~self.is_category]
        self.numbers = np.where(missing, np.nan, numbers)
        self.classes = isinstance(model.preprocessing.target, ClassTarget)
        self.unit = 1.0 if self.classes else model.preprocessing.target.scale  # type: ignore[union-attr]
        self.deviation = float(np.std(self.targets)) * self.unit
        classes = np.unique(self.targets) if self.classes else [None]
        self.groups = [
            np.flatnonzero(self.targets == each if each is not None else self.targets == self.targets).tolist()
            for each in classes
        ]

    def at(self, aside: Sequence[int]) -> tuple[Part, Part, float]:
        """The parts of the fold of these rows, and the standard deviation of its targets in the table's unit."""
        rows = np.ones(len(self.inputs), dtype=bool)
        rows[list(aside)] = False
        inputs = self.inputs.copy()
        inputs[:, ~self.is_category] = _standardised(self.numbers, rows)
        # A category that the training rows do not have is none of those known.
        inputs[:, self.is_category] *= self.inputs[rows][:, self.is_category].any(axis=0)
        targets, scale = self.targets, 1.0
        if not self.classes:
            mean, scale = float(np.mean(targets[rows])), float(np.std(targets[rows]))
            scale = scale if scale > _SAME else 1.0
            targets = (targets - mean) / scale
        training, validation = (Part(inputs[each].tolist(), targets[each].tolist()) for each in (rows, ~rows))
        return training, validation, scale * self.unit


def _standardised(numbers: Array, rows: Array) -> Array:
    """Numbers by mean and standard deviation of some rows; 0 where one is missing, and where all are the same."""
    present = ~np.isnan(numbers)
    counted = present & rows[:, np.newaxis]
    count = np.maximum(counted.sum(axis=0), 1)
    mean = np.where(counted, numbers, 0.0).sum(axis=0) / count
    apart = np.where(present, numbers - mean, 0.0)
    scale = np.sqrt(np.where(counted, apart * apart, 0.0).sum(axis=0) / count)
    return apart * np.where(scale > _SAME, 1.0 / np.maximum(scale, _SAME), 0.0)


def _measured(model: TabularModel, run: _Fold, parameters: Array) -> dict[str, float]:
    """The measures of the rows left out."""
    results = model.measure(*run.filled, parameters)[: len(run.validation)]
    return measures_of(model.preprocessing.target, results, run.validation, run.scale)


def _explained(errors: Sequence[float], sizes: Sequence[int], folds: int, deviation: float) -> list[float]:
    """R² of all rows together, for each partition: by the RMSE and the number of rows of each fold.

    >>> _explained([1.0, 3.0], [3, 1], 2, 2.0)
    [0.25]
    """
    squares = (np.square(np.array(errors) / deviation) * sizes).reshape(-1, folds).tolist()
    return [1 - math.fsum(each) / sum(sizes[:folds]) for each in squares]


def start_seed(seed: int, number: int) -> int:
    """The seed of the initial parameters number so many: at first the one that is given."""
    return seed_of(seed, "start", number) if number else seed


def seed_of(*parts: Any) -> int:
    """A seed that depends on several things."""
    return random.Random(" ".join(map(str, parts))).randrange(2**32)
