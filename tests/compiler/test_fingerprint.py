"""What code does is told by a digest: of this package as it was loaded, and of functions that are handed in."""

from __future__ import annotations

import compileall
import functools
import itertools
import math
import operator
import os
import shutil
import subprocess
import sys
from array import array
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import flatgrad
from flatgrad.compiler.machine import fingerprint as module
from flatgrad.compiler.machine import native
from flatgrad.compiler.machine.fingerprint import fingerprint, package_digest
from flatgrad.runtime import primitives
from flatgrad.runtime.primitives import TABLE
from tests.examples import slow

PACKAGE = Path(flatgrad.__file__).parent

# --- this package's code ----------------------------------------------------------------------------------------------

DIGEST = "from flatgrad.compiler.machine.fingerprint import package_digest as digest"


def python(code, path, *options, **environment):
    """What a fresh process prints that finds the package in a folder or an archive."""
    unset = "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONOPTIMIZE"
    usual = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=False,
        env={**usual, "PYTHONPATH": str(path), **environment}, cwd=path if path.is_dir() else path.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def copied(tmp_path):
    """A copy of the package with its files of bytecode, in a folder that can be changed."""
    shutil.copytree(PACKAGE, tmp_path / "copy" / "flatgrad")
    return tmp_path / "copy"


@pytest.mark.slow
def test_the_digest_is_that_of_the_code_in_every_process(copied):
    for folder in list(copied.rglob("__pycache__")):
        shutil.rmtree(folder)
    here = package_digest().hex()
    asked = f"{DIGEST}; print(digest().hex())"
    compiled_now = python(asked, copied, PYTHONDONTWRITEBYTECODE="1", PYTHONHASHSEED="1")
    written = python(asked, copied, PYTHONHASHSEED="2")
    from_files = python(asked, copied, PYTHONHASHSEED="3")
    assert list(copied.glob("flatgrad/compiler/__pycache__/*.pyc"))
    assert compiled_now == written == from_files == here
    assert python(asked, copied, "-O") != here, "without assertions it is other code"


@pytest.mark.slow
def test_code_without_source_is_told_too(copied):
    compileall.compile_dir(copied, quiet=2, legacy=True)
    for path in copied.rglob("*.py"):
        path.unlink()
    assert python(f"{DIGEST}; print(digest().hex())", copied) == package_digest().hex()


@pytest.mark.slow
def test_what_counts_is_the_code_that_was_loaded(copied):
    """A process lives on while the source is changed, before or after it asks for the digest."""
    changed = copied / "flatgrad" / "compiler" / "machine" / "operations.py"
    before = python(f"{DIGEST}; print(digest().hex())", copied)
    change = f"import pathlib; path = pathlib.Path({str(changed)!r}); path.write_text(path.read_text() + 'MORE = 1\\n')"
    assert python(f"{DIGEST}; {change}; print(digest().hex())", copied) == before
    after = python(f"{DIGEST}; print(digest().hex())", copied)
    assert after != before
    assert python(f"{DIGEST}; digest(); {change}; print(digest().hex())", copied) == after


@pytest.mark.parametrize(
    "part",
    slow(
        ["runtime/scalar.py", "compiler/program/adjoint.py", "compiler/program/passes/simplify.py"],
        "runtime/scalar.py",
        "compiler/program/passes/simplify.py",
    ),
)
def test_every_part_counts(copied, part):
    path = copied / "flatgrad" / part
    path.write_text(path.read_text(encoding="utf-8") + "\n\ndef another():\n    return 1.0\n", encoding="utf-8")
    assert python(f"{DIGEST}; print(digest().hex())", copied) != package_digest().hex()


def test_comments_do_not_count_where_no_line_moves(copied):
    path = copied / "flatgrad" / "compiler" / "program" / "adjoint.py"
    path.write_text(path.read_text(encoding="utf-8") + "# a remark\n", encoding="utf-8")
    assert python(f"{DIGEST}; print(digest().hex())", copied) == package_digest().hex()


def test_a_module_that_is_loaded_again_is_not_known(copied):
    """Its code may be another by now, while others still use what they imported from it."""
    code = f"""
import importlib
{DIGEST}
import flatgrad.compiler.program.adjoint
assert digest() is not None
importlib.reload(flatgrad.compiler.program.adjoint)
print(digest())
"""
    assert python(code, copied) == "None"


@pytest.mark.slow
def test_an_archive_is_not_known(copied):
    """Nothing is kept of what a package in an archive makes; it works all the same."""
    archive = Path(shutil.make_archive(str(copied.parent / "archive"), "zip", copied))
    code = f"{DIGEST}; import flatgrad as fg; print(digest(), fg.__file__, fg.grad(lambda x: x * x)(2.0))"
    assert python(code, archive) == f"None {archive}/flatgrad/__init__.py 4.0"


