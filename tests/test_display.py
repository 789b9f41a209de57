"""What notebooks show: well-formed HTML without scripts, in which users' texts are texts; and pictures of programs."""

from __future__ import annotations

import re
import shutil
import sys
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.display.chart import Curve, Mark, Panel, chart, picture
from flatgrad.display.listing import screens, tokens
from flatgrad.display.markup import card, code, panes, table
from flatgrad.runtime import drawing
from flatgrad.runtime.sites import Location, describe

MARKUP = [
    "<script>alert(1)</script>",
    "</td></tr></table><img src=x onerror=alert(1)>",
    "&lt;",
    "a \"b\" 'c' <d>",
    "\x00",
]
#: What cards are made of.
TAGS = {
    "div", "style", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "pre", "span", "details", "summary",
    "svg", "title", "line", "text", "polyline",
}  # fmt: skip

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="the program dot is not installed")


@pytest.fixture
def graphviz():
    return pytest.importorskip("graphviz", reason="the package graphviz is not installed")


def parsed(item):
    """The card of an object, or HTML, as a tree: well-formed, and made of the tags that are known."""
    text = item if isinstance(item, str) and item.startswith("<div") else item._repr_html_()
    root = ET.fromstring(text)
    assert root.get("class", "").split()[0] == "flatgrad"
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= TAGS
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on")]
    return root


def text_of(element):
    return "".join(element.itertext())


def cells(root):
    """The names and texts of tables with two columns."""
    rows = [row for row in root.iter("tr") if row.find("th") is not None and row.find("td") is not None]
    return {text_of(row.find("th")): text_of(row.find("td")) for row in rows}


def sections(root):
    """The panes by their titles, and which of them are open."""
    parts = root.findall(".//div[@class='panes']/details")
    found = {text_of(part.find("summary")): text_of(part).partition(text_of(part.find("summary")))[2] for part in parts}
    return found, [part.get("open") is not None for part in parts], {part.get("name") for part in parts}


def title_of(root):
    return text_of(root.find("p/strong"))


def note_of(root):
    return text_of(root.find("p[@class='note']"))


def square(x, y=2.0):
    return (x * y) ** 2


# --- the pieces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", MARKUP, ids=ascii)
def test_markup_is_text(text):
    root = parsed(card(text, code(text), table([text], [[text]]), panes([(text, code("x"))]), note=text))
    shown = text.replace("\x00", "\ufffd")
    assert title_of(root) == note_of(root) == text_of(root.find("pre")) == text_of(root.find(".//td")) == shown
    assert list(sections(root)[0]) == [shown]


def test_tokens_put_together_are_the_source():
    source = fg.value_and_grad(lambda x: x.sin() * 2.0 + x**3).kernel_for(1.0).source
    assert "".join(text for _, text in tokens(source)) == source
    kinds = {kind for kind, _ in tokens(source)}
    assert kinds == {"", "comment", "text", "keyword", "number"}
    assert text_of(ET.fromstring(code(source))) == source.rstrip("\n")


def test_the_panes_of_an_object_close_each_other_and_no_others():
    first, second = (sections(parsed(card("x", panes([("a", "1"), ("b", "2")])))) for _ in range(2))
    assert first[1] == [True, False]
    assert len(first[2]) == len(second[2]) == 1
    assert first[2] != second[2]


def test_numbers_stand_at_the_right():
    root = ET.fromstring(table(["name", "count"], [["a", 1234], ["b", 5]], ("total", 1239)))
    assert [cell.get("class") for cell in root.iter("td")] == [None, "number"] * 3
    assert [text_of(cell) for cell in root.iter("td")] == ["a", "1,234", "b", "5", "total", "1,239"]


def test_the_style_has_both_themes_and_loads_nothing():
    style = text_of(parsed(card("x")).find("style"))
    assert style.count("--flatgrad-ink: ") == 4, "light and dark: by the system, and by the notebook's theme"
    assert "prefers-color-scheme: dark" in style
    assert "url(" not in style
    assert "@import" not in style
    assert all(line.lstrip().startswith((".flatgrad", "@", "[data", "}")) or "  " in line for line in style.split("\n"))


