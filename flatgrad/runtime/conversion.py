"""What is taken for a number."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import FlatgradError, InputError, arithmetic_error


def items_of(array: np.ndarray[Any, Any]) -> list[Any]:
    """The elements of an array, or of one of NumPy's special classes of arrays, row by row.

    Raises:
        InputError: if elements are masked.
    """
    check_masks(array)
    return np.asarray(array).ravel().tolist()


def check_masks(item: Any) -> None:
    """Raise `InputError` for an array with masked elements."""
    if type(item) is not np.ndarray and isinstance(item, np.ma.MaskedArray) and np.ma.is_masked(item):
        raise InputError(f"elements of the array are masked; {_UNMASK}")


def plain_remedy(array: np.ndarray[Any, Any]) -> str:
    """What to write in place of an array of one of NumPy's special classes, where only plain ones are taken."""
    return _UNMASK if isinstance(array, np.ma.MaskedArray) else "pass np.asarray(array)"


#: What to do about masked elements.
_UNMASK = "take the others with array.compressed(), or fill them with array.filled(0.0)"


def number(operand: Any) -> float | bool:
    """`operand` as a Python float, or as a truth value if it is one.

    Raises:
        InputError: if it is not a number.
    """
    kind = type(operand)
    if kind is float or kind is bool:
        return operand  # type: ignore[no-any-return]
    if isinstance(operand, np.bool_):
        return bool(operand)
    if isinstance(operand, (str, bytes, complex, np.complexfloating)) or not (
        hasattr(kind, "__float__") or hasattr(kind, "__index__")
    ):
        raise InputError(f"expected a number, got {kind.__name__} {operand!r:.60}")
    try:
        return float(operand)
    except FlatgradError:
        raise  # of a Value, which says what to do instead
    except (TypeError, ValueError) as error:
        raise InputError(f"expected a number, got {kind.__name__} {operand!r:.60}: {error}") from None
    except OverflowError as error:
        raise arithmetic_error(error, f"{kind.__name__} {str(operand)[:20]}... does not fit a float") from None
