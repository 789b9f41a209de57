"""Which line of the loops computes each equation.

Exactness says which: what has the same bits at several points, in the scalar program and in the loops, is the same
number. Numbers that several loops have in common, such as zeros, say nothing; such an equation belongs where equations
like it belong, and if there are none, to the loops that read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..compiler.program.builder import Indices, distinct
from ..compiler.program.program import Program
from ..runtime.sites import Location
from .lines import Line

#: As many lines may have the same numbers, as where one of them multiplies by 1.
_SAME = 3
#: Equations are alike if they, their operands, the operands of these, and so on to this depth have the same rows and
#: stand in the same lines; and belong where nine of ten do whose numbers say it.
_DEPTH, _MOST = 4, 0.9
#: The parts of a program, in order.
PARTS = ("value", "gradient", "update")


class Owned(NamedTuple):
    """Who computes a number: a line of the loops, the user's line, and which part it is of, if that is known."""

    line: Line
    location: Location | None
    part: str


class Owners:
    """The lines that compute each equation.

    Equations with the same lines are one group.

    Attributes:
        groups: the lines of each group; the first one has none.
        which: per equation its group.

    Example:
        >>> owners = Owners.of([[], [Line("a", "l0")], [Line("a", "l0")]])
        >>> owners.which.tolist(), owners.counts()
        ([0, 1, 1], Counter({'l0': 2}))
    """

    def __init__(self, count: int) -> None:
        self.groups: list[tuple[Line, ...]] = [()]
        self.which: Indices = np.zeros(count, dtype=np.int64)
        self._places: dict[tuple[str, ...], int] = {(): 0}

    @classmethod
    def of(cls, lines: Sequence[Iterable[Line]]) -> Owners:
        """From the lines of each equation."""
        owners = cls(len(lines))
        owners.which = np.array([owners.group(own) for own in lines], dtype=np.int64)
        return owners

    def group(self, lines: Iterable[Line]) -> int:
        """The group of these lines."""
        own = tuple(lines)
        place = self._places.setdefault(tuple(line.id for line in own), len(self.groups))
        if place == len(self.groups):
            self.groups.append(own)
        return place

    def __getitem__(self, equation: int) -> tuple[Line, ...]:
        """The lines of an equation."""
        return self.groups[int(self.which[equation])]

    def __len__(self) -> int:
        """The number of equations."""
        return len(self.which)

    def __iter__(self) -> Iterator[tuple[Line, ...]]:
        """The lines of each equation."""
        return map(self.groups.__getitem__, self.which.tolist())

    def counts(self) -> Counter[str]:
        """Per line, by its id, how many equations it computes."""
        result: Counter[str] = Counter()
        for lines, count in zip(self.groups, np.bincount(self.which, minlength=len(self.groups)).tolist(), strict=True):
            for line in lines:
                result[line.id] += count
        return result


class Lanes(NamedTuple):
    """Which equation each number of the loops is.

    Attributes:
        equations: per number; -1 where that is not known.
        lines: per number, the place of its line among `titles`.
        titles: the ids of the lines.
    """

    equations: Indices
    lines: Indices
    titles: list[str]


def part_of(program: Program, equation: int) -> str:
    """What an equation belongs to."""
    if equation < program.primal:
        return "value"
    return "update" if 0 <= program.update <= equation else "gradient"


def parts_of(program: Program) -> Indices:
    """What each equation belongs to, as places in `PARTS`."""
    places = np.arange(len(program))
    parts = (places >= program.primal).astype(np.int64)
    if program.update >= 0:
        parts[(places >= program.primal) & (places >= program.update)] = 2
    return parts


def paired(*columns: Indices) -> Indices:
    """A number per row of columns of numbers from 0 on, the same for rows that are the same.

    >>> paired(np.array([5, 5, 7]), np.array([1, 1, 1])).tolist()
    [0, 0, 1]
    """
    first, *others = columns
    result = distinct(first)[2]
    for column in others:
        result = distinct(result * (column.max(initial=0) + 1) + column)[2]
    return result


