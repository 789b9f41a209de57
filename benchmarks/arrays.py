"""NumPy kernels: how much structure is found, how fast, and what running it on arrays gains."""

from __future__ import annotations

import gc
import statistics
import sys
from typing import Any

import flatgrad as fg
from benchmarks.engines import moons_times
from benchmarks.table import Row
from benchmarks.timing import collector_off, paired, quick, ratio, repeated, timed
from benchmarks.workloads import moons, transformer


def measure_structure() -> list[Row]:
    """Statements per gradient, and the time from function to kernel."""
    model, loss = moons(fg.nn.MLP, fg.Value)
    seconds, rerolling = [], []
    for _ in repeated(5):
        gc.collect()
        gradient = fg.value_and_grad(loss, wrt=model, backend="numpy")
        seconds.append(timed(gradient.kernel_for, 1))
        rerolling.append(gradient.kernel_for().arrays.stats.reroll_seconds)
    kernel = gradient.kernel_for()
    stats, times = kernel.arrays.stats, kernel.stats
    rows = [
        Row(
            "moons gradient: statements / lanes by strided access",
            "at most 40 / 100 % (want 30)",
            f"**{stats.statements} / {100 * stats.strided:.4g} %** ({stats.equations:,} equations, "
            f"workspace {stats.workspace / 1e3:.0f} kB)",
        )
    ]
    usual, *other = (2, 3) if quick() else (8, 4, 16)
    transformers = {n: transformer_stats(n) for n in (usual, *other)}
    others = ", ".join(f"{n} positions: {transformers[n].statements}" for n in other)
    rows.append(
        Row(
            "transformer on scalars, 8 positions, gradient: statements",
            "at most 300 (want 120)",
            f"**{transformers[usual].statements}** ({transformers[usual].equations:,} equations; {others})",
        )
    )
    per_equation = 1e6 * statistics.median(rerolling) / stats.equations
    rows.append(Row("moons: re-rolling, per equation", "2 µs (want 1)", f"**{per_equation:.2f} µs**"))
    rows.append(
        Row(
            "moons: from function to NumPy kernel",
            "0.8 s (want 0.4 s)",
            f"**{statistics.median(seconds):.2f} s** (tracing {times.trace_seconds:.2f} s, "
            f"re-rolling {stats.reroll_seconds:.2f} s of {times.compile_seconds:.2f} s for the rest)",
        )
    )
    return rows


def transformer_stats(positions: int) -> Any:
    """What re-rolling finds in the gradient of the transformer."""
    parameters, loss = transformer(positions)
    return fg.value_and_grad(loss, wrt=parameters, backend="numpy").kernel_for().arrays.stats


def measure_arrays() -> list[Row]:
    """One gradient of the moons loss on arrays: against micrograd, and against NumPy by hand."""
    from micrograd import nn as upstream_nn
    from micrograd.engine import Value as Upstream

    sys.setrecursionlimit(100_000)
    _, upstream_loss = moons(upstream_nn.MLP, Upstream)
    model, loss = moons(fg.nn.MLP, fg.Value)
    exact = fg.value_and_grad(loss, wrt=model, backend="numpy")
    with collector_off():
        lists = paired({"micrograd": lambda: upstream_loss().backward(), "exact": exact}, rounds=9)
    t = moons_times()
    slow, called = lists["micrograd"].median, lists["exact"].median
    fast, by_hand = t["NumPy fast"].median, t["NumPy by hand"].median
    return [
        Row(
            "moons gradient: NumPy, exact, vs micrograd, collector off",
            "300x (want 600x)",
            f"**{ratio(lists, 'micrograd', 'exact'):.0f}x** ({1e3 * slow:.1f} ms / {1e6 * called:.0f} µs)",
        ),
        Row(
            "moons gradient, ndarray in and out: time of NumPy, fast, over NumPy by hand",
            "2x (want 1.2x)",
            f"**{ratio(t, 'NumPy fast', 'NumPy by hand'):.2f}x** ({1e6 * fast:.1f} / {1e6 * by_hand:.1f} µs)",
        ),
    ]
