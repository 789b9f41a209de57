"""The moons gradient as a NumPy programmer writes it by hand: the bar for generated array code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workloads import moons_data

Array = np.ndarray[Any, np.dtype[np.float64]]


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
