"""What an earlier process made of a program is found again, is the same, and is not taken for anything else."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import subprocess
import sys
from array import array
from types import SimpleNamespace

import numpy as np
import pytest

import flatgrad as fg
from benchmarks.workloads import tangle
from flatgrad.compiler import stages
from flatgrad.compiler.languages import spellings
from flatgrad.compiler.machine import native, recall
from flatgrad.compiler.machine.operations import SPELLINGS
from flatgrad.compiler.program import passes
from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.passes import fold_constants
from flatgrad.compiler.program.program import Group, Program
from flatgrad.compiler.program.spelling import SUM, Spelling
from flatgrad.compiler.stages import Stages
from flatgrad.runtime import primitives as p
from flatgrad.runtime.sites import Location
from tests.bits import bits

#: Large enough to be remembered.
X = np.random.default_rng(3).uniform(0.5, 1.5, 300)


def body(x, scale=1.0):
    return sum((a * b + scale).tanh() / (1.0 + a * a) for a, b in itertools.pairwise(x))


@pytest.fixture
def lowered(monkeypatch):
    """Counts what is printed, that is, not recalled."""
    count, printed = [], Stages.printed
    monkeypatch.setattr(Stages, "printed", lambda *arguments: count.append(arguments) or printed(*arguments))
    return count


def flat(result):
    value, gradient = result
    return [bits(value), *map(bits, np.ravel(gradient).tolist())]


@pytest.mark.parametrize("backend", ["native", "auto"])
def test_what_is_recalled_is_what_was_made(folder, lowered, backend):
    first = fg.value_and_grad(body, backend=backend)
    expected = flat(first(X))
    assert len(lowered) == 1
    assert len(list(folder.iterdir())) == 2, "code, and how to call it"
    again = fg.value_and_grad(body, backend=backend)
    assert flat(again(X)) == expected
    assert flat(again(X[::-1])) == flat(first(X[::-1].copy()))
    assert len(lowered) == 1, "nothing was lowered for the second one"
    assert flat(fg.value_and_grad(body, backend="python")(X)) == expected
    one, two = first.kernels[0], again.kernels[0]
    sizes = ("inputs", "outputs", "constants", "primal", "adjoint")
    assert [getattr(one.stats, name) for name in sizes] == [getattr(two.stats, name) for name in sizes]
    assert str(two.program) == str(one.program)
    assert str(two.joint.program) == str(one.joint.program)
    assert str(two.arrays) == str(one.arrays)
    assert two.arrays.stats.workspace == one.arrays.stats.workspace > 0
    assert two.source == one.source
    assert two.c_source() == one.c_source()
    assert [bits(x) for x in two.joint.program.evaluate(X.tolist())] == expected


def test_training_steps(folder, monkeypatch):
    """A run differentiates nothing, re-rolls nothing and assembles nothing that an earlier process did."""
    rows = np.random.default_rng(1).normal(size=(6, 8))

    def run(optimizer, faults="raise"):
        model = fg.nn.MLP(8, [16, 1], seed=0)
        history = fg.nn.fit(
            lambda X, y: fg.nn.mse([model(x) for x in X], y), model, optimizer, rows, rows[:, 0], steps=5, batch_size=2,
            seed=0, progress=False, backend="native", faults=faults,
        )  # fmt: skip
        return history, [p.data for p in model.parameters()]

    first, parameters = run(fg.nn.Adam(0.01))
    made, reroll = [], stages.reroll
    monkeypatch.setattr(stages, "reroll", lambda *args, **kwargs: made.append(args) or reroll(*args, **kwargs))
    again, others = run(fg.nn.Adam(0.01))
    assert (again.loss, others) == (first.loss, parameters)
    assert not made
    assert again.source == first.source
    made.clear()
    run(fg.nn.Adam(0.01, eps=1e-7))
    assert made, "another optimiser"
    made.clear()
    run(fg.nn.Adam(0.01), faults="ieee")
    assert made, "other options"


def test_pairs_of_functions(folder, lowered):
    def outputs(x):
        return body(x), body(x, 2.0) * 3.0

    results = []
    for _ in range(2):
        f = fg.compile(outputs, backend="native")
        values = [fg.Value(x) for x in X.tolist()]
        first, second = f(values)
        (first * second).backward()
        results.append([bits(first.data), bits(second.data), *(bits(v.grad) for v in values)])
        fresh = [fg.Value(x) for x in X.tolist()]
        f(fresh)[1].backward()  # a backward function of its own
        results[-1] += [bits(v.grad) for v in fresh]
    assert results[0] == results[1]
    assert len(lowered) == 2, "both functions, and the backward function for one output: once each"
    values = [fg.Value(x) for x in X.tolist()]
    first, second = outputs(values)
    (first * second).backward()
    assert results[0][: 2 + len(X)] == [bits(first.data), bits(second.data), *(bits(v.grad) for v in values)]


def test_faults_name_the_users_line(folder, lowered):
    for _ in range(2):
        f = fg.value_and_grad(lambda x: sum((a / b).exp() for a, b in itertools.pairwise(x)), backend="native")
        wrong = np.ones(1500)
        f(wrong)
        wrong[7] = 0.0
        with pytest.raises(fg.DivisionByZeroError, match=r"test_recall\.py"):
            f(wrong)
    assert len(lowered) == 1


def test_straight_line_code(folder, lowered):
    point = [0.5, 0.25, 0.125]
    results = []
    for _ in range(2):
        f = fg.value_and_grad(tangle(1_000))
        results.append(flat(f(point)))
    assert len(lowered) == 1
    stats = f.kernel_for(point).stats
    assert (stats.backend, "on the disk" in stats.reason) == ("native", True)
    assert results[0] == results[1] == flat(fg.value_and_grad(tangle(1_000), backend="python")(point))


def test_leaves(folder, lowered):
    results = []
    for _ in range(2):
        model = fg.nn.MLP(2, [16, 1], seed=5)
        f = fg.value_and_grad(lambda: sum(model([0.1 * k, 1.0]).tanh() for k in range(50)), wrt=model, backend="native")
        results.append(flat(f()))
        model.parameters()[0].data = 0.25
        results.append(flat(f()))
    assert results[:2] == results[2:]
    assert results[0] != results[1]
    assert len(lowered) == 1


DIFFERENT = {
    "a constant": lambda: fg.value_and_grad(lambda x: body(x, 1.0 + 2.0**-52), backend="native"),
    "the sign of a zero": lambda: fg.value_and_grad(lambda x: body(x, -0.0), backend="native"),
    "an operation": lambda: fg.value_and_grad(lambda x: -body(x), backend="native"),
    "an operand": lambda: fg.value_and_grad(lambda x: body(x) + x[1], backend="native"),
    "another operand": lambda: fg.value_and_grad(lambda x: body(x) + x[2], backend="native"),
    "without the value": lambda: fg.grad(body, backend="native"),
    "fast mode": lambda: fg.value_and_grad(body, backend="native", mode="fast"),
    "what auto chooses": lambda: fg.value_and_grad(body),
    "a kernel of two functions": lambda: fg.compile(body, backend="native"),
}


def test_what_differs_is_not_recalled(folder, lowered):
    fg.value_and_grad(body, backend="native")(X)
    fg.value_and_grad(lambda x: body(x, 0.0), backend="native")(X)
    for count, (name, make) in enumerate(DIFFERENT.items()):
        f = make()
        f(X)
        assert len(lowered) == 3 + count, name
    f = fg.value_and_grad(lambda x, y: body(x) * y, argnums=1, backend="native")
    g = fg.value_and_grad(lambda x, y: body(x) * y, argnums=0, backend="native")
    h = fg.value_and_grad(lambda x, y: body(x) * y, argnums=(1, 0), backend="native")
    assert [len(lowered) for f in (f, g, h) if f(X, 2.0)] == [12, 13, 14]
    fg.value_and_grad(body, backend="native")(X[:250].copy())
    assert len(lowered) == 15


def test_parameters_that_are_wanted_are_part_of_the_key(folder, lowered):
    """The same function, and as many gradients: of other parameters."""
    w = [fg.Value(0.5 + 0.01 * k) for k in range(300)]
    gradients = [
        fg.value_and_grad(lambda: body(w), wrt=[w[k] for k in chosen], backend="native")()[1]
        for chosen in ((0, 1), (1, 0), (7, 2))
    ]
    assert len(lowered) == 3
    assert gradients[0] == gradients[1][::-1]
    values = [fg.Value(v.data) for v in w]
    body(values).backward()
    assert gradients == [[values[k].grad for k in chosen] for chosen in ((0, 1), (1, 0), (7, 2))]


def test_arguments_that_receive_gradients_are_part_of_the_key(folder, lowered):
    """The same program, once with a gradient of the one argument, once of the other."""

    def f(a, b):
        return body([a * (0.5 + 0.01 * k) + b for k in range(300)])

    slopes = fg.grad(f, argnums=(0, 1), backend="python")(0.75, 0.25)
    for k in (0, 1):
        numbers = [0.75, 0.25]
        numbers[k] = fg.Value(numbers[k])
        fg.compile(f, backend="native")(*numbers).backward()
        assert numbers[k].grad == slopes[k]
    assert len(lowered) == 3


def test_another_version_of_this_package(folder, lowered, monkeypatch):
    fg.value_and_grad(body, backend="native")(X)
    monkeypatch.setattr(recall, "package_digest", lambda: b"another")
    fg.value_and_grad(body, backend="native")(X)
    assert len(lowered) == 2


def test_where_the_code_of_this_package_is_not_known_nothing_is_kept(folder, lowered, monkeypatch):
    monkeypatch.setattr(recall, "package_digest", lambda: None)
    for _ in range(2):
        fg.value_and_grad(body, backend="native")(X)
    assert len(lowered) == 2


CHANGED_ON_DISK = """
import itertools, pathlib, sys
import numpy as np
import flatgrad as fg

