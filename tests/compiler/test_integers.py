"""Integers among the arguments: numbers in arithmetic, and their values where Python needs an int."""

from __future__ import annotations

import math
import threading
import warnings

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from tests.examples import crossed

BACKENDS = ("python", "numpy", "native", "auto")
backends = pytest.mark.parametrize("backend", BACKENDS)
LETTERS = {"a": 0, "b": 1}
NAMES = {0: 2.0, 1: 3.0, 5: 7.0}
TABLE = np.array([1.0, 10.0, 100.0])


def by_range(x, n):
    return sum((x**k for k in range(n)), 0.0 * x)


def by_index(x, n):
    return x * [2.0, 3.0, 5.0, 7.0][n] + x ** (n + 1)


def by_key(x, n):
    return x * NAMES.get(n, 0.5)


def by_flag(x, n):
    return x - 100 if n else 100 - x


def by_equality(x, n):
    return x * x if n == 2 else x if n != 3 else -x


def by_arithmetic_of_ints(x, n):
    return x * [1.0, 2.0][n % 2] + x**3 * (n // 2) + (7 // (n + 5)) * x * x


def by_text(x, n):
    return x * {"layer0": 1.0, "layer1": 2.0}.get(f"layer{n}", 3.0)


def by_slice(x, n):
    return x * TABLE[:n].sum() + x * x * TABLE[n - 1]


def by_bits(x, n):
    return x if n & 1 else x * (1 << n)


def by_loop(x, n):
    k = 0
    while k < n:
        x, k = x * x - 1.0, k + 1
    return x


@pytest.mark.parametrize(
    ("function", "backend"),
    crossed(
        [by_range, by_index, by_key, by_flag, by_equality, by_arithmetic_of_ints, by_text, by_slice, by_bits, by_loop],
        BACKENDS,
    ),
)
def test_each_value_has_a_kernel(function, backend):
    f = fg.value_and_grad(function, backend=backend)
    compiled = fg.compile(function, backend=backend)
    for n in (1, 2, 0, 3, 2, 1, np.int64(3), 0):
        x = Value(1.5)
        expected = function(x, int(n))
        expected.backward()
        assert f(1.5, n) == (expected.data, x.grad)
        y = Value(1.5)
        value = compiled(y, n)
        value.backward()
        assert (value.data, y.grad) == (expected.data, x.grad)
    assert len(f.kernels) == len({way.truths for way in f.ways()})


def test_arithmetic_needs_one_kernel():
    f = fg.jit(lambda x, n: x * n + (n - 1) ** 2 / 2)
    assert [f(1.5, n) for n in (2, 3, 2.0)] == [3.5, 6.5, 3.5]
    assert len(f.kernels) == 1
    f = fg.jit(lambda x, n: fg.where(n == 2, x, -x))
    assert [f(1.5, n) for n in (2, 3)] == [1.5, -1.5]
    assert len(f.kernels) == 1, "a condition that nobody asks for its truth value is no branch"


def test_a_float_is_no_int():
    """Also if the same kernel could serve it."""
    f = fg.grad(lambda w, i: w[i] ** 2)
    assert f([1.0, 2.0], 1) == [0.0, 4.0]
    for _ in range(2):
        with pytest.raises(TypeError, match="pass an int"):
            f([1.0, 2.0], 1.0)
        assert f([1.0, 2.0], 1) == [0.0, 4.0]
    with pytest.raises(TypeError, match="pass an int"):
        fg.jit(lambda x, n: x * len(range(n * 0.5)))(1.0, 2)
    with pytest.raises(TypeError):
        fg.jit(lambda x, n: [x, x][n**-1])(1.0, 2)


def test_an_index_that_does_not_exist():
    f = fg.grad(lambda w, i: w[i] ** 2)
    assert f([1.0, 2.0], -1) == [0.0, 4.0]
    for _ in range(2):
        with pytest.raises(IndexError):
            f([1.0, 2.0], 2)
    assert f([1.0, 2.0], 0) == [2.0, 0.0]


@pytest.mark.parametrize(("as_indices", "backend"), crossed([list, tuple, np.array], BACKENDS))
def test_lists_and_arrays_of_indices(as_indices, backend):
    w = np.array([1.0, 2.0, 3.0])
    one_by_one = fg.grad(lambda w, idx: sum(w[i] ** 2 for i in idx), backend=backend)
    for indices in ([0, 2], [1, 1], [0, 2], [2], [-1, 0]):
        expected = [2.0 * each * [k % 3 for k in indices].count(j) for j, each in enumerate(w)]
        assert one_by_one(w, as_indices(indices)).tolist() == expected
    if as_indices is not tuple:  # a tuple indexes dimensions
        at_once = fg.grad(lambda w, idx: (w[idx] ** 2).sum(), backend=backend)
        captured = fg.grad(lambda x, idx: x * TABLE[idx].sum(), backend=backend)
        for indices in ([0, 2], [1, 1], [0, 2], [2], [-1, 0]):
            expected = [2.0 * each * [k % 3 for k in indices].count(j) for j, each in enumerate(w)]
            assert at_once(w, as_indices(indices)).tolist() == expected
            assert captured(1.0, as_indices(indices)) == TABLE[indices].sum()


def test_integers_as_data():
    """They stay numbers of one kernel, differentiated or not."""
    f = fg.grad(lambda w, x, y: ((x @ w - y) ** 2).sum())
    x, y = np.array([[1, 2], [3, 4]]), np.array([1, 0])
    for rows, labels in ((x, y), (x + 1, y), (x * 0.5, y), (x, y * 1.0)):
        assert f(np.array([0.5, 1.0]), rows, labels).tolist() == (2 * rows.T @ (rows @ [0.5, 1.0] - labels)).tolist()
    assert len(f.kernels) == 1
    assert fg.grad(lambda x: x**2 + (x // 2))(3) == 6.0
    assert fg.grad(lambda xs: sum(x * k for k, x in enumerate(xs)))([1, 2]) == [0.0, 1.0]
    assert fg.grad(lambda x: math.exp(x))(1) == math.e  # noqa: PLW0108


def test_integers_of_a_function_inside():
    power = fg.jit(lambda x, k: x**k if k > 2 else sum(x for _ in range(k)))
    f = fg.grad(lambda x, n: power(x, 3) + power(x, n) + power(x, 2))
    assert [f(2.0, n) for n in (2, 3, 4, 2)] == [16.0, 26.0, 46.0, 16.0]
    second = fg.grad(lambda x, n: fg.grad(lambda y, n: sum(y**j for j in range(n)))(x, n))  # noqa: PLW0108
    assert [second(2.0, n) for n in (4, 3, 4)] == [14.0, 2.0, 14.0]
    captured = fg.grad(lambda x, n: fg.grad(lambda y: sum(y**j for j in range(n)))(x))
    assert [captured(2.0, n) for n in (4, 3, 4)] == [14.0, 2.0, 14.0]
    with pytest.raises(TypeError, match="pass an int"):
        second(2.0, 3.0)
    chosen = fg.grad(lambda x, idx: fg.grad(lambda y, idx: np.array([y, y**2, y**3])[idx].sum())(x, idx))  # noqa: PLW0108
    assert [chosen(2.0, np.array(idx)) for idx in ([1, 2], [0, 1], [2, 2], [1, 2])] == [14.0, 2.0, 24.0, 14.0]


def test_rows_with_integers():
    f = fg.vmap(lambda x, n: x[n] if n < 2 else x[0] * n)
    x = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for n in ([1, 5, 0], [0, 1, 2], [1, 5, 0]):
        expected = [row[k] if k < 2 else row[0] * k for row, k in zip(x.tolist(), n, strict=True)]
        assert f(x, np.array(n)).tolist() == f(x, n).tolist() == expected


@backends
def test_beyond_the_limit(backend):
    def f(x, n):
        return x * [2.0, 3.0, 5.0, 7.0, 11.0][n] + (x if n == 3 else 0.0)

    gradient, compiled = fg.grad(f, backend=backend, max_ways=2), fg.compile(f, backend=backend, max_ways=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in (0, 1, 2, 3, 4, -1, 0, 3):
            assert gradient(1.5, n) == [2.0, 3.0, 5.0, 7.0, 11.0][n] + (n == 3)
            assert compiled(1.5, n).data == f(1.5, n)
            x = Value(1.5)
            compiled(x, n).backward()
            assert x.grad == gradient(1.5, n)
    assert len(gradient.kernels) == 2
    messages = [str(each.message) for each in caught if each.category is fg.KernelLimitWarning]
    assert len(messages) == 3, "of the gradient, of plain numbers, of Values"
    assert all("fg.table(rows)[i]" in each and "max_ways" in each for each in messages)


def test_the_number_of_ways_is_an_option():
    for transform in (fg.compile, fg.jit, fg.grad, fg.value_and_grad, fg.vmap):
        f = transform(lambda x: x, max_ways=3)
        assert f.max_ways == 3
        assert "max_ways=3" in repr(f)
        assert "max_ways" not in repr(transform(lambda x: x))
        for wrong in (0, True, 1.5, "1"):
            with pytest.raises(fg.OptionError, match="max_ways"):
                transform(lambda x: x, max_ways=wrong)

    class Model:
        @fg.grad
        def slope(self, x, n):
            return x * [1.0, 2.0][n]

        limited = fg.grad(lambda self, x, n: x * [1.0, 2.0][n], argnums=1, max_ways=1)

    model = Model()
    assert [model.slope(1.0, n) for n in (0, 1)] == [1.0, 2.0]
    assert model.limited.max_ways == 1


def test_names_of_arguments():
    f = fg.grad(lambda x, n=2, *, k=1: x * sum(range(n)) + x * [2.0, 3.0, 5.0][k])
    assert [f(1.0), f(1.0, n=3), f(1.0, 3, k=2), f(k=0, x=1.0), f(1.0, n=3)] == [4.0, 6.0, 8.0, 3.0, 6.0]
    with pytest.raises(TypeError):
        f(1.0, k=1.0)


def test_a_large_int():
    f = fg.jit(lambda x, n: x * (n % 7))
    assert f(1.0, 2**53 - 1) == (2**53 - 1) % 7
    with pytest.raises(fg.TraceError, match=r"2\*\*53"):
        f(1.0, 2**53)
    assert fg.jit(lambda x, n: x * n)(1.0, 2**60) == 2.0**60


def test_ways_say_the_values():
    f = fg.grad(lambda w, i: w[i] ** 2)
    f([1.0, 2.0], 1)
    f([1.0, 2.0], -1)
    assert [way.truths for way in f.ways()] == [(1,), (-1,)]
    assert "test_integers.py" in str(f.ways()[0])
    assert str(f.ways()[1]).endswith(": -1")
    assert f.kernel_for([1.0, 2.0], 0).way.truths == (0,)
    assert len(f.ways([1.0, 2.0], 1)) == 3


def test_threads():
    f = fg.value_and_grad(lambda x, n: x ** len(range(n)) if x > n else x * [1.0, 2.0, 3.0, 4.0][n])
    wrong = []

    def run(seed):
        for k in range(60):
            x, n = float((k * seed) % 5) + 0.5, (k + seed) % 4
            value = x**n if x > n else x * (n + 1)
            if f(x, n)[0] != value:
                wrong.append((x, n))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_operation_of_python_that_fails():
    f = fg.grad(lambda x, n: x * (10 // n))
    for _ in range(2):
        assert f(1.0, 2) == 5.0
        with pytest.raises(ZeroDivisionError):
            f(1.0, 0)
