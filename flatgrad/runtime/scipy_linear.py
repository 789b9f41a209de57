"""Functions of `scipy.linalg` for arrays of `Value`s: NumPy's of the same name, and triangular systems.

SciPy is not imported: its functions are known by their names when they are called (see `natural.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from . import primitives
from .arrays import as_array
from .errors import InputError, SingularError
from .linear_algebra import _cholesky, _matrix, _solve
from .numpy_functions import _as_array, np
from .primitives import div
from .sites import user_line

#: Options that say nothing about the result.
_OF_MEMORY: Final = frozenset(["overwrite_a", "overwrite_b", "check_finite"])
_TRANSPOSES: Final = {0: 0, "N": 0, 1: 1, "T": 1, 2: 2, "C": 2}


def _plain_matrix(name: str, a: Any) -> Any:
    a = np.asarray(_as_array(a))
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise InputError(f"scipy.linalg.{name} needs a square matrix, got an array of shape {a.shape}{user_line()}")
    return a


def _solve_triangular(a: Any, b: Any, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False) -> Any:
    """By substitution; of the matrix, the elements of one triangle are read only."""
    a, b = _plain_matrix("solve_triangular", a), np.asarray(_as_array(b))
    n = len(a)
    if b.ndim not in (1, 2) or len(b) != n:
        raise InputError(f"scipy.linalg.solve_triangular: shapes {a.shape} and {b.shape} do not fit{user_line()}")
    if trans not in _TRANSPOSES:
        raise InputError(
            f"scipy.linalg.solve_triangular: trans is 0, 1, 2, 'N', 'T' or 'C', got {trans!r}{user_line()}"
        )
    if _TRANSPOSES[trans]:
        a, lower = (np.conjugate(_as_array(a.T)) if _TRANSPOSES[trans] == 2 else a.T), not lower
    rows, sides = a.tolist(), (b[:, None] if b.ndim == 1 else b).tolist()
    solution: list[list[Any]] = [[] for _ in rows]
    for i in range(n) if lower else reversed(range(n)):
        pivot = rows[i][i]
        if not unit_diagonal and primitives.equal(primitives.abs(pivot), 0.0):
            raise SingularError(f"Singular matrix: element {i} of the diagonal is 0{user_line()}")
        for c, rest in enumerate(sides[i]):
            for k in range(i) if lower else range(i + 1, n):
                rest = rest - rows[i][k] * solution[k][c]
            solution[i].append(rest if unit_diagonal else div(rest, pivot))
    return as_array([x for row in solution for x in row], b.shape)


def _triangle(a: Any, lower: bool = False) -> Any:
    """Cholesky's triangular factor; SciPy's is the upper one, if nothing is said."""
    return _cholesky(_plain_matrix("cholesky", a), upper=not lower)


def _cho_factor(a: Any, lower: bool = False) -> Any:
    return _triangle(a, lower), lower


def _cho_solve(c_and_lower: Any, b: Any) -> Any:
    c, lower = c_and_lower
    first = _solve_triangular(c, b, 0 if lower else 2, lower)
    return _solve_triangular(c, first, 2 if lower else 0, lower)


def _solve_as(a: Any, b: Any, lower: bool = False, *, assume_a: Any = None, transposed: bool = False) -> Any:
    """`scipy.linalg.solve`: a matrix of a kind is read as SciPy reads it, from one triangle."""
    if assume_a in (None, "gen", "general"):
        return _solve(np.asarray(_as_array(a)).T if transposed else a, b)
    a = _plain_matrix("solve", a)
    if assume_a in ("pos", "positive definite"):
        return _cho_solve(_cho_factor(a, lower), b)
    if assume_a in ("upper triangular", "lower triangular"):
        return _solve_triangular(a, b, int(transposed), assume_a == "lower triangular")
    if assume_a in ("sym", "symmetric"):
        return _solve(np.where(np.tri(len(a), dtype=bool) if lower else np.tri(len(a), dtype=bool).T, a, a.T), b)
    raise InputError(f"scipy.linalg.solve of Values: leave out assume_a={assume_a!r}{user_line()}")


def _inv(a: Any) -> Any:
    return np.linalg.inv(_as_array(_matrix("inv", a)))


def _without_options_of_memory(function: Callable[..., Any]) -> Callable[..., Any]:
    def taking(*args: Any, **options: Any) -> Any:
        return function(*args, **{key: each for key, each in options.items() if key not in _OF_MEMORY})

    return taking


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "solve": _solve_as,
    "inv": _inv,
    "det": lambda a: np.linalg.det(_as_array(a)),
    "norm": lambda a, *args, **options: np.linalg.norm(_as_array(a), *args, **options),
    "cholesky": _triangle,
    "cho_factor": _cho_factor,
    "cho_solve": _cho_solve,
    "solve_triangular": _solve_triangular,
}
#: What SciPy's functions are for `Value`s, by their names in `scipy.linalg`.
LINEAR_OF_SCIPY: Final = {name: _without_options_of_memory(function) for name, function in _FUNCTIONS.items()}
