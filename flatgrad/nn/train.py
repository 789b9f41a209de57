"""`fit`: a whole training run. The loop over batches is generated source, as the step inside it is."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..compiler.options import WAYS, Backend, Mode
from ..compiler.program.faults import Faults
from ..compiler.program.progress import preparing
from ..runtime.errors import OptionError
from ..runtime.tracing import active, forbidden, recorder
from .batches import Plan, Rows, split
from .checkpoint import check_writable, read_checkpoint
from .history import History, Progress
from .optim import Optimizer
from .run import NonFiniteLossError as NonFiniteLossError  # pickles of earlier versions name it here
from .run import Run
from .step import TrainStep


def fit(
    loss_fn: Callable[..., Any],
    model: Any,
    optimizer: Optimizer,
    X: Any,
    y: Any,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    progress: bool = True,
    callback: Callable[[Progress], Any] | None = None,
    validation_split: float = 0.0,
    validation_data: tuple[Any, Any] | None = None,
    metrics: Mapping[str, Callable[[Any, Any], float]] | None = None,
    patience: int | None = None,
    monitor: str | None = None,
    min_delta: float = 0.0,
    restore_best: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    on_nonfinite: str = "raise",
    backend: Backend = "auto",
    mode: Mode = "exact",
    faults: Faults = "raise",
    max_ways: int = WAYS,
) -> History:
    """Train a model.

    Args:
        loss_fn: `loss_fn(X_batch, y_batch) -> Value`, closing over the model; batches are arrays of `Value`s with the
            shape of a slice of X and y.
        model: a Module, or a list of the `Value`s to train.
        optimizer: `nn.SGD(...)`, `nn.Adam(...)`, ...
        X, y: the data, arrays or nested lists of numbers with one row per example.
        steps, epochs: how long; one of the two.
        batch_size: rows per step, by default all of them. The last batch of an epoch may be smaller.
        shuffle: whether the rows of batches are shuffled anew in each epoch, by `random.Random(seed)`; otherwise, and
            where a step takes all rows, they keep their order.
        seed: of the shuffling and of the validation split; drawn at random if not given, and kept in the history.
        progress: whether to show a progress bar (on a terminal or in a notebook).
        callback: called after each step with a `Progress`, with the model's `Value`s up to date; to return True ends
            the run. What it writes into the `Value`s has no effect on the run.
        validation_split: the fraction of rows that is set aside for validation; or give `validation_data`, `(X, y)`.
            The validation loss is the mean over batches of `batch_size`, weighted by their rows.
        metrics: functions `(X, y) -> float` (or a `Value`) by name, called after each epoch with the validation data
            (without any, the training data) and the model's `Value`s up to date.
        patience: stop when the validation loss (without validation data, the epoch's loss) has not improved by more
            than `min_delta` for so many epochs; with `restore_best` the best parameters are restored.
        monitor: the name of a metric, of which less is better: what patience watches instead of the loss.
        checkpoint: a file (.npz) to write, atomically, after every `checkpoint_every` steps (by default after epochs,
            at most once a second), and when the run ends, however it ends.
        resume: go on from the checkpoint, if the file exists; the bits are those of a run that was never stopped.
            Data, model, loss and optimiser must be the same; steps, epochs and patience may differ.
        on_nonfinite: "raise" an error when a loss is NaN or infinite, or "continue".
        backend, mode, faults, max_ways: as for `fg.compile`. With faults="ieee" no operation of a step raises; a loss
            may be NaN or infinite, for which there is `on_nonfinite`.

    Returns:
        The history. Ctrl-C ends the run early: the history says so, and the model has the last completed step's
        parameters.

    Raises:
        InputError, OptionError: for data or options that do not fit.
        NonFiniteLossError: naming the step; the model keeps the parameters with which the step began.
        DomainError, DivisionByZeroError, RangeError: as the loss would; parameters as for the last completed step.

    Example:
        >>> import flatgrad as fg
        >>> slope, offset = fg.Value(0.0), fg.Value(0.0)
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
        >>> def loss(X, y):
        ...     return sum((slope * x[0] + offset - t) ** 2 for x, t in zip(X, y)) * (1.0 / len(y))
        >>> history = fg.nn.fit(loss, [slope, offset], fg.nn.Adam(0.1), X, y, steps=500, progress=False)
        >>> round(slope.data, 3), round(offset.data, 3), history.steps
        (2.0, 1.0, 500)
    """
    if active and recorder() is not None:
        raise forbidden("training a model", "Call fit outside of the compiled function.")
    for name, count in (("steps", steps), ("epochs", epochs), ("batch_size", batch_size), ("seed", seed)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, (int, np.integer))):
            raise OptionError(f"{name} must be a whole number, got {count!r}")
    seed = None if seed is None else int(seed)
    if metrics is not None and not isinstance(metrics, Mapping):
        raise OptionError(f"metrics must be a dict of functions by name, got {type(metrics).__name__}")
    if not isinstance(shuffle, bool):
        raise OptionError(f"shuffle is True or False, got {shuffle!r}; seed=... says which order it is")
    if not isinstance(resume, bool):
        raise OptionError(f"resume is True or False, got {resume!r}; the file is given as checkpoint=...")
    if resume and checkpoint is None:
        raise OptionError("resume=True needs checkpoint=..., the file to resume from")
    if checkpoint is not None:
        check_writable(Path(checkpoint))
    if checkpoint_every is not None and (checkpoint is None or checkpoint_every < 1):
        raise OptionError(f"checkpoint_every must be at least 1, and needs checkpoint=..., got {checkpoint_every}")
    if not math.isfinite(min_delta):
        raise OptionError(f"min_delta must be a number, got {min_delta}")
    resuming = resume and checkpoint is not None and Path(checkpoint).exists()
    if seed is None:
        seed = read_checkpoint(Path(checkpoint))[0]["seed"] if resuming and checkpoint else random.randrange(2**32)
    data, validation = split(Rows(X, y, ""), validation_split, validation_data, seed)
    plan = Plan.of(len(data), steps, epochs, batch_size, shuffle)
    if on_nonfinite not in ("raise", "continue"):
        raise OptionError(f"on_nonfinite: {on_nonfinite!r} is neither 'raise' nor 'continue'")
    if patience is not None and patience < 1:
        raise OptionError(f"patience must be at least 1 epoch, got {patience}")
    if monitor is not None and (patience is None or monitor not in (metrics or {})):
        raise OptionError(f"monitor={monitor!r} needs patience=..., and a metric of this name")
    run = Run(
        TrainStep(
            loss_fn, optimizer, model, backend=backend, mode=mode, faults=faults, dynamic=True, max_ways=max_ways
        ),
        data,
        validation,
        plan,
        seed,
        Path(checkpoint) if checkpoint is not None else None,
    )
    run.metrics, run.patience, run.monitor, run.min_delta = dict(metrics or {}), patience, monitor, min_delta
    run.checkpoint_every = checkpoint_every
    with nullcontext() if progress else preparing("", hidden=True):
        return run.go(progress, callback, on_nonfinite == "raise", restore_best, bool(resuming))
