"""A count of attribute assignments, so that a kernel can ask with one comparison whether any model has changed."""

from __future__ import annotations

import ctypes
from typing import Any, Final

#: How often an attribute of any `Counted` object has been set or deleted. Machine code reads it where it is.
changes: Final = ctypes.c_int64(0)


class Counted:
    """A base class that counts assignments to attributes, of all its instances together.

    An attribute that is set in another way, as by `vars(x)["name"] = ...`, is not counted.

    >>> class Model(Counted):
    ...     pass
    >>> before, model = changes.value, Model()
    >>> model.training = True
    >>> changes.value - before
    1
    """

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        changes.value += 1

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        changes.value += 1


def counts(item: Any) -> bool:
    """Whether every plain assignment to an attribute of an object is counted."""
    kind = type(item)
    return (
        isinstance(item, Counted)
        and _setters(kind, "__setattr__") is vars(Counted)["__setattr__"]
        and _setters(kind, "__delattr__") is vars(Counted)["__delattr__"]
    )


def _setters(kind: type, name: str) -> Any:
    """What a class has under a name, itself or from a base."""
    for base in kind.__mro__:  # no generator: an interrupt that arrives while one is closed would be lost
        if name in vars(base):
            return vars(base)[name]
    return None
