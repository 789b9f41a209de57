"""`hypot`, `atan2` and `norm`: right at every scale, the same bits on every back end."""

from __future__ import annotations

import ctypes
import inspect
import math
import random
import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from mpmath import mp, mpf

import flatgrad as fg
from flatgrad.compiler.machine import native
from flatgrad.runtime import scalar
from tests.bits import all_bits, assert_same

BACKENDS = ["python", "numpy", *(["native"] if native.available() else [])]
SPECIAL = (
    0.0, -0.0, 1.0, -1.0, 3.0, 5e-324, -5e-324, 1e-310, 2.2250738585072014e-308, 1e-300, -1e-300, 1e-160, 1e-139,
    2.0**-460, math.nextafter(2.0**-460, 0.0), 1e154, 1e155, 2.0**500, math.nextafter(2.0**500, math.inf), 1e300,
    -1e300, 1.7976931348623157e308, math.inf, -math.inf, math.nan,
)  # fmt: skip


def pairs(count=400):
    """Special numbers with each other, ordinary numbers, and numbers of any exponent."""
    draw = random.Random(11)
    pairs = [(a, b) for a in SPECIAL for b in SPECIAL]
    pairs += [(draw.uniform(-10.0, 10.0), draw.uniform(-10.0, 10.0)) for _ in range(count)]
    for _ in range(count):
        exponent = draw.randint(-1074, 1022)
        other = exponent + draw.randint(-60, 60)
        pairs.append(
            (math.ldexp(draw.uniform(-1.0, 1.0), exponent), math.ldexp(draw.uniform(-1.0, 1.0), min(other, 1022)))
        )
    return pairs


def ulps(number, true):
    """The distance of a number from the true one in units of the last place."""
    return abs(mpf(number) - true) / mpf(math.ulp(float(true)))


# --- norm at the ends of its range -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_range_of_norm(backend):
    """It does not scale: what the documentation says of very long and very short vectors, and its remedy."""
    slope = fg.value_and_grad(fg.norm, backend=backend)
    for scale in (1e-146, 1e-100, 1.0, 1e100, 1e153):
        value, gradient = slope(np.array([3.0, 4.0]) * scale)
        assert value == pytest.approx(5.0 * scale, rel=1e-15)
        assert gradient == pytest.approx([0.6, 0.8], rel=1e-15)
    value, gradient = slope(np.array([3.0, 4.0]) * 1e154)
    assert (value, gradient.tolist()) == (math.inf, [0.0, 0.0])
    value, gradient = slope(np.array([3.0, 4.0]) * 1e-163)
    assert (value, gradient.tolist()) == (0.0, [0.0, 0.0])
    for c in (1e200, 1e-200):
        scaled = fg.value_and_grad(lambda x, c=c: c * fg.norm(x / c), backend=backend)
        value, gradient = scaled(np.array([3.0, 4.0]) * c)
        assert value == pytest.approx(5.0 * c, rel=1e-15)
        assert gradient == pytest.approx([0.6, 0.8], rel=1e-15)


# --- hypot ------------------------------------------------------------------------------------------------------------


def test_hypot_is_within_an_ulp_of_the_true_length():
    with mp.workprec(4000):
        for a, b in pairs():
            if math.isfinite(a) and math.isfinite(b):
                true = mp.sqrt(mpf(a) ** 2 + mpf(b) ** 2)
                if true < mpf(1.7976931348623157e308):
                    assert ulps(fg.hypot(a, b), true) <= 1.01, (a, b)


def test_hypot_agrees_with_maths():
    for a, b in pairs():
        mine, theirs = fg.hypot(a, b), math.hypot(a, b)
        assert mine == theirs or all(map(math.isnan, (mine, theirs))) or abs(mine - theirs) <= math.ulp(theirs), (a, b)


def test_hypot_of_what_is_no_number():
    assert [fg.hypot(*p) for p in ((math.inf, math.nan), (math.nan, -math.inf), (1.0, -math.inf))] == [math.inf] * 3
    assert math.isnan(fg.hypot(1e300, math.nan))
    assert math.copysign(1.0, fg.hypot(-0.0, -0.0)) == 1.0


