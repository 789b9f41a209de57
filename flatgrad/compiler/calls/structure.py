"""The structure of arguments: taking nested arguments apart into numbers, and putting numbers back together.

A structure is a nested tuple that can be hashed and compared; calls with equal structures share one kernel.

========================================  ==========================================================================
structure                                 stands for
========================================  ==========================================================================
`("number",)`                             one number (int, float, NumPy scalar)
`("value", k)`                            a `Value`, the same one as the k-th `Value` of the call
`("captured", Same(v))`                   a `Value` that the function also reaches by itself
`("numbers", kind, n)`                    a list or tuple of n numbers
`("array", shape)`                        a numeric array
`("objects", shape, items)`               an array of `Value`s or numbers
`("items", kind, items)`                  any other list, tuple or named tuple
`("mapping", items, Static(keys))`        a dict; `items` are its pairs `(key, item)`
`("static", Static(value))`               str, bool, None and what `static_argnames` names: part of the structure
`("object", Same(o))`                     an object with `parameters()`, by identity
========================================  ==========================================================================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import numpy as np

from ...runtime.backward import CONSTANT
from ...runtime.errors import InputError
from ...runtime.primitives import number
from ...runtime.value import Value

#: The types that are taken for numbers without a closer look.
NUMBER_TYPES = {float, int, np.float64, np.float32, np.int64, np.int32}
NUMBER = ("number",)


class Same:
    """Compares by identity, and keeps what it holds alive."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)

    def __repr__(self) -> str:
        return f"<{type(self.held).__name__} at {id(self.held):#x}>"


class Static:
    """A value that is part of the structure. Compares by types and, for numbers, by bits, at any depth.

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


class Flattener:
    """Takes arguments apart.

    Args:
        captured: ids of `Value`s that the function reaches by itself; they stay what they are.
        identity: whether a `Value` that stands in several places is one input; otherwise each place is a number.
        symbolic: collect the `Value`s themselves in place of their numbers (while another function is traced).

    Attributes:
        numbers: the numbers found so far, in order.
        values: the different `Value`s found, each with its place in `numbers`, counted from the first argument.
    """

    def __init__(self, captured: Container[int] = (), symbolic: bool = False, identity: bool = True) -> None:
        self.numbers: list[Any] = []
        self.values: list[tuple[Value, int]] = []
        self._captured, self._symbolic, self._identity = captured, symbolic, identity
        self._seen: dict[int, int] = {}

    def flatten(self, item: Any) -> tuple[Any, ...]:
        """Append the numbers of `item` and return its structure.

        Raises:
            InputError: for an object that is neither a number nor a container of numbers; the message says where.
        """
        kind = item.__class__
        if kind in NUMBER_TYPES:
            self.numbers.append(item if kind is float else float(number(item)))
            return NUMBER
        if kind is np.ndarray:
            return self._flatten_array(item)
        if kind is list or kind is tuple:
            if item and set(map(type, item)) <= NUMBER_TYPES:
                self.numbers.extend(item if set(map(type, item)) == {float} else map(number, item))
                return "numbers", kind, len(item)
            return "items", kind, self._flatten_items(item)
        if isinstance(item, Value):
            return self._flatten_value(item)
        if item is None or isinstance(item, (str, bool, np.bool_)):
            return "static", Static(item)
        if isinstance(item, dict):
            keys = tuple(item)
            items = tuple(zip(keys, self._flatten_items(item.values(), keys), strict=True))
            return "mapping", items, Static(keys)
        if isinstance(item, tuple) and hasattr(item, "_fields"):
            return "items", kind, self._flatten_items(item, item._fields)
        if callable(getattr(item, "parameters", None)):
            return "object", Same(item)
        try:
            self.numbers.append(float(number(item)))
        except InputError:
            raise InputError(
                f"expected a number, got {kind.__name__} {item!r:.60}; arguments are numbers, Values, arrays, lists, "
                "tuples and dicts of these, and objects with parameters(); anything else is for static_argnames"
            ) from None
        return NUMBER

    def _flatten_items(self, items: Any, names: Any = None) -> tuple[Any, ...]:
        structures = []
        for k, item in enumerate(items):
            try:
                structures.append(self.flatten(item))
            except InputError as error:
                place = f"[{names[k] if names is not None else k!r}]"
                raise InputError(f"{place}{'' if str(error).startswith('[') else ': '}{error}") from None
        return tuple(structures)

    def _flatten_value(self, value: Value) -> tuple[Any, ...]:
        if id(value) in self._captured:
            return "captured", Same(value)
        if value._primitive is CONSTANT:
            self.numbers.append(value._data)
            return NUMBER
        if not self._identity:
            self.numbers.append(value if self._symbolic else value._data)
            return NUMBER
        index = self._seen.get(id(value))
        if index is None:
            index = self._seen[id(value)] = len(self.values)
            self.values.append((value, len(self.numbers)))
        self.numbers.append(value if self._symbolic else value._data)
        return "value", index

    def _flatten_array(self, array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
        if array.dtype.kind in "fiub":
            self.numbers.extend(array.ravel().astype(float, copy=False).tolist())
            return "array", array.shape
        if array.dtype.kind == "O":
            return "objects", array.shape, self._flatten_items(array.ravel().tolist())
        raise InputError(f"expected an array of numbers, got one of dtype {array.dtype}")


def size(structure: tuple[Any, ...]) -> int:
    """How many numbers a structure takes."""
    kind = structure[0]
    if kind in ("number", "value"):
        return 1
    if kind == "numbers":
        return int(structure[2])
    if kind == "array":
        return int(np.prod(structure[1], dtype=np.int64))
    if kind in ("items", "objects"):
        return sum(size(item) for item in structure[2])
    if kind == "mapping":
        return sum(size(item) for _, item in structure[1])
    return 0


def unflatten(structure: tuple[Any, ...], leaves: Iterator[Any], array: Callable[[list[Any], Any], Any]) -> Any:
    """Put an argument together again from its leaves; static parts are what they were.

    Args:
        structure: what `flatten` returned.
        leaves: one object per number.
        array: makes an array from a flat list and a shape.
    """
    kind = structure[0]
    if kind in ("number", "value"):
        return next(leaves)
    if kind == "numbers":
        return structure[1](next(leaves) for _ in range(structure[2]))
    if kind == "array":
        return array([next(leaves) for _ in range(size(structure))], structure[1])
    if kind == "objects":
        return array([unflatten(item, leaves, array) for item in structure[2]], structure[1])
    if kind == "items":
        items = [unflatten(item, leaves, array) for item in structure[2]]
        return structure[1](*items) if hasattr(structure[1], "_fields") else structure[1](items)
    if kind == "mapping":
        return {key: unflatten(item, leaves, array) for key, item in structure[1]}
    if kind == "static":
        return structure[1].value
    held = structure[1].held
    return held.copy() if isinstance(held, np.ndarray) else held  # a result of numbers is the caller's own


def gradient_structure(structure: tuple[Any, ...]) -> tuple[Any, ...]:
    """The structure of a gradient: its argument's, with 0.0 for truth values and None for what else is static."""
    kind = structure[0]
    if kind == "static":
        return "static", Static(0.0 if isinstance(structure[1].value, (bool, np.bool_)) else None)
    if kind in ("object", "captured"):
        return "static", Static(None)
    if kind in ("items", "objects"):
        return kind, structure[1], tuple(map(gradient_structure, structure[2]))
    if kind == "mapping":
        return kind, tuple((key, gradient_structure(item)) for key, item in structure[1]), structure[2]
    return structure


