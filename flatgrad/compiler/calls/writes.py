"""What a traced function writes into its arguments: items that it appends, assigns or removes.

The function gets lists, dicts and arrays of its own, put together from the kinds of the arguments. Whether it has
changed them is seen by comparing them with what they were. `compile` returns the new items beside the results, and
writes them into the caller's lists, dicts and arrays after each call, as Python would. Where that cannot be had, it is
an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ...runtime.errors import InputError
from ...runtime.sites import Location, describe, lines_of
from ...runtime.tracing import refuse
from .array_kinds import Array, Numbers, object_array
from .captured import Captured
from .kind import Compound, Kind
from .kinds import Contents
from .records import is_record, member, place_of, state_of

#: Where an object among the arguments is: the position of an argument, then indices and keys.
Path = tuple[Any, ...]
#: The built-in types that a function may write into.
_CONTAINERS: Final = (list, tuple, dict, np.ndarray)


class Containers:
    """The lists, dicts and arrays among some arguments, as they are before a function is called with them.

    Args:
        kinds: of the arguments.
        items: the arguments.

    >>> numbers = [1.0, 2.0]
    >>> containers = Containers([Numbers(list, 2)], [numbers])
    >>> numbers.append(3.0)
    >>> containers.changed()
    [((0,), [1.0, 2.0, 3.0])]
    """

    def __init__(self, kinds: Sequence[Kind], items: Sequence[Any]) -> None:
        self._before: list[tuple[Path, Any, list[tuple[Any, Any]]]] = []
        #: The paths as users write them, without the argument: `[0].stiffness`.
        self.places: dict[Path, str] = {}
        #: Where an object among the arguments is, by id. (`_before` keeps the objects alive.)
        self.paths: dict[int, Path] = {}
        #: The copies of static arguments, which are compared by content.
        self.statics: list[tuple[Path, Contents, Any]] = []
        stack: list[tuple[Path, str, Kind, Any]] = [
            ((k,), "", kind, item) for k, (kind, item) in enumerate(zip(kinds, items, strict=True))
        ]
        while stack:
            path, place, kind, item = stack.pop()
            self.places[path] = place
            self.paths.setdefault(id(item), path)
            if isinstance(kind, Contents):
                self.statics.append((path, kind, item))
            if not isinstance(kind, (Array, Compound, Numbers)) or not (
                isinstance(item, _CONTAINERS) or is_record(item)
            ):
                continue
            members = _members(item)
            self._before.append((path, item, members))
            for key, each in members:
                self.paths.setdefault(id(each), (*path, key))
            stack += [
                ((*path, key), place + kind.place(key), part, each)
                for (key, each), part in zip(members, kind.parts, strict=False)
            ]

    def changed(self) -> list[tuple[Path, Any]]:
        """The containers that are no longer what they were, each with its path."""
        return [(path, item) for path, item, before in self._before if not _same(_members(item), before)]


def _members(item: Any) -> list[tuple[Any, Any]]:
    """What is in a container, with keys or indices. An array is taken as a flat one."""
    if isinstance(item, dict):
        return list(item.items())
    if is_record(item):
        return list(state_of(item).items())
    return list(enumerate(item.ravel().tolist() if isinstance(item, np.ndarray) else item))


def _same(now: list[tuple[Any, Any]], before: list[tuple[Any, Any]]) -> bool:
    """Whether the very same objects are under the same keys or indices."""
    if len(now) != len(before) or not all(each is was for (_, each), (_, was) in zip(now, before, strict=True)):
        return False
    return [key for key, _ in now] == [key for key, _ in before]


class Write(NamedTuple):
    """New contents of a container.

    Attributes:
        path: where it is among the arguments.
        keys: of a dict.
        items: per item, the path of an object among the arguments, or the kind of what is new.
    """

    path: Path
    keys: tuple[Any, ...]
    items: tuple[tuple[bool, Any], ...]


def writes_of(containers: Containers, kind_of: Callable[[Any], Kind]) -> tuple[Write, ...]:
    """What a function has written into its arguments.

    Args:
        containers: made before the call.
        kind_of: notes the `Value`s in something new and returns its kind.
    """
    writes = []
    for path, item in containers.changed():
        members = _members(item)
        items = tuple(
            (True, containers.paths[id(each)]) if id(each) in containers.paths else (False, kind_of(each))
            for _, each in members
        )
        writes.append(Write(path, tuple(key for key, _ in members), items))
    return tuple(writes)


def write(writes: Sequence[Write], args: Sequence[Any], results: Any) -> None:
    """Write the new contents into the caller's own lists, dicts and arrays.

    Args:
        writes: of `writes_of`.
        args: the arguments of this call.
        results: an iterator over the `Value`s of what is new.
    """
    contents = [
        [
            _at(args, item) if is_argument else item.put_together(results, object_array)
            for is_argument, item in each.items
        ]
        for each in writes
    ]
    for each, items in zip(writes, contents, strict=True):
        target = _at(args, each.path)
        if isinstance(target, dict):
            new = dict(zip(each.keys, items, strict=True))
            target.clear()
            target.update(new)
        elif is_record(target):
            for name, item in zip(each.keys, items, strict=True):
                setattr(target, name, item)
        elif isinstance(target, np.ndarray):
            target[...] = object_array(items, target.shape)
        else:
            target[:] = items


def check_shared(
    writes: Sequence[Write], args: Sequence[Any], captured: Captured, names: Sequence[str], function: Any
) -> None:
    """Raise an error if what a function writes to is in a second place, where it would see what it has written.

    Args:
        writes: of `writes_of`.
        args: the arguments of this call.
        captured: what the function reads from outside.
        names: of the arguments.
        function: for the message.

    Raises:
        InputError: naming both places.
    """
    places: dict[int, list[str]] = {}
    stack: list[tuple[str, Any]] = list(zip(names, args, strict=False))[::-1]
    while stack:
        place, item = stack.pop()
        places.setdefault(id(item), []).append(place)
        if isinstance(item, (list, dict, tuple)) or is_record(item) or _is_objects(item):
            stack += [(place + place_of(item, key), each) for key, each in reversed(_members(item))]
    for each in writes:
        target = _at(args, each.path)
        where = places.get(id(target), [])
        where += [f"{name}, which it reads from outside" for name in captured.names_of(target)]
        if len(where) > 1:
            raise InputError(
                f"{getattr(function, '__name__', 'the function')} changes its argument {where[0]}, which is the same "
                f"object as {where[1]}; a compiled function would not see the change there. Pass a copy"
            )


def _at(args: Sequence[Any], path: Path) -> Any:
    item: Any = args
    for key in path:
        item = item.ravel()[key] if isinstance(item, np.ndarray) else member(item, key)
    return item


def _is_writable(item: Any) -> bool:
    return isinstance(item, (list, dict)) or _is_objects(item) or is_record(item)


def _is_objects(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.dtype == object


def _line_of(code: Any) -> int:
    """The line in which the definition of a function begins, without its decorators."""
    first: int = code.co_firstlineno
    lines = lines_of(code.co_filename)[first - 1 :]
    behind = (k for k, line in enumerate(lines) if line.lstrip().startswith(("def ", "async def ")))
    return first + next(behind, 0) if lines and lines[0].lstrip().startswith("@") else first


def check(containers: Containers, names: Sequence[str], function: Any, args: Sequence[Any] | None = None) -> None:
    """Raise an error if a function has written into arguments that cannot be written back.

    Args:
        containers: made before the call.
        names: of the arguments.
        function: the function, and its name, for the message.
        args: the caller's arguments, if lists, dicts and arrays of objects among them can be written to.

    Raises:
        TraceError: naming the argument.
    """
    changed = [path for path, _ in containers.changed() if args is None or not _is_writable(_at(args, path))]
    changed += [path for path, kind, item in containers.statics if not kind.static.matches(item)]
    for path in changed:
        text = names[path[0]] + containers.places[path]
        code = getattr(inspect.unwrap(function), "__code__", None)  # that of what a decorator has wrapped
        place = Location(code.co_filename, _line_of(code)) if code is not None else None
        raise refuse(
            f"{getattr(function, '__name__', 'the function')} changes its argument {text}, and the change would be "
            "lost. Return it instead, or work on a copy",
            where=describe(place),
        )