# --- charts -----------------------------------------------------------------------------------------------------------


def points(svg):
    lines = [line for line in ET.fromstring(svg).iter() if line.tag.endswith("polyline")]
    return [[tuple(map(float, pair.split(","))) for pair in line.get("points").split()] for line in lines]


def ticks(svg):
    return [text_of(each) for each in ET.fromstring(svg).iter() if each.tag.endswith("text")]


def test_a_curve_runs_over_the_whole_picture():
    (line,) = points(chart([Curve("loss", [1, 2, 3], [4.0, 2.0, 0.0])], "title", "step"))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert x0 < x1 < x2
    assert y0 < y1 < y2, "downwards, as the numbers"
    assert x2 - x0 > 400
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)


def test_ticks_are_round_numbers():
    svg = chart([Curve("loss", [0, 100], [0.13, 0.87])], "title", "step")
    assert ticks(svg) == ["0", "0.2", "0.4", "0.6", "0.8", "1", "0", "50", "100", "step", "loss"]


def test_losses_over_orders_of_magnitude_are_logarithmic():
    svg = chart([Curve("loss", [1, 2, 3], [1.0, 0.01, 0.0001])], "title", "step")
    ((_, high), (_, middle), (_, low)) = points(svg)[0]
    assert middle == pytest.approx((high + low) / 2, abs=0.1)
    assert ticks(svg)[:5] == ["0.0001", "0.001", "0.01", "0.1", "1"]


@pytest.mark.parametrize("numbers", [[2.0], [2.0, 2.0], [0.0, 0.0], [1e-320, 1e300], [-1.0, 5.0], [1e16, 1e16 + 2]])
def test_odd_curves_are_drawn(numbers):
    for line in points(chart([Curve("loss", list(range(len(numbers))), numbers)], "t", "step")):
        assert all(0 <= x <= 560 and 0 <= y <= 220 for x, y in line)


def test_what_is_not_finite_is_a_gap():
    nan, inf = float("nan"), float("inf")
    lines = points(chart([Curve("loss", range(5), [1.0, 2.0, nan, 3.0, inf])], "t", "step"))
    assert [len(set(line)) for line in lines] == [2, 1]
    assert chart([Curve("loss", [1, 2], [nan, inf])], "t", "step") == ""
    assert chart([Curve("loss", [], [])], "t", "step") == ""


def test_of_a_long_curve_the_peaks_stay():
    numbers = [0.5] * 100_000
    numbers[54_321] = 7.0
    svg = chart([Curve("loss", range(100_000), numbers)], "t", "step")
    assert len(svg) < 12_000
    assert min(y for _, y in points(svg)[0]) < max(y for _, y in points(svg)[0])


# --- Values -----------------------------------------------------------------------------------------------------------


def test_a_value():
    x = Value(2.0, label="x")
    y = x * 3.0
    y.backward()
    assert title_of(parsed(x)) == "Value x"
    assert cells(parsed(x)) == {"data": "2.0", "grad": "3.0"}
    assert title_of(parsed(y)) == "Value"
    assert cells(parsed(y)) == {"data": "6.0", "grad": "1.0", "made by": "* of 2 operands"}
    assert cells(parsed(x**2))["made by"] == "**2 of 1 operand"
    assert title_of(parsed(Value(1.0, label=MARKUP[0]))) == f"Value {MARKUP[0]}"


def test_a_traced_value_shows_the_number_at_hand():
    seen = []
    fg.compile(lambda x: seen.append(x._repr_html_()) or x * 2.0)(1.0)
    assert seen == ["Value(data=1.0)"]


# --- lines of cells ---------------------------------------------------------------------------------------------------


class Compiler:
    """What IPython's shell has as `compile`."""

    def format_code_name(self, name):
        return ("Cell", "In[3]") if name == "/tmp/ipykernel_1/2345.py" else None


