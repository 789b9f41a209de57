"""Some equations of a program as a program of their own: a part, a block, a half."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .builder import Indices, ProgramBuilder, Where
from .groups import Group
from .program import Program


def extract(
    program: Program,
    variables: Any,
    equations: Sequence[int] | Indices,
    outputs: Any,
    groups: tuple[Sequence[Group], Sequence[Group]],
    *,
    names: Sequence[str] | None = None,
    numbering: int | None = None,
    outside: Callable[[int], str] | None = None,
) -> Program:
    """Some equations of a program as a program of their own.

    Args:
        program: the whole program; it is not changed.
        variables: the variables that become the inputs.
        equations: the equations.
        outputs: operands of the whole program.
        groups: those of the inputs and those of the outputs.
        names: one per input; as in the whole program where not given.
        numbering: as in `Program`; where not given, equations that stand together keep their names.
        outside: as for `ProgramBuilder.take`.
    """
    inputs = np.asarray(variables, dtype=np.int64)
    if numbering is None:
        numbering = program.numbering + program.inputs + int(equations[0] if len(equations) else 0) - len(inputs)
    builder = ProgramBuilder(
        program.name,
        groups[0],
        names if names is not None else list(map(program.plain_name, inputs.tolist())),
        frozenset(k for k, variable in enumerate(inputs.tolist()) if program.kind_of(variable) == "b"),
        numbering,
    )
    rows = np.arange(equations.start, equations.stop) if isinstance(equations, range) else np.asarray(equations)
    where = renumbering(np.concatenate([inputs, program.inputs + rows]))
    renumber = builder.take(program, equations, where, outside=outside)
    return builder.finish(renumber(outputs), groups[1])


def renumbering(variables: Any) -> Where:
    """The function that takes each of these variables to its position among them, and all others to -1.

    >>> renumbering([3, 1, 7])(np.array([7, 1, 2]))
    array([ 2,  1, -1])
    """
    order = np.append(np.argsort(variables, kind="stable"), -1)
    ordered = np.append(np.sort(variables), np.iinfo(np.int64).max)

    def where(operands: Indices) -> Indices:
        positions = np.searchsorted(ordered, operands)
        return np.where(ordered[positions] == operands, order[positions], -1)

    return where
