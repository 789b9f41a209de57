"""Functions of vectors: `max`, `min`, `sum`, `prod`, `logsumexp`, `softmax`."""

from __future__ import annotations

import builtins
import functools
import inspect
import itertools
import math
import operator
import re
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler.machine import native
from flatgrad.runtime.errors import FlatgradError
from tests.bits import ARITHMETIC, all_bits, assert_same, builtin_class
from tests.examples import crossed, examples

BACKENDS = ["python", "numpy", *(["native"] if native.available() else [])]
INF, NAN = math.inf, math.nan
NAMES = ("max", "min", "sum", "prod", "logsumexp", "softmax")
WEIGHTS = (0.5, -1.25, 2.0, 0.75, -3.0, 1.5, 1.0, -0.5)

tame = st.floats(-8.0, 8.0, allow_subnormal=False)
ties = st.sampled_from((0.0, -0.0, 1.0, -1.0, 2.0))
special = st.sampled_from((INF, -INF, NAN, 0.0, -0.0, 1e300, -1e300, 1.7976931348623157e308, 5e-324, 710.0, -745.5))
vectors = st.one_of(
    st.lists(tame, min_size=1, max_size=8),
    st.lists(ties, min_size=1, max_size=8),
    st.lists(st.one_of(tame, special), min_size=1, max_size=8),
    st.lists(st.sampled_from((INF, -INF, NAN)), min_size=1, max_size=4),
)


def one_number(name):
    """The function; of `softmax` a sum of its numbers, each with another weight."""
    if name == "softmax":
        return lambda vector: fg.sum(w * p for w, p in zip(WEIGHTS, fg.softmax(vector), strict=False))
    return getattr(fg, name)


def outcome(compute):
    """Bits, or the class of what was raised and the user's line in it."""
    try:
        value, gradient = compute()
    except FlatgradError as error:
        return builtin_class(error), str(error).partition("\n")[2]
    return all_bits([value, *gradient])


def interpreted(function, vector):
    values = [fg.Value(x) for x in vector]
    out = function(values)
    out.backward()
    return out.data, [value.grad for value in values]


# --- what they are ----------------------------------------------------------------------------------------------------


def test_folds_go_from_left_to_right():
    draw = np.random.default_rng(1)
    vector = (draw.normal(size=200) * 10.0 ** draw.integers(-8, 8, size=200)).tolist()
    total, product = vector[0], vector[0]
    for x in vector[1:]:
        total, product = total + x, product * x
    assert_same([fg.sum(vector), fg.prod(vector)], [total, product])
    bound = len(vector) * 2.0**-53 * math.fsum(map(abs, vector))
    assert 0.0 < abs(fg.sum(vector) - math.fsum(vector)) <= bound
    exact = math.prod(map(Fraction, vector[:20]))
    assert abs(Fraction(fg.prod(vector[:20])) / exact - 1) < Fraction(20, 2**53)
    assert (fg.max(vector), fg.min(vector)) == (np.max(vector), np.min(vector))


def test_the_first_of_equal_elements():
    assert_same([fg.max([0.0, -0.0]), fg.max([-0.0, 0.0]), fg.min([0.0, -0.0]), fg.min([-0.0, 0.0])],
                [0.0, -0.0, 0.0, -0.0])  # fmt: skip
    assert_same([fg.sum([-0.0, -0.0]), fg.sum([-0.0]), fg.prod([-0.0])], [-0.0] * 3)


def test_equal_elements_share_the_gradient():
    for function in (fg.max, fg.min):
        for vector, expected in (
            ([2.0], [1.0]),
            ([2.0, 2.0], [0.5, 0.5]),
            ([2.0, 2.0, 2.0], [0.25, 0.25, 0.5]),
            ([2.0, 2.0, 2.0, 2.0], [0.125, 0.125, 0.25, 0.5]),
        ):
            assert fg.value_and_grad(function)(vector) == (2.0, expected)
    assert fg.grad(fg.max)([1.0, 3.0, 2.0, 3.0]) == [0.0, 0.5, 0.0, 0.5]


def test_nan_is_found_everywhere():
    for place in range(3):
        vector = [1.0, INF, -2.0]
        vector[place] = NAN
        for name in NAMES:
            result = getattr(fg, name)(vector)
            assert all(map(math.isnan, result if name == "softmax" else [result])), (name, vector)


