"""The exceptions of flatgrad.

Every exception inherits from `FlatgradError` *and* from the built-in class that plain Python would raise in the same
place, so that code written for floats (`except ZeroDivisionError`) keeps working. The page `docs/errors.md` has an
entry for each, with cause, example and remedy, which `flatgrad errors NAME` prints. Each names its entry: an exception
in a note (PEP 678), which Python, IPython, pytest and `logging` print below the message, once, however often it is
raised again; a warning in the last line of its text.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np


class _Explained:
    """An exception or warning with an entry in `docs/errors.md`. Classes of users have that of their public base."""

    _entry: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        is_ours = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
        if is_ours and not cls.__name__.startswith("_") and "_entry" not in vars(cls):
            cls._entry = cls.__name__

    @classmethod
    def _see(cls) -> str:
        return f"See {cls._entry} in docs/errors.md, or run: flatgrad errors {cls._entry}"


class FlatgradError(_Explained, Exception):
    """The base of every exception that flatgrad raises on purpose.

    Example:
        >>> DomainError("log(-1.0): log needs x > 0").__notes__
        ['See DomainError in docs/errors.md, or run: flatgrad errors DomainError']
    """

    def __init__(self, *args: Any, **names: Any) -> None:
        super().__init__(*args, **names)
        self.add_note(self._see())


class DomainError(FlatgradError, ValueError):
    """An operation got numbers outside its domain, such as `log(0.0)`."""


class DivisionByZeroError(FlatgradError, ZeroDivisionError):
    """A division by zero, or zero to a negative power."""


class SingularError(DivisionByZeroError, np.linalg.LinAlgError):
    """A matrix that is singular, where its inverse is needed: the `LinAlgError` of NumPy."""


class RangeError(FlatgradError, OverflowError):
    """A result too large for a float, where CPython raises instead of returning inf (`exp`, powers)."""


class InputError(FlatgradError, TypeError):
    """An argument of the wrong type or structure."""


class TableIndexError(FlatgradError, IndexError):
    """An index for which a table (`fg.table`) has no row."""


class IntegerError(DomainError, InputError):
    """A number that is no integer, where an integer is needed: a `TypeError` and a `ValueError`."""


class OptionError(FlatgradError, ValueError):
    """An option (back end, mode, size, ...) with a value that does not exist."""


class TraceError(FlatgradError, TypeError):
    """The traced function did something that would freeze one example's number into the compiled program."""


class MissingPartialError(FlatgradError, NotImplementedError):
    """A gradient was asked for through an operand for which the primitive declares no partial."""


class ProgramError(FlatgradError, ValueError):
    """A program that breaks its own rules, or generated code that does not do what its program says: a bug of ours."""


class MissingExtraError(FlatgradError, ImportError):
    """An optional dependency is not installed."""


class FlatgradWarning(_Explained, UserWarning):
    """The base of every warning of flatgrad's."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n  {self._see()}"


class CapturedStateWarning(FlatgradWarning):
    """A compiled function reads something from outside that it changes itself, or that changes again and again."""


class KernelLimitWarning(FlatgradWarning):
    """A compiled function is called with more kinds of arguments than it has kernels for."""


class PerformanceWarning(FlatgradWarning, RuntimeWarning):
    """Something works, but takes much more time than it could: of calls, or of preparation."""


#: What float arithmetic in CPython may raise; `arithmetic_error` turns them into ours.
ARITHMETIC_ERRORS = (ValueError, ZeroDivisionError, OverflowError, IndexError)

#: What they are turned into.
ARITHMETIC_FAULTS = (DomainError, DivisionByZeroError, RangeError, TableIndexError)
#: What generated array code raises where something may be outside of its domain, or out of range. It is the bare class,
#: which neither Python nor NumPy raises, so that a saved module needs no class of this package.
FAULT = ArithmeticError


def arithmetic_error(error: Exception, message: str) -> FlatgradError:
    """Our exception of the class that matches `error`, one of `ARITHMETIC_ERRORS`."""
    if isinstance(error, ZeroDivisionError):
        return DivisionByZeroError(message)
    if isinstance(error, OverflowError):
        return RangeError(message)
    return DomainError(message)
