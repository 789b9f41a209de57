"""Very large programs are cut into functions: the cut changes no bit, and every part is of bounded size."""

from __future__ import annotations

import ast
import contextlib

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.languages import python as emitter
from flatgrad.compiler.program.passes import JOINT_PASSES, run_passes
from flatgrad.compiler.program.split import split
from tests.bits import assert_same
from tests.examples import examples
from tests.programs import (
    assert_agrees,
    by_interpreter,
    flatgrad_outcome,
    joint_of,
    long_chains,
    possible_errors,
    primal_of,
    programs,
    tame,
)

pytestmark = pytest.mark.usefixtures("flat")


@contextlib.contextmanager
def small_functions(part=4, threshold=5):
    """Split programs of more than a few equations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emitter, "_SPLIT", threshold)
        patch.setattr(emitter, "_PART", part)
        yield


def composed(parts, inputs):
    """What the parts compute, one after the other, with a workspace between them."""
    workspace = list(inputs)
    for part, places in parts[:-1]:
        workspace += part.evaluate([workspace[place] for place in places])
    part, places = parts[-1]
    return part.evaluate([workspace[place] for place in places])


def parts_of(source, function):
    """The names and sizes (in statements) of the functions that one function was split into."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {f.name: len(f.body) for f in functions if f.name.startswith(f"_{function}_")}


# --- split itself -----------------------------------------------------------------------------------------------------


@given(programs(max_steps=20, max_outputs=3), st.integers(2, 12))
@settings(max_examples=examples(150))
def test_parts_compose(program, limit):
    try:
        joint = joint_of(primal_of(program))
    except fg.FlatgradError:
        return
    joint = run_passes(JOINT_PASSES, joint)
    parts = split(joint, limit)
    kinds = [joint.kind_of(variable) for variable in range(joint.inputs)]
    for part, places in parts:
        assert len(part) <= 1.5 * limit
        assert len(places) == part.inputs
        kinds += [part.kind_of(output) for output in part.outputs]
        if all(kinds[place] == "f" for place in places):
            part.check()
    assert sum(len(part) for part, _ in parts) == len(joint)
    assert parts[-1].program.output_groups == joint.output_groups
    expected = flatgrad_outcome(lambda: joint.evaluate(program.inputs))
    actual = flatgrad_outcome(lambda: composed(parts, program.inputs))
    assert_agrees(actual, expected, f"{program}\n{joint}", possible_errors(joint, program.inputs))


def test_a_condition_that_crosses_a_cut():
    """It is read in a later part, as the truth value that it is."""

    def f(x, y):
        condition = x < y
        for _ in range(6):
            x = x.tanh() * y
        return fg.where(condition, x, y)

    joint = run_passes(JOINT_PASSES, fg.value_and_grad(f, argnums=(0, 1)).kernel_for(0.25, 0.5).program)
    parts = split(joint, 4)
    assert len(parts) > 3
    for point in ((0.25, 0.5), (0.5, 0.25)):
        assert_same(composed(parts, point), joint.evaluate(point))
    for part, _ in parts:
        part.check()


