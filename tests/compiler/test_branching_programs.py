"""Random functions that branch: the interpreter and plain floats against every back end, bit for bit."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from tests.branching_programs import agree, arguments, functions, interpreted, outcome, same
from tests.examples import slow

#: How many ways kernels are kept for.
limits = st.sampled_from([1, 2, 4, 64])


@pytest.mark.parametrize(("backend", "examples"), slow([("python", 12), ("numpy", 6), ("native", 6)], "python"))
def test_every_call_has_the_bits_of_its_way(module_from, backend, examples):
    @settings(max_examples=examples)
    @given(functions(), st.lists(arguments, min_size=2, max_size=6), limits)
    def check(text, calls, limit):
        f = module_from(text).f
        gradient = fg.value_and_grad(f, argnums=(0, 1, 2), backend=backend, max_ways=limit)
        compiled = fg.compile(f, backend=backend, max_ways=limit)
        for call in [*calls, *calls[:2]]:
            expected = outcome(lambda call=call: interpreted(f, *call))
            for got in (
                outcome(lambda call=call: gradient(*call)),
                outcome(lambda call=call: interpreted(compiled, *call)),
            ):
                assert agree(expected, got), call
                if expected[0] == "raises" and got[0] == "returns":  # what has raised is not needed
                    total = fg.value_and_grad(f, argnums=(0, 1, 2), backend="python", faults="ieee")
                    assert same(got[1], total(*call)), call
            if expected[0] == "returns":
                plain = outcome(lambda call=call: float(f(*call)))
                assert agree(("returns", expected[1][0]), plain), "the interpreter, and plain floats"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.KernelLimitWarning)
        check()


@pytest.mark.parametrize(("backend", "examples"), [("python", 3), ("native", 3)])
def test_gradients_of_gradients_do_not_depend_on_the_calls_before(module_from, backend, examples):
    """Nor on the back end, nor on how many ways there are kernels for: they are those of a function that is new."""

    @settings(max_examples=examples)
    @given(functions(), st.lists(arguments, min_size=1, max_size=3), limits)
    def check(text, calls, limit):
        f = module_from(text).f

        def second(**options):
            def along(a, b, xs, n):
                by_a, by_xs = fg.grad(f, argnums=(0, 2))(a, b, xs, n)
                return by_a * b + by_xs[1] + 0.0 * a

            return fg.value_and_grad(along, argnums=(0, 1, 2), **options)

        used = second(backend=backend, max_ways=limit)
        for call in [*calls, calls[0]]:
            expected = outcome(lambda call=call: second(backend="python")(*call))
            got = outcome(lambda call=call: used(*call))
            assert expected[0] == got[0], (call, expected, got)
            assert same(expected[1], got[1]), (call, expected, got)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.KernelLimitWarning)
        check()
