"""Arguments of transformed functions: what makes a structure, and what bad ones are told."""

from __future__ import annotations

import math
import operator
import re

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.program.names import Namer


def test_static_arguments_are_compared_by_type_and_bits():
    f = fg.compile(lambda x, n: x * n, static_argnames="n")
    assert math.copysign(1.0, f(2.0, 0.0).data) == 1.0
    assert math.copysign(1.0, f(2.0, -0.0).data) == -1.0
    g = fg.compile(lambda x, n: x + 100.0 if n[0] is True else x + 0.0, static_argnames="n")
    assert [g(2.0, (1,)).data, g(2.0, (True,)).data] == [2.0, 102.0]
    f(2.0, math.nan)
    f(2.0, float("nan"))
    assert len(f.kernels) == 3


@pytest.mark.parametrize("transform", [fg.grad, fg.value_and_grad])
@pytest.mark.parametrize(
    ("argument", "place", "what"),
    [
        (True, "x", "True"),
        (np.bool_(False), "x", ""),
        ([True, 1.0], "x[0]", "True"),
        ((1.0, [False]), "x[1][0]", "False"),
        ({"w": 1.0, "flag": True}, "x['flag']", "True"),
        (np.array([True, False]), "x", "array of truth values of shape (2,)"),
        ([1.0, np.array([[True]])], "x[1]", "array of truth values of shape (1, 1)"),
        (np.array([True, 1.0], dtype=object), "x[0]", "True"),
    ],
    ids=repr,
)
def test_truth_values_are_not_differentiated(transform, argument, place, what):
    f = transform(lambda x, y: y * 1.0)
    for _ in range(2):
        with pytest.raises(fg.InputError, match=re.escape(f"argument {place} of f is {what}") + ".*have no gradient"):
            f(argument, 2.0)
    assert fg.grad(lambda x, y: y * 3.0, 1)(argument, 2.0) == 3.0
    with pytest.raises(fg.InputError, match="truth values have no gradient"):
        fg.grad(lambda z: fg.grad(lambda x: z)(argument) + z)(2.0)


def test_arrays_of_numbers_and_of_truth_values_have_kernels_of_their_own():
    f = fg.grad(lambda x: x[0] * x[1])
    assert f(np.array([1.0, 0.0])).tolist() == [0.0, 1.0]
    with pytest.raises(fg.InputError, match="truth values"):
        f(np.array([True, False]))
    g = fg.jit(lambda x: x * 2)
    for _ in range(3):
        assert g(np.array([1.0, 0.0])).tolist() == g(np.array([True, False])).tolist() == [2.0, 0.0]


def test_a_static_argument_is_not_differentiated():
    for f in (fg.grad(lambda x: x, static_argnames="x"), fg.grad(lambda y, x: x, -1, static_argnames=["y", "x"])):
        with pytest.raises(fg.InputError, match=r"argument x of f is static.*static_argnames"):
            f(*[1.0] * len(f._positions))
    assert fg.grad(lambda x, n: x * n, static_argnames="n")(1.0, 2.0) == 2.0


def test_constants_of_inlined_functions_are_values():
    square = fg.compile(lambda x: x * x)
    assert fg.grad(lambda y: square(2.0).tanh() * y)(1.0) == math.tanh(4.0)
    assert fg.grad(lambda x: fg.grad(lambda y: 3 * y)(x).tanh() + x)(1.0) == 1.0


def test_results_of_compiled_calls_can_be_walked_and_drawn():
    x = Value(2.0, label="x")
    y = fg.compile(lambda x: x * x)(x)
    assert y._prev == (x,)
    assert y._op == "compiled"


@pytest.mark.parametrize("function", [lambda x: fg.sqrt(x) * 2, lambda x: 3.0 / x**0.5 + x.log(), lambda x: x**-0.5])
def test_kernels_and_interpreter_say_the_same(function):
    def interpreted():
        function(leaf := Value(0.0)).backward()
        return leaf

    def message(compute):
        with pytest.raises(fg.FlatgradError) as caught:
            compute()
        return type(caught.value), str(caught.value).partition("\n")[0]

    expected = message(interpreted)
    assert message(lambda: fg.grad(function)(0.0)) == expected
    assert message(lambda: fg.value_and_grad(function)(0.0)) == expected
    assert message(lambda: fg.compile(function)(Value(0.0)).backward()) == expected


