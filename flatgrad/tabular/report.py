"""How good a model is: its loss and other measures, beside those of models that take no training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

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
        folds: with cross-validation, the measures of each fold (R² of each partition), for "validation", "baseline" and
            "linear". What these attributes hold then are their means.
        in_partition: with cross-validation, how many folds a partition has.
    """

    training: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    linear: dict[str, float] = field(default_factory=dict)
    constant: str = "mean"
    folds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    in_partition: int = 0

    @classmethod
    def of_folds(
        cls, model: TabularModel, training: Part, folds: dict[str, dict[str, list[float]]], in_partition: int
    ) -> Report:
        """Measure a model on the rows that it was trained on; all else is the mean over folds."""
        means = {name: {each: math.fsum(v) / len(v) for each, v in of.items()} for name, of in folds.items()}
        constant = _constant_of(model.preprocessing.target)
        return cls(measures(model, training), **means, constant=constant, folds=folds, in_partition=in_partition)

    @classmethod
    def of(cls, model: TabularModel, training: Part, validation: Part) -> Report:
        """Measure a model, and the simple ones on the validation rows; without any, on the training rows."""
        target, part = model.preprocessing.target, validation if len(validation) else training
        return cls(
            measures(model, training),
            measures(model, validation),
            constant_measures(target, training, part, _scale(target)),
            linear_measures(target, training, part, _scale(target)),
            _constant_of(target),
        )

    def rows(self) -> list[list[str]]:
        """A table: a row per measure, a column per model."""
        parts = {"training": "training"}
        if self.validation:
            parts["rows left out" if self.folds else "validation"] = "validation"
        if self.linear:
            parts["linear model"] = "linear"
        parts[f"always the {self.constant}"] = "baseline"
        body = [[name, *(self._cell(part, name) for part in parts.values())] for name in self.training]
        return [["", *parts], *body]

    def _cell(self, part: str, name: str) -> str:
        """A figure; of folds with the standard deviation over them."""
        figure, each = _figure(getattr(self, part).get(name, math.nan)), self.folds.get(part, {}).get(name, [])
        if len(each) < 2 or figure == "-":
            return figure
        return f"{figure} ± {float(np.std(np.subtract(each, each[0]))):.2g}"  # exactly 0 where all are the same

    def verdict(self, *, advice: bool = True) -> str:
        """How the model compares with the simple ones, in a sentence; `advice`: and how to get a better one."""
        name = next(iter(self.baseline))
        own = (self.validation or self.training)[name]
        sign = 1.0 if name == "accuracy" else -1.0
        rivals = {f"always the {self.constant}": self.baseline[name]}
        if self.linear:
            rivals["a linear model"] = self.linear[name]
        best = max(rivals, key=lambda rival: sign * rivals[rival])
        rows = "rows left out" if self.folds else "validation rows" if self.validation else "training rows"
        figures = f"{name} of the {rows}: {_figure(own)}, against {_figure(rivals[best])}"
        clearly = True
        if self.folds:
            others = self.folds["linear" if best == "a linear model" else "baseline"][name]
            pairs = list(zip(self.folds["validation"][name], others, strict=True))
            figures += f"; better in {sum(sign * a > sign * b for a, b in pairs)} of {len(pairs)} folds"
            clearly = is_clear([sign * (a - b) for a, b in pairs], self.in_partition)
        if sign * own > sign * rivals[best]:
            return f"{'' if clearly else 'not clearly '}better than {best} ({figures})"
        remedy = "; --hidden none trains one" if advice and best == "a linear model" else ""
        return f"no better than {best} ({figures}){remedy}"


