"""The value of a function as a witness: where a kernel for all sizes is too large to be compared, its value is.

The function is called as it is, on plain numbers, or on `Value`s if it does not take plain numbers; with the signs of
the numbers changed, too, if it takes these. A call costs a small part of what tracing costs, so it can be made at sizes
that are far too large for a trace. A derivative of which the value is right is right, too: numbers near those of the
call give the value of another function away, and so the derivative of one. What changes the derivative only, as
`fg.detach` does, and primitives whose derivative a user has declared, is counted in that call: as many of each are
expected as calls at small sizes let foresee.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from ...runtime.noting import noting
from ...runtime.primitive import Primitive
from ...runtime.value import Value
from ...runtime.wording import count_of

#: A call may make so many operations, on plain numbers and on `Value`s,
_OPERATIONS: Final = 20_000_000, 1_000_000
#: or take so many seconds, as far as that can be told from one at a small size.
_SECONDS: Final = 1.0
#: Numbers that differ by more than this part of them are those of different functions,
_TOLERANCE: Final = 1e-9
#: unless they differ by less than so many times what changes of the arguments by such a part of them make.
_TIMES, _NOISE = 10.0, 1e-13

#: All numbers of a result.
_Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
#: From arguments of some size to the numbers of the value.
Call: TypeAlias = Callable[[Sequence[Any]], Any]
#: How often primitives were called whose derivatives do not show in values.
Counts: TypeAlias = Counter[Primitive]
#: From what counts for arguments to the counts that are foreseen, for the small and the large ones; None if none are.
Foresee: TypeAlias = Callable[[Callable[[Sequence[Any]], Counts]], tuple[Counts, Counts] | None]


class Found(NamedTuple):
    """The value of a function as its kernel has it: numbers, and the sizes of arrays and lists, if they are known."""

    numbers: _Numbers
    sizes: list[int] | None


def is_foreseen(
    plain: Call, interpreted: Call, kernel: Callable[[Sequence[Any]], Found], small: Sequence[Any],
    large: Sequence[Any], are_numbers: Sequence[bool], ratio: float, operations: int, exact: bool, foresee: Foresee,
) -> str | None:  # fmt: skip
    """Whether a function has the value that its kernel for all sizes has, and changes derivatives as it does.

    Args:
        plain, interpreted: call the function as it is, and on `Value`s.
        kernel: calls the kernel for all sizes.
        small: arguments at whose size the kernel is known to be right. If the function has another value there, its
            calls say nothing.
        large: arguments at whose size that is asked.
        are_numbers: which of the arguments hold numbers.
        ratio: how many times as many operations there are for these; 0 if a call does not take long.
        operations: how many there are for these.
        exact: whether the kernel has the bits of calls on `Value`s.
        foresee: from calls at small sizes, how often what changes derivatives only is called.

    Returns:
        An empty text, or one that says what is different. None if that cannot be said: if a call would take too long,
        or the function does not take such numbers.
    """

    def moved(move: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        pairs = zip(arguments, are_numbers, strict=True)
        return [_mapped(move, item) if has_numbers else item for item, has_numbers in pairs]

    for call, has_bits, most in (plain, False, _OPERATIONS[0]), (interpreted, exact, _OPERATIONS[1]):
        for move in _moved, _same:
            start = time.thread_time()
            few = moved(move, small)
            try:
                with noting() as counts:
                    result = call(few)
                seconds = time.thread_time() - start
                found = kernel(few)
                agrees = _agree(found.numbers, numbers_of(result), has_bits)
                has_sizes = _sizes_of(result) == found.sizes
            except Exception:  # moved numbers may be outside of its domain, and it may not take plain numbers
                continue
            if not agrees or (operations > most and seconds * ratio > _SECONDS):
                break
            many = moved(move, large)
            try:
                found = kernel(many)
            except Exception:
                continue
            found = found if has_sizes else found._replace(sizes=None)
            with noting() as counts_of_many:
                verdict = _has_value(call, many, partial(moved, _noisy, many), found, has_bits)
            if verdict == "":
                few, others = moved(_mixed, few), moved(_mixed, many)
                verdict = _has_value_for_signs(call, kernel, few, others, partial(moved, _noisy, others), has_bits)
            if verdict == "":
                return _counts_differ(counts, counts_of_many, partial(_counted, call, partial(moved, move)), foresee)
            if verdict is not None:
                return verdict
            break
    return None


def _has_value(
    call: Call, arguments: Sequence[Any], noisy: Callable[[], Sequence[Any]], value: Found, has_bits: bool
) -> str | None:
    """An empty text if a function has a value, up to rounding, else what is different; None if it cannot be said."""
    try:
        found, result = value.numbers, call(arguments)
        expected = numbers_of(result)
        if value.sizes is not None and _sizes_of(result) != value.sizes:
            return "what it returns has another shape"
        if _agree(found, expected, has_bits):
            return ""
        if has_bits or len(found) != len(expected):
            return "it has another value"
        noise = np.abs(numbers_of(call(noisy())) - expected)
        is_noise = np.abs(found - expected) <= _TIMES * noise
        return None if is_noise.all() else "it has another value"
    except MemoryError:
        return None
    except Exception as error:  # at small sizes it raises nothing, nor does the kernel
        return f"it raises {type(error).__name__}"


def _has_value_for_signs(
    call: Call, kernel: Callable[[Sequence[Any]], Found], small: Sequence[Any], large: Sequence[Any],
    noisy: Callable[[], Sequence[Any]], has_bits: bool,
) -> str | None:  # fmt: skip
    """The same for numbers of both signs, which show `abs` and its like; empty, too, if the function takes none."""
    with np.errstate(all="ignore"):
        try:
            few, found = kernel(small).numbers, kernel(large)
            is_finite = np.isfinite(few).all() and np.isfinite(found.numbers).all()
            if not is_finite or not _agree(few, numbers_of(call(small)), has_bits):
                return ""
        except Exception:
            return ""
        return _has_value(call, large, noisy, found._replace(sizes=None), has_bits)


def _counted(call: Call, moved: Callable[[Sequence[Any]], Sequence[Any]], arguments: Sequence[Any]) -> Counts:
    """What a call counts."""
    with noting() as counts:
        call(moved(arguments))
    return counts


def _counts_differ(small: Counts, large: Counts, count: Callable[[Sequence[Any]], Counts], foresee: Foresee) -> str:
    """What is called more or less often than is foreseen; empty if nothing is, or if it cannot be foreseen.

    Args:
        small, large: what calls of both sizes count.
        count: counts for other arguments.
        foresee: see `is_foreseen`.
    """
    if not small and not large:
        return ""
    try:
        foreseen = foresee(count)
    except Exception:  # the function raises at a size at which it was traced: its samples say nothing
        return ""
    if foreseen is None or +foreseen[0] != small:
        return ""
    for row in {**foreseen[1], **large}:
        if foreseen[1][row] != large[row]:
            times = count_of(large[row], "time"), f"{foreseen[1][row]:,}"
            return f"it calls {row.name} {times[0]}, and not {times[1]}, so that its derivative is another one"
    return ""


def _agree(found: _Numbers, expected: _Numbers, has_bits: bool) -> bool:
    """Whether numbers are these, up to rounding or to the last bit."""
    if len(found) != len(expected):
        return False
    if has_bits:
        return np.array_equal(found, expected, equal_nan=True) and bool(
            (np.signbit(found) == np.signbit(expected)).all()
        )
    return np.allclose(found, expected, _TOLERANCE, 0.0, equal_nan=True)


def _moved(numbers: _Numbers) -> _Numbers:
    """Numbers near these, so that equal numbers do not hide which of them is read."""
    generator = np.random.default_rng(0)
    return numbers * (1.0 + 0.01 * generator.random(numbers.shape)) + 0.001 * generator.random(numbers.shape)


def _mixed(numbers: _Numbers) -> _Numbers:
    """Such numbers of both signs."""
    mixed: _Numbers = numbers * np.random.default_rng(0).choice([-1.0, 1.0], numbers.shape)
    return mixed


def _noisy(numbers: _Numbers) -> _Numbers:
    noisy: _Numbers = numbers * (1.0 + _NOISE * np.random.default_rng(0).choice([-1.0, 1.0], numbers.shape))
    return noisy


def _same(numbers: _Numbers) -> _Numbers:
    return numbers.copy()


def _mapped(move: Callable[[Any], Any], item: Any) -> Any:
    """An argument with its floats moved, and those of its `Value`s.

    >>> _mapped(lambda x: 2.0 * x, {"a": [1.0, 2.0], "b": (3, np.ones(2))})
    {'a': [2.0, 4.0], 'b': (3, array([2., 2.]))}
    """
    if isinstance(item, np.ndarray):
        if item.dtype == object:
            return np.array([_mapped(move, each) for each in item.ravel()], dtype=object).reshape(item.shape)
        return move(item.astype(float)) if item.dtype.kind == "f" else item.copy()
    if isinstance(item, float):
        return float(move(np.float64(item)))
    if isinstance(item, Value):
        return Value(float(move(np.float64(item.data))))
    if type(item) in (list, tuple):
        if item and all(type(each) is float for each in item):
            return type(item)(move(np.array(item)).tolist())
        return type(item)(_mapped(move, each) for each in item)
    if type(item) is dict:
        return {key: _mapped(move, each) for key, each in item.items()}
    return item


def without_values(item: Any) -> Any:
    """An argument with numbers in place of its `Value`s.

    >>> without_values([Value(1.0), (2, Value(3.0))])
    [1.0, (2, 3.0)]
    """
    if isinstance(item, Value):
        return item.data
    if type(item) in (list, tuple):
        return type(item)(map(without_values, item))
    if type(item) is dict:
        return {key: without_values(each) for key, each in item.items()}
    if isinstance(item, np.ndarray) and item.dtype == object:
        return np.array(list(map(without_values, item.ravel()))).reshape(item.shape)
    return item


def numbers_of(item: Any) -> _Numbers:
    """All numbers of a result, in order.

    >>> numbers_of({"a": [1.0, np.ones(2)], "b": Value(3.0)})
    array([1., 1., 1., 3.])
    """
    return np.concatenate([np.zeros(0), *_parts_of(item)])


def _sizes_of(item: Any) -> list[int]:
    """The sizes of the arrays and lists in a result, the outer ones first; one of equal parts counts as an array.

    >>> _sizes_of({"a": np.ones((3, 2)), "b": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]})
    [3, 2, 3, 2]
    """
    if isinstance(item, np.ndarray):
        return list(item.shape)
    if isinstance(item, (dict, list, tuple)):
        parts = list(map(_sizes_of, item.values() if isinstance(item, dict) else item))
        if not isinstance(item, dict) and all(part == parts[0] for part in parts):
            return [len(parts), *(parts[0] if parts else ())]
        return [size for part in parts for size in part]
    return []


def _parts_of(item: Any) -> Iterator[_Numbers]:
    if isinstance(item, np.ndarray) and item.dtype == object:
        item = item.ravel().tolist()
    if isinstance(item, dict):
        item = list(item.values())
    if isinstance(item, (list, tuple)):
        if all(type(each) is float for each in item):
            yield np.array(item, dtype=float)
        else:
            for each in item:
                yield from _parts_of(each)
    else:
        yield np.asarray(item.data if isinstance(item, Value) else item, dtype=float).ravel()
