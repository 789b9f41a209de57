"""NumPy's functions that are no ufuncs, for arrays of `Value`s.

Those that only move elements are NumPy's own, and so are dot products and convolutions. What compares elements to say
where they go (`sort`, `argmax`, `searchsorted`, an index of conditions) compares `Value`s, which are branches. The rest
is composed here of arithmetic in NumPy's order, and of rows of the table. Linear algebra is in `linear_algebra.py`.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy

from . import primitives
from .arrays import (
    FUNCTIONS,
    REMEDIES,
    UFUNCS,
    Array,
    apply_ufunc,
    as_array,
    booleans,
    check_target,
    filled,
    number_of,
    plain,
    selected,
    truth,
    wrapped,
)
from .conversion import check_masks, number
from .errors import DomainError, InputError
from .foreign import COMPLEX, Pair, objects
from .natural_numbers import scaled
from .primitive import Applicable
from .primitives import div
from .sites import user_line
from .traced import as_integer
from .value import Condition, Value

np: Any = numpy  # the types of its functions know no objects
_NO: Final = np._NoValue
Axis = Any


def array(items: Any) -> Array:
    """An array of `Value`s and numbers, with which NumPy's functions work.

    NumPy's own `np.array([0.0, x])` with a `Value` x is an array of Python objects, whose floats NumPy's functions do
    not take: `np.exp` looks for a method `exp` of each element.

    Args:
        items: a `Value`, a condition or a number; an array, or nested lists and tuples of these.

    Raises:
        InputError: for lists of different lengths, and for items that are no numbers.

    Example:
        >>> import flatgrad as fg
        >>> f = fg.value_and_grad(lambda x, y: np.exp(fg.array([0.0, x, x * y])).sum())
        >>> f(0.0, 3.0)
        (3.0, 4.0)
    """
    check_masks(items)
    found = objects(plain(items))
    try:
        return as_array([_element(each) for each in found.ravel().tolist()], found.shape)
    except InputError as error:
        raise InputError(f"array: {error}{user_line()}") from None


def _element(item: Any) -> Any:
    if isinstance(item, Applicable) or item.__class__ is float:
        return item
    if isinstance(item, (list, tuple, np.ndarray)):
        raise InputError("the lists have different lengths")
    x = number(item)
    return x if x.__class__ is bool else float(x)


def _as_array(item: Any) -> Any:
    """An argument of a function of NumPy's as an `Array`."""
    return item if isinstance(item, Array) else array(item)


def _numpy(name: str) -> Any:
    """NumPy's function of this name; None if this version does not have it."""
    return functools.reduce(lambda found, part: getattr(found, part, None), name.split("."), np)


def _implements(*names: str) -> Callable[[Any], Any]:
    """Register what functions of NumPy's are for arrays of `Value`s; a version of NumPy may not have all of them."""

    def register(implementation: Any) -> Any:
        for name in names:
            function = _numpy(name)
            if function is not None:
                FUNCTIONS[function] = implementation
        return implementation

    return register


# --- what NumPy does itself -------------------------------------------------------------------------------------------


def _passes(names: str, floats: bool = False) -> None:
    """These get plain arrays of objects; with `floats`, zeros and ones that they fill in become floats."""
    for name in names.split():
        function = _numpy(name)
        if function is not None:
            FUNCTIONS[function] = functools.partial(_passed, getattr(function, "_implementation", function), floats)


def _passed(function: Any, floats: bool, *args: Any, **options: Any) -> Any:
    result = function(*map(plain, args), **{key: plain(each) for key, each in options.items()})
    return np.frompyfunc(_element, 1, 1)(result) if floats else result


_passes(
    "append array_split atleast_1d atleast_2d atleast_3d block broadcast_arrays broadcast_to copy delete diagonal "
    "diag_indices_from dsplit expand_dims flip fliplr flipud hsplit insert matrix_transpose linalg.matrix_transpose "
    "linalg.diagonal meshgrid moveaxis ndim shape size permute_dims ravel repeat reshape resize roll rollaxis rot90 "
    "split squeeze swapaxes take take_along_axis tile transpose unstack vsplit tril_indices_from triu_indices_from "
    "array2string array_repr array_str may_share_memory shares_memory fft.fftshift fft.ifftshift trim_zeros "
    "result_type can_cast lib.stride_tricks.sliding_window_view"
)  # moving


def _joined(function: Any, arrays: Any, *args: Any, **options: Any) -> Any:
    """What makes one array of several, numbers among these."""
    return _passed(function, False, list(map(plain, arrays)), *args, **options)


for _name in ("concatenate", "concat", "stack", "hstack", "vstack", "row_stack", "dstack", "column_stack"):
    if (_function := _numpy(_name)) is not None:
        FUNCTIONS[_function] = functools.partial(_joined, getattr(_function, "_implementation", _function))
