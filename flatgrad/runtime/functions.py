"""The rows of the table as public functions, with the types that checkers see.

At run time these are the rows themselves. A row is declared here by what it takes and returns; a test compares the
declarations with the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

from . import primitives
from .methods import Array, Number
from .primitives import Primitive
from .value import Condition, Scalar, Value

#: What is taken element by element.
Elements: TypeAlias = "Array | list[Any] | tuple[Any, ...]"

if TYPE_CHECKING:
    Node = TypeVar("Node", Value, Condition)
    Plain = TypeVar("Plain")
    Result = TypeVar("Result", Value, Condition)
    PlainResult = TypeVar("PlainResult", float, bool)

    class Unary(Primitive, Generic[Node, Plain, PlainResult]):
        """A function of one operand: a node, a plain number or truth value, or many of them."""

        @overload
        def __call__(self, x: Node, /) -> Node: ...  # type: ignore[overload-overlap]  # a node is no plain number
        @overload
        def __call__(self, x: Plain, /) -> PlainResult: ...
        @overload
        def __call__(self, x: Elements, /) -> Array: ...
        def __call__(self, *operands: Any) -> Any: ...

    class Binary(Primitive, Generic[Node, Plain, Result, PlainResult]):
        """A function of two operands: a node if one of them is one."""

        @overload
        def __call__(self, a: Node, b: Node | Plain, /) -> Result: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(self, a: Plain, b: Node, /) -> Result: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(self, a: Plain, b: Plain, /) -> PlainResult: ...
        @overload
        def __call__(self, a: Elements, b: Node | Plain | Elements, /) -> Array: ...
        @overload
        def __call__(self, a: Node | Plain, b: Elements, /) -> Array: ...
        def __call__(self, *operands: Any) -> Any: ...

    OfOne: TypeAlias = Unary[Value, Number, float]
    OfTwo: TypeAlias = Binary[Value, Number, Value, float]
    Comparison: TypeAlias = Binary[Value, Number, Condition, bool]
    OfOneCondition: TypeAlias = Unary[Condition, bool, bool]
    OfTwoConditions: TypeAlias = Binary[Condition, bool, Condition, bool]

    class Selection(Primitive):
        """A selection of one of two numbers by a condition: `bff->f`."""

        @overload
        def __call__(self, condition: Condition, a: Scalar, b: Scalar, /) -> Value: ...
        @overload
        def __call__(self, condition: bool, a: Value, b: Scalar, /) -> Value: ...
        @overload
        def __call__(self, condition: bool, a: Number, b: Value, /) -> Value: ...
        @overload
        def __call__(self, condition: bool, a: Number, b: Number, /) -> float: ...
        @overload
        def __call__(self, condition: Elements, a: Scalar | Elements, b: Scalar | Elements, /) -> Array: ...
        @overload
        def __call__(self, condition: Condition | bool, a: Elements, b: Scalar | Elements, /) -> Array: ...
        @overload
        def __call__(self, condition: Condition | bool, a: Scalar, b: Elements, /) -> Array: ...
        def __call__(self, *operands: Any) -> Any: ...

    neg: OfOne
    relu: OfOne
    abs: OfOne
    exp: OfOne
    expm1: OfOne
    log: OfOne
    log1p: OfOne
    sqrt: OfOne
    tanh: OfOne
    sinh: OfOne
    cosh: OfOne
    sigmoid: OfOne
    softplus: OfOne
    sin: OfOne
    cos: OfOne
    tan: OfOne
    asin: OfOne
    acos: OfOne
    atan: OfOne
    asinh: OfOne
    acosh: OfOne
    atanh: OfOne
    erf: OfOne
    erfc: OfOne
    detach: OfOne
    gamma: OfOne
    lgamma: OfOne
    digamma: OfOne
    trigamma: OfOne
    ndtr: OfOne
    log_ndtr: OfOne
    ndtri: OfOne
    j0: OfOne
    j1: OfOne
    exp2: OfOne
    log2: OfOne
    log10: OfOne
    cbrt: OfOne
    floor: OfOne
    ceil: OfOne
    trunc: OfOne
    rint: OfOne
    sign: OfOne
    add: OfTwo
    mul: OfTwo
    sub: OfTwo
    power: OfTwo
    div: OfTwo
    maximum: OfTwo
    minimum: OfTwo
    hypot: OfTwo
    atan2: OfTwo
    copysign: OfTwo
    mod: OfTwo
    floordiv: OfTwo
    fmod: OfTwo
    logaddexp: OfTwo
    xlogy: OfTwo
    less: Comparison
    less_equal: Comparison
    greater: Comparison
    greater_equal: Comparison
    equal: Comparison
    logical_and: OfTwoConditions
    logical_or: OfTwoConditions
    logical_not: OfOneCondition
    where: Selection
else:
    globals().update(primitives.BY_NAME)

#: All but `abs`: `import *` hides no builtin.
__all__ = [
    "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "copysign", "cos", "cosh",
    "detach", "digamma", "div", "equal", "erf", "erfc", "exp", "exp2", "expm1", "floor", "floordiv", "fmod",
    "gamma", "greater", "greater_equal", "hypot", "j0", "j1", "less", "less_equal", "lgamma", "log", "log1p",
    "log2", "log10", "log_ndtr", "logaddexp", "logical_and", "logical_not", "logical_or", "maximum", "minimum",
    "mod", "mul", "ndtr", "ndtri", "neg", "power", "relu", "rint", "sigmoid", "sign", "sin", "sinh", "softplus",
    "sqrt", "sub", "tan", "tanh", "trigamma", "trunc", "where", "xlogy",
]  # fmt: skip
