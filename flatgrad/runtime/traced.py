"""`Value`s and conditions of a function that is being traced: variables of a program."""

from __future__ import annotations

import dis
import operator
from collections.abc import Callable
from sys import _getframe
from typing import Any, Final, NoReturn, TypeAlias

import numpy as np

from .causes import cause, is_power
from .objects import is_number
from .primitives import equal, logical_and, logical_not, logical_or
from .sites import is_internal
from .texts import NumberText
from .tracing import forbidden, recorder, records, refuse
from .value import Condition, Value, constant

#: What a number is computed from: numbers of Python, elements of arrays of NumPy, or `Value`s.
OF_NUMBERS: Final = 0
OF_ARRAYS: Final = 1
OF_VALUES: Final = 2
#: A method of a class that stands beside `Value` among the bases of others: type checkers take its types from there.
Operator: TypeAlias = Any
_KEY = "Compare with fg.equal(a, b) inside fg.where; to tell nodes apart, use id(value) as the key."


class TracedValue(Value):
    """A `Value` of a function that is being traced: a variable of the program.

    Where the function is called with plain numbers if nothing is traced, it can do what they can: `==` and `!=` compare
    numbers, and it has a truth value.
    """

    __slots__ = ("_index", "_trace")

    _index: int
    _trace: Any
    # These are the same for all.
    _primitive = None
    _operands = ()

    def _escaped(self, *number: float) -> Any:
        raise refuse(
            "this Value was created while a function was being traced and has escaped from it; it has no number. "
            "Return it from the function instead",
            self._trace,
        )

    def _no_plain_number(self, kind: str, remedy: str) -> Exception:
        if recorder() is None:
            self._escaped()
        return super()._no_plain_number(kind, remedy)

    def __hash__(self) -> int:
        if recorder() is None:
            self._escaped()
        raise forbidden("using a traced Value as a key (of a dict, a set, functools.lru_cache)", _KEY)

    def _plain(self) -> bool:
        return recorder() is not None and self._trace.compares(self)

    def __eq__(self, other: object) -> Any:
        if self._plain() and (is_number(other) or (isinstance(other, TracedValue) and other._plain())):
            return self.apply(equal, (self, other))
        return super().__eq__(other)

    def __ne__(self, other: object) -> Any:
        same = self == other
        return ~same if isinstance(same, TracedCondition) else NotImplemented if same is NotImplemented else not same

    def __bool__(self) -> bool:  # type: ignore[override]
        return bool(self != 0.0) if self._plain() else super().__bool__()

    def __index__(self) -> Any:
        if recorder() is not None and is_power():
            raise TypeError("a Value is no integer")
        if recorder() is not None and self._trace.follows:
            raise refuse(
                f"a float was used as an integer (in range(), as an index){cause().text.rstrip(',')}; write int(x) "
                "in its place, or pass an int: that is its value there, with one kernel per value"
            )
        return super().__index__()

    # These stand in place of the slots that hold numbers, and raise when one is read or written.
    _number = _grad = _bar = property(_escaped, _escaped)

    def _no_graph(self) -> Any:
        if recorder() is None:
            self._escaped()
        raise refuse(
            "a function that is being traced has no graph yet: _prev, _op and drawings of its Values are not known. "
            "Look at the graph outside of it, or at the program, kernel.program"
        )

    _prev = _op = property(_no_graph)

    def __truediv__(self, other: Any) -> Any:  # type: ignore[override]
        return _as_quotient(super().__truediv__(other))

    def __rtruediv__(self, other: Any) -> Any:  # type: ignore[override]
        return _as_quotient(super().__rtruediv__(other))

    def __repr__(self) -> str:
        return NumberText(f"Value(data={self._shown()})")

    def _formatted(self, spec: str) -> str:
        return str(self._trace.shown(self._index, spec))

    def __copy__(self) -> TracedValue:
        """Itself, as of a number."""
        return self

    def __deepcopy__(self, memo: Any) -> TracedValue:
        return self

    def _shown(self) -> str:
        """The number at hand as text."""
        text: str = self._trace.shown(self._index) if recorder() is not None and records(self._trace) else "<traced>"
        return text


def _as_quotient(result: Any) -> Any:
    if result.__class__ is TracedValue:
        result._trace.quotients.append(result._index)
    return result


