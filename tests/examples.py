"""How many examples tests draw: a share of the numbers that they state, unless the environment asks for all."""

from __future__ import annotations

import os

#: The share. Machines that run the tests at each change draw few; `FLATGRAD_TEST_EXAMPLES=1` draws all.
SHARE = float(os.environ.get("FLATGRAD_TEST_EXAMPLES", "0.25"))
#: So few are all drawn.
LEAST = 8


def examples(count: int) -> int:
    """How many examples to draw in place of `count`."""
    return max(min(count, LEAST), round(count * SHARE))


def repeats(count: int) -> int:
    """How often to repeat what draws its numbers itself, in place of `count` times."""
    return max(1, round(count * SHARE))
