"""`Value`, one scalar in a graph, and the interpreted engine that gives it its meaning.

Operators compute at once and remember what they did; `backward` walks the graph once in reverse. The order of every
addition is fixed (depth-first post-order, operand order), because compiled kernels reproduce it to the last bit.
"""

from __future__ import annotations

import html
import operator
import threading
from collections.abc import Sequence
from functools import partial
from numbers import Number as AbstractNumber
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeAlias, overload

import numpy as np

from . import primitives
from .atomic import setting, step
from .errors import ARITHMETIC_ERRORS, InputError
from .forks import in_child
from .graph import gradient_order, take_marks
from .primitives import Operand, Primitive, number
from .sites import Site, call_site, locate, user_line
from .tracing import active, forbidden, recorder, refuse

ADD: Final = primitives.add
MUL: Final = primitives.mul

_new = object.__new__
#: Interpreted backward passes keep their sums in the nodes, so one runs at a time.
_backward_lock = threading.RLock()


def _renew_lock() -> None:
    global _backward_lock
    _backward_lock = threading.RLock()


in_child(_renew_lock)


class NodeRule(Protocol):
    """What made a node, where it is not a row of the table: a call of a compiled function, say."""

    symbol: str
    mixed: bool

    def propagate(self, node: Any) -> None: ...


class _Constant:
    """The mark of a node that was made from a number: no gradient flows to it."""

    symbol = ""
    mixed = False

    def __reduce__(self) -> str:
        return "CONSTANT"

    def propagate(self, node: Any) -> None:  # pragma: no cover - constants are never visited
        raise AssertionError("a constant has no operands")


CONSTANT: Final = _Constant()


#: What to do instead, in errors.
_NOT_A_FLOAT = (
    "Use flatgrad's functions (fg.exp, ...) on the Value in place of those of math, or fg.detach(value) for the number "
    "without its gradient."
)
_NOT_AN_INTEGER = "Name the argument in static_argnames=(...) to compile one kernel per value."
_EQUALITY = "Use fg.equal(a, b) inside fg.where."
_KEY = "Compare with fg.equal(a, b) inside fg.where; to tell nodes apart, use id(value) as the key."
_CONDITIONS_EQUAL = (
    "For == True use the condition itself in fg.where, for == False ~condition, and for two conditions "
    "fg.equal(fg.where(a, 1.0, 0.0), fg.where(b, 1.0, 0.0))."
)


#: A plain number, and what may stand beside a `Value` in arithmetic.
Number: TypeAlias = "float | np.floating[Any] | np.integer[Any]"
Scalar: TypeAlias = "Value | Number"
Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


