"""A `Value` turns into a plain number by `.data` alone: anything else would lose its gradient without a word."""

from __future__ import annotations

import cmath
import decimal
import fractions
import json
import math
import statistics

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value

HEAD = """\
import array
import cmath
import math
import statistics

import numpy as np


def f(v, zeros):
"""
#: Statements with a Value `v` and an array of floats that ask for a plain number.
CONVERSIONS = [
    "float(v)", "int(v)", "complex(v)", "math.exp(v)", "math.hypot(v, 1.0)",
    "math.fsum([v])", "math.isnan(v)", "math.isclose(v, 1.0)",
    "cmath.exp(v)", "statistics.mean([v, v])", "statistics.fmean([v, v])", "'%f' % v", "'%.3e' % (v,)",
    "array.array('d', [v])", "zeros[0] = v", "zeros[:] = v", "zeros[:2] = [v, 1.0]", "np.array([v], dtype=float)",
    "np.array([[v, v]], dtype=float)", "np.asarray([v, 1.0], dtype=float)", "np.asarray(v, dtype=np.float32)",
    "np.array([v]).astype(float)", "np.array([v], dtype=int)", "np.array([v], dtype=complex)", "np.float64(v)",
    "np.float32(v)", "zeros.fill(v)", "np.fromiter([v], dtype=float)", "np.sum([v, v], dtype=float)",
]  # fmt: skip
#: Those of them that a trace cannot take over, each with what its error advises.
REFUSED = {
    "float(v)": "Leave float() out", "'%f' % v": "shows the number at hand",
    "'%.3e' % (v,)": "shows the number at hand", "zeros[0] = v": "zeros = fg.array(zeros)",
    "zeros[:] = v": "zeros = fg.array(zeros)", "zeros[:2] = [v, 1.0]": "zeros = fg.array(zeros)",
    "np.asarray(v, dtype=np.float32)": "np.asarray takes plain numbers only",
    "np.array([v], dtype=int)": "np.array takes plain numbers only",
    "np.float32(v)": "Leave it out, or write np.float64", "zeros.fill(v)": "zeros.fill takes plain numbers only",
}  # fmt: skip


@pytest.mark.parametrize("statement", CONVERSIONS)
def test_what_would_lose_the_gradient(module_from, statement):
    module = module_from(f"{HEAD}    {statement}\n")
    for v in (Value(1.0), Value(0.5) * 2.0):
        zeros = np.zeros(2)
        with pytest.raises(fg.InputError) as caught:
            module.f(v, zeros)
        message = str(caught.value)
        assert "value.data" in message
        assert "fg.exp" in message
        assert f'user_code.py", line {HEAD.count(chr(10)) + 1}\n    {statement}' in message
        assert isinstance(caught.value, TypeError), "the class that micrograd's Value raises here"


@pytest.mark.parametrize("statement", REFUSED)
def test_what_would_freeze_a_number_while_tracing(module_from, statement):
    module = module_from(f"{HEAD}    {statement}\n    return v * 2.0\n")
    zeros = np.zeros(2)
    with pytest.raises(fg.TraceError) as caught:
        fg.grad(lambda x: module.f(x, zeros))(1.0)
    assert f'user_code.py", line {HEAD.count(chr(10)) + 1}\n    {statement}' in str(caught.value)
    assert REFUSED[statement] in str(caught.value)


@pytest.mark.parametrize("statement", [each for each in CONVERSIONS if each not in REFUSED])
def test_what_is_taken_over_while_tracing(module_from, statement):
    module = module_from(f"{HEAD}    {statement}\n    return v * 2.0\n")
    assert fg.value_and_grad(lambda x: module.f(x, np.zeros(2)))(0.5) == (1.0, 2.0)


def test_constants_follow_the_same_rule_while_tracing():
    def f(x):
        with pytest.raises(fg.InputError, match=r"value\.data"):
            math.exp(Value(1.0))
        return x * math.exp(Value(1.0).data)

    assert fg.grad(f)(1.0) == math.e


# --- the remedies that the errors name --------------------------------------------------------------------------------


def test_functions_of_the_package_keep_the_gradient():
    w = Value(1.0)
    (fg.exp(w) * w).backward()
    assert w.grad == 2 * math.e
    assert fg.grad(lambda x: fg.exp(x) * x)(1.0) == 2 * math.e


def test_data_is_the_number_without_its_gradient():
    w = Value(1.0)
    (math.exp(w.data) * w).backward()
    assert w.grad == math.e
    assert (float(w.data), int(w.data), round(w.data), math.floor(w.data), f"{w.data:f}") == (1.0, 1, 1, 1, "1.000000")
    assert statistics.mean([w.data, 3.0]) == 2.0
    assert np.array([w.data, w.data]).dtype == np.float64


def test_detach_is_the_number_without_its_gradient_while_tracing():
    assert fg.grad(lambda x: fg.exp(fg.detach(x)) * x)(1.0) == math.e


def test_static_argnames_make_an_integer():
    f = fg.grad(lambda x, n: sum(x * k for k in range(int(n))), static_argnames="n")
    assert (f(1.0, 3), f(1.0, 4)) == (3.0, 6.0)


def test_arrays_of_objects_hold_values():
    w = Value(1.0)
    h = np.zeros(2, dtype=object)
    h[0] = w * w
    (h[0] * w).backward()
    assert w.grad == 3.0


# --- what stays -------------------------------------------------------------------------------------------------------


def test_formatting_shows_the_number():
    v = Value(1.5, label="v")
    assert (f"{v:.3f}", f"{v:8.2e}", f"{v:>6g}", "{:+.1f}".format(v)) == ("1.500", "1.50e+00", "   1.5", "+1.5")  # noqa: UP032
    assert (f"{v}", str(v), f"{v!r}", "%s" % v) == ("Value(data=1.5, grad=0.0)",) * 4  # noqa: UP031


def test_numbers_of_the_package_are_floats():
    """What is read from a Value, or returned by a gradient, goes anywhere."""
    v = Value(1.0)
    (v * v).backward()
    assert json.dumps([v.data, v.grad]) == "[1.0, 2.0]"
    value, gradient = fg.value_and_grad(lambda x: x * x)(3.0)
    assert (math.sqrt(value), fractions.Fraction(gradient), decimal.Decimal(value), cmath.sqrt(value)) == (3.0, 6, 9, 3)


@pytest.mark.parametrize("attribute", ["data", "grad"])
def test_a_value_is_no_number_to_be_stored(attribute):
    """`a.data = b` would lose the gradient of b; `a.data = b.data` says so."""
    a, b = Value(1.0), Value(2.0)
    with pytest.raises(fg.InputError, match=r"value\.data"):
        setattr(a, attribute, b)
    assert (a.data, a.grad) == (1.0, 0.0)
    setattr(a, attribute, b.data)
    assert getattr(a, attribute) == 2.0


def test_a_conversion_that_is_caught_is_no_branch():
    """Both kinds of code take the same way: an error, where floats would have gone on."""

    def angle(x):
        try:
            return float(x) % 6.25
        except ValueError:
            return 0.0

    with pytest.raises(fg.InputError):
        angle(Value(7.0))
    with pytest.raises(fg.TraceError):
        fg.grad(angle)(7.0)
