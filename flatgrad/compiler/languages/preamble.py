"""What stands around the statements of generated Python: imports, scalar functions, signatures, docstrings."""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from ...runtime.own import Foreign
from ...runtime.primitives import Primitive
from ..loops.array_program import ArrayProgram
from ..loops.extents import Bound
from ..program.program import Group, Program, grouped
from ..program.spelling import WIDTH, Spelling, Text, filled, indented, python_number, safe_comment, wrapped
from .spellings import python_spelling

#: Up to so many numbers of a list are named one by one.
_LISTED = 12


class Preamble:
    """What stands above generated functions: names from `math`, and the source of scalar functions that they call."""

    def __init__(self) -> None:
        self._functions: set[Callable[..., float]] = set()
        self.names: set[str] = set()
        self.foreign: dict[str, Primitive] = {}
        self._written: set[Spelling] = set()

    def spelling(self, primitive: Primitive, constants: Sequence[float | bool | None] = ()) -> Spelling:
        """How a primitive is written, which may depend on the operands that are constants."""
        spelling, function = python_spelling(primitive, tuple(constants)), primitive.evaluate
        if isinstance(function, Foreign):
            self.foreign[function.__name__] = primitive
            return spelling
        if spelling not in self._written:
            self._written.add(spelling)
            for name in spelling.functions:
                if hasattr(function, "__code__") and name == function.__name__:
                    self._add(function)
                else:
                    self.names.add(name)
        return spelling

    def _add(self, function: Callable[..., float]) -> None:
        """A scalar function, and those that it calls."""
        self._functions.add(function)
        for name in function.__code__.co_names:
            called: Any = function.__globals__.get(name)
            if not hasattr(called, "__code__"):
                self.names.update([name] if hasattr(math, name) else [])
            elif called not in self._functions:
                self._add(called)

    def number(self, number: float | bool) -> Text:
        """How a constant is written."""
        if not math.isfinite(number):
            self.names.add("nan" if number != number else "inf")
        return python_number(number)

    def head(self, header: Sequence[str]) -> str:
        """The beginning of a module: what it is, and what it imports from `math`."""
        lines = [*header, *(f"{name} is the primitive {row.name}, from outside." for name, row in self.foreign.items())]
        comments = "".join(safe_comment(f"# {line}") + "\n" for line in lines)
        return comments + (f"\nfrom math import {', '.join(sorted(self.names))}\n" if self.names else "")

    def functions(self) -> list[str]:
        """The source of the scalar functions."""
        return sorted(map(inspect.getsource, self._functions))


def signature(name: str, arguments: Sequence[str]) -> list[str]:
    """The first line of a function, or its first lines if it has many arguments."""
    line = f"def {name}({', '.join(arguments)}):"
    return [line] if len(line) <= WIDTH else [f"def {name}(", *filled(arguments, " " * 4), "):"]


def docstring(program: Program | ArrayProgram, doc: str, sizes: Sequence[tuple[str, str]] = ()) -> list[str]:
    """What the function does, and what its arguments and results are, in order."""
    if not doc:
        return []
    parameters, results = ([group.name for group in g] for g in (program.input_groups, program.output_groups))
    lines = description(program, doc, parameters, results, "a list of ", "returns", sizes)
    return [f'    """{lines[0]}', *indented(lines[1:]), '    """']


def description(
    program: Program | ArrayProgram,
    doc: str,
    parameters: Sequence[str],
    results: Sequence[str],
    several: str,
    returns: str,
    sizes: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """What a function does, and what its arguments and results are, in order.

    Args:
        program: what it computes.
        doc: what it does; perhaps nothing is said of that.
        parameters, results: their names.
        several: what stands before a count of numbers.
        returns: what the results are called.
        sizes: the open extents, which are the first parameters: their names and smallest numbers.
    """

    def counted(group: Group) -> str:
        return f"{several}{group.size} number{'' if group.size == 1 else 's'}"

    lines = [doc, ""] if doc else []
    lines += [f"{name}: a whole number, {least} or more" for name, least in sizes]
    for name, (group, numbers) in zip(parameters, grouped(program.input_groups, program.input_names), strict=True):
        shown = numbers if len(numbers) <= _LISTED else [*numbers[:3], "...", numbers[-1]]
        text = counted(group) if isinstance(group.size, Bound) else f"{counted(group)}: {', '.join(shown)}"
        lines.append(f"{name}: a number" if group.scalar else f"{name}: {text}")
    groups = zip(results, program.output_groups, strict=True)
    listed = [name if group.scalar else f"{name} ({counted(group)})" for name, group in groups]
    lines.append(f"{returns}: {', '.join(listed)}")
    return [part for line in lines for part in textwrap.wrap(line, WIDTH - 4, subsequent_indent="    ") or [""]]


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