def float_array(numbers: list[float], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """An array of floats from a flat list."""
    return np.array(numbers, dtype=float).reshape(shape)


def object_array(items: list[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """An array of objects (`Value`s) from a flat list."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def places(structure: tuple[Any, ...], prefix: str) -> list[str]:
    """A name for each number of a structure: `x`, `x0`, `x_1_2`, `x_weight0`."""
    kind = structure[0]
    if kind in ("number", "value"):
        return [prefix]
    if kind == "numbers":
        return [_joined(prefix, k) for k in range(structure[2])]
    if kind == "array":
        shape = structure[1]
        if len(shape) == 1:
            return [_joined(prefix, k) for k in range(shape[0])]
        return ["_".join([prefix, *map(str, place)]) for place in np.ndindex(shape)]
    if kind in ("items", "objects"):
        return [name for k, item in enumerate(structure[2]) for name in places(item, _joined(prefix, k))]
    if kind == "mapping":
        return [name for key, item in structure[1] for name in places(item, f"{prefix}_{key}")]
    return []


def _joined(prefix: str, k: int) -> str:
    return f"{prefix}_{k}" if prefix[-1:].isdigit() else f"{prefix}{k}"


def describe(structure: tuple[Any, ...]) -> str:
    """A structure in words, for error messages.

    >>> describe(("items", list, (("number",), ("array", (3, 2)))))
    'list of (number, array of shape (3, 2))'
    """
    kind = structure[0]
    if kind == "numbers":
        return f"{structure[1].__name__} of {structure[2]} numbers"
    if kind == "array":
        return f"array of shape {structure[1]}"
    if kind == "objects":
        return f"object array of shape {structure[1]}"
    if kind == "items":
        return f"{structure[1].__name__} of ({', '.join(map(describe, structure[2]))})"
    if kind == "mapping":
        return f"dict of ({', '.join(f'{key!r}: {describe(item)}' for key, item in structure[1])})"
    if kind == "static":
        return repr(structure[1])
    if kind == "object":
        return type(structure[1].held).__name__
    return "Value" if kind in ("value", "captured") else "number"
