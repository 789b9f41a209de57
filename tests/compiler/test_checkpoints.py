"""Reverse sweeps in bounded memory: rounds that are computed again from checkpoints, with the same bits."""

from __future__ import annotations

import functools
import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.loops.grammar import Repeat
from flatgrad.compiler.loops.reroll import reroll
from flatgrad.compiler.loops.rounds import OTHER_WAYS, find_rounds, in_other_way
from flatgrad.compiler.machine import checkpoints, native
from flatgrad.compiler.machine.checkpoints import emit_checkpointed, find_pair, reversal, runs, within_memory
from flatgrad.compiler.machine.llvm import emit_llvm
from flatgrad.compiler.machine.operations import Machine
from flatgrad.runtime.errors import OptionError
from tests.bits import assert_same
from tests.examples import examples, repeats, slow

pytestmark = pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")


# --- the order of segments --------------------------------------------------------------------------------------------


@given(st.integers(1, 70), st.integers(1, 12))
@settings(max_examples=examples(200))
def test_what_is_reversed_is_at_hand(segments, slots):
    """Segments are reversed from the last to the first; each from its own state, and what is restored was saved."""
    saved: dict[int, int] = {0: 0}
    here, left = 0, segments
    for action, a, b in reversal(segments, slots):
        if action == "run":
            assert here == a < b
            here = b
        elif action == "save":
            assert here == a
            assert b < slots
            saved[b] = a
        elif action == "restore":
            assert saved[b] == a
            here = a
        else:
            assert here == a == left - 1
            here, left = -1, a
    assert left == 0


@given(st.integers(1, 70), st.integers(1, 12))
@settings(max_examples=examples(200))
def test_as_few_segments_as_can_be_are_computed_again(segments, slots):
    """Griewank and Walther's least number: r l - C(s + r, r - 1), where C(s + r, r) is the first that is l or more."""
    repetitions = next(r for r in range(1, 100) if math.comb(slots + r, r) >= segments)
    least = repetitions * segments - math.comb(slots + repetitions, repetitions - 1)
    assert sum(b - a for action, a, b in reversal(segments, slots) if action == "run") == least
    assert runs(segments, slots) == least


# --- recurrences ------------------------------------------------------------------------------------------------------


def pendulum(p, n):
    def slope(angle, speed):
        return speed, -p[2] * fg.sin(angle) - p[3] * speed

    angle, speed, h = p[0], p[1], 0.01
    for _ in range(n):
        a1, b1 = slope(angle, speed)
        a2, b2 = slope(angle + 0.5 * h * a1, speed + 0.5 * h * b1)
        angle, speed = angle + h * (a1 + a2), speed + h * (b1 + b2)
    return angle * angle + speed


def rnn(w, xs, size=3):
    state, total = [0.0] * size, 0.0
    for x in xs:
        state = [
            fg.tanh(sum(w[j * size + i] * state[i] for i in range(size)) + w[size * size + j] * x) for j in range(size)
        ]
        total = total + state[0] * state[1]
    return total


def lstm(w, xs):
    size = 2
    h, c, total = [0.0] * size, [0.0] * size, 0.0
    for x in xs:
        gates = [
            [w[6 * q + 3 * j] * x + sum(w[6 * q + 3 * j + 1 + i] * h[i] for i in range(size)) for j in range(size)]
            for q in range(4)
        ]
        c = [fg.sigmoid(a) * s + fg.sigmoid(b) * fg.tanh(g) for a, b, g, s in zip(*gates[:3], c, strict=True)]
        h = [fg.sigmoid(a) * fg.tanh(s) for a, s in zip(gates[3], c, strict=True)]
        total = total + h[0]
    return total


def per_round(p, xs):
    """A value, and the states of all rounds beside it."""
    s, states = p[0], []
    for x in xs:
        s = fg.sin(s * p[1]) + p[2] * x
        states.append(s)
    return s * s, states


