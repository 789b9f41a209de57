"""Rolled Python: short modules in plain Python that a person can read, with the kernel's bits."""

from __future__ import annotations

import ast
import functools
import math
import operator
import re
import runpy

import numpy as np
import pytest

import flatgrad as fg
from benchmarks.workloads import moons
from flatgrad import Value
from flatgrad.compiler.languages.loader import LoadedModule
from flatgrad.compiler.languages.opened import ArrayFunction
from flatgrad.compiler.languages.rolled import emit_rolled
from flatgrad.compiler.loops.array_program import ArrayProgram
from flatgrad.compiler.loops.grammar import Apply, Read, Repeat, Statement
from flatgrad.compiler.program.program import Group, default_names
from flatgrad.runtime.errors import OptionError
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import all_bits, assert_same
from tests.compiler import array_workloads as work
from tests.compiler.test_reroll import B, W, X, rows
from tests.compiler.test_save import POINTS, every_row, imports, run  # noqa: F401 - a fixture
from tests.every_way import flattened, rolled_module


def gradient(f, *arguments, **options):
    """A kernel of value and gradients with respect to every argument."""
    if "wrt" not in options:
        options["argnums"] = range(len(arguments))
    return fg.value_and_grad(f, **options).kernel_for(*arguments)


def functions_of(source):
    """The lines of a module without the data behind the functions."""
    return re.split(r"\n\n\n[A-Z_]*[CT]\d+ = \[", source)[0].splitlines()


