"""SciPy's special functions of Values and arrays of them: SciPy's values, and the gradients of differences."""

# Functions that are no ufuncs are called by name, in code that a trace can change.
# ruff: noqa: PLW0108

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special as sp

import flatgrad as fg

BACKENDS = ["python", "numpy", "native"]

#: Functions of one number, with numbers at which they are compared.
OF_ONE = {
    "gammaln": (sp.gammaln, [2.5, 0.3]),
    "psi": (sp.psi, [2.5, 0.3]),
    "digamma": (sp.digamma, [0.3, -1.4]),
    "ndtr": (sp.ndtr, [-1.2, 0.4]),
    "ndtri": (sp.ndtri, [0.2, 0.9]),
    "log_ndtr": (sp.log_ndtr, [-30.0, 0.5]),
    "j0": (sp.j0, [3.0, 12.0]),
    "j1": (sp.j1, [3.0, -12.0]),
    "expit": (sp.expit, [0.7, -3.0]),
    "logit": (sp.logit, [0.3, 0.9]),
    "log_expit": (sp.log_expit, [0.7, -40.0]),
    "erf": (sp.erf, [0.4]),
    "erfc": (sp.erfc, [0.4, 3.0]),
    "erfinv": (sp.erfinv, [0.5, -0.3, 1e-9, -1e-5, 0.0, 0.99, -0.49]),
    "erfcinv": (sp.erfcinv, [0.5, 1.0, 1e-3, 1.9]),
    "gamma": (sp.gamma, [2.5, -1.5]),
    "gammasgn": (lambda x: sp.gammasgn(x) * x, [0.5, -0.5, -1.5, -2.5]),
    "loggamma": (sp.loggamma, [2.5, 0.1]),
    "rgamma": (sp.rgamma, [2.5, -0.5, 180.0]),
    "entr": (sp.entr, [0.7, 3.0]),
    "exprel": (sp.exprel, [0.7, -3.0, 0.0, 1e-9]),
    "expm1": (sp.expm1, [0.7, 1e-9]),
    "log1p": (sp.log1p, [0.7, 1e-9]),
    "exp10": (sp.exp10, [0.7]),
    "exp2": (sp.exp2, [0.7]),
    "cbrt": (sp.cbrt, [0.7, -2.0]),
    "cosm1": (sp.cosm1, [0.7, 1e-5]),
    "sindg": (sp.sindg, [40.0]),
    "cosdg": (sp.cosdg, [40.0]),
    "tandg": (sp.tandg, [40.0]),
    "sinc": (sp.sinc, [0.3, 2.5]),
    "i0": (sp.i0, [0.0, 0.3, -2.0, 7.9, 8.1, -30.0, 300.0]),
    "i0e": (sp.i0e, [0.3, -2.0, 8.1, -30.0, 3000.0]),
    "i1": (sp.i1, [0.0, 0.3, -2.0, 7.9, 8.1, -30.0, 300.0]),
    "i1e": (sp.i1e, [0.3, -2.0, 8.1, -30.0, 3000.0]),
    "np.i0": (np.i0, [0.3, -2.0, 9.0]),
    "factorial": (lambda x: sp.factorial(x), [2.5, 1.0, 5.0]),
    "polygamma of order 0": (lambda x: sp.polygamma(0, x), [2.5]),
    "polygamma of order 1": (lambda x: sp.polygamma(1, x), [2.5, 0.3]),
    "polygamma of order 3": (lambda x: sp.polygamma(3, x), [2.5, 0.3]),
    "multigammaln": (lambda x: sp.multigammaln(x, 3), [2.5]),
    "comb": (lambda x: sp.comb(x, 3), [5.5, 7.0]),
    "comb with repetition": (lambda x: sp.comb(x, 3, repetition=True), [5.5]),
    "perm": (lambda x: sp.perm(x, 3), [5.5]),
    "jv of order 0": (lambda x: sp.jv(0, x), [3.0]),
    "jv of order 1": (lambda x: sp.jv(1.0, x), [3.0]),
    "jv of order -1": (lambda x: sp.jv(-1, x), [3.0]),
    "binom of a whole number": (lambda x: sp.binom(x, 4), [5.5, 2.0, -1.5]),
    "poch of a whole number": (lambda x: sp.poch(x, 4), [2.5, -1.5]),
    "poch of a negative number": (lambda x: sp.poch(x, -2), [2.5]),
}

