"""Programs of the GradBench suite, in scalar Python as a user would write them.

What they compute is stated by GradBench (https://github.com/gradbench/gradbench), which took gmm and lstm from ADBench
(Srajer, Kukelova and Fitzgibbon, 2018). Each workload is a function of arrays or lists of numbers, with arguments to
call it with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

import flatgrad as fg

Array = np.ndarray[Any, np.dtype[np.float64]]


class Workload(NamedTuple):
    """A function, and arguments at which it is called."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def total(terms: Any) -> Any:
    """A sum from left to right, without the integer 0 in front."""
    return reduce(lambda a, b: a + b, terms)


def logsumexp(xs: Sequence[Any]) -> Any:
    """The logarithm of a sum of exponentials, with the largest number taken out, as people write it."""
    largest = reduce(fg.maximum, xs)
    return largest + fg.log(total([fg.exp(x - largest) for x in xs]))


def lse(n: int) -> Workload:
    """GradBench's lse: the logarithm of a sum of exponentials of n numbers."""
    return Workload(logsumexp, (np.random.default_rng(0).normal(size=n),))


def gmm_numbers(d: int, k: int, n: int) -> tuple[Array, Array, Array, Array]:
    """Points, and at which weights, means and triangles gmm is called."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(n, d))
    return points, rng.normal(size=k), rng.normal(size=(k, d)), 0.5 * rng.normal(size=(k, d * (d + 1) // 2))


def gmm(d: int, k: int, n: int) -> Workload:
    """The log-likelihood of a mixture of k Gaussians in d dimensions with n points, with a Wishart prior.

    A covariance is given by a triangular matrix: the logarithms of its diagonal, then what lies below, by columns.
    """
    numbers, *arguments = gmm_numbers(d, k, n)
    points = numbers.tolist()
    gamma, m = 1.0, 0
    constant = -n * d * 0.5 * math.log(2 * math.pi)

    def objective(alphas: Any, means: Any, icf: Any) -> Any:
        diagonals = [[fg.exp(row[i]) for i in range(d)] for row in icf]
        sums = [total([row[i] for i in range(d)]) for row in icf]
        result: Any = constant
        for x in points:
            terms = []
            for j in range(k):
                centred = [x[i] - means[j][i] for i in range(d)]
                scaled = [diagonals[j][i] * centred[i] for i in range(d)]
                place = d
                for column in range(d):
                    for row in range(column + 1, d):
                        scaled[row] = scaled[row] + icf[j][place] * centred[column]
                        place += 1
                terms.append(alphas[j] + sums[j] - 0.5 * total([value * value for value in scaled]))
            result = result + logsumexp(terms)
        result = result - n * logsumexp(list(alphas))
        return result + wishart(diagonals, sums, icf)

    def wishart(diagonals: Any, sums: Any, icf: Any) -> Any:
        p = d + m + 1
        out: Any = 0.0
        for j in range(k):
            squares = total([value * value for value in diagonals[j]])
            below = [icf[j][place] * icf[j][place] for place in range(d, d * (d + 1) // 2)]
            frobenius = squares + total(below) if below else squares
            out = out + (0.5 * gamma * gamma * frobenius - m * sums[j])
        lgamma = sum(math.lgamma(0.5 * (p + 1 - i)) for i in range(1, d + 1)) + 0.25 * d * (d - 1) * math.log(math.pi)
        return out - k * (p * d * (math.log(gamma) - 0.5 * math.log(2)) - lgamma)

    return Workload(objective, tuple(arguments))


def lstm_numbers(steps: int, layers: int = 2, width: int = 14) -> tuple[Array, Array, Array, Array]:
    """A sequence, what a network begins with, and at which weights lstm is called."""
    rng = np.random.default_rng(0)
    sequence, start = rng.normal(size=(steps, width)), rng.normal(size=(layers, width))
    return sequence, start, rng.normal(size=(2 * layers, 4 * width)), rng.normal(size=(3, width))


def lstm(steps: int, layers: int = 2, width: int = 14) -> Workload:
    """ADBench's lstm: a network with elementwise gates that predicts the next of a sequence of vectors."""
    numbers, beginning, *arguments = lstm_numbers(steps, layers, width)
    sequence, start = numbers.tolist(), beginning.tolist()

    def cell(weights: Any, bias: Any, hidden: Any, state: Any, inputs: Any) -> Any:
        h = width
        forget = [fg.sigmoid(inputs[i] * weights[i] + bias[i]) for i in range(h)]
        ingate = [fg.sigmoid(hidden[i] * weights[h + i] + bias[h + i]) for i in range(h)]
        outgate = [fg.sigmoid(inputs[i] * weights[2 * h + i] + bias[2 * h + i]) for i in range(h)]
        change = [fg.tanh(hidden[i] * weights[3 * h + i] + bias[3 * h + i]) for i in range(h)]
        state = [state[i] * forget[i] + ingate[i] * change[i] for i in range(h)]
        return [outgate[i] * fg.tanh(state[i]) for i in range(h)], state

    def objective(main: Any, extra: Any) -> Any:
        hidden = [list(zeros) for zeros in start]
        states = [list(zeros) for zeros in start]
        loss: Any = 0.0
        for t in range(steps - 1):
            values: Any = [sequence[t][i] * extra[0][i] for i in range(width)]
            for layer in range(layers):
                hidden[layer], states[layer] = cell(
                    main[2 * layer], main[2 * layer + 1], hidden[layer], states[layer], values
                )
                values = hidden[layer]
            predicted = [values[i] * extra[1][i] + extra[2][i] for i in range(width)]
            norm = fg.log(total([fg.exp(value) for value in predicted]) + 2.0)
            loss = loss + total([sequence[t + 1][i] * (predicted[i] - norm) for i in range(width)])
        return -loss / (width * (steps - 1))

    return Workload(objective, tuple(arguments))


