"""Binders give what arguments taken apart give: for every kind of argument, and where a binder must not answer."""

from __future__ import annotations

import collections
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.calls.binding import MISS
from flatgrad.compiler.transforms import dispatch
from tests.bits import assert_same, bits
from tests.examples import examples
from tests.programs import numbers, tame


class Counting:
    """A transformed function that counts how often its binder was asked, and how often it missed."""

    def __init__(self, f):
        self.f, self.asked, self.missed = f, 0, 0

    def __call__(self, *args, **kwargs):
        entry = self.f._recent[0].binder if self.f._recent else None
        if entry is not None and not getattr(entry, "counted", False):

            def counting(items, entry=entry):
                result = entry(items)
                self.asked += 1
                self.missed += result is MISS
                return result

            counting.counted = True
            self.f._recent[0].binder = counting
        return self.f._call(*args, **kwargs)  # not by a builtin, where there is one

    @property
    def hits(self):
        return self.asked - self.missed


def floats(items):
    return [float(x) for x in items]


def taken_apart(f, *args):
    """The same call with its arguments taken apart."""
    f._recent = ()
    return f._call(*args)


def flat(item):
    """The floats of a result, and its shape as nested types."""
    if isinstance(item, (list, tuple)):
        parts = [flat(part) for part in item]
        return [x for numbers, _ in parts for x in numbers], (type(item), tuple(kind for _, kind in parts))
    if isinstance(item, np.ndarray):
        assert item.dtype == np.float64
        assert item.flags.c_contiguous
        assert item.flags.writeable
        return item.ravel().tolist(), (np.ndarray, item.shape)
    return [item], type(item)


def assert_equal(actual, expected):
    left, right = flat(actual), flat(expected)
    assert_same(left[0], right[0])
    assert left[1] == right[1]


def rosenbrock(x):
    total = 0.0
    for a, b in itertools.pairwise(x):
        total = total + 100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2
    return total


def matrix(a):
    return (a @ a.T).sum() * a[0, 0] if isinstance(a, np.ndarray) else rosenbrock([x for row in a for x in row])


model = fg.nn.MLP(2, [3, 1])

CASES = {
    "a float": (lambda x: x.tanh() * x, 0, (0.5,)),
    "two floats": (lambda x, y: (x * y).tanh() + x, (0, 1), (0.5, -2.0)),
    "one of two floats": (lambda x, y: (x * y).tanh() + x, 1, (0.5, -2.0)),
    "floats, the other way round": (lambda x, y: (x * y).tanh() + x, (1, 0), (0.5, -2.0)),
    "a list": (rosenbrock, 0, ([0.5, -1.0, 2.0],)),
    "a tuple": (rosenbrock, 0, ((0.5, -1.0, 2.0),)),
    "a list of one": (lambda x: x[0] * x[0], 0, ([3.0],)),
    "an array": (rosenbrock, 0, (np.array([0.5, -1.0, 2.0]),)),
    "an array of one": (lambda x: x[0] ** 3, 0, (np.array([3.0]),)),
    "a long array": (rosenbrock, 0, (np.linspace(-1.0, 1.0, 50),)),
    "a matrix": (matrix, 0, (np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),)),
    "a cube": (lambda a: (a * a).sum(), 0, (np.arange(24.0).reshape(2, 3, 4),)),
    "a large matrix": (lambda a: (a * a).sum(), 0, (np.arange(64.0).reshape(8, 8),)),
    "a mixture": (lambda a, x, y, t: (a * x).sum() + y[0] * t[1], (0, 1, 2, 3),
                  (np.array([1.0, 2.0]), 3.0, [4.0, 5.0], (6.0, 7.0))),
    "a module": (lambda m, x: m(x) * x[0], 1, (model, [0.5, -1.0])),
    "a float and an array, of which the array": (lambda s, a: (a * s).sum() * s, 1, (2.0, np.array([1.0, 2.0]))),
}  # fmt: skip


@pytest.mark.parametrize("with_value", [True, False], ids=["value_and_grad", "grad"])
@pytest.mark.parametrize("name", list(CASES))
def test_binders_give_what_arguments_taken_apart_give(name, with_value):
    function, argnums, arguments = CASES[name]
    f = (fg.value_and_grad if with_value else fg.grad)(function, argnums)
    counting = Counting(f)
    expected = taken_apart(f, *arguments)
    assert f._recent[0].binder is not None, "there is a binder for these"
    for _ in range(3):
        assert_equal(counting(*arguments), expected)
    assert counting.hits == 3
    changed = [a * 1.25 if isinstance(a, (float, np.ndarray)) else a for a in arguments]
    assert_equal(counting(*changed), taken_apart(f, *changed))
    assert len(f.kernels) == 1


