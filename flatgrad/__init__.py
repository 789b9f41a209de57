"""flatgrad: write scalars, get machine speed, to the last bit.

A micrograd-style scalar autograd whose graph is compiled: traced once, differentiated by source transformation, and
printed as flat Python that anyone can read.

    >>> import flatgrad as fg
    >>> f = fg.value_and_grad(lambda x, y: (x * y).tanh() + x**2)
    >>> f(0.5, 2.0)
    (1.0115941559557649, 1.8399486832280523)
"""

from .compiler.machine import fingerprint as _fingerprint  # isort: skip

_fingerprint.begin()

from . import nn
from .compiler.kernel import Kernel
from .compiler.own_primitives import primitive
from .compiler.transforms.checking import DerivativeError, check_grads
from .compiler.transforms.compiled import compile as compile
from .compiler.transforms.derivatives import hessian, hvp, jacobian, jvp, vjp
from .compiler.transforms.gradients import grad, value_and_grad
from .compiler.transforms.graphs import CompiledGraph, compile_graph
from .compiler.transforms.jit import jit
from .compiler.transforms.scan import scan
from .compiler.transforms.vmap import vmap
from .runtime import complex_arrays as _complex_arrays
from .runtime import functions as _functions
from .runtime import linear_algebra as _linear_algebra
from .runtime import numpy_methods as _numpy_methods
from .runtime import tracebacks as _tracebacks
from .runtime import version as _version
from .runtime.complex_numbers import complex as complex
from .runtime.drawing import draw_dot
from .runtime.errors import (
    CapturedStateWarning,
    DivisionByZeroError,
    DomainError,
    FlatgradError,
    FlatgradWarning,
    InputError,
    IntegerError,
    KernelLimitWarning,
    MissingExtraError,
    MissingPartialError,
    OptionError,
    PerformanceWarning,
    ProgramError,
    RangeError,
    SingularError,
    TableIndexError,
    TraceError,
)
from .runtime.functions import *
from .runtime.functions import abs as abs
from .runtime.interpolation import CubicSpline, interp
from .runtime.numpy_functions import array
from .runtime.reductions import argmax, argmin, log_softmax, logsumexp, median, norm, prod, softmax, sort
from .runtime.reductions import max as max
from .runtime.reductions import min as min
from .runtime.reductions import sum as sum
from .runtime.scientific import betaln, norm_pdf
from .runtime.table import table
from .runtime.value import Condition, Value

_fingerprint.end()
_tracebacks.install()

__version__ = _version.VERSION

#: All public names, except those of builtins (`abs`, `compile`, `complex`, `max`, `min`, `sum`): `import *` hides none.
__all__ = [
    "CapturedStateWarning",
    "CompiledGraph",
    "Condition",
    "CubicSpline",
    "DerivativeError",
    "DivisionByZeroError",
    "DomainError",
    "FlatgradError",
    "FlatgradWarning",
    "InputError",
    "IntegerError",
    "Kernel",
    "KernelLimitWarning",
    "MissingExtraError",
    "MissingPartialError",
    "OptionError",
    "PerformanceWarning",
    "ProgramError",
    "RangeError",
    "SingularError",
    "TableIndexError",
    "TraceError",
    "Value",
    "argmax",
    "argmin",
    "array",
    "betaln",
    "check_grads",
    "compile_graph",
    "draw_dot",
    "grad",
    "hessian",
    "hvp",
    "interp",
    "jacobian",
    "jit",
    "jvp",
    "log_softmax",
    "logsumexp",
    "median",
    "nn",
    "norm",
    "norm_pdf",
    "primitive",
    "prod",
    "scan",
    "softmax",
    "sort",
    "table",
    "value_and_grad",
    "vjp",
    "vmap",
]
__all__ += _functions.__all__


def __dir__() -> list[str]:
    """What completion offers: the public names, and not the modules that they come from."""
    builtins = ["abs", "compile", "complex", "max", "min", "sum"]
    return sorted([*__all__, *builtins, *(name for name in globals() if name.startswith("__"))])
