"""`flatgrad errors`: every entry of the page, on a terminal or in a pipe."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from flatgrad import entries
from flatgrad.cli import main
from flatgrad.runtime import errors
from flatgrad.terminal import Terminal
from tests.test_site import kinds_of_errors

PAGE = (Path(__file__).parent.parent / "docs" / "errors.md").read_text(encoding="utf-8")


@pytest.fixture
def screen():
    return Terminal(io.StringIO())


def test_a_clone_reads_the_page_of_the_documentation():
    assert entries.page() == PAGE


def test_a_package_without_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "_PLACES", (tmp_path / "errors.md",))
    with pytest.raises(errors.FlatgradError, match="no page of errors"):
        entries.page()


def test_the_list_has_all_that_can_be_raised(capsys):
    assert main(["errors"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted([*listed, "FlatgradError", "FlatgradWarning"]) == sorted(kind.__name__ for kind in kinds_of_errors())


@pytest.mark.parametrize("kind", kinds_of_errors(), ids=lambda kind: kind.__name__)
def test_the_command_that_an_error_names_prints_all_of_its_entry(kind, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    error = kind("message")
    (command,) = re.findall(r"flatgrad (errors \w+)$", "".join(getattr(error, "__notes__", [])) or str(error))
    assert main(command.split()) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(kind.__name__)
    source = re.search(rf"^## {kind.__name__}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    assert re.findall(r">>> [^#\n]*[^#\n ]", out) == re.findall(r">>> [^#\n]*[^#\n ]", source)
    text = re.sub(r"\]\(.*?\)", "", re.sub(r"# doctest.*", "", source))
    missing = set(re.findall(r"[A-Za-z]{4,}", text)) - set(re.findall(r"[A-Za-z]{4,}", out)) - {"python"}
    assert missing == set()
    for markup in ("**Cause", "**Remedy", "](", "```", "doctest", "| "):
        assert markup not in out
    prose = [line for line in out.splitlines()[1:] if not line.startswith("    ")]
    assert max(map(len, prose), default=0) <= 80


@pytest.mark.parametrize("name", ["tableindexerror", "fg.TableIndexError", "flatgrad.runtime.errors.TableIndexError"])
def test_names_as_one_writes_them(name, screen):
    assert entries.entry(PAGE, name, screen).startswith("TableIndexError (also an IndexError): a row that")


def test_a_name_that_does_not_exist(capsys):
    assert main(["errors", "DomanError"]) == 2
    assert capsys.readouterr().err.startswith("flatgrad: there is no entry DomanError; did you mean DomainError?\n")
    assert main(["errors", "TypeError"]) == 2
    assert "did you mean InputError or IntegerError or TraceError?\n" in capsys.readouterr().err
    assert main(["errors", "Frobnicate"]) == 2
    assert "`flatgrad errors` lists all" in capsys.readouterr().err


def test_tables_links_and_examples_as_text(screen, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = """\
| name | is also | in short |
| --- | --- | --- |
| [`OneError`](#oneerror) | `OverflowError` | too much |

## OneError

**Cause.** See [a page](page.md#part) or [above](#oneerror).

```python
>>> f(1)                       # doctest: +ELLIPSIS
2

>>> g(1)
3

```

| written | instead |
| --- | --- |
| `a` | `b`, a word and another word and another word and another |
"""
    assert (
        entries.entry(text, "OneError", screen)
        == """\
OneError (also an OverflowError): too much

Cause. See a page (docs/page.md) or above.

    >>> f(1)
    2

    >>> g(1)
    3

  written  instead
  `a`      `b`, a word and another word and another word and
           another"""
    )


def test_colours():
    pytest.importorskip("rich")
    printed = entries.entry(PAGE, "DomainError", Terminal(io.StringIO(), "always"))
    assert "\x1b[1mDomainError" in printed
    assert "\x1b[1mCause." in printed
    assert "**" not in printed