@given(st.lists(st.floats(-700.0, 700.0), min_size=1, max_size=12))
@settings(max_examples=examples(50))
def test_logsumexp_and_softmax_are_accurate(vector):
    """Compared with the formulas in 200 digits."""
    with mp.workdps(200):
        powers = [mp.exp(mpf(x)) for x in vector]
        total = builtins.sum(powers, mpf(0))
        true = mp.log(total)
        error = abs(mpf(fg.logsumexp(vector)) - true)
        assert error <= mpf(2.0**-52) * (abs(true) + 2 * len(vector) + abs(max(vector)))
        for probability, power in zip(fg.softmax(vector), powers, strict=True):
            # x - m is rounded by half an ulp of at most 1400, which `exp` passes on.
            assert abs(mpf(probability) - power / total) <= mpf(2.0**-53) * 1500 * power / total + mpf(1e-300)


def test_nothing_overflows():
    assert fg.logsumexp([1000.0, 1000.0]) == 1000.0 + math.log(2.0)
    assert fg.logsumexp([-1000.0, -1000.0]) == -1000.0 + math.log(2.0)
    assert fg.softmax([1e308, -1e308, 1e308]) == [0.5, 0.0, 0.5]
    largest = 1.7976931348623157e308
    assert fg.logsumexp([largest, -largest]) == largest
    assert fg.logsumexp([-largest, -INF]) == -largest


def test_infinite_elements():
    slope = fg.value_and_grad(fg.logsumexp)
    for vector, value, gradient in (
        ([-INF], -INF, [0.0]),
        ([-INF, -INF], -INF, [0.0, 0.0]),
        ([-INF, 3.0, 3.0], 3.0 + math.log(2.0), [0.0, 0.5, 0.5]),
        ([INF, 1000.0, -INF], INF, [NAN, 0.0, 0.0]),
        ([INF, INF], INF, [NAN, NAN]),
        ([NAN, INF], NAN, [NAN, NAN]),
    ):
        results = slope(vector)
        assert_same([results[0], *results[1]], [value, *gradient], vector)
        assert_same([fg.logsumexp(vector)], [value])
    assert_same(fg.softmax([-INF, 1.0]), [0.0, 1.0])
    assert_same(fg.softmax([INF, 1000.0, -INF]), [NAN, 0.0, 0.0])
    with pytest.raises(fg.DivisionByZeroError, match=r"test_reductions\.py"):
        fg.softmax([-INF, -INF])
    ieee = fg.value_and_grad(lambda x: fg.softmax(x)[0], faults="ieee")
    assert math.isnan(ieee([-INF, -INF])[0])


def test_no_elements_and_a_single_one():
    for empty in ([], (), np.zeros(0), np.zeros((0, 3)), range(0), [[], []]):
        values = [fg.sum(empty), fg.prod(empty), fg.logsumexp(empty)]
        assert_same(values, [0.0, 1.0, -INF])
    assert fg.softmax([]) == []
    assert fg.softmax(np.zeros(0)).dtype == float
    for function in (fg.max, fg.min):
        with pytest.raises(ValueError, match=r"(max|min) of no elements is not defined\n.*test_reductions\.py"):
            function([])
    x = fg.Value(2.0)
    assert all(getattr(fg, name)([x]) is x for name in ("max", "min", "sum", "prod"))
    assert fg.value_and_grad(fg.logsumexp)([2.5]) == (2.5, [1.0])
    assert fg.softmax([2.5]) == [1.0]


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_finite_differences(name):
    function = one_number(name)
    vector, step = [0.3, -1.2, 0.9, 2.1, -0.4], 1e-6
    _, gradient = fg.value_and_grad(function)(vector)
    for k, slope in enumerate(gradient):
        above, below = ([x + sign * step * (i == k) for i, x in enumerate(vector)] for sign in (1.0, -1.0))
        assert slope == pytest.approx((function(above) - function(below)) / (2.0 * step), abs=1e-8)


@pytest.mark.parametrize("name", ["sum", "prod", "logsumexp", "softmax"])
def test_first_and_second_derivatives_by_sympy(name):
    symbols = sympy.symbols("a b c", real=True)
    total = builtins.sum(map(sympy.exp, symbols))
    expression = {
        "sum": builtins.sum(symbols),
        "prod": sympy.prod(symbols),
        "logsumexp": sympy.log(total),
        "softmax": builtins.sum(w * sympy.exp(x) / total for w, x in zip(WEIGHTS, symbols, strict=False)),
    }[name]
    vector = [0.3, -1.2, 0.9]
    at = dict(zip(symbols, vector, strict=True))
    function = one_number(name)
    expected = [float(sympy.diff(expression, x).subs(at)) for x in symbols]
    assert fg.grad(function)(vector) == pytest.approx(expected, rel=1e-13)
    for k, first in enumerate(symbols):
        second = fg.grad(lambda x, k=k: fg.grad(function)(x)[k])(vector)
        expected = [float(sympy.diff(expression, first, x).subs(at)) for x in symbols]
        assert second == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_the_product_divides_by_nothing():
    assert fg.value_and_grad(fg.prod)([0.0, 0.0, 5.0]) == (0.0, [0.0, 0.0, 0.0])
    assert fg.value_and_grad(fg.prod)([2.0, 0.0, 5.0]) == (0.0, [0.0, 10.0, 0.0])


