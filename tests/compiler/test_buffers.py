"""Memory of array programs: what is alive at the same time never overlaps, and places are used again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.loops import buffers
from flatgrad.compiler.loops.buffers import Arena, plan_buffers
from flatgrad.compiler.loops.grammar import Block, addresses
from flatgrad.runtime.errors import FlatgradError
from tests.array_programs import loop_programs
from tests.compiler import array_workloads as work
from tests.compiler.test_reroll import B, W, X, arrays_of, rows
from tests.examples import examples


def check_plan(arrays, plan=None):
    """Run a program on memory that knows which address each cell holds."""
    plan = plan or plan_buffers(arrays)
    truth = arrays.truth_mask()
    holds = {"f": np.full(plan.numbers, -1), "b": np.full(plan.truths, -1)}
    inputs = np.arange(arrays.first_result)
    for kind in "fb":  # truth values among the inputs are there as truth values, too
        holds[kind][: len(inputs)] = inputs

    def kind_of(address):
        return "b" if truth[address] else "f"

    def read(where, kind, strided):
        places = plan.places(where, kind)
        assert (holds[kind][places] == where).all(), "something else has been written there"
        if strided:
            assert (places - where == places[0] - where[0]).all(), "an access is torn apart"
        return {(kind, place) for place in places.tolist()}

    for statement in arrays.statements:
        operands = set()
        if isinstance(statement, Block):
            for address in statement.reads.tolist():
                operands |= read(np.array([address]), kind_of(address), False)
            kinds = {"f"} | set(map(kind_of, _written(statement)))
        else:
            for access, extents in statement.reads():
                where = addresses(access, extents)
                operands |= read(where, kind_of(where[0]), access.table is None)
            kinds = {statement.kind}
        for kind in kinds:
            where = np.array(_written(statement))
            places = plan.places(where, kind)
            assert not operands & {(kind, place) for place in places.tolist()}, "a result lies on what it is made from"
            holds[kind][places] = where
    for address in arrays.outputs.tolist():
        read(np.array([address]), kind_of(address), False)
    return plan


def _written(statement):
    return range(statement.base, statement.base + statement.lanes)


KNOWN = {
    "a layer": lambda: arrays_of(work.layer_loss, W, X, B),
    "attention": lambda: arrays_of(work.causal_attention, rows(7), rows(7), rows(7)),
    "cumulative sums": lambda: arrays_of(work.cumulative, [0.1] * 20),
    "a network": lambda: network(6),
    "conditions": lambda: arrays_of(conditions, [0.1 * k for k in range(-6, 6)], [0.3] * 12),
}


def conditions(x, y):
    flags = [(a > 0.1) | (b < 0.2) for a, b in zip(x, y, strict=True)]
    every = flags[0]
    for flag in flags[1:]:
        every = every & flag
    return sum(fg.where(f & ~every, a * b, a + b) for f, a, b in zip(flags, x, y, strict=True))


def network(layers):
    model = fg.nn.MLP(8, [8] * layers + [1], activation="tanh", seed=1)
    return arrays_of(lambda xs: sum(model(x) for x in xs), rows(6, 8), wrt=model)


@pytest.mark.parametrize("name", KNOWN)
def test_known_programs(name):
    check_plan(KNOWN[name]())


@given(loop_programs())
@settings(max_examples=examples(100))
def test_random_programs(program):
    leaves = program.bound()

    def f(*arguments):
        return program.function(leaves)(*arguments)[0]

    arguments = [group.argument() for group in program.arguments]
    try:
        kernel = fg.value_and_grad(f, argnums=range(len(arguments)), backend="numpy").kernel_for(*arguments)
    except FlatgradError:
        return
    for arrays in kernel.stages.vectors:
        check_plan(arrays)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20) | st.integers(505, 600), st.integers(0, 50)), max_size=60))
def test_pieces_of_an_arena_never_overlap(steps):
    arena, taken = Arena(5), []
    for give, size, which in steps:
        if give and taken:
            arena.give(*taken.pop(which % len(taken)))
        else:
            place = arena.take(size)
            assert place >= 5
            assert place + size <= arena.peak
            assert size < 512 or place % 8 == 0, "large pieces begin at a line of a cache"
            assert all(place + size <= other or other + length <= place for other, length in taken)
            taken.append((place, size))
    for piece in taken:
        arena.give(*piece)
    assert arena.free in ([], [(5, arena.peak - 5)]), "free pieces that touch are one"


def test_places_are_used_again():
    """A deep network needs little more memory to run forwards than a shallow one."""

    def numbers(layers):
        model = fg.nn.MLP(8, [8] * layers + [1], activation="tanh", seed=1)
        f = fg.compile(lambda xs: [fg.detach(model(x)) for x in xs], backend="numpy")
        arrays = f.kernel_for(rows(20, 8)).stages.vectors[0]
        return plan_buffers(arrays).numbers - arrays.first_result

    assert numbers(12) <= numbers(4) <= 3 * 20 * 8


def test_the_workspace_is_what_the_source_allocates():
    kernel = fg.value_and_grad(conditions, argnums=(0, 1), backend="numpy").kernel_for([0.1] * 12, [0.3] * 12)
    numbers = int(kernel.source.partition("memory = np.empty(")[2].partition(")")[0])
    truths = int(kernel.source.partition("truths = np.empty(")[2].partition(",")[0])
    assert kernel.arrays.stats.workspace == 8 * numbers + truths
    plan = check_plan(kernel.arrays)
    assert plan.numbers <= numbers
    assert plan.truths <= truths


@pytest.mark.parametrize("broken", ["everything at one place", "regions torn apart", "given back too early"])
def test_the_simulation_notices_a_broken_plan(broken, monkeypatch):
    arrays = KNOWN["a network"]()
    if broken == "given back too early":
        give = Arena.give
        monkeypatch.setattr(Arena, "take", lambda self, size: _take_and_give(self, size, give))
        plan = plan_buffers(arrays)
    else:
        plan = plan_buffers(arrays)
        first = arrays.first_result
        offsets = [0, *([first] * (len(plan.offsets) - 1))] if broken == "everything at one place" else plan.offsets
        if broken == "regions torn apart":
            plan = plan._replace(starts=[*plan.starts, arrays.size - 1], offsets=[*plan.offsets, first])
        else:
            plan = plan._replace(offsets=offsets)
    with pytest.raises(AssertionError):
        check_plan(arrays, plan)


def _take_and_give(arena, size, give, taking=Arena.take):
    place = taking(arena, size)
    give(arena, place, size)
    return place


def test_the_lowest_and_highest_address_of_an_access():
    for statement in KNOWN["attention"]().statements:
        if not isinstance(statement, Block):
            for read, extents in statement.reads():
                where = addresses(read, extents)
                assert buffers.span(read, extents) == (where.min(), where.max())
