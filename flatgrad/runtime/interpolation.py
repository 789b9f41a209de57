"""Functions of one variable that are given by numbers in a list: piecewise linear ones, and cubic splines.

The piece is looked up in a table (`fg.table`), by the count of knots that are not larger than x. So one program, or
kernel, serves all x, and all back ends have the same bits.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import as_array, plain
from .conversion import number
from .errors import InputError, OptionError
from .numpy_arithmetic import infinite_piece
from .primitives import div, equal, where
from .reductions import vector_of
from .sites import user_line
from .table import table
from .value import Value


def interp(x: Any, xp: Any, fp: Any) -> Any:
    """A piecewise linear function, as `np.interp` has it: `fp[k]` at `xp[k]`, and constant outside of them.

    It is `slope * (x - xp[k]) + fp[k]` with `slope = (fp[k+1] - fp[k]) / (xp[k+1] - xp[k])`. At a knot the slope is
    that of the piece to the right, and from the last knot on it is 0.

    Args:
        x: a number or a `Value`, or an array or list of them.
        xp: numbers or `Value`s that increase.
        fp: numbers or `Value`s, as many.

    Returns:
        A `Value` if there are any among the operands, else a float; for an array or a list x an array.

    Raises:
        InputError: for xp that do not increase, and lists of different lengths.

    Example:
        >>> import flatgrad as fg
        >>> fg.value_and_grad(fg.interp, argnums=(0, 2))(0.5, [0.0, 2.0, 3.0], [1.0, 5.0, 0.0])
        (2.0, (2.0, [0.75, 0.25, 0.0]))
    """
    knots, values = _knots("interp", xp), vector_of("interp", fp)
    _check_lengths("interp", knots, values)
    if len(knots) == 1:
        return _of_each(lambda x: where(x < knots[0], values[0], values[0]), x)
    ends = list(itertools.pairwise(values))
    beyond = [infinite_piece(p, q) for p, q in ends]
    some = any(each is not None for each in beyond)
    pieces = table(
        [
            [a, p, div(q - p, b - a)] if each is None else [a, each, 0.0]
            for a, b, (p, q), each in zip(knots, knots[1:], ends, beyond, strict=False)
        ]
    )
    starts = table([[math.nan if each is None else a, p] for a, p, each in zip(knots, values, beyond, strict=False)])

    def at(x: Any) -> Any:
        start, value, slope = pieces[_piece(x, knots)]
        inside = slope * (x - start) + value
        if some:  # at the knot itself the line is not infinite, or not yet
            start, value = starts[_piece(x, knots)]
            inside = where(equal(x, start), value, inside)
        return where(x < knots[0], values[0], where(x >= knots[-1], values[-1], inside))

    return _of_each(at, x)


class CubicSpline:
    """A cubic spline through points: twice continuously differentiable, as `scipy.interpolate.CubicSpline`.

    The slopes at the knots solve a tridiagonal system of equations, by Gaussian elimination without exchanges; so the
    values at the knots may be `Value`s, too. Outside of the knots the first and the last piece go on.

    Args:
        x: two or more numbers or `Value`s that increase.
        y: numbers or `Value`s, as many.
        bc_type: "not-a-knot" (the first two pieces are one polynomial, and the last two), "natural" (the second
            derivative is 0 at the ends), or "clamped" (the first one is).

    Raises:
        InputError: for x that do not increase, and lists of different lengths.
        OptionError: for another `bc_type`.

    Example:
        >>> import flatgrad as fg
        >>> spline = fg.CubicSpline([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 8.0, 27.0])
        >>> round(spline(1.5), 12), round(fg.grad(spline)(1.5), 12)
        (3.375, 6.75)
    """

    def __init__(self, x: Any, y: Any, bc_type: str = "not-a-knot") -> None:
        self.x: list[Any] = _knots("CubicSpline", x)
        values = vector_of("CubicSpline", y)
        _check_lengths("CubicSpline", self.x, values)
        if bc_type not in ("not-a-knot", "natural", "clamped"):
            raise OptionError(f"bc_type must be 'not-a-knot', 'natural' or 'clamped', not {bc_type!r}")
        if len(self.x) < 2:
            raise InputError(f"CubicSpline needs two points or more{user_line()}")
        steps = [b - a for a, b in zip(self.x, self.x[1:], strict=False)]
        slopes = [div(q - p, h) for p, q, h in zip(values, values[1:], steps, strict=False)]
        s = _slopes(steps, slopes, bc_type)
        rows = []
        for k, (h, slope) in enumerate(zip(steps, slopes, strict=True)):
            t = div(s[k] + s[k + 1] - 2.0 * slope, h)
            rows.append([self.x[k], values[k], s[k], div(slope - s[k], h) - t, div(t, h)])
        self._pieces = table(rows)

    def __call__(self, x: Any, nu: int = 0) -> Any:
        """The value at x, or the derivative of order `nu` (0 to 3)."""
        if not isinstance(nu, (int, np.integer)) or nu not in (0, 1, 2, 3):
            raise OptionError(f"nu must be 0, 1, 2 or 3, not {nu!r}")

        def at(x: Any) -> Any:
            start, *c = self._pieces[_piece(x, self.x)]
            r = x - start
            for _ in range(nu):
                c = [float(k) * each for k, each in enumerate(c)][1:]
            result = c[-1] if len(c) > 1 else c[-1] + 0.0 * r
            for each in c[-2::-1]:
                result = result * r + each
            return result

        return _of_each(at, x)

    def __repr__(self) -> str:
        return f"<CubicSpline through {len(self.x)} points>"


def _slopes(steps: Sequence[Any], slopes: Sequence[Any], bc_type: str) -> list[Any]:
    """The slopes of a cubic spline at its knots."""
    n = len(steps) + 1
    if n == 2 and bc_type == "not-a-knot":
        return [slopes[0], slopes[0]]
    lower, diagonal, upper, right = (list[Any]([c] * n) for c in (0.0, 1.0, 0.0, 0.0))
    for k in range(1, n - 1):
        a, b = steps[k - 1], steps[k]
        lower[k], diagonal[k], upper[k] = b, 2.0 * (a + b), a
        right[k] = 3.0 * (b * slopes[k - 1] + a * slopes[k])
    if bc_type == "natural":
        diagonal[0], upper[0], right[0] = 2.0, 1.0, 3.0 * slopes[0]
        lower[-1], diagonal[-1], right[-1] = 1.0, 2.0, 3.0 * slopes[-1]
    elif bc_type == "not-a-knot" and n == 3:  # one parabola
        upper[0], right[0] = 1.0, 2.0 * slopes[0]
        lower[-1], right[-1] = 1.0, 2.0 * slopes[-1]
    elif bc_type == "not-a-knot":
        (a, b), (c, d) = steps[:2], steps[-2:]
        diagonal[0], upper[0] = b, a + b
        right[0] = div((a + 2.0 * (a + b)) * b * slopes[0] + a * a * slopes[1], a + b)
        lower[-1], diagonal[-1] = c + d, c
        right[-1] = div(d * d * slopes[-2] + (2.0 * (c + d) + d) * c * slopes[-1], c + d)
    for k in range(1, n):
        factor = div(lower[k], diagonal[k - 1])
        diagonal[k] = diagonal[k] - factor * upper[k - 1]
        right[k] = right[k] - factor * right[k - 1]
    result = [div(right[-1], diagonal[-1])]
    for k in range(n - 2, -1, -1):
        result.append(div(right[k] - upper[k] * result[-1], diagonal[k]))
    return result[::-1]


def _piece(x: Any, knots: Sequence[Any]) -> Any:
    """The place of the piece that x is in: the count of the inner knots that are not larger."""
    inner = knots[1:-1]
    if not any(isinstance(each, Value) for each in (x, *inner)):
        return bisect.bisect_right(inner, x) if x == x else 0
    place = 0.0
    for knot in inner:
        place = place + where(x >= knot, 1.0, 0.0)
    return place


def _of_each(function: Callable[[Any], Any], x: Any) -> Any:
    if isinstance(x, (list, tuple, np.ndarray)):
        array = np.asarray(plain(x), dtype=object)
        results = [function(_operand(each)) for each in array.ravel().tolist()]
        if any(isinstance(each, Value) for each in results) or not array.ndim:
            return as_array(results, array.shape) if array.ndim else results[0]
        return np.array(results, dtype=float).reshape(array.shape)
    return function(_operand(x))


def _operand(x: Any) -> Any:
    return x if isinstance(x, Value) else float(number(x))


def _knots(name: str, x: Any) -> list[Any]:
    knots = vector_of(name, x)
    pairs = [pair for pair in itertools.pairwise(knots) if not any(isinstance(each, Value) for each in pair)]
    if not knots or any(not a < b for a, b in pairs):
        raise InputError(f"{name}: the knots must be numbers that increase{user_line()}")
    return knots


def _check_lengths(name: str, knots: Sequence[Any], values: Sequence[Any]) -> None:
    if len(knots) != len(values):
        raise InputError(f"{name}: {len(knots)} knots, but {len(values)} values{user_line()}")
