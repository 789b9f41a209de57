"""`python -m benchmarks suites`: digits reached and times on the published problems, with our derivatives in SciPy."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.peers import if_installed
from benchmarks.suites import hock_schittkowski, luksan_vlcek
from benchmarks.suites.nist import Fit, fits
from benchmarks.table import Row
from benchmarks.timing import paired, quick

#: Where a fit shall stop, and how its parameters are scaled.
_OPTIONS: dict[str, Any] = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 5_000, "x_scale": "jac"}


class Timed:
    """A function, and how many seconds were spent in its calls."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.seconds = 0.0

    def __call__(self, x: Any) -> Any:
        start = time.perf_counter()
        result = self.function(x)
        self.seconds += time.perf_counter() - start
        return result


def fitted(fit: Fit, start: int, method: str = "lm") -> tuple[float, float, float]:
    """A fit from one of its starts by SciPy's `least_squares` with our Jacobian; kernels are made before.

    Returns:
        Correct digits of the worst parameter (the logarithm of its relative error, at most 11, NIST's digits), seconds,
        and the part of them that is spent in our functions.
    """
    from scipy.optimize import least_squares

    residuals = Timed(fg.jit(fit.residuals, faults="ieee"))
    jacobian = Timed(fg.jacobian(fit.residuals, faults="ieee"))
    for function in (residuals, jacobian):
        function(fit.starts[start])
        function.seconds = 0.0
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN and inf where a step went too far
        found = least_squares(residuals, fit.starts[start], jac=jacobian, method=method, **_OPTIONS)
    seconds = time.perf_counter() - begin
    error = np.max(np.abs(found.x / fit.certified - 1.0))
    digits = -np.log10(np.clip(error, 1e-11, 1.0))
    return float(digits), seconds, (residuals.seconds + jacobian.seconds) / seconds


def measure_suites() -> list[Row]:
    """The fits of NIST, the problems of Hock and Schittkowski, and those of Lukšan and Vlček."""
    return [*(_fits() or []), *(_constrained() or []), *_sparse()]


@if_installed
def _fits() -> list[Row]:
    """A row per set of data, and one that sums up."""
    rows, parts, failures = [], [], []
    for fit in fits()[:: 14 if quick() else 1]:
        figures = []
        for start in (0, 1):
            digits, seconds, part = fitted(fit, start)
            parts.append(part)
            if digits < 4.0:
                failures.append(f"{fit.name} from start {start + 1}")
                figures.append("another point")
            else:
                figures.append(f"{digits:.1f} digits in {1e3 * seconds:.1f} ms")
        rows.append(Row(f"NIST {fit.name} ({fit.level}), `least_squares(method=\"lm\")`, from both starts", "",
                        f"**{'; '.join(figures)}**"))  # fmt: skip
    failed = ", ".join(failures) or "none"
    rows.append(Row("NIST's fits: time in our functions, median over fits; fits that end elsewhere", "20 % (want 5 %)",
                    f"**{100 * np.median(parts):.0f} %**; {failed}"))  # fmt: skip
    return rows


@if_installed
def _constrained() -> list[Row]:
    """How many of the problems of Hock and Schittkowski are solved, and how well."""
    errors = []
    for problem in hock_schittkowski.PROBLEMS[:: 15 if quick() else 1]:
        found = hock_schittkowski.solve(problem)
        errors.append(abs(found.fun - problem.minimum) / max(1.0, abs(problem.minimum)))
    solved = sum(error < 1e-7 for error in errors)
    return [Row("problems of Hock and Schittkowski solved by SLSQP with our derivatives", "all",
                f"**{solved} of {len(errors)}** (largest error of a minimum {max(errors):.0e})")]  # fmt: skip


def _sparse() -> list[Row]:
    """Value and gradient, and the sparse Hessian, of the problems of Lukšan and Vlček."""
    rows = []
    for problem in luksan_vlcek.PROBLEMS[:: 6 if quick() else 1]:
        title = f"Lukšan-Vlček {problem.number}, {problem.title.split(' with ')[0]}"
        gradients = _measured(problem, fg.value_and_grad)
        rows.append(Row(f"{title}: first call, gradient", "", f"**{gradients}**"))
        hessians = _hessians(problem)
        if hessians is not None:
            rows.append(Row(f"{title}: first call, sparse Hessian into a known matrix", "", f"**{hessians}**"))
    return rows


@if_installed
def _hessians(problem: luksan_vlcek.Problem) -> str:
    """The seconds of the first call of a sparse Hessian, and the time of a later one, which fills a matrix."""

    def filling(objective: Callable[[Any], Any]) -> Callable[[Any], Any]:
        hessian = fg.hessian(objective, sparse=True)
        matrices: dict[int, Any] = {}

        def fill(x: Any) -> Any:
            matrices[len(x)] = hessian(x, out=matrices.get(len(x)))
            return matrices[len(x)]

        return fill

    return _measured(problem, filling)


def _measured(problem: luksan_vlcek.Problem, make: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]) -> str:
    """The seconds of the first call of what is made of an objective, and the time of a later one, at two sizes."""
    figures = []
    for n in (20, 40) if quick() else (1_000, 100_000):
        x, function = problem.start(n), make(problem.objective)
        begin = time.perf_counter()
        function(x)
        seconds = time.perf_counter() - begin
        timing = paired({"call": partial(function, x)}, rounds=5)["call"]
        figures.append(f"n = {n:,}: {seconds:.2f} s, {1e6 * timing.median:,.0f} µs")
    return "; ".join(figures)
