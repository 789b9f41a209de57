"""`fg.jit`: the function itself, on numbers, with the bits and the errors of the interpreter."""

from __future__ import annotations

import collections
import inspect
import itertools
import math
import pickle
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.compiler.machine import native, objects
from flatgrad.compiler.transforms import dispatch
from tests.bits import assert_same, bits
from tests.compiler.test_builtin import STRUCTURES, Refusing, is_builtin, weighted, whole
from tests.examples import examples
from tests.threads import in_threads

BACKENDS = ["python", "numpy", *(["native"] if native.available() else [])]
Pair = collections.namedtuple("Pair", "left right")

needs_builtins = pytest.mark.skipif(not native.available() or not objects.supported(), reason="needs builtins")


def product(x, y=2.0):
    """x times y."""
    return x * y


# --- what it returns --------------------------------------------------------------------------------------------------


def test_numbers_in_and_numbers_out():
    f = fg.jit(product)
    assert_same([f(3.0), f(3, 5), f(np.float32(0.5)), f(Value(3.0), y=Value(4.0))], [6.0, 15.0, 1.0, 12.0])
    assert (f.__name__, f.__doc__, f.__wrapped__) == ("product", product.__doc__, product)
    assert inspect.signature(f) == inspect.signature(product)


def test_it_is_a_decorator_with_and_without_options():
    @fg.jit
    def f(x):
        return x * 2.0

    @fg.jit(static_argnames="n", backend="python")
    def g(x, n):
        return [x + k for k in range(n)]

    assert (f(3.0), g(3.0, 2), g(3.0, n=3)) == (6.0, [3.0, 4.0], [3.0, 4.0, 5.0])
    assert (len(g.kernels), g.kernels[0].backend) == (2, "python")


