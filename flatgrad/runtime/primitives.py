"""The table of primitives: what an elementary operation means stands in its row.

A row is callable on floats, `Value`s, arrays and lists of them, and on the operands of the compiler and of the SymPy
check, because its partials are written in plain arithmetic and in rows of this same table. Adding an operation means
adding one row: the interpreter, the tracer, the adjoint, the method of `Value`, the public function and the tests all
read it from here. How it is written stands in the languages: `compiler/languages/spellings.py`, and for machine code
`compiler/machine/operations.py`.

Rules of the house for partials:

* a partial is a function `(out, *operands)`; the gradient's contribution is the partial *times* the output's gradient,
  so that `0 * inf` is NaN, as in micrograd;
* a row that selects (`where`) gives a `pullback` instead, `(gradient, out, *operands)`: the contribution itself;
* an operand through which no gradient flows is declared `ZERO`; `None` means "not known" and is a named error;
* division is `div`, never `/`, which on `Value`s is micrograd's `a * b**-1`.
"""

from __future__ import annotations

import functools
import math
import struct
import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from . import scalar, special
from .conversion import number as number
from .errors import ARITHMETIC_ERRORS
from .foreign import COMPLEX, beside, objects
from .primitive import BY_NAME as BY_NAME
from .primitive import POSITIVE, REAL, ZERO, Applicable
from .primitive import TABLE as TABLE
from .primitive import Primitive as Primitive
from .wording import table_error


def _power_slope(out: Any, a: Any, k: Any) -> Any:
    """The partial of `a ** k` with respect to `a`: 0 for k = 0, whatever `a` is, and else `k * a**(k - 1)`."""
    if isinstance(k, Operand):  # the inner `where` keeps 0 ** -1 from raising
        return where(equal(k, 0.0), 0.0, mul(k, power(where(equal(k, 0.0), 1.0, a), k - 1.0)))
    if k == 0.0:
        return 0.0
    return mul(k, power(a, k - 1.0)) if isinstance(a, Operand) else k * power(a, k - 1.0)


def _by_square(a: Any, length: Any) -> Any:
    """a / length**2, without the square, which may be out of range."""
    return div(div(a, length), length)


@functools.cache
def _last_sound(function: Callable[[float], float], sound: float, faulty: float) -> float:
    """The last number on the way from one positive number to another at which a function does not raise.

    Numbers are halved by their bits, among which positive ones have the same order; `function` must raise beyond some
    point and not before it.
    """
    good, bad = (struct.unpack("<q", struct.pack("<d", x))[0] for x in (sound, faulty))
    while good - bad not in (-1, 1):
        middle = (good + bad) // 2
        try:
            function(struct.unpack("<d", struct.pack("<q", middle))[0])
            good = middle
        except ARITHMETIC_ERRORS:
            bad = middle
    result: float = struct.unpack("<d", struct.pack("<q", good))[0]
    return result


def _beyond(x: Any, limit: float) -> Any:
    """The condition that a number is larger than a limit, and finite."""
    return between(x, limit, math.inf)


@functools.cache
def _power_limit(exponent: float) -> float:
    """The last positive base whose power does not overflow: the largest, or for a negative exponent the smallest."""
    edge = sys.float_info.max if exponent > 0.0 else math.ulp(0.0)
    try:
        scalar.power(edge, exponent)
    except ARITHMETIC_ERRORS:
        return _last_sound(lambda base: scalar.power(base, exponent), 1.0, edge)
    return edge


def _power_fault(base: Any, exponent: Any) -> Any:
    if not isinstance(exponent, float):
        return None
    if exponent == 0.0 or not math.isfinite(exponent):
        return False
    limit = _power_limit(exponent)
    overflows = limit < sys.float_info.max
    if exponent.is_integer():
        if exponent < 0.0:
            return less(abs(base), limit)
        return _beyond(abs(base), limit) if overflows else False
    # A negative base has no real power; but the one of -inf is inf or 0.
    if exponent < 0.0:
        return between(base, -math.inf, limit)
    negative = between(base, -math.inf, 0.0)
    return negative | _beyond(base, limit) if overflows else negative


