"""Learning rates as functions of the step, counted from 0.

A schedule is a function that also knows how it is written in Python, so that a saved training loop can contain it. The
text is traced from the function (`formulas`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..runtime.errors import OptionError
from .formulas import Formula, NotAFormulaError, cosine, differing_step, function_of, least, text_of


class Schedule:
    """A function of the step, and its text.

    Args:
        function: the learning rate at a step. What it returns must depend on the step alone.
        text: the same as a Python expression in `step`, which may use the functions of `math`; by default it is traced
            from the function, which then must be arithmetic on the step. "" says that the text is not known.

    Raises:
        OptionError: if the text and the function differ at one of some steps, or the text is no expression.

    Example:
        >>> Schedule(lambda step: 0.1 / (1 + step))
        <Schedule 0.1 / (1 + step)>
    """

    def __init__(self, function: Callable[[int], float], text: str | None = None) -> None:
        self._function, self._user_text, self._traced_text = function, text, None if text is None else ""
        if text:
            try:
                written = function_of(text, "step")
            except SyntaxError as error:
                raise OptionError(f"Schedule: {text!r} is no Python expression: {error}") from None
            step = differing_step(lambda step: [function(step)], lambda step: [written(step)])
            if step is not None:
                raise OptionError(
                    f"Schedule: at step {step} the function returns {function(step)!r} and the text {text!r} "
                    f"{written(step)!r}. Leave the text out: it is made from the function"
                )

    @property
    def text(self) -> str:
        """The learning rate as an expression in `step`; "" if it is not known."""
        if self._user_text is not None:
            return self._user_text
        if self._traced_text is None:
            try:
                symbol: Any = Formula("step")
                self._traced_text = text_of(self(symbol))
            except Exception:  # it wants a number: it is called for each step
                self._traced_text = ""
        return self._traced_text

    @property
    def is_traced(self) -> bool:
        """Whether the text comes from the function, so that it has its bits at every step."""
        return self._user_text is None and bool(self.text)

    def __call__(self, step: int) -> float:
        symbol: Any = step
        if isinstance(symbol, Formula):
            name = symbol.name_of(self)
            if name:
                named: Any = Formula(name)
                return named  # type: ignore[no-any-return]
            if self._user_text is not None:
                raise NotAFormulaError("the text of the learning rate is not traced from its function")
        return self._function(step)

    def __repr__(self) -> str:
        return f"<Schedule {self.text or 'by a function whose text is not known'}>"


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
    return Schedule(lambda step: rate)


def linear_decay(start: float, end: float, steps: int) -> Schedule:
    """From `start` to `end` in a straight line over `steps` steps, then `end`.

    `linear_decay(1.0, 0.1, 100)` is the schedule of micrograd's notebook, `1.0 - 0.9*k/100`.

    >>> linear_decay(1.0, 0.1, 100)(50)
    0.55
    """
    _positive("linear_decay: steps", steps)
    start, end = _finite("linear_decay: start", start), _finite("linear_decay: end", end)
    fall = start - end
    return Schedule(lambda step: start - fall * least(step, steps) / steps)


def cosine_decay(start: float, end: float, steps: int) -> Schedule:
    """From `start` to `end` along half a cosine over `steps` steps (Loshchilov and Hutter, 2017), then `end`.

    >>> cosine_decay(1.0, 0.0, 100)(0), round(cosine_decay(1.0, 0.0, 100)(50), 12)
    (1.0, 0.5)
    """
    _positive("cosine_decay: steps", steps)
    start, end = _finite("cosine_decay: start", start), _finite("cosine_decay: end", end)
    half = 0.5 * (start - end)
    return Schedule(lambda step: end + half * (1.0 + cosine(math.pi * least(step, steps) / steps)))


def step_decay(start: float, factor: float, every: int) -> Schedule:
    """`start`, multiplied by `factor` after every `every` steps.

    >>> [step_decay(1.0, 0.5, 10)(step) for step in (0, 9, 10, 25)]
    [1.0, 1.0, 0.5, 0.25]
    """
    _positive("step_decay: every", every)
    start, factor = _finite("step_decay: start", start), _finite("step_decay: factor", factor)
    return Schedule(lambda step: start * factor ** (step // every))


def warmup(schedule: float | Callable[[int], float], steps: int) -> Schedule:
    """`schedule`, multiplied by `(step + 1) / steps` during the first `steps` steps.

    >>> [warmup(1.0, 4)(step) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    _positive("warmup: steps", steps)
    inner = as_schedule(schedule)
    text = None if inner.is_traced else f"({inner.text}) * min(step + 1, {steps}) / {steps}" if inner.text else ""
    return Schedule(lambda step: inner(step) * least(step + 1, steps) / steps, text)


def as_schedule(rate: float | Callable[[int], float]) -> Schedule:
    """A schedule from a number, a schedule, or any function of the step (whose text is then not known: "")."""
    if isinstance(rate, Schedule):
        return rate
    if callable(rate):
        return Schedule(lambda step: float(rate(step)), "")
    return constant(_finite("lr", rate))
