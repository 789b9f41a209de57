"""Kernels that serve all sizes: what preparing them costs, and their speed against JAX and PyTorch on tensors."""

from __future__ import annotations

import functools
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.peers import if_installed
from benchmarks.table import Row
from benchmarks.timing import paired, quick, ratio
from flatgrad import nn

Array = np.ndarray[Any, np.dtype[np.float64]]
Step = Callable[[], Any]


def network(widths: tuple[int, ...], rows: int) -> tuple[Any, Callable[..., Any], Array, Array]:
    """A network of relus, its cross-entropy, and random data of that shape."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(rows, widths[0])), rng.integers(0, widths[-1], rows).astype(float)
    model = nn.MLP(widths[0], list(widths[1:]), seed=0)
    return model, lambda X, y: nn.cross_entropy([model(x) for x in X], y), X, y


def preparation(widths: tuple[int, ...], batch: int, rows: int) -> tuple[float, float]:
    """Seconds from `nn.fit` to the first step, and the memory of the process in MB; run in a process of its own."""
    model, loss, X, y = network(widths, rows)
    start = time.perf_counter()
    history = nn.fit(loss, model, nn.SGD(1e-3), X, y, steps=1, batch_size=batch, seed=0, progress=False)
    seconds = time.perf_counter() - start - history.seconds
    return seconds, peak_memory()


def peak_memory() -> float:
    """The most memory that the process has had, in MB. (What `resource` says can be that of the parent process.)"""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def in_process(widths: tuple[int, ...], batch: int, rows: int, cache: str) -> tuple[float, float]:
    """The same measured in a fresh process, with machine code kept in a folder."""
    code = f"from benchmarks.sizes import preparation; print(*preparation({widths!r}, {batch}, {rows}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "FLATGRAD_CACHE_DIR": cache}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    seconds, memory = map(float, done.stdout.split())
    return seconds, memory


def steps_of_peers(widths: tuple[int, ...], X: Array, y: Array) -> dict[str, Step]:
    """A training step of the same network on tensors, in float64, by engine."""
    peers = {"JAX": step_in_jax(widths=widths, X=X, y=y), "PyTorch": step_in_pytorch(widths=widths, X=X, y=y)}
    return {name: step for name, step in peers.items() if step is not None}


def weights_of(widths: tuple[int, ...]) -> list[Array]:
    """Weights and offsets, layer by layer."""
    rng = np.random.default_rng(1)
    shapes = [shape for n, m in itertools.pairwise(widths) for shape in ((n, m), (m,))]
    return [rng.normal(size=shape) * 0.1 for shape in shapes]


@if_installed
def step_in_jax(widths: tuple[int, ...], X: Array, y: Array) -> Step:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def loss(weights: Any, X: Any, y: Any) -> Any:
        for k in range(0, len(weights), 2):
            X = X @ weights[k] + weights[k + 1]
            X = jax.nn.relu(X) if k + 2 < len(weights) else X
        return -jnp.mean(jax.nn.log_softmax(X)[jnp.arange(len(y)), y])

    @jax.jit
    def step(weights: Any, X: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, X, y)
        return value, [w - 1e-3 * g for w, g in zip(weights, gradients, strict=True)]

    state = [jnp.array(w) for w in weights_of(widths)]
    inputs, labels = X, y.astype(int)

    def once() -> float:
        nonlocal state
        value, state = step(state, inputs, labels)
        return float(value)

    return once


@if_installed
def step_in_pytorch(widths: tuple[int, ...], X: Array, y: Array) -> Step:
    import torch

    torch.set_num_threads(1)
    weights = [torch.tensor(w, requires_grad=True) for w in weights_of(widths)]
    optimizer = torch.optim.SGD(weights, 1e-3)

    def once() -> float:
        optimizer.zero_grad()
        hidden = torch.from_numpy(X)
        for k in range(0, len(weights), 2):
            hidden = hidden @ weights[k] + weights[k + 1]
            hidden = torch.relu(hidden) if k + 2 < len(weights) else hidden
        value = torch.nn.functional.cross_entropy(hidden, torch.from_numpy(y).long())
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(value.detach())

    return once


def measure_sizes() -> list[Row]:
    """Preparation of `fit`, steps, gradients of each example, and how long it takes to bind a size."""
    return [*_digits(), *_mnist(), _per_example(), _binding()]


def _digits() -> list[Row]:
    # As many rows as there are digits: the last batch has 5 of them.
    widths, few, many, rows = ((8, 6, 3), 4, 8, 21) if quick() else ((64, 32, 10), 8, 64, 1797)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        small = in_process(widths, few, rows, first)[0]
        cold = in_process(widths, many, rows, second)[0]
        again = in_process(widths, many, rows, second)[0]
    name = "digits, `MLP(64, [32, 10])`"
    return [
        Row(f"`nn.fit`, {name}: preparation with batches of 64 over batches of 8", "1.2x (want 1.02x)",
            f"**{cold / small:.2f}x** ({cold:.2f} s / {small:.2f} s; in a second process {again:.2f} s)"),
        _steps(f"{name}, batch of 64: a training step", "faster than both (want 3x)", widths, many),
    ]  # fmt: skip


def _mnist() -> list[Row]:
    widths, batch = ((8, 6, 3), 8) if quick() else ((784, 128, 10), 64)
    with tempfile.TemporaryDirectory() as folder:
        seconds, memory = in_process(widths, batch, batch, folder)
    name = "the size of MNIST, `MLP(784, [128, 10])`, batch of 64"
    return [
        Row(f"{name}: preparation of `nn.fit`", "20 s / 3 GB (want 4 s / 1 GB)",
            f"**{seconds:.1f} s**, {memory:,.0f} MB"),
        _steps(f"{name}: a training step", "2x / 1x slower (want 1x / 1.5x faster)", widths, batch, fast=True),
    ]  # fmt: skip


def _steps(name: str, target: str, widths: tuple[int, ...], batch: int, fast: bool = False) -> Row:
    model, loss, X, y = network(widths, batch)
    count = 2 if quick() else 100
    candidates: dict[str, Step] = {}
    for mode in ("exact", "fast") if fast else ("exact",):
        step = nn.train_step(loss, nn.SGD(1e-3), model, mode=mode, dynamic=True)
        candidates[mode] = functools.partial(step.repeat, count, X, y)  # as `nn.fit` makes them
    peers = steps_of_peers(widths, X, y)
    times = paired({**candidates, **{name: functools.partial(_repeat, step, count) for name, step in peers.items()}})
    ratios = [f"{mode} mode {ratio(times, peer, mode):.2f}x as fast as {peer}" for mode in candidates for peer in peers]
    figures = ", ".join(f"{each} {1e6 * times[each].median / count:,.0f}" for each in times)
    return Row(f"{name}, against tensors in float64", target, f"**{'; '.join(ratios) or 'no peers'}** ({figures} µs)")


def _repeat(step: Step, count: int) -> None:
    """Make so many steps."""
    for _ in range(count):
        step()


def _per_example() -> Row:
    rows, width = 10 if quick() else 10_000, 16
    rng = np.random.default_rng(0)
    X, y, parameters = rng.normal(size=(rows, 16)), rng.normal(size=rows), rng.normal(size=16 * 17 + 17) * 0.1

    def loss(p: Any, x: Any, t: Any, tanh: Callable[..., Any] = fg.tanh) -> Any:
        out = p[-1]
        for j in range(width):
            row = p[17 * j : 17 * j + 17]
            out = out + p[272 + j] * tanh(sum(a * b for a, b in zip(row, x, strict=False)) + row[16])
        return (out - t) ** 2

    ours = fg.vmap(fg.grad(loss), in_axes=(None, 0, 0))
    candidates: dict[str, Step] = {"flatgrad": functools.partial(ours, parameters, X, y)}
    jitted = per_example_in_jax()
    if jitted is not None:
        candidates["JAX"] = functools.partial(jitted, parameters, X, y)
        np.testing.assert_allclose(candidates["JAX"](), candidates["flatgrad"](), rtol=1e-8, atol=1e-12)
    times = paired(candidates, rounds=9)
    text = f"**{ratio(times, 'JAX', 'flatgrad'):.2f}x as fast** " if jitted is not None else ""
    figures = " / ".join(f"{1e3 * times[each].median:.2f}" for each in times)
    return Row(
        f"a gradient for each of {rows:,} rows, `MLP(16, [16, 1])`: `vmap(grad)` vs JAX `jit(vmap(grad))`",
        "not slower (want 3x)", f"{text}({figures} ms)",
    )  # fmt: skip


@if_installed
def per_example_in_jax() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def loss(p: Any, x: Any, t: Any) -> Any:
        hidden = p[:272].reshape(16, 17)
        return (p[288] + p[272:288] @ jnp.tanh(hidden[:, :16] @ x + hidden[:, 16]) - t) ** 2

    mapped = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0, 0)))
    return lambda p, X, y: np.asarray(mapped(p, X, y))


def _binding() -> Row:
    """Moons at another number of points: the schedule of its machine code, and a call of it."""
    model = nn.MLP(2, [16, 16, 1], seed=0)

    def loss(X: Any, y: Any) -> Any:
        losses = [(1 - t * model(x)).relu() for x, t in zip(X, y, strict=True)]
        return sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())

    gradient = fg.value_and_grad(loss, wrt=model, dynamic=True)
    X, y = np.random.default_rng(0).normal(size=(100, 2)), np.ones(100)
    gradient(X, y)
    (kernel,) = gradient.open_kernels
    code, sizes = kernel.stages.code[0], iter(range(200, 1_000_000))
    times = paired({"bind": lambda: code.bind(next(sizes))}, rounds=9)
    return Row("machine code of moons bound to another number of points", "1 ms (want 50 µs)",
               f"**{1e6 * times['bind'].median:.0f} µs**")  # fmt: skip
