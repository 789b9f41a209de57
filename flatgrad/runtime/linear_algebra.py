"""NumPy's linear algebra, `np.linalg`, for arrays of `Value`s: scalar arithmetic, in a stated order.

Systems of equations are solved by an LU decomposition with partial pivoting, in which the choice of each pivot is a
branch; least squares by Householder's reflections, which have none; Cholesky's decomposition goes row by row.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from . import primitives
from .arrays import REMEDIES, UFUNCS, as_array, filled, unsupported, wrapped
from .errors import InputError, SingularError
from .foreign import COMPLEX
from .numpy_functions import Axis, _as_array, _implements, _is_complex, array, np
from .numpy_reductions import _root, _squares
from .primitives import div
from .sites import user_line


@_implements("linalg.norm")
def _norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    x = _as_array(x)
    if axis is None and (ord is None or (ord == 2 and x.ndim == 1) or (ord == "fro" and x.ndim == 2)):
        flat = np.asarray(x).ravel(order="K")
        root = primitives.sqrt(np.sum(_squares(x)) if _is_complex(x) else flat.dot(flat))
        return filled((1,) * x.ndim, root) if keepdims else root
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if ord is None or (ord == 2 and len(axes) == 1) or (ord == "fro" and len(axes) == 2):
        return _root(np.sum(_squares(x), axis=axes, keepdims=keepdims))
    size = np.abs(x)
    if len(axes) == 1:
        if ord in (math.inf, -math.inf):
            return (np.max if ord > 0 else np.min)(size, axis=axes, keepdims=keepdims)
        if ord == 0:
            return np.sum(_as_array(x != 0.0), axis=axes, keepdims=keepdims)
        if ord == 1:
            return np.sum(size, axis=axes, keepdims=keepdims)
        return np.sum(size**ord, axis=axes, keepdims=keepdims) ** (1.0 / ord)
    if len(axes) == 2 and ord in (1, -1, math.inf, -math.inf):
        rows, columns = (each % x.ndim for each in axes)
        summed = rows if abs(ord) == 1 else columns
        sums = np.sum(size, axis=summed, keepdims=True)
        result = (np.max if ord > 0 else np.min)(sums, axis=(rows, columns), keepdims=True)
        return result if keepdims else wrapped(np.squeeze(np.asarray(result), axis=(rows, columns)))
    raise InputError(f"np.linalg.norm of Values: ord={ord!r} needs singular values; use 'fro', 1 or inf{user_line()}")


@_implements("linalg.vector_norm")
def _vector_norm(x: Any, /, *, axis: Axis = None, keepdims: bool = False, ord: Any = 2) -> Any:
    x = _as_array(x)
    if axis is None:
        result = _norm(x.ravel(), ord)
        return filled((1,) * x.ndim, result) if keepdims else result
    return _norm(x, ord, axis, keepdims)


@_implements("linalg.matrix_norm")
def _matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return _norm(x, ord, (-2, -1), keepdims)


def _matrix(name: str, a: Any) -> Any:
    a = _as_array(a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise InputError(f"np.linalg.{name} needs a square matrix, got an array of shape {a.shape}{user_line()}")
    return np.asarray(a)


def _of_matrices(function: Callable[[list[Any]], Any], a: Any) -> Any:
    """A function of the rows of a matrix, applied to each matrix of a stack."""
    if a.ndim == 2:
        return function(a.tolist())
    results = [_as_array(function(a[place].tolist())) for place in np.ndindex(a.shape[:-2])]
    return as_array([x for each in results for x in each.ravel().tolist()], (*a.shape[:-2], *results[0].shape))


def _eliminated(rows: list[list[Any]], inverts: bool = False) -> tuple[list[list[Any]], float]:
    """The rows of a matrix in upper triangular form, and the sign of the exchanges.

    The pivot is the largest in size, the first one at a tie. A row that has the plain number 0.0 below it stays.

    Raises:
        SingularError: for a pivot of 0, if `inverts` is true.
    """
    rows, sign = [list(row) for row in rows], 1.0
    n = len(rows)
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            entry = rows[i][k]
            if (entry.__class__ is not float or entry != 0.0) and primitives.abs(entry) > primitives.abs(rows[best][k]):
                best = i
        if best != k:
            rows[k], rows[best], sign = rows[best], rows[k], -sign
        if inverts and primitives.equal(primitives.abs(rows[k][k]), 0.0):
            raise SingularError(f"Singular matrix: the pivot in column {k} is 0{user_line()}")
        for i in range(k + 1, n):
            entry = rows[i][k]
            if entry.__class__ is float and entry == 0.0:
                continue
            factor = div(entry, rows[k][k])
            rows[i] = [
                *rows[i][: k + 1],
                *(x - factor * y for x, y in zip(rows[i][k + 1 :], rows[k][k + 1 :], strict=True)),
            ]
    return rows, sign


def _solved(rows: list[list[Any]], sides: list[list[Any]]) -> list[list[Any]]:
    """The solutions of linear equations, for several right sides, the columns of `sides`."""
    n = len(rows)
    # Elimination looks for pivots in the first n columns only, as there are n rows.
    upper, _ = _eliminated([[*row, *side] for row, side in zip(rows, sides, strict=True)], inverts=True)
    solution: list[list[Any]] = [[] for _ in range(n)]
    for i in reversed(range(n)):
        for c, rest in enumerate(upper[i][n:]):
            for k in range(i + 1, n):
                rest = rest - upper[i][k] * solution[k][c]
            solution[i].append(div(rest, upper[i][i]))
    return solution


@_implements("linalg.solve")
def _solve(a: Any, b: Any) -> Any:
    a, b = _matrix("solve", a), np.asarray(_as_array(b))
    sides = b[..., None] if b.ndim == 1 else b
    stack = np.broadcast_shapes(a.shape[:-2], sides.shape[:-2])
    a, sides = np.broadcast_to(a, (*stack, *a.shape[-2:])), np.broadcast_to(sides, (*stack, *sides.shape[-2:]))
    if sides.shape[-2] != a.shape[-1]:
        raise InputError(f"np.linalg.solve: shapes {a.shape} and {b.shape} do not fit{user_line()}")
    items = [x for place in np.ndindex(stack) for row in _solved(a[place].tolist(), sides[place].tolist()) for x in row]
    result = as_array(items, sides.shape)
    return result[..., 0] if b.ndim == 1 else result


@_implements("linalg.inv")
def _inv(a: Any) -> Any:
    a = _matrix("inv", a)
    return _solve(a, np.eye(a.shape[-1]))


@_implements("linalg.matrix_power")
def _matrix_power(a: Any, n: int) -> Any:
    power: Any = getattr(np.linalg.matrix_power, "_implementation", np.linalg.matrix_power)
    a = _matrix("matrix_power", a)
    return wrapped(power(a, n) if n > 0 else power(np.asarray(_inv(a)), -n) if n else array(np.eye(a.shape[-1])))


@_implements("linalg.det")
def _det(a: Any) -> Any:
    def det(rows: list[list[Any]]) -> Any:
        upper, sign = _eliminated(rows)
        product = functools.reduce(lambda p, k: p * upper[k][k], range(1, len(upper)), upper[0][0]) if upper else 1.0
        return -product if sign < 0.0 else product

    return _of_matrices(det, _matrix("det", a))


@_implements("linalg.slogdet")
def _slogdet(a: Any) -> Any:
    a = _matrix("slogdet", a)

    def parts(rows: list[list[Any]]) -> Any:
        upper, sign = _eliminated(rows)
        pivots = [upper[k][k] for k in range(len(upper))]
        logarithm = functools.reduce(lambda s, p: s + primitives.log(primitives.abs(p)), pivots, 0.0)
        return array([functools.reduce(lambda s, p: primitives.sign(p) * s, pivots, sign), logarithm])

    result = _of_matrices(parts, a)
    made_by = getattr(np.linalg, "_linalg", np.linalg)
    pair = getattr(made_by, "SlogdetResult", None)
    items = wrapped(np.asarray(result)[..., 0]), wrapped(np.asarray(result)[..., 1])
    return pair(*items) if pair is not None else items


@_implements("linalg.cholesky")
def _cholesky(a: Any, /, *, upper: bool = False) -> Any:
    conjugate: Any = UFUNCS["conjugate"]

    def factor(rows: list[list[Any]]) -> Any:
        n = len(rows)
        lower: list[list[Any]] = [[0.0] * n for _ in rows]
        for i in range(n):
            for j in range(i + 1):
                rest = conjugate(rows[j][i]) if upper else rows[i][j]
                for k in range(j):
                    rest = rest - lower[i][k] * conjugate(lower[j][k])
                if i == j:
                    rest = rest.real if isinstance(rest, COMPLEX) else rest
                lower[i][j] = primitives.sqrt(rest) if i == j else div(rest, lower[j][j])
        return np.conjugate(array(lower)).T if upper else array(lower)

    return _of_matrices(factor, _matrix("cholesky", a))


# --- orthogonal decompositions and least squares ----------------------------------------------------------------------


class _Reflection(NamedTuple):
    """One of Householder's: subtracts `tau * w * (w . y)` from a vector, where w is 1.0 and `tail` from a place on.

    Attributes:
        beta: what stands on the diagonal afterwards.
        sign: -1.0 where nothing stood below the diagonal, and LAPACK would not have reflected; else 1.0.
    """

    tail: list[Any]
    tau: Any
    beta: Any
    sign: Any

    def apply(self, column: list[Any], k: int) -> None:
        """Reflect the part of a column from a place on."""
        product = column[k]
        for w, y in zip(self.tail, column[k + 1 :], strict=True):
            product = product + w * y
        product = self.tau * product
        column[k] = column[k] - product
        for i, w in enumerate(self.tail, k + 1):
            column[i] = column[i] - product * w


def _reflection(column: list[Any], k: int) -> _Reflection | None:
    """What makes a column 0 below a place; None where it is the plain number 0.0 there."""
    first, below = column[k], column[k + 1 :]
    if all(each.__class__ is float and each == 0.0 for each in below):
        return None
    rest = functools.reduce(lambda total, each: total + each * each, below[1:], below[0] * below[0])
    beta = -primitives.copysign(primitives.sqrt(first * first + rest), first)
    pivot = first - beta
    sign = primitives.where(primitives.equal(rest, 0.0), -1.0, 1.0)
    return _Reflection([div(each, pivot) for each in below], div(-pivot, beta), beta, sign)


def _triangular(rows: list[list[Any]], sides: list[list[Any]]) -> tuple[list[_Reflection | None], list[list[Any]]]:
    """The reflections that make a matrix triangular, and the columns that they make of it; `sides` are reflected, too.

    The signs on the diagonal are those of LAPACK: see `_Reflection.sign`.
    """
    columns = [list(column) for column in zip(*rows, strict=True)]
    reflections = []
    for k in range(min(len(rows), len(columns))):
        reflection = _reflection(columns[k], k)
        reflections.append(reflection)
        if reflection is not None:
            for column in (*columns[k + 1 :], *sides):
                reflection.apply(column, k)
            columns[k][k:] = [reflection.beta] + [0.0] * len(reflection.tail)
            for column in (*columns[k:], *sides):
                column[k] = reflection.sign * column[k]
    return reflections, columns


def _orthogonal(reflections: list[_Reflection | None], size: int, count: int) -> list[list[Any]]:
    """The first columns of the product of reflections."""
    result = []
    for j in range(count):
        column: list[Any] = [1.0 if i == j else 0.0 for i in range(size)]
        for k in range(len(reflections) - 1, -1, -1):
            reflection = reflections[k]
            if reflection is not None:
                column[k] = reflection.sign * column[k]
                reflection.apply(column, k)
        result.append(column)
    return result


def _real_matrix(name: str, a: Any, remedy: str) -> Any:
    a = _as_array(a)
    if _is_complex(a):
        raise InputError(f"np.linalg.{name} is defined for real numbers here; {remedy}{user_line()}")
    if a.ndim < 2 or not a.size:
        raise InputError(f"np.linalg.{name} needs a matrix, got an array of shape {a.shape}{user_line()}")
    return np.asarray(a)


@_implements("linalg.qr")
def _qr(a: Any, mode: str = "reduced") -> Any:
    """By Householder's reflections, as LAPACK, for matrices of full rank."""
    a = _real_matrix("qr", a, "np.linalg.cholesky(a.conj().T @ a) is the adjoint of a triangular factor")
    if mode not in ("reduced", "complete", "r"):
        raise InputError(
            f"np.linalg.qr of Values has the modes 'reduced', 'complete' and 'r', got {mode!r}{user_line()}"
        )
    m, n = a.shape[-2:]
    count = m if mode == "complete" else min(m, n)
    factors = []
    for place in np.ndindex(a.shape[:-2]):
        reflections, columns = _triangular(a[place].tolist(), [])
        r = np.array(columns, dtype=object).T[:count]
        q = np.array(_orthogonal(reflections, m, count), dtype=object).T if mode != "r" else r
        factors.append((q, r))
    q, r = ([x for each in factors for x in each[k].ravel().tolist()] for k in (0, 1))
    stack = a.shape[:-2]
    triangular = as_array(r, (*stack, count, n))
    if mode == "r":
        return triangular
    pair = getattr(getattr(np.linalg, "_linalg", np.linalg), "QRResult", None)
    items = as_array(q, (*stack, m, count)), triangular
    return pair(*items) if pair is not None else items


