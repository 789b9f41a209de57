"""Random functions that branch: the interpreter and plain floats against every back end, bit for bit."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from tests.branching_programs import agree, arguments, functions, interpreted, outcome


@pytest.mark.parametrize(("backend", "examples"), [("python", 12), ("numpy", 6), ("native", 6)])
def test_every_call_has_the_bits_of_its_way(module_from, backend, examples):
    @settings(max_examples=examples)
    @given(functions(), st.lists(arguments, min_size=2, max_size=6))
    def check(text, calls):
        f = module_from(text).f
        gradient = fg.value_and_grad(f, argnums=(0, 1, 2), backend=backend, max_ways=4)
        compiled = fg.compile(f, backend=backend, max_ways=4)
        for call in [*calls, *calls[:2]]:
            expected = outcome(lambda call=call: interpreted(f, *call))
            assert agree(expected, outcome(lambda call=call: gradient(*call))), call
            assert agree(expected, outcome(lambda call=call: interpreted(compiled, *call))), call
            if expected[0] == "returns":
                plain = outcome(lambda call=call: float(f(*call)))
                assert agree(("returns", expected[1][0]), plain), "the interpreter, and plain floats"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.KernelLimitWarning)
        check()
