"""Splitting a joint program into a forward program and a backward program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .program import Group, Program, ProgramBuilder


class Partition(NamedTuple):
    """`forward` returns the outputs and the residuals; `backward` takes the residuals and the outputs' gradients.

    `residuals` are the variables of the joint program, inputs among them, that the backward part reads.
    """

    forward: Program
    backward: Program
    residuals: list[int]


def partition(joint: Program, outputs: int, seeds: int) -> Partition:
    """Cut a joint program after its primal equations.

    Args:
        joint: a program from `adjoint(..., seeded=True)`.
        outputs: how many of its outputs are outputs of the primal program; they come first.
        seeds: how many of its inputs are outputs' gradients; they come last.
    """
    arguments = joint.inputs - seeds
    last_primal = joint.inputs + joint.primal
    starts, operands = joint.starts, joint.operands
    read = {o for o in operands[starts[joint.primal] :] if 0 <= o < last_primal}
    read.update(o for o in joint.outputs[outputs:] if 0 <= o < last_primal)
    residuals = sorted(v for v in read if not arguments <= v < joint.inputs)

    groups = joint.input_groups[:-1] if seeds else joint.input_groups
    forward = ProgramBuilder(joint.name, groups, joint.input_names[:arguments])
    forward.program.numbering = joint.numbering
    forward.program.truth_inputs = frozenset(k for k in joint.truth_inputs if k < arguments)
    renamed = {v: v for v in range(arguments)}
    _copy(joint, range(joint.primal), renamed, forward, [])
    result_groups, count = [], 0
    for group in joint.output_groups:
        if count < outputs:
            result_groups.append(group)
        count += group.size
    kept = [_moved(joint, o, renamed, forward) for o in joint.outputs[:outputs]]
    first = forward.finish(
        kept + [renamed[v] for v in residuals], [*result_groups, Group("residuals", len(residuals), False)]
    )

    # What the primal variables are called in the forward program, and so in the backward one.
    called = [*joint.input_names, *(f"v{renamed[v] + joint.numbering}" for v in range(joint.inputs, last_primal))]
    names = [called[v] for v in residuals]
    backward = ProgramBuilder(
        joint.name,
        [Group("residuals", len(residuals), False), Group("output_bars", seeds, False)],
        names + joint.input_names[arguments:],
    )
    backward.program.truth_inputs = frozenset(k for k, v in enumerate(residuals) if joint.kind_of(v) == "b")
    renamed = {v: k for k, v in enumerate([*residuals, *range(arguments, joint.inputs)])}
    _copy(joint, range(joint.primal, len(joint)), renamed, backward, called)
    gradients = [_moved(joint, o, renamed, backward) for o in joint.outputs[outputs:]]
    # Named as in the joint program, so that the names of residuals, which are the forward program's, stay free.
    backward.program.numbering = joint.numbering + last_primal - backward.program.inputs
    if joint.update >= 0:
        backward.program.update = max(joint.update - joint.primal, 0)
    second = backward.finish(gradients, joint.output_groups[len(result_groups) :], primal=0)
    return Partition(first, second, residuals)


def _copy(
    source: Program, equations: range, renamed: dict[int, int], builder: ProgramBuilder, called: Sequence[str]
) -> None:
    """Append some equations; `called` names the variables that are outside of the new program."""
    foreign = builder.program.foreign_names
    builder.program.locations = source.locations
    for index in equations:
        refs = [
            _moved(source, operand, renamed, builder)
            for operand in source.operands[source.starts[index] : source.starts[index + 1]]
        ]
        target = source.adjoint_of[index]
        if target in renamed:
            target = renamed[target]
        elif target != -1:
            foreign.append(called[target] if target >= 0 else source.foreign_names[-2 - target])
            target = -1 - len(foreign)
        renamed[source.inputs + index] = builder.append(source.opcodes[index], refs, source.sites[index], target)


def _moved(source: Program, operand: int, renamed: dict[int, int], builder: ProgramBuilder) -> int:
    return renamed[operand] if operand >= 0 else builder.constant(source.constants[~operand])
