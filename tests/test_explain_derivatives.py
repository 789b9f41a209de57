"""Derivatives inside of what is traced, on a page about a kernel: their rules, their links, and what is not known."""

from __future__ import annotations

import functools
import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.explain import explained
from flatgrad.explain.origins import with_origins
from flatgrad.runtime.primitives import TABLE
from tests.test_explain import ids_of

CHECKS = "checked", "logical_not", "equal", "abs", "between", "logical_or"
POINT, DIRECTION = [0.5, 0.7, 1.5], [1.0, -0.5, 0.25]


def smooth(x):
    a = (x[0] * x[1].sin()).tanh() + x[2] * x[0]
    b = a * x[1] + fg.where(a > 0.5, a * x[2], x[0])
    return b * b


def branch(x):
    return smooth(x) * x[0] if x[1] > 0.25 else x[0]


def hessian():
    return fg.hessian(smooth).kernel_for(POINT)


def hessian_of_a_branch():
    return fg.hessian(branch).kernel_for(POINT)


def hessian_by_sweeps_back():
    return fg.hessian(smooth, direction="reverse").kernel_for(POINT)


def jacobian():
    return fg.jacobian(lambda x: [smooth(x), x[0] * x[1], x[2].exp()]).kernel_for(POINT)


def wide_jacobian():
    return fg.jacobian(lambda x: [smooth(x), x[0] * x[1]]).kernel_for(POINT)


def product():
    return fg.hvp(smooth).kernel_for(POINT, DIRECTION)


def along():
    return fg.jit(lambda x, v: fg.jvp(smooth, (x,), (v,))).kernel_for(POINT, DIRECTION)


def back():
    return fg.jit(lambda x: fg.vjp(smooth, x)[1](1.0)).kernel_for(POINT)


def twice():
    return fg.grad(lambda x: fg.sum(fg.grad(smooth)(x))).kernel_for(POINT)


def of_a_product():
    return fg.grad(lambda x: fg.sum(fg.hvp(smooth)(x, DIRECTION))).kernel_for(POINT)


def steep():
    """The gradient raises where the value would: what is checked comes in the order of the program, line by line."""

    def rosenbrock(x):
        return sum(100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 for a, b in itertools.pairwise(x))

    return fg.hessian(rosenbrock).kernel_for([*POINT, 0.3, 1.1])


def row_by_row():
    """Gradients of rows that go different ways."""
    return fg.jit(lambda rows: [fg.grad(branch)(row) for row in rows]).kernel_for([POINT, POINT[::-1], [0.1, 0.2, 3.0]])


def in_each_round():
    def descended(x):
        for _ in range(5):
            x = x - 0.01 * fg.grad(lambda q: (q * q).sin() * q)(x)
        return x

    return fg.jit(descended).kernel_for(0.5)


def fast():
    return fg.hessian(smooth, mode="fast").kernel_for(POINT)


KERNELS = [
    hessian, hessian_of_a_branch, hessian_by_sweeps_back, jacobian, wide_jacobian, product, along, back, twice,
    of_a_product, fast, steep, row_by_row, in_each_round,
]  # fmt: skip


@pytest.mark.parametrize("make", KERNELS, ids=lambda make: make.__name__)
def test_each_equation_of_a_derivative_has_its_rule(make):
    """And it is linked to the equation whose rule that is, if the program still has it."""
    kernel = make()
    facts = explained(kernel)
    lines = ids_of(facts)
    equations = {name: line for name, line in lines.items() if name[0] == "e"}
    operations = {name: line["text"].split()[2] for name, line in equations.items()}
    derived = {name: line for name, line in equations.items() if line["part"] == "gradient" and "how" in line}
    assert len(derived) >= 5
    assert all(operations[name] in CHECKS for name, line in derived.items() if line["how"] == "check")
    assert facts["counts"]["of the derivatives"] == sum(line["part"] == "gradient" for line in equations.values())
    for name, line in equations.items():
        if name not in derived:
            assert line["part"] == "value"
    ruled = [(line, facts["rules"][line["rule"]]) for line in derived.values() if "rule" in line]
    assert ruled
    for line, rule in ruled:
        assert ("of" not in line) or line["of"] == rule["of"]
        rows = {operations[other] for other in line["links"] if other[0] == "e"}
        assert rule["row"] in rows or line.get("lost"), (line, rule)
    assert any(not line.get("lost") for line, _ in ruled) or make is wide_jacobian


