"""How a call of a compiled function finds its kernel: by a builtin, by a binder, or by its arguments taken apart."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypedDict, TypeVar

from ...runtime.errors import InputError, MissingExtraError
from ...runtime.tracing import active, recorder
from ..calls.arguments import Arguments
from ..calls.binding import MISS, Binder
from ..calls.captured import Captured
from ..calls.kind import taker_of
from ..kernel import Kernel
from ..machine.builtin import watch
from ..options import Backend, Mode
from ..program.faults import Faults
from .methods import takes_self
from .transformed import Transformed

#: An entry, and what a transformed function returns.
D = TypeVar("D", bound="Entry")
R = TypeVar("R")
#: After so many calls "auto" makes machine code of a function that it left to flat Python because it is tiny: they have
#: taken about as long as making the code takes.
OFTEN = 20_000
#: How many kernels are tried before arguments are taken apart.
RECENT: Final = 8


#: For how many ways to name arguments a function keeps the order of the arguments.
_ORDERS: Final = 64


class Choices(TypedDict, total=False):
    """The options of `compile`, `value_and_grad` and `grad`, as they are described there."""

    backend: Backend
    mode: Mode
    faults: Faults
    static_argnames: Sequence[str] | str


class Entry:
    """A kernel, with how it is called.

    Attributes:
        binder: calls it, if there is one.
        keywords: the names of the last arguments that the binder takes.
        make_builtin: makes a builtin function, or None if there can be none; it takes the builtin's fallback.
        misses: how many calls have come to it by way of `Arguments` since there was room for it.
        settled: whether it is known if there is a builtin of it.
    """

    __slots__ = ("binder", "captured", "kernel", "keywords", "make_builtin", "misses", "settled")

    def __init__(self, kernel: Kernel, captured: Captured) -> None:
        self.kernel, self.captured = kernel, captured
        self.binder: Binder | None = None
        self.keywords: tuple[str, ...] = ()
        self.make_builtin: Callable[[Callable[..., Any]], Callable[..., Any] | None] | None = None
        self.misses = 0
        self.settled = False


class Dispatched(Transformed[D], Generic[D, R]):
    """A transformed function that calls kernels."""

    if TYPE_CHECKING:

        def __call__(self, /, *args: Any, **kwargs: Any) -> R: ...
        def __get__(self, instance: object, owner: type | None = None) -> Self: ...

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        super().__init__(function, **options)
        #: The kernels that were called last, and the builtins of those that have machine code.
        self._recent: tuple[D, ...] = ()
        self._chain: tuple[tuple[D, Callable[..., Any]], ...] = ()
        self._calls = 0
        #: Of calls that name arguments, by their names: the order in which kernels take them. See `_order`.
        self._orders: dict[tuple[Any, ...], tuple[tuple[int, ...], tuple[str, ...]]] = {}

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels made so far, one per kinds of arguments and state of what the function captured."""
        return [entry.kernel for entry in self._kernels.entries]

    def kernel_for(self, /, *args: Any, **kwargs: Any) -> Kernel:
        """The kernel for arguments of these kinds, made if need be; nothing is run."""
        function = self._method_of(args)
        if function is not None:
            return function.kernel_for(*args[1:], **kwargs)
        return self._entry(self._take_apart(args, kwargs))[0].kernel

    def _method_of(self, args: tuple[Any, ...]) -> Self | None:
        """In a call through the class, `Class.method(object, x)`: the object's function. None in any other call."""
        if not args or 0 in self._statics or taker_of(args[0]) is not None or not takes_self(self.function):
            return None
        members = (member for each in type(args[0]).__mro__ for member in vars(each).values())
        return self.__get__(args[0], type(args[0])) if any(member is self for member in members) else None

    def _call(self, /, *args: Any, **kwargs: Any) -> Any:
        if active and recorder() is not None:
            function = self._method_of(args)
            if function is not None:
                return function(*args[1:], **kwargs)
            return self._inline(self._take_apart(args, kwargs, symbolic=True))
        keywords: tuple[str, ...] = ()
        items = args
        if kwargs:
            names = (len(args), *kwargs)
            order, keywords = self._orders.get(names) or self._order(names)
            items = tuple(map((*args, *kwargs.values()).__getitem__, order))
            if not keywords and order:
                return self.__call__(*items)
        for entry in self._recent:
            if entry.binder is not None and entry.keywords == keywords and entry.captured.unchanged():
                result = entry.binder(items)
                if result is not MISS:
                    self._calls += 1
                    if self._calls >= OFTEN:
                        self._hasten(entry)
                    return result
        function = self._method_of(args)
        if function is not None:
            return function(*args[1:], **kwargs)
        entry, arguments = self._entry(self._take_apart(args, kwargs))
        self._remember(entry)
        return self._run(entry, arguments)

    def _order(self, names: tuple[Any, ...]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """The order in which a kernel takes arguments, and the names of the last ones.

        Args:
            names: how many arguments have no names, then the names of the others, as they were passed.

        Returns:
            The positions of the arguments among those that were passed, and the names; nothing and a name that no
            binder has, if the function cannot be called in this way.
        """
        positions = range(names[0] + len(names) - 1)
        args, kwargs = tuple(positions[: names[0]]), dict(zip(names[1:], positions[names[0] :], strict=True))
        if self._signature is not None:
            try:
                args, kwargs = self._bound(args, kwargs)
            except InputError:
                return (), ("",)
        order = (*args, *kwargs.values()), tuple(kwargs)
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
        raise NotImplementedError  # pragma: no cover - both subclasses define it

    def _inline(self, arguments: Arguments) -> Any:
        """Call the function as a part of the one that is being traced."""
        raise NotImplementedError  # pragma: no cover - both subclasses define it

    def _remember(self, entry: D) -> None:
        """Let later calls find a kernel without looking at more than they must.

        The kernels that were called last are tried one after the other: their builtins call each other, and the last of
        them `_call`, which tries the binders. A chain of builtins never changes, so that other threads may be in it.
        """
        for each, builtin in self._chain:
            if each is entry:
                watch(builtin, entry.captured.watches())
                return
        if entry not in self._recent:
            entry.misses += 1
            if len(self._recent) == RECENT and entry.misses < RECENT:
                return  # one of many; there is room for it when it has come back some times
            entry.misses = 0
            self._recent = (entry, *self._recent[: RECENT - 1])
        elif entry.settled:
            return
        self._chain_up()

    def _chain_up(self) -> None:
        """Make the builtins of the kernels that were called last."""
        chain: list[tuple[D, Callable[..., Any]]] = []
        call: Callable[..., Any] = self._call
        for entry in reversed(self._recent):
            watches = entry.captured.watches()
            builtin = entry.make_builtin(call) if entry.make_builtin is not None and watches is not None else None
            if builtin is not None:
                watch(builtin, watches)
                chain.append((entry, builtin))
                call = builtin
        self._chain = tuple(chain)
        self.__call__ = call  # type: ignore[method-assign]
        for entry in self._recent:
            entry.settled = entry.make_builtin is None or entry.captured.watches() is not None

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
                    warnings.warn(f"{self.name} stays flat Python: {error}", RuntimeWarning, stacklevel=3)
                    # The call that we are in has its result already.
                if entry.kernel.backend != "native":
                    entry.make_builtin = None  # after the attempt, so that one which is interrupted is made again
        self._chain_up()
