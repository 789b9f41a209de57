"""Each example runs, in its small size, and says what it should."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def output_of(name, *arguments):
    command = [sys.executable, "-W", "error::DeprecationWarning:flatgrad", str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def number_after(text, output):
    return float(re.search(re.escape(text) + r"\s*([-+.\de]+)", output)[1])


def test_every_example_has_a_test():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested


def test_lecture(tmp_path):
    path = tmp_path / "step.py"
    output = output_of("lecture", "--quick", "--save", str(path))
    wanted = re.findall(r"wanted ([-+]\d), predicted ([-+])", output)
    assert len(wanted) == 4
    assert all(number[0] == sign for number, sign in wanted)
    assert str(path) in output
    compile(path.read_text(encoding="utf-8"), str(path), "exec")


@pytest.mark.slow
def test_branches():
    output = output_of("branches")
    pairs = re.findall(r"^(\w+).* slope (\S+) +expected (\S+)$", output, re.MULTILINE)
    assert len(pairs) == 18
    for name, slope, expected in pairs:
        assert float(slope) == pytest.approx(float(expected), rel=1e-3 if name == "decay" else 1e-6)
    assert "the spline went 3 ways:" in output


@pytest.mark.slow
def test_moons(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "moons.png"
    output = output_of("moons", "--quick", "--plot", str(picture))
    assert number_after("validation: loss", output) < 0.4
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_iris():
    pytest.importorskip("sklearn")
    output = output_of("iris", "--quick")
    assert number_after("held out:", output) >= 27


@pytest.mark.slow
def test_digits():
    pytest.importorskip("sklearn")
    output = output_of("digits", "--quick")
    assert number_after("held out:", output) >= 60


def test_regression():
    output = output_of("regression", "--quick")
    assert 15 < number_after("chi-squared", output.split("step")[-1].split("\n\n")[1]) < 60
    off = [float(text) for text in re.findall(r"off by ([-+.\d]+) sigma", output)]
    assert len(off) == 4
    assert max(map(abs, off)) < 3


def fitted(output):
    """By how many standard errors the parameters differ from the true ones."""
    return [abs(float(text)) for text in re.findall(r"off by ([-+.\d]+) sigma", output)]


@pytest.mark.slow
def test_lotka_volterra(tmp_path):
    pytest.importorskip("scipy")
    pytest.importorskip("matplotlib")
    picture = tmp_path / "populations.png"
    output = output_of("lotka_volterra", "--quick", "--plot", str(picture))
    assert 3 < number_after("chi-squared", output) < 40
    assert len(fitted(output)) == 6
    assert max(fitted(output)) < 4
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_garch(tmp_path):
    pytest.importorskip("scipy")
    pytest.importorskip("matplotlib")
    picture = tmp_path / "volatility.png"
    output = output_of("garch", "--quick", "--plot", str(picture))
    assert number_after("log-likelihood", output) > number_after("with the true parameters", output)
    assert len(fitted(output)) == 3
    assert max(fitted(output)) < 4
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_character_rnn(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "loss.png"
    output = output_of("character_rnn", "--quick", "--plot", str(picture))
    first, last = map(float, re.search(r"loss per character ([\d.]+) -> ([\d.]+)", output).groups())
    assert last < first < 4
    assert picture.read_bytes().startswith(b"\x89PNG")
