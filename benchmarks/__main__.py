"""`python -m benchmarks`: measure everything that docs/performance.md promises, side by side, and print a table.

Peers that are not installed are left out. `--write` puts the table into docs/performance.md; names of measures, such as
`python -m benchmarks moons choice`, restrict the run to those.
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.arrays import measure_arrays, measure_structure
from benchmarks.choice import measure_choice
from benchmarks.growth import measure_growth, measure_growth_of_arrays
from benchmarks.peers import rosenbrock_peers
from benchmarks.table import Row, table
from benchmarks.timing import collector_off, paired, ratio, timed
from benchmarks.workloads import moons, rosenbrock

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def measure_moons() -> list[Row]:
    """One gradient of the moons loss: micrograd, the interpreter, flat Python; and making the kernel."""
    from micrograd import nn as upstream_nn
    from micrograd.engine import Value as Upstream

    rows = []
    model, loss = moons(fg.nn.MLP, fg.Value)
    _, upstream_loss = moons(upstream_nn.MLP, Upstream)
    sys.setrecursionlimit(100_000)

    def interpreted() -> None:
        loss().backward()

    def upstream() -> None:
        upstream_loss().backward()

    seconds = []
    for _ in range(5):
        gc.collect()
        gradient = fg.value_and_grad(loss, wrt=model, backend="python")
        seconds.append(timed(gradient.kernel_for, 1))
    stats = gradient.kernel_for().stats
    compiled = gradient
    with collector_off():
        t = paired({"micrograd": upstream, "interpreter": interpreted, "flat": compiled}, rounds=9)
    as_users = timed(upstream, 3)
    flat, slow = t["flat"].median, t["micrograd"].median
    rows.append(
        Row(
            "moons gradient: flat Python vs micrograd, collector off",
            "30x (want 50x)",
            f"**{ratio(t, 'micrograd', 'flat'):.0f}x** ({1e3 * slow:.1f} ms / {1e3 * flat:.2f} ms)",
        )
    )
    rows.append(
        Row(
            "the same vs micrograd as users run it",
            "180x (want 400x)",
            f"**{as_users / flat:.0f}x** ({1e3 * as_users:.0f} ms)",
        )
    )
    per_equation = 1e6 * sorted(seconds)[len(seconds) // 2] / stats.equations
    rows.append(
        Row(
            "moons: from function to kernel, per equation of the joint program",
            "15 µs (want 11)",
            f"**{per_equation:.1f} µs** ({stats.equations:,} equations)",
        )
    )
    rows.append(
        Row(
            "interpreter vs micrograd, collector off, forward and backward",
            "no slower (want 1.5x)",
            f"**{ratio(t, 'micrograd', 'interpreter'):.2f}x** ({1e3 * t['interpreter'].median:.1f} ms)",
        )
    )
    return rows  # fmt: skip


def measure_training() -> list[Row]:
    """Training steps: gradient and SGD update against micrograd's loop, and what `fit` adds to the kernel."""
    from micrograd import nn as upstream_nn
    from micrograd.engine import Value as Upstream

    sys.setrecursionlimit(100_000)
    upstream_model, upstream_loss = moons(upstream_nn.MLP, Upstream)
    model, loss = moons(fg.nn.MLP, fg.Value)

    def upstream() -> None:
        total = upstream_loss()
        upstream_model.zero_grad()
        total.backward()
        for p in upstream_model.parameters():
            p.data -= 1e-3 * p.grad

    step = fg.nn.train_step(loss, fg.nn.SGD(1e-3), model, backend="python")
    with collector_off():
        t = paired({"micrograd": upstream, "step": step}, rounds=9)
    rows = [Row("moons, whole training step (gradient and SGD update), flat Python vs micrograd's loop, collector off",
                "30x (want 50x)",
                f"**{ratio(t, 'micrograd', 'step'):.0f}x** ({1e3 * t['micrograd'].median:.1f} ms / "
                f"{1e3 * t['step'].median:.2f} ms)")]  # fmt: skip
    bare, fitted = fit_overhead()
    rows.append(Row("overhead of `nn.fit` per step over calling the kernel in a bare loop, moons", "3 % (want 1 %)",
                    f"**{100 * (fitted / bare - 1):.1f} %** ({1e3 * fitted:.3f} / {1e3 * bare:.3f} ms)"))  # fmt: skip
    example = Path(__file__).parent.parent / "examples" / "iris.py"
    seconds, processes = [], []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, check=True)
        processes.append(time.perf_counter() - start)
        seconds.append(float(re.findall(r"([0-9.]+) s from importing flatgrad to trained", done.stdout)[0]))
    measured = f"**{sorted(seconds)[1]:.2f} s** (the process, with scikit-learn: {sorted(processes)[1]:.2f} s)"
    workload = "iris, `MLP(4, [16, 3])`, batch 16, 50 epochs, from import to trained, flat Python"
    rows.append(Row(workload, "under 3 s (want 1.5 s)", measured))
    return rows


