"""What lines come to, run by run and lane by lane, what they cost; and what can be explained."""

from __future__ import annotations

import json

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.compiler.machine import native
from flatgrad.explain import explained, html
from flatgrad.explain.assembly import sections
from flatgrad.explain.lines import Line
from flatgrad.explain.origins import with_origins
from flatgrad.explain.shown import chosen, program_lines
from flatgrad.explain.source import UNKNOWN
from tests.test_explain import KERNELS, ids_of, layers


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


def total_of(xs):
    total = fg.Value(0.0)
    for x in xs:
        total += x.sin()
    return total


def product_of(xs):
    result = fg.Value(1.0)
    for x in xs:
        result *= x
    return result


def largest_of(xs):
    return max(xs)


def least_of(xs):
    return min(xs)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda xs: sum(x * x for x in xs), "running sums"),
        (total_of, "running sums"),
        (product_of, "running products"),
        (largest_of, "running extremes"),
        (least_of, "running extremes"),
    ],
    ids=["sum", "total", "product", "max", "min"],
)
def test_a_sum_shows_its_result_before_what_is_on_the_way(function, name):
    """The running sums of `sum(...)` and of `total += ...` are no values of the line."""
    numbers = [0.5, 1.5, -2.0, 3.0, 0.25]
    facts = explained(fg.value_and_grad(function).kernel_for(numbers))
    lines = ids_of(facts)
    (line,) = [line for line in facts["panes"]["source"]["lines"] if "running" in line]
    fewest = 2 if name == "running extremes" else 1  # that of one number is the number
    on_the_way = [function([fg.Value(x) for x in numbers[:k]]).data for k in range(fewest, len(numbers))]
    assert [lines[f"e{e}"]["value"] for (e,) in line["results"]] == [function([fg.Value(x) for x in numbers]).data]
    assert [lines[f"e{e}"]["value"] for (e,) in line["running"]] == on_the_way
    assert line["running are"] == name


def test_numbers_that_others_read_are_not_on_the_way():
    """A list of sums has as many numbers; and so has a state that goes on."""

    def sums(xs):
        total, found = fg.Value(0.0), []
        for x in xs:
            total = total + x
            found.append(total)
        return found[-1] * found[1] + found[2]

    def state(x):
        for _ in range(6):
            x = x + 0.1 * x.sin()
        return x

    for function, argument, count in ((sums, [1.0, 2.0, 3.0, 4.0], 4), (state, 1.0, 6)):
        facts = explained(fg.value_and_grad(function).kernel_for(argument))
        assert not any("running" in line for line in facts["panes"]["source"]["lines"])
        assert max(len(line.get("results", ())) for line in facts["panes"]["source"]["lines"]) == count


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


def test_of_very_many_kinds_the_most_frequent_are_shown():
    """Whatever a program is, its text stays short, and says how many equations are left out."""
    joint = with_origins(layers().stages).joint
    shown, complete = chosen(joint, np.arange(len(joint)))  # each equation is of a kind of its own
    assert not complete
    assert len(shown) < 0.6 * len(joint)
    few, complete = chosen(joint, np.zeros(len(joint), dtype=int))
    assert complete
    assert len(few) < len(shown)
    lines = program_lines(joint, {e: Line(str(e), f"e{e}") for e in few}, complete)
    assert sum(line.facts.get("fold", 0) for line in lines) + len(few) == len(joint)


@pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")
def test_long_assembly_is_abridged_and_still_counted(monkeypatch):
    (program,) = layers().stages.arrays
    whole = sections(program, False)
    monkeypatch.setattr("flatgrad.explain.assembly._FEW", 100)
    short = sections(program, False)
    assert [each.instructions for each in short] == [each.instructions for each in whole]
    assert sum(len(each.lines) for each in short) < 0.3 * sum(len(each.lines) for each in whole)
    for a, b in zip(short, whole, strict=True):
        left_out = sum(int(line.text.split()[1]) for line in a.lines if line.text.strip().startswith("..."))
        assert len(a.lines) + left_out == len(b.lines) + bool(left_out)


