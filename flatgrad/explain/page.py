"""The page: one HTML file with all that it needs."""

from __future__ import annotations

import html as markup
import itertools
import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..compiler.kernel import BaseKernel
from ..compiler.open_kernel import OpenKernel
from ..runtime.errors import OptionError
from ..runtime.files import write_atomically
from .colours import LEXERS, coloured
from .model import explained
from .ways import Known

#: Numbers and the views, then the page, which shows them.
_SCRIPTS = ("values.js", "inputs.js", "passes.js", "graph.js", "trace.js", "page.js")


def write(
    kernel: BaseKernel | OpenKernel,
    path: str | os.PathLike[str],
    *,
    inputs: Sequence[float] | None = None,
    source: str = "",
    ways: Sequence[Known] = (),
) -> Path:
    """Write what `explained` gathers of a kernel: as a page, or as data if the path ends in `.json`.

    Raises:
        OptionError: for another suffix than `.html` and `.json`, and where `explained` raises it.
        InputError: for a wrong number of inputs.
    """
    path = Path(path)
    if path.suffix not in (".html", ".json"):
        raise OptionError(f"cannot explain a kernel in {path.name!r}: the suffix must be .html or .json")
    facts = explained(kernel, inputs, source, ways)
    text = html(facts) if path.suffix == ".html" else json.dumps(facts, indent=1) + "\n"
    return write_atomically(path, text.encode())


def html(facts: dict[str, Any]) -> str:
    """The page that shows what `explained` has gathered.

    Example:
        >>> import flatgrad as fg
        >>> text = html(explained(fg.grad(lambda x: x * x).kernel_for(3.0)))
        >>> text.count("<script"), "http://" in text or "https://" in text
        (2, False)
    """
    data = {**facts, "panes": {name: _coloured(name, pane) for name, pane in facts["panes"].items()}}
    title = markup.escape(f"{facts['name']}: flatgrad")
    script = "".join(map(_file, _SCRIPTS))
    return _PAGE.format(title=title, style=_file("page.css"), data=_embedded(data), script=script)


def _coloured(name: str, pane: dict[str, Any]) -> dict[str, Any]:
    """A pane whose lines are HTML with colours, which has their texts."""
    lines = pane["lines"]
    texts = []
    for _, piece in itertools.groupby(lines, lambda line: "fold" in line or "head" in line):
        part = [line["text"] for line in piece]
        inside = name == "source" and _is_inside_text(part)
        texts += coloured(['"""', *part], LEXERS[name])[1:] if inside else coloured(part, LEXERS[name])
    shown = [
        {key: item for key, item in line.items() if key != "text"} | {"html": text}
        for line, text in zip(lines, texts, strict=True)
    ]
    return {**pane, "lines": shown}


def _is_inside_text(lines: Sequence[str]) -> bool:
    """Whether some lines of Python begin inside of a docstring: the first quotes end it."""
    for before, line in itertools.pairwise(["", *lines]):
        if '"""' in line:
            ends, opens = line.rstrip().endswith('"""'), before.rstrip().endswith(":")
            return ends and line.count('"""') == 1 and not opens
    return False


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _embedded(data: Any) -> str:
    """Data as JSON that no text in it can end, as an element of a page."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<noscript>This page needs JavaScript. It loads nothing from the network.</noscript>
<script type="application/json" id="data">{data}</script>
<script>
{script}</script>
</body>
</html>
"""
