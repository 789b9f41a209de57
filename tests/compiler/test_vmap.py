"""`fg.vmap`: the loop over rows, with the bits of the interpreter's list comprehension."""

from __future__ import annotations

import collections
import copy
import inspect
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.compiler.machine import native, objects
from tests.bits import assert_same
from tests.compiler.test_builtin import is_builtin
from tests.every_way import flattened
from tests.examples import crossed, examples
from tests.programs import by_interpreter, flatgrad_outcome, programs, tame

BACKENDS = ["python", "numpy", *(["native"] if native.available() else [])]
Pair = collections.namedtuple("Pair", "left right")
X = np.array([[0.5, -1.25], [2.0, 0.75], [-0.375, 3.0]])
Y = np.array([1.5, -0.5, 0.25])


def score(w, x, y=0.0):
    """The square of a distance, and more."""
    return (fg.tanh(w[0] * x[0] + w[1] * x[1]) - y) ** 2 + fg.exp(x[0] * w[1])


def data_of(result):
    """A result with floats in place of `Value`s."""
    if isinstance(result, dict):
        new = copy.copy(result)
        new.update({key: data_of(item) for key, item in result.items()})
        return new
    if isinstance(result, np.ndarray):
        return np.array([data_of(item) for item in result.ravel().tolist()]).reshape(result.shape)
    if isinstance(result, (list, tuple)):
        items = list(map(data_of, result))
        return type(result)._make(items) if hasattr(result, "_fields") else type(result)(items)
    return result.data if isinstance(result, Value) else result


def assert_equal(actual, expected):
    """Fail unless two results are of the same structure and shapes, and have the same bits."""
    assert type(actual) is type(expected)
    if isinstance(actual, np.ndarray):
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        assert_same(map(float, actual.ravel().tolist()), map(float, expected.ravel().tolist()))
    elif isinstance(actual, dict):
        assert list(actual) == list(expected)
        assert_equal(list(actual.values()), list(expected.values()))
    elif isinstance(actual, (list, tuple)):
        assert len(actual) == len(expected)
        for left, right in zip(actual, expected, strict=True):
            assert_equal(left, right)
    else:
        assert actual == expected


# --- what it means ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_the_list_comprehension(backend):
    f = fg.vmap(score, in_axes=(None, 0, 0), backend=backend)
    w = [0.5, -1.5]
    expected = [score(w, [Value(a), Value(b)], y).data for (a, b), y in zip(X.tolist(), Y.tolist(), strict=True)]
    for arguments in [(w, X, Y), (np.array(w), X.tolist(), list(Y)), (w, X.T.copy().T, Y.astype(np.float32))]:
        for _ in range(3):
            results = f(*arguments)
            assert (type(results), results.dtype, results.shape) == (np.ndarray, np.float64, (3,))
            assert_same(results.tolist(), expected)
        assert f.kernel_for(*arguments).backend == backend
    assert f.kernel_for(w, X, Y).backward is None
    assert (f.__name__, f.__doc__, inspect.signature(f)) == ("score", score.__doc__, inspect.signature(score))


@pytest.mark.skipif(not native.available() or not objects.supported(), reason="needs builtins")
def test_calls_with_numbers_come_to_machine_code():
    f = fg.vmap(lambda x: {"sum": x[0] + x[1], "x": x}, backend="native")
    for _ in range(3):
        assert_equal(f(X), {"sum": X[:, 0] + X[:, 1], "x": X})
    assert is_builtin(f)
    w = [Value(0.5), Value(-1.5)]
    slopes = fg.vmap(fg.grad(lambda x: score(w, x), wrt=w), backend="native")
    for _ in range(2):
        assert slopes(X).shape == (3, 2)
    assert is_builtin(slopes)
    out = f([[Value(1.0), Value(2.0)]])
    assert isinstance(out["sum"][0], Value)
    assert fg.jit(f)(X)["sum"].tolist() == (X[:, 0] + X[:, 1]).tolist()


