"""Code as HTML with coloured words, by Pygments; without it, plain."""

from __future__ import annotations

import html
from collections.abc import Sequence

#: The names of Pygments' lexers.
LEXERS = {"source": "python", "program": "", "python": "python", "loops": "python", "assembly": "gas"}

#: The kinds of tokens that the page colours, by their short names; the others stay plain.
_COLOURED = frozenset((
    "k", "kn", "kd", "kc", "kr", "ow", "m", "mi", "mf", "mh", "s1", "s2", "sd", "sa", "si", "c", "c1", "cm", "ch", "nf",
    "nc", "nl", "nv",
))  # fmt: skip


def coloured(texts: Sequence[str], language: str) -> list[str]:
    """Lines of code as HTML; words are marked with the short names of Pygments' kinds of tokens.

    >>> coloured(["a < b"], "")
    ['a &lt; b']
    """
    plain = [html.escape(text, quote=False) for text in texts]
    if not language:
        return plain
    try:
        from pygments import lexers
        from pygments.token import STANDARD_TYPES
    except ImportError:
        return plain
    lexer = lexers.get_lexer_by_name(language, stripnl=False, ensurenl=True)
    lines: list[str] = [""]
    for kind, text in lexer.get_tokens("\n".join(texts)):
        name = STANDARD_TYPES.get(kind, "")
        for k, part in enumerate(text.split("\n")):
            if k:
                lines.append("")
            escaped = html.escape(part, quote=False)
            lines[-1] += f'<span class="{name}">{escaped}</span>' if part and name in _COLOURED else escaped
    lines = lines[: len(texts)]
    return lines if len(lines) == len(texts) else plain