def implicit(p, n):
    """Steps of an implicit method: an inner loop solves an equation in each."""
    x = p[0]
    for _ in range(n):
        y = x
        for _ in range(10):
            y = x + 0.1 * fg.sin(p[1] * y) * p[2]
        x = y
    return x * x


RECURRENCES = {
    "implicit": (functools.partial(implicit, n=120), ([0.3, 0.7, 0.9],)),
    "pendulum": (functools.partial(pendulum, n=300), ([0.1, 0.2, 1.0, 0.3],)),
    "RNN": (rnn, (np.linspace(-0.5, 0.5, 12), np.linspace(-1.0, 1.0, 150))),
    "LSTM": (lstm, (np.linspace(-0.5, 0.5, 24), np.linspace(-1.0, 1.0, 120))),
}


def flat(result):
    value, gradient = result
    return [*np.ravel(value).tolist(), *np.ravel(gradient).tolist()]


@pytest.mark.parametrize("name", slow(RECURRENCES, "LSTM", "RNN", "implicit"))
def test_any_bound_gives_the_same_bits(name):
    function, arguments = RECURRENCES[name]
    expected = flat(fg.value_and_grad(function, backend="python")(*arguments))
    workspaces = []
    for memory in (1e9, 10_000, 1_000):
        f = fg.value_and_grad(function, backend="native", memory=memory)
        for _ in range(2):
            assert_same(flat(f(*arguments)), expected, (name, memory))
        (kernel,) = f.kernels
        workspaces.append(kernel.stats.workspace)
        assert bool(kernel.stats.checkpoints) is (memory < 1e9)
        assert ("not all of it can be computed again" in kernel.stats.reason) is (workspaces[-1] > memory)
    assert workspaces == sorted(workspaces, reverse=True)
    assert workspaces[-1] < workspaces[0] / 2


def test_a_bound_that_can_be_kept_is_kept():
    def swing(p, xs):
        level = p[0]
        for x in xs:
            level = level - p[1] * fg.sqrt(level) + x
        return level

    arguments = [1.0, 0.1], np.linspace(0.1, 0.2, 1000)
    for memory in (30_000, 25_000):
        f = fg.value_and_grad(swing, backend="native", memory=memory)
        f(*arguments)
        assert f.kernels[0].stats.workspace <= memory


def test_twice_the_memory_serves_four_times_the_rounds():
    """The least memory grows as the square root of the number of rounds."""
    few, many = (
        fg.value_and_grad(functools.partial(pendulum, n=n), backend="native", memory=0)
        .kernel_for([0.1, 0.2, 1.0, 0.3])
        .stats.workspace
        for n in (500, 2_000)
    )
    assert many < 2.3 * few


def test_results_of_all_rounds_are_kept():
    arguments = [0.1, 0.9, 0.5], np.linspace(-1.0, 1.0, 200)
    (value, states), gradient = fg.value_and_grad(per_round, has_aux=True, backend="python")(*arguments)
    f = fg.value_and_grad(per_round, has_aux=True, backend="native", memory=1_000)
    (value_again, states_again), gradient_again = f(*arguments)
    assert_same([value_again, *states_again, *gradient_again], [value, *states, *gradient])


@pytest.mark.slow
@pytest.mark.parametrize("memory", [1e9, 4_000])
def test_one_kernel_for_all_lengths(memory):
    f = fg.value_and_grad(rnn, backend="native", dynamic=True, memory=memory)
    w = np.linspace(-0.5, 0.5, 12)
    for length in (20, 31, 60, 300):
        xs = np.linspace(-1.0, 1.0, length)
        leaves = [fg.Value(number) for number in w]
        result = rnn(leaves, xs.tolist())
        result.backward()
        assert_same(flat(f(w, xs)), [result.data, *(leaf.grad for leaf in leaves)], length)
    assert len(f.open_kernels) == 1
    assert bool(f.kernel_for(w, xs).stats.checkpoints) is (memory < 1e9)


