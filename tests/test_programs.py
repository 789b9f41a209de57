"""The strategy for random programs: what it must reach, and how a program prints."""

import math

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis.internal.cache import LRUCache
from hypothesis.internal.conjecture import providers

from flatgrad.runtime.primitives import BY_NAME
from tests.programs import RandomProgram, Step, by_interpreter, long_chains, programs


def drawn(strategy, count):
    """Many examples of a strategy, none of them shrunk, always the same ones.

    Hypothesis also draws constants that it finds in the modules that are loaded. Which these are depends on the tests
    that ran before, so that they are left out here.
    """
    examples = []

    @seed(1337)
    @settings(max_examples=count, database=None, phases=[Phase.generate])
    @given(strategy)
    def collect(example):
        examples.append(example)

    with pytest.MonkeyPatch.context() as patch:
        if hasattr(providers, "_get_local_constants"):
            patch.setattr(providers, "_get_local_constants", providers.Constants)
            patch.setattr(providers, "CONSTANTS_CACHE", LRUCache(1024))  # the other one has constants of earlier tests
        collect()
    return examples


@pytest.fixture(scope="module")
def sample():
    return drawn(programs(max_outputs=3), 1500)


@pytest.fixture(scope="module")
def some():
    return drawn(programs(max_outputs=3), 80)


def test_most_rows_and_finite_gradients_are_reached(some):
    """What many programs reach for certain, in a few."""
    steps = [step for program in some for step in program.steps]
    assert len({step.name for step in steps}) > 0.4 * len(BY_NAME)
    assert any(type(o) is float for step in steps for o in step.operands)
    assert any(len(set(step.operands)) < len(step.operands) for step in steps)
    assert any(len(program.outputs) > len(set(program.outputs)) for program in some)
    outcomes = [by_interpreter(program) for program in some]
    finite = [o for o in outcomes if o.numbers and all(map(math.isfinite, o.numbers)) and any(o.numbers[1:])]
    assert len(some) / 3 < len(finite) <= [o.error for o in outcomes].count(None) < len(some)


@pytest.mark.slow
def test_every_row_is_reached(sample):
    """A new row of the table needs no edit in the strategy."""
    assert {step.name for program in sample for step in program.steps} == set(BY_NAME)


@pytest.mark.slow
def test_shared_nodes_repeated_operands_and_constants_are_reached(sample):
    steps = [step for program in sample for step in program.steps]
    constants = [o for step in steps for o in step.operands if type(o) is float]
    assert {repr(c) for c in constants} >= {"0.0", "-0.0", "inf", "-inf", "nan"}
    assert any(0.0 < abs(c) < 2.2e-308 for c in constants), "a subnormal number"
    assert any(1e200 < abs(c) < math.inf for c in constants), "a huge number"
    assert any(len(set(step.operands)) < len(step.operands) for step in steps)
    uses = [[o for step in program.steps for o in step.operands if type(o) is int] for program in sample]
    assert any(max(map(nodes.count, nodes), default=0) >= 4 for nodes in uses)
    assert any(len(program.outputs) > len(set(program.outputs)) for program in sample)


@pytest.mark.slow
def test_programs_that_raise_and_that_do_not_are_reached(sample):
    errors = [by_interpreter(program).error for program in sample]
    assert set(errors) == {None, ZeroDivisionError, ValueError, OverflowError}
    assert errors.count(None) > len(errors) / 2


@pytest.mark.slow
def test_finite_gradients_are_the_rule(sample):
    outcomes = [by_interpreter(program) for program in sample]
    finite = [o for o in outcomes if o.numbers and all(map(math.isfinite, o.numbers)) and any(o.numbers[1:])]
    assert len(finite) > len(sample) / 3


def test_long_chains_are_long():
    assert max(len(program.steps) for program in drawn(long_chains(), 20)) > 200


def test_a_program_prints_as_the_function_that_it_stands_for():
    program = RandomProgram((0.5, -0.0), (Step("mul", (0, 1)), Step("add", (2, 1e16)), Step("exp", (0,))), (3,)).live()
    assert repr(program).strip() == (
        "def f(x0, x1):\n    v2 = mul(x0, x1)\n    v3 = add(v2, 1e+16)\n    return v3\n# at 0.5, -0.0"
    )
