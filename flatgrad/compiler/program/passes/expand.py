"""Composites in place of which stand the equations that they consist of."""

from __future__ import annotations

from ....runtime.primitives import PACKAGE_ROWS, TABLE, computed, logical_or
from ..program import Program
from ..rewriter import Rewriter


def expand(program: Program) -> Program:
    """Put the equations of composites in their place. It must run after the adjoint, to which each is one node.

    Example:
        >>> from flatgrad.compiler.own_primitives import primitive
        >>> from flatgrad.compiler.program.builder import Group, ProgramBuilder
        >>> cube = primitive("cube", lambda x: x * x * x)
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> program = f.finish([f.append(cube.opcode, [0])])
        >>> print(program)
        program f(x):
            v1 = cube x
            return v1
        >>> print(expand(program))
        program f(x):
            v1 = mul x x
            v2 = mul v1 x
            return v2
    """
    if max(program.opcodes, default=0) < PACKAGE_ROWS:
        return program
    rewriter = Rewriter(program)
    raising: dict[int, list[int]] = {}  # by composite: what in it can raise
    for index, (opcode, refs) in enumerate(rewriter.equations()):
        body = TABLE[opcode].body
        if body is not None:
            slots = list(refs)
            constants = list(map(rewriter.constant, body.constants))
            inner = raising.setdefault(program.inputs + index, [])
            for primitive, parts in body.equations:
                operands = [slots[part] if part >= 0 else constants[~part] for part in parts]
                slots.append(rewriter.insert(primitive.opcode, operands))
                if primitive.raises:
                    inner.append(slots[-1])
            rewriter.replace(slots[body.result] if body.result >= 0 else constants[~body.result])
        elif opcode == computed.opcode and program.operands[program.starts[index]] in raising:
            condition = rewriter.constant(False)
            for variable in raising[program.operands[program.starts[index]]]:
                other = rewriter.insert(computed.opcode, [variable])
                condition = other if condition < 0 else rewriter.insert(logical_or.opcode, [condition, other])
            rewriter.replace(condition)
        else:
            rewriter.keep(opcode, refs)
    return rewriter.finish()
