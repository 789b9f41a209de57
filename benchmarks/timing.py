"""Paired timing: candidates take turns, so that a machine whose speed drifts treats all of them alike.

With `FLATGRAD_BENCHMARKS=quick` in the environment everything is done once: that shows that it runs, not how fast.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Timing(NamedTuple):
    """Seconds per call: the median over rounds, and all rounds."""

    median: float
    rounds: list[float]


def quick() -> bool:
    """Whether figures do not matter."""
    return os.environ.get("FLATGRAD_BENCHMARKS") == "quick"


def sized(full: int, few: int) -> int:
    """`full`, or `few` where figures do not matter."""
    return few if quick() else full


def one_core() -> None:
    """Keep this process and those that it starts on one core, where the system can.

    Other engines' thread pools then have one thread, which they are made with: call it before they are imported. On
    small problems JAX is twice as fast so as with two cores.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def repeated(count: int) -> range:
    """`range(count)`, to measure something so many times."""
    return range(1 if quick() else count)


def timed(function: Callable[[], object], calls: int) -> float:
    """Seconds per call over `calls` calls."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def paired(candidates: dict[str, Callable[[], object]], rounds: int = 7, seconds: float = 0.1) -> dict[str, Timing]:
    """Time candidates in turn, each for about `seconds` a round; the first round warms up and is not counted.

    Garbage is collected before each round, for candidates that leave some while the collector is off.
    """
    if quick():
        rounds, seconds = 1, 0.0
    calls = {}
    for name, function in candidates.items():
        function()
        once = timed(function, 1)
        calls[name] = max(1, min(100_000, int(seconds / max(once, 1e-9))))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for k in range(rounds + 1):
        gc.collect()
        for name, function in candidates.items():
            sample = timed(function, calls[name])
            if k:
                samples[name].append(sample)
    return {name: Timing(statistics.median(rounds), rounds) for name, rounds in samples.items()}


def ratio(timings: dict[str, Timing], slow: str, fast: str) -> float:
    """The median over rounds of how many times as fast `fast` is."""
    return statistics.median(a / b for a, b in zip(timings[slow].rounds, timings[fast].rounds, strict=True))


@contextmanager
def collector_off() -> Iterator[None]:
    """Without the cyclic garbage collector, which otherwise dominates engines with closures."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
