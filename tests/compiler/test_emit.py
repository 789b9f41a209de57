"""Flat Python as a product: names that are reused, lines that fit, the user's lines as comments, seen by debuggers."""

from __future__ import annotations

import ast
import contextlib
import gc
import inspect
import itertools
import linecache
import math
import re
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.languages import locals
from flatgrad.compiler.languages import python as emitter
from flatgrad.runtime import special as special_functions
from tests.bits import ARITHMETIC, assert_same
from tests.examples import examples
from tests.programs import assert_agrees, by_interpreter, flatgrad_outcome, long_chains, possible_errors, programs

pytestmark = pytest.mark.usefixtures("flat")

WIDTH = 100


@contextlib.contextmanager
def reused_names():
    """Every program reuses its locals, as very large ones do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locals, "_NAMED", 0)
        yield


def locals_of(source, function):
    """The names that a function assigns."""
    (node,) = (n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == function)
    return [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def numbered(source, function, letter):
    return [name for name in locals_of(source, function) if re.fullmatch(rf"{letter}\d+", name)]


# --- names that are reused --------------------------------------------------------------------------------------------


@given(programs(max_steps=20))
@settings(max_examples=examples(150))
def test_reused_names_of_joint_kernels(program):
    places = tuple(range(len(program.inputs)))
    with reused_names():
        f = fg.value_and_grad(lambda *xs: program.run(xs)[0], argnums=places)

        def compute():
            value, gradients = f(*program.inputs)
            return [value, *gradients]

        actual = flatgrad_outcome(compute)
    expected = by_interpreter(program)
    if (
        not f.kernels
    ):  # an operation on constants raised while tracing, perhaps another one than the interpreter's first
        assert actual.error in ARITHMETIC
        assert expected.error in ARITHMETIC
        return
    kernel = f.kernels[0]
    report = f"{program}\n{kernel.source}"
    errors = possible_errors(kernel.program, program.inputs)
    assert_agrees(actual, expected, report, errors)
    assert_agrees(actual, flatgrad_outcome(lambda: kernel.program.evaluate(program.inputs)), report, errors)
    assert not numbered(kernel.source, "value_and_grad", "v"), "no name is a variable's own"


@given(programs(max_steps=20, max_outputs=3), st.integers(0, 2))
@settings(max_examples=examples(80))
def test_reused_names_of_forward_and_backward(program, output):
    output %= len(program.outputs)
    with reused_names():
        f = fg.compile(lambda *xs: program.run(xs))

        def compute():
            leaves = [Value(x) for x in program.inputs]
            outputs = f(*leaves)
            outputs[output].backward()
            return [out.data for out in outputs] + [leaf.grad for leaf in leaves]

        actual = flatgrad_outcome(compute)
    expected = by_interpreter(program, output)
    if not f.kernels:  # as above
        assert actual.error in ARITHMETIC
        assert expected.error in ARITHMETIC
        return
    kernel = f.kernels[0]
    seeds = [1.0] * (kernel.program.inputs - len(program.inputs))
    errors = possible_errors(kernel.program, [*program.inputs, *seeds])
    assert_agrees(actual, expected, f"{program}\n{kernel.source}", errors)


@given(long_chains())
@settings(max_examples=10)
def test_reused_names_of_long_chains(program):
    with reused_names():
        f = fg.value_and_grad(lambda *xs: program.run(xs)[0], argnums=(0, 1))
        value, gradients = f(*program.inputs)
    assert_same([value, *gradients], by_interpreter(program).numbers, program)


@given(programs(max_steps=14), st.integers(2, 9))
@settings(max_examples=examples(60))
def test_reused_names_in_split_functions(program, part):
    places = tuple(range(len(program.inputs)))
    with reused_names(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(emitter, "_SPLIT", part)
        patch.setattr(emitter, "_PART", part)
        f = fg.value_and_grad(lambda *xs: program.run(xs)[0], argnums=places)

        def compute():
            value, gradients = f(*program.inputs)
            return [value, *gradients]

        actual = flatgrad_outcome(compute)
    if f.kernels:
        errors = possible_errors(f.kernels[0].program, program.inputs)
        assert_agrees(actual, by_interpreter(program), f"{program}\n{f.kernels[0].source}", errors)


@pytest.mark.parametrize("reused", [True, False])
@pytest.mark.parametrize("swapped", [True, False])
def test_a_sum_that_two_adjoints_begin_with(reused, swapped):
    """It goes on under the name of one of them, `x_bar`, only when the other has read it."""

    def f(x, y):
        a, b = (y, x) if swapped else (x, y)
        first, second = x + y, x + y
        return (a * 1.25).sin() * a.tanh() + (b * 0.75).cos() * b.tanh() + first**2 + second**3

    with reused_names() if reused else contextlib.nullcontext():
        kernel = fg.value_and_grad(f, argnums=(0, 1))
        value, gradients = kernel(0.5, 0.25)
    x, y = Value(0.5), Value(0.25)
    out = f(x, y)
    out.backward()
    assert_same([value, *gradients], [out.data, x.grad, y.grad], kernel.kernels[0].source)


def zigzag(x):
    """A long program of which few numbers are alive at any time."""
    y = x
    for _ in range(250):
        y = (y * x).tanh() + (y * 0.5).sin()
    return y


def test_few_names_where_few_numbers_are_alive():
    """The linear scan gives a name back after the last use of its number."""
    source = fg.compile(zigzag).kernel_for(0.5).source
    assert 1 <= len(set(numbered(source, "forward", "t"))) <= 4
    assert len(numbered(source, "forward", "t")) >= 250


def test_many_names_where_many_numbers_are_alive():
    with reused_names():
        source = fg.compile(lambda x: sum((x * k).sin() * (x * k).cos() for k in range(9)))
        wide = source.kernel_for(0.5).source
        both = fg.value_and_grad(zigzag).kernel_for(0.5).source
    assert len(set(numbered(wide, "forward", "t"))) <= 4
    assert len(set(numbered(both, "value_and_grad", "t"))) >= 250, "the gradient needs what the value computed"


def test_the_threshold_between_own_and_reused_names():
    small = fg.compile(lambda x: (x * x).tanh() * x.sin() * (x * x).tanh()).kernel_for(0.5).source
    large = fg.compile(zigzag).kernel_for(0.5).source
    assert numbered(small, "forward", "v")
    assert not numbered(small, "forward", "t")
    assert numbered(large, "forward", "t")
    assert not numbered(large, "forward", "v")


# --- lines ------------------------------------------------------------------------------------------------------------


def too_long(source):
    """Lines beyond the width, except those that one name, or one long number written three times, makes so long.

    Special functions stand in the source as they were written.
    """
    lines = []
    special = inspect.getsource(special_functions).splitlines()
    for line in source.splitlines():
        if line in special:
            continue
        repeated = " if " in line and not line.lstrip().startswith("#")
        measured = re.sub(r"\b\d[\d.]{8,}(e[+-]?\d+)?", "1.0", line) if repeated else line
        if len(measured) > WIDTH and not any(len(word) > WIDTH - 10 for word in re.findall(r"\w+", line)):
            lines.append(line)
    return lines


@given(programs(max_steps=25, max_outputs=2))
@settings(max_examples=examples(80))
def test_lines_of_random_programs_fit(program):
    if by_interpreter(program).error is not None:
        return
    f = fg.compile(lambda *xs: program.run(xs))
    f(*[Value(x) for x in program.inputs])
    assert too_long(f.kernels[0].source) == []


@given(long_chains())
@settings(max_examples=10)
def test_lines_of_long_chains_fit(program):
    f = fg.value_and_grad(lambda *xs: program.run(xs)[0], argnums=(0, 1))
    assert too_long(f.kernel_for(*program.inputs).source) == []


def test_lines_of_a_model_fit():
    model = fg.nn.MLP(5, [12, 7, 2])
    f = fg.value_and_grad(lambda x: model(x)[0] * model(x)[1], wrt=model)
    g = fg.compile(lambda xs: [model(x)[0] for x in xs])
    assert too_long(f.kernel_for([1.0] * 5).source) == []
    assert too_long(g.kernel_for([[1.0] * 5] * 7).source) == []


def test_lines_of_long_sums_products_and_constants_fit():
    numbers = [math.pi * 10.0 ** (37 * k - 300) for k in range(17)]

    def f(x, y):
        total = x
        for number in numbers:
            total = total * number + y * -number
        return total + sum(x * y for _ in range(80)) + fg.where((x < 1e-300) & (y > 1e300) | (x > y), x, y)

    source = fg.value_and_grad(f, argnums=(0, 1)).kernel_for(1.0, 2.0).source
    assert too_long(source) == []


def test_lines_of_functions_with_many_arguments_fit():
    names = [f"argument_{k}" for k in range(40)]
    namespace = {}
    exec(f"def f({', '.join(names)}):\n    return {' + '.join(f'{name} * {name}' for name in names)}", namespace)
    f = fg.value_and_grad(namespace["f"], argnums=tuple(range(40)))
    numbers = [float(k) for k in range(40)]
    value, gradients = f(*numbers)
    assert (value, gradients) == (sum(x * x for x in numbers), tuple(2 * x for x in numbers))
    assert too_long(f.kernels[0].source) == []


@pytest.mark.parametrize("count", [3, 8, 25])
def test_lines_of_long_names_fit(count):
    leaves = [Value(0.5, label=f"a_rather_long_name_for_a_weight_{k:08d}") for k in range(count)]

    def f(x):
        for leaf in leaves:
            x = x * leaf + leaf * leaf
        return x.tanh()

    source = fg.value_and_grad(f, wrt=leaves).kernel_for(0.5).source
    assert "a_rather_long_name_for_a_weight_00000001" in source
    assert too_long(source) == []


# --- comments ---------------------------------------------------------------------------------------------------------

LOOP = """\
def f(x, y):
    for _ in range(30):
        x = (x * y).tanh() + y  # the first
        y = (x - y).sin() * x  # the second
    return x * y
