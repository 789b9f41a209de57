"""The exceptions of flatgrad.

Every exception inherits from `FlatgradError` *and* from the built-in class that plain Python would raise in the same
place, so that code written for floats (`except ZeroDivisionError`) keeps working. `docs/errors.md` has an entry for
each, with cause, example and remedy.
"""

from __future__ import annotations

import numpy as np


class FlatgradError(Exception):
    """The base of every exception that flatgrad raises on purpose."""


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


class CapturedStateWarning(UserWarning):
    """A compiled function reads something from outside that it changes itself, or that changes again and again."""


class KernelLimitWarning(UserWarning):
    """A compiled function is called with more kinds of arguments than it has kernels for."""


class PerformanceWarning(UserWarning):
    """Something works, but takes many times longer than it would in machine code."""


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
