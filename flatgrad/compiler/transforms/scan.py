"""`scan`: a loop that carries a state from round to round, and whose rounds are recorded once.

It means a Python loop, and outside of a trace it is that loop. Inside of a trace a few rounds are executed. As soon as
three of them in a row are alike, and each reads and returns what lies one step further on than before, all that
follow are known, because they do the same to what they get.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...runtime.arrays import as_array, filled
from ...runtime.conversion import items_of
from ...runtime.errors import InputError
from ...runtime.primitives import Operand
from ...runtime.sites import user_line
from ...runtime.traced import TracedCondition, TracedValue
from ...runtime.tracing import recorder, recorders, refuse
from ...runtime.value import Condition, as_value
from ...runtime.wording import count_of
from ..calls.records import member, place_of
from ..program import progress
from ..program.builder import Indices
from ..program.program import Group
from ..program.trace import Trace, trace_function
from .complex_structures import joined, separated
from .structures import NUMBERS, is_container, is_structure, labels_of, rebuilt, shape_of, words

#: Shorter loops are recorded as they are; where so many rounds are not alike, the others are executed, too.
FEW, MOST = 8, 16
#: Integers up to here are floats, too.
_EXACT = 1 << 53
_TRACED = (TracedValue, TracedCondition)


def scan(
    fn: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """A loop that carries a state: `carry, y = fn(carry, x)` for each row `x` of `xs`, with the `y`s stacked.

    It means this Python loop, and is it where nothing is traced::

        ys = []
        for x in xs:
            carry, y = fn(carry, x)
            ys.append(y)
        return carry, np.array(ys)

    In a function that is traced (by `fg.grad`, `fg.compile`, `fg.jit`, ...), `fn` is called for a few rounds only, so
    that a million rounds cost no more than ten. There, numbers in `xs` are `Value`s for `fn`.

    Args:
        fn: a function of carry and row that returns the next carry and a result. It must not depend on how often it
            was called.
        init: the first carry: a number, real or complex, an array, None, or lists, tuples and dicts of these.
        xs: what the loop runs over: an array or a list, whose rows are used one after the other; or a tuple or dict of
            arrays and lists of the same length, as for `fg.vmap`. None if there is nothing; `length` is needed then.
            Rows may be anything, such as letters or layers of a network; those of float32 arrays are float64, those of
            arrays of small integers int64.
        length: how many rounds there are; it need not be given beside `xs`.
        reverse: begin with the last row. The results have the order of the rows all the same.

    Returns:
        The last carry, and the results of all rounds, stacked as by `fg.vmap`: of numbers an array, of arrays an array
        with one axis more, in the tuples, lists and dicts that `fn` returned; None for None.

    Raises:
        InputError: for rows of different numbers, for a carry that changes its structure or shape, for results that
            are not alike, and if `fn` does not return a pair.

    Example:
        >>> import flatgrad as fg, numpy as np
        >>> def step(total, x):
        ...     total = 0.5 * total + x
        ...     return total, total * total
        >>> fg.scan(step, 0.0, np.array([1.0, 2.0, 3.0]))
        (4.25, array([ 1.    ,  6.25  , 18.0625]))
        >>> fg.grad(lambda start: fg.scan(step, start, np.ones(1000))[0])(1.0) == 0.5**1000
        True
    """
    loop = _Loop(fn, separated(init), xs, length, reverse)
    if not loop.length:
        return init, joined(loop.no_results())
    trace = recorder()
    carry, results = loop.traced(trace) if isinstance(trace, Trace) and loop.length > FEW else loop.executed()
    return joined(carry), joined(results)


class _DifferentError(Exception):
    """A structure is not like another one: at a place, an item stands for another."""


class _Executed(NamedTuple):
    """A round that was executed in a trace: its first variable, and the operands that it returned."""

    first: int
    carry: Indices
    results: Indices


class _Steps(NamedTuple):
    """By how much operands advance from round to round: what the equations read, the carry, and the results."""

    operands: Indices
    carry: Indices
    results: Indices


class _Loop:
    """One call of `scan`.

    Attributes:
        length: the number of rounds.
        columns: per number in the results, those of the rounds so far; None before the first round.
        like: the result of the first round.
    """

    def __init__(self, fn: Callable[..., Any], init: Any, xs: Any, length: int | None, reverse: bool) -> None:
        self.fn, self.init, self.xs, self.reverse = fn, init, xs, reverse
        self.length = _length(xs, length)
        self.columns: list[list[Any]] | None = None
        self.like: Any = None
        _check("init", init)

    def row(self, number: int) -> Any:
        """The row of a round, counted in the order of execution."""
        return _row(self.xs, self.length - 1 - number if self.reverse else number)

    def call(self, number: int, carry: Any, row: Any) -> tuple[Any, list[Any], list[Any]]:
        """One round: the next carry, the numbers in it, and those of the result, which are noted."""
        returned = self.fn(joined(carry), row)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise _error(f"{_name(self.fn)} must return a pair, (carry, y), and returned {words(returned)}")
        carry, result = map(separated, returned)
        if self.columns is None:
            _check("the result", result)
            self.like, self.columns = result, [[] for _ in _numbers(result, result)]
        try:
            numbers = _numbers(carry, self.init)
        except _DifferentError as error:
            place, item, like = error.args
            raise _error(
                f"the carry{place} is {words(like)} in init, and {words(item)} after round {number:,}; "
                f"{_name(self.fn)} must return a carry with the structure and the shapes of init"
            ) from None
        try:
            results = _numbers(result, self.like)
        except _DifferentError as error:
            place, item, like = error.args
            raise _error(
                f"the result{place} is {words(like)} in round 0, and {words(item)} in round {number:,}; the results "
                "of all rounds must have the same structure and shapes"
            ) from None
        for column, each in zip(self.columns, results, strict=True):
            column.append(each)
        return carry, numbers, results

    def executed(self) -> tuple[Any, Any]:
        """What the loop means."""
        carry = self.init
        for number in range(self.length):
            carry, *_ = self.call(number, carry, self.row(number))
        return carry, self.stacked()

    def stacked(self) -> Any:
        """The results of all rounds."""
        columns = self.columns or []
        return _stacked(self.like, (each[::-1] if self.reverse else each for each in columns), self.length)

    def no_results(self) -> Any:
        """The results of no rounds: one round is traced, whose numbers do not matter, to see what it returns."""
        blank = _blank(self.xs)
        count = len(_numbers(blank, blank))

        def body(leaves: list[Any]) -> tuple[None, Sequence[Any]]:
            self.call(0, self.init, _put(blank, iter(leaves)))
            return None, ()

        groups = [Group("x", count, False)] if count else []
        trace_function(body, "scan", groups, [f"x{k}" for k in range(count)], faults="ieee", numbers=[0.0] * count)
        return _stacked(self.like, (() for _ in self.columns or ()), 0)

    # --- in a trace ---------------------------------------------------------------------------------------------------

    def traced(self, trace: Trace) -> tuple[Any, Any]:
        """The same in a trace: rounds are executed until the others are known.

        From the round on in which variables take part, numbers in `xs` are variables as well, and so are numbers that
        the carry counts with. If `fn` cannot do with that, or chooses by numbers, the trace goes back to that round.
        Loops inside of a round that is compared are written out.
        """
        self.folds = trace.folds
        try:
            return self.recorded(trace)
        finally:
            trace.folds = self.folds

    def recorded(self, trace: Trace) -> tuple[Any, Any]:
        """The same, in which `trace.folds` says whether loops inside are written out."""
        streams = _Streams.of(trace, self.xs, self.length, self.reverse)
        begin: tuple[int, int, Any] | None = None  # where numbers became variables
        rounds: list[_Executed] = []
        carry, numbers, results, number = self.init, _numbers(self.init, self.init), list[Any](), 0
        trace.folds = False
        while number < self.length:
            is_next = streams is not None and begin is None and number >= streams.low
            if is_next and streams is not None and any(isinstance(each, _TRACED) for each in (*numbers, *results)):
                begin = number, trace.next, carry
                streams.capture()
            if begin is None or streams is None or number >= streams.high:
                carry, numbers, results = self.call(number, carry, self.row(number))
                number += 1
                continue
            turns, first, before = (
                len(trace.turns),
                trace.next,
                [(each, each.refusal) for each in recorders() if each is not None],
            )
            try:
                carry, numbers, results = self.call(number, carry, streams.row(number, self.row(number)))
                failed = any(each.refusal is not refusal for each, refusal in before) or len(trace.turns) > turns
            except Exception:
                failed = True
            if failed:
                for each, refusal in before:
                    each.refusal = refusal
                number, first, carry = begin
                trace.forget(first)
                for column in self.columns or ():
                    del column[number:]
                begin, streams, trace.folds = None, None, self.folds
                continue
            number += 1
            operands = [np.array([*map(trace.reference, each)], dtype=np.int64) for each in (numbers, results)]
            rounds.append(_Executed(first, *operands))
            if not 3 <= len(rounds) <= MOST:
                trace.folds = self.folds and len(rounds) > MOST
                continue
            steps = _steps(trace, rounds[-3:])
            if isinstance(steps, _Steps):
                numbers = self.continued(trace, rounds[-3:], steps, numbers, streams.high - number)
                carry, number, streams = _put(carry, iter(numbers)), streams.high, None
            elif steps is not None and all(isinstance(numbers[k], float) for k in steps):
                for k in steps:  # the carry counts
                    numbers[k] = trace.value(trace.capture(numbers[k]))
                carry = _put(carry, iter(numbers))
        return carry, self.stacked()

    def continued(
        self, trace: Trace, rounds: Sequence[_Executed], steps: _Steps, numbers: Sequence[Any], count: int
    ) -> list[Any]:
        """The numbers in the carry after so many more rounds that are like the ones executed last."""
        first, last = rounds[0].first, rounds[-1]
        size = rounds[1].first - first
        if not self.folds and count * size > progress.MANY:
            raise refuse(
                f"fg.scan: {count:,} rounds of {count_of(size, 'equation')} are too many to be written out. Call "
                "fg.scan in the function that is compiled, not in a part that is differentiated, or in another scan. "
                "For a derivative of the loop, carry it along: call fg.jvp of the step in each round"
            )
        trace.folds = self.folds
        trace.repeat(first, size, steps.operands, count + len(rounds))
        returned = zip(self.columns or (), last.results.tolist(), steps.results.tolist(), strict=True)
        for column, index, step in returned:
            like = column[-1]
            if step:
                column += [
                    _variable(trace, like, each) for each in range(index + step, index + step * (count + 1), step)
                ]
            else:
                column += [like] * count
        advanced = (last.carry + steps.carry * count).tolist()
        moved = zip(numbers, advanced, steps.carry.tolist(), strict=True)
        return [_variable(trace, each, index) if step else each for each, index, step in moved]


def _variable(trace: Trace, like: Any, index: int) -> Any:
    """A number or a condition of a trace."""
    made: Any = object.__new__(TracedCondition if isinstance(like, TracedCondition) else TracedValue)
    made._trace, made._index = trace, index
    return made


def _steps(trace: Trace, rounds: Sequence[_Executed]) -> _Steps | list[int] | None:
    """By how much operands advance in three rounds that are alike, or None if these are not alike.

    If numbers in the carry are all the difference, it is their positions.
    """
    firsts = [each.first for each in rounds]
    a, b, c = (trace.since(*ends) for ends in itertools.pairwise([*firsts, trace.next]))
    for other in (b, c):
        if not all(map(np.array_equal, (a.opcodes, a.starts, a.sites), (other.opcodes, other.starts, other.sites))):
            return None
    counting = np.flatnonzero((rounds[1].carry != rounds[2].carry) & (rounds[2].carry < 0))
    if len(counting):
        return counting.tolist()
    steps = []
    for x, y, z in ((a.operands, b.operands, c.operands), *zip(*(each[1:] for each in rounds), strict=True)):
        step = z - y
        moves = [trace.region(each) for each in (x, y, z)]
        together = (moves[0] == moves[1]) & (moves[1] == moves[2]) & (x >= 0)
        if not ((step == y - x) & ((step == 0) | together)).all():
            return None
        steps.append(step)
    return _Steps(*steps)


class _Stream:
    """An array or a list whose rows are used one after the other, as columns in the order of execution.

    Attributes:
        columns: per number of a row, those of all rows: an array of floats, or a `_Line`.
    """

    def __init__(self, columns: list[Any]) -> None:
        self.columns = columns

    @classmethod
    def of(cls, trace: Trace, item: Any, reverse: bool) -> _Stream | None:
        """The stream of an array or a list; None if it has none."""
        order = slice(None, None, -1 if reverse else 1)
        if isinstance(item, np.ndarray) and item.dtype.kind in "fiu":
            table = item.reshape(len(item), -1)[order]
            is_exact = item.dtype.kind == "f" or bool(((table >= -_EXACT) & (table <= _EXACT)).all())
            return cls(list(table.astype(float).T)) if is_exact else None
        if isinstance(item, np.ndarray) and item.dtype.kind == "b" and item.ndim > 1:
            return None  # NumPy's sum of truth values is a truth value
        try:
            rows = [_numbers(row, item[0]) for row in item[order]]
        except _DifferentError:
            return None
        columns = [_column(trace, column) for column in zip(*rows, strict=True)]
        return None if any(column is None for column in columns) else cls(columns)

    def capture(self, trace: Trace) -> None:
        """Make variables of numbers that differ from row to row."""
        varying = [k for k, each in enumerate(self.columns) if not isinstance(each, _Line) and _varies(each)]
        if varying:
            numbers = np.stack([self.columns[k] for k in varying], axis=1)
            first = trace.capture(numbers)
            for place, k in enumerate(varying):
                self.columns[k] = _Line(first + place, len(varying), 0, len(numbers))

    def row(self, trace: Trace, number: int, row: Any) -> Any:
        """The row of a round, with variables."""
        numbers = _numbers(row, row)
        for k, each in enumerate(self.columns):
            if isinstance(each, _Line):
                numbers[k] = trace.value(each.first + each.step * number)
        return _put(row, iter(numbers))


class _Line(NamedTuple):
    """Variables at equal distances: `first + step * k`, for rows from `low` to `high`."""

    first: int
    step: int
    low: int
    high: int


def _varies(numbers: Any) -> bool:
    bits = np.ascontiguousarray(numbers).view(np.int64)
    return bool((bits != bits[0]).any())


def _column(trace: Trace, numbers: Sequence[Any]) -> Any:
    """Floats as an array; `Value`s as a line, on which all but a few at both ends are; None for others."""
    if not all(isinstance(each, NUMBERS) for each in numbers):
        return None
    if any(isinstance(each, (int, np.integer)) and not -_EXACT <= each <= _EXACT for each in numbers):
        return None
    if not any(isinstance(each, Operand) for each in numbers):
        return np.array(numbers, dtype=float)
    if any(isinstance(each, Condition) for each in numbers):
        return None
    variables = np.array([*map(trace.reference, numbers)], dtype=np.int64)
    middle = len(variables) // 2
    step = int(variables[middle] - variables[middle - 1])
    others = np.flatnonzero((np.diff(variables) != step) | (np.diff(trace.region(variables)) != 0))
    low = int(others[others < middle].max(initial=-1)) + 1
    high = int(others[others >= middle].min(initial=len(variables) - 1)) + 1
    if variables[middle] < 0 or max(low, len(variables) - high) > MOST:
        return None
    return _Line(int(variables[middle]) - step * middle, step, low, high)


class _Streams:
    """All that the rows of a loop consist of.

    Attributes:
        low, high: the rows that lie on lines.
    """

    def __init__(self, trace: Trace, xs: Any, length: int, streams: list[_Stream]) -> None:
        self.trace, self.xs, self.streams = trace, xs, streams
        lines = [each for stream in streams for each in stream.columns if isinstance(each, _Line)]
        self.low = max([0, *(each.low for each in lines)])
        self.high = min([length, *(each.high for each in lines)])

    @classmethod
    def of(cls, trace: Trace, xs: Any, length: int, reverse: bool) -> _Streams | None:
        """Those of `xs`; None if rows do not follow each other at equal distances."""
        streams = [_Stream.of(trace, item, reverse) for _, item in _items(xs)]
        return None if None in streams else cls(trace, xs, length, [each for each in streams if each is not None])

    def capture(self) -> None:
        """Make variables of numbers that differ from row to row."""
        for each in self.streams:
            each.capture(self.trace)

    def row(self, number: int, row: Any) -> Any:
        """A row, in which numbers that differ from row to row are variables."""
        streams = iter(self.streams)

        def parts(xs: Any, row: Any) -> Any:
            if not is_structure(xs):
                return next(streams).row(self.trace, number, row)
            labels = labels_of(xs)
            return rebuilt(xs, [parts(xs[k], row[k]) for k in labels]) if labels else xs

        return parts(self.xs, row)


# --- structures -------------------------------------------------------------------------------------------------------


def _error(text: str) -> InputError:
    return InputError(f"scan: {text}{user_line()}")


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _items(xs: Any, place: str = "xs") -> Iterator[tuple[str, Any]]:
    """The arrays and lists in a structure, with their places."""
    if is_structure(xs):
        for label in labels_of(xs):
            yield from _items(member(xs, label), place + place_of(xs, label))
        return
    if not isinstance(xs, (list, np.ndarray)) or (isinstance(xs, np.ndarray) and not xs.ndim):
        raise _error(f"{place} is {words(xs)}, which has no rows; if all rounds use the same, let fn read it itself")
    yield place, xs


def _length(xs: Any, length: int | None) -> int:
    """How many rounds there are."""
    lengths = [(place, len(item)) for place, item in _items(xs)]
    if length is not None:
        try:
            lengths = [("length", operator.index(length)), *lengths]
        except TypeError:
            raise _error(f"length must be an integer, got {length!r}") from None
    if not lengths:
        raise _error("there is nothing in xs, so that length must say how many rounds there are")
    (first, count), *others = lengths
    if count < 0:
        raise _error(f"length must not be negative, got {count}")
    for place, other in others:
        if other != count:
            what = f"length is {count:,}" if first == "length" else f"{first} has {count_of(count, 'row')}"
            raise _error(
                f"{what}, and {place} has {count_of(other, 'row')}; there is a round for each row"
                + "; a list of arrays is a structure of them: if each array is a row, pass np.array(rows)"
                * (is_structure(xs) and isinstance(xs, list))
            )
    return count


def _row(xs: Any, k: int) -> Any:
    """One row of a structure."""
    if is_structure(xs):
        labels = labels_of(xs)
        return rebuilt(xs, [_row(member(xs, label), k) for label in labels]) if labels else xs
    row = xs[k]
    if isinstance(row, np.ndarray) and row.dtype.kind in "fiu" and row.dtype.itemsize < 8:
        return row.astype(float if row.dtype.kind == "f" else np.int64)  # as the numbers in a row are Python's
    return row.item() if isinstance(row, np.generic) else row


def _blank(xs: Any) -> Any:
    """A row of a structure without rows, of zeros."""
    if is_structure(xs):
        labels = labels_of(xs)
        return rebuilt(xs, [_blank(member(xs, label)) for label in labels]) if labels else xs
    return np.zeros(xs.shape[1:]) if isinstance(xs, np.ndarray) and xs.ndim > 1 else 0.0


def _check(what: str, item: Any, place: str = "") -> None:
    """Raise an error for what holds anything else than numbers."""
    if is_container(item):
        for label in labels_of(item):
            _check(what, member(item, label), place + place_of(item, label))
    elif not isinstance(item, (np.ndarray, type(None), *NUMBERS)):
        raise _error(
            f"{what}{place} is {words(item)}; it may hold numbers, arrays and None, in lists, tuples, dicts and "
            "dataclasses"
        )


def _numbers(item: Any, like: Any) -> list[Any]:
    """The numbers of an item that has the structure of another one.

    Raises:
        _DifferentError: if it has not, with the place, what is there, and what should be there.
    """
    numbers: list[Any] = []
    _append(numbers, item, like, "")
    return numbers


def _append(numbers: list[Any], item: Any, like: Any, place: str) -> None:
    if isinstance(like, NUMBERS):
        if not isinstance(item, NUMBERS):
            raise _DifferentError(place, item, like)
        numbers.append(item)
    elif isinstance(like, np.ndarray):
        if not isinstance(item, np.ndarray) or item.shape != like.shape:
            raise _DifferentError(place, item, like)
        numbers += items_of(item)
    elif like is None:
        if item is not None:
            raise _DifferentError(place, item, like)
    elif not is_container(like):  # a row may be anything
        raise _DifferentError(place, item, like)
    else:
        labels = labels_of(like)
        if type(item) is not type(like) or set(labels_of(item)) != set(labels):
            raise _DifferentError(place, item, like)
        for label in labels:
            _append(numbers, member(item, label), member(like, label), place + place_of(like, label))


def _put(like: Any, numbers: Iterator[Any]) -> Any:
    """An item of this structure with other numbers."""
    if isinstance(like, NUMBERS):
        return next(numbers)
    if isinstance(like, np.ndarray):
        items = list(itertools.islice(numbers, like.size))
        has_values = any(isinstance(each, Operand) for each in items)
        return as_array(items, like.shape) if has_values else np.array(items, dtype=like.dtype).reshape(like.shape)
    labels = labels_of(like)
    return rebuilt(like, [_put(member(like, label), numbers) for label in labels]) if labels else like


def _stacked(like: Any, columns: Iterator[Sequence[Any]], count: int) -> Any:
    """Results of the structure of one, stacked; `columns` has the numbers of all of them, one column per number."""
    shape = shape_of(like)
    if shape is None:
        labels = labels_of(like)
        return rebuilt(like, [_stacked(member(like, label), columns, count) for label in labels]) if labels else like
    own = list(itertools.islice(columns, int(np.prod(shape))))
    if any(isinstance(each, Operand) for column in own for each in column):
        array: Any = filled((count, len(own)), 0.0)
        for k, column in enumerate(own):
            array[:, k] = [each if isinstance(each, Operand) else as_value(each) for each in column]
    else:
        array = np.ascontiguousarray(np.array(own).T)
    return array.reshape((count, *shape))
