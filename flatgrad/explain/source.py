"""The user's lines."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..runtime.sites import Location, cell_of, lines_of
from .lines import Line, fold

#: So many lines around a line that computes something are shown; lines that are nearer than twice that are one piece.
_AROUND, _GAP = 2, 8
#: What stands in place of a line that no file has, as of code that was put together.
UNKNOWN = "# the text of this line is not known"


def source_lines(locations: Sequence[Location], title: str) -> tuple[list[Line], dict[Location, Line]]:
    """The lines of the user's source around some locations, and the line of each location.

    Without any location, the title stands in place of the source.
    """
    lines: list[Line] = []
    places: dict[Location, Line] = {}
    if not locations:
        lines.append(Line(title, "s0"))
        return lines, {}
    for filename in dict.fromkeys(location.filename for location in locations):
        text = [line.rstrip("\n") for line in lines_of(filename)]
        used = {location.line: location for location in locations if location.filename == filename}
        lines.append(Line(cell_of(filename) or os.path.basename(filename), facts={"head": True}))
        shown = sorted({k for line in used for k in range(line - _AROUND, line + _AROUND + 1) if 1 <= k <= len(text)})
        shown = sorted({*shown, *used})
        before = 0
        for number in shown:
            if number - before > _GAP and before:
                lines.append(fold("...", number - before - 1))
            elif before:
                lines += [Line(text[k - 1], facts={"number": k}) for k in range(before + 1, number)]
            before = number
            line = Line(text[number - 1] if number <= len(text) else UNKNOWN, facts={"number": number})
            if number in used:
                line.id = f"s{len(places)}"
                places[used[number]] = line
            lines.append(line)
    return _dedented(lines), places


def _dedented(lines: list[Line]) -> list[Line]:
    """The lines without the blanks that all of them begin with."""
    texts = [line.text for line in lines if "number" in line.facts and line.text.strip()]
    margin = min((len(text) - len(text.lstrip()) for text in texts), default=0)
    for line in lines:
        if "number" in line.facts:
            line.text = line.text[margin:]
    return lines
