"""Comparing floats bit for bit, and exceptions by the built-in class that they stand for."""

from __future__ import annotations

import struct
from collections.abc import Iterable

#: The built-in classes by which two engines' exceptions are compared.
ARITHMETIC = (ZeroDivisionError, OverflowError, ValueError, IndexError)


def bits(number: float) -> str:
    """The bits of a float, as hexadecimal digits; every NaN is the same NaN."""
    assert type(number) is float, f"expected a float, got {type(number).__name__} {number!r}"
    return "nan" if number != number else struct.pack(">d", number).hex()


def same_bits(left: float, right: float) -> bool:
    """Whether two floats are the same: signed zeros differ, NaNs do not."""
    return bits(left) == bits(right)


def all_bits(numbers: Iterable[float]) -> list[str]:
    """The bits of several floats."""
    return [bits(number) for number in numbers]


def assert_same(actual: Iterable[float], expected: Iterable[float], what: object = "") -> None:
    """Fail with both lists unless they hold the same floats, bit for bit."""
    actual, expected = list(actual), list(expected)
    assert all_bits(actual) == all_bits(expected), f"{what}\n  got      {actual}\n  expected {expected}"


def builtin_class(error: BaseException) -> type[BaseException]:
    """The built-in arithmetic exception that `error` is an instance of."""
    for kind in ARITHMETIC:
        if isinstance(error, kind):
            return kind
    raise error
