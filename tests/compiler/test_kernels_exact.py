"""Kernels compute the interpreter's bits, and raise where it raises: random programs, every way of calling."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.program.passes import JOINT_PASSES, PRIMAL_PASSES, run_passes
from tests import reference
from tests.bits import assert_same
from tests.examples import examples
from tests.programs import (
    Interpreted,
    Outcome,
    assert_agrees,
    by_interpreter,
    by_interpreter_seeded,
    by_reference,
    flatgrad_outcome,
    joint_of,
    long_chains,
    numbers,
    outcome,
    possible_errors,
    primal_of,
    programs,
    tame,
)


def run_and_pull_back(call, inputs, output=0) -> Outcome:
    """The outputs of a compiled function, then the gradients of one of them."""

    def compute():
        leaves = [fg.Value(x) for x in inputs]
        outputs = call(*leaves)
        outputs[output].backward()
        return [out.data for out in outputs] + [leaf.grad for leaf in leaves]

    return flatgrad_outcome(compute)


def compiled(program):
    return fg.compile(lambda *leaves: program.run(leaves))


def errors_of(f, inputs):
    """What may be reported: everything in a kernel's program that raises at these inputs and unit gradients."""
    if not f.kernels:
        # An operation on constants raised while tracing, perhaps another one than the interpreter's first.
        return {ValueError, ZeroDivisionError, OverflowError}
    kernel = f.kernels[0]
    return possible_errors(kernel.program, [*inputs, *[1.0] * (kernel.program.inputs - len(inputs))])


def _sources(f):
    return "\n".join(kernel.source for kernel in f.kernels)


@given(programs(names=set(reference.OPERATIONS)))
def test_interpreter_against_the_reference_engine(program):
    assert_agrees(by_interpreter(program), by_reference(program), program)


@given(long_chains())
@settings(max_examples=examples(20))
def test_long_chains_against_the_reference_engine(program):
    assert_agrees(by_interpreter(program), by_reference(program), program)


@given(programs())
@settings(max_examples=examples(300))
def test_forward_and_backward(program):
    f = compiled(program)
    actual = run_and_pull_back(f, program.inputs)
    assert_agrees(actual, by_interpreter(program), f"{program}\n{_sources(f)}", errors_of(f, program.inputs))


@given(programs())
@settings(max_examples=examples(300))
def test_joint(program):
    f = fg.value_and_grad(lambda *leaves: program.run(leaves)[0], argnums=range(len(program.inputs)))

    def compute():
        value, gradients = f(*program.inputs)
        return [value, *gradients]

    actual = flatgrad_outcome(compute)
    assert_agrees(actual, by_interpreter(program), f"{program}\n{_sources(f)}", errors_of(f, program.inputs))


@given(programs())
def test_the_printed_program_means_the_same(program):
    """`Program.evaluate` of the program that the kernel was made from."""
    f = fg.value_and_grad(lambda *leaves: program.run(leaves)[0], argnums=range(len(program.inputs)))
    expected = by_interpreter(program)
    built = outcome(lambda: [float(f.kernel_for(*program.inputs).stats.equations)])
    if built.error:  # an operation on constants raises, traced or not
        assert built.error is expected.error, program
        return
    traced = f.kernels[0].program.check()
    actual = flatgrad_outcome(lambda: traced.evaluate(program.inputs))
    errors = possible_errors(traced, program.inputs)
    assert_agrees(actual, expected, f"{program}\n{traced}", errors)


@given(programs(max_outputs=3), st.data())
@settings(max_examples=examples(150))
def test_compile_graph_at_other_numbers(program, data):
    """A graph is read where it was built, and runs at other numbers."""
    leaves = [fg.Value(x) for x in program.inputs]
    if by_interpreter(program).error is not None:
        return  # nothing was built
    outputs = program.run(leaves)
    others = data.draw(st.tuples(*[numbers] * len(leaves)))
    output = data.draw(st.integers(0, len(outputs) - 1))
    there = type(program)(others, program.steps, program.outputs)
    graph = fg.compile_graph(outputs, leaves)
    graph.program.check()
    seeds = [1.0] * len(outputs)
    actual = run_and_pull_back(graph, others, output)
    expected = by_interpreter(there, output)
    if expected.error is not actual.error:
        # one backward pass needs less than all outputs together do
        assert {expected.error, actual.error} - {None} <= possible_errors(graph.program, [*others, *seeds]), there
    else:
        assert_agrees(actual, expected, there)


