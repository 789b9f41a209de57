"""The oracles can fail: a broken rule and a broken pass do not get past them."""

from __future__ import annotations

import random

import pytest

import flatgrad as fg
from flatgrad.compiler.program.adjoint import adjoint
from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.passes import JOINT_PASSES, PRIMAL_PASSES, run_passes
from flatgrad.compiler.program.template import template
from flatgrad.compiler.program.trace_graph import trace_graph
from flatgrad.runtime.primitives import BY_NAME
from tests import reference
from tests.bits import all_bits
from tests.programs import (
    RandomProgram,
    Step,
    assert_agrees,
    by_interpreter,
    by_reference,
    flatgrad_outcome,
    joint_of,
    primal_of,
)


@pytest.fixture
def fresh_templates():
    """The adjoint remembers each row's rules; forget them before and after a test that changes one."""
    template.cache_clear()
    yield
    template.cache_clear()


NEURON = RandomProgram((0.3, -0.7), (Step("mul", (0, 1)), Step("add", (2, 0.5)), Step("tanh", (3,))), (4,))


def test_the_reference_engine_catches_a_broken_partial(monkeypatch, fresh_templates):
    """Interpreter and compiler share the table, so they agree on the mistake; the other engine does not share it."""
    assert_agrees(by_interpreter(NEURON), by_reference(NEURON), NEURON)
    monkeypatch.setattr(BY_NAME["tanh"], "partials", (lambda out, x: 1.0 + out * out,))
    interpreted = by_interpreter(NEURON)
    compiled = flatgrad_outcome(lambda: joint_of(primal_of(NEURON)).evaluate(NEURON.inputs))
    assert interpreted == compiled
    with pytest.raises(AssertionError, match="tanh"):
        assert_agrees(interpreted, by_reference(NEURON), NEURON)


def test_the_last_bit_of_a_partial_is_seen(monkeypatch, fresh_templates):
    """`1 - t*t` and `(1-t)*(1+t)` are the same function, but not the same bits."""
    monkeypatch.setattr(BY_NAME["tanh"], "partials", (lambda out, x: (1.0 - out) * (1.0 + out),))
    draw = random.Random(1337)
    caught = 0
    for _ in range(50):
        program = RandomProgram((draw.uniform(-2, 2), draw.uniform(-2, 2)), NEURON.steps, NEURON.outputs)
        caught += by_interpreter(program).bits != by_reference(program).bits
    assert caught > 5


def edited(program, edit):
    """The program with `edit(builder, opcode, operands)` in place of each equation; None keeps it."""
    builder = ProgramBuilder.like(program)
    renamed = list(range(program.inputs))
    for equation in program.equations():
        operands = [renamed[o] if o >= 0 else builder.constant(program.constants[~o]) for o in equation.operands]
        replaced = edit(builder, equation.primitive.name, operands)
        renamed.append(builder.append(equation.primitive.opcode, operands) if replaced is None else replaced)
    outputs = [renamed[o] if o >= 0 else builder.constant(program.constants[~o]) for o in program.outputs]
    return builder.finish(outputs, program.output_groups)


def swaps_operands_of_where(builder, name, operands):
    if name == "where":
        return builder.emit("where", operands[0], operands[2], operands[1])
    return None


def drops_plus_zero(builder, name, operands):
    """`x + 0.0 -> x` is not exact: -0.0 + 0.0 is 0.0."""
    if name == "add" and operands[1] < 0 and builder.program.constants[~operands[1]] == 0.0:
        return operands[0]
    return None


def squares_by_multiplying(builder, name, operands):
    """`x**2 -> x*x` is not exact: the two differ for some numbers."""
    if name == "power" and operands[1] < 0 and builder.program.constants[~operands[1]] == 2.0:
        return builder.emit("mul", operands[0], operands[0])
    return None


def multiplies_by_zero_to_zero(builder, name, operands):
    """`x * 0.0 -> 0.0` is not exact: infinity, NaN, and the sign of zero."""
    if name == "mul" and operands[1] < 0 and builder.program.constants[~operands[1]] == 0.0:
        return operands[1]
    return None


