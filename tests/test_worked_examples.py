"""Small problems with results that are known: from a formula, from other programs, or certified."""

from __future__ import annotations

import bisect
import math

import numpy as np
import pytest
import scipy
from mpmath import mp

import flatgrad as fg
from flatgrad.compiler.machine import native

BACKENDS = ["python", "numpy", *(["native"] if native.available() else [])]
near = pytest.approx


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_filter(backend):
    def f(x):
        y = np.zeros(len(x) + 1)
        for i in range(len(x)):
            y[i + 1] = 0.9 * y[i] + x[i]
        return (y * y).sum()

    assert fg.grad(f, backend=backend)(np.array([1.0, 2.0, 3.0])) == near([16.3082, 15.898, 11.22], rel=1e-14)
    assert fg.grad(lambda x: math.exp(-x * x), backend=backend)(0.5) == near(-math.exp(-0.25), rel=1e-15)


def test_look_ups_in_a_table():
    x, y = np.array([0.0, 1.0, 2.0, 4.0]), np.array([0.0, 1.0, 4.0, 16.0])

    def searched(at):
        i = bisect.bisect_right(x, at) - 1
        return y[i] + (y[i + 1] - y[i]) * (at - x[i]) / (x[i + 1] - x[i])

    for f in (searched, lambda at: np.interp(at, x, y), lambda at: fg.interp(at, x, y)):
        assert [fg.grad(f)(at) for at in (1.5, 0.5, 3.0)] == [3.0, 1.0, 6.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_keplers_equation(backend):
    def kepler(mean, e):
        anomaly = mean
        while abs(anomaly - e * math.sin(anomaly) - mean) > 1e-13:
            anomaly = anomaly - (anomaly - e * math.sin(anomaly) - mean) / (1 - e * math.cos(anomaly))
        return anomaly

    f = fg.value_and_grad(kepler, argnums=(0, 1), backend=backend)
    for mean, e in ((1.0, 0.3), (2.5, 0.1), (0.2, 0.8)):
        anomaly, slopes = f(mean, e)
        assert anomaly - e * math.sin(anomaly) == near(mean, abs=1e-13)
        assert slopes == near(
            (1 / (1 - e * math.cos(anomaly)), math.sin(anomaly) / (1 - e * math.cos(anomaly))), rel=1e-9
        )


def test_order_statistics():
    x = np.array([3.0, 1.0, 2.0])
    assert fg.grad(lambda x: x.max())(x).tolist() == [1.0, 0.0, 0.0]
    assert fg.grad(lambda x: np.sort(x)[1])(x).tolist() == [0.0, 0.0, 1.0]
    assert fg.grad(lambda x: x[np.argmax(x)] ** 2)(x).tolist() == [6.0, 0.0, 0.0]
    assert fg.grad(np.median)(x).tolist() == [0.0, 0.0, 1.0]


GUARDED = {
    "x log x": (lambda x: x * fg.log(x) if x > 0 else 0.0 * x, 0.0, 0.0),
    "sinc": (lambda x: 1.0 + 0.0 * x if x == 0 else fg.sin(x) / x, 0.0, 1.0),
    "sqrt": (lambda x: fg.sqrt(x) if x >= 0 else 0.0 * x, -1.0, 0.0),
    "softplus": (lambda x: x if x > 30 else fg.log(1 + fg.exp(x)), 800.0, 800.0),
}


@pytest.mark.parametrize(("function", "x", "value"), GUARDED.values(), ids=GUARDED)
def test_branches_guard_what_where_does_not(function, x, value):
    f = fg.value_and_grad(function)
    assert f(x)[0] == value
    assert f(1.0)[0] == function(1.0)
    assert f(x)[0] == value


@pytest.mark.parametrize(
    "function", [lambda x: fg.where(x > 0, x * fg.log(x), 0.0), lambda x: fg.where(x >= 0, fg.sqrt(x), 0.0)]
)
def test_where_names_the_branch(function):
    with pytest.raises(fg.DomainError, match=r"for a branch of where that is not taken .* Write it as a branch"):
        fg.grad(function)(-1.0)


MIXED = {
    "array": lambda x: np.exp(np.array([0.0, x[0], x[1]])).sum(),
    "concatenate": lambda x: np.sin(np.concatenate([[0.0], x])).sum(),
    "zeros_like": lambda x: np.tanh(np.concatenate([x, np.zeros_like(x)])).sum(),
    "diag": lambda x: np.exp(np.diag(x)).sum(),
    "pad": lambda x: np.exp(np.pad(x, 1)).sum(),
}


@pytest.mark.parametrize("function", MIXED.values(), ids=MIXED)
def test_arrays_of_numbers_and_variables(function):
    x = np.array([1.0, 3.0])
    assert fg.value_and_grad(function)(x)[0] == near(function(x), rel=1e-14)


def test_flags_and_indices():
    w = np.array([1.0, 2.0, 3.0])
    assert fg.grad(lambda w, idx: sum(w[i] ** 2 for i in idx))(w, [0, 2]).tolist() == [2.0, 0.0, 6.0]
    for idx in ([0, 2], np.array([0, 2])):
        for options in ({}, {"static_argnames": "idx"}):
            assert fg.grad(lambda w, idx: (w[idx] ** 2).sum(), **options)(w, idx).tolist() == [2.0, 0.0, 6.0]
    for f in (lambda s, call: s - 100 if call else 100 - s, lambda s, call: s - 100 if call > 0 else 100 - s):
        assert [fg.grad(f)(105.0, call) for call in (1, 0)] == [1.0, -1.0]
    for f in (
        lambda x: fg.where(0 < x < 1, x, 2 * x),
        lambda x: fg.where(x > 0 and x < 1, x, 2 * x),
        lambda x: fg.where((x > 0) & (x < 1), x, 2 * x),
    ):
        assert [fg.grad(f)(x) for x in (0.5, 1.5)] == [1.0, 2.0]


def test_an_argument_that_is_checked():
    def entropy(p):
        if p <= 0 or p >= 1:
            raise ValueError("p must be in (0, 1)")
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    assert fg.grad(entropy)(0.3) == near(math.log(0.7 / 0.3), rel=1e-14)
    with pytest.raises(ValueError, match=r"p must be in \(0, 1\)"):
        fg.grad(entropy)(1.5)


def test_a_line_search_that_goes_too_far():
    """NIST's BoxBOD: a step of the search overflows, and infinity is where it turns back."""
    x, y = np.array([1.0, 2, 3, 5, 7, 10]), np.array([109.0, 149, 149, 191, 213, 224])
    f = fg.value_and_grad(lambda b: np.sum((y - b[0] * (1 - np.exp(-b[1] * x))) ** 2), faults="ieee")
    result = scipy.optimize.minimize(f, [1.0, 1.0], jac=True)
    assert result.fun == near(1168.0088766, rel=1e-8)


def test_gradients_at_a_minimum():
    for f in (fg.norm, lambda x: fg.norm(x) ** 2, lambda x: sum(c * x[0] ** k for k, c in enumerate([1, 0, 2]))):
        assert fg.grad(f)(np.zeros(2)).tolist() == [0.0, 0.0]
    assert fg.grad(lambda x: sum(c * x**k for k, c in enumerate([1, 2])))(0.0) == 2.0
    with pytest.raises(fg.DivisionByZeroError, match=r"fg\.norm"):
        fg.grad(lambda x: fg.sqrt(x @ x))(np.zeros(2))


def test_one_kernel_for_all_names():
    rows = [[0.1 * i * j for j in range(8)] for i in range(27)]

    def loss(rows, tokens):
        table = fg.table(rows)
        return sum(sum(v * v for v in table[t]) for t in tokens)

    f = fg.grad(loss)
    for tokens in ([3, 5, 3], [26, 0, 1], [7, 7, 7]):
        gradient = f(rows, tokens)
        want = [[2 * v * tokens.count(i) for v in row] for i, row in enumerate(rows)]
        assert np.array(gradient) == near(np.array(want), rel=1e-14)
    assert len(f.kernels) == 1


def test_a_hessian_by_gradients_of_gradients():
    def f(x):
        return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(len(x) - 1))

    g, x = fg.grad(f), np.linspace(-1, 1, 5)
    hessian = np.array([fg.grad(lambda z, i=i: g(z)[i])(x) for i in range(len(x))])
    assert hessian == near(scipy.optimize.rosen_hess(x), rel=1e-12, abs=1e-12)


