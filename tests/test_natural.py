"""Calls of `math`, `statistics` and NumPy on `Value`s run as written, where Python has the source of the function."""

from __future__ import annotations

import array
import cmath
import functools
import math
import operator
import statistics
import sys
import threading
import warnings
from math import exp as power_of_e

import numpy as np
import pytest
import scipy

import flatgrad as fg
from flatgrad.compiler.calls import natural

X = np.array([0.5, 2.0, 1.25])
TABLE = np.array([1.0, 2.0, 3.0])


def filter_(x):
    y = np.zeros(len(x) + 1)
    for i in range(len(x)):
        y[i + 1] = 0.9 * y[i] + x[i]
    return (y * y).sum()


def mixed(x):
    return np.exp(np.array([0.0, x[0], x[1]])).sum()


def concatenated(x):
    return np.sin(np.concatenate([[0.0], x])).sum()


def of_list(x):
    return np.exp([0.0, x[0], 1.0]).sum() + np.linalg.norm([x[0], 3.0])


def of_math(x):
    return math.sqrt(x[0]) * math.log(x[1]) + math.atan2(x[0], x[1]) * power_of_e(x[2]) + math.fabs(-x[1]) + math.pi


def with_bases(x):
    return math.log(x[1], 3.0) + math.log2(x[0]) + math.log10(x[1]) + math.pow(x[2], 3) + math.degrees(x[0])


def distances(x):
    return math.hypot(x[0], x[1], x[2]) + math.hypot(x[0], 2.0) + math.dist([x[0], 1.0], [x[1], 2.0])


def questions(x):
    if math.isfinite(x[0]) and not math.isnan(x[1]) and not math.isinf(x[2]) and not math.isclose(x[0], x[1]):
        return math.prod(x) + math.radians(x[0])
    return 0.0


def parts(x):
    return x[1] * math.floor(x[1] + 0.25) + x[0] * math.ceil(x[0]) + math.trunc(x[2]) * x[2]


def whole_and_rest(x):
    rest, whole = math.modf(x[1] + 0.25)
    return rest * x[0] + whole * x[1]


def complex_functions(x):
    z = complex(x[0], x[1])
    return abs(cmath.tanh(z)) + cmath.tan(z).imag + cmath.log(z, 10).real + cmath.log(x[2], 2.0).real


def means(x):
    numbers = [*x]
    return statistics.mean(numbers) * statistics.fmean(numbers) + statistics.stdev(numbers) * statistics.pvariance(
        numbers
    )


def other_means(x):
    return statistics.geometric_mean(list(x)) + statistics.harmonic_mean(list(x)) + statistics.median(list(x))


def in_place(x):
    y = np.zeros(3)
    y += x
    y[0] += x[1] * 2.0
    y[1:] *= 3.0
    return np.dot(y, y)


def matrix(x):
    m = np.eye(3)
    m[0, 1] = x[0]
    m[1, :] = x
    return (m @ m).sum()


def quadrature(x):
    grid = np.linspace(0.0, 1.0, 5)
    return sum(math.exp(-x[0] * each) for each in grid) / len(grid)


def empty(x):
    y = np.empty((2, 2))
    y[0] = x[:2]
    y[1] = 1.0
    return np.sum(y * y)


def full_and_ones(x):
    y, z = np.full(3, 2.0), np.ones(3, dtype=float)
    y[1], z[-1] = x[0], x[1]
    return (y * z).sum()


def conversions(x):
    return np.float64(x[0]) * 2.0 + np.asarray([x[0], 1], dtype=float).sum() + sum(array.array("d", [x[1], 2.0]))


def copied(x):
    y = TABLE.copy()
    y[1] = x[0]
    return (y * y).sum() + TABLE.sum()


def applied(x):
    return sum(map(math.cos, x)) + functools.reduce(math.hypot, x)


def nested(x):
    def inner(z):
        return math.tanh(z) + (lambda w: 2.0 * math.sin(w))(z)

    return sum(inner(z) for z in x)


def branches(x):
    total = 0.0
    for each in x:
        total += math.exp(each) if each > 1.5 else math.log1p(each)
    return total


