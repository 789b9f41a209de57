"""SciPy's special functions on `Value`s and arrays of them: rows of the table, and short compositions of rows.

SciPy is not imported: a ufunc of its own is known by its name when it comes (see `UFUNCS` of `arrays.py`). Its
functions that are no ufuncs are in `FUNCTIONS_OF_SCIPY`, for traces with natural calls (`natural.py`).
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from . import primitives as p
from .arrays import FUNCTIONS, REMEDIES, UFUNCS, Element, as_array, plain
from .errors import InputError
from .foreign import COMPLEX
from .primitives import (
    Operand,
    add,
    div,
    equal,
    exp,
    expm1,
    lgamma,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    mul,
    softplus,
    sqrt,
    where,
    xlogy,
)
from .sites import user_line
from .traced import Integer

#: 1 / sqrt(2 * pi).
_NORMAL = 0.3989422804014327


def norm_pdf(x: Any) -> Any:
    """The density of the normal distribution, `scipy.stats.norm.pdf`. Its other functions are `fg.ndtr`, `fg.ndtri`.

    Args:
        x: a number or a `Value`, or an array or list of them.

    Example:
        >>> import flatgrad as fg
        >>> fg.norm_pdf(0.0), fg.grad(fg.norm_pdf)(0.0)
        (0.3989422804014327, 0.0)
    """
    return mul(_NORMAL, exp(mul(mul(-0.5, x), x)))


def betaln(a: Any, b: Any) -> Any:
    """The logarithm of the beta function, for positive a and b: `lgamma(a) + lgamma(b) - lgamma(a + b)`.

    Example:
        >>> import flatgrad as fg
        >>> round(fg.betaln(2.0, 3.0) + fg.log(12.0), 12)
        0.0
    """
    return p.sub(add(lgamma(a), lgamma(b)), lgamma(add(a, b)))


# --- logarithms, entropies, losses -----------------------------------------------------------------------------------


def _xlog1py(x: Any, y: Any) -> Any:
    zero = equal(x, 0.0)
    return where(zero, 0.0, x * log1p(where(zero, 0.0, y)))


def _entropy(x: Any) -> Any:
    negative = p.less(x, 0.0)
    inside = where(negative, 1.0, x)
    return where(negative, -math.inf, -xlogy(inside, inside))


def _relative_entropy(x: Any, y: Any) -> Any:
    """`x * log(x / y)`; 0 where x is 0 and y is not negative; inf outside of the domain."""
    positive = logical_and(p.greater(x, 0.0), p.greater(y, 0.0))
    inside = where(positive, x, 1.0)
    zero = logical_and(equal(x, 0.0), p.greater_equal(y, 0.0))
    unknown = logical_or(_is_nan(x), _is_nan(y))
    outside = where(unknown, math.nan, where(zero, 0.0, math.inf))
    return where(positive, inside * log(div(inside, where(positive, y, 1.0))), outside)


def _is_nan(x: Any) -> Any:
    return logical_not(equal(x, x))


def _divergence(x: Any, y: Any) -> Any:
    entropy = _relative_entropy(x, y)
    return where(equal(entropy, math.inf), math.inf, entropy - x + y)


def _huber(delta: Any, r: Any) -> Any:
    size = p.abs(r)
    loss = where(p.less_equal(size, delta), 0.5 * r * r, delta * (size - 0.5 * delta))
    return where(p.less(delta, 0.0), math.inf, loss)


def _pseudo_huber(delta: Any, r: Any) -> Any:
    """`delta**2 * (sqrt(1 + v*v) - 1)` with `v = r / delta`, written so that nothing cancels."""
    zero = equal(delta, 0.0)
    v = div(r, where(zero, 1.0, delta))
    loss = delta * delta * expm1(0.5 * log1p(v * v))
    return where(p.less(delta, 0.0), math.inf, where(zero, 0.0, loss))


def _exprel(t: Any) -> Any:
    """`(exp(t) - 1) / t`; near 0 the first terms of its series, which have the derivatives."""
    zero = equal(t, 0.0)
    return where(zero, 1.0 + t * (0.5 + t * (1.0 / 6.0)), div(expm1(t), where(zero, 1.0, t)))


def _logrel(t: Any) -> Any:
    """`log(1 + t) / t`, likewise."""
    zero = equal(t, 0.0)
    return where(zero, 1.0 + t * (-0.5 + t * (1.0 / 3.0)), div(log1p(t), where(zero, 1.0, t)))


def _boxcox_of(logarithm: Any, power: Any) -> Any:
    """`(x**power - 1) / power` of x with this logarithm."""
    return logarithm * _exprel(power * logarithm)


def _half_sine(x: Any) -> Any:
    half = p.sin(0.5 * x)
    return -2.0 * half * half


_DEGREE: Final = math.pi / 180.0


# --- inverse error functions -----------------------------------------------------------------------------------------


def _erfinv(x: Any) -> Any:
    """By the quantile of the nearer tail; in the middle, where that has lost digits, with one step of Newton's."""
    positive = p.greater(x, 0.0)
    quantile = p.ndtri(0.5 * where(positive, 1.0 - x, 1.0 + x)) * math.sqrt(0.5)
    y = where(positive, -quantile, quantile)
    step = (x - p.erf(y)) * exp(y * y) * (0.5 * math.sqrt(math.pi))
    return where(p.less(p.abs(x), 0.5), y + step, y)


