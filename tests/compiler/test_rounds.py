"""Recurrences as loops over rounds: recognised, and with the bits of the scalar program in every form."""

from __future__ import annotations

import functools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.languages import rolled
from flatgrad.compiler.loops.generalize import generalize
from flatgrad.compiler.loops.grammar import Block, Fold, Read, Repeat, Statement
from flatgrad.compiler.loops.reroll import reroll
from flatgrad.compiler.loops.rounds import FEW, find_rounds
from flatgrad.compiler.machine import native
from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.program import Group
from flatgrad.runtime.errors import ProgramError
from tests.array_programs import recurrences
from tests.bits import assert_same
from tests.every_way import SHORT_ROUNDS, check_jit, check_joint, check_pair, check_primal, flattened
from tests.examples import crossed, examples, slow

BACKENDS = ["numpy", *(["native"] if native.available() else [])]


@pytest.fixture
def short_ones(monkeypatch):
    """Short recurrences are loops, too."""
    for module, limits in SHORT_ROUNDS:
        for name, limit in limits.items():
            monkeypatch.setattr(module, name, limit)


@pytest.mark.usefixtures("short_ones")
@pytest.mark.parametrize(("check", "backend"), crossed([check_joint, check_primal, check_jit], BACKENDS))
def test_random_recurrences(check, backend):
    @given(recurrences())
    @settings(max_examples=examples(40))
    def agree(program):
        check(program, backend)

    agree()


@pytest.mark.usefixtures("short_ones")
@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_random_recurrences_forward_and_backward(backend):
    @given(recurrences())
    @settings(max_examples=examples(20))
    def agree(program):
        check_pair(program, lambda k: 0.5 + k, backend)

    agree()


def lorenz(rounds):
    def f(x):
        a, b, c = x
        for _ in range(rounds):
            da, db, dc = 10.0 * (b - a), a * (28.0 - c) - b, a * b - 8 / 3 * c
            a, b, c = a + 0.01 * da, b + 0.01 * db, c + 0.01 * dc
        return a + b + c

    return f, ([1.0, 1.5, 0.5],)


def garch(rounds):
    returns = np.random.default_rng(1).normal(size=rounds).tolist()

    def f(p):
        omega, alpha, beta = p
        variance, loss = 1.0 * omega, 0.0
        for r in returns:
            loss = loss + fg.log(variance) + r * r / variance
            variance = omega + alpha * (r * r) + beta * variance
        return loss

    return f, ([0.1, 0.1, 0.8],)


def pendulum(rounds):
    """Runge-Kutta of the fourth order."""

    def slopes(p, angle, speed):
        return speed, -p[2] * fg.sin(angle) - p[3] * speed

    def f(p):
        x, h = (p[0], p[1]), 0.01
        for _ in range(rounds):
            k1 = slopes(p, *x)
            k2 = slopes(p, *(a + 0.5 * h * k for a, k in zip(x, k1, strict=True)))
            k3 = slopes(p, *(a + 0.5 * h * k for a, k in zip(x, k2, strict=True)))
            k4 = slopes(p, *(a + h * k for a, k in zip(x, k3, strict=True)))
            x = tuple(a + h / 6 * (b + 2 * c + 2 * d + e) for a, b, c, d, e in zip(x, k1, k2, k3, k4, strict=True))
        return x[0] * x[0] + x[1]

    return f, ([1.0, 0.1, 1.2, 0.1],)


def extreme(rounds):
    return lambda xs: 2.0 * fg.max(xs), (np.random.default_rng(2).normal(size=rounds),)


def running(later_first, backwards, primitive):
    """Running extremes, in which ties are told apart by the signs of zeros and by what they are divided into."""

    def f(xs):
        best, results = xs[-1] if backwards else xs[0], []
        for x in xs[-2::-1] if backwards else xs[1:]:
            best = primitive(x, best) if later_first else primitive(best, x)
            results.append(best)
        return results

    return f