RESULTS = {
    "a number": (lambda x: x * x, 9.0),
    "the argument": (lambda x: x, 3.0),
    "a list": (lambda x: [x, x * x], [3.0, 9.0]),
    "a list with a float": (lambda x: [x, -0.0, 1.5], [3.0, -0.0, 1.5]),
    "a list with an int": (lambda x: [x, 2], [3.0, 2]),
    "a tuple": (lambda x: (x, x * x), (3.0, 9.0)),
    "a tuple of one": (lambda x: (x,), (3.0,)),
    "a named tuple": (lambda x: Pair(x, [x]), Pair(3.0, [3.0])),
    "a dict": (lambda x: {"b": x, "a": [x * x, (x,)]}, {"b": 3.0, "a": [9.0, (3.0,)]}),
    "other things": (lambda x: [x, "text", None, True, 7], [3.0, "text", None, True, 7]),
    "no number": (lambda x: ["text", 1.5], ["text", 1.5]),
    "nothing": (lambda x: None, None),
    "an empty list": (lambda x: [], []),
    "a constant": (lambda x: 4.5, 4.5),
    "a Value that was made": (lambda x: Value(4.5), 4.5),
    "the same twice": (lambda x: [x * x] * 2, [9.0, 9.0]),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", RESULTS)
def test_results_of_every_structure(name, backend):
    function, expected = RESULTS[name]
    f = fg.jit(function, backend=backend)
    for _ in range(4):
        assert whole(f(3.0)) == whole(expected)


ARRAYS = {
    "a vector": (lambda x: np.array([x, x * x]), (2,)),
    "with constants": (lambda x: np.array([x, 1.0, 2]), (3,)),
    "a matrix": (lambda x: np.array([[x, x * x, 0.5]]), (1, 3)),
    "arithmetic": (lambda x: np.ones((2, 3)) * x, (2, 3)),
    "an array of one number": (lambda x: np.array(x, dtype=object), ()),
    "no rows": (lambda x: np.array([], dtype=object).reshape(0, 2) * x, (0, 2)),
    "no traced number": (lambda x: np.arange(4.0), (4,)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_arrays_of_floats(name, backend):
    function, shape = ARRAYS[name]
    f = fg.jit(function, backend=backend)
    expected = [x.data if isinstance(x, Value) else float(x) for x in np.ravel(function(Value(3.0)))]
    results = [f(3.0) for _ in range(4)]
    for result in results:
        assert (result.dtype, result.shape) == (np.float64, shape)
        assert_same(result.ravel().tolist(), expected)
        result.fill(7.0)  # the caller's own
    nested = fg.jit(lambda x: {"a": [function(x), x]}, backend=backend)
    for _ in range(3):
        a, x = nested(3.0)["a"]
        assert_same([*a.ravel().tolist(), x], [*expected, 3.0])


def test_arrays_go_in():
    draw = np.random.default_rng(1)
    A, b = draw.normal(size=(3, 4)), draw.normal(size=4)
    expected = [sum((a * x for a, x in zip(row[1:], b[1:], strict=True)), row[0] * b[0]) for row in A.tolist()]
    for backend in BACKENDS:
        f = fg.jit(lambda A, b: A @ b, backend=backend)
        for _ in range(3):
            solution = f(A, b)
            assert isinstance(solution, np.ndarray)
            assert_same(solution.tolist(), [float(x) for x in expected])
        assert f(A[:2], b).shape == (2,)
        assert len(f.kernels) == 2


def test_parameters_are_read_at_each_call():
    model = nn.MLP(2, [4, 3], activation="tanh", seed=1)
    for backend in BACKENDS:
        f = fg.jit(model, backend=backend)
        for _ in range(4):
            assert_same(f([0.5, -1.0]), [out.data for out in model([0.5, -1.0])])
            for p in model.parameters():
                p.data += 0.125
        assert len(f.kernels) == 1
        assert all(p.grad == 0.0 for p in model.parameters())


def test_what_it_captured_may_change():
    settings = {"power": 2}
    f = fg.jit(lambda x: x ** settings["power"])
    assert [f(3.0) for _ in range(3)] == [9.0] * 3
    settings["power"] = 3
    assert f(3.0) == 27.0


def test_models_and_statics_are_part_of_the_structure():
    first, second = nn.MLP(1, [1], seed=1), nn.MLP(1, [1], seed=2)
    f = fg.jit(lambda model, x, kind: model([x]) if kind == "score" else -model([x]))
    for model in (first, second, first):
        assert_same([f(model, 0.5, "score"), f(model, 0.5, "loss")], [model([0.5]).data, -model([0.5]).data])
    assert len(f.kernels) == 4


def test_keywords_and_star_arguments():
    f = fg.jit(lambda *xs, scale=1.0, **named: sum(xs) * scale + sum(named.values()))
    for _ in range(3):
        assert (f(1.0, 2.0), f(1.0, scale=3.0), f(1.0, a=2.0, b=3.0)) == (3.0, 3.0, 6.0)


class Spring:
    def __init__(self, stiffness):
        self.stiffness, self.weight = stiffness, Value(0.5)

    @fg.jit
    def energy(self, x):
        """At x."""
        return self.weight * self.stiffness * x * x

    @fg.jit(static_argnames="count")
    def powers(self, x, count):
        return [x**k for k in range(1, count + 1)]


def test_methods():
    first, second = Spring(2.0), Spring(4.0)
    for _ in range(3):
        assert (first.energy(3.0), second.energy(3.0), first.powers(2.0, 3)) == (9.0, 18.0, [2.0, 4.0, 8.0])
    first.stiffness = 6.0
    first.weight.data = 1.0
    assert (first.energy(3.0), first.energy is first.energy) == (54.0, True)
    assert first.energy.__doc__ == "At x."


# --- inside of other functions ----------------------------------------------------------------------------------------


def test_inside_of_a_trace_it_is_a_part_of_it():
    inner = fg.jit(lambda x, y: {"p": x * y, "s": [x + y]})
    calls = len(inner.kernels)

    def function(x):
        result = inner(x, 2.0)
        return result["p"] * result["s"][0]

    for transform in (fg.value_and_grad, fg.jit, fg.compile):
        assert transform(function)(3.0) is not None
    assert fg.value_and_grad(function)(3.0) == (30.0, 16.0)
    assert fg.jit(function)(3.0) == 30.0
    out = fg.compile(function)(x := Value(3.0))
    out.backward()
    assert (out.data, x.grad) == (30.0, 16.0)
    assert len(inner.kernels) == calls, "nothing was compiled for it"
    assert fg.grad(lambda x: fg.jit(fg.grad(lambda y: x * y**3))(2.0))(1.0) == 12.0


def test_gradients_are_not_computed():
    def function(x):
        return fg.sum(fg.tanh(a * b) for a, b in itertools.pairwise(x))

    kernel, whole_kernel = (t(function).kernel_for([0.5] * 30) for t in (fg.jit, fg.value_and_grad))
    assert (kernel.stats.adjoint, kernel.backward, kernel.joint) == (0, None, None)
    assert kernel.stats.equations < whole_kernel.stats.equations / 2
    assert_same([kernel.forward([0.5] * 30)], [function([0.5] * 30)])


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors_are_the_interpreters(backend):
    f = fg.jit(lambda x: [fg.log(x), fg.exp(x) / (x - 1.0)], backend=backend)
    for number, error, text in (
        (-1.0, fg.DomainError, "log needs x > 0"),
        (1.0, fg.DivisionByZeroError, "power"),
        (1e3, fg.RangeError, "exp"),
    ):
        for _ in range(3):
            with pytest.raises(error, match=rf"{text}[\s\S]*test_jit\.py[\s\S]*fg\.log\(x\)"):
                f(number)
        assert len(f(2.0)) == 2
    ieee = fg.jit(lambda x: [fg.log(x), fg.exp(x) / (x - 1.0)], backend=backend, faults="ieee")
    assert_same(ieee(-1.0), [math.nan, math.exp(-1.0) * (-2.0) ** -1])
    assert_same(ieee(1e3), [math.log(1e3), math.inf])


def test_what_nobody_needs_does_not_raise():
    def function(x):
        fg.log(x)
        return x

    assert fg.jit(function)(-1.0) == -1.0


@pytest.mark.parametrize("argument", [object(), 1j, np.array(["a"]), [1.0, {"k": 3j}], b"bytes"])
def test_arguments_that_are_no_numbers(argument):
    with pytest.raises(fg.InputError, match="argument x"):
        fg.jit(product)(argument)


def test_results_that_are_no_numbers():
    assert fg.jit(lambda x: x > 0)(1.0) is True
    assert fg.jit(lambda x: np.array([x, x > 0], dtype=object))(3.0).tolist() == [3.0, 1.0]
    with pytest.raises(fg.InputError, match="expected a number, got NoneType None"):
        fg.jit(lambda x: np.array([x, None]))(1.0)


def test_mistakes():
    with pytest.raises(fg.TraceError, match="changes its argument"):
        fg.jit(lambda x: x.append(x[0]))([1.0])
    with pytest.raises(fg.InputError, match="expected a function"):
        fg.jit(3.0)
    with pytest.raises(fg.InputError, match="cannot be pickled"):
        pickle.dumps(fg.jit(product))
    with pytest.raises(TypeError):
        fg.jit(product)(1.0, 2.0, 3.0)


# --- the same bits, in each way ---------------------------------------------------------------------------------------


@needs_builtins
@given(st.lists(STRUCTURES, min_size=1, max_size=3), STRUCTURES)
@settings(max_examples=examples(40))
def test_structures_of_all_kinds(arguments, extra):
    """By Python, by the binder and by the builtin: the same, down to types and the order of keys."""

    def function(*arguments):
        value = weighted(*arguments) + fg.detach(Value(0.0))
        return [value * 2.0, extra, {"inputs": list(arguments), "value": value}]

    f, reference = fg.jit(function, backend="native"), fg.jit(function, backend="python")
    expected = f(*arguments)
    for _ in range(2):
        assert whole(f(*arguments)) == whole(reference(*arguments)) == whole(expected)


@needs_builtins
def test_later_calls_are_builtins():
    cases = [
        (lambda x, y: x * y.sin(), (2.0, 3.0)),
        (lambda x: [fg.exp(a) for a in x], ([0.5, 1.0],)),
        (lambda x: np.array(fg.softmax(x)), (np.array([0.5, 1.0, -1.0]),)),
        (lambda x: {"a": np.ones((2, 3)) * x["k"], "b": (x["k"], 2)}, ({"k": 0.5},)),
    ]
    for function, arguments in cases:
        f = fg.jit(function, backend="native")
        refusing = Refusing(f)
        expected = f._call(*arguments)
        assert is_builtin(f)
        refusing.count = 0
        for _ in range(3):
            assert whole(f(*arguments)) == whole(expected)
        assert refusing.count == 0
        assert whole(fg.jit(function, backend="python")(*arguments)) == whole(expected)


@needs_builtins
def test_a_tiny_function_that_is_called_often_gets_machine_code(monkeypatch):
    monkeypatch.setattr(dispatch, "OFTEN", 10)
    f = fg.jit(lambda x: x.tanh() * x)
    results = [f(0.7) for _ in range(30)]
    assert len(set(map(bits, results))) == 1
    assert f.kernels[0].backend == "native"
    assert isinstance(f.__call__, types.BuiltinFunctionType)


def test_a_thousand_numbers_are_loops():
    x = np.random.default_rng(3).normal(size=1000)
    for backend in BACKENDS:
        f = fg.jit(lambda x: x * 2.0 + fg.sum(x), backend=backend)
        total = x[0]
        for number in x[1:]:
            total += number
        assert_same(f(x).tolist(), (x * 2.0 + total).tolist())
    assert f.kernel_for(x).arrays.stats.scalars < 5


def test_threads(hurried):
    f = fg.jit(lambda x, n: [x * k for k in range(n)], static_argnames="n")

    def work(seed):
        return [f(0.5 + seed, n) for n in (2, 3, 4) for _ in range(20)]

    for seed, results in enumerate(in_threads(work)):
        assert results == [[(0.5 + seed) * k for k in range(n)] for n in (2, 3, 4) for _ in range(20)]
    assert len(f.kernels) == 3


def test_a_saved_module(tmp_path):
    w = Value(0.5, label="w")
    kernel = fg.jit(lambda x: (w * x[0]).tanh() + x[1]).kernel_for([1.0, 2.0])
    names: dict = {}
    exec(kernel.save(tmp_path / "f.py").read_text(), names)
    assert names["forward"]([1.0, 2.0], names["LEAVES"]) == math.tanh(0.5) + 2.0
    assert "double" in kernel.save(tmp_path / "f.c").read_text()
