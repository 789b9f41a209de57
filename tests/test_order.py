"""The order of elements, a NaN among them, and infinite ones: as NumPy has it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import flatgrad as fg

NAN = math.nan


def sorted_in_place(x):
    y = 1.0 * x
    y.sort()
    return y


#: Functions that give an array, or a number.
ORDERED = {
    "sort": np.sort,
    "method": sorted_in_place,
    "partition": lambda x: np.partition(x, 1)[1],
    "argsort": lambda x: x[np.argsort(x)] + 0.0 * np.argsort(x),
    "places": lambda x: np.argmax(x) + 10.0 * np.argmin(x) + 100.0 * x.argmax() + 1000.0 * x.argmin(),
    "searchsorted": lambda x: 1.0 * np.searchsorted(np.array([0.25, 1.0, 2.0]), x),
    "digitize": lambda x: 1.0 * np.digitize(x, np.array([0.25, 1.0, 2.0])),
    "median": np.median,
    "quantile": lambda x: np.quantile(x, 0.25),
    "rows": lambda x: np.sort(np.stack([x, x[::-1]]), axis=1).ravel(),
}


@pytest.mark.parametrize("name", ORDERED)
def test_a_nan_is_where_numpy_has_it(name):
    function = ORDERED[name]
    f = fg.jit(lambda x: np.ravel(function(x)))
    points = [
        each for row in ([1.0, NAN, 0.5], [NAN, 0.5, NAN], [2.0, 1.0, 0.5]) for each in itertools.permutations(row)
    ]
    for point in points[::2]:
        x = np.array(point)
        np.testing.assert_array_equal(np.array(f(x)), np.ravel(function(x)), err_msg=str(point))


def test_the_gradient_goes_to_the_element():
    assert fg.grad(lambda x: np.sort(x)[0])(np.array([1.0, NAN, 0.5])).tolist() == [0.0, 0.0, 1.0]
    assert fg.grad(lambda x: np.sort(x)[1])(np.array([1.0, 2.0, 0.5])).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("interp", [fg.interp, np.interp])
@pytest.mark.parametrize(
    "items",
    [
        [0.0, math.inf, 1.0, 2.0],
        [-math.inf, 0.0, 1.0, math.inf],
        [math.inf, math.inf, -math.inf, 3.0],
        [0.0, 1.0, 4.0, 3.0],
    ],
)
def test_infinite_items_of_a_piecewise_linear_function(interp, items):
    knots = [1.0, 2.0, 3.0, 5.0]
    f = fg.jit(lambda x: interp(x, knots, items))
    for x in (0.5, 1.0, 1.25, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0):
        np.testing.assert_equal(f(x), np.interp(x, knots, items), err_msg=str(x))


def test_a_division_by_zero_is_called_one():
    for function in (lambda x: (1.0 / x).sum(), lambda x: (x[0] / x).sum()):
        with pytest.raises(
            fg.DivisionByZeroError, match=r"1 / 0\.0: float division by zero.*faults=\"ieee\""
        ) as caught:
            fg.grad(function)(np.zeros(2))
        assert "negative power" not in str(caught.value)
    assert fg.jit(lambda x: (1.0 / x).sum(), faults="ieee")(np.zeros(2)) == math.inf
