"""Where a Jacobian or Hessian has entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..runtime.errors import MissingExtraError
from .loops.extents import AnyTable, OpenTable, Samples, Size, bound

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Indices = np.ndarray[Any, np.dtype[np.int32]]
#: So many rows with far more entries than most may be parts of their own.
_FULL = 8


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

    def __init__(self, shape: tuple[int, int], columns: Indices, starts: Indices) -> None:
        self.shape = shape
        self.columns = columns
        self.starts = starts
        self.rows: Indices = np.repeat(np.arange(shape[0], dtype=np.int32), np.diff(starts))

    @classmethod
    def of(cls, shape: tuple[int, int], places: Sequence[tuple[int, int]]) -> Sparsity:
        """The pattern with entries at these places, row by row."""
        rows, columns = np.array(places, dtype=np.int32).reshape(-1, 2).T
        return cls(shape, columns.copy(), np.searchsorted(rows, np.arange(shape[0] + 1)).astype(np.int32))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sparsity)
            and other.shape == self.shape
            and np.array_equal(other.starts, self.starts)
            and np.array_equal(other.columns, self.columns)
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.nnz))

    def edges(self) -> list[int]:
        """The rows at which parts of the matrix begin and end: a row with far more entries than most is one alone.

        >>> Sparsity.of((4, 5), [(0, 0), (1, 1), (2, 0), (2, 1), (2, 4), (3, 3)]).edges()
        [0, 2, 3, 4]
        """
        rows, counts = self.shape[0], np.diff(self.starts)
        full = np.flatnonzero(counts >= 2 * max(1, np.median(counts))) if rows else counts
        return sorted({0, *full.tolist(), *(full + 1).tolist(), rows}) if len(full) <= _FULL else [0, rows]

    def parts(self, edges: Sequence[int], rows: bool = False) -> list[Any]:
        """The columns of the entries in each part, or how many each row of it has."""
        numbers = np.diff(self.starts) if rows else self.columns
        return np.split(numbers.astype(np.int64), edges[1:-1] if rows else self.starts[edges[1:-1]])

    _matrix: csr_array | None = None

    def matrix(self, sparse: Any) -> csr_array:
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


class OpenSparsity(NamedTuple):
    """A pattern for all sizes.

    Attributes:
        shape: of the matrix.
        columns: of the entries, part by part.
        counts: how many entries each row has, part by part.
    """

    shape: tuple[Size, Size]
    columns: tuple[AnyTable, ...]
    counts: tuple[AnyTable, ...]

    def at(self, sizes: Sequence[int]) -> Sparsity:
        """The pattern for some extents."""
        rows, columns = (bound(size, sizes) for size in self.shape)
        starts = np.cumsum([0, *_joined(self.counts, sizes)], dtype=np.int32)
        return Sparsity((rows, columns), _joined(self.columns, sizes).astype(np.int32), starts)

    @classmethod
    def through(cls, patterns: Sequence[Sparsity], samples: Samples) -> OpenSparsity | None:
        """The pattern that is these at the samples; None if there is none that is simple.

        >>> samples = Samples([(5,), (6,), (7,)])
        >>> rows = [[(i, j) for i in range(n) for j in (i - 1, i) if j >= 0] for n in (5, 6, 7)]
        >>> bidiagonal = [Sparsity.of((each[-1][0] + 1,) * 2, each) for each in rows]
        >>> OpenSparsity.through(bidiagonal, samples).at([1_000])
        <Sparsity 1,000 x 1,000: 1,999 entries>
        """
        shape = [samples.size(*each) for each in zip(*(pattern.shape for pattern in patterns), strict=True)]
        edges = [pattern.edges() for pattern in patterns]
        if None in shape or len({len(each) for each in edges}) > 1:
            return None
        columns, counts = list[AnyTable](), list[AnyTable]()
        for parts, rows in (columns, False), (counts, True):
            tables = [pattern.parts(each, rows) for pattern, each in zip(patterns, edges, strict=True)]
            for each in zip(*tables, strict=True):
                table = OpenTable.of_lengths(each, samples) if any(map(len, each)) else _NOTHING
                if table is None:
                    return None
                parts.append(table)
        return cls((shape[0], shape[1]), tuple(columns), tuple(counts))  # type: ignore[arg-type]


#: The table of no entries.
_NOTHING = OpenTable((0,), (), ((-1, -1),), np.zeros((1, 0), dtype=np.int64))


def _joined(tables: Sequence[AnyTable], sizes: Sequence[int]) -> Indices:
    return np.concatenate([table.at(sizes) for table in tables])
