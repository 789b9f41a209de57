"""`compile`: functions on `Value`s whose calls are nodes of the interpreted graph."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Self, Unpack, overload

from ...runtime.arrays import for_callers
from ...runtime.traced import TracedValue
from ..calls.arguments import Arguments
from ..calls.array_kinds import object_array
from ..calls.binding import make_node_binder
from ..calls.captured import Captured
from ..calls.kind import Kind
from ..calls.natural import CLASSES, NATURAL
from ..calls.number_kinds import NUMBER
from ..calls.results import ResultFlattener
from ..calls.sizes import lengths_of
from ..calls.writes import Write, check_shared, write, writes_of
from ..checks import numbers_of
from ..kernel import Kernel
from ..languages.loader import collector_paused
from ..nodes import call
from ..options import MEMORY, WAYS, Backend, Mode
from ..pairs import PairStages
from ..program.faults import Faults
from ..program.progress import preparing
from .dispatch import Choices, Dispatched, Entry, P, Q, R, transform
from .sizes import TracedCall
from .transformed import TakeApartError, run_changed


class _Entry(Entry):
    """A kernel of `compile`: with the kind of its result, and what it writes into its arguments."""

    __slots__ = ("result", "writes")

    def __init__(self, kernel: Kernel, captured: Captured, result: Kind, writes: tuple[Write, ...]) -> None:
        super().__init__(kernel, captured)
        self.result, self.writes = result, writes


class CompiledFunction(Dispatched[_Entry, P, R]):
    """A function compiled by `fg.compile`; called like the original, it returns `Value`s."""

    _opens = True

    if TYPE_CHECKING:

        @overload  # the signature of a method has no `self`
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(
            self: CompiledFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
        ) -> CompiledFunction[Q, R]: ...
        def __get__(self, instance: object, owner: type | None = None) -> Any: ...

    def _run(self, entry: _Entry, arguments: Arguments) -> Any:
        if entry.writes:
            check_shared(entry.writes, arguments.args, entry.captured, arguments.names(), self.function)
        kernel = entry.kernel
        operands = (*(value for value, _ in arguments.values), *kernel.leaves)
        results = iter(call(kernel, arguments.numbers, operands))
        returned = entry.result.put_together(results, object_array)
        if entry.writes:
            write(entry.writes, arguments.args, results)
        return returned

    def _inline(self, arguments: Arguments) -> Any:
        """Call the function as a part of the one that is being traced; plain numbers become constants."""
        returned, containers = self._call_traced(arguments, self._constants(arguments), writable=True)
        items: list[Any] = []

        def kind_of(item: Any) -> Kind:
            items.append(item)
            return NUMBER

        write(writes_of(containers, kind_of), arguments.args, iter(items))
        return returned

    def _interpreted(self, arguments: Arguments) -> Any:
        """Without a recorder operations are executed: that is the interpreter."""
        again = self._again(arguments, arguments.args, symbolic=True)
        roots = functools.partial(self._captured_roots, arguments)
        changes = [NATURAL] if self._natural else [CLASSES] if self._asks else ()
        return for_callers(run_changed(functools.partial(self._inline, again), roots, changes))

    def _build(self, arguments: Arguments) -> _Entry:
        with collector_paused(), preparing(self.name):
            return self._made(self._trace_call(arguments), arguments)

    def _trace_call(self, arguments: Arguments, named: bool = True) -> TracedCall:
        self._check_signature(arguments)
        groups, names, _ = self._groups(arguments)
        places = [place for _, place in arguments.values]
        count = len(names)

        def body(leaves: list[TracedValue]) -> tuple[tuple[Kind, tuple[Write, ...]], Sequence[Any]]:
            returned, containers = self._call_traced(arguments, leaves, writable=True)
            results = ResultFlattener()
            kind = results.flatten_result(returned, self.function)
            return (kind, writes_of(containers, results.flatten)), results.numbers

        start = time.perf_counter()
        traced, captured = self._traced(arguments, body, groups, names, named=named, values=places)
        seconds = time.perf_counter() - start
        wrt = [*places, *range(count, count + len(traced.leaves))]
        stages = PairStages(traced.program, self._title(), self._options, wrt)
        stages.way, stages.spliced = traced.way, traced.spliced
        kind, writes = traced.result
        stages.lengths = [lengths_of(kind)]
        return TracedCall(stages, traced.leaves, captured, [kind], writes, seconds)

    def _opens_for(self, call: TracedCall) -> bool:
        return not call.rest

    def _entry_of(self, call: TracedCall, stages: Any, arguments: Arguments) -> _Entry:
        kernel = Kernel(stages, call.leaves, call.captured.listing(), call.seconds)
        kernel.traced_at = numbers_of(self._inputs_of(arguments, call.leaves))
        self._reached.update((id(leaf), leaf) for leaf in kernel.leaves)
        if any(id(value) in self._reached for value, _ in arguments.values):
            raise TakeApartError
        (result,), writes = call.kinds, call.rest
        assert result is not None
        entry = _Entry(kernel, call.captured, result, writes)
        if not writes:
            entry.binder = make_node_binder(kernel, arguments.kinds, result, self._reached)
            entry.keywords = arguments.keywords
        return entry


@overload
def compile(fn: Callable[P, R], **options: Unpack[Choices]) -> CompiledFunction[P, R]: ...
@overload
def compile(fn: None = None, **options: Unpack[Choices]) -> Callable[[Callable[P, R]], CompiledFunction[P, R]]: ...
def compile(
    fn: Callable[..., Any] | None = None,
    *,
    backend: Backend = "auto",
    mode: Mode = "exact",
    faults: Faults = "raise",
    dynamic: bool | None = None,
    static_argnames: Sequence[str] | str = (),
    memory: float = MEMORY,
    max_ways: int = WAYS,
) -> Any:
    """Compile a function on `Value`s: a drop-in replacement that runs generated code.

    The function is traced at the first call for each structure of arguments. Numbers and arrays among the arguments are
    inputs; `Value`s are inputs that receive gradients; `Value`s that the function reaches otherwise (a model's
    parameters) are read at each call and receive gradients too. Whatever else it reads from outside is compared at each
    call; where something has changed, the function is traced again. What it writes into lists, dicts and arrays of
    objects among its arguments is written there. Printing and other side effects happen while the function is traced.

    Args:
        fn: the function. Without it, `compile(**options)` is a decorator.
        backend: "python": flat Python, ready at once; "numpy": array statements on the repetition that is found in
            the program; "native": machine code, which needs llvmlite; "auto": what is estimated to be the fastest.
            The bits are the same.
        mode: "exact": the bits of the interpreted graph; "fast": simplified as real numbers are.
        faults: "raise": it raises where the graph raises, and the same; "ieee": no arithmetic exception, but inf and
            NaN as IEEE 754 and NumPy have them, in values and gradients. What is inlined into this function follows it.
        dynamic: whether one kernel serves all sizes of lists and arrays. None: learn from calls, one kernel serves all
            sizes from the third one on. True: from the first call on. False: never, each size has a kernel. The first
            use of each size is compared with a program traced there. `open_kernels` lists these kernels.
        static_argnames: arguments whose values are part of the structure: one kernel per value. Lists, dicts and arrays
            are compared by content.
        memory: how many bytes machine code may work in. If a gradient through a loop over rounds would take more, it
            keeps some states only, and computes the rounds between them again, with the same bits. If even that takes
            more, it works in as few bytes as it can. `kernel.stats` has `workspace` and `checkpoints`.
        max_ways: how many ways through its branches kernels are kept for, per structure of arguments. Calls that go
            other ways are answered without a kernel: right, and slow. `ways` lists them.

    Returns:
        A function with the signature of `fn` that returns what `fn` returns; the `backward()` of its `Value`s is
        compiled.

    Raises:
        TraceError: at the first call, if `fn` reads a number that the compiled program cannot know, or draws random
            numbers.
        OptionError: for an unknown back end, mode, argument name, or other option.

    Warns:
        KernelLimitWarning: once, when there are more kinds of arguments than kernels are kept for (64), or for a method
            more objects (256).
        CapturedStateWarning: if what the function reads from outside changes again and again.

    Example:
        >>> import flatgrad as fg
        >>> w = fg.Value(3.0)
        >>> f = fg.compile(lambda x: (w * x).tanh())
        >>> y = f(0.5)
        >>> y.backward()
        >>> y.data, w.grad
        (0.9051482536448664, 0.09035331946182429)
    """
    options: dict[str, Any] = {"backend": backend, "mode": mode, "faults": faults, "dynamic": dynamic}
    return transform(CompiledFunction, fn, static_argnames=static_argnames, memory=memory, max_ways=max_ways, **options)
