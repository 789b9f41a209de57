"""Truth values: arrays of them among the arguments, and arithmetic with them, as NumPy and Python have it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import flatgrad as fg

X = np.array([0.5, -1.25, 2.0])
WEIGHTS = np.array([3.0, 4.0, 5.0])


def assigns(x, m):
    y = 2.0 * x
    y[m & (x > 1.0)] = x[0]
    y[~m] += 1.0
    y[m] = y[m] * 3.0
    return (y * y).sum()


#: Functions of an array and a mask.
OF_MASKS = {
    "index": lambda x, m: x[m].sum(),
    "opposite": lambda x, m: (x[~m] ** 2).sum() + x[np.logical_not(m)].sum(),
    "both": lambda x, m: x[m & (x > 0.0)].sum() + 2.0 * x[m | (x > 1.0)].sum() + 3.0 * x[m ^ (x > 0.0)].sum(),
    "where": lambda x, m: np.where(m, x, 2.0 * x).sum() + fg.where(m[0], x[1], x[2]),
    "if": lambda x, m: (x[0] if m[0] else x[1]) + (x[1] if not m[1] else x[2]) + (x[0] if m[0] and m[2] else 0.0),
    "elements": lambda x, m: sum(a if b else -a for a, b in zip(x, m, strict=True)),
    "count": lambda x, m: x[0] * m.sum() + x[1] * np.count_nonzero(m) + x[2] * (~m).sum(),
    "sum of products": lambda x, m: (x * m).sum() + x @ m + (m.astype(float) * x).sum() + (1 - m[0]) * x[2],
    "any, all": lambda x, m: x[0] if m.any() and not m.all() else x[1],
    "places": lambda x, m: x[np.nonzero(m)[0]].sum() + x[np.flatnonzero(~m)].sum() * 2.0,
    "assignment": assigns,
    "captured": lambda x, m: x[0] * WEIGHTS[m].sum() + x[1] * WEIGHTS[m | (x > 0.0)].sum(),
    "sums of truth values": lambda x, m: (
        ((m[0] + m[2]) + (m + m).sum() + (m[0] * m[2] + m[0])) * x[0] + (m[0] + 1) * x[1]
    ),
    "equal": lambda x, m: (x[0] if m[0] == True else x[1]) + x[m == False].sum() + x[m != (x > 0.0)].sum(),  # noqa: E712
    "classes": lambda x, m: x[0] if m.dtype == bool and isinstance(m[0], np.bool_) else x[1],
}


@pytest.mark.parametrize("name", OF_MASKS)
def test_a_mask_is_an_argument(name):
    function = OF_MASKS[name]
    f = fg.value_and_grad(function)
    for mask in map(np.array, itertools.product([True, False], repeat=3)):
        for _ in range(2):
            value, slope = f(X, mask)
            assert value == pytest.approx(function(X, mask), rel=1e-14)
        differences = [(function(X + h, mask) - function(X - h, mask)) / 2e-6 for h in 1e-6 * np.eye(3)]
        assert slope == pytest.approx(differences, rel=1e-8, abs=1e-8)


def test_masks_in_other_transformations():
    def f(x, m):
        return x[m].sum() + (x * m).sum() * x[0]

    mask = np.array([True, False, True])
    for backend in ("python", "numpy", "native"):
        assert fg.jit(f, backend=backend)(X, mask) == f(X, mask)
    assert fg.compile(f)(X, mask).data == f(X, mask)
    assert fg.compile(f, max_ways=1)(X, mask).data == f(X, mask)
    rows = fg.vmap(f, in_axes=(None, 0))(X, np.array([mask, ~mask]))
    assert rows.tolist() == [f(X, mask), f(X, ~mask)]


def test_masks_of_matrices():
    mask = np.array([True, False, True])
    x, square = np.outer(X, X), np.outer(mask, mask)

    def f(x, m):
        return x[m].sum() + x[:, m[0]].sum() + x[m.any(axis=1)].sum()

    value, slope = fg.value_and_grad(f)(x, square)
    assert value == pytest.approx(f(x, square))
    assert slope.tolist() == [[3.0, 1.0, 3.0], [1.0, 0.0, 1.0], [3.0, 1.0, 3.0]]
    with pytest.raises(fg.InputError, match="truth values have no gradient"):
        fg.grad(lambda m: m.sum())(square)


def added(x):
    both = x[0] > 0.0
    both += x[2] > 0.0
    return both * x[0]


#: Of elements of arrays, truth values are NumPy's: their sum is one.
OF_ELEMENTS = {
    "sum": lambda x: ((x[0] > 0.0) + (x[2] > 0.0)) * x[0],
    "three": lambda x: ((x[0] > 0.0) + (x[1] > 0.0) + (x[2] > 0.0)) * x[0],
    "with True": lambda x: ((x[0] > 0.0) + True) * x[0] + (True + (x[2] > 0.0)) * x[1],
    "with True of NumPy": lambda x: ((x[0] > 0.0) + np.True_) * x[1] + (np.True_ + (x[0] > 0.0)) * x[2],
    "in place": added,
    "product and sum": lambda x: ((x[0] > 0.0) * True + (x[2] > 0.0)) * x[2],
    "exclusive": lambda x: ((x[0] > 0.0) ^ (x[1] > 0.0)) * x[0] + ((x[0] > 0.0) ^ True) * x[1],
    "with numbers": lambda x: ((x[0] > 0.0) + 1) * x[0] + (1 - (x[0] > 0.0)) * x[1] + ((x[0] > 0.0) / 2) * x[2],
    "arrays": lambda x: (np.array([x[0] > 0.0, x[1] > 0.0]) + np.array([x[2] > 0.0, x[1] > 0.0])).sum() * x[0],
    "counts": lambda x: np.sum([x[0] > 0.0, x[2] > 0.0]) * x[0] + sum([x[0] > 0.0, x[2] > 0.0]) * x[1],
    "more counts": lambda x: (x > -5.0).sum() * x[0] + np.cumsum(x > 0.0)[2] * x[1] + (x > 0.0).mean() * x[2],
}


@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_truth_values_of_elements_are_those_of_numpy(name):
    function = OF_ELEMENTS[name]
    value, slope = fg.value_and_grad(function)(X)
    assert value == pytest.approx(function(X), rel=1e-15)
    differences = [(function(X + h) - function(X - h)) / 2e-6 for h in 1e-6 * np.eye(3)]
    assert slope == pytest.approx(differences, rel=1e-8, abs=1e-9)


def test_truth_values_of_numbers_are_those_of_python():
    for function in (
        lambda x, y: ((x > 0.0) + (y > 0.0)) * x,
        lambda x, y: ((x > 0.0) - (y > 3.0)) * x - (x > 0.0),
        lambda x, y: ((x > 0.0) + True) * x + (-(x > 0.0)) * y,
        lambda x, y: ((x > 0.0) ^ (y > 0.0)) + x,
    ):
        assert fg.jit(function)(1.0, 2.0) == function(1.0, 2.0)
