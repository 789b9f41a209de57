"""The wheel and the sdist: what is in them, and that the installed package works from another folder."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import flatgrad

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted([*(ROOT / "examples").glob("*.py"), ROOT / "examples" / "microgpt" / "train.py"])
#: What the project's folder may contain and no build may see.
UNTRACKED = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "flatgrad-*")


def run(*command, cwd):
    """Run a command without this project on the path."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the wheel and the sdist of this project."""
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    if int(version.partition(".")[0]) < 77:
        pytest.skip("setuptools is not installed, or too old")
    source, dist = tmp_path_factory.mktemp("source") / "flatgrad", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, source, ignore=UNTRACKED)
    hooks = "from setuptools import build_meta as b; b.build_sdist({0!r}); b.build_wheel({0!r})".format(str(dist))
    run(sys.executable, "-c", hooks, cwd=source)
    return dist


def data_files(folder):
    """What lies in the package beside modules."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder.parent).as_posix() for path in files if path.suffix not in (".py", ".pyc", ".pyi")}


@pytest.mark.slow
def test_the_wheel_has_the_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "flatgrad").rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert "flatgrad/py.typed" in names
    assert names == modules | data_files(ROOT / "flatgrad") | {"flatgrad/errors.md"}


@pytest.mark.slow
def test_the_sdist_has_tests_documentation_and_examples(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    for name in (
        "LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", "Makefile", "pyproject.toml",
        "docs/moons.png", "docs/command_line.md", "examples/moons.py", "examples/microgpt/names.txt",
        "tests/conftest.py", "tests/test_packaging.py", "tests/golden/layer_rolled.py", "benchmarks/suites/nist.json",
    ):  # fmt: skip
        assert name in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the folders of an environment are those of POSIX")
def test_the_installed_package_works_in_another_folder(built, tmp_path):
    """In a fresh environment, with the dependencies of this one."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", str(environment), cwd=tmp_path)
    python = str(environment / "bin" / "python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    folders = {
        str(Path(importlib.metadata.distribution(name).locate_file(""))) for name in ("numpy", "llvmlite", "tqdm")
    }
    (site / "dependencies.pth").write_text("\n".join(folders), encoding="utf-8")
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", str(wheel),
        cwd=tmp_path)  # fmt: skip
    where = run(python, "-c", "import flatgrad; print(flatgrad.__file__)", cwd=tmp_path).strip()
    assert Path(where).parent == site / "flatgrad"
    command = str(environment / "bin" / "flatgrad")
    assert "Cause. " in run(command, "errors", "DomainError", cwd=tmp_path)
    assert run(command, "--version", cwd=tmp_path) == f"flatgrad {flatgrad.__version__}\n"
    assert "bit for bit: equal" in run(command, "demo", "--steps", "3", cwd=tmp_path)
    assert (tmp_path / "flatgrad-demo" / "moons_training.py").exists()


# --- what packages say of themselves ----------------------------------------------------------------------------------


def header_of(path):
    """The block with which a script says what it needs (PEP 723)."""
    (block,) = re.findall(r"^# /// script\n((?:#(?: .*)?\n)+?)# ///$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return tomllib.loads("".join(line[2:] if line.startswith("# ") else line[1:] for line in block.splitlines(True)))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_say_what_they_need(path):
    header = header_of(path)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert header["requires-python"] == project["requires-python"]
    assert (path.parent / header["tool"]["uv"]["sources"]["flatgrad"]["path"]).resolve() == ROOT
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    beside = {other.stem for other in path.parent.glob("*.py")}
    packages = {"sklearn": "scikit-learn"}
    others = {packages.get(name, name) for name in imported - beside - set(sys.stdlib_module_names) - {"matplotlib"}}
    assert {name.partition("[")[0] for name in header["dependencies"]} == others
    assert ("flatgrad[plot]" in header["dependencies"]) == ("--plot" in path.read_text(encoding="utf-8"))


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {project['version']}\n" in citation
    assert project["version"] == flatgrad.__version__
