"""What would freeze one example's number into the program raises: the user's line, and what to write instead."""

from __future__ import annotations

import pytest

import flatgrad as fg
from flatgrad import Value

#: The offending expression, and words that the remedy must contain. `w` is a parameter reached from outside.
FORBIDDEN = [
    ("x.data", "fg.detach"),
    ("w.data", "fg.detach"),
    ("(x * w).data", "fg.detach"),
    ("x.grad", "fg."),
    ("w.grad", "fg."),
    ("setattr(x, 'data', 1.0)", "fg."),
    ("setattr(w, 'data', 1.0)", "fg."),
    ("setattr(x, 'grad', 1.0)", "fg."),
    ("setattr(w, 'grad', 0.0)", "fg."),
    ("float(x)", "fg.detach"),
    ("float(w)", "fg.detach"),
    ("x.as_integer_ratio()", "Write (x, 1.0)"),
    ("w == 0", "fg.equal"),
    ("x * w == w", "fg.equal"),
    ("x.backward()", "fg.value_and_grad"),
    ("(x * w).backward()", "fg.value_and_grad"),
    ("w.backward()", "fg.value_and_grad"),
    ("(x > 0).data", "fg.where"),
    ("len((x * w)._prev)", "outside of it"),
    ("(x * w)._op", "outside of it"),
    ("(x > w)._prev", "outside of it"),
    ("bool(w)", "compare"),
    ("range(x)", "pass an int"),
    ("[1.0, 2.0][x]", "pass an int"),
    ("'ab'[x:]", "pass an int"),
    ("random.choice([1.0, 2.0]) * [w][x]", "pass an int"),
]
TRANSFORMS = {"compile": fg.compile, "value_and_grad": fg.value_and_grad, "grad": fg.grad}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("expression", "remedy"), FORBIDDEN, ids=[e for e, _ in FORBIDDEN])
def test_a_number_that_would_be_frozen(module_from, expression, remedy, transform):
    head = "import random\n\nfrom flatgrad import Value\n\nw = Value(3.0)\n\n\n"
    module = module_from(f"{head}def f(x):\n    {expression}\n    return x * w\n")
    module.w.grad = 7.0
    with pytest.raises(fg.TraceError) as caught:
        TRANSFORMS[transform](module.f)(1.0)
    message = str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert 'user_code.py", line 9' in message, "the user's line"
    assert expression in message, "its text"
    assert remedy in message, "what to write instead"
    assert (module.w.data, module.w.grad) == (3.0, 7.0)


def test_the_lines_innermost_user_frame_is_named(module_from):
    module_from("def helper(v):\n    return v.data\n", "user_helper")
    module = module_from("def g(v):\n    return v.data\n\n\ndef f(x):\n    return g(x)\n")
    with pytest.raises(fg.TraceError, match=r"line 2\n    return v\.data"):
        fg.grad(module.f)(1.0)


def test_constants_may_be_read():
    """Numbers, and `Value`s made from numbers while tracing, are no example's numbers."""

    def f(x):
        c = Value(2.0)
        c.data = c.data + 1.0
        c.grad = 0.0
        if c > 0 and Value(1.0) < 2.0 and c.data == 3.0:
            return x * c + int(Value(4.0).data)
        return x

    assert fg.value_and_grad(f)(5.0) == (19.0, 3.0)


def test_wrapping_a_traced_value_is_that_value():
    assert fg.grad(lambda x: Value(x) * Value(3.0))(1.0) == 3.0


def test_reading_is_allowed_again_after_tracing():
    w = Value(3.0)
    fg.grad(lambda x: x * w)(1.0)
    with pytest.raises(fg.TraceError):
        fg.grad(lambda x: x * w.data)(1.0)
    assert (w.data, f"{w:.1f}", w == Value(3.0)) == (3.0, "3.0", False)


