"""Arrays of Values: what functions that are traced get, and what NumPy does with them."""

from __future__ import annotations

import copy
import math
import operator

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.runtime.arrays import Array, as_array

X = np.array([0.5, 2.0, 1.5])


def gradients(f, *args):
    """Value and gradients of a function, compared with those of the interpreter on Arrays, bit for bit."""
    transformed = fg.value_and_grad(f, argnums=tuple(range(len(args))))
    value, found = transformed(*args)
    leaves = [as_array([Value(x) for x in each.ravel().tolist()], each.shape) for each in args]
    result = f(*leaves)
    if isinstance(result, Value):
        result.backward()
        assert math.copysign(1.0, result.data) == math.copysign(1.0, value)
        assert result.data == value
        for leaf, gradient in zip(leaves, found, strict=True):
            assert [x.grad for x in leaf.ravel().tolist()] == gradient.ravel().tolist()
    return value, *(each.tolist() for each in found)


def test_arrays_of_traced_functions_are_of_the_class():
    arrays = []

    def f(x, rows):
        arrays.extend([x, x + 1.0, 2.0 * x, np.exp(x), x[1:], x @ x[:, None], rows[0], np.ones(3) - x])
        return x.sum() + rows[0].sum()

    fg.grad(f)(X, [X])
    assert set(map(type, arrays)) == {Array}
    assert isinstance(fg.array([1.0]), np.ndarray)


def test_results_are_plain_arrays():
    for f in (fg.compile(lambda x: (x, [x * 2.0])), fg.compile(lambda x: (x, [x * 2.0]), max_ways=1)):
        first, (second,) = f(X)
        assert type(first) is type(second) is np.ndarray
        assert [each.data for each in second] == [1.0, 4.0, 3.0]
    assert type(fg.jit(np.exp)(X)) is np.ndarray
    branching = fg.compile(lambda x: np.sort(x) * 2.0, max_ways=1)
    with pytest.warns(fg.KernelLimitWarning):  # the second call is interpreted
        results = [branching(np.array(each)) for each in ([1.0, 2.0], [2.0, 1.0])]
    assert [type(each) for each in results] == [np.ndarray, np.ndarray]
    assert [each.data for each in results[1]] == [2.0, 4.0]


@pytest.mark.parametrize(
    ("f", "value", "gradient"),
    [
        (lambda x: np.where(x > 1.0, x * x, 0.0).sum(), 6.25, [0.0, 4.0, 3.0]),
        (lambda x: x.max() + x.min(), 2.5, [1.0, 1.0, 0.0]),
        (lambda x: np.maximum(x, 1.0).sum(), 4.5, [0.0, 1.0, 1.0]),
        (lambda x: ((x > 1.0) * x).sum(), 3.5, [0.0, 1.0, 1.0]),
        (lambda x: (x > 1.0).sum() * x[0], 1.0, [2.0, 0.0, 0.0]),
        (lambda x: np.mean((x > 1.0) & ~(x > 1.7)) * x[1], 2.0 / 3.0, [0.0, 1.0 / 3.0, 0.0]),
        (lambda x: np.clip(x, 0.7, 1.8).sum(), 4.0, [0.0, 0.0, 1.0]),
        (lambda x: np.where(np.isfinite(x) & (x != 2.0), x, 7.0).sum(), 9.0, [1.0, 0.0, 1.0]),
        (lambda x: np.abs(x - 1.0).sum() + np.sign(x[0] - 1.0), 1.0, [-1.0, 1.0, 1.0]),
        (lambda x: x[0] if np.any(x > 1.9) else x[1], 0.5, [1.0, 0.0, 0.0]),
        (lambda x: x[0] if (x > 0.0).all() else x[1], 0.5, [1.0, 0.0, 0.0]),
    ],
)
def test_selections_are_no_ways(f, value, gradient):
    assert gradients(f, X) == (value, pytest.approx(gradient, rel=1e-15))
    transformed = fg.grad(f)
    for x in (X, X[::-1].copy(), -X):
        transformed(x)
    assert len(transformed.kernels) == 1
    assert transformed.ways()[0].truths == ()