def matched(
    joint: Program, points: Sequence[Sequence[Any]], owned: Sequence[Owned], kinds: Indices,
    runs: Sequence[Sequence[Any]], fast: bool,
) -> tuple[Owners, Lanes]:  # fmt: skip
    """The lines that compute each equation, and which equation each number of the loops is.

    Args:
        joint: the scalar program.
        points: the numbers of all its variables, at several points.
        owned: who computes numbers.
        kinds: per number of the loops, its place in `owned`.
        runs: these numbers at the same points.
        fast: whether the last digits may differ.
    """
    inputs, count = joint.inputs, len(kinds)
    codes = _codes([[*run, *point[inputs:]] for run, point in zip(runs, points, strict=True)], fast)
    own, codes = codes[:count], codes[count:]
    titles = list(dict.fromkeys(owner.line.id for owner in owned))
    place_of = {title: k for k, title in enumerate(titles)}
    line_of_kind = np.array([place_of[owner.line.id] for owner in owned], dtype=np.int64)
    # Per number who computes it: each line once.
    pairs, firsts = np.unique(own * len(titles) + line_of_kind[kinds], return_index=True)
    owner_of_pair = kinds[firsts]
    found = np.bincount(pairs // len(titles), minlength=max(codes.max(initial=-1), own.max(initial=-1)) + 1)
    begin = np.cumsum(found) - found
    candidates = _Candidates(joint, owned)
    says_nothing = np.ones(len(joint), dtype=bool)
    for point in points:
        says_nothing &= np.isin(np.abs(np.array(point[inputs:], dtype=np.float64)), (0.0, 1.0))

    owners = Owners(len(joint))
    single = np.flatnonzero(found[codes] == 1)
    kind_of_single = owner_of_pair[begin[codes[single]]]
    group_of_kind = np.array([owners.group([owner.line]) for owner in owned], dtype=np.int64)
    owners.which[single] = group_of_kind[kind_of_single]
    equations, computing = [single], [kind_of_single]
    several = np.flatnonzero(found[codes] > 1)
    rows = paired(codes[several], candidates.parts[several], candidates.places[several], says_nothing[several])
    _, firsts = np.unique(rows, return_index=True)
    members = np.split(several[np.argsort(rows, kind="stable")], np.cumsum(np.bincount(rows))[:-1]) if len(rows) else []
    for e, same in zip(several[firsts].tolist(), members, strict=True):
        first = begin[codes[e]]
        all_ = owner_of_pair[first : first + found[codes[e]]].tolist()
        fitting = [] if says_nothing[e] else candidates.fitting(e, all_)
        owners.which[same] = owners.group(owned[k].line for k in fitting)
        equations += [same] * len(fitting)
        computing += [np.full(len(same), k) for k in fitting]

    # The last equation is what a line comes to: of those of its part and of the same line of the user's, if there are.
    e, kind = np.concatenate(equations), np.concatenate(computing)
    keys = codes[e] * len(titles) + line_of_kind[kind]
    order = np.lexsort((e, candidates.fits(e, kind), keys))
    known, lasts = np.unique(keys[order][::-1], return_index=True)
    result = _looked_up(own * len(titles) + line_of_kind[kinds], known, e[order][::-1][lasts])
    _assign(joint, owners, says_nothing)
    _inherit(joint, owners)
    return owners, Lanes(result, line_of_kind[kinds], titles)


def _looked_up(keys: Indices, known: Indices, values: Indices) -> Indices:
    """The values of keys, of which the known ones are in order; -1 for others."""
    if not len(known):
        return np.full(len(keys), -1)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[places] == keys, values[places], -1)


class _Candidates:
    """Whether equations stand in the same lines of the user's, and are of the same part, as who computes a number.

    Attributes:
        parts: per equation its part.
        places: per equation a number for its line of the user's.
    """

    def __init__(self, joint: Program, owned: Sequence[Owned]) -> None:
        numbers: dict[Location | None, int] = {None: 0}
        here = [numbers.setdefault(location, len(numbers)) for location in joint.locations]
        self.parts: Indices = parts_of(joint)
        self.places: Indices = np.array([*here, 0])[np.asarray(joint.sites)]
        self._parts = np.array([PARTS.index(each.part) if each.part else -1 for each in owned], dtype=np.int64)
        self._places = np.array([numbers.get(each.location, -1) for each in owned], dtype=np.int64)

    def fits(self, equations: Any, kinds: Any) -> Any:
        """Whether each equation fits who computes it."""
        return self._is_part(equations, kinds) & (self.places[equations] == self._places[kinds])

    def _is_part(self, equations: Any, kinds: Any) -> Any:
        return (self._parts[kinds] < 0) | (self._parts[kinds] == self.parts[equations])

    def fitting(self, equation: int, kinds: Sequence[int]) -> list[int]:
        """Those of several that fit an equation, or else those of its part, or all; none of too many."""
        for test in (self._is_part, self.fits):
            kinds = [k for k in kinds if test(equation, k)] or kinds
        return list(kinds) if len(kinds) <= _SAME else []


