"""Machine code: the interpreter's bits in every shape that code takes, its assembly, arguments, and no llvmlite."""

from __future__ import annotations

import math
import re
import sys
import warnings
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler.loops.array_program import ArrayProgram
from flatgrad.compiler.loops.grammar import Apply, Block, Fold, Read, Segment, Statement, lanes_of
from flatgrad.compiler.loops.reroll import reroll
from flatgrad.compiler.machine import llvm, native, operations, training
from flatgrad.compiler.machine import statements as writers
from flatgrad.compiler.machine.llvm import emit_llvm
from flatgrad.compiler.machine.operations import Machine
from flatgrad.compiler.program.program import Group
from flatgrad.runtime.errors import InputError, MissingExtraError, OptionError
from flatgrad.runtime.primitives import BY_NAME, TABLE
from tests.array_programs import loop_programs
from tests.bits import all_bits, assert_same
from tests.compiler.array_workloads import causal_attention, cumulative, layer_loss
from tests.every_way import check_joint, check_pair, check_primal, flattened
from tests.examples import crossed, examples, repeats
from tests.native_programs import (
    MACHINES,
    MachineCode,
    Statements,
    evaluated,
    rows_of,
    with_schedule,
)
from tests.programs import flatgrad_outcome, long_chains, programs

DRAW = np.random.default_rng(1729)

# --- random programs --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(programs(max_outputs=3))
@settings(max_examples=examples(60))
def test_irregular_programs(program):
    check_joint(program, "native")


@pytest.mark.slow
@given(loop_programs())
@settings(max_examples=examples(60))
def test_value_and_gradient(program):
    check_joint(program, "native")


@given(loop_programs())
@settings(max_examples=examples(30))
def test_the_function_alone(program):
    check_primal(program, "native")


@given(loop_programs())
@settings(max_examples=examples(30))
def test_forward_and_backward(program):
    check_pair(program, backend="native")


@given(long_chains())
@settings(max_examples=5)
def test_long_chains(program):
    check_joint(program, "native")


@given(programs(max_outputs=3), st.sampled_from([1, 2, 5, 250]), st.sampled_from([0, 32]), st.sampled_from([0, 3, 99]))
@settings(max_examples=examples(50))
def test_straight_line_code_in_small_functions(program, size, short, inline):
    """Numbers and truth values that later functions need go through memory; operations of long code may be calls."""
    with mock.patch.multiple(llvm, _CHUNK=size, _SHORT=short, _INLINE=inline):
        check_joint(program, "native")


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_long_straight_line_code_is_not_optimised_and_shares_its_operations(machine):
    """LLVM's time for it is then linear, and small: all that it optimises is a function per operation."""

    def assembly(count):
        def tangled(x, y):
            for _ in range(count):
                x, y = (x * 0.5).sin() - fg.maximum(y, x * 0.25) ** 2, fg.where(x > y, x / (y * y + 1.0), y.exp())
            return x, y

        program = fg.compile(tangled, backend="python").kernel_for(0.5, 0.25).stages.traced
        return MachineCode(reroll(program), machine).code.assembly.split("\n\n")

    small, large = assembly(60), assembly(240)
    for functions in (small, large):
        blocks = [text for text in functions if text.startswith("define internal i32 @scalars")]
        assert blocks
        assert all(text.splitlines()[0].endswith("#2 {") for text in blocks)
        assert "optnone" in functions[-1]
    heads = "define internal double", "define internal i1"
    called, more = ([text for text in functions if text.startswith(heads)] for functions in (small, large))
    assert called == more
    assert 4 <= len(called) <= 6  # the sine, maximum, the square, division, exp; a machine may have some in a few steps


@pytest.mark.parametrize(("x", "y", "error"), [
    (0.5, 2.0, None), (0.0, 2.0, fg.DivisionByZeroError), (0.5, -1.0, fg.DomainError), (1e3, 2.0, fg.RangeError),
    (math.nan, 2.0, None), (0.5, math.inf, None),
])  # fmt: skip
@pytest.mark.parametrize("inline", [0, 99])
def test_faults_in_long_straight_line_code(x, y, error, inline):
    """Whether operations are calls or stand in the code, they raise as the interpreter does, and name the line."""

    def f(x, y):
        a, b = fg.div(y, x), fg.log(y)
        c = fg.exp(x) * fg.sqrt(y) + b
        for k in range(40):
            a, b, c = (fg.sin(c) if k % 3 else a * 0.5), fg.where(a > b, b - c, c * 0.25), fg.tanh(a + b * (k + 1))
        return a + b + c

    with mock.patch.object(llvm, "_INLINE", inline):
        compiled = fg.value_and_grad(f, argnums=(0, 1), backend="native")
        kernel = compiled.kernel_for(0.5, 2.0)
    assert kernel.arrays.stats.scalars > llvm._SHORT
    if error is None:
        expected = fg.value_and_grad(f, argnums=(0, 1), backend="python")(x, y)
        assert_same(flattened(compiled(x, y)), flattened(expected))
    else:
        with pytest.raises(error, match=r"test_native\.py"):
            compiled(x, y)


@given(loop_programs(max_steps=4, max_lanes=20), st.sampled_from(MACHINES), st.booleans())
@settings(max_examples=examples(60))
def test_programs_for_other_machines(program, machine, many):
    """With few statements, and as if these were many: then small ones take strides and extents from the schedule."""
    arguments = [group.argument() for group in program.arguments]
    inputs = [x for group in program.arguments for x in group.numbers]
    leaves = [[x.data for x in vector] for vector in program.bound()]
    f = fg.compile(program.function(leaves), backend="python")
    try:
        scalars = f.kernel_for(*arguments).program
    except fg.FlatgradError:
        return  # raises while it is traced
    with mock.patch.object(llvm, "_DIRECT", 0 if many else 200):
        check_code(MachineCode(reroll(scalars), machine), scalars, inputs)


