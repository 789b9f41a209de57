"""Structures of numbers: arrays, and tuples, lists and dicts of them, as arguments and results of functions on rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...runtime.primitives import Operand
from ...runtime.wording import count_of

#: What counts as a number.
NUMBERS = (Operand, int, float, np.integer, np.floating, np.bool_)


def is_structure(item: Any) -> bool:
    """Whether what is mapped are the items, as in JAX: of a tuple, of a dict, and of a list that leads to an array.

    >>> is_structure([{"w": np.zeros(2)}]), is_structure([{"w": 1.0}, {"w": 2.0}])
    (True, False)
    """
    return isinstance(item, (tuple, dict, type(None))) or (isinstance(item, list) and _leads_to_array(item))


def _leads_to_array(item: Any) -> bool:
    items = item.values() if isinstance(item, dict) else item if isinstance(item, (list, tuple)) else ()
    return isinstance(item, np.ndarray) or any(map(_leads_to_array, items))


def labels_of(item: Any) -> list[Any]:
    """The keys or indices of a structure; None has no items."""
    return list(item) if isinstance(item, dict) else list(range(len(item or ())))


def rebuilt(item: Any, parts: Sequence[Any]) -> Any:
    """A structure like this one, of other items."""
    if isinstance(item, dict):
        new = copy.copy(item)
        new.update(zip(item, parts, strict=True))
        return new
    return type(item)._make(parts) if hasattr(item, "_fields") else type(item)(parts)


def words(item: Any) -> str:
    """What an item is, as errors say it."""
    shape = shape_of(item)
    if shape is not None:
        return f"{'a list' if isinstance(item, list) else 'an array'} of shape {shape}" if shape else "a number"
    name = type(item).__name__
    if isinstance(item, dict):
        return f"a {name} with {f'the keys {list(item)}' if item else 'no items'}"
    items = f" of {count_of(len(item), 'item')}" if isinstance(item, (list, tuple)) else ""
    return "None" if item is None else f"a {name}{items}"


def shape_of(item: Any, in_list: bool = False) -> tuple[int, ...] | None:
    """The shape of an array, or of the array that NumPy makes of a number, or of nested lists of numbers; else None.

    >>> shape_of([[1.0, 2.0]]), shape_of([[1.0], [1.0, 2.0]]), shape_of([np.zeros(2)])
    ((1, 2), None, None)
    """
    if isinstance(item, np.ndarray):
        return None if in_list else item.shape
    if isinstance(item, list):
        shapes = {shape_of(each, True) for each in item} or {()}
        (shape,) = shapes if len(shapes) == 1 else (None,)
        return None if shape is None else (len(item), *shape)
    return () if isinstance(item, NUMBERS) else None


def flat(item: Any) -> list[Any]:
    """The numbers in an array, in nested lists, or the one number."""
    if isinstance(item, np.ndarray):
        return item.ravel().tolist()
    return [n for each in item for n in flat(each)] if isinstance(item, list) else [item]
