"""What functions of `math`, `statistics` and NumPy mean for `Value`s, where Python gives no way to say so.

`math.exp(x)` asks for a float, `np.zeros(n)` makes an array that holds floats only, and `np.array([0.0, x])` one of
plain objects. A trace that meets such a thing is made again, with these functions in place of the originals (see
`compiler/calls/natural.py`). Each does what the original does where no `Value` is among its arguments; only, arrays of
floats that are made are `Array`s, into which `Value`s can be assigned.
"""

from __future__ import annotations

import array
import cmath
import functools
import math
import operator
import statistics
from collections.abc import Callable, Sequence
from types import BuiltinMethodType, MethodType
from typing import Any, Final

import numpy as np

from . import complex_numbers
from .arrays import Array, as_array
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
from .reductions import log_softmax, logsumexp, norm, softmax
from .scientific import norm_pdf
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


def _of_values(original: Function, own: Function) -> Function:
    """A function that is the original where there are no `Value`s among the arguments, and else its own one."""

    @functools.wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        values = holds_values(args) or holds_values(list(options.values()))
        return (own if values else original)(*args, **options)

    return function


# --- math -------------------------------------------------------------------------------------------------------------

#: Functions of `math` that have another name in the table of primitives.
_ROWS: Final = {"fabs": "abs"}
#: What to write in place of functions that have no derivative, or whose arithmetic is not that of floats.
_NONE: Final = {
    "fsum": "it rounds the exact sum once, and no compiled sum does; sum(xs) adds from left to right",
    "frexp": "its parts have no derivative; write the number with fg.log and fg.exp, or fg.detach(x) for the number "
    "without its gradient outside of the function",
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


_MATH: Final[dict[str, Function]] = {
    "log": _log, "pow": power, "hypot": _hypot, "dist": _dist, "isnan": _is_nan, "isfinite": _is_finite,
    "isinf": _is_inf, "isclose": _is_close, "modf": _modf,
    "degrees": lambda x: x * (180.0 / math.pi), "radians": lambda x: x * (math.pi / 180.0),
    "prod": lambda items, *, start=1: functools.reduce(operator.mul, items, start),
}  # fmt: skip


def _refused(name: str, reason: str = "") -> Function:
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
            result[function] = _of_values(function, own or _refused(f"math.{name}", _NONE.get(name, "")))
    return result


def _whole(original: Function, row: Primitive) -> Function:
    """`int`, `round`, `math.floor` and their like: a `Value` that is its value where Python needs an int.

    Python raises where the number is not finite, so that is asked for. An int has no -0: hence the sum with 0.0.
    """

    def function(x: Any, *others: Any) -> Any:
        if isinstance(x, np.ndarray) and x.size == 1:
            x = x.item()
        if isinstance(x, Integer) or others or not isinstance(x, Applicable):
            return original(x, *others)
        if isinstance(x, Value) and not abs(x) < math.inf:
            return original(math.nan if _is_nan(x) else math.inf)  # raises
        return as_integer(row(x) + 0.0 if isinstance(x, Value) else as_value(x))

    return _of_values(original, function)


_WHOLE: Final[dict[Function, Function]] = {
    original: _whole(original, row)
    for original, row in ((int, trunc), (round, rint), (math.floor, floor), (math.ceil, ceil), (math.trunc, trunc))
}


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


# --- NumPy ------------------------------------------------------------------------------------------------------------


def as_values(item: Any) -> Any:
    """An argument of a function of NumPy's: an `Array` in place of an array of objects, and of a list with `Value`s."""
    if isinstance(item, np.ndarray):
        return item.view(Array) if item.dtype == object and not isinstance(item, Array) else item
    return _made(item) if isinstance(item, (list, tuple)) and _is_vector(item) else item


def _is_vector(items: Sequence[Any]) -> bool:
    """Whether there are `Value`s in nested lists, and nothing else than lists and numbers."""
    flat = [each for each in items if not isinstance(each, (list, tuple))]
    nested = [each for each in items if isinstance(each, (list, tuple))]
    return (any(isinstance(each, Applicable) for each in flat) and not nested) or (
        not flat and any(map(_is_vector, nested))
    )


def _made(items: Any) -> Array:
    """An `Array` of numbers, `Value`s, or nested lists of them; numbers among `Value`s are floats."""
    array = np.array(items, dtype=object)
    elements = [float(each) if isinstance(each, (int, float)) and each is not True else each for each in array.flat]
    return as_array(elements, array.shape)


def _taking_values(original: Function) -> Function:
    """A function of NumPy's that takes lists with `Value`s for `Array`s."""

    @functools.wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        if holds_values(args) or holds_values(list(options.values())):
            args = tuple(map(as_values, args))
            options = {name: as_values(each) for name, each in options.items()}
        return original(*args, **options)

    return function


def _open(result: Any) -> Any:
    """An `Array` in place of a new array of floats: `Value`s can be assigned to its elements."""
    if type(result) is np.ndarray and result.dtype in (np.float64, np.complex128) and result.ndim:
        return as_array(result.ravel().tolist(), result.shape)
    return result.view(Array) if type(result) is np.ndarray and result.dtype == object and result.ndim else result


def _making(original: Function) -> Function:
    """A function of NumPy's that makes a new array."""
    taking = _taking_values(original)
    return functools.wraps(original)(lambda *args, **options: _open(taking(*args, **options)))


def _empty(*args: Any, **options: Any) -> Any:
    result = np.empty(*args, **options)
    if result.dtype == np.float64:
        result[...] = 0.0  # a trace keeps numbers
    return _open(result)


def _is_float(dtype: Any) -> bool:
    try:
        return dtype is None or np.dtype(dtype) in (np.dtype(float), np.dtype(object))
    except TypeError:
        return False


def _array(original: Function, copies: bool) -> Function:
    """`np.array` and its like; not all of them copy arrays."""

    @functools.wraps(original)
    def function(items: Any, dtype: Any = None, *args: Any, **options: Any) -> Any:
        if isinstance(items, np.ndarray):
            if items.dtype == object and _is_float(dtype):
                return items.copy().view(Array) if copies and options.get("copy", True) else items.view(Array)
            result = original(items, dtype, *args, **options)
            return result if result is items or not copies else _open(result)
        if dtype in (complex, np.complex128) and holds_values(items):
            made = _made(items)
            return as_array(map(Complex.of, made.ravel().tolist()), made.shape)
        if _is_float(dtype) and holds_values(items):
            if isinstance(items, Applicable) and copies:
                return items
            return _made(items)
        return _open(original(items, dtype, *args, **options))

    return function


def _from_iterable(items: Any, dtype: Any, *args: Any, **options: Any) -> Any:
    items = list(items)
    return (
        _made(items) if holds_values(items) and _is_float(dtype) else _open(np.fromiter(items, dtype, *args, **options))
    )


#: Functions that make a new array, of numbers that they are given.
_MAKERS: Final = (
    "zeros", "ones", "full", "eye", "identity", "tri", "arange", "linspace", "logspace", "geomspace", "zeros_like",
    "ones_like", "full_like", "empty_like", "copy", "repeat", "tile", "diag", "diagflat", "concatenate", "hstack",
    "vstack", "column_stack", "stack", "append", "insert", "delete", "pad", "roll", "meshgrid", "outer", "kron",
    "vander",
)  # fmt: skip


def _from_numpy() -> dict[Function, Function]:
    result: dict[Function, Function] = {}
    for module in np, np.linalg, np.fft:
        for name, function in vars(module).items():
            is_function = callable(function) and not isinstance(function, type)
            if (
                is_function
                and not name.startswith("_")
                and str(getattr(function, "__module__", "numpy")).startswith("numpy")
            ):
                result[function] = _taking_values(function)
    for name in _MAKERS:
        result[getattr(np, name)] = _making(getattr(np, name))
    for name, copies in ("array", True), ("asarray", False), ("asanyarray", False), ("ascontiguousarray", False):
        result[getattr(np, name)] = _array(getattr(np, name), copies)
    result[np.empty], result[np.fromiter] = _empty, _from_iterable
    result[np.float64] = _of_values(np.float64, as_values)
    result[array.array] = lambda code, items=(): (
        list(items) if code == "d" and holds_values(items := list(items)) else array.array(code, items)
    )
    return result


# --- SciPy ------------------------------------------------------------------------------------------------------------

#: Functions of the normal distribution, of the standardised number and of the scale.
_NORMAL: Final[dict[str, Function]] = {
    "pdf": lambda z, scale: div(norm_pdf(z), scale),
    "logpdf": lambda z, scale: -0.5 * z * z - 0.9189385332046727 - log(scale),  # the logarithm of the root of 2 pi
    "cdf": lambda z, scale: BY_NAME["ndtr"](z),
    "logcdf": lambda z, scale: BY_NAME["log_ndtr"](z),
    "sf": lambda z, scale: BY_NAME["ndtr"](-z),
    "logsf": lambda z, scale: BY_NAME["log_ndtr"](-z),
}
_OF_VECTORS: Final = {"logsumexp": logsumexp, "softmax": softmax, "log_softmax": log_softmax}

#: Functions of `scipy.linalg` that NumPy has, too.
_LINEAR: Final = frozenset(["solve", "inv", "det", "norm"])


def _normal(name: str, given: tuple[Any, ...], options: dict[str, Any]) -> Function | None:
    """A method of `scipy.stats.norm`, or of `norm(loc, scale)`, which was given these arguments."""

    def parameters(loc: Any = 0.0, scale: Any = 1.0) -> tuple[Any, Any]:
        return loc, scale

    def method(x: Any, *args: Any, **named: Any) -> Any:
        loc, scale = parameters(*given, *args, **{**options, **named})
        if name in ("ppf", "isf"):
            return loc + scale * BY_NAME["ndtri"](as_values(x) if name == "ppf" else 1.0 - as_values(x))
        return _NORMAL[name]((as_values(x) - loc) / scale, scale)

    return method if name in _NORMAL or name in ("ppf", "isf") else None


def _of_vector(name: str) -> Function:
    def function(a: Any, axis: Any = None, **options: Any) -> Any:
        vector = as_values(a)
        if options or axis not in (None, 0, -1) or (axis is not None and np.ndim(vector) != 1):
            raise refuse(f"scipy.special.{name} of Values has no options here: call fg.{name} for each vector")
        result = _OF_VECTORS[name](np.ravel(vector))
        return result if name == "logsumexp" else result.reshape(np.shape(vector))

    return function


def _from_scipy(function: Any) -> Function | None:
    """What stands for a function of SciPy's that is no ufunc. SciPy is not imported for that."""
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if isinstance(function, MethodType):
        distribution = getattr(owner, "dist", owner)
        if type(distribution).__name__ != "norm_gen":
            return None
        own = _normal(name, getattr(owner, "args", ()), getattr(owner, "kwds", {}))
        given = [*getattr(owner, "args", ()), *getattr(owner, "kwds", {}).values()]
        return own if own is not None and holds_values(given) else own and _of_values(function, own)
    if name in _LINEAR and str(getattr(function, "__module__", "")).startswith("scipy.linalg"):
        return _of_values(function, _taking_values(getattr(np.linalg, name)))
    if name in _OF_VECTORS and str(function.__module__).startswith("scipy.special"):
        return _of_values(function, _of_vector(name))
    return None


#: Methods of arrays of floats that make a new one.
_METHODS: Final = ("copy", "astype", "flatten")


@functools.cache
def table() -> dict[int, tuple[Function, Function]]:
    """The functions that are replaced, with what replaces them, by their ids."""
    ours = {original: _of_values(original, own) for original, own in (_STATISTICS | _COMPLEX).items()}
    pairs = {**_from_numpy(), **_from_math(), **_WHOLE, **ours}
    return {id(original): (original, own) for original, own in pairs.items()}


def replaced(function: Any) -> Any:
    """What stands for a function in a trace with natural calls: often the function itself."""
    found = table().get(id(function))
    if found is not None:
        return found[1]
    if type(function) is BuiltinMethodType and function.__name__ in _METHODS:
        owner = function.__self__
        if type(owner) is np.ndarray and owner.dtype == np.float64:
            return _making(function)
    return _from_scipy(function) or function
