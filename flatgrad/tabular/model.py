"""A trained model for tables: its scores, its predictions and its folder."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..compiler.transforms.jit import jit
from ..compiler.transforms.vmap import vmap
from ..nn import MLP, binary_cross_entropy, cross_entropy, mse
from ..runtime.errors import FlatgradError, InputError
from ..runtime.files import write_atomically
from .preprocessing import Array, NumberTarget, Preprocessing, Target
from .table import Table

MODEL = "model.safetensors"
PREPROCESSING = "preprocessing.json"
_FORMAT = 1
#: From so many rows on, compiling a function of all rows takes less time than it saves.
_MANY_ROWS = 5_000
#: At most so many rows are measured at once.
_BLOCK = 32

Scores = list[float]


@dataclass(frozen=True)
class Predictions:
    """What a model predicts for the rows of a table.

    Attributes:
        target: the name of the target.
        values: per row the name of the class, or the number in the target's unit.
        probabilities: for classes, the probability that the model gives to the predicted one.
    """

    target: str
    values: list[str] | list[float]
    probabilities: list[float] | None = None

    def write(self, stream: TextIO) -> None:
        """Write a CSV file: a column with the target's name, and for classes a column `probability`.

        Numbers are written so that they read back as the same floats, probabilities with six decimals.
        """
        writer = csv.writer(stream, lineterminator="\n")
        if self.probabilities is None:
            writer.writerow([self.target])
            writer.writerows([value] for value in self.values)
            return
        # The target may be called "probability", too; the names of columns must differ.
        writer.writerow([self.target, "probability" if self.target != "probability" else "probability of it"])
        rows = zip(self.values, self.probabilities, strict=True)
        writer.writerows([value, f"{probability:.6f}"] for value, probability in rows)


@dataclass
class TabularModel:
    """A multi-layer perceptron with the preprocessing of its inputs.

    Attributes:
        preprocessing: how rows become inputs, and what the scores mean.
        hidden: the sizes of the hidden layers.
        activation: of the hidden layers.
        network: the model: from inputs to scores, which are logits, or the standardised target.
    """

    preprocessing: Preprocessing
    hidden: tuple[int, ...]
    activation: str
    network: MLP
    _scores: Callable[[list[float]], Any] | None = field(default=None, init=False, repr=False)
    _scores_of_rows: Callable[[Any], Any] | None = field(default=None, init=False, repr=False)
    _measured: Callable[..., Any] | None = field(default=None, init=False, repr=False)
    _block: int = field(default=0, init=False, repr=False)

    @classmethod
    def new(cls, preprocessing: Preprocessing, hidden: Sequence[int], activation: str, seed: int) -> TabularModel:
        """An untrained model.

        Raises:
            OptionError: for an unknown activation.
        """
        # He's initialisation is for activations with a kink at 0, Xavier's for the others.
        init = "he" if "relu" in activation else "xavier"
        sizes = [*hidden, preprocessing.target.scores]
        network = MLP(preprocessing.inputs, sizes, activation=activation, init=init, seed=seed)
        return cls(preprocessing, tuple(hidden), activation, network)

    def scores(self, inputs: list[float]) -> Scores:
        """The network's outputs for one row, as floats: the bits that calling `network` gives.

        The network is compiled at the first call; its current parameters are read at each.
        """
        if self._scores is None:
            self._scores = jit(self.network)
        scores = self._scores(inputs)
        return scores if isinstance(scores, list) else [scores]

    def scores_of(self, rows: Sequence[list[float]]) -> list[Scores]:
        """The network's outputs for rows, with the bits of `scores`; many rows are computed at once."""
        if len(rows) < _MANY_ROWS:
            return [self.scores(row) for row in rows]
        if self._scores_of_rows is None:
            self._scores_of_rows = vmap(self.network)
        scores: list[Scores] = np.reshape(self._scores_of_rows(np.array(rows)), (len(rows), -1)).tolist()
        return scores

    @property
    def parameters(self) -> list[float]:
        """The network's current parameters."""
        return [parameter.data for parameter in self.network.parameters()]

    def measure(self, inputs: Any, targets: Any, parameters: Any = None) -> Array:
        """How good the network's outputs are, row by row, computed at once.

        Args:
            inputs: an array with a row of numbers for each example.
            targets: an array with a number for each.
            parameters: those to measure with; by default the network's own.

        Returns:
            For each row the loss, and the scores, with the bits of `network` and of the loss. What is too large for a
            float is infinite or NaN.
        """
        if self._measured is None:
            self._measured = vmap(self._loss_and_scores, in_axes=(None, 0, 0), faults="ieee", dynamic=None)
        numbers = self.parameters if parameters is None else parameters
        numbers, rows = np.asarray(numbers, dtype=float), len(targets)
        # Blocks of one size, the last one filled up: each other size would be compared with what the network says.
        size = self._block = self._block or min(rows, _BLOCK)
        if rows == size:
            return self._measured(numbers, inputs, targets)  # type: ignore[no-any-return]
        inputs = np.resize(inputs, (-(-rows // size), size, inputs.shape[1]))
        targets = np.resize(targets, inputs.shape[:2])
        blocks = [self._measured(numbers, *block) for block in zip(inputs, targets, strict=True)]
        return np.concatenate(blocks)[:rows]

    def _loss_and_scores(self, parameters: Any, x: Any, y: Any) -> list[Any]:
        """Of one row. Parameters are an argument, so that one kernel serves many models."""
        start = 0
        for layer in self.network.layers:
            out = []
            for neuron in layer.neurons:
                other, end = copy.copy(neuron), start + len(neuron.w)
                other.w, other.b = list(parameters[start:end]), parameters[end]
                out.append(other(x))
                start = end + 1
            x = out
        scores: list[Any] = x
        return [loss_of(self.preprocessing.target)([scores if len(scores) > 1 else scores[0]], [y]), *scores]

    def predict(self, table: Table, note: Callable[[str], Any] = lambda text: None) -> Predictions:
        """Predict the target of each row of a table.

        Args:
            table: with the columns that the training table had; the target may be missing.
            note: is called with remarks: on missing values, and on categories that the training rows do not have.

        Raises:
            InputError: for a missing column, or a text where there should be a number.
        """
        scores = self.scores_of(self.preprocessing.encode(table, note))
        target = self.preprocessing.target
        if isinstance(target, NumberTarget):
            return Predictions(target.name, [target.mean + target.scale * score for (score,) in scores])
        winners = list(map(likeliest, scores))
        return Predictions(
            target.name, [target.classes[index] for index, _ in winners], [probability for _, probability in winners]
        )

    # --- the folder -----------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the parameters and the preprocessing into a folder that exists; return the files.

        Raises:
            OSError: where that is not possible.
        """
        model, preprocessing = Path(folder) / MODEL, Path(folder) / PREPROCESSING
        self.network.save(model)
        about = {
            "format": _FORMAT,
            "hidden": list(self.hidden),
            "activation": self.activation,
            # The two files belong together; the digest shows if an interrupted run has replaced only one.
            "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
            **self.preprocessing.as_dict(),
        }
        write_atomically(preprocessing, (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())
        return [model, preprocessing]

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TabularModel:
        """Read a model from its folder. Nothing in it is executed.

        Raises:
            InputError: if it is not such a folder, or its files are damaged or do not belong together.
        """
        name = os.fspath(folder)
        path, model = Path(folder) / PREPROCESSING, Path(folder) / MODEL
        if not path.is_file() or not model.is_file():
            what = "does not exist" if not Path(folder).exists() else "is no folder with a trained model"
            absent = "" if not Path(folder).is_dir() else f": it has no {(model if path.is_file() else path).name}"
            raise InputError(f"{name} {what}{absent}; `flatgrad train` makes such a folder")
        try:
            text, content = path.read_text(encoding="utf-8"), model.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {error.filename or name}: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise InputError(f"{path} is damaged: it is not UTF-8") from None
        try:
            about = json.loads(text)
            if about["format"] != _FORMAT:
                raise InputError(f"{path} has format {about['format']}; this version of flatgrad reads {_FORMAT}")
            digest = about["model_sha256"]
            preprocessing = Preprocessing.from_dict(about)
            hidden, activation = tuple(map(int, about["hidden"])), about["activation"]
            # Without building a model: a file of this size cannot hold more parameters.
            fits = 8 * parameters_of(preprocessing.inputs, hidden, preprocessing.target.scores) < len(content)
            result = cls.new(preprocessing, hidden, activation, seed=0) if fits else None
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, FlatgradError) as error:
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{path} is damaged: {what}") from None
        if result is None or hashlib.sha256(content).hexdigest() != digest:
            raise InputError(f"{model} is damaged, or of another training run than {path.name}")
        result.network.load(model)
        return result


def parameters_of(inputs: int, hidden: Sequence[int], scores: int) -> int:
    """How many parameters a model has, without building it."""
    sizes = [inputs, *hidden, scores]
    return sum((nin + 1) * nout for nin, nout in pairwise(sizes))


def loss_of(target: Target) -> Callable[[Any, Any], Any]:
    """The loss that a model of this target is trained with."""
    if isinstance(target, NumberTarget):
        return mse
    return binary_cross_entropy if target.scores == 1 else cross_entropy


def likeliest(scores: Scores) -> tuple[int, float]:
    """The class with the largest score, the first of equals, and its probability.

    One score is the logit of the second of two classes, which it speaks for from 0 on; of several, the probabilities
    are their softmax.

    >>> likeliest([0.0])
    (1, 0.5)
    >>> likeliest([1000.0, 0.0, 0.0])
    (0, 1.0)
    """
    if len(scores) == 1:
        (logit,) = scores
        return int(logit >= 0), 1.0 / (1.0 + math.exp(-abs(logit)))
    largest = max(scores)
    return scores.index(largest), 1.0 / sum(math.exp(score - largest) for score in scores)
