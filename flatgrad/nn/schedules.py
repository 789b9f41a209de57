"""Learning rates as functions of the step, counted from 0.

A schedule is a function that also knows how it is written in Python, so that a saved training loop can contain it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..runtime.errors import OptionError


class Schedule:
    """A function of the step, with its text.

    Args:
        function: the learning rate at a step.
        text: the same as a Python expression in `step`, which may use `cos` and `pi` of `math`.
    """

    def __init__(self, function: Callable[[int], float], text: str) -> None:
        self._function, self.text = function, text

    def __call__(self, step: int) -> float:
        return self._function(step)

    def __repr__(self) -> str:
        return f"<Schedule {self.text}>"


def _positive(name: str, steps: int) -> None:
    if steps < 1:
        raise OptionError(f"{name} must be at least 1, got {steps}")


def _finite(name: str, number: float) -> float:
    if isinstance(number, (bool, str)) or not isinstance(number, (int, float, np.number)) or not math.isfinite(number):
        raise OptionError(f"{name} must be a finite number, got {number!r}")
    return float(number)


def constant(rate: float) -> Schedule:
    """The same rate at every step.

    >>> constant(0.1)(7)
    0.1
    """
    rate = _finite("constant: rate", rate)
    return Schedule(lambda step: rate, repr(rate))


def linear_decay(start: float, end: float, steps: int) -> Schedule:
    """From `start` to `end` in a straight line over `steps` steps, then `end`.

    `linear_decay(1.0, 0.1, 100)` is the schedule of micrograd's notebook, `1.0 - 0.9*k/100`.

    >>> linear_decay(1.0, 0.1, 100)(50)
    0.55
    """
    _positive("linear_decay: steps", steps)
    start, end = _finite("linear_decay: start", start), _finite("linear_decay: end", end)
    fall = start - end
    return Schedule(
        lambda step: start - fall * min(step, steps) / steps, f"{start!r} - {fall!r} * min(step, {steps}) / {steps}"
    )


def cosine_decay(start: float, end: float, steps: int) -> Schedule:
    """From `start` to `end` along half a cosine over `steps` steps (Loshchilov and Hutter, 2017), then `end`.

    >>> cosine_decay(1.0, 0.0, 100)(0), round(cosine_decay(1.0, 0.0, 100)(50), 12)
    (1.0, 0.5)
    """
    _positive("cosine_decay: steps", steps)
    start, end = _finite("cosine_decay: start", start), _finite("cosine_decay: end", end)
    half = 0.5 * (start - end)
    return Schedule(
        lambda step: end + half * (1.0 + math.cos(math.pi * min(step, steps) / steps)),
        f"{end!r} + {half!r} * (1.0 + cos(pi * min(step, {steps}) / {steps}))",
    )


def step_decay(start: float, factor: float, every: int) -> Schedule:
    """`start`, multiplied by `factor` after every `every` steps.

    >>> [step_decay(1.0, 0.5, 10)(step) for step in (0, 9, 10, 25)]
    [1.0, 1.0, 0.5, 0.25]
    """
    _positive("step_decay: every", every)
    start, factor = _finite("step_decay: start", start), _finite("step_decay: factor", factor)
    return Schedule(lambda step: start * factor ** (step // every), f"{start!r} * {factor!r} ** (step // {every})")


def warmup(schedule: float | Callable[[int], float], steps: int) -> Schedule:
    """`schedule`, multiplied by `(step + 1) / steps` during the first `steps` steps.

    >>> [warmup(1.0, 4)(step) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    _positive("warmup: steps", steps)
    inner = as_schedule(schedule)
    text = f"({inner.text}) * min(step + 1, {steps}) / {steps}" if inner.text else ""
    return Schedule(lambda step: inner(step) * min(step + 1, steps) / steps, text)


def as_schedule(rate: float | Callable[[int], float]) -> Schedule:
    """A schedule from a number, a schedule, or any function of the step (whose text is then not known: "")."""
    if isinstance(rate, Schedule):
        return rate
    if callable(rate):
        return Schedule(lambda step: float(rate(step)), "")
    return constant(_finite("lr", rate))
