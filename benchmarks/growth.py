"""How time and memory for making a kernel grow with the number of equations, each size in its own process.

`python -m benchmarks.growth BACKEND WORKLOAD SIZE [AXIS]` is such a process.
"""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flatgrad as fg
from benchmarks.gradbench import lstm
from benchmarks.table import Row
from benchmarks.timing import quick, repeated
from benchmarks.workloads import layers, moons, recurrence, tangle

FIGURE = Path(__file__).parent.parent / "docs" / "growth.png"


def measure_growth() -> list[Row]:
    """The growth of flat Python."""
    measured = growth("python", "recurrence", (10_000, 100_000, 1_000_000))
    return [Row("growth from 10^4 to 10^6 equations, exponent: time / memory", "1.1 (want 1.02)", measured)]


def measure_growth_of_arrays() -> list[Row]:
    """The growth of NumPy kernels: of a program that is all structure, and of one that has none."""
    structured = growth("numpy", "moons", (10_000, 100_000, 1_000_000, 3_000_000))
    unstructured = growth("numpy", "recurrence", (10_000, 100_000, 1_000_000))
    target = "1.1 (want 1.05)"
    return [
        Row("NumPy kernels, growth from 10^4 to 3*10^6 equations, moons with more points: time / memory", target,
            structured),
        Row("NumPy kernels, growth from 10^4 to 10^6 equations, without structure: time / memory", target,
            unstructured),
    ]  # fmt: skip


def measure_growth_of_structure() -> list[Row]:
    """Machine code: how preparation grows with packs, with statements and with scalars that stay alone.

    Each axis has a program of its own: more steps of an LSTM, whose steps are packs of their own; more layers, each of
    another width; and a straight line of equations without any repetition. The figure shows all three.
    """
    axes = {
        "packs": ("lstm", (2, 4) if quick() else (8, 16, 32, 64, 128)),
        "statements": ("layers", (2, 4) if quick() else (25, 100, 400, 1_600)),
        "scalars": ("tangle", (20, 40) if quick() else (100, 1_000, 10_000)),
    }
    points = {axis: measured(axis, workload, sizes) for axis, (workload, sizes) in axes.items()}
    if not quick():
        draw(points, FIGURE)
    rows = []
    for axis, results in points.items():
        (least, first), (most, last) = results[0], results[-1]
        exponent = math.log(last / first) / math.log(most / least)
        figures = ", ".join(f"{count:,}: {seconds:.2f} s" for count, seconds in results)
        rows.append(Row(f"machine code, growth of preparation with the number of {axis}, exponent", "1.15 (want 1.05)",
                        f"**{exponent:.2f}** ({figures})"))  # fmt: skip
    return rows


def measured(axis: str, workload: str, sizes: Sequence[int]) -> list[tuple[int, float]]:
    """How many packs, statements or scalars there are, and the seconds of preparation, by size."""
    results = []
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.growth", "native", workload, str(size), axis]
        environment = {**os.environ, "FLATGRAD_CACHE": "0"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        seconds, _, count = done.stdout.split()
        results.append((int(count), float(seconds)))
    return results


def draw(points: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Seconds against counts, both on logarithmic scales: what is linear is a straight line with the slope 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="how many there are", ylabel="seconds of preparation")
    for axis, results in points.items():
        axes.plot(*zip(*results, strict=True), marker="o", label=axis)
    counts = [count for results in points.values() for count, _ in results]
    ends = [min(counts), max(counts)]
    axes.plot(ends, [1e-4 * count for count in ends], color="#b6bec9", linestyle="--", label="slope 1")
    axes.grid(color="#e6e9ee")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160)


def growth(backend: str, workload: str, sizes: Sequence[int]) -> str:
    """The exponents of time and of memory between the smallest and the largest size, and all figures."""
    if quick():
        sizes = 4_000, 6_000
    times, peaks, counts = [], [], []
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.growth", backend, workload, str(size)]
        seconds, peak, count = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        times.append(float(seconds))
        peaks.append(float(peak))
        counts.append(int(count))
    span = math.log(counts[-1] / counts[0])
    in_time = math.log(times[-1] / times[0]) / span
    in_memory = math.log(peaks[-1] / peaks[0]) / span
    figures = ", ".join(f"{c:,}: {t:.2f} s, {m:.0f} MB" for c, t, m in zip(counts, times, peaks, strict=True))
    return f"**{in_time:.2f} / {in_memory:.2f}** ({figures})"


def make(backend: str, workload: str, size: int) -> tuple[Any, tuple[float, ...]]:
    """A gradient whose joint program has about `size` equations, not yet compiled, and arguments to call it with.

    Moons have two points at least, which are 6,000 equations.
    """
    if workload == "recurrence":
        return fg.value_and_grad(recurrence(size // 4), backend=backend), (0.5,)
    if workload == "lstm":
        function, arguments = lstm(size)
        return fg.value_and_grad(function, argnums=(0, 1), backend=backend), arguments
    if workload == "layers":
        function, parameters = layers(size)
        return fg.value_and_grad(function, backend=backend), (parameters,)
    if workload == "tangle":
        return fg.value_and_grad(tangle(size), backend=backend), ([0.5, 0.25, 0.125],)
    model, loss = moons(fg.nn.MLP, fg.Value, points=max(2, size // 1_920))
    return fg.value_and_grad(loss, wrt=model, backend=backend), ()


def main(backend: str, workload: str, size: int, axis: str = "equations") -> None:
    """Make one kernel; print seconds, megabytes above the bare process, and how many equations (packs, ...) it has."""
    base = peak_memory()
    seconds = []
    for _ in repeated(1 if axis != "equations" else 3 if size < 1_000_000 else 2):
        gradient, arguments = make(backend, workload, size)
        start = time.perf_counter()
        kernel = gradient.kernel_for(*arguments)
        seconds.append(time.perf_counter() - start)
    gradient(*arguments)
    count = kernel.stats.equations if axis == "equations" else getattr(kernel.arrays.stats, axis)
    print(min(seconds), peak_memory() - base, count)


def peak_memory() -> float:
    """The peak memory of this process in megabytes (not that of the process it was forked from)."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().split("\n") if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