SPECIAL = {
    "gammaln": (scipy.special.gammaln, mp.loggamma),
    "lgamma": (math.lgamma, mp.loggamma),
    "ndtr": (scipy.special.ndtr, mp.ncdf),
    "erf": (scipy.special.erf, mp.erf),
    "expit": (scipy.special.expit, lambda x: 1 / (1 + mp.exp(-x))),
    "j0": (scipy.special.j0, lambda x: mp.besselj(0, x)),
}


@pytest.mark.parametrize(("function", "exact"), SPECIAL.values(), ids=SPECIAL)
def test_special_functions(function, exact):
    value, slope = fg.value_and_grad(function)(2.5)
    assert value == near(float(exact(2.5)), rel=1e-13)
    assert slope == near(float(mp.diff(exact, 2.5)), rel=1e-13)


A = np.array([[4.0, 1.0], [1.0, 3.0]])
MATRICES = {
    "solve": (lambda a: np.linalg.solve(a, np.ones(2)).sum(), [[-4 / 121, -6 / 121], [-6 / 121, -9 / 121]]),
    "inv": (lambda a: np.linalg.inv(a)[0, 0], [[-9 / 121, 3 / 121], [3 / 121, -1 / 121]]),
    "det": (np.linalg.det, [[3.0, -1.0], [-1.0, 4.0]]),
    "slogdet": (lambda a: np.linalg.slogdet(a)[1], [[3 / 11, -1 / 11], [-1 / 11, 4 / 11]]),
    "norm": (lambda a: np.linalg.norm(a, axis=1).sum(), A / np.linalg.norm(A, axis=1)[:, None]),
}


