"""Hessians of functions with several results, and derivatives where there are no numbers."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg

BACKENDS = ["python", "numpy", "native"]
EMPTY = np.zeros(0)


def items(result):
    """The numbers in a result, and the structures around them, as something that can be compared."""
    if isinstance(result, np.ndarray):
        return "array", result.shape, result.tobytes()
    if isinstance(result, dict):
        return {key: items(item) for key, item in result.items()}
    return type(result), [items(item) for item in result] if isinstance(result, (list, tuple)) else result


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_hessian_of_an_array_has_a_matrix_per_number(backend):
    def f(x):
        return np.stack([[fg.exp(x[0]) * x[1] ** 2, x[0] * x[1] * x[2]], [x[2] ** 3, x[1] + 1.0]])

    x = np.array([0.5, 2.0, 3.0])
    hessian = fg.hessian(f, backend=backend)(x)
    assert hessian.shape == (2, 2, 3, 3)
    for k, row in enumerate(f(x)):
        for i, _ in enumerate(row):
            single = fg.hessian(lambda x, k=k, i=i: f(x)[k, i], backend=backend)(x)
            np.testing.assert_allclose(hessian[k, i], single, rtol=1e-15)
    assert hessian[0, 0].tolist() == [
        [4 * np.exp(0.5), 4 * np.exp(0.5), 0],
        [4 * np.exp(0.5), 2 * np.exp(0.5), 0],
        [0] * 3,
    ]


def test_the_hessian_of_a_structure_is_the_jacobian_of_its_jacobian():
    def f(p, q):
        return {"a": p["u"] ** 2 * p["v"][0], "b": [p["v"] * q, (q**3,)]}

    arguments = {"u": 2.0, "v": np.array([3.0, 4.0])}, 5.0
    for argnums in (0, 1, (0, 1)):
        inner = fg.jacobian(f, argnums, direction="reverse")
        expected = fg.jacobian(inner, argnums, direction="forward")(*arguments)
        assert items(fg.hessian(f, argnums)(*arguments)) == items(expected)
    hessian = fg.hessian(f)(*arguments)
    assert hessian["a"]["u"]["v"].tolist() == [4.0, 0.0]
    assert hessian["b"][0]["v"]["v"].shape == (2, 2, 2)
    assert fg.hessian(f, 1)(*arguments)["b"][1] == (30.0,)


def test_hessians_of_structures_follow_branches_and_captured_numbers():
    scale = [2.0]
    f = fg.hessian(lambda x: [scale[0] * x**3, x] if x > 1.0 else scale[0] * x * x)
    assert [f(x) for x in (2.0, 0.5, 3.0)] == [[24.0, 0.0], 4.0, [36.0, 0.0]]
    scale[0] = 1.0
    assert [f(x) for x in (2.0, 0.5)] == [[12.0, 0.0], 2.0]
    cubes = fg.hessian(lambda x: x**3)
    rows = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert fg.vmap(cubes)(rows).tobytes() == np.stack([cubes(row) for row in rows]).tobytes()
    assert fg.hessian(cubes)(rows[0]).shape == (2,) * 5
    third = fg.jacobian(cubes)(rows[0])
    assert third[1, 1, 1].tolist() == [0.0, 6.0]


def test_auxiliary_results_and_errors():
    hessian, aux = fg.hessian(lambda x: (x**3, {"seen": x + 1.0}), has_aux=True)(np.array([1.0, 2.0]))
    assert hessian[1].tolist() == [[0.0, 0.0], [0.0, 12.0]]
    assert aux["seen"].tolist() == [2.0, 3.0]
    with pytest.raises(fg.DomainError, match="log"):
        fg.hessian(lambda x: [fg.log(x), x])(-1.0)
    with pytest.raises(
        fg.InputError, match="must return one number to differentiate, and returned None; is a `return` missing"
    ):
        fg.hessian(lambda x: None)(1.0)
    with pytest.raises(fg.InputError, match="must return one number to differentiate, and returned an array of shape"):
        fg.grad(lambda x: x * x)(np.ones(2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_with_respect_to_nothing_have_size_0(backend):
    def f(a, b):
        return b * b + sum(a) * 2.0

    for nothing, shape in ((EMPTY, (0,)), (np.zeros((0, 3)), (0, 3)), ([], None), ({}, None), ((), None)):
        empty = items(np.zeros(shape) if shape else nothing)
        g = (lambda a, b: b * b) if shape is None or len(shape) == 2 else f
        assert items(fg.grad(g, backend=backend)(nothing, 3.0)) == empty
        value, gradient = fg.value_and_grad(g, backend=backend)(nothing, 3.0)
        assert (value, items(gradient)) == (9.0, empty)
        both = fg.grad(g, argnums=(1, 0), backend=backend)(nothing, 3.0)
        assert items(both) == (tuple, [(float, 6.0), empty])
        assert items(fg.jacobian(g, argnums=(1, 0), backend=backend)(nothing, 3.0)) == items(both)
        (second, mixed), below = fg.hessian(g, argnums=(1, 0), backend=backend)(nothing, 3.0)
        assert (second, items(mixed)) == (2.0, empty)
        assert items(below) == (items((np.zeros(shape), np.zeros(shape + shape))) if shape else empty)
    assert fg.grad(f, backend=backend)([], 3.0) == []
    mixed = {"a": 2.0, "rest": EMPTY, "list": []}
    gradient = fg.grad(lambda p: p["a"] ** 2 + sum(p["rest"]), backend=backend)(mixed)
    assert items(gradient) == items({"a": 4.0, "rest": EMPTY, "list": []})
    hessian = fg.hessian(lambda p: p["a"] ** 2 + sum(p["rest"]), backend=backend)(mixed)
    assert items(hessian["a"]) == items({"a": 2.0, "rest": EMPTY, "list": []})
    assert items(hessian["rest"]) == items({"a": EMPTY, "rest": np.zeros((0, 0)), "list": []})


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_of_size_0_have_derivatives_of_size_0(backend):
    x = np.array([1.0, 2.0, 3.0])
    assert fg.jacobian(lambda x: x[:0], backend=backend)(x).shape == (0, 3)
    assert fg.hessian(lambda x: x[:0], backend=backend)(x).shape == (0, 3, 3)
    jacobian = fg.jacobian(lambda x: {"all": x * x, "none": x[:0], "list": []}, backend=backend)(x)
    assert (jacobian["all"].shape, jacobian["none"].shape, jacobian["list"]) == ((3, 3), (0, 3), [])
    assert fg.jacobian(lambda x: x * x, backend=backend)(EMPTY).shape == (0, 0)
    result, pull = fg.vjp(lambda x: x[:0], x, backend=backend)
    assert (result.shape, pull(EMPTY)[0].tolist()) == ((0,), [0.0, 0.0, 0.0])
    result, pull = fg.vjp(lambda x: sum(x) + 1.0, EMPTY, backend=backend)
    assert (result, items(pull(1.0))) == (1.0, (tuple, [items(EMPTY)]))
    assert fg.jvp(lambda x: sum(x) + 1.0, (EMPTY,), (EMPTY,), backend=backend) == (1.0, 0.0)
    assert items(fg.hvp(lambda x: sum(x) + 1.0, backend=backend)(EMPTY, EMPTY)) == items(EMPTY)
    with pytest.raises(fg.InputError, match="must return numbers"):
        fg.jacobian(lambda x: None, backend=backend)(x)


def test_sizes_with_0_among_them():
    for options in ({}, {"dynamic": True}):
        f = fg.value_and_grad(lambda x: sum(a * a for a in x) + 1.0, **options)
        for n in (3, 4, 0, 5, 6, 0, 1):
            value, gradient = f(np.ones(n))
            assert (value, gradient.tolist()) == (n + 1.0, [2.0] * n)
    fg.check_grads(lambda p: p["a"] ** 2 + sum(p["rest"]), ({"a": 2.0, "rest": EMPTY},))


def test_sparse_matrices_of_size_0():
    pytest.importorskip("scipy")
    assert fg.jacobian(lambda x: x * x, sparse=True)(EMPTY).shape == (0, 0)
    assert fg.jacobian(lambda x: x[:0], sparse=True)(np.ones(3)).shape == (0, 3)
    assert fg.hessian(lambda x: sum(x) + 1.0, sparse=True)(EMPTY).shape == (0, 0)
    with pytest.raises(fg.InputError, match="must return one number"):
        fg.hessian(lambda x: x * x, sparse=True)(np.ones(3))
