"""Sparse Jacobians and Hessians: the dense one's bits, where it is not zero for every input."""

import builtins
import ctypes
import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings

import flatgrad as fg
from benchmarks.suites.luksan_vlcek import PROBLEMS
from flatgrad.compiler.loops.extents import Samples
from flatgrad.compiler.sparsity import OpenSparsity, Sparsity
from flatgrad.compiler.transforms import derivatives, sizes
from tests.bits import assert_same
from tests.examples import crossed, examples, mostly_slow
from tests.programs import ARITHMETIC, programs

sparse = pytest.importorskip("scipy.sparse")


def rosenbrock(x):
    return sum(100.0 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))


def dense_of(matrix):
    return matrix.toarray().ravel().tolist()


@pytest.mark.parametrize(
    ("problem", "backend"),
    crossed(PROBLEMS, ["python", "numpy", "native"]),
    ids=lambda each: getattr(each, "number", each),
)
def test_hessians_and_jacobians_of_known_problems_have_the_bits_of_the_dense_ones(problem, backend):
    x = np.asarray(problem.start(8), dtype=float)
    hessian = fg.hessian(problem.objective, sparse=True, backend=backend)
    matrix = hessian(x)
    assert_same(dense_of(matrix), fg.hessian(problem.objective)(x).ravel().tolist())
    assert matrix.nnz < 64
    assert matrix.has_sorted_indices
    constraints = lambda x: np.stack(problem.constraints(x))  # noqa: E731
    rows = fg.jacobian(constraints, sparse=True, backend=backend)(x)
    assert_same(dense_of(rows), fg.jacobian(constraints, direction="forward")(x).ravel().tolist())


@settings(max_examples=examples(25), deadline=None)
@given(programs(max_steps=8, max_outputs=3))
def test_random_programs(program):
    function = lambda x: program.run(list(x))  # noqa: E731
    x = np.array(program.inputs)
    try:
        dense = fg.jacobian(function, direction="forward")(x)
    except ARITHMETIC:
        assume(False)
    matrix = fg.jacobian(function, sparse=True)(x)
    assert_same(dense_of(matrix), np.array(dense).ravel().tolist(), program)


def test_numbers_are_replaced_in_a_known_pattern():
    hessian = fg.hessian(rosenbrock, sparse=True)
    first = hessian(np.zeros(6))
    kept = first.data
    again = hessian(np.ones(6), out=first)
    assert again is first
    assert first.data is kept
    assert_same(dense_of(first), fg.hessian(rosenbrock)(np.ones(6)).ravel().tolist())
    other = hessian(np.zeros(6))
    assert other.indices is first.indices
    assert not np.shares_memory(other.data, first.data)
    with pytest.raises(fg.InputError, match=r"must be a CSR matrix with the pattern of the result, <Sparsity 7 x 7"):
        hessian(np.zeros(7), out=first)
    assert_same(dense_of(first), fg.hessian(rosenbrock)(np.ones(6)).ravel().tolist())


def test_the_pattern_is_that_of_the_way():
    function = fg.jacobian(lambda x: [x[0] * x[1], x[2]] if x[2] > 0 else [x[0] + x[1] * 0.0, x[2] * x[1]], sparse=True)
    assert function([2.0, 3.0, 1.0]).toarray().tolist() == [[3.0, 2.0, 0.0], [0.0, 0.0, 1.0]]
    assert function([2.0, 3.0, -1.0]).toarray().tolist() == [[1.0, 0.0, 0.0], [0.0, -1.0, 3.0]]
    assert function.sparsity([2.0, 3.0, 1.0]).columns.tolist() == [0, 1, 2]
    assert len(function.ways()) == 2
    assert [kernel.sparsity.nnz for kernel in function.kernels] == [3, 4]
    assert fg.jit(fg.sin).kernel_for(1.0).sparsity is None


def test_a_pattern_takes_no_numbers_and_follows_sizes():
    roots = fg.jacobian(lambda x: [fg.sqrt(e) for e in x], sparse=True)
    assert roots.sparsity([-1.0, -2.0]).nnz == 2
    with pytest.raises(ValueError, match="sqrt"):
        roots([-1.0, -2.0])
    hessian = fg.hessian(rosenbrock, sparse=True)
    for n in (3, 4, 5, 6, 7, 9):
        x = np.linspace(0.2, 1.4, n)
        assert_same(dense_of(hessian(x)), fg.hessian(rosenbrock)(x).ravel().tolist())


