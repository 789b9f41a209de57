"""How the site is built: `make docs` writes it to the folder build/docs.

The pages are plain Markdown, which reads well on a code host, too. What the site needs beyond that is made here, from
the pages as they are: the navigation from the links of index.md, and the colours of interactive sessions.
"""

from __future__ import annotations

import re
from typing import Any

import flatgrad

project = "flatgrad"
author = "the flatgrad authors"
version = release = flatgrad.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_*"]

# Links to headings are those of code hosts: `page.md#a-heading-in-small-letters`.
myst_heading_anchors = 4

autodoc_typehints = "none"  # the docstrings say it in words; signatures with all overloads fill a screen
autodoc_member_order = "bysource"
napoleon_use_param = False  # `mode, faults: as for compile` is one entry

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = f"flatgrad {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "native"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0f766e", "color-brand-content": "#0f766e"},
    "dark_css_variables": {"color-brand-primary": "#5eead4", "color-brand-content": "#5eead4"},
}

#: A session in a block of Python: with another lexer its prompts and results are told apart.
_SESSION = re.compile(r"^( *)```python\n(?=\1>>> )(.*?)\n*^\1```$", re.MULTILINE | re.DOTALL)
#: A block that names no language.
_PLAIN = re.compile(r"^( *)```\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
#: Any block.
_BLOCK = re.compile(r"^( *)```.*?\n.*?^\1```$", re.MULTILINE | re.DOTALL)
#: Code in a docstring: between single backticks, and perhaps with letters behind it, as in `Value`s.
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
#: A heading of index.md, and a page that a list below it links to.
_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n)*)", re.MULTILINE)
_PAGE = re.compile(r"^(\d+\.|\*) \[([^\]]+)\]\(([\w/]+)\.md\)", re.MULTILINE)


def navigation(index: str) -> str:
    """The table of contents that index.md has in the form of lists: a part for each of its headings.

    Pages are called as their links are; those of numbered lists, as their own titles.
    """
    parts = []
    for heading, text in _SECTION.findall(index):
        pages = [f"{title} <{page}>" if mark == "*" else page for mark, title, page in _PAGE.findall(text)]
        if pages:
            parts.append("\n".join(["```{toctree}", ":hidden:", f":caption: {heading}", "", *pages, "```"]))
    return "\n\n".join(parts)


def with_languages(block: re.Match[str]) -> str:
    """A block of code with the language that it is highlighted as."""
    text = _SESSION.sub(r"\1```pycon\n\2\n\1```", block[0])
    return _PLAIN.sub(r"\1```text\n\2\1```", text)


def prepare(app: Any, name: str, source: list[str]) -> None:
    """Turn a page into what the site shows."""
    text = _BLOCK.sub(with_languages, source[0])
    source[0] = f"{text}\n{navigation(text)}\n" if name == "index" else text


def spelled(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Turn the code in a docstring, which is written as in Markdown, into that of reStructuredText."""
    for k, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[k] = _CODE.sub(r"``\1``\\ ", line)


def setup(app: Any) -> None:
    """What Sphinx calls."""
    app.connect("source-read", prepare)
    app.connect("autodoc-process-docstring", spelled)
