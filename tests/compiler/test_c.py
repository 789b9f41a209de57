"""`kernel.save("f.c")`: C99 that compiles without warnings and has the interpreter's bits, faults included.

Many functions go into one file, and many files to one compiler, because compilers are slow to start.
"""

from __future__ import annotations

import ctypes
import math
import random
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings

import flatgrad as fg
from benchmarks.workloads import moons, tangle, transformer
from flatgrad import Value
from flatgrad.compiler.languages import c as emitter
from flatgrad.compiler.languages.c import emit_c
from flatgrad.compiler.languages.opened import ArrayFunction
from flatgrad.compiler.languages.spellings import C
from flatgrad.compiler.loops.reroll import reroll
from flatgrad.runtime.primitives import BY_NAME, PACKAGE_ROWS, TABLE
from tests.array_programs import loop_programs
from tests.bits import ARITHMETIC, all_bits, assert_same
from tests.compiler import golden_programs
from tests.examples import crossed, examples, slow
from tests.programs import by_interpreter, programs
from tests.runtime.test_exact_primitives import applied, arguments, interpreted

CC = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
pytestmark = pytest.mark.skipif(CC is None, reason="there is no C compiler on this machine")

FLAGS = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def build(path, *, flags=FLAGS):
    """A C file as a library."""
    library = path.with_suffix(".so")
    command = [CC, *flags, "-shared", "-fPIC", "-o", str(library), str(path), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr[:4000]}\n{path.read_text()[:8000]}"
    return Library(ctypes.CDLL(str(library)), path.read_text(encoding="utf-8"))


class Library:
    """A compiled file: its functions take and return flat lists of numbers."""

    def __init__(self, library, source):
        self.library, self.source = library, source

    def function(self, name, program):
        """A function from inputs to outputs, or to None where it reports a fault."""
        function = self.library[name]
        function.restype = ctypes.c_int
        inputs, outputs = program.input_groups, program.output_groups
        declared = re.search(rf"#define {name.upper()}_WORK (\d+)", self.source)
        work = [(ctypes.c_double * int(declared[1]))(*[math.nan] * int(declared[1]))] if declared else []

        def call(numbers):
            numbers, arguments = list(map(float, numbers)), []
            for group in inputs:
                part, numbers = numbers[: group.size], numbers[group.size :]
                arguments.append(
                    ctypes.c_double(part[0]) if group.scalar else (ctypes.c_double * max(group.size, 1))(*part)
                )
            results = [(ctypes.c_double * max(group.size, 1))() for group in outputs]
            fault = function(*arguments, *results, *work)
            assert fault in (0, 1)
            if fault:
                return None
            return [x for group, result in zip(outputs, results, strict=True) for x in result[: group.size]]

        return call


def build_all(kernels, path, **options):
    """The joint kernels as functions of one file; per kernel the function, or the pair of functions."""
    named = [ArrayFunction(kernel.arrays, f"f{k}", "") for k, kernel in enumerate(kernels)]
    path.write_text(emit_c(named, ["For a test."]), encoding="utf-8")
    library = build(path, **options)
    return [library.function(f"f{k}", kernel.arrays) for k, kernel in enumerate(kernels)]


def drawn(strategy, count):
    """Some examples of a strategy: they are compiled together."""
    results = []

    @settings(max_examples=count, phases=[Phase.generate], database=None)
    @given(strategy)
    def collect(example):
        results.append(example)

    collect()
    return results


def joint_kernel(function, *arguments, **options):
    """The kernel of `value_and_grad` with respect to all arguments."""
    return fg.value_and_grad(function, argnums=tuple(range(len(arguments))), **options).kernel_for(*arguments)


def evaluated(program, inputs):
    """The outputs, or None where something is raised."""
    try:
        return list(map(float, program.evaluate(inputs)))
    except ARITHMETIC:
        return None


def assert_outcome(actual, expected, report):
    """The same bits, or a fault where the other raised."""
    assert (actual is None) == (expected is None), f"{report}\n  got      {actual}\n  expected {expected}"
    if expected is not None:
        assert_same(actual, expected, report)


# --- primitives -------------------------------------------------------------------------------------------------------

