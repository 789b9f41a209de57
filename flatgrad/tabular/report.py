"""How good a model is: its loss and other measures, beside those of models that take no training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .model import TabularModel
from .preprocessing import Array, ClassTarget, NumberTarget, Target

#: What is measured beside the loss, by the kind of target; the first says which of two models is better.
MEASURES: dict[str, tuple[str, ...]] = {"class": ("accuracy",), "number": ("RMSE", "R²")}
#: A linear model of more inputs than this is not fitted for comparison.
_MOST_INPUTS = 2_000


@dataclass
class Part:
    """The rows for training, or those for validation: inputs, and targets as the loss takes them."""

    inputs: list[list[float]]
    targets: list[float]

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def arrays(self) -> tuple[Array, Array]:
        """The inputs, with a row for each example, and the targets."""
        return np.array(self.inputs, dtype=float), np.array(self.targets, dtype=float)


@dataclass
class Report:
    """Measures by name, of the training rows and the validation rows; and of two simple models.

    Attributes:
        training, validation: of the model; the latter is empty without validation rows.
        baseline: of a constant prediction: the most frequent class, or the mean, of the training rows.
        linear: of a linear model, the least squares of the training rows (of classes: of one score per class); empty
            where it would have too many inputs.
        constant: what the baseline predicts, in words.
    """

    training: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    linear: dict[str, float] = field(default_factory=dict)
    constant: str = "mean"

    @classmethod
    def of(cls, model: TabularModel, training: Part, validation: Part) -> Report:
        """Measure a model, and the simple ones on the validation rows; without any, on the training rows."""
        target, part = model.preprocessing.target, validation if len(validation) else training
        return cls(
            measures(model, training),
            measures(model, validation),
            _constant(target, training, part),
            _linear(target, training, part),
            "most frequent class" if isinstance(target, ClassTarget) else "mean",
        )

    def rows(self) -> list[list[str]]:
        """A table: a row per measure, a column per model."""
        parts = {"training": self.training}
        if self.validation:
            parts["validation"] = self.validation
        if self.linear:
            parts["linear model"] = self.linear
        parts[f"always the {self.constant}"] = self.baseline
        body = [[name, *(_figure(part.get(name, math.nan)) for part in parts.values())] for name in self.training]
        return [["", *parts], *body]

    def verdict(self, *, advice: bool = True) -> str:
        """How the model compares with the simple ones, in a sentence; `advice`: and how to get a better one."""
        name = next(iter(self.baseline))
        own = (self.validation or self.training)[name]
        sign = 1.0 if name == "accuracy" else -1.0
        rivals = {f"always the {self.constant}": self.baseline[name]}
        if self.linear:
            rivals["a linear model"] = self.linear[name]
        best = max(rivals, key=lambda rival: sign * rivals[rival])
        rows = "validation" if self.validation else "training"
        figures = f"{name} of the {rows} rows: {_figure(own)}, against {_figure(rivals[best])}"
        if sign * own > sign * rivals[best]:
            return f"better than {best} ({figures})"
        remedy = "; --hidden none trains one" if advice and best == "a linear model" else ""
        return f"no better than {best} ({figures}){remedy}"


def measures(model: TabularModel, part: Part) -> dict[str, float]:
    """The mean loss of the rows, and the accuracy; or for numbers the RMSE in the target's unit, and R²."""
    if not len(part):
        return {}
    target, results = model.preprocessing.target, model.measure(*part.arrays)
    if isinstance(target, ClassTarget):
        loss = math.fsum(results[:, 0].tolist()) / len(part)
        return {"loss": loss, **_hits(winners(results[:, 1:]).tolist(), part)}
    return _errors(results[:, 1].tolist(), part.targets, target.scale)


def winners(scores: Array) -> Array:
    """The class that each row of scores speaks for, as `likeliest` says it.

    >>> winners(np.array([[0.0], [-1.0]])), winners(np.array([[1.0, 3.0, 3.0]]))
    (array([1, 0]), array([1]))
    """
    return (scores[:, 0] >= 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)


def _hits(predicted: Sequence[int], part: Part) -> dict[str, float]:
    return {"accuracy": sum(k == y for k, y in zip(predicted, part.targets, strict=True)) / len(part)}


def _errors(predicted: Sequence[float], targets: Sequence[float], scale: float) -> dict[str, float]:
    loss = sum((p - y) * (p - y) for p, y in zip(predicted, targets, strict=True)) / len(targets)
    mean = sum(targets) / len(targets)
    variance = sum((y - mean) * (y - mean) for y in targets) / len(targets)
    return {"loss": loss, "RMSE": scale * math.sqrt(loss), "R²": 1 - loss / variance if variance else math.nan}


def _in_unit(errors: dict[str, float]) -> dict[str, float]:
    """Without the loss: the simple models are not trained."""
    return {name: errors[name] for name in MEASURES["number"]}


def _constant(target: Target, training: Part, part: Part) -> dict[str, float]:
    if isinstance(target, NumberTarget):
        return _in_unit(_errors([0.0] * len(part), part.targets, target.scale))
    frequent = max(range(len(target.classes)), key=training.targets.count)
    return _hits([frequent] * len(part), part)


def _linear(target: Target, training: Part, part: Part) -> dict[str, float]:
    """Least squares with an intercept; where inputs depend on each other, the solution of least norm."""
    if len(training.inputs[0]) > _MOST_INPUTS:
        return {}
    inputs, others = (np.column_stack([np.array(rows.inputs), np.ones(len(rows))]) for rows in (training, part))
    targets = np.array(training.targets)
    if isinstance(target, ClassTarget):
        targets = np.eye(len(target.classes))[targets.astype(int)]
    predicted = others @ np.linalg.lstsq(inputs, targets, rcond=None)[0]
    if isinstance(target, ClassTarget):
        return _hits(predicted.argmax(axis=1).tolist(), part)
    return _in_unit(_errors(predicted.tolist(), part.targets, target.scale))


def plain_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts in columns, the first at the left, the others at the right.

    >>> print(plain_table([["", "rows"], ["training", "80"]]))
              rows
    training    80
    """
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = (
        f"{name:{first}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, others, strict=True))
        for name, *cells in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _figure(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.4g}"