class Value(Operand):
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

    __slots__ = ("_bar", "_data", "_grad", "_label", "_operands", "_primitive", "_site")

    #: The sum of gradient contributions during a backward pass, else None. Of a constant or a detached node: a number,
    #: at first 0.0, to which backward passes may add, and which nobody reads.
    _bar: float | None
    _data: float
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
        value._data = _as_float(data)
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
            _guard(self, "reading .data of a Value")
        return self._data

    @data.setter
    def data(self, data: Number) -> None:
        if active:
            _guard(self, "writing .data of a Value")
        self._data = data if data.__class__ is float else _as_float(data)

    @property
    def grad(self) -> float:
        if active:
            _guard(self, "reading .grad of a Value")
        return self._grad

    @grad.setter
    def grad(self, grad: Number) -> None:
        if active:
            _guard(self, "writing .grad of a Value")
        self._grad = grad if grad.__class__ is float else _as_float(grad)

    @property
    def label(self) -> str:
        return getattr(self, "_label", "")

    @label.setter
    def label(self, label: str) -> None:
        self._label = str(label)

    @property
    def _prev(self) -> tuple[Any, ...]:
        """The operands, as micrograd names them; the exponent of `a**2` is part of the operation, as there."""
        operands = self._operands
        if self._primitive is primitives.power and operands[1]._primitive is CONSTANT:
            return operands[:1]
        if len(operands) == 1 and not isinstance(operands[0], (Value, Condition)):
            return operands[0]._operands  # type: ignore[no-any-return]  # of the compiled call that made it
        return operands

    @property
    def _op(self) -> str:
        """The short name of the operation, as micrograd writes it; "" for a leaf."""
        primitive = self._primitive
        if primitive is None:
            return ""
        if primitive is primitives.power and self._operands[1]._primitive is CONSTANT:
            exponent = self._operands[1]._data
            return f"**{int(exponent) if exponent.is_integer() else exponent}"
        return primitive.symbol

    def __repr__(self) -> str:
        if active and _is_traced(self):
            return "Value(data=<traced>)"
        return f"Value(data={self._data}, grad={self._grad})"

    def _repr_html_(self) -> str:
        """How notebooks show a Value."""
        if active and _is_traced(self):
            return html.escape(repr(self))
        cells = [("data", f"{self._data!r}"), ("grad", f"{self._grad!r}")]
        if self.label:
            cells.insert(0, ("label", self.label))
        if self._op:
            cells.append(("made by", f"{self._op} of {len(self._prev)} operand{'s' if len(self._prev) > 1 else ''}"))
        rows = "".join(f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in cells)
        return f"<table><caption>Value</caption>{rows}</table>"

    def __reduce__(self) -> Any:
        """A leaf pickles and copies as itself; any other node together with the graph below it, without recursion.

        Leaves that several pickled nodes share stay shared; intermediate nodes are shared within one node's graph.
        """
        if active and _is_traced(self):
            raise forbidden("copying or pickling a Value", "Use the Value itself.")
        if self._primitive is None or self._primitive is CONSTANT:
            return _restore_leaf, (type(self), self._data, self._grad, self.label, self._primitive is CONSTANT)
        return _restore_graph, (_flat_graph(self),)

    def __format__(self, spec: str) -> str:
        """`f"{value}"` is the repr; with a format specification, the number is formatted."""
        if not spec:
            return repr(self)
        if active:
            _guard(self, "formatting the number of a Value")
        return format(self._data, spec)

    def __float__(self) -> NoReturn:
        """An error: `math.exp(value)`, arrays of floats and `"%f" % value` ask for it, and would lose the gradient."""
        raise self._no_plain_number("a float", _NOT_A_FLOAT)

    def __int__(self, *digits: Any) -> Any:
        """An error, as `float(value)`; so are `round(value)`, `math.floor(value)` and the like."""
        raise self._no_plain_number("an int or a fraction", _NOT_AN_INTEGER)

    __round__ = __trunc__ = __floor__ = __ceil__ = as_integer_ratio = __int__

    def _no_plain_number(self, kind: str, remedy: str) -> Exception:
        if active and _is_traced(self):
            return forbidden(f"turning a Value into {kind}", remedy)
        return InputError(
            f"a Value does not turn into {kind} by itself, because its gradient would be lost: use flatgrad's "
            "functions (fg.exp, fg.maximum, ...) on the Value, or value.data for the number without its gradient"
            f"{user_line()}"
        )

    def __index__(self) -> NoReturn:
        if active and _is_traced(self):
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
        if isinstance(other, Value):
            if active and (_is_traced(self) or _is_traced(other)):
                raise forbidden("comparing Values with == or != (or `in`)", _EQUALITY)
            return True if self is other else NotImplemented
        if active and _is_traced(self) and (isinstance(other, Condition) or _is_number(other)):
            raise forbidden("comparing a Value with == or != (or `in`)", _EQUALITY)
        if _is_number(other):
            raise InputError(
                "a Value is never == to a number, because == compares nodes: use fg.equal(value, number), or "
                f"value.data == number{user_line()}"
            )
        return NotImplemented

    __hash__ = object.__hash__

    # --- operators: apply a row of the table; the two that models are made of are written out for speed -----------

    def apply(self, primitive: Primitive, operands: Sequence[Any]) -> Any:
        if active:
            trace = recorder()
            if trace is not None:
                return trace.record(primitive, operands)
        return apply_eagerly(primitive, operands)

    @overload
    def __add__(self, other: Scalar) -> Value: ...
    @overload
    def __add__(self, other: Array) -> Array: ...
    def __add__(self, other: Any) -> Any:
        if active:
            trace = recorder()
            if trace is not None:
                return NotImplemented if isinstance(other, np.ndarray) else trace.record(ADD, (self, other))
        if other.__class__ is not Value:
            if isinstance(other, np.ndarray):
                return NotImplemented
            other = as_value(other)
        out: Value = _new(Value)
        out._data = self._data + other._data
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
            trace = recorder()
            if trace is not None:
                return NotImplemented if isinstance(other, np.ndarray) else trace.record(MUL, (self, other))
        if other.__class__ is not Value:
            if isinstance(other, np.ndarray):
                return NotImplemented
            other = as_value(other)
        out: Value = _new(Value)
        out._data = self._data * other._data
        out._grad = 0.0
        out._bar = None
        out._primitive = MUL
        out._operands = (self, other)
        return out

    if not TYPE_CHECKING:
        __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Value:
        return self * -1.0

    if TYPE_CHECKING:  # what `Operand` does, and what the table of primitives attaches to it, with types

        def __pos__(self) -> Value: ...
        def __abs__(self) -> Value: ...
        @overload
        def __radd__(self, other: Scalar) -> Value: ...
        @overload
        def __radd__(self, other: Array) -> Array: ...
        def __radd__(self, other: Any) -> Any: ...
        @overload
        def __rmul__(self, other: Scalar) -> Value: ...
        @overload
        def __rmul__(self, other: Array) -> Array: ...
        def __rmul__(self, other: Any) -> Any: ...
        @overload
        def __sub__(self, other: Scalar) -> Value: ...
        @overload
        def __sub__(self, other: Array) -> Array: ...
        def __sub__(self, other: Any) -> Any: ...
        @overload
        def __rsub__(self, other: Scalar) -> Value: ...
        @overload
        def __rsub__(self, other: Array) -> Array: ...
        def __rsub__(self, other: Any) -> Any: ...
        @overload
        def __truediv__(self, other: Scalar) -> Value: ...
        @overload
        def __truediv__(self, other: Array) -> Array: ...
        def __truediv__(self, other: Any) -> Any: ...
        @overload
        def __rtruediv__(self, other: Scalar) -> Value: ...
        @overload
        def __rtruediv__(self, other: Array) -> Array: ...
        def __rtruediv__(self, other: Any) -> Any: ...
        @overload
        def __pow__(self, other: Scalar) -> Value: ...
        @overload
        def __pow__(self, other: Array) -> Array: ...
        def __pow__(self, other: Any) -> Any: ...
        @overload
        def __rpow__(self, other: Scalar) -> Value: ...
        @overload
        def __rpow__(self, other: Array) -> Array: ...
        def __rpow__(self, other: Any) -> Any: ...
        @overload
        def __lt__(self, other: Scalar) -> Condition: ...
        @overload
        def __lt__(self, other: Array) -> Array: ...
        def __lt__(self, other: Any) -> Any: ...
        @overload
        def __le__(self, other: Scalar) -> Condition: ...
        @overload
        def __le__(self, other: Array) -> Array: ...
        def __le__(self, other: Any) -> Any: ...
        @overload
        def __gt__(self, other: Scalar) -> Condition: ...
        @overload
        def __gt__(self, other: Array) -> Array: ...
        def __gt__(self, other: Any) -> Any: ...
        @overload
        def __ge__(self, other: Scalar) -> Condition: ...
        @overload
        def __ge__(self, other: Array) -> Array: ...
        def __ge__(self, other: Any) -> Any: ...
        def neg(self) -> Value: ...
        def relu(self) -> Value: ...
        def abs(self) -> Value: ...
        def exp(self) -> Value: ...
        def expm1(self) -> Value: ...
        def log(self) -> Value: ...
        def log1p(self) -> Value: ...
        def sqrt(self) -> Value: ...
        def tanh(self) -> Value: ...
        def sinh(self) -> Value: ...
        def cosh(self) -> Value: ...
        def sigmoid(self) -> Value: ...
        def softplus(self) -> Value: ...
        def sin(self) -> Value: ...
        def cos(self) -> Value: ...
        def tan(self) -> Value: ...
        def asin(self) -> Value: ...
        def arcsin(self) -> Value: ...
        def acos(self) -> Value: ...
        def arccos(self) -> Value: ...
        def atan(self) -> Value: ...
        def arctan(self) -> Value: ...
        def erf(self) -> Value: ...
        def erfc(self) -> Value: ...
        def detach(self) -> Value: ...
        def add(self, other: Scalar) -> Value: ...
        def mul(self, other: Scalar) -> Value: ...
        def sub(self, other: Scalar) -> Value: ...
        def power(self, other: Scalar) -> Value: ...
        def div(self, other: Scalar) -> Value: ...
        def maximum(self, other: Scalar) -> Value: ...
        def minimum(self, other: Scalar) -> Value: ...
        def hypot(self, other: Scalar) -> Value: ...
        def atan2(self, other: Scalar) -> Value: ...
        def arctan2(self, other: Scalar) -> Value: ...
        def less(self, other: Scalar) -> Condition: ...
        def less_equal(self, other: Scalar) -> Condition: ...
        def greater(self, other: Scalar) -> Condition: ...
        def greater_equal(self, other: Scalar) -> Condition: ...
        def equal(self, other: Scalar) -> Condition: ...

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