@pytest.mark.parametrize(
    ("f", "value", "gradient"),
    [
        (lambda x: np.sort(x)[1], 1.5, [0.0, 0.0, 1.0]),
        (lambda x: x[np.argmax(x)] ** 2, 4.0, [0.0, 4.0, 0.0]),
        (np.median, 1.5, [0.0, 0.0, 1.0]),
        (lambda x: x[x > 1.0].sum(), 3.5, [0.0, 1.0, 1.0]),
        (
            lambda x: np.divide(1.0, x, out=np.zeros_like(x), where=x != 0.5).sum(),
            0.5 + 1 / 1.5,
            [0.0, -0.25, -1 / 2.25],
        ),
        (lambda x: x[0] if 2.0 in x else x[1], 0.5, [1.0, 0.0, 0.0]),
    ],
)
def test_what_decides_where_elements_go_is_a_way(f, value, gradient):
    found = gradients(f, X)
    assert found == (pytest.approx(value, rel=1e-15), pytest.approx(gradient, rel=1e-15))
    transformed = fg.grad(f)
    transformed(X)
    transformed(-X[::-1].copy())
    assert len(transformed.ways()) == 2


def test_assignment():
    def f(x):
        a = np.zeros_like(x)
        a[0] = x[1] * 3.0
        a[1:] = x[:-1]
        a[-1] += x[2]
        a *= 2.0
        a[a > 6.0] = 0.0
        b = np.zeros_like(x, shape=(2, 2))
        b[:, 0] = x[1:]
        b[0, 1] = 5.0
        return a.sum() + (b**2).sum() + np.full_like(x, x[0]).sum()

    assert gradients(f, X) == (33.75, [5.0, 4.0, 3.0])


def test_an_assignment_by_conditions_selects():
    """The old elements where the condition does not hold, and no way."""

    def f(x):
        y = np.copy(x)
        y[x > 1.0] = x[0]
        return (y * y).sum()

    assert gradients(f, X) == (0.75, [3.0, 0.0, 0.0])
    g = fg.grad(f)
    assert [g(each).tolist() for each in (X, -X)] == [[3.0, 0.0, 0.0], [-1.0, -4.0, -3.0]]
    assert len(g.kernels) == 1


def test_floats_among_values_are_constants():
    def f(x):
        mixed = fg.array([[0.0, x[0]], [x[1], 2]])
        assert [type(each) for each in mixed.ravel()[[0, 3]]] == [float, float]
        return np.exp(np.log1p(mixed) * np.ones(2)).sum() + np.concatenate([[1.0], x]).prod()

    assert gradients(f, X)[0] == pytest.approx(1.0 + 1.5 + 3.0 + 3.0 + 1.5, rel=1e-15)


def test_making_arrays():
    v = Value(2.0)
    for items, shape in [(v, ()), (3, ()), ([v, 1], (2,)), ([[1.0, v], (v, np.float32(2.0))], (2, 2)), ([], (0,))]:
        assert fg.array(items).shape == shape
    assert fg.array(np.arange(3)).tolist() == [0.0, 1.0, 2.0]
    assert all(type(each) is float for each in fg.array(np.arange(3)))
    assert fg.array([v])[0] is v
    for items, message in [
        ([[v], [v, v]], "different lengths"),
        (["a"], "expected a number"),
        ([None], "expected a number"),
    ]:
        with pytest.raises(fg.InputError, match=rf"array: .*{message}.*\n.*test_arrays\.py"):
            fg.array(items)
    with pytest.raises(fg.InputError, match="masked"):
        fg.array(np.ma.array([1.0, 2.0], mask=[True, False]))


def test_numpy_with_one_value():
    def f(x):
        total = np.float64(2.0) * x + np.exp(x) - np.float32(0.5) / x
        total = total + (np.zeros(3) + x).sum() + (np.arange(3) * x)[2] + np.maximum(x, 1.0) + np.where(x > 1.0, x, 0.0)
        return total + np.clip(x, 0.0, 1.0) + np.mean(x) + np.round(x) + np.sum([x, x]) + (x - [1.0, 2.0]).sum()

    x = 1.25
    value, gradient = fg.value_and_grad(f)(x)
    assert value == pytest.approx(f(np.float64(x)), rel=1e-15)
    assert gradient == pytest.approx(2.0 + math.exp(x) + 0.5 / x**2 + 3.0 + 2.0 + 1.0 + 1.0 + 0.0 + 1.0 + 2.0 + 2.0)


