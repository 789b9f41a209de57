"""Stages: each is made once, and what is printed of them is what happens."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.cli import main
from flatgrad.compiler import stages
from flatgrad.compiler.machine import native
from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.passes import ARRAY_PASSES, JOINT_PASSES, PRIMAL_PASSES
from flatgrad.compiler.program.program import Group, Program

BACKENDS = ["python", "numpy", *(["native"] if native.available() else [])]


def body(x):
    return sum((a * a + 0.0 * a for a in x), 0.0).exp()


def headings(text):
    return [line.removeprefix("# ").removesuffix(": no change") for line in re.findall("(?m)^# .*$", text)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_pass_is_shown_in_the_order_in_which_it_ran(backend):
    kernel = fg.grad(body, backend=backend).kernel_for([1.0, 2.0, 3.0])
    passes = JOINT_PASSES if backend == "python" else ARRAY_PASSES
    expected = ["traced", *(p.__name__ for p in PRIMAL_PASSES), "joint", *(p.__name__ for p in passes)]
    expected += [] if backend == "python" else ["re-rolled: grad", "find_rounds: grad"]
    text = str(kernel.stages)
    assert headings(text) == expected
    assert "no change" in text, "a constant is folded only where there is one"
    shown = dict(kernel.stages.steps())
    assert str(shown[passes[-1].__name__]) == str(kernel.program), "the last program is the one that runs"
    if backend != "python":
        assert str(shown["find_rounds: grad"]) == str(kernel.arrays)


def test_the_functions_of_a_pair_are_shown(flat):
    text = str(fg.compile(body).kernel_for([fg.Value(1.0), 2.0]).stages)
    assert headings(text)[-2:] == ["cut: forward", "cut: backward"]
    assert "output_bars" in text


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_stage_is_made_once(backend, monkeypatch):
    counts = {"adjoint": 0, "reroll": 0}
    for name in counts:
        original = getattr(stages, name)

        def counted(*arguments, name=name, original=original, **options):
            counts[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(stages, name, counted)
    kernel = fg.value_and_grad(body, backend=backend).kernel_for([1.0, 2.0, 3.0])
    assert counts == {"adjoint": 1, "reroll": 0 if backend == "python" else 1}
    for _ in range(2):
        _ = kernel.program, kernel.source, kernel.arrays, kernel.python_source(rolled=True), kernel.c_source()
    before = dict(counts)
    for _ in range(2):
        _ = kernel.program, kernel.source, kernel.arrays, kernel.python_source(rolled=True), kernel.c_source()
    assert counts == before, "nothing is made a second time"
    assert counts["adjoint"] <= 2
    assert counts["reroll"] == 1


@pytest.mark.parametrize("faults", ["raise", "ieee"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_kernel_of_training_steps_shows_what_other_kernels_show(backend, faults):
    w = fg.Value(0.5)
    step = nn.train_step(lambda x: (w * x - 1.0) ** 2, nn.SGD(0.1), [w], backend=backend, faults=faults)
    step(2.0)
    (kernel,) = step.kernels
    assert re.fullmatch(rf"<StepKernel f: \d+ equations, backend '{backend}'>", repr(kernel))
    assert kernel.source == step.source
    passes = JOINT_PASSES if backend == "python" else ARRAY_PASSES
    expected = ["traced", "joint", *(p.__name__ for p in passes)]
    expected += [] if backend == "python" else ["re-rolled: step", "find_rounds: step"]
    assert headings(str(kernel.stages)) == expected, "the gradient is traced: there are no passes before it"
    shown = dict(kernel.stages.steps())
    assert str(shown[passes[-1].__name__]) == str(kernel.program), "the last program is the one that runs"
    assert str(kernel.arrays).startswith("array program f(x, parameters[1], lr")
    stats = kernel.stats
    assert (stats.backend, stats.equations) == (backend, len(kernel.program))
    assert stats.lines > 0 < stats.compile_seconds
    assert stats.trace_seconds > 0


def test_the_kernel_of_training_steps_counts_what_is_done_again():
    w = fg.Value(0.0)
    step = nn.train_step(lambda x: (w * x).log(), nn.SGD(0.1), [w], backend="python")
    with pytest.raises(fg.DomainError):
        step(2.0)
    assert step.kernels[0].stats.replays == 1


def test_steps_that_were_repeated_have_a_kernel(flat):
    w = fg.Value(0.5)
    step = nn.train_step(lambda x: (w * x - 1.0) ** 2, nn.SGD(0.1), [w])
    step.repeat(3, 2.0)
    (kernel,) = step.kernels
    assert kernel is step.prepare(1.0)
    assert step.source == kernel.source


# --- what is printed of long programs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_long_programs_the_beginning_and_the_end_are_shown(backend):
    def chain(x):
        for k in range(400):
            x = x.sin() + 0.25 * k
        return x

    kernel = fg.grad(chain, backend=backend).kernel_for(1.0)
    stages = kernel.stages
    text, programs = str(stages), dict(stages.steps())
    for program in (programs["traced"], kernel.program):
        lines = str(program).splitlines()
        assert "\n".join(lines[:20]) in text
        assert "\n".join(lines[-20:]) in text
        assert f"# ... {len(lines) - 40:,} lines ..." in text
        assert str(program) not in text
        assert str(program) in stages.text(abridged=False)
    assert max(len(section.splitlines()) for section in text.split("\n\n# ")) <= 45


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_long_programs_only_what_is_shown_is_printed(backend, monkeypatch):
    def chain(x):
        for k in range(600):
            x = (x * 1.0).sin() + (2.0 * 3.0) * k
        return x * fg.detach(x)

    stages = fg.grad(chain, backend=backend).kernel_for(1.0).stages
    steps = list(stages.steps())
    count = sum(len(program) for _, program in steps if isinstance(program, Program))
    texts = ["", *(str(program) for _, program in steps)]
    same = [text == before for before, text in itertools.pairwise(texts)]
    printed = []
    equation = Program.equation
    monkeypatch.setattr(Program, "equation", lambda program, k: printed.append(k) or equation(program, k))
    text = str(stages)
    assert count > 5_000
    assert len(printed) < count / 10
    assert re.findall("(?m)^# .*$", text) == [
        f"# {name}{': no change' if unchanged else ''}" for (name, _), unchanged in zip(steps, same, strict=True)
    ]
    assert any(same)


def test_programs_that_differ_in_a_number_or_a_line_read_differently():
    def traced(number, lines=1):
        builder = ProgramBuilder("f", [Group("x", 1, True)])
        return replace(builder.finish([builder.emit("mul", 0, builder.constant(number))]), name="f" * lines)

    assert traced(2.0).reads_like(traced(2.0))
    assert traced(math.nan).reads_like(traced(math.nan))
    assert not traced(0.0).reads_like(traced(-0.0))
    assert not traced(2.0).reads_like(traced(2.0, 2))


def test_constants_in_another_order_read_the_same():
    def program(*numbers):
        builder = ProgramBuilder("f", [Group("x", 1, True)])
        for number in numbers:
            builder.constant(number)
        return builder.finish([builder.emit("mul", 0, builder.constant(2.0))])

    assert program(2.0, 3.0).reads_like(program(3.0, 2.0))


def test_the_repr_of_programs_is_short():
    kernel = fg.grad(lambda x: sum((t * t for t in x), 0.0)).kernel_for([1.0] * 500)
    assert repr(kernel.program) == f"<Program f: {len(kernel.program):,} equations>"
    assert repr(fg.value_and_grad(lambda x: x * 2.0, backend="python").kernel_for(1.0).program) == (
        "<Program f: 1 equation>"
    )
    assert repr(kernel.arrays) == "<ArrayProgram f: 1 statement>"


def test_one_equation_is_in_the_singular(flat):
    block = fg.jit(lambda x: x.sin() * x, backend="python").kernel_for(1.0).arrays
    assert "straight-line code of 2 equations:" in str(block)
    assert "straight-line code of 1 equation:" in str(fg.jit(fg.sin, backend="python").kernel_for(1.0).arrays)


def test_the_command_shows_them(capsys):
    assert not main(["show", "--passes", "x * x + 1"])
    assert headings(capsys.readouterr().out)[:4] == ["traced", "fold_constants", "remove_dead_code", "joint"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_takes_memory_and_can_be_made_again_is_let_go(backend):
    stages = vars(fg.value_and_grad(body, backend=backend).kernel_for([1.0, 2.0, 3.0]).stages)
    assert "joint" not in stages
    assert ("flat" in stages, "cleaned" in stages) == (backend == "python", backend != "python")
