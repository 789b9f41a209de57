"""The walk over what statements and blocks compute, as printers of all languages take it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...runtime.primitives import Primitive
from ...runtime.sites import Location
from ..program.program import Equation, Program
from ..program.spelling import Text, index, variable
from .extents import BoundNumber, Ragged, Size, fixed
from .grammar import Apply, Fold, Node, Read, values_of
from .views import Source, Sources

#: Index names: of lanes, of terms.
LANES, TERMS = "ijklmnopq", "rstuvwxyz"
_PARTS = {"value": "the value", "gradient": "the gradient, backwards", "update": "the update"}


class Scope(NamedTuple):
    """The loops around an expression: their extents, and the names of their indices."""

    extents: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    def inside(self, inner: Scope) -> Scope:
        """With further loops inside of these."""
        return Scope(self.extents + inner.extents, self.names + inner.names)


def scope_of(extents: Sequence[Size], names: Sequence[str]) -> Scope:
    """Loops of these extents; where there are not names enough, they are numbered.

    >>> scope_of((2, 3), "ij"), scope_of((2, 3), "r").names
    (Scope(extents=(2, 3), names=('i', 'j')), ('r0', 'r1'))
    """
    numbered = [f"{names[0]}{k}" for k in range(len(extents))]
    return Scope(tuple(map(fixed, extents)), tuple(names[: len(extents)] if len(extents) <= len(names) else numbered))


def extent_text(extent: int, scope: Scope) -> str:
    """How many times a loop inside of others runs."""
    if isinstance(extent, Ragged):
        return index(extent.first, [extent.step], [scope.names[extent.dimension]])
    return str(extent)


def short_names() -> Iterator[str]:
    """`a`, `b`, ..., `h`, `a8`, `a9`, ..."""
    return itertools.chain("abcdefgh", (f"a{k}" for k in itertools.count(8)))


class Notes:
    """What comments say of statements: the part of the program, and the user's line, where one of them changes.

    A line is shown in full the first time in each part.
    """

    def __init__(self) -> None:
        self.part: str = ""
        self.last: Location | None = None
        self.shown: set[Location] = set()

    def of(self, location: Location | None, part: str = "") -> list[str]:
        """The comments above a statement; without a part, it belongs to the same one as the statement before."""
        notes = []
        if part and part != self.part:
            if self.part:
                notes.append(f"--- {_PARTS[part]} ---")
                self.shown.clear()
            self.part = part
        if location is not None and location != self.last:
            text = "" if location in self.shown or not location.text else f": {location.text}"
            notes.append(f"{location}{text}")
            self.shown.add(location)
            self.last = location
        return notes


class BodyWriter:
    """Writes nodes and equations as expressions; what is used several times, or grows too long, gets a name.

    Languages say how accesses, operations, folds and constants are written, and how a name is given.

    Attributes:
        opened: where to note down what depends on open extents, if there are any (`languages.opened`).
        sources: what the program reads.
        cells: numbers that have names of their own, by address.
        constants: the sources of constants that are read; all that is read of others has become literals.
    """

    #: The kinds of sources of which a single number, too, is an element of an array.
    arrays: frozenset[str] = frozenset()
    #: Longer expressions get a name: in the bodies of statements, in straight-line code.
    longest_node: float = math.inf
    longest_equation: float = math.inf

    def __init__(self, sources: Sources, opened: Any = None) -> None:
        self.sources = sources
        self.opened = opened
        self.cells: dict[int, Text] = {}
        self.constants: set[Source] = set()

    def name(self, source: Source) -> str:
        """How a source is called, which is read or written."""
        if source.kind == "constants":
            self.constants.add(source)
        return source.name

    def cell(self, address: int) -> Text:
        """The number at an address."""
        if address in self.cells:
            return self.cells[address]
        source = self.sources.of(address)
        if source.kind == "number":
            return self.constant(self.sources.number(address))
        name = self.name(source)
        if source.shape or source.kind in self.arrays:
            return Text(f"{name}[{address - source.base}]")
        return variable(name)

    def constant_lists(self) -> list[tuple[str, list[str]]]:
        """The names of the constants that are read, and their numbers."""
        result = []
        for source in self.sources.constants:
            if source not in self.constants:
                continue
            numbers = self.sources.numbers(source)
            if self.opened is not None and any(isinstance(number, BoundNumber) for number in numbers):
                self.opened.rows[self.name(source)] = numbers
            else:
                result.append((self.name(source), [self.constant(number).text for number in numbers]))
        return result

    def read(self, read: Read, scope: Scope) -> Text:
        """An access."""
        raise NotImplementedError  # pragma: no cover - every language defines it

    def applied(self, primitive: Primitive, operands: Sequence[Text]) -> Text:
        """An operation."""
        raise NotImplementedError  # pragma: no cover - every language defines it

    def fold(self, fold: Fold, scope: Scope, last: bool) -> Text:
        """A fold; `last` says whether it is the result of its statement."""
        raise NotImplementedError  # pragma: no cover - every language defines it

    def constant(self, number: float | bool) -> Text:
        """A constant."""
        raise NotImplementedError  # pragma: no cover - every language defines it

    def named(self, text: Text) -> Text:
        """A name that stands for an expression from here on."""
        raise NotImplementedError  # pragma: no cover - every language defines it

    def reached(self, equation: Equation) -> None:
        """Take note that an equation of straight-line code comes next."""

    def body(self, nodes: Sequence[Node], scope: Scope) -> Text:
        """The last node of a body."""
        uses = [0] * len(nodes)
        for node in nodes:
            if isinstance(node, Apply):
                for operand in node.operands:
                    uses[operand] += 1

        def write(k: int, node: Node, operands: list[Text]) -> Text:
            last = k == len(nodes) - 1
            if isinstance(node, Read):
                return self.read(node, scope)
            text = self.applied(node.primitive, operands) if isinstance(node, Apply) else self.fold(node, scope, last)
            return text if last else self._named_if(text, uses[k], self.longest_node)

        return values_of(nodes, write)[-1]

    def straight(self, program: Program, inputs: Sequence[Text]) -> list[Text]:
        """The outputs of straight-line code."""
        texts = list(inputs)
        read = np.array([*program.operands, *program.outputs], dtype=np.int64)
        uses = np.bincount(read[read >= 0], minlength=program.inputs + len(program)).tolist()

        def written(operand: int) -> Text:
            return texts[operand] if operand >= 0 else self.constant(program.constants[~operand])

        for equation in program.equations():
            self.reached(equation)
            text = self.applied(equation.primitive, [written(operand) for operand in equation.operands])
            texts.append(self._named_if(text, uses[equation.variable], self.longest_equation))
        return [written(operand) for operand in program.outputs]

    def _named_if(self, text: Text, uses: int, longest: float) -> Text:
        """An expression, or the name that it gets."""
        return self.named(text) if not text.settled and (uses != 1 or len(text.text) > longest) else text
