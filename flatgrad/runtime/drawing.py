"""Pictures of graphs, drawn by Graphviz: `draw_dot`, as in the lecture on micrograd, and what pictures share."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .backward import CONSTANT
from .errors import InputError, MissingExtraError, OptionError
from .value import Condition, Value

FORMATS = ("svg", "png", "pdf")
#: Graphs with more nodes are not drawn: the picture would take minutes and show nothing.
LIMIT = 2_000
#: Pictures are at most so many inches wide: about as much as notebooks show.
WIDTH = 9.0

#: What boxes are filled with. All are pale and have dark text, so that they can be read on light and on dark pages:
#: pictures have no background, and a notebook shows them as images, which do not know its theme.
PARAMETER, LEAF, NUMBER, RESULT = "#cfe6f5", "#dcefe2", "#e8e8e8", "#ffffff"
GRADIENT, UPDATE = "#fbe3cf", "#e6dff2"
#: Of what is no box, and of frames; and of lines, which are as far from white as from black.
PLAIN, LINE = "#f2f2f2", "#808080"
#: What gradients are mixed with, from nothing at 0 to the whole at the largest: of positive ones, and of negative ones.
_POSITIVE, _NEGATIVE = (230, 130, 50), (130, 110, 190)
#: The end of a line, in Graphviz's markup.
_BREAK = '<BR ALIGN="LEFT"/>'
#: A text of more characters is cut off.
_LONGEST = 400


def draw_dot(
    root: Value | Any,
    format: str = "svg",
    rankdir: str = "LR",
    *,
    parameters: Any = None,
    width: float | None = WIDTH,
) -> Any:
    """A picture of the graph below a `Value`: its numbers, gradients and labels, with a node for each operation.

    Parameters are blue, other leaves green, constants grey. A gradient is the more orange, the larger it is, and the
    more violet, the further it is below 0.

    Args:
        root: the `Value` at the end.
        format: "svg", "png" or "pdf".
        rankdir: "LR" (left to right) or "TB" (top to bottom).
        parameters: a model, a list of `Value`s, or a dict from names to them: these are drawn as parameters. Those of a
            model or of a dict are shown with their names, if they have no label.
        width: of the picture, in inches, at most; a wider graph is drawn smaller. None: as wide as it comes.

    Returns:
        A `graphviz.Digraph`; notebooks display it, `.render(filename)` writes it.

    Raises:
        MissingExtraError: if the Python package graphviz is not installed.
        OptionError: for an unknown format or direction, a width that is not positive, or a graph of more than 2,000
            nodes.
        InputError: if `root` is not a `Value`, or `parameters` are none.

    Example:
        >>> import flatgrad as fg
        >>> w, x = fg.Value(3.0), fg.Value(2.0, label="x")
        >>> picture = fg.draw_dot(w * x, parameters={"w": w})  # doctest: +SKIP
    """
    if not isinstance(root, Value):
        own = "; a kernel draws itself: kernel.draw_dot()" if hasattr(root, "draw_dot") else ""
        raise InputError(f"draw_dot: expected a Value, got {type(root).__name__}{own}")
    names = _names(parameters)
    dot = new_picture(format, rankdir, width)
    nodes = _nodes(root)
    positions = {id(node): k for k, node in enumerate(nodes)}
    largest = max((abs(node._grad) for node in nodes if _has_gradient(node) and math.isfinite(node._grad)), default=0.0)
    for k, node in enumerate(nodes):
        cells = _cells(node, names, largest)
        add_box(dot, f"n{k}", cells, down=rankdir == "LR", named=len(cells) == 3 and bool(cells[0][0]))
        if node._op:
            dot.node(f"o{k}", label=escaped(node._op))
            dot.edge(f"o{k}", f"n{k}")
            for position in dict.fromkeys(positions[id(operand)] for operand in node._prev):
                dot.edge(f"n{position}", f"o{k}")
    return dot


def new_picture(format: str, rankdir: str, width: float | None) -> Any:
    """An empty `graphviz.Digraph`; the arguments are those of `draw_dot`.

    Raises:
        MissingExtraError: if the Python package graphviz is not installed.
        OptionError: for an unknown format or direction, or a width that is not positive.
    """
    if format not in FORMATS:
        raise OptionError(f"draw_dot: unknown format {format!r}; choose one of {', '.join(map(repr, FORMATS))}")
    if rankdir not in ("LR", "TB"):
        raise OptionError(f"draw_dot: unknown rankdir {rankdir!r}; choose 'LR' or 'TB'")
    if width is not None and not (isinstance(width, int | float) and 0 < width < math.inf):
        raise OptionError(f"draw_dot: width must be a positive number of inches, or None, got {width!r}")
    try:
        import graphviz
    except ImportError:
        raise MissingExtraError(
            "draw_dot needs the package graphviz: pip install 'flatgrad[graph]' "
            "(and the program `dot`, which your system's package graphviz has)"
        ) from None
    size = {} if width is None else {"size": f"{width:g},1000"}
    return graphviz.Digraph(
        format=format,
        graph_attr={
            "rankdir": rankdir,
            "bgcolor": "transparent",
            "pad": "0.1",
            "nodesep": "0.15",
            "ranksep": "0.3",
            **size,
        },
        node_attr={
            "fontname": "Helvetica",
            "fontsize": "11",
            "fontcolor": "#1c1c1c",
            "height": "0.3",
            "style": "filled",
            "fillcolor": PLAIN,
            "color": LINE,
        },
        edge_attr={"color": LINE, "arrowsize": "0.6"},
    )


def add_box(dot: Any, name: str, cells: Iterable[tuple[str, str]], *, down: bool, named: bool) -> None:
    """Add a node: a box with cells, each a text and what it is filled with.

    Args:
        dot: the picture.
        name: of the node.
        cells: side by side, or one below the other (`down`), which keeps pictures from left to right narrow. A text may
            have several lines.
        named: whether the first one is a name, which is bold.
    """
    shown = ((_BREAK.join(map(escaped, text.split("\n"))), colour) for text, colour in cells)
    cells = [(text, colour) for text, colour in shown if text]
    parts = [
        f'<TD BGCOLOR="{colour}" ALIGN="LEFT">{f"<B>{text}</B>" if named and not k else text}</TD>'
        for k, (text, colour) in enumerate(cells)
    ]
    rows = "".join(f"<TR>{part}</TR>" for part in parts) if down else f"<TR>{''.join(parts)}</TR>"
    table = f'<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="0" CELLPADDING="4" COLOR="{LINE}">{rows}</TABLE>'
    dot.node(name, label=f"<{table}>", shape="plain", style="")  # its cells are filled


def escaped(text: str) -> str:
    """User text for Graphviz's markup; what cannot be printed is a blank."""
    line = "".join(character if character.isprintable() else " " for character in text).strip()
    line = html.escape(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…")
    return line.replace("\\", "\\\\")  # `\\N` would be the name of the node


def _names(parameters: Any) -> dict[int, str]:
    """The names of parameters, by their identity; empty ones where there are none."""
    if parameters is None:
        return {}
    pairs: list[tuple[str, Any]]
    if isinstance(parameters, Mapping):
        pairs = [(str(name), value) for name, value in parameters.items()]
    elif callable(getattr(parameters, "named_parameters", None)):
        pairs = list(parameters.named_parameters())
    elif callable(getattr(parameters, "parameters", None)):
        pairs = [("", value) for value in parameters.parameters()]
    else:
        pairs = [("", value) for value in parameters] if isinstance(parameters, Sequence) else [("", parameters)]
    for _, value in pairs:
        if not isinstance(value, Value):
            raise InputError(
                f"draw_dot: parameters are a model, a list or a dict of Values; found {type(value).__name__}"
            )
    return {id(value): name for name, value in pairs}


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


def _has_gradient(node: Any) -> bool:
    return not isinstance(node, Condition) and node._primitive is not CONSTANT


def _cells(node: Any, names: Mapping[int, str], largest: float) -> list[tuple[str, str]]:
    """The texts of a node and their colours: label, data, gradient. Constants and conditions have none."""
    if isinstance(node, Condition):
        return [(str(node._number), RESULT)]
    if node._primitive is CONSTANT:
        return [(f"{node._number:g}", NUMBER)]
    colour = RESULT if node._op else PARAMETER if id(node) in names else LEAF
    label = str(node.label or "").replace("\n", " ") or names.get(id(node), "")
    gradient = (f"grad {_digits(node._grad)}", _mixed(node._grad, largest))
    return [(label, colour), (f"data {_digits(node._number)}", colour), gradient]


def _digits(number: float) -> str:
    """A number with four decimals; with four digits where these would show nothing, or too much.

    >>> [_digits(number) for number in (0.5, 1e-9, -1e300)]
    ['0.5000', '1e-09', '-1e+300']
    """
    return f"{number:.4f}" if not number or 1e-3 <= abs(number) < 1e6 else f"{number:.4g}"


def _mixed(gradient: float, largest: float) -> str:
    """The colour of a gradient beside the largest one."""
    if not gradient or not largest or gradient != gradient:
        return RESULT
    share = 0.08 + 0.6 * min(1.0, abs(gradient) / largest)
    parts = (255 + share * (part - 255) for part in (_POSITIVE if gradient > 0 else _NEGATIVE))
    return f"#{''.join(f'{round(part):02x}' for part in parts)}"
