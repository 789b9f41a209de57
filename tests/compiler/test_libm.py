"""Functions of `math` for whole vectors in machine code: how libm computes them, and that vectors have its bits."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from flatgrad.compiler.loops.grammar import Apply
from flatgrad.compiler.machine import libm, native, variants
from flatgrad.compiler.machine.operations import Machine, _defined
from flatgrad.compiler.machine.variants import DIGESTS, FUSED, SENSITIVE, SEPARATE, arguments_of, digest_of, variant_of
from flatgrad.compiler.program.spelling import total_form
from flatgrad.runtime import primitives as p
from flatgrad.runtime.primitives import BY_NAME
from tests.compiler.test_native_primitives import COUNT, EDGES, LANES, around, check, column, statement_of
from tests.examples import slow
from tests.native_programs import MACHINES, MachineCode

#: The products that a compiler may contract into sums; the others are exact, or there is no sum in their block of code.
PRODUCTS = {
    "tanh": ("q1", "q3", "q5", "second", "fourth", "t", "divisor", "whole", "rest"),
    "log1p": ("p1", "p3", "p5", "p7", "fourth", "sixth", "log(2)", "short"),
}


def fused_or_not(fused):
    """Sums a * b + c, with one rounding where the product is contracted."""

    def fma(name, a, b, c):
        if name not in fused:
            return a * b + c
        return float(Fraction(a) * Fraction(b) + Fraction(c)) or a * b + c

    return fma


def tanh_of_fdlibm(x, fused=(), change=lambda name, number: number):
    """FDLIBM's `tanh` with its branches, as C compilers make it. `fused` names products that are contracted."""
    fma = fused_or_not(fused)

    def expm1(x):
        q1, q2, q3, q4, q5 = libm._COEFFICIENTS
        k, c = 0, 0.0
        if abs(x) >= change("reduced", libm.REDUCED):
            k = int(x * libm._PER_LOG_2 + math.copysign(0.5, x))
            high, low = x - k * libm.LOG_2, k * change("rest of log(2)", libm.LOG_2_REST)
            x = high - low
            c = (high - x) - low
        half = 0.5 * x
        square = x * half
        second = square * square
        if change("order", ""):
            polynomial = 0.0
            for q in (q5, q4, q3, q2, q1, 1.0):
                polynomial = fma("q1", polynomial, square, q)
        else:
            polynomial = fma("second", second, fma("q3", square, q3, q2), fma("q1", square, q1, 1.0))
            polynomial = fma("fourth", second * second, fma("q5", square, q5, q4), polynomial)
        t = fma("t", -polynomial, half, 3.0)
        e = square * ((polynomial - t) / fma("divisor", -x, t, 6.0))
        if k == 0:
            return x - fma("whole", x, e, -square)
        e = fma("rest", x, e - c, -c) - square
        if k == -1:
            return 0.5 * (x - e) - 0.5
        if k <= change("least", -2) or k > 56:
            return math.ldexp(1.0 - (e - x), k) - 1.0
        if k < change("many", 20):
            return math.ldexp((1.0 - math.ldexp(1.0, -k)) - (e - x), k)
        return math.ldexp((x - (e + math.ldexp(1.0, -k))) + 1.0, k)

    size = abs(x)
    if x != x or x == 0.0 or size < 2.0**-55:
        return x
    if size >= 22.0:
        result = 1.0
    elif size >= change("large", 1.0):
        result = 1.0 - 2.0 / (expm1(2.0 * size) + 2.0)
    else:
        t = expm1(-2.0 * size)
        result = -t / (t + 2.0)
    return math.copysign(result, x)


