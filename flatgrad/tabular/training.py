"""A training run on a table: split, preprocess, train, report, and write it all to a folder."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import nn
from ..compiler.machine.native import available
from ..compiler.program.progress import preparing
from ..nn.batches import Plan, Rows
from ..nn.run import Run, progress_bar
from ..nn.step import TrainStep
from ..runtime.errors import InputError, OptionError, RangeError
from ..runtime.files import make_folder
from ..runtime.wording import count_of
from . import folder as files
from .folds import CrossValidation, cross_validate, start_seed
from .model import TabularModel, loss_of, parameters_of
from .preprocessing import (
    Array,
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
from .settings import DECAYS, Settings
from .table import Table, listed, read_csv

_FEWEST_ROWS = 10
#: The default number of epochs, and the least number of steps, for which there may be more epochs.
_EPOCHS, _STEPS = 50, 500
#: The default size of a batch, and the number of operations of a step, for which a batch may have fewer rows.
_BATCH, _OPERATIONS = 16, 200_000
#: Compiling takes about 20 microseconds for each; more operations than these are a mistake.
_MOST_OPERATIONS = 4_000_000
#: The default number of folds; up to how many rows there are any; how many operations one round of them may take; and
#: how many all of up to so many repetitions should take, which is about one and a half seconds.
_FOLDS, _FOLD_ROWS, _FOLD_OPERATIONS, _REPEAT_OPERATIONS, _REPEATS = 10, 2_000, 3e10, 1.2e10, 10
#: Of a model that is trained on all rows, so many runs from other initial parameters are made, and the best is kept.
_STARTS = 5
#: The default fraction of the rows that validate, where there are no folds.
_VALIDATION = 0.2


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
    started: float | None = None,
) -> tuple[TabularModel, nn.History, Report]:
    """Train a model on a CSV file and write it to a folder, with its history, a picture and the generated source.

    Of a small table, a cross-validation says how long to train on all rows; the validation losses of the history are
    its means, and the report has the measures of the rows left out. With validation rows, the model is that of the
    epoch with the least validation loss.

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
        started: the processor time (`time.process_time()`) from which the share of the steps is counted; by default
            that of the call.

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
    begun = time.process_time() if started is None else started
    settings.check()
    files.check_folder(folder, overwrite)
    data, task = _read(path, settings, note)
    preprocessing, training, validation, folds, missing = _prepare(data, task, settings, note)
    echo(_description(data, task, preprocessing))

    sizes = preprocessing.inputs, settings.hidden, preprocessing.target.scores
    count = parameters_of(*sizes)
    batch, epochs = _size(count, len(training), settings, folds)
    repeats = _repeats(count, len(training), epochs, folds, settings) if folds else 0
    echo(_rows(len(training), len(validation), folds, repeats, settings.seed))
    model = TabularModel.new(preprocessing, settings.hidden, settings.activation, settings.seed)
    make_folder(folder)
    texts = " -> ".join(map(str, [sizes[0], *sizes[1], sizes[2]]))
    kind = settings.activation if settings.hidden else "linear"
    echo(f"model: {texts}, {kind}, {count_of(count, 'parameter')}")
    at_most = "at most " if folds or (validation and settings.patience_of(epochs)) else ""
    per_epoch = count_of(-(-len(training) // batch), "step")
    echo(f"{settings.optimizer}, batches of {batch}, {at_most}{count_of(epochs, 'epoch')} of {per_epoch}\n")

    clock, cross_validation = time.perf_counter(), None
    try:
        if folds:
            history, cross_validation = _fit_folds(
                model, training, missing, settings, folds, repeats, batch, epochs, progress
            )
        else:
            history = _fit(model, training, validation, settings, batch, epochs, progress)
    except (RangeError, nn.NonFiniteLossError) as error:
        raise nn.NonFiniteLossError(
            "the training diverged: its numbers became too large for floats; give a smaller --lr than "
            f"{settings.rate:g}"
        ) from error
    if history.interrupted and not history.steps:  # during compilation: there is nothing to write
        raise KeyboardInterrupt
    if cross_validation is None:
        echo(_summary(history, time.perf_counter() - clock - history.seconds))
        report = Report.of(model, training, validation)
    else:
        echo(_summary_of_folds(cross_validation, folds, history))
        report = Report.of_folds(model, training, cross_validation.folds, folds)
    echo(table(report.rows()))
    echo(f"\n{report.verdict(advice=bool(settings.hidden))}")
    title = f"{settings.target} of {Path(data.name).name}"
    if overwrite:
        (folder / files.PICTURE).unlink(missing_ok=True)  # of an earlier run
    paths = files.write(folder, model, history, report, settings, folds, cross_validation, title, path)
    paths += files.plot(folder, history, title, note) if plot else []
    steps, all_of_it = history._step_seconds, time.process_time() - begun
    echo(f"\nthe steps took {steps:.2f} of {all_of_it:.2f} s of processor time ({100 * steps / all_of_it:.0f} %)")
    echo(f"written to {folder}: {', '.join(path.name for path in paths)}")
    return model, history, report


def prepare(path: Path | str, settings: Settings, note: Note = lambda text: None) -> tuple[Preprocessing, Part, Part]:
    """The rows that `train` trains on, and those that it validates on, as the numbers that the model and its loop take.

    Args:
        path: the file.
        settings: those of the run.
        note: is called with remarks on the data.

    Returns:
        The preprocessing, and the two parts (with folds all rows are in the first one), with `inputs`, a list of
        numbers per row, and `targets`.

    Raises:
        InputError: for a file that cannot be used.
        OptionError: for settings that cannot be used.
    """
    settings.check()
    data, task = _read(Path(path), settings, note)
    return _prepare(data, task, settings, note)[:3]


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


def _rows(training: int, validation: int, folds: int, repeats: int, seed: int) -> str:
    """How many rows are for what."""
    text = f"{training:,} rows to train on"
    if folds:
        times = f", {repeats} times" if repeats > 1 else ""
        return f"{text}, each left out of one of {folds} folds{times} (seed {seed})"
    return text + (f", {validation:,} to validate (seed {seed})" if validation else ", none to validate")


def _summary_of_folds(result: CrossValidation, folds: int, history: nn.History) -> str:
    """How the folds ended, and what they have chosen."""
    ended = "interrupted" if result.interrupted else "stopped early" if result.stopped_early else "trained"
    decay = "" if result.decay is None else f" and weight decay {result.decay:g}"
    return (
        f"{ended}: {count_of(folds * result.repeats, 'fold')}, {count_of(result.steps, 'step')}; the rows left out had "
        f"the least loss after {count_of(result.epochs, 'epoch')}{decay.replace('and', 'with')}\n"
        f"trained on all rows with these: {count_of(history.steps, 'step')}, from the best of "
        f"{count_of(_STARTS, 'start')}\n"
    )


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


class _Prepared(NamedTuple):
    preprocessing: Preprocessing
    training: Part
    validation: Part
    folds: int
    missing: Array


def _prepare(table: Table, task: str, settings: Settings, note: Note) -> _Prepared:
    """Split the rows, and make inputs and targets of both parts; the training part alone decides how.

    With folds all rows are in the training part; where their numbers are missing is returned, too.
    """
    target = settings.target
    kinds = kinds_of(table, target, settings.ignore, settings.categorical, note)
    classes: list[str] = []
    if task == "classify":
        classes, numbers = classes_of(table, target)
        groups = [[k for k, number in enumerate(numbers) if number == c] for c in range(len(classes))]
    else:
        numbers = target_numbers(table, target)  # type: ignore[assignment]
        groups = [list(range(len(table)))]
    folds = _folds(table, kinds, len(classes), settings)
    fraction = 0.0 if folds else _VALIDATION if settings.validation is None else settings.validation
    order, aside = split(groups, fraction, settings.seed)
    if fraction and not aside:
        raise OptionError(f"--validation {fraction:g} of {len(table)} rows is less than one row")
    if len(order) < max(2, len(classes)):
        raise OptionError(f"--validation {fraction:g} leaves {len(order)} of {len(table)} rows to train on")
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

    parts = part(training, order, "training"), part(validation, aside, "validation")
    return _Prepared(preprocessing, *parts, folds, preprocessing.missing(training) if folds else np.empty((0, 0)))


def _folds(table: Table, kinds: Mapping[str, str], classes: int, settings: Settings) -> int:
    """The number of folds; 0 if there is no cross-validation."""
    rows, asked = len(table), settings.folds
    if asked is not None:
        if asked > rows:
            raise OptionError(f"--folds {asked} of {rows} rows leaves folds empty")
        return asked if asked > 1 else 0
    if settings.validation is not None or rows > _FOLD_ROWS or not available():
        return 0
    inputs = sum(1 if kind == "number" else len(set(table.column(name))) for name, kind in kinds.items())
    count = parameters_of(inputs, settings.hidden, classes if classes > 2 else 1)
    return _FOLDS if _fold_operations(count, rows, _EPOCHS, _FOLDS, settings) <= _FOLD_OPERATIONS else 0


def _fold_operations(parameters: int, rows: int, epochs: int, folds: int, settings: Settings) -> float:
    """About how many operations one round of folds takes."""
    return 6.0 * parameters * rows * epochs * folds * (len(DECAYS) if settings.optimizer == "adamw" else 1)


def _repeats(parameters: int, rows: int, epochs: int, folds: int, settings: Settings) -> int:
    """How many partitions into folds there are: the fewer rows, the more, since each says less."""
    operations = _fold_operations(parameters, rows, epochs, folds, settings)
    return int(max(1, min(_REPEATS, _REPEAT_OPERATIONS / operations)))


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


def _size(parameters: int, rows: int, settings: Settings, folds: int) -> tuple[int, int]:
    """The batch size and the number of epochs."""
    # Forward a multiplication and an addition for each weight, backward twice that.
    per_row = 6 * parameters
    batch = settings.batch_size or max(1, min(_BATCH, _OPERATIONS // per_row))
    batch = min(batch, rows - -(-rows // folds) if folds else rows)
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
    target, batch_loss = model.preprocessing.target, _batch_loss(model)
    latest: dict[str, float] = {}

    def measured(name: str) -> Callable[[Any, Any], float]:
        """A metric, of the validation rows; the first of them measures all."""

        def metric(X: Any, y: Any) -> float:
            if name == "loss":
                latest.update(measures(model, validation))
            return latest[name]

        return metric

    names = ["loss", *MEASURES[target.kind]] if validation else []
    ((_, optimizer),) = settings.optimizers(epochs * -(-len(training) // batch), 0)
    history = nn.fit(
        batch_loss,
        model.network,
        optimizer,
        training.inputs,
        training.targets,
        epochs=epochs,
        batch_size=batch,
        seed=settings.seed,
        metrics={f"validation {name}": measured(name) for name in names},
        # The best epoch is kept, whether the run stops early or not.
        patience=(settings.patience_of(epochs) or epochs) if validation else None,
        monitor="validation loss" if validation else None,
        progress=progress,
    )
    history.validation_loss = history.metrics.pop("validation loss", [])
    return history


def _batch_loss(model: TabularModel) -> Callable[[Any, Any], Any]:
    """The mean loss of a batch."""
    network, loss = model.network, loss_of(model.preprocessing.target)

    def batch_loss(X: Any, y: Any) -> Any:
        return loss([network(x) for x in X], list(y))

    return batch_loss


def _fit_folds(
    model: TabularModel, training: Part, missing: Array, settings: Settings, folds: int, repeats: int, batch: int,
    epochs: int, progress: bool,
) -> tuple[nn.History, CrossValidation]:  # fmt: skip
    """Train on all rows, for as many epochs, and with the weight decay, that a cross-validation has found best."""
    per_epoch = -(-len(training) // batch)
    optimizers = settings.optimizers(epochs * per_epoch, folds)
    step = TrainStep(_batch_loss(model), optimizers[0][1], model.network, dynamic=True)

    def start(number: int) -> list[float]:
        return TabularModel.new(model.preprocessing, model.hidden, model.activation, number).parameters

    steps = folds * repeats * len(optimizers) * epochs * per_epoch
    bar = progress_bar("cross-validation", steps) if progress else None

    def show(made: int, loss: float) -> None:
        if bar is not None:
            bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            bar.update(made)

    try:
        with nullcontext() if progress else preparing("", hidden=True):
            result = cross_validate(
                model, training, missing, step, optimizers, folds=folds, repeats=repeats, batch=batch, epochs=epochs,
                patience=settings.patience_of(epochs), seed=settings.seed, new_start=start, progress=show,
            )  # fmt: skip
    finally:
        if bar is not None:
            bar.close()
    step.optimizer = next(optimizer for decay, optimizer in optimizers if decay == result.decay)
    plan, rows = Plan.of(len(training), None, result.epochs, batch, True), Rows(*training.arrays, "")
    kept: tuple[float, list[float], nn.History] | None = None
    seconds, interrupted = result.step_seconds, result.interrupted
    try:
        for number in range(_STARTS):
            _set(model, start(start_seed(settings.seed, number)))
            step.reload()
            run = Run(step, rows, None, plan, settings.seed, None)
            history = run.go(progress and not number, None, True, True, False)
            seconds += history._step_seconds
            loss = measures(model, training)["loss"]
            if kept is None or loss < kept[0]:
                kept = loss, model.parameters, history
            if history.interrupted:
                interrupted = True
                break
    except KeyboardInterrupt:  # between the runs
        if kept is None:
            raise
        interrupted = True
    assert kept is not None
    _, numbers, history = kept
    _set(model, numbers)
    curves = dict(result.curves)
    history.validation_loss = curves.pop("loss")
    history.metrics = {f"validation {name}": curve for name, curve in curves.items()}
    history.interrupted, history.stopped_early, history._step_seconds = interrupted, result.stopped_early, seconds
    history.best_epoch = result.epochs - 1 if history.epochs == result.epochs else None
    return history, result


def _set(model: TabularModel, numbers: Sequence[float]) -> None:
    for parameter, number in zip(model.network.parameters(), numbers, strict=True):
        parameter.data = number
