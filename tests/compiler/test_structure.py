"""Structures of arguments: which values share a kernel."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.compiler.calls.exact import Static


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: float
    y: float


class Pair(NamedTuple):
    x: float
    y: float


@dataclass(frozen=True)
class Setting:
    rate: float


class Fixed(float):
    """A float with a type of its own."""


@dataclass(frozen=True)
class Named:
    parts: list[int]
    name: str

    def __hash__(self) -> int:
        return hash(self.name)


DIFFERENT = [
    (0.0, -0.0),
    (np.float64(0.0), np.float64(-0.0)),
    (np.float32(0.0), np.float32(-0.0)),
    (np.float16(0.0), np.float16(-0.0)),
    (np.longdouble(0.0), np.longdouble(-0.0)),
    (1.0, math.nextafter(1.0, 2.0)),
    (np.longdouble(1.0), np.nextafter(np.longdouble(1.0), np.longdouble(2.0))),
    (0.0, np.float64(0.0)),
    (0.5, np.float32(0.5)),
    (1, 1.0),
    (1, True),
    (1, np.int64(1)),
    (np.int32(1), np.int64(1)),
    (True, np.bool_(True)),
    (1, Level.LOW),
    (1, Fraction(1)),
    (0.5, Fraction(1, 2)),
    (0.0, Fixed(0.0)),
    (Fixed(0.0), Fixed(-0.0)),
    (complex(0.0, 0.0), complex(0.0, -0.0)),
    (complex(0.0, 0.0), complex(-0.0, 0.0)),
    (np.complex128(0.0), np.complex128(complex(0.0, -0.0))),
    (complex(1.0), 1.0),
    (Decimal("1.0"), Decimal("1.00")),
    (Decimal("0"), Decimal("-0")),
    ((0.0,), (-0.0,)),
    (((1, (2.0, 0.0)),), ((1, (2.0, -0.0)),)),
    ((1, 2), (True, 2)),
    ((np.float64(0.0),), (np.float64(-0.0),)),
    (Point(0.0, 1.0), Point(-0.0, 1.0)),
    (Point(0.0, 1.0), Pair(0.0, 1.0)),
    (Point(0.0, 1.0), (0.0, 1.0)),
    (frozenset({0.0}), frozenset({-0.0})),
    (frozenset({1}), frozenset({True})),
    ((frozenset({(0.0,)}),), (frozenset({(-0.0,)}),)),
    (range(0, 3, 2), range(0, 4, 2)),
    (Setting(0.0), Setting(-0.0)),
    (b"a", "a"),
    (np.datetime64("2020"), np.datetime64("2020-01-01")),
    (Colour.RED, Colour.GREEN),
    (None, False),
]

SAME = [
    (math.nan, float("nan")),
    (math.nan, -math.nan),
    (np.float64("nan"), np.float64("nan")),
    (np.float32("nan"), np.float32("nan")),
    (np.longdouble("nan"), np.longdouble("nan")),
    (complex(math.nan, 0.0), complex(float("nan"), 0.0)),
    (Decimal("NaN"), Decimal("NaN")),
    (np.datetime64("NaT", "s"), np.datetime64("NaT", "s")),
    ((math.nan, (1,)), (float("nan"), (1,))),
    (frozenset({math.nan}), frozenset({float("nan")})),
    (Point(math.nan, 0.0), Point(float("nan"), 0.0)),
    (-0.0, -0.0),
    (np.float64(-0.0), np.float64(-0.0)),
    (Fraction(2, 4), Fraction(1, 2)),
    (10**30, 10**30),
    (b"ab", bytes([97, 98])),
    (Setting(0.5), Setting(0.5)),
    (Colour.RED, Colour["RED"]),
    (range(3), range(0, 3, 1)),
    (frozenset({1, (2.0, "a")}), frozenset({(2.0, "a"), 1})),
    (Named([1], "a"), Named([1], "a")),
]


def kinds(pair):
    """A name that is the same in every process: a set has no order."""
    texts = [sorted(map(str, item)) if isinstance(item, frozenset) else item for item in pair]
    return f"{type(pair[0]).__name__}-{texts[0]}-{texts[1]}"


@pytest.mark.parametrize(("a", "b"), DIFFERENT, ids=map(kinds, DIFFERENT))
def test_static_values_that_differ(a, b):
    assert Static(a) != Static(b)
    assert len({Static(a), Static(b)}) == 2


@pytest.mark.parametrize(("a", "b"), SAME, ids=map(kinds, SAME))
def test_static_values_that_are_the_same(a, b):
    assert Static(a) == Static(b)
    assert len({Static(a), Static(b)}) == 1


def test_what_cannot_be_hashed_is_no_static_value():
    class Unhashable:
        __hash__ = None

    for value in (Unhashable(), [Unhashable()], {1: (2, Unhashable())}, slice(0, Unhashable())):
        with pytest.raises(TypeError):
            Static(value)


def test_the_kernels_of_static_numbers():
    """Each of two zeros has its own kernel, and all NaNs have one."""
    value = fg.value_and_grad(lambda x, z: x * z, static_argnames="z")
    assert [math.copysign(1.0, value(1.0, z)[0]) for z in (np.float64(0.0), np.float64(-0.0), 0.0, -0.0)] == [
        1.0,
        -1.0,
        1.0,
        -1.0,
    ]
    assert len(value.kernels) == 4
    for _ in range(3):
        assert math.isnan(value(1.0, float("nan"))[0])
    assert len(value.kernels) == 5


def test_the_keys_of_a_dict_belong_to_the_structure():
    """A gradient has the keys that its argument has, and the function sees them as they are."""

    def weighted(items):
        return sum(item * (2.0 if isinstance(key, bool) else 1.0) for key, item in items.items())

    slope = fg.grad(weighted)
    assert slope({0: 1.0, 1: 2.0}) == {0: 1.0, 1: 1.0}
    gradient = slope({False: 1.0, True: 2.0})
    assert [(type(key), number) for key, number in gradient.items()] == [(bool, 2.0), (bool, 2.0)]
    assert len(slope.kernels) == 2
