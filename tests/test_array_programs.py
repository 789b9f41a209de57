"""The strategy for loop nests: what it must reach, and that re-rolling finds loops in what it draws."""

from __future__ import annotations

import math
from unittest import mock

import pytest

import flatgrad as fg
from flatgrad.compiler.loops.grammar import Fold as FoldNode
from flatgrad.compiler.loops.grammar import Statement
from flatgrad.runtime.errors import FlatgradError
from flatgrad.runtime.primitives import BY_NAME
from tests.array_programs import (
    COMPARISONS,
    FOLDS,
    KINDS,
    RAISING,
    REDUCTIONS,
    SELECTIONS,
    Access,
    Best,
    Carried,
    Chain,
    Constants,
    Every,
    Fold,
    Group,
    LoopProgram,
    Map,
    Network,
    Recurrence,
    Reduction,
    Select,
    Softmax,
    Total,
    by_floats,
    by_interpreter,
    constant_numbers,
    loop_programs,
    recurrences,
    selections,
)
from tests.test_programs import drawn


@pytest.fixture(scope="module")
def sample():
    return drawn(loop_programs(), 1300)


@pytest.fixture(scope="module")
def some():
    return drawn(loop_programs(), 180)


@pytest.fixture(scope="module")
def steps(sample):
    return [step for program in sample for step in program.steps]


def test_many_kinds_are_reached_and_their_loops_are_found(some):
    """What many programs reach for certain, in a few."""
    steps = [step for program in some for step in program.steps]
    assert {type(step) for step in steps} >= {Map, Fold, Softmax, Chain, Reduction, Recurrence}
    assert {group.kind for program in some for group in program.groups} >= {"list", "tuple", "array", "scalar"}
    assert {
        access.lane for step in steps if isinstance(step, Map) for access in step.operands if type(access) is Access
    } >= {0, 1}
    assert [by_floats(program).error for program in some].count(None) > 0.8 * len(some)
    statements, equations, alone = loops_of(some[::18])
    assert len(statements) > 5
    assert alone < 0.8 * equations


def test_a_few_selections_and_recurrences_are_of_many_kinds():
    steps = [step for program in drawn(selections(), 25) for step in program.steps]
    assert {type(step) for step in steps} >= {Select, Best, Every, Total}
    assert len({name for step in steps if isinstance(step, Select) for name in step.names}) > 0.5 * len(SELECTIONS)
    steps = [step for program in drawn(recurrences(), 25) for step in program.steps]
    loops = [step for step in steps if isinstance(step, Recurrence)]
    assert any(isinstance(step, Network) for step in steps)
    assert any(step.inner > 1 for step in loops)
    assert any(step.scan for step in loops)


@pytest.mark.slow
def test_nearly_every_row_is_reached(steps):
    """All of them in a longer run; here a few may be missing."""
    maps = {name for step in steps if isinstance(step, (Map, Chain)) for name in step.names}
    folds = {name for step in steps if isinstance(step, Fold) for name in (step.name, step.inner)}
    assert len(set(BY_NAME) - maps - folds) <= 3


@pytest.mark.slow
def test_every_kind_of_step_and_argument_is_reached(sample, steps):
    assert {type(step) for step in steps} == {Map, Fold, Softmax, Chain, Reduction, Recurrence, Network}
    assert {group.kind for program in sample for group in program.groups} == set(KINDS)
    folds = [step for step in steps if isinstance(step, Fold)]
    assert {fold.name for fold in folds} == set(FOLDS)
    assert {repr(fold.start) for fold in folds} >= {"None", "0.0", "-0.0"}
    assert any(fold.running for fold in folds), "cumulative sums"
    assert any(fold.last for fold in folds), "the partial result as the right operand"
    assert any(len(set(fold.lengths)) > 2 for fold in folds), "ragged folds"
    assert any(len(step.names) > 5 for step in steps if isinstance(step, Map)), "irregular layers"


@pytest.mark.slow
def test_functions_of_vectors_are_reached(sample, steps):
    """Each of them, on rows of equal and of different lengths, empty ones among them."""
    reductions = [step for step in steps if isinstance(step, Reduction)]
    assert {step.name for step in reductions} == set(REDUCTIONS)
    assert {len(set(step.lengths)) > 1 for step in reductions} == {True, False}
    assert any(0 in step.lengths for step in reductions)
    assert any(1 in step.lengths for step in reductions)


