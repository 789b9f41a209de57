"""Kinds of many numbers: arrays, and lists and tuples of nothing but numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, Final

import numpy as np

from ...runtime import arrays
from ...runtime.errors import InputError
from ...runtime.traced import as_truth
from ...runtime.value import Value
from ..machine import builtin
from ..machine.builtin import Part
from .kind import (
    ArrayMaker,
    BinderSource,
    Compound,
    Flattener,
    Kind,
    OnlyArgumentsError,
    container_source,
    field,
    joined,
    shape_source,
)
from .number_kinds import Ints, is_true

REMEDY_SIZE: Final = "Each size has kernels of its own; pad it to a few sizes, or pass it in pieces of one size"


class Array(Kind):
    """An array of numbers."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = (np.ndarray, arrays.Array)
    shape: Any = field(1)
    remedy = REMEDY_SIZE

    @classmethod
    def take(cls, item: Any, flattener: Flattener) -> Kind:
        if item.dtype.kind in "fiub":
            flattener.numbers.extend(item.ravel().astype(float, copy=False).tolist())
            if flattener.integers and item.dtype.kind in "iu":
                return IntegerArray(item.shape)
            return (Truths if item.dtype.kind == "b" else cls)(item.shape)
        if item.dtype.kind == "O":
            return Objects(item.shape, flattener.flatten_items(item.ravel().tolist()))
        raise InputError(f"expected an array of numbers, got one of dtype {item.dtype}")

    def words(self, shape: Sequence[Any]) -> str:
        return f"array of shape {shape_source(shape)}"

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return array(list(islice(numbers, self.size)), self.shape)

    def of_group(self, group: Any, array: ArrayMaker) -> Any:
        return group.reshape(self.shape) if isinstance(group, np.ndarray) else super().of_group(group, array)

    def names(self, prefix: str) -> list[str]:
        if len(self.shape) == 1:
            return [joined(prefix, k) for k in range(self.size)]
        return ["_".join([prefix, *map(str, place)]) for place in np.ndindex(self.shape)]

    def _flat(self, name: str) -> str:
        return name if len(self.shape) == 1 else f"{name}.ravel()"

    def _shaped(self, flat: str) -> str:
        return flat if len(self.shape) == 1 else f"{flat}.reshape({self.shape})"

    def check(self, name: str, source: BinderSource) -> list[str]:
        source.checks.append(
            f"{name}.__class__ is ndarray and {name}.dtype is float64 and {name}.shape == {self.shape}"
        )
        return [f"*{self._flat(name)}.tolist()"]

    def passed(self, name: str, source: BinderSource) -> str:
        numbers = self.check(name, source)[0]
        if not self.size:
            return ""
        return self._flat(name) if source.arrays else numbers[1:]

    def returned(self, name: str, source: BinderSource) -> str:
        return self._shaped(name) if source.arrays and self.size else self._from_list(name)

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        return self._from_list(f"{name}[{at}:{at + self.size}]")

    def _from_list(self, name: str) -> str:
        short = self.size <= 32
        return self._shaped(f"fromiter({name}, float64, {self.size})" if short else f"asarray({name})")

    def part(self) -> Part:
        if not self.size:
            raise OnlyArgumentsError
        return Part(builtin.ARRAY, self.shape)


class Truths(Array):
    """An array of truth values: numbers, which are not differentiated."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = ()

    def words(self, shape: Sequence[Any]) -> str:
        return f"array of truth values of shape {shape_source(shape)}"

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return array(list(map(as_truth, islice(numbers, self.size))), self.shape)

    def check(self, name: str, source: BinderSource) -> list[str]:
        raise OnlyArgumentsError

    def part(self) -> Part:
        raise OnlyArgumentsError


class ReturnedTruths(Array):
    """An array of truth values that a function returns: in the program 1.0 and 0.0."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = ()

    def words(self, shape: Sequence[Any]) -> str:
        return f"array of truth values of shape {shape_source(shape)}"

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        items = list(islice(numbers, self.size))
        is_plain = not any(isinstance(item, Value) for item in items)
        truths = list(map(is_true, items))
        return np.array(truths, dtype=bool).reshape(self.shape) if is_plain else array(truths, self.shape)

    def of_group(self, group: Any, array: ArrayMaker) -> Any:
        return group.reshape(self.shape) != 0.0 if isinstance(group, np.ndarray) else Kind.of_group(self, group, array)

    def returned(self, name: str, source: BinderSource) -> str:
        return f"({super().returned(name, source)} != 0.0)"

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        return f"({super().picked(name, at, source)} != 0.0)"

    def part(self) -> Part:
        raise OnlyArgumentsError


