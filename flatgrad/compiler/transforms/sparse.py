"""Sparse Jacobians and Hessians: SciPy matrices whose pattern is known from the program.

What a forward sweep does not reach is zero for every input. It is no entry of the matrix, and is not computed. There is
no colouring: each variable carries its derivatives with respect to the few inputs that it depends on, and the
repetition among them is found again as in any other program.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...runtime.errors import InputError, MissingExtraError
from ...runtime.tracing import recorder
from ..kernel import Kernel
from .ways import WayTable

Indices = np.ndarray[Any, np.dtype[np.int32]]


class Sparsity:
    """Where a Jacobian or Hessian has entries that are not zero for every input.

    Attributes:
        shape: of the matrix.
        rows, columns: of each entry, row by row, in ascending order.
        starts: for each row its first entry, then the number of entries: SciPy's `indptr`.

    Example:
        >>> import flatgrad as fg
        >>> pattern = fg.jacobian(lambda x: [x[0] * x[1], x[2]], sparse=True).sparsity([1.0, 2.0, 3.0])
        >>> pattern
        <Sparsity 2 x 3: 3 entries>
        >>> pattern.rows.tolist(), pattern.columns.tolist(), pattern.starts.tolist()
        ([0, 0, 1], [0, 1, 2], [0, 2, 3])
    """

    def __init__(self, shape: tuple[int, int], places: Sequence[tuple[int, int]]) -> None:
        self.shape = shape
        self.rows: Indices = np.array([row for row, _ in places], dtype=np.int32)
        self.columns: Indices = np.array([column for _, column in places], dtype=np.int32)
        self.starts: Indices = np.searchsorted(self.rows, np.arange(shape[0] + 1)).astype(np.int32)

    _matrix: Any = None

    def matrix(self, sparse: Any) -> Any:
        """A matrix of this pattern, by the module `scipy.sparse`."""
        if self._matrix is None:
            made = sparse.csr_array((np.zeros(self.nnz), self.columns, self.starts), shape=self.shape)
            made.has_canonical_format = True
            made.indices, made.indptr = self.columns, self.starts  # these very arrays
            self._matrix = made
        return self._matrix

    @property
    def nnz(self) -> int:
        """The number of entries."""
        return len(self.rows)

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"<Sparsity {rows:,} x {columns:,}: {self.nnz:,} entries>"

    def spy(self, path: str | None = None) -> Any:
        """A picture of the pattern, drawn with Matplotlib; saved to `path` if given. Returns the figure.

        Raises:
            MissingExtraError: without Matplotlib.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise MissingExtraError("a picture of a pattern needs Matplotlib: pip install 'flatgrad[plot]'") from None
        rows, columns = self.shape
        figure = Figure(figsize=(5.0, 5.0), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(self.columns, self.rows, "s", markersize=max(0.5, min(6.0, 250.0 / max(rows, columns))))
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xlabel="input", ylabel="output", aspect="equal")
        axes.set_title(f"{self.nnz:,} of {rows * columns:,} entries")
        if path is not None:
            figure.savefig(path)
        return figure


class SparseFunction:
    """A function that returns a sparse matrix, made by `fg.jacobian` or `fg.hessian` with `sparse=True`.

    The matrix is a `scipy.sparse.csr_array`. Matrices of one pattern share the arrays of their indices.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            import scipy.sparse as sparse
        except ImportError:
            raise MissingExtraError(
                "sparse=True returns matrices of SciPy, which is not installed: pip install 'flatgrad[scipy]'"
            ) from None
        self._sparse = sparse
        self._function: Any = function
        self.__wrapped__ = function
        self.__name__ = getattr(function, "__name__", "f")

    def __call__(self, /, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """The matrix. With `out`, a matrix from an earlier call, its numbers are replaced and it is returned.

        Raises:
            InputError: if `out` has another pattern; it is not changed then.
        """
        if recorder() is not None:
            raise InputError(
                f"{self.__name__} returns a sparse matrix, which cannot be a part of a traced function; without "
                "sparse=True it can"
            )
        data, pattern = self._function(*args, **kwargs)
        if out is None:
            made = copy.copy(pattern.matrix(self._sparse))
            made.data = data
            return made
        same = (
            getattr(out, "format", "") == "csr"
            and out.shape == pattern.shape
            and (out.indices is pattern.columns or np.array_equal(out.indices, pattern.columns))
            and (out.indptr is pattern.starts or np.array_equal(out.indptr, pattern.starts))
            and len(out.data) == pattern.nnz
        )
        if not same:
            raise InputError(
                f"out of {self.__name__} must be a CSR matrix with the pattern of the result, {pattern!r}; take one "
                "that an earlier call returned, on the same way through the function's branches"
            )
        out.data[:] = data
        return out

    def sparsity(self, /, *args: Any, **kwargs: Any) -> Sparsity:
        """The pattern for these arguments."""
        pattern: Sparsity = self._function(*args, **kwargs)[1]
        return pattern

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels made so far."""
        kernels: list[Kernel] = self._function.kernels
        return kernels

    def kernel_for(self, /, *args: Any, **kwargs: Any) -> Kernel:
        """The kernel for arguments of these kinds."""
        kernel: Kernel = self._function.kernel_for(*args, **kwargs)
        return kernel

    def ways(self, /, *args: Any, **kwargs: Any) -> WayTable:
        """The ways that calls have gone."""
        ways: WayTable = self._function.ways(*args, **kwargs)
        return ways

    def __repr__(self) -> str:
        return repr(self._function).replace(">", ", sparse=True>", 1)
