"""The walk over what statements and blocks compute, as printers of all languages take it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...runtime.primitives import Primitive
from ..program.program import Equation, Program
from ..program.spelling import Text
from .extents import Size, fixed
from .grammar import Apply, Fold, Node, Read, values_of

#: Index names: of lanes, of terms.
LANES, TERMS = "ijklmnopq", "rstuvwxyz"


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


class BodyWriter:
    """Writes nodes and equations as expressions; what is used several times, or grows too long, gets a name.

    Languages say how accesses, operations, folds and constants are written, and how a name is given.
    """

    #: Longer expressions get a name: in the bodies of statements, in straight-line code.
    longest_node: float = math.inf
    longest_equation: float = math.inf

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
        wanted = not text.settled and (uses != 1 or len(text.text) > longest)
        return self.named(text) if wanted else text
