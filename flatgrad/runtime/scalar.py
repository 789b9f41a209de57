"""Scalar functions that `math` does not have. Generated source contains them as they stand here.

They must run on Python 3.8, and may use nothing but `math`.
"""

from __future__ import annotations

from math import (
    acos,
    acosh,
    asin,
    atanh,
    copysign,
    cos,
    cosh,
    exp,
    exp2,
    expm1,
    fmod,
    inf,
    log,
    log1p,
    log2,
    log10,
    nan,
    pow,
    sin,
    sinh,
    sqrt,
    tan,
)


def power(base: float, exponent: float) -> float:
    """base ** exponent, for real results only."""
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("a negative base to a fractional power")
    return float(result)


def hypot(a: float, b: float) -> float:
    """sqrt(a*a + b*b), scaled by a power of two where a square would be out of range."""
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


def floor(x: float) -> float:
    """The largest integer that is not larger than x; from 2**52 on no number has a fraction."""
    return x // 1.0 if abs(x) < 4503599627370496.0 else x


def ceil(x: float) -> float:
    """The smallest integer that is not smaller than x, as a float."""
    return -(-x // 1.0) if abs(x) < 4503599627370496.0 else x


def trunc(x: float) -> float:
    """The integer next to x on the side of zero, as a float."""
    return copysign(abs(x) // 1.0, x) if abs(x) < 4503599627370496.0 else x


def rint(x: float) -> float:
    """The integer next to x, of two the even one, as a float."""
    if abs(x) < 4503599627370496.0:
        return copysign(abs(x) + 4503599627370496.0 - 4503599627370496.0, x)
    return x


def sign(x: float) -> float:
    """-1, 0 or 1; NaN of NaN."""
    return 1.0 if x > 0.0 else -1.0 if x < 0.0 else 0.0 if x == 0.0 else x


def logaddexp(a: float, b: float) -> float:
    """log(exp(a) + exp(b)), written so that nothing overflows."""
    if a == b:
        return a + 0.6931471805599453
    if a > b:
        return a + log1p(exp(b - a))
    return b + log1p(exp(a - b))


def xlogy(x: float, y: float) -> float:
    """x * log(y), which is 0 where x is 0."""
    if x != x or y != y:
        return x + y
    if x == 0.0:
        return 0.0
    if y <= 0.0:
        raise ValueError("the logarithm of a number that is not positive")
    return x * log(y)


def checked(x: float, fault: bool) -> float:
    """x, unless the function that it belongs to has no value."""
    if fault:
        raise ValueError("the function has no value at these numbers, or goes another way")
    return x


def turned(x: float, guard: float) -> float:
    """x, unless a guard fails; they are numbered from 1."""
    if guard >= 1.0:
        raise ValueError("the function goes another way at these numbers")
    return x


def position(index: float, rows: float) -> float:
    """Where a table of so many rows has the one of this index; negative ones count from the end."""
    if not abs(index) < inf or index != int(index):
        raise ValueError("an index must be an integer")
    if not -rows <= index < rows:
        raise IndexError("index out of range")
    return index + rows if index < 0.0 else index


# Where Python raises, these give what IEEE 754 and the C standard (C99, annex F) say.


def ieee_power(base: float, exponent: float) -> float:
    """base ** exponent; inf or NaN where Python raises."""
    try:
        return pow(base, exponent)
    except OverflowError:
        return -inf if base < 0.0 and abs(exponent) % 2.0 == 1.0 else inf
    except ValueError:
        if base != 0.0:
            return nan
        return copysign(inf, base) if abs(exponent) % 2.0 == 1.0 else inf


def ieee_div(a: float, b: float) -> float:
    """a / b; inf or NaN where b is 0."""
    return a / b if b != 0.0 else a * copysign(inf, b)


def ieee_exp(x: float) -> float:
    """exp(x); inf where it overflows."""
    try:
        return exp(x)
    except OverflowError:
        return inf


def ieee_expm1(x: float) -> float:
    """expm1(x); inf where it overflows."""
    try:
        return expm1(x)
    except OverflowError:
        return inf


def ieee_log(x: float) -> float:
    """log(x); -inf at 0, NaN below."""
    return log(x) if x > 0.0 else -inf if x == 0.0 else nan


def ieee_log1p(x: float) -> float:
    """log1p(x); -inf at -1, NaN below."""
    return log1p(x) if x > -1.0 else -inf if x == -1.0 else nan


def ieee_sqrt(x: float) -> float:
    """sqrt(x); NaN below 0."""
    return sqrt(x) if x >= 0.0 else nan


def ieee_sinh(x: float) -> float:
    """sinh(x); inf or -inf where it overflows."""
    try:
        return sinh(x)
    except OverflowError:
        return copysign(inf, x)


def ieee_cosh(x: float) -> float:
    """cosh(x); inf where it overflows."""
    try:
        return cosh(x)
    except OverflowError:
        return inf


def ieee_sin(x: float) -> float:
    """sin(x); NaN where x is infinite."""
    return sin(x) if abs(x) < inf else nan


def ieee_cos(x: float) -> float:
    """cos(x); NaN where x is infinite."""
    return cos(x) if abs(x) < inf else nan


def ieee_tan(x: float) -> float:
    """tan(x); NaN where x is infinite."""
    return tan(x) if abs(x) < inf else nan


def ieee_asin(x: float) -> float:
    """asin(x); NaN outside of [-1, 1]."""
    return asin(x) if -1.0 <= x <= 1.0 else nan


def ieee_acos(x: float) -> float:
    """acos(x); NaN outside of [-1, 1]."""
    return acos(x) if -1.0 <= x <= 1.0 else nan


def ieee_acosh(x: float) -> float:
    """acosh(x); NaN below 1."""
    return acosh(x) if x >= 1.0 else nan


def ieee_atanh(x: float) -> float:
    """atanh(x); inf or -inf at 1 and -1, NaN outside of them."""
    return atanh(x) if abs(x) < 1.0 else copysign(inf, x) if abs(x) == 1.0 else nan


def ieee_exp2(x: float) -> float:
    """exp2(x); inf where it overflows."""
    try:
        return exp2(x)
    except OverflowError:
        return inf


def ieee_log2(x: float) -> float:
    """log2(x); -inf at 0, NaN below."""
    return log2(x) if x > 0.0 else -inf if x == 0.0 else nan


def ieee_log10(x: float) -> float:
    """log10(x); -inf at 0, NaN below."""
    return log10(x) if x > 0.0 else -inf if x == 0.0 else nan


def ieee_fmod(a: float, b: float) -> float:
    """fmod(a, b); NaN where a is infinite or b is 0."""
    return fmod(a, b) if b != 0.0 and abs(a) < inf else nan


def ieee_mod(a: float, b: float) -> float:
    """a % b; NaN where b is 0."""
    return a % b if b != 0.0 else nan


def ieee_floordiv(a: float, b: float) -> float:
    """a // b; inf, -inf or NaN where b is 0."""
    return a // b if b != 0.0 else a * copysign(inf, b)


def ieee_xlogy(x: float, y: float) -> float:
    """xlogy(x, y); NaN where y is not positive, but x is not 0."""
    return xlogy(x, y) if y > 0.0 or x == 0.0 or y != y else nan
