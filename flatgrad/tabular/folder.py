"""The folder that `train` writes: the model, what happened in the run, a picture, and the loop as source."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import nn
from ..nn.plots import new_figure
from ..runtime.errors import MissingExtraError, OptionError
from ..runtime.files import write_atomically
from .folds import CrossValidation
from .model import MODEL, PREPROCESSING, TabularModel
from .preprocessing import Note
from .report import Report
from .settings import Settings

HISTORY, CHART, PICTURE, LOOP = "history.json", "loss.svg", "loss.png", "training_loop.py"


def check_folder(folder: Path, overwrite: bool) -> None:
    """Before anything is computed: whether it is a folder, and has no model that would be lost."""
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"--out {folder} is a file, and a folder is needed")
    if not overwrite and any((folder / name).exists() for name in (MODEL, PREPROCESSING)):
        raise OptionError(f"{folder} has a model already; give another folder with --out, or --overwrite to replace it")


def write(
    folder: Path,
    model: TabularModel,
    history: nn.History,
    report: Report,
    settings: Settings,
    folds: int,
    cross_validation: CrossValidation | None,
    title: str,
    data: Path,
) -> list[Path]:
    """Write all files but the picture that Matplotlib draws; return them."""
    paths = model.save(folder)
    names = (
        "interrupted", "stopped_early", "best_epoch", "seconds", "steps_per_epoch", "loss", "epoch_loss",
        "validation_loss", "metrics",
    )  # fmt: skip
    about = {
        "settings": asdict(settings),
        "report": asdict(report),
        **({"cross_validation": _about_folds(folds, cross_validation)} if cross_validation is not None else {}),
        **{name: getattr(history, name) for name in names},
    }
    text = json.dumps(_without_nan(about), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / HISTORY, text.encode() + b"\n")
    write_atomically(folder / CHART, history.svg(title).encode())
    loop = history.save_source(folder / LOOP, rolled=True, about=_about_loop(data, settings, folds))
    return [*paths, folder / HISTORY, folder / CHART, loop]


def _about_folds(folds: int, result: CrossValidation) -> dict[str, Any]:
    """What the folds have chosen; the measures of each are in the report."""
    names = "repeats", "epochs", "decay", "steps"
    return {"folds": folds, **{name: getattr(result, name) for name in names}}


def _about_loop(data: Path, settings: Settings, folds: int) -> str:
    """How to get the numbers that the written loop takes, for its docstring."""
    names = "target", "task", "seed", "validation", "ignore", "categorical"  # what the numbers depend on
    default = Settings(settings.target)
    given = [name for name in names if name == "target" or getattr(settings, name) != getattr(default, name)]
    options = ", ".join([*(f"{name}={getattr(settings, name)!r}" for name in given), f"folds={folds}"])
    return (
        "The rows as numbers, with categories encoded and numbers standardised:\n\n"
        "    from flatgrad.tabular import Settings, prepare\n"
        f"    _, training, _ = prepare({str(data)!r}, Settings({options}))\n"
        "    for step, loss, parameters, state in train(training.inputs, training.targets, steps=100):\n"
        "        print(step, loss)\n\n"
        "Comments with a line quote the statement of flatgrad/tabular/training.py that is computed there: `network`\n"
        "is the model, and `loss` the mean loss of a batch."
    )


def plot(folder: Path, history: nn.History, title: str, note: Note) -> list[Path]:
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
