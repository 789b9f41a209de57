"""Where functions raise: gradients without the value, and functions that give inf and NaN instead."""

from __future__ import annotations

import itertools
import math
import random
import struct

import numpy as np
import pytest
from hypothesis import given

import flatgrad as fg
from flatgrad.runtime import primitives as p
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import ARITHMETIC, all_bits, assert_same
from tests.programs import SPECIAL, by_interpreter, flatgrad_outcome, programs

BACKENDS = ["python", "numpy", "native"]
RAISING = [row for row in BY_NAME.values() if row.raises]


def raises(row, operands):
    try:
        row.evaluate(*operands)
    except ARITHMETIC:
        return True
    return False


def neighbours(x, count):
    """The floats around one, by their bits."""
    (bits,) = struct.unpack("<q", struct.pack("<d", x))
    return [struct.unpack("<d", struct.pack("<q", bits + k))[0] for k in range(-count, count + 1)]


# --- the conditions in the table --------------------------------------------------------------------------------------

DRAW = random.Random(5)
POINTS = [
    *SPECIAL, -2.0, 1.5, -0.5, 709.0, 710.0, -709.5, 1e154, -1.4e154, 5e102, 6e102, 1e-154, 1e-160, -5e-309, 6e-309,
    *(DRAW.uniform(-3.0, 3.0) for _ in range(100)),
    *(struct.unpack("<d", DRAW.randbytes(8))[0] for _ in range(2000)),
]  # fmt: skip
EXPONENTS = [
    2.0, 3.0, -1.0, 0.5, -0.5, 1.0, 0.0, -0.0, 1.5, -2.5, -2.0, 7.0, 0.1, -0.1, 1e300, -1e300, 1e-300, 5e-324, 1001.0,
    math.inf, -math.inf, math.nan,
]  # fmt: skip


@pytest.mark.parametrize("row", [row for row in RAISING if row.arity == 1], ids=lambda row: row.name)
def test_the_condition_says_where_a_row_raises(row):
    for x in POINTS:
        assert bool(row.fault(x)) is raises(row, [x]), x


def test_the_condition_of_a_division():
    for a, b in itertools.product(SPECIAL, SPECIAL):
        assert p.div.fault(a, b) is raises(p.div, [a, b])


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_the_condition_of_a_power(exponent):
    for base in POINTS:
        assert bool(p.power.fault(base, exponent)) is raises(p.power, [base, exponent]), base


@pytest.mark.parametrize("name", ["exp", "expm1", "sinh", "cosh"])
def test_the_last_argument_without_overflow(name):
    """The limit is found by halving; around it, nothing comes out of order."""
    row = BY_NAME[name]
    limit = p._last_sound(getattr(math, name), 1.0, 1e3)
    assert 709.0 < limit < 711.0
    for x in neighbours(limit, 2000):
        for signed in (x, -x):
            assert bool(row.fault(signed)) is raises(row, [signed]), signed


@pytest.mark.parametrize("exponent", [k for k in EXPONENTS if math.isfinite(k) and k])
def test_the_last_base_without_overflow(exponent):
    limit = p._power_limit(exponent)
    around = neighbours(limit, 500) if 1e-320 < limit < 1e308 else [limit]
    for base in (*around, *(-base for base in around)):
        assert bool(p.power.fault(base, exponent)) is raises(p.power, [base, exponent]), base


# --- gradients without the value --------------------------------------------------------------------------------------

#: Functions of which the gradient does not need an operation that raises, and a point where that does.
DEAD = {
    "log": (lambda x: x.log(), -1.0, 2.0),
    "log1p": (lambda x: x.log1p(), -2.0, 2.0),
    "square": (lambda x: x**2, 1e200, 2.0),
    "square of a negative number": (lambda x: (x - 1.0) ** 2, -1e200, 2.0),
    "cube": (lambda x: x**3, -1e103, 2.0),
    "reciprocal of a tiny number": (lambda x: 1.0 / x, 1e-310, 2.0),
    "exp": (lambda x: x + fg.detach(x).exp(), 710.0, 2.0),
    "expm1": (lambda x: x + fg.detach(x).expm1(), 710.0, 2.0),
    "sinh": (lambda x: x + fg.detach(x).sinh(), -711.0, 2.0),
    "cosh": (lambda x: x + fg.detach(x).cosh(), -711.0, 2.0),
    "sqrt": (lambda x: x + fg.detach(x).sqrt(), -1.0, 2.0),
    "sin": (lambda x: x + fg.detach(x).sin(), math.inf, 2.0),
    "cos": (lambda x: x + fg.detach(x).cos(), -math.inf, 2.0),
    "tan": (lambda x: x + fg.detach(x).tan(), math.inf, 2.0),
    "asin": (lambda x: x + fg.detach(x).asin(), 1.5, 0.5),
    "acos": (lambda x: x + fg.detach(x).acos(), -1.5, 0.5),
    "quotient": (lambda x: x + fg.div(1.0, fg.detach(x)), 0.0, 2.0),
    "a base alone": (lambda x: x + 2.0 ** fg.detach(x), 5000.0, 2.0),
    "both": (lambda x: x + fg.detach(x) ** fg.detach(x), -0.5, 2.0),
    "a fractional power": (lambda x: x + fg.detach(x) ** 1.5, -0.5, 2.0),
    "a constant": (lambda x: x + fg.log(x * 0.0 - 1.0), 1.0, None),
    "logarithms, behind others": (lambda x: (x.log() * 2.0).log(), 0.5, 3.0),
    "behind a comparison": (lambda x: fg.where(x.log() > 0.0, x, x), -1.0, 2.0),
}


