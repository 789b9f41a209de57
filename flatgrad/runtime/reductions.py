"""Functions of whole vectors, composed of primitives, with a stated order of operations.

All take numbers and `Value`s in a list, a tuple, a generator or another iterable, or in an array. Those that give one
number take nested lists and arrays of any shape, too, row by row; `sort`, `softmax` and `log_softmax` take one vector.
They return a float where all elements are numbers. A fold begins with the first element, and goes from left to right:
`((x0 + x1) + x2) + ...`.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import sys
from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias, cast, overload

import numpy as np

from .arrays import as_array
from .conversion import items_of
from .errors import DomainError, InputError
from .methods import Number
from .primitives import Operand, detach, div, equal, exp, log, maximum, minimum, number, sqrt, where
from .sites import user_line
from .value import Condition, Scalar, Value, as_value

#: Arrays of numbers; those of `Value`s are arrays of objects.
Numbers: TypeAlias = "np.ndarray[Any, np.dtype[np.floating[Any] | np.integer[Any]]]"

_CONTAINERS = (list, tuple, np.ndarray)


class _End(list[int]):
    """Stands behind the items of a container, and holds its id."""


class Reduction(Protocol):
    """A function from a vector to one number, as type checkers see it."""

    @overload  # an empty list is of both kinds
    def __call__(self, vector: Iterable[Number] | Numbers) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, vector: Iterable[Scalar]) -> Value: ...
    @overload
    def __call__(self, vector: Any) -> Any: ...


def _of_one(function: Any) -> Any:
    """The function, shown as one of a vector alone: what else it takes is for the message of an error."""
    function.__signature__ = inspect.Signature([inspect.Parameter("vector", inspect.Parameter.POSITIONAL_OR_KEYWORD)])
    return function


def _reduction(function: Any) -> Reduction:
    return cast("Reduction", _of_one(function))


@_reduction
def max(vector: Any, *others: Any, **options: Any) -> Any:
    """The largest element: a fold of `fg.maximum`, which says what ties and NaN give.

    Of equal elements it is the first (so that of 0.0 and -0.0 the sign is that of the first), and NaN if any element is
    NaN. Equal elements share the gradient as the fold does: at each tie the partial result and the next element get
    half, so that three equal elements get a quarter, a quarter and a half.

    Args:
        vector: numbers or `Value`s: any iterable, nested lists, or an array of any shape.

    Returns:
        A float if all elements are numbers, else a `Value`.

    Raises:
        DomainError: if there is no element (a `ValueError`, as of Python's `max`).
        InputError: for anything that is no vector of numbers.

    Example:
        >>> import flatgrad as fg
        >>> fg.max([3.0, 7.0, 5.0])
        7.0
        >>> fg.grad(fg.max)([3.0, 7.0, 7.0])
        [0.0, 0.5, 0.5]
    """
    return functools.reduce(maximum, _elements("max", vector, others, options, least=1))


@_reduction
def min(vector: Any, *others: Any, **options: Any) -> Any:
    """The smallest element: a fold of `fg.minimum`. Arguments, ties, NaN and errors are as for `fg.max`.

    Example:
        >>> import flatgrad as fg
        >>> fg.min([3.0, 7.0, 5.0])
        3.0
    """
    return functools.reduce(minimum, _elements("min", vector, others, options, least=1))


@_reduction
def sum(vector: Any, *others: Any, **options: Any) -> Any:
    """The sum, added from left to right, beginning with the first element; 0.0 of no elements.

    Python's `sum` begins with 0, which matters only where all elements are -0.0, and from 3.12 on corrects the rounding
    errors of floats, but not of `Value`s. This one rounds after each addition, in any case.

    Args:
        vector: as for `fg.max`.

    Raises:
        InputError: for anything that is no vector of numbers.

    Example:
        >>> import flatgrad as fg
        >>> fg.sum(0.1 for _ in range(10)), fg.sum([[1.0, 2.0], [3.0]])
        (0.9999999999999999, 6.0)
    """
    return functools.reduce(operator.add, _elements("sum", vector, others, options) or [0.0])


@_reduction
def prod(vector: Any, *others: Any, **options: Any) -> Any:
    """The product, multiplied from left to right, beginning with the first element; 1.0 of no elements.

    The gradient is that of the fold. It divides by nothing, and is right where elements are 0. Arguments and errors are
    as for `fg.sum`.

    Example:
        >>> import flatgrad as fg
        >>> fg.value_and_grad(fg.prod)([2.0, 0.0, 5.0])
        (0.0, [0.0, 10.0, 0.0])
    """
    return functools.reduce(operator.mul, _elements("prod", vector, others, options) or [1.0])


@_reduction
def logsumexp(vector: Any, *others: Any, **options: Any) -> Any:
    """The logarithm of the sum of the exponentials, `log(exp(x0) + exp(x1) + ...)`, where nothing overflows.

    It is `m + log(exp(x0 - m) + exp(x1 - m) + ...)` with the largest element m, the exponentials added from left to
    right. No gradient flows through m, because the result does not depend on it; so the gradient is the softmax.

    An element -inf adds nothing; where all elements are -inf, the result is -inf, with gradient 0. If the largest one
    is inf, so is the result, and the gradient of that element is NaN. NaN gives NaN.

    Args:
        vector: as for `fg.max`.

    Returns:
        A float if all elements are numbers, else a `Value`. Of no elements: -inf.

    Raises:
        InputError: for anything that is no vector of numbers.

    Example:
        >>> import flatgrad as fg
        >>> fg.value_and_grad(fg.logsumexp)([1000.0, 1000.0])
        (1000.6931471805599, [0.5, 0.5])
    """
    elements = _elements("logsumexp", vector, others, options)
    if not elements:
        return -math.inf
    shift, exponentials = _exponentials(elements)
    return _logarithm(shift, exponentials)


def weighted_logsumexp(elements: list[Any], factors: list[Any]) -> Any:
    """`log(factors[0] * exp(elements[0]) + ...)`, where nothing overflows; terms with the factor 0 are left out.

    Raises:
        DomainError: if the sum is negative.
    """
    pairs = [pair for pair in zip(elements, factors, strict=True) if isinstance(pair[1], Operand) or pair[1] != 0.0]
    if not pairs:
        return -math.inf
    shift, exponentials = _exponentials([element for element, _ in pairs])
    return _logarithm(shift, [factor * each for (_, factor), each in zip(pairs, exponentials, strict=True)])


def _logarithm(shift: Any, exponentials: list[Any]) -> Any:
    total = functools.reduce(operator.add, exponentials)
    zero = equal(total, 0.0)  # all elements are -inf
    return shift + where(zero, -math.inf, log(where(zero, 1.0, total)))


@overload
def softmax(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...
@overload  # an empty list is of both kinds
def softmax(vector: Iterable[Number]) -> list[float]: ...  # type: ignore[overload-overlap]
@overload
def softmax(vector: Iterable[Scalar]) -> list[Value]: ...
@overload
def softmax(vector: Any) -> Any: ...
@_of_one
def softmax(vector: Any, *others: Any, **options: Any) -> Any:
    """Exponentials that are divided by their sum: `exp(x[i]) / (exp(x0) + exp(x1) + ...)`, where nothing overflows.

    The largest element is subtracted first, as in `fg.logsumexp`, and no gradient flows through it. The exponentials
    are added from left to right, and each quotient is rounded once (`fg.div`).

    An element -inf gives 0.0. An infinite largest element gives NaN, and the finite ones beside it give 0.0. NaN gives
    NaN everywhere.

    Args:
        vector: numbers or `Value`s: any iterable, or an array of one dimension.

    Returns:
        For an array an array, else a list; of floats if all elements are numbers.

    Raises:
        DivisionByZeroError: if all elements are -inf; with `faults="ieee"` the result is NaN.
        InputError: for a matrix or nested lists, and for anything that is no vector of numbers.

    Example:
        >>> import flatgrad as fg
        >>> fg.softmax([0.0, 0.0, 1000.0, 1000.0])
        [0.0, 0.0, 0.5, 0.5]
    """
    elements = _elements("softmax", vector, others, options, nested=False)
    result = []
    if elements:
        _, exponentials = _exponentials(elements)
        total = functools.reduce(operator.add, exponentials)
        result = [div(exponential, total) for exponential in exponentials]
    return _as_given(result, vector)


@overload  # an empty list is of both kinds
def log_softmax(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...
@overload
def log_softmax(vector: Iterable[Number]) -> list[float]: ...  # type: ignore[overload-overlap]
@overload
def log_softmax(vector: Iterable[Scalar]) -> list[Value]: ...
@overload
def log_softmax(vector: Any) -> Any: ...
@_of_one
def log_softmax(vector: Any, *others: Any, **options: Any) -> Any:
    """The logarithms of `fg.softmax`: `(x[i] - m) - log(exp(x0 - m) + exp(x1 - m) + ...)`, m the largest element.

    Arguments, results and errors are those of `fg.softmax`; a finite element beside much larger ones gives a large
    negative number, and not -inf.

    Example:
        >>> import flatgrad as fg
        >>> fg.log_softmax([0.0, 1000.0])
        [-1000.0, 0.0]
    """
    elements = _elements("log_softmax", vector, others, options, nested=False)
    result = []
    if elements:
        shift, exponentials = _exponentials(elements)
        total = log(functools.reduce(operator.add, exponentials))
        result = [(x - shift) - total for x in elements]
    return _as_given(result, vector)


def _as_given(result: list[Any], vector: Any) -> Any:
    """A list, or an array where an array was given."""
    if not isinstance(vector, np.ndarray):
        return result
    return as_array(result, vector.shape) if any(isinstance(x, Operand) for x in result) else np.array(result, float)


def sort(vector: Any) -> Any:
    """The elements in increasing order, as `sorted` puts them. Comparisons of `Value`s are branches (`docs/ways.md`).

    Args:
        vector: numbers or `Value`s: an iterable that has an order, or an array of one dimension.

    Returns:
        For an array an array, else a list.

    Example:
        >>> import flatgrad as fg
        >>> fg.grad(lambda x: fg.sort(x)[0])([3.0, 1.0, 2.0])
        [0.0, 1.0, 0.0]
    """
    return _as_given(sorted(vector_of("sort", vector)), vector)


def argmax(vector: Any) -> int:
    """The place of the largest element, of the first one of equals. Comparisons of `Value`s are branches.

    Args:
        vector: numbers or `Value`s: an iterable that has an order, nested lists, or an array of any shape, whose
            elements are counted row by row, as by `np.argmax`.

    Raises:
        DomainError: if there is no element.

    Example:
        >>> import flatgrad as fg
        >>> fg.argmax([3.0, 7.0, 7.0]), fg.argmin([3.0, 7.0, 1.0]), fg.argmax([[1.0, 2.0], [5.0, 4.0]])
        (1, 2, 2)
    """
    return _first("argmax", operator.gt, vector)


def argmin(vector: Any) -> int:
    """The place of the smallest element, of the first one of equals; as `fg.argmax`."""
    return _first("argmin", operator.lt, vector)


def _first(name: str, beyond: Any, vector: Any) -> int:
    elements = _elements(name, vector, (), {})
    if not elements:
        raise DomainError(f"{name} of no elements is not defined{user_line()}")
    best = 0
    for k in range(1, len(elements)):
        if beyond(elements[k], elements[best]):
            best = k
    return best


def median(vector: Any) -> Any:
    """The element in the middle, or the mean of the two there: `(a + b) / 2`. Comparisons of `Value`s are branches.

    Args:
        vector: numbers or `Value`s: an iterable, nested lists, or an array of any shape.

    Raises:
        DomainError: if there is no element.

    Example:
        >>> import flatgrad as fg
        >>> fg.value_and_grad(fg.median)([3.0, 1.0, 2.0, 9.0])
        (2.5, [0.5, 0.0, 0.5, 0.0])
    """
    elements = sorted(_elements("median", vector, (), {}))
    if not elements:
        raise DomainError(f"median of no elements is not defined{user_line()}")
    low, high = elements[(len(elements) - 1) // 2], elements[len(elements) // 2]
    return low if len(elements) % 2 else (low + high) * 0.5


def vector_of(name: str, vector: Any) -> list[Any]:
    """The elements of a list, another iterable, or an array of one dimension, as floats and `Value`s.

    Raises:
        InputError: for anything that is no vector of numbers.
    """
    return _elements(name, vector, (), {}, nested=False)


@_reduction
def norm(vector: Any, *others: Any, **options: Any) -> Any:
    """The Euclidean norm of a vector: the square root of the sum of the squares of its elements.

    The squares are added from left to right, `((x0*x0 + x1*x1) + x2*x2) + ...`, and the root is `fg.sqrt`. Where the
    sum is 0.0, so are the norm and its gradient, as in PyTorch; `fg.sqrt` raises there.

    The squares are not scaled: a norm above 1.3e154 is inf, with gradient 0; one below 1e-146 loses digits, and the sum
    of squares of elements below about 1e-162 is 0.0. Scale such vectors yourself, `c * fg.norm(vector / c)`.

    Args:
        vector: as for `fg.max`.

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
    elements = _elements("norm", vector, others, options)
    if not elements:
        return 0.0
    total = functools.reduce(operator.add, [x * x for x in elements])
    zero = equal(total, 0.0)
    return where(zero, 0.0, sqrt(where(zero, 1.0, total)))


def _exponentials(elements: list[Any]) -> tuple[Any, list[Any]]:
    """A finite number that is subtracted, the largest element where that is finite; and `exp` of each difference.

    No exponential overflows: the largest finite float stands for inf, and its negative for -inf.
    """
    largest = functools.reduce(maximum, elements)
    shift = detach(maximum(minimum(largest, sys.float_info.max), -sys.float_info.max))
    negative = -shift
    return shift, [exp(x + negative) for x in elements]


def _elements(
    name: str, vector: Any, others: tuple[Any, ...], options: dict[str, Any], least: int = 0, nested: bool = True
) -> list[Any]:
    """The elements of an iterable, of nested lists or of an array, row by row, as floats and `Value`s.

    Args:
        others, options: what the function got beside the vector, as similar functions of other libraries take it.
    """
    by_rows = f"for the rows of a matrix write [fg.{name}(row) for row in matrix]"
    if options:
        raise InputError(f"{name} takes one vector and no options, got {', '.join(options)}; {by_rows}{user_line()}")
    if others:
        pair = f"fg.{name}imum(a, b), of more fg.{name}([a, b, c])" if least else f"fg.{name}([a, b])"
        raise InputError(f"{name} takes one vector, got {1 + len(others)} arguments; of two write {pair}{user_line()}")
    if isinstance(vector, (Operand, str, bytes, bytearray, dict, set, frozenset)) or not isinstance(vector, Iterable):
        raise InputError(f"{name}: expected a list or an array, got {type(vector).__name__}{user_line()}")
    rows = vector if isinstance(vector, np.ndarray) else list(vector)
    depth = rows.ndim if isinstance(rows, np.ndarray) else 1 + any(isinstance(row, _CONTAINERS) for row in rows)
    if not nested and depth != 1:
        got = f"several; {by_rows}" if depth else "a single number in an array without dimensions"
        raise InputError(f"{name}: expected one vector, got {got}{user_line()}")
    elements: list[Any] = []
    stack: list[Any] = [rows]
    inside: set[int] = set()  # the containers whose items are on the stack
    while stack:
        item = stack.pop()
        if isinstance(item, Operand):
            elements.append(as_value(item) if isinstance(item, Condition) else item)
            continue
        try:
            if isinstance(item, _End):
                inside.remove(item[0])
            elif isinstance(item, _CONTAINERS):
                if id(item) in inside:
                    raise InputError(f"the {type(item).__name__} contains itself")
                inside.add(id(item))
                stack.append(_End([id(item)]))
                stack.extend(reversed(items_of(item) if isinstance(item, np.ndarray) else item))
            else:
                elements.append(item if item.__class__ is float else float(number(item)))
        except InputError as error:
            raise InputError(f"{name}: {error}{user_line()}") from None
    if len(elements) < least:
        raise DomainError(f"{name} of no elements is not defined{user_line()}")
    return elements
