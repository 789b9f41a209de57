"""`python -m benchmarks`: measure everything that docs/performance.md promises, side by side, and print a table.

Peers that are not installed are left out. `--write` puts the table into docs/performance.md and draws docs/moons.png;
names of measures, such as `python -m benchmarks moons choice`, restrict the run to those; `--quick` does everything
once, to see that it runs.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.arrays import measure_arrays, measure_structure
from benchmarks.choice import measure_choice, measure_irregular
from benchmarks.derivatives import measure_derivatives
from benchmarks.engines import measure_engines
from benchmarks.figure import FIGURE, PAGE, draw, times_of
from benchmarks.growth import measure_growth, measure_growth_of_arrays, measure_growth_of_structure
from benchmarks.layers import measure_layers
from benchmarks.microgpt import measure_microgpt
from benchmarks.native import (
    measure_calls,
    measure_captured,
    measure_making,
    measure_native,
    measure_native_training,
    measure_rosenbrock,
    measure_sequences,
    measure_triangles,
)
from benchmarks.pointers import measure_pointers
from benchmarks.sizes import measure_sizes
from benchmarks.suite import measure_gradbench, measure_recurrences
from benchmarks.suites.measure import measure_suites
from benchmarks.table import Row, table
from benchmarks.tables import measure_tables
from benchmarks.timing import collector_off, one_core, paired, quick, ratio, repeated, timed
from benchmarks.ways import measure_ways
from benchmarks.workloads import moons
from flatgrad.compiler.machine.native import host

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
    for _ in repeated(5):
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
    per_equation = 1e6 * statistics.median(seconds) / stats.equations
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
    for _ in repeated(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, check=True)
        processes.append(time.perf_counter() - start)
        seconds.append(float(re.findall(r"([0-9.]+) s from importing flatgrad to trained", done.stdout)[0]))
    whole = f"the process, with scikit-learn: {statistics.median(processes):.2f} s"
    measured = f"**{statistics.median(seconds):.2f} s** ({whole})"
    workload = "iris, `MLP(4, [16, 3])`, batch 16, 50 epochs, from import to trained"
    rows.append(Row(workload, "under 3 s (want 1.5 s)", measured))
    return rows


def fit_overhead(rounds: int = 5, steps: int = 300) -> tuple[float, float]:
    """Seconds per step of the kernel called in a bare loop, and of `fit`, taking turns."""
    from benchmarks.workloads import moons_data
    from flatgrad.nn import History

    X, labels = moons_data()
    model, _ = moons(fg.nn.MLP, fg.Value)

    def loss(X: Any, y: Any) -> Any:
        losses = [(1 + -label * model(x)).relu() for x, label in zip(X, y, strict=True)]
        return sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())

    # Each round compiles both anew, so that both begin with instructions that CPython has not yet specialised.
    bare, fitted = [], []
    x, y = [number for row in X for number in row], [float(label) for label in labels]
    if quick():
        steps = 3
    for _ in repeated(rounds):
        step = fg.nn.train_step(loss, fg.nn.SGD(1e-3), model, backend="python")
        routine = step.prepare(np.array(X), np.array(y)).routine
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
    return statistics.median(bare), statistics.median(fitted)


#: Everything that is measured, in the order of the table.
MEASURES: dict[str, Callable[[], list[Row]]] = {
    "growth": lambda: measure_growth() + measure_growth_of_structure(),
    "moons": measure_moons,
    "training": measure_training,
    "structure": measure_structure,
    "arrays": measure_arrays,
    "array-growth": measure_growth_of_arrays,
    "engines": measure_engines,
    "native": measure_native,
    "layers": measure_layers,
    "sizes": measure_sizes,
    "gradbench": measure_gradbench,
    "recurrences": measure_recurrences,
    "making": measure_making,
    "sequences": measure_sequences,
    "triangles": measure_triangles,
    "native-training": measure_native_training,
    "microgpt": measure_microgpt,
    "ways": measure_ways,
    "tables": measure_tables,
    "captured": measure_captured,
    "calls": measure_calls,
    "rosenbrock": measure_rosenbrock,
    "choice": measure_choice,
    "irregular": measure_irregular,
    "suites": measure_suites,
    "pointers": measure_pointers,
    "derivatives": measure_derivatives,
}


def processor() -> str:
    """The processor by its name, as far as the system tells it, and how many doubles its vectors hold."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    level = os.environ.get("FLATGRAD_CPU")
    restricted = f" as {level}" if level else ""
    return f"{next(names, platform.machine())}{restricted}, vectors of {host().lanes} doubles"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"all by default: {', '.join(MEASURES)}")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--quick", action="store_true", help="do everything once; the figures mean nothing")
    options = parser.parse_args()
    unknown = [name for name in options.measures if name not in MEASURES]
    if unknown:
        parser.error(f"unknown measure {unknown[0]!r}; choose from {', '.join(MEASURES)}")
    if options.write and options.measures:
        parser.error("--write replaces the whole table, so it needs all measures")
    if options.write and options.quick:
        parser.error("--write is for figures that mean something, and --quick makes others")
    if options.quick:
        os.environ["FLATGRAD_BENCHMARKS"] = "quick"
    one_core()
    rows = [row for name in options.measures or MEASURES for row in MEASURES[name]()]
    about = f"CPython {platform.python_version()}, one of {os.cpu_count()} cores, {platform.system()}, {processor()}."
    text = f"{about}\n\n{table(rows)}"
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        head, _, rest = page.partition(BEGIN)
        tail = rest.partition(END)[2]
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")
        draw(times_of(text), FIGURE)


if __name__ == "__main__":
    main()