def test_lines_behind_a_cut_docstring_are_code(tmp_path):
    pytest.importorskip("pygments")
    path = tmp_path / "cut.py"
    text = [
        "def f(x):",
        "    x = x * x",
        *["    # a comment"] * 20,
        '    """',
        "    Text",
        '    """',
        "    return x.sin()",
    ]
    path.write_text("\n".join(["import flatgrad as fg", *text, ""]))
    names = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    page = html(explained(fg.value_and_grad(names["f"]).kernel_for(1.5)))
    (line,) = [line for line in page.splitlines() if "return" in line and "x.sin()" in line]
    data = json.loads(line.partition('id="data">')[2].removesuffix("</script>"))
    colours = [line["html"] for line in data["panes"]["source"]["lines"] if "x.sin()" in line["html"]]
    assert colours
    assert all('class="k"' in each and 'class="s2"' not in each and 'class="sd"' not in each for each in colours)


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


@pytest.mark.parametrize("branch", ["none", "selects", "guards"])
def test_the_gradient_of_a_training_step_has_rules_and_numbers(branch):
    """As that of a function: each equation of it has a rule, and each of the loss the interpreter's gradient."""
    w, b = fg.Value(0.5, label="w"), fg.Value(-0.25, label="b")

    def loss(xs):
        terms = [(w * x + b).tanh() ** 2 for x in xs]
        if branch == "selects":
            terms[1] = terms[1] * w if terms[0] > 0 else terms[1] + b
        elif branch == "guards":
            terms[1] = terms[1].log() if terms[1] > 0 else terms[1] + b
        return sum(terms) / len(terms) * fg.where(w > b, w, b)

    step = fg.nn.train_step(loss, fg.nn.Adam(0.01), [w, b])
    facts = explained(step.prepare([0.5, 1.0, -2.0]))
    lines = ids_of(facts).values()
    assert {line.get("how") for line in lines if line.get("part") == "gradient"} == {"rule", "sum", "result"}
    assert {rule["row"] for rule in facts["rules"]} >= {"tanh", "power", "mul", "add"}
    assert all(line.get("how") in (None, "check") for line in lines if line.get("part") in ("value", "update"))
    root = loss([fg.Value(0.5), fg.Value(1.0), fg.Value(-2.0)])
    root.backward()
    assert [item["gradient"] for item in facts["inputs"] if "gradient" in item] == [w.grad, b.grad]
    nodes, stack = {}, [root]
    while stack:
        node = stack.pop()
        nodes[id(node)] = node
        stack += [operand for operand in node._prev if id(operand) not in nodes]
    known = {(node.data, node.grad) for node in nodes.values()}
    shown = {(line["value"], line["gradient"]) for line in lines if "gradient" in line}
    assert len(shown) > 8
    assert shown <= known
    (added,) = [step for step in facts["steps"] if step["name"] == "adjoint"]
    assert added["counts"]["made by rules"] > 8
    assert added["counts"]["of the update behind it"] == facts["counts"]["of the update"]


def test_a_condition_shows_what_it_was_in_each_round():
    def total(xs):
        result = 0.0
        for x in xs:
            if x > 0.5:
                result = result + x
            else:
                result = result - x.sin()
        while result < 4.0:
            result = result * 2.0
        return result

    facts = explained(fg.value_and_grad(total).kernel_for([0.25, 0.75, 0.5, 1.0]))
    lines = ids_of(facts)
    truths = {
        line["text"].strip(): [lines[f"e{e}"]["value"] for (e,) in line["results"]]
        for line in facts["panes"]["source"]["lines"]
        if "results" in line
    }
    assert truths["if x > 0.5:"] == [False, True, False, True]
    assert truths["while result < 4.0:"] == [True, True, False]


def test_a_condition_that_has_a_name_shows_what_it_was_where_it_decides():
    def total(xs):
        result = 0.0
        for x in xs:
            big = x > 0.5
            if big:
                result = result + x
            else:
                result = result - x.sin()
        return result

    facts = explained(fg.value_and_grad(total).kernel_for([0.25, 0.75, 0.5, 1.0]))
    lines = ids_of(facts)
    found = {line["text"].strip(): line for line in facts["panes"]["source"]["lines"]}
    comparisons = [e for e, line in lines.items() if " greater " in line["text"] and e[0] == "e"]
    for text in ("big = x > 0.5", "if big:"):
        assert [f"e{e}" for (e,) in found[text]["results"]] == comparisons
        assert set(comparisons) <= set(found[text]["links"])
    assert [lines[e]["value"] for e in comparisons] == [False, True, False, True]


