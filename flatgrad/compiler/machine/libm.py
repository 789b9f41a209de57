"""Functions of `math` for whole vectors, with the bits of the libm that CPython calls.

`tanh` and `log1p` of FDLIBM (Sun Microsystems, 1993: `s_tanh.c`, `s_expm1.c`, `s_log1p.c`), which glibc has with
polynomials in another order, are one or two units of the last place off. So only the same operations in the same order
have their bits. They are written here, with selections in place of branches. `variants.py` finds out whether libm
computes them so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .text import Value, type_of
from .writer import Instructions

#: A number that is added to this one is rounded to an integer, which the last bits of the sum are.
SHIFT = 1.5 * 2.0**52
#: The first 32 bits of log(2), so that multiples of it are exact, what is left, and the reciprocal.
LOG_2, LOG_2_REST = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
_PER_LOG_2 = float.fromhex("0x1.71547652b82fep+0")
#: `expm1` takes arguments below this number, a little more than log(2) / 2, as they are.
REDUCED = float.fromhex("0x1.62e43p-2")
#: The coefficients of the polynomial in `expm1`, behind the first one, which is 1.
_COEFFICIENTS = tuple(map(float.fromhex, (
    "-0x1.11111111110f4p-5", "0x1.a01a019fe5585p-10", "-0x1.4ce199eaadbb7p-14", "0x1.0cfca86e65239p-18",
    "-0x1.afdb76e09c32dp-23",
)))  # fmt: skip
#: From this number on `tanh` is 1.0.
ONE = 22.0

#: The coefficients of the polynomial in `log1p`, and between which numbers it takes its argument as it is.
_LOG1P = tuple(map(float.fromhex, (
    "0x1.5555555555593p-1", "0x1.999999997fa04p-2", "0x1.2492494229359p-2", "0x1.c71c51d8e78afp-3",
    "0x1.7466496cb03dep-3", "0x1.39a09d078c69fp-3", "0x1.2f112df3e5244p-3",
)))  # fmt: skip
INNER = float.fromhex("-0x1.2bec4p-2"), float.fromhex("0x1.a827ap-2")
#: The bits of the root of 1/2; the first 42 bits of log(2), and what is left.
_ROOT = 0x3FE6A09E667F3BCD
_LOG_2_HIGH, _LOG_2_LOW = float.fromhex("0x1.62e42fefa38p-1"), float.fromhex("0x1.ef35793c7673p-45")


def tanh(w: Instructions, x: Value, fused: bool) -> Value:
    """The hyperbolic tangent of a vector, in the operations of FDLIBM; `fused` where products are contracted.

    With t = expm1(2|x|) it is 1 - 2 / (t + 2) from 1 on; below 1 it is -t / (t + 2) with t = expm1(-2|x|).
    """
    constant, binary, select, compare = w.constant, w.binary, w.select, w.compare
    add, sub, mul, fma = _arithmetic(w, fused)
    one, zero = constant(1.0), constant(0.0)
    size = w.intrinsic("fabs", x)
    size = select(compare("olt", constant(ONE), size), constant(ONE), size)
    large, double = compare("oge", size, one), add(size, size)
    # The argument of `expm1` is k * log(2) + r + c with an integer k and |r| < 0.35; n = |k|.
    argument = select(large, double, w.unary("fneg", double))
    count = fma(double, constant(_PER_LOG_2), constant(0.5))
    rounded = sub(add(count, constant(SHIFT)), constant(SHIFT))
    n = select(compare("ogt", rounded, count), sub(rounded, one), rounded)
    n = select(compare("olt", double, constant(REDUCED)), zero, n)
    k = select(large, n, w.unary("fneg", n))
    high, low = fma(w.unary("fneg", k), constant(LOG_2), argument), mul(k, constant(LOG_2_REST))
    r = sub(high, low)
    c = sub(sub(high, r), low)
    # expm1(r + c) = r - e
    half = mul(constant(0.5), r)
    square = mul(r, half)
    q1, q2, q3, q4, q5 = map(constant, _COEFFICIENTS)
    fourth = mul(square, square)
    polynomial = fma(fourth, fma(square, q3, q2), fma(square, q1, one))
    polynomial = fma(mul(fourth, fourth), fma(square, q5, q4), polynomial)
    t = fma(w.unary("fneg", polynomial), half, constant(3.0))
    quotient = binary("fdiv", sub(polynomial, t), fma(w.unary("fneg", r), t, constant(6.0)))
    e = mul(square, quotient)
    whole = fma(r, e, w.unary("fneg", square))  # if k = 0, and c as well
    e = select(compare("oeq", n, zero), whole, sub(fma(r, sub(e, c), w.unary("fneg", c)), square))
    # expm1(argument) = power * a + b; the product is exact
    power, inverse = _powers_of_two(w, k)
    rest = sub(e, r)
    few = compare("olt", n, constant(2.0))
    a = sub(select(large, sub(one, inverse), select(few, zero, one)), rest)
    a = select(compare("oge", k, constant(20.0)), add(sub(r, add(e, inverse)), one), a)
    b = select(large, zero, select(few, sub(power, one), constant(-1.0)))
    t = fma(power, a, b)
    quotient = binary("fdiv", select(large, constant(2.0), w.unary("fneg", t)), add(t, constant(2.0)))
    return w.intrinsic("copysign", select(large, sub(one, quotient), quotient), x)


def log(w: Instructions, x: Value) -> Value:
    """libm's logarithm of a vector, mostly without calling it; it needs fused operations.

    glibc's `log` is within 0.507 units of the last place where it has a polynomial of its own, from 15/16 to 1.0647;
    elsewhere, before the last rounding, within 0.019 * 2**-56 (both are stated in its source,
    sysdeps/ieee754/dbl-64/e_log.c; the second one as 0.019 units of a result of 1/16). Here the logarithm is computed
    as a double and its error. Where adding the error plus or minus these bounds, and what the error itself may be off,
    does not change the double, all other doubles are too far from the true logarithm to be libm's. Elsewhere `log` is
    called, and for numbers that are not normal and positive.

    x is 2**k * m with m between the roots of 1/2 and 2, and log(m) is 2 * atanh(s) with s = (m - 1) / (m + 1), which is
    less than 0.172: 2 * s + s**3 * (2/3 + 2/5 * s**2 + ...). The first term is known with its error, as is its sum with
    k * log(2). Eight roundings, half of them in sums of its size, concern the second one; the term that is left out is
    2**-59 of it.
    """
    constant, binary, compare, fma = w.constant, w.binary, w.compare, w.fma
    k, m = _split(w, x, _ROOT)
    top, bottom = binary("fsub", m, constant(1.0)), binary("fadd", m, constant(1.0))
    bottom_rest = binary("fsub", m, binary("fsub", bottom, constant(1.0)))
    reciprocal = binary("fdiv", constant(1.0), bottom)
    s = binary("fmul", top, reciprocal)
    minus = w.unary("fneg", s)
    s_rest = binary("fmul", fma(minus, bottom_rest, fma(minus, bottom, top)), reciprocal)
    square = binary("fmul", s, s)
    series = constant(2.0 / 23.0)
    for n in range(21, 1, -2):
        series = fma(series, square, constant(2.0 / n))
    cubic = binary("fmul", binary("fmul", s, square), series)
    rest = fma(fma(s_rest, square, s_rest), constant(2.0), cubic)
    small = fma(k, constant(_LOG_2_LOW), rest)
    big, double = binary("fmul", k, constant(_LOG_2_HIGH)), binary("fadd", s, s)
    high = binary("fadd", big, double)
    low = binary("fadd", binary("fadd", binary("fsub", big, high), double), small)
    result = binary("fadd", high, low)
    error = binary("fadd", binary("fsub", high, result), low)
    near = w.both(compare("oge", x, constant(0.9375)), compare("olt", x, constant(1.0647)))
    bound = binary("fmul", w.intrinsic("fabs", result), constant(0.0075 * 2.0**-52))
    bound = w.select(near, bound, constant(0.0195 * 2.0**-56))
    bound = fma(w.intrinsic("fabs", cubic), constant(8.0 * 2.0**-53), bound)
    certain = w.both(compare("oge", x, constant(2.0**-1022)), compare("olt", x, constant(math.inf)))
    for operation in ("fadd", "fsub"):
        changed = binary("fadd", result, binary(operation, error, bound))
        certain = w.both(certain, compare("oeq", changed, result))
    return w.repaired(result, w.invert(certain), x, lambda one: w.libm("log", one))


def log1p(w: Instructions, x: Value, fused: bool) -> Value:
    """The logarithm of 1 + x of a vector, in the operations of FDLIBM; `fused` where products are contracted.

    1 + x is 2**k * (1 + f) * (1 + c), where c is what rounding the sum takes away, and log(1 + f) = f - f**2 / 2 + s *
    (f**2 / 2 + R) with s = f / (2 + f) and a polynomial R. If f is tiny, so is the last term, and a shorter one stands
    for it. Numbers around zero are f themselves.
    """
    constant, select, compare = w.constant, w.select, w.compare
    add, sub, mul, fma = _arithmetic(w, fused)
    one, zero, infinity = constant(1.0), constant(0.0), constant(math.inf)
    large = compare("oge", x, constant(2.0**53))
    inner = w.both(compare("olt", x, constant(INNER[1])), compare("ogt", x, constant(INNER[0])))
    u = select(large, x, add(one, x))
    c = select(compare("oge", u, constant(2.0)), sub(one, sub(u, x)), sub(x, sub(u, one)))
    k, m = _split(w, u, _ROOT & -(1 << 32))
    k, f = select(inner, zero, k), select(inner, x, sub(m, one))
    c = select(w.either(large, compare("oeq", k, zero)), zero, w.binary("fdiv", c, u))
    half = mul(mul(constant(0.5), f), f)
    s = w.binary("fdiv", f, add(constant(2.0), f))
    z = mul(s, s)
    p1, p2, p3, p4, p5, p6, p7 = map(constant, _LOG1P)
    z2 = mul(z, z)
    z4 = mul(z2, z2)
    polynomial = fma(z, p1, mul(z2, fma(z, p3, p2)))
    polynomial = fma(z4, fma(z, p5, p4), polynomial)
    polynomial = fma(mul(z4, z2), fma(z, p7, p6), polynomial)
    rest = fma(k, constant(LOG_2_REST), c)
    short = sub(mul(half, fma(w.unary("fneg", f), constant(2.0 / 3.0), one)), rest)
    long = sub(half, add(mul(s, add(half, polynomial)), rest))
    short_is_enough = w.both(compare("olt", f, constant(2.0**-20)), compare("oge", f, constant(-1.5 * 2.0**-20)))
    short_is_enough = w.both(short_is_enough, w.invert(inner))
    result = sub(mul(k, constant(LOG_2)), sub(select(short_is_enough, short, long), f))
    tiny = compare("olt", w.intrinsic("fabs", x), constant(2.0**-29))
    result = select(tiny, sub(x, mul(mul(x, x), constant(0.5))), result)
    result = select(compare("olt", x, infinity), result, x)
    end = select(compare("oeq", x, constant(-1.0)), constant(-math.inf), constant(math.nan))
    return select(compare("ogt", x, constant(-1.0)), result, end)


_Operation = Callable[..., Value]


def _arithmetic(w: Instructions, fused: bool) -> tuple[_Operation, _Operation, _Operation, _Operation]:
    """Sums, differences, products, and sums a * b + c, with one rounding if products are contracted."""

    def add(a: Value, b: Value) -> Value:
        return w.binary("fadd", a, b)

    def sub(a: Value, b: Value) -> Value:
        return w.binary("fsub", a, b)

    def mul(a: Value, b: Value) -> Value:
        return w.binary("fmul", a, b)

    def fma(a: Value, b: Value, c: Value) -> Value:
        return w.fma(a, b, c) if fused else add(mul(a, b), c)

    return add, sub, mul, fma


def _split(w: Instructions, x: Value, root: int) -> tuple[Value, Value]:
    """The integer k and the number m with x = 2**k * m, for a vector of normal positive numbers.

    m is at least the number that has these bits, about the root of 1/2, and less than twice that.
    """
    let, wide, kind = w.function.let, f"<{x.lanes} x i64>", type_of("f", x.lanes)

    def whole(number: int) -> str:
        return w.splat(Value(str(number)), "i", x.lanes)

    def numbers(bits: str) -> Value:
        return Value(let(f"bitcast {wide} {bits} to {kind}"), x.lanes)

    bits = let(f"bitcast {kind} {x.name} to {wide}")
    above = let(f"add {wide} {bits}, {whole((1024 << 52) - root)}")  # 1024 + k, in front of the rest
    biased = let(f"lshr {wide} {above}, {whole(52)}")
    k = w.binary("fsub", numbers(let(f"or {wide} {biased}, {whole(1075 << 52)}")), w.constant(2.0**52 + 1024.0))
    exponent = let(f"and {wide} {above}, {whole(0xFFF << 52)}")
    return k, numbers(let(f"sub {wide} {let(f'add {wide} {bits}, {whole(1024 << 52)}')}, {exponent}"))


def _powers_of_two(w: Instructions, k: Value) -> tuple[Value, Value]:
    """2**k and 2**-k for a vector of integers k."""
    let, wide, kind = w.function.let, f"<{k.lanes} x i64>", type_of("f", k.lanes)
    shifted = let(f"bitcast {kind} {w.binary('fadd', k, w.constant(SHIFT)).name} to {wide}")
    exponent = let(f"shl {wide} {shifted}, {w.splat(Value('52'), 'i', k.lanes)}")
    one = w.splat(Value(str(1023 << 52)), "i", k.lanes)
    power, inverse = (
        Value(let(f"bitcast {wide} {let(f'{operation} {wide} {one}, {exponent}')} to {kind}"), k.lanes)
        for operation in ("add", "sub")
    )
    return power, inverse
