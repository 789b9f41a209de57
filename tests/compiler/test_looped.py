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
from tests.examples import crossed, named, repeats, slow

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


@pytest.mark.parametrize(("program", "backend"), crossed(PROGRAMS, BACKENDS), ids=named)
def test_any_number_of_rounds_has_the_bits_of_the_interpreter(program, backend):
    function, numbers = program
    count = len(numbers)
    gradient = fg.value_and_grad(function, argnums=tuple(range(count)), backend=backend)
    value, graph = fg.jit(function, backend=backend), fg.compile(function, backend=backend)

    def with_gradient(*arguments):
        number, slopes = gradient(*arguments)
        return [number, *slopes]

    @settings(max_examples=repeats(16))
    @given(st.tuples(*numbers))
    def check(arguments):
        expected = outcome(lambda: interpreted(function, arguments))
        assert outcome(lambda: with_gradient(*arguments)) == expected
        assert outcome(lambda: of_a_graph(graph, arguments)) == expected
        if isinstance(expected, list):
            assert outcome(lambda: [value(*arguments)]) == expected[:1]

    check()


@pytest.mark.parametrize("backend", slow(BACKENDS, "native", "numpy"))
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


def descent(x, b, scale):
    """Steps of gradient descent until the gradient is small."""
    while True:
        slopes = [2.0 * (p - q) * scale for p, q in zip(x, b, strict=True)]
        if sum(slope * slope for slope in slopes) < 1e-6:
            return sum(p * p for p in x)
        x = [p - 0.4 * slope for p, slope in zip(x, slopes, strict=True)]


@pytest.mark.parametrize("backend", slow(BACKENDS, "native", "numpy"))
def test_lists_and_parameters(backend):
    scale = Value(0.3)
    f = fg.value_and_grad(lambda x, b: descent(x, b, scale), argnums=(0, 1), backend=backend)
    g = fg.grad(lambda x, b: descent(x, b, scale), wrt=[scale], backend=backend)
    for k in range(12):
        scale.data = 0.3 + 0.01 * (k % 3)
        x, b = [10.0 ** (k - 4), 1.0 + k], [0.5, 0.25 * k]
        values = [Value(number) for number in (*x, *b, scale.data)]
        result = descent(values[:2], values[2:4], values[4])
        result.backward()
        slopes = [value.grad for value in values]
        assert f(x, b) == (result.data, (slopes[:2], slopes[2:4]))
        assert g(x, b) == slopes[4:]
    assert len(f.kernels) == len(g.kernels) == 1


FUNCTIONS = {"sin": fg.sin, "tanh": fg.tanh, "root": lambda x: fg.sqrt(1.0 + x * x), "half": lambda x: 0.5 * x}


@st.composite
def loops(draw):
    """A loop whose rounds are drawn: what they compute, their conditions, what follows, and a limit of rounds."""
    numbers = st.sampled_from([0.25, 0.5, -0.5, 0.75])
    first, second = (FUNCTIONS[draw(st.sampled_from(sorted(FUNCTIONS)))] for _ in range(2))
    a, b, c, d = (draw(numbers) for _ in range(4))
    limit, most, tail = draw(st.sampled_from([1e-3, 0.5])), draw(st.sampled_from([12, 30])), draw(st.booleans())

    def loop(x, y):
        rounds = 0
        while x * x + y * y > limit and x * x < 1e6:
            x, y = a * first(x) + b * y * 0.5, c * second(y) - d * x * 0.5
            rounds += 1
            if rounds == most:
                break
        return x * y + x if not tail or x > y else y * y

    return loop


@pytest.mark.parametrize("backend", slow(BACKENDS, "numpy"))
@settings(max_examples=3)
@given(loop=loops(), starts=st.lists(st.tuples(*[st.floats(-50.0, 50.0)] * 2), min_size=6, max_size=6))
def test_loops_that_are_drawn(backend, loop, starts):
    f, g = fg.value_and_grad(loop, argnums=(0, 1), backend=backend), fg.compile(loop, backend=backend)
    for start in starts:
        expected = outcome(lambda start=start: interpreted(loop, start))

        def with_gradient(start=start):
            value, slopes = f(*start)
            return [value, *slopes]

        assert outcome(with_gradient) == expected
        assert outcome(lambda start=start: of_a_graph(g, start)) == expected


def test_an_interrupt_in_a_loop_that_does_not_end():
    ends = [True]

    class Interrupts:
        rounds = 0

        def tick(self):
            self.rounds += 1
            if not ends[0] and self.rounds > 500:
                raise KeyboardInterrupt

    def f(x):
        clock = Interrupts()
        while x > 1.0:
            x = x - 1.0
            clock.tick()
        return x * x

    g = fg.value_and_grad(f)
    for x in (3.5, 5.5, 9.5, 20.5):
        assert g(x) == (0.25, 1.0)
    ends[0] = False
    with pytest.raises(KeyboardInterrupt):
        g(1e300)
    ends[0] = True
    for x in (30.5, 5.5, 9.5):
        assert g(x) == (0.25, 1.0)


def test_zero_rounds_and_comparisons_that_are_false():
    f = fg.jit(newton)
    for a in (1e3, 1e5, 1e7, 1e9):
        f(a)
    assert f(1.0) == 1.0
    assert f(float("nan")) != f(float("nan"))
    assert f(1e5) == interpreted(newton, [1e5])[0]


def test_a_selection_behind_the_loop_is_no_way():
    f = fg.jit(behind)
    for power in range(1, 9):
        for x in (10.0**power, 3.0 * 10.0**power):
            assert f(x) == interpreted(behind, [x])[0]
    assert len(f.kernels) == 1


def bisection(a):
    low, high = 0.0, 64.0
    while high - low > 1e-9 * a:
        middle = 0.5 * (low + high)
        if middle**3 < a:
            low = middle
        else:
            high = middle
    middle = 0.5 * (low + high)
    return middle - (middle**3 - a) / (3.0 * middle**2)


@pytest.mark.parametrize("backend", slow(BACKENDS, "native", "numpy"))
def test_bisection_is_one_kernel(backend):
    f, g = fg.value_and_grad(bisection, backend=backend), fg.jit(bisection, backend=backend)
    for k in range(40):
        a = 1.5 * 1.25**k
        expected = interpreted(bisection, [a])
        assert list(f(a)) == expected
        assert g(a) == expected[0]
    assert len(f.kernels) == len(g.kernels) == 1


@pytest.mark.slow
def test_a_block_of_constants_alone_among_rounds():
    def f(a, b, xs):
        u = xs[0] * 4.0
        while u * u > 0.01:
            u = max(u - 1.0, 0.0)
            b = b * 0.9 + u * 0.1
        v = xs[0] * 4.0
        k = 0
        while abs(v) > 0.5 and k < 5:
            v, k = v / 2.0, k + 1
        return xs[0] * v + xs[1] + b + v + a * 0.5

    g = fg.value_and_grad(f, argnums=(0, 1, 2))
    for k in range(2, 24):
        a, b, *xs = leaves = [Value(x) for x in (10.0, 19.0, 0.5 * k, 3.0)]
        value = f(a, b, xs)
        value.backward()
        slopes = [leaf.grad for leaf in leaves]
        assert g(10.0, 19.0, [0.5 * k, 3.0]) == (value.data, (*slopes[:2], slopes[2:]))
