"""Safe names: turning user text (labels, argument names) into identifiers for generated source."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

from ..runtime.primitives import TABLE

#: What generated source uses itself: `v12`, `t3`, `x_bar`, and the names of its own functions.
_RESERVED = re.compile(r"(v|t|c|part)\d+|.*_bar|.*_bar\d*|_.*")
_WORDS = {"forward", "backward", "value_and_grad", "saved", "inf", "nan", "power", "output_bars"}


def identifier(text: str) -> str:
    """A Python identifier that resembles `text`, or "" where nothing of it is left.

    The result consists of ASCII letters, digits and underscores only, is no keyword and hides no builtin: a label that
    is Python code, quotes or a line break stays data.

    >>> identifier("learning rate"), identifier("2nd"), identifier("'); import os #"), identifier("lambda")
    ('learning_rate', 'p2nd', 'import_os', 'lambda_')
    """
    name = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:40].rstrip("_")
    if not name:
        return ""
    if name[0].isdigit():
        name = "p" + name
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or hasattr(builtins, name) or name in _WORDS:
        name += "_"
    return name


class Namer:
    """Hands out different identifiers.

    Args:
        taken: names that must not be handed out.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {*taken, *(name for primitive in TABLE for name in primitive.imports)}

    def __call__(self, text: str, default: str) -> str:
        """An unused identifier resembling `text`, or else `default`."""
        base = identifier(text) or default
        if _RESERVED.fullmatch(base):
            base = f"p_{base.strip('_')}"
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name
