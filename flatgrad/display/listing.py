"""Listings: long texts abridged, and the tokens that are coloured in them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence

_TOKENS = re.compile(
    r"(?P<comment>\#[^\n]*)"
    r"|(?P<text>\"\"\".*?\"\"\")"
    r"|(?P<keyword>\b(?:def|return|for|in|if|else|from|import|lambda|and|or|not|program|repeat)\b)"
    r"|(?P<number>(?<![\w.])\d+\.?\d*(?:e[+-]?\d+)?)",
    re.DOTALL,
)
_UNPACKING = re.compile(r" +\S.* = \w+\[\d+:\d+\]")


def tokens(source: str) -> Iterator[tuple[str, str]]:
    """The pieces of a program in Python or in one of the package's notations, each with its kind.

    The kinds are "comment", "text" (a docstring), "keyword", "number" and "", for all that is between them.

    >>> list(tokens("return 2.0 * x"))
    [('keyword', 'return'), ('', ' '), ('number', '2.0'), ('', ' * x')]
    """
    end = 0
    for match in _TOKENS.finditer(source):
        if match.start() > end:
            yield "", source[end : match.start()]
        yield match.lastgroup or "", match[0]
        end = match.end()
    if end < len(source):
        yield "", source[end:]


def screens(source: str, height: int = 40) -> str:
    """The first and the last screen of a long text; long runs of similar lines are abridged.

    >>> print(screens("\\n".join("abcdefg"), height=2))
    a
    b
    <BLANKLINE>
        # ... 3 lines ...
    <BLANKLINE>
    f
    g
    """
    lines = source.rstrip("\n").split("\n")
    if len(lines) <= 2 * height:
        return "\n".join(lines)
    lines = _abridged(lines, lambda line: _UNPACKING.fullmatch(line) is not None)
    lines = _abridged(lines, lambda line: line.startswith(" " * 12))
    return two_screens(lines[:height], len(lines) - 2 * height, lines[-height:])


def two_screens(first: Sequence[str], omitted: int, last: Sequence[str]) -> str:
    """The first and the last lines of a text, and how many are left out."""
    return "\n".join([*first, "", f"    # ... {omitted:,} {'line' if omitted == 1 else 'lines'} ...", "", *last])


def _abridged(lines: list[str], test: Callable[[str], bool]) -> list[str]:
    """The lines, with the middle of each long run of lines that pass a test left out."""
    result: list[str] = []
    for passes, run in itertools.groupby(lines, test):
        part = list(run)
        if passes and len(part) > 8:
            part[2:-1] = [f"{part[0][: len(part[0]) - len(part[0].lstrip())]}# ... {len(part) - 3:,} lines ..."]
        result += part
    return result
