"""Formulas of the step: Python functions of a number, traced into their text.

What depends on the step alone (learning rates, bias corrections) is said once, as a Python function on numbers. Runs
call it. Where many numbers are wanted at once, or a training loop is written to a file, the function is called with a
`Formula` in place of the step; each operator appends itself to a text, and the text computes the same operations on the
same numbers, hence the same bits. A function that branches on the step, looks it up, or does anything else that a text
cannot say, raises `NotAFormulaError`, and is called step by step.
"""

from __future__ import annotations

import functools
import io
import itertools
import keyword
import math
import tokenize
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from ..compiler.languages.loader import LoadedModule

#: A method of a class, which takes any operands.
Operator: TypeAlias = Callable[..., Any]
#: How strongly an expression binds, weakest first, as in Python's grammar.
_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(5)
#: The limit of a text's length: nobody would want to read longer formulas.
_LONGEST = 2_000
#: Steps at which two statements of the same numbers are compared.
SAMPLES = (0, 1, 2, 3, 4, 5, 7, 10, 49, 99, 100, 1000, 12345)


class NotAFormulaError(TypeError):
    """A function does something with the step that cannot be written as a formula."""


def _operator(operator: str, strength: int) -> tuple[Operator, Operator]:
    """An operator that binds to the left, and the same with its operands exchanged."""

    def join(left: Any, right: Any) -> Formula:
        return Formula(_text(left, strength) + operator + _text(right, strength + 1), strength)

    return join, lambda right, left: join(left, right)


class Formula:
    """A number that depends on the step, as text.

    Args:
        text: an expression in `step`.
        strength: how strongly the expression binds.
        names: texts by which functions of the very step are called: the learning rate as `lr`.
    """

    __slots__ = ("_names", "_strength", "_text")

    def __init__(self, text: str, strength: int = _ATOM, names: dict[int, str] | None = None) -> None:
        if len(text) > _LONGEST:
            raise NotAFormulaError("its text would be very long")
        self._text, self._strength, self._names = text, strength, names or {}

    def __repr__(self) -> str:
        return self._text

    def name_of(self, function: object) -> str:
        """What the value of a function at this step is called; "" if it has no name."""
        return self._names.get(id(function), "")

    __add__: Operator
    __radd__: Operator
    __add__, __radd__ = _operator(" + ", _SUM)
    __sub__: Operator
    __rsub__: Operator
    __sub__, __rsub__ = _operator(" - ", _SUM)
    __mul__: Operator
    __rmul__: Operator
    __mul__, __rmul__ = _operator(" * ", _PRODUCT)
    __truediv__: Operator
    __rtruediv__: Operator
    __truediv__, __rtruediv__ = _operator(" / ", _PRODUCT)
    __floordiv__: Operator
    __rfloordiv__: Operator
    __floordiv__, __rfloordiv__ = _operator(" // ", _PRODUCT)
    __mod__: Operator
    __rmod__: Operator
    __mod__, __rmod__ = _operator(" % ", _PRODUCT)

    def __pow__(self, other: Any) -> Formula:
        return Formula(f"{_text(self, _ATOM)} ** {_text(other, _UNARY)}", _POWER)

    def __rpow__(self, other: Any) -> Formula:
        return Formula(f"{_text(other, _ATOM)} ** {_text(self, _UNARY)}", _POWER)

    def __neg__(self) -> Formula:
        return Formula(f"-{_text(self, _UNARY)}", _UNARY)

    def __pos__(self) -> Formula:
        return self

    def __abs__(self) -> Formula:
        return Formula(f"abs({self._text})")

    def _refuse(self, *_: Any) -> Any:
        raise NotAFormulaError("it branches on the step, looks it up, or calls a function that wants a number")

    __bool__ = _refuse
    __int__ = _refuse
    __index__ = _refuse
    __float__ = _refuse
    __complex__ = _refuse
    __round__ = _refuse
    __iter__ = _refuse
    __len__ = _refuse
    __lt__ = _refuse
    __le__ = _refuse
    __gt__ = _refuse
    __ge__ = _refuse
    __trunc__ = _refuse
    __floor__ = _refuse
    __ceil__ = _refuse
    __divmod__ = _refuse
    __rdivmod__ = _refuse
    __hash__: Operator = _refuse
    __eq__: Operator = _refuse
    __ne__: Operator = _refuse