@given(st.lists(numbers, min_size=1, max_size=5))
@settings(max_examples=examples(60))
def test_any_numbers(xs):
    """Infinities, NaN and signed zeros pass as they are, in both directions."""

    def f(x):
        return sum(a * b for a, b in zip(x, x[::-1], strict=True)) * x[0]

    for argument in (xs, tuple(xs), np.array(xs)):
        g = fg.value_and_grad(f)
        expected = g(argument)
        counting = Counting(g)
        assert_equal(counting(argument), expected)
        assert counting.hits == 1


def test_leaves_are_read_at_each_call():
    w, b = Value(3.0), Value(1.0)
    f = Counting(fg.value_and_grad(lambda x: w * x + b))
    assert f(2.0) == (7.0, 3.0)
    w.data = 5.0
    b.data = 10
    assert f(2.0) == (20.0, 5.0)
    assert f.hits == 1


def test_wrt_a_model():
    other = fg.nn.MLP(2, [3, 1], activation="tanh", seed=0)
    f = Counting(fg.value_and_grad(lambda x: other(x) ** 2, wrt=other))
    x = [1.0, -2.0]
    first = f(x)
    for p in other.parameters():
        p.data *= 2.0
    value, gradient = f(x)
    assert f.hits == 1
    out = other(x) ** 2
    out.backward()
    assert_same([value, *gradient], [out.data, *[p.grad for p in other.parameters()]])
    assert value != first[0]
    assert [p.grad for p in model.parameters()] == [0.0] * 13


def test_nothing_but_leaves():
    w = Value(3.0)
    f = Counting(fg.value_and_grad(lambda: w * w, wrt=[w]))
    assert f() == (9.0, [6.0])
    w.data = 4.0
    assert f() == (16.0, [8.0])
    assert f.hits == 1


def test_models_are_told_apart_by_identity():
    first, second = fg.nn.MLP(2, [2, 1], seed=1), fg.nn.MLP(2, [2, 1], seed=2)
    f = Counting(fg.value_and_grad(lambda m, x: m(x), argnums=1))
    for _ in range(2):
        for m in (first, second, second, first):
            value, _ = f(m, [1.0, 2.0])
            assert value == m([1.0, 2.0]).data
    assert len(f.f.kernels) == 2
    assert f.hits >= 3


# --- what no binder may answer ---------------------------------------------------------------------------------------


class FloatSubclass(float):
    pass


class ListSubclass(list):
    pass


class ArraySubclass(np.ndarray):
    pass


Point = collections.namedtuple("Point", "x y")


def unusual_arrays():
    base = np.array([1.5, -2.0, 3.0])
    read_only = base.copy()
    read_only.flags.writeable = False
    wide = np.zeros((3, 5))
    wide[:, 2] = base
    return {
        "float32": base.astype(np.float32),
        "float16": base.astype(np.float16),
        "longdouble": base.astype(np.longdouble),
        "big-endian": base.astype(">f8"),
        "strided": np.repeat(base, 2)[::2],
        "reversed": base[::-1].copy()[::-1],
        "a column": wide[:, 2],
        "read-only": read_only,
        "objects": base.astype(object),
        "Values": np.array([Value(x) for x in base], dtype=object),
    }


@pytest.mark.parametrize("name", list(unusual_arrays()))
def test_unusual_arrays(name):
    """Whatever lies in memory, the numbers are those of the array; the gradient is a plain array."""
    array = unusual_arrays()[name]
    f = fg.value_and_grad(rosenbrock)
    usual = np.array([1.5, -2.0, 3.0])
    expected = f(usual)
    for _ in range(2):
        value, gradient = f(array)
        assert bits(value) == bits(expected[0])
        assert_same(floats(gradient), floats(expected[1]))
        assert_equal(f(usual), expected)


@pytest.mark.parametrize(
    "argument",
    [ListSubclass([1.0, 2.0]), np.array([1.0, 2.0]).view(ArraySubclass), np.ma.masked_array([1.0, 2.0], [True, False])],
    ids=lambda argument: type(argument).__name__,
)
def test_subclasses_of_containers_do_not_pass_for_what_they_extend(argument):
    """What they mean is not known: they are refused by name, even behind a call that they resemble."""
    f = fg.value_and_grad(rosenbrock)
    for plain in ([1.0, 2.0], np.array([1.0, 2.0])):
        f(plain)
        with pytest.raises(fg.InputError, match=type(argument).__name__):
            f(argument)