def log1p_of_fdlibm(x, fused=(), change=lambda name, number: number):
    """The same for its `log1p`; `long` is a product that could be contracted, but is not where compilers move code."""
    fma = fused_or_not(fused)
    p1, p2, p3, p4, p5, p6, p7 = libm._LOG1P
    low, high = change("inner", libm.INNER)
    if x == math.inf or x != x:
        return x
    if abs(x) < 2.0**-29:
        return x - x * x * 0.5
    k, f, c, short = 0, x, 0.0, False
    if not low < x < high:
        u = x if x >= 2.0**53 else 1.0 + x
        if x < 2.0**53:
            c = (1.0 - (u - x) if u >= 2.0 else x - (u - 1.0)) / u
        m, k = math.frexp(u)
        if m < float.fromhex("0x1.6a09ep-1"):
            m, k = 2.0 * m, k - 1
        f = m - 1.0
        short = -1.5 * 2.0**-20 <= f < 2.0**-20
        if k == 0:
            c = 0.0
    half = 0.5 * f * f
    rest = fma("log(2)", float(k), libm.LOG_2_REST, c)
    if short:
        return k * libm.LOG_2 - ((half * fma("short", -f, 2.0 / 3.0, 1.0) - rest) - f)
    s = f / (2.0 + f)
    z = s * s
    z2 = z * z
    z4 = z2 * z2
    if change("order", ""):
        polynomial = 0.0
        for q in (p7, p6, p5, p4, p3, p2, p1):
            polynomial = fma("p1", polynomial, z, q)
        polynomial *= z
    else:
        polynomial = fma("p1", z, p1, z2 * fma("p3", z, p3, p2))
        polynomial = fma("fourth", z4, fma("p5", z, p5, p4), polynomial)
        polynomial = fma("sixth", z4 * z2, fma("p7", z, p7, p6), polynomial)
    return k * libm.LOG_2 - ((half - fma("long", s, half + polynomial, rest)) - f)


ALGORITHMS = {"tanh": tanh_of_fdlibm, "log1p": log1p_of_fdlibm}


@pytest.mark.parametrize("name", DIGESTS)
def test_the_digests_are_those_of_the_algorithms(name):
    algorithm = ALGORITHMS[name]
    assert digest_of(map(algorithm, arguments_of(name))) == DIGESTS[name][SEPARATE]
    assert digest_of(algorithm(x, PRODUCTS[name]) for x in arguments_of(name)) == DIGESTS[name][FUSED]


@pytest.mark.parametrize(
    ("name", "product"), [
        *(("tanh", product) for product in ("q1", "t", "divisor", "whole", "rest")),
        *(("log1p", product) for product in ("p1", "p3", "long")),
    ],
)  # fmt: skip
def test_each_contraction_is_noticed(name, product):
    """Those that are missing here change no bit at a hundred million arguments."""
    algorithm, products = ALGORITHMS[name], PRODUCTS[name]
    sensitive = [n / 2.0**26 for n in SENSITIVE[name]]
    for fused in [(), products] if product in products else [products]:
        changed = [other for other in (*products, product) if (other == product) != (other in fused)]
        assert any(algorithm(x, fused) != algorithm(x, changed) for x in sensitive)


@pytest.mark.parametrize("fused", [False, True], ids=[SEPARATE, FUSED])
@pytest.mark.parametrize(
    ("name", "what", "number"), [
        ("tanh", "reduced", 0.34657359027997264), ("tanh", "reduced", 0.3465735912), ("tanh", "least", -3),
        ("tanh", "rest of log(2)", 1.9082149e-10), ("tanh", "many", 3), ("tanh", "large", 0.999),
        ("tanh", "large", 1.001), ("tanh", "order", "Horner's"), ("log1p", "inner", (-0.28, libm.INNER[1])),
        ("log1p", "inner", (libm.INNER[0], 0.41)), ("log1p", "order", "Horner's"),
    ],
)  # fmt: skip
def test_other_constants_turns_and_orders_are_noticed(name, what, number, fused):
    algorithm, products = ALGORITHMS[name], PRODUCTS[name] if fused else ()

    def changed(x):
        return algorithm(x, products, lambda key, usual: number if key == what else usual)

    assert any(changed(x) != algorithm(x, products) for x in arguments_of(name))


