"""Rows of a map that branch on numbers: each has the bits, and the exceptions, that it has alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value
from tests.bits import assert_same as assert_same_floats
from tests.examples import examples


def assert_same(actual, expected):
    """The same bits, of arrays too."""
    assert_same_floats([float(n) for n in actual], [float(n) for n in expected])


NUMBERS = st.lists(st.floats(-5.0, 5.0), min_size=1, max_size=30)


def piecewise(x):
    if x > 1.0:
        return fg.log(x) * x
    return x * x if x > -1.0 else -x


def newton(x):
    root = x
    while abs(root * root - x) > 1e-12 * x:
        root = 0.5 * (root + x / root)
    return root


def alone(function, *numbers):
    leaves = [Value(float(n)) for n in numbers]
    value = function(*leaves)
    value.backward()
    return value.data, *(leaf.grad for leaf in leaves)


@given(NUMBERS)
@settings(max_examples=examples(15), deadline=None)
@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_values_and_gradients_of_rows(backend, xs):
    rows = fg.vmap(fg.value_and_grad(piecewise), backend=backend)
    for numbers in (xs, xs[::-1], [*xs, 3.0, -3.0]):
        values, gradients = rows(np.array(numbers))
        assert_same(values, [alone(piecewise, x)[0] for x in numbers])
        assert_same(gradients, [alone(piecewise, x)[1] for x in numbers])


@pytest.mark.slow
def test_loops_until_done_with_different_numbers_of_rounds():
    xs = np.random.default_rng(1).uniform(0.01, 50.0, 900)
    rows = fg.vmap(fg.value_and_grad(newton))
    for part in (xs[:40], xs, xs[100:103]):
        values, gradients = rows(part)
        assert_same(values, [alone(newton, x)[0] for x in part])
        assert_same(gradients, [alone(newton, x)[1] for x in part])
    assert 1 < len(rows.open_kernels) <= 2 * 9


def test_structures_axes_and_numbers_that_are_not_mapped():
    def f(weights, pair, scale):
        total = sum(w * x for w, x in zip(weights, pair["x"], strict=True))
        return {"total": total * scale if total > pair["y"] else -total, "parts": [total, total * scale]}

    generator = np.random.default_rng(2)
    weights, x, y = np.array([1.0, -2.0, 0.5]), generator.normal(size=(3, 20)), generator.normal(size=20)
    rows = fg.vmap(f, in_axes=(None, {"x": 1, "y": 0}, None), out_axes={"total": 0, "parts": 1})
    got = rows(weights, {"x": x, "y": y}, 3.0)
    for k in range(20):
        one = fg.jit(f)(weights, {"x": x[:, k], "y": y[k]}, 3.0)
        assert_same([got["total"][k], *got["parts"][:, k]], [one["total"], *one["parts"]])


def test_the_first_row_that_raises():
    rows = fg.vmap(lambda x: fg.log(x - 1.0) if x > 0 else 1.0 / (x + 1.0))
    np.testing.assert_array_equal(rows(np.array([2.0, 0.0, -2.0])), [0.0, 1.0, -1.0])
    with pytest.raises(fg.DomainError):
        rows(np.array([2.0, 0.5, -1.0, 3.0]))
    with pytest.raises(fg.DivisionByZeroError):
        rows(np.array([2.0, -1.0, 0.5, 3.0]))
    np.testing.assert_array_equal(rows(np.array([2.0, 0.0])), [0.0, 1.0])


def test_exceptions_of_the_users_own():
    def f(x):
        if x < 0:
            raise KeyError("negative")
        return x * 2.0

    rows = fg.vmap(f)
    assert_same(rows(np.array([1.0, 2.0])), [2.0, 4.0])
    for _ in range(2):
        with pytest.raises(KeyError, match="negative"):
            rows(np.array([1.0, -2.0, 3.0]))


def test_more_ways_than_kernels():
    rows = fg.vmap(lambda x: x * sum(1 for k in range(6) if x > k), backend="python", max_ways=2)
    xs = np.arange(6) + 0.5
    assert_same(rows(xs), (xs * (np.arange(6) + 1)).tolist())
    assert_same(rows(xs[::-1]), (xs * (np.arange(6) + 1)).tolist()[::-1])


def test_no_rows_lists_and_graphs():
    rows = fg.vmap(piecewise)
    assert rows(np.zeros(0)).shape == (0,)
    assert_same(rows([2.0, -2.0, 0.5]), [alone(piecewise, x)[0] for x in (2.0, -2.0, 0.5)])
    assert rows(np.zeros(0)).shape == (0,)
    x = [Value(2.0), Value(-2.0)]
    total = sum(rows(x))
    total.backward()
    assert_same([each.grad for each in x], [alone(piecewise, n)[1] for n in (2.0, -2.0)])


def test_in_a_traced_function_the_loop_is_followed():
    xs = np.array([2.0, 0.5, -3.0])
    mean = fg.value_and_grad(lambda scale: sum(fg.vmap(lambda x: piecewise(x * scale))(xs)) / 3.0)
    for scale in (1.0, -1.0, 0.1):
        leaf = Value(scale)
        expected = sum(piecewise(Value(x) * leaf) for x in xs.tolist()) / 3.0
        expected.backward()
        assert_same(mean(scale), [expected.data, leaf.grad])


def test_many_rows_without_a_kernel_for_all_numbers_of_them():
    def f(a, xs, n):
        v = xs[n]
        for _ in range(n * n):
            v = v * 0.5 + xs[1] * 0.1
        return xs[1] + v + xs[1] + v + a * 0.5

    rows = fg.vmap(fg.value_and_grad(f), in_axes=(0, 0, None))
    for count in (20, 40, 114, 128, 40, 300):
        a, xs = np.linspace(-1.0, 1.0, count), np.linspace(1.0, 9.0, 3 * count).reshape(count, 3)
        values, gradients = rows(a, xs, 1)
        assert_same(values, [f(Value(x), list(map(Value, row)), 1).data for x, row in zip(a, xs, strict=True)])
        assert_same(gradients, [0.5] * count)


def test_what_is_said_of_ways_and_kernels():
    rows = fg.vmap(lambda x: fg.log(x) if x > 1.0 else x**3)
    with pytest.raises(fg.InputError, match="branch on numbers"):
        rows.kernel_for(np.array([2.0, 0.5]))
    rows(np.array([2.0, 0.5]))
    assert {way.truths for way in rows.ways()} == {(True,), (False,)}
    rows(np.linspace(0.0, 2.0, 300))
    assert sorted(way.truths for way in rows.ways()) == [(False,), (True,)]
    f = fg.grad(lambda x: fg.log(x) if x > 1.0 else x**3, max_ways=1)
    assert f(2.0) == 0.5
    with pytest.warns(fg.KernelLimitWarning), pytest.raises(fg.InputError, match="max_ways"):
        f.kernel_for(0.5)
