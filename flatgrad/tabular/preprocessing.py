"""From the columns of a table to the inputs of a model, and from the target column to the targets of the loss.

A column of numbers becomes one input, standardised with the mean and the standard deviation of the training rows; a
missing number becomes their mean. A column of texts becomes one input per category that the training rows have: 1 for
the row's category and 0 for the others. "Missing" is a category if it occurs there. A category that the training rows
do not have is none of them: 0 for all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self, cast

import numpy as np

from ..runtime.errors import InputError, OptionError
from ..runtime.wording import count_of
from .table import Cell, Table, as_number, is_missing, listed, suggestion

#: If at least this share of a column are numbers, a text in it is a mistake.
_MOSTLY = 0.9
#: A column with more different texts than this, and than half of the rows, names the rows and is no feature.
_FEW_CATEGORIES = 10
#: A target of whole numbers is a class if it has no more different values than this.
_FEW_CLASSES = 10
_MOST_CLASSES = 100
#: What a missing text is called, where that is a category.
_MISSING_CATEGORY = ""

Note = Callable[[str], Any]
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Standardised:
    """Numbers that a model takes, or returns, as `(number - mean) / scale`."""

    kind: ClassVar[str] = "number"
    name: str
    mean: float
    scale: float

    @classmethod
    def of(cls, name: str, numbers: Sequence[float]) -> Self:
        """By mean and standard deviation; the latter is exactly 0 if and only if all numbers are the same.

        Raises:
            InputError: for numbers that are too large, or too close to each other.
        """
        if len(set(numbers)) <= 1:
            return cls(name, numbers[0] if numbers else 0.0, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = float(np.mean(numbers)), float(np.std(numbers))
        if not (math.isfinite(mean) and 0 < scale < math.inf):
            what = "too large, or too close to each other, to be standardised"
            raise InputError(f"column {name!r}: its numbers are {what}")
        return cls(name, mean, scale)

    @classmethod
    def from_dict(cls, item: Mapping[str, Any]) -> Self:
        """What `Preprocessing.as_dict` described."""
        name, mean, scale = _text(item["name"]), float(item["mean"]), float(item["scale"])
        if not (math.isfinite(mean) and 0 < scale < math.inf):
            raise ValueError(f"mean {mean} and scale {scale}")
        return cls(name, mean, scale)

    def standardise(self, number: float) -> float:
        """The number as the model takes or returns it."""
        return (number - self.mean) / self.scale


class NumberColumn(Standardised):
    """A column of numbers: one input."""

    width = 1

    def encode(self, table: Table, note: Note) -> Array:
        """The input of each row, as a column; 0, the mean, where the number is missing.

        Raises:
            InputError: for a text, or an infinite number, naming its line.
        """
        numbers = numbers_of(table, self.name, "; where the model was trained, this column held numbers")
        missing = numbers.count(None)
        if missing:
            note(f"column {self.name!r}: {_rows(missing)} without a number; {self.mean:.6g}, the mean, is taken")
            numbers = [self.mean if number is None else number for number in numbers]
        column = np.array(numbers, dtype=float)
        return ((column - self.mean) / self.scale)[:, np.newaxis]


@dataclass(frozen=True)
class CategoryColumn:
    """A column of texts: one input per category, 1 for the row's own and 0 for the others."""

    kind: ClassVar[str] = "category"
    name: str
    categories: tuple[str, ...]

    @property
    def width(self) -> int:
        return len(self.categories)

    def encode(self, table: Table, note: Note) -> Array:
        """The inputs of each row, in a row each; all are 0 for a category that is not known."""
        categories = [_category(text) for text in table.column(self.name)]
        unknown = Counter(category for category in categories if category not in self.categories)
        if unknown:
            names = listed(["(missing)" if name == _MISSING_CATEGORY else name for name in unknown], 5)
            note(
                f"column {self.name!r}: {_rows(sum(unknown.values()))} with a category that the training rows do not "
                f"have ({names}); taken as none of those known"
            )
        units = {c: [float(c == other) for other in self.categories] for c in {*categories}}
        return np.array([units[category] for category in categories]).reshape(-1, self.width)


