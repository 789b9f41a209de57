"""Functions that branch and that loop until something is done: what a guard costs, and rows that go their ways."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.gradbench import Array
from benchmarks.peers import if_installed
from benchmarks.table import Row
from benchmarks.timing import paired, quick, ratio

#: When the price is met as closely as this part of the spot price, the volatility is found.
_CLOSE = 1e-9


def implied_volatility(option: Any) -> Any:
    """The volatility at which the formula of Black and Scholes gives the price of a call, by Newton's method.

    Args:
        option: price, spot price, strike, years, and interest rate.
    """
    price, spot, strike, years, rate = option
    sigma, root, discounted = 0.3, fg.sqrt(years), strike * fg.exp(-rate * years)
    while True:
        d = (fg.log(spot / strike) + (rate + 0.5 * sigma * sigma) * years) / (sigma * root)
        error = spot * _normal(d) - discounted * _normal(d - sigma * root) - price
        if abs(error) < _CLOSE * spot:
            return sigma
        sigma = sigma - error / (spot * root * fg.exp(-0.5 * d * d) / math.sqrt(2.0 * math.pi))


def _normal(x: Any) -> Any:
    """The cumulative distribution of the normal distribution."""
    return 0.5 * (1.0 + fg.erf(x / math.sqrt(2.0)))


def options(count: int) -> Array:
    """Calls with prices for volatilities between 0.1 and 0.6."""
    draw = np.random.default_rng(0)
    spot, strike = np.full(count, 100.0), draw.uniform(80.0, 120.0, count)
    years, rate, sigma = draw.uniform(0.25, 2.0, count), draw.uniform(0.0, 0.05, count), draw.uniform(0.1, 0.6, count)
    d = (np.log(spot / strike) + (rate + 0.5 * sigma**2) * years) / (sigma * np.sqrt(years))
    normal = np.vectorize(lambda x: 0.5 * (1.0 + math.erf(x / math.sqrt(2.0))))
    price = spot * normal(d) - strike * np.exp(-rate * years) * normal(d - sigma * np.sqrt(years))
    return np.stack([price, spot, strike, years, rate], axis=1)


@if_installed
def implied_volatility_in_numba() -> Any:
    """The same by hand, compiled by Numba: values, and gradients by the implicit function theorem."""
    import numba

    @numba.njit(fastmath=False)
    def newton(rows: Any) -> Any:
        values, gradients = np.empty(len(rows)), np.empty((len(rows), 5))
        for k in range(len(rows)):
            price, spot, strike, years, rate = rows[k]
            sigma, root = 0.3, math.sqrt(years)
            discount = math.exp(-rate * years)
            while True:
                d = (math.log(spot / strike) + (rate + 0.5 * sigma * sigma) * years) / (sigma * root)
                first = 0.5 * (1.0 + math.erf(d / math.sqrt(2.0)))
                second = 0.5 * (1.0 + math.erf((d - sigma * root) / math.sqrt(2.0)))
                error = spot * first - strike * discount * second - price
                vega = spot * root * math.exp(-0.5 * d * d) / math.sqrt(2.0 * math.pi)
                if abs(error) < _CLOSE * spot:
                    break
                sigma -= error / vega
            values[k] = sigma
            theta = vega * sigma / (2.0 * years) + rate * strike * discount * second
            gradients[k, 0] = 1.0 / vega
            gradients[k, 1] = -first / vega
            gradients[k, 2] = discount * second / vega
            gradients[k, 3] = -theta / vega
            gradients[k, 4] = -strike * discount * second * years / vega
        return values, gradients

    return newton


def rosenbrock(x: Any) -> Any:
    """The Rosenbrock function."""
    return sum(100.0 * (x[k + 1] - x[k] ** 2) ** 2 + (1.0 - x[k]) ** 2 for k in range(len(x) - 1))


def guarded_rosenbrock(x: Any) -> Any:
    """The same with a branch that is not taken."""
    if x[0] > 1e3:
        raise ValueError("too far away")
    return rosenbrock(x)


def measure_ways() -> list[Row]:
    """What a guard costs in machine code; implied volatilities by a loop until done, against Numba by hand."""
    rows = []
    x = np.linspace(0.5, 1.5, 10)
    plain, guarded = (fg.grad(f, backend="native") for f in (rosenbrock, guarded_rosenbrock))
    timings = paired({"plain": lambda: plain(x), "guarded": lambda: guarded(x)}, rounds=15, seconds=0.05)
    added = np.median(np.subtract(timings["guarded"].rounds, timings["plain"].rounds)) * 1e9
    what = f"{timings['plain'].median * 1e9:.0f} ns without it"
    rows.append(Row("a guard in machine code, added to the gradient of Rosenbrock, n = 10", "5 ns (want 1 ns)",
                    f"**{added:.0f} ns** ({what})"))  # fmt: skip

    calls = options(20 if quick() else 100_000)
    volatilities = fg.vmap(fg.value_and_grad(implied_volatility))
    candidates = {"flatgrad": lambda: volatilities(calls)}
    by_hand = implied_volatility_in_numba()
    if by_hand is not None:
        candidates["Numba"] = lambda: by_hand(calls)
        (values, gradients), (expected, slopes) = volatilities(calls), by_hand(calls)
        np.testing.assert_allclose(values, expected, rtol=1e-9)
        # The gradient through Newton's rounds is that of the implicit function but for the last round's error.
        assert np.quantile(np.abs(gradients - slopes) / np.abs(slopes), 0.99) < 1e-4
    timings = paired(candidates, rounds=5, seconds=0.0)
    text = f"**{timings['flatgrad'].median * 1e3:.1f} ms**"
    if by_hand is not None:
        slower = ratio(timings, "flatgrad", "Numba")
        text += f"; Numba by hand {timings['Numba'].median * 1e3:.1f} ms: {slower:.2f}x as long"
    rows.append(Row(f"implied volatility of {len(calls):,} options by Newton with `while`, `vmap`, value and gradient",
                    "3x as long as Numba by hand (want 1.2x)", text))  # fmt: skip
    return rows
