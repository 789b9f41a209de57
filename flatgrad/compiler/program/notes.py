"""Notes that are taken for those who ask, such as pages that show how a kernel was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

Kept = TypeVar("Kept")


class Notes(Generic[Kept]):
    """Where notes of one kind are kept while somebody asks for them.

    What one thread asks for, other threads do not note. Inside of a `with` block, another one has notes of its own.

    Args:
        name: what is noted.
        new: makes an empty collection of notes.

    Example:
        >>> notes = Notes("numbers", list[int])
        >>> with notes.asked() as numbers:
        ...     notes.kept.append(3)
        >>> numbers, notes.kept
        ([3], None)
    """

    def __init__(self, name: str, new: Callable[[], Kept]) -> None:
        self._new = new
        self._kept: ContextVar[Kept | None] = ContextVar(name, default=None)

    @property
    def kept(self) -> Kept | None:
        """The notes that are being taken; None if nobody asks for them."""
        return self._kept.get()

    @contextmanager
    def asked(self) -> Iterator[Kept]:
        """Take notes inside of the `with` block."""
        kept = self._new()
        token = self._kept.set(kept)
        try:
            yield kept
        finally:
            self._kept.reset(token)
