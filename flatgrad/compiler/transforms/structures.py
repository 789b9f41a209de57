"""Structures of numbers: arrays, and tuples, lists and dicts of them, as arguments and results of functions on rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...runtime.foreign import COMPLEX
from ...runtime.primitives import Operand
from ...runtime.wording import count_of
from ..calls.records import is_record, made, member, state_of

#: What counts as a number.
NUMBERS = (Operand, int, float, np.integer, np.floating, np.bool_)


def is_container(item: Any) -> bool:
    """Whether it is a list, tuple or dict, or an object of a dataclass."""
    return isinstance(item, (list, tuple, dict)) or is_record(item)


def is_structure(item: Any) -> bool:
    """Whether what is mapped are the items, as in JAX: of a tuple, dict or dataclass, and of a list that leads to an
    array.

    >>> is_structure([{"w": np.zeros(2)}]), is_structure([{"w": 1.0}, {"w": 2.0}])
    (True, False)
    """
    return isinstance(item, (tuple, dict, type(None))) or (
        _leads_to_array(item) if isinstance(item, list) else is_record(item)
    )


def _leads_to_array(item: Any) -> bool:
    if not is_container(item):
        return isinstance(item, np.ndarray)
    return any(_leads_to_array(member(item, label)) for label in labels_of(item))


def labels_of(item: Any) -> list[Any]:
    """The keys or indices of a structure, or names of fields; None has no items."""
    if is_record(item):
        return list(state_of(item))
    return list(item) if isinstance(item, dict) else list(range(len(item or ())))


def rebuilt(item: Any, parts: Sequence[Any]) -> Any:
    """A structure like this one, of other items."""
    if isinstance(item, dict):
        new = copy.copy(item)
        new.update(zip(item, parts, strict=True))
        return new
    if is_record(item):
        return made(type(item), labels_of(item), parts)
    return type(item)._make(parts) if hasattr(item, "_fields") else type(item)(parts)


def words(item: Any) -> str:
    """What an item is, as errors say it."""
    shape = shape_of(item)
    if shape is not None:
        return f"{'a list' if isinstance(item, list) else 'an array'} of shape {shape}" if shape else "a number"
    name = type(item).__name__
    if isinstance(item, dict):
        return f"a {name} with {f'the keys {list(item)}' if item else 'no items'}"
    if is_record(item):
        return f"a {name} with the fields {labels_of(item)}"
    items = f" of {count_of(len(item), 'item')}" if isinstance(item, (list, tuple)) else ""
    return "None" if item is None else f"a {name}{items}"


def instead_of(returned: Any) -> str:
    """What to do about a result that is not one number."""
    if returned is None:
        return "; is a `return` missing?"
    if isinstance(returned, COMPLEX):
        return "; return abs(z), or z.real"
    if is_container(returned) or isinstance(returned, np.ndarray):
        return "; fg.jacobian differentiates several"
    return ""


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
