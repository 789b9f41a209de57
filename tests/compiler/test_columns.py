"""What copies equations copies every column: names, lines, kinds and sections stay with the equations they belong to.

The program of these tests has something in every column.
"""

from __future__ import annotations

import dataclasses
from array import array

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.compiler.program.adjoint import adjoint
from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.partition import partition
from flatgrad.compiler.program.passes import JOINT_PASSES, run_passes
from flatgrad.compiler.program.passes.common_subexpressions import share_common_subexpressions
from flatgrad.compiler.program.passes.constants import fold_constants
from flatgrad.compiler.program.passes.dead_code import remove_dead_code
from flatgrad.compiler.program.passes.simplify import simplify
from flatgrad.compiler.program.program import Group, Program
from flatgrad.compiler.program.split import split
from flatgrad.compiler.program.trace import Trace
from flatgrad.runtime.sites import Location
from flatgrad.runtime.tracing import recording
from flatgrad.runtime.value import Value

FOREIGN = -2  # an entry of `adjoint_of`: the first of the foreign names


def full() -> Program:
    """A program with something in every column, whose equations are all needed."""
    builder = ProgramBuilder("full", [Group("x", 2, False), Group("c", 1, True)], ["x0", "x1", "c"])
    program = builder.program
    program.truth_inputs, program.numbering = frozenset([2]), 10
    program.locations = [Location("model.py", 3), Location("model.py", 4)]
    program.foreign_names = ["v4"]
    product = builder.append(*_operation("mul", 0, 1), 0)
    chosen = builder.append(*_operation("where", 2, product, 0), 1)
    adjoint_of_product = builder.append(*_operation("mul", chosen, builder.constant(3.0)), 0, product)
    adjoint_of_x = builder.append(*_operation("mul", adjoint_of_product, 1), 0, 0)
    foreign = builder.append(*_operation("add", adjoint_of_x, 0), -1, FOREIGN)
    new = builder.append(*_operation("sub", 0, foreign), 1)
    program.update = 5
    return builder.finish([chosen, new], [Group("value", 1, True), Group("new", 1, True)], primal=2).check()


def _operation(name, *operands):
    from flatgrad.runtime.primitives import BY_NAME

    return BY_NAME[name].opcode, operands


TEXT = """\
program full(x=[x0, x1], c):
    v13 = mul x0 x1                      # model.py:3
    v14 = where c v13 x0                 # model.py:4
    v13_bar = mul v14 3.0                # model.py:3
    x0_bar = mul v13_bar x1
    v4_bar = add x0_bar x0
    v18 = sub x0 v4_bar                  # model.py:4
    return v14, v18"""


def test_every_column_is_filled():
    program = full()
    assert str(program) == TEXT
    empty = Program("full", [], [])
    for field in dataclasses.fields(Program):
        if field.name != "name":
            assert getattr(program, field.name) != getattr(empty, field.name), f"{field.name} is empty"


@pytest.mark.parametrize("transform", [fold_constants, simplify, share_common_subexpressions, remove_dead_code])
def test_a_pass_keeps_every_column(transform):
    """Before what each of them removes stands the program that is left."""
    program = full()
    before = ProgramBuilder.like(program)
    one = before.append(*_operation("mul", before.constant(1.0), before.constant(1.0)), 0)  # folded
    before.append(*_operation("exp", 0), 0)  # never used
    first = before.append(*_operation("mul", 0, 1), 0)
    second = before.append(*_operation("mul", 0, 1), 0)  # computed twice
    product = before.append(*_operation("mul", second, one), 0)  # times 1.0
    assert first != second
    # The product is the first equation of the program; the others follow.
    where = np.array([*range(program.inputs), *range(product, product + len(program))])
    larger = before.rebuild(program, range(1, len(program)), where.__getitem__)
    larger.primal = program.primal + product - program.inputs
    larger.check()

    once = transform(larger)
    assert len(once) < len(larger)
    passed = run_passes((*JOINT_PASSES, *JOINT_PASSES), once)
    assert str(passed) == TEXT
    for field in dataclasses.fields(Program):
        assert getattr(passed, field.name) == getattr(full(), field.name), field.name


