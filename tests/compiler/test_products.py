"""Large folds: copies of panels and rows, tiles of every shape, all layouts, to the last bit."""

from __future__ import annotations

import itertools
import math
from unittest import mock

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.compiler.loops.array_program import ArrayProgram
from flatgrad.compiler.loops.generalize import generalize
from flatgrad.compiler.loops.grammar import Apply, Fold, Read, Segment, Statement
from flatgrad.compiler.loops.reroll import reroll
from flatgrad.compiler.loops.rounds import find_rounds
from flatgrad.compiler.machine import llvm, native
from flatgrad.compiler.machine import products as module
from flatgrad.compiler.machine.llvm import emit_llvm
from flatgrad.compiler.machine.open_code import OpenFunction, chosen_tiles
from flatgrad.compiler.machine.products import tile_of
from flatgrad.compiler.program.program import Group
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import assert_same
from tests.examples import crossed, repeats, slow
from tests.native_programs import MACHINES, MachineCode, Statements, evaluated, rows_of, with_schedule

EXTENTS = (1, 2, 3, 7, 8, 13, 63, 64, 65, 131)
SPECIAL = (0.0, -0.0, 5e-324, 1e300, math.inf, math.nan)
add, mul, maximum, relu = (BY_NAME[name] for name in ("add", "mul", "maximum", "relu"))


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    """Whatever has rows, vectors and terms is tiled as a large fold."""
    monkeypatch.setattr(module, "_LARGE", 0)
    monkeypatch.setattr(module, "_TERMS", 1)