def test_values_among_the_arguments_give_a_graph():
    w, rows = [Value(0.5), Value(-1.5)], [[Value(1.0), Value(2.0)], [Value(3.0), Value(-1.0)]]
    f = fg.vmap(score, in_axes=(None, 0))
    mean = fg.sum(f(w, rows)) / 2
    mean.backward()
    again = [Value(0.5), Value(-1.5)], [[Value(1.0), Value(2.0)], [Value(3.0), Value(-1.0)]]
    expected = fg.sum([score(again[0], x) for x in again[1]]) / 2
    expected.backward()
    assert_same([mean.data], [expected.data])
    for mine, other in zip([*w, *rows[0], *rows[1]], [*again[0], *again[1][0], *again[1][1]], strict=True):
        assert_same([mine.grad], [other.grad])
    assert f.kernels == []
    only_w = f(w, X)
    assert only_w.dtype == object
    assert_same([out.data for out in only_w], [score(w, x).data for x in X.tolist()])


def test_a_map_inside_of_a_map_of_values_is_a_part_of_the_graph():
    factors = [Value(2.0), Value(3.0), Value(4.0)]
    shift = Value(1.0)
    shifted = fg.vmap(lambda y: y + shift)  # on numbers, with machine code or without
    for _ in range(3):
        assert shifted(Y).tolist() == (Y + 1.0).tolist()

    def function(x, w):
        return fg.sum(shifted(x)) + fg.sum(fg.vmap(lambda y: y * w)(x))

    fg.sum(fg.vmap(function)(X, factors)).backward()
    assert (shift.grad, [w.grad for w in factors]) == (6.0, [x[0] + x[1] for x in X.tolist()])
    assert shifted(Y).dtype == np.float64


def test_parameters_are_read_at_each_call():
    model = nn.MLP(2, [3, 2], seed=1)
    f, g = fg.vmap(model), fg.vmap(lambda m, x: m(x), in_axes=(None, 0))
    for _ in range(2):
        expected = np.array([[out.data for out in model(x)] for x in X.tolist()])
        assert_equal(f(X), expected)
        assert_equal(g(model, X), expected)
        model.parameters()[0].data += 0.5
    assert len(f.open_kernels) == 1
    out = fg.compile(f)(X)
    fg.sum(out.ravel().tolist()).backward()
    assert model.parameters()[0].grad != 0.0


STRUCTURES = {
    "numbers": (lambda x: x[0] * 2.0, (3,)),
    "arrays": (lambda x: np.outer(x, [1.0, 2.0, 3.0]), (3, 2, 3)),
    "lists": (lambda x: [x[0], 1.5], (3, 2)),
    "lists of lists": (lambda x: [[x[0]], [x[1]], [x[0]]], (3, 3, 1)),
    "an empty list": (lambda x: [], (3, 0)),
    "constants": (lambda x: 2.5, (3,)),
    "the row": (lambda x: x, (3, 2)),
}


@pytest.mark.parametrize(("name", "backend"), crossed(STRUCTURES, BACKENDS))
def test_results_are_stacked_as_numpy_does(name, backend):
    function, shape = STRUCTURES[name]
    f = fg.vmap(function, backend=backend)
    expected = np.array([data_of(function(np.array([Value(a), Value(b)]))) for a, b in X.tolist()])
    assert expected.shape == shape
    for _ in range(3):
        assert_equal(f(X), expected)
    assert_equal(f(X[:1]), expected[:1])
    none = f(X[:0])
    assert (none.shape, none.dtype) == ((0, *shape[1:]), np.float64)
    inside = fg.jit(f, backend=backend)
    assert_equal(inside(X), expected)
    assert inside(X[:0]).shape == none.shape


def test_tuples_and_dicts_stay_what_they_are():
    def function(x):
        more = collections.OrderedDict(b=[x, x[0]], a=None)
        return Pair(x[0], (x, [[x[0]], [x[1], x[0]]])), {"sum": x[0] + x[1], "more": more}

    pair, more = fg.vmap(function)(X)
    assert_equal(pair, Pair(X[:, 0], (X, [X[:, :1], X[:, ::-1].copy()])))
    assert_equal(more, {"sum": X[:, 0] + X[:, 1], "more": collections.OrderedDict(b=[X, X[:, 0].copy()], a=None)})
    none = fg.vmap(function)(X[:0])
    assert [a.shape for a in none[0].right[1]] == [(0, 1), (0, 2)]
    assert_equal(none[1]["more"], collections.OrderedDict(b=[X[:0], X[:0, 0]], a=None))