def check_code(code, program, inputs):
    """Machine code agrees with the evaluator, or faults where that raises."""
    actual, expected = code(inputs), evaluated(program, inputs)
    assert (actual is None) is (expected is None), f"{code.program}\nfault: {actual is None}\n{inputs}"
    if expected is not None:
        assert_same(actual, expected, code.program)


# --- statements -------------------------------------------------------------------------------------------------------

EXTENTS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 27, 100]
#: No more work than this in one statement, so that the evaluator keeps up.
WORK = 6000


@pytest.mark.slow
@pytest.mark.parametrize("extent", EXTENTS)
def test_random_statements(extent):
    """One and two dimensions, every kind of access, folds of every length, for every machine in turn."""
    for turn in range(repeats(2)):
        statements = Statements(np.random.default_rng([extent, turn]))
        draw, pick = statements.draw, statements.pick
        shapes = [(extent,), (extent, pick([1, 2, 3, 5, 8, 9, 17])), (pick([1, 2, 4, 7, 16, 27]), extent)]
        for _ in range(7):
            shape = statements.triangle() if statements.chance(3) else pick(shapes)
            terms = [n for n in (1, 2, 3, 16, 100) if n * lanes_of(shape) <= WORK or n == 1]
            folds = pick([(), (pick(terms),), (pick(terms),), (pick(terms), pick(terms[:3]))])
            statements.add(shape, pick(["f", "f", "f", "b"]), folds)
            if statements.chance(2):
                statements.again()
        program = statements.finished()
        machine = MACHINES[int(draw.integers(len(MACHINES)))]
        for direct, small in ((200, 0), (0, 128), (0, WORK)):  # on their own; among many, of which these are small
            with mock.patch.object(llvm, "_DIRECT", direct), mock.patch.object(writers, "_SMALL", small):
                code = MachineCode(program, machine)
            check_code(code, program, statements.inputs())


def test_statements_with_the_same_loops_share_a_function():
    """Also with accesses that occur twice, or are truth values that came in as numbers."""
    fewer = 0
    for turn in range(max(6, len(MACHINES))):  # some processors have few
        statements = Statements(np.random.default_rng([77, turn]))
        for kind, folds in (("f", ()), ("b", ()), ("f", (16,)), ("b", (3,)), ("f", (2, 5))):
            statements.add((5, 9), kind, folds)
        for _ in range(10):
            statements.again()
        program = statements.finished()
        code = MachineCode(program, MACHINES[turn % len(MACHINES)])
        check_code(code, program, statements.inputs())
        fewer += len(program.statements) + 2 - code.code.assembly.count("\ndefine")
    assert fewer > 15, fewer


def test_an_access_that_occurs_twice_is_not_two():
    """Statements whose loops differ in that alone have functions of their own."""
    once = Read(0, (1,))
    bodies = [(once, once), (Read(3, (1,)), Read(9, (1,))), (Read(1, (1,)), Read(5, (1,)))]
    program = ArrayProgram("f", [f"x{k}" for k in range(30)], [Group("x", 30, False)])
    for k, reads in enumerate(bodies):
        body = (*reads, Apply(BY_NAME["sub"], (0, 1)))
        program.statements.append(Statement(f"v{k}", (20,), body, 30 + 20 * k, "f"))
    program.outputs = np.arange(30, 90)
    program.output_groups = [Group("y", 60, False)]
    code = MachineCode(program.check(), MACHINES[-1])
    check_code(code, program, DRAW.standard_normal(30).tolist())
    assert code.code.assembly.count("\ndefine") == 3, "two statements share one; the first; the results; and `run`"


def test_zeros_of_both_signs_are_two_constants():
    program = ArrayProgram("f", [f"x{k}" for k in range(20)], [Group("x", 20, False)], [0.0, -0.0])
    for k in range(2):
        body = (Read(0, (1,)), Read(20 + k, (0,)), Apply(BY_NAME["mul"], (0, 1)))
        program.statements.append(Statement(f"v{k}", (20,), body, 22 + 20 * k, "f"))
    program.outputs, program.output_groups = np.arange(22, 62), [Group("y", 40, False)]
    check_code(MachineCode(program.check(), MACHINES[-1]), program, [1.0] * 20)


def best_of(values, better):
    """The running best, as it is written in a loop."""
    best = values[0]
    for value in values[1:]:
        best = fg.where(better(value, best), value, best)
    return best


def rectified(a, b, c):
    products = [fg.relu(a * b), fg.relu(b * c), fg.relu(c * a)]
    return best_of(products, lambda x, y: x > y) + sum(fg.maximum(x, 0.1) for x in products)


def sizes(a, b, c):
    absolute = [fg.abs(a), fg.abs(b), fg.abs(c)]
    best = best_of(absolute, lambda x, y: x > y)
    return best * best + sum(fg.maximum(x, a) for x in absolute)


@pytest.mark.parametrize("function", [rectified, sizes])
@pytest.mark.parametrize("point", [(0.5, 1.5, -0.25), (-0.7, 1.1, -2.0), (0.5, -0.3, 1.7)])
def test_conditions_of_both_functions_in_one_access(function, point):
    """Those of the forward function come to the backward function as numbers; it computes others itself."""
    expected = [fg.Value(x) for x in point]
    function(*expected).backward()
    values = [fg.Value(x) for x in point]
    fg.compile(function, backend="native")(*values).backward()
    assert_same([x.grad for x in values], [x.grad for x in expected])


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_a_gather_of_truth_values_from_everywhere(machine):
    """Inputs, constants and results, in one table; also where a fold reads them, and several statements."""
    lanes, draw = 11, np.random.default_rng(5)
    groups = [Group("x", 6, False), Group("t", 5, False)]
    program = ArrayProgram("f", [f"x{k}" for k in range(11)], groups, [0.5], [True, False])
    base = program.first_result
    comparison = (Read(0, (1,)), Read(11, (0,)), Apply(BY_NAME["less"], (0, 1)))
    program.statements.append(Statement("v0", (6,), comparison, base, "b"))
    truths = np.array([*range(6, 11), 12, 13, *range(base, base + 6)])
    table, terms = draw.choice(truths, lanes), draw.choice(truths, 4 * lanes)
    body = (Read(0, (0,), table), Read(0, (0,)), Read(1, (0,)), Apply(BY_NAME["where"], (0, 1, 2)))
    program.statements.append(Statement("v1", (lanes,), body, base + 6, "f"))
    fold = Fold(BY_NAME["logical_and"], (Segment((4,), (Read(0, (0, 0), terms),)),))
    program.statements.append(Statement("v2", (lanes,), (fold,), base + 6 + lanes, "b"))
    program.outputs = np.arange(base, base + 6 + 2 * lanes)
    program.output_groups = [Group("y", len(program.outputs), False)]
    program.check()
    for _ in range(5):
        numbers = [*draw.standard_normal(6), *draw.integers(0, 2, 5)]
        code = MachineCode(program, machine)
        assert_same(code(numbers), evaluated(program, numbers), program)


