"""`check_grads`: a function's derivatives against central differences, for users' tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...runtime.errors import FlatgradError, OptionError
from ..calls.arguments import Arguments
from ..calls.kind import Kind
from .derivatives import jvp, vjp
from .jit import JitFunction

_EPS = float(np.finfo(float).eps)


class DerivativeError(FlatgradError, AssertionError):
    """A derivative differs from that of differences."""


def check_grads(
    fn: Callable[..., Any],
    args: Sequence[Any],
    order: int = 1,
    *,
    modes: Sequence[str] = ("forward", "reverse"),
    rtol: float = 1e-5,
    atol: float = 1e-8,
    step: float | None = None,
    **options: Any,
) -> None:
    """Compare the derivatives of a function with central differences, number by number.

    Order 1 compares the derivatives of each result with respect to each number of the arguments; order 2 those of the
    products of the Jacobian, and so on. The step is a number's size (at least 1) times the cube root of the rounding
    error, where the error of differences is smallest (Nocedal and Wright, *Numerical Optimization*, 2nd edition,
    section 8.1).

    Args:
        fn: a function of numbers, arrays, lists, dicts or dataclasses; all of its numbers are differentiated.
        args: its arguments, a tuple or list.
        order: up to which order, 1 or more.
        modes: "forward", "reverse" or both.
        rtol, atol: how much a derivative may differ: `atol + rtol * |difference|`.
        step: how far the arguments are moved.
        options: those of `fg.jit`.

    Raises:
        DerivativeError: an `AssertionError`, which names the argument, the place in it and in the result, the mode, and
            both numbers.
        OptionError: for an unknown mode, or an order below 1.
        InputError: as `fg.jvp` does.

    Example:
        >>> import flatgrad as fg
        >>> fg.check_grads(lambda x, y: [fg.sin(x) * y, x * y], (0.3, 2.0), order=2)
        >>> try:
        ...     fg.check_grads(lambda x: x * fg.detach(x), (3.0,))
        ... except fg.DerivativeError as error:
        ...     print(error)
        f: the derivative of the result with respect to x is 3.0 by forward mode, and 6.0 by differences (order 1)
    """
    if not isinstance(order, int) or order < 1:
        raise OptionError(f"order must be 1 or more, got {order!r}")
    for mode in modes:
        if mode not in ("forward", "reverse"):
            raise OptionError(f"modes are 'forward' and 'reverse', got {mode!r}")
    name = getattr(fn, "__name__", type(fn).__name__).replace("<lambda>", "f")
    _check(fn, tuple(args), order, order, modes, (rtol, atol, step), options, name)


def _check(
    fn: Callable[..., Any], args: tuple[Any, ...], order: int, last: int, modes: Sequence[str],
    tolerances: tuple[float, float, float | None], options: dict[str, Any], name: str,
) -> None:  # fmt: skip
    rtol, atol, step = tolerances
    value: JitFunction[..., Any] = JitFunction(
        fn, **{"backend": "auto", "mode": "exact", "static_argnames": (), **options}
    )
    arguments = value._take_apart(args, {})
    numbers, kinds = [float(n) for n in arguments.all_numbers], arguments.kinds
    results = _Results(value(*args))
    columns = []
    for k, number in enumerate(numbers):
        size = step or max(1.0, abs(number)) * _EPS ** (1 / 3)
        ends = [_moved(kinds, numbers, k, number + sign * size) for sign in (1.0, -1.0)]
        above, below = (_Results(value(*end)).numbers for end in ends)
        width = (number + size) - (number - size)
        columns.append([(a - b) / width for a, b in zip(above, below, strict=True)])
    places = list(_places(arguments))
    for mode in modes:
        found = _columns(fn, args, kinds, len(numbers), results, mode, options)
        for place, column, differences in zip(places, found, columns, strict=True):
            for i, (derivative, difference) in enumerate(zip(column, differences, strict=True)):
                same = math.isclose(derivative, difference, rel_tol=rtol, abs_tol=atol)
                if not same and not (math.isnan(derivative) and math.isnan(difference)):
                    of = results.words(i)
                    raise DerivativeError(
                        f"{name}: the derivative of {of} with respect to {place} is {derivative!r} by {mode} mode, and "
                        f"{_short(difference)} by differences (order {last - order + 1})"
                    )
    if order > 1:
        ones = [kind.put_together(iter([1.0] * kind.size), _array) for kind in kinds]
        _check(lambda *each: jvp(fn, each, ones, **options)[1], args, order - 1, last, modes, tolerances, options, name)


class _Results:
    """The numbers of a result, and their places."""

    def __init__(self, result: Any) -> None:
        self.taken = Arguments((result,), {})
        self.numbers = [float(n) for n in self.taken.all_numbers]

    def words(self, k: int) -> str:
        """The place of a number."""
        place = list(_places(self.taken))[k].removeprefix("number 1")
        return f"result{place}" if place else "the result"

    def unit(self, k: int) -> Any:
        """A gradient of this structure: 1 for a number, and 0 for the others."""
        numbers = [float(i == k) for i in range(len(self.numbers))]
        return self.taken.kinds[0].put_together(iter(numbers), _array)


def _columns(
    fn: Callable[..., Any], args: tuple[Any, ...], kinds: Sequence[Kind], count: int, results: _Results, mode: str,
    options: dict[str, Any],
) -> list[list[float]]:  # fmt: skip
    """The derivatives of all results, by number of the arguments."""
    if mode == "forward":
        units = [_moved(kinds, [0.0] * count, k, 1.0) for k in range(count)]
        return [_Results(jvp(fn, args, unit, **options)[1]).numbers for unit in units]
    pull = vjp(fn, *args, **options)[1]
    rows = [_Results(list(pull(results.unit(i)))).numbers for i in range(len(results.numbers))]
    return [[row[k] for row in rows] for k in range(count)]


def _moved(kinds: Sequence[Kind], numbers: Sequence[float], k: int, number: float) -> tuple[Any, ...]:
    """The arguments with another number in one place."""
    moved = iter([*numbers[:k], number, *numbers[k + 1 :]])
    return tuple(kind.put_together(moved, _array) for kind in kinds)


def _array(items: list[Any], shape: tuple[int, ...]) -> Any:
    return np.array(items, dtype=float).reshape(shape)


def _places(arguments: Arguments) -> Iterator[str]:
    """The place of each number: `x`, `x[2]`, `p['a'][0]`."""
    for name, kind in zip(arguments.names(), arguments.kinds, strict=True):
        yield from _inside(name, kind)


def _inside(place: str, kind: Kind) -> Iterator[str]:
    if kind.scalar:
        yield place
    elif kind.parts:
        for label, part in zip(kind.labels, kind.parts, strict=True):
            yield from _inside(place + kind.place(label), part)
    else:
        for index in np.ndindex(tuple(kind.shape)) if kind.size else ():
            yield f"{place}[{', '.join(map(str, index))}]"


def _short(number: float) -> str:
    return repr(float(f"{number:.9g}"))
