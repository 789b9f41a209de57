"""Random programs in every way in which they can be compiled, printed and run; and that what is broken is noticed."""

from __future__ import annotations

import shutil
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.languages import rolled
from flatgrad.compiler.languages.loader import LoadedModule
from flatgrad.compiler.languages.numpy import emit_arrays
from flatgrad.compiler.languages.opened import ArrayFunction
from flatgrad.compiler.languages.rolled import emit_rolled
from flatgrad.compiler.loops.grammar import Apply, Read, Statement
from flatgrad.compiler.machine.memory import Access
from flatgrad.compiler.program.program import Group as ProgramGroup
from flatgrad.runtime.primitives import BY_NAME
from tests.array_programs import Access as Reading
from tests.array_programs import (
    Best,
    Constants,
    Every,
    Group,
    LoopProgram,
    Map,
    Select,
    Total,
    as_loops,
    loop_programs,
    selections,
)
from tests.bits import assert_same
from tests.every_way import (
    BACKENDS,
    CFile,
    check_grad,
    check_graph,
    check_jit,
    check_joint,
    check_pair,
    check_partial_pair,
    check_primal,
    check_training,
    flattened,
    grouped,
    in_pieces,
    module_of,
)
from tests.examples import examples
from tests.native_programs import Statements, evaluated
from tests.programs import Outcome, programs
from tests.test_programs import drawn

SMALL = selections(max_steps=2, max_lanes=6)
CHECKS = [check_primal, check_jit, check_joint, check_grad, check_pair, check_partial_pair, check_graph]
backends = st.sampled_from(BACKENDS)


@pytest.mark.parametrize("check", CHECKS)
def test_selections(check):
    @settings(max_examples=examples(12))
    @given(SMALL, backends)
    def each(program, backend):
        check(program, backend=backend)

    each()


@given(programs(max_outputs=3), st.sampled_from(CHECKS), backends)
@settings(max_examples=examples(60))
def test_irregular_programs(program, check, backend):
    check(program, backend=backend)


@given(loop_programs(max_steps=3), st.sampled_from(CHECKS), backends)
@settings(max_examples=examples(25))
def test_loops(program, check, backend):
    check(program, backend=backend)


@given(st.one_of(selections(max_steps=2, max_lanes=5), programs(max_steps=6)), backends)
@settings(max_examples=examples(12))
def test_training(program, backend):
    check_training(program, backend=backend)


@given(st.one_of(SMALL, programs(max_outputs=2)), st.sampled_from([check_joint, check_pair]), backends)
@settings(max_examples=examples(15))
def test_in_pieces(program, check, backend):
    in_pieces(check)(program, backend=backend)


@pytest.mark.skipif("native" not in BACKENDS, reason="needs llvmlite")
@given(st.one_of(SMALL, programs(max_outputs=2)))
@settings(max_examples=examples(15))
def test_the_source_of_machine_code(program):
    """It is that of rolled Python, and runs."""
    program = as_loops(program)
    leaves, arguments = program.bound(), [group.argument() for group in program.arguments]
    f = fg.value_and_grad(
        lambda *items: program.function(leaves)(*items)[0], argnums=range(len(arguments)), backend="native"
    )
    try:
        kernel = f.kernel_for(*arguments)
    except fg.FlatgradError:
        return  # an operation on constants raises while it is traced
    inputs = [*(x for group in program.arguments for x in group.numbers), *(leaf.data for leaf in kernel.leaves)]
    expected = evaluated(kernel.program, inputs)
    function = module_of(kernel.source)["value_and_grad"]
    try:
        numbers = flattened(function(*grouped(inputs, kernel.program.input_groups)))
    except (ArithmeticError, ValueError):
        numbers = None
    assert (numbers is None) is (expected is None), program
    if numbers is not None:
        assert_same(numbers, expected, f"{program}\n{kernel.source}")


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler on this machine")
@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_c(count):
    c = CFile()
    for program in drawn(SMALL, count):
        check_pair(program, c=c)
        check_joint(program, c=c)
        check_grad(program, c=c)
        in_pieces(check_joint)(program, c=CFile())
    assert c.saved is not None, "one is saved as a file of its own, too"
    assert c.check() > 2 * count
    assert c.check() == 0