def test_a_lane_is_the_equation_of_its_own_line_among_those_with_the_same_number():
    """What two lines compute is computed once, by a loop that shows the first of them."""

    def function(xs):
        first = [x.exp() for x in xs]
        second = [x.exp() * 3.0 for x in xs]
        return first + second

    lines = ids_of(explained(fg.jit(function).kernel_for([0.1 * k for k in range(12)])))
    (loop,) = [line for name, line in lines.items() if name[0] == "l" and "= exp(" in line["text"]]
    (own,) = [line for name, line in lines.items() if name[0] == "s" and line["text"].endswith("[x.exp() for x in xs]")]
    assert len(loop["results"]) == 12
    assert {f"e{e}" for e, *_ in loop["results"]} <= set(own["links"])


@pytest.mark.parametrize("size", [1, 12])
def test_lines_with_the_same_numbers_belong_to_the_loops_of_their_own(size):
    def function(xs):
        doubled = [x * 2.0 for x in xs]
        added = [x + x for x in xs]
        return doubled + added

    lines = ids_of(explained(fg.jit(function).kernel_for([0.1 + 0.1 * k for k in range(size)])))
    loops = {name: line["text"] for name, line in lines.items() if name[0] == "l"}
    for line in [line for name, line in lines.items() if name[0] == "e"]:
        (own,) = [loops[name] for name in line["links"] if name[0] == "l"]
        assert (" mul " in line["text"]) == ("2.0" in own)


def test_lines_without_a_text_say_so(monkeypatch):
    names = {}
    exec("def f(x):\n    return x * x", names)
    facts = explained(fg.grad(names["f"]).kernel_for(2.0))
    assert facts["panes"]["source"]["lines"][1]["text"] == UNKNOWN
    monkeypatch.setattr("flatgrad.explain.source.cell_of", lambda filename: "In[3]" if filename == "<string>" else "")
    assert explained(fg.grad(names["f"]).kernel_for(2.0))["panes"]["source"]["lines"][0]["text"] == "In[3]"


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


def branching(x):
    if x > 10.0:
        return x.log()
    while x < 4.0:
        x = x * x + 1.0
    return x


def test_a_page_says_which_way_it_is_of_and_which_others_are_known(tmp_path):
    function = fg.value_and_grad(branching)
    for x in (20.0, 1.0, 1.5, 3.0, 30.0):
        function(x)
    facts = json.loads(function.explain(tmp_path / "page.json", 3.0).read_text())
    assert len(facts["ways"]) == len(function.ways())
    here, *others = facts["ways"]
    assert here["here"]
    assert not any(each["here"] for each in others)
    lines = {line["id"]: line for line in facts["panes"]["source"]["lines"] if "id" in line}
    told = {lines[name]["text"].strip(): truths for _, truths, name in here["lines"]}
    assert told == {"if x > 10.0:": "False", "while x < 4.0:": "True, then False"}
    assert others[0]["calls"] == 2
    assert [truths for _, truths, _ in others[0]["lines"]] == ["True"]
    first = next(line for line in lines.values() if line["text"].strip() == "if x > 10.0:")
    assert [1, True, "False"] in first["ways"]
    met = {(is_here, truths) for _, is_here, truths in first["ways"]}
    assert met == {(True, "False"), (False, "True"), (False, "False")}
    assert sum(each["calls"] for each in facts["ways"]) == 5


def test_a_line_that_is_asked_again_behind_others_says_its_truths_in_one_piece(tmp_path):
    def sorted_out(xs):
        total = 0.0
        for x in xs:
            if x > 1.0:
                total += x.log()
            elif x > 0.0:
                total -= x**1.5
        return total

    facts = json.loads(fg.value_and_grad(sorted_out).explain(tmp_path / "page.json", [2.0, 0.5, 3.0]).read_text())
    (line,) = [line for line in facts["panes"]["source"]["lines"] if line["text"].strip() == "if x > 1.0:"]
    assert line["ways"] == [[1, True, "True, then False, then True"]]


def test_a_kernel_alone_knows_its_own_way_and_says_where_other_numbers_turn_off():
    function = fg.value_and_grad(branching)
    kernel = function.kernel_for(3.0)
    (here,) = explained(kernel)["ways"]
    assert here["here"]
    assert here["calls"] is None
    facts = explained(kernel, inputs=[20.0])
    assert "they have True, and the way of this page has False" in facts["error"]
    assert ":" in facts["error"].partition(" at ")[2]
    assert explained(fg.grad(lambda x: x * x).kernel_for(1.0))["ways"] == []
