"""Which calls in a plain run have derivatives that cannot be told from their values, such as those of `detach`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, TypeAlias

#: A row of the table of primitives.
Row: TypeAlias = Any
#: Per thread that wants to know: how often rows were called whose derivatives cannot be told from their values.
noted: dict[int, Counter[Row]] = {}


@contextmanager
def noting() -> Iterator[Counter[Row]]:
    """Inside of the `with` block, calls of rows that conceal their derivatives are counted in this thread.

    Example:
        >>> from flatgrad.runtime.primitives import detach, exp
        >>> with noting() as counts:
        ...     _ = detach(1.0) + detach(exp(2.0))
        >>> counts[detach], counts[exp]
        (2, 0)
    """
    thread, counts = get_ident(), Counter[Row]()
    before = noted.get(thread)
    noted[thread] = counts
    try:
        yield counts
    finally:
        del noted[thread]
        if before is not None:
            noted[thread] = before


def note(primitive: Row) -> None:
    """Count a call, if this thread wants to know."""
    if primitive.conceals and get_ident() in noted:
        noted[get_ident()][primitive] += 1
