"""One moons gradient by every engine that can compute it, side by side."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.by_hand import moons_by_hand, moons_in_c
from benchmarks.peers import moons_peers
from benchmarks.table import Row
from benchmarks.timing import Timing, collector_off, paired
from benchmarks.workloads import moons, moons_at

#: The row of the table that has the times of all engines.
ENGINES = "moons gradient by engine, collector off, ndarray in and out where there are arrays, µs"


def measure_engines() -> list[Row]:
    """All engines in a row."""
    times = ", ".join(f"{name} {1e6 * timing.median:.1f}" for name, timing in moons_times().items())
    return [Row(ENGINES, "", times)]


@functools.cache
def moons_times() -> dict[str, Timing]:
    """The times of all engines, measured once per process: every row that quotes them quotes the same."""
    with collector_off():
        return paired({**graph_engines(), **moons_engines()}, rounds=9)


def graph_engines() -> dict[str, Callable[[], Any]]:
    """The engines that make the graph anew for each gradient."""
    from micrograd import nn as upstream_nn
    from micrograd.engine import Value as Upstream

    sys.setrecursionlimit(100_000)
    _, upstream_loss = moons(upstream_nn.MLP, Upstream)
    _, loss = moons(fg.nn.MLP, fg.Value)
    return {"micrograd": lambda: upstream_loss().backward(), "interpreter": lambda: loss().backward()}


def moons_engines() -> dict[str, Callable[[], Any]]:
    """One value and gradient of the moons loss by engine, each checked; called as users do, ndarray in and out."""
    model, _ = moons(fg.nn.MLP, fg.Value)
    numbers = np.array([p.data for p in model.parameters()])
    function = functools.partial(fg.value_and_grad, moons_at)
    by_hand = {"NumPy by hand": moons_by_hand(), "C by hand": moons_in_c()}
    engines = {
        "flat Python": functools.partial(function(backend="python"), numbers),
        "NumPy exact": functools.partial(function(backend="numpy", mode="exact"), numbers),
        "NumPy fast": functools.partial(function(backend="numpy", mode="fast"), numbers),
        "native exact": functools.partial(function(backend="native", mode="exact"), numbers),
        "native fast": functools.partial(function(backend="native", mode="fast"), numbers),
        **{name: functools.partial(peer, numbers) for name, peer in moons_peers().items()},
        **{name: functools.partial(peer, numbers) for name, peer in by_hand.items() if peer is not None},
    }
    value, gradient = engines["flat Python"]()
    for name, engine in engines.items():
        same_value, same_gradient = engine()
        np.testing.assert_allclose(same_value, value, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(same_gradient, gradient, rtol=1e-12, atol=1e-12, err_msg=name)
    return engines
