"""`compile`, `compile_graph`, `value_and_grad` and `grad`: how arguments are bound and results are given back."""

from __future__ import annotations

import collections
import dataclasses
import gc
import inspect
import math
import threading
import weakref

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings

import flatgrad as fg
from flatgrad import Value
from tests.bits import assert_same
from tests.examples import examples
from tests.programs import Interpreted, assert_agrees, by_interpreter, flatgrad_outcome, programs, tame
from tests.threads import in_threads

Pair = collections.namedtuple("Pair", "left right")


def product(x, y):
    """x times y, twice over."""
    return x * y * 2.0


# --- compile: a drop-in -----------------------------------------------------------------------------------------------


def test_a_compiled_function_is_a_drop_in():
    f = fg.compile(product)
    x, y = Value(3.0), Value(5.0)
    out = f(x, y)
    assert type(out) is Value
    out.backward()
    assert (out.data, x.grad, y.grad) == (30.0, 10.0, 6.0)
    assert (f.__name__, f.__doc__, f.__wrapped__) == ("product", product.__doc__, product)
    assert inspect.signature(f) == inspect.signature(product)


def test_compile_is_a_decorator_with_and_without_options():
    @fg.compile
    def f(x):
        return x * 2.0

    @fg.compile(static_argnames="n")
    def g(x, n):
        return x * n

    assert (f(3.0).data, g(3.0, 4).data) == (6.0, 12.0)


def test_value_and_grad_and_grad_are_decorators_with_and_without_options():
    w = Value(4.0)

    @fg.grad
    def bare(x):
        return x * x

    @fg.value_and_grad(argnums=1, faults="ieee")
    def second(x, y):
        return x * y * y

    @fg.grad(argnums=[1, 0], backend="python", mode="fast")
    def both(x, y):
        return x * y * y

    @fg.grad(wrt=[w], has_aux=True)
    def aux(x):
        return w * x, "aux"

    @fg.value_and_grad()
    def default(x):
        return x * x

    class Spring:
        stiffness = 2.0

        @fg.grad(static_argnames="order")
        def force(self, x, order):
            return self.stiffness * x**order

    assert (bare(3.0), second(2.0, 5.0), both(2.0, 5.0)) == (6.0, (50.0, 20.0), (20.0, 25.0))
    assert (aux(3.0), default(3.0), Spring().force(3.0, 2)) == (([3.0], "aux"), (9.0, 6.0), 12.0)
    assert (second.faults, both.backend, both.mode) == ("ieee", "python", "fast")
    assert (bare.__name__, second.__name__, second.__wrapped__.__name__) == ("bare", "second", "second")


def test_keywords_defaults_and_positions():
    @fg.compile
    def f(x, y=2.0, *, scale=10.0):
        return (x - y) * scale

    assert f(3.0).data == 10.0
    assert f(3.0, 1.0).data == 20.0
    assert f(y=3.0, x=3.5, scale=2.0).data == 1.0
    assert f(3.0, scale=Value(1.0)).data == 1.0
    with pytest.raises(TypeError):
        f(1.0, 2.0, 3.0)
    with pytest.raises(TypeError):
        f(z=1.0)


def test_star_arguments():
    f = fg.compile(lambda *xs, **named: sum(xs) + sum(named.values()))
    assert f(1.0, 2.0, a=3.0, b=4.0).data == 10.0
    assert f(1.0, 2.0, 3.0).data == 6.0


def test_methods_and_callable_objects():
    class Model:
        def __init__(self):
            self.w = Value(3.0)
            self.f = fg.compile(self.predict)

        def predict(self, x):
            return self.w * x

        def __call__(self, x):
            return self.w * x * 2.0

    model = Model()
    assert model.f(2.0).data == 6.0
    out = fg.compile(model)(2.0)
    out.backward()
    assert (out.data, model.w.grad) == (12.0, 4.0)


def test_backward_accumulates_into_leaves_and_runs_twice():
    x = Value(3.0)
    out = fg.compile(lambda x: x * x)(x)
    out.backward()
    out.backward()
    assert x.grad == 12.0


def test_parameters_are_read_at_each_call():
    w = Value(2.0)
    f = fg.compile(lambda x: w * x)
    assert f(3.0).data == 6.0
    w.data = 10.0
    out = f(3.0)
    out.backward()
    assert (out.data, w.grad, len(f.kernels)) == (30.0, 3.0, 1)


def test_a_backward_uses_the_numbers_of_its_own_forward():
    f = fg.compile(lambda x: x**2)
    x, y = Value(3.0), Value(5.0)
    first, second = f(x), f(y)
    second.backward()
    first.backward()
    assert (x.grad, y.grad) == (6.0, 10.0)