def test_the_import_system_is_left_alone():
    assert module._finder not in sys.meta_path
    for name, loaded in module._modules.items():
        assert sys.modules[name].__spec__ is loaded.spec
        assert "get_code" not in vars(loaded.spec.loader)


def test_all_code_of_the_two_parts_is_noted():
    """What decides what a program becomes is loaded with the package, not later."""
    files = [
        path.relative_to(PACKAGE.parent) for part in ("runtime", "compiler") for path in (PACKAGE / part).rglob("*.py")
    ]
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    # The one that notes, and the empty ones around it.
    first = {
        "flatgrad.runtime",
        "flatgrad.compiler",
        "flatgrad.compiler.machine",
        "flatgrad.compiler.machine.fingerprint",
    }
    missing = names - set(module._modules) - first
    importers = {
        path: item for path in files for item in missing
        if f"import {item.rpartition('.')[2]}" in (source := (PACKAGE.parent / path).read_text(encoding="utf-8"))
        or f"{item.rpartition('.')[2]} import" in source
    }  # fmt: skip
    assert importers == {}, "these are imported when they are first used"


def test_another_format_of_code(monkeypatch):
    """Where the interpreter's own format of code refuses, the parts are written one by one."""

    def refuse(*arguments):
        raise ValueError("unmarshallable object")

    usual = package_digest()
    monkeypatch.setattr(module, "_package", None)
    monkeypatch.setattr(module, "marshal", SimpleNamespace(dumps=refuse))
    assert package_digest() not in (None, usual)
    codes = [compile(text, "f.py", "exec") for text in ("x in {'a', 'b'}", "x in {'a', 'c'}", "x(1)", "x(1.0)", "y(1)")]
    assert len({module._module_code(code) for code in codes}) == len(codes)


# --- functions and other things ---------------------------------------------------------------------------------------

FACTOR = 2.0


def with_global(x):
    return FACTOR * x


def calls_another(x):
    return with_global(x)


def closing(number):
    return lambda x: x + number


def test_equal_things_have_equal_digests():
    for make in (
        lambda: (lambda x: x * 2.0), lambda: closing(1.0), lambda: [1, 2.0, "a", None, (True, b"c")],
        lambda: {"a": 1.0}, lambda: {"x", "y", "z"}, lambda: frozenset({1.0, math.inf}), lambda: np.arange(3.0),
        lambda: array("d", [1.0]), lambda: functools.partial(closing, 3.0), lambda: math.tanh, lambda: np.tanh,
        lambda: float.__add__, lambda: "abc".join, lambda: int, lambda: slice(1, 2), lambda: 1j,
        lambda: np.float64(2.0),
    ):  # fmt: skip
        assert fingerprint(make()) == fingerprint(make()) is not None


DIFFERENT = [
    0.0, -0.0, 0, False, None, "0", b"0", math.nan, math.inf, 1.0, 1, True, [], (), {}, set(), [0], (0,), [[0]], [0, 0],
    ["a", "b"], ["ab"], ["a, b"], {"a": 1}, {"a": 2}, {1: "a"}, {"a"}, {"b"}, frozenset({"a"}), array("d", [1.0]),
    array("q", [1]), np.array([1.0]), np.array([[1.0]]), np.array([1]), np.float32(1.0), 1j, ..., slice(1), slice(2),
    math.sin, math.cos, np.sin, np.cos, float.__add__, float.__sub__, "a".join, "b".join, int, float, math, operator,
    lambda x: x, lambda y: y, lambda x: -x, lambda x: x + 1.0, lambda x: x + 1, lambda x: x + 2.0, lambda x: (x, 1.0),
    lambda x=1.0: x, lambda x=2.0: x, lambda *, x=1.0: x, lambda *, x=2.0: x, lambda *x: x, lambda **x: x,
    lambda x: abs(-x), lambda x: math.fabs(-x), lambda x: x.real, lambda x: x.imag, lambda x: x in {1.0, 2.0},
    lambda x: x in {1.0, 3.0}, lambda x: [x for _ in (1, 2)], lambda x: [x for _ in (1, 3)], closing(1.0), closing(2.0),
    with_global, calls_another, functools.partial(closing, 1.0), functools.partial(closing, 2.0),
    functools.partial(closing, number=1.0), SimpleNamespace, primitives.tanh, primitives.sin, primitives.ZERO,
]  # fmt: skip


def test_different_things_have_different_digests():
    digests = [fingerprint(thing) for thing in DIFFERENT]
    assert None not in digests
    for (one, a), (other, b) in itertools.combinations(zip(digests, DIFFERENT, strict=True), 2):
        assert one != other, (a, b)


