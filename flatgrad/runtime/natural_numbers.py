"""What Python's functions of numbers mean for `Value`s: builtins, `math`, `cmath` and `statistics`.

They take the place of the originals in a trace with natural calls, as those of NumPy do (`natural.py`).
"""

from __future__ import annotations

import cmath
import functools
import math
import operator
import statistics
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import numpy as np

from . import complex_numbers
from .complex_numbers import Complex
from .primitive import Applicable, Primitive
from .primitives import (
    BY_NAME,
    ceil,
    copysign,
    div,
    equal,
    floor,
    fmod,
    hypot,
    log,
    logical_not,
    power,
    rint,
    trunc,
    where,
)
from .reductions import norm
from .traced import Integer, as_integer
from .tracing import refuse
from .value import Value, as_value

Function = Callable[..., Any]


def holds_values(item: Any) -> bool:
    """Whether there are `Value`s or conditions in a number, an array, or nested lists."""
    if isinstance(item, Applicable):
        return True
    if isinstance(item, (list, tuple)):
        return any(map(holds_values, item))
    return isinstance(item, np.ndarray) and item.dtype == object and any(map(holds_values, item.ravel().tolist()))


def of_values(original: Function, own: Function) -> Function:
    """A function that is the original where there are no `Value`s among the arguments, and else its own one.

    What generators give is looked at, too.
    """

    @functools.wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        args = tuple(list(each) if isinstance(each, Iterator) else each for each in args)
        values = holds_values(args) or holds_values(list(options.values()))
        return (own if values else original)(*args, **options)

    return function


# --- math -------------------------------------------------------------------------------------------------------------

#: Functions of `math` that have another name in the table of primitives.
_ROWS: Final = {"fabs": "abs"}
#: What to write in place of functions that have no derivative, or whose arithmetic is not that of floats.
_NONE: Final = {
    "frexp": "write e = fg.floor(fg.log2(abs(x))) + 1.0 and x / 2.0**e",
    "nextafter": "its derivative is 1, and a kernel would have to take bits apart; write x * (1.0 + 2.0**-52)",
    "ulp": "a kernel would have to take bits apart; write abs(x) * 2.0**-52, which is an ulp or nearly two",
    "fma": "a product and a sum are rounded one by one here; write x * y + z",
}


def _log(x: Any, base: Any = None) -> Any:
    return log(x) if base is None else div(log(x), log(base))


def _hypot(*coordinates: Any) -> Any:
    return hypot(*coordinates) if len(coordinates) == 2 else norm(list(coordinates))


def _dist(p: Sequence[Any], q: Sequence[Any]) -> Any:
    differences = [a - b for a, b in zip(p, q, strict=True)]
    return _hypot(*differences)


def _is_nan(x: Any) -> Any:
    return logical_not(equal(x, x))


def _is_finite(x: Any) -> Any:
    return abs(x) < math.inf


def _is_inf(x: Any) -> Any:
    return equal(abs(x), math.inf)


def _modf(x: Any) -> tuple[Any, Any]:
    return fmod(where(_is_inf(x), copysign(0.0, x), x), 1.0), trunc(x)


def _is_close(a: Any, b: Any, *, rel_tol: float = 1e-09, abs_tol: float = 0.0) -> bool:
    if equal(a, b):
        return True
    difference = abs(a - b)
    return bool(difference < math.inf) and bool(
        (difference <= rel_tol * abs(b)) | (difference <= rel_tol * abs(a)) | (difference <= abs_tol)
    )


def _sum_of_errors(items: Any) -> Any:
    """`fsum`: from left to right, and what the additions lose by rounding is added in the end (Knuth's TwoSum)."""
    total, errors = 0.0, 0.0
    for x in items:
        last, total = total, total + x
        part = total - last
        errors = errors + ((last - (total - part)) + (x - part))
    return where(_is_finite(total), total + errors, total)


def _remainder(x: Any, y: Any) -> Any:
    """What `fmod` leaves, less y where that is nearer to 0; in the middle the quotient is even, as of CPython's."""
    rest, size = fmod(x, y), abs(y)
    near, beyond = abs(rest), size - abs(rest)
    return where(
        near < beyond,
        rest,
        where(near > beyond, rest - copysign(size, x), rest - 2.0 * fmod(0.5 * (x - rest), y)),
    )


def scaled(x: Any, exponent: Any) -> Any:
    """`ldexp`: x times a power of 2. Beyond 1022 it is multiplied twice."""
    exponent = operator.index(exponent)
    first = max(-1022, min(1022, exponent))
    result = x * 2.0**first
    return result if first == exponent else result * 2.0 ** max(-1074, min(1023, exponent - first))


_MATH: Final[dict[str, Function]] = {
    "log": _log, "pow": power, "hypot": _hypot, "dist": _dist, "isnan": _is_nan, "isfinite": _is_finite,
    "isinf": _is_inf, "isclose": _is_close, "modf": _modf,
    "fsum": _sum_of_errors, "remainder": _remainder, "ldexp": scaled,
    "sumprod": lambda p, q, /: _sum_of_errors([a * b for a, b in zip(p, q, strict=True)]),
    "degrees": lambda x: x * (180.0 / math.pi), "radians": lambda x: x * (math.pi / 180.0),
    "prod": lambda items, *, start=1: functools.reduce(operator.mul, items, start),
}  # fmt: skip