def _of_ints(name: str) -> Operator:
    """An operator that makes an integer of two."""

    def apply(self: Integer, other: Any) -> Any:
        if isinstance(other, (list, tuple)):
            return NotImplemented  # Python repeats it
        result = getattr(Value, name)(self, other)
        return as_integer(result) if isinstance(other, (int, np.integer, Integer)) else result

    return apply


def as_integer(result: Any) -> Any:
    """A `Value` whose number is whole, as an integer."""
    if result.__class__ in _INTEGERS:
        result.__class__ = _INTEGERS[result.__class__]
    return result


def _of_values(function: Callable[..., Any]) -> Operator:
    """An operator that is applied to the values of integers."""

    def apply(self: Integer, *others: Any) -> Any:
        return function(int(self), *[int(each) if isinstance(each, Integer) else each for each in others])

    return apply


def _reflected(function: Callable[[Any, Any], Any]) -> Operator:
    return lambda self, other: function(other, int(self))


class Integer:
    """What an integer among the arguments does, and what `+`, `-`, `*` and `**` make of integers.

    In arithmetic it is a number. Where Python needs an int (`range`, an index, a key, `//`, `%`, a text), it is its
    value: that at hand, while a function is traced, and the program holds only as long as that stays the same.
    """

    __slots__ = ()

    def __index__(self) -> int:
        raise NotImplementedError  # pragma: no cover - every subclass defines it

    def __int__(self) -> int:
        return self.__index__()

    __trunc__ = __int__
    __floor__ = __int__
    __ceil__ = __int__
    __round__: Operator = _of_values(round)
    __hash__: Operator = _of_values(hash)
    __invert__: Operator = _of_values(operator.invert)
    __add__: Operator = _of_ints("__add__")
    __radd__: Operator = _of_ints("__radd__")
    __mul__: Operator = _of_ints("__mul__")
    __rmul__: Operator = _of_ints("__rmul__")
    __sub__: Operator = _of_ints("__sub__")
    __rsub__: Operator = _of_ints("__rsub__")
    __pow__: Operator = _of_ints("__pow__")
    __rpow__: Operator = _of_ints("__rpow__")
    __floordiv__: Operator = _of_values(operator.floordiv)
    __rfloordiv__: Operator = _reflected(operator.floordiv)
    __mod__: Operator = _of_values(operator.mod)
    __rmod__: Operator = _reflected(operator.mod)
    __divmod__: Operator = _of_values(divmod)
    __rdivmod__: Operator = _reflected(divmod)
    __lshift__: Operator = _of_values(operator.lshift)
    __rlshift__: Operator = _reflected(operator.lshift)
    __rshift__: Operator = _of_values(operator.rshift)
    __rrshift__: Operator = _reflected(operator.rshift)
    __and__: Operator = _of_values(operator.and_)
    __or__: Operator = _of_values(operator.or_)
    __xor__: Operator = _of_values(operator.xor)
    __rand__: Operator = __and__
    __ror__: Operator = __or__
    __rxor__: Operator = __xor__

    def __neg__(self) -> Any:
        return self * -1

    def __abs__(self) -> Any:
        return as_integer(super().__abs__())  # type: ignore[misc]

    def __str__(self) -> str:
        return str(int(self))

    def __format__(self, spec: str) -> str:
        return format(int(self), spec)


class TracedInteger(Integer, TracedValue):  # type: ignore[misc]  # what floor and the like give is an int here
    """An integer of a function that is being traced."""

    __slots__ = ()

    def __index__(self) -> int:
        if recorder() is None:
            self._escaped()
        value: int = self._trace.integer(self)
        return value

    def _plain(self) -> bool:
        return recorder() is not None

    def __eq__(self, other: object) -> Any:
        value = self._trace.known_integer(self._index) if recorder() is not None and is_number(other) else None
        return super().__eq__(other) if value is None else value == other

    __hash__: Operator = Integer.__hash__


class PlainNumber(Value):
    """A plain number among the arguments of a function whose operations are executed: a constant that has `==`."""

    __slots__ = ()

    def __eq__(self, other: object) -> Any:
        return self._number == other if is_number(other) else super().__eq__(other)

    def __bool__(self) -> bool:  # type: ignore[override]
        return bool(self._number)

    __hash__: Operator = Value.__hash__


class PlainInteger(Integer, PlainNumber):  # type: ignore[misc]
    """A plain int among them."""

    __slots__ = ()

    def __index__(self) -> int:
        return int(self._number)


