"""Complex numbers of `Value`s: the arithmetic of CPython's `complex` and `cmath`, gradients, Fourier transforms."""

from __future__ import annotations

import cmath
import math
import operator
import random

import numpy as np
import pytest
import scipy

import flatgrad as fg
from flatgrad import Value
from tests.bits import all_bits
from tests.examples import slow

BACKENDS = ["python", "numpy", "native"]


def data(number):
    return number.data if isinstance(number, Value) else number


def parts(z):
    return [data(z.real), data(z.imag)]


def numbers(seed):
    draw = random.Random(seed)
    return [complex(draw.uniform(-3.0, 3.0), draw.uniform(-3.0, 3.0)) for _ in range(60)]


# --- arithmetic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv"])
def test_arithmetic_has_the_bits_of_complex(name):
    operation = getattr(operator, name)
    for a, b in zip(numbers(1), numbers(2), strict=True):
        x, y = (fg.complex(Value(z.real), Value(z.imag)) for z in (a, b))
        wanted = [operation(a, b).real, operation(a, b).imag]
        assert all_bits(parts(operation(x, y))) == all_bits(wanted), (a, b)
        assert all_bits(parts(operation(x, b))) == all_bits(wanted), (a, b)
        assert all_bits(parts(operation(a, y))) == all_bits(wanted), (a, b)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, 13, -1, -2, -5])
def test_whole_powers_have_the_bits_of_complex(exponent):
    for a in numbers(3):
        wanted = a**exponent
        assert parts(fg.complex(Value(a.real), Value(a.imag)) ** exponent) == [wanted.real, wanted.imag], a


def test_real_and_complex_operands():
    """A Value beside a complex number, on either side of each operator."""
    x, z = 1.7, 0.6 - 1.1j
    for name in ("add", "sub", "mul", "truediv", "pow"):
        operation = getattr(operator, name)
        for a, b in ((Value(x), z), (z, Value(x)), (Value(x), np.complex128(z)), (np.complex128(z), Value(x))):
            plain = [data(a) if isinstance(a, Value) else complex(a), data(b) if isinstance(b, Value) else complex(b)]
            assert complex(*parts(operation(a, b))) == pytest.approx(operation(*plain), rel=1e-15), name


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh"])
def test_functions_are_those_of_cmath(name):
    for a in [*numbers(4), 1.0 + 0j, -1.0 + 0.0j, complex(-1.0, -0.0), 2j, -2j]:
        z = fg.complex(Value(a.real), Value(a.imag))
        wanted = getattr(cmath, name)(a)
        for result in (getattr(fg, name)(z), getattr(np, name)(z), getattr(z, name)()):
            assert complex(*parts(result)) == pytest.approx(wanted, rel=1e-13, abs=1e-15), a


@pytest.mark.parametrize("x", [20.0, -20.0, 400.0, 800.0, -1e200, 1e-9, 0.0, -0.0])
def test_tangents_far_out(x):
    """Nothing cancels and nothing overflows where `cmath` has a number, and signs of zeros are those of `cmath`."""
    for y in (1.0, -0.7, 0.0, 2.0):
        wanted = cmath.tanh(complex(x, y))
        result = parts(fg.tanh(fg.complex(Value(x), Value(y))))
        assert result == pytest.approx([wanted.real, wanted.imag], rel=1e-14, abs=0.0)
        turned = parts(fg.tan(fg.complex(Value(y), Value(x))))
        wanted = cmath.tan(complex(y, x))
        assert turned == pytest.approx([wanted.real, wanted.imag], rel=1e-14, abs=0.0)
        assert [math.copysign(1.0, each) for each in turned] == [
            math.copysign(1.0, each) for each in (wanted.real, wanted.imag)
        ]
    assert fg.grad(lambda x: fg.tanh(fg.complex(x, 1.0)).real)(x) == pytest.approx(
        (1.0 - cmath.tanh(complex(x, 1.0)) ** 2).real, rel=1e-9, abs=1e-15
    )


