"""Large results of machine code, computed some rows at a time: the bits of all rows at once, wherever results lie."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings

import flatgrad as fg
from flatgrad.compiler.loops.reroll import reroll
from flatgrad.compiler.machine import blocks, functions, llvm, native, results
from flatgrad.compiler.machine.open_code import OpenFunction, write_open
from flatgrad.compiler.machine.operations import Machine
from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.program import Group
from tests.array_programs import loop_programs
from tests.bits import assert_same
from tests.compiler.test_native_results import arguments, loss, per_example
from tests.every_way import check_joint
from tests.examples import examples, slow
from tests.row_programs import RowProgram

pytestmark = pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")


@pytest.fixture
def small_blocks(monkeypatch, folder):
    """Blocks of as few rows as can be, however few results there are."""
    monkeypatch.setattr(blocks, "_MANY", 1)
    monkeypatch.setattr(blocks, "_ROOM", 1024)


def open_function():
    f = per_example()
    f(*arguments(300))
    return OpenFunction.of(f.open_kernels[0].arrays, fast=False)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 97, 403])
def test_a_gradient_for_each_row(small_blocks, rows):
    f, (p, X, y) = per_example(), arguments(rows)
    slope = fg.grad(loss, backend="python")
    expected = np.array([slope(p, x, t) for x, t in zip(X, y, strict=True)])
    for _ in range(2):
        assert_same(f(p, X, y).ravel().tolist(), expected.ravel().tolist())
    assembly, _ = write_open(f.open_kernels[0].arrays, False, False)
    assert "call void @stream(" in assembly


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_nothing_beside_the_results_is_written(small_blocks, mode):
    """Stores that bypass the caches need addresses of whole vectors; results begin anywhere."""
    rows, (p, X, y) = 211, arguments(211)
    f = fg.vmap(fg.grad(loss), in_axes=(None, 0, 0), backend="native", mode=mode)
    expected = f(p, X, y).ravel()
    code = f.open_kernels[0].stages.code[0].bind(rows)
    memory, run = code.workspace()
    memory[: code.layout.inputs] = np.concatenate([p, X.ravel(), y])
    for shift in range(9):
        around = np.full(expected.size + 32, -7.0)
        run.addresses[0] = around[16 + shift :].ctypes.data
        assert run() == 0
        end = 16 + shift + expected.size
        assert np.array_equal(around[16 + shift : end].view(np.int64), expected.view(np.int64))
        assert set(around[: 16 + shift].tolist()) | set(around[end:].tolist()) == {-7.0}


def test_a_fault_in_any_block_is_noticed(small_blocks):
    f = fg.vmap(fg.grad(lambda x: fg.log(x[0]) * x[1] * x[2] + fg.sin(x[1])), backend="native")
    X = np.random.default_rng(0).uniform(1.0, 2.0, (1_000, 3))
    expected = f(X)
    for row in (0, 517, 999):
        wrong = X.copy()
        wrong[row, 0] = -1.0
        with pytest.raises(ValueError, match="log"):
            f(wrong)
    assert np.array_equal(f(X), expected)


def rolled(rows, outputs, width=1):
    """An array program of sines of numbers, row by row, and of what `outputs` makes of them."""
    builder = ProgramBuilder("rows", [Group("x", rows * width, False)])
    sines = [[builder.emit("sin", width * k + j) for j in range(width)] for k in range(rows)]
    cells = outputs(lambda *operands: builder.emit("mul", *operands), sines)
    return reroll(builder.finish(cells, [Group("y", len(cells), False)]))


#: What becomes of rows of sines, how long these are, and how many statements are computed block by block.
PROGRAMS = {
    "the same row": (lambda mul, s: [mul(a, a) for (a,) in s], 1, 1),
    "the row before": (lambda mul, s: [mul(a, b) for (a,), (b,) in zip(s[1:], s, strict=False)], 1, 1),
    "the same row from behind": (lambda mul, s: [mul(a, b) for (a,), (b,) in zip(s, s[::-1], strict=True)], 1, 1),
    "two arrays, one of the same row": (
        lambda mul, s: [
            *(mul(a, a) for (a,) in s),
            *(mul(mul(a, b), b) for (a,), (b,) in zip(s, s[::-1], strict=True)),
        ],
        1,
        2,
    ),
    "two arrays of the same row": (
        lambda mul, s: [*(mul(a, a) for a, _ in s), *(mul(mul(a, a), b) for a, b in s)],
        2,
        3,
    ),
    "all of a row": (lambda mul, s: [mul(mul(r[0], r[2]), r[1]) for r in s], 3, 1),
    "two per row": (lambda mul, s: [c for a, b in s for c in (mul(a, b), mul(a, a))], 2, 0),
    "from behind": (lambda mul, s: [mul(a, a) for (a,) in s[::-1]], 1, 0),
}


@pytest.mark.parametrize("lanes", [2, 4, 8])
@pytest.mark.parametrize("name", PROGRAMS)
def test_rows_that_read_other_rows_are_computed_before(small_blocks, name, lanes):
    outputs, width, count = PROGRAMS[name]
    program = rolled(results.LARGE + 83, outputs, width)
    module = llvm.Module(program, Machine(lanes, False), False)
    code = module.emitted()
    assert (0 if module.rows is None else len(module.rows.parts)) == count, program
    if lanes > native.host().lanes:
        return
    function = native.NativeFunction(native.assemble(code.assembly), code.layout, release=False)
    memory, run = function.workspace()
    numbers = np.random.default_rng(0).normal(size=program.inputs)
    memory[: program.inputs] = numbers
    assert run() == 0
    ((place, size),) = code.layout.outputs
    assert_same(memory[place : place + size].tolist(), program.evaluate(numbers.tolist()), program)


def test_few_results_are_written_at_once():
    program = rolled(results.LARGE, PROGRAMS["the same row"][0])
    module = llvm.Module(program, Machine(native.host().lanes, False), False)
    assert "@stream" not in module.emitted().assembly
    assert module.direct


def test_memory_of_a_block_does_not_grow_with_the_rows():
    function = open_function()
    small, large = (function.bind(rows).layout for rows in (300, 100_300))
    assert large.numbers - small.numbers < 100_000 * (25 + 4 + 25)


@given(loop_programs())
@settings(max_examples=examples(40))
def test_programs_whose_results_are_computed_in_blocks(program):
    every = {"_MANY": 1, "_ROOM": 256, "_LINE": 1}
    large = mock.patch.multiple(results, LARGE=1), mock.patch.multiple(functions, LARGE=1)
    with mock.patch.multiple(blocks, **every), large[0], large[1]:
        check_joint(program, "native")


@pytest.mark.parametrize("seed", slow(range(6), 2, 3, 4, 5))
def test_programs_over_rows_whose_results_are_computed_in_blocks(seed, small_blocks, monkeypatch):
    monkeypatch.setattr(blocks, "_LINE", 1)
    monkeypatch.setattr(results, "LARGE", 1)
    monkeypatch.setattr(functions, "LARGE", 1)
    program = RowProgram(seed)
    exact = fg.grad(program, backend="python", dynamic=False)
    f = fg.grad(program, dynamic=True, backend="native")
    for rows in (5, 9, 40):
        shape = (rows, program.width) if program.width else (rows,)
        x = np.random.default_rng(rows).uniform(0.5, 1.5, size=shape)
        assert_same(f(x).ravel().tolist(), exact(x).ravel().tolist(), program)