_passes(
    "dot inner outer linalg.outer tensordot linalg.tensordot linalg.matmul kron einsum einsum_path cross "
    "linalg.cross linalg.multi_dot convolve diff ediff1d trapezoid trapz polyval polyadd "
    "polysub polymul polyder polyint"
)  # arithmetic
_passes("diag diagflat pad tril triu vander", floats=True)


@_implements("iscomplexobj")
def _is_complex(x: Any) -> bool:
    return any(isinstance(each, COMPLEX) for each in objects(plain(x)).ravel().tolist())


_implements("isrealobj")(lambda x: not _is_complex(x))


# --- making arrays ----------------------------------------------------------------------------------------------------


def _of_number(item: Any) -> Any:
    def like(a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, **_: Any) -> Any:
        return filled(np.shape(plain(a)) if shape is None else shape, item)

    return like


for _name, _item in {"zeros": 0.0, "ones": 1.0, "empty": 0.0}.items():
    _implements(f"{_name}_like")(_of_number(_item))
    _implements(_name)(lambda shape, dtype=None, order="C", _item=_item, **_: filled(shape, _item))  # with like=


@_implements("full_like")
def _full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, **_: Any
) -> Any:
    result = filled(np.shape(plain(a)) if shape is None else shape, 0.0)
    result[...] = _as_array(fill_value)
    return result


@_implements("full")
def _full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", **_: Any) -> Any:
    return _full_like(np.zeros(shape), fill_value)


@_implements("array", "asarray", "asanyarray", "ascontiguousarray")
def _array(items: Any, dtype: Any = None, **_: Any) -> Any:
    return array(items)


@_implements("eye", "identity", "arange", "tri")
def _made_of_floats(*args: Any, **options: Any) -> Any:
    raise InputError(
        f"write fg.array(np.eye(n)), and so on, for an array into which Values can be assigned{user_line()}"
    )


@_implements("linspace")
def _linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    start, stop = _as_array(start), _as_array(stop)
    pieces = num - 1 if endpoint else num
    step = (stop - start) / pieces if pieces else stop * math.nan
    rows = [step * float(k) + start for k in range(num)]
    if endpoint and num > 1:
        rows[-1] = stop + start * 0.0 if np.ndim(stop) != np.ndim(rows[0]) else stop
    items = np.stack([_as_array(each) for each in rows], axis=axis) if rows else filled((0,), 0.0)
    return (items, step) if retstep else items


@_implements("astype")
def _astype(x: Any, dtype: Any = float, *_: Any, **__: Any) -> Any:
    kind, is_float = np.dtype(dtype).kind, np.dtype(dtype).char == "d"
    elements = x.ravel().tolist()
    if kind == "O" or is_float:
        return as_array([number_of(each) if is_float else each for each in elements], x.shape)
    if np.dtype(dtype).char == "D":
        return as_array(map(Pair.kind.of, elements), x.shape)
    if any(isinstance(each, Applicable) for each in elements):
        if kind == "b":
            return as_array([truth(each) for each in elements], x.shape)
        if kind in "iu":
            return as_array([as_integer(primitives.trunc(number_of(each)) + 0.0) for each in elements], x.shape)
        raise InputError(
            f"an array of Values does not turn into one of dtype {np.dtype(dtype)}; its elements are floats of 64 bits"
            f"{user_line()}"
        )
    return np.asarray(x).astype(dtype)


# --- selecting --------------------------------------------------------------------------------------------------------

_select: Final = np.frompyfunc(UFUNCS["where"], 3, 1)


@_implements("where")
def _np_where(condition: Any, *branches: Any) -> Any:
    if not branches:
        return _nonzero(condition)
    return _select(*map(plain, (condition, *branches)))


@_implements("nonzero")
def _nonzero(a: Any) -> Any:
    return np.nonzero(_mask(a))


def _mask(a: Any) -> Any:
    """Where numbers are not 0, or conditions hold: these are branches."""
    return booleans(np.frompyfunc(truth, 1, 1)(plain(a)))


_implements("argwhere")(lambda a: np.argwhere(_mask(a)))
_implements("flatnonzero")(lambda a: np.flatnonzero(_mask(a)))
_implements("extract")(lambda condition, arr: np.extract(_mask(condition), np.asarray(_as_array(arr))))
_implements("compress")(
    lambda condition, a, axis=None, out=None: np.compress(_mask(condition), np.asarray(_as_array(a)), axis)
)


@_implements("select")
def _np_select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0.0) -> Any:
    result = default
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        result = _np_where(_as_array(condition), _as_array(choice), plain(result))
    return result


@_implements("piecewise")
def _piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **options: Any) -> Any:
    x = _as_array(x)
    masks = [_mask(each) for each in (condlist if isinstance(condlist, (list, tuple)) else [condlist])]
    if len(masks) == len(funclist) - 1:
        masks.append(~np.any(masks, axis=0))
    result = np.zeros_like(x)
    for mask, function in zip(masks, funclist, strict=True):
        chosen = _as_array(x)[mask] if x.ndim else x
        result[mask] = function(chosen, *args, **options) if callable(function) else function
    return result


