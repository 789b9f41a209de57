"""What type checkers and editors see: names, methods, and the types of a small program."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import flatgrad as fg
from flatgrad.runtime import functions, methods, value
from flatgrad.runtime.primitive import Applicable
from flatgrad.runtime.primitives import BY_NAME, PACKAGE_ROWS, TABLE, Operand

ROOT = Path(__file__).parent.parent
PROGRAMS = [ROOT / "tests" / name for name in ("typed_program.py", "typed_user.py")]
ROWS = [row for row in TABLE[:PACKAGE_ROWS] if not row.internal]

#: What must be an error in the eyes of a type checker.
WRONG = """\
import flatgrad as fg
from flatgrad import Value

x = Value(1.0)
x.tahn()
x.maximum("2")
text: str = x * 2.0
x.data = "1.0"
fg.tahn(x)
number: float = fg.exp(x)
Value("1.0")
fg.jit(lambda x: x, backend="nativ")
fg.grad(mode="quick")
fg.vmap(lambda x: x, in_axes="0.5", backend=None)
answer: str = fg.grad(lambda x: x)(3.0)
"""


def run(*command, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


def mypy(paths, tmp_path):
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    # Without the project's settings: as a user's project sees an installed package.
    return run(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", *map(str, paths))


def pyright(paths, tmp_path):
    """Pyright with its usual settings, as packaged by basedpyright, which brings along what it runs on."""
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed")
    project = tmp_path / "pyrightconfig.json"
    include = list(map(str, paths))
    project.write_text(json.dumps({"typeCheckingMode": "standard", "include": include, "extraPaths": [str(ROOT)]}))
    return run(sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--project", str(project))


@pytest.mark.slow
def test_every_symbol_of_the_package_has_a_type():
    """To a type checker names without an underscore are public, in all modules. If this fails: annotate them."""
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed")
    options = ["--verifytypes", "flatgrad", "--ignoreexternal", "--outputjson", "--pythonpath", sys.executable]
    done = run(sys.executable, "-m", "basedpyright", *options)
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    assert any(symbol["name"] == "flatgrad.compiler.kernel.Kernel" for symbol in symbols), done.stderr
    unknown = {
        symbol["name"]: [each["message"] for each in symbol["diagnostics"]]
        for symbol in symbols
        if symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"]
    }
    assert unknown == {}


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_typed_programs_are_checked(checker, tmp_path):
    done = checker(PROGRAMS, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_mistakes_are_seen(checker, tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(WRONG, encoding="utf-8")
    done = checker([path], tmp_path)
    lines = {
        int(line.split(":")[1]) for line in done.stdout.splitlines() if f"{path.name}:" in line and "error" in line
    }
    assert lines == set(range(5, 16)), done.stdout + done.stderr


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_the_typed_programs_run(path):
    done = run(sys.executable, str(path), FLATGRAD_CACHE="0")
    assert done.returncode == 0, done.stderr


def declarations(block):
    """The names that a block declares, each with the node that says its type; `a = b = c` declares a and b as c is."""
    nodes = {}
    for node in block.body:
        if isinstance(node, ast.FunctionDef):
            nodes[node.name] = node
        elif isinstance(node, ast.AnnAssign):
            nodes[node.target.id] = node.annotation
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                both = [target, node.value]
                names, values = [part.elts if isinstance(part, ast.Tuple) else [part] for part in both]
                nodes |= {name.id: nodes.get(ast.unparse(a), a) for name, a in zip(names, values, strict=True)}
    return nodes


def declared(kind):
    """The methods that a base of a class declares for type checkers."""
    (base,) = (each for each in kind.__mro__ if each.__name__ == f"{kind.__name__}Methods")
    tree = ast.parse(inspect.getsource(methods))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == base.__name__)
    (block,) = (node for node in body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return declarations(block)


@pytest.mark.parametrize(("kind", "letter"), [(value.Value, "f"), (value.Condition, "b")])
def test_the_declared_methods_are_those_of_the_table(kind, letter):
    """If this fails: declare the method of the new row in `runtime/methods.py`."""
    attached = {
        name: row
        for row in ROWS
        if row.operand_kinds[0] == letter
        for name in vars(Applicable)
        if getattr(vars(Applicable)[name], "__name__", "") == row.name and not name.startswith("_")
    }
    assert {row.name for row in attached.values()} == {row.name for row in ROWS if row.operand_kinds[0] == letter}
    nodes = {name: node for name, node in declared(kind).items() if not name.startswith("_")}
    assert set(nodes) == set(attached)
    for name, node in nodes.items():
        assert len(node.args.posonlyargs + node.args.args) == attached[name].arity, name
        assert ast.unparse(node.returns) == ("V" if attached[name].result == "f" else "C"), name


@pytest.mark.parametrize("kind", [value.Value, value.Condition])
def test_the_declared_operators_are_those_of_operands(kind):
    """But for the one that NumPy's types want to see: with it, NumPy would make an array of each `Value`."""
    assert not hasattr(kind, "__array__")
    for name in declared(kind).keys() - {"__array__"}:
        assert callable(getattr(kind, name)), name
    operators = {name for name in vars(Operand) if name.startswith("__") and callable(vars(Operand)[name])}
    logical = {"__and__", "__or__", "__rand__", "__ror__", "__invert__"}
    wanted = logical if kind is value.Condition else operators - logical - {"__init__"}
    assert wanted <= {*declared(kind), *(name for name in vars(kind) if name.startswith("__"))}


#: The class that declares functions of these kinds.
KINDS = {
    "f->f": "OfOne", "ff->f": "OfTwo", "ff->b": "Comparison", "bb->b": "OfTwoConditions", "b->b": "OfOneCondition",
    "bff->f": "Selection",
}  # fmt: skip


def test_the_declared_functions_are_those_of_the_table():
    """If this fails: declare the new row in `runtime/functions.py`, and name it in `__all__`."""
    tree = ast.parse(inspect.getsource(functions))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    nodes = {name: node for name, node in declarations(block).items() if name.islower()}
    types = {name: node.args[0] if isinstance(node, ast.Call) else node for name, node in nodes.items()}
    types = {name: node.id for name, node in types.items()}
    assert types == {row.name: KINDS[row.kinds] for row in ROWS}
    assert sorted([*functions.__all__, "abs"]) == sorted(types)
    assert all(getattr(functions, name) is BY_NAME[name] for name in types)


def test_every_public_name_is_exported():
    """`__all__` has every public name but those of builtins; written so that type checkers can read it."""
    tree = ast.parse(inspect.getsource(fg))
    (names,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__")
    assert [*ast.literal_eval(names), *functions.__all__] == fg.__all__
    hidden = {
        "abs",
        "compile",
        "complex",
        "max",
        "min",
        "sum",
        "compiler",
        "display",
        "runtime",
        "cli",
        "demo",
        "entries",
        "explain",
        "scripts",
        "selecting",
        "show",
        "tabular",
        "terminal",
    }
    public = {name for name in vars(fg) if not name.startswith("_")} - hidden
    assert set(fg.__all__) == public
    assert {row.name for row in ROWS} - {"abs"} <= public
    aliases = {
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names if alias.asname
    }
    assert {"abs", "compile", "complex", "max", "min", "sum"} <= aliases, "exported to type checkers, too"


def test_completion_offers_public_names_only():
    def offered(module):
        return {name for name in dir(module) if not name.startswith("__")}

    assert offered(fg) == {*fg.__all__, "abs", "compile", "complex", "max", "min", "sum"}
    assert offered(fg.nn) == set(fg.nn.__all__)
    assert "__version__" in dir(fg)