class IntegerArray(Ints, Array):
    """An array of ints."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = ()

    def words(self, shape: Sequence[Any]) -> str:
        return f"array of ints of shape {shape_source(shape)}"

    def gradient(self) -> Kind:
        return Array(self.shape)

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        items = list(islice(numbers, self.size))
        if all(type(item) is int for item in items):
            return np.array(items, dtype=int).reshape(self.shape)
        return array(items, self.shape)

    def check(self, name: str, source: BinderSource) -> list[str]:
        raise OnlyArgumentsError


class Numbers(Kind):
    """A list or tuple of numbers, and of nothing else."""

    __slots__ = ()
    container: Any = field(1)
    size: Any = field(2)
    remedy = REMEDY_SIZE

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    def words(self, shape: Sequence[Any]) -> str:
        return f"{self.container.__name__} of {shape[0]} numbers"

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return self.container(islice(numbers, self.size))

    def names(self, prefix: str) -> list[str]:
        return [joined(prefix, k) for k in range(self.size)]

    def check(self, name: str, source: BinderSource) -> list[str]:
        source.checks.append(
            f"{name}.__class__ is {self.container.__name__} and len({name}) == {self.size} "
            f"and set(map(type, {name})) <= NUMBERS"
        )
        return [f"*{name}"]

    def returned(self, name: str, source: BinderSource) -> str:
        flat = f"{name}.tolist()" if source.arrays else name
        return flat if self.container is list else f"tuple({flat})"

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        if not self.size:
            return container_source(self.container, [])
        numbers = f"{name}[{at}:{at + self.size}]" + ".tolist()" * source.arrays
        return numbers if self.container is list else f"tuple({numbers})"

    def part(self) -> Part:
        return Part(builtin.NUMBERS, (self.size,), container=self.container)


class Integers(Ints, Numbers):
    """A list or tuple of ints, and of nothing else."""

    __slots__ = ()

    def words(self, shape: Sequence[Any]) -> str:
        return f"{self.container.__name__} of {shape[0]} ints"

    def gradient(self) -> Kind:
        return Numbers(self.container, self.size)

    def check(self, name: str, source: BinderSource) -> list[str]:
        numbers = super().check(name, source)
        source.checks.append(f"set(map(type, {name})) <= INTEGERS")
        return numbers


class Floats(Numbers):
    """A list or tuple of floats, in the place of which ints are of another kind."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = ()

    def gradient(self) -> Kind:
        return Numbers(self.container, self.size)

    def check(self, name: str, source: BinderSource) -> list[str]:
        numbers = super().check(name, source)
        source.checks.append(f"set(map(type, {name})) <= FLOATS")
        return numbers

    def part(self) -> Part:
        raise OnlyArgumentsError


class Objects(Compound):
    """An array of `Value`s or numbers."""

    __slots__ = ()
    shape: Any = field(1)
    remedy = REMEDY_SIZE

    def words(self, shape: Sequence[Any]) -> str:
        return f"object array of shape {shape_source(shape)}"

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return array(self.items(numbers, array), self.shape)

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        return f"make_array([{', '.join(self.picked_items(name, at, source))}], {self.shape})"


def float_array(numbers: list[float], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """An array of floats from a flat list."""
    return np.array(numbers, dtype=float).reshape(shape)


def object_array(items: list[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A plain array of objects (`Value`s), for callers, from a flat list; traced functions get an `as_array`."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)