@given(long_chains(), st.integers(5, 60))
@settings(max_examples=examples(15))
def test_parts_of_long_chains(program, limit):
    joint = joint_of(primal_of(program))
    parts = split(joint, limit)
    assert len(joint) / (1.5 * limit) <= len(parts) <= len(joint) / (limit * 3 // 4) + 1
    for part, _ in parts:
        part.check()
    assert_same(composed(parts, program.inputs), joint.evaluate(program.inputs), program)


def test_parts_take_only_what_they_read_and_hand_on_only_what_is_read():
    def f(x, y):
        for _ in range(30):
            x = (x * y).tanh()
        return x

    joint = run_passes(JOINT_PASSES, fg.value_and_grad(f, argnums=(0, 1)).kernel_for(0.5, 0.5).program)
    parts = split(joint, 20)
    assert len(parts) > 3
    filled = joint.inputs
    read_later = [{place for _, places in parts[k + 1 :] for place in places} for k in range(len(parts))]
    for k, (part, places) in enumerate(parts):
        assert len(set(places)) == len(places)
        assert set(places) <= set(range(filled)), "it reads what is there"
        operands = {operand for equation in part.equations() for operand in equation.operands} | set(part.outputs)
        assert set(range(part.inputs)) <= operands, "it takes nothing that it does not read"
        if k + 1 < len(parts):
            end = filled + len(part.outputs)
            assert set(range(filled, end)) <= read_later[k], "it hands on nothing that nobody reads"
            filled = end


def test_cuts_are_where_few_values_are_alive():
    """Wide stages that meet in one number: the cuts fall where only that number (and x) goes on."""

    def f(x):
        total = x
        for _ in range(8):
            terms = [total * (k + 0.5) for k in range(20)]
            total = sum(terms).tanh()
        return total

    program = fg.compile(f).kernel_for(0.5).program
    parts = split(program, 41)
    assert len(parts) == pytest.approx(8, abs=1)
    assert all(len(part.outputs) <= 2 for part, _ in parts)


def test_constants_and_lines_go_along():
    program = fg.value_and_grad(lambda x: ((x * 2.5 + 7.0) * 2.5).exp() * 7.0).kernel_for(0.1).program
    parts = split(program, 2)
    assert len(parts) > 2
    for part, _ in parts:
        used = {o for e in part.equations() for o in e.operands if o < 0} | {o for o in part.outputs if o < 0}
        assert len(used) == len(part.constants), "each constant of a part is used in it"
    lines = [equation.location for part, _ in parts for equation in part.equations()]
    assert lines == [equation.location for equation in program.equations()]
    assert any(line is not None for line in lines)


# --- split kernels ----------------------------------------------------------------------------------------------------


@given(programs(max_steps=16), st.integers(2, 9))
@settings(max_examples=examples(100))
def test_split_joint_kernels(program, part):
    places = tuple(range(len(program.inputs)))

    def compute(f):
        value, gradients = f(*program.inputs)
        return [value, *gradients]

    whole = fg.value_and_grad(lambda *xs: program.run(xs)[0], argnums=places)
    unsplit = flatgrad_outcome(lambda: compute(whole))
    with small_functions(part, part + 1):
        cut = fg.value_and_grad(lambda *xs: program.run(xs)[0], argnums=places)
        actual = flatgrad_outcome(lambda: compute(cut))
    if not cut.kernels:
        assert actual.error is unsplit.error is not None
        return
    kernel = cut.kernels[0]
    report = f"{program}\n{kernel.source}"
    errors = possible_errors(kernel.program, program.inputs)
    assert_agrees(actual, unsplit, report, errors)
    assert_agrees(actual, flatgrad_outcome(lambda: kernel.program.evaluate(program.inputs)), report, errors)
    assert_agrees(actual, by_interpreter(program), report, errors)
    size = len(kernel.program)
    functions = parts_of(kernel.source, "value_and_grad")
    assert bool(functions) == (size > part + 1), report
    if functions:
        assert size / (1.5 * part) <= len(functions) <= size / (part * 3 // 4) + 1, report


@given(programs(max_steps=16, max_outputs=2))
@settings(max_examples=examples(60))
def test_split_forward_and_backward(program):
    expected = by_interpreter(program)
    assume(expected.error is None)
    with small_functions():
        f = fg.compile(lambda *xs: program.run(xs))

        def compute():
            leaves = [fg.Value(x) for x in program.inputs]
            outputs = f(*leaves)
            outputs[0].backward()
            return [out.data for out in outputs] + [leaf.grad for leaf in leaves]

        actual = flatgrad_outcome(compute)
    assert_agrees(actual, expected, f"{program}\n{f.kernels[0].source}")


@given(long_chains(), st.integers(10, 80))
@settings(max_examples=examples(12))
def test_split_long_chains(program, part):
    expected = by_interpreter(program)
    with small_functions(part, part):
        f = fg.value_and_grad(lambda *xs: program.run(xs)[0], argnums=(0, 1))
        value, gradients = f(*program.inputs)
    assert_same([value, *gradients], expected.numbers, program)
    kernel = f.kernels[0]
    functions = parts_of(kernel.source, "value_and_grad")
    size = len(kernel.program)
    if size > part:
        assert size / (1.5 * part) <= len(functions) <= size / (part * 3 // 4) + 1
        # Statements for the equations, for reading the workspace, and one for appending to it.
        assert max(functions.values()) <= 1.5 * part + 1.5 * part + 2
    else:
        assert not functions


@pytest.mark.parametrize("names", ["wx", "xw", "wv", "vt", "_w"])
def test_arguments_with_the_names_that_parts_use(names):
    """`w` is what the workspace is called, and what people call their weights."""
    first, second = names
    namespace = {}
    exec(f"def f({first}, {second}):\n    {first} = {first} * {second} + {second}\n    return body({first}, {second})",
         namespace)  # fmt: skip

    def body(x, y):
        for _ in range(10):
            x = (x * y + y * y).tanh()
        return x * y

    namespace["body"] = body
    expected = fg.value_and_grad(namespace["f"], argnums=(0, 1))(0.5, 0.25)
    with small_functions(4, 5):
        f = fg.value_and_grad(namespace["f"], argnums=(0, 1))
        assert f(0.5, 0.25) == expected, f.kernels[0].source
        g = fg.compile(namespace["f"])
        x, y = fg.Value(0.5), fg.Value(0.25)
        out = g(x, y)
        out.backward()
        assert (out.data, (x.grad, y.grad)) == expected, g.kernels[0].source
    assert len(parts_of(f.kernels[0].source, "value_and_grad")) > 3


def test_labels_with_the_names_that_parts_use():
    labels = ["w", "_forward_1", "part1", "v3", "t0", "value_and_grad"]
    leaves = [fg.Value(0.5 + k, label=label) for k, label in enumerate(labels)]

    def f(x):
        for leaf in leaves * 3:
            x = (x * leaf).tanh() + leaf
        return x

    expected = fg.value_and_grad(f, wrt=leaves)(0.3)
    with small_functions(5, 6):
        assert fg.value_and_grad(f, wrt=leaves)(0.3) == expected


@given(st.lists(tame, min_size=40, max_size=40))
@settings(max_examples=10)
def test_lists_in_and_out_of_split_kernels(numbers):
    f = lambda xs, k: sum(x * x * k for x in xs) * xs[0]  # noqa: E731
    expected = fg.value_and_grad(f, argnums=(0, 1))(numbers, 0.5)
    with small_functions(9, 10):
        cut = fg.value_and_grad(f, argnums=(0, 1))
        actual = cut(numbers, 0.5)
    assert_same([actual[0], *actual[1][0], actual[1][1]], [expected[0], *expected[1][0], expected[1][1]])
    assert len(parts_of(cut.kernels[0].source, "value_and_grad")) > 5


def test_errors_of_split_kernels_name_the_users_line():
    def f(x):
        for _ in range(10):
            x = x - 1.0
        return x.log() + x * x

    with small_functions(4, 5):
        gradient = fg.value_and_grad(f)
        with pytest.raises(fg.DomainError, match=r"log\(-5\.0\)[^\0]*test_split\.py[^\0]*return x\.log\(\)"):
            gradient(5.0)
        assert gradient(12.0)[1] == 0.5 + 4.0


def test_a_long_chain_at_the_thresholds_as_they_are():
    """200,000 equations are still one function, which compiles."""
    length = 100_000

    def f(x):
        for _ in range(length // 2):
            x = x * 0.99999 + 1e-6
        return x

    graph = fg.value_and_grad(f)
    value, gradient = graph(3.0)
    expected, bar = 3.0, 1.0
    for _ in range(length // 2):
        expected = expected * 0.99999 + 1e-6
        bar = 0.99999 * bar
    assert (value, gradient) == (expected, bar)
    assert len(graph.kernels[0].program) >= length
    assert parts_of(graph.kernels[0].source, "value_and_grad") == {}
