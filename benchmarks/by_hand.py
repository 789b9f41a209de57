"""The moons gradient written by hand, in NumPy and in C: the bars for generated array code and machine code."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads import moons_data

Array = np.ndarray[Any, np.dtype[np.float64]]
SOURCE = Path(__file__).with_name("moons.c")
PROGRAMS = Path(__file__).with_name("gradbench.c")


def moons_by_hand(points: int = 100) -> Callable[[Array], tuple[float, Array]]:
    """A function from the 337 parameters, in the order of `model.parameters()`, to the loss and its gradient.

    A neuron's bias stands behind its weights, so a layer is one matrix with a row per neuron. Each layer's input has a
    last row of ones, which the biases multiply. The points lie side by side in memory, as there are more of them than
    neurons. All arrays but the result are made once, and every operation writes into one of them.
    """
    X, y = moons_data(points)
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


def moons_in_c(points: int = 100) -> Callable[[Array], tuple[float, Array]] | None:
    """The same in C, compiled for this machine, with the bits of the interpreted graph; None without a C compiler.

    `FLATGRAD_CPU`, which restricts our machine code to what some processors have, restricts this as well.

    It works in arrays whose addresses are looked up once: `ndarray.ctypes` takes a third of the time of a call.
    """
    library = _compiled(SOURCE, f"-DPOINTS={points}")
    if library is None:
        return None
    function = library.moons
    function.restype = ctypes.c_double
    X, y = moons_data(points)
    numbers, gradient = np.empty(337), np.empty(337)
    arrays = np.array(X), -np.array(y, float), numbers, gradient
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    function.held = arrays  # type: ignore[attr-defined]  # they live as long as the function does

    def value_and_grad(parameters: Array) -> tuple[float, Array]:
        numbers[:] = parameters
        return function(*addresses), gradient.copy()

    return value_and_grad


def gradbench_in_c(
    name: str, sizes: tuple[int, ...], points: Array, arguments: Sequence[Array]
) -> Callable[[], tuple[float, list[Array]]] | None:
    """Value and gradients of a program of `gradbench.c`, at fixed arguments; None without a C compiler."""
    library = _compiled(PROGRAMS)
    if library is None:
        return None
    function = getattr(library, name)
    function.restype = ctypes.c_double
    inputs = [np.ascontiguousarray(array, float) for array in (points, *arguments)]
    gradients = [np.empty_like(array) for array in inputs[1:]]
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in [*inputs, *gradients]]
    function.held = inputs, gradients

    def value_and_grad() -> tuple[float, list[Array]]:
        return function(*sizes, *addresses), [gradient.copy() for gradient in gradients]

    return value_and_grad


def _compiled(source: Path, *options: str) -> ctypes.PyDLL | None:
    """A C file as a library, compiled for this machine."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    processor = f"-march={os.environ.get('FLATGRAD_CPU', 'native').replace('generic', 'x86-64')}"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "program.so"
        flags = ["-O3", processor, "-ffp-contract=off", "-shared", "-fPIC", *options]
        subprocess.run([compiler, *flags, str(source), "-o", str(library), "-lm"], check=True)
        return ctypes.PyDLL(str(library))
