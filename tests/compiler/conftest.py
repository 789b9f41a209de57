"""Fixtures of several files of tests of the compiler."""

from __future__ import annotations

import pytest

from flatgrad.compiler.machine import native, open_recall


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty cache, on the disk and in this process; the code of builtins is loaded already."""
    native._builtin_code()
    monkeypatch.delenv("FLATGRAD_CACHE", raising=False)
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "cache"))
    open_recall.forget()
    yield tmp_path / "cache"
    open_recall.forget()
