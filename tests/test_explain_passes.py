"""The timeline of passes on a page about a kernel: what it says is counted and computed again here."""

from __future__ import annotations

import itertools
import re

import pytest

import flatgrad as fg
from flatgrad.explain import explained
from flatgrad.explain.origins import with_origins
from flatgrad.explain.passes import follow
from flatgrad.explain.steps import LISTED
from flatgrad.runtime.primitives import TABLE
from tests.bits import same_bits
from tests.test_explain import branch, fast, layers, neuron, pendulum, plain

ROWS = {row.name: row for row in TABLE}
SCALAR = {"fold_constants", "simplify", "simplify_fast", "share_common_subexpressions", "remove_dead_code"}
KINDS = ["became constants", "became one with others", "rewritten", "read by nothing", "new"]


def small():
    def function(x, y):
        a = (x * 1.0 - 2.0) * (x * 1.0 - 2.0) + (2.0 * fg.Value(3.0))
        return a * (-y * (x + 0.5)) / (x * y) + fg.where(x > y, -a, a) - fg.exp(-x)

    return fg.value_and_grad(function, argnums=(0, 1)).kernel_for(3.0, 0.5)


def softmaxes():
    def function(rows):
        total = 0.0
        for row in rows:
            most = fg.max(row)
            weights = [fg.exp(x - fg.detach(most)) for x in row]
            total = total + sum(w * x for w, x in zip(weights, row, strict=True)) / sum(weights)
        return total

    return fg.value_and_grad(function).kernel_for([[0.1 * (i + j) for j in range(6)] for i in range(8)])


KERNELS = [neuron, layers, pendulum, branch, plain, fast, small, softmaxes]


@pytest.fixture(scope="module")
def timelines():
    """The steps of each kernel."""
    return {make.__name__: explained(make())["steps"] for make in KERNELS}


def test_nothing_is_counted_twice(timelines):
    seen = set()
    for steps in timelines.values():
        for step in steps:
            if step["name"] in SCALAR:
                constants, merged, _, gone, new = (step["counts"][kind] for kind in KINDS)
                assert step["before"] - constants - merged - gone == step["after"] - new, step["name"]
                seen |= {kind for kind, count in step["counts"].items() if count}
    assert seen == set(KINDS)  # each has happened


def test_a_step_begins_where_the_one_before_ended(timelines):
    for steps in timelines.values():
        for before, after in itertools.pairwise(steps):
            own, its = before["name"].partition(": ")[2], after["name"].partition(": ")[2]
            if before["part"] == after["part"] and own == its:
                assert before["after"] == after["before"], (before["name"], after["name"])
                assert before["unit"][1] == after["unit"][0]
    parts = list(dict.fromkeys(step["part"] for step in timelines["layers"]))
    assert parts == ["Before the gradient", "The gradient", "For flat Python", "For the loops"]


def test_what_a_difference_says_is_true():
    """The rows, computed line by line as they say, have the numbers of the program before, to the last bit."""
    checked = 0
    for make in (neuron, small, branch, fast):
        kernel = make()
        joint = with_origins(kernel.stages).joint
        inputs = [*kernel.traced_at, *[1.0] * (joint.inputs - len(kernel.traced_at))]
        program = joint
        for transform, step in zip(
            kernel.stages.options.joint_passes, follow(kernel.stages.options.joint_passes, joint).steps, strict=True
        ):
            assert len(program) <= LISTED
            numbers = dict(zip(program.input_names, inputs, strict=True))
            expected = program.evaluate_all(inputs)[program.inputs :]
            found = []
            for row in step.rows:
                name, _, formula = row.text.partition(" = ")
                formula = formula if row.kind in ("same", "new") else row.note.split(" (")[0]
                word, _, rest = formula.partition(" ")
                rest = rest if word in ("is", "becomes") else formula
                if row.kind == "gone":
                    continue
                operation, *operands = rest.split()
                read = [numbers[each] if each in numbers else _literal(each) for each in operands]
                known = numbers.get(operation)
                if row.kind in ("merged", "constant"):
                    numbers[name] = known if known is not None else _literal(operation)
                else:
                    numbers[name] = ROWS[operation].evaluate(*read)
                if row.kind != "new":
                    found.append((name, numbers[name]))
            names = [program.name_of(program.inputs + k) for k in range(len(program))]
            by_name = dict(zip(names, expected, strict=True))
            exact = kernel.stages.options.mode == "exact"
            for name, number in found:
                assert same_bits(float(number), float(by_name[name])) or (not exact and number == by_name[name]), name
                checked += 1
            program = transform(program)
            if step.result:
                assert [line.partition("#")[0].strip() for line in str(program).split("\n")[1:]] == step.result
    assert checked > 50


def _literal(text):
    return {"True": True, "False": False}.get(text) if text in ("True", "False") else float(text)


def test_long_programs_show_the_places_that_change(timelines):
    (step,) = [step for step in timelines["softmaxes"] if step["name"] == "simplify"]
    assert step["before"] > LISTED
    rows = step["rows"]
    assert len(rows) < 200
    for rule in step["rules"]:
        assert any(rule in row["note"] for row in rows), rule
    left_out = sum(int(re.match(r"[\d,]+", row["text"])[0].replace(",", "")) for row in rows if row["kind"] == "fold")
    assert left_out + sum(row["kind"] not in ("fold", "new") for row in rows) == step["before"]
    too = sum(int(m[1].replace(",", "")) for row in rows if (m := re.search(r"([\d,]+) of them", row["text"])))
    changed = sum(step["counts"][kind] for kind in KINDS[:4])
    assert too + sum(row["kind"] not in ("fold", "new", "same") for row in rows) == changed
    assert all(step["identities"][rule] for rule in step["rules"])