@pytest.mark.parametrize("make", [hessian, jacobian, along, fast], ids=lambda make: make.__name__)
def test_tangents_are_those_of_the_variables_that_they_are_said_to_be_of(make):
    """Among the lines that belong to a variable are its derivatives, by differences of numbers of the program."""
    kernel = make()
    joint, facts = with_origins(kernel.stages).joint, explained(kernel)
    lines = [line for line in facts["panes"]["program"]["lines"] if line.get("of") == "tangent"]
    at = list(kernel.traced_at)
    every = joint.evaluate_all(at)
    names = {joint.name_of(variable): variable for variable in range(joint.inputs + len(joint))}
    directions = [DIRECTION] if make is along else [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    about, checked = functools.partial(pytest.approx, rel=1e-4), 0
    for name in {line["receiver"] for line in lines if "receiver" in line}:
        own = [line["value"] for line in lines if line.get("receiver") == name]
        ruled = [line["rule"] for line in lines if line.get("receiver") == name and "rule" in line]
        rows = {facts["rules"][k]["row"] for k in ruled}
        for direction in directions:
            ends = []
            for step in (1e-5, -1e-5):
                moved = [a + step * d for a, d in zip(at, direction, strict=False)] + at[3:]
                ends.append(joint.evaluate_all(moved)[names[name]])
            slope = (ends[0] - ends[1]) / 2e-5
            if abs(slope) > 1e-3 and abs(slope - 1.0) > 1e-3:
                checked += slope in map(about, own)
                # What one operand alone gives to a sum is passed on, without an equation; also if it is an input.
                assert slope in map(about, own if rows <= {"tanh", "sin", "cos", "exp"} and rows else every), name
    assert checked > 8 if make is not jacobian else checked > 4


def test_gradients_are_those_of_the_variables_that_they_are_said_to_be_of():
    numbers = [fg.Value(number) for number in POINT]
    root = smooth(numbers)
    root.backward()
    nodes, stack = {}, [root]
    while stack:
        node = stack.pop()
        nodes[id(node)] = node
        stack += [operand for operand in node._prev if id(operand) not in nodes]
    kernel = back()
    joint = with_origins(kernel.stages).joint
    values = joint.evaluate_all(list(kernel.traced_at))
    names = {joint.name_of(variable): variable for variable in range(joint.inputs + len(joint))}
    finished = {}  # the last line of a variable has its gradient
    for line in explained(kernel)["panes"]["program"]["lines"]:
        if line.get("of") == "gradient" and "receiver" in line:
            finished[line["receiver"]] = line["value"]
    pairs = {(values[names[name]], value) for name, value in finished.items()}
    assert len(pairs) > 6
    assert pairs & {(node.data, node.grad) for node in nodes.values()} == pairs


def test_of_several_derivatives_each_has_a_value_of_its_own():
    """Three gradients in a sum: the sine and the cosine are there three times, the one of the value, the other not."""
    kernel = fg.jit(lambda x: fg.sum([fg.grad(lambda y: y.sin() * y)(a) for a in x])).kernel_for(POINT)
    lines = [line for name, line in ids_of(explained(kernel)).items() if name[0] == "e"]
    assert [line["part"] for line in lines if " sin " in line["text"]] == ["value"] * 3
    assert [line["part"] for line in lines if " cos " in line["text"]] == ["gradient"] * 3


def test_a_title_is_the_function_of_the_user():
    """Also where the value drops out of the program, and with it each line of the user's."""

    def pair(x):
        return [x[0] * 3.0, x[1] * x[0]]

    facts = explained(fg.jacobian(pair).kernel_for(POINT))
    (line,) = facts["panes"]["source"]["lines"]
    assert re.fullmatch(r"`?pair`? \(test_explain_derivatives\.py:\d+\)", line["text"])
    for make in (product, along, twice):
        assert "test_explain_derivatives.py" in explained(make())["title"]


@pytest.mark.parametrize("make", KERNELS, ids=lambda make: make.__name__)
def test_the_program_of_a_page_is_that_of_the_kernel(make):
    """Equation by equation, in the same order and with the same lines."""
    stages = make().stages
    shown = with_origins(stages).joint
    assert str(shown) == str(stages.joint)


def scanned(x):
    """Some steps of a descent, in a loop whose rounds are not written out."""

    def step(x, _):
        return x - 0.01 * fg.grad(lambda q: (q * q).sin() * q)(x), None

    return fg.scan(step, x, None, length=400)[0]


@pytest.mark.parametrize("backend", ["auto", "python"])
def test_a_training_step_tells_the_derivatives_in_its_loss_from_the_gradient_of_that(backend):
    """As where a network is fitted to a differential equation."""
    w, b = fg.Value(0.3, label="w"), fg.Value(0.1, label="b")

    def loss(x):
        slope = fg.grad(lambda t: (w * t).sin() + b * t)(x)
        return (slope - 1.0) ** 2

    step = nn.train_step(loss, nn.SGD(0.1), [w, b], backend=backend)
    step(0.7)
    origin = with_origins(step.prepare(0.7).stages)
    joint = origin.joint
    of_loss = {e: each for e, each in origin.derived.items() if each.how == "rule"}
    (cosine,) = (e for e in range(len(joint)) if TABLE[joint.opcodes[e]].name == "cos")
    assert TABLE[of_loss[cosine].key[0]].name == "sin"
    assert cosine < joint.primal
    assert max(of_loss) < joint.primal
    finished = [each.target for each in origin.made if each is not None and each.how == "result"]
    assert len(finished) == 2
    facts = explained(step.prepare(0.7))
    parts = [line["part"] for line in facts["panes"]["program"]["lines"] if "part" in line]
    assert {"value", "gradient", "update"} == set(parts)


@pytest.mark.parametrize("transform", [fg.jit, fg.grad], ids=["jit", "grad"])
def test_rounds_that_are_not_written_out_have_rules_in_each_of_them(transform):
    """Each round has the cosine of its own number, and says whose gradient that is."""
    stages = transform(scanned).kernel_for(0.5).stages
    assert stages.family is not None
    origin = with_origins(stages.here if hasattr(stages, "here") else stages)
    joint = origin.joint
    names = {e: TABLE[joint.opcodes[e]].name for e in range(joint.primal)}
    cosines = [e for e, name in names.items() if name == "cos"]
    assert len(cosines) == 400
    for e in cosines:
        each = origin.derived[e]
        assert (each.how, each.of, TABLE[each.key[0]].name) == ("rule", "gradient", "sin")
        assert names[each.equation] == "sin"
        assert joint.equation(each.equation).operands == joint.equation(e).operands
        assert each.target == joint.equation(e).operands[0]
    value = [e for e in names if e not in origin.derived]
    assert len(value) == 5 * 400


def test_what_is_kept_of_derivatives_does_not_grow_with_the_rounds():
    def descended(x, rounds):
        for _ in range(rounds):
            x = x - 0.01 * fg.grad(lambda q: (q * q).sin() * q)(x)
        return x

    function = fg.jit(descended, static_argnames=("rounds",))
    for rounds in (5, 40):
        (spliced,) = function.kernel_for(0.5, rounds).stages.spliced
        (places,) = spliced.firsts
        assert len(places) == rounds
        assert "primal" not in vars(spliced.stages)


def test_pages_are_made_in_several_threads_and_leave_kernels_as_they_are():
    kernel = hessian()
    before = str(kernel.stages.joint), kernel.source
    alone = explained(kernel)
    with ThreadPoolExecutor(4) as pool:
        pages = [each.result() for each in [pool.submit(explained, kernel) for _ in range(4)]]
    assert all(page == alone for page in pages)
    assert (str(kernel.stages.joint), kernel.source) == before


def test_what_is_not_known_is_said():
    """If a derivative is not found where it was spliced in, nothing is said of it."""
    facts = explained(hessian())
    assert facts["note"].startswith("Its derivatives were simplified when they were traced")
    kernel = hessian()
    kernel.stages.spliced = [part._replace(firsts=[range(1, 2)]) for part in kernel.stages.spliced]
    facts = explained(kernel)
    assert "rules that made their lines are not known" in facts["note"]
    assert facts["rules"] == []


def test_the_rows_of_rules_are_those_of_the_table():
    rules = explained(product())["rules"]
    assert {rule["row"] for rule in rules} <= {row.name for row in TABLE}
    tanh = [rule for rule in rules if rule["row"] == "tanh"]
    assert {(rule["of"], rule["receives"]) for rule in tanh} == {
        ("gradient", "gradient * (1.0 - out * out)"),
        ("tangent", "tangent * (1.0 - out * out)"),
    }


def test_what_vjp_returns_is_explained(tmp_path):
    """At the point that it was made for, even if that is changed later."""
    point = [0.5, 0.7, 1.5]
    _, pull = fg.vjp(smooth, point)
    point[0] = 9.0
    facts = json.loads(pull.explain(tmp_path / "page.json", 2.0).read_text())
    numbers = [each["value"] for each in facts["inputs"]]
    assert numbers == [0.5, 0.7, 1.5, 2.0]
    values = [line["value"] for line in facts["panes"]["program"]["lines"] if "value" in line]
    (gradient,) = pull(2.0)
    assert set(gradient) <= set(values)
