"""The example notebooks run, say what is stored in them, and are small."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests import notebooks

NAMES = notebooks.names()


@pytest.fixture(scope="module", params=NAMES)
def stored(request):
    """A notebook's name, and what is stored."""
    return request.param, json.loads((notebooks.FOLDER / request.param).read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def test_there_are_two():
    assert len(NAMES) == 2


def test_each_cell_has_been_run_in_order(stored):
    _, notebook = stored
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}, "no errors"
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}, "no warnings"


def test_they_are_small_and_name_no_folders(stored):
    name, _ = stored
    text = (notebooks.FOLDER / name).read_text(encoding="utf-8")
    assert len(text.encode()) < 300_000
    assert not re.search(r"/(tmp|home|root|Users|work)/", text)
    assert "<script" not in text


def test_what_is_explained_is_shown(stored):
    """There are pictures, cards and texts; and each cell that has a result stored one."""
    name, notebook = stored
    kinds = {
        kind
        for cell in code_cells(notebook)
        for output in cell["outputs"]
        for kind in output.get("data", {})
    }  # fmt: skip
    assert {"text/plain", "text/html", "image/svg+xml"} <= kinds
    assert ("image/png" in kinds) == name.startswith("2")
    for cell in code_cells(notebook):
        last = source(cell).rstrip().split("\n")[-1]
        if re.fullmatch(r"[\w.\[\]]+(\(\))?", last):
            assert cell["outputs"], last


@pytest.mark.skipif(shutil.which("dot") is None, reason="the program dot is not installed")
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_they_run_and_say_what_is_stored(name):
    for package in ("nbformat", "nbclient", "ipykernel", "graphviz", "matplotlib", "llvmlite"):
        pytest.importorskip(package)
    before = notebooks.read(name)
    after = notebooks.executed(notebooks.read(name))
    compared = 0
    for old, new in zip(before.cells, after.cells, strict=True):
        if old.cell_type == "code" and not notebooks.is_timed(old):
            assert notebooks.texts(new) == notebooks.texts(old), old.source
            compared += bool(notebooks.texts(old))
    assert compared >= 8


def test_a_changed_number_would_be_noticed():
    nbformat = pytest.importorskip("nbformat")
    output = nbformat.v4.new_output("stream", text="loss 0.5\n")
    result = nbformat.v4.new_output("execute_result", {"text/plain": "<f at 0x7f00>", "text/html": "<p>"})
    cell = nbformat.v4.new_code_cell("f", outputs=[output, result])
    assert notebooks.texts(cell) == "loss 0.5\n<f>\n"
    assert not notebooks.is_timed(cell)
    assert notebooks.is_timed(nbformat.v4.new_code_cell("f", metadata={"tags": ["time"]}))
