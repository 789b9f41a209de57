"""Users' functions as their source says: parsed, compiled once more, and their arguments.

What Python warns of when it compiles a source, it has said when it compiled it for the user.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any, Literal

from .forks import in_child


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Python's warnings of sources go nowhere: an escape sequence that is none, `x is 1`, `return` in `finally`.

    The filters of warnings are those of all threads: so one thread at a time.
    """
    with _lock, warnings.catch_warnings():
        for category in (SyntaxWarning, DeprecationWarning):  # the second one: escape sequences in Python 3.11
            warnings.simplefilter("ignore", category)
        yield


@functools.lru_cache(maxsize=8)
def parsed(source: str) -> ast.Module:
    """The tree of a source; it is shared, and must not be changed.

    Raises:
        SyntaxError, ValueError: if it is none.
    """
    with _without_warnings():
        return ast.parse(source)


def compiled(
    source: str | ast.Module, filename: str, mode: Literal["exec", "eval"] = "exec", flags: int = 0
) -> CodeType:
    """The code of a source.

    Args:
        source: a text, or a tree.
        filename: what tracebacks call it.
        mode: whether it is statements or an expression.
        flags: those of `from __future__ import`.

    Raises:
        SyntaxError, ValueError: if it is none.
    """
    with _without_warnings():
        code: CodeType = compile(source, filename, mode, flags, True)
    return code


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function. What its annotations name need not be there.

    Raises:
        TypeError, ValueError: if it has none.

    Example:
        >>> signature_of(lambda x, y=1: x)
        <Signature (x, y=1)>
    """
    if sys.version_info >= (3, 14):  # annotations are evaluated here, and not where the function is defined
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


in_child(_renew_lock)