def _codes(columns: Sequence[Sequence[Any]], fast: bool) -> Indices:
    """A number per row of columns of numbers, the same for rows with the same bits, or the same first digits."""
    codes = []
    for column in columns:
        if fast:
            numbers: dict[str, int] = {}
            texts = (f"{number:.9e}" for number in column)
            codes.append(np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64))
            continue
        bits = np.array(column, dtype=np.float64).view(np.int64)
        is_truth = np.fromiter(map((bool, np.bool_).__contains__, map(type, column)), dtype=bool, count=len(column))
        bits = np.where(is_truth, -1 - (bits != 0), bits)  # as no number has them
        codes.append(np.unique(bits, return_inverse=True)[1])
    return paired(*codes)


def _assign(joint: Program, owners: Owners, says_nothing: Any) -> None:
    """Give equations whose numbers say nothing the lines of equations that are like them, if these agree."""
    silent = np.flatnonzero(says_nothing)
    if not len(silent):
        return
    kinds = _alike(joint)
    telling = ~says_nothing & np.isin(kinds, kinds[silent])
    groups = len(owners.groups)
    pairs, counts = np.unique(kinds[telling] * groups + owners.which[telling], return_counts=True)
    totals = np.bincount(kinds[telling], minlength=kinds.max(initial=0) + 1)
    agreed = counts >= _MOST * totals[pairs // groups]
    group = _looked_up(kinds[silent], pairs[agreed] // groups, pairs[agreed] % groups)
    owners.which[silent] = np.where(group >= 0, group, owners.which[silent])


def _alike(joint: Program) -> Indices:
    """A number per equation, the same for those that are alike."""
    opcodes, sites = np.asarray(joint.opcodes, dtype=np.int64), np.asarray(joint.sites, dtype=np.int64) + 1
    starts, operands = np.asarray(joint.starts), np.asarray(joint.operands)
    arities = np.diff(starts)
    own = paired(opcodes, sites, parts_of(joint), arities)
    kinds = own
    for _ in range(_DEPTH):
        before, kinds = kinds, own.copy()
        for k in range(arities.max(initial=0)):
            rows = np.flatnonzero(arities > k)
            read = operands[starts[rows] + k]
            codes = np.where(read >= joint.inputs, before[np.maximum(read - joint.inputs, 0)] + 2, read >= 0)
            # Those without such an operand keep their numbers, which no other one gets.
            kinds[rows] = kinds.max(initial=0) + 1 + paired(kinds[rows], codes)
        kinds = distinct(kinds)[2]
    return kinds


def _inherit(joint: Program, owners: Owners) -> None:
    """Give equations without any line those of the equations that read them."""
    starts, operands = np.asarray(joint.starts), np.asarray(joint.operands)
    readers = np.repeat(np.arange(len(joint)), np.diff(starts))
    without = np.append(owners.which == 0, False)  # for inputs and constants, too
    read = np.where(operands >= joint.inputs, operands - joint.inputs, len(joint))
    chosen = np.flatnonzero(without[read])[::-1]
    which: list[int] = owners.which.tolist()
    waiting: dict[int, dict[int, None]] = {}  # the groups of the readers of each
    known: dict[tuple[int, ...], int] = {}

    def settle(e: int) -> int:
        """The group of an equation, all readers of which are behind."""
        if not which[e] and e in waiting:
            groups = tuple(waiting.pop(e))
            if groups not in known:
                lines = (line for group in groups for line in owners.groups[group])
                known[groups] = owners.group({line.id: line for line in lines}.values())
            which[e] = known[groups]
        return which[e]

    for reader, e in zip(readers[chosen].tolist(), read[chosen].tolist(), strict=True):
        waiting.setdefault(e, {})[settle(reader)] = None
    for e in sorted(waiting, reverse=True):
        settle(e)
    owners.which = np.array(which, dtype=np.int64)
