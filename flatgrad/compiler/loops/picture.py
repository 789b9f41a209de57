"""An array program as a picture: a box for each array and each statement, and what is read from where."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from ...runtime.drawing import (
    GRADIENT,
    LEAF,
    LINE,
    NUMBER,
    PARAMETER,
    PLAIN,
    RESULT,
    UPDATE,
    WIDTH,
    add_box,
    new_picture,
)
from ...runtime.errors import OptionError
from ...runtime.wording import count_of
from ..program.program import grouped
from .array_printer import right_side
from .grammar import Block, Item, Loops, Repeat, Statement, addresses
from .views import Source, Sources

#: Programs of more statements are not drawn.
LIMIT = 300
_COLOURS = {"value": RESULT, "gradient": GRADIENT, "update": UPDATE}
#: The text of a statement: characters per line, and lines.
_LINE, _LINES = 36, 4


def draw_arrays(program: Loops, format: str = "svg", rankdir: str = "TB", width: float | None = WIDTH) -> Any:
    """A picture of an `ArrayProgram`; see `ArrayProgram.draw_dot`."""
    sources = Sources(program)
    count = sum(len(item.statements) if isinstance(item, Repeat) else 1 for item in program.statements)
    if count > LIMIT:
        raise OptionError(f"draw_dot: {program.name} has {count:,} statements, and at most {LIMIT} are drawn")
    dot = new_picture(format, rankdir, width)
    names: dict[int, str] = {}  # of the nodes, by the base of the source
    edges: dict[tuple[str, str], None] = {}

    def node_of(source: Source) -> str:
        """The node of a source; constants and inputs are drawn when something reads them."""
        if source.base not in names:
            names[source.base] = f"s{source.base}"
            colour = NUMBER if source.kind == "constants" else PARAMETER if source.name == "leaves" else LEAF
            add_box(dot, names[source.base], [(_title(source), colour)], down=True, named=False)
        return names[source.base]

    def add_edges(places: Iterable[int], target: str) -> None:
        for source in dict.fromkeys(map(sources.of, places)):
            if source.kind != "number":
                edges[node_of(source), target] = None

    def add_statement(picture: Any, statement: Statement) -> None:
        source = sources.of(statement.target.base if isinstance(statement.target.base, int) else 0)
        name = names.setdefault(source.base, f"s{source.base}")
        colour = _COLOURS.get(statement.part, RESULT)
        text, names_in_it = right_side(statement, sources)
        lines = textwrap.wrap(" ".join([text, *names_in_it]), _LINE, max_lines=_LINES, placeholder=" …")
        text = "\n".join([*lines, ""] if len(lines) > 1 else lines)
        add_box(picture, name, [(_title(source), colour), (text, colour)], down=True, named=True)
        for read, extents in statement.reads():
            add_edges(addresses(read, extents).tolist(), name)

    def add(item: Item, number: int) -> None:
        if isinstance(item, Block):
            source = sources.of(item.base)
            name = names.setdefault(source.base, f"s{source.base}")
            text = f"straight-line code of {count_of(len(item.program), 'equation')}"
            add_box(dot, name, [(_title(source), RESULT), (text, RESULT)], down=True, named=True)
            add_edges(item.reads.tolist(), name)
        elif isinstance(item, Repeat):
            with dot.subgraph(name=f"cluster_{number}") as rounds:
                title = f"{count_of(item.count, 'round')}"
                rounds.attr(
                    label=title,
                    style="rounded,filled",
                    color=LINE,
                    fillcolor=PLAIN,
                    fontname="Helvetica",
                    fontsize="11",
                )
                for statement in item.statements:
                    add_statement(rounds, statement)
            for starts, statement in zip(item.starts, item.statements, strict=True):
                for start in starts:
                    for read, extents in start.reads():
                        add_edges(addresses(read, extents).tolist(), names[sources.of(statement.places[0]).base])
        else:
            add_statement(dot, item)

    for number, item in enumerate(program.statements):
        add(item, number)
    for k, (group, places) in enumerate(grouped(program.output_groups, program.outputs)):
        dot.node(f"r{k}", label=f"return {group.name}", shape="plaintext")
        add_edges([int(place) for place in places], f"r{k}")
    for start, end in edges:
        dot.edge(start, end)
    return dot


def _title(source: Source) -> str:
    return f"{source.name}[{', '.join(map(str, source.shape))}]" if source.shape else source.name
