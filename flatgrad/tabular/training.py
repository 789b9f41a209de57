"""A training run on a table: split, preprocess, train, report, and write it all to a folder."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import nn
from ..nn.plots import new_figure
from ..runtime.errors import InputError, MissingExtraError, OptionError
from ..runtime.files import write_atomically
from ..runtime.wording import count_of
from .model import Scores, TabularModel, likeliest, parameters_of
from .preprocessing import (
    ClassTarget,
    Note,
    NumberTarget,
    Preprocessing,
    Target,
    classes_of,
    columns_for,
    kinds_of,
    number_target,
    target_numbers,
    task_of,
    with_target,
)
from .table import Table, listed, read_csv

HISTORY, PICTURE, LOOP = "history.json", "loss.png", "training_loop.py"

TASKS = ("auto", "classify", "regress")
_FEWEST_ROWS = 10
#: The default number of epochs, and the least number of steps, for which there may be more epochs.
_EPOCHS, _STEPS = 50, 500
#: The default size of a batch, and the number of operations of a step, for which a batch may have fewer rows.
_BATCH, _OPERATIONS = 16, 200_000
#: Compiling takes about 20 microseconds for each; more operations than these are a mistake.
_MOST_OPERATIONS = 4_000_000

#: By name on the command line: the default learning rate, and a function that makes the optimiser. AdamW's weight decay
#: is large (PyTorch's is 0.01) because tables are small: it prevented overfitting of iris, breast-cancer and diabetes.
OPTIMIZERS: dict[str, tuple[float, Callable[[nn.Schedule], nn.Optimizer]]] = {
    "adam": (0.01, nn.Adam),
    "adamw": (0.01, lambda rate: nn.AdamW(rate, weight_decay=0.5)),
    "sgd": (0.05, lambda rate: nn.SGD(rate, momentum=0.9)),
    "rmsprop": (0.003, nn.RMSprop),
}


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        target: the column to predict.
        task: "classify", "regress", or "auto": what the target column makes likely.
        hidden: the sizes of the hidden layers; none: a linear model.
        activation: of the hidden layers.
        epochs: how often each training row is used; by default 50, or more where that would be fewer than 500 steps.
        batch_size: rows per step; by default 16, or fewer for a model so wide that compiling would take long.
        optimizer: "adamw" (with weight decay 0.5), "adam", "sgd" (with momentum 0.9) or "rmsprop".
        lr: the learning rate at the start, from which it falls along half a cosine to a hundredth; by default 0.01 for
            Adam and AdamW, 0.05 for SGD, 0.003 for RMSprop.
        seed: of the split, the initialisation and the shuffling.
        validation: the fraction of rows that is set aside for validation; 0: none.
        ignore: columns to leave out.
        categorical: columns to take as categories though they hold numbers, or many different texts.
    """

    target: str
    task: str = "auto"
    hidden: tuple[int, ...] = (16, 16)
    activation: str = "tanh"
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str = "adamw"
    lr: float | None = None
    seed: int = 0
    validation: float = 0.2
    ignore: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise `OptionError` for a setting that makes no sense, called as on the command line."""
        for name, choices in (("task", TASKS), ("optimizer", tuple(OPTIMIZERS))):
            if getattr(self, name) not in choices:
                raise OptionError(f"--{name}: {getattr(self, name)!r} is none of {', '.join(choices)}")
        for name, number in (("epochs", self.epochs), ("batch-size", self.batch_size)):
            if number is not None and number < 1:
                raise OptionError(f"--{name} must be at least 1, got {number}")
        if any(size < 1 for size in self.hidden):
            raise OptionError(f"--hidden: sizes must be at least 1, got {','.join(map(str, self.hidden))}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise OptionError(f"--lr must be a positive number, got {self.lr:g}")
        if not 0 <= self.validation < 1:
            raise OptionError(f"--validation must be at least 0 and less than 1, got {self.validation:g}")


@dataclass
class Part:
    """The rows for training, or those for validation: inputs, and targets as the loss takes them."""

    inputs: list[list[float]]
    targets: list[float]

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass
class Report:
    """How good a model is: losses and other measures by name, for training and validation, and for a constant."""

    training: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)


def train(
    path: Path,
    settings: Settings,
    folder: Path,
    echo: Callable[[str], Any] = print,
    note: Note = lambda text: None,
    progress: bool = True,
) -> tuple[TabularModel, nn.History, Report]:
    """Train a model on a CSV file and write it to a folder, with its history, a picture and the generated source.

    Args:
        path: the file.
        settings: how to train.
        folder: is made if it does not exist; files of an earlier run are replaced.
        echo: is called with the lines of the report.
        note: is called with remarks on the data, such as columns that were left out.
        progress: whether to show a progress bar (on a terminal).

    Returns:
        The model, the history, and how good the model is. If Ctrl-C ended the run, `history.interrupted` is true, and
        the files contain the model at that moment.

    Raises:
        InputError: for a file that cannot be used.
        OptionError: for settings that cannot be used.
        OSError: if the folder cannot be written.
        NonFiniteLossError: if the training diverges.
        KeyboardInterrupt: if Ctrl-C came before the first step was complete; nothing is written.
    """
    settings.check()
    table = with_target(read_csv(path), settings.target, note)
    if len(table) < _FEWEST_ROWS:
        raise InputError(
            f"{table.name} has {len(table)} rows with a target: too few to learn from; at least {_FEWEST_ROWS} are "
            "needed"
        )
    task = task_of(table, settings.target) if settings.task == "auto" else settings.task
    preprocessing, training, validation = _prepare(table, task, settings, note)
    echo(_description(table, task, preprocessing))
    split = f"{len(training)} rows to train on"
    echo(split + (f", {len(validation)} to validate (seed {settings.seed})" if validation else ", none to validate"))

    count = parameters_of(preprocessing, settings.hidden)
    batch, epochs = _size(count, len(training), settings)
    model = TabularModel.new(preprocessing, settings.hidden, settings.activation, settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = " -> ".join(map(str, [preprocessing.inputs, *settings.hidden, preprocessing.target.scores]))
    echo(f"model: {sizes}, {settings.activation}, {count:,} parameters")
    echo(f"{settings.optimizer}, batches of {batch}, {epochs} epochs of {-(-len(training) // batch)} steps\n")

    started = time.perf_counter()
    history = _fit(model, training, validation, settings, batch, epochs, progress)
    if history.interrupted and not history.steps:  # during compilation: there is nothing to write
        raise KeyboardInterrupt
    compiling = time.perf_counter() - started - history.seconds
    ended = "interrupted after" if history.interrupted else "trained"
    echo(f"{ended} {history.steps:,} steps in {history.seconds:.1f} s, after {compiling:.1f} s of compiling\n")
    report = Report(_measures(model, training), _measures(model, validation), _baseline(model, training, validation))
    echo(_table_of(report, preprocessing.target))
    paths = _write(folder, model, history, report, settings, note)
    echo(f"\nwritten to {folder}: {', '.join(path.name for path in paths)}")
    return model, history, report


# --- the data -----------------------------------------------------------------------------------------------------


def _prepare(table: Table, task: str, settings: Settings, note: Note) -> tuple[Preprocessing, Part, Part]:
    """Split the rows, and make inputs and targets of both parts; the training part alone decides how."""
    target = settings.target
    kinds = kinds_of(table, target, settings.ignore, settings.categorical, note)
    classes: list[str] = []
    if task == "classify":
        classes, numbers = classes_of(table, target)
        groups = [[k for k, number in enumerate(numbers) if number == c] for c in range(len(classes))]
    else:
        numbers = target_numbers(table, target)  # type: ignore[assignment]
        groups = [list(range(len(table)))]
    order, aside = split(groups, settings.validation, settings.seed)
    if settings.validation and not aside:
        raise OptionError(f"--validation {settings.validation:g} of {len(table)} rows is less than one row")
    if len(order) < max(2, len(classes)):
        raise OptionError(f"--validation {settings.validation:g} leaves {len(order)} of {len(table)} rows to train on")
    training, validation = table.take(order), table.take(aside)
    columns = columns_for(training, kinds, note)
    about: Target = ClassTarget(target, tuple(classes))
    if task != "classify":
        about = number_target(target, [numbers[k] for k in order])
    preprocessing = Preprocessing(columns, about)

    def part(rows: Table, order: Sequence[int]) -> Part:
        targets: list[float] = [numbers[k] for k in order]
        if isinstance(about, NumberTarget):
            targets = [about.standardise(number) for number in targets]
        return Part(preprocessing.encode(rows, note), targets)

    return preprocessing, part(training, order), part(validation, aside)


def split(groups: Sequence[Sequence[int]], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """The rows to train on and the rows to validate on: the same fraction of each group, but never a whole group.

    >>> split([[0, 1, 2, 3], [4, 5]], 0.5, seed=0)
    ([1, 3, 5], [0, 2, 4])
    """
    source = random.Random(seed)
    training: list[int] = []
    aside: list[int] = []
    for group in groups:
        rows = list(group)
        source.shuffle(rows)
        count = min(round(fraction * len(rows)), len(rows) - 1)
        aside += rows[:count]
        training += rows[count:]
    return sorted(training), sorted(aside)


def _description(table: Table, task: str, preprocessing: Preprocessing) -> str:
    target = preprocessing.target
    if isinstance(target, ClassTarget):
        what = f"{len(target.classes)} classes ({listed(target.classes, 5)})"
    else:
        what = f"a number, {target.mean:.4g} ± {target.scale:.2g}"
    columns, inputs = len(preprocessing.columns), preprocessing.inputs
    features = count_of(columns, "column") + (f" ({inputs} inputs)" if inputs != columns else "")
    return f"{table.name}: {len(table):,} rows, {features}; target {target.name!r}: {what} -> {task}"


# --- training -----------------------------------------------------------------------------------------------------


def _size(parameters: int, rows: int, settings: Settings) -> tuple[int, int]:
    """The batch size and the number of epochs."""
    # Forward a multiplication and an addition for each weight, backward twice that.
    per_row = 6 * parameters
    batch = settings.batch_size or max(1, min(_BATCH, _OPERATIONS // per_row))
    batch = min(batch, rows)
    if batch * per_row > _MOST_OPERATIONS:
        raise OptionError(
            f"a step on {batch} rows would be a program of {batch * per_row / 1e6:.0f} million operations, which takes "
            "long to compile; give a smaller --batch-size or --hidden, or leave columns out with --ignore"
        )
    return batch, settings.epochs or max(_EPOCHS, -(-_STEPS // -(-rows // batch)))


def _fit(
    model: TabularModel, training: Part, validation: Part, settings: Settings, batch: int, epochs: int, progress: bool
) -> nn.History:
    network, target = model.network, model.preprocessing.target
    loss = _loss(target)

    def batch_loss(X: Any, y: Any) -> Any:
        return loss([network(x) for x in X], list(y))

    def validate(now: nn.Progress) -> None:
        # Row by row, with a compiled function of one row: a program for all rows would grow with the table.
        history = now.history
        if validation and (now.step + 1) % history.steps_per_epoch == 0:
            measures = _measures(model, validation)
            history.validation_loss.append(measures.pop("loss"))
            for name, value in measures.items():
                history.metrics.setdefault(f"validation {name}", []).append(value)

    rate, make = OPTIMIZERS[settings.optimizer]
    rate = settings.lr or rate
    steps = epochs * -(-len(training) // batch)
    return nn.fit(
        batch_loss,
        network,
        make(nn.cosine_decay(rate, rate / 100, steps)),
        training.inputs,
        training.targets,
        epochs=epochs,
        batch_size=batch,
        seed=settings.seed,
        callback=validate,
        progress=progress,
    )


def _loss(target: Target) -> Callable[[Any, Any], Any]:
    if isinstance(target, NumberTarget):
        return nn.mse
    return nn.binary_cross_entropy if target.scores == 1 else nn.cross_entropy


# --- the report ---------------------------------------------------------------------------------------------------


def _measures(model: TabularModel, part: Part) -> dict[str, float]:
    """The mean loss of the rows, and the accuracy; or for numbers the RMSE in the target's unit, and R²."""
    target = model.preprocessing.target
    if not len(part):
        return {}
    scores = [model.scores(row) for row in part.inputs]
    if isinstance(target, ClassTarget):
        right = sum(likeliest(row)[0] == y for row, y in zip(scores, part.targets, strict=True))
        losses = [_class_loss(row, int(y)) for row, y in zip(scores, part.targets, strict=True)]
        return {"loss": sum(losses) / len(part), "accuracy": right / len(part)}
    return _errors([row[0] for row in scores], part.targets, target.scale)


