"""What a page about a kernel shows: links both ways, numbers with the interpreter's bits, and nothing from outside."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import subprocess
import sys
from html import unescape

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.cli import main
from flatgrad.compiler.machine import native
from flatgrad.compiler.program.builder import Group, ProgramBuilder
from flatgrad.explain import explained, html, write
from flatgrad.explain.colours import coloured
from flatgrad.explain.javascript import _SPELLINGS, javascript, near
from flatgrad.explain.origins import with_origins
from flatgrad.explain.passes import follow
from flatgrad.runtime.errors import ARITHMETIC_ERRORS, InputError, MissingExtraError, OptionError
from flatgrad.runtime.primitives import TABLE
from tests.bits import same_bits

PANES = ["source", "program", "python", "loops", "assembly"]


def neuron():
    w, b = fg.Value(0.7, label="w"), fg.Value(-0.2, label="b")
    return fg.compile(lambda x: (w * x + b).tanh()).kernel_for(1.5)


def layers():
    rng = random.Random(4)
    weights = [[rng.uniform(-1, 1) for _ in range(6)] for _ in range(20)]

    def loss(rows):
        hidden = [sum(w * x for w, x in zip(ws, row, strict=True)) for row in rows for ws in weights]
        return sum(fg.maximum(h, 0.0) ** 2 for h in hidden)

    rows = [[rng.uniform(-1, 1) for _ in range(6)] for _ in range(8)]
    return fg.value_and_grad(loss).kernel_for(rows)


def pendulum():
    def swing(angle, speed):
        for _ in range(30):
            angle, speed = angle + 0.1 * speed, speed - 0.1 * angle.sin()
        return angle

    return fg.grad(swing, argnums=(0, 1), backend="native").kernel_for(1.0, 0.0)


def branch():
    return fg.value_and_grad(lambda x: x.log() if x > 1 else x * x).kernel_for(2.0)


def plain():
    return fg.jit(lambda x: [x[0] * x[1], x[0] + 1.0]).kernel_for([2.0, 3.0])


def fast():
    return fg.value_and_grad(lambda x: x**2 * 1.0 + x, mode="fast").kernel_for(2.0)


KERNELS = [neuron, layers, pendulum, branch, plain, fast]


def ids_of(facts):
    return {line["id"]: line for pane in facts["panes"].values() for line in pane["lines"] if "id" in line}


@pytest.mark.parametrize("make", KERNELS, ids=lambda make: make.__name__)
def test_links_go_both_ways(make):
    facts = explained(make())
    lines = ids_of(facts)
    assert list(facts["panes"]) == PANES
    assert len(lines) > 3
    for name, line in lines.items():
        for other in line["links"]:
            assert name in lines[other]["links"]
        for key in ("bar", "result"):
            if key in line and facts["counts"]["equations"] <= 400:
                assert line[key] in lines
    assert json.loads(json.dumps(facts, allow_nan=False)) is not None


@pytest.mark.parametrize("make", KERNELS, ids=lambda make: make.__name__)
def test_every_line_of_the_user_leads_to_the_machine(make):
    """From each line that computes something to an equation, and from that to Python and a loop or its gradient."""
    lines = ids_of(explained(make()))
    sources = [line for name, line in lines.items() if name[0] == "s"]
    assert sources
    for line in sources:
        reached = {each[0] for e in line["links"] for each in lines[e]["links"]}
        assert {"s", "p", "l"} <= reached


def test_numbers_have_the_bits_of_the_interpreter():
    x, y = fg.Value(0.3), fg.Value(-1.7)

    def function(x, y):
        product = x * y
        return (product.tanh() + product) * x.exp()

    kernel = fg.value_and_grad(function, argnums=(0, 1)).kernel_for(0.3, -1.7)
    root = function(x, y)
    root.backward()
    facts = explained(kernel)
    lines = [line for line in facts["panes"]["program"]["lines"] if "value" in line]
    joint = with_origins(kernel.stages).joint
    assert all(map(same_bits, [line["value"] for line in lines], joint.evaluate_all([0.3, -1.7])[2:]))
    assert [line["gradient"] for line in facts["inputs"]] == [x.grad, y.grad]
    # The interpreter's nodes, in the order in which they were made.
    nodes, stack = {}, [root]
    while stack:
        node = stack.pop()
        nodes[id(node)] = node
        stack += [operand for operand in node._prev if id(operand) not in nodes]
    inner = {(node.data, node.grad) for node in nodes.values() if node._prev}
    shown = {(line["value"], line["gradient"]) for line in lines if line["part"] == "value"}
    assert shown == inner


def test_a_gradient_that_is_a_constant_is_shown():
    facts = explained(fg.value_and_grad(lambda x: x + 1.0).kernel_for(2.0))
    (line,) = [line for line in facts["panes"]["program"]["lines"] if line.get("part") == "value"]
    assert line["gradient"] == 1.0


def test_each_line_of_the_adjoint_names_its_rule():
    facts = explained(fg.value_and_grad(lambda x, y: (x * y).exp(), argnums=(0, 1)).kernel_for(0.5, 2.0))
    lines = ids_of(facts)
    rule_of = facts["rules"].__getitem__
    rules = {line["text"]: rule_of(line["rule"]) for line in lines.values() if line.get("how") == "rule"}
    assert {rule["row"] for rule in rules.values()} == {"exp", "mul"}
    receives = {(rule["row"], rule["operand"]): rule["receives"] for rule in rules.values()}
    assert receives == {("exp", "x"): "gradient * out", ("mul", "a"): "gradient * b", ("mul", "b"): "gradient * a"}
    for line in lines.values():
        if line.get("how") == "rule":  # it is linked to the equation whose rule that is
            assert any(
                lines[e]["text"].split()[2] == rule_of(line["rule"])["row"] for e in line["links"] if e[0] == "e"
            )


def test_formulas_are_those_of_the_table():
    """A written partial, computed by Python, is the partial that the row computes."""
    from flatgrad.explain.rules import rule_of

    for name, operands in (("tanh", [0.4]), ("sqrt", [2.0]), ("mul", [3.0, 5.0]), ("div", [3.0, 7.0])):
        row = getattr(fg, name, None) or next(r for r in _table() if r.name == name)
        out = row.evaluate(*operands)
        names = dict(zip(row.__signature__.parameters, operands, strict=True))
        for k, partial in enumerate(row.partials):
            text = rule_of(row, k).partial
            assert eval(text, vars(math) | names | {"out": out}) == partial(out, *operands)


def _table():
    from flatgrad.runtime.primitives import TABLE

    return TABLE


def test_texts_are_those_that_kernels_show():
    kernel = fg.value_and_grad(lambda x: (x * 2.0).sin() + x, backend="python").kernel_for(1.0)
    facts = explained(kernel)
    assert "\n".join(line["text"] for line in facts["panes"]["python"]["lines"]) == kernel.source.rstrip("\n")
    kernel = layers()
    facts = explained(kernel)
    assert "\n".join(line["text"] for line in facts["panes"]["loops"]["lines"]) == str(kernel.arrays)


def test_loops_are_linked_to_what_they_compute():
    lines = ids_of(explained(layers()))
    by_text = {line["text"].split("=")[0].strip().split("[")[0]: line for name, line in lines.items() if name[0] == "l"}
    powers = [
        line for name, line in lines.items() if name[0] == "e" and "power" in line["text"] and line["part"] == "value"
    ]
    maxima = [line for name, line in lines.items() if name[0] == "e" and "maximum" in line["text"]]
    owners = [{o for o in line["links"] if o[0] == "l"} for line in (*powers, *maxima)]
    assert len(by_text) > 3
    assert all(len(each) == 1 for each in owners)
    (one,) = {each.pop() for each in owners[: len(powers)]}
    assert "** 2.0" in lines[one]["text"]
    assert all("maximum" in lines[each.pop()]["text"] for each in owners[len(powers) :])


def test_zeros_belong_to_the_loops_that_compute_them():
    """Where units are off, numbers are 0 in many loops, and the equations belong where those of other units do."""
    rng = random.Random(3)
    weights = [[[rng.gauss(0, 1) for _ in range(n)] for _ in range(m)] for n, m in ((2, 9), (9, 8), (8, 1))]
    rows = [[rng.gauss(0, 1) for _ in range(2)] for _ in range(20)]

    def loss(weights):
        total = 0.0
        for x in rows:
            for layer in weights:
                x = [sum(w * a for w, a in zip(ws, x, strict=True)).relu() for ws in layer]
            total = total + x[0]
        return total

    lines = ids_of(explained(fg.value_and_grad(loss).kernel_for(weights)))
    found = {}
    for name, line in lines.items():
        if name[0] == "e" and line["part"] == "gradient" and line["text"].split()[2] in ("greater", "where"):
            (loop,) = (lines[other]["text"] for other in line["links"] if other[0] == "l")
            found.setdefault(loop, []).append(line["value"])
    assert len(found) == 3  # one loop per layer
    assert all("where(greater(" in loop for loop in found)
    assert any(value == 0.0 for values in found.values() for value in values)


@pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")
def test_instructions_of_straight_line_code_are_linked_to_equations():
    facts = explained(neuron())
    lines = ids_of(facts)
    calls = [line for line in facts["panes"]["assembly"]["lines"] if "tanh" in line["text"]]
    assert calls
    for line in calls:
        assert ["tanh" in lines[name]["text"] for name in line["links"]] == [True]
    loops = ids_of(explained(layers()))
    heads = {name for name in loops if name[0] == "a"}
    statements = [line for name, line in loops.items() if name[0] == "l"]
    assert all(heads & set(line["links"]) for line in statements)


def test_a_line_that_runs_often_shows_all_its_numbers():
    """Each neuron's sum, and both numbers of each round of a pendulum, with the interpreter's bits."""
    weights, inputs = [[0.5, -0.25], [2.0, 1.0], [-1.5, 3.0]], [1.5, -0.75]

    def layer(weights, inputs):
        return sum([sum(w * x for w, x in zip(row, inputs, strict=True)).tanh() for row in weights])

    def swing(angle, speed):
        for _ in range(30):
            angle, speed = angle + 0.1 * speed, speed - 0.1 * angle.sin()
        return angle

    def numbers_of(facts, line):
        lines = ids_of(facts)
        items = [[e, None, lines[f"e{e}"]["value"]] if f"e{e}" in lines else [e, *more] for e, *more in line["results"]]
        return [item[2] for item in items]

    facts = explained(fg.value_and_grad(layer).kernel_for(weights, inputs))
    (line,) = [line for line in facts["panes"]["source"]["lines"] if "results" in line]
    sums = [fg.Value(0.0) + sum(w * x for w, x in zip(row, inputs, strict=True)) for row in weights]
    assert numbers_of(facts, line)[-1] == sum(s.tanh() for s in sums).data
    facts = explained(fg.value_and_grad(swing, argnums=(0, 1)).kernel_for(1.0, 0.25))
    (line,) = [line for line in facts["panes"]["source"]["lines"] if "results" in line]
    angle, speed, expected = fg.Value(1.0), fg.Value(0.25), []
    for _ in range(30):
        angle, speed = angle + 0.1 * speed, speed - 0.1 * angle.sin()
        expected += [angle.data, speed.data]
    expected.pop()  # nothing reads the last speed
    assert line["count"] == len(expected) == 59
    assert numbers_of(facts, line) == expected[:20] + expected[-20:]


def test_lanes_have_the_numbers_of_the_program():
    kernel = layers()
    facts = explained(kernel)
    lines = ids_of(facts)
    (loop,) = [line for name, line in lines.items() if name[0] == "l" and "= maximum" in line["text"]]
    assert loop["lanes"] == loop["count"] == 160
    joint = with_origins(kernel.stages).joint
    numbers = joint.evaluate_all(list(kernel.traced_at))[joint.inputs :]
    maxima = [numbers[e] for e in range(joint.primal) if joint.equation(e).primitive.name == "maximum"]
    shown = [lines[f"e{e}"]["value"] if f"e{e}" in lines else more[1] for e, *more in loop["results"]]
    assert shown == maxima[:6] + maxima[-6:]


@pytest.mark.parametrize("make", KERNELS, ids=lambda make: make.__name__)
def test_costs_add_up(make):
    """Each text says how many equations its lines are; all of them together are all there are."""
    facts = explained(make())
    for name in ("python", "loops"):
        if not any("fold" in line for line in facts["panes"][name]["lines"]):
            pane = facts["panes"][name]
            assert sum(line.get("cost", 0) for line in pane["lines"]) == pane["cost"]
    equations = facts["counts"]["equations"]
    located = sum(line.get("cost", 0) for line in facts["panes"]["source"]["lines"])
    assert 0.5 * equations < located <= equations
    assert 0 < facts["panes"]["python"]["cost"] <= equations


def test_long_programs_are_folded():
    facts = explained(layers())
    shown = [line for line in facts["panes"]["program"]["lines"] if "id" in line]
    folds = sum(line.get("fold", 0) for line in facts["panes"]["program"]["lines"])
    assert facts["counts"]["equations"] > 3_000
    assert len(shown) + folds == facts["counts"]["equations"]
    assert len(shown) < 400
    assert len(html(facts)) < 500_000


def test_variables_are_followed_through_passes_by_their_numbers():
    """Where a variable goes there is its number, to the last bit."""
    kernel = layers()
    joint = with_origins(kernel.stages).joint
    inputs = list(kernel.traced_at)
    followed = follow(kernel.stages.options.joint_passes, joint)
    before, after = joint.evaluate_all(inputs), followed.program.evaluate_all(inputs)
    moved = [(before[k], after[place]) for k, place in enumerate(followed.where.tolist()) if place >= 0]
    assert len(moved) > len(followed.program)
    assert all(same_bits(*map(float, pair)) for pair in moved)
    assert all(same_bits(before[k], number) for k, number in followed.constants.items())


def test_the_page_needs_nothing_from_outside():
    text = html(explained(neuron()))
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"\s(src|href)=\"(?!data:)", text.partition('id="data"')[0])
    assert "@import" not in text
    assert "url(" not in text


def test_texts_of_users_cannot_end_the_script():
    nasty = '</script><img src=x onerror="alert(1)">'
    w = fg.Value(2.0, label=nasty)

    def function(x):
        return x * w  # </script><b>

    function.__name__ = nasty
    facts = explained(fg.compile(function).kernel_for(3.0))
    assert "</script><b>" in "".join(line["text"] for line in facts["panes"]["source"]["lines"])
    text = html(facts)
    assert text.count("</script") == 2
    assert "<img" not in text
    title = re.search("<title>(.*)</title>", text)
    assert title
    assert "<" not in title[1]


def test_without_pygments_and_graphviz_it_is_plain(monkeypatch):
    kernel = neuron()
    monkeypatch.setitem(sys.modules, "pygments", None)
    monkeypatch.setitem(sys.modules, "graphviz", None)
    facts = explained(kernel)
    assert facts["graph"] == ""
    assert coloured(["x < 1"], "python") == ["x &lt; 1"]
    assert html(facts).startswith("<!doctype html>")


def test_colours_keep_the_lines():
    pytest.importorskip("pygments")
    texts = ["def f(x):", '    """Two', '    lines."""', "", "    return x  # <b>"]
    lines = coloured(texts, "python")
    assert len(lines) == len(texts)
    assert "&lt;b&gt;" in lines[-1]
    plain = [re.sub("<.*?>", "", line).replace("&lt;", "<").replace("&gt;", ">") for line in lines]
    assert plain == texts


def test_the_graph_is_drawn_with_ids_of_equations():
    pytest.importorskip("graphviz")
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    facts = explained(neuron())
    lines = ids_of(facts)
    nodes = re.findall(r'id="g-(e\d+|i\d+)"', unescape(facts["graph"]))
    assert sum(name[0] == "i" for name in nodes) == 3
    assert {name for name in nodes if name[0] == "e"} == {n for n, line in lines.items() if line.get("part") == "value"}
    assert "<script" not in facts["graph"]


def test_the_graph_of_a_large_program_is_that_of_its_loops():
    pytest.importorskip("graphviz")
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    for make in (layers, pendulum):
        facts = explained(make())
        graph, lines = unescape(facts["graph"]), ids_of(facts)
        nodes = set(re.findall(r'id="g-(\w+)"', graph))
        assert {name for name in nodes if name[0] == "l"} <= set(lines)
        assert any(name[0] == "i" for name in nodes)
        edges = re.findall(r'class="edge from-(\w+) to-(\w+)"', graph)
        assert edges
        assert {name for edge in edges for name in edge} <= nodes
        for start, end in edges:  # a loop names what it reads
            if start[0] == "l" and "straight-line" not in lines[start]["text"] + lines[end]["text"]:
                name = re.match(r"\w+", lines[start]["text"].strip())[0]
                assert re.search(rf"\b{name}\b", lines[end]["text"]) or make is pendulum


def test_long_names_and_numbers_have_room_in_the_graph():
    pytest.importorskip("graphviz")
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    w = fg.Value(-1.23456789e-10, label="a_very_long_name_of_a_weight_of_the_second_layer")
    facts = explained(fg.compile(lambda x: (w * x).tanh()).kernel_for(1e300))
    for node in re.findall(r'<g id="g-.*?</g>', facts["graph"], re.DOTALL):
        corners = [float(x) for x in re.findall(r"(-?[\d.]+),-?[\d.]+", re.search(r' d="(.*?)"', node)[1])]
        texts = [unescape(text) for text in re.findall(r">([^<>]+)</text>", node)]
        size = float(re.search(r'font-size="([\d.]+)"', node)[1])
        assert max(map(len, texts)) * 0.61 * size + 8 < max(corners) - min(corners), texts
    assert "…" in unescape(facts["graph"])


def test_the_trace_as_a_picture():
    facts = explained(layers())
    spy = facts["spy"]
    assert spy["url"].startswith("data:image/png;base64,iVBOR")
    assert len(spy["rows"]) == spy["height"]
    assert len(spy["spans"]) == len(spy["loops"])
    assert all(0 <= first <= last < facts["counts"]["equations"] for count, first, last in spy["spans"] if count)
    assert 0 < sum(count for count, _, _ in spy["spans"]) <= facts["counts"]["equations"]
    assert len({row for row in spy["rows"] if row >= 0}) > 3
    assert set(spy["loops"]) <= set(ids_of(facts))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_has_the_numbers_of_python(tmp_path):
    def function(x, y):
        a = (x * y - 1.0).tanh() + fg.maximum(x, y) / (y * y + 1.0)
        b = fg.where(x > y, x.exp(), y.relu()) + fg.sqrt(x * x + 1.0) ** 3
        return a * b + abs(x).log1p() - fg.sigmoid(y) + fg.softplus(x)

    facts = explained(fg.value_and_grad(function, argnums=(0, 1)).kernel_for(0.6, -1.3))
    joint = with_origins(fg.value_and_grad(function, argnums=(0, 1)).kernel_for(0.6, -1.3).stages).joint
    points = [[0.6, -1.3], [-2.0, 0.25], [1e-3, 40.0]]
    script = tmp_path / "program.js"
    code = facts["javascript"]["code"]
    script.write_text(f"const f = {code};\nconsole.log(JSON.stringify({points}.map(f)));\n")
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, check=True, timeout=60)
    for point, found in zip(points, json.loads(done.stdout), strict=True):
        expected = joint.evaluate_all(point)
        np.testing.assert_allclose([float(n) for n in found], [float(n) for n in expected], rtol=1e-13, atol=1e-300)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_of_arithmetic_has_pythons_bits(tmp_path):
    kernel = fg.value_and_grad(lambda x, y: (x * y + 0.1) / 3.0 - fg.div(x, y) * x, argnums=(0, 1)).kernel_for(0.7, 1.9)
    facts, joint = explained(kernel), with_origins(kernel.stages).joint
    if "Math.pow" in facts["javascript"]["code"]:
        pytest.fail("a power is no arithmetic")
    script = tmp_path / "program.js"
    script.write_text(f"console.log(JSON.stringify(({facts['javascript']['code']})([0.7, 1.9])))")
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, check=True, timeout=60)
    assert all(map(same_bits, map(float, json.loads(done.stdout)), joint.evaluate_all([0.7, 1.9])))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_has_all_functions_of_the_table(tmp_path):
    """Each row, at points of its domain: with Python's bits where it is arithmetic, else within a few units."""
    columns = {1: [[x] for x in (0.1, 0.37, 0.62, 0.9)], 2: [[7.5, 2.0], [0.3, 0.45], [2.0, 3.5], [-7.5, 2.0]]}
    scripts, expected = [], []
    for row in TABLE:
        kinds = set(row.operand_kinds)
        if row in _SPELLINGS and kinds == {"f"} and row.result == "f" and row.arity in columns:
            builder = ProgramBuilder("f", [Group("x", row.arity, False)])
            program = builder.finish([builder.append(row.opcode, list(range(row.arity)))])
            for point in columns[row.arity]:
                try:
                    number = program.evaluate(point)[0]
                except ARITHMETIC_ERRORS:
                    continue
                if math.isfinite(number):
                    scripts.append(f"({javascript(program)})({point})[{row.arity}]")
                    expected.append((row, point, number, not near(program)))
    points = [k / 7 - 9.0 for k in range(150)]
    builder = ProgramBuilder("f", [Group("x", 1, False)])
    program = builder.finish([builder.emit("erf", 0), builder.emit("erfc", 0)])
    for x in points:
        for k, function in enumerate((math.erf, math.erfc)):
            scripts.append(f"({javascript(program)})([{x!r}])[{1 + k}]")
            expected.append((function, x, function(x), False))
    script = tmp_path / "rows.js"
    script.write_text("console.log(JSON.stringify([" + ",\n".join(scripts) + "]))")
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, check=True, timeout=60)
    for (row, point, number, exact), found in zip(expected, json.loads(done.stdout), strict=True):
        assert found == (number if exact else pytest.approx(number, rel=1e-13)), (row, point)
    assert len({item[0] for item in expected}) > 60