def _overflow(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """The condition under which a function of `math` that grows from 0 on overflows."""
    return lambda x: _beyond(x, _last_sound(function, 1.0, 1e3))


def _select(condition: bool, a: Any, b: Any) -> Any:
    return a if condition else b


# --- arithmetic ---------------------------------------------------------------------------------------------------

add: Primitive = Primitive(
    "add", "ff->f", lambda a, b: a + b,
    (lambda out, a, b: 1.0, lambda out, a, b: 1.0),
    doc="The sum `a + b`.",
    sympy=lambda sp, a, b: a + b, symbol="+", commutative=True,
    identity=-0.0,  # x + 0.0 is not x for x = -0.0
)  # fmt: skip

mul: Primitive = Primitive(
    "mul", "ff->f", lambda a, b: a * b,
    (lambda out, a, b: b, lambda out, a, b: a),
    doc="The product `a * b`.",
    sympy=lambda sp, a, b: a * b, symbol="*", commutative=True, identity=1.0,
)  # fmt: skip

# The compiler uses the next two. On `Value`s `-a` is `a * -1`, and `a - b` is `a + (-b)`; the bits are the same.

neg: Primitive = Primitive(
    "neg", "f->f", lambda a: -a, (lambda out, a: -1.0,),
    doc="The negative `-a`.",
    sympy=lambda sp, a: -a, symbol="-",
)  # fmt: skip

sub: Primitive = Primitive(
    "sub", "ff->f", lambda a, b: a - b, (lambda out, a, b: 1.0, lambda out, a, b: -1.0),
    doc="The difference `a - b`.",
    sympy=lambda sp, a, b: a - b, symbol="-",
)  # fmt: skip

power: Primitive = Primitive(
    "power", "ff->f", scalar.power,
    (
        _power_slope,
        # PyTorch's convention: 0 at base 0, where a logarithm would raise. The inner `where` keeps it from raising.
        lambda out, a, k: where(equal(a, 0.0), 0.0, out * log(where(equal(a, 0.0), 1.0, a))),
    ),
    doc="`base ** exponent`; a negative base to a fractional power raises, it never turns complex.",
    sympy=lambda sp, base, exponent: base**exponent, symbol="**",
    domain=(POSITIVE, REAL), requires="a base >= 0 for a fractional exponent", raises=True, decided_by=1,
    remedy="a ** k has no finite derivative at a = 0 for k < 1 other than 0; the length of a vector is "
    "fg.norm(vector), whose gradient is 0 where all elements are 0",
    fault=_power_fault, slow=True,
)  # fmt: skip

div: Primitive = Primitive(
    "div", "ff->f", lambda a, b: a / b,
    (lambda out, a, b: div(1.0, b), lambda out, a, b: -div(out, b)),
    doc="The true quotient `a / b`, rounded once (`/` on `Value`s is micrograd's `a * b**-1`, rounded twice).",
    sympy=lambda sp, a, b: a / b, symbol="/",
    domain=(REAL, POSITIVE), raises=True,
    fault=lambda a, b: equal(b, 0.0),
)  # fmt: skip

relu: Primitive = Primitive(
    "relu", "f->f", lambda x: 0.0 if x < 0.0 else x,
    (lambda out, x: where(out > 0.0, 1.0, 0.0),),
    doc="`0.0 if x < 0 else x`; the partial is 1 where the output is positive, else 0.",
    sympy=lambda sp, x: sp.Piecewise((0, x < 0), (x, True)), symbol="ReLU",
)  # fmt: skip

maximum: Primitive = Primitive(
    "maximum", "ff->f", lambda a, b: a if a >= b or a != a else b,
    (
        lambda out, a, b: where(equal(a, b), 0.5, where(a < b, 0.0, 1.0)),
        lambda out, a, b: where(equal(a, b), 0.5, where(a > b, 0.0, 1.0)),
    ),
    doc="The larger of `a` and `b`, the first at a tie, NaN if either is; a tie gives each half of the gradient.",
    sympy=lambda sp, a, b: sp.Max(a, b), symbol="max", identity=-math.inf,
)  # fmt: skip

minimum: Primitive = Primitive(
    "minimum", "ff->f", lambda a, b: a if a <= b or a != a else b,
    (
        lambda out, a, b: where(equal(a, b), 0.5, where(a > b, 0.0, 1.0)),
        lambda out, a, b: where(equal(a, b), 0.5, where(a < b, 0.0, 1.0)),
    ),
    doc="The smaller of `a` and `b`, the first at a tie, NaN if either is; a tie gives each half of the gradient.",
    sympy=lambda sp, a, b: sp.Min(a, b), symbol="min", identity=math.inf,
)  # fmt: skip

abs: Primitive = Primitive(
    "abs", "f->f", math.fabs,
    (lambda out, x: where(x > 0.0, 1.0, where(x < 0.0, -1.0, x * 0.0)),),
    doc="The absolute value; its partial at 0 is 0.",
    sympy=lambda sp, x: sp.Abs(x), symbol="abs",
)  # fmt: skip

# --- elementary functions -----------------------------------------------------------------------------------------

exp: Primitive = Primitive(
    "exp", "f->f", math.exp, (lambda out, x: out,),
    doc="The exponential function; raises where the result overflows.",
    sympy=lambda sp, x: sp.exp(x), raises=True,
    fault=_overflow(math.exp), slow=True,
)  # fmt: skip

expm1: Primitive = Primitive(
    "expm1", "f->f", math.expm1, (lambda out, x: out + 1.0,),
    doc="`exp(x) - 1`, accurate near 0; raises where the result overflows.",
    sympy=lambda sp, x: sp.exp(x) - 1, raises=True,
    fault=_overflow(math.expm1), slow=True,
)  # fmt: skip

log: Primitive = Primitive(
    "log", "f->f", math.log, (lambda out, x: div(1.0, x),),
    doc="The natural logarithm.",
    sympy=lambda sp, x: sp.log(x),
    domain=(POSITIVE,), requires="x > 0", raises=True,
    fault=lambda x: less_equal(x, 0.0), slow=True,
)  # fmt: skip

log1p: Primitive = Primitive(
    "log1p", "f->f", math.log1p, (lambda out, x: div(1.0, 1.0 + x),),
    doc="`log(1 + x)`, accurate near 0.",
    sympy=lambda sp, x: sp.log(1 + x),
    domain=((-1.0, math.inf),), requires="x > -1", raises=True,
    fault=lambda x: less_equal(x, -1.0), slow=True,
)  # fmt: skip

sqrt: Primitive = Primitive(
    "sqrt", "f->f", math.sqrt, (lambda out, x: div(0.5, out),),
    doc="The square root.",
    sympy=lambda sp, x: sp.sqrt(x),
    domain=(POSITIVE,), requires="x >= 0", raises=True,
    remedy="sqrt has no finite derivative at 0; the length of a vector is fg.norm(vector), whose gradient is 0 where "
    "all elements are 0",
    fault=lambda x: less(x, 0.0),
)  # fmt: skip

hypot: Primitive = Primitive(
    "hypot", "ff->f", scalar.hypot,
    (lambda out, a, b: div(a, out), lambda out, a, b: div(b, out)),
    doc="The length of the vector `(a, b)`: `sqrt(a*a + b*b)`, scaled where a square would overflow or underflow.",
    sympy=lambda sp, a, b: sp.sqrt(a**2 + b**2),
    remedy="hypot has no derivative at (0, 0); write fg.norm([a, b]), whose gradient is 0 there",
)  # fmt: skip

tanh: Primitive = Primitive(
    "tanh", "f->f", math.tanh, (lambda out, x: 1.0 - out * out,),
    doc="The hyperbolic tangent.",
    sympy=lambda sp, x: sp.tanh(x), slow=True,
)  # fmt: skip

sinh: Primitive = Primitive(
    "sinh", "f->f", math.sinh, (lambda out, x: cosh(x),),
    doc="The hyperbolic sine; raises where the result overflows.",
    sympy=lambda sp, x: sp.sinh(x), raises=True,
    fault=lambda x: _beyond(abs(x), _last_sound(math.sinh, 1.0, 1e3)), slow=True,
)  # fmt: skip

cosh: Primitive = Primitive(
    "cosh", "f->f", math.cosh, (lambda out, x: sinh(x),),
    doc="The hyperbolic cosine; raises where the result overflows.",
    sympy=lambda sp, x: sp.cosh(x), raises=True,
    fault=lambda x: _beyond(abs(x), _last_sound(math.cosh, 1.0, 1e3)), slow=True,
)  # fmt: skip

sigmoid: Primitive = Primitive(
    "sigmoid", "f->f", scalar.sigmoid, (lambda out, x: out * (1.0 - out),),
    doc="The logistic function `1 / (1 + exp(-x))`, written so that nothing overflows.",
    sympy=lambda sp, x: 1 / (1 + sp.exp(-x)), slow=True,
)  # fmt: skip

softplus: Primitive = Primitive(
    "softplus", "f->f", scalar.softplus, (lambda out, x: sigmoid(x),),
    doc="`log(1 + exp(x))`, written so that nothing overflows.",
    sympy=lambda sp, x: sp.log(1 + sp.exp(x)), slow=True,
)  # fmt: skip

sin: Primitive = Primitive(
    "sin", "f->f", math.sin, (lambda out, x: cos(x),),
    doc="The sine of an angle in radians.",
    sympy=lambda sp, x: sp.sin(x), requires="a finite x", raises=True,
    fault=lambda x: equal(abs(x), math.inf), slow=True,
)  # fmt: skip

cos: Primitive = Primitive(
    "cos", "f->f", math.cos, (lambda out, x: -sin(x),),
    doc="The cosine of an angle in radians.",
    sympy=lambda sp, x: sp.cos(x), requires="a finite x", raises=True,
    fault=lambda x: equal(abs(x), math.inf), slow=True,
)  # fmt: skip

tan: Primitive = Primitive(
    "tan", "f->f", math.tan, (lambda out, x: 1.0 + out * out,),
    doc="The tangent of an angle in radians.",
    sympy=lambda sp, x: sp.tan(x),
    domain=((-1.5, 1.5),), requires="a finite x", raises=True,
    fault=lambda x: equal(abs(x), math.inf), slow=True,
)  # fmt: skip

asin: Primitive = Primitive(
    "asin", "f->f", math.asin, (lambda out, x: div(1.0, sqrt(1.0 - x * x)),),
    doc="The inverse sine, in radians.",
    sympy=lambda sp, x: sp.asin(x), aliases=("arcsin",),
    domain=((-1.0, 1.0),), requires="-1 <= x <= 1", raises=True,
    remedy="asin has no finite derivative at -1 and 1; keep x inside, fg.maximum(fg.minimum(x, 1 - 1e-12), -1 + 1e-12)",
    fault=lambda x: greater(abs(x), 1.0), slow=True,
)  # fmt: skip

acos: Primitive = Primitive(
    "acos", "f->f", math.acos, (lambda out, x: -div(1.0, sqrt(1.0 - x * x)),),
    doc="The inverse cosine, in radians.",
    sympy=lambda sp, x: sp.acos(x), aliases=("arccos",),
    domain=((-1.0, 1.0),), requires="-1 <= x <= 1", raises=True,
    remedy="acos has no finite derivative at -1 and 1; keep x inside, fg.maximum(fg.minimum(x, 1 - 1e-12), -1 + 1e-12)",
    fault=lambda x: greater(abs(x), 1.0), slow=True,
)  # fmt: skip

atan: Primitive = Primitive(
    "atan", "f->f", math.atan, (lambda out, x: div(1.0, 1.0 + x * x),),
    doc="The inverse tangent, in radians.",
    sympy=lambda sp, x: sp.atan(x), aliases=("arctan",), slow=True,
)  # fmt: skip

atan2: Primitive = Primitive(
    "atan2", "ff->f", math.atan2,
    (lambda out, y, x: _by_square(x, hypot(x, y)), lambda out, y, x: -_by_square(y, hypot(x, y))),
    doc="The angle of the point `(x, y)`, given as `atan2(y, x)`, in radians.",
    sympy=lambda sp, y, x: sp.atan2(y, x), aliases=("arctan2",),
    domain=(REAL, POSITIVE), slow=True,
    remedy="atan2 has no derivative at (0, 0); select an operand, atan2(y, fg.where(c, 1.0, x)), with the condition c "
    "that both are 0",
)  # fmt: skip

# 2 / sqrt(pi), rounded to a float.
_ERF_SLOPE = 1.1283791670955126

erf: Primitive = Primitive(
    "erf", "f->f", math.erf, (lambda out, x: _ERF_SLOPE * exp(-(x * x)),),
    doc="The error function.",
    sympy=lambda sp, x: sp.erf(x), slow=True,
)  # fmt: skip

erfc: Primitive = Primitive(
    "erfc", "f->f", math.erfc, (lambda out, x: -_ERF_SLOPE * exp(-(x * x)),),
    doc="`1 - erf(x)`, accurate for large x.",
    sympy=lambda sp, x: sp.erfc(x), slow=True,
)  # fmt: skip

asinh: Primitive = Primitive(
    "asinh", "f->f", math.asinh, (lambda out, x: div(1.0, hypot(1.0, x)),),
    doc="The inverse hyperbolic sine.",
    sympy=lambda sp, x: sp.asinh(x), aliases=("arcsinh",), slow=True,
)  # fmt: skip

acosh: Primitive = Primitive(
    "acosh", "f->f", math.acosh, (lambda out, x: div(1.0, sqrt(x - 1.0) * sqrt(x + 1.0)),),
    doc="The inverse hyperbolic cosine.",
    sympy=lambda sp, x: sp.acosh(x), aliases=("arccosh",),
    domain=((1.0, math.inf),), requires="x >= 1", raises=True,
    remedy="acosh has no finite derivative at 1; keep x above, fg.maximum(x, 1 + 1e-12)",
    fault=lambda x: less(x, 1.0), slow=True,
)  # fmt: skip

atanh: Primitive = Primitive(
    "atanh", "f->f", math.atanh, (lambda out, x: div(1.0, (1.0 - x) * (1.0 + x)),),
    doc="The inverse hyperbolic tangent.",
    sympy=lambda sp, x: sp.atanh(x), aliases=("arctanh",),
    domain=((-1.0, 1.0),), requires="-1 < x < 1", raises=True,
    fault=lambda x: greater_equal(abs(x), 1.0), slow=True,
)  # fmt: skip

_LOG_2, _LOG_10 = math.log(2.0), math.log(10.0)

exp2: Primitive = Primitive(
    "exp2", "f->f", math.exp2, (lambda out, x: out * _LOG_2,),
    doc="The power `2 ** x`; raises where the result overflows.",
    sympy=lambda sp, x: 2**x, raises=True,
    fault=lambda x: _beyond(x, math.nextafter(1024.0, 0.0)), slow=True,
)  # fmt: skip

log2: Primitive = Primitive(
    "log2", "f->f", math.log2, (lambda out, x: div(1.0, x * _LOG_2),),
    doc="The logarithm to the base 2.",
    sympy=lambda sp, x: sp.log(x) / sp.log(2),
    domain=(POSITIVE,), requires="x > 0", raises=True,
    fault=lambda x: less_equal(x, 0.0), slow=True,
)  # fmt: skip

log10: Primitive = Primitive(
    "log10", "f->f", math.log10, (lambda out, x: div(1.0, x * _LOG_10),),
    doc="The logarithm to the base 10.",
    sympy=lambda sp, x: sp.log(x) / sp.log(10),
    domain=(POSITIVE,), requires="x > 0", raises=True,
    fault=lambda x: less_equal(x, 0.0), slow=True,
)  # fmt: skip

cbrt: Primitive = Primitive(
    "cbrt", "f->f", math.cbrt, (lambda out, x: div(1.0, 3.0 * (out * out)),),
    doc="The cube root, of negative numbers, too.",
    sympy=lambda sp, x: sp.cbrt(x), domain=(POSITIVE,), slow=True,
    remedy="cbrt has no finite derivative at 0; select an operand, cbrt(fg.where(c, 1.0, x)), with the condition c "
    "that x is 0",
)  # fmt: skip

logaddexp: Primitive = Primitive(
    "logaddexp", "ff->f", scalar.logaddexp, (lambda out, a, b: sigmoid(a - b), lambda out, a, b: sigmoid(b - a)),
    doc="`log(exp(a) + exp(b))`, written so that nothing overflows.",
    sympy=lambda sp, a, b: sp.log(sp.exp(a) + sp.exp(b)), slow=True,
)  # fmt: skip

xlogy: Primitive = Primitive(
    "xlogy", "ff->f", scalar.xlogy,
    (
        lambda out, x, y: log(where(equal(x, 0.0) & less_equal(y, 0.0), 1.0, y)),
        lambda out, x, y: where(equal(x, 0.0), 0.0, div(x, where(equal(x, 0.0), 1.0, y))),
    ),
    doc="`x * log(y)`, which is 0 where x is 0; a term of an entropy, or of a likelihood.",
    sympy=lambda sp, x, y: x * sp.log(y),
    domain=(REAL, POSITIVE), requires="y > 0, or x = 0", raises=True,
    fault=lambda x, y: (less(x, 0.0) | greater(x, 0.0)) & less_equal(y, 0.0), slow=True,
)  # fmt: skip

# --- special functions ---------------------------------------------------------------------------------------------

#: 1 / sqrt(2 * pi), and the logarithm of its reciprocal.
_NORMAL, _LOG_NORMAL = 0.3989422804014327, 0.9189385332046727


def _pole(x: Any) -> Any:
    return less_equal(x, 0.0) & equal(floor(x), x)


@functools.cache
def _near_zero(function: Callable[[float], float]) -> tuple[float, float]:
    """The first numbers on both sides of 0 at which a function does not overflow."""
    tiny = math.ulp(0.0)
    return -_last_sound.__wrapped__(lambda x: function(-x), 0.5, tiny), _last_sound(function, 0.5, tiny)


def _hazard(out: Any, x: Any) -> Any:
    """The density of the normal distribution over its distribution function, whose logarithm is `out`."""
    tail = less(x, -20.0)
    far, near = where(tail, x, -20.0), where(tail, -20.0, x)
    w = div(1.0, far * far)
    series = 1.0
    for c in (13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
        series = 1.0 - c * w * series
    return where(tail, div(-far, series), exp(-0.5 * near * near - _LOG_NORMAL - where(tail, _LOG_TAIL, out)))


_LOG_TAIL = special.log_ndtr(-20.0)

gamma: Primitive = Primitive(
    "gamma", "f->f", special.gamma, (lambda out, x: out * digamma(x),),
    doc="The gamma function, `(x - 1)!` of whole numbers.",
    sympy=lambda sp, x: sp.gamma(x), domain=(POSITIVE,), requires="x other than 0, -1, -2, ...", raises=True,
    fault=lambda x: (
        _pole(x) | between(x, *_near_zero(special.gamma)) | _beyond(x, _last_sound(special.gamma, 1.0, 1e3))
    ),
    slow=True,
)  # fmt: skip

lgamma: Primitive = Primitive(
    "lgamma", "f->f", special.lgamma, (lambda out, x: digamma(x),),
    doc="The logarithm of the absolute value of the gamma function (SciPy's `gammaln`).",
    sympy=lambda sp, x: sp.loggamma(x), domain=((2.5, math.inf),), requires="x other than 0, -1, -2, ...", raises=True,
    fault=lambda x: (_pole(x) & greater(x, -math.inf)) | _beyond(x, _last_sound(special.lgamma, 1.0, 1e308)), slow=True,
)  # fmt: skip

digamma: Primitive = Primitive(
    "digamma", "f->f", special.digamma, (lambda out, x: trigamma(x),),
    doc="The derivative of `lgamma` (SciPy's `digamma` and `psi`).",
    sympy=lambda sp, x: sp.polygamma(0, x), domain=(POSITIVE,), requires="x other than 0, -1, -2, ...", raises=True,
    fault=lambda x: _pole(x) | between(x, *_near_zero(special.digamma)), slow=True,
)  # fmt: skip

trigamma: Primitive = Primitive(
    "trigamma", "f->f", special.trigamma, (lambda out, x: polygamma(2.0, x),),
    doc="The derivative of `digamma`. Its own derivative, and all further ones, are there for positive x.",
    sympy=lambda sp, x: sp.polygamma(1, x), domain=(POSITIVE,), requires="x other than 0, -1, -2, ...", raises=True,
    fault=lambda x: _pole(x) | between(x, *_near_zero(special.trigamma)), slow=True,
)  # fmt: skip

polygamma: Primitive = Primitive(
    "polygamma", "ff->f", special.polygamma, (ZERO, lambda out, n, x: polygamma(n + 1.0, x)),
    doc="The derivative of order n of `digamma`, n from 2 to 100.",
    sympy=lambda sp, n, x: sp.polygamma(n, x),
    domain=((2.0, 100.0), POSITIVE), requires="x > 0, and derivatives up to order 100", raises=True, internal=True,
    slow=True,
)  # fmt: skip

ndtr: Primitive = Primitive(
    "ndtr", "f->f", special.ndtr, (lambda out, x: _NORMAL * exp(-0.5 * x * x),),
    doc="The distribution function of the normal distribution (`scipy.stats.norm.cdf`).",
    sympy=lambda sp, x: (1 + sp.erf(x / sp.sqrt(2))) / 2, slow=True,
)  # fmt: skip

log_ndtr: Primitive = Primitive(
    "log_ndtr", "f->f", special.log_ndtr, (_hazard,),
    doc="The logarithm of `ndtr`, accurate where that underflows (`scipy.stats.norm.logcdf`).",
    sympy=lambda sp, x: sp.log(sp.erfc(-x / sp.sqrt(2)) / 2), domain=((-3.0, 1.0),), slow=True,
)  # fmt: skip

ndtri: Primitive = Primitive(
    "ndtri", "f->f", special.ndtri, (lambda out, x: div(1.0, _NORMAL) * exp(0.5 * out * out),),
    doc="The inverse of `ndtr`: the quantile of the normal distribution (`scipy.stats.norm.ppf`).",
    sympy=lambda sp, p: sp.sqrt(2) * sp.erfinv(2 * p - 1), domain=((0.0, 1.0),), requires="0 < p < 1", raises=True,
    fault=lambda p: less_equal(p, 0.0) | greater_equal(p, 1.0), slow=True,
)  # fmt: skip

j0: Primitive = Primitive(
    "j0", "f->f", special.j0, (lambda out, x: -j1(x),),
    doc="The Bessel function of the first kind of order 0.",
    sympy=lambda sp, x: sp.besselj(0, x), domain=(POSITIVE,), slow=True,
)  # fmt: skip


def _slope_of_j1(out: Any, x: Any) -> Any:
    """j0(x) - j1(x) / x, whose derivatives would cancel near 0: from -1 to 1 its power series."""
    small = less(abs(x), 1.0)
    square = where(small, x * x, 0.0)
    series = _SLOPE_OF_J1[-1]
    for c in _SLOPE_OF_J1[-2::-1]:
        series = series * square + c
    return where(small, series, j0(x) - div(out, where(small, 1.0, x)))


_SLOPE_OF_J1 = [
    (-1.0) ** k * (2 * k + 1) / (math.factorial(k) * math.factorial(k + 1) * 2 ** (2 * k + 1)) for k in range(12)
]

j1: Primitive = Primitive(
    "j1", "f->f", special.j1, (_slope_of_j1,),
    doc="The Bessel function of the first kind of order 1.",
    sympy=lambda sp, x: sp.besselj(1, x), domain=((1.0, math.inf),), slow=True,
)  # fmt: skip

# --- whole numbers and signs --------------------------------------------------------------------------------------

floor: Primitive = Primitive(
    "floor", "f->f", scalar.floor, (ZERO,),
    doc="The largest integer that is not larger than x, as a float. Its derivative is 0.",
    sympy=lambda sp, x: sp.floor(x),
)  # fmt: skip

ceil: Primitive = Primitive(
    "ceil", "f->f", scalar.ceil, (ZERO,),
    doc="The smallest integer that is not smaller than x, as a float. Its derivative is 0.",
    sympy=lambda sp, x: sp.ceiling(x),
)  # fmt: skip

trunc: Primitive = Primitive(
    "trunc", "f->f", scalar.trunc, (ZERO,),
    doc="The integer next to x on the side of 0, as a float. Its derivative is 0.",
    sympy=lambda sp, x: sp.sign(x) * sp.floor(sp.Abs(x)),
)  # fmt: skip

rint: Primitive = Primitive(
    "rint", "f->f", scalar.rint, (ZERO,),
    doc="The integer next to x, of two the even one, as a float (Python's `round`). Its derivative is 0.",
    sympy=lambda sp, x: sp.floor(x + sp.Rational(1, 2)),  # but for what lies in the middle
)  # fmt: skip

sign: Primitive = Primitive(
    "sign", "f->f", scalar.sign, (ZERO,),
    doc="-1, 0 or 1, as x is negative, zero or positive. Its derivative is 0.",
    sympy=lambda sp, x: sp.sign(x),
)  # fmt: skip

copysign: Primitive = Primitive(
    "copysign", "ff->f", math.copysign, (lambda out, a, b: sign(a) * copysign(1.0, b), ZERO),
    doc="The absolute value of `a` with the sign of `b`, where -0.0 is negative. The partial at `a` = 0 is 0.",
    sympy=lambda sp, a, b: sp.Abs(a) * sp.sign(b),
)  # fmt: skip

mod: Primitive = Primitive(
    "mod", "ff->f", lambda a, b: a % b,
    (lambda out, a, b: 1.0, lambda out, a, b: -floordiv(a, b)),
    doc="The remainder `a % b`, which has the sign of `b`, as in Python. (At its jumps the partials are those beside.)",
    sympy=lambda sp, a, b: a - b * sp.floor(a / b), symbol="%",
    domain=(REAL, POSITIVE), requires="b other than 0", raises=True,
    fault=lambda a, b: equal(b, 0.0),
)  # fmt: skip

floordiv: Primitive = Primitive(
    "floordiv", "ff->f", lambda a, b: a // b, (ZERO, ZERO),
    doc="The quotient rounded down, `a // b`, as a float. Its derivative is 0.",
    sympy=lambda sp, a, b: sp.floor(a / b), symbol="//",
    domain=(REAL, POSITIVE), requires="b other than 0", raises=True,
    fault=lambda a, b: equal(b, 0.0),
)  # fmt: skip

fmod: Primitive = Primitive(
    "fmod", "ff->f", math.fmod,
    (lambda out, a, b: 1.0, lambda out, a, b: -rint(div(a - out, b))),
    doc="The remainder that has the sign of `a`, as in C.",
    sympy=lambda sp, a, b: a - b * sp.Piecewise((sp.floor(a / b), a / b > 0), (-sp.floor(-a / b), True)),
    domain=(REAL, POSITIVE), requires="a finite a, and b other than 0", raises=True,
    fault=lambda a, b: (equal(b, 0.0) & equal(a, a)) | (equal(abs(a), math.inf) & equal(b, b)), slow=True,
)  # fmt: skip

# --- comparison and selection -------------------------------------------------------------------------------------

less: Primitive = Primitive(
    "less", "ff->b", lambda a, b: a < b, (ZERO, ZERO), doc="The condition `a < b`.",
    sympy=lambda sp, a, b: sp.Lt(a, b), symbol="<",
)  # fmt: skip

less_equal: Primitive = Primitive(
    "less_equal", "ff->b", lambda a, b: a <= b, (ZERO, ZERO), doc="The condition `a <= b`.",
    sympy=lambda sp, a, b: sp.Le(a, b), symbol="<=",
)  # fmt: skip

greater: Primitive = Primitive(
    "greater", "ff->b", lambda a, b: a > b, (ZERO, ZERO), doc="The condition `a > b`.",
    sympy=lambda sp, a, b: sp.Gt(a, b), symbol=">",
)  # fmt: skip

greater_equal: Primitive = Primitive(
    "greater_equal", "ff->b", lambda a, b: a >= b, (ZERO, ZERO), doc="The condition `a >= b`.",
    sympy=lambda sp, a, b: sp.Ge(a, b), symbol=">=",
)  # fmt: skip

equal: Primitive = Primitive(
    "equal", "ff->b", lambda a, b: a == b, (ZERO, ZERO),
    doc="The condition that two numbers are equal (`==` on `Value`s asks whether they are the same node).",
    sympy=lambda sp, a, b: sp.Eq(a, b), symbol="==",
)  # fmt: skip

logical_and: Primitive = Primitive(
    "logical_and", "bb->b", lambda a, b: a and b, (ZERO, ZERO), doc="Both conditions; also written `a & b`.",
    sympy=lambda sp, a, b: sp.And(a, b), symbol="and",
    commutative=True, identity=True,
)  # fmt: skip

logical_or: Primitive = Primitive(
    "logical_or", "bb->b", lambda a, b: a or b, (ZERO, ZERO), doc="Either condition; also written `a | b`.",
    sympy=lambda sp, a, b: sp.Or(a, b), symbol="or",
    commutative=True, identity=False,
)  # fmt: skip

logical_not: Primitive = Primitive(
    "logical_not", "b->b", lambda a: not a, (ZERO,), doc="The opposite condition; also written `~a`.",
    sympy=lambda sp, a: sp.Not(a), symbol="not",
)  # fmt: skip

where: Primitive = Primitive(
    "where", "bff->f", _select, (),
    pullbacks=(
        ZERO,
        lambda gradient, out, condition, a, b: where(condition, gradient, 0.0),
        lambda gradient, out, condition, a, b: where(condition, 0.0, gradient),
    ),
    doc="`a` where the condition holds, else `b`. Both are computed; the one not taken receives a gradient of 0.\n\n"
    "A branch that is not taken raises all the same where it is undefined: `where(x > 0, log(x), 0.0)` raises at 0,\n"
    "and so does the partial of `sqrt(x)`. Select the operand, too: `where(x > 0, log(where(x > 0, x, 1.0)), 0.0)`.",
    sympy=lambda sp, condition, a, b: sp.Piecewise((a, condition), (b, True)), symbol="where",
)  # fmt: skip

detach: Primitive = Primitive(
    "detach", "f->f", lambda x: x, (ZERO,),
    doc="The number without its gradient.",
    sympy=lambda sp, x: x, symbol="detach",
)  # fmt: skip

# --- what only the compiler uses ----------------------------------------------------------------------------------

checked: Primitive = Primitive(
    "checked", "fb->f", scalar.checked, (lambda out, x, fault: 1.0, ZERO),
    doc="The number `x`; raises where the condition holds, under which a function has no value, and so no gradient.",
    sympy=lambda sp, x, fault: x,
    requires="numbers at which the function has a value", raises=True, internal=True,
)  # fmt: skip

turned: Primitive = Primitive(
    "turned", "ff->f", scalar.turned, (lambda out, x, guard: 1.0, ZERO),
    doc="The number `x`; raises where the other one is 1 or more: which guard of a way is the first that fails.",
    sympy=lambda sp, x, guard: x,
    requires="numbers that go the way of the kernel", raises=True, internal=True,
)  # fmt: skip

position: Primitive = Primitive(
    "position", "ff->f", scalar.position, (ZERO, ZERO),
    doc="Where a table with so many rows has the one of this index; negative indices count from the end.",
    sympy=lambda sp, index, rows: sp.Piecewise((index + rows, index < 0), (index, True)),
    raises=True, worded=table_error, internal=True,
)  # fmt: skip
position.total = position  # there is no other row to take where nothing may raise

between: Primitive = Primitive(
    "between", "fff->b", lambda x, low, high: low < x < high, (ZERO, ZERO, ZERO),
    doc="The condition that `x` is larger than one constant and smaller than another; not so a NaN.",
    sympy=lambda sp, x, low, high: sp.And(sp.Lt(low, x), sp.Lt(x, high)), internal=True,
)  # fmt: skip

select: Primitive = Primitive(
    "select", "bff->f", _select, (),
    pullbacks=(
        ZERO,
        lambda gradient, out, condition, a, b: where(condition, gradient, -0.0),
        lambda gradient, out, condition, a, b: where(condition, -0.0, gradient),
    ),
    doc="One of two numbers, as `a if condition else b` selects it. The other one receives nothing, which is -0.0.",
    sympy=lambda sp, condition, a, b: sp.Piecewise((a, condition), (b, True)), internal=True,
)  # fmt: skip

guard: Primitive = Primitive(
    "guard", "bb->b", lambda way, condition: way and condition, (ZERO, ZERO),
    doc="Whether a way has been kept to so far: all conditions before this one were true, and this one is.",
    sympy=lambda sp, way, condition: sp.And(way, condition), internal=True,
)  # fmt: skip

computed: Primitive = Primitive(
    "computed", "f->b", lambda x: False, (ZERO,),
    doc="A condition that never holds, but needs `x`: where computing that raises, it raises.",
    sympy=lambda sp, x: sp.false, internal=True,
)  # fmt: skip


# --- operators ----------------------------------------------------------------------------------------------------


def _operator(row: Primitive) -> Callable[[Any, Any], Any]:
    def operator(self: Any, other: Any) -> Any:
        return row(self, other)

    return operator


class Operand(Applicable):
    """Arithmetic for everything that a primitive can be applied to: each operator applies a row of the table.

    Subclasses say in `apply` what applying means: build a graph, record an equation, or make a SymPy expression.
    """

    __slots__ = ()

    # Of any type: what an operator returns, subclasses say.
    __add__: Any
    __radd__: Any
    __mul__: Any
    __rmul__: Any
    __mod__: Any
    __floordiv__: Any
    __lt__: Any
    __le__: Any
    __gt__: Any
    __ge__: Any
    __and__: Any
    __rand__: Any
    __or__: Any
    __ror__: Any

    __add__ = __radd__ = _operator(add)
    __mul__ = __rmul__ = _operator(mul)
    __mod__, __floordiv__ = _operator(mod), _operator(floordiv)
    __lt__, __le__, __gt__, __ge__ = map(_operator, (less, less_equal, greater, greater_equal))
    __and__ = __rand__ = _operator(logical_and)
    __or__ = __ror__ = _operator(logical_or)

    def __neg__(self) -> Any:
        return mul(self, -1.0)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return abs(self)

    def __invert__(self) -> Any:
        return logical_not(self)

    def __pow__(self, other: Any) -> Any:
        return beside(self, "__rpow__", other) if isinstance(other, COMPLEX) else power(self, other)

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, (Operand, COMPLEX)):
            return self + (-other)
        if isinstance(other, np.ndarray) and other.dtype != object:
            other = other.astype(float)  # the negative of an unsigned number would be another number
        elif isinstance(other, (list, tuple)):
            other = objects(other)
        elif not isinstance(other, np.ndarray):
            other = number(other)
        return self + (-other)

    def __rsub__(self, other: Any) -> Any:
        return (-self) + other

    def __rpow__(self, other: Any) -> Any:
        return beside(self, "__pow__", other) if isinstance(other, COMPLEX) else power(other, self)

    def __rmod__(self, other: Any) -> Any:
        return mod(other, self)

    def __rfloordiv__(self, other: Any) -> Any:
        return floordiv(other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __truediv__(self, other: Any) -> Any:
        return beside(self, "__rtruediv__", other) if isinstance(other, COMPLEX) else self * power(other, -1.0)

    def __rtruediv__(self, other: Any) -> Any:
        return beside(self, "__truediv__", other) if isinstance(other, COMPLEX) else power(self, -1.0) * other


# --- rows that never raise ----------------------------------------------------------------------------------------


for _row in (
    power, div, exp, expm1, exp2, log, log1p, log2, log10, sqrt, sinh, cosh, sin, cos, tan, asin, acos, acosh, atanh,
    xlogy, mod, floordiv, fmod, gamma, lgamma, digamma, trigamma, polygamma, ndtri,
):  # fmt: skip
    _row.total = Primitive(
        f"ieee_{_row.name}", _row.kinds, {**vars(scalar), **vars(special)}[f"ieee_{_row.name}"], _row.partials,
        doc=f"As `{_row.name}`, but inf or NaN, as IEEE 754 and C have it, where that raises.",
        sympy=_row.sympy, symbol=_row.symbol, domain=_row.domain, decided_by=_row.decided_by, slow=_row.slow,
        internal=True,
    )  # fmt: skip

#: More than all opcodes: columns keep them in 16 bits. (The table may grow while a program is compiled.)
OPCODES: Final = 1 << 16
#: So many rows of the table are this package's; those behind them are others'.
PACKAGE_ROWS: Final = len(TABLE)

__all__ = [name for name, item in globals().items() if isinstance(item, Primitive) and item is BY_NAME.get(name)]