def _errors(predicted: Sequence[float], targets: Sequence[float], scale: float) -> dict[str, float]:
    loss = sum((p - y) * (p - y) for p, y in zip(predicted, targets, strict=True)) / len(targets)
    mean = sum(targets) / len(targets)
    variance = sum((y - mean) * (y - mean) for y in targets) / len(targets)
    return {"loss": loss, "RMSE": scale * math.sqrt(loss), "R²": 1 - loss / variance if variance else math.nan}


def _class_loss(scores: Scores, y: int) -> float:
    """The cross-entropy of one row, as the losses of `nn` have it."""
    if len(scores) == 1:
        against = scores[0] if y == 0 else -scores[0]
        return max(against, 0.0) + math.log1p(math.exp(-abs(against)))
    largest = max(scores)
    return math.log(sum(math.exp(score - largest) for score in scores)) - (scores[y] - largest)


def _baseline(model: TabularModel, training: Part, validation: Part) -> dict[str, float]:
    """How good a constant prediction would be: the most frequent class, or the mean, of the training part."""
    target, part = model.preprocessing.target, validation if len(validation) else training
    if isinstance(target, NumberTarget):
        return {"RMSE": _errors([0.0] * len(part), part.targets, target.scale)["RMSE"]}
    frequent = max(range(len(target.classes)), key=training.targets.count)
    return {"accuracy": part.targets.count(frequent) / len(part)}


