"""Complex numbers of `Value`s: pairs of a real and an imaginary part, each a `Value` or a float.

What an operation does to the parts stands here, in rows of the table of primitives; so programs and kernels know real
numbers only. The order of operations is CPython's: that of `complex` for `*`, `/` and `**`, and that of `cmath`. A real
operand has no imaginary part (Python 3.14 and C have it so, too): `2.0 * z` multiplies both parts by 2.0.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from . import primitives as p
from .errors import InputError
from .foreign import Pair
from .primitive import Applicable, Primitive
from .primitives import (
    add,
    atan2,
    copysign,
    cos,
    cosh,
    div,
    equal,
    exp,
    hypot,
    log,
    mul,
    number,
    power,
    sin,
    sinh,
    sqrt,
    where,
)
from .sites import user_line
from .tracing import recorder, refuse
from .value import Value


class Complex(Pair, Applicable):
    """A complex number of `Value`s: what `fg.complex(re, im)` gives, and `1j * x`.

    Attributes:
        real, imag: its parts, `Value`s or floats.
    """

    __slots__ = ("imag", "real")

    real: Any
    imag: Any

    def __init__(self, real: Any, imag: Any) -> None:
        self.real, self.imag = real, imag

    @classmethod
    def of(cls, number: Any) -> Complex:
        if isinstance(number, cls):
            return number
        if isinstance(number, builtins.complex):
            return cls(number.real, number.imag)
        return cls(number, 0.0)

    def apply(self, primitive: Primitive, operands: Sequence[Any]) -> Any:
        how = _OPERATIONS.get(primitive)
        if how is None:
            raise InputError(
                f"{primitive.name} is not defined for complex numbers here; compute with their parts, z.real and z.imag"
                f"{user_line()}"
            )
        return how(*operands)

    def __add__(self, other: Any) -> Any:
        return _applied(add, self, other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        return _applied(mul, self, other)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Any:
        return _applied(add, self, other if isinstance(other, np.ndarray) else -other)

    def __rsub__(self, other: Any) -> Any:
        return _applied(add, -self, other)

    def __truediv__(self, other: Any) -> Any:
        return _applied(div, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _applied(div, other, self)

    def __pow__(self, other: Any) -> Any:
        return _applied(power, self, other)

    def __rpow__(self, other: Any) -> Any:
        return _applied(power, other, self)

    def __neg__(self) -> Complex:
        return Complex(-self.real, -self.imag)

    def __pos__(self) -> Complex:
        return self

    def __abs__(self) -> Any:
        return _absolute(self)

    def conjugate(self) -> Complex:
        """The number with the opposite imaginary part."""
        return Complex(self.real, -self.imag)

    conj = conjugate

    def phase(self) -> Any:
        """The angle, `fg.atan2(z.imag, z.real)`."""
        return atan2(self.imag, self.real)

    def __eq__(self, other: object) -> Any:
        raise InputError(f"complex numbers of Values are not compared; compare their parts by fg.equal{user_line()}")

    __hash__: Callable[..., int] = object.__hash__

    def _no_number(self, *_: Any) -> Any:
        raise InputError(
            f"a complex number of Values does not turn into a plain one; take z.real, z.imag or abs(z){user_line()}"
        )

    __complex__ = _no_number
    __float__ = _no_number
    __int__ = _no_number
    __bool__ = _no_number
    __lt__ = _no_number
    __le__ = _no_number
    __gt__ = _no_number
    __ge__ = _no_number

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """An error, also for a list with the number: of an array of objects NumPy takes imaginary parts for zero."""
        message = "NumPy makes an array of Python objects of complex numbers of Values; write fg.array([...])"
        raise refuse(message) if recorder() is not None else InputError(f"{message}{user_line()}")

    def __repr__(self) -> str:
        return f"Complex({self.real!r}, {self.imag!r})"


def complex(real: Any, imag: Any = 0.0) -> Complex:
    """A complex number of its real and its imaginary part.

    `1j * x` and `x + 2j` make one, too. It has `+ - * / **`, `abs(z)`, `z.real`, `z.imag`, `z.conjugate()`, `z.phase()`
    and flatgrad's and NumPy's `exp`, `log`, `sqrt`, `sin`, `cos`, `sinh`, `cosh`, `tanh` and `where`. Arguments and
    results of functions are real: return `abs(z)`, or `[z.real, z.imag]`.

    Args:
        real, imag: `Value`s or numbers.

    Raises:
        InputError: for a part that is not a real number.

    Example:
        >>> import flatgrad as fg
        >>> f = fg.value_and_grad(lambda r: abs(r + 1 / (1j * 0.5) + 2j) ** 2)
        >>> f(3.0)
        (9.0, 6.0)
        >>> fg.grad(lambda t: fg.exp(fg.complex(0.0, t)).real)(0.5) == -fg.sin(0.5)
        True
    """
    return Complex(*[part if isinstance(part, Value) else float(number(part)) for part in (real, imag)])


def polar(length: Any, angle: Any) -> Complex:
    """The complex number with this absolute value and this angle.

    Example:
        >>> polar(2.0, 0.0)
        Complex(2.0, 0.0)
    """
    return Complex(mul(length, cos(angle)), mul(length, sin(angle)))


def _applied(row: Primitive, a: Any, b: Any) -> Any:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return NotImplemented
    return _OPERATIONS[row](a, b)


def _is_real(number: Any) -> bool:
    return not isinstance(number, (Pair, builtins.complex))


def _sum(a: Any, b: Any) -> Complex:
    if _is_real(b):
        return Complex(a.real + b, a.imag)
    if _is_real(a):
        return Complex(a + b.real, b.imag)
    return Complex(a.real + b.real, a.imag + b.imag)


def _product(a: Any, b: Any) -> Complex:
    if _is_real(b):
        return Complex(a.real * b, a.imag * b)
    if _is_real(a):
        return Complex(a * b.real, a * b.imag)
    return Complex(a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real)


def _quotient(a: Any, b: Any) -> Complex:
    """Smith's algorithm, as CPython has it: divide by the larger part of the divisor."""
    if _is_real(b):
        return Complex(div(a.real, b), div(a.imag, b))
    a = Complex.of(a)
    wide = p.greater_equal(p.abs(b.real), p.abs(b.imag))
    large, small = where(wide, b.real, b.imag), where(wide, b.imag, b.real)
    first, second = where(wide, a.real, a.imag), where(wide, a.imag, a.real)
    ratio = div(small, large)
    whole = large + small * ratio
    other = second - first * ratio
    return Complex(div(first + second * ratio, whole), div(where(wide, other, -other), whole))