# --- the same bits everywhere -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "backend"), crossed(NAMES, BACKENDS))
def test_the_bits_of_every_back_end(name, backend):
    function = one_number(name)
    slope = fg.value_and_grad(function, backend=backend)

    @given(vectors)
    @settings(max_examples=examples(40))
    def each(vector):
        expected = outcome(lambda: interpreted(function, vector))
        assert outcome(lambda: slope(vector)) == expected, vector

    each()


@pytest.mark.parametrize("name", NAMES)
@given(vector=vectors)
@settings(max_examples=examples(40))
def test_plain_numbers_give_the_same(name, vector):
    """As `Value`s do, in each kind of container."""
    function = one_number(name)

    def data(result):
        return result.data if isinstance(result, fg.Value) else result

    def outcome(container):
        try:
            return all_bits([data(function(container))])
        except ARITHMETIC as error:
            return builtin_class(error)

    containers = [vector, tuple(vector), iter(vector), np.array(vector)]
    containers += [[fg.Value(x) for x in vector], np.array([fg.Value(x) for x in vector])]
    assert len({str(outcome(container)) for container in containers}) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_different_lengths(name, backend):
    """Folds side by side, as loops; the numbers repeat, so that there are ties."""
    numbers = (np.round(np.random.default_rng(4).normal(size=64) * 2.0) / 2.0).tolist()
    starts = [0, 1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 64]

    def function(x):
        rows = [x[start:stop] for start, stop in itertools.pairwise(starts)]
        results = [one_number(name)(row) for row in rows]
        return functools.reduce(operator.add, [w * r for w, r in zip(WEIGHTS * 2, results, strict=False)])

    value, gradient = interpreted(function, numbers)
    result = fg.value_and_grad(function, backend=backend)(numbers)
    assert_same([result[0], *result[1]], [value, *gradient])


@pytest.mark.parametrize("name", ["sum", "logsumexp", "softmax"])
def test_loops_are_found(name):
    """2,500 numbers are a few statements, with the gradient."""
    vector = np.random.default_rng(0).normal(size=2500)
    draw = np.random.default_rng(1).normal(size=2500).tolist()
    function = getattr(fg, name)
    if name == "softmax":
        function = lambda x: fg.sum(w * p for w, p in zip(draw, fg.softmax(x), strict=True))  # noqa: E731
    kernel = fg.value_and_grad(function, backend="numpy").kernel_for(vector)
    assert kernel.arrays.stats.scalars < 20
    assert len(kernel.arrays.statements) < 12
    if native.available():
        slope = fg.value_and_grad(function)
        value, gradient = interpreted(function, vector.tolist())
        results = slope(vector)
        assert_same([results[0], *results[1].tolist()], [value, *gradient])
        assert slope.kernels[0].backend == "native"


def test_a_network_with_softmax_is_loops():
    """The mean of several outputs of a network, each with another row of probabilities."""
    model = nn.MLP(3, [8, 5], activation="tanh", seed=1)
    X = np.random.default_rng(2).normal(size=(40, 3))

    def loss(X):
        rows = [fg.softmax(model(x)) for x in X]
        return fg.sum(fg.sum(w * p for w, p in zip(WEIGHTS, row, strict=False)) for row in rows) * (1.0 / len(X))

    slope = fg.value_and_grad(loss, wrt=model, backend="numpy")
    out = loss(X)
    out.backward()
    value, gradient = slope(X)
    assert_same([value, *gradient], [out.data, *(p.grad for p in model.parameters())])
    assert slope.kernels[0].arrays.stats.scalars < 20


def test_the_cross_entropy_is_made_of_them():
    logits = [0.3, -1.2, 0.9]
    assert nn.cross_entropy(logits, 1).data == pytest.approx(fg.logsumexp(logits) - logits[1], rel=1e-15)
    assert nn.cross_entropy(logits, 1).data == pytest.approx(-math.log(fg.softmax(logits)[1]), rel=1e-15)