@pytest.mark.slow
def test_accesses_of_every_kind_are_reached(steps):
    operands = [o for step in steps if isinstance(step, (Map, Fold)) for o in step.operands]
    operands += [o for step in steps if isinstance(step, Recurrence) for _, reads in step.operations for o in reads]
    accesses = [o for o in operands if isinstance(o, Access)]
    assert {access.lane for access in accesses} >= {-1, 0, 1, 2}
    assert {access.term for access in accesses} >= {-1, 0, 1, 2}
    shuffled = [access for access in accesses if access.table != tuple(range(len(access.table)))]
    assert any(len(set(access.table)) == len(access.table) for access in shuffled), "permutations"
    assert any(len(set(access.table)) < len(access.table) for access in shuffled), "broken lanes"
    constants = [number for o in operands if isinstance(o, Constants) for number in o.numbers]
    assert {repr(number) for number in constants} >= {"0.0", "-0.0"}
    numbers = drawn(constant_numbers, 1000)
    assert not all(map(math.isfinite, numbers))
    assert any(0.0 < abs(number) < 2.2e-308 for number in numbers), "subnormal numbers"
    assert any(isinstance(o, Constants) and len(o.numbers) > 1 for o in operands), "constants that vary by lane"


@pytest.mark.slow
def test_outputs_of_every_kind_are_reached(sample):
    outputs = [program.outputs for program in sample]
    assert any(type(o) is float for each in outputs for o in each), "constants"
    assert any(len(set(each)) < len(each) for each in outputs), "repeated ones"
    assert any(
        type(o) is tuple and o[0] < len(program.groups) for program in sample for o in program.outputs
    ), "arguments"  # fmt: skip


@pytest.mark.slow
def test_programs_that_raise_and_that_do_not_are_reached(sample):
    errors = [by_floats(program).error for program in sample]
    assert None in errors
    assert len(set(errors)) >= 2
    assert len(errors) > errors.count(None) > 0.8 * len(errors)
    finite = [o for o in map(by_interpreter, sample) if o.numbers and all(map(math.isfinite, o.numbers))]
    assert len(finite) > len(sample) / 3


@pytest.mark.slow
def test_loops_are_found(sample):
    """Most equations of most programs are in loops; there are folds, contractions, gathers and strides."""
    statements, equations, alone = loops_of(sample[::8])
    assert alone < 0.5 * equations
    assert sum(any(isinstance(node, FoldNode) for node in s.body) for s in statements) > 10
    assert sum(s.is_contraction for s in statements) > 0
    assert 0 < sum(s.is_strided for s in statements) < len(statements)


def loops_of(sample):
    """The statements of the kernels of programs; how many equations there are, and how many of them are in no loop."""
    statements, equations, alone = [], 0, 0
    for program in sample:
        f = fg.compile(program.function(program.bound()), backend="numpy")
        try:
            arrays = f.kernel_for(*[group.argument() for group in program.arguments]).arrays
        except FlatgradError:
            continue
        statements += [s for s in arrays.statements if isinstance(s, Statement)]
        equations += arrays.stats.equations
        alone += arrays.stats.scalars
    return statements, equations, alone


@pytest.mark.slow
def test_recurrences_of_every_kind_are_reached():
    """Each of them several times in so many programs."""
    sample = drawn(recurrences(), 400)
    loops = [[s for s in program.steps if isinstance(s, (Recurrence, Network))] for program in sample]
    steps = [step for each in loops for step in each]
    scalar = [step for step in steps if isinstance(step, Recurrence)]
    reads = [read for step in scalar for _, each in step.operations for read in each]
    streams = [read for read in reads if isinstance(read, Access) and read.lane]
    kinds = {
        "of numbers": scalar,
        "of vectors": [step for step in steps if isinstance(step, Network)],
        "of vectors that are turned": [step for step in steps if isinstance(step, Network) and step.turn],
        "streams": streams,
        "streams backwards": [read for read in streams if read.lane < 0],
        "constants per round": [read for read in reads if isinstance(read, Constants) and len(read.numbers) > 1],
        "states of two rounds before": [read for read in reads if isinstance(read, Carried) and read.ago == 2],
        "several loops": [each for each in loops if len(each) > 1],
        "nested": [step for step in scalar if step.inner > 1],
        "a first round that differs": [step for step in scalar if step.ends[0]],
        "a last round that differs": [step for step in scalar if step.ends[1]],
        "results of each round": [step for step in steps if step.every],
        "written with scan": [step for step in scalar if step.scan and step.ends == (None, None) and step.rounds > 8],
        "operations that raise": [step for step in scalar if {name for name, _ in step.operations} & set(RAISING)],
        "rounds that raise": [
            program for program, each in zip(sample, loops, strict=True) if each and by_floats(program).error
        ],
    }
    assert {kind: len(found) for kind, found in kinds.items() if len(found) < 5} == {}


