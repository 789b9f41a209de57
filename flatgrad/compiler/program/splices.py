"""Which derivatives were spliced into a trace, and where: so little of them is kept that they can be made again."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from .program import Program


class Spliced(NamedTuple):
    """A derivative that was spliced into a trace.

    Attributes:
        stages: what it was made of.
        firsts: where it begins: equations of the traced program, counted from 0.
    """

    stages: Any
    firsts: list[range]


class Splices:
    """The derivatives in a trace. One that is spliced in round by round is kept once.

    Example:
        >>> from flatgrad.compiler.program.builder import Group, ProgramBuilder
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> program, splices = f.finish([f.emit("mul", 0, 0)]), Splices()
        >>> for first in (2, 6, 10, 14):
        ...     splices.add(program, "stages", first)
        >>> splices.listing(inputs=1)
        [Spliced(stages='stages', firsts=[range(1, 14, 4)])]

        Rounds that begin at variable 10, of which there are a hundred:

        >>> splices.repeat(10, 4, 100)
        >>> splices.listing(inputs=1)
        [Spliced(stages='stages', firsts=[range(1, 9, 4), range(9, 406, 4)])]
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Spliced] = {}  # by what they compute, and the user's lines

    def add(self, program: Program, stages: Any, first: int) -> None:
        """Note a derivative, whose first equation is this variable of the trace; one without equations has none."""
        if not len(program):
            return
        digest = hashlib.sha256(program.digest() + program.sites.tobytes() + repr(program.locations).encode()).digest()
        ranges = self._known.setdefault(digest, Spliced(stages, [])).firsts
        last = ranges[-1] if ranges else None
        if last is not None and (len(last) == 1 or first == last[-1] + last.step):
            ranges[-1] = range(last.start, first + 1, first - last[-1])
        else:
            ranges.append(range(first, first + 1))

    def forget(self, first: int) -> None:
        """Forget those from a variable on."""
        for digest, each in list(self._known.items()):
            each.firsts[:] = _before(each.firsts, first)
            if not each.firsts:
                del self._known[digest]

    def repeat(self, first: int, size: int, rounds: int) -> None:
        """Let a round, which begins with a variable, be the first of so many."""
        self.forget(first + size)
        for each in self._known.values():
            own = [place for places in each.firsts for place in places if place >= first]
            each.firsts[:] = _before(each.firsts, first)
            each.firsts.extend(range(place, place + size * (rounds - 1) + 1, size) for place in own)

    def listing(self, inputs: int) -> list[Spliced]:
        """All of them, in a program with so many inputs."""
        return [
            Spliced(each.stages, [range(r.start - inputs, r.stop - inputs, r.step) for r in each.firsts])
            for each in self._known.values()
        ]


def _before(places: list[range], end: int) -> list[range]:
    return [range(each.start, min(each.stop, end), each.step) for each in places if each.start < end]