def test_what_scalars_of_numpy_have():
    assert fg.grad(lambda x: (x * x).sum().item() + np.sum(x).tolist())(X).tolist() == [2.0, 5.0, 4.0]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.sum().mean() + x.sum().max().min() + x.sum().prod().copy().squeeze() + x.sum().conj(),
        lambda x: x.sum().clip(0.0, 1.0) + x.sum().reshape(1)[0] + x.sum().ravel()[0] * x.sum().flatten()[0],
        lambda x: x.sum().real + x.sum().imag + x.sum().conjugate() * x.sum().astype(float),
        lambda x: x.sum() if x.sum().is_integer() else 2.0 * x.sum(),
        lambda x: x.sum() if (x.sum() > 0.0).all() or (x[0] > 0.0).any() else 2.0 * x.sum(),
        lambda x: (x[0] > 0.0).astype(float) * x[1] + (x[1] > 0.0).sum() * x[2] + (x[0] > 0.0).item() * x[0],
        lambda x: x[np.floor(np.abs(x[2])).astype(int)] + x[np.floor(np.abs(x)).astype(int) % 3].sum(),
        lambda x: ((x > 0.0).astype(int) * x).sum(),
        lambda x: (
            (((x < 1.0) + (x > -1.0)) * x).sum() + x[(x > 0.0) * (x < 2.0)].sum() + x[(x < 0.0) + (x > 1.0)].sum()
        ),
    ],
)
def test_scalars_and_casts_are_those_of_numpy(f):
    for x in np.array([0.5, -1.5, 2.0]), np.array([1.5, -0.25, 0.25]):
        assert fg.jit(f)(x) == f(x)


def test_whole_numbers_have_no_negative_zero():
    """Python's are ints."""
    f = fg.jit(lambda x: [math.copysign(1.0, y) for y in (int(x), round(x), math.ceil(x), math.trunc(x))])
    assert f(-0.25) == [1.0, 1.0, 1.0, 1.0]
    assert math.copysign(1.0, round(fg.Value(-0.25)).data) == 1.0


def test_a_list_beside_a_value():
    """In sums, as beside a NumPy scalar. A product is ambiguous: Python repeats a list, if the number is an int."""
    assert fg.grad(lambda x: ((x - [1.0, 3.0]) * ([2.0, 1.0] - x)).sum())(1.5) == 1.0
    assert fg.jit(lambda x: operator.add([1.0, 2.0], x))(1.5).tolist() == [2.5, 3.5]
    assert fg.jit(lambda x, n: sum([1.0] * n) * x)(1.5, 3) == 4.5
    assert [fg.jit(lambda x: len([1.0] * (x > 0.5)) * x)(x) for x in (1.5, 0.25)] == [1.5, 0.0]
    for product in (lambda x: [1.0] * x, lambda x: [1.0] * (1 + (x > 0.5)), lambda x: x * (1.0, 2.0)):
        with pytest.raises(fg.InputError, match=r"fg\.array\(items\) \* value"):
            fg.jit(product)(1.5)


def test_equal_compares_numbers_in_arrays_and_nodes_elsewhere():
    v, w = Value(1.0), Value(1.0)
    assert [bool(each) for each in fg.array([v, 2.0]) == fg.array([w, 1.0])] == [True, False]
    assert (np.array([v, w]) == v).tolist() == [True, False]
    assert (fg.array([1.0, 2.0]) == 1.0).tolist() == [True, False]
    assert (fg.array([1.0, 2.0]) == 1.0).dtype == bool


def test_reductions_go_from_left_to_right():
    numbers = [0.1 * k - 0.37 for k in range(1, 20)]
    v = [Value(x) for x in numbers]
    total = numbers[0]
    for x in numbers[1:]:
        total += x
    assert np.sum(fg.array(v)).data == fg.array(v).sum().data == total
    assert np.max(fg.array([0.0, -0.0, v[0]])).data == 0.0
    assert math.isnan(np.max(fg.array([v[0], math.nan, v[1]])).data)
    rows = fg.array([[v[0], v[1]], [v[2], v[3]]])
    assert [each.data for each in rows.max(axis=0)] == [numbers[2], numbers[3]]
    assert rows.max(axis=(0, 1), keepdims=True).shape == (1, 1)
    assert np.max(rows, initial=5.0).data == 5.0
    assert np.max(rows, where=[[True, False], [True, False]], initial=-9.0).data == numbers[2]
    with pytest.raises(fg.DomainError, match="no elements"):
        fg.array([]).max()


