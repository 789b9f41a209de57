"""The workloads, written once and run by every engine that can run them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flatgrad.nn.data import make_moons


def moons_data() -> tuple[list[list[float]], list[int]]:
    """The 100 points of micrograd's notebook and their labels, -1 or 1."""
    X, y = make_moons(100, noise=0.1, random_state=np.random.RandomState(1337))
    return X.tolist(), [int(label) for label in y * 2 - 1]


def moons(mlp: Callable[..., Any], value: Callable[[float], Any]) -> tuple[Any, Callable[[], Any]]:
    """The model of the notebook and its loss, built from an engine's `MLP` and `Value`."""
    X, labels = moons_data()
    random.seed(1337)
    model = mlp(2, [16, 16, 1])

    def loss() -> Any:
        inputs = [list(map(value, row)) for row in X]
        scores = [model(x) for x in inputs]
        losses = [(1 + -label * score).relu() for label, score in zip(labels, scores, strict=True)]
        return sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())

    return model, loss


def rosenbrock(x: Sequence[Any]) -> Any:
    """The Rosenbrock function, written on scalars."""
    return sum(100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2 for i in range(len(x) - 1))


def recurrence(steps: int) -> Callable[[Any], Any]:
    """A long program without structure to exploit: a damped recurrence of 4 operations a step."""

    def f(x: Any) -> Any:
        y = x
        for k in range(steps):
            y = y * 0.999 + x * (0.001 + k * 1e-9) + 1e-6
        return y

    return f
