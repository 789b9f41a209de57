"""Kernels that serve all sizes of their arguments: when they are made, and for which sizes.

A function that is called with arguments of a third size gets one kernel for all of them. It is traced at small sizes,
and generalised (`open_stages`). The first use of each size is compared with the program that is traced there, as far as
about a second of work allows; if there is a difference, that size gets a kernel of its own.
"""

from __future__ import annotations

import bisect
import itertools
import math
import operator
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from ...runtime.errors import PerformanceWarning
from ...runtime.primitive import Primitive
from ...runtime.sites import user_level
from ...runtime.value import Value
from ..calls.arguments import Arguments
from ..calls.captured import Captured
from ..calls.kind import Kind
from ..calls.sizes import OpenKind, Pattern, resized, sized_kinds, sizes_of
from ..checks import numbers_of
from ..loops.extents import Samples, monomials, samples_of
from ..open_kernel import OpenKernel
from ..open_stages import BoundStages, NotBoundError, NotOpenError, OpenStages, operations_of
from ..stages import Stages
from .witness import Counts, Found, is_foreseen
from .witness import numbers_of as all_numbers_of

#: After so many sizes of otherwise equal arguments there is one kernel for all.
SIZES: Final = 3
#: The extents at which a function is traced, until the programs are alike.
_WINDOWS: Final = (3, 4, 5), (5, 6, 7), (5, 7, 9), (7, 9, 11, 13), (17, 20, 24, 27), (33, 37, 40, 46)
#: The same where two extents are open.
_PAIRS: Final = (4, 5, 6, 7), (5, 7, 8, 9), (9, 11, 12, 14)
#: If there is nothing in the first windows, up to this one, and what is traced is uneven at these extents: the steps in
#: which a function may go through its arguments. There are so many extents that each step is made between some of them.
_LAST_SMALL, _CONSECUTIVE, _STEPS = 1, (9, 10, 11, 12, 13), (2, 3, 4)
#: The limit of equations that are traced to find a program for all sizes; and of those that are traced in any case.
_MOST, _FREE = 12_000_000, 400_000
#: Up to so many equations the first use of a size is compared number by number; up to so many equations that tracing
#: records, the operations are counted.
_EVALUATED, _COUNTED = 100_000, 200_000
#: Where a size is too large for both, one with at most so many equations is compared in its place.
_WITNESSED: Final = 50_000
#: From so many operations on, a kernel of one size takes so long that there is a warning.
_SLOW: Final = 1_000_000
#: For how many sizes a function keeps what is bound to them, and for how many what was found out.
_BOUND: Final = 64
_NOTED: Final = 1000
#: How many kernels for all sizes there may be for one structure, and how often one is made again.
_OPEN: Final = 4

E = TypeVar("E")
M = TypeVar("M", covariant=True)


class RowsBranchError(Exception):
    """Rows of a map branch on numbers: a program of all rows would be for the ways that these rows go."""


class TracedCall(NamedTuple):
    """A function traced for some arguments.

    Attributes:
        stages: of the traced program.
        leaves: the `Value`s that it reads.
        captured: what the function captured.
        kinds: of the results.
        rest: whatever else belongs to how it is called; the same for all sizes.
        seconds: that tracing took.
    """

    stages: Stages
    leaves: list[Value]
    captured: Captured
    kinds: Sequence[Kind | None]
    rest: Any
    seconds: float