#: The roots of backward passes that have not come to their end: of one that runs, then of one that began in the middle
#: of it (in a signal handler), and so on; or of one that was interrupted so often that its marks are still there.
_unfinished: tuple[Value, ...] = ()


def backpropagate(roots: list[Value], seeds: list[float]) -> None:
    """Run one backward pass from `roots`, each seeded with a gradient; commit only when all of it has succeeded."""
    global _unfinished
    for root in roots:
        _ = root._bar  # raises, if it has escaped from a trace
    inside = _backward_lock._is_owned()  # type: ignore[attr-defined]
    with _backward_lock:
        before = _unfinished
        marks = take_marks(before) if before else []
        try:
            _unfinished = (*before, *roots)
            _sweep(roots, seeds)
        except BaseException:
            take_marks(_unfinished)
            if inside:
                _put_back(marks)
            _unfinished = before if inside else ()
            raise
        if inside:
            _put_back(marks)
        _unfinished = before if inside else ()


def _put_back(marks: list[tuple[Any, Any]]) -> None:
    for node, bar in marks:
        node._bar = bar


def _sweep(roots: list[Value], seeds: list[float]) -> None:
    """One backward pass; no node below the roots has a mark before it, or after it, unless it raises."""
    seeded = [(root, seed) for root, seed in zip(roots, seeds, strict=True) if root._bar is None]
    order, leaves = gradient_order(roots)
    for root, seed in seeded:
        root._bar = seed if root._bar is None else root._bar + seed
    for node in reversed(order):
        primitive = node._primitive
        if primitive is MUL:
            a, b = node._operands
            bar = node._bar
            a._bar += b._data * bar
            b._bar += a._data * bar
        elif primitive is ADD:
            a, b = node._operands
            bar = node._bar
            a._bar += bar
            b._bar += bar
        elif primitive.__class__ is Primitive:
            _propagate(primitive, node)
        else:
            primitive.propagate(node)
    # Each gradient is read when it is replaced: what a pass in the middle of this one added is in it.
    sums = map(operator.add, map(_grad_of, leaves), [leaf._bar for leaf in leaves])
    committed: list[bool] = []
    commit = step(setting(leaves, "_grad", sums), partial(committed.append, True))
    try:
        commit()
        _note(order)
    except BaseException:
        if committed:
            _note(order)
        raise
    for leaf in leaves:
        leaf._bar = None


