"""The texts of `Value`s of a function that is traced: people may read them, and nothing may depend on them."""

from __future__ import annotations

from collections.abc import Callable
from sys import _getframe
from typing import Any, Final

from .errors import TraceError
from .sites import is_internal, is_library
from .tracing import forbidden, recorder

#: What asks what a text says. Printing it, or putting it into another text, does not.
_QUESTIONS: Final = (
    "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__len__", "__contains__", "__iter__",
    "startswith", "endswith", "find", "rfind", "index", "rindex", "count", "split", "rsplit", "isdigit", "isnumeric",
    "isdecimal",
)  # fmt: skip
#: What makes another text of it, to be printed.
_PIECES: Final = (
    "__getitem__", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix", "replace", "partition", "rpartition",
    "ljust", "rjust", "center",
)  # fmt: skip


class NumberText(str):
    """A text with the number at hand. While a function is traced, its code gets no answer from it."""

    __slots__ = ()

    def __bool__(self) -> bool:
        """It is never empty, whatever the number is."""
        return True


class NumberPiece(NumberText):
    """A part of such a text. Whether it is empty depends on the number."""

    __slots__ = ()

    def __bool__(self) -> bool:
        if _is_asked():
            raise _decided()
        return str.__len__(self) > 0


def _is_asked() -> bool:
    """Whether a function that is traced asks, two frames above, and not this package or a library."""
    if recorder() is None:
        return False
    code = _getframe(2).f_code
    return not is_internal(code.co_filename) and not is_library(code)


def _decided() -> TraceError:
    return forbidden("deciding by the text of a Value", "Compare the Value itself, as in x == 3.0; that is a branch.")


def _asking(name: str) -> Any:
    original: Callable[..., Any] = getattr(str, name)

    def ask(self: NumberText, *arguments: Any) -> Any:
        if _is_asked():
            raise _decided()
        return original(self, *arguments)

    ask.__name__ = name
    return ask


def _taking(name: str) -> Any:
    original: Callable[..., Any] = getattr(str, name)

    def take(self: NumberText, *arguments: Any) -> Any:
        result = original(self, *arguments)
        if not _is_asked():
            return result
        return tuple(map(NumberPiece, result)) if isinstance(result, tuple) else NumberPiece(result)

    take.__name__ = name
    return take


for _names, _make in ((_QUESTIONS, _asking), (_PIECES, _taking)):
    for _name in _names:
        setattr(NumberText, _name, _make(_name))