@pytest.mark.parametrize("dtype", [int, np.int32, np.uint8, np.int8])
def test_arrays_of_integers(dtype):
    array = np.array([1, 0, 1], dtype=dtype)
    f = fg.value_and_grad(rosenbrock)
    expected = f(array.astype(float))
    for _ in range(2):
        assert_equal(f(array), expected)
    assert len(f.kernels) == 1


TYPES = ["i1", "i4", "i8", ">i4", ">i8", "u1", "u8", "f2", "f4", ">f8", "g"]
LARGE = [2**53 + 1, -(2**53) - 3, 2**62 + 513, 2**63 - 1]


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
@pytest.mark.parametrize("transform", [fg.jit, fg.value_and_grad], ids=["jit", "value_and_grad"])
def test_arrays_of_other_numbers_are_converted_by_numpy(monkeypatch, transform, backend):
    """They take the way of float64 arrays, and have the numbers that lists of the same numbers have."""
    if backend == "native":
        pytest.importorskip("llvmlite")

    def function(p, *, rest):
        return p["a"][0] * p["b"][0][2] + rest[1] * p["a"][1]

    f = transform(function, backend=backend)
    expected = {}
    for name in TYPES:
        xs = np.array([3, 7, 100]).astype(name)
        floats = [float(x) for x in xs]
        expected[name] = f({"a": np.array(floats), "b": (np.array(floats),)}, rest=np.array(floats))
    monkeypatch.setattr(type(f), "_take_apart", lambda *args, **named: pytest.fail("arguments are taken apart"))
    for name in TYPES:
        xs = np.array([3, 7, 100]).astype(name)
        assert repr(f({"a": xs, "b": (xs,)}, rest=xs)) == repr(expected[name]), name


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_large_integers_in_arrays_are_rounded_as_those_in_lists_are(backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    f = fg.jit(lambda x: [v * 1.0 for v in x], backend=backend)
    expected = [float(n) for n in LARGE]
    for _ in range(3):
        assert f(LARGE) == f(np.array(LARGE)) == f(np.array(LARGE, dtype=">i8")) == expected
    assert f(np.array([2**64 - 1] * 4, dtype="u8")) == [2.0**64] * 4


def test_arrays_of_other_numbers_among_many_structures(monkeypatch):
    f = fg.jit(lambda x: x[0] * x[-1], backend="python")
    arrays = [np.arange(1, n + 1) for n in range(1, 20)]
    for _ in range(2):
        assert [f(array) for array in arrays] == list(map(float, range(1, 20)))
    monkeypatch.setattr(type(f), "_take_apart", lambda *args, **named: pytest.fail("arguments are taken apart"))
    assert [f(array) for array in arrays] == list(map(float, range(1, 20)))


def test_arrays_of_truth_values_are_not_taken_for_numbers():
    f = fg.value_and_grad(lambda x, mask: (x * mask).sum(), argnums=0)
    ones = np.ones(2)
    assert repr(f(ones, ones)) == repr(f(ones, np.array([1, 1]))) == repr(f(ones, ones > 0.0))
    assert len(f.kernels) == 2
    for k in range(20):
        f(np.ones(k + 1), np.ones(k + 1))
        with pytest.raises(fg.InputError, match="truth value"):
            f(np.ones(k + 1) > 0.0, np.ones(k + 1))


def test_errors_of_arrays_of_other_numbers():
    f = fg.grad(lambda x: x[0].log())
    for _ in range(3):
        assert f(np.array([2, 3])).tolist() == [0.5, 0.0]
        with pytest.raises(fg.DomainError):
            f(np.array([-1, 3]))
        with pytest.raises(fg.InputError, match="complex128"):
            f(np.array([1j, 2.0]))
        itself = [1.0, np.array([1])]
        itself.append(itself)
        with pytest.raises(fg.InputError, match="contains itself"):
            f(itself)


def test_matrices_in_any_order_of_memory():
    a = np.arange(6.0).reshape(2, 3)
    f = Counting(fg.value_and_grad(lambda a: (a * np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).sum() * a[0, 1]))
    expected = f(a)
    wide = np.zeros((4, 9))
    wide[::2, 1::3] = a
    for same in (np.asfortranarray(a), a.T.copy().T, wide[::2, 1::3], np.broadcast_to(a, (2, 3))):
        assert_equal(f(same), expected)
    assert f.hits == 4
    assert_equal(f(a[:, ::-1]), taken_apart(f.f, a[:, ::-1].copy()))


@pytest.mark.parametrize(
    "argument",
    [
        [1, 2, 3], (1, 2, 3), [np.float32(1.0), np.int64(2), 3.0], [1.0, 2, Value(3.0)],
        [np.array(1.0), 2.0, 3.0], [FloatSubclass(1.0), 2.0, 3.0],
    ],
    ids=repr,
)  # fmt: skip
def test_lists_of_other_numbers(argument):
    f = fg.value_and_grad(rosenbrock)
    value, gradient = f([1.0, 2.0, 3.0])
    for _ in range(2):
        other_value, other = f(argument)
        assert bits(other_value) == bits(value)
        assert_same(floats(other), gradient)
        assert f([1.0, 2.0, 3.0]) == (value, gradient)


@pytest.mark.parametrize(
    "x", [2, np.float64(2.0), np.float32(2.0), np.int64(2), FloatSubclass(2), Value(2), np.array(2)], ids=type
)
def test_other_numbers(x):
    f = fg.value_and_grad(lambda x, y: x**3 * y, argnums=(0, 1))
    expected = f(2.0, 3.0)
    assert f(x, 3.0) == expected
    value, gradients = f(x, 3.0)
    assert type(value) is float
    assert_same([float(g) for g in gradients], expected[1])
    assert f(2.0, 3.0) == expected


def test_other_lengths_and_kinds_are_other_structures():
    f = fg.value_and_grad(rosenbrock, dynamic=False)
    for _ in range(2):
        for n in (2, 3, 5):
            xs = [0.5 * k for k in range(n)]
            for argument in (tuple(xs), np.array(xs), xs):
                value, gradient = f(argument)
                reference = [Value(x) for x in argument]
                out = rosenbrock(reference)
                out.backward()
                assert_same([value, *floats(gradient)], [out.data, *[v.grad for v in reference]])
                assert type(gradient) is type(argument)
    assert len(f.kernels) == 9


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_gradients_without_numbers(backend):
    f = fg.value_and_grad(lambda x: x * x, wrt=[], backend=backend)
    assert [f(3.0) for _ in range(3)] == [(9.0, [])] * 3
    g = fg.grad(lambda x, y: x * len(y), backend=backend)
    assert [g(3.0, [[], ()]) for _ in range(3)] == [2.0] * 3
    h = fg.value_and_grad(lambda x: (x * x, [[], {}]), has_aux=True, backend=backend)
    assert [h(3.0) for _ in range(3)] == [((9.0, [[], {}]), 6.0)] * 3


@pytest.mark.parametrize("convert", [list, tuple, np.array])
def test_longer_and_shorter_lists_than_the_last(convert):
    """Of a long list the generated function takes slices: what there is too much, or too little, must be noticed."""
    f = fg.value_and_grad(lambda x: sum(a * a for a in x), dynamic=False)
    for n in (30, 31, 29, 30, 60):
        numbers = [0.5 * k for k in range(n)]
        value, gradient = f(convert(numbers))
        assert value == sum(a * a for a in numbers)
        assert floats(gradient) == [2.0 * a for a in numbers]
    assert len(f.kernels) == 4


def test_structures_that_alternate():
    """The binder is that of the last kernel; at every change arguments are taken apart."""
    f = Counting(fg.value_and_grad(lambda x, y: (x * y if isinstance(x, Value) else x[0] * y) + y))
    for _ in range(5):
        assert f(2.0, 3.0) == (9.0, 3.0)
        assert f([2.0], 3.0) == (9.0, [3.0])
        assert f({0: 2.0}, 3.0) == (9.0, {0: 3.0})
        assert f(Point(2.0, 1.0), 3.0) == (9.0, Point(3.0, 0.0))
        assert_equal(f(np.array([2.0]), 3.0), (9.0, np.array([3.0])))
    assert len(f.f.kernels) == 5
    for _ in range(4):
        f(2.0, 3.0)
    assert f.hits >= 3


def test_keywords_defaults_and_statics():
    def f(x, y=2.0, *, n=1):
        return x * y * n

    g = fg.value_and_grad(f, argnums=(0,), static_argnames="n")
    for _ in range(2):
        assert g(3.0) == (6.0, (2.0,))
        assert g(3.0, 5.0) == (15.0, (5.0,))
        assert g(3.0, y=5.0) == (15.0, (5.0,))
        assert g(y=5.0, x=3.0, n=4) == (60.0, (20.0,))
        assert g(3.0, 5.0, n=2) == (30.0, (10.0,))


def test_flags_are_part_of_the_structure():
    f = fg.value_and_grad(lambda x, square: x * x if square else x)
    for _ in range(2):
        assert f(3.0, True) == (9.0, 6.0)
        assert f(3.0, False) == (3.0, 1.0)
        assert f(3.0, None) == (3.0, 1.0)
        assert f(3.0, "yes") == (9.0, 6.0)


def test_has_aux():
    f = fg.value_and_grad(lambda x: (x * x, [x * 2.0, "note"]), has_aux=True)
    for x in (3.0, 4.0):
        assert f(x) == ((x * x, [2 * x, "note"]), 2 * x)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argument",
    ["text", b"bytes", 1j, ["1.0", 2.0, 3.0], [1.0, 2.0, None], np.array(["a", "b", "c"]), np.array([1j, 2.0, 3.0]),
     {1.0, 2.0, 3.0}, object(), np.array([1.0, "x", None], dtype=object)],
    ids=lambda argument: type(argument).__name__,  # the same in every process: no addresses, no order of sets
)  # fmt: skip
def test_what_is_no_number_is_refused_before_and_after(argument):
    """Also behind a call by a binder, whose arguments this one resembles."""
    f = fg.value_and_grad(rosenbrock)
    for xs in ([1.0, 2.0, 3.0], np.array([1.0, 2.0, 3.0])):
        expected = f(xs)
        assert_equal(f(xs), expected)
        with pytest.raises(TypeError):
            f(argument)
        assert_equal(f(xs), expected)


