"""Splitting a joint program into a forward program and a backward program."""

from __future__ import annotations

from typing import NamedTuple

from .extract import extract
from .program import Group, Program, grouped


class Partition(NamedTuple):
    """`forward` returns the outputs and the residuals; `backward` takes the residuals and the outputs' gradients.

    `residuals` are the variables of the joint program, inputs among them, that the backward part reads.
    """

    forward: Program
    backward: Program
    residuals: list[int]


def partition(joint: Program, outputs: int, seeds: int, data: int = 0) -> Partition:
    """Cut a joint program after its primal equations.

    Args:
        joint: a program from `adjoint(..., seeded=True)`.
        outputs: how many of its outputs are outputs of the primal program; they come first.
        seeds: how many of its inputs are outputs' gradients; they come last.
        data: how many groups of inputs, in front of these, are inputs of both parts, and no residuals.

    Example:
        >>> from flatgrad.compiler.program.adjoint import adjoint
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> joint = adjoint(f.finish([f.emit("exp", 0)]), wrt=[0], seeded=True)
        >>> print(joint)
        program f(x, output_bars=[output0_bar]):
            v2 = exp x
            v3 = mul output0_bar v2
            x_bar = add v3 0.0
            return v2, x_bar
        >>> forward, backward, residuals = partition(joint, 1, 1)
        >>> print(forward)
        program f(x):
            v1 = exp x
            return v1, [v1]
        >>> print(backward)
        program f(residuals=[v1], output_bars=[output0_bar]):
            v3 = mul output0_bar v1
            x_bar = add v3 0.0
            return x_bar
    """
    arguments = joint.inputs - seeds
    last_primal = joint.inputs + joint.primal
    starts, operands = joint.starts, joint.operands
    read = {o for o in operands[starts[joint.primal] :] if 0 <= o < last_primal}
    read.update(o for o in joint.outputs[outputs:] if 0 <= o < last_primal)
    groups = joint.input_groups[:-1] if seeds else joint.input_groups
    shared = groups[len(groups) - data :]
    passed = range(arguments - sum(group.size for group in shared), joint.inputs)
    residuals = sorted(v for v in read if v not in passed)
    slices = grouped(joint.output_groups, range(len(joint.outputs)))
    results = [group for group, chosen in slices if chosen.start < outputs]
    forward = extract(
        joint,
        range(arguments),
        range(joint.primal),
        joint.outputs[:outputs] + residuals,
        (groups, [*results, Group("residuals", len(residuals), False)]),
        numbering=joint.numbering,
    )

    def called(variable: int) -> str:
        """A primal variable's name in the forward program, and so in the backward one."""
        return joint.plain_name(variable) if variable < joint.inputs else forward.plain_name(variable - seeds)

    backward = extract(
        joint,
        [*residuals, *range(arguments, joint.inputs), *passed[: arguments - passed.start]],
        range(joint.primal, len(joint)),
        joint.outputs[outputs:],
        (
            [Group("residuals", len(residuals), False), Group("output_bars", seeds, False), *shared],
            joint.output_groups[len(results) :],
        ),
        names=[*map(called, residuals), *joint.input_names[arguments:], *joint.input_names[passed.start : arguments]],
        outside=called,
    )
    return Partition(forward, backward, residuals)
