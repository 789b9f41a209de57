"""What is being prepared, shown on a terminal or in a notebook if it takes longer than a second.

A preparation is the way of one function from tracing to code: `preparing` is around it, and each stage says `report`.
Reports are rare (a stage, or 65,536 traced operations), and look at a clock; nothing else runs meanwhile.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ...runtime.errors import PerformanceWarning
from ...runtime.sites import user_level
from ...runtime.wording import count_of

#: The stages, in their order.
STAGES = ("tracing", "differentiating", "re-rolling", "printing", "compiling")
#: Seconds after which a bar appears; a program of so many equations will take that long.
DELAY, LARGE = 1.0, 300_000
#: Above so many traced operations there is a warning.
MANY = 10_000_000
#: Values of the environment variable that turn bars off.
_OFF = ("0", "off", "no", "false")

_clock = time.monotonic


class _Here(threading.local):
    """What this thread is preparing."""

    preparation: _Preparation | None = None


class _Preparation:
    def __init__(self, name: str, hidden: bool) -> None:
        self.name, self.start, self.hidden = name, _clock(), hidden
        self.bar: Any = None

    def report(self, stage: str, equations: int) -> None:
        if self.hidden or (self.bar is None and _clock() - self.start < DELAY and equations < LARGE):
            return
        try:
            self._show(stage, equations)
        except Exception:  # the stream is closed or broken: no reason to fail
            self.hidden = True

    def _show(self, stage: str, equations: int) -> None:
        if self.bar is None:
            self.bar = _bar()
        if self.bar is None:
            self.hidden = True
            return
        size = f" {count_of(equations, 'equation')}" if equations else ""
        self.bar.set_description_str(f"{self.name}: {stage}{size}", refresh=False)
        self.bar.n = STAGES.index(stage)
        with self.bar.get_lock():  # tqdm's `refresh` would keep the lock after an error, and stop all other threads
            self.bar.display()

    def end(self) -> None:
        if self.bar is not None:
            with suppress(Exception):
                self.bar.close()


_here = _Here()


def _bar() -> Any:
    """A bar; None where stderr is no terminal, where the environment says so, and where tqdm is missing."""
    stream = sys.stderr
    if stream is None or not stream.isatty() or os.environ.get("FLATGRAD_PROGRESS", "").strip().lower() in _OFF:
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    form = "{desc} |{bar:20}| {elapsed}"
    bar = tqdm(total=len(STAGES), leave=False, disable=None, bar_format=form, delay=1e-9)  # nothing is shown yet
    if not hasattr(bar, "container"):  # on a terminal; a notebook shows the bar when it is displayed first
        bar.delay = 0.0
    return bar


@contextmanager
def preparing(name: str, *, hidden: bool = False) -> Iterator[None]:
    """Inside of the `with` block, a function of this name is prepared.

    A preparation in the middle of another one of the same thread belongs to that one.

    Args:
        name: of the function.
        hidden: show nothing.

    Example:
        >>> with preparing("loss"):
        ...     report("tracing", 10)
    """
    if _here.preparation is not None:
        yield
        return
    preparation = _here.preparation = _Preparation(name, hidden)
    try:
        yield
    finally:
        _here.preparation = None
        preparation.end()


def report(stage: str, equations: int) -> None:
    """Say at which of `STAGES` this thread's preparation is, and how large its program is."""
    if _here.preparation is not None:
        _here.preparation.report(stage, equations)


def warn_of_size(name: str) -> None:
    """The warning for a function of which more than `MANY` operations have been traced."""
    warnings.warn(
        f"{name} has more than {MANY:,} operations, and tracing goes on. Such a program takes minutes and gigabytes to "
        "prepare. Compile a function of a part of the data (a batch, or one example), call it in a loop, and add up "
        "the values and gradients; nn.fit does so with batch_size=...",
        PerformanceWarning,
        stacklevel=user_level(),
    )
