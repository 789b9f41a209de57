"""HTML of what notebooks show: cards with tables, code and panes. All text is escaped, all markup well-formed."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Sequence

from .listing import tokens
from .style import STYLE

#: Panes of one object close each other. A number per object and process keeps those of others as they are.
_numbers = itertools.count(1)
#: The class of a token of each kind.
_CLASSES = {"comment": "comment", "text": "text", "keyword": "keyword", "number": "digits"}


def escaped(text: object) -> str:
    """Text as HTML; characters that documents must not contain are replaced.

    >>> escaped("a < b\\x00")
    'a &lt; b\\ufffd'
    """
    line = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(text))
    return html.escape(line)


def card(title: str, *parts: str, note: str = "", wide: bool = False) -> str:
    """An object: its title, a note, and parts that are HTML already.

    Args:
        title, note: texts.
        parts: pieces of HTML; empty ones are left out.
        wide: whether it takes the whole width, as code does.
    """
    head = f"<p><strong>{escaped(title)}</strong></p>" + (f'<p class="note">{escaped(note)}</p>' if note else "")
    kind = "flatgrad wide" if wide else "flatgrad"
    return f'<div class="{kind}"><style>{STYLE}</style>{head}{"".join(parts)}</div>'


def pairs(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and texts.

    >>> pairs([("data", 2.0)])
    '<table><tr><th scope="row">data</th><td>2.0</td></tr></table>'
    """
    texts = (f'<tr><th scope="row">{escaped(name)}</th><td>{escaped(text)}</td></tr>' for name, text in rows)
    return f"<table>{''.join(texts)}</table>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], total: Sequence[object] = ()) -> str:
    """A table with a line of heads, and one of totals below if there are any. Numbers stand at the right.

    >>> table(["part", "parameters"], [["w", 3]]).count("<tr>")
    2
    """
    rows = [list(row) for row in rows]
    columns = [[row[k] for row in rows if row[k] != ""] for k in range(len(head))]
    numeric = [bool(column) and all(isinstance(cell, int | float) for cell in column) for column in columns]
    marks = [' class="number"' if each else "" for each in numeric]
    heads = "".join(f'<th scope="col"{mark}>{escaped(name)}</th>' for name, mark in zip(head, marks, strict=True))
    lines = [f"<tr>{_cells(row, marks)}</tr>" for row in rows]
    lines += [f'<tr class="total">{_cells(total, marks)}</tr>'] if total else []
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _cells(row: Sequence[object], marks: Sequence[str]) -> str:
    cells = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row)
    return "".join(f"<td{mark}>{escaped(cell)}</td>" for cell, mark in zip(cells, marks, strict=True))


def code(source: str) -> str:
    """A listing, with its comments, keywords and numbers in colour. It can be scrolled by keys.

    >>> code("return 1")
    '<pre tabindex="0"><span class="keyword">return</span> <span class="digits">1</span></pre>'
    """
    pieces = (
        f'<span class="{_CLASSES[kind]}">{escaped(text)}</span>' if kind else escaped(text)
        for kind, text in tokens(source.rstrip("\n"))
    )
    return f'<pre tabindex="0">{"".join(pieces)}</pre>'


def panes(sections: Sequence[tuple[str, str]]) -> str:
    """Sections of which one is open, the first one at first: tabs, or headings that open and close.

    Args:
        sections: titles, which are texts, and contents, which are HTML.
    """
    name = f"flatgrad-{next(_numbers)}"
    parts = (
        f'<details name="{name}"{"" if k else " open=" + quoted}><summary>{escaped(title)}</summary>{content}</details>'
        for quoted in ['""']
        for k, (title, content) in enumerate(sections)
    )
    return f'<div class="panes">{"".join(parts)}</div>'


def folded(title: str, content: str) -> str:
    """A section that is closed at first; the content is HTML."""
    return f"<details><summary>{escaped(title)}</summary>{content}</details>"
