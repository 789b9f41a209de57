"""Loops whose lengths grow from lane to lane, as the rows of triangles do: Cholesky, causal attention, covariances."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from benchmarks.gradbench import gmm
from flatgrad.compiler.languages.costs import numpy_cost
from flatgrad.compiler.loops.array_program import ArrayProgram
from flatgrad.compiler.loops.extents import Ragged
from flatgrad.compiler.loops.grammar import Apply, Fold, Read, Repeat, Segment, Statement, addresses
from flatgrad.compiler.loops.grammar import flattened as flattened_statement
from flatgrad.compiler.loops.reroll.affine import Steps, steps_of, straightened
from flatgrad.compiler.machine import llvm
from flatgrad.compiler.machine.llvm import emit_llvm
from flatgrad.compiler.machine.operations import Machine
from flatgrad.compiler.machine.ragged import by_length
from flatgrad.compiler.program.program import Group
from flatgrad.runtime import primitives as p
from flatgrad.runtime.errors import ProgramError
from tests.bits import all_bits
from tests.compiler import array_workloads as work
from tests.compiler.test_c import CC
from tests.every_way import CFile, assert_every_way_agrees, flattened
from tests.examples import examples, slow
from tests.native_programs import MACHINES, MachineCode
from tests.test_programs import drawn

TRIANGLE = (4, Ragged.over(4, 1, 1, 0))
NUMBERS = (-1.5, 2.0, -0.0, 0.5, 3.0, -4.0, 1e-300, 0.0, 0.25, -7.5)


def folded(primitive, terms):
    """The terms from left to right, without a number in front."""
    result, *others = terms
    for term in others:
        result = primitive(result, term)
    return result


def every_way(f, *arguments, backends=("numpy", "native"), c=None):
    """Compile, compare every way of running with the evaluator and flat Python; return the array program."""
    argnums = range(len(arguments))
    flat = fg.value_and_grad(f, argnums=argnums, backend="python")
    for backend in backends:
        compiled = fg.value_and_grad(f, argnums=argnums, backend=backend)
        kernel = compiled.kernel_for(*arguments)
        inputs = flattened(arguments)
        assert_every_way_agrees(kernel, kernel.joint, "value_and_grad", inputs, f, c=c)
        assert all_bits(flattened(compiled(*arguments))) == all_bits(flattened(flat(*arguments)))
    return kernel.arrays.check()


def numbers(count, seed=0):
    return np.random.default_rng(seed).standard_normal(count).tolist()


def rows(count, width=3):
    return [[0.1 * (r + c) for c in range(width)] for r in range(count)]


def is_ragged(arrays):
    """Whether there is a fold of ragged terms."""
    extents = [extent for s in arrays.statements if isinstance(s, Statement) for _, e in s.reads() for extent in e]
    return any(isinstance(extent, Ragged) for extent in extents)


def ragged_statements(arrays):
    """The statements whose rows differ in length."""
    return [s for s in arrays.statements if isinstance(s, Statement) and s.is_ragged]


# --- programs ---------------------------------------------------------------------------------------------------------


def place(row, column, size, packing):
    """Where an entry of a triangle is: by rows, or by columns."""
    return (
        row * (row + 1) // 2 + column
        if packing == "rows"
        else column * size - column * (column - 1) // 2 + row - column
    )


def triangular_product(size, batch, packing, backwards, fold, strict):
    """Rows of a triangle times a vector, for several vectors; each goes through a function."""

    def function(triangle, vectors):
        results = []
        for vector in vectors:
            for row in range(strict, size):
                columns = range(row + 1 - strict)
                terms = [triangle[place(row, c, size, packing)] * vector[c] for c in columns]
                results.append(folded(fold, terms[::-1] if backwards else terms))
        return folded(lambda a, b: a + b, [fg.tanh(result) * 0.5 for result in results])

    cells = size * (size + 1) // 2
    picked = [NUMBERS[k % len(NUMBERS)] * (1 + k) for k in range(cells)]
    return function, picked, np.random.default_rng(size).standard_normal((batch, size)).tolist()


@pytest.mark.slow
@given(
    st.integers(2, 9), st.integers(1, 4), st.sampled_from(["rows", "columns"]), st.booleans(),
    st.sampled_from([p.add, p.mul, p.maximum, p.minimum]), st.integers(0, 1),
)  # fmt: skip
@settings(max_examples=examples(25))
def test_triangular_products(size, batch, packing, backwards, primitive, strict):
    fold = {p.add: lambda a, b: a + b, p.mul: lambda a, b: a * b}.get(primitive, getattr(fg, primitive.name))
    every_way(*triangular_product(size, batch, packing, backwards, fold, strict))


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_triangular_products_in_c():
    c = CFile()
    for packing in ("rows", "columns"):
        for backwards in (False, True):
            program = triangular_product(6, 3, packing, backwards, lambda a, b: a + b, 0)
            every_way(*program, backends=["numpy"], c=c)
    assert c.check() == 4


def pairwise(x, y):
    """Energies of pairs: each with those before it."""
    terms = [(x[i] - x[j]) * (y[i] - y[j]) for i in range(len(x)) for j in range(i)]
    return folded(lambda a, b: a + b, [fg.tanh(term) for term in terms])


def cumulative_rows(table):
    """Cumulative sums and products of each row."""
    parts = [row[:k] for row in table for k in range(1, len(row) + 1)]
    results = [folded(lambda a, b: a + b, part) * folded(fg.maximum, part) for part in parts]
    return folded(lambda a, b: a + b, [result * result for result in results])


def cholesky(cells):
    """The sum of the logarithms of the diagonal of a Cholesky factor of a matrix, given by its lower triangle."""
    size = int(math.sqrt(2 * len(cells)))
    factor = {}
    for i in range(size):
        for j in range(i + 1):
            value = cells[i * (i + 1) // 2 + j]
            for k in range(j):
                value = value - factor[i, k] * factor[j, k]
            factor[i, j] = fg.sqrt(value) if i == j else value / factor[j, j]
    return folded(lambda a, b: a + b, [fg.log(factor[i, i]) for i in range(size)])


def quadratic_forms(triangle, points):
    """`|L x|^2` for points `x`, where `L` has the exponential of its diagonal."""
    results = []
    for point in points:
        total = None
        for i in range(len(point)):
            value = fg.exp(triangle[i * (i + 1) // 2 + i]) * point[i]
            for j in range(i):
                value = value + triangle[i * (i + 1) // 2 + j] * point[j]
            total = value * value if total is None else total + value * value
        results.append(total)
    return folded(lambda a, b: a + b, results)


def test_known_programs_with_triangles():
    every_way(pairwise, numbers(7), numbers(7, 1))
    every_way(cumulative_rows, [numbers(6, k) for k in range(3)])
    assert is_ragged(every_way(quadratic_forms, numbers(36), [numbers(8, k) for k in range(5)]))
    assert is_ragged(every_way(work.causal_attention, rows(7), rows(7), rows(7)))
    cells = np.linalg.inv(np.eye(6) + 0.1)[np.tril_indices(6)]
    every_way(cholesky, cells.tolist())


def test_the_signs_of_zeros_are_kept():
    """A ragged sum has no term that is not there: not even one that would change the sign of a zero."""
    for filled in (-0.0, 0.0, math.nan, -math.inf, 5e-324):
        function, triangle, vectors = triangular_product(7, 3, "rows", False, lambda a, b: a + b, 0)
        sign = [[1.0 if k % 2 else -1.0 for k in range(7)] for _ in range(3)]
        every_way(lambda t, v, f=function: fg.atan2(f(t, v), -1.0), [filled] * len(triangle), sign)
        assert vectors


def test_faults_are_those_of_terms_that_exist():
    """What stands in a triangle's place for terms that are missing raises nothing."""

    def function(triangle, vectors):
        sums = [
            folded(lambda a, b: a + b, [triangle[i * (i + 1) // 2 + j] / vector[j] for j in range(i + 1)])
            for vector in vectors
            for i in range(6)
        ]
        return folded(lambda a, b: a + b, sums)

    vectors = [numbers(6, k) for k in range(4)]
    every_way(function, numbers(21), vectors)
    vectors[2][5] = 0.0
    with pytest.raises(ZeroDivisionError):
        fg.value_and_grad(function, backend="native")(numbers(21), vectors)


# --- triangles of lanes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lanes:
    """A random function whose lanes are triangles: one per pair of a row and a column, in one of several orders."""

    rows: int
    first: int
    step: int
    width: int
    triangles: int
    inside: bool  # triangles row by row, not one after the other
    backwards: bool
    packing: str
    steps: tuple[str, ...]

    def arguments(self, seed):
        draw = np.random.default_rng(seed)
        columns = max(self.length(0), self.length(self.rows - 1))
        cells = draw.standard_normal((self.triangles, self.rows * columns))
        cells[:, ::5] = draw.choice(NUMBERS, cells[:, ::5].shape)
        shapes = (self.triangles, self.rows, self.width), (self.triangles, columns, self.width)
        return [*map(np.ndarray.tolist, (*map(draw.standard_normal, shapes), cells))]

    def length(self, row):
        return self.first + self.step * row if self.step > 0 else self.first - self.step * (self.rows - 1 - row)

    def __call__(self, a, b, cells):
        if self.inside:
            pairs = [(t, i) for i in range(self.rows) for t in range(self.triangles)]
        else:
            pairs = [(t, i) for t in range(self.triangles) for i in range(self.rows)]
        results = []
        for t, i in pairs:
            columns = range(self.length(i))
            row = [
                self.lane(a[t][i], b[t][j], cells[t], i, j) for j in (reversed(columns) if self.backwards else columns)
            ]
            if "total" in self.steps:
                total = folded(lambda x, y: x + y, row)
                row = [x * total for x in row]
            results += row
        return folded(lambda x, y: x + y, [x * x for x in results])

    def lane(self, a, b, cells, i, j):
        x = folded(lambda p, q: p + q, [p * q for p, q in zip(a, b, strict=True)])
        if self.packing:
            before = sum(map(self.length, range(i))) + j
            x = x + cells[before if self.packing == "rows" else j * self.rows + i]
        for step in self.steps:
            x = {
                "tanh": fg.tanh,
                "where": lambda x: fg.where(x > a[0], x * b[0], x - a[0]),
                "diagonal": lambda x: x * cells[i * (i + 1) // 2 % len(cells)],
                "numbers": lambda x: x * (0.5 * i - 0.25 * j),
                "number": lambda x: x * 0.5,
                "log": lambda x: fg.log(x * x + 0.5),
                "total": lambda x: x,
            }[step](x)
        return x


STEPS = ("tanh", "where", "diagonal", "numbers", "number", "log", "total")
random_lanes = st.builds(
    Lanes, st.integers(2, 12), st.integers(1, 3), st.sampled_from([-1, 1, 1, 2]), st.integers(1, 3), st.integers(1, 3),
    st.booleans(), st.booleans(), st.sampled_from(["", "rows", "columns"]),
    st.lists(st.sampled_from(STEPS), max_size=3).map(tuple),
)  # fmt: skip


@pytest.mark.slow
@given(random_lanes, st.integers(0, 99))
@settings(max_examples=examples(25))
def test_triangles_of_lanes(function, seed):
    every_way(function, *function.arguments(seed))


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_triangles_of_lanes_in_c():
    c = CFile()
    for function in drawn(random_lanes, 8):
        every_way(function, *function.arguments(1), backends=["numpy"], c=c)
    assert c.check() == 8


def energy(x, y):
    """The sum of a function of all pairs."""
    terms = [fg.tanh((x[i] - x[j]) * (y[i] - y[j])) for i in range(len(x)) for j in range(i)]
    return folded(lambda a, b: a + b, terms)


@pytest.mark.parametrize("size", [7, 12])
def test_terms_of_one_sum_that_are_a_triangle(size):
    every_way(lambda x, y: energy(x, y) * energy(y, x), numbers(size), numbers(size, 1))
    kernel = fg.jit(energy, backend="numpy").kernel_for(numbers(size), numbers(size, 1))
    assert kernel.stages.vectors[0].stats.strided == 1.0
    assert f"sum[r:{size - 1}, s:r + 1](tanh((x[r + 1] - x[s]) *" in str(kernel.stages.vectors[0])
    for backend in ("numpy", "native"):
        assert all_bits([fg.jit(energy, backend=backend)(numbers(size), numbers(size, 1))]) == all_bits(
            [fg.jit(energy, backend="python")(numbers(size), numbers(size, 1))]
        )


def test_products_of_a_triangle_are_one_sum_per_lane():
    """Terms are triangles in rows of lanes; what does not fit among them is read through a table."""

    def forms(triangle, points, order):
        places = {(i, j): k for k, (i, j) in enumerate((i, j) for i in range(6) for j in range(i + 1))}
        return [
            folded(
                lambda a, b: a + b, [(x[i] - x[j]) * (triangle[k] - order[k * k % 21]) for (i, j), k in places.items()]
            )
            for x in points
        ]

    arguments = numbers(21), [numbers(6, k) for k in range(10)], numbers(21, 99)
    every_way(lambda t, x, o: folded(lambda a, b: a * b, forms(t, x, o)), *arguments)
    arrays = fg.jit(forms, backend="numpy").kernel_for(*arguments).stages.vectors[0]
    assert "sum[r:6, s:r + 1](" in str(arrays)


@pytest.mark.slow
def test_most_random_triangles_are_found():
    sample = drawn(random_lanes.filter(lambda lanes: lanes.rows > 3), 60)
    arrays = [share(function, *function.arguments(1)) for function in sample]
    ragged = [statement for each in arrays for statement in ragged_statements(each)]
    assert sum(map(bool, map(ragged_statements, arrays))) > 40
    assert {len(statement.shape) for statement in ragged} >= {2, 3}
    assert {np.sign(n.step) for s in ragged for n in s.shape if isinstance(n, Ragged)} == {-1, 1}
    assert any(statement.kind == "b" for statement in ragged)


def test_a_fault_in_one_lane_of_a_triangle():
    """It is that of the interpreter, wherever the lane is; no lane that is not there raises."""

    def function(x, y):
        return folded(lambda a, b: a + b, [fg.log(x[i] - y[j]) for i in range(9) for j in range(i + 1)])

    y = [0.1 * k for k in range(9)]
    every_way(function, [2.0 + 0.5 * k for k in range(9)], y)
    every_way(function, [0.05 + 0.1 * k for k in range(9)], y)  # above the diagonal, all would raise
    for row in (0, 3, 8):
        x = [2.0] * 9
        x[row] = y[row]
        with pytest.raises(fg.DomainError, match=r"(?s)log.*test_triangles\.py"):
            fg.value_and_grad(function, argnums=(0, 1), backend="native")(x, y)


# --- what is found ----------------------------------------------------------------------------------------------------


def share(function, *arguments):
    return fg.value_and_grad(function, argnums=range(len(arguments)), backend="numpy").kernel_for(*arguments).arrays


@pytest.mark.parametrize("size", [10, 64])
def test_triangles_are_read_with_strides(size):
    """However many rows there are, nothing in a triangular product is read through a table, nor is its gradient."""
    function, triangle, vectors = triangular_product(size, 2, "rows", False, lambda a, b: a + b, 0)
    forward = fg.compile(function, backend="numpy").kernel_for(triangle, vectors).arrays.check()
    assert (forward.stats.strided, is_ragged(forward)) == (1.0, True)


def test_covariances_are_read_with_strides():
    workload = gmm(10, 3, 12)
    arrays = share(workload.function, *workload.arguments)
    assert arrays.stats.strided > 0.9
    assert "sum[r:k + 1](icf[55*j + k + 8*r + 10 - r*(r - 1)/2] *" in str(arrays)


def outer_products(triangle, vectors):
    """Products of all pairs in vectors, weighted by a triangle: its gradient is a triangle of sums."""
    pairs = [(i, j) for i in range(len(vectors[0])) for j in range(i)]
    terms = [triangle[k] * vector[i] * vector[j] for vector in vectors for k, (i, j) in enumerate(pairs)]
    return folded(lambda a, b: a + b, terms)


@pytest.mark.parametrize("count", slow([4, 100], 100))
def test_triangles_of_sums_are_statements(count):
    arrays = every_way(outer_products, numbers(15), [numbers(6, k) for k in range(count)])
    assert arrays.stats.strided > 0.98
    assert len(ragged_statements(arrays)) == 2


@pytest.mark.parametrize("size", slow([8, 16], 16))
def test_causal_attention_and_pairs_are_read_with_strides(size):
    """Scores of causal attention, their exponentials and adjoints, and terms of pairs, are triangles of lanes."""
    attention = every_way(work.causal_attention, rows(size), rows(size), rows(size))
    assert attention.stats.strided == 1.0
    assert len(ragged_statements(attention)) == 5
    assert f"v1[i:{size}, j:i + 1] = 0.0 + sum[r:3](q[3*i + r] * k[3*j + r])" in str(attention)
    pairs = every_way(pairwise, numbers(size), numbers(size, 1))
    assert pairs.stats.strided == 1.0
    assert ragged_statements(pairs)


def microgpt_attention(queries, keys, heads):
    """Scores of several heads, position by position, as one writes them with a cache of keys."""
    width = len(queries[0]) // heads
    results = []
    for t, query in enumerate(queries):
        for h in range(heads):
            part = range(h * width, (h + 1) * width)
            logits = [folded(lambda a, b: a + b, [query[c] * key[c] for c in part]) * 0.5 for key in keys[: t + 1]]
            results += [fg.tanh(logit) for logit in logits]
    return folded(lambda a, b: a + b, results)


def test_heads_of_attention_are_outside_of_positions():
    """Rows of the same length follow one another: their lanes are laid out head by head."""
    arrays = every_way(lambda q, k: microgpt_attention(q, k, 2), rows(7, 4), rows(7, 4))
    assert "v1[i:2, j:7, k:j + 1] = tanh(0.5 * sum[r:2](q[2*i + 4*j + r] * k[2*i + 4*k + r]))" in str(arrays)


def test_classes_of_one_height_are_not_joined_at_the_cost_of_strides():
    """The diagonals' products and those below them have the same form, and would need tables if put together."""
    workload = gmm(10, 3, 12)
    arrays = share(workload.function, *workload.arguments)
    assert any(
        s.shape == (12, 3) and "v2[j, 0] * " in str(arrays) for s in arrays.statements if isinstance(s, Statement)
    )


def test_steps_of_a_packed_triangle():
    heads = np.array([100 * i + row * (row + 1) // 2 for i in range(3) for row in range(5)])
    assert steps_of(heads, (3, 5), {1}) == Steps((100, 1), (0, 1))
    assert steps_of(heads, (3, 5), {0}) is None
    straight = straightened([heads], [np.tile(np.arange(1, 6), 3)])[0]
    assert straight.tolist() == [100 * i + row for i in range(3) for row in range(5)]


def test_a_tile_copies_what_inner_loops_read_again():
    """Vectors run along the batch, whose numbers lie apart: they are put side by side once, not for each row."""

    def rows_of_products(triangle, vectors):
        return [
            folded(lambda a, b: a + b, [triangle[k * (k + 1) // 2 + j] * vector[j] for j in range(k + 1)])
            for vector in vectors
            for k in range(1, 9)
        ]

    vectors = [numbers(9, k) for k in range(64)]
    arrays = fg.compile(rows_of_products, backend="numpy").kernel_for(numbers(45), vectors).arrays
    assert str(arrays).count("sum[") == 1
    assembly = emit_llvm(arrays, Machine(8, False)).assembly
    assert "load <8 x double>" in assembly
    assert not re.search(r"insertelement <8 x double> .*, i32 1$", assembly, re.MULTILINE)
    every_way(lambda t, v: folded(lambda a, b: a + b, [x.tanh() for x in rows_of_products(t, v)]), numbers(45), vectors)


def test_what_numpy_gathers_counts():
    """NumPy takes the lanes of a triangle as one dimension, and gathers what it does not read one after the other."""
    arrays = share(work.causal_attention, rows(8), rows(8), rows(8))
    statements = [flattened_statement(s) if isinstance(s, Statement) else s for s in arrays.statements]
    assert numpy_cost(arrays) == numpy_cost(replace(arrays, statements=statements))
    assert any(read.table is not None for s in statements if isinstance(s, Statement) for read, _ in s.reads())


# --- the checker ------------------------------------------------------------------------------------------------------


def triangle_program(extent, bends=(1, 0), base=6):
    """Sums of the rows of a packed triangle of three rows."""
    fold = Fold(p.add, (Segment((extent,), (Read(0, (1, 1), None, bends),)),))
    statement = Statement("v1", (3,), (fold,), base, "f")
    names = [f"x{k}" for k in range(6)]
    return ArrayProgram(
        "f", names, [Group("x", 6, False)], [], [], [statement], np.arange(6, 9), [Group("y", 3, False)]
    )


def test_a_checked_triangle():
    program = triangle_program(Ragged.over(3, 1, 1, 0)).check()
    assert program.evaluate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == [1.0, 5.0, 15.0]
    assert "v1[i:3] = sum[r:i + 1](x[i*(i + 1)/2 + r])" in str(program)
    assert addresses(Read(0, (1, 1), None, (1, 0)), (3, Ragged.over(3, 1, 1, 0))).tolist() == [
        0,
        0,
        0,
        1,
        2,
        1,
        3,
        4,
        5,
    ]


@pytest.mark.parametrize(
    ("extent", "bends", "message"),
    [
        (Ragged.over(3, 1, 1, 1), (1, 0), "an index that is not outside"),
        (Ragged.over(3, 1, 0, 0), (1, 0), "below 1"),
        (Ragged.over(2, 1, 1, 0), (1, 0), "not as large"),
        (Ragged.over(3, 1, 1, 0), (2, 0), "before it is written"),
        (Ragged.over(3, 1, 2, 0), (1, 0), "before it is written"),
    ],
)
def test_the_checker_of_ragged_extents(extent, bends, message):
    with pytest.raises(ProgramError, match=message):
        triangle_program(extent, bends).check()


def triangle_of_lanes(shape=TRIANGLE, bends=(1, 0)):
    """The squares of a packed triangle of four rows."""
    statement = Statement("v1", shape, (Read(0, (1, 1), None, bends), Apply(p.mul, (0, 0))), 10, "f")
    names = [f"x{k}" for k in range(10)]
    return ArrayProgram(
        "f", names, [Group("x", 10, False)], [], [], [statement], np.arange(10, 20), [Group("y", 10, False)]
    )


def test_a_checked_triangle_of_lanes():
    program = triangle_of_lanes().check()
    statement = program.statements[0]
    assert program.evaluate(range(10)) == [x * x for x in range(10)]
    assert "v1[i:4, j:i + 1] = x[i*(i + 1)/2 + j] * x[i*(i + 1)/2 + j]" in str(program)
    assert (statement.lanes, program.size, statement.is_ragged) == (10, 20, True)
    assert statement.target == Read(10, (1, 1), None, (1, 0))
    assert flattened_statement(statement).reads().__next__() == (Read(0, (1,)), (10,))


@pytest.mark.parametrize(
    ("shape", "bends", "message"),
    [
        ((4, Ragged.over(4, 1, 1, 1)), (1, 0), "an index that is not outside"),
        ((4, Ragged.over(4, 1, 0, 0)), (1, 0), "below 1"),
        ((4, Ragged.over(3, 1, 1, 0)), (1, 0), "not as large"),
        ((4, Ragged.over(4, 1, 2, 0)), (1, 0), "before it is written"),
        ((4, Ragged.over(4, 1, 1, 0)), (2, 0), "before it is written"),
    ],
)
def test_the_checker_of_triangles_of_lanes(shape, bends, message):
    with pytest.raises(ProgramError, match=message):
        triangle_of_lanes(shape, bends).check()


def test_rows_are_next_to_their_lanes():
    read = Read(0, (0, 0, 1))
    program = triangle_of_lanes()
    program.statements = [Statement("v1", (2, 2, Ragged.over(2, 1, 1, 0)), (read,), 10, "f")]
    with pytest.raises(ProgramError, match="another index than the one before"):
        program.check()


def test_lanes_and_terms_are_not_both_ragged():
    fold = Fold(p.add, (Segment((Ragged.over(4, 1, 1, 0),), (Read(0, (0, 0, 1)),)),))
    program = triangle_of_lanes()
    program.statements[0] = replace(program.statements[0], body=(fold,))
    with pytest.raises(ProgramError, match="ragged terms of ragged lanes"):
        program.check()


def test_rounds_have_no_ragged_lanes():
    program = triangle_of_lanes()
    program.statements = [Repeat((program.statements[0],), ((),))]
    with pytest.raises(ProgramError, match="ragged extents"):
        program.check()


# --- machine code -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16, 1, 1), (70, 1, 1), (9, -2, 20), (5, 1, 1), (3, 1, 40), (1, 1, 5)], ids=str)
@pytest.mark.parametrize("width", [2, 4, 8])
def test_rows_are_cut_by_their_length(shape, width):
    """Each row is in one part, with rows of half its length or with four vectors; the last part may be small."""
    rows, step, first = shape
    program = triangle_of_lanes((rows, Ragged.over(rows, step, first, 0)), (step, 0))
    statement = replace(program.statements[0], base=0)
    parts = list(by_length(statement, width))
    assert sum(part.lanes for part, _ in parts) == statement.lanes
    written = [addresses(target, part.shape) for part, target in parts]
    assert np.unique(np.concatenate(written)).tolist() == list(range(statement.lanes))
    uneven = [part for part, _ in parts if part.shape[1].least < min(4 * width, part.shape[1] // 2)]
    assert uneven in ([], [parts[-1][0]])
    assert all(part.lanes * width * 4 < statement.lanes for part in uneven)


def test_vectors_run_along_rows():
    """Packed rows are loaded as vectors, and computed by as many at once as the longest of about as long rows have."""
    row = Ragged.over(100, 1, 1, 0)
    body = (Read(0, (1, 1), None, (1, 0)), Apply(p.mul, (0, 0)))
    names = [f"x{k}" for k in range(5050)]
    program = ArrayProgram(
        "f", names, [Group("x", 5050, False)], [], [], [Statement("v1", (100, row), body, 5050, "f")],
        np.arange(5050, 10100), [Group("y", 5050, False)],
    ).check()  # fmt: skip
    inputs = np.random.default_rng(3).standard_normal(5050).tolist()
    for machine in MACHINES:
        code = MachineCode(program, machine)
        assert all_bits(code(inputs)) == all_bits(x * x for x in inputs)
        assert code.code.assembly.count(f"fmul <{machine.lanes} x double>") >= 4
        assert "insertelement" not in code.code.assembly


def test_triangles_of_all_sizes_share_code(monkeypatch):
    """Among many statements, those of a Cholesky factorisation, which shrink from column to column."""
    monkeypatch.setattr(llvm, "_DIRECT", 0)
    program = triangle_of_lanes()
    program.statements = [
        Statement(f"v{n}{k}", (n, Ragged.over(n, 1, k, 0)), (Read(0, (k, 1), None, (1, 0)), Apply(p.neg, (0,))), 0, "f")
        for n, k in ((2, 2), (3, 2), (3, 3), (2, 3))
    ]
    base = 10
    for statement in program.statements:
        statement.base, base = base, base + statement.lanes
    program.outputs, program.output_groups = np.arange(10, base), [Group("y", base - 10, False)]
    code = MachineCode(program.check(), MACHINES[0])
    assert code(range(10)) == program.evaluate(range(10))
    assert code.code.assembly.count("define internal i32 @v") == 1


@pytest.mark.parametrize("points", [5, 17, 31, 46, 47, 70])
def test_parts_whose_rows_end_elsewhere_share_no_code(points):
    """The last row of one part would write into the first row of the next longer ones."""
    x = np.random.default_rng(points).normal(size=points)
    differences = fg.jit(lambda x: [x[i] - x[j] for i in range(points) for j in range(i)], dynamic=False)
    assert differences(x) == [x[i] - x[j] for i in range(points) for j in range(i)]