@pytest.mark.parametrize(("function", "want"), MATRICES.values(), ids=MATRICES)
def test_matrices(function, want):
    value, gradient = fg.value_and_grad(function)(A)
    assert value == near(function(A), rel=1e-13)
    assert gradient == near(np.array(want), rel=1e-12)


def test_a_factor_of_cholesky():
    # l11 = sqrt(a11 - l10 ** 2), and l10 = a10 / sqrt(a00)
    gradient = fg.grad(lambda a: np.linalg.cholesky(a)[1, 1])(A)
    root = math.sqrt(3 - 0.25)
    assert gradient[0, 0] == near(1 / 32 / root, rel=1e-13)
    assert gradient[1, 1] == near(0.5 / root, rel=1e-13)
    assert gradient[1, 0] + gradient[0, 1] == near(-0.25 / root, rel=1e-13)


def test_complex_numbers_on_the_way():
    assert fg.grad(lambda r: abs(r + 1 / (1j * 0.5) + 2j) ** 2)(3.0) == near(6.0, rel=1e-15)
    gradient = fg.grad(lambda x: (abs(np.fft.fft(x)) ** 2)[1])(np.array([1.0, 2.0, 4.0]))
    assert gradient == near(np.array([-4.0, -1.0, 5.0]), rel=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_predator_and_prey(backend):
    def f(p, n=30, h=0.01):
        x, y = 1.0, 0.5

        def slope(x, y):
            return p[0] * x - p[1] * x * y, p[2] * x * y - p[3] * y

        for _ in range(n):
            a, b = slope(x, y)
            a2, b2 = slope(x + h / 2 * a, y + h / 2 * b)
            a3, b3 = slope(x + h / 2 * a2, y + h / 2 * b2)
            a4, b4 = slope(x + h * a3, y + h * b3)
            x, y = x + h / 6 * (a + 2 * a2 + 2 * a3 + a4), y + h / 6 * (b + 2 * b2 + 2 * b3 + b4)
        return x * x + y * y

    p = np.array([1.1, 0.4, 0.1, 0.4])
    value, gradient = fg.value_and_grad(f, backend=backend)(p)
    want = [(f(p + e) - f(p - e)) / 2e-5 for e in 1e-5 * np.eye(4)]
    assert value == near(f(p), rel=1e-13)
    assert gradient == near(np.array(want), rel=1e-8)


def test_the_likelihood_of_garch():
    r = np.random.default_rng(0).normal(size=120)

    def nll(p, r, log=math.log):
        h, total = p[0] / (1 - p[1] - p[2]), 0.0
        for x in r:
            total = total + 0.5 * (log(h) + x * x / h)
            h = p[0] + p[1] * x * x + p[2] * h
        return total

    p = np.array([0.1, 0.1, 0.8])
    want = [(nll(p + e, r) - nll(p - e, r)) / 2e-6 for e in 1e-6 * np.eye(3)]
    for n in (40, 120):
        want = [(nll(p + e, r[:n]) - nll(p - e, r[:n])) / 2e-6 for e in 1e-6 * np.eye(3)]
        assert fg.grad(nll)(p, r[:n]) == near(np.array(want), rel=1e-6)


def test_a_window_that_grows():
    f = fg.value_and_grad(lambda x: (fg.tanh(x) * x).sum() + (x[1:] * x[:-1]).sum())
    for n in range(3, 30):
        x = np.linspace(0, 1, n)
        assert f(x)[0] == near((np.tanh(x) * x).sum() + (x[1:] * x[:-1]).sum(), rel=1e-13)
    assert (len(f.kernels), len(f.open_kernels)) == (2, 1)


def test_the_likelihood_of_a_gaussian_process():
    n = 5
    at = np.sort(np.random.default_rng(0).uniform(0, 5, n))
    y = np.sin(at)

    def covariance(p):
        return np.exp(-0.5 * (at[:, None] - at[None, :]) ** 2 / np.exp(2 * p[0])) + np.exp(p[1]) * np.eye(n)

    def by_hand(p):
        k, lower, z = covariance(p), [[0.0] * n for _ in range(n)], []
        for i in range(n):
            for j in range(i + 1):
                v = k[i, j] - sum(lower[i][m] * lower[j][m] for m in range(j))
                lower[i][j] = v**0.5 if i == j else v / lower[j][j]
            z.append((y[i] - sum(lower[i][m] * z[m] for m in range(i))) / lower[i][i])
        return 0.5 * sum(v * v for v in z) + sum(math.log(lower[i][i]) for i in range(n))

    def by_numpy(p):
        k = covariance(p)
        return 0.5 * y @ np.linalg.solve(k, y) + 0.5 * np.linalg.slogdet(k)[1]

    p = np.array([0.0, -2.0])
    want = [(by_numpy(p + e) - by_numpy(p - e)) / 2e-5 for e in 1e-5 * np.eye(2)]
    for f in (by_hand, by_numpy):
        value, gradient = fg.value_and_grad(f)(p)
        assert value == near(by_numpy(p), rel=1e-12)
        assert gradient == near(np.array(want), rel=1e-7)


@pytest.mark.parametrize("top", [lambda xs: max(fg.detach(x) for x in xs), lambda xs: fg.detach(fg.max(xs)), max])
def test_a_softmax_without_overflow(top):
    def softmax(xs):
        highest = top(xs)
        e = [fg.exp(x - highest) for x in xs]
        return [v / sum(e) for v in e]

    for shift in (0.0, 800.0):
        logits = [fg.Value(v + shift) for v in (1.0, 3.0, -2.0)]
        got = [p.data for p in fg.compile(softmax)(logits)]
        assert got == near(scipy.special.softmax([1.0, 3.0, -2.0]).tolist(), rel=1e-13)
