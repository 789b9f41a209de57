"""The workloads of the benchmarks compute what they say, whichever way they are computed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import flatgrad as fg
from benchmarks import figure, gradbench, recurrences, workloads
from benchmarks.__main__ import MEASURES
from benchmarks.by_hand import gradbench_in_c, moons_by_hand, moons_in_c, recurrence_in_c
from benchmarks.peers import moons_peers, rosenbrock_peers
from benchmarks.suite import PROGRAMS, RECURRENCES, compare
from benchmarks.table import table
from benchmarks.workloads import (
    CHARACTERS,
    NAMES,
    flowers,
    moons,
    moons_at,
    rosenbrock,
    transformer,
    transformer_at,
)

from .bits import assert_same
from .examples import crossed, slow


def numbers_of(parameters):
    return np.array([p.data for p in parameters])


def transformer_in_numpy(numbers, positions, width, heads):
    """The loss of the transformer in matrices: all positions at once, the future masked."""
    tokens = [CHARACTERS.index(c) for c in NAMES[: positions + 1]]
    rows = [len(CHARACTERS), 16, len(CHARACTERS), *[width] * 4, 4 * width]  # of the matrices of `width` columns
    *parts, narrow = np.split(numbers, width * np.cumsum(rows))
    of_token, of_position, to_logits, to_query, to_key, to_value, to_output, widen = (
        part.reshape(-1, width) for part in parts
    )

    def norm(x):
        return x * ((x * x).mean(-1, keepdims=True) + 1e-5) ** -0.5

    def softmax(logits):
        exps = np.exp(logits - logits.real.max(-1, keepdims=True))
        return exps / exps.sum(-1, keepdims=True)

    def split(x):
        return x.reshape(positions, heads, -1).swapaxes(0, 1)

    x = norm(of_token[tokens[:-1]] + of_position[:positions])
    query, key, value = (split(norm(x) @ matrix.T) for matrix in (to_query, to_key, to_value))
    scores = query @ key.swapaxes(1, 2) / (width // heads) ** 0.5
    scores[:, ~np.tri(positions, dtype=bool)] = -np.inf
    x = x + (softmax(scores) @ value).swapaxes(0, 1).reshape(positions, width) @ to_output.T
    hidden = norm(x) @ widen.T
    x = x + np.where(hidden.real > 0, hidden, 0) @ narrow.reshape(width, -1).T
    return -np.log(softmax(x @ to_logits.T)[range(positions), tokens[1:]]).mean()


def test_transformer_is_the_one_in_matrices():
    size = {"positions": 3, "width": 4, "heads": 2}
    parameters, loss = transformer(**size)
    value, gradient = fg.value_and_grad(loss, wrt=parameters)()
    numbers = numbers_of(parameters)
    assert value == pytest.approx(transformer_in_numpy(numbers, **size), rel=1e-14)
    # The derivative by a complex step, which loses no digits to a difference.
    steps = numbers + 1e-30j * np.eye(len(numbers))
    expected = [transformer_in_numpy(step, **size).imag * 1e30 for step in steps]
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-14)


def test_transformer_has_the_size_of_microgpt():
    parameters, loss = transformer(value=float)
    assert len(parameters) == 4192
    assert loss() == transformer()[1]().data


@pytest.mark.parametrize("positions", slow([1, 2, 8], 8))
def test_transformer_compiled_has_the_bits_of_the_graph(positions):
    parameters, loss = transformer(positions)
    value, gradient = fg.value_and_grad(loss, wrt=parameters)()
    graph = loss()
    graph.backward()
    assert_same([value, *gradient], [graph.data, *(p.grad for p in parameters)])


def test_flowers_compiled_has_the_bits_of_the_graph():
    model, loss = flowers()
    value, gradient = fg.value_and_grad(loss, wrt=model)()
    graph = loss()
    graph.backward()
    assert_same([value, *gradient], [graph.data, *(p.grad for p in model.parameters())])


def test_losses_as_functions_of_their_parameters():
    model, loss = moons(fg.nn.MLP, fg.Value, 30)
    value, gradient = fg.value_and_grad(lambda p: moons_at(p, 30))(numbers_of(model.parameters()))
    value_of_model, gradient_of_model = fg.value_and_grad(loss, wrt=model)()
    assert_same([value, *gradient.tolist()], [value_of_model, *gradient_of_model])
    parameters, loss = transformer(2)
    assert transformer_at(parameters, 2).data == loss().data


@pytest.mark.parametrize("points", [100, 7])
def test_moons_by_hand(points):
    model, loss = moons(fg.nn.MLP, fg.Value, points)
    compiled, by_hand = fg.value_and_grad(loss, wrt=model), moons_by_hand(points)
    for step in range(3):
        value, gradient = compiled()
        value_by_hand, gradient_by_hand = by_hand(numbers_of(model.parameters()))
        assert value_by_hand == pytest.approx(value, rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(gradient_by_hand, gradient, rtol=1e-12, atol=1e-12, err_msg=str(step))
        for p, slope in zip(model.parameters(), gradient, strict=True):
            p.data -= 0.1 * slope


@pytest.mark.parametrize("points", [100, 7])
def test_moons_in_c_has_the_bits_of_the_graph(points):
    by_hand = moons_in_c(points)
    if by_hand is None:
        pytest.skip("there is no C compiler")
    model, loss = moons(fg.nn.MLP, fg.Value, points)
    compiled = fg.value_and_grad(loss, wrt=model)
    for step in range(5):
        value, gradient = compiled()
        value_by_hand, gradient_by_hand = by_hand(numbers_of(model.parameters()))
        assert_same([value_by_hand, *gradient_by_hand.tolist()], [value, *gradient], f"after {step} steps")
        for p, slope in zip(model.parameters(), gradient, strict=True):
            p.data -= 0.1 * slope


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        *((name, small) for name, _, _, small, _ in PROGRAMS), ("lse", (1,)), ("gmm", (1, 1, 1)), ("gmm", (5, 4, 7)),
        ("kmeans", (1, 4, 3)), ("lstm", (2, 1, 1)), ("lstm", (5, 3, 2)), ("llsq", (3, 1)), ("det", (2,)), ("det", (3,)),
    ],
)  # fmt: skip
def test_programs_of_gradbench_in_c(name, sizes):
    """Called twice, at other numbers the second time: nothing is left over from the call before."""
    by_hand = gradbench_in_c(name, sizes)
    if by_hand is None:
        pytest.skip("there is no C compiler")
    function, arguments = getattr(gradbench, name)(*sizes)
    everything = tuple(range(len(arguments)))
    for scale in (1.0, 0.9):
        scaled = [scale * argument for argument in arguments]
        expected = fg.value_and_grad(function, argnums=everything, backend="python")(*scaled)
        result = by_hand(*scaled)
        compare(expected, result)
        assert [gradient.shape for gradient in result[1]] == [argument.shape for argument in arguments]


@pytest.mark.parametrize(("name", "sizes"), [(name, small) for name, _, _, small, _ in RECURRENCES])
def test_recurrences_in_c(name, sizes):
    by_hand = recurrence_in_c(name, sizes)
    if by_hand is None:
        pytest.skip("there is no C compiler")
    function, (numbers,) = getattr(recurrences, name)(*sizes)
    for scale in (1.0, 0.9):
        expected = fg.value_and_grad(function, (0,), backend="python")(scale * numbers)
        compare(expected, by_hand(scale * numbers))


@pytest.mark.parametrize("place", [0, 1])
def test_programs_of_gradbench_that_differ_are_seen(place):
    numbers = np.array([3.0, -1e-12])
    compare((2.0, [numbers]), (2.0, [numbers * (1.0 + 1e-12)]))
    wrong = [(2.0 + 1e-9, [numbers]), (2.0, [numbers + np.array([0.0, 1e-9])])][place]
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compare(wrong, (2.0, [numbers]))


def test_peers_that_are_installed_agree():
    model, loss = moons(fg.nn.MLP, fg.Value)
    value, gradient = fg.value_and_grad(loss, wrt=model)()
    for name, peer in moons_peers().items():
        value_of_peer, gradient_of_peer = peer(numbers_of(model.parameters()))
        assert value_of_peer == pytest.approx(value, rel=1e-12), name
        np.testing.assert_allclose(gradient_of_peer, gradient, rtol=1e-12, atol=1e-12, err_msg=name)
    x = np.linspace(0.5, 1.5, 10)
    for name, peer in rosenbrock_peers().items():
        np.testing.assert_allclose(peer(x), fg.grad(rosenbrock)(x), rtol=1e-9, err_msg=name)


@pytest.fixture
def recursion_limit():
    """The limit of recursion is afterwards as it was: micrograd needs a higher one."""
    limit = sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("recursion_limit")
@pytest.mark.parametrize("name", slow(MEASURES, *(name for name in MEASURES if name != "pointers")))
def test_every_measure_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FLATGRAD_BENCHMARKS", "quick")
    rows = MEASURES[name]()
    assert rows
    if name != "engines":
        return
    times = figure.times_of(table(rows))
    assert {"micrograd", *figure.OWN} <= times.keys()
    figure.draw(times, tmp_path / "moons.png")
    assert (tmp_path / "moons.png").read_bytes().startswith(b"\x89PNG")


SIZES = {
    "lse": (30,), "gmm": (2, 3, 5), "lstm": (4, 2, 3), "kmeans": (3, 12, 2), "det": (4,), "llsq": (8, 5),
    "gaussian_process": (9,), "binomial_tree": (11,), "pendulum": (30,), "garch": (60,), "lorenz": (40,),
    "network": (30, 3),
}  # fmt: skip


@pytest.mark.parametrize(("name", "backend"), crossed(SIZES, ["python", "numpy", "native"]))
def test_programs_of_gradbench_and_irregular_ones(name, backend):
    """The bits are those of the graph; and the gradient is near central differences of the function on floats."""
    if backend == "native":
        pytest.importorskip("llvmlite")
    module = next(module for module in (gradbench, recurrences, workloads) if hasattr(module, name))
    function, arguments = getattr(module, name)(*SIZES[name])
    everything = tuple(range(len(arguments)))
    value, gradients = fg.value_and_grad(function, argnums=everything, backend=backend)(*arguments)
    leaves = [np.vectorize(fg.Value, otypes=[object])(argument) for argument in arguments]
    result = function(*[leaf.tolist() for leaf in leaves])
    result.backward()
    assert value == result.data
    for gradient, leaf in zip(gradients, leaves, strict=True):
        np.testing.assert_array_equal(gradient, np.vectorize(lambda node: node.grad, otypes=[float])(leaf))
    step = 1e-6
    for k, argument in enumerate(arguments):
        direction = np.random.default_rng(1).normal(size=argument.shape)
        ends = [
            function(*[other + sign * step * direction if j == k else other for j, other in enumerate(arguments)])
            for sign in (1.0, -1.0)
        ]
        expected = (float(ends[0]) - float(ends[1])) / (2.0 * step)
        np.testing.assert_allclose(np.vdot(gradients[k], direction), expected, rtol=1e-5, atol=1e-7)