@pytest.mark.parametrize("seeded", [False, True])
def test_the_adjoint_keeps_every_column_of_the_primal_part(seeded):
    program = full()
    joint = adjoint(program, [0], seeded=seeded).check()
    names = [line.split(" #")[0].rstrip() for line in TEXT.splitlines()[1:-1]]
    if seeded:  # two more inputs
        names = [_renumbered(line, 2) for line in names]
    # `v4_bar` is a name of another program's variable.
    assert [line.replace("v6_bar", "v4_bar") for line in names] == _with_their_own_adjoints(joint, program)
    assert list(joint.sites[: len(program)]) == list(program.sites)
    assert joint.locations == program.locations
    assert joint.truth_inputs == program.truth_inputs
    assert joint.primal == len(program)
    x0, x1 = 0.5, -1.25
    for condition in (True, False):
        assert joint.evaluate([x0, x1, condition, *([1.0, 1.0] if seeded else [])])[:2] == program.evaluate(
            [x0, x1, condition]
        )


def _renumbered(text, shift):
    words = text.split(" ")
    return " ".join(
        f"v{int(word[1:].removesuffix('_bar')) + shift}{'_bar' if word.endswith('_bar') else ''}"
        if word[:1] == "v" and word[1:].removesuffix("_bar").isdigit()
        else word
        for word in words
    )


def _with_their_own_adjoints(joint, program):
    """The printed equations of the primal part, named as if no later equation went on with their sums."""
    alone = dataclasses.replace(
        joint,
        opcodes=joint.opcodes[: len(program)],
        starts=joint.starts[: len(program) + 1],
        operands=joint.operands[: joint.starts[len(program)]],
        sites=joint.sites[: len(program)],
        adjoint_of=joint.adjoint_of[: len(program)],
        outputs=joint.outputs[: len(program.outputs)],
        output_groups=program.output_groups,
    )
    return [line.split(" #")[0].rstrip() for line in str(alone).splitlines()[1:-1]]


def test_the_parts_of_a_partition_keep_every_column():
    joint = adjoint(full(), [0, 1], seeded=True)
    first = len(joint) - joint.primal
    assert first > 0
    forward, backward, residuals = partition(joint, 2, 2)
    forward.check()
    backward.check()
    assert str(forward).splitlines()[1:-1] == TEXT.splitlines()[1:-1]
    assert forward.truth_inputs == {2}
    assert backward.truth_inputs == {k for k, v in enumerate(residuals) if joint.kind_of(v) == "b"}
    assert 2 in residuals
    text = str(backward)
    # The names of the forward program, not those of the joint one, which has two more inputs.
    assert f"residuals=[{', '.join(backward.input_names[: len(residuals)])}]" in text
    assert set(backward.input_names[: len(residuals)]) <= {"x0", "x1", "c", "v13", "v14", "v15", "v16", "v17"}
    assert "v14_bar = add" in text
    assert "v16_bar" not in text
    everything = joint.evaluate([0.5, -1.25, True, 1.0, 2.0])
    results = forward.evaluate([0.5, -1.25, True])
    assert results[:2] == everything[:2]
    assert backward.evaluate([*results[2:], 1.0, 2.0]) == everything[2:]


def test_a_partition_keeps_foreign_names_and_where_the_update_begins():
    program = full()
    program.primal = 2
    forward, backward, _ = partition(program, 1, 0)
    assert forward.update == len(forward)
    assert backward.update == program.update - 2
    names = [backward.name_of(backward.inputs + k) for k in range(len(backward))]
    assert names == [
        "v13_bar",
        "x0_bar",
        "v4_bar",
        "v18",
    ]


