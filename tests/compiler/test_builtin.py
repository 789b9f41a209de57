"""Builtins: machine code called as a builtin function does what a call by Python does, and leaks nothing."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import random
import subprocess
import sys
import threading
import time
import types
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.machine import builtin, functions, native, objects
from flatgrad.compiler.stages import Stages
from flatgrad.compiler.transforms import dispatch
from flatgrad.runtime import tracing
from tests.bits import bits
from tests.examples import examples, slow
from tests.threads import in_threads

pytestmark = pytest.mark.skipif(not objects.supported(), reason="this interpreter is laid out differently")


def rosenbrock(x):
    return sum(100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2 for i in range(len(x) - 1))


def matrices(a, b, c):
    return sum((a[i, j] * b[j] + c).tanh() for i in range(a.shape[0]) for j in range(a.shape[1]))


def on_lists(weights, x):
    return sum(w * a for w, a in zip(weights, x, strict=True)).exp()


RNG = np.random.default_rng(7)
X = RNG.uniform(0.5, 1.5, 12)
A, B = RNG.standard_normal((3, 5)), RNG.standard_normal(5)
CASES = {
    "a vector": (rosenbrock, 0, (X,)),
    "a short vector": (rosenbrock, 0, (X[:2].copy(),)),
    "nine numbers": (rosenbrock, 0, (X[:9].copy(),)),
    "a number": (lambda x: x.sin() * x, 0, (0.7,)),
    "a matrix, a vector and a number": (matrices, (0, 1, 2), (A, B, 0.25)),
    "the last of them": (matrices, 2, (A, B, 0.25)),
    "one of them, as a tuple": (matrices, (1,), (A, B, 0.25)),
    "four dimensions": (lambda x: (x * x).sum(), 0, (RNG.standard_normal((2, 1, 3, 2)),)),
    "an array without dimensions": (lambda x: x[()].sin(), 0, (np.array(0.5),)),
    "lists": (on_lists, (0, 1), ([0.5, -1.0, 2.0], [0.25, 0.75, 1.0])),
    "a list of one": (lambda x: x[0].exp(), 0, ([0.5],)),
}


def is_builtin(f):
    return isinstance(f.__call__, types.BuiltinFunctionType)


def flat(item):
    """What a result is, down to types, shapes and bits."""
    if isinstance(item, (tuple, list)):
        return type(item), [flat(part) for part in item]
    if isinstance(item, np.ndarray):
        return item.dtype, item.shape, [bits(x) for x in item.ravel().tolist()]
    return type(item), bits(item)


class Pair(NamedTuple):
    a: float
    b: float


class Refusing:
    """Counts what a builtin hands over to Python."""

    def __init__(self, f):
        self.count = 0
        call = f._call

        def counted(*args, **kwargs):
            self.count += 1
            return call(*args, **kwargs)

        f._call = counted


def with_builtin(function, *args, argnums=0, transform=fg.grad, **options):
    """A function with a builtin, the result of a call by Python, and a count of what is handed over."""
    f = transform(function, argnums, backend="native", **options)
    refusing = Refusing(f)
    expected = f._call(*args)
    assert is_builtin(f)
    refusing.count = 0
    return f, expected, refusing


@pytest.mark.parametrize("transform", [fg.grad, fg.value_and_grad])
@pytest.mark.parametrize("name", CASES)
def test_a_builtin_does_what_a_call_by_python_does(name, transform):
    function, argnums, arguments = CASES[name]
    f, expected, refusing = with_builtin(function, *arguments, argnums=argnums, transform=transform)
    for _ in range(3):
        assert flat(f(*arguments)) == flat(expected)
    assert refusing.count == 0, "the builtin did it"
    again = transform(function, argnums, backend="python")(*arguments)
    assert flat(again) == flat(expected)


def test_results_are_new_and_the_callers_own():
    f, _, _ = with_builtin(rosenbrock, X)
    first = f(X)
    copy = first.copy()
    second = f(X + 1.0)
    assert np.array_equal(first, copy)
    assert first.base is None
    assert first.flags.owndata
    assert first.flags.writeable
    second[:] = 0.0
    assert np.array_equal(f(X), copy)


STRANGE = {
    "a list in place of an array": X.tolist,
    "another length": X[:5].copy,
    "every other number": lambda: np.repeat(X, 2)[::2],
    "backwards": lambda: X[::-1],
    "single precision": lambda: X.astype(np.float32),
    "integers": lambda: np.arange(12),
    "the other order of bytes": lambda: X.astype(X.dtype.newbyteorder()),
    "an equal type of numbers that is another object": lambda: X.view(np.dtype("f8").newbyteorder("=")),
    "objects": lambda: np.array(X.tolist(), dtype=object),
    "values": lambda: [Value(x) for x in X],
    "a matrix": lambda: X.reshape(3, 4),
    "a column": lambda: X.reshape(12, 1),
    "not aligned": lambda: np.frombuffer(b"." + X.tobytes(), dtype=np.uint8)[1:].view(np.float64),
    "read-only": lambda: np.frombuffer(X.tobytes()),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_a_builtin_does_not_know_goes_to_python(name):
    f, expected, refusing = with_builtin(lambda x: sum(a * a * 0.5 for a in np.ravel(x)), X)
    strange = STRANGE[name]()
    reference = fg.grad(f.function, backend="python")(strange)
    assert flat(f(strange)) == flat(reference)
    assert refusing.count == (name != "read-only"), "a read-only array can be read"
    f.__call__ = f._chain[0][1]
    assert flat(f(X)) == flat(expected)


def test_numbers_that_are_no_floats():
    f, _, refusing = with_builtin(lambda x: x * x * x, 2.0)
    for number in (2, np.float64(2.0), np.float32(2.0), np.int64(2)):
        assert flat(f(number)) == flat(12.0)
    assert refusing.count == 2, "an int and a float64 are numbers to it, too"
    assert flat(f(2**53 + 1)) == flat(f(float(2**53 + 1))), "rounded as float() does"
    assert flat(f(-1)) == flat(3.0)
    assert refusing.count == 2
    with pytest.raises(fg.RangeError):
        f(10**400)
    with pytest.raises(fg.InputError):
        f("2")
    assert flat(f(2)) == flat(12.0)

    class Float(float):
        pass

    assert f(Float(2.0)) == 12.0


def test_lists_with_something_else_in_them():
    f, expected, refusing = with_builtin(on_lists, [0.5, 1.0], [0.25, 2.0])
    assert flat(f([0.5, 1], [0.25, 2])) == flat(expected)
    assert flat(f([0.5, np.float64(1.0)], [0.25, 2.0])) == flat(expected)
    assert refusing.count == 0
    assert flat(f([0.5, np.float32(1.0)], [0.25, 2.0])) == flat(expected)
    assert refusing.count == 1
    with pytest.raises(fg.InputError, match="expected a number"):
        f([0.5, "1"], [0.25, 2.0])


def test_wrong_numbers_of_arguments_and_keywords():
    f, expected, _ = with_builtin(matrices, A, B, 0.25)
    assert flat(f(A, B, c=0.25)) == flat(expected)
    assert flat(f(A, c=0.25, b=B)) == flat(expected)
    for call in (f, lambda: f(A, B), lambda: f(A, B, 0.25, 1.0), lambda: f(A, B, d=1.0)):
        with pytest.raises(fg.InputError):
            call()


def test_faults_raise_what_the_interpreter_raises():
    f, expected, _ = with_builtin(lambda x: x[0] / x[1] + x[0].exp(), [1.0, 2.0])
    with pytest.raises(fg.DivisionByZeroError, match=r"test_builtin\.py") as caught:
        f([1.0, 0.0])
    assert isinstance(caught.value, ZeroDivisionError)
    with pytest.raises(fg.RangeError, match="exp"):
        f([1e5, 2.0])
    assert flat(f([1.0, 2.0])) == flat(expected)
    assert is_builtin(f)


def test_a_builtin_is_inlined_while_another_function_is_traced():
    inner, _, refusing = with_builtin(lambda x: x * x * x, 2.0)
    outer = fg.grad(lambda y: inner(y) * inner(2.0))
    assert outer(3.0) == 6.0 * 3.0 * 12.0
    assert refusing.count == 2, "both calls of the inner function were traced"
    # A call from another thread meanwhile is a call like any other.
    results = []

    def traced(y):
        thread = threading.Thread(target=lambda: results.append(inner(2.0)))
        thread.start()
        thread.join()
        return inner(y)

    assert fg.grad(traced)(3.0) == 18.0
    assert results == [12.0]
    assert not tracing.active


def test_a_builtin_answers_while_another_thread_traces():
    """Only the thread that traces calls by Python."""
    f, expected, refusing = with_builtin(rosenbrock, X)
    inside, go_on = threading.Event(), threading.Event()

    def traced(x):
        inside.set()
        assert go_on.wait(30)
        return f(np.array([x, 2.0, 3.0] * 4, dtype=object))[0]

    results = []
    thread = threading.Thread(target=lambda: results.append(fg.grad(traced)(1.0)))
    thread.start()
    assert inside.wait(30)
    try:
        assert tracing.active
        assert flat(f(X)) == flat(expected)
        assert refusing.count == 0, "the builtin did it"
    finally:
        go_on.set()
        thread.join()
    assert refusing.count == 1, "the call in the traced function is recorded"
    assert results == [1202.0 - 400.0 * 2.0]  # the second derivative
    assert not tracing.active


def test_the_functions_that_ctypes_shares_stay_as_they_are():
    """Another package may have its own idea of their argument types."""
    code = (
        "import ctypes, flatgrad as fg\n"
        "names = 'PyCFunction_NewEx', 'PyCapsule_GetPointer', 'Py_IncRef'\n"
        "for name in names: getattr(ctypes.pythonapi, name).argtypes = [ctypes.c_char_p]\n"
        "f = fg.grad(lambda x: x * x, backend='native')\n"
        "f(1.0)\n"
        "print(f(3.0), type(f.__call__).__name__)\n"
        "print({getattr(ctypes.pythonapi, name).argtypes[0].__name__ for name in names})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "6.0 builtin_function_or_method\n{'c_char_p'}\n"


def test_builtins_of_one_name_share_their_definition():
    """It must outlive the function, so that one per function would be a leak."""
    with_builtin(rosenbrock, X)
    before = len(builtin._definitions)
    for size in range(2, 8):
        with_builtin(rosenbrock, X[:size].copy())
    assert len(builtin._definitions) == before


def test_leaves_are_read_at_each_call():
    model = fg.nn.MLP(2, [4, 1], seed=3)
    f = fg.value_and_grad(lambda x: model(x).tanh(), wrt=model, backend="native")
    reference = fg.value_and_grad(f.function, wrt=model, backend="python")
    x = [0.5, -1.0]
    f(x)
    assert is_builtin(f)
    refusing = Refusing(f)
    for k, p in enumerate(model.parameters()):
        p.data = 0.1 * k - 0.5
        assert flat(f(x)) == flat(reference(x))
    assert refusing.count == 0
    p._number = 1  # an int, which the public property would not let in
    assert flat(f(x)) == flat(reference(x))


def test_as_a_method():
    class Point:
        slope = fg.grad(lambda self, x: x * self.factor, argnums=1, backend="native")

        def __init__(self, factor):
            self.factor = factor

        def parameters(self):
            return []

    two, three = Point(2.0), Point(3.0)
    for _ in range(3):
        assert (two.slope(1.0), three.slope(1.0)) == (2.0, 3.0)


@pytest.mark.parametrize("name", ["a vector", "a matrix, a vector and a number", "lists", "a number"])
def test_nothing_leaks(name):
    function, argnums, arguments = CASES[name]
    f, _, _ = with_builtin(function, *arguments, argnums=argnums, transform=fg.value_and_grad)
    wrong = [np.zeros((1, 1)) if isinstance(a, np.ndarray) else "x" for a in arguments]
    watched = [np.dtype(np.float64), np.ndarray, f._call, *arguments]

    def run(times):
        for _ in range(times):
            f(*arguments)

    def miss(times):
        direct = f.__call__
        for _ in range(times):
            try:
                direct(*wrong)
            except Exception:
                continue

    for work in (run, miss):
        work(50)
        gc.collect()
        before, blocks = [sys.getrefcount(item) for item in watched], sys.getallocatedblocks()
        work(500)
        gc.collect()
        after, more = [sys.getrefcount(item) for item in watched], sys.getallocatedblocks()
        assert all(abs(a - b) < 20 for a, b in zip(after, before, strict=True))
        assert more - blocks < 250, "fewer than one block for two calls"


def test_many_threads_share_a_builtin(hurried):
    f, _, _ = with_builtin(rosenbrock, X, transform=fg.value_and_grad)
    inputs = [RNG.uniform(0.5, 1.5, 12) for _ in range(50)]
    reference = fg.value_and_grad(rosenbrock, backend="python")
    expected = [flat(reference(x)) for x in inputs]
    wrong = []

    def work(seed):
        for call in range(10_000):
            k = (seed + call) % 50
            if flat(f(inputs[k])) != expected[k]:
                wrong.append(k)

    in_threads(work)
    assert not wrong


def test_a_call_from_inside_of_a_call_has_memory_of_its_own():
    """Where arguments are taken apart, they may run code; it may call the same kernel."""
    f, _, _ = with_builtin(lambda x, y: (x + y) * y, 1.0, 2.0, argnums=(0, 1))
    kernel = f.kernels[0]
    inner = []

    class Number:
        def __float__(self):
            inner.append(kernel.joint.function(5.0, 7.0))
            return 2.0

    outer = kernel.joint.function(1.0, Number())
    assert inner == [(7.0, 19.0)]
    assert outer == (2.0, 5.0)


def test_no_builtin_where_there_cannot_be_one(monkeypatch):
    plain = fg.grad(rosenbrock, backend="native")
    with monkeypatch.context() as patch:
        patch.setattr(native, "supported", lambda: False)
        expected = plain(X)
        assert not is_builtin(plain)
        assert flat(plain(X)) == flat(expected)
    for function, arguments, options in [
        (lambda x: (x, np.ones(2)), (1.0,), {"has_aux": True}),
        (lambda x: x.a * x.b, (Pair(1.0, 2.0),), {}),
        (lambda x: x[0] * 2.0, ({0: 1.0},), {}),
        (lambda x: (x * x).sum(), (np.ones((1, 2, 1, 2, 1)),), {}),
    ]:
        f = fg.grad(function, backend="native", **options)
        f(*arguments)
        assert not is_builtin(f)
    some_hundred_microseconds = fg.grad(lambda x: sum((a * a).tanh() for a in x), backend="native")
    some_hundred_microseconds(np.full(8_000, 0.5))
    assert is_builtin(some_hundred_microseconds)
    monkeypatch.setattr(functions, "_LONG", 1_000.0)
    slow = fg.grad(lambda x: sum((a * a).tanh().exp() for a in x), backend="native")
    slow(np.full(200, 0.5))
    assert not is_builtin(slow), "calls that take long release the interpreter lock"


def test_a_tiny_kernel_that_is_called_often_gets_machine_code(monkeypatch):
    monkeypatch.setattr(dispatch, "OFTEN", 10)
    f = fg.value_and_grad(lambda x, y: (x * y).sin() / y, argnums=(0, 1))
    expected = f(0.5, 2.0)
    source = f.kernels[0].source
    for _ in range(9):
        assert flat(f(0.5, 2.0)) == flat(expected)
    assert not is_builtin(f)
    assert flat(f(0.5, 2.0)) == flat(expected)
    assert is_builtin(f)
    assert flat(f(0.5, 2.0)) == flat(expected)
    assert f.kernels[0].source == source, "what is printed remains flat Python"
    assert f.kernels[0].backend == "native"
    with pytest.raises(fg.DivisionByZeroError):
        f(0.5, 0.0)
    # Another structure begins anew, and the first one's builtin is found again.
    assert f(0.5, np.float64(2.0))[0] == expected[0]
    assert flat(f(0.5, 2.0)) == flat(expected)


@pytest.mark.parametrize("options", [{"backend": "python"}, {"mode": "fast"}])
def test_others_stay_what_they_are(monkeypatch, options):
    monkeypatch.setattr(dispatch, "OFTEN", 3)
    f = fg.grad(lambda x: x * x, **options)
    for _ in range(10):
        assert f(2.0) == 4.0
    assert not is_builtin(f)


def test_without_llvmlite_nothing_changes(monkeypatch):
    monkeypatch.setattr(dispatch, "OFTEN", 3)
    monkeypatch.setattr(native, "available", lambda: False)
    f = fg.grad(lambda x: x * x)
    for _ in range(10):
        assert f(2.0) == 4.0
    assert not is_builtin(f)


def test_leaves_that_are_not_what_they_were():
    w = [Value(2.0), Value(3.0)]
    f = fg.value_and_grad(lambda x: w[0] * x + w[1], wrt=w, backend="native")
    expected = f(1.5)
    assert is_builtin(f)
    direct = f.__call__
    f.kernels[0].leaves.clear()
    assert flat(direct(1.5)) == flat(expected), "it has a list of its own"
    f.kernels[0].leaves.extend(w)
    del w[0]._number
    with pytest.raises(AttributeError):
        direct(1.5)
    w[0]._number = 2.0
    assert flat(direct(1.5)) == flat(expected)


@pytest.mark.slow
def test_the_collector_may_free_a_builtin_in_any_order():
    """With memory that is overwritten when it is freed."""
    script = """
