"""Python's functions of numbers run as written in functions that are traced: casts, keys, rounding, `math`."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

import flatgrad as fg


def sorts_a_list(x):
    items = [x, x * 2.0, -x]
    items.sort(key=math.sin)
    return items[0]


def remainder(x, y):
    return math.remainder(x, y)


#: Functions, the number at which they are called, and the derivative there.
CASES = {
    "max with a key": (lambda x: max([x, x * 2.0, -x], key=math.sin), 3.0, 1.0),
    "min with a key": (lambda x: min(x, x * 2.0, -x, key=math.sin), 3.0, 2.0),
    "sorted with a key": (lambda x: sorted([x, x * 2.0, -x], key=math.sin)[-1], 3.0, 1.0),
    "list.sort with a key": (sorts_a_list, 3.0, 2.0),
    "float of an int": (lambda x: float(int(x)) * x, 3.7, 3.0),
    "np.int64": (lambda x: np.int64(x) * x, 3.7, 3.0),
    "np.int32 of an array": (lambda x: (np.int32(np.array([x, 2.0])) * x).sum(), 3.7, 5.0),
    "pow": (lambda x: pow(x, 3), 2.0, 12.0),
    "pow of ints": (lambda x: pow(int(x), 3, 5) * x, 3.7, 2.0),
    "round": (lambda x: round(x, 2) * x, 2.3456, 2.35),
    "round to tens": (lambda x: round(x, -1) * x, 123.0, 120.0),
    "remainder": (lambda x: math.remainder(x, 0.75), 2.0, 1.0),
    "remainder beyond the middle": (lambda x: math.remainder(3.0, x), 1.25, -2.0),
    "ldexp": (lambda x: math.ldexp(x, 3), 1.3, 8.0),
    "ldexp of small numbers": (lambda x: math.ldexp(x, -1060), 1.5e300, 2.0**-1060),
    "fsum": (lambda x: math.fsum([1e16, x, -1e16, x]), 0.3, 2.0),
    "fsum of a generator": (lambda x: math.fsum(x * k for k in (1.0, 2.0)), 0.5, 3.0),
    "a mean of a generator": (lambda x: statistics.fmean(x * k for k in (1.0, 2.0)), 0.5, 1.5),
    "prod of what map gives": (lambda x: math.prod(map(abs, [x, 2.0 * x])), -0.5, -2.0),
}


@pytest.mark.parametrize("backend", ["python", "native"])
@pytest.mark.parametrize("case", CASES)
def test_it_runs_as_written(case, backend):
    function, x, gradient = CASES[case]
    assert fg.value_and_grad(function, backend=backend)(x) == (function(x), gradient)


@pytest.mark.parametrize("y", [0.7, -2.0, 3.0, math.inf])
@pytest.mark.parametrize("x", [5.0, -5.0, 1.0, -1.0, 3.0, 0.0, -0.0, 1e300, 4.5])
def test_remainders_have_the_bits_of_pythons(x, y):
    found = fg.jit(remainder)(x, y)
    assert (found, math.copysign(1.0, found)) == (
        math.remainder(x, y),
        math.copysign(1.0, math.remainder(x, y)),
    )


def test_a_remainder_that_is_not_defined():
    f = fg.jit(remainder)
    for x, y in (1.0, 0.0), (math.inf, 2.0):
        with pytest.raises(ValueError, match="fmod"):
            f(x, y)


def test_sums_that_are_infinite():
    f = fg.jit(lambda x: math.fsum([x, 1.0, 1e308]))
    assert f(math.inf) == math.inf
    assert math.isnan(f(math.nan))


def test_powers_with_a_modulus_are_of_ints():
    with pytest.raises(TypeError, match="unless all arguments are integers"):
        fg.grad(lambda x: pow(x, 2, 3))(3.0)


def test_values_are_rounded_without_a_trace():
    assert [round(fg.Value(2.3456), digits).data for digits in (2, 0, -1)] == [2.35, 2.0, 0.0]
