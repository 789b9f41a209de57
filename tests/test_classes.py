"""Functions that ask for the classes of their numbers go the way that they go with plain numbers."""

# Users write such code.
# ruff: noqa: E721

from __future__ import annotations

import math
import numbers

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value

X = np.array([0.5, -1.25, 2.0])


def sign_by_class(x):
    return x if isinstance(x, float) else -x


class Model:
    def __init__(self, weight):
        self.weight = weight

    def __call__(self, x):
        return self.weight * x if type(x) is float else self.weight * x * x


def by_pattern(x):
    match x:
        case [float(a), b]:
            return a + 2.0 * b
        case int():
            return 5.0 * x
        case float(y) if y > 100.0:
            return y
        case float() | complex():
            return 2.0 * x
        case _:
            return 3.0 * x


#: Functions and their arguments.
ASKING = [
    (lambda x: x if isinstance(x, float) else 2.0 * x, 3.0),
    (lambda x: x if isinstance(x, (int, float)) else 2.0 * x, 3.0),
    (lambda x: x if isinstance(x, numbers.Real) and isinstance(2.0 * x, numbers.Number) else 2.0 * x, 3.0),
    (lambda x: x if isinstance(x, (int, list, np.ndarray, np.floating)) else 2.0 * x, 3.0),
    (lambda x: x if np.isscalar(x) else 2.0 * x, 3.0),
    (lambda x: x if np.isscalar(x) else 2.0 * x.sum(), X),
    (lambda x: x if type(x) is float else 2.0 * x, 3.0),
    (lambda x: x if x.__class__ in (int, float) and type(x).__name__ == "float" else 2.0 * x, 3.0),
    (lambda x: type(x)(3) * x, 2.0),
    (lambda x: x * list(map(type, [x, 1])).count(float), 2.0),
    (lambda x: x if all(isinstance(each, float) for each in (x, 2.0 * x, math.exp(x))) else 2.0 * x, 2.0),
    (lambda x: x if isinstance(x > 1.0, bool) and not isinstance(x, bool) else 2.0 * x, 2.0),
    (lambda x: x if isinstance(1j * x, complex) and np.isscalar(1j * x) else 2.0 * x, 2.0),
    (sign_by_class, 2.0),
    (Model(3.0), 2.0),
    (by_pattern, 3.0),
    (by_pattern, 200.0),
    (by_pattern, [1.0, 2.0]),
    (lambda x: sum(map(sign_by_class, x)), X),
    (lambda x: sum(each for each in x if isinstance(each, np.float64)), X),
    (lambda x: x[0] if type(x[0]) is np.float64 and type(2.0 * x[0]) is not float else x[1], X),
    (lambda x: x[0] if isinstance(x[0] > 0.0, bool) else x[1], X),
    (lambda x: x[0] if isinstance(x > 0.0, np.ndarray) and (x > 0.0).dtype == bool else x[1], X),
    (lambda x: x[0] if type(x) is np.ndarray and type(x) == x.__class__ else x[1], X),
    (lambda x: x[0] if x.dtype == float else x[1], X),
    (lambda x: x[0] if x.dtype.kind == "f" and (1j * x).dtype.kind == "c" else x[1], X),
    (lambda x: x[0] if np.issubdtype(x.dtype, np.floating) and x[0].dtype == float else x[1], X),
    (lambda x: x[0] if np.result_type(x, 1) == float else x[1], X),
    (lambda x: x[0] if getattr(x, "dtype", None) == float and getattr(x, "rows", None) is None else x[1], X),
    (lambda x: x if isinstance(round(x), int) and type(math.floor(x)) is int else 2.0 * x, 2.5),
    (lambda x: x if getattr(x, "dtype", None) is None else 2.0 * x, 2.0),
    (lambda x: x.sum() * np.finfo(x.dtype).eps, X),
    (lambda x: (np.zeros(3, dtype=x.dtype) + x + np.full(3, x[0], dtype=x.dtype)).sum(), X),
    (lambda x: x.astype(x.dtype).sum() + np.array([x[0], 1], dtype=x.dtype)[0], X),
]