class Owner(Protocol[M]):
    """A transformed function, as its kernels for all sizes see it."""

    name: str
    _run_row: Callable[[Callable[[], Any]], Any] | None
    _effort: int

    def _trace_call(self, arguments: Arguments, named: bool = True) -> TracedCall: ...
    def _trace_sample(self, arguments: Arguments, first: TracedCall | None, named: bool) -> TracedCall: ...
    def _entry_of(self, call: TracedCall, stages: Any, arguments: Arguments) -> M: ...
    def _again(self, arguments: Arguments, args: Sequence[Any]) -> Arguments: ...
    def _opens_for(self, call: TracedCall) -> bool: ...
    def _inputs_of(self, arguments: Arguments, leaves: Sequence[Value]) -> list[Any]: ...
    def _bound_stages(
        self, open_stages: OpenStages, extents: Sequence[int], make: Callable[[], Stages]
    ) -> BoundStages: ...
    def _opens_at_once(self, sizes: Sequence[int]) -> bool: ...
    def _of_value(self) -> Owner[Any] | None: ...
    def _value_kinds(self, kinds: Sequence[Kind | None]) -> list[Kind]: ...
    def _call_plainly(self, arguments: Arguments, args: Sequence[Any]) -> Any: ...
    def _call_on_values(self, arguments: Arguments) -> Any: ...
    def _open_sizes(self, arguments: Arguments) -> list[bool]: ...
    def _row_sizes(self, arguments: Arguments) -> list[bool]: ...


class _Open(Generic[E]):
    """One kernel for all sizes of a pattern.

    Attributes:
        bound: the entries for sizes that it was bound to, the last one used last.
        verdicts: what was found out about extents; see `OpenStats`.
        differences: of some that are different, in which respect.
        value: what is known of the sizes of the value of a derivative, and the kernel for all sizes of it. None if
            there is none.
    """

    value: tuple[KnownSizes[Any], _Open[Any]] | None

    def __init__(
        self, pattern: Pattern, kernel: OpenKernel, call: TracedCall, kinds: Sequence[OpenKind | None]
    ) -> None:
        self.pattern, self.kernel, self.call, self.kinds = pattern, kernel, call, kinds
        self.bound: dict[tuple[int, ...], E] = {}
        self.verdicts: dict[tuple[int, ...], str] = {}
        self.differences: dict[tuple[int, ...], str] = {}

    def note(self, extents: tuple[int, ...], verdict: str) -> None:
        """Keep what was found out about extents; of many, the last ones."""
        key: Any = extents if len(extents) > 1 else extents[0]
        for notes, place in (self.verdicts, extents), (self.kernel.stats.sizes, key):
            while len(notes) >= _NOTED:
                del notes[next(iter(notes))]
            notes[place] = verdict
        if verdict != "different":
            self.differences.pop(extents, None)

    def reason(self, extents: tuple[int, ...]) -> str:
        """Why these extents have a kernel of their own; empty if they do not."""
        named = " and ".join(f"{name} = {n}" for name, n in zip(_names(len(extents)), extents, strict=True))
        if min(extents) < 1 and self.pattern.step == 1:
            return "a size is 0"
        verdict = self.verdicts.get(extents)
        if verdict == "different":
            text = f"the function computes something else for {named} than the kernel for all sizes does"
            difference = self.differences.get(extents)
            return f"{text}: {difference}" if difference else text
        unfit = verdict == "not bound" or min(extents) < 1
        return f"the kernel for all sizes is not for {named}" if unfit else ""


