"""Machine code: what a gradient and a training step take, and making the kernel, with and without the cache.

`python -m benchmarks.native WORKLOAD` is a process that makes one kernel.
"""

from __future__ import annotations

import functools
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.engines import moons_times
from benchmarks.peers import rosenbrock_peers
from benchmarks.table import Row
from benchmarks.timing import Timing, paired, quick, ratio, repeated, timed
from benchmarks.workloads import (
    causal_attention,
    lstm,
    moons,
    moons_at,
    moons_data,
    rosenbrock,
    transformer,
    transformer_at,
)
from flatgrad.compiler.loops.grammar import Statement, flattened
from flatgrad.compiler.machine.functions import compile_natively
from flatgrad.compiler.machine.llvm import emit_llvm
from flatgrad.compiler.machine.native import assemble, host
from flatgrad.compiler.machine.operations import Machine

#: Peers that are differentiated by hand: like any function's, the first one's results are new arrays.
NUMBA, REUSED = "Numba by hand", "Numba by hand, result reused"


def measure_native() -> list[Row]:
    """One moons gradient from Python, ndarray in and out, against JAX, C by hand, and fast mode."""
    t = moons_times()
    native, workload = t["native exact"], "moons gradient from Python, ndarray in and out: machine code, exact, "
    rows = []
    if "JAX" in t:
        rows.append(
            Row(
                f"{workload}vs JAX jit",
                "2x faster (want 4x)",
                f"**{ratio(t, 'JAX', 'native exact'):.2f}x** ({us(t['JAX'])} / {us(native)} µs)",
            )
        )
    if "C by hand" in t:
        rows.append(
            Row(
                f"{workload}time over that of C by hand",
                "1.3x (want 1x)",
                f"**{ratio(t, 'native exact', 'C by hand'):.2f}x** ({us(native)} / {us(t['C by hand'])} µs)",
            )
        )
    rows.append(
        Row(
            "the same, machine code: fast mode vs exact",
            "no slower (want 1.5x)",
            f"**{ratio(t, 'native exact', 'native fast'):.2f}x** ({us(native)} / {us(t['native fast'])} µs)",
        )
    )
    return rows  # fmt: skip


def measure_making() -> list[Row]:
    """From function to native kernel, each in its own process, and what a call of the transformer's takes."""
    cold, cached = making("moons")
    cold_transformer, _ = making("transformer")
    numbers = np.array(transformer(value=float)[0])
    function = fg.value_and_grad(transformer_at, backend="native")
    t = paired({"gradient": functools.partial(function, numbers)})
    return [
        Row("moons: from function to native kernel, cold / from cache", "1.0 s / 0.4 s (want 0.5 / 0.2)",
            f"**{cold:.2f} s / {cached:.2f} s**"),
        Row("transformer on scalars, 8 positions: from function to native kernel, cold", "3 s (want 1)",
            f"**{cold_transformer:.2f} s**"),
        Row("transformer on scalars, 8 positions: gradient in machine code, ndarray in and out", "50 µs (want 20)",
            f"**{us(t['gradient'])} µs**"),
    ]  # fmt: skip


def measure_sequences() -> list[Row]:
    """LLVM's time for programs with many statements: the gradients of an LSTM on scalars, by its steps."""
    figures = []
    for steps in (8, 16) if quick() else (64, 128, 256):
        (arrays,) = fg.value_and_grad(lstm(), backend="numpy").kernel_for(np.linspace(-1.0, 1.0, steps)).stages.arrays
        code = emit_llvm(arrays, Machine(host().lanes, host().shortcuts, {}, host().variants))
        seconds = timed(functools.partial(assemble, code.assembly), 1)
        functions = code.assembly.count("\ndefine")
        figures.append(f"{steps} steps: {seconds:.2f} s, {len(arrays.statements)} statements, {functions} functions")
    return [Row("LSTM on scalars, gradient: LLVM's time", "linear", "; ".join(figures))]


def measure_triangles() -> list[Row]:
    """Causal attention: its triangles as rows that grow, and as lanes of one dimension that read through tables."""
    rows = []
    for positions, width in ((4, 2),) if quick() else ((8, 4), (16, 8), (64, 16)):
        arguments = np.random.default_rng(positions).normal(size=(3, positions, width))
        kernel = fg.value_and_grad(causal_attention, argnums=(0, 1, 2), backend="native").kernel_for(*arguments)
        (arrays,) = kernel.stages.arrays
        statements = [flattened(s) if isinstance(s, Statement) else s for s in arrays.statements]
        candidates = {}
        for name, program in (("rows", arrays), ("tables", replace(arrays, statements=statements))):
            memory, run = compile_natively(program).workspace()
            memory[: program.inputs] = arguments.ravel()
            candidates[name] = run
        t = paired(candidates)
        rows.append(
            Row(
                f"causal attention, {positions} positions of {width} numbers, gradient: time over that through tables",
                "0.8x",
                f"**{ratio(t, 'rows', 'tables'):.2f}x** ({us(t['rows'])} / {us(t['tables'])} µs)",
            )
        )
    return rows


