"""What a traced function returned, taken apart: its `Value`s are the numbers, anything else is kept as it is.

An object that no kind takes apart is returned at each call, the same one. It must not lead to `Value`s of the trace,
which have no numbers, and it must not be used up by the first caller, as an iterator is.
"""

from __future__ import annotations

import gc
import inspect
import types
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import numpy as np

from ...runtime.conversion import items_of
from ...runtime.errors import InputError
from ...runtime.foreign import Pair
from ...runtime.primitives import Operand
from ...runtime.sites import Location, describe
from ...runtime.traced import TracedCondition, TracedValue, Truth
from ...runtime.tracing import records
from ...runtime.value import Condition, Value, as_value
from ..sparsity import Sparsity
from .array_kinds import Array, Numbers, Objects, ReturnedTruths
from .captured.contents import PLAIN
from .exact import Same
from .kind import Compound, Flattener, Kind, taker_of
from .kinds import Identical, Items, Places, Record
from .number_kinds import NUMBER, TRUTH
from .records import placed

#: A search for `Value`s ends after so many objects.
MOST: Final = 100_000
#: Objects that a search does not enter: they lead to everything, or to nothing that the user returned.
_CLOSED: Final = (Operand, types.ModuleType, types.FrameType, types.TracebackType, types.CodeType)
_REMEDY: Final = "Return the Values in a list, tuple, dict or array"


class ResultFlattener(Flattener):
    """Takes apart what a traced function returned."""

    compares_fields = False
    _in_record = False

    def flatten_result(self, item: Any, function: Callable[..., Any], place: str = "") -> Kind:
        """`flatten` what a function returned, or what stands at a place in it, as "[1]".

        Raises:
            InputError: for what cannot be returned, with its place in the result, and the function's name and line.
        """
        try:
            try:
                return self.flatten(item)
            except RecursionError:
                raise InputError("it is nested too deeply, or contains itself") from None
        except InputError as error:
            name = getattr(function, "__name__", "the function") + place
            code = getattr(function, "__code__", None) if "\n" not in str(error) else None  # it may name a line already
            where = describe(Location(code.co_filename, code.co_firstlineno) if code is not None else None)
            raise InputError(placed(f"the result of {name}", error) + where) from None

    def flatten(self, item: Any) -> Kind:
        """Append the `Value`s of a result, or of a part of it, and return its kind."""
        if isinstance(item, Value):
            self.numbers.append(item)
            return TRUTH if isinstance(item, Truth) else NUMBER
        if isinstance(item, (list, tuple)):
            _check_rebuilt(item)
            return Items(type(item), self.flatten_items(item))
        if isinstance(item, np.ndarray) and item.dtype == object:
            return Objects(item.shape, self.flatten_items(items_of(item)))
        if isinstance(item, Operand):
            self.numbers.append(as_value(item))
            return TRUTH
        if isinstance(item, Pair):
            raise InputError("a traced function cannot return a complex number; return [z.real, z.imag], or abs(z)")
        if isinstance(item, Sparsity):
            return Places(item)
        taker = taker_of(item)
        if taker is Record:
            return self._flatten_record(item)
        is_compound = taker is not None and issubclass(taker, Compound)
        for each in (item if isinstance(item, dict) else ()) if is_compound else (item,):
            if type(each) not in PLAIN:
                _check(each)
        return taker.take(item, self) if taker is not None and is_compound else Identical(Same(item))

    def _flatten_record(self, item: Any) -> Kind:
        """The kind of an object of a dataclass; without `Value`s it is the same object at each call."""
        if self._in_record:
            return Record.take(item, self)
        start, self._in_record = len(self.numbers), True
        try:
            kind = Record.take(item, self)
        except (InputError, RecursionError):
            if path_to_traced(item) is not None:
                raise
        else:
            if len(self.numbers) > start:
                return kind
        finally:
            self._in_record = False
        del self.numbers[start:]
        _check(item)
        return Identical(Same(item))


class NumberFlattener(ResultFlattener):
    """Takes apart a result of which numbers are wanted: an array with `Value`s becomes one of floats.

    One of conditions becomes one of bools. Floats beside `Value`s in an array, or in a list or tuple of nothing else,
    are outputs of the program as well.
    """

    def flatten(self, item: Any) -> Kind:
        """As for all results."""
        is_array = isinstance(item, np.ndarray) and item.dtype == object
        items = items_of(item) if is_array else item if type(item) in (list, tuple) else ()
        if is_array and items and all(isinstance(each, (Condition, Truth, bool)) for each in items):
            self.numbers.extend(map(as_value, items))
            return ReturnedTruths(item.shape)
        if any(isinstance(each, Value) for each in items) and (is_array or all(map(_is_plain, items))):
            self.numbers.extend(map(as_value, items))
            return Array(item.shape) if is_array else Numbers(type(item), len(item))
        return super().flatten(item)