#: Operations with constants, which have spellings of their own or might be replaced by a compiler.
WITH_CONSTANTS = [
    *(lambda x, k=k: x**k for k in (2.0, -1.0, 0.5, -0.5, 3.0, 1.5, 0.0, 1.0, -2.0, 4.0, 1e300, math.inf, math.nan)),
    *(lambda x, base=base: base**x for base in (2.0, 10.0, 0.5, 0.0, -0.0, -2.5, math.inf, math.nan)),
    *(lambda x, c=c: fg.div(x, c) for c in (3.0, -0.1, 0.0, math.inf, math.nan)),
    *(lambda x, c=c: fg.div(c, x) for c in (1.0, 0.0, -0.0)),
    *(lambda x, c=c: fg.maximum(x, c) - fg.minimum(c, x) for c in (0.0, -0.0, math.nan)),
    lambda x: (x + 0.0) * -0.0 - (-x),
    lambda x: -(0.0 - x * 0.1) - -1e-5,
    lambda x: fg.where(fg.less(x, 1.0) & ~fg.equal(x, 0.0) | fg.greater(x, 20.0), x.sin() + x.cos(), x.exp()),
]


@pytest.mark.parametrize("count", slow([30, examples(1500)], examples(1500)))
def test_primitives_at_many_arguments(count, tmp_path):
    """Value and gradient, for every row of the table: a row is tested without an edit here."""
    rows = [row for row in TABLE[:PACKAGE_ROWS] if row.name != "guard"]  # traces alone make those
    functions = [(applied(row), row.arity, random.Random(row.name).sample(arguments(row), count)) for row in rows]
    points = random.Random(1).sample(arguments(BY_NAME["exp"]), min(count, 400))
    functions += [(function, 1, points) for function in WITH_CONSTANTS]
    kernels = [joint_kernel(function, *[0.5] * arity) for function, arity, _ in functions]
    compiled = build_all(kernels, tmp_path / "primitives.c")
    faults = 0
    for (function, _, points), call, kernel in zip(functions, compiled, kernels, strict=True):
        for point in points:
            expected = interpreted(function, point)
            expected = expected if type(expected) is list else None
            faults += expected is None
            assert_outcome(call(point), expected, f"{kernel.program}\n  at {point}")
    assert faults > 0.6 * count


def test_a_primitive_without_a_spelling(monkeypatch):
    kernel = fg.grad(lambda x: x.tanh()).kernel_for(1.0)
    monkeypatch.delitem(C, BY_NAME["tanh"])
    with pytest.raises(fg.OptionError, match="primitive tanh has no spelling in C"):
        kernel.c_source()


# --- random programs --------------------------------------------------------------------------------------------------

#: Limits, by which small programs are cut into functions, or work in the caller's memory, as large ones do.
LIMITS = [{}, {"_BLOCK": 3, "_PART": 2, "_LOCAL": 0, "_PIECES": 1, "_ITEMS": 1}, {"_FUNCTION": 4, "_LOCAL": 0}]


@pytest.fixture(params=LIMITS, ids=["as it is", "small blocks", "small functions"])
def limits(request, monkeypatch):
    for name, limit in request.param.items():
        monkeypatch.setattr(emitter, name, limit)


def test_random_programs(limits, tmp_path):
    results, kernels = [], []
    for program in drawn(programs(), examples(100)):
        try:
            kernels.append(joint_kernel(lambda *xs, p=program: p.run(xs)[0], *program.inputs))
        except fg.FlatgradError:  # an operation on constants raises
            continue
        results.append(program)
    faults = 0
    for program, call in zip(results, build_all(kernels, tmp_path / "random.c"), strict=True):
        expected = by_interpreter(program)
        faults += expected.error is not None
        assert_outcome(call(program.inputs), None if expected.error else expected.numbers, program)
    assert faults < len(results)


def loop_kernels(count, **options):
    """Random loop nests with their kernels: one output's gradient, and the others."""
    results = []
    for program in drawn(loop_programs(**options), count):
        leaves = program.bound()

        def both(*arguments, program=program, leaves=leaves):
            outputs = program.function(leaves)(*arguments)
            return outputs[0], outputs[1:]

        with suppress(fg.FlatgradError):
            arguments = [group.argument() for group in program.arguments]
            results.append((program, joint_kernel(both, *arguments, has_aux=True)))
    return results