def test_the_same_value_passed_twice():
    x = Value(3.0)
    f = fg.compile(product)
    out = f(x, x)
    out.backward()
    assert (out.data, x.grad) == (18.0, 12.0)
    other = Value(5.0)
    f(x, other).backward()
    assert other.grad == 6.0, "different Values afterwards are not taken for the same"
    assert x.grad == 22.0


def test_the_same_value_passed_twice_has_the_interpreters_order():
    def f(a, b):
        return a * 1e16 + b * 1.0 + a * -1e16 + b * 0.5

    for arguments in (lambda v: (v, v), lambda v: (v, Value(1.0))):
        x, y = Value(1.0), Value(1.0)
        f(*arguments(x)).backward()
        fg.compile(f)(*arguments(y)).backward()
        assert_same([y.grad], [x.grad])


def test_an_argument_that_is_also_reached_by_closure():
    w = Value(3.0)

    def f(x):
        return x * 5.0 + w * x

    compiled = fg.compile(f)
    assert compiled(Value(2.0)).data == 16.0
    w.grad = 0.0
    out = compiled(w)
    out.backward()
    assert (out.data, w.grad) == (24.0, 11.0)
    v, w.grad = Value(4.0), 0.0
    compiled(v).backward()
    assert (v.grad, w.grad) == (8.0, 4.0)


def test_an_argument_first_seen_that_is_also_reached_by_closure():
    w = Value(3.0)
    compiled = fg.compile(lambda x: x * 5.0 + w * x)
    out = compiled(w)
    out.backward()
    assert (out.data, w.grad) == (24.0, 11.0)
    other = Value(1.0)
    assert compiled(other).data == 8.0


def test_a_boundary_leaf_goes_on_into_its_own_graph():
    """A Value with operands that the function reaches: its number is read, and backward goes on behind it."""
    a = Value(2.0)
    h = a * a
    f = fg.compile(lambda x: h * x)
    out = f(3.0)
    out.backward()
    assert (out.data, h.grad, a.grad) == (12.0, 3.0, 12.0)
    x = Value(5.0)
    (f(x) * 2.0).backward()
    assert (x.grad, h.grad, a.grad) == (8.0, 10.0, 12.0 + 40.0)


def test_an_argument_with_operands_is_a_boundary_too():
    a = Value(2.0)
    out = fg.compile(lambda x: x * x)(a * 3.0)
    out.backward()
    assert (out.data, a.grad) == (36.0, 36.0)


def test_a_call_is_one_node_of_a_larger_graph():
    f = fg.compile(lambda a, b: [a * b, a + b])
    x, y = Value(2.0), Value(3.0)
    p, s = f(x, y)
    total = p * s + p + x
    total.backward()
    # d/dx (xy(x+y) + xy + x) = 2xy + y^2 + y + 1, d/dy = x^2 + 2xy + x
    assert (total.data, x.grad, y.grad) == (38.0, 25.0, 18.0)
    assert (p.grad, s.grad) == (6.0, 6.0)


def test_calls_of_calls():
    f = fg.compile(lambda a: a.tanh() * 2.0)
    x, y = Value(0.3), Value(0.3)
    f(f(f(x) + 1.0) * x).backward()
    g = lambda a: a.tanh() * 2.0  # noqa: E731 - the same, interpreted
    g(g(g(y) + 1.0) * y).backward()
    assert x.grad == pytest.approx(y.grad, rel=1e-15)


def test_only_some_outputs_receive_gradients():
    """Of the others nothing is computed backwards, so nothing can raise there."""
    f = fg.compile(lambda x: {"root": x.sqrt(), "line": x * 3.0, "twice": (x * 2.0, x)})
    x = Value(0.0)
    out = f(x)
    out["line"].backward()
    assert x.grad == 3.0
    out["twice"][1].backward()
    assert x.grad == 4.0
    (out["line"] + out["twice"][0]).backward()
    assert x.grad == 9.0
    with pytest.raises(ZeroDivisionError):
        out["root"].backward()
    assert x.grad == 9.0


def test_detached_outputs_receive_nothing():
    f = fg.compile(lambda x: (x * 2.0, x * 3.0))
    x = Value(1.0)
    p, q = f(x)
    (p * fg.detach(q)).backward()
    assert x.grad == 6.0


def test_outputs_that_are_arguments_constants_or_repeated():
    w = Value(7.0)
    f = fg.compile(lambda x: [x, w, Value(4.0), x * 2.0, x])
    x = Value(3.0)
    out = f(x)
    assert [v.data for v in out] == [3.0, 7.0, 4.0, 6.0, 3.0]
    sum(out).backward()
    assert (x.grad, w.grad) == (4.0, 1.0)