_grad_of = operator.attrgetter("_grad")


def _note(order: list[Any]) -> None:
    """Let intermediate nodes have the gradients that they received, and take their marks away."""
    for node in order:
        bar = node._bar
        if bar is not None:
            node._grad = bar
            node._bar = None


def _propagate(primitive: Primitive, node: Value) -> None:
    """Add what each operand of `node` receives to its accumulator."""
    operands = node._operands
    numbers = [operand._data for operand in operands]
    out, bar = node._data, node._bar
    for k in primitive.differentiable:
        operand = operands[k]
        if operand._primitive is not CONSTANT:
            try:
                operand._bar += primitive.contribution(k, bar, out, numbers)
            except ARITHMETIC_ERRORS as error:
                if not _reaches_leaf(operand):
                    continue  # no gradient depends on it
                where = locate(getattr(node, "_site", None) or call_site(2))
                raise primitive.partial_error(error, k, numbers, where, bar) from None


def _reaches_leaf(node: Any) -> bool:
    """Whether a gradient that arrives at the node reaches any leaf."""
    seen = {id(node)}
    stack = [node]
    while stack:
        node = stack.pop()
        primitive = node._primitive
        if primitive is None:
            return True
        if primitive is CONSTANT:
            continue
        operands = node._operands
        if primitive.__class__ is Primitive:
            operands = [operands[k] for k in primitive.differentiable]
        for operand in operands:
            if id(operand) not in seen:
                seen.add(id(operand))
                stack.append(operand)
    return False


