"""Branches on numbers: the way that a call goes is followed, and has a kernel."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from tests.bits import assert_same
from tests.examples import crossed

BACKENDS = ("python", "numpy", "native", "auto")
backends = pytest.mark.parametrize("backend", BACKENDS)


def interpreted(function, *numbers):
    """Value and gradients by the interpreter."""
    leaves = [Value(float(n)) for n in numbers]
    value = function(*leaves)
    value.backward()
    return value.data, tuple(leaf.grad for leaf in leaves)


def branch(x):
    return fg.log(x) * x if x > 1.0 else x * 2.0


def newton(x):
    root = x
    while abs(root * root - x) > 1e-12 * x:
        root = 0.5 * (root + x / root)
    return root


def early(x):
    if x < 0:
        return -x
    for k in range(5):
        if x > k and not x > k + 1:
            return x * float(k)
    return x * x


def constant_condition(x):
    return fg.where((x > 0.0) & True, x, 1.0) * fg.where(True, x, 2.0) if x > -5.0 else x


def extremes(x):
    return max(x * 2.0, min(x * x, 3.0)) + sorted([x, -x, x * 0.5])[1]


@backends
@pytest.mark.parametrize("function", [branch, newton, early, extremes, constant_condition])
def test_the_way_of_each_call(function, backend):
    f = fg.value_and_grad(function, backend=backend)
    numbers = [0.5, 3.0, 1.0, 2.5, 0.25, 9.0, 1e6, 3.0, 0.5, 4.5]
    for number in numbers if function is newton else [*numbers, -2.0, -0.0, math.inf, -3.5, math.nan]:
        value, (gradient,) = interpreted(function, number)
        assert_same(f(number), (value, gradient), number)


@backends
def test_graphs_of_compiled_functions(backend):
    w = Value(2.0)
    f = fg.compile(lambda x: [x * w if x > w else x + w, x], backend=backend)
    for number in (1.0, 3.0, 2.0, 5.0):
        x = Value(number)
        first, second = f(x)
        (first * second).backward()
        got, w.grad = (first.data, x.grad, w.grad), 0.0
        x = Value(number)
        first = x * w if x > w else x + w
        (first * x).backward()
        assert got == (first.data, x.grad, w.grad)
        w.grad = 0.0


def test_an_operation_behind_a_guard_that_fails_does_not_raise():
    f = fg.value_and_grad(lambda x: fg.log(x) if x > 0 else x)
    assert f(1.0) == (0.0, 1.0)
    assert f(-1.0) == (-1.0, 1.0)
    with pytest.raises(fg.DomainError):
        fg.grad(lambda x: fg.log(x) if x < 5 else x)(-1.0)


def test_exceptions_of_the_users_come_at_each_call():
    def f(p):
        if p <= 0:
            raise KeyError("p")
        assert p < 1, "too large"
        return -p * fg.log(p)

    entropy = fg.grad(f)
    for _ in range(3):
        with pytest.raises(KeyError):
            entropy(-1.0)
        with pytest.raises(AssertionError, match="too large"):
            entropy(2.0)
        assert entropy(0.5) == interpreted(f, 0.5)[1][0]


def test_gradients_inside_follow_their_ways():
    slope = fg.grad(lambda x: x * x if x > 1 else x**3)

    def f(x):
        return slope(x) * x + (slope(x + 1.0) if x < 0.5 else 0.0)

    outer = fg.value_and_grad(f)
    for x in (0.25, 3.0, 0.75, 0.25, -2.0):
        inner = (2 * x if x > 1 else 3 * x**2) * x
        inner += 0.0 if x >= 0.5 else (2 * (x + 1) if x + 1 > 1 else 3 * (x + 1) ** 2)
        assert outer(x)[0] == pytest.approx(inner, rel=1e-15)


def test_one_kernel_per_way_and_what_is_said_of_them():
    f = fg.grad(lambda x: x**2 if x > 0 else -x)
    assert [f(x) for x in (3.0, -3.0, 2.0, -1.0)] == [6.0, -1.0, 4.0, -1.0]
    assert [way.truths for way in f.ways(1.0)] == [(True,), (False,)]
    assert f.ways() == f.ways(1.0)
    assert "test_ways.py" in str(f.ways(1.0)[0])
    assert len(f.kernels) == 2
    assert f.kernel_for(5.0).way.truths == (True,)
    assert f.kernel_for(-5.0).way.truths == (False,)
    assert f.kernel_for(-5.0).stats.guards == 1
    assert f.kernels[0].stats.replays <= 1


@pytest.mark.parametrize("options", [{"max_ways": 7}, pytest.param({}, marks=pytest.mark.slow)])
def test_beyond_the_limit_of_ways_the_answers_are_right(options):
    most = options.get("max_ways", 64)
    f = fg.value_and_grad(lambda x: x * sum(1 for k in range(most + 6) if x > k), **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in (*range(most + 6), most + 4, 3, most + 5):
            assert f(k + 0.5) == ((k + 0.5) * (k + 1), k + 1.0)
    assert len(f.kernels) == most
    assert [each.category for each in caught] == [fg.KernelLimitWarning]
    assert "test_ways.py" in str(caught[0].message)
    assert "fg.where" in str(caught[0].message)


def test_ieee_faults_follow_ways():
    f = fg.grad(lambda x: 1.0 / x if x < 1 else fg.log(x - 1.0), faults="ieee")
    assert f(0.0) == -math.inf
    assert f(1.0) == math.inf
    assert f(2.0) == 1.0


def test_a_constant_condition_beside_guards():
    """`True` is what the first guard begins with, and may stand in other places of the program, too."""

    def f(x):
        taken = fg.where((x > 0.5) | True, x, -x)
        return taken * 2.0 if x > 1.0 else fg.exp(taken)

    slope = fg.grad(f, backend="python")
    assert [slope(3.0), slope(0.0)] == [2.0, 1.0]


def halvings(x):
    count = 0
    while x > 1.0:
        x, count = x * 0.5, count + 1
    return count


def named(x):
    if x <= 0.0:
        return "negative"
    y = x * 2.0
    return ["large", 1.0] if y > 6.0 else {"small": 2.0}


@pytest.mark.parametrize(
    ("function", "backend"),
    crossed([halvings, named, lambda x: 2.0 if x <= 0 else (x, -1.0)], ["python", "numpy", "native"]),
)
def test_results_without_numbers_depend_on_the_way(function, backend):
    f, g = fg.jit(function, backend=backend), fg.compile(function, backend=backend)
    for x in [-1.0, 5.0, 3.5, 1000.0, 2.0, -2.0, 700.0, *[2.0**k for k in range(20)], -1.0, 9.0, 9.0, 3.0] * 3:
        assert f(x) == function(x)
        result = g(Value(x))
        assert repr(result) == repr(function(Value(x)))
    look_up = fg.jit(lambda x, n: [10.0, 20.0, 30.0][n], backend=backend)
    assert [look_up(1.0, n) for n in (0, 2, 1, 0)] == [10.0, 30.0, 20.0, 10.0]


def test_what_is_saved_says_which_way_it_is():
    f = fg.value_and_grad(branch)
    for number, truth in ((0.5, "False"), (3.0, "True")):
        kernel = f.kernel_for(number)
        for source, mark in ((kernel.python_source(), "#"), (kernel.c_source(), "//")):
            line = next(line for line in source.splitlines() if "test_ways.py" in line and truth in line)
            assert line.startswith(f"{mark} test_ways.py:")
            assert line.endswith(f": {truth}")
    straight = fg.value_and_grad(lambda x: x * x).kernel_for(1.0)
    assert "One way" not in straight.source


@backends
def test_an_array_without_axes_is_a_value(backend):
    """As `np.where` makes one."""
    f = fg.value_and_grad(lambda x: np.where(x > 1.0, x * x, 2.0), backend=backend)
    assert [f(3.0), f(0.5), f(2.0)] == [(9.0, 6.0), (2.0, 0.0), (4.0, 4.0)]


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_the_first_of_several_exceptions_comes_out(backend):
    def f(a, b):
        v = a**2
        while fg.sin(b) > 0.5:
            b = b * 0.5
        return v + b

    g = fg.value_and_grad(f, argnums=(0, 1), backend=backend)
    for _ in range(2):
        with pytest.raises(OverflowError):
            g(1e308, float("inf"))
        with pytest.raises(ValueError, match="sin"):
            g(1.0, float("inf"))
        assert g(1.0, 1.0)[0] == interpreted(f, 1.0, 1.0)[0]