def constant_statement(program):
    """Append a statement whose operands are all constants, which passes leave only where something raises."""
    body = (Read(program.inputs, (0,)), Read(program.inputs + 1, (0,)), Apply(BY_NAME["atan2"], (0, 1)))
    program.statements.append(Statement("last", (5,), body, program.size, "f"))
    program.outputs = np.append(program.outputs, np.arange(program.size - 5, program.size))
    program.output_groups.append(ProgramGroup("last", 5, False))
    return program.check()


@pytest.mark.parametrize("turn", range(6))
def test_statements_made_by_hand(turn):
    """Accesses, folds and shapes that few programs have: as array statements, as rolled Python and in C."""
    statements = Statements(np.random.default_rng([turn, 5]))
    for _ in range(6):
        shape = statements.pick([(7,), (3, 5), (1, 9), (16,), statements.triangle()])
        folds = statements.pick([(), (1,), (2,), (9,), (4, 3)])
        statements.add(shape, statements.pick(["f", "f", "b"]), folds)
    program = constant_statement(statements.finished())
    function = ArrayFunction(program, "f", "")
    emitted = emit_arrays([function], ["For a test."])
    arrays = LoadedModule(emitted.sections, "f", emitted.data).names["f"]
    rolled_function = module_of("".join(emit_rolled([function], ["For a test."])))["f"]
    c = CFile()
    for _ in range(2):
        inputs = statements.inputs()
        arguments = grouped(inputs, program.input_groups)
        expected = evaluated(program, inputs)
        for compute in (arrays, rolled_function):
            try:
                numbers = flattened(compute(*arguments))
            except (ArithmeticError, ValueError):
                numbers = None
            assert (numbers is None) is (expected is None), program
            if numbers is not None:
                assert_same(numbers, expected, program)
        error = ArithmeticError if expected is None else None
        c.add(program, inputs, Outcome(tuple(expected or ()), error), str(turn))
    if shutil.which("cc"):
        assert c.check() == 2


# --- what the checks would have found ---------------------------------------------------------------------------------


def of(vector, lanes):
    return Reading(vector, 0, 1, 1, tuple(range(lanes)))


def test_one_place_for_truth_values_of_two_functions_is_noticed():
    """Conditions of the forward function, read together with those that the backward function computes."""
    first = Select(("relu",), (of(0, 3), Reading(0, 1, 1, 1, (0, 1, 2)), of(0, 3)), 0.5, 3)
    best = Best("greater", of(1, 3), None, (3,))
    last = Map(("maximum",), (of(1, 3), Constants((0.1,))), 3)
    program = LoopProgram((Group("list", (0.5, 1.5, -0.25)),), (first, best, last, Total((2, 3))), ((4, 0),))
    if "native" not in BACKENDS:
        pytest.skip("needs llvmlite")
    check_pair(program, backend="native")

    def broken(self, read, kind, extents, module):
        inputs = module.program.inputs
        if kind == "b" and read.table is not None and read.table.min() < inputs:
            read = read._replace(table=np.minimum(read.table, inputs - 1))
        original(self, read, kind, extents, module)

    original = Access.__init__
    with mock.patch.object(Access, "__init__", broken), pytest.raises(AssertionError, match="backward"):
        check_pair(program, backend="native")


def test_a_function_that_a_module_lacks_is_noticed():
    conditions = Every("logical_or", "less", (of(0, 5), of(0, 5)), 0, (of(0, 5), of(0, 5)), (4, 5, 6, 7))
    program = LoopProgram((Group("list", (0.5, 1.5, -0.25, 2.0, 1.0)),), (conditions, Total((1,))), ((2, 0),))
    check_joint(program)
    without = mock.patch.object(rolled, "_helper", return_value="")
    with without, pytest.raises(NameError, match="logical_or"):
        check_joint(program)