def fit_overhead(rounds: int = 5, steps: int = 300) -> tuple[float, float]:
    """Seconds per step of the kernel called in a bare loop, and of `fit`, taking turns."""
    from benchmarks.workloads import moons_data
    from flatgrad.nn.train import History

    X, labels = moons_data()
    model, _ = moons(fg.nn.MLP, fg.Value)

    def loss(X: Any, y: Any) -> Any:
        losses = [(1 + -label * model(x)).relu() for x, label in zip(X, y, strict=True)]
        return sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())

    # Each round compiles both anew, so that both begin with instructions that CPython has not yet specialised.
    bare, fitted = [], []
    x, y = [number for row in X for number in row], [float(label) for label in labels]
    for _ in range(rounds):
        step = fg.nn.train_step(loss, fg.nn.SGD(1e-3), model, backend="python")
        routine = step.prepare(np.array(X), np.array(y))
        numbers = list(step.numbers)
        gc.collect()
        start = time.perf_counter()
        for _ in range(steps):
            _, numbers = routine.function(x, y, numbers, 1e-3)
        bare.append((time.perf_counter() - start) / steps)
        history: History = fg.nn.fit(
            loss, model, fg.nn.SGD(1e-3), X, labels, steps=steps, progress=False, backend="python"
        )
        fitted.append(history.seconds / steps)
    middle = rounds // 2
    return sorted(bare)[middle], sorted(fitted)[middle]


def measure_rosenbrock() -> list[Row]:
    """The gradient of the Rosenbrock function, ndarray in and out."""
    rows = []
    for n, wanted in ((2, "4x (want 8x)"), (10, "2.5x (want 4x)"), (100, ""), (1000, "")):
        x = np.linspace(0.5, 1.5, n)
        gradient = fg.grad(rosenbrock, backend="python")
        engines = {"flat": gradient, **rosenbrock_peers()}
        candidates = {name: functools.partial(engine, x) for name, engine in engines.items()}
        for name, function in candidates.items():
            np.testing.assert_allclose(function(), gradient(x), rtol=1e-9, err_msg=name)
        t = paired(candidates)
        peers = ", ".join(f"{name} {1e6 * timing.median:.1f}" for name, timing in t.items() if name != "flat")
        versus = f"**{ratio(t, 'JAX', 'flat'):.1f}x** " if "JAX" in t else ""
        measured = f"{versus}(µs: flatgrad {1e6 * t['flat'].median:.2f}{', ' + peers if peers else ''})"
        rows.append(Row(f"Rosenbrock gradient, ndarray in and out, n = {n}, flat Python vs JAX jit", wanted, measured))
    return rows


#: Everything that is measured, in the order of the table.
MEASURES: dict[str, Callable[[], list[Row]]] = {
    "growth": measure_growth,
    "moons": measure_moons,
    "training": measure_training,
    "rosenbrock": measure_rosenbrock,
    "structure": measure_structure,
    "arrays": measure_arrays,
    "array-growth": measure_growth_of_arrays,
    "choice": measure_choice,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"all by default: {', '.join(MEASURES)}")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    unknown = [name for name in options.measures if name not in MEASURES]
    if unknown:
        parser.error(f"unknown measure {unknown[0]!r}; choose from {', '.join(MEASURES)}")
    if options.write and options.measures:
        parser.error("--write replaces the whole table, so it needs all measures")
    rows = [row for name in options.measures or MEASURES for row in MEASURES[name]()]
    about = f"CPython {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}."
    text = f"{about}\n\n{table(rows)}"
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        head, _, rest = page.partition(BEGIN)
        tail = rest.partition(END)[2]
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
