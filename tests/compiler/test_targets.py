"""The bits do not depend on the processor: machine code for other targets, NumPy without its newest kernels."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler.machine import functions as emitter
from flatgrad.compiler.machine import native
from flatgrad.compiler.machine.variants import FUSED
from flatgrad.nn.data import make_moons
from flatgrad.runtime.primitives import PACKAGE_ROWS, TABLE
from tests.bits import all_bits, bits
from tests.restricted import LEVELS, available, environment

pytestmark = pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")

AVAILABLE = [level for level in LEVELS if available(level)]

# --- the variable -----------------------------------------------------------------------------------------------------


def test_the_least_of_an_architecture_is_always_there():
    assert AVAILABLE[0] == "generic"
    assert native.Host("generic").lanes == 2


@pytest.mark.skipif("x86-64" not in AVAILABLE, reason="levels of x86-64")
def test_what_follows_from_a_level():
    hosts = {level: native.Host(level) for level in AVAILABLE}
    lanes = {"generic": 2, "x86-64": 2, "x86-64-v2": 2, "x86-64-v3": 4, "x86-64-v4": 8}
    assert {level: host.lanes for level, host in hosts.items()} == {level: lanes[level] for level in AVAILABLE}
    whole = native.Host()
    for level, host in hosts.items():
        assert host.cpu == level
        assert host.shortcuts == (whole.shortcuts and level >= "x86-64-v3"), (
            "they need multiplication and addition in one"
        )
        can = [name for name, how in whole.variants.items() if how != FUSED or level >= "x86-64-v3"]
        assert host.variants == {name: whole.variants[name] for name in can}
        assert host.vector_math == {key: name for key, name in whole.vector_math.items() if key[1] <= host.lanes}
    assert len({host.identity for host in [*hosts.values(), whole]}) == 1 + len(hosts)


def test_the_variable_is_read_when_code_is_made(monkeypatch):
    monkeypatch.delenv("FLATGRAD_CPU", raising=False)
    usual = native.host()
    for level in AVAILABLE:
        monkeypatch.setenv("FLATGRAD_CPU", level)
        assert native.host().cpu == level
        assert native.host() is native.host()
    for empty in ("", " "):
        monkeypatch.setenv("FLATGRAD_CPU", empty)
        assert native.host() is usual


@pytest.mark.parametrize("make", [
    lambda: fg.grad(lambda x: x * x), lambda: fg.compile(lambda x: x, backend="native"),
    lambda: fg.compile_graph(fg.Value(1.0), []), native.host,
])  # fmt: skip
@pytest.mark.parametrize("wrong", ["x86-64-v9", "haswell", "X86-64", "native", "-avx2"])
def test_a_processor_that_does_not_exist_is_named(monkeypatch, make, wrong):
    monkeypatch.setenv("FLATGRAD_CPU", wrong)
    with pytest.raises(fg.OptionError, match="FLATGRAD_CPU must be one of generic") as caught:
        make()
    assert repr(wrong) in str(caught.value)


def test_a_level_that_this_processor_does_not_have_is_named(monkeypatch):
    """Its code would end the process."""
    monkeypatch.setattr(native.platform, "machine", lambda: "x86_64")
    less = {"cmov": True, "cx8": True, "fxsr": True, "mmx": True, "sse": True, "sse2": True, "avx": True}
    assert native._restricted("x86-64", less) == {name: True for name in less if name != "avx"}
    with pytest.raises(fg.OptionError, match=r"'x86-64-v3'.* has no .*sse4\.2, .*avx2, .*fma.* choose a lower level"):
        native._restricted("x86-64-v3", less)
    monkeypatch.setattr(native.platform, "machine", lambda: "aarch64")
    assert native._restricted("generic", less) == {}
    with pytest.raises(fg.OptionError, match="must be one of generic, or empty"):
        native._restricted("x86-64", less)


def test_flat_python_does_not_ask(monkeypatch):
    monkeypatch.setenv("FLATGRAD_CPU", "haswell")
    assert fg.grad(lambda x: x * x, backend="python")(2.0) == 4.0


@pytest.fixture
def assembled(monkeypatch):
    """The assembly of what is compiled."""
    texts = []
    assemble = emitter.assemble_cached
    monkeypatch.setattr(emitter, "assemble_cached", lambda text, **how: texts.append(text) or assemble(text, **how))
    return texts


@pytest.mark.parametrize("level", AVAILABLE)
def test_the_code_is_for_the_target(monkeypatch, assembled, level):
    """Vectors are as wide as its own, and powers have short ways where it can multiply and add in one."""
    monkeypatch.setenv("FLATGRAD_CPU", level)
    fg.grad(lambda x: sum(a**3 for a in x), backend="native").kernel_for(np.ones(64))
    (assembly,) = assembled
    assert f"<{native.host().lanes} x double>" in assembly
    assert f"<{2 * native.host().lanes} x double>" not in assembly
    assert ("llvm.fma" in assembly) == native.host().shortcuts


@pytest.mark.parametrize("level", AVAILABLE)
def test_hyperbolic_tangents_of_vectors_are_computed_where_that_has_the_bits(monkeypatch, assembled, level):
    monkeypatch.setenv("FLATGRAD_CPU", level)
    fg.grad(lambda x: sum(a.tanh() for a in x), backend="native").kernel_for(np.ones(64))
    (assembly,) = assembled
    assert ("@flatgrad_tanh" in assembly) == ("tanh" not in native.host().variants)
    assert (f"@tanh_of_{native.host().lanes}" in assembly) == ("tanh" in native.host().variants)


# --- the bits ---------------------------------------------------------------------------------------------------------


def mixed(x, w):
    """Contractions, functions of libm, powers, selections, extremes, and straight-line code."""
    rows = [sum(a * b for a, b in zip(w[9 * k : 9 * k + 9], x, strict=True)) for k in range(13)]
    hidden = [(row + 0.1 * k).tanh() if k % 2 else row.relu() for k, row in enumerate(rows)]
    powers = sum(a**2 + a**3 - (fg.abs(a) + 0.25) ** 0.5 + (a * a + 1.0) ** -1 for a in hidden)
    choices = sum(fg.where(a > b, a * b, fg.maximum(a, -b)) for a, b in itertools.pairwise(x))
    return powers + choices + (x[0] * w[3]).sin() * fg.hypot(x[1], w[2]) + fg.exp(x[2] - w[7])


def of_rows(backend):
    """Every primitive at some arguments of its domain, 37 lanes side by side."""
    columns = []
    table = [
        row for row in TABLE[:PACKAGE_ROWS] if row.name not in ("checked", "position", "polygamma", "turned")
    ]  # these raise
    for row in table:
        draw = random.Random(row.name)
        columns += [
            [draw.uniform(max(low, -3.0), min(high, 3.0)) if kind == "f" else draw.randrange(2) for _ in range(37)]
            for kind, (low, high) in zip(row.operand_kinds, row.domain, strict=True)
        ]

    def every_row(columns):
        waiting, outputs = iter(columns), []
        for row in table:
            for operands in zip(*[next(waiting) for _ in row.operand_kinds], strict=True):
                arguments = [x > 0.5 if kind == "b" else x for x, kind in zip(operands, row.operand_kinds, strict=True)]
                outputs.append(row(*arguments) if row.result == "f" else fg.where(row(*arguments), 1.0, 0.0))
        return outputs

    return all_bits([out.data for out in fg.compile(every_row, backend=backend)(columns)])


def of_training(backend):
    model = nn.MLP(2, [8, 1], activation="tanh", seed=3)
    X, y = make_moons(40, noise=0.1, random_state=np.random.RandomState(5))

    def loss(X, y):
        return nn.binary_cross_entropy([model(x) for x in X], y)

    options = {"steps": 60, "batch_size": 16, "seed": 4, "progress": False}
    history = nn.fit(loss, model, nn.Adam(0.05), X, y, backend=backend, **options)
    return all_bits([*history.loss, *(parameter.data for parameter in model.parameters())])


def outcome():
    """The bits of everything, by what computes it."""
    draw = np.random.RandomState(11)
    x, w = draw.standard_normal(9), draw.standard_normal(117)
    levels = {}
    for backend in ("python", "numpy", "native"):
        value, gradients = fg.value_and_grad(mixed, argnums=(0, 1), backend=backend)(x, w)
        levels[f"mixed, {backend}"] = [bits(value), *(all_bits(part.tolist()) for part in gradients)]
        levels[f"rows, {backend}"] = of_rows(backend)
    for backend in ("python", "native"):
        levels[f"training, {backend}"] = of_training(backend)
    return levels


#: Where there are no levels, the least of the architecture is compared.
COMPARED = AVAILABLE[1:] or AVAILABLE


#: What is computed, and by which back ends.
BACKENDS = {
    "mixed": ("python", "numpy", "native"),
    "rows": ("python", "numpy", "native"),
    "training": ("python", "native"),
}


@pytest.fixture(scope="module")
def expected():
    """The bits of the interpreter in this process, and of flat Python where there are many calls."""
    draw = np.random.RandomState(11)
    x, w = ([fg.Value(a) for a in draw.standard_normal(count).tolist()] for count in (9, 117))
    out = mixed(x, w)
    out.backward()
    gradients = [all_bits([v.grad for v in part]) for part in (x, w)]
    return {"mixed": [bits(out.data), *gradients], "rows": of_rows("python"), "training": of_training("python")}


@pytest.mark.slow
@pytest.mark.parametrize("level", COMPARED)
def test_the_bits_are_the_same_on_every_processor(level, expected):
    code = "import json; from tests.compiler.test_targets import outcome; print(json.dumps(outcome()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, **environment(level)}, cwd=Path(fg.__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == sum(map(len, BACKENDS.values()))
    for key, backends in BACKENDS.items():
        for backend in backends:
            assert results[f"{key}, {backend}"] == expected[key], backend