if sys.argv[1:]:  # the source is mended after it was loaded
    path, wrong, right = sys.argv[1:]
    source = pathlib.Path(path).read_text(encoding="utf-8")
    pathlib.Path(path).write_text(source.replace(wrong, right), encoding="utf-8")
x = np.linspace(-1.0, 1.0, 700)

def f(x):
    return sum(a.relu() * b + a for a, b in itertools.pairwise(x))

print(*(fg.value_and_grad(f, backend=backend)(x)[0].hex() for backend in ("native", "python")))
"""


@pytest.mark.slow
def test_a_process_that_lives_while_its_source_is_changed(tmp_path):
    """It makes what the old source makes, and no process with the new source takes that for its own."""
    package = os.path.dirname(fg.__file__)
    shutil.copytree(package, tmp_path / "flatgrad", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "flatgrad" / "compiler" / "machine" / "operations.py"
    row = 'p.relu: lambda w, x: w.select(w.compare("olt", x, w.constant(0.0)), w.constant(0.0), x),'
    wrong = row.replace("w.constant(0.0), x),", "w.constant(0.5), x),")
    source = path.read_text(encoding="utf-8")
    assert row in source
    path.write_text(source.replace(row, wrong), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "FLATGRAD_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("FLATGRAD_CACHE", None)

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", CHANGED_ON_DISK, *map(str, arguments)], capture_output=True, text=True, check=False,
            env=environment, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    native_result, python_result = run(path, wrong, row)
    assert native_result != python_result, "what was loaded is wrong"
    assert path.read_text(encoding="utf-8") == source
    assert run() == [python_result] * 2


@pytest.fixture
def program(monkeypatch):
    """A small program that is worth a key."""
    monkeypatch.setattr(recall, "SMALLEST", 1)
    builder = ProgramBuilder("f", [Group("x", 2, False)], ["x0", "x1"])
    product = builder.emit("mul", builder.emit("tanh", 0), builder.constant(2.0))
    return builder.finish([builder.emit("add", product, 1)])


def another_host(**changes):
    def change(monkeypatch):
        another = SimpleNamespace(**{**vars(native.host()), **changes})
        another.identity = native.Host.identity.fget(another)
        monkeypatch.setattr(native, "host", lambda: another)

    return change


def setting(target, name, value):
    return lambda monkeypatch: monkeypatch.setattr(target, name, value)


def setting_item(table, row, item):
    return lambda monkeypatch: monkeypatch.setitem(table, row, item)


#: All that a key holds beside the program and what is wanted of it.
COMPONENTS = {
    "the code of the package": setting(recall, "package_digest", lambda: b"another"),
    "the version of the package": setting(recall, "VERSION", "0.0.0"),
    "the version of Python": setting(sys, "version", "3.99"),
    "the version of NumPy": setting(np, "__version__", "9.9"),
    "the version of libc": setting(recall.platform, "libc_ver", lambda: ("glibc", "9.9")),
    "the version of LLVM": another_host(version="llvmlite 9.9"),
    "the platform": another_host(triple="another"),
    "the processor": another_host(cpu="another"),
    "its features": another_host(features="another"),
    "the width of its vectors": another_host(lanes=16),
    "short ways to powers": another_host(shortcuts="another"),
    "how libm computes tanh": another_host(variants={"tanh": "another"}),
    "functions for vectors": another_host(vector_math={}),
    "how LLVM makes code": setting(native, "_EXACT", native.Recipe(level=1)),
    "a pass": setting(passes, "ARRAY_PASSES", (fold_constants,)),
    "another pass": setting(passes, "ARRAY_PASSES", (fold_constants, lambda program: program)),
    "what a primitive computes": setting(p.tanh, "evaluate", lambda x: x),
    "a partial": setting(p.tanh, "partials", (lambda out, x: 1.0 - out,)),
    "a partial of a primitive that the program does not have": setting(p.sub, "partials", (p.ZERO, p.ZERO)),
    "the machine code of a primitive": setting_item(SPELLINGS, p.tanh, lambda w, x: w.unary("fneg", x)),
    "its spelling in Python": setting_item(spellings.PYTHON, p.tanh, Spelling("tanh(+{0})")),
    "its spelling in C": setting_item(spellings.C, p.tanh, Spelling("tanh(+{0})")),
    "how strongly it binds": setting_item(spellings.C, p.mul, Spelling("{0} * {1}", SUM)),
    "where it raises in C": setting_item(spellings.C_FAULTS, p.tanh, Spelling("{0} == 1.0")),
    "its statements on NumPy": setting_item(spellings.NUMPY, p.tanh, ("tanh({0}, {out})",)),
    "those of fast mode": setting_item(spellings.NUMPY_FAST, p.tanh, ("tanh({0}, out={out})",)),
    "where they raise": setting_item(spellings.NUMPY_FAULTS, p.tanh, "equal({0}, 0.0)"),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_all_that_code_depends_on_is_part_of_the_key(program, monkeypatch, name):
    before = recall.key_of(program, "native", "joint", [0], True, "exact")
    assert before == recall.key_of(program, "native", "joint", [0], True, "exact") is not None
    COMPONENTS[name](monkeypatch)
    after = recall.key_of(program, "native", "joint", [0], True, "exact")
    monkeypatch.undo()
    assert after not in (before, None)


#: For each column of a program another one.
OTHER_COLUMNS = {
    "name": "g",
    "input_names": ["x0", "y"],
    "input_groups": [Group("x", 1, True), Group("y", 1, True)],
    "constants": [2.0000000000000004],
    "opcodes": array("H", [p.sin.opcode, p.mul.opcode, p.add.opcode]),
    "operands": array("q", [1, 2, -1, 3, 1]),
    "starts": array("q", [0, 1, 2, 5]),
    "outputs": [3],
    "output_groups": [Group("output", 1, True)],
    "primal": 2,
    "adjoint_of": array("q", [-1, -1, 0]),
    "truth_inputs": frozenset([1]),
    "numbering": 7,
    "update": 2,
    "foreign_names": ["v7"],
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Program)])
def test_each_column_of_the_program_is_part_of_the_key(program, field):
    """All but those of lines: the same program may come from elsewhere."""
    before = recall.key_of(program, "native")
    if field in ("sites", "locations"):
        program.locations = [Location("elsewhere.py", 3)]
        program.sites = array(program.sites.typecode, [0] * len(program))
        assert recall.key_of(program, "native") == before
    else:
        assert getattr(program, field) != OTHER_COLUMNS[field]
        setattr(program, field, OTHER_COLUMNS[field])
        assert recall.key_of(program, "native") not in (before, None)


def test_what_is_wanted_is_part_of_the_key(program):
    wanted = [
        (), ("joint",), ("pair",), ("joint", [0]), ("joint", [1]), ("joint", [0, 1]), ("joint", [1, 0]),
        ("joint", (0,)),
        ("joint", [Group("x", 2, False)]), ("joint", [Group("x", 1, False)]), ("joint", True), ("joint", False),
        ("joint", "exact"), ("joint", "fast"), ("joint", None), ("joint", "None"), ("joint", 1.0), ("joint", 1),
    ]  # fmt: skip
    keys = {recall.key_of(program, backend, *each) for each in wanted for backend in ("native", "auto")}
    assert len(keys) == 2 * len(wanted)
    assert None not in keys


def test_what_cannot_be_told_is_not_kept(program, monkeypatch):
    """A primitive that calls an object of an unknown class might do something else next time."""
    assert recall.key_of(program, "native", object()) is None
    monkeypatch.setattr(p.tanh, "evaluate", unknown_callable())
    assert recall.key_of(program, "native") is None


def unknown_callable():
    class Called:
        def __call__(self, x):
            return x

    return Called()


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "everything gone"])
def test_damage_is_noticed(folder, lowered, damage):
    f = fg.value_and_grad(body, backend="native")
    expected = flat(f(X))
    for path in folder.iterdir():
        content = path.read_bytes()
        if damage == "cut":
            path.write_bytes(content[:-1])
        elif damage == "changed":
            path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
        elif damage == "everything gone" or native.object_cache.get(path.name[:64])[8:9] != b"{":
            path.unlink()  # "gone": the code, but not how to call it
    assert flat(fg.value_and_grad(body, backend="native")(X)) == expected
    assert len(lowered) == 2


def test_small_programs_and_other_back_ends_are_not_remembered(folder):
    fg.value_and_grad(lambda x: x.sin() * x, backend="native")(1.0)
    fg.value_and_grad(body, backend="numpy")(X)
    fg.value_and_grad(body, backend="python")(X)
    assert len(list(folder.iterdir())) == 1, "the small one's code"


def test_without_a_cache(folder, lowered, monkeypatch):
    monkeypatch.setenv("FLATGRAD_CACHE", "0")
    for _ in range(2):
        fg.value_and_grad(body, backend="native")(X)
    assert len(lowered) == 2
    assert not folder.exists()


def test_a_program_of_names_that_are_no_text(folder):
    builder = ProgramBuilder("f", [Group("x", 1, True)], ["\udc80"])
    variable = 0
    for _ in range(recall.SMALLEST):
        variable = builder.emit("neg", variable)
    program = builder.finish([variable])
    assert recall.key_of(program, "native") is not None
    assert recall.key_of(program, "native") != recall.key_of(program, "auto")
    assert recall.key_of(program, "python") is None


SCRIPT = """
import numpy as np
import flatgrad as fg
from flatgrad.compiler.stages import Stages
from tests.compiler.test_recall import X, body, flat

count, printed = [], Stages.printed
Stages.printed = lambda *given: count.append(1) or printed(*given)
print(flat(fg.value_and_grad(body, backend="native")(X)), len(count))
"""


def test_another_process(folder):
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    outputs = []
    for seed in "12":
        environment["PYTHONHASHSEED"] = seed
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=environment,
            cwd=os.path.dirname(os.path.dirname(fg.__file__)),
        )  # fmt: skip
        outputs.append(done.stdout.split())
    assert outputs[0][-1] == "1"
    assert outputs[1][-1] == "0"
    assert outputs[0][:-1] == outputs[1][:-1]
