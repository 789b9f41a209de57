"""`Reruns`: one training step for many runs, such as those of a cross-validation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..compiler.machine.training import Repetition
from .batches import Array
from .run import NonFiniteLossError
from .step import TrainStep
from .step_kernel import StepKernel


class Reruns:
    """Many runs of one training step, on batches of one size from tables of one shape.

    The step is traced once. Where machine code runs, it makes all steps that are asked for at once; elsewhere, and
    where a step has a fault or goes another way, they are made one by one as `TrainStep` makes them. The bits are the
    same.

    Args:
        step: whose loss takes rows and targets.
        batch: how many rows a batch has.
        rows: how many rows the tables have.
        width: how many numbers a row has.

    Attributes:
        X, y: the table that the next steps are made on: a row of inputs, and a target, for each example.
    """

    def __init__(self, step: TrainStep, batch: int, rows: int, width: int) -> None:
        self.step = step
        self.batch = batch
        self.X: Array = np.zeros((rows, width))
        self.y: Array = np.zeros(rows)
        self._kernel: StepKernel = step._kernel_for(self._arguments(np.arange(batch)))[0]
        self._code: Repetition | None = None
        if self._kernel.stages.backend == "native":
            function, _ = self._kernel.stages.native_step()
            tables = [self.X, self.y[:, np.newaxis]]
            self._code = Repetition(function, batch, tables, len(step.optimizer.number_names))
            leaves = self._kernel.stages.leaf_numbers()
            self._code.leaves[: len(leaves)] = leaves

    def load(self, X: Array, y: Array) -> None:
        """Take a table for the next steps; it may have fewer rows, whose numbers alone may then be in an order."""
        self.X[: len(X)], self.y[: len(y)] = X, y

    def begin(self, parameters: Any) -> Array:
        """What is trained, parameters and the optimiser's state, as a run begins."""
        return np.concatenate([parameters, np.zeros(len(self.step.state) * len(parameters))])

    def advance(self, trained: Array, numbers: Array, order: Array) -> None:
        """Make steps.

        Args:
            trained: what they begin with; what they end with takes its place.
            numbers: those of each step, in a row each.
            order: the rows of all batches, one batch after the other, as int64.

        Raises:
            NonFiniteLossError: if a loss is NaN or infinite.
            DomainError, DivisionByZeroError, RangeError: as the loss would.
        """
        made = 0
        while made < len(numbers):
            if self._code is not None:
                self._code.trained[:] = trained
                rest = order[made * self.batch :]
                made += self._code(numbers[made:], rest, len(numbers) - made, True)[0]
                trained[:] = self._code.trained
            if made < len(numbers):
                self._make_one(trained, numbers[made], order[made * self.batch : (made + 1) * self.batch])
                made += 1

    def _make_one(self, trained: Array, numbers: Array, rows: Array) -> None:
        arguments = self._arguments(rows)
        width = len(self.step.numbers)
        kinds = trained.reshape(-1, width).tolist()
        inputs = [*arguments.numbers, *kinds, *numbers.tolist()]
        _, (loss, *after) = self.step._made_step(self._kernel, arguments, inputs)
        if not math.isfinite(loss):
            raise NonFiniteLossError(f"the loss of a step is {loss}. Try a smaller learning rate or clip_norm")
        trained[:] = np.concatenate(after)

    def _arguments(self, rows: Array) -> Any:
        return self.step._take_apart((self.X[rows], self.y[rows]), {})
