"""What leaving the choice of the back end to `backend="auto"` costs, and making a kernel with each back end."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

import flatgrad as fg
from benchmarks.gradbench import det
from benchmarks.table import Row
from benchmarks.timing import paired, quick, ratio, sized
from benchmarks.workloads import (
    binomial_tree,
    flowers,
    gaussian_process,
    moons,
    recurrence,
    rosenbrock,
    tangle,
    transformer,
)

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


def measure_irregular() -> list[Row]:
    """Programs with little repetition: the time to make them under "auto", and their speed over flat Python."""
    sizes = (3, 4, 3, 3, 20) if quick() else (7, 8, 20, 50, 15_000)
    programs = [
        ("determinant by minors, n = 7", "2 s (want 0.8)", *det(sizes[0])),
        ("determinant by minors, n = 8", "20 s (want 8)", *det(sizes[1])),
        ("Cholesky decomposition of 20 points", "", *gaussian_process(sizes[2])),
        ("binomial tree of 50 steps", "", *binomial_tree(sizes[3])),
        ("straight line of 10^5 equations", "", tangle(sizes[4]), ([0.5, 0.25, 0.125],)),
    ]
    rows = []
    with mock.patch.dict(os.environ, {"FLATGRAD_CACHE": "0"}):
        for name, target, function, arguments in programs:
            gradients = {backend: fg.value_and_grad(function, backend=backend) for backend in ("auto", "python")}
            start = time.process_time()
            kernel = gradients["auto"].kernel_for(*arguments)
            seconds = time.process_time() - start
            t = paired({backend: functools.partial(f, *arguments) for backend, f in gradients.items()}, rounds=3)
            rows.append(
                Row(
                    f"{name}, gradient: CPU time from function to kernel / speed over flat Python",
                    target,
                    f"**{seconds:.2f} s / {ratio(t, 'python', 'auto'):.0f}x** ({kernel.stats.equations:,} equations, "
                    f"{kernel.backend}, {1e6 * t['auto'].median:.1f} µs a call)",
                )
            )
    return rows


def subjects() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """By workload: what makes its gradient, given a back end, and the arguments of the gradient."""
    model, loss = moons(fg.nn.MLP, fg.Value)
    parameters, transformer_loss = transformer()
    classifier, classifier_loss = flowers()
    return {
        **{
            f"Rosenbrock n = {n}": (functools.partial(fg.grad, rosenbrock), (np.linspace(0.5, 1.5, n),))
            for n in ((2, 5) if quick() else (2, 10, 100, 1000))
        },
        "moons": (functools.partial(fg.value_and_grad, loss, wrt=model), ()),
        "transformer": (functools.partial(fg.value_and_grad, transformer_loss, wrt=parameters), ()),
        "recurrence of 1,000 steps": (functools.partial(fg.value_and_grad, recurrence(sized(1_000, 10))), (0.5,)),
        "MLP of iris size": (functools.partial(fg.value_and_grad, classifier_loss, wrt=classifier), ()),
    }
