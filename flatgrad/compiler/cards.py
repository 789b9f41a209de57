"""What notebooks show of kernels and of compiled functions: a card with panes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..display.listing import screens
from ..display.markup import card, code, escaped, pairs, panes, table
from ..runtime.errors import FlatgradError
from ..runtime.wording import count_of
from .program.program import Program

#: Screens of listings have so many lines; what is longer than two of them is abridged.
_HEIGHT = 40
#: Stages of kernels of more equations are shown if they are there; making them would take seconds.
_MANY = 300_000
#: So many kernels of a function are listed, and so many captured things of a kernel.
_LISTED = 20
#: A text in a table has at most so many characters.
_LONGEST = 160


def kernel_card(kernel: Any) -> str:
    """A kernel, with its source, program, loops and sizes."""
    stats = kernel.stats
    note = f"{count_of(stats.equations, 'equation')}; {stats.backend!r} runs: {stats.reason}"
    return card(f"{type(kernel).__name__} {kernel.name}", panes(kernel_sections(kernel)), note=note, wide=True)


def kernel_sections(kernel: Any) -> list[tuple[str, str]]:
    """The panes of a kernel: titles and contents."""
    sections = [("source", _listing(kernel, "source", lambda: screens(kernel.source, _HEIGHT)))]
    if hasattr(type(kernel), "program"):
        sections.append(("program", _listing(kernel, "program", lambda: _abridged(kernel.program))))
    sections.append(("arrays", _listing(kernel, "arrays", lambda: screens(str(kernel.arrays), _HEIGHT))))
    sections.append(("statistics", pairs(kernel.stats.rows())))
    captured = getattr(kernel, "captured", None)
    names = dict(captured) if isinstance(captured, dict) else {}
    if names:
        shown = [(name, _short(names[name])) for name in list(names)[:_LISTED]]
        shown += [("...", f"{len(names) - _LISTED:,} more")] if len(names) > _LISTED else []
        sections.append(("captured", pairs(shown)))
    way = getattr(kernel, "way", None)
    if way is not None and way.truths:
        sections.append(("way", code(screens(str(way), _HEIGHT))))
    return sections


def _abridged(program: Program) -> str:
    return program.abridged(_HEIGHT)


def _listing(kernel: Any, name: str, make: Callable[[], str]) -> str:
    """A listing, or why there is none."""
    if kernel.stats.equations > _MANY and kernel.backend != "python" and "arrays" not in vars(kernel.stages):
        count = count_of(kernel.stats.equations, "equation")
        return f'<p class="note">Not made yet for {count}: print(kernel.{name}) makes and shows it.</p>'
    try:
        return code(make())
    except FlatgradError as error:
        return f'<p class="note">{escaped(error)}</p>'


def _short(item: Any) -> str:
    text = repr(item)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def function_card(title: str, choices: dict[str, str], kernels: Sequence[tuple[str, Any]], calls: str) -> str:
    """A compiled function: what was chosen, a line per kernel, and the panes of the last one.

    Args:
        title: what it is.
        choices: the options, as texts by their names.
        kernels: per kernel the arguments that it is for, in words.
        calls: how kernels are made, for a function that has none yet.
    """
    options = ", ".join(f"{name}={text}" for name, text in choices.items())
    if not kernels:
        return card(title, note=f"{options}. {calls}")
    heads = ["arguments", "back end", "equations", "statements", "made in"]
    rows = [_row(arguments, kernel) for arguments, kernel in kernels[-_LISTED:]]
    parts = [table(*_without_empty(heads, rows))]
    if len(kernels) > _LISTED:
        parts.append(f'<p class="note">The last {_LISTED} of {len(kernels):,} kernels.</p>')
    if len(kernels) > 1:
        parts.append('<p class="note">The last one of these:</p>')
    return card(title, *parts, panes(kernel_sections(kernels[-1][1])), note=options, wide=True)


def _row(arguments: str, kernel: Any) -> list[object]:
    stats, stages = kernel.stats, kernel.stages
    arrays = vars(stages).get("arrays") if stats.backend != "python" else None
    statements = sum(len(each.statements) for each in arrays) if isinstance(arrays, list) else ""
    seconds = f"{stats.trace_seconds + stats.compile_seconds:.3f} s"
    return [_cut(arguments), stats.backend, stats.equations, statements, seconds]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _without_empty(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> tuple[list[str], Iterable[list[object]]]:
    """A table without the columns in which there is nothing."""
    kept = [k for k in range(len(heads)) if any(row[k] != "" for row in rows)]
    return [heads[k] for k in kept], [[row[k] for k in kept] for row in rows]
