"""The value of a function as a witness of its derivative: compared where a derivative is too large to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ...runtime.value import Value
from .jit import jit

#: Values that differ by more than this part of them are those of different functions.
_TOLERANCE: Final = 1e-9


def value_is_foreseen(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], statics: Any) -> bool:
    """Whether a function has the value that a kernel for all sizes of it has.

    It is called as it is, on the arguments with each number moved a little, so that equal numbers do not hide which
    of them is read. That takes a small part of the time that tracing takes. If it cannot be compared, it is not said
    to differ.
    """
    generator = np.random.default_rng(0)
    kernels = jit(fn, dynamic=True, static_argnames=statics)
    for move in (lambda x: x * (1.0 + 0.01 * generator.random(x.shape)) + 0.001 * generator.random(x.shape)), np.copy:
        moved = tuple(_mapped(move, arg) for arg in args)
        try:
            with np.errstate(all="ignore"):
                expected = _numbers_of(fn(*moved, **kwargs))
                found = _numbers_of(kernels(*moved, **kwargs))
        except Exception:  # moved numbers may be outside of its domain, and it may not take plain numbers
            continue
        seen = [verdict for kernel in kernels.open_kernels for verdict in kernel.stats.sizes.values()]
        alike = len(expected) == len(found) and np.allclose(expected, found, _TOLERANCE, 0.0, equal_nan=True)
        return "different" not in seen and alike
    return True


def _mapped(move: Callable[[Any], Any], item: Any) -> Any:
    """An argument with its floats moved.

    >>> _mapped(lambda x: 2.0 * x, {"a": [1.0, 2.0], "b": (3, np.ones(2))})
    {'a': [2.0, 4.0], 'b': (3, array([2., 2.]))}
    """
    if isinstance(item, np.ndarray):
        return move(item.astype(float)) if item.dtype.kind == "f" else item.copy()
    if isinstance(item, float):
        return float(move(np.float64(item)))
    if type(item) in (list, tuple):
        if item and all(type(each) is float for each in item):
            return type(item)(move(np.array(item)).tolist())
        return type(item)(_mapped(move, each) for each in item)
    if type(item) is dict:
        return {key: _mapped(move, each) for key, each in item.items()}
    return item


def _numbers_of(item: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """All numbers of a result, in order.

    >>> _numbers_of({"a": [1.0, np.ones(2)], "b": Value(3.0)})
    array([1., 1., 1., 3.])
    """
    if isinstance(item, dict):
        item = list(item.values())
    if isinstance(item, (list, tuple)):
        return np.concatenate([np.zeros(0), *map(_numbers_of, item)])
    if isinstance(item, Value):
        item = item.data
    if isinstance(item, np.ndarray) and item.dtype == object:
        return _numbers_of(item.ravel().tolist())
    return np.asarray(item, dtype=float).ravel()