def test_layers_share_their_functions():
    model = fg.nn.MLP(4, [4] * 12 + [1], activation="tanh", seed=2)
    rows = DRAW.standard_normal((6, 4)).tolist()
    results = []
    for backend in ("native", "python"):
        f = fg.value_and_grad(lambda: sum(model(row) for row in rows), wrt=model, backend=backend)
        results.append(f())
    assert_same(flattened(list(results[0])), flattened(list(results[1])))
    f = fg.value_and_grad(lambda: sum(model(row) for row in rows), wrt=model, backend="native")
    kernel = f.kernel_for()
    (vectors,) = kernel.stages.vectors
    code = emit_llvm(vectors, MACHINES[-1])
    assert 2 * code.assembly.count("\ndefine") < len(vectors.statements)


def products(rows, columns, terms, draw):
    """Statements that sum products of three arrays, two of which are strided along the vectors: they are copied."""
    a, b, c = terms
    count = a * b * c
    sizes = [rows * count, columns * count, columns * count]
    names = [f"x{k}" for k in range(sum(sizes))]
    program = ArrayProgram("f", names, [Group("x", len(names), False)])
    inner = [b * c, c, 1]
    backwards = len(names) - 1, (0, -count, *(-n for n in inner))
    base = program.first_result
    for k in range(3):
        body = (
            Read(0, (count, 0, *inner)),
            Read(sizes[0], (0, count, *inner)),
            Read(*backwards) if k % 2 else Read(sizes[0] + sizes[1], (0, count, *inner)),
            Apply(BY_NAME["mul"], (0, 1)),
            Apply(BY_NAME["add"], (3, 2)),
        )  # fmt: skip
        fold = Fold(BY_NAME["add"], (Segment(terms, body), Segment((c, b), (Read(5, (3, 1, 1, c)),))))
        again = Read(base - rows * columns, (columns, 1)) if k else Read(0, (0, 0))
        whole = (fold, again, Apply(BY_NAME["add"], (0, 1)))
        program.statements.append(Statement(f"v{k}", (rows, columns), whole, base, "f"))
        base += rows * columns
    program.outputs = np.arange(program.first_result, base)
    program.output_groups = [Group("y", len(program.outputs), False)]
    return program.check(), draw.standard_normal(len(names)).tolist()


@pytest.mark.parametrize(
    ("terms", "machine"), crossed([(1, 2, 3), (3, 1, 2), (2, 3, 4), (4, 2, 1)], MACHINES[::2]), ids=str
)
def test_accesses_that_are_copied(terms, machine):
    for rows, columns in ((4, 8), (5, 8), (7, 13)):
        program, inputs = products(rows, columns, terms, np.random.default_rng(rows))
        code = MachineCode(program, machine)
        copied = min(rows, columns) * math.prod(terms)
        assert code.code.layout.numbers >= program.size + copied, "there is room for the copies"
        check_code(code, program, inputs)


@pytest.mark.parametrize(("lanes", "machine"), crossed([255, 1000], MACHINES), ids=str)
def test_long_maps(lanes, machine):
    scalars = fg.compile(
        lambda x: [(a * b + 1.0) ** 2.0 - a.relu() for a, b in zip(x, reversed(x), strict=True)], backend="python"
    )
    x = DRAW.standard_normal(lanes).tolist()
    program = scalars.kernel_for(x).program
    code = MachineCode(reroll(program), machine)
    assert len(code.program.statements) <= 3
    check_code(code, program, x)


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("lanes", [8, 50, 67])
def test_every_other_number_is_taken_out_of_whole_vectors(lanes, machine):
    """Upwards and downwards; the last number of a vector is the last one that is read."""
    x = DRAW.standard_normal(2 * lanes).tolist()
    scalars = fg.compile(lambda x: [x[2 * k] - x[2 * (lanes - k) - 1] for k in range(lanes)], backend="python")
    program = scalars.kernel_for(x).program
    code = MachineCode(reroll(program), machine)
    assert "insertelement" not in code.code.assembly
    check_code(code, program, x)


@pytest.mark.parametrize(("name", "arguments"), [
    ("layer", (DRAW.standard_normal((9, 17)).tolist(), DRAW.standard_normal(17).tolist(), [0.5] * 9)),
    ("attention", tuple(DRAW.standard_normal((3, 6, 5)).tolist())),
    ("cumulative", (DRAW.standard_normal(40).tolist(),)),
])  # fmt: skip
def test_workloads(name, arguments):
    function = {"layer": layer_loss, "attention": causal_attention, "cumulative": cumulative}[name]
    argnums = tuple(range(len(arguments)))
    expected = flattened(fg.value_and_grad(function, argnums=argnums, backend="python")(*arguments))
    scalars = fg.value_and_grad(function, argnums=argnums, backend="numpy").kernel_for(*arguments)
    assert_same(flattened(fg.value_and_grad(function, argnums=argnums, backend="native")(*arguments)), expected)
    inputs = np.concatenate([np.ravel(argument) for argument in arguments])
    for machine in MACHINES[::2]:
        assert_same(MachineCode(scalars.arrays, machine)(inputs), expected, machine)


# --- straight-line code, and programs at the edge ---------------------------------------------------------------------


