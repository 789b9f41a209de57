"""Drawing a graph of `Value`s with Graphviz, as in the lecture on micrograd."""

from __future__ import annotations

from typing import Any

from .errors import InputError, MissingExtraError, OptionError
from .value import Condition, Value

FORMATS = ("svg", "png", "pdf")
#: Graphs with more nodes are not drawn: the picture would take minutes and show nothing.
LIMIT = 2_000


def draw_dot(root: Value, format: str = "svg", rankdir: str = "LR") -> Any:
    """A picture of the graph below a `Value`: its numbers, gradients and labels, with a node for each operation.

    Args:
        root: the `Value` at the end.
        format: "svg", "png" or "pdf".
        rankdir: "LR" (left to right) or "TB" (top to bottom).

    Returns:
        A `graphviz.Digraph`; notebooks display it, `.render(filename)` writes it.

    Raises:
        MissingExtraError: if the Python package graphviz is not installed.
        OptionError: for an unknown format or direction, or a graph of more than 2,000 nodes.
        InputError: if `root` is not a `Value`.
    """
    if not isinstance(root, Value):
        raise InputError(f"draw_dot: expected a Value, got {type(root).__name__}")
    if format not in FORMATS:
        raise OptionError(f"draw_dot: unknown format {format!r}; choose one of {', '.join(map(repr, FORMATS))}")
    if rankdir not in ("LR", "TB"):
        raise OptionError(f"draw_dot: unknown rankdir {rankdir!r}; choose 'LR' or 'TB'")
    try:
        import graphviz
    except ImportError:
        raise MissingExtraError(
            "draw_dot needs the package graphviz: pip install 'flatgrad[graph]' "
            "(and the program `dot`, which your system's package graphviz has)"
        ) from None
    nodes = _nodes(root)
    dot = graphviz.Digraph(format=format, graph_attr={"rankdir": rankdir})
    positions = {id(node): k for k, node in enumerate(nodes)}
    for k, node in enumerate(nodes):
        dot.node(f"n{k}", label=_record(node), shape="record")
        if node._op:
            dot.node(f"o{k}", label=_escaped(node._op, ""))
            dot.edge(f"o{k}", f"n{k}")
            for position in dict.fromkeys(positions[id(operand)] for operand in node._prev):
                dot.edge(f"n{position}", f"o{k}")
    return dot


def _nodes(root: Value) -> list[Any]:
    nodes: dict[int, Any] = {id(root): root}
    stack: list[Any] = [root]
    while stack:
        for operand in stack.pop()._prev:
            if id(operand) not in nodes:
                nodes[id(operand)] = operand
                stack.append(operand)
                if len(nodes) > LIMIT:
                    raise OptionError(f"draw_dot: the graph has more than {LIMIT} nodes; draw a smaller part of it")
    return list(nodes.values())


def _record(node: Any) -> str:
    """The text of a node: `{ label | data | grad }`."""
    if isinstance(node, Condition):
        return f"{{ {node._number} }}"
    label = f"{_escaped(node.label)} | " if node.label else ""
    return f"{{ {label}data {node._number:.4f} | grad {node._grad:.4f} }}"


def _escaped(text: str, record: str = "{}|<>") -> str:
    """User text for a Graphviz label, where some characters mean something."""
    line = "".join(character if character.isprintable() else " " for character in text)
    line = line.replace("&", "&amp;")  # Graphviz reads entities
    line = "".join(f"\\{character}" if character in "\\" + record else character for character in line)
    return line.replace(" ", "&#32;")  # its record parser loses some plain spaces