def test_the_partials_of_hypot_at_every_scale():
    for scale in (1e-320, 1e-300, 1e-170, 1e-20, 1.0, 1e20, 1e170, 1e300):
        a, b = 3.0 * scale, 4.0 * scale
        value, (da, db) = fg.value_and_grad(fg.hypot, argnums=(0, 1))(a, b)
        exact = Fraction(a) ** 2 + Fraction(b) ** 2
        assert abs(Fraction(value) ** 2 / exact - 1) < Fraction(1, 2**50) or scale < 1e-300
        tolerance = 1e-15 + math.ulp(value) / value  # a subnormal length has few digits
        assert abs(da - 0.6) < tolerance
        assert abs(db - 0.8) < tolerance


# --- atan2 ------------------------------------------------------------------------------------------------------------


def test_the_partials_of_atan2_at_every_scale():
    slopes = fg.grad(fg.atan2, argnums=(0, 1))
    with mp.workprec(4000):
        for y, x in pairs(200):
            if not (math.isfinite(x) and math.isfinite(y)) or (x == 0.0 == y):
                continue
            square = mpf(x) ** 2 + mpf(y) ** 2
            if not 2.3e-308 < mp.sqrt(square) < 1.7e308:
                continue  # a subnormal length has few digits
            for slope, true in zip(slopes(y, x), (mpf(x) / square, -mpf(y) / square), strict=True):
                if abs(true) < mpf(1.7e308):
                    assert ulps(slope, true) <= 4.0, (y, x)


def test_atan2_at_the_origin_still_raises():
    assert fg.atan2(0.0, -0.0) == math.pi
    with pytest.raises(fg.DivisionByZeroError, match=r"partial of atan2\(0\.0, 0\.0\)"):
        fg.grad(fg.atan2)(0.0, 0.0)


# --- every back end ---------------------------------------------------------------------------------------------------


def interpreted(function, a, b):
    """Value and gradient at pairs of numbers, from the interpreted graph."""
    first, second = fg.Value(a), fg.Value(b)
    out = function(first, second)
    out.backward()
    return out.data, first.grad, second.grad