@pytest.mark.skipif("native" not in BACKENDS, reason="llvmlite is not installed")
@pytest.mark.usefixtures("short_ones")
@pytest.mark.parametrize(
    ("order", "primitive"),
    crossed([(False, False), (False, True), (True, True), (True, False)], [fg.maximum, fg.minimum]),
)
def test_running_extremes_have_the_first_of_equals_and_every_nan(order, primitive):
    """Vectors of them are joined in another order, which must not show: not in zeros, nor where a NaN comes first."""
    from tests.native_programs import MACHINES, MachineCode

    f, draw = running(*order, primitive), np.random.default_rng(8)
    for count in (13, 40, 57):
        arrays = fg.jit(f, backend="native").kernel_for(np.zeros(count)).arrays
        assert any(isinstance(item, Repeat) for item in arrays.statements)
        for machine in MACHINES:
            code = MachineCode(arrays, machine)
            assert ("shufflevector" in code.code.assembly) == (machine.lanes > 2)
            for values in ([0.0, -0.0], [0.0, -0.0, -math.inf, math.inf], [1.0, -1.0, 0.0, -0.0, 2.0], [-1.0, -2.0]):
                for nans in (0, 0, 1, 2):
                    xs = draw.choice(values, count)
                    xs[draw.integers(count, size=nans)] = math.nan
                    expected = [value.data for value in f([fg.Value(x) for x in xs.tolist()])]
                    assert_same(code(xs), expected)


def network(rounds):
    draw = np.random.default_rng(3)
    inputs = draw.normal(size=(rounds, 2)).tolist()

    def f(w, u):
        state = [0.1] * 4
        for x in inputs:
            state = [
                fg.tanh(sum(a * s for a, s in zip(w[i], state, strict=True)) + u[i][0] * x[0] + u[i][1] * x[1])
                for i in range(4)
            ]
        return sum(s * s for s in state)

    return f, (draw.normal(size=(4, 4)) / 2, draw.normal(size=(4, 2)))


def two_neurons(rounds):
    """So few that parts of a round are straight-line code, others statements."""

    def f(w, x):
        state = [x, x]
        for _ in range(rounds):
            state = [fg.tanh(fg.sum([a * s for a, s in zip(row, state, strict=True)])) for row in w]
        return fg.sum(state)

    return f, (np.array([[0.3, 0.5], [0.2, 0.4]]), 0.5)


def ring(rounds):
    """Each number reads its neighbour's."""

    def f(a):
        state = [0.1 * k * a for k in range(4)]
        for _ in range(rounds):
            state = [fg.tanh(0.5 * state[k] + a * state[(k + 1) % 4]) for k in range(4)]
        return fg.sum(state)

    return f, (0.3,)


def lstm(rounds, width=4):
    draw = np.random.default_rng(4)
    inputs = draw.normal(size=(rounds, 2)).tolist()

    def f(w, u, b):
        state, cell = [0.0] * width, [0.0] * width
        for x in inputs:
            sums = [dot(w[k], state) + dot(u[k], x) + b[k] for k in range(4 * width)]
            parts = [sums[k * width : (k + 1) * width] for k in range(4)]
            into, out, keep = ([1.0 / (1.0 + fg.exp(-s)) for s in part] for part in parts[:3])
            new = [fg.tanh(s) for s in parts[3]]
            cell = [k * c + i * n for k, c, i, n in zip(keep, cell, into, new, strict=True)]
            state = [o * fg.tanh(c) for o, c in zip(out, cell, strict=True)]
        return fg.sum([s * s for s in state])

    return f, (draw.normal(size=(4 * width, width)) / 4, draw.normal(size=(4 * width, 2)), draw.normal(size=4 * width))