def selections(x):
    y = np.zeros(3)
    for i in range(3):
        y[i] = x[i] if x[i] > 1.0 else 0.0
    return (y * x).sum() + math.exp(max(x[0], x[1]))


def until_converged(x):
    y = x[0]
    while math.fabs(y * y - x[1]) > 1e-12:
        y = 0.5 * (y + x[1] / y)
    return y


def indices(x):
    order = np.arange(3)[::-1]
    weights = np.arange(3.0)
    weights[0] = x[0]
    return (weights * x[order]).sum()


def counted(x):
    return (x[0] > 0.1) * x[0] + sum(each > 1.0 for each in x) * x[1] + [x[0], x[2]][int(x[1] > 1.0)] * int(x[2] > 5.0)


def looked_up(x):
    """Whole numbers of Values are their values where Python needs an int."""
    rows, place = [1.0, 2.0, 4.0, 8.0], int(x[1] + 0.1)
    return (
        rows[place] * x[0]
        + rows[math.floor(x[0] + 0.1)] * x[1]
        + sum(x[2] for _ in range(math.ceil(x[0] + 0.1) + round(x[2] + 0.1)))
    )


def frequencies(x):
    """The characteristic function of a normal distribution, and a Fourier sum."""
    phi = cmath.exp(1j * x[0] - 0.5 * x[1] * x[1])
    spectrum = np.zeros(3, dtype=complex)
    for k in range(3):
        for n in range(3):
            spectrum[k] += x[n] * cmath.exp(-2j * math.pi * k * n / 3)
    return phi.real * abs(spectrum[1]) ** 2 + complex(x[0], x[1]).imag


class Model:
    """Its method calls a function that is an attribute."""

    def __init__(self):
        self.activation = math.tanh

    def __call__(self, x):
        return self.activation(x[0]) * self.scaled(x)

    def scaled(self, x):
        return math.erf(x[1]) * x[2]


MODEL = Model()


def model(x):
    return MODEL(x)


FUNCTIONS = [
    filter_, mixed, concatenated, of_list, of_math, with_bases, distances, questions, parts, means, other_means,
    whole_and_rest, complex_functions,
    in_place, matrix, quadrature, empty, full_and_ones, conversions, copied, applied, nested, branches, selections,
    until_converged, indices, counted, looked_up, frequencies,
    model,
]  # fmt: skip


def slope(function, x, step=1e-6):
    """Central differences."""
    gradient = np.zeros_like(x)
    for k in range(len(x)):
        ahead, behind = x.copy(), x.copy()
        ahead[k] += step
        behind[k] -= step
        gradient[k] = (function(ahead) - function(behind)) / (2.0 * step)
    return gradient


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_function_runs_as_written(function):
    compiled = fg.value_and_grad(function)
    for x in (X, X[::-1].copy(), X + 0.3):
        value, gradient = compiled(x)
        assert value == pytest.approx(function(x), rel=1e-14)
        np.testing.assert_allclose(gradient, slope(function, x), rtol=1e-6, atol=1e-8)
    assert fg.jit(function)(X) == compiled(X)[0]
    np.testing.assert_array_equal(fg.grad(function)(X), compiled(X)[1])
    assert fg.value_and_grad(function, backend="python")(X)[0] == compiled(X)[0]


@pytest.mark.parametrize("function", [filter_, of_math, nested, selections, model], ids=lambda f: f.__name__)
def test_the_functions_themselves_are_as_before(function):
    code = function.__code__
    fg.grad(function)(X)
    assert function.__code__ is code
    assert not natural.NATURAL.switch.on
    assert type(function(X)) in (float, np.float64)


def test_every_transformation():
    def f(x):
        return math.exp(-x * x)

    w = fg.Value(0.5)
    y = fg.compile(lambda: f(w))()
    y.backward()
    assert (y.data, w.grad) == fg.value_and_grad(f)(0.5)
    assert fg.value_and_grad(math.exp)(0.0) == (1.0, 1.0)
    assert fg.grad(fg.grad(f))(0.5) == pytest.approx((4 * 0.25 - 2) * math.exp(-0.25), rel=1e-14)
    np.testing.assert_array_equal(fg.vmap(fg.grad(f))(X), [fg.grad(f)(x) for x in X.tolist()])
    assert fg.vmap(f)(np.zeros(0)).shape == (0,)
    assert fg.grad(lambda x: fg.grad(f)(x) * math.sin(x))(0.5) == pytest.approx(
        (4 * 0.25 - 2) * math.exp(-0.25) * math.sin(0.5) - math.exp(-0.25) * math.cos(0.5), rel=1e-14
    )
    carry, _ = fg.jit(lambda x: fg.scan(lambda c, each: (math.tanh(c + each), c), x[0], x))(X)
    assert carry == functools.reduce(lambda c, each: math.tanh(c + each), X, X[0])


