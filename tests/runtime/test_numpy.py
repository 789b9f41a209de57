"""NumPy: arrays of `Value`s under its functions, and its scalars on either side of every operator."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import assert_same


def values(*numbers):
    """An array of leaves."""
    array = np.array(numbers, dtype=float)
    leaves = np.empty(array.shape, dtype=object)
    for place in np.ndindex(array.shape):
        leaves[place] = Value(array[place])
    return leaves


def data(array):
    return [float(v.data) for v in np.asarray(array, dtype=object).ravel()]


def grads(array):
    return [v.grad for v in array.ravel()]


def both(function, *arrays):
    """Data and gradients of a function of arrays that returns one Value: interpreted, compiled, and as one kernel."""

    def run(call):
        leaves = [values(*array) if array.ndim == 1 else values(*array.tolist()) for array in arrays]
        out = call(*leaves)
        out.backward()
        return [out.data, *[g for leaf in leaves for g in grads(leaf)]]

    interpreted, compiled = run(function), run(fg.compile(function))
    assert_same(compiled, interpreted)
    value, gradients = fg.value_and_grad(function, argnums=tuple(range(len(arrays))))(*arrays)
    assert_same([value, *[float(g) for gradient in gradients for g in gradient.ravel()]], interpreted)
    for gradient, array in zip(gradients, arrays, strict=True):
        assert gradient.shape == array.shape
    return interpreted


# --- functions, element by element ------------------------------------------------------------------------------------

#: NumPy's name, the row, and numbers in its domain.
UNARY = [
    ("exp", "exp", [0.5, -1.0]), ("expm1", "expm1", [0.5, -1.0]), ("log", "log", [0.5, 2.0]),
    ("log1p", "log1p", [0.5, -0.5]), ("sqrt", "sqrt", [0.5, 4.0]), ("tanh", "tanh", [0.5, -2.0]),
    ("sinh", "sinh", [0.5, -2.0]), ("cosh", "cosh", [0.5, -2.0]), ("sin", "sin", [0.5, -2.0]),
    ("cos", "cos", [0.5, -2.0]), ("tan", "tan", [0.5, -1.0]), ("arcsin", "asin", [0.5, -0.25]),
    ("arccos", "acos", [0.5, -0.25]), ("arctan", "atan", [0.5, -2.0]), ("abs", "abs", [0.5, -2.0]),
    ("absolute", "abs", [0.5, -2.0]),
]  # fmt: skip
BINARY = [("arctan2", "atan2"), ("hypot", "hypot"), ("power", "power"), ("add", "add"), ("multiply", "mul")]


@pytest.mark.parametrize(("name", "row", "numbers"), UNARY)
def test_functions_of_one_array(name, row, numbers):
    function, row = getattr(np, name), fg.runtime.primitives.BY_NAME[row]
    array = values(*numbers)
    out = function(array)
    assert out.dtype == object
    assert all(type(v) is Value for v in out)
    assert_same(data(out), [row.evaluate(x) for x in numbers])
    out.sum().backward()
    assert_same(grads(array), [0.0 + row.contribution(0, 1.0, row.evaluate(x), (x,)) for x in numbers])
    both(lambda a: function(a).sum(), np.array(numbers))


@pytest.mark.parametrize(("name", "row"), BINARY)
def test_functions_of_two_arrays(name, row):
    function, row = getattr(np, name), fg.runtime.primitives.BY_NAME[row]
    xs, ys = [0.5, 2.0, 1.25], [1.5, 3.0, 0.75]
    a, b = values(*xs), values(*ys)
    out = function(a, b)
    assert_same(data(out), [row.evaluate(x, y) for x, y in zip(xs, ys, strict=True)])
    both(lambda a, b: function(a, b).sum(), np.array(xs), np.array(ys))
    both(lambda a: function(a, np.array(ys)).sum(), np.array(xs))
    # NumPy looks for a method of the first operand: with plain numbers there, it takes the functions of this package.
    first = row if name in {"arctan2", "hypot"} else function
    both(lambda b: first(np.array(xs), b).sum(), np.array(ys))


@pytest.mark.parametrize("name", sorted({name for name, _, _ in UNARY}))
def test_functions_of_a_value(name):
    """NumPy takes a Value for an array of one object, and gives back the Value."""
    x = Value(0.5)
    out = getattr(np, name)(x)
    assert type(out) is Value
    out.backward()
    array = values(0.5)
    getattr(np, name)(array)[0].backward()
    assert_same([x.grad], grads(array))
    assert fg.grad(lambda x: getattr(np, name)(x) * 2.0)(0.5) == fg.grad(
        lambda x: getattr(np, name)(values_of(x))[0] * 2.0
    )(0.5)


def values_of(x):
    array = np.empty(1, dtype=object)
    array[0] = x
    return array


@pytest.mark.parametrize(
    "row", [row for row in BY_NAME.values() if row.kinds in ("f->f", "ff->f")], ids=lambda row: row.name
)
def test_rows_take_arrays_of_values_and_of_numbers(row):
    a, b = np.array([0.25, 0.5]), np.array([0.75, 0.125])
    if row.domain[0][0] == 1.0:
        a, b = a + 1.0, b + 1.0
    numbers = [a, b][: row.arity]
    plain = row(*numbers)
    assert plain.dtype == np.float64
    assert_same(
        [float(x) for x in plain], [row.evaluate(*point) for point in zip(*(n.tolist() for n in numbers), strict=True)]
    )
    assert_same(data(row(*[values(*n) for n in numbers])), [float(x) for x in plain])
    assert_same(data(row(*[list(values(*n)) for n in numbers])), [float(x) for x in plain])
    if row.arity == 2:
        assert_same(data(row(values(*a), b)), [float(x) for x in plain])
        assert_same(data(row(a, values(*b))), [float(x) for x in plain])
        assert_same(data(row(Value(0.25), b)), [row.evaluate(0.25, y) for y in b.tolist()])
        assert_same(data(row(values(*a), 0.75)), [row.evaluate(x, 0.75) for x in a.tolist()])


def test_functions_that_have_no_row_say_so():
    with pytest.raises(TypeError, match="spacing"):
        np.spacing(values(1.0, 2.0))


# --- sums and products ------------------------------------------------------------------------------------------------


def test_matrix_products():
    a, b, x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([[1.0, -1.0], [2.0, 0.5], [0.0, 3.0]]), np.ones(2)
    product = values(*a.tolist()) @ values(*b.tolist())
    assert product.shape == (2, 2)
    assert_same(data(product), (a @ b).ravel().tolist())
    out = both(lambda a, b: (a @ b).sum(), a, b)
    ones = np.ones((2, 2))
    assert_same(out, [float((a @ b).sum()), *(ones @ b.T).ravel().tolist(), *(a.T @ ones).ravel().tolist()])
    both(lambda x: (x @ a) @ b @ x, x)
    both(lambda a: (a @ a.T)[0, 1] * (a.T @ np.ones(2)).sum(), a)
    assert both(lambda x: x @ x, np.array([3.0, 4.0])) == [25.0, 6.0, 8.0]
    assert both(lambda x: np.dot(x, np.array([2.0, 5.0])), np.array([3.0, 4.0])) == [26.0, 2.0, 5.0]
    both(lambda x: np.outer(x, x)[0, 1] + np.einsum("i,i->", x, x), np.array([3.0, 4.0]))


def test_sums_and_means():
    a = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert both(lambda a: a.sum(), a) == [21.0, *[1.0] * 6]
    assert both(lambda a: np.sum(a), a) == [21.0, *[1.0] * 6]  # noqa: PLW0108
    mean = both(lambda a: a.mean(), a)
    assert mean[0] == pytest.approx(3.5)
    assert mean[1:] == pytest.approx([1 / 6] * 6)
    rows = both(lambda a: (a.sum(axis=0) * np.array([1.0, 10.0, 100.0])).sum(), a)
    assert rows == [5.0 + 70.0 + 900.0, 1.0, 10.0, 100.0, 1.0, 10.0, 100.0]
    columns = both(lambda a: (a.mean(axis=1) ** 2)[1], a)
    assert columns == pytest.approx([25.0, 0.0, 0.0, 0.0, 10 / 3, 10 / 3, 10 / 3])
    assert both(lambda a: a.prod(), np.array([2.0, 3.0, 4.0])) == [24.0, 12.0, 8.0, 6.0]
    assert both(lambda a: a.cumsum()[1], np.array([2.0, 3.0, 4.0])) == [5.0, 1.0, 1.0, 0.0]


def test_sums_are_in_order():
    """Of Values, NumPy adds from left to right: the order that is promised."""
    numbers = [1e16, 1.0, -1e16, 1.0, 3.0, 1e-3, -7.0, 1e8, 0.1]
    total = numbers[0]
    for x in numbers[1:]:
        total += x
    assert_same([values(*numbers).sum().data], [total])
    assert_same([sum(values(*numbers)).data], [0 + total])


def test_broadcasting():
    a, row, column = (
        np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        np.array([10.0, 20.0, 30.0]),
        np.array([[2.0], [3.0]]),
    )
    out = values(*a.tolist()) * values(*row) + values(*column.tolist())
    assert out.shape == (2, 3)
    assert_same(data(out), (a * row + column).ravel().tolist())
    result = both(lambda a, row, column: ((a * row + column) ** 2).sum(), a, row, column)
    inner = 2 * (a * row + column)
    expected = [(inner * row), (inner * a).sum(axis=0), inner.sum(axis=1, keepdims=True)]
    assert result[1:] == pytest.approx([x for part in expected for x in part.ravel()], rel=1e-15)
    both(lambda row: (row * a - row[::-1] / column).sum(), row)
    both(lambda a: (a[:, None, :] * a[None, :, :]).sum(), a)
    x = Value(3.0)
    for product in (x * a, a * x, values(*row) * x, x * values(*row)):
        assert isinstance(product, np.ndarray)
        assert product.shape in {(2, 3), (3,)}


def test_indexing_reshaping_and_joining():
    a = np.arange(6.0).reshape(2, 3)
    both(lambda a: (a.T.reshape(6)[::2] * a[:, 1:].ravel()[1:]).sum(), a)
    both(lambda a: np.concatenate([a, a * 2.0], axis=1).sum(axis=1)[1] * np.stack([a[0], a[1]])[0, 2], a)
    both(lambda a: (a[np.array([1, 0, 1])] * a[[0, 0, 1]])[:, np.array([True, False, True])].sum(), a)


def test_an_mlp_written_with_arrays():
    generator = np.random.default_rng(0)
    w1, b1, w2, x = (generator.normal(size=shape) for shape in ((3, 4), (4,), (4, 1), (5, 3)))

    def loss(w1, b1, w2):
        hidden = np.tanh(x @ w1 + b1)
        return ((hidden @ w2) ** 2).mean()

    result = both(loss, w1, b1, w2)
    hidden = np.tanh(x @ w1 + b1)
    out = hidden @ w2
    d_out = 2 * out / out.size
    d_hidden = (d_out @ w2.T) * (1 - hidden**2)
    expected = [float((out**2).mean()), x.T @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_out]
    assert result == pytest.approx([x for part in expected for x in np.ravel(part)], rel=1e-12)


# --- scalars on either side -------------------------------------------------------------------------------------------

SCALARS = [np.float64(3.0), np.float32(3.0), np.float16(3.0), np.longdouble(3.0), np.int64(3), np.int8(3), np.uint8(3), np.bool_(True), np.array(3.0)]  # fmt: skip  # noqa: E501
OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]


def kind(scalar):
    return f"{type(scalar).__name__} {scalar.dtype}"


@pytest.mark.parametrize("scalar", SCALARS, ids=kind)
@pytest.mark.parametrize("operation", OPERATORS)
def test_operators_with_numpy_scalars(operation, scalar):
    """As with the float of the same value: data and gradients, interpreted and compiled."""
    number = float(scalar)
    for swapped in (False, True):

        def apply(x, other, swapped=swapped):
            return operation(other, x) if swapped else operation(x, other)

        x, y = Value(1.75), Value(1.75)
        out, expected = apply(x, scalar), apply(y, number)
        assert type(out) is Value
        out.backward()
        expected.backward()
        assert_same([out.data, x.grad], [expected.data, y.grad])
        assert_same(fg.value_and_grad(lambda x: apply(x, scalar))(1.75), [expected.data, y.grad])
        z = Value(1.75)
        compiled = fg.compile(lambda x: apply(x, scalar))(z)
        compiled.backward()
        assert_same([compiled.data, z.grad], [expected.data, y.grad])


@pytest.mark.parametrize("scalar", SCALARS[:8], ids=kind)
@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge])
def test_comparisons_with_numpy_scalars(compare, scalar):
    for number in (float(scalar) - 1.0, float(scalar), float(scalar) + 1.0):
        x = Value(number)
        for condition, expected in (
            (compare(x, scalar), compare(number, float(scalar))),
            (compare(scalar, x), compare(float(scalar), number)),
        ):
            assert isinstance(condition, fg.Condition)
            assert bool(condition) is expected


@pytest.mark.parametrize("scalar", SCALARS[:8], ids=kind)
def test_comparisons_with_numpy_scalars_in_compiled_code(scalar):
    """They stay comparisons: the kernel decides anew at each call, on either side."""
    f = fg.compile(lambda x: fg.where(x < scalar, 1.0, 2.0) + fg.where(scalar <= x, 10.0, 20.0))
    for number in (float(scalar) - 1.0, float(scalar), float(scalar) + 1.0):
        assert f(number).data == (1.0 if number < float(scalar) else 2.0) + (10.0 if float(scalar) <= number else 20.0)
    assert len(f.kernels) == 1


def test_augmented_assignment():
    for scalar in SCALARS:
        total = Value(1.0)
        total += scalar
        total *= scalar
        total -= scalar
        total /= scalar
        assert total.data == ((1.0 + float(scalar)) * float(scalar) + -float(scalar)) * float(scalar) ** -1
    array = values(1.0, 2.0)
    array *= np.float64(3.0)
    array += np.array([1, 2])
    assert data(array) == [4.0, 8.0]


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, bool])
@pytest.mark.parametrize("operation", OPERATORS)
def test_operators_between_arrays_of_values_and_of_numbers(operation, dtype):
    numbers = np.array([1, 3], dtype=dtype)
    for swapped in (False, True):

        def apply(a, other, swapped=swapped):
            return operation(other, a) if swapped else operation(a, other)

        a, b = values(1.75, 0.5), values(1.75, 0.5)
        out, expected = apply(a, numbers), apply(b, numbers.astype(float))
        assert all(type(v) is Value for v in out)
        assert_same(data(out), data(expected))
        out.sum().backward()
        expected.sum().backward()
        assert_same(grads(a), grads(b))
        x = Value(1.75)
        assert_same(data(apply(x, numbers)), data(apply(Value(1.75), numbers.astype(float))))


# --- comparisons and selection ----------------------------------------------------------------------------------------


def test_selection_by_arrays_of_conditions():
    """`fg.less` keeps conditions, which compiled code needs; NumPy's own `<` on two arrays asks for truth values."""
    numbers = np.array([1.0, 5.0, 3.0])

    def f(a):
        return fg.where(fg.less(a, 3.0), a * a, a * 10.0).sum()

    assert both(f, numbers) == [1.0 + 50.0 + 30.0, 2.0, 10.0, 10.0]
    a = values(1.0, 5.0, 3.0)
    assert (a < 3.0).tolist() == [True, False, False]
    assert (a >= values(2.0, 5.0, 4.0)).tolist() == [False, True, False]
    conditions = fg.less(a, 3.0)
    assert conditions.dtype == object
    assert all(isinstance(condition, fg.Condition) for condition in conditions)