def test_an_exception_is_that_of_its_round():
    def logs(p, xs):
        s = p[0]
        for x in xs:
            s = fg.log(s * s + x) + p[1] * s
        return s

    xs = np.full(300, 2.0)
    xs[217] = -1e9
    messages = []
    for options in ({"backend": "python"}, {"backend": "native"}, {"backend": "native", "memory": 1_000}):
        f = fg.value_and_grad(logs, **options)
        with pytest.raises(ValueError, match="log") as raised:
            f([0.5, 0.3], xs)
        messages.append(str(raised.value))
    assert len(set(messages)) == 1
    assert np.isfinite(f([0.5, 0.3], np.full(300, 2.0))[0])


def test_what_cannot_be_cut_stays_as_it_is():
    def product(x):
        return sum(a * b for a, b in zip(x, x[::-1], strict=True))

    x = np.linspace(0.0, 1.0, 500)
    f = fg.value_and_grad(product, backend="native", memory=100)
    assert_same(flat(f(x)), flat(fg.value_and_grad(product, backend="python")(x)))
    (kernel,) = f.kernels
    assert kernel.stats.checkpoints == 0
    assert kernel.stats.workspace > 100
    assert "memory=100, as not all of it can be computed again" in kernel.stats.reason


@pytest.mark.parametrize("memory", [-1, "1 GB", None, math.nan, True])
def test_the_bound_is_a_number_of_bytes(memory):
    with pytest.raises(OptionError, match="memory must be a number"):
        fg.grad(rnn, memory=memory)


def test_the_bound_is_shown():
    assert "memory=1000" in repr(fg.grad(rnn, memory=1000))
    assert "memory" not in repr(fg.grad(rnn))


# --- random recurrences -----------------------------------------------------------------------------------------------


class Recurrence:
    """A random function with loops: of numbers or vectors, with a stream, with constants per round, several in a row.

    Args:
        seed: of the choices.
        rounds: how many the first loop has.
    """

    def __init__(self, seed: int, rounds: int) -> None:
        choice = random.Random(seed)
        self.rounds = [rounds] + [choice.randint(8, 40)] * choice.randint(0, 1)
        self.width = choice.choice([1, 1, 2, 3])
        self.stream, self.constants = choice.random() < 0.6, choice.random() < 0.4
        self.lags, self.total = choice.choice([1, 1, 2]), choice.random() < 0.5
        self.steps = [
            (choice.choice(["sin", "tanh", "mul", "add", "mix"]), choice.randrange(4), choice.randrange(4))
            for _ in range(choice.randint(1, 4))
        ]
        self.turns = choice.choice([1, 9]) if self.width * len(self.steps) <= 2 else 1  # an inner loop in each round
        self.numbers = [choice.uniform(0.2, 0.9) for _ in range(4)]
        self.streams = [choice.uniform(-1.0, 1.0) for _ in range(max(self.rounds))]

    def __call__(self, p, xs):
        states = [[p[k % 4] for k in range(self.width)] for _ in range(self.lags)]
        total = 0.0
        for count in self.rounds:
            for k in range(count):
                before, last = states[-self.lags], states[-1]
                values = list(p) + ([xs[k]] if self.stream else [])
                new = []
                for j in range(self.width):
                    a = last[j] * 0.9 + before[(j + 1) % self.width] * 0.1
                    for name, left, right in self.steps * self.turns:
                        a = self._step(name, a, values[left], values[(left + right) % len(values)])
                    new.append(a + (0.1 * (k % 7) if self.constants else 0.0))
                states.append(new)
                total = total + new[0] * p[3] if self.total else total
        return total + sum(states[-1])

    @staticmethod
    def _step(name, a, b, c):
        if name in ("sin", "tanh"):
            return getattr(fg, name)(a * b)
        return a * b if name == "mul" else a * 0.5 + c if name == "add" else a * b + c * 0.5 - a * 0.25


def run(code, inputs):
    function = native.NativeFunction(native.assemble(code.assembly), code.layout, release=False)
    memory, call = function.workspace()
    memory[: len(inputs)] = inputs
    assert call() == 0
    return [n for place, size in code.layout.outputs for n in memory[place : place + size].tolist()]