def kmeans_numbers(k: int, n: int, d: int) -> tuple[Array, Array]:
    """Points, and at which centres kmeans is called."""
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(n, d))
    return points, rng.uniform(size=(k, d))


def kmeans(k: int, n: int, d: int) -> Workload:
    """The sum over points of the squared distance to the nearest of k centres."""
    numbers, centres = kmeans_numbers(k, n, d)
    points = numbers.tolist()

    def cost(centres: Any) -> Any:
        nearest = []
        for point in points:
            distances = [
                total([(point[i] - centre[i]) * (point[i] - centre[i]) for i in range(d)]) for centre in centres
            ]
            nearest.append(reduce(fg.minimum, distances))
        return total(nearest)

    return Workload(cost, (centres,))


def det(n: int) -> Workload:
    """A determinant by expansion along the first row, again and again."""

    def expanded(rows: Any) -> Any:
        if len(rows) == 1:
            return rows[0][0]
        result: Any = None
        for column, entry in enumerate(rows[0]):
            minor = [[*row[:column], *row[column + 1 :]] for row in rows[1:]]
            term = entry * expanded(minor)
            result = term if result is None else result - term if column % 2 else result + term
        return result

    def function(matrix: Any) -> Any:
        return expanded([list(row) for row in matrix])

    return Workload(function, (np.random.default_rng(0).normal(size=(n, n)),))


def llsq(n: int, m: int) -> Workload:
    """A sum of squares: a polynomial with m coefficients against the sign, at n places between -1 and 1."""
    places = [-1.0 + 2.0 * i / (n - 1) for i in range(n)]

    def loss(coefficients: Any) -> Any:
        terms = []
        for t in places:
            value = total([coefficient * t**power for power, coefficient in enumerate(coefficients)])
            sign = float(np.sign(t))
            terms.append((sign - value) * (sign - value))
        return 0.5 * total(terms)

    return Workload(loss, (np.random.default_rng(0).normal(size=m),))
