"""Tracebacks of errors, as they are printed where nobody catches them: they end at the user's line.

The message names the user's line, so frames inside this package are left out when Python prints the traceback of a
`FlatgradError`, in scripts, threads and IPython; in scripts and threads also where the user's function, called from
here, has raised another error. The error itself keeps all frames, for debuggers, so that whoever prints it by other
means (`traceback`, `logging`, pytest) shows them. With the environment variable FLATGRAD_FULL_TRACEBACK=1 they are
printed everywhere.
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


def folded(traceback: TracebackType | None, ours: bool = True) -> TracebackType | None:
    """A traceback without the frames of this package, and of libraries that it called; the same if no other is left.

    Args:
        traceback: of an error. It is not changed.
        ours: whether the error is a `FlatgradError`. Any other is folded only if the user's code has raised it: one
            that this package has raised is a mistake in the package, and its frames are needed.

    Example:
        >>> import flatgrad as fg
        >>> try:
        ...     fg.grad(lambda x: fg.log(x))(-1.0)
        ... except fg.DomainError as error:
        ...     print(folded(error.__traceback__).tb_next)
        None
    """
    entries = []
    hidden = left_out = False
    entry = traceback
    while entry is not None:
        code = entry.tb_frame.f_code
        hidden = is_internal(code.co_filename) or (hidden and is_library(code))
        left_out |= hidden
        if not hidden:
            entries.append(entry)
        entry = entry.tb_next
    if not left_out or not entries or (hidden and not ours):
        return traceback
    new: TracebackType | None = None
    for entry in reversed(entries):
        new = TracebackType(new, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return new


def printed_with(error: BaseException) -> list[BaseException]:
    """An error, what it was raised from or meanwhile, and the errors of a group, as far as Python prints them."""
    errors: list[BaseException] = []
    stack: list[BaseException | None] = [error]
    while stack:
        each = stack.pop()
        if each is not None and all(each is not other for other in errors):
            errors.append(each)
            stack.append(each.__cause__ or (None if each.__suppress_context__ else each.__context__))
            stack += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
    return errors


def show(error: BaseException, traceback: TracebackType | None, print_traceback: Callable[[Any], Any]) -> Any:
    """Have the traceback of an error printed, without frames of this package; so those of errors that belong to it.

    Args:
        error: the error.
        traceback: its traceback.
        print_traceback: prints the error with the traceback that it gets.
    """
    if os.environ.get("FLATGRAD_FULL_TRACEBACK", "") not in ("", "0"):
        return print_traceback(traceback)
    short = folded(traceback, isinstance(error, FlatgradError))
    originals = [(each, each.__traceback__) for each in printed_with(error)]
    left_out = short is not traceback
    try:
        for each, original in originals:
            new = folded(original, isinstance(each, FlatgradError))
            if new is not original:
                each.__traceback__, left_out = new, True
        return print_traceback(short)
    finally:
        for each, original in originals:
            if each.__traceback__ is not original:
                each.__traceback__ = original
        if left_out:
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
