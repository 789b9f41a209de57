"""Groups: how the inputs and outputs of a program travel together."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

#: What can be sliced: a list or an array.
_Sliced = TypeVar("_Sliced", bound=Any)


class Group(NamedTuple):
    """Consecutive inputs (or outputs) that travel together: one argument of the kernel (or one result).

    A scalar group is one number; any other is a flat list of `size` numbers.
    """

    name: str
    size: int
    scalar: bool


def default_names(groups: Sequence[Group]) -> list[str]:
    """Names for the inputs of groups: `x` for a scalar, `x0`, `x1`, ... for a list.

    >>> default_names([Group("x", 2, False), Group("y", 1, True)])
    ['x0', 'x1', 'y']
    """
    return list(_names(tuple(groups)))


@functools.lru_cache(maxsize=16)
def _names(groups: tuple[Group, ...]) -> tuple[str, ...]:
    """The same; for large arguments it takes longer than most that is done with them."""
    return tuple(n for g in groups for n in ([g.name] if g.scalar else [f"{g.name}{k}" for k in range(g.size)]))


def grouped(groups: Sequence[Group], items: _Sliced) -> Iterator[tuple[Group, _Sliced]]:
    """Each group with those of the items, one per number, that are its own.

    >>> dict(grouped([Group("x", 2, False), Group("y", 1, True)], [10, 20, 30]))
    {Group(name='x', size=2, scalar=False): [10, 20], Group(name='y', size=1, scalar=True): [30]}
    """
    start = 0
    for group in groups:
        yield group, items[start : start + group.size]
        start += group.size