class _Missing:
    """Stands where NumPy returns singular values, for which there is no arithmetic here."""

    def _refuse(self, *_: Any) -> Any:
        raise unsupported("linalg.lstsq(...)[3]", _SINGULAR)

    __getitem__ = __iter__ = __len__ = __array__ = __getattr__ = _refuse

    def __repr__(self) -> str:
        return "<no singular values>"


_SINGULAR: Final = (
    "singular values and eigenvalues are no arithmetic of their matrix; make the number that you need of them a "
    "primitive of your own, with its derivative, by fg.primitive(name, function, partials)"
)


def _substituted(columns: list[list[Any]], side: list[Any]) -> list[Any]:
    """The solution of an upper triangular system with these columns."""
    solution: list[Any] = []
    for i in range(len(columns) - 1, -1, -1):
        rest = side[i]
        for k, x in zip(range(len(columns) - 1, i, -1), solution, strict=True):
            rest = rest - columns[k][i] * x
        solution.append(div(rest, columns[i][i]))
    return solution[::-1]


def _least_squares(rows: list[list[Any]], sides: list[list[Any]]) -> tuple[list[list[Any]], list[Any]]:
    """The solutions for several right sides, and the sums of the squares of what remains of each.

    Where there are fewer equations than unknowns, the solution is the shortest one.
    """
    m, n = len(rows), len(rows[0])
    if m >= n:
        reflected = [list(side) for side in sides]
        _, columns = _triangular(rows, reflected)
        remains = [functools.reduce(lambda s, x: s + x * x, side[n:], 0.0) for side in reflected]
        return [_substituted(columns, side) for side in reflected], remains
    reflections, columns = _triangular([list(column) for column in zip(*rows, strict=True)], [])
    basis = _orthogonal(reflections, n, m)
    solutions = []
    for side in sides:
        parts: list[Any] = []
        for i in range(m):
            rest = side[i]
            for k in range(i):
                rest = rest - columns[i][k] * parts[k]
            parts.append(div(rest, columns[i][i]))
        solution = []
        for i in range(n):
            total = basis[0][i] * parts[0]
            for k in range(1, m):
                total = total + basis[k][i] * parts[k]
            solution.append(total)
        solutions.append(solution)
    return solutions, []


