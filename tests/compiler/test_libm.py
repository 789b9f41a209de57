"""Functions of `math` for whole vectors in machine code: how libm computes `tanh`, and that vectors have its bits."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from array import array
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from flatgrad.compiler.loops.grammar import Apply
from flatgrad.compiler.machine import libm, native
from flatgrad.compiler.machine.libm import FUSED, SEPARATE, tanh_arguments
from flatgrad.compiler.machine.operations import Machine, _defined
from flatgrad.compiler.program.spelling import total_form
from flatgrad.runtime import primitives as p
from tests.compiler.test_native_primitives import COUNT, EDGES, LANES, around, check, column, statement_of
from tests.native_programs import MACHINES, MachineCode

#: The products that a compiler may contract into sums; the others are exact, or there is no sum in their block of code.
PRODUCTS = ("q1", "q3", "q5", "second", "fourth", "t", "divisor", "whole", "rest")


def tanh_of_fdlibm(x, fused=(), change=lambda name, number: number):
    """FDLIBM's `tanh` with its branches, as C compilers make it. `fused` names products that are contracted."""

    def fma(name, a, b, c):
        if name not in fused:
            return a * b + c
        return float(Fraction(a) * Fraction(b) + Fraction(c)) or a * b + c

    def expm1(x):
        q1, q2, q3, q4, q5 = libm._COEFFICIENTS
        k, c = 0, 0.0
        if abs(x) >= change("reduced", libm._REDUCED):
            k = int(x * libm._PER_LOG_2 + math.copysign(0.5, x))
            high, low = x - k * libm._LOG_2, k * change("rest of log(2)", libm._LOG_2_REST)
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


def digest(numbers):
    return hashlib.sha256(array("d", numbers)).hexdigest()


DIGESTS = {variant: key for key, variant in libm._VARIANTS.items()}


def test_the_digests_are_those_of_the_algorithm():
    assert digest(map(tanh_of_fdlibm, tanh_arguments())) == DIGESTS[SEPARATE]
    assert digest(tanh_of_fdlibm(x, PRODUCTS) for x in tanh_arguments()) == DIGESTS[FUSED]


@pytest.mark.parametrize("name", ["q1", "t", "divisor", "whole", "rest"])
def test_each_contraction_is_noticed(name):
    """Those that are missing here change no bit at a hundred million arguments."""
    sensitive = [n / 2.0**26 for n in libm._SENSITIVE]
    for fused in ((), PRODUCTS):
        changed = [other for other in PRODUCTS if (other == name) != (other in fused)]
        assert any(tanh_of_fdlibm(x, fused) != tanh_of_fdlibm(x, changed) for x in sensitive)


@pytest.mark.parametrize("fused", [(), PRODUCTS], ids=[SEPARATE, FUSED])
@pytest.mark.parametrize(
    ("name", "number"), [
        ("reduced", 0.34657359027997264), ("reduced", 0.3465735912), ("rest of log(2)", 1.9082149e-10), ("least", -3),
        ("many", 3), ("large", 0.999), ("large", 1.001), ("order", "Horner's"),
    ],
)  # fmt: skip
def test_other_constants_turns_and_orders_are_noticed(name, number, fused):
    def changed(x):
        return tanh_of_fdlibm(x, fused, lambda what, usual: number if what == name else usual)

    assert any(changed(x) != tanh_of_fdlibm(x, fused) for x in tanh_arguments())


def test_another_libm_is_called(monkeypatch):
    """As one would be that rounds correctly."""
    monkeypatch.setattr(libm.math, "tanh", lambda x: x if abs(x) < 1e-8 else 1.0 - 2.0 / (math.exp(2.0 * x) + 1.0))
    assert libm.tanh_variant.__wrapped__() == ""
    assembly = MachineCode(statement_of(p.tanh, 2 * LANES), Machine(LANES, False)).code.assembly
    assert "@flatgrad_tanh" in assembly
    assert "tanh_of" not in assembly


def test_the_variant_is_part_of_what_code_depends_on(monkeypatch):
    host = native.Host()
    before = host.identity
    host.tanh = "another"
    assert host.identity != before
    monkeypatch.setattr(native, "tanh_variant", lambda: FUSED)
    assert native.Host("generic").tanh in ("", FUSED)
    if "x86-64" in native._LEVELS and native.platform.machine() == "x86_64":
        assert native.Host("x86-64").tanh == "", "it cannot multiply and add in one"


