"""What re-rolling finds: loops of known programs, as few statements; and how a person reads them."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

import flatgrad as fg
from benchmarks.gradbench import det, llsq
from flatgrad import Value
from flatgrad.compiler.loops.array_program import ArrayProgram
from flatgrad.compiler.loops.grammar import Apply, Block, Fold, Read, Statement
from flatgrad.compiler.loops.reroll import classes, reroll
from flatgrad.compiler.loops.reroll.chains import find_chains
from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.program import Group, Program
from flatgrad.runtime.errors import ProgramError
from flatgrad.runtime.primitives import BY_NAME
from tests.compiler import array_workloads as work

W, X, B = [[0.1] * 4 for _ in range(6)], [0.2] * 4, [0.3] * 6


def arrays_of(f, *arguments, **options):
    """The array program of value and gradient with respect to every argument, checked."""
    if "wrt" not in options:
        options["argnums"] = range(len(arguments))
    return fg.value_and_grad(f, backend="numpy", **options).kernel_for(*arguments).arrays.check()


def forward_of(f, *arguments):
    return fg.compile(f, backend="numpy").kernel_for(*arguments).arrays.check()


def statements(arrays):
    return [statement for statement in arrays.statements if isinstance(statement, Statement)]


def gathers(arrays):
    """How many accesses need a table."""
    return sum(read.table is not None for statement in statements(arrays) for read, _ in statement.reads())


def applied(statement):
    """The nodes of a statement's body that apply a primitive."""
    return [node for node in statement.body if isinstance(node, Apply)]


def rows(count, width=3):
    return [[0.1 * (r + c) for c in range(width)] for r in range(count)]


# --- golden texts -----------------------------------------------------------------------------------------------------


def golden_arrays():
    return {
        "layer_forward": forward_of(work.layer, W, X, B),
        "layer_gradient": arrays_of(work.layer_loss, W, X, B),
        "attention_gradient": arrays_of(work.causal_attention, rows(6), rows(6), rows(6)),
        "cumulative_gradient": arrays_of(work.cumulative, [0.1 * k for k in range(8)]),
    }


@pytest.mark.parametrize("name", ["layer_forward", "layer_gradient", "attention_gradient", "cumulative_gradient"])
def test_printed_array_programs(name, golden):
    golden(f"{name}.txt", f"{golden_arrays()[name]}\n")


def test_a_layer_reads_as_one_writes_it():
    """`w @ x + b`: one statement, a contraction."""
    text = str(forward_of(work.layer, W, X, B))
    assert re.search(r"\[i:6\] = (0\.0 \+ )?sum\[r:4\]\(w\[4\*i \+ r\] \* x\[r\]\) \+ b\[i\]\s+# contraction", text)


def test_printing_twice_is_the_same():
    assert str(golden_arrays()["attention_gradient"]) == str(golden_arrays()["attention_gradient"])


# --- how many statements ----------------------------------------------------------------------------------------------


def test_a_layer_is_one_statement():
    arrays = forward_of(work.layer, W, X, B)
    (statement,) = arrays.statements
    assert statement.is_contraction
    assert arrays.stats.statements == arrays.stats.contractions == 1
    assert arrays.stats.strided == 1.0
    assert arrays.stats.scalars == gathers(arrays) == 0


def test_the_gradient_of_a_layer():
    """tanh of the layer, its slope, and the three gradients; two of the five are contractions."""
    arrays = arrays_of(work.layer_loss, W, X, B)
    assert len(statements(arrays)) <= 5
    assert arrays.stats.contractions == 2
    assert gathers(arrays) == 0


@pytest.mark.parametrize("size", [6, 12, 30])
def test_statements_do_not_grow_with_a_layer(size):
    square = rows(size, size)
    assert len(statements(arrays_of(work.layer_loss, square, [0.1] * size, [0.2] * size))) <= 6


def test_statements_do_not_grow_with_the_length_of_a_sequence():
    """Each position attends to another number of positions: sums that differ in length are one pack."""
    counts = {n: arrays_of(work.causal_attention, rows(n), rows(n), rows(n)).stats for n in range(6, 14)}
    assert len({counts[n].statements for n in range(9, 14)}) == 1
    assert max(stats.statements for stats in counts.values()) <= 29
    assert len({counts[n].packs for n in range(6, 14)}) == 1
    assert counts[12].equations > 3 * counts[6].equations


def test_statements_do_not_grow_with_a_batch():
    model = fg.nn.MLP(3, [5, 5, 1], seed=1)

    def loss(xs):
        return sum(model(x) ** 2 for x in xs)

    counts = [arrays_of(loss, rows(n), wrt=model).stats.statements for n in (8, 16, 24)]
    assert len(set(counts)) == 1
    assert counts[0] <= 20


