"""Programs in JavaScript have the numbers of Python."""

from __future__ import annotations

import json
import math
import shutil
import subprocess

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.compiler.program.builder import Group, ProgramBuilder
from flatgrad.explain import explained
from flatgrad.explain.javascript import _SPELLINGS, javascript, near
from flatgrad.explain.origins import with_origins
from flatgrad.runtime.errors import ARITHMETIC_ERRORS
from flatgrad.runtime.primitives import TABLE
from tests.bits import same_bits


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_has_the_numbers_of_python(tmp_path):
    def function(x, y):
        a = (x * y - 1.0).tanh() + fg.maximum(x, y) / (y * y + 1.0)
        b = fg.where(x > y, x.exp(), y.relu()) + fg.sqrt(x * x + 1.0) ** 3
        return a * b + abs(x).log1p() - fg.sigmoid(y) + fg.softplus(x)

    facts = explained(fg.value_and_grad(function, argnums=(0, 1)).kernel_for(0.6, -1.3))
    joint = with_origins(fg.value_and_grad(function, argnums=(0, 1)).kernel_for(0.6, -1.3).stages).joint
    points = [[0.6, -1.3], [-2.0, 0.25], [1e-3, 40.0]]
    script = tmp_path / "program.js"
    code = facts["javascript"]["code"]
    script.write_text(f"const f = {code};\nconsole.log(JSON.stringify({points}.map(f)));\n")
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, check=True, timeout=60)
    for point, found in zip(points, json.loads(done.stdout), strict=True):
        expected = joint.evaluate_all(point)
        np.testing.assert_allclose([float(n) for n in found], [float(n) for n in expected], rtol=1e-13, atol=1e-300)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_of_arithmetic_has_pythons_bits(tmp_path):
    kernel = fg.value_and_grad(lambda x, y: (x * y + 0.1) / 3.0 - fg.div(x, y) * x, argnums=(0, 1)).kernel_for(0.7, 1.9)
    facts, joint = explained(kernel), with_origins(kernel.stages).joint
    if "Math.pow" in facts["javascript"]["code"]:
        pytest.fail("a power is no arithmetic")
    script = tmp_path / "program.js"
    script.write_text(f"console.log(JSON.stringify(({facts['javascript']['code']})([0.7, 1.9])))")
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, check=True, timeout=60)
    assert all(map(same_bits, map(float, json.loads(done.stdout)), joint.evaluate_all([0.7, 1.9])))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_has_all_functions_of_the_table(tmp_path):
    """Each row, at points of its domain: with Python's bits where it is arithmetic, else within a few units."""
    columns = {1: [[x] for x in (0.1, 0.37, 0.62, 0.9)], 2: [[7.5, 2.0], [0.3, 0.45], [2.0, 3.5], [-7.5, 2.0]]}
    scripts, expected = [], []
    for row in TABLE:
        kinds = set(row.operand_kinds)
        if row in _SPELLINGS and kinds == {"f"} and row.result == "f" and row.arity in columns:
            builder = ProgramBuilder("f", [Group("x", row.arity, False)])
            program = builder.finish([builder.append(row.opcode, list(range(row.arity)))])
            for point in columns[row.arity]:
                try:
                    number = program.evaluate(point)[0]
                except ARITHMETIC_ERRORS:
                    continue
                if math.isfinite(number):
                    scripts.append(f"({javascript(program)})({point})[{row.arity}]")
                    expected.append((row, point, number, not near(program)))
    points = [k / 7 - 9.0 for k in range(150)]
    builder = ProgramBuilder("f", [Group("x", 1, False)])
    program = builder.finish([builder.emit("erf", 0), builder.emit("erfc", 0)])
    for x in points:
        for k, function in enumerate((math.erf, math.erfc)):
            scripts.append(f"({javascript(program)})([{x!r}])[{1 + k}]")
            expected.append((function, x, function(x), False))
    script = tmp_path / "rows.js"
    script.write_text("console.log(JSON.stringify([" + ",\n".join(scripts) + "]))")
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, check=True, timeout=60)
    for (row, point, number, exact), found in zip(expected, json.loads(done.stdout), strict=True):
        assert found == (number if exact else pytest.approx(number, rel=1e-13)), (row, point)
    assert len({item[0] for item in expected}) > 60


def test_what_javascript_does_not_know_has_no_sliders():
    cubed = fg.primitive("cubed_elsewhere", lambda x: math.pow(x, 3.0), (lambda out, x: 3.0 * x * x,))
    facts = explained(fg.value_and_grad(cubed).kernel_for(0.5))
    assert facts["javascript"]["code"] == ""
    assert "cubed" in facts["javascript"]["why"]
    assert "10,001 inputs" in (explained(fg.jit(lambda x: x[0] * x[1]).kernel_for([1.0] * 10_001))["javascript"]["why"])
    assert all(isinstance(text, str) for text in _SPELLINGS.values())
