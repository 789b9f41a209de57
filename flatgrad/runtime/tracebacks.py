"""Tracebacks of our errors, as they are printed where nobody catches them: they end at the user's line.

The message names the user's line, so frames inside this package are left out when Python prints the traceback of a
`FlatgradError`, in scripts, threads and IPython. The error itself keeps them, for debuggers. With the environment
variable FLATGRAD_FULL_TRACEBACK=1 they are printed, too.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .errors import FlatgradError
from .sites import is_internal, is_library

#: Printed behind a traceback of which something was left out.
NOTE = "(Frames inside flatgrad are left out. The environment variable FLATGRAD_FULL_TRACEBACK=1 shows them.)"


def folded(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this package, and of libraries that it called; the same if no other is left.

    Args:
        traceback: of an error. It is not changed.

    Example:
        >>> import flatgrad as fg
        >>> try:
        ...     fg.grad(lambda x: fg.log(x))(-1.0)
        ... except fg.DomainError as error:
        ...     print(folded(error.__traceback__).tb_next)
        None
    """
    entries = []
    hidden = False
    entry = traceback
    while entry is not None:
        code = entry.tb_frame.f_code
        hidden = is_internal(code.co_filename) or (hidden and is_library(code))
        if not hidden:
            entries.append(entry)
        entry = entry.tb_next
    if not entries:
        return traceback
    new: TracebackType | None = None
    for entry in reversed(entries):
        new = TracebackType(new, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return new


def length(traceback: TracebackType | None) -> int:
    """How many frames a traceback has."""
    count = 0
    while traceback is not None:
        count, traceback = count + 1, traceback.tb_next
    return count


def show(error: BaseException, traceback: TracebackType | None, print_traceback: Callable[[Any], Any]) -> Any:
    """Have the traceback of an error printed, without frames of this package if the error is ours.

    Args:
        error: the error; what it was raised from is folded, too.
        traceback: its traceback.
        print_traceback: prints the error with the traceback that it gets.
    """
    if not isinstance(error, FlatgradError) or os.environ.get("FLATGRAD_FULL_TRACEBACK", "") not in ("", "0"):
        return print_traceback(traceback)
    originals: list[tuple[BaseException, TracebackType | None]] = []
    each: BaseException | None = error
    while each is not None and all(each is not other for other, _ in originals):
        originals.append((each, each.__traceback__))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    short = folded(traceback)
    try:
        for each, original in originals:
            if isinstance(each, FlatgradError):
                each.__traceback__ = folded(original)
        return print_traceback(short)
    finally:
        for each, original in originals:
            each.__traceback__ = original
        if length(short) < length(traceback):
            print(NOTE, file=sys.stderr)


def install() -> None:
    """Fold tracebacks of errors that nobody catches, in this process. What other packages have installed still runs."""
    shown, shown_in_thread = sys.excepthook, threading.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        show(error, traceback, lambda short: shown(kind, error, short))

    def thread_excepthook(arguments: Any) -> None:
        kind, error, traceback, thread = arguments
        if error is None:
            shown_in_thread(arguments)
        else:
            show(
                error, traceback, lambda short: shown_in_thread(threading.ExceptHookArgs((kind, error, short, thread)))
            )  # fmt: skip

    sys.excepthook, threading.excepthook = excepthook, thread_excepthook
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if shell is not None:
        shell.set_custom_exc((FlatgradError,), _in_ipython)


def _in_ipython(
    shell: Any, kind: type[BaseException], error: BaseException, traceback: Any, tb_offset: int | None = None
) -> Any:
    """The lines that IPython prints."""
    lines = shell.InteractiveTB.structured_traceback
    return show(error, traceback, lambda short: lines(kind, error, short, tb_offset=tb_offset))