def test_cumulative_sums_are_folds_of_one_pack():
    """Partial sums are shared: each is one addition, one after the other."""
    for size in (8, 16, 24):
        arrays = arrays_of(work.cumulative, [0.1] * size)
        assert len(statements(arrays)) <= 4


def test_products_of_many_factors_are_folds():
    arrays = forward_of(lambda x: [x[k] * x[k + 1] * x[k + 2] * x[k + 3] * x[k + 4] for k in range(8)], [0.5] * 12)
    (statement,) = arrays.statements
    (fold,) = (node for node in statement.body if isinstance(node, Fold))
    assert fold.primitive.name == "mul"


# --- strides ----------------------------------------------------------------------------------------------------------


ORDERS = {
    "as they are": [*range(24)],
    "reversed": [*range(23, -1, -1)],
    "columns first": [4 * (k % 6) + k // 6 for k in range(24)],
    "last neuron first": [4 * (5 - k // 4) + k % 4 for k in range(24)],
    "odd neurons behind": [4 * n + k for n in (0, 2, 4, 1, 3, 5) for k in range(4)],
}


@pytest.mark.parametrize("name", ORDERS)
def test_parameters_in_another_order(name):
    """The gradient comes back in the order of the list; the statements stay strided."""
    weights = [Value(0.1, label=f"w{k}") for k in range(24)]

    def f(x):
        return sum(work.dot(weights[4 * i : 4 * i + 4], x).tanh() for i in range(6))

    arrays = arrays_of(f, X, wrt=[weights[k] for k in ORDERS[name]])
    assert gathers(arrays) == 0
    assert len(statements(arrays)) <= 6


def test_neurons_in_any_order():
    """The lanes of a layer whose rows are read in a random order are sorted."""
    order = random.Random(1337).sample(range(12), 12)
    arrays = arrays_of(lambda w, x: sum(work.dot(w[k], x).tanh() for k in order), rows(12, 4), X)
    assert gathers(arrays) <= 2  # sums over the outputs, in that order
    assert arrays.stats.contractions == 2


@pytest.mark.parametrize("lane", [0, 7, 19])
def test_a_broken_stride_costs_a_few_statements(lane):
    """One lane reads another element: pieces before and behind it stay strided."""

    def f(x, y):
        return [(x[k if k != lane else 3] * y[k]).tanh() for k in range(20)]

    arrays = forward_of(f, [0.1] * 20, [0.2] * 20)
    assert gathers(arrays) == 0
    assert len(arrays.statements) <= 3


def test_reversed_and_repeated_lanes():
    arrays = forward_of(lambda x, y: [x[11 - k] * y[k // 4] + y[k % 4] for k in range(12)], [0.1] * 12, [0.2] * 4)
    assert gathers(arrays) == 0
    assert len(arrays.statements) == 1


def test_interleaved_families_in_one_class():
    """Two matrices whose rows take turns: the same shape, one pack."""

    def f(u, v, x):
        return sum(work.dot(u[k], x).tanh() * work.dot(v[k], x).tanh() for k in range(6))

    arrays = arrays_of(f, rows(6, 4), rows(6, 4), X)
    assert gathers(arrays) == 0
    assert len(statements(arrays)) <= 14


def test_a_class_that_mixes_layers():
    """Layers of the same width, and a penalty on all parameters, whose products look like theirs."""
    model = fg.nn.MLP(8, [8, 8, 8, 1], seed=1)

    def loss(xs):
        return sum(model(x).relu() for x in xs) + 1e-4 * sum(p * p for p in model.parameters())

    arrays = arrays_of(loss, rows(10, 8), wrt=model)
    assert arrays.stats.strided > 0.95
    assert len(statements(arrays)) <= 30


def test_identical_lanes_are_computed_twice_where_merging_them_would_cost_strides():
    """The even powers of t and -t are equal, so that products with them are, too."""
    arrays = arrays_of(llsq(16, 8).function, np.zeros(8))
    assert (gathers(arrays), arrays.stats.contractions) == (0, 2)


def test_identical_lanes_of_functions_are_computed_once():
    """A function takes longer than a load through a table; what reads copies knows that they are equal."""
    places = [(i - 3.5) / 4.0 for i in range(8)]
    arrays = forward_of(lambda x: sum(fg.exp(a * t**k) for t in places for k, a in enumerate(x)), [0.1] * 6)
    exponentials = sum(s.lanes for s in statements(arrays) if any(n.primitive.name == "exp" for n in applied(s)))
    assert exponentials == 1 + 8 + 4 + 8 + 4 + 8


def test_identical_lanes_are_merged_where_strides_remain():
    arrays = forward_of(lambda x, y: [a * b for _ in range(8) for a in x for b in y], [0.1] * 6, [0.2] * 5)
    assert [statement.shape for statement in statements(arrays)] == [(6, 5)]


def test_many_short_segments_are_one():
    """The terms of a determinant's gradient are of many packs; a fold of a few lanes reads them through one table."""
    workload = det(6)
    arrays = arrays_of(workload.function, *workload.arguments)
    folds = [node for statement in statements(arrays) for node in statement.body if isinstance(node, Fold)]
    assert max(sum(segment.terms for segment in fold.segments) for fold in folds) > 100
    assert max(len(fold.segments) for fold in folds) <= 8
    assert len(arrays.statements) <= 80


@pytest.mark.parametrize("block", [1, 5, 64])
def test_classes_do_not_depend_on_how_many_nodes_are_taken_at_once(block, monkeypatch):
    functions = {
        work.layer_loss: (W, X, B),
        work.causal_attention: (rows(6), rows(6), rows(6)),
        work.cumulative: ([0.1 * k for k in range(30)],),
        lambda x: sum(fg.maximum(a, 0.0) * (2.0 + b) + (b + a) ** 2 for a, b in zip(x[1:], x[:-1], strict=True)): (
            [0.1] * 40,
        ),
        lambda x: sum(fg.where((a < b) & (b < 1.0), a * b, b / a) for a, b in zip(x[3:], x[:-3], strict=True)): (
            [0.1] * 40,
        ),
    }
    for function, arguments in functions.items():
        gradient = fg.value_and_grad(function, argnums=range(len(arguments)), backend="numpy")
        program = gradient.kernel_for(*arguments).stages.cleaned
        chains = find_chains(program)
        monkeypatch.setattr(classes, "_BLOCK", 1 << 40)  # one by one
        expected = classes.classify(program, chains)
        monkeypatch.setattr(classes, "_BLOCK", block)
        for one, other in zip(classes.classify(program, chains), expected, strict=True):
            assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


def test_an_irregular_program_is_straight_line_code():
    arrays = forward_of(lambda x, y: fg.exp(x) * fg.sin(y) + fg.atan2(x, y), 1.0, 2.0)
    (block,) = arrays.statements
    assert isinstance(block, Block)
    assert arrays.stats.scalars >= 4
    assert "straight-line code" in str(arrays)


def test_the_derivatives_of_squares_are_computed_where_they_are_added():
    """`y * y` gives `y` the same number twice: that is no loop of its own."""

    def loss(x, w):
        return fg.tanh(sum(y * y for y in (a * b for a, b in zip(x, w, strict=True))))

    kernel = fg.value_and_grad(loss, argnums=(0, 1), backend="numpy").kernel_for([1.0] * 20, [1.0] * 20)
    doubled = [
        item
        for item in kernel.arrays.statements
        if isinstance(item, Statement) and item.body[-1] == Apply(BY_NAME["add"], (2, 2))
    ]
    assert [item.shape for item in doubled] == [(20,)]


def rows_of_maxima(x, columns):
    """Per row, the logarithm of a sum of exponentials as people write it: the chain of `maximum` is differentiated."""
    total = 0.0
    for start in range(0, len(x), columns):
        row = x[start : start + columns]
        largest = row[0]
        for value in row[1:]:
            largest = fg.maximum(largest, value)
        total = total + largest + fg.log(sum(fg.exp(value - largest) for value in row))
    return total


def test_what_reads_running_results_is_one_pack_for_all_steps():
    """The comparisons of all steps, and what follows from them, are not apart for each column."""
    counts = []
    for columns in (12, 24):
        f = fg.value_and_grad(lambda x, n=columns: rows_of_maxima([v * v for v in x], n), backend="numpy")
        counts.append(len(reroll(f.kernel_for(np.random.default_rng(0).normal(size=20 * columns)).program).statements))
    assert counts[1] - counts[0] == 2 * 12, "a statement for each step of the maximum, and of its derivative"


def test_statistics_add_up():
    arrays = arrays_of(work.layer_loss, W, X, B)
    stats = arrays.stats
    assert stats.statements == len(arrays.statements)
    assert stats.equations == 192
    assert stats.workspace > 0
    assert stats.reroll_seconds > 0.0
    assert set(stats.as_dict()) >= {"statements", "packs", "contractions", "scalars", "strided", "workspace"}


# --- the checker ------------------------------------------------------------------------------------------------------


def layer_arrays():
    return arrays_of(work.layer_loss, W, X, B)


def test_the_checker_wants_each_address_written_once():
    arrays = layer_arrays()
    arrays.statements[1].base = arrays.statements[0].base
    with pytest.raises(ProgramError, match="written before"):
        arrays.check()


def test_the_checker_wants_addresses_written_before_they_are_read():
    arrays = layer_arrays()
    arrays.statements.reverse()
    with pytest.raises(ProgramError, match="before it is written"):
        arrays.check()


def test_the_checker_wants_accesses_inside_of_the_program():
    arrays = layer_arrays()
    statement = statements(arrays)[0]
    fold = next(node for node in statement.body if isinstance(node, Fold))
    segment = fold.segments[-1]
    read = segment.body[0]
    far = segment._replace(body=(read._replace(base=read.base + 10_000), *segment.body[1:]))
    statement.body = tuple(
        node._replace(segments=(*node.segments[:-1], far)) if node is fold else node for node in statement.body
    )
    with pytest.raises(ProgramError, match="outside of the program"):
        arrays.check()


def test_the_checker_wants_accesses_of_one_kind():
    """A table whose first place is a number must not reach a truth value further on."""
    program = ArrayProgram("f", [f"x{k}" for k in range(4)], [Group("x", 4, False)], [0.5])
    comparison = (Read(0, (1,)), Read(4, (0,)), Apply(BY_NAME["less"], (0, 1)))
    program.statements.append(Statement("v0", (4,), comparison, 5, "b"))
    body = (Read(0, (0,), np.array([0, 4, 6, 2])), Apply(BY_NAME["tanh"], (0,)))
    program.statements.append(Statement("v1", (4,), body, 9, "f"))
    program.outputs, program.output_groups = np.arange(9, 13), [Group("y", 4, False)]
    with pytest.raises(ProgramError, match="numbers and truth values"):
        program.check()


def test_the_checker_wants_names_that_differ():
    arrays = layer_arrays()
    statements(arrays)[1].name = statements(arrays)[0].name
    with pytest.raises(ProgramError, match="another statement has this name"):
        arrays.check()


def test_the_checker_wants_the_right_kinds():
    arrays = layer_arrays()
    statements(arrays)[1].kind = "b"
    with pytest.raises(ProgramError, match="kind"):
        arrays.check()


def test_the_checker_wants_groups_that_add_up():
    arrays = layer_arrays()
    arrays.output_groups = arrays.output_groups[:-1]
    with pytest.raises(ProgramError, match="do not add up"):
        arrays.check()


def test_evaluate_wants_as_many_numbers_as_there_are_inputs():
    with pytest.raises(ProgramError, match="34 inputs, got 3"):
        layer_arrays().evaluate([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("each", "gone", "fast"),
    [
        (lambda f, x, y: f.emit("mul", f.emit("maximum", x, x), y), "maximum", False),
        (lambda f, x, y: f.emit("where", f.emit("logical_not", f.emit("less", x, y)), x, y), "logical_not", False),
        (lambda f, x, y: f.emit("add", f.emit("exp", x), f.constant(-0.0)), "-0.0", False),
        (lambda f, x, y: f.emit("mul", y, f.emit("div", f.constant(1.0), x)), "1.0", True),
    ],
    ids=["maximum_same", "where_not", "add_negative_zero", "mul_reciprocal"],
)
def test_rules_of_scalars_apply_to_packs(each, gone, fast):
    f = ProgramBuilder("f", [Group("x", 9, False), Group("y", 9, False)])
    program = f.finish([each(f, k, 9 + k) for k in range(9)]).check()
    arrays = reroll(program, fast=fast).check()
    assert gone not in str(arrays)
    numbers = [*(0.5 + k for k in range(9)), *(2.5 - k for k in range(9))]
    assert arrays.evaluate(numbers) == pytest.approx(program.evaluate(numbers), rel=1e-15)


@pytest.mark.parametrize("column", ["opcodes", "operands", "starts"])
def test_columns_are_converted_once_for_any_number_of_packs(column, monkeypatch):
    """Otherwise the time grows with the square of a program's length."""

    def reads(depth):
        f = ProgramBuilder("f", [Group("x", 4, False), Group("y", 4, False)])
        lanes = list(range(4))
        for _ in range(depth):
            lanes = [f.emit("mul", f.emit("tanh", lane), 4 + k) for k, lane in enumerate(lanes)]
        program = f.finish([*lanes, *(f.emit("exp", lane) for lane in lanes)])
        count = 0

        def counting(item, name):
            nonlocal count
            count += item is program and name == column
            return object.__getattribute__(item, name)

        with monkeypatch.context() as patch:
            patch.setattr(Program, "__getattribute__", counting, raising=False)
            assert reroll(program).stats.packs == 2 * depth + 1
        return count

    assert reads(2) == reads(40) > 0