def reassociates(builder, name, operands):
    """`(a + b) + c -> a + (b + c)`."""
    program = builder.settle()
    if name == "add" and operands[0] >= program.inputs:
        inner = program.equation(operands[0] - program.inputs)
        if inner.primitive.name == "add":
            return builder.emit("add", inner.operands[0], builder.emit("add", inner.operands[1], operands[1]))
    return None


def squares():
    """A number whose square and whose product with itself differ."""
    draw = random.Random(1337)
    samples = (draw.uniform(1, 2) for _ in range(200_000))
    return [next(x for x in samples if x**2 != x * x)]


BROKEN = [
    (swaps_operands_of_where, (Step("less", (0, 1.0)), Step("where", (1, 0, 5.0))), [0.5]),
    (drops_plus_zero, (Step("mul", (0, -1.0)), Step("add", (1, 0.0))), [0.0]),
    (squares_by_multiplying, (Step("power", (0, 2.0)),), squares()),
    (multiplies_by_zero_to_zero, (Step("mul", (0, 0.0)),), [float("inf")]),
    (multiplies_by_zero_to_zero, (Step("mul", (0, 0.0)),), [-1.0]),
    (reassociates, (Step("mul", (0, 1e16)), Step("add", (0, 1)), Step("mul", (1, -1.0)), Step("add", (2, 3))), [1.0]),
]


@pytest.mark.parametrize(("edit", "steps", "inputs"), BROKEN, ids=[edit.__name__ for edit, *_ in BROKEN])
def test_the_evaluator_catches_a_broken_pass(edit, steps, inputs):
    """A rule that is nearly right changes a bit somewhere, and a bit is enough."""
    program = RandomProgram(tuple(inputs), steps, (len(steps),))
    primal = primal_of(program)
    broken = edited(primal, edit).check()
    expected = flatgrad_outcome(lambda: primal.evaluate(inputs))
    with pytest.raises(AssertionError, match="got"):
        assert_agrees(flatgrad_outcome(lambda: broken.evaluate(inputs)), expected, program)


def test_an_edit_that_does_nothing_is_not_caught():
    primal = primal_of(NEURON)
    same = edited(primal, lambda *_: None)
    assert str(same) == str(primal)
    assert all_bits(same.evaluate(NEURON.inputs)) == all_bits(primal.evaluate(NEURON.inputs))


# --- why only dead code and constants may go before the adjoint -------------------------------------------------------


def merging(x):
    """`m = x*1; y = (m*1 + m*1) + x*1e16`: the gradients of `m` are added before they meet the other."""
    m = x * 1
    return (m * 1 + m * 1) + x * 1e16


def times_one(builder, name, operands):
    """`x * 1 -> x`: exact for every float."""
    if name == "mul" and operands[1] < 0 and builder.program.constants[~operands[1]] == 1.0:
        return operands[0]
    return None


def test_an_identity_rule_before_the_adjoint_is_caught():
    x, other = fg.Value(1.0), reference.Scalar(1.0)
    out = merging(x)
    primal = trace_graph([out], [x], "f").program
    out.backward()
    merging(other).backward()
    assert x.grad == other.grad == 1e16 + 2.0

    simplified = edited(primal, times_one).check()
    assert simplified.evaluate([1.0]) == primal.evaluate([1.0]), "exact for the value"
    right = adjoint(run_passes(PRIMAL_PASSES, primal), [0])
    wrong = adjoint(simplified, [0])
    assert right.evaluate([1.0])[1] == x.grad
    assert wrong.evaluate([1.0])[1] != x.grad, "but it merges the places where gradients are added"


def test_the_same_rule_after_the_adjoint_is_exact():
    primal = trace_graph([merging(x := fg.Value(1.0))], [x], "f").program
    joint = adjoint(primal, [0])
    assert edited(joint, times_one).evaluate([1.0]) == joint.evaluate([1.0])
    assert run_passes(JOINT_PASSES, joint).evaluate([1.0]) == joint.evaluate([1.0])


def test_the_pipeline_keeps_the_order():
    value, gradient = fg.value_and_grad(merging)(1.0)
    assert (value, gradient) == (2.0 + 1e16, 1e16 + 2.0)
