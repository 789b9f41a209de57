"""Faults: where Python raises. Programs without any, and gradients that raise where the function does.

`without_faults` puts the total form of its row in place of each equation that can raise: `faults="ieee"`.

`grad` does not return the value, so what only the value needs is dead code. But where it would raise, the function has
no value, and so no gradient. `check_gradients` keeps such operations in the program, and lets the gradients through
only where none of them raises. `compare_domains` then compares their operands with the ends of their domains
(`Primitive.fault`) in place of computing them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ...runtime import primitives as p
from ...runtime.errors import OptionError
from ...runtime.primitives import TABLE, Operand, Primitive
from .builder import ProgramBuilder, column
from .program import Program
from .rewriter import Rewriter

Faults: TypeAlias = Literal["raise", "ieee"]
FAULTS: tuple[Faults, ...] = get_args(Faults)
#: Conditions are told apart by what their operands are computed of, so many operations deep.
_DEPTH = 3


def without_faults(program: Program) -> Program:
    """The program with inf and NaN, as IEEE 754 has them, in place of exceptions.

    Equations that cannot raise because of a constant operand stay as they are, so that simplification knows them.

    Raises:
        OptionError: if a primitive has no total form.

    Example:
        >>> from flatgrad.compiler.program.program import Group
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> program = f.finish([f.emit("power", f.emit("log", 0), f.constant(1.0))])
        >>> print(program)
        program f(x):
            v1 = log x
            v2 = power v1 1.0
            return v2
        >>> print(without_faults(program))
        program f(x):
            v1 = ieee_log x
            v2 = power v1 1.0
            return v2
    """
    raising = np.array([primitive.raises and primitive is not p.checked for primitive in TABLE])
    opcodes = np.array(program.opcodes)
    starts, operands, constants = program.starts, program.operands, program.constants
    total: dict[Any, int] = {}  # by opcode and constant operands
    for index in np.flatnonzero(raising[opcodes]).tolist():
        refs = operands[starts[index] : starts[index + 1]]
        opcode = program.opcodes[index]
        key = opcode, *[None if o >= 0 else constants[~o] for o in refs]
        if key not in total:
            primitive = TABLE[opcode]
            if _condition(program, index) is False:
                total[key] = primitive.opcode
            elif primitive.total is not None:
                total[key] = primitive.total.opcode
            else:
                raise OptionError(f"faults='ieee': the primitive {primitive.name} has no form that does not raise")
        opcodes[index] = total[key]
    program.opcodes = column("H", opcodes)
    return program


class _Node(Operand):
    """A condition, or a number that it is made of: an operand of the program, or a primitive applied to such nodes."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key

    def apply(self, primitive: Primitive, operands: Sequence[Any]) -> _Node:
        return _Node((primitive, *[o.key if isinstance(o, _Node) else o for o in operands]))


def _condition(program: Program, index: int) -> _Node | bool | None:
    """The condition under which an equation raises, as its row's rule has it."""
    primitive = TABLE[program.opcodes[index]]
    if primitive.fault is None:
        return None
    operands = program.operands[program.starts[index] : program.starts[index + 1]]
    constants = program.constants
    result: _Node | bool | None = primitive.fault(*[_Node(o) if o >= 0 else constants[~o] for o in operands])
    return result


