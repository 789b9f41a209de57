"""Twenty small problems with constraints, and their solutions.

They are from W. Hock and K. Schittkowski, "Test Examples for Nonlinear Programming Codes", Lecture Notes in Economics
and Mathematical Systems 187, Springer 1981, by their numbers there. Variables are counted from 0 here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flatgrad as fg


class Problem(NamedTuple):
    """A problem: minimise the objective such that the constraints hold.

    Attributes:
        number: the number in the book.
        objective: from a sequence of numbers to the number that is minimised.
        start: the starting point.
        minimum: the least value of the objective.
        equal: to numbers that shall be 0, if there are any.
        positive: to numbers that shall not be negative, if there are any.
        bounds: the least and the greatest number for each variable, if there are any.
    """

    number: int
    objective: Callable[[Any], Any]
    start: Sequence[float]
    minimum: float
    equal: Callable[[Any], list[Any]] | None = None
    positive: Callable[[Any], list[Any]] | None = None
    bounds: Sequence[tuple[float | None, float | None]] | None = None


def rosenbrock(x: Any) -> Any:
    """The objective of problem 1."""
    return 100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2


def distance(x: Any) -> Any:
    """The objective of problems 14 and 22: the squared distance from the point (2, 1)."""
    return (x[0] - 2.0) ** 2 + (x[1] - 1.0) ** 2


def volume(x: Any) -> Any:
    """The objective of problems 29 and 36."""
    return -x[0] * x[1] * x[2]


def quadratic(x: Any) -> Any:
    """The objective of problem 43, of Rosen and Suzuki."""
    squares = x[0] ** 2 + x[1] ** 2 + 2.0 * x[2] ** 2 + x[3] ** 2
    return squares - 5.0 * x[0] - 5.0 * x[1] - 21.0 * x[2] + 7.0 * x[3]


def rosen_suzuki(x: Any) -> list[Any]:
    """The constraints of problem 43."""
    a, b, c, d = x
    return [
        8.0 - a**2 - b**2 - c**2 - d**2 - a + b - c + d,
        10.0 - a**2 - 2.0 * b**2 - c**2 - 2.0 * d**2 + a + d,
        5.0 - 2.0 * a**2 - b**2 - c**2 - 2.0 * a + b + d,
    ]


def beale(x: Any) -> Any:
    """The objective of problem 35."""
    a, b, c = x
    return 9.0 - 8.0 * a - 6.0 * b - 4.0 * c + 2.0 * a**2 + 2.0 * b**2 + c**2 + 2.0 * a * b + 2.0 * a * c


_ROOT3 = math.sqrt(3.0)

#: The twenty problems, in the order of their numbers.
PROBLEMS: list[Problem] = [
    Problem(1, rosenbrock, (-2.0, 1.0), 0.0, bounds=[(None, None), (-1.5, None)]),
    Problem(5, lambda x: fg.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1.0, (0.0, 0.0),
            -_ROOT3 / 2.0 - math.pi / 3.0, bounds=[(-1.5, 4.0), (-3.0, 3.0)]),
    Problem(6, lambda x: (1.0 - x[0]) ** 2, (-1.2, 1.0), 0.0, equal=lambda x: [10.0 * (x[1] - x[0] ** 2)]),
    Problem(7, lambda x: fg.log(1.0 + x[0] ** 2) - x[1], (2.0, 2.0), -_ROOT3,
            equal=lambda x: [(1.0 + x[0] ** 2) ** 2 + x[1] ** 2 - 4.0]),
    Problem(9, lambda x: fg.sin(math.pi * x[0] / 12.0) * fg.cos(math.pi * x[1] / 16.0), (0.0, 0.0), -0.5,
            equal=lambda x: [4.0 * x[0] - 3.0 * x[1]]),
    Problem(10, lambda x: x[0] - x[1], (-10.0, 10.0), -1.0,
            positive=lambda x: [-3.0 * x[0] ** 2 + 2.0 * x[0] * x[1] - x[1] ** 2 + 1.0]),
    Problem(11, lambda x: (x[0] - 5.0) ** 2 + x[1] ** 2 - 25.0, (4.9, 0.1), -8.498464223,
            positive=lambda x: [-x[0] ** 2 + x[1]]),
    Problem(12, lambda x: 0.5 * x[0] ** 2 + x[1] ** 2 - x[0] * x[1] - 7.0 * x[0] - 7.0 * x[1], (0.0, 0.0), -30.0,
            positive=lambda x: [25.0 - 4.0 * x[0] ** 2 - x[1] ** 2]),
    Problem(14, distance, (2.0, 2.0), 9.0 - 2.875 * math.sqrt(7.0), equal=lambda x: [x[0] - 2.0 * x[1] + 1.0],
            positive=lambda x: [-0.25 * x[0] ** 2 - x[1] ** 2 + 1.0]),
    Problem(22, distance, (2.0, 2.0), 1.0, positive=lambda x: [-x[0] - x[1] + 2.0, -x[0] ** 2 + x[1]]),
    Problem(24, lambda x: ((x[0] - 3.0) ** 2 - 9.0) * x[1] ** 3 / (27.0 * _ROOT3), (1.0, 0.5), -1.0,
            positive=lambda x: [x[0] / _ROOT3 - x[1], x[0] + _ROOT3 * x[1], -x[0] - _ROOT3 * x[1] + 6.0],
            bounds=[(0.0, None)] * 2),
    Problem(28, lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2, (-4.0, 1.0, 1.0), 0.0,
            equal=lambda x: [x[0] + 2.0 * x[1] + 3.0 * x[2] - 1.0]),
    Problem(29, volume, (1.0, 1.0, 1.0), -16.0 * math.sqrt(2.0),
            positive=lambda x: [-x[0] ** 2 - 2.0 * x[1] ** 2 - 4.0 * x[2] ** 2 + 48.0]),
    Problem(31, lambda x: 9.0 * x[0] ** 2 + x[1] ** 2 + 9.0 * x[2] ** 2, (1.0, 1.0, 1.0), 6.0,
            positive=lambda x: [x[0] * x[1] - 1.0], bounds=[(-10.0, 10.0), (1.0, 10.0), (-10.0, 1.0)]),
    Problem(35, beale, (0.5, 0.5, 0.5), 1.0 / 9.0, positive=lambda x: [3.0 - x[0] - x[1] - 2.0 * x[2]],
            bounds=[(0.0, None)] * 3),
    Problem(36, volume, (10.0, 10.0, 10.0), -3300.0, positive=lambda x: [72.0 - x[0] - 2.0 * x[1] - 2.0 * x[2]],
            bounds=[(0.0, 20.0), (0.0, 11.0), (0.0, 42.0)]),
    Problem(39, lambda x: -x[0], (2.0, 2.0, 2.0, 2.0), -1.0,
            equal=lambda x: [x[1] - x[0] ** 3 - x[2] ** 2, x[0] ** 2 - x[1] - x[3] ** 2]),
    Problem(40, lambda x: -x[0] * x[1] * x[2] * x[3], (0.8, 0.8, 0.8, 0.8), -0.25,
            equal=lambda x: [x[0] ** 3 + x[1] ** 2 - 1.0, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]]),
    Problem(43, quadratic, (0.0, 0.0, 0.0, 0.0), -44.0, positive=rosen_suzuki),
    Problem(71, lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2], (1.0, 5.0, 5.0, 1.0), 17.0140173,
            equal=lambda x: [x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + x[3] ** 2 - 40.0],
            positive=lambda x: [x[0] * x[1] * x[2] * x[3] - 25.0], bounds=[(1.0, 5.0)] * 4),
]  # fmt: skip


def solve(problem: Problem) -> Any:
    """What SciPy's SLSQP finds with our derivatives: a `scipy.optimize.OptimizeResult`."""
    from scipy.optimize import minimize

    constraints = [
        {"type": kind, "fun": fg.jit(function), "jac": fg.jacobian(function)}
        for kind, function in (("eq", problem.equal), ("ineq", problem.positive))
        if function is not None
    ]
    return minimize(
        fg.value_and_grad(problem.objective), problem.start, jac=True, bounds=problem.bounds, constraints=constraints,
        method="SLSQP", options={"ftol": 1e-13, "maxiter": 500},
    )  # fmt: skip