def _erfcinv(x: Any) -> Any:
    return p.ndtri(0.5 * x) * -math.sqrt(0.5)


# --- gamma functions -------------------------------------------------------------------------------------------------

#: Of so many factors a product is written out.
_FACTORS: Final = 100


def _gamma_sign(x: Any) -> Any:
    """The sign of the gamma function."""
    even = equal(p.mod(p.floor(x), 2.0), 0.0)
    return where(logical_or(p.greater_equal(x, 0.0), even), 1.0, where(_is_nan(x), x, -1.0))


def _beta(a: Any, b: Any) -> Any:
    sign = _gamma_sign(a) * _gamma_sign(b) * _gamma_sign(a + b)
    return sign * exp(betaln(a, b))


def _whole(item: Any) -> int | None:
    """A whole number of some factors, a plain one or an int among the arguments; None for anything else."""
    if isinstance(item, Operand) and not isinstance(item, Integer):
        return None
    number = operator.index(item) if isinstance(item, Integer) else item
    return int(number) if float(number).is_integer() and abs(number) <= _FACTORS else None


def _quotient_of_gammas(a: Any, b: Any) -> Any:
    return _gamma_sign(a) * _gamma_sign(b) * exp(p.sub(lgamma(a), lgamma(b)))


def _poch(a: Any, m: Any) -> Any:
    """The product `a * (a+1) * ... * (a+m-1)`; by logarithms where m is no plain whole number up to 100."""
    count = _whole(m)
    if count is None:
        return _quotient_of_gammas(a + m, a)
    factors = [a + float(k) for k in (range(count) if count >= 0 else range(count, 0))]
    product = functools.reduce(mul, factors, 1.0)
    return product if count >= 0 else div(1.0, product)


def _binom(n: Any, k: Any) -> Any:
    """The product `(n-k+1)/1 * (n-k+2)/2 * ...`; by logarithms where k is no plain whole number up to 100."""
    count = _whole(k)
    if count is None:
        sign = _gamma_sign(n + 1.0) * _gamma_sign(k + 1.0) * _gamma_sign(n - k + 1.0)
        return sign * exp(lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0))
    if count < 0:
        return 0.0 * n
    product = functools.reduce(mul, [n + float(j - count) for j in range(1, count + 1)], 1.0)
    return div(product, float(math.factorial(count)))


def _factorial(n: Any) -> Any:
    negative = p.less(n, 0.0)
    return where(negative, 0.0, p.gamma(where(negative, 0.0, n) + 1.0))


