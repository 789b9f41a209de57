"""NumPy's functions of numbers in arrays of `Value`s: rounding, interpolation, products, differences."""

from __future__ import annotations

import math
from typing import Any

from . import primitives
from .arrays import (
    plain,
    selected,
)
from .errors import InputError
from .natural_numbers import scaled
from .numpy_functions import Axis, _as_array, _implements, _is_complex, _written, np
from .numpy_reductions import _mean, _no_more
from .primitive import Applicable
from .primitives import div
from .sites import user_line


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