def tangled(x):
    """Straight-line code of many hundred equations, with conditions that are used long after they were computed."""
    nodes, conditions = list(x), [x[0] < x[1]]
    for k in range(330):
        a, b = nodes[(7 * k) % len(nodes)], nodes[-1 - (k * k) % 5]
        nodes.append([lambda: a * b, lambda: a.tanh() + b, lambda: fg.maximum(a, -b), a.sin][k * k % 4]())
        if k % 9 == 0:
            conditions.append((nodes[-1] > a) & conditions[-1] | ~conditions[len(conditions) // 2])
        if k % 7 == 0:
            nodes.append(fg.where(conditions[(k * 3) % len(conditions)], nodes[k // 2], nodes[-1]))
    return [nodes[-1], nodes[3], nodes[-1], nodes[len(nodes) // 2], 2.5]


@pytest.mark.slow
def test_long_straight_line_code():
    x = [0.25, -0.75, 1.5]
    f = fg.value_and_grad(lambda *x: (tangled(x)[0], tangled(x)[1:]), argnums=(0, 1, 2), has_aux=True, backend="native")
    expected = fg.value_and_grad(
        lambda *x: (tangled(x)[0], tangled(x)[1:]), argnums=(0, 1, 2), has_aux=True, backend="python"
    )
    assert len(f.kernel_for(*x).program) > 4 * llvm._CHUNK
    for numbers in (x, [3.0, 2.0, -0.0], [math.nan, 1.0, 0.0]):
        assert_same(flattened(list(f(*numbers))), flattened(list(expected(*numbers))))


@pytest.mark.slow
def test_conditions_that_are_residuals():
    """Between forward and backward, truth values travel as numbers."""
    f = fg.compile(lambda *x: tangled(x)[:2], backend="native")
    interpreted, compiled = ([fg.Value(x) for x in (0.25, -0.75, 1.5)] for _ in range(2))
    fg.runtime.value.backpropagate(tangled(interpreted)[:2], [1.0, -2.0])
    fg.runtime.value.backpropagate(f(*compiled), [1.0, -2.0])
    assert f.kernels[0].backward.program.truth_inputs
    assert_same([x.grad for x in compiled], [x.grad for x in interpreted])


def crooked(x, y):
    """Little straight-line code, whose conditions the gradient needs."""
    low, odd = x < y, (x * y > 0.5) | (y < 0.0)
    a = fg.where(low, x * y, y.sin())
    return fg.where(odd & ~low, a * x, a.tanh()) + fg.where(odd, y, x * a)


@pytest.mark.parametrize("size", [1, 3, 250])
@pytest.mark.parametrize(("x", "y"), [(1.0, 2.0), (2.0, 1.0), (-1.0, -2.0), (0.5, 0.25), (math.nan, 1.0), (0.0, -0.0)])
def test_conditions_come_into_straight_line_code_as_numbers(x, y, size):
    with mock.patch.object(llvm, "_CHUNK", size):
        f = fg.compile(crooked, backend="native")
        interpreted, compiled = ([fg.Value(x), fg.Value(y)] for _ in range(2))
        expected, actual = crooked(*interpreted), f(*compiled)
    backward = f.kernels[0].backward.program
    assert backward.truth_inputs
    assert all(isinstance(statement, Block) for statement in reroll(backward).statements)
    expected.backward()
    actual.backward()
    assert_same([actual.data, *(v.grad for v in compiled)], [expected.data, *(v.grad for v in interpreted)])


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_programs_without_inputs(backend):
    f = fg.compile(lambda: [fg.Value(2.0) * 3.0, 4.0, fg.Value(-0.0)], backend=backend)
    assert_same([x.data if isinstance(x, fg.Value) else x for x in f()], [6.0, 4.0, -0.0])


def test_outputs_that_are_inputs_constants_and_duplicates():
    f = fg.compile(lambda x: [x[2], 1.5, x[0] * 2.0, x[2], x[0] * 2.0, 1.5, x[1]], backend="native")
    values = [fg.Value(1.0), fg.Value(-0.0), fg.Value(math.inf)]
    results = f(values)
    assert_same([getattr(r, "data", r) for r in results], [math.inf, 1.5, 2.0, math.inf, 2.0, 1.5, -0.0])
    (results[0] + results[2] + results[3] + results[4]).backward()
    assert [v.grad for v in values] == [4.0, 0.0, 2.0]


def test_an_empty_argument():
    f = fg.value_and_grad(lambda x, y: x[0] * 2.0 + sum(y), backend="native")
    assert f([3.0], []) == (6.0, [2.0])


# --- the schedule -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(6))
def test_walking_over_the_schedule_and_calls_in_place_are_the_same(turn, monkeypatch):
    statements = Statements(np.random.default_rng([turn, 12]))
    for kind, folds in (("f", ()), ("b", ()), ("f", (16,)), ("b", (3,)), ("f", (2, 5))):
        statements.add((5, 9), kind, folds)
        statements.again()
    program, inputs = statements.finished(), statements.inputs()
    in_place = MachineCode(program, MACHINES[turn % len(MACHINES)])
    monkeypatch.setattr(llvm, "_DIRECT", 0)
    walked = MachineCode(program, MACHINES[turn % len(MACHINES)])
    assert ("@functions" in walked.code.assembly, "@functions" in in_place.code.assembly) == (True, False)
    check_code(walked, program, inputs)
    check_code(in_place, program, inputs)


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("direct", [0, 200])
@pytest.mark.parametrize("lanes", [96, 100])
def test_ranges_and_places_are_bound_at_the_call(machine, direct, lanes, monkeypatch):
    """A statement is computed in two parts, in part only, and with other arguments, by the same machine code.

    Parts have at least as many lanes as a tile.
    """
    monkeypatch.setattr(llvm, "_DIRECT", direct)
    numbers = 300
    program = ArrayProgram("f", [f"x{k}" for k in range(numbers)], [Group("x", numbers, False)])
    body = (Read(0, (1,)), Read(100, (1,)), Apply(BY_NAME["mul"], (0, 1)))
    program.statements.append(Statement("v0", (lanes,), body, numbers, "f"))
    program.outputs, program.output_groups = np.arange(numbers, numbers + lanes), [Group("y", lanes, False)]
    code = emit_llvm(program.check(), machine)
    x = DRAW.standard_normal(numbers)

    def run(rows):
        changed = with_schedule(code, rows)
        function = native.NativeFunction(native.assemble(code.assembly), changed.layout, release=False)
        memory, call = function.workspace()
        memory[:numbers] = x
        assert call() == 0
        ((place, size),) = code.layout.outputs
        return memory[place : place + size].tolist()

    (number, (result, a, b, first, end)), results = rows_of(code.layout.tables)
    assert (first, end) == (0, lanes)
    product = (x[:lanes] * x[100 : 100 + lanes]).tolist()
    assert_same(run([(number, [result, a, b, 0, lanes]), results]), product)
    assert_same(run([(number, [result, a, b + 60, 0, 64]), results])[:64], (x[:64] * x[160:224]).tolist())
    assert_same(run([(number, [result, a, b, 0, 64]), results]), product[:64] + [0.0] * (lanes - 64))
    if direct == 0:
        both = [(number, [result, a, b, lanes - 64, lanes]), (number, [result, a, b, 0, 64])]
        assert_same(run([*both, results]), product)


def test_a_longer_recurrence_needs_no_more_functions():
    """Statements with gather tables and short straight-line code share functions, too."""

    def recurrence(x):
        state = [0.1, 0.2, 0.3]
        for item in x:
            mixed = [sum((0.1 * (j + 2) * s for j, s in enumerate(state)), item * (k + 1)) for k in range(3)]
            state = [fg.tanh(m) * s + m for m, s in zip(mixed, [state[2], *state[:2]], strict=True)]
        return sum(state)

    counts = []
    for steps in (30, 60):
        (arrays,) = fg.grad(recurrence, backend="numpy").kernel_for(np.ones(steps)).stages.vectors
        assembly = emit_llvm(arrays, MACHINES[-1]).assembly
        counts.append((assembly.count("\ndefine"), len(arrays.statements)))
    (functions, few), (others, many) = counts
    assert functions == others
    assert many > few + 30


@pytest.mark.slow
def test_folds_and_first_dimensions_of_other_extents_share_functions(monkeypatch):
    """How far the first dimension goes, how many terms there are, and small statements' strides are in the schedule."""
    monkeypatch.setattr("flatgrad.compiler.loops.rounds.with_triangles", lambda *args: None)

    def solved(x):
        """A triangular system: the sum for each unknown is one term longer than the one before."""
        unknowns = []
        for i in range(48):
            unknowns.append(sum((x[k + i] * z for k, z in enumerate(unknowns)), x[i]))
        return sum(unknowns)

    point = np.linspace(-0.01, 0.01, 96)
    arrays = fg.grad(solved, backend="numpy").kernel_for(point).arrays
    folds = [s for s in arrays.statements if isinstance(s, Statement) and any(isinstance(x, Fold) for x in s.body)]
    assert len(folds) > 50
    assert emit_llvm(arrays, MACHINES[-1]).assembly.count("\ndefine") < len(arrays.statements) / 4
    assert_same(fg.grad(solved, backend="native")(point).tolist(), fg.grad(solved, backend="python")(point).tolist())


# --- assembly ---------------------------------------------------------------------------------------------------------

FLAGS = re.compile(r"\b(fast|nnan|ninf|nsz|arcp|contract|afn|reassoc)\b")


def assembly_of(function, arguments, mode="exact", shortcuts=True, lanes=8):
    f = fg.value_and_grad(function, argnums=tuple(range(len(arguments))), backend="numpy", mode=mode)
    arrays = f.kernel_for(*arguments).arrays
    return emit_llvm(arrays, Machine(lanes, shortcuts), fast=mode == "fast").assembly


def powers(x):
    return sum((a * a + 1.0) ** k + a * 0.1 * k for a in x for k in (2, 3, -1, 0.5, 1.7))


@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_no_operation_carries_a_fast_math_flag(lanes):
    for function, arguments in ((layer_loss, ([[1.0] * 9] * 9, [1.0] * 9, [1.0] * 9)), (powers, ([1.0] * 20,))):
        for shortcuts in (False, True):
            assembly = assembly_of(function, arguments, shortcuts=shortcuts, lanes=lanes)
            assert "fadd" in assembly
            assert not FLAGS.search(assembly)
            assert "fmuladd" not in assembly
            assert ("llvm.fma" in assembly) is (shortcuts and function is powers), "only for powers"
    assert FLAGS.search(assembly_of(powers, ([1.0] * 20,), mode="fast"))


def test_random_statements_without_powers_never_fuse():
    statements = Statements(np.random.default_rng(7))
    for _ in range(12):
        statements.add((9, 8), "f", statements.pick([(), (16,), (3, 2)]))
    program = statements.finished()
    for machine in MACHINES:
        assembly = emit_llvm(program, machine._replace(shortcuts=False)).assembly
        assert not FLAGS.search(assembly)
        assert "llvm.fma" not in assembly


@pytest.mark.filterwarnings("ignore::flatgrad.PerformanceWarning")
def test_a_primitive_without_a_spelling(monkeypatch):
    """An error names it; "auto" takes another back end."""
    monkeypatch.delitem(operations.SPELLINGS, BY_NAME["tanh"])
    with pytest.raises(OptionError, match="does not know the primitive tanh"):
        fg.grad(lambda x: x.tanh(), backend="native")(0.5)
    f = fg.value_and_grad(lambda x: sum(a.tanh() for a in x))
    assert f.kernel_for([0.5] * 200).backend != "native"


def test_the_training_loop_has_no_flags():
    assert not FLAGS.search(training._ASSEMBLY)


def test_functions_of_libm_have_names_of_our_own():
    """LLVM must not know what they are: it would fold constants, or vectorise, with another library's bits."""
    assembly = assembly_of(lambda x: sum((a.exp() + a.sin() + a.tanh() + fg.log(a) + a**0.3) for a in x), ([1.0] * 9,))
    called = set(re.findall(r"@([\w.]+)\(", assembly))
    assert called & {"flatgrad_exp", "flatgrad_sin", "flatgrad_pow"}
    assert not called & {"exp", "sin", "cos", "tanh", "log", "pow", "llvm.exp.f64", "llvm.pow.f64", "llvm.sin.f64"}


# --- fast mode --------------------------------------------------------------------------------------------------------

#: Where a last bit can change everything.
JUMPS = {"less", "less_equal", "greater", "greater_equal", "equal", "maximum", "minimum", "relu", "abs", "where"}


@pytest.mark.slow
@given(loop_programs())
@settings(max_examples=examples(80))
def test_fast_mode_is_close_to_exact_mode(program):
    """By 10**-8 of the largest number on the way, for programs that are continuous and finite."""
    leaves = program.bound()
    arguments = [group.argument() for group in program.arguments]

    def run(mode):
        def both(*arguments):
            outputs = program.function(leaves)(*arguments)
            return outputs[0], outputs[1:]

        f = fg.value_and_grad(both, range(len(arguments)), has_aux=True, backend="native", mode=mode)
        return f, flatgrad_outcome(lambda: flattened(list(f(*arguments))))

    f, exact = run("exact")
    assume(not exact.error and all(map(math.isfinite, exact.numbers)))
    whole = f.kernels[0].program
    assume(not JUMPS & {TABLE[opcode].name for opcode in whole.opcodes})
    inputs = [x for group in program.arguments for x in group.numbers] + [leaf.data for leaf in f.kernels[0].leaves]
    largest = max(abs(x) for x in whole.evaluate_all(inputs))
    assume(largest < 1e12)
    _, fast = run("fast")
    assert not fast.error
    np.testing.assert_allclose(fast.numbers, exact.numbers, rtol=1e-8, atol=1e-8 * largest)


@pytest.mark.parametrize(("rows", "terms"), crossed([1, 5, 16], [3, 16, 17, 100, 1000]))
def test_sums_in_fast_mode_keep_their_bound(rows, terms):
    """n * u * sum |term|, for sums of products."""
    draw = np.random.default_rng([rows, terms])
    w, x = draw.standard_normal((rows, terms)), draw.standard_normal(terms)
    f = fg.value_and_grad(
        lambda w, x: (0.0 * x[0], [sum(a * b for a, b in zip(row, x, strict=True)) for row in w]),
        argnums=1, has_aux=True, backend="native", mode="fast",
    )  # fmt: skip
    (_, sums), _ = f(w, x)
    for row, total in zip(w.tolist(), sums, strict=True):
        products = [Fraction(a) * Fraction(b) for a, b in zip(row, x.tolist(), strict=True)]
        bound = terms * 2.0**-53 * float(sum(map(abs, products)))
        assert abs(Fraction(total) - sum(products)) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("name", ["tanh", "exp", "log1p", "sin", "sqrt", "sigmoid"])
def test_functions_in_fast_mode(name):
    x = np.random.default_rng(1).uniform(0.1, 3.0, 200)
    results = [
        fg.value_and_grad(lambda x: sum(getattr(a, name)() * (1.0 + a) for a in x), backend="native", mode=mode)(x)
        for mode in ("exact", "fast")
    ]
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-13)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-13)


# --- arguments and results --------------------------------------------------------------------------------------------

W, X = DRAW.standard_normal(30).tolist(), DRAW.standard_normal(5).tolist()


def layer(w, x, scale):
    rows = [sum(a * b for a, b in zip(w[5 * k : 5 * k + 5], x, strict=True)) for k in range(6)]
    return sum((row * scale).tanh() for row in rows)


def gradient(backend="native"):
    return fg.value_and_grad(layer, argnums=(0, 1, 2), backend=backend)


@pytest.fixture(scope="module")
def kernel():
    return gradient().kernel_for(W, X, 0.5)


EXPECTED = all_bits(flattened(gradient("python")(W, X, 0.5)))

KINDS = {
    "lists": (W, X),
    "tuples": (tuple(W), tuple(X)),
    "float64": (np.array(W), np.array(X)),
    "backwards in memory": (np.array(W)[::-1].copy()[::-1], np.array(X)[::-1].copy()[::-1]),
    "strided": (np.repeat(np.array(W), 3)[::3], np.array([X, X]).T.copy()[:, 0]),
    "other byte order": (np.array(W, dtype=">f8"), np.array(X, dtype=">f8")),
    "objects": (np.array(W, dtype=object), np.array(X, dtype=object)),
    "read-only": (np.broadcast_to(np.array(W), (30,)), np.broadcast_to(np.array(X), (5,))),
    "not aligned": (np.frombuffer(b"-" + np.array(W).tobytes(), dtype=float, offset=1), np.array(X)),
    "NumPy numbers": ([np.float64(a) for a in W], [np.float64(a) for a in X]),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_arguments(kernel, name):
    w, x = KINDS[name]
    before = [float(a) for a in w], [float(a) for a in x]
    for scale in (0.5, np.float64(0.5), np.float32(0.5), np.array(0.5)):
        assert all_bits(flattened(kernel.joint(w, x, scale))) == EXPECTED
    value, gradients = gradient()(w, x, 0.5)
    assert all_bits(flattened([value, gradients])) == EXPECTED
    assert ([float(a) for a in w], [float(a) for a in x]) == before


@pytest.mark.parametrize("dtype", ["float32", "float16", "longdouble", "int8", "uint8", "int32", "int64", "bool"])
def test_other_numbers_are_the_floats_that_they_stand_for(kernel, dtype):
    w, x = (np.abs(np.array(numbers) * 3).astype(dtype) for numbers in (W, X))
    plain = [float(a) for a in w], [float(a) for a in x]
    expected = all_bits(flattened(gradient("python")(*plain, 2.0)))
    assert all_bits(flattened(kernel.joint(w, x, 2))) == expected
    assert all_bits(flattened(kernel.joint(w.tolist(), x.tolist(), True + True))) == expected
    if dtype == "bool":
        with pytest.raises(fg.InputError, match="truth values have no gradient"):
            gradient()(w, x, 2)
    else:
        assert all_bits(flattened(list(gradient()(w, x, 2)))) == expected


def test_matrices_through_the_interface():
    def bilinear(m, x):
        return sum((row @ x).tanh() for row in m)

    m, x = DRAW.standard_normal((4, 5)), DRAW.standard_normal(5)
    expected = fg.value_and_grad(bilinear, argnums=(0, 1), backend="python")(m, x)
    for given_m in (m, np.asfortranarray(m), np.repeat(m, 2, axis=0)[::2], m.astype(">f8"), m[::-1].copy()[::-1]):
        value, (dm, dx) = fg.value_and_grad(bilinear, argnums=(0, 1), backend="native")(given_m, x)
        assert (dm.shape, dx.shape) == ((4, 5), (5,))
        assert_same(flattened([value, dm, dx]), flattened([expected[0], *expected[1]]))


WRONG = {
    "a short list": (W[:-1], X, 0.5),
    "one number for a list": (W, [1.0], 0.5),
    "a number instead of a list": (W, 1.0, 0.5),
    "a list instead of a number": (W, X, [1.0]),
    "an array of another shape": (np.array(W).reshape(6, 5), X, 0.5),
    "a column": (np.array(W)[:, None], X, 0.5),
    "a row": (W, np.array([X]), 0.5),
    "one number in an array": (W, X, np.array([1.0])),
    "a complex number": (W, [1j, *X[1:]], 0.5),
    "nothing": (W, None, 0.5),
    "a text": (W, "abcde", 0.5),
    "a dict": (W, dict(enumerate(X)), 0.5),
    "too few": (W, X),
    "too many": (W, X, 0.5, 0.5),
}
#: What NumPy converts where it should not.
TAKEN = {
    "digits instead of a list": (W, "12345", 0.5),
    "texts": (W, list("12345"), 0.5),
    "an array of texts": (W, np.array(list("12345")), 0.5),
    "a text instead of a number": (W, X, "1.5"),
    "nothing instead of a number": (W, X, None),
    "nothing among the numbers": (W, [None, *X[1:]], 0.5),
    "an array of complex numbers": (W, np.array(X) + 1j, 0.5),
    "a complex number of NumPy's": (W, X, np.complex128(1j)),
    "dates": (W, np.array(["2020-01-01"] * 5, dtype="M8[D]"), 0.5),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(kernel, name):
    with pytest.raises(InputError, match="expected"):
        kernel.joint(*WRONG[name])
    assert all_bits(flattened(kernel.joint(W, X, 0.5))) == EXPECTED


@pytest.mark.parametrize("name", TAKEN)
def test_wrong_arguments_that_numpy_would_convert(kernel, name):
    with pytest.raises(InputError, match="expected"):
        kernel.joint(*TAKEN[name])


@pytest.mark.parametrize("wrong", ["abc", None, b"12345", {1.0}, ["1", "2"], np.array(["1", "2"]), [1j], [None]])
def test_wrong_arguments_through_the_interface(wrong):
    with pytest.raises(InputError):
        fg.value_and_grad(lambda x: x[0] * 2.0, backend="native")(wrong)


def test_an_integer_that_is_no_float_is_named(kernel):
    for call in (kernel.joint, gradient()):
        with pytest.raises(fg.FlatgradError, match="does not fit a float"):
            call(W, [10**400, 1, 2, 3, 4], 1.0)


def test_results_are_new_arrays_each_time(kernel):
    w, x = np.array(W), np.array(X)
    first = kernel.joint.run(w, x, 0.5)
    before = [np.copy(part) for part in first]
    second = kernel.joint.run([2.0 * a for a in W], X, 0.25)
    for a, b, c in zip(first[1:], second[1:], before[1:], strict=True):
        if isinstance(a, np.ndarray):
            assert not any(np.shares_memory(a, other) for other in (b, w, x))
            assert a.flags.writeable
            assert np.array_equal(a, c)
    assert (w.tolist(), x.tolist()) == (W, X)
    first[1][:] = 0.0
    assert all_bits(flattened(kernel.joint(W, X, 0.5))) == EXPECTED


def test_no_warning_is_emitted(kernel):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for special in (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308):
            expected = all_bits(flattened(gradient("python")([special] * 30, X, 0.5)))
            assert all_bits(flattened(kernel.joint([special] * 30, X, 0.5))) == expected


def test_the_source_can_be_saved_without_machine_code(kernel, tmp_path):
    names = {}
    exec(kernel.save(tmp_path / "layer.py").read_text(), names)
    assert all_bits(flattened(names["value_and_grad"](W, X, 0.5))) == EXPECTED


# --- faults -----------------------------------------------------------------------------------------------------------

FAULTS = {
    "log(0)": (fg.log, 0.0, fg.DomainError),
    "log(-1)": (fg.log, -1.0, fg.DomainError),
    "log(-inf)": (fg.log, -math.inf, fg.DomainError),
    "1 / 0": (lambda x: 1.0 / x, 0.0, fg.DivisionByZeroError),
    "1 / -0": (lambda x: 1.0 / x, -0.0, fg.DivisionByZeroError),
    "a quotient": (lambda x: fg.div(math.nan, x), 0.0, fg.DivisionByZeroError),
    "exp(1000)": (lambda x: x.exp(), 1000.0, fg.RangeError),
    "sinh(-1000)": (lambda x: x.sinh(), -1000.0, fg.RangeError),
    "(-1)**0.5": (lambda x: x**0.5, -1.0, fg.DomainError),
    "(-8)**1.5": (lambda x: x**1.5, -8.0, fg.DomainError),
    "1e200**2": (lambda x: x**2, 1e200, fg.RangeError),
    "0**-2": (lambda x: x**-2, 0.0, fg.DivisionByZeroError),
    "sqrt(-1)": (fg.sqrt, -1.0, fg.DomainError),
    "sqrt(-inf)": (fg.sqrt, -math.inf, fg.DomainError),
    "sin(inf)": (lambda x: x.sin(), math.inf, fg.DomainError),
    "cos(-inf)": (lambda x: x.cos(), -math.inf, fg.DomainError),
    "asin(2)": (fg.asin, 2.0, fg.DomainError),
    "log1p(-1)": (fg.log1p, -1.0, fg.DomainError),
    "the partial of sqrt(0)": (fg.sqrt, 0.0, fg.DivisionByZeroError),
    "the partial of x**0.5 at 0": (lambda x: x**0.5, 0.0, fg.DivisionByZeroError),
    "the partial of asin(1)": (fg.asin, 1.0, fg.DivisionByZeroError),
    "the partial of x**-1": (lambda x: x**-1.0, 1e-200, fg.RangeError),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("lanes", [1, 9])
def test_faults_raise_what_the_interpreter_raises(name, lanes):
    """Alone (in a block), and in one lane of a statement; the next good call is right."""
    function, bad, error = FAULTS[name]

    def f(x):
        return sum(function(a) for a in x)

    good = [0.5 + 0.01 * k for k in range(lanes)]
    broken = [*good]
    broken[lanes // 2] = bad
    leaves = [fg.Value(x) for x in broken]
    with pytest.raises(error) as interpreted:
        f(leaves).backward()
    native = fg.value_and_grad(f, backend="native")
    expected = flattened(fg.value_and_grad(f, backend="python")(good))
    assert_same(flattened(native(good)), expected)
    for _ in range(2):
        with pytest.raises(error) as caught:
            native(broken)
        assert type(caught.value) is type(interpreted.value)
        assert "test_native.py" in str(caught.value)
        assert str(caught.value) == str(interpreted.value)
        assert_same(flattened(native(good)), expected)


def test_a_fault_in_backward_names_the_line():
    f = fg.compile(lambda x: sum(fg.sqrt(a) for a in x), backend="native")
    values = [fg.Value(0.5 * k) for k in range(9)]
    out = f(values)
    with pytest.raises(fg.DivisionByZeroError, match=r"partial of sqrt(.|\n)*test_native\.py"):
        out.backward()
    assert [v.grad for v in values] == [0.0] * 9


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (lambda x: x**2.0, -math.inf, math.inf),
        (lambda x: x**3.0, -math.inf, -math.inf),
        (lambda x: x**0.5, math.inf, math.inf),
        (lambda x: x**-1.0, -math.inf, -0.0),
        (lambda x: x**0.0, math.nan, 1.0),
        (lambda x: fg.power(1.0, x), math.nan, 1.0),
        (lambda x: fg.power(-1.0, x), math.inf, 1.0),
        (lambda x: x.exp(), math.inf, math.inf),
        (lambda x: x.exp(), -1e308, 0.0),
        (lambda x: x.sinh(), -math.inf, -math.inf),
        (fg.log, math.inf, math.inf),
        (lambda x: fg.div(1e308, x), 1e-10, math.inf),
        (lambda x: x * 1e308, 1e10, math.inf),
        (lambda x: fg.hypot(x, 1.0), 1e200, 1e200),
        (lambda x: fg.hypot(x, x), 1.7e308, math.inf),
        (lambda x: fg.hypot(x, math.nan), -math.inf, math.inf),
        (lambda x: x.sin(), math.nan, math.nan),
        (lambda x: x**0.5, -math.inf, math.inf),
    ],
)
@pytest.mark.parametrize("lanes", [1, 9])
def test_what_is_no_fault_for_python_is_none(function, x, expected, lanes):
    f = fg.compile(lambda x: [function(a) for a in x], backend="native")
    assert_same([r.data for r in f([x] * lanes)], [expected] * lanes)
    assert f.kernels[0].forward.function([x] * lanes) is not None


# --- without llvmlite -------------------------------------------------------------------------------------------------


@pytest.fixture
def no_llvmlite(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)


def test_native_without_llvmlite_says_what_to_install(no_llvmlite):
    assert not native.available()
    for call in (
        lambda: gradient()(W, X, 0.5),
        lambda: fg.compile(layer, backend="native")(W, X, 0.5),
        lambda: nn.train_step(lambda x: W0 * x, nn.SGD(0.1), [W0], backend="native")(1.0),
        lambda: nn.fit(lambda X, y: W0 * X[0][0], [W0], nn.SGD(0.1), [[1.0]], [1.0], steps=1, backend="native"),
    ):
        with pytest.raises(MissingExtraError, match=r"pip install llvmlite.*backend='numpy'"):
            call()


W0 = fg.Value(1.0)


def test_a_llvmlite_that_cannot_be_loaded(monkeypatch):
    """Its Python part is there, and its library is broken: "auto" does without, "native" says what is wrong."""

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "llvmlite.binding":
                raise OSError("Could not find/load shared object file")

    monkeypatch.delitem(sys.modules, "llvmlite.binding", raising=False)
    monkeypatch.delattr("llvmlite.binding", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    f = fg.value_and_grad(layer, argnums=(0, 1, 2))
    f(W, X, 0.5)
    assert f.kernels[0].backend != "native"
    with pytest.raises(MissingExtraError, match="cannot be loaded: Could not find"):
        gradient()(W, X, 0.5)


@pytest.mark.parametrize("backend", ["auto", "python", "numpy"])
def test_everything_else_works_without_llvmlite(no_llvmlite, backend):
    m, x = DRAW.standard_normal((30, 30)).tolist(), DRAW.standard_normal(30).tolist()
    f = fg.value_and_grad(layer_loss, argnums=(0, 1, 2), backend=backend)
    assert_same(flattened(f(m, x, x)), flattened(fg.value_and_grad(layer_loss, (0, 1, 2), backend="python")(m, x, x)))
    w = fg.Value(1.0)
    history = nn.fit(
        lambda X, y: (w * X[0][0] - y[0]) ** 2, [w], nn.SGD(0.1), [[1.0]], [2.0], steps=2, backend=backend,
        progress=False,
    )  # fmt: skip
    assert history.steps == 2
