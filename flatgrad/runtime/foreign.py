"""What stands beside a `Value` in arithmetic, and is no real number: arrays, and complex numbers."""

from __future__ import annotations

from typing import Any

import numpy as np


class Pair:
    """What a complex number of `Value`s is: see `complex_numbers.py`, which defines the one class."""

    __slots__ = ()
    kind: type[Any]

    def __init_subclass__(cls) -> None:
        Pair.kind = cls


COMPLEX: Any = (complex, Pair)
FOREIGN: Any = (np.ndarray, *COMPLEX)


def beside(value: Any, operator: str, other: Any) -> Any:
    """What an operator of a `Value` gives with something foreign: for a complex number, what that number's own does."""
    return getattr(Pair.kind.of(other), operator)(value) if isinstance(other, complex) else NotImplemented
