"""Decompositions, least squares and polynomials of arrays of Values: NumPy's results, and gradients of differences."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg

BACKENDS = ["python", "numpy", "native"]
DRAW = np.random.RandomState(5)
TALL, WIDE, SQUARE = DRAW.normal(size=(5, 3)), DRAW.normal(size=(2, 4)), DRAW.normal(size=(3, 3))
STACK = DRAW.normal(size=(2, 4, 3))
ZEROS = np.array([[2.0, 1.0, 0.5], [0.0, -3.0, 1.0], [0.0, 0.0, 1.5], [0.0, 0.0, 0.0]])
SIDE = DRAW.normal(size=(5, 2))


def weighted(result):
    """A number that depends on all elements, each in its own way."""
    return np.sum(result * np.cos(np.arange(np.size(result))).reshape(np.shape(result)))


def check(function, *arguments, rel=1e-11):
    """The value is NumPy's, and each derivative that of a central difference."""
    wanted = function(*arguments)
    np.testing.assert_allclose(fg.jit(function, backend="python")(*arguments), wanted, rtol=rel, atol=1e-12)
    f = fg.grad(lambda *args: weighted(function(*args)), argnums=tuple(range(len(arguments))), backend="python")
    for k, gradient in enumerate(f(*arguments)):
        for place in np.ndindex(gradient.shape):
            values = []
            for step in (1e-6, -1e-6):
                shifted = [each.copy() for each in arguments]
                shifted[k][place] += step
                values.append(weighted(function(*shifted)))
            assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-6), place


@pytest.mark.parametrize("a", [TALL, WIDE, SQUARE, STACK, ZEROS], ids=["tall", "wide", "square", "stack", "zeros"])
def test_orthogonal_decompositions(a):
    """With LAPACK's signs, where nothing stands below the diagonal, too."""
    power = 2 if a is ZEROS else 1  # LAPACK's signs jump there
    check(lambda a: np.linalg.qr(a)[0] ** power, a)
    check(lambda a: np.linalg.qr(a)[1] ** power, a)
    np.testing.assert_allclose(fg.jit(lambda a: np.linalg.qr(a, "r"))(a), np.linalg.qr(a, "r"), atol=1e-13)
    if a is not ZEROS:  # the last columns are not determined there
        q, r = fg.jit(lambda a: tuple(np.linalg.qr(a, "complete")))(a)
        np.testing.assert_allclose(q, np.linalg.qr(a, "complete")[0], atol=1e-13)
        np.testing.assert_allclose(q @ r, a, atol=1e-13)


def test_constants_below_the_diagonal_need_no_reflection():
    upper = np.triu(SQUARE)
    kernel = fg.jit(lambda x: np.linalg.qr(fg.array([[x[0], x[1]], [0.0, x[2]]]))[1]).kernel_for(np.ones(3))
    assert len(kernel.program) == 0
    np.testing.assert_allclose(fg.jit(lambda a: np.linalg.qr(np.triu(a))[1])(SQUARE), np.linalg.qr(upper)[1])


def test_least_squares():
    for a, b in ((TALL, SIDE), (TALL, SIDE[:, 0]), (SQUARE, SIDE[:3]), (WIDE, SIDE[:2])):
        check(lambda a, b: np.linalg.lstsq(a, b, rcond=None)[0], a, b)
        results = fg.jit(lambda a, b: np.linalg.lstsq(a, b, rcond=None)[:3])(a, b)
        wanted = np.linalg.lstsq(a, b, rcond=None)[:3]
        for result, other in zip(results, wanted, strict=True):
            np.testing.assert_allclose(result, other, rtol=1e-12)
    with pytest.raises(fg.InputError, match=r"singular values and eigenvalues .* fg\.primitive"):
        fg.jit(lambda a: np.linalg.lstsq(a, SIDE, rcond=None)[3].sum())(TALL)
    with pytest.raises(fg.InputError, match="do not fit"):
        fg.jit(lambda a: np.linalg.lstsq(a, SIDE[:3], rcond=None)[0])(TALL)
    with pytest.raises(fg.DivisionByZeroError):  # it has not full rank
        fg.jit(lambda a: np.linalg.lstsq(a, SIDE[:, 0], rcond=None)[0])(np.zeros((5, 2)))


def test_pseudoinverses():
    for a in (TALL, WIDE, SQUARE, STACK):
        check(np.linalg.pinv, a)


@pytest.mark.parametrize("p", [1, -1, np.inf, -np.inf, "fro"])
def test_condition_numbers(p):
    check(lambda a: np.linalg.cond(a, p), SQUARE)


def test_fitted_polynomials():
    x, y, w = np.linspace(0.0, 3.0, 6), DRAW.normal(size=6), np.linspace(1.0, 2.0, 6)
    check(lambda x, y: np.polyfit(x, y, 2), x, y)
    check(lambda x, y, w: np.polyfit(x, y, 2, w=w), x, y, w)
    check(lambda y: np.polyfit(x, y, 1), DRAW.normal(size=(6, 2)))
    check(lambda y: np.polyfit(x, y, 2, cov=True)[1], y)
    check(lambda w: np.polyfit(x, y, 2, w=w, cov="unscaled")[1], w)
    check(np.poly, y)