def test_a_training_step():
    w = fg.Value(0.7)

    def loss(x, y):
        predicted = np.zeros(1)
        predicted[0] = math.exp(w * x) if x > 1.0 else math.sqrt(w * w)
        return (predicted[0] - y) ** 2

    step = fg.nn.train_step(loss, fg.nn.SGD(0.01), [w])
    assert step(0.5, 1.0) == pytest.approx(0.09)
    assert step(2.0, 1.0) == pytest.approx((math.exp(2.0 * (0.7 - 0.01 * 2 * -0.3)) - 1.0) ** 2)
    assert len(step.ways()) == 2


def test_beyond_the_limit_of_ways():
    def f(x):
        y = np.zeros(4)
        for k in range(4):
            y[k] = math.exp(x[k]) if math.sin(x[k]) > 0.0 else math.cos(x[k])
        return y.sum()

    generator = np.random.default_rng(0)
    value_and_grad, compiled = fg.value_and_grad(f, max_ways=2), fg.compile(f, max_ways=2)
    with pytest.warns(fg.KernelLimitWarning):  # noqa: PT031
        for _ in range(12):
            x = generator.normal(size=4)
            value, gradient = value_and_grad(x)
            assert value == pytest.approx(f(x), rel=1e-14)
            np.testing.assert_allclose(gradient, slope(f, x), rtol=1e-6, atol=1e-8)
            values = [fg.Value(each) for each in x]
            result = compiled(values)
            result.backward()
            assert result.data == value
            np.testing.assert_array_equal([each.grad for each in values], gradient)


def test_one_kernel_serves_all_sizes():
    f = fg.value_and_grad(filter_)
    for n in range(3, 9):
        x = np.linspace(0.1, 1.0, n)
        assert f(x)[0] == pytest.approx(filter_(x), rel=1e-14)
    assert f.open_kernels


def test_nothing_is_rewritten_where_nothing_is_met(monkeypatch):
    monkeypatch.setattr(natural, "replaced", lambda function: pytest.fail("looked up"))

    def f(x):
        return fg.exp(np.sum(x)) * sum(x) if x[0] > 0.0 else x[0]

    assert fg.grad(f)(X) is not None


def test_what_python_says_of_a_source_is_said_once(module_from):
    """It warns when it compiles: where an escape sequence is none, of `x is 1`, of `return` in `finally`."""
    source = "import math\nLABEL = '$\\sigma$'\ndef f(x):\n    return math.exp(x) if x is not 1 else x\n"
    with warnings.catch_warnings(record=True) as before:
        warnings.simplefilter("always")
        f = module_from(source).f
    assert len(before) == 2
    with warnings.catch_warnings(record=True) as after:
        warnings.simplefilter("always")
        assert fg.grad(f)(0.0) == 1.0
    assert after == []


def test_what_is_traced_later_is_natural_at_once():
    calls = []

    def f(x):
        calls.append(len(x))
        return math.exp(x[0])

    g = fg.grad(f, dynamic=False)
    g([1.0])
    assert calls == [1, 1]
    g([1.0, 2.0])
    assert calls == [1, 1, 2]


NORMAL = {
    "pdf": lambda x: scipy.stats.norm.pdf(x, 1.0, scale=2.0),
    "cdf": lambda x: scipy.stats.norm.cdf(x) + scipy.stats.norm(x, 2.0).cdf(0.5) + scipy.stats.norm(loc=x).sf(0.3),
    "logpdf": lambda x: scipy.stats.norm(0.5, x).logpdf(1.5) + scipy.stats.norm.logcdf(x, loc=0.1),
    "ppf": lambda x: scipy.stats.norm.ppf(x, 1.0, 2.0) + scipy.stats.norm.isf(x),
    "logsumexp": lambda x: scipy.special.logsumexp([x, 1.0]) + scipy.special.softmax(np.array([x, 0.5]))[0],
    "log_softmax": lambda x: scipy.special.log_softmax([0.3, x], axis=0)[0],
}