GOLDEN = {
    "layer_rolled": lambda: gradient(work.layer_loss, W, X, B),
    "attention_rolled": lambda: gradient(work.causal_attention, rows(6), rows(6), rows(6)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_rolled_source(name, golden):
    golden(f"{name}.py", GOLDEN[name]().stages.source("rolled"))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_same_program_is_printed_the_same_way_twice(name):
    assert GOLDEN[name]().stages.source("rolled") == GOLDEN[name]().stages.source("rolled")


@pytest.fixture(scope="module")
def moons_source():
    model, loss = moons(fg.nn.MLP, Value)
    return gradient(loss, wrt=model, backend="numpy").stages.source("rolled")


def test_moons_fits_on_two_screens(moons_source):
    """191,725 equations as two screens of 50 lines; the data of the points come behind."""
    assert len(functions_of(moons_source)) <= 100
    assert max(map(len, moons_source.splitlines())) <= 100


def test_moons_reads_as_matrix_products(moons_source):
    """A neuron of the second layer: its bias, and the sum of its products."""
    wanted = r"relu\(total\(\[leaves\[17\*j \+ 64\], "
    wanted += r"\*\(leaves\[17\*j \+ r \+ 48\] \* v\d+\[16\*i \+ r\] for r in range\(16\)\)"
    assert re.search(wanted, re.sub(r"\s+", " ", moons_source))


def test_moons_computes_the_bits_of_flat_python(moons_source):
    model, loss = moons(fg.nn.MLP, Value, points=10)
    names = {}
    f = fg.value_and_grad(loss, wrt=model, backend="numpy")
    exec(f.kernel_for().stages.source("rolled"), names)
    actual = flattened(names["value_and_grad"]([p.data for p in model.parameters()]))
    assert_same(actual, flattened(fg.value_and_grad(loss, wrt=model, backend="python")()))


def test_it_runs_without_the_package(run, tmp_path):  # noqa: F811
    """In a Python process with nothing but the standard library; on Python 3.8, where there is one."""
    kernel = gradient(work.causal_attention, rows(5), rows(5), rows(5))
    path = kernel.save(tmp_path / "attention.py", rolled=True)
    assert imports(path.read_text(encoding="utf-8")) == {"math.exp"}
    flat = [0.1 * k for k in range(15)]
    (result,) = run(path, ("value_and_grad", (flat, flat[::-1], flat)))
    expected = gradient(work.causal_attention, rows(5), rows(5), rows(5), backend="python")
    assert_same(flattened(result), flattened(expected.joint(flat, flat[::-1], flat)))


def test_every_row_in_one_rolled_module(run, tmp_path):  # noqa: F811
    """As straight-line code, and as lanes of statements."""
    f = fg.value_and_grad(every_row, argnums=(0, 1, 2))
    path = f.kernel_for(*POINTS[0]).save(tmp_path / "rows.py", rolled=True)

    def lanes(xs, ys, zs):
        return sum(every_row(x, y, z) for x, y, z in zip(xs, ys, zs, strict=True))

    columns = [[0.25, 0.5, 0.3, 0.125, 0.75], [0.5, 0.25, 0.3, 0.625, 0.875], [0.75, 0.125, 0.3, 0.5, 0.0625]]
    g = fg.value_and_grad(lanes, argnums=(0, 1, 2), backend="numpy")
    wide = g.kernel_for(*columns).save(tmp_path / "lanes.py", rolled=True)
    for saved in (path, wide):
        names = imports(saved.read_text(encoding="utf-8"))
        assert names <= {f"math.{name}" for name in dir(math)}
    (one,) = run(path, ("value_and_grad", POINTS[0]))
    assert_same(flattened(one), flattened(f(*POINTS[0])))
    (several,) = run(wide, ("value_and_grad", columns))
    assert_same(flattened(several), flattened(fg.value_and_grad(lanes, argnums=(0, 1, 2), backend="python")(*columns)))
    assert {row.name for row in BY_NAME.values() if row.raises} - {"exp2"} <= {
        e.primitive.name for e in f.kernels[0].program.equations()
    }


def test_forward_and_backward(tmp_path):
    f = fg.compile(work.layer_loss, backend="numpy")
    w, x, b = [[Value(a) for a in row] for row in W], [Value(a) for a in X], [Value(a) for a in B]
    f(w, x, b).backward()
    module = runpy.run_path(str(f.kernels[0].save(tmp_path / "pair.py", rolled=True)))
    flat = [a for row in W for a in row]
    (value,), residuals = module["forward"](flat, X, B)
    gradients = module["backward"](residuals, [1.0])
    assert value == f(w, x, b).data
    assert_same(flattened(gradients), [v.grad for v in (*[v for row in w for v in row], *x, *b)])


def test_a_model_has_its_leaves_in_the_module(tmp_path):
    model = fg.nn.MLP(3, [6, 1], seed=1)
    f = fg.value_and_grad(lambda x: model(x) ** 2, wrt=model, backend="numpy")
    x = [0.5, -1.0, 2.0]
    expected = flattened(f(x))
    module = runpy.run_path(str(f.kernels[0].save(tmp_path / "model.py", rolled=True)))
    assert_same(module["LEAVES"], [p.data for p in model.parameters()])
    assert_same(flattened(module["value_and_grad"](x, module["LEAVES"])), expected)


def test_results_are_lists_of_floats():
    kernel = gradient(work.layer_loss, W, X, B)
    value, *gradients = rolled_module(kernel)["value_and_grad"]([a for row in W for a in row], X, B)
    assert type(value) is float
    assert [type(part) for part in gradients] == [list] * 3
    assert {type(number) for part in gradients for number in part} == {float}


def test_arguments_may_be_any_sequences_and_are_not_changed():
    kernel = gradient(work.layer_loss, W, X, B)
    function = rolled_module(kernel)["value_and_grad"]
    flat = [a for row in W for a in row]
    before = [*flat], [*X], [*B]
    expected = all_bits(flattened(function(flat, X, B)))
    assert (flat, X, B) == before
    assert all_bits(flattened(function(tuple(flat), tuple(X), tuple(B)))) == expected


def test_all_operands_are_computed():
    """Python would not look at what a conditional expression does not choose; the interpreter raises."""

    def f(x):
        return sum(fg.where(a > 0.0, fg.log(fg.where(a > 0.0, a, 1.0)), fg.sqrt(a + 10.0)) for a in x)

    def raises(x):
        return sum(fg.where(a > 0.0, fg.log(a), a) for a in x)

    x = [1.0, -2.0, 3.0, -4.0, 5.0]
    assert_same(
        flattened(rolled_module(gradient(f, x))["value_and_grad"](x)),
        flattened(fg.value_and_grad(f, backend="python")(x)),
    )
    with pytest.raises(ValueError, match="math domain error"):
        rolled_module(gradient(raises, x))["value_and_grad"](x)


@pytest.mark.parametrize("joined", ["and", "or", "maximum", "minimum", "mul"])
@pytest.mark.parametrize("lengths", [(4, 5, 6, 7, 8, 8, 7), (5, 5, 5), (8,)])
def test_folds_that_nothing_else_calls_the_function_of(joined, lengths):
    """A fold names its function, and does not call it; shorter folds are filled up."""

    def f(x):
        conditions = [a > 0.5 for a in x]
        if joined in ("and", "or"):
            folds = [functools.reduce(operator.and_ if joined == "and" else operator.or_, conditions[:n])
                     for n in lengths]  # fmt: skip
            return sum(fg.where(fold, x[0], 1.0) for fold in folds)
        function = {"maximum": fg.maximum, "minimum": fg.minimum, "mul": operator.mul}[joined]
        return sum(functools.reduce(function, x[:n]) for n in lengths)

    x = [1.0, 0.75, 3.0, 4.0, 0.6, 6.0, 0.2, 8.0]
    assert_same(
        flattened(rolled_module(gradient(f, x))["value_and_grad"](x)),
        flattened(fg.value_and_grad(f, backend="python")(x)),
    )


def test_a_module_has_no_function_that_it_does_not_call(module_from):
    """The user's line, which stands in a comment, calls `where`; a product by 1 or 0 needs no function for that."""
    user = module_from("import flatgrad as fg\ndef f(x):\n    return sum(fg.where(a > 0.5, a, 0.0) for a in x)\n")
    source = gradient(user.f, [0.1 * k for k in range(9)]).stages.source("rolled")
    assert "fg.where(" in source
    assert "def where" not in source


def test_constants_that_nothing_reads_are_not_in_the_file():
    """Two rows of them that share numbers are one row, which is there once."""
    x = [2.0, 0.99, 3.1, 1.0]

    def f(x):
        larger = [fg.where(x[(2 + k) % 4] >= x[2 * k % 4], x[(2 + k) % 4], x[2 * k % 4]) for k in range(5)]
        best, other = larger[0], x[0]
        for k in range(1, 3):
            other = fg.where(larger[0] <= best, x[3 * k % 4], other)
            best = fg.where(larger[0] <= best, larger[0], best)
        return sum(larger) + other, larger[1]

    kernel = fg.value_and_grad(f, has_aux=True, backend="numpy").kernel_for(x)
    arrays = {f"c{k + 1}" for k in range(str(kernel.arrays).count("where c"))}
    for text, comment in ((kernel.stages.source("rolled"), "#"), (kernel.c_source(), "//")):
        lines = [line for line in text.splitlines() if not line.lstrip().startswith(comment)]
        words = re.findall(r"\w+", "\n".join(lines).lower())
        assert all(words.count(name) != 1 for name in arrays), text
    assert arrays == {"c1"}
    assert "c2" not in words


def test_sums_do_not_use_the_built_in_sum():
    """It compensates from Python 3.12 on."""
    tree = ast.parse(gradient(work.layer_loss, W, X, B).stages.source("rolled"))
    assert "sum" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("backend", ["auto", "python", "numpy"])
def test_kernels_of_every_back_end_have_a_rolled_form(backend):
    f = fg.value_and_grad(work.layer_loss, argnums=(0, 1, 2), backend=backend)
    value, *gradients = rolled_module(f.kernel_for(W, X, B))["value_and_grad"]([a for row in W for a in row], X, B)
    assert_same(flattened([value, gradients]), flattened(f(W, X, B)))


def test_saving_wants_a_python_file(tmp_path):
    with pytest.raises(OptionError, match=r"\.py"):
        gradient(work.layer_loss, W, X, B).save(tmp_path / "layer.txt", rolled=True)


def test_an_access_that_begins_at_a_constant_without_a_name():
    """It runs backwards, from one that has a name to one that is a number elsewhere."""

    def f(s):
        firsts = [s + 0.0, s * 0.0, fg.erf(s)]
        seconds = [-firsts[k % 3] for k in range(4)]
        thirds = [*(a + 0.0 for a in seconds[:3]), fg.div(seconds[3], 2.0), fg.erf(seconds[0])]
        return sum((a * a for a in thirds[1:]), thirds[0] * thirds[0])

    kernel = fg.value_and_grad(f, backend="numpy").kernel_for(1.0)
    assert re.search(r"memory\[\d+ - i", str(kernel.arrays)), "there is such an access"
    names = {}
    exec(kernel.stages.source("rolled"), names)
    assert names["value_and_grad"](1.0) == fg.value_and_grad(f, backend="python")(1.0)


def irregular(x, y):
    """A long chain of scalars that no loop is found in."""
    for k in range(60):
        x = x.relu() * y if k % 7 == 3 else x.sin() + y if k % 5 == 2 else x * 0.9 - y if k % 3 else y * x
    return x


@pytest.mark.parametrize("f", [irregular, lambda x, y: x.relu() + fg.maximum(x, y)])
def test_a_module_has_no_function_that_nothing_calls(f):
    source = fg.value_and_grad(f, argnums=(0, 1)).kernel_for(1.0, 2.0).stages.source("rolled")
    tree = ast.parse(source)
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert (defined | imported) - {"value_and_grad"} <= read


def test_outputs_backwards_up_to_the_first_are_one_slice():
    x = [Value(float(k)) for k in range(12)]
    kernel = fg.compile(lambda x: [a * a for a in x][::-1], backend="numpy").kernel_for(x)
    source = kernel.stages.source("rolled")
    assert "[11::-1]" in source or "11 - i" in source
    names = {}
    exec(source, names)
    assert names["forward"]([float(k) for k in range(12)])[0] == [float(k * k) for k in range(11, -1, -1)]


def test_what_an_access_ranges_over_is_a_list():
    """Between the two lists that the last statement reads lies one that only its own round reads."""
    negated = Apply(BY_NAME["neg"], (0,))
    rounds = [
        Statement(name, (3,), (Read(base - 3, (1,)), negated), base, "f")
        for name, base in (("a", 3), ("b", 6), ("c", 9))
    ]
    last = Statement("d", (2, 3), (Read(3, (6, 1)), negated), 12, "f")
    groups = [Group("x", 3, False)]
    program = ArrayProgram(
        "f", default_names(groups), groups, [], [], [Repeat(tuple(rounds), ((), (), ())), last],
        np.arange(12, 18), [Group("d", 6, False)],
    )  # fmt: skip
    sections = emit_rolled([ArrayFunction(program, "f", "Return the numbers.")], [])
    f = LoadedModule(sections, "f").names["f"]
    assert list(f([1.0, 2.0, 3.0])) == program.evaluate([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
