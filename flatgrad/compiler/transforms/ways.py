"""The ways that calls of one structure of arguments have gone, with a kernel each."""

from __future__ import annotations

from typing import Any, Final, Generic, Protocol, TypeVar

from ..kernel import Kernel
from ..program.ways import Way

#: How many ways a function keeps kernels for, per structure of its arguments.
MOST: Final = 64


class HasWays(Protocol):
    """A kernel of one way, with how it is called."""

    kernel: Kernel
    ways: Ways[Any]


W = TypeVar("W", bound=HasWays)


class Ways(Generic[W]):
    """The ways that calls of one structure of arguments have gone.

    Args:
        first: the kernel of the first one.

    Attributes:
        entries: a kernel per way; the one that was looked for last is the last one.
        warned: whether users know that there are more ways than kernels.
    """

    def __init__(self, first: W) -> None:
        self.entries: list[W] = [first]
        self.warned = False

    def find(self, entry: W, guard: int) -> W | None:
        """A way that begins as one does, up to a guard, and turns off there; None if no call has gone such a way."""
        truths = entry.kernel.way.truths
        beginning = (*truths[:guard], not truths[guard])
        for each in reversed(self.entries):
            if each.kernel.way.truths[: guard + 1] == beginning:
                self.entries.remove(each)
                self.entries.append(each)
                return each
        return None

    def add(self, entry: W) -> None:
        """Add the kernel of a new way."""
        entry.ways = self
        self.entries.append(entry)

    def warning(self, name: str) -> str:
        """That there are more ways than kernels, with the line that most of them are due to."""
        turns: dict[Any, set[tuple[bool, ...]]] = {}
        for entry in self.entries:
            way: Way = entry.kernel.way
            for line in set(way.lines):
                truths = [truth for truth, each in zip(way.truths, way.lines, strict=True) if each == line]
                turns.setdefault(line, set()).add(tuple(truths))
        line = max(turns, key=lambda each: len(turns[each]))
        text = f" ({line}: {line.text})" if line is not None else ""
        return (
            f"{name} has gone {len(self.entries)} ways, more than kernels are kept for; calls that go others are "
            f"answered without compiled code, which is slow. Most ways part at one line{text}. Select there with "
            "fg.where(condition, a, b), fg.maximum(a, b), fg.minimum(a, b) or fg.max(xs)"
        )