def test_functions_of_arrays_of_complex_numbers():
    """What NumPy computes of lengths, and with conjugates."""
    x, y = np.array([3.0, 4.0, -1.0]), np.array([1.0, 2.0, 0.5])
    for function in (
        lambda x, y: np.linalg.norm(1j * x + y),
        lambda x, y: np.linalg.norm(np.outer(x, 1j * y), axis=1),
        lambda x, y: np.var(1j * x + y),
        lambda x, y: np.std(np.outer(1j * x, y) + x, axis=0),
        lambda x, y: np.cov(np.array([1j * x + y, x])).imag,
        lambda x, y: np.linalg.cholesky(np.outer(1j * x + y, y - 1j * x) + np.eye(3)).imag,
        lambda x, y: np.vdot(1j * x + y, x - 2j * y).imag,
        lambda x, y: np.correlate(1j * x + y, x - 2j * y, "full").imag,
        lambda x, y: np.angle(1j * x + y, deg=True),
        lambda x, y: np.sqrt((x - 3.5).astype(complex)).imag + y,
        lambda x, y: x if np.iscomplexobj(1j * x) and np.isrealobj(x) else y,
        lambda x, y: np.where(np.isreal(1j * (x - 3.0)), x, y) + np.where(np.iscomplex(1j * (x - 3.0)), 0.0, y),
        lambda x, y: np.where(np.isreal(x), x, y) + np.where(np.iscomplex(1j * x[0]), x, y),
        lambda x, y: np.nansum(np.where(x > 3.5, np.nan, 1j * x + y)).imag,
        lambda x, y: np.nanmean(np.where(x > 3.5, np.nan, 1j * x + y)).real,
        lambda x, y: np.where(np.isnan(np.where(x > 3.5, 1j * np.nan, 1j * x)), 7.0, x),
        lambda x, y: np.where(np.isfinite(np.where(x > 3.5, 1j * np.inf, 1e308 * (1.0 + 1.5j) * y)), x, y),
        lambda x, y: np.where(np.isinf(np.where(x > 3.5, 1j * np.inf, 1j * x)), x, y),
        lambda x, y: x if np.allclose(1j * x + y, 1j * (x + 1e-12) + y) else y,
        lambda x, y: x if np.array_equal(1j * x, 1j * y) else y,
        lambda x, y: np.where(np.isclose(1j * x, 1j * np.array([3.0, 5.0, -1.0])), x, y),
        lambda x, y: np.where((1j * x + y == 1.0 + 3j) | (1j * x + y != 1j * x + 2.0), x, y),
        lambda x, y: np.count_nonzero(1j * (x - 3.0)) * x + np.where(np.any(1j * x), 1.0, 0.0),
        lambda x, y: np.round(1.2345 * x + 1j * 2.3456 * y, 2).imag,
        lambda x, y: np.log10(1j * x + y).imag + np.log2(1j * x + y).real,
        lambda x, y: np.log1p(1j * x + y).imag + np.exp2(0.5j * x + y).real,
        lambda x, y: np.nan_to_num(np.where(x > 3.5, np.nan, 1j * x + y)).imag,
        lambda x, y: np.fft.hfft(1j * x + y),
        lambda x, y: np.fft.ihfft(x).imag + np.fft.ihfft(y, norm="ortho").real,
        lambda x, y: np.linalg.norm(np.fft.fft2(np.outer(1j * x, y)), axis=0),
        lambda x, y: np.fft.ifft2(np.outer(1j * x, y + x)).imag,
        lambda x, y: np.fft.fftn(np.multiply.outer(np.outer(x, y), y), axes=(0, 2)).imag,
        lambda x, y: np.fft.ifftn(np.multiply.outer(np.outer(x, y), y), s=(2, 4), axes=(1, 2)).real,
        lambda x, y: np.fft.rfft2(np.outer(x, y)).real,
        lambda x, y: np.fft.rfftn(np.outer(x, y), norm="ortho").imag,
        lambda x, y: np.fft.irfft2(np.outer(1j * x, y + x)),
        lambda x, y: np.fft.irfftn(np.outer(1j * x, y + x), s=(3, 5), axes=(0, 1)),
        lambda x, y: scipy.fft.fft(x).imag + scipy.fft.fft2(np.outer(x, y)).real,
    ):
        np.testing.assert_allclose(fg.jit(function)(x, y), function(x, y), rtol=1e-13, atol=1e-15)


