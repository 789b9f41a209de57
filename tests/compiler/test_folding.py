"""Loops in traced programs: the member of a family at its extents is the program, the others those of other lengths."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from benchmarks import recurrences as benchmarked
from flatgrad.compiler.program import folding, recorded, unrolled
from flatgrad.compiler.program.family import Family, Part, _by_group
from flatgrad.compiler.program.folding import fold
from flatgrad.compiler.program.program import Group, Program, default_names
from flatgrad.compiler.program.trace import trace_function
from flatgrad.compiler.program.unrolled import Columns, find_loops
from flatgrad.runtime.errors import FlatgradError
from flatgrad.runtime.primitives import BY_NAME
from flatgrad.runtime.tracing import recorder
from tests.array_programs import loop_programs, recurrences
from tests.examples import examples


@pytest.fixture
def short_ones(monkeypatch):
    """Short recurrences, and loops without any, are folded, too."""
    monkeypatch.setattr(folding, "EQUATIONS", 0)
    monkeypatch.setattr(folding, "LANES", 0)
    monkeypatch.setattr(folding, "_WORTH", 0)
    monkeypatch.setattr(unrolled, "ROUNDS", 3)


def traced(function: Callable[..., Any], *args: Any, folds: bool = False) -> Any:
    """The program of a function of arrays and numbers; or its family, if it `folds` while it is recorded."""
    shapes = [np.shape(arg) for arg in args]
    sizes = [int(np.prod(shape)) for shape in shapes]

    def run(inputs: list[Any]) -> Any:
        rest = iter(inputs)
        arrays = [np.array([next(rest) for _ in range(size)], dtype=object) for size in sizes]
        result = function(*(a.reshape(shape).tolist() for a, shape in zip(arrays, shapes, strict=True)))
        return None, result if isinstance(result, list) else [result]

    groups = [Group("abcdefgh"[k], sizes[k], not shape) for k, shape in enumerate(shapes)]
    program = trace_function(run, "f", groups, default_names(groups), folds=folds).program
    if isinstance(program, Family):
        program.output_groups = [Part("out", False, len(program.outputs))]
    else:
        program.output_groups = [Group("out", len(program.outputs), False)]
    return program


def with_arguments(workload):
    return workload[0], *workload[1]


def readable(program: Program) -> list[Any]:
    """All columns, with numbers in place of the places of constants."""

    def numbers(operands: Sequence[int]) -> list[Any]:
        return [o if o >= 0 else repr(program.constants[~o]) for o in operands]

    return [
        program.opcodes, program.starts, numbers(program.operands), numbers(program.outputs), program.sites,
        program.locations, program.input_names, program.input_groups, program.output_groups,
    ]  # fmt: skip


def assert_folded(program: Program, *extents: int) -> Family:
    family = fold(program)
    assert family is not None
    assert family.extents == extents or not extents
    assert readable(family.whole()) == readable(program)
    return family


def kalman(steps):
    """A filter of two states; measurements are read, and estimates returned."""

    def f(model, measured):
        (a, b, q), (x, v), (p, c, r) = model, (measured[0], 0.0), (1.0, 0.5, 1.0)
        estimates = []
        for z in measured[1:]:
            x, v = x + a * v, b * v
            p, c, r = p + 2 * a * c + a * a * r + q, b * c + a * b * r, b * b * r + q
            gain, other = p / (p + 1.0), c / (p + 1.0)
            x, v = x + gain * (z - x), v + other * (z - x)
            p, c, r = (1.0 - gain) * p, (1.0 - gain) * c, r - other * c
            estimates.append(x)
        return estimates

    return f, (np.ones(3), np.ones(steps + 1))


def hidden_markov(steps):
    """The likelihood of a sequence of symbols that the function captured."""
    symbols = np.random.default_rng(2).integers(0, 3, size=steps).tolist()

    def f(moves, shows):
        state = [0.5, 0.5]
        for symbol in symbols:
            state = [
                fg.logsumexp([s + row[k] for s, row in zip(state, moves, strict=True)]) + shows[k][0] * float(symbol)
                for k in range(2)
            ]
        return fg.logsumexp(state)

    return f, (np.ones((2, 2)), np.ones((2, 3)))


def lstm(steps):
    """A cell with two units that reads rows of two numbers."""

    def f(weights, rows):
        state, cell = [0.0] * 2, [0.0] * 2
        for row in rows:
            gates = [
                [sum(w * x for w, x in zip(ws, [*row, *state, 1.0], strict=True)) for ws in gate] for gate in weights
            ]
            forget, enter, leave = ([1.0 / (1.0 + fg.exp(-1.0 * g)) for g in gate] for gate in gates[:3])
            cell = [a * c + b * fg.tanh(g) for a, c, b, g in zip(forget, cell, enter, gates[3], strict=True)]
            state = [o * fg.tanh(c) for o, c in zip(leave, cell, strict=True)]
        return state[0] + state[1]

    return f, (np.ones((4, 2, 5)), np.ones((steps, 2)))


def smoothing(steps):
    """A filter forwards, and one backwards over its results; the sum of squares of what comes out."""

    def f(p, xs):
        state, forwards = xs[0], []
        for x in xs[1:]:
            state = p[0] * state + p[1] * fg.tanh(x)
            forwards.append(state)
        backwards = []
        for y, x in zip(forwards[::-1], xs[::-1], strict=False):
            state = p[0] * state + y * x
            backwards.append(state)
        return fg.sum([s * s for s in backwards])

    return f, (np.ones(2), np.ones(steps + 1))


MODELS = {
    "pendulum": benchmarked.pendulum, "garch": benchmarked.garch, "lorenz": benchmarked.lorenz,
    "network": benchmarked.network, "kalman": kalman, "hidden Markov": hidden_markov, "lstm": lstm,
    "smoothing": smoothing,
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_are_folded(name):
    """The family is the program, and its members are the programs of other lengths."""
    model, steps = MODELS[name], 300
    family = assert_folded(traced(model(steps)[0], *model(steps)[1]))
    (extent,) = family.extents
    assert steps - 5 <= extent <= steps
    for other in (20, 47):
        member, program = family.at((extent + other - steps,)).check(), traced(model(other)[0], *model(other)[1])
        if not family.data:  # the numbers of data are those of the true extents
            assert readable(member) == readable(program)
        assert member.opcodes == program.opcodes


def test_inputs_are_streams_where_rounds_read_them():
    family = assert_folded(traced(*with_arguments(smoothing(300))))
    assert "family f(a[2], b[n" in str(family)
    assert str(family).count("repeat") == 4  # there, back, squares, their sum
    assert "b[-r - " in str(family)


def test_columns_of_an_argument_are_streams():
    """An array with a row per quantity is read at two places that move together; one with a row per step at one."""

    def by_quantity(p, xs):
        state = p
        for a, b in zip(*xs, strict=True):
            state = fg.tanh(state * a + b)
        return state

    def by_step(p, xs):
        state = p
        for a, b in xs:
            state = fg.tanh(state * a + b)
        return state

    assert "b[n + 2 + n]" in str(assert_folded(traced(by_quantity, 1.0, np.ones((2, 1000))), 999))
    assert "b[2 * (n + 1)]" in str(assert_folded(traced(by_step, 1.0, np.ones((1000, 2))), 999))


def test_what_recurs_in_no_way_is_not_folded():
    """Lanes and their sum are for re-rolling; so are programs that are short, or have few rounds."""
    assert fold(traced(lambda xs: fg.sum([fg.sin(x) * x for x in xs]), np.ones(1000))) is None
    f, args = benchmarked.pendulum(39)
    assert fold(traced(f, *args)) is None
    f, args = benchmarked.network(8, 16)
    assert fold(traced(f, *args)) is None


def test_matrices_that_all_rounds_read_are_no_streams():
    """As many rows as there are rounds: the first step could be a loop over them, but all steps read all of them."""
    f, args = benchmarked.network(32, 32)
    family = assert_folded(traced(f, *args), 31)
    assert str(family).startswith("family f(a[1024], b[64]")


def test_rounds_that_differ_end_a_loop():
    """A round of its own in the middle: two loops, which share the extent where they have as many rounds."""

    def f(x):
        for r in range(2001):
            x = fg.sin(x) if r != 1000 else fg.cos(x)
        return x

    assert str(assert_folded(traced(f, 1.0))).count("repeat") == 2


def test_loops_with_other_numbers_of_rounds_have_a_second_extent():
    def f(x):
        for _ in range(2000):
            x = fg.sin(x * 1.5)
        for _ in range(1500):
            x = fg.cos(x * 0.5)
        return x

    family = assert_folded(traced(f, 1.0), 2000, 1500)
    assert len(family.at((3, 4))) == 2 * (3 + 4)


def test_outputs_of_rounds_are_runs():
    def f(x):
        results = []
        for _ in range(1000):
            x = fg.sin(x) * 2.0
            results += [x, x * x]
        return results

    family = assert_folded(traced(f, 1.0), 999)
    member = family.at((6,))
    assert len(member.outputs) == 14 == member.output_groups[0].size


def test_equal_data_are_one_column():
    f, args = benchmarked.garch(500)
    family = assert_folded(traced(f, *args))
    (data,) = family.data
    assert data.shape == (500, 1)
    assert family.digest() == fold(traced(*with_arguments(benchmarked.garch(700)))).digest()


def test_other_data_need_no_other_family(monkeypatch):
    """The first round is written out, since it begins with constants, but its numbers are data as well."""
    families = []
    for scale in (1.0, 2.0):
        monkeypatch.setattr(benchmarked, "returns", lambda count, scale=scale: scale * np.arange(1.0, count + 1.0))
        families.append(assert_folded(traced(*with_arguments(benchmarked.garch(500)))))
    assert families[0].digest() == families[1].digest()
    assert not np.array_equal(families[0].data[0], families[1].data[0])


def test_a_part_of_the_program_has_no_family():
    program = traced(*with_arguments(benchmarked.pendulum(100)))
    program.update = 1000
    assert fold(program) is None


class Counted(np.ndarray):
    """An array that counts how many elements are taken or computed with."""

    total = 0

    def __getitem__(self, key):
        return self._counted(np.ndarray.__getitem__(self, key))

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        plain = [each.view(np.ndarray) if isinstance(each, Counted) else each for each in inputs]
        if "out" in kwargs:
            kwargs["out"] = tuple(each.view(np.ndarray) for each in kwargs["out"])
        return self._counted(getattr(ufunc, method)(*plain, **kwargs))

    @staticmethod
    def _counted(result):
        Counted.total += np.size(result)
        return result.view(Counted) if isinstance(result, np.ndarray) else result


def test_time_is_linear_in_the_equations():
    """The elements that are looked at grow with the equations, not with their square."""
    counts = []
    for steps in (500, 4000):
        columns = Columns.of(traced(*with_arguments(benchmarked.lorenz(steps))))
        Counted.total = 0
        (loop,) = find_loops(Columns(*(each.view(Counted) for each in columns)), 3)
        assert loop.rounds == steps - 1
        counts.append(Counted.total)
    assert counts[1] < 10 * counts[0]


def test_many_short_loops_are_not_looked_for_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a network, where each matrix is a loop of its own, or several. To find all of them takes long."""
    draw, opcodes = np.random.default_rng(0), []
    for _ in range(64):
        opcodes += draw.integers(0, 50, draw.integers(3, 9)).tolist() * 16
    count, looked, best = len(opcodes), [], unrolled._best
    columns = Columns(np.array(opcodes), np.arange(count + 1), np.zeros(count, np.int64), np.full(count, -1))

    def counting(columns: Columns, low: int, high: int) -> Any:
        looked.append(high - low)
        return best(columns, low, high)

    monkeypatch.setattr(unrolled, "_best", counting)
    assert len(find_loops(columns, 3)) > 32
    assert sum(looked) > 3 * count
    looked.clear()
    assert find_loops(columns, 3, patience=3) == []
    assert sum(looked) <= 3 * count
    monkeypatch.setattr(folding, "_MANY", 2_000)
    assert fold(traced(*with_arguments(benchmarked.lorenz(500)))) is not None, "a long loop is found at once"


