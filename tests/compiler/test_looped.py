"""`while` loops: ways that differ in a number of equal rounds have one kernel."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.machine import native
from flatgrad.compiler.program.program import Group
from flatgrad.compiler.program.trace import trace_function
from flatgrad.compiler.program.ways import Rounds, Way

BACKENDS = ["python", "numpy", *(["native"] if native.available() else [])]
backends = pytest.mark.parametrize("backend", BACKENDS)


def newton(a):
    x = a
    while x * x - a > 1e-12 * a:
        x = 0.5 * (x + a / x)
    return x


def kepler(mean, eccentricity):
    angle = mean
    while fg.abs(angle - eccentricity * fg.sin(angle) - mean) > 1e-13:
        angle -= (angle - eccentricity * fg.sin(angle) - mean) / (1 - eccentricity * fg.cos(angle))
    return angle


def until(x):
    for _ in range(100):
        if x < 1.0:
            break
        x = x * 0.7
    return x * x


def at_most(x):
    rounds = 0
    while x > 2.0:
        x = x * 0.9
        rounds += 1
        if rounds > 20:
            break
    return x


def falling(x):
    while x > 0.5:
        x = x - fg.sqrt(x - 0.3) * 0.9
    return fg.log(x)


def both(x, y):
    while x > 1.0 and y > 1.0:
        x, y = x * 0.7, y * 0.8
    return x * y


def behind(x):
    while x > 1.0:
        x = x * 0.7
    return x * x if x > 0.85 else x * 3.0


def bits(numbers):
    return [float(number).hex() for number in numbers]


def outcome(call):
    try:
        return bits(call())
    except (ArithmeticError, ValueError) as error:
        return type(error)


def interpreted(function, arguments):
    values = [Value(number) for number in arguments]
    result = function(*values)
    result.backward()
    return [result.data, *(value.grad for value in values)]


def of_a_graph(function, arguments):
    values = [Value(number) for number in arguments]
    result = function(*values)
    result.backward()
    return [result.data, *(value.grad for value in values)]


large = st.floats(-1.0, 4.0).map(lambda power: 10.0**power)
PROGRAMS = [
    (newton, [st.floats(-3.0, 15.0).map(lambda power: 10.0**power)]),
    (kepler, [st.floats(0.0, 6.0), st.floats(0.0, 0.9)]),
    (until, [large]),
    (at_most, [large]),
    (falling, [large]),
    (both, [large, large]),
    (behind, [large]),
]


@backends
@pytest.mark.parametrize(("function", "numbers"), PROGRAMS, ids=[function.__name__ for function, _ in PROGRAMS])
def test_any_number_of_rounds_has_the_bits_of_the_interpreter(function, numbers, backend):
    count = len(numbers)
    gradient = fg.value_and_grad(function, argnums=tuple(range(count)), backend=backend)
    value, graph = fg.jit(function, backend=backend), fg.compile(function, backend=backend)

    def with_gradient(*arguments):
        number, slopes = gradient(*arguments)
        return [number, *slopes]

    @settings(max_examples=15)
    @given(st.tuples(*numbers))
    def check(arguments):
        expected = outcome(lambda: interpreted(function, arguments))
        assert outcome(lambda: with_gradient(*arguments)) == expected
        assert outcome(lambda: of_a_graph(graph, arguments)) == expected
        if isinstance(expected, list):
            assert outcome(lambda: [value(*arguments)]) == expected[:1]

    check()


@backends
def test_newtons_method_is_one_kernel(backend):
    for transform in (fg.value_and_grad, fg.jit):
        f = transform(newton, backend=backend)
        rounds = set()
        for power in range(32):
            f(10.0**power)
            rounds.add(len(f.kernel_for(10.0**power).way.truths) - 1)
        assert len(rounds) > 20
        assert len(f.kernels) == 2
        first, looped = f.ways(1.0)
        assert str(first).endswith(": False")
        assert str(looped).endswith(f": True {min(rounds - {0})} to {max(rounds)} times, then False")
        assert "one code serves all numbers of rounds" in f.kernel_for(1e20).stats.reason


def test_a_number_of_rounds_is_met_with_other_numbers():
    f = fg.jit(newton)
    for a in (1e3, 1e6, 1e9, 1e3, 2e3, 3e9, 1e12):
        f(a)
    made = [kernel.stats for kernel in f.kernels]
    for k in range(100):
        assert f(1e3 + k) == interpreted(newton, [1e3 + k])[0]
        assert f(10.0 ** (3 * (k % 4 + 1))) == interpreted(newton, [10.0 ** (3 * (k % 4 + 1))])[0]
    assert len(f.kernels) == len(made)


def test_what_happens_from_some_round_on_is_no_part_of_the_kernel():
    def f(x):
        rounds = 0
        while x > 1.0:
            x = x * 0.5
            rounds += 1
            if rounds == 18:
                x = x * 3.0
        return x

    g = fg.value_and_grad(f)
    for power in (3, 4, 5, 10, 17, 18, 19, 30, 18, 4):
        assert g(2.0**power) == tuple(interpreted(f, [2.0**power]))


def test_the_pattern_of_rounds():
    line, other = object(), object()
    ways = [Way((True, *[True, False] * n, True, True), (other, *[line] * (2 * n + 2))) for n in (2, 5)]
    rounds = Rounds.between(*ways)
    assert rounds == Rounds.between(*reversed(ways))
    assert [rounds.count(way) for way in ways] == [2, 5]
    assert rounds.round.truths == (False, True)
    assert rounds.before.truths == (True, True)
    assert Rounds.between(ways[0], ways[0]) is None
    assert Rounds.between(ways[0], ways[1]._replace(truths=(*ways[1].truths[:-1], False))) is None


def test_a_way_can_be_given():
    def body(inputs):
        (x,) = inputs
        return None, [x * 2.0 if x > 1.0 and x < 0.0 else x]

    groups = [Group("x", 1, True)]
    traced = trace_function(body, "f", groups, ["x"], truths=[True, True])
    assert traced.way.truths == (True, True)
    for truths, what in (([True], "more"), ([False, False], "fewer")):
        with pytest.raises(fg.TraceError, match=f"asks for {what} truth values"):
            trace_function(body, "f", groups, ["x"], truths=truths)
