"""Flat Python, line by line, with the equations that each line computes."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..compiler.languages.preamble import Preamble
from ..compiler.languages.python import placed_lines
from ..compiler.program.builder import Indices, column
from ..compiler.program.program import Program
from ..compiler.stages import Stages


class PythonText(NamedTuple):
    """Flat Python.

    Attributes:
        lines: of the module.
        equations, places: equations, in ascending order, and the numbers of the lines that compute them.
    """

    lines: list[str]
    equations: Indices
    places: Indices

    def costs(self) -> Indices:
        """How many equations each line computes."""
        return np.bincount(self.places, minlength=len(self.lines))

    def lasts(self) -> Indices:
        """The last equation that each line computes; -1 for none."""
        result = np.full(len(self.lines), -1)
        result[self.places] = self.equations  # the last one is written last
        return result

    def places_of(self, equation: int) -> list[int]:
        """The lines that compute an equation."""
        first, end = np.searchsorted(self.equations, [equation, equation + 1])
        return self.places[first:end].tolist()  # type: ignore[no-any-return]


def returns_several(line: str) -> bool:
    """Whether a line of flat Python returns several numbers, of which none is that of the line.

    >>> [returns_several(line) for line in ("    return v1, v2 * x", "    return max(v1, v2)", "    v1 = x")]
    [True, False, False]
    """
    if not line.strip().startswith("return"):
        return False
    try:
        (statement,) = ast.parse(line.strip()).body
    except SyntaxError:  # it goes on
        return True
    return isinstance(statement, ast.Return) and isinstance(statement.value, (ast.Tuple, ast.List))


def python_text(stages: Stages, flat: Program) -> PythonText:
    """The module that `print(kernel.source)` shows for flat Python.

    Args:
        stages: of the kernel.
        flat: its program behind the passes for flat Python.
    """
    stages.__dict__["flat"] = flat
    parts: Sequence[Program] = stages.flat_parts
    numbered = replace(
        flat, sites=column("i", np.arange(len(flat)))
    )  # sites stay with their equations; nobody reads them
    origins = [np.asarray(part.sites) for part in stages.cut(numbered)]
    preamble = Preamble()
    functions = [
        placed_lines(part, name, preamble, doc) for part, (name, doc) in zip(parts, stages.functions, strict=True)
    ]
    lines = preamble.head(stages.header("python")).rstrip("\n").split("\n")
    for text in preamble.functions():
        lines += ["", "", *text.rstrip("\n").split("\n")]
    equations, places = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for (texts, rows), numbers in zip(functions, origins, strict=True):
        lines += ["", ""]
        here = numbers >= 0
        equations.append(numbers[here])
        places.append(np.array(rows, dtype=np.int64)[here] + len(lines))
        lines += texts
    all_, where = np.concatenate(equations), np.concatenate(places)
    order = np.argsort(all_, kind="stable")
    return PythonText(lines, all_[order], where[order])