def check_loops(pairs, path, **options):
    """Kernels of loop nests in one file, each at the numbers of its program."""
    calls = build_all([kernel for _, kernel in pairs], path, **options)
    for (program, kernel), call in zip(pairs, calls, strict=True):
        inputs = [*(x for group in program.arguments for x in group.numbers), *(leaf.data for leaf in kernel.leaves)]
        assert_outcome(call(inputs), evaluated(kernel.program, inputs), program)


def test_random_loops(limits, tmp_path):
    """Loops, folds, gathers and conditions, with leaves among the inputs."""
    check_loops(loop_kernels(examples(60)), tmp_path / "loops.c")


LEVELS = [["-O2"], ["-O3", "-march=native"]]


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS, ids=" ".join)
def test_random_loops_at_higher_levels(level, tmp_path):
    """With and without sums over several indices, which keep gcc from vectorising."""
    pairs = loop_kernels(examples(60), max_lanes=16)
    for nested in (True, False):
        part = [pair for pair in pairs if emitter._is_nested(pair[1].arrays) is nested]
        check_loops(part, tmp_path / f"loops{nested}.c", flags=[*FLAGS, *level])


@pytest.mark.parametrize(("inner", "level"), crossed([1, 2, 3, 4, 8], LEVELS))
def test_sums_over_two_indices_of_which_one_runs_backwards(inner, level, tmp_path):
    """gcc 12 adds other numbers here if it is not told to leave such loops alone."""
    x = np.random.default_rng(inner).standard_normal(64 * inner).tolist()
    functions = [
        lambda x: sum(x[inner * r + inner - 1 - s] for r in range(64) for s in range(inner)),
        lambda x: sum(x[inner * r + s] * x[s] for r in range(64) for s in range(inner)),
        lambda x: sum(x[64 * s + 63 - r] * x[r] for r in range(64) for s in range(inner)),
        lambda x: sum(x[len(x) - 1 - r] for r in range(len(x))),
    ]
    kernels = [joint_kernel(function, x) for function in functions]
    calls = build_all(kernels, tmp_path / "sums.c", flags=[*FLAGS, *level])
    for kernel, call in zip(kernels, calls, strict=True):
        assert_same(call(x), evaluated(kernel.program, x))


def test_random_pairs(limits, tmp_path):
    """Forward and backward, with residuals handed over, each against the program that it was made from."""
    parts = []
    for program in drawn(loop_programs(), examples(40)):
        outputs = tuple(dict.fromkeys(o for o in program.outputs if type(o) is tuple))
        arguments = [group.argument([Value(x) for x in group.numbers]) for group in program.arguments]
        try:
            kernel = fg.compile(replace(program, outputs=outputs).function(program.bound())).kernel_for(*arguments)
        except fg.FlatgradError:
            continue
        if kernel.backward is not None:
            inputs = [*(x for g in program.arguments for x in g.numbers), *(leaf.data for leaf in kernel.leaves)]
            parts.append((program, inputs, len(outputs), kernel.forward.program, kernel.backward.program))
    arrays = [[reroll(part) for part in pair] for *_, forward, backward in parts for pair in [(forward, backward)]]
    names = [(f"forward{k}", f"backward{k}") for k in range(len(parts))]
    named = [ArrayFunction(*pair, "") for k in range(len(parts)) for pair in zip(arrays[k], names[k], strict=True)]
    path = tmp_path / "pairs.c"
    path.write_text(emit_c(named, ["For a test."]), encoding="utf-8")
    library = build(path)
    for (program, inputs, outputs, *both), program_of_arrays, called in zip(parts, arrays, names, strict=True):
        forward, backward = (
            library.function(name, array) for name, array in zip(called, program_of_arrays, strict=True)
        )
        expected = evaluated(both[0], inputs)
        actual = forward(inputs)
        assert_outcome(actual, expected, f"{program}\n{program_of_arrays[0]}")
        if expected is not None:
            seeds = [1.0, -0.5, 0.0, 3.0] * outputs
            residuals = [*expected[outputs:], *seeds[:outputs]]
            assert_outcome(backward(residuals), evaluated(both[1], residuals), f"{program}\n{program_of_arrays[1]}")


# --- pairs ------------------------------------------------------------------------------------------------------------


def branching(xs, y):
    """Residuals of both kinds: numbers and truth values."""
    larger = [fg.where((x > y) | (x < -y), x * y, x.exp()) for x in xs]
    return [sum(larger), fg.maximum(xs[0], xs[1]).sqrt() * y, larger[2]]