class Matrices:
    """An array program that multiplies matrices, as it is written."""

    def __init__(self, *constants):
        self.numbers, self.statements, self.constants = 0, [], list(constants)

    def matrix(self, rows, columns, layout):
        """New inputs: where the matrix begins, and its strides."""
        pitch = {"padded": columns + 5, "far": 512 * -(-columns // 512), "spread": 3 * columns}.get(layout, columns)
        strides = {"turned": (1, rows), "spread": (pitch, 3), "turned twice": (-1, -rows)}.get(layout, (pitch, 1))
        if layout == "rows reversed":
            strides = -pitch, 1
        elif layout == "columns reversed":
            strides = pitch, -1
        least = sum(min(0, s * (n - 1)) for s, n in zip(strides, (rows, columns), strict=True))
        start, size = self.numbers - least, rows * abs(strides[0]) + columns * abs(strides[1])
        self.numbers += size
        return start, strides

    def add(self, shape, body):
        self.statements.append((shape, body))

    def program(self):
        constants = self.constants
        names = [f"x{k}" for k in range(self.numbers)]
        program = ArrayProgram("f", names, [Group("x", self.numbers, False)], constants)
        base = program.first_result
        for k, (shape, body) in enumerate(self.statements):
            program.statements.append(Statement(f"v{k}", shape, tuple(body), base, "f"))
            base += math.prod(shape)
        program.outputs = np.arange(program.first_result, base)
        program.output_groups = [Group("y", len(program.outputs), False)]
        return program.check()


def product(matrices, rows, columns, terms, left, right):
    """The fold of a product of two new matrices."""
    a, (a_row, a_term) = matrices.matrix(rows, terms, left)
    b, (b_term, b_column) = matrices.matrix(terms, columns, right)
    body = Read(a, (a_row, 0, a_term)), Read(b, (0, b_column, b_term)), Apply(mul, (0, 1))
    return Fold(add, (Segment((terms,), body),))


def folded(program, inputs):
    """What a program of folds of products comes to: all lanes at once, term by term."""
    x, results = np.array(inputs), []
    for statement in program.statements:
        (fold,) = statement.body
        (segment,) = fold.segments
        total = np.full(statement.shape, -0.0)
        lanes = np.indices(statement.shape)
        with np.errstate(all="ignore"):
            for r in range(segment.terms):
                a, b = (
                    x[read.base + np.tensordot(read.strides[:-1], lanes, 1) + read.strides[-1] * r]
                    for read in segment.body[:2]
                )
                total = total + a * b
        results += total.ravel().tolist()
    return results


def numbers(count, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.standard_normal(count)
    x[draw.integers(0, count, count // 50)] = draw.choice(SPECIAL, count // 50)
    return x.tolist()


LAYOUTS = ("plain", "turned", "padded", "far", "spread", "rows reversed", "columns reversed", "turned twice")


@pytest.mark.parametrize(("extent", "machine"), crossed(EXTENTS, MACHINES[::2]), ids=str)
def test_extents(extent, machine):
    """Each extent as rows, columns and terms."""
    matrices = Matrices()
    others = itertools.cycle([(9, 17), (64, 5), (2, 33), (16, 16)])
    for position, layout in itertools.product(range(3), ("plain", "turned")):
        shape = list(next(others))
        shape.insert(position, extent)
        matrices.add(tuple(shape[:2]), [product(matrices, *shape, layout, "turned")])
        matrices.add(tuple(shape[:2]), [product(matrices, *shape, "columns reversed", layout)])
    program = matrices.program()
    x = numbers(program.inputs)
    assert_same(MachineCode(program, machine)(x), folded(program, x), program)


@pytest.fixture
def block(request, monkeypatch):
    """Terms together, or in blocks: of a few terms, of more than a vector has lanes."""
    if request.param is not None:
        monkeypatch.setattr(module, "_PANEL", 0)
        monkeypatch.setattr(module, "_BLOCK", request.param)
    return request.param


NARROW, MIDDLE, WIDE = MACHINES[::2]
#: Machines with blocks.
BLOCKS = [(NARROW, None), (MIDDLE, None), (WIDE, None), (NARROW, 90), (MIDDLE, 400), (WIDE, 90)]


def blocks(name=None, values=(None,)):
    """Runs a test for machines with blocks, and for values of another parameter."""
    rows = [(*each, value) for value, each in crossed(values, BLOCKS)]
    names = ("machine", "block") if name is None else ("machine", "block", name)
    return pytest.mark.parametrize(
        names, [row[: len(names)] for row in rows], indirect=["block"],
        ids=lambda value: getattr(value, "__name__", str(getattr(value, "lanes", value))),
    )  # fmt: skip


@blocks("left", LAYOUTS)
def test_layouts(left, machine, block, monkeypatch):
    """Each layout against each other one; what lies badly does so with few terms already."""
    monkeypatch.setattr(module, "_LINES", 10)
    matrices = Matrices()
    for right, (rows, columns, terms) in zip(LAYOUTS, itertools.cycle([(33, 35, 13), (12, 67, 18), (70, 9, 11)])):
        matrices.add((rows, columns), [product(matrices, rows, columns, terms, left, right)])
    program = matrices.program()
    x = numbers(program.inputs)
    assert_same(MachineCode(program, machine)(x), folded(program, x), program)


def test_the_reference_is_the_evaluator():
    matrices = Matrices()
    for left, right in itertools.product(LAYOUTS[::2], LAYOUTS[1::2]):
        matrices.add((7, 9), [product(matrices, 7, 9, 5, left, right)])
    program = matrices.program()
    x = numbers(program.inputs)
    assert_same(folded(program, x), evaluated(program, x))
    assert_same(MachineCode(program, MACHINES[-1])(x), evaluated(program, x))


def layer(matrices, rows, columns, terms):
    """A layer of neurons: `relu(bias + sum)`, with the bias behind the weights."""
    x, (x_row, _) = matrices.matrix(rows, terms, "plain")
    w, (w_row, _) = matrices.matrix(columns, terms + 1, "plain")
    body = Read(x, (x_row, 0, 1)), Read(w, (0, w_row, 1)), Apply(mul, (0, 1))
    fold = Fold(add, (Segment((terms,), body),))
    matrices.add((rows, columns), [Read(w + terms, (0, w_row)), fold, Apply(add, (0, 1)), Apply(relu, (2,))])


def two_sums(matrices, rows, columns, terms):
    """Two folds in one statement, one of which has two segments, and a factor that moves along everything."""
    first, second = (product(matrices, rows, columns, terms, layout, "turned") for layout in ("plain", "far"))
    c, (c_row, c_column) = matrices.matrix(rows, columns, "turned")
    whole = Read(c, (c_row, c_column, 0)), Read(c, (0, 0, 1)), Apply(mul, (0, 1))
    fold = Fold(add, (*first.segments, Segment((min(terms, rows),), whole)))
    matrices.add((rows, columns), [fold, second, Apply(mul, (0, 1))])


def windows(matrices, rows, columns, terms):
    """Terms of two dimensions, as of a convolution."""
    x, (x_row, _) = matrices.matrix(rows + terms, columns + 3, "plain")
    w, _ = matrices.matrix(terms, 3, "turned")
    body = Read(x, (x_row, 1, x_row, 1)), Read(w, (0, 0, 1, terms)), Apply(mul, (0, 1))
    matrices.add((rows, columns), [Fold(add, (Segment((terms, 3), body),))])


def batches(matrices, rows, columns, terms):
    """A product per batch, whose left matrices are all the same, or whose right ones are."""
    a, (a_row, a_term) = matrices.matrix(rows, 3 * terms, "far")
    b, (b_term, b_column) = matrices.matrix(3 * terms, columns, "turned")
    for left, right in ((terms * a_term, 0), (0, terms * b_term), (0, 0)):
        body = Read(a, (left, a_row, 0, a_term)), Read(b, (right, 0, b_column, b_term)), Apply(mul, (0, 1))
        matrices.add((3, rows, columns), [Fold(add, (Segment((terms,), body),))])


def largest(matrices, rows, columns, terms):
    """The largest of sums."""
    a, (a_row, a_term) = matrices.matrix(rows, terms, "turned")
    b, (b_column, b_term) = matrices.matrix(columns, terms, "padded")
    body = Read(a, (a_row, 0, a_term)), Read(b, (0, b_column, b_term)), Apply(add, (0, 1))
    matrices.add((rows, columns), [Fold(maximum, (Segment((terms,), body),))])


@blocks("kind", [layer, two_sums, windows, batches, largest])
def test_statements_around_products(kind, machine, block, monkeypatch):
    monkeypatch.setattr(module, "_LINES", 4)
    for shape in ((9, 11, 10), (17, 8, 4), (5, 35, 9)):
        matrices = Matrices()
        kind(matrices, *shape)
        program = matrices.program()
        x = numbers(program.inputs)
        assert_same(MachineCode(program, machine)(x), evaluated(program, x), program)


@blocks("extent", [5, 9, 16, 27])
def test_random_statements_as_large_ones(extent, machine, block):
    """Whatever accesses, folds and bodies there are."""
    for turn in range(repeats(2)):
        statements = Statements(np.random.default_rng([extent, turn, machine.lanes]))
        for shape in ((extent, 9), (7, extent), (16, extent), (extent, 33)):
            terms = [n for n in (2, 3, 16, 40) if n * math.prod(shape) <= 4000]
            statements.add(shape, "f", (statements.pick(terms),))
            statements.add(shape, statements.pick(["f", "b"]), (statements.pick(terms), 3))
        program, x = statements.finished(), statements.inputs()
        with mock.patch.object(module, "_DISTANCE", 16), mock.patch.object(module, "_LINES", 3):
            actual = MachineCode(program, machine)(x)
        expected = evaluated(program, x)
        assert (actual is None) is (expected is None)
        if expected is not None:
            assert_same(actual, expected, program)


def test_copies_are_made_where_they_are_needed():
    """Of what is strided along the vectors, of what lies badly, and of nothing else."""
    for layout, machine in itertools.product(("plain", "turned", "far"), MACHINES[::2]):
        matrices = Matrices()
        matrices.add((30, 40), [product(matrices, 30, 40, 600, "plain", layout)])
        program = matrices.program()
        room = MachineCode(program, machine).code.layout.numbers - program.size
        # The results stand there once more, for the caller; before that, copies could be there.
        assert (room > 30 * 40) is (layout != "plain")


@pytest.mark.parametrize("block", [None, 400], indirect=True)
def test_fast_mode_is_close_to_exact_mode(block):
    matrices = Matrices()
    for left, right in itertools.product(("plain", "turned"), ("plain", "turned", "far")):
        matrices.add((33, 65), [product(matrices, 33, 65, 40, left, right)])
    program = matrices.program()
    x = np.random.default_rng(3).standard_normal(program.inputs).tolist()
    code = MachineCode(program, MACHINES[-1], fast=True)
    np.testing.assert_allclose(code(x), folded(program, x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("machine", slow(MACHINES[::2], *MACHINES[2::2]), ids=str)
def test_blocks_of_many_terms(machine):
    """The accumulators of tiles that begin earlier are their own."""
    matrices = Matrices()
    for rows, columns, layout in ((7, 45, "plain"), (13, 3, "far"), (9, 70, "turned")):
        matrices.add((rows, columns), [product(matrices, rows, columns, 4500, layout, layout)])
    program = matrices.program()
    x = numbers(program.inputs)
    assert_same(MachineCode(program, machine)(x), folded(program, x), program)


@blocks()
def test_parts_of_the_rows_are_bound_at_the_call(machine, block, monkeypatch):
    """The rows of a statement are computed in two parts, by the same machine code."""
    monkeypatch.setattr(llvm, "_DIRECT", 0)
    matrices = Matrices()
    matrices.add((100, 33), [product(matrices, 100, 33, 30, "plain", "turned")])
    program = matrices.program()
    x = numbers(program.inputs)
    code = emit_llvm(program, machine)
    (number, row), results = rows_of(code.layout.tables)
    place = row.index(100) - 1
    assert row[place : place + 2] == [0, 100]
    parts = [(number, [*row[:place], *part, *row[place + 2 :]]) for part in ((59, 100), (0, 59))]
    layout = with_schedule(code, [*parts, results]).layout
    function = native.NativeFunction(native.assemble(code.assembly), layout, release=False)
    memory, run = function.workspace()
    memory[: program.inputs] = x
    assert run() == 0
    ((start, size),) = code.layout.outputs
    assert_same(memory[start : start + size].tolist(), folded(program, x), program)


def test_layers_with_any_number_of_rows():
    """Sizes that are bound at the call: rows of tiles, terms; the weights are copied by panels."""
    model = fg.nn.MLP(9, [21, 4], seed=1)

    def loss(X, T):
        return fg.sum([(fg.tanh(model(x)[0]) - t) ** 2 for x, t in zip(X, T, strict=True)]) * 0.125

    gradient = fg.value_and_grad(loss, wrt=model, backend="numpy", dynamic=False)

    def program_at(rows):
        return gradient.kernel_for(np.ones((rows, 9)), np.ones(rows)).program

    def arrays_at(rows):
        kernel = gradient.kernel_for(np.ones((rows, 9)), np.ones(rows))
        return find_rounds(reroll(kernel.stages.cleaned, terms=4))

    program = generalize([arrays_at(n) for n in (5, 6, 7)], [(5,), (6,), (7,)])
    function = OpenFunction.of(program, fast=False)
    for rows in (1, 3, 4, 5, 8, 13, 70):
        x = np.random.default_rng(rows).standard_normal(program_at(rows).inputs).tolist()
        code = function.bind(rows)
        memory, run = code.workspace()
        memory[: len(x)] = x
        assert run() == 0
        outputs = code.layout.outputs
        actual = [n for at, size in outputs for n in memory[at : at + size].tolist()]
        assert_same(actual, program_at(rows).evaluate(x))
    tiles = chosen_tiles(program, fast=False, narrow=False)
    assert sum(bool(large) for name, large in tiles.items() if name.startswith("large")) >= 2


@pytest.mark.parametrize("accumulators", [8, 16])
def test_tiles_have_few_lanes_twice(accumulators):
    for rows, vectors in itertools.product(range(1, 40), repeat=2):
        r, v = tile_of(rows, vectors, accumulators)
        assert 1 <= r <= rows
        assert 1 <= v <= vectors
        assert r * v <= accumulators
        computed = math.ceil(rows / r) * r * math.ceil(vectors / v) * v
        assert computed <= 1.3 * rows * vectors
        assert r * v >= min(rows * vectors, 3)
