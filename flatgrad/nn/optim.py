"""Optimisers, written as expressions on scalars.

`update` says how one parameter changes, in `Value` arithmetic; it is traced into the same program as the gradient, so
that a training step is one function. Numbers that depend on the step alone (the learning rate, bias corrections) are
inputs of that program, computed in Python floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..compiler.emit.training import emit_all_numbers
from ..runtime.errors import OptionError
from ..runtime.loader import LoadedModule
from ..runtime.primitives import div, maximum, minimum, sqrt
from .schedules import as_schedule

Rate = float | Callable[[int], float]


class Optimizer:
    """The base of optimisers.

    A subclass names the numbers that it keeps per parameter (`state_names`, all beginning at 0) and those that depend
    on the step alone (`step_texts`), and defines `update`.

    Args:
        lr: the learning rate, a number or a function of the step, which is counted from 0.
        clip_value: clip every gradient to `[-clip_value, clip_value]`.
        clip_norm: scale the gradients so that their Euclidean norm is at most this, as PyTorch's `clip_grad_norm_`
            does: by `clip_norm / (norm + 1e-6)` where that is below 1.
    """

    #: What is kept per parameter.
    state_names: tuple[str, ...] = ()

    def __init__(self, lr: Rate, *, clip_value: float | None = None, clip_norm: float | None = None) -> None:
        self.lr = as_schedule(lr)
        limits: tuple[tuple[str, Any], ...] = (("clip_value", clip_value), ("clip_norm", clip_norm))
        for name, limit in limits:
            if limit is not None and (isinstance(limit, str) or not limit > 0):
                raise OptionError(f"{name} must be positive, got {limit}")
        self.clip_value, self.clip_norm = clip_value, clip_norm

    def step_texts(self) -> dict[str, str]:
        """Expressions in `step` (from 0), `t` (from 1) and `lr`, for the numbers that depend on the step alone."""
        return {}

    def step_numbers(self, step: int) -> list[float]:
        """The learning rate at a step, and the numbers of `step_texts`."""
        raise NotImplementedError  # pragma: no cover - subclasses define it

    def all_numbers(self) -> Callable[[int, int], list[float]] | None:
        """A function for the numbers of a range of steps; None if the learning rate's text is not known."""
        if not self.lr.text:
            return None
        source = f"from math import cos, pi\n{emit_all_numbers(self.lr.text, self.step_texts())}"
        found: Callable[[int, int], list[float]] = LoadedModule([source], "numbers").names["all_numbers"]
        return found

    def update(
        self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]
    ) -> tuple[Any, list[Any]]:
        """The new parameter and its new state.

        Args:
            parameter, gradient: `Value`s.
            state: one `Value` per `state_names`.
            step: the learning rate `lr` and the numbers of `step_texts`, by name, as `Value`s.
        """
        raise NotImplementedError  # pragma: no cover - subclasses define it

    def clip(self, gradients: list[Any]) -> list[Any]:
        """The gradients, clipped as asked for."""
        if self.clip_value is not None:
            limit = float(self.clip_value)
            gradients = [maximum(minimum(gradient, limit), -limit) for gradient in gradients]
        if self.clip_norm is not None and gradients:
            norm = sqrt(sum((g * g for g in gradients[1:]), gradients[0] * gradients[0]))
            scale = minimum(div(float(self.clip_norm), norm + 1e-6), 1.0)
            gradients = [gradient * scale for gradient in gradients]
        return gradients


def _fraction(name: str, number: Any) -> float:
    if isinstance(number, str) or not 0.0 <= number < 1.0:
        raise OptionError(f"{name} must be in [0, 1), got {number}")
    return float(number)


def _not_negative(name: str, number: Any) -> float:
    if isinstance(number, str) or not 0.0 <= number < math.inf:
        raise OptionError(f"{name} must not be negative, got {number}")
    return float(number)