@pytest.mark.slow
def test_selections_of_every_kind_are_reached():
    """On 2 to 9 lanes, with folds of conditions of several lengths; every vector that is computed matters."""
    sample = drawn(selections(), 400)
    steps = [step for program in sample for step in program.steps]
    selects = [step for step in steps if isinstance(step, Select)]
    assert {name for step in selects for name in step.names} == set(SELECTIONS)
    assert any(len(step.names) > 1 for step in selects), "several selections side by side"
    assert {step.lanes for step in selects} == set(range(2, 10))
    bests = [step for step in steps if isinstance(step, Best)]
    assert {step.better for step in bests} == set(COMPARISONS)
    assert {step.others is None for step in bests} == {True, False}, "the best, and what goes with it"
    folds = [step for step in steps if isinstance(step, Every)]
    assert {step.joined for step in folds} == {"logical_and", "logical_or"}
    assert {bool(step.negated) for step in folds} == {True, False}
    assert {len(set(step.lengths)) > 1 for step in folds} == {True, False}
    assert all(isinstance(program.steps[-1], Total) for program in sample)
    names = {step.name for program in sample for step in program.scalars()[0].steps}
    assert names >= {"where", "maximum", "minimum", "abs", "relu", "logical_and", "logical_or", "logical_not"}
    errors = [by_floats(program).error for program in sample]
    assert errors.count(None) > 0.7 * len(errors)


def test_functions_of_vectors_are_compared_with_what_they_stand_for():
    """The program on `Value`s calls the package's functions; what it is compared with is written in primitives."""
    step = Reduction("logsumexp", Access(0, 0, 1, 1, (0, 1, 2)), (3, 0, 1))
    program = LoopProgram((Group("list", (0.5, -0.0, 1.0)),), (step,), ((1, 0), (1, 1), (1, 2)))
    assert repr(step) == "[fg.logsumexp(v0[(0 + 1*l + 1*r) % 3] for r in range([3, 0, 1][l])) for l in range(3)]"
    names = {each.name for each in program.scalars()[0].steps}
    assert names >= {"maximum", "minimum", "exp", "add", "log", "where"}
    assert program.run([[0.5, -0.0, 1.0]]) == list(by_floats(program).numbers)
    with mock.patch.object(fg, "logsumexp", return_value=7.0):
        assert program.run([[0.5, -0.0, 1.0]]) == [7.0, 7.0, 7.0] != list(by_floats(program).numbers)


def test_selections_print_as_loops():
    first = Select(("clip", "relu"), (Access(0, 0, 1, 0, (0, 1)), Constants((1.0,)), Constants((2.0,))), 0.5, 2)
    best = Best("less", Access(1, 0, 0, 1, (0, 1)), Access(0, 0, 0, 1, (0, 1)), (2,))
    every = Every("logical_and", "equal", (Constants((1.0,)),) * 2, 2, (Constants((1.0,)), Constants((2.0,))), (3,))
    program = LoopProgram((Group("list", (0.5, 1.0)),), (first, best, every, Total((1, 2))), ((4, 0),))
    assert repr(program).strip() == (
        "def f(v0):\n"
        "    v1 = [select(['clip', 'relu'][l], v0[(0 + 1*l + 0*r) % 2], 1.0, 2.0, 0.5) for l in range(2)]\n"
        "    v2 = [best(less, v1[(0 + 0*l + 1*r) % 2], of v0[(0 + 0*l + 1*r) % 2], [2][l]) for l in range(1)]\n"
        "    v3 = [where(logical_and(equal(1.0, 1.0), 1 in 2 negated for r in range([3][l])), (1.0, 2.0)) "
        "for l in range(1)]\n"
        "    v4 = [sum of v1, v2]\n"
        "    return v4[0]\n"
        "# v0: list [0.5, 1.0]"
    )


def test_a_program_prints_as_its_loops():
    fold = Fold("add", 0.0, "mul", (Access(0, 1, 1, 2, (0, 1, 2)), Constants((2.5,))), (2, 2), False, False)
    program = LoopProgram((Group("list", (0.5, -0.0, 1.0)),), (fold,), ((1, 0), 1.5))
    product = "mul(v0[(1 + 1*l + 2*r) % 3], 2.5) for r in range([2, 2][l])"
    assert repr(program).strip() == (
        "def f(v0):\n"
        f"    v1 = [fold(add, start 0.0, {product}) for l in range(2)]\n"
        "    return v1[0], 1.5\n"
        "# v0: list [0.5, -0.0, 1.0]"
    )
