"""Which recorder, if any, the operations of the current thread go to.

`Value` asks `active` (one truth test, almost always of an empty list) before every operation; only while some thread
traces does it ask `recorder()` whether that thread is this one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from .errors import TraceError
from .sites import call_site, describe, locate


class Recorder(Protocol):
    """What a trace offers to the engine: it takes an operation and returns its symbolic result."""

    def record(self, primitive: Any, operands: Sequence[Any]) -> Any: ...


class _Thread(threading.local):
    """What belongs to one thread: the recorders of the functions that it is tracing, innermost last."""

    def __init__(self) -> None:
        self.stack: list[Recorder | None] = []


#: The recorders of all threads.
active: list[Recorder] = []
_thread = _Thread()


def recorder() -> Recorder | None:
    """The innermost recorder of this thread, or None where operations are simply executed."""
    stack = _thread.stack
    return stack[-1] if stack else None


@contextmanager
def recording(new: Recorder | None) -> Iterator[None]:
    """Send this thread's operations to `new` (None: execute them) inside the `with` block."""
    stack = _thread.stack
    stack.append(new)
    if new is not None:
        active.append(new)
    try:
        yield
    finally:
        stack.pop()
        if new is not None:
            active.remove(new)


def forbidden(what: str, remedy: str) -> TraceError:
    """The error for something that would freeze one example's number while tracing."""
    where = describe(locate(call_site(2)))
    return TraceError(
        f"{what} while the function is being traced would freeze one example's number into the compiled program. "
        f"{remedy}{where}"
    )
