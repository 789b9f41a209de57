"""Loops over rounds within rounds: what they mean, and how every language writes them."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.compiler.languages import numpy
from flatgrad.compiler.languages.loader import LoadedModule
from flatgrad.compiler.languages.opened import ArrayFunction
from flatgrad.compiler.languages.rolled import emit_rolled
from flatgrad.compiler.loops.array_program import ArrayProgram
from flatgrad.compiler.loops.excerpt import read_at_once
from flatgrad.compiler.loops.grammar import Apply, Loop, Read, Repeat, Statement
from flatgrad.compiler.loops.rounds import bands, count_statements
from flatgrad.compiler.loops.views import Sources
from flatgrad.compiler.machine import native
from flatgrad.compiler.program.program import Group
from flatgrad.runtime import primitives as p
from flatgrad.runtime.errors import ProgramError
from tests.bits import assert_same
from tests.every_way import SHORT_ROUNDS, CFile, assert_every_way_agrees, flattened, grouped, module_of
from tests.examples import crossed, named, slow
from tests.programs import Outcome

BACKENDS = ["numpy", *(["native"] if native.available() else [])]


def solver(steps: int = 3, turns: int = 4) -> ArrayProgram:
    """`x[i + 1]` solves `y = x[i] + a*y*y`, by so many turns that begin with `y = x[i]`."""
    base = 2
    x, y = base + steps * (turns + 1), base
    kept = Statement("x", (steps,), (Read(y + turns, (turns + 1,)),), x + 1, "f")
    begin = Statement("x", (), (Read(1, ()),), x, "f")
    first = Statement("y", (steps,), (Read(x, (1,)),), y, "f", steps=(turns + 1,))
    body = (
        Read(x, (1, 0)), Read(0, (0, 0)), Read(y, (turns + 1, 1)),
        Apply(p.mul, (1, 2)), Apply(p.mul, (3, 2)), Apply(p.add, (0, 4)),
    )  # fmt: skip
    turn = Statement("y", (steps, turns), body, y + 1, "f", steps=(turns + 1,))
    repeat = Repeat((turn, kept), ((first,), (begin,)), (Loop(0, 1, 1),))
    outputs = np.array([x + steps])
    return ArrayProgram(
        "f", ["a", "x0"], [Group("a", 1, True), Group("x0", 1, True)], statements=[repeat], outputs=outputs,
        output_groups=[Group("x", 1, True)],
    )  # fmt: skip


def by_hand(a: float, x: float, steps: int = 3, turns: int = 4) -> float:
    for _ in range(steps):
        y = x
        for _ in range(turns):
            y = x + a * y * y
        x = y
    return x


def test_text():
    assert (
        str(solver())
        == """\
