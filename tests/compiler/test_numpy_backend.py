"""The NumPy back end: source, saved modules, arguments and results, threads, and what it relies on in NumPy."""

from __future__ import annotations

import ast
import itertools
import math
import re
import runpy
import struct
import subprocess
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.languages.spellings import NUMPY, NUMPY_FAST, NUMPY_FAULTS
from flatgrad.runtime.errors import FlatgradError, InputError
from flatgrad.runtime.primitives import TABLE
from tests.bits import ARITHMETIC, all_bits, assert_same
from tests.compiler.test_save import imports
from tests.every_way import flattened
from tests.examples import examples
from tests.programs import SPECIAL
from tests.threads import in_threads

DRAW = np.random.default_rng(1337)
W = DRAW.standard_normal(30).tolist()
X = DRAW.standard_normal(5).tolist()


def layer(w, x, scale):
    rows = [sum(a * b for a, b in zip(w[5 * k : 5 * k + 5], x, strict=True)) for k in range(6)]
    return sum((row * scale).tanh() for row in rows)


def gradient(backend="numpy", **options):
    return fg.value_and_grad(layer, argnums=(0, 1, 2), backend=backend, **options)


@pytest.fixture(scope="module")
def kernel():
    return gradient().kernel_for(W, X, 0.5)


EXPECTED = all_bits(flattened(gradient("python")(W, X, 0.5)))


# --- source and saved modules -----------------------------------------------------------------------------------------


def test_the_source_is_array_statements(kernel):
    source = kernel.source
    assert source.isascii()
    assert max(map(len, source.splitlines())) < 250
    assert "np.multiply(" in source
    assert "np.add.reduce(" in source
    assert "sum[r:5](w[5*i + r] * x[r])" in source, "the statement as the printer writes it, in a comment"
    functions = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    assert functions.count("value_and_grad") == functions.count("value_and_grad_workspace") == 1


def test_the_same_program_is_printed_the_same_way_twice(kernel):
    assert gradient().kernel_for(W, X, 0.5).source == kernel.source


def test_a_saved_module_imports_numpy_and_math_only(kernel, tmp_path):
    path = kernel.save(tmp_path / "layer.py")
    source = path.read_text(encoding="utf-8")
    assert imports(source) <= {"threading", "numpy", "math.tanh"}
    module = runpy.run_path(str(path))
    assert all_bits(flattened(module["value_and_grad"](W, X, 0.5))) == EXPECTED


def irregular(x, y):
    """Gathers, constants that vary, and straight-line code."""
    order = [3, 0, 4, 1, 2, 5, 9, 7]
    total = sum((x[k] * y[(k * k) % 7] * 0.1 * n).sin() for n, k in enumerate(order, 1))
    return total + fg.exp(x[0]) / (1.0 + x[1] * x[1])