# --- random recurrences -------------------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b, "mul": lambda a, b: a * b, "sin": fg.sin,
    "maximum": fg.maximum,
}  # fmt: skip


@dataclass(frozen=True)
class Loops:
    """Loops in a row: each has a state, equations per round, and peeled ends.

    An equation has an operation and two operands, each a kind and a number: of an equation of the round before, of the
    state a few rounds ago, of an array forwards or backwards, of what an earlier loop gave, of data, or of a constant.
    """

    loops: tuple[Any, ...]
    first: int
    last: bool
    outputs: str

    def __call__(self, rounds: int, reads: Sequence[bool] = (True, True)) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        data = np.random.default_rng(3).normal(size=rounds + 5).tolist()

        def f(p, xs, ys):
            lists = [xs]
            for equations, lag in self.loops:
                results = [p[0] * (k + 1.0) for k in range(lag)]
                for r in range(rounds):
                    values: list[Any] = []
                    for name, *operands in equations:
                        read = []
                        for kind, k in operands[: BY_NAME[name].arity]:
                            if kind == "value" and values:
                                read.append(values[k % len(values)])
                            elif kind == "stream":
                                read.append(xs[r + k % 3])
                            elif kind == "back":
                                read.append(xs[-1 - r - k % 2])
                            elif kind == "stride":
                                read.append(ys[2 * r + k % 2])
                            elif kind == "earlier":
                                read.append(lists[k % len(lists)][r])
                            elif kind == "reversed":
                                read.append(lists[k % len(lists)][-1 - r])
                            elif kind == "data":
                                read.append(data[r + k % 2])
                            elif kind == "parameter":
                                read.append(p[k % 2])
                            else:
                                read.append(results[-1 - k % lag])
                        values.append(OPERATIONS[name](*read) if any(type(v) is not float for v in read) else p[0])
                    if r < self.first:
                        values[-1] = values[-1] * 2.0
                    if self.last and r == rounds - 1:
                        values[-1] = fg.cos(values[-1])
                    results.append(values[-1])
                    if r % 4 == 3 and (trace := recorder()) is not None:
                        trace.settle()
                lists.append(results[lag:])
            if self.outputs == "all":
                return [value + 1.0 for values in lists[1:] for value in values]
            if self.outputs == "rounds":
                return lists[-1] + lists[1][::-1]
            return lists[-1][-1]

        return f, (
            np.ones(2),
            *(np.ones(k * (rounds if is_read else 40) + 2) for k, is_read in ((1, reads[0]), (2, reads[1]))),
        )


