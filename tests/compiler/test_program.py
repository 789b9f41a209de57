"""`Program`: what it prints, the rules that its checker keeps, and what its evaluator says it means."""

from __future__ import annotations

import doctest
import math

import pytest

import flatgrad as fg
from flatgrad.compiler.program.adjoint import adjoint
from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.faults import check_gradients, compare_domains, without_faults
from flatgrad.compiler.program.partition import partition
from flatgrad.compiler.program.passes import ARRAY_PASSES, FAST_JOINT_PASSES, JOINT_PASSES, PRIMAL_PASSES, run_passes
from flatgrad.compiler.program.passes.constants import fold_constants
from flatgrad.compiler.program.passes.dead_code import remove_dead_code
from flatgrad.compiler.program.program import Group, Program
from flatgrad.compiler.program.split import split
from flatgrad.runtime.primitives import BY_NAME, TABLE, Primitive
from tests.bits import assert_same

X, Y = Group("x", 1, True), Group("y", 1, True)

#: Each pass once, in a stated order: functions in a set have no order that two processes share.
ALL_PASSES = tuple(dict.fromkeys([*PRIMAL_PASSES, *JOINT_PASSES]))


def build(*groups):
    return ProgramBuilder("f", list(groups) or [X, Y])


def example() -> Program:
    """`f(x, y) = tanh(x * y) + 2`."""
    f = build()
    return f.finish([f.emit("add", f.emit("tanh", f.emit("mul", 0, 1)), f.constant(2.0))])


def test_the_printer():
    assert str(example()) == (
        "program f(x, y):\n    v2 = mul x y\n    v3 = tanh v2\n    v4 = add v3 2.0\n    return v4"
    )


def test_the_printer_shows_groups_numbers_and_the_users_line(module_from):
    module = module_from("def f(x, w):\n    y = w[0] * x\n    return y + w[1] * float('inf')\n")
    kernel = fg.compile(module.f).kernel_for(1.0, [2.0, 3.0])
    lines = str(kernel.program).splitlines()
    assert lines[0] == "program f(x, w=[w0, w1]):"
    assert lines[-1].startswith("    return [")
    text = "\n".join(lines)
    assert "# user_code.py:2" in text
    assert "mul w1 inf" in text


def test_the_printer_names_finished_adjoints():
    text = str(adjoint(example(), [0, 1]))
    assert "x_bar = " in text
    assert "y_bar = " in text
    assert text.splitlines()[-1] == "    return v4, x_bar, y_bar"


def test_a_program_hands_out_views():
    program = example()
    assert len(program) == 3
    assert program.inputs == 2
    equation = program.equation(2)
    assert (equation.variable, equation.primitive, equation.operands) == (4, BY_NAME["add"], (3, -1))
    assert [e.primitive.name for e in program.equations()] == ["mul", "tanh", "add"]


def test_the_evaluator():
    assert example().evaluate([0.5, 3.0]) == [math.tanh(1.5) + 2.0]
    f = build(Group("x", 3, False))
    assert f.finish([2, 0, f.constant(-0.0)]).evaluate([1.0, 2.0, 3.0]) == [3.0, 1.0, -0.0]


def test_the_evaluator_selects():
    f = build()
    program = f.finish([f.emit("where", f.emit("less", 0, 1), 0, 1)]).check()
    assert program.evaluate([1.0, 2.0]) == [1.0]
    assert program.evaluate([5.0, 2.0]) == [2.0]


def test_the_evaluator_raises_our_exceptions():
    f = build(X)
    program = f.finish([f.emit("log", 0)])
    with pytest.raises(fg.DomainError, match=r"log\(-1\.0\)"):
        program.evaluate([-1.0])
    with pytest.raises(fg.ProgramError, match="takes 1 input, got 2"):
        program.evaluate([1.0, 2.0])


def test_constants_with_the_same_bits_share_one_place():
    f = build()
    assert f.constant(0.0) == f.constant(0.0)
    assert len({f.constant(c) for c in (0.0, -0.0, 1.0, True)}) == 4


# --- the checker: each rule has a program that breaks it --------------------------------------------------------------


def cut(column):
    def break_it(program):
        getattr(program, column).pop()

    return break_it


def assign(attribute, value):
    return lambda program: setattr(program, attribute, value)


def set_item(column, index, value):
    def break_it(program):
        getattr(program, column)[index] = value

    return break_it


def with_condition(program):
    """`tanh` of a comparison."""
    program.opcodes[0] = BY_NAME["less"].opcode


def with_number_as_condition(program):
    """A `where` that selects by a number."""
    program.opcodes[0] = BY_NAME["where"].opcode
    program.operands[:2] = type(program.operands)("q", [0, 0, 1])
    for k in range(1, len(program.starts)):
        program.starts[k] += 1