def _text(operand: Any, strength: int) -> str:
    """An operand in a place that wants an expression of at least this strength."""
    if isinstance(operand, Formula):
        return operand._text if operand._strength >= strength else f"({operand._text})"
    if type(operand) not in (int, float) or not math.isfinite(operand):
        raise NotAFormulaError(f"it computes with {operand!r:.40}, which is no finite int or float")
    if operand == math.pi:
        return "pi"
    negative = math.copysign(1.0, operand) < 0.0
    return f"({operand!r})" if negative and strength > _UNARY else repr(operand)


def least(a: Any, b: Any) -> Any:
    """`min(a, b)`, of numbers or formulas."""
    if isinstance(a, Formula) or isinstance(b, Formula):
        return Formula(f"min({_text(a, _SUM)}, {_text(b, _SUM)})")
    return min(a, b)


def cosine(x: Any) -> Any:
    """`math.cos(x)`, of a number or a formula."""
    return Formula(f"cos({_text(x, _SUM)})") if isinstance(x, Formula) else math.cos(x)


def text_of(number: Any) -> str:
    """What a function of a formula returned, as text.

    Raises:
        NotAFormulaError: if it is no finite number and no formula.
    """
    return _text(number, _SUM)


class StepFormulas(NamedTuple):
    """The numbers of a step as texts.

    Attributes:
        rate: the learning rate, an expression in `step`.
        numbers: the numbers by name, `lr` first: expressions in `step` and `rate`, those behind it also in `lr`.
            Expressions that users write may also use `t`, which is `step + 1`. Where the number `lr` is the learning
            rate itself, its text is `rate`.
        checked: whether they are known to have the bits of the functions that they come from at every step. Those that
            users wrote beside a function have been compared at some steps only.
    """

    rate: str
    numbers: dict[str, str]
    checked: bool

    def statements(self) -> list[str]:
        """Statements that compute the numbers of a `step`; afterwards each has its name."""
        names, texts = list(self.numbers), list(self.numbers.values())
        lines = ["t = step + 1"] if any("t" in names_in(text) for text in texts) else []
        if texts[0] == "rate":
            return [*lines, f"{names[0]} = {self.rate}", *map("{} = {}".format, names[1:], texts[1:])]
        return [*lines, f"rate = {self.rate}", *map("{} = {}".format, names, texts)]

    @property
    def imports(self) -> list[str]:
        """The names from `math` that the texts use."""
        names = frozenset().union(*map(names_in, (self.rate, *self.numbers.values())))
        return sorted(name for name in names - set(self.numbers) if hasattr(math, name))


@functools.lru_cache(maxsize=64)
def names_in(text: str) -> frozenset[str]:
    """The names that an expression uses.

    >>> sorted(names_in("0.5 * (1.0 + math.cos(pi * step))"))
    ['math', 'pi', 'step']
    """
    # Not `ast.parse`: in CPython 3.11, threads that make syntax trees at the same time disturb each other.
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline) if token.string]
    pairs = itertools.pairwise(["", *(token.string for token in tokens)])
    return frozenset(
        name for before, name in pairs if name.isidentifier() and not keyword.iskeyword(name) and before != "."
    )


def check_name(name: str) -> bool:
    """Whether a number of the step can have this name in generated source."""
    is_reserved = name in ("step", "t", "rate", "min", "abs", "first", "end") or hasattr(math, name)
    return name.isidentifier() and name.isascii() and not keyword.iskeyword(name) and not is_reserved and name[0] != "_"


@functools.lru_cache(maxsize=64)
def function_of(text: str, arguments: str) -> Callable[..., Any]:
    """A function that computes an expression, which may use the functions of `math`.

    Raises:
        SyntaxError: if it is no expression.
    """
    compile(text.strip() or "()", "<formula>", "eval")
    module = LoadedModule(["from math import *\n", f"def formula({arguments}):\n    return ({text})\n"], "formula")
    function: Callable[..., Any] = module.names["formula"]
    return function


def differing_step(one: Callable[[int], Sequence[Any]], other: Callable[[int], Sequence[Any]]) -> int | None:
    """A step at which two statements of the same numbers differ, by bits; None if none of the samples is one."""
    for step in SAMPLES:
        try:
            first, second = one(step), other(step)
        except Exception:  # it is not defined there; a run will say so if it comes to this step
            continue
        if len(first) != len(second) or any(map(_differ, first, second)):
            return step
    return None


def _differ(a: Any, b: Any) -> bool:
    return float(a).hex() != float(b).hex()
