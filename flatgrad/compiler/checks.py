"""Arguments and results of generated functions: numbers and lists of numbers, one per group."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..runtime.errors import InputError
from ..runtime.primitives import number
from ..runtime.wording import count_of
from .program.program import Group, grouped


def is_plain(argument: Any) -> bool:
    """Whether an argument is a float, or an array of numbers."""
    return type(argument) is float or (isinstance(argument, np.ndarray) and argument.dtype.kind in "fiub")


def as_list(result: Any) -> Any:
    """A result of a function on arrays as a list; anything else as it is."""
    return result.tolist() if isinstance(result, np.ndarray) else result


def group_results(numbers: Sequence[float], groups: Sequence[Group]) -> Any:
    """A flat list of outputs as a function on arrays returns them."""
    results = [part[0] if group.scalar else np.array(part, dtype=float) for group, part in grouped(groups, numbers)]
    return results[0] if len(results) == 1 else tuple(results)


def numbers_of(inputs: Sequence[Any]) -> array[float]:
    """All numbers of the inputs of a kernel, as machine numbers, which take little memory.

    >>> numbers_of([1.0, [2.0, 3.0]])
    array('d', [1.0, 2.0, 3.0])
    """
    parts = [np.ravel(np.asarray(part, dtype=float)) for part in inputs]
    return array("d", np.concatenate(parts).tobytes() if parts else b"")


def checked_inputs(arguments: Sequence[Any], groups: Sequence[Group]) -> list[float]:
    """The numbers in arguments that should be one per group.

    Raises:
        InputError: saying what was expected and what was given.
    """
    if len(arguments) != len(groups):
        names = ", ".join(group.name for group in groups)
        raise InputError(f"expected {count_of(len(groups), 'argument')} ({names}), got {len(arguments)}")
    inputs: list[float] = []
    for argument, group in zip(arguments, groups, strict=True):
        if group.scalar:
            inputs.append(_as_float(argument, group.name))
            continue
        numbers = count_of(group.size, "number")
        if isinstance(argument, np.ndarray) and argument.ndim != 1:
            raise InputError(f"argument {group.name}: expected {numbers}, got an array of shape {argument.shape}")
        argument = as_list(argument)
        if not isinstance(argument, (list, tuple)):
            raise InputError(f"argument {group.name}: expected a list of {numbers}, got {type(argument).__name__}")
        if len(argument) != group.size:
            raise InputError(f"argument {group.name}: expected {numbers}, got {len(argument)}")
        inputs += [_as_float(item, f"{group.name}[{k}]") for k, item in enumerate(argument)]
    return inputs


def _as_float(item: Any, name: str) -> float:
    try:
        return float(number(item))
    except InputError as error:
        raise InputError(f"argument {name}: {error}") from None
