"""Objects as parts of a key: by identity, or exactly by value."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from decimal import Decimal
from typing import Any

import numpy as np


class Same:
    """Compares by identity, and keeps what it holds alive."""

    __slots__ = ("item",)

    def __init__(self, item: Any) -> None:
        self.item = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.item is self.item

    def __hash__(self) -> int:
        return id(self.item)

    def __repr__(self) -> str:
        return f"<{type(self.item).__name__} at {id(self.item):#x}>"


class Static:
    """A value that is part of a key. Compares by types and, for numbers, by bits, at any depth.

    0.0 is not -0.0, nor False, nor the NumPy scalar 0.0; a NaN is the same as any other. What is neither a number nor a
    container of the standard library is compared by its type and `==`.

    Raises:
        TypeError: if the value cannot be hashed.

    Example:
        >>> Static(0.0) == Static(-0.0), Static((1, True)) == Static((1, 1)), Static((1, 2)) == Static((1, 2))
        (False, False, True)
    """

    __slots__ = ("_key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._key = _frozen(value)
        hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self.value)


def _frozen(value: Any) -> Any:
    """The type, and what is equal exactly for values of this type that no program can tell apart.

    `==` alone is too weak: it says that the two zeros are equal, `Decimal("1.0")` and `Decimal("1.00")`, too; and too
    strong, as no NaN is equal to itself.
    """
    kind = type(value)
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
    if dataclasses.is_dataclass(value) and getattr(kind, "__eq__", None) is not object.__eq__:
        fields = tuple(_frozen(getattr(value, field.name)) for field in dataclasses.fields(value) if field.compare)
        with suppress(TypeError):  # a field cannot be hashed: the class has a hash of its own
            hash(fields)
            return kind, value, fields
    return kind, value
