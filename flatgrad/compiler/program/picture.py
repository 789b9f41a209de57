"""A scalar program as a picture: a box for each input and each equation."""

from __future__ import annotations

from typing import Any

from ...runtime.drawing import GRADIENT, LEAF, PARAMETER, RESULT, UPDATE, WIDTH, add_box, new_picture
from ...runtime.errors import OptionError
from .equations import Equations
from .groups import grouped

#: Programs of more equations are not drawn: nobody could follow the lines.
LIMIT = 500


def draw_program(program: Equations, format: str = "svg", rankdir: str = "LR", width: float | None = WIDTH) -> Any:
    """A picture of a `Program`; see `Program.draw_dot`."""
    if len(program) > LIMIT:
        raise OptionError(
            f"draw_dot: {program.name} has {len(program):,} equations, and at most {LIMIT} are drawn; "
            "kernel.arrays.draw_dot() draws the loops in it"
        )
    dot = new_picture(format, rankdir, width)
    used = {operand for operand in (*program.operands, *program.outputs) if operand >= 0}
    for group, variables in grouped(program.input_groups, range(program.inputs)):
        colour = PARAMETER if group.name == "leaves" else LEAF
        for variable in variables:
            if variable in used:
                add_box(dot, f"v{variable}", [(program.name_of(variable), colour)], down=True, named=False)
    for equation in program.equations():
        index = equation.variable - program.inputs
        is_update = 0 <= program.update <= index
        colour = UPDATE if is_update else GRADIENT if index >= program.primal else RESULT
        text = " ".join([equation.primitive.name, *map(program.name_of, equation.operands)])
        cells = [(program.name_of(equation.variable), colour), (text, colour)]
        add_box(dot, f"v{equation.variable}", cells, down=True, named=True)
        for operand in dict.fromkeys(operand for operand in equation.operands if operand >= 0):
            dot.edge(f"v{operand}", f"v{equation.variable}")
    for k, (group, operands) in enumerate(grouped(program.output_groups, program.outputs)):
        numbers = [program.name_of(operand) for operand in operands if operand < 0]
        constants = f" = {', '.join([*numbers[:3], *(['...'] * (len(numbers) > 3))])}" if numbers else ""
        dot.node(f"r{k}", label=f"return {group.name}{constants}", shape="plaintext")
        for operand in dict.fromkeys(operand for operand in operands if operand >= 0):
            dot.edge(f"v{operand}", f"r{k}", style="dashed")
    return dot
