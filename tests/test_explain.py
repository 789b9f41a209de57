"""What a page about a kernel shows: links both ways, numbers with the interpreter's bits, and nothing from outside."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import sys
from html import unescape

import pytest

import flatgrad as fg
from flatgrad.cli import main
from flatgrad.compiler.machine import native
from flatgrad.explain import explained, html, write
from flatgrad.explain.colours import coloured
from flatgrad.explain.origins import with_origins
from flatgrad.explain.passes import follow
from flatgrad.runtime.errors import InputError, MissingExtraError, OptionError
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


@pytest.mark.parametrize("faults", ["raise", "ieee"])
def test_a_gradient_that_folding_makes_constant_is_shown(faults):
    facts = explained(fg.value_and_grad(lambda x: (x * 2.0).detach() + 5.0 * (x * 3.0), faults=faults).kernel_for(2.0))
    assert [item["gradient"] for item in facts["inputs"]] == [15.0]
    lines = {line["text"].partition(" = ")[2]: line for line in facts["panes"]["program"]["lines"]}
    assert lines["mul x 3.0"]["gradient"] == 5.0


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


def test_a_sum_names_the_operand_whose_part_it_adds():
    facts = explained(fg.value_and_grad(lambda x, y: x * y + (y * x).sin(), argnums=(0, 1)).kernel_for(0.5, 2.0))
    sums = [line for line in ids_of(facts).values() if line.get("how") == "sum"]
    added = [(line["receiver"], facts["rules"][line["rule"]]["operand"]) for line in sums]
    assert sorted(added) == [("x", "a"), ("y", "b")]


@pytest.mark.parametrize("faults", ["raise", "ieee"])
def test_what_receives_has_the_number_of_this_program(faults):
    """Guards are numbered in the program that was differentiated, and are gone in that which is shown."""

    def bent(xs):
        total = 0.0
        for x in xs:
            total = total + x.log() * x if x > 1.0 else total - x**1.5
        return total.sin()

    facts = explained(fg.value_and_grad(bent, faults=faults).kernel_for([2.0, 0.5, 3.0]))
    lines = ids_of(facts)
    gradients = {line["text"].split(" = ")[0]: line["gradient"] for line in lines.values() if "gradient" in line}
    gradients |= {each["name"]: each["gradient"] for each in facts["inputs"]}
    received = {}  # the last line of each has its gradient
    for line in lines.values():
        if line.get("how") in ("rule", "sum"):
            received[line["receiver"]] = line["value"]
    assert len(received) > 6
    assert received == {name: gradients[name] for name in received}
    step = next(step for step in facts["steps"] if step["name"] == "adjoint")
    notes = {row["text"]: row["note"] for row in step["rows"]}
    ruled = [line for line in lines.values() if line.get("how") == "rule"]
    assert all(f", here {line['receiver']}, receives" in notes[line["text"]] for line in ruled)


def test_all_lines_of_a_gradient_say_how_they_were_made():
    """Also those that raise where the value would, which nobody reads."""
    facts = explained(fg.grad(lambda x: (x - 0.3) ** 2).kernel_for(0.5))
    lines = [line for line in ids_of(facts).values() if line.get("part") == "gradient"]
    assert {line["how"] for line in lines} == {"rule", "result", "check"}
    step = next(step for step in facts["steps"] if step["name"] == "adjoint")
    new = {row["text"]: row["note"] for row in step["rows"] if row["kind"] == "new"}
    assert {line["text"] for line in lines} == new.keys()
    assert "raises" in new[lines[-1]["text"]]


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
    moved = [(before[k], after[place]) for k, place in enumerate(followed.trail.where.tolist()) if place >= 0]
    assert len(moved) > len(followed.program)
    assert all(same_bits(*map(float, pair)) for pair in moved)
    assert all(same_bits(before[k], number) for k, number in followed.trail.constants.items())


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