def test_the_parts_of_a_large_program_keep_every_column():
    program = full()
    parts = [part for part, _ in split(program, 2)]
    assert len(parts) > 1
    lines = [line for part in parts for line in str(part.check()).splitlines()[1:-1]]
    written = [line.split("=")[0].strip() for line in lines]
    # `v13` is not at hand where its adjoint is computed: that has a number for its name.
    assert written == ["v13", "v14", "v15", "x0_bar", "v4_bar", "v18"]
    assert [part.update for part in parts] == [
        min(max(program.update - start, 0), len(part))
        for start, part in zip(np.cumsum([0, *map(len, parts)]), parts, strict=False)
    ]
    assert [site for part in parts for site in part.sites] == list(program.sites)
    assert all(part.locations == program.locations for part in parts)


@pytest.mark.parametrize("leaves", [0, 1])
def test_inlining_keeps_names_and_lines(leaves):
    program = full()
    program.truth_inputs, program.numbering = frozenset(), 0
    program.opcodes[1] = _operation("add")[0]
    program.operands = array("q", [o for k, o in enumerate(program.operands) if k != 2])
    program.starts = array("q", [0, *(s - 1 for s in program.starts[2:])])
    program.starts.insert(1, 2)
    program.check()
    trace = Trace("outer", [Group("a", 1, True), Group("b", 1, True)], ["a", "b"])
    leaf = Value(2.0, label="w")
    with recording(trace):
        a, b = trace.value(0), trace.value(1)
        start = b * leaf if leaves else b
        outputs = trace.inline(program, [a, start, 0.0])
    outer = trace.finish(outputs).check()
    text = str(outer)
    assert outer.locations[-2:] == program.locations
    assert "v4_bar = add a_bar a" in text
    assert f"v{outer.inputs + leaves}_bar = mul" in text


def test_inlining_of_a_program_with_more_constants_than_variables():
    """Constants are numbered from the end, so that their numbers may lie outside of a short program."""
    outer, inner = (Trace(name, [Group("x", 1, True)], ["x"]) for name in ("outer", "inner"))
    program = inner.finish([inner.value(0), 1.0, 2.0, 3.0])
    assert [each.data for each in outer.inline(program, [outer.value(0)])[1:]] == [1.0, 2.0, 3.0]


def test_inlining_with_a_constant_argument_gives_it_no_adjoint():
    inner = fg.grad(lambda x: x[0] * x[1] * x[0])
    outer = fg.compile(lambda a: inner([a, 2.0])[1] * a)
    program = outer.kernel_for(1.0).program.check()
    assert all(target < program.inputs + len(program) for target in program.adjoint_of)
    assert not program.foreign_names
    assert "_bar" not in str(program)


# --- printed as they are for users ------------------------------------------------------------------------------------


def test_names_of_a_compiled_gradient():
    w = fg.Value(0.5, label="w")

    def inner(x):
        v = x[0] * x[1]
        return v.sin() * v * v.exp() * w

    gradient = fg.grad(inner)
    text = str(fg.compile(lambda a, b: gradient([a, b])[0]).kernel_for(1.0, 2.0).program)
    assert "v4_bar = add v13 v15" in text
    assert "a_bar = add v17 0.0" in text
    assert "_bar_bar" not in text


def test_an_argument_may_be_called_as_an_outputs_gradient_is():
    """The gradient of `output0` is not the gradient of the first output."""

    def both(output0, y):
        return output0 * output0 * y, y * output0

    compiled = fg.compile(both, backend="python")
    gradients = []
    for function in (both, compiled):
        output0, y = fg.Value(3.0), fg.Value(2.0)
        first, second = function(output0, y)
        (first * 2.0 + second * 3.0).backward()
        gradients.append((output0.grad, y.grad))
    assert gradients == [(30.0, 27.0), (30.0, 27.0)]
    names = compiled.kernel_for(3.0, 2.0).program.input_names
    assert len(set(names)) == len(names)
    assert "output0_bar" not in names
