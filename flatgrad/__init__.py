"""flatgrad: write scalars, get machine speed, to the last bit.

A micrograd-style scalar autograd whose graph is compiled: traced once, differentiated by source transformation, and
printed as flat Python that anyone can read.

    >>> import flatgrad as fg
    >>> f = fg.value_and_grad(lambda x, y: (x * y).tanh() + x**2)
    >>> f(0.5, 2.0)
    (1.0115941559557649, 1.8399486832280523)
"""

from .runtime import fingerprint as _fingerprint  # isort: skip

_fingerprint.begin()

from . import nn
from .compiler.kernel import Kernel
from .compiler.transforms import CompiledGraph, compile, compile_graph, grad, value_and_grad
from .runtime import version as _version
from .runtime.drawing import draw_dot
from .runtime.errors import (
    CapturedStateWarning,
    DivisionByZeroError,
    DomainError,
    FlatgradError,
    InputError,
    MissingExtraError,
    MissingPartialError,
    OptionError,
    ProgramError,
    RangeError,
    TraceError,
)
from .runtime.primitives import *  # noqa: F403 - every row of the table is a public function
from .runtime.reductions import norm
from .runtime.value import Condition, Value

_fingerprint.end()

__version__ = _version.VERSION

#: All public names, except those of builtins: `from flatgrad import *` hides nothing.
_HIDDEN = ("abs", "compile", "compiler", "runtime")
__all__ = [name for name in globals() if not name.startswith("_") and name not in _HIDDEN]
