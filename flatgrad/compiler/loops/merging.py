"""One text for all extents, from the texts at some of them: numbers that differ become what they are computed of."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .extents import Polynomial, Samples
from .formulas import formula

#: Numbers, but no digits of names.
_NUMBER = re.compile(r"(?<![\w.])(\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+|\d+)(?![\w.])")


def merged_text(texts: Sequence[str], samples: Samples, names: Sequence[str]) -> str | None:
    """The text that becomes these at the samples; None if they differ in more than numbers.

    Args:
        texts: with numbers as Python writes them.
        samples: the extents that they are for.
        names: of the extents.

    Example:
        >>> samples = Samples([(4,), (5,), (6,)])
        >>> merged_text(["x[12:16] * 0.25", "x[15:20] * 0.2", f"x[18:24] * {1 / 6}"], samples, ["n"])
        'x[3*n:4*n] * (1.0 / n)'
        >>> merged_text(["a + 1", "b + 2", "a + 3"], samples, ["n"]) is None
        True
    """
    parts = [_NUMBER.split(text) for text in texts]
    if len({len(each) for each in parts}) > 1 or len({tuple(each[::2]) for each in parts}) > 1:
        return None
    result = parts[0]
    for k in range(1, len(result), 2):
        words = [each[k] for each in parts]
        if len(set(words)) == 1:
            continue
        if all(word.isdigit() for word in words):
            number = samples.size(*map(int, words))
            text = number.text(names) if isinstance(number, Polynomial) else None
        else:
            made = formula(list(map(float, words)), samples)
            text = made.text(names) if made is not None else None
        if text is None:
            return None
        alone = (result[k - 1].rstrip() or "(")[-1] in "([,:=" and (result[k + 1].lstrip() or ")")[0] in ")],:"
        result[k] = text if alone or text.isidentifier() or text.replace("*", "").isalnum() else f"({text})"
    return "".join(result)