def _power(base: Any, exponent: Any) -> Any:
    """By squaring for whole exponents up to 100, else by lengths and angles, as CPython has it."""
    if _is_real(exponent) and not isinstance(exponent, Applicable):
        whole = float(exponent)
        if whole.is_integer() and abs(whole) <= 100.0:
            return _whole_power(Complex.of(base), int(whole))
    a, b = Complex.of(base), Complex.of(exponent)
    size, angle = _absolute(a), a.phase()
    length, phase = power(size, b.real), angle * b.real
    if not _is_real(exponent):
        length, phase = div(length, exp(angle * b.imag)), phase + b.imag * log(size)
    return polar(length, phase)


def _whole_power(base: Complex, exponent: int) -> Complex:
    result, factor, rest = None, base, abs(exponent)
    while rest:
        if rest & 1:
            result = factor if result is None else _product(result, factor)
        rest >>= 1
        if rest:
            factor = _product(factor, factor)
    if result is None:
        return Complex(1.0, 0.0)
    return _quotient(Complex(1.0, 0.0), result) if exponent < 0 else result


def _absolute(z: Any) -> Any:
    """`hypot` of the parts, but its gradient at 0 is 0."""
    zero = p.logical_and(equal(z.real, 0.0), equal(z.imag, 0.0))
    return where(zero, 0.0, hypot(where(zero, 1.0, z.real), z.imag))


def _exp(z: Any) -> Complex:
    return polar(exp(z.real), z.imag)


def _log(z: Any) -> Complex:
    return Complex(log(hypot(z.real, z.imag)), atan2(z.imag, z.real))


def _sqrt(z: Any) -> Complex:
    """With half of the length and of the real part, so that nothing cancels; 0 at 0, where it has no gradient."""
    zero = p.logical_and(equal(z.real, 0.0), equal(z.imag, 0.0))
    x, y = p.abs(where(zero, 1.0, z.real)) * 0.125, p.abs(z.imag)
    large = 2.0 * sqrt(x + hypot(x, y * 0.125))
    small = div(y, 2.0 * large)
    right = p.greater_equal(z.real, 0.0)
    real, imag = where(right, large, small), where(right, small, large)
    return Complex(where(zero, 0.0, real), copysign(imag, z.imag))


def _sin(z: Any) -> Complex:
    return Complex(sin(z.real) * cosh(z.imag), cos(z.real) * sinh(z.imag))


def _cos(z: Any) -> Complex:
    return Complex(cos(z.real) * cosh(z.imag), -(sin(z.real) * sinh(z.imag)))


def _sinh(z: Any) -> Complex:
    return Complex(cos(z.imag) * sinh(z.real), sin(z.imag) * cosh(z.real))


def _cosh(z: Any) -> Complex:
    return Complex(cos(z.imag) * cosh(z.real), sin(z.imag) * sinh(z.real))