def test_reductions_of_some_of_the_elements():
    def f(x):
        rows = np.reshape(x, (2, 2))
        return (
            np.sum(x, where=x > 1.0) * rows.prod(where=rows > 1.0, axis=0)[0]
            + np.mean(x, where=x < 3.0)
            + np.add.reduce(rows, axis=1, where=[[True, False], [True, True]])[1]
            + np.sum(x, where=x > 9.0)
        )

    x = np.array([0.5, 1.5, 2.5, 3.5])
    value, gradient = fg.value_and_grad(f)(x)
    assert value == pytest.approx(f(x))
    steps = 1e-6 * np.eye(4)
    assert gradient == pytest.approx([(f(x + step) - f(x - step)) / 2e-6 for step in steps])


def test_powers_of_matrices():
    a = np.array([[1.0, 2.0], [3.0, 4.5]])
    for exponent in (-2, -1, 0, 1, 3):
        power = fg.jit(lambda a, exponent=exponent: np.linalg.matrix_power(a, exponent))(a)
        assert power == pytest.approx(np.linalg.matrix_power(a, exponent))


def test_the_way_of_pivots():
    """The gradient of a solution, with rows that are exchanged and rows that are not."""

    def f(a, b):
        return np.linalg.solve(a, b)[0] + np.linalg.inv(a)[1, 0] + np.linalg.det(a) + np.linalg.slogdet(a)[1]

    solve = fg.value_and_grad(f, argnums=(0, 1))
    b = np.array([1.0, -2.0, 0.5])
    for a in (
        np.array([[0.1, 2.0, 1.0], [3.0, 0.3, 0.2], [1.0, 1.0, 4.0]]),
        np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 5.0]]),
    ):
        value, (of_a, of_b) = solve(a, b)
        assert value == pytest.approx(f(a, b), rel=1e-13)
        for gradient, k in ((of_a, 0), (of_b, 1)):
            for place in np.ndindex(gradient.shape):
                shifted = []
                for step in (1e-6, -1e-6):
                    args = [a.copy(), b.copy()]
                    args[k][place] += step
                    shifted.append(f(*args))
                assert gradient[place] == pytest.approx((shifted[0] - shifted[1]) / 2e-6, rel=1e-6, abs=1e-8)
    assert len(solve.ways()) == 2
    with pytest.raises(fg.DivisionByZeroError):
        solve(np.zeros((3, 3)), b)
    with pytest.raises(fg.InputError, match=r"square matrix, got an array of shape \(2, 3\)"):
        fg.grad(np.linalg.det)(np.ones((2, 3)))
    stacked = np.array([[[2.0, 1.0], [0.0, 4.0]], [[1.0, 0.0], [3.0, 1.0]]])
    assert fg.jit(np.linalg.det)(stacked).tolist() == [8.0, 1.0]
    assert (
        fg.jit(lambda a: np.linalg.solve(a, np.ones((2, 2, 1))))(stacked).tolist()
        == np.linalg.solve(stacked, np.ones((2, 2, 1))).tolist()
    )
    with pytest.raises(fg.DomainError):
        fg.jit(np.linalg.cholesky)(-np.eye(2))


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: np.linalg.eigvalsh(np.outer(x, x))[0], r"np\.linalg\.eigvalsh is not defined"),
        (lambda x: np.linalg.svd(np.outer(x, x))[1][0], r"np\.linalg\.svd.*fg\.primitive"),
        (lambda x: np.nextafter(x, 2.0)[0], r"np\.nextafter is not defined"),
        (lambda x: np.unique(x)[0], r"np\.unique.*np\.sort"),
        (lambda x: x.astype(np.float32)[0], r"dtype float32; its elements are floats"),
        (lambda x: np.sum(x, dtype=np.float32), r"np\.add .*leave out dtype="),
        (lambda x: np.linalg.norm(np.outer(x, x), 2), r"ord=2 needs singular values"),
        (lambda x: np.quantile(x, 0.5, method="nearest"), r"np\.quantile.*'linear'"),
        (lambda x: np.concatenate([x, x], axis="a"), r"np\.concatenate.*NumPy says"),
    ],
)
def test_what_is_not_supported_is_named(f, message):
    with pytest.raises(fg.InputError, match=message) as caught:
        fg.grad(f)(X)
    assert "test_arrays.py" in str(caught.value)
    assert "dtype('O')" not in str(caught.value)