def is_clear(differences: Sequence[float], folds: int) -> bool:
    """Whether the mean of what folds differ by is more than twice its standard error.

    Runs that share training rows differ less than independent ones would; the variance of the mean is increased by the
    ratio of the rows left out to the others for that (Nadeau and Bengio, 2003; Bouckaert and Frank, 2004).

    Args:
        differences: of each fold of each partition, positive where the model is better.
        folds: how many a partition has.

    >>> is_clear([3.0, 2.0, 3.0], 3), is_clear([3.0, -1.0, 3.0], 3)
    (True, False)
    """
    mean, variance = math.fsum(differences) / len(differences), float(np.var(differences, ddof=1))
    return mean > 2 * math.sqrt((1 / len(differences) + 1 / (folds - 1)) * variance)


def measures(model: TabularModel, part: Part) -> dict[str, float]:
    """The mean loss of the rows, and the accuracy; or for numbers the RMSE in the target's unit, and R²."""
    if not len(part):
        return {}
    target = model.preprocessing.target
    return measures_of(target, model.measure(*part.arrays), part, _scale(target))


def measures_of(target: Target, results: Array, part: Part, scale: float) -> dict[str, float]:
    """The measures of rows, by their losses and scores.

    Args:
        target: of the model.
        results: what `TabularModel.measure` returned for the rows.
        part: the rows.
        scale: of a target of numbers, in its unit.
    """
    if isinstance(target, ClassTarget):
        loss = math.fsum(results[:, 0].tolist()) / len(part)
        return {"loss": loss, **_hits(winners(results[:, 1:]), part)}
    return _errors(results[:, 1], part, scale)


def _scale(target: Target) -> float:
    return target.scale if isinstance(target, NumberTarget) else 1.0


def _constant_of(target: Target) -> str:
    return "most frequent class" if isinstance(target, ClassTarget) else "mean"


def winners(scores: Array) -> Array:
    """The class that each row of scores speaks for, as `likeliest` says it.

    >>> winners(np.array([[0.0], [-1.0]])), winners(np.array([[1.0, 3.0, 3.0]]))
    (array([1, 0]), array([1]))
    """
    return (scores[:, 0] >= 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)


def _hits(predicted: Any, part: Part) -> dict[str, float]:
    return {"accuracy": int(np.count_nonzero(np.equal(predicted, part.arrays[1]))) / len(part)}


def _errors(predicted: Any, part: Part, scale: float) -> dict[str, float]:
    targets = part.arrays[1]

    def mean_square(numbers: Array) -> float:
        total: float = sum((numbers * numbers).tolist())
        return total / len(part)

    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is infinite
        loss = mean_square(predicted - targets)
    variance = mean_square(targets - math.fsum(part.targets) / len(part))
    return {"loss": loss, "RMSE": scale * math.sqrt(loss), "R²": 1 - loss / variance if variance else math.nan}


def _in_unit(errors: dict[str, float]) -> dict[str, float]:
    """Without the loss: the simple models are not trained."""
    return {name: errors[name] for name in MEASURES["number"]}


def constant_measures(target: Target, training: Part, part: Part, scale: float) -> dict[str, float]:
    """The measures of always predicting the most frequent class, or the mean, of the training rows."""
    if isinstance(target, NumberTarget):
        return _in_unit(_errors(0.0, part, scale))
    frequent = max(range(len(target.classes)), key=training.targets.count)
    return _hits([frequent] * len(part), part)


def linear_measures(target: Target, training: Part, part: Part, scale: float) -> dict[str, float]:
    """Least squares with an intercept; where inputs depend on each other, the solution of least norm."""
    if len(training.inputs[0]) > _MOST_INPUTS:
        return {}
    inputs, others = (np.column_stack([rows.arrays[0], np.ones(len(rows))]) for rows in (training, part))
    targets = training.arrays[1]
    if isinstance(target, ClassTarget):
        targets = np.eye(len(target.classes))[targets.astype(int)]
    predicted = others @ np.linalg.lstsq(inputs, targets, rcond=None)[0]
    if isinstance(target, ClassTarget):
        return _hits(predicted.argmax(axis=1), part)
    return _in_unit(_errors(predicted, part, scale))


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
