"""Scalar functions that `math` does not have. Generated source contains them as they stand here.

They must run on Python 3.8, and may use nothing but `math`.
"""

from __future__ import annotations

from math import exp, inf, log1p, sqrt


def power(base: float, exponent: float) -> float:
    """base ** exponent, for real results only."""
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("a negative base to a fractional power")
    return float(result)


def hypot(a: float, b: float) -> float:
    """sqrt(a*a + b*b); where a square would be too large or too small, a and b are scaled by a power of two."""
    a, b = abs(a), abs(b)
    if a == inf or b == inf:
        return inf
    if a > 2.0**500 or b > 2.0**500:
        a, b = a * 2.0**-600, b * 2.0**-600
        return sqrt(a * a + b * b) * 2.0**600
    if a < 2.0**-460 and b < 2.0**-460:
        a, b = a * 2.0**600, b * 2.0**600
        return sqrt(a * a + b * b) * 2.0**-600
    return sqrt(a * a + b * b)


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), written so that nothing overflows."""
    if x >= 0.0:
        return 1.0 / (1.0 + exp(-x))
    e = exp(x)
    return e / (1.0 + e)


def softplus(x: float) -> float:
    """log(1 + exp(x)), written so that nothing overflows."""
    return x + log1p(exp(-x)) if x > 0.0 else log1p(exp(x))