operands = st.tuples(
    st.sampled_from(
        ["value", "value", "stream", "back", "stride", "earlier", "reversed", "data", "parameter", "state"]
    ),
    st.integers(0, 5),
)
equations = st.tuples(st.sampled_from(sorted(OPERATIONS)), operands, operands)


@st.composite
def loops(draw):
    result = []
    for _ in range(draw(st.integers(1, 3))):
        lag = draw(st.integers(1, 3))
        last = (draw(st.sampled_from(["mul", "add"])), ("state", draw(st.integers(0, 3))), ("value", draw(operands)[1]))
        first = ("sin", ("state", 0), ("state", 0))
        result.append(((first, *draw(st.lists(equations, max_size=5)), last), lag))
    return Loops(
        tuple(result), draw(st.integers(0, 2)), draw(st.booleans()), draw(st.sampled_from(["all", "rounds", "one"]))
    )


@pytest.mark.usefixtures("short_ones")
@given(loops())
@settings(max_examples=examples(150))
def test_random_loops(program):
    """Members of families equal what is traced at their lengths."""
    f, args = program(40)
    family = fold(traced(f, *args))
    if family is None:  # an array is read in ways that do not go together
        return
    assert readable(family.whole()) == readable(traced(f, *args))
    if min(family.extents) < 30:  # whole loops are alike, and are rounds
        return
    if any(s.rounds.extent < 0 and s.size >= 80 for s in family.stretches):  # a loop of 40 rounds stays unrolled
        return
    reads = [
        any(s.rounds.extent >= 0 for s in stretches)
        for _, stretches in _by_group(family.input_groups, family.inputs)[1:3]
    ]
    for rounds in (30, 53):
        try:
            member = family.at([n + rounds - 40 for n in family.extents])
        except FlatgradError:
            assert len(family.extents) > 1
            continue
        if not family.data:
            assert readable(member.check()) == readable(traced(*with_arguments(program(rounds, reads))))