def test_another_libm_is_called(monkeypatch):
    """As one would be that rounds correctly."""
    monkeypatch.setattr(variants.math, "tanh", lambda x: x if abs(x) < 1e-8 else 1.0 - 2.0 / (math.exp(2.0 * x) + 1.0))
    assert variant_of.__wrapped__("tanh") == ""
    assembly = MachineCode(statement_of(p.tanh, 2 * LANES), Machine(LANES, False)).code.assembly
    assert "@flatgrad_tanh" in assembly
    assert "tanh_of" not in assembly


def test_the_variant_is_part_of_what_code_depends_on(monkeypatch):
    host = native.Host()
    before = host.identity
    host.variants = {"tanh": "another"}
    assert host.identity != before
    monkeypatch.setattr(native, "variant_of", lambda name: FUSED)
    assert set(native.Host("generic").variants.values()) <= {FUSED}
    if native.platform.machine() == "x86_64":
        assert native.Host("x86-64").variants == {}, "it cannot multiply and add in one"


def arguments(name):
    """100,000 arguments: those that tell how a function is computed, special ones, and many in its range."""
    draw = np.random.default_rng(8)
    turns = np.arange(1, 70) * (math.log(2.0) / 4.0)
    telling = np.array(arguments_of(name))
    parts = [telling, -telling, around(EDGES), around(turns), around(2.0 ** (turns * 2.0) - 1.0), column(draw, 10_000)]
    parts.append(draw.choice([-1.0, 1.0], 20_000) * 2.0 ** draw.uniform(-60.0, 6.0, 20_000))
    rest = COUNT - sum(map(len, parts))
    if name == "log1p":
        return np.concatenate([*parts, draw.uniform(-1.0, 1.0, rest // 2), draw.uniform(-1.0, 50.0, (rest + 1) // 2)])
    return np.concatenate([*parts, draw.uniform(-3.0, 3.0, rest // 2), draw.uniform(-23.0, 23.0, (rest + 1) // 2)])


ARGUMENTS = {name: arguments(name) for name in DIGESTS}
#: What machine code can do here; fused operations are exact everywhere, but slow where the processor has none.
VARIANTS = (SEPARATE, FUSED) if native.host().shortcuts else (SEPARATE,)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [2, 4, 8])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", DIGESTS)
def test_vectors_have_the_bits_of_the_algorithm(name, variant, lanes):
    """At 100,000 arguments, or at 10,000 where exact fractions compute what is fused."""
    numbers = ARGUMENTS[name] if variant == SEPARATE else ARGUMENTS[name][::10]
    numbers = numbers if name == "tanh" else numbers[~(numbers <= -1.0)]
    fused = PRODUCTS[name] if variant == FUSED else ()
    expected = np.array([ALGORITHMS[name](x, fused) for x in numbers.tolist()])
    row = p.tanh if name == "tanh" else total_form(p.log1p)
    machine = Machine(lanes, False, {}, {name: variant})
    check(row, [numbers], machine, numbers=(expected, np.zeros(len(numbers), dtype=bool)))


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [2, 4, 8])
@pytest.mark.parametrize("row", [p.tanh, p.log1p, total_form(p.log1p)], ids=lambda row: row.name)
def test_vectors_have_the_bits_of_libm(row, lanes):
    name = row.name.removeprefix("ieee_")
    machine = Machine(lanes, native.host().shortcuts, {}, native.host().variants)
    assembly = MachineCode(statement_of(row, 8), machine).code.assembly
    assert (f"@flatgrad_{name}" in assembly) == (name not in native.host().variants)
    check(row, [ARGUMENTS[name]], machine)


@pytest.mark.slow
@pytest.mark.parametrize("name", native.host().variants)
def test_another_variant_is_noticed(name):
    """The tests above do not pass by chance: the other variant has other bits."""
    other = SEPARATE if native.host().variants[name] == FUSED else FUSED
    with pytest.raises(AssertionError, match=name):
        check(BY_NAME[name], [ARGUMENTS[name]], Machine(LANES, False, {}, {name: other}))


def twice(row, lanes):
    """A program that applies a row, and then again to what it gave."""
    program = statement_of(row, lanes)
    (statement,) = program.statements
    program.statements = [replace(statement, body=(*statement.body, Apply(row, (1,))))]
    return program.check()


def test_a_width_has_one_function_however_often_it_is_used():
    text = MachineCode(twice(p.tanh, 19), Machine(8, False, {}, {"tanh": SEPARATE})).code.assembly
    assert text.count("define internal <8 x double> @tanh_of_8") == 1
    assert text.count("call <8 x double> @tanh_of_8") > 1


# --- logarithms -------------------------------------------------------------------------------------------------------


def positive_numbers():
    """100,000 arguments of `log`: near 1 and powers of two, where the algorithm changes over, of every size."""
    draw = np.random.default_rng(9)
    turns = 2.0 ** (np.arange(-2148, 2048) / 2.0)
    near = 1.0 + draw.choice([-1.0, 1.0], 20_000) * 2.0 ** draw.uniform(-53.0, -1.0, 20_000)
    hard = [around(EDGES), abs(around(turns, 1)), around([1.0, 0.9375, 1.0647, 1.0 + 265 / 4096, 2.0**-1022], 9), near]
    rest = COUNT - sum(map(len, hard))
    mixed = [draw.uniform(0.0, 1.0, rest // 4), draw.uniform(0.5, 4.0, rest // 4), column(draw, rest - rest // 4 * 2)]
    return np.concatenate([*hard, *mixed])


POSITIVE = positive_numbers()
WITH_LOGARITHMS = [machine for machine in MACHINES if machine.shortcuts and machine.lanes > 2]


@pytest.mark.slow
@pytest.mark.parametrize("machine", WITH_LOGARITHMS or MACHINES[:1], ids=str)
@pytest.mark.parametrize("row", [p.log, total_form(p.log)], ids=lambda row: row.name)
def test_logarithms_of_vectors_have_the_bits_of_libm(row, machine):
    check(row, [POSITIVE], machine)


@pytest.mark.slow
@pytest.mark.skipif(not WITH_LOGARITHMS, reason="libm computes all logarithms here")
@pytest.mark.parametrize(("name", "number"), [("_LOG_2_LOW", 1.2864e-14), ("_ROOT", libm._ROOT - (1 << 51))])
def test_logarithms_that_are_a_little_off_are_noticed(monkeypatch, name, number):
    """Those of numbers that are taken too far apart, or with less of log(2)."""
    monkeypatch.setattr(libm, name, number)
    _defined.cache_clear()
    with pytest.raises(AssertionError, match="log"):
        check(p.log, [POSITIVE], WITH_LOGARITHMS[-1])
    monkeypatch.undo()
    _defined.cache_clear()


#: Programs whose vectors have every width, with a gradient.
PROGRAM = """
import math, sys
import numpy as np
import flatgrad as fg
from flatgrad.compiler.machine import native
x = np.random.RandomState(3).standard_normal(37) * 3
f = lambda x: sum(fg.tanh(a) * fg.softplus(a * 0.5 + 1.0) for a in x)
results = [fg.value_and_grad(f, backend=backend)(x[:n]) for backend in ("python", "native") for n in (2, 4, 7, 37)]
half = len(results) // 2
for (a, b), (c, d) in zip(results[:half], results[half:]):
    assert a == c and b.tobytes() == d.tobytes()
print(*native.host().variants.values())
"""


@pytest.mark.parametrize("tunables", slow(["", "glibc.cpu.hwcaps=-FMA,-FMA_Usable,-AVX2,-AVX2_Usable"], ""))
def test_settings_of_a_process_may_choose_another_function(tunables):
    """What libm computes is looked at in each process: with these settings glibc has another `tanh`."""
    environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False,
        env=environment | ({"GLIBC_TUNABLES": tunables} if tunables else {}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {SEPARATE, FUSED}