def _tanh(z: Any) -> Complex:
    """As `cmath`: products of hyperbolic sines and cosines would cancel, and overflow beyond 710."""
    x, y = z.real, z.imag
    large = p.greater(p.abs(x), _LARGE)
    near = where(large, 0.0, x)
    a, b, c = p.tanh(near), p.tan(y), div(1.0, cosh(near))
    below = 1.0 + (a * b) * (a * b)
    real, imag = div(a * (1.0 + b * b), below), div(b, below) * c * c
    far = 4.0 * sin(y) * cos(y) * exp(-2.0 * p.abs(x))
    return Complex(where(large, copysign(1.0, x), real), where(large, far, imag))


def _tan(z: Any) -> Complex:
    turned = _tanh(Complex(-z.imag, z.real))
    return Complex(turned.imag, -turned.real)


def _parts(z: Complex) -> tuple[Any, Any]:
    return z.real, z.imag


def _equal(a: Any, b: Any) -> Any:
    """The condition that both parts are equal."""
    a, b = Complex.of(a), Complex.of(b)
    return p.logical_and(equal(a.real, b.real), equal(a.imag, b.imag))


def _sign(z: Any) -> Complex:
    """The number of length 1 in the same direction, as in NumPy 2; 0 at 0."""
    size = _absolute(z)
    zero = equal(size, 0.0)
    divisor = where(zero, 1.0, size)
    return Complex(*[where(zero, 0.0, div(part, divisor)) for part in _parts(z)])


def _of_parts(row: Primitive) -> Callable[..., Any]:
    return lambda z: Complex(*map(row, _parts(z)))


#: Beyond this number the real part of `tanh` is 1.0 or -1.0; `cosh` overflows a little later.
_LARGE: Final = 708.0

#: What a row does to complex numbers, of which at least one is among its operands.
_OPERATIONS: Final[dict[Primitive, Callable[..., Any]]] = {
    add: _sum, mul: _product, div: _quotient, power: _power, exp: _exp, log: _log, sqrt: _sqrt, p.sin: _sin,
    p.cos: _cos, sinh: _sinh, cosh: _cosh, p.abs: _absolute, p.neg: lambda z: -Complex.of(z),
    p.sub: lambda a, b: _sum(a, -b),
    p.tanh: _tanh, p.tan: _tan,
    p.expm1: lambda z: _sum(_exp(z), -1.0),
    p.log1p: lambda z: _log(_sum(z, 1.0)),
    p.log2: lambda z: _product(_log(z), 1.0 / math.log(2.0)),
    p.log10: lambda z: _product(_log(z), 1.0 / math.log(10.0)),
    p.exp2: lambda z: _exp(_product(z, math.log(2.0))),
    equal: _equal,
    p.sign: _sign,
    p.rint: _of_parts(p.rint),
    where: lambda c, a, b: Complex(*[
        where(c, x, y) for x, y in zip(_parts(Complex.of(a)), _parts(Complex.of(b)), strict=True)
    ]),
    p.detach: lambda z: Complex(p.detach(z.real), p.detach(z.imag)),
}  # fmt: skip


# --- discrete Fourier transforms --------------------------------------------------------------------------------------


def root_of_unity(k: int, n: int) -> builtins.complex:
    """exp(-2j * pi * k / n); exact where a part of it is 0."""
    k %= n
    if 4 * k % n == 0:
        return (1.0 + 0.0j, -1.0j, -1.0 + 0.0j, 1.0j)[4 * k // n]
    angle = 2.0 * math.pi * k / n
    return builtins.complex(math.cos(angle), -math.sin(angle))


def _turned(z: Any, root: builtins.complex) -> Any:
    """A number times a root of unity."""
    if root == 1.0:
        return z
    if root == -1.0:
        return -z
    if root.real == 0.0:
        real, imag = (z, 0.0) if _is_real(z) else (z.real, z.imag)
        return Complex(imag, -real) if root.imag < 0.0 else Complex(-imag, real)
    return _product(z, root)


def fourier(items: Sequence[Any], inverse: bool = False) -> list[Any]:
    """The discrete Fourier transform of numbers, without a factor.

    An even number of terms is halved (Cooley and Tukey's algorithm for terms at even and at odd places); an odd number
    is summed up by the definition, from left to right.
    """
    n = len(items)
    roots = [root_of_unity(-k if inverse else k, n) for k in range(n)]
    if n % 2 or not n:
        results = []
        for k in range(n):
            terms = [_turned(z, roots[j * k % n]) for j, z in enumerate(items)]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            results.append(total)
        return results
    even, odd = fourier(items[::2], inverse), fourier(items[1::2], inverse)
    odd = [_turned(z, root) for z, root in zip(odd, roots, strict=False)]
    return [a + b for a, b in zip(even, odd, strict=True)] + [a - b for a, b in zip(even, odd, strict=True)]
