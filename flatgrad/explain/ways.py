"""Which way a page is of, where a function branches on numbers, and which other ones calls have gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ..compiler.program.ways import Way, WaysOfRounds
from ..runtime.sites import Location
from .lines import Line

#: A way, or ways that differ in a number of rounds, with how many calls have gone it, if that is counted.
Known: TypeAlias = tuple[Way | WaysOfRounds, int | None]


def ways_shown(way: Way, known: Sequence[Known], places: Mapping[Location, Line]) -> list[dict[str, Any]]:
    """The ways that are known, as data: this one, and the others. Source lines get the truth values that they met.

    Args:
        way: the one that a page is of.
        known: those that calls with such arguments have gone; nothing where that is not known.
        places: the source lines.

    Example:
        >>> line = Location("model.py", 3)
        >>> other, this = Way((True,), (line,)), Way((True, False), (line, line))
        >>> source = Line("while x > 1.0:", "s0")
        >>> [(each["here"], each["calls"], each["lines"]) for each in ways_shown(this, [(other, 12)], {line: source})]
        [(True, None, [('model.py:3', 'True, then False', 's0')]), (False, 12, [('model.py:3', 'True', 's0')])]
        >>> source.facts["ways"]
        [(1, True, 'True, then False'), (2, False, 'True')]
    """
    if not way.truths:
        return []
    found = [(each, calls, _goes(each, way)) for each, calls in known]
    here = next((calls for each, calls, goes in found if goes), None)
    own = {str(location): line for location, line in places.items()}
    shown = []
    for number, (each, calls) in enumerate([(way, here), *((each, n) for each, n, goes in found if not goes)], 1):
        lines = []
        for text in str(each).splitlines():
            place, _, truths = text.strip().partition(": ")
            line = own.get(place)
            lines.append((place, truths, line.id if line is not None else ""))
            if line is not None:
                known_here = line.facts.setdefault("ways", [])
                if known_here and known_here[-1][0] == number:  # other lines were asked in between
                    truths = f"{known_here.pop()[2]}, then {truths}"
                known_here.append((number, number == 1, truths))
        shown.append({"here": number == 1, "calls": calls, "lines": lines})
    return shown


def _goes(known: Way | WaysOfRounds, way: Way) -> bool:
    """Whether a way is this one, or one of these."""
    if isinstance(known, WaysOfRounds):
        return known.rounds.count(way) is not None
    return known.truths == way.truths
