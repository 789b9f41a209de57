"""Kinds of numbers: a float or an int, and truth values that functions return."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from ...runtime.primitives import equal, logical_not, number
from ...runtime.value import Value
from ..machine import builtin
from ..machine.builtin import Part
from .kind import (
    ArrayMaker,
    BinderSource,
    Flattener,
    Kind,
    OnlyArgumentsError,
)


class Number(Kind):
    """One number: an int, a float, a NumPy scalar."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = (float, int, np.float64, np.float32, np.int64, np.int32)
    scalar: ClassVar[bool] = True

    @classmethod
    def take(cls, item: Any, flattener: Flattener) -> Kind:
        flattener.numbers.append(item if type(item) is float else float(number(item)))
        if not flattener.integers:
            return NUMBER
        return INTEGER if isinstance(item, _INTEGERS) else FLOAT

    def words(self, shape: Sequence[Any]) -> str:
        return "number"

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return next(numbers)

    def of_group(self, group: Any, array: ArrayMaker) -> Any:
        return group

    def check(self, name: str, source: BinderSource) -> list[str]:
        source.checks.append(f"{name}.__class__ in NUMBERS")
        return [name]

    def passed(self, name: str, source: BinderSource) -> str:
        return f"float({self.check(name, source)[0]})"

    def returned(self, name: str, source: BinderSource) -> str:
        return name

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        return f"{name}.item({at})" if source.arrays else f"{name}[{at}]"

    def part(self) -> Part:
        return Part(builtin.NUMBER)


class Ints(Kind):
    """Ints, where a function uses them as such: floats in their place are of another kind."""

    __slots__ = ()

    def ints(self) -> list[bool]:
        return [True] * self.size

    def part(self) -> Part:
        raise OnlyArgumentsError


class Integer(Ints, Number):
    """One int."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = ()

    def words(self, shape: Sequence[Any]) -> str:
        return "int"

    def gradient(self) -> Kind:
        return NUMBER

    def check(self, name: str, source: BinderSource) -> list[str]:
        source.checks.append(f"{name}.__class__ in INTEGERS")
        return [name]


class Float(Number):
    """One float, where a function uses ints as such, or asks for classes: ints in its place are of another kind."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = ()

    def gradient(self) -> Kind:
        return NUMBER

    def check(self, name: str, source: BinderSource) -> list[str]:
        source.checks.append(f"{name}.__class__ in FLOATS")
        return [name]

    def part(self) -> Part:
        raise OnlyArgumentsError


def is_true(item: Any) -> Any:
    """Whether a number is not 0: of a `Value` a condition."""
    return logical_not(equal(item, 0.0)) if isinstance(item, Value) else item != 0.0


class Truth(Number):
    """A truth value that a function returns: in the program 1.0 or 0.0."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = ()

    def words(self, shape: Sequence[Any]) -> str:
        return "truth value"

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return is_true(next(numbers))

    def of_group(self, group: Any, array: ArrayMaker) -> Any:
        return is_true(group)

    def returned(self, name: str, source: BinderSource) -> str:
        return f"{source.constant(is_true)}({name})"

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        return f"{source.constant(is_true)}({super().picked(name, at, source)})"

    def part(self) -> Part:
        raise OnlyArgumentsError


class NumberInGroup(Number):
    """One number that the generated function returns as a list: what `has_aux` returns beside the value."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = ()

    def of_group(self, group: Any, array: ArrayMaker) -> Any:
        return Kind.of_group(self, group, array)

    def returned(self, name: str, source: BinderSource) -> str:
        return Kind.returned(self, name, source)


class TruthInGroup(Truth):
    """One truth value, likewise."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = ()

    def of_group(self, group: Any, array: ArrayMaker) -> Any:
        return Kind.of_group(self, group, array)

    def returned(self, name: str, source: BinderSource) -> str:
        return Kind.returned(self, name, source)


NUMBER = Number()
INTEGER: Final = Integer()
FLOAT: Final = Float()
TRUTH: Final = Truth()
#: The types that are taken for numbers without a closer look, and those of ints among them.
NUMBER_TYPES: Final = frozenset(Number.types)
INTEGER_TYPES: Final = frozenset({int, np.int64, np.int32})
FLOAT_TYPES: Final = NUMBER_TYPES - INTEGER_TYPES
_INTEGERS: Final = (int, np.integer)
