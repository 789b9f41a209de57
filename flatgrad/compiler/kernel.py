"""Kernels: the callables that users hold, and how a call of one becomes a node of an interpreted graph."""

from __future__ import annotations

import math
import os
import textwrap
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..runtime.errors import ARITHMETIC_FAULTS, InputError, OptionError
from ..runtime.files import write_atomically
from ..runtime.value import Value
from .checks import as_list
from .languages.loader import collector_paused
from .loops.array_program import ArrayProgram
from .machine.functions import NOTE
from .pairs import PairStages
from .program.program import Program
from .routine import Routine
from .stages import JointStages
from .stats import KernelStats

_new = object.__new__


class Kernel:
    """A compiled program for one structure of arguments.

    Args:
        stages: what became of the traced function.
        leaves: the `Value`s that are bound by identity: their current `.data` is read at each call.
        captured: what the function captured, by name.
        trace_seconds: how long tracing has taken.

    Attributes:
        name: the name of the function that it was made from.
        stages: the program behind each pass: `print(kernel.stages)` shows them.
        stats: sizes and times.
        leaves: as above.
        forward: `forward(*arguments, leaves) -> (*outputs, residuals)`; None for a joint kernel.
        backward: `backward(residuals, output_bars) -> gradients`; None where nothing can receive a gradient.
        joint: `value_and_grad(*arguments, leaves) -> (*outputs, gradients...)`; None for a kernel of two functions.
        results: the groups of the results of `joint`, or of `forward`.
        backend: what runs: "python", "numpy" or "native". If "auto" has gone over to machine code, that is "native".
        captured: the numbers, flags, texts, containers and `Value`s that the function read from outside of itself when
            it was traced, by name. They are compared at each call; if one of them is another one, the function is
            traced again, and has another kernel.
    """

    def __init__(
        self,
        stages: PairStages | JointStages,
        leaves: list[Value],
        captured: dict[str, Any] | None = None,
        trace_seconds: float = 0.0,
    ) -> None:
        start = time.perf_counter()
        with collector_paused():
            loaded = stages.loaded
        sizes = stages.sizes
        self.name, self.stages, self.leaves, self.captured = stages.name, stages, leaves, captured or {}
        self.results, self.backend, self.data = stages.results, stages.backend, loaded.data
        self.stats = KernelStats(
            inputs=sizes.inputs,
            outputs=sizes.outputs,
            constants=sizes.constants,
            primal=sizes.primal,
            adjoint=sizes.equations - sizes.primal,
            lines=loaded.source.count("\n"),
            trace_seconds=trace_seconds,
            compile_seconds=time.perf_counter() - start,
        )
        first, *others = loaded.routines
        is_joint = isinstance(stages, JointStages)
        self.joint = first if is_joint else None
        self.forward = None if is_joint else first
        self.backward = others[0] if others else None
        self._pairs: dict[tuple[int, ...], Sequence[Routine]] = {}
        self._source = loaded.source if stages.backend != "native" else None
        for routine in loaded.routines:
            routine.stats = self.stats

    def __repr__(self) -> str:
        return f"<Kernel {self.name}: {self.stats.equations} equations, backend {self.backend!r}>"

    # What is made when it is asked for may be made by several threads at once; whichever comes last stays.

    @property
    def program(self) -> Program:
        """The whole program: primal equations, then those of the gradient. `print(kernel.program)` shows it."""
        return self.stages.whole

    @property
    def source(self) -> str:
        """The generated Python source. If machine code runs: its loops, in Python."""
        if self._source is None:
            self._source = self.stages.source("rolled", NOTE)
        return self._source

    @property
    def arrays(self) -> ArrayProgram:
        """The program re-rolled: `print(kernel.arrays)` shows the loops in it."""
        return self.stages.rerolled

    def save(self, path: str | os.PathLike[str], *, rolled: bool = False) -> Path:
        """Write the kernel as a standalone Python module, which imports nothing but `math`, or NumPy, or as a C file.

        A module runs on Python 3.8 or newer, without this package. Its functions take and return plain floats and lists
        (on the NumPy back end arrays), as their docstrings say. With `rolled`, it has the loops that re-rolling found,
        in plain Python: short, and good to read. If the kernel reads leaves (a model's parameters), it has their
        current numbers as `LEAVES`, and their names as `LEAF_NAMES`.

        A C file has the loops in C99, and needs nothing but a C library. Its first lines show how to call it.

        Args:
            path: where to write; the suffix must be `.py` or `.c`.
            rolled: whether to write loops in Python.

        Returns:
            The path.

        Raises:
            OptionError: for another suffix.

        Example:
            >>> import flatgrad as fg, pathlib, tempfile
            >>> folder = pathlib.Path(tempfile.mkdtemp())
            >>> saved = fg.grad(lambda x: x.sin()).kernel_for(1.0).save(folder / "slope.py")
            >>> namespace = {}
            >>> exec(saved.read_text(), namespace)
            >>> namespace["grad"](0.0)
            1.0
        """
        path = Path(path)
        if path.suffix not in (".py", ".c"):
            raise OptionError(f"cannot save a kernel as {path.name!r}: the suffix must be .py or .c")
        source = self.c_source() if path.suffix == ".c" else self.python_source(rolled=rolled)
        return write_atomically(path, source.encode())

    def python_source(self, *, rolled: bool = False) -> str:
        """The module that `save` writes, with the current numbers of the leaves.

        Args:
            rolled: whether to print the loops that re-rolling found.

        Example:
            >>> import flatgrad as fg
            >>> "return [2.0 * x" in fg.compile(lambda x: 2.0 * x + 1.0).kernel_for(1.0).python_source()
            True
        """
        if rolled:
            source = self.stages.source("rolled")
        elif self.backend == "native":
            source = self.stages.source("python")
        else:
            source = self.source
            for name, data in self.data.items():
                source += data_listing(name, data)
        if self.leaves:
            _, names, numbers = self._leaf_listing()
            source += _listing("LEAF_NAMES", [repr(name) for name in names])
            source += _listing("LEAVES", [_literal(number) for number in numbers])
        return source

    def c_source(self) -> str:
        """The kernel in C99, with the current numbers of its leaves.

        Raises:
            OptionError: if a primitive has no spelling in C.

        Example:
            >>> import flatgrad as fg
            >>> "x * x" in fg.value_and_grad(lambda x: x * x).kernel_for(1.0).c_source()
            True
        """
        return self.stages.c_source(self._leaf_listing() if self.leaves else None)

    def _leaf_listing(self) -> tuple[str, list[str], list[float]]:
        """The input group of the leaves, their names, and their current numbers."""
        groups = self.program.input_groups
        at = len(groups) - (2 if groups[-1].name == "output_bars" else 1)
        start = sum(group.size for group in groups[:at])
        names = self.program.input_names[start : start + groups[at].size]
        return groups[at].name, names, [leaf._data for leaf in self.leaves]

    def __reduce__(self) -> Any:
        raise InputError(
            "a kernel is bound to the leaves of this process and cannot be pickled or copied; "
            "compile the function again where it is needed, or write it with kernel.save(path)"
        )

    def call(self, arguments: list[Any], operands: tuple[Value, ...]) -> list[Value]:
        """Run forward and return one `Value` per output; their `backward()` is compiled.

        Args:
            arguments: one number or list of numbers per argument.
            operands: the `Value`s that receive the gradients, in the order in which `backward` returns them.
        """
        assert self.forward is not None
        if self.leaves:
            arguments = [*arguments, [leaf._data for leaf in self.leaves]]
        return self.values_of(self.forward.run(*arguments), arguments, operands)

    def values_of(self, results: Any, arguments: Sequence[Any], operands: tuple[Value, ...]) -> list[Value]:
        """The results of `forward` as `Value`s: those of a node in the graph.

        Args:
            results: what `forward` returned.
            arguments: what it was called with; no one else changes them.
            operands: as for `call`.
        """
        if self.backward is None:
            return [_result(data, None, 0) for data in as_list(results)]
        call: Call = _new(Call)
        call.kernel, call.arguments, call.residuals = self, arguments, results[-1]
        call._operands, call._primitive, call._bar, call._grad = operands, _CALL, None, None
        return [_result(data, call, k) for k, data in enumerate(as_list(results[0]))]

    def pull_back(self, call: Call, bars: dict[int, float]) -> list[float]:
        """The gradients of a call's operands, given the gradients of some of its outputs."""
        outputs = tuple(sorted(bars))
        seeds = [bars[k] for k in outputs]
        try:
            return self._gradients(call, outputs, seeds)
        except ARITHMETIC_FAULTS:
            assert isinstance(self.stages, PairStages)
            inputs = [n for part in call.arguments for n in (part if isinstance(part, list) else [part])]
            self.stages.replay_backward(inputs, seeds, outputs)
            raise

    def _gradients(self, call: Call, outputs: tuple[int, ...], seeds: list[float]) -> list[float]:
        assert self.backward is not None
        if len(outputs) == self.program_outputs:
            return list(self.backward(call.residuals, seeds))
        pair = self._pairs.get(outputs)
        if pair is None:
            pair = self._pairs[outputs] = self.partial_pair(outputs)
        forward, backward = pair
        return list(backward(forward.run(*call.arguments)[-1], seeds))

    def partial_pair(self, outputs: tuple[int, ...]) -> Sequence[Routine]:
        """Forward and backward functions for some of several outputs, when only those receive a gradient."""
        assert isinstance(self.stages, PairStages)
        with collector_paused():
            routines = self.stages.restricted(outputs).loaded.routines
        for routine in routines:
            routine.stats = self.stats
        return routines

    @property
    def program_outputs(self) -> int:
        """How many outputs the primal program has."""
        return int(self.results[0].size)


