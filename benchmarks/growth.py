"""How time and memory for making a kernel grow with the number of equations, each size in its own process.

`python -m benchmarks.growth BACKEND WORKLOAD SIZE` is such a process.
"""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatgrad as fg
from benchmarks.table import Row
from benchmarks.timing import quick
from benchmarks.workloads import moons, recurrence


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


def growth(backend: str, workload: str, sizes: Sequence[int]) -> str:
    """The exponents of time and of memory between the smallest and the largest size, and all figures."""
    if quick():
        sizes = sizes[0], 2 * sizes[0]
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
    """A gradient whose joint program has about `size` equations, not yet compiled, and arguments to call it with."""
    if workload == "recurrence":
        return fg.value_and_grad(recurrence(size // 4), backend=backend), (0.5,)
    model, loss = moons(fg.nn.MLP, fg.Value, points=size // 1_920)
    return fg.value_and_grad(loss, wrt=model, backend=backend), ()


def main(backend: str, workload: str, size: int) -> None:
    """Make one kernel; print seconds, megabytes above the bare process, and equations."""
    base = peak_memory()
    seconds = []
    for _ in range(3 if size < 1_000_000 else 2):
        gradient, arguments = make(backend, workload, size)
        start = time.perf_counter()
        kernel = gradient.kernel_for(*arguments)
        seconds.append(time.perf_counter() - start)
    gradient(*arguments)
    print(min(seconds), peak_memory() - base, kernel.stats.equations)


def peak_memory() -> float:
    """The peak memory of this process in megabytes (not that of the process it was forked from)."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().split("\n") if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