def test_what_javascript_does_not_know_has_no_sliders():
    cubed = fg.primitive("cubed_elsewhere", lambda x: math.pow(x, 3.0), (lambda out, x: 3.0 * x * x,))
    facts = explained(fg.value_and_grad(cubed).kernel_for(0.5))
    assert facts["javascript"]["code"] == ""
    assert "cubed" in facts["javascript"]["why"]
    assert "10,001 inputs" in (explained(fg.jit(lambda x: x[0] * x[1]).kernel_for([1.0] * 10_001))["javascript"]["why"])
    assert all(isinstance(text, str) for text in _SPELLINGS.values())


def test_numbers_can_be_given():
    kernel = fg.value_and_grad(lambda x: x * x).kernel_for(3.0)
    assert explained(kernel, inputs=[5.0])["inputs"][0]["gradient"] == 10.0
    with pytest.raises(InputError, match="inputs must be 1 numbers"):
        explained(kernel, inputs=[5.0, 6.0])


def test_where_the_program_raises_there_are_no_numbers():
    kernel = fg.value_and_grad(lambda x: x.log()).kernel_for(1.0)
    facts = explained(kernel, inputs=[-1.0])
    assert all("value" not in line for line in facts["panes"]["program"]["lines"])
    assert facts["error"].startswith("log(-1.0): ")
    assert html(facts)
    assert explained(kernel, inputs=[1.0])["error"] == ""


