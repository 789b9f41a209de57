"""Exceptions: their classes, what their messages name, and that nothing is lost when one is raised."""

from __future__ import annotations

import inspect
import math
import pickle

import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.runtime import errors


def classes():
    return [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, fg.FlatgradError)]


@pytest.mark.parametrize("kind", [c for c in classes() if c is not fg.FlatgradError])
def test_every_exception_is_ours_and_a_built_in_one(kind):
    assert issubclass(kind, fg.FlatgradError)
    builtins = {base for base in kind.__mro__ if base.__module__ == "builtins"}
    assert builtins - {Exception, BaseException, object}, (
        f"{kind.__name__} inherits from no built-in class but Exception"
    )
    assert getattr(fg, kind.__name__) is kind, "public"
    assert kind.__doc__


@pytest.mark.parametrize(
    ("operation", "kind", "parts"),
    [
        (lambda v: v(0.0) ** -1, ZeroDivisionError, ["power(0.0, -1.0)"]),
        (lambda v: 1.0 / v(0.0), ZeroDivisionError, ["power(0.0, -1.0)"]),
        (lambda v: fg.div(v(1.5), v(0.0)), ZeroDivisionError, ["div(1.5, 0.0)"]),
        (lambda v: v(0.0).log(), ValueError, ["log(0.0)", "x > 0"]),
        (lambda v: v(-1.0).log(), ValueError, ["log(-1.0)"]),
        (lambda v: v(-1.0).sqrt(), ValueError, ["sqrt(-1.0)", "x >= 0"]),
        (lambda v: v(1000.0).exp(), OverflowError, ["exp(1000.0)"]),
        (lambda v: v(1e200) ** 2, OverflowError, ["power(1e+200, 2.0)"]),
        (lambda v: v(-8.0) ** (1 / 3), ValueError, ["power(-8.0, 0.3333333333333333)", "base"]),
        (lambda v: (-2.0) ** v(0.5), ValueError, ["power(-2.0, 0.5)"]),
    ],
)
def test_an_operation_outside_its_domain(operation, kind, parts):
    """Class as in CPython; the message names operation, numbers and the user's line; so does the compiled function."""
    with pytest.raises(kind) as interpreted:
        operation(Value)
    compiled = fg.compile(lambda: operation(lambda x: leaves.setdefault(x, Value(x))))
    leaves: dict[float, Value] = {}
    with pytest.raises(kind) as generated:
        compiled()
    for caught in (interpreted, generated):
        assert isinstance(caught.value, fg.FlatgradError)
        message = str(caught.value)
        for part in parts:
            assert part in message
        assert "test_errors.py" in message
        assert "lambda v:" in message, "the text of the user's line"


def test_overflowing_sums_and_products_are_silent():
    assert (Value(1e308) * 10).data == math.inf
    assert (Value(1.7e308) + 1.7e308).data == math.inf
    assert math.isnan((Value(math.inf) - math.inf).data)


def test_the_line_is_the_users(module_from):
    source = "import flatgrad as fg\n\n\ndef f(x):\n    y = x * 2.0\n    return fg.log(y)  # here\n"
    module = module_from(source)
    compiled, gradient = fg.compile(module.f), fg.value_and_grad(module.f)
    for call in (lambda: module.f(Value(-1.0)), lambda: compiled(Value(-1.0)), lambda: gradient(-1.0)):
        with pytest.raises(ValueError, match=r"user_code\.py\", line 6\n    return fg\.log\(y\)  # here"):
            call()


def test_plain_numbers_raise_the_same_exceptions():
    with pytest.raises(fg.DomainError, match=r"log\(0\.0\)"):
        fg.log(0.0)
    with pytest.raises(fg.RangeError):
        fg.exp(1e4)


def failing_backward():
    """A graph whose forward is fine and whose backward raises at sqrt(0), after other gradients were computed."""
    x, y, z = Value(0.0), Value(3.0), Value(5.0)
    x.grad, y.grad, z.grad = 1.0, 2.0, 3.0
    inner = y * z
    out = inner + x.sqrt() * z
    return out, inner, (x, y, z)


def test_nothing_is_lost_when_a_partial_raises():
    out, inner, leaves = failing_backward()
    inner.grad = 7.0
    with pytest.raises(ZeroDivisionError) as caught:
        out.backward()
    assert isinstance(caught.value, fg.FlatgradError)
    assert "partial of sqrt(0.0)" in str(caught.value)
    assert [leaf.grad for leaf in leaves] == [1.0, 2.0, 3.0]
    assert (inner.grad, out.grad) == (7.0, 0.0)
    inner.backward()
    assert [leaf.grad for leaf in leaves] == [1.0, 7.0, 6.0], "the next backward begins afresh"


def test_nothing_is_lost_when_a_compiled_backward_raises():
    x, y = Value(0.0), Value(3.0)
    x.grad, y.grad = 1.0, 2.0
    out = fg.compile(lambda a, b: a.sqrt() * b + b)(x, y)
    with pytest.raises(ZeroDivisionError) as caught:
        (out * y).backward()
    assert isinstance(caught.value, fg.FlatgradError)
    assert (x.grad, y.grad) == (1.0, 2.0)
    (y * 4.0).backward()
    assert (x.grad, y.grad) == (1.0, 6.0)


def test_an_exception_inside_a_traced_function_leaves_the_engine_usable():
    x = Value(2.0)

    def broken(a):
        a * x
        raise KeyError("user's own")

    f = fg.compile(broken)
    for _ in range(2):
        with pytest.raises(KeyError, match="user's own"):
            f(1.0)
    assert x.data == 2.0
    assert (x * 3.0).data == 6.0
    assert f.kernels == []


def test_exceptions_can_be_pickled():
    with pytest.raises(fg.DomainError) as caught:
        fg.log(-1.0)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (fg.DomainError, str(caught.value))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.foo, "'Value' object has no attribute 'foo'"),
        (lambda x: x(), "'Value' object is not callable"),
        (lambda x: (x > 0).foo, "'Condition' object has no attribute 'foo'"),
        (fg.max, "max: expected a list or an array, got Value"),
    ],
)
@pytest.mark.parametrize("traced", [True, False])
def test_errors_of_a_traced_function_read_as_those_of_values(function, message, traced):
    with pytest.raises((AttributeError, TypeError)) as caught:
        fg.grad(function)(1.0) if traced else function(fg.Value(1.0))
    assert str(caught.value).startswith(message)


def test_an_index_of_a_value_is_told_what_to_write_while_it_is_traced():
    with pytest.raises(TypeError, match="'Value' object is not subscriptable"):
        fg.Value(1.0)[0]
    with pytest.raises(fg.TraceError, match=r"a Value is one number, and was used as an array\. .* np\.ravel\(x\)"):
        fg.grad(lambda x: x[0])(1.0)
