"""`OpenKernel`: one kernel for all sizes of the arguments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..runtime.errors import InputError
from ..runtime.value import Value
from ..runtime.wording import count_of
from .cards import kernel_card
from .kernel import explained, leaves_of, leaves_text, save_source
from .languages.c import Leaves
from .loops.array_program import ArrayProgram
from .loops.generalize import OpenArrayProgram
from .open_stages import OpenStages
from .stats import KernelStats


@dataclass
class OpenStats(KernelStats):
    """The stats of a kernel for all sizes: the counts are those of the largest sample.

    Attributes:
        sizes: per size that it was used for, what was found out. "traced": the kernel was made from this size, among
            others. "compared": its numbers have the bits of the program traced there. "counted": as many operations of
            each sort were traced. "value compared": the function was called as it is, and had the value of the kernel.
            "too large to be compared": smaller sizes were compared in place of it. "rows":
            the number of rows of a map, which the function cannot see; a smaller one was compared. "different" and
            "not bound": that size has a kernel of its own.
    """

    sizes: dict[Any, str] = field(default_factory=dict)


class OpenKernel:
    """A kernel for all sizes.

    Args:
        stages: what became of what was traced.
        leaves: the `Value`s whose current `.data` is read at each call.
        trace_seconds: how long tracing has taken.

    Attributes:
        name: of the function.
        stages: the program behind each pass at a small size, and the array programs for every size;
            `print(kernel.stages)` shows them.
        stats: sizes and times; see `OpenStats`.
        leaves: as above.
    """

    def __init__(self, stages: OpenStages, leaves: list[Value], trace_seconds: float) -> None:
        self.name: str = stages.name
        self.stages = stages
        self.leaves = leaves
        #: The numbers of the largest sample's inputs; None where they are not known.
        self.traced_at: Sequence[float] | None = None
        self._source: str | None = None
        self.stats: OpenStats = OpenStats.of(stages.choice, stages.sizes(stages.at.sizes[-1]), trace_seconds)

    @property
    def backend(self) -> str:
        """What runs: "python", "numpy" or "native"."""
        return self.stats.backend

    @property
    def arrays(self) -> OpenArrayProgram:
        """The program re-rolled, for every size: `print(kernel.arrays)` shows the loops in it.

        Of a kernel of two functions, as `fg.compile` makes them, it is the first one; `kernel.stages.arrays` has both.
        """
        return self.stages.arrays[0]

    def bind(self, *sizes: int) -> ArrayProgram:
        """The array program at a size, or at two if it has two.

        Raises:
            InputError: for another number of sizes, or one that is so small that it has a kernel of its own.

        Example:
            >>> import flatgrad as fg
            >>> f = fg.grad(lambda x: sum(a * a for a in x), dynamic=True)
            >>> f([1.0, 2.0]), f([1.0, 2.0, 3.0])
            ([2.0, 4.0], [2.0, 4.0, 6.0])
            >>> f.open_kernels[0].bind(4).evaluate([1.0, 2.0, 3.0, 4.0])
            [2.0, 4.0, 6.0, 8.0]
        """
        names = self.stages.names
        if len(sizes) != len(names) or min(sizes) < 1:
            raise InputError(f"bind expects {' and '.join(names)}, 1 or more each, and got {list(sizes)}")
        if not self.arrays.holds_at(sizes):
            named = " and ".join(f"{name} = {size}" for name, size in zip(names, sizes, strict=True))
            raise InputError(f"there is another program for {named}, where a loop would be empty; call the function")
        return self.arrays.bind(*sizes)

    @property
    def source(self) -> str:
        """The functions in Python; their first arguments are the sizes."""
        if self._source is None:
            self._source = self.stages.python_source()
        return self._source

    def python_source(self) -> str:
        """The module that `save` writes, with the current numbers of the leaves.

        Raises:
            OptionError: if it cannot be written for every size.

        Example:
            >>> import flatgrad as fg
            >>> f = fg.grad(lambda x: sum(a * a for a in x) / len(x), dynamic=True)
            >>> f([1.0, 2.0])
            [1.0, 2.0]
            >>> namespace = {}
            >>> exec(f.open_kernels[0].python_source(), namespace)
            >>> namespace["grad"](4, [1.0, 2.0, 3.0, 4.0])
            [0.5, 1.0, 1.5, 2.0]
        """
        return self.source + leaves_text(self._leaves())

    def c_source(self) -> str:
        """The kernel in C99, with the current numbers of its leaves; the first arguments are the sizes.

        Raises:
            OptionError: if it cannot be written for every size, or a primitive has no spelling in C.
        """
        return self.stages.c_source(self._leaves())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the kernel as a standalone Python module, in loops, or as a C file; the first arguments are the sizes.

        Args:
            path: where to write; the suffix must be `.py` or `.c`.

        Returns:
            The path.

        Raises:
            OptionError: for another suffix, and for what `python_source` and `c_source` raise it.
        """
        return save_source(path, self.python_source, self.c_source)

    def explain(self, path: str | os.PathLike[str], *, inputs: Sequence[float] | None = None) -> Path:
        """Write one HTML file that shows what became of each line of the function, at a small size.

        It is the largest size that the kernel was made from; the page names it. For another size, call the function
        with arguments of that size, and explain its kernel for them, as `f.explain(path, *arguments)` does.

        Args:
            path: where to write; the suffix must be `.html`, or `.json` for the same as data.
            inputs: numbers at which values and gradients are shown; by default those of the call that it was made for.

        Returns:
            The path.

        Raises:
            OptionError: for another suffix.
            InputError: for a wrong number of inputs.

        Example:
            >>> import flatgrad as fg, pathlib, tempfile
            >>> f = fg.grad(lambda x: sum(a * a for a in x), dynamic=True)
            >>> f([1.0, 2.0])
            [2.0, 4.0]
            >>> page = f.open_kernels[0].explain(pathlib.Path(tempfile.mkdtemp()) / "squares.html")
            >>> "This kernel is for every n" in page.read_text()
            True
        """
        return explained(self, path, inputs)

    def _leaves(self) -> Leaves | None:
        return leaves_of(self.stages.samples[-1].cleaned, self.leaves) if self.leaves else None

    def __reduce__(self) -> Any:
        raise InputError(
            "a kernel is bound to the leaves of this process and cannot be pickled or copied; "
            "compile the function again where it is needed, or write it with kernel.save(path)"
        )

    def _repr_html_(self) -> str:
        """How notebooks show it: panes with source, loops and sizes."""
        return kernel_card(self)

    def __repr__(self) -> str:
        names = " and ".join(self.stages.names)
        count = count_of(len(self.stages.arrays[0].statements), "statement")
        return f"<OpenKernel {self.name} for every {names}: {count}, backend {self.backend!r}>"