def test_numpys_comparison_of_arrays_is_followed_while_tracing():
    """It asks for the truth values: each way has a kernel."""
    f = fg.compile(lambda a: fg.where(a < 3.0, a, -a).sum())
    assert [f(np.array(a)).data for a in ([1.0, 5.0], [5.0, 1.0], [1.0, 2.0])] == [-4.0, -4.0, 3.0]
    f = fg.grad(lambda a: a.max())
    assert [f(np.array(a)).tolist() for a in ([1.0, 5.0], [5.0, 1.0])] == [[0.0, 1.0], [1.0, 0.0]]


def test_maximum_and_minimum():
    a, b = np.array([1.0, 5.0, 3.0]), np.array([2.0, 4.0, 3.0])
    assert both(lambda a, b: fg.maximum(a, b).sum(), a, b) == [10.0, 0.0, 1.0, 0.5, 1.0, 0.0, 0.5]
    assert both(lambda a, b: fg.minimum(a, b).sum(), a, b) == [8.0, 1.0, 0.0, 0.5, 0.0, 1.0, 0.5]
    assert data(np.maximum(values(*a), values(*b))) == [2.0, 5.0, 3.0], "outside compiled code NumPy's own choose, too"


def test_errors_inside_arrays_name_the_operation():
    with pytest.raises(fg.DomainError, match=r"log\(-1\.0\)"):
        np.log(values(1.0, -1.0))
    with pytest.raises(fg.DomainError, match=r"log\(-1\.0\)"):
        fg.log(np.array([1.0, -1.0]))
    with pytest.raises(fg.DomainError, match=r"log\(-1\.0\)"):
        fg.compile(lambda a: np.log(a).sum())(np.array([1.0, -1.0]))