@pytest.mark.parametrize("arguments", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_a_wrong_number_of_arguments(arguments):
    f = fg.value_and_grad(lambda x, y: x * y)
    f(1.0, 2.0)
    with pytest.raises(TypeError):
        f(*arguments)
    assert f(1.0, 2.0) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("function", "argument", "kind", "message"),
    [
        (lambda x: x[0].log() * x[1], [0.0, 1.0], fg.DomainError, r"log\(0\.0\)"),
        (lambda x: x[0] ** -1 * x[1], [0.0, 1.0], fg.DivisionByZeroError, r"power\(0\.0, -1\.0\)"),
        (lambda x: fg.div(x[1], x[0]), [0.0, 1.0], fg.DivisionByZeroError, r"div\(1\.0, 0\.0\)"),
        (lambda x: x[0].exp() * x[1], [1000.0, 1.0], fg.RangeError, r"exp\(1000\.0\)"),
        (lambda x: x[0].sqrt() * x[1], [0.0, 1.0], fg.DivisionByZeroError, r"div\(0\.5, 0\.0\)|sqrt\(0\.0\)"),
        (lambda x: x[0] ** 0.5 * x[1], [-1.0, 1.0], fg.DomainError, r"power\(-1\.0, 0\.5\)"),
    ],
)  # fmt: skip
def test_errors_through_binders(function, argument, kind, message):
    """The class, the operation, the numbers and the user's line; and the next call is as if nothing had happened."""
    f = fg.value_and_grad(function)
    for convert in (list, tuple, np.array):
        fine = convert([0.5, 2.0])
        expected = f(fine)
        assert_equal(f(fine), expected)
        with pytest.raises(kind, match=message) as caught:
            f(convert(argument))
        assert "test_binding.py" in str(caught.value)
        assert_equal(f(fine), expected)


