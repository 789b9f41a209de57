"""Published problems: the data and models are the published ones, and derivatives agree with independent ones."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from benchmarks.suites import hock_schittkowski, luksan_vlcek, nist
from tests.examples import mostly_slow

FITS = nist.fits()


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.name)
def test_the_certified_parameters_have_the_certified_residuals(fit):
    squares = sum(r * r for r in fg.jit(fit.residuals)(fit.certified))
    # The residuals of Lanczos1 are rounding errors of its data, which have 13 digits.
    assert squares == pytest.approx(fit.squares, rel=1e-3 if fit.name.startswith("Lanczos") else 1e-8, abs=1e-20)


@pytest.mark.parametrize("fit", mostly_slow(FITS), ids=lambda fit: fit.name)
def test_jacobians_of_fits_agree_with_differences(fit):
    b = fit.starts[1]
    jacobian = np.array(fg.jacobian(fit.residuals)(b))
    assert jacobian.shape == (len(fit.observations), len(b))
    residuals = fg.jit(fit.residuals)
    for k, number in enumerate(b):
        step = np.zeros_like(b)
        step[k] = 1e-6 * abs(number)
        differences = (np.array(residuals(b + step)) - np.array(residuals(b - step))) / (2.0 * step[k])
        np.testing.assert_allclose(jacobian[:, k], differences, rtol=1e-4, atol=1e-5 * np.abs(differences).max())


@pytest.mark.parametrize("problem", mostly_slow(luksan_vlcek.PROBLEMS), ids=lambda problem: problem.number)
def test_gradients_of_sparse_problems_agree_with_differences(problem):
    x = problem.start(1_000) + 0.01 * np.sin(np.arange(1_000.0))
    direction = np.cos(np.arange(1_000.0))
    value_and_grad = fg.value_and_grad(problem.objective)
    _, gradient = value_and_grad(x)
    above, below = (value_and_grad(x + sign * 1e-5 * direction)[0] for sign in (1.0, -1.0))
    assert gradient @ direction == pytest.approx((above - below) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("problem", mostly_slow(luksan_vlcek.PROBLEMS), ids=lambda problem: problem.number)
def test_sparse_hessians_of_sparse_problems_agree_with_differences(problem):
    pytest.importorskip("scipy.sparse")
    n = 24
    x = problem.start(n) + 0.01 * np.sin(np.arange(n))
    hessian = fg.hessian(problem.objective, sparse=True)
    matrix = hessian(x)
    rows, columns = matrix.nonzero()
    assert matrix.nnz <= 13 * n
    assert np.abs(rows - columns).max() <= 6  # a number meets its neighbours
    np.testing.assert_allclose(matrix.toarray(), matrix.toarray().T, rtol=1e-12, atol=1e-12)
    gradient = fg.grad(problem.objective)
    direction = np.cos(np.arange(n))
    differences = (gradient(x + 1e-6 * direction) - gradient(x - 1e-6 * direction)) / 2e-6
    product = matrix @ direction
    np.testing.assert_allclose(product, differences, rtol=1e-5, atol=1e-6 * np.abs(product).max())
    assert hessian(1.01 * x, out=matrix) is matrix
    assert matrix.toarray().tobytes() == hessian(1.01 * x).toarray().tobytes()


@pytest.mark.parametrize("fit", mostly_slow(FITS), ids=lambda fit: fit.name)
def test_fits_reach_the_certified_parameters(fit):
    optimize = pytest.importorskip("scipy.optimize")
    residuals = fg.jit(fit.residuals, faults="ieee")
    jacobian = fg.jacobian(fit.residuals, faults="ieee")
    options = {"method": "lm", "x_scale": "jac", "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 5_000}
    found = optimize.least_squares(residuals, fit.starts[1], jac=jacobian, **options)
    np.testing.assert_allclose(found.x, fit.certified, rtol=1e-5)


@pytest.mark.parametrize(
    "problem", hock_schittkowski.PROBLEMS, ids=[str(problem.number) for problem in hock_schittkowski.PROBLEMS]
)
def test_problems_of_hock_and_schittkowski_are_solved(problem):
    pytest.importorskip("scipy.optimize")
    found = hock_schittkowski.solve(problem)
    assert found.fun == pytest.approx(problem.minimum, rel=1e-7, abs=1e-7)
    for function, sides in ((problem.equal, (1.0, -1.0)), (problem.positive, (1.0,))):
        numbers = np.array(function(found.x.tolist()) if function else [])
        assert all((side * numbers > -1e-6).all() for side in sides)
