"""The bar that says what is being prepared, and the warning for very large functions."""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
import threading
import warnings
from functools import reduce

import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler.program import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def slow(monkeypatch):
    """A clock on which a second and a half pass between any two looks."""
    monkeypatch.setattr(progress, "_clock", itertools.count(0.0, 1.5).__next__)


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.delenv("FLATGRAD_PROGRESS", raising=False)


def loss(x, y):
    return fg.tanh(x * y) + x


def prepare(function=loss, **options):
    return fg.value_and_grad(function, **options)(0.5, 0.25)


def shown(run=prepare, stream=None, **options):
    """What is on the terminal after a run."""
    stream = Terminal() if stream is None else stream
    with contextlib.redirect_stderr(stream):
        run(**options)
    return stream.getvalue()


@pytest.mark.parametrize("backend", ["python", "numpy", "auto"])
def test_a_slow_preparation_says_what_it_is_doing_and_how_large_the_program_is(slow, backend):
    text = shown(backend=backend)
    stages = [stage for stage in progress.STAGES if stage != "re-rolling" or backend == "numpy"]
    places = [text.index(f"loss: {stage}") for stage in stages]
    assert places == sorted(places)
    assert "loss: tracing 3 equations" in text
    assert text.endswith("\r")  # the bar has been taken away


def test_a_quick_one_says_nothing(monkeypatch):
    monkeypatch.setattr(progress, "_clock", lambda: 0.0)
    assert shown() == ""


def test_a_large_program_is_announced_before_the_second_is_over(monkeypatch):
    monkeypatch.setattr(progress, "_clock", lambda: 0.0)
    monkeypatch.setattr(progress, "LARGE", 4)
    text = shown()
    assert "tracing" not in text  # 3 equations
    assert "loss: printing" in text


def test_nothing_is_shown_where_stderr_is_no_terminal(slow, monkeypatch):
    assert shown(stream=io.StringIO()) == ""
    monkeypatch.setattr(sys, "stderr", None)
    assert prepare()[0] == pytest.approx(0.6243530, abs=1e-6)


@pytest.mark.parametrize("setting", ["0", "off", "No"])
def test_the_environment_turns_it_off(slow, monkeypatch, setting):
    monkeypatch.setenv("FLATGRAD_PROGRESS", setting)
    assert shown() == ""


def test_without_tqdm_there_is_no_bar(slow, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert shown() == ""


class Broken(Terminal):
    def write(self, text):
        raise BrokenPipeError


class Unknown(Terminal):
    def isatty(self):
        raise ValueError("I/O operation on closed file")


class Sink:
    """A stream that has no more than it must."""

    def write(self, text):
        raise AssertionError(text)


@pytest.mark.parametrize("stream", [Broken(), Unknown(), Sink()], ids=lambda stream: type(stream).__name__)
def test_a_stream_that_fails_stops_nothing(slow, stream):
    """Neither this function nor the bars of other threads, which share a lock."""
    with contextlib.redirect_stderr(stream):
        assert prepare()[0] == pytest.approx(0.6243530, abs=1e-6)
    assert progress._here.preparation is None
    others: list[str] = []
    thread = threading.Thread(target=lambda: others.append(shown()), daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert "loss: tracing" in others[0]


def test_the_bar_comes_with_its_text(slow):
    assert shown().startswith("\rloss: tracing")


def test_an_inner_function_belongs_to_the_preparation_of_the_outer_one(slow):
    inner = fg.grad(lambda z: fg.exp(z) * z)
    assert "f: tracing" in shown(function=lambda x, y: inner(x) * y)
    assert progress._here.preparation is None


def test_a_preparation_that_fails_takes_its_bar_away(slow):
    def wrong(x, y):
        progress.report("tracing", 1)
        raise KeyError(x)

    stream = Terminal()
    with pytest.raises(KeyError):
        shown(function=wrong, stream=stream)
    assert "wrong: tracing 1 equation" in stream.getvalue()
    assert stream.getvalue().endswith("\r")
    assert progress._here.preparation is None


def fit(**options):
    w = fg.Value(1.0)

    def squares(X, y):
        return reduce(lambda a, b: a + b, [(w * x - t) ** 2 for x, t in zip(X, y, strict=True)])

    nn.fit(squares, [w], nn.SGD(0.01), [1.0, 2.0], [1.0, 2.0], steps=3, **options)


def test_training_without_progress_shows_none(slow):
    assert shown(fit, progress=False) == ""


def test_the_bar_of_training_follows_those_of_preparation(slow):
    text = shown(fit)
    assert text.index("squares: tracing") < text.index("training: 100%")
    assert "squares" not in text[text.index("training:") :]


def long_sum(x, y):
    for _ in range(140_000):
        x = x + y
    return x


def test_a_very_large_function_is_warned_of_once(monkeypatch):
    monkeypatch.setattr(progress, "MANY", 1_000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare(long_sum, backend="numpy")
    (warning,) = caught
    assert "long_sum has more than 1,000 operations" in str(warning.message)
    assert "batch" in str(warning.message)
    assert warning.filename == __file__
