"""Contents of objects: copies with which an object can be compared later."""

from __future__ import annotations

import array
import collections
import ctypes
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ....runtime.traced import TracedValue
from ....runtime.value import Value
from ..exact import Static

#: Containers are followed to this depth.
DEPTH: Final = 100
#: Types whose objects never change, and are compared by type and bits.
PLAIN: Final[frozenset[type]] = frozenset(
    [int, float, complex, bool, str, bytes, type(None), type(Ellipsis), np.float64, np.float32, np.int64, np.int32,
     np.bool_]
)  # fmt: skip
#: The same, and what is compared by identity alone: a model has thousands of `Value`s.
ATOMS: Final[frozenset[type]] = PLAIN | {Value, TracedValue}
MAPPINGS: Final = (dict, types.MappingProxyType)
#: Stands for the value of a place that has none. If the place gets a value later, that is a change.
MISSING: Final = object()


@dataclass(slots=True, eq=False)
class Content:
    """The content of an object: the bits of a number, the members of a list or dict, the numbers of an array; of any
    other object its identity.

    Attributes:
        item: the object.
        is_plain: whether it is of a plain type.
        keys: of a mapping its keys, of an array of objects its shape.
        members: of a container its members, plain objects and `Value`s as they are, others as `Content`; of an array of
            numbers its type, its shape and its bits.

    Example:
        >>> table = {"rate": 0.5}
        >>> content = Content.of(table)
        >>> content.matches({"rate": 0.5}), content.matches({"rate": 2})
        (True, False)
    """

    item: Any
    is_plain: bool = False
    keys: tuple[Any, ...] | None = None
    members: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, item: Any, contents: dict[int, Content] | None = None, depth: int = 0) -> Content:
        """The content of an object. That of an object which contains itself contains itself.

        Args:
            item: the object.
            contents: those of other objects, by identity; the new ones are added.
            depth: in how many containers the object is.
        """
        contents = {} if contents is None else contents
        content = contents.get(id(item))
        if content is not None:
            return content
        if type(item) in PLAIN:
            return cls(item, is_plain=True)
        content = contents[id(item)] = cls(item)
        if is_numeric(item):
            content.members = (item.dtype, item.shape, _bits(item))
            return content
        members = members_of(item)
        if members is None or depth > DEPTH:
            return content
        if isinstance(item, MAPPINGS):
            content.keys = tuple(item)
        if isinstance(item, np.ndarray):
            content.keys = item.shape
        if not set(map(type, members)) <= ATOMS:
            members = [m if type(m) in ATOMS else cls.of(m, contents, depth + 1) for m in members]
        content.members = tuple(members)
        return content

    def matches(self, item: Any, pairs: set[tuple[int, int]] | None = None) -> bool:
        """Whether an object has this content.

        Args:
            item: the object.
            pairs: of objects and contents that are being compared already, further out.
        """
        if self.is_plain:
            return _equal(item, self.item)
        if self.members is None:
            return item is self.item
        if type(item) is not type(self.item):
            return False
        if is_numeric(item):
            dtype, shape, bits = self.members
            return bool(item.dtype == dtype and item.shape == shape and np.array_equal(_bits(item), bits))
        members = members_of(item)
        if members is None or len(members) != len(self.members):
            return False
        if isinstance(item, MAPPINGS) and not all(map(_equal, item, self.keys or ())):
            return False
        if isinstance(item, np.ndarray) and item.shape != self.keys:
            return False
        pairs = set() if pairs is None else pairs
        pair = (id(item), id(self))
        if pair in pairs:
            return True
        pairs.add(pair)
        for member, content in zip(members, self.members, strict=True):
            if member is content:
                continue
            if not (content.matches(member, pairs) if isinstance(content, Content) else _equal(member, content)):
                return False
        return True


def is_numeric(item: Any) -> bool:
    """Whether an object is an array of numbers, which is compared as one block of bits."""
    return isinstance(item, np.ndarray) and item.dtype != object


def members_of(item: Any) -> Sequence[Any] | None:
    """The members of a container; None for any other object."""
    if isinstance(item, (list, tuple)):
        return item
    if isinstance(item, MAPPINGS):
        return list(item.values())
    if isinstance(item, (collections.deque, bytearray)):
        return list(item)
    if isinstance(item, array.array):
        return item.tolist()
    if type(item) in _VIEWS:
        return list(item)
    if isinstance(item, memoryview):
        return [item.format, item.shape, item.tobytes()]
    if isinstance(item, (ctypes.Array, ctypes._SimpleCData)):
        return [bytes(item)]
    if isinstance(item, (set, frozenset)):
        return sorted(item, key=_order) if set(map(type, item)) <= PLAIN else sorted(item, key=id)
    if isinstance(item, np.ndarray) and item.dtype == object:
        return item.ravel().tolist()
    return None


#: The types of a dictionary's `keys()`, `values()` and `items()`.
_VIEWS: Final[frozenset[type]] = frozenset([type({}.keys()), type({}.values()), type({}.items())])


def all_plain(item: Any) -> bool:
    """Whether all members of a container, if the object is one, are plain."""
    return set(map(type, members_of(item) or ())) <= PLAIN


def _order(item: Any) -> tuple[str, str]:
    return type(item).__name__, repr(item)


def _bits(array: Any) -> Any:
    """The numbers of an array as bytes, in a copy."""
    return np.frombuffer(array.tobytes(), dtype=np.uint8)


def _equal(a: Any, b: Any) -> bool:
    """Whether two objects are the same one, or plain, of the same type, and with the same bits."""
    return a is b or (type(a) is type(b) and type(a) in PLAIN and Static(a) == Static(b))
