"""Recurrences as people write them: each returns a function, and the arguments at which its gradient is taken."""

from __future__ import annotations

from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.gradbench import Array

Workload = tuple[Any, tuple[Any, ...]]


def pendulum(steps: int) -> Workload:
    """A pendulum with friction, by Runge-Kutta of the fourth order."""

    def slopes(p: Any, angle: Any, speed: Any) -> Any:
        return speed, -p[2] * fg.sin(angle) - p[3] * speed

    def f(p: Any) -> Any:
        angle, speed, h = p[0], p[1], 0.01
        for _ in range(steps):
            a1, b1 = slopes(p, angle, speed)
            a2, b2 = slopes(p, angle + 0.5 * h * a1, speed + 0.5 * h * b1)
            a3, b3 = slopes(p, angle + 0.5 * h * a2, speed + 0.5 * h * b2)
            a4, b4 = slopes(p, angle + h * a3, speed + h * b3)
            angle = angle + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
            speed = speed + h / 6 * (b1 + 2 * b2 + 2 * b3 + b4)
        return angle * angle + speed

    return f, (np.array([1.0, 0.0, 1.0, 0.1]),)


def returns(count: int) -> Array:
    """Daily returns in percent, made up."""
    return np.random.default_rng(0).standard_t(5, size=count)


def garch(count: int) -> Workload:
    """The likelihood of returns whose variance follows GARCH(1,1)."""
    numbers = returns(count).tolist()

    def f(p: Any) -> Any:
        variance, loss = p[0], 0.0
        for r in numbers:
            loss = loss + (fg.log(variance) + r * r / variance)
            variance = p[0] + p[1] * (r * r) + p[2] * variance
        return loss

    return f, (np.array([0.1, 0.1, 0.8]),)


def lorenz(steps: int) -> Workload:
    """The Lorenz system by Euler's method."""

    def f(x: Any) -> Any:
        a, b, c = x
        for _ in range(steps):
            da, db, dc = 10.0 * (b - a), a * (28.0 - c) - b, a * b - 8.0 / 3.0 * c
            a, b, c = a + 0.01 * da, b + 0.01 * db, c + 0.01 * dc
        return a + b + c

    return f, (np.array([1.0, 1.5, 0.5]),)


def network(steps: int, width: int = 8) -> Workload:
    """A recurrent network on a sequence of pairs: the squares of its last state."""
    draw = np.random.default_rng(1)
    inputs = draw.normal(size=(steps, 2)).tolist()

    def f(inner: Any, outer: Any) -> Any:
        state = [0.0] * width
        for x, y in inputs:
            sums = [fg.sum([w * s for w, s in zip(row, state, strict=True)]) for row in inner]
            state = [fg.tanh(s + u[0] * x + u[1] * y) for s, u in zip(sums, outer, strict=True)]
        return fg.sum([s * s for s in state])

    return f, (draw.normal(size=(width, width)) / width, draw.normal(size=(width, 2)))
