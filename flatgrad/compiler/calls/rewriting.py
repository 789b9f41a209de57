"""Functions of the user's that are traced with other code: their source is parsed, changed, and compiled.

For as long as the trace goes on, the functions have the new code. One thread at a time does so. The others may run that
code meanwhile, so what it calls looks whether its own thread traces, and else does what the code did before.
"""

from __future__ import annotations

import ast
import copy
import functools
import linecache
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple, TypeVar

from ...runtime.atomic import Block, setting, step
from ...runtime.forks import in_child
from ...runtime.sites import place
from ...runtime.sources import compiled, parsed

R = TypeVar("R")

_FUTURES: Final = 0x1FE0000  # the flags of `from __future__ import`


class BusyError(Exception):
    """Another thread traces with other code, and does not come to an end."""


class UnchangedError(Exception):
    """There is nothing to be changed, or the source is not there."""


class Change(NamedTuple):
    """What is written in another way.

    Attributes:
        mark: a text that stands in the new source for `switch`.
        switch: an object that the new code calls. Its attribute `on` says whether this thread traces with it.
        concerns: whether there is something to be changed in a function.
        visitor: makes what changes the tree of a statement, for this tree. Equal ones make the same.
    """

    mark: str
    switch: Any
    concerns: Callable[[FunctionType], bool]
    visitor: Callable[[ast.AST], ast.NodeTransformer]


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """A code object, and those inside of it."""
    yield code
    for item in code.co_consts:
        if isinstance(item, CodeType):
            yield from codes_in(item)


def new_codes(functions: Iterable[FunctionType], changes: Sequence[Change]) -> dict[FunctionType, CodeType]:
    """The new code of those functions in which something is changed."""
    result = {}
    for function in functions:
        here = [change for change in changes if change.concerns(function)]
        code = _changed(function.__code__, tuple(here)) if here else None
        if code is not None:
            result[function] = code
    return result


def run_with(run: Callable[[], R], functions: Iterable[FunctionType], changes: Sequence[Change], wait: float) -> R:
    """What `run` returns while functions have other code.

    Args:
        run: traces.
        functions: those that may be called.
        changes: what is changed in them.
        wait: how many seconds, if another thread does so.

    Raises:
        UnchangedError: if there is nothing in which the first change is made.
        BusyError: if that thread still goes on then.
    """
    if not _lock.acquire(timeout=wait):
        raise BusyError
    try:
        codes, switches = new_codes(functions, changes), [change.switch for change in changes]
        calls = {id(item) for code in codes.values() for each in codes_in(code) for item in each.co_consts}
        if not switches[0].on and id(switches[0]) not in calls:
            raise UnchangedError
        changed, before, states = list(codes), [each.__code__ for each in codes], [switch.on for switch in switches]
        begin = setting(changed, "__code__", codes.values()), setting(switches, "on", [True] * len(switches))
        with Block(step(*begin), step(setting(switches, "on", states), setting(changed, "__code__", before))):
            return run()
    finally:
        _lock.release()


def _linked(code: CodeType, objects: Mapping[Any, Any]) -> CodeType:
    """The code with the objects that it calls in place of the marks."""
    constants = (
        _linked(item, objects) if isinstance(item, CodeType) else objects.get(item, item) if type(item) is str else item
        for item in code.co_consts
    )
    return code.replace(co_consts=tuple(constants))


@functools.lru_cache(maxsize=512)
def _changed(code: CodeType, changes: tuple[Change, ...]) -> CodeType | None:
    """The code of a function with changes; None if there are none, or the source is another one."""
    text = "".join(linecache.getlines(code.co_filename))
    try:
        body = parsed(text).body
    except (SyntaxError, ValueError):
        return None
    first = code.co_firstlineno
    inside = tuple(k for k, each in enumerate(body) if _first_line(each) <= first <= (each.end_lineno or 0))
    if not inside:
        return None
    plain, changed = (
        [each for each in _compiled(text, code.co_filename, inside, code.co_flags & _FUTURES, made)
         if place(each) == place(code)]
        for made in ((), changes)
    )  # fmt: skip
    is_ours = plain.count(code) == 1
    if len(plain) != len(changed) or not (is_ours or (len(plain) == 1 and _by_pytest(code))):
        return None
    new = changed[plain.index(code) if is_ours else 0]
    same = (
        new.co_freevars == code.co_freevars
        and new.co_varnames[: code.co_argcount] == code.co_varnames[: code.co_argcount]
    )
    return _linked(new, {change.mark: change.switch for change in changes}) if same and new != code else None


@functools.lru_cache(maxsize=64)
def _compiled(
    text: str, filename: str, inside: Sequence[int], flags: int, changes: tuple[Change, ...]
) -> list[CodeType]:
    """All code of some statements of a module with changes: methods of a class, for example, are compiled together."""
    body = parsed(text).body
    statements: list[Any] = [body[k] for k in inside]  # several may stand in one line
    if changes:
        statements = copy.deepcopy(statements)
    for change in changes:
        statements = [change.visitor(statement).visit(statement) for statement in statements]
    module = ast.Module([*_imports(body), *statements], [])  # names that are imported have other code
    if changes:
        ast.fix_missing_locations(module)
    return list(codes_in(compiled(module, filename, flags=flags)))


def _by_pytest(code: CodeType) -> bool:
    """Whether pytest has rewritten the `assert`s of a function."""
    return any(name.startswith("@pytest") for each in codes_in(code) for name in each.co_names)


def _imports(statements: Iterable[Any]) -> list[ast.stmt]:
    """The imports of a module."""
    result: list[ast.stmt] = []
    for each in statements:
        if isinstance(each, (ast.Import, ast.ImportFrom)):
            result.append(each)
        elif isinstance(each, (ast.If, ast.Try, ast.With)):
            result += _imports([*each.body, *getattr(each, "orelse", ()), *getattr(each, "finalbody", ())])
            result += _imports(handled for handler in getattr(each, "handlers", ()) for handled in handler.body)
    return result


def _first_line(node: Any) -> int:
    decorators = getattr(node, "decorator_list", [])
    return int(min([node.lineno, *(each.lineno for each in decorators)]))


#: One thread at a time changes the code of functions.
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


in_child(_renew_lock)
