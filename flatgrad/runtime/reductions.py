"""Functions of whole vectors, composed of primitives, with a stated order of operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from .errors import InputError
from .methods import Number
from .primitives import Operand, equal, number, sqrt, where
from .value import Scalar, Value


@overload  # an empty list is of both kinds
def norm(  # type: ignore[overload-overlap]
    vector: Sequence[Number] | np.ndarray[Any, np.dtype[np.floating[Any] | np.integer[Any]]],
) -> float: ...
@overload
def norm(vector: Sequence[Scalar]) -> Value: ...
@overload
def norm(vector: Any) -> Any: ...
def norm(vector: Any) -> Any:
    """The Euclidean norm of a vector: the square root of the sum of the squares of its elements.

    The squares are added from left to right, `((x0*x0 + x1*x1) + x2*x2) + ...`, and the root is `fg.sqrt`. Where the
    sum is 0.0, so are the norm and its gradient, as in PyTorch; `fg.sqrt` raises there.

    The squares are not scaled: a norm above 1.3e154 is inf, with gradient 0; one below 1e-146 loses digits, and the sum
    of squares of elements below about 1e-162 is 0.0. Scale such vectors yourself, `c * fg.norm(vector / c)`.

    Args:
        vector: numbers or `Value`s: a list, a tuple or an array of any shape, whose elements are taken row by row;
            also lists of lists.

    Returns:
        A float if all elements are numbers, else a `Value`. Of no elements: 0.0.

    Raises:
        InputError: for anything that is no vector of numbers.

    Example:
        >>> import flatgrad as fg
        >>> fg.norm([3.0, 4.0])
        5.0
        >>> fg.grad(fg.norm)([3.0, 4.0]), fg.grad(fg.norm)([0.0, 0.0])
        ([0.6000000000000001, 0.8], [0.0, 0.0])
    """
    if isinstance(vector, (Operand, str, bytes, dict, set)) or not hasattr(type(vector), "__len__"):
        raise InputError(f"norm: expected a list or an array, got {type(vector).__name__}")
    elements = [x if isinstance(x, Operand) else float(number(x)) for x in _elements(vector)]
    if not elements:
        return 0.0
    total = elements[0] * elements[0]
    for x in elements[1:]:
        total = total + x * x
    zero = equal(total, 0.0)
    return where(zero, 0.0, sqrt(where(zero, 1.0, total)))


def _elements(vector: Any) -> list[Any]:
    """The elements of an array, or of nested lists, row by row."""
    if isinstance(vector, np.ndarray):
        return list(vector.ravel().tolist())
    elements: list[Any] = []
    stack = [vector]
    while stack:
        item = stack.pop()
        if isinstance(item, (list, tuple)):
            stack.extend(reversed(item))
        elif isinstance(item, np.ndarray):
            elements += item.ravel().tolist()
        else:
            elements.append(item)
    return elements
