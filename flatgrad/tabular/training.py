"""A training run on a table: split, preprocess, train, report, and write it all to a folder."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import nn
from ..nn.layers import activations
from ..nn.plots import new_figure
from ..runtime.errors import InputError, MissingExtraError, OptionError, RangeError
from ..runtime.files import make_folder, write_atomically
from ..runtime.wording import count_of
from .model import MODEL, PREPROCESSING, TabularModel, loss_of, parameters_of
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
from .report import MEASURES, Part, Report, measures, plain_table
from .table import Table, listed, read_csv

#: After so many epochs without a better validation loss the training stops.
PATIENCE = 20
HISTORY, CHART, PICTURE, LOOP = "history.json", "loss.svg", "loss.png", "training_loop.py"

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
        patience: how many epochs without a better validation loss end the training; 0: none do. The best epoch is kept
            in any case.
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
    patience: int = PATIENCE
    ignore: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise `OptionError` for a setting that makes no sense, called as on the command line."""
        options = (("task", TASKS), ("optimizer", tuple(OPTIMIZERS)), ("activation", activations()))
        for name, choices in options:
            if getattr(self, name) not in choices:
                raise OptionError(f"--{name}: {getattr(self, name)!r} is none of {', '.join(choices)}")
        for name, number in (("epochs", self.epochs), ("batch-size", self.batch_size)):
            if number is not None and number < 1:
                raise OptionError(f"--{name} must be at least 1, got {number}")
        if self.patience < 0:
            raise OptionError(f"--patience must not be negative, got {self.patience}; 0 means never to stop early")
        if any(size < 1 for size in self.hidden):
            raise OptionError(f"--hidden: sizes must be at least 1, got {','.join(map(str, self.hidden))}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise OptionError(f"--lr must be a positive number, got {self.lr:g}")
        if not 0 <= self.validation < 1:
            raise OptionError(f"--validation must be at least 0 and less than 1, got {self.validation:g}")


def train(
    path: Path,
    settings: Settings,
    folder: Path,
    *,
    overwrite: bool = False,
    plot: bool = False,
    echo: Callable[[str], Any] = print,
    note: Note = lambda text: None,
    table: Callable[[Sequence[Sequence[str]]], str] = plain_table,
    progress: bool = True,
) -> tuple[TabularModel, nn.History, Report]:
    """Train a model on a CSV file and write it to a folder, with its history, a picture and the generated source.

    With validation rows, the model is that of the epoch with the least validation loss.

    Args:
        path: the file.
        settings: how to train.
        folder: is made if it does not exist.
        overwrite: whether a model that is in the folder is replaced.
        plot: whether Matplotlib draws the picture of the history, too, as a PNG file.
        echo: is called with the lines of the report.
        note: is called with remarks on the data, such as columns that were left out.
        table: turns rows of texts, the first of them the header, into a text for `echo`.
        progress: whether to show a progress bar (on a terminal).

    Returns:
        The model, the history, and how good the model is. If Ctrl-C ended the run, `history.interrupted` is true, and
        the files contain the model at that moment.

    Raises:
        InputError: for a file that cannot be used.
        OptionError: for settings that cannot be used; if the folder has a model that may not be overwritten.
        OSError: if the folder cannot be written.
        NonFiniteLossError: if the training diverges.
        KeyboardInterrupt: if Ctrl-C came before the first step was complete; nothing is written.
    """
    settings.check()
    _check_folder(folder, overwrite)
    data, task = _read(path, settings, note)
    preprocessing, training, validation = _prepare(data, task, settings, note)
    echo(_description(data, task, preprocessing))
    split = f"{len(training):,} rows to train on"
    echo(split + (f", {len(validation):,} to validate (seed {settings.seed})" if validation else ", none to validate"))

    count = parameters_of(preprocessing, settings.hidden)
    batch, epochs = _size(count, len(training), settings)
    model = TabularModel.new(preprocessing, settings.hidden, settings.activation, settings.seed)
    make_folder(folder)
    sizes = " -> ".join(map(str, [preprocessing.inputs, *settings.hidden, preprocessing.target.scores]))
    echo(f"model: {sizes}, {settings.activation}, {count:,} parameters")
    at_most = "at most " if validation and settings.patience else ""
    per_epoch = count_of(-(-len(training) // batch), "step")
    echo(f"{settings.optimizer}, batches of {batch}, {at_most}{epochs} epochs of {per_epoch}\n")

    started = time.perf_counter()
    try:
        history = _fit(model, training, validation, settings, batch, epochs, progress)
    except (RangeError, nn.NonFiniteLossError) as error:
        rate = settings.lr or OPTIMIZERS[settings.optimizer][0]
        raise nn.NonFiniteLossError(
            f"the training diverged: its numbers became too large for floats; give a smaller --lr than {rate:g}"
        ) from error
    if history.interrupted and not history.steps:  # during compilation: there is nothing to write
        raise KeyboardInterrupt
    echo(_summary(history, time.perf_counter() - started - history.seconds))
    report = Report.of(model, training, validation)
    echo(table(report.rows()))
    echo(f"\n{report.verdict(advice=bool(settings.hidden))}")
    title = f"{settings.target} of {Path(data.name).name}"
    if overwrite:
        (folder / PICTURE).unlink(missing_ok=True)  # of an earlier run
    paths = _write(folder, model, history, report, settings, title, path)
    paths += _plot(folder, history, title, note) if plot else []
    echo(f"\nwritten to {folder}: {', '.join(path.name for path in paths)}")
    return model, history, report


def prepare(path: Path | str, settings: Settings, note: Note = lambda text: None) -> tuple[Preprocessing, Part, Part]:
    """The rows that `train` trains on, and those that it validates on, as the numbers that the model and its loop take.

    Args:
        path: the file.
        settings: those of the run.
        note: is called with remarks on the data.

    Returns:
        The preprocessing, and the two parts, with `inputs`, a list of numbers per row, and `targets`.

    Raises:
        InputError: for a file that cannot be used.
        OptionError: for settings that cannot be used.
    """
    settings.check()
    data, task = _read(Path(path), settings, note)
    return _prepare(data, task, settings, note)


def _read(path: Path, settings: Settings, note: Note) -> tuple[Table, str]:
    """The rows that have a target, and whether that is classes or a number."""
    data = with_target(read_csv(path), settings.target, note)
    if len(data) < _FEWEST_ROWS:
        raise InputError(
            f"{data.name} has {count_of(len(data), 'row')} with a target: too few to learn from; at least "
            f"{_FEWEST_ROWS} are needed"
        )
    task = task_of(data, settings.target) if settings.task == "auto" else settings.task
    return data, task


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Before anything is computed: whether it is a folder, and has no model that would be lost."""
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"--out {folder} is a file, and a folder is needed")
    if not overwrite and any((folder / name).exists() for name in (MODEL, PREPROCESSING)):
        raise OptionError(f"{folder} has a model already; give another folder with --out, or --overwrite to replace it")


def _summary(history: nn.History, compiling: float) -> str:
    """How the training ended, and which epoch was kept."""
    ended = "interrupted after" if history.interrupted else "trained"
    text = (
        f"{ended} {count_of(history.steps, 'step')} in {history.seconds:.2f} s, after {compiling:.1f} s of compiling\n"
    )
    if history.best_epoch is None:
        return text
    stop = "stopped early; " if history.stopped_early else ""
    return f"{text}{stop}kept epoch {history.best_epoch + 1} of {history.epochs}, with the least validation loss\n"


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

    def part(rows: Table, order: Sequence[int], name: str) -> Part:
        def noted(text: str) -> None:
            note(f"{name} rows: {text}" if aside else text)

        targets: list[float] = [numbers[k] for k in order]
        if isinstance(about, NumberTarget):
            targets = [about.standardise(number) for number in targets]
        return Part(preprocessing.encode(rows, noted), targets)

    return preprocessing, part(training, order, "training"), part(validation, aside, "validation")


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
            f"a step on {count_of(batch, 'row')} would be a program of {batch * per_row / 1e6:,.0f} million "
            "operations, which takes long to compile; give a smaller --batch-size or --hidden, or leave columns out "
            "with --ignore"
        )
    return batch, settings.epochs or max(_EPOCHS, -(-_STEPS // -(-rows // batch)))


def _fit(
    model: TabularModel, training: Part, validation: Part, settings: Settings, batch: int, epochs: int, progress: bool
) -> nn.History:
    network, target = model.network, model.preprocessing.target
    loss = loss_of(target)

    def batch_loss(X: Any, y: Any) -> Any:
        return loss([network(x) for x in X], list(y))

    latest: dict[str, float] = {}

    def measured(name: str) -> Callable[[Any, Any], float]:
        """A metric, of the validation rows; the first of them measures all."""

        def metric(X: Any, y: Any) -> float:
            if name == "loss":
                latest.update(measures(model, validation))
            return latest[name]

        return metric

    names = ["loss", *MEASURES[target.kind]] if validation else []
    rate, make = OPTIMIZERS[settings.optimizer]
    rate = settings.lr or rate
    steps = epochs * -(-len(training) // batch)
    history = nn.fit(
        batch_loss,
        network,
        make(nn.cosine_decay(rate, rate / 100, steps)),
        training.inputs,
        training.targets,
        epochs=epochs,
        batch_size=batch,
        seed=settings.seed,
        metrics={f"validation {name}": measured(name) for name in names},
        # The best epoch is kept, whether the run stops early or not.
        patience=(settings.patience or epochs) if validation else None,
        monitor="validation loss" if validation else None,
        progress=progress,
    )
    history.validation_loss = history.metrics.pop("validation loss", [])
    return history


# --- the folder ---------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    model: TabularModel,
    history: nn.History,
    report: Report,
    settings: Settings,
    title: str,
    data: Path,
) -> list[Path]:
    paths = model.save(folder)
    names = (
        "interrupted", "stopped_early", "best_epoch", "seconds", "steps_per_epoch", "loss", "epoch_loss",
        "validation_loss", "metrics",
    )  # fmt: skip
    about = {
        "settings": asdict(settings),
        "report": asdict(report),
        **{name: getattr(history, name) for name in names},
    }
    text = json.dumps(_without_nan(about), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / HISTORY, text.encode() + b"\n")
    write_atomically(folder / CHART, history.svg(title).encode())
    loop = history.save_source(folder / LOOP, rolled=True, about=_about_loop(data, settings))
    return [*paths, folder / HISTORY, folder / CHART, loop]


def _about_loop(data: Path, settings: Settings) -> str:
    """How to get the numbers that the written loop takes, for its docstring."""
    names = "target", "task", "seed", "validation", "ignore", "categorical"  # what the numbers depend on
    default = Settings(settings.target)
    given = [name for name in names if name == "target" or getattr(settings, name) != getattr(default, name)]
    options = ", ".join(f"{name}={getattr(settings, name)!r}" for name in given)
    return (
        "The rows as numbers, with categories encoded and numbers standardised:\n\n"
        "    from flatgrad.tabular import Settings, prepare\n"
        f"    _, training, _ = prepare({str(data)!r}, Settings({options}))\n"
        "    for step, loss, parameters, state in train(training.inputs, training.targets, steps=100):\n"
        "        print(step, loss)\n\n"
        "Comments with a line quote the statement of flatgrad/tabular/training.py that is computed there: `network`\n"
        "is the model, and `loss` the mean loss of a batch."
    )


def _plot(folder: Path, history: nn.History, title: str, note: Note) -> list[Path]:
    """The history, drawn by Matplotlib."""
    try:
        figure = new_figure(7.0, 3.4 + 1.4 * len(history.metrics))
    except MissingExtraError as error:
        note(f"{PICTURE} is not drawn: {error}")
        return []
    nn.plot_history(history, ax=figure.subplots(), title=title)
    figure.savefig(folder / PICTURE, dpi=150)
    return [folder / PICTURE]


def _without_nan(item: Any) -> Any:
    """JSON has no NaN and no infinity: None takes their place."""
    if isinstance(item, dict):
        return {key: _without_nan(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [_without_nan(value) for value in item]
    return None if isinstance(item, float) and not math.isfinite(item) else item
