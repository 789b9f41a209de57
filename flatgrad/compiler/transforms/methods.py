"""Transformed functions as methods: each object has a function of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import numpy as np

#: The functions of so many objects are kept, and the objects with them.
MOST: Final = 256

_STRUCTURES: Final = (list, tuple, dict, np.ndarray, np.generic, float, int, complex)


class Methods:
    """The functions of one method, by object.

    The kernels of a function hold what it captured, the object included, so that no weak reference to the object would
    ever be cleared. Therefore the functions of the latest objects are kept, and no others.
    """

    __slots__ = ("_functions", "_lock")

    def __init__(self) -> None:
        self._functions: dict[int, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def of(self, instance: Any, make: Callable[[], Any]) -> Any:
        """The function of an object, made if there is none."""
        entry = self._functions.get(id(instance))
        if entry is not None and entry[0] is instance:
            return entry[1]
        function = make()
        with self._lock:
            functions = dict(self._functions)
            if id(instance) in functions:  # another thread was faster
                return functions[id(instance)][1]
            for key in list(functions)[: len(functions) - MOST + 1]:
                del functions[key]
            functions[id(instance)] = instance, function
            self._functions = functions
        return function


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
