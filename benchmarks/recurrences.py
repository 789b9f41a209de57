"""Recurrences as people write them: each returns a function, and the arguments at which its gradient is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.gradbench import Array
from benchmarks.peers import ValueAndGradient, if_installed
from flatgrad.compiler.options import Mode

Workload = tuple[Any, tuple[Any, ...]]


def pendulum(steps: int) -> Workload:
    """A pendulum with friction, by Runge-Kutta of the fourth order."""

    def f(p: Any) -> Any:
        angle, speed = p[0], p[1]
        for _ in range(steps):
            angle, speed = _step(p, angle, speed)
        return angle * angle + speed

    return f, (np.array([1.0, 0.0, 1.0, 0.1]),)


def _step(p: Any, angle: Any, speed: Any, sin: Callable[[Any], Any] = fg.sin, h: float = 0.01) -> Any:
    """A step of Runge-Kutta; of JAX's numbers, too."""

    def slopes(angle: Any, speed: Any) -> Any:
        return speed, -p[2] * sin(angle) - p[3] * speed

    a1, b1 = slopes(angle, speed)
    a2, b2 = slopes(angle + 0.5 * h * a1, speed + 0.5 * h * b1)
    a3, b3 = slopes(angle + 0.5 * h * a2, speed + 0.5 * h * b2)
    a4, b4 = slopes(angle + h * a3, speed + h * b3)
    return angle + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4), speed + h / 6 * (b1 + 2 * b2 + 2 * b3 + b4)


def pendulum_by_scan(steps: int) -> Workload:
    """The same pendulum, its steps by `fg.scan`."""

    def f(p: Any) -> Any:
        (angle, speed), _ = fg.scan(lambda state, _: (_step(p, *state), None), (p[0], p[1]), None, length=steps)
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


# --- a network on a batch of sequences ----------------------------------------------------------------------------

#: The learning rate of its steps.
RATE = 1e-3


def batch(rows: int, rounds: int, width: int) -> tuple[list[Array], Array, Array]:
    """Weights from state to state, from input to state, offsets, weights of the output; inputs by round; targets."""
    draw = np.random.default_rng(2)
    shapes = (width, width), (width, 4), (width,), (width,)
    weights = [draw.normal(size=shape) / width**0.5 for shape in shapes]
    return weights, draw.normal(size=(rounds, rows, 4)), draw.normal(size=rows)


def batch_loss(inner: Any, outer: Any, offsets: Any, output: Any, X: Any, y: Any) -> Any:
    """The mean squared error of a network's last outputs. A round takes all rows, each of them written in scalars."""

    def after(state: Any, x: Any) -> Any:
        rows = zip(inner, outer, offsets, strict=True)
        return [fg.tanh(_dot(w, state) + _dot(u, x) + b) for w, u, b in rows]

    def turn(states: Any, xs: Any) -> Any:
        return [after(state, x) for state, x in zip(states, xs, strict=True)], None

    states, _ = fg.scan(turn, [[0.0] * len(offsets) for _ in range(len(y))], X)
    errors = [_dot(output, state) - target for state, target in zip(states, y, strict=True)]
    return fg.sum([error * error for error in errors]) / len(y)


def _dot(weights: Any, numbers: Any) -> Any:
    return fg.sum([w * x for w, x in zip(weights, numbers, strict=True)])


def batch_step(mode: Mode, rows: int, rounds: int, width: int) -> Callable[[], float]:
    """A step of gradient descent: value and gradient, and an update of the weights."""
    weights, X, y = batch(rows, rounds, width)
    value_and_gradient = fg.value_and_grad(batch_loss, argnums=(0, 1, 2, 3), mode=mode)

    def step() -> float:
        value, gradients = value_and_gradient(*weights, X, y)
        for w, gradient in zip(weights, gradients, strict=True):
            w -= RATE * gradient
        return float(value)

    return step


# --- the same in JAX and PyTorch, as one writes it there: with `scan`, and matrices of all rows -------------------


@if_installed
def pendulum_in_jax(steps: int) -> ValueAndGradient:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def f(p: Any) -> Any:
        (angle, speed), _ = jax.lax.scan(
            lambda state, _: (_step(p, *state, sin=jnp.sin), None), (p[0], p[1]), None, length=steps
        )
        return angle * angle + speed

    return _called(jax.jit(jax.value_and_grad(f)))


@if_installed
def garch_in_jax(count: int) -> ValueAndGradient:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    squares = returns(count) ** 2

    def f(p: Any) -> Any:
        def turn(variance: Any, square: Any) -> Any:
            return p[0] + p[1] * square + p[2] * variance, variance

        _, variances = jax.lax.scan(turn, p[0], squares)
        return jnp.sum(jnp.log(variances) + squares / variances)

    return _called(jax.jit(jax.value_and_grad(f)))


def _called(jitted: Any) -> ValueAndGradient:
    """From ndarrays to ndarrays."""

    def value_and_gradient(p: Array) -> Any:
        value, gradient = jitted(p)
        return float(value), [np.asarray(gradient)]

    return value_and_gradient


@if_installed
def batch_step_in_jax(rows: int, rounds: int, width: int) -> Callable[[], float]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    weights, X, y = batch(rows, rounds, width)

    def loss(weights: Any, X: Any, y: Any) -> Any:
        inner, outer, offsets, output = weights
        read = X @ outer.T + offsets  # of all rounds at once
        states, _ = jax.lax.scan(lambda s, u: (jnp.tanh(s @ inner.T + u), None), jnp.zeros((rows, width)), read)
        return jnp.mean((states @ output - y) ** 2)

    @jax.jit
    def update(weights: Any, X: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, X, y)
        return value, [w - RATE * gradient for w, gradient in zip(weights, gradients, strict=True)]

    state = [jnp.array(w) for w in weights]

    def step() -> float:
        nonlocal state
        value, state = update(state, X, y)
        return float(value)

    return step


@if_installed
def batch_step_in_pytorch(rows: int, rounds: int, width: int) -> Callable[[], float]:
    import torch

    torch.set_num_threads(1)
    numbers, *data = batch(rows, rounds, width)
    weights = [torch.tensor(w, requires_grad=True) for w in numbers]
    X, y = (torch.tensor(item) for item in data)
    optimizer = torch.optim.SGD(weights, RATE)

    def step() -> float:
        optimizer.zero_grad()
        inner, outer, offsets, output = weights
        read = X @ outer.T + offsets
        states = torch.zeros(rows, width, dtype=torch.float64)
        for u in read:
            states = torch.tanh(torch.addmm(u, states, inner.T))
        value = ((states @ output - y) ** 2).mean()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(value.detach())

    return step