#: The classes of integers, by the classes of the results of arithmetic.
_INTEGERS: dict[type, Any] = {TracedValue: TracedInteger, Value: PlainInteger}


def plain_number(number: float, *, is_int: bool) -> PlainNumber:
    """What stands for a plain number among the arguments of a function whose operations are executed."""
    value: Any = constant(number)
    value.__class__ = PlainInteger if is_int else PlainNumber
    return value  # type: ignore[no-any-return]


def _of_truths(row: Any) -> Operator:
    """An operator of truth values."""

    def apply(self: Truth, other: Any) -> Any:
        return row(self, bool_of(other)) if isinstance(other, _TRUTHS) else NotImplemented

    return apply


def _of_numbers(name: str, row: Any) -> Operator:
    """An operator of numbers, which between truth values is another one."""

    def apply(self: Truth, other: Any) -> Any:
        if _are_of_numpy(self, other):
            return row(self, bool_of(other)) if row is not None else _no_difference()
        return getattr(Value, name)(self, other.number() if isinstance(other, Truth) else other)

    return apply


class Truth:
    """What an element of an array of truth values does that is an argument.

    In arithmetic it is the number 1.0 or 0.0. Where a truth value is needed (`if`, `&`, `~`, an index, `fg.where`), it
    is a condition.
    """

    __slots__ = ()

    def as_condition(self) -> Any:
        """The condition that it holds."""
        return logical_not(equal(self, 0.0))

    def number(self) -> Any:
        """The number that it is."""
        raise NotImplementedError  # pragma: no cover - every subclass defines it

    def __bool__(self) -> bool:
        return bool(self.as_condition())

    def __index__(self) -> int:
        return int(bool(self))

    __int__ = __index__

    def __invert__(self) -> Any:
        return logical_not(self)

    def __neg__(self) -> Any:
        return _no_negative() if _are_of_numpy(self, self) else -self.number()

    __and__: Operator = _of_truths(logical_and)
    __or__: Operator = _of_truths(logical_or)
    __xor__: Operator = _of_truths(lambda a, b: logical_and(logical_or(a, b), logical_not(logical_and(a, b))))
    __rand__: Operator = __and__
    __ror__: Operator = __or__
    __rxor__: Operator = __xor__
    __add__: Operator = _of_numbers("__add__", logical_or)
    __radd__: Operator = _of_numbers("__radd__", logical_or)
    __mul__: Operator = _of_numbers("__mul__", logical_and)
    __rmul__: Operator = _of_numbers("__rmul__", logical_and)
    __sub__: Operator = _of_numbers("__sub__", None)
    __rsub__: Operator = _of_numbers("__rsub__", None)


class TracedTruth(Truth, TracedValue):  # type: ignore[misc]
    """An element of such an array, of a function that is being traced."""

    __slots__ = ()

    def number(self) -> TracedValue:
        """The number that it is."""
        value: TracedValue = self._trace.value(self._index)
        return value

    __hash__: Operator = TracedValue.__hash__


class PlainTruth(Truth, PlainNumber):  # type: ignore[misc]
    """An element of such an array, of a function whose operations are executed."""

    __slots__ = ()

    def number(self) -> Value:
        """The number that it is."""
        return constant(self._number)

    __hash__: Operator = PlainNumber.__hash__


def as_truth(number: Any) -> Any:
    """What stands for an element of an array of truth values; numbers stay what they are."""
    if number.__class__ is TracedValue:
        number.__class__ = TracedTruth
    elif number.__class__ in (Value, PlainNumber):
        number.__class__ = PlainTruth
    return number


