"""The graph of a small program as a picture, whose nodes are the program's equations."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..compiler.program.program import Program

#: Graphs with more equations are not drawn: nobody could read them.
LIMIT = 160


def graph_svg(program: Program, numbers: Mapping[int, str]) -> str:
    """The graph of the primal equations of a joint program as SVG; empty if it is large, or Graphviz is not installed.

    The node of equation 7 has the id `g-e7`, that of input 2 `g-i2`. `numbers` are shown below names, by variable.
    """
    if not 0 < program.primal <= LIMIT:
        return ""
    try:
        import graphviz
    except ImportError:
        return ""

    def below(text: str, variable: int) -> str:
        return _escaped(text) + (f"\\n{numbers[variable]}" if variable in numbers else "")

    font = {"fontname": "monospace", "fontsize": "11"}
    dot = graphviz.Digraph(
        graph_attr={"rankdir": "LR", "bgcolor": "transparent", "nodesep": "0.18", "ranksep": "0.35"},
        node_attr={"shape": "box", "style": "rounded", "height": "0.3", "margin": "0.1,0.04", **font},
        edge_attr={"arrowsize": "0.6"},
    )
    used = {o for e in range(program.primal) for o in program.operands[program.starts[e] : program.starts[e + 1]]}
    for k in sorted(o for o in used if 0 <= o < program.inputs):
        dot.node(f"v{k}", label=below(program.input_names[k], k), id=f"g-i{k}", style="rounded,bold")
    for e in range(program.primal):
        equation = program.equation(e)
        constants = [program.name_of(o) for o in equation.operands if o < 0]
        symbol = " ".join([equation.primitive.symbol or equation.primitive.name, *constants])
        name = f"{program.name_of(equation.variable)}  {symbol}"
        dot.node(f"v{equation.variable}", label=below(name, equation.variable), id=f"g-e{e}")
        for operand in equation.operands:
            if operand >= 0:
                dot.edge(f"v{operand}", f"v{equation.variable}")
    try:
        text = str(dot.pipe(format="svg", encoding="utf-8"))
    except (graphviz.ExecutableNotFound, graphviz.CalledProcessError):
        return ""
    text = re.sub(r"<title>.*?</title>\n?", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    return re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)  # HTML does without


def _escaped(text: str) -> str:
    """Text for a label of Graphviz, which reads entities and backslashes."""
    return text.replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