@pytest.mark.parametrize("name", NORMAL)
def test_functions_of_scipy(name):
    f = NORMAL[name]
    value, gradient = fg.value_and_grad(f)(0.4)
    assert value == pytest.approx(float(f(0.4)), rel=1e-13)
    assert gradient == pytest.approx(float(f(0.4 + 1e-6) - f(0.4 - 1e-6)) / 2e-6, rel=1e-6)


def test_linear_algebra_of_scipy():
    def f(a, b):
        m = np.array([[2.0, a], [b, 3.0]])
        inverse = scipy.linalg.inv(m)
        return (scipy.linalg.solve(m, [1.0, 2.0]) @ inverse).sum() + scipy.linalg.det(m) * scipy.linalg.norm(m)

    value, slopes = fg.value_and_grad(f, argnums=(0, 1))(0.5, 0.25)
    assert value == pytest.approx(f(0.5, 0.25))
    assert slopes[0] == pytest.approx((f(0.5 + 1e-6, 0.25) - f(0.5 - 1e-6, 0.25)) / 2e-6)


SYSTEM = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.3], [0.5, 0.3, 2.5]])
SIDE = np.array([1.0, 2.0, -0.5])
OF_MATRICES = {
    "cholesky": lambda a: (scipy.linalg.cholesky(a) ** 3).sum() + scipy.linalg.cholesky(a, lower=True)[2, 0],
    "cho_solve": lambda a: (
        scipy.linalg.cho_solve(scipy.linalg.cho_factor(a, lower=True), SIDE) @ SIDE
        + scipy.linalg.cho_solve(scipy.linalg.cho_factor(a, check_finite=False), a[0])[1]
    ),
    "solve_triangular": lambda a: sum(
        (k + 1) * (scipy.linalg.solve_triangular(a, SIDE, trans, lower, unit) @ a[k % 3])
        for k, (trans, lower, unit) in enumerate(
            [(0, False, False), (0, True, False), ("T", True, False), (1, False, True), ("C", True, True)]
        )
    ),
    "triangular, several sides": lambda a: (scipy.linalg.solve_triangular(a, a.T) ** 2).sum(),
    "solve": lambda a: sum(
        scipy.linalg.solve(a, SIDE, assume_a=kind, lower=lower) @ SIDE
        for kind, lower in [("pos", False), ("pos", True), ("sym", False), ("sym", True), ("gen", False)]
    ),
    "solve transposed": lambda a: scipy.linalg.solve(a, SIDE, transposed=True, overwrite_a=False)[0],
    "logsumexp": lambda a: (
        scipy.special.logsumexp(a, axis=1) @ SIDE
        + scipy.special.logsumexp(a, axis=0, keepdims=True)[0, 1]
        + scipy.special.logsumexp(a, axis=(0, 1))
    ),
    "logsumexp with factors": lambda a: (
        scipy.special.logsumexp(a, axis=1, b=[1.0, 0.0, 2.0]).sum() + scipy.special.logsumexp(SIDE, b=a[0] ** 2)
    ),
    "softmax": lambda a: (
        (scipy.special.softmax(a, axis=1) ** 2).sum()
        + scipy.special.softmax(a, axis=0)[0] @ SIDE
        + scipy.special.softmax(a)[1, 1]
    ),
    "log_softmax": lambda a: (
        (scipy.special.log_softmax(a, axis=-1) * SYSTEM).sum() + scipy.special.log_softmax(a)[0, 0]
    ),
}


@pytest.mark.parametrize("name", OF_MATRICES)
def test_functions_of_scipy_on_matrices(name):
    f = OF_MATRICES[name]
    value, gradient = fg.value_and_grad(f)(SYSTEM)
    assert value == pytest.approx(float(f(SYSTEM)), rel=1e-12)
    for place in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[place] = 1e-6
        slope = (float(f(SYSTEM + step)) - float(f(SYSTEM - step))) / 2e-6
        assert gradient[place] == pytest.approx(slope, rel=1e-6, abs=1e-7), place


