"""Objects of dataclasses as arguments, results, gradients, states of `scan` and rows of `vmap`; results of size one."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.calls.exact import copied


@dataclasses.dataclass
class Spring:
    stiffness: Any
    rest: Any = 1.0
    name: str = "a"

    @property
    def double(self):
        return 2 * self.stiffness

    @functools.cached_property
    def square(self):
        return self.stiffness * self.stiffness


@dataclasses.dataclass(frozen=True, slots=True)
class Chain:
    weights: Any
    spring: Spring
    squash: Any = None

    def __post_init__(self):
        assert np.all(np.asarray(self.weights, dtype=float) > 0), "weights must be positive"


@dataclasses.dataclass(kw_only=True)
class Named:
    a: float
    b: dataclasses.InitVar[float] = 2.0
    total: float = dataclasses.field(init=False)

    def __post_init__(self, b):
        self.total = self.a * b


class Pair(NamedTuple):
    spring: Spring
    scale: float


def energy(spring, x):
    return 0.5 * spring.stiffness * (x - spring.rest) ** 2


BACKENDS = ["python", "numpy", "native"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_is_an_object_of_the_same_class(backend):
    f = fg.value_and_grad(energy, backend=backend)
    for x in (3.0, 3.0, 5.0):
        value, gradient = f(Spring(2.0, 1.0), x)
        assert value == (x - 1.0) ** 2
        assert gradient == Spring(0.5 * (x - 1.0) ** 2, -2.0 * (x - 1.0), None)
    assert len(f.kernels) == 1
    assert f._recent[0].binder((Spring(2.0, 1.0), 3.0)) == f(Spring(2.0, 1.0), 3.0)
    assert f(Spring(2, np.float32(1.0)), 3.0)[0] == 4.0
    assert len(f.kernels) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_frozen_nested_and_slotted_ones_without_their_checks(backend):
    def f(chain, x):
        return chain.squash(chain.weights @ x) * chain.spring.double / chain.spring.square

    chain, x = Chain(np.array([1.0, 2.0]), Spring(4.0), fg.tanh), np.array([0.5, -0.125])
    g = fg.grad(f, backend=backend)
    w, k = fg.grad(lambda w, k: fg.tanh(w @ x) * (2 * k) / (k * k), (0, 1))(chain.weights, 4.0)
    for _ in range(3):
        result = g(chain, x)
        assert type(result) is Chain
        assert result.weights.tolist() == w.tolist()
        assert result.weights[1] < 0  # which the class would refuse
        assert result.spring == Spring(k, 0.0, None)
        assert result.squash is None
    assert len(g.kernels) == 1
    assert g(Chain(np.array([1.0, 2.0]), Spring(4.0), fg.exp), x).weights.tolist() != w.tolist()
    assert len(g.kernels) == 2  # the function is a part of what a kernel depends on


def test_a_field_that_was_computed_from_others_is_a_number_of_its_own():
    item = Named(a=3.0)
    assert item.total == 6.0
    value, gradient = fg.value_and_grad(lambda p: p.a * p.total)(item)
    assert value == 18.0
    assert (gradient.a, gradient.total) == (6.0, 3.0)
    item.total = 10.0
    assert fg.jit(lambda p: p.a * p.total)(item) == 30.0


def test_attributes_that_are_no_fields():
    spring = Spring(3.0)
    assert spring.square == 9.0  # and the object keeps it
    f = fg.grad(lambda p: p.square)
    for _ in range(3):
        assert f(spring) == Spring(6.0, 0.0, None)
    spring.unit = "N/m"
    g = fg.jit(lambda p: p.stiffness * (1.0 if p.unit == "N/m" else 1000.0))
    assert g(spring) == 3.0
    spring.unit = "kN/m"
    assert g(spring) == 3000.0
    spring.mass = 2.0
    with pytest.raises(
        fg.InputError, match=r"argument p\.mass: Spring has no field mass, and it holds numbers; declare"
    ):
        g(spring)


def test_named_tuples_lists_and_dicts_with_dataclasses_in_them():
    f = fg.grad(lambda p: p["all"][1].spring.stiffness * p["all"][0].rest * p["all"][1].scale)
    item = {"all": [Spring(2.0, 3.0), Pair(Spring(5.0), 7.0)]}
    for _ in range(2):
        assert f(item) == {"all": [Spring(0.0, 35.0, None), Pair(Spring(21.0, 0.0, None), 15.0)]}


def test_what_is_no_number_is_compared_by_value():
    g = fg.jit(lambda p: p.stiffness * (2.0 if p.name == "a" else 3.0))
    names = ("a", "b", None, ("b", 1), frozenset("a"), {"a": [1]}, [1], ["b"], fg.exp)
    for kernels, name in enumerate(names, 1):
        for each in (name, copied(name)):
            assert g(Spring(1.0, 1.0, each)) == (2.0 if name == "a" else 3.0)
            assert len(g.kernels) == kernels

    class Unhashable:
        __hash__ = None

    with pytest.raises(fg.InputError, match=r"argument p\.name: expected a number, or something .* got Unhashable"):
        g(Spring(1.0, 1.0, Unhashable()))
    with pytest.raises(fg.InputError, match=r"argument p\.rest\[1\]\['w'\]: expected a number, got Unhashable"):
        g(Spring(1.0, [1.0, {"w": Unhashable()}]))
    with pytest.raises(fg.InputError, match=r"argument p\.rest of f is True, and truth values have no gradient"):
        fg.grad(lambda p: p.stiffness)(Spring(1.0, True))
    with pytest.raises(fg.InputError, match=r"Spring of .*, which holds no numbers"):
        fg.grad(lambda p: 1.0)(Spring("a", "b"))
    endless = Spring(1.0)
    endless.rest = endless
    with pytest.raises(fg.InputError, match="nested too deeply, or contains itself"):
        g(endless)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results(backend):
    def g(p, x):
        return [Spring(p.stiffness * x, {"x": x}, "new"), p]

    for _ in range(3):
        made, argument = fg.jit(g, backend=backend)(Spring(2.0, 3.0), 5.0)
        assert made == Spring(10.0, {"x": 5.0}, "new")
        assert argument == Spring(2.0, 3.0)
    values = fg.compile(g, backend=backend)
    w = Value(2.0)
    for _ in range(3):
        made, argument = values(Spring(w, 3.0), 5.0)
        assert (made.stiffness.data, made.rest["x"].data, made.name) == (10.0, 5.0, "new")
        assert argument.stiffness is not None
    made.stiffness.backward()
    assert w.grad == 5.0
    (value, aux), gradient = fg.value_and_grad(lambda p: (p.rest * p.stiffness, Spring(p.rest, 0.5)), has_aux=True)(
        Spring(2.0, 3.0)
    )
    assert (value, aux, gradient) == (6.0, Spring(3.0, 0.5), Spring(3.0, 2.0, None))


def test_what_a_function_writes_into_its_argument():
    def f(p):
        p.stiffness = p.stiffness * 2
        return p.stiffness

    spring = Spring(3.0)
    with pytest.raises(fg.TraceError, match="f changes its argument p, and the change would be lost"):
        fg.grad(f)(spring)
    with pytest.raises(fg.TraceError, match=r"changes its argument q\[0\]\.rest, and"):
        fg.jit(lambda q: q[0].rest.append(1.0) or q[0].stiffness)([Spring(3.0, [1.0])])
    g = fg.compile(f)
    for k in (2, 4, 8):
        assert g(spring).data == 3.0 * k
        assert spring.stiffness.data == 3.0 * k
        spring.stiffness = spring.stiffness.data
    shared = Spring(1.0)
    with pytest.raises(fg.InputError, match="changes its argument p, which is the same object as q"):
        fg.compile(lambda p, q: f(p) + q.stiffness)(shared, shared)


def test_lists_of_any_length_in_dataclasses():
    f = fg.grad(lambda p: sum(a * a * p.rest for a in p.stiffness), dynamic=True)
    for n in range(1, 6):
        a = [float(k) for k in range(n)]
        assert f(Spring(a, 2.0)) == Spring([4.0 * each for each in a], sum(each * each for each in a), None)
    assert (len(f.open_kernels), len(f.kernels)) == (1, 0)


def test_functions_within_functions():
    inner = fg.grad(energy)

    def f(p):
        slope = inner(p, 3.0)
        return slope.stiffness * p.stiffness + slope.rest

    assert fg.jit(f)(Spring(2.0, 1.0)) == 2.0 * 2.0 - 4.0
    # d/dk of k (x-r)^2 / 2 - k (x-r), and d/dr
    assert fg.grad(f)(Spring(2.0, 1.0)) == Spring(2.0 - 2.0, -4.0 + 2.0, None)


def test_methods_of_dataclasses_capture_their_object():
    @dataclasses.dataclass
    class Well:
        depth: float

        @fg.grad
        def energy(self, x):
            return self.depth * x * x

    well = Well(2.0)
    assert well.energy(3.0) == 12.0
    assert Well.energy(well, 3.0) == 12.0
    well.depth = 5.0
    assert well.energy(3.0) == 30.0
    assert Well.energy(well, 3.0) == 30.0


def test_a_method_of_the_class_may_be_replaced(monkeypatch):
    f = fg.jit(lambda p: p.double)
    assert f(Spring(3.0)) == 6.0
    monkeypatch.setattr(Spring, "double", property(lambda self: self.stiffness * 10))
    assert f(Spring(3.0)) == 30.0


def test_classes_that_are_made_as_attrs_does_it():
    class Field(NamedTuple):
        name: str

    class Point:
        __slots__ = ("x", "y")
        __attrs_attrs__ = (Field("x"), Field("y"))

        def __init__(self, x, y):
            self.x, self.y = x, y

    result = fg.grad(lambda p: p.x * p.y)(Point(2.0, 3.0))
    assert (type(result), result.x, result.y) == (Point, 3.0, 2.0)


def test_classes_that_are_more_than_their_fields_are_none():
    @dataclasses.dataclass
    class FailureError(Exception):
        code: float

    with pytest.raises(fg.InputError, match="expected a number, got FailureError"):
        fg.grad(lambda p: p.code)(FailureError(1.0))


# --- rows and rounds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_dataclasses(backend):
    springs = Spring(np.array([2.0, 3.0, 4.0]), np.array([0.0, 1.0, 0.5]), None)
    x = np.array([1.0, 2.0, 3.0])
    want = [
        energy(Spring(*each), at) for each, at in zip(zip(springs.stiffness, springs.rest, strict=True), x, strict=True)
    ]
    assert fg.vmap(energy, backend=backend)(springs, x).tolist() == want
    one = Spring(springs.stiffness, 1.0, "same")
    for axes in (Spring(0, None, None), Spring(-1, None, None)):
        assert fg.vmap(energy, in_axes=(axes, None), backend=backend)(one, 3.0).tolist() == [4.0, 6.0, 8.0]
    gradients = fg.vmap(fg.grad(energy), backend=backend)(springs, x)
    assert gradients.stiffness.tolist() == [0.5 * (a - b) ** 2 for a, b in zip(x, springs.rest, strict=True)]
    assert gradients.name is None
    doubled = fg.vmap(lambda p: Spring(p.stiffness * 2, [p.rest, p.rest * p.rest], None), backend=backend)(springs)
    assert doubled.stiffness.tolist() == [4.0, 6.0, 8.0]
    assert doubled.rest.tolist() == [[0.0, 0.0], [1.0, 1.0], [0.5, 0.25]]


def test_rows_of_dataclasses_that_branch():
    f = fg.vmap(lambda p: Spring(fg.sqrt(p.rest) if p.rest > 0 else p.stiffness, p.rest, None))
    result = f(Spring(np.array([2.0, 3.0, 4.0]), np.array([4.0, -1.0, 9.0]), None))
    assert result.stiffness.tolist() == [2.0, 3.0, 3.0]


def test_errors_of_rows_name_the_field():
    with pytest.raises(fg.InputError, match=r"the argument spring\.rest is a number, which has no rows"):
        fg.vmap(energy)(Spring(np.ones(3)), np.ones(3))
    with pytest.raises(
        fg.InputError, match=r"the argument spring\.stiffness of energy has 3 rows, and spring\.rest has 2"
    ):
        fg.vmap(energy)(Spring(np.ones(3), np.ones(2), None), np.ones(3))
    with pytest.raises(fg.InputError, match=r"in_axes: .* does not fit the argument spring, a Spring with the fields"):
        fg.vmap(energy, in_axes=({"stiffness": 0, "rest": 0, "name": None}, 0))(Spring(np.ones(3)), np.ones(3))


def test_states_of_scan():
    def step(state, force):
        v = state.v + force - state.x * 0.1
        return State(state.x + v * 0.1, v), state.x

    @dataclasses.dataclass(frozen=True)
    class State:
        x: Any
        v: Any

    def final(start, scale, scan):
        end, path = scan(step, start, np.array([1.0, 0.5, -2.0, 0.25]) * scale)
        return end.x * 2 + end.v + sum(path)

    def loop(step, state, rows):
        path = []
        for row in rows:
            state, x = step(state, row)
            path.append(x)
        return state, path

    start = State(0.5, 1.0)
    rolled, plain = (fg.value_and_grad(functools.partial(final, scan=scan), (0, 1)) for scan in (fg.scan, loop))
    assert rolled(start, 0.7) == plain(start, 0.7)
    end, path = fg.scan(step, start, np.array([1.0, 0.5]))
    assert (type(end), path.tolist()) == (State, loop(step, start, [1.0, 0.5])[1])
    with pytest.raises(fg.InputError, match=r"the carry\.v is a number in init, and a list"):
        fg.scan(lambda state, x: (State(state.x, [x]), x), start, np.ones(3))
    rows = State(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert fg.scan(lambda total, row: (total + row.x * row.v, None), 0.0, rows)[0] == 11.0


# --- static arguments -------------------------------------------------------------------------------------------------


STATIC = {
    "list": ([0, 2], [0, 1]),
    "array": (np.array([0, 2]), np.array([0, 1])),
    "float array": (np.array([0.0, 2.0]), np.array([-0.0, 2.0])),
    "dtype": (np.array([0, 2]), np.array([0, 2], dtype=np.int32)),
    "shape": (np.array([[0, 2]]), np.array([[0], [2]])),
    "array of objects": (np.array([[1, None]], dtype=object), np.array([[True, None]], dtype=object)),
    "dict": ({"a": [1.0]}, {"a": [1]}),
    "order of keys": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "set": ({1, 2}, {1, 3}),
    "bytes": (bytearray(b"a"), bytearray(b"b")),
    "dataclass": (Spring(2.0, [1]), Spring(2.0, [2])),
    "tuple of lists": ((1, [2]), (1, [3])),
    "in a frozen one": (Chain((1.0,), Spring(1.0)), Chain((1.0,), Spring(2.0))),
}


@pytest.mark.parametrize(("first", "second"), STATIC.values(), ids=STATIC)
def test_static_arguments_by_content(first, second):
    seen = []
    g = fg.jit(lambda x, choice: seen.append(choice) or x, static_argnames="choice")
    for item, kernels in ((first, 1), (second, 2), (copied(first), 2), (copied(second), 2), (first, 2)):
        assert g(1.0, item) == 1.0
        assert len(g.kernels) == kernels
    assert [*map(repr, seen)] == [repr(first), repr(second)]
    assert (seen[0] is first) is (copied(first) is first)


def test_static_arguments_that_change():
    idx, table = [0, 2], {"w": np.array([1.0, 2.0])}
    f = fg.grad(lambda w, idx: sum(w[i] ** 2 for i in idx), static_argnames="idx")
    w = np.array([1.0, 2.0, 3.0])
    for _ in range(3):
        assert f(w, idx).tolist() == [2.0, 0.0, 6.0]
    idx[1] = 1
    assert f(w, idx).tolist() == [2.0, 4.0, 0.0]
    assert f(w, [0, 2]).tolist() == [2.0, 0.0, 6.0]
    g = fg.jit(lambda x, table: x * table["w"].sum(), static_argnames="table")
    assert g(2.0, table) == 6.0
    table["w"][0] = 5.0
    assert g(2.0, table) == 14.0
    assert g(2.0, table=table) == 14.0


def test_static_arguments_that_the_function_changes():
    def f(x, idx):
        idx.append(1)
        return x

    for transform in (fg.compile, fg.jit, fg.grad):
        with pytest.raises(fg.TraceError, match="f changes its argument idx, and the change would be lost"):
            transform(f, static_argnames="idx")(1.0, [0])


# --- results of size one ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_results_of_size_one_are_numbers(shape, backend):
    f = fg.value_and_grad(lambda x: ((x - 1.0) ** 2).reshape(shape), backend=backend)
    value, gradient = f(np.array([3.0]))
    assert (type(value), value, gradient.tolist()) == (float, 4.0, [4.0])
    value, gradient = fg.value_and_grad(lambda x: (x.T @ x).reshape(shape), backend=backend)(np.array([[1.0], [2.0]]))
    assert (value, gradient.tolist()) == (5.0, [[2.0], [4.0]])
    assert fg.grad(lambda x: np.full(shape, 2.0))(1.0) == 0.0
    (value, aux), _ = fg.value_and_grad(lambda x: ((x * x).reshape(shape), x), has_aux=True)(np.array([3.0]))
    assert (value, aux.tolist()) == (9.0, [3.0])
    with pytest.raises(fg.InputError, match="must return one number to differentiate, and returned"):
        fg.grad(lambda x: x * 2)(np.ones(2))


def test_scipy_minimises_functions_of_arrays_of_size_one():
    optimize = pytest.importorskip("scipy.optimize")
    result = optimize.minimize(fg.value_and_grad(lambda x: (x - 1.0) ** 2), 3.0, jac=True)
    assert abs(result.x - 1.0).max() < 1e-6
    result = optimize.minimize(fg.value_and_grad(lambda x: (x - 1.0) @ (x - 1.0)), [3.0, 2.0], jac=True)
    assert abs(result.x - 1.0).max() < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_without_dimensions_and_numpy_scalars(backend):
    f = fg.value_and_grad(lambda x: x * x * 2.0, backend=backend)
    for x in (np.float64(3.0), np.float32(3.0), np.int64(3), np.int8(3), np.float16(3.0), np.asarray(3.0), 3):
        value, gradient = f(x)
        assert (value, gradient) == (18.0, 12.0)
    assert np.shape(f(np.asarray(3.0))[1]) == ()
    assert fg.jit(lambda x: np.asarray(x * 2))(3.0) == 6.0