class SGD(Optimizer):
    """Gradient descent: `p -= lr * g`, with momentum, Nesterov's variant and weight decay as in PyTorch.

    With weight decay `g += weight_decay * p`; with momentum `b = momentum * b + g` takes the place of `g`, and with
    `nesterov` it is `g + momentum * b` (Sutskever et al., 2013).

    Example:
        >>> SGD(0.1, momentum=0.9).state_names
        ('buffer',)
    """

    def __init__(
        self,
        lr: Rate = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, clip_value=clip_value, clip_norm=clip_norm)
        self.momentum, self.nesterov = _fraction("momentum", momentum), nesterov
        self.weight_decay = _not_negative("weight_decay", weight_decay)
        if nesterov and not momentum:
            raise OptionError("nesterov needs a momentum, for example momentum=0.9")
        self.state_names = ("buffer",) if momentum else ()

    def step_numbers(self, step: int) -> list[float]:
        return [self.lr(step)]

    def update(
        self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]
    ) -> tuple[Any, list[Any]]:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        if not self.momentum:
            return parameter - step["lr"] * gradient, []
        buffer = self.momentum * state[0] + gradient
        direction = gradient + self.momentum * buffer if self.nesterov else buffer
        return parameter - step["lr"] * direction, [buffer]


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015).

    In floats, at step t from 1: `m = b1*m + (1-b1)*g`, `v = b2*v + (1-b2)*g**2`,
    `p -= lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + eps)`. Weight decay adds `weight_decay * p` to the
    gradient.

    Example:
        >>> Adam(0.01).step_numbers(0)
        [0.01, 0.09999999999999998, 0.0010000000000000009]
    """

    state_names = ("m", "v")

    def __init__(
        self,
        lr: Rate = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, clip_value=clip_value, clip_norm=clip_norm)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise OptionError(f"betas must be a pair of numbers, got {betas!r}")
        self.betas = _fraction("betas[0]", betas[0]), _fraction("betas[1]", betas[1])
        self.eps, self.weight_decay = _not_negative("eps", eps), _not_negative("weight_decay", weight_decay)

    def step_texts(self) -> dict[str, str]:
        b1, b2 = self.betas
        return {"correction1": f"1 - {b1!r} ** t", "correction2": f"1 - {b2!r} ** t"}

    def step_numbers(self, step: int) -> list[float]:
        b1, b2 = self.betas
        return [self.lr(step), 1 - b1 ** (step + 1), 1 - b2 ** (step + 1)]

    def update(
        self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]
    ) -> tuple[Any, list[Any]]:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        return self._adam(parameter, gradient, state, step)

    def _adam(self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]) -> tuple[Any, list[Any]]:
        b1, b2 = self.betas
        m = b1 * state[0] + (1 - b1) * gradient
        v = b2 * state[1] + (1 - b2) * gradient**2
        root = div(v, step["correction2"]) ** 0.5
        return parameter - div(step["lr"] * div(m, step["correction1"]), root + self.eps), [m, v]


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): first `p *= 1 - lr * weight_decay`, then Adam."""

    def __init__(
        self,
        lr: Rate = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(
            lr, betas=betas, eps=eps, weight_decay=weight_decay, clip_value=clip_value, clip_norm=clip_norm
        )

    def step_texts(self) -> dict[str, str]:
        return {**super().step_texts(), "decay": f"1 - lr * {self.weight_decay!r}"}

    def step_numbers(self, step: int) -> list[float]:
        return [*super().step_numbers(step), 1 - self.lr(step) * self.weight_decay]

    def update(
        self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]
    ) -> tuple[Any, list[Any]]:
        return self._adam(parameter * step["decay"], gradient, state, step)


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012), as in PyTorch.

    `v = alpha*v + (1-alpha)*g**2`, `d = g / (v**0.5 + eps)`, and `p -= lr*d`; with momentum `b = momentum*b + d` takes
    the place of `d`.
    """

    def __init__(
        self,
        lr: Rate = 0.01,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, clip_value=clip_value, clip_norm=clip_norm)
        self.alpha, self.eps = _fraction("alpha", alpha), _not_negative("eps", eps)
        self.momentum = _fraction("momentum", momentum)
        self.weight_decay = _not_negative("weight_decay", weight_decay)
        self.state_names = ("v", "buffer") if momentum else ("v",)

    def step_numbers(self, step: int) -> list[float]:
        return [self.lr(step)]

    def update(
        self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]
    ) -> tuple[Any, list[Any]]:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        v = self.alpha * state[0] + (1 - self.alpha) * gradient**2
        direction = div(gradient, v**0.5 + self.eps)
        if not self.momentum:
            return parameter - step["lr"] * direction, [v]
        buffer = self.momentum * state[1] + direction
        return parameter - step["lr"] * buffer, [v, buffer]