def test_a_factor_of_zero_does_not_count():
    f = fg.value_and_grad(lambda x: scipy.special.logsumexp(x, b=[0.0, 1.0]))
    assert f(np.array([2000.0, 1.0])) == (1.0, pytest.approx([0.0, 1.0]))


def test_a_singular_triangle():
    def f(x):
        try:
            return scipy.linalg.solve_triangular(np.array([[x, 1.0], [0.0, 2.0]]), [1.0, 2.0])[0]
        except np.linalg.LinAlgError:
            return 3.0 * x

    slope = fg.grad(f)
    assert slope(0.0) == 3.0
    assert slope(2.0) == 0.0
    assert slope(1.0) == 0.0
    with pytest.raises(fg.InputError, match=r"solve_triangular: shapes \(2, 2\) and \(3,\) do not fit"):
        fg.grad(lambda x: scipy.linalg.solve_triangular(np.array([[x, 1.0], [0.0, 2.0]]), [1.0, 2.0, 3.0])[0])(1.0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: scipy.stats.zscore(x)[0], r"scipy\.stats\.zscore takes plain numbers only"),
        (lambda x: scipy.stats.linregress(x, [1.0, 3.0]).slope, r"scipy\.stats\.linregress takes plain numbers only"),
        (lambda x: scipy.signal.lfilter([1.0], [1.0, 0.5], x).sum(), r"lfilter takes plain numbers only"),
        (lambda x: scipy.integrate.quad(lambda t: t * x[0], 0.0, 1.0)[0], r"leggauss"),
        (lambda x: scipy.optimize.brentq(lambda t: t - x[0], 0.0, 5.0), r"Newton's method as a loop"),
        (
            lambda x: scipy.integrate.odeint(lambda y, t: -x[0] * y, 1.0, [0.0, 1.0])[-1, 0],
            r"as a loop, or with fg\.scan",
        ),
    ],
)
def test_what_to_write_in_place_of_functions_of_scipy(function, message):
    with pytest.raises(fg.TraceError, match=message):
        fg.grad(function)(np.array([1.0, 2.0]))


def test_what_the_messages_say_works():
    points, weights = np.polynomial.legendre.leggauss(8)
    integral = fg.grad(lambda a: (0.5 * weights * np.exp(-a * (0.5 * points + 0.5))).sum())(1.0)
    assert integral == pytest.approx(2.0 / math.e - 1.0)

    def root(a):
        x = 1.0
        while abs(x * x - a) > 1e-12:
            x = x - (x * x - a) / (2.0 * x)
        return x

    assert fg.value_and_grad(root)(2.0) == pytest.approx((math.sqrt(2.0), 0.5 / math.sqrt(2.0)))


def test_what_refuses_arrays_of_objects_is_named():
    with pytest.raises(fg.TraceError, match=r"interp1d\(.*\) takes plain numbers only"):
        fg.grad(lambda x: scipy.interpolate.interp1d([0.0, 1.0], [2.0, 3.0])(x[0]).sum())([0.5])
    with pytest.raises(fg.TraceError, match=r"np\.finfo .* Write np\.finfo\(float\)"):
        fg.grad(eval("lambda x: x.sum() * np.finfo(x.dtype).eps"))(np.ones(2))
    assert fg.grad(lambda x: x.sum() * np.finfo(operator.attrgetter("dtype")(x)).eps)(np.ones(1)) == [2.0**-52]
    assert fg.grad(lambda x: x.sum() * np.finfo(x.dtype).eps)(np.ones(2)).tolist() == [2.0**-52] * 2
    assert fg.grad(lambda x: x.sum() * np.finfo(float).eps)(np.ones(1)) == [np.finfo(float).eps]