def test_lines_of_notebooks_are_named_by_their_cells(monkeypatch):
    shell = types.SimpleNamespace(compile=Compiler())
    for active in (shell, None):
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda active=active: active))
        here = Location("/tmp/ipykernel_1/2345.py", 2)
        assert str(here) == ("In[3]:2" if active else "2345.py:2")
        assert describe(here) == f'\n  File "{"In[3]" if active else here.filename}", line 2'
        assert str(Location("/home/model.py", 7)) == "model.py:7"
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace())
    assert str(here) == "2345.py:2"


# --- programs and kernels ---------------------------------------------------------------------------------------------


def test_a_program_and_its_arrays():
    kernel = fg.grad(lambda x: sum(a * a for a in x), backend="numpy").kernel_for([1.0] * 30)
    root = parsed(kernel.program)
    assert title_of(root) == "Program f"
    assert note_of(root) == f"{len(kernel.program)} equations, 30 inputs"
    assert text_of(root.find("pre")) == kernel.program.abridged(40)
    root = parsed(kernel.arrays)
    assert title_of(root) == "Array program f"
    assert text_of(root.find("pre")) == str(kernel.arrays)


def test_a_large_program_is_abridged():
    program = fg.grad(lambda x: sum(a * a for a in x), backend="python").kernel_for([1.0] * 3_000).program
    text = program.abridged(10)
    assert len(text.split("\n")) == 9 + 1 + 3 + 9 + 1, (
        "the head, the first ones, what is left out, the last ones, return"
    )
    assert text.startswith("program f(")
    assert f"# ... {len(program) - 18:,} lines ..." in text
    assert text.split("\n")[-2:] == str(program).split("\n")[-2:]
    assert len(program._repr_html_()) < 20_000


def test_the_panes_of_a_kernel():
    kernel = fg.value_and_grad(square, backend="python").kernel_for(3.0)
    root = parsed(kernel)
    assert title_of(root) == "Kernel square"
    assert note_of(root) == f"{kernel.stats.equations} equations; 'python' runs: backend='python' was asked for"
    found, is_open, _ = sections(root)
    assert list(found) == ["source", "program", "arrays", "statistics"]
    assert is_open == [True, False, False, False]
    assert found["source"] == kernel.source.rstrip("\n")
    assert found["program"] == str(kernel.program)
    assert found["arrays"] == str(kernel.arrays)
    assert cells(root)["back end"] == "python"
    stats = kernel.stats
    assert cells(root)["equations"] == (
        f"{stats.equations}, {stats.primal} of the value, {stats.adjoint} of the gradient"
    )
    assert cells(parsed(kernel.stats)) == cells(root)


def test_panes_of_what_is_captured_and_of_ways():
    scale = {MARKUP[0]: 2.0}

    def halved(x):
        while x > 1.0:
            x = x / scale[MARKUP[0]]
        return x

    kernel = fg.grad(halved).kernel_for(3.0)
    found, _, _ = sections(parsed(kernel))
    assert list(found) == ["source", "program", "arrays", "statistics", "captured", "way"]
    assert "2.0" in found["captured"]
    assert "True 2 times, then False" in found["way"]
    assert cells(parsed(kernel))["guards"] == "3"


def test_machine_code_shows_its_loops():
    pytest.importorskip("llvmlite")
    kernel = fg.grad(lambda x: sum(a * a for a in x), backend="native").kernel_for([1.0] * 50)
    found, _, _ = sections(parsed(kernel))
    assert found["source"] == screens(kernel.source)
    assert "for i in range(" in found["source"]
    assert "memory" in cells(parsed(kernel))