def test_forward_and_backward(tmp_path):
    arguments = [Value(0.25 * k) for k in range(1, 9)], Value(0.9)
    f = fg.compile(branching)
    kernel = f.kernel_for(*arguments)
    assert " != 0.0" in kernel.c_source(), "a truth value among the residuals"
    library = build(kernel.save(tmp_path / "pair.c"))
    forward = library.function("forward", kernel.forward.program)
    backward = library.function("backward", kernel.backward.program)
    for numbers, fails in [
        ([0.25 * k for k in range(1, 9)] + [0.9], False),
        ([-0.0, 0.0, 2.0, -3.0, 0.5, math.inf, 1e-300, 0.1, -0.5], False),
        ([-1.0] * 8 + [0.5], True),
        ([1.0] * 7 + [1e4, 2e4], True),
    ]:
        results = forward(numbers)
        if fails:
            assert results is None
            with pytest.raises(ARITHMETIC):
                f(list(map(Value, numbers[:8])), Value(numbers[8]))
            continue
        values = list(map(Value, numbers))
        outputs = f(values[:8], values[8])
        assert_same(results[:3], [out.data for out in outputs])
        gradients = backward([*results[3:], 3.0, -0.5, 0.25])
        total = outputs[0] * 3.0 + outputs[1] * -0.5 + outputs[2] * 0.25
        if numbers[1] == 0.0:  # the gradient of sqrt
            assert gradients is None
            with pytest.raises(ZeroDivisionError):
                total.backward()
        else:
            total.backward()
            assert_same(gradients, [x.grad for x in values])


# --- workloads --------------------------------------------------------------------------------------------------------


def test_moons(tmp_path):
    """The notebook's model: value and gradient, at the leaves in the file and after a step; contraction stays off."""
    model, loss = moons(fg.nn.MLP, Value)
    f = fg.value_and_grad(loss, wrt=model)
    value, gradient = f()
    kernel = f.kernel_for()
    path = kernel.save(tmp_path / "moons.c")
    for flags in (FLAGS, ["-O3", "-march=native", "-Wall", "-Wextra", "-Werror"]):
        library = build(path, flags=flags)
        call = library.function("value_and_grad", kernel.arrays)
        leaves = (ctypes.c_double * len(kernel.leaves)).in_dll(library.library, "LEAVES")
        assert_same(leaves, [p.data for p in model.parameters()])
        assert_same(call(leaves), [value, *gradient])
    for parameter, slope in zip(model.parameters(), gradient, strict=True):
        parameter.data -= 0.5 * slope
    value, gradient = f()
    assert_same(call([p.data for p in kernel.leaves]), [value, *gradient])
    assert len(path.read_text().splitlines()) < 700, "loops, not statements"


@pytest.mark.slow
def test_transformer_and_straight_lines(tmp_path):
    parameters, loss = transformer(2, width=8, heads=2)
    f = fg.value_and_grad(loss, wrt=parameters)
    value, gradient = f()
    numbers = [0.5, 0.25, 0.75]
    g = fg.value_and_grad(tangle(2500))
    kernels = [f.kernel_for(), g.kernel_for(numbers)]
    first, second = build_all(kernels, tmp_path / "workloads.c")
    assert_same(first([p.data for p in kernels[0].leaves]), [value, *gradient])
    result, slopes = g(numbers)
    assert_same(second(numbers), [result, *slopes])
    assert re.search(r"static int f1_s\d+_2\(", (tmp_path / "workloads.c").read_text()), "functions of bounded size"


