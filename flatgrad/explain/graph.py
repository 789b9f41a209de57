"""The graph of a program as a picture: of a small one its equations, of a larger one its loops.

The node of equation 7 has the id `g-e7`, that of input 2 `g-i2`, that of the line `l3` of the loops `g-l3`. An edge has
the classes `from-e7` and `to-e8`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..compiler.loops.grammar import Block, Repeat, addresses, members
from ..compiler.loops.views import Sources
from ..compiler.program.program import Program
from ..runtime.wording import count_of
from .loops import Loops

#: Graphs with more nodes are not drawn: nobody could read them.
LIMIT = 160
#: Longer names are cut in the middle; a box has room for a number of so many characters, as inputs can be moved.
_NAME, _DIGITS = 26, 12
#: The size of the type in points, and the width of a character as a part of it: the widest of common monospaced types.
_POINTS, _WIDTH = 11, 0.615


def graph_svg(program: Program, numbers: Mapping[int, tuple[str, str]]) -> str:
    """The graph of the primal equations of a joint program as SVG; empty if it is large, or Graphviz is not installed.

    Args:
        program: the joint program.
        numbers: by variable its value and its gradient, as text; they stand below names.
    """
    if not 0 < program.primal <= LIMIT:
        return ""
    picture = _picture()
    if picture is None:
        return ""
    used = {o for e in range(program.primal) for o in program.operands[program.starts[e] : program.starts[e + 1]]}
    names = {k: f"i{k}" for k in sorted(o for o in used if 0 <= o < program.inputs)}
    for k, name in names.items():
        _add_node(picture, name, program.input_names[k], numbers.get(k), style="rounded,bold")
    for e in range(program.primal):
        equation = program.equation(e)
        names[equation.variable] = f"e{e}"
        constants = [program.name_of(o) for o in equation.operands if o < 0]
        symbol = " ".join([equation.primitive.symbol or equation.primitive.name, *constants])
        title = f"{program.name_of(equation.variable)} = {symbol}"
        _add_node(picture, f"e{e}", title, numbers.get(equation.variable))
        for operand in equation.operands:
            if operand >= 0:
                _add_edge(picture, names[operand], f"e{e}")
    return _svg(picture)


def loops_svg(loops: Loops, counts: Mapping[str, int]) -> str:
    """The graph of the loops of a kernel as SVG; empty if there are many, or Graphviz is not installed.

    Args:
        loops: the loops.
        counts: per line of the loops, how many equations it computes.
    """
    items = [item for program in loops.programs for item in members(program.statements) if id(item) in loops.line_of]
    picture = _picture("TB") if 0 < len(items) <= LIMIT else None
    if picture is None:
        return ""
    edges: dict[tuple[str, str], None] = {}
    inputs: dict[str, str] = {}  # the node of each by its name
    for program in loops.programs:
        sources = Sources(program)
        node_of: dict[int, str] = {}  # by the base of what it computes
        reads: list[tuple[str, list[int]]] = []
        for item in program.statements:
            for member in item.statements if isinstance(item, Repeat) else [item]:
                name = loops.line_of[id(member)].id
                if isinstance(member, Block):
                    node_of[sources.of(member.base).base] = name
                    reads.append((name, member.reads.tolist()))
                    continue
                node_of[sources.of(int(member.places[0])).base] = name
                reads += [(name, addresses(*each).tolist()) for each in member.reads()]
            if isinstance(item, Repeat):
                for starts, member in zip(item.starts, item.statements, strict=True):
                    name = loops.line_of[id(member)].id
                    reads += [(name, addresses(*each).tolist()) for start in starts for each in start.reads()]
        for name, places in reads:
            for source in dict.fromkeys(map(sources.of, places)):
                start = node_of.get(source.base, "")
                if source.kind not in ("number", "constants") and not start:
                    size = f"[{', '.join(map(str, source.shape))}]" if source.shape else ""
                    start = inputs.setdefault(f"{source.name}{size}", f"i{len(inputs)}")
                if start and start != name:
                    edges[start, name] = None
    for title, name in inputs.items():
        _add_node(picture, name, title, None, style="rounded,bold")
    for item in items:
        lines = loops.lines_of(item)
        text = lines[0].text.partition("#")[0].strip().partition(" = ")[0]
        _add_node(picture, lines[0].id, text, (count_of(sum(counts.get(line.id, 0) for line in lines), "equation"), ""))
    for start, end in edges:
        _add_edge(picture, start, end)
    return _svg(picture)


def _picture(rankdir: str = "LR") -> Any:
    """An empty picture; None if Graphviz's package is not installed."""
    try:
        import graphviz
    except ImportError:
        return None
    return graphviz.Digraph(
        graph_attr={"rankdir": rankdir, "bgcolor": "transparent", "nodesep": "0.2", "ranksep": "0.4"},
        node_attr={
            "shape": "box",
            "style": "rounded",
            "margin": "0",
            "fontname": "monospace",
            "fontsize": str(_POINTS),
        },
        edge_attr={"arrowsize": "0.6"},
    )


def _add_node(picture: Any, name: str, title: str, numbers: tuple[str, str] | None, **options: str) -> None:
    """A box with a title, and with numbers below. Its size is that of the text, with room around it."""
    if len(title) > _NAME:
        title = f"{title[: _NAME // 2]}…{title[-_NAME // 2 + 1 :]}"
    texts = [title]
    if numbers is not None:
        value, gradient = numbers
        texts += [value, f"∂ {gradient}"] if gradient else [value]
    width = max(len(title), *(max(len(text), _DIGITS) for text in texts[1:]), 4)
    size = {
        "width": f"{(width * _WIDTH + 1.6) * _POINTS / 72:.3f}",
        "height": f"{(len(texts) * 1.2 + 1) * _POINTS / 72:.3f}",
    }
    label = "\\n".join(map(_escaped, texts))
    picture.node(name, label=label, id=f"g-{name}", fixedsize="true", **size, **options)


def _add_edge(picture: Any, start: str, end: str) -> None:
    picture.edge(start, end, **{"class": f"from-{start} to-{end}"})


def _svg(picture: Any) -> str:
    """The picture as an element of a page; empty without Graphviz."""
    import graphviz

    try:
        text = str(picture.pipe(format="svg", encoding="utf-8"))
    except (graphviz.ExecutableNotFound, graphviz.CalledProcessError):
        return ""
    text = re.sub(r"<title>.*?</title>\n?", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    return re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)  # HTML does without


def _escaped(text: str) -> str:
    """Text for a label of Graphviz, which reads entities and backslashes."""
    return text.replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
