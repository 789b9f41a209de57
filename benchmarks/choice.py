"""What it costs to leave the choice of the back end to `backend="auto"`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.table import Row
from benchmarks.timing import paired, ratio
from benchmarks.workloads import flowers, moons, recurrence, rosenbrock, transformer


def measure_choice() -> list[Row]:
    """The time of a call with "auto" over that with the better of the others, on every workload."""
    ratios, best = {}, {}
    for name, (transform, arguments) in subjects().items():
        backends = ("python", "numpy", "auto")
        t = paired({backend: functools.partial(transform(backend=backend), *arguments) for backend in backends})
        best[name] = min("python", "numpy", key=lambda backend: t[backend].median)
        ratios[name] = ratio(t, "auto", best[name])
    worst = max(ratios, key=lambda name: ratios[name])
    figures = ", ".join(f"{name}: {ratios[name]:.2f}x {best[name]}" for name in ratios)
    measured = f"**{ratios[worst]:.2f}x**, {worst} ({figures})"
    return [Row('`backend="auto"`: time over that of the better of "python" and "numpy", at worst', "1.5x", measured)]


def subjects() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """By workload: what makes its gradient, given a back end, and the arguments of the gradient."""
    model, loss = moons(fg.nn.MLP, fg.Value)
    parameters, transformer_loss = transformer()
    classifier, classifier_loss = flowers()
    return {
        **{
            f"Rosenbrock n = {n}": (functools.partial(fg.grad, rosenbrock), (np.linspace(0.5, 1.5, n),))
            for n in (2, 10, 100, 1000)
        },
        "moons": (functools.partial(fg.value_and_grad, loss, wrt=model), ()),
        "transformer": (functools.partial(fg.value_and_grad, transformer_loss, wrt=parameters), ()),
        "recurrence of 1,000 steps": (functools.partial(fg.value_and_grad, recurrence(1_000)), (0.5,)),
        "MLP of iris size": (functools.partial(fg.value_and_grad, classifier_loss, wrt=classifier), ()),
    }
