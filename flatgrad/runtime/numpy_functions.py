"""NumPy's functions that are no ufuncs, for arrays of `Value`s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import FUNCTIONS, Array, _as_plain, _where, as_array, filled, unsupported
from .conversion import check_masks, number
from .errors import InputError
from .primitive import Applicable
from .sites import user_line


def _implements(*functions: Any) -> Callable[[Any], Any]:
    def register(implementation: Any) -> Any:
        FUNCTIONS.update(dict.fromkeys(functions, implementation))
        return implementation

    return register


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
        (3.0, (4.0, 0.0))
    """
    plain = items if isinstance(items, np.ndarray) else _as_plain(items)
    check_masks(plain)
    found = np.array(plain, dtype=object)
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


@_implements(np.where)
def _np_where(condition: Any, *branches: Any) -> Any:
    if not branches:
        return np.nonzero(_as_plain(condition))
    return _where(*map(_as_plain, (condition, *branches)))


@_implements(np.zeros_like)
def _zeros_like(a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, **_: Any) -> Any:
    return filled(np.shape(_as_plain(a)) if shape is None else shape, 0.0)


@_implements(np.interp)
def _interp(*_: Any, **__: Any) -> Any:
    raise unsupported("interp")
