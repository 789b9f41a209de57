"""`kernel.save`: a module that imports nothing but `math` and computes the kernel's bits, on Python 3.8 and newer."""

from __future__ import annotations

import ast
import inspect
import json
import math
import os
import runpy
import shutil
import subprocess
import sys
from functools import cache

import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.languages import python as emitter
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import all_bits, assert_same

pytestmark = pytest.mark.usefixtures("flat")

#: Runs functions of a module and prints what they return; floats are written so that no bit is lost.
RUNNER = """
import json, runpy, sys

def plain(item):
    return [plain(x) for x in item] if isinstance(item, (list, tuple)) else item if item is None else item.hex()

def read(item):
    return [read(x) for x in item] if isinstance(item, list) else float.fromhex(item)

module = runpy.run_path(sys.argv[1])
results = []
for name, arguments in json.loads(sys.argv[2]):
    try:
        results.append(plain(module[name](*read(arguments))))
    except ArithmeticError as error:
        results.append(type(error).__name__)
    except ValueError as error:
        results.append(type(error).__name__)
print(json.dumps([list(sys.version_info[:2]), results]))
"""


@cache
def python38():
    """The path of a Python 3.8, or None."""
    candidates = []
    if shutil.which("python3.8"):
        candidates.append({})
    if shutil.which("pyenv"):
        listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False).stdout
        candidates += [{"PYENV_VERSION": name} for name in listed.split() if name.startswith("3.8.")]
    for extra in candidates:
        command = ["python3.8", "-I", "-c", "import sys; print(sys.executable)"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **extra}, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return done.stdout.strip()
    return None


