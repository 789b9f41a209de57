"""How a call of a compiled function finds its kernel: by a builtin, by a binder, or by its arguments taken apart."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Self, TypedDict, TypeVar, cast, overload

from ...runtime.errors import InputError, KernelLimitWarning, MissingExtraError, PerformanceWarning
from ...runtime.sites import user_level
from ...runtime.tracing import active, recorder, recorders, refuse
from ..calls.arguments import Arguments, in_float64, outline
from ..calls.binding import MISS, Binder
from ..calls.captured import Captured
from ..calls.kind import taker_of
from ..calls.kinds import Record
from ..checks import numbers_of
from ..kernel import Kernel, explained
from ..languages.loader import collector_paused
from ..machine.builtin import set_turns, watch
from ..options import Backend, Mode
from ..program.faults import Faults
from ..program.progress import preparing
from ..program.ways import TurnError
from ..round_stages import with_rounds
from .looped import Loop
from .methods import takes_self
from .sizes import TracedCall
from .transformed import TakeApartError, Transformed
from .ways import Ways, WayTable

#: An entry, and what a transformed function returns.
D = TypeVar("D", bound="Entry")
P = ParamSpec("P")
#: The parameters of a method behind `self`, in the eyes of type checkers.
Q = ParamSpec("Q")
R = TypeVar("R")
#: After so many calls "auto" makes machine code of a function that it left to flat Python because it is tiny: they have
#: taken about as long as making the code takes.
OFTEN = 20_000
#: How many kernels are tried one after the other. With more, `outline` says which of them are tried.
RECENT: Final = 8
#: How many outlines of arguments a function keeps.
_OUTLINES: Final = 256
#: For how many ways to name arguments a function keeps the order of the arguments.
_ORDERS: Final = 64


class Choices(TypedDict, total=False):
    """The options of `compile`, `value_and_grad` and `grad`, as they are described there."""

    backend: Backend
    mode: Mode
    faults: Faults
    dynamic: bool | None
    static_argnames: Sequence[str] | str
    memory: float
    max_ways: int


class Entry:
    """A kernel, with how it is called.

    Attributes:
        binder: calls it, if there is one.
        keywords: the names of the last arguments that the binder takes.
        make_builtin: makes a builtin function, or None if there can be none; it takes the builtin's fallback.
        direct: a builtin that returns `MISS` for what it does not know; None where there is none, or no need of one.
        jump: a builtin that those of other ways call where guards fail; None where there is none.
        misses: how many calls the chain has not answered, although they were calls of this kernel.
        settled: whether it is known if there is a builtin of it.
        new: whether no call has come to it by way of `Arguments`.
        ways: the ways that calls of this structure have gone.
        loop: of the ways that differ in a number of rounds, if there is one code for all.
    """

    __slots__ = (
        "binder",
        "captured",
        "direct",
        "jump",
        "kernel",
        "keywords",
        "loop",
        "make_builtin",
        "misses",
        "new",
        "settled",
        "ways",
    )

    def __init__(self, kernel: Kernel, captured: Captured) -> None:
        self.kernel: Kernel = kernel
        self.captured: Captured = captured
        self.binder: Binder | None = None
        self.keywords: tuple[str, ...] = ()
        self.make_builtin: Callable[[Callable[..., Any]], Callable[..., Any] | None] | None = None
        self.direct: Callable[..., Any] | None = None
        self.jump: Callable[..., Any] | None = None
        self.misses: int = 0
        self.settled: bool = False
        self.new: bool = True
        self.ways: Ways[Any] = Ways(self)
        self.loop: Loop[Any] | None = None

    def prepare(self) -> None:
        """Make the builtin for calls that find the kernel by the outline of their arguments."""
        if self.direct is None and self.make_builtin is not None and not self.keywords:
            self.direct = self.make_builtin(_miss)

    def answer(self, items: tuple[Any, ...]) -> Any:
        """The result for arguments in order, by the shortest way that knows them; `MISS` if there is none."""
        result = MISS if self.direct is None else self.direct(*items)
        return self.bound(items) if result is MISS and self.binder is not None else result

    def bound(self, items: tuple[Any, ...]) -> Any:
        """The result by the binder."""
        assert self.binder is not None
        result = self.binder(items)
        self.kernel._by_python += result is not MISS
        return result


def transform(make: Callable[..., Any], function: Callable[..., Any] | None, **options: Any) -> Any:
    """A transformed function; without a function, a decorator that makes one."""
    return functools.partial(make, **options) if function is None else make(function, **options)


class _ManyWaysError(Exception):
    """There are more ways than kernels are kept for."""


def flat(inputs: Sequence[Any]) -> list[float]:
    """All numbers of the inputs of a kernel, in one list."""
    return [n for part in inputs for n in (part if isinstance(part, list) else [part])]


def _miss(*args: Any, **kwargs: Any) -> Any:
    """What a builtin calls that belongs to no chain."""
    return MISS


class Dispatched(Transformed[D], Generic[D, P, R]):
    """A transformed function that calls kernels."""

    #: Whether it never writes into its arguments, so that it may be called with converted copies of them.
    _only_reads = False
    #: Whether a call with `Value`s among the arguments, and the calls in it, are done as in a trace, and make a graph.
    _interprets = False

    if TYPE_CHECKING:
        __name__: str
        __wrapped__: Callable[P, Any]

        # The first one is for editors: it has the names of the parameters. Numbers may stand in the place of `Value`s,
        # and the other way round, so that types of arguments are not checked.
        @overload
        def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
        @overload
        def __call__(self, /, *args: Any, **kwargs: Any) -> R: ...
        def __call__(self, /, *args: Any, **kwargs: Any) -> Any: ...
        def __get__(self, instance: object, owner: type | None = None) -> Self: ...

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        super().__init__(function, **options)
        #: The kernels that were called last, and the builtins of those that have machine code.
        self._recent: tuple[D, ...] = ()
        self._chain: tuple[tuple[D, Callable[..., Any]], ...] = ()
        self._calls = 0
        #: The kernels that arguments of an outline may be for, if there are more kernels than are tried in turn.
        self._outlines: dict[tuple[Any, ...], tuple[D, ...]] = {}
        #: After so many misses a kernel gets into the chain; doubled each time, so that the chain settles.
        self._patience = RECENT
        #: Of calls that name arguments, by their names: the order in which kernels take them. See `_order`.
        self._orders: dict[tuple[Any, ...], tuple[tuple[int, ...], tuple[str, ...], bool]] = {}

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels made so far, one per kinds of arguments, way, and state of what the function captured."""
        return [kernel for first in self._kernels.entries for kernel in first.ways.kernels]

    def kernel_for(self, /, *args: Any, **kwargs: Any) -> Kernel:
        """The kernel for arguments of these kinds, and for their way, made if need be; nothing is run.

        Raises:
            FlatgradError: what an operation raises that a condition needs.
            InputError: if there are too many ways, so that these arguments have no kernel.
        """
        function = self._method_of(args)
        if function is not None:
            return function.kernel_for(*args[1:], **kwargs)
        entry, arguments = self._entry(self._take_apart(args, kwargs))
        tried: list[D] = []
        while True:
            stages: Any = entry.kernel.stages
            inputs = self._inputs_of(arguments, entry.kernel.leaves)
            turn = stages.turn(flat(inputs)) if entry.kernel.way.truths else None
            if turn is None:
                return entry.kernel
            tried.append(entry)
            try:
                entry, arguments = self._other_way(tried, turn[0], turn[1], arguments)
            except _ManyWaysError:
                raise InputError(
                    f"{self.name} keeps kernels for no more ways (max_ways={self.max_ways}), and these go another "
                    "one: a call is answered without a kernel"
                ) from None

    def explain(self, path: str | os.PathLike[str], /, *args: Any, **kwargs: Any) -> Path:
        """Write one HTML file that shows what becomes of each line of the function, for these arguments.

        It is the page of their kernel: see `Kernel.explain`. Where the function branches on numbers, it also says which
        other ways calls have gone.

        Args:
            path: where to write; the suffix must be `.html`, or `.json` for the same as data.
            args, kwargs: as for a call. Values and gradients are shown at these numbers.

        Returns:
            The path.

        Raises:
            OptionError: for another suffix, or a program that is too large to be shown.
            FlatgradError: as `kernel_for`.

        Example:
            >>> import flatgrad as fg, pathlib, tempfile
            >>> slope = fg.grad(lambda x: x.sin() * x)
            >>> slope.explain(pathlib.Path(tempfile.mkdtemp()) / "slope.html", 2.0).name
            'slope.html'
        """
        function = self._method_of(args)
        if function is not None:
            return function.explain(path, *args[1:], **kwargs)
        kernel = self.kernel_for(*args, **kwargs)
        _, arguments = self._entry(self._take_apart(args, kwargs))
        ways = self.ways(*args, **kwargs)
        inputs = numbers_of(self._inputs_of(arguments, kernel.leaves))
        return explained(kernel, path, inputs, list(zip(ways, ways.calls, strict=True)))

    def ways(self, /, *args: Any, **kwargs: Any) -> WayTable:
        """The ways that calls with arguments of these kinds have gone: the truth values that they met, with the lines.

        There is a kernel per way. Ways that differ in a number of rounds only have one together, and are listed as one.
        Without arguments: the ways of all calls. The list prints as a table, with how often each way was gone; its
        `calls` has these numbers. Calls that raised are not counted, nor those that were answered without a kernel, as
        parts of another trace, or as rows; where there are no guards, nothing is.

        Example:
            >>> import flatgrad as fg
            >>> f = fg.grad(lambda x: fg.log(x) if x > 1.0 else x**3)
            >>> f(4.0), f(0.5)
            (0.25, 0.75)
            >>> [way.truths for way in f.ways(1.0)]
            [(True,), (False,)]
        """
        if not args and not kwargs:
            return WayTable(pair for first in self._kernels.entries for pair in first.ways.ways)
        entry = self._kernels.find(self._take_apart(args, kwargs).key)
        return WayTable(() if entry is None else entry.ways.ways)

    def __repr__(self) -> str:
        count = len(self.ways())
        return (
            super().__repr__().removesuffix(">") + f": {count} ways>"
            if count > len(self._kernels.entries)
            else super().__repr__()
        )

    def _method_of(self, args: tuple[Any, ...]) -> Self | None:
        """In a call through the class, `Class.method(object, x)`: the object's function. None in any other call."""
        if not args or 0 in self._statics or not takes_self(self.function):
            return None
        if taker_of(args[0]) not in (None, Record):
            return None
        members = (member for each in type(args[0]).__mro__ for member in vars(each).values())
        return self.__get__(args[0], type(args[0])) if any(member is self for member in members) else None

    def _call(self, /, *args: Any, **kwargs: Any) -> Any:
        if active and (recorders() if self._interprets else recorder() is not None):
            function = self._method_of(args)
            if function is not None:
                return function(*args[1:], **kwargs)
            return self._inline(self._take_apart(args, kwargs, symbolic=True))
        keywords: tuple[str, ...] = ()
        items = args
        if kwargs:
            names = (len(args), *kwargs)
            order, keywords, moved = self._orders.get(names) or self._order(names)
            items = tuple(map((*args, *kwargs.values()).__getitem__, order))
            if order and (not keywords or (moved and self._chain)):
                return self._call_in_order(items, keywords)
        many = len(self._recent) == RECENT
        entries = self._outlines.get(outline(items, keywords, self._statics), ()) if many else self._recent
        result = self._answered(entries, items, keywords, many, many)
        if result is MISS and self._only_reads and entries and not self._integers:
            converted = in_float64(items)
            if converted is not items:
                for entry in entries:
                    entry.prepare()
                result = self._answered(entries, converted, keywords, many, True)
        if result is not MISS:
            return result
        function = self._method_of(args)
        if function is not None:
            return function(*args[1:], **kwargs)
        arguments = self._take_apart(args, kwargs)
        if self._interprets and arguments.values:
            return self._inline(arguments)
        entry, arguments = self._entry(arguments)
        entry = cast("D", entry.ways.last)
        tried: list[D] = []
        while True:
            self._remember(entry, items)
            try:
                result = self._run(entry, arguments)
                entry.kernel._by_python += 1
                return result
            except TurnError as error:
                turn = error.guard, error.truth
            tried.append(entry)
            try:
                entry, arguments = self._other_way(tried, *turn, arguments)
            except _ManyWaysError:
                return self._interpreted(arguments)

    def _answered(
        self, entries: Sequence[D], items: tuple[Any, ...], keywords: tuple[str, ...], many: bool, prepared: bool
    ) -> Any:
        """The result of the first of some kernels that knows these arguments; `MISS` if none does.

        `many` and `prepared` say whether kernels are admitted to the chain, and whether they are called by builtins.
        """
        for first in entries:
            for entry in first.ways.near(first):
                if entry.binder is not None and entry.keywords == keywords and entry.captured.unchanged():
                    result = entry.answer(items) if prepared else entry.bound(items)
                    if result is not MISS:
                        self._calls += 1
                        if self._calls >= OFTEN:
                            self._hasten(entry)
                        if many:
                            self._admit(first)
                        return result
        return MISS

    def _other_way(
        self, tried: Sequence[D], guard: int, truth: bool | int, arguments: Arguments
    ) -> tuple[D, Arguments]:
        """The kernel of the way that turns off at a guard: one that is known, or made for these arguments.

        Args:
            tried: kernels with guards that fail; the last one is that whose guard it is. Not all functions of a
                structure have the same guards in the same places, as not all have the same selections.
            guard, truth: which guard, and what the call has in its place; -1 for another number of rounds.
            arguments: of the call.

        Returns:
            The kernel, and the arguments as it takes them.

        Raises:
            _ManyWaysError: if there are too many ways.
        """
        with self._lock:
            entry = tried[-1]
            ways = entry.ways
            inputs = flat(self._inputs_of(arguments, entry.kernel.leaves))
            turn: tuple[int, bool | int] | None = guard, truth
            found = ways.rounds(tried, inputs) if guard == -1 else None
            if guard == -1 and found is None:
                stages: Any = entry.kernel.stages
                turn = stages.here.turn(inputs)
            beginning = () if turn is None else (*entry.kernel.way.truths[: turn[0]], turn[1])
            if beginning and found is None:
                found = ways.find(beginning, inputs, tried)
            if found is not None:
                return cast("D", found), arguments
            if len(ways.entries) >= self.max_ways:
                if not ways.warned:
                    ways.warned = True
                    warnings.warn(ways.warning(self.name), KernelLimitWarning, stacklevel=user_level())
                raise _ManyWaysError
            try:
                with collector_paused(), preparing(self.name):
                    call = self._trace_call(arguments)
            except TakeApartError:
                return self._entry(self._again(arguments, arguments.args))
            way = call.stages.way
            counted = entry.kernel.way.selects or way.selects  # then guards are counted otherwise
            if way.truths[: len(beginning)] != beginning and not counted:
                raise refuse(
                    f"{self.name} met other truth values when it was traced again with the same numbers; a function "
                    "that is compiled must do the same each time"
                )
            looped = ways.looped(cast("Any", self), way, arguments, inputs)
            if looped is None:
                ways.add(self._made(call, arguments))
            return cast("D", ways.last), arguments

    def _made(self, call: TracedCall, arguments: Arguments) -> D:
        """The kernel of what has been traced."""
        with collector_paused(), preparing(self.name):
            stages = with_rounds(call.stages, self._inputs_of(arguments, call.leaves))
            stages.numbered = stages is call.stages
            return self._entry_of(call, stages, arguments)

    def _entry_of(self, call: TracedCall, stages: Any, arguments: Arguments) -> D:
        """How a kernel is called."""
        raise NotImplementedError  # pragma: no cover - both subclasses define it

    def _build(self, arguments: Arguments) -> D:
        """Trace the function for these arguments, and make a kernel of it."""
        raise NotImplementedError  # pragma: no cover - both subclasses define it

    def _interpreted(self, arguments: Arguments) -> Any:
        """The result without a kernel: right, and slow."""
        raise NotImplementedError  # pragma: no cover - both subclasses define it

    def _call_in_order(self, items: tuple[Any, ...], keywords: tuple[str, ...]) -> Any:
        """Call the function with arguments in the order in which kernels take them, the last ones by their names."""
        if not keywords:
            return self.__call__(*items)
        first = len(items) - len(keywords)
        return self.__call__(*items[:first], **dict(zip(keywords, items[first:], strict=True)))

    def _order(self, names: tuple[Any, ...]) -> tuple[tuple[int, ...], tuple[str, ...], bool]:
        """The order in which a kernel takes arguments, and the names of the last ones.

        Args:
            names: how many arguments have no names, then the names of the others, as they were passed.

        Returns:
            The positions of the arguments among those that were passed, the names, and whether any stands in another
            place; nothing and a name that no binder has, if the function cannot be called in this way.
        """
        positions = range(names[0] + len(names) - 1)
        args, kwargs = tuple(positions[: names[0]]), dict(zip(names[1:], positions[names[0] :], strict=True))
        if self._signature is not None:
            try:
                args, kwargs = self._bound(args, kwargs)
            except InputError:
                return (), ("",), False
        places = (*args, *kwargs.values())
        order = places, tuple(kwargs), places != tuple(positions)
        if len(self._orders) < _ORDERS:
            self._orders[names] = order
        return order

    def _names_of_first(self, count: int) -> list[str | None]:
        """The names that the first parameters may be passed by; None for those that have none."""
        parameters = list(self._signature.parameters.values()) if self._signature is not None else []
        names = [each.name if each.kind is each.POSITIONAL_OR_KEYWORD else None for each in parameters[:count]]
        return [*names, *[None] * (count - len(names))]

    def _run(self, entry: D, arguments: Arguments) -> Any:
        """Call a kernel with arguments that have been taken apart."""
        raise NotImplementedError  # pragma: no cover - both subclasses define it

    def _entry(self, arguments: Arguments) -> tuple[D, Arguments]:
        """The entry for arguments, and the arguments as its kernel takes them."""
        while True:
            try:
                return self._cached(arguments, functools.partial(self._build, arguments)), arguments
            except TakeApartError:
                arguments = self._again(arguments, arguments.args)

    def _inline(self, arguments: Arguments) -> Any:
        """Call the function as a part of the one that is being traced."""
        raise NotImplementedError  # pragma: no cover - both subclasses define it

    def _remember(self, entry: D, items: tuple[Any, ...]) -> None:
        """Let later calls find a kernel without looking at more than they must.

        The first kernels are tried one after the other: their builtins call each other, and the last of them `_call`,
        which tries the binders. A chain of builtins never changes, so that other threads may be in it. If there are
        more kernels, `_call` finds those that are not in the chain by the outline of the arguments.

        Args:
            entry: the kernel, with how it is called.
            items: the arguments, in the order in which it takes them.
        """
        if entry.loop is not None:
            entry = cast("D", entry.loop.front_of(entry))
        else:
            entry = self._hub_of(entry)
        if entry.new:  # for which another one may have been dropped
            entry.new, self._outlines = False, {}
        builtin = dict(self._chain).get(entry)
        if builtin is not None:
            watch(builtin, entry.captured.watches())
        elif entry in self._recent:
            if not entry.settled:
                self._chain_up()
        elif len(self._recent) < RECENT:
            self._recent = (entry, *self._recent)
            self._chain_up()
        else:
            entry.prepare()
            self._admit(entry)
        if len(self._recent) == RECENT:
            if len(self._outlines) >= _OUTLINES:
                self._outlines = {}
            key = outline(items, entry.keywords, self._statics)
            others = (each for each in self._outlines.get(key, ()) if each is not entry)
            self._outlines[key] = (entry, *others)[:RECENT]

    def _hub_of(self, entry: D) -> D:
        """The kernel that stands in the chain for one: itself, or one whose failing guards lead to its builtin."""
        ways = entry.ways
        if len(ways.entries) < 2 or not self._can_jump(entry):
            return entry
        with self._lock:
            hub = ways.hub
            new = [each for each in ways.entries if each not in ways.linked and self._can_jump(each)]
            if new:
                ways.link(new)
            elif hub is not None and not hub.captured.unchanged():
                ways.hub = entry  # the other one is for what the function captured before
            if ways.hub is not hub:
                self._recent = tuple(each for each in self._recent if each not in ways.linked or each is ways.hub)
                self._chain_up()
            elif new:
                self._link()
            return cast("D", ways.hub)

    def _can_jump(self, entry: D) -> bool:
        """Whether a kernel has a builtin for where a guard of another way fails; it is made if need be."""
        watches = entry.captured.watches()
        if watches is None or entry.make_builtin is None or not entry.kernel.stages.says_guard:
            return False
        if entry.jump is None:
            entry.jump = entry.make_builtin(self._call)
        if entry.jump is not None:
            watch(entry.jump, watches)
        return entry.jump is not None

    def _link(self) -> None:
        """Let the builtins in the chain know those of other ways."""
        for entry, builtin in self._chain:
            if entry is entry.ways.hub:
                set_turns(builtin, entry.ways.targets(entry))

    def _admit(self, entry: D) -> None:
        """Count a call that the chain has not answered; if there were many, put the kernel into the chain."""
        entry.misses += 1
        if entry.misses < self._patience or entry in self._recent:
            return
        entry.misses, self._patience = 0, 2 * self._patience
        self._recent[-1].prepare()
        self._recent = (entry, *self._recent[:-1])
        self._chain_up()

    def _chain_up(self) -> None:
        """Make the builtins of the kernels in the chain; those whose successors stay the same are kept."""
        chain: list[tuple[D, Callable[..., Any]]] = []
        call: Callable[..., Any] = self._call
        kept = self._chain
        for entry in reversed(self._recent):
            watches = entry.captured.watches()
            if entry.make_builtin is None or watches is None:
                continue
            at = len(chain)
            if at < len(kept) and kept[at][0] is entry:
                builtin: Callable[..., Any] | None = kept[at][1]
            else:
                builtin = entry.make_builtin(call)
                kept = kept if builtin is None else ()
            if builtin is not None:
                watch(builtin, watches)
                chain.append((entry, builtin))
                call = builtin
        self._chain = tuple(chain)
        self._link()
        self.__call__ = call  # type: ignore[method-assign]
        for entry in self._recent:
            entry.settled = entry.make_builtin is None or entry.captured.watches() is not None

    def _chain_again(self) -> None:
        """Make all builtins again."""
        with self._lock:
            self._chain = ()
            self._chain_up()

    def _hasten(self, entry: D) -> None:
        """Go over to machine code, if a kernel is tiny and the choice is ours."""
        self._calls = 0
        if self.backend != "auto" or self.mode != "exact" or entry.kernel.backend != "python":
            return
        with self._lock:
            if entry.make_builtin is not None and entry.kernel.backend == "python":
                try:
                    entry.kernel.stages.hasten()
                    if entry.make_builtin(self._call) is not None:
                        entry.kernel.stats.backend = "native"
                        entry.kernel.stats.reason = f"the program is tiny, and was called {OFTEN:,} times"
                except (MissingExtraError, OSError, MemoryError, RuntimeError) as error:  # the last is what LLVM raises
                    warnings.warn(f"{self.name} stays flat Python: {error}", PerformanceWarning, stacklevel=3)
                    # The call that we are in has its result already.
                self._hub_of(entry)
                self._outlines = {}  # with machine code there is another way to call it
                if entry.kernel.backend != "native":
                    entry.make_builtin = None  # after the attempt, so that one which is interrupted is made again
        self._chain_up()