def test_what_would_take_long_is_not_made_for_a_display(monkeypatch):
    kernel = fg.grad(lambda x: sum(a * a for a in x), backend="numpy").kernel_for([1.0] * 50)
    monkeypatch.setattr("flatgrad.compiler.cards._MANY", 10)
    assert sections(parsed(kernel))[0]["arrays"] == str(kernel.arrays), "it is there"
    del kernel.stages.__dict__["arrays"]
    found, _, _ = sections(parsed(kernel))
    assert "print(kernel.arrays) makes and shows it" in found["arrays"]
    assert "arrays" not in vars(kernel.stages)


def test_kernels_for_all_sizes():
    total = fg.grad(lambda x: sum(a * a for a in x) / len(x), dynamic=True)
    assert total([1.0, 2.0]) == [1.0, 2.0]
    (kernel,) = total.open_kernels
    root = parsed(kernel)
    assert title_of(root) == "OpenKernel f"
    found, _, _ = sections(root)
    assert list(found) == ["source", "arrays", "statistics"]
    assert found["source"] == screens(kernel.source)
    assert text_of(parsed(kernel.arrays).find("pre")) == str(kernel.arrays)
    assert "for every n" in text_of(parsed(total))


def test_a_compiled_graph_is_shown_as_its_kernel():
    x = Value(2.0)
    root = parsed(fg.compile_graph(x * 3.0))
    assert title_of(root).startswith("Kernel ")


# --- functions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [fg.jit, fg.compile, fg.grad, fg.value_and_grad, fg.hessian, fg.vmap])
def test_a_function_before_and_after_its_first_calls(transform):
    function = transform(square)
    root = parsed(function)
    assert title_of(root) == f"flatgrad.{transform.__name__} of square(x, y)"
    assert "backend='auto'. It has not been called yet" in note_of(root)
    assert root.find(".//table") is None
    if transform is fg.vmap:
        function([1.0, 2.0], [3.0, 4.0])
    else:
        function(1.0, 3.0)
    root = parsed(function)
    first = [text_of(cell) for cell in root.find(".//tbody/tr").findall("td")]
    assert first[0] == ("for every n" if transform is fg.vmap else "x: number, y: number")
    kernels = function.open_kernels if transform is fg.vmap else function.kernels
    assert first[2] == f"{kernels[0].stats.equations:,}"
    assert "source" in sections(root)[0]


def test_a_sparse_jacobian():
    pytest.importorskip("scipy")
    function = fg.jacobian(lambda x: [x[0] * x[1], x[2]], sparse=True)
    function([1.0, 2.0, 3.0])
    root = parsed(function)
    assert title_of(root).startswith("flatgrad.jacobian of lambda(x)")
    assert note_of(root).endswith("sparse=True")
    assert len(root.findall(".//tbody/tr")) == 1


def test_a_line_per_kernel():
    function = fg.grad(lambda x, scale=1.0: sum(a * a for a in x) * scale, backend="python", dynamic=False)
    function([1.0])
    function(np.ones(3))
    function([1.0], scale=2.0)
    rows = [[text_of(cell) for cell in row.findall("td")] for row in parsed(function).findall(".//tbody/tr")]
    assert [row[0] for row in rows] == [
        "x: list of 1 numbers",
        "x: array of shape (3,)",
        "x: list of 1 numbers, scale: number",
    ]
    assert [row[1] for row in rows] == ["python"] * 3
    kernels = function.kernels
    assert [row[2] for row in rows] == [f"{kernel.stats.equations}" for kernel in kernels]


def test_a_line_per_way():
    function = fg.jit(lambda x: x * 2.0 if x > 0.0 else -x)
    assert (function(1.0), function(-1.0)) == (2.0, 1.0)
    table_ = text_of(parsed(function).find(".//tbody"))
    assert "x: number; way 1" in table_ or "x: number" in table_
    assert len(parsed(function).findall(".//tbody/tr")) == len(function.kernels)


def test_only_the_last_kernels_are_listed():
    function = fg.jit(lambda x: x[0], backend="python", dynamic=False)
    for size in range(1, 26):
        function([1.0] * size)
    root = parsed(function)
    assert len(root.findall(".//tbody/tr")) == 20
    assert "The last 20 of 25 kernels." in text_of(root)


