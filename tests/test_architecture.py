"""The shape of the package: imports go one way, and `import flatgrad` stays cheap."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flatgrad
from tests import lines

PACKAGE = Path(flatgrad.__file__).parent
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
#: A part may import from itself and from the parts before it. What lies in the compiler's own folder is named file by
#: file; what lies in the package's own folder is the face.
PARTS = [
    "display",
    "runtime",
    "compiler.program",
    "compiler.loops",
    "compiler.languages",
    "compiler.machine",
    "compiler.options",
    "compiler.stage",
    "compiler.printing",
    "compiler.guarded",
    "compiler.checks",
    "compiler.stats",
    "compiler.cards",
    "compiler.routine",
    "compiler.stages",
    "compiler.open_samples",
    "compiler.open_stages",
    "compiler.pairs",
    "compiler.sparsity",
    "compiler.kernel",
    "compiler.open_kernel",
    "compiler.nodes",
    "compiler.calls",
    "compiler",
    "nn",
    "",
]


def part_of(module):
    """The part of the package that a path or a dotted name below `flatgrad` belongs to."""
    names = module.removesuffix(".py").replace("/", ".").split(".")
    return next((part for part in (".".join(names[:2]), names[0]) if part in PARTS), "")


@functools.cache
def statements(source):
    """The imports of a file, those inside functions among them."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(path, source):
    """The modules of the package that a file imports, as names below `flatgrad`; imports inside functions count too."""
    here = list(path.parent.parts)
    for node in statements(source):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - (node.level - 1)]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                yield ".".join([*base, name])
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "flatgrad":
            below = node.module.split(".")[1:]
            yield from [".".join(below)] if below else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "flatgrad":
                    yield ".".join(alias.name.split(".")[1:])


def backward_imports(path, source):
    position = PARTS.index(part_of(path.as_posix()))
    return [name for name in imported(path, source) if PARTS.index(part_of(name)) > position]


def test_imports_go_one_way():
    backward = {path: backward_imports(path, (PACKAGE / path).read_text(encoding="utf-8")) for path in FILES}
    assert {str(path): names for path, names in backward.items() if names} == {}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("runtime/value.py", "from ..compiler import trace"),
        ("runtime/value.py", "from ..compiler.trace import Trace"),
        ("runtime/value.py", "def f():\n    from .. import nn"),
        ("runtime/value.py", "import flatgrad"),
        ("runtime/value.py", "from flatgrad import Value"),
        ("runtime/value.py", "import flatgrad.compiler.stages"),
        ("compiler/stages.py", "from ..nn.module import Module"),
        ("compiler/languages/python.py", "from ...nn import MLP"),
        ("compiler/languages/python.py", "from ... import demo"),
        ("nn/layers.py", "from .. import demo"),
    ],
)
def test_an_import_the_other_way_is_noticed(path, source):
    assert backward_imports(Path(path), source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("compiler/stages.py", "from ..runtime.errors import OptionError\nfrom .program import Program\nimport time"),
        ("nn/layers.py", "from ..runtime.value import Value\nfrom .module import Module"),
        ("demo.py", "from .nn import MLP\nfrom .compiler.transforms import grad"),
        ("runtime/value.py", "from . import primitives\nimport numpy"),
    ],
)
def test_imports_the_right_way_are_not(path, source):
    assert list(imported(Path(path), source)) or "numpy" in source
    assert backward_imports(Path(path), source) == []


