"""Renumbering keeps every column: random programs, equations of any number of operands, any choice of equations.

What is expected is said equation by equation, through views; nothing is evaluated, and so nothing has to be meaningful.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.extract import extract, renumbering
from flatgrad.compiler.program.program import Group, Program
from flatgrad.compiler.program.rewriter import Rewriter
from flatgrad.runtime.primitives import TABLE
from flatgrad.runtime.sites import Location
from tests.compiler.test_columns import full

CONSTANTS = (0.0, -0.0, 1.5, math.nan, True, False)
LINES = [Location("model.py", line) for line in range(1, 5)]


@st.composite
def programs(draw, least=0):
    """A program with something in every column; equations have between no and five operands."""
    inputs = draw(st.integers(1, 4))
    single = draw(st.booleans())
    groups = [Group(f"a{k}", 1, True) for k in range(inputs)] if single else [Group("x", inputs, False)]
    truths = draw(st.frozensets(st.integers(0, inputs - 1)))
    builder = ProgramBuilder("random", groups, truth_inputs=truths, numbering=draw(st.integers(0, 9)))
    program = builder.program
    program.locations, program.foreign_names = list(LINES), ["v1", "y"]
    for number in CONSTANTS:
        builder.constant(number)
    for _ in range(draw(st.integers(least, 12))):
        operands = draw(st.lists(st.integers(-len(CONSTANTS), builder.next - 1), max_size=5))
        opcode = draw(st.integers(0, len(TABLE) - 1))
        builder.append(opcode, operands, draw(st.integers(-1, 3)), draw(st.integers(-3, builder.next - 1)))
    count = len(builder)
    outputs = draw(st.lists(st.integers(-len(CONSTANTS), builder.next - 1), min_size=1, max_size=4))
    program.update = draw(st.integers(-1, count))
    groups = [Group("value", 1, True), Group("guards", len(outputs) - 1, False)]
    return builder.finish(outputs, groups, draw(st.integers(0, count)))


def needed(program, wanted, stops=()):
    """The equations that some operands depend on, up to the variables `stops`, and the inputs among what is read."""
    equations, read, stack = set(), set(), list(wanted)
    while stack:
        operand = stack.pop()
        if operand in stops or 0 <= operand < program.inputs:
            read.add(operand)
        elif operand >= 0 and operand - program.inputs not in equations:
            equations.add(operand - program.inputs)
            stack += program.equation(operand - program.inputs).operands
    return sorted(equations), sorted(read)


def meaning(program, operand, name):
    """An operand as something that does not depend on numbers: a variable's name, or how a constant is written."""
    return name[operand] if operand >= 0 else repr(program.constants[~operand])


def target_of(program, index, name, foreign):
    """Whose adjoint an equation accumulates; None for nobody's, or for one that has no name here."""
    target = program.adjoint_of[index]
    if target < -1:
        return "foreign", program.foreign_names[-2 - target]
    return None if target < 0 else name[target] if target in name else foreign(target)


def equations_of(program, indices, name, foreign=lambda target: None):
    return [
        (
            name[view.variable],
            view.primitive,
            [meaning(program, operand, name) for operand in view.operands],
            view.location,
            target_of(program, index, name, foreign),
        )
        for index, view in ((index, program.equation(index)) for index in indices)
    ]


def assert_like(part, whole, inputs, equations, foreign=lambda target: None):
    """`part` consists of these variables and equations of `whole`."""
    numbers = [*inputs, *(whole.inputs + index for index in equations)]
    old = {variable: variable for variable in numbers}
    new = dict(enumerate(numbers))
    assert len(part.opcodes) == len(part.sites) == len(part.adjoint_of) == len(part.starts) - 1 == len(equations)
    assert part.starts[0] == 0
    assert part.starts[-1] == len(part.operands)
    assert equations_of(part, range(len(part)), new) == equations_of(whole, equations, old, foreign)
    assert part.truth_inputs == {k for k, variable in enumerate(inputs) if whole.kind_of(variable) == "b"}
    assert part.primal == sum(index < whole.primal for index in equations)
    assert part.update == (sum(index < whole.update for index in equations) if whole.update >= 0 else -1)
    return new


@given(programs(), st.data())
def test_a_choice_of_equations_keeps_every_column(program, data):
    equations, _ = needed(
        program, [*program.outputs, *data.draw(st.lists(st.integers(0, program.inputs + len(program) - 1)))]
    )
    before = dataclasses.replace(program)
    where = renumbering([*range(program.inputs), *(program.inputs + index for index in equations)])
    result = ProgramBuilder.like(program).rebuild(program, equations, where)
    new = assert_like(result, program, range(program.inputs), equations)
    old = {variable: variable for variable in range(program.inputs + len(program))}
    assert [meaning(result, o, new) for o in result.outputs] == [meaning(program, o, old) for o in program.outputs]
    for name in ("name", "input_names", "input_groups", "output_groups", "locations", "foreign_names", "numbering"):
        assert getattr(result, name) == getattr(program, name), name
    assert program == before