def test_a_training_step():
    w = Value(1.0, label="w")
    step = nn.train_step(lambda x, y: (w * x - y) ** 2, nn.SGD(0.1), [w])
    step(1.0, 2.0)
    root = parsed(step)
    assert title_of(root) == "flatgrad.nn.train_step of lambda(x, y)"
    assert note_of(root).startswith("optimizer=SGD, ")
    assert "the update" in sections(root)[0]["source"]


# --- models and runs --------------------------------------------------------------------------------------------------


def test_a_summary_is_text_and_a_table():
    model = nn.MLP(2, [16, 1], seed=0)
    summary = model.summary()
    assert isinstance(summary, str)
    assert repr(summary) == str(summary)
    assert summary.splitlines()[0] == "MLP"
    root = parsed(summary)
    assert title_of(root) == "MLP"
    rows = [[text_of(cell) for cell in row.findall("td")] for row in root.iter("tr")][1:]
    assert rows == [
        ["layers.0", "Layer, ReLU", "2 -> 16", "48"],
        ["layers.1", "Layer, Linear", "16 -> 1", "17"],
        ["total", "", "", "65"],
    ]
    assert model._repr_html_() == summary._repr_html_()


def test_the_repr_of_a_large_model_is_short():
    """Micrograd's, up to the size of its largest model."""
    assert repr(nn.Layer(2, 16)) == f"Layer of [{', '.join(['ReLUNeuron(2)'] * 16)}]"
    neuron = "TanhNeuron(5)"
    large = nn.MLP(5, [300, 2], activation="tanh", seed=0)
    assert repr(large).startswith(f"MLP of [Layer of [{neuron}, {neuron}, {neuron}, ... 296 more ..., {neuron}], Layer")


def run(**options):
    w = Value(0.0)
    X, y = [[float(k)] for k in range(8)], [2.0 * k for k in range(8)]
    options = {"seed": 1, "progress": False, "epochs": 5, "batch_size": 2, **options}
    return nn.fit(
        lambda X, y: sum((w * x[0] - t) ** 2 for x, t in zip(X, y, strict=True)) * 0.1, [w], nn.SGD(0.01), X, y,
        **options,
    )  # fmt: skip


def test_a_history_prints_as_one_line():
    history = run()
    first, last = history.epoch_loss[0], history.epoch_loss[-1]
    assert repr(history) == f"<History: 20 steps in 5 epochs, loss {first:.4g} -> {last:.4g}>"
    history = run(epochs=None, steps=2000, batch_size=None)
    assert repr(history) == f"<History: 2,000 steps, loss {history.epoch_loss[0]:.4g} -> {history.epoch_loss[-1]:.4g}>"
    assert repr(nn.History()) == "<History: no steps>"
    interrupted = nn.History(loss=[1.0], interrupted=True, metrics={"accuracy": [0.5, 0.75]})
    assert repr(interrupted) == "<History: 1 step, loss 1 -> 1, accuracy 0.5 -> 0.75, interrupted>"


def test_a_history_as_table_and_picture():
    history = run(validation_split=0.25, metrics={"largest": lambda X, y: float(np.max(y))})
    root = parsed(history)
    assert title_of(root) == "Training run"
    assert note_of(root) == "15 steps in 5 epochs"
    shown = cells(root)
    assert shown["loss"] == f"{history.epoch_loss[0]:.6g} → {history.epoch_loss[-1]:.6g}"
    assert shown["best validation loss"] == f"{min(history.validation_loss):.6g}"
    assert shown["seed"] == "1"
    assert set(shown) == {"loss", "validation loss", "best validation loss", "largest", "seed", "time"}
    pictures = [text_of(each) for each in root.iter() if each.tag.endswith("title")]
    assert pictures == ["Losses by epoch", "largest by epoch"], "a picture per unit"
    names = [text_of(each) for each in root.iter() if each.tag.endswith("}text") and each.get("text-anchor") is None]
    assert names == ["loss of a batch", "loss", "validation loss", "largest"]