array program f(a, x0):
    repeat i:3, with x[0] = x0:
        repeat j:4, with y[i, 0] = x[i]:
            y[i, j + 1] = x[i] + a * y[i, j] * y[i, j]
        x[i + 1] = y[i, 4]
    return x[3]"""
    )


def vectors(steps: int = 3, turns: int = 4, lanes: int = 5) -> ArrayProgram:
    """Rounds of vectors, which read two turns back; of three results, the last one is that of all steps."""
    base, row = lanes, lanes * (turns + 2)
    x = base + steps * row
    begin = Statement("x", (lanes,), (Read(0, (1,)),), x, "f")
    older = Statement("y", (steps, lanes), (Read(x, (lanes, 1)),), base, "f", steps=(row,))
    old = Statement(
        "y", (steps, lanes), (Read(x, (lanes, 1)), Apply(p.sin, (0,))), base + lanes, "f", steps=(row,)
    )  # fmt: skip
    body = (Read(base, (row, lanes, 1)), Read(base + lanes, (row, lanes, 1)), Apply(p.mul, (0, 1)),
            Read(x, (lanes, 0, 1)), Apply(p.add, (2, 3)))  # fmt: skip
    turn = Statement("y", (steps, turns, lanes), body, base + 2 * lanes, "f", steps=(row,))
    last = Statement("x", (steps, lanes), (Read(base + (turns + 1) * lanes, (row, 1)),), x + lanes, "f")
    repeat = Repeat((turn, last), ((older, old), (begin,)), (Loop(0, 1, 1),))
    outputs = np.concatenate([x + steps * lanes + np.arange(lanes), np.arange(base, x)])
    return ArrayProgram(
        "f", [f"z{k}" for k in range(lanes)], [Group("z", lanes, False)], statements=[repeat], outputs=outputs,
        output_groups=[Group("last", lanes, False), Group("all", len(outputs) - lanes, False)],
    )  # fmt: skip


PROGRAMS = [(solver, [0.1, 0.7]), (vectors, [0.1, -0.7, 0.5, 1.25, 0.0])]


def test_meaning():
    program = solver().check()
    assert program.evaluate([0.1, 0.7]) == [by_hand(0.1, 0.7)]


@pytest.mark.parametrize(("make", "inputs"), PROGRAMS)
def test_rolled_python(make, inputs):
    program = make().check()
    text = "".join(emit_rolled([ArrayFunction(program, "f", "")], ["For a test."]))
    assert_same(flattened(module_of(text)["f"](*grouped(inputs, program.input_groups))), program.evaluate(inputs), text)


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize(("make", "inputs"), PROGRAMS)
def test_numpy(make, inputs, scalar, monkeypatch):
    monkeypatch.setattr(numpy, "is_scalar", lambda repeat: scalar)
    program = make().check()
    emitted = numpy.emit_arrays([ArrayFunction(program, "f", "")], ["For a test."])
    function = LoadedModule(emitted.sections, "f", emitted.data).names["f"]
    text = "".join(emitted.sections)
    assert ("_rounds1" in text) == scalar
    assert_same(flattened(function(*grouped(inputs, program.input_groups))), program.evaluate(inputs), text)


@pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")
@pytest.mark.parametrize(("make", "inputs"), PROGRAMS)
def test_machine_code(make, inputs):
    from tests.native_programs import MACHINES, MachineCode

    program = make().check()
    for machine in MACHINES:
        code = MachineCode(program, machine)
        assert_same(code(inputs), program.evaluate(inputs), code.code.assembly)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler on this machine")
def test_c():
    c = CFile()
    for make, inputs in PROGRAMS:
        program = make().check()
        c.add(program, inputs, Outcome(tuple(program.evaluate(inputs))), program)
    assert c.check() == len(PROGRAMS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": ()}, "y reads what is written later"),
        ({"inner": (Loop(0, 2, 1),)}, "differ in their rounds|does not run once"),
    ],
)
def test_the_checker_refuses(change, message):
    program = solver()
    program.statements = [replace(program.statements[0], **change)]
    with pytest.raises(ProgramError, match=message):
        program.check()


def test_a_turn_cannot_read_a_later_turn():
    program = solver()
    repeat = program.statements[0]
    turn = repeat.statements[0]
    later = turn.with_reads(lambda read, _: read._replace(base=read.base + 1) if read.base == turn.base - 1 else read)
    program.statements = [replace(repeat, statements=(later, repeat.statements[1]))]
    with pytest.raises(ProgramError, match="y reads what is written later"):
        program.check()


def test_a_step_cannot_read_the_turns_of_a_later_step():
    program = solver()
    repeat = program.statements[0]
    kept = repeat.statements[1]
    program.statements = [
        replace(repeat, statements=(kept, repeat.statements[0]), starts=repeat.starts[::-1], inner=(Loop(1, 2, 1),))
    ]
    with pytest.raises(ProgramError, match="x reads what is written later"):
        program.check()


# --- recognition ------------------------------------------------------------------------------------------------------


def implicit(p):
    """Steps that solve an equation, each by turns that begin with the solution of the step before."""
    a, x = p
    for _ in range(14):
        y = x
        for _ in range(10):
            y = x + a * fg.sin(y) * y
        x = y
    return x


def chain(p):
    """Turns that could be one long expression."""
    a, x = p
    for _ in range(14):
        x = x * x
        for _ in range(10):
            x = x * 0.5 + a
    return x


def substeps(p):
    """Runge-Kutta of the second order, of which one step in ten is compared with data."""
    a, b, x, y = p

    def slopes(u, v):
        return v, -a * fg.sin(u) - b * v

    loss = 0.0
    for k in range(12):
        for _ in range(10):
            k1 = slopes(x, y)
            k2 = slopes(x + 0.05 * k1[0], y + 0.05 * k1[1])
            x, y = x + 0.1 * k2[0], y + 0.1 * k2[1]
        loss = loss + (x - 0.1 * k) ** 2
    return loss


def vector(p):
    """Turns of a product of a matrix and a vector."""
    x = [p[0] * k for k in range(6)]
    weights = [[0.01 * (i + 2 * j) for i in range(6)] for j in range(6)]
    for _ in range(12):
        y = list(x)
        for _ in range(12):
            y = [fg.tanh(x[i] + sum(w * v for w, v in zip(weights[i], y, strict=True))) for i in range(6)]
        x = y
    return sum(x)


def two_back(p):
    """Turns that read the two turns before; then turns of another kind, and what is left of both."""
    a, x = p
    for k in range(12):
        u, v = x, a * x
        for _ in range(12):
            u, v = v, fg.tanh(u + a * v)
        w = v
        for _ in range(12):
            w = fg.cos(w) * a - u
        x = w + 0.01 * k
    return x


def relaxed(p):
    """Turns after which only a number is added: what is computed does not show where a round ends, but reads do."""
    a, x = p
    for _ in range(14):
        for _ in range(10):
            x = x - a * fg.sin(x)
        x = x + 0.01
    return x


def three_deep(p):
    """Steps of rounds of turns, of which each begins with what the one around it has."""
    a, x = p
    for _ in range(9):
        x = x * x
        for _ in range(9):
            x = x + fg.sin(a)
            for _ in range(9):
                x = x - a * fg.tanh(x)
        x = x + 0.01
    return x


RECURRENCES = [(implicit, [0.1, 0.7]), (chain, [0.1, 0.7]), (substeps, [1.0, 0.1, 0.5, 0.2]), (vector, [0.3]),
               (two_back, [0.3, 0.8]), (relaxed, [0.1, 0.7]), (three_deep, [0.1, 0.7])]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "backend"),
    slow(crossed([function for function, _ in RECURRENCES], BACKENDS), substeps, vector, three_deep),
    ids=named,
)
def test_turns_are_found(function, backend):
    inputs = dict(RECURRENCES)[function]
    for transform, name in ((fg.jit, "forward"), (fg.value_and_grad, "value_and_grad")):
        kernel = transform(function, backend=backend).kernel_for(inputs)
        arrays = kernel.arrays
        inner = [item for item in arrays.statements if isinstance(item, Repeat) and item.inner]
        assert inner, arrays
        routine = kernel.forward if transform is fg.jit else kernel.joint
        assert_every_way_agrees(kernel, routine, name, inputs, arrays)
        assert_same(arrays.check().evaluate(inputs), routine.program.evaluate(inputs), arrays)


@pytest.mark.parametrize("transform", [fg.jit, fg.value_and_grad])
def test_loops_in_loops_in_loops(transform):
    arrays = transform(three_deep, backend="numpy").kernel_for([0.1, 0.7]).arrays
    depths = {loop.depth for item in arrays.statements if isinstance(item, Repeat) for loop in item.inner}
    assert depths == {1, 2}, arrays


def test_two_loops_in_a_round():
    text = str(fg.jit(two_back, backend="numpy").kernel_for([0.3, 0.8]).arrays)
    assert text.count("        repeat j:") == 2, text


def test_the_adjoint_of_turns_is_a_loop_even_if_only_reads_tell_its_rounds():
    arrays = fg.value_and_grad(relaxed, backend="numpy").kernel_for([0.1, 0.7]).arrays
    assert [len(item.inner) for item in arrays.statements if isinstance(item, Repeat)] == [1, 1], arrays


@pytest.mark.parametrize("transform", [fg.jit, fg.value_and_grad])
def test_all_turns_are_in_the_loop(transform):
    """Turns that begin with another equation than the first token that goes on evenly does."""
    assert "        repeat j:20, with v" in str(transform(iterated(30), backend="numpy").kernel_for([0.1, 0.7]).arrays)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler on this machine")
@pytest.mark.parametrize("recurrences", [RECURRENCES[:1], pytest.param(RECURRENCES[1:], marks=pytest.mark.slow)])
def test_turns_in_c(recurrences):
    c = CFile()
    for function, inputs in recurrences:
        for transform in (fg.jit, fg.value_and_grad):
            kernel = transform(function, backend="numpy").kernel_for(inputs)
            c.add(kernel.arrays, inputs, Outcome(tuple(kernel.arrays.evaluate(inputs))), kernel.arrays)
    assert c.check() == 2 * len(recurrences)


def iterated(steps, turns=20):
    def f(p):
        a, x = p
        for _ in range(steps):
            y = x
            for _ in range(turns):
                y = x + a * fg.cos(y)
            x = y
        return x

    return f


def sinking(steps, turns=20):
    """Each round of each loop takes a root, and the last ones cannot."""

    def f(p):
        a, x = p
        for _ in range(steps):
            for _ in range(turns):
                x = x - a * fg.sqrt(x)
            x = x + 0.01
        return x

    return f


@pytest.mark.parametrize(
    ("steps", "transform", "backend"),
    [
        (*each, backend)
        for each, backend in crossed(itertools.product([40, 200], [fg.jit, fg.value_and_grad]), BACKENDS)
    ],
)
def test_a_turn_that_faults(steps, transform, backend):
    """The interpreter's exception, with the numbers of that turn and the user's line."""
    compiled = transform(sinking(steps), backend=backend)
    compiled([0.001, 30.0])
    with pytest.raises(fg.FlatgradError) as expected:
        sinking(steps)([fg.Value(0.01), fg.Value(2.0)])
    with pytest.raises(type(expected.value)) as raised:
        compiled([0.01, 2.0])
    assert str(raised.value) == str(expected.value)
    assert raised.value.__traceback__ is not None
    assert "x = x - a * fg.sqrt(x)" in str(raised.value)
    assert any(isinstance(item, Repeat) and item.inner for item in compiled.kernels[0].arrays.statements)
    compiled([0.001, 30.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_turn_that_faults_in_the_gradient_alone(backend):
    """The slope of a root at zero, which the value of no turn divides by."""

    def f(p):
        a, x = p
        for _ in range(14):
            for _ in range(10):
                x = fg.sqrt(x) * a
            x = x + 1.0
        return x

    compiled = fg.value_and_grad(f, backend=backend)
    compiled([0.5, 1.0])
    leaves = [fg.Value(0.0), fg.Value(1.0)]
    with pytest.raises(fg.FlatgradError) as expected:
        f(leaves).backward()
    with pytest.raises(type(expected.value)) as raised:
        compiled([0.0, 1.0])
    assert str(raised.value) == str(expected.value)


@pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")
@pytest.mark.parametrize("steps", slow([14, 200], 200))
def test_bounds_of_memory(steps):
    """Rounds with turns are computed again where the turns are written out; what cannot be, takes what it takes."""
    free = fg.value_and_grad(sinking(steps), backend="native")
    expected = free([0.001, 30.0])
    for memory in (free.kernels[0].stats.workspace // 2, 1_000):
        bounded = fg.value_and_grad(sinking(steps), backend="native", memory=memory)
        assert bounded([0.001, 30.0]) == expected
        stats = bounded.kernels[0].stats
        assert stats.workspace <= memory or "more than memory=" in stats.reason or stats.checkpoints, stats


@pytest.mark.parametrize("backend", slow(BACKENDS, "numpy" if len(BACKENDS) > 1 else None))
def test_any_number_of_rounds(backend):
    """Many rounds are made from a few: 200 steps of an implicit solver, with 20 turns each."""
    f = iterated(200)
    leaves = [fg.Value(0.1), fg.Value(0.7)]
    result = f(leaves)
    result.backward()
    compiled = fg.value_and_grad(f, backend=backend)
    kernel = compiled.kernel_for([0.1, 0.7])
    value, gradient = compiled([0.1, 0.7])
    assert_same([value, *gradient], [result.data, *(leaf.grad for leaf in leaves)], kernel.arrays)
    lines = str(kernel.arrays).splitlines()
    assert sum(line.startswith("        repeat j:") for line in lines) >= 2, kernel.arrays


@pytest.mark.parametrize("make", [iterated, sinking])
@pytest.mark.parametrize("steps", slow([30, *([200] if native.available() else [])], 200))
def test_a_gradient_does_not_grow_with_the_turns(make, steps):
    """What the reverse sweep multiplies behind the loops is one statement for all turns of all rounds.

    Only what is left of the first and last rounds is a loop, or is not, as there is more of it.
    """
    counts = []
    for turns in (20, 40):
        arrays = fg.value_and_grad(make(steps, turns)).kernel_for([0.001, 3.0]).arrays
        counts.append(count_statements(arrays.check()))
    assert counts[1] < counts[0] + 10, arrays


def test_turns_that_read_other_turns_are_no_band():
    """Statements one after the other that look like a band, of which each reads what the one before has computed."""
    group = Group("x", 5, False)
    statements = [
        Statement(f"v{k}", (5,), (Read(5 * k, (1,)), Apply(p.sin, (0,))), 5 + 5 * k, "f") for k in range(12)
    ]  # fmt: skip
    names, outputs = [f"x{k}" for k in range(5)], np.arange(60, 65)
    chained = ArrayProgram("f", names, [group], statements=statements, outputs=outputs, output_groups=[group])
    assert bands.banded(chained.check()) is chained
    apart = [replace(s, body=(Read(k % 5, (0,)), s.body[1])) for k, s in enumerate(statements)]
    assert bands.banded(replace(chained, statements=apart)).check() is not None
    alike = [replace(s, body=(Read(0, (1,)), s.body[1])) for s in statements]
    program = replace(chained, statements=alike)
    together = bands.banded(program).check()
    assert len(together.statements) == 1
    inputs = [0.1, -0.7, 0.5, 1.25, 0.0]
    assert_same(together.evaluate(inputs), program.evaluate(inputs), together)


def test_few_rounds_are_shown_as_loops_in_loops():
    assert str(fg.jit(iterated(200), backend="numpy").kernel_for([0.1, 0.7]).arrays).split("# ")[0].splitlines() == [
        "array program f(p[2]):",
        "    repeat i:200, with u1[0] = p[1]:",
        "        repeat j:20, with v1[i, 0] = u1[i]:",
        "            v1[i, j + 1] = u1[i] + p[0] * cos(v1[i, j])          ",
    ]


# --- random loops in loops --------------------------------------------------------------------------------------------

_OPERATIONS = {
    "mul": lambda x, y, c: x * y * c,
    "add": lambda x, y, c: x + c * y,
    "sin": lambda x, y, c: fg.sin(x) + c,
    "tanh": lambda x, y, c: fg.tanh(x - y),
    "max": lambda x, y, c: fg.maximum(x, c * y),
}


class Turn:
    """A number from others, by a few random operations."""

    def __init__(self, draw):
        names = draw.choice(list(_OPERATIONS), int(draw.integers(1, 4))).tolist()
        self.rows = [(name, *draw.integers(100, size=2).tolist(), draw.choice([0.5, -0.25, 1.5])) for name in names]

    def __call__(self, values):
        values = list(values)
        for name, a, b, c in self.rows:
            values.append(_OPERATIONS[name](values[a % len(values)], values[b % len(values)], float(c)))
        return fg.tanh(values[-1])


def random_rounds(seed):
    """A function of ten numbers with one or two loops in each round of a loop, some with a loop in each turn.

    Turns read one or two turns before, what the round began with, a number per turn, the same turn of the round before.
    """
    draw = np.random.default_rng(seed)
    width, rounds = int(draw.integers(1, 4)), int(draw.integers(4, 8))
    first, last = ([Turn(draw) for _ in range(width)] for _ in range(2))
    loops = [
        (int(draw.integers(6, 9)), [Turn(draw) for _ in range(int(draw.integers(1, 4)))], draw.integers(3, size=4))
        for _ in range(int(draw.integers(1, 3)))
    ]
    deeper = [(int(draw.integers(3, 6)) * int(draw.integers(2)), Turn(draw)) for _ in loops]
    keeps = draw.integers(3)

    def f(p):
        state, earlier, kept = list(p[:width]), list(p[2:]), []
        for i in range(rounds):
            if keeps:
                state = [turn([*state, p[0], p[2 + i]]) for turn in first]
            for (count, turns, (back, begun, extra, _)), (more, deep) in zip(loops, deeper, strict=True):
                now = [state[k % width] for k in range(len(turns))]
                before, results = list(now), []
                for j in range(count):
                    read = [*now, p[1], *(before if back == 2 else ()), *(state if begun == 2 else ())]
                    read += [p[2 + j]] if extra == 1 else [earlier[j]] if extra == 2 else []
                    before, now = now, [turn(read[k:] + read[:k]) for k, turn in enumerate(turns)]
                    inner = now[-1]
                    for _ in range(more):
                        inner = deep([inner, now[0], p[0], *state])
                    now[-1] = inner
                    results.append(now[0])
                earlier = (results + earlier)[:8]
                state = [turn([*now, *state]) for turn in last]
            if keeps == 2:
                kept += [state[0], earlier[1]]
        return sum(state) + sum(kept)

    return f, draw.normal(size=10).round(2).tolist()


@pytest.fixture
def short_ones(monkeypatch):
    """Short recurrences are loops, too."""
    for module, limits in SHORT_ROUNDS:
        for name, limit in limits.items():
            monkeypatch.setattr(module, name, limit)


def test_vectors_in_turns_are_array_statements_on_numpy():
    """Turns of long vectors, which would take a multiple of the time in lists of numbers."""

    def f(p, weights):
        x = [p[0] * k for k in range(16)]
        for _ in range(9):
            y = x
            for _ in range(9):
                y = [fg.tanh(b + fg.sum([w * v for w, v in zip(row, y, strict=True)]))
                     for b, row in zip(x, weights, strict=True)]  # fmt: skip
            x = [0.5 * v for v in y]
        return fg.sum(x)

    arguments = [0.3], (np.arange(256).reshape(16, 16) % 7 / 100).tolist()
    kernel = (compiled := fg.value_and_grad(f, backend="numpy")).kernel_for(*arguments)
    assert any(isinstance(item, Repeat) and item.inner for item in kernel.arrays.statements)
    assert "for j in range(" in kernel.source
    assert "_rounds1" not in kernel.source.split("def value_and_grad")[0]
    leaf = fg.Value(0.3)
    result = f([leaf], arguments[1])
    result.backward()
    value, (slope,) = compiled(*arguments)
    assert_same([value, slope], [result.data, leaf.grad], kernel.source)


@pytest.mark.usefixtures("short_ones")
@pytest.mark.parametrize(("seeds", "least"), [([0], 2), pytest.param([12, 14], 2, marks=pytest.mark.slow)])
def test_random_rounds_as_array_statements(seeds, least, monkeypatch):
    monkeypatch.setattr(numpy, "is_scalar", lambda repeat: False)
    found = 0
    for seed in seeds:
        f, inputs = random_rounds(seed)
        for transform in (fg.jit, fg.value_and_grad):
            kernel = transform(f, backend="numpy").kernel_for(inputs)
            routine = kernel.forward if transform is fg.jit else kernel.joint
            numbers = flattened(routine(inputs))
            assert_same(numbers, routine.program.evaluate(inputs), kernel.source)
            found += "        for j in range(" in kernel.source
    assert found >= least


@pytest.mark.usefixtures("short_ones")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("seeds", "deepest"), [([0], 0), pytest.param([2, 12, 14], 2, marks=pytest.mark.slow)])
def test_random_rounds(seeds, deepest, backend):
    found = deep = 0
    for seed in seeds:
        f, inputs = random_rounds(seed)
        for transform, name in ((fg.jit, "forward"), (fg.value_and_grad, "value_and_grad")):
            kernel = transform(f, backend=backend).kernel_for(inputs)
            routine = kernel.forward if transform is fg.jit else kernel.joint
            assert_every_way_agrees(kernel, routine, name, inputs, seed)
            assert_same(kernel.arrays.check().evaluate(inputs), routine.program.evaluate(inputs), seed)
            loops = [item.inner for item in kernel.arrays.statements if isinstance(item, Repeat)]
            found += any(loops)
            deep += any(loop.depth > 1 for inner in loops for loop in inner)
    assert found >= 2
    assert deep >= deepest


@pytest.mark.usefixtures("short_ones")
def test_lists_that_are_put_together_are_lists_even_where_nobody_reads_their_numbers():
    """In rolled Python, what only its own round reads is a number, unless an access from outside ranges over it."""

    def f(p):
        x, loss = p[0], 0.0
        for k in range(6):
            y = fg.sin(x * p[1])
            x = fg.tanh(y * y + p[2 + k])
            loss = loss + x
        return loss

    program = fg.jit(f, backend="numpy").kernel_for([0.1 * k for k in range(8)]).arrays
    repeat, *_ = (item for item in program.statements if isinstance(item, Repeat))
    sources = Sources(program)
    alone = read_at_once(program, repeat)
    statements = [s for s in repeat.statements if s.name in alone]
    assert statements, program
    for statement in statements:
        low, high = statement.base - 1, statement.base + statement.lanes
        outside = Statement("z", (2,), (Read(low, (high - low,)),), program.size, "f")
        with_it = replace(program, statements=[*program.statements, outside])
        assert sources.holding(low, high) is None
        assert statement.name not in read_at_once(with_it, repeat)