@pytest.mark.usefixtures("short_ones")
def test_random_loops_are_folded_while_they_are_recorded(monkeypatch):
    """Columns are dropped after a few rounds; the program is the same."""
    monkeypatch.setattr(recorded, "_BLOCK", 24)
    monkeypatch.setattr(recorded, "EQUATIONS", 0)
    dropped = []

    @given(loops())
    @settings(max_examples=examples(100))
    def agree(program):
        f, args = program(40)
        folded = traced(f, *args, folds=True)
        dropped.append(isinstance(folded, Family))
        whole = folded.whole() if isinstance(folded, Family) else folded
        assert readable(whole) == readable(traced(f, *args))

    agree()
    assert any(dropped)


def test_memory_does_not_grow_with_the_rounds(monkeypatch):
    """Twice as many rounds take the same memory. Their columns would take 30 bytes per equation."""
    monkeypatch.setattr(recorded, "_BLOCK", 1 << 11)

    def f(x, p, rounds):
        for r in range(rounds):
            x = fg.sin(x * p) + 0.5 * fg.cos(x) + fg.tanh(x * x) * p
            if r % 256 == 255:
                recorder().settle()  # large programs do so every 65,536 equations
        return x

    peaks = []
    for rounds in (2_000, 4_000):
        tracemalloc.start()
        family = traced(lambda x, p: f(x, p, rounds), 0.5, 1.5, folds=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert isinstance(family, Family)
        assert family.extents == (rounds - 1,)
    assert peaks[1] - peaks[0] < 2 * 9 * 2_000


def test_what_follows_a_loop_that_was_dropped_is_recorded():
    """Values from its middle, another loop over its results, and a call that is inlined."""
    square = fg.jit(lambda x: x * x)

    def f(x, p):
        states = []
        for _ in range(60_000):
            x = fg.sin(x * p) + x
            states.append(x)
        total = states[30_000] * 2.0
        for state in states[::-1]:
            total = fg.tanh(total + state)
        return [square(total), states[7], states[-7]]

    family = traced(f, 0.5, 1.5, folds=True)
    assert readable(family if isinstance(family, Program) else family.whole()) == readable(traced(f, 0.5, 1.5))


@pytest.mark.usefixtures("short_ones")
@pytest.mark.parametrize("recur", [True, False])
def test_random_programs(recur):
    folded = []

    @given((recurrences if recur else loop_programs)(max_lanes=30))
    @settings(max_examples=examples(150))
    def agree(program):
        arguments = [list(group.numbers) for group in program.groups]
        try:
            found = traced(lambda *vectors: program.run(vectors), *arguments)
        except FlatgradError:
            return
        family = fold(found)
        folded.append(family is not None)
        if family is not None:
            assert readable(family.whole()) == readable(found)

    agree()
    assert any(folded) or not recur