# --- arguments and results --------------------------------------------------------------------------------------------


def test_vectors_of_every_kind():
    matrix = np.arange(1.0, 7.0).reshape(2, 3)
    for vector in (matrix, matrix.T.copy().T, matrix.tolist(), [matrix[0], matrix[1]], range(1, 7), iter(matrix)):
        assert fg.sum(vector) == 21.0
    assert (fg.max(matrix), fg.min(matrix), fg.prod(matrix), fg.norm([matrix])) == (6.0, 1.0, 720.0, math.sqrt(91.0))
    assert fg.sum({"a": 1.0, "b": 2.0}.values()) == 3.0
    assert type(fg.max([1, True, np.float32(3.0)])) is float
    assert type(fg.sum(np.array([1, 2]))) is float
    x = fg.Value(3.0)
    assert fg.max([1.0, x]).data == fg.sum([x]).data == fg.prod(np.array([x, 1.0])).data == 3.0
    result = fg.softmax(np.array([x, fg.Value(3.0)]))
    assert (result.dtype, [p.data for p in result]) == (object, [0.5, 0.5])
    assert [p.data if isinstance(p, fg.Value) else p for p in fg.softmax((x, 3))] == [0.5, 0.5]


WRONG = [
    3.0,
    fg.Value(3.0),
    "34",
    {"a": 1.0},
    {1.0, 2.0},
    None,
    [1.0, "2"],
    [1j],
    [[1.0], {2.0: 1}],
]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("name", [*NAMES, "norm"])
def test_what_is_no_vector(name, wrong):
    with pytest.raises(fg.InputError, match=r"test_reductions\.py"):
        getattr(fg, name)(wrong)


@pytest.mark.parametrize("wrong", [[[1.0, 2.0], [3.0, 4.0]], np.zeros((2, 2)), (np.zeros(2),)], ids=repr)
def test_softmax_takes_one_vector(wrong):
    with pytest.raises(fg.InputError, match=r"\[fg\.softmax\(row\) for row in matrix\]"):
        fg.softmax(wrong)


def test_names_of_builtins_are_not_imported_by_star():
    names: dict = {}
    exec("from flatgrad import *", names)
    assert {"logsumexp", "prod", "softmax", "norm"} <= set(names)
    assert not {"max", "min", "sum", "abs", "compile", "complex"} & set(names)
    assert all("Example:" in inspect.getdoc(getattr(fg, name)) for name in NAMES)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fg.max(1.0, 2.0),
            "max takes one vector, got 2 arguments; of two write fg.maximum(a, b), of more fg.max",
        ),
        (lambda: fg.min(1.0, fg.Value(2.0), 3.0), "got 3 arguments; of two write fg.minimum(a, b)"),
        (lambda: fg.norm(1.0, 2.0), "norm takes one vector, got 2 arguments; of two write fg.norm([a, b])"),
        (lambda: fg.sum(np.ones((2, 2)), axis=0), "got axis; for the rows of a matrix write [fg.sum(row) for row in"),
        (lambda: fg.softmax(np.ones((2, 2)), axis=1), "got axis; for the rows of a matrix write [fg.softmax(row) for"),
        (lambda: fg.max([1.0], key=abs, default=0.0), "max takes one vector and no options, got key, default"),
        (lambda: fg.softmax(np.array(3.0)), "softmax: expected one vector, got a single number in an array with"),
    ],
)
def test_calls_as_of_other_libraries_say_what_to_write(call, message):
    with pytest.raises(fg.InputError, match=re.escape(message)) as caught:
        call()
    assert "test_reductions.py" in str(caught.value)


def test_they_are_functions_of_one_vector():
    for name in NAMES:
        assert list(inspect.signature(getattr(fg, name)).parameters) == ["vector"], name
        assert getattr(fg, name)(vector=[2.0]) == getattr(fg, name)([2.0])


def test_what_contains_itself_is_an_error():
    same = [1.0, 2.0]
    ring = [same, [same]]  # twice, but not inside of itself
    assert fg.sum(ring) == 6.0
    ring.append(ring)
    loop = np.empty(1, dtype=object)
    loop[0] = [loop]
    for vector, name in ((ring, "list"), ([0.0, ring], "list"), (loop, "ndarray")):
        for function in (fg.sum, fg.logsumexp):
            with pytest.raises(fg.InputError, match=rf"the {name} contains itself[\s\S]*test_reductions\.py"):
                function(vector)
