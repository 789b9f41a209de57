"""Functions of `math` for whole vectors, with the bits of the libm that CPython calls.

`tanh` of FDLIBM (Sun Microsystems, 1993: `s_tanh.c` and `s_expm1.c`), which glibc has with a polynomial in another
order, is up to two units of the last place off. So only the same operations in the same order have its bits. They are
written here, with selections in place of branches. `tanh_variant` finds out whether libm computes it so.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from functools import cache

import numpy as np

from .text import Value, type_of
from .writer import Instructions

#: A number that is added to this one is rounded to an integer, which the last bits of the sum are.
SHIFT = 1.5 * 2.0**52
#: The first 32 bits of log(2), so that multiples of it are exact, what is left, and the reciprocal.
_LOG_2, _LOG_2_REST = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
_PER_LOG_2 = float.fromhex("0x1.71547652b82fep+0")
#: `expm1` takes arguments below this number, a little more than log(2) / 2, as they are.
_REDUCED = float.fromhex("0x1.62e43p-2")
#: The coefficients of the polynomial in `expm1`, behind the first one, which is 1.
_COEFFICIENTS = tuple(map(float.fromhex, (
    "-0x1.11111111110f4p-5", "0x1.a01a019fe5585p-10", "-0x1.4ce199eaadbb7p-14", "0x1.0cfca86e65239p-18",
    "-0x1.afdb76e09c32dp-23",
)))  # fmt: skip
#: From this number on `tanh` is 1.0.
_ONE = 22.0

#: The bits of the root of 1/2; the first 42 bits of log(2), and what is left.
_ROOT = 0x3FE6A09E667F3BCD
_LOG_2_HIGH, _LOG_2_LOW = float.fromhex("0x1.62e42fefa38p-1"), float.fromhex("0x1.ef35793c7673p-45")

#: The ways in which a libm may compute `tanh` so: compiled without contraction of products into sums, or with it.
SEPARATE, FUSED = "separate", "fused"
#: The way of a libm, by the digest of its results.
_VARIANTS = {
    "c841e3e7e3cfb49d10e294f7031bb8ae42f0f6f62ce526f7eb132648963a5aa8": SEPARATE,
    "8a9a45ae5e22ee4a5bd35301bde73ecd8c9ca682c6f3c25e0c2a6459057d4746": FUSED,
}
#: Arguments, times 2**26, at which the contraction of a single product, or Horner's order, changes the result.
_SENSITIVE = (
    269540, 347791, 528347, 831223, 860181, 863992, 969913, 975139, 980903, 1000165, 1455104, 1526024, 1543576, 1557633,
    1696614, 1743663, 1861813, 1918603, 1938051, 2187040, 2377536, 2452129, 2568552, 2651389, 3272704, 5169152, 5324800,
    5529600, 6380978, 6382607, 6385787, 6385933, 6386903, 6388307, 6389368, 6395347, 6395768, 6395852, 6397108, 6400033,
    6402392, 6402482, 6404287, 6620160, 6685696, 6716416, 6916096, 7065600, 7435264, 10046720, 10046935, 10046962,
    10048448, 10083403, 10084096, 10084340, 10084917, 10677248, 10971136, 11372544, 12085248, 13479936, 14810304,
    14810504, 14812661, 14873600, 15150904, 15162725, 15167139, 15539200, 18313216, 31177728, 32592896, 34899968,
    35497984, 36139008, 79629312, 82042880,
)  # fmt: skip


def tanh_arguments() -> list[float]:
    """Numbers at which another way to compute `tanh` has other results: the same ones on every machine.

    They are those where contraction or order matter, both sides of each place where the algorithm goes another way,
    numbers of every size, and many in its range.
    """
    steps = np.arange(2048, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # of the golden ratio, modulo 1
    mantissas = ((steps >> np.uint64(12)) | np.uint64(1023 << 52)).view(float)
    sizes = np.ldexp(mantissas, np.arange(2048) % 64 - 59)
    turns = (np.arange(2, 65) - 0.5) * ((_LOG_2 + _LOG_2_REST) / 2.0)  # where log(2) is subtracted once more
    turns = np.concatenate([turns, [_REDUCED / 2.0, 1.0, _ONE, 2.0**-55, 2.0**-28, 2.0**-1022]])
    beside = (turns.view(np.int64)[:, None] + np.arange(-2, 3)).view(float).ravel()
    least = (_LOG_2 + _LOG_2_REST) / 4.0  # from here on a part of log(2) could be subtracted, but is not at once
    between = least + np.arange(1.0, 32.0) / 32.0 * (_REDUCED / 2.0 - least)
    special = np.array([0.0, -0.0, 5e-324, 2.0**1023, math.inf])
    parts = np.array(_SENSITIVE) / 2.0**26, beside, between, special, sizes, mantissas[:512] * 22.0 - 22.0
    numbers: list[float] = np.concatenate([*parts, mantissas[:512]]).tolist()
    return numbers


@cache
def tanh_variant() -> str:
    """How the libm that CPython calls computes `tanh`; empty if in a way that is not known here.

    Its results at some thousand arguments decide, once in each process: a libm may have several functions, from which
    it chooses by the processor and by settings of the process.
    """
    results = array("d", map(math.tanh, tanh_arguments()))
    return _VARIANTS.get(hashlib.sha256(results).hexdigest(), "")


def tanh(w: Instructions, x: Value, fused: bool) -> Value:
    """The hyperbolic tangent of a vector, in the operations of FDLIBM; `fused` where products are contracted.

    With t = expm1(2|x|) it is 1 - 2 / (t + 2) from 1 on; below 1 it is -t / (t + 2) with t = expm1(-2|x|).
    """
    constant, binary, select, compare = w.constant, w.binary, w.select, w.compare
    one, zero = constant(1.0), constant(0.0)

    def add(a: Value, b: Value) -> Value:
        return binary("fadd", a, b)

    def sub(a: Value, b: Value) -> Value:
        return binary("fsub", a, b)

    def mul(a: Value, b: Value) -> Value:
        return binary("fmul", a, b)

    def fma(a: Value, b: Value, c: Value) -> Value:
        return w.fma(a, b, c) if fused else add(mul(a, b), c)

    size = w.intrinsic("fabs", x)
    size = select(compare("olt", constant(_ONE), size), constant(_ONE), size)
    large, double = compare("oge", size, one), add(size, size)
    # The argument of `expm1` is k * log(2) + r + c with an integer k and |r| < 0.35; n = |k|.
    argument = select(large, double, w.unary("fneg", double))
    count = fma(double, constant(_PER_LOG_2), constant(0.5))
    rounded = sub(add(count, constant(SHIFT)), constant(SHIFT))
    n = select(compare("ogt", rounded, count), sub(rounded, one), rounded)
    n = select(compare("olt", double, constant(_REDUCED)), zero, n)
    k = select(large, n, w.unary("fneg", n))
    high, low = fma(w.unary("fneg", k), constant(_LOG_2), argument), mul(k, constant(_LOG_2_REST))
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
    constant, binary, compare, fma, let = w.constant, w.binary, w.compare, w.fma, w.function.let
    wide, kind = f"<{x.lanes} x i64>", type_of("f", x.lanes)

    def whole(number: int) -> str:
        return w.splat(Value(str(number)), "i", x.lanes)

    def numbers(bits: str) -> Value:
        return Value(let(f"bitcast {wide} {bits} to {kind}"), x.lanes)

    bits = let(f"bitcast {kind} {x.name} to {wide}")
    above = let(f"add {wide} {bits}, {whole((1024 << 52) - _ROOT)}")  # 1024 + k, in front of the rest
    biased = let(f"lshr {wide} {above}, {whole(52)}")
    k = binary("fsub", numbers(let(f"or {wide} {biased}, {whole(1075 << 52)}")), constant(2.0**52 + 1024.0))
    exponent = let(f"and {wide} {above}, {whole(0xFFF << 52)}")
    m = numbers(let(f"sub {wide} {let(f'add {wide} {bits}, {whole(1024 << 52)}')}, {exponent}"))
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
