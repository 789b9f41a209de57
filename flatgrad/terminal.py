"""What the command line writes: with colours and ruled tables on a terminal, plain text everywhere else.

Colours are Rich's (the extra `cli`). Without Rich, in a pipe, or with the environment variable NO_COLOR, the same text
is written plainly; nothing but its look depends on that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from .runtime.errors import MissingExtraError
from .tabular.report import plain_table

#: Longer texts are not coloured: that would take longer than making them.
_LINES = 20_000
#: What Pygments calls the languages that are shown. Programs are close enough to Python.
_LEXERS = {"program": "python", "python": "python", "c": "c", "llvm": "llvm", "assembly": "gas"}


def wants_colour(stream: TextIO, choice: str = "auto") -> bool:
    """Whether to colour: `always`, `never`, or `auto`, which is on a terminal unless NO_COLOR is set."""
    if choice != "auto":
        return choice == "always"
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Terminal:
    """A stream, and how to write for it.

    Args:
        stream: where the text goes.
        choice: "always", "never" or "auto", as for `wants_colour`.

    Raises:
        MissingExtraError: for "always" without Rich.

    Example:
        >>> import io
        >>> print(Terminal(io.StringIO()).table([["", "rows"], ["training", "80"]]))
                  rows
        training    80
    """

    def __init__(self, stream: TextIO, choice: str = "auto") -> None:
        self._console: Any = None
        if wants_colour(stream, choice):
            try:
                from rich.console import Console
            except ImportError:
                if choice == "always":
                    raise MissingExtraError("colours need Rich: pip install 'flatgrad[cli]'") from None
            else:
                system: Any = None if stream.isatty() and choice == "auto" else "standard"
                options = {"color_system": system} if system else {}
                self._console = Console(file=stream, force_terminal=True, no_color=False, highlight=False, **options)

    def code(self, text: str, language: str) -> str:
        """Source for this terminal. Languages: "program", "python", "c", "llvm", "assembly"."""
        if self._console is None or text.count("\n") > _LINES:
            return text
        from pygments.lexers import get_lexer_by_name
        from rich.syntax import Syntax

        lexer = get_lexer_by_name(_LEXERS[language], stripnl=False, ensurenl=False)
        # This theme has the terminal's own sixteen colours, which suit its background.
        highlighted = Syntax("", lexer, theme="ansi_dark", background_color="default").highlight(text)
        highlighted.rstrip()
        return self._rendered(highlighted, soft_wrap=True)

    def table(self, rows: Sequence[Sequence[str]]) -> str:
        """A table; its first row is the header, and its first column names the others. Numbers stand at the right.

        On a terminal that is too narrow, rows become columns, so that only names are wrapped.
        """
        if self._console is None:
            return plain_table(rows)
        from rich import box
        from rich.table import Table

        if max(map(len, plain_table(rows).splitlines())) + 2 * len(rows[0]) > self._console.width:
            rows = list(zip(*rows, strict=True))
        header, *body = rows
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for k, name in enumerate(header):
            table.add_column(_Text(name), justify="right" if k else "left", style="" if k else "bold", no_wrap=k > 0)
        for row in body:
            table.add_row(*map(_Text, row))
        return self._rendered(table)

    def styled(self, text: str, style: str) -> str:
        """A piece of a line, in a style of Rich's such as "bold" or "yellow"."""
        return text if self._console is None else self._rendered(_Text(text, style=style), soft_wrap=True)

    def _rendered(self, item: Any, **options: Any) -> str:
        with self._console.capture() as capture:
            self._console.print(item, end="", **options)
        text: str = capture.get()
        return text.rstrip("\n")


def _Text(text: str, style: str = "") -> Any:  # noqa: N802 - it makes one of Rich's
    """A text in which brackets mean nothing."""
    from rich.text import Text

    return Text(text, style=style)


def note(text: str) -> None:
    """Write a remark to standard error."""
    _complain("note: ", "yellow", text)


def error(text: str) -> None:
    """Write what is wrong to standard error."""
    _complain("", "red", text)


def _complain(kind: str, style: str, text: str) -> None:
    print(f"{Terminal(sys.stderr).styled(f'flatgrad: {kind}', style)}{text}", file=sys.stderr)