def markov(rounds):
    """The logarithm of the likelihood of a hidden Markov model of two states, with normal emissions."""
    observed = np.random.default_rng(6).normal(size=rounds).tolist()

    def f(means, widths, steps):
        def emitted(x):
            scaled = [(x - mean) / width for mean, width in zip(means, widths, strict=True)]
            return [-0.5 * z * z - fg.log(width) for z, width in zip(scaled, widths, strict=True)]

        logs = [[step - fg.logsumexp(row) for step in row] for row in steps]
        state = [e - 0.7 for e in emitted(observed[0])]
        for x in observed[1:]:
            state = [
                fg.logsumexp([s + row[k] for s, row in zip(state, logs, strict=True)]) + e
                for k, e in enumerate(emitted(x))
            ]
        return fg.logsumexp(state)

    return f, (np.array([-0.5, 0.5]), np.array([1.0, 2.0]), np.array([[0.7, 0.3], [0.2, 0.8]]))


def dot(a, b):
    return fg.sum([x * y for x, y in zip(a, b, strict=True)])


def kalman(rounds):
    """The likelihood of noisy places of something that moves, by a filter with matrices of two rows."""
    observed = np.random.default_rng(5).normal(size=rounds).tolist()

    def product(a, b):
        return [[dot(row, column) for column in zip(*b, strict=True)] for row in a]

    def f(p):
        state, spread, loss = [p[0], p[1]], [[p[2], 0.0], [0.0, p[3]]], 0.0
        for y in observed:
            state = [state[0] + state[1], state[1]]
            spread = product(product([[1.0, 1.0], [0.0, 1.0]], spread), [[1.0, 0.0], [1.0, 1.0]])
            spread[1][1] = spread[1][1] + p[4]
            variance, error = spread[0][0] + p[5], y - state[0]
            loss = loss + fg.log(variance) + error * error / variance
            gain = [spread[0][0] / variance, spread[1][0] / variance]
            state = [s + g * error for s, g in zip(state, gain, strict=True)]
            spread = [[spread[i][j] - gain[i] * spread[0][j] for j in range(2)] for i in range(2)]
        return loss

    return f, ([0.1, 0.2, 1.0, 1.0, 0.3, 0.5],)


RECURRENCES = [lorenz, garch, pendulum, extreme, network, two_neurons, ring, lstm, kalman]


def kernel_of(function, arguments, backend):
    argnums = tuple(range(len(arguments)))
    return fg.value_and_grad(function, argnums, backend=backend).kernel_for(*arguments)


@functools.cache
def kernel_with(recurrence, rounds):
    """A kernel on NumPy that several tests look at."""
    return kernel_of(*recurrence(rounds), "numpy")


@pytest.mark.parametrize("recurrence", slow(RECURRENCES, pendulum, ring, lstm, kalman))
def test_the_loops_do_not_grow_with_the_number_of_rounds(recurrence):
    least = 140 if recurrence is extreme else 50  # a loop of 50 comparisons is not worth it
    few, many = (kernel_with(recurrence, rounds).arrays for rounds in (least, 150))
    assert len(few.statements) == len(many.statements) <= (31 if recurrence is lstm else 26)
    assert [len(s.statements) for s in few.statements if isinstance(s, Repeat)] == [
        len(s.statements) for s in many.statements if isinstance(s, Repeat)
    ]
    assert few.stats.scalars == many.stats.scalars < 300


@pytest.mark.parametrize("recurrence", slow(RECURRENCES, pendulum, ring, lstm, kalman))
def test_the_source_of_numpy_does_not_grow_with_the_number_of_rounds(recurrence):
    few, many = (kernel_with(recurrence, rounds).source for rounds in (140, 150))
    assert len(few.splitlines()) == len(many.splitlines()) < 700
    assert "for i in range" in few


def test_rounds_of_vectors_are_array_statements_and_rounds_of_numbers_are_not():
    kernel = kernel_of(*network(100), "numpy")
    assert re.search(r"for i in range\(99\):\n +#.*\n +np\.multiply\(\w+, \w+\[i\], \w+\)", kernel.source)
    assert ".append(" not in kernel.source.replace("].append(run)", "")
    assert "v4.append(" in kernel_of(*lorenz(100), "numpy").source


