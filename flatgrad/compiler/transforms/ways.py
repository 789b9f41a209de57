"""The ways that calls of one structure of arguments have gone, with a kernel each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from ...runtime.wording import count_of
from ..calls.arguments import Arguments
from ..kernel import Kernel
from ..machine.builtin import set_turns
from ..open_stages import NotOpenError
from ..program.ways import Way, WaysOfRounds
from .looped import Loop, looped_with
from .sizes import Owner

#: How often a kernel for all numbers of rounds is tried to be made in vain, per structure; and how many there may be.
_TRIES: Final = 6
_LOOPS: Final = 8
#: So many kernels that builtins lead to are tried one after the other where a builtin does not know the arguments.
_NEAR: Final = 8
#: In tables a way has at most so many lines.
_LINES: Final = 20
#: What users write in place of a branch, so that both sides of it are in one kernel.
_SELECTIONS: Final = "fg.where(condition, a, b), fg.maximum(a, b), fg.minimum(a, b) or fg.max(xs)"


class WayTable(list["Way | WaysOfRounds"]):
    """Ways in a list, which prints as a table: per way its calls, and the lines where it was decided.

    Args:
        pairs: the ways, each with how many calls have gone it; None where that is not counted.

    Attributes:
        calls: these numbers.

    Example:
        >>> from flatgrad.runtime.sites import Location
        >>> line = Location("model.py", 3)
        >>> ways = WayTable([(Way((True,), (line,)), 12), (Way((True, False), (line, line)), 3)])
        >>> ways
        way  calls  line        truth values      source
          1     12  model.py:3  True
          2      3  model.py:3  True, then False
        >>> len(ways), ways.calls
        (2, [12, 3])
    """

    def __init__(self, pairs: Iterable[tuple[Way | WaysOfRounds, int | None]]) -> None:
        pairs = list(pairs)
        super().__init__(way for way, _ in pairs)
        self.calls: list[int | None] = [calls for _, calls in pairs]

    def __repr__(self) -> str:
        rows = [("way", "calls", "line", "truth values", "source")]
        for number, (way, calls) in enumerate(zip(self, self.calls, strict=True), 1):
            sources = {str(line): line.text for line in way.lines if line is not None}
            named = [f"{number:,}", "" if calls is None else f"{calls:,}"]
            lines = str(way).splitlines()
            if len(lines) > _LINES:
                lines[_LINES - 2 : -1] = [f"... {len(lines) - _LINES + 1:,} more lines"]
            for text in lines:
                place, _, truths = text.strip().partition(": ")
                rows.append((*named, place, truths, sources.get(place, "")))  # type: ignore[arg-type]
                named = ["", ""]
        if not any(row[1] for row in rows[1:]):
            rows = [(row[0], *row[2:]) for row in rows]  # type: ignore[misc]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        last = len(widths) - 3
        return "\n".join(
            "  ".join(
                f"{cell:>{w}}" if k < last else f"{cell:<{w}}"
                for k, (cell, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )

    __str__ = __repr__


class HasWays(Protocol):
    """A kernel of one way, with how it is called."""

    kernel: Kernel
    jump: Callable[..., Any] | None
    ways: Ways[Any]
    loop: Loop[Any] | None


W = TypeVar("W", bound=HasWays)


class Ways(Generic[W]):
    """The ways that calls of one structure of arguments have gone.

    Args:
        first: the kernel of the first one.

    Attributes:
        entries: a kernel per way; the one that was looked for last is the last one.
        warned: whether users know that there are more ways than kernels.
        loops: ways that differ in a number of rounds.
        linked: the entries with builtins that call each other: where a guard fails, that of a way that turns off there.
        hub: the one of these that calls try first.
        last: the entry that was looked for last.
    """

    def __init__(self, first: W) -> None:
        self.entries: list[W] = [first]
        self.loops: list[Loop[W]] = []
        self.last: W = first
        self.linked: list[W] = []
        self.hub: W | None = None
        self.warned = False
        self._refused: set[tuple[Way, Way]] = set()  # rounds, and what is behind them, of which there is no kernel

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels; of those for numbers of rounds, which have one code, the last one."""
        return [*(each.kernel for each in self.entries), *(loop.last.kernel for loop in self.loops)]

    @property
    def ways(self) -> list[tuple[Way | WaysOfRounds, int | None]]:
        """The ways, one per kernel, each with how many calls have gone it."""
        looped = [(WaysOfRounds(loop.rounds, loop.least, loop.most), loop.calls) for loop in self.loops]
        return [*((each.kernel.way, each.kernel.calls) for each in self.entries), *looped]

    def rounds(self, tried: Sequence[W], inputs: Sequence[float]) -> W | None:
        """The kernel for another number of rounds than that of the last one that was tried; None if there is none."""
        loop: Loop[W] | None = tried[-1].loop
        found = None if loop is None else loop.entry_for(inputs)
        return None if found is None or found in tried else self._took(found)

    def find(self, beginning: tuple[bool | int, ...], inputs: Sequence[float], tried: Sequence[W] = ()) -> W | None:
        """A way that begins so, and was not tried; None if no call has gone such a way. `inputs` go it."""
        for loop in self.loops:
            found = loop.entry_for(inputs, beginning)
            if found is not None and found not in tried:
                return self._took(found)
        for each in reversed(self.entries):
            if each.kernel.way.truths[: len(beginning)] == beginning and each not in tried:
                self.entries.remove(each)
                self.entries.append(each)
                return self._took(each)
        return None

    def near(self, entry: W) -> Sequence[W]:
        """The entries that calls of an entry may be for: of a hub, those that its builtin leads to, the last ones."""
        if entry is not self.hub:
            return (entry,)
        return (entry, *(each for each in reversed(self.linked[-_NEAR:]) if each is not entry))

    def link(self, entries: Sequence[W]) -> None:
        """Let builtins that have just been made, `entry.jump`, and the others call each other where guards fail."""
        self.linked += entries
        for each in self.linked:
            set_turns(each.jump, self.targets(each))
        self.hub = max(self.linked, key=lambda each: ((each.kernel.calls or 0) // 64, len(each.kernel.way.truths)))

    def targets(self, entry: W) -> list[Any]:
        """Per guard of an entry the builtin of a way that turns off there, the longest one; None for no such way."""
        truths, targets = entry.kernel.way.truths, list[Any]()
        for k, truth in enumerate(truths):
            beginning = (*truths[:k], not truth)
            ways = [each for each in self.linked if each.kernel.way.truths[: k + 1] == beginning]
            longest = max(ways, key=lambda each: len(each.kernel.way.truths), default=None)
            targets.append(None if longest is None or truth.__class__ is int else longest.jump)
        return targets

    def _took(self, entry: W) -> W:
        entry.ways = self
        self.last = entry
        return entry

    def add(self, entry: W) -> None:
        """Add the kernel of a new way."""
        self.entries.append(self._took(entry))

    def looped(self, owner: Owner[W], way: Way, arguments: Arguments, inputs: Sequence[float]) -> W | None:
        """A kernel for a new way that differs from one of these in a number of rounds only, for all such ways.

        None if there is no such way, or no kernel of that kind. The ways that it serves are no longer entries.
        """
        for rounds in (rounds for each in self.entries for rounds in looped_with(each.kernel.way, way)):
            pattern = rounds.round, rounds.after
            if pattern in self._refused or len(self._refused) == _TRIES or len(self.loops) == _LOOPS:
                continue
            try:
                loop = Loop(owner, rounds, arguments)
            except NotOpenError:
                self._refused.add(pattern)
                continue
            count = rounds.count(way)
            entry = loop.entry_at(count, inputs) if count is not None else None
            if entry is None:
                continue
            self.loops.append(loop)
            for other in list(self.entries):
                number = rounds.count(other.kernel.way)
                if number is not None and number >= loop.smallest:
                    self.entries.remove(other)
                    loop.earlier.append(other.kernel)
                    loop.least = min(loop.least, number)
                    loop.most = max(loop.most, number)
            return self._took(entry)
        return None

    def warning(self, name: str) -> str:
        """That there are more ways than kernels, with the line that most of them are due to."""
        turns: dict[Any, set[tuple[bool | int, ...]]] = {}
        for entry in self.entries:
            way: Way = entry.kernel.way
            for line in set(way.lines):
                truths = [truth for truth, each in zip(way.truths, way.lines, strict=True) if each == line]
                turns.setdefault(line, set()).add(tuple(truths))
        line = max(turns, key=lambda each: len(turns[each]))
        text = f" ({line}: {line.text})" if line is not None else ""
        by_int = any(type(truth) is int for truths in turns[line] for truth in truths)
        remedy = "an integer with fg.table(rows)[i]" if by_int else "with " + _SELECTIONS
        return (
            f"{name} has gone {count_of(len(self.entries), 'way')}, and keeps kernels for no more (max_ways); calls "
            "that go others are answered without compiled code, which is slow. "
            f"Most ways part at one line{text}. Select there {remedy}"
        )