def check_gradients(joint: Program, value: int | Sequence[int], gradients: int) -> Program:
    """A gradient's program that raises where the value would, though it does not return the value.

    The operations that can raise, that the value needs and the gradient does not, stay in the program, as operands of
    `computed`, which is never true; the gradients are let through by `checked`.

    Args:
        joint: the joint program without the value among its outputs; it is changed.
        value: the operand that is the value, or several.
        gradients: how many of the outputs, at the end, are the gradients.

    Example:
        Of `log x` the gradient needs `1 / x` alone:

        >>> from flatgrad.compiler.program.adjoint import adjoint
        >>> from flatgrad.compiler.program.program import Group
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> joint = adjoint(f.finish([f.emit("log", 0)]), wrt=[0])
        >>> value, joint.outputs, joint.output_groups = joint.outputs[0], joint.outputs[1:], joint.output_groups[1:]
        >>> print(joint)
        program f(x):
            v1 = log x
            v2 = div 1.0 x
            v3 = mul 1.0 v2
            x_bar = add v3 0.0
            return x_bar
        >>> print(check_gradients(joint, value, 1))
        program f(x):
            v1 = log x
            v2 = div 1.0 x
            v3 = mul 1.0 v2
            v4 = add v3 0.0
            v5 = computed v1
            x_bar = checked v4 v5
            return x_bar
    """
    dead = _dead_operations(joint, [value] if isinstance(value, int) else value)
    if not dead:
        return joint
    builder = ProgramBuilder.behind(joint)
    inputs, fault = joint.inputs, -1
    for k, index in enumerate(dead):
        site = joint.sites[index]
        condition = builder.append(p.computed.opcode, (inputs + index,), site)
        fault = condition if k == 0 else builder.append(p.logical_or.opcode, (fault, condition), site)
    outputs = list(joint.outputs)
    for k in range(len(outputs) - gradients, len(outputs)):
        gradient = outputs[k]
        target = joint.adjoint_of[gradient - inputs] if gradient >= inputs else -1
        outputs[k] = builder.append(p.checked.opcode, (gradient, fault), -1, target)
    return builder.finish(outputs)


def _dead_operations(program: Program, values: Sequence[int]) -> list[int]:
    """The equations that can raise, that the values depend on, and the outputs do not.

    Those of one line that compute the like come together, so that the loops in what is compared can be found again.
    """
    raising = [primitive.raises and primitive is not p.checked for primitive in TABLE]
    inputs, opcodes = program.inputs, program.opcodes.tolist()
    if not any(map(raising.__getitem__, set(opcodes))):
        return []
    starts, operands = program.starts.tolist(), program.operands.tolist()
    # Constants, ~k, index from the end: their entries are written to and never read.
    live = bytearray(inputs + len(program) + len(program.constants))
    dependencies = bytearray(live)
    for output in program.outputs:
        live[output] = 1
    for value in values:
        dependencies[value] = 1
    groups: dict[Any, list[int]] = {}
    for index in range(len(program) - 1, -1, -1):
        variable = inputs + index
        mark = live if live[variable] else dependencies
        if mark[variable]:
            for operand in operands[starts[index] : starts[index + 1]]:
                mark[operand] = 1
            if mark is dependencies and raising[opcodes[index]]:
                groups.setdefault((_shape(program, variable), program.sites[index]), []).append(index)
    return [index for group in reversed(groups.values()) for index in reversed(group)]


def _shape(program: Program, operand: int, depth: int = _DEPTH) -> Any:
    """What an operand is computed of, a few operations deep; constants by their number."""
    if operand < 0:
        return program.constants[~operand]
    index = operand - program.inputs
    if index < 0 or not depth:
        return ""
    operands = program.operands[program.starts[index] : program.starts[index + 1]]
    return (program.opcodes[index], *[_shape(program, o, depth - 1) for o in operands])