@pytest.mark.parametrize("recurrence", slow(RECURRENCES, pendulum, ring, lstm, kalman))
def test_the_bits_are_those_of_flat_python(recurrence):
    function, arguments = recurrence(70)
    argnums = tuple(range(len(arguments)))
    expected = flattened(list(fg.value_and_grad(function, argnums, backend="python")(*arguments)))
    for backend in BACKENDS[::-1]:
        compiled = fg.value_and_grad(function, argnums, backend=backend)
        assert_same(flattened(list(compiled(*arguments))), expected)
    (kernel,) = compiled.kernels
    numbers = [x for argument in arguments for x in np.ravel(argument).tolist()]
    assert any(isinstance(s, Repeat) for s in kernel.arrays.check().statements)
    assert_same(kernel.arrays.evaluate(numbers), expected)


def test_one_program_for_every_number_of_rounds():
    """Programs of three lengths determine that of a fourth."""
    lengths = 90, 93, 97
    *samples, third = (kernel_of(*lorenz(rounds), "numpy").arrays for rounds in (*lengths, 200))
    program = generalize(samples, [(n,) for n in lengths])
    assert program is not None
    numbers = [1.0, 1.5, 0.5]
    assert_same(program.bind(200).check().evaluate(numbers), third.evaluate(numbers))


def test_what_a_recurrence_does_not_need_is_outside_of_its_loop():
    """A sine of each input stands before, a square of each state behind."""

    def f(a, xs):
        state, loss = a, 0.0
        for x in xs:
            state = state * a + fg.sin(x)
            loss = loss + state * state
        return loss

    arrays = fg.jit(f, backend="numpy").kernel_for(0.5, np.ones(200)).arrays
    (repeat,) = [s for s in arrays.statements if isinstance(s, Repeat)]
    assert len(repeat.statements) == 1
    assert "sin" not in str(repeat)
    assert any(isinstance(s, Statement) and s.lanes > 190 for s in arrays.statements[: arrays.statements.index(repeat)])


def test_a_round_of_a_thousand_operations():
    """There is no bound on the length of a round."""

    def f(x):
        for _ in range(12):
            for k in range(500):
                x = fg.sin(x) if k % 7 == 3 else x * (0.5 + 0.001 * k) + 0.1
        return x

    arrays = fg.value_and_grad(f, backend="numpy").kernel_for(0.3).arrays
    assert arrays.stats.scalars < 4_000 < arrays.stats.equations
    x = fg.Value(0.3)
    result = f(x)
    result.backward()
    assert_same(arrays.evaluate([0.3]), [result.data, x.grad])


def of_numbers(x, ys):
    level = x
    for y in ys:
        level = level * 0.5 + fg.log(level * y + 1.5)
    return level


def of_vectors(x, ys):
    state = [x, x + 1.0, x * x]
    for y in ys:
        state = [fg.atan(sum(a * s for a, s in zip((0.1, k, 0.3), state, strict=True))) for k in (0.2, 0.5, 0.7)]
        state[0] = state[0] + fg.sqrt(state[1] * y + 1.5)
    return fg.sum(state)


def nested(x, ys):
    """Two rounds of a loop in each round."""
    level = x
    for y in ys:
        for _ in range(2):
            level = level * 0.5 + fg.log(level * y + 1.5)
    return level


def scanned(x, ys):
    return fg.scan(lambda level, y: (level * 0.5 + fg.log(level * y + 1.5), None), x, ys)[0]


FAULTY = [of_numbers, of_vectors, nested, scanned]
TRANSFORMS = [fg.jit, fg.grad, fg.value_and_grad]


def the_interpreters(function, ys):
    """The exception of the interpreter."""
    with pytest.raises(fg.DomainError) as caught:
        function(fg.Value(1.0), ys.tolist())
    return caught.value


def assert_raises_the_same(compiled, function, ys):
    expected = the_interpreters(function, ys)
    with pytest.raises(type(expected)) as caught:
        compiled(1.0, ys)
    assert str(caught.value) == str(expected)
    assert "test_rounds.py" in str(expected)


