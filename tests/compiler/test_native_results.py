"""Large results of machine code: statements write them to where the caller gets them."""

from __future__ import annotations

import itertools
import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings

import flatgrad as fg
from flatgrad.compiler import open_stages
from flatgrad.compiler.loops.reroll import reroll
from flatgrad.compiler.machine import functions, native, results
from flatgrad.compiler.machine.functions import llvm_text
from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.program import Group
from tests.array_programs import loop_programs
from tests.bits import assert_same
from tests.every_way import check_joint
from tests.examples import examples, slow
from tests.row_programs import RowProgram

pytestmark = pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")

every_result_is_large = mock.patch.multiple(results, LARGE=1), mock.patch.multiple(functions, LARGE=1)


def loss(p, x, t):
    hidden = [fg.tanh(p[4 * k] * x[0] + p[4 * k + 1] * x[1] + p[4 * k + 2] * x[2] + p[4 * k + 3]) for k in range(5)]
    return (sum(h * p[20 + k] for k, h in enumerate(hidden)) - t) ** 2


def per_example():
    return fg.vmap(fg.grad(loss), in_axes=(None, 0, 0), backend="native")


def arguments(rows, seed=0):
    numbers = np.random.default_rng(seed)
    return numbers.normal(size=25), numbers.normal(size=(rows, 3)), numbers.normal(size=rows)


@given(loop_programs())
@settings(max_examples=examples(30))
def test_programs_whose_results_all_count_as_large(program):
    with every_result_is_large[0], every_result_is_large[1]:
        check_joint(program, "native")


@pytest.mark.parametrize("release", [False, True], ids=["builtin", "binder"])
@pytest.mark.parametrize("rows", [1, 3, 90, 400])
def test_a_gradient_for_each_row(rows, release, monkeypatch):
    if release:
        monkeypatch.setattr(open_stages, "_LONG", 0.0)
    f, (p, X, y) = per_example(), arguments(rows)
    slope = fg.grad(loss, backend="python")
    expected = np.array([slope(p, x, t) for x, t in zip(X, y, strict=True)])
    for _ in range(3):
        assert_same(f(p, X, y).ravel().tolist(), expected.ravel().tolist())


@pytest.mark.parametrize("release", [False, True], ids=["builtin", "binder"])
def test_a_result_never_changes_after_a_later_call(release, monkeypatch):
    if release:
        monkeypatch.setattr(open_stages, "_LONG", 0.0)
    f = per_example()
    f(*arguments(300))
    first = f(*arguments(300))
    before = first.copy()
    second = f(*arguments(300, seed=1))
    assert np.array_equal(first, before)
    assert not np.shares_memory(first, second)
    first[:] = 0.0
    assert second.any()


def test_what_is_written_to_results_is_in_no_table_and_has_no_other_memory():
    """Copied by a table, 25 results per row would need 25 of its entries, and 25 numbers of memory more."""
    f = per_example()
    f(*arguments(300))
    (kernel,) = f.open_kernels
    small, large = (kernel.stages.code[0].bind(rows).layout for rows in (300, 1_000))
    assert len(large.tables) == len(small.tables)
    assert large.numbers - small.numbers < 700 * (25 + 4 + 25)


def test_a_fault_leaves_results_alone(monkeypatch):
    monkeypatch.setattr(open_stages, "_LONG", 0.0)
    f = fg.vmap(fg.grad(lambda x: fg.log(x[0]) * x[1] * x[2]), backend="native")
    X = np.random.default_rng(0).uniform(1.0, 2.0, (1_000, 3))
    expected = f(X)
    before = expected.copy()
    wrong = X.copy()
    wrong[517, 0] = -1.0
    with pytest.raises(ValueError, match="log"):
        f(wrong)
    assert np.array_equal(expected, before)
    assert np.array_equal(f(X), before)


def squares(rows, outputs):
    """An array program with the squares `v1` of numbers, and what is doubled in `v2`; outputs are chosen of these."""
    builder = ProgramBuilder("squares", [Group("x", rows, False)])
    ones = [builder.emit("mul", k, k) for k in range(rows)]
    twos = [builder.emit("add", k, k) for k in range(rows)]
    groups = outputs(ones, twos)
    names = [Group(f"y{k}", len(group), False) for k, group in enumerate(groups)]
    return reroll(builder.finish([cell for group in groups for cell in group], names))


@pytest.mark.parametrize(
    ("outputs", "count"),
    [
        (lambda a, b: [a, b], 2),
        (lambda a, b: [a[::-1] + b], 2),
        (lambda a, b: [[cell for pair in zip(a, b, strict=True) for cell in pair]], 2),
        (lambda a, b: [a, a], 0),
        (lambda a, b: [a + a[:1]], 0),
        (lambda a, b: [a[:-1]], 0),
        (lambda a, b: [a[: len(a) // 2], a[len(a) // 2 :]], 0),
        (lambda a, b: [a[1:] + a[:1] + b], 1),
    ],
    ids=["groups", "backwards", "in turn", "two groups", "twice", "without one", "over two groups", "rotated"],
)
def test_which_statements_write_to_results(outputs, count):
    size = 4 * results.LARGE
    program = squares(size, outputs)
    assert len(results.direct_results(program, [], False)) == count
    machine_code = functions.compile_natively(program)
    memory, run = machine_code.workspace()
    numbers = np.random.default_rng(0).normal(size=size)
    memory[:size] = numbers
    assert run() == 0
    layout = machine_code.layout.outputs
    assert_same(
        [n for at, count in layout for n in memory[at : at + count].tolist()], program.evaluate(numbers.tolist())
    )


def test_small_results_are_copied():
    assert not results.direct_results(squares(results.LARGE - 1, lambda a, b: [a]), [], False)


@pytest.mark.parametrize("seed", slow(range(6), 2, 3, 4, 5))
def test_programs_over_rows_whose_results_all_count_as_large(seed):
    program = RowProgram(seed)
    exact = fg.grad(program, backend="python", dynamic=False)
    with every_result_is_large[0], every_result_is_large[1]:
        f = fg.grad(program, dynamic=True, backend="native")
        for rows in (5, 7, 9, 30):
            shape = (rows, program.width) if program.width else (rows,)
            x = np.random.default_rng(rows).uniform(0.5, 1.5, size=shape)
            assert_same(f(x).ravel().tolist(), exact(x).ravel().tolist(), program)


def rosenbrock(x):
    return sum(100.0 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))


@pytest.mark.parametrize(("size", "is_cleared"), [(5, False), (20, True), (60, True)])
def test_results_most_of_which_are_zero_are_cleared_first(size, is_cleared):
    """Then statements write the others to large results, and they are copied to small ones."""
    x = np.linspace(-1.0, 1.0, size)
    hessian = fg.hessian(rosenbrock, backend="native")
    for numbers in (x, x[::-1].copy()):
        expected = fg.hessian(rosenbrock, backend="python")(numbers)
        assert_same(hessian(numbers).ravel().tolist(), expected.ravel().tolist())
    assert ("@clear_results" in llvm_text(hessian.kernel_for(x).stages.arrays[0])) == is_cleared


def test_only_positive_zeros_are_cleared():
    function = lambda x: np.array([*[0.0] * 301, x[0] * 2.0, -0.0, *[0.0] * 100, x[1], math.nan])  # noqa: E731
    for numbers in ([3.0, -0.0], [-0.0, math.inf]):
        ours, expected = (fg.jit(function, backend=name)(numbers).tolist() for name in ("native", "python"))
        assert_same(ours, expected)
        assert [math.copysign(1.0, ours[k]) for k in (300, 302, 303)] == [1.0, -1.0, 1.0]
