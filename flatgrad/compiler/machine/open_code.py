"""Machine code for every extent: written once, and bound to extents by its schedule.

The places, extents and strides of an open program stand in the schedule of its code, which is a table. So the code is
the same for all extents, and the words of the table are polynomials in them: they are found from the tables at a few
extents, as array programs are generalised. Code that computes several lanes at once needs extents of at least so many;
smaller ones have code of their own, in which no tile reaches along an open extent.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from ...runtime.forks import in_child
from ..loops.extents import AnyTable, OpenTable, Polynomial, Samples, monomials, samples_of
from ..loops.formulas import Constant, Formula, numbers_of
from ..loops.generalize import OpenArrayProgram, hold_at
from . import native
from .llvm import Module
from .memory import OpenCodeError
from .native import Layout, LoadedCode, NativeFunction, host
from .operations import Machine

#: The extents at which tiles are chosen: many lanes, as where speed matters.
_NOMINAL = 192
#: The extents at which code is written, to find out what depends on them; other ones if two places coincide.
_WRITTEN = (37, 41, 44, 59), (67, 71, 78, 101)


class OpenLayout(NamedTuple):
    """The layout of machine code for every extent that is not too small for it.

    Attributes:
        coefficients: of the words of a layout as polynomials, one behind the other: sizes, extents that must not be
            too small, places of outputs and of extra constants, and the schedule.
        least: how large these extents must be at least.
        outputs: how many output groups there are.
        tables: the gather tables.
        constants, truths: as in the array program.
        extra: the formulas of extra constants.
        functions: the names of functions of libm and libmvec that the code calls.
    """

    coefficients: Any
    least: list[int]
    outputs: int
    tables: list[AnyTable]
    constants: list[Constant]
    truths: list[bool]
    extra: list[Formula]
    functions: list[str]

    def at(self, sizes: Sequence[int], data: Sequence[Any] = ()) -> Layout | None:
        """The layout for some extents; None if one of them is too small. `data` is as for `OpenArrayProgram.bind`."""
        features = np.array(monomials(sizes)[: len(self.coefficients)], dtype=np.int64)
        words = features @ self.coefficients
        head = 3 + len(self.least) + 2 * self.outputs + len(self.extra)
        numbers = iter(words[:head].tolist())
        inputs, memory, truths = next(numbers), next(numbers), next(numbers)
        if any(next(numbers) < least for least in self.least):
            return None
        outputs = [(next(numbers), next(numbers)) for _ in range(self.outputs)]
        extra = [(next(numbers), formula.at(sizes)[0]) for formula in self.extra]
        tables = np.concatenate([words[head:], *(table.at(sizes) for table in self.tables)])
        constants = list(itertools.chain.from_iterable(numbers_of(self.constants, sizes, data)))
        arrays = np.array(constants, dtype=float), np.array(self.truths, dtype=bool), tables
        return Layout(inputs, memory, truths, *arrays, outputs, self.functions, extra)


def _machine() -> Machine:
    return Machine(host().lanes, host().shortcuts, host().vector_math, host().variants)


def chosen_tiles(
    program: OpenArrayProgram, fast: bool, narrow: bool, tiles: dict[str, Any] | None = None
) -> dict[str, Any]:
    """How many lanes code computes at once, by what it is chosen for, and more that is the same for all extents.

    Arguments are those of `write_open`, and what has been chosen already.
    """
    tiles = {} if tiles is None else tiles
    extents = [_NOMINAL] * len(program.extents)
    pieces = program.lengths_of_pieces(extents)
    Module(program.bind(*extents, marked=True), _machine(), fast, narrow, tiles, pieces).emitted()
    return tiles


def write_open(program: OpenArrayProgram, fast: bool, narrow: bool) -> tuple[str, OpenLayout]:
    """The assembly of a program with open extents, and its layout.

    Args:
        program: the array program.
        fast: as for `emit_llvm`.
        narrow: whether it is for the smallest extents, too.

    Raises:
        OpenCodeError: if the code depends on the extents.
    """
    machine, reasons = _machine(), []
    # Statements write to results if they may, blocks of rows if that is possible; where that depends on the extents,
    # all rows are written at once, or results are copied.
    choices: list[dict[str, Any]] = [{}, {"whole": True}, {"direct": set()}]
    blocks = True
    for tiles in choices:
        if "whole" in tiles and not blocks:
            continue
        chosen_tiles(program, fast, narrow, tiles)
        for extents in _WRITTEN:
            samples = Samples(samples_of(extents, len(program.extents)))
            modules = [
                Module(
                    program.bind(*sizes, marked=True), machine, fast, narrow, dict(tiles),
                    program.lengths_of_pieces(sizes),
                )
                for sizes in samples.sizes
            ]  # fmt: skip
            try:
                return _merged(program, modules, samples)
            except OpenCodeError as error:
                reasons.append(error)
        if not tiles.get("direct"):
            break
        blocks = "blocks" in tiles
    raise reasons[-1]


def _merged(program: OpenArrayProgram, modules: Sequence[Module], samples: Samples) -> tuple[str, OpenLayout]:
    """The assembly that is the same at all samples, and the layout that is these there."""
    codes = [module.emitted() for module in modules]
    first, layouts = codes[0], [code.layout for code in codes]
    if len({code.assembly for code in codes}) > 1:
        raise OpenCodeError("its loops depend on the extents")
    rows = [_words(module, layout) for module, layout in zip(modules, layouts, strict=True)]
    if len(set(map(len, rows))) > 1:
        raise OpenCodeError("its schedule depends on the extents")
    coefficients = samples.columns(np.stack(rows))
    if coefficients is None:
        raise OpenCodeError("places in its memory depend on the extents in a way that is not simple")
    tables: list[AnyTable] = []
    for each, shapes in zip(
        zip(*(m.tables for m in modules), strict=True), zip(*(m.table_shapes for m in modules), strict=True),
        strict=True,
    ):  # fmt: skip
        table = OpenTable.through(each, shapes, samples) if shapes[0] else OpenTable.of_lengths(each, samples)
        if table is None:
            raise OpenCodeError("a gather depends on the extents in a way that is not simple")
        tables.append(table)
    # Which constants stand at the extra places, by position among those that depend on the extents.
    extra = _formulas_of(program, [[number for _, number in layout.extra] for layout in layouts], samples)
    least = [least for _, least in modules[0].least]
    return first.assembly, OpenLayout(
        coefficients, least, len(first.layout.outputs), tables, program.constants, program.truths, extra,
        first.layout.functions,
    )  # fmt: skip


def _words(module: Module, layout: Layout) -> Any:
    """The integers of a layout, one behind the other."""
    least = [extent for extent, _ in module.least]
    outputs = [number for pair in layout.outputs for number in pair]
    extra = [place for place, _ in layout.extra]
    schedule = layout.tables[: layout.tables[0]].tolist()
    sizes = layout.inputs, layout.numbers, layout.truths
    return np.array([*sizes, *least, *outputs, *extra, *schedule], dtype=np.int64)


def _formulas_of(program: OpenArrayProgram, rows: Sequence[Sequence[float]], samples: Samples) -> list[Formula]:
    """The formulas that these numbers come from."""
    formulas = [
        constant
        for statement in program.statements if hasattr(statement, "program")
        for constant in statement.program.constants if isinstance(constant, Formula)
    ]  # fmt: skip
    result = []
    for numbers in zip(*rows, strict=True):
        pairs = list(zip(numbers, samples.sizes, strict=True))
        result.append(next(f for f in formulas if all(f.at(sizes)[0] == number for number, sizes in pairs)))
    return result


class OpenCode:
    """Machine code for every extent, which is assembled, or taken from the cache, and loaded when it is needed first.

    Args:
        layout: what it works in.
        assembly: what it is made of; None if the object file is there, or if it has to be written again.
        key: under which the object file is in the cache; empty if it is not there.
        code: the object file.

    Attributes:
        layout, assembly, key: as above.
    """

    def __init__(self, layout: OpenLayout, assembly: str | None, key: str = "", code: bytes | None = None) -> None:
        self.layout = layout
        self.assembly = assembly
        self.key: str = key
        self._code = code
        self._loaded: LoadedCode | None = None

    @property
    def is_there(self) -> bool:
        """Whether it can be loaded."""
        return bool(self._loaded or self._code or self.assembly is not None)

    def loaded(self, fast: bool) -> LoadedCode:
        """The code in this process."""
        if self._loaded is None:
            if self._code is None:
                assert self.assembly is not None
                self.key, self._code = native.assemble_cached(self.assembly, fast=fast)
            self._loaded = LoadedCode(self._code, self.layout.functions)
            self.assembly = self._code = None
        return self._loaded


#: Held while code is written and bound: functions that are equal share it. (Reentrant, for signal handlers.)
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


in_child(_renew_lock)


class OpenFunction:
    """A function in machine code for every extent; it is compiled when it is needed first.

    Args:
        program: gives the array program, where code has to be written.
        positive: the extents of its loops, none of which may be empty.
        fast: let additions be reassociated and products be fused into them.
        codes: what is there already: code for the smallest extents, too (True), and for larger ones (False).

    Example:
        >>> from flatgrad.compiler.loops.generalize import generalize
        >>> from flatgrad.compiler.loops.reroll import reroll
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.program.program import Group
        >>> def squares(n):
        ...     f = ProgramBuilder("squares", [Group("x", n, False)])
        ...     return reroll(f.finish([f.emit("mul", k, k) for k in range(n)], [Group("y", n, False)]))
        >>> function = OpenFunction.of(generalize([squares(5), squares(6), squares(7)], [(5,), (6,), (7,)]), fast=False)
        >>> memory, run = function.bind(1000).workspace()
        >>> memory[:1000] = range(1000)
        >>> run(), memory[function.bind(1000).layout.outputs[0][0] + 999].item()
        (0, 998001.0)
    """

    def __init__(
        self, program: Callable[[], OpenArrayProgram], positive: Sequence[Polynomial], fast: bool,
        codes: dict[bool, OpenCode],
    ) -> None:  # fmt: skip
        self._program = program
        self.positive = positive
        self.fast = fast
        self.codes = codes

    @classmethod
    def of(cls, program: OpenArrayProgram, fast: bool) -> Self:
        """The function that an array program is."""
        return cls(lambda: program, program.positive, fast, {})

    def prepare(self) -> None:
        """Write the code for extents that are not small, and find out whether that depends on them.

        Raises:
            OpenCodeError: if it does.
        """
        self._code(False)

    def _code(self, narrow: bool) -> OpenCode:
        return self.codes.get(narrow) or self._written(narrow)

    def _written(self, narrow: bool) -> OpenCode:
        assembly, layout = write_open(self._program(), self.fast, narrow)
        code = self.codes[narrow] = OpenCode(layout, assembly)
        return code

    def bind(self, *sizes: int, release: bool = False, data: Sequence[Any] = ()) -> NativeFunction:
        """The function for some extents; `data` is as for `OpenArrayProgram.bind`.

        Raises:
            OpenCodeError: if the code depends on the extents.
        """
        if not hold_at(self.positive, sizes):
            raise OpenCodeError("one of its loops would be empty")
        with _lock:
            for narrow in (False, True):
                code = self._code(narrow)
                layout = code.layout.at(sizes, data)
                if layout is not None:
                    code = code if code.is_there else self._written(narrow)
                    return NativeFunction(code.loaded(self.fast), layout, release=release)
        raise OpenCodeError("an extent is 0")
