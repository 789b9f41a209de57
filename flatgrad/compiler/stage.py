"""`stage`: a property that is computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Item = TypeVar("Item")


class stage(Generic[Item]):  # noqa: N801 - it is written as a decorator
    """A property that is computed once.

    Unlike `functools.cached_property` of Python 3.11 it has no lock: that one would be held by all objects of a class
    together, and for ever in the child of a fork. What several threads compute at once is the same.
    """

    def __init__(self, make: Callable[[Any], Item]) -> None:
        self._make, self.__doc__ = make, make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, stages: None, owner: type) -> stage[Item]: ...
    @overload
    def __get__(self, stages: Any, owner: type) -> Item: ...
    def __get__(self, stages: Any, owner: type) -> Any:
        if stages is None:
            return self
        item = stages.__dict__[self._name] = self._make(stages)
        return item