def _table_of(report: Report, target: Target) -> str:
    parts = {"training": report.training}
    if report.validation:
        parts["validation"] = report.validation
    constant = "most frequent class" if isinstance(target, ClassTarget) else "mean"
    parts[f"always the {constant}"] = report.baseline
    lines = [f"{'':10}" + "".join(f"  {name:>10}" for name in parts)]
    for name in report.training:
        cells = [f"{_figure(values[name]) if name in values else '':>{max(10, len(p))}}" for p, values in parts.items()]
        lines.append(f"{name:10}  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _figure(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.4g}"


# --- the folder ---------------------------------------------------------------------------------------------------


def _write(
    folder: Path, model: TabularModel, history: nn.History, report: Report, settings: Settings, note: Note
) -> list[Path]:
    paths = model.save(folder)
    names = ("interrupted", "seconds", "steps_per_epoch", "loss", "epoch_loss", "validation_loss", "metrics")
    about = {
        "settings": asdict(settings),
        "report": asdict(report),
        **{name: getattr(history, name) for name in names},
    }
    text = json.dumps(_without_nan(about), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / HISTORY, text.encode() + b"\n")
    paths += [folder / HISTORY, history.save_source(folder / LOOP)]
    if history.loss:
        try:
            figure = new_figure(7.0, 4.4)
            history.plot(ax=figure.subplots())
            figure.savefig(folder / PICTURE, dpi=150)
            paths.append(folder / PICTURE)
        except MissingExtraError as error:
            note(f"{PICTURE} is not drawn: {error}")
    return paths


def _without_nan(item: Any) -> Any:
    """JSON has no NaN and no infinity: None takes their place."""
    if isinstance(item, dict):
        return {key: _without_nan(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [_without_nan(value) for value in item]
    return None if isinstance(item, float) and not math.isfinite(item) else item