@pytest.mark.parametrize(
    ("function", "backend"), slow(crossed(FAULTY, ["python", *BACKENDS, "auto"]), of_vectors, nested)
)
def test_a_fault_in_a_late_round_is_the_interpreters(function, backend):
    """Its class, and its text: the operation, the numbers, and the user's line. Then calls go on as before."""
    ys = np.linspace(0.5, 1.0, 240)
    for transform in TRANSFORMS[: 1 if backend == "python" else 3]:
        compiled = transform(function, backend=backend)
        before = compiled(1.0, ys)
        faulty = ys.copy()
        faulty[217] = -1e6
        assert_raises_the_same(compiled, function, faulty)
        assert_same(flattened(list(np.ravel(compiled(1.0, ys)))), flattened(list(np.ravel(before))))


@pytest.mark.parametrize(("function", "backend"), crossed(FAULTY, BACKENDS[::-1]))
def test_a_fault_in_any_round_is_the_interpreters(function, backend):
    """The first ones and the last, which may be no part of the loop."""
    compiled = fg.value_and_grad(function, backend=backend)
    count = 150

    @given(st.one_of(st.integers(0, count - 1), st.sampled_from([0, 1, 2, count - 3, count - 2, count - 1])))
    @settings(max_examples=examples(20))
    def agree(number):
        ys = np.linspace(0.5, 1.0, count)
        ys[number] = -1e6
        assert_raises_the_same(compiled, function, ys)

    agree()


@pytest.mark.parametrize(("rows", "apart"), [(20, False), pytest.param(300, True, marks=pytest.mark.slow)])
def test_deep_networks_reuse_their_memory(rows, apart):
    """Rounds of large array statements stay apart where most of their results are not read later."""

    def f(w, x):
        for _ in range(30):
            x = [
                [fg.tanh(a * b + a * c) for b, c in zip(row, [*row[1:], row[0]], strict=True)]
                for a, row in zip(w, x, strict=True)
            ]
        return x

    arrays = fg.jit(f, backend="numpy").kernel_for(np.ones(rows), np.ones((rows, 16))).arrays
    assert apart != any(isinstance(s, Repeat) for s in arrays.statements)


@pytest.mark.usefixtures("short_ones")
@pytest.mark.parametrize("backend", BACKENDS)
def test_rounds_that_read_one_another_at_growing_distances_are_no_loop(backend):
    """An address moves by two rounds in each: first it is in front of the rounds, then in them."""

    def f(x):
        results = list(x)
        for r in range(len(x)):
            a = fg.sin(results[2 * r])
            results.append(a + results[-1] * a)
        return results

    point = [0.1 * k + 0.3 for k in range(40)]
    g = fg.jit(f, backend=backend)
    expected = fg.jit(f, backend="python")(point)
    assert_same(g(point), expected)
    assert_same(g.kernel_for(point).arrays.check().evaluate(point), expected)


@pytest.mark.usefixtures("short_ones")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_first_round_that_reads_a_constant_where_others_read_a_stream(backend):
    """The stream moves by one number in a round, and so do carried values: it is none of them."""

    def f(x, y):
        result = y[0] * 0.0
        for k in range(1, 9):
            result = result * (y[k] * 0.0)
        return result + 0.0 * x[0]

    zeros = [0.0] * 9
    g = fg.jit(f, backend=backend)
    assert_same([g([-1.0, 5.0], zeros)], [fg.jit(f, backend="python")([-1.0, 5.0], zeros)])
    arrays = g.kernel_for([-1.0, 5.0], zeros).arrays.check()
    assert_same(arrays.evaluate([-1.0, 5.0, *zeros]), [0.0])


def test_the_checker_finds_what_is_read_too_early():
    arrays = kernel_of(*lorenz(100), "numpy").arrays
    repeat = next(s for s in arrays.statements if isinstance(s, Repeat))
    position = arrays.statements.index(repeat)
    arrays.statements[position] = Repeat(repeat.statements[::-1], repeat.starts[::-1])
    with pytest.raises(ProgramError, match="reads what is written later"):
        arrays.check()