def test_equations_of_complex_numbers_are_refused_with_a_remedy():
    def normal(x):
        a = TALL + 1j * x
        return np.linalg.inv(a.conj().T @ a) @ a.conj().T

    with pytest.raises(fg.InputError, match=r"write np\.linalg\.inv\(a\.conj\(\)\.T @ a\) @ a\.conj\(\)\.T"):
        fg.jit(lambda x: np.linalg.pinv(TALL + 1j * x).real)(0.5)
    result = fg.jit(lambda x: normal(x).imag)(0.5)
    np.testing.assert_allclose(result, np.linalg.pinv(TALL + 0.5j).imag, rtol=1e-12)

    with pytest.raises(fg.InputError, match=r"np\.linalg\.cholesky\(a\.conj\(\)\.T @ a\)"):
        fg.jit(lambda x: np.linalg.qr(TALL + 1j * x)[1].real)(0.5)
    factor = fg.jit(lambda x: abs(np.linalg.cholesky((TALL + 1j * x).conj().T @ (TALL + 1j * x))))(0.5)
    np.testing.assert_allclose(factor.T, np.abs(np.linalg.qr(TALL + 0.5j)[1]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_back_ends_have_the_same_bits(backend):
    def f(a):
        return weighted(np.linalg.pinv(a)) + weighted(np.linalg.qr(a)[0])

    value, gradient = fg.value_and_grad(f, backend=backend)(TALL)
    nodes = fg.array([[fg.Value(each) for each in row] for row in TALL])
    out = f(nodes)
    out.backward()
    assert value == out.data
    assert gradient.tolist() == [[node.grad for node in row] for row in nodes.tolist()]


@pytest.mark.parametrize("name", ["eig", "eigh", "eigvals", "eigvalsh", "svd", "matrix_rank"])
def test_what_is_no_arithmetic_is_refused_by_name(name):
    with pytest.raises(fg.InputError, match=rf"np\.linalg\.{name} is not .* fg\.primitive\(name, function, partials\)"):
        fg.jit(getattr(np.linalg, name))(SQUARE)


def test_counts_by_bins():
    edges = np.linspace(-2.0, 2.0, 5)
    with pytest.raises(fg.InputError, match=r"np\.searchsorted\(edges, x, side='right'\).*np\.bincount"):
        fg.jit(lambda x: np.histogram(x, edges)[0])(SIDE[:, 0])

    def counted(x):
        return np.bincount(np.searchsorted(edges, x, side="right"), minlength=6)[1:-1] * (x[0] * 0.0 + 1.0)

    assert fg.jit(counted)(SIDE[:, 0]).tolist() == np.histogram(SIDE[:, 0], edges)[0].tolist()


def test_orders_without_nan():
    x = np.array([[3.0, np.nan, 1.0, 2.0], [np.nan, 5.0, 4.0, np.nan], [np.nan] * 4])
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(RuntimeWarning)
        for function in (
            lambda x: np.nanmedian(x, axis=1),
            lambda x: np.nanmedian(x, axis=1, keepdims=True),
            np.nanmedian,
            lambda x: np.nanpercentile(x, [20.0, 60.0], axis=1),
            lambda x: np.nanquantile(x, 0.3, axis=0),
        ):
            np.testing.assert_allclose(fg.jit(function)(x), function(x), rtol=1e-15)
    assert fg.grad(lambda x: np.nanmedian(x[:2]))(x).tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4]
    assert fg.jit(lambda x: np.nanargmax(x[:2], axis=1))(x).tolist() == [0, 1]
    with pytest.raises(fg.DomainError, match=r"np\.nanargmax: a slice holds NaN only"):
        fg.jit(lambda x: np.nanargmax(x, axis=1))(x)


def test_fractions_powers_of_two_choices_and_phases():
    x = np.array([2.75, -2.75, 0.0, -0.0, np.inf, -np.inf, 5.0])
    for k in (0, 1):
        result, wanted = fg.jit(lambda x, k=k: np.modf(x)[k])(x), np.modf(x)[k]
        assert result.tolist() == wanted.tolist()
        assert np.signbit(result).tolist() == np.signbit(wanted).tolist()
    check(lambda x: np.ldexp(x, 3), SIDE)
    assert fg.jit(lambda x: np.choose((x > 1.0).astype(int), [x, -x]))(x[:3]).tolist() == [-2.75, -2.75, 0.0]
    assert fg.jit(lambda x: np.choose(x > 1.0, [x, -x]))(x[:3]).tolist() == [-2.75, -2.75, 0.0]
    assert fg.jit(lambda k, x: np.choose(k, [x, -x, 2.0 * x]))(np.array([2, 0, 1]), x[:3]).tolist() == [5.5, -2.75, 0.0]
    phases = np.array([0.0, 3.0, 6.0, 9.5, 9.5 + np.pi, 1.0, -3.0, 3.3])
    for options in ({}, {"discont": 4.0}, {"period": 4.0}):
        np.testing.assert_allclose(
            fg.jit(lambda p, o=options: np.unwrap(p, **o))(phases), np.unwrap(phases, **options), rtol=1e-14
        )
    assert fg.grad(lambda p: np.unwrap(p)[-1])(phases).tolist() == [0.0] * 7 + [1.0]