# --- results are the caller's own -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CASES))
def test_results_are_fresh(name):
    """Writing into a result, or into an argument afterwards, changes neither the other nor the next result."""
    function, argnums, arguments = CASES[name]
    f = fg.value_and_grad(function, argnums)
    taken_apart(f, *arguments)
    first, second = f(*arguments), f(*arguments)
    expected = flat(second)
    for _, gradient in (first,):
        for part in gradient if type(gradient) is tuple else (gradient,):
            if isinstance(part, np.ndarray):
                assert not any(np.shares_memory(part, a) for a in arguments if isinstance(a, np.ndarray))
                part.fill(99.0)
            elif isinstance(part, list):
                part[:] = [99.0] * len(part)
    assert flat(second) == expected
    assert flat(f(*arguments)) == expected


def test_a_gradient_that_is_an_argument_is_a_copy():
    """The gradient of x*y with respect to x is y: not the caller's y itself."""
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    f = fg.value_and_grad(lambda x, y: (x * y).sum(), argnums=(0, 1))
    for _ in range(2):
        _, (gx, gy) = f(x, y)
        assert gx.tolist() == [3.0, 4.0]
        gx += 100.0
        gy += 100.0
        assert (x.tolist(), y.tolist()) == ([1.0, 2.0], [3.0, 4.0])


@given(st.lists(tame, min_size=4, max_size=4))
@settings(max_examples=examples(20))
def test_constants_and_zeros_as_gradients(xs):
    """What does not depend on an element is +0.0, in every element of every container."""
    f = fg.value_and_grad(lambda a: a[0] * 2.0)
    for argument in (xs, tuple(xs), np.array(xs)):
        for _ in range(2):
            value, gradient = f(argument)
            assert_same([value, *floats(gradient)], [xs[0] * 2.0, 2.0, 0.0, 0.0, 0.0])


