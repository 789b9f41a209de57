"""Optimisers, written as expressions on scalars.

`update` says how one parameter changes, in `Value` arithmetic; it is traced into the same program as the gradient, so
that a training step is one function. Numbers that depend on the step alone (the learning rate, bias corrections) are
inputs of that program, computed in Python floats by `step_numbers`. That is their one statement: their texts, for saved
loops and for many steps at once, are traced from it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..compiler.languages.loader import LoadedModule
from ..compiler.languages.training import emit_all_numbers
from ..runtime.errors import OptionError
from ..runtime.primitives import div, maximum, minimum, sqrt
from ..runtime.sources import signature_of
from .formulas import (
    SAMPLES,
    Formula,
    NotAFormulaError,
    StepFormulas,
    check_name,
    differing_step,
    function_of,
    text_of,
)
from .schedules import Schedule, as_schedule

Rate = float | Callable[[int], float]
#: The new parameter and its new state.
Update = tuple[Any, list[Any]]


class Optimizer:
    """The base of optimisers.

    A subclass names the numbers that it keeps per parameter (`state_names`, all beginning at 0) and those that depend
    on the step alone (`step_names`, the learning rate `lr` first), computes the latter in `step_numbers`, and defines
    `update`.

    Args:
        lr: the learning rate, a number or a function of the step, which is counted from 0.
        clip_value: clip every gradient to `[-clip_value, clip_value]`.
        clip_norm: scale the gradients so that their Euclidean norm is at most this, as PyTorch's `clip_grad_norm_`
            does: by `clip_norm / (norm + 1e-6)` where that is below 1.
    """

    #: What is kept per parameter.
    state_names: tuple[str, ...] = ()
    #: What depends on the step alone: the names of `step_numbers`.
    step_names: tuple[str, ...] = ("lr",)

    clip_value: float | None
    clip_norm: float | None

    def __init__(self, lr: Rate, *, clip_value: float | None = None, clip_norm: float | None = None) -> None:
        self.lr = lr
        limits: tuple[tuple[str, Any], ...] = (("clip_value", clip_value), ("clip_norm", clip_norm))
        for name, limit in limits:
            if limit is not None and (isinstance(limit, str) or not limit > 0):
                raise OptionError(f"{name} must be positive, got {limit}")
        self.clip_value, self.clip_norm = clip_value, clip_norm

    def __repr__(self) -> str:
        """The class, the learning rate, and what differs from the defaults, as far as it is kept under its name."""
        shown = [f"lr={self.lr.text or repr(self.lr)}"]
        for name, parameter in signature_of(type(self)).parameters.items():
            choice = getattr(self, name, parameter.default)
            if name != "lr" and repr(choice) != repr(parameter.default):
                shown.append(f"{name}={choice!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def lr(self) -> Schedule:
        """The learning rate as a function of the step. A number or a function of the step may be assigned to it."""
        return self._lr

    @lr.setter
    def lr(self, rate: Rate) -> None:
        self._lr = as_schedule(rate)

    def step_numbers(self, step: int) -> list[float]:
        """The numbers that depend on the step alone, in the order of `step_names`.

        This is what a subclass overrides, and what every way of training uses. If it is arithmetic on `step` and
        `self.lr(step)`, its text is traced, so that machine code gets the numbers of many steps at once, and loops can
        be saved. If it branches on the step or looks it up, it is called for each step. It must depend on the step
        alone: it may be called ahead of time, and more than once.
        """
        return self._from_texts(step) if self._texts_are_given else [self.lr(step)]

    def step_texts(self) -> dict[str, str]:
        """The numbers behind the learning rate by name, as expressions in `step` (from 0), `t` (from 1) and `lr`.

        They are traced from `step_numbers`; "" for what cannot be written as a formula. A subclass does not need to
        override this. One that does, and not `step_numbers`, states the numbers here; where it overrides both, they
        must agree.
        """
        if type(self).step_numbers is Optimizer.step_numbers:  # the learning rate, and what a subclass states as texts
            return {}
        formulas = self._traced()
        if isinstance(formulas, StepFormulas):
            return dict(list(formulas.numbers.items())[1:])
        return dict.fromkeys(self.step_names[1:], "")

    @property
    def _texts_are_given(self) -> bool:
        """Whether a class states texts, and no class derived from it names the numbers anew."""
        for cls in type(self).__mro__:
            if cls is Optimizer:
                return False
            if "step_texts" in vars(cls):
                return True
            if "step_names" in vars(cls):
                return False
        return False

    @property
    def number_names(self) -> tuple[str, ...]:
        """The names of the numbers of a step.

        Raises:
            OptionError: if one cannot be a name, or occurs twice.
        """
        names = ("lr", *self.step_texts()) if self._texts_are_given else tuple(self.step_names)
        if names[:1] != ("lr",) or len(set(names)) != len(names) or not all(map(check_name, names)):
            raise OptionError(
                f"{type(self).__name__}: step_names must be different identifiers that mean nothing in Python or "
                f"`math`, 'lr' first, got {names}"
            )
        return names

    def check_numbers(self) -> None:
        """Compare what is stated about the numbers of a step, before they are used.

        Raises:
            OptionError: if there are not as many numbers as names, or if `step_texts` and `step_numbers` are both
                overridden and differ at one of some steps.
        """
        names, kind = self.number_names, type(self).__name__
        first = self._numbers_at(0)
        if first is not None and len(first) != len(names):
            raise OptionError(
                f"{kind}: step_numbers returns {len(first)} numbers for the {len(names)} names {names}; their names "
                "stand in step_names"
            )
        if not self._texts_are_given:
            return
        for name, text in self.step_texts().items():
            try:
                function_of(text, "step, t, lr")
            except SyntaxError as error:
                raise OptionError(
                    f"{kind}: step_texts has {text!r} for {name}, no Python expression: {error}"
                ) from None
        step = differing_step(self.step_numbers, self._from_texts)
        if step is not None:
            raise OptionError(
                f"{kind}: at step {step} step_numbers returns {list(self.step_numbers(step))} and step_texts says "
                f"{self._from_texts(step)}. State the numbers once: override step_numbers, name them in step_names, "
                "and leave step_texts out"
            )

    def _from_texts(self, step: int) -> list[float]:
        """The numbers of a step as `step_texts` has them."""
        rate = self.lr(step)
        return [rate, *(function_of(text, "step, t, lr")(step, step + 1, rate) for text in self.step_texts().values())]

    def _traced(self) -> StepFormulas | str:
        """The numbers of a step as texts, traced from `step_numbers`; or, in words, why they cannot be."""
        if not self.lr.text:
            return "the learning rate is a function whose text is not known"
        names, kind = tuple(self.step_names), type(self).__name__
        for rate in ("lr", "rate"):
            symbol: Any = Formula("step", names={id(self.lr): rate})
            try:
                texts = list(map(text_of, self.step_numbers(symbol)))
            except NotAFormulaError as error:
                return f"{kind}.step_numbers is no formula: {error}"
            except Exception as error:  # it wants a number
                return f"{kind}.step_numbers is no formula of the step: {type(error).__name__}: {error}"
            if texts[0] == rate:
                break
        texts[0] = "rate" if texts[0] == "lr" else texts[0]
        return StepFormulas(self.lr.text, dict(zip(names, texts, strict=False)), self.lr.is_traced)

    def sampled(self) -> list[list[str] | None]:
        """The numbers of some steps in hexadecimal, None where they raise: how a checkpoint knows its optimiser."""
        samples = map(self._numbers_at, SAMPLES)
        return [None if numbers is None else [float(number).hex() for number in numbers] for numbers in samples]

    def _numbers_at(self, step: int) -> list[Any] | None:
        """The numbers of a step; None if the user's function raises. A run that comes to this step raises the same."""
        try:
            return list(self.step_numbers(step))
        except Exception:
            return None

    def formulas(self) -> StepFormulas | str:
        """The numbers of a step as texts; or, in words, why they are not known as texts."""
        if not self._texts_are_given or not self.lr.text:
            return self._traced()
        alone = type(self).step_numbers is Optimizer.step_numbers
        return StepFormulas(self.lr.text, {"lr": "rate", **self.step_texts()}, alone and self.lr.is_traced)

    def all_numbers(self) -> Callable[[int, int], Iterator[float]] | None:
        """A generator of the numbers of a range of steps, with the bits of `step_numbers`; None if there is none."""
        formulas = self.formulas()
        if isinstance(formulas, str) or not formulas.checked:
            return None
        return _all_numbers(tuple(formulas.imports), tuple(formulas.statements()), tuple(formulas.numbers))

    def update(self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]) -> Update:
        """The new parameter and its new state.

        Args:
            parameter, gradient: `Value`s.
            state: one `Value` per `state_names`.
            step: the numbers of the step by name, the learning rate `lr` among them, as `Value`s.
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


@functools.lru_cache(maxsize=64)
def _all_numbers(imports: tuple[str, ...], lines: tuple[str, ...], names: tuple[str, ...]) -> Callable[..., Any]:
    source = f"from math import {', '.join(imports)}\n" if imports else ""
    module = LoadedModule([source + emit_all_numbers(lines, names)], "numbers")
    function: Callable[..., Any] = module.names["all_numbers"]
    return function


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
        >>> SGD(0.1, momentum=0.9)
        SGD(lr=0.1, momentum=0.9)
    """

    momentum: float
    nesterov: bool
    weight_decay: float

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

    @property
    def state_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """A buffer, if there is a momentum."""
        return ("buffer",) if self.momentum else ()

    def update(self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]) -> Update:
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

    state_names: tuple[str, ...] = ("m", "v")
    step_names: tuple[str, ...] = ("lr", "correction1", "correction2")

    betas: tuple[float, float]
    eps: float
    weight_decay: float

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

    def step_numbers(self, step: int) -> list[float]:
        b1, b2 = self.betas
        return [self.lr(step), 1 - b1 ** (step + 1), 1 - b2 ** (step + 1)]

    def update(self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]) -> Update:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        return self._adam(parameter, gradient, state, step)

    def _adam(self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]) -> Update:
        b1, b2 = self.betas
        m = b1 * state[0] + (1 - b1) * gradient
        v = b2 * state[1] + (1 - b2) * gradient**2
        root = div(v, step["correction2"]) ** 0.5
        return parameter - div(step["lr"] * div(m, step["correction1"]), root + self.eps), [m, v]


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): first `p *= 1 - lr * weight_decay`, then Adam."""

    step_names: tuple[str, ...] = (*Adam.step_names, "decay")

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

    def step_numbers(self, step: int) -> list[float]:
        return [*super().step_numbers(step), 1 - self.lr(step) * self.weight_decay]

    def update(self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]) -> Update:
        return self._adam(parameter * step["decay"], gradient, state, step)


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012), as in PyTorch.

    `v = alpha*v + (1-alpha)*g**2`, `d = g / (v**0.5 + eps)`, and `p -= lr*d`; with momentum `b = momentum*b + d` takes
    the place of `d`.
    """

    alpha: float
    eps: float
    momentum: float
    weight_decay: float

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

    @property
    def state_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The mean of squares, and a buffer, if there is a momentum."""
        return ("v", "buffer") if self.momentum else ("v",)

    def update(self, parameter: Any, gradient: Any, state: Sequence[Any], step: dict[str, Any]) -> Update:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        v = self.alpha * state[0] + (1 - self.alpha) * gradient**2
        direction = div(gradient, v**0.5 + self.eps)
        if not self.momentum:
            return parameter - step["lr"] * direction, [v]
        buffer = self.momentum * state[1] + direction
        return parameter - step["lr"] * buffer, [v, buffer]