@pytest.mark.parametrize("as_range", [False, True])
@given(programs(), st.data())
def test_a_part_keeps_every_column(as_range, program, data):
    """Adjoints of what is outside lose their name, or get that of a variable of another program."""
    variables = program.inputs + len(program)
    wanted = data.draw(st.lists(st.integers(-len(CONSTANTS), variables - 1), min_size=1, max_size=3))
    equations, inputs = needed(program, wanted, set(data.draw(st.lists(st.integers(0, variables - 1)))))
    if as_range:
        first = equations[0] if equations else 0
        equations = range(first, equations[-1] + 1 if equations else 0)
        read = {o for index in equations for o in program.equation(index).operands} | set(wanted)
        inputs = sorted(v for v in read if v >= 0 and v - program.inputs not in equations)
    named = data.draw(st.booleans())
    groups = [Group("r", len(inputs), False)], [Group("s", len(wanted), False)]
    outside = (lambda target: f"o{target}") if named else None
    part = extract(program, inputs, equations, wanted, groups, outside=outside)
    foreign = (lambda target: ("foreign", f"o{target}")) if named else (lambda target: None)
    new = assert_like(part, program, inputs, equations, foreign)
    old = {variable: variable for variable in range(variables)}
    assert [meaning(part, o, new) for o in part.outputs] == [meaning(program, o, old) for o in wanted]
    assert part.input_names == list(map(program.plain_name, inputs))
    assert (part.input_groups, part.output_groups) == groups
    if as_range:
        assert [part.plain_name(len(inputs) + k) for k in range(len(part))] == [
            program.plain_name(program.inputs + index) for index in equations
        ]


@given(programs(), st.data())
def test_a_rewritten_program_keeps_every_column(program, data):
    """Each equation is kept, with or without one in front of it, or is replaced by an input or a constant."""
    choices = data.draw(st.lists(st.sampled_from("kir"), min_size=len(program), max_size=len(program)))
    rewriter = Rewriter(program)
    gone = {variable: variable for variable in range(program.inputs)}  # where each variable goes, told step by step
    expected = []
    count = program.inputs
    for index, (opcode, refs) in enumerate(rewriter.equations()):
        view = program.equation(index)
        if choices[index] == "r":
            rewriter.replace(0 if index % 2 else rewriter.constant(2.5))
            gone[view.variable] = 0 if index % 2 else "2.5"
            continue
        operands = [meaning(program, operand, gone) for operand in view.operands]
        if choices[index] == "i":
            assert rewriter.insert(0, refs) == count
            expected.append((count, TABLE[0], operands, view.location, None))
            count += 1
        assert rewriter.keep(opcode, refs) == count
        gone[view.variable] = count
        target = target_of(program, index, gone, lambda target: None)
        expected.append((count, view.primitive, operands, view.location, None if target == "2.5" else target))
        count += 1
    result = rewriter.finish()
    assert equations_of(result, range(len(result)), {v: v for v in range(count)}) == expected
    sizes = [{"k": 1, "i": 2, "r": 0}[choice] for choice in choices]
    assert result.primal == sum(sizes[: program.primal])
    assert result.update == (sum(sizes[: program.update]) if program.update >= 0 else -1)
    assert (result.truth_inputs, result.numbering) == (program.truth_inputs, program.numbering)


def test_no_column_of_a_program_is_forgotten():
    """`full` has something in every column: what renumbering does not know of is missing in the result."""
    program = full()
    rebuilt = ProgramBuilder.like(program).rebuild(program, range(len(program)), np.arange(100).__getitem__)
    for field in dataclasses.fields(Program):
        assert getattr(rebuilt, field.name) == getattr(program, field.name), f"{field.name} is not renumbered"


@given(programs(), programs(least=1), st.data())
def test_a_program_taken_behind_another_keeps_every_column(first, second, data):
    """As a call is inlined: inputs become any operands, lines get other numbers, names of other programs stay."""
    second.foreign_names = ["w", "v7"]
    builder = ProgramBuilder("both", first.input_groups, first.input_names)
    builder.take(first, range(len(first)), np.arange(first.inputs + len(first)).__getitem__)
    behind = builder.next
    inputs = data.draw(st.lists(st.integers(0, behind - 1), min_size=second.inputs, max_size=second.inputs))
    where = np.array([*inputs, *range(behind, behind + len(second))])
    sites = [3, 2, 1, 0]
    moved = builder.take(second, range(len(second)), where.__getitem__, sites=sites)
    result = builder.finish(moved(second.outputs))
    names = dict(enumerate(where.tolist()))
    same = {variable: variable for variable in range(len(result) + result.inputs)}
    expected = [
        (variable, primitive, operands, None if line is None else LINES[sites[LINES.index(line)]], target)
        for variable, primitive, operands, line, target in equations_of(second, range(len(second)), names)
    ]
    assert equations_of(result, range(len(first)), same) == equations_of(first, range(len(first)), same)
    assert equations_of(result, range(len(first), len(result)), same) == expected
    assert [meaning(result, o, same) for o in result.outputs] == [meaning(second, o, names) for o in second.outputs]
    assert result.primal == first.primal
    if second.update >= 0:
        assert result.update == len(first) + second.update