def apply_eagerly(primitive: Primitive, operands: Sequence[Any]) -> Any:
    """The node `primitive(*operands)`, computed now. Numbers among the operands become constants."""
    nodes = tuple(
        [
            as_condition(o) if kind == "b" else as_value(o)
            for o, kind in zip(operands, primitive.operand_kinds, strict=True)
        ]
    )
    site = call_site(2) if primitive.partial_raises else None
    try:
        data = primitive.evaluate(*[node._data for node in nodes])
    except ARITHMETIC_ERRORS as error:
        raise primitive.error(error, [node._data for node in nodes], locate(site)) from None
    if primitive.result == "b":
        return Condition._made(data, primitive, nodes)
    out: Value = _new(Value)
    out._data = data
    out._grad = 0.0
    out._primitive = primitive
    out._operands = nodes
    out._bar = None if primitive.differentiable else 0.0
    if site is not None:
        out._site = site
    return out


def _restore_leaf(kind: type[Value], data: float, grad: float, label: str, is_constant: bool) -> Value:
    value = constant(data) if is_constant else kind(data, label=label)
    value._grad = grad
    return value


def _restore_condition(data: bool) -> Condition:
    return Condition._made(data, CONSTANT, ())


def _flat_graph(root: Value) -> list[tuple[Any, ...]]:
    """The graph below a node as a list of leaves and of `(primitive, data, grad, label, places of operands)`."""
    records: list[tuple[Any, ...]] = []
    place: dict[int, int] = {}
    stack: list[Any] = [root]
    while stack:
        node = stack[-1]
        if id(node) in place:
            stack.pop()
            continue
        missing = [operand for operand in node._operands if id(operand) not in place]
        if missing:
            stack += reversed(missing)
            continue
        stack.pop()
        place[id(node)] = len(records)
        if not isinstance(node._primitive, Primitive):
            if node._operands:
                raise InputError("the result of a compiled function cannot be pickled or copied; copy its .data")
            records.append((node,))
        else:
            operands = [place[id(operand)] for operand in node._operands]
            label = node.label
            records.append((node._primitive, node._data, node._grad, label, operands))
    return records