class KnownSizes(Generic[E]):
    """What a function knows of the sizes of its arguments, for one structure of them.

    Args:
        owner: the function.
        dynamic: None: one kernel for all sizes from the third size on; True: from the first one on.
    """

    def __init__(self, owner: Owner[E], dynamic: bool | None) -> None:
        self.owner = owner
        self.dynamic = dynamic
        self.seen: list[tuple[int, ...]] = []
        self.open: list[_Open[E]] = []
        self.refused: dict[Pattern, str] = {}
        self.steps: dict[Pattern, int] = {}
        self.made: int = 0

    def entry(self, arguments: Arguments, sizes: tuple[int, ...]) -> tuple[E | None, str]:
        """An entry of a kernel for all sizes; None if arguments of these sizes need a kernel of their own, and why.

        There is no reason where a kernel for all sizes has not been looked for yet.
        """
        for each in self.open:
            extents = each.pattern.extents_of(sizes)
            if extents is not None and (each.call.captured.unchanged() or each.call.captured.same()):
                return self._entry_at(each, extents, arguments), each.reason(extents)
        if sizes not in self.seen and len(self.seen) < _BOUND:
            self.seen.append(sizes)
        pattern = self._pattern(arguments, sizes)
        if pattern is None:
            return None, ""
        if pattern.extents > 2:
            return None, "more than two sizes change independently of each other"
        if pattern in self.refused:
            return None, self.refused[pattern]
        if self.made >= 2 * _OPEN:
            return None, "what the function captured has changed, or sizes have, too often for one kernel for all sizes"
        extents = pattern.extents_of(sizes)
        if extents is None or min(extents) < 1:
            return None, "a size is 0"
        if pattern in self.steps:  # there is a kernel for other sizes, between which these are
            pattern = pattern.in_steps(self.steps[pattern], *extents)
            if pattern in self.refused:
                return None, self.refused[pattern]
        self.made += 1
        try:
            opened = self._opened(pattern, arguments, sizes)
        except NotOpenError as error:
            self.refused[pattern] = str(error)
            return None, str(error)
        if opened.pattern.step != pattern.step:
            self.steps[pattern] = opened.pattern.step
        self.open = [opened, *self.open][:_OPEN]
        extents = opened.pattern.extents_of(sizes)
        assert extents is not None
        return self._entry_at(opened, extents, arguments), opened.reason(extents)

    def _pattern(self, arguments: Arguments, sizes: tuple[int, ...]) -> Pattern | None:
        """Which sizes are open, as far as calls have shown."""
        if len(self.seen) >= (2 if self.dynamic else SIZES):
            return Pattern.of(self.seen)
        if self.dynamic or (self.dynamic is None and self.owner._opens_at_once(sizes)):
            return Pattern.of_equal(sizes, self.owner._open_sizes(arguments))
        return None

    # --- making ---------------------------------------------------------------------------------------------------

    def _opened(self, pattern: Pattern, arguments: Arguments, sizes: Sequence[int]) -> _Open[E]:
        """One kernel for all sizes of a pattern, or for every so manyth.

        Raises:
            NotOpenError: if there is none.
        """
        samples = _Samples(self, arguments, sizes)
        found = None
        for position, window in enumerate(_WINDOWS if pattern.extents == 1 else _PAIRS):
            found = found or samples.kernel(pattern, window)
            if found is None and position == _LAST_SMALL and pattern.extents == pattern.step == 1:
                goes_in_steps = samples.are_even(pattern, _CONSECUTIVE) is False
                found = self._in_steps(pattern, samples, sizes) if goes_in_steps else None
        if found is None:
            raise NotOpenError(samples.reason)
        return found

    def _in_steps(self, pattern: Pattern, samples: _Samples[E], sizes: Sequence[int]) -> _Open[E] | None:
        """One kernel for every so manyth size of a pattern; None if there is none."""
        extents = pattern.extents_of(sizes)
        assert extents is not None
        for step in _STEPS:
            stepped = pattern.in_steps(step, *extents)
            for window in _WINDOWS[_LAST_SMALL:]:
                if not samples.are_even(stepped, window):
                    break
                found = samples.kernel(stepped, window)
                if found is not None:
                    return found
        return None

    def _traced_at(
        self, pattern: Pattern, arguments: Arguments, extents: tuple[int, ...], first: TracedCall | None, named: bool
    ) -> TracedCall:
        """The function traced at some extents; `named` is for the last sample, whose program users may print."""
        try:
            return self.owner._trace_sample(self._with_sizes(arguments, pattern.sizes_at(extents)), first, named)
        except RowsBranchError:
            raise
        except Exception as error:  # the users' own: a function may demand a number of rows
            raise NotOpenError(f"at another size the function raises {type(error).__name__}: {error}") from None

    def _merged(self, pattern: Pattern, calls: Sequence[TracedCall], sizes: Sequence[tuple[int, ...]]) -> _Open[E]:
        last = calls[-1]
        if any(list(map(id, call.leaves)) != list(map(id, last.leaves)) for call in calls):
            raise NotOpenError("the Values that the function reads depend on the sizes")
        if any(call.stages.way.truths for call in calls):
            raise NotOpenError("the function chooses by numbers which way it goes")
        if not all(map(self.owner._opens_for, calls)):
            raise NotOpenError("the function writes into its arguments")
        if not all(call.captured.same() for call in calls):
            raise NotOpenError("the function changes what it reads from outside")
        names = _names(pattern.extents)
        stages = OpenStages([call.stages for call in calls], sizes, names)
        kinds = [open_kind(each, stages) for each in zip(*(call.kinds for call in calls), strict=True)]
        kernel = OpenKernel(stages, last.leaves, sum(call.seconds for call in calls))
        return _Open(pattern, kernel, last, kinds)

    # --- binding --------------------------------------------------------------------------------------------------

    def _entry_at(self, opened: _Open[E], extents: tuple[int, ...], arguments: Arguments) -> E | None:
        if min(extents) < 1 or opened.verdicts.get(extents) in _OWN:
            return None
        entry = opened.bound.pop(extents, None)
        if entry is None:
            entry = self._bound(opened, extents, arguments)
            if entry is None:
                return None
            while len(opened.bound) >= _BOUND:
                del opened.bound[next(iter(opened.bound))]
        opened.bound[extents] = entry
        return entry

    def _bound(self, opened: _Open[E], extents: tuple[int, ...], arguments: Arguments) -> E | None:
        stages, traced = self._stages_at(opened, extents, arguments)
        if extents not in opened.verdicts:  # what was bound to these extents before may be dropped
            opened.note(extents, self._compared(opened, extents, arguments, stages, traced))
            if opened.verdicts[extents] == "different":
                self._warn(opened, extents)
        if opened.verdicts[extents] in _OWN:
            return None
        kinds = [kind if kind is None else kind.at(extents) for kind in opened.kinds]
        return self.owner._entry_of(opened.call._replace(kinds=kinds, seconds=0.0), stages, arguments)

    def _stages_at(
        self, opened: _Open[E], extents: tuple[int, ...], arguments: Arguments
    ) -> tuple[BoundStages, Callable[[], TracedCall]]:
        """What is bound to some extents, and what traces the function there."""
        # Arguments are not kept: they may be large, and may be changed in place. What is kept has their structure.
        small = self._with_sizes(arguments, [min(size, 1) for size in _sizes_of(arguments)])
        here = opened.pattern.sizes_at(extents)

        def traced() -> TracedCall:
            return self.owner._trace_sample(self._with_sizes(small, here), opened.call, True)

        return self.owner._bound_stages(opened.kernel.stages, extents, lambda: traced().stages), traced

    def _compared(
        self, opened: _Open[E], extents: tuple[int, ...], arguments: Arguments, stages: BoundStages,
        traced: Callable[[], TracedCall],
    ) -> str:  # fmt: skip
        """How what is bound to some extents compares with what is traced there."""
        open_stages = stages.open
        try:
            _ = stages.loaded
            differs = stages.differs if self.owner._run_row is None else stages.differs_nearby
            inputs = self.owner._inputs_of(arguments, opened.call.leaves)
            if extents in open_stages.at.sizes:
                stages.__dict__["here"] = open_stages.samples[open_stages.at.sizes.index(extents)]
                return "different" if differs(inputs) else "traced"
            most = open_stages.at.sizes[-1]
            if max(extents) > 2 * max(most) and self._unseen(opened, arguments):
                verdict = self._compared_at(opened, tuple(n + 3 for n in most), arguments)
                return "different" if verdict in _OWN else "rows"
            effort = self.owner._effort
            evaluated = open_stages.sizes(extents).equations * effort <= _EVALUATED
            if not evaluated and open_stages.traced(extents) * effort > _COUNTED:
                return self._witnessed(opened, extents, arguments)
            call = traced()
            stages.__dict__["here"] = call.stages
            if not self._is_alike(opened, extents, call):
                return "different"
            if not evaluated:
                foreseen = stages.counts_match() and not self._difference(opened, extents, most, arguments)
                return "counted" if foreseen else "different"
            return "different" if differs(inputs) else "compared"
        except Exception:  # what is wrong with the function at this size, its own kernel will say
            return "not bound"
        finally:
            stages.__dict__.pop("here", None)  # it takes memory

    def _is_alike(self, opened: _Open[E], extents: tuple[int, ...], call: TracedCall) -> bool:
        """Whether what was traced at some extents reads the same, and returns the same kinds, as is expected there."""
        kinds = [kind if kind is None else kind.at(extents) for kind in opened.kinds]
        same_leaves = list(map(id, call.leaves)) == list(map(id, opened.call.leaves))
        return same_leaves and not call.stages.way.truths and kinds == list(call.kinds) and self.owner._opens_for(call)

    def _witnessed(self, opened: _Open[E], extents: tuple[int, ...], arguments: Arguments) -> str:
        """What is said of extents that are too large: smaller ones are compared in their place.

        They are as large as time allows; so a function that takes another way from some size on is seen to do so if
        that size is smaller. Others divide the extents, for a function that takes whole blocks of rows.
        """
        stages = opened.kernel.stages

        def fits(count: int) -> bool:
            return stages.sizes(_scaled(extents, count)).equations * self.owner._effort <= _WITNESSED

        most = bisect.bisect_left(range(max(extents)), True, key=lambda count: not fits(count)) - 1
        divisors = (k for k in range(most, 0, -1) if max(extents) % k == 0)
        largest = stages.at.sizes[-1]
        for count in dict.fromkeys([*itertools.islice(divisors, 1), most]):
            smaller = _scaled(extents, count)
            if count < 1 or not any(map(operator.gt, smaller, stages.at.sizes[-1])):
                continue  # smaller than what was traced already
            if self._compared_at(opened, smaller, arguments) in _OWN:
                opened.differences[extents] = f"it does so at {max(smaller):,} already"
                return "different"
            largest = smaller
        difference = self._difference(opened, extents, largest, arguments)
        return "too large to be compared" if difference is None else "different" if difference else "value compared"

    def _warn(self, opened: _Open[E], extents: tuple[int, ...]) -> None:
        """Say that a size has a kernel of its own, if that takes long."""
        operations = opened.kernel.stages.traced(extents) * self.owner._effort
        if operations > _SLOW:
            warnings.warn(
                f"{self.owner.name} gets a kernel for this size alone, since {opened.reason(extents)}. That takes long "
                f"at each such size, as the function makes {operations:,} operations. Write it so that it does the "
                "same for all sizes, or call it with a part of the data at a time and add up what it returns",
                PerformanceWarning,
                stacklevel=user_level(),
            )

    def _difference(
        self, opened: _Open[E], extents: tuple[int, ...], smaller: tuple[int, ...], arguments: Arguments
    ) -> str | None:
        """In which respect the value of the function is not that of the kernel for all sizes; it is noted.

        It is an empty text if it is that value, and None if it cannot be compared.

        Args:
            opened: the kernel.
            extents: those of the arguments.
            smaller: extents for which the kernel is right.
            arguments: of the call.
        """
        found = self._value_of(opened, arguments)
        if found is None:
            return None
        known, value = found
        owner, stages = known.owner, opened.kernel.stages
        blank = owner._again(arguments, arguments.args)

        def kernel(args: Sequence[Any]) -> Found:
            again = owner._again(blank, args)
            at = value.pattern.extents_of(_sizes_of(again))
            assert at is not None
            bound, _ = known._stages_at(value, at, again)
            results = bound.loaded.routines[0].function(*owner._inputs_of(again, value.call.leaves))
            kinds = owner._value_kinds([kind if kind is None else kind.at(at) for kind in value.kinds])
            count = sum(kind.size for kind in kinds)
            return Found(all_numbers_of(results)[:count], [size for kind in kinds for size in sizes_of(kind)[1]])

        def foresee(count: Callable[[Sequence[Any]], Counts]) -> tuple[Counts, Counts] | None:
            samples = [self._with_sizes(arguments, opened.pattern.sizes_at(each)).args for each in stages.at.sizes]
            counts = list(map(count, samples))
            rows: list[Primitive] = list(dict.fromkeys(row for each in counts for row in each))
            columns = stages.at.columns(np.array([[each[row] for row in rows] for each in counts], dtype=np.int64))
            if not rows or columns is None:
                return None if rows else (Counter(), Counter())
            at = (np.array(monomials(each)[: len(columns)]) @ columns for each in (smaller, extents))
            one, other = (Counter(dict(zip(rows, each.tolist(), strict=True))) for each in at)
            return one, other

        args = self._with_sizes(arguments, opened.pattern.sizes_at(smaller)).args
        difference = is_foreseen(
            lambda args: owner._call_plainly(blank, args),
            lambda args: owner._call_on_values(owner._again(blank, args)),
            kernel, args, arguments.args, [kind.size > 0 for kind in arguments.kinds],
            stages.traced(extents) / max(1, stages.traced(smaller)) if stages.traced(extents) > _COUNTED else 0.0,
            stages.traced(extents), not stages.options.fast, foresee,
        )  # fmt: skip
        if difference:
            opened.differences[extents] = difference
        return difference

    def _value_of(self, opened: _Open[E], arguments: Arguments) -> tuple[KnownSizes[Any], _Open[Any]] | None:
        """What has a kernel for all sizes that returns the value of the function first, and this kernel.

        That of a derivative is made when it is asked for.
        """
        if "value" not in vars(opened):
            owner = self.owner._of_value()
            if owner is self.owner:
                opened.value = self, opened
            elif owner is None:
                opened.value = None
            else:
                known = KnownSizes(owner, True)
                try:
                    value = known._opened(opened.pattern, owner._again(arguments, arguments.args), _sizes_of(arguments))
                    opened.value = (known, value) if value.pattern == opened.pattern else None
                except NotOpenError:
                    opened.value = None
        return opened.value

    def _compared_at(self, opened: _Open[E], extents: tuple[int, ...], arguments: Arguments) -> str:
        """How what is bound to smaller extents than those of the arguments compares with what is traced there."""
        verdict = opened.verdicts.get(extents)
        if verdict is None:
            args = self._with_sizes(arguments, opened.pattern.sizes_at(extents))
            verdict = self._compared(opened, extents, args, *self._stages_at(opened, extents, args))
            opened.note(extents, verdict)
        return verdict

    def _unseen(self, opened: _Open[E], arguments: Arguments) -> bool:
        """Whether what is open is only how many rows a map has, which the function that is mapped cannot see."""
        count = opened.pattern.extents
        here, there = (opened.pattern.sizes_at((n,) * count) for n in (2, 3))
        rows = self.owner._row_sizes(arguments)
        return all(is_rows or a == b for is_rows, a, b in zip(rows, here, there, strict=True))

    def _with_sizes(self, arguments: Arguments, sizes: Sequence[int]) -> Arguments:
        """Such arguments with other sizes."""
        rest = iter(sizes)
        pairs = zip(arguments.args, sized_kinds(arguments), strict=True)
        return self.owner._again(arguments, [resized(item, kind, rest) for item, kind in pairs])