def _listing(name: str, items: Sequence[str]) -> str:
    lines = textwrap.wrap(", ".join(items) + ",", 92, break_long_words=False, break_on_hyphens=False)
    return f"\n\n{name} = [\n" + "".join(f"    {line}\n" for line in lines) + "]\n"


def data_listing(name: str, data: Any) -> str:
    """Data as source: an array, or a list of arrays."""
    if isinstance(data, list):
        tables = "".join(f"    [{', '.join(map(str, table.tolist()))}],\n" for table in data)
        return f"\n\n{name} = [\n{tables}]\n"
    return _listing(name, [_literal(number) for number in data.tolist()])


def _literal(data: float) -> str:
    return repr(data) if math.isfinite(data) else f"float({str(data)!r})"


class Call:
    """A call of a compiled function as one node of an interpreted graph."""

    __slots__ = ("_bar", "_grad", "_operands", "_primitive", "arguments", "kernel", "residuals")

    kernel: Kernel
    arguments: Sequence[Any]
    residuals: list[Any]
    _operands: tuple[Value, ...]
    _primitive: _CallRule
    _bar: Any  # during a backward pass: the gradients of the outputs, by position
    _grad: Any


class _CallRule:
    """Passes the gradients of a call's outputs on to its operands: one term each."""

    symbol = "compiled"
    mixed = False

    def propagate(self, node: Call) -> None:
        bars = node._bar
        if isinstance(bars, dict):
            for operand, gradient in zip(node._operands, node.kernel.pull_back(node, bars), strict=True):
                operand._bar += gradient  # type: ignore[operator]


class OutputRule:
    """Hands the gradient of one output of a call to the call."""

    def __init__(self, position: int) -> None:
        self.position = position

    symbol = "compiled"
    mixed = False

    def propagate(self, node: Value) -> None:
        call = node._operands[0]
        if not isinstance(call._bar, dict):
            call._bar = {}
        call._bar[self.position] = node._bar


_CALL = _CallRule()


@cache
def _output_rule(position: int) -> OutputRule:
    return OutputRule(position)


def _result(data: float, call: Call | None, position: int) -> Value:
    value: Value = _new(Value)
    value._data = data
    value._grad = 0.0
    value._bar = None
    if call is None:
        value._primitive, value._operands = None, ()
    else:
        value._primitive, value._operands = _output_rule(position), (call,)
    return value
