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
FOREIGN: Any = (np.ndarray, list, tuple, *COMPLEX)


def beside(value: Any, operator: str, other: Any) -> Any:
    """What an operator of a `Value` gives with something foreign: for a complex number, what that number's own does.

    With a list it gives an array, as a NumPy scalar does; arrays know it themselves.
    """
    if isinstance(other, (list, tuple)):
        array = np.empty(len(other), dtype=object)
        array[:] = other
        return getattr(array, operator.replace("__", "__r", 1))(value)
    return getattr(Pair.kind.of(other), operator)(value) if isinstance(other, complex) else NotImplemented