def _comb(n: Any, k: Any) -> Any:
    is_one = functools.reduce(logical_and, [p.less_equal(k, n), p.greater_equal(n, 0.0), p.greater_equal(k, 0.0)])
    if _whole(k) is None:
        n, k = where(is_one, n, 1.0), where(is_one, k, 0.0)
    return where(is_one, _binom(n, k), 0.0)


def _perm(n: Any, k: Any) -> Any:
    is_one = functools.reduce(logical_and, [p.less_equal(k, n), p.greater_equal(n, 0.0), p.greater_equal(k, 0.0)])
    if _whole(k) is None:
        n, k = where(is_one, n, 1.0), where(is_one, k, 0.0)
    return where(is_one, _poch(n - k + 1.0, k), 0.0)


def _polygamma(n: Any, x: Any) -> Any:
    order = _whole(n)
    if order is None or order < 0:
        raise InputError(f"scipy.special.polygamma needs a whole order from 0 to 100; pass it as an int{user_line()}")
    if order < 2:
        return (p.digamma, p.trigamma)[order](x)
    return p.polygamma(float(order), x)


# --- Bessel functions ------------------------------------------------------------------------------------------------

#: Chebyshev fits of `sqrt(x) * exp(-x) * I(x)` for x from 8 on, as polynomials in 16/x - 1; made with mpmath.
_LARGE: Final = (
    (
        -1.4824893214970786e-10, -8.979705022846649e-11, 9.735776625085242e-10, 6.763382929319093e-10,
        -2.9337366286377844e-09, -2.5947610525034172e-09, 5.191958083669399e-09, 6.919159946153143e-09,
        -4.305727426988361e-09, -1.312290013299317e-08, -7.1010934904762744e-09, 7.472268704900415e-09,
        2.1620199017859248e-08, 3.9340297511352995e-08, 8.871360038754707e-08, 2.973584533150965e-07,
        1.48384809739718e-06, 1.1143033854011811e-05, 0.00013621607437904054, 0.0033605519836670235,
        0.40217650944500816,
    ),
    (
        1.5532708319178e-10, 8.672253865940559e-11, -1.0230972770946493e-09, -6.619127783874082e-10,
        3.1008802702394666e-09, 2.586278748562174e-09, -5.559075345853801e-09, -7.057942662808609e-09,
        4.83070216418574e-09, 1.3770132829371482e-08, 7.102306101258632e-09, -8.351609821216273e-09,
        -2.344868241306537e-08, -4.314253938902304e-08, -1.0000393426323456e-07, -3.483842761870606e-07,
        -1.8349106860450982e-06, -1.5038547258929857e-05, -0.00021923576382047057, -0.00974957719323496,
        0.3893984590258723,
    ),
)  # fmt: skip
#: The terms of the power series up to 8, in (x/2)**2.
_SERIES: Final = tuple(
    tuple(1.0 / (math.factorial(k) * math.factorial(k + order)) for k in range(26, -1, -1)) for order in (0, 1)
)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    return functools.reduce(lambda s, c: s * x + c, coefficients[1:], coefficients[0])


def _modified_bessel(order: int, scaled: bool) -> Element:
    """The modified Bessel function of the first kind of order 0 or 1; `scaled` by exp(-abs(x))."""

    def function(x: Any) -> Any:
        size = p.abs(x)
        small = p.less_equal(size, 8.0)
        near, far = where(small, x, 1.0), where(small, 8.0, size)
        series = _polynomial(_SERIES[order], 0.25 * near * near)
        beyond = div(_polynomial(_LARGE[order], div(16.0, far) - 1.0), sqrt(far))
        if order:
            series, beyond = 0.5 * near * series, p.copysign(beyond, x)
        return where(small, series * exp(-size), beyond) if scaled else where(small, series, beyond * exp(far))

    return function


def _bessel(order: Any, x: Any) -> Any:
    known = _whole(order)
    if known in (0, 1):
        return (p.j0, p.j1)[known](x)
    if known == -1:
        return -p.j1(x)
    raise InputError(f"scipy.special.jv of Values has the orders -1, 0 and 1; pass the order as an int{user_line()}")


