"""Special functions, and functions of whole numbers: values, derivatives, errors, the same on every back end."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from tests.bits import all_bits

BACKENDS = ["python", "numpy", "native"]


# --- whole numbers ----------------------------------------------------------------------------------------------------


def test_python_functions_of_whole_numbers_give_values():
    x = Value(-2.5)
    results = [
        round(x),
        math.floor(x),
        math.ceil(x),
        math.trunc(x),
        x % 2.0,
        x // 2.0,
        *divmod(x, 2.0),
        *divmod(7.0, x),
    ]
    assert all(isinstance(result, Value) for result in results)
    assert [result.data for result in results] == [-2.0, -3.0, -2.0, -2.0, 1.5, -2.0, -2.0, 1.5, -3.0, -0.5]


def test_whole_numbers_keep_signs_and_what_is_no_number():
    for function, plain in ((fg.floor, np.floor), (fg.ceil, np.ceil), (fg.trunc, np.trunc), (fg.rint, np.rint)):
        for x in (0.0, -0.0, 0.3, -0.3, 0.5, -0.5, 1.5, 2.5, 2.0**52 - 0.5, -(2.0**60), 5e-324, math.inf, -math.inf):
            assert all_bits([function(x)]) == all_bits([float(plain(x))]), (function, x)
        assert math.isnan(function(math.nan))


def test_the_integer_of_a_value_stays_an_error():
    with pytest.raises(fg.InputError, match="an int"):
        int(Value(2.5))
    with pytest.raises(fg.InputError, match="decimal number"):
        round(Value(2.5), 1)
    with pytest.raises(fg.TraceError, match=r"fg\.rint\(value \* 10\.0\*\*digits\) / 10\.0\*\*digits"):
        fg.grad(lambda x: round(x, 1))(2.567)
    assert fg.value_and_grad(lambda x: x * (fg.rint(x * 10.0**1) / 10.0**1))(2.567) == (2.567 * 2.6, 2.6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_remainders_have_the_bits_of_python(backend):
    f = fg.compile(lambda a, b: [a % b, a // b, fg.fmod(a, b)], backend=backend)
    numbers = (0.0, -0.0, 7.5, -7.5, 0.1, 1e300, -3.0, 5e-324, 2.0**53)
    for a in numbers:
        for b in (2.5, -2.5, 0.1, 1e-300, 1e300, -math.inf, math.nan, 3.0):
            assert all_bits([out.data for out in f(a, b)]) == all_bits([a % b, a // b, math.fmod(a, b)]), (a, b)
        for row in (fg.mod, fg.floordiv, fg.fmod):
            with pytest.raises(ValueError if row is fg.fmod else ZeroDivisionError):
                fg.value_and_grad(row, backend=backend)(a, -0.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sawtooth_and_a_step(backend):
    """The slope of a remainder is that of what is between its jumps."""
    f = fg.value_and_grad(lambda x, b: x % b + 10.0 * math.floor(x) + x // b, argnums=(0, 1), backend=backend)
    assert f(7.25, 2.0) == (1.25 + 70.0 + 3.0, (1.0, -3.0))
    assert f(-0.25, 2.0) == (1.75 - 10.0 - 1.0, (1.0, 1.0))


def test_integers_stay_integers():
    """An int among the arguments still is one where Python needs an int."""

    def f(x, n):
        return x * [1.0, 10.0, 100.0][n % 3] + n // 2 + math.floor(n)

    assert fg.grad(f)(2.0, 4) == 10.0
    assert fg.value_and_grad(lambda x, n: x % n)(7.5, 2) == (1.5, 1.0)
