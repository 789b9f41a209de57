"""The processor's instructions, loop by loop, and those of straight-line code equation by equation.

LLVM carries locations of instructions to the processor's, for debuggers. Here they say which equation it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..compiler.loops.array_program import ArrayProgram
from ..compiler.loops.grammar import Block, Repeat, Statement
from ..compiler.machine.functions import obstacle
from ..compiler.machine.llvm import Module
from ..compiler.machine.lookups import with_comparisons
from ..compiler.machine.native import host, machine_text
from ..compiler.machine.operations import Machine
from ..compiler.machine.text import Function

_LABEL = re.compile(r"^([\w.$]+):")
_LOCATION = re.compile(r"^\s+\.loc\s+\d+ (\d+)")
_DIRECTIVE = re.compile(r"^\s+\.(?!quad|long|double)")
#: Longer functions are abridged: to the first of these lengths at which all of them together have few lines.
_LENGTHS, _FEW = (400, 200, 100, 48, 24, 12), 2_000
#: The number of the first node of metadata; those before are the module's.
_METADATA = 1_000
_DEBUG = """
!llvm.dbg.cu = !{!900}
!llvm.module.flags = !{!901}
!900 = distinct !DICompileUnit(language: DW_LANG_C99, file: !902, isOptimized: true, emissionKind: LineTablesOnly)
!901 = !{i32 2, !"Debug Info Version", i32 3}
!902 = !DIFile(filename: "program", directory: "")
!903 = !DISubroutineType(types: !904)
!904 = !{}
"""


class Instruction(NamedTuple):
    """A line of assembly, and the equations of blocks that it belongs to."""

    text: str
    equations: list[tuple[Block, int]]


class Section(NamedTuple):
    """The instructions of a function of the module.

    Attributes:
        name: of the function.
        items: the statements and blocks that it computes.
        lines: its instructions and labels.
        instructions: how many instructions there are.
    """

    name: str
    items: list[Statement | Block]
    lines: list[Instruction]
    instructions: int


class _Marked(Module):
    """A module whose straight-line code says which equation each instruction is for.

    Attributes:
        equations: how many equations there are in each function of straight-line code.
        metadata: the nodes that say so.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.equations: dict[str, int] = {}
        self.metadata: list[str] = []
        self._ends: dict[str, int] = {}
        self._scope = 0

    def _node(self, text: str) -> int:
        self.metadata.append(f"!{_METADATA + len(self.metadata)} = {text}")
        return _METADATA + len(self.metadata) - 1

    def written(self, function: Function, equation: int) -> None:
        if not equation:
            self._scope = self._node(
                f'distinct !DISubprogram(name: "{function.name}", scope: !902, file: !902, line: 1, type: !903, '
                "spFlags: DISPFlagDefinition, unit: !900)"
            )
            function.attributes += f" !dbg !{self._scope}"
        location = self._node(f"!DILocation(line: {equation + 1}, column: 1, scope: !{self._scope})")
        for k in range(self._ends.get(function.name, 1), len(function.lines)):
            if function.lines[k].startswith("  "):
                function.lines[k] += f", !dbg !{location}"
        self._ends[function.name] = len(function.lines)
        self.equations[function.name] = equation + 1


def sections(program: ArrayProgram, fast: bool) -> list[Section]:
    """The machine code of an array program, function by function; empty if there can be none."""
    if obstacle([program]):
        return []
    machine = Machine(host().lanes, host().shortcuts, host().vector_math, host().variants)
    module = _Marked(with_comparisons(program), machine, fast)
    assembly = module.emitted().assembly
    if module.metadata:
        assembly += _DEBUG + "\n".join(module.metadata) + "\n"
    shift = len(module.input_truths) > 0  # one call was put in front of all others
    bounds = [*(begun + shift for begun in module.begun), len(module.calls)]
    items: dict[str, list[Statement | Block]] = {}
    blocks: dict[str, list[tuple[Block, int]]] = {}
    for k, item in enumerate(program.statements):
        end = bounds[k + 1] if k + 1 < len(module.begun) else bounds[k] + 1
        first = 0
        for position, _ in module.calls[bounds[k] : max(end, bounds[k] + 1)]:
            name = module.functions[position].name
            items.setdefault(name, []).extend(item.members() if isinstance(item, Repeat) else [item])
            if isinstance(item, Block):
                blocks.setdefault(name, []).append((item, first))
                first += module.equations.get(name, 0)
    functions = _functions(machine_text(assembly, fast=fast))
    lengths = [len(lines) for _, lines in functions]
    most = next((n for n in _LENGTHS if sum(min(length, n) for length in lengths) <= _FEW), _LENGTHS[-1])
    return [
        Section(name, items.get(name, []), _instructions(lines, blocks.get(name, []), most), _count(lines))
        for name, lines in functions
    ]


def _count(lines: Sequence[tuple[str, int]]) -> int:
    return sum(1 for text, _ in lines if not _LABEL.match(text))


def _instructions(
    lines: Sequence[tuple[str, int]], blocks: Sequence[tuple[Block, int]], most: int
) -> list[Instruction]:  # fmt: skip
    """Lines with the equations that they belong to; of more than so many, the first and the last ones."""
    result = [
        Instruction(text, [(block, first + equation) for block, first in blocks] if equation >= 0 else [])
        for text, equation in lines
    ]
    if len(result) <= most:
        return result
    head, tail = result[: most // 2], result[-most // 4 :]
    return [*head, Instruction(f"    ... {len(result) - len(head) - len(tail):,} lines ...", []), *tail]


def _functions(text: str) -> list[tuple[str, list[tuple[str, int]]]]:
    """The functions of a text in assembly language: their lines, each with its location, counted from 0, or -1.

    What only the assembler needs is left out.
    """
    result: list[tuple[str, list[tuple[str, int]]]] = []
    equation = -1
    for line in text.split("\n"):
        label, location = _LABEL.match(line), _LOCATION.match(line)
        if location:
            equation = int(location[1]) - 1
        elif label and not label[1].startswith("."):
            result.append((label[1], []))
            equation = -1
        elif result and label and label[1].startswith(".Lfunc_end"):
            result.append(("", []))
        elif result and label and not label[1].startswith((".Ltmp", ".Lfunc_begin")):
            result[-1][1].append((label[0], -1))
        elif result and not label and line.strip() and not _DIRECTIVE.match(line) and not line.lstrip().startswith("#"):
            result[-1][1].append(("    " + _columns(re.sub(r"\s*#.*$", "", line)), equation))
    return [(name, lines) for name, lines in result if name and lines]


def _columns(code: str) -> str:
    """An instruction with its operands in a column."""
    name, *operands = code.strip().split(None, 1)
    return f"{name:<10} {operands[0]}" if operands else name
