"""Functions with many rounds: made from a few members of their family, and bound to the number of rounds."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from benchmarks import recurrences
from flatgrad.compiler import round_stages
from flatgrad.compiler.machine.native import available
from flatgrad.compiler.open_stages import BoundStages
from flatgrad.compiler.round_stages import RoundStages
from flatgrad.runtime.errors import DivisionByZeroError, DomainError
from tests.bits import assert_same
from tests.compiler.test_rounds import kalman, lstm, markov
from tests.every_way import flattened
from tests.examples import slow

pytestmark = pytest.mark.skipif(not available(), reason="needs llvmlite")


def draw(*shape):
    return np.random.default_rng(1).normal(size=shape)


def shrinking(rounds):
    def f(x):
        for _ in range(rounds):
            x = x - 0.001 * fg.sqrt(x)
        return x

    return f, (5.0,)


def stream(rounds):
    def f(x, a):
        state = 0.0
        for number in x:
            state = fg.sin(state * a + number) - state
        return state

    return f, (draw(rounds), 0.9)


def backwards(rounds):
    def f(p, x):
        state, states = p[0], []
        for number in x:
            state = fg.tanh(p[1] * state + number)
            states.append(state)
        other = p[2]
        for each in reversed(states):
            other = fg.sin(other * p[0] + each)
        return other

    return f, (np.array([0.1, 0.2, 0.3]), draw(rounds))


def rows(rounds):
    numbers = draw(4, rounds).tolist()

    def f(p):
        total = 0.0
        for row in numbers:
            state = 0.0
            for number in row:
                state = fg.tanh(p[0] * state + p[1] * number)
            total = total + state * state
        return total / 4

    return f, (np.array([0.5, 0.7]),)


def captured_by_a_scan(rounds):
    numbers = draw(rounds)

    def f(p):
        return fg.scan(lambda state, x: (0.9 * state + fg.sin(p * x), None), p, numbers)[0]

    return f, (0.5,)


def smoothing(rounds):
    """Errors of forecasts by a level and a trend: sums over rounds are outside of the loops."""
    numbers = draw(rounds).tolist()

    def f(p):
        level, trend, loss = p[0], p[1], 0.0
        for number in numbers:
            error = number - (level + trend)
            loss = loss + error * error
            last, level = level, p[2] * number + (1.0 - p[2]) * (level + trend)
            trend = p[3] * (level - last) + (1.0 - p[3]) * trend
        return loss

    return f, (np.array([0.1, 0.2, 0.5, 0.6]),)


ALIKE = (
    kalman, lstm, markov, smoothing, recurrences.lorenz, recurrences.garch, recurrences.pendulum, recurrences.network,
)  # fmt: skip
FUNCTIONS = {
    "pendulum": recurrences.pendulum,
    "garch": recurrences.garch,
    "lorenz": recurrences.lorenz,
    "network": recurrences.network,
    "one number": shrinking,
    "a stream": stream,
    "backwards": backwards,
    "rows": rows,
    "captured by a scan": captured_by_a_scan,
}


def stages_of(function):
    (kernel,) = function.kernels
    return kernel.stages


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(round_stages, "_known", {})


@pytest.mark.parametrize("name", slow(FUNCTIONS, "garch", "lorenz", "network", "pendulum", "rows"))
def test_bits_of_flat_python(name):
    short = name in ("one number", "a stream", "captured by a scan")  # with few operations in a round
    function, arguments = FUNCTIONS[name](700 if short else 400)
    every = tuple(range(len(arguments)))
    gradient = fg.value_and_grad(function, every)
    expected = flattened(fg.value_and_grad(function, every, backend="python", dynamic=False)(*arguments))
    assert_same(flattened(gradient(*arguments)), expected)
    assert_same(flattened(gradient(*arguments)), expected)
    stages = stages_of(gradient)
    assert isinstance(stages, RoundStages)
    assert "here" not in vars(stages)  # the whole program has not been made
    value = fg.jit(function)
    assert_same([value(*arguments)], expected[:1])
    assert_same(stages.arrays[0].evaluate(flattened(arguments)), expected)


def test_another_number_of_rounds_needs_no_other_code():
    kernels = []
    for rounds in (500, 700, 20_000):
        function, arguments = recurrences.lorenz(rounds)
        gradient = fg.value_and_grad(function)
        value, _ = gradient(*arguments)
        kernels.append(gradient.kernels[0])
        if rounds < 1000:
            assert_same([value], [function([fg.Value(x) for x in arguments[0]]).data])
    first, second, _ = (kernel.stages.open for kernel in kernels)
    assert first is second
    (rounds,) = kernels[-1].stages.extents
    assert f"here {rounds:,}" in kernels[-1].stats.reason
    assert 19_990 < rounds <= 20_000
    assert kernels[-1].stats.equations > 500_000
    assert "repeat i:1999" in str(kernels[-1].arrays)


def test_numbers_that_are_captured_belong_to_the_kernel():
    first, second = (recurrences.garch(count) for count in (600, 800))
    results = []
    for function, arguments in (first, second, first):
        gradient = fg.value_and_grad(function)
        results.append(flattened(gradient(*arguments)))
        assert isinstance(stages_of(gradient), RoundStages)
        assert_same(results[-1], flattened(fg.value_and_grad(function, backend="python")(*arguments)))
    assert results[0] != results[1]
    assert_same(results[0], results[2])


@pytest.mark.parametrize("name", slow(["pendulum", "garch"], "pendulum"))
def test_calls_that_are_nodes_of_a_graph(name):
    function, (numbers,) = FUNCTIONS[name](600)

    def both(p):
        result = function(p)
        return result, result * p[0]

    compiled = fg.compile(both)
    for used in (2, 1):  # gradients of all outputs, or of some
        expected = [fg.Value(number) for number in numbers]
        sum(both(expected)[:used]).backward()
        values = [fg.Value(number) for number in numbers]
        sum(compiled(values)[:used]).backward()
        assert_same([v.grad for v in values], [v.grad for v in expected])
    assert isinstance(stages_of(compiled), RoundStages)


def test_two_loops_that_read_each_other_backwards_as_nodes_of_a_graph():
    """What the first function keeps for the second is interleaved, and streams hide how often equal steps recur."""
    function, (numbers, x) = backwards(800)
    expected = [fg.Value(number) for number in (*numbers, *x)]
    function(expected[:3], expected[3:]).backward()
    values = [fg.Value(number) for number in (*numbers, *x)]
    compiled = fg.compile(function)
    compiled(values[:3], values[3:]).backward()
    assert_same([v.grad for v in values], [v.grad for v in expected])
    assert isinstance(stages_of(compiled), RoundStages)


def test_leaves():
    w = fg.Value(0.8, label="w")

    def f(x):
        state = 0.0
        for number in x:
            state = fg.sin(state * w + number)
        return state

    gradient = fg.value_and_grad(f, wrt=[w])
    x = draw(900)
    for w.data in (0.8, -0.3):
        expected = fg.value_and_grad(f, wrt=[w], backend="python", dynamic=False)(x)
        assert_same(flattened(gradient(x)), flattened(expected))
    kernel = gradient.kernels[0]
    assert isinstance(kernel.stages, RoundStages)
    names: dict = {}
    exec(kernel.python_source(rolled=True), names)
    value, (slope,) = names["value_and_grad"](x.tolist(), names["LEAVES"])
    assert_same([value, slope], flattened(gradient(x)))
    assert names["LEAF_NAMES"] == ["w"]


def test_saved_source_has_loops_and_the_numbers():
    function, arguments = recurrences.garch(600)
    gradient = fg.value_and_grad(function)
    expected = flattened(gradient(*arguments))
    kernel = gradient.kernels[0]
    names: dict = {}
    source = kernel.python_source(rolled=True)
    exec(source, names)
    assert_same(flattened(names["value_and_grad"](arguments[0].tolist())), expected)
    assert source.count("\n") < 600
    assert "i < 598" in kernel.c_source() or "i < 599" in kernel.c_source()
    assert "for n = 599" in str(kernel.stages)


@pytest.mark.parametrize("rounds", [700, 20_000])
def test_a_fault_in_a_round(rounds):
    def f(p, x):
        state = p[0]
        for number in x:
            state = fg.log(state * state + number) + p[1] * state
        return state

    gradient = fg.value_and_grad(f)
    p, x = np.array([1.0, 0.3]), np.ones(rounds)
    gradient(p, x)
    x[517] = -50.0
    with pytest.raises(DomainError, match=r"log\(-50\.0\): log needs x > 0") as raised:
        gradient(p, x)
    assert "state = fg.log(state * state + number)" in str(raised.value)
    assert isinstance(stages_of(gradient), RoundStages)
    assert "here" not in vars(stages_of(gradient))
    with pytest.raises(DomainError) as plain:
        fg.value_and_grad(f, backend="python", dynamic=False)(p, x[:700])
    assert str(raised.value) == str(plain.value)


def test_a_fault_in_a_gradient():
    def f(p, x):
        state, total = p[0], 0.0
        for number in x:
            state = fg.sin(state + number)
            total = total + fg.sqrt(number * p[1])
        return state + total

    gradient = fg.value_and_grad(f)
    p, x = np.array([1.0, 0.3]), np.ones(700)
    gradient(p, x)
    x[517] = 0.0
    with pytest.raises(DivisionByZeroError, match="the partial of sqrt") as raised:
        gradient(p, x)
    with pytest.raises(DivisionByZeroError) as plain:
        fg.value_and_grad(f, backend="python", dynamic=False)(p, x)
    assert str(raised.value) == str(plain.value)


def test_a_branch_that_is_not_taken_is_named_in_the_error():
    def f(x, a):
        state = a
        for number in x:
            state = fg.sin(state) + number
        return fg.where(a > 0.0, state, fg.log(state - 1e6))

    x = np.ones(900)
    outcomes = []
    for function in (fg.value_and_grad(f), fg.value_and_grad(f, backend="python", dynamic=False)):
        with pytest.raises(DomainError) as raised:
            function(x, 0.5)
        outcomes.append(str(raised.value))
    assert outcomes[0] == outcomes[1]


def test_what_differs_is_not_used(monkeypatch):
    monkeypatch.setattr(BoundStages, "differs", lambda self, inputs: True)
    function, arguments = shrinking(700)
    gradient = fg.value_and_grad(function)
    expected = fg.value_and_grad(function, backend="python", dynamic=False)(*arguments)
    assert_same(flattened(gradient(*arguments)), flattened(expected))
    assert not isinstance(stages_of(gradient), BoundStages)


def test_few_rounds_are_compiled_as_they_are():
    function, arguments = recurrences.pendulum(60)
    gradient = fg.value_and_grad(function)
    gradient(*arguments)
    assert not isinstance(stages_of(gradient), BoundStages)


@pytest.mark.parametrize("backend", ["python", "numpy"])
def test_python_has_loops_where_flat_code_would_be_long(backend, monkeypatch):
    monkeypatch.setattr(round_stages, "_FLAT", 5_000)
    function, arguments = recurrences.lorenz(700)
    gradient = fg.value_and_grad(function, backend=backend)
    expected = fg.value_and_grad(function, backend="native", dynamic=False)(*arguments)
    assert_same(flattened(gradient(*arguments)), flattened(expected))
    kernel = gradient.kernels[0]
    assert isinstance(kernel.stages, RoundStages)
    assert kernel.backend == backend
    assert kernel.source.count("\n") < 300


def test_sizes_that_change():
    def f(x, a):
        state = 0.0
        for number in x:
            state = fg.sin(state * a + number)
        return state

    gradient = fg.grad(f)
    for count in (700, 900, 800, 650, 5, 100):
        x = [fg.Value(number) for number in draw(count)]
        f(x, 0.9).backward()
        assert_same(gradient(draw(count), 0.9).tolist(), [value.grad for value in x])
    assert len(gradient.open_kernels) == 1


def test_other_captured_numbers_need_no_other_code():
    def likelihood(returns):
        def f(p):
            variance, loss = p[0], 0.0
            for r in returns:
                loss = loss + r * r / variance
                variance = p[0] + p[1] * (r * r) + p[2] * variance
            return loss

        return f

    gradients = []
    for scale in (1.0, 2.0):
        returns = (draw(600) * scale).tolist()
        gradient = fg.value_and_grad(likelihood(returns))
        expected = fg.value_and_grad(likelihood(returns), backend="python", dynamic=False)
        p = np.array([0.1, 0.1, 0.8])
        assert_same(flattened(gradient(p)), flattened(expected(p)))
        gradients.append(gradient)
    first, second = map(stages_of, gradients)
    assert first.open is second.open


@pytest.mark.parametrize("recurrence", slow(ALIKE, kalman, lstm, markov, recurrences.pendulum, recurrences.network))
def test_loops_of_few_rounds_are_those_of_many(recurrence):
    """Whole programs with few rounds have as many statements as what is bound to a number of rounds."""
    counts = []
    for rounds in (50, 230):
        function, arguments = recurrence(rounds)
        gradient = fg.value_and_grad(function, dynamic=False)
        gradient(*arguments)
        counts.append([len(getattr(item, "statements", [item])) for item in gradient.kernels[0].arrays.statements])
    assert counts[0] == counts[1]
    assert isinstance(stages_of(gradient), RoundStages)


def test_small_matrices_do_not_hide_rounds():
    function, arguments = kalman(160)
    gradient = fg.value_and_grad(function)
    expected = fg.value_and_grad(function, backend="python", dynamic=False)(*arguments)
    assert_same(flattened(gradient(*arguments)), flattened(expected))
    assert isinstance(stages_of(gradient), RoundStages)


def test_more_rounds_are_tried_with_larger_members(monkeypatch):
    """That there is nothing to be made of small members says nothing of larger ones."""
    tried = []
    made = round_stages._made

    def refuse_the_smallest(stages, family, windows, inputs):
        tried.append(len(windows))
        return made(stages, family, windows, inputs) if len(windows) > 1 else round_stages._Refused("small", 1)

    monkeypatch.setattr(round_stages, "_made", refuse_the_smallest)
    for rounds in (110, 110, 600, 110):
        function, arguments = recurrences.pendulum(rounds)
        gradient = fg.value_and_grad(function, dynamic=False)
        gradient(*arguments)
        assert isinstance(stages_of(gradient), RoundStages) == (len(tried) > 1)
    assert len(tried) == 2


def test_a_graph_that_has_been_built():
    def built():
        x, rate = fg.Value(0.5), fg.Value(0.9)
        state = x
        for _ in range(1500):
            state = fg.sin(state * rate) + 0.1
        return x, rate, state

    x, rate, state = built()
    graph = fg.compile_graph(state, [x])
    assert isinstance(graph.kernel.stages, RoundStages)
    result = graph(x)
    result.backward()
    other_x, other_rate, other = built()
    other.backward()
    assert_same([result.data, x.grad, rate.grad], [other.data, other_x.grad, other_rate.grad])


def test_constants_of_rounds_are_computed_and_not_guessed():
    """A gradient that multiplies constants round by round: a power has the same bits for few rounds only."""

    def f(x):
        for _ in range(5_000):
            x = x * 0.99999 + 1e-6
        return x

    expected = 1.0
    for _ in range(5_000):
        expected = 0.99999 * expected
    gradient = fg.grad(f)
    assert gradient(3.0) == expected
    assert isinstance(gradient.kernels[0].stages, RoundStages)