import gc, numpy as np, flatgrad as fg
def make():
    f = fg.value_and_grad(lambda x: x[0]*x[1], backend="native"); f(np.ones(2)); f(np.ones(2))
    return f.__call__
gc.disable()
for _ in range(20):
    call = make(); gc.collect(); call(np.ones(2)); del call; gc.collect()
"""
    environment = {**os.environ, "PYTHONMALLOC": "malloc", "MALLOC_PERTURB_": "255"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_machine_code_that_cannot_be_made_is_no_reason_to_fail(monkeypatch):
    monkeypatch.setattr(dispatch, "OFTEN", 3)

    def broken(kernel):
        raise RuntimeError("LLVM")

    monkeypatch.setattr(Stages, "hasten", broken)
    f = fg.grad(lambda x: x * x)
    with pytest.warns(fg.PerformanceWarning, match="stays flat Python: LLVM") as warned:
        assert [f(2.0) for _ in range(10)] == [4.0] * 10
    assert len(warned) == 1
    assert not is_builtin(f)


def test_a_bug_in_making_machine_code_later_comes_out(monkeypatch):
    monkeypatch.setattr(dispatch, "OFTEN", 3)

    def broken(kernel):
        raise KeyError("a bug")

    monkeypatch.setattr(Stages, "hasten", broken)
    f = fg.grad(lambda x: x * x)
    with pytest.raises(KeyError, match="a bug"):
        [f(2.0) for _ in range(10)]


def test_machine_code_is_made_later_if_making_it_was_interrupted(monkeypatch):
    monkeypatch.setattr(dispatch, "OFTEN", 3)
    hasten, attempts = Stages.hasten, []

    def interrupted(kernel):
        attempts.append(kernel)
        if len(attempts) == 1:
            raise KeyboardInterrupt
        hasten(kernel)

    monkeypatch.setattr(Stages, "hasten", interrupted)
    f = fg.grad(lambda x: x * x)
    for _ in range(10):
        try:
            assert f(2.0) == 4.0
        except KeyboardInterrupt:
            assert len(attempts) == 1
    assert is_builtin(f)


def test_special_numbers_pass_through():
    f, _, refusing = with_builtin(lambda x: sum(a * 2.0 for a in x) * 0.5, X, transform=fg.value_and_grad)
    g = fg.value_and_grad(f.function, backend="python")
    for special in (math.nan, math.inf, -0.0, 5e-324):
        x = X.copy()
        x[3] = special
        assert flat(f(x)) == flat(g(x))
    assert refusing.count == 0


def test_a_builtin_keeps_what_it_needs():
    f, expected, _ = with_builtin(rosenbrock, X)
    direct = f.__call__
    del f
    gc.collect()
    junk = [np.full(200, math.nan) for _ in range(200)]
    assert flat(direct(X)) == flat(expected)
    del junk


# --- structures of all kinds, several at a time, and by name ----------------------------------------------------------


def numbers_in(item):
    """The numbers in an argument, in order, as the traced function sees them."""
    if isinstance(item, dict):
        item = list(item.values())
    if isinstance(item, np.ndarray):
        item = item.ravel().tolist()
    if isinstance(item, (list, tuple)):
        return [n for part in item for n in numbers_in(part)]
    return [] if item is None or isinstance(item, (str, bool)) else [item]


def weighted(*arguments):
    return sum((n * n * (k + 1.0) for k, n in enumerate(numbers_in(arguments))), 0.0)


def counting(shape):
    """An array of 1, 2, ..."""
    return np.arange(1.0, 1.0 + math.prod(shape)).reshape(shape)


STRUCTURES = st.recursive(
    st.one_of(
        st.floats(-4.0, 4.0),
        st.integers(-4, 4),
        st.sampled_from(["text", None, True, False]),
        st.lists(st.floats(-4.0, 4.0), max_size=4),
        st.lists(st.floats(-4.0, 4.0), max_size=4).map(tuple),
        st.sampled_from([(1,), (3,), (2, 3), (1, 2, 2)]).map(counting),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip


def whole(item):
    """What a result is, down to types, shapes, bits and the order of keys."""
    if isinstance(item, dict):
        return dict, [(key, whole(part)) for key, part in item.items()]
    if isinstance(item, (tuple, list)):
        return type(item), [whole(part) for part in item]
    return (type(item), item) if item is None or isinstance(item, (str, int)) else flat(item)


@settings(max_examples=examples(60))
@given(st.lists(STRUCTURES, min_size=1, max_size=3), STRUCTURES, st.booleans())
def test_structures_of_all_kinds(arguments, extra, has_aux):
    assume(numbers_in(arguments[0]))
    assume("True" not in repr(arguments[0]) and "False" not in repr(arguments[0]))  # truth values have no gradient

    def function(*items):
        value = weighted(*items)
        return (value, [value * 2.0, extra, {"inputs": list(items)}]) if has_aux else value

    for transform in (fg.grad, fg.value_and_grad):
        f = transform(function, has_aux=has_aux, backend="native")
        expected = f(*arguments)
        assert whole(f(*arguments)) == whole(expected)
        if is_builtin(f):
            f._call = None  # whatever it holds, it is not asked
            refusing = Refusing(type("Nobody", (), {"_call": staticmethod(lambda *items: None)}))
            assert whole(f(*arguments)) == whole(expected)
            assert refusing.count == 0
        reference = transform(function, has_aux=has_aux, backend="python")
        assert whole(reference(*arguments)) == whole(expected)
        assert whole(reference(*arguments)) == whole(expected), "by the binder, if there is one"


def counted_entries(f):
    """Counts the calls that take their arguments apart."""
    entry, count = f._entry, []
    f._entry = lambda arguments: count.append(arguments) or entry(arguments)
    return count


MIXED = [
    np.arange(1.0, 4.0),
    np.arange(1.0, 5.0),
    [1.0, 2.0],
    (1.0, 2.0),
    [1.0, 2, 3],
    {"a": 1.0, "b": [2.0, 3.0]},
    2.5,
]


@pytest.mark.parametrize("backend", ["native", "python"])
def test_a_call_site_that_alternates_between_structures(backend):
    f = fg.value_and_grad(weighted, backend=backend)
    expected = [whole(f(argument)) for argument in MIXED]
    count = counted_entries(f)
    rng = random.Random(3)
    for _ in range(100):
        k = rng.randrange(len(MIXED))
        assert whole(f(MIXED[k])) == expected[k]
    assert not count
    assert len(f.kernels) == len(MIXED)


def counted_builtins(monkeypatch):
    """Counts the builtins that are made."""
    make, made = native.new_builtin, []
    monkeypatch.setattr(native, "new_builtin", lambda *args, **named: made.append(args) or make(*args, **named))
    return made


def test_one_builtin_is_made_per_structure_that_is_tried(monkeypatch):
    made = counted_builtins(monkeypatch)
    f = fg.value_and_grad(weighted, backend="native")
    for n in range(1, dispatch.RECENT + 1):
        f([0.5] * n)
        assert len(made) == n


@pytest.mark.parametrize("more", slow([1, 2, 8, 56], 56))
@pytest.mark.parametrize(
    "convert", [list, np.array, lambda xs: {"a": 1.0, "b": (xs, 2.0)}], ids=["list", "array", "dict"]
)
def test_more_structures_than_are_tried(monkeypatch, more, convert):
    """Calls in turn: all are answered without taking arguments apart, and builtins are made again ever more rarely."""
    made = counted_builtins(monkeypatch)
    f = fg.value_and_grad(weighted, backend="native")
    items = [convert([0.5] * n) for n in range(1, dispatch.RECENT + more + 1)]
    expected = [whole(f(item)) for item in items]
    for item in items:
        f(item)
    count, rounds = counted_entries(f), 100
    for _ in range(rounds):
        assert [whole(f(item)) for item in items] == expected
    most = math.log2(rounds)  # so often a structure comes into the chain in place of another one
    assert len(count) <= most
    assert len(made) <= len(items) + most * (dispatch.RECENT + 1)


def test_a_structure_that_is_used_often_comes_to_be_tried_first():
    f = fg.value_and_grad(weighted, backend="native")
    refusing = Refusing(f)
    for n in range(1, 2 * dispatch.RECENT):
        f([0.5] * n)
    for n in (dispatch.RECENT + 1, dispatch.RECENT + 3):
        expected = whole(f([0.5] * n))
        for _ in range(4 * dispatch.RECENT):
            assert whole(f([0.5] * n)) == expected
        refusing.count = 0
        assert whole(f([0.5] * n)) == expected
        assert refusing.count == 0, "no Python ran"


@pytest.mark.parametrize("backend", ["native", "python"])
def test_many_static_arguments_are_told_apart(backend):
    f = fg.grad(lambda x, n, *, m: x * n * m, static_argnames=("n", "m"), backend=backend)
    calls = [(n, m) for n in range(1, 8) for m in (1, 2, 3)]
    for n, m in calls * 2:
        assert f(3.0, n, m=m) == n * m
    count = counted_entries(f)
    for n, m in calls:
        assert f(3.0, n, m=m) == n * m
    assert not count


def test_faults_and_captured_state_beside_the_chain():
    scale = 2.0
    f = fg.grad(lambda x: sum(v.log() for v in x) * scale, backend="native")
    for n in [*range(1, 2 * dispatch.RECENT)] * 2:
        assert f([2.0] * n) == [1.0] * n
        with pytest.raises(fg.DomainError):
            f([-1.0] * n)
    scale = 4.0
    for n in [*range(1, 2 * dispatch.RECENT)] * 2:
        assert f([2.0] * n) == [2.0] * n


def test_arguments_by_name():
    f = fg.value_and_grad(lambda a, b, c: a * b[0] + c, backend="native")
    expected = f(2.0, [3.0], 4.0)
    count = counted_entries(f)
    assert f(2.0, [3.0], c=4.0) == f(2.0, b=[3.0], c=4.0) == f(a=2.0, b=[3.0], c=4.0) == expected
    assert not count
    assert f(c=4.0, b=[3.0], a=2.0) == expected
    assert f(2.0, c=4.0, b=[3.0]) == expected
    for call in (lambda: f(2.0, [3.0], 4.0, c=4.0), lambda: f(2.0, a=3.0, c=1.0), lambda: f(2.0, [3.0], d=1.0)):
        with pytest.raises(fg.InputError):
            call()
    only = fg.grad(lambda a, *, scale: a * scale, backend="native")
    assert only(2.0, scale=3.0) == only(2.0, scale=3.0) == 3.0


def test_arguments_by_name_are_read_by_the_builtin():
    f = fg.value_and_grad(lambda a, b, c=0.5: a * b[0] + c, backend="native")
    expected = f(2.0, [3.0], 4.0)
    assert is_builtin(f)
    refusing = Refusing(f)
    f._chain = ()
    f._chain_up()
    for call in (lambda: f(2.0, [3.0], c=4.0), lambda: f(2.0, b=[3.0], c=4.0), lambda: f(a=2.0, b=[3.0], c=4.0)):
        assert flat(call()) == flat(expected)
    assert refusing.count == 0, "no Python ran"
    name = "".join(["", "c"])
    assert flat(f(2.0, [3.0], **{name: 4.0})) == flat(expected)
    count = refusing.count
    assert flat(f(a=2.0, c=4.0, b=[3.0])) == flat(expected)
    assert refusing.count > count, "another order"
    count = refusing.count
    assert f(2.0, b=[3.0]) == (6.5, 3.0)
    assert f(2.0, b=[3.0]) == (6.5, 3.0)
    assert len(f.kernels) == 2
    for call in (lambda: f(2.0, b=[3.0], d=4.0), lambda: f(2.0, a=1.0, c=4.0), lambda: f(b=[3.0], c=4.0)):
        with pytest.raises(fg.InputError):
            call()
    with pytest.raises(fg.InputError):
        f(2.0, [3.0], c="text", d=1.0)
    only = fg.grad(lambda a, *, scale: a * scale, backend="native")
    assert [only(2.0, scale=3.0) for _ in range(3)] == [3.0] * 3
    rest = fg.grad(lambda a, *others, scale=1.0: a * scale, backend="native")
    assert [rest(2.0, scale=k) for k in (1.0, 2.0, 3.0)] == [1.0, 2.0, 3.0]
    assert [rest(2.0, 5.0) for _ in range(3)] == [1.0] * 3


def test_names_in_another_order_are_those_of_the_builtin_again():
    f = fg.grad(lambda x, *, a, b=1.0: x * a / b, backend="native")
    assert f(2.0, a=3.0, b=4.0) == 0.75
    for entry in f._recent:
        entry.binder = lambda items: pytest.fail("a binder is called")
    assert f(2.0, b=4.0, a=3.0) == f(b=4.0, x=2.0, a=3.0) == f(a=3.0, b=4.0, x=2.0) == 0.75


def test_a_builtin_is_called_with_an_empty_tuple_of_names():
    """As C code may call it: then no argument has a name, and their number counts."""
    call = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p, ctypes.c_size_t, ctypes.py_object)(
        ("PyObject_Vectorcall", ctypes.pythonapi)
    )
    for function in (lambda a, b: a * b, lambda a, b, *rest: a * b):  # the second one has no names in order
        f = fg.grad(function, backend="native")
        assert f(2.0, 3.0) == 3.0
        assert is_builtin(f)
        two = (ctypes.py_object * 2)(2.0, 3.0)
        assert call(f.__call__, ctypes.addressof(two), 2, ()) == 3.0
        with pytest.raises(fg.InputError):
            call(f.__call__, ctypes.addressof(two), 0, ())


def test_static_arguments():
    f = fg.grad(lambda x, n: x**n if isinstance(n, int) else x * len(n), static_argnames="n", backend="native")
    large = 3 * 10**3
    for n, expected in [(2, 6.0), (3, 27.0), ("abc", 3.0), (large, large * 1.0 ** (large - 1)), (True, 1.0), (1, 1.0)]:
        x = 1.0 if n == large else 3.0
        assert f(x, n) == expected
    count = counted_entries(f)
    assert f(1.0, int("3000")) == 3000.0, "an equal one is enough"
    assert f(3.0, "".join(["a", "bc"])) == 3.0
    assert not count
    g = fg.grad(lambda x, s: x * math.copysign(2.0, s), static_argnames="s", backend="native")
    assert [g(1.0, 0.0), g(1.0, -0.0), g(1.0, 0.0), g(1.0, -0.0)] == [2.0, -2.0, 2.0, -2.0]
    assert [f(3.0, n) for n in (1, True, 1, True)] == [1.0] * 4
    assert len({id(entry) for entry in f._recent}) == len(f._recent)


@pytest.mark.slow
def test_structures_leak_nothing():
    argument = {"a": [1.0, (2.0, [3.0, 4.0])], "b": np.ones((2, 2)), "c": None}
    f = fg.value_and_grad(
        lambda p: (weighted(p), {"x": p["a"][0], "y": [p["a"][0], "text"]}), has_aux=True, backend="native"
    )
    f(argument)
    f(argument)
    assert is_builtin(f)

    def blocks(call, times):
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(times):
            call()
        gc.collect()
        return sys.getallocatedblocks() - before

    wrong = {**argument, "b": object()}

    def refused():
        with pytest.raises(fg.InputError):
            f(wrong)

    for call in (lambda: f(argument), refused):
        blocks(call, 50)
        assert blocks(call, 300) < 100


# --- what builtins point to -------------------------------------------------------------------------------------------


def test_threads_that_come_first_share_what_is_loaded():
    """A second copy would replace the first, which is unloaded while builtins have its address."""

    def slowly():
        time.sleep(0.05)
        return object()

    code = native.once(slowly)
    first, second = in_threads(lambda k: code(), 2)
    assert first is second is code()


def test_threads_that_come_first_share_a_definition(monkeypatch):
    """CPython has its address for as long as there is a function of this name."""
    plain = builtin._MethodDef

    def slowly(*fields):
        time.sleep(0.05)
        return plain(*fields)

    monkeypatch.setattr(builtin, "_MethodDef", slowly)
    name = "a name that no other function has"
    try:
        first, second = in_threads(lambda k: builtin._definition(name, 1), 2)
        assert first is second is builtin._definition(name, 1)
    finally:
        builtin._definitions.pop((name, 1))


# --- arguments that must have names -----------------------------------------------------------------------------------

NAMED = [
    (lambda x, *, n=2: x**n, {"static_argnames": "n"}, (2.0,), {"n": 3}),
    (lambda x, a=1.0, b=2.0: x * a + b * b, {}, (2.0,), {"b": 3.0}),
    (lambda x, /, y, *, z: x * y - z, {"argnums": (0, 1)}, (2.0, 3.0), {"z": 0.5}),
    (lambda x, /, y, *, z: x * y - z, {"argnums": (0, 1)}, (2.0,), {"y": 3.0, "z": 0.5}),
    (lambda x, **rest: x * rest["a"] / rest["b"], {}, (2.0,), {"a": 3.0, "b": 4.0}),
]


@pytest.mark.parametrize(("function", "options", "args", "named"), NAMED)
def test_builtins_of_arguments_that_must_have_names(monkeypatch, function, options, args, named):
    f = fg.value_and_grad(function, backend="native", **options)
    expected = fg.value_and_grad(function, backend="python", **options)(*args, **named)
    for _ in range(2):
        assert f(*args, **named) == expected
    assert isinstance(f.__call__, types.BuiltinFunctionType)
    monkeypatch.setattr(type(f), "_call", lambda *args, **named: pytest.fail("not by a builtin"))
    assert f.__call__(*args, **named) == expected


@pytest.mark.parametrize(("function", "options", "args", "named"), NAMED)
def test_other_ways_to_pass_them_are_not_those_of_the_builtin(function, options, args, named):
    """What is an error, or means something else, comes out as before there was a builtin."""
    f, slow = (fg.value_and_grad(function, backend=backend, **options) for backend in ("native", "python"))
    f(*args, **named), f(*args, **named)
    items = (*args, *named.values())
    calls = [
        (items, {}), (args, {}), ((), named), ((), {"x": args[0], **named}), (args, dict.fromkeys(named, 2.0)),
        (args, {**named, "c": 1.0}), (args, dict(reversed(named.items()))),
        (items[:-1], {list(named)[-1]: items[-1]}),
        (args, {name.upper(): number for name, number in named.items()}),
    ]  # fmt: skip
    for positional, by_name in calls:
        outcomes = []
        for each in (slow, f, f):
            try:
                outcomes.append(each(*positional, **by_name))
            except (fg.FlatgradError, KeyError, TypeError) as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1] == outcomes[2], (positional, by_name)


def test_tiny_functions_called_by_name_get_machine_code_as_well(monkeypatch):
    monkeypatch.setattr(dispatch, "OFTEN", 10)
    f = fg.grad(lambda x, *, scale: x * x * scale)
    for _ in range(30):
        assert f(1.5, scale=2.0) == 6.0
    assert [kernel.backend for kernel in f.kernels] == ["native"]