class _Samples(Generic[E]):
    """A function traced at some sizes, to find one kernel for all.

    Args:
        known: what traces it.
        arguments: those of the call.
        sizes: of these.

    Attributes:
        reason: why there is no kernel so far.
    """

    def __init__(self, known: KnownSizes[E], arguments: Arguments, sizes: Sequence[int]) -> None:
        self.known, self.arguments, self.sizes = known, arguments, sizes
        self.reason = ""
        self._calls: dict[tuple[int, ...], TracedCall] = {}
        self._spent = 0

    def kernel(self, pattern: Pattern, window: Sequence[int]) -> _Open[E] | None:
        """One kernel for all sizes of a pattern, from those at some extents; None if there is none.

        Raises:
            NotOpenError: if tracing at small sizes takes longer than tracing at the size of the call, what has been
                found cannot be bound to sizes, or the function branches on numbers at the largest of these extents.
        """
        extents = _extents_in(pattern, window)
        try:
            calls = self._traced(pattern, extents)
            if calls[-1].stages.way.truths:  # then it does so at larger sizes, too
                raise _BranchesError("the function chooses by numbers which way it goes")
            opened = self.known._merged(pattern, calls, extents)
            last = self.known._with_sizes(self.arguments, pattern.sizes_at(extents[-1]))
            opened.kernel.traced_at = numbers_of(self.known.owner._inputs_of(last, opened.kernel.leaves))
            return opened
        except _TooLongError:
            raise NotOpenError(
                "tracing at several small sizes would record more operations than tracing at the size of the call"
            ) from None
        except (_BranchesError, NotBoundError):  # nothing else would come of other sizes
            raise
        except NotOpenError as error:
            self.reason = str(error)
            return None

    def are_even(self, pattern: Pattern, window: Sequence[int]) -> bool | None:
        """Whether the numbers of operations are polynomials of the extents of a pattern; None if it is not known."""
        extents = _extents_in(pattern, window)
        try:
            return _are_even(self._traced(pattern, extents), extents)
        except (_TooLongError, NotOpenError):
            return None

    def _traced(self, pattern: Pattern, extents: Sequence[tuple[int, ...]]) -> list[TracedCall]:
        calls = []
        for each in extents:
            sizes = tuple(pattern.sizes_at(each))
            if sizes not in self._calls:
                first = next(iter(self._calls.values()), None)
                named = each == extents[-1]
                call = self._calls[sizes] = self.known._traced_at(pattern, self.arguments, each, first, named)
                count = call.stages.recorded
                self._spent += count
                own = count * math.prod(pattern.extents_of(self.sizes) or ()) / math.prod(each)
                if self._spent > min(_MOST, max(_FREE, 3 * own)):
                    raise _TooLongError
            calls.append(self._calls[sizes])
        return calls


