"""Kinds of arguments: fast keys."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np

from flatgrad.compiler.calls.array_kinds import Array, Numbers, Objects
from flatgrad.compiler.calls.exact import Static
from flatgrad.compiler.calls.kind import KINDS, Kind
from flatgrad.compiler.calls.kinds import Constant, Items, Mapping, Record
from flatgrad.compiler.calls.number_kinds import NUMBER, Number

ALL = [
    NUMBER, Array((3,)), Array((3, 1)), Array(()), Numbers(list, 3), Numbers(tuple, 3), Numbers(list, 4),
    Items(list, (NUMBER,)), Items(tuple, (NUMBER,)), Items(list, (NUMBER, Array((2,)))), Objects((3,), (NUMBER,) * 3),
    Mapping(Static(("a",)), (NUMBER,)), Mapping(Static(("b",)), (NUMBER,)), Mapping(Static((1,)), (NUMBER,)),
    Mapping(Static((True,)), (NUMBER,)), Constant(Static(1)), Constant(Static(True)), Constant(Static(None)),
    Record(Fraction, (NUMBER,), ("a",)), Record(Fraction, (NUMBER,), ("b",)), Record(Decimal, (NUMBER,), ("a",)),
]  # fmt: skip


def test_kinds_are_equal_where_all_that_they_say_is():
    for k, kind in enumerate(ALL):
        assert kind == type(kind)(*tuple(kind)[1:])
        assert hash(kind) == hash(type(kind)(*tuple(kind)[1:]))
        assert [each for each in ALL if each == kind] == [ALL[k]]
    assert len(set(ALL)) == len(ALL)


def test_keys_are_hashed_and_compared_by_cpython_itself():
    for kind in KINDS:
        assert issubclass(kind, Kind)
        assert kind.__hash__ is tuple.__hash__
        assert kind.__eq__ is tuple.__eq__


def test_the_types_of_numbers():
    for item in (1, 1.0, np.float64(1.0), np.float32(1.0), np.int64(1), np.int32(1)):
        assert type(item) in Number.types