#: Functions of two numbers.
OF_TWO = {
    "xlogy": (sp.xlogy, [(0.7, 0.4), (2.0, 3.0)]),
    "xlog1py": (sp.xlog1py, [(0.7, 0.4), (2.0, -0.3)]),
    "beta": (sp.beta, [(0.7, 2.0), (-0.5, 2.0), (-0.5, -1.2), (2.5, -1.7)]),
    "betaln": (sp.betaln, [(0.7, 2.0)]),
    "binom": (sp.binom, [(5.2, 2.3), (-1.5, 2.3), (4.0, 2.0)]),
    "poch": (sp.poch, [(2.5, 1.5), (0.3, 2.7), (-0.5, 1.2)]),
    "kl_div": (sp.kl_div, [(0.7, 0.4)]),
    "rel_entr": (sp.rel_entr, [(0.7, 3.0)]),
    "huber": (sp.huber, [(1.0, 0.4), (1.0, -2.0)]),
    "pseudo_huber": (sp.pseudo_huber, [(1.0, 0.4), (0.5, -2.0), (1.0, 1e-6)]),
    "boxcox": (sp.boxcox, [(0.7, 0.4), (3.0, 0.0), (2.0, -1.5), (1.0, 0.3)]),
    "boxcox1p": (sp.boxcox1p, [(0.7, 0.4), (3.0, 0.0)]),
    "inv_boxcox": (sp.inv_boxcox, [(0.7, 0.4), (0.7, 0.0)]),
    "inv_boxcox1p": (sp.inv_boxcox1p, [(0.7, 0.4), (0.7, 0.0)]),
    "powm1": (sp.powm1, [(0.7, 0.4)]),
    "logsumexp": (lambda x, y: sp.logsumexp([x, y]), [(0.7, 0.4)]),
}


def difference(function, point, k):
    """The central difference in one argument; errors of fourth order."""
    h = 1e-4 * max(abs(point[k]), 0.1)

    def at(step):
        return float(function(*point[:k], point[k] + step, *point[k + 1 :]))

    return (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h)


def check(function, point, rel=2e-13):
    value, slopes = fg.value_and_grad(function, argnums=tuple(range(len(point))), backend="python")(*point)
    assert value == pytest.approx(float(function(*point)), rel=rel, abs=1e-300), point
    for k, slope in enumerate(slopes):
        assert slope == pytest.approx(difference(function, point, k), rel=1e-6, abs=1e-9), point
    return slopes


@pytest.mark.parametrize("name", OF_ONE)
def test_a_function_of_one_number(name):
    """Called with a Value, and with an array of them."""
    function, numbers = OF_ONE[name]
    slopes = [check(function, (x,))[0] for x in numbers]
    assert fg.grad(lambda x: np.sum(function(x)), backend="python")(np.array(numbers)).tolist() == slopes


@pytest.mark.parametrize("name", OF_TWO)
def test_a_function_of_two_numbers(name):
    function, points = OF_TWO[name]
    for point in points:
        check(function, point)
        x, y = point
        jitted = fg.jit(lambda x, y: np.ravel(function(x, y))[0], backend="python")
        assert name == "logsumexp" or jitted(np.array([x, x]), y) == jitted(x, y)


