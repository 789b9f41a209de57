"""Machine code for every extent: written once, and bound to extents by its schedule.

The places, extents and strides of an open program stand in the schedule of its code, which is a table. So the code is
the same for all extents, and the words of the table are polynomials in them: they are found from the tables at a few
extents, as array programs are generalised. Code that computes several lanes at once needs extents of at least so many;
smaller ones have code of their own, in which no tile reaches along an open extent.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..loops.extents import AnyTable, OpenTable, Samples, monomials, samples_of
from ..loops.formulas import Formula, numbers_of
from ..loops.generalize import OpenArrayProgram
from . import native
from .llvm import Module
from .memory import OpenCodeError
from .native import Layout, LoadedCode, NativeFunction, host
from .operations import Machine

#: The extents at which tiles are chosen: many lanes, as where speed matters.
_NOMINAL = 192
#: The extents at which code is written, to find out what depends on them; other ones if two places coincide.
_WRITTEN = (37, 41, 44, 59), (67, 71, 78, 101)


class _Words(NamedTuple):
    """The integers of a layout, one behind the other."""

    schedule: Any
    least: Sequence[tuple[int, int]]
    sizes: tuple[int, ...]
    outputs: list[tuple[int, int]]
    extra: list[int]

    def flat(self) -> Any:
        least = [extent for extent, _ in self.least]
        outputs = [number for pair in self.outputs for number in pair]
        return np.array([*self.sizes, *least, *outputs, *self.extra, *self.schedule.tolist()], dtype=np.int64)


class OpenCode:
    """Machine code of a program with open extents, for extents that are not too small.

    Args:
        program: the array program.
        machine: what the code is for.
        fast: as for `emit_llvm`.
        narrow: whether it is for the smallest extents, too.

    Raises:
        OpenCodeError: if the code depends on the extents.
    """

    def __init__(self, program: OpenArrayProgram, machine: Machine, fast: bool, narrow: bool) -> None:
        self.program, self.fast = program, fast
        count = len(program.extents)
        nominal = program.bind(*[_NOMINAL] * count, marked=True)
        pieces = program.lengths_of_pieces([_NOMINAL] * count)
        reasons = []
        # Statements write to results if they may; where that depends on the extents, results are copied.
        choices: list[dict[str, Any]] = [{}, {"direct": set()}]
        for self.tiles in choices:
            Module(nominal, machine, fast, narrow, self.tiles, pieces).emitted()
            for written in _WRITTEN:
                try:
                    self._write(machine, narrow, Samples(samples_of(written, count)))
                    return
                except OpenCodeError as error:
                    reasons.append(error)
            if not self.tiles["direct"]:
                break
        raise reasons[-1]

    def _write(self, machine: Machine, narrow: bool, samples: Samples) -> None:
        modules, codes = [], []
        for sizes in samples.sizes:
            bound = self.program.bind(*sizes, marked=True)
            pieces = self.program.lengths_of_pieces(sizes)
            modules.append(Module(bound, machine, self.fast, narrow, dict(self.tiles), pieces))
            codes.append(modules[-1].emitted())
        if len({code.assembly for code in codes}) > 1:
            raise OpenCodeError("its loops depend on the extents")
        self.assembly, self.functions = codes[0].assembly, codes[0].layout.functions
        rows = [_words(module, code.layout) for module, code in zip(modules, codes, strict=True)]
        flat = [row.flat() for row in rows]
        if len(set(map(len, flat))) > 1:
            raise OpenCodeError("its schedule depends on the extents")
        coefficients = samples.columns(np.stack(flat))
        if coefficients is None:
            raise OpenCodeError("places in its memory depend on the extents in a way that is not simple")
        self._coefficients, self._first = coefficients, rows[0]
        self._tables: list[AnyTable] = []
        for tables, shapes in zip(
            zip(*(m.tables for m in modules), strict=True), zip(*(m.table_shapes for m in modules), strict=True),
            strict=True,
        ):  # fmt: skip
            table = OpenTable.through(tables, shapes, samples) if shapes[0] else OpenTable.of_lengths(tables, samples)
            if table is None:
                raise OpenCodeError("a gather depends on the extents in a way that is not simple")
            self._tables.append(table)
        # Which constants stand at the extra places, by position among those that depend on the extents.
        self._extra = self._formulas_of([[number for _, number in code.layout.extra] for code in codes], samples)

    def _formulas_of(self, rows: Sequence[Sequence[float]], samples: Samples) -> list[Formula]:
        """The formulas that these numbers come from."""
        formulas = [
            constant
            for statement in self.program.statements if hasattr(statement, "program")
            for constant in statement.program.constants if isinstance(constant, Formula)
        ]  # fmt: skip
        result = []
        for numbers in zip(*rows, strict=True):
            pairs = list(zip(numbers, samples.sizes, strict=True))
            result.append(next(f for f in formulas if all(f.at(sizes)[0] == number for number, sizes in pairs)))
        return result

    def layout(self, sizes: Sequence[int], data: Sequence[Any] = ()) -> Layout | None:
        """The layout for some extents; None if one of them is too small. `data` is as for `OpenArrayProgram.bind`."""
        first = self._first
        features = np.array(monomials(sizes)[: len(self._coefficients)], dtype=np.int64)
        words = features @ self._coefficients
        numbers = iter(words[: len(words) - len(first.schedule)].tolist())
        inputs, memory, truths = (next(numbers) for _ in first.sizes)
        if any(next(numbers) < least for _, least in first.least):
            return None
        outputs = [(next(numbers), next(numbers)) for _ in first.outputs]
        extra = [(next(numbers), formula.at(sizes)[0]) for formula in self._extra]
        tables = np.concatenate([words[len(words) - len(first.schedule) :], *(t.at(sizes) for t in self._tables)])
        constants = list(itertools.chain.from_iterable(numbers_of(self.program.constants, sizes, data)))
        truth_constants = np.array(self.program.truths, dtype=bool)
        return Layout(
            inputs, memory, truths, np.array(constants, dtype=float), truth_constants, tables, outputs,
            self.functions, extra,
        )  # fmt: skip


def _words(module: Module, layout: Layout) -> _Words:
    schedule = layout.tables[: layout.tables[0]]
    sizes = layout.inputs, layout.numbers, layout.truths
    return _Words(schedule, module.least, sizes, layout.outputs, [place for place, _ in layout.extra])


class OpenFunction:
    """A function in machine code for every extent; it is compiled when it is needed first.

    Args:
        program: the array program.
        fast: let additions be reassociated and products be fused into them.

    Example:
        >>> from flatgrad.compiler.loops.generalize import generalize
        >>> from flatgrad.compiler.loops.reroll import reroll
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.program.program import Group
        >>> def squares(n):
        ...     f = ProgramBuilder("squares", [Group("x", n, False)])
        ...     return reroll(f.finish([f.emit("mul", k, k) for k in range(n)], [Group("y", n, False)]))
        >>> function = OpenFunction(generalize([squares(5), squares(6), squares(7)], [(5,), (6,), (7,)]), fast=False)
        >>> memory, run = function.bind(1000).workspace()
        >>> memory[:1000] = range(1000)
        >>> run(), memory[function.bind(1000).layout.outputs[0][0] + 999].item()
        (0, 998001.0)
    """

    def __init__(self, program: OpenArrayProgram, fast: bool) -> None:
        self.program, self.fast = program, fast
        self._codes: dict[bool, OpenCode] = {}
        self._loaded: dict[bool, LoadedCode] = {}

    def _code(self, narrow: bool) -> OpenCode:
        if narrow not in self._codes:
            machine = Machine(host().lanes, host().shortcuts, host().vector_math)
            self._codes[narrow] = OpenCode(self.program, machine, self.fast, narrow)
        return self._codes[narrow]

    def prepare(self) -> None:
        """Write the code for extents that are not small, and find out whether that depends on them.

        Raises:
            OpenCodeError: if it does.
        """
        self._code(False)

    def bind(self, *sizes: int, release: bool = False, data: Sequence[Any] = ()) -> NativeFunction:
        """The function for some extents; `data` is as for `OpenArrayProgram.bind`.

        Raises:
            OpenCodeError: if the code depends on the extents.
        """
        if not self.program.holds_at(sizes):
            raise OpenCodeError("one of its loops would be empty")
        for narrow in (False, True):
            code = self._code(narrow)
            layout = code.layout(sizes, data)
            if layout is None:
                continue
            if narrow not in self._loaded:
                machine_code = native.assemble_cached(code.assembly, fast=self.fast)[1]
                self._loaded[narrow] = LoadedCode(machine_code, code.functions)
            return NativeFunction(self._loaded[narrow], layout, release=release)
        raise OpenCodeError("an extent is 0")
