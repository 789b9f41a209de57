"""Kernels: what a compiled function has for one structure of arguments."""

from __future__ import annotations

import importlib
import math
import os
import textwrap
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.drawing import WIDTH
from ..runtime.errors import InputError, OptionError
from ..runtime.files import write_atomically
from ..runtime.own import Foreign
from ..runtime.primitives import TABLE
from ..runtime.value import Value
from ..runtime.wording import count_of
from .cards import kernel_card
from .languages.c import Leaves
from .languages.loader import collector_paused
from .loops.array_program import ArrayProgram
from .machine.functions import NOTE
from .open_stages import BoundStages
from .pairs import PairStages
from .program.program import Program
from .program.ways import Way
from .routine import Routine
from .sparsity import Sparsity
from .stages import JointStages, Stages
from .stats import KernelStats

#: Programs of up to so many equations are drawn equation by equation.
_DRAWN = 80


class BaseKernel:
    """What kernels of functions and of training steps show: the program, what became of it, and sizes and times.

    Args:
        stages: what became of what was traced.
        leaves: the `Value`s whose current `.data` is read at each call.
        trace_seconds: how long tracing has taken.
    """

    name: str
    stages: Stages | BoundStages
    leaves: list[Value]
    stats: KernelStats
    #: The numbers at hand when the function was traced, one per input; None where they are not known.
    traced_at: Sequence[float] | None = None

    def __init__(self, stages: Stages | BoundStages, leaves: list[Value], trace_seconds: float) -> None:
        self.name, self.stages, self.leaves = stages.name, stages, leaves
        self.stats = KernelStats.of(stages.choice, stages.sizes, trace_seconds)

    @property
    def backend(self) -> str:
        """What runs: "python", "numpy" or "native". `kernel.stats.reason` says why. "auto" may go over to "native"."""
        return self.stats.backend

    def __repr__(self) -> str:
        count = count_of(self.stats.equations, "equation")
        return f"<{type(self).__name__} {self.name}: {count}, backend {self.backend!r}>"

    def _repr_html_(self) -> str:
        """How notebooks show it: panes with source, program, loops and sizes."""
        return kernel_card(self)

    # What is made when it is asked for may be made by several threads at once; whichever comes last stays.

    @property
    def program(self) -> Program:
        """The whole program: primal equations, then those of the gradient. `print(kernel.program)` shows it."""
        return self.stages.whole

    @property
    def arrays(self) -> ArrayProgram:
        """The program re-rolled: `print(kernel.arrays)` shows the loops in it."""
        return self.stages.rerolled

    def draw_dot(self, format: str = "svg", rankdir: str = "", *, width: float | None = WIDTH) -> Any:
        """A picture of the program: of a small one each equation, of a larger one the loops that are found in it.

        `kernel.program.draw_dot()` and `kernel.arrays.draw_dot()` draw the one or the other.

        Args:
            format, width: as for `fg.draw_dot`.
            rankdir: "LR" or "TB"; by default equations go from left to right, and loops from top to bottom.

        Returns:
            A `graphviz.Digraph`; notebooks display it, `.render(filename)` writes it.

        Raises:
            OptionError: for an unknown option, or if there are more than 300 loops.
            MissingExtraError: if the Python package graphviz is not installed.

        Example:
            >>> import flatgrad as fg
            >>> kernel = fg.grad(lambda x: x.sin() * x).kernel_for(1.0)
            >>> picture = kernel.draw_dot()  # doctest: +SKIP
        """
        if self.stats.equations <= _DRAWN:
            return self.program.draw_dot(format, rankdir or "LR", width=width)
        return self.arrays.draw_dot(format, rankdir or "TB", width=width)

    def explain(self, path: str | os.PathLike[str], *, inputs: Sequence[float] | None = None) -> Path:
        """Write one HTML file that shows what became of each line of the function, and what it came from.

        Args:
            path: where to write; the suffix must be `.html`, or `.json` for the same as data.
            inputs: numbers at which values and gradients are shown, one per input of `kernel.program`; by default those
                that the function was traced at. A training step's are its batch, the parameters, the optimiser's state,
                and the numbers of the step.

        Returns:
            The path.

        Raises:
            OptionError: for another suffix, or a program that is too large to be shown.
            InputError: for a wrong number of inputs.

        Example:
            >>> import flatgrad as fg, pathlib, tempfile
            >>> kernel = fg.value_and_grad(lambda x: x.sin() * x).kernel_for(2.0)
            >>> page = kernel.explain(pathlib.Path(tempfile.mkdtemp()) / "sine.html")
            >>> page.read_text().startswith("<!doctype html>")
            True
        """
        return explained(self, path, inputs)