def test_empty_containers():
    f = fg.value_and_grad(lambda x, ys: x * x + sum(ys))
    for empty in ([], (), np.array([])):
        for _ in range(2):
            assert f(3.0, empty) == (9.0, 6.0)


def test_arrays_of_no_dimension():
    f = fg.value_and_grad(lambda x, s: x * s * s)
    for _ in range(2):
        assert f(2.0, np.array(3.0)) == (18.0, 9.0)
    g = fg.grad(lambda s: s * s if isinstance(s, Value) else s[()] * s[()])
    for _ in range(2):
        assert float(g(np.array(3.0))) == 6.0


def test_nan_is_no_other_structure():
    f = fg.value_and_grad(lambda x, y: x * y)
    for _ in range(2):
        value, gradient = f(math.nan, 2.0)
        assert math.isnan(value)
        assert gradient == 2.0
    assert len(f.kernels) == 1


def test_there_are_binders_to_test():
    """Were binders no longer made, everything above would compare arguments taken apart with themselves."""
    f = fg.grad(rosenbrock)
    f([1.0, 2.0])
    assert isinstance(f, dispatch.Dispatched)
    assert f._recent[0].binder(([1.0, 2.0],)) == f([1.0, 2.0])
    assert f._recent[0].binder(([1.0, 2.0, 3.0],)) is MISS
    assert f._recent[0].binder((np.array([1.0, 2.0]),)) is MISS
    assert f._recent[0].binder(()) is MISS


def test_arrays_of_equal_size_and_another_shape_are_another_structure():
    f = fg.value_and_grad(lambda x: sum(x[0] * x[0]))
    for shape in ((2, 3), (3, 2), (6, 1), (2, 3)):
        x = np.arange(6.0).reshape(shape)
        for _ in range(2):
            value, gradient = f(x)
            assert value == sum(x[0] * x[0])
            expected = np.zeros(shape)
            expected[0] = 2 * x[0]
            np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_one_number_beside_the_value_is_a_number_at_each_call(backend):
    f = fg.grad(lambda x: (x * 2.0, x.log()), has_aux=True, backend=backend)
    g = fg.value_and_grad(lambda x: ((x * x).sum(), x[0]), has_aux=True, backend=backend)
    for _ in range(3):
        assert repr(f(1.0)) == "(2.0, 0.0)"
        (_, aux), _ = g(np.array([3.0, 4.0]))
        assert repr(aux) == "3.0"


# --- calls whose results are Values -----------------------------------------------------------------------------------


class Asked:
    """A compiled function that counts how often its binders answered, and how often arguments were taken apart."""

    def __init__(self, f):
        self.f, self.taken = f, 0
        take_apart = f._take_apart

        def counted(*args, **kwargs):
            self.taken += 1
            return take_apart(*args, **kwargs)

        f._take_apart = counted

    def __call__(self, *args, **kwargs):
        return self.f(*args, **kwargs)


OUTER = Value(0.5)
MIXED = Point(Value(1.5), [2.0, Value(0.25)])
NODES = {
    "numbers": (lambda x, y: fg.tanh(x * y) + OUTER, (0.5, 2)),
    "Values": (lambda x, y: x * y + x, (Value(0.5), Value(-2.0))),
    "a Value and a number": (lambda x, y: x * y + x, (Value(0.5), -2.0)),
    "one Value twice": (lambda x, y: x * y + x, (OUTER * 1.0,) * 2),
    "Values in a list": (lambda xs: sum(x * x for x in xs), ([Value(0.5), Value(1.5), 2.0],)),
    "a named tuple": (lambda p: Point(p.x * p.y[1], [p.y[0] * OUTER]), (MIXED,)),
    "a dict": (lambda d: {"a": d["x"] * OUTER, "b": (d["x"],), "c": None}, ({"x": Value(2.0)},)),
    "arrays": (lambda a: np.array([[a[0] * OUTER], [a[1] * OUTER]]), (np.array([1.0, -2.0]),)),
    "a model": (lambda m, x: m(x), (model, [0.5, -1.0])),
    "nothing": (lambda: OUTER * OUTER, ()),
    "what is no Value": (lambda x: (x, "text", np.ones(2)), (Value(0.5),)),
    "constants": (lambda x: [Value(2.0), x * OUTER], (1.0,)),
}