def test_arrays_and_values_do_not_turn_into_plain_numbers():
    x = Value(2.0)
    assert np.array([x, x]).dtype == object
    assert np.array([x, x])[0] is x
    assert np.asarray(x).dtype == object
    with pytest.raises(fg.InputError, match="one scalar"):
        Value(np.array([1.0, 2.0]))
    assert np.array([x.data]).tolist() == [2.0]
    with pytest.raises(fg.InputError, match=r"value\.data"):
        values(1.0, math.pi).astype(float)


def test_numbers_from_arrays_while_tracing_are_refused():
    assert fg.jit(lambda a: a.sum() * np.sum(a.astype(float)))(np.array([1.0, 2.0])) == 9.0
    for convert in (lambda a: a.astype(np.float32), lambda a: a.astype("f2"), lambda a: float(a[0])):
        with pytest.raises((fg.TraceError, fg.InputError)):
            fg.compile(lambda a, convert=convert: a.sum() * np.sum(convert(a)))(np.array([1.0, 2.0]))


# --- other classes of arrays ------------------------------------------------------------------------------------------


def test_masked_arrays_keep_values_and_masks():
    """NumPy reads an attribute `_data` of what is multiplied with a masked array: a `Value` must not have it."""
    masked = np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
    for product in (lambda v: v * masked, lambda v: masked * v, lambda v: fg.where(masked > 0.0, v, 0.0) * masked):
        v = Value(2.0)
        result = product(v)
        assert result.mask.tolist() == [False, True, False]
        result.sum().backward()
        assert v.grad == 4.0
        assert fg.grad(lambda x, product=product: fg.sum(product(x).compressed()))(2.0) == 4.0