def test_first_and_last_rounds_are_like_the_others():
    """The first round reads zeros as its state, and what the last one computes has fewer readers."""
    arrays = kernel_of(*lstm(14), "numpy").arrays
    counts = [item.statements[0].shape[0] for item in arrays.statements if isinstance(item, Repeat)]
    assert counts == [14, 12], arrays  # the gradient ends where the state is constant


def test_rounds_of_one_operation_that_read_streams():
    """Three products per round: only distances to what the round before computed tell where a round ends."""
    f = ProgramBuilder("f", [Group("a", 1, True), Group("x", 30, False), Group("y", 30, False)])
    state, kept = f.emit("mul", 0, 1), []
    for k in range(30):
        state = f.emit("mul", state, 1 + k)
        kept.append(f.emit("mul", state, 60 - k))
        state = f.emit("mul", state, 0)
    arrays = find_rounds(reroll(f.finish([state, *kept], [Group("s", 1, True), Group("ys", 30, False)])), *FEW)
    assert any(isinstance(item, Repeat) for item in arrays.statements)
    assert len(arrays.statements) < 8


def test_straight_lines_stay_as_they_are():
    draw = np.random.default_rng(4)
    names = draw.choice(["sin", "tanh", "+", "*"], 400)
    pairs = draw.integers(0, 20, (400, 2))

    def f(x):
        values = [x * (k + 1) for k in range(20)]
        for name, (a, b) in zip(names, pairs, strict=True):
            one, other = values[-1 - a], values[-1 - b]
            values.append(one + other if name == "+" else one * other if name == "*" else getattr(fg, name)(one))
        return values[-1]

    arrays = reroll(fg.value_and_grad(f, backend="python").kernel_for(0.1).program)
    assert any(isinstance(s, Block) for s in arrays.statements)
    assert find_rounds(arrays) is arrays or len(find_rounds(arrays).statements) < 2 * len(arrays.statements) + 8


@pytest.mark.parametrize("most", [12, 0])
def test_rolled_python_reads_several_lists_that_grow(most, monkeypatch):
    """They are not put together before the loop, when they are empty; of more lanes, tables say which list is read."""
    monkeypatch.setattr(rolled, "_ITEMS", most)

    def f(x, y):
        outs = []
        for t in y:
            v = x
            for _ in range(12):
                v = v * v
            outs.append(v * t)
        return fg.sum(outs)

    arguments = 0.9, [1.0, 2.0, -1.5]
    kernel = fg.value_and_grad(f, backend="numpy").kernel_for(*arguments)
    source = kernel.python_source(rolled=True)
    assert ("T1 = [" in source) == (not most)
    assert any(isinstance(s, Repeat) for s in kernel.arrays.statements)
    namespace = {}
    exec(source, namespace)
    expected = fg.value_and_grad(f, backend="python")(*arguments)
    assert_same(flattened(list(namespace["value_and_grad"](*arguments))), flattened(list(expected)))


def test_a_table_of_rounds_that_are_moved_evenly_is_that_of_one_round():
    function, arguments = ring(100)
    source = kernel_of(function, arguments, "numpy").python_source(rolled=True)
    assert re.search(r"\[T\d+\[j\] \+ 4\*i\]", source)
    namespace = {}
    exec(source, namespace)
    expected = flattened(list(fg.value_and_grad(function, backend="python")(*arguments)))
    assert_same(flattened(list(namespace["value_and_grad"](*arguments))), expected)


@pytest.mark.parametrize("backwards", [False, True])
def test_rounds_of_parts_that_compute_the_same(backwards):
    """The same three operations recur four times in a round; only what they read says where the next one begins."""

    def f(a, x):
        state = [a, a + 1.0, a * a, 0.5 * a]
        for k in range(60)[:: -1 if backwards else 1]:
            row = [x[4 * k + j] for j in (2, 3, 0, 1)]
            state = [fg.sin(s * r + state[j]) for s, r, j in zip(state, row, (1, 3, 0, 2), strict=True)]
        return fg.sum(state)

    arguments = 0.4, np.random.default_rng(5).normal(size=240)
    kernel = kernel_of(f, arguments, "numpy")
    assert kernel.arrays.stats.scalars < 250
    expected = flattened(list(fg.value_and_grad(f, (0, 1), backend="python")(*arguments)))
    assert_same(flattened(list(fg.value_and_grad(f, (0, 1), backend="numpy")(*arguments))), expected)


