"""Functions that return truth values: bools and arrays of bools come out, on every back end."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg

BACKENDS = ["python", "numpy", "native"]
X = np.array([1.0, 2.0, np.nan, 2.5])


@pytest.mark.parametrize("backend", BACKENDS)
def test_bools(backend):
    f = fg.jit(lambda x: x > 1.5, backend=backend)
    assert f(2.0) is True
    assert f(1.0) is False
    assert fg.jit(lambda x: [x > 1.5, x, x < 0.0], backend=backend)(2.0) == [True, 2.0, False]
    mixed = fg.jit(
        lambda x: {"any": np.any(x > 2.0), "sum": x[:2].sum(), "none": (None, ~(x[0] > 0.0))}, backend=backend
    )
    assert mixed(X) == {"any": True, "sum": 3.0, "none": (None, False)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_of_bools(backend):
    for function in (
        lambda x: x > 1.5,
        np.isnan,
        lambda x: (x > 1.5).reshape(2, 2),
        lambda x: np.outer(x, x) == 4.0,
        lambda x: np.isclose(x, 2.0) | (x < 1.5),
        lambda x: x[:0] > 1.0,
    ):
        result, wanted = fg.jit(function, backend=backend)(X), function(X)
        assert result.dtype == wanted.dtype == np.dtype(bool)
        assert result.shape == wanted.shape
        assert result.tolist() == wanted.tolist()
    pair = fg.jit(lambda x: (x > 1.5, x * 2.0), backend=backend)
    for _ in range(2):  # the binder that is made at the first call does the same
        truths, numbers = pair(X[:2])
        assert (truths.dtype, truths.tolist(), numbers.tolist()) == (np.dtype(bool), [False, True], [2.0, 4.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_any_size(backend):
    f = fg.jit(lambda x: (x > 1.5, np.all(x > -1.0)), backend=backend, dynamic=True)
    for n in (3, 5, 9, 4):
        x = np.arange(float(n))
        truths, every = f(x)
        assert truths.tolist() == (x > 1.5).tolist()
        assert every is True


@pytest.mark.parametrize("backend", BACKENDS)
def test_beside_other_results(backend):
    f = fg.value_and_grad(lambda x: (x * x, x > 1.0), has_aux=True, backend=backend)
    assert f(3.0) == ((9.0, True), 6.0)
    assert f(3.0)[0][1] is True
    inside = fg.grad(lambda x: fg.where(f(x)[0][1], x * 3.0, x), backend=backend)
    assert (inside(3.0), inside(0.5)) == (3.0, 1.0)
    above = fg.jit(lambda x: x > 1.0)
    outside = fg.jit(lambda x: fg.where(above(x), 2.0 * x, x), backend=backend)
    assert (outside(3.0), outside(0.5)) == (6.0, 0.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_conditions_of_a_compiled_graph(backend):
    f = fg.compile(lambda x: [x > 1.0, x * 2.0], backend=backend)
    for number in (3.0, 0.5):
        x = fg.Value(number)
        condition, twice = f(x)
        assert isinstance(condition, fg.Condition)
        assert bool(condition) is (number > 1.0)
        fg.where(condition, twice, x).backward()
        assert x.grad == (2.0 if number > 1.0 else 1.0)


def test_beyond_the_limit_of_ways():
    rows = [1.0, 2.0, 3.0]
    f = fg.jit(lambda x: (x > 0.5, rows[int(x)]), max_ways=1)
    with pytest.warns(fg.KernelLimitWarning):
        results = [f(x) for x in (0.0, 1.0, 2.0)]
    assert results == [(False, 1.0), (True, 2.0), (True, 3.0)]
    assert all(type(truth) is bool for truth, _ in results)


def test_an_array_of_bools_that_is_returned_is_one():
    mask = np.array([True, False])
    for function in (lambda m, x: ~m, lambda m, x: m & (x > 0.0), lambda m, x: m):
        result = fg.jit(function)(mask, np.array([1.0, 2.0]))
        assert result.tolist() == function(mask, np.array([1.0, 2.0])).tolist()
        assert result.dtype == np.dtype(bool)
    assert fg.jit(lambda m: (m[0], m.sum()))(mask) == (True, 1.0)