def making(workload: str) -> tuple[float, float]:
    """Seconds from function to native kernel, with an empty cache and with a filled one."""
    cold, cached = [], []
    command = [sys.executable, "-m", "benchmarks.native", workload]
    for _ in repeated(5):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "FLATGRAD_CACHE": "1", "FLATGRAD_CACHE_DIR": folder}
            for seconds in (cold, cached):
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                seconds.append(float(done.stdout))
    return statistics.median(cold), statistics.median(cached)


def measure_native_training() -> list[Row]:
    """A step of `nn.fit` over a gradient of the same loss, taking turns."""
    X, labels = moons_data()
    model, _ = moons(fg.nn.MLP, fg.Value)
    numbers = np.array([p.data for p in model.parameters()])
    gradient = functools.partial(fg.value_and_grad(moons_at, backend="native"), numbers)

    def loss(X: Any, y: Any) -> Any:
        losses = [(1 + -label * model(x)).relu() for x, label in zip(X, y, strict=True)]
        return sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())

    steps = 20 if quick() else 10_000
    optimizer = fg.nn.SGD(fg.nn.linear_decay(1.0, 0.1, steps))
    alone, fitted = [], []
    for _ in repeated(7):
        for parameter, number in zip(model.parameters(), numbers.tolist(), strict=True):
            parameter.data = number
        alone.append(timed(gradient, steps))
        history = fg.nn.fit(loss, model, optimizer, X, labels, steps=steps, progress=False, backend="native")
        fitted.append(history.seconds / steps)
    times = statistics.median(b / a for a, b in zip(alone, fitted, strict=True))
    figures = f"{1e6 * statistics.median(fitted):.2f} / {1e6 * statistics.median(alone):.2f} µs"
    return [
        Row(f"moons, {steps:,} steps of `nn.fit` in machine code, SGD with linear decay: a step over a gradient",
            "1.2x (want 1.05x)", f"**{times:.2f}x** ({figures})"),
    ]  # fmt: skip


def measure_rosenbrock() -> list[Row]:
    """The gradient of the Rosenbrock function, ndarray in and out, with the back end that "auto" chooses."""
    rows = []
    targets = {2: "3x (want 1.5x)", 10: "3x (want 1.5x)", 100: "2x (want 1.2x)", 1000: "2x (want 1.2x)"}
    for n, target in list(targets.items())[: 2 if quick() else None]:
        x = np.linspace(0.5, 1.5, n)
        engines = {"flatgrad": fg.grad(rosenbrock, backend="auto"), **rosenbrock_peers()}
        expected = fg.grad(rosenbrock, backend="python")(x)
        candidates = {name: functools.partial(engine, x) for name, engine in engines.items()}
        for name, function in candidates.items():
            np.testing.assert_allclose(function(), expected, rtol=1e-9, err_msg=name)
        t = paired(candidates)
        peers = sorted((name for name in t if name not in ("flatgrad", NUMBA, REUSED)), key=lambda name: t[name].median)
        figures = ", ".join(f"{name} {us(timing)}" for name, timing in t.items())
        workload = f"Rosenbrock gradient, ndarray in and out, n = {n}"
        versus = f"**{ratio(t, peers[0], 'flatgrad'):.1f}x**, {peers[0]} " if peers else ""
        rows.append(Row(f"{workload}: vs the fastest of JAX, CasADi, PyTorch and autograd", "faster",
                        f"{versus}(µs: {figures})"))  # fmt: skip
        if NUMBA in t:
            again = f"{ratio(t, 'flatgrad', REUSED):.2f}x"
            rows.append(Row(f"{workload}: time over that of Numba by hand", target,
                            f"**{ratio(t, 'flatgrad', NUMBA):.2f}x** ({again} where Numba's calls all write to the "
                            "same array)"))  # fmt: skip
    return rows


