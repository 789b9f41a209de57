"""Tracing a function until the state that it captures no longer changes."""

from __future__ import annotations

import warnings
from _thread import get_ident
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from ....runtime.errors import CapturedStateWarning
from ....runtime.forks import in_child
from ....runtime.sites import user_level
from .draws import without_draws
from .state import Captured

Result = TypeVar("Result")

#: So often a function is traced again where other threads trace, and may have made the changes.
_PATIENCE: Final = 8
#: Per thread, how many traces have begun, and how many go on.
_begun: Final[Counter[int]] = Counter()
_running: Final[Counter[int]] = Counter()

in_child(_running.clear)


def _of_others() -> tuple[int, bool]:
    """How many traces have begun in other threads, and whether one goes on."""
    me = get_ident()
    return (
        sum(count for thread, count in list(_begun.items()) if thread != me),
        any(count for thread, count in list(_running.items()) if thread != me),
    )


def trace_settled(
    run: Callable[[Captured], Result], roots: Callable[[], Sequence[Any]], name: str
) -> tuple[Result, Captured]:
    """Trace a function; return what `run` returns, and what the function captured.

    A function that changes what it reads is traced a second time: what has settled by then (something that is computed
    once and kept) is as good as a constant. What changes again is the subject of a warning; only, where another thread
    traced meanwhile, it may have made the change, and the function is traced once more.

    Args:
        run: traces; it gets what the function captures.
        roots: the function and what else leads to what it reads.
        name: of the function, for messages.

    Raises:
        TraceError: if the function draws random numbers.
    """
    me = get_ident()
    _begun[me] += 1
    _running[me] += 1
    try:
        return _settled(run, roots, name)
    finally:
        _running[me] -= 1


def _settled(
    run: Callable[[Captured], Result], roots: Callable[[], Sequence[Any]], name: str
) -> tuple[Result, Captured]:
    captured = Captured(roots())
    result = without_draws(partial(run, captured), captured.draws, name)
    if captured.same():
        return result, captured
    for _ in range(_PATIENCE):
        before, were_others = _of_others()
        captured = Captured(roots())
        result = without_draws(partial(run, captured), captured.draws, name)
        differences = captured.differences()
        captured = Captured(roots())
        # What holds traced Values was assigned before it was read, or a later trace would have met one of an earlier.
        results = captured.without_traced()
        differences = [difference for difference in differences if difference not in results]
        count, others = _of_others()
        if not differences or (count == before and not others and not were_others):
            break
    if differences:
        warnings.warn(
            f"{name} changes {', '.join(differences[:3])}, which it also reads. That happens while the function is "
            "traced, not at each call. Return the new value, or pass it as an argument",
            CapturedStateWarning,
            stacklevel=user_level(),
        )
    return result, captured
