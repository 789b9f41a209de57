"""Sparse Jacobians and Hessians: SciPy matrices whose pattern is known from the program.

What a forward sweep does not reach is zero for every input. It is no entry of the matrix, and is not computed. There is
no colouring: each variable carries its derivatives with respect to the few inputs that it depends on, and the
repetition among them is found again as in any other program.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...runtime.errors import InputError, MissingExtraError
from ...runtime.tracing import recorder
from ..kernel import Kernel
from ..open_kernel import OpenKernel
from ..sparsity import Sparsity
from .c_functions import CFunction
from .ways import WayTable

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class SparseFunction:
    """A function that returns a sparse matrix, made by `fg.jacobian` or `fg.hessian` with `sparse=True`.

    The matrix is a `scipy.sparse.csr_array`. Matrices of one pattern share the arrays of their indices. The pattern of
    a kernel is its `sparsity`.
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
        self.__name__: str = getattr(function, "__name__", "f")

    def __call__(self, /, *args: Any, out: csr_array | None = None, **kwargs: Any) -> csr_array:
        """The matrix. With `out`, a matrix from an earlier call, its numbers are replaced and it is returned.

        Raises:
            InputError: if `out` has another pattern; it is not changed then.
        """
        if recorder() is not None:
            raise InputError(
                f"{self._function.name} returns a sparse matrix, which cannot be a part of a traced function; without "
                "sparse=True it can"
            )
        data, pattern = self._function(*args, **kwargs)
        if out is None:
            known = pattern.matrix(self._sparse)
            made: csr_array = object.__new__(type(known))  # as `copy.copy` does it, in a fraction of the time
            made.__dict__.update(known.__dict__)
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
                f"out of {self._function.name} must be a CSR matrix with the pattern of the result, {pattern!r}; take "
                "one that an earlier call returned, on the same way through the function's branches"
            )
        out.data[:] = data
        return out

    def __get__(self, instance: object, owner: type | None = None) -> SparseFunction:
        """As a method: a function of the object."""
        function = self._function.__get__(instance, owner)
        return self if function is self._function else SparseFunction(function)

    def sparsity(self, /, *args: Any, **kwargs: Any) -> Sparsity:
        """The pattern for these arguments, on their way through the function's branches; no entry is computed."""
        pattern: Sparsity = self._function.kernel_for(*args, **kwargs).sparsity
        return pattern

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels made so far."""
        kernels: list[Kernel] = self._function.kernels
        return kernels

    @property
    def open_kernels(self) -> list[OpenKernel]:
        """The kernels that serve all sizes of their arguments."""
        kernels: list[OpenKernel] = self._function.open_kernels
        return kernels

    def kernel_for(self, /, *args: Any, **kwargs: Any) -> Kernel:
        """The kernel for arguments of these kinds."""
        kernel: Kernel = self._function.kernel_for(*args, **kwargs)
        return kernel

    def explain(self, path: str | os.PathLike[str], /, *args: Any, **kwargs: Any) -> Path:
        """Write the page about the kernel for these arguments, as other compiled functions do."""
        page: Path = self._function.explain(path, *args, **kwargs)
        return page

    def c_function(self, /, *args: Any, signature: str | None = None, **kwargs: Any) -> CFunction:
        """The entries of the matrix as a C function, which writes them in the order in which CSR has them.

        Where they stand is the same for all calls: `sparsity(*args)` says it. The arguments are those of `fg.jit`'s
        `c_function`, and so is what it raises.

        Example:
            >>> import flatgrad as fg, numpy as np
            >>> hessian = fg.hessian(lambda x: x[0] ** 2 * x[1] + x[2] ** 2, sparse=True)
            >>> x, entries = np.array([3.0, 5.0, 1.0]), np.zeros(4)
            >>> pointer = hessian.c_function(x)
            >>> pointer.signature
            'void (double *, double *)'
        """
        made: CFunction = self._function.c_function(*args, signature=signature, **kwargs)
        return made

    def ways(self, /, *args: Any, **kwargs: Any) -> WayTable:
        """The ways that calls have gone."""
        ways: WayTable = self._function.ways(*args, **kwargs)
        return ways

    def _repr_html_(self) -> str:
        """How notebooks show it: as other compiled functions."""
        card: str = self._function._card(sparse="True")
        return card

    def __repr__(self) -> str:
        return repr(self._function).replace(">", ", sparse=True>", 1)
