"""Kernels for all sizes that were made before are found again, are the same, and are not taken for anything else."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler import open_stages, round_stages, stages
from flatgrad.compiler.loops.extents import OpenRows, OpenTable, Polynomial, Samples
from flatgrad.compiler.loops.formulas import Columns, Formula, Repeated, formula
from flatgrad.compiler.machine import native, open_recall, recall
from flatgrad.compiler.machine.packing import pack, unpack
from flatgrad.runtime import primitives as p
from flatgrad.runtime.errors import InputError
from tests.every_way import flattened
from tests.examples import crossed, slow

pytestmark = pytest.mark.skipif(not native.available(), reason="there is no machine code here")
SIZES = (4, 6, 9, 2, 12, 1, 33, 104)


def variance(x):
    mean = sum(x) / len(x)
    return sum((fg.tanh(a) - mean) ** 2 for a in x) / len(x)


def weighted(x):
    return sum(fg.sin(a) * (k / len(x)) for k, a in enumerate(x))


def neighbours(x):
    return sum(fg.sin(a * (1.0 / len(x))) * b for a, b in itertools.pairwise(x)) + x[0]


def labels(x):
    return nn.cross_entropy([[a, a * 2.0, -a] for a in x], [float(k % 3) for k in range(len(x))])


#: Sums, constants and places that depend on the size, and a function that has no kernel for all sizes.
FUNCTIONS = {"variance": variance, "weighted": weighted, "neighbours": neighbours, "labels": labels}


@pytest.fixture
def generalized(monkeypatch):
    """Counts what is generalised, that is, made anew."""
    calls, generalize = [], open_stages.generalize
    monkeypatch.setattr(open_stages, "generalize", lambda *args: calls.append(args) or generalize(*args))
    return calls


def rows(count):
    return np.random.default_rng(count).uniform(0.5, 1.5, count)


def bits(function, sizes=SIZES):
    return [[n.hex() for n in flattened(function(rows(size)))] for size in sizes]


def make(name="variance", **options):
    return fg.value_and_grad(FUNCTIONS[name], **{"backend": "native", "dynamic": True, **options})


@pytest.mark.parametrize(("name", "way"), slow(crossed(FUNCTIONS, ["the disk", "this process"]), "labels"))
def test_what_is_found_is_what_was_made(folder, generalized, name, way):
    first = make(name)
    expected = bits(first)
    assert expected == bits(make(name, backend="python", dynamic=False))
    made = len(generalized)
    if way == "the disk":
        open_recall.forget()
    again = make(name)
    assert bits(again) == expected
    assert len(generalized) == made
    assert bool(first.open_kernels) == (name != "labels")
    for one, two in zip(first.open_kernels, again.open_kernels, strict=True):
        assert two.stats.sizes == one.stats.sizes
        assert (two.stats.equations, two.stats.reason) == (one.stats.equations, one.stats.reason)
        assert str(two.arrays) == str(one.arrays)
        assert two.source == one.source
        assert two.c_source() == one.c_source()
        assert str(two.stages) == str(one.stages)
        assert str(again.kernel_for(rows(7)).program) == str(first.kernel_for(rows(7)).program)
        assert bits(again) == expected, "what was only shown has changed nothing"


@pytest.mark.parametrize("backend", ["python", "numpy"])
def test_other_back_ends_find_it_in_their_process(folder, generalized, backend):
    expected = bits(make(backend=backend))
    made = len(generalized)
    assert bits(make(backend=backend)) == expected
    assert len(generalized) == made
    open_recall.forget()
    assert bits(make(backend=backend)) == expected
    assert len(generalized) == 2 * made


def test_kernels_of_two_functions(folder, generalized):
    results, counts = [], []
    for _ in range(2):
        f = fg.compile(lambda x: [variance(x), x[0] * x[-1]], backend="native", dynamic=True)
        for size in SIZES:
            values = [fg.Value(n) for n in rows(size).tolist()]
            outputs = f(values)
            (outputs[0] * outputs[1]).backward()
            results.append([n.hex() for n in (outputs[0].data, *(value.grad for value in values))])
        counts.append(len(generalized))
        open_recall.forget()
    assert f.open_kernels
    assert results[: len(SIZES)] == results[len(SIZES) :]
    assert counts[0] == counts[1]


def train(size, seed=0):
    model = nn.MLP(3, [4, 1], seed=1)
    X, y = np.random.default_rng(seed).normal(size=(size, 3)), np.random.default_rng(1).normal(size=size)
    history = nn.fit(
        lambda X, y: sum((model(x) - t) ** 2 for x, t in zip(X, y, strict=True)) / len(y),
        model, nn.Adam(0.01), X, y, epochs=2, batch_size=16, seed=0, progress=False, backend="native",
    )  # fmt: skip
    return [n.hex() for n in (*history.loss, *(q.data for q in model.parameters()))]


def test_training_steps(folder, generalized):
    expected = train(40)
    made = len(generalized)
    assert made
    assert train(40) == expected
    open_recall.forget()
    assert train(40) == expected
    assert len(generalized) == made


def saved_loop(path, loss, model, **options):
    """The loop of a run on 40 rows, as it is saved: re-rolled."""
    X, y = np.random.default_rng(0).normal(size=(40, 2)), np.random.default_rng(1).normal(size=40)
    history = nn.fit(
        loss, model, nn.Adam(0.01), X, y,
        **{"epochs": 1, "batch_size": 16, "seed": 0, "progress": False, "backend": "native", **options},
    )  # fmt: skip
    return history.save_source(path, rolled=True).read_text(encoding="utf-8")


def test_the_source_of_a_loop_is_printed_once(folder, generalized, tmp_path):
    model, other = nn.MLP(2, [3, 1], seed=1), nn.MLP(2, [3, 1], seed=2)

    def loss(X, y):
        return sum((model(x) - t) ** 2 for x, t in zip(X, y, strict=True))

    def same(X, y):  # the lines of this function are other ones
        return sum((other(x) - t) ** 2 for x, t in zip(X, y, strict=True))

    texts = []
    for function, trained in ((loss, model), (loss, model), (same, other), (loss, model)):
        numbers = [parameter.data for parameter in trained.parameters()]
        texts.append(saved_loop(tmp_path / "loop.py", function, trained))
        for parameter, number in zip(trained.parameters(), numbers, strict=True):
            parameter.data = number
        made = len(generalized)
        open_recall.forget()
    first, again, others, last = texts
    assert first == again == last
    assert "for x, t in zip(X, y, strict=True))" in first, "comments are the user's lines"
    assert "from `same`" in others
    assert "from `loss`" in first
    before = len(generalized)
    assert saved_loop(tmp_path / "loop.py", loss, model) == first
    assert len(generalized) == before == made, "nothing was generalised again"
    loss.__name__ = "renamed"
    open_recall.forget()
    renamed = saved_loop(tmp_path / "loop.py", loss, model)
    assert "from `renamed`" in renamed
    assert "from `loss`" not in renamed
    open_recall.forget()
    smaller = saved_loop(tmp_path / "loop.py", loss, model, batch_size=20)
    assert "step_20(" in smaller
    assert "step_16(" not in smaller


@pytest.fixture
def differentiated(monkeypatch):
    """Counts the programs that are differentiated."""
    calls, adjoint = [], stages.adjoint
    monkeypatch.setattr(stages, "adjoint", lambda *args, **options: calls.append(args) or adjoint(*args, **options))
    return calls


@pytest.mark.parametrize("name", slow([name for name in FUNCTIONS if name != "labels"], "variance"))
def test_sizes_that_were_compared_are_not_differentiated_again(folder, differentiated, name):
    """Sizes of samples, those that are evaluated, and those for which smaller ones are."""
    sizes = (*SIZES, 60_000) if name == "variance" else SIZES
    expected = bits(make(name), sizes)
    assert len(differentiated) > len(SIZES)
    for _ in range(2):
        before = len(differentiated)
        again = make(name)
        assert bits(again, sizes) == expected
        own = [
            verdict for verdict in again.open_kernels[0].stats.sizes.values() if verdict in ("different", "not bound")
        ]
        assert len(differentiated) - before == len(own), "only what has a kernel of its own"
        open_recall.forget()


def test_a_difference_is_remembered(folder):
    """Two functions with the same samples, one of which branches: what is kept of one is not for the other."""

    def plain(x):
        return sum(fg.sin(a) for a in x)

    def branching(x):
        return plain(x) * 2.0 if len(x) > 10 else plain(x)

    outcomes = []
    for _ in range(2):
        for function in (plain, branching, plain):
            f = fg.value_and_grad(function, backend="native", dynamic=True)
            results = bits(f, [9]), bits(f, [11])
            outcomes.append((results, f.open_kernels[0].stats.sizes[11]))
        open_recall.forget()
    assert outcomes[:3] == outcomes[3:]
    assert [verdict for _, verdict in outcomes[:3]] == ["compared", "different", "compared"]
    assert outcomes[0][0][1] != outcomes[1][0][1]


def test_a_limited_number_of_comparisons_is_kept(folder, differentiated, monkeypatch):
    monkeypatch.setattr(open_recall, "COMPARED", 3)
    make()(rows(7))
    counts = []
    for size in (8, 9, 10, 8, 9, 10, 7):
        before = len(differentiated)
        make()(rows(size))
        counts.append(len(differentiated) - before)
        open_recall.forget()
    assert counts == [1, 1, 1, 0, 0, 0, 1]


@pytest.fixture
def built(monkeypatch):
    """Counts the steps that are traced with gradient and update."""
    calls, build = [], nn.step.TrainStep._build
    monkeypatch.setattr(nn.step.TrainStep, "_build", lambda *a, **b: calls.append(a) or build(*a, **b))
    return calls


class Halved(nn.SGD):
    def update(self, parameter, gradient, state, numbers):
        return super().update(parameter, gradient * 0.5, state, numbers)


def halved():
    optimizer = nn.SGD(0.1)
    optimizer.clip = lambda gradients: [gradient * 0.25 for gradient in gradients]
    return optimizer


#: Optimisers, and how many of three samples are traced with gradient and update where a kernel is found again.
OPTIMIZERS = {
    "ours": (lambda: nn.Adam(0.01), 1),
    "another number in its update": (lambda: nn.Adam(0.01, betas=(0.8, 0.999)), 1),
    "clipped gradients": (lambda: nn.Adam(0.01, clip_norm=0.1), 1),
    "of another class": (lambda: Halved(0.1), 3),
    "with a method of its own": (halved, 3),
}


@pytest.mark.parametrize(
    ("leaf", "optimizers"),
    [
        (None, ["clipped gradients", "of another class"]),
        pytest.param(None, list(OPTIMIZERS), marks=pytest.mark.slow),
        pytest.param(fg.Value(2.0), list(OPTIMIZERS), marks=pytest.mark.slow),
    ],
    ids=["two", "all", "all with a leaf"],
)
def test_steps_are_found_by_their_losses(folder, generalized, built, leaf, optimizers):
    """Of the later samples only the loss is traced, where the first one says what becomes of it."""
    outcomes: dict[str, list] = {"made": [], "found": []}
    for way, outcome in outcomes.items():
        for name in optimizers:
            make_optimizer, count = OPTIMIZERS[name]
            model = nn.MLP(2, [2, 1], seed=1)

            def loss(X, model=model):
                return sum(model(x) ** 2 for x in X) * (1.0 if leaf is None else leaf)

            step, before = nn.train_step(loss, make_optimizer(), model, dynamic=True, backend="native"), len(built)
            losses = [step(np.ones((9, 2)))]
            samples = 3 if way == "made" or leaf is not None else count
            assert len(built) - before == {1: 1, 3: 4}[samples], f"{name}: samples, and one to compare with"
            losses += [step(np.full((size, 2), 0.5)) for size in (3, 5, 4)]
            (kernel,) = step.open_kernels
            numbers = [n.hex() for n in (*losses, *step.numbers)]
            program = step.prepare(np.ones((6, 2))).program
            outcome.append((numbers, str(kernel.stages), kernel.source, str(program)))
        if way == "made":
            open_recall.forget()
    assert outcomes["made"] == outcomes["found"]
    assert len({str(numbers) for numbers, *_ in outcomes["made"]}) == len(optimizers)


@pytest.mark.parametrize("size", slow([3, 4, 5], 3, 5))
def test_an_error_at_the_size_of_a_sample_is_no_error_of_another_size(folder, size):
    """Of later samples only the loss is traced at first; the error comes when the gradient is asked for."""

    def losses(**options):
        w = fg.Value(0.5)

        def loss(X):
            return fg.Value(1.0) if len(X) == size else sum((w * x - 1.0) ** 2 for x in X)

        step = nn.train_step(loss, nn.SGD(0.01), [w], backend="native", **options)
        outcomes = [step(np.ones(count)) for count in (40, 7)]
        with pytest.raises(InputError, match="nothing to train"):
            step(np.ones(size))
        return [*outcomes, step(np.ones(6)), *step.numbers]

    expected = losses(dynamic=False)
    for _ in range(2):
        assert losses(dynamic=True) == expected


@pytest.mark.parametrize(
    "changed", slow([{"betas": (0.25, 0.5)}, {"eps": 0.1}, {"clip_norm": 0.5}], {"eps": 0.1}, {"clip_norm": 0.5})
)
def test_later_samples_are_of_the_optimiser_as_it_was(folder, changed):
    """Of them, gradient and update are traced when somebody asks for them."""

    def make():
        w, optimizer = fg.Value(0.5), nn.Adam(0.1, betas=(0.5, 0.75))
        step = nn.train_step(
            lambda X: sum(fg.tanh(w * x) ** 2 for x in X), optimizer, [w], dynamic=True, backend="native"
        )
        return optimizer, step, [step(np.ones(40))]

    _, first, _ = make()
    shown, outcomes = str(first.open_kernels[0].arrays), []
    open_recall.forget()
    for asks in (True, False):
        optimizer, step, losses = make()
        before = {name: getattr(optimizer, name) for name in changed}
        vars(optimizer).update(changed)
        if asks:
            assert str(step.open_kernels[0].arrays) == shown
        losses.append(step(np.ones(40)))
        vars(optimizer).update(before)
        losses += [step(np.ones(size)) for size in (40, 1, 3, 30)]
        outcomes.append(([loss.hex() for loss in losses], step.open_kernels[-1].stats.sizes))
    assert outcomes[0] == outcomes[1]


def test_code_that_another_thread_adds_meanwhile(folder):
    codes = {}

    class Code:
        layout = None

        @property
        def key(self):
            codes[True] = Code()
            return ""

    codes[False] = Code()
    open_recall.keep("0" * 64, open_recall.Prepared(codes=[codes]))
    assert set(codes) == {False, True}


def test_labels_of_parameters_do_not_matter(folder, generalized):
    """Not even those that groups of inputs have as names."""
    for label in ("parameters", "lr", "velocitys", "w"):
        w = fg.Value(0.5, label=label)
        step = nn.train_step(
            lambda X, w=w: sum((w * x - 1.0) ** 2 for x in X), nn.SGD(0.1, momentum=0.5), [w], dynamic=True,
            backend="native",
        )  # fmt: skip
        step(np.ones(9))
        assert step.open_kernels[0].stages.at.sizes[0] == (3,)
        assert label in str(step.open_kernels[0].stages)
    assert len(generalized) == 1


def test_functions_with_many_rounds(folder, generalized):
    """Their kernels are bound to rounds, and to numbers that they captured."""
    forces = np.random.default_rng(1).uniform(size=600).tolist()

    def swing(a, h):
        angle = speed = 0.0 * a
        for force in forces:
            speed = speed + h * (force * a - fg.sin(angle) - 0.1 * speed)
            angle = angle + h * speed
        return angle * angle

    results, counts = [], []
    for _ in range(2):
        round_stages._known.clear()
        open_recall.forget()
        f = fg.value_and_grad(swing, argnums=(0, 1), backend="native")
        results.append([n.hex() for n in flattened(f(0.75, 0.01))])
        results.append([n.hex() for n in flattened(f(0.5, 0.02))])
        assert "one code serves all numbers of rounds" in f.kernels[0].stats.reason
        counts.append(len(generalized))
        stats = f.kernels[0].stats
        results[-1] += [stats.inputs, stats.constants, stats.equations, str(f.kernels[0].arrays)]
    assert results[:2] == results[2:]
    assert counts[0] == counts[1] > 0
    expected = fg.value_and_grad(swing, argnums=(0, 1), backend="python")
    assert results[0] == [n.hex() for n in flattened(expected(0.75, 0.01))]


def test_code_for_the_smallest_sizes_is_kept_when_it_is_made(folder, generalized, monkeypatch):
    written, write = [], recall_writes(monkeypatch)
    make()(rows(100))
    open_recall.forget()
    make()(rows(100))
    assert len(write) == 1, "the code for larger sizes"
    open_recall.forget()
    make()(rows(2))
    assert len(write) == 2
    open_recall.forget()
    f = make()
    assert bits(f) == bits(make(backend="python", dynamic=False))
    assert (len(write), written) == (2, [])


def recall_writes(monkeypatch):
    from flatgrad.compiler.machine import open_code

    calls, write = [], open_code.write_open
    monkeypatch.setattr(open_code, "write_open", lambda *args: calls.append(args) or write(*args))
    return calls


def test_refusals_are_kept(folder, generalized):
    def odd(x):
        return sum(a * (k % 2) for k, a in enumerate(x)) + sum(fg.tanh(a * b) for a in x for b in x) * (len(x) % 2)

    counts = []
    for _ in range(3):
        f = fg.grad(odd, backend="native", dynamic=True)
        expected = fg.grad(odd, backend="python", dynamic=False)
        for size in (4, 7):
            assert f(rows(size)).tolist() == expected(rows(size)).tolist()
        assert not f.open_kernels
        counts.append(len(generalized))
        if len(counts) == 2:
            open_recall.forget()
    assert counts == counts[:1] * 3


@pytest.mark.parametrize("damage", slow(["gone", "cut", "changed", "all gone"], "cut", "all gone"))
def test_damage_is_noticed(folder, generalized, damage):
    expected = bits(make())
    made = len(generalized)
    open_recall.forget()
    for path in folder.iterdir():
        content = path.read_bytes()
        if damage == "cut":
            path.write_bytes(content[:-1])
        elif damage == "changed":
            path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
        elif damage == "all gone" or b"OpenLayout" not in content:
            path.unlink()  # "gone": the code, but not how to call it
    assert bits(make()) == expected
    assert len(generalized) == 2 * made
    open_recall.forget()
    assert bits(make()) == expected
    assert len(generalized) == 2 * made


DIFFERENT = {
    "a constant": lambda: fg.value_and_grad(lambda x: variance(x) + 2.0, backend="native", dynamic=True),
    "without the value": lambda: fg.grad(variance, backend="native", dynamic=True),
    "fast mode": lambda: make(mode="fast"),
    "no exceptions": lambda: make(faults="ieee"),
    "what auto chooses": lambda: make(backend="auto"),
    "a kernel of two functions": lambda: fg.compile(variance, backend="native", dynamic=True),
}


def test_what_differs_is_not_found(folder, generalized):
    make()(rows(9))
    for name, other in DIFFERENT.items():
        before = len(generalized)
        other()(rows(9))
        assert len(generalized) > before, name


def test_sizes_of_the_samples_are_part_of_the_key():
    sample = fg.grad(variance, backend="native", dynamic=True)
    sample(rows(9))
    programs = [stages.traced for stages in sample.open_kernels[0].stages.samples]
    keys = {open_recall.key_of(programs, "native", *request) for request in ([(3,)], [(4,)], [(3,), "m"])}
    keys |= {open_recall.key_of(programs[:2], "native", (3,)), open_recall.key_of(programs[::-1], "native", (3,))}
    keys |= {open_recall.key_of(programs, "auto", (3,)), recall.key_of_all(programs, "native", ((3,),))}
    assert len(keys) == 7
    assert None not in keys


def test_what_the_code_depends_on_is_part_of_the_key(folder, generalized, monkeypatch):
    changes = [
        lambda: monkeypatch.setattr(recall, "package_digest", lambda: b"another"),
        lambda: monkeypatch.setattr(p.sin, "evaluate", lambda x: math.sin(x) + 0.0),
    ]
    make()(rows(9))
    for change in changes:
        before = len(generalized)
        change()
        make()(rows(9))
        assert len(generalized) > before
    for unknown in (None, b"another"):
        monkeypatch.setattr(recall, "package_digest", lambda: unknown)
        make()(rows(9))
        before = len(generalized)
        make()(rows(9))
        assert (len(generalized) > before) == (unknown is None)


def test_a_process_keeps_a_limited_number(folder, generalized, monkeypatch):
    monkeypatch.setattr(open_recall, "LIMIT", 2)
    monkeypatch.setenv("FLATGRAD_CACHE", "0")

    def scaled(factor):
        before = len(generalized)
        fg.grad(lambda x: sum(fg.tanh(a * factor) for a in x), backend="native", dynamic=True)(rows(9))
        return len(generalized) > before

    assert [scaled(factor) for factor in (2.0, 3.0, 2.0, 4.0, 2.0, 3.0)] == [True, True, False, True, False, True]


def test_what_is_packed():
    samples = Samples([(4,), (5,), (6,)])
    third = formula([1 / 3, 1 / 4, 1 / 5], samples)
    table = OpenTable.through([np.arange(n) * 2 for n in (4, 5, 6)], [(n,) for n in (4, 5, 6)], samples)
    bent = [np.r_[7, np.arange(n) * 2, 3] for n in (7, 8, 9)]
    rows = OpenRows.through(bent, [(len(each),) for each in bent], Samples([(7,), (8,), (9,)]))
    item = [
        third, Columns((third, Formula("c / p", -0.0, table)), apart=True), Polynomial((1, -2)), rows, None, True, "ä",
        Repeated((1.0,), (-0.0, 0.5), (), Polynomial((1, -2))),
        (1, [2.5, math.inf]), {False: "x"}, np.array([[True], [False]]), np.zeros(0), np.float64(0.1), np.int64(3),
    ]  # fmt: skip
    again = unpack(pack(item))
    assert repr(again) == repr([*item[:12], 0.1, 3])
    assert [type(each) for each in again[:4]] == [Formula, Columns, Polynomial, OpenRows]
    assert math.isnan(unpack(pack(math.nan)))
    with pytest.raises(KeyError):
        pack(object())


SCRIPT = """
import sys
from flatgrad.compiler import open_stages, round_stages, stages
from tests.compiler.test_open_recall import FUNCTIONS, SIZES, bits, make, rows, train

generalized, generalize, differentiated, adjoint = [], open_stages.generalize, [], stages.adjoint
open_stages.generalize = lambda *args: generalized.append(1) or generalize(*args)
stages.adjoint = lambda *args, **options: differentiated.append(1) or adjoint(*args, **options)
print(bits(make("labels", backend="auto")))
differentiated.clear()  # it has no kernel for all sizes
functions = [make(name, backend="auto") for name in FUNCTIONS if name != "labels"]
print([bits(function) for function in functions], train(40))
own = [size for f in functions for size in SIZES if f.kernel_for(rows(size)).stats.own_size]
print(len(generalized), len(differentiated), len(own), file=sys.stderr)
"""


@pytest.mark.slow
def test_another_process(folder):
    outcomes = []
    for seed in "12":
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed}, cwd=os.path.dirname(os.path.dirname(fg.__file__)),
        )  # fmt: skip
        outcomes.append((done.stdout, *map(int, done.stderr.split())))
    (first, generalized, differentiated, _), (second, *again) = outcomes
    assert second == first
    assert generalized > 3
    generalized_again, differentiated_again, own = again
    assert (generalized_again, differentiated_again) == (0, own + 1), "sizes with a kernel of their own; and one step"
    assert differentiated > own + 10
