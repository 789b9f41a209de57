"""The processor's instructions, loop by loop."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..compiler.loops.array_program import ArrayProgram
from ..compiler.loops.grammar import Block, Repeat, Statement
from ..compiler.machine.functions import obstacle
from ..compiler.machine.llvm import Module
from ..compiler.machine.lookups import with_comparisons
from ..compiler.machine.native import host, machine_text
from ..compiler.machine.operations import Machine

_LABEL = re.compile(r"^([\w.$]+):")
_DIRECTIVE = re.compile(r"^\s+\.(?!quad|long|double)")
#: Functions of more instructions are abridged.
_LONG = 240


class Section(NamedTuple):
    """The instructions of a function of the module.

    Attributes:
        name: of the function.
        items: the statements and blocks that it computes.
        lines: its instructions and labels.
        instructions: how many there are.
    """

    name: str
    items: list[Statement | Block]
    lines: list[str]
    instructions: int


def sections(program: ArrayProgram, fast: bool) -> list[Section]:
    """The machine code of an array program, function by function; empty if there can be none."""
    if obstacle([program]):
        return []
    machine = Machine(host().lanes, host().shortcuts, host().vector_math, host().variants)
    module = Module(with_comparisons(program), machine, fast)
    code = module.emitted()
    shift = len(module.input_truths) > 0  # one call was put in front of all others
    bounds = [*(begun + shift for begun in module.begun), len(module.calls)]
    items: dict[str, list[Statement | Block]] = {}
    for k, item in enumerate(program.statements):
        end = bounds[k + 1] if k + 1 < len(module.begun) else bounds[k] + 1
        for position, _ in module.calls[bounds[k] : max(end, bounds[k] + 1)]:
            owners = items.setdefault(module.functions[position].name, [])
            owners += item.members() if isinstance(item, Repeat) else [item]
    result = []
    for name, lines in _functions(machine_text(code.assembly, fast=fast)):
        count = sum(1 for line in lines if not _LABEL.match(line))
        result.append(Section(name, items.get(name, []), _abridged(lines), count))
    return result


def _functions(text: str) -> list[tuple[str, list[str]]]:
    """The functions of a text in assembly language, without what only the assembler needs."""
    result: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        label = _LABEL.match(line)
        if label and not label[1].startswith("."):
            result.append((label[1], []))
        elif result and label and label[1].startswith(".Lfunc_end"):
            result.append(("", []))
        elif result and line.strip() and (label or not _DIRECTIVE.match(line)) and not line.lstrip().startswith("#"):
            code = re.sub(r"\s*#.*$", "", line) if not label else label[0]
            result[-1][1].append(" ".join(code.strip().split(None, 1)) if label else "    " + _columns(code))
    return [(name, lines) for name, lines in result if name and lines]


def _columns(code: str) -> str:
    """An instruction with its operands in a column."""
    name, *operands = code.strip().split(None, 1)
    return f"{name:<10} {operands[0]}" if operands else name


def _abridged(lines: Sequence[str]) -> list[str]:
    if len(lines) <= _LONG:
        return list(lines)
    head, tail = lines[: _LONG // 2], lines[-_LONG // 4 :]
    return [*head, f"    ... {len(lines) - len(head) - len(tail):,} lines ...", *tail]
