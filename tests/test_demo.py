"""The moons notebook, compiled: the published numbers, and what the command line prints."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from flatgrad import __version__, cli, demo
from tests import reference

PUBLISHED = {0: 0.8958441028683222, 99: 0.010978370135492717}


@pytest.mark.slow
def test_two_steps(tmp_path):
    lines = []
    losses = demo.run(tmp_path / "out", 2, echo=lines.append)
    assert len(losses) == 2
    assert losses[0] == pytest.approx(PUBLISHED[0], rel=1e-9)
    assert losses[1] < losses[0] * 2
    text = "\n".join(lines)
    assert "337 parameters" in text
    assert "step  0 loss 0.89584410286832" in text
    assert "bit for bit: equal" in text
    assert re.search(r"one step, compiled +\d+\.\d µs ", text)
    assert "a step: the loss of 100 points, its gradient, and the update of 337 parameters" in text
    (written,) = (tmp_path / "out").glob("*.py")
    assert str(written) in text
    tree = ast.parse(written.read_text(encoding="utf-8"))
    assert any(isinstance(node, ast.FunctionDef) for node in tree.body)


@pytest.mark.slow
def test_a_hundred_steps(tmp_path):
    lines = []
    losses = demo.run(tmp_path, 100, echo=lines.append)
    assert len(losses) == 100
    for step, loss in PUBLISHED.items():
        assert losses[step] == pytest.approx(loss, rel=1e-9)
    (last,) = (line for line in lines if line.startswith("step 99"))
    assert "accuracy 100%" in last


@pytest.mark.slow
def test_the_first_gradient_has_the_bits_of_the_reference_engine():
    """65,000 nodes, every parameter's gradient, by an engine that shares nothing with ours."""
    model, loss, _ = demo.moons()
    value, _ = loss()
    value.backward()
    parameters = model.parameters()
    expected = [value.data, *(p.grad for p in parameters)]
    assert [repr(x) for x in by_reference(model)] == [repr(x) for x in expected]


def by_reference(model):
    """The notebook's loss on the reference engine's scalars, and the gradient of each parameter."""
    import random

    import numpy as np

    from flatgrad.nn.data import make_moons

    np.random.seed(1337)
    random.seed(1337)
    X, y = make_moons(100, noise=0.1)
    layers = [
        [([reference.Scalar(w.data) for w in n.w], reference.Scalar(n.b.data), n.nonlin) for n in layer.neurons]
        for layer in model.layers
    ]

    def predict(x):
        for layer in layers:
            acts = [sum((wi * xi for wi, xi in zip(w, x, strict=True)), b) for w, b, _ in layer]
            x = [act.relu() if nonlin else act for act, (_, _, nonlin) in zip(acts, layer, strict=True)]
        return x[0]

    scores = [predict([reference.Scalar(float(number)) for number in row]) for row in X]
    losses = [(1 + -label * score).relu() for label, score in zip((y * 2 - 1).tolist(), scores, strict=True)]
    parameters = [p for layer in layers for w, b, _ in layer for p in (*w, b)]
    total = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in parameters)
    total.backward()
    return [total.data, *(p.grad for p in parameters)]


def test_the_command_line(tmp_path, capsys):
    assert cli.main(["demo", "--steps", "1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "337 parameters" in out
    assert "step  0 loss 0.89584410286832" in out
    assert "bit for bit: equal" in out
    assert len(list(tmp_path.glob("*.py"))) == 1


def test_errors_of_the_command_line(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    assert cli.main(["demo", "--steps", "1", "--out", str(blocked)]) == 2
    assert "flatgrad: " in capsys.readouterr().err
    for arguments in (["demo", "--steps", "0"], ["demo", "--steps", "many"], ["unknown"], []):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
    assert "usage: flatgrad" in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "flatgrad", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"flatgrad {__version__}"