BROKEN = [
    ("a column is too short", cut("sites"), "columns"),
    ("a column is too short", cut("adjoint_of"), "columns"),
    ("a column is too short", cut("starts"), "columns"),
    ("an operand too few", cut("operands"), "operands"),
    ("two inputs of one name", assign("input_names", ["x", "x"]), "same name"),
    ("input groups do not add up", assign("input_groups", [X]), "inputs"),
    ("a scalar group of two", assign("input_groups", [Group("x", 2, True)]), "inputs"),
    ("output groups do not add up", assign("output_groups", []), "outputs"),
    ("too few operands", set_item("opcodes", 1, BY_NAME["add"].opcode), "operands"),
    ("used before it is defined", set_item("operands", 0, 3), "before it is defined"),
    ("uses itself", set_item("operands", 0, 2), "before it is defined"),
    ("an output that does not exist", set_item("outputs", 0, 99), "before it is defined"),
    ("a constant that does not exist", set_item("operands", 4, -7), "constant"),
    ("an output constant that does not exist", set_item("outputs", 0, -9), "constant"),
    ("a condition where a number is wanted", with_condition, "kind b"),
    ("a number where a condition is wanted", with_number_as_condition, "kind f"),
    ("a truth value as a number", set_item("constants", 0, True), "kind b"),
    ("more primal equations than equations", assign("primal", 4), "primal"),
    ("fewer than none", assign("primal", -1), "primal"),
]


@pytest.mark.parametrize(("rule", "break_it", "words"), BROKEN, ids=[rule for rule, *_ in BROKEN])
def test_the_checker_catches_a_program_that_breaks(rule, break_it, words):
    program = example()
    assert program.check() is program
    break_it(program)
    with pytest.raises(fg.ProgramError, match=words) as caught:
        program.check()
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith("f")


# --- passes and the adjoint, on programs written by hand --------------------------------------------------------------


def test_constants_are_folded():
    f = build(X)
    program = f.finish([f.emit("add", 0, f.emit("mul", f.constant(2.0), f.constant(3.0)))])
    assert str(remove_dead_code(fold_constants(program))) == "program f(x):\n    v1 = add x 6.0\n    return v1"


def test_the_adjoint_of_a_primitive_of_four_operands():
    """No row of the table has more than three, but one may."""
    row = Primitive(
        "areas", "ffff->f", lambda a, b, c, d: a * b + c * d,
        [lambda _, a, b, c, d: b, lambda _, a, b, c, d: a, lambda _, a, b, c, d: d, lambda _, a, b, c, d: c],
        doc="Two products.", sympy=lambda sympy, a, b, c, d: a * b + c * d, internal=True,
    )  # fmt: skip
    try:
        f = ProgramBuilder("f", [Group("x", 4, False)])
        inner = f.append(row.opcode, [0, 1, 2, 3])
        joint = adjoint(f.finish([f.append(row.opcode, [0, 1, 2, inner])]), [0, 1, 2, 3])
        a, b, c, d = 2.0, 3.0, 5.0, 7.0
        v = a * b + c * d
        assert joint.evaluate([a, b, c, d]) == [a * b + c * v, b + c * b, a + c * a, v + c * d, c * c]
    finally:
        TABLE.remove(row)


def test_constants_of_constants_are_folded_however_many_steps_they_take():
    f = ProgramBuilder("f", [Group("x", 1, True)])
    number = f.constant(1.0)
    for _ in range(40):
        f.emit("mul", 0, number)
        number = f.emit("add", number, f.constant(1.0))
    program = f.finish([f.emit("add", 0, number)])
    assert str(remove_dead_code(fold_constants(program))) == "program f(x):\n    v1 = add x 41.0\n    return v1"


def test_folding_goes_on_from_what_was_folded_and_stops_at_a_variable():
    f = build(X)
    six = f.emit("mul", f.constant(2.0), f.constant(3.0))
    product = f.emit("mul", 0, six)  # its highest operand is folded, the other is not
    twelve = f.emit("add", six, six)
    program = f.finish([f.emit("add", product, twelve), twelve])
    folded = fold_constants(program).check()
    assert str(folded) == "program f(x):\n    v1 = mul x 6.0\n    v2 = add v1 12.0\n    return v2, 12.0"


def test_what_a_folded_equation_accumulated_and_where_sections_begin_is_kept_right():
    f = build(X)
    six = f.emit("mul", f.constant(2.0), f.constant(3.0))
    double = f.append(BY_NAME["add"].opcode, (0, 0), adjoint_of=six)
    program = f.finish([f.append(BY_NAME["mul"].opcode, (double, six), adjoint_of=double)], primal=2)
    program.update = 2
    folded = fold_constants(program).check()
    assert (folded.adjoint_of.tolist(), folded.primal, folded.update) == ([-1, 1], 1, 1)


