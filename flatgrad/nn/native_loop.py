"""Training runs in machine code: chunks of steps that never leave it."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..compiler.machine.functions import native_step
from ..compiler.machine.llvm import NativeCode
from ..compiler.machine.training import StepLayout
from ..runtime.errors import ARITHMETIC_ERRORS
from .optim import Optimizer
from .step import StepStages

#: Seconds that a chunk of steps should take: so often a run comes back for progress and Ctrl-C.
_CHUNK = 0.1
#: A chunk has at most so many steps.
_STEPS = 100_000

#: The first step, the losses of the steps that were made, the parameters and the optimiser's state after them.
Chunk = tuple[int, list[float], Any, list[Any]]


class NativeLoop:
    """The loop around steps in machine code; it makes the same steps as the generated Python loop, bit for bit.

    Args:
        steps: the step for each size of batch, the usual one first.
        X, y: the data, one row of numbers each, contiguous.
        shuffled: whether the rows are shuffled before each epoch.
        seed: of the shuffling.
        optimizer: whose numbers of the steps are asked for ahead of time, and may be again after a fault.
        leaves: numbers that the steps read and that are not trained.
        fast: whether steps are compiled in fast mode.
    """

    def __init__(
        self,
        steps: Mapping[int, StepStages],
        X: Any,
        y: Any,
        *,
        shuffled: bool,
        seed: int | None,
        optimizer: Optimizer,
        leaves: Sequence[float],
        fast: bool,
    ) -> None:
        self.X, self.y, self.shuffled, self.seed = X, y, shuffled, seed
        self.optimizer, self.width = optimizer, len(optimizer.number_names)
        self.sizes = list(steps)
        self.programs = [steps[size].meaning for size in self.sizes]
        self.layouts: list[StepLayout] = []
        self.trainers = []
        for size in self.sizes:
            function = native_step(steps[size].arrays[0], functools.partial(self._layout, size), fast=fast)
            self.trainers.append(function.trainer())
        self.set_leaves(leaves)
        if not shuffled:
            self.set_batch(np.concatenate([self.X.ravel(), self.y.ravel()]))

    def _layout(self, size: int, code: NativeCode) -> StepLayout:
        rows, x_width, y_width = len(self.X), self.X.shape[1], self.y.shape[1]
        assert rows >= size
        trained = sum(count for _, count in code.layout.outputs[1:])
        first = size * (x_width + y_width)
        numbers = first + trained, self.width
        layout = StepLayout(size, x_width, y_width, (first, trained), numbers, code.layout.outputs[0][0])
        self.layouts.append(layout)
        return layout

    def __call__(
        self,
        parameters: Any,
        state: Sequence[Any],
        *,
        first: int,
        steps: int,
        strict: bool,
        limit: Callable[[int], int],
    ) -> Iterator[Chunk]:
        """Make the steps from `first` up to `steps`, and yield after each chunk of them.

        Args:
            parameters, state: what the first step begins with.
            first, steps: the range of steps.
            strict: whether a chunk ends with a step whose loss is not finite; that step's update is not made.
            limit: how many steps may be made at once, given the next one.

        Raises:
            DomainError, DivisionByZeroError, RangeError: as the loss would; the completed steps have been yielded.
        """
        width = len(parameters)
        trained = np.array([*parameters, *(number for kind in state for number in kind)], dtype=float)
        rows = len(self.X)
        per_epoch = -(-rows // self.sizes[0])
        orders = self._orders(first // per_epoch)
        waiting = next(orders)  # rows of the current epoch's batches that have not been taken yet
        waiting = waiting[first % per_epoch * self.sizes[0] :]
        pace, k = 1, first
        while k < steps:
            start = time.perf_counter()
            if not len(waiting):
                waiting = next(orders)
            which = 0 if len(waiting) >= self.sizes[0] else 1
            size = self.sizes[which]
            count = max(1, min(pace, limit(k), steps - k, _STEPS))
            if self.shuffled:
                if len(self.sizes) == 1:  # one batch follows the other across epochs
                    waiting = _collected(waiting, orders, count * size, start + _CHUNK)
                count = min(count, len(waiting) // size)
            numbers = self._numbers(k, count)
            count = len(numbers)
            done, losses = self._made(which, trained, waiting if self.shuffled else None, numbers, count, strict)
            pace = _next_pace(count, time.perf_counter() - start)
            if self.shuffled:
                waiting = waiting[done * size :]
            if done:
                trained = self._trained(which)
                yield k, losses.tolist(), trained[:width], _kinds(trained, width)
                k += done
            if done < count:
                loss, trained = self._again(which)
                yield k, [loss], trained[:width], _kinds(trained, width)
                k += 1
                waiting = waiting[size:] if self.shuffled else waiting

    def _orders(self, epoch: int) -> Iterator[Any]:
        """The rows of each epoch in the order in which they are taken, beginning with an epoch."""
        order = list(range(len(self.X)))
        shuffle = random.Random(self.seed).shuffle
        for _ in range(epoch if self.shuffled else 0):
            shuffle(order)
        while True:
            if self.shuffled:
                shuffle(order)
            yield np.array(order, dtype=np.int64)

    def _numbers(self, first: int, count: int) -> Any:
        """The numbers of some steps: up to the one for which a learning rate raises, whose turn it is not yet.

        They are collected in one flat list: a list per step would call the garbage collector again and again, and an
        interrupt that arrives in one of the collector's callbacks is lost.
        """
        all_numbers = self.optimizer.all_numbers() if count > 1 else None
        if all_numbers is not None:
            rows = None
            with suppress(*ARITHMETIC_ERRORS):  # of one of the steps; which one, is found out below
                rows = np.array(all_numbers(first, first + count), dtype=float).reshape(-1, self.width)
            if rows is not None and all(self._are_numbers_of(first + k, rows[k]) for k in (0, count - 1)):
                return rows
        found: list[float] = []
        for step in range(first, first + count):
            try:
                found += self.optimizer.step_numbers(step)
            except Exception:  # whatever the user's function raises: again, when it is this step's turn
                if not found:
                    raise
                break
        return np.array(found, dtype=float).reshape(-1, self.width)

    def _are_numbers_of(self, step: int, numbers: Any) -> bool:
        """Whether a step has these numbers, bit for bit; they may depend on more than the step after all."""
        try:
            now = self.optimizer.step_numbers(step)
        except Exception:  # whatever the user's function raises: again, when it is this step's turn
            return False
        return bool(np.array(now, dtype=float).tobytes() == numbers.tobytes())

    def set_batch(self, numbers: Any) -> None:
        """All numbers of the batch that every step is made on."""
        self.trainers[0].memory[: len(numbers)] = numbers

    def set_leaves(self, leaves: Sequence[float]) -> None:
        """The numbers that are read and not trained."""
        for trainer, layout in zip(self.trainers, self.layouts, strict=True):
            end = layout.numbers[0] + layout.numbers[1]
            trainer.memory[end : end + len(leaves)] = leaves

    def _made(self, which: int, trained: Any, order: Any, numbers: Any, count: int, strict: bool) -> tuple[int, Any]:
        trainer, (start, size) = self.trainers[which], self.layouts[which].trained
        trainer.memory[start : start + size] = trained
        return trainer.run(order, self.X, self.y, numbers, count, strict)

    def _trained(self, which: int) -> Any:
        start, size = self.layouts[which].trained
        return self.trainers[which].memory[start : start + size].copy()

    def _again(self, which: int) -> tuple[float, Any]:
        """The step that a chunk ended with: its loss is not finite, or it raises, or it was stopped out of caution.

        Returns its loss, and what is trained after it.
        """
        loss, *trained = self.programs[which].evaluate(
            self.trainers[which].memory[: self.programs[which].inputs].tolist()
        )
        return float(loss), np.array(trained)


def _collected(waiting: Any, orders: Iterator[Any], count: int, until: float) -> Any:
    """The rows that are waiting and those of the next epochs: `count` rows, or those that are there at a time."""
    parts, found = [waiting], len(waiting)
    while found < count and (len(parts) == 1 or time.perf_counter() < until):
        parts.append(next(orders))
        found += len(parts[-1])
    return np.concatenate(parts) if len(parts) > 1 else waiting


def _next_pace(count: int, seconds: float) -> int:
    """How many steps to make next, so that they take about `_CHUNK` seconds with all that belongs to them."""
    return max(1, min(int(count * _CHUNK / max(seconds, 1e-9)), 16 * count))


def _kinds(trained: Any, width: int) -> list[Any]:
    """The optimiser's state, kind by kind."""
    return [trained[start : start + width] for start in range(width, len(trained), width)]
