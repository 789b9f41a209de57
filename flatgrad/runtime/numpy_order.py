"""NumPy's functions that sort arrays of `Value`s, or say where elements are. They compare elements: branches."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from . import primitives
from .arrays import (
    Array,
    as_array,
    filled,
    plain,
)
from .errors import DomainError, InputError
from .numpy_functions import Axis, _as_array, _implements, _numpy, _written, array, np
from .numpy_reductions import _count, _no_more
from .numpy_selection import _mask
from .sites import user_line
from .value import Value


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