@pytest.mark.parametrize("function", [fg.hypot, fg.atan2], ids=["hypot", "atan2"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_bits_of_every_back_end(function, backend):
    numbers = [(a, b) for a, b in pairs(60) if a != 0.0 or b != 0.0]  # at (0, 0) the partials raise
    expected = [interpreted(function, a, b) for a, b in numbers]
    a, b = (np.array(column) for column in zip(*numbers, strict=True))
    compiled = fg.compile(lambda x, y: [function(p, q) for p, q in zip(x, y, strict=True)], backend=backend)
    outputs = compiled(a, b)
    assert_same([out.data for out in outputs], [row[0] for row in expected])
    each = fg.value_and_grad(function, argnums=(0, 1), backend=backend)
    for row, (x, y) in zip(expected, numbers, strict=True):
        value, gradients = each(x, y)
        assert_same([value, *gradients], row)

    def one_of(x, y, s):
        lengths = [function(p, q) for p, q in zip(x, y, strict=True)]
        return sum(fg.where(fg.equal(k, s), length, 0.0) for k, length in enumerate(lengths))

    columns = fg.value_and_grad(one_of, argnums=(0, 1), backend=backend)
    for k in (0, len(numbers) // 2, len(numbers) - 1):  # many lanes at once
        value, (da, db) = columns(a, b, k)
        if math.isfinite(value):
            assert_same([float(da[k]), float(db[k])], [0.0 + expected[k][1], 0.0 + expected[k][2]])


def test_rolled_python_has_the_same_bits(tmp_path):
    numbers = [(a, b) for a, b in pairs(20) if a != 0.0 or b != 0.0][:300]
    a, b = (np.array(column) for column in zip(*numbers, strict=True))
    compiled = fg.compile(lambda x, y: [fg.hypot(p, q) for p, q in zip(x, y, strict=True)])
    path = compiled.kernel_for(a, b).save(tmp_path / "lengths.py", rolled=True)
    names: dict = {}
    exec(path.read_text(), names)
    outputs = names["forward"](a.tolist(), b.tolist())
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    assert_same(list(outputs)[: len(numbers)], [fg.hypot(p, q) for p, q in numbers])


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_c_has_the_same_bits(tmp_path):
    numbers = [(a, b) for a, b in pairs(20) if a != 0.0 or b != 0.0]
    a, b = (np.array(column) for column in zip(*numbers, strict=True))
    compiled = fg.compile(lambda x, y: [fg.hypot(p, q) for p, q in zip(x, y, strict=True)])
    path = compiled.kernel_for(a, b).save(tmp_path / "lengths.c")
    library = tmp_path / "lengths.so"
    subprocess.run(["gcc", "-std=c99", "-O2", "-shared", "-fPIC", path, "-o", library, "-lm"], check=True)
    function = ctypes.CDLL(str(library)).forward
    count, kind = len(numbers), ctypes.c_double
    outputs, residuals = (kind * count)(), (kind * (8 * count))()
    fault = function((kind * count)(*a), (kind * count)(*b), outputs, residuals)
    assert fault == 0
    assert_same(list(outputs), [fg.hypot(p, q) for p, q in numbers])


def test_the_function_of_generated_source_needs_only_math():
    """It is copied into modules that run on Python 3.8: nothing but names of `math` and builtins."""
    source = inspect.getsource(scalar.hypot)
    names: dict = {"inf": math.inf, "sqrt": math.sqrt}
    exec(source.replace(": float", "").replace(" -> float", ""), names)
    for a, b in pairs(50):
        assert all_bits([names["hypot"](a, b)]) == all_bits([scalar.hypot(a, b)])


# --- norm -------------------------------------------------------------------------------------------------------------


VECTORS = (
    [3.0, 4.0],
    [0.1, -0.2, 0.3],
    [0.0, 0.0, 0.0],
    [-0.0],
    [1e200, 1.0],
    [math.inf, 1.0],
    [1.0, math.nan],
    [1e-200],
)


@pytest.mark.parametrize("vector", VECTORS, ids=repr)
def test_norm_is_the_root_of_the_sum_of_squares_in_order(vector):
    total = vector[0] * vector[0]
    for x in vector[1:]:
        total += x * x
    assert_same([fg.norm(vector), fg.norm(np.array(vector)), fg.norm(tuple(vector))], [math.sqrt(total)] * 3)
    values = [fg.Value(x) for x in vector]
    out = fg.norm(values)
    out.backward()
    assert_same([out.data], [math.sqrt(total)])
    expected = [value.grad for value in values]
    if total == 0.0:
        assert_same(expected, [0.0] * len(vector))
    elif math.isfinite(total):
        assert expected == pytest.approx([x / math.sqrt(total) for x in vector])
    for backend in BACKENDS:
        value, gradient = fg.value_and_grad(fg.norm, backend=backend)(np.array(vector))
        assert_same([value, *gradient.tolist()], [out.data, *expected])


@pytest.mark.parametrize("backend", BACKENDS)
def test_norm_of_many_elements(backend):
    draw = np.random.default_rng(3)
    vector = draw.normal(size=300)
    values = [fg.Value(x) for x in vector]
    out = fg.norm(values)
    out.backward()
    value, gradient = fg.value_and_grad(fg.norm, backend=backend)(vector)
    assert_same([value, *gradient.tolist()], [out.data, *(v.grad for v in values)])
    value, gradient = fg.value_and_grad(fg.norm, backend=backend)(np.zeros(300))
    assert_same([value, *gradient.tolist()], [0.0] * 301)


def test_norm_takes_vectors_of_any_shape():
    matrix = np.arange(6.0).reshape(2, 3)
    assert fg.norm(matrix) == fg.norm(matrix.tolist()) == fg.norm([matrix[0], matrix[1]]) == math.sqrt(55.0)
    assert fg.norm([]) == fg.norm(np.zeros((0, 2))) == 0.0
    assert fg.norm([3, True]) == math.sqrt(10.0)
    assert fg.norm([fg.Value(3.0), 4.0]).data == 5.0
    mixed = fg.norm(np.array([fg.Value(3.0), fg.Value(4.0)]))
    assert mixed.data == 5.0


@pytest.mark.parametrize("wrong", [3.0, fg.Value(3.0), "34", {"a": 1.0}, None, [1.0, "2"], [1j]])
def test_norm_of_what_is_no_vector(wrong):
    with pytest.raises(fg.InputError):
        fg.norm(wrong)