@dataclass(frozen=True)
class ClassTarget:
    """A target of classes. Two classes: one score, which speaks for the second. More: one score per class."""

    kind: ClassVar[str] = "class"
    name: str
    classes: tuple[str, ...]

    @property
    def scores(self) -> int:
        return 1 if len(self.classes) == 2 else len(self.classes)


class NumberTarget(Standardised):
    """A target of numbers: one score."""

    scores = 1


Column = NumberColumn | CategoryColumn
Target = ClassTarget | NumberTarget


@dataclass(frozen=True)
class Preprocessing:
    """How the rows of a table become the inputs of a model, and what its scores mean."""

    columns: tuple[Column, ...]
    target: Target

    @property
    def inputs(self) -> int:
        """How many inputs the model has."""
        return sum(column.width for column in self.columns)

    def encode(self, table: Table, note: Note) -> list[list[float]]:
        """The model's inputs for each row.

        Args:
            table: it must have the columns that the training table had; further ones do not matter.
            note: is called with remarks on missing values and unknown categories.

        Raises:
            InputError: for a column that is not there, or a text where there should be a number.
        """
        absent = [column.name for column in self.columns if column.name not in table.columns]
        if absent:
            others = [name for name in table.columns if name not in {column.name for column in self.columns}]
            hint = suggestion(absent[0], others) if others else ""
            raise InputError(f"{table.name} has no column {listed(absent)}, which the model was trained with{hint}")
        inputs: list[list[float]] = np.hstack([column.encode(table, note) for column in self.columns]).tolist()
        return inputs

    def missing(self, table: Table) -> Array:
        """Where a number is missing: a row of booleans for each row, with one for each column of numbers."""
        numbers = [column.name for column in self.columns if isinstance(column, NumberColumn)]
        return (
            np.array([[cell is None for cell in table.cells(name)] for name in numbers], dtype=bool)
            .reshape(len(numbers), len(table))
            .T
        )

    def as_dict(self) -> dict[str, Any]:
        """A description for JSON, from which `from_dict` makes the same preprocessing."""
        columns, target = (
            [{"name": item.name, "kind": item.kind, **asdict(item)} for item in items]
            for items in (self.columns, [self.target])
        )
        return {"columns": columns, "target": target[0]}

    @classmethod
    def from_dict(cls, about: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing that `as_dict` described.

        Raises:
            KeyError, TypeError, ValueError: if it is no such description.
        """
        columns = tuple(_column_from(item) for item in about["columns"])
        item = about["target"]
        target: Target
        if item["kind"] == "class":
            target = ClassTarget(_text(item["name"]), tuple(map(_text, item["classes"])))
            if len(target.classes) < 2:
                raise ValueError("fewer than two classes")
        else:
            target = NumberTarget.from_dict(item)
        if not columns:
            raise ValueError("no columns")
        classes = target.classes if isinstance(target, ClassTarget) else ()
        for texts in ([*(column.name for column in columns), target.name], classes):
            if len(set(texts)) != len(texts):
                raise ValueError("a name appears twice")
        return cls(columns, target)


def _column_from(item: Mapping[str, Any]) -> Column:
    if item["kind"] == "category":
        categories = tuple(map(_text, item["categories"]))
        if len(set(categories)) != len(categories):
            raise ValueError("a category appears twice")
        return CategoryColumn(_text(item["name"]), categories)
    if item["kind"] != "number":
        raise ValueError(f"unknown kind of column {item['kind']!r}")
    return NumberColumn.from_dict(item)


def _text(item: Any) -> str:
    if not isinstance(item, str):
        raise TypeError(f"expected a text, got {item!r:.40}")
    return item


# --- the target ---------------------------------------------------------------------------------------------------


def with_target(table: Table, target: str, note: Note) -> Table:
    """The rows that have a target.

    Raises:
        InputError: if there is no such column, or no row has a value in it.
    """
    rows = [k for k, text in enumerate(table.column(target)) if not is_missing(text)]
    missing = len(table) - len(rows)
    if not rows:
        raise InputError(f"{table.name}: the target column {target!r} has no values")
    if missing:
        note(f"{_rows(missing)} without a target ({target!r}) left out")
    return table.take(rows)


def task_of(table: Table, target: str) -> str:
    """The task that a target makes likely: "classify" for texts and a few whole numbers, "regress" for other numbers.

    Raises:
        InputError: if nearly all values are numbers, but not all.
    """
    if not holds_numbers(table, target, "; correct it, or give --task classify if these are names of classes"):
        return "classify"
    numbers = set(present_numbers(table, target))
    few = len(numbers) <= min(_FEW_CLASSES, len(table) // 2)
    whole = all(number == math.floor(number) for number in numbers)
    return "classify" if len(numbers) <= 2 or (few and whole) else "regress"


def classes_of(table: Table, target: str) -> tuple[list[str], list[int]]:
    """The names of the classes in order, and the class of each row. Equal numbers, such as 1 and 1.0, are one class.

    Raises:
        InputError: for one class only, or for more than can be meant.
    """
    texts = table.column(target)
    numbers = [as_number(text) for text in texts]
    keys: list[Any] = texts if None in numbers else numbers
    names = dict(zip(reversed(keys), reversed(texts), strict=True))  # the first spelling of each
    classes = sorted(names)
    if len(classes) == 1:
        raise InputError(
            f"{table.name}: the target {target!r} has one class only, {names[classes[0]]!r}; there is nothing to learn"
        )
    if len(classes) > min(_MOST_CLASSES, max(2, len(table) // 2)):
        raise InputError(
            f"{table.name}: the target {target!r} has {len(classes)} different values in {_rows(len(table))}: too many "
            f"for classes (at most {_MOST_CLASSES}, and two rows for each)"
            + ("" if None in numbers else "; to predict the number, give --task regress")
        )
    index = {key: k for k, key in enumerate(classes)}
    return [names[key] for key in classes], [index[key] for key in keys]


def target_numbers(table: Table, target: str) -> list[float]:
    """The numbers of a target column.

    Raises:
        InputError: for a text, naming its line; where all numbers are the same.
    """
    numbers = present_numbers(table, target, "; to predict texts, give --task classify")
    if len(set(numbers)) == 1:
        raise InputError(
            f"{table.name}: the target {target!r} is {numbers[0]:g} in all rows; there is nothing to learn"
        )
    return numbers


def number_target(name: str, numbers: Sequence[float]) -> NumberTarget:
    """The target for the numbers of the training rows."""
    target = NumberTarget.of(name, numbers)
    return target if target.scale else replace(target, scale=1.0)


# --- the features -------------------------------------------------------------------------------------------------


def kinds_of(
    table: Table, target: str, ignored: Collection[str], categorical: Collection[str], note: Note
) -> dict[str, str]:
    """The columns to learn from, and of each whether it holds a "number" or a "category"; in the table's order.

    Raises:
        InputError: for a column of numbers with a few texts in it; if no column is left.
        OptionError: for the target among the columns to ignore.
    """
    for name in (*ignored, *categorical):
        table.index(name)
    if target in ignored:
        raise OptionError(f"the target {target!r} cannot be ignored")
    kinds: dict[str, str] = {}
    for number, name in enumerate(table.columns, start=1):
        if name == target or name in ignored:
            continue
        if not name:
            note(f"column {number} has no name and is left out")
            continue
        if all(cell is None for cell in table.cells(name)):
            note(f"column {name!r} has no values and is left out")
        elif name in categorical:
            kinds[name] = "category"
        elif holds_numbers(table, name, f"; correct it, or give --categorical {name} if these are names"):
            kinds[name] = "number"
        elif (count := _count_texts(table, name)) > max(_FEW_CATEGORIES, len(table) // 2):
            note(
                f"column {name!r} has {count} different texts in {_rows(len(table))}: it names rows and is "
                f"left out (--categorical {name} keeps it)"
            )
        else:
            kinds[name] = "category"
    if not kinds:
        raise InputError(f"{table.name} has no column to learn from beside the target {target!r}")
    return kinds


def _count_texts(table: Table, column: str) -> int:
    """How many different texts a column has, without missing values."""
    return len({text for text in table.column(column) if not is_missing(text)})


def columns_for(table: Table, kinds: Mapping[str, str], note: Note) -> tuple[Column, ...]:
    """The columns as the training rows determine them; those that are constant there are left out.

    Raises:
        InputError: if all are constant.
    """
    columns: list[Column] = []
    for name, kind in kinds.items():
        column: Column
        if kind == "number":
            column = NumberColumn.of(name, present_numbers(table, name))
            is_constant = column.scale == 0.0
        else:
            column = CategoryColumn(name, tuple(sorted({_category(text) for text in table.column(name)})))
            is_constant = column.width == 1
        if is_constant:
            note(f"column {name!r} is the same in all training rows and is left out")
        else:
            columns.append(column)
    if not columns:
        raise InputError(f"{table.name}: all columns are the same in all training rows; there is nothing to learn from")
    return tuple(columns)


def holds_numbers(table: Table, column: str, hint: str) -> bool:
    """Whether a column holds numbers: all of its values are, except for missing ones.

    Raises:
        InputError: if nearly all of them are numbers, naming the first that is not; if they have decimal commas.
    """
    cells = table.cells(column)
    count = len(cells) - cells.count(None)
    if str not in set(map(type, cells)):
        return count > 0
    others = [(k, cell) for k, cell in enumerate(cells) if isinstance(cell, str)]
    k, text = others[0]
    if len(others) <= (1 - _MOSTLY) * count:
        more = f" (as in {_rows(len(others) - 1)} more)" if len(others) > 1 else ""
        raise InputError(f"{table.where(k, column)}: {text!r} is not a number{more}; the others are{hint}")
    texts = (text for text in table.column(column) if not is_missing(text))
    if all(as_number(text.replace(",", ".", 1)) is not None for text in texts):
        raise InputError(f"{table.where(k, column)}: {text!r} has a decimal comma; write numbers with a point{hint}")
    return False


def numbers_of(table: Table, column: str, hint: str = "") -> list[float | None]:
    """The numbers of a column, None where one is missing.

    Raises:
        InputError: for a text, or an infinite number, naming its line.
    """
    cells = table.cells(column)
    if str in set(map(type, cells)) or math.inf in cells or -math.inf in cells:
        _refuse_others(table, column, cells, hint)
    return cast("list[float | None]", cells)


def _refuse_others(table: Table, column: str, cells: Sequence[Cell], hint: str) -> None:
    """Raise `InputError` for the first text or infinite number of a column."""
    for k, cell in enumerate(cells):
        if isinstance(cell, str):
            raise InputError(f"{table.where(k, column)}: {cell!r} is not a number{hint}")
        if cell is not None and math.isinf(cell):
            raise InputError(f"{table.where(k, column)}: {table.column(column)[k]} is not a finite number")


def present_numbers(table: Table, column: str, hint: str = "") -> list[float]:
    """The numbers of a column without the missing ones; errors are those of `numbers_of`."""
    return [number for number in numbers_of(table, column, hint) if number is not None]


def _category(text: str) -> str:
    return _MISSING_CATEGORY if is_missing(text) else text


def _rows(count: int) -> str:
    return count_of(count, "row")