def test_edges():
    assert fg.jacobian(lambda x: [2.0, 3.0], sparse=True)([1.0]).toarray().tolist() == [[0.0], [0.0]]
    assert fg.hessian(lambda x: x[0] * 2.0, sparse=True)([1.0, 2.0]).nnz == 0
    assert fg.jacobian(lambda x: x**2, sparse=True)(3.0).toarray().tolist() == [[6.0]]
    assert fg.jacobian(lambda x: [x[1]], sparse=True, direction="reverse")([1.0, 2.0]).toarray().tolist() == [
        [0.0, 1.0]
    ]
    for wrong in ({"argnums": (0, 1)}, {"has_aux": True}):
        with pytest.raises(fg.OptionError, match="sparse matrix is for one argument"):
            fg.jacobian(lambda x, y: x, sparse=True, **wrong)
    with pytest.raises(fg.InputError, match="cannot be a part of a traced function"):
        fg.jit(lambda x: fg.jacobian(lambda y: [y[0]], sparse=True)(x).data)([1.0])


def test_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    pattern = fg.hessian(rosenbrock, sparse=True).sparsity(np.zeros(9))
    assert pattern.nnz == 25
    pattern.spy(tmp_path / "pattern.png")
    assert (tmp_path / "pattern.png").stat().st_size > 1000


def test_without_scipy(monkeypatch):
    real = builtins.__import__

    def imported(name, *args, **kwargs):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", imported)
    with pytest.raises(ImportError, match=r"pip install 'flatgrad\[scipy\]'"):
        fg.jacobian(rosenbrock, sparse=True)


def test_linear_terms_are_not_in_a_hessian():
    matrix = fg.hessian(lambda x: x[0] * x[1] + 3.0 * x[2], sparse=True)([1.0, 2.0, 3.0])
    assert matrix.toarray().tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert matrix.nnz == 2


def test_arrays_are_rows_and_columns_in_flattened_order():
    matrix = fg.jacobian(lambda x: x.T, sparse=True)(np.ones((2, 3)))
    assert matrix.shape == (6, 6)
    assert matrix.indices.tolist() == [0, 3, 1, 4, 2, 5]


def same_matrices(one, other):
    assert_same(one.data.tolist(), other.data.tolist())
    assert one.shape == other.shape
    assert one.indices.tolist() == other.indices.tolist()
    assert one.indptr.tolist() == other.indptr.tolist()


@pytest.mark.parametrize("problem", mostly_slow(PROBLEMS[:3]), ids=lambda problem: problem.number)
def test_one_kernel_serves_matrices_of_all_sizes(problem):
    """Of steps of two variables it serves all even ones."""
    hessian = fg.hessian(problem.objective, sparse=True, dynamic=True)
    single = fg.hessian(problem.objective, sparse=True, dynamic=False)
    for n in (40, 12, 60):
        x = problem.start(n) + np.linspace(0.0, 0.1, n)
        same_matrices(hessian(x), single(x))
    assert len(hessian.open_kernels) == 1
    assert [kernel.stats.own_size for kernel in hessian.kernels] == [""] * len(hessian.kernels)
    x = problem.start(12)
    assert_same(dense_of(hessian(x)), fg.hessian(problem.objective)(x).ravel().tolist())
    assert hessian.sparsity(x) == single.sparsity(x)
    assert hessian.sparsity(x) != hessian.sparsity(problem.start(40))


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_large_matrices_have_a_kernel_for_all_sizes_from_the_first_call_on(backend, monkeypatch):
    monkeypatch.setattr(derivatives, "_LARGE", 50)
    hessian = fg.hessian(rosenbrock, sparse=True, backend=backend)
    hessian(np.ones(20))
    assert not hessian.open_kernels
    x = np.linspace(-1.0, 1.0, 50)
    matrix = hessian(x)
    assert len(hessian.open_kernels) == 1
    assert_same(dense_of(matrix), fg.hessian(rosenbrock, dynamic=False)(x).ravel().tolist())
    assert hessian(x[::-1].copy(), out=matrix) is matrix
    assert not fg.hessian(rosenbrock, sparse=True, dynamic=False)(x).nnz - matrix.nnz


def test_kernels_for_all_sizes_are_written():
    hessian = fg.hessian(rosenbrock, sparse=True, dynamic=True)
    x = np.linspace(-1.0, 1.0, 9)
    expected = hessian(x).data.tolist()
    (kernel,) = hessian.open_kernels
    names = {}
    exec(kernel.source, names)
    (function,) = (names[name] for name, _ in kernel.stages.functions)
    assert_same(function(9, x.tolist()), expected)
    assert "int n" in kernel.c_source()


