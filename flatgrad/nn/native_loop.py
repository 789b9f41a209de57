"""Training runs in machine code: chunks of steps that never leave it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ..compiler.machine.training import Repetition
from ..compiler.program.program import Program
from ..runtime.errors import ARITHMETIC_ERRORS, ARITHMETIC_FAULTS
from .optim import Optimizer

#: Seconds that a chunk of steps should take: so often a run comes back for progress and Ctrl-C.
_CHUNK = 0.1
#: A chunk has at most so many steps.
_STEPS = 100_000

#: The first step, the losses of the steps that were made, the parameters and the optimiser's state after them.
Chunk = tuple[int, list[float], Any, list[Any]]


class _Way(NamedTuple):
    """A kernel of the step, its machine code, and what gives its meaning."""

    kernel: Any
    code: Repetition
    meaning: Callable[[], Program]


class NativeLoop:
    """The loop around steps in machine code; it makes the same steps as the generated Python loop, bit for bit.

    Args:
        steps: a kernel of the step for each size of batch, the usual one first.
        tables: the data, contiguous arrays with a row of numbers for each example.
        epochs: a generator of the order of the rows in each epoch; None if each step is made on all rows as they are.
        optimizer: whose numbers of the steps are asked for ahead of time, and may be again after a fault.
        leaves: gives the numbers that a kernel reads and that are not trained; asked before the first step.
        other: given a kernel, a guard of it that fails with what is in its place, and the inputs of the step without
            the leaves: the kernel that makes this step, or, if there is none, what the step returns.

    Attributes:
        kernels: those that made the last steps, one for each size of batch.
    """

    def __init__(
        self,
        steps: Mapping[int, Any],
        tables: Sequence[Any],
        epochs: Callable[[], Iterator[list[int]]] | None,
        optimizer: Optimizer,
        leaves: Callable[[Any], Sequence[float]],
        other: Callable[[Any, tuple[int, bool | int] | None, list[float]], Any],
    ) -> None:
        self.tables = tables
        self.epochs = epochs
        self.optimizer = optimizer
        self.width: int = len(optimizer.number_names)
        self.leaves = leaves
        self.other = other
        self._ways: dict[int, _Way] = {}  # by the ids of kernels
        self.kernels: list[Any] = list(steps.values())
        self.codes: list[Repetition] = [self._code_of(kernel, size) for size, kernel in steps.items()]
        if epochs is None:
            self.set_batch(np.concatenate([table.ravel() for table in tables]))

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
        trained, width = np.concatenate([parameters, *state]), len(parameters)
        for way in self._ways.values():
            self._read_leaves(way)
        waiting = np.empty(0, dtype=np.int64)  # rows whose turn it is not yet
        if self.epochs is not None:
            epoch, before = divmod(first, -(-len(self.tables[0]) // self.codes[0].size))
            epochs = itertools.islice(self.epochs(), epoch, None)
            waiting = np.array(next(epochs), dtype=np.int64)[before * self.codes[0].size :]
        pace, k = 1, first
        while k < steps:
            start = time.perf_counter()
            which, count = self._next(k, max(1, min(pace, limit(k), steps - k, _STEPS)))
            size, order = self.codes[which].size, None
            if self.epochs is not None:
                waiting = order = _collected(waiting, epochs, count * size, start + _CHUNK)
                count = min(count, len(order) // size)
            numbers = self._numbers(k, count)
            count = len(numbers)
            progress, losses = self._run(which, trained, order, numbers, count, strict)
            pace = _next_pace(count, time.perf_counter() - start)
            if progress:
                trained = self.codes[which].trained.copy()
                yield k, losses.tolist(), trained[:width], _kinds(trained, width)
            if progress < count:
                again = self._again(which)
                if again is not None:  # otherwise the kernel of its way makes this step
                    loss, trained = again
                    yield k + progress, [loss], trained[:width], _kinds(trained, width)
                    progress += 1
            k += progress
            waiting = waiting[progress * size :]

    def _next(self, k: int, count: int) -> tuple[int, int]:
        """Which step comes next, and how many of these may follow each other: the last batch of an epoch is smaller."""
        if len(self.codes) == 1:
            return 0, count
        usual = len(self.tables[0]) // self.codes[0].size
        before = k % (usual + 1)
        return (0, min(count, usual - before)) if before < usual else (1, 1)

    def _numbers(self, first: int, count: int) -> Any:
        """The numbers of some steps: up to the one for which a learning rate raises, whose turn it is not yet.

        They are collected in one flat list: a list per step would call the garbage collector again and again, and an
        interrupt that arrives in one of the collector's callbacks is lost.
        """
        all_numbers = self.optimizer.all_numbers() if count > 1 else None
        if all_numbers is not None:
            rows = None
            with suppress(*ARITHMETIC_ERRORS):  # of one of the steps; which one, is found out below
                numbers = np.fromiter(all_numbers(first, first + count), float, count * self.width)
                rows = numbers.reshape(count, self.width)
            if rows is not None and all(self._are_numbers_of(first + k, rows[k]) for k in (0, count - 1)):
                return rows
        collected: list[float] = []
        for step in range(first, first + count):
            try:
                collected += self.optimizer.step_numbers(step)
            except Exception:  # whatever the user's function raises: again, when it is this step's turn
                if not collected:
                    raise
                break
        return np.array(collected, dtype=float).reshape(-1, self.width)

    def _are_numbers_of(self, step: int, numbers: Any) -> bool:
        """Whether a step has these numbers, bit for bit; they may depend on more than the step after all."""
        try:
            now = self.optimizer.step_numbers(step)
        except Exception:  # whatever the user's function raises: again, when it is this step's turn
            return False
        return bool(np.array(now, dtype=float).tobytes() == numbers.tobytes())

    def set_batch(self, numbers: Any) -> None:
        """All numbers of the batch that every step is made on."""
        self.codes[0].batch[:] = numbers

    def _run(self, which: int, trained: Any, order: Any, numbers: Any, count: int, strict: bool) -> tuple[int, Any]:
        """Make steps; return how many were completed, and their losses."""
        self.codes[which].trained[:] = trained
        return self.codes[which](numbers, order, count, strict)

    def _again(self, which: int) -> tuple[float, Any] | None:
        """The step that a chunk ended with.

        Its loss is not finite, or it raises, or it was stopped out of caution, or it goes another way.

        Returns:
            Its loss, and what is trained after it; None if it has not been made, and another kernel is to make it.
        """
        kernel, code = self.kernels[which], self.codes[which]
        inputs = np.concatenate([code.batch, code.trained, code.numbers])
        arguments = np.concatenate([inputs, code.leaves]).tolist()
        turn = kernel.turn(arguments)
        results: Any = None
        if turn is None:
            meaning = self._ways[id(kernel)].meaning()
            try:
                results = meaning.evaluate(arguments[: meaning.inputs])
            except ARITHMETIC_FAULTS:
                if not kernel.way.selects:
                    raise
        if results is None:
            results = self.other(kernel, turn, inputs.tolist())
            if not isinstance(results, list):
                self.kernels[which], self.codes[which] = results, self._code_of(results, code.size)
                self.codes[which].batch[:] = code.batch
                return None
        loss, *trained = results
        return float(loss), np.array(trained)

    def _code_of(self, kernel: Any, size: int) -> Repetition:
        """The machine code of a kernel for batches of a size."""
        way = self._ways.get(id(kernel))
        if way is None:
            function, meaning = kernel.stages.native_step()
            way = _Way(kernel, Repetition(function, size, self.tables, self.width), meaning)
            self._read_leaves(way)
            self._ways[id(kernel)] = way
        return way.code

    def _read_leaves(self, way: _Way) -> None:
        leaves = self.leaves(way.kernel)
        way.code.leaves[: len(leaves)] = leaves


def _collected(waiting: Any, epochs: Iterator[list[int]], count: int, until: float) -> Any:
    """The rows that wait and those of the next epochs: at least `count`, or those that are there at a time."""
    parts, size = [waiting], len(waiting)
    while size < count and (not size or time.perf_counter() < until):
        parts.append(np.array(next(epochs), dtype=np.int64))
        size += len(parts[-1])
    return np.concatenate(parts) if len(parts) > 1 else waiting


def _next_pace(count: int, seconds: float) -> int:
    """How many steps to make next, so that they take about `_CHUNK` seconds with all that belongs to them."""
    return max(1, min(int(count * _CHUNK / max(seconds, 1e-9)), 16 * count))


def _kinds(trained: Any, width: int) -> list[Any]:
    """The optimiser's state, kind by kind."""
    return [trained[start : start + width] for start in range(width, len(trained), width)]