def outcome(function, *arguments):
    """What a call returns; or what it raises, with class, message and the user's line."""
    try:
        return all_bits(np.ravel(function(*arguments)).tolist())
    except fg.FlatgradError as error:
        return type(error), str(error)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", DEAD)
def test_a_gradient_raises_where_the_value_does(name, backend):
    function, bad, good = DEAD[name]
    both, alone = fg.value_and_grad(function, backend=backend), fg.grad(function, backend=backend)
    expected = outcome(both, bad)
    assert type(expected) is tuple
    assert outcome(alone, bad) == expected
    assert outcome(fg.grad(lambda x: alone(x) * 1.0, backend=backend), bad) == expected
    for x in (good, math.nan):
        if x is not None:
            assert outcome(alone, x) == outcome(lambda x: both(x)[1], x)


def test_what_a_gradient_computes_of_a_logarithm():
    """The domain is compared; no logarithm is computed."""
    program = fg.grad(fg.log, backend="python").kernel_for(1.0).program
    names = [equation.primitive.name for equation in program.equations()]
    assert names == ["div", "add", "less_equal", "checked"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.exp(), lambda x: x.tanh() * x, lambda x: x.sqrt(), lambda x: x.sin(), lambda x: x**1.0,
        lambda x: 1.0 / (1.0 + x.exp()) ** 1.0, lambda x: fg.div(x, x + 1.0), lambda x: fg.div(x, 3.0),
        lambda x: x.tan(),
    ],
)  # fmt: skip
def test_nothing_is_compared_without_need(function):
    """Where nothing can raise, or where what is computed anyway raises there, too."""
    source = fg.grad(function, backend="python").kernel_for(1.0).source
    assert "raise" not in source


def test_the_reciprocal_of_a_reciprocal_power():
    """Whatever overflows in `x ** -2` overflows in its partial, which is computed."""
    source = fg.grad(lambda x: x**-2, backend="python").kernel_for(1.0).source
    assert "raise" not in source
    with pytest.raises(fg.RangeError, match=r"power\(1e-200, -2\.0\)"):
        fg.grad(lambda x: x**-2)(1e-200)


def logs(x):
    return sum(fg.log(t) for t in x) + sum((1.0 - t) ** 2 for t in x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("place", [0, 1, 7, 8, 63, 99])
@pytest.mark.parametrize("number", [-1.0, 0.0, 1e200])
def test_each_lane_is_compared(place, number, backend):
    f = fg.grad(logs, backend=backend)
    X = np.linspace(0.5, 3.0, 100)
    assert_same(f(X).tolist(), fg.value_and_grad(logs, backend=backend)(X)[1].tolist())
    X[place] = number
    assert outcome(f, X) == outcome(fg.value_and_grad(logs, backend=backend), X)
    assert type(outcome(f, X)) is tuple


def test_many_domains_are_one_fold():
    """The comparisons of 2,000 lanes are one statement, and so are the gradients that depend on it."""
    arrays = fg.grad(logs, backend="numpy").kernel_for(np.ones(2000)).arrays
    text = str(arrays)
    assert "[r:2000](less_equal(x[r], 0.0))" in text
    assert "x_bar[i:2000] = checked(" in text
    assert arrays.stats.scalars == 0
    assert len(arrays.statements) <= 4


@pytest.mark.parametrize("rolled", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_saved_modules_raise(tmp_path, backend, rolled):
    path = fg.grad(logs, backend=backend).kernel_for(np.ones(20)).save(tmp_path / "slope.py", rolled=rolled)
    namespace: dict = {}
    exec(path.read_text(encoding="utf-8"), namespace)
    X = [0.5 + k / 10 for k in range(20)]
    assert_same(list(map(float, namespace["grad"](X))), fg.grad(logs)(X))
    for bad in (-1.0, 1e200):
        with pytest.raises((ValueError, ArithmeticError)):
            namespace["grad"]([*X[:7], bad, *X[8:]])


def test_aux_is_computed_and_raises_by_itself():
    f = fg.grad(lambda x: (x * 2.0, x.log()), has_aux=True)
    assert f(1.0) == (2.0, 0.0)
    with pytest.raises(fg.DomainError, match="log needs x > 0"):
        f(-1.0)


def test_what_nothing_depends_on_does_not_raise():
    def f(x):
        x.log()
        return x * 2.0

    assert fg.grad(f)(-1.0) == 2.0


def test_inlined_and_outer_gradients():
    inner = fg.grad(fg.log)
    outer = fg.value_and_grad(lambda x: inner(x) * x)
    assert outer(2.0) == (1.0, 0.0)
    with pytest.raises(fg.DomainError, match=r"log\(-1\.0\): log needs x > 0\n.*test_faults"):
        outer(-1.0)


@given(programs(max_steps=10))
def test_random_gradients_raise_where_the_value_does(program):
    """The same bits as with the value, or an exception of the same class."""
    arity = len(program.inputs)
    both = fg.value_and_grad(lambda *x: program.run(x)[0], argnums=tuple(range(arity)), backend="python")
    expected = flatgrad_outcome(lambda: both(*program.inputs)[1])
    for backend in ("python", "numpy"):
        alone = fg.grad(lambda *x: program.run(x)[0], argnums=tuple(range(arity)), backend=backend)
        actual = flatgrad_outcome(lambda alone=alone: alone(*program.inputs))
        assert (actual.error, actual.bits) == (expected.error, expected.bits), program
    assert by_interpreter(program).error is expected.error
