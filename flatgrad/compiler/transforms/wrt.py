"""What `wrt` names: the parameters of a model, or `Value`s."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias

from ...runtime.errors import InputError
from ...runtime.value import Value


class HasParameters(Protocol):
    """A model: it says which `Value`s are to be trained."""

    def parameters(self) -> Iterable[Value]:
        """The `Value`s."""
        ...


#: What derivatives are taken with respect to, in place of arguments.
Parameters: TypeAlias = "HasParameters | Value | Iterable[Value]"


def named_by(wrt: Any) -> list[Value]:
    """The `Value`s themselves.

    Raises:
        InputError: if it names something else.

    Example:
        >>> w = Value(2.0)
        >>> named_by(w), named_by([w])
        ([Value(data=2.0, grad=0.0)], [Value(data=2.0, grad=0.0)])
    """
    parameters = wrt.parameters() if callable(getattr(wrt, "parameters", None)) else wrt
    if isinstance(parameters, Value):
        parameters = [parameters]
    if not isinstance(parameters, Iterable):
        raise InputError(f"wrt: expected a Module or a list of Values, got {type(wrt).__name__}")
    values = list(parameters)
    for value in values:
        if not isinstance(value, Value):
            raise InputError(f"wrt: expected Values, got {type(value).__name__}")
    return values
