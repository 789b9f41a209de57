"""Primitives of users: rows that are written in arithmetic (composites), and functions from outside (foreign ones)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

from .conversion import number
from .errors import ARITHMETIC_ERRORS, FAULT, FlatgradError, InputError
from .primitive import ZERO, Applicable, Partial, Primitive


class Body(NamedTuple):
    """Arithmetic as a few equations: what a composite computes, or a partial of a primitive.

    Operands are slots: first those of the function, then one per equation; `~k` is `constants[k]`. It is a function:
    of floats it computes a float, and otherwise it applies the rows, so that it can be traced and differentiated.

    Example:
        >>> from flatgrad.runtime.primitives import add, mul
        >>> Body(1, ((mul, (0, 0)), (add, (1, ~0))), (1.0,), 2)(3.0)
        10.0
    """

    arity: int
    equations: tuple[tuple[Primitive, tuple[int, ...]], ...]
    constants: tuple[float, ...]
    result: int

    def __call__(self, *operands: Any) -> Any:
        plain = not any(isinstance(operand, Applicable) for operand in operands)
        slots = list(operands)
        for primitive, refs in self.equations:
            numbers = [slots[ref] if ref >= 0 else self.constants[~ref] for ref in refs]
            slots.append(primitive.evaluate(*numbers) if plain else primitive(*numbers))
        return slots[self.result] if self.result >= 0 else self.constants[~self.result]

    def expanded(self) -> Body:
        """The same without composites among its equations."""
        equations: list[tuple[Primitive, tuple[int, ...]]] = []
        constants = list(self.constants)
        slots = list(range(self.arity))

        def slot(ref: int) -> int:
            return slots[ref] if ref >= 0 else ref

        for primitive, refs in self.equations:
            if primitive.body is None:
                equations.append((primitive, tuple(map(slot, refs))))
                slots.append(self.arity + len(equations) - 1)
                continue
            inner = list(map(slot, refs))
            base = len(constants)
            constants += primitive.body.constants
            for row, parts in primitive.body.equations:
                equations.append((row, tuple(inner[r] if r >= 0 else ~(base + ~r) for r in parts)))
                inner.append(self.arity + len(equations) - 1)
            result = primitive.body.result
            slots.append(inner[result] if result >= 0 else ~(base + ~result))
        return Body(self.arity, tuple(equations), tuple(constants), slot(self.result))

    @property
    def raises(self) -> bool:
        """Whether computing it can raise."""
        return any(primitive.raises for primitive, _ in self.equations)

    def total(self) -> Body:
        """The same with inf and NaN where it would raise."""
        return self._replace(equations=tuple((row.total or row, refs) for row, refs in self.equations))


class Foreign:
    """A function from outside: called with floats, lane by lane.

    Args:
        function: the function.
        name: what generated source calls it.
        total: whether it gives NaN in place of an exception of arithmetic.
    """

    def __init__(self, function: Callable[..., Any], name: str, total: bool = False) -> None:
        self.function = function
        self.total = total
        self.__name__ = name

    def __call__(self, *operands: float) -> float:
        try:
            result = self.function(*operands)
            if isinstance(result, Applicable):
                raise InputError(f"{self.__name__}{operands} returned a Value; it must return a number")
            return float(number(result))
        except FlatgradError:
            raise
        except ARITHMETIC_ERRORS:
            if self.total:
                return float("nan")
            raise

    def in_code(self, *operands: float) -> float:
        """What generated code calls: an exception of arithmetic makes it compute again, equation by equation."""
        try:
            return self(*operands)
        except ARITHMETIC_ERRORS:
            raise FAULT(f"{self.__name__}: it raised") from None


_adding = Lock()
_rows: dict[Any, Primitive] = {}


def _row(name: str, names: Sequence[str], evaluate: Any, partials: Sequence[Partial], **facts: Any) -> Primitive:
    kinds = "f" * len(names) + "->f"
    return Primitive(name, kinds, evaluate, partials, symbol=name, internal=True, names=names, **facts)


class _Form:
    """The SymPy form of a row: the given one, that of its arithmetic, or an unknown function."""

    def __init__(self, name: str, given: Callable[..., Any] | None, body: Body | None) -> None:
        self.name, self.given, self.body = name, given, body

    def __call__(self, sp: Any, *operands: Any) -> Any:
        if self.given is not None:
            return self.given(sp, *operands)
        if self.body is None:
            return sp.Function(self.name)(*operands)
        slots, constants = list(operands), list(map(sp.sympify, self.body.constants))
        for primitive, refs in self.body.equations:
            slots.append(primitive.sympy(sp, *[slots[r] if r >= 0 else constants[~r] for r in refs]))
        return slots[self.body.result] if self.body.result >= 0 else constants[~self.body.result]


def own_primitive(
    name: str,
    names: Sequence[str],
    evaluate: Any,
    partials: Sequence[Any],
    doc: str | None = None,
    sympy: Callable[..., Any] | None = None,
) -> Primitive:
    """The row for what a user registers; the same one for the same things.

    Args:
        name: its name.
        names: those of its operands.
        evaluate: a `Body`, or a function of floats.
        partials: a rule `(out, *operands)` per operand, None where no gradient flows, `...` where it is not known.
        doc: its docstring.
        sympy: its SymPy form, if there is one.
    """
    key = name, tuple(names), _exact(evaluate), tuple(map(_exact, partials)), sympy
    rules: list[Partial] = [ZERO if rule is None else None if rule is ... else rule for rule in partials]
    with _adding:
        if key in _rows:
            return _rows[key]
        body = evaluate if isinstance(evaluate, Body) else None
        facts: dict[str, Any] = {"doc": doc or f"A primitive of the user's: {name}.", "sympy": _Form(name, sympy, body)}
        if body is not None:
            row = _row(name, names, body, rules, raises=body.raises, **facts)
            row.body = body
            if row.raises:
                row.total = _row(f"ieee_{name}", names, body.total(), rules, **facts)
                row.total.body = body.total()
        else:
            text = f"foreign_{len(_rows)}"
            row = _row(name, names, Foreign(evaluate, text), rules, raises=True, slow=True, **facts)
            row.total = _row(f"ieee_{name}", names, Foreign(evaluate, f"{text}_ieee", True), rules, slow=True, **facts)
        parts = evaluate, list(partials)
        for each in {row, row.total}:
            if each is not None:
                each.remade = _remade, (each is row, name, tuple(names), *parts, doc, sympy)
        _rows[key] = row
        return row


def _remade(is_row: bool, *parts: Any) -> Primitive:
    """What is pickled: the row, or its total form."""
    row = own_primitive(*parts)
    return row if is_row or row.total is None else row.total


def _exact(thing: Any) -> Any:
    """A key by which bodies are equal if they compute the same bits, and functions if they are the same."""
    if isinstance(thing, Body):
        rows = tuple((primitive.opcode, refs) for primitive, refs in thing.equations)
        return thing.arity, rows, tuple(c if isinstance(c, bool) else c.hex() for c in thing.constants), thing.result
    return thing
