"""The texts of `Value`s of a function that is traced: people may read them, and nothing may depend on them."""

from __future__ import annotations

from collections.abc import Callable
from sys import _getframe
from typing import Any, Final

from .sites import is_internal, is_library
from .tracing import forbidden, recorder

#: What asks what a text says. Printing it, or putting it into another text, does not.
_QUESTIONS: Final = (
    "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__len__", "__contains__", "__getitem__",
    "__iter__", "startswith", "endswith", "find", "rfind", "index", "rindex", "count", "partition", "rpartition",
    "split", "rsplit", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix", "replace", "isdigit", "isnumeric",
    "isdecimal",
)  # fmt: skip


class NumberText(str):
    """A text with the number at hand. While a function is traced, its code gets no answer from it."""

    __slots__ = ()

    def __bool__(self) -> bool:
        """It is never empty, whatever the number is."""
        return True


def _asking(name: str) -> Any:
    original: Callable[..., Any] = getattr(str, name)

    def ask(self: NumberText, *arguments: Any) -> Any:
        if recorder() is not None:
            code = _getframe(1).f_code
            if not is_internal(code.co_filename) and not is_library(code):
                raise forbidden(
                    "deciding by the text of a Value", "Compare the Value itself, as in x == 3.0; that is a branch."
                )
        return original(self, *arguments)

    ask.__name__ = name
    return ask


for _name in _QUESTIONS:
    setattr(NumberText, _name, _asking(_name))