@_implements("clip")
def _clip(a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = (a_min if min is None or min is _NO else min), (a_max if max is None or max is _NO else max)
    result = a
    if low is not None and low is not _NO:
        result = apply_ufunc(np.maximum, "__call__", (result, low), {})
    if high is not None and high is not _NO:
        result = apply_ufunc(np.minimum, "__call__", (result, high), {})
    return _written(result, out)


def _written(result: Any, out: Any) -> Any:
    if out is None or out is _NO:
        return result
    check_target(out, result)
    out[...] = plain(result)
    return out


@_implements("choose")
def _choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    """Of two, by conditions; else by whole numbers, each of which is its value."""
    choices = [np.asarray(_as_array(each)) for each in choices]
    places = objects(plain(a))
    if len(choices) == 2 and any(isinstance(each, Condition) for each in places.ravel().tolist()):
        return _written(_select(places, choices[1], choices[0]), out)
    whole = np.frompyfunc(operator.index, 1, 1)(places)
    return _written(np.choose(np.asarray(whole, dtype=int), choices, mode=mode), out)


@_implements("unique", "unique_values")
def _unique(ar: Any, *options: Any, **_: Any) -> Any:
    raise InputError(f"np.unique of Values: sort them by np.sort, and compare neighbours{user_line()}")


@_implements("isclose")
def _isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    a, b = _as_array(a), _as_array(b)
    near = (np.abs(a - b) <= atol + rtol * np.abs(b)) & np.isfinite(b) | (a == b)
    return near | (np.isnan(a) & np.isnan(b)) if equal_nan else near


@_implements("allclose")
def _allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    return np.all(_as_array(_isclose(a, b, rtol, atol, equal_nan)))


@_implements("array_equal")
def _array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    a, b = _as_array(a1), _as_array(a2)
    return a.shape == b.shape and np.all(_as_array(a == b))


_implements("isposinf")(lambda x, out=None: _as_array(x) == math.inf)
_implements("isneginf")(lambda x, out=None: _as_array(x) == -math.inf)


@_implements("nan_to_num")
def _nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    large = float(np.finfo(float).max)
    x = _as_array(x)
    x = np.where(np.isnan(x), nan, x)
    x = np.where(x == math.inf, large if posinf is None else posinf, x)
    return np.where(x == -math.inf, -large if neginf is None else neginf, x)


# --- writing ----------------------------------------------------------------------------------------------------------


def _writes(name: str, first_mask: bool = False) -> None:
    function = getattr(np, name)

    def implementation(target: Any, *args: Any, **options: Any) -> Any:
        items = [_mask(each) if first_mask and not k else plain(each) for k, each in enumerate(args)]
        if "where" in options:
            options["where"] = booleans(options["where"])
        return function(plain(target), *items, **{key: plain(each) for key, each in options.items()})

    FUNCTIONS[function] = implementation


for _name in ("put", "put_along_axis", "fill_diagonal", "copyto"):
    _writes(_name)
for _name in ("place", "putmask"):
    _writes(_name, first_mask=True)


# --- reductions -------------------------------------------------------------------------------------------------------


def _reduces(ufunc: np.ufunc, *names: str, of: Callable[[Any], Any] = _as_array) -> None:
    """Functions that reduce by a ufunc; the order of their arguments is that of `np.sum`, or without dtype."""

    def implementation(a: Any, axis: Axis = None, *positional: Any, **options: Any) -> Any:
        order = ("dtype", "out", "keepdims") if ufunc in (np.add, np.multiply) else ("out", "keepdims")
        options |= dict(zip(order, positional, strict=False))
        options = {
            key: each for key, each in options.items() if each is not _NO and not (key == "out" and each is None)
        }
        if "out" in options:
            options["out"] = (options["out"],)
        return apply_ufunc(ufunc, "reduce", (of(a),), {"axis": axis, **options})

    _implements(*names)(implementation)


_reduces(np.add, "sum")
_reduces(np.multiply, "prod")
_reduces(np.maximum, "max", "amax")
_reduces(np.minimum, "min", "amin")
_reduces(np.logical_and, "all")
_reduces(np.logical_or, "any")
_reduces(np.fmax, "nanmax")
_reduces(np.fmin, "nanmin")
_reduces(np.add, "nansum", of=lambda a: _without_nan(a, 0.0))
_reduces(np.multiply, "nanprod", of=lambda a: _without_nan(a, 1.0))


def _without_nan(a: Any, item: float) -> Any:
    a = _as_array(a)
    return _as_array(np.where(np.isnan(a), item, a))


def _count(a: Any, axis: Axis) -> int:
    shape = np.shape(plain(a))
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return math.prod(shape[each] for each in axes)


def _keeps(options: Any) -> dict[str, bool]:
    return {"keepdims": bool(options)} if options is not _NO else {}


@_implements("mean")
def _mean(
    a: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: Any = _NO, *, where: Any = _NO
) -> Any:
    a = _as_array(a)
    count: Any = _count(a, axis)
    if where is not _NO:
        mask = np.broadcast_to(booleans(where), a.shape)
        count = mask.sum(axis=axis, **_keeps(keepdims))
        return _written(np.sum(a, axis=axis, where=mask, **_keeps(keepdims)) / count, out)
    return _written(np.sum(a, axis=axis, **_keeps(keepdims)) / count, out)


@_implements("var")
def _var(
    a: Any, axis: Axis = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: Any = _NO, *,
    where: Any = _NO, **options: Any,
) -> Any:  # fmt: skip
    _no_more("var", options)
    a = _as_array(a)
    squares = _squares(_as_array(a - _mean(a, axis=axis, keepdims=True, where=where)))
    if where is not _NO:
        mask = np.broadcast_to(booleans(where), a.shape)
        count: Any = np.maximum(mask.sum(axis=axis, **_keeps(keepdims)) - ddof, 0)
        return _written(np.sum(squares, axis=axis, where=mask, **_keeps(keepdims)) / count, out)
    return _written(np.sum(squares, axis=axis, **_keeps(keepdims)) / max(_count(a, axis) - ddof, 0), out)


@_implements("std")
def _std(a: Any, axis: Axis = None, dtype: Any = None, out: Any = None, *args: Any, **options: Any) -> Any:
    return _written(_root(_var(a, axis, dtype, None, *args, **options)), out)


def _squares(x: Any) -> Any:
    """The squares of the elements; of complex numbers those of their lengths."""
    if not _is_complex(x):
        return x * x
    real, imag = np.real(x), np.imag(x)
    return real * real + imag * imag


def _root(x: Any) -> Any:
    return primitives.sqrt(x) if not isinstance(x, np.ndarray) else np.sqrt(x)


def _no_more(name: str, options: dict[str, Any]) -> None:
    given = [key for key, each in options.items() if each is not _NO and each is not None]
    if given:
        raise InputError(
            f"np.{name} of Values takes no {', '.join(given)}. Select or reshape the array before the call{user_line()}"
        )


@_implements("nanmean")
def _nanmean(a: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: Any = _NO, **options: Any) -> Any:
    _no_more("nanmean", options)
    a = _as_array(a)
    total = np.sum(_without_nan(a, 0.0), axis=axis, **_keeps(keepdims))
    return _written(total / np.sum(_as_array(~np.isnan(a)), axis=axis, **_keeps(keepdims)), out)


@_implements("nanvar")
def _nanvar(a: Any, axis: Axis = None, ddof: float = 0, **options: Any) -> Any:
    _no_more("nanvar", options)
    a = _as_array(a)
    known = _as_array(~np.isnan(a))
    distances = np.where(known, a - _nanmean(a, axis, keepdims=True), 0.0)
    return np.sum(distances * distances, axis=axis) / (np.sum(known, axis=axis) - ddof)


_implements("nanstd")(lambda a, axis=None, ddof=0, **options: _root(_nanvar(a, axis, ddof, **options)))


@_implements("average")
def _average(a: Any, axis: Axis = None, weights: Any = None, returned: bool = False, *, keepdims: Any = _NO) -> Any:
    a = _as_array(a)
    if weights is None:
        mean = _mean(a, axis, keepdims=keepdims)
        return (mean, np.zeros_like(mean) + float(_count(a, axis))) if returned else mean
    weights = _as_array(weights)
    if weights.shape != a.shape:
        if axis is None or weights.ndim != 1:
            raise InputError(f"np.average: weights of another shape need an axis, and one dimension{user_line()}")
        weights = np.moveaxis(np.broadcast_to(weights, (*[1] * (a.ndim - 1), len(weights))), -1, axis) + np.zeros(
            a.shape
        )
    scale = np.sum(weights, axis=axis, **_keeps(keepdims))
    mean = np.sum(a * weights, axis=axis, **_keeps(keepdims)) / scale
    return (mean, scale) if returned else mean


@_implements("ptp")
def _ptp(a: Any, axis: Axis = None, out: Any = None, keepdims: Any = _NO) -> Any:
    a = _as_array(a)
    return _written(np.max(a, axis=axis, **_keeps(keepdims)) - np.min(a, axis=axis, **_keeps(keepdims)), out)


@_implements("count_nonzero")
def _count_nonzero(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    truths = np.frompyfunc(truth, 1, 1)(plain(a))
    return np.sum(_as_array(truths), axis=axis, keepdims=keepdims)


@_implements("trace", "linalg.trace")
def _trace(a: Any, offset: int = 0, *axes: Any, dtype: Any = None, out: Any = None, **options: Any) -> Any:
    axis1, axis2 = (*axes, *(options.get(f"axis{k}", k - 1) for k in (1, 2)[len(axes) :]))[:2]
    diagonal = np.asarray(_as_array(a)).diagonal(offset, axis1, axis2)
    return _written(np.sum(_as_array(diagonal), axis=-1), out)


def _accumulates(ufunc: np.ufunc, *names: str, nan: float | None = None) -> None:
    def implementation(a: Any, axis: Axis = None, dtype: Any = None, out: Any = None, **options: Any) -> Any:
        a = _as_array(a) if nan is None else _without_nan(a, nan)
        if axis is None:
            a, axis = a.ravel(), 0
        result = apply_ufunc(ufunc, "accumulate", (a,), {"axis": axis})
        if options.get("include_initial"):
            first = np.full_like(np.take(a, [0], axis=axis), 0.0 if ufunc is np.add else 1.0)
            result = np.concatenate([first, result], axis=axis)
        return _written(result, out)

    _implements(*names)(implementation)


_accumulates(np.add, "cumsum", "cumulative_sum")
_accumulates(np.multiply, "cumprod", "cumulative_prod")
_accumulates(np.add, "nancumsum", nan=0.0)
_accumulates(np.multiply, "nancumprod", nan=1.0)


# --- order ------------------------------------------------------------------------------------------------------------


class _Key:
    """An element that is compared, a NaN as larger than all numbers; or as smaller."""

    __slots__ = ("is_nan", "item", "largest")

    def __init__(self, item: Any, largest: bool) -> None:
        self.item, self.largest = item, largest
        self.is_nan = isinstance(item, (Value, float)) and not bool(primitives.equal(item, item))

    def __lt__(self, other: _Key) -> bool:
        if self.is_nan or other.is_nan:
            return (other if self.largest else self).is_nan and not (self.is_nan and other.is_nan)
        return bool(self.item < other.item)

    def __gt__(self, other: _Key) -> bool:
        return other < self


def _hold_numbers(elements: Sequence[Any]) -> bool:
    """Whether there is no NaN: one guard."""
    if any(each.__class__ is float and each != each for each in elements):
        return False
    equal = [primitives.equal(each, each) for each in elements if isinstance(each, Value)]
    return bool(functools.reduce(primitives.logical_and, equal)) if equal else True


def _compares(name: str) -> None:
    """Functions that compare elements; with a NaN among these, keys are compared that know the order of NumPy."""
    original = _numpy(name)._implementation

    def implementation(a: Any, *others: Any, **options: Any) -> Any:
        several = [a, *others[:1]] if name == "searchsorted" else [a]
        rest = others[len(several) - 1 :]
        if name == "searchsorted" and "v" in options:
            several, rest = [a, options.pop("v")], others
        arrays = [np.asarray(plain(_as_array(each))) for each in several]
        if all(_hold_numbers(each.ravel().tolist()) for each in arrays):
            return original(*arrays, *rest, **options)
        key = np.frompyfunc(lambda item: _Key(item, name != "argmin"), 1, 1)
        result = original(*[np.asarray(key(each), dtype=object) for each in arrays], *rest, **options)
        return np.frompyfunc(lambda key: key.item, 1, 1)(result) if name == "sort" else result

    _implements(name)(implementation)


for _name in ("sort", "argsort", "argmax", "argmin", "searchsorted"):
    _compares(_name)


@_implements("partition")
def _partition(a: Any, kth: Any, axis: Axis = -1, **_: Any) -> Any:
    return np.sort(_as_array(a), axis=axis)


_implements("argpartition")(lambda a, kth, axis=-1, **_: np.argsort(_as_array(a), axis=axis))


@_implements("quantile")
def _quantile(
    a: Any, q: Any, axis: Axis = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: bool = False, **options: Any,
) -> Any:  # fmt: skip
    _no_more("quantile", options)
    if method != "linear":
        raise InputError(f"np.quantile of Values has the method 'linear' only, got {method!r}{user_line()}")
    lanes, shape = _lanes(a, axis, keepdims)
    results = []
    for place in np.asarray(q, dtype=float).ravel().tolist():
        for lane in lanes:
            at = place * (len(lane) - 1)
            low = min(int(at), len(lane) - 1)
            high, t = min(low + 1, len(lane) - 1), at - low
            step = lane[high] - lane[low]
            results.append(lane[high] - step * (1.0 - t) if t >= 0.5 else lane[low] + step * t)
    return _written(_shaped(results, (*np.shape(q), *shape)), out)


_implements("percentile")(lambda a, q, *args, **options: _quantile(a, np.asarray(q, float) / 100.0, *args, **options))


def _without_nans(function: Callable[..., Any], a: Any, axis: Axis, keepdims: Any, front: tuple[int, ...] = ()) -> Any:
    """A function of the numbers along an axis that are no NaN (these are branches); NaN where there are none.

    Args:
        front: the shape of what the function returns.
    """
    a = np.asarray(_as_array(a))
    along = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = [each % a.ndim for each in along]
    rest = [each for each in range(a.ndim) if each not in axes]
    results = []
    for lane in a.transpose(*rest, *axes).reshape(-1, _count(a, axis)):
        kept = [each for each in lane.tolist() if not primitives.logical_not(primitives.equal(each, each))]
        results.append(_as_array(function(array(kept))) if kept else filled(front, math.nan))
    flat = [x for row in zip(*(each.ravel().tolist() for each in results), strict=True) for x in row]
    shape = tuple(a.shape[each] if each in rest else 1 for each in range(a.ndim) if keepdims is True or each in rest)
    return _shaped(flat, (*front, *shape))


@_implements("nanquantile")
def _nanquantile(
    a: Any, q: Any, axis: Axis = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: Any = False, **options: Any,
) -> Any:  # fmt: skip
    _no_more("nanquantile", options)
    return _written(_without_nans(lambda lane: _quantile(lane, q, method=method), a, axis, keepdims, np.shape(q)), out)


@_implements("nanpercentile")
def _nanpercentile(a: Any, q: Any, *args: Any, **options: Any) -> Any:
    return _nanquantile(a, np.asarray(q, float) / 100.0, *args, **options)


@_implements("nanmedian")
def _nanmedian(a: Any, axis: Axis = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
    return _written(_without_nans(_median, a, axis, keepdims), out)


def _place_among_numbers(name: str, instead: float) -> None:
    def implementation(a: Any, axis: Axis = None, out: Any = None, **options: Any) -> Any:
        a = _as_array(a)
        if np.any(np.all(_mask(np.isnan(a)), axis=axis)):
            raise DomainError(f"np.{name}: a slice holds NaN only{user_line()}")
        return _written(getattr(np, name[3:])(np.where(np.isnan(a), instead, a), axis=axis, **options), out)

    _implements(name)(implementation)


_place_among_numbers("nanargmax", -math.inf)
_place_among_numbers("nanargmin", math.inf)


@_implements("median")
def _median(a: Any, axis: Axis = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    lanes, shape = _lanes(a, axis, keepdims)
    middles = [lane[(len(lane) - 1) // 2 : len(lane) // 2 + 1] for lane in lanes]
    return _written(_shaped([each[0] if len(each) == 1 else (each[0] + each[1]) / 2.0 for each in middles], shape), out)


def _lanes(a: Any, axis: Axis, keepdims: bool) -> tuple[list[list[Any]], tuple[int, ...]]:
    """The elements along an axis, sorted, and the shape of a result with one element for each."""
    a = np.asarray(_as_array(a))
    along = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = [each % a.ndim for each in along]
    rest = [each for each in range(a.ndim) if each not in axes]
    if not _count(a, axis):
        raise InputError(f"np.median and np.quantile of no elements are not defined{user_line()}")
    lanes = a.transpose(*rest, *axes).reshape(-1, _count(a, axis))
    shape = tuple(a.shape[each] if each in rest else 1 for each in range(a.ndim) if keepdims or each in rest)
    result = np.asarray(np.sort(lanes.view(Array), axis=-1)).tolist()
    return [lane if _hold_numbers(lane) else lane[-1:] * len(lane) for lane in result], shape  # NaN is at the end


def _shaped(items: list[Any], shape: tuple[int, ...]) -> Any:
    return as_array(items, shape) if shape else items[0]


@_implements("digitize")
def _digitize(x: Any, bins: Any, right: bool = False) -> Any:
    side = "left" if right else "right"
    bins = _as_array(bins)
    places = [np.searchsorted(bins, each, side=side) for each in np.asarray(_as_array(x)).ravel().tolist()]
    return np.array(places).reshape(np.shape(plain(x))) if np.ndim(plain(x)) else places[0]


@_implements("bincount")
def _bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    places = np.asarray(_as_array(x)).astype(int) if isinstance(x, Array) else np.asarray(x)
    if weights is None:
        return np.bincount(places, minlength=minlength)
    result: Any = filled(max(minlength, int(places.max(initial=-1)) + 1), 0.0)
    for place, weight in zip(places.tolist(), np.asarray(_as_array(weights)).tolist(), strict=True):
        result[place] += weight
    return result


# --- numbers ----------------------------------------------------------------------------------------------------------


@_implements("round", "around")
def _round(a: Any, decimals: int = 0, out: Any = None) -> Any:
    scale = 10.0 ** abs(decimals)
    a = _as_array(a)
    if decimals >= 0:
        result = np.rint(a * scale) / scale if decimals else np.rint(a)
    else:
        result = np.rint(a / scale) * scale
    return _written(result, out)


_implements("fix")(lambda x, out=None: _written(np.trunc(_as_array(x)), out))
_implements("real_if_close")(lambda val, tol=100: val)
_implements("isreal")(lambda x: np.equal(np.imag(x), 0.0) if _is_complex(x) else np.ones(np.shape(plain(x)), bool))
_implements("iscomplex")(lambda x: np.logical_not(np.isreal(x)))


@_implements("modf")
def _modf(x: Any, *_: Any, **__: Any) -> Any:
    """The fraction and the whole part, each with the sign of the number; the fraction of inf is 0."""
    x = _as_array(x)
    whole = np.trunc(x)
    return np.copysign(np.where(np.isinf(x), 0.0, x - np.where(np.isinf(x), 0.0, whole)), x), whole


@_implements("ldexp")
def _ldexp(x1: Any, x2: Any, /, *_: Any, **__: Any) -> Any:
    return np.frompyfunc(scaled, 2, 1)(plain(x1), plain(x2))


@_implements("unwrap")
def _unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: float = 2.0 * math.pi) -> Any:
    """NumPy's arithmetic; the multiples of the period are whole numbers, which have no gradient."""
    p = _as_array(p)
    steps = np.diff(p, axis=axis)
    low = -0.5 * period
    near = np.mod(steps - low, period) + low
    near = np.where((near == low) & (steps > 0.0), near + period, near)
    limit = 0.5 * period if discont is None else discont
    corrections = np.where(np.abs(steps) < limit, 0.0, near - steps)
    first = np.take(p, [0], axis=axis)
    return np.concatenate([first, np.delete(p, 0, axis=axis) + np.cumsum(corrections, axis=axis)], axis=axis)


@_implements("sinc")
def _sinc(x: Any) -> Any:
    x = _as_array(x)
    y = math.pi * _as_array(np.where(x == 0.0, 1e-20, x))
    return np.sin(y) / y


def infinite_piece(p: Any, q: Any) -> float | None:
    """What a line is between two points, as NumPy has it, if one of these is an infinite constant; else None."""
    ends = [each for each in (p, q) if not isinstance(each, Applicable)]
    infinite = [each for each in ends if math.isinf(each)]
    if not infinite:
        return None
    return float(infinite[0]) if len(set(infinite)) == 1 else math.nan


@_implements("interp")
def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Piecewise linear, as NumPy's: `slope * (x - xp[k]) + fp[k]`, selected from the pieces without a branch on x."""
    _no_more("interp", {"period": period})
    places, items = _as_array(xp).tolist(), _as_array(fp).tolist()
    if len(places) != len(items) or not places:
        raise InputError(f"np.interp: xp and fp must be vectors of the same length{user_line()}")

    pieces, infinite = [], []
    for k in range(len(places) - 1):
        width, beyond = places[k + 1] - places[k], infinite_piece(*items[k : k + 2])
        if beyond is not None:
            infinite.append((k, beyond))
        elif isinstance(width, Applicable) or width != 0.0:  # else a jump
            pieces.append((places[k], items[k], div(items[k + 1] - items[k], width)))

    def interpolated(x: Any) -> Any:
        result = x if len(places) > 1 else items[0]  # where it is NaN
        if pieces:
            chosen = pieces[0]
            for piece in pieces[1:]:
                here = x >= piece[0]
                chosen = tuple(selected(here, new, old) for new, old in zip(piece, chosen, strict=True))
            start, item, slope = chosen
            result = slope * (x - start) + item
        for k, beyond in infinite:
            piece = selected(primitives.equal(x, places[k]), items[k], beyond)
            result = selected(primitives.logical_and(x >= places[k], x < places[k + 1]), piece, result)
        result = selected(x >= places[-1], items[-1], result)
        result = selected(x < places[0], items[0] if left is None else left, result)
        return result if right is None else selected(x > places[-1], right, result)

    return np.frompyfunc(interpolated, 1, 1)(plain(x))


@_implements("vecdot", "linalg.vecdot")
def _vecdot(x1: Any, x2: Any, /, *, axis: int = -1, **_: Any) -> Any:
    return np.sum(_as_array(np.conjugate(_as_array(x1)) * x2), axis=axis)


_implements("divmod")(lambda a, b, /: (_as_array(a) // _as_array(b), _as_array(a) % _as_array(b)))
_implements("vdot")(
    lambda a, b, /: np.dot(np.asarray(np.conjugate(_as_array(a))).ravel(), np.asarray(_as_array(b)).ravel())
)
_implements("matvec")(lambda x1, x2, /, **_: np.matmul(_as_array(x1), _as_array(x2)[..., None])[..., 0])


@_implements("vecmat")
def _vecmat(x1: Any, x2: Any, /, **_: Any) -> Any:
    return np.matmul(np.conjugate(_as_array(x1))[..., None, :], _as_array(x2))[..., 0, :]


@_implements("correlate")
def _correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    return np.convolve(np.asarray(_as_array(a)), np.asarray(np.conjugate(_as_array(v)))[::-1], mode)


@_implements("cov")
def _cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None, fweights: Any = None,
    aweights: Any = None, **_: Any,
) -> Any:  # fmt: skip
    _no_more("cov", {"fweights": fweights, "aweights": aweights})
    x = np.atleast_2d(_as_array(m))
    x = x.T if not rowvar and x.shape[0] != 1 else x
    if y is not None:
        other = np.atleast_2d(_as_array(y))
        x = np.concatenate([x, other.T if not rowvar and other.shape[0] != 1 else other])
    x = x - _mean(x, axis=1, keepdims=True)
    count = x.shape[1] - ((0 if bias else 1) if ddof is None else ddof)
    result = np.dot(x, np.conjugate(x).T) / float(count)
    return result[0, 0] if result.size == 1 else result


@_implements("corrcoef")
def _corrcoef(x: Any, y: Any = None, rowvar: bool = True, **_: Any) -> Any:
    c = _cov(x, y, rowvar)
    if not isinstance(c, np.ndarray):
        return c / c
    deviations = np.sqrt(np.diag(_as_array(c)))
    return np.clip(c / deviations[:, None] / deviations[None, :], -1.0, 1.0)


@_implements("gradient")
def _gradient(f: Any, *varargs: Any, axis: Axis = None, edge_order: int = 1) -> Any:
    f = _as_array(f)
    axes = range(f.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    spacings = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    results = []
    for along, spacing in zip(axes, spacings, strict=True):
        y = np.moveaxis(f, along, 0)
        results.append(np.moveaxis(_slopes(y, _as_array(spacing), edge_order), 0, along))
    return results[0] if len(results) == 1 else tuple(results)


def _slopes(y: Any, spacing: Any, edge_order: int) -> Any:
    """Second-order differences along the first axis, as `np.gradient` defines them."""
    n = len(y)
    steps = [spacing.item()] * (n - 1) if not spacing.ndim else list(np.diff(spacing))
    result: list[Any] = [None] * n
    for k in range(1, n - 1):
        before, after = steps[k - 1], steps[k]
        if not spacing.ndim:
            result[k] = (y[k + 1] - y[k - 1]) / (2.0 * after)
        else:
            a, c = -after / (before * (before + after)), before / (after * (before + after))
            result[k] = a * y[k - 1] + (after - before) / (before * after) * y[k] + c * y[k + 1]
    if edge_order == 1:
        result[0], result[-1] = (y[1] - y[0]) / steps[0], (y[-1] - y[-2]) / steps[-1]
    else:
        a, b = steps[0], steps[1]
        result[0] = -(2.0 * a + b) / (a * (a + b)) * y[0] + (a + b) / (a * b) * y[1] - a / (b * (a + b)) * y[2]
        a, b = steps[-2], steps[-1]
        result[-1] = b / (a * (a + b)) * y[-3] - (b + a) / (a * b) * y[-2] + (2.0 * b + a) / (b * (a + b)) * y[-1]
    return np.stack([_as_array(each) for each in result])


@_implements("apply_along_axis")
def _apply_along_axis(func1d: Any, axis: int, arr: Any, *args: Any, **options: Any) -> Any:
    rows = np.moveaxis(_as_array(arr), axis, -1)
    results = [_as_array(func1d(rows[place], *args, **options)) for place in np.ndindex(rows.shape[:-1])]
    stacked = np.stack(results).reshape(*rows.shape[:-1], *results[0].shape)
    for k in range(results[0].ndim):
        stacked = np.moveaxis(stacked, rows.ndim - 1 + k, axis + k)
    return stacked


# --- methods ----------------------------------------------------------------------------------------------------------


def _method(name: str) -> Any:
    function = FUNCTIONS[getattr(np, name)]

    def method(self: Array, *args: Any, **options: Any) -> Any:
        return wrapped(function(self, *args, **options))

    method.__name__ = name
    method.__doc__ = f"As `np.{name}`."
    return method


for _name in [
    "all",
    "any",
    "clip",
    "cumprod",
    "cumsum",
    "max",
    "mean",
    "min",
    "nonzero",
    "prod",
    "round",
    "std",
    "sum",
    "trace",
    "var",
]:
    setattr(Array, _name, _method(_name))
for _name in ("argmax", "argmin", "argsort", "searchsorted"):
    setattr(Array, _name, _method(_name))


def _sort(self: Array, axis: int = -1, **options: Any) -> None:
    """As the method of arrays: the elements change their places."""
    self[...] = np.sort(self, axis=axis, **options)


Array.sort = _sort  # type: ignore[method-assign, assignment]
Array.astype = _astype  # type: ignore[method-assign]

REMEDIES.update({
    "histogram": "its counts have no gradient; np.searchsorted(edges, x, side='right') says in which bin each element "
    "is, and np.bincount of that counts them",
    "frexp": "write e = np.floor(np.log2(np.abs(x))) + 1.0 and x / 2.0**e",
    "nextafter": "its derivative is 1; write x * (1.0 + 2.0**-52)",
    "spacing": "write np.abs(x) * 2.0**-52, which is an ulp or nearly two",
})  # fmt: skip
