"""Flat Python, line by line, with the equations that each line computes."""

from __future__ import annotations

from collections.abc import Sequence

from ..compiler.languages.preamble import Preamble
from ..compiler.languages.python import placed_lines
from ..compiler.program.program import Program
from ..compiler.stages import Stages
from .lines import Line
from .origins import numbered


def python_lines(stages: Stages, flat: Program) -> tuple[list[Line], list[list[Line]]]:
    """The lines of the module that `print(kernel.source)` shows for flat Python; and those of each equation of `flat`.

    Args:
        stages: of the kernel.
        flat: its program behind the passes for flat Python.
    """
    stages.__dict__["flat"] = flat
    parts: Sequence[Program] = stages.flat_parts
    origins = [part.sites.tolist() for part in stages.cut(numbered(flat))]
    preamble = Preamble()
    functions = [
        placed_lines(part, name, preamble, doc) for part, (name, doc) in zip(parts, stages.functions, strict=True)
    ]
    lines = [Line(text) for text in preamble.head(stages.header("python")).rstrip("\n").split("\n")]
    for text in preamble.functions():
        lines += [Line(""), Line(""), *map(Line, text.rstrip("\n").split("\n"))]
    where: list[list[Line]] = [[] for _ in range(len(flat))]
    for (texts, places), equations in zip(functions, origins, strict=True):
        own = list(map(Line, texts))
        lines += [Line(""), Line(""), *own]
        for place, equation in zip(places, equations, strict=True):
            if equation >= 0:
                where[equation].append(own[place])
    return lines, where