def test_an_equation_that_raises_is_not_folded_away():
    f = build(X)
    program = f.finish([f.emit("add", 0, f.emit("log", f.constant(0.0)))])
    with pytest.raises(fg.DomainError, match=r"log\(0\.0\)"):
        run_passes(PRIMAL_PASSES, program).check().evaluate([1.0])


def test_what_no_output_needs_is_removed_and_cannot_raise():
    f = build()
    f.emit("log", 1)
    program = f.finish([f.emit("mul", 0, 0)])
    with pytest.raises(fg.DomainError):
        program.evaluate([3.0, 0.0])
    after = remove_dead_code(program).check()
    assert after.evaluate([3.0, 0.0]) == [9.0]
    assert after.input_names == ["x", "y"], "the signature stays"


def test_what_only_the_removed_needed_is_removed_too():
    f = build(X)
    first = f.emit("exp", 0)
    second = f.emit("mul", first, first)
    f.emit("add", second, f.constant(2.0))
    f.emit("add", second, f.constant(3.0))
    program = f.finish([f.emit("mul", 0, f.constant(5.0))])
    after = remove_dead_code(program).check()
    assert (str(after), after.constants) == ("program f(x):\n    v1 = mul x 5.0\n    return v1", [5.0])


def test_a_dead_operation_that_would_raise_is_not_computed():
    def f(x):
        fg.log(x)
        return x * 2.0

    x = fg.Value(-1.0)
    out = fg.compile(f)(x)
    out.backward()
    assert (out.data, x.grad) == (-2.0, 2.0)
    with pytest.raises(ValueError, match=r"log\(-1\.0\)"):
        f(fg.Value(-1.0))


def test_a_pass_leaves_its_argument_alone():
    f = build()
    dead, product = f.emit("exp", 0), f.emit("mul", f.constant(2.0), f.constant(3.0))
    program = f.finish([f.emit("add", product, 1)])
    assert dead
    before = str(program)
    for transform in ALL_PASSES:
        transform(program).check()
        assert str(program) == before, transform.__name__


@pytest.mark.parametrize("transform", ALL_PASSES, ids=lambda t: t.__name__)
def test_each_pass_has_a_docstring(transform):
    assert transform.__doc__


def test_only_dead_code_and_constants_come_before_the_adjoint():
    assert set(PRIMAL_PASSES) <= {fold_constants, remove_dead_code}


def test_the_adjoint_of_an_input_that_is_not_used_is_zero():
    f = build()
    joint = adjoint(f.finish([f.emit("mul", 0, 0)]), [0, 1]).check()
    assert joint.evaluate([3.0, 5.0]) == [9.0, 6.0, 0.0]


def test_the_adjoint_of_an_output_that_is_an_input_or_a_constant():
    f = build()
    joint = adjoint(f.finish([0, f.constant(7.0), 0]), [0, 1]).check()
    assert joint.evaluate([3.0, 5.0]) == [3.0, 7.0, 3.0, 2.0, 0.0]


def test_the_adjoint_takes_seeds():
    f = build()
    joint = adjoint(f.finish([f.emit("mul", 0, 1), f.emit("add", 0, 1)]), [0, 1], seeded=True).check()
    # outputs 15 and 8; x receives 10*5 + 100, y receives 10*3 + 100
    assert joint.evaluate([3.0, 5.0, 10.0, 100.0]) == [15.0, 8.0, 150.0, 130.0]


def test_the_adjoint_of_some_outputs_and_some_inputs():
    f = build()
    program = f.finish([f.emit("mul", 0, 1), f.emit("log", 1)])
    joint = adjoint(program, [0], of=[0]).check()
    assert joint.evaluate([3.0, 5.0]) == [15.0, math.log(5.0), 5.0]


def test_the_adjoint_rejects_an_input_that_does_not_exist():
    with pytest.raises(fg.InputError, match="input 2 of 2"):
        adjoint(example(), [2])


def test_the_adjoint_can_be_taken_twice():
    f = build(X)
    first = adjoint(f.finish([f.emit("power", 0, f.constant(3.0))]), [0])
    second = adjoint(first, [0], of=[1]).check()
    assert_same(second.evaluate([2.0]), [8.0, 12.0, 12.0])


TRANSFORMATIONS = [
    *PRIMAL_PASSES, *JOINT_PASSES, *FAST_JOINT_PASSES, *ARRAY_PASSES,
    adjoint, partition, split, without_faults, check_gradients, compare_domains,
]  # fmt: skip


@pytest.mark.parametrize("transformation", dict.fromkeys(TRANSFORMATIONS), ids=lambda function: function.__name__)
def test_each_transformation_shows_a_program_before_and_after(transformation):
    (test,) = doctest.DocTestFinder(recurse=False).find(transformation)
    printed = [example.want for example in test.examples if example.want.startswith("program ")]
    assert len(printed) >= 2
    assert printed[0] != printed[-1]
