"""The numbers of lines in docs/architecture.md: `python -m tests.lines` writes them anew, a test says if it is time."""

from __future__ import annotations

import re
from pathlib import Path

import flatgrad

PACKAGE = Path(flatgrad.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"
#: The rooms of the table "Lines": folders with all that is in them, or files alone (`*.py`).
ROOMS = (
    "display", "runtime", "compiler/program", "compiler/loops", "compiler/languages", "compiler/machine",
    "compiler/calls", "compiler/transforms", "compiler/*.py", "nn", "tabular", "explain", "*.py",
)  # fmt: skip
#: A row of the tour: its number, a file, the file's lines.
TOUR = re.compile(r"^(\| \d+ \| `(.+?\.py)` \| )([\d,]+)( \|)", re.MULTILINE)
#: A row of "Lines": a room, lines before and now.
ROOM = re.compile(r"^(\| (?:`(.+?)`|\*\*(.+?)\*\*) \| [\d,]+ \| )([\d,]+)( \|)$", re.MULTILINE)


def lines_of(path: Path) -> int:
    """The lines of a file."""
    return path.read_text(encoding="utf-8").count("\n")


def files_of(room: str) -> list[Path]:
    """The files of a room."""
    return sorted(PACKAGE.glob(room) if room.endswith(".py") else (PACKAGE / room).rglob("*.py"))


def tour(text: str) -> list[Path]:
    """The files of the tour, in their order."""
    return [PACKAGE / row[2] for row in TOUR.finditer(text)]


def rewritten(text: str) -> str:
    """The page with the numbers of today."""
    counts = {room: sum(map(lines_of, files_of(room))) for room in ROOMS}
    counts["the package"] = sum(counts.values())
    counts["the spine"] = sum(map(lines_of, tour(text)))
    text = TOUR.sub(lambda row: f"{row[1]}{lines_of(PACKAGE / row[2]):,}{row[4]}", text)
    return ROOM.sub(lambda row: f"{row[1]}{counts[row[2] or row[3]]:,}{row[5]}", text)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
