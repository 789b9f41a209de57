"""Re-rolled programs compute the bits of the scalar program, in every form in which they can run."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.loops.grammar import Fold as FoldNode
from flatgrad.compiler.loops.grammar import Read, Statement
from flatgrad.compiler.loops.reroll import chains, packs, reroll
from flatgrad.compiler.loops.reroll.fuse import _Fusion
from tests.array_programs import (
    Access,
    Fold,
    Group,
    LoopProgram,
    Map,
    Softmax,
    loop_programs,
)
from tests.bits import all_bits, assert_same
from tests.every_way import (
    assert_every_way_agrees,
    check_joint,
    check_pair,
    check_primal,
    flattened,
)
from tests.examples import examples, slow
from tests.programs import long_chains, numbers, programs


def seeds(k):
    return 0.5 + k


@given(loop_programs())
@settings(max_examples=examples(40))
def test_the_function_alone(program):
    check_primal(program)


@given(loop_programs())
@settings(max_examples=examples(40))
def test_value_and_gradient(program):
    check_joint(program)


@given(loop_programs(), st.data())
@settings(max_examples=examples(20))
def test_forward_and_backward(program, data):
    check_pair(program, lambda k: data.draw(numbers) if k < 3 else seeds(k))


@given(loop_programs(max_steps=3, max_lanes=24))
@settings(max_examples=examples(15))
def test_wide_programs(program):
    check_joint(program)


@given(loop_programs(), st.data())
@settings(max_examples=examples(20))
def test_at_other_numbers(program, data):
    """A kernel runs at numbers that it was not traced at, where it may raise."""
    others = data.draw(st.lists(numbers, min_size=len(program.inputs), max_size=len(program.inputs)))
    check_joint(program.at(others))


@given(programs(max_outputs=3))
@settings(max_examples=examples(40))
def test_irregular_programs(program):
    check_joint(program)
    check_pair(program)


@given(long_chains())
@settings(max_examples=10)
def test_long_chains(program):
    check_joint(program)


# --- what random programs found, and what they may not find -----------------------------------------------------------

XS = (-1.5, 2.0, -0.0, 0.5, math.inf, 3.0, -4.0, 1e-300)


def every_way(f, *arguments):
    """Compile for NumPy, compare every way of running it, and with flat Python; return the kernel."""
    argnums = range(len(arguments))
    compiled = fg.value_and_grad(f, argnums=argnums, backend="numpy")
    kernel = compiled.kernel_for(*arguments)
    inputs = flattened(arguments)
    assert_every_way_agrees(kernel, kernel.joint, "value_and_grad", inputs, f)
    flat = fg.value_and_grad(f, argnums=argnums, backend="python")
    assert all_bits(flattened(compiled(*arguments))) == all_bits(flattened(flat(*arguments)))
    return kernel


def sign(x):
    """Tells -0.0 from 0.0: 0 or pi."""
    return fg.atan2(x, -1.0)


def test_a_choice_between_one_and_minus_zero_is_no_truth_value():
    every_way(lambda x: sum(sign(fg.where(a > 0.0, 1.0, -0.0)) for a in x), [*XS[:4], *XS[:4]])


@pytest.mark.parametrize("select", [fg.maximum, fg.minimum])
def test_zeros_of_different_signs_keep_their_places(select):
    """`maximum` and `minimum` return the first of equal numbers: they do not commute."""
    zeros = [0.0, -0.0, -0.0, 0.0, 0.0, -0.0, 0.0]
    every_way(lambda x: sum(sign(select(a * -1.0, 0.0)) for a in x), zeros)
    every_way(lambda x: sum(sign(select(0.0, a)) for a in x), zeros)
    every_way(lambda x: sum(sign(select(0.0, select(a, b))) for a in x for b in x), zeros)
    every_way(lambda x: sum(sign(select(b, select(a, 0.0))) for a in x for b in x), zeros)

    def running(x):
        total, partial = x[0], []
        for a in x[1:] * 4:
            total = select(a, total)
            partial.append(sign(total))
        return sum(partial)

    every_way(running, zeros)


def test_a_sum_of_minus_zeros_is_minus_zero():
    for lanes in (1, 2, 5):
        every_way(lambda x: sum(sign(sum_from(x[k:], -0.0)) for k in range(lanes)), [-0.0] * 30)


def sum_from(xs, start=None):
    total = xs[0] if start is None else start + xs[0]
    for x in xs[1:]:
        total = total + x
    return total


@pytest.mark.parametrize("lanes", [1, 2, 3, 8])
@pytest.mark.parametrize("terms", [2, 3, 4, 9, 17, 300])
def test_sums_are_in_order(lanes, terms):
    """Numbers whose sum depends on the order; few lanes, many terms, where NumPy would add pairwise."""
    draw = np.random.default_rng(1337)
    x = (draw.standard_normal(lanes * terms) * 10.0 ** draw.integers(-8, 16, lanes * terms)).tolist()
    y = draw.standard_normal(terms).tolist()

    def products(x, y):
        rows = [sum_from([a * b for a, b in zip(x[k::lanes], y, strict=True)]) for k in range(lanes)]
        return sum_from([row.tanh() for row in rows], 0.0) + sum_from([row * row for row in rows])

    every_way(products, x, y)


def test_ragged_sums():
    """The shorter ones are filled up with what changes nothing, not even the sign of a zero."""
    for filled in (-0.0, 0.0, math.nan, -math.inf, 5e-324):
        x = [filled] * 12
        every_way(lambda x: sum(sign(sum_from(x[:k])) for k in range(1, 12)), x)
        every_way(lambda x: sum(sign(product_of(x[:k])) for k in range(4, 12)), x)


def test_folds_of_very_different_lengths():
    """A few that are far longer than all others are a pack of their own."""
    x = np.random.default_rng(3).standard_normal(500).tolist()
    kernel = every_way(lambda x: sum(sign(sum_from(x[:k])) for k in [*range(4, 40), 450, 500]), x)
    folds = [s for s in kernel.arrays.statements if isinstance(s, Statement) and "sum[" in str(kernel.arrays)]
    assert len(folds) > 1


def test_a_negation_of_a_negation():
    """They meet in one pack only behind what the tracer and the passes leave."""
    kernel = every_way(lambda x: sum((a * -1.0 * -1.0).tanh() for a in x), list(XS))
    assert "neg" not in str(kernel.arrays)


def product_of(xs):
    total = xs[0]
    for x in xs[1:]:
        total = total * x
    return total


def read(vector, base, lane, term, table):
    return Access(vector, base, lane, term, tuple(table))


def test_names_of_blocks_do_not_collide():
    """A block reads `v7` from outside; its own equations must have other names."""
    first = Map(("tanh",), (read(0, 0, 1, 1, range(2)),), 1)
    second = Map(("maximum",), (read(1, 1, 0, 0, range(2)), read(0, 0, 0, 0, range(2))), 1)
    groups = (Group("list", (1.5, 2.0)), Group("list", (-1.0, 0.0)))
    check_pair(LoopProgram(groups, (first, second), ((2, 0), (3, 0))), seeds)


def test_two_vectors_that_are_strided_in_different_ways():
    """Runs of two and runs of three have no common shape; a piece of them must have one."""
    pair = read(1, 1, 1, 1, range(2)), read(0, 0, 3, 1, range(5))
    other = read(0, 0, 1, 4, [0, 1, 1, 3, 4]), read(2, 0, 1, 2, range(4))
    steps = (
        Map(("sin",), (read(0, 0, 1, 1, range(5)),), 2),
        Fold("add", None, "maximum", pair, (7, 7, 3, 5), False, False),
        Fold("add", -0.0, "maximum", other, (4, 1), False, False),
    )
    check_joint(LoopProgram((Group("list", (2.4, 0.1, 0.9, -6e-05, -2.9)),), steps, ((3, 0), (1, 0), (1, 1))))


def test_an_access_that_runs_into_a_constant():
    """A sum filled up with a constant that lies behind the argument in memory: one access reads both."""
    every_way(lambda x: sum(sum_from(x[k:], -0.0).tanh() for k in range(2)), [0.1 * k for k in range(30)])


@pytest.mark.parametrize("primitive", ["maximum", "minimum", "add", "mul"])
def test_running_results_of_many_rows(primitive):
    """Ties, and terms that depend on a running result, or on that of the row before, of some rows."""
    draw = np.random.default_rng(len(primitive))

    def function(x):
        results, before = [], 1.0
        for row in range(18):
            terms = x[7 * row : 7 * row + 7]
            running = terms[0]
            for k, term in enumerate(terms[1:]):
                term = term * before if row == 9 else term * running if (row, k) == (4, 3) else term
                running = getattr(fg, primitive)(running, term)
                results.append(running * term)
            before = running
        return sum(fg.tanh(result) for result in results)

    every_way(function, draw.choice([-1.5, -0.5, 0.5, 1.25], 7 * 18).tolist())


def test_a_product_by_one_at_the_end_of_a_chain():
    every_way(lambda x: fg.asin(0.0 * (1.0 * (x.sinh() * x.sinh()))), 0.5)


OUTPUTS = [
    ((1, 0), (1, 0)),
    ((1, 0), (1, 0), 0.0),
    ((1, 0), (1, 1), (1, 1), (1, 1), (0, 0)),
    ((1, 0), (0, 0), 1.5),
]


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_outputs_one_by_one_and_repeated(outputs):
    step = Map(("neg",), (read(0, 0, 1, 1, range(2)),), 2)
    program = LoopProgram((Group("list", (0.25, 2.5)),), (step,), outputs)
    check_joint(program)
    check_primal(program)


def test_each_output_of_straight_line_code_is_its_own():
    check_joint(LoopProgram((Group("list", (0.1, 0.2, 0.1)),), (Softmax(0),), ((1, 0), (1, 2))))


def test_infinities_among_the_constants():
    """Constants that vary from lane to lane are a list in rolled source, which needs `inf` and `nan` from `math`."""
    factors = [math.inf, -math.inf, math.nan, 1.0, 2.0, -0.0, 5e-324, 1e308]
    every_way(lambda x: sum((a * c).tanh() for a, c in zip(x, factors, strict=True)), list(XS))


TAKEN = """
    total fold product both either where g maximum relu hypot terms term result function a b i r m1 s1 c1 C1 T1 t1 v1
    memory truths given view local np run threading numbers table0 table1 chosen8 lanes8 a1 x_bar residuals forward
