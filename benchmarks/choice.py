"""What leaving the choice of the back end to `backend="auto"` costs, and making a kernel with each back end."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

import flatgrad as fg
from benchmarks.table import Row
from benchmarks.timing import paired, ratio
from benchmarks.workloads import flowers, moons, recurrence, rosenbrock, transformer

BACKENDS = ("python", "numpy", "native")


def measure_choice() -> list[Row]:
    """The time of a call with "auto" over that with the best back end, on every workload, and seconds to compile."""
    ratios, best, seconds = {}, {}, {}
    with mock.patch.dict(os.environ, {"FLATGRAD_CACHE": "0"}):
        for name, (transform, arguments) in subjects().items():
            gradients = {backend: transform(backend=backend) for backend in (*BACKENDS, "auto")}
            kernels = {backend: gradient.kernel_for(*arguments) for backend, gradient in gradients.items()}
            seconds[name] = {backend: kernel.stats.compile_seconds for backend, kernel in kernels.items()}
            t = paired({backend: functools.partial(call, *arguments) for backend, call in gradients.items()})
            best[name] = min(BACKENDS, key=lambda backend: t[backend].median)
            ratios[name] = ratio(t, "auto", best[name])
    worst = max(ratios, key=lambda name: ratios[name])
    figures = ", ".join(f"{name}: {ratios[name]:.2f}x {best[name]}" for name in ratios)
    measured = f"**{ratios[worst]:.2f}x**, {worst} ({figures})"
    compiling = ", ".join(f"{name}: {' / '.join(f'{s:.3g}' for s in seconds[name].values())}" for name in seconds)
    return [
        Row('`backend="auto"`: time over that of the best back end, at worst', "1.5x", measured),
        Row('seconds to compile, without tracing, cold: "python" / "numpy" / "native" / "auto"', "", compiling),
    ]


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
