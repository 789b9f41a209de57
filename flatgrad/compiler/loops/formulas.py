"""Constants of array programs that depend on open extents: `1 / n`, `sqrt(n)`, `i / (n - 1)` for all `i`.

What a function computes of `len(x)` stands in a traced program as a number. A formula is taken for its origin only if
it has the bits of that number at all samples; what is found for none keeps the program from being generalised.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..program.spelling import ATOM, PRODUCT, Text, python_number
from .extents import AnyTable, OpenTable, Polynomial, Samples, Size, bound, monomials, size_text


class _Form(NamedTuple):
    """A way to compute a number of an integer `p` and a factor `c`.

    Attributes:
        value: the number.
        factor: `c`, from the number and `p`; about.
        place: `p`, from the number where `c` is 1; about.
    """

    value: Callable[[float, float], float]
    factor: Callable[[float, float], float]
    place: Callable[[float], float] | None = None


#: The forms by how Python writes them.
_FORMS = {
    "p": _Form(lambda c, p: p, lambda v, p: 1.0, lambda v: v),
    "c / p": _Form(lambda c, p: c / p, lambda v, p: v * p, lambda v: 1 / v),
    "c * (1 / p)": _Form(lambda c, p: c * (1 / p), lambda v, p: v * p),
    "c * p": _Form(lambda c, p: c * p, lambda v, p: v / p),
    "p + c": _Form(lambda c, p: p + c, lambda v, p: v - p),
    "c - p": _Form(lambda c, p: c - p, lambda v, p: v + p),
    "c / sqrt(p)": _Form(lambda c, p: c / math.sqrt(p), lambda v, p: v * math.sqrt(p), lambda v: 1 / (v * v)),
    "c * sqrt(p)": _Form(lambda c, p: c * math.sqrt(p), lambda v, p: v / math.sqrt(p), lambda v: v * v),
    "c * (1 / sqrt(p))": _Form(lambda c, p: c * (1 / math.sqrt(p)), lambda v, p: v * math.sqrt(p)),
    "sqrt(c / p)": _Form(lambda c, p: math.sqrt(c / p), lambda v, p: v * v * p),
    "p**-0.5 * c": _Form(lambda c, p: math.pow(p, -0.5) * c, lambda v, p: v * math.sqrt(p)),
    "c * log(p)": _Form(lambda c, p: c * math.log(p), lambda v, p: v / math.log(p), math.exp),
    "c - log(p)": _Form(lambda c, p: c - math.log(p), lambda v, p: v + math.log(p)),
    "c * (p * p)": _Form(lambda c, p: c * (p * p), lambda v, p: v / (p * p), math.sqrt),
    "c**p": _Form(math.pow, lambda v, p: math.pow(v, 1 / p)),
    "exp(c * p)": _Form(lambda c, p: math.exp(c * p), lambda v, p: math.log(v) / p, math.log),
}
#: Forms with powers, for languages in which these are calls.
_WITH_POW = {"p**-0.5 * c": "pow(p, -0.5) * c", "c**p": "pow(c, p)"}
#: Errors of a form that does not fit.
_ERRORS = ArithmeticError, ValueError, TypeError


class Formula(NamedTuple):
    """A number, or a row of numbers, that depends on open extents.

    Attributes:
        form: how it is computed.
        factor: the `c` of the form.
        integer: its `p`: one integer, a size, or a row of them, a table.
        divisor: by what it is divided at last, if it is.
        negative: whether the number is minus that.
    """

    form: str
    factor: float
    integer: Any
    divisor: Size | None = None
    negative: bool = False

    @property
    def is_row(self) -> bool:
        """Whether it is a row of numbers."""
        return isinstance(self.integer, AnyTable)

    def at(self, sizes: Sequence[int]) -> list[float]:
        """The numbers for some extents."""
        return self.of(self.integer.at(sizes).tolist() if self.is_row else [bound(self.integer, sizes)], sizes)

    def of(self, integers: Iterable[int], sizes: Sequence[int]) -> list[float]:
        """The numbers where its integers are these."""
        value, divisor = _FORMS[self.form].value, self.divisor
        numbers = [float(value(self.factor, p)) for p in integers]
        if divisor is not None:
            numbers = [number / bound(divisor, sizes) for number in numbers]
        return [-number for number in numbers] if self.negative else numbers

    def text(self, names: Sequence[str]) -> str:
        """The formula of a single number as Python writes it."""
        integer = size_text(self.integer, names)
        return self.spelled(integer if self.form == "p" else atom(integer), names)

    def spelled(
        self,
        p: str,
        names: Sequence[str],
        number: Callable[[float], Text] = python_number,
        words: Mapping[str, str] | None = None,
    ) -> str:
        """The formula as text.

        Args:
            p: how its integer is written: it binds as strongly as a name.
            names: of the extents.
            number: writes a number.
            words: what functions are called; if they are given, powers are calls of `pow`.
        """
        form = self.form if words is None else _WITH_POW.get(self.form, self.form)
        c = number(self.factor).at_least(PRODUCT if form[:2] == "c " else ATOM).text
        texts = {**(words or {}), "p": p, "c": c}
        text = "".join(texts.get(part, part) for part in _words_of(form))
        if self.divisor is not None:
            text = f"{text} / {atom(size_text(self.divisor, names, '//' if words is None else '/'))}"
        return f"-({text})" if self.negative else text


class Columns(NamedTuple):
    """Rows of numbers of which each column has a formula, or columns one behind the other.

    Attributes:
        columns: their formulas.
        apart: whether the columns stand one behind the other, and not side by side.
    """

    columns: tuple[Formula, ...]
    apart: bool

    def at(self, sizes: Sequence[int]) -> list[float]:
        """The numbers for some extents."""
        columns = [column.at(sizes) for column in self.columns]
        return [n for row in (columns if self.apart else zip(*columns, strict=True)) for n in row]


class Repeated(NamedTuple):
    """A row of numbers that repeats some, with other ones in front and behind.

    Attributes:
        first, last: the numbers in front and behind.
        period: the numbers that are repeated.
        times: how often they are repeated.
    """

    first: tuple[float, ...]
    period: tuple[float, ...]
    last: tuple[float, ...]
    times: Size

    def at(self, sizes: Sequence[int]) -> list[float]:
        """The numbers for some extents."""
        return [*self.first, *(self.period * bound(self.times, sizes)), *self.last]


class Data(NamedTuple):
    """A row of numbers that are known where the extents are: what a function captured, round by round.

    Attributes:
        position: which row it is of those that are given then.
        size: how many numbers it has.
    """

    position: int
    size: Size

    def at(self, sizes: Sequence[int], data: Sequence[Any] = ()) -> list[float]:
        """The numbers for some extents: of the row that is given, the first ones, else ones in place of them."""
        count = bound(self.size, sizes)
        row: list[float] = data[self.position][:count].tolist() if data else [1.0] * count
        return row


#: A constant of a program with open extents.
Constant = float | Formula | Columns | Repeated | Data


def numbers_of(constants: Iterable[Constant], sizes: Sequence[int], data: Sequence[Any] = ()) -> Iterator[list[float]]:
    """The numbers that each constant stands for, for some extents; `data` has the rows of `Data`."""
    for constant in constants:
        if isinstance(constant, Data):
            yield constant.at(sizes, data)
        else:
            yield constant.at(sizes) if isinstance(constant, (Formula, Columns, Repeated)) else [constant]


def atom(text: str) -> str:
    """A text in parentheses, if it is not a name."""
    return text if text.isidentifier() else f"({text})"


def _words_of(form: str) -> Iterator[str]:
    """The words of a form, and what stands between them."""
    word = ""
    for letter in form:
        if letter.isalpha() != word[-1:].isalpha() or not word.isalpha():
            yield word
            word = ""
        word += letter
    yield word


def formula(values: Sequence[float], samples: Samples) -> Formula | None:
    """The formula of a number that has these values at the samples; None if there is none.

    Example:
        >>> samples = Samples([(4,), (5,), (6,)])
        >>> formula([0.25, 0.2, 1 / 6], samples).text(["n"]), formula([3.0, 4.0, 5.0], samples).text(["n"])
        ('1.0 / n', 'n - 1')
        >>> formula([0.5, 0.25, 0.3], samples) is None
        True
    """
    if all(value.is_integer() and abs(value) < 2**53 for value in values):
        integer = samples.size(*map(int, values))
        exact = Formula("p", 1.0, integer) if integer is not None else None
        if exact is not None and _same(exact, [[value] for value in values], samples):
            return exact
    for integer in _integers(samples):
        for name, form in _FORMS.items():
            if name == "p":
                continue
            try:
                about = form.factor(values[0], bound(integer, samples.sizes[0]))
                other = form.factor(values[-1], bound(integer, samples.sizes[-1]))
            except _ERRORS:
                continue
            if not math.isclose(about, other, rel_tol=1e-9, abs_tol=1e-300):
                continue
            for factor in _near(about):
                made = Formula(name, factor, integer)
                if _same(made, [[value] for value in values], samples):
                    return made
    return None


def _integers(samples: Samples) -> Iterator[Polynomial]:
    """Integers that functions compute of their sizes: `n`, `n - 1`, `n + 1`, `n * m`, `n * (n - 1)` and so on."""
    extents = len(samples.sizes[0])
    count = len(monomials(samples.sizes[0]))

    def made(**terms: int) -> Polynomial:
        return Polynomial(tuple(terms.get(f"c{k}", 0) for k in range(count)))

    for shift in (0, -1, 1, -2, 2):
        for extent in range(extents):
            yield made(**{f"c{1 + extent}": 1, "c0": shift})
    for product in range(1 + extents, count):
        yield made(**{f"c{product}": 1})  # pairs, or all combinations of two different extents
    for extent in range(extents):
        square = 1 + extents + extent * extents - extent * (extent - 1) // 2
        yield made(**{f"c{square}": 2, f"c{1 + extent}": 1})  # n * n
        yield made(**{f"c{1 + extent}": 2})
        yield made(**{f"c{1 + extent}": 2, "c0": 1})
        yield made(**{f"c{1 + extent}": 2, "c0": -1})


def _near(about: float) -> Iterator[float]:
    """Numbers that users write, then those next to `about`."""
    seen = set()
    for digits in (3, 6, 9, 12, 15, 16, 17):
        number = float(f"{about:.{digits - 1}e}")
        if number not in seen:
            seen.add(number)
            yield number
    up = down = about
    for _ in range(3):
        up, down = math.nextafter(up, math.inf), math.nextafter(down, -math.inf)
        yield from (up, down)


def _same(made: Formula, rows: Sequence[Sequence[float]], samples: Samples) -> bool:
    """Whether a formula has the bits of these numbers at all samples."""
    return _equal(map(made.at, samples.sizes), rows)


def _equal(made: Iterable[Sequence[float]], rows: Iterable[Sequence[float]]) -> bool:
    """Whether rows have the same bits; not if computing them raises."""
    try:
        return all(
            np.array_equal(np.array(ours).view(np.int64), np.asarray(row, dtype=float).view(np.int64))
            for ours, row in zip(made, rows, strict=True)
        )
    except _ERRORS:
        return False


def row_formula(rows: Sequence[Sequence[float]], samples: Samples) -> Formula | Columns | Repeated | None:
    """The formula of rows whose lengths depend on the extents; None if there is none.

    Example:
        >>> samples = Samples([(4,), (5,), (6,)])
        >>> halves = row_formula([[k / n for k in range(n)] for n in (4, 5, 6)], samples)
        >>> halves.at([3])
        [0.0, 0.3333333333333333, 0.6666666666666666]
        >>> row_formula([[math.sin(k) for k in range(n)] for n in (4, 5, 6)], samples) is None
        True
    """
    if not all(len(row) for row in rows):
        return None
    for negative in (False, True):
        made = _plain_row([[-n for n in row] if negative else row for row in rows], samples)
        if made is not None:
            return made._replace(negative=negative)
    for extent in range(len(samples.sizes[0])):
        counts = [sizes[extent] for sizes in samples.sizes]
        widths = {len(row) / count for row, count in zip(rows, counts, strict=True)}
        width = widths.pop()
        if widths or width != int(width) or width < 2:
            continue
        for apart in (False, True):
            shapes = [(int(width), count) if apart else (count, int(width)) for count in counts]
            grids = [np.reshape(row, shape) for row, shape in zip(rows, shapes, strict=True)]
            columns = [
                row_formula([grid[k].tolist() if apart else grid[:, k].tolist() for grid in grids], samples)
                for k in range(int(width))
            ]
            found = tuple(column for column in columns if isinstance(column, Formula))
            if len(found) == len(columns):
                return Columns(found, apart)
    return _repeated(rows, samples)


def _repeated(rows: Sequence[Sequence[float]], samples: Samples) -> Repeated | None:
    """The numbers that rows repeat, with the others in front and behind, the same ones in all rows.

    >>> samples = Samples([(4,), (5,), (6,)])
    >>> _repeated([[7.0, *(1.0, -0.0) * n, 1.0] for n in (4, 5, 6)], samples)
    Repeated(first=(7.0,), period=(1.0, -0.0), last=(1.0,), times=Polynomial(coefficients=(0, 1)))
    """
    length = samples.size(*map(len, rows))
    period = sum(length.coefficients[1:]) if isinstance(length, Polynomial) else 0
    bits = [np.array(row, dtype=float).view(np.int64) for row in rows]
    if not 0 < period <= min(map(len, rows)) // 2:
        return None
    ends = {_longest_run(row, period) for row in bits}
    if len(ends) != 1:
        return None
    (first, last), row = ends.pop(), rows[0]
    middles = [each[first : len(each) - last] for each in bits]
    count = samples.size(*(len(each) // period for each in middles))
    if count is None or any(len(each) < period for each in middles):
        return None
    end = len(row) - last
    made = Repeated(tuple(row[:first]), tuple(row[first : first + period]), tuple(row[end:]), count)
    return made if _equal(map(made.at, samples.sizes), rows) else None


def _longest_run(row: Any, period: int) -> tuple[int, int]:
    """How many numbers stand in front of the longest run that repeats so many of them, and how many behind it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row[period:] == row[:-period], [False]]).view(np.int8)))
    if not len(edges):
        return len(row), 0
    longest = int(np.argmax(edges[1::2] - edges[::2]))
    start, end = int(edges[2 * longest]), int(edges[2 * longest + 1]) + period
    return start, len(row) - end + (end - start) % period


