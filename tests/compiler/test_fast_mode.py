"""`mode="fast"`: simplified as if floats were real numbers; close to exact mode, and never applied in it."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler import nodes
from flatgrad.compiler.program.passes.rules import FIRED, RULES
from flatgrad.runtime.primitives import BY_NAME
from tests.examples import examples
from tests.programs import RandomProgram, Step, by_interpreter

INEXACT = [rule.name for rule in RULES if not rule.exact]

#: Operations that keep numbers between about 0.1 and 10 well-conditioned, and the constants that rules look for.
well_scaled = st.floats(0.25, 2.0, allow_subnormal=False)
constants = st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5, 1.5])


@st.composite
def tame_programs(draw):
    """Programs in which nothing overflows, cancels badly or leaves its domain."""
    inputs = tuple(draw(st.lists(well_scaled, min_size=1, max_size=3)))
    steps = []

    def node():
        last = len(inputs) + len(steps) - 1
        return draw(st.integers(0, last).filter(lambda k: k < len(inputs) or steps[k - len(inputs)].name != "less"))

    def add(name, *operands):
        steps.append(Step(name, operands))
        return len(inputs) + len(steps) - 1

    for _ in range(draw(st.integers(1, 8))):
        kind = draw(st.integers(0, 7))
        if kind == 0:
            add("add", node(), draw(st.one_of(constants, st.just(node()))))
        elif kind == 1:
            add("mul", node(), draw(st.one_of(constants, st.just(node()))))
        elif kind == 2:
            base = add("add", add("mul", add("tanh", node()), 0.5), 1.5)  # in (1, 2)
            add("power", base, draw(st.sampled_from([2.0, -1.0, 0.5, -0.5, 0.0, 1.0, 3.0])))
        elif kind == 3:
            base = add("add", add("mul", add("tanh", node()), 0.5), 1.5)
            add("mul", node(), add("div", 1.0, base))
        elif kind == 4:
            add("where", add("less", node(), draw(constants)), *[node()] * 2)
        elif kind == 5:
            add(draw(st.sampled_from(["tanh", "sin", "cos", "sigmoid", "atan", "softplus"])), node())
        elif kind == 6:
            add("neg", node())
        else:
            add("sub", node(), node())
    return RandomProgram(inputs, tuple(steps), (len(inputs) + len(steps) - 1,)).live()


def results(program, mode):
    f = fg.value_and_grad(lambda *xs: program.run(xs)[0], tuple(range(len(program.inputs))), mode=mode)
    value, gradients = f(*program.inputs)
    return [value, *gradients], f.kernels[0]


@given(tame_programs())
@settings(max_examples=examples(150))
def test_fast_agrees_with_exact_to_a_tolerance(program):
    exact, kernel = results(program, "exact")
    scale = max(map(abs, kernel.program.evaluate(program.inputs)), default=1.0)
    assume(scale < 1e6)
    fast, quick = results(program, "fast")
    report = f"{program}\n{kernel.source}\n{quick.source}"
    for a, b in zip(fast, exact, strict=True):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-9 * max(1.0, scale)), report
    assert len(quick.program) <= len(kernel.program), report


@given(tame_programs())
@settings(max_examples=examples(60))
def test_fast_forward_and_backward(program):
    exact = by_interpreter(program)
    assume(max(map(abs, exact.numbers)) < 1e6)
    leaves = [Value(x) for x in program.inputs]
    (out,) = fg.compile(lambda *xs: program.run(xs), mode="fast")(*leaves)
    out.backward()
    for a, b in zip([out.data, *[leaf.grad for leaf in leaves]], exact.numbers, strict=True):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-6), program


#: For each rule that is not exact, a function whose program it changes.
EXAMPLES = {
    "where_same": lambda x: fg.where(x > 0.5, x, x) * x,
    # The condition is a constant when the rule sees it.
    "where_constant": lambda x: fg.where(fg.less(Value(1.0), 2.0), x * x, x * 3.0),
    "power_zero": lambda x: x**0.0 * x,
    "add_zero": lambda x: (x + 0.0) * x,
    "mul_zero": lambda x: x * 0.0 + x,
    "power_two": lambda x: x**2,
    "power_minus_one": lambda x: x**-1,
    "power_half": lambda x: x**0.5,
    "mul_reciprocal": lambda x: x * fg.div(1.0, x + 1.0),
}


def fired(function, mode):
    """The rules that compiling a function applies."""
    before = set(FIRED)
    FIRED.clear()
    try:
        value, gradient = fg.value_and_grad(function, mode=mode)(1.5)
        return set(FIRED), value, gradient
    finally:
        FIRED.update(before)


def test_every_inexact_rule_has_an_example():
    assert set(EXAMPLES) == set(INEXACT)


@pytest.mark.parametrize("name", INEXACT)
def test_inexact_rules_are_applied_in_fast_mode_only(name):
    function = EXAMPLES[name]
    fast, value, gradient = fired(function, "fast")
    exact, exact_value, exact_gradient = fired(function, "exact")
    assert name in fast
    assert not exact & set(INEXACT)
    assert value == pytest.approx(exact_value, rel=1e-12)
    assert gradient == pytest.approx(exact_gradient, rel=1e-12)


def test_fast_source_is_shorter_and_says_so():
    def function(x):
        return x**2 + 0.0 * x + x**-1

    exact = fg.value_and_grad(function).kernel_for(1.0)
    fast = fg.value_and_grad(function, mode="fast").kernel_for(1.0)
    assert len(fast.program) < len(exact.program)
    assert "x * x" in fast.source
    assert "x ** 2.0" in exact.source
    assert "x ** 2.0" not in fast.source
    assert "# Exact: " in exact.source
    assert "# Fast: " in fast.source
    assert "last bits may differ" in fast.source


def test_the_two_modes_may_differ_in_the_last_bit():
    """Were they always the same, the test against a tolerance would compare exact mode with itself."""
    exact, fast = fg.value_and_grad(lambda x: x**2 * x**-1), fg.value_and_grad(lambda x: x**2 * x**-1, mode="fast")
    different = [k for k in range(1, 3000) if exact(1.0 + k / 997) != fast(1.0 + k / 997)]
    assert 0 < len(different) < 2999


def test_compile_graph_and_grad_have_the_mode_too():
    x = Value(3.0)
    assert "x * x" in fg.grad(lambda x: x**3 * x**2, mode="fast").kernel_for(1.0).source.replace("x0", "x")
    graph = fg.compile_graph(x**2, [x], mode="fast")
    assert "x0 * x0" in graph.source
    assert graph(4.0).data == 16.0
    assert "# Fast: " in graph.source


def test_kernels_of_some_outputs_are_of_the_same_mode():
    f = fg.compile(lambda x: [x**2, x**-1], mode="fast")
    x = Value(3.0)
    out = f(x)
    out[1].backward()
    assert x.grad == pytest.approx(-1 / 9)
    forward, _ = nodes.partial_pair(f.kernels[0], (1,))
    assert "# Fast: " in forward.source


# --- options ----------------------------------------------------------------------------------------------------------


def transforms():
    x = Value(1.0)
    return {
        "compile": lambda **options: fg.compile(lambda x: x, **options),
        "compile as a decorator": lambda **options: fg.compile(**options)(lambda x: x),
        "value_and_grad": lambda **options: fg.value_and_grad(lambda x: x, **options),
        "grad": lambda **options: fg.grad(lambda x: x, **options),
        "compile_graph": lambda **options: fg.compile_graph(x * x, **options),
    }


@pytest.mark.parametrize("name", list(transforms()))
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "quick"}, ["mode", "'quick'", "'exact'", "'fast'"]),
        ({"mode": "Fast"}, ["mode", "'Fast'", "'exact'", "'fast'"]),
        ({"mode": None}, ["mode", "None", "'exact'", "'fast'"]),
        ({"backend": "fortran"}, ["backend", "'fortran'", "'auto'", "'python'"]),
        ({"backend": ""}, ["backend", "''", "'auto'", "'python'"]),
    ],
)  # fmt: skip
def test_unknown_options_name_the_choices(name, options, words):
    with pytest.raises(fg.OptionError) as caught:
        transforms()[name](**options)
    assert isinstance(caught.value, ValueError)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", list(transforms()))
@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("backend", ["auto", "python"])
def test_known_options_are_accepted(name, mode, backend):
    transforms()[name](mode=mode, backend=backend)


def test_operations_that_raise_still_raise_where_they_are_needed():
    f = fg.value_and_grad(lambda x: x**-1 + x.log(), mode="fast")
    with pytest.raises((ZeroDivisionError, ValueError)) as caught:
        f(0.0)
    assert isinstance(caught.value, fg.FlatgradError)
    with pytest.raises(ValueError, match=r"log\(-1\.0\)"):
        f(-1.0)
    value, gradient = f(2.0)
    assert value == pytest.approx(0.5 + math.log(2.0))
    assert gradient == pytest.approx(0.25)


def test_a_power_of_one_half_at_minus_infinity_is_what_the_flag_is_about():
    """`(-inf) ** 0.5` is inf; the square root of -inf raises: hence the rule is not exact."""
    assert BY_NAME["power"](-math.inf, 0.5) == math.inf
    assert fg.compile(lambda x: x**0.5)(-math.inf).data == math.inf
