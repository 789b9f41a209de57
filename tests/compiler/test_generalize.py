"""Array programs whose extents are bound later: one from a few, and the same as each of all."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler.loops.extents import Bound, OpenTable, Polynomial, Samples, bound, fixed
from flatgrad.compiler.loops.formulas import formula, row_formula
from flatgrad.compiler.loops.generalize import generalize
from flatgrad.compiler.loops.reroll import reroll
from flatgrad.compiler.loops.rounds import find_rounds
from flatgrad.compiler.machine import native
from flatgrad.compiler.machine.native import available
from flatgrad.compiler.machine.open_code import OpenFunction
from flatgrad.runtime.errors import ProgramError
from tests.bits import assert_same


def batch_loss():
    model = nn.MLP(3, [5, 4, 1], activation="tanh", seed=1)

    def loss(X, y):
        return sum((model(x) - t) ** 2 for x, t in zip(X, y, strict=True)) / len(y)

    gradient = fg.value_and_grad(loss, wrt=model, backend="numpy")
    return lambda rows: gradient.kernel_for(np.zeros((rows, 3)), np.zeros(rows))


def arrays_of(kernel):
    """The array program of a kernel, re-rolled as it is for small sizes."""
    return find_rounds(reroll(kernel.stages.cleaned, terms=4))


def opened(kernel_at, sizes=(5, 6, 7), name="n"):
    return generalize([arrays_of(kernel_at(n)) for n in sizes], [(n,) for n in sizes], [name])


def test_a_batch_of_any_size():
    kernel_at = batch_loss()
    program = opened(kernel_at)
    assert program is not None
    for rows in (2, 5, 20, 31, 64):
        kernel = kernel_at(rows)
        numbers = np.random.default_rng(rows).normal(size=kernel.program.inputs).tolist()
        assert_same(program.bind(rows).check().evaluate(numbers), kernel.program.evaluate(numbers))


def test_it_prints_with_the_extent():
    text = str(opened(batch_loss(), name="rows"))
    assert text.splitlines()[0] == "array program loss(X[3*rows], y[rows], leaves[49]) for every rows:"
    assert "[i:rows, j:5] = tanh(leaves[4*j + 3] + sum[r:3](X[3*i + r] * leaves[4*j + r]))" in text
    assert "1.0 / rows" in text


def function_of(function, shape=()):
    """Kernels of a function of an array with n rows."""
    gradient = fg.value_and_grad(function, backend="numpy")
    return lambda n: gradient.kernel_for(np.full((n, *shape), 0.5))


def variance(x):
    mean = sum(x) / len(x)
    return sum((t - mean) ** 2 for t in x) / (len(x) - 1)


def softmax_rows(x):
    return sum(fg.log(fg.softmax(list(row))[0]) for row in x) / len(x)


def positions(x):
    return sum((t - k / len(x)) * t for k, t in enumerate(x))


def logarithms(x):
    return sum(fg.exp(t) * (math.log(k + 1.0) + math.sqrt(len(x))) for k, t in enumerate(x))


FUNCTIONS = {
    "variance": (variance, ()),
    "softmax of rows": (softmax_rows, (3,)),
    "reversed": (lambda x: sum(a * b for a, b in zip(x, x[::-1], strict=True)), ()),
    "layer norm": (lambda x: sum(variance(row) for row in x), (4,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_rows(name):
    function, shape = FUNCTIONS[name]
    kernel_at = function_of(function, shape)
    program = opened(kernel_at)
    assert program is not None
    code = OpenFunction.of(program, fast=False) if available() else None
    for rows in (2, 3, 4, 8, 13, 33, 70):
        kernel = kernel_at(rows)
        numbers = np.random.default_rng(rows).uniform(0.1, 2.0, size=kernel.program.inputs).tolist()
        expected = kernel.program.evaluate(numbers)
        assert_same(program.bind(rows).check().evaluate(numbers), expected)
        if code is not None:
            function_at = code.bind(rows)
            memory, run = function_at.workspace()
            memory[: len(numbers)] = numbers
            assert run() == 0
            outputs = function_at.layout.outputs
            assert_same([n for at, size in outputs for n in memory[at : at + size].tolist()], expected)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: sum(t.exp() for t in x),
        lambda x: sum(t.sin() for t in x) * 2.0,
        lambda x: sum(t.sin() for t in x[::-1]) + x[0],
    ],
    ids=["another primitive", "another constant", "another shape"],
)
def test_programs_that_differ_in_more_than_sizes(other):
    first, second = function_of(lambda x: sum(t.sin() for t in x)), function_of(other)
    programs = [arrays_of(first(20)), arrays_of(first(22)), arrays_of(second(24))]
    assert generalize(programs, [(20,), (22,), (24,)]) is None


def test_two_samples_prove_nothing():
    kernel_at = batch_loss()
    assert generalize([arrays_of(kernel_at(n)) for n in (5, 6)], [(5,), (6,)]) is None


def pairs_of(rows, columns):
    """The hyperbolic tangents of products of all pairs in each row."""

    def function(X):
        return [fg.detach(fg.tanh(row[i] * row[j])) for row in X for i in range(columns) for j in range(i + 1)]

    X = np.full((rows, columns), 0.5)
    return fg.compile(function, backend="numpy", dynamic=False).kernel_for(X).stages.vectors[0]


@pytest.mark.parametrize(("at", "text"), [(lambda n: (n, 6), "i:n, j:6, k:j + 1"), (lambda n: (3, n), "i:3, j:n")])
def test_triangles_in_every_row(at, text):
    """In rows of any number, and in rows of any length: their places are quadratic in it."""
    sizes = (5, 6, 7, 8)
    program = generalize([pairs_of(*at(n)) for n in sizes], [(n,) for n in sizes])
    assert program is not None
    assert f"v1[{text}" in str(program)
    for n in (4, 12):
        numbers = np.random.default_rng(n).normal(size=at(n)[0] * at(n)[1]).tolist()
        assert_same(program.bind(n).check().evaluate(numbers), pairs_of(*at(n)).evaluate(numbers))


def test_sizes():
    assert (bound(Polynomial((3, 2)), [10]), bound(7, [10])) == (23, 7)
    assert Samples([(2,), (4,), (6,)]).size(1, 2, 4) is None
    assert Samples([(4,), (5,), (6,), (8,)]).size(6, 10, 15, 28) == Polynomial((0, 0, 1))
    assert type(3 * Bound(2) - 1) is Bound
    with pytest.raises(ProgramError, match="not bound"):
        fixed(Polynomial((0, 1)))


def test_sizes_of_two_extents():
    points = [(4, 5), (5, 4), (4, 6), (6, 5), (7, 4), (7, 6), (5, 7)]
    samples = Samples(points)
    assert samples.size(*(n * m + 3 * m - 2 for n, m in points)) == Polynomial((-2, 0, 3, 0, 1))


@pytest.mark.parametrize(
    "compute",
    [
        lambda n: 1 / n, lambda n: 2.5 / (n - 1), math.sqrt, lambda n: 1e-4 * (1.0 / n),
        lambda n: -0.5 * math.log(n), lambda n: float(n * n), lambda n: n ** -0.5, lambda n: 3.0 - n,
    ],
    ids=["1/n", "2.5/(n-1)", "sqrt", "weight", "log", "square", "power", "difference"],
)  # fmt: skip
def test_formulas_of_numbers(compute):
    samples = Samples([(4,), (5,), (7,)])
    found = formula([float(compute(n)) for n in (4, 5, 7)], samples)
    assert found is not None
    assert [found.at([n]) for n in (3, 10, 97)] == [[float(compute(n))] for n in (3, 10, 97)]


def test_rows_that_repeat_numbers():
    samples = Samples([(4,), (5,), (7,)])
    row = lambda n: [5.0, *(0.5, -0.0, 0.0) * (n - 1), 0.25, 9.0]  # noqa: E731
    found = row_formula([row(n) for n in (4, 5, 7)], samples)
    for n in (3, 4, 100):
        assert_same(found.at([n]), row(n))
    for other in ([5.0, *(0.5, -0.0, 0.0) * 6, 0.25, 8.0], [5.0, *(0.5, -0.0, 0.0) * 5, 0.5, 0.0, 0.0, 0.25, 9.0]):
        assert row_formula([row(4), row(5), other], samples) is None


def test_formulas_of_rows():
    samples = Samples([(4,), (5,), (7,)])
    for compute in (lambda k, n: float(k), lambda k, n: k / n, lambda k, n: 0.1 * k, lambda k, n: math.sqrt(k)):
        found = row_formula([[compute(k, n) for k in range(n)] for n in (4, 5, 7)], samples)
        assert found is not None
        assert found.at([12]) == [compute(k, 12) for k in range(12)]


def test_open_tables():
    samples = Samples([(4,), (5,), (7,)])
    tables = [np.array([[10 * n + 3 * k + j * j for j in range(2)] for k in range(n)]).ravel() for n in (4, 5, 7)]
    table = OpenTable.through(tables, [(n, 2) for n in (4, 5, 7)], samples)
    assert table is not None
    assert table.at([3]).tolist() == [30, 31, 33, 34, 36, 37]
    assert OpenTable.through([t % 7 for t in tables], [(n, 2) for n in (4, 5, 7)], samples) is None


@pytest.mark.skipif(not available(), reason="needs llvmlite")
def test_rounds_of_many_lanes_write_into_their_own_memory_only(monkeypatch):
    def last_state(w, x):
        state = [x[0]] * 8
        for number in x:
            state = [fg.tanh(sum(a * s for a, s in zip(row, state, strict=True)) + number) for row in w]
        return state

    gradient = fg.jit(last_state, backend="python", dynamic=False)
    program = opened(lambda n: gradient.kernel_for(np.ones((8, 8)), np.ones(n)), (9, 11, 13))
    assert program is not None
    allocate, behind = native._aligned, []

    def with_room(count):
        memory = allocate(count + 4096)
        memory[count:] = -1.0
        behind.append(memory[count:])
        return memory[:count]

    monkeypatch.setattr(native, "_aligned", with_room)
    kernel, function = gradient.kernel_for(np.ones((8, 8)), np.ones(20)), OpenFunction.of(program, fast=False).bind(20)
    numbers = np.random.default_rng(1).normal(size=84).tolist()
    memory, run = function.workspace()
    memory[: len(numbers)] = numbers
    assert run() == 0
    place, size = function.layout.outputs[0]
    assert_same(memory[place : place + size].tolist(), kernel.program.evaluate(numbers))
    assert (behind[0] == -1.0).all()


@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_irregular_rows_are_refused_in_a_few_steps(monkeypatch, factor):
    """Each difference of two numbers may be a factor of all; tables are looked for only where it is one."""
    tried, through = [], OpenTable.through
    monkeypatch.setattr(OpenTable, "through", lambda *args: tried.append(args) or through(*args))
    samples = Samples([(40,), (41,), (43,)])
    irregular = [float(n) for n in np.random.default_rng(0).permutation(1000)[:43]]
    rows = [[factor * number / (n + 1) for number in irregular[:n]] for (n,) in samples.sizes]
    assert row_formula(rows, samples) is None
    assert len(tried) < 10
