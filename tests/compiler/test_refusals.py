"""A `TraceError` that the user's code catches is raised at the end of the trace: it would have decided a branch."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value, nn

TRANSFORMS = {"compile": fg.compile, "value_and_grad": fg.value_and_grad, "grad": fg.grad}


def angle(x):
    try:
        x = float(x) % 6.25
    except TypeError:
        x = x * 0.0
    return x * x


def near_zero(x):
    with contextlib.suppress(Exception):
        if x.data < 1e-3:
            return 1.0 - x * x / 6
    return fg.sin(x) / x


def second_attempt(x):
    try:
        return x * x.data
    except fg.TraceError as error:
        raise ValueError("there is no number") from error


def other_type(x):
    try:
        return [x, x * x][x]
    except TypeError:
        raise KeyError("x") from None


def truth(x):
    try:
        if (x > 0).data:
            return x * 3.0
    except TypeError:
        pass
    return x * 2.0


def escape(x):
    global escaped
    try:
        return escaped * x
    except TypeError:
        escaped = x * 2.0
    return x * 3.0


def condition(x):
    try:
        return fg.where(BEFORE, x, -x)
    except TypeError:
        return x * 3.0


def array(x):
    with contextlib.suppress(TypeError, ValueError):
        HELD[0] = x
    return x * (1.0 + float(HELD[0]))


def copied(x):
    numbers = np.array([x, x * 2.0])
    try:
        numbers = np.array([*numbers], dtype=np.float32)
    except TypeError:
        numbers = numbers * 0.0
    return numbers.sum() + x


def inner(x):
    try:
        return fg.grad(lambda y: y * y.data)(x)
    except TypeError:
        return x


def inlined(x):
    try:
        return COMPILED(x)
    except TypeError:
        return x


HELD = np.zeros(2)
BEFORE = Value(1.0) > 0
COMPILED = fg.compile(lambda y: y * y.data)
escaped = None
fg.grad(lambda x: globals().update(escaped=x * 2.0) or x)(1.0)

#: Functions, and a line of each that the error names.
SWALLOWED = [
    (angle, "x = float(x) % 6.25"),
    (near_zero, "if x.data < 1e-3:"),
    (second_attempt, "return x * x.data"),
    (other_type, "return [x, x * x][x]"),
    (truth, "if (x > 0).data:"),
    (escape, "return escaped * x"),
    (condition, "return fg.where(BEFORE, x, -x)"),
    (array, "HELD[0] = x"),
    (copied, "numbers = np.array([*numbers], dtype=np.float32)"),
    (inner, "y * y.data"),
    (inlined, "y * y.data"),
]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("function", "line"), SWALLOWED, ids=[function.__name__ for function, _ in SWALLOWED])
def test_an_error_that_was_caught_is_raised_at_the_end(function, line, transform):
    compiled = TRANSFORMS[transform](function)
    for _ in range(2):  # nothing was kept of the first attempt
        with pytest.raises(fg.TraceError) as caught:
            compiled(2.0)
        assert line in str(caught.value)
        assert "caught this error and went on" in str(caught.value)
    assert compiled.kernels == []
    assert fg.grad(lambda x: x * 3.0)(1.0) == 3.0, "nothing is left behind"


def test_what_the_function_raised_instead_is_the_cause():
    with pytest.raises(fg.TraceError) as caught:
        fg.grad(second_attempt)(2.0)
    assert isinstance(caught.value.__cause__, ValueError)
    assert isinstance(caught.value.__cause__.__cause__, fg.TraceError)
    with pytest.raises(fg.TraceError) as caught:
        fg.grad(angle)(2.0)
    assert isinstance(caught.value.__cause__, fg.TraceError), "its traceback leads to the user's line"
    assert caught.value.__cause__.__traceback__ is not None


def test_an_error_that_nobody_caught_is_raised_once():
    with pytest.raises(fg.TraceError) as caught:
        fg.grad(lambda x: x.data)(2.0)
    assert "caught this error" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_an_error_that_two_traces_caught_says_so_once():
    def middle(x):
        try:
            return fg.grad(angle)(x)
        except TypeError:
            return x

    def outer(x):
        with contextlib.suppress(TypeError):
            return fg.compile(middle)(x)
        return fg.grad(middle)(x)

    with pytest.raises(fg.TraceError) as caught:
        fg.grad(outer)(2.0)
    assert str(caught.value).count("caught this error and went on") == 1
    assert "x = float(x) % 6.25" in str(caught.value)


def test_an_error_of_an_inner_trace_passes_through_the_outer_one():
    with pytest.raises(fg.TraceError) as caught:
        fg.grad(lambda x: fg.grad(lambda y: y.data * y)(x) * 2.0)(2.0)
    assert "caught this error" not in str(caught.value)


def step_once(loss, w, X, y):
    nn.train_step(loss, nn.SGD(0.1), [w])(X, y)


def step_often(loss, w, X, y):
    nn.train_step(loss, nn.SGD(0.1), [w]).repeat(3, X, y)


def fit(loss, w, X, y):
    nn.fit(loss, [w], nn.SGD(0.1), X, y, steps=2, batch_size=2, progress=False)


@pytest.mark.parametrize("run", [step_once, step_often, fit])
def test_training(run):
    w = Value(0.5, label="w")

    def loss(X, y):
        total = (w * X[0, 0] - y[0]) ** 2
        try:
            total = total * float(X[0, 0])
        except TypeError:
            total = total * 0.0
        return total

    with pytest.raises(fg.TraceError, match=r"total = total \* float\(X\[0, 0\]\)"):
        run(loss, w, np.array([[1.0], [2.0]]), np.array([1.0, 2.0]))
    assert w.data == 0.5


def test_a_value_used_by_another_thread():
    """That thread does not trace: what it computes would not be part of the program."""

    def f(x):
        results = []

        def work():
            try:
                results.append(x * 2.0)
            except TypeError:
                results.append(0.0)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return x * results[0]

    with pytest.raises(fg.TraceError, match=r"results\.append\(x \* 2\.0\)"):
        fg.grad(f)(1.0)


def test_an_interrupt_is_not_replaced():
    def f(x):
        with contextlib.suppress(TypeError):
            float(x)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fg.grad(f)(1.0)
    assert fg.grad(lambda x: x * 3.0)(1.0) == 3.0


def test_errors_that_are_the_same_for_every_number_may_be_caught():
    def f(x):
        total = x
        for attempt in (lambda: fg.log(Value(-1.0)), lambda: x + "text", lambda: Value("text"), lambda: x.nothing):
            try:
                total = total * attempt()
            except (ValueError, TypeError, AttributeError):
                total = total * 2.0
        return total

    assert fg.value_and_grad(f)(3.0) == (48.0, 16.0)


def test_questions_that_are_not_about_the_number():
    """What NumPy and others ask a traced Value before they go on is answered, or is no `TraceError`."""

    def f(x):
        a, b = np.array([x, x * 2.0, 1.0]), np.array([1.0, 2.0, 3.0])
        one = np.asarray(x, dtype=object)
        matrix = np.array([[x, x], [x * 3.0, 1.0]])
        results = [
            np.sum(a), a.sum(), np.mean(a), np.prod(a), np.cumsum(a)[-1], np.add.reduce(a), sum(a.tolist()),
            np.dot(a, b), a @ b, np.inner(a, b), np.tensordot(a, b, 1), np.einsum("i,i->", a, b), b @ np.array([x] * 3),
            (matrix @ a[:2]).sum(), np.trace(matrix), np.outer(a, b).sum(), np.multiply.outer(a, b).sum(),
            (b * x).sum(), (x * b).sum(), (b - x).sum(), (a**2).sum(), np.exp(a[:2] / 9.0).sum(), one.item(),
            np.float64(2.0) * x, x * np.float64(2.0), np.float64(1.0) / x, np.int64(2) + x, np.array(3.0) * x,
            np.concatenate([a, b]).sum(), np.stack([a, b]).sum(), np.array([[x], [x]]).sum(), np.full(2, x).sum(),
            np.asarray([x, 2], dtype=object).sum(),
        ]  # fmt: skip
        for question in (repr, str, callable, type, np.shape, np.ndim, np.size, np.isscalar, np.iterable, id):
            question(x)
        for kind in (float, int, np.number, np.ndarray, list, str, Value):
            isinstance(x, kind)
        for name in ("__array__", "__len__", "__iter__", "shape", "dtype", "__float__", "label", "nothing"):
            hasattr(x, name)
        f"{x}"
        return sum(results)

    plain = f(2.0)
    value, gradient = fg.value_and_grad(f)(2.0)
    assert value == pytest.approx(plain, rel=1e-12)
    assert gradient == pytest.approx((f(2.0 + 1e-6) - f(2.0 - 1e-6)) / 2e-6, rel=1e-6)


def test_every_trace_error_is_remembered():
    """They are made in one place, which hands them to the traces."""
    package = Path(fg.__file__).parent
    makers = {path.name for path in package.rglob("*.py") if "TraceError(" in path.read_text(encoding="utf-8")}
    assert makers == {"errors.py", "tracing.py"}