_ONE_KIND: Final = "numbers are floats of 64 bits here. Leave it out"


def refused(name: str, reason: str = "") -> Function:
    """A function that raises an error, which names it and says why, or what to write instead."""

    def own(*args: Any, **options: Any) -> Any:
        raise refuse(f"{name} has no meaning for Values: {reason or 'flatgrad has no such function'}")

    return own


def _from_math() -> dict[Function, Function]:
    result = {}
    for name, function in vars(math).items():
        if callable(function) and not name.startswith("_"):
            own = _MATH.get(name) or BY_NAME.get(_ROWS.get(name, name))
            if own is None and name not in _NONE:
                continue  # of integers, or one that Values have no method for: Python asks for a float
            result[function] = of_values(function, own or refused(f"math.{name}", _NONE.get(name, "")))
    return result


#: Of an integer these are itself, or its value.
_KEEPING: Final = (int, round, math.floor, math.ceil, math.trunc)


def whole(original: Function, row: Primitive) -> Function:
    """`int`, `round`, `math.floor` and their like: a `Value` that is its value where Python needs an int.

    Python raises where the number is not finite, so that is asked for. An int has no -0: hence the sum with 0.0.
    """

    def function(x: Any, *others: Any) -> Any:
        if isinstance(x, np.ndarray) and x.size == 1:
            x = x.item()
        if others and isinstance(x, Value) and original is round:
            return x.__round__(*others)
        if (isinstance(x, Integer) and original in _KEEPING) or others or not isinstance(x, Applicable):
            return original(x, *others)
        if isinstance(x, Value) and not abs(x) < math.inf:
            return original(math.nan if _is_nan(x) else math.inf)  # raises
        return as_integer(row(x) + 0.0 if isinstance(x, Value) else as_value(x))

    return of_values(original, function)


#: What stands for functions that make ints.
WHOLE: Final[dict[Function, Function]] = {
    original: whole(original, row)
    for original, row in ((int, trunc), (round, rint), (math.floor, floor), (math.ceil, ceil), (math.trunc, trunc))
}


def _float(x: Any) -> Any:
    """`float` of a whole number, which is a number; of other `Value`s it is an error."""
    if not isinstance(x, Integer):
        return float(x)
    number: Any = x
    return number * 1.0


def _modular_power(base: Any, exponent: Any, modulus: Any = None) -> Any:
    if modulus is None:
        return base**exponent
    return pow(*[int(each) if isinstance(each, Integer) else _integer(each) for each in (base, exponent, modulus)])


def _integer(item: Any) -> int:
    if isinstance(item, Value):
        raise TypeError("pow() 3rd argument not allowed unless all arguments are integers")
    return operator.index(item)


def _of_complex(name: str) -> Function:
    return lambda z: BY_NAME[name](Complex.of(z))


def _complex_log(z: Any, base: Any = None) -> Any:
    logarithm = _of_complex("log")
    return logarithm(z) if base is None else div(logarithm(z), logarithm(base))


def _phase(z: Any) -> Any:
    number = Complex.of(z)
    return BY_NAME["atan2"](number.imag, number.real)


_COMPLEX: Final[dict[Function, Function]] = {
    complex: complex_numbers.complex,
    cmath.phase: _phase,
    cmath.polar: lambda z: (abs(z), _phase(z)),
    cmath.rect: complex_numbers.polar,
    cmath.log: _complex_log,
    **{
        getattr(cmath, name): _of_complex(name) for name in ("exp", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh")
    },
}


# --- statistics -------------------------------------------------------------------------------------------------------


def _mean(data: Any, weights: Any = None) -> Any:
    items = list(data)
    if weights is not None:
        factors = list(weights)
        return sum(w * x for w, x in zip(factors, items, strict=True)) / sum(factors)
    return sum(items) / len(items)


def _deviations(less: int) -> Function:
    def variance(data: Any, center: Any = None) -> Any:
        items = list(data)
        center = _mean(items) if center is None else center
        return sum((x - center) ** 2 for x in items) / (len(items) - less)

    return variance


def _root(function: Function) -> Function:
    return lambda data, center=None: BY_NAME["sqrt"](function(data, center))


_STATISTICS: Final[dict[Function, Function]] = {
    statistics.mean: _mean,
    statistics.fmean: _mean,
    statistics.variance: _deviations(1),
    statistics.pvariance: _deviations(0),
    statistics.stdev: _root(_deviations(1)),
    statistics.pstdev: _root(_deviations(0)),
    statistics.geometric_mean: lambda data: BY_NAME["exp"](_mean([log(x) for x in data])),
    statistics.harmonic_mean: lambda data: len(items := list(data)) / sum(1.0 / x for x in items),
}


def replacements() -> dict[Function, Function]:
    """Functions of Python's, with what replaces them."""
    ours: dict[Function, Function] = {**_STATISTICS, **_COMPLEX, float: _float, pow: _modular_power}
    ours |= {kind: refused(kind.__name__, _ONE_KIND) for kind in (Decimal, Fraction)}
    ours[float.hex] = refused("float.hex", 'f"{value}" shows the number at hand')
    return {**_from_math(), **WHOLE, **{original: of_values(original, own) for original, own in ours.items()}}
