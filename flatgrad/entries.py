"""The entries of docs/errors.md, as `flatgrad errors` prints them on a terminal.

The page is Markdown, of the few kinds that `blocks_of` tells apart. A wheel has a copy of it in the package; in a clone
it is read where it is.
"""

from __future__ import annotations

import difflib
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from .runtime.errors import FlatgradError, OptionError
from .terminal import Terminal

_PACKAGE = Path(__file__).parent
#: Where the page may be: in an installed package, and in a clone.
_PLACES = (_PACKAGE / "errors.md", _PACKAGE.parent / "docs" / "errors.md")

_ENTRY = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
#: A row of the table of all entries: the name, the built-in classes, a few words.
_ROW = re.compile(r"^\| \[`(\w+)`\]\S+ \| (.*?) \| (.*?) \|$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\(([\w/]*(?:\.md)?)[^)]*\)")
#: A fenced block, or lines without an empty one between them.
_BLOCK = re.compile(r"^```[\s\S]*?^```$|(?:^(?!```).+\n?)+", re.MULTILINE)
#: What only those who run the page as a test need.
_DIRECTIVE = re.compile(r" *# doctest:.*$", re.MULTILINE)
#: A line of text longer than this is hard to read, however wide the terminal is.
_WIDTH = 100


def page() -> str:
    """The page, as Markdown.

    Raises:
        FlatgradError: if it came neither with the package nor with a clone.
    """
    for path in _PLACES:
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise FlatgradError("this installation of flatgrad has no page of errors; install it with pip")


def listing(text: str, screen: Terminal) -> str:
    """All entries of the page: a line for each, with its name and a few words.

    Example:
        >>> import io
        >>> print(listing(page(), Terminal(io.StringIO())).splitlines()[0])
        DomainError           a number outside of the domain of an operation
    """
    rows = _ROW.findall(text)
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{screen.styled(f'{name:{width}}', 'bold')}  {_plain(words)}" for name, _, words in rows)


def entry(text: str, name: str, screen: Terminal) -> str:
    """One entry of the page: what the error is, its cause, an example, and a remedy.

    Args:
        text: the page.
        name: of an exception or a warning. Capitals do not matter, nor does a module in front of it.
        screen: the terminal that it is for.

    Raises:
        OptionError: if there is no such entry. The message has the name that is most like it.

    Example:
        >>> import io
        >>> print(entry(page(), "fg.rangeerror", Terminal(io.StringIO())).splitlines()[0])
        RangeError (also an OverflowError): a result too large for a float
    """
    entries = dict(_ENTRY.findall(text))
    short = name.rpartition(".")[2]
    known = {each.lower(): each for each in entries}
    found = known.get(short.lower())
    if found is None:
        raise OptionError(f"there is no entry {short}; {_instead_of(short, text, known)}")
    width = min(shutil.get_terminal_size().columns, _WIDTH)
    rows = {row[0]: row[1:] for row in _ROW.findall(text)}
    heading = screen.styled(found, "bold")
    if found in rows:
        bases, words = map(_plain, rows[found])
        bases = bases.replace("`", "").replace(", ", " and ")
        heading += f" (also {'an' if bases[0] in 'AEIO' else 'a'} {bases}): {words}"
    return "\n\n".join([heading, *(_printed(block, width, screen) for block in blocks_of(entries[found]))])


def _instead_of(name: str, text: str, known: Mapping[str, str]) -> str:
    """Which entry may be meant: one with a similar name, or those that are of this class of Python's, too."""
    heirs = [row[0] for row in _ROW.findall(text) if f"`{name.lower()}`" in row[1].lower()]
    near = [known[each] for each in difflib.get_close_matches(name.lower(), known, n=1)]
    meant = heirs or near
    return f"did you mean {' or '.join(meant)}?" if meant else "`flatgrad errors` lists all"


def blocks_of(text: str) -> Iterator[str]:
    """The paragraphs, tables and fenced blocks of a piece of Markdown, in order.

    Example:
        >>> list(blocks_of("One\\ntwo.\\n\\n```python\\n>>> 1\\n\\n```\\n\\n| a | b |\\n"))
        ['One\\ntwo.', '```python\\n>>> 1\\n\\n```', '| a | b |']
    """
    for block in _BLOCK.finditer(text):
        yield block[0].rstrip("\n")


def _printed(block: str, width: int, screen: Terminal) -> str:
    if block.startswith("```"):
        code = _DIRECTIVE.sub("", "\n".join(block.splitlines()[1:-1])).strip()
        return textwrap.indent(screen.code(code, "python"), "    ")
    if block.startswith("|"):
        return _table(block, width)
    lead = re.match(r"\*\*(.+?)\*\*", block)
    bold = lead[1] if lead else ""
    filled = textwrap.fill(_plain(block.replace("**", "")), width)
    return screen.styled(bold, "bold") + filled[len(bold) :]


def _table(block: str, width: int) -> str:
    """A table of two columns; the second is wrapped."""
    rows = [[_plain(cell) for cell in line.strip("| ").split(" | ")] for line in block.splitlines()]
    header, _, *body = rows
    first = max(len(row[0]) for row in rows)
    lines = []
    for left, right in [header, *body]:
        indent = " " * (first + 4)
        lines.append(textwrap.fill(f"  {left:{first}}  {right}", width, subsequent_indent=indent))
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A text without links: those to another page name it."""
    return _LINK.sub(lambda link: f"{link[1]} (docs/{link[2]})" if link[2] else link[1], " ".join(text.split()))
