"""A step of the timeline of passes: what one pass did, and the places of the program where it did it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..compiler.program.passes.rules import RULES
from ..compiler.program.program import Program
from ..runtime.wording import count_of

#: Programs of up to so many equations are listed as a whole; of others the places that change, so many of each kind,
#: and so many in all, with so many equations around each.
LISTED, _EACH, _MOST, _AROUND = 300, 2, 48, 2
#: Runs of fewer equations stay.
_LEAST = 3

_IDENTITIES = {rule.name: rule.identity for rule in RULES}


class Row(NamedTuple):
    """A line of the difference between the programs before and behind a pass.

    Attributes:
        text: an equation; or, in a "fold", what is left out.
        kind: what became of it: "constant", "merged", "rewritten", "gone" or "same"; "new" for an equation of the
            program behind; "fold" for a line in place of others.
        note: the same in words.
    """

    text: str
    kind: str = "same"
    note: str = ""


@dataclass
class Step:
    """What one pass did.

    Attributes:
        name: of the pass.
        about: its first sentence.
        before, after: how many there were of what it works on, and are.
        part: which part of the way it belongs to, such as "For the loops".
        unit: what is counted, before and behind, in the singular.
        counts: how many equations became constants, became one with others, and so on; nothing is counted twice.
        rules: how often each rule of the table of simplifications was applied.
        head: the titles of the columns of `table`.
        table: what it made, row by row: kinds of equations or packs, and how many there are.
        rows: the program before, with what became of its equations; of a long one the places that change.
        result: the program behind it, if it is short and different.
    """

    name: str
    about: str
    before: int
    after: int
    part: str = ""
    unit: tuple[str, str] = ("equation", "equation")
    counts: dict[str, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    head: tuple[str, ...] = ()
    table: list[tuple[str | int, ...]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    result: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The step as data."""
        rows = [row._asdict() for row in self.rows]
        return {**vars(self), "rows": rows, "identities": {name: _IDENTITIES.get(name, "") for name in self.rules}}


def written(program: Program, equation: int) -> str:
    """An equation as the program's text has it, without the user's line."""
    each = program.equation(equation)
    return " ".join([program.name_of(each.variable), "=", each.primitive.name, *map(program.name_of, each.operands)])


def chosen(kinds: Sequence[tuple[int, Hashable]]) -> list[int]:
    """Which of many changed equations are shown: the first ones of each kind, the commonest kinds first.

    Args:
        kinds: the equations that change, each with its kind.
    """
    members: dict[Hashable, list[int]] = {}
    for e, kind in kinds:
        members.setdefault(kind, []).append(e)
    commonest = sorted(members.values(), key=len, reverse=True)[: _MOST // _EACH]
    return sorted(itertools.chain.from_iterable(each[:_EACH] for each in commonest))


def folded_places(count: int, shown: Collection[int], changed: Collection[int]) -> Iterator[int | Row]:
    """The equations around those that are shown, and a row in place of each run of others.

    Args:
        count: how many equations there are.
        shown: those that are shown.
        changed: all that change, these among them.

    >>> list(folded_places(12, [5], [5, 9]))
    [Row(text='3 equations as they are', kind='fold', note=''), 3, 4, 5, 6, 7, \
Row(text='4 equations, 1 of them changed, too', kind='fold', note='')]
    """
    near = sorted({k for e in shown for k in range(e - _AROUND, e + _AROUND + 1) if 0 <= k < count})
    altered = sorted(set(changed).difference(near))
    place = 0
    for before, k in itertools.pairwise([-1, *near, count]):
        while place < len(altered) and altered[place] <= before:
            place += 1
        if before + 1 < k <= before + _LEAST:
            yield from range(before + 1, k)
        elif k > before + 1:
            first = place
            while place < len(altered) and altered[place] < k:
                place += 1
            many = count_of(k - before - 1, "equation")
            if place == first:
                yield Row(f"{many} as they are", "fold")
            else:
                yield Row(f"{many}, {place - first:,} of them changed, too", "fold")
        if k < count:
            yield k