def test_a_digest_is_the_same_in_every_process():
    code = "\n".join([
        "import sys; sys.path.insert(0, '.')",
        "from tests.compiler.test_fingerprint import *",
        "from flatgrad.compiler.languages.spellings import spellings_of",
        "from flatgrad.compiler.machine.operations import SPELLINGS",
        "spellings = [(SPELLINGS.get(row), spellings_of(row)) for row in TABLE]",
        "print(fingerprint(DIFFERENT, {'x', 'y', 'z'}, TABLE, spellings).hex())",
    ])  # fmt: skip
    assert len({python(code, PACKAGE.parent, PYTHONHASHSEED=seed) for seed in "12"}) == 1


def test_what_a_function_names_counts(monkeypatch):
    before = fingerprint(with_global), fingerprint(calls_another)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    after = fingerprint(with_global), fingerprint(calls_another)
    assert not set(before) & set(after)


def test_what_calls_itself():
    def factorial(n):
        return n * factorial(n - 1) if n else 1

    assert fingerprint(factorial) is not None


class Callable:
    def __call__(self, x):
        return x


def test_what_cannot_be_told_has_no_digest():
    later = []

    def closes_over_nothing():
        return unassigned

    if later:
        unassigned = 1.0
    for thing in (
        object(), Callable(), Callable, Callable().__call__, np.array([object()]), closes_over_nothing,
        closing(object()), lambda x: pytest.approx(-x), lambda x: Callable()(-x), {object()}, [1.0, object()],
        functools.partial(closing, object()), SimpleNamespace(x=1.0),
    ):  # fmt: skip
        assert fingerprint(thing) is None
        assert fingerprint(1.0, [thing]) is None


# --- primitives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_all_rows_can_be_told(row):
    assert fingerprint(row) is not None


CHANGES = {
    "name": "another",
    "kinds": "ff->f",
    "evaluate": lambda x: math.tanh(x) + 0.0,
    "partials": (lambda out, x: 1.0 - out * out + 0.0,),
    "selects": True,
    "commutative": True,
    "identity": 0.0,
    "slow": False,
    "raises": True,
    "fault": lambda x: x > 1.0,
    "total": None,
    "decided_by": 0,
    "internal": True,
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_part_of_a_row_counts(monkeypatch, name):
    row = primitives.tanh
    before = fingerprint(row)
    assert getattr(row, name) != CHANGES[name]
    monkeypatch.setattr(row, name, CHANGES[name])
    assert fingerprint(row) not in (before, None)


def test_all_that_a_row_is_made_of_is_told_or_said_to_be_left_out():
    """A new attribute of a row must be told, or stand here with those that decide nothing."""
    described = {"__name__", "__doc__", "__signature__", "sympy", "symbol", "domain", "requires", "remedy", "worded"}
    derived = {"opcode", "arity", "operand_kinds", "result", "differentiable", "mixed", "partial_raises", "conceals"}
    assert set(vars(primitives.tanh)) - described - derived == set(CHANGES)


# --- machine code -----------------------------------------------------------------------------------------------------


@pytest.fixture
def keys(monkeypatch):
    """The keys under which code is looked for; nothing is assembled."""
    digests = []
    monkeypatch.setattr(native.object_cache, "get", lambda key: digests.append(key) or b"code")
    return digests


OTHER_RECIPES = {
    "level": 1, "relocation": "static", "model": "large", "passes": ("sroa", "new_gvn"), "left_out": "sroa",
    "loops": True, "blocks": True,
}  # fmt: skip


def test_all_that_llvm_is_told_is_part_of_the_key(keys, monkeypatch):
    native.assemble_cached("; text")
    native.assemble_cached("; text", fast=True)
    native.assemble_cached("; another text")
    assert set(OTHER_RECIPES) == set(native.Recipe._fields)
    for field, value in OTHER_RECIPES.items():
        assert getattr(native.recipe(False), field) != value
        monkeypatch.setattr(native, "_EXACT", native.Recipe()._replace(**{field: value}))
        native.assemble_cached("; text")
    monkeypatch.setattr(native, "_EXACT", native.Recipe())
    monkeypatch.setattr(native, "VERSION", "0.0.0")
    native.assemble_cached("; text")
    monkeypatch.undo()
    assert len(set(keys)) == len(keys) == 4 + len(OTHER_RECIPES)


@pytest.mark.parametrize(
    "name", ["version", "triple", "cpu", "features", "lanes", "shortcuts", "vector_math", "variants"]
)
def test_the_processor_is_part_of_the_key(keys, monkeypatch, name):
    native.assemble_cached("; text")
    another = SimpleNamespace(**vars(native.host()))
    value = {"lanes": 16, "shortcuts": not another.shortcuts, "vector_math": {("exp", 2): "_ZGVbN2v_exp2"}}
    value["variants"] = {"tanh": "another"}
    setattr(another, name, value.get(name, "another"))
    another.identity = native.Host.identity.fget(another)
    monkeypatch.setattr(native, "host", lambda: another)
    native.assemble_cached("; text")
    assert keys[0] != keys[1]