def test_numbers_that_are_not_traced_have_numpys_type():
    assert fg.vmap(len)(X).tolist() == [2, 2, 2]
    assert fg.vmap(len)(X).dtype == np.array([2]).dtype
    assert fg.vmap(lambda x: [True, False])(X).dtype == bool
    assert fg.vmap(lambda x: None)(X) is None


# --- axes -------------------------------------------------------------------------------------------------------------


@st.composite
def mapped_arrays(draw):
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    rank = len(shape)
    in_axis, out_axis = draw(st.integers(-rank, rank - 1)), draw(st.integers(-rank, rank - 1))
    return np.arange(float(np.prod(shape))).reshape(shape) - 2.5, in_axis, out_axis


@given(mapped_arrays(), st.sampled_from(["call", "trace", "values"]))
@settings(max_examples=examples(60), deadline=None)
def test_every_axis_of_every_shape(arguments, way):
    array, in_axis, out_axis = arguments
    f = fg.vmap(lambda x: x * 2.0 + 1.0, in_axis, out_axis, backend="python")
    expected = np.moveaxis(np.moveaxis(array, in_axis, 0) * 2.0 + 1.0, 0, out_axis)
    if way == "values":
        result = data_of(f(np.array([Value(x) for x in array.ravel()], dtype=object).reshape(array.shape)))
    else:
        result = (f if way == "call" else fg.jit(f, backend="python"))(array)
    assert result.shape == expected.shape
    assert_same(result.astype(float).ravel().tolist(), expected.ravel().tolist())
    if array.size and in_axis >= 0:
        assert_equal(fg.vmap(lambda x: x, in_axis, out_axis)(array.tolist()), (expected - 1.0) / 2.0)


@given(mapped_arrays(), mapped_arrays())
@settings(max_examples=examples(30), deadline=None)
def test_maps_of_maps(first, second):
    a, b = first[0].ravel()[:3], second[0].ravel()[:3]
    f = fg.vmap(fg.vmap(lambda x, y: x * y + x, in_axes=(None, 0)), in_axes=(0, None), backend="python")
    expected = np.array([[x * y + x for y in b.tolist()] for x in a.tolist()]).reshape(len(a), len(b))
    assert_equal(f(a, b), expected)
    g = fg.vmap(fg.vmap(lambda x, y: x * y + x, in_axes=(0, None)), (None, 0), 1, backend="python")
    assert_equal(g(a, b), expected)


def test_trees_of_axes():
    tree = {"w": [X, Y], "b": (Y, {"c": X.T})}

    def function(p, scale):
        return {"sum": p["w"][0][0] + p["b"][0] * scale, "c": [p["b"][1]["c"], p["w"][1]]}

    axes = ({"w": 0, "b": (0, {"c": 1})}, None)
    result = fg.vmap(function, axes, {"sum": 0, "c": [1, -1]})(tree, 2.0)
    assert_equal(result, {"sum": X[:, 0] + Y * 2.0, "c": [X.T.copy(), Y]})
    inner = fg.vmap(lambda p, q: p[0] * q + p[1], in_axes=([0, None], 0))
    assert_equal(inner([[1.0, 2.0, 3.0], 0.5], Y.tolist()), np.array([1.0, 2.0, 3.0]) * Y + 0.5)