class _BranchesError(NotOpenError):
    """The function chooses by numbers which way it goes."""


class _TooLongError(Exception):
    """Tracing at small sizes takes longer than tracing at the size of the call."""


def _extents_in(pattern: Pattern, window: Sequence[int]) -> list[tuple[int, ...]]:
    """The extents of a window at which a function is traced, as large as offsets demand."""
    shift = max(0, -min(pattern.offset))
    return [tuple(n + shift for n in each) for each in samples_of(window, pattern.extents)]


def _are_even(calls: Sequence[TracedCall], extents: Sequence[Sequence[int]]) -> bool:
    """Whether the numbers of operations of each sort are polynomials of the extents."""
    try:
        counts = np.stack([operations_of(call.stages.identity[0]) for call in calls])
    except Exception:  # of later samples only a part was traced; what is wrong with the rest does not matter here
        return True
    return Samples(extents).columns(counts) is not None


#: What is said of sizes that need kernels of their own.
_OWN: Final = "different", "not bound"


def _sizes_of(arguments: Arguments) -> list[int]:
    return [size for kind in sized_kinds(arguments) for size in sizes_of(kind)[1]]


def _scaled(extents: Sequence[int], count: int) -> tuple[int, ...]:
    """Extents in the same proportions, the largest of which is `count`.

    >>> _scaled((1000, 10), 300)
    (300, 3)
    """
    return tuple(max(1, extent * count // max(extents)) for extent in extents)


def open_kind(kinds: Sequence[Kind | None], stages: OpenStages) -> OpenKind | None:
    """The kind of a result for all sizes, from its kinds at the samples.

    Raises:
        NotOpenError: if there is none.
    """
    found = [kind for kind in kinds if kind is not None]
    if not found:
        return None
    result = OpenKind.through(found, stages.at) if len(found) == len(kinds) else None
    if result is None:
        raise NotOpenError("what the function returns depends on the sizes in more than sizes")
    return result


def _names(count: int) -> list[str]:
    return ["n", "m"][:count]
