"""The table of a model's parts, as text and in notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from ..display.markup import card, table

_HEADS = "part", "kind", "shape", "parameters"


class Summary(str):
    """A table as text: it prints, and compares, as that. Notebooks show it as a table.

    Example:
        >>> summary = Summary.of("Line", [("w", "parameters", "(2,)", 2), ("b", "parameters", "()", 1)], 3)
        >>> summary
        Line
        part   kind        shape  parameters
        ------------------------------------
        w      parameters  (2,)            2
        b      parameters  ()              1
        ------------------------------------
        total                              3
    """

    __slots__ = ("_rows", "_title", "_total")
    _title: str
    _rows: list[tuple[str, str, str, int]]
    _total: int

    @classmethod
    def of(cls, title: str, rows: Sequence[tuple[str, str, str, int]], total: int) -> Self:
        """The summary of a model.

        Args:
            title: the kind of the model.
            rows: of each part its name, kind, shape, and number of parameters.
            total: the number of all parameters.
        """
        summary = cls(_text(title, rows, total))
        summary._title, summary._rows, summary._total = title, list(rows), total
        return summary

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """How notebooks show it."""
        return card(self._title, table(_HEADS, self._rows, ("total", "", "", self._total)))


def _text(title: str, rows: Sequence[tuple[str, str, str, int]], total: int) -> str:
    lines = [_HEADS]
    lines += [(name, kind, shape, f"{count:,}") for name, kind, shape, count in rows]
    lines.append(("total", "", "", f"{total:,}"))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    texts = [
        f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {shape:<{widths[2]}}  {count:>{widths[3]}}"
        for name, kind, shape, count in lines
    ]
    rule = "-" * len(texts[0])
    return "\n".join([title, texts[0], rule, *texts[1:-1], rule, texts[-1]])
