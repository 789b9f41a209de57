"""NumPy's functions on arrays of Values: one use of each, and the table of docs/numpy.md that is made of them.

`python -m tests.numpy_table` writes the table. The uses take a vector x of 4 numbers and a symmetric, positive definite
matrix A of shape (4, 4), and return a number or an array.
"""

# ruff: noqa: PLW0108 - the uses are called with two arguments
from __future__ import annotations

from pathlib import Path

import numpy as np

PAGE = Path(__file__).parent.parent / "docs" / "numpy.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"

V = np.array([2.0, -1.0, 0.5, 3.0])
MASK = np.array([True, False, True, True])


def _filled(x, function, *args):
    """`function` writes into a copy."""
    copy = np.copy(x)
    function(copy, *args)
    return copy


def _with(x, *numbers):
    """A copy that begins with other numbers."""
    copy = np.copy(x)
    copy[: len(numbers)] = numbers
    return copy


#: By section: the names, each with its use. A name alone is used as `np.name(x)`.
SECTIONS = {
    "Element by element": {
        "add": lambda x, A: np.add(x, V),
        "subtract": lambda x, A: np.subtract(V, x),
        "multiply": lambda x, A: np.multiply(x, A[1]),
        "divide": lambda x, A: np.divide(V, x),
        "true_divide": lambda x, A: np.true_divide(x, V),
        "floor_divide": lambda x, A: np.floor_divide(V, x) * x,
        "remainder": lambda x, A: np.remainder(V, x),
        "mod": lambda x, A: np.mod(x, 0.45),
        "fmod": lambda x, A: np.fmod(V, x),
        "divmod": lambda x, A: np.divmod(V, x)[1],
        "power": lambda x, A: np.power(x, 1.5),
        "float_power": lambda x, A: np.float_power(x, V),
        "square": None,
        "reciprocal": None,
        "negative": None,
        "positive": None,
        "absolute": lambda x, A: np.absolute(x - 1.0),
        "abs": lambda x, A: np.abs(x - 1.0),
        "fabs": lambda x, A: np.fabs(x - 1.0),
        "sign": lambda x, A: np.sign(x - 1.0) * x,
        "copysign": lambda x, A: np.copysign(x, V),
        "exp": None,
        "exp2": None,
        "expm1": None,
        "log": None,
        "log2": None,
        "log10": None,
        "log1p": None,
        "logaddexp": lambda x, A: np.logaddexp(x, V),
        "logaddexp2": lambda x, A: np.logaddexp2(x, V),
        "sqrt": None,
        "cbrt": None,
        "hypot": lambda x, A: np.hypot(x, V),
        "sin": None,
        "cos": None,
        "tan": None,
        "arcsin": lambda x, A: np.arcsin(0.4 * x),
        "arccos": lambda x, A: np.arccos(0.4 * x),
        "arctan": None,
        "arctan2": lambda x, A: np.arctan2(x, V),
        "sinh": None,
        "cosh": None,
        "tanh": None,
        "arcsinh": None,
        "arccosh": lambda x, A: np.arccosh(x + 1.0),
        "arctanh": lambda x, A: np.arctanh(0.4 * x),
        "degrees": None,
        "radians": None,
        "deg2rad": None,
        "rad2deg": None,
        "sinc": None,
        "heaviside": lambda x, A: np.heaviside(x - 1.0, 0.5) * x,
        "floor": lambda x, A: np.floor(x) * x,
        "ceil": lambda x, A: np.ceil(x) * x,
        "trunc": lambda x, A: np.trunc(x) * x,
        "rint": lambda x, A: np.rint(x) * x,
        "fix": lambda x, A: np.fix(x) * x,
        "round": lambda x, A: np.round(x * 0.77, 1) * x,
        "around": lambda x, A: np.around(x * 10.0, -1) * x,
        "maximum": lambda x, A: np.maximum(x, V),
        "minimum": lambda x, A: np.minimum(x, V),
        "fmax": lambda x, A: np.fmax(x, [np.nan, 1.0, 3.0, 0.0]),
        "fmin": lambda x, A: np.fmin(x, V),
        "clip": lambda x, A: np.clip(x, 0.5, 1.5),
        "conjugate": None,
        "i0": None,
        "modf": lambda x, A: np.modf(x)[0] * np.modf(x)[1],
        "ldexp": lambda x, A: np.ldexp(x, [1, -2, 0, 3]),
        "unwrap": lambda x, A: np.unwrap(9.0 * x),
        "nan_to_num": lambda x, A: np.nan_to_num(_with(x, np.nan, np.inf), posinf=3.0),
        "real": None,
    },
    "Conditions and selections": {
        "less": lambda x, A: np.less(x, 1.0),
        "less_equal": lambda x, A: np.less_equal(x, 1.25),
        "greater": lambda x, A: np.greater(x, V),
        "greater_equal": lambda x, A: np.greater_equal(x, 1.15),
        "equal": lambda x, A: np.equal(x, 1.2),
        "not_equal": lambda x, A: np.not_equal(x, 1.2),
        "logical_and": lambda x, A: np.logical_and(x > 0.5, x < 1.5),
        "logical_or": lambda x, A: np.logical_or(x > 1.5, x - 1.2),
        "logical_not": lambda x, A: np.logical_not(x > 1.0),
        "logical_xor": lambda x, A: np.logical_xor(x > 1.0, x > 1.5),
        "bitwise_and": lambda x, A: (x > 0.5) & (x < 1.5),
        "bitwise_or": lambda x, A: (x < 0.5) | (x > 1.5),
        "bitwise_xor": lambda x, A: (x > 0.5) ^ (x > 1.5),
        "invert": lambda x, A: ~(x > 1.0),
        "isnan": None,
        "isinf": None,
        "isfinite": None,
        "signbit": lambda x, A: np.signbit(x - 1.0),
        "isposinf": None,
        "isneginf": None,
        "isclose": lambda x, A: np.isclose(x, [0.3, 1.2 + 1e-9, 2.1, np.inf]),
        "allclose": lambda x, A: np.allclose(x, x + 1e-12),
        "array_equal": lambda x, A: np.array_equal(x, np.copy(x)),
        "all": lambda x, A: np.all(x > 0.5),
        "any": lambda x, A: np.any(A > 2.9, axis=1),
        "count_nonzero": lambda x, A: np.count_nonzero(x > 0.5),
        "where": lambda x, A: np.where(x > 1.0, x * x, V),
        "select": lambda x, A: np.select([x < 0.5, x < 1.5], [x, x * x], 7.0),
        "choose": lambda x, A: np.choose([1, 0, 1, 0], [x, x * x]),
        "piecewise": lambda x, A: np.piecewise(x, [x < 1.0, x >= 1.0], [lambda v: v * v, 3.0]),
        "nonzero": lambda x, A: x[np.nonzero(x > 1.0)],
        "flatnonzero": lambda x, A: x[np.flatnonzero(x > 1.0)],
        "argwhere": lambda x, A: np.argwhere(x > 1.0),
        "extract": lambda x, A: np.extract(x > 1.0, x),
        "compress": lambda x, A: np.compress(x > 1.0, A, axis=0),
    },
    "Reductions": {
        "sum": lambda x, A: np.sum(A, axis=0),
        "prod": None,
        "max": lambda x, A: np.max(A, axis=1),
        "amax": None,
        "min": lambda x, A: np.min(A, axis=1),
        "amin": None,
        "mean": lambda x, A: np.mean(A, axis=1),
        "var": lambda x, A: np.var(A, axis=0),
        "std": lambda x, A: np.std(x, ddof=1),
        "ptp": None,
        "average": lambda x, A: np.average(A, axis=1, weights=x),
        "median": lambda x, A: np.median(A + V, axis=1),
        "percentile": lambda x, A: np.percentile(x, [10, 60]),
        "quantile": lambda x, A: np.quantile(A + V, 0.3, axis=0),
        "nansum": lambda x, A: np.nansum(_with(x, np.nan)),
        "nanprod": lambda x, A: np.nanprod(_with(x, np.nan)),
        "nanmean": lambda x, A: np.nanmean(_with(x, np.nan)),
        "nanvar": lambda x, A: np.nanvar(_with(x, np.nan)),
        "nanstd": lambda x, A: np.nanstd(_with(x, np.nan)),
        "nanmedian": lambda x, A: np.nanmedian(_with(x, np.nan)),
        "nanpercentile": lambda x, A: np.nanpercentile(_with(x, np.nan), [10, 60]),
        "nanquantile": lambda x, A: np.nanquantile(A + V, 0.3, axis=0),
        "nanmax": lambda x, A: np.nanmax(_with(x, np.nan)),
        "nanmin": lambda x, A: np.nanmin(_with(x, np.nan)),
        "cumsum": None,
        "cumprod": None,
        "nancumsum": lambda x, A: np.nancumsum(_with(x, np.nan)),
        "nancumprod": lambda x, A: np.nancumprod(_with(x, np.nan)),
        "cumulative_sum": None,
        "cumulative_prod": None,
        "trace": lambda x, A: np.trace(A),
        "bincount": lambda x, A: np.bincount([0, 2, 0, 1], weights=x),
        "cov": lambda x, A: np.cov(A * V),
        "corrcoef": lambda x, A: np.corrcoef(A * V),
    },
    "Order": {
        "sort": lambda x, A: np.sort(A, axis=0),
        "argsort": lambda x, A: x[np.argsort(-x)],
        "argmax": lambda x, A: x[np.argmax(x)] ** 2,
        "argmin": lambda x, A: x[np.argmin(x)] ** 2,
        "nanargmax": lambda x, A: x[np.nanargmax(_with(x, np.nan))] ** 2,
        "nanargmin": lambda x, A: x[np.nanargmin(_with(x, np.nan))] ** 2,
        "partition": lambda x, A: np.partition(x, 1)[1],
        "argpartition": lambda x, A: x[np.argpartition(x, 1)[1]],
        "searchsorted": lambda x, A: np.searchsorted([0.5, 1.0, 1.5], x[1]) * x,
        "digitize": lambda x, A: np.digitize(x, [0.5, 1.0, 1.5]) * x,
    },
    "Products": {
        "matmul": lambda x, A: np.matmul(A, x),
        "dot": lambda x, A: np.dot(A, x),
        "vdot": lambda x, A: np.vdot(x, V),
        "inner": lambda x, A: np.inner(A, x),
        "outer": lambda x, A: np.outer(x, x),
        "kron": lambda x, A: np.kron(x, x),
        "tensordot": lambda x, A: np.tensordot(A, A),
        "einsum": lambda x, A: np.einsum("ij,j->i", A, x),
        "cross": lambda x, A: np.cross(x[:3], V[:3]),
        "vecdot": lambda x, A: np.vecdot(A, x),
        "matvec": lambda x, A: np.matvec(A, x),
        "vecmat": lambda x, A: np.vecmat(x, A),
        "convolve": lambda x, A: np.convolve(x, V),
        "correlate": lambda x, A: np.correlate(x, V, "full"),
        "interp": lambda x, A: np.interp(x, [0.5, 1.0, 1.5], V[:3]),
        "polyval": lambda x, A: np.polyval(x, 0.5),
        "polyadd": lambda x, A: np.polyadd(x, V[:2]),
        "polysub": lambda x, A: np.polysub(x, V[:2]),
        "polymul": lambda x, A: np.polymul(x, V[:2]),
        "polyder": None,
        "polyint": None,
        "polyfit": lambda x, A: np.polyfit(V, x, 2),
        "poly": None,
        "vander": lambda x, A: np.vander(x, 3),
        "linalg.norm": lambda x, A: np.linalg.norm(A, axis=1),
        "linalg.vector_norm": lambda x, A: np.linalg.vector_norm(x, ord=3),
        "linalg.matrix_norm": lambda x, A: np.linalg.matrix_norm(A, ord=1),
        "linalg.solve": lambda x, A: np.linalg.solve(A, x),
        "linalg.inv": lambda x, A: np.linalg.inv(A),
        "linalg.det": lambda x, A: np.linalg.det(A),
        "linalg.slogdet": lambda x, A: np.linalg.slogdet(A)[1],
        "linalg.qr": lambda x, A: np.linalg.qr(A[:, :3])[1],
        "linalg.lstsq": lambda x, A: np.linalg.lstsq(A[:, :3], x, rcond=None)[0],
        "linalg.pinv": lambda x, A: np.linalg.pinv(A[:, :3]),
        "linalg.cond": lambda x, A: np.linalg.cond(A, 1),
        "linalg.cholesky": lambda x, A: np.linalg.cholesky(A),
        "linalg.matrix_power": lambda x, A: np.linalg.matrix_power(A, 3),
        "linalg.multi_dot": lambda x, A: np.linalg.multi_dot([x, A, x]),
        "linalg.trace": lambda x, A: np.linalg.trace(A),
        "linalg.outer": lambda x, A: np.linalg.outer(x, V),
        "linalg.vecdot": lambda x, A: np.linalg.vecdot(x, V),
        "linalg.cross": lambda x, A: np.linalg.cross(x[:3], V[:3]),
        "linalg.matmul": lambda x, A: np.linalg.matmul(A, A),
        "linalg.tensordot": lambda x, A: np.linalg.tensordot(A, A),
        "linalg.diagonal": lambda x, A: np.linalg.diagonal(A),
        "linalg.matrix_transpose": lambda x, A: np.linalg.matrix_transpose(A),
    },
    "Differences": {
        "diff": lambda x, A: np.diff(x, n=2),
        "ediff1d": None,
        "gradient": lambda x, A: np.gradient(A, axis=0, edge_order=2),
        "trapezoid": lambda x, A: np.trapezoid(V, x),
    },
    "Shapes": {
        "reshape": lambda x, A: np.reshape(A, (2, 8)),
        "ravel": lambda x, A: np.ravel(A),
        "transpose": lambda x, A: np.transpose(A),
        "permute_dims": lambda x, A: np.permute_dims(A),
        "matrix_transpose": lambda x, A: np.matrix_transpose(A),
        "swapaxes": lambda x, A: np.swapaxes(A, 0, 1),
        "moveaxis": lambda x, A: np.moveaxis(A, 0, 1),
        "rollaxis": lambda x, A: np.rollaxis(A, 1),
        "expand_dims": lambda x, A: np.expand_dims(x, 0),
        "squeeze": lambda x, A: np.squeeze(x[None]),
        "atleast_1d": None,
        "atleast_2d": None,
        "atleast_3d": None,
        "broadcast_to": lambda x, A: np.broadcast_to(x, (2, 4)),
        "broadcast_arrays": lambda x, A: np.broadcast_arrays(x, A)[0],
        "concatenate": lambda x, A: np.concatenate([x, V]),
        "concat": lambda x, A: np.concat([[1.0], x]),
        "stack": lambda x, A: np.stack([x, V]),
        "hstack": lambda x, A: np.hstack([x, V]),
        "vstack": lambda x, A: np.vstack([A, V]),
        "dstack": lambda x, A: np.dstack([x, V]),
        "column_stack": lambda x, A: np.column_stack([x, A]),
        "block": lambda x, A: np.block([[A, A], [A, A]]),
        "append": lambda x, A: np.append(x, 1.0),
        "insert": lambda x, A: np.insert(x, 1, 5.0),
        "delete": lambda x, A: np.delete(x, 1),
        "split": lambda x, A: np.split(x, 2)[1],
        "array_split": lambda x, A: np.array_split(x, 3)[0],
        "hsplit": lambda x, A: np.hsplit(A, 2)[0],
        "vsplit": lambda x, A: np.vsplit(A, 2)[0],
        "dsplit": lambda x, A: np.dsplit(A[None], 2)[0],
        "unstack": lambda x, A: np.unstack(A)[1],
        "tile": lambda x, A: np.tile(x, 2),
        "repeat": lambda x, A: np.repeat(x, 2),
        "flip": None,
        "fliplr": lambda x, A: np.fliplr(A),
        "flipud": lambda x, A: np.flipud(A),
        "roll": lambda x, A: np.roll(x, 1),
        "rot90": lambda x, A: np.rot90(A),
        "pad": lambda x, A: np.exp(np.pad(x, 1)),
        "resize": lambda x, A: np.resize(x, 6),
        "take": lambda x, A: np.take(x, [0, 0, 2]),
        "take_along_axis": lambda x, A: np.take_along_axis(x, np.array([1, 0]), 0),
        "diag": lambda x, A: np.exp(np.diag(x)),
        "diagflat": lambda x, A: np.exp(np.diagflat(x)),
        "diagonal": lambda x, A: np.diagonal(A),
        "tril": lambda x, A: np.tril(A),
        "triu": lambda x, A: np.exp(np.triu(A)),
        "meshgrid": lambda x, A: np.meshgrid(x, V)[0],
        "apply_along_axis": lambda x, A: np.apply_along_axis(np.cumsum, 0, A),
        "trim_zeros": lambda x, A: np.trim_zeros(np.pad(x, 1)),
        "fft.fftshift": lambda x, A: np.fft.fftshift(x),
        "fft.ifftshift": lambda x, A: np.fft.ifftshift(x),
        "lib.stride_tricks.sliding_window_view": lambda x, A: np.lib.stride_tricks.sliding_window_view(x, 2),
        "shape": lambda x, A: np.shape(A)[0] * x,
        "size": lambda x, A: np.size(A) * x,
        "ndim": lambda x, A: np.ndim(A) * x,
    },
    "Making and writing": {
        "copy": None,
        "zeros_like": lambda x, A: np.zeros_like(x, shape=3) + x[0],
        "ones_like": lambda x, A: np.ones_like(A) * x,
        "full_like": lambda x, A: np.full_like(x, x[1]),
        "empty_like": lambda x, A: _filled(np.empty_like(x), np.copyto, x),
        "linspace": lambda x, A: np.linspace(x[0], x[1], 5),
        "astype": lambda x, A: np.astype(x, float),
        "put": lambda x, A: _filled(x, np.put, [0, 2], [5.0, x[1]]),
        "copyto": lambda x, A: _filled(x, np.copyto, x * x),
        "place": lambda x, A: _filled(x, np.place, x > 1.0, [3.0]),
        "putmask": lambda x, A: _filled(x, np.putmask, x > 1.0, x * x),
        "put_along_axis": lambda x, A: _filled(x, np.put_along_axis, np.array([1]), x[:1], 0),
        "fill_diagonal": lambda x, A: _filled(A, np.fill_diagonal, x),
    },
}

X = np.array([0.3, 1.2, 1.9, 0.7])
A = np.array([[4.0, 1.0, 0.5, 0.2], [1.0, 3.0, 0.3, 0.7], [0.5, 0.3, 2.5, 0.1], [0.2, 0.7, 0.1, 5.0]])


def found(name):
    """The function of this name; None if this version of NumPy does not have it."""
    function = np
    for part in name.split("."):
        function = getattr(function, part, None)
    return function


def uses():
    """All names that this version of NumPy has, each with its use."""
    for section in SECTIONS.values():
        for name, use in section.items():
            if found(name) is not None:
                yield name, use if use is not None else lambda x, A, name=name: found(name)(x)


def table():
    """The table of the page."""
    rows = ["| | |", "| --- | --- |"]
    for section, names in SECTIONS.items():
        rows.append(f"| {section} | {', '.join(f'`{name}`' for name in names)} |")
    return "\n".join(rows) + "\n"


def rewritten(text):
    """The page with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