def test_what_is_returned_keeps_its_structure():
    marker = object()

    def f(x):
        return {"pair": Pair(x, [x * 2.0, None]), "name": "f", 3: (x, marker)}

    out = fg.compile(f)(1.5)
    assert type(out["pair"]) is Pair
    assert (out["pair"].left.data, out["pair"].right[0].data, out["pair"].right[1]) == (1.5, 3.0, None)
    assert (out["name"], out[3][1]) == ("f", marker)


def test_an_array_of_values_is_returned_as_one():
    f = fg.compile(lambda xs: xs * 2.0)
    out = f(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert out.shape == (2, 2)
    assert [v.data for v in out.ravel()] == [2.0, 4.0, 6.0, 8.0]


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_a_condition_can_be_returned(backend):
    compiled = fg.compile(lambda x: x > 0, backend=backend)
    assert [bool(compiled(x)) for x in (1.0, 0.0, -1.0)] == [True, False, False]


# --- structures of arguments ------------------------------------------------------------------------------------------

STRUCTURES = [
    ([1.0, 2.0, 3.0], lambda a: a[0] * a[1] + a[2] * a[2], [2.0, 1.0, 6.0]),
    ((1.0, 2.0), lambda a: a[0] * a[1], (2.0, 1.0)),
    ([[1.0, 2.0], [3.0]], lambda a: a[0][0] * a[1][0] * a[0][1], [[6.0, 3.0], [2.0]]),
    ({"w": 2.0, "b": [3.0, 4.0]}, lambda a: a["w"] * a["b"][0] + a["b"][1], {"w": 3.0, "b": [2.0, 1.0]}),
    (Pair(2.0, [3.0]), lambda a: a.left * a.right[0], Pair(3.0, [2.0])),
    ([1, 2, 3], lambda a: a[0] * a[1] * a[2], [6.0, 3.0, 2.0]),
    ([(1.0, np.float32(2.0)), {"k": (np.int64(3),)}], lambda a: a[0][1] * a[1]["k"][0], [(0.0, 3.0), {"k": (2.0,)}]),
]


@pytest.mark.parametrize(("argument", "f", "expected"), STRUCTURES)
def test_nested_arguments(argument, f, expected):
    gradient = fg.grad(f)(argument)
    assert gradient == expected
    assert type(gradient) is type(expected)
    value, _ = fg.value_and_grad(f)(argument)
    assert fg.compile(f)(argument).data == value == float(f(argument))


def test_arrays():
    a = np.arange(6.0).reshape(2, 3)
    f = fg.value_and_grad(lambda a: (a * a).sum() + a[1, 2])
    value, gradient = f(a)
    expected = 2 * a
    expected[1, 2] += 1
    assert isinstance(gradient, np.ndarray)
    assert (gradient.dtype, gradient.shape) == (np.float64, (2, 3))
    assert np.array_equal(gradient, expected)
    assert value == (a * a).sum() + 5.0
    assert np.array_equal(f(a.astype(np.float32))[1], expected)
    assert np.array_equal(f(a.astype(int))[1], expected)
    assert np.array_equal(f(np.asfortranarray(a))[1], expected), "places, not memory order"
    assert len(f.kernels) == 1, "one structure: the shape, not the dtype"
    assert f.kernel_for(a[:, ::-1]) is f.kernels[0]
    assert np.array_equal(f(a[:, ::-1])[1], 2 * a[:, ::-1] + _last(2, 3))


def _last(rows, columns):
    array = np.zeros((rows, columns))
    array[-1, -1] = 1.0
    return array


def test_arrays_of_no_and_of_one_dimension():
    assert fg.grad(lambda a: a[()] * 3.0 if isinstance(a, np.ndarray) else a * 3.0)(np.array(2.0)) == 3.0
    assert fg.grad(lambda a: a[0] * a[1])(np.array([2.0, 5.0])).tolist() == [5.0, 2.0]


def test_lists_and_arrays_of_values():
    xs = [Value(1.0), Value(2.0)]
    fg.compile(lambda xs: xs[0] * xs[1] * 3.0)(xs).backward()
    assert [x.grad for x in xs] == [6.0, 3.0]
    array = np.array([[Value(1.0)], [Value(5.0)]], dtype=object)
    fg.compile(lambda a: (a * a).sum())(array).backward()
    assert [v.grad for v in array.ravel()] == [2.0, 10.0]
    mixed = [Value(2.0), 3.0, np.float64(4.0)]
    out = fg.compile(lambda xs: xs[0] * xs[1] * xs[2])(mixed)
    out.backward()
    assert (out.data, mixed[0].grad) == (24.0, 12.0)


def test_a_kernel_per_structure():
    f = fg.compile(lambda xs, flag=None: sum(xs) if flag is None else xs[0], dynamic=False)
    two, one = [1.0, 2.0], [1.0]
    calls = [(two,), ([3.0, 4.0],), (one,), ((1.0, 2.0),), (two, "first"), (two, True), ([5, 6],)]
    assert [f(*call).data for call in calls] == [3.0, 7.0, 1.0, 3.0, 1.0, 1.0, 11.0]
    assert len(f.kernels) == 5
    assert f.kernel_for([0.0, 0.0]) is f.kernels[0]
    before = len(f.kernels)
    f.kernel_for([0.0] * 9)
    assert len(f.kernels) == before + 1


def test_true_is_not_one():
    f = fg.compile(lambda x, flag: x * 2.0 if flag is True else x * flag)
    assert (f(3.0, True).data, f(3.0, 1).data, f(3.0, 1.0).data) == (6.0, 3.0, 3.0)


@pytest.mark.parametrize("argument", [object(), 1j, np.array(["a"]), np.array([1j]), [1.0, [2.0, {"k": 3j}]], b"bytes"])
def test_arguments_of_other_types_are_rejected(argument):
    with pytest.raises(fg.InputError, match="argument y"):
        fg.compile(lambda x, y: x)(1.0, argument)


def test_the_place_of_a_bad_argument_is_named():
    with pytest.raises(fg.InputError, match=r"argument a\[0\]\['w'\]: expected a number, got object"):
        fg.grad(lambda a: a)([{"w": object()}])
    with pytest.raises(fg.InputError, match=r"argument number 2\[0\]: expected a number, got object"):
        fg.grad(lambda *rows: rows[0])(1.0, [object()])


@pytest.mark.parametrize(
    ("argnums", "args", "name"),
    [(0, ("a", 1.0), "size"), (1, (1.0, "a"), "unit"), (-1, (1.0, "a"), "unit"), ((0, 1), (1.0, [None]), "unit")],
)
def test_an_argument_without_numbers_is_named(argnums, args, name):
    f = fg.grad(lambda size, unit: Value(1.0), argnums=argnums)
    with pytest.raises(fg.InputError, match=rf"argument {name} of f is .*, which holds no numbers"):
        f(*args)


def test_arguments_of_losses_are_named():
    w = Value(1.0)
    step = fg.nn.train_step(lambda rows, labels: w * rows[0], fg.nn.SGD(0.1), [w])
    with pytest.raises(fg.InputError, match=r"argument labels\[1\]: expected a number, got object"):
        step([1.0], [1.0, object()])


def test_modules_are_part_of_the_structure():
    first, second = fg.nn.Neuron(2), fg.nn.Neuron(2)
    f = fg.compile(lambda model, x: model(x))
    for model in (first, second, first):
        out = f(model, [1.0, 2.0])
        assert out.data == model([1.0, 2.0]).data
    assert len(f.kernels) == 2
    first.zero_grad()
    f(second, [1.0, 2.0]).backward()
    assert [p.grad for p in first.parameters()] == [0.0] * 3


# --- static arguments -------------------------------------------------------------------------------------------------


def test_static_argnames():
    def power_sum(x, n, kind="sum"):
        terms = [x**k for k in range(n)]
        return sum(terms) if kind == "sum" else terms[-1]

    f = fg.compile(power_sum, static_argnames=("n", "kind"))
    assert f(2.0, 4).data == 15.0
    assert f(2.0, n=4).data == 15.0
    assert f(2.0, 3, kind="last").data == 4.0
    assert f(3.0, 4).data == 40.0
    assert fg.grad(power_sum, static_argnames="n")(2.0, 4) == 1.0 + 4.0 + 12.0
    assert fg.compile(power_sum)(2.0, 4).data == 15.0  # an int is its value, with a guard


def test_static_arguments_of_equal_value_and_different_type():
    f = fg.compile(lambda x, n: x * (2.0 if isinstance(n, bool) else 3.0), static_argnames="n")
    assert (f(1.0, True).data, f(1.0, 1).data) == (2.0, 3.0)


def test_static_arguments_must_exist_and_be_comparable():
    with pytest.raises(fg.OptionError, match="no argument 'm'"):
        fg.compile(product, static_argnames="m")
    with pytest.raises(fg.InputError, match=r"argument n: .*hash"):
        fg.compile(lambda x, n: x, static_argnames="n")(1.0, [slice(None), memoryview(bytearray(1))])


@pytest.mark.parametrize("options", [{"backend": "fortran"}, {"mode": "sloppy"}])
@pytest.mark.parametrize("transform", [fg.compile, fg.jit, fg.value_and_grad, fg.grad])
def test_options_that_do_not_exist(transform, options):
    with pytest.raises(fg.OptionError, match="choose one of") as caught:
        transform(product, **options)
    assert isinstance(caught.value, ValueError)


# --- value_and_grad and grad ------------------------------------------------------------------------------------------


def test_value_and_grad_returns_floats_and_changes_no_grad():
    w = Value(3.0)
    w.grad = 11.0
    value, gradient = fg.value_and_grad(lambda x: x * w)(2.0)
    assert (value, gradient, w.grad) == (6.0, 3.0, 11.0)
    assert (type(value), type(gradient)) == (float, float)
    x = Value(2.0)
    assert fg.value_and_grad(lambda x: x * w)(x) == (6.0, 3.0)
    assert x.grad == 0.0


def test_argnums():
    f = lambda x, y, z: x * y**2 + z  # noqa: E731
    assert fg.grad(f)(2.0, 3.0, 1.0) == 9.0
    assert fg.grad(f, argnums=1)(2.0, 3.0, 1.0) == 12.0
    assert fg.grad(f, argnums=(2, 0))(2.0, 3.0, 1.0) == (1.0, 9.0)
    assert fg.grad(f, argnums=[1])(2.0, 3.0, 1.0) == (12.0,)
    assert fg.grad(f, argnums=-1)(2.0, 3.0, 1.0) == 1.0
    with pytest.raises(fg.InputError, match="none is at position 3"):
        fg.grad(f, argnums=3)(2.0, 3.0, 1.0)


def test_nothing_to_differentiate():
    with pytest.raises(fg.InputError, match="wrt=model"):
        fg.grad(lambda model, x: model([x]))(fg.nn.Neuron(1), 2.0)
    with pytest.raises(fg.InputError, match="one number"):
        fg.grad(lambda x: [x, x])(1.0)
    with pytest.raises(fg.InputError, match="one number"):
        fg.grad(lambda x: None)(1.0)
    with pytest.raises(fg.InputError, match="expected a function"):
        fg.grad(3.0)


def test_a_function_that_ignores_its_argument():
    assert fg.value_and_grad(lambda x: Value(4.0))(2.0) == (4.0, 0.0)
    assert fg.value_and_grad(lambda x: 4)(2.0) == (4.0, 0.0)
    assert fg.value_and_grad(lambda x: x)(2.0) == (2.0, 1.0)


def test_has_aux():
    def f(x):
        y = x * x
        return y * 2.0, {"y": y, "name": "square", "pair": (x, 3.0)}

    (value, aux), gradient = fg.value_and_grad(f, has_aux=True)(3.0)
    assert (value, gradient) == (18.0, 12.0)
    assert (aux["y"], aux["name"], aux["pair"]) == (9.0, "square", (3.0, 3.0))
    assert type(aux["y"]) is float
    gradient, aux = fg.grad(f, has_aux=True)(3.0)
    assert (gradient, aux["y"]) == (12.0, 9.0)
    with pytest.raises(fg.InputError, match="value, aux"):
        fg.grad(lambda x: x, has_aux=True)(3.0)


def test_has_aux_without_numbers():
    assert fg.value_and_grad(lambda x: (x * 2.0, None), has_aux=True)(3.0) == ((6.0, None), 2.0)


def test_wrt_a_module_or_a_list():
    model = fg.nn.MLP(2, [3, 1])
    f = fg.value_and_grad(lambda x: model(x) ** 2, wrt=model)
    value, gradient = f([1.0, -2.0])
    out = model([1.0, -2.0]) ** 2
    out.backward()
    assert (value, gradient) == (out.data, [p.grad for p in model.parameters()])
    w, unused = Value(2.0), Value(5.0)
    assert fg.grad(lambda x: w * x, wrt=[unused, w])(3.0) == [0.0, 3.0]
    assert fg.grad(lambda: w * w, wrt=w)() == [4.0]
    w.data = 7.0
    assert fg.grad(lambda: w * w, wrt=(w,))() == [14.0]


def test_wrt_something_else():
    for wrt in (3.0, [1.0], "w"):
        with pytest.raises(fg.InputError, match="wrt"):
            fg.grad(lambda x: x, wrt=wrt)


def test_wrt_a_value_with_operands():
    """The derivative with respect to the node itself: the graph behind it is not entered."""
    a = Value(2.0)
    h = a * 3.0
    assert fg.grad(lambda: h * h + a, wrt=[h, a])() == [12.0, 1.0]


def test_a_value_in_two_places_has_a_gradient_for_each():
    """The gradient of a function of numbers: two places are two variables, whatever stands in them."""
    f = fg.grad(lambda y: y[0] * y[1] ** 2)
    v = Value(3.0)
    assert f([v, v]) == f([3.0, 3.0]) == [9.0, 18.0]
    assert fg.grad(lambda a, b: a * b**2, argnums=(0, 1))(v, v) == (9.0, 18.0)


def test_calls_do_not_depend_on_each_other():
    f = fg.value_and_grad(lambda x: [x[0], x[1]][0] * x[1])
    _, first = f([2.0, 3.0])
    first[0] = 99.0
    _, second = f([2.0, 3.0])
    assert second == [3.0, 2.0]


# --- higher order, and functions within functions ---------------------------------------------------------------------

FORMULAS = [
    (lambda x: x**3, lambda x: x**3, 1.7),
    (lambda x: (x * x).tanh(), lambda x: sp.tanh(x * x), 0.4),
    (lambda x: (x.exp() + 1.0).log() * x, lambda x: sp.log(sp.exp(x) + 1) * x, 0.9),
    (lambda x: fg.div(x, 1.0 + x * x), lambda x: x / (1 + x * x), -0.8),
    (lambda x: x**x, lambda x: x**x, 1.3),
    (lambda x: x.sqrt() * 2.0**x, lambda x: sp.sqrt(x) * 2**x, 2.2),
    (lambda x: fg.where(x > 1.0, x**4, -x), lambda x: sp.Piecewise((x**4, x > 1), (-x, True)), 1.5),
    (lambda x: fg.maximum(x * x, x) ** 3, lambda x: x**6, 1.5),
]


@pytest.mark.parametrize(("f", "form", "x"), FORMULAS)
def test_derivatives_of_derivatives(f, form, x):
    symbol = sp.Symbol("x", positive=x > 0, real=True)
    derivative = f
    for order in range(1, 5):
        derivative = fg.grad(derivative)
        expected = float(sp.diff(form(symbol), symbol, order).subs(symbol, sp.Float(x, 40)).evalf(30))
        assert derivative(x) == pytest.approx(expected, rel=1e-10, abs=1e-10), f"order {order}"


def test_a_hessian_by_grad_of_grad():
    def f(x):
        return (x[0] * x[1]).exp() + x[0] ** 3 * x[1]

    def second(i, j):
        return fg.grad(lambda x: fg.grad(f)(x)[i])([0.5, -0.3])[j]

    a, b = sp.symbols("a b")
    form = sp.exp(a * b) + a**3 * b
    for i in range(2):
        for j in range(2):
            expected = sp.diff(form, (a, b)[i], (a, b)[j]).subs({a: 0.5, b: -0.3})
            assert second(i, j) == pytest.approx(float(expected), rel=1e-12)


def test_gradients_within_a_function():
    """A gradient penalty: the gradient is part of what is differentiated."""

    def penalty(x):
        value, gradient = fg.value_and_grad(lambda y: y**3)(x)
        return value + gradient * gradient

    x = 1.5
    assert fg.value_and_grad(penalty)(x) == (pytest.approx(x**3 + 9 * x**4), pytest.approx(3 * x**2 + 36 * x**3))
    v = Value(x)
    fg.compile(penalty)(v).backward()
    assert v.grad == pytest.approx(3 * x**2 + 36 * x**3)


def test_an_inner_function_that_reaches_the_outer_ones_variables():
    """d/dx of (d/dy of x*y*y at y = x) = d/dx 2x*x = 4x."""
    assert fg.grad(lambda x: fg.grad(lambda y: x * y * y)(x))(3.0) == 12.0
    assert fg.grad(lambda x: fg.grad(lambda y: fg.where(x > 0.0, y * y, y) * x)(2.0))(3.0) == 4.0
    for _ in range(2):
        assert fg.grad(lambda x: x * fg.grad(lambda y: x + y)(1.0))(2.0) == 1.0


def test_parameters_of_an_inner_gradient():
    w = Value(3.0)
    inner = fg.grad(lambda y: w * y**2)
    outer = fg.value_and_grad(lambda x: inner(x) * x, wrt=[w])
    assert outer(2.0) == (24.0, [8.0])
    w.data = 5.0
    assert outer(2.0) == (40.0, [8.0])


def test_a_gradient_through_the_value_of_an_inner_gradient_has_the_interpreters_order():
    """1e16 + (1 + 1) is another number than (1e16 + 1) + 1: nothing may be simplified in between."""

    def f(x):
        y = x * 1.0
        return (y * 1.0 + y * 1.0) + x * 1e16

    x = Value(3.0)
    f(x).backward()
    with_aux = fg.grad(lambda x: (x * x, f(x)), has_aux=True)
    for g in (f, lambda x: fg.value_and_grad(f)(x)[0], lambda x: with_aux(x)[1]):
        assert_same([fg.grad(g)(3.0)], [x.grad])


@given(programs(inputs=tame, max_steps=8))
@settings(max_examples=examples(40))
def test_gradients_through_values_of_inner_gradients(program):
    every = range(len(program.inputs))
    inner = fg.value_and_grad(lambda *leaves: program.run(leaves)[0], every)
    outer = fg.value_and_grad(lambda *leaves: inner(*leaves)[0], every)

    def compute():
        value, slopes = outer(*program.inputs)
        return [value, *slopes]

    expected = by_interpreter(program)
    if expected.error is None:
        assert_agrees(flatgrad_outcome(compute), expected, program)


def test_inner_gradients_of_lists_and_arrays():
    def norm(a):
        g = fg.grad(lambda b: (b * b * b).sum())(a)
        return (g * g).sum()

    a = np.array([1.0, 2.0])
    assert fg.grad(norm)(a).tolist() == [36.0, 288.0]
    # y0 * y1**2 has the gradient (x**2, 2*x**2) at (x, x)
    assert fg.grad(lambda x: sum(fg.grad(lambda y: y[0] * y[1] ** 2)([x, x])))(3.0) == 6 * 3.0


def test_compiled_functions_are_inlined():
    inner = fg.compile(lambda x: x.tanh() * 2.0)
    plain = lambda x: x.tanh() * 2.0  # noqa: E731
    nested = fg.value_and_grad(lambda x: inner(inner(x) * x))
    flat = fg.value_and_grad(lambda x: plain(plain(x) * x))
    assert nested(0.7) == flat(0.7)
    assert len(nested.kernel_for(0.7).program) == len(flat.kernel_for(0.7).program)
    assert inner.kernels == [], "nothing was compiled apart"


@given(programs(inputs=tame, max_steps=6))
@settings(max_examples=examples(40))
def test_a_call_within_a_graph_receives_what_its_kernel_computes(program):
    """out * 3: the call gets one gradient, and hands one term to each operand."""
    f = fg.compile(lambda *leaves: program.run(leaves))

    def compute(call, seed):
        leaves = [Value(x) for x in program.inputs]
        out = call(*leaves)[0]
        (out * seed).backward()
        return [out.data, *[leaf.grad for leaf in leaves]]

    expected = flatgrad_outcome(lambda: compute(lambda *leaves: program.run(leaves, Interpreted(leaves)), 3.0))
    if expected.error is None:
        assert_agrees(flatgrad_outcome(lambda: compute(f, 3.0)), expected, program)


# --- compile_graph ----------------------------------------------------------------------------------------------------


def test_compile_graph_with_inputs():
    x, y, w = Value(2.0, label="x"), Value(3.0), Value(10.0)
    graph = fg.compile_graph([x * y + w, x], [x, y])
    w.data = 20.0
    a = Value(5.0)
    total, same = graph(a, 1.0)
    assert (total.data, same.data) == (25.0, 5.0)
    total.backward()
    assert (a.grad, w.grad, x.grad) == (1.0, 1.0, 0.0)
    with pytest.raises(fg.InputError, match="expected 2 numbers"):
        graph(1.0)


def test_compile_graph_without_inputs_reads_the_leaves():
    x, y = Value(2.0), Value(3.0)
    graph = fg.compile_graph(x * y + x)
    x.data = 10.0
    out = graph()
    out.backward()
    assert (out.data, x.grad, y.grad) == (40.0, 4.0, 10.0)
    assert graph.source == graph.kernel.source
    assert graph.stats.primal == 2


def test_compile_graph_cuts_at_an_input_with_operands():
    x = Value(2.0)
    h = x * 3.0
    graph = fg.compile_graph(h * h + x, [h])
    out = graph(Value(10.0))
    out.backward()
    assert (out.data, x.grad) == (102.0, 1.0)


def test_compile_graph_of_the_result_of_a_call():
    f = fg.compile(lambda x: x * x)
    x = Value(3.0)
    graph = fg.compile_graph(f(x) * 2.0)
    out = graph()
    out.backward()
    assert (out.data, x.grad) == (18.0, 12.0)


def test_compile_graph_with_conditions():
    x, y = Value(2.0), Value(3.0)
    graph = fg.compile_graph(fg.where((x < y) & ~fg.equal(x, 0.0), x * 2.0, y), [x, y])
    assert [graph(*at).data for at in ((2.0, 3.0), (5.0, 3.0), (0.0, 3.0))] == [4.0, 3.0, 3.0]


def test_compile_graph_with_a_plain_truth_value():
    x = Value(2.0)
    for chosen in (True, False, np.bool_(True)):
        graph = fg.compile_graph(fg.where(chosen, x * 2.0, x * 3.0), [x])
        graph.program.check()
        assert graph(5.0).data == (10.0 if chosen else 15.0)


def test_compile_graph_rejects_what_is_no_graph():
    x = Value(1.0)
    for call in (lambda: fg.compile_graph(3.0), lambda: fg.compile_graph([x, 3.0]), lambda: fg.compile_graph(x, [3.0])):
        with pytest.raises(TypeError) as caught:
            call()
        assert isinstance(caught.value, fg.FlatgradError)
    with pytest.raises(fg.InputError, match="twice"):
        fg.compile_graph(x * 2.0, [x, x])


# --- kernels ----------------------------------------------------------------------------------------------------------


def test_what_a_kernel_tells():
    kernel = fg.value_and_grad(product).kernel_for(1.0, 2.0)
    stats = kernel.stats
    assert (stats.inputs, stats.outputs) == (2, 2)
    assert stats.equations == stats.primal + stats.adjoint == len(kernel.program)
    assert stats.lines == kernel.source.count("\n")
    assert stats.trace_seconds >= 0
    assert stats.compile_seconds >= 0
    assert dataclasses.is_dataclass(stats)
    assert kernel.leaves == []
    assert "product" in repr(kernel)
    assert kernel.program.check() is kernel.program


def test_kernels_are_let_go():
    """A compiled function that is dropped takes its kernels and what they hold along."""
    w = Value(1.0)
    f = fg.compile(lambda x: w * x)
    f(Value(2.0)).backward()
    kernel = weakref.ref(f.kernels[0])
    assert kernel() is not None
    del f
    gc.collect()
    assert kernel() is None


def test_threads_share_a_compiled_function():
    f = fg.compile(lambda x, n: sum(x**k for k in range(n)), static_argnames="n")
    results = {}

    def work(k):
        for n in range(2, 8):
            x = Value(1.5 + k)
            out = f(x, n)
            out.backward()
            results[k, n] = (out.data, x.grad)

    in_threads(work, 6)
    assert len(f.kernels) == 6
    for (k, n), (value, gradient) in results.items():
        x = 1.5 + k
        assert value == pytest.approx(sum(x**j for j in range(n)))
        assert gradient == pytest.approx(sum(j * x ** (j - 1) for j in range(n)))


def test_tracing_in_one_thread_leaves_others_alone():
    x = Value(2.0)
    inside, done = threading.Event(), threading.Event()
    seen = []

    def traced(v):
        inside.set()
        assert done.wait(10)
        return v * 2.0

    def other():
        assert inside.wait(10)
        y = x * 3.0
        y.backward()
        seen.append((y.data, x.grad))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    assert fg.grad(traced)(1.0) == 2.0
    thread.join()
    assert seen == [(6.0, 3.0)]


def test_numbers_that_are_not_finite_pass_through():
    f = fg.value_and_grad(lambda x: x * 2.0 + math.inf)
    assert f(1.0) == (math.inf, 2.0)
    value, gradient = fg.value_and_grad(lambda x: x * math.nan)(1.0)
    assert math.isnan(value)
    assert math.isnan(gradient)


# --- truth values as numbers ------------------------------------------------------------------------------------------

MASK = [True, False, True, True] * 10
TRUTHS = {
    "a dot product": lambda x: sum(a * b for a, b in zip(x, MASK, strict=True)),
    "NumPy's": lambda x: sum(a * b for a, b in zip(x, np.array(MASK), strict=True)),
    "sums": lambda x: sum((a + b) * (True - a) for a, b in zip(x, MASK, strict=True)),
    "quotients and powers": lambda x: sum((b / (a * a + True)) * a**True for a, b in zip(x, MASK, strict=True)),
    "choices": lambda x: sum(fg.where(a > True, a, b) + fg.maximum(a, b) for a, b in zip(x, MASK, strict=True)),
    "functions": lambda x: sum(fg.atan2(a, True) + fg.hypot(a, b) for a, b in zip(x, MASK, strict=True)),
    "one": lambda x: x[0] * True + x[1] * False,
}


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
@pytest.mark.parametrize("name", TRUTHS)
def test_truth_values_are_numbers_where_numbers_are_wanted(name, backend):
    x = np.random.default_rng(1).uniform(0.5, 1.5, 40)
    values = [Value(a) for a in x.tolist()]
    graph = TRUTHS[name](values)
    graph.backward()
    value, gradient = fg.value_and_grad(TRUTHS[name], backend=backend)(x)
    assert (value, gradient.tolist()) == (graph.data, [v.grad for v in values])


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_truth_values_among_the_arguments(backend):
    x = np.random.default_rng(1).uniform(0.5, 1.5, 40)
    f = fg.value_and_grad(lambda x, mask, k: sum(a * b for a, b in zip(x, mask, strict=True)) * k, backend=backend)
    expected = sum(a for a, b in zip(x.tolist(), MASK, strict=True) if b)
    for mask in (MASK, tuple(MASK), np.array(MASK), [np.bool_(b) for b in MASK]):
        value, gradient = f(x, mask, True)
        assert value == pytest.approx(expected)
        assert gradient.tolist() == [float(b) for b in MASK]


@pytest.mark.parametrize("transform", [fg.compile, fg.jit, fg.grad])
def test_a_function_that_calls_itself_without_end(transform):
    """Nothing is wrong with its arguments."""
    f = transform(lambda x: f(x) * x)
    with pytest.raises(RecursionError):
        f(1.0)


def test_arguments_that_contain_themselves():
    items = [1.0]
    items.append(items)
    with pytest.raises(fg.InputError, match="nested too deeply, or contains itself"):
        fg.grad(lambda x: x[0])(items)