def test_fast_mode(tmp_path):
    f = fg.value_and_grad(lambda xs: sum(x * x * 0.1 for x in xs).sqrt(), mode="fast")
    xs = [0.1 * k for k in range(1, 40)]
    value, gradient = f(xs)
    (call,) = build_all([f.kernel_for(xs)], tmp_path / "fast.c")
    assert call(xs) == pytest.approx([value, *gradient], rel=1e-14)
    assert "last bits may differ" in f.kernel_for(xs).c_source()


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_usage_compiles_and_runs(tmp_path):
    """The lines of the header as a program."""
    w = Value(1.5, label="weight")
    f = fg.value_and_grad(lambda x, ys: (w * x + sum(y * y for y in ys)).tanh() + x, argnums=(0, 1))
    kernel = f.kernel_for(0.0, [0.0] * 600)
    path = kernel.save(tmp_path / "f.c")
    usage = re.findall(r"^//     (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(usage) == 3
    main = tmp_path / "main.c"
    main.write_text(
        "\n".join(['#include "f.c"', "#include <stdio.h>", "int main(void)", "{", *usage, "return fault;", "}", ""]),
        encoding="utf-8",
    )
    done = subprocess.run(
        [CC, *FLAGS, "-o", str(tmp_path / "main"), str(main), "-lm"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.split()
    assert shown == ["0", "0"]  # the usage's numbers are zeros
    assert f(0.0, [0.0] * 600)[0] == 0.0
    assert "{\n    1.5,  // weight = 1.5\n}" in path.read_text(encoding="utf-8")


def shadows(
    double, exp, y0, main, linux, NAN, work, fault, scratch, i, j, r, a, v1, s1, c1, t1, at1, isnan, fg_relu, value,
    x_bar, value_and_grad, xs,
):  # fmt: skip
    """Its arguments have names of C, of headers, and of what the generated file has itself."""
    scalars = [double, exp, y0, main, linux, NAN, work, fault, scratch, i, j, r, a, v1, s1, c1, t1, at1, isnan, fg_relu]
    total = value_and_grad.exp() + value * x_bar
    for k, x in enumerate(xs):
        total = total + (scalars[k % len(scalars)] * x).relu() * (0.1 + k)
    return total + sum(scalars) + sum(x * x for x in xs)


def test_names_that_mean_something_in_c(tmp_path):
    count = shadows.__code__.co_argcount - 1
    numbers = [0.1 * k for k in range(1, count + 1)]
    xs = [0.3 * k - 1.0 for k in range(30)]
    f = fg.value_and_grad(shadows, argnums=tuple(range(count + 1)))
    value, gradients = f(*numbers, xs)
    kernel = f.kernel_for(*numbers, xs)
    for flags in (FLAGS, ["-Wall", "-Wextra", "-Werror"]):  # the second: GNU C, where `linux` is a macro
        call = build(kernel.save(tmp_path / "names.c"), flags=flags).function("value_and_grad", kernel.arrays)
        assert_same(call([*numbers, *xs]), [value, *gradients[:-1], *gradients[-1]])


def test_comments_hold_whatever_the_users_line_holds(tmp_path, module_from):
    module = module_from(
        "def f(xs, unused):\n"
        "    y = sum(x * x for x in xs)  # */ /* ??/ \\ \u2603 \n"
        "    return y + sum(x.tanh() for x in xs)  # #include <nothing.h> ??/\n"
    )
    f = fg.value_and_grad(module.f)
    kernel = f.kernel_for([1.0, 2.0, 3.0], 0.0)
    call = build(kernel.save(tmp_path / "comments.c")).function("value_and_grad", kernel.arrays)
    value, gradient = f([1.0, 2.0, 3.0], 0.0)
    assert_same(call([1.0, 2.0, 3.0, 0.0]), [value, *gradient])


def test_leaves_that_are_not_finite(tmp_path):
    leaves = [Value(x) for x in (math.inf, -math.inf, math.nan, -0.0, 5e-324, 0.1, 1e300)]
    kernel = fg.value_and_grad(lambda x: sum((leaf * x for leaf in leaves), x), wrt=leaves).kernel_for(2.0)
    library = build(kernel.save(tmp_path / "odd.c"))
    held = (ctypes.c_double * len(leaves)).in_dll(library.library, "LEAVES")
    assert all_bits(held) == all_bits(leaf.data for leaf in leaves)


def test_a_suffix_that_no_language_has(tmp_path):
    kernel = fg.grad(lambda x: x * x).kernel_for(1.0)
    with pytest.raises(fg.OptionError, match=r"suffix must be \.py or \.c"):
        kernel.save(tmp_path / "f.cpp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["rosenbrock_value_and_grad", "branches_compile"])
def test_emitted_c(name, golden):
    kernels = {
        "rosenbrock_value_and_grad": lambda: fg.value_and_grad(golden_programs.rosenbrock).kernel_for([0.0] * 6),
        "branches_compile": lambda: fg.compile(golden_programs.branches).kernel_for(Value(1.0), Value(2.0)),
    }
    source = kernels[name]().c_source()
    assert max(map(len, source.splitlines())) <= 120
    golden(f"{name}.c", source)
