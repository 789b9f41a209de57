"""Nodes as Python objects: how they are shown, named, compared, converted and copied.

What would silently turn a node into a plain number, and so lose its gradient, is an error that says what to write.
"""

from __future__ import annotations

import math
from numbers import Number as AbstractNumber
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..display.markup import card, escaped, pairs
from . import primitives
from .backward import CONSTANT
from .causes import cause
from .errors import InputError
from .methods import C, ConditionMethods, V, ValueMethods
from .pickling import reduced
from .primitives import Operand
from .sites import user_line
from .tracing import active, forbidden, recorder, refuse
from .wording import count_of

#: What to do instead, in errors.
_NOT_A_FLOAT = "Use flatgrad's functions (fg.exp, ...) on the Value in place of those that take plain numbers only."
_FORMAT = 'f"{value}" shows the number at hand; format the result of the compiled function.'
_NOT_AN_INTEGER = (
    "Pass the argument as an int: it is its value where Python needs an int. Any argument that can be hashed is its "
    "value if it is named in static_argnames=(...). There is one kernel per value."
)
_EQUALITY = "Use fg.equal(a, b) inside fg.where."
_BRANCH = "Compare the Values inside of the function."


def is_traced(node: Any) -> bool:
    """Whether the node's number is not fixed in what this thread is tracing now."""
    return recorder() is not None and node._primitive is not CONSTANT


def is_number(other: object) -> bool:
    """Whether the operators take it for a number; not so an array, which compares element by element."""
    if isinstance(other, (AbstractNumber, np.bool_)):
        return True
    kind = type(other)
    return hasattr(kind, "__float__") and not (
        isinstance(other, (Operand, np.generic, np.ndarray)) or hasattr(kind, "__len__")
    )


class ValueObject(ValueMethods[V, C]):
    """What Python asks of a `Value`."""

    __slots__ = ()

    label: Any
    _number: float
    _grad: float
    _operands: tuple[Any, ...]
    _primitive: Any

    @property
    def _prev(self) -> tuple[Any, ...]:
        """The operands, as micrograd names them; the exponent of `a**2` is part of the operation, as there."""
        operands = self._operands
        if self._primitive is primitives.power and operands[1]._primitive is CONSTANT:
            return operands[:1]
        if len(operands) == 1 and not isinstance(operands[0], (ValueObject, ConditionObject)):
            return operands[0]._operands  # type: ignore[no-any-return]  # of the compiled call that made it
        return operands

    @property
    def _op(self) -> str:
        """The short name of the operation, as micrograd writes it; "" for a leaf."""
        primitive = self._primitive
        if primitive is None:
            return ""
        if primitive is primitives.power and self._operands[1]._primitive is CONSTANT:
            exponent = self._operands[1]._number
            return f"**{int(exponent) if exponent.is_integer() else exponent}"
        return str(primitive.symbol)

    def __repr__(self) -> str:
        if active and is_traced(self):
            return "Value(data=<traced>)"
        return f"Value(data={self._number}, grad={self._grad})"

    def _repr_html_(self) -> str:
        """How notebooks show a Value."""
        if active and is_traced(self):
            return escaped(repr(self))
        cells: list[tuple[str, object]] = [("data", self._number), ("grad", self._grad)]
        if self._op:
            cells.append(("made by", f"{self._op} of {count_of(len(self._prev), 'operand')}"))
        return card(f"Value {self.label}" if self.label else "Value", pairs(cells))

    def __format__(self, spec: str) -> str:
        """`f"{value}"` is the repr; with a format specification, the number is formatted."""
        if not spec:
            return repr(self)
        if active and is_traced(self):
            done = cause()
            if done.shows:
                return self._formatted(spec)
            raise forbidden(f"formatting the number of a Value{done.text or ','}", done.remedy or _FORMAT)
        return format(self._number, spec)

    def _formatted(self, spec: str) -> str:
        """The number at hand as text."""
        raise NotImplementedError  # pragma: no cover - traced Values define it

    def __reduce__(self) -> Any:
        if active and is_traced(self):
            raise forbidden("copying or pickling a Value", "Use the Value itself in place of the copy.")
        return reduced(self)

    @property
    def real(self) -> Any:
        """Itself, as of a float."""
        return self

    @property
    def imag(self) -> float:
        """0.0, as of a float."""
        return 0.0

    def is_integer(self) -> Any:
        """The condition that its number is whole, as of a float."""
        return primitives.logical_and(primitives.equal(primitives.floor(self), self), abs(self) < math.inf)

    def __float__(self) -> float:
        """An error: `math.exp(value)`, arrays of floats and `"%f" % value` ask for it, and would lose the gradient."""
        if active and is_traced(self) and cause().shows:
            return float(self._formatted(".17g"))
        raise self._no_plain_number("a float", _NOT_A_FLOAT)

    def __int__(self) -> Any:
        """An error, as `float(value)`. (`round`, `math.floor`, `math.ceil` and `math.trunc` give Values.)"""
        raise self._no_plain_number("an int or a fraction", _NOT_AN_INTEGER)

    as_integer_ratio = __int__

    def hex(self) -> Any:
        """An error, as `float(value)`."""
        raise self._no_plain_number("a text", _NOT_A_FLOAT)

    def __round__(self, digits: int | None = None) -> Any:
        """The integer next to it, as a Value: `round(value)`. It is no -0, as no int is.

        With digits it is the next decimal number, as `np.round` finds it: a multiple is rounded, and divided again.
        """
        if digits is None:
            return primitives.rint(self) + 0.0
        scale = 10.0 ** abs(digits)
        if digits < 0:
            return primitives.rint(primitives.div(self, scale)) * scale
        return primitives.div(primitives.rint(self * scale), scale) if digits else primitives.rint(self)

    def __floor__(self) -> Any:
        return primitives.floor(self) + 0.0

    def __ceil__(self) -> Any:
        return primitives.ceil(self) + 0.0

    def __trunc__(self) -> Any:
        return primitives.trunc(self) + 0.0

    def _no_plain_number(self, kind: str, remedy: str) -> Exception:
        if active and is_traced(self):
            done = cause()
            return forbidden(f"turning a Value into {kind}{done.text}", done.remedy or remedy)
        return InputError(
            f"a Value does not turn into {kind} by itself, because its gradient would be lost: use flatgrad's "
            "functions (fg.exp, fg.maximum, ...) on the Value, or value.data for the number without its gradient"
            f"{user_line()}"
        )

    def __index__(self) -> Any:
        if active and is_traced(self):
            raise forbidden("using a Value as an integer (in range(), as an index)", _NOT_AN_INTEGER)
        raise InputError(f"a Value is not an integer; use int(value.data){user_line()}")

    def __bool__(self) -> NoReturn:
        raise refuse(
            "a Value has no truth value: compare it with a number (value > 0), or read value.data outside a traced "
            "function"
        )

    def __eq__(self, other: object) -> Any:
        """Of two Values: whether they are the same object, as in micrograd. The numbers are compared by `fg.equal`.

        Raises:
            InputError: if `other` is a number.
            TraceError: if `other` is a number or a Value while a function is being traced.
        """
        if isinstance(other, ValueObject):
            if active and (is_traced(self) or is_traced(other)):
                raise forbidden("comparing Values with == or != (or `in`)", _EQUALITY)
            return True if self is other else NotImplemented
        if active and is_traced(self) and (isinstance(other, ConditionObject) or is_number(other)):
            raise forbidden("comparing a Value with == or != (or `in`)", _EQUALITY)
        if is_number(other):
            raise InputError(
                "a Value is never == to a number, because == compares nodes: use fg.equal(value, number), or "
                f"value.data == number{user_line()}"
            )
        return NotImplemented

    if TYPE_CHECKING:

        def __hash__(self) -> int: ...

    else:
        __hash__ = object.__hash__