def test_lists_without_arrays_are_rows_and_lists_of_arrays_are_structures():
    assert_equal(fg.vmap(lambda x: x[1])([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([2.0, 4.0, 6.0]))
    assert_equal(fg.vmap(lambda p: p[0] * p[1][0])([Y, X]), Y * X[:, 0])
    rows = [{"x": 1.0, "kind": "a"}, {"x": 2.0, "kind": "b"}]
    assert_equal(fg.vmap(lambda r: r["x"] if r["kind"] == "a" else -r["x"])(rows), np.array([1.0, -2.0]))
    ragged = [[1.0], [2.0, 3.0], []]
    assert_equal(fg.vmap(lambda r: fg.sum(r) if r else 0.0)(ragged), np.array([1.0, 5.0, 0.0]))


def test_keywords_defaults_and_statics():
    def power(x, scale=2.0, *, shift=0.0, n=1):
        return x**n * scale + shift

    f = fg.vmap(power, in_axes=(0, None), static_argnames="n")
    assert_equal(f(Y), Y * 2.0)
    assert_equal(f(scale=3.0, x=Y), Y * 3.0)
    assert_equal(f(Y, 3.0, shift=X[:, 0]), Y * 3.0 + X[:, 0])
    assert_equal(f(Y, n=1), Y * 2.0)
    assert_equal(fg.vmap(lambda *xs: xs[0] * xs[1])(Y, Y), Y * Y)


class Scale:
    def __init__(self, factor):
        self.factor = factor

    @fg.vmap
    def double(self, x):
        return x * self.factor

    @fg.vmap(in_axes=(None, 0, None), out_axes=1, backend="python")
    def both(self, x, y):
        return [x * self.factor, y]

    @fg.vmap(in_axes=(0, 0))
    def wrong(self, x):
        return x


def test_it_is_a_decorator_with_and_without_options():
    scale = Scale(2.0)
    for _ in range(2):
        assert_equal(scale.double(Y), Y * scale.factor)
        assert_equal(Scale.double(scale, Y), Y * scale.factor)
        assert_equal(scale.both(Y, 7.0), np.array([Y * scale.factor, [7.0] * 3]))
        scale.factor = 3.0
    assert fg.jit(scale.double)(Y).tolist() == (Y * 3.0).tolist()
    with pytest.raises(fg.InputError, match=r"in_axes=\(0, 0\) of the method wrong must begin with None, for self"):
        scale.wrong(Y)


# --- composed with the others -----------------------------------------------------------------------------------------


def gradients(w, x, y):
    """The interpreter's value and gradients of `score`."""
    w, x = [Value(n) for n in w], [Value(n) for n in x]
    out = score(w, x, y)
    out.backward()
    return out.data, [n.grad for n in w], [n.grad for n in x]


W = [0.5, -1.5]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_per_row(backend):
    expected = [gradients(W, x, y) for x, y in zip(X.tolist(), Y.tolist(), strict=True)]
    values, by_w, by_x = (np.array(column) for column in zip(*expected, strict=True))
    both = fg.value_and_grad(score, (0, 1))
    for w in (W, np.array(W)):
        for f in (fg.vmap(both, (None, 0, 0), backend=backend), fg.jit(fg.vmap(both, (None, 0, 0)), backend=backend)):
            for _ in range(2):
                assert_equal(f(w, X, Y), (values, (by_w, by_x)))
        assert_equal(fg.vmap(fg.grad(score), (None, 0, 0), backend=backend)(w, X, Y), by_w)
    reached = fg.vmap(lambda x, y: fg.grad(lambda w: score(w, x, y))(W), backend=backend)
    assert_equal(reached(X, Y), by_w)
    parameters = [Value(n) for n in W]
    wrt = fg.vmap(fg.value_and_grad(lambda x, y: score(parameters, x, y), wrt=parameters), backend=backend)
    assert_equal(wrt(X, Y), (values, by_w))
    assert_equal(wrt(X[:0], Y[:0]), (values[:0], by_w[:0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_of_a_mean_over_rows(backend):
    def mean(w, f):
        return fg.sum(f(w)) / len(X)

    def rows(w):
        return fg.vmap(lambda x, y: score(w, x, y))(X, Y)

    w = [Value(n) for n in W]
    expected = mean(w, lambda w: [score(w, x, y) for x, y in zip(X.tolist(), Y.tolist(), strict=True)])
    expected.backward()
    compiled, jitted, mapped = (t(score) for t in (fg.compile, fg.jit, lambda f: fg.vmap(f, (None, 0, 0))))
    ways = [
        rows,
        lambda w: fg.vmap(compiled, (None, 0, 0))(w, X, Y),
        lambda w: fg.vmap(jitted, (None, 0, 0))(w, X, Y),
        lambda w: fg.compile(mapped)(w, X, Y),
        lambda w: fg.jit(mapped)(w, X, Y),
        lambda w: fg.vmap(fg.value_and_grad(score), (None, 0, 0))(w, X, Y)[0],
    ]
    for way in ways:
        f = fg.value_and_grad(lambda w, way=way: mean(w, way), backend=backend)
        for _ in range(2):
            value, gradient = f(W)
            assert_same([value, *gradient], [expected.data, *(n.grad for n in w)])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_whose_loss_is_a_mean_over_rows(backend):
    def trained(rows_of):
        model = nn.MLP(2, [3, 1], activation="tanh", seed=1)

        def loss(X, y):
            return fg.sum(rows_of(lambda x, y: (model(x) - y) ** 2, X, y)) / len(X)

        history = nn.fit(loss, model, nn.SGD(0.1), X, Y, steps=4, batch_size=2, seed=3, progress=False, backend=backend)
        return [*history.loss, *(p.data for p in model.parameters())]

    loops = trained(lambda f, X, y: [f(a, b) for a, b in zip(X, y, strict=True)])
    assert_same(trained(lambda f, X, y: fg.vmap(f)(X, y)), loops)


FORMULAS = [
    (lambda w, x: (w * x).sin() * x, lambda w, x: sp.sin(w * x) * x),
    (lambda w, x: fg.log(w * x * x + 2.0) * w, lambda w, x: sp.log(w * x**2 + 2) * w),
    (lambda w, x: fg.where(x > w, x**3 * w, w * w * x), lambda w, x: sp.Piecewise((x**3 * w, x > w), (w**2 * x, True))),
    (lambda w, x: fg.logsumexp([w * x, x * x, w]), lambda w, x: sp.log(sp.exp(w * x) + sp.exp(x * x) + sp.exp(w))),
    (lambda w, x: fg.softmax([w * x, x])[0] / w, lambda w, x: sp.exp(w * x) / (sp.exp(w * x) + sp.exp(x)) / w),
]


@pytest.mark.parametrize(("f", "form"), FORMULAS)
def test_gradients_of_gradients_are_the_derivatives(f, form):
    w, x = sp.symbols("w x", real=True)
    point, rows = 0.75, [0.5, 1.25, -0.375]
    slopes = sum(sp.diff(form(w, x), x).subs(x, sp.Float(row, 40)) ** 2 for row in rows)
    expected = [float(sp.diff(slopes, w, order).subs(w, sp.Float(point, 40)).evalf(30)) for order in (1, 2)]

    def penalty(w):
        """The gradient of each row, by a function that reaches `w`, and by one that gets it."""
        reached = fg.vmap(fg.grad(lambda x: f(w, x)))(rows)
        passed = fg.vmap(fg.grad(f, 1), (None, 0))(w, np.array(rows))
        return fg.sum(reached * passed)

    assert fg.grad(penalty)(point) == pytest.approx(expected[0], rel=1e-9)
    assert fg.grad(fg.grad(penalty))(point) == pytest.approx(expected[1], rel=1e-9)
    per_row = fg.vmap(fg.grad(fg.grad(f)), (None, 0))(point, rows)
    for row, second in zip(rows, per_row.tolist(), strict=True):
        assert second == pytest.approx(float(sp.diff(form(w, sp.Float(row, 40)), w, 2).subs(w, point).evalf(30)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_gradient_per_row_is_a_part_of_a_graph(backend):
    def f(x):
        return fg.sin(x) * x * x

    rows = [[Value(0.5), Value(-1.25)], [Value(2.0), Value(0.75)]]
    slopes = fg.compile(fg.vmap(fg.vmap(fg.grad(f))), backend=backend)(rows)
    numbers = [n for row in rows for n in row]
    assert_same([s.data for s in slopes.ravel()], [fg.grad(f)(n.data) for n in numbers])
    (slopes[0, 0] * 2.0 + slopes[1, 1]).backward()
    second = [fg.grad(fg.grad(f))(n.data) for n in numbers]
    assert [n.grad for n in numbers] == [pytest.approx(2.0 * second[0]), 0.0, 0.0, pytest.approx(second[3])]


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_what_computes_nothing(backend):
    """The derivative of each row has no operations."""
    numbers = [0.0, 2.0, -0.0]
    value, slopes = fg.vmap(fg.value_and_grad(lambda x: x), backend=backend)(np.array(numbers))
    assert_same(value.tolist(), numbers)
    assert slopes.tolist() == [1.0, 1.0, 1.0]
    assert fg.vmap(fg.grad(lambda x: 3.0), backend=backend)(np.array(numbers)).tolist() == [0.0, 0.0, 0.0]

    def slopes_in_a_graph(xs):
        return fg.grad(lambda x: x)(xs[0]) * xs[1] + fg.grad(lambda x: x)(xs[1])

    assert fg.grad(slopes_in_a_graph)([2.0, 3.0]) == [0.0, 1.0]


@given(programs(inputs=tame, max_steps=8), st.integers(0, len(BACKENDS) - 1))
@settings(max_examples=examples(30), deadline=None)
def test_random_programs_over_rows(program, backend):
    factors = [1.0, 0.5, -1.25]
    rows = [tuple(x * factor for x in program.inputs) for factor in factors]
    outcomes = [by_interpreter(replace(program, inputs=row)) for row in rows]
    function = fg.value_and_grad(lambda *leaves: program.run(leaves)[0], range(len(program.inputs)))
    f = fg.vmap(function, backend=BACKENDS[backend])

    def compute():
        value, slopes = f(*np.array(rows).T)
        return flattened(np.column_stack([value, *slopes]))

    actual = flatgrad_outcome(compute)
    if any(outcome.error for outcome in outcomes):
        assert actual.error is not None
    else:
        assert actual.error is None, program
        assert_same(actual.numbers, [n for outcome in outcomes for n in outcome.numbers], program)


def test_an_inner_gradient_is_traced_once_for_all_rows():
    traces = []

    def h(w):
        def f(x):
            traces.append(1)
            return w * x * x

        return fg.sum(fg.vmap(fg.grad(f))(Y))

    assert fg.grad(h)(3.0) == 2 * (1.5 - 0.5 + 0.25)
    assert len(traces) == 1

    def with_a_function_per_row(w):
        def slope(x):
            return fg.grad(lambda y: w * x * y)(x)

        return fg.sum(fg.vmap(slope)(np.arange(100.0)))

    assert fg.grad(with_a_function_per_row)(3.0) == 99.0 * 50.0


def test_an_inner_gradient_sees_another_value_in_its_closure():
    def in_a_cell(w):
        factor = w
        slope = fg.grad(lambda x: factor * x * x)
        total = slope(1.0)
        factor = w * w
        return total + slope(1.0)

    def in_a_list(w):
        factors = [w]
        slope = fg.grad(lambda x: factors[0] * x * x)
        total = slope(1.0)
        factors[0] = w * w
        return total + slope(1.0)

    def in_an_iterator(w):
        factors = iter([w, w * w])
        slope = fg.grad(lambda x: next(factors) * x * x)
        return slope(1.0) + slope(1.0)

    for function in (in_a_cell, in_a_list, in_an_iterator):
        assert fg.grad(function)(3.0) == 2.0 + 4.0 * 3.0


# --- any number of rows -----------------------------------------------------------------------------------------------


def hidden(w, x, y):
    """Values in a structure, whose gradients lie side by side in another order than in memory."""
    h = fg.tanh(w["a"][0] * x[0] + w["a"][1] * x[1] + w["b"])
    return (h * x[1] * x[0] - y) ** 2 + h


ROWS = {
    "value and gradient": fg.value_and_grad(hidden),
    "all gradients": fg.grad(hidden, (0, 1, 2)),
    "both": fg.value_and_grad(hidden, (1, 0)),
    "beside": fg.grad(lambda w, x, y: (hidden(w, x, y), {"y": y, "xs": [x[1], x[0], y]}), has_aux=True),
    "in another order": lambda w, x, y: {"z": hidden(w, x, y), "x": x[::-1], "y": [y, x[0]], "w": (w["b"] * y, w)},
}


@pytest.mark.parametrize(("name", "backend"), crossed(ROWS, BACKENDS))
def test_one_kernel_serves_every_number_of_rows(name, backend):
    w, draw = {"a": [0.5, -1.5], "b": 0.25}, np.random.default_rng(1)
    f = fg.vmap(ROWS[name], (None, 0, 0), backend=backend)
    single = fg.jit(ROWS[name], backend="python")
    for n in (40, 3, 1, 200):
        x, y = draw.normal(size=(n, 2)), draw.normal(size=n)
        expected = [flattened(single(w, a, b)) for a, b in zip(x, y.tolist(), strict=True)]
        result = flattened(transposed(f(w, x, y)))
        assert_same(result, [number for row in zip(*expected, strict=True) for number in row], n)
    (sizes,) = f._sizes.values()
    assert not sizes.refused
    (opened,) = sizes.open
    assert set(opened.kernel.stats.sizes.values()) <= {"traced", "compared", "rows"}


MAPPED = {
    "an array": ((X,), 0, [True, False]),
    "a list of lists": ((X.tolist(),), 0, [True, False]),
    "a list of tuples": (([(1.0, 2.0), (3.0, 4.0)],), 0, [True, False]),
    "columns of lists": ((X.T.tolist(),), 1, [False, True]),
    "the last axis but one": ((X.tolist(),), -2, [True, False]),
    "a tuple of arrays": (((X, X),), 0, [False, True, False]),
    "a list of arrays": (([X, Y],), 0, [True, False, True]),
    "a dict": (({"a": X, "b": Y.tolist()},), ({"b": None, "a": 0},), [True, False, False]),
    "a list of dicts": (([{"a": 1.0}, {"a": 2.0}],), 0, [True]),
    "not mapped": ((X, Y), (None, 0), [False, False, True]),
    "ragged": (([[1.0], [1.0, 2.0]],), 0, [False, False]),
    "unequal axes": (([X[:2], X[:2]],), ([0, 1],), [False, False, False]),
}


@pytest.mark.parametrize("name", MAPPED)
def test_the_number_of_rows_is_the_size_that_is_open(name):
    args, axes, expected = MAPPED[name]
    f = fg.vmap(lambda *args: 1.0, axes)
    assert f._open_sizes(f._take_apart(args, {})) == expected


def transposed(result):
    """A result whose arrays have their last axis in front: column by column."""
    if isinstance(result, dict):
        return {key: transposed(item) for key, item in result.items()}
    return list(map(transposed, result)) if isinstance(result, (list, tuple)) else np.moveaxis(result, 0, -1)


# --- no rows ----------------------------------------------------------------------------------------------------------


def test_no_rows():
    f = fg.vmap(lambda x: fg.log(x) / (x - x))  # at no number is it defined
    for none in ([], np.zeros(0), np.zeros(0, dtype=int)):
        for _ in range(2):
            assert_equal(f(none), np.zeros(0))
    g = fg.vmap(lambda w, x: {"p": w @ x, "x": x}, in_axes=(None, 1), out_axes={"p": 0, "x": -1})
    assert_equal(g(np.ones(4), np.zeros((4, 0))), {"p": np.zeros(0), "x": np.zeros((4, 0))})
    graph = fg.vmap(lambda w, x: w * x, in_axes=(None, 0))(Value(2.0), np.zeros(0))
    assert graph.shape == (0,)
    outer = fg.value_and_grad(lambda w: fg.sum([w, *fg.vmap(lambda x: w * x)(np.zeros(0))]))
    assert outer(2.0) == (2.0, 1.0)
    assert len(outer.kernel_for(2.0).program) == 0, "the row that was traced leaves nothing behind"


# --- errors -----------------------------------------------------------------------------------------------------------


def plain(x, y=1.0):
    return x * y


ERRORS = {
    "other lengths": (lambda: fg.vmap(plain)(X, Y[:2]), r"argument x of plain has 3 rows, and y has 2; mapped"),
    "in a dict": (
        lambda: fg.vmap(lambda p: p)({"a": X, "b": [1.0]}),
        r"argument p\['a'\] of f has 3 .* p\['b'\] has 1",
    ),
    "a list of arrays": (lambda: fg.vmap(plain)(list(X), Y), r"x\[0\] .* has 2 rows, and y has 3.*np\.array\(rows\)"),
    "a number": (lambda: fg.vmap(plain)(X, 2.0), r"argument y is a number, which has no rows; put None"),
    "a text": (lambda: fg.vmap(plain)("text"), r"argument x is a str, which has no rows"),
    "no dimension": (lambda: fg.vmap(plain)(np.array(1.0)), r"argument x is a number, which has no rows"),
    "no axis": (lambda: fg.vmap(plain, (0, 1))(X, Y), r"in_axes: 1 is no axis of the argument y, an array of shape"),
    "ragged": (lambda: fg.vmap(plain, 1)([[1.0], [1.0, 2.0]]), r"x is a list of 2 items, which has no rows along"),
    "too many axes": (lambda: fg.vmap(plain, (0, 0, 0))(X, X), r"in_axes=\(0, 0, 0\) is for 3 arguments, and plain"),
    "too few axes": (lambda: fg.vmap(plain, (0,))(X, X), r"in_axes=\(0,\) is for 1 argument, and plain got 2"),
    "another tree": (lambda: fg.vmap(plain, ({"a": 0},))({"b": X}), r"in_axes: {'a': 0} does not fit the argument x"),
    "no tree": (lambda: fg.vmap(plain, ([0, 0], 0))(X, Y), r"in_axes: \[0, 0\] does not fit the argument x, an"),
    "nothing mapped": (lambda: fg.vmap(plain, None)(X), r"no argument of plain is mapped"),
    "no arguments": (lambda: fg.vmap(lambda: 1.0)(), r"no argument of f is mapped"),  # noqa: PLW0108
    "a text as a result": (lambda: fg.vmap(lambda x: "text")(X), r"the result is a str; results of rows are"),
    "no axis of results": (lambda: fg.vmap(plain, 0, 2)(Y), r"out_axes: 2 is no axis of the result, whose rows"),
    "a tree of numbers": (lambda: fg.vmap(plain, 0, {"a": 0})(Y), r"out_axes: {'a': 0} does not fit the result"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, text = ERRORS[name]
    with pytest.raises(fg.InputError, match=rf"(?s)vmap: .*{text}.*test_vmap\.py"):
        call()


RESULTS = {
    "shapes": (lambda x: [1.0] * len(x), r" is a list of shape \(1,\) in row 0, and a list of shape \(2,\) in row 1"),
    "numbers": (lambda x: x[0] if len(x) == 1 else x, r" is a number in row 0, and a list of shape"),
    "structures": (lambda x: (x,) if len(x) == 1 else {"a": x}, r" is a tuple of 1 item in row 0, and a dict with"),
    "keys": (lambda x: {"a": {str(len(x)): x[0]}}, r"\['a'\] is a dict with the keys \['1'\] in row 0, and a dict"),
    "None": (lambda x: (x[0], None if len(x) == 1 else x[0]), r"\[1\] is None in row 0, and a number in row 1"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_of_rows_must_be_alike(name):
    function, text = RESULTS[name]
    for rows in ([[1.0], [1.0, 2.0]], [[Value(1.0)], [1.0, 2.0]]):
        with pytest.raises(fg.InputError, match=rf"(?s)vmap: the result{text}.*test_vmap\.py"):
            fg.vmap(function)(rows)


@pytest.mark.parametrize("axes", [True, 1.0, "0", (0, True), ({"a": "b"},), {"a": 0}])
def test_axes_are_ints(axes):
    with pytest.raises(fg.OptionError, match="vmap: in_axes"):
        fg.vmap(plain, axes)


@pytest.mark.parametrize("axes", [None, True, (0, None), {"a": 1.0}])
def test_axes_of_results_are_ints(axes):
    with pytest.raises(fg.OptionError, match="vmap: out_axes must be an int or a tree of ints"):
        fg.vmap(plain, 0, axes)


def test_errors_of_arithmetic_are_the_interpreters():
    for backend in BACKENDS:
        f = fg.vmap(lambda x: fg.log(x) * 2.0, backend=backend)
        for _ in range(2):
            with pytest.raises(fg.DomainError, match=r"(?s)log\(-1\.0\).*test_vmap\.py"):
                f([1.0, -1.0])
            assert f([1.0, 1.0]).tolist() == [0.0, 0.0]
    assert np.isnan(fg.vmap(fg.log, faults="ieee")([1.0, -1.0])).tolist() == [False, True]


def test_a_function_that_writes_into_its_row_is_refused():
    def function(x):
        x[0] = 2.0
        return x[0] * x[1]

    with pytest.raises(fg.TraceError, match="changes its argument x"):
        fg.vmap(function)(X)


def test_it_shows_what_was_chosen():
    assert repr(fg.vmap(plain)) == "<flatgrad.vmap of plain(x, y), backend='auto'>"
    text = "<flatgrad.vmap of plain(x, y), in_axes=(0, None), out_axes=1, backend='python'>"
    assert repr(fg.vmap(plain, (0, None), 1, backend="python")) == text