@pytest.mark.slow
@given(st.integers(0, 2**32), st.integers(12, 40))
@settings(max_examples=repeats(15), deadline=None)
def test_random_recurrences(seed, rounds):
    recurrence = Recurrence(seed, rounds)
    p, xs = np.array(recurrence.numbers), np.array(recurrence.streams)
    stages = fg.value_and_grad(recurrence, backend="python", dynamic=False).kernel_for(p, xs).stages
    machine = Machine(native.host().lanes, native.host().shortcuts, native.host().vector_math, native.host().variants)
    inputs = [*p.tolist(), *xs.tolist()]
    expected = stages.cleaned.evaluate(inputs)
    part = stages.array_parts[0]
    programs = [find_rounds(reroll(part), 24), *(in_other_way(part, way) for way in range(len(OTHER_WAYS)))]
    least = math.inf
    for program in programs:
        size = emit_llvm(program, machine).layout.bytes
        for limit in (0, size * 2 // 3) if find_pair(program) is not None else ():
            code = emit_checkpointed(program, machine, limit)
            if code is not None:  # there is more than one segment
                assert_same(run(code, inputs), expected, program)
                least = min(least, code.layout.bytes) if limit == 0 else least
    code = within_memory(programs, machine, 0)
    assert (math.inf if code is None else code.layout.bytes) == least


def test_rounds_with_loops_in_them_are_computed_again():
    stages = fg.value_and_grad(RECURRENCES["implicit"][0], backend="python", dynamic=False).kernel_for([0.3] * 3).stages
    program = in_other_way(stages.array_parts[0], 1)
    pair = find_pair(program)
    assert pair is not None
    assert all(program.statements[k].inner for k in (pair.forward, pair.adjoint))
    machine = Machine(native.host().lanes, native.host().shortcuts, native.host().vector_math, native.host().variants)
    whole, cut = emit_llvm(program, machine), emit_checkpointed(program, machine, 0)
    assert cut.layout.bytes < whole.layout.bytes / 3
    assert_same(run(cut, [0.3, 0.7, 0.9]), program.evaluate([0.3, 0.7, 0.9]))


def test_the_pair_that_keeps_the_most_is_found_without_looking_at_all(monkeypatch):
    def f(p):
        total = 0.0
        for count, numbers in ((40, 1), (60, 4), (30, 2), (50, 1)):
            state = list(p[:numbers])
            for _ in range(count):
                state = [fg.sin(each * p[0] + state[0]) for each in state]
            total = total + state[-1]
        return total

    stages = fg.value_and_grad(f, backend="python", dynamic=False).kernel_for([0.3, 0.7, 0.9, 0.2]).stages
    program = in_other_way(stages.array_parts[0], 1)
    loops = [k for k, item in enumerate(program.statements) if isinstance(item, Repeat)]
    pairs = list(itertools.combinations(loops, 2))
    accesses = checkpoints._Accesses(program)
    every = [pair for a, b in pairs if (pair := checkpoints._Finder(program, a, b, accesses).pair()) is not None]
    looked: list[tuple[int, int]] = []
    finder = checkpoints._Finder
    monkeypatch.setattr(checkpoints, "_Finder", lambda *args: looked.append(args[1:3]) or finder(*args))
    found = find_pair(program)
    assert found is not None
    assert found.width * found.rounds[0] == max(pair.width * pair.rounds[0] for pair in every)
    assert len(looked) < len(pairs)


@pytest.mark.parametrize("seed", range(8))
def test_scalar_recurrences_can_be_cut(seed):
    """A loop and its adjoint can be cut, at least where everything stays alone."""
    recurrence = Recurrence(seed, 60)
    recurrence.rounds = [60]
    p, xs = np.array(recurrence.numbers), np.array(recurrence.streams)
    stages = fg.value_and_grad(recurrence, backend="python", dynamic=False).kernel_for(p, xs).stages
    programs = [in_other_way(stages.array_parts[0], way) for way in range(len(OTHER_WAYS))]
    assert any(find_pair(program) is not None for program in programs)
