"""Lines of text with links to other lines."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
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


def folded(lines: Sequence[Line], kept: Collection[int], what: str, ends: int = 2, least: int = 4) -> list[Line]:
    """The lines that are kept, and `ends` on both sides of them; a line in place of each run of others.

    Runs of fewer than `least` lines stay.

    >>> [line.text for line in folded([Line(str(k)) for k in range(20)], [0, 10], "line")]
    ['0', '1', '2', '... 5 lines ...', '8', '9', '10', '11', '12', '... 7 lines ...']
    """
    near = {k + d for k in kept for d in range(-ends, ends + 1)}
    result: list[Line] = []
    waiting: list[Line] = []
    for k, line in enumerate([*lines, None]):
        if line is not None and k not in near:
            waiting.append(line)
            continue
        if len(waiting) < least:
            result += waiting
        else:
            result.append(fold(f"... {len(waiting):,} {what}s ...", len(waiting)))
        waiting = []
        if line is not None:
            result.append(line)
    return result


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