_i0: Final = np.frompyfunc(_modified_bessel(0, False), 1, 1)
FUNCTIONS[np.i0] = lambda x: _i0(plain(x))


UFUNCS.update({
    "gammaln": lgamma,
    "psi": p.digamma,
    "expit": p.sigmoid,
    "logit": lambda x: log(x) - log1p(-x),
    "log_expit": lambda x: -softplus(-x),
    "betaln": betaln,
    "beta": _beta,
    "xlog1py": _xlog1py,
    "entr": _entropy,
    "rel_entr": _relative_entropy,
    "kl_div": _divergence,
    "huber": _huber,
    "pseudo_huber": _pseudo_huber,
    "exprel": _exprel,
    "boxcox": lambda x, power: _boxcox_of(log(x), power),
    "boxcox1p": lambda x, power: _boxcox_of(log1p(x), power),
    "inv_boxcox": lambda y, power: exp(y * _logrel(power * y)),
    "inv_boxcox1p": lambda y, power: expm1(y * _logrel(power * y)),
    "exp10": lambda x: 10.0**x,
    "cosm1": _half_sine,
    "powm1": lambda x, y: expm1(y * log(x)),
    "sindg": lambda x: p.sin(x * _DEGREE),
    "cosdg": lambda x: p.cos(x * _DEGREE),
    "tandg": lambda x: p.tan(x * _DEGREE),
    "radian": lambda degrees, minutes, seconds: (degrees + minutes * (1.0 / 60.0) + seconds * (1.0 / 3600.0)) * _DEGREE,
    "erfinv": _erfinv,
    "erfcinv": _erfcinv,
    "gammasgn": _gamma_sign,
    "loggamma": lambda x: lgamma(where(p.less(x, 0.0), math.nan, x)),
    "rgamma": lambda x: _gamma_sign(x) * exp(-lgamma(x)),
    "poch": _poch,
    "binom": _binom,
    "i0": _modified_bessel(0, False),
    "i0e": _modified_bessel(0, True),
    "i1": _modified_bessel(1, False),
    "i1e": _modified_bessel(1, True),
    "jv": _bessel,
    "conjugate": lambda x: x.conjugate() if isinstance(x, COMPLEX) else x,
})  # fmt: skip
REMEDIES.update(
    {
        "jve": "fg.j0 and fg.j1 are",
        "yn": "fg.j0 and fg.j1 are",
        "iv": "scipy.special.i0 and i1 are",
        "ive": "scipy.special.i0e and i1e are",
    }
)


# --- functions that are no ufuncs ------------------------------------------------------------------------------------


def _of_elements(name: str, function: Callable[..., Any], arity: int) -> Callable[..., Any]:
    loop = np.frompyfunc(function, arity, 1)

    def of_arrays(*operands: Any, exact: bool = False, repetition: bool = False, extend: str = "zero") -> Any:
        if exact or extend != "zero":
            raise InputError(
                f"scipy.special.{name} of Values is computed in floats; leave out exact=, extend={user_line()}"
            )
        if repetition:
            operands = (operands[0] + operands[1] - 1.0, operands[1])
        result = loop(*map(plain, operands))
        return as_array(result.ravel().tolist(), result.shape) if isinstance(result, np.ndarray) else result

    return of_arrays


def _multivariate_gammaln(a: Any, d: int) -> Any:
    terms = [lgamma(a - 0.5 * float(j)) for j in range(int(d))]
    return functools.reduce(add, terms, 0.25 * d * (d - 1) * math.log(math.pi))


#: What SciPy's functions that are no ufuncs are for `Value`s, by their names in `scipy.special`.
FUNCTIONS_OF_SCIPY: Final[dict[str, Callable[..., Any]]] = {
    name: _of_elements(name, function, arity)
    for name, function, arity in (
        ("polygamma", _polygamma, 2),
        ("factorial", _factorial, 1),
        ("comb", _comb, 2),
        ("perm", _perm, 2),
        ("multigammaln", _multivariate_gammaln, 2),
    )
}