def measure_captured() -> list[Row]:
    """A call of a gradient of ten numbers in machine code, where the function reads things from outside."""
    scale, shift, power, offsets, table = 100.0, 1.0, 2.0, [0.0, 0.5], {"weight": 1.0}

    def captures(x: Any) -> Any:
        inner = sum(scale * (b - a**power) ** 2 + (shift - a) ** 2 for a, b in itertools.pairwise(x))
        return inner * table["weight"] + offsets[0]

    model, loss = moons(fg.nn.MLP, fg.Value)
    x = np.linspace(0.5, 1.5, 10)
    nothing, five = fg.grad(rosenbrock, backend="native"), fg.grad(captures, backend="native")
    reads_model = fg.value_and_grad(loss, wrt=model, backend="native")
    t = paired({"nothing": functools.partial(nothing, x), "five": functools.partial(five, x), "moons": reads_model,
                "empty": functools.partial(np.empty, 10), "add": functools.partial(np.add, x, x)})  # fmt: skip
    return [
        Row("a call of a gradient of ten numbers in machine code: nothing captured / five things captured",
            "0.15 / 0.2 µs", f"**{us(t['nothing'])} / {us(t['five'])} µs** (moons, a model of 33 neurons: "
            f"{us(t['moons'])} µs; for this processor's clock: `numpy.empty(10)` {us(t['empty'])} µs, `numpy.add` of "
            f"ten numbers {us(t['add'])} µs)"),
    ]  # fmt: skip


def measure_calls() -> list[Row]:
    """A call of a gradient of ten numbers in machine code, with arguments of several structures."""
    x = np.linspace(0.5, 1.5, 10)
    shorter, numbers = x[:9].copy(), x.tolist()

    def native(function: Any, **options: Any) -> Any:
        return fg.grad(function, backend="native", **options)

    two, four = native(rosenbrock), native(rosenbrock)

    def alternating() -> None:
        two(x)
        two(shorter)

    def four_structures() -> None:
        four(x)
        four(shorter)
        four(numbers)
        four(tuple(numbers))

    static = native(lambda x, n: rosenbrock(x) * n, static_argnames="n")
    nested = native(lambda pair: rosenbrock(pair["a"]) * pair["b"])
    named = native(lambda x, scale: rosenbrock(x) * scale)
    calls = {
        "an array": functools.partial(native(rosenbrock), x),
        "two shapes by turns": alternating,
        "four structures by turns": four_structures,
        "a list": functools.partial(native(rosenbrock), numbers),
        "ints in a list": functools.partial(native(rosenbrock), [1] * 10),
        "a tuple": functools.partial(native(rosenbrock), tuple(numbers)),
        "a dict of a list and a number": functools.partial(nested, {"a": numbers, "b": 2.0}),
        "`has_aux`, with a dict": functools.partial(native(lambda x: (rosenbrock(x), {"a": x[0]}), has_aux=True), x),
        "a static argument": functools.partial(static, x, 3),
        "an argument by name": functools.partial(named, x, scale=2.0),
        "a keyword-only argument": functools.partial(native(lambda x, *, scale: rosenbrock(x) * scale), x, scale=2.0),
    }
    per_call = {"two shapes by turns": 2, "four structures by turns": 4}
    t = paired(calls)
    figures = ", ".join(f"{name} {1e6 * t[name].median / per_call.get(name, 1):.2f}" for name in calls)
    rows = [Row("a call of a gradient of ten numbers in machine code, by structure", "1 µs", f"µs: {figures}")]
    return rows + measure_thousand()


def measure_thousand() -> list[Row]:
    """A call with a thousand numbers in machine code: of the function itself, on numbers and as a part of a graph."""
    x = np.linspace(0.5, 1.5, 1000)
    calls = {
        "`fg.jit`": fg.jit(lambda x: x * x + 1.0, backend="native"),
        "`fg.value_and_grad` of the sum": fg.value_and_grad(lambda x: fg.sum(x * x + 1.0), backend="native"),
        "`fg.compile`, which makes `Value`s": fg.compile(lambda x: x * x + 1.0, backend="native"),
    }
    t = paired({name: functools.partial(call, x) for name, call in calls.items()})
    figures = ", ".join(f"{name} {us(t[name])}" for name in calls)
    return [Row("a call with an array of 1,000 numbers that returns as many", "3 µs", f"µs: {figures}")]


def us(timing: Timing) -> str:
    """The median in microseconds."""
    return f"{1e6 * timing.median:.3g}" if timing.median < 1e-4 else f"{1e6 * timing.median:.0f}"


def main(workload: str) -> None:
    """Make one kernel; print the seconds."""
    wrt, loss = moons(fg.nn.MLP, fg.Value) if workload == "moons" else transformer()
    start = time.perf_counter()
    fg.value_and_grad(loss, wrt=wrt, backend="native").kernel_for()
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1])
