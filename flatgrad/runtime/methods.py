"""The operators and methods of nodes, declared for type checkers and editors.

At run time `Operand` has the operators, and the table of primitives attaches the methods to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

import numpy as np

from .primitives import Operand

#: A plain number, and an array, beside a `Value` in arithmetic.
Number: TypeAlias = "float | np.floating[Any] | np.integer[Any]"
Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

#: `Value` and `Condition`, which are defined behind this file.
V = TypeVar("V", bound=Operand)
C = TypeVar("C", bound=Operand)
R = TypeVar("R", bound=Operand)


if TYPE_CHECKING:

    class Operator(Generic[V, R]):
        """An operator with a number, or with each element of an array."""

        @overload
        def __call__(self, other: V | Number) -> R: ...
        @overload
        def __call__(self, other: Array) -> Array: ...
        def __call__(self, other: Any) -> Any: ...


class ValueMethods(Operand, Generic[V, C]):
    """What can be written with a `Value`. One declaration stands for all operations of the same type."""

    __slots__ = ()

    if TYPE_CHECKING:
        __radd__: Operator[V, V]
        __rmul__: Operator[V, V]
        __sub__: Operator[V, V]
        __rsub__: Operator[V, V]
        __truediv__: Operator[V, V]
        __rtruediv__: Operator[V, V]
        __pow__: Operator[V, V]
        __rpow__: Operator[V, V]
        __mod__: Operator[V, V]
        __rmod__: Operator[V, V]
        __floordiv__: Operator[V, V]
        __rfloordiv__: Operator[V, V]
        __lt__: Operator[V, C]
        __le__: Operator[V, C]
        __gt__: Operator[V, C]
        __ge__: Operator[V, C]

        def __divmod__(self, other: V | Number) -> tuple[V, V]: ...
        def __rdivmod__(self, other: Number) -> tuple[V, V]: ...
        def __floor__(self) -> V: ...
        def __ceil__(self) -> V: ...
        def __trunc__(self) -> V: ...
        def __round__(self, digits: int | None = None) -> V: ...
        def __pos__(self) -> V: ...
        def __abs__(self) -> V: ...
        def neg(self) -> V: ...

        relu = abs = exp = expm1 = log = log1p = sqrt = tanh = sinh = cosh = sigmoid = softplus = neg
        sin = cos = tan = asin = arcsin = acos = arccos = atan = arctan = erf = erfc = detach = neg
        asinh = arcsinh = acosh = arccosh = atanh = arctanh = exp2 = log2 = log10 = cbrt = neg
        floor = ceil = trunc = rint = sign = neg
        gamma = lgamma = digamma = trigamma = ndtr = log_ndtr = ndtri = j0 = j1 = neg

        def add(self, b: V | Number, /) -> V: ...

        mul = sub = power = div = maximum = minimum = hypot = atan2 = arctan2 = add
        copysign = mod = floordiv = fmod = logaddexp = xlogy = add

        def less(self, b: V | Number, /) -> C: ...

        less_equal = greater = greater_equal = equal = less


class ConditionMethods(Operand, Generic[V, C]):
    """What can be written with a `Condition`."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __and__(self, other: C | bool) -> C: ...
        def __rand__(self, other: bool) -> C: ...
        def __invert__(self) -> C: ...

        __or__, __ror__ = __and__, __rand__
        logical_and = logical_or = __and__
        logical_not = __invert__

        def where(self, a: V | Number, b: V | Number, /) -> V: ...
