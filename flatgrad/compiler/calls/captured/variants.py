"""Variants: a kernel per state of what a function captured."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from ....runtime.errors import CapturedStateWarning
from ....runtime.sites import user_level
from .state import Captured


class HasCaptured(Protocol):
    """A kernel, with what belongs to it."""

    @property
    def captured(self) -> Captured:
        """What the function had captured when it was traced."""
        ...


E = TypeVar("E", bound=HasCaptured)


class Variants(Generic[E]):
    """The kernels of one structure of arguments: one per state of what was captured.

    Attributes:
        entries: the kernels with what belongs to them, the oldest first.
        last_use: when they were last looked for; of two, the larger number is later.
    """

    #: The limit of entries. A function that needs more reads changing numbers, which should be arguments.
    MOST = 8

    def __init__(self) -> None:
        self.entries: list[E] = []
        self.last_use = 0
        self._last: E | None = None
        self._counts: collections.Counter[str] = collections.Counter()

    def find(self) -> E | None:
        """The entry whose captured state is the present one; None if there is none."""
        last, entries = self._last, self.entries
        if last is not None and last.captured.unchanged():
            return last
        for test in (Captured.unchanged, Captured.same):
            for entry in reversed(entries):
                if test(entry.captured):
                    self._last = entry
                    return entry
        return None

    def differences(self) -> list[str]:
        """The names of what has changed since the last entry."""
        return self._last.captured.differences() if self._last is not None else []

    def add(self, entry: E, differences: Sequence[str], name: str) -> None:
        """Add an entry that these differences call for; warn if that happens again and again."""
        self.entries = [*self.entries[1 - self.MOST :], entry]
        self._last = entry
        self._counts.update(differences)
        for difference, count in self._counts.items():
            if count == self.MOST and difference in differences:
                warnings.warn(
                    f"{name} has been compiled {count + 1} times, because {difference} was another one at each time. "
                    "Pass it as an argument, or make it a Value and set its data",
                    CapturedStateWarning,
                    stacklevel=user_level(),
                )