@pytest.mark.parametrize(
    "use",
    [
        lambda v: v.data,
        lambda v: v * 2.0,
        lambda v: 2.0 + v,
        lambda v: v.tanh(),
        lambda v: Value(1.0) * v,
        lambda v: fg.maximum(v, 1.0),
        lambda v: v.backward(),
        float,
        lambda v: fg.grad(lambda x: x * v)(1.0),
        lambda v: fg.compile(lambda x: x * v)(Value(1.0)),
        fg.compile_graph,
        fg.compile(lambda x: x * 2.0),
    ],
)
def test_a_value_that_escapes_from_its_trace_is_of_no_use(use):
    escaped = []

    def f(x):
        escaped.append(x * 2.0)
        return x

    assert fg.grad(f)(1.0) == 1.0
    with pytest.raises(fg.TraceError, match="escaped"):
        use(escaped[0])
    assert fg.grad(lambda x: x * 3.0)(1.0) == 3.0, "nothing is left behind"


def test_a_condition_that_escapes():
    escaped = []

    def f(x):
        escaped.append(x > 0)
        return x

    fg.grad(f)(1.0)
    with pytest.raises(fg.TraceError, match="escaped"):
        bool(escaped[0])
    with pytest.raises(fg.TraceError, match="escaped"):
        fg.where(escaped[0], 1.0, 2.0)


def test_a_condition_made_before_tracing():
    w = Value(1.0)
    condition = w > 0
    with pytest.raises(fg.TraceError, match="compare the Values inside the function"):
        fg.grad(lambda x: fg.where(condition, x, -x))(1.0)


def test_printing_a_traced_value_shows_the_number_at_hand():
    shown = []

    def f(x):
        w = Value(2.0)
        shown.extend([repr(x), f"{x * 2.0}", str(x > 0), repr(fg.log(x - 5.0)), repr(w), repr(outer)])
        return x

    outer = Value(7.0)
    g = fg.grad(f)
    g(1.0)
    assert shown[:3] == ["Value(data=1.0)", "Value(data=2.0)", "Condition(True)"]
    assert shown[3:5] == ["Value(data=<DomainError>)", "Value(data=2.0, grad=0.0)"]
    assert "7.0" not in shown[5]
    assert g(2.0) == 1.0
    assert len(shown) == 6, "a number that is shown is no guard"


def test_side_effects_happen_once():
    calls = []

    def f(x):
        calls.append(1)
        return x * 3.0

    g = fg.grad(f)
    assert g(1.0) == g(2.0) == 3.0
    assert calls == [1]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x if f"{x}" == "3.0" else 5.0 * x,
        lambda x: x if repr(x) != "3.0" else 5.0 * x,
        lambda x: -x if str(x).startswith("-") else x,
        lambda x: x * len(str(x)),
        lambda x: x * {"3.0": 2.0}.get(f"{x}", 1.0),
        lambda x: x if "." in str(x) else 5.0 * x,
        lambda x: x if str(x)[11:14] == "3.0" else 5.0 * x,
        lambda x: x if str(x)[20:] else 5.0 * x,
        lambda x: x if str(x).partition("-")[1] else 5.0 * x,
        lambda x: x * len(str(x).strip("Value()")),
        lambda x: x * {"3.0": 2.0}.get(str(x).replace("Value(data=", "")[:-1], 1.0),
        lambda x: x * str(x).ljust(30).count(" "),
        lambda x: x * len(str(x).split("-")),
    ],
)
def test_nothing_depends_on_the_text_of_a_value(function):
    with pytest.raises(fg.TraceError, match="deciding by the text of a Value"):
        fg.jit(function)(3.0)


def test_texts_of_values_may_be_kept_and_read(capsys):
    texts = []

    def noted(x):
        texts.append(str(x))
        message = f"{x}" + " metres"
        print(message, x, [x])
        return x

    fg.jit(noted)(3.0)
    assert texts == ["Value(data=3.0)"]
    assert capsys.readouterr().out == "Value(data=3.0) metres Value(data=3.0) [Value(data=3.0)]\n"


def test_parts_of_texts_of_values_may_be_printed(capsys):
    def noted(x):
        text = str(x).removeprefix("Value(data=").strip(")")
        print(text[:3], f"{text:>6}", text.rjust(6), text.replace(".", ","), text.partition(".")[0], sep="|")
        return x

    assert fg.jit(noted)(3.25) == 3.25
    assert capsys.readouterr().out == "3.2|  3.25|  3.25|3,25|3\n"