class ConditionObject(ConditionMethods[V, C]):
    """What Python asks of a `Condition`."""

    __slots__ = ()

    _number: bool
    _operands: tuple[Any, ...]
    _primitive: Any

    label = ""
    grad: float = 0.0

    @property
    def _prev(self) -> tuple[Any, ...]:
        return self._operands

    @property
    def _op(self) -> str:
        return str(self._primitive.symbol)

    def __repr__(self) -> str:
        return "Condition(<traced>)" if active and is_traced(self) else f"Condition({self._number})"

    def __reduce__(self) -> Any:
        return reduced(self)

    def __bool__(self) -> bool:
        if active and is_traced(self):
            raise forbidden(
                "using a comparison of Values to choose a branch (if, while, and, or, max, sorted)", _BRANCH
            )
        return self._number

    def __index__(self) -> int:
        """1 or 0, as of a bool: `[a, b][x > 1.0]`, `int(x > 1.0)`. It asks for the truth value."""
        return int(bool(self))

    def __mul__(self, other: Any) -> Any:
        """Beside a list, Python repeats that once or not at all."""
        return NotImplemented if isinstance(other, (list, tuple)) else super().__mul__(other)

    __rmul__ = __mul__

    def __xor__(self, other: Any) -> Any:
        """Whether one of them holds and the other one does not."""
        if isinstance(other, np.ndarray):
            return NotImplemented
        either, both = primitives.logical_or(self, other), primitives.logical_and(self, other)
        return primitives.logical_and(either, primitives.logical_not(both))

    __rxor__ = __xor__

    def __float__(self) -> float:
        return float(bool(self))

    def __eq__(self, other: object) -> Any:
        """Whether the truth values are equal.

        Raises:
            TraceError: while a function is being traced.
        """
        if not isinstance(other, ConditionObject) and not is_number(other):
            return NotImplemented
        if active and (is_traced(self) or (isinstance(other, ConditionObject) and is_traced(other))):
            raise forbidden("comparing a condition with == or != (or `in`)", _BRANCH)
        return self._number == (other._number if isinstance(other, ConditionObject) else other)

    def __hash__(self) -> int:
        if active and is_traced(self):
            raise forbidden("using a condition as a key (of a dict, a set, functools.lru_cache)", _BRANCH)
        return hash(self._number)


def guard(node: Any, what: str) -> None:
    """Refuse what reads or writes the number of a node that is being traced."""
    if is_traced(node):
        remedy = "Compute with the Value itself, or with fg.detach(value): that is the number without its gradient."
        if ".grad" in what:
            remedy = "Use fg.grad or fg.value_and_grad inside the function: what they return is the gradient."
        if "writing" in what:
            remedy = "Assign the new number to a variable, or return it; parameters are trained by fg.nn.train_step."
        raise forbidden(what, remedy)
