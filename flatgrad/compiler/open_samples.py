"""A traced sample re-rolled in one way, of which nothing is made before it is needed.

Where a function is traced at several sizes, most searches for one program for all end at the numbers of statements: two
samples have different ones. These numbers are kept with the sample, for other searches in which it is seen again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from .loops.array_program import ArrayProgram
from .loops.grammar import Repeat
from .loops.reroll import reroll
from .loops.rounds import FEW, find_rounds, hides_rounds
from .stage import stage
from .stages import Stages


class Counts(NamedTuple):
    """What is known of a sample that was re-rolled in some way.

    Attributes:
        statements: of each function.
        nested: whether there are loops within the rounds of a loop.
    """

    statements: tuple[int, ...]
    nested: bool


#: What is known of samples as long as they live: by the way, and whether loops are nested.
_known: WeakKeyDictionary[Stages, dict[tuple[tuple[int, int], bool], Counts]] = WeakKeyDictionary()


class RerolledSample:
    """A sample re-rolled in one way, with loops over its rounds.

    Args:
        stages: of the function traced at some extents.
        way: `terms` and `lanes` of `reroll`.
    """

    def __init__(self, stages: Stages, way: tuple[int, int]) -> None:
        self.stages = stages
        self.way = way
        self._rounds: dict[bool, list[ArrayProgram]] = {}

    @stage
    def vectors(self) -> list[ArrayProgram]:
        """The functions re-rolled."""
        (terms, lanes), fast = self.way, self.stages.options.fast
        return [reroll(part, fast=fast, terms=terms, lanes=lanes) for part in self.stages.array_parts]

    def arrays(self, nest: bool) -> list[ArrayProgram]:
        """The functions with loops over rounds; `nest` says whether there may be loops within these."""
        if nest not in self._rounds:
            self._rounds[nest] = [find_rounds(program, *FEW, nest=nest) for program in self.vectors]
        return self._rounds[nest]

    def counts(self, nest: bool) -> Counts:
        """What is known of the arrays; it stays known when they are forgotten."""
        known = self.known(nest)
        if known is None:
            arrays = self.arrays(nest)
            items = [item for program in arrays for item in program.statements]
            known = Counts(
                tuple(len(program.statements) for program in arrays),
                any(isinstance(item, Repeat) and bool(item.inner) for item in items),
            )
            _known.setdefault(self.stages, {})[self.way, nest] = known
        return known

    def known(self, nest: bool) -> Counts | None:
        """What is known of the arrays, even if they have not been made by this search."""
        return _known.get(self.stages, {}).get((self.way, nest))

    @property
    def hides(self) -> bool:
        """Whether small statements may hide rounds."""
        return any(map(hides_rounds, self.vectors, self.arrays(True)))


def differing(samples: Sequence[RerolledSample], nest: bool) -> list[RerolledSample]:
    """Two samples with different numbers of statements; none if all have the same.

    Of those about which nothing is known, the last and the first are the most different ones.
    """
    first, *between, last = samples
    seen = dict[tuple[int, ...], RerolledSample]()
    for sample in sorted((last, first, *between), key=lambda sample: sample.known(nest) is None):
        seen[sample.counts(nest).statements] = sample
        if len(seen) > 1:
            return list(seen.values())
    return []
