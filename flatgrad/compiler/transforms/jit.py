"""`jit`: the function itself, compiled, on numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Self, Unpack, overload

from ...runtime.traced import TracedValue
from ...runtime.value import Value
from ..calls.arguments import Arguments
from ..calls.binding import Signature
from ..calls.captured import Captured
from ..calls.kind import Kind
from ..calls.results import NumberFlattener
from ..calls.sizes import lengths_of
from ..options import MEMORY, WAYS, Backend, Mode
from ..pairs import PairStages
from ..program.faults import Faults
from ..program.trace import Traced
from .dispatch import Choices, P, Q, R, transform
from .numeric import Array, Numeric, NumericFunction


class JitFunction(NumericFunction[P, R]):
    """A function compiled by `fg.jit`; it takes and returns numbers, and arrays of them."""

    _transform = "jit"
    _sweeps = 0

    if TYPE_CHECKING:

        @overload  # the signature of a method has no `self`
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(
            self: JitFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
        ) -> JitFunction[Q, R]: ...
        def __get__(self, instance: object, owner: type | None = None) -> Any: ...

    def _stages(
        self, arguments: Arguments, faults: str, named: bool = True
    ) -> tuple[PairStages, Traced[Kind], Captured, Signature, float]:
        self._check_signature(arguments)
        groups, names, _ = self._groups(arguments)

        def body(leaves: list[TracedValue]) -> tuple[Kind, Sequence[Any]]:
            results = NumberFlattener()
            returned, _ = self._call_traced(arguments, leaves)
            return results.flatten_result(returned, self.function), results.numbers

        start = time.perf_counter()
        traced, captured = self._traced(arguments, body, groups, names, faults=faults, named=named)
        seconds = time.perf_counter() - start
        kind = traced.result
        stages = PairStages(traced.program, self._title(), self._options, wrt=(), scalar=kind.scalar)
        stages.lengths, stages.way, stages.spliced = [lengths_of(kind)], traced.way, traced.spliced
        return stages, traced, captured, Signature(arguments.kinds, [kind], True, False), seconds

    def _inline(self, arguments: Arguments) -> Any:
        """Call the function as a part of the one that is being traced; plain numbers become constants."""
        return self._call_traced(arguments, self._constants(arguments))[0]


def value_of(derivative: NumericFunction[..., Any], function: Callable[..., Any]) -> JitFunction[..., Any]:
    """The function of which this is a derivative, compiled with the same options."""
    value = JitFunction[..., Any](function, **{**derivative._method_options(function), "dynamic": True})
    value._integers = dict(derivative._integers)
    return value


@overload
def jit(fn: Callable[P, Value | float], **options: Unpack[Choices]) -> JitFunction[P, float]: ...
@overload
def jit(fn: Callable[P, list[Value] | list[float]], **options: Unpack[Choices]) -> JitFunction[P, list[float]]: ...
@overload
def jit(fn: Callable[P, Numeric], **options: Unpack[Choices]) -> JitFunction[P, Array]: ...
@overload
def jit(fn: Callable[P, Any], **options: Unpack[Choices]) -> JitFunction[P, Any]: ...
@overload
def jit(fn: None = None, **options: Unpack[Choices]) -> Callable[[Callable[P, Any]], JitFunction[P, Any]]: ...
def jit(
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
    """A function that computes what `fn` does, from numbers to numbers: compiled, without a gradient.

    It makes no `Value`s, so that a call takes 0.1 µs and more in machine code, as calls of `fg.value_and_grad` do.
    `fg.compile` is for results that are parts of a graph.

    Args:
        fn: a function of numbers, arrays, lists, dicts of them; it is traced on `Value`s. A `Value` among the arguments
            is read as a number. `Value`s that `fn` reads otherwise (a model's parameters) are read at each call.
            Without `fn`, `jit(**options)` is a decorator.
        backend, mode, faults, dynamic, static_argnames, memory, max_ways: as for `fg.compile`.

    Returns:
        A function with the signature of `fn`. Where `fn` returns `Value`s, it returns floats; for an array that holds
        some, an array of floats; for conditions bools, and arrays of bools; lists, tuples and dicts of these as they
        are. Anything else is returned as it was when the function was traced. Inside of another traced function it is a
        part of that.

    Raises:
        InputError: for arguments that are no numbers, or a result that holds a complex number.
        TraceError: if `fn` reads a number that the compiled program cannot know, or writes into its arguments.
        OptionError: as for `fg.compile`.

    Warns:
        KernelLimitWarning, CapturedStateWarning: as for `fg.compile`.

    Example:
        >>> import flatgrad as fg, numpy as np
        >>> w = fg.Value(0.5)
        >>> f = fg.jit(lambda x: (w * x).tanh())
        >>> f(3.0)
        0.9051482536448664
        >>> fg.jit(lambda x: {"softmax": np.array(fg.softmax(x)), "mean": fg.sum(x) / len(x)})([0.0, 0.0])
        {'softmax': array([0.5, 0.5]), 'mean': 0.0}
    """
    options: dict[str, Any] = {"backend": backend, "mode": mode, "faults": faults, "dynamic": dynamic}
    return transform(JitFunction, fn, static_argnames=static_argnames, memory=memory, max_ways=max_ways, **options)