def _restore_graph(records: list[tuple[Any, ...]]) -> Value:
    nodes: list[Any] = []
    for record in records:
        if len(record) == 1:
            nodes.append(record[0])
            continue
        primitive, data, grad, label, places = record
        operands = tuple(nodes[k] for k in places)
        node: Any
        if primitive.result == "b":
            node = Condition._made(data, primitive, operands)
        else:
            node = _new(Value)
            node._data, node._grad, node._primitive, node._operands = data, grad, primitive, operands
            node._bar = None if primitive.differentiable else 0.0
            if label:
                node._label = label
        nodes.append(node)
    return nodes[-1]  # type: ignore[no-any-return]


def constant(data: float) -> Value:
    """A node for a number: shown in drawings, never given a gradient."""
    value: Value = _new(Value)
    value._data, value._grad, value._bar = data, 0.0, 0.0
    value._primitive, value._operands = CONSTANT, ()
    return value


def as_value(operand: Any) -> Any:
    """`operand` if it is a node, else a constant made from the number.

    Raises:
        InputError: if it is neither.
    """
    if operand.__class__ is float:
        return constant(operand)
    if isinstance(operand, Value):
        return operand
    if isinstance(operand, Condition):
        raise InputError(f"a condition is not a number; use fg.where(condition, 1.0, 0.0){user_line()}")
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
    if isinstance(operand, (bool, np.bool_)):
        return Condition._made(operand, CONSTANT, ())
    what = "a Value" if isinstance(operand, Value) else f"{type(operand).__name__} {operand!r:.40}"
    raise InputError(f"expected a condition such as `value > 0`, got {what}{user_line()}")


def _as_float(data: Any) -> float:
    if data.__class__ is float:
        return data
    if isinstance(data, np.ndarray) and data.ndim:
        raise InputError(f"a Value is one scalar, got an array of shape {data.shape}; make one Value per element")
    return float(number(data))


def _is_traced(node: Any) -> bool:
    """Whether the node's number is not fixed in what this thread is tracing now."""
    return recorder() is not None and node._primitive is not CONSTANT


def _is_number(other: object) -> bool:
    """Whether the operators take it for a number; not so an array, which compares element by element."""
    if isinstance(other, (AbstractNumber, np.bool_)):
        return True
    kind = type(other)
    return hasattr(kind, "__float__") and not (
        isinstance(other, (Operand, np.generic, np.ndarray)) or hasattr(kind, "__len__")
    )


def _guard(node: Value, what: str) -> None:
    if _is_traced(node):
        raise forbidden(
            what,
            "Return the Value and read it from the result, select with fg.where(condition, a, b), compare with "
            "fg.equal(a, b), or use fg.detach(value) for the number without its gradient.",
        )