def test_arrays_of_floats_cannot_hold_values():
    floats = np.zeros(3)

    def f(x):
        floats[...] = 0.0
        np.add(floats, x, out=floats)
        return floats.sum()

    with pytest.raises(fg.InputError, match=r"cannot hold Values.*np\.zeros_like\(x, shape="):
        fg.grad(f)(X)


def test_rows_of_the_table_give_the_bits_of_scalars():
    names = ["exp", "log", "tanh", "sqrt", "sin", "log1p", "cbrt", "log10"]
    for name in names:
        row = getattr(fg, name)
        assert fg.jit(lambda x, name=name: getattr(np, name)(x))(X).tolist() == [row(x) for x in X.tolist()]
    assert fg.jit(np.arctan2)(X, -X).tolist() == [math.atan2(x, -x) for x in X.tolist()]


@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "hypot"])
def test_methods_of_ufuncs(name):
    ufunc = getattr(np, name)
    for method, args in [("reduce", ()), ("accumulate", ()), ("outer", (X,))]:
        found = fg.jit(lambda x, method=method, args=args: getattr(ufunc, method)(x, *args))(X)
        assert np.asarray(found) == pytest.approx(getattr(ufunc, method)(X, *args), rel=1e-15)

    def at(x):
        copied = np.copy(x)
        ufunc.at(copied, [0, 0, 2], x)
        return copied

    assert fg.jit(at)(X) == pytest.approx(at(X), rel=1e-15)


def test_matrix_products_are_done_by_numpy(monkeypatch):
    """Not element by element in Python: as many operations of Values as for plain arrays, and no more."""
    counted = []
    monkeypatch.setattr(Value, "__mul__", lambda a, b: counted.append(1) or a)
    a = fg.array([[Value(1.0) for _ in range(6)] for _ in range(5)])
    for product in (operator.matmul, np.dot):
        counted.clear()
        product(a, np.ones((6, 7)))
        assert len(counted) == 5 * 6 * 7


def test_copies_and_texts():
    a = fg.array([Value(1.0), 2.0])
    assert repr(a) == "Array([Value(data=1.0, grad=0.0), 2.0], dtype=object)"
    for other in (a.copy(), copy.copy(a), copy.deepcopy(a)):
        assert type(other) is Array
        assert other[0].data == 1.0
    assert a.tolist()[0] is a[0]
    texts = []
    fg.grad(lambda x: texts.append(str(x)) or x[0])(X)
    assert texts == ["[Value(data=0.5) Value(data=2.0) Value(data=1.5)]"]


def test_nested_transformations():
    inner = fg.value_and_grad(lambda x: np.exp(x).sum())

    def f(x):
        value, gradient = inner(x * 2.0)
        rows = fg.vmap(lambda row: np.maximum(row, 1.0).max())(np.stack([x, gradient]))
        carried, outs = fg.scan(
            lambda carry, row: (carry + np.where(row > 1.0, row, 0.0), carry),
            np.zeros(2) * x[0],
            np.stack([x[:2], x[1:]]),
        )
        return value + rows.sum() + carried.sum() + np.sum(outs)

    value, gradient = fg.value_and_grad(f)(X)
    exponentials = np.exp(2.0 * X)
    assert value == pytest.approx(exponentials.sum() + 2.0 + exponentials.max() + 5.5 + 2.0, rel=1e-14)
    assert gradient == pytest.approx(
        2.0 * exponentials + [0.0, 2.0 * exponentials[1] + 1.0 + 2.0 + 1.0, 1.0], rel=1e-14
    )


def test_interpolation_with_jumps_and_without_a_number():
    places, items = [0.0, 1.0, 1.0, 2.0, 2.0], [0.0, 1.0, 5.0, 6.0, 7.0]
    x = np.array([-1.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.nan])
    for options in ({}, {"left": -3.0, "right": 9.0}):
        wanted = np.interp(x, places, items, **options)
        np.testing.assert_array_equal(fg.jit(lambda x, o=options: np.interp(x, places, items, **o))(x), wanted)


def test_lines_are_the_users_and_not_numpys():
    def f(x):
        return np.median(x) + np.linalg.inv(np.outer(x, x))[0, 0]  # this line

    transformed = fg.grad(f)
    with pytest.raises(fg.DivisionByZeroError, match="this line"):
        transformed(np.zeros(2))
    ways = fg.grad(np.median, backend="python")
    ways(X)
    assert {line.filename for line in ways.ways()[0].lines} == {__file__}