def values_in(item):
    if isinstance(item, Value):
        return [item]
    if isinstance(item, dict):
        item = list(item.values())
    if isinstance(item, np.ndarray):
        item = item.ravel().tolist()
    return [v for part in item for v in values_in(part)] if isinstance(item, (list, tuple)) else []


def gradients_of(call, arguments):
    """The shape of a result, its numbers, and the gradients that each output passes on."""
    result, numbers = call(*arguments), []
    leaves = [OUTER, *model.parameters(), *values_in(list(arguments))]
    outputs = values_in(result)
    for output in outputs:
        for leaf in leaves:
            leaf.grad = 0.0
        output.backward()
        numbers += [output.data, *(leaf.grad for leaf in leaves)]
    if outputs:
        (sum(outputs) * 2.0).backward()  # all outputs together
        numbers += [leaf.grad for leaf in leaves]
    kinds = type(result), [type(part) for part in result] if isinstance(result, (list, tuple, dict)) else ()
    return kinds, list(map(bits, numbers))


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
@pytest.mark.parametrize("name", NODES)
def test_a_binder_of_compile_does_what_the_interpreter_does(name, backend):
    function, arguments = NODES[name]
    f = Asked(fg.compile(function, backend=backend))
    f(*arguments)
    f.taken = 0
    kinds, numbers = gradients_of(f, arguments)
    assert f.taken == 0, "the binder answered"
    expected_kinds, expected = gradients_of(function, arguments)
    assert kinds == expected_kinds
    assert numbers == expected


def test_values_that_are_the_same_and_that_are_not():
    f = Asked(fg.compile(lambda x, y: x * y, backend="python"))
    x, y = Value(2.0), Value(3.0)
    for _ in range(3):
        for a, b in [(x, y), (x, x), (y, x), (x, 3.0), (2.0, y), (x, fg.detach(y))]:
            x.grad = y.grad = 0.0
            out = f(a, b)
            out.backward()
            grads = x.grad, y.grad
            x.grad = y.grad = 0.0
            (a * b).backward()
            assert (out.data, grads) == ((a * b).data, (x.grad, y.grad))
    assert len(f.f.kernels) == 4


def test_an_argument_that_the_function_reaches_by_itself():
    w, x = Value(3.0), Value(2.0)
    f = fg.compile(lambda x, y: w * x * y, backend="python")
    for _ in range(2):
        for a, b in [(x, 1.0), (w, 1.0), (w, w), (x, w), (1.0, w)]:
            w.grad = x.grad = 0.0
            f(a, b).backward()
            grads = w.grad, x.grad
            w.grad = x.grad = 0.0
            (w * a * b).backward()
            assert grads == (w.grad, x.grad)


def test_a_binder_that_an_argument_became_unfit_for():
    """A `Value` that was an argument is reached by the function itself, at a later call with another flag."""
    x = Value(2.0)
    f = fg.compile(lambda a, flag: a * x if flag else a * a, backend="python")
    assert f(x, False)._prev == (x,)
    assert f(x, False)._prev == (x,)
    for flag in (True, False, False):
        x.grad = 0.0
        f(x, flag).backward()
        assert x.grad == 4.0


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_numbers_are_those_of_the_call_when_a_gradient_is_asked_for_later(backend):
    f = fg.compile(lambda xs, w: [w * xs[0], w * xs[1] * xs[1]], backend=backend)
    for argument in (np.array([1.0, 2.0]), [1.0, 2.0]):
        w = Value(5.0)
        f(argument, w)
        outputs = f(argument, w)
        argument[0] = argument[1] = 100.0
        outputs[1].backward()  # of one output alone: another function, with the arguments of the call
        assert w.grad == 4.0


def test_errors_behind_binders_of_compile():
    f = fg.compile(lambda x: x.log() * OUTER, backend="python")
    for _ in range(3):
        assert f(1.0).data == 0.0
        with pytest.raises(fg.DomainError, match=r"log\(-1\.0\)"):
            f(-1.0)
        with pytest.raises(fg.InputError):
            f(object())
        with pytest.raises(fg.RangeError):
            f(10**400)
        with pytest.raises(fg.InputError):
            f(1.0, 2.0)
        assert f(x=1.0).data == 0.0


def test_binders_of_compile_follow_what_is_captured():
    rate = 2.0
    f = fg.compile(lambda x: x * rate, backend="python")
    x = Value(3.0)
    assert [f(x).data, f(x).data] == [6.0, 6.0]
    rate = 4.0
    assert [f(x).data, f(x).data] == [12.0, 12.0]
    assert fg.grad(lambda y: f(y) * f(y))(1.0) == 32.0, "it is inlined while another function is traced"


