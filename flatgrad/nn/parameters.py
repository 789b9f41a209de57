"""What can be trained: the `Value`s of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..runtime.errors import InputError
from ..runtime.value import Value


def as_parameters(parameters: Any) -> list[Value]:
    """The `Value`s of a module or a list; each once.

    Raises:
        InputError: if there are none, or something else is among them.
    """
    if callable(getattr(parameters, "parameters", None)):
        parameters = parameters.parameters()
    if not isinstance(parameters, Iterable) or isinstance(parameters, (str, Value)):
        raise InputError(f"parameters: expected a Module or a list of Values, got {type(parameters).__name__}")
    values = list(parameters)
    for kind in dict.fromkeys(map(type, values)):
        if not issubclass(kind, Value):
            raise InputError(f"parameters: expected Values, got {kind.__name__}")
    if not values:
        raise InputError("parameters: there is nothing to train")
    if len(set(map(id, values))) != len(values):
        raise InputError("parameters: a Value stands in the list twice")
    return values
