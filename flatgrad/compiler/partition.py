"""Splitting a joint program into a forward program and a backward program."""

from __future__ import annotations

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
    renamed = {v: v for v in range(arguments)}
    _copy(joint, range(joint.primal), renamed, forward)
    result_groups, count = [], 0
    for group in joint.output_groups:
        if count < outputs:
            result_groups.append(group)
        count += group.size
    kept = [_moved(joint, o, renamed, forward) for o in joint.outputs[:outputs]]
    first = forward.finish(
        kept + [renamed[v] for v in residuals], [*result_groups, Group("residuals", len(residuals), False)]
    )

    names = [joint.input_names[v] if v < joint.inputs else f"v{renamed[v]}" for v in residuals]
    backward = ProgramBuilder(
        joint.name,
        [Group("residuals", len(residuals), False), Group("output_bars", seeds, False)],
        names + joint.input_names[arguments:],
    )
    backward.program.truth_inputs = frozenset(k for k, v in enumerate(residuals) if joint.kind_of(v) == "b")
    renamed = {v: k for k, v in enumerate([*residuals, *range(arguments, joint.inputs)])}
    _copy(joint, range(joint.primal, len(joint)), renamed, backward)
    gradients = [_moved(joint, o, renamed, backward) for o in joint.outputs[outputs:]]
    # Named as in the joint program, so that the names of residuals, which are the forward program's, stay free.
    backward.program.numbering = joint.inputs + joint.primal - backward.program.inputs
    second = backward.finish(gradients, joint.output_groups[len(result_groups) :], primal=0)
    return Partition(first, second, residuals)


def _copy(source: Program, equations: range, renamed: dict[int, int], builder: ProgramBuilder) -> None:
    builder.program.locations = source.locations
    for index in equations:
        refs = [
            _moved(source, operand, renamed, builder)
            for operand in source.operands[source.starts[index] : source.starts[index + 1]]
        ]
        target = source.adjoint_of[index]
        if target >= 0 and target in renamed:
            target = renamed[target]
        elif target >= 0:
            builder.program.foreign_names.append(source.bar_name(target).removesuffix("_bar"))
            target = -1 - len(builder.program.foreign_names)
        renamed[source.inputs + index] = builder.append(source.opcodes[index], refs, source.sites[index], target)


def _moved(source: Program, operand: int, renamed: dict[int, int], builder: ProgramBuilder) -> int:
    return renamed[operand] if operand >= 0 else builder.constant(source.constants[~operand])
