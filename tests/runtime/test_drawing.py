"""`draw_dot`: the nodes and edges of the lecture's picture, text that Graphviz shows as it is, limits and errors."""

from __future__ import annotations

import builtins
import html
import re
import shutil
import sys
import xml.etree.ElementTree as ET

import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.runtime import drawing

NASTY = [
    "plain", "{", "}", "{a|b}", "a|b|c", "<port>", "a < b > c", 'say "hi"', "back\\slash", "\\", "\\n", "\\N", "\\l\\r",
    "two\nlines", "tab\there", "&amp;", "&lt;", "a & b", "<b>bold</b>", "'); import os #", "]; n0 -> n1; [", "\\{",
    "é☃\U0001f600", "é ☃", " leading and trailing ", "a  b", "n0", "digraph { a -> b }", "%s {0}", "\x00\x07", "\u2028",
    "x" * 300, '\\"', "<<i>x</i>>",
]  # fmt: skip

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="the program dot is not installed")


@pytest.fixture
def graphviz():
    return pytest.importorskip("graphviz", reason="the package graphviz is not installed")


@pytest.fixture
def lecture():
    """The neuron of the lecture: five leaves, two products, two sums, one tanh."""
    x1, x2 = Value(2.0, label="x1"), Value(0.0, label="x2")
    w1, w2 = Value(-3.0, label="w1"), Value(1.0, label="w2")
    b = Value(6.8813735870195432, label="b")
    first, second = x1 * w1, x2 * w2
    first.label, second.label = "x1*w1", "x2*w2"
    total = first + second
    total.label = "x1*w1 + x2*w2"
    n = total + b
    n.label = "n"
    out = n.tanh()
    out.label = "o"
    out.backward()
    return out


def structure(dot):
    """Value nodes (their texts, with the colours), operation nodes and edges, from the lines of the source."""
    nodes, operations, edges = {}, {}, []
    for line in dot.body:
        box = re.fullmatch(r'\s*(\w+) \[label=<(.*)> shape=plain style=""\]\n', line)
        node = re.fullmatch(r'\s*(\w+) \[label="?(.*?)"?\]\n', line)
        edge = re.fullmatch(r"\s*(\w+) -> (\w+)\n", line)
        assert box or node or edge, line
        if edge:
            edges.append(edge.groups())
        elif box:
            cells = ET.fromstring(box[2]).iter("TD")
            nodes[box[1]] = [("".join(cell.itertext()), cell.get("BGCOLOR")) for cell in cells]
        else:
            operations[node[1]] = html.unescape(node[2])
    return nodes, operations, edges


def texts_of(nodes):
    return [[text for text, _ in cells] for cells in nodes.values()]


# --- structure --------------------------------------------------------------------------------------------------------


def test_the_lectures_picture(graphviz, lecture):
    dot = fg.draw_dot(lecture)
    assert isinstance(dot, graphviz.Digraph)
    nodes, operations, edges = structure(dot)
    assert len(nodes) == 10
    assert sorted(operations.values()) == ["*", "*", "+", "+", "tanh"]
    assert len(edges) == 9 + 5, "an edge for each operand, and one from each operation to its result"
    label_of = {name: cells[0][0] for name, cells in nodes.items()}
    assert sorted(label_of.values()) == sorted(
        ["x1", "x2", "w1", "w2", "b", "x1*w1", "x2*w2", "x1*w1 + x2*w2", "n", "o"]
    )
    label_of.update(operations)
    drawn = sorted((label_of[a], label_of[b]) for a, b in edges)
    assert ("x1", "*") in drawn
    assert ("x1*w1 + x2*w2", "+") in drawn
    assert ("tanh", "o") in drawn
    assert ["w1", "data -3.0000", "grad 1.0000"] in texts_of(nodes)


def test_directions_and_formats(graphviz, lecture):
    assert fg.draw_dot(lecture).graph_attr["rankdir"] == "LR"
    assert fg.draw_dot(lecture, rankdir="TB").graph_attr["rankdir"] == "TB"
    for format in ("svg", "png", "pdf"):
        assert fg.draw_dot(lecture, format=format).format == format
    assert fg.draw_dot(lecture, "png", "TB").source.count("rankdir=TB") == 1


