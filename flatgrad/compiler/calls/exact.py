"""Objects as parts of a key: by identity, or exactly by value."""

from __future__ import annotations

import collections
import copy
import dataclasses
from contextlib import suppress
from decimal import Decimal
from typing import Any

import numpy as np

from .records import is_record, made, state_of

#: Containers that change, beside lists, dicts and arrays; their items do not.
_CHANGING = (set, bytearray, collections.deque)


class Same:
    """Compares by identity, and keeps what it holds alive."""

    __slots__ = ("item",)

    def __init__(self, item: Any) -> None:
        self.item: Any = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.item is self.item

    def __hash__(self) -> int:
        return id(self.item)

    def __repr__(self) -> str:
        return f"<{type(self.item).__name__} at {id(self.item):#x}>"


class Static:
    """A value that is part of a key. Compares by types and, for numbers, by bits, at any depth.

    0.0 is not -0.0, nor False, nor the NumPy scalar 0.0; a NaN is the same as any other. Lists, dicts, sets, arrays and
    dataclasses are compared by what they hold now, dicts with the order of their keys. What is neither a number nor a
    container is compared by its type and `==`.

    Raises:
        TypeError: if the value cannot be hashed, or something in it.

    Example:
        >>> Static(0.0) == Static(-0.0), Static((1, True)) == Static((1, 1)), Static((1, 2)) == Static((1, 2))
        (False, False, True)
        >>> Static([1, np.zeros(2)]) == Static([1, np.zeros(2)])
        True
    """

    __slots__ = ("_key", "value")

    def __init__(self, value: Any) -> None:
        self.value: Any = value
        self._key = _frozen(value)
        hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self.value)

    def matches(self, item: Any) -> bool:
        """Whether an object is the same as this value was when this object was made."""
        try:
            return bool(_frozen(item) == self._key)
        except TypeError:
            return False


def _frozen(value: Any) -> Any:
    """The type, and what is equal exactly for values of this type that no program can tell apart.

    `==` alone is too weak: it says that the two zeros are equal, `Decimal("1.0")` and `Decimal("1.00")`, too; and too
    strong, as no NaN is equal to itself.
    """
    kind: Any = type(value)
    if isinstance(value, (float, np.float32, np.float16)):  # np.float64 is a float
        return kind, float(value).hex()
    if isinstance(value, np.floating):  # wider than a float
        return kind, np.format_float_scientific(value, unique=True)
    if isinstance(value, (complex, np.complexfloating)):
        return kind, _frozen(value.real), _frozen(value.imag)
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return kind, value.dtype.str, value.tobytes()
    if isinstance(value, Decimal):
        return kind, value.as_tuple()
    if isinstance(value, tuple):
        return kind, tuple(map(_frozen, value))
    if isinstance(value, frozenset):
        return kind, frozenset(map(_frozen, value))
    if kind is range or kind is slice:
        return kind, *map(_frozen, (value.start, value.stop, value.step))
    if is_record(value):
        by_fields = _frozen_of_fields(value)
        if by_fields is not None:
            return by_fields
    if dataclasses.is_dataclass(value) and getattr(kind, "__eq__", None) is not object.__eq__:
        fields = tuple(_frozen(getattr(value, field.name)) for field in dataclasses.fields(value) if field.compare)
        with suppress(TypeError):  # a field cannot be hashed: the class has a hash of its own
            hash(fields)
            return kind, value, fields
    if isinstance(value, np.ndarray):
        items = value.tobytes() if not value.dtype.hasobject else tuple(map(_frozen, value.ravel().tolist()))
        return kind, value.dtype, value.shape, items
    if isinstance(value, (list, collections.deque)):
        return kind, getattr(value, "maxlen", None), tuple(map(_frozen, value))
    if isinstance(value, dict):
        return kind, tuple((_frozen(key), _frozen(item)) for key, item in value.items())
    if isinstance(value, set):
        return kind, frozenset(map(_frozen, value))
    if isinstance(value, bytearray):
        return kind, bytes(value)
    return kind, value


def copied(value: Any) -> Any:
    """A copy of a value in which everything that can change is another object; itself if there is nothing.

    >>> items = [1, (2, [3])]
    >>> copied(items) == items, copied(items)[1] is items[1], copied((1, "a"))
    (True, False, (1, 'a'))
    """
    kind: Any = type(value)
    if isinstance(value, tuple):
        items = list(map(copied, value))
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return kind._make(items) if hasattr(kind, "_fields") else kind(items)
    if isinstance(value, (np.ndarray, list, dict, *_CHANGING)):
        new: Any = copy.copy(value)
        if isinstance(value, list):
            new[:] = map(copied, value)
        elif isinstance(value, dict):
            new.update({key: copied(item) for key, item in value.items()})
        elif isinstance(value, np.ndarray) and value.dtype == object:
            for k, item in enumerate(value.flat):
                new.flat[k] = copied(item)
        return new
    if is_record(value) and _frozen_of_fields(value) is not None:
        state = state_of(value)
        return made(kind, list(state), map(copied, state.values()))
    return value


def _frozen_of_fields(value: Any) -> Any:
    """What `_frozen` says of an object of a dataclass that has no hash: the class, and all of its attributes."""
    try:
        hash(value)
    except TypeError:
        return type(value), tuple((name, _frozen(item)) for name, item in state_of(value).items())
    return None
