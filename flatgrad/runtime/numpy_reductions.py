"""NumPy's functions that reduce arrays of `Value`s: sums, means, and what accumulates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from . import primitives
from .arrays import (
    apply_ufunc,
    booleans,
    plain,
    truth,
)
from .errors import InputError
from .numpy_functions import _NO, Axis, _as_array, _implements, _is_complex, _written, np
from .sites import user_line


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