def compare_domains(program: Program, fast: bool = False) -> Program:
    """Comparisons in place of operations that are there only to raise.

    Where the operation is computed anyway, or another one that raises at the same numbers, nothing is compared. It
    must run last, on what is compiled: what it leaves out is what tells users which operation raised, and where.

    Args:
        program: what is compiled; its constants are folded.
        fast: whether the fast rules will be applied, by which some powers do not raise.

    Example:
        >>> from flatgrad.compiler.program.program import Group
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> result, logarithm = f.emit("tanh", 0), f.emit("log", 0)
        >>> condition = f.append(p.computed.opcode, [logarithm])
        >>> program = f.finish([f.append(p.checked.opcode, [result, condition])])
        >>> print(program)
        program f(x):
            v1 = tanh x
            v2 = log x
            v3 = computed v2
            v4 = checked v1 v3
            return v4
        >>> print(compare_domains(program))
        program f(x):
            v1 = tanh x
            v2 = log x
            v3 = less_equal x 0.0
            v4 = checked v1 v3
            return v4
    """
    if p.computed.opcode not in program.opcodes:
        return program
    conditions = _conditions(program, fast)
    rewriter = Rewriter(program)

    def operand(key: Any) -> int:
        """The operand for a condition, which is a few operations deep."""
        if isinstance(key, tuple):
            return rewriter.insert(key[0].opcode, [operand(part) for part in key[1:]])
        return rewriter.renamed(key) if type(key) is int else rewriter.constant(key)

    for index, (opcode, refs) in enumerate(rewriter.equations()):
        constants: list[Any] = [rewriter.constants[~ref] if ref < 0 else None for ref in refs]
        if opcode == p.computed.opcode:
            rewriter.replace(operand(conditions.get(program.operands[program.starts[index]], False)))
        elif opcode == p.logical_or.opcode and constants[0] is False:
            rewriter.replace(refs[1])
        elif opcode in (p.logical_or.opcode, p.checked.opcode) and constants[1] is False:
            rewriter.replace(refs[0])
        else:
            rewriter.keep(opcode, refs)
    return rewriter.finish()


def _conditions(program: Program, fast: bool) -> dict[int, Any]:
    """For variables that are there only to raise: the condition under which they do, as a nested tuple.

    One sweep from the end: what a condition compares is computed, and so raises by itself. Of equal conditions one
    will do.
    """
    raising = [primitive.raises for primitive in TABLE]
    inputs, opcodes, computed = program.inputs, program.opcodes.tolist(), p.computed.opcode
    starts, operands = program.starts.tolist(), program.operands.tolist()
    live = bytearray(inputs + len(program) + len(program.constants))
    watched = bytearray(live)
    for output in program.outputs:
        live[output] = 1
    variables: dict[Any, int] = {}  # by condition
    covered: set[Any] = set()
    for index in range(len(program) - 1, -1, -1):
        variable = inputs + index
        refs = operands[starts[index] : starts[index + 1]]
        if live[variable]:
            if opcodes[index] == computed:
                watched[refs[0]] = 1
                continue
            if raising[opcodes[index]]:
                covered.update(_covered(program, index))
        elif watched[variable] and raising[opcodes[index]]:
            key = _key(program, index, fast)
            if key is None or key in variables:
                continue
            variables[key] = variable
            compared = list(_variables(key))
            refs = refs if variable in compared else compared
        else:
            continue
        for operand in refs:
            live[operand] = 1
    return {variable: key for key, variable in variables.items() if key not in covered}


def _key(program: Program, index: int, fast: bool = False) -> Any:
    """The condition under which an equation raises, as a nested tuple; None if it never does.

    Where only computing the result tells, that is what stays there.
    """
    primitive = TABLE[program.opcodes[index]]
    if fast and primitive is p.power:
        exponent = program.operands[program.starts[index] + 1]
        if exponent < 0 and program.constants[~exponent] == 2.0:
            return None  # it becomes a product
    condition = _condition(program, index)
    if isinstance(condition, bool):
        return condition or None
    if condition is None:
        return p.computed, program.inputs + index
    return condition.key


def _covered(program: Program, index: int) -> Iterator[Any]:
    """The conditions under which an equation raises for certain."""
    yield _key(program, index)
    start = program.starts[index]
    if program.opcodes[index] == p.power.opcode and program.operands[start + 1] < 0:
        base, exponent = program.operands[start], program.constants[~program.operands[start + 1]]
        if base >= 0 and exponent < -1.0:  # x ** -2 overflows wherever x ** -1, whose partial it is, does
            condition = p.power.fault(_Node(base), exponent + 1.0)  # type: ignore[misc]
            yield condition.key if isinstance(condition, _Node) else None


def _variables(key: Any) -> Iterator[int]:
    """The variables in a condition."""
    if isinstance(key, tuple):
        for part in key[1:]:
            yield from _variables(part)
    elif type(key) is int:
        yield key