def _is_plain(item: Any) -> bool:
    return isinstance(item, Value) or type(item) is float


def _check_rebuilt(item: Any) -> None:
    """Raise an error for an object of the user's class of lists or tuples that cannot be made from its items."""
    container = type(item)
    if container not in (list, tuple) and not hasattr(container, "_fields"):
        try:
            is_rebuilt = len(container(list(item))) == len(item)
        except Exception:
            is_rebuilt = False
        if not is_rebuilt:
            name = container.__name__
            raise InputError(
                f"a traced function cannot return this {name}, which {name}(items) does not make anew. {_REMEDY}, and "
                f"make the {name} of what the transformed function returns"
            )


def check_lasting(item: Any) -> None:
    """Raise an error for an object whose code runs after the trace: an iterator, a coroutine."""
    name = type(item).__name__
    if isinstance(item, (Awaitable, AsyncIterator)):
        if isinstance(item, types.CoroutineType) and inspect.getcoroutinestate(item) == inspect.CORO_CREATED:
            item.close()  # otherwise Python warns that it was never awaited
        raise InputError(
            f"a traced function cannot return this {name}, which runs after the trace. Transform a function without "
            "async, and call that from the asynchronous one"
        )
    if isinstance(item, Iterator):
        raise InputError(
            f"a traced function cannot return this {name}, which yields its items after the trace, and only once. "
            "Return a list of them: list(...)"
        )


def _check(item: Any) -> None:
    """Raise an error for an object that cannot be returned at each call."""
    check_lasting(item)
    name, path = type(item).__name__, path_to_traced(item)
    if path is not None:
        raise InputError(
            f"a traced function cannot return this {name}, because it holds a traced Value{path and ' at '}{path}, "
            f"which has no number. {_REMEDY}, and make the {name} of what the transformed function returns"
        )


def path_to_traced(item: Any) -> str | None:
    """The way from an object to the nearest `Value` or condition of a trace that goes on; None if there is none.

    The search runs no code of the user's and consumes no iterator: where an object has neither items nor attributes,
    it asks the garbage collector what the object refers to. Such a step of the way has no name.
    """
    seen = {id(item): item}
    queue = deque([(item, "")])
    while queue and len(seen) < MOST:
        holder, path = queue.popleft()
        for label, member in _members(holder):
            kind = type(member)
            if issubclass(kind, (TracedValue, TracedCondition)) and records(member._trace):
                return path + label
            is_open = "<locals>" in member.__qualname__ if issubclass(kind, type) else not issubclass(kind, _CLOSED)
            if is_open and id(member) not in seen:
                seen[id(member)] = member
                queue.append((member, path + label))
    return None


def _members(item: Any) -> Iterator[tuple[str, Any]]:
    """What an object refers to, with the source of each step; without plain objects."""
    kind = type(item)
    if issubclass(kind, types.FunctionType):  # its globals are not a part of it
        for name, cell in zip(item.__code__.co_freevars, item.__closure__ or (), strict=True):
            with suppress(ValueError):  # a variable that has no value yet
                yield f"<variable {name}>", cell.cell_contents
        yield from (("", each) for each in (item.__defaults__, item.__kwdefaults__, item.__dict__) if each)
        return
    for base in (list, tuple, deque):
        if issubclass(kind, base):
            yield from ((f"[{k}]", each) for k, each in enumerate(base.__iter__(item)) if type(each) not in PLAIN)
    if issubclass(kind, dict):
        for key, each in dict.items(item):
            yield "", key
            if type(each) not in PLAIN:
                yield f"[{key!r:.40}]" if type(key) in PLAIN else "[...]", each
    if issubclass(kind, (np.ndarray, np.void)) and item.dtype.hasobject:
        yield "", item.tolist()
    with suppress(Exception):  # an object without attributes of its own
        yield from ((f".{name}", each) for name, each in dict(vars(item)).items() if type(each) not in PLAIN)
    for each in kind.__mro__:
        for name, descriptor in vars(each).items():
            if type(descriptor) is types.MemberDescriptorType:
                with suppress(AttributeError):  # a slot without a value
                    yield f".{name}", descriptor.__get__(item, kind)
    yield from (("", each) for each in gc.get_referents(item) if type(each) not in PLAIN)
