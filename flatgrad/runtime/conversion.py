"""What is taken for a number."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import FlatgradError, InputError, arithmetic_error


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