class Kernel(BaseKernel):
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
        forward: `forward(*arguments, leaves) -> (*outputs, residuals)`, without residuals where nothing can receive a
            gradient; None for a joint kernel.
        backward: `backward(residuals, output_bars) -> gradients`; None where nothing can receive a gradient.
        joint: `value_and_grad(*arguments, leaves) -> (*outputs, gradients...)`; None for a kernel of two functions.
        captured: the numbers, flags, texts, containers and `Value`s that the function read from outside of itself when
            it was traced, by name. They are compared at each call; if one of them is another one, the function is
            traced again, and has another kernel.
        way: the truth values that the function met when it was traced. A call that goes another way has another kernel.
        sparsity: the pattern of the matrix, for `fg.jacobian` and `fg.hessian` with `sparse=True`; else None.
    """

    sparsity: Sparsity | None = None
    stages: PairStages | JointStages | BoundStages
    captured: dict[str, Any]
    way: Way
    joint: Routine | None
    forward: Routine | None
    backward: Routine | None

    def __init__(
        self,
        stages: PairStages | JointStages | BoundStages,
        leaves: list[Value],
        captured: dict[str, Any] | None = None,
        trace_seconds: float = 0.0,
    ) -> None:
        start = time.perf_counter()
        with collector_paused():
            loaded = stages.loaded
        super().__init__(stages, leaves, trace_seconds)
        self.captured = captured or {}
        self.way = stages.way
        self.stats.guards = len(self.way.truths)
        #: The number of calls by a builtin, and of others.
        self._counted = np.zeros(1, dtype=np.int64) if self.way.truths else None
        self._by_python = 0
        self.stats.lines, self.stats.compile_seconds = loaded.source.count("\n"), time.perf_counter() - start
        layouts = [routine.code.layout for routine in loaded.routines if routine.code is not None]
        self.stats.workspace = sum(layout.bytes for layout in layouts)
        self.stats.checkpoints = sum(layout.checkpoints for layout in layouts)
        memory = stages.options.memory
        if any(layout.bytes > memory for layout in layouts):
            self.stats.reason += f"; it takes more than memory={memory:,.0f}, as not all of it can be computed again"
        first, *others = loaded.routines
        is_joint = stages.is_joint
        self.joint = first if is_joint else None
        self.forward = None if is_joint else first
        self.backward = others[0] if others else None
        self._source = loaded.source if stages.backend != "native" else None
        for routine in loaded.routines:
            routine.stats = self.stats

    @property
    def calls(self) -> int | None:
        """How many calls have gone the way of this kernel; None where there are no guards, as nothing is counted then.

        Calls that raise are not counted.
        """
        return None if self._counted is None else int(self._counted[0]) + self._by_python

    @property
    def source(self) -> str:
        """The generated Python source. If machine code runs: its loops, in Python."""
        if self._source is None:
            self._source = self.stages.source("rolled", NOTE)
        return self._source

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
        return save_source(path, partial(self.python_source, rolled=rolled), self.c_source)

    def python_source(self, *, rolled: bool = False) -> str:
        """The module that `save` writes, with the current numbers of the leaves.

        Args:
            rolled: whether to print the loops that re-rolling found.

        Example:
            >>> import flatgrad as fg
            >>> "return [2.0 * x" in fg.compile(lambda x: 2.0 * x + 1.0).kernel_for(1.0).python_source()
            True
        """
        foreign = self._foreign()
        if foreign:
            raise OptionError(
                f"the kernel cannot be written as a module: it calls the foreign primitive {foreign}, a function of "
                "this process. Write the primitive in arithmetic"
            )
        if rolled:
            source = self.stages.source("rolled")
        elif self.backend == "native":
            source = self.stages.source("python")
        else:
            source = self.source
            for name, data in self.stages.loaded.data.items():
                source += data_listing(name, data)
        return source + leaves_text(self._leaves())

    def c_source(self) -> str:
        """The kernel in C99, with the current numbers of its leaves.

        Raises:
            OptionError: if a primitive has no spelling in C.

        Example:
            >>> import flatgrad as fg
            >>> "x * x" in fg.value_and_grad(lambda x: x * x).kernel_for(1.0).c_source()
            True
        """
        return self.stages.c_source(self._leaves())

    def _foreign(self) -> str:
        """The name of a foreign primitive that is called; empty if there is none."""
        rows = map(TABLE.__getitem__, set(self.stages.joint.opcodes))
        return next((row.name for row in rows if isinstance(row.evaluate, Foreign)), "")

    def _leaves(self) -> Leaves | None:
        return leaves_of(self.stages.signature, self.leaves) if self.leaves else None

    def __reduce__(self) -> Any:
        raise InputError(
            "a kernel is bound to the leaves of this process and cannot be pickled or copied; "
            "compile the function again where it is needed, or write it with kernel.save(path)"
        )


def explained(
    kernel: Any, path: str | os.PathLike[str], inputs: Sequence[float] | None, ways: Sequence[Any] = ()
) -> Path:
    """Write the page about a kernel; see `BaseKernel.explain`. `ways` are those of its function, with their calls."""
    explaining: Any = importlib.import_module("flatgrad.explain")  # it is made above the compiler
    written: Path = explaining.write(kernel, path, inputs=inputs, ways=ways)
    return written


def save_source(
    path: str | os.PathLike[str], python_source: Callable[[], str], c_source: Callable[[], str]
) -> Path:  # fmt: skip
    """Write what the suffix of a path stands for.

    Raises:
        OptionError: for another suffix than `.py` and `.c`.
    """
    path = Path(path)
    if path.suffix not in (".py", ".c"):
        raise OptionError(f"cannot save a kernel as {path.name!r}: the suffix must be .py or .c")
    return write_atomically(path, (c_source() if path.suffix == ".c" else python_source()).encode())


def leaves_of(program: Program, leaves: Sequence[Value]) -> Leaves:
    """The input group of the leaves of a whole program, their names, and their current numbers."""
    groups = program.input_groups
    at = len(groups) - (2 if groups[-1].name == "output_bars" else 1)
    start = sum(group.size for group in groups[:at])
    names = program.input_names[start : start + groups[at].size]
    return Leaves(groups[at].name, names, [leaf._number for leaf in leaves])


def leaves_text(leaves: Leaves | None) -> str:
    """Names and numbers of leaves as source, behind a module."""
    if leaves is None:
        return ""
    return _listing("LEAF_NAMES", list(map(repr, leaves.names))) + number_listing("LEAVES", leaves.numbers)


def _listing(name: str, items: Sequence[str]) -> str:
    lines = textwrap.wrap(", ".join(items) + ",", 92, break_long_words=False, break_on_hyphens=False)
    return f"\n\n{name} = [\n" + "".join(f"    {line}\n" for line in lines) + "]\n"


def data_listing(name: str, data: Any) -> str:
    """Data as source: an array, or a list of arrays."""
    if isinstance(data, list):
        tables = "".join(f"    [{', '.join(map(str, table.tolist()))}],\n" for table in data)
        return f"\n\n{name} = [\n{tables}]\n"
    return number_listing(name, data.tolist())


def number_listing(name: str, numbers: Sequence[float]) -> str:
    """A list of numbers as source."""
    return _listing(name, [repr(n) if math.isfinite(n) else f"float({str(n)!r})" for n in numbers])