def test_a_leaf_alone(graphviz):
    nodes, operations, edges = structure(fg.draw_dot(Value(1.5)))
    assert (texts_of(nodes), operations, edges) == ([["data 1.5000", "grad 0.0000"]], {}, [])


def test_shared_nodes_are_drawn_once(graphviz):
    x = Value(2.0, label="x")
    y = x * x
    z = y + y * x
    nodes, operations, edges = structure(fg.draw_dot(z))
    assert (len(nodes), len(operations)) == (4, 3)
    # x -> x*x (once, though it is both operands), x*x -> y, y -> y*x, x -> y*x, y*x -> node, both -> +, + -> z
    assert len(edges) == len(set(edges)) == 8


def test_numbers_are_nodes_and_exponents_are_part_of_the_operation(graphviz):
    x = Value(2.0)
    nodes, operations, edges = structure(fg.draw_dot(x**3 + 1.5))
    assert len(nodes) == 4
    assert sorted(operations.values()) == ["**3", "+"]
    assert len(edges) == 5
    assert [("1.5", drawing.NUMBER)] in nodes.values()


def test_conditions(graphviz):
    x = Value(2.0, label="x")
    nodes, operations, edges = structure(fg.draw_dot(fg.where(x < 3.0, x, -x)))
    assert ["True"] in texts_of(nodes)
    assert sorted(operations.values()) == ["*", "<", "where"]
    assert len(nodes) == 6
    assert len(edges) == 3 + 2 + 2 + 3


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (float("nan"), "nan"),
        (1e300, "1e+300"),
        (-0.0, "-0.0000"),
        (5e-324, "4.941e-324"),
        (123456.78, "123456.7800"),
        (1234567.8, "1.235e+06"),
    ],
)
def test_odd_numbers(graphviz, data, text):
    x = Value(data)
    x.grad = data
    nodes, _, _ = structure(fg.draw_dot(x))
    assert texts_of(nodes) == [[f"data {text}", f"grad {text}"]]


def test_colours(graphviz):
    """Parameters, other leaves, constants, results; gradients by sign and size."""
    w, x = Value(2.0), Value(-3.0, label="x")
    y = w * x + 1.0
    y.backward()
    nodes, _, _ = structure(fg.draw_dot(y, parameters={"w": w}))
    cells = {texts[0][0]: dict(texts) for texts in nodes.values()}
    assert cells["w"]["w"] == cells["w"]["data 2.0000"] == drawing.PARAMETER
    assert cells["x"]["x"] == drawing.LEAF
    assert cells["data -5.0000"]["data -5.0000"] == drawing.RESULT
    assert cells["1"] == {"1": drawing.NUMBER}
    red, green, blue = (
        {text: int(colour[k : k + 2], 16) for each in cells.values() for text, colour in each.items()}
        for k in (1, 3, 5)
    )
    assert red["grad 2.0000"] > blue["grad 2.0000"] + 20, "positive: orange"
    assert blue["grad -3.0000"] > green["grad -3.0000"] + 20, "negative: violet"
    assert blue["grad 1.0000"] > blue["grad 2.0000"], "the smaller, the paler"
    untouched, _, _ = structure(fg.draw_dot(Value(1.0)))
    assert untouched["n0"][1] == ("grad 0.0000", drawing.RESULT)


def test_boxes_are_narrow_from_left_to_right(graphviz):
    """One cell below the other, the name in bold; from top to bottom side by side."""
    x = Value(2.0, label="x")
    down, side = (fg.draw_dot(x, rankdir=rankdir).source for rankdir in ("LR", "TB"))
    assert (down.count("<TR>"), side.count("<TR>")) == (3, 1)
    assert "<B>x</B>" in down
    assert "<B>" not in fg.draw_dot(Value(2.0)).source


