"""microGPT, the example: what is compiled has the bits of the scalar graph, in training and in writing."""

from __future__ import annotations

import random
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.microgpt import BETA1, BETA2, EPS, EXAMPLE, RATE, Interpreted, problem, trained

STEPS = 5


def interpreted(model, names, steps):
    """Losses and parameters of a run on `Value`s: the graph of each name, its gradient, and Adam on floats."""
    parameters = model.parameters()
    m, v, losses = [0.0] * len(parameters), [0.0] * len(parameters), []
    for t in range(1, steps + 1):
        name = names[(t - 1) % len(names)][:17]
        loss = model.loss(name, len(name) - 1)
        loss.backward()
        losses.append(loss.data)
        rate = RATE * (1 - (t - 1) / steps)
        for k, p in enumerate(parameters):
            m[k] = BETA1 * m[k] + (1 - BETA1) * p.grad
            v[k] = BETA2 * v[k] + (1 - BETA2) * p.grad**2
            p.data -= rate * (m[k] / (1 - BETA1**t)) / ((v[k] / (1 - BETA2**t)) ** 0.5 + EPS)
            p.grad = 0.0
    return losses, [p.data for p in parameters]


@pytest.fixture(scope="module")
def run():
    """The module of the example, its model after some steps, names of very different lengths, and the losses."""
    module, model, names = problem(1)
    names += [[26, *random.Random(k).choices(range(26), k=k), 26] for k in (1, 15, 16, 30)]
    history = trained(module, model, names, STEPS)
    return module, model, names, history.loss


@pytest.mark.slow
def test_a_run_has_the_bits_of_the_graph(run):
    """The positions behind a name change no bit of its loss and gradient; what is behind the block is not read."""
    _, model, names, losses = run
    _, again, _ = problem(1)
    assert (losses, [p.data for p in model.parameters()]) == interpreted(again, names, STEPS)


@pytest.mark.slow
def test_a_scalar_engine_written_apart_agrees(run):
    """It looks up a list where `fg.table` selects, so sums of gradients have another order, and differ in last bits."""
    module, model, names, losses = run
    _, again, _ = problem(1)
    peer = Interpreted(module, again, STEPS)
    assert [peer.step(name) for name in names] == pytest.approx(losses, rel=1e-12)
    assert [p.data for p in peer.parameters] == pytest.approx([p.data for p in model.parameters()], rel=1e-9, abs=1e-12)


def test_a_position_is_compiled_with_the_bits_of_the_graph():
    module, model, _ = problem(1)
    one_position, tokens = module.writer(model), [26, 0, 3, 0, *range(12)]
    grown, kept = ([[]], [[]]), np.zeros((2, 1, module.BLOCK - 1, module.WIDTH))
    for k, token in enumerate(tokens):
        logits = model(token, k, *grown)
        likely, *rows = one_position(token, k, *kept, 0.5)
        assert likely == [x.data for x in module.softmax([logit / 0.5 for logit in logits])]
        for rows_so_far, new, all_kept in zip(grown, rows, kept, strict=True):
            assert new.tolist() == [[x.data for x in layer[-1]] for layer in rows_so_far]
            if k < module.BLOCK - 1:
                all_kept[:, k] = new
    assert len(one_position.kernels) == 1


def example(*arguments):
    command = [sys.executable, "-W", "error::DeprecationWarning:flatgrad", str(EXAMPLE / "train.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_command_learns_and_writes(tmp_path, run):
    pytest.importorskip("matplotlib")
    picture, losses = tmp_path / "loss.png", run[-1]
    output = example("--quick", "--plot", str(picture))
    first, last = map(float, re.search(r"loss ([\d.]+) -> ([\d.]+)", output).groups())
    assert first > last
    assert float(re.search(r"first losses: (\S+)", output)[1]) == losses[0]
    assert len(re.findall(r"^ *\d+ [a-z]{1,16}$", output, re.MULTILINE)) >= 15
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_command_takes_other_names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("aba\n\nbab\nabab\nb\n" + "ab" * 20 + "\n", encoding="utf-8")
    output = example(str(path), "--steps", "3", "--samples", "4", "--temperature", "1")
    assert output.startswith("5 names, 3 tokens, ")
    assert set(re.findall(r"^ *\d (\w*)$", output, re.MULTILINE)) <= set(re.findall(r"[ab]*", output))
