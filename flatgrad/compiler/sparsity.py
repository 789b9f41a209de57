"""Where a Jacobian or Hessian has entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..runtime.errors import MissingExtraError

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
