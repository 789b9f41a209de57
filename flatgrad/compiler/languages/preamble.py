"""What stands around the statements of generated Python: imports, scalar functions, signatures, docstrings."""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Sequence

from ...runtime.primitives import Primitive
from ..loops.array_program import ArrayProgram
from ..program.program import Program, grouped
from ..program.spelling import WIDTH, Spelling, Text, filled, python_number, wrapped
from .spellings import python_spelling


class Preamble:
    """What stands above generated functions: names from `math`, and the source of scalar functions that they call."""

    def __init__(self) -> None:
        self._functions: set[Callable[..., float]] = set()
        self._names: set[str] = set()
        self._written: set[Spelling] = set()

    def spelling(self, primitive: Primitive, constants: Sequence[float | bool | None] = ()) -> Spelling:
        """How a primitive is written, which may depend on the operands that are constants."""
        spelling, function = python_spelling(primitive, tuple(constants)), primitive.evaluate
        if spelling not in self._written:
            self._written.add(spelling)
            for name in spelling.functions:
                if hasattr(function, "__code__") and name == function.__name__:
                    self._functions.add(function)
                    self._names.update(used for used in function.__code__.co_names if hasattr(math, used))
                else:
                    self._names.add(name)
        return spelling

    def number(self, number: float | bool) -> Text:
        """How a constant is written."""
        if not math.isfinite(number):
            self._names.add("nan" if number != number else "inf")
        return python_number(number)

    def imports(self) -> list[str]:
        """The line that imports what is needed from `math`, if anything is."""
        return [f"from math import {', '.join(sorted(self._names))}"] if self._names else []

    def functions(self) -> list[str]:
        """The source of the scalar functions."""
        return sorted(map(inspect.getsource, self._functions))


def signature(name: str, arguments: Sequence[str]) -> list[str]:
    """The first line of a function, or its first lines if it has many arguments."""
    line = f"def {name}({', '.join(arguments)}):"
    return [line] if len(line) <= WIDTH else [f"def {name}(", *filled(arguments, " " * 4), "):"]


def docstring(program: Program | ArrayProgram, doc: str) -> list[str]:
    """What the function does, and what its arguments and results are, in order."""
    if not doc:
        return []
    lines = [doc, ""]
    for group, names in grouped(program.input_groups, program.input_names):
        lines.append(f"{group.name}: {'a number' if group.scalar else _listed(names)}")
    results = [g.name if g.scalar else f"{g.name} (a list of {g.size})" for g in program.output_groups]
    lines.append(f"returns: {', '.join(results)}")
    text = [part for line in lines for part in textwrap.wrap(line, WIDTH - 4, subsequent_indent="    ") or [""]]
    return [f'    """{text[0]}', *(f"    {line}".rstrip() for line in text[1:]), '    """']


def _listed(names: Sequence[str]) -> str:
    if len(names) > 12:
        return f"a list of {len(names)} numbers: {', '.join(names[:3])}, ..., {names[-1]}"
    return f"a list of {len(names)} number{'s' if len(names) > 1 else ''}: {', '.join(names)}"


def returned(results: Sequence[str | list[str]], indent: int) -> list[str]:
    """The statement that returns texts, and lists of texts, in lines that will be indented so far."""
    joined = [result if isinstance(result, str) else f"[{', '.join(result)}]" for result in results]
    line = f"return {', '.join(joined)}".rstrip()
    if len(line) <= WIDTH - indent:
        return [line]
    if len(results) == 1:
        opening, closing = "()" if isinstance(results[0], str) else "[]"
        items = wrapped(joined[0], first="    ") if isinstance(results[0], str) else filled(results[0], "    ", indent)
        return [f"return {opening}", *items, closing]
    lines = ["return ("]
    for result, text in zip(results, joined, strict=True):
        if isinstance(result, str) or len(text) + 5 <= WIDTH - indent:
            lines.append(f"    {text},")
        else:
            lines += ["    [", *filled(result, "        ", indent), "    ],"]
    return [*lines, ")"]