def test_a_graph_is_explained():
    x, y = fg.Value(2.0), fg.Value(3.0)
    facts = explained(fg.compile_graph(x * y + x, [x, y]).kernel)
    assert [line["value"] for line in facts["inputs"]] == [2.0, 3.0, 1.0]


def test_a_training_step_is_explained(tmp_path):
    """With the numbers of the step that comes next, and with an equation for each number of the update."""
    w, b = fg.Value(0.5, label="w"), fg.Value(-0.25, label="b")

    def loss(xs, ys):
        return sum((w * x + b - y) ** 2 for x, y in zip(xs, ys, strict=True))

    step = fg.nn.train_step(loss, fg.nn.Adam(0.01), [w, b])
    batch = [0.5, 1.0, -2.0], [1.0, 0.0, 0.5]
    step(*batch)
    before = step.numbers
    facts = json.loads(step.explain(tmp_path / "step.json", *batch).read_text())
    assert [item["value"] for item in facts["inputs"] if item["name"] in ("w", "b")] == before == step.numbers
    values = {line["value"] for line in ids_of(facts).values() if "value" in line}
    expected = step(*batch)
    assert {expected, *step.numbers} <= values
    counts = facts["counts"]
    parts = counts["of the value"], counts["of the gradient"], counts["of the update"]
    assert min(parts) > 0
    assert sum(parts) == counts["equations"]
    assert step.prepare(*batch).explain(tmp_path / "again.html").stat().st_size > 10_000


