"""Loops over rounds whose inner loops grow or shrink from round to round: triangular systems, triangles of numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.loops import rounds
from flatgrad.compiler.loops.array_program import ArrayProgram
from flatgrad.compiler.loops.extents import Ragged
from flatgrad.compiler.loops.grammar import Apply, Block, Loop, Read, Repeat, Statement
from flatgrad.compiler.loops.rounds import count_statements, triangles
from flatgrad.compiler.machine import native
from flatgrad.compiler.program.program import Group
from flatgrad.runtime import primitives as p
from flatgrad.runtime.errors import DomainError, ProgramError
from tests.bits import assert_same
from tests.compiler.test_c import CC
from tests.every_way import CFile, assert_every_way_agrees, flattened
from tests.examples import crossed, examples

BACKENDS = ["numpy", *(["native"] if native.available() else [])]


def substitution(matrix, b):
    """The squares of the solution of a triangular system."""
    y, total = [], 0.0
    for i in range(len(b)):
        s = b[i]
        for j in range(i):
            s = s - matrix[i][j] * y[j]
        y.append(s / matrix[i][i])
    for each in y:
        total = total + each * each
    return total


def bell(x):
    """Each row begins with the last number of the row before; each number adds the one above."""
    row = [x[0]]
    for i in range(1, len(x)):
        new = [row[-1] * x[i]]
        for above in row:
            new.append(new[-1] + above * 0.5)
        row = new
    return row[-1]


def growing(a, x):
    """Nothing stands between the inner loops."""
    h = x[0]
    for i in range(len(x)):
        for j in range(i):
            h = fg.sin(h * a + x[j])
    return h


def shrinking(a, x):
    h = x[0]
    for i in range(len(x)):
        for j in range(i, len(x)):
            h = fg.sin(h * a + x[j])
    return h


def attention(a, x):
    """Each position looks at all earlier ones: three inner loops per round."""
    h = [x[0]]
    for i in range(1, len(x)):
        weights = [fg.exp(a * h[-1] * h[j]) for j in range(i)]
        total, mean = weights[0], weights[0] * h[0]
        for each in weights[1:]:
            total = total + each
        for j in range(1, i):
            mean = mean + weights[j] * h[j]
        h.append(mean / total + x[i])
    return h[-1]


def levinson(r):
    """The error of linear prediction: each round reads the coefficients of the one before forwards and backwards."""
    a, error = [], r[0]
    for m in range(len(r) - 1):
        k = r[m + 1]
        for j in range(m):
            k = k + a[j] * r[m - j]
        k = -k / error
        a = [a[j] + k * a[m - 1 - j] for j in range(m)] + [k]
        error = error * (1.0 - k * k)
    return error


def series(n):
    return (0.3 * np.sin(1.0 + np.arange(n))).tolist()


def matrix_of(n):
    return (np.array(series(n * n)).reshape(n, n) + 2.0 * np.eye(n)).tolist()


WORKLOADS = {
    "substitution": (substitution, lambda n: (matrix_of(n), series(n))),
    "bell": (bell, lambda n: (series(n),)),
    "growing": (growing, lambda n: (0.7, series(n))),
    "shrinking": (shrinking, lambda n: (0.7, series(n))),
    "attention": (attention, lambda n: (0.3, series(n))),
    "levinson": (levinson, lambda n: ([1.5 * 0.5**k for k in range(n)],)),
}


def length(program):
    """How many statements and equations have a text of their own."""
    blocks = sum(len(item.program) for item in program.statements if isinstance(item, Block))
    return count_statements(program) + blocks


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_text_does_not_grow(name):
    f, arguments = WORKLOADS[name]
    short, long = (fg.jit(f, backend="numpy").kernel_for(*arguments(n)).arrays for n in (24, 32))
    assert length(short) == length(long) < 40


@pytest.mark.parametrize("name", ["substitution", "growing", "shrinking"])
def test_the_text_of_gradients_does_not_grow(name):
    f, arguments = WORKLOADS[name]
    short, long = (fg.value_and_grad(f, backend="numpy").kernel_for(*arguments(n)).arrays for n in (24, 32))
    assert length(short) == length(long) < 40


@pytest.mark.parametrize(("name", "backend"), crossed(WORKLOADS, BACKENDS))
def test_every_way_has_the_bits_of_the_scalar_program(name, backend):
    f, arguments = WORKLOADS[name]
    values = arguments(20)
    kernel = fg.value_and_grad(f, argnums=range(len(values)), backend=backend).kernel_for(*values)
    assert any(isinstance(item, Repeat) and item.is_ragged for item in kernel.arrays.check().statements)
    assert_every_way_agrees(kernel, kernel.joint, "value_and_grad", flattened(values), name)


@pytest.mark.skipif(CC is None, reason="no C compiler")
@pytest.mark.parametrize("names", [["levinson"], pytest.param(list(WORKLOADS), marks=pytest.mark.slow)])
def test_c_has_the_bits_of_the_scalar_program(names):
    file = CFile()
    for name in names:
        f, arguments = WORKLOADS[name]
        values = arguments(20)
        kernel = fg.value_and_grad(f, argnums=range(len(values)), backend="numpy").kernel_for(*values)
        assert_every_way_agrees(kernel, kernel.joint, "value_and_grad", flattened(values), name, c=file)
    assert file.check() == len(names)


def test_text():
    kernel = fg.jit(growing, backend="numpy").kernel_for(0.7, series(20))
    lines = str(kernel.arrays).splitlines()
    assert lines[1].startswith("    repeat i:19, with v1[j:1] = x[0]:")
    assert lines[2].startswith("        repeat j:i + 1, with v1[i, 1] = ")
    assert lines[3].startswith("            v1[i, j + 2] = sin(v1[")
    assert len(lines) == 5


def test_c_and_python_have_loops_in_loops():
    kernel = fg.jit(growing, backend="numpy").kernel_for(0.7, series(20))
    assert "for (int j = 0; j < i + 1; j++)" in kernel.c_source()
    assert "for j in range(i + 1):" in kernel.source


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fault_in_an_inner_turn_is_the_interpreters(backend):
    def f(a, x):
        h = x[0]
        for i in range(len(x)):
            for j in range(i):
                h = fg.sqrt(h * a + x[j])
        return h

    g = fg.value_and_grad(f, backend=backend)
    numbers = [1.0] * 16
    assert g(0.5, numbers) == fg.value_and_grad(f, backend="python")(0.5, numbers)
    numbers[11] = -9.0
    with pytest.raises(DomainError) as expected:
        f(fg.Value(0.5), list(map(fg.Value, numbers)))
    with pytest.raises(DomainError) as raised:
        g(0.5, numbers)
    assert str(raised.value).splitlines()[0] == str(expected.value).splitlines()[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_inner_loop_alone_may_be_a_running_maximum(backend, monkeypatch):
    for name in ("_LONG", "_SHORTER"):
        monkeypatch.setattr(rounds, name, 0)

    def f(x, y):
        rows = []
        for i in range(len(x)):
            row = [y[i]]
            for j in range(i + 1):
                row.append(fg.maximum(row[-1], x[j]))
            rows.append(row)
        return rows

    numbers = series(20), series(40)[20:]
    compiled = fg.jit(f, backend=backend)
    (repeat,) = compiled.kernel_for(*numbers).arrays.statements
    assert isinstance(repeat, Repeat)
    assert repeat.is_ragged
    assert_same(flattened(compiled(*numbers)), flattened(fg.jit(f, backend="python")(*numbers)))


# --- random ones ------------------------------------------------------------------------------------------------------

OPERATIONS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "maximum": fg.maximum,
    "tanh": lambda a, b: fg.tanh(a) + b,
    "div": lambda a, b: a / b,
    "sqrt": lambda a, b: fg.sqrt(a) * b,
    "where": lambda a, b: fg.where(a > b, a, b * 0.5),
}


@st.composite
def recurrences(draw):
    """A function of `a`, `x` and `y`: rounds of inner loops, between which numbers are computed and kept."""
    names = st.sampled_from(["s", "t", "a", "x", "y", "kept", "above", "constant", "back"])
    operations, first = st.sampled_from(sorted(OPERATIONS)), st.sampled_from(["x", "kept", "above", "back"])
    steps = st.lists(st.tuples(operations, names, names, st.sampled_from("st")), max_size=3)
    carried = st.tuples(st.sampled_from(["add", "mul", "tanh", "maximum"]), st.just("s"), first, st.just("s"))
    inner = st.tuples(carried, steps, st.booleans(), steps, st.booleans())
    loops = draw(st.lists(inner, min_size=1, max_size=3))
    keeps = draw(st.booleans())

    def f(a, x, y):
        n = len(x)
        kept, above = [x[0]] * n, [y[0]] * (n + 1)
        s, t = x[0], y[0]

        def done(what, s, t, i, j, row):
            for operation, left, right, into in what:
                values = {
                    "s": s, "t": t, "a": a, "x": x[j], "y": y[i], "kept": kept[j], "above": row[j],
                    "constant": 0.25 * (j % 3) - 0.25, "back": y[n - 1 - j],
                }  # fmt: skip
                result = OPERATIONS[operation](values[left], values[right])
                s, t = (result, t) if into == "s" else (s, result)
            return s, t

        for i in range(n):
            for begin, inside, grows, between, restarts in loops:
                if restarts:
                    s = y[i]
                row = list(above)
                for j in range(i + 1 if grows else n - i):
                    s, t = done([begin, *inside], s, t, i, j, row)
                    above[j] = s
                s, t = done(between, s, t, i, i, row)
            if keeps:
                kept[i] = s
        return s + t

    return f, draw(st.integers(11, 14))


@pytest.mark.parametrize("backend", BACKENDS)
def test_random_recurrences(backend, monkeypatch):
    for name in ("_LONG", "_SHORTER"):
        monkeypatch.setattr(rounds, name, 0)
    for name, limit in (("_ROUNDS", 4), ("_EQUATIONS", 20)):
        monkeypatch.setattr(triangles, name, limit)
    ragged = []

    @given(recurrences())
    @settings(max_examples=examples(25))
    def agree(case):
        f, n = case
        values = 0.75, series(n), (1.5 + np.array(series(n))).tolist()
        try:
            kernel = fg.value_and_grad(f, argnums=(0, 1, 2), backend=backend).kernel_for(*values)
        except (ArithmeticError, ValueError):  # of constants alone, while it is traced
            assume(False)
        kernel.arrays.check()
        ragged.append(any(isinstance(item, Repeat) and item.is_ragged for item in kernel.arrays.statements))
        assert_every_way_agrees(kernel, kernel.joint, "value_and_grad", flattened(values), f)

    agree()
    assert any(ragged)


# --- the grammar ------------------------------------------------------------------------------------------------------


def triangle(count=4, inside=True):
    """`y[i, j + 1] = y[i, j] * x[j]`, from `y[i, 0] = x[i]`."""
    extent = Ragged.over(count, 1, 1, 0)
    base = count
    start = Statement("y", (count,), (Read(0, (1,)),), base, "f", steps=(2,), bends=(1,))
    body = Read(base, (2, 1), None, (1, 0)), Read(0, (0, 1)), Apply(p.mul, (0, 1))
    turn = Statement("y", (count, extent), body, base + 1, "f", steps=(2,))
    repeat = Repeat((turn,), ((start,),), (Loop(0, 1, 1),) if inside else ())
    size = count + count * (count + 1) // 2
    return ArrayProgram(
        "f", [f"x{k}" for k in range(count)], [Group("x", count, False)], statements=[repeat],
        outputs=np.arange(base, base + size), output_groups=[Group("y", size, False)],
    )  # fmt: skip


def test_meaning():
    program = triangle().check()
    expected = []
    for i, first in enumerate((2.0, 3.0, 5.0, 7.0)):
        row = [first]
        for each in (2.0, 3.0, 5.0, 7.0)[: i + 1]:
            row.append(row[-1] * each)
        expected += row
    assert program.evaluate([2.0, 3.0, 5.0, 7.0]) == expected


def test_rows_of_different_lengths_need_a_loop():
    with pytest.raises(ProgramError, match="ragged"):
        triangle(inside=False).check()


def test_the_checker_finds_what_a_shorter_row_reads_too_early():
    program = triangle()
    (repeat,) = program.statements
    (turn,) = repeat.statements
    later = turn.with_reads(lambda read, extents: read._replace(base=5) if read.base == 4 else read)
    program.statements = [Repeat((later,), repeat.starts, repeat.inner)]
    with pytest.raises(ProgramError, match="written later"):
        program.check()


def test_rounds_of_equal_lengths_are_no_nest():
    def f(a, x):
        h = x[0]
        for _ in range(20):
            for each in x:
                h = fg.sin(h * a + each)
        return h

    kernel = fg.jit(f, backend="numpy").kernel_for(0.7, series(20))
    assert not triangles.find_nests(kernel.stages.cleaned)
    assert fg.jit(f, backend="numpy")(0.7, series(20)) == fg.jit(f, backend="python")(0.7, series(20))