@given(programs(max_outputs=3))
@settings(max_examples=examples(150))
def test_each_of_several_outputs_alone(program):
    f = compiled(program)
    for output in range(len(program.outputs)):
        expected = by_interpreter(program, output)
        actual = run_and_pull_back(f, program.inputs, output)
        assert_agrees(actual, expected, program, errors_of(f, program.inputs))


@given(programs(max_outputs=3), st.data())
@settings(max_examples=examples(150))
def test_several_outputs_that_receive_gradients_together(program, data):
    """The kernel's backward, seeded, against one interpreted backward pass with the same seeds."""
    chosen = data.draw(st.sets(st.sampled_from(range(len(program.outputs))), min_size=1))
    unique = {
        program.outputs[k]: k for k in sorted(chosen, reverse=True)
    }  # a node that is two outputs has one gradient
    seeds = {k: data.draw(numbers) for k in sorted(unique.values())}
    f = compiled(program)

    def compute():
        leaves = [fg.Value(x) for x in program.inputs]
        outputs = f(*leaves)
        fg.runtime.value.backpropagate([outputs[k] for k in seeds], list(seeds.values()))
        return [leaf.grad for leaf in leaves]

    actual = flatgrad_outcome(compute)
    errors = errors_of(f, program.inputs)
    assert_agrees(actual, by_interpreter_seeded(program, seeds), f"{program}\nseeds {seeds}", errors)


@given(programs(inputs=tame), st.data())
def test_numbers_and_values_mixed(program, data):
    """Arguments that are plain numbers are inputs without a gradient."""
    are_values = data.draw(st.lists(st.booleans(), min_size=len(program.inputs), max_size=len(program.inputs)))
    are_values[0] = True

    def compute(call):
        arguments = [fg.Value(x) if flag else x for x, flag in zip(program.inputs, are_values, strict=True)]
        out = call(arguments)
        out.backward()
        return [out.data, *[v.grad for v in arguments if isinstance(v, fg.Value)]]

    f = compiled(program)
    expected = flatgrad_outcome(
        lambda: compute(lambda arguments: _only(program.run(arguments, Interpreted(arguments))))
    )
    actual = flatgrad_outcome(lambda: compute(lambda arguments: _only(f(*arguments))))
    assert_agrees(actual, expected, program, errors_of(f, program.inputs))


def _only(outputs):
    """The single output; interpreted on plain numbers alone it is a number."""
    return outputs[0] if isinstance(outputs[0], fg.Value) else fg.Value(outputs[0])


@given(programs(inputs=tame))
def test_leaves_bound_by_closure(program):
    """`Value`s that the function reaches by itself are read, and receive gradients, as arguments do."""
    leaves = [fg.Value(x) for x in program.inputs]
    f = fg.compile(lambda: program.run(leaves))

    def compute():
        outputs = f()
        outputs[0].backward()
        return [outputs[0].data, *[leaf.grad for leaf in leaves]]

    actual = flatgrad_outcome(compute)
    reached = [leaf.data for leaf in f.kernels[0].leaves] if f.kernels else []
    assert_agrees(actual, by_interpreter(program), f"{program}\n{_sources(f)}", errors_of(f, reached))


@given(programs())
@settings(max_examples=examples(150))
def test_every_prefix_of_the_passes(program):
    """Each pass, and each beginning of the tuple, leaves the meaning as it was: bits and errors."""
    if by_interpreter(program).error is not None:
        return
    primal = primal_of(program).check()
    _check_prefixes(PRIMAL_PASSES, primal, program)
    joint = joint_of(run_passes(PRIMAL_PASSES, primal)).check()
    _check_prefixes(JOINT_PASSES, joint, program)


@given(programs(), st.data())
@settings(max_examples=examples(150))
def test_passes_where_the_program_may_raise(program, data):
    """Traced at one place, evaluated at another, where equations may raise."""
    if by_interpreter(program).error is not None:
        return
    others = data.draw(st.tuples(*[numbers] * len(program.inputs)))
    there = type(program)(others, program.steps, program.outputs)
    primal = primal_of(program)
    _check_prefixes(PRIMAL_PASSES, primal, there)
    _check_prefixes(JOINT_PASSES, joint_of(run_passes(PRIMAL_PASSES, primal)), there)


