"""Where a function catches what an operation raises: `try` with `except ZeroDivisionError`, or the like.

An exception of an operation comes when a kernel is called, too late for the function to catch it. Therefore operations
in such a `try` ask whether they raise, while the function is traced: that is a way (`ways`).
"""

from __future__ import annotations

import dis
from types import CodeType, FrameType
from typing import Any, Final

from ...runtime.sites import is_internal

#: What `except` may name without catching what operations raise.
_OTHERS: Final = frozenset(
    {"AttributeError", "AssertionError", "ImportError", "KeyError", "NameError", "NotImplementedError", "OSError"}
    | {"IndexError", "LookupError", "StopIteration", "TypeError", "FileNotFoundError", "ModuleNotFoundError"}
)
#: Of code objects with an `except`, by id: the code itself, and the instructions whose exceptions it may catch.
_caught: dict[int, tuple[CodeType, list[range]]] = {}


def is_caught(frame: FrameType | None, root: CodeType) -> bool:
    """Whether a frame, or a caller of it below that of `root`, may catch what an operation raises there."""
    while frame is not None and frame.f_code is not root:
        code = frame.f_code
        if code.co_exceptiontable and not is_internal(code.co_filename):
            known = _caught.get(id(code))
            if known is None:
                known = _caught[id(code)] = code, caught_in(code)
            if any(frame.f_lasti in each for each in known[1]):
                return True
        frame = frame.f_back
    return False


def caught_in(code: CodeType) -> list[range]:
    """The offsets of the instructions in `try` statements that may catch what an operation raises.

    >>> def f(x):
    ...     try:
    ...         return 1.0 / x
    ...     except ZeroDivisionError:
    ...         return 0.0
    >>> def g(x, file):
    ...     with file:
    ...         try:
    ...             return x["key"]
    ...         finally:
    ...             file.flush()
    >>> len(caught_in(f.__code__)), caught_in(g.__code__)
    (1, [])
    >>> import contextlib
    >>> def h(x):
    ...     with contextlib.suppress(ZeroDivisionError):
    ...         x = 1.0 / x
    ...     return x
    >>> len(caught_in(h.__code__))
    1
    """
    parse: Any = dis._parse_exception_table  # type: ignore[attr-defined]
    instructions = list(dis.get_instructions(code))
    at = {each.offset: k for k, each in enumerate(instructions)}
    return [
        range(entry.start, entry.end)
        for entry in parse(code)
        if entry.target in at and _catches(instructions[at[entry.target] :], "suppress" in code.co_names)
    ]


def _catches(handler: list[dis.Instruction], suppresses: bool) -> bool:
    """Whether what begins here are `except` clauses of which one may fit, and not the end of `with` or `finally`.

    The end of `with` does so if it may be that of `contextlib.suppress(...)`.
    """
    if handler[0].opname != "PUSH_EXC_INFO" or handler[1].opname == "WITH_EXCEPT_START":
        return suppresses and handler[0].opname == "PUSH_EXC_INFO"
    names, is_bare = set[str](), True
    for each in handler[1:]:
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(each.argval)
        elif each.opname == "CHECK_EXC_MATCH":
            if not names or names - _OTHERS:
                return True
            names, is_bare = set(), False
        elif each.opname == "POP_EXCEPT" and is_bare:
            return True
        elif each.opname == "RERAISE":
            return False
    return False