def test_a_long_history_is_small():
    assert len(run(epochs=None, steps=20_000)._repr_html_()) < 30_000


SVG = "{http://www.w3.org/2000/svg}"


def test_a_history_as_a_file():
    history = run(validation_split=0.25, metrics={"largest": lambda X, y: float(np.max(y))}, patience=5)
    root = ET.fromstring(history.svg("loss of <a> & b"))
    texts = [text_of(each) for each in root.iter(f"{SVG}text")]
    assert texts[0] == "loss of <a> & b"
    panels = [each for each in root.iter(f"{SVG}g") if each.get("transform")]
    assert len(panels) == 2, "an axis per unit"
    assert [text_of(each.find(f"{SVG}title")) for each in panels] == ["Losses by epoch", "largest by epoch"]
    dashed = [
        each for each in root.iter(f"{SVG}line") if each.get("stroke-dasharray") and each.get("x1") == each.get("x2")
    ]
    assert len({each.get("x1") for each in dashed}) == 1, "the kept epoch is at the same place in both"
    assert texts.count("kept epoch") == len(dashed) == 2
    tops = [float(each.get("transform").split()[1].rstrip(")")) for each in panels]
    assert 0 < tops[0] < tops[1] < float(root.get("height"))


def test_pictures_of_nothing():
    assert ET.fromstring(nn.History().svg()).findall(f".//{SVG}polyline") == []
    nothing = Panel([Curve("loss", [1.0], [float("nan")])], "Losses", "step", mark=Mark("kept", 1.0))
    assert ET.fromstring(picture([nothing])).findall(f".//{SVG}text") == []


def test_histories_without_anything_or_without_numbers():
    assert note_of(parsed(nn.History())) == "no steps"
    assert parsed(nn.History(loss=[float("nan")])).find(".//polyline") is None
    stopped = nn.History(loss=[1.0], stopped_early=True, best_epoch=0, interrupted=True)
    assert title_of(parsed(stopped)) == "Training run, interrupted and stopped early"
    assert cells(parsed(stopped))["best epoch"] == "0"


# --- pictures of programs ---------------------------------------------------------------------------------------------


def boxes(dot):
    """The nodes of a picture as lists of texts, each with the colour of the first one; names of plain nodes; edges."""
    found, plain, edges = {}, {}, []
    for line in dot.body:
        box = re.fullmatch(r'\s*(\w+) \[label=<(.*)> shape=plain style=""\]\n', line)
        node = re.fullmatch(r'\s*(\w+) \[label="(.*?)" shape=plaintext\]\n', line)
        edge = re.match(r"\s*(\w+) -> (\w+)", line)
        if box:
            tds = list(ET.fromstring(box[2]).iter("TD"))
            found[box[1]] = [*map(text_of, tds)], tds[0].get("BGCOLOR")
        elif node:
            plain[node[1]] = node[2]
        elif edge:
            edges.append(edge.groups())
    return found, plain, edges


def test_a_picture_of_a_small_program(graphviz):
    w = Value(2.0, label="w")
    kernel = fg.value_and_grad(lambda x: (w * x).tanh(), backend="python").kernel_for(1.0)
    found, plain, edges = boxes(kernel.draw_dot())
    named = {texts[0]: (texts[1:], colour) for texts, colour in found.values()}
    assert named["x"] == ([], drawing.LEAF)
    assert named["w"] == ([], drawing.PARAMETER)
    assert len(found) == 2 + len(kernel.program)
    for k, equation in enumerate(kernel.program.equations()):
        texts, colour = named[kernel.program.name_of(equation.variable)]
        assert texts[0].startswith(equation.primitive.name)
        assert colour == (drawing.RESULT if k < kernel.program.primal else drawing.GRADIENT)
    assert sorted(plain.values()) == ["return value", "return x_bar"]
    text_at = {name: texts[0] for name, (texts, _) in found.items()}
    assert {text_at[a] for a, b in edges if text_at.get(b) == "v2"} == {"w", "x"}
    assert kernel.draw_dot().graph_attr["rankdir"] == "LR"
    assert kernel.draw_dot("png", "TB", width=4).graph_attr["size"] == "4,1000"


