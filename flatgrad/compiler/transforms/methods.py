"""Transformed functions as methods: each object has a function of its own."""

from __future__ import annotations

import itertools
import threading
import warnings
from typing import Any, Final, Generic, TypeVar

import numpy as np

from ...runtime.errors import KernelLimitWarning
from ...runtime.sites import user_level

#: The functions of so many objects are kept, and the objects with them.
MOST: Final = 256

F = TypeVar("F")

_STRUCTURES: Final = (list, tuple, dict, np.ndarray, np.generic, float, int, complex)


class Methods(Generic[F]):
    """The functions of one method, by object.

    The kernels of a function hold what it captured, the object included, so that no weak reference to the object would
    ever be cleared. Therefore only the functions of so many objects are kept: of those that were used last.

    Args:
        name: of the method, for a warning.
    """

    __slots__ = ("_clock", "_functions", "_lock", "_name", "_warned")

    def __init__(self, name: str) -> None:
        self._name, self._warned = name, False
        self._functions: dict[int, _Bound[F]] = {}
        self._clock = itertools.count()
        self._lock = threading.Lock()

    def find(self, instance: object) -> F | None:
        """The function of an object; None if there is none."""
        bound = self._functions.get(id(instance))
        if bound is None or bound.instance is not instance:
            return None
        bound.last_use = next(self._clock)
        return bound.function

    def add(self, instance: object, function: F) -> F:
        """Keep a function for an object that has none; return it, or that of a thread that was faster."""
        with self._lock:
            functions = dict(self._functions)
            if id(instance) in functions:  # another thread was faster
                return functions[id(instance)].function
            full = len(functions) >= MOST
            if full:
                del functions[min(functions, key=lambda each: functions[each].last_use)]
            functions[id(instance)] = _Bound(instance, function, next(self._clock))
            self._functions = functions
        if full and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._name} has been used as a method of more than {MOST} objects. Each object has kernels of its "
                "own; those of the objects that were used least recently are dropped, and compiled again when such an "
                "object comes back. Keep fewer objects, or compile a function outside of the class, which gets what "
                "differs between the objects as arguments, and call that from the method",
                KernelLimitWarning,
                stacklevel=user_level(),
            )
        return function


class _Bound(Generic[F]):
    """The function of one object, and when it was last asked for: of two, the larger number is later."""

    __slots__ = ("function", "instance", "last_use")

    def __init__(self, instance: object, function: F, last_use: int) -> None:
        self.instance, self.function, self.last_use = instance, function, last_use


def takes_self(function: Any) -> bool:
    """Whether a function that is read from an object as an attribute is bound to the object, as Python's are.

    Not so a static method, an object that is no descriptor (`fg.exp`), or a method that is bound already.

    >>> import math
    >>> takes_self(lambda self, x: x), takes_self(math.exp), takes_self([].append)
    (True, False, False)
    """
    while hasattr(type(function), "_captured_roots"):  # a transformed function
        function = function.function
    return (
        hasattr(type(function), "__get__")
        and not isinstance(function, staticmethod)
        and getattr(function, "__self__", None) is None
    )


def holds_numbers(instance: Any) -> bool:
    """Whether an object is itself something to differentiate with respect to: a named tuple, say.

    A method's `self` that is one is an argument as any other.
    """
    return isinstance(instance, _STRUCTURES)
