"""Tables: rows that are selected by an integer, which may be a `Value` and is then known only when a program runs.

While a function is traced, an entry is selected by a fold over the rows, `where(i == 0, e0, -0.0) + where(i == 1, e1,
-0.0) + ...`. It has the bits of the entry, because x + (-0.0) is x for every float; and the gradient of each entry is
that of `where`. The interpreter makes one node in its place, with the same operands in the same order. (Of entries that
are leaves it needs the one that is selected: where others come in the order of gradients does not matter.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from .arrays import as_array
from .backward import CONSTANT
from .conversion import check_masks, number
from .errors import InputError
from .objects import is_traced
from .primitive import Primitive
from .primitives import equal, position, where
from .scalar import position as position_of
from .sites import user_line
from .traced import TracedValue
from .tracing import recorder
from .value import Condition, Value, as_condition, as_value

#: One entry, or entries in lists, tuples and arrays.
Row: TypeAlias = Any

_CONTAINERS = (list, tuple, np.ndarray)
_new = object.__new__


class _Selection:
    """The rule of a node that is one of its operands: that operand receives the gradient. None if it is a number."""

    symbol = "table"
    mixed = False
    differentiable = True

    def __init__(self, place: int | None) -> None:
        self.place = place

    def propagate(self, node: Any) -> None:
        if self.place is not None:
            node._operands[self.place]._bar += node._bar


class table:  # noqa: N801 - it is called as a function
    """Rows, one of which is selected by an integer: `fg.table(rows)[i]`, of numbers or `Value`s.

    The index may be a `Value`, such as an argument of a function that is compiled. Then one kernel serves all indices.
    Negative ones count from the end, as for a list. The index gets no gradient; the entries of the row that it selects
    get theirs.

    What comes out is a number, or a `Value` that hands its gradient on to the entry, as one sum. Each entry is an
    operand of it, in the order of the rows, as with `fg.where`: entries that are not selected are computed all the
    same, and receive a gradient of 0.

    Args:
        rows: a list, a tuple or an array of numbers and `Value`s; or of rows, which are such lists, or rows of rows.
            All have the same shape. Do not change them afterwards.

    Raises:
        InputError: for rows of other things, or of different shapes.

    Indexing raises `TableIndexError`, an `IndexError`, where there is no such row, and `IntegerError`, a `TypeError`,
    for a number that is no integer.

    Example:
        >>> import flatgrad as fg
        >>> word = lambda letters, vectors: fg.sum(fg.table(vectors)[i][0] ** 2 for i in letters)
        >>> gradient = fg.grad(word, argnums=1)
        >>> gradient([0, 2, 0], [[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])
        [[4.0, 0.0], [0.0, 0.0], [6.0, 0.0]]
        >>> gradient([1, 1, -1], [[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])  # the same kernel
        [[0.0, 0.0], [8.0, 0.0], [6.0, 0.0]]
    """

    __slots__ = ("_plain", "rows")

    rows: list[Row]

    def __init__(self, rows: Any) -> None:
        if isinstance(rows, table):
            rows = rows.rows
        if not isinstance(rows, _CONTAINERS) or (isinstance(rows, np.ndarray) and not rows.ndim):
            raise InputError(f"table: expected a list or an array of rows, got {type(rows).__name__}{user_line()}")
        check_masks(rows)
        self.rows = list(rows)
        self._plain = all(map(_is_plain, [rows] if isinstance(rows, np.ndarray) else self.rows))
        if self.rows:
            _check_shapes(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __repr__(self) -> str:
        return f"<table of {len(self.rows)} rows>"

    def __getitem__(self, index: Any) -> Row:
        rows = self.rows
        if isinstance(index, np.ndarray) and not index.ndim:
            index = index.item()
        if isinstance(index, Value) and is_traced(index) and rows:
            place = position(index, float(len(rows)))
            here = [equal(place, float(k)) for k in range(len(rows))]
            return _of_entries(rows, lambda entries: folded(here, entries))
        k, as_node = self._place(index), isinstance(index, Value)
        if self._plain:  # then the other rows do not matter
            rows, k = [rows[k]], 0
        return _of_entries(rows, lambda entries: _selected(k, entries, as_node))

    def _place(self, index: Any) -> int:
        """Where the row is, for an index that is known."""
        if isinstance(index, Value):
            index = index._number
        elif isinstance(index, (Condition, slice, *_CONTAINERS)):
            raise InputError(
                f"a table is indexed by one integer, got {type(index).__name__}; "
                f"for several rows write [table[i] for i in indices]{user_line()}"
            )
        try:
            index = float(number(index))
        except InputError as error:
            raise InputError(f"{error}{user_line()}") from None
        rows = float(len(self.rows))
        try:
            return int(position_of(index, rows))
        except (IndexError, ValueError) as error:
            raise position.error(error, (index, rows), None, user_line()) from None


def _is_plain(item: Row) -> bool:
    """Whether a row has numbers and leaves only, for which their order as operands does not matter."""
    if isinstance(item, np.ndarray):
        return item.dtype != object or all(map(_is_plain, item.ravel().tolist()))
    if isinstance(item, (list, tuple)):
        return all(map(_is_plain, item))
    if not isinstance(item, Value):
        return True
    made_by = item._primitive
    if made_by is None:
        return not isinstance(item, TracedValue)
    return made_by is CONSTANT or (made_by.__class__ is Primitive and not made_by.differentiable)


def _check_shapes(rows: Sequence[Row]) -> None:
    """Raise `InputError` unless all rows have the same shape, and numbers and `Value`s for entries."""
    if not isinstance(rows[0], _CONTAINERS):
        for entry in rows:
            if isinstance(entry, _CONTAINERS):
                raise InputError(f"table: some rows are numbers and some are lists{user_line()}")
            if isinstance(entry, Condition):
                raise InputError(f"table: a condition is not a number; use fg.where(condition, 1.0, 0.0){user_line()}")
            if not isinstance(entry, Value):
                as_value(entry)  # raises
        return
    for row in rows:
        if not isinstance(row, _CONTAINERS) or len(row) != len(rows[0]):
            what = f"{len(row)} entries" if isinstance(row, _CONTAINERS) else "a number"
            raise InputError(f"table: the first row has {len(rows[0])} entries, and another is {what}{user_line()}")
    if all(isinstance(row, np.ndarray) and row.dtype != object for row in rows):
        return
    for column in zip(*rows, strict=True):
        _check_shapes(column)


def _of_entries(rows: Sequence[Row], select: Any) -> Row:
    """A row whose entries are selected from those of all rows."""
    first = rows[0]
    if not isinstance(first, _CONTAINERS):
        return select(rows)
    entries = [_of_entries(column, select) for column in zip(*rows, strict=True)]
    if isinstance(first, np.ndarray):
        return as_array(entries, (len(entries),))
    return entries if isinstance(first, list) else tuple(entries)


def folded(here: Sequence[Any], entries: Sequence[Any]) -> Any:
    """The entry whose condition holds, where one does; -0.0 where none does."""
    result = where(here[0], entries[0], -0.0)
    for condition, entry in zip(here[1:], entries[1:], strict=True):
        result = result + where(condition, entry, -0.0)
    return result


def _selected(k: int, entries: Sequence[Any], as_node: bool) -> Any:
    """The entry of a known index: a node that hands its gradient on, or a number if none of them is a `Value`."""
    entry = entries[k]
    if all(map(_is_plain, entries)):  # their order as operands does not matter
        if not isinstance(entry, Value):
            return as_value(entry) if as_node else entry
        if entry._primitive is not None:
            return entry  # it receives no gradient
        entries, k = [entry], 0
    if recorder() is not None:
        return folded([as_condition(j == k) for j in range(len(entries))], entries)
    places = [j for j, each in enumerate(entries) if isinstance(each, Value)]
    result: Value = _new(Value)
    result._number = as_value(entry)._number
    result._grad, result._bar = 0.0, None
    result._operands = tuple([entries[j] for j in places])
    result._primitive = _Selection(places.index(k) if k in places else None)
    return result
