"""`fg.table` in functions that are compiled: the interpreter's bits and errors, whatever the index is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.compiler.machine.llvm import emit_llvm
from flatgrad.compiler.machine.lookups import with_comparisons
from flatgrad.compiler.machine.operations import Machine
from tests.bits import all_bits, assert_same, builtin_class
from tests.compiler.test_c import CC
from tests.every_way import BACKENDS, check_saved_c, flattened, module_of
from tests.examples import examples, slow

ENTRIES = st.sampled_from([0.0, -0.0, 1.0, -2.5, 0.3, 1e200, -1e-200, math.inf, -math.inf, math.nan])
INDICES = st.one_of(st.integers(-4, 4), st.sampled_from([0.5, math.nan, math.inf, -1e300, 2.0**53]))


def looked_up(rows, indices, weights, how):
    """A sum over look-ups in rows, in rows that are computed of them, and in numbers; some repeat."""
    table, numbers = fg.table(rows), fg.table([0.5, -0.0, 3.0])
    if how % 2:
        table = fg.table([[x * w + 0.25 for x, w in zip(row, weights, strict=True)] for row in rows])
    total = 0.0
    for k, i in enumerate(indices):
        row = table[i]
        for x, w in zip(row, weights, strict=True):
            total = total + x * w * numbers[k % 3 if how < 2 else i] + (x.tanh() if how == 3 else x)
    return total


def interpreted(rows, indices, weights, how):
    """The value and the gradients of rows and weights, or the class of the error."""
    values = [[Value(x) for x in row] for row in rows]
    factors = [Value(w) for w in weights]
    try:
        out = looked_up(values, indices, factors, how)
        out.backward()
    except fg.FlatgradError as error:
        return type(error)
    return all_bits([out.data, *(x.grad for row in values for x in row), *(w.grad for w in factors)])


def outcome(compute):
    try:
        return all_bits(flattened(compute()))
    except fg.FlatgradError as error:
        return type(error)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", range(4))
@pytest.mark.parametrize("faults", ["raise", "ieee"])
def test_every_back_end_has_the_bits_of_the_interpreter(backend, how, faults):
    rows = st.lists(st.lists(ENTRIES, min_size=2, max_size=2), min_size=3, max_size=3)
    gradient = fg.value_and_grad(looked_up, argnums=(0, 2), static_argnames="how", backend=backend, faults=faults)
    compiled = fg.compile(looked_up, static_argnames="how", backend=backend, faults=faults)

    @settings(max_examples=examples(15), deadline=None)
    @given(rows, st.lists(INDICES, min_size=4, max_size=4), st.lists(ENTRIES, min_size=2, max_size=2))
    def check(rows, indices, weights):
        expected = interpreted(rows, indices, weights, how)
        assert outcome(lambda: gradient(rows, indices, weights, how)) == expected
        value = expected if isinstance(expected, type) else expected[:1]
        assert outcome(lambda: [compiled(rows, indices, weights, how).data]) == value

    check()
    assert len(gradient.kernels) == len(compiled.kernels) == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [1, 2, 3, 9, 40])
def test_tables_of_other_sizes(backend, count):
    """Programs that are straight-line code on some back ends and loops on others."""
    f = fg.value_and_grad(lambda rows, i: fg.table(rows)[i].exp() * fg.table(rows)[0], backend=backend)
    rows = [math.sin(k) for k in range(count)]
    for index in (0, count - 1, -1, -count, count // 2):
        values = [Value(x) for x in rows]
        expected = fg.table(values)[index].exp() * fg.table(values)[0]
        expected.backward()
        assert f(rows, index) == (expected.data, [v.grad for v in values])
    for index in (count, -count - 1, 1e18):
        with pytest.raises(fg.TableIndexError, match=f"out of range: the table has {count} row"):
            f(rows, index)


def test_the_error_names_the_line_and_nothing_is_changed():
    rows = [Value(1.0), Value(2.0)]

    def loss(i):
        return fg.table(rows)[i] * 3.0  # the line of the look-up

    for backend in BACKENDS:
        step = nn.train_step(loss, nn.SGD(0.5), rows, backend=backend)
        with pytest.raises(fg.TableIndexError, match="# the line of the look-up"):
            step(2)
        with pytest.raises(fg.IntegerError, match="# the line of the look-up"):
            step(0.25)
        step.sync()
        assert [v.data for v in rows] == [1.0, 2.0]
        step(-1)
        step.sync()
        assert [v.data for v in rows] == [1.0, 0.5]
        rows[1].data = 2.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_with_letters_and_labels(backend):
    """Embeddings that letters look up, and probabilities that labels do; batches of two sizes."""
    draw = np.random.default_rng(0)
    letters = draw.integers(0, 5, size=12)
    labels = letters * 3 % 4
    vectors, weights = draw.normal(size=(5, 2)), draw.normal(size=(4, 2))

    def loss(letters, labels):
        total = 0.0
        for letter, label in zip(letters, labels, strict=True):
            x = fg.table(embedding)[letter]
            probabilities = fg.softmax([sum(w * v for w, v in zip(row, x, strict=True)) for row in rows])
            total = total - fg.log(fg.table(probabilities)[label])
        return total * (1.0 / len(labels))

    embedding, rows = ([[Value(x) for x in row] for row in matrix] for matrix in (vectors, weights))
    parameters = [v for row in embedding + rows for v in row]
    history = nn.fit(loss, parameters, nn.SGD(0.5), letters, labels, epochs=2, batch_size=5, shuffle=False,
                     progress=False, backend=backend)  # fmt: skip
    trained = [v.data for v in parameters]
    embedding, rows = ([[Value(x) for x in row] for row in matrix] for matrix in (vectors, weights))
    parameters = [v for row in embedding + rows for v in row]
    losses = []
    for first in [0, 5, 10] * 2:
        batch = loss(letters[first : first + 5], labels[first : first + 5])
        batch.backward()
        losses.append(batch.data)
        for v in parameters:
            v.data, v.grad = v.data - 0.5 * v.grad, 0.0
    assert_same(history.loss, losses)
    assert_same(trained, [v.data for v in parameters])


def test_the_index_has_no_gradient():
    f = fg.grad(lambda rows, i: fg.table(rows)[i] ** 2 * i, argnums=(0, 1))
    assert f([1.0, 2.0, 3.0], 2) == ([0.0, 0.0, 12.0], 9.0)
    assert fg.grad(lambda i: fg.table([1.0, 2.0])[i] * 1.0)(1.0) == 0.0


def test_an_array_without_axes_is_an_index():
    f = fg.value_and_grad(lambda x, i: fg.table([[1.0], [2.0], [3.0]])[i][0] * x)
    assert [f(3.0, np.array(i)) for i in (1, 2, -3)] == [(6.0, 2.0), (9.0, 3.0), (3.0, 1.0)]
    assert len(f.kernels) == 1


def test_integers_in_arrays_lists_and_tuples():
    matrix = np.random.default_rng(0).normal(size=(5, 3))
    f = fg.grad(lambda table, indices: fg.sum(fg.table(table)[i] @ fg.table(table)[i] for i in indices))
    expected = np.zeros((5, 3))
    for i in (4, 0, 4):
        expected[i] += 2 * matrix[i]
    for indices in ([4, 0, 4], np.array([4, 0, 4]), (4, 0, -1), np.array([-1, 0, 4], dtype=np.int8)):
        assert f(matrix, indices).tolist() == expected.tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_second_derivatives(backend):
    """Of x[i] ** 3 * x[j]: mixed and repeated indices."""
    gradient = fg.grad(lambda x, i, j: fg.table(x)[i] ** 3 * fg.table(x)[j])
    row = fg.value_and_grad(lambda x, i, j, k: gradient(x, i, j)[k], static_argnames="k", backend=backend)
    x = [1.5, -2.0, 0.5]
    for i, j in [(0, 1), (1, 1), (2, 0)]:
        for k in range(3):
            exact = [0.0, 0.0, 0.0]
            if i == j:
                exact[i] += 12 * x[i] ** 2 if k == i else 0.0
            elif k == i:
                exact[i], exact[j] = 6 * x[i] * x[j], 3 * x[i] ** 2
            elif k == j:
                exact[i] = 3 * x[i] ** 2
            assert row(x, i, j, k)[1] == pytest.approx(exact)


def chain(rows, letters):
    """A Markov chain: the next row depends on the state."""
    state = 0.1
    for letter in letters:
        a, b = fg.table(rows)[letter]
        state = (state * a + b).tanh()
    return state


def chain_by_scan(rows, letters):
    def step(state, letter):
        a, b = fg.table(rows)[letter]
        return (state * a + b).tanh(), None

    return fg.scan(step, 0.1, letters)[0]


@pytest.mark.parametrize(
    ("function", "backend"),
    [
        (chain, BACKENDS[-1]),
        (chain_by_scan, "python"),
        *(pytest.param(chain, backend, marks=pytest.mark.slow) for backend in BACKENDS[:-1]),
        *(pytest.param(chain_by_scan, backend, marks=pytest.mark.slow) for backend in BACKENDS[1:]),
    ],
)
def test_loops_over_look_ups(function, backend):
    rows = [[math.sin(k), math.cos(k)] for k in range(5)]
    f = fg.value_and_grad(function, backend=backend)
    for count in (60, 58, 41, 3):
        letters = [k * k * 7 % 11 % 5 for k in range(count)]
        values = [[Value(x) for x in row] for row in rows]
        out = chain(values, letters)
        out.backward()
        assert f(rows, letters) == (out.data, [[v.grad for v in row] for row in values])
        with pytest.raises(fg.TableIndexError):
            f(rows, [*letters[:-1], 5])


@pytest.mark.parametrize("backend", slow(BACKENDS, "native", "auto"))
def test_rows_by_vmap_and_batches_of_any_size(backend):
    rows = [[math.sin(k), math.cos(k)] for k in range(5)]

    def loss(rows, labels):
        return fg.sum(fg.vmap(lambda label: fg.table(rows)[label][0].exp() * label)(labels))

    gradient = fg.value_and_grad(loss, backend=backend)
    for count in (3, 4, 5, 6, 7, 50, 120):
        labels = np.arange(count) % 7 - 2
        values = [[Value(x) for x in row] for row in rows]
        out = fg.sum(values[i][0].exp() * float(i) for i in labels)
        out.backward()
        assert gradient(rows, labels) == (out.data, [[v.grad for v in row] for row in values])
        with pytest.raises(fg.TableIndexError):
            gradient(rows, np.append(labels, 5))
    jitted = fg.jit(lambda i: fg.table([1.0, 4.0, 9.0])[i], backend=backend)
    assert [jitted(i) for i in (0, -1, 1)] == [1.0, 9.0, 4.0]


@pytest.mark.skipif("native" not in BACKENDS, reason="llvmlite is not installed")
def test_machine_code_computes_the_term_that_is_selected():
    """A fold of `where` that selects one of many terms reads that one, and nothing else, whatever the index is."""
    rows = np.sin(np.arange(200.0)).reshape(100, 2)

    def chain(index, entries):
        return fg.sum([fg.where(fg.equal(index, k), entry * 3.0, -0.0) for k, entry in enumerate(entries)])

    selected = fg.jit(chain, backend="native")
    entries = [*rows[:, 0], -0.0, math.inf, math.nan, 1e300]
    odd = [0.5, math.nan, math.inf, -math.inf, 1e300, -1e300, 2.0**63, -(2.0**63), 2.0**64, math.nextafter(99.0, 0.0)]
    for index in (*range(-2, 106), -0.0, *odd):
        assert_same([selected(index, entries)], [chain(float(index), entries)])
    several = fg.jit(lambda rows, indices: [[x + k for x in fg.table(rows)[i]] for k, i in enumerate(indices)])
    of_each = fg.jit(fg.vmap(lambda i, x: fg.table(rows[:, 1])[i] * x, in_axes=(0, None)), backend="native")
    indices = np.arange(40) * 37 % 200 - 100
    for count in (40, 39, 3):
        looked_up = several(rows, indices[:count])
        assert np.array_equal(looked_up, rows[indices[:count]] + np.arange(count)[:, None])
        assert np.array_equal(of_each(indices[:count], 2.0), rows[indices[:count], 1] * 2.0)
        for wrong in (100, -101, 1e300):
            with pytest.raises(fg.TableIndexError):
                several(rows, [*indices[1:count], wrong])
            with pytest.raises(fg.TableIndexError):
                of_each(np.array([*indices[1:count], wrong]), 2.0)
    program = of_each.kernel_for(indices, 2.0).arrays
    machine = Machine(4, False)
    assert emit_llvm(program, machine).assembly.count("fptosi") == 1
    few = fg.jit(lambda i: fg.table([1.0, 2.0, 3.0])[i], backend="native").kernel_for(1).arrays
    assert "fptosi" not in emit_llvm(few, machine).assembly, "a few terms are faster to fold"


@pytest.mark.skipif("native" not in BACKENDS, reason="llvmlite is not installed")
def test_comparisons_are_brought_into_the_folds_that_select_by_them():
    """Several columns, and the gradient, read the comparisons; in rounds and outside of them."""
    rows = np.sin(np.arange(12.0 * 16)).reshape(12, 16)
    letters = [k * k * 7 % 11 - 3 for k in range(30)]

    def total(rows, letters):
        table = fg.table(rows)
        return fg.sum(x.tanh() * k for k, letter in enumerate(letters) for x in table[letter])

    def chain(rows, letters):
        state = [0.1] * 16
        for letter in letters:
            state = [(s * x + x).tanh() for s, x in zip(state, fg.table(rows)[letter], strict=True)]
        return fg.sum(state)

    for function in (total, chain):
        f = fg.value_and_grad(function, backend="native")
        values = [[Value(x) for x in row] for row in rows.tolist()]
        out = function(values, letters)
        out.backward()
        value, gradient = f(rows, letters)
        assert_same([value, *gradient.ravel().tolist()], [out.data, *(v.grad for row in values for v in row)])
        arrays = f.kernel_for(rows, letters).arrays
        inputs = [*rows.ravel().tolist(), *map(float, letters)]
        assert_same(with_comparisons(arrays).check().evaluate(inputs), arrays.evaluate(inputs))
        assert "fptosi" in emit_llvm(arrays, Machine(4, False)).assembly
        for wrong in (12, -13, 0.5):
            with pytest.raises((fg.TableIndexError, fg.IntegerError)):
                f(rows, [*letters[1:], wrong])


@pytest.mark.skipif(CC is None, reason="there is no C compiler on this machine")
def test_saved_c():
    f = fg.value_and_grad(lambda rows, i, j: fg.table(rows)[i] @ fg.table(rows)[j])
    rows = np.sin(np.arange(18.0)).reshape(9, 2)
    kernel = f.kernel_for(rows, 0, 1)
    for i, j in [(0.0, -9.0), (8.0, 8.0), (9.0, 0.0), (0.0, -10.0), (0.5, 0.0), (math.nan, 1.0), (1.0, -math.inf)]:
        check_saved_c(kernel, kernel.joint.function.__name__, [*rows.ravel().tolist(), i, j])


def test_saved_modules_raise_what_python_raises(tmp_path):
    f = fg.value_and_grad(lambda rows, i: fg.table(rows)[i] * 2.0)
    kernel = f.kernel_for([1.0, 2.0], 0)
    for rolled in (False, True):
        module = module_of(kernel.save(tmp_path / f"saved{rolled}.py", rolled=rolled).read_text(encoding="utf-8"))
        function = module[kernel.joint.function.__name__]
        assert flattened(function([1.0, 2.0], -1.0)) == [4.0, 0.0, 2.0]
        for index, error in [(2.0, IndexError), (0.5, ValueError)]:
            with pytest.raises(error):
                function([1.0, 2.0], index)


def test_captured_rows_are_leaves_or_numbers():
    vectors, knots = [[Value(1.0), Value(2.0)], [Value(3.0), Value(4.0)]], fg.table([10.0, 20.0])
    f = fg.value_and_grad(lambda i: fg.sum(fg.table(vectors)[i]) * knots[i], wrt=[v for row in vectors for v in row])
    assert f(0) == (30.0, [10.0, 10.0, 0.0, 0.0])
    assert f(1) == (140.0, [0.0, 0.0, 20.0, 20.0])
    vectors[1][0].data = 5.0
    assert f(-1) == (180.0, [0.0, 0.0, 20.0, 20.0])


def test_errors_are_of_the_classes_that_are_compared():
    assert builtin_class(fg.TableIndexError("")) is IndexError
    assert builtin_class(fg.IntegerError("")) is ValueError