class Condition(Operand):
    """What a comparison of `Value`s yields: a truth value that `fg.where` can select by.

    Combine conditions with `&`, `|` and `~`. Outside a traced function `bool(condition)` is its truth value, and `==`
    compares truth values: with another condition, a bool, or a number.

    Example:
        >>> from flatgrad.runtime.primitives import where
        >>> x = Value(-2.0)
        >>> where(x < 0, -x, x).data
        2.0
    """

    __slots__ = ("_bar", "_data", "_grad", "_operands", "_primitive")

    _bar: float
    _data: bool
    _grad: float
    _operands: tuple[Any, ...]
    _primitive: Primitive | _Constant

    @classmethod
    def _made(cls, data: Any, primitive: Primitive | _Constant, operands: tuple[Any, ...]) -> Condition:
        condition: Condition = _new(cls)
        condition._data = bool(data)
        condition._bar = condition._grad = 0.0
        condition._primitive, condition._operands = primitive, operands
        return condition

    if TYPE_CHECKING:  # as those of `Value`

        def __and__(self, other: Condition | bool) -> Condition: ...
        def __or__(self, other: Condition | bool) -> Condition: ...
        def __rand__(self, other: bool) -> Condition: ...
        def __ror__(self, other: bool) -> Condition: ...
        def __invert__(self) -> Condition: ...
        def logical_and(self, other: Condition | bool) -> Condition: ...
        def logical_or(self, other: Condition | bool) -> Condition: ...
        def logical_not(self) -> Condition: ...
        def where(self, a: Scalar, b: Scalar) -> Value: ...

    def apply(self, primitive: Primitive, operands: Sequence[Any]) -> Any:
        trace = recorder() if active else None
        return trace.record(primitive, operands) if trace is not None else apply_eagerly(primitive, operands)

    @property
    def data(self) -> bool:
        if active and _is_traced(self):
            raise forbidden("reading .data of a condition", "Select with fg.where(condition, a, b).")
        return self._data

    @property
    def grad(self) -> float:
        return 0.0

    @property
    def label(self) -> str:
        return ""

    @property
    def _prev(self) -> tuple[Any, ...]:
        return self._operands

    @property
    def _op(self) -> str:
        return self._primitive.symbol

    def __reduce__(self) -> Any:
        if self._primitive is CONSTANT:
            return _restore_condition, (self._data,)
        return _restore_graph, (_flat_graph(self),)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        if active and _is_traced(self):
            raise forbidden(
                "using a comparison of Values to choose a branch (if, while, and, or, max, sorted)",
                "Select with fg.where(condition, a, b), or fg.maximum(a, b). (NumPy does it, too, when it compares an "
                "array: write fg.greater(array, x) for array > x, and so on.)",
            )
        return self._data

    def __eq__(self, other: object) -> Any:
        """Whether the truth values are equal.

        Raises:
            TraceError: while a function is being traced.
        """
        if not isinstance(other, Condition) and not _is_number(other):
            return NotImplemented
        if active and (_is_traced(self) or (isinstance(other, Condition) and _is_traced(other))):
            raise forbidden("comparing a condition with == or != (or `in`)", _CONDITIONS_EQUAL)
        return self._data == (other._data if isinstance(other, Condition) else other)

    def __hash__(self) -> int:
        if active and _is_traced(self):
            raise forbidden("using a condition as a key (of a dict, a set, functools.lru_cache)", _CONDITIONS_EQUAL)
        return hash(self._data)

    def __repr__(self) -> str:
        return "Condition(<traced>)" if active and _is_traced(self) else f"Condition({self._data})"


class TracedValue(Value):
    """A `Value` of a function that is being traced: a place in the program, without a number."""

    __slots__ = ("_index", "_trace")

    _index: int
    _trace: Any
    # The same for all, and so not kept by each.
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

    # In place of the slots that hold numbers: whoever reads or writes one is told.
    _data = _grad = _bar = property(_escaped, _escaped)

    def _no_graph(self) -> Any:
        if recorder() is None:
            self._escaped()
        raise refuse(
            "a function that is being traced has no graph yet: _prev, _op and drawings of its Values are not known. "
            "Look at the graph outside of it, or at the program, kernel.program"
        )

    _prev = _op = property(_no_graph)

    def __repr__(self) -> str:
        return "Value(data=<traced>)"


class TracedCondition(Condition):
    """A condition of a function that is being traced."""

    __slots__ = ("_index", "_trace")

    _index: int
    _trace: Any
    _primitive = None  # type: ignore[assignment]
    _operands = ()

    @property
    def _data(self) -> bool:  # type: ignore[override]
        raise refuse(
            "this condition was created while a function was being traced and has escaped from it", self._trace
        )

    _prev = _op = property(TracedValue._no_graph)

    def __repr__(self) -> str:
        return "Condition(<traced>)"