def test_a_saved_module_has_its_tables_and_constants(tmp_path):
    x, y = DRAW.standard_normal(10).tolist(), DRAW.standard_normal(7).tolist()
    f = fg.value_and_grad(irregular, argnums=(0, 1), backend="numpy")
    kernel = f.kernel_for(x, y)
    assert any("TABLES" in name for name in kernel.stages.loaded.data)
    path = kernel.save(tmp_path / "irregular.py")
    program = f"""
import runpy
value, *gradients = runpy.run_path({str(path)!r})["value_and_grad"]({x!r}, {y!r})
print([float(number).hex() for part in ([value], *gradients) for number in part])
"""
    command = [sys.executable, "-I", "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    actual = [float.fromhex(number) for number in ast.literal_eval(done.stdout)]
    assert_same(actual, flattened(fg.value_and_grad(irregular, argnums=(0, 1), backend="python")(x, y)))


def test_a_saved_module_keeps_special_constants(tmp_path):
    factors = [math.inf, -math.inf, math.nan, -0.0, 5e-324, 1e308, 0.1, 1.0]
    f = fg.value_and_grad(lambda x: sum((a * c).tanh() for a, c in zip(x, factors, strict=True)), backend="numpy")
    x = [0.5 + k for k in range(8)]
    module = runpy.run_path(str(f.kernel_for(x).save(tmp_path / "special.py")))
    assert all_bits(flattened(module["value_and_grad"](x))) == all_bits(flattened(f(x)))


def test_forward_and_backward_in_one_saved_module(tmp_path):
    f = fg.compile(layer, backend="numpy")
    w, x = [Value(a) for a in W], [Value(a) for a in X]
    out = f(w, x, 0.5)
    out.backward()
    module = runpy.run_path(str(f.kernels[0].save(tmp_path / "pair.py")))
    (value,), residuals = module["forward"](W, X, 0.5)
    assert float(value) == out.data
    assert_same(flattened(module["backward"](residuals, [1.0])), [v.grad for v in (*w, *x)])


# --- results and arguments --------------------------------------------------------------------------------------------


def test_results_are_new_arrays_each_time(kernel):
    first = kernel.joint.run(W, X, 0.5)
    before = [np.copy(part) for part in first]
    second = kernel.joint.run([2.0 * a for a in W], X, 0.25)
    for a, b, c in zip(first, second, before, strict=True):
        assert not np.shares_memory(a, b)
        assert np.array_equal(a, c)


def test_arguments_are_not_changed_and_not_kept(kernel):
    w, x = np.array(W), np.array(X)
    result = kernel.joint.run(w, x, 0.5)
    assert w.tolist() == W
    assert x.tolist() == X
    assert not any(np.shares_memory(part, argument) for part in result for argument in (w, x))
    w[:], x[:] = 0.0, 0.0
    assert all_bits(flattened(result)) == EXPECTED


def test_a_result_that_is_an_argument_is_a_copy():
    f = fg.compile(lambda x: [*x, x[0] * 2.0], backend="numpy")
    x = np.array([0.5 + k for k in range(8)])
    outputs = f.kernel_for(x).forward.run(x)
    assert not np.shares_memory(outputs, x)
    assert outputs.tolist() == [*x.tolist(), 1.0]


def test_a_single_result_whose_line_is_long():
    """Brought together from many places; it is one array, not a tuple of one."""

    def f(x):
        parts = [x[1000 * k : 1000 * k + 20] for k in (8, 3, 6)]
        return [a.sin() for a in x[:20]] + [a for part in parts for a in part]

    x = [0.001 * k for k in range(9000)]
    compiled = fg.compile(f, backend="numpy")
    assert_same([out.data for out in compiled(x)], [out.data for out in f(list(map(fg.Value, x)))])
    assert "return (\n" in compiled.kernels[0].source, "the line does not fit"


KINDS = {
    "lists": (W, X),
    "tuples": (tuple(W), tuple(X)),
    "float64": (np.array(W), np.array(X)),
    "backwards in memory": (np.array(W)[::-1].copy()[::-1], np.array(X)[::-1].copy()[::-1]),
    "strided": (np.repeat(np.array(W), 3)[::3], np.repeat(np.array(X), 2)[::2]),
    "other byte order": (np.array(W, dtype=">f8"), np.array(X, dtype=">f8")),
    "objects": (np.array(W, dtype=object), np.array(X, dtype=object)),
    "read-only": (np.broadcast_to(np.array(W), (30,)), np.broadcast_to(np.array(X), (5,))),
    "NumPy numbers": ([np.float64(a) for a in W], [np.float64(a) for a in X]),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_arguments(kernel, name):
    w, x = KINDS[name]
    assert all_bits(flattened(kernel.joint(w, x, 0.5))) == EXPECTED
    value, gradients = gradient()(w, x, 0.5)
    assert all_bits(flattened([value, gradients])) == EXPECTED


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int64", "uint64", "bool"])
def test_other_numbers_are_the_floats_that_they_stand_for(kernel, dtype):
    w, x = (np.abs(np.array(numbers) * 3).astype(dtype) for numbers in (W, X))
    plain = [float(a) for a in w], [float(a) for a in x]
    expected = all_bits(flattened(gradient("python")(*plain, 2.0)))
    assert all_bits(flattened(kernel.joint(w, x, 2))) == expected
    assert all_bits(flattened(kernel.joint(w.tolist(), x.tolist(), 2))) == expected


@pytest.mark.parametrize("large", [2**53 + 1, 2**63, 2**64 - 1, 2**70 + 1, -(2**63), 10**300])
def test_large_integers_are_rounded_as_python_rounds_them(kernel, large):
    x = [large, 1, -2, 3, 4]
    expected = all_bits(flattened(gradient("python")(W, [float(a) for a in x], 1e-300)))
    assert all_bits(flattened(kernel.joint(W, x, 1e-300))) == expected


def test_an_integer_that_is_no_float_is_named(kernel):
    for call in (kernel.joint, gradient()):
        with pytest.raises(FlatgradError, match="does not fit a float"):
            call(W, [10**400, 1, 2, 3, 4], 1.0)


WRONG = {
    "a short list": (W[:-1], X, 0.5),
    "one number for a list": (W, [1.0], 0.5),
    "a number instead of a list": (W, 1.0, 0.5),
    "a list instead of a number": (W, X, [1.0]),
    "two numbers instead of one": (W, X, [1.0, 2.0]),
    "an array of another shape": (np.array(W).reshape(6, 5), X, 0.5),
    "a row instead of a vector": (W, np.array([X]), 0.5),
    "one number in an array": (W, X, np.array([1.0])),
    "a complex number": (W, [1j, *X[1:]], 0.5),
    "nothing": (W, None, 0.5),
    "a dict": (W, dict(enumerate(X)), 0.5),
    "a generator": (W, (a for a in X), 0.5),
    "too few": (W, X),
    "too many": (W, X, 0.5, 0.5),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(kernel, name):
    with pytest.raises(InputError, match="expected"):
        kernel.joint(*WRONG[name])


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308])
def test_no_warning_is_emitted(kernel, special):
    expected = all_bits(flattened(gradient("python")([special] * 30, X, 0.5)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all_bits(flattened(kernel.joint([special] * 30, X, 0.5))) == expected
        fast = gradient(mode="fast").kernel_for(W, X, 0.5)
        flattened(fast.joint([special] * 30, X, 0.5))


def test_the_users_error_state_is_left_alone(kernel):
    with np.errstate(all="raise"):
        assert all_bits(flattened(kernel.joint([math.inf] * 30, X, 0.5)))
        assert np.geterr()["over"] == "raise"


def test_a_call_that_raises_leaves_the_workspace_usable():
    f = fg.value_and_grad(lambda x: sum(fg.log(a) * a for a in x), backend="numpy")
    good = [0.5 + k for k in range(9)]
    expected = f(good)
    with pytest.raises(FlatgradError, match="log"):
        f([-1.0, *good[1:]])
    assert f(good) == expected


def test_threads_have_workspaces_of_their_own(hurried, kernel):
    numbers = [[a * (s + 1) for a in W] for s in range(8)]
    expected = [all_bits(flattened(gradient("python")(w, X, 0.5))) for w in numbers]

    def work(s):
        return [all_bits(flattened(kernel.joint(numbers[s], X, 0.5))) for _ in range(30)]

    for s, results in enumerate(in_threads(work)):
        assert set(map(tuple, results)) == {tuple(expected[s])}


def test_threads_through_the_whole_interface(hurried):
    f = fg.compile(layer, backend="numpy")

    def work(s):
        w, x = [Value(a * (s + 1)) for a in W], [Value(a) for a in X]
        for _ in range(5):
            f(w, x, 0.5).backward()
        return [v.grad for v in (*w, *x)]

    for s, results in enumerate(in_threads(work)):
        w, x = [Value(a * (s + 1)) for a in W], [Value(a) for a in X]
        for _ in range(5):
            layer(w, x, 0.5).backward()
        assert_same(results, [v.grad for v in (*w, *x)])


# --- what the back end relies on --------------------------------------------------------------------------------------


def hard_to_add(shape):
    """Numbers whose sum depends on the order."""
    draw = np.random.default_rng(shape)
    return draw.standard_normal(shape) * 10.0 ** draw.integers(-8, 17, shape)


@pytest.mark.parametrize("lanes", [2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 100, 1000])
@pytest.mark.parametrize("terms", [1, 2, 3, 8, 9, 127, 128, 129, 1000])
def test_reducing_rows_adds_in_order(terms, lanes):
    """Along the outer axis NumPy adds row after row; only along the inner one it adds pairwise."""
    table, out = hard_to_add((terms, lanes)), np.empty(lanes)
    np.add.reduce(table, 0, None, out, initial=None)
    running = [float(a) for a in table[0]]
    for row in table[1:].tolist():
        running = [a + b for a, b in zip(running, row, strict=True)]
    assert out.tolist() == running
    factors = 1.0 + 0.1 * np.random.default_rng(terms).standard_normal((terms, lanes))
    np.multiply.reduce(factors, 0, None, out)
    assert out.tolist() == [math.prod(column) for column in factors.T.tolist()]


@pytest.mark.parametrize("terms", [1, 2, 8, 9, 100, 128, 1000, 5000])
def test_accumulation_is_in_order(terms):
    table, out = hard_to_add((terms, 1)), np.empty((terms, 1))
    np.add.accumulate(table, 0, None, out)
    assert out.ravel().tolist() == list(itertools.accumulate(table.ravel().tolist()))


def test_a_single_lane_is_accumulated():
    """`np.add.reduce` may add the terms of one lane pairwise; in which order is nowhere promised."""
    x = hard_to_add(1000)
    f = fg.compile(lambda x: sum(a * a for a in x), backend="numpy")
    assert_same([f(x).data], [list(itertools.accumulate((x * x).tolist()))[-1]])
    assert "np.add.accumulate(" in f.kernels[0].source
    assert "np.add.reduce(" not in f.kernels[0].source


def test_a_sum_of_minus_zeros_needs_no_start():
    """Why sums say `initial=None`: without it NumPy begins at 0.0, and the sign is lost."""
    table, out = np.full((5, 3), -0.0), np.empty(3)
    np.add.reduce(table, 0, None, out, initial=None)
    assert_same(out.tolist(), [-0.0] * 3)


@pytest.mark.parametrize("argument", ["argmax", "argmin"])
def test_the_first_extreme_is_chosen(argument):
    """Of equal numbers the first, of NaNs any: like `maximum` and `minimum`."""
    table = np.array([[-0.0, 0.0, math.nan], [0.0, -0.0, 1.0], [0.0, 0.0, math.inf]])
    assert getattr(np, argument)(table, 0).tolist() == [0, 0, 0]


# --- primitives -------------------------------------------------------------------------------------------------------

COUNT = examples(10_000)
LANE_BY_LANE = [row for row in TABLE if not row.internal and row not in NUMPY]


def run_templates(templates, row, operands):
    """Statements of a row on arrays."""
    count = len(operands[0])
    names = [f"a{k}" for k in range(len(operands))]
    scope = {"np": np, "mask": np.empty(count, dtype=bool), "temp": np.full(count, math.nan)}
    scope["out"] = np.empty(count, dtype=bool if row.result == "b" else float)
    scope.update(zip(names, operands, strict=True))
    with np.errstate(all="ignore"):
        for template in templates:
            exec("np." + template.format(*names, out="out", mask="mask", temp="temp"), scope)
    return scope["out"]


def operands_of(row):
    """Tame numbers, any bits, and all combinations of special numbers."""
    columns, draw = [], np.random.default_rng(row.opcode)
    for kind in row.operand_kinds:
        if kind == "b":
            columns.append(draw.integers(0, 2, COUNT).astype(bool))
            continue
        tame = draw.uniform(-4.0, 4.0, COUNT // 2)
        anything = np.frombuffer(draw.bytes(8 * (COUNT - COUNT // 2)))
        columns.append(np.concatenate([tame, anything]))
    combined = list(itertools.product(*[SPECIAL if kind == "f" else (False, True) for kind in row.operand_kinds]))
    return [
        np.concatenate([column, np.array(special)])
        for column, special in zip(columns, zip(*combined, strict=True), strict=True)
    ]


def evaluated(row, arguments):
    try:
        return row.evaluate(*arguments)
    except ARITHMETIC:
        return None


@pytest.mark.parametrize("row", NUMPY, ids=[row.name for row in NUMPY])
def test_rows_with_a_numpy_spelling_have_its_bits(row):
    operands = operands_of(row)
    actual = run_templates(NUMPY[row], row, operands).tolist()
    fault = NUMPY_FAULTS.get(row, "").format(*[f"a{k}" for k in range(row.arity)])
    for result, *arguments in zip(actual, *[column.tolist() for column in operands], strict=True):
        expected = evaluated(row, arguments)
        if fault:
            alone = {f"a{k}": np.array([x]) for k, x in enumerate(arguments)}
            assert bool(eval(f"np.{fault}", {"np": np, **alone})) is (expected is None), (row.name, arguments)
        else:
            assert expected is not None, (row.name, arguments)
        if expected is not None:
            same = result is expected if row.result == "b" else all_bits([result]) == all_bits([expected])
            assert same, f"{row.name}({arguments}): {result!r}, not {expected!r}"


def tame_operands(row):
    """Numbers in the row's domain, small and large."""
    columns, draw = [], np.random.default_rng(row.opcode)
    for low, high in row.domain:
        near = draw.uniform(max(low, -3.0), min(high, 3.0), COUNT // 2)
        far = draw.uniform(max(low, -300.0), min(high, 300.0), COUNT - COUNT // 2)
        columns.append(np.concatenate([near, far]))
    return columns


def ulps(a, b):
    """How many floats lie between two finite ones."""
    left, right = struct.unpack("<2q", struct.pack("<2d", a, b))
    left, right = (n if n >= 0 else -(n & (2**63 - 1)) for n in (left, right))
    return abs(left - right)


def errors_of(row):
    """The distances, in floats, between NumPy's results and those of `math`."""
    operands = tame_operands(row)
    actual = run_templates(NUMPY_FAST[row], row, operands).tolist()
    results = []
    for result, *arguments in zip(actual, *[column.tolist() for column in operands], strict=True):
        expected = evaluated(row, arguments)
        if expected is not None and math.isfinite(expected):
            results.append(ulps(result, expected))
    assert len(results) > COUNT // 2
    return results


@pytest.mark.parametrize("row", LANE_BY_LANE, ids=[row.name for row in LANE_BY_LANE])
def test_rows_without_a_numpy_spelling_are_computed_lane_by_lane(row):
    """Whether NumPy's own function has the bits of `math` depends on its version and on the processor."""
    columns = [column[:50].tolist() for column in tame_operands(row)]

    def apply(*columns):
        return [row(*operands) for operands in zip(*columns, strict=True)]

    f = fg.compile(apply, backend="numpy")
    assert_same([out.data for out in f(*columns)], [row.evaluate(*operands) for operands in zip(*columns, strict=True)])
    called = re.compile(rf"np\.({'|'.join(_called_by(NUMPY_FAST.get(row, ())))})\(")
    assert not called.search(f.kernels[0].source)
    if row in NUMPY_FAST:
        fast = fg.compile(apply, backend="numpy", mode="fast").kernel_for(*columns)
        assert called.search(fast.source)


def _called_by(templates):
    """The functions of NumPy that templates call; something that is nowhere in a source if there are none."""
    return [template.partition("(")[0] for template in templates] or ["nothing"]


FAST = [row for row in LANE_BY_LANE if row in NUMPY_FAST]


@pytest.mark.parametrize("row", FAST, ids=[row.name for row in FAST])
def test_rows_in_fast_mode_are_near(row):
    """At most 4 floats away from `math`."""
    assert max(errors_of(row)) <= 4


# --- fast mode --------------------------------------------------------------------------------------------------------

ROUNDING = 2.0**-53


@pytest.mark.parametrize("terms", [3, 16, 100, 700])
def test_contractions_in_fast_mode_are_matrix_products_within_their_bound(terms):
    """A sum of n products is off by at most n u sum |term|, whatever the order."""
    lanes = 5
    w, x = (hard_to_add(n) for n in (lanes * terms, terms))

    def rows(w, x):
        return [sum(a * b for a, b in zip(w[terms * k : terms * (k + 1)], x, strict=True)) for k in range(lanes)]

    kernel = fg.compile(rows, backend="numpy", mode="fast").kernel_for(w, x)
    assert "np.matmul(" in kernel.source
    results = flattened(kernel.forward(w, x))
    for k, result in enumerate(results):
        products = [Fraction(a) * Fraction(b) for a, b in zip(w[terms * k :].tolist(), x.tolist(), strict=False)]
        bound = terms * ROUNDING * float(sum(map(abs, products)))
        assert abs(float(Fraction(result) - sum(products))) <= bound


@pytest.mark.parametrize("terms", [5, 64, 1000])
def test_sums_in_fast_mode_are_within_their_bound(terms):
    x = hard_to_add(3 * terms)
    kernel = fg.compile(
        lambda x: [sum(x[k::3]) for k in range(3)], backend="numpy", mode="fast"
    ).kernel_for(x)  # fmt: skip
    for k, result in enumerate(flattened(kernel.forward(x))):
        column = x[k::3].tolist()
        assert abs(result - math.fsum(column)) <= terms * ROUNDING * math.fsum(map(abs, column))


def test_fast_gradients_are_near_exact_ones():
    exact = flattened(gradient("python")(W, X, 0.5))
    fast = flattened(gradient(mode="fast")(W, X, 0.5))
    assert fast == pytest.approx(exact, rel=1e-12)


def test_fast_mode_raises_where_exact_mode_does():
    f = fg.value_and_grad(lambda x: sum(fg.exp(a) for a in x), backend="numpy", mode="fast")
    assert f([0.5] * 6)[0] == pytest.approx(6 * math.exp(0.5))
    with pytest.raises(FlatgradError, match="exp"):
        f([0.5] * 5 + [1000.0])


def test_fast_mode_at_infinities_that_do_not_raise():
    """An infinite result where an operand is infinite is no fault: the exact repetition finds none."""
    f = fg.value_and_grad(lambda x: sum(fg.exp(a) for a in x), backend="numpy", mode="fast")
    assert f([-math.inf, math.inf, 0.0, 0.0, 0.0])[0] == math.inf