@pytest.fixture(params=["this Python", "Python 3.8"])
def run(request):
    """Call functions of a saved module in another process: isolated, nothing in its environment, no packages."""
    executable, version = sys.executable, list(sys.version_info[:2])
    if request.param == "Python 3.8":
        executable, version = python38(), [3, 8]
        if executable is None:
            pytest.skip("there is no Python 3.8 on this machine")

    def call(path, *calls):
        encoded = json.dumps([[name, _hex(arguments)] for name, arguments in calls])
        done = subprocess.run(
            [executable, "-I", "-S", "-W", "error", "-c", RUNNER, str(path), encoded],
            capture_output=True, text=True, env={}, cwd=path.parent, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        actual_version, results = json.loads(done.stdout)
        assert actual_version == version
        return [_floats(result) for result in results]

    return call


def _hex(item):
    return [_hex(x) for x in item] if isinstance(item, (list, tuple)) else float(item).hex()


def _floats(item):
    if isinstance(item, list):
        return [_floats(x) for x in item]
    return item if item is None or item.endswith("Error") else float.fromhex(item)


def flat(item):
    return [x for part in item for x in flat(part)] if isinstance(item, (list, tuple)) else [item]


def imports(source):
    """What a module imports, as `module.name`."""
    imports = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            imports |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
    return imports


LATER = {"exp2", "cbrt", "acosh"}  # and one of another domain


def every_row(x, y, z):
    """A function in which every row of the table occurs, and has a gradient where there is one.

    But for those that `math` has from Python 3.11 on.
    """
    total = fg.acosh(x + 1.0)
    for row in (row for row in BY_NAME.values() if row.name not in LATER):
        condition = fg.less(x, y)
        operands = [condition if kind == "b" else (x, y, z)[k % 3] for k, kind in enumerate(row.operand_kinds)]
        result = row(*operands)
        total = total * 0.5 + (result if row.result == "f" else fg.where(result | fg.greater(x, z), x, y * z))
    return total + x**-1 + y**2 + z**0.5 + y**-0.5 + 2.0**x + (-y).sigmoid() + (-x).softplus()


POINTS = [(0.25, 0.5, 0.75), (0.5, 0.25, 0.125), (0.3, 0.3, 0.3), (1e-300, 0.9, 1e-8), (0.9999, 5e-324, 1.0)]


def test_every_row_in_one_saved_module(run, tmp_path):
    f = fg.value_and_grad(every_row, argnums=(0, 1, 2))
    path = f.kernel_for(*POINTS[0]).save(tmp_path / "rows.py")
    source = path.read_text(encoding="utf-8")
    used = set(BY_NAME) - {"detach", "neg", "exp2", "cbrt"}  # written as nothing, and as a sign
    assert used <= {e.primitive.name for e in f.kernels[0].program.equations()}
    assert "def sigmoid(" in source
    assert "def softplus(" in source
    assert "def power(" in source
    expected = []
    for point in POINTS:
        try:
            value, gradients = f(*point)
            expected.append(all_bits([value, *gradients]))
        except ArithmeticError as error:
            expected.append(type(error).__bases__[-1].__name__)
    assert any(type(outcome) is list for outcome in expected)
    actual = run(path, *[("value_and_grad", point) for point in POINTS])
    assert [all_bits(outcome) if type(outcome) is list else outcome for outcome in actual] == expected


def test_modules_import_nothing_but_what_they_need_of_math(tmp_path):
    path = fg.value_and_grad(every_row).kernel_for(*POINTS[0]).save(tmp_path / "rows.py")
    names = imports(path.read_text(encoding="utf-8"))
    assert names <= {f"math.{name}" for name in dir(math)}
    assert {"math.exp", "math.atan2", "math.pow", "math.log1p"} <= names
    plain = fg.grad(lambda x: x * x + x).kernel_for(1.0).save(tmp_path / "plain.py")
    assert imports(plain.read_text(encoding="utf-8")) == set()
    root = fg.grad(lambda x: x.sqrt()).kernel_for(1.0).save(tmp_path / "root.py")
    assert imports(root.read_text(encoding="utf-8")) == {"math.sqrt"}


def test_forward_and_backward(run, tmp_path):
    f = fg.compile(lambda x, ys: [(x * ys[0]).tanh() + ys[1], x**2 * ys[1]])
    x, ys = Value(0.3), [Value(-1.5), Value(2.5)]
    out = f(x, ys)
    (out[0] * 3.0 + out[1] * -0.5).backward()
    path = f.kernels[0].save(tmp_path / "pair.py")
    arguments = (0.3, [-1.5, 2.5])
    (outputs, residuals), *_ = run(path, ("forward", arguments))
    assert_same(outputs, [value.data for value in out])
    (gradients,) = run(path, ("backward", (residuals, [3.0, -0.5])))
    assert_same(gradients, [v.grad for v in (x, *ys)])


def test_a_kernel_without_gradient(run, tmp_path):
    path = fg.compile(lambda x, y: [x * y, x + y]).kernel_for(2.0, 3.0).save(tmp_path / "numbers.py")
    assert run(path, ("forward", (2.5, 4.0))) == [[10.0, 6.5]]


def test_a_model_has_its_leaves_in_the_module(run, tmp_path):
    model = fg.nn.MLP(3, [4, 1])
    f = fg.value_and_grad(lambda x: model(x) ** 2, wrt=model)
    x = [0.5, -1.0, 2.0]
    value, gradient = f(x)
    path = f.kernels[0].save(tmp_path / "model.py")
    module = runpy.run_path(str(path))
    assert_same(module["LEAVES"], [p.data for p in model.parameters()])
    assert module["LEAF_NAMES"][:4] == ["w0_0_0", "w0_0_1", "w0_0_2", "b0_0"]
    assert len(set(module["LEAF_NAMES"])) == len(model.parameters())
    (result,) = run(path, ("value_and_grad", (x, module["LEAVES"])))
    assert_same(flat(result), [value, *gradient])


def test_the_leaves_of_forward_and_backward(run, tmp_path):
    w, b = Value(3.0, label="weight"), Value(-1.0, label="bias")
    f = fg.compile(lambda x: w * x + b)
    x = Value(2.0)
    f(x).backward()
    w.data = 7.0
    path = f.kernels[0].save(tmp_path / "line.py")
    module = runpy.run_path(str(path))
    assert (module["LEAVES"], module["LEAF_NAMES"]) == ([7.0, -1.0], ["weight", "bias"])
    ((outputs, residuals),) = run(path, ("forward", (2.0, module["LEAVES"])))
    assert outputs == [13.0]
    assert run(path, ("backward", (residuals, [10.0]))) == [[70.0, 20.0, 10.0]]


@pytest.mark.parametrize("transform", [fg.compile, lambda f: fg.value_and_grad(f, argnums=0)])
def test_names_of_leaves_that_look_like_adjoints(transform, tmp_path):
    """One name per leaf, in order, whatever the labels are."""
    leaves = [Value(float(k), label=label) for k, label in enumerate(["a", "x_bar", "output_bars", "_bar", "leaves"])]
    kernel = transform(lambda x: sum(leaf * x for leaf in leaves)).kernel_for(Value(1.0))
    module = runpy.run_path(str(kernel.save(tmp_path / "names.py")))
    names = module["LEAF_NAMES"]
    assert module["LEAVES"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert len(names) == len(set(names)) == 5
    assert names[0] == "a"
    assert "x_bar" in names[1]


def test_leaves_that_are_not_finite(run, tmp_path):
    leaves = [Value(x) for x in (math.inf, -math.inf, math.nan, -0.0, 5e-324)]
    f = fg.value_and_grad(lambda x: sum((leaf * x for leaf in leaves), x), wrt=leaves)
    path = f.kernel_for(2.0).save(tmp_path / "odd.py")
    module = runpy.run_path(str(path))
    assert_same(module["LEAVES"], [leaf.data for leaf in leaves])
    value, gradient = f(2.0)
    (result,) = run(path, ("value_and_grad", (2.0, module["LEAVES"])))
    assert_same(flat(result), [value, *gradient])


def test_the_docstring_names_the_arguments_in_order(tmp_path):
    w = Value(1.0, label="weight")

    def f(alpha, pair, table):
        return alpha * pair[1] + table["left"] * w + table["right"][0]

    kernel = fg.value_and_grad(f, argnums=(0, 2)).kernel_for(1.0, (2.0, 3.0), {"left": 4.0, "right": [5.0]})
    function = runpy.run_path(str(kernel.save(tmp_path / "doc.py")))["value_and_grad"]
    lines = inspect.getdoc(function).splitlines()
    assert lines[0] == "Return the value and its gradients."
    assert lines[2:] == [
        "alpha: a number",
        "pair: a list of 2 numbers: pair0, pair1",
        "table: a list of 2 numbers: table_left, table_right0",
        "leaves: a list of 1 number: weight",
        "returns: value, alpha_bar, table_bar (a list of 2 numbers)",
    ]
    assert list(inspect.signature(function).parameters) == ["alpha", "pair", "table", "leaves"]
    result = function(1.0, [2.0, 3.0], [4.0, 5.0], [10.0])
    assert result == (48.0, 3.0, [10.0, 1.0])


def test_the_docstrings_of_forward_and_backward(tmp_path):
    kernel = fg.compile(lambda x, y: [x.tanh() * y, x]).kernel_for(Value(1.0), Value(2.0))
    module = runpy.run_path(str(kernel.save(tmp_path / "doc.py")))
    for name in ("forward", "backward"):
        function = module[name]
        described = [line.split(":")[0] for line in inspect.getdoc(function).splitlines() if ":" in line]
        assert described == [*inspect.signature(function).parameters, "returns"]


def test_a_user_line_that_is_not_ascii(run, tmp_path, module_from):
    module = module_from("def f(x):\n    y = (x * x).tanh()  # café ☃ \U0001f600\n    return y * y\n")
    path = fg.value_and_grad(module.f).kernel_for(1.0).save(tmp_path / "snow.py")
    assert "café ☃" in path.read_text(encoding="utf-8")
    assert run(path, ("value_and_grad", (1e-200,))) == [[0.0, 0.0]]


def test_a_program_in_several_functions(run, tmp_path, monkeypatch):
    monkeypatch.setattr(emitter, "_SPLIT", 30)
    monkeypatch.setattr(emitter, "_PART", 20)

    def f(x, y):
        for _ in range(40):
            x, y = (x * y).tanh() + 0.1, x - y
        return x * y

    kernel = fg.value_and_grad(f, argnums=(0, 1))
    value, gradients = kernel(0.5, 0.25)
    path = kernel.kernels[0].save(tmp_path / "parts.py")
    assert "def _value_and_grad_2(" in path.read_text(encoding="utf-8")
    (result,) = run(path, ("value_and_grad", (0.5, 0.25)))
    assert_same(result, [value, *gradients])


def test_it_raises_as_plain_python_does(run, tmp_path):
    path = fg.grad(lambda x: x.log() + x**-0.5).kernel_for(1.0).save(tmp_path / "log.py")
    assert run(path, ("grad", (0.0,)), ("grad", (-1.0,)), ("grad", (4.0,))) == [
        "ZeroDivisionError",
        "ValueError",
        0.1875,
    ]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kernel.txt", "kernel", "kernel.py.bak", ".py"])
def test_another_suffix_is_refused(name, tmp_path):
    kernel = fg.grad(lambda x: x * x).kernel_for(1.0)
    with pytest.raises(fg.OptionError, match=r"suffix must be \.py"):
        kernel.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_is_replaced_at_once_or_kept(tmp_path, monkeypatch):
    kernel = fg.grad(lambda x: x * x).kernel_for(1.0)
    path = tmp_path / "kernel.py"
    path.write_text("old", encoding="utf-8")
    assert kernel.save(str(path)) == path
    assert path.read_text(encoding="utf-8") == kernel.source
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(PermissionError("no")))
    with pytest.raises(PermissionError):
        fg.grad(lambda x: x + x).kernel_for(1.0).save(path)
    assert path.read_text(encoding="utf-8") == kernel.source
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        fg.grad(lambda x: x * x).kernel_for(1.0).save(tmp_path / "nowhere" / "kernel.py")
