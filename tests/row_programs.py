"""Random programs over rows: means, variances, softmax, pairs, running sums, windows, masks, constants of the size."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import flatgrad as fg

#: What may be computed of each row, or of each number; `k` is its index, `n` their number.
MAPS: dict[str, Callable[[Any, int, int], Any]] = {
    "tanh": lambda x, k, n: fg.tanh(x),
    "square": lambda x, k, n: x * x,
    "exp": lambda x, k, n: fg.exp(x * 0.1),
    "scaled": lambda x, k, n: x * (1.0 / n),
    "root": lambda x, k, n: x / math.sqrt(n),
    "position": lambda x, k, n: x * (k / n),
    "index": lambda x, k, n: x - 0.1 * k,
    "mask": lambda x, k, n: x if k < 2 else x * 0.5,
}


def _variance(xs: list[Any]) -> Any:
    mean = sum(xs) / len(xs)
    return sum((x - mean) ** 2 for x in xs) / (len(xs) + 1)


def _softmax(xs: list[Any]) -> Any:
    return sum(p * x for p, x in zip(fg.softmax(xs), xs, strict=True))


def _running(xs: list[Any]) -> Any:
    total, result = 0.0, 0.0
    for x in xs:
        total = total + x
        result = result + fg.sin(total)
    return result


#: How a list becomes one number.
ENDS: dict[str, Callable[[list[Any]], Any]] = {
    "sum": sum,
    "mean": lambda xs: sum(xs) / len(xs),
    "variance": _variance,
    "softmax": _softmax,
    "logsumexp": fg.logsumexp,
    "running": _running,
    "pairs": lambda xs: sum(1.0 / (1.0 + (xs[i] - xs[j]) ** 2) for i in range(len(xs)) for j in range(i)) + 0.0,
    "window": lambda xs: sum(xs[k] * xs[k + 1] for k in range(len(xs) - 1)) + 0.0,
    "reversed": lambda xs: sum(a * b for a, b in zip(xs, xs[::-1], strict=True)),
    "maximum": fg.max,
}


class RowProgram:
    """A random program of a list of numbers, or of rows of three numbers.

    Args:
        seed: of the choices.
    """

    def __init__(self, seed: int) -> None:
        choice = random.Random(seed)
        self.width = choice.choice((0, 3))
        self.row = choice.choice(list(ENDS))
        self.maps = [choice.choice(list(MAPS)) for _ in range(choice.randint(0, 2))]
        self.end = choice.choice(list(ENDS))

    def __call__(self, rows: Any) -> Any:
        """The program's result for rows: one `Value`."""
        values = [ENDS[self.row](list(row)) for row in rows] if self.width else list(rows)
        for name in self.maps:
            values = [MAPS[name](value, k, len(values)) for k, value in enumerate(values)]
        return ENDS[self.end](values)

    def __repr__(self) -> str:
        return " -> ".join([f"{self.row} of rows"] * bool(self.width) + [*self.maps, self.end])