def test_a_kernel_for_all_sizes_is_explained_at_one(tmp_path):
    f = fg.value_and_grad(lambda x: sum(a * a for a in x), dynamic=True)
    for size in (3, 4, 5):
        f([1.0] * size)
    (kernel,) = f.open_kernels
    facts = json.loads(kernel.explain(tmp_path / "all.json").read_text())
    size = len(facts["inputs"])
    assert facts["note"].startswith(f"This kernel is for every n. The page shows n = {size}, ")
    assert {line["value"] for line in ids_of(facts).values() if "value" in line} >= {float(k) for k in range(1, size)}
    facts = json.loads(f.explain(tmp_path / "four.json", [1.0, 2.0, 3.0, 4.0]).read_text())
    assert [item["gradient"] for item in facts["inputs"]] == [2.0, 4.0, 6.0, 8.0]


def test_whatever_is_compiled_is_explained(tmp_path):
    """Functions at the numbers that are given, not those that their kernel was made for; methods; graphs."""

    class Line:
        def __init__(self):
            self.slope = fg.Value(3.0)

        @fg.value_and_grad
        def at(self, x):
            return self.slope * x

    def inputs_of(path):
        return [item["value"] for item in json.loads(path.read_text())["inputs"]]

    path = tmp_path / "page.json"
    for transform in (fg.grad, fg.value_and_grad, fg.jit, fg.compile, fg.hessian, fg.jacobian):
        f = transform(lambda x: x.sin() * x if x > 0 else x * x)
        f.kernel_for(2.0)
        assert inputs_of(f.explain(path, 0.5))[0] == 0.5
        assert inputs_of(f.explain(path, -0.5))[0] == -0.5
    sparse = fg.hessian(lambda x: x[0] ** 2 + x[1] ** 3, sparse=True)
    assert inputs_of(sparse.explain(path, [1.0, 2.0])) == [1.0, 2.0]
    assert inputs_of(fg.vmap(lambda x: x * x).explain(path, [1.0, 2.0])) == [1.0, 2.0]
    x = fg.Value(2.0)
    assert inputs_of(fg.compile_graph(x * x + x).explain(path))[0] == 2.0
    assert 3.0 in inputs_of(Line().at.explain(path, 0.5))