@_implements("linalg.lstsq")
def _lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    """By a QR decomposition, for matrices of full rank, where LAPACK uses singular values."""
    a = _real_matrix("lstsq", a, "write the equations of the real and the imaginary parts")
    b = np.asarray(_as_array(b))
    if a.ndim != 2 or b.ndim not in (1, 2) or len(b) != len(a):
        raise InputError(f"np.linalg.lstsq: shapes {a.shape} and {b.shape} do not fit{user_line()}")
    sides = [list(column) for column in (b[:, None] if b.ndim == 1 else b).T.tolist()]
    solutions, remains = _least_squares(a.tolist(), sides)
    x = as_array([each for row in zip(*solutions, strict=True) for each in row], (a.shape[1], len(sides)))
    remains = remains if a.shape[0] > a.shape[1] else []
    return x[:, 0] if b.ndim == 1 else x, as_array(remains, (len(remains),)), min(a.shape), _Missing()


@_implements("linalg.pinv")
def _pinv(a: Any, rcond: Any = None, hermitian: bool = False, **_: Any) -> Any:
    a = _real_matrix("pinv", a, "write np.linalg.inv(a.conj().T @ a) @ a.conj().T")
    m, n = a.shape[-2:]
    unit = [[1.0 if i == j else 0.0 for i in range(m)] for j in range(m)]
    items = []
    for place in np.ndindex(a.shape[:-2]):
        solutions, _remains = _least_squares(a[place].tolist(), unit)
        items += [x for row in zip(*solutions, strict=True) for x in row]
    return as_array(items, (*a.shape[:-2], n, m))