def _plain_row(rows: Sequence[Sequence[float]], samples: Samples) -> Formula | None:
    """The formula of rows that are all of one form."""
    for name, factor, divisor, integers in _candidates(rows, samples):
        if not all(np.isfinite(row).all() and (np.abs(row) < 2.0**53).all() for row in integers):
            continue
        places, made = [row.astype(np.int64) for row in integers], Formula(name, factor, None, divisor)
        # The bits come first: a table takes longer, and there is one for hardly any rows.
        if _equal((made.of(p.tolist(), sizes) for p, sizes in zip(places, samples.sizes, strict=True)), rows):
            table = OpenTable.through(places, [(len(row),) for row in rows], samples)
            if table is not None:
                return made._replace(integer=table)
    return None


def _candidates(
    rows: Sequence[Sequence[float]], samples: Samples
) -> Iterator[tuple[str, float, Size | None, list[Any]]]:
    """Forms that rows may have, each with the integers that they then are made of."""

    def integers(compute: Callable[[float], float]) -> list[Any]:
        return [np.rint(np.array([_or_nan(compute, value) for value in row])) for row in rows]

    for name, form in _FORMS.items():
        if form.place is not None:
            yield name, 1.0, None, integers(form.place)
    for divisor in _integers(samples):
        parts = zip(rows, samples.sizes, strict=True)
        yield "p", 1.0, divisor, [np.rint(np.array(row) * bound(divisor, sizes)) for row, sizes in parts]
    arrays = [np.array(row) for row in rows]
    steps = {abs(b - a) for row in rows for a, b in itertools.pairwise(row) if a != b}
    for step in steps:
        for factor in _near(step):
            # Irregular rows have hundreds of steps, which are factors of hardly any of them.
            if np.array_equal(np.rint(arrays[0] / factor) * factor, arrays[0]):
                yield "c * p", factor, None, [np.rint(array / factor) for array in arrays]


def _or_nan(compute: Callable[[float], float], value: float) -> float:
    try:
        return compute(value)
    except _ERRORS:
        return math.nan
