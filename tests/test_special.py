"""Special functions, and functions of whole numbers: values, derivatives, errors, the same on every back end."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from mpmath import mp

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
    assert round(Value(2.567), 1).data == 2.6
    assert fg.value_and_grad(lambda x: x * round(x, 1))(2.567) == (2.567 * 2.6, 2.6)
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


# --- special functions ------------------------------------------------------------------------------------------------

#: Functions with what mpmath makes of them, where they are compared, and how many half units of the last place
#: (2**-53, relative) they may be off.
ACCURACY = {
    "digamma": (mp.digamma, (0.001, 50.0), 6),
    "trigamma": (lambda x: mp.polygamma(1, x), (0.001, 50.0), 12),
    "ndtr": (mp.ncdf, (-1.0, 8.0), 6),
    "log_ndtr": (lambda x: mp.log(mp.erfc(-x / mp.sqrt(2)) / 2), (-60.0, 1.0), 12),
    "ndtri": (lambda p: mp.sqrt(2) * mp.erfinv(2 * p - 1), (0.0001, 0.9999), 12),
    "j0": (lambda x: mp.besselj(0, x), (-100.0, 100.0), 50),
    "j1": (lambda x: mp.besselj(1, x), (-100.0, 100.0), 50),
}


@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy(name):
    exact, (low, high), limit = ACCURACY[name]
    draw = random.Random(name)
    with mp.workdps(40):
        for _ in range(150):
            x = draw.uniform(low, high)
            wanted = exact(mp.mpf(x))
            assert abs(getattr(fg, name)(x) / wanted - 1) < limit * 2.0**-53, x


def test_the_logarithm_of_the_gamma_function_is_that_of_python():
    """Its value to some bits, as processors differ in how they round what `math` computes; what it raises exactly."""
    draw = random.Random(1)
    for x in [draw.uniform(-20.0, 60.0) for _ in range(500)] + [1e-30, 1.0, 2.0, 1e300, -0.5, math.inf, -math.inf]:
        assert fg.lgamma(x) == pytest.approx(math.lgamma(x), rel=1e-13, abs=1e-14), x
    for x in (0.0, -0.0, -1.0, -7.0, -1e300):
        with pytest.raises(ValueError, match="math domain"):
            math.lgamma(x)
        with pytest.raises(fg.DomainError, match="other than 0"):
            fg.lgamma(x)
    with pytest.raises(OverflowError):
        math.lgamma(1e306)
    with pytest.raises(fg.RangeError):
        fg.lgamma(1e306)


def test_the_gamma_function_is_that_of_python():
    draw = random.Random(2)
    for x in [draw.uniform(-20.0, 60.0) for _ in range(500)] + [1e-30, 1.0, 5.0, 23.0, 170.5, -0.5, -250.5, math.inf]:
        assert fg.gamma(x) == pytest.approx(math.gamma(x), rel=1e-13), x
    assert [fg.gamma(float(k + 1)) for k in range(23)] == [float(math.factorial(k)) for k in range(23)]
    for x in (0.0, -1.0, -math.inf):
        with pytest.raises(fg.DomainError, match="other than 0"):
            fg.gamma(x)
    with pytest.raises(fg.RangeError):
        fg.gamma(172.0)
    assert fg.grad(fg.gamma)(2.5) == pytest.approx(float(mp.gamma(2.5) * mp.digamma(2.5)), rel=1e-14)


def test_derivatives_go_on():
    """The n-th derivative of the logarithm of the gamma function is a polygamma function."""
    f = fg.lgamma
    for n in range(6):
        f = fg.grad(f)
        assert f(3.7) == pytest.approx(float(mp.polygamma(n, 3.7)), rel=1e-13)
    assert fg.grad(fg.lgamma)(-0.3) == pytest.approx(float(mp.digamma(-0.3)), rel=1e-13)
    with pytest.raises(fg.DomainError, match="polygamma"):
        fg.grad(fg.trigamma)(-0.3)
    assert fg.grad(fg.grad(fg.j1))(0.0) == 0.0
    assert [fg.grad(fg.log_ndtr)(x) for x in (-300.0, 0.0)] == pytest.approx([300.0033332592636, 0.7978845608028654])


def test_derivatives_of_bessel_functions_go_on():
    """Those of j1 near 0, too, where its recurrence cancels."""
    for order, f in enumerate((fg.j0, fg.j1)):
        for n in range(1, 6):
            f = fg.grad(f)
            for x in (0.0, 1e-12, 1e-8, -1e-4, 0.01, 0.5, -0.99, 1.01, 3.0):
                wanted = mp.besselj(order, x, derivative=n)
                assert f(x) == pytest.approx(float(wanted), rel=1e-12, abs=1e-300), (order, n, x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_special_functions_in_loops(backend):
    """Many lanes at once, with gradients; a fault in one of them is an error."""

    def f(x, s):
        return fg.sum([fg.lgamma(a * s) + fg.ndtri(fg.ndtr(a - 1.0)) * fg.j0(a) + fg.log_ndtr(-a) for a in x])

    x = [0.1 * k + 0.05 for k in range(60)]
    wanted = fg.value_and_grad(f, backend="python")(x, 1.5)
    assert fg.value_and_grad(f, backend=backend)(x, 1.5) == wanted
    nodes = [fg.Value(a) for a in x]
    out = f(nodes, 1.5)
    out.backward()
    assert wanted == (out.data, [node.grad for node in nodes])
    with pytest.raises(fg.DomainError, match="lgamma"):
        fg.value_and_grad(f, backend=backend)([*x[:-1], -2.0], 1.5)


def test_saved_modules_contain_what_they_call(tmp_path):
    kernel = fg.value_and_grad(lambda x: fg.lgamma(x) + x % 2.0).kernel_for(2.5)
    kernel.save(tmp_path / "saved.py")
    names = {}
    exec((tmp_path / "saved.py").read_text(encoding="utf-8").replace("flatgrad", "other"), names)
    assert names["value_and_grad"](-2.5) == fg.value_and_grad(lambda x: fg.lgamma(x) + x % 2.0)(-2.5)


def test_without_exceptions():
    f = fg.value_and_grad(lambda x: fg.lgamma(x) + fg.ndtri(x), faults="ieee")
    assert all(math.isnan(part) for part in f(-3.0))
    assert fg.compile(fg.trigamma, faults="ieee")(1e-200).data == math.inf


def test_composites():
    for x in (-2.0, 0.0, 0.7):
        assert fg.norm_pdf(x) == pytest.approx(math.exp(-x * x / 2) / math.sqrt(2 * math.pi), rel=1e-15)
    assert fg.grad(fg.ndtr)(0.7) == fg.norm_pdf(0.7)
    assert fg.betaln(2.0, 3.0) == pytest.approx(-math.log(12.0), rel=1e-14)
