"""The errors of a trace: each says what was done and in which line; and what it advises works in that very place."""

# Users write such code.
# ruff: noqa: E712, PLW0108, UP031, UP032

from __future__ import annotations

import ast
import math
import pickle
import random
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy

import flatgrad as fg
from flatgrad import Value

PACKAGE = Path(fg.__file__).parent
DATA = np.array([1.0, 2.0, 3.0])
ROWS = [1.0, 2.0, 4.0, 8.0]
OUTSIDE = Value(1.0) > 0.5
WEIGHT = Value(2.0)
MODEL = fg.nn.MLP(1, [1], seed=0)
STATE = MODEL.state_dict()
OPERANDS = len((WEIGHT * 2.0)._prev)


class Case(NamedTuple):
    """What users write, the words of its error, what it becomes by the remedy, and the result of that."""

    site: str  # words that stand in the package where the error is made
    bad: Any
    words: str
    good: Any
    argument: Any
    value: float
    gradient: Any
    transform: str = "value_and_grad"


ESCAPED: list[Any] = []


def without_source(text: str) -> Any:
    """A function that Python has no source of."""
    names = {"np": np, "fg": fg, "math": math}
    exec(text, names)
    return names["f"]


complex_by_default = without_source("def f(x): return np.array([x + 1j, x * 1j]).imag.sum()")
complex_by_array = without_source("def f(x): return fg.array([x + 1j, x * 1j]).imag.sum()")


def escapes(x):
    ESCAPED.append(x * 2.0)
    return x


def escapes_as_condition(x):
    ESCAPED.append(x > 0.0)
    return x


def assigned(x):
    y = DATA * 2.0 - 2.0
    y[1] = x
    return (y * y).sum()


def assigned_to_values(x):
    y = DATA * 2.0 - 2.0
    y = fg.array(y)
    y[1] = x
    return (y * y).sum()


def assigned_to_objects(x):
    y = np.zeros(3, dtype=object)
    y[1] = x
    return (y * y).sum() + 16.0


def assigned_like(x):
    y = np.zeros_like(fg.array([x]), shape=3)
    y[1] = x
    return (y * y).sum() + 16.0


def assigned_to_list(x):
    y = [0.0, 0.0, 4.0]
    y[1] = x
    return sum(each * each for each in y)


def assigned_outside(x):
    DATA[1] = x
    return (DATA * DATA).sum()


def assigned_to_copy(x):
    copy = fg.array(DATA)
    copy[1] = x
    return (copy * copy).sum()


def changes_its_argument(x):
    x[0] = x[0] * 2.0
    return x.sum()


def changes_a_copy(x):
    x = x.copy()
    x[0] = x[0] * 2.0
    return x.sum()


def without_source(source):
    names = {"math": math, "np": np, "fg": fg}
    exec(source, names)
    return names["f"]


def draws(x):
    return x * random.random()


def writes_data(x):
    x.data = 3.0
    return x


def backward(x):
    y = x * x
    y.backward()
    return y


def training(x):
    fg.nn.train_step(lambda a: WEIGHT * a, fg.nn.SGD(0.1), [WEIGHT])(1.0)
    return x


def fitting(x):
    fg.nn.fit(lambda a, b: (WEIGHT * a[0, 0] - b[0]) ** 2, [WEIGHT], fg.nn.SGD(0.1), np.ones((2, 1)), np.ones(2))
    return x


def loading(x):
    MODEL.load_state_dict(STATE)
    return x