@pytest.mark.skipif(not hasattr(np, "vecmat"), reason="NumPy 2 has these")
def test_newer_functions_of_arrays_of_complex_numbers():
    x, y = np.array([3.0, 4.0, -1.0]), np.array([1.0, 2.0, 0.5])
    for function in (
        lambda x, y: np.linalg.cholesky(np.outer(1j * x + y, y - 1j * x) + np.eye(3), upper=True).real,
        lambda x, y: np.vecdot(1j * x + y, x - 2j * y).imag,
        lambda x, y: np.vecmat(1j * x, np.outer(x, y)).imag,
    ):
        np.testing.assert_allclose(fg.jit(function)(x, y), function(x, y), rtol=1e-13, atol=1e-15)


def test_parts_of_sums_and_products():
    def f(x):
        z = np.array([x + 2j, 2.0 - 1j * x])
        return np.real(np.prod(z)) * np.imag(np.sum(z)) + np.real(np.prod(z[1:])).item()

    assert fg.value_and_grad(f)(3.0) == (f(3.0), pytest.approx((f(3.001) - f(2.999)) / 0.002))


def test_parts_length_and_angle():
    z = fg.complex(Value(3.0), Value(-4.0))
    assert (data(abs(z)), data(z.phase())) == (5.0, cmath.phase(3.0 - 4.0j))
    assert parts(z.conjugate()) == [3.0, 4.0]
    assert parts(-z) == [-3.0, 4.0]
    assert parts(+z) == [3.0, -4.0]
    assert parts(np.where(Value(1.0) > 0.0, z, 1j)) == [3.0, -4.0]
    assert parts(fg.where(Value(1.0) < 0.0, z, 1j)) == [0.0, 1.0]
    assert repr(fg.complex(1.0, 2.0)) == "Complex(1.0, 2.0)"


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(backend):
    impedance = fg.value_and_grad(lambda r: abs(r + 1 / (1j * 0.5) + 2j) ** 2, backend=backend)
    assert impedance(3.0) == (9.0, 6.0)

    def f(x, y):
        z = fg.exp(1j * x * y) * (x + 2j) ** 3 / (y - 1j) - fg.sqrt(x + 1j * y) * fg.log(2.0 + y * 1j)
        return abs(z) + z.real * z.imag

    def plain(x, y):
        z = cmath.exp(1j * x * y) * (x + 2j) ** 3 / (y - 1j) - cmath.sqrt(x + 1j * y) * cmath.log(2.0 + y * 1j)
        return abs(z) + z.real * z.imag

    value, slopes = fg.value_and_grad(f, argnums=(0, 1), backend=backend)(0.7, -1.3)
    h = 1e-6
    differences = [
        (plain(0.7 + h, -1.3) - plain(0.7 - h, -1.3)) / (2 * h),
        (plain(0.7, -1.3 + h) - plain(0.7, -1.3 - h)) / (2 * h),
    ]
    assert value == pytest.approx(plain(0.7, -1.3), rel=1e-14)
    assert slopes == pytest.approx(differences, rel=1e-8)
    x, y = Value(0.7), Value(-1.3)
    out = f(x, y)
    out.backward()
    assert (out.data, (x.grad, y.grad)) == (value, slopes), "the bits of the interpreter"