""".split()  # noqa: SIM905


def test_arguments_may_have_any_name():
    """Arguments called like what the generated source defines itself."""
    source = "\n".join(
        [
            f"def f({', '.join(TAKEN)}):",
            f"    xs = [{', '.join(TAKEN)}]",
            "    ys = [fg.tanh(xs[(7 * k) % len(xs)]) * x for k, x in enumerate(xs)]",
            "    top = xs[0]",
            "    for x in xs: top = fg.maximum(top, x)",
            "    ys += [fg.where((x > 0.1) | (x * x < 0.2), x, -x) for x in xs] + [fg.relu(x) for x in xs]",
            "    ys += [sum(x * y for y in xs[k::5]) for k, x in enumerate(xs)]",
            "    return sum(ys) + top",
        ]
    )
    names = {"fg": fg}
    exec(source, names)
    every_way(names["f"], *[0.1 * k - 1.0 for k in range(len(TAKEN))])

    def with_lists(g, total, w, w_bar, table0, chosen4):
        lists = [g, total, w, w_bar, table0, chosen4]
        rows = [sum(a * b for a, b in zip(p, q, strict=True)).tanh() for p in lists for q in lists]
        irregular = sum(lists[(3 * k) % 5][(k * k) % 4] * lists[k % 6][(k * k * k) % 4] for k in range(23))
        tops = [fg.maximum(fg.maximum(fg.maximum(a[0], a[1]), a[2]), a[3]) for a in lists]
        return sum(rows) + irregular + sum(tops)

    draw = np.random.default_rng(1337)
    every_way(with_lists, *[draw.standard_normal(4).tolist() for _ in range(6)])


def test_an_error_is_named_as_in_flat_python():
    """NumPy only notices that something is wrong; what is raised is what the program raises."""
    for f, x in [
        (lambda x: sum(fg.sqrt(a) for a in x), [1.0, 2.0, -3.0, 4.0, 5.0]),
        (lambda x: sum(fg.div(1.0, a) for a in x), [1.0, 2.0, 0.0, 4.0, 5.0]),
        (lambda x: sum(fg.log(a) for a in x), [1.0, 2.0, 0.0, 4.0, 5.0]),
        (lambda x: sum(fg.exp(a) for a in x), [1.0, 2.0, 1000.0, 4.0, 5.0]),
        (lambda x: sum(a**0.5 for a in x), [1.0, 2.0, -3.0, 4.0, 5.0]),
        (lambda x: sum(fg.sin(a) for a in x), [1.0, 2.0, math.inf, 4.0, 5.0]),
    ]:
        raised = []
        for backend in ("python", "numpy"):
            with pytest.raises(fg.FlatgradError) as info:
                fg.value_and_grad(f, backend=backend)(x)
            raised.append(str(info.value))
        assert raised[0] == raised[1]


# --- the comparison can fail ------------------------------------------------------------------------------------------


def layer(w, x):
    return sum(sum_from([a * b for a, b in zip(w[k::4], x, strict=True)], 0.1).tanh() for k in range(4))


def test_a_broken_access_is_noticed():
    draw = np.random.default_rng(1337)
    inputs = draw.standard_normal(15).tolist()
    kernel = fg.value_and_grad(layer, argnums=(0, 1), backend="numpy").kernel_for([0.1] * 12, [0.1] * 3)
    expected = all_bits(kernel.joint.program.evaluate(inputs))
    assert all_bits(reroll(kernel.joint.program).evaluate(inputs)) == expected
    caught = 0
    for position, changed in broken(reroll(kernel.joint.program)):
        try:
            bits = all_bits(changed.check().evaluate(inputs))
        except fg.FlatgradError:
            caught += 1
            continue
        assert bits != expected, f"statement {position}\n{changed}"
        caught += 1
    assert caught >= 6


def broken(arrays):
    """Copies of an array program, each with one access that goes elsewhere."""

    def moved(read):
        if read.table is not None:
            return Read(0, (), read.table[::-1])
        if any(read.strides):
            return Read(read.base, tuple(-stride for stride in read.strides))
        return Read(read.base + 1, read.strides)

    for position, statement in enumerate(arrays.statements):
        if not isinstance(statement, Statement):
            continue
        for k, node in enumerate(statement.body):
            if isinstance(node, Read):
                body = [*statement.body]
                body[k] = moved(node)
            elif isinstance(node, FoldNode):
                segments = list(node.segments)
                segments[-1] = segments[-1]._replace(body=tuple(
                    moved(inner) if isinstance(inner, Read) else inner for inner in segments[-1].body
                ))  # fmt: skip
                body = [*statement.body]
                body[k] = node._replace(segments=tuple(segments))
            else:
                continue
            statements = [*arrays.statements]
            statements[position] = replace(statement, body=tuple(body))
            yield position, replace(arrays, statements=statements)


def test_a_broken_order_of_a_fold_is_noticed():
    """The terms from right to left: other bits."""
    x = [1e16, 1.0, -1e16, 1.0, 3.0, 1e-3] * 4

    def rows(x):
        return sum(sum_from(x[k : k + 12]).tanh() for k in range(8))

    kernel = fg.value_and_grad(rows, backend="numpy").kernel_for(x)
    arrays = reroll(kernel.joint.program)
    expected = all_bits(kernel.joint.program.evaluate(x))
    statements = []
    for statement in arrays.statements:
        body = getattr(statement, "body", ())
        turned = [
            node._replace(segments=tuple(s._replace(body=tuple(map(_backwards(s), s.body))) for s in node.segments))
            if isinstance(node, FoldNode) else node
            for node in body
        ]  # fmt: skip
        statements.append(replace(statement, body=tuple(turned)) if body else statement)
    assert all_bits(arrays.evaluate(x)) == expected
    assert all_bits(replace(arrays, statements=statements).check().evaluate(x)) != expected


def _backwards(segment):
    """Turns the last dimension of an access around."""

    def turn(node):
        if not isinstance(node, Read) or not segment.extents or node.table is not None:
            return node
        count, step = segment.extents[-1], node.strides[-1]
        return Read(node.base + (count - 1) * step, (*node.strides[:-1], -step))

    return turn


def ragged(x):
    return sum(sum_from([a * a for a in x[:k]]).tanh() for k in range(1, 12))


def test_a_wrong_filling_of_shorter_folds_is_noticed(monkeypatch):
    x = [0.1 * k for k in range(12)]
    right = flattened(fg.value_and_grad(ragged, backend="python")(x))
    assert flattened(fg.value_and_grad(ragged, backend="numpy")(x)) == right
    monkeypatch.setitem(chains.FOLDED, fg.runtime.primitives.add, 1.0)
    monkeypatch.setattr(packs, "_CONSTANTS", list(chains.FOLDED.values()))
    assert flattened(fg.value_and_grad(ragged, backend="numpy")(x)) != right


def test_a_broken_fusion_is_noticed(monkeypatch):
    """What is computed inside a loop, for its lanes from the last to the first."""
    w, x = [0.1 * k for k in range(12)], [0.5, -1.0, 2.0]
    right = flattened(fg.value_and_grad(layer, argnums=(0, 1), backend="python")(w, x))
    inline = _Fusion._inline

    def turned(self, nodes, equal):
        nodes[equal[0]] = np.ascontiguousarray(nodes[equal[0]][::-1])
        inline(self, nodes, equal)

    monkeypatch.setattr(_Fusion, "_inline", turned)
    assert flattened(fg.value_and_grad(layer, argnums=(0, 1), backend="numpy")(w, x)) != right


# --- everything that is traced ----------------------------------------------------------------------------------------

OPTIMIZERS = [
    lambda: fg.nn.SGD(0.1),
    lambda: fg.nn.SGD(0.1, momentum=0.9),
    lambda: fg.nn.Adam(0.01),
    lambda: fg.nn.AdamW(0.01),
    lambda: fg.nn.RMSprop(0.01),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["SGD", "momentum", "Adam", "AdamW", "RMSprop"])
def test_training_steps_with_the_state_of_an_optimiser(optimizer):
    """After some steps, losses and parameters have the bits of flat Python."""

    def trained(backend):
        model = fg.nn.MLP(3, [6, 6, 1], activation="tanh", seed=1)

        def loss(xs, ys):
            return sum((model(x) - y) ** 2 for x, y in zip(xs, ys, strict=True)) * (1.0 / len(xs))

        step = fg.nn.train_step(loss, optimizer(), model, backend=backend)
        draw = np.random.default_rng(1337)
        losses = [step(draw.standard_normal((7, 3)), draw.standard_normal(7)) for _ in range(4)]
        step.sync()
        return all_bits([*losses, *(p.data for p in model.parameters())])

    assert trained("numpy") == trained("python")


def test_integer_leaves_and_arguments():
    weights = [fg.Value(k) for k in range(-3, 9)]

    def f(x):
        return sum((w * a + 2).tanh() ** 3 for w, a in zip(weights, x * 3, strict=True))

    results = [flattened(fg.value_and_grad(f, backend=b)([1, 2, -3, 4])) for b in ("python", "numpy")]
    assert all_bits(results[0]) == all_bits(results[1])
    gradients = [fg.value_and_grad(f, wrt=weights, backend=b)([1, 2, -3, 4]) for b in ("python", "numpy")]
    assert all_bits(flattened(gradients[0])) == all_bits(flattened(gradients[1]))


def test_second_derivatives():
    def f(x):
        return sum((a * a * b).sin() for a, b in itertools.pairwise(x))

    def slope(x):
        return sum(g * g for g in fg.grad(f)(x))

    every_way(slope, [0.1 * k for k in range(9)])


def test_empty_and_tiny_programs():
    every_way(lambda x: x, 1.5)
    every_way(lambda x: x * 1.0, -0.0)
    every_way(lambda x, y: x * 0.0, 1.5, [2.0, 3.0])
    check_primal(LoopProgram((Group("list", (1.0, 2.0)),), (), ((0, 1), (0, 0), 2.5)))
    check_joint(LoopProgram((Group("scalar", (1.0,)),), (), ((0, 0), 2.5)))


def test_an_argument_that_is_not_used():
    kernel = every_way(lambda x, y: sum(a.tanh() for a in x), list(XS), [0.0] * 6)
    assert kernel.program.inputs == len(XS) + 6


def attention(q):
    """Softmax attention with one array for queries, keys and values: products of a row with itself stand apart."""
    n, width = q.shape
    total = 0.0
    for i in range(n):
        scores = [sum(q[i, r] * q[j, r] for r in range(width)).exp() for j in range(n)]
        norm = sum(scores)
        total = total + sum((sum(scores[j] * q[j, c] for j in range(n)) / norm) ** 2 for c in range(width))
    return total


def turns(q):
    """Rows of two kinds of terms in turn; in the i-th row the i-th run is long."""
    x, y = q[0], q[1]
    total = 0.0
    for i in range(12):
        kinds = [k % 2 for k in range(12) for _ in range(40 if k == i else 1)]
        row = [x[j % 9] * y[i] if kind else (x[j % 7] - y[i]).tanh() for j, kind in enumerate(kinds)]
        total = total + sum(row[1:], row[0]).exp() * 1e-9
    return total


@pytest.mark.parametrize(
    ("function", "shape"), slow([(attention, (16, 4)), (attention, (21, 3)), (turns, (2, 12))], (21, 3))
)
def test_folds_whose_runs_end_elsewhere_in_each_lane(function, shape):
    """They are as long as each other, and cannot be taken apart by their lengths."""
    q = np.random.default_rng(4).standard_normal(shape) * 0.3
    results = [fg.value_and_grad(function, backend=backend)(q) for backend in ("python", "numpy", "native")]
    for value, gradient in results[1:]:
        assert_same([value, *gradient.ravel().tolist()], [results[0][0], *results[0][1].ravel().tolist()])
