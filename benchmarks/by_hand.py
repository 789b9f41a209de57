"""Gradients written by hand, in NumPy and in C: the bars for generated array code and machine code."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gradbench import Array, gmm_numbers, kmeans_numbers, lstm_numbers
from benchmarks.recurrences import returns
from benchmarks.workloads import moons_data


def moons_by_hand(points: int | None = None) -> Callable[[Array], tuple[float, Array]]:
    """A function from the 337 parameters, in the order of `model.parameters()`, to the loss and its gradient.

    A neuron's bias stands behind its weights, so a layer is one matrix with a row per neuron. Each layer's input has a
    last row of ones, which the biases multiply. The points lie side by side in memory, as there are more of them than
    neurons. All arrays but the result are made once, and every operation writes into one of them.
    """
    X, y = moons_data(points)
    points = len(X)
    inputs = np.vstack([np.array(X).T, np.ones(points)])
    minus = -np.array(y, float)
    to_score = minus / points
    hidden1, hidden2 = np.ones((17, points)), np.ones((17, points))
    active1, active2 = hidden1[:16], hidden2[:16]
    hidden1_bar, hidden2_bar, positive = np.empty((16, points)), np.empty((16, points)), np.empty((16, points), bool)
    margins, missed, score_bar = np.empty(points), np.empty(points, bool), np.empty(points)
    first_bar, second_bar = np.empty((16, 3)), np.empty((16, 17))
    inputs_turned, hidden1_turned = inputs.T, hidden1.T
    dot, maximum, multiply, greater = np.dot, np.maximum, np.multiply, np.greater  # a look-up of `np.` costs 30 ns

    def value_and_grad(parameters: Array) -> tuple[float, Array]:
        first, second, last = parameters[:48].reshape(16, 3), parameters[48:320].reshape(16, 17), parameters[320:]
        maximum(dot(first, inputs, active1), 0.0, out=active1)
        maximum(dot(second, hidden1, active2), 0.0, out=active2)
        multiply(dot(last, hidden2, margins), minus, margins)
        np.add(margins, 1.0, margins)
        greater(margins, 0.0, missed)
        value = float(dot(margins, missed)) / points + 1e-4 * float(dot(parameters, parameters))

        multiply(to_score, missed, score_bar)
        multiply(parameters[320:336, None], score_bar, hidden2_bar)
        multiply(hidden2_bar, greater(active2, 0.0, positive), hidden2_bar)
        dot(second[:, :16].T, hidden2_bar, hidden1_bar)
        multiply(hidden1_bar, greater(active1, 0.0, positive), hidden1_bar)
        gradient = 2e-4 * parameters
        gradient[:48] += dot(hidden1_bar, inputs_turned, first_bar).reshape(48)
        gradient[48:320] += dot(hidden2_bar, hidden1_turned, second_bar).reshape(272)
        gradient[320:] += dot(hidden2, score_bar)
        return value, gradient

    return value_and_grad


@functools.cache
def library(name: str, *options: str) -> ctypes.PyDLL | None:
    """The file `name` beside this one, compiled for this machine by gcc; None without a C compiler.

    `FLATGRAD_CPU`, which restricts our machine code to what some processors have, restricts this as well.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "library.so"
        processor = f"-march={os.environ.get('FLATGRAD_CPU', 'native').replace('generic', 'x86-64')}"
        source = str(Path(__file__).with_name(name))
        command = [compiler, "-O3", processor, *options, "-shared", "-fPIC", source, "-o", str(target), "-lm"]
        subprocess.run(command, check=True)
        return ctypes.PyDLL(str(target))


def moons_in_c(points: int | None = None) -> Callable[[Array], tuple[float, Array]] | None:
    """The same in C, compiled for this machine, with the bits of the interpreted graph; None without a C compiler."""
    X, y = moons_data(points)
    compiled = library("moons.c", "-ffp-contract=off", f"-DPOINTS={len(X)}")
    if compiled is None:
        return None
    call = caller(compiled.moons, [np.array(X), -np.array(y, float)], [(337,)])

    def value_and_grad(parameters: Array) -> tuple[float, Array]:
        value, (gradient,) = call(parameters)
        return value, gradient

    return value_and_grad


def gradbench_in_c(name: str, sizes: Sequence[int]) -> Callable[..., tuple[float, tuple[Array, ...]]] | None:
    """The program `name` of `benchmarks.gradbench` in C, of some sizes, with its gradients; None without a C compiler.

    Sums are split and multiplications contracted as gcc likes it, so the results are those of the graph to rounding.
    """
    compiled = library("gradbench.c")
    if compiled is None:
        return None
    held: list[Array] = []
    integers = list(sizes)
    shapes: list[tuple[int, ...]]
    if name == "gmm":
        d, k, _ = sizes
        held = [gmm_numbers(*sizes)[0], np.empty(3 * d * k + 2 * k)]
        shapes = [(k,), (k, d), (k, d * (d + 1) // 2)]
    elif name == "lstm":
        steps, layers, width = sizes
        held = [*lstm_numbers(*sizes)[:2], np.empty((steps * (7 * layers + 2) + 2 * layers + 1) * width)]
        shapes = [(2 * layers, 4 * width), (3, width)]
    elif name == "kmeans":
        k, _, d = sizes
        held, shapes = [kmeans_numbers(*sizes)[0]], [(k, d)]
    elif name == "llsq":
        held, shapes = [np.empty(sizes[1])], [(sizes[1],)]
    else:
        shapes = [(sizes[0],) * (2 if name == "det" else 1)]
    return caller(getattr(compiled, name), held, shapes, integers)


def recurrence_in_c(name: str, sizes: Sequence[int]) -> Callable[..., tuple[float, tuple[Array, ...]]] | None:
    """The program `name` of `benchmarks.recurrences` in C, with its gradient; None if there is none, or no compiler."""
    compiled = library("recurrences.c")
    if compiled is None or name not in ("pendulum", "garch"):
        return None
    (count,) = sizes
    if name == "garch":
        return caller(compiled.garch, [returns(count), np.empty(count)], [(3,)], [count])
    return caller(compiled.pendulum, [np.empty(8 * count)], [(4,)], [count])


def caller(
    function: Any, held: Sequence[Array], shapes: Sequence[tuple[int, ...]], integers: Sequence[int] = ()
) -> Callable[..., tuple[float, tuple[Array, ...]]]:
    """A C function of integers, of arrays that stay, of inputs of some shapes and of as many gradients, from Python.

    It works in arrays whose addresses are looked up once: `ndarray.ctypes` takes a third of the time of a short call.
    """
    inputs, gradients = ([np.empty(shape) for shape in shapes] for _ in range(2))
    arrays = [*held, *inputs, *gradients]
    arguments = [*map(ctypes.c_long, integers), *(ctypes.c_void_p(array.ctypes.data) for array in arrays)]
    function.restype = ctypes.c_double
    function.held = arrays  # they live as long as the function does

    def value_and_grad(*numbers: Array) -> tuple[float, tuple[Array, ...]]:
        for array, values in zip(inputs, numbers, strict=True):
            array[:] = values
        value = function(*arguments)
        return value, tuple([gradient.copy() for gradient in gradients])

    return value_and_grad