@pytest.mark.parametrize("argnums", [(), "ab", 1.0, (0, "b"), None])
def test_positions_that_are_none(argnums):
    with pytest.raises(fg.OptionError, match="argnums"):
        fg.value_and_grad(lambda a, b: a * b, argnums=argnums)


def test_methods_can_be_compiled():
    class Scale(fg.nn.Module):
        def __init__(self):
            self.w = Value(3.0)

        @fg.compile
        def __call__(self, x):
            return self.w * x

    first, second = Scale(), Scale()
    second.w.data = 5.0
    assert [first(2.0).data, second(2.0).data] == [6.0, 10.0]


def test_bad_calls_are_named():
    square = fg.grad(lambda x: x * x)
    with pytest.raises(fg.RangeError):
        square(10**400)
    with pytest.raises(fg.InputError, match="missing a required argument: 'x'"):
        square()
    with pytest.raises(fg.InputError, match="must return one number"):
        fg.grad(lambda x: "3.5")(1.0)
    with pytest.raises(fg.InputError, match=r"fg\.jacobian differentiates several"):
        fg.grad(lambda x: x * x)(np.ones(2))
    circular = [1.0]
    circular.append(circular)
    with pytest.raises(fg.InputError, match="contains itself"):
        square(circular)
    with pytest.raises(fg.OptionError, match="static_argnames"):
        fg.compile(lambda x: x, static_argnames=3)
    with pytest.raises(fg.InputError, match=r"\[value\]"):
        fg.compile_graph(Value(1.0) * 2, Value(1.0))
    with pytest.raises(fg.InputError, match=r"test_arguments\.py"):
        Value(1.0) * "a"


@pytest.mark.parametrize("compare", [operator.gt, fg.greater, np.greater])
def test_comparing_arrays(compare):
    """That makes conditions, and is no branch."""
    f = fg.grad(lambda x: fg.where(compare(x, 0.5), x, 0.0).sum())
    assert [f(np.array(x)).tolist() for x in ([1.0, 0.2], [0.2, 1.0])] == [[1.0, 0.0], [0.0, 1.0]]
    assert len(f.kernels) == 1


@pytest.mark.parametrize("name", ["w", "_w", "residuals", "leaves", "output_bars", "grad", "pow", "power", "t3", "v2"])
def test_names_of_the_generators_own_are_safe(name, monkeypatch):
    """As labels of leaves, in functions with many residuals, split or not."""
    leaves = [Value(0.5, label=name), *(Value(0.1 * k, label=f"a{k}") for k in range(12))]

    def f(x):
        for leaf in leaves:
            x = (x * leaf).tanh() + leaf * leaf
        return x

    def gradients():
        for leaf in leaves:
            leaf.grad = 0.0
        out = fg.compile(f)(1.0)
        out.backward()
        return [out.data, *(leaf.grad for leaf in leaves)]

    whole = gradients()
    monkeypatch.setattr("flatgrad.compiler.languages.python._SPLIT", 6)
    monkeypatch.setattr("flatgrad.compiler.languages.python._PART", 3)
    assert gradients() == whole
    value, slopes = fg.value_and_grad(f, wrt=leaves)(1.0)
    assert [value, *slopes] == whole


def test_equal_labels_get_different_names():
    name_of = Namer()
    assert [name_of("w", "x") for _ in range(3)] == ["w", "w_2", "w_3"]


def test_labels_become_texts():
    value = Value(1.0, label=3)
    assert value.label == "3"
    assert "return p3 * 2.0" in fg.value_and_grad(lambda: value * 2, wrt=[value]).kernel_for().source


def test_escaped_values_say_so():
    escaped = []
    fg.compile(lambda x: (escaped.append(x), x)[1])(1.0)
    (value,) = escaped
    for use in (lambda: value.data, lambda: value.grad, lambda: setattr(value, "data", 1.0), lambda: value * 2):
        with pytest.raises(fg.TraceError, match="escaped"):
            use()


def test_a_static_argument_is_named_as_other_arguments_are():
    f = fg.grad(lambda x, n: x, static_argnames="n")
    with pytest.raises(
        fg.InputError, match="argument n: a static argument must be something that can be compared, got me"
    ):
        f(2.0, memoryview(bytearray(2)))
