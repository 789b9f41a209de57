"""`Value`, one scalar in a graph, and the interpreted engine that gives it its meaning.

Operators compute at once and remember what they did; `backward` walks the graph once in reverse.
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, overload

import numpy as np

from . import primitives
from .backward import CONSTANT, Constant, NodeRule, backpropagate
from .errors import ARITHMETIC_ERRORS, InputError
from .foreign import FOREIGN, beside
from .methods import Array, Number
from .noting import note, noted
from .objects import ConditionObject, ValueObject, guard, is_traced
from .primitives import Primitive, number
from .sites import Site, call_site, locate, user_line
from .tracing import active, forbidden, recorder

ADD: Final = primitives.add
MUL: Final = primitives.mul

_new = object.__new__
_NONE = (None,)

#: What may stand beside a `Value` in arithmetic.
Scalar: TypeAlias = "Value | Number"


class Value(ValueObject["Value", "Condition"]):
    """One scalar: a number, its gradient, and the operation that made it.

    Args:
        data: the number; ints and NumPy scalars become Python floats. `Value(v)` of a `Value` is `v` itself.
        label: a name to show in drawings and in generated source. It is data, never code.

    Attributes:
        data: the number, a float.
        grad: the derivative of what `backward()` was called on with respect to this, a float; leaves accumulate.
        label: the name.

    Example:
        >>> a, b = Value(2.0), Value(-3.0, label="b")
        >>> c = a * b + a**2
        >>> c.backward()
        >>> c.data, a.grad, b.grad
        (-2.0, 1.0, 2.0)

    A Value does not turn into a plain number by itself, because that would lose its gradient: `float(c)`,
    `math.exp(c)` and an array of floats raise an `InputError`. Read `c.data`, or use `fg.exp(c)`. Two Values are
    equal (`==`) if they are the same node, as in micrograd, so that sets and dicts hold nodes; a Value and a number
    raise an `InputError`. `fg.equal(a, b)` compares numbers.

        >>> from flatgrad.runtime.primitives import equal
        >>> c == a * b + a**2, bool(equal(c, -2.0)), c.data == -2.0
        (False, True, True)
    """

    __slots__ = ("_bar", "_grad", "_label", "_number", "_operands", "_primitive", "_site")

    #: The sum of gradient contributions during a backward pass, else None. Of a constant or a detached node: a number,
    #: at first 0.0, to which backward passes may add, and which nobody reads.
    _bar: float | None
    _number: float
    _grad: float
    _label: str
    _operands: tuple[Any, ...]
    _primitive: Primitive | NodeRule | None  # None: a leaf
    _site: Site  # where the user made it; only set where the operation, or a partial of it, can raise

    def __new__(cls, data: Scalar = 0.0, _children: Any = (), _op: str = "", label: str = "") -> Value:
        if isinstance(data, Value):
            return data
        if _children:
            raise InputError(
                "Value(data, children) cannot know the derivative of the operation; "
                "build the result with operators and flatgrad's functions instead"
            )
        value: Value = _new(cls)
        value._number = _as_float(data)
        value._grad = 0.0
        value._operands = ()
        if active and recorder() is not None:  # made while tracing: a constant of the program
            value._primitive, value._bar = CONSTANT, 0.0
        else:
            value._primitive = value._bar = None
        if label:
            value._label = str(label)
        return value

    # --- what users read and write --------------------------------------------------------------------------------

    @property
    def data(self) -> float:
        if active:
            guard(self, "reading .data of a Value")
        return self._number

    @data.setter
    def data(self, data: Number) -> None:
        if active:
            guard(self, "writing .data of a Value")
        self._number = data if data.__class__ is float else _as_float(data)

    @property
    def grad(self) -> float:
        if active:
            guard(self, "reading .grad of a Value")
        return self._grad

    @grad.setter
    def grad(self, grad: Number) -> None:
        if active:
            guard(self, "writing .grad of a Value")
        self._grad = grad if grad.__class__ is float else _as_float(grad)

    @property
    def label(self) -> str:
        return getattr(self, "_label", "")

    @label.setter
    def label(self, label: str) -> None:
        self._label = str(label)

    # --- operators: apply a row of the table; the two that models are made of are written out for speed -----------

    def apply(self, primitive: Primitive, operands: Sequence[Any]) -> Any:
        if active:
            trace = active.get(get_ident(), _NONE)[-1]
            if trace is not None:
                return trace.record(primitive, operands)
        return apply_eagerly(primitive, operands)

    @overload
    def __add__(self, other: Scalar) -> Value: ...
    @overload
    def __add__(self, other: Array) -> Array: ...
    def __add__(self, other: Any) -> Any:
        if active:
            trace = active.get(get_ident(), _NONE)[-1]
            if trace is not None:
                if (k := other.__class__) is not float and k is not self.__class__ and isinstance(other, FOREIGN):
                    return beside(self, "__add__", other)
                return trace.record(ADD, (self, other))
        if other.__class__ is not Value:
            if other.__class__ is not float and isinstance(other, FOREIGN):
                return beside(self, "__add__", other)
            other = as_value(other)
        out: Value = _new(Value)
        out._number = self._number + other._number
        out._grad = 0.0
        out._bar = None
        out._primitive = ADD
        out._operands = (self, other)
        return out

    @overload
    def __mul__(self, other: Scalar) -> Value: ...
    @overload
    def __mul__(self, other: Array) -> Array: ...
    def __mul__(self, other: Any) -> Any:
        if active:
            trace = active.get(get_ident(), _NONE)[-1]
            if trace is not None:
                if (k := other.__class__) is not float and k is not self.__class__ and isinstance(other, FOREIGN):
                    return beside(self, "__mul__", other)
                return trace.record(MUL, (self, other))
        if other.__class__ is not Value:
            if other.__class__ is not float and isinstance(other, FOREIGN):
                return beside(self, "__mul__", other)
            other = as_value(other)
        out: Value = _new(Value)
        out._number = self._number * other._number
        out._grad = 0.0
        out._bar = None
        out._primitive = MUL
        out._operands = (self, other)
        return out

    if not TYPE_CHECKING:
        __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Value:
        return self * -1.0

    # --- differentiation ------------------------------------------------------------------------------------------

    def backward(self) -> None:
        """Add the derivative of this with respect to every leaf to the leaf's `grad`.

        Each leaf receives one number, the finished sum; the `grad` of intermediate nodes is set afresh. If a partial
        raises, no gradient is changed. If Ctrl-C interrupts the pass, either no gradient is changed or all of them are.

        Raises:
            DomainError, DivisionByZeroError, RangeError: where a partial is not defined at the numbers of the graph.
            MissingPartialError: where a primitive declares no partial for an operand.
            TraceError: inside a function that is being traced.
        """
        if active and recorder() is not None:
            raise forbidden("calling backward()", "Use fg.value_and_grad or fg.grad inside the function instead.")
        backpropagate([self], [1.0])


class Condition(ConditionObject["Value", "Condition"]):
    """What a comparison of `Value`s yields: a truth value that `fg.where` can select by.

    Combine conditions with `&`, `|` and `~`. Outside a traced function `bool(condition)` is its truth value, and `==`
    compares truth values: with another condition, a bool, or a number.

    Example:
        >>> from flatgrad.runtime.primitives import where
        >>> x = Value(-2.0)
        >>> where(x < 0, -x, x).data
        2.0
    """

    __slots__ = ("_bar", "_grad", "_number", "_operands", "_primitive")

    _bar: float
    _number: bool
    _grad: float
    _operands: tuple[Any, ...]
    _primitive: Primitive | Constant

    @classmethod
    def _node(cls, data: Any, primitive: Primitive | Constant, operands: tuple[Any, ...]) -> Condition:
        condition: Condition = _new(cls)
        condition._number = bool(data)
        condition._bar = condition._grad = 0.0
        condition._primitive, condition._operands = primitive, operands
        return condition

    def apply(self, primitive: Primitive, operands: Sequence[Any]) -> Any:
        trace = recorder() if active else None
        return trace.record(primitive, operands) if trace is not None else apply_eagerly(primitive, operands)

    @property
    def data(self) -> bool:
        if active and is_traced(self):
            raise forbidden("reading .data of a condition", "Select with fg.where(condition, a, b).")
        return self._number


def apply_eagerly(primitive: Primitive, operands: Sequence[Any]) -> Any:
    """The node `primitive(*operands)`, computed now. Numbers among the operands become constants."""
    nodes = tuple(
        [
            as_condition(o) if kind == "b" else as_value(o)
            for o, kind in zip(operands, primitive.operand_kinds, strict=True)
        ]
    )
    site = call_site(2) if primitive.partial_raises else None
    if noted:
        note(primitive)
    try:
        data = primitive.evaluate(*[node._number for node in nodes])
    except ARITHMETIC_ERRORS as error:
        raise primitive.error(error, [node._number for node in nodes], locate(site)) from None
    if primitive.result == "b":
        return Condition._node(data, primitive, nodes)
    out: Value = _new(Value)
    out._number = data
    out._grad = 0.0
    out._primitive = primitive
    out._operands = nodes
    out._bar = None if primitive.differentiable else 0.0
    if site is not None:
        out._site = site
    return out


def constant(data: float) -> Value:
    """A node for a number: shown in drawings, never given a gradient."""
    value: Value = _new(Value)
    value._number, value._grad, value._bar = data, 0.0, 0.0
    value._primitive, value._operands = CONSTANT, ()
    return value


def as_value(operand: Any) -> Any:
    """`operand` if it is a node, else a constant made from the number; of a condition 1.0 or 0.0, as of a bool.

    Raises:
        InputError: if it is neither.
    """
    if operand.__class__ is float:
        return constant(operand)
    if isinstance(operand, Value):
        return operand
    if isinstance(operand, Condition):
        return operand.apply(primitives.where, (operand, 1.0, 0.0))
    try:
        return constant(float(number(operand)))
    except InputError as error:
        raise InputError(f"{error}{user_line()}") from None


def as_condition(operand: Any) -> Any:
    """`operand` if it is a condition, else one made from the truth value.

    Raises:
        InputError: if it is neither.
    """
    if isinstance(operand, Condition):
        return operand
    if hasattr(operand, "as_condition"):  # of an array of truth values
        return operand.as_condition()
    if isinstance(operand, (bool, np.bool_)):
        return Condition._node(operand, CONSTANT, ())
    what = "a Value" if isinstance(operand, Value) else f"{type(operand).__name__} {operand!r:.40}"
    raise InputError(f"expected a condition such as `value > 0`, got {what}{user_line()}")


def _as_float(data: Any) -> float:
    if data.__class__ is float:
        return data
    if isinstance(data, np.ndarray) and data.ndim:
        raise InputError(f"a Value is one scalar, got an array of shape {data.shape}; make one Value per element")
    return float(number(data))
