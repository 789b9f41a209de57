"""`compile_graph`: a graph that has been built already, as a function."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, cast, overload

from ...runtime.errors import InputError
from ...runtime.traced import TracedValue
from ...runtime.value import Value
from ...runtime.wording import count_of
from ..kernel import Kernel
from ..languages.loader import collector_paused
from ..nodes import call
from ..options import Backend, Mode, Options, check_options
from ..pairs import PairStages
from ..program.faults import Faults
from ..program.program import Program
from ..program.progress import preparing
from ..program.trace_graph import trace_graph
from ..round_stages import with_rounds
from ..stats import KernelStats
from .dispatch import R


class CompiledGraph(Generic[R]):
    """A graph compiled by `fg.compile_graph`: call it to compute the outputs again at the current numbers.

    Attributes:
        kernel: the compiled program; also `source`, `program` and `stats`, for short.
    """

    def __init__(self, kernel: Kernel, inputs: list[Value], single: bool) -> None:
        self.kernel = kernel
        self._inputs = inputs
        self._single = single

    def explain(self, path: str | os.PathLike[str]) -> Path:
        """Write the page about its kernel: see `Kernel.explain`."""
        return self.kernel.explain(path)

    @property
    def source(self) -> str:
        """The generated source."""
        return self.kernel.source

    @property
    def program(self) -> Program:
        """The program, with that of the gradient."""
        return self.kernel.program

    @property
    def stats(self) -> KernelStats:
        """Sizes and times."""
        return self.kernel.stats

    def __call__(self, *numbers: Any) -> R:
        """The outputs as `Value`s with a compiled `backward()`.

        Args:
            numbers: one number (or `Value`) per input given to `compile_graph`; none: the inputs' current data.
        """
        if numbers and len(numbers) != len(self._inputs):
            raise InputError(f"expected {len(self._inputs)} numbers, one per input, got {len(numbers)}")
        values = [item if isinstance(item, Value) else Value(item) for item in numbers or self._inputs]
        results = call(self.kernel, [value._number for value in values], (*values, *self.kernel.leaves))
        return cast("R", results[0] if self._single else results)

    def _repr_html_(self) -> str:
        """How notebooks show it: as its kernel."""
        return self.kernel._repr_html_()

    def __repr__(self) -> str:
        count = count_of(self.kernel.stats.equations, "equation")
        return f"<flatgrad.compile_graph: {count}, backend={self.kernel.backend!r}>"


@overload
def compile_graph(
    outputs: Value,
    inputs: Sequence[Value] | None = ...,
    *,
    backend: Backend = ...,
    mode: Mode = ...,
    faults: Faults = ...,
) -> CompiledGraph[Value]: ...
@overload
def compile_graph(
    outputs: Sequence[Value],
    inputs: Sequence[Value] | None = ...,
    *,
    backend: Backend = ...,
    mode: Mode = ...,
    faults: Faults = ...,
) -> CompiledGraph[list[Value]]: ...
def compile_graph(
    outputs: Value | Sequence[Value],
    inputs: Sequence[Value] | None = None,
    *,
    backend: Backend = "auto",
    mode: Mode = "exact",
    faults: Faults = "raise",
) -> CompiledGraph[Any]:
    """Compile a graph that has already been built.

    Args:
        outputs: the `Value` or `Value`s to compute.
        inputs: the `Value`s that become the arguments of the result, in order. All other leaves (without `inputs`: all
            of them) are bound by identity: at each call their current data is read.
        backend, mode, faults: as for `compile`.

    Returns:
        A callable that returns one `Value`, or a list of them if `outputs` is a list.

    Example:
        >>> import flatgrad as fg
        >>> x, y = fg.Value(2.0), fg.Value(3.0)
        >>> graph = fg.compile_graph(x * y + x, [x, y])
        >>> graph(5.0, 1.0).data
        10.0
    """
    check_options(backend, mode, faults)
    if not isinstance(outputs, (Value, list, tuple)):
        raise InputError(f"compile_graph: expected a Value or a list of Values, got {type(outputs).__name__}")
    single = isinstance(outputs, Value)
    roots = [outputs] if isinstance(outputs, Value) else list(outputs)
    if isinstance(inputs, Value):
        raise InputError("compile_graph: inputs must be a list of Values; write [value]")
    arguments = list(inputs) if inputs is not None else []
    for value in (*roots, *arguments):
        if not isinstance(value, Value):
            raise InputError(f"compile_graph: expected Values, got {type(value).__name__}")
        if isinstance(value, TracedValue):
            _ = value._number  # raises: it has no number
    if len({id(value) for value in arguments}) != len(arguments):
        raise InputError("compile_graph: an input stands twice in `inputs`")

    with collector_paused(), preparing("a graph"):
        start = time.perf_counter()
        traced = trace_graph(roots, arguments, "graph")
        seconds = time.perf_counter() - start
        wrt = range(traced.program.inputs)
        pair = PairStages(traced.program, "a graph", Options(mode, backend, faults), list(wrt))
        leaves = [[leaf.data for leaf in traced.leaves]] if traced.leaves else []
        stages = with_rounds(pair, [*(value.data for value in arguments), *leaves])
        kernel = Kernel(stages, traced.leaves, trace_seconds=seconds)
        kernel.traced_at = [value.data for value in (*arguments, *traced.leaves)]
    return CompiledGraph(kernel, arguments, single)