def test_names_of_parameters(graphviz):
    model = fg.nn.MLP(2, [1], seed=0)
    model.layers[0].neurons[0].w[1].label = "second"
    out = model([1.0, 2.0])
    nodes, _, _ = structure(fg.draw_dot(out, parameters=model))
    names = {texts[0] for texts in texts_of(nodes) if len(texts) == 3}
    assert names == {"layers.0.neurons.0.w.0", "second", "layers.0.neurons.0.b"}, "a label comes first"
    for parameters in (model.parameters(), tuple(model.parameters())):
        nodes, _, _ = structure(fg.draw_dot(out, parameters=parameters))
        assert sum(cells[0][1] == drawing.PARAMETER for cells in nodes.values()) == 3


@pytest.mark.parametrize("parameters", [[1.0], {"w": "x"}, 3.0, [None]])
def test_what_are_no_parameters(graphviz, parameters):
    with pytest.raises(fg.InputError, match="parameters are a model, a list or a dict of Values; found"):
        fg.draw_dot(Value(1.0), parameters=parameters)


def test_widths(graphviz, lecture):
    assert fg.draw_dot(lecture).graph_attr["size"] == "9,1000"
    assert fg.draw_dot(lecture, width=4.5).graph_attr["size"] == "4.5,1000"
    assert "size" not in fg.draw_dot(lecture, width=None).graph_attr
    for width in (0, -1.0, float("inf"), float("nan"), "9"):
        with pytest.raises(fg.OptionError, match="width must be a positive number of inches"):
            fg.draw_dot(lecture, width=width)


@needs_dot
def test_a_wide_graph_fits(graphviz):
    """The picture is as wide as wanted, in points, and smaller graphs keep their size."""

    def width(dot):
        return float(re.search(r'<svg width="(\d+)pt"', dot.pipe(encoding="utf-8"))[1])

    wide = chain(40)
    assert width(fg.draw_dot(wide, width=None)) > 2_000
    assert width(fg.draw_dot(wide)) <= 9 * 72 + 1
    assert width(fg.draw_dot(Value(1.0))) == width(fg.draw_dot(Value(1.0), width=None)) < 300


def test_the_result_of_a_compiled_call(graphviz):
    """The call is a node like any other operation; below it are the Values that it was given."""
    w, x = Value(3.0, label="w"), Value(2.0, label="x")
    out = fg.compile(lambda x: (w * x).tanh())(x) * 2.0
    _, operations, _ = structure(fg.draw_dot(out))
    assert "compiled" in operations.values()
    assert "label" not in operations.values()


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", NASTY, ids=lambda label: ascii(label)[:30])
def test_a_label_does_not_change_the_structure(graphviz, label):
    """One line of source for each node and edge, whatever the labels are."""
    x, y = Value(2.0, label=label), Value(3.0, label=label)
    z = x * y
    z.label = label
    dot = fg.draw_dot(z)
    assert len(dot.body) == 3 + 1 + 3
    assert len(dot.source.splitlines()) == len(dot.body) + 5
    for line in dot.body:
        assert len(line.splitlines()) == 1
        assert re.match(r"^\t\w+ (\[label=|-> \w+$)", line.rstrip("\n"))


def shown(label):
    """What a picture shows of a label: characters that cannot be printed are blanks."""
    return " ".join("".join(c if c.isprintable() else " " for c in label).split())


def texts(svg):
    elements = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return [" ".join("".join(element.itertext()).replace("\xa0", " ").split()) for element in elements]


@needs_dot
@pytest.mark.parametrize("label", NASTY, ids=lambda label: ascii(label)[:30])
def test_graphviz_shows_a_label_as_it_is(graphviz, label):
    """Neither a field of the record, nor a port, nor an escape, nor markup."""
    value = Value(1.5, label=label)
    svg = fg.draw_dot(value).pipe(encoding="utf-8")
    labels = texts(svg)
    expected = ["data 1.5000", "grad 0.0000"]
    assert labels[-2:] == expected
    if shown(label):
        assert labels[:-2] == [shown(label)]


@needs_dot
def test_rendering_to_svg_and_png(graphviz, lecture, tmp_path):
    svg = fg.draw_dot(lecture).pipe(encoding="utf-8")
    labels = texts(svg)
    assert labels.count("tanh") == 1
    assert labels.count("*") == 2
    assert "x1*w1 + x2*w2" in labels
    assert "grad 0.5000" in labels
    png = fg.draw_dot(lecture, format="png").pipe()
    assert png.startswith(b"\x89PNG\r\n")
    path = fg.draw_dot(lecture).render(tmp_path / "neuron")
    assert (tmp_path / "neuron.svg").read_text(encoding="utf-8").count("<g ") > 20
    assert str(path) == str(tmp_path / "neuron.svg")