def arguments():
    """Arguments of `tanh`: those that tell how it is computed, special ones, and many in its range."""
    draw = np.random.default_rng(8)
    turns = np.arange(1, 70) * (math.log(2.0) / 4.0)
    parts = [
        np.array(tanh_arguments()),
        -np.array(tanh_arguments()),
        around(EDGES),
        around(turns),
        column(draw, 10_000),
    ]
    sizes = draw.choice([-1.0, 1.0], 20_000) * 2.0 ** draw.uniform(-60.0, 6.0, 20_000)
    rest = COUNT - sum(map(len, parts)) - len(sizes)
    return np.concatenate(
        [*parts, sizes, draw.uniform(-3.0, 3.0, rest // 2), draw.uniform(-23.0, 23.0, rest - rest // 2)]
    )


ARGUMENTS = arguments()
#: What machine code can do here; fused operations are exact everywhere, but slow where the processor has none.
VARIANTS = (SEPARATE, FUSED) if native.host().shortcuts else (SEPARATE,)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [2, 4, 8])
@pytest.mark.parametrize("variant", VARIANTS)
def test_vectors_have_the_bits_of_the_algorithm(variant, lanes):
    """At 100,000 arguments, or at 10,000 where exact fractions compute what is fused."""
    numbers = ARGUMENTS if variant == SEPARATE else ARGUMENTS[::10]
    fused = PRODUCTS if variant == FUSED else ()
    expected = np.array([tanh_of_fdlibm(x, fused) for x in numbers.tolist()])
    machine = Machine(lanes, False, {}, variant)
    check(p.tanh, [numbers], machine, numbers=(expected, np.zeros(len(numbers), dtype=bool)))


@pytest.mark.slow
@pytest.mark.skipif(not native.host().tanh, reason="libm computes all hyperbolic tangents here")
@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_vectors_have_the_bits_of_libm(lanes):
    machine = Machine(lanes, native.host().shortcuts, {}, native.host().tanh)
    assert "@flatgrad_tanh" not in MachineCode(statement_of(p.tanh, 8), machine).code.assembly
    check(p.tanh, [ARGUMENTS], machine)


@pytest.mark.slow
@pytest.mark.skipif(not native.host().tanh, reason="libm computes all hyperbolic tangents here")
def test_another_variant_is_noticed():
    """The tests above do not pass by chance: the other variant has other bits."""
    other = SEPARATE if native.host().tanh == FUSED else FUSED
    with pytest.raises(AssertionError, match="tanh"):
        check(p.tanh, [ARGUMENTS], Machine(LANES, False, {}, other))


def twice(row, lanes):
    """A program that applies a row, and then again to what it gave."""
    program = statement_of(row, lanes)
    (statement,) = program.statements
    program.statements = [replace(statement, body=(*statement.body, Apply(row, (1,))))]
    return program.check()


def test_a_width_has_one_function_however_often_it_is_used():
    text = MachineCode(twice(p.tanh, 19), Machine(8, False, {}, SEPARATE)).code.assembly
    assert text.count("define internal <8 x double> @tanh_of_8") == 1
    assert text.count("call <8 x double> @tanh_of_8") > 1


# --- logarithms -------------------------------------------------------------------------------------------------------


def positive_numbers():
    """Arguments of `log`, 100,000 of them: near 1 and powers of two, where the algorithm changes over, of every size."""
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
f = lambda x: sum(fg.tanh(a) * fg.tanh(a * 0.5 + 1.0) for a in x)
results = [fg.value_and_grad(f, backend=backend)(x[:n]) for backend in ("python", "native") for n in (2, 4, 7, 37)]
half = len(results) // 2
for (a, b), (c, d) in zip(results[:half], results[half:]):
    assert a == c and b.tobytes() == d.tobytes()
print(native.host().tanh)
"""


@pytest.mark.parametrize("tunables", ["", "glibc.cpu.hwcaps=-FMA,-FMA_Usable,-AVX2,-AVX2_Usable"])
def test_settings_of_a_process_may_choose_another_function(tunables):
    """What libm computes is looked at in each process: with these settings glibc has another `tanh`."""
    environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False,
        env=environment | ({"GLIBC_TUNABLES": tunables} if tunables else {}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("", SEPARATE, FUSED)
