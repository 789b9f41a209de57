"""NumPy's functions that select elements by conditions, and those that write into arrays, for arrays of `Value`s."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, Final

from .arrays import (
    FUNCTIONS,
    UFUNCS,
    apply_ufunc,
    booleans,
    plain,
    truth,
)
from .errors import InputError
from .foreign import objects
from .numpy_functions import _NO, _as_array, _implements, _written, np
from .sites import user_line
from .value import Condition

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


# --- writing ---------------------------------------------------------------------------------------------------------


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
