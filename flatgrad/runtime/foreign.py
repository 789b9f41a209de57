"""What stands beside a `Value` in arithmetic, and is no real number: arrays, and complex numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import InputError
from .sites import user_line


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

    The sum with a list is an array, as of a NumPy scalar; arrays know it themselves.

    Raises:
        InputError: for the product with a list, which Python repeats where the number is an int.
    """
    if isinstance(other, (list, tuple)):
        if operator == "__mul__":
            name = type(other).__name__
            raise InputError(f"expected a number, got {name}; for its items write fg.array(items) * value{user_line()}")
        array = np.empty(len(other), dtype=object)
        array[:] = other
        return getattr(array, operator.replace("__", "__r", 1))(value)
    return getattr(Pair.kind.of(other), operator)(value) if isinstance(other, complex) else NotImplemented