def test_the_length_of_zero_has_the_gradient_zero():
    assert fg.value_and_grad(lambda x: abs(x * (1.0 + 1j)))(0.0) == (0.0, 0.0)
    assert parts(fg.sqrt(fg.complex(Value(0.0), Value(0.0)))) == [0.0, 0.0]


def test_a_price_by_the_characteristic_function():
    """The call of Black and Scholes by Gil-Pelaez' integrals, whose integrand is complex."""

    def by_integration(spot, sigma, strike=95.0, rate=0.02, time=0.5):
        def characteristic(u):
            mean = fg.log(spot) + (rate - sigma**2 / 2) * time
            return fg.exp(1j * u * mean - 0.5 * time * sigma**2 * u**2)

        width, total = 0.2, [0.0, 0.0]
        for k in range(300):
            u = (k + 0.5) * width
            phase = cmath.exp(-1j * u * math.log(strike)) / (1j * u)
            total[0] = total[0] + (phase * characteristic(u - 1j) / characteristic(-1j)).real
            total[1] = total[1] + (phase * characteristic(u)).real
        first, second = (0.5 + width / math.pi * each for each in total)
        return spot * first - strike * math.exp(-rate * time) * second

    def closed(spot, sigma, strike=95.0, rate=0.02, time=0.5):
        d1 = (fg.log(spot / strike) + (rate + sigma**2 / 2) * time) / (sigma * math.sqrt(time))
        return spot * fg.ndtr(d1) - strike * math.exp(-rate * time) * fg.ndtr(d1 - sigma * math.sqrt(time))

    price, greeks = fg.value_and_grad(by_integration, argnums=(0, 1))(100.0, 0.2)
    wanted, slopes = fg.value_and_grad(closed, argnums=(0, 1))(100.0, 0.2)
    assert price == pytest.approx(wanted, rel=1e-9)
    assert greeks == pytest.approx(slopes, rel=1e-9)


# --- Fourier transforms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", slow([1, 2, 3, 4, 5, 6, 8, 12, 15, 16], 12, 15, 16))
def test_fourier_transforms(n):
    x = np.random.RandomState(n).normal(size=n)
    for name in ("fft", "ifft", "rfft"):
        transform = getattr(np.fft, name)
        for options in ({}, {"norm": "ortho"}, {"norm": "forward"}, {"n": n + 1}):
            f = fg.compile(lambda x, t=transform, o=options: [t(x, **o).real, np.imag(t(x, **o))])
            got = np.array([data(part) for row in f(x) for part in row])
            wanted = transform(x, **options)
            assert np.allclose(got, [*wanted.real, *wanted.imag], rtol=1e-14, atol=1e-14), (name, options)
    again = fg.compile(lambda x: np.fft.irfft(np.fft.rfft(x), n))(x)
    assert np.allclose([data(part) for part in again], x, rtol=1e-14, atol=1e-15)


