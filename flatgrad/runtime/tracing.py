"""Which recorder, if any, the operations of the current thread go to.

`Value` asks `active` (one truth test, almost always of an empty dict) before every operation, and `recorder()` only
while some thread traces. The dict is all the state, and changes in one step: an interrupt leaves no recorder behind.
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from .atomic import Block
from .errors import TraceError
from .forks import in_child
from .sites import user_line


class Recorder(Protocol):
    """What a trace offers to the engine: it takes an operation and returns its symbolic result.

    Attributes:
        refusal: the first error of `refuse` since the trace began.
        faults: what becomes of operations at which Python raises: "raise", or "ieee" for inf and NaN.
    """

    refusal: TraceError | None
    faults: str

    def record(self, primitive: Any, operands: Sequence[Any]) -> Any: ...

    def put_numbers(self, error: Exception) -> None: ...


#: The recorders of each thread that traces, innermost last, by the thread's number. (Machine code looks here, too.)
active: dict[int, tuple[Recorder | None, ...]] = {}


def recorder() -> Recorder | None:
    """The innermost recorder of this thread, or None where operations are simply executed."""
    recorders = active.get(get_ident())
    return recorders[-1] if recorders else None


def recorders() -> tuple[Recorder | None, ...]:
    """The recorders of this thread, innermost last; None among them stands for operations that are executed."""
    return active.get(get_ident(), ())


def traces_without_faults() -> bool:
    """Whether this thread traces a function in which operations give inf and NaN where Python raises."""
    current = recorder()
    return current is not None and current.faults == "ieee"


def records(trace: Any) -> bool:
    """Whether a trace is still going on, in any thread."""
    return any(trace is each for recorders in list(active.values()) for each in recorders)


def recording(new: Recorder | None) -> Block:
    """Send this thread's operations to `new` (None: execute them) inside the `with` block."""
    thread = get_ident()
    before = active.get(thread)
    end = partial(active.pop, thread, None) if before is None else partial(active.__setitem__, thread, before)
    return Block(partial(active.__setitem__, thread, (*(before or ()), new)), end)


def _forget_other_threads() -> None:
    """In the child of a fork: the other threads, which may have been tracing, are gone."""
    mine = recorders()
    active.clear()
    if mine:
        active[get_ident()] = mine


in_child(_forget_other_threads)


def forbidden(what: str, remedy: str) -> TraceError:
    """The error for something that would freeze one example's number while tracing."""
    return refuse(
        f"{what} while the function is being traced would freeze one example's number into the compiled program. "
        f"{remedy}"
    )


def refuse(message: str, trace: Recorder | None = None, where: str | None = None) -> TraceError:
    """A `TraceError` with the user's line (or with `where`), to be raised.

    If the user's function catches it and goes on, what it does then would be compiled for every number. So each trace
    of this thread, and `trace` while it goes on, remembers its first refusal; `refusals_raised` raises it at the end.
    """
    error = TraceError(f"{message}{user_line() if where is None else where}")
    for each in (*recorders(), trace if records(trace) else None):
        if each is not None and each.refusal is None:
            each.refusal = error
    return error


#: The last line of a refusal that did not reach the end of the trace by itself.
CAUGHT = (
    "\nThe function caught this error and went on. What it does then is right for one example only, "
    "so the error is raised again at the end."
)


@contextmanager
def refusals_raised(trace: Recorder) -> Iterator[None]:
    """At the end of the block raise what was refused to `trace` in it, even if the user's code has caught it."""
    try:
        yield
    except Exception as other:
        if trace.refusal is None or other is trace.refusal:
            trace.put_numbers(other)
            raise
        raise _repeated(trace.refusal) from other
    else:
        if trace.refusal is not None:
            raise _repeated(trace.refusal) from trace.refusal
    finally:
        trace.refusal = None  # an error refers to frames, which refer to the trace


def _repeated(refusal: TraceError) -> TraceError:
    """The error to raise for one that was caught; the outer traces expect it from now on."""
    message = str(refusal)
    error = TraceError(message if message.endswith(CAUGHT) else message + CAUGHT)
    for each in recorders():
        if each is not None and each.refusal is refusal:
            each.refusal = error
    return error