def test_a_picture_of_loops(graphviz):
    model = nn.MLP(2, [16, 1], seed=0)

    def loss(X, y):
        return sum((model(x) - t) ** 2 for x, t in zip(X, y, strict=True))

    kernel = fg.value_and_grad(loss, wrt=model, backend="numpy").kernel_for(np.ones((10, 2)), np.ones(10))
    found, plain, edges = boxes(kernel.draw_dot())
    titles = {texts[0]: (name, colour) for name, (texts, colour) in found.items()}
    assert titles["X[20]"][1] == titles["y[10]"][1] == drawing.LEAF
    assert titles["leaves[65]"][1] == drawing.PARAMETER
    hidden = next(name for title, (name, _) in titles.items() if title.endswith("[10, 16]"))
    sources = {found[a][0][0] for a, b in edges if b == hidden}
    assert sources == {"X[20]", "leaves[65]"}
    assert found[hidden][0][1].startswith("relu(leaves[")
    assert {colour for _, colour in titles.values()} >= {drawing.RESULT, drawing.GRADIENT}
    assert sorted(plain.values()) == ["return gradients", "return value"]
    returned = [a for a, b in edges if plain.get(b) == "return gradients"]
    assert drawing.GRADIENT in {found[name][1] for name in returned}


def test_a_picture_of_rounds(graphviz):
    def swing(x):
        angle, speed = x
        for _ in range(50):
            speed = speed - 0.1 * fg.sin(angle)
            angle = angle + 0.1 * speed
        return angle

    kernel = fg.grad(swing, backend="numpy").kernel_for([1.0, 0.0])
    source = kernel.draw_dot().source
    loops = sum(type(item).__name__ == "Repeat" for item in kernel.arrays.statements)
    assert loops > 0
    assert source.count("subgraph cluster_") == loops
    assert "rounds" in source
    defined = set(re.findall(r"^\s*(\w+) \[label", source, re.MULTILINE))
    used = {name for pair in re.findall(r"^\s*(\w+) -> (\w+)", source, re.MULTILINE) for name in pair}
    assert used <= defined, "no line leads to what is not drawn"


def test_results_that_are_constants(graphviz):
    found, plain, edges = boxes(fg.grad(lambda x: x * 2.0).kernel_for(1.0).draw_dot())
    assert (found, list(plain.values()), edges) == ({}, ["return x_bar = 2.0"], [])


def test_what_is_too_large_is_refused(graphviz):
    program = fg.grad(lambda x: sum(a * a for a in x), backend="python").kernel_for([1.0] * 600).program
    with pytest.raises(fg.OptionError, match=r"at most 500 are drawn; kernel.arrays.draw_dot\(\) draws the loops"):
        program.draw_dot()
    with pytest.raises(fg.OptionError, match="unknown format"):
        fg.grad(lambda x: x * x).kernel_for(1.0).draw_dot("gif")
    with pytest.raises(fg.OptionError, match="unknown rankdir"):
        fg.grad(lambda x: x * x).kernel_for(1.0).draw_dot(rankdir="UP")


@needs_dot
def test_graphviz_draws_programs(graphviz):
    """Operators and brackets of statements are text."""
    small = fg.grad(lambda x: fg.where(x < 1.0, x * x, x)).kernel_for(1.0)
    large = fg.grad(lambda x: sum(fg.where(a < 1.0, a * a, a.exp()) for a in x), backend="numpy").kernel_for([1.0] * 30)
    for kernel in (small, large):
        svg = kernel.draw_dot().pipe(encoding="utf-8")
        shown = [" ".join(text_of(each).split()) for each in ET.fromstring(svg).iter() if each.tag.endswith("}text")]
        assert "return x_bar" in shown
