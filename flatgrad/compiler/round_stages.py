"""Functions with many rounds: a few members of their family, with few rounds each, stand for all.

The joint program of a function whose loop has a million rounds is that of a dozen rounds, with other sizes. So a
dozen rounds are differentiated and re-rolled, three times, with different numbers of them; what comes of it is
generalised (`open_stages`), compared with one more member, and bound to the number of rounds. One kernel's code serves
all numbers of rounds: the last ones are kept, by what all members of the family have in common.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from ..runtime.errors import ARITHMETIC_ERRORS, FAULT, FlatgradError, ProgramError
from ..runtime.forks import in_child
from ..runtime.wording import count_of
from .languages.costs import Choice
from .languages.loader import LoadedModule, collector_paused
from .loops.array_program import ArrayProgram
from .loops.extents import samples_of
from .loops.reroll.packs import TERMS
from .loops.rounds import ALONE
from .machine import native
from .open_stages import BoundStages, GrowingError, NotOpenError, OpenStages
from .printing import Printed, Sizes
from .program.family import Family
from .program.folding import fold
from .program.passes.dead_code import remove_dead_code
from .program.program import Group, Program
from .program.ways import Way
from .routine import Routine
from .stage import stage
from .stages import Stages

#: The extents of members from which a program for all is made, until they are alike; and those where two are open.
#: Sums over rounds are statements of their own from `TERMS` rounds on, so the smallest come last if there are others.
_WINDOWS: Final = (9, 11, 13), (19, 20, 22), (24, 26, 29), (33, 37, 40)
_PAIRS: Final = (9, 11, 12, 14), (24, 26, 27, 29)
#: The member that is compared has so many rounds, or fewer: about so many equations.
_COMPARED, _EQUATIONS = 40, 20_000
#: Members are made if the whole program has so many times as many equations as they have together.
_PART = 2
#: How functions are re-rolled: what has so many terms is a statement, at first as in the whole program, then less;
#: and only what has so many lanes, if small statements could hide rounds. In the end, that alone.
_WAYS: Final = ((TERMS, 0), (TERMS, ALONE)), ((4, 0), (2, 0)), ((TERMS, ALONE),)
#: Without machine code, so many equations of the traced program are more than Python compiles in a short time.
_FLAT = 100_000
#: How many open kernels are kept, with those for which there are none.
_KEPT = 64


class _Refused(NamedTuple):
    """Why there are no open stages, and how many windows were tried. Where there are more rounds, there are more."""

    reason: str
    windows: int


#: By what all members have in common: the open stages, and the extents that were compared; or why there are none.
_known: dict[Any, tuple[OpenStages, tuple[int, ...]] | _Refused] = {}
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


in_child(_renew_lock)


def with_rounds(stages: Stages, inputs: Sequence[Any]) -> Any:
    """The stages of a function, whose code is bound to the number of its rounds if that is worth it and possible.

    Args:
        stages: of the function.
        inputs: what it is called with: a number, or a list of numbers, per group of inputs.
    """
    if not _suits(stages):
        return stages
    if stages.family is None:
        stages.family = fold(stages.traced)
    family = stages.family
    if family is None:
        return stages
    try:
        open_stages, compared = _open_stages(stages, family, inputs)
        return RoundStages(open_stages, stages, family, compared)
    except NotOpenError:
        return stages


def _suits(stages: Stages) -> bool:
    """Whether the back end is better with loops that serve all numbers of rounds."""
    backend = stages.options.backend
    return (backend in ("auto", "native") and native.available()) or len(stages.family or stages.traced) > _FLAT


def _open_stages(stages: Stages, family: Family, inputs: Sequence[Any]) -> tuple[OpenStages, tuple[int, ...]]:
    """The open stages of a family, which have been compared, and the extents at which that was done.

    Raises:
        NotOpenError: if there are none.
    """
    windows = [samples_of(window, len(family.extents)) for window in (_WINDOWS, _PAIRS)[len(family.extents) - 1]]
    windows = list(itertools.takewhile(partial(_is_long, family), windows))
    if not windows:
        raise NotOpenError("there are few rounds")
    if len(family.extents) == 1:
        windows = windows[1:] + windows[:1]
    try:
        sample = _sample(stages, family, windows[0][0])
    except ProgramError as error:
        raise NotOpenError(str(error)) from None
    lengths = tuple(map(tuple, stages.lengths))
    described = stages.name, stages.title, sample.options, tuple(stages.functions)
    key = family.digest(), type(sample), repr(sample.request), lengths, described
    with _lock:
        known = _known.pop(key, None)
        if known is None or (isinstance(known, _Refused) and known.windows < len(windows)):
            known = _made(stages, family, windows, inputs)
        while len(_known) >= _KEPT:
            del _known[next(iter(_known))]
        _known[key] = known  # the last one used is the last one dropped
    if isinstance(known, _Refused):
        raise NotOpenError(known.reason)
    return known


def _made(
    stages: Stages, family: Family, windows: Sequence[Sequence[tuple[int, ...]]], inputs: Sequence[Any]
) -> tuple[OpenStages, tuple[int, ...]] | _Refused:
    """Open stages from members of a family, with the extents that were compared; or why there are none."""
    reason, count = "", len(family.extents)
    members: dict[tuple[int, ...], Stages] = {}
    folds = True

    def members_at(sizes: Sequence[tuple[int, ...]]) -> list[Stages]:
        for each in sizes:
            members[each] = members.get(each) or _sample(stages, family, each, folds=folds)
        return [members[each] for each in sizes]

    grows = False
    for ways, sizes in itertools.product(_WAYS, windows):
        if grows and ways != _WAYS[-1]:
            continue
        try:
            samples = members_at(sizes)
            if folds and len({tuple(map(repr, sample.cleaned.constants)) for sample in samples}) > 1:
                folds = False  # what constants come to depends on the round: it is computed there, not guessed
                members.clear()
                samples = members_at(sizes)
            opened = OpenStages(samples, sizes, ("n", "m")[:count], ways, len(family.data))
            return opened, _compare(opened, stages, family, inputs)
        except (NotOpenError, ProgramError) as error:
            reason = str(error)
            grows = grows or (isinstance(error, GrowingError) and sizes != windows[0])  # rounds are hidden, or unlike
    return _Refused(reason, len(windows))


def _is_long(family: Family, sizes: Sequence[tuple[int, ...]]) -> bool:
    """Whether there are so many rounds that it is worth it to make members of so few."""
    if any(extent <= max(each) for extent, each in zip(family.extents, zip(*sizes, strict=True), strict=True)):
        return False
    return len(family) > _PART * sum(map(family.length_at, sizes))


def _sample(stages: Stages, family: Family, sizes: Sequence[int], whole: bool = False, folds: bool = True) -> Stages:
    """The stages of a member; `whole` is one in which the data are constants. `folds` folds operations on constants."""
    made = stages.like(family.reduced(sizes).whole() if whole else family.at(sizes))
    made.data = 0 if whole else len(family.data)
    if not folds:
        made.primal_passes = made.array_passes = (remove_dead_code,)
    made.lengths = tuple(map(tuple, stages.lengths))
    return made


def _compare(opened: OpenStages, stages: Stages, family: Family, inputs: Sequence[Any]) -> tuple[int, ...]:
    """Compare what is bound to moderate extents with the member that has them, bit by bit; return the extents.

    Raises:
        NotOpenError: if there is a difference.
    """
    per_round = max(1, opened.sizes(opened.at.sizes[-1]).equations // max(opened.at.sizes[-1]))
    most = max(max(opened.at.sizes[-1]) + 2, min(_COMPARED, _EQUATIONS // per_round))
    extents = tuple(min(most + k, extent) for k, extent in enumerate(family.extents))
    bound = BoundStages(opened, extents, partial(_sample, stages, family, extents, True), family.reduced(extents).data)
    groups = family.at(extents).input_groups
    try:
        numbers = [_resized(item, group) for item, group in zip(inputs, groups, strict=False)]
        differs = bound.differs(numbers)
    except ARITHMETIC_ERRORS as error:  # it is defined for none of the numbers
        raise NotOpenError(f"it could not be compared: {error}") from None
    if differs:
        raise NotOpenError("the program for all numbers of rounds gives other bits")
    return extents


def _resized(item: Any, group: Group) -> Any:
    """Such an input for a group of another size."""
    if group.scalar:
        return item
    numbers = list(item)
    return [numbers[k % len(numbers)] for k in range(group.size)]


class RoundStages(BoundStages):
    """The stages of a function with many rounds, whose code is bound to their number.

    Args:
        open_stages: for all numbers of rounds.
        stages: those of the whole program, which is made if it is asked for.
        family: the programs with all numbers of rounds.
        compared: the extents at which the code was compared.
    """

    def __init__(self, open_stages: OpenStages, stages: Stages, family: Family, compared: tuple[int, ...]) -> None:
        super().__init__(open_stages, family.extents, lambda: stages, [rows.ravel() for rows in family.data])
        self.family = family
        self.compared = compared
        self.way: Way = stages.way
        self.outputs: int = sum(group.size for group in family.groups(outputs=True))

    @stage
    def here(self) -> Stages:
        """The stages of the whole program."""
        return self._make()

    @stage
    def choice(self) -> Choice:
        """The back end that runs, and why."""
        rounds = " and ".join(f"{size:,}" for size in self.extents)
        at = " and ".join(map(str, self.compared))
        made = ", ".join("x".join(map(str, each)) for each in self.open.at.sizes)
        reason = f"one code serves all numbers of rounds, here {rounds}; it was made from {made}, and compared at {at}"
        return Choice(self.open.backend, reason)

    @property
    def whole(self) -> Program:
        """The whole program, with all rounds."""
        return self.here.cleaned

    @stage
    def arrays(self) -> list[ArrayProgram]:
        """The functions re-rolled, with loops over rounds."""
        first, *others = (program.bind(*self.extents, data=self.data) for program in self.open.arrays)
        names = self.family.input_names[: first.inputs]
        return [replace(first, input_names=names) if len(names) == first.inputs else first, *others]

    @property
    def signature(self) -> Program:
        """A program with the inputs of the whole one, and nothing else."""
        groups = self.family.groups()
        return Program(self.name, self.family.input_names[: sum(group.size for group in groups)], groups)

    def printed(self, language: str, *notes: str) -> Printed:
        """The functions in a language; what would be long in flat Python has loops."""
        if language == "python" and len(self.family) > _FLAT:
            language = "rolled"
        return super().printed(language, *notes)

    def steps(self) -> Iterator[tuple[str, Any]]:
        """The family, the program behind each pass with few rounds, and the array programs for all numbers of them."""
        yield "traced", self.family
        yield from self.open.steps()

    # --- faults ---------------------------------------------------------------------------------------------------

    def routines(self, functions: Sequence[Callable[..., Any]], source: str, codes: Sequence[Any]) -> list[Routine]:
        """The functions as routines; a call that raises is done again without the whole program, if that will do."""
        routines = super().routines(functions, source, codes)
        for routine in routines:
            routine.replay = None
        return routines

    def _meaning_of(self, position: int) -> Program:
        program = self.arrays[position]
        return Meaning(
            self.name,
            program.input_names,
            program.input_groups,
            output_groups=program.output_groups,
            run=partial(self._evaluate, position),
        )

    @stage
    def _in_python(self) -> dict[str, Any]:
        with collector_paused():
            return LoadedModule(super().printed("rolled").sections, self.name).names

    def _evaluate(self, position: int, inputs: Sequence[float]) -> list[float]:
        """The results of a function step by step, or the error that the interpreter raises."""
        arguments, start = [], 0
        for group in self.arrays[position].input_groups:
            part = list(inputs[start : start + group.size])
            arguments.append(part[0] if group.scalar else part)
            start += group.size
        try:
            returned = self._in_python[self.functions[position][0]](*arguments)
        except (*ARITHMETIC_ERRORS, FAULT) as error:
            if isinstance(error, FlatgradError):
                raise
            if not position:
                self._evaluate_value(inputs)
            replay = self.here.replays().get(position)
            if replay is not None:
                replay(list(inputs))
            return self.here.array_parts[position].evaluate(inputs)
        results = returned if isinstance(returned, tuple) else (returned,)
        return [n for result in results for n in (result if isinstance(result, list) else [result])]

    def _evaluate_value(self, inputs: Sequence[float]) -> None:
        """Raise what computing the value raises. Gradients come later."""
        sample = self.open.samples[0]
        if len(sample.primal) == len(sample.traced):
            self.family.evaluate(inputs)
        else:  # some of it is not computed
            self.here.primal.evaluate(inputs)

    @stage
    def sizes(self) -> Sizes:
        """The sizes of the whole program."""
        return self.open.sizes(self.extents)

    def __repr__(self) -> str:
        rounds = " and ".join(count_of(size, "round") for size in self.extents)
        return f"<RoundStages of {self.title}, {rounds}: print them to see the program behind each pass>"


class Meaning(Program):
    """What a function computes, run by something else than its equations."""

    def __init__(self, *args: Any, run: Callable[[Sequence[float]], list[float]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._run = run

    def evaluate(self, inputs: Sequence[float]) -> list[float]:
        return self._run(inputs)
