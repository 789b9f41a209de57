"""Emitted source of a few small programs, kept whole, so that a change of it is seen.

Run with FLATGRAD_UPDATE_GOLDEN=1 to write the files again.
"""

from __future__ import annotations

import ast
import builtins
import gc
import keyword
import linecache
import re

import pytest

import flatgrad as fg
from flatgrad import Value
from tests.compiler import golden_programs

#: Kernels of a few programs: two functions or a joint one; scalars, lists, dicts; conditions; odd numbers.
KERNELS = {
    "neuron_compile": lambda: fg.compile(golden_programs.neuron).kernel_for(
        Value(2.0), Value(0.0), Value(-3.0), Value(1.0), Value(6.88)
    ),
    "rosenbrock_value_and_grad": lambda: fg.value_and_grad(golden_programs.rosenbrock).kernel_for([0.0, 0.0, 0.0]),
    "rosenbrock_grad": lambda: fg.grad(golden_programs.rosenbrock).kernel_for([0.0, 0.0, 0.0]),
    "branches_value_and_grad": lambda: fg.value_and_grad(golden_programs.branches, argnums=(0, 1)).kernel_for(1.0, 2.0),
    "extremes_value_and_grad": lambda: fg.value_and_grad(golden_programs.extremes, argnums=(0, 1)).kernel_for(1.0, 2.0),
    "two_outputs_compile": lambda: fg.compile(golden_programs.two_outputs).kernel_for(
        {"left": Value(1.0), "right": Value(2.0)}
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_emitted_source(name, golden):
    source = KERNELS[name]().source
    compile(source, name, "exec")
    golden(f"{name}.py", source)


@pytest.mark.parametrize("name", KERNELS)
def test_the_same_program_is_printed_the_same_way_twice(name):
    assert KERNELS[name]().source == KERNELS[name]().source


@pytest.mark.parametrize("name", KERNELS)
def test_lines_are_not_too_long(name):
    assert max(map(len, KERNELS[name]().source.splitlines())) <= 120


def test_debuggers_see_the_source():
    kernel = KERNELS["neuron_compile"]()
    filename = kernel.forward.function.__code__.co_filename
    assert "".join(linecache.getlines(filename)) == kernel.source


def test_generated_source_is_forgotten_with_its_kernel():
    kernel = KERNELS["rosenbrock_value_and_grad"]()
    filename = kernel.joint.function.__code__.co_filename
    assert linecache.getlines(filename)
    del kernel
    gc.collect()  # a generated function and its module refer to each other
    assert not linecache.getlines(filename)


# --- labels are data --------------------------------------------------------------------------------------------------

NASTY = [
    "'); import os; os.abort() #",
    '"""\nraise SystemExit("label was executed")\n"""',
    "x\nraise SystemExit('label was executed')\n#",
    "x\r\nraise SystemExit('label was executed')",
    "x\u2028raise SystemExit('label was executed')",
    "\\\nraise SystemExit('label was executed')",
    "{0} {1} {label!r} %s %(x)s",
    "__import__('sys').exit(1)",
    "lambda",
    "None",
    "print",
    "exp",
    "v3",
    "x_bar",
    "residuals",
    "output_bars",
    "power",
    "log",
    "nan",
    "\u03b1\u03b2 \u2603",
    "\x00\x07",
    "0",
    "",
    "a" * 500,
]


def identifiers(source):
    """Every name that a piece of source binds or reads."""
    tree = ast.parse(source)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


@pytest.mark.parametrize("label", NASTY)
def test_a_label_that_is_code_is_data(label):
    """As a leaf's label, an argument's, and a node's in a graph: the source compiles, and nothing of it runs."""
    leaf, plain, argument = Value(0.5, label=label), Value(2.0), Value(1.5, label=label)

    def f(x):
        return (leaf * x + plain**0.5).exp().log() * x

    def interpreted():
        a, b, c = Value(leaf.data), Value(plain.data), Value(argument.data)
        out = (a * c + b**0.5).exp().log() * c
        out.backward()
        return [out.data, a.grad, b.grad, c.grad]

    expected = interpreted()
    compiled = fg.compile(f)
    out = compiled(argument)
    out.backward()
    assert [out.data, leaf.grad, plain.grad, argument.grad] == expected
    assert leaf.label == argument.label == label

    inner = leaf * argument
    inner.label = label
    graph = fg.compile_graph(inner.exp(), [argument])
    by_list = fg.compile(lambda xs: f(xs[0]))
    assert by_list([argument]).data == expected[0]
    assert fg.value_and_grad(lambda: f(1.5), wrt=[leaf, plain])() == (expected[0], expected[1:3])
    for kernel in (compiled.kernels[0], graph.kernel, by_list.kernels[0]):
        check_source(kernel.source)
        text = str(kernel.program)
        assert len(text.splitlines()) == len(kernel.program) + 2, "one line per equation, whatever a label holds"


def check_source(source):
    """Plain ASCII; functions of arithmetic that call nothing but what the operations need."""
    assert source.isascii()
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    generated = [function for function in functions if function.name != "power"]
    assert {function.name for function in generated} <= {"forward", "backward", "value_and_grad"}
    called = {"exp", "log", "sqrt", "pow", "power"}
    for node in (node for function in generated for node in ast.walk(function)):
        assert not isinstance(node, ast.Attribute | ast.Raise | ast.Import | ast.Delete | ast.Lambda), ast.dump(node)
        if isinstance(node, ast.Call):
            assert node.func.id in called, ast.dump(node)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            assert node.id not in called | set(dir(builtins)), "an operation is hidden by a name"
        if isinstance(node, ast.arg):
            assert node.arg not in called | set(keyword.kwlist) | set(dir(builtins))


def test_labels_become_safe_names(golden):
    """What is left of a label: letters, digits and underscores, one name for each leaf."""
    labels = ["learning rate", "w[0]", "'); import os #", "lambda", "print", "exp", "x", "x", "v1", "2nd", "\u03b1", ""]
    values = [Value(1.0, label=label) for label in labels]
    total = values[0]
    for value in values[1:]:
        total = total * value
    source = fg.compile_graph(total, values).source
    compile(source, "labels", "exec")
    assert re.search(r"def forward\(learning_rate, ", source)
    assert not {"lambda", "print", "exp"} & identifiers(source)
    golden("labels_compile_graph.py", source)
