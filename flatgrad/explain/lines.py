"""Lines of text with links to other lines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Line:
    """A line of one of the texts that are shown.

    Attributes:
        text: the line.
        id: by which others link to it; empty if nothing does.
        links: the ids of the lines that it came from, or became.
        facts: what else is known of it.
    """

    text: str
    id: str = ""
    links: set[str] = field(default_factory=set)
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The line as data."""
        named = {"id": self.id, "links": sorted(self.links, key=_order)} if self.id else {}
        return {"text": self.text, **named, **self.facts}


def _order(name: str) -> tuple[str, int]:
    return name[0], int(name[1:])


def link(a: Line, b: Line) -> None:
    """Link two lines, both ways."""
    a.links.add(b.id)
    b.links.add(a.id)


def fold(text: str, count: int) -> Line:
    """The line in place of some that are left out."""
    return Line(text, facts={"fold": count})


def folded(count: int, kept: Collection[int], what: str, ends: int = 2, least: int = 4) -> Iterator[int | Line]:
    """Which of so many lines are shown: those that are kept, and `ends` on both sides.

    A line stands in place of each run of others. Runs of fewer than `least` lines stay.

    >>> [k if isinstance(k, int) else k.text for k in folded(20, [0, 10], "line")]
    [0, 1, 2, '... 5 lines ...', 8, 9, 10, 11, 12, '... 7 lines ...']
    """
    near = sorted({k + d for k in kept for d in range(-ends, ends + 1) if 0 <= k + d < count})
    for before, k in itertools.pairwise([-1, *near, count]):
        others = k - before - 1
        if others < least:
            yield from range(before + 1, k)
        else:
            yield fold(f"... {others:,} {what}s ...", others)
        if k < count:
            yield k


def number(value: Any) -> Any:
    """A number as JSON has it: what is not finite is text.

    >>> [number(item) for item in (0.1, float("inf"), float("nan"), True, None)]
    [0.1, 'inf', 'nan', True, None]
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def by_id(panes: Iterable[Iterable[Line]]) -> dict[str, Line]:
    """All lines that have an id."""
    return {line.id: line for lines in panes for line in lines if line.id}
