"""`fg.scan` against the Python loop that it means: values, gradients, structures, errors; and what is recorded."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.machine import native
from flatgrad.compiler.program import folding, recorded
from flatgrad.compiler.program.family import Family
from flatgrad.compiler.program.groups import Group
from flatgrad.compiler.program.program import Program
from flatgrad.compiler.program.trace import trace_function
from flatgrad.runtime.value import as_value
from tests.examples import crossed, examples, named, slow

LENGTHS = [0, 1, 2, 5, 50, 1000]
BACKENDS = ["python", "numpy", "native"]


def loop(fn: Any, init: Any, xs: Any, reverse: bool = False) -> tuple[Any, list[Any]]:
    """What a scan over a list of rows means."""
    carry, ys = init, []
    for x in reversed(xs) if reverse else xs:
        carry, y = fn(carry, x)
        ys.append(y)
    return carry, ys[::-1] if reverse else ys


def numbers(length: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, length)


# Recurrences: a function of parameters and of how its loop is run; what it reads from outside are numbers.


def pendulum(run: Any, p: Any, length: int) -> Any:
    def step(state: Any, _: Any) -> Any:
        angle, speed = state
        speed = speed - 0.01 * fg.sin(angle) * p[2]
        return (angle + 0.01 * speed, speed), None

    (angle, speed), _ = run(step, (p[0], p[1]), [None] * length)
    return angle * angle + speed


def garch(run: Any, p: Any, length: int) -> Any:
    def step(state: Any, r: Any) -> Any:
        variance, total = state
        total = total + (fg.log(variance) + r * r * p[1] / variance)
        return (0.1 + 0.1 * p[2] * (r * r) + 0.5 * variance, total), None

    returns = numbers(length).tolist()
    return run(step, (p[0] * p[0] + 1.0, 0.0), returns)[0][1]


def smoothing(run: Any, p: Any, length: int) -> Any:
    """Backwards; the results are returned, and used by a second loop."""

    def step(level: Any, x: Any) -> Any:
        level = 0.9 * level + p[1] * x
        return level, level * p[2]

    xs = numbers(length).tolist()
    last, levels = run(step, p[0], xs, reverse=True)
    total, _ = run(
        lambda total, pair: (total + pair[0] * pair[1] * total * 0.1, None), last, [*zip(levels, xs, strict=True)]
    )
    return total


def counting(run: Any, p: Any, length: int) -> Any:
    """The carry counts: time, in steps that are no whole numbers."""

    def step(state: Any, _: Any) -> Any:
        y, t = state
        return (y + 0.01 * fg.cos(y * p[1] + t), t + 0.1), None

    (y, t), _ = run(step, (p[0], 0.0), [None] * length)
    return y * t + y


def delayed(run: Any, p: Any, length: int) -> Any:
    """What was read is used three rounds later."""

    def step(state: Any, x: Any) -> Any:
        a, b, c, total = state
        return (b, c, x, total + a * p[1] * total * 0.1), None

    return run(step, (p[0], 0.25, p[2], p[0]), numbers(length).tolist())[0][3]


RECURRENCES = [pendulum, garch, smoothing, counting, delayed]
START = [0.7, -0.3, 1.1]


def scanned(fn: Any, init: Any, xs: Any, reverse: bool = False) -> Any:
    """`fg.scan`; of rows that are None as well."""
    rows = None if len(xs) and xs[0] is None else xs
    return fg.scan(fn, init, rows, length=len(xs), reverse=reverse)


def interpreted(f: Any, run: Any, length: int) -> tuple[float, list[float]]:
    p = [Value(number) for number in START]
    value = f(run, p, length)
    value.backward()
    return value.data, [each.grad for each in p]


def hexadecimal(numbers: Any) -> list[str]:
    return [float(number).hex() for number in numbers]


@pytest.mark.parametrize("f", RECURRENCES)
@pytest.mark.parametrize("length", [1, 2, 5, 9, 12, 50, 300])
def test_outside_of_a_trace_it_is_the_loop(f: Any, length: int) -> None:
    assert interpreted(f, scanned, length) == interpreted(f, loop, length)


@pytest.mark.parametrize(
    ("size", "backend"),
    crossed(itertools.product([1, 2, 5, 8, 9, 10, 12, 50, 1000], RECURRENCES), BACKENDS),
    ids=named,
)
def test_values_and_gradients_have_the_bits_of_the_interpreter(size: Any, backend: Any) -> None:
    length, f = size
    value, gradient = interpreted(f, loop, length)
    got = fg.value_and_grad(lambda p: f(scanned, p, length), backend=backend)(START)
    assert hexadecimal([got[0], *got[1]]) == hexadecimal([value, *gradient])


# --- what is recorded -------------------------------------------------------------------------------------------------


def counted(calls: list[int]) -> Any:
    """A step that notes that it was called."""

    def step(carry: Any, x: Any) -> Any:
        calls[0] += 1
        return fg.sin(carry * x), carry

    return step


@pytest.mark.filterwarnings("ignore::flatgrad.CapturedStateWarning")
def test_a_few_rounds_are_executed_and_no_more() -> None:
    calls = [0]
    fg.grad(lambda w: fg.scan(counted(calls), w, numbers(10_000))[0], dynamic=False).kernel_for(0.5)
    assert 3 <= calls[0] <= 8


def test_what_depends_on_the_number_of_rounds_is_executed() -> None:
    for every in (float, lambda k: float(k % 2)):
        calls = [0]

        def f(w: Any, run: Any, every: Any = every, calls: list[int] = calls) -> Any:
            calls[0] = 0

            def step(carry: Any, _: Any) -> Any:
                calls[0] += 1
                return fg.sin(carry * every(calls[0])) + carry, None

            return run(step, w, [None] * 30)[0]

        got = fg.value_and_grad(lambda w, f=f: f(w, scanned))(0.5)
        assert calls[0] == 30
        w = Value(0.5)
        f(w, loop).backward()
        assert got[1] == w.grad


def test_a_body_that_branches_on_captured_numbers_is_executed() -> None:
    xs = numbers(100)

    def f(run: Any, w: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            y, t = carry
            return (fg.sin(y + (x if x > 0 else w)) if t < 2.05 else y * w, t + 0.1), None

        return run(step, (w, 0.0), xs.tolist())[0][0]

    w = Value(0.5)
    value = f(loop, w)
    value.backward()
    assert fg.value_and_grad(lambda w: f(scanned, w))(0.5) == (value.data, w.grad)


WEIGHTS = {letter: 0.1 * k for k, letter in enumerate("abc")}


@pytest.mark.parametrize(
    ("term", "xs"),
    [
        (lambda x: WEIGHTS[x], list("abcab" * 5)),
        (lambda x: WEIGHTS[x], np.array(list("abcab" * 5))),
        (lambda x: WEIGHTS[x[0]] * x[1], [("a", 0.5), ("b", 0.25)] * 10),
        (lambda x: x(0.5), [fg.sin, fg.tanh] * 10),
        (abs, np.full(25, 3.0 + 4.0j)),
        (lambda x: (x - 2**53) * 0.25, [2**53 + k for k in range(25)]),
        (lambda x: (x - 2**53) * 0.25, 2**53 + np.arange(25)),
        (lambda x: x % 7 * 0.1, [10**400 + k for k in range(25)]),
        (lambda x: (x + x)[0] * 0.25, np.arange(50).reshape(25, 2) % 3 > 0),
        (lambda x: (x * x)[0], numbers(50).reshape(25, 2).astype(np.float32)),
        (lambda x: (x * 200)[1] * 0.001, np.arange(50).reshape(25, 2).astype(np.uint8)),
    ],
)
def test_rows_of_anything_have_the_bits_of_the_interpreter(term: Any, xs: Any) -> None:
    """Letters, functions, and numbers that are other ones, or add up differently, as `Value`s."""

    def f(w: Any) -> Any:
        return fg.scan(lambda carry, x: (fg.tanh(carry * w + term(x)), None), w, xs)[0]

    w = Value(0.5)
    value = f(w)
    value.backward()
    assert fg.value_and_grad(f)(0.5) == (value.data, w.grad)


def test_rows_of_small_numbers_are_as_wide_as_pythons() -> None:
    for dtype, wide in ((np.float32, np.float64), (np.uint8, np.int64), (np.int64, np.int64), (bool, np.bool_)):
        dtypes: list[Any] = []
        fg.scan(lambda carry, x, dtypes=dtypes: (carry, dtypes.append(x.dtype)), 0.0, np.ones((3, 2), dtype=dtype))
        assert dtypes == [wide] * 3


def test_numbers_alone_stay_numbers() -> None:
    def f(w: Any) -> Any:
        total, sums = fg.scan(lambda total, x: (total + x, total), 0.0, np.ones(20))
        assert type(total) is float
        assert sums.dtype == float
        return w * total if total > 10.0 else w

    assert fg.grad(f)(3.0) == 20.0


def test_a_condition_in_the_carry_is_carried() -> None:
    def f(run: Any, w: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            y, is_large = carry
            return (fg.where(is_large, y * 0.5, y + x), y > 1.0), None

        return run(step, (w, w > 1.0), numbers(40).tolist())[0][0]

    w = Value(0.5)
    value = f(loop, w)
    value.backward()
    assert fg.value_and_grad(lambda w: f(scanned, w))(0.5) == (value.data, w.grad)


def traced(f: Any, length: int, folds: bool) -> Any:
    """The program of a recurrence, or the family that it is of."""

    def body(p: Any) -> Any:
        return None, [f(scanned, p, length)]

    return trace_function(body, "f", [Group("p", 3, False)], ["p0", "p1", "p2"], folds=folds).program


@pytest.mark.parametrize("f", RECURRENCES)
def test_rounds_are_recorded_once(f: Any) -> None:
    family, program = traced(f, 1000, True), traced(f, 1000, False)
    assert isinstance(family, Family)
    assert sum(stretch.size for stretch in family.stretches) < 100
    assert str(family.whole()) == str(program.check())
    short = traced(f, 900, True)
    assert short.digest() == family.digest()
    assert family.at(short.extents) == short.at(short.extents)
    assert short.whole().evaluate(START) == [interpreted(f, loop, 900)[0]]


#: What a random step reads, and what it does with two of these.
READS = ["state", "state", "parameter", "row", "last", "constant"]
DOES = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "sin": lambda a, b: fg.sin(a) + b,
    "sub": lambda a, b: a - b,
}
steps = st.lists(
    st.tuples(st.sampled_from(sorted(DOES)), st.sampled_from(READS), st.sampled_from(READS), st.integers(0, 3)),
    min_size=1, max_size=4,
)  # fmt: skip


def random_step(p: Any, equations: Any, size: int) -> Any:
    """A step with a state of some numbers, and rows of two."""

    def step(state: Any, row: Any) -> Any:
        values = list(state)
        for name, *read, k in equations:
            found = {
                "state": state[k % size],
                "parameter": p[k % 3],
                "last": values[-1],
                "constant": 0.5,
                "row": row[k % 2],
            }
            values.append(DOES[name](*(found[each] for each in read)) * 0.5)
        return values[-size:], values[-1]

    return step


@given(
    st.lists(
        st.tuples(steps, st.booleans(), st.sampled_from(["captured", "argument", "earlier"])), min_size=1, max_size=3
    ),
    st.integers(1, 3),
    st.sampled_from(["parameters", "numbers", "both"]),
)
@settings(max_examples=examples(120), deadline=None)
def test_random_scans(scans: Any, size: int, init: str) -> None:
    """One after the other, forwards and backwards; they read what was captured, an argument, or earlier results."""

    def f(run: Any, p: Any, length: int) -> Any:
        state = [p[k] if init == "parameters" or (init == "both" and not k) else 0.25 * k for k in range(size)]
        captured, argument = numbers(2 * length).reshape(length, 2), np.array(p[3:]).reshape(length, 2)
        results = [captured[:, 0].tolist()]
        for equations, reverse, source in scans:
            rows = {"captured": captured.tolist(), "argument": argument.tolist()}.get(source)
            if rows is None:
                rows = [list(pair) for pair in zip(results[-1], results[0], strict=True)]
            state, ys = run(random_step(p, equations, size), state, rows, reverse=reverse)
            results.append(list(ys))
        return state[0] * 1.0 + results[-1][0] + results[-1][length // 2] * p[0]

    def program(length: int, folds: bool = True) -> Any:
        names = [f"p{k}" for k in range(3 + 2 * length)]
        groups = [Group("p", 3, False), Group("x", 2 * length, False)]
        return trace_function(lambda p: (None, [f(scanned, p, length)]), "f", groups, names, folds=folds).program

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((recorded, "EQUATIONS"), (folding, "LANES"), (folding, "_WORTH")):
            patch.setattr(module, name, 0)
        made = program(40)
        whole = made.whole().check() if isinstance(made, Family) else made.check()
        inputs = [*START, *numbers(80, seed=5)]
        assert hexadecimal(whole.evaluate(inputs)) == hexadecimal(
            [as_value(f(loop, [Value(x) for x in inputs], 40)).data]
        )
        assert str(whole) == str(program(40, folds=False))


def two_passes(run: Any, p: Any, length: int) -> Any:
    """The second loop has factors that are constants; it reads what the first has kept."""
    last, states = run(lambda c, x: (fg.sin(c * p[0] + x * p[1]), c), p[2], numbers(length).tolist())
    pairs = [*zip(states, numbers(length, seed=7).tolist(), strict=True)]
    return run(lambda c, pair: (0.5 * c + pair[0] * pair[1], None), last, pairs)[0]


@pytest.mark.skipif(not native.available(), reason="machine code needs llvmlite")
@pytest.mark.parametrize("f", slow([two_passes, garch, pendulum, counting], two_passes, garch))
def test_one_code_serves_all_numbers_of_rounds(f: Any) -> None:
    for length in (3000, 2000):
        gradient = fg.value_and_grad(lambda p, length=length: f(scanned, p, length))
        value, expected = interpreted(f, loop, length)
        got = gradient(START)
        assert hexadecimal([got[0], *got[1]]) == hexadecimal([value, *expected])
        assert gradient.kernel_for(START).stats.reason.startswith("one code serves all numbers of rounds")


def test_small_programs_and_those_that_make_no_family_are_written_out() -> None:
    assert isinstance(traced(pendulum, 50, True), Program)

    def strided(run: Any, p: Any, length: int) -> Any:
        """Reads every second result of an earlier loop."""
        last, states = run(lambda c, _: (fg.sin(c * p[1]), c), p[0], [None] * length)
        return run(lambda c, x: (fg.sin(c * p[2] + x), None), last, states[::2])[0]

    program = traced(strided, 1000, True)
    assert isinstance(program, Program)
    assert program.evaluate(START) == [interpreted(strided, loop, 1000)[0]]


@pytest.mark.parametrize("rounds", slow([50_000, 1_000_000], 1_000_000))
def test_a_million_rounds_cost_what_ten_do(rounds: int) -> None:
    calls = [0]

    def f(w: Any) -> Any:
        def step(state: Any, x: Any) -> Any:
            calls[0] += 1
            a, b = state
            return (fg.sin(a * w + b) + x, 0.9 * b + a * a), None

        (a, b), _ = fg.scan(step, (w, w * w), xs)
        return a + b

    xs = numbers(rounds)
    arguments = "f", [Group("w", 1, True)], ["w"]
    tracemalloc.start()
    try:
        family = trace_function(lambda p: (None, [f(p[0])]), *arguments, folds=True).program
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(family, Family)
    assert len(family) > 5 * rounds
    assert calls[0] < 10
    assert most < 400 * rounds + 1e6  # a number and a name per round; written out, it would be several times that


def test_rounds_that_cannot_be_written_out_are_an_error_that_says_so() -> None:
    def inner(w: Any) -> Any:
        return fg.scan(lambda c, _: (fg.sin(c * w), None), w, length=20_000_000)[0]

    with pytest.raises(fg.TraceError, match="equations, too many to be written out"):
        fg.jit(lambda w: fg.grad(inner)(w) * w)(0.5)


@pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")
def test_a_tangent_that_the_carry_takes_along_is_a_loop() -> None:
    """The remedy that the error above names: small statements of two rounds must not hide the rounds."""

    def step(level: Any, rates: Any, x: Any) -> Any:
        return level + 0.01 * (rates[0] * level - rates[1] * level * level * level) + 0.001 * x

    def tangent(rates: Any, directions: Any, xs: Any) -> Any:
        def both(carry: Any, x: Any) -> Any:
            level, moved = carry
            return fg.jvp(lambda level, rates: step(level, rates, x), (level, rates), (moved, directions)), None

        return fg.scan(both, (rates[2], directions[2]), xs)[0]

    rates, directions, xs = [0.5, 0.3, 0.2], [1.0, 0.5, 0.25], np.sin(np.arange(60.0))
    compiled = fg.jit(tangent, dynamic=False)
    assert compiled(rates, directions, xs) == tangent(rates, directions, xs)
    many = np.sin(np.arange(3000.0))
    _, moved = compiled(rates, directions, many)
    h = 1e-6
    ends = (fg.scan(lambda c, x: (step(c, [0.5 + e, 0.3 + e / 2], x), None), 0.2 + e / 4, many)[0] for e in (h, -h))
    assert moved == pytest.approx((next(ends) - next(ends)) / (2 * h), rel=1e-5)
    reason = compiled.kernel_for(rates, directions, many).stats.reason
    assert reason.startswith("one code serves all numbers of rounds")


@pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")
def test_a_scan_in_a_scan_is_a_loop_in_a_loop() -> None:
    def inner(w: Any) -> Any:
        return fg.scan(lambda c, _: (fg.cos(c * w), None), w, length=600)[0]

    f = fg.jit(lambda w: fg.scan(lambda c, _: (inner(c), None), w, length=12)[0], backend="native")
    result = 1.3
    for _ in range(12):
        carry = result
        for _ in range(600):
            carry = math.cos(carry * result)
        result = carry
    assert f(1.3) == result
    assert "        repeat j:600" in str(f.kernel_for(1.3).arrays)


@pytest.mark.parametrize("backend", ["numpy", *(["native"] if native.available() else [])])
def test_the_gradient_of_a_scan_in_a_scan_has_loops_in_loops(backend: Any) -> None:
    """The inner scan goes along the row that the outer one reads, begins with its state, and keeps its results."""
    rows = np.random.default_rng(0).normal(size=(14, 24)).tolist()

    def f(p: Any, rows: Any) -> Any:
        def outer(state: Any, row: Any) -> Any:
            last, kept = fg.scan(lambda c, x: (fg.tanh(p[0] * c + x), c * x), state, row)
            return last + p[1], kept[-1]

        last, results = fg.scan(outer, p[2], rows)
        return last + fg.sum(list(results))

    numbers = [0.7, 0.01, 0.3]
    compiled = fg.value_and_grad(f, backend=backend)
    value, gradient = compiled(numbers, rows)
    leaves = [fg.Value(number) for number in numbers]
    result = f(leaves, rows)
    result.backward()
    assert [value, *gradient] == [result.data, *(leaf.grad for leaf in leaves)]
    text = str(compiled.kernels[0].arrays)
    assert text.count("\n        repeat j:") >= 2, text


# --- structures -------------------------------------------------------------------------------------------------------

State = namedtuple("State", "position speed")


def body(carry: Any, x: Any) -> Any:
    """Carries a dict of an array, a named tuple, a list and None; returns the like."""
    matrix, state, (total,), nothing = carry["matrix"], carry["state"], carry["list"], carry["none"]
    pair, factor = x["pair"], x["factor"][0]
    vector = [row[0] * pair[0] + row[1] * pair[1] for row in matrix]
    state = State(state.position + vector[0] * factor, state.speed * 0.5 + vector[1])
    matrix = matrix * 0.5 + state.position
    carry = {"matrix": matrix, "state": state, "list": [total + state.speed * 0.1], "none": nothing}
    return carry, {
        "state": state,
        "rows": matrix,
        "list": [total, factor],
        "none": None,
        "sum": (vector[0] + vector[1],),
    }


def start(w: Any) -> Any:
    return {"matrix": np.array([[w, 0.5], [0.25, w]]), "state": State(w, 0.0), "list": [w], "none": None}


def leaves(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return [n for key in item for n in leaves(item[key])]
    if isinstance(item, (list, tuple, np.ndarray)):
        return [n for each in item for n in leaves(each)]
    return [] if item is None else [float(item.data) if isinstance(item, Value) else float(item)]


@pytest.mark.parametrize("length", LENGTHS[1:-1])
@pytest.mark.parametrize("reverse", [False, True])
def test_structures_are_carried_and_stacked(length: int, reverse: bool) -> None:
    rng = np.random.default_rng(3)
    xs = {"pair": rng.normal(size=(length, 2)), "factor": (rng.normal(size=length).tolist(),)}
    rows = [{"pair": xs["pair"][k], "factor": (xs["factor"][0][k],)} for k in range(length)]
    carry, ys = loop(body, start(0.3), rows, reverse)
    for scan in (fg.scan, fg.jit(lambda init, xs: fg.scan(body, init, xs, reverse=reverse))):
        last, stacked = scan(body, start(0.3), xs, None, reverse) if scan is fg.scan else scan(start(0.3), xs)
        assert leaves(last) == leaves(carry)
        assert isinstance(last["state"], State)
        assert stacked["rows"].shape == (length, 2, 2)
        assert stacked["none"] is None
        assert stacked["list"].shape == (length, 2)
        assert isinstance(stacked["state"], State)
        for key in ("rows", "list"):
            assert leaves(stacked[key]) == leaves([y[key] for y in ys])
        assert leaves(stacked["state"].speed) == leaves([y["state"].speed for y in ys])
        assert leaves(stacked["sum"][0]) == leaves([y["sum"][0] for y in ys])


def test_without_rounds_the_results_have_their_shapes() -> None:
    xs = {"pair": np.zeros((0, 2)), "factor": ([],)}
    carry, stacked = fg.scan(body, start(0.3), xs)
    assert leaves(carry) == leaves(start(0.3))
    assert stacked["rows"].shape == (0, 2, 2)
    assert stacked["list"].shape == (0, 2)
    assert fg.grad(lambda w: fg.scan(lambda c, x: (c * x, c), w, [])[0] * w)(3.0) == 6.0
    assert fg.jit(lambda w: fg.scan(lambda c, _: (c, c), w, length=0)[1])(3.0).shape == (0,)


@pytest.mark.parametrize("length", [5, 30])
def test_results_that_are_traced_have_gradients(length: int) -> None:
    def f(run: Any, w: Any, xs: Any) -> Any:
        last, ys = run(lambda c, x: (fg.tanh(c * x + w), (c, [c * x, w])), w, xs)
        pairs = [(y[0], y[1]) for y in ys] if isinstance(ys, list) else [*zip(ys[0], ys[1], strict=True)]
        return fg.sum([a * b[0] * b[1] for a, b in pairs]) * last

    xs = numbers(length).tolist()
    w, values = Value(0.7), [Value(x) for x in xs]
    value = f(loop, w, values)
    value.backward()
    for argument in (xs, np.array(xs)):
        got = fg.value_and_grad(lambda w, xs: f(scanned, w, xs), argnums=(0, 1))(0.7, argument)
        expected = [value.data, w.grad, *(x.grad for x in values)]
        assert hexadecimal([got[0], got[1][0], *got[1][1]]) == hexadecimal(expected)


# --- with other transformations ---------------------------------------------------------------------------------------


def test_a_scan_in_a_scan() -> None:
    def f(run: Any, w: Any) -> Any:
        def inner(c: Any, x: Any) -> Any:
            return fg.sin(c * x + w), c

        def outer(c: Any, xs: Any) -> Any:
            last, ys = run(inner, c, xs)
            return last + ys[2], last

        return fg.sum(list(run(outer, w, numbers(15 * 12).reshape(12, 15))[1]))

    w = Value(0.4)
    value = f(loop, w)
    value.backward()
    assert fg.value_and_grad(lambda w: f(scanned, w))(0.4) == (value.data, w.grad)
    assert f(scanned, Value(0.4)).data == value.data


@pytest.mark.parametrize("transform", slow([lambda f: f, fg.grad], fg.grad), ids=["value", "gradient"])
def test_gradients_inside_of_the_body_and_vmap_around(transform: Any) -> None:
    def f(w: Any, x: Any, run: Any = scanned) -> Any:
        slope = fg.grad(lambda a: fg.sin(a * w) * a)
        return run(lambda c, y: (c - 0.1 * slope(c) * y, None), x, numbers(20).tolist())[0]

    xs = numbers(3, seed=1)
    expected = [fg.jit(transform(lambda w, x: f(w, x, loop)))(0.5, x) for x in xs.tolist()]
    assert fg.vmap(transform(f), in_axes=(None, 0))(0.5, xs).tolist() == expected


def test_vmap_inside_of_the_body() -> None:
    def f(run: Any, w: Any) -> Any:
        def step(state: Any, x: Any) -> Any:
            state = fg.vmap(lambda s: fg.tanh(s * x + w))(state)
            return state, state[0]

        last, firsts = run(step, np.array([w, 2.0 * w, 0.5]), numbers(25).tolist())
        return fg.sum(list(last)) + fg.sum(list(firsts))

    got = fg.value_and_grad(lambda w: f(scanned, w))(0.4)
    assert got == fg.value_and_grad(lambda w: f(loop, w))(0.4)


def test_compiled_functions_are_parts_of_a_graph() -> None:
    w, x = Value(0.5), Value(1.5)
    f = fg.compile(lambda x: fg.scan(lambda c, y: (fg.sin(c * w + y), c), x, numbers(30))[0])
    f(x).backward()
    gradients = w.grad, x.grad
    w.grad = x.grad = 0.0
    loop(lambda c, y: (fg.sin(c * w + y), c), x, numbers(30).tolist())[0].backward()
    assert gradients == (w.grad, x.grad)


def test_models_are_read_as_streams_of_parameters() -> None:
    layers = [Value(x) for x in numbers(40).tolist()]

    def f(x: Any) -> Any:
        return fg.scan(lambda c, w: (fg.tanh(c * w + c), None), x, layers)[0]

    got = fg.value_and_grad(f, wrt=layers)(0.5)
    f(0.5).backward()
    assert got[1] == [each.grad for each in layers]


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 0.5])  # a sum, and a recurrence
def test_a_fault_in_a_late_round_is_the_interpreters(factor: float) -> None:
    xs = np.linspace(1.0, 2.0, 1000)

    def f(w: Any) -> Any:
        def step(c: Any, x: Any) -> Any:
            return (c if factor == 1.0 else factor * fg.sin(c)) + fg.log(w - x), None  # below 0 from round 517 on

        return fg.scan(step, w, xs)[0]

    w = (xs[516] + xs[517]) / 2
    with pytest.raises(fg.DomainError) as interpreted:
        f(Value(w))
    with pytest.raises(fg.DomainError, match=r"log\(w - x\)") as compiled:
        fg.value_and_grad(f)(w)
    assert str(compiled.value).splitlines()[:2] == str(interpreted.value).splitlines()[:2]
    value = f(start := Value(3.0))
    value.backward()
    assert fg.value_and_grad(f)(3.0) == (value.data, start.grad)


@pytest.mark.parametrize("call", [
    lambda: fg.scan(lambda c, x: (c, x), 0.0, {"a": [1.0, 2.0], "b": np.ones(3)}),
    lambda: fg.scan(lambda c, x: (c, x), 0.0, [1.0, 2.0], length=3),
    lambda: fg.scan(lambda c, x: (c, x), 0.0),
    lambda: fg.scan(lambda c, x: (c, x), 0.0, length=-1),
    lambda: fg.scan(lambda c, x: (c, x), 0.0, length=1.5),
    lambda: fg.scan(lambda c, x: (c, x), 0.0, {"a": 1.0}),
    lambda: fg.scan(lambda c, x: ((c, c), x), 0.0, [1.0]),
    lambda: fg.scan(lambda c, x: ({"a": [c["a"][0]]}, x), {"a": [0.0, 1.0]}, [1.0]),
    lambda: fg.scan(lambda c, x: ({"a": c["a"][:1]}, x), {"a": np.zeros(2)}, [1.0]),
    lambda: fg.scan(lambda c, x: (c, [x] * int(x)), 0.0, [1.0, 2.0]),
    lambda: fg.scan(lambda c, x: c, 0.0, [1.0]),
    lambda: fg.scan(lambda c, x: (c, "text"), 0.0, [1.0]),
    lambda: fg.scan(lambda c, x: (c, x), {"a": "text"}, [1.0]),
])  # fmt: skip
def test_errors_say_what_is_where(call: Any) -> None:
    with pytest.raises(fg.InputError) as error:
        call()
    first = str(error.value).splitlines()[0]
    assert first.startswith("scan: ")
    assert "test_scan.py" in str(error.value)


def test_the_texts_of_errors() -> None:
    with pytest.raises(fg.InputError, match=r"xs\['a'\] has 2 rows, and xs\['b'\] has 3 rows; there is a round for"):
        fg.scan(lambda c, x: (c, x), 0.0, {"a": [1.0, 2.0], "b": np.ones(3)})
    states, results = iter([1.0, 2.0, None]), iter([1.0, [1.0]])
    with pytest.raises(fg.InputError, match=r"the carry\[1\]\['a'\] is a number in init, and None after round 2"):
        fg.scan(lambda c, x: ((x, {"a": next(states)}), x), (0.0, {"a": 0.0}), np.ones(5))
    with pytest.raises(fg.InputError, match=r"the result\[0\] is a number in round 0, and a list of shape \(1,\) in"):
        fg.scan(lambda c, x: (c, (next(results),)), 0.0, np.ones(2))