def imports_of_the_package():
    """For each module, the modules of the package that it imports anywhere, for type checkers too."""
    modules = {path: ".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in FILES}
    names = set(modules.values())
    graph = {}
    for path, module in modules.items():
        targets = set()
        for node in statements((PACKAGE / path).read_text(encoding="utf-8")):
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = ".".join([*path.parent.parts[: len(path.parent.parts) - node.level + 1], node.module or ""])
                folder = folder.strip(".")
                for alias in node.names:
                    below = f"{folder}.{alias.name}".strip(".")
                    targets.add(below if below in names else folder)
        graph[module] = targets & names - {module}
    return graph


def circles(graph):
    """The sets of modules that reach each other."""
    reach = {module: set(targets) for module, targets in graph.items()}
    for middle in graph:
        for targets in reach.values():
            if middle in targets:
                targets |= reach[middle]
    return {
        frozenset({module} | {other for other in reach[module] if module in reach[other]})
        for module in graph
        if module in reach[module]
    }


def test_no_modules_import_each_other():
    assert circles(imports_of_the_package()) == set()


def test_a_circle_of_imports_is_noticed():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {frozenset({"b", "c"})}


def test_heavy_packages_are_imported_when_first_used():
    heavy = {"sympy", "llvmlite", "matplotlib", "graphviz", "sklearn"}
    code = f"import sys, flatgrad; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_file_is_named_after_nothing():
    assert not {"utils.py", "helpers.py", "misc.py", "common.py"} & {path.name for path in FILES}


def test_text_is_compiled_in_one_place():
    """Only the loader turns text into code."""
    callers = set()
    for path in FILES:
        text = (PACKAGE / path).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if re.search(r"\b(exec|eval)\b", text) else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"exec", "eval"}:
                callers.add(path.as_posix())
    assert callers == {"compiler/languages/loader.py"}


def test_the_public_face():
    names = "Value Condition compile compile_graph value_and_grad grad nn where equal detach maximum div exp tanh"
    assert set(names.split()) <= set(dir(flatgrad))
    assert (PACKAGE / "py.typed").exists()


def test_the_face_shows_nothing_that_others_made():
    """`import *` of a module with imports of its own would bring `math` or `Any` along."""
    foreign = [
        name
        for name, item in vars(flatgrad).items()
        if not name.startswith("_")
        and not getattr(item, "__name__" if inspect.ismodule(item) else "__module__", "").startswith("flatgrad")
    ]
    assert foreign == []


#: Calls that look into texts, and where there may be some: in texts that no printer has written, or that
#: docs/architecture.md names ("Primitives and languages").
SEARCHES = {"startswith", "endswith", "replace", "split", "rsplit", "partition", "rpartition", "find", "rfind", "sub"}
ALLOWED = {
    "languages/c.py": 2,  # signs that end a comment, or begin a trigraph, in a line of the user's
    "languages/loader.py": 1,  # the name of a file
    "languages/rolled.py": 2,  # the first sentence of a primitive's docstring
    "loops/array_printer.py": 1,  # white space in the user's line
    "loops/generalize.py": 1,  # the heading of a text at several sizes
    "loops/merging.py": 4,  # texts at several sizes
}


def test_printers_do_not_look_into_texts():
    rooms = [PACKAGE / "compiler" / room for room in ("languages", "loops")]
    counts = {}
    for file in (file for room in rooms for file in sorted(room.rglob("*.py"))):
        calls = [
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SEARCHES
        ]
        if calls := [call for call in calls if not call.startswith("np.")]:
            counts[file.relative_to(PACKAGE / "compiler").as_posix()] = len(calls)
    assert counts == ALLOWED


def test_the_numbers_of_lines_are_those_of_the_files():
    """If this fails: `make lines`."""
    text = lines.PAGE.read_text(encoding="utf-8")
    assert lines.rewritten(text) == text


def test_the_tour_has_ten_files_and_fits_in_one_sitting():
    text = lines.PAGE.read_text(encoding="utf-8")
    assert len(lines.tour(text)) == 10
    assert sum(map(lines.lines_of, lines.tour(text))) <= 3_000


def test_each_file_is_in_one_room_of_the_table():
    rooms = [path for room in lines.ROOMS for path in lines.files_of(room)]
    assert sorted(rooms) == sorted(PACKAGE / path for path in FILES)
    text = lines.PAGE.read_text(encoding="utf-8")
    before = {row[2] or row[3]: int(row[1].split("|")[-2].replace(",", "")) for row in lines.ROOM.finditer(text)}
    assert sum(before[room] for room in lines.ROOMS) == before["the package"]


def test_a_wrong_number_of_lines_is_noticed():
    text = "| 1 | `runtime/version.py` | 1 | the version |\n| `compiler/program` | 1,937 | 2 |\n"
    assert lines.rewritten(text).startswith("| 1 | `runtime/version.py` | 3 | the version |\n")
    assert lines.rewritten(text) != text.replace("| 1 | the", "| 3 | the")
