"""The workloads under pytest-benchmark, one group per workload: `pytest benchmarks --benchmark-group-by=group`.

The ratios that docs/performance.md quotes come from `python -m benchmarks`, where candidates take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import flatgrad as fg
from benchmarks.engines import graph_engines, moons_engines
from benchmarks.peers import rosenbrock_peers
from benchmarks.timing import collector_off
from benchmarks.workloads import moons, recurrence, rosenbrock


@pytest.fixture(scope="module")
def array_engines() -> dict[str, Callable[[], Any]]:
    return moons_engines()


@pytest.mark.benchmark(group="moons gradient, collector off")
@pytest.mark.parametrize("engine", ["interpreter", "micrograd"])
def test_moons_on_graphs(benchmark: BenchmarkFixture, engine: str) -> None:
    with collector_off():
        benchmark.pedantic(graph_engines()[engine], rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="moons gradient, collector off")
def test_moons_in_flat_python(benchmark: BenchmarkFixture) -> None:
    model, loss = moons(fg.nn.MLP, fg.Value)
    with collector_off():
        # CPython specialises instructions during the first calls, so the flat code is warmed up for longer.
        benchmark.pedantic(fg.value_and_grad(loss, wrt=model, backend="python"), rounds=5, warmup_rounds=20)


@pytest.mark.benchmark(group="moons gradient on arrays")
@pytest.mark.parametrize(
    "engine",
    [
        "NumPy exact",
        "NumPy fast",
        "native exact",
        "native fast",
        "JAX",
        "CasADi",
        "PyTorch",
        "autograd",
        "NumPy by hand",
        "C by hand",
    ],
)
def test_moons_on_arrays(benchmark: BenchmarkFixture, array_engines: dict[str, Any], engine: str) -> None:
    if engine not in array_engines:
        pytest.skip(f"{engine} is not installed")
    benchmark(array_engines[engine])


@pytest.mark.benchmark(group="moons, from function to kernel")
@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_moons_kernel(benchmark: BenchmarkFixture, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATGRAD_CACHE", "0")
    model, loss = moons(fg.nn.MLP, fg.Value)
    kernel = benchmark.pedantic(lambda: fg.value_and_grad(loss, wrt=model, backend=backend).kernel_for(), rounds=3)
    benchmark.extra_info["equations"] = kernel.stats.equations


@pytest.mark.benchmark(group="from function to kernel, growth")
@pytest.mark.parametrize("steps", [2_500, 25_000])
def test_growth(benchmark: BenchmarkFixture, steps: int) -> None:
    kernel = benchmark.pedantic(
        lambda: fg.value_and_grad(recurrence(steps), backend="python").kernel_for(0.5), rounds=2
    )
    benchmark.extra_info["equations"] = kernel.stats.equations


@pytest.mark.benchmark(group="moons training step")
@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_moons_step(benchmark: BenchmarkFixture, backend: str) -> None:
    model, loss = moons(fg.nn.MLP, fg.Value)
    step = fg.nn.train_step(loss, fg.nn.SGD(1e-3), model, backend=backend)
    step()
    benchmark(step)


@pytest.mark.parametrize("n", [2, 10, 100, 1000])
@pytest.mark.parametrize("engine", ["flatgrad", "JAX", "CasADi", "PyTorch", "autograd", "Numba by hand"])
def test_rosenbrock(benchmark: BenchmarkFixture, engine: str, n: int) -> None:
    benchmark.group = f"Rosenbrock gradient, n = {n}"
    x = np.linspace(0.5, 1.5, n)
    gradient = fg.grad(rosenbrock, backend="auto")
    candidates = {"flatgrad": gradient, **rosenbrock_peers()}
    if engine not in candidates:
        pytest.skip(f"{engine} is not installed")
    np.testing.assert_allclose(benchmark(candidates[engine], x), gradient(x), rtol=1e-9)
