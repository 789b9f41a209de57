"""The data of a training run: rows of numbers, and how they are cut into batches."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runtime.conversion import check_masks
from ..runtime.errors import InputError, OptionError

Array = np.ndarray[Any, np.dtype[Any]]


class Rows:
    """Rows of numbers, taken out of arrays or lists once."""

    def __init__(self, X: Any, y: Any, what: str) -> None:
        self.X: Array = _array(X, f"{what}X")
        self.y: Array = _array(y, f"{what}y")
        if len(self.X) != len(self.y):
            raise InputError(f"{what}X has {len(self.X)} rows and {what}y has {len(self.y)}; they must be equally many")
        if not self.X.size or not self.y.size:
            raise InputError(f"{what}{'y' if self.X.size else 'X'} is empty: there is nothing to train on")

    def __len__(self) -> int:
        return len(self.X)

    def rows(self) -> tuple[list[list[float]], list[list[float]]]:
        """X and y as lists of flat rows."""
        count = len(self)
        return self.X.reshape(count, -1).tolist(), self.y.reshape(count, -1).tolist()

    def take(self, order: Sequence[int]) -> Rows:
        """Some of the rows."""
        return Rows(self.X[list(order)], self.y[list(order)], "")

    def digest(self) -> str:
        """A fingerprint of the data, by which a checkpoint knows its run."""
        return hashlib.sha256(self.X.tobytes() + self.y.tobytes() + repr(self.X.shape).encode()).hexdigest()


def _array(items: Any, name: str) -> Array:
    try:
        if np.iscomplexobj(items):
            raise TypeError("they are complex")
        check_masks(items)
        array = np.asarray(items, dtype=float)
    except InputError as error:
        raise InputError(f"{name} must hold numbers: {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: expected rows of numbers of equal length: {error}") from None
    if array.ndim == 0:
        raise InputError(f"{name}: expected a list or an array, got one number")
    return np.ascontiguousarray(array)


def split(data: Rows, fraction: float, pair: tuple[Any, Any] | None, seed: int) -> tuple[Rows, Rows | None]:
    """The rows to train on, and those to validate on: a fraction of the data, or the pair that is given, or none.

    Raises:
        InputError, OptionError: for a fraction or a pair that cannot be used.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)):
        raise OptionError(f"validation_split must be a fraction, got {fraction!r}")
    if pair is not None:
        if fraction:
            raise OptionError("give either validation_split or validation_data, not both")
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise OptionError("validation_data must be a pair, (X, y)")
        return data, Rows(pair[0], pair[1], "validation ")
    if not fraction:
        return data, None
    count = round(fraction * len(data))
    if not 0.0 < fraction < 1.0 or not 0 < count < len(data):
        raise OptionError(f"validation_split={fraction} leaves no rows on one side of {len(data)}")
    order = list(range(len(data)))
    random.Random(f"validation {seed}").shuffle(order)
    return data.take(sorted(order[count:])), data.take(sorted(order[:count]))


@dataclass
class Plan:
    """How many rows, how they are cut into batches, and how many steps are made."""

    rows: int
    batch: int
    steps: int
    batched: bool
    shuffled: bool

    @classmethod
    def of(cls, rows: int, steps: int | None, epochs: int | None, batch_size: int | None, shuffle: bool) -> Plan:
        if (steps is None) == (epochs is None):
            raise OptionError("fit: give either steps or epochs")
        if batch_size is not None and batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, got {batch_size}")
        batch = min(batch_size or rows, rows)
        count = steps if steps is not None else (epochs or 0) * -(-rows // batch)
        if count < 0:
            raise OptionError("steps and epochs must not be negative")
        return cls(rows, batch, count, batch_size is not None, batch_size is not None and shuffle)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows // self.batch)

    @property
    def sizes(self) -> list[int]:
        """The sizes of batches that occur."""
        return [self.batch] + ([self.rows % self.batch] if self.rows % self.batch else [])
