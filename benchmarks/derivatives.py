"""Second derivatives and sparse matrices, against JAX and CasADi."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.peers import if_installed
from benchmarks.suites.luksan_vlcek import PROBLEMS
from benchmarks.table import Row
from benchmarks.timing import paired, quick, ratio
from benchmarks.workloads import rosenbrock

Array = np.ndarray[Any, np.dtype[np.float64]]


@if_installed
def hessian_in_jax() -> Callable[[Array], Any]:
    """The Hessian of Rosenbrock's function on arrays, compiled, as JAX's users write it."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def function(x: Any) -> Any:
        return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    hessian = jax.jit(jax.hessian(function))
    return lambda x: hessian(x).block_until_ready()


def brusselator(y: Any, n: int) -> list[Any]:
    """The right-hand side of the Brusselator, a reaction with diffusion, on a periodic grid of n by n points."""
    u, v, diffusion = y[: n * n], y[n * n :], 0.02 * (n - 1) ** 2
    first, second = [], []
    for i in range(n):
        for j in range(n):
            k = i * n + j
            around = [(i - 1) % n * n + j, (i + 1) % n * n + j, i * n + (j - 1) % n, i * n + (j + 1) % n]
            reaction = u[k] * u[k] * v[k]
            a, b = ((w[around[0]] + w[around[1]] + w[around[2]] + w[around[3]] - 4.0 * w[k]) for w in (u, v))
            first.append(1.0 + reaction - 4.4 * u[k] + diffusion * a)
            second.append(3.4 * u[k] - reaction + diffusion * b)
    return first + second


@if_installed
def brusselator_in_casadi(n: int, y: Array) -> Callable[[], Any]:
    """Its sparse Jacobian by CasADi, called by buffers, which costs least."""
    import casadi

    symbols = casadi.SX.sym("y", len(y))
    result = casadi.vertcat(*brusselator([symbols[k] for k in range(len(y))], n))
    function = casadi.Function("jacobian", [symbols], [casadi.jacobian(result, symbols)])
    numbers = np.zeros(function.nnz_out(0))
    buffer, call = function.buffer()
    buffer.set_arg(0, memoryview(y))
    buffer.set_res(0, memoryview(numbers))
    return lambda: (call(), buffer, numbers)


def network(weights: Any, points: list[list[float]], signs: list[float]) -> Any:
    """The squared error of an MLP(2, [16, 16, 1]) of relus whose parameters are one vector."""
    layers, start = [], 0
    for inputs, outputs in ((2, 16), (16, 16), (16, 1)):
        rows = [start + k * (inputs + 1) for k in range(outputs)]
        layers.append([(weights[row : row + inputs], weights[row + inputs]) for row in rows])
        start += outputs * (inputs + 1)
    total = 0.0
    for point, sign in zip(points, signs, strict=True):
        values: list[Any] = list(point)
        for k, layer in enumerate(layers):
            values = [sum((w * x for w, x in zip(row, values, strict=True)), bias) for row, bias in layer]
            values = values if k == 2 else [fg.relu(value) for value in values]
        total = total + (values[0] - sign) ** 2
    return total / len(points)


def measure_derivatives() -> list[Row]:
    """Hessians, products with them, and sparse Jacobians: one core, both sides in turn."""
    rows, x = [], np.linspace(0.5, 1.5, 100)
    dense, sparse = fg.hessian(rosenbrock), fg.hessian(rosenbrock, sparse=True)
    matrix = sparse(x)
    ours = {"dense": lambda: dense(x), "sparse": lambda: sparse(x), "out": lambda: sparse(x, out=matrix)}
    peer = hessian_in_jax()
    if peer is not None:
        np.testing.assert_allclose(dense(x), peer(x))
        times = paired({**ours, "JAX": lambda: peer(x)})
        ratios = ", ".join(f"{name} {ratio(times, 'JAX', name):.1f}x" for name in ours)
        figures = ", ".join(f"{name} {1e6 * timing.median:.1f}" for name, timing in times.items())
        rows.append(Row("Hessian of Rosenbrock, n = 100, vs JAX `jit(hessian)`", "faster; sparse 5x",
                        f"**{ratios} as fast** ({figures} µs; `out` fills a known matrix)"))  # fmt: skip
    count = 10 if quick() else 100
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(count, 2)), 0.3 * rng.normal(size=337)
    signs, direction = np.sign(points[:, 0]).tolist(), np.ones(337)
    loss = lambda w: network(w, points.tolist(), signs)  # noqa: E731
    gradient, product = fg.grad(loss), fg.hvp(loss)
    gradient(weights), product(weights, direction)
    times = paired({"hvp": lambda: product(weights, direction), "grad": lambda: gradient(weights)})
    rows.append(Row(f"`hvp` over `grad`, `MLP(2, [16, 16, 1])` on {count} points", "at most 4x",
                    f"**{ratio(times, 'hvp', 'grad'):.2f}x** ({1e6 * times['hvp'].median:.1f} / "
                    f"{1e6 * times['grad'].median:.1f} µs)"))  # fmt: skip
    n = 6 if quick() else 64
    y = rng.uniform(1.0, 2.0, 2 * n * n)
    start = time.perf_counter()
    jacobian = fg.jacobian(lambda y: brusselator(y, n), sparse=True)
    known = jacobian(y)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    casadi = brusselator_in_casadi(n, y)
    if casadi is not None:
        preparation = time.perf_counter() - start
        _, _, numbers = casadi()
        np.testing.assert_allclose(np.sort(numbers), np.sort(known.data))
        times = paired({"ours": lambda: jacobian(y, out=known), "CasADi": casadi})
        fast = ratio(times, "CasADi", "ours")
        rows.append(
            Row(
                f"sparse Jacobian of a Brusselator, {n}x{n}, vs CasADi",
                "faster",
                f"**{fast:.1f}x as fast** ({1e6 * times['ours'].median:.0f} / "
                f"{1e6 * times['CasADi'].median:.0f} µs; first call {seconds:.1f} / {preparation:.1f} s)",
            )
        )
    problem, n = PROBLEMS[0], 100 if quick() else 100_000
    start_point = problem.start(n)
    start = time.perf_counter()
    hessian = fg.hessian(problem.objective, sparse=True)
    chain = hessian(start_point)
    seconds = time.perf_counter() - start
    call = paired({"call": lambda: hessian(start_point, out=chain)})["call"]
    rows.append(Row(f"sparse Hessian of Lukšan-Vlček {problem.number}, n = {n:,}: first call / later calls",
                    "20 s / 20 ms", f"**{seconds:.1f} s / {1e3 * call.median:.2f} ms**"))  # fmt: skip
    return rows