@pytest.mark.parametrize("backend", ["python", "native"])
@pytest.mark.parametrize("depth", [150, 240])
def test_arguments_and_results_that_are_nested_deeply(depth, backend):
    """CPython's compiler allows for 200 parentheses within each other."""

    def nested(x):
        for _ in range(depth):
            x = [x, 1.0]
        return x

    def innermost(x):
        while isinstance(x, list):
            x = x[0]
        return x

    f = fg.grad(lambda x: innermost(x) * 2.0, backend=backend)
    g = fg.compile(lambda x: nested(innermost(x) * 2.0), backend=backend)
    for _ in range(2):
        assert innermost(f(nested(1.5))) == 2.0
        assert innermost(g(nested(1.5))).data == 3.0


def test_no_binder_for_more_than_python_should_check():
    xs = [Value(1.0) for _ in range(1_200)]
    f = fg.compile(lambda xs: xs[0] * xs[-1], backend="python")
    assert [f(xs).data, f(xs).data] == [1.0, 1.0]
    assert [entry.binder for entry in f._recent] == [None]


@pytest.mark.parametrize("backend", ["python", "native"])
def test_what_has_no_builtin_is_not_tried_again(monkeypatch, backend):
    """Arrays of `Value`s are taken apart at each call; the builtins of other structures stay."""
    if backend == "native":
        pytest.importorskip("llvmlite")
    f = fg.value_and_grad(lambda x: sum(v * v for v in x), backend=backend)
    for size in range(1, 4):
        f(np.zeros(size))
    values = np.array([Value(1.0), Value(2.0)], dtype=object)
    f(values)
    monkeypatch.setattr(type(f), "_chain_up", lambda self: pytest.fail("the chain is made again"))
    for _ in range(3):
        assert f(values)[0] == 5.0


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
@pytest.mark.parametrize(
    ("function", "options", "calls"),
    [
        (lambda x, *, n=2: x**n, {"static_argnames": "n"}, [((2.0,), {"n": 2}), ((2.0,), {"n": 3}), ((3.0,), {})]),
        (lambda x, a=1.0, b=2.0: x * a + b, {}, [((2.0,), {"b": 3.0}), ((2.0,), {"b": 3.0, "a": 5.0})]),
        (lambda x, y: x * y.tanh(), {}, [((), {"y": 2.0, "x": 1.0}), ((1.0,), {"y": 2.0}), ((), {"x": 1.0, "y": 2.0})]),
        (
            lambda x, **rest: x * rest["b"] - rest["a"], {},
            [((2.0,), {"b": 3.0, "a": 1.0}), ((2.0,), {"a": 1.0, "b": 3.0})],
        ),
        (lambda x, /, *, y: x * sum(y), {}, [((2.0,), {"y": [1.0, 3.0]}), ((2.0,), {"y": [1.0]})]),
    ],
)  # fmt: skip
def test_arguments_by_name_are_not_taken_apart_again(monkeypatch, backend, function, options, calls):
    """Names that were passed in another order, that leave out defaults, and that have to be names."""
    if backend == "native":
        pytest.importorskip("llvmlite")
    f = fg.value_and_grad(function, backend=backend, **options)
    compiled = fg.compile(function, backend=backend, **options)
    expected = [(f(*args, **named), compiled(*args, **named).data) for args, named in calls for _ in range(2)][1::2]
    for (args, named), (both, value) in zip(calls, expected, strict=True):
        leaf = Value(args[0] if args else named["x"])
        rest = {name: number for name, number in named.items() if name != "x"}
        rest = {name: Value(item) if name == "y" and isinstance(item, float) else item for name, item in rest.items()}
        out = function(leaf, *args[1:], **rest)
        out.backward()
        assert (both, value) == ((out.data, leaf.grad), out.data)
    monkeypatch.setattr(type(f), "_take_apart", lambda *args, **named: pytest.fail("arguments are taken apart"))
    monkeypatch.setattr(type(compiled), "_take_apart", type(f)._take_apart)
    for (args, named), (both, value) in zip(calls, expected, strict=True):
        assert f(*args, **named) == both
        assert compiled(*args, **named).data == value


def test_wrong_names_are_errors_at_each_call():
    f = fg.grad(lambda x, y: x * y)
    assert f(y=2.0, x=1.0) == 2.0
    for _ in range(3):
        with pytest.raises(fg.InputError, match="got an unexpected keyword argument 'z'"):
            f(1.0, 2.0, z=2.0)
        with pytest.raises(fg.InputError, match="multiple values for argument 'x'"):
            f(1.0, x=2.0)
    assert f(y=3.0, x=1.0) == 3.0
