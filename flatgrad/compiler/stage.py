"""`stage`: a property that is computed once."""

from __future__ import annotations

import copy
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


def renewed(stages: Any) -> Any:
    """The same stages of the same traced program, of which nothing else has been made.

    They do not change with the others, and are made again step by step, for those who want to see how.

    Example:
        >>> import flatgrad as fg
        >>> stages = fg.grad(lambda x: x.sin()).kernel_for(1.0).stages
        >>> again = renewed(stages)
        >>> again.traced is stages.traced, again.joint is stages.joint, str(again.joint) == str(stages.joint)
        (True, False, True)
    """
    again = copy.copy(stages)
    made = {name for kind in type(stages).__mro__ for name, item in vars(kind).items() if isinstance(item, stage)}
    again.__dict__ = {name: item for name, item in vars(stages).items() if name not in made}
    again.__dict__["traced"] = stages.traced
    again.family = None
    return again
