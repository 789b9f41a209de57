"""Functions of lists: order, logarithms of softmax, piecewise linear functions and cubic splines."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy

import flatgrad as fg
from tests.bits import all_bits

BACKENDS = ["python", "numpy", "native"]
#: Where functions are computed: inside, outside, and at knots.
POINTS = [-1.0, 0.0, 0.3, 0.8, 1.0, 2.7, 3.0, 4.4, 5.0, 7.0]
KNOTS = [0.0, 0.8, 1.0, 3.0, 3.5, 5.0]
HEIGHTS = [1.0, -2.0, 0.5, 0.5, 4.0, -1.0]


# --- order ------------------------------------------------------------------------------------------------------------


def test_order():
    x = [3.0, -1.0, 7.0, 2.0]
    assert (fg.sort(x), fg.argmax(x), fg.argmin(x), fg.median(x)) == ([-1.0, 2.0, 3.0, 7.0], 2, 1, 2.5)
    assert fg.sort(np.array(x)).tolist() == sorted(x)
    assert fg.median([3.0, 1.0, 2.0]) == 2.0
    assert fg.argmax([1.0, 1.0]) == fg.argmin([1.0, 1.0]) == 0
    rows = np.array([[3.0, 9.0], [-1.0, 2.0]])
    assert (fg.argmax(rows), fg.argmin(rows), fg.median(rows)) == (np.argmax(rows), np.argmin(rows), np.median(rows))
    assert fg.grad(fg.median)(rows).tolist() == [[0.5, 0.0], [0.0, 0.5]]
    with pytest.raises(fg.InputError, match=r"\[fg\.sort\(row\) for row in matrix\]"):
        fg.sort(rows)
    for function in (fg.argmax, fg.argmin, fg.median):
        with pytest.raises(fg.DomainError, match="of no elements"):
            function([])
    assert fg.sort([]) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_order(backend):
    """One function takes another way for each order; each has its own gradient."""

    def f(x, w):
        ordered = fg.sort(x)
        return ordered[0] * w[fg.argmax(x)] + 10.0 * fg.median(x)

    grad = fg.grad(f, argnums=(0, 1), backend=backend)
    assert grad([3.0, 1.0, 2.0], [1.0, 2.0, 3.0]) == ([0.0, 1.0, 10.0], [1.0, 0.0, 0.0])
    assert grad([1.0, 3.0, 2.0], [1.0, 2.0, 3.0]) == ([2.0, 0.0, 10.0], [0.0, 1.0, 0.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_logarithms_of_softmax(backend):
    x = [0.5, -3.0, 800.0, 799.0]
    assert fg.log_softmax(x) == pytest.approx(scipy.special.log_softmax(x).tolist(), rel=1e-15)
    slopes = fg.grad(lambda x: fg.log_softmax(x)[3], backend=backend)(x)
    assert slopes == pytest.approx([float(k == 3) - p for k, p in enumerate(fg.softmax(x))], abs=1e-15)
    assert fg.log_softmax(np.array(x)).shape == (4,)
    assert fg.log_softmax([]) == []


# --- functions that are given by numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_interp(backend):
    """The bits of NumPy, on every back end; one kernel for all points."""
    assert fg.interp(POINTS, KNOTS, HEIGHTS).tolist() == np.interp(POINTS, KNOTS, HEIGHTS).tolist()
    f = fg.value_and_grad(fg.interp, argnums=(0, 2), backend=backend)
    for x in POINTS:
        value, (slope, shares) = f(x, KNOTS, HEIGHTS)
        node = fg.Value(x)
        out = fg.interp(node, KNOTS, HEIGHTS)
        out.backward()
        assert all_bits([value, slope]) == all_bits([out.data, node.grad]), "the interpreter's"
        assert value == np.interp(x, KNOTS, HEIGHTS)
        if x not in KNOTS:
            low, high = np.interp([x - 1e-6, x + 1e-6], KNOTS, HEIGHTS)
            assert slope == pytest.approx((high - low) / 2e-6)
        assert sum(shares) == pytest.approx(1.0)
        assert sum(a * b for a, b in zip(shares, HEIGHTS, strict=True)) == pytest.approx(value)
    assert len(f.kernels) == 1
    assert math.isnan(f(math.nan, KNOTS, HEIGHTS)[0])


def test_interp_of_one_point_and_of_what_is_wrong():
    assert fg.value_and_grad(lambda x: fg.interp(x, [1.0], [5.0]))(3.0) == (5.0, 0.0)
    with pytest.raises(fg.InputError, match="increase"):
        fg.interp(1.0, [0.0, 0.0], [1.0, 2.0])
    with pytest.raises(fg.InputError, match="2 knots, but 3 values"):
        fg.interp(1.0, [0.0, 1.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("bc_type", ["not-a-knot", "natural", "clamped"])
@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_splines_are_those_of_scipy(bc_type, count):
    x, y = KNOTS[:count], HEIGHTS[:count]
    spline, other = fg.CubicSpline(x, y, bc_type), scipy.interpolate.CubicSpline(x, y, bc_type=bc_type)
    for nu in range(4):
        assert spline(POINTS, nu) == pytest.approx(other(POINTS, nu), rel=1e-11, abs=1e-11), nu


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_splines(backend):
    """With respect to the place, and to the heights, on which the value depends linearly."""
    f = fg.value_and_grad(lambda x, y: fg.CubicSpline(KNOTS, y)(x), argnums=(0, 1), backend=backend)
    spline = fg.CubicSpline(KNOTS, HEIGHTS)
    for x in POINTS:
        value, (slope, shares) = f(x, HEIGHTS)
        assert value == spline(x)
        assert slope == pytest.approx(spline(x, 1), rel=1e-12)
        assert shares == pytest.approx([fg.CubicSpline(KNOTS, row)(x) for row in np.eye(6)], abs=1e-12)
    assert len(f.kernels) == 1


def test_one_knot():
    """A constant, at infinity and without a number, too, as NumPy has it."""
    f = fg.jit(lambda x: fg.interp(x, [1.0], [5.0]))
    for x in (0.0, 1.0, 2.0, math.inf, -math.inf, math.nan):
        assert f(x) == fg.interp(x, [1.0], [5.0]) == np.interp(x, [1.0], [5.0]) == 5.0
    assert fg.grad(lambda x, y: fg.interp(x, [1.0], [y]), argnums=(0, 1))(2.0, 3.0) == (0.0, 1.0)


def test_splines_that_cannot_be():
    with pytest.raises(fg.OptionError, match="bc_type"):
        fg.CubicSpline(KNOTS, HEIGHTS, "periodic")
    for nu in (4, 1.0):
        with pytest.raises(fg.OptionError, match="nu must be"):
            fg.CubicSpline(KNOTS, HEIGHTS)(1.0, nu)
    with pytest.raises(fg.InputError, match="two points"):
        fg.CubicSpline([1.0], [2.0])
    assert repr(fg.CubicSpline(KNOTS, HEIGHTS)) == "<CubicSpline through 6 points>"
