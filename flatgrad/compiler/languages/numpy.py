"""NumPy: array programs as array statements on memory that is allocated once, and again for calls at the same time.

A loop over rounds is a loop in Python. Its statements are array statements where rounds are vectors; where they are
single numbers, for which NumPy takes ten times as long as Python does, they work on lists of floats.

A function's `workspace()` allocates the memory and all views; what it returns runs in them and copies nothing but
inputs and outputs. Folds add row by row: terms are rows, lanes run along them, so that vector instructions work across
lanes and each lane keeps its order. NumPy's own sums along a contiguous axis are pairwise, and are not used where order
matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from string import Formatter
from typing import Any, NamedTuple

import numpy as np

from ...runtime import primitives as p
from ...runtime.primitives import Primitive
from ..loops.array_printer import print_statement, repeat_head
from ..loops.bodies import LANES
from ..loops.buffers import Arena, plan_buffers
from ..loops.excerpt import excerpt
from ..loops.extents import Ragged, Size, fixed
from ..loops.grammar import (
    Addresses,
    Block,
    Fold,
    Loop,
    Node,
    Read,
    Repeat,
    Segment,
    Statement,
    addresses,
    flattened,
    kinds_of,
    missing,
    values_of,
)
from ..loops.reroll.chains import FOLDED
from ..loops.views import Source, Sources, row_major
from ..program.program import grouped
from ..program.spelling import GLUE, Text, filled, indented, python_number, safe_comment, text_of, wrapped
from .calling import argument_names, bring_in, idle_workspaces, with_workspace
from .contraction import Product, contraction_of
from .costs import is_scalar
from .opened import ArrayFunction
from .preamble import Preamble, docstring, returned, signature
from .python import emit_function
from .rolled import rolled_sections
from .spellings import NUMPY, NUMPY_FAST, NUMPY_FAULTS, UFUNCS

#: Up to so many terms are folded one by one; more are collected as rows and reduced.
_CHAIN = 3
#: Up to so many numbers are read from memory one by one.
_ITEMS = 8
#: A list of outputs is put together from at most so many pieces of memory; else it is gathered.
_PIECES = 4
_REDUCED = {row: UFUNCS[row] for row in (p.add, p.mul, p.logical_and, p.logical_or)}
_MEMORY = {"f": "memory", "b": "truths"}
_EXTREMES = {p.maximum: "argmax", p.minimum: "argmin"}
Extents = tuple[int, ...]
_VIEW = '''\
def view(memory, base, shape, strides):
    """The elements of `memory` at base + strides . index."""
    size = memory.itemsize
    steps = [size * stride for stride in strides]
    return np.ndarray(shape, memory.dtype, memory, size * base, steps)
'''


class Place(NamedTuple):
    """Where something begins in memory, and how much further on it begins in each round of the loops around it."""

    base: int
    steps: tuple[int, ...] = ()


class Emitted(NamedTuple):
    """Sections of source, the arrays that they refer to by name, and the bytes of memory that each function needs."""

    sections: list[str]
    data: dict[str, Any]
    workspaces: list[int]


def emit_arrays(functions: Sequence[ArrayFunction], header: Sequence[str], *, fast: bool = False) -> Emitted:
    """The source of a module with array functions.

    Each takes one argument per input group (a number, or anything with so many numbers) and returns one result per
    output group (a float, or a new array). Constants and gather tables are data: the module refers to them by name.
    """
    data: dict[str, Any] = {}
    sections: list[str] = []
    workspaces = []
    preamble = Preamble()
    rounds: list[ArrayFunction] = []
    for function in functions:
        writer = _Writer(function, f"{function.name.upper()}_" if len(functions) > 1 else "", fast, preamble)
        sections += writer.sections()
        rounds += writer.rounds
        data.update(writer.data)
        workspaces.append(8 * writer.arenas["f"].peak + writer.arenas["b"].peak)
    idle = idle_workspaces([function.name for function in functions])
    sections += rolled_sections(rounds, [f"{each.name.upper()}_" for each in rounds], preamble)
    head = f"{preamble.head(header)}\nimport numpy as np\n\n{idle}"
    sections = [head, *(f"\n\n{section}" for section in (_VIEW, *preamble.functions(), *sections))]
    return Emitted(sections, data, workspaces)


class _Writer:
    """Writes the workspace of one function, and the function."""

    def __init__(self, function: ArrayFunction, prefix: str, fast: bool, preamble: Preamble) -> None:
        self.function, self.program, self.fast = function, function.program, fast
        self.prefix, self.preamble = prefix, preamble
        self.plan = plan_buffers(self.program)
        self.arenas = {"f": Arena(self.plan.numbers), "b": Arena(self.plan.truths)}
        self.data: dict[str, Any] = {}
        self.setup: list[str] = []
        self.lines: list[str] = []
        self.blocks: list[str] = []
        self.views: dict[tuple[Any, ...], str] = {}
        self.tables: dict[tuple[tuple[int, ...], bytes], int] = {}
        self.scratch: list[tuple[str, int, int]] = []
        self.rounds: list[ArrayFunction] = []
        self.counts: Extents = ()  # of the rounds that are being written, loop by loop
        self.reads_truths = False
        self.mask = self.program.truth_mask()
        self.numbered = 0

    # --- the function ---------------------------------------------------------------------------------------------

    def sections(self) -> list[str]:
        program, name = self.program, self.function.name
        arguments = argument_names(program.input_groups)
        lines, views = bring_in(program, arguments)
        self.lines += lines
        self.setup += views
        sources = Sources(program)
        for statement in program.statements:
            if isinstance(statement, Block):
                self._block(statement)
                continue
            if isinstance(statement, Repeat):
                self._repeat(statement, sources)
                continue
            self.lines += [safe_comment(f"# {line}", 12) for line in print_statement(statement, sources)]
            # One gather takes less time than a statement per row, if there are fewer than a thousand numbers in a row.
            self._statement(flattened(statement), statement.name)
        results = self._outputs()
        if self.reads_truths:
            self.lines.insert(len(lines), f"np.not_equal(memory[0:{program.inputs}], 0.0, input_truths)")
            self.setup.insert(0, f"input_truths = truths[0:{program.inputs}]")
        numbers, truths = self.arenas["f"].peak, self.arenas["b"].peak
        head = [f"memory = np.empty({numbers})"]
        if truths > program.first_result or program.truths or self.reads_truths:
            head.append(f"truths = np.empty({truths}, dtype=bool)")
        if program.truths:
            head.append(f"truths[{program.first_truth}:{program.first_result}] = {program.truths!r}")
        if program.constants:
            self.data[f"{self.prefix}CONSTANTS"] = np.array(program.constants, dtype=np.float64)
            head.append(f"memory[{program.inputs}:{program.first_truth}] = {self.prefix}CONSTANTS")
        workspace = [
            f"def {name}_workspace():",
            f'    """Allocate the memory that `{name}` works in; return the function."""',
            *indented([*head, *self.setup, "", *signature("run", arguments)], 1),
            '        with np.errstate(all="ignore"):',
            *indented(self.lines or ["pass"], 3),
            *indented(results, 2),
            "",
            "    return run",
        ]
        entry = with_workspace(name, arguments, docstring(program, self.function.doc))
        return [*self.blocks, text_of(workspace), entry]

    def _outputs(self) -> list[str]:
        """The statements that return the results."""
        program, plan = self.program, self.plan
        lines: list[str] = []
        results: list[str | list[str]] = []
        outputs = grouped(program.output_groups, program.outputs)
        kinds = grouped(program.output_groups, self.mask[program.outputs])
        for k, ((group, places), (_, truths)) in enumerate(zip(outputs, kinds, strict=True)):
            if truths.any():
                numbers = self._table(plan.places(np.where(truths, 0, places), "f"))
                positions, sources = self._table(np.flatnonzero(truths)), self._table(plan.places(places[truths], "b"))
                lines += [f"r{k} = memory.take({numbers})", f"r{k}[{positions}] = truths.take({sources})"]
                results.append(f"float(r{k}[0])" if group.scalar else f"r{k}")
            elif group.scalar:
                results.append(f"memory.item({plan.place(int(places[0]), 'f')})")
            else:
                results.append(self._taken(plan.places(places, "f")))
        return [*lines, *returned(results, 8)]

    def _taken(self, places: Addresses) -> str:
        """A new array with the numbers at some places of memory."""
        if not len(places):
            return "np.empty(0)"
        cuts = np.flatnonzero(np.diff(places) != 1) + 1
        if len(cuts) == 0:
            return f"memory[{places[0]}:{places[-1] + 1}].copy()"
        if len(cuts) < _PIECES:
            pieces = [f"memory[{part[0]}:{part[-1] + 1}]" for part in np.split(places, cuts)]
            return f"np.concatenate([{', '.join(pieces)}])"
        return f"memory.take({self._table(places)})"

    def _table(self, places: Addresses) -> str:
        """The name of a gather table; of several rows, one for each round."""
        table = places.astype(np.int64)
        number = self.tables.setdefault((table.shape, table.tobytes()), len(self.tables))
        tables = self.data.setdefault(f"{self.prefix}TABLES", [])
        if number == len(tables):
            tables.append(table)
            self.setup.append(f"table{number} = np.array({self.prefix}TABLES[{number}])")
        return f"table{number}"

    # --- views and scratch ----------------------------------------------------------------------------------------

    def _view(
        self, kind: str, place: Place, shape: Sequence[int], strides: Sequence[int] | None = None, name: str = ""
    ) -> str:
        """A view of memory, dense or with strides; dimensions along which nothing moves are stretched."""
        strides = row_major(shape) if strides is None else strides
        if any(place.steps):
            view = self._named(kind, place.base, (*self.counts, *shape), (*place.steps, *strides), name)
            return f"{view}[{self._indices()}]"
        return self._named(kind, place.base, shape, strides, name)

    def _indices(self) -> str:
        """The indices of the rounds that are being written."""
        return ", ".join(LANES[: len(self.counts)])

    def _named(self, kind: str, base: int, shape: Sequence[int], strides: Sequence[int], name: str) -> str:
        """The name of a view."""
        dense, strides = row_major(shape), list(strides)
        key = kind, base, tuple(shape), tuple(s if n > 1 else 0 for s, n in zip(strides, shape, strict=True))
        if key in self.views and not name:
            return self.views[key]
        if not name:
            self.numbered += 1
            name = f"a{self.numbered}"
        self.views[key] = name
        if strides == dense:
            reshaped = "" if len(shape) == 1 else f".reshape({tuple(shape)!r})"
            self.setup.append(f"{name} = {_MEMORY[kind]}[{base}:{base + math.prod(shape)}]{reshaped}")
        else:
            self.setup.append(f"{name} = view({_MEMORY[kind]}, {base}, {tuple(shape)!r}, {tuple(strides)!r})")
        return name

    def _fresh(self, kind: str, shape: Sequence[int]) -> tuple[str, Place]:
        """A view of scratch memory, and its place; it is free again after the statement."""
        size = math.prod(shape)
        base = self.arenas[kind].take(size)
        self.scratch.append((kind, base, size))
        return self._view(kind, Place(base), shape), Place(base)

    def _places(self, addresses: Addresses, kind: str) -> Addresses:
        """Where addresses are; truth values that came in as numbers are brought there if any of them is read."""
        self.reads_truths |= kind == "b" and bool((addresses < self.program.inputs).any())
        return self.plan.places(addresses, kind)

    # --- statements -----------------------------------------------------------------------------------------------

    def _statement(self, statement: Statement, name: str = "") -> None:
        shape = tuple(map(fixed, statement.shape[len(self.counts) :]))
        base = self.plan.place(fixed(statement.base), statement.kind)
        place = Place(base, tuple(map(fixed, statement.target.strides[: len(self.counts)])))
        self._view(statement.kind, place, shape, name=name)
        self._nodes(statement.body, shape, shape, place, statement.kind)
        for kind, base, size in self.scratch:
            self.arenas[kind].give(base, size)
        self.scratch.clear()

    def _nodes(self, body: Sequence[Node], lanes: Extents, domain: Extents, place: Place, kind: str) -> None:
        """Compute a body over a domain (terms first, then lanes); the last node goes to `place`."""
        kinds = kinds_of(body, kind)

        def compute(k: int, node: Node, operands: list[Text]) -> Text:
            last = k == len(body) - 1
            if isinstance(node, Read):
                value = self._read(node, lanes, domain, kinds[k], place if last and node.table is not None else None)
                if last and node.table is None:
                    self.lines.append(f"np.copyto({self._view(kind, place, domain)}, {value.text})")
                return value
            target = place if last else self._fresh(kinds[k], domain)[1]
            if isinstance(node, Fold):
                self._fold(node, lanes, target)
            else:
                self._apply(node.primitive, operands, domain, target)
            return Text(self._view(kinds[k], target, domain))

        values_of(body, compute)

    def _read(self, read: Read, lanes: Extents, domain: Extents, kind: str, target: Place | None) -> Text:
        """An access as a literal or a view; a gather goes to `target`, or to scratch memory."""
        terms = domain[: len(domain) - len(lanes)]
        if read.bends:
            read = Read(0, (), addresses(read, (*self.counts, *lanes, *terms)))
        if read.table is None:
            number = self._constant(read) if kind == "f" else None
            if number is not None and math.isfinite(number):
                return python_number(number)
            self._places(np.array([fixed(read.base)]), kind)
            place, strides = self._moving(read, kind)
            return Text(self._view(kind, place, domain, [*strides[len(lanes) :], *strides[: len(lanes)]]))
        table = read.table.reshape((math.prod(self.counts), *lanes, *terms))
        table = np.moveaxis(table, range(1, 1 + len(lanes)), range(1 + len(terms), 1 + len(domain)))
        rows = self._places(table.reshape(len(table), -1), kind)
        alike = bool((rows == rows[0]).all())
        places = self._table(rows[0] if alike else rows.reshape(*self.counts, -1))
        places += "" if alike else f"[{self._indices()}]"
        flat = (math.prod(domain),)
        place = target if target is not None else self._fresh(kind, flat)[1]
        self.lines.append(f"{_MEMORY[kind]}.take({places}, None, {self._view(kind, place, flat)}, 'clip')")
        return Text(self._view(kind, place, domain))

    def _moving(self, read: Read, kind: str) -> tuple[Place, list[int]]:
        """Where a strided access begins, and its strides."""
        base, strides = self.plan.place(fixed(read.base), kind), [fixed(stride) for stride in read.strides]
        depth = len(self.counts)
        return Place(base, tuple(strides[:depth])), strides[depth:]

    def _constant(self, node: Node) -> float | None:
        """The number that all lanes read, if a node is such an access."""
        if not isinstance(node, Read) or node.table is not None or any(node.strides) or node.bends:
            return None
        base, program = fixed(node.base), self.program
        return program.constants[base - program.inputs] if program.inputs <= base < program.first_truth else None

    def _apply(self, primitive: Primitive, operands: list[Text], domain: Extents, place: Place) -> None:
        """Apply a primitive to arrays or literals, into memory at `place`."""
        templates = (NUMPY_FAST if self.fast else NUMPY).get(primitive)
        if templates is None:
            self._by_lanes(primitive, operands, self._view(primitive.result, place, (math.prod(domain),)))
            return
        out = self._view(primitive.result, place, domain)
        texts = [operand.text for operand in operands]
        if primitive is p.where and operands[1].constant == 1.0 and _is_zero(operands[2].constant):
            self.lines.append(f"np.copyto({out}, {texts[0]})")  # a truth value as a number
            return
        names = _Scratch(lambda kind: self._fresh(kind, domain)[0], out=out)
        fault = NUMPY_FAULTS.get(primitive)
        if fault and (operands[-1].constant in (None, 0.0) or primitive is p.position):
            self._fault(primitive, f"np.{fault.format(*texts)}")
        for template in templates:
            self.lines.append("np." + Formatter().vformat(template, texts, names))
        if self.fast and primitive.raises and not fault:
            self._fault(primitive, f"not np.isfinite({out}).all()")

    def _fault(self, primitive: Primitive, condition: str) -> None:
        """A statement that raises where Python would; the caller then computes again, exactly, and reports."""
        self.lines.append(f"if {condition}:")
        self.lines.append(f"    raise ArithmeticError({f'{primitive.name}: outside of its domain, or out of range'!r})")

    def _by_lanes(self, primitive: Primitive, operands: list[Text], target: str) -> None:
        """Python's own function for each lane, because NumPy's differs in the last bit."""
        how = self.preamble.spelling(primitive, [operand.constant for operand in operands])
        moving = {local: operand for local, operand in zip("xyz", operands, strict=False) if operand.constant is None}
        text = how.text([o if o.constant is not None else Text(x) for x, o in zip("xyz", operands, strict=False)])
        if not moving:
            self.lines.append(f"{target}[:] = {text}")
            return
        lists = [f"{operand.text}.ravel().tolist()" for operand in moving.values()]
        source = lists[0] if len(lists) == 1 else f"zip({', '.join(lists)})"
        self.lines.append(f"{target}[:] = [{text} for {', '.join(moving)} in {source}]")

    # --- folds ----------------------------------------------------------------------------------------------------

    def _fold(self, fold: Fold, lanes: Extents, place: Place) -> None:
        """Fold terms from left to right into memory at `place`."""
        primitive, segments = fold.primitive, list(fold.segments)
        kind = primitive.result
        if self.fast and primitive is p.add:
            self._fast_sum(segments, lanes, place)
            return
        sizes = [segment.terms for segment in segments]
        # Single terms at the end are added to the reduced rows, which saves copying them.
        tail = len(segments)
        if primitive in _REDUCED:
            while tail > 1 and sizes[tail - 1] == 1 and sum(sizes[: tail - 1]) > 1:
                tail -= 1
        out = self._view(kind, place, lanes)
        if primitive in _REDUCED and len(segments[:tail]) == sum(sizes[:tail]) <= _CHAIN:
            first, *others = [self._row(segment, lanes, kind) for segment in segments[:tail]]
            if not others:
                self.lines.append(f"np.copyto({out}, {first})")
            for k, row in enumerate(others):
                self.lines.append(f"np.{_REDUCED[primitive]}({out if k else first}, {row}, {out})")
        else:
            self._reduce(primitive, segments[:tail], lanes, place)
        for segment in segments[tail:]:
            self.lines.append(f"np.{_REDUCED[primitive]}({out}, {self._row(segment, lanes, kind)}, {out})")

    def _fast_sum(self, segments: Sequence[Segment], lanes: Extents, place: Place) -> None:
        """In fast mode the order is free: matrix products, then reductions, then single terms; zeros are left out."""
        count = math.prod(lanes)
        out = self._view("f", place, lanes)
        empty = True
        for segment in sorted(segments, key=lambda s: (self._product(s, lanes) is None, not s.extents)):
            if not segment.extents and len(segment.body) == 1 and self._constant(segment.body[0]) == 0.0:
                continue
            product = self._product(segment, lanes)
            if product is None and not segment.extents:
                term = self._row(segment, lanes, "f")
                if empty:
                    self.lines.append(f"np.copyto({out}, {term})")
            else:
                target = place if empty else self._fresh("f", (count,))[1]
                if product is not None:
                    self._matmul(*product, target)
                else:
                    self._reduce(p.add, [segment], lanes, target)
                term = self._view("f", target, lanes)
            if not empty:
                self.lines.append(f"np.add({out}, {term}, {out})")
            empty = False
        if empty:
            self.lines.append(f"np.copyto({out}, 0.0)")

    def _product(self, segment: Segment, lanes: Extents) -> tuple[Product, list[tuple[int, ...]]] | None:
        """The matrix product that a segment is, and how much further on its operands begin in each round."""
        reads, depth = [node for node in segment.body if isinstance(node, Read)], len(self.counts)
        if depth:
            if any(read.table is not None or read.bends for read in reads):
                return None
            within = (n._replace(strides=n.strides[depth:]) if isinstance(n, Read) else n for n in segment.body)
            segment = segment._replace(body=tuple(within))
        product = contraction_of(segment, lanes)
        return None if product is None else (product, [tuple(map(fixed, read.strides[:depth])) for read in reads])

    def _row(self, segment: Segment, lanes: Extents, kind: str) -> str:
        """Compute a single term, whose indices are all 0; return how it is called."""
        rank = len(lanes) + len(self.counts)
        body = [
            n._replace(strides=n.strides[:rank], bends=n.bends[:rank]) if isinstance(n, Read) else n
            for n in segment.body
        ]
        if len(body) == 1 and isinstance(body[0], Read):
            return self._read(body[0], lanes, lanes, kind, None).text
        row, place = self._fresh(kind, lanes)
        self._nodes(body, lanes, lanes, place, kind)
        return row

    def _reduce(self, primitive: Primitive, segments: Sequence[Segment], lanes: Extents, place: Place) -> None:
        """Collect terms as rows, one per term, and reduce them row by row."""
        kind, count, rows = primitive.result, math.prod(lanes), sum(segment.terms for segment in segments)
        table = self._rows_in_place(segments, lanes, kind)
        if table is None:
            table, start = self._fresh(kind, (rows, count))
            for segment in segments:
                self._terms(primitive, segment, lanes, start)
                start = Place(start.base + segment.terms * count)
        out = self._view(kind, place, (count,))
        if primitive in _EXTREMES and not self.fast:
            chosen, order = self._index(count)
            self.lines.append(f"np.{_EXTREMES[primitive]}({table}, 0, {chosen})")
            self.lines.append(f"np.copyto({out}, {table}[{chosen}, {order}])")
            return
        name = _REDUCED.get(primitive) or primitive.name
        if count == 1 and primitive in (p.add, p.mul) and not self.fast:
            # Along a single lane NumPy would add pairwise; accumulation is in order.
            running, _ = self._fresh(kind, (rows, 1))
            self.lines.append(f"np.{name}.accumulate({table}, 0, None, {running})")
            self.lines.append(f"np.copyto({out}, {running}[-1])")
            return
        # Without `initial=None` a sum begins at 0.0, and one of -0.0 alone would not be -0.0.
        begin = ", initial=None" if primitive is p.add and not self.fast else ""
        self.lines.append(f"np.{name}.reduce({table}, 0, None, {out}{begin})")

    def _terms(self, primitive: Primitive, segment: Segment, lanes: Extents, start: Place) -> None:
        """Compute the terms of a segment as rows; where a ragged one has none, there is what changes nothing."""
        extents = tuple(map(fixed, segment.extents))
        if not any(isinstance(extent, Ragged) for extent in extents):
            self._nodes(segment.body, lanes, (*extents, *lanes), start, primitive.result)
            return
        domain = (*lanes, *extents)
        ragged = [k for k, extent in enumerate(domain) if isinstance(extent, Ragged)]
        body = [
            Read(0, (), addresses(n, domain))
            if isinstance(n, Read) and n.table is None and any(n.strides[k] or n.bends for k in ragged)
            else n
            for n in segment.body
        ]
        self._nodes(body, lanes, (*map(int, extents), *lanes), start, primitive.result)
        lacking = missing(domain)
        places = np.flatnonzero(lacking.reshape(-1, segment.terms).T)
        rows = self._view(primitive.result, start, (lacking.size,))
        self.lines.append(f"{rows}[{self._table(places)}] = {_number(FOLDED[primitive])}")

    def _index(self, count: int) -> tuple[str, str]:
        """Names of an array for positions, and of the numbers of the lanes."""
        name = f"chosen{count}"
        if name not in self.views.values():
            self.views["index", count] = name
            self.setup += [f"{name} = np.empty({count}, dtype=np.intp)", f"lanes{count} = np.arange({count})"]
        return name, f"lanes{count}"

    def _rows_in_place(self, segments: Sequence[Segment], lanes: Extents, kind: str) -> str | None:
        """Terms that lie in memory row by row already, as one view; else None."""
        read = segments[0].body[0]
        if any(isinstance(extent, Ragged) for extent in segments[0].extents):
            return None
        if len(segments) != 1 or len(segments[0].body) != 1 or not isinstance(read, Read) or read.table is not None:
            return None
        if kind == "b" and fixed(read.base) < self.program.inputs:
            return None
        place, strides = self._moving(read, kind)
        turned = [*strides[len(lanes) :], *strides[: len(lanes)]]
        shape = (segments[0].terms, math.prod(lanes))
        if turned == row_major((*map(fixed, segments[0].extents), *lanes)):
            return self._view(kind, place, shape)
        if self.fast and len(segments[0].extents) == 1 and len(lanes) <= 1:
            return self._view(kind, place, shape, [turned[0], *(turned[1:] or [0])])
        return None

    def _matmul(self, product: Product, steps: Sequence[tuple[int, ...]], place: Place) -> None:
        left, right = (
            self._view("f", Place(self.plan.place(o.base, "f"), each), o.shape, o.strides)
            for o, each in zip((product.left, product.right), steps, strict=True)
        )
        strides = (1, product.rows) if product.swapped else (product.columns, 1)
        out = self._view("f", place, (product.rows, product.columns), strides)
        self.lines.append(f"np.matmul({left}, {right}, {out})")

    # --- rounds ---------------------------------------------------------------------------------------------------

    def _repeat(self, repeat: Repeat, sources: Sources) -> None:
        """A loop over rounds: rounds of vectors as array statements, those of single numbers in plain Python."""
        if is_scalar(repeat):
            self.lines += [safe_comment(f"# {line}", 12) for line in repeat_head(repeat, sources)]
            self._scalar_rounds(repeat, sources)
        else:
            self._rounds(repeat, repeat.loop, sources)

    def _rounds(self, repeat: Repeat, loop: Loop, sources: Sources) -> None:
        """A loop of array statements, behind what its first rounds read."""
        outer, indent = self.counts, 12 + 4 * loop.depth
        self.lines += [safe_comment(f"# {line}", indent) for line in repeat_head(repeat, sources, loop)]
        for start in repeat.starts_of(loop):
            self._round(start)
        before, self.lines, self.counts = self.lines, [], (*outer, repeat.rounds_of(loop))
        for item in repeat.within(loop):
            if isinstance(item, Loop):
                self._rounds(repeat, item, sources)
                continue
            text = print_statement(repeat.statements[item], sources, len(self.counts))
            self.lines += [safe_comment(f"# {line}", indent + 4) for line in text]
            self._round(repeat.statements[item], repeat.statements[item].name)
        self.lines = [*before, f"for {LANES[loop.depth]} in range({self.counts[-1]}):", *indented(self.lines, 1)]
        self.counts = outer

    def _round(self, statement: Statement, name: str = "") -> None:
        """A statement in a round; a number is an array of one, which can be written into."""
        depth = len(self.counts)
        if depth and len(statement.shape) == depth:
            with_a_lane = partial(_with_a_lane, depth=depth)
            statement = statement.with_reads(with_a_lane, shape=(*statement.shape, 1), steps=statement.target.strides)
        self._statement(statement, name)

    def _scalar_rounds(self, repeat: Repeat, sources: Sources) -> None:
        """A call of a function from lists to lists."""
        name = f"{self.function.name}_rounds{len(self.rounds) + 1}"
        part = excerpt(self.program, repeat, sources)
        self.rounds.append(ArrayFunction(part.program, name, ""))
        arguments = [self._list(source) for source in part.reads]
        places = [self.plan.place(source.base, kind) for source, kind in part.writes]
        targets = [
            f"{_MEMORY[kind]}[{place}:{place + source.size}]"
            for place, (source, kind) in zip(places, part.writes, strict=True)
        ]
        results = targets[0] if len(targets) == 1 else f"({', '.join(targets)})"
        self.lines += wrapped(f"{results}{GLUE}={GLUE}{name}({', '.join(arguments)})")

    def _list(self, source: Source) -> str:
        """What a source has in memory, as a number or a list of numbers and truth values."""
        truths = self.mask[source.base : source.base + source.size]
        kind = "b" if truths.all() else "f"
        place = self.plan.place(source.base, kind)
        if not source.shape:
            return f"{_MEMORY[kind]}.item({place})"
        if truths.any() and not truths.all():
            kinds = ["b" if truth else "f" for truth in truths.tolist()]
            items = [f"{_MEMORY[each]}.item({self.plan.place(source.base + k, each)})" for k, each in enumerate(kinds)]
            return f"[{', '.join(items)}]"
        return f"{_MEMORY[kind]}[{place}:{place + source.size}].tolist()"

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _block(self, block: Block) -> None:
        """Straight-line code: a flat function from a list to a list."""
        name = f"{self.function.name}_scalars{len(self.blocks) + 1}"
        program = block.program
        self.blocks.append("".join(emit_function(program, name, self.preamble)))
        kinds = list(map(program.kind_of, range(program.inputs)))
        if "b" in kinds or len(kinds) <= _ITEMS:
            places = [self._places(block.reads[k : k + 1], kind)[0] for k, kind in enumerate(kinds)]
            items = [f"{_MEMORY[kind]}.item({place})" for kind, place in zip(kinds, places, strict=True)]
            self.lines += [f"numbers = {name}([", *filled(items, "    "), "])"]
        else:
            self.lines.append(f"numbers = {name}(memory.take({self._table(self._places(block.reads, 'f'))}).tolist())")
        for kind in sorted({"f", *map(program.kind_of, program.outputs)}, reverse=True):
            place = self.plan.place(block.base, kind)
            self.lines.append(f"{_MEMORY[kind]}[{place}:{place + block.lanes}] = numbers")


def _with_a_lane(read: Read, extents: tuple[Size, ...], depth: int) -> Read:
    """An access of a round with another dimension of lanes, in which there is one."""
    if read.table is not None:
        return read
    bends = (*read.bends[:depth], 0, *read.bends[depth:]) if read.bends else ()
    return read._replace(strides=(*read.strides[:depth], 0, *read.strides[depth:]), bends=bends)


class _Scratch(dict[str, str]):
    """The arrays that a template can name; scratch arrays are made when they are named first."""

    def __init__(self, fresh: Callable[[str], str], **names: str) -> None:
        super().__init__(names)
        self.fresh = fresh

    def __missing__(self, name: str) -> str:
        return self.setdefault(name, self.fresh({"mask": "b", "temp": "f"}[name]))


def _number(number: float | bool) -> str:
    """A number that is written into statements.

    >>> _number(-0.0), _number(True), _number(float("-inf"))
    ('-0.0', 'True', '-np.inf')
    """
    return repr(number) if math.isfinite(number) else f"{'-' if number < 0 else ''}np.inf"


def _is_zero(number: float | bool | None) -> bool:
    """Whether a number is 0.0 (and not -0.0), if it is one."""
    return number == 0.0 and math.copysign(1.0, number) > 0.0