def test_other_functions_of_scipy_are_named():
    with pytest.raises(fg.TraceError, match=r"scipy\.stats\.gamma\.pdf takes plain numbers only") as caught:
        fg.grad(lambda x: scipy.stats.gamma.pdf(x, 2.0))(0.5)
    assert "fg.grad(lambda x: scipy.stats.gamma.pdf(x, 2.0))(0.5)" in str(caught.value)
    with pytest.raises(fg.TraceError, match=r"no return_sign: leave it out"):
        fg.grad(lambda x: scipy.special.logsumexp([x, 1.0], return_sign=True)[0])(0.5)


def test_a_function_whose_asserts_pytest_has_rewritten():
    def f(x):
        assert x > 0.0, "positive"
        return math.exp(x)

    assert fg.value_and_grad(f)(1.0) == (math.e, math.e)


def test_whole_numbers_of_what_is_none():
    f = fg.value_and_grad(lambda x: int(x) * x)
    assert f(2.5) == (5.0, 2.0)
    for number, error in ((math.nan, ValueError), (math.inf, OverflowError)):
        with pytest.raises(error, match="to integer"):
            f(number)


def test_an_array_of_integers_stays_one():
    def f(x):
        places = np.zeros(3, dtype=int)
        places[1] = 2
        y = np.zeros(3)
        y[places] = x[0]
        return (y * x).sum()

    assert fg.value_and_grad(f)(X)[0] == f(X)


def test_constants_have_the_bits_of_numpy():
    def f(x):
        weights = np.full(1000, 0.1)
        y = np.zeros(1)
        y[0] = x
        return y[0] * np.cos(weights)[3] * np.sqrt(2.0)

    assert fg.jit(f)(1.5) == f(1.5)


def test_the_exception_of_a_function_is_its_own():
    def f(x):
        if math.fabs(x) > 10.0:
            raise ValueError("too large", x)
        return math.exp(x)

    g = fg.value_and_grad(f)
    assert g(1.0) == (math.e, math.e)
    for _ in range(2):
        with pytest.raises(ValueError, match="too large") as caught:
            g(11.0)
        assert caught.value.args == ("too large", 11.0)
    with pytest.raises(fg.DomainError):
        fg.grad(math.log)(-1.0)


def test_a_call_in_a_try_is_no_longer_an_error():
    def f(x):
        try:
            return math.exp(x)
        except TypeError:
            return 0.0 * x

    assert fg.value_and_grad(f)(1.0) == (math.e, math.e)


def test_functions_that_look_at_frames():
    class Base:
        def scale(self, x):
            return math.sqrt(x)

    class Derived(Base):
        def scale(self, x):
            factor = 2.0
            return super().scale(x) * locals()["factor"]

    derived = Derived()
    assert fg.value_and_grad(derived.scale)(4.0) == (4.0, 0.5)


def test_threads_trace_at_the_same_time():
    def f(x):
        y = np.zeros(2)
        y[0] = math.exp(x)
        return y.sum()

    results, errors = [], []

    def work(k):
        try:
            x = 0.1 * k
            results.append((fg.grad(f)(x), f(x)) == (math.exp(x), math.exp(x)))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert results == [True] * 8


def test_captured_numbers_are_still_watched():
    scale = 2.0

    def f(x):
        return math.exp(x) * scale

    g = fg.grad(f)
    assert g(0.0) == 2.0
    scale = 3.0
    assert g(0.0) == 3.0


def test_functions_without_source():
    names = {"math": math, "np": np, "fg": fg}
    exec("def f(x): return math.exp(x)\ndef g(x): return np.exp(np.array([0.0, x])).sum()", names)
    with pytest.raises(fg.TraceError, match=r"Write fg\.exp\(x\) in place of math\.exp\(x\)"):
        fg.grad(names["f"])(1.0)
    with pytest.raises(fg.TraceError, match=r"np\.exp was applied to an array in which floats stand beside Values"):
        fg.grad(names["g"])(1.0)
    exec("def f(x): return fg.exp(x)\ndef g(x): return np.exp(fg.array([0.0, x])).sum()", names)
    assert fg.grad(names["f"])(0.0) == fg.grad(names["g"])(0.0) == 1.0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="math.sumprod is new in Python 3.12")
def test_products_are_added_from_left_to_right():
    assert fg.value_and_grad(lambda x: math.sumprod([x, 2.0], [x, 3.0]))(3.0) == (15.0, 6.0)