def test_rules_are_counted_where_they_rewrite_something():
    kernel = fg.value_and_grad(lambda x: (x * 1.0 - 2.0) * (x * 1.0 - 2.0) + (2.0 * fg.Value(3.0))).kernel_for(3.0)
    steps = {step["name"]: step for step in explained(kernel)["steps"] if step["part"] != "For the loops"}
    assert list(steps)[:3] == ["fold_constants", "remove_dead_code", "adjoint"]
    simplify = steps["simplify"]
    assert {"mul_one", "add_negative_constant"} <= set(simplify["rules"])
    assert simplify["identities"]["mul_one"] == "x * 1 -> x"
    assert sum(row["kind"] == "merged" for row in simplify["rows"]) == simplify["counts"]["became one with others"]
    assert steps["share_common_subexpressions"]["counts"]["became one with others"] > 0
    assert steps["remove_dead_code"]["after"] == len(kernel.stages.flat)


def test_the_gradient_is_appended_by_the_rules_of_the_table(timelines):
    for steps in timelines.values():
        for step in steps:
            if step["name"] == "adjoint":
                *made, left_out = step["counts"].values()
                assert sum(made) - left_out == step["after"] - step["before"]
                assert sum(count for *_, count in step["table"]) == step["counts"]["made by rules"]
    (step,) = [step for step in timelines["small"] if step["name"] == "adjoint"]
    assert ("exp", "x", "gradient * out") in [row[:3] for row in step["table"]]
    notes = {row["text"].split(" = ")[0]: row["note"] for row in step["rows"] if row["kind"] == "new"}
    assert notes["x_bar"] == "the finished gradient of x"
    assert not any(step["name"] == "adjoint" for step in timelines["plain"])


def test_packs_have_the_lanes_that_they_are_made_of(timelines):
    kernel, steps = layers(), {step["name"]: step for step in timelines["layers"] if step["part"] == "For the loops"}
    program, stats = kernel.stages.cleaned, kernel.arrays.stats
    assert list(steps) == ["fold_constants", "remove_dead_code", "folds", "packs", "fuse", "rounds"]
    assert steps["folds"]["before"] == len(program)
    assert ("add", 7, 160) in steps["folds"]["table"]  # 0 and six products, for 20 units in 8 rows
    packs = steps["packs"]
    assert packs["counts"]["packs found"] == stats.packs
    assert (
        packs["counts"]["operations that became lanes"] + packs["counts"]["operations that stay alone"]
        == (packs["before"])
    )
    assert sum(row[1] for row in packs["table"]) == packs["counts"]["lanes"]
    assert {row[0] for row in packs["table"]} <= set(ROWS)
    assert re.fullmatch(r"test_explain.py:\d+", packs["table"][0][3])
    assert steps["fuse"]["after"] == stats.statements == len(kernel.arrays.statements)
    assert steps["fuse"]["counts"]["statements that are contractions"] == stats.contractions
    rows = {text: rest for text, *rest in steps["rounds"]["table"]}
    (sums,) = [rest for text, rest in rows.items() if "sum[r:6]" in text]
    assert sums == [160, 1920]  # six products and six sums per lane


def test_rounds_become_loops(timelines):
    (step,) = [step for step in timelines["pendulum"] if step["name"] == "rounds"]
    assert step["before"] == 1  # all of it stays alone
    assert (
        step["counts"]["loops over rounds"]
        == sum(text.count("repeat") for text in str(pendulum().arrays).split("\n"))
        > 0
    )
    assert len(step["table"]) == step["after"] > 2


def test_several_rules_of_one_equation_stand_in_the_order_in_which_they_fired():
    """x * -1 is -x first, and what that negates shows only then."""
    kernel = fg.value_and_grad(lambda x: x * -1.0 * -1.0 * x.sin()).kernel_for(1.5)
    (step,) = [step for step in explained(kernel)["steps"] if step["name"] == "simplify"]
    assert "is x (mul_minus_one, neg_negative)" in [row["note"] for row in step["rows"]]


def test_fusion_says_which_packs_are_in_others_and_which_nothing_reads(timelines):
    """What is counted accounts for each pack; a product by 1 of the gradient is read by nothing."""
    inside = unread = 0
    for steps in timelines.values():
        for step in steps:
            if step["name"].startswith("fuse"):
                counts = step["counts"]
                fused, gone = counts["packs fused into another one"], counts["packs that nothing reads"]
                left = step["before"] - fused - gone - counts["packs put side by side in one"]
                assert left + counts["statements that are straight-line code"] == step["after"]
                inside, unread = inside + fused, unread + gone
    assert inside > 0
    assert unread > 0


def test_long_tables_are_cut_at_the_end_and_say_so(monkeypatch):
    monkeypatch.setattr("flatgrad.explain.timeline._ROWS", 3)
    steps = {step["name"]: step for step in explained(layers())["steps"]}
    *rows, last = steps["packs"]["table"]
    assert len(rows) == 3
    assert last[0] == f"and {steps['packs']['after'] - 3} more, for which there is no room"
    assert len(last) == len(steps["packs"]["head"])