@pytest.mark.parametrize("recurrence", slow([pendulum, garch, lstm], lstm))
def test_sums_over_rounds_have_strides(recurrence):
    """What stands outside of a loop, at the beginning and at the end, is a segment of its own, not part of a table."""
    arrays = kernel_of(*recurrence(120), "numpy").arrays
    sums = [node for s in arrays.statements if isinstance(s, Statement) for node in s.body if isinstance(node, Fold)]
    long = [segment for node in sums for segment in node.segments if segment.terms > 100]
    reads = [node for segment in long for node in segment.body if isinstance(node, Read)]
    assert reads
    assert sum(read.table is not None for read in reads) <= len(reads) // 3


def test_what_only_the_round_itself_reads_is_a_number_and_no_list():
    source = kernel_of(*lorenz(100), "numpy").python_source(rolled=True)
    loop = source[source.rindex("for i in range(97)") :]
    assert re.search(r"\n        v6 = v\d+\[i\] \* 0\.01\n", loop)
    assert "v6[" not in source
    assert "v6.append" not in source


def test_rounds_of_rounds_do_not_grow_with_the_number_of_outer_ones():
    """Steps of an implicit method, in each of which a fixed point is sought by a few iterations."""

    def implicit(rounds):
        def f(p):
            x, h = p[0], 0.05
            for _ in range(rounds):
                new = x
                for _ in range(5):
                    new = x + h * fg.sin(p[1] * new)
                x = new
            return x * x

        return f, ([0.3, 1.2],)

    few, many = (kernel_of(*implicit(rounds), "numpy").arrays for rounds in (60, 120))
    assert len(few.statements) == len(many.statements) < 30
    assert few.stats.scalars == many.stats.scalars < 120
    function, arguments = implicit(60)
    expected = flattened(list(fg.value_and_grad(function, backend="python")(*arguments)))
    for backend in BACKENDS:
        assert_same(flattened(list(fg.value_and_grad(function, backend=backend)(*arguments))), expected)


@pytest.mark.parametrize("recurrence", slow([network, lstm, kalman], lstm, kalman))
def test_rounds_on_numpy_in_fast_mode(recurrence):
    """Products of matrices, of which each round has its own."""
    function, arguments = recurrence(40)
    argnums = tuple(range(len(arguments)))
    fast = fg.value_and_grad(function, argnums, backend="numpy", mode="fast")
    expected = flattened(list(fg.value_and_grad(function, argnums, backend="python")(*arguments)))
    np.testing.assert_allclose(flattened(list(fast(*arguments))), expected, rtol=1e-9, atol=1e-12)
    source = fast.kernel_for(*arguments).source
    assert "for i in range(" in source
    if recurrence is network:
        assert re.search(r"    np\.matmul\(\w+, \w+\[i\], \w+\)", source)


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_of_mixed_signs_are_one_stream(backend):
    """`x + (-c)` is not written as `x - c` in some rounds."""
    numbers = [math.sin(7.0 * k) for k in range(100)]
    positive = [abs(number) for number in numbers]

    def f(a, x, numbers):
        for number in numbers:
            x = fg.sin(x * a) + number
        return x

    counts = []
    for each in (numbers, positive):
        g = fg.value_and_grad(lambda a, x, each=each: f(a, x, each), backend=backend, dynamic=False)
        arrays = g.kernel_for(0.5, 0.2).arrays
        counts.append(sum(len(item.program) for item in arrays.statements if isinstance(item, Block)))
        assert_same(g(0.5, 0.2), fg.value_and_grad(lambda a, x, each=each: f(a, x, each), backend="python")(0.5, 0.2))
    assert counts[0] == counts[1] < 20
