"""Six sparse problems of any size, with equality constraints.

They are problems 5.1 to 5.6 of L. Lukšan and J. Vlček, "Sparse and partially separable test problems for unconstrained
and equality constrained optimization", Technical Report V-767, Academy of Sciences of the Czech Republic, 1999. There
variables are counted from 1, here from 0. The objectives are chains of known functions: those of Rosenbrock, Wood and
Powell (the singular one), that of Cragg and Levy, and two of Broyden.

Each is minimised subject to its constraints being 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import flatgrad as fg

Array = np.ndarray[Any, np.dtype[np.float64]]

#: The exponent of the generalised functions of Broyden.
_POWER = 7.0 / 3.0


class Problem(NamedTuple):
    """A problem of any size.

    Attributes:
        number: the number in the report.
        title: what the report calls it.
        objective: from a sequence of numbers to the number that is minimised.
        constraints: from the same sequence to a list of numbers that shall be 0.
        start: from the number of variables, a multiple of 4 and at least 8, to the starting point.
    """

    number: str
    title: str
    objective: Callable[[Any], Any]
    constraints: Callable[[Any], list[Any]]
    start: Callable[[int], Array]


def chained_rosenbrock(x: Any) -> Any:
    """The objective of problem 5.1."""
    return sum(100.0 * (x[i] ** 2 - x[i + 1]) ** 2 + (x[i] - 1.0) ** 2 for i in range(len(x) - 1))


def trigonometric_exponential(x: Any) -> list[Any]:
    """The constraints of problem 5.1: n - 2, of three neighbours each."""
    return [
        3.0 * x[k + 1] ** 3 + 2.0 * x[k + 2] - 5.0 + fg.sin(x[k + 1] - x[k + 2]) * fg.sin(x[k + 1] + x[k + 2])
        + 4.0 * x[k + 1] - x[k] * fg.exp(x[k] - x[k + 1]) - 3.0
        for k in range(len(x) - 2)
    ]  # fmt: skip


def chained_wood(x: Any) -> Any:
    """The objective of problem 5.2."""
    total = 0.0
    for i in range(0, len(x) - 3, 2):
        total += 100.0 * (x[i] ** 2 - x[i + 1]) ** 2 + (x[i] - 1.0) ** 2
        total += 90.0 * (x[i + 2] ** 2 - x[i + 3]) ** 2 + (x[i + 2] - 1.0) ** 2
        total += 10.0 * (x[i + 1] + x[i + 3] - 2.0) ** 2 + (x[i + 1] - x[i + 3]) ** 2 / 10.0
    return total


def broyden_banded(x: Any) -> list[Any]:
    """The constraints of problem 5.2: n - 7, of a number and up to seven before it."""
    return [
        (2.0 + 5.0 * x[k + 5] ** 2) * x[k + 5] + 1.0 + sum(x[i] * (1.0 + x[i]) for i in range(max(0, k - 5), k + 2))
        for k in range(len(x) - 7)
    ]


def chained_powell(x: Any) -> Any:
    """The objective of problem 5.3."""
    total = 0.0
    for i in range(0, len(x) - 3, 2):
        total += (x[i] + 10.0 * x[i + 1]) ** 2 + 5.0 * (x[i + 2] - x[i + 3]) ** 2
        total += (x[i + 1] - 2.0 * x[i + 2]) ** 4 + 10.0 * (x[i] - x[i + 3]) ** 4
    return total


def simplified_trigonometric_exponential(x: Any) -> list[Any]:
    """The constraints of problem 5.3: one of the first two numbers, and one of the last two."""
    return [
        3.0 * x[0] ** 3 + 2.0 * x[1] - 5.0 + fg.sin(x[0] - x[1]) * fg.sin(x[0] + x[1]),
        4.0 * x[-1] - x[-2] * fg.exp(x[-2] - x[-1]) - 3.0,
    ]


def chained_cragg_levy(x: Any) -> Any:
    """The objective of problem 5.4."""
    total = 0.0
    for i in range(0, len(x) - 3, 2):
        total += (fg.exp(x[i]) - x[i + 1]) ** 4 + 100.0 * (x[i + 1] - x[i + 2]) ** 6
        total += fg.tan(x[i + 2] - x[i + 3]) ** 4 + x[i] ** 8 + (x[i + 3] - 1.0) ** 2
    return total


def tridiagonal(x: Any) -> list[Any]:
    """The constraints of problem 5.4: n - 2, of three neighbours each."""
    return [
        8.0 * x[k + 1] * (x[k + 1] ** 2 - x[k]) - 2.0 * (1.0 - x[k + 1]) + 4.0 * (x[k + 1] - x[k + 2] ** 2)
        for k in range(len(x) - 2)
    ]


def broyden_tridiagonal(x: Any) -> Any:
    """The objective of problem 5.5."""
    padded = [0.0, *x, 0.0]
    return sum(
        abs((3.0 - 2.0 * padded[i]) * padded[i] - padded[i - 1] - padded[i + 1] + 1.0) ** _POWER
        for i in range(1, len(x) + 1)
    )


def five_diagonal(x: Any) -> list[Any]:
    """The constraints of problem 5.5: n - 4, of five neighbours each."""
    return [
        8.0 * x[k + 2] * (x[k + 2] ** 2 - x[k + 1]) - 2.0 * (1.0 - x[k + 2]) + 4.0 * (x[k + 2] - x[k + 3] ** 2)
        + x[k + 1] ** 2 - x[k] + x[k + 3] - x[k + 4] ** 2
        for k in range(len(x) - 4)
    ]  # fmt: skip


def generalized_broyden_banded(x: Any) -> Any:
    """The objective of problem 5.6."""
    n = len(x)
    return sum(
        abs((2.0 + 5.0 * x[i] ** 2) * x[i] + 1.0
            + sum(x[j] * (1.0 + x[j]) for j in range(max(0, i - 5), min(n, i + 2)))) ** _POWER
        for i in range(n)
    )  # fmt: skip


def exponential(x: Any) -> list[Any]:
    """The constraints of problem 5.6: one for each odd place that has two neighbours."""
    return [
        4.0 * x[k] - (x[k - 1] - x[k + 1]) * fg.exp(x[k - 1] - x[k] - x[k + 1]) - 3.0 for k in range(1, len(x) - 1, 2)
    ]


def _repeating(*numbers: float) -> Callable[[int], Array]:
    """A starting point that repeats these numbers."""
    return lambda n: np.resize(np.array(numbers), n)


#: The six problems, in the order of the report.
PROBLEMS: list[Problem] = [
    Problem("5.1", "chained Rosenbrock function with trigonometric-exponential constraints",
            chained_rosenbrock, trigonometric_exponential, _repeating(-1.2, 1.0)),
    Problem("5.2", "chained Wood function with Broyden banded constraints",
            chained_wood, broyden_banded, _repeating(-2.0, 1.0)),
    Problem("5.3", "chained Powell singular function with simplified trigonometric-exponential constraints",
            chained_powell, simplified_trigonometric_exponential, _repeating(3.0, -1.0, 0.0, 1.0)),
    Problem("5.4", "chained Cragg-Levy function with tridiagonal constraints",
            chained_cragg_levy, tridiagonal, _repeating(1.0, 2.0, 2.0, 2.0)),
    Problem("5.5", "generalized Broyden tridiagonal function with five-diagonal constraints",
            broyden_tridiagonal, five_diagonal, _repeating(-1.0)),
    Problem("5.6", "generalized Broyden banded function with exponential constraints",
            generalized_broyden_banded, exponential, _repeating(3.0)),
]  # fmt: skip
