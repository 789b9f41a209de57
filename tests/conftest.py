"""Shared set-up: the Hypothesis profile, golden files, and modules written for one test."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.examples import examples, left_out

settings.register_profile(
    "flatgrad",
    deadline=None,
    max_examples=examples(100),
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    # The same examples at every run of continuous integration; new ones at every run by hand.
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("flatgrad")

# Compiled code goes to a folder of this run, not to that of whoever runs the tests.
os.environ["FLATGRAD_CACHE_DIR"] = tempfile.mkdtemp(prefix="flatgrad-cache-")

_perf_counter = time.perf_counter


def slow_clock() -> float:
    """With FLATGRAD_TEST_CLOCK=30 everything seems to take thirty times as long as it does: a slow machine."""
    return _perf_counter() * float(os.environ["FLATGRAD_TEST_CLOCK"])


if "FLATGRAD_TEST_CLOCK" in os.environ:
    time.perf_counter = slow_clock

# Nothing of what importing and collecting thousands of tests makes is garbage; the collector would look at all of it.
gc.disable()

#: Emitted source is compared as text, not collected as tests.
collect_ignore_glob = ["golden/*"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow tests, or all but a part of them, unless they are named one by one."""
    if any("::" in argument for argument in config.args):
        return
    out = [item for item in items if item.get_closest_marker("slow") and left_out(item.nodeid)]
    if out:
        config.hook.pytest_deselected(items=out)
        gone = set(out)
        items[:] = [item for item in items if item not in gone]


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Collect tests here, and leave docstrings alone: examples stand in those of the package only."""
    found = yield
    return [each for each in found if type(each) is pytest.Module]


def pytest_collection_finish() -> None:
    """Keep what all modules have made out of the collector's sight: tests collect garbage often, to look for leaks."""
    gc.collect()
    gc.freeze()
    gc.enable()


GOLDEN = Path(__file__).parent / "golden"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse tests over the members of a set: two workers that share the tests would collect them in two orders."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        values = mark.args[1] if len(mark.args) > 1 else mark.kwargs["argvalues"]
        if isinstance(values, set | frozenset):
            raise TypeError(f"{metafunc.definition.nodeid} goes through a set; sort it or use a list")


@pytest.fixture
def golden():
    """Compare a text with a file below `tests/golden`; with FLATGRAD_UPDATE_GOLDEN=1, write the file instead."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("FLATGRAD_UPDATE_GOLDEN") == "1":
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path.name} is missing; run with FLATGRAD_UPDATE_GOLDEN=1 to write it"
        assert text == path.read_text(encoding="utf-8"), (
            f"{path.name} differs; if the change is intended, run again with FLATGRAD_UPDATE_GOLDEN=1 and review it"
        )

    return compare


@pytest.fixture
def flat(monkeypatch):
    """Let "auto" choose flat Python, whatever the size: for tests of that back end."""
    monkeypatch.setattr("flatgrad.compiler.languages.costs.TINY", 10**9)


@pytest.fixture(scope="module")
def tab():
    """A tab of Chromium for the tests of a file: to start it takes two seconds, and each further tab half a second.

    Its event loop runs until the end of the file; tests of other files start loops of their own.
    """
    from tests import pictures

    with pictures.browser() as chromium:
        yield chromium.new_page()


@pytest.fixture
def hurried():
    """Switch threads as often as the interpreter can, so that errors between threads become likely."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def without_home(monkeypatch):
    """No home folder, as in containers that run under a user whom the system does not know."""
    pwd = pytest.importorskip("pwd", reason="where a home folder comes from differs")

    def unknown(user):
        raise KeyError(user)

    for name in ("FLATGRAD_CACHE_DIR", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.fixture
def module_from(tmp_path):
    """Import a piece of source from a file of its own, so that line numbers and texts of lines are known."""

    def load(source: str, name: str = "user_code"):
        path = tmp_path / f"{name}.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