def _check_prefixes(passes, before, program):
    expected = flatgrad_outcome(lambda: before.evaluate(program.inputs))
    errors = possible_errors(before, program.inputs)
    for count in range(1, len(passes) + 1):
        after = run_passes(passes[:count], before).check()
        actual = flatgrad_outcome(lambda after=after: after.evaluate(program.inputs))
        assert_agrees(actual, expected, f"{program}\n{before}\nbecame\n{after}", errors)


@given(programs())
@settings(max_examples=examples(150))
def test_the_adjoint_against_the_interpreter(program):
    expected = by_interpreter(program)
    try:
        primal = primal_of(program)
    except fg.FlatgradError:
        return  # raises while the graph is built
    joint = joint_of(primal).check()
    actual = flatgrad_outcome(lambda: joint.evaluate(program.inputs))
    assert_agrees(actual, expected, f"{program}\n{joint}", possible_errors(joint, program.inputs))


@pytest.mark.slow
@given(long_chains())
@settings(max_examples=examples(15))
def test_long_chains_compiled(program):
    """Long programs reuse locals and pass through other branches of the emitter."""
    expected = by_interpreter(program)
    f = fg.value_and_grad(lambda *leaves: program.run(leaves)[0], argnums=(0, 1))
    value, gradients = f(*program.inputs)
    assert_same([value, *gradients], expected.numbers, program)
    assert run_and_pull_back(compiled(program), program.inputs).bits == expected.bits, program


@pytest.mark.parametrize("x", [-0.0, 0.0, math.inf, math.nan, 5e-324, -5e-324, 1e308])
@pytest.mark.parametrize("name", ["add", "mul", "maximum"])
def test_signed_zeros_and_extremes_of_simple_operations(name, x):
    """The gradient's sum begins at +0.0, in every engine."""
    operation = fg.runtime.primitives.BY_NAME[name]
    for y in (-0.0, 0.0, -1.0, math.nan):
        a, b = fg.Value(x), fg.Value(y)
        out = operation(a, b) * -0.0
        out.backward()
        value, gradients = fg.value_and_grad(lambda a, b: operation(a, b) * -0.0, argnums=(0, 1))(x, y)
        assert_same([value, *gradients], [out.data, a.grad, b.grad], f"{name}({x}, {y})")


def test_a_gradient_of_minus_zero_becomes_plus_zero():
    """0.0 + -0.0 is 0.0: the sum of a leaf's gradient begins at +0.0."""
    x = fg.Value(1.0)
    (x * -0.0).backward()
    assert_same([x.grad], [0.0])
    assert_same([fg.grad(lambda x: x * -0.0)(1.0)], [0.0])


def test_names_of_residuals_do_not_collide_with_those_of_the_backward_function():
    """Residuals keep their forward names; the backward function's own variables must have others."""

    def f(x):
        for _ in range(20):
            x = (x + x).tanh() * 1.5
        return x

    x, other = fg.Value(0.25), fg.Value(0.25)
    f(x).backward()
    fg.compile(f)(other).backward()
    assert_same([other.grad], [x.grad])


def test_no_partial_is_computed_into_a_detached_number():
    """At 0 the partial of sqrt raises, but no gradient is asked for there."""
    for x in (fg.Value(0.0), fg.Value(0.0)):
        y = fg.sqrt(fg.detach(x)) + x
        y.backward()
        assert_same([y.data, x.grad], [0.0, 1.0])
    assert fg.value_and_grad(lambda x: fg.sqrt(fg.detach(x)) + x)(0.0) == (0.0, 1.0)


def test_an_output_that_is_returned_twice_receives_two_seeds():
    """One contribution in all, and sums of seeds, which come from no equation."""
    x, y = fg.Value(2.0), fg.Value(3.0)
    first, second, _ = fg.compile(lambda x, y: (y, y, fg.minimum(1.5, x)))(x, y)
    first.backward()
    second.backward()
    assert (x.grad, y.grad) == (0.0, 2.0)