def test_fourier_transforms_along_an_axis():
    x = np.random.RandomState(1).normal(size=(3, 4))
    for axis in (0, 1, -1):
        f = fg.compile(lambda x, axis=axis: np.abs(np.fft.fft(x, axis=axis)).ravel())
        wanted = np.abs(np.fft.fft(x, axis=axis)).ravel()
        assert np.allclose([data(part) for part in f(x)], wanted, rtol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_of_a_spectrum(backend):
    f = fg.grad(lambda x: (abs(np.fft.fft(x)) ** 2)[1], backend=backend)
    assert f(np.array([1.0, 2.0, 4.0])) == pytest.approx([-4.0, -1.0, 5.0], rel=1e-14)
    x = np.random.RandomState(2).normal(size=16)
    energy = fg.grad(lambda x: (np.abs(np.fft.fft(x)) ** 2).sum(), backend=backend)  # Parseval
    assert energy(x) == pytest.approx(2.0 * 16 * x, rel=1e-13)


def test_a_fourier_transform_by_hand():
    """Written with complex numbers of the standard library, as in a textbook."""

    def fft(x):
        if len(x) == 1:
            return x
        even, odd = fft(x[::2]), fft(x[1::2])
        turned = [cmath.exp(-2j * cmath.pi * k / len(x)) * z for k, z in enumerate(odd)]
        return [a + b for a, b in zip(even, turned)] + [a - b for a, b in zip(even, turned)]  # noqa: B905

    def power(x):
        return abs(fft(list(x))[3]) ** 2

    x = np.random.RandomState(3).normal(size=8)
    row = np.exp(-2j * np.pi * 3 * np.arange(8) / 8)
    value, slope = fg.value_and_grad(power)(x)
    assert value == pytest.approx(power(x), rel=1e-14)
    assert slope == pytest.approx(2.0 * (np.conj(row) * (row @ x)).real, rel=1e-12)


# --- parts that are set -----------------------------------------------------------------------------------------------


def test_parts_are_set():
    def f(x, y):
        z = 1j * x
        z.real = y
        z.imag[1] = 5.0
        z.real += 1.0
        part = z.imag
        part *= 2.0
        copy = z.real.copy()
        copy[0] = 100.0
        z[2] = y[0]
        real = 2.0 * x
        real.real = y
        real.real[0] = x[0]
        return np.concatenate([z.real, z.imag, real, copy])

    def with_zeros(x, y):
        z = np.zeros(3, complex)
        z.real, z.imag = x, y
        return np.abs(z)

    x, y = np.array([3.0, 4.0, -1.0]), np.array([1.0, 2.0, 0.5])
    assert fg.jit(f)(x, y).tolist() == f(x, y).tolist()
    assert fg.jit(with_zeros)(x, y).tolist() == with_zeros(x, y).tolist()
    assert fg.grad(lambda x: f(x, y).sum())(x).tolist() == [3.0, 0.0, 0.0]


def test_parts_that_cannot_be_set():
    def bad(x):
        z = 2.0 * x
        z.imag = x
        return abs(z)

    def good(x):
        z = (2.0 * x).astype(complex)
        z.imag = x
        return abs(z)

    with pytest.raises(fg.InputError, match=r"no imaginary parts to set; write a = a\.astype\(complex\) before"):
        fg.jit(bad)(np.array([1.0]))
    assert fg.jit(good)(np.array([1.0])).tolist() == [math.hypot(1.0, 2.0)]

    def slice_of_parts(x):
        z = 1j * x
        z.imag[1:][0] = 5.0
        return z.imag

    with pytest.raises(ValueError, match="read-only"):
        fg.jit(slice_of_parts)(np.array([1.0, 2.0]))


# --- loops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_with_a_complex_carry(backend):
    def step(z, x):
        z = z * (0.6 + 0.5j) + x
        return z, {"z": z, "length": abs(z)}

    def f(start, xs):
        z, results = fg.scan(step, start * (1.0 + 0.0j), xs)
        return abs(z) + np.sum(results["z"].imag) + np.sum(results["length"])

    xs = np.sin(np.arange(40.0))
    wanted = f(0.7, xs)
    value, slope = fg.value_and_grad(f, backend=backend)(0.7, xs)
    assert value == pytest.approx(wanted, rel=1e-14)
    assert slope == pytest.approx((f(0.7 + 1e-6, xs) - f(0.7 - 1e-6, xs)) / 2e-6, rel=1e-8)
    assert len(fg.value_and_grad(f).kernel_for(0.7, np.zeros(400)).program) < 400 * 60


def test_loops_with_complex_arrays_and_without_rounds():
    def step(carry, x):
        z, k = carry
        return (z * x + 1j, k + 1.0), z

    z = np.array([1.0 + 2j, -1j])
    (last, k), rows = fg.scan(step, (z, 0.0), np.arange(12.0))
    assert (last.dtype, rows.dtype, rows.shape, k) == (np.dtype(complex), np.dtype(complex), (12, 2), 12.0)
    again = fg.jit(lambda xs: [fg.scan(step, (z, 0.0), xs)[1].imag, fg.scan(step, (z, 0.0), xs)[0][0].real])
    np.testing.assert_allclose(again(np.arange(12.0))[0], rows.imag)
    np.testing.assert_allclose(again(np.arange(12.0))[1], last.real)
    same, none = fg.scan(step, (z, 0.0), np.zeros(0))
    assert same[0] is z
    assert none.shape == (0, 2)
    with pytest.raises(fg.InputError, match="the carry is a number in init, and a ComplexParts"):
        fg.scan(lambda z, x: (z + 1j, None), 0.0, np.zeros(3))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_complex_numbers_are_not():
    z = fg.complex(Value(1.0), 2.0)
    for use in (complex, float, bool, lambda z: z == 1.0, lambda z: z < 1.0, fg.floor, cmath.exp):
        with pytest.raises(fg.InputError, match=r"z\.real|fg\.equal"):
            use(z)
    with pytest.raises(fg.InputError, match="expected a number"):
        fg.complex("1")


def test_arrays_of_complex_numbers():
    """NumPy would make arrays of Python objects of them, whose imaginary parts it takes for zero."""

    def assigned(x):
        a = np.zeros(3, dtype=complex)
        a[:2], a[2:] = x[0] * 1j, [x[1] * 2j]
        a[np.array([True, False, False])] = x[2] * 3j
        return a.imag.sum()

    x = np.array([0.5, -1.25, 2.0])
    for function in (
        lambda x: np.array([x[0] + 1j, 2.0]).imag.sum() + np.asarray([[x[1] * 1j, 2.0], [1j, x[0]]]).imag.sum(),
        lambda x: np.array([x[0] * (1 + 1j), 2.0]).real.sum() + np.imag([x[2] * 1j, 2j]).sum(),
        lambda x: np.stack([x[0] * 1j, x[1] + 2.0]).imag.sum() + np.hstack([x * 1j, [x[0] * 2j]]).imag.sum(),
        lambda x: np.concatenate([[x[0] * 1j], [x[1] * 2j, 3.0]]).imag.sum() + np.append(x, x[0] * 1j).imag.sum(),
        lambda x: np.full(2, x[0] * 1j).imag.sum() + np.prod([x[0] * 1j, x[1] + 1j]).real,
        lambda x: np.exp([x[0] * 1j, x[1] * 2j]).real.sum() + np.fft.ifft([x[0] * 1j, 1.0, x[1]]).imag.sum(),
        lambda x: np.linalg.solve(np.array([[x[0] * 1j, 2.0], [1.0, x[2]]]), np.array([1.0, 2.0])).imag.sum(),
        lambda x: x[0] if np.iscomplexobj(np.array([x[0] * 1j, 2.0])) else x[1],
        assigned,
    ):
        value, slope = fg.value_and_grad(function)(x)
        assert value == pytest.approx(function(x), rel=1e-14)
        differences = [(function(x + h) - function(x - h)) / 2e-6 for h in 1e-6 * np.eye(3)]
        assert slope == pytest.approx(differences, rel=1e-8, abs=1e-9)
    with pytest.raises(fg.InputError, match=r"write fg\.array"):
        np.array([Value(1.0) * 1j, 2.0])
    assert fg.array([Value(1.0) * 1j, 2.0]).imag[0].data == 1.0


def test_results_are_real():
    with pytest.raises(fg.InputError, match=r"returned a Complex; return abs\(z\), or z\.real\n"):
        fg.grad(lambda x: x * 1j)(2.0)
    with pytest.raises(fg.InputError, match=r"complex number; return \[z\.real, z\.imag\]"):
        fg.compile(lambda x: [x * 1j])(2.0)
