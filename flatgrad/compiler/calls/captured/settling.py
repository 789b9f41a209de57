"""Tracing a function until the state that it captures no longer changes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from ....runtime.errors import CapturedStateWarning
from ....runtime.sites import user_level
from .draws import without_draws
from .state import Captured

Result = TypeVar("Result")


def trace_settled(
    run: Callable[[Captured], Result], roots: Callable[[], Sequence[Any]], name: str
) -> tuple[Result, Captured]:
    """Trace a function; return what `run` returns, and what the function captured.

    A function that changes what it reads is traced a second time: what has settled by then (something that is computed
    once and kept) is as good as a constant. What changes again is the subject of a warning.

    Args:
        run: traces; it gets what the function captures.
        roots: the function and what else leads to what it reads.
        name: of the function, for messages.

    Raises:
        TraceError: if the function draws random numbers.
    """
    captured = Captured(roots())
    result = without_draws(partial(run, captured), captured.draws, name)
    if captured.same():
        return result, captured
    captured = Captured(roots())
    result = without_draws(partial(run, captured), captured.draws, name)
    differences = captured.differences()
    captured = Captured(roots())
    # What holds traced Values was assigned before it was read, or the second trace would have met one of the first.
    results = captured.without_traced()
    differences = [difference for difference in differences if difference not in results]
    if differences:
        warnings.warn(
            f"{name} changes {', '.join(differences[:3])}, which it also reads. That happens while the function is "
            "traced, not at each call. Return the new value, or pass it as an argument",
            CapturedStateWarning,
            stacklevel=user_level(),
        )
    return result, captured
