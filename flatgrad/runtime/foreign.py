"""What stands beside a `Value` in arithmetic, and is no real number: arrays, and complex numbers."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .errors import InputError
from .sites import user_line


class Pair:
    """What a complex number of `Value`s is: see `complex_numbers.py`, which defines the one class."""

    __slots__ = ()
    kind: type[Any]

    def __init_subclass__(cls) -> None:
        Pair.kind = cls


COMPLEX: Any = (complex, Pair)
FOREIGN: Any = (np.ndarray, list, tuple, *COMPLEX)


def beside(value: Any, name: str, other: Any) -> Any:
    """What an operator of a `Value` gives with something foreign: for a complex number, what that number's own does.

    The sum with a list is an array, as of a NumPy scalar; arrays know it themselves.

    Raises:
        InputError: for the product with a list, which Python repeats where the number is an int.
    """
    if isinstance(other, (list, tuple)):
        if name == "__mul__":
            kind = type(other).__name__
            raise InputError(f"expected a number, got {kind}; for its items write fg.array(items) * value{user_line()}")
        array = np.fromiter(other, object, len(other))
        return getattr(array, name.replace("__", "__r", 1))(value)
    return getattr(Pair.kind.of(other), name)(value) if isinstance(other, complex) else NotImplemented


class _Held:
    """A complex number of `Value`s on its way into an array of objects."""

    __slots__ = ("item",)

    def __init__(self, item: Pair) -> None:
        self.item = item


def _held(items: Any) -> Any:
    """Nested lists with complex numbers held; themselves if there are none."""
    if isinstance(items, Pair):
        return _Held(items)
    if not isinstance(items, (list, tuple)):
        return items
    held = list(map(_held, items))
    return held if any(map(operator.is_not, held, items)) else items


def _released(item: Any) -> Any:
    if isinstance(item, list):  # of lists that have different lengths
        return list(map(_released, item))
    return item.item if isinstance(item, _Held) else item


def objects(items: Any) -> np.ndarray[Any, Any]:
    """An array of objects of nested lists, complex numbers of `Value`s among them; an array may be itself.

    NumPy must not make one by itself: it would not know their real and imaginary parts.
    """
    held = _held(items)
    array = np.asarray(held, dtype=object)
    if held is items:
        return array
    elements = list(map(_released, array.ravel().tolist()))
    return np.fromiter(elements, object, len(elements)).reshape(array.shape)


def without_pairs(items: Any) -> Any:
    """Lists for NumPy: those that hold complex numbers of `Value`s as arrays, the others as they are."""
    if not isinstance(items, (list, tuple)):
        return items
    if any(isinstance(each, Pair) for each in items):
        return objects(items)
    changed = list(map(without_pairs, items))
    return changed if any(map(operator.is_not, changed, items)) else items
