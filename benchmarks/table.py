"""The table that docs/performance.md shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table."""

    workload: str
    wanted: str
    measured: str


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| workload | must | measured |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {row.workload} | {row.wanted} | {row.measured} |" for row in rows])
