"""One text for all extents, from the texts at some of them: numbers that differ become what they are computed of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..program.spelling import indented
from .extents import Polynomial, Samples
from .formulas import formula

#: Numbers, but no digits of names.
_NUMBER = re.compile(r"(?<![\w.])(\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+|\d+)(?![\w.])")

#: Products of names and integers.
_PRODUCT = re.compile(r"\w+(\*\w+)*")
#: What stands before and behind a whole expression.
_BEFORE, _BEHIND = ("", *"([,:=<"), ("", *")],:;")


def merged_text(texts: Sequence[str], samples: Samples, names: Sequence[str], divided: str = "//") -> str | None:
    """The text that becomes these at the samples; None if they differ in more than numbers.

    Lines may end elsewhere; the result has those of the last text. What binds less strongly than its surroundings
    is put in parentheses.

    Args:
        texts: with numbers as Python writes them.
        samples: the extents that they are for.
        names: of the extents.
        divided: the sign of a division of integers.

    Example:
        >>> samples = Samples([(4,), (5,), (6,)])
        >>> merged_text(["x[12:16] * 0.25", "x[15:20] * 0.2", f"x[18:24] * {1 / 6}"], samples, ["n"])
        'x[3*n:4*n] * (1.0 / n)'
        >>> merged_text(["a + 1", "b + 2", "a + 3"], samples, ["n"]) is None
        True
    """
    parts = [_NUMBER.split(text) for text in texts]
    if len({tuple(" ".join(part.split()) for part in each[::2]) for each in parts}) > 1:
        return None
    result = parts[-1]
    for k in range(1, len(result), 2):
        words = [each[k] for each in parts]
        if len(set(words)) == 1:
            continue
        if all(word.isdigit() for word in words):
            number = samples.size(*map(int, words))
            text = number.text(names, divided) if isinstance(number, Polynomial) else None
        else:
            made = formula(list(map(float, words)), samples)
            text = made.text(names) if made is not None else None
        if text is None:
            return None
        before, behind = result[k - 1].rstrip()[-1:], result[k + 1].lstrip()[:1]
        is_product = _PRODUCT.fullmatch(text) is not None and before != "/"
        is_term = before in _BEFORE and (behind in _BEHIND or (behind in "+-" and " / " not in text))
        result[k] = text if text.isidentifier() or is_product or is_term else f"({text})"
    return "".join(result)


def filled_in(text: str, parts: Mapping[str, Sequence[str]], words: Mapping[str, str]) -> str:
    """A text with lines in place of other lines, indented like these, and words in place of others.

    >>> print(filled_in("def f():\\n    <body>\\n# <name>", {"<body>": ["a = 1", "return a"]}, {"<name>": "f"}))
    def f():
        a = 1
        return a
    # f
    """
    lines: list[str] = []
    for line in text.split("\n"):
        mark = line.strip()
        lines += indented(parts[mark], (len(line) - len(mark)) // 4) if mark in parts else [line]
    return re.sub("|".join(map(re.escape, words)), lambda match: words[match[0]], "\n".join(lines))