def disorder(x):
    return sum(t**3 if 0xB5297A4D3F84D5B5 >> k % 64 & 1 else fg.sin(t) for k, t in enumerate(x))


def bent(x):
    return sum((b - a) ** 4 for a, b in itertools.pairwise(x)) if len(x) < 20 else sum(x) ** 3


@pytest.mark.parametrize(
    ("function", "reason"), [(disorder, "differ in more than sizes"), (bent, "something else for n = 24")]
)
def test_what_differs_in_more_than_size_has_kernels_of_its_own(function, reason):
    hessian = fg.hessian(function, sparse=True, dynamic=True)
    for n in (12, 24):
        x = np.linspace(0.1, 0.7, n)
        assert_same(dense_of(hessian(x)), fg.hessian(function, dynamic=False)(x).ravel().tolist())
    assert reason in hessian.kernel_for(x).stats.own_size


@pytest.mark.parametrize("transform", [fg.hessian, fg.jacobian])
def test_rows_that_depend_on_everything_are_parts_of_their_own(transform):
    """So there is one kernel for all sizes although some rows grow and others do not."""

    def function(x):
        norm = sum(a * a * fg.sin(a) for a in x)
        return (
            x[0] * norm
            if transform is fg.hessian
            else [*(x[0] * fg.sin(a) + b for a, b in itertools.pairwise(x)), norm]
        )

    matrices = transform(function, sparse=True, dynamic=True)
    for n in (30, 12):
        x = np.linspace(0.1, 0.7, n)
        same_matrices(matrices(x), transform(function, sparse=True, dynamic=False)(x))
    assert len(matrices.open_kernels) == 1
    assert matrices.sparsity(x).edges() == ([0, 1, 12] if transform is fg.hessian else [0, 11, 12])


def test_patterns_for_all_sizes():
    samples = Samples([(5,), (6,), (7,)])
    empty = OpenSparsity.through([Sparsity.of((n, 2 * n), []) for n in (5, 6, 7)], samples).at([9])
    assert (empty.shape, empty.nnz, empty.starts.tolist()) == ((9, 18), 0, [0] * 10)
    assert OpenSparsity.through([Sparsity.of((n, n), [(0, n * n % 4)]) for n in (5, 6, 7)], samples) is None
    alike = Sparsity.of((2, 2), [(0, 1)])
    assert alike == Sparsity.of((2, 2), [(0, 1)])
    assert (
        len({alike, Sparsity.of((2, 2), [(0, 1)]), Sparsity.of((2, 2), [(1, 1)]), Sparsity.of((2, 3), [(0, 1)])}) == 3
    )


@pytest.mark.parametrize("kind", ["weights", "places"])
def test_the_value_says_where_a_large_matrix_is_not_that_of_the_kernel_for_all_sizes(kind, monkeypatch):
    """Sizes that are too large to be compared: what begins there is seen although no smaller size has it."""
    weights = [1.0] * 40 + [2.0] * 40 if kind == "weights" else [1.0] * 80
    places = list(range(1, 81))
    if kind == "places":
        places[40], places[41] = places[41], places[40]

    def function(x):
        return sum(weights[i] * (x[i] * x[places[i]]) ** 2 for i in range(len(x) - 1))

    monkeypatch.setattr(derivatives, "_LARGE", 60)
    monkeypatch.setattr(sizes, "_EVALUATED", 0)
    monkeypatch.setattr(sizes, "_COUNTED", 0)
    monkeypatch.setattr(sizes, "_WITNESSED", 1000)
    hessian = fg.hessian(function, sparse=True)
    for x in np.zeros(60), np.ones(61):
        same_matrices(hessian(x), fg.hessian(function, sparse=True, dynamic=False)(x))
    assert "something else for n = 61" in hessian.kernel_for(x).stats.own_size
    weights[:], places[:] = [1.0] * 80, range(1, 81)
    assert hessian(x).nnz == 181
    assert not hessian.kernel_for(x).stats.own_size


def test_entries_as_a_c_function():
    def chain(x):
        return sum((x[i + 1] - x[i] ** 2) ** 2 for i in range(len(x) - 1))

    hessian, x = fg.hessian(chain, sparse=True), np.linspace(0.1, 0.7, 6)
    matrix, doubles = hessian(x), ctypes.POINTER(ctypes.c_double)
    entries = np.zeros(hessian.sparsity(x).nnz)
    hessian.c_function(x)(x.ctypes.data_as(doubles), entries.ctypes.data_as(doubles))
    assert entries.tolist() == matrix.data.tolist()
