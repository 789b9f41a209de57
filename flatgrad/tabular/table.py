"""Reading a CSV file into a table of texts. Errors name the line of the file."""

from __future__ import annotations

import csv
import difflib
import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..runtime.errors import InputError
from ..runtime.wording import count_of

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
#: A field that, in small letters, is one of these is a missing value.
MISSING = frozenset({"", "?", "na", "n/a", "#n/a", "<na>", "nan", "null"})
#: What a field says: a number, nothing (it is missing), or another text.
Cell = float | None | str
#: The number of records by which the delimiter is chosen.
_SNIFFED = 100


@dataclass(frozen=True)
class Table:
    """The texts of a CSV file.

    Attributes:
        name: the file, as errors call it.
        columns: the names in the header.
        rows: for each record the texts of its fields, without the spaces around them.
        lines: for each record the line of the file on which it begins, counted from 1.
    """

    name: str
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]
    _cells: dict[str, list[Cell]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def index(self, column: str) -> int:
        """The index of the column of this name.

        Raises:
            InputError: if none has; it suggests names that are near.
        """
        if column in self.columns:
            return self.columns.index(column)
        raise InputError(f"{self.name} has no column {column!r}{suggestion(column, self.columns)}")

    def column(self, column: str) -> list[str]:
        """The texts of a column, row by row."""
        index = self.index(column)
        return [row[index] for row in self.rows]

    def cells(self, column: str) -> list[Cell]:
        """What the fields of a column say, row by row."""
        if column not in self._cells:
            self._cells[column] = cells_of(self.column(column))
        return self._cells[column]

    def take(self, order: Iterable[int]) -> Table:
        """The table of some of the rows."""
        order = list(order)
        part = Table(self.name, self.columns, [self.rows[k] for k in order], [self.lines[k] for k in order])
        for column, cells in self._cells.items():
            part._cells[column] = [cells[k] for k in order]
        return part

    def where(self, row: int, column: str) -> str:
        """How an error names a field."""
        return f"{self.name}, line {self.lines[row]}, column {column!r}"


def suggestion(name: str, names: Sequence[str]) -> str:
    """The end of the message "there is no such name": similar names, or else all names.

    >>> suggestion("Specie", ["length", "species"])
    "; did you mean 'species'?"
    """
    by_small_letters = {other.casefold(): other for other in names}
    matches = difflib.get_close_matches(name.casefold(), by_small_letters, n=3)
    near = [by_small_letters[match] for match in matches]
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; its columns are {listed(names)}" if names else ""


def listed(items: Sequence[str], most: int = 8) -> str:
    """Names for an error or a note, at most a few of them.

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    more = len(items) - most
    return ", ".join(map(repr, items[:most])) + (f" and {more} more" if more > 0 else "")


def is_missing(text: str) -> bool:
    """Whether a field says that there is no value."""
    return text.lower() in MISSING


def as_number(text: str) -> float | None:
    """The number that a text is; None if it is none. Infinity is a number here, a missing value is not.

    >>> as_number("1e3"), as_number("1_000"), as_number("one")
    (1000.0, None, None)
    """
    if "_" in text:  # Python's own notation, which a table does not mean
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def cells_of(texts: Sequence[str]) -> list[Cell]:
    """What fields say: the number that a text is; None for a missing value; other texts as they are.

    >>> cells_of(["1.5", "NA", "1_000"])
    [1.5, None, '1_000']
    """
    try:
        numbers = list(map(float, texts))
    except ValueError:
        numbers = [math.nan]
    if "_" not in "".join(texts) and not any(map(math.isnan, numbers)):  # as a rule; and much faster
        return [*numbers]
    return [None if is_missing(text) else text if (number := as_number(text)) is None else number for text in texts]


def read_csv(path: str | os.PathLike[str]) -> Table:
    """Read a CSV file: UTF-8, with or without a byte order mark, with a header.

    Fields are separated by commas, semicolons or tabs, whichever cuts the first records into equally many fields; they
    may be quoted. Empty lines are skipped.

    Raises:
        InputError: for a file that cannot be read, is empty, has no rows, rows of another length than the header, or
            two columns of one name.
    """
    name = os.fspath(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from None
    try:
        text, wrong = content.decode("utf-8-sig"), content.find(b"\0")
    except UnicodeDecodeError as error:
        text, wrong = "", error.start
    if wrong >= 0:
        line = content.count(b"\n", 0, wrong) + 1
        raise InputError(f"{name} is not a text in UTF-8 (line {line}); save it as CSV in UTF-8")
    delimiter = _delimiter(text)
    records = list(_records(name, text, delimiter))
    if not records:
        raise InputError(f"{name} is empty; a header with the names of the columns is expected on its first line")
    (_, columns), *rest = records
    if not rest:
        raise InputError(f"{name} has a header, but no rows")
    for line, fields in rest:
        if len(fields) != len(columns):
            raise InputError(
                f"{name}, line {line}: {count_of(len(fields), 'field')}, but the header has {len(columns)} "
                f"(fields are separated by a {DELIMITERS[delimiter]}; quote those that contain one)"
            )
    repeated = [column for column, count in Counter(columns).items() if count > 1 and column]
    if repeated:
        raise InputError(f"{name} has several columns called {listed(repeated)}; names must differ")
    return Table(name, columns, [fields for _, fields in rest], [line for line, _ in rest])


def _records(name: str, text: str, delimiter: str, most: int | None = None) -> Iterable[tuple[int, list[str]]]:
    """Each record that is not empty, with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line, count = 1, 0
    while most is None or count < most:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{name}, line {line}: {error}") from None
        fields = list(map(str.strip, fields))
        if any(fields) or len(fields) > 1:
            yield line, fields
            count += 1
        line = reader.line_num + 1


def _delimiter(text: str) -> str:
    """The delimiter that cuts most of the first records into as many fields as the header, and into most of them."""

    def fitness(delimiter: str) -> tuple[float, int]:
        counts: list[int] = []
        with suppress(InputError):  # the delimiter may be wrong; reading says what else is wrong with the text
            counts.extend(len(fields) for _, fields in _records("", text, delimiter, _SNIFFED))
        if not counts or counts[0] < 2:
            return 0.0, 0
        return sum(count == counts[0] for count in counts) / len(counts), counts[0]

    return max(DELIMITERS, key=fitness)  # the first of equals: the comma