class TracedCondition(Condition):
    """A condition of a function that is being traced."""

    __slots__ = ("_index", "_trace")

    _index: int
    _trace: Any
    _primitive = None  # type: ignore[assignment]
    _operands = ()

    @property
    def _number(self) -> bool:  # type: ignore[override]
        raise refuse(
            "this condition was created while a function was being traced and has escaped from it", self._trace
        )

    def __bool__(self) -> bool:
        """The truth value for the numbers at hand; the program holds only as long as it stays the same."""
        if recorder() is None:
            return self._number
        truth: bool = self._trace.decide(self)
        return truth

    _prev = _op = property(TracedValue._no_graph)

    def __add__(self, other: Any) -> Any:
        """A number; but of elements of arrays, as of NumPy's truth values, whether one of them holds."""
        return logical_or(self, bool_of(other)) if _are_of_numpy(self, other) else super().__add__(other)

    def __radd__(self, other: Any) -> Any:
        return logical_or(bool_of(other), self) if _are_of_numpy(self, other) else super().__radd__(other)

    def __mul__(self, other: Any) -> Any:
        return logical_and(self, bool_of(other)) if _are_of_numpy(self, other) else super().__mul__(other)

    def __rmul__(self, other: Any) -> Any:
        return logical_and(bool_of(other), self) if _are_of_numpy(self, other) else super().__rmul__(other)

    def __sub__(self, other: Any) -> Any:
        return _no_difference() if _are_of_numpy(self, other) else super().__sub__(other)

    def __rsub__(self, other: Any) -> Any:
        return _no_difference() if _are_of_numpy(self, other) else super().__rsub__(other)

    def __neg__(self) -> Any:
        return _no_negative() if _are_of_numpy(self, self) else super().__neg__()

    def __eq__(self, other: object) -> Any:
        if recorder() is None or not (isinstance(other, Condition) or is_number(other)):
            return super().__eq__(other)
        return bool(self) == (bool(other) if isinstance(other, Condition) else other)

    def __hash__(self) -> int:
        return hash(bool(self))

    def __repr__(self) -> str:
        is_live = recorder() is not None and records(self._trace)
        return f"Condition({self._trace.shown(self._index) if is_live else '<traced>'})"


#: What operators take for truth values.
_TRUTHS: Final = (Truth, Condition, bool, np.bool_)

#: The classes of elements of arrays.
_OF_NUMPY: Final[dict[type, type]] = {bool: np.bool_, int: np.int64, float: np.float64}


#: What floats would be if they were ints.
TWINS: Final[dict[type, type]] = {float: int, int: float, np.float64: np.int64, np.int64: np.float64}


def class_of_node(node: Any, asked: bool = True) -> type:
    """The class that a number, or a truth value, has where the function is called without a trace.

    What is computed of an element of an array is one of NumPy's. `asked` says whether what becomes of the function
    depends on it, so that an int in the place of a float is another case.
    """
    if isinstance(node, PlainNumber):
        return np.bool_ if isinstance(node, Truth) else int if isinstance(node, Integer) else float
    own = Value if isinstance(node, Value) else Condition
    if not isinstance(node, (TracedValue, TracedCondition)) or recorder() is None or not node._trace.compares(node):
        return own if isinstance(node, own) else type(node)
    origin = node._trace.origin(node._index)
    if asked and isinstance(node, Value):
        node._trace.ask(node._index)
    if origin == OF_VALUES:
        return own
    plain = bool if own is Condition or isinstance(node, Truth) else int if isinstance(node, Integer) else float
    return _OF_NUMPY[plain] if origin == OF_ARRAYS else plain


def _no_difference() -> NoReturn:
    raise refuse("NumPy has no difference of two truth values, which these are; write a ^ b, or 1 * a - b")


def _no_negative() -> NoReturn:
    raise refuse("NumPy has no negative of a truth value, which this is; write ~a, or -1 * a")


def bool_of(item: Any) -> Any:
    """A truth value of NumPy's as one of Python's; other objects as they are."""
    return bool(item) if isinstance(item, np.bool_) else item


def _are_of_numpy(a: Any, b: Any) -> bool:
    """Whether an operator of the user's has two truth values, of which one is NumPy's where nothing is traced.

    It need not be an operator: the sum of an array of them counts.
    """
    if not isinstance(b, (TracedCondition, Truth, bool, np.bool_)) or recorder() is None:
        return False
    code, instruction = _getframe(2).f_code, _getframe(2).f_lasti
    if is_internal(code.co_filename) or not dis.opname[code.co_code[instruction]].startswith(("BINARY", "UNARY")):
        return False
    return np.bool_ in (type(b), class_of_node(a), class_of_node(b) if isinstance(b, (Value, Condition)) else None)


# In errors, Python's and ours, they have the names that users know.
TracedValue.__name__ = TracedValue.__qualname__ = Value.__name__
for _class in TracedInteger, TracedTruth, PlainNumber, PlainInteger, PlainTruth:
    _class.__name__ = _class.__qualname__ = Value.__name__
TracedCondition.__name__ = TracedCondition.__qualname__ = Condition.__name__
