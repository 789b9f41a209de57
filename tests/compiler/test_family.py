"""Families of programs: members against programs traced at their size, the checker, the printer, the digest."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.family import Count, Family, Part, Run, Stretch, references
from flatgrad.compiler.program.groups import Group
from flatgrad.compiler.program.program import Program
from flatgrad.compiler.program.trace import trace_function
from flatgrad.runtime.primitives import BY_NAME


def stretch(count: Count, *equations: tuple[Any, ...]) -> Stretch:
    """A stretch of equations, each a name and its references."""
    rows = [list(row) for _, *refs in equations for row in refs]
    starts = array("q", np.cumsum([0, *(len(refs) for _, *refs in equations)]).tolist())
    opcodes = array("H", [BY_NAME[name].opcode for name, *_ in equations])
    return Stretch(len(equations), count, opcodes, starts, references(rows), array("i", [-1] * len(equations)))


def filter_family(n: int) -> Family:
    """y = 2 y + x[r], of n + 1 numbers x and a first y; all y are returned, then x read backwards is added."""
    inputs = [Stretch(1, Count(1, 0)), Stretch(1)]
    first = stretch(Count(), ("mul", (1, 0), (-1, 0)), ("add", (2, 0), (0, 0)))
    rest = stretch(Count(0, 0), ("mul", (3, 1, 1, -1), (-1, 0)), ("add", (3, 0, 1), (0, 0, 1, 1)))
    back = stretch(Count(0, 0), ("add", (3, 1, -1, -1, 1), (0, 0, -1, -1, 1)))
    outputs = [Run(references([(3, 1, 1)]), Count(0, 0)), Run(references([(4, 0, 0, -1, 1)]))]
    names = [*(f"x{k}" for k in range(n + 1)), "y"]
    return Family(
        "f", names, [Part("x", False), Part("y", True)], inputs, [first, rest, back], outputs,
        [Part("all", False), Part("last", True)], [2.0], [], (n,),
    )  # fmt: skip


def filter_program(n: int) -> Program:
    """The same, traced."""

    def function(inputs: list[Any]) -> Any:
        *x, y = inputs
        y = 2.0 * y + x[0]
        states, sums = [], []
        for number in x[1:]:
            y = 2.0 * y + number
            states.append(y)
        for y, number in zip(reversed(states), reversed(x), strict=False):
            sums.append(y + number)
        return None, [*states, sums[-1]]

    groups = [Group("x", n + 1, False), Group("y", 1, True)]
    program = trace_function(function, "f", groups, [*(f"x{k}" for k in range(n + 1)), "y"], sites=False).program
    program.output_groups = [Group("all", n, False), Group("last", 1, True)]
    return program


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100])
def test_members_are_the_programs_traced_at_their_sizes(n: int) -> None:
    family = filter_family(10).check()
    assert family.at((n,)).check() == filter_program(n)
    assert len(filter_family(n)) == len(filter_program(n))


def test_a_family_reads_as_one_would_say_it() -> None:
    assert str(filter_family(10)) == (
        "family f(x[n + 1], y) for n = 10:\n"
        "    v0 = mul y 2.0\n"
        "    v1 = add v0 x[0]\n"
        "    repeat n:\n"
        "        v2 = mul v3[r - 1] 2.0\n"
        "        v3 = add v2 x[r + 1]\n"
        "    repeat n:\n"
        "        v4 = add v3[-r - 1] x[-r - 1]\n"
        "    return [*(v3[r] for r in range(n))], v4[-1]"
    )
    assert repr(filter_family(10)) == "<Family f: 32 equations>"


def test_the_digest_is_that_of_all_members() -> None:
    family, other = filter_family(10), filter_family(10)
    assert family.digest() == filter_family(99).digest()
    other.constants[0] = 3.0
    assert family.digest() != other.digest()
    other = filter_family(10)
    other.stretches[1].operands[0, 3] = -2
    assert family.digest() != other.digest()
    assert family.digest() == filter_family(10).digest()


def test_data_are_inputs_of_members_and_constants_of_the_whole() -> None:
    rounds = stretch(Count(0, 0), ("mul", (0, 0), (1, 0, 1)), ("add", (2, 0, 1), (1, 1, 1)))
    family = Family("f", ["x", "d0", "d1", "d2", "d3"], [Part("x", True), Part("d", False)])
    family.inputs, family.stretches = [Stretch(1), Stretch(2, Count(0, 0))], [rounds]
    family.outputs, family.output_groups = [Run(references([(2, 1, 1)]), Count(0, 0))], [Part("out", False)]
    family.extents, family.data = (2,), [np.array([[2.0, 0.5], [3.0, 0.25]])]
    assert family.check().at((2,)).check().evaluate([10.0, 2.0, 0.5, 3.0, 0.25]) == [20.5, 30.25]
    assert family.at((3,)).check().input_names == ["x", "d0", "d1", "d2", "d3", "d4", "d5"]
    whole = family.whole().check()
    assert whole.input_names == ["x"]
    assert whole.evaluate([10.0]) == [20.5, 30.25]
    f = ProgramBuilder("f", [Group("x", 1, True)])
    outputs = [f.emit("add", f.emit("mul", 0, f.constant(a)), f.constant(b)) for a, b in family.data[0]]
    assert whole.evaluate([0.1]) == f.finish(outputs, whole.output_groups).evaluate([0.1])


def test_what_a_member_cannot_be() -> None:
    with pytest.raises(fg.ProgramError, match=r"f has no member with the extents \(-2,\)"):
        filter_family(10).at((-2,))
    with pytest.raises(fg.ProgramError, match="no member"):
        filter_family(10).at((3, 3))
    family = filter_family(10)
    family.stretches[1].operands[3, 3] = 2  # one number too far
    with pytest.raises(fg.ProgramError, match="no member"):
        family.at((5,))
    family.stretches[1].operands[3, 0] = 4  # of a stretch that comes later
    with pytest.raises(fg.ProgramError, match="reads what comes later"):
        family.check()
    family = filter_family(10)
    family.extents = (11,)
    with pytest.raises(fg.ProgramError, match="12 names for 13 inputs"):
        family.check()
