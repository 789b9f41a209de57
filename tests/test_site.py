"""The documentation site: its navigation, and that pages of reference leave nothing out. `make docs` builds it."""

from __future__ import annotations

import ast
import builtins
import html
import importlib.util
import os
import pickle
import re
import traceback
from pathlib import Path

import pytest

import flatgrad
from flatgrad import Value, nn
from flatgrad.runtime import errors

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def conf():
    """The configuration, as a module."""
    spec = importlib.util.spec_from_file_location("conf", DOCS / "conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation(conf):
    navigation = conf.navigation((DOCS / "index.md").read_text(encoding="utf-8"))
    linked = re.findall(r"^(?:.* <)?([a-z][\w/]+)>?$", navigation, re.MULTILINE)
    assert sorted(linked) == [page for page in PAGES if page != "index"], "docs/index.md lists each page once"


def test_the_navigation_is_made_of_headings_and_lists(conf):
    index = "# All\n\n* [No](no.md)\n\n## One\n\n* [A](a.md): text, [b](b.md)\n2. [C](d/1_c.md)\n\n## None\n\nText.\n"
    assert conf.navigation(index) == "```{toctree}\n:hidden:\n:caption: One\n\nA <a>\nd/1_c\n```"


def test_blocks_get_the_language_that_they_are_highlighted_as(conf):
    text = ["```python\n>>> 1\n1\n\n```\n\n```python\nx = 1\n```\n\n```\ny\n```\n"]
    conf.prepare(None, "page", text)
    assert text == ["```pycon\n>>> 1\n1\n```\n\n```python\nx = 1\n```\n\n```text\ny\n```\n"]


def test_code_in_docstrings_is_code(conf):
    lines = ["A `Value` and two `Value`s, ``done``.", ">>> `not this`"]
    conf.spelled(None, "function", "f", None, None, lines)
    assert lines == ["A ``Value``\\  and two ``Value``\\ s, ``done``.", ">>> `not this`"]


def test_the_reference_has_every_public_name():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\.\. auto\w+:: (flatgrad\.[\w.]+)$", text, re.MULTILINE)
    builtins = ["abs", "compile", "complex", "max", "min", "sum"]
    names = [f"flatgrad.{name}" for name in [*flatgrad.__all__, *builtins] if name != "nn"]
    assert sorted(shown) == sorted(names + [f"flatgrad.nn.{name}" for name in nn.__all__])


BASES = (errors.FlatgradError, errors.FlatgradWarning)


def kinds_of_errors():
    """All exceptions and warnings that users meet."""
    own = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, BASES)]
    return [*own, flatgrad.DerivativeError, nn.FileFormatError, nn.NonFiniteLossError]


@pytest.mark.parametrize("kind", kinds_of_errors(), ids=lambda kind: kind.__name__)
def test_every_exception_has_an_entry(kind):
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    entries = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    entry = entries[kind.__name__]
    if kind not in BASES:
        assert "**Cause.**" in entry
        assert "**Remedy.**" in entry
        assert f"| [`{kind.__name__}`](#{kind.__name__.lower()}) |" in text, "and a row in the table"
        bases = re.search(rf"^\| \[`{kind.__name__}`\].*? \| (.*?) \|", text, re.MULTILINE)[1]
        assert all(issubclass(kind, getattr(builtins, name)) for name in re.findall(r"`(\w+)`", bases))
        seen = "See" if issubclass(kind, Warning) else rf"Traceback .*\n{kind.__module__}\."
        assert re.search(rf"^ *{seen} ?{kind.__name__}\b", entry, re.MULTILINE), "its example, which is run, raises it"


def test_the_errors_page_names_no_others():
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == [
        *(base.__name__ for base in BASES),
        *re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE),
    ]


@pytest.mark.parametrize("kind", kinds_of_errors(), ids=lambda kind: kind.__name__)
def test_every_exception_names_its_entry_once(kind):
    """Also where it is raised again, pickled, of a class of a user, or of a private class."""
    text = f"See {kind.__name__} in docs/errors.md, or run: flatgrad errors {kind.__name__}\n"
    for each in (kind, type("OfAUser", (kind,), {"__module__": "model"})):
        error = each("message")
        for _ in range(2):
            with pytest.raises(each):
                raise error
        printed = "".join(traceback.format_exception_only(error))
        assert printed.count(text) == 1, printed
    error = pickle.loads(pickle.dumps(kind("message")))
    assert "".join(traceback.format_exception_only(error)).count(text) == 1


def test_every_warning_of_the_package_has_an_entry():
    """None of them is of a class of Python's."""
    calls = [
        (path.name, ast.unparse(node.args[1]))
        for path in Path(flatgrad.__file__).parent.rglob("*.py")
        if "warnings" in path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn"
    ]
    assert len(calls) >= 9
    assert [call for call in calls if not issubclass(getattr(flatgrad, call[1], int), errors.FlatgradWarning)] == []


def graph():
    """The graph of the tutorial's second part."""
    a, b, c, f = (Value(number, label=name) for name, number in {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}.items())
    product = a * b
    d = product + c
    root = d * f
    product.label, d.label, root.label = "product", "d", "L"
    root.backward()
    return flatgrad.draw_dot(root, rankdir="TB")


def kernel_of_a_line(count):
    """The kernel that the pages on the compiler follow, for so many points."""

    def loss(w, b, points):
        return sum((w * x + b - y) ** 2 for x, y in points)

    points = [(0.01 * k, 0.02 * k + 1.0) for k in range(count)]
    return flatgrad.value_and_grad(loss, argnums=(0, 1)).kernel_for(1.0, 0.0, points)


PICTURES = {
    "tutorial/graph.svg": graph,
    "how/program.svg": lambda: kernel_of_a_line(1).program.draw_dot(rankdir="TB"),
    "how/arrays.svg": lambda: kernel_of_a_line(100).arrays.draw_dot(rankdir="TB"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_what_is_drawn(name):
    """All texts in their cells; with FLATGRAD_UPDATE_GOLDEN=1, Graphviz draws them anew."""
    pytest.importorskip("graphviz")
    picture, path = PICTURES[name](), DOCS / name
    if os.environ.get("FLATGRAD_UPDATE_GOLDEN") == "1":
        drawing = picture.pipe(format="svg").decode()
        path.write_text(
            re.sub(r"^.*?(?=<svg)|<!--.*?-->\n|<title>.*?</title>\n", "", drawing, flags=re.DOTALL), "utf-8"
        )
    drawn = re.findall(r"<TD[^>]*>(.*?)</TD>", picture.source)
    shown = re.findall(r"<text[^>]*>(.*?)</text>", path.read_text(encoding="utf-8"))
    cells = [letters(re.sub(r"<[^>]*>", "", cell)) for cell in drawn]
    assert cells
    assert [cell for cell in cells if cell not in letters("".join(shown))] == []


def letters(text):
    """A text without spaces and entities."""
    return re.sub(r"\s", "", html.unescape(text).replace("\xa0", ""))