"""


def test_a_line_is_shown_in_full_once_and_then_by_number(module_from):
    """Once where the value is computed, once in the gradient; every other time by its number."""
    module = module_from(LOOP)
    source = fg.value_and_grad(module.f, argnums=(0, 1)).kernel_for(0.5, 0.25).source
    value, gradient = source.split("    # --- the gradient, backwards ---\n")
    for part in (value, gradient):
        comments = [line.strip() for line in part.splitlines() if line.startswith("    #")]
        for number, text in ((3, "x = (x * y).tanh() + y  # the first"), (4, "y = (x - y).sin() * x  # the second")):
            place = f"# user_code.py:{number}"
            assert comments.count(f"{place}: {text}") == 1
            assert comments.count(place) >= 20
            assert comments.index(f"{place}: {text}") < comments.index(place)


def test_comments_change_with_the_line_only(module_from):
    module = module_from(LOOP)
    source = fg.value_and_grad(module.f, argnums=(0, 1)).kernel_for(0.5, 0.25).source
    places = re.findall(r"^    # (user_code\.py:\d+)|^    (# ---)", source, re.MULTILINE)
    flat = [a or b for a, b in places]
    assert all(a != b for a, b in itertools.pairwise(flat))


def test_a_long_line_is_cut_to_the_width(module_from):
    terms = " + ".join(["x * x.tanh()"] * 30)
    module = module_from(f"def f(x):\n    return ({terms}).tanh() * x.sin().tanh()\n")
    source = fg.value_and_grad(module.f).kernel_for(0.5).source
    comments = [line for line in source.splitlines() if "user_code.py:2: return" in line]
    assert len(comments) == 2
    for comment in comments:
        assert len(comment) == WIDTH
        assert comment.endswith("...")


def test_a_comment_is_one_line_whatever_the_users_line_holds(module_from):
    """Characters that end a line, for Python or for an editor, would turn the rest of a comment into code."""
    module = module_from("def f(x):\n    y = (x * x).tanh() + 0 * len('\\u2028\x0c\x1f')  # \u2028import os\x85\x0b#\n"
                         "    return y * y\n")  # fmt: skip
    kernel = fg.value_and_grad(module.f).kernel_for(0.5)
    assert kernel.source.splitlines() == kernel.source.split("\n")[:-1]
    assert not any(isinstance(node, ast.Import) for node in ast.walk(ast.parse(kernel.source)))
    assert "import os" in kernel.source


# --- debuggers --------------------------------------------------------------------------------------------------------


def functions_of(kernel):
    return {r.function.__name__: r.function for r in (kernel.joint, kernel.forward, kernel.backward) if r is not None}


def test_inspect_shows_the_source_of_kernel_functions():
    def f(x, y):
        return (x * y).tanh() * x

    joint = fg.value_and_grad(f).kernel_for(1.0, 2.0)
    pair = fg.compile(f).kernel_for(Value(1.0), Value(2.0))
    for kernel, names in ((joint, ["value_and_grad"]), (pair, ["forward", "backward"])):
        functions = functions_of(kernel)
        assert list(functions) == names
        for name, function in functions.items():
            text = inspect.getsource(function)
            assert text.startswith(f"def {name}(")
            assert text.rstrip().splitlines()[-1].lstrip().startswith("return ")
            assert text in kernel.source
            assert inspect.getdoc(function).startswith("Return the ")


def test_inspect_shows_the_parts_of_a_split_function(monkeypatch):
    monkeypatch.setattr(emitter, "_SPLIT", 50)
    monkeypatch.setattr(emitter, "_PART", 40)
    kernel = fg.value_and_grad(zigzag).kernel_for(0.5)
    function = kernel.joint.function
    parts = [item for name, item in function.__globals__.items() if re.fullmatch(r"_value_and_grad_\d+", name)]
    assert len(parts) > 10
    for part in [*parts, function]:
        text = inspect.getsource(part)
        assert text.startswith(f"def {part.__name__}(")
        assert text in kernel.source
        _, line = inspect.getsourcelines(part)
        assert kernel.source.splitlines()[line - 1] == text.splitlines()[0]


def test_a_traceback_shows_the_generated_line():
    kernel = fg.value_and_grad(lambda x, y: (x * y).log() * x.sin() + y).kernel_for(1.0, 2.0)
    with pytest.raises(ValueError, match=r"domain|positive") as caught:
        kernel.joint.function(-1.0, 2.0)
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert frame.name == "value_and_grad"
    assert "log(" in frame.line
    assert kernel.source.splitlines()[frame.lineno - 1].strip() == frame.line
    assert frame.line in "".join(traceback.format_exception(caught.value))


def test_the_error_that_the_user_sees_has_the_generated_line_behind_it():
    gradient = fg.value_and_grad(lambda x, y: (x * y).log() * x.sin() + y)
    with pytest.raises(fg.DomainError) as caught:
        gradient(-1.0, 2.0)
    cause = caught.value.__context__
    while cause is not None and "<flatgrad" not in str(traceback.extract_tb(cause.__traceback__)):
        cause = cause.__context__
    assert cause is not None
    assert "log(" in traceback.extract_tb(cause.__traceback__)[-1].line


def test_linecache_keeps_the_source_when_it_is_checked():
    """`linecache.checkcache`, which tracebacks call, drops entries whose file has changed or is gone."""
    kernel = fg.grad(lambda x: x.sin() * x).kernel_for(1.0)
    linecache.checkcache()
    assert "cos(x)" in inspect.getsource(kernel.joint.function)


def generated():
    gc.collect()
    return {name for name in list(linecache.cache) if name.startswith("<flatgrad") and linecache.getlines(name)}


def test_source_may_be_forgotten_while_linecache_is_checked(monkeypatch):
    """The garbage collector can run in the middle of `linecache.checkcache`."""
    kept = [fg.grad(lambda x: x.sin() * x).kernel_for(1.0)]
    names = [name for name in linecache.cache if name.startswith("<flatgrad")]

    class Cache(dict):
        def keys(self):
            names = list(super().keys())
            kept.clear()
            gc.collect()
            return names

        copy = keys

    monkeypatch.setattr(linecache, "cache", Cache(linecache.cache))
    linecache.checkcache()
    assert any(not linecache.getlines(name) for name in names)
    kernel = fg.grad(lambda x: x.sin() * x).kernel_for(1.0)
    assert kernel.joint.function.__code__.co_filename in linecache.cache
    assert not [name for name in linecache.cache if name in names and not linecache.getlines(name)]


def test_source_is_forgotten_with_its_kernels():
    before = generated()
    w = Value(3.0)
    f = fg.compile(lambda x: [w * x, (x * x).tanh()])
    g = fg.value_and_grad(lambda x: w * x[0] + x[1])
    h = fg.compile_graph((w * w).tanh() * w)
    outs = f(Value(2.0))
    outs[0].backward()  # makes a kernel of its own, for one output of two
    g([1.0, 2.0])
    g([1.0, 2.0, 3.0])
    h().backward()
    with pytest.raises(fg.InputError):
        g("text")
    during = generated()
    assert len(during - before) >= 6
    del outs
    assert generated() == during
    del f, g, h
    assert generated() == before


def test_source_lives_as_long_as_a_function_of_it():
    before = generated()
    function = fg.grad(lambda x: x.sin() * x).kernel_for(1.0).joint
    assert generated() != before
    assert function(0.0) == 0.0
    assert "cos(x)" in inspect.getsource(function.function)
    del function
    assert generated() == before


def test_kernels_that_are_made_and_dropped_leave_nothing():
    before = generated()
    for n in range(1, 30):
        numbers = [0.5 * k for k in range(n)]
        _, gradient = fg.value_and_grad(lambda xs: sum(x * x for x in xs))(numbers)
        assert gradient == [2.0 * x for x in numbers]
    assert generated() == before