def test_numbers_of_another_way_are_told_of():
    f = fg.value_and_grad(lambda x: x.log() if x > 1 else x * x)
    facts = explained(f.kernel_for(2.0), inputs=[0.5])
    assert "go another way" in facts["error"]
    assert all("value" not in line for line in ids_of(facts).values())


def test_paths_and_sizes_are_checked(tmp_path, monkeypatch):
    kernel = neuron()
    with pytest.raises(OptionError, match="the suffix must be"):
        kernel.explain(tmp_path / "page.txt")
    assert json.loads(kernel.explain(tmp_path / "page.json").read_text())["name"] == kernel.name
    assert write(kernel, tmp_path / "page.html").stat().st_size < 200_000
    monkeypatch.setattr("flatgrad.explain.model.LIMIT", 5)
    with pytest.raises(OptionError, match="pages show up to 5"):
        kernel.explain(tmp_path / "page.html")


# --- the command line -------------------------------------------------------------------------------------------------


def test_an_expression_is_explained(tmp_path, capsys):
    path = tmp_path / "page.html"
    assert main(["explain", "tanh(w*x + b)", "--at", "x=2", "--out", str(path)]) == 0
    assert "written" in capsys.readouterr().out
    assert "tanh(w*x + b)" in path.read_text()


def test_data_can_be_printed(capsys):
    assert main(["explain", "-x * y", "--at", "y=4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["inputs"][1]["value"] == 4.0
    assert facts["panes"]["source"]["lines"][0]["text"] == "-x * y"


def test_the_command_shows_what_runs_by_default(tmp_path, capsys):
    """In front of it, a training step and a graph of a script; behind it, machine code where there is any."""
    script = tmp_path / "own_step.py"
    script.write_text(
        "import flatgrad as fg\n\nw = fg.Value(0.5)\n\n"
        "step = fg.nn.train_step(lambda x: (w * x - 1.0) ** 2, fg.nn.SGD(0.1), [w])\n"
        "graph = fg.compile_graph(w * w)\n\n"
        "def total(x):\n    return sum(fg.exp(a) * a for a in x)\n"
    )
    assert main(["explain", f"{script}:step", "2.0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["of the update"] > 0
    assert main(["explain", f"{script}:graph", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"][0]["value"] == 0.5
    assert main(["explain", f"{script}:total", "zeros(400)", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["backend"] == "native") == native.available()


def test_a_function_of_a_script_is_explained(tmp_path, capsys):
    script = tmp_path / "own_model.py"
    script.write_text("def plain(x, y):\n    return x * y\n")
    assert main(["explain", f"{script}:plain", "0.5", "7.0", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [item["value"] for item in facts["inputs"]] == [0.5, 7.0]
    assert facts["panes"]["source"]["lines"][0]["text"] == "own_model.py"
    assert main(["explain", f"{script}:plain", "0.5", "7.0", "--at", "y=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"][1]["value"] == 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give an expression"),
        (["x", "--moons"], "give an expression"),
        (["x*x", "--at", "y=1"], "there is no input y; there are x"),
        (["x*x", "--at", "x"], "--at expects NAME=NUMBER"),
    ],
)
def test_wrong_commands_are_explained(arguments, message, capsys):
    assert main(["explain", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_missing_extras_are_no_error_of_a_page():
    assert issubclass(MissingExtraError, ImportError)