def test_what_is_infinite_outside_of_the_domain():
    """Convex functions, as SciPy continues them."""
    for function, point in (
        (sp.entr, (-1.0,)), (sp.entr, (0.0,)), (sp.rel_entr, (-0.7, -0.4)), (sp.rel_entr, (0.0, 2.0)),
        (sp.rel_entr, (1.0, 0.0)), (sp.kl_div, (0.0, 2.0)), (sp.kl_div, (-1.0, 2.0)), (sp.huber, (-1.0, 2.0)),
        (sp.pseudo_huber, (-1.0, 2.0)), (sp.pseudo_huber, (0.0, 2.0)), (lambda n: sp.factorial(n), (-1.0,)),
        (lambda n, k: sp.comb(n, k), (2.0, 3.0)), (lambda n, k: sp.comb(n, k), (-2.0, 1.0)), (sp.binom, (5.0, -1)),
        (sp.erfcinv, (1e-30,)), (lambda n: sp.comb(n, 3), (3.0,)),
    ):  # fmt: skip
        wanted = pytest.approx(float(function(*point)), rel=1e-15)
        assert fg.jit(function, backend="python")(*point) == wanted, point
    assert math.isnan(fg.jit(sp.kl_div)(math.nan, 1.0))
    assert fg.jit(lambda x, y: sp.kl_div(x, y).sum())(np.array([0.5, 1.0]), np.array([0.5, 2.0])) == pytest.approx(
        sp.kl_div(1.0, 2.0)
    )


def test_back_ends_have_the_same_bits():
    def f(x, y):
        return np.sum(
            sp.erfinv(0.5 * x) + sp.boxcox(y, x) + sp.kl_div(x, y) + sp.i0(9.0 * y) * sp.i1e(y) + sp.huber(0.5, x - y)
            + sp.binom(y + 3.0, x) + sp.beta(x, -y) + sp.rgamma(y)
        )  # fmt: skip

    x, y = np.linspace(0.1, 1.4, 11), np.linspace(0.21, 1.9, 11)
    wanted, *results = [fg.value_and_grad(f, argnums=(0, 1), backend=backend)(x, y) for backend in BACKENDS]
    for result in results:
        assert result[0] == wanted[0]
        assert all(map(np.array_equal, result[1], wanted[1]))
    nodes = fg.array([fg.Value(each) for each in x]), fg.array([fg.Value(each) for each in y])
    assert f(*nodes).data == wanted[0]


def test_orders_are_ints():
    assert fg.jit(sp.jv)(1, 3.0) == fg.j1(3.0)
    assert fg.jit(lambda n, x: sp.polygamma(n, x))(1, 3.0) == fg.trigamma(3.0)
    with pytest.raises(fg.InputError, match=r"orders -1, 0 and 1; pass the order as an int"):
        fg.jit(sp.jv)(1.0, 3.0)
    with pytest.raises(fg.InputError, match=r"order from 0 to 100; pass it as an int"):
        fg.jit(lambda n, x: sp.polygamma(n, x))(1.0, 3.0)


def test_exact_integers_are_none():
    with pytest.raises(fg.InputError, match="computed in floats; leave out exact="):
        fg.jit(lambda x: sp.comb(x, 2, exact=True))(5.0)
    assert fg.jit(lambda x: sp.comb(x, 2))(5.0) == 10.0


def test_a_function_that_is_missing_names_what_to_write():
    with pytest.raises(
        fg.InputError, match=r"^scipy\.special\.gammainc is not .* fg\.primitive\(name, function, partials\)"
    ):
        fg.grad(lambda x: sp.gammainc(2.0, x))(0.5)
    row = fg.primitive(
        "gammainc_of_2", lambda x: float(sp.gammainc(2.0, x)), [lambda out, x: x * fg.exp(-x)], domain=[(0.1, 3.0)]
    )
    value, slope = fg.value_and_grad(lambda x: row(x) * 3.0)(0.5)
    assert value == 3.0 * sp.gammainc(2.0, 0.5)
    assert slope == pytest.approx(1.5 * math.exp(-0.5), rel=1e-15)