def test_an_array_to_the_power_of_a_value():
    """NumPy 1 asks the exponent whether it is an integer."""
    base = np.array([2.0, 3.0])
    value, slope = fg.value_and_grad(lambda x: (base**x).sum() + (np.float64(2.0) ** x) + (x**base).sum())(1.5)
    assert value == pytest.approx(2.0 * 2.0**1.5 + 3.0**1.5 + 1.5**2 + 1.5**3, rel=1e-15)
    wanted = 2.0 * 2.0**1.5 * np.log(2.0) + 3.0**1.5 * np.log(3.0) + 2.0 * 1.5 + 3.0 * 1.5**2
    assert slope == pytest.approx(wanted, rel=1e-14)


def test_a_histogram_by_places_has_ints():
    counts = fg.jit(lambda x: np.bincount(x.astype(int)) * x[0])(np.array([1.0, 2.0, 2.0]))
    assert counts.tolist() == [0.0, 1.0, 2.0]


def test_pieces_are_selected_before_they_are_computed():
    """So a program has no more than a few equations per piece; with one point there is none."""
    x, places, items = np.linspace(-1.0, 8.0, 10), np.arange(8.0), np.sin(np.arange(8.0))
    f = fg.jit(lambda x, items: np.interp(x, places, items))
    assert f(x, items).tolist() == np.interp(x, places, items).tolist()
    assert len(f.kernel_for(x, items).program) < 10 * 8 * 5
    for number in (np.nan, -1.0, 2.0):
        assert fg.jit(lambda x: np.interp(x, [1.0], [3.0]))(number) == np.interp(number, [1.0], [3.0]) == 3.0


@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"axis": 1, "ddof": 1}, {"axis": 1, "keepdims": True}])
@pytest.mark.parametrize("name", ["var", "std"])
def test_variances_of_what_a_mask_selects(name, options):
    x, mask = np.array([[1.0, 2.0, 4.0], [3.0, -1.0, 7.0]]), np.array([[True, False, True], [True, True, False]])
    function = getattr(np, name)
    result = fg.jit(lambda a: function(a, where=mask, **options))(x)
    np.testing.assert_allclose(result, function(x, where=mask, **options), rtol=1e-14)


def test_what_a_function_does_not_take_is_named():
    with pytest.raises(fg.InputError, match=r"np\.nanvar of Values takes no where. Select or reshape the array before"):
        fg.grad(lambda x: np.nanvar(x, where=np.array([True, False])))(np.ones(2))


@pytest.mark.parametrize(
    "f",
    [
        lambda a: np.maximum(a, 1), lambda a: np.minimum(1.0, a), lambda a: np.fmax(a, [1.0, 2.0]),
        lambda a: np.fmin(a, 1.0), lambda a: np.clip(a, 0.0, 1.0), lambda a: a.clip(0.0, 1.0),
        lambda a: np.max(a, axis=0), lambda a: a.min(axis=1),
        lambda a: np.ptp(a, axis=0), np.maximum.accumulate, lambda a: np.minimum.outer(a[0], a[1]),
        lambda a: np.amax(a, axis=1, keepdims=True), lambda a: np.maximum(a > 1.0, a < 0.0), np.isnan,
        lambda a: np.logical_xor(a, a > 1.0), lambda a: np.maximum.reduce(a > 1.0, axis=0),
    ],
)  # fmt: skip
def test_arrays_without_values_have_numpys_results(f):
    """Truth values only where NumPy has them: its first loop of `maximum` is that of bools."""
    numbers = np.array([[0.5, 2.0], [3.0, -1.0]])
    found, expected = f(fg.array(numbers)), f(numbers)
    assert np.array_equal(np.asarray(found, dtype=expected.dtype), expected)
    assert (found.dtype == bool) is (expected.dtype == bool)


def test_constants_in_natural_code_are_bounded_as_numpy_does():
    def bounded(x):
        floor = np.maximum(np.zeros(3), 2.0)
        floor[0] = x
        return floor.sum() + np.clip(np.array([0.5, 4.0]), 1.0, 3.0).sum() * math.exp(x)

    assert fg.value_and_grad(bounded)(0.0) == (8.0, 5.0)