@_implements("linalg.cond")
def _cond(x: Any, p: Any = None) -> Any:
    if p is None or p in (2, -2):
        raise unsupported("linalg.cond", f"{_SINGULAR}; of p=1, inf and 'fro' the condition number is there")
    x = _matrix("cond", x)
    return _norm(x, p, (-2, -1)) * _norm(_inv(x), p, (-2, -1))


# --- polynomials ------------------------------------------------------------------------------------------------------


@_implements("polyfit")
def _polyfit(x: Any, y: Any, deg: int, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False) -> Any:
    """Least squares with the powers of x, scaled as NumPy scales them."""
    if full:
        raise unsupported("polyfit(..., full=True)", _SINGULAR)
    x, y = _as_array(x), _as_array(y)
    powers, right = np.vander(x, int(deg) + 1), y
    if w is not None:
        w = _as_array(w)
        powers, right = powers * w[:, None], (right * w if right.ndim == 1 else right * w[:, None])
    scale = np.sqrt(np.sum(powers * powers, axis=0))
    powers = powers / scale
    c, remains, *_ = _lstsq(powers, right)
    c = (c.T / scale).T
    if not cov:
        return c
    base = _inv(np.dot(powers.T, powers)) / np.outer(scale, scale)
    if cov == "unscaled":
        return c, base
    count = len(x) - powers.shape[1]
    if count <= 0:
        raise InputError(f"np.polyfit: cov needs more points than coefficients{user_line()}")
    factor = remains / float(count)
    return c, (base * factor[0] if y.ndim == 1 else base[:, :, None] * factor)


@_implements("poly")
def _poly(seq_of_zeros: Any) -> Any:
    zeros = _as_array(seq_of_zeros)
    if zeros.ndim != 1:
        raise unsupported("poly", f"of a matrix it needs eigenvalues: {_SINGULAR}")
    result: Any = [1.0]
    for zero in zeros:
        result = np.convolve(np.asarray(_as_array(result)), np.asarray(array([1.0, -zero])))
    return result


REMEDIES.update(
    dict.fromkeys(("eig", "eigh", "eigvals", "eigvalsh", "svd", "svdvals", "matrix_rank"), _SINGULAR)
    | {
        "roots": "for a quadratic polynomial write the formula; or make a root a primitive, with its derivative, "
        "by fg.primitive(name, function, partials)",
    }
)