@needs_dot
def test_notebooks_show_the_picture(graphviz, lecture):
    bundle = fg.draw_dot(lecture)._repr_mimebundle_()
    assert "<svg" in bundle["image/svg+xml"]


# --- limits and errors ------------------------------------------------------------------------------------------------


def chain(length):
    """A graph of `length` nodes: one leaf, and one that is added to it again and again."""
    x, total = Value(1.0), Value(0.0)
    for _ in range(length - 2):
        total = total + x
    return total


def test_a_graph_at_the_limit_is_drawn(graphviz):
    nodes, operations, edges = structure(fg.draw_dot(chain(drawing.LIMIT)))
    assert len(nodes) == drawing.LIMIT == 2_000
    assert len(operations) == 1_998
    assert len(edges) == 3 * 1_998


@pytest.mark.parametrize("length", [drawing.LIMIT + 1, 100_000])
def test_a_larger_graph_is_refused(graphviz, length):
    with pytest.raises(fg.OptionError, match="more than 2000 nodes; draw a smaller part"):
        fg.draw_dot(chain(length))


@pytest.mark.parametrize("format", ["jpeg", "SVG", "", None, "svg; rm"])
def test_an_unknown_format(format):
    with pytest.raises(fg.OptionError, match=r"unknown format .*'svg', 'png', 'pdf'") as caught:
        fg.draw_dot(Value(1.0), format=format)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("rankdir", ["RL", "lr", "", None])
def test_an_unknown_direction(rankdir):
    with pytest.raises(fg.OptionError, match=r"unknown rankdir .*'LR' or 'TB'"):
        fg.draw_dot(Value(1.0), rankdir=rankdir)


@pytest.mark.parametrize("root", [1.0, None, "x", [Value(1.0)], Value(1.0) > 0.0])
def test_something_else_than_a_value(root):
    with pytest.raises(fg.InputError, match=rf"expected a Value, got {type(root).__name__}\n"):
        fg.draw_dot(root)


def test_a_kernel_draws_itself():
    with pytest.raises(fg.InputError, match=r"a kernel draws itself: kernel.draw_dot\(\)"):
        fg.draw_dot(fg.grad(lambda x: x * x).kernel_for(1.0))


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "graphviz":
            raise ImportError("No module named 'graphviz'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "graphviz", raising=False)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(fg.MissingExtraError, match=r"pip install 'flatgrad\[graph\]'") as caught:
        fg.draw_dot(Value(1.0) * 2.0)
    assert isinstance(caught.value, ImportError)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_drawing_changes_nothing(graphviz, lecture):
    before = lecture.data, lecture.grad
    fg.draw_dot(lecture)
    fg.draw_dot(lecture)
    assert (lecture.data, lecture.grad) == before
    lecture.backward()
    assert (lecture.data, lecture.grad) == before


def test_pictures_can_be_read_on_light_and_on_dark_pages(lecture):
    """There is no background; all text is dark, in pale boxes; lines are as far from white as from black."""
    dot = fg.draw_dot(lecture)
    assert dot.graph_attr["bgcolor"] == "transparent"
    assert dot.node_attr["style"] == "filled"
    fills = [dot.node_attr["fillcolor"], *re.findall(r'BGCOLOR="(#\w{6})"', dot.source)]
    assert len(set(fills)) > 2
    lines = {dot.edge_attr["color"], dot.node_attr["color"]}
    for fill in fills:
        assert contrast(fill, dot.node_attr["fontcolor"]) > 4.5
    for line in lines:
        assert min(contrast(line, "#ffffff"), contrast(line, "#1e1e1e")) > 3.0
    cells = re.findall(r"<TD([^>]*)>", dot.source)
    assert all("BGCOLOR" in cell for cell in cells)


def contrast(first, second):
    """The contrast of two colours as WCAG 2 has it."""

    def luminance(colour):
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)
