"""How many examples tests draw: a share of the numbers that they state, unless the environment asks for all.

Which slow tests run: `FLATGRAD_TEST_SLOW` is "all", "none", or a part such as "2/4", the second quarter of them.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterable
from typing import Any

import pytest


def _part(text: str) -> tuple[int, int]:
    part, parts = map(int, {"all": "1/1", "none": "0/1"}.get(text, text).split("/"))
    if not 0 <= part <= parts:
        raise ValueError(f"FLATGRAD_TEST_SLOW={text!r} is not all, none, or a part such as 2/4")
    return part, parts


#: The share. Machines that run the tests at each change draw few; `FLATGRAD_TEST_EXAMPLES=1` draws all.
SHARE = float(os.environ.get("FLATGRAD_TEST_EXAMPLES", "0.25"))
#: So few are all drawn.
LEAST = 8
#: The part of the slow tests that runs, counted from 1, and the number of parts.
PART, PARTS = _part(os.environ.get("FLATGRAD_TEST_SLOW", "all"))


def left_out(test: str) -> bool:
    """Whether a slow test of this name is in none of the parts that run; the same in each process."""
    return zlib.crc32(test.encode()) % PARTS + 1 != PART


def examples(count: int) -> int:
    """How many examples to draw in place of `count`."""
    return max(min(count, LEAST), round(count * SHARE))


def repeats(count: int) -> int:
    """How often to repeat what draws its numbers itself, in place of `count` times."""
    return max(1, round(count * SHARE))


def crossed(first: Iterable[Any], second: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Parameters of a test that depend little on each other, such as functions and back ends, in pairs.

    With all examples, each of the first with each of the second; else the first in order beside the second in order,
    the shorter ones again and again, so that each occurs, and always in the same pairs.
    """
    first, second = list(first), list(second)
    if SHARE >= 1.0:
        return list(itertools.product(first, second))
    turns = range(max(len(first), len(second)))
    return [(first[k % len(first)], second[k % len(second)]) for k in turns]


def slow(parameters: Iterable[Any], *values: Any) -> list[Any]:
    """Parameters of a test; with these values, alone or beside others, it takes long and counts as a slow test."""

    def is_slow(parameter: Any) -> bool:
        parts = parameter if type(parameter) is tuple else (parameter,)
        return any(part is value or part == value for part in parts for value in values if type(part) is type(value))

    listed = list(parameters)
    return [
        pytest.param(*(each if type(each) is tuple else (each,)), marks=pytest.mark.slow) if is_slow(each) else each
        for each in listed
    ]


def mostly_slow(values: Iterable[Any], every: int = 4) -> list[Any]:
    """Parameters of a test that has many of one kind: each `every`-th runs always, the others are slow tests."""
    return [pytest.param(v, marks=pytest.mark.slow) if k % every else v for k, v in enumerate(values)]


def named(value: Any) -> str:
    """A parameter in the name of a test: a function by its name, a tuple by its functions, numbers and texts."""
    if isinstance(value, tuple):
        return "-".join(named(item) for item in value if callable(item) or isinstance(item, int | str))
    return str(getattr(value, "__name__", value))
