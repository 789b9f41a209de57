"""The moons gradient written by hand, in NumPy and in C: the bars for generated array code and machine code."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads import moons_data

Array = np.ndarray[Any, np.dtype[np.float64]]
SOURCE = Path(__file__).with_name("moons.c")


def moons_by_hand(points: int = 100) -> Callable[[Array], tuple[float, Array]]:
    """A function from the 337 parameters, in the order of `model.parameters()`, to the loss and its gradient.

    A neuron's bias stands behind its weights, so a layer is one matrix with a row per neuron. Each layer's input has a
    last column of ones, which the biases multiply; the arrays of the hidden layers are made once, ones and all.
    """
    X, y = moons_data(points)
    inputs, labels = np.column_stack([X, np.ones(points)]), np.array(y, float)
    hidden1, hidden2 = np.ones((points, 17)), np.ones((points, 17))
    active1, active2 = hidden1[:, :16], hidden2[:, :16]

    def value_and_grad(parameters: Array) -> tuple[float, Array]:
        first, second, last = parameters[:48].reshape(16, 3), parameters[48:320].reshape(16, 17), parameters[320:]
        np.maximum(inputs @ first.T, 0.0, out=active1)
        np.maximum(hidden1 @ second.T, 0.0, out=active2)
        margins = 1.0 - labels * (hidden2 @ last)
        missed = margins > 0.0
        value = float(margins @ missed) / points + 1e-4 * float(parameters @ parameters)

        score_bar = labels * missed * (-1.0 / points)
        hidden2_bar = np.outer(score_bar, last[:16]) * (active2 > 0.0)
        hidden1_bar = (hidden2_bar @ second[:, :16]) * (active1 > 0.0)
        gradient = 2e-4 * parameters
        gradient[:48] += (hidden1_bar.T @ inputs).ravel()
        gradient[48:320] += (hidden2_bar.T @ hidden1).ravel()
        gradient[320:] += score_bar @ hidden2
        return value, gradient

    return value_and_grad


def moons_in_c(points: int = 100) -> Callable[[Array], tuple[float, Array]] | None:
    """The same in C, compiled for this machine, with the bits of the interpreted graph; None without a C compiler.

    It works in arrays whose addresses are looked up once: `ndarray.ctypes` takes a third of the time of a call.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "moons.so"
        options = ["-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC", f"-DPOINTS={points}"]
        subprocess.run([compiler, *options, str(SOURCE), "-o", str(library)], check=True)
        function = ctypes.PyDLL(str(library)).moons
    function.restype = ctypes.c_double
    X, y = moons_data(points)
    given, gradient = np.empty(337), np.empty(337)
    arrays = np.array(X), -np.array(y, float), given, gradient
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    function.held = arrays  # type: ignore[attr-defined]  # they live as long as the function does

    def value_and_grad(parameters: Array) -> tuple[float, Array]:
        given[:] = parameters
        return function(*addresses), gradient.copy()

    return value_and_grad
