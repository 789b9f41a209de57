"""Steps that an interrupt cannot split.

Ctrl-C raises `KeyboardInterrupt` between two instructions of any Python function, also in `finally`, `__enter__` and
`__exit__`, but not inside a function written in C. So changes that belong together are prepared as calls of built-in
functions, and one such function makes all the calls.
"""

from __future__ import annotations

import io
import operator
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import repeat
from typing import Any


def step(*actions: Callable[[], object]) -> Callable[[], None]:
    """A function that makes some calls in one step, in their order. A second call of it does nothing.

    Args:
        actions: built-in functions, or `functools.partial` of such. What they return is dropped.

    Example:
        >>> losses, counts = [], {}
        >>> note = step(partial(losses.append, 0.5), partial(counts.update, steps=1))
        >>> note()
        >>> losses, counts
        ([0.5], {'steps': 1})
    """
    # `extend` consumes the whole map, which makes the calls; the deque keeps nothing.
    return partial(deque[object](maxlen=0).extend, map(operator.call, actions))


def setting(objects: Iterable[object], name: str, items: Iterable[object]) -> Callable[[], None]:
    """A function that sets an attribute of some objects, each to its item, in one step.

    Args:
        objects, items: of equal length; each item is asked for when its object is at hand.
        name: an attribute that is a slot, or one that Python keeps in the object's dict.

    Example:
        >>> import flatgrad as fg
        >>> a, b = fg.Value(0.0), fg.Value(0.0)
        >>> setting([a, b], "_number", [1.0, 2.0])()
        >>> a.data, b.data
        (1.0, 2.0)
    """
    return partial(deque[object](maxlen=0).extend, map(setattr, objects, repeat(name), items))


class Block(io.IOBase):
    """A block that begins with one call and ends with another one, however it ends.

    At no moment has `begin()` been called while `end()` will not be. The base is `io.IOBase` because its `__exit__` is
    written in C and does nothing but call `close`.

    Args:
        begin, end: built-in functions, `functools.partial` of such, or what `step` returns.

    Example:
        >>> marks = []
        >>> with Block(partial(marks.append, 1), marks.clear):
        ...     print(marks)
        [1]
        >>> marks
        []
    """

    __enter__: Any = property(operator.attrgetter("_begin"))
    closed = True  # for `io.IOBase`: there is nothing to close when the object is freed

    def __init__(self, begin: Callable[[], object], end: Callable[[], Any]) -> None:
        self._begin = begin
        self.close: Callable[[], None] = step(end)


#: A block that does nothing.
NOTHING = Block(step(), step())
