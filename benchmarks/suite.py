"""The programs of the GradBench suite: making their gradients, and their time over that of C by hand.

`python -m benchmarks.suite PROGRAM SIZE...` is a process that makes and times one gradient.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks import gradbench, recurrences
from benchmarks.by_hand import gradbench_in_c, recurrence_in_c
from benchmarks.sizes import peak_memory
from benchmarks.table import Row
from benchmarks.timing import paired, quick, ratio

#: Programs with their sizes, with sizes at which everything is done quickly, and what we are after.
PROGRAMS: list[tuple[str, str, tuple[int, ...], tuple[int, ...], str]] = [
    ("lse", "log-sum-exp of 2,500 numbers, written with `max`", (2_500,), (30,), "1.3x (want 0.7x)"),
    ("gmm", "gmm, d = 2, k = 50, 1,000 points", (2, 50, 1_000), (2, 3, 5), "12 s, 0.4x (want 5 s, 0.3x)"),
    ("gmm", "gmm, d = 10, k = 5, 1,000 points", (10, 5, 1_000), (3, 2, 5), "1.0x (want 0.6x)"),
    ("kmeans", "kmeans, 10 centres, 1,000 points, d = 8", (10, 1_000, 8), (3, 12, 2), "12 s, 4x (want 4 s, 1x)"),
    ("lstm", "lstm, 256 steps, 2 layers, H = 14", (256, 2, 14), (4, 2, 3), "25 s (want 8 s)"),
    ("llsq", "llsq, 64 places, 128 coefficients", (64, 128), (8, 5), "1x"),
    ("llsq", "llsq, 1,024 places, 128 coefficients", (1_024, 128), (9, 4), "1x"),
    ("det", "determinant by minors, n = 7", (7,), (4,), "2 s (want 0.8 s)"),
    ("det", "determinant by minors, n = 8", (8,), (5,), "20 s (want 8 s)"),
]


#: The same of recurrences.
RECURRENCES: list[tuple[str, str, tuple[int, ...], tuple[int, ...], str]] = [
    ("pendulum", "pendulum by Runge-Kutta, 1,000 steps", (1_000,), (20,), "1.5 s, 1.5x (want 0.5 s, 1.1x)"),
    ("pendulum", "pendulum by Runge-Kutta, 10,000 steps", (10_000,), (40,), "linear"),
    ("garch", "GARCH(1,1), 2,000 returns", (2_000,), (30,), "1.5x"),
]


def measure_recurrences() -> list[Row]:
    """Recurrences like the programs of GradBench; and the statements that they have, by the number of rounds."""
    rows = measured(RECURRENCES)
    counts = []
    for name in ("lorenz", "garch", "pendulum", "network"):
        figures = []
        for rounds in (20, 40) if quick() else (50, 500):
            function, arguments = getattr(recurrences, name)(rounds)
            f = fg.value_and_grad(function, argnums=tuple(range(len(arguments))), backend="numpy")
            figures.append(str(len(f.kernel_for(*arguments).arrays.statements)))
        counts.append(f"{name} {' / '.join(figures)}")
    workload = "recurrences, gradient: statements at 50 and at 500 rounds"
    return [*rows, Row(workload, "the same (want at most 30)", f"**{'; '.join(counts)}**"), *_cold(), _network()]


def _cold() -> list[Row]:
    """From a function to its kernel and first result, in fresh processes without the cache."""
    few, many = (40, 100) if quick() else (1_000, 100_000)
    programs = [
        ("pendulum", few, "1.5 s (want 0.5 s)"),
        ("pendulum", many, "40 s, 2 GB (want 12 s, 0.5 GB)"),
        ("pendulum_by_scan", many, "1 s (want 0.4 s)"),
    ]
    rows = []
    for name, steps, target in programs:
        command = [sys.executable, "-c", f"from benchmarks.suite import cold; cold({name!r}, {steps})"]
        environment = {**os.environ, "FLATGRAD_CACHE": "off"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        how = "by `fg.scan`" if name.endswith("scan") else "in a Python loop"
        workload = f"pendulum by Runge-Kutta, {steps:,} steps {how}: from function to first gradient, cold"
        rows.append(Row(workload, target, done.stdout.strip()))
    return rows


def cold(name: str, steps: int) -> None:
    """Make a gradient and call it once; print seconds, CPU seconds, and the memory of the process."""
    function, arguments = getattr(recurrences, name)(steps)
    start, cpu = time.perf_counter(), time.process_time()
    fg.value_and_grad(function)(*arguments)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"**{seconds:.2f} s** (CPU {cpu:.2f} s), {peak_memory():,.0f} MB")


def _network() -> Row:
    """A training step of a recurrent network on a batch, against matrices in JAX and PyTorch."""
    sizes = (3, 6, 4) if quick() else (16, 100, 32)
    steps: dict[str, Any] = {mode: recurrences.batch_step(mode, *sizes) for mode in ("exact", "fast")}
    peers = {"JAX": recurrences.batch_step_in_jax, "PyTorch": recurrences.batch_step_in_pytorch}
    for name, peer in peers.items():
        step = peer(rows=sizes[0], rounds=sizes[1], width=sizes[2])
        if step is not None:
            steps[name] = step
    losses = [[step() for _ in range(2)] for step in steps.values()]
    np.testing.assert_allclose(losses, [losses[0]] * len(losses), rtol=1e-10)
    t = paired(steps)
    ratios = [
        f"{mode} mode {ratio(t, name, mode):.2f}x as fast as {name}"
        for mode in ("exact", "fast") for name in peers if name in t
    ]  # fmt: skip
    figures = ", ".join(f"{name} {1e6 * timing.median:,.0f}" for name, timing in t.items())
    return Row(
        "recurrent network, H = 32, 100 rounds, batch of 16: a training step",
        "faster than both (want 3x)", f"**{'; '.join(ratios) or 'no peers'}** ({figures} µs)",
    )  # fmt: skip


def measure_gradbench() -> list[Row]:
    """Value and gradient of each program: CPU time of preparation, µs of a call, and both against C by hand."""
    return measured(PROGRAMS)


def measured(programs: Sequence[tuple[str, str, tuple[int, ...], tuple[int, ...], str]]) -> list[Row]:
    """A row per program, each from a process of its own."""
    rows = []
    if quick():
        programs = list({name: program for program in programs for name in program[:1]}.values())  # each once
    for name, title, official, small, target in programs:
        sizes = small if quick() else official
        command = [sys.executable, "-m", "benchmarks.suite", name, *map(str, sizes)]
        environment = {**os.environ, "FLATGRAD_CACHE": "off"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        workload = f"{title}, gradient: CPU time of preparation / a call / C by hand / ratio"
        rows.append(Row(workload, target, done.stdout.strip()))
    return rows


def main(name: str, sizes: tuple[int, ...]) -> None:
    """Make one gradient, compare it with that of C, and print how long both take.

    Both are called from Python with arrays and return arrays. Differences are relative to the largest number of a
    gradient, as sums that cancel differ by more.
    """
    function, arguments = getattr(gradbench if hasattr(gradbench, name) else recurrences, name)(*sizes)
    gradient = fg.value_and_grad(function, argnums=tuple(range(len(arguments))))
    start = time.process_time()
    kernel = gradient.kernel_for(*arguments)
    seconds = time.process_time() - start
    candidates = {"flatgrad": functools.partial(gradient, *arguments)}
    by_hand = (gradbench_in_c if hasattr(gradbench, name) else recurrence_in_c)(name, sizes)
    if by_hand is not None:
        candidates["C"] = functools.partial(by_hand, *arguments)
        compare(candidates["flatgrad"](), candidates["C"]())
    in_jax = getattr(recurrences, f"{name}_in_jax", lambda *_: None)(*sizes)
    if in_jax is not None:
        candidates["JAX"] = functools.partial(in_jax, *arguments)
        compare(candidates["flatgrad"](), candidates["JAX"]())
    t = paired(candidates)
    figures = [f"{seconds:.2f} s", f"{1e6 * t['flatgrad'].median:.4g} µs"]
    if by_hand is not None:
        figures += [f"{1e6 * t['C'].median:.4g} µs", f"{ratio(t, 'flatgrad', 'C'):.2f}x"]
    if in_jax is not None:
        figures[-1] += f"; {ratio(t, 'JAX', 'flatgrad'):.2f}x as fast as JAX"
    about = f", JAX {1e6 * t['JAX'].median:.4g} µs" if in_jax is not None else ""
    print(f"**{' / '.join(figures)}** ({kernel.stats.equations:,} equations, {kernel.backend}{about})")


def compare(result: Any, expected: Any) -> None:
    """Raise `AssertionError` if values and gradients differ by more than 1e-10 of the largest number in each."""
    (value, gradients), (value_by_hand, gradients_by_hand) = result, expected
    for ours, theirs in zip([value, *gradients], [value_by_hand, *gradients_by_hand], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=1e-10 * np.abs(theirs).max())


if __name__ == "__main__":
    main(sys.argv[1], tuple(map(int, sys.argv[2:])))
