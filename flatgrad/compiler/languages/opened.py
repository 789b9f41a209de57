"""Functions whose extents are arguments: what their texts at a few extents have in common, and what they compute first.

A function is printed at a few extents, and the texts are merged (`merging`). What no number can stand for, constants
and tables that depend on the extents, is noted down by the printers, and computed where the function begins.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...runtime import primitives as p
from ...runtime.primitives import Primitive
from ..loops.array_program import ArrayProgram
from ..loops.extents import (
    AnyTable,
    BoundNumber,
    OpenRows,
    OpenTable,
    Polynomial,
    Samples,
    Size,
    bound,
    least_of,
    size_text,
)
from ..loops.formulas import Columns, Formula, Repeated, atom
from ..loops.merging import filled_in, merged_text
from ..loops.views import row_major
from ..program.spelling import Text, c_number, indented, index, python_number, wrapped
from .spellings import POINTER


class NotMergedError(Exception):
    """There is no text for all extents; the message says why."""


class Opened:
    """What a printer notes down of a function with open extents, which it prints at some of these.

    Args:
        function: its name.
        names: of the extents.
        sizes: the extents at which it is printed.

    Attributes:
        extents: the names of the extents, as the function has them.
        numbers: the constants that depend on extents, by name.
        rows, tables: lists of constants, and of places, with the extents of a table.
        work: how many numbers the function needs memory for.
        parameters: how many numbers each argument and result has.
    """

    def __init__(self, function: str, names: Sequence[str], sizes: Sequence[int]) -> None:
        self.function = function
        self.names: tuple[str, ...] = tuple(names)
        self.sizes: tuple[int, ...] = tuple(sizes)
        self.extents: list[str] = []
        self.numbers: dict[str, Formula] = {}
        self.rows: dict[str, Sequence[float | bool]] = {}
        self.tables: dict[str, tuple[Any, tuple[int, ...]]] = {}
        self.work = 0
        self.parameters: list[int] = []
        self._names: dict[Any, str] = {}
        self.fresh: Iterator[str] = iter(())

    def number(self, number: BoundNumber) -> str:
        """How a constant that depends on the extents is written."""
        formula = number.formula
        is_row = isinstance(formula, (Columns, Repeated)) or formula.is_row
        key = id(formula) if is_row else formula
        if key not in self._names:
            name = self._names[key] = next(self.fresh)
            if is_row:
                row = formula.at(self.sizes)
                self.rows[name] = [BoundNumber.of(n, formula, k, len(row)) for k, n in enumerate(row)]
            else:
                self.numbers[name] = formula
        name = self._names[key]
        return f"{name}[{number.position}]" if is_row else name

    def marker(self, part: str) -> str:
        """A line in place of which something is put when texts have been merged."""
        return f"<{part} of {self.function}>"

    def least(self, extent: str) -> str:
        """What stands for the smallest extent until then."""
        return f"<least_{extent}_of_{self.function}>"

    @property
    def smallest(self) -> list[tuple[str, str]]:
        """The extents, and what stands for the smallest ones."""
        return [(extent, self.least(extent)) for extent in self.extents]

    def functions(self) -> set[str]:
        """The functions that the formulas call: `sqrt`, `exp`, `log`, and `**`."""
        formulas: list[Any] = [*self.numbers.values()]
        formulas += [n.formula for row in self.rows.values() for n in row if isinstance(n, BoundNumber)]
        columns = [c for each in formulas for c in (each.columns if isinstance(each, Columns) else [each])]
        forms = [each.form for each in columns if isinstance(each, Formula)]
        return {word for form in forms for word in ("sqrt", "exp", "log", "**") if word in form}


class ArrayFunction(NamedTuple):
    """A function of a generated module: an array program, its name, and its docstring.

    With `opened`, the program is one with open extents at some of these; the extents are the first arguments.
    """

    program: ArrayProgram
    name: str
    doc: str
    opened: Opened | None = None


def depends(numbers: Sequence[float | bool]) -> bool:
    """Whether some of these constants depend on extents."""
    return any(isinstance(number, BoundNumber) for number in numbers)


# --- what is computed first -------------------------------------------------------------------------------------------


#: Whether a function is defined for some extents.
Fits = Callable[[Sequence[int]], bool]
#: What was noted down at each sample, in each function.
Notes = Sequence[Sequence[Opened]]


class Loop(NamedTuple):
    """Items that loops go through: the loops as index and extent, and the item.

    In place of an item there may be several of these, one behind the other.
    """

    loops: list[tuple[str, str]]
    item: str | list[Loop]


class Definitions:
    """What a function computes first, from what was noted down at several extents.

    Args:
        notes: of each sample.
        samples: the extents.
        divided: the sign of a division of integers.
        number: writes a number.
        spelled: writes a formula: with the text of its integer, and the names of extents.

    Raises:
        NotMergedError: if something does not depend on the extents in a simple way.
    """

    def __init__(
        self, notes: Sequence[Opened], samples: Samples, divided: str, number: Callable[[Any], Text],
        spelled: Callable[[Formula, str, Sequence[str]], str],
    ) -> None:  # fmt: skip
        last = notes[-1]
        self.samples = samples
        self.names: list[str] = last.extents
        self.divided = divided
        self.number = number
        self.spelled = spelled
        if any(list(each.rows) != list(last.rows) or list(each.tables) != list(last.tables) for each in notes):
            raise NotMergedError("other tables are read at other sizes")
        self.indices: list[str] = [name for name in "ijklpq" if name not in last.extents]
        #: The extents of tables.
        self.extents: list[Size] = []
        #: Lists of integers that loops look up, by name.
        self.lists: dict[str, list[int]] = {}
        self.numbers: dict[str, str] = {name: self.scalar(formula) for name, formula in last.numbers.items()}
        self.rows: dict[str, list[Loop]] = {
            name: self._row(name, [each.rows[name] for each in notes]) for name in last.rows
        }
        #: Tables that do not depend on the extents.
        self.fixed: dict[str, list[int]] = {}
        self.tables: dict[str, list[Loop]] = {}
        for name in last.tables:
            self._table(name, [each.tables[name] for each in notes])
        self.work: int | Polynomial = self.size([each.work for each in notes])
        self.parameters: list[int | Polynomial] = [
            self.size(counts) for counts in zip(*(each.parameters for each in notes), strict=True)
        ]

    def least(self, fits: Fits) -> list[int]:
        """The smallest extents, one per name, for which the function is defined."""

        def all_there(*sizes: int) -> bool:
            return fits(sizes) and all(bound(extent, sizes) >= 0 for extent in self.extents)

        return least_of(all_there, len(self.names))

    def size(self, counts: Sequence[int]) -> Size:
        """How many numbers something has."""
        size = self.samples.size(*map(int, counts))
        if size is None:
            raise NotMergedError("the memory that it needs depends on the sizes in a way that is not simple")
        return size

    def length(self, name: str, notes: Sequence[Opened]) -> Size:
        """How many items a row or table has."""
        return self.size([len(each.rows[name] if name in each.rows else each.tables[name][0]) for each in notes])

    def scalar(self, formula: Formula) -> str:
        return self.spelled(formula, size_text(formula.integer, self.names, self.divided), self.names)

    # --- constants ------------------------------------------------------------------------------------------------

    def _row(self, name: str, samples: Sequence[Sequence[float | bool]]) -> list[Loop]:
        kinds = [list(_parts(numbers)) for numbers in samples]
        if any([k for k, _ in each] != [k for k, _ in kinds[0]] for each in kinds):
            raise NotMergedError("a list of constants depends on the sizes in a way that is not simple")
        result: list[Loop] = []
        for _, item in kinds[-1]:
            if isinstance(item, Columns):
                result += self._columns(name, item)
            elif isinstance(item, Formula) and item.is_row:
                result += self._formula_row(name, item)
            elif isinstance(item, Repeated):
                result += self._repeated(item)
            else:
                result.append(Loop([], self.scalar(item) if isinstance(item, Formula) else self.number(item).text))
        return result

    def _formula_row(self, name: str, formula: Formula) -> list[Loop]:
        return self._filled(name, formula.integer, lambda text: self.spelled(formula, text, self.names))

    def _columns(self, name: str, columns: Columns) -> list[Loop]:
        rows = [self._formula_row(name, column) for column in columns.columns]
        if columns.apart:
            return [loop for row in rows for loop in row]
        if any(len(row) != 1 or row[0].loops != rows[0][0].loops for row in rows):
            raise NotMergedError("a list of constants depends on the sizes in a way that is not simple")
        return [Loop(rows[0][0].loops, [Loop([], row[0].item) for row in rows])]

    def _repeated(self, row: Repeated) -> list[Loop]:
        first, period, last = ([Loop([], self.number(n).text) for n in part] for part in row[:3])
        self.extents.append(row.times)
        extent = size_text(row.times, self.names, self.divided)
        return [*first, Loop([(self.indices[0], extent)], period), *last]

    # --- tables ---------------------------------------------------------------------------------------------------

    def _table(self, name: str, samples: Sequence[tuple[Any, tuple[int, ...]]]) -> None:
        tables, shapes = [np.asarray(table) for table, _ in samples], [shape for _, shape in samples]
        if all(np.array_equal(table, tables[0]) for table in tables):
            self.fixed[name] = tables[0].tolist()
            return
        table: Any = OpenTable.through(tables, shapes, self.samples) or OpenTable.of_lengths(tables, self.samples)
        if table is None:
            raise NotMergedError("the places that a gather reads depend on the sizes in a way that is not simple")
        self.tables[name] = self._filled(name, table, lambda text: text)

    def _filled(self, name: str, table: AnyTable, item: Callable[[str], str]) -> list[Loop]:
        """The loops that go through a table."""
        parts, axis = (table.parts, table.axis) if isinstance(table, OpenRows) else ((table,), 0)
        loops = []
        for part in parts:
            self.extents += part.shape
            names = self._index_names(len(part.shape))
            extents = [size_text(extent, self.names, self.divided) for extent in part.shape]
            pairs = list(zip(names, extents, strict=True))
            loops.append(Loop(pairs[axis:], item(self._entry(name, part, names))))
            outer = pairs[:axis]
        return [Loop(outer, list(loops))] if axis else loops

    def _index_names(self, count: int) -> list[str]:
        if count > len(self.indices):
            raise NotMergedError("a table has too many dimensions")
        return self.indices[:count]

    def _entry(self, name: str, table: OpenTable, names: Sequence[str]) -> str:
        """An entry of a table at some indices."""
        closed = [d for d in range(len(table.shape)) if d not in table.open]
        extents: Any = [table.shape[d] for d in closed]
        place = index(0, row_major(extents), [names[d] for d in closed])
        terms: list[tuple[int, list[str]]] = []
        for (extent, dimension), column in zip(table.features, table.coefficients, strict=True):
            factors = [self.names[extent]] if extent >= 0 else []
            factors += [names[table.open[dimension]]] if dimension >= 0 else []
            first, steps = int(column[0]), set(np.diff(column).tolist())
            if len(steps) <= 1:
                step = steps.pop() if steps else 0
                terms += [(first, factors), (step, [*factors, f"({place})" if " " in place else place])]
                continue
            lookup = f"{name}_{len(self.lists) + 1}"
            self.lists[lookup] = column.tolist()
            terms.append((1, [*factors, f"{lookup}[{place}]"]))
        text = ""
        for factor, factors in sorted(terms, key=lambda term: term[0] < 0):
            if not factor:
                continue
            product = "*".join([*([] if abs(factor) == 1 and factors else [str(abs(factor))]), *factors])
            text += f" {'-' if factor < 0 else '+'} {product}" if text else f"{'-' if factor < 0 else ''}{product}"
        return text or "0"


def _parts(numbers: Sequence[float | bool]) -> Iterator[tuple[Any, Any]]:
    """What a list of constants consists of: rows that have formulas, and single numbers; each with a key."""
    k = 0
    while k < len(numbers):
        number = numbers[k]
        if not isinstance(number, BoundNumber):
            yield number, number
            k += 1
            continue
        formula, first, start = number.formula, number.position, k
        while k < len(numbers) and _follows(numbers[k], formula, first + k - start):
            k += 1
        if k - start < number.length:
            raise NotMergedError("a part of a list of constants depends on the sizes")
        yield id(formula), formula


def _follows(number: float | bool, formula: Any, position: int) -> bool:
    return isinstance(number, BoundNumber) and number.formula is formula and number.position == position


# --- Python -----------------------------------------------------------------------------------------------------------


def python_spelled(formula: Formula, integer: str, names: Sequence[str]) -> str:
    """A formula in Python, with the names of `math`."""
    return formula.spelled(f"float({integer})" if formula.form == "p" else atom(integer), names)


def _comprehension(loops: Sequence[Loop]) -> str:
    if len(loops) == 1 and loops[0].loops and isinstance(loops[0].item, str):
        return f"[{loops[0].item} {_heads(loops[0])}]"
    items = []
    for loop in loops:
        inner = "" if isinstance(loop.item, str) else _comprehension(loop.item)
        if loop.loops:
            items.append(f"*[item {_heads(loop)} for item in {inner or f'[{loop.item}]'}]")
        else:
            items.append(f"*{inner}" if inner else str(loop.item))
    return f"[{', '.join(items)}]"


def _heads(loop: Loop) -> str:
    return " ".join(f"for {name} in range({extent})" for name, extent in loop.loops)


def merged_python(
    texts: Sequence[str], notes: Sequence[Sequence[Opened]], samples: Samples, fits: Sequence[Fits]
) -> str:
    """The module for all extents, from modules at some of them, and what was noted down in each of their functions."""
    text = _merged(texts, samples, notes[-1][0].extents, "//")
    parts: dict[str, list[str]] = {}
    words: dict[str, str] = {}
    for own, fit in zip(zip(*notes, strict=True), fits, strict=True):
        function = own[-1]
        made = Definitions(own, samples, "//", python_number, python_spelled)
        lines = []
        for name, least in zip(made.names, made.least(fit), strict=True):
            lines += [f"if {name} < {least}:", f'    raise ValueError("{name} must be {least} or more")']
            words[function.least(name)] = str(least)
        lines += [f"{item} = {spelled}" for item, spelled in made.numbers.items()]
        lines += [f"{item} = {numbers}" for item, numbers in made.lists.items()]
        lines += [f"{item} = {_comprehension(loops)}" for item, loops in [*made.rows.items(), *made.tables.items()]]
        data: list[str] = []
        for item, table in made.fixed.items():
            data += [f"{item} = [", *wrapped(", ".join(map(str, table)) + ",", first="    "), "]", ""]
        parts[function.marker("definitions")] = [row for line in lines for row in wrapped(line)]
        parts[function.marker("data")] = data[:-1]
    return filled_in(text, parts, words).rstrip("\n") + "\n"


# --- C ----------------------------------------------------------------------------------------------------------------

#: No numbers.
_NONE: Size = 0
#: How C writes the words of formulas.
_WORDS = {"log": f"{POINTER}log", "exp": f"{POINTER}exp", "pow": f"{POINTER}pow"}
#: The functions that formulas call, as primitives.
_CALLED = {"log": p.log, "exp": p.exp, "**": p.power}


def c_spelled(formula: Formula, integer: str, names: Sequence[str]) -> str:
    """A formula in C, with the functions of the library behind pointers."""
    return formula.spelled(f"(double){atom(integer)}", names, c_number, _WORDS)


def called_by(notes: Opened) -> set[Primitive]:
    """The primitives that the formulas of a function call by pointers."""
    return {_CALLED[function] for function in notes.functions() if function in _CALLED}


def _c_loops(target: str, counter: str, loops: Sequence[Loop]) -> list[str]:
    lines: list[str] = []
    for loop in loops:
        if isinstance(loop.item, str):
            body = [f"{target}[{counter}++] = {loop.item};"]
        else:
            body = _c_loops(target, counter, loop.item)
        for name, extent in reversed(loop.loops):
            body = [f"for (int {name} = 0; {name} < {extent}; {name}++) {{", *indented(body), "}"]
        lines += body
    return lines


def merged_c(texts: Sequence[str], notes: Notes, samples: Samples, fits: Sequence[Fits]) -> str:
    """The file for all extents, from files at some of them, and what was noted down in each of their functions."""
    text = _merged(texts, samples, notes[-1][0].extents, "/")
    parts: dict[str, list[str]] = {}
    words: dict[str, str] = {}
    for own, fit in zip(zip(*notes, strict=True), fits, strict=True):
        function = own[-1]
        made = Definitions(own, samples, "/", c_number, c_spelled)
        least = made.least(fit)
        words.update((function.least(name), str(smallest)) for name, smallest in zip(made.names, least, strict=True))
        static: list[str] = []
        for item, table in [*made.lists.items(), *made.fixed.items()]:
            head = f"static const int {item}[{len(table)}] = {{"
            static += [head, *wrapped(", ".join(map(str, table)), first="    "), "};", ""]
        parts[function.marker("tables")] = static
        parts[function.marker("definitions")], parts[function.marker("end")] = _c_head(made, own, least)
    return filled_in(text, parts, words)


def _c_head(made: Definitions, notes: Sequence[Opened], least: Sequence[int]) -> tuple[list[str], list[str]]:
    """The first lines of a function in C, and what frees the memory."""
    names = made.names

    def text(size: Size) -> str:
        return size_text(size, names, "/")

    def plus(a: Size, b: Size) -> Size:
        return samples.size(*(x + y for x, y in zip(at(a), at(b), strict=True))) or 0

    def at(size: Size) -> list[int]:
        return [size.at(sizes) if isinstance(size, Polynomial) else size for sizes in samples.sizes]

    samples = made.samples

    def moved(pointer: str, size: Size) -> str:
        words = text(size)
        return pointer if words == "0" else f"{pointer} + {atom(words)}"

    numbers, places, pointers = made.work, _NONE, []
    for item in made.rows:
        pointers.append(f"double *const {item} = {moved('work', numbers)};")
        numbers = plus(numbers, made.length(item, notes))
    for item in made.tables:
        start = f"(int *)({moved('work', numbers)})"
        pointers.append(f"int *const {item} = {moved(start, places)};")
        places = plus(places, made.length(item, notes))
    limits = _limit([numbers, places, *made.parameters], names)
    small = " || ".join(f"{name} < {smallest}" for name, smallest in zip(names, least, strict=True))
    lines = [*wrapped(f"if ({small} || {limits} > 2147483647.0)"), "    return 2;"]
    freed = []
    if numbers or places:
        size = f"sizeof(double) * (size_t)({text(numbers)})"
        size += f" + sizeof(int) * (size_t)({text(places)})" if places else ""
        lines += [*wrapped(f"double *const work = (double *)malloc({size});"), "if (work == NULL)", "    return 2;"]
        freed = ["free(work);"]
    lines += [row for pointer in pointers for row in wrapped(pointer)]
    for item, loops in [*made.rows.items(), *made.tables.items()]:
        counter = f"{item}_at"
        lines += [f"int {counter} = 0;", *(row for line in _c_loops(item, counter, loops) for row in wrapped(line))]
    lines += [f"const double {item} = {spelled};" for item, spelled in made.numbers.items()]
    return lines, freed


def _limit(sizes: Sequence[Size], names: Sequence[str]) -> str:
    """An upper bound of all integers that are computed, as a double."""
    count = 1 + len(names) + len(names) * (len(names) + 1) // 2
    largest = [0] * count
    for size in sizes:
        coefficients = size.coefficients if isinstance(size, Polynomial) else (size,)
        for k, coefficient in enumerate(coefficients):
            largest[k] = max(largest[k], abs(coefficient))
    products = [f"{a} * {b}" for a, b in itertools.combinations_with_replacement(names, 2)]
    terms = [
        f"{k}.0 * {name}" if name else f"{k}.0" for k, name in zip(largest, ["", *names, *products], strict=True) if k
    ]
    return " + ".join(terms) or "0.0"


def _merged(texts: Sequence[str], samples: Samples, names: Sequence[str], divided: str) -> str:
    text = merged_text(texts, samples, names, divided)
    if text is None:
        raise NotMergedError("the texts for several sizes differ in more than numbers")
    return text
