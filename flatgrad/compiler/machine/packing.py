"""What is kept on the disk beside machine code, as bytes: texts, numbers, arrays, and sizes that depend on extents.

Only what is listed here is read back. No code comes of it.
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

import numpy as np

from ..loops.extents import OpenRows, OpenTable, Polynomial
from ..loops.formulas import Columns, Data, Formula, Repeated
from ..program.groups import Group

#: The types of arrays.
_ARRAYS = "<f8", "|b1", "<i8"


def pack(item: Any, *classes: type[NamedTuple]) -> bytes:
    """An item as bytes.

    Args:
        item: None, texts, numbers, arrays of floats, truth values or integers, and lists, tuples and dicts of these;
            groups, polynomials, formulas and open tables.
        classes: named tuples that are among it, too.

    Example:
        >>> unpack(pack([("x", -0.0), {"size": Polynomial((1, 2))}, np.arange(3)]))
        [('x', -0.0), {'size': Polynomial(coefficients=(1, 2))}, array([0, 1, 2])]
    """
    packer = _Packer(classes)
    head = json.dumps(packer.packed(item)).encode()
    return b"".join([struct.pack(">Q", len(head)), head, *packer.arrays])


def unpack(content: bytes, *classes: type[NamedTuple]) -> Any:
    """What `pack` was given; `classes` are those that it was given."""
    (size,) = struct.unpack_from(">Q", content)
    return _Unpacker(content, 8 + size, classes).unpacked(json.loads(content[8 : 8 + size]))


def _by_name(classes: tuple[type, ...]) -> dict[str, type]:
    known = Group, Polynomial, Formula, Columns, Repeated, Data, OpenTable, OpenRows
    return {each.__name__: each for each in (*known, *classes)}


class _Packer:
    """Turns items into what JSON has, and collects their arrays."""

    def __init__(self, classes: tuple[type, ...]) -> None:
        self.names = {each: name for name, each in _by_name(classes).items()}
        self.arrays: list[bytes] = []

    def packed(self, item: Any) -> Any:
        kind = type(item)
        if item is None or kind in (bool, str):
            return item
        if isinstance(item, (int, np.integer)):
            return int(item)
        if isinstance(item, float):
            return {"float": item.hex()}
        if kind is list:
            return list(map(self.packed, item))
        if kind is dict:
            return {"dict": [[self.packed(key), self.packed(each)] for key, each in item.items()]}
        if kind is np.ndarray:
            dtype = next(each for each in _ARRAYS if each[1] == item.dtype.kind)
            self.arrays.append(np.ascontiguousarray(item, dtype=dtype).tobytes())
            return {"array": [dtype, list(item.shape)]}
        name = "tuple" if kind is tuple else self.names[kind]
        return {name: list(map(self.packed, item))}


class _Unpacker:
    """Makes the items again; the arrays are behind each other in the content."""

    def __init__(self, content: bytes, start: int, classes: tuple[type, ...]) -> None:
        self.content, self.start, self.classes = content, start, _by_name(classes)

    def unpacked(self, item: Any) -> Any:
        if isinstance(item, list):
            return list(map(self.unpacked, item))
        if not isinstance(item, dict):
            return item
        ((name, parts),) = item.items()
        if name == "float":
            return float.fromhex(parts)
        if name == "array":
            return self._array(*parts)
        items = list(map(self.unpacked, parts))
        if name == "dict":
            return dict(items)
        return tuple(items) if name == "tuple" else self.classes[name](*items)

    def _array(self, dtype: str, shape: list[int]) -> Any:
        count = int(np.prod(shape))
        # A copy is aligned, which machine code relies on, and lets go of the content.
        array = np.frombuffer(self.content, dtype=np.dtype(dtype), count=count, offset=self.start).copy()
        self.start += array.nbytes
        return array.reshape(shape)
