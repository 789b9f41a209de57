"""Records: objects of dataclasses, and of classes that attrs makes. They are taken apart into their fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from ...runtime.errors import InputError


def is_record(item: Any) -> bool:
    """Whether an object is a record: not a list, an array or an exception whose class is a dataclass as well.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Spring:
    ...     stiffness: float
    >>> is_record(Spring(2.0)), is_record(Spring), is_record([2.0])
    (True, False, False)
    """
    kind: Any = type(item)
    is_one = hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__")
    return is_one and kind.__new__ is object.__new__


def fields_of(item: Any) -> dict[str, Any]:
    """The fields of a record that have values, in the order of their definition.

    A field is what the object holds now, whatever `__post_init__` may have made of it.
    """
    kind = type(item)
    names: Iterable[str] = getattr(kind, "__dataclass_fields__", None) or [each.name for each in kind.__attrs_attrs__]
    return {name: getattr(item, name) for name in names if hasattr(item, name)}


def others_of(item: Any, fields: Iterable[str]) -> dict[str, Any]:
    """The attributes that an object has beside its fields, without what `functools.cached_property` keeps."""
    kind = type(item)
    attributes = {name: each for name, each in getattr(item, "__dict__", {}).items() if name not in fields}
    return {n: each for n, each in attributes.items() if not isinstance(getattr(kind, n, None), cached_property)}


def made(kind: type, names: Sequence[str], items: Iterable[Any]) -> Any:
    """An object with these attributes. Neither `__init__` nor `__post_init__` is called: they may check numbers.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Spring:
    ...     stiffness: float
    ...     def __post_init__(self):
    ...         assert self.stiffness > 0
    >>> made(Spring, ["stiffness"], [-1.0])
    Spring(stiffness=-1.0)
    """
    item: Any = object.__new__(kind)
    for name, each in zip(names, items, strict=True):
        object.__setattr__(item, name, each)
    return item


def state_of(item: Any) -> dict[str, Any]:
    """All attributes of a record."""
    fields = fields_of(item)
    return {**fields, **others_of(item, fields)}


def member(item: Any, label: Any) -> Any:
    """An item of a list, tuple or dict, or a field of a record."""
    return getattr(item, label) if is_record(item) else item[label]


def place_of(item: Any, label: Any) -> str:
    """Where it is, as users write it: `[0]`, `['w']`, `.stiffness`."""
    return f".{label}" if is_record(item) else f"[{label!r}]"


def placed(place: str, error: InputError) -> str:
    """The text of an error, behind its place: `[0]: ...`, `.spring.stiffness: ...`."""
    text = str(error)
    return f"{place}{'' if text[:1] in '[.' else ': '}{text}"
