"""How the errors of operations are worded: operation, numbers, reason, the user's line, and what to write instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import FlatgradError, IntegerError, TableIndexError, arithmetic_error
from .sites import Location, describe

_BRANCH = "a branch of where that is not taken; where computes and differentiates both."
_SELECT_FIRST = (
    "Write it as a branch, x * fg.log(x) if x > 0 else 0.0: there the other side is not computed. Or select the "
    "operand, too: in that branch write fg.where(c, x, 1.0) in place of x, with the condition c under which it is "
    "taken, and 1.0 or another number at which nothing raises"
)


def not_taken(location: Location | None) -> str:
    """What an error says of an operation whose result only a branch of `where` uses that is not taken."""
    at = f" ({location})" if location is not None else ""
    return f". It is computed for {_BRANCH.replace(';', f'{at};')} {_SELECT_FIRST}"


def count_of(number: float, thing: str) -> str:
    """A number of things in words.

    >>> count_of(1, "row"), count_of(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {thing}{'s' if number != 1 else ''}"


def table_error(error: Exception, operands: Sequence[Any], line: str) -> FlatgradError:
    """The error for an index that a table does not have."""
    index, rows = [int(x) if abs(x) < 1e16 and x == int(x) else float(x) for x in operands]
    if not isinstance(error, IndexError):
        return IntegerError(f"the index of a table must be an integer, got {float(index)!r}{line}")
    return TableIndexError(f"table index {index} is out of range: the table has {count_of(rows, 'row')}{line}")


class OperationErrors:
    """The errors of one row of the table; its attributes are explained there."""

    name: str
    arity: int
    requires: str
    remedy: str
    worded: Callable[[Exception, Sequence[Any], str], FlatgradError] | None

    def error(
        self, error: Exception, operands: Sequence[Any], location: Location | None, hint: str = ""
    ) -> FlatgradError:
        """Our exception for `error`, raised by `evaluate(*operands)`: operation, numbers, reason, the user's line."""
        if self.worded is not None:
            return self.worded(error, operands, describe(location) or hint)
        reason = f"{self.name} needs {self.requires}" if self.requires and type(error) is ValueError else str(error)
        applied = self.applied_to(operands)
        if self.name == "power" and isinstance(error, ZeroDivisionError) and operands[1] == -1.0:
            applied, reason = f"{applied}, which is 1 / {float(operands[0])!r}", "float division by zero"
        if isinstance(error, OverflowError):
            reason += '. A function compiled with faults="ieee" gets inf there, as in NumPy'
        if isinstance(error, ZeroDivisionError) and self.name in ("power", "div"):
            reason += '. A function compiled with faults="ieee" gets inf or NaN there, as in NumPy'
        return arithmetic_error(error, f"{applied}: {reason}{hint}{describe(location)}")

    def partial_error(
        self,
        error: Exception,
        k: int,
        operands: Sequence[Any],
        location: Location | None,
        gradient: float | None = None,
    ) -> FlatgradError:
        """Our exception for `error`, raised by the rule of operand `k` when the output's gradient was `gradient`."""
        which = f" with respect to operand {k}" if self.arity > 1 else ""
        applied = self.applied_to(operands)
        reason = str(error).partition("\n")[0]
        if gradient == 0.0:
            reason += f". No gradient arrives there (it is 0.0): perhaps it is for {_BRANCH} {_SELECT_FIRST}"
        elif self.remedy and isinstance(error, ZeroDivisionError):
            reason += f". Remedy: {self.remedy}"
        return arithmetic_error(error, f"the partial of {applied}{which}: {reason}{describe(location)}")

    def applied_to(self, operands: Sequence[Any]) -> str:
        """`name(operand, ...)` with the numbers spelled out."""
        plain = [operand if isinstance(operand, (bool, np.bool_)) else float(operand) for operand in operands]
        return f"{self.name}({', '.join(map(repr, plain))})"
