"""Ways that differ in how many equal rounds they went: one kernel, whose number of rounds is found at each call.

A `while` loop goes another number of rounds for other numbers. Each of these is a way. When a second one is met, the
function is traced on the way of a few small numbers of rounds, and what comes of it is generalised, as a function of
the size of an argument is (`open_stages`). From then on a call needs its number of rounds only: the conditions of more
rounds than that are computed at once, and the first one that fails says it. Then the kernel that is bound to this
number runs, whose guards confirm it. Each number of rounds is traced when it is met first, and compared: the function
may count its rounds, and do something else from some number on.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

from ...runtime.errors import ARITHMETIC_ERRORS, FlatgradError, ProgramError
from ..calls.arguments import Arguments
from ..calls.binding import MISS, Signature, make_binder, make_builtin
from ..calls.captured import Captured
from ..calls.number_kinds import NUMBER
from ..calls.sizes import OpenKind, resized, sized_kinds, sizes_of
from ..kernel import Kernel
from ..languages.costs import Choice
from ..languages.loader import collector_paused
from ..loops.extents import bound
from ..machine.builtin import watch
from ..open_kernel import OpenKernel
from ..open_stages import BoundStages, NotOpenError, OpenStages
from ..options import Options
from ..pairs import PairStages
from ..program.passes.dead_code import remove_dead_code
from ..program.program import Group, Program
from ..program.ways import Rounds, Way, whole_rounds
from ..round_stages import Meaning
from ..routine import Routine
from ..stage import stage
from ..stages import Stages
from .sizes import Owner, TracedCall, open_kind

#: The numbers of rounds at which a function is traced, until the programs are alike.
_WINDOWS: Final = (9, 11, 13), (24, 26, 29)
#: How functions are re-rolled: see `OpenStages`.
_WAYS: Final = (4, 0), (2, 0), (1_000_000_000, 0)
#: For so many numbers of rounds a kernel stays bound.
_BOUND: Final = 128
#: So often a number of rounds is tried with numbers that turn out to go another way.
_DOUBTS: Final = 16
#: Numbers of rounds are compared number by number in programs of so many equations; in larger ones, operations are
#: counted.
_EVALUATED: Final = 20_000
#: So many rounds are looked at first, then four times as many, and so on up to a limit.
_FIRST, _FACTOR, _LAST = 16, 4, 1 << 20

#: After so many calls in turn with one number of rounds its kernel is tried first; twice as many the next time.
_STREAK: Final = 32

E = TypeVar("E", bound=Any)


class _TurnsOffError(Exception):
    """Inputs go another way than the conditions of the rounds say."""


class LoopStages(BoundStages):
    """The stages of a function on a way with some number of rounds, whose code serves all numbers of them.

    Args:
        loop: the ways.
        count: the number of rounds.
        make: traces the function on this way.
    """

    def __init__(self, loop: Loop[Any], count: int, make: Callable[[], Stages]) -> None:
        super().__init__(loop.kernel.stages, (count,), make)
        self.loop = loop
        self.way: Way = loop.rounds.at(count)._replace(selects=loop.call.stages.way.selects)

    @property
    def choice(self) -> Choice:
        """The back end that runs, and why."""
        made = ", ".join(str(size) for (size,) in self.open.at.sizes)
        reason = f"one code serves all numbers of rounds, here {self.extents[0]:,}; it was made from {made}"
        return Choice(self.open.backend, reason)

    def _meaning_of(self, position: int) -> Program:
        return super()._meaning_of(position) if position else self._light

    @stage
    def _light(self) -> Program:
        """The first function, whose equations are made when it is evaluated."""
        groups, results, _ = self.open._prepared.signatures[0]
        first, last = (
            [Group(g, bound(n, self.extents), scalar) for g, n, scalar in each] for each in (groups, results)
        )
        return Meaning(self.name, [], first, output_groups=last, run=self._evaluate)

    def _evaluate(self, inputs: Sequence[float]) -> list[float]:
        return self.here.array_parts[0].evaluate(inputs)

    def turn(self, inputs: Sequence[float], word: int = 0) -> tuple[int, bool | int] | None:
        """The guard at which these inputs go another way; None if they do not; -1 for another number of rounds."""
        count = self.loop.count(inputs)
        return super().turn(inputs) if count in (None, *self.extents) else (-1, False)


class Front(Generic[E]):
    """All numbers of rounds of a loop, as one among the kernels that calls try: it finds their number, and the kernel.

    It has what entries have (`dispatch.Entry`).

    Args:
        loop: the ways.
        entry: for some number of rounds: it is tried before the number of rounds is found.
    """

    def __init__(self, loop: Loop[E], entry: E) -> None:
        self.loop = loop
        self.hot: E = entry
        self.kernel: Kernel = entry.kernel
        self.captured: Captured = entry.captured
        self.keywords: tuple[str, ...] = entry.keywords
        self.misses: int = 0
        self.settled: bool = False
        self.new: bool = True
        self.direct: Callable[..., Any] | None = None
        self.ways: Any = entry.ways
        #: By their number of rounds.
        self.entries: dict[float, E] = {}
        #: Which say how many rounds there are, if there are fewer than some number.
        self.finders: list[tuple[int, Finder]] = []
        self._streak, self._patience = 0, _STREAK

    def take(self, count: int, entry: E) -> None:
        """Let calls find the entry for a number of rounds."""
        entry.prepare()
        self.entries[float(count)] = entry
        while not self.finders or self.finders[-1][0] <= count:
            most = _FIRST * _FACTOR ** len(self.finders)
            self.finders.append((most, Finder(self.loop, self.loop.bound_finder(most), entry.keywords)))

    def drop(self, count: int) -> None:
        """The entry for a number of rounds is no longer kept."""
        self.entries.pop(float(count), None)

    def prepare(self) -> None:
        """Nothing: entries are prepared when they are made."""

    def rewatch(self) -> None:
        """Let the builtins know the objects that the function has captured now."""
        watches = self.captured.watches()
        for _, finder in self.finders:
            finder.watch(watches)

    def binder(self, items: tuple[Any, ...]) -> Any:
        """The result for arguments in order; `MISS` if it is not known."""
        result = self.hot.bound(items) if self.hot.binder is not None else MISS
        return self.answer(items) if result is MISS else result

    bound = binder

    def answer(self, items: tuple[Any, ...]) -> Any:
        """The result for arguments in order; `MISS` if it is not known."""
        for most, finder in self.finders:
            count = finder.answer(items)
            if count is MISS:
                return MISS
            if count < most:
                entry = self.entries.get(count)
                if entry is None:
                    return MISS
                self.hot = entry
                return entry.answer(items)
        return MISS

    @property
    def make_builtin(self) -> Callable[[Callable[..., Any]], Callable[..., Any] | None] | None:
        """Makes a builtin; None if there can be none."""
        return None if self.hot.make_builtin is None or self.keywords else self._builtin

    def _builtin(self, fallback: Callable[..., Any]) -> Callable[..., Any] | None:
        finders, entries = self.finders, self.entries

        def call(*args: Any, **kwargs: Any) -> Any:
            if not kwargs:
                for most, finder in finders:
                    count = finder.direct(*args)
                    if count is MISS:
                        break
                    if count < most:
                        entry = entries.get(count)
                        if entry is not None and entry.direct is not None:
                            if entry is self._next:
                                self._streak -= 1
                                if not self._streak:
                                    self._heat(entry)
                            else:
                                self._next, self._streak = entry, self._patience
                            result = entry.direct(*args)
                            if result is not MISS:
                                return result
                        break
            return fallback(*args, **kwargs)

        return self.hot.make_builtin(call)  # type: ignore[no-any-return]

    _next: E | None = None

    def _heat(self, entry: E) -> None:
        """Let an entry be tried first that has been the right one again and again."""
        self.hot, self._patience = entry, 2 * self._patience
        owner: Any = self.loop.owner
        owner._chain_again()


class Finder:
    """What says, by machine code or by generated Python, how many rounds there are.

    Args:
        loop: the ways.
        stages: of the function that says it.
        keywords: the names of the last arguments.
    """

    def __init__(self, loop: Loop[Any], stages: BoundStages, keywords: tuple[str, ...]) -> None:
        kernel, kinds = Kernel(stages, loop.call.leaves), loop.arguments.kinds
        signature = Signature(kinds, [NUMBER], single=True, with_value=False)
        self.binder: Callable[[tuple[Any, ...]], Any] | None = make_binder(kernel, signature)
        self.direct: Callable[..., Any] = _miss
        if not keywords:
            self.direct = make_builtin(kernel, signature, [None] * len(kinds), len(kinds), _miss) or _miss
            self.watch(loop.call.captured.watches())

    def watch(self, watches: Any) -> None:
        """Compare what the function has captured at each call."""
        if self.direct is not _miss and watches is not None:
            watch(self.direct, watches)

    def answer(self, items: tuple[Any, ...]) -> Any:
        """How many rounds there are for arguments in order; `MISS` if it is not known."""
        result = self.direct(*items)
        return self.binder(items) if result is MISS and self.binder is not None else result


def _miss(*args: Any, **kwargs: Any) -> Any:
    return MISS


class Loop(Generic[E]):
    """The ways that differ in a number of rounds, and their kernel.

    Args:
        owner: the function.
        rounds: the ways.
        arguments: such as the function is called with.

    Attributes:
        kernel: for all numbers of rounds.
        bound: the entries for numbers of rounds, the last one used last.
        least, most: the smallest and the largest number of rounds so far.

    Raises:
        NotOpenError: if there is no kernel for all numbers of rounds.
    """

    def __init__(self, owner: Owner[E], rounds: Rounds, arguments: Arguments) -> None:
        self.owner = owner
        self.rounds = rounds
        if arguments.repeats:
            raise NotOpenError("a Value stands in several places of the arguments")
        pairs = zip(arguments.args, sized_kinds(arguments), strict=True)
        copies = [resized(item, kind, iter(sizes_of(kind)[1])) for item, kind in pairs]
        self.arguments: Arguments = owner._again(arguments, copies)
        self.bound: dict[int, E] = {}
        self._own: set[int] = set()  # numbers of rounds with kernels of their own
        self._doubts: dict[int, int] = {}  # how often numbers went another way than their number of rounds says
        self._finders: dict[int, Routine] = {}
        self.front: Front[E] | None = None
        self.least: int = -1
        self.most: int = -1
        self.calls_before: int = 0  # of kernels that are no longer kept
        self.earlier: list[Kernel] = []  # for single numbers of rounds; calls may still find them
        reason = ""
        for window in _WINDOWS:
            try:
                self._make(window)
                return
            except (NotOpenError, ProgramError) as error:
                reason = str(error)
        raise NotOpenError(reason)

    def _make(self, counts: Sequence[int]) -> None:
        calls = [self._traced(count) for count in counts]
        if len({tuple(map(repr, call.stages.cleaned.constants)) for call in calls}) > 1:
            calls = [self._traced(count) for count in counts]  # what constants come to depends on the round
            for call in calls:
                call.stages.primal_passes = call.stages.array_passes = (remove_dead_code,)
        last = calls[-1]
        self.call: TracedCall = last
        if any(list(map(id, call.leaves)) != list(map(id, last.leaves)) for call in calls):
            raise NotOpenError("the Values that the function reads depend on the number of rounds")
        if not all(map(self.owner._opens_for, calls)):
            raise NotOpenError("the function writes into its arguments")
        sizes = [(count,) for count in counts]
        stages = OpenStages([call.stages for call in calls], sizes, ("n",), _WAYS)
        self.kinds: list[OpenKind | None] = [
            open_kind(each, stages) for each in zip(*(call.kinds for call in calls), strict=True)
        ]
        options = last.stages.options._replace(mode="exact", faults="ieee")
        samples = [self._counting(call, options, count) for call, count in zip(calls, counts, strict=True)]
        self._conditions = OpenStages(samples, sizes, ("n",), _WAYS)
        self.kernel: OpenKernel = OpenKernel(stages, last.leaves, sum(call.seconds for call in calls))

    def _traced(self, count: int) -> TracedCall:
        """The function, traced on the way with so many rounds.

        Raises:
            NotOpenError: if it does not go that way, or raises.
        """
        way = self.rounds.at(count)
        arguments = copy.copy(self.arguments)  # several threads may trace
        arguments.truths = way.truths
        try:
            call = self.owner._trace_call(arguments)
        except Exception as error:  # the users' own: a function may demand that its loop ends soon
            raise NotOpenError(f"with {count} rounds the function raises {type(error).__name__}: {error}") from None
        if call.stages.way.truths != way.truths:
            raise NotOpenError(f"with {count} rounds the function does something else")
        return call

    # --- finding the number of rounds ---------------------------------------------------------------------------------

    def count(self, inputs: Sequence[float], beginning: Sequence[bool | int] = ()) -> int | None:
        """The number of rounds that these inputs go, as it seems; None if it is no number with this kernel.

        They may go another way behind the rounds, and a function may do something else from some round on.

        Args:
            inputs: the numbers of arguments and leaves, in one list.
            beginning: truth values that they are known to meet.
        """
        groups, looked_at = self._grouped(inputs), _FIRST
        while looked_at <= _LAST:
            try:
                count = int(self.finder(looked_at)(*groups))
            except (*ARITHMETIC_ERRORS, NotOpenError):  # in a round that is none, perhaps
                return None
            if count < looked_at:
                known = count >= 0 and count not in self._own
                return count if known and self.rounds.at(count).truths[: len(beginning)] == tuple(beginning) else None
            looked_at *= _FACTOR
        return None

    def _grouped(self, inputs: Sequence[float]) -> list[Any]:
        groups, start = [], 0
        for group in self.call.stages.traced.input_groups:
            part = list(inputs[start : start + group.size])
            groups.append(part[0] if group.scalar else part)
            start += group.size
        return groups

    def finder(self, count: int) -> Routine:
        """What says how many rounds there are, if there are fewer than these."""
        if count not in self._finders:
            with collector_paused():
                self._finders[count] = self.bound_finder(count).loaded.routines[0]
        return self._finders[count]

    def bound_finder(self, count: int) -> BoundStages:
        """The stages of the function that `finder` returns."""
        options = self._conditions.options
        return BoundStages(self._conditions, (count,), lambda: self._counting(self._traced(count), options, count))

    def _counting(self, call: TracedCall, options: Options, count: int) -> PairStages:
        """The stages of the function that says how many rounds there are, if there are fewer than these."""
        return PairStages(
            whole_rounds(call.stages.traced, self.rounds, count), call.stages.title, options, (), scalar=True
        )

    # --- binding ------------------------------------------------------------------------------------------------------

    def entry_for(self, inputs: Sequence[float], beginning: Sequence[bool | int] = ()) -> E | None:
        """The entry for the number of rounds that these inputs go, as it seems; None if there is none."""
        count = self.count(inputs, beginning)
        return None if count is None else self.entry_at(count, inputs)

    def entry_at(self, count: int, inputs: Sequence[float]) -> E | None:
        """The entry for a number of rounds; None if there is none."""
        if count in self._own:
            return None
        entry = self.bound.pop(count, None)
        if entry is None:
            try:
                with collector_paused():
                    entry = self._bound(count, inputs)
            except NotOpenError:
                self._own.add(count)
                return None
            except (_TurnsOffError, FlatgradError):  # what an operation raises, its own kernel says
                self._doubts[count] = self._doubts.get(count, 0) + 1
                if self._doubts[count] == _DOUBTS:
                    self._own.add(count)
                return None
            while len(self.bound) >= _BOUND:
                self._drop(next(iter(self.bound)))
            self.least = count if self.least < 0 else min(count, self.least)
            self.most = max(count, self.most)
        self.bound[count] = entry
        return entry

    def _drop(self, count: int) -> None:
        self.calls_before += self.bound.pop(count).kernel.calls or 0
        if self.front is not None:
            self.front.drop(count)

    def front_of(self, entry: E) -> Front[E]:
        """What calls try for all numbers of rounds; `entry` is for one of them."""
        if self.front is None:
            self.front = Front(self, entry)
        self.front.take(entry.kernel.stages.extents[0], entry)
        self.front.rewatch()
        return self.front

    def _bound(self, count: int, inputs: Sequence[float]) -> E:
        call = self._traced(count)
        if call.stages.turn(inputs) is not None:
            raise _TurnsOffError
        kinds = [kind if kind is None else kind.at((count,)) for kind in self.kinds]
        if kinds != list(call.kinds) or list(map(id, call.leaves)) != list(map(id, self.call.leaves)):
            raise NotOpenError("it returns something else")
        stages = LoopStages(self, count, partial(self._stages_at, count))
        stages.__dict__["here"] = call.stages
        if stages.open.sizes((count,)).equations > _EVALUATED:
            alike = stages.counts_match()
        else:
            try:
                alike = not stages.differs_nearby(self._grouped(inputs))
            except ARITHMETIC_ERRORS as error:  # they go another way, or an operation raises
                raise NotOpenError(f"it could not be compared: {error}") from None
        if not alike:
            raise NotOpenError("the function computes something else")
        entry = self.owner._entry_of(call._replace(seconds=0.0), stages, self.arguments)
        entry.loop = self
        stages.__dict__.pop("here", None)  # it takes memory
        return entry

    def _stages_at(self, count: int) -> Stages:
        return self._traced(count).stages

    @property
    def calls(self) -> int:
        """How many calls have gone these ways."""
        kernels = [*self.earlier, *(entry.kernel for entry in self.bound.values())]
        return self.calls_before + sum(kernel.calls or 0 for kernel in kernels)

    @property
    def smallest(self) -> int:
        """The smallest number of rounds that the kernel is for."""
        return next(
            n for n in itertools.count() if all(program.holds_at((n,)) for program in self.kernel.stages.arrays)
        )

    @property
    def last(self) -> E:
        """The entry that was used last."""
        return next(reversed(self.bound.values()))


def looped_with(way: Way, other: Way) -> Iterator[Rounds]:
    """The ways that differ from two only in the number of rounds, if they are worth a kernel."""
    for multiple in _MULTIPLES:
        rounds = Rounds.between(way, other, multiple)
        if rounds is not None:
            counts = [rounds.count(each) or 0 for each in (way, other)]
            if min(counts) >= _ROUNDS and max(counts) > _ROUNDS:
                yield rounds


#: Ways of fewer rounds are no sign of a loop.
_ROUNDS: Final = 2
#: So many equal parts are tried as one round.
_MULTIPLES: Final = 1, 2, 3
