"""What functions of `math`, `statistics` and NumPy mean for `Value`s, where Python gives no way to say so.

`math.exp(x)` asks for a float, `np.zeros(n)` makes an array that holds floats only, and `np.array([0.0, x])` one of
plain objects. A trace that meets such a thing is made again, with these functions in place of the originals (see
`compiler/calls/natural.py`). Each does what the original does where no `Value` is among its arguments; only, arrays of
floats that are made are `Array`s, into which `Value`s can be assigned.
"""

from __future__ import annotations

import array
import functools
from collections.abc import Sequence
from types import BuiltinMethodType, MethodType
from typing import Any, Final

import numpy as np

from .arrays import FUNCTIONS, Array, as_array
from .complex_numbers import Complex
from .foreign import Pair, objects
from .natural_numbers import Function, holds_values, of_values, refused, replacements, whole
from .primitive import Applicable
from .primitives import BY_NAME, div, log, trunc
from .reductions import log_softmax, logsumexp, softmax, weighted_logsumexp
from .scientific import FUNCTIONS_OF_SCIPY, norm_pdf
from .scipy_linear import LINEAR_OF_SCIPY
from .tracing import refuse

# --- NumPy ------------------------------------------------------------------------------------------------------------


def as_values(item: Any) -> Any:
    """An argument of a function of NumPy's: an `Array` in place of an array of objects, and of a list with `Value`s."""
    if isinstance(item, np.ndarray):
        return item.view(Array) if item.dtype == object and not isinstance(item, Array) else item
    if isinstance(item, Pair):
        return as_array([item], ())
    if not isinstance(item, (list, tuple)) or not _is_vector(item):
        return item
    made = _made(item)
    is_regular = not any(isinstance(each, (list, tuple)) for each in made.flat)
    return made if is_regular else list(map(as_values, item))


def _is_vector(items: Sequence[Any]) -> bool:
    """Whether there are `Value`s in nested lists, and nothing else than lists and numbers."""
    flat = [each for each in items if not isinstance(each, (list, tuple))]
    nested = [each for each in items if isinstance(each, (list, tuple))]
    return (any(isinstance(each, Applicable) for each in flat) and not nested) or (
        not flat and any(map(_is_vector, nested))
    )


def _made(items: Any) -> Array:
    """An `Array` of numbers, `Value`s, or nested lists of them; numbers among `Value`s are floats."""
    array = objects(items)
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


#: Types of NumPy's that make whole numbers of what they are called with.
_INTS: Final[tuple[Any, ...]] = (np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16, np.uint8)
_OTHER_FLOATS: Final[tuple[Any, ...]] = (np.float32, np.float16, np.longdouble, np.complex64)
_ONE_KIND: Final = "numbers are floats of 64 bits here. Leave it out, or write np.float64"


def _of_each(kind: Any, function: Function) -> Function:
    """A type of NumPy's, called with a number or an array."""
    return lambda *items: (
        items[0].astype(kind) if items and isinstance(items[0], np.ndarray) and items[0].ndim else function(*items)
    )


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
    result[np.full] = of_values(result[np.full], FUNCTIONS[np.full])
    result[np.empty], result[np.fromiter] = _empty, _from_iterable
    result[np.float64] = of_values(np.float64, as_values)
    for kind in _INTS:
        result[kind] = _of_each(kind, whole(kind, trunc))
    for kind in _OTHER_FLOATS:
        result[kind] = of_values(kind, refused(f"np.{kind.__name__}", _ONE_KIND))
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
_OF_VECTORS: Final = {"softmax": softmax, "log_softmax": log_softmax}


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


def _of_rows(name: str) -> Function:
    """A function of vectors, of the elements of an array along axes, as SciPy's; without an axis of all elements."""
    of_vector = _OF_VECTORS[name]

    def function(a: Any, axis: Any = None) -> Any:
        items = np.asarray(as_values(a))
        axes = tuple(range(items.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        last = tuple(range(-len(axes), 0))
        moved = np.moveaxis(items, axes, last)
        kept = moved.shape[: items.ndim - len(axes)]
        rows = [of_vector(moved[place].ravel()) for place in np.ndindex(kept)]
        flat = as_array([x for row in rows for x in np.ravel(row).tolist()], moved.shape)
        return np.moveaxis(flat, last, axes)

    return function


def _logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    """SciPy's, along axes, and with factors b."""
    if return_sign:
        raise refuse("scipy.special.logsumexp of Values has no return_sign: leave it out, and let the sum be positive")
    items = np.asarray(as_values(a))
    factors = None if b is None else np.asarray(as_values(b))
    if factors is not None:
        items, factors = np.broadcast_arrays(items, factors)
    axes = tuple(range(items.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(each % items.ndim for each in axes)
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(items, axes, last)
    weights = None if factors is None else np.moveaxis(factors, axes, last)
    kept = moved.shape[: items.ndim - len(axes)]
    results = [
        logsumexp(moved[place].ravel())
        if weights is None
        else weighted_logsumexp(moved[place].ravel().tolist(), weights[place].ravel().tolist())
        for place in np.ndindex(kept)
    ]
    if keepdims:
        return as_array(results, tuple(1 if k in axes else n for k, n in enumerate(items.shape)))
    return as_array(results, kept) if kept else results[0]


def _from_scipy(function: Any) -> Function | None:
    """What stands for a function of SciPy's that is no ufunc. SciPy is not imported for that."""
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    module = str(getattr(function, "__module__", ""))
    if isinstance(function, MethodType):
        distribution = getattr(owner, "dist", owner)
        if type(distribution).__name__ != "norm_gen":
            return None
        own = _normal(name, getattr(owner, "args", ()), getattr(owner, "kwds", {}))
        given = [*getattr(owner, "args", ()), *getattr(owner, "kwds", {}).values()]
        return own if own is not None and holds_values(given) else own and of_values(function, own)
    if name in LINEAR_OF_SCIPY and module.startswith("scipy.linalg"):
        return of_values(function, _taking_values(LINEAR_OF_SCIPY[name]))
    if module.startswith("scipy.fft") and hasattr(np.fft, name):
        return of_values(function, _taking_values(getattr(np.fft, name)))
    if module.startswith("scipy.special"):
        if name in _OF_VECTORS or name == "logsumexp":
            return of_values(function, _logsumexp if name == "logsumexp" else _of_rows(name))
        if name in FUNCTIONS_OF_SCIPY:
            return of_values(function, _taking_values(FUNCTIONS_OF_SCIPY[name]))
    return None


#: Methods of arrays of floats that make a new one.
_METHODS: Final = ("copy", "astype", "flatten")


@functools.cache
def table() -> dict[int, tuple[Function, Function]]:
    """The functions that are replaced, with what replaces them, by their ids."""
    pairs = {**_from_numpy(), **replacements()}
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