@pytest.mark.parametrize(("function", "argument"), ASKING)
def test_it_goes_the_way_of_plain_numbers(function, argument):
    value, slope = fg.value_and_grad(function)(argument)
    assert value == function(argument)
    base = np.asarray(argument, dtype=float)
    steps = [1e-6 * each.reshape(base.shape) for each in np.eye(base.size)]
    like = type(argument) if not isinstance(argument, np.ndarray) else np.asarray
    at = [like((base + h).tolist()) for h in steps], [like((base - h).tolist()) for h in steps]
    differences = [(function(a) - function(b)) / 2e-6 for a, b in zip(*at, strict=True)]
    assert np.ravel(slope).tolist() == pytest.approx(differences, rel=1e-8, abs=1e-8)


def test_a_value_is_still_one():
    f = fg.grad(lambda x: x * x if isinstance(x, fg.Value) and isinstance(x, (str, Value)) else x)
    assert f(3.0) == 6.0


def test_ints_and_floats_have_kernels_of_their_own():
    for function, float_, int_ in (
        (lambda x: 1.0 * x if isinstance(x, int) else 10.0 * x, 3.0, 3),
        (lambda x: 1.0 * x[0] if isinstance(x[0], int) else 10.0 * x[0], [3.0], [3]),
        (lambda x: 1.0 * x[0] if x.dtype.kind == "i" else 10.0 * x[0], np.array([3.0]), np.array([3])),
        (lambda x: 1.0 * x if type(x) is int else 10.0 * x, 3.0, 3),
        (by_pattern, 3.0, 3),
    ):
        f = fg.jit(function)
        calls = float_, int_, float_, int_, float_
        assert [f(each) for each in calls] == [function(each) for each in calls]
    f = fg.jit(lambda x: 2.0 * x if not isinstance(x, (np.ndarray, list)) else x)
    assert (f(3.0), f(3), len(f.kernels)) == (6.0, 6.0, 1)


def test_values_of_the_caller_are_values():
    f = fg.compile(lambda x, y: x * y if isinstance(y, float) and not isinstance(x, float) and type(x) is Value else x)
    assert f(Value(2.0), 3.0).data == 6.0
    weight = Value(2.0)

    def loss(x, y):
        is_number = isinstance(weight * x, float) or not isinstance(weight * x, Value) or not isinstance(x, float)
        return weight if is_number else (weight * x - y) ** 2

    assert fg.nn.train_step(loss, fg.nn.SGD(0.125), [weight]).repeat(2, 1.0, 3.0) == [1.0, 0.5625]


def test_every_transformation():
    def cube(x):
        return x**3 if isinstance(x, float) else x

    assert fg.grad(fg.grad(cube))(2.0) == 12.0
    assert fg.grad(lambda x: 2.0 * fg.grad(cube)(x))(2.0) == 24.0
    assert fg.vmap(fg.grad(cube))(np.array([1.0, 2.0])).tolist() == [3.0, 12.0]
    assert fg.jacobian(lambda xs: [cube(x) for x in xs])([1.0, 2.0]) == [[3.0, 0.0], [0.0, 12.0]]
    assert fg.compile(cube)(3.0).data == 27.0
    assert fg.check_grads(cube, (2.0,)) is None


def test_beyond_the_limit_of_ways():
    def f(xs):
        total = 0.0
        for x in xs:
            total = total + (fg.exp(x) if isinstance(x, float) else 100.0) if x > 0.0 else total + x**3
        return total

    points = [[a, b] for a in (1.0, -1.0) for b in (2.0, -2.0)]
    wanted = [[math.exp(x) if x > 0.0 else 3.0 * x * x for x in point] for point in points]
    slope = fg.grad(f, max_ways=1)
    with pytest.warns(fg.KernelLimitWarning):
        assert [slope(point) for point in points] == wanted


def test_selected_numbers_keep_their_classes():
    f = fg.grad(lambda x: 2.0 * (x if x > 1.0 else 1) if isinstance(x if x > 1.0 else 1, float) else 5.0 * x)
    assert (f(2.0), f(0.5)) == (2.0, 5.0)
