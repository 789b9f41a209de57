"""The table that docs/performance.md shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        workload: what is measured.
        target: what we are after; it is not printed.
        measured: the figures.
    """

    workload: str
    target: str
    measured: str


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| workload | measured |", "| --- | --- |"]
    return "\n".join(lines + [f"| {row.workload} | {row.measured} |" for row in rows])