CASES = [
    Case(
        "turning a Value into",
        lambda x: float(x) * x,
        r"by float\(x\),.*Leave float\(\) out",
        lambda x: x * x,
        3.0,
        9.0,
        6.0,
    ),
    Case(
        "turning a Value into",
        lambda x: float(x) * x,
        r"fg\.detach\(x\) is the number",
        lambda x: fg.detach(x) * x,
        3.0,
        9.0,
        3.0,
    ),
    Case(
        "turning a Value into",
        lambda x: x if "%.2f" % x else 0.0,
        r"by '%\.2f' % x,.*shows the number at hand",
        lambda x: x if f"{x}" else 0.0,
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "deciding by the text of a Value",
        lambda x: x if str(x) == "3.0" else 5.0 * x,
        r"Compare the Value itself, as in x == 3\.0",
        lambda x: x if x == 3.0 else 5.0 * x,
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "formatting the number",
        lambda x: x if f"{x:.2f}" else 0.0,
        r"f'\{x:\.2f\}'.*shows the number at hand",
        lambda x: x if f"{x}" else 0.0,
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "has no meaning for Values",
        lambda x: np.float32(x) * x,
        r"np\.float32.*floats of 64 bits.*Leave it out",
        lambda x: x * x,
        3.0,
        9.0,
        6.0,
    ),
    Case(
        "has no meaning for Values",
        lambda x: np.float32(x) * x,
        r"or write np\.float64",
        lambda x: np.float64(x) * x,
        3.0,
        9.0,
        6.0,
    ),
    Case(
        "has no meaning for Values",
        lambda x: math.frexp(x)[0],
        r"write e = fg\.floor\(fg\.log2\(abs\(x\)\)\) \+ 1\.0 and x / 2\.0\*\*e",
        lambda x: x / 2.0 ** (fg.floor(fg.log2(abs(x))) + 1.0),
        3.0,
        0.75,
        0.25,
    ),
    Case(
        "has no meaning for Values",
        lambda x: math.nextafter(x, 4.0),
        r"write x \* \(1\.0 \+ 2\.0\*\*-52\)",
        lambda x: x * (1.0 + 2.0**-52),
        3.0,
        3.0000000000000004,
        1.0,
    ),
    Case(
        "has no meaning for Values",
        lambda x: math.ulp(x) * 2.0**52,
        r"write abs\(x\) \* 2\.0\*\*-52",
        lambda x: abs(x) * 2.0**-52 * 2.0**52,
        2.0,
        2.0,
        1.0,
    ),
    Case(
        "turning a Value into",
        assigned,
        r"assignment to y\[1\], an element of an array of floats,.*y = fg\.array\(y\)",
        assigned_to_values,
        3.0,
        25.0,
        6.0,
    ),
    Case("turning a Value into", assigned, r"np\.zeros\(n, dtype=object\)", assigned_to_objects, 3.0, 25.0, 6.0),
    Case("turning a Value into", assigned, r"np\.zeros_like\(x, shape=n\)", assigned_like, 3.0, 25.0, 6.0),
    Case("turning a Value into", assigned, r"or as a list", assigned_to_list, 3.0, 25.0, 6.0),
    Case(
        "turning a Value into",
        assigned_outside,
        r"assignment to DATA\[1\],.*copy = fg\.array\(DATA\)",
        assigned_to_copy,
        3.0,
        19.0,
        6.0,
    ),
    Case(
        "turning a Value into",
        without_source("def f(x): return math.exp(x)"),
        r"Write fg\.exp\(x\) in place of math\.exp\(x\)",
        without_source("def f(x): return fg.exp(x)"),
        0.0,
        1.0,
        1.0,
    ),
    Case(
        "turning a Value into",
        without_source("def f(x):\n    y = np.zeros(2)\n    y[0] = x\n    return y.sum()"),
        r"an element of an array of floats.*np\.zeros\(n, dtype=object\)",
        without_source("def f(x):\n    y = np.zeros(2, dtype=object)\n    y[0] = x\n    return y.sum()"),
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "meaning[0]",
        without_source("def f(x): return np.exp(np.array([0.0, x])).sum()"),
        r"np\.exp was applied to an array in which floats stand beside Values.*the array by fg\.array\(\[0\.0, x\]\)",
        without_source("def f(x): return np.exp(fg.array([0.0, x])).sum()"),
        0.0,
        2.0,
        1.0,
    ),
    Case(
        "has no return_sign",
        lambda x: scipy.special.logsumexp([x, 1.0], return_sign=True)[0],
        r"leave it out, and let the sum be positive",
        lambda x: scipy.special.logsumexp([x, 1.0]),
        1.0,
        1.0 + math.log(2.0),
        0.5,
    ),
    Case(
        "has no meaning for Values",
        lambda x: Decimal(x) * x,
        r"Decimal has no meaning.*floats of 64 bits here\. Leave it out",
        lambda x: x * x,
        3.0,
        9.0,
        6.0,
    ),
    Case(
        "has no meaning for Values",
        lambda x: Fraction(x) * x,
        r"Fraction has no meaning.*floats of 64 bits here\. Leave it out",
        lambda x: x * x,
        3.0,
        9.0,
        6.0,
    ),
    Case(
        "has no meaning for Values",
        lambda x: x if float.hex(x) else 0.0,
        r"float\.hex has no meaning.*shows the number at hand",
        lambda x: x if f"{x}" else 0.0,
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "turning a Value into",
        lambda x: x if x.hex() else 0.0,
        r"by x\.hex\(\),.*shows the number at hand",
        lambda x: x if f"{x}" else 0.0,
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "turning a Value into",
        lambda x: math.prod(x.as_integer_ratio()),
        r"by x\.as_integer_ratio\(\),.*Write \(x, 1\.0\)",
        lambda x: math.prod((x, 1.0)),
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "meaning[0]",
        lambda x: x[()] * x,
        r"a Value is one number, and was used as an array\. Leave the index out",
        lambda x: x * x,
        3.0,
        9.0,
        6.0,
    ),
    Case(
        "meaning[0]",
        lambda x: sum(each * each for each in x),
        r"was used as an array.*write np\.ravel\(x\)",
        lambda x: sum(each * each for each in np.ravel(x)),
        3.0,
        9.0,
        6.0,
    ),
    Case(
        "meaning[0]",
        lambda x: len(x) * x,
        r"was used as an array.*write np\.ravel\(x\)",
        lambda x: len(np.ravel(x)) * x,
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "turning a Value into",
        lambda x: scipy.interpolate.CubicSpline(DATA, [1.0, x, 9.0])(1.5),
        r"by scipy\.interpolate\.CubicSpline.*Write fg\.CubicSpline\(x, y\)",
        lambda x: fg.CubicSpline(DATA, [1.0, x, 9.0])(1.5),
        4.0,
        2.25,
        0.75,
    ),
    Case(
        "turning a Value into",
        lambda x: scipy.interpolate.interp1d(DATA, [1.0, x, 9.0])(1.5),
        r"by scipy\.interpolate\.interp1d.*Write fg\.interp\(x, xp, fp\)",
        lambda x: fg.interp(1.5, DATA, [1.0, x, 9.0]),
        4.0,
        2.5,
        0.5,
    ),
    Case(
        "turning a Value into",
        lambda x: scipy.interpolate.PchipInterpolator(DATA, [1.0, x, 9.0])(1.5),
        r"PchipInterpolator.*Write fg\.CubicSpline\(x, y\)\(\.\.\.\)",
        lambda x: fg.CubicSpline(DATA, [1.0, x, 9.0])(1.5),
        4.0,
        2.25,
        0.75,
    ),
    Case(
        "a float was used as an integer",
        lambda x: ROWS[x] * x,
        r"by ROWS\[x\]; write int\(x\) in its place",
        lambda x: ROWS[int(x)] * x,
        2.0,
        8.0,
        4.0,
    ),
    Case(
        "a float was used as an integer",
        lambda x: sum(x for _ in range(x)),
        r"by range\(x\); write int\(x\)",
        lambda x: sum(x for _ in range(int(x))),
        2.0,
        4.0,
        2.0,
    ),
    Case(
        "reading .data of a Value",
        lambda x: x.data * x,
        r"with fg\.detach\(value\)",
        lambda x: fg.detach(x) * x,
        3.0,
        9.0,
        3.0,
    ),
    Case(
        "reading .grad of a Value",
        lambda x: x.grad * x,
        r"Use fg\.grad or fg\.value_and_grad inside the function",
        lambda x: fg.grad(lambda y: y * y)(x) * x,
        3.0,
        18.0,
        12.0,
    ),
    Case(
        "writing .data of a Value",
        writes_data,
        r"Assign the new number to a variable",
        lambda x: x * 0.0 + 3.0,
        3.0,
        3.0,
        0.0,
    ),
    Case(
        "reading .data of a condition",
        lambda x: x if (x > 1.0).data else -x,
        r"Select with fg\.where\(condition, a, b\)",
        lambda x: fg.where(x > 1.0, x, -x),
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "copying or pickling a Value",
        lambda x: pickle.loads(pickle.dumps(x)) * x,
        r"Use the Value itself in place of the copy",
        lambda x: x * x,
        3.0,
        9.0,
        6.0,
    ),
    Case(
        "calling backward()",
        backward,
        r"Use fg\.value_and_grad or fg\.grad inside the function",
        lambda x: fg.grad(lambda y: y * y)(x),
        3.0,
        6.0,
        2.0,
    ),
    Case(
        "using a traced Value as a key",
        lambda x: {x: 2.0}[x] * x,
        r"use id\(value\) as the key",
        lambda x: {id(x): 2.0}[id(x)] * x,
        3.0,
        6.0,
        2.0,
    ),
    Case(
        "using a comparison of Values to choose",
        lambda x: x if OUTSIDE else -x,
        r"Compare the Values inside of the function",
        lambda x: x if Value(1.0) > 0.5 else -x,
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "comparing a condition with",
        lambda x: x if OUTSIDE == True else -x,
        r"Compare the Values inside of the function",
        lambda x: x if (Value(1.0) > 0.5) == True else -x,
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "using a condition as a key",
        lambda x: {True: x}[OUTSIDE],
        r"Compare the Values inside of the function",
        lambda x: {True: x}[Value(1.0) > 0.5],
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "a condition made before the function was traced",
        lambda x: fg.where(OUTSIDE, x, -x),
        r"compare the Values inside the function",
        lambda x: fg.where(Value(1.0) > 0.5, x, -x),
        3.0,
        3.0,
        1.0,
    ),
    Case(
        "refuse(message)",
        complex_by_default,
        r"write fg\.array\(\[\.\.\.\]\)",
        complex_by_array,
        3.0,
        4.0,
        1.0,
    ),
    Case(
        "asks for the class of a number",
        without_source("def f(x): return x * 2.0 if isinstance(x, float) else x"),
        r"Write isinstance\(x, \(float, fg\.Value\)\)",
        without_source("def f(x): return x * 2.0 if isinstance(x, (float, fg.Value)) else x"),
        3.0,
        6.0,
        2.0,
    ),
    Case(
        "NumPy has no difference of two truth values",
        lambda x: ((x[0] > 0.0) - (x[1] > 0.0)) * x[1],
        r"write a \^ b, or 1 \* a - b",
        lambda x: ((x[0] > 0.0) ^ (x[1] > 0.0)) * x[1] + (1 * (x[0] > 0.0) - (x[1] > 3.0)) * x[0],
        np.array([2.0, 3.0]),
        2.0,
        [1.0, 0.0],
    ),
    Case(
        "NumPy has no negative of a truth value",
        lambda x: -(x[0] > 0.0) * x[1],
        r"write ~a, or -1 \* a",
        lambda x: (-1 * (x[0] > 0.0)) * x[1] + ~(x[0] > 0.0) * x[0],
        np.array([2.0, 3.0]),
        -3.0,
        [0.0, -1.0],
    ),
    Case(
        "comparing Values with == or !=",
        lambda x: x * 2.0 if x == WEIGHT else x,
        r"Use fg\.equal\(a, b\) inside fg\.where",
        lambda x: fg.where(fg.equal(x, WEIGHT), x * 2.0, x),
        2.0,
        4.0,
        2.0,
        "compile",
    ),
    Case(
        "comparing a Value with == or !=",
        lambda x: x * 2.0 if x == 2.0 else x,
        r"Use fg\.equal\(a, b\) inside fg\.where",
        lambda x: fg.where(fg.equal(x, 2.0), x * 2.0, x),
        2.0,
        4.0,
        2.0,
        "compile",
    ),
    Case(
        "a Value has no truth value",
        lambda x: x * 2.0 if x else x,
        r"compare it with a number \(value > 0\)",
        lambda x: x * 2.0 if x > 0 else x,
        2.0,
        4.0,
        2.0,
        "compile",
    ),
    Case(
        "changes its argument",
        changes_its_argument,
        r"Return it instead, or work on a copy",
        changes_a_copy,
        np.array([1.0, 2.0]),
        4.0,
        [2.0, 1.0],
    ),
    Case(
        "draws random numbers",
        draws,
        r"Draw them before the call, and pass them as an argument",
        lambda x, drawn=0.5: x * drawn,
        3.0,
        1.5,
        0.5,
    ),
    Case(
        "a function that is being traced has no graph yet",
        lambda x: x * len(x._prev),
        r"Look at the graph outside of it",
        lambda x: x * OPERANDS,
        3.0,
        6.0,
        2.0,
    ),
    Case(
        "making a training step",
        training,
        r"Call the step outside of the compiled function",
        lambda x: x,
        3.0,
        3.0,
        1.0,
    ),
    Case("training a model", fitting, r"Call fit outside of the compiled function", lambda x: x, 3.0, 3.0, 1.0),
    Case("loading parameters", loading, r"Load them outside of the compiled function", lambda x: x, 3.0, 3.0, 1.0),
    Case(
        "{number!r} cannot be used as an integer",
        lambda x: x * len(range(2**60 + round(x) - 2**60)) if round(x * 2.0**60) % 2 == 0 else x,
        r"cannot be used as an integer; whole numbers of less than 2\*\*53 can",
        lambda x: x * (round(x * 2.0**10) % 2 + 1),
        3.0,
        3.0,
        1.0,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.site[:30])
def test_the_remedy_works(case):
    f, g = (getattr(fg, case.transform)(function) for function in (case.bad, case.good))
    argument = Value(case.argument) if case.transform == "compile" else case.argument
    for _ in range(2):
        with pytest.raises(fg.TraceError, match=f"(?s){case.words}") as caught:
            f(argument)
        assert '\n  File "' in str(caught.value), "the user's line"
        assert "callable" not in str(caught.value)
    assert f.kernels == []
    result = g(argument)
    if case.transform == "compile":
        result.backward()
        result = result.data, argument.grad
    assert result[0] == pytest.approx(case.value, rel=1e-14)
    np.testing.assert_allclose(result[1], case.gradient, rtol=1e-14)


@pytest.mark.parametrize(("function", "words"), [(escapes, "this Value"), (escapes_as_condition, "this condition")])
def test_what_has_escaped(function, words):
    ESCAPED.clear()
    fg.grad(function)(1.0)
    with pytest.raises(fg.TraceError, match=f"{words} was created while a function was being traced and has escaped"):
        fg.where(ESCAPED[-1], 1.0, 2.0) if function is escapes_as_condition else ESCAPED[-1] + 1.0
    assert fg.jit(lambda x: [x, x * 2.0])(1.0) == [1.0, 2.0], "it is returned instead"


def test_texts_that_people_read(capsys):
    def f(x):
        print(f"{x:.2f}", "%.1f" % x, "{:.3f}".format(x))
        assert x < 5.0, f"{x:6.2f} is too large"
        if x > 4.0:
            raise ValueError(f"{x:.1e}")
        return x * x

    g = fg.grad(f)
    assert g(2.0) == 4.0
    assert capsys.readouterr().out == "2.00 2.0 2.000\n"
    with pytest.raises(ValueError, match=r"4\.5e\+00"):
        g(4.5)
    with pytest.raises(AssertionError, match=r"  6\.00 is too large"):
        g(6.0)


def test_an_exception_shows_numbers():
    def f(x):
        if x < 0.0:
            raise ValueError("negative", x)
        return x

    with pytest.raises(ValueError, match="negative") as caught:
        fg.grad(f)(-2.0)
    assert caught.value.args == ("negative", -2.0)
    with pytest.raises(ValueError, match="negative") as caught:
        fg.compile(f)(Value(-2.0))
    assert caught.value.args[1].data == -2.0


def test_a_key_error_shows_the_int():
    with pytest.raises(KeyError) as caught:
        fg.jit(lambda k, x: {1: 2.0}[k] * x)(3, 2.0)
    assert repr(caught.value) == "KeyError(3)"
    with pytest.raises(KeyError) as caught:
        fg.grad(lambda x: {1: 2.0}[int(x)] * x)(3.5)
    assert repr(caught.value) == "KeyError(3)"


def test_errors_of_others_stay():
    with pytest.raises(TypeError, match="unsupported operand"):
        fg.grad(lambda x: [1.0] - {1.0} + x)(1.0)
    with pytest.raises(TypeError, match="'NoneType' object is not subscriptable"):
        fg.grad(lambda x: None[0] + x)(1.0)
    with pytest.raises(AttributeError, match="nothing"):
        fg.grad(lambda x: x.nothing)(1.0)


#: Errors that no test here can bring about, with words of each, and why.
ELSEWHERE = {
    "_CHOOSES": "a trace without numbers is the package's own",
    "using an integer as its value": "a trace without numbers is the package's own",
    "using a Value as an integer": "a trace without numbers is the package's own",
    "other truth values": "a function that does another thing each time: tests of ways",
    "truth values than were given": "a function that does another thing each time",
    "truth values than before": "a function that does another thing each time",
    "too many to be written out": "millions of equations: tests of scan and families",
    "escaped": "tested above",
    "is traced by another thread": "takes a minute",
    "done.text or remedy": "",
    "guard(": "",
}


def test_every_error_of_a_trace_has_a_case():
    words = [case.site for case in CASES] + [*ELSEWHERE]
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if re.search(r"\b(forbidden|refuse)\b", source) else ():
            name = getattr(getattr(node, "func", None), "id", "")
            if isinstance(node, ast.Call) and name in ("forbidden", "refuse") and path.name != "tracing.py":
                text = ast.unparse(node)
                if not any(each in text for each in words) and text != "forbidden(what, remedy)":
                    missing.append(f"{path.name}: {text}")
    assert missing == []