MASKED = np.ma.array([1.0, 2.0], mask=[False, True])


@pytest.mark.parametrize(
    "function",
    [
        lambda v: fg.sum(MASKED),
        lambda v: fg.logsumexp([v, MASKED]),
        lambda v: fg.softmax(v * MASKED),
        lambda v: fg.jit(lambda x: x * MASKED)(2.0),
        fg.compile(lambda x: {"a": x * MASKED}),
        lambda v: fg.grad(lambda x: fg.max(x * MASKED))(2.0),
        lambda v: fg.grad(fg.sum)(MASKED),
        lambda v: fg.jit(fg.sum)([MASKED[1:], 1.0]),
    ],
)
def test_masked_elements_are_errors_that_name_a_remedy(function):
    with pytest.raises(fg.InputError, match=r"masked|MaskedArray") as caught:
        function(Value(2.0))
    assert "array.compressed()" in str(caught.value)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_matrices_and_masked_arrays_without_a_mask_are_arrays():
    for array in (np.matrix([[1.0, 2.0]]), np.ma.array([[1.0, 2.0]])):
        assert fg.sum(array) == 3.0
        product = fg.compile(lambda x, array=array: x * array)(2.0)
        assert (product.shape, data(product)) == ((1, 2), [2.0, 4.0])
        assert fg.jit(lambda x, array=array: x * array)(2.0).tolist() == [[2.0, 4.0]]
    with pytest.raises(fg.InputError, match=r"a matrix; pass np\.asarray\(array\)"):
        fg.jit(lambda x: x)(np.matrix([[1.0]]))
    with pytest.raises(fg.InputError, match="got bytearray"):
        fg.sum(bytearray(b"ab"))
