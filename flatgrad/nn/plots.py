"""Pictures of models and of training runs, drawn with Matplotlib (`pip install 'flatgrad[plot]'`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compiler.transforms.jit import jit
from ..runtime.errors import InputError, MissingExtraError, OptionError, ProgramError
from ..runtime.value import Value
from .data import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, which are distinct for people with any colour vision, and the markers that go with them.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#6A51A3")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
#: The number of cells along each axis, if the user gives no step.
_CELLS = 80
#: The largest number of points of a grid: more are a mistake in `step`.
_LIMIT = 4_000_000
#: Losses that span more than this factor are drawn on a logarithmic axis.
_LOGARITHMIC_FROM = 30.0


def plot_decision_boundary(
    model: Callable[[list[float]], Any],
    X: Any,
    y: Any,
    *,
    ax: Axes | None = None,
    step: float | tuple[float, float] | None = None,
    threshold: float = 0.0,
    feature_names: Sequence[str] = ("x1", "x2"),
    class_names: Sequence[str] | None = None,
) -> Axes:
    """The plane in the colours of the predicted classes, the boundaries between them, and the points.

    The picture at the end of micrograd's notebook. The model is compiled once and then called for each point of a grid.

    Args:
        model: a function of a list of two numbers (a Module, for instance). It returns one score, which speaks for the
            second class where it is above `threshold`, or one score per class, the largest of which wins. Scores are
            `Value`s or numbers.
        X: the points, an array or list of shape `(n, 2)`.
        y: the class of each point: n numbers or strings. In order, the different ones are the model's classes; where
            all are among -1 and 1, among 0 and 1, or among 0, ..., k - 1 for k scores, these are the classes.
        ax: where to draw; by default a new figure of `matplotlib.pyplot`.
        step: the width of the grid's cells in the units of X, or one width per axis (0.25 in the notebook); by default
            an 80th of the range of the axis.
        threshold: where one score changes class: 0 for a logit or a margin, 0.5 for a probability.
        feature_names: the axes' labels.
        class_names: what the legend calls the classes, in their order; by default their values in y.

    Returns:
        The Matplotlib `Axes`.

    Raises:
        MissingExtraError: if Matplotlib is not installed.
        InputError: for points that are not pairs of finite numbers, classes that do not fit the number of scores, or
            another number of classes than of points.
        OptionError: for a step that is not positive, or so small that the grid would have millions of points.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = Figure().subplots()
        >>> plot_decision_boundary(lambda x: x[0] - x[1], [[0, 1], [2, 1], [-1, 0]], [0, 1, 0], ax=ax) is ax
        True
    """
    _need_matplotlib()
    points, labels = _points(X), np.asarray(_tolist(y))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (len(points),):
        raise InputError(f"plot_decision_boundary: X has {len(points)} points, but y has shape {labels.shape}")
    if len(feature_names) != 2:
        raise InputError(f"plot_decision_boundary: feature_names are two, got {len(feature_names)}")
    xs, ys = _grid(points, step)
    scores = _scores(model, xs, ys)
    classes = _classes(labels, scores.shape[-1])
    names = list(map(str, classes)) if class_names is None else list(map(str, class_names))
    if len(names) != len(classes):
        raise InputError(f"plot_decision_boundary: there are {len(classes)} classes, but {len(names)} class_names")
    margins = _margins(scores, threshold)

    ax = _axes(ax, (6.4, 4.8))
    for k in range(len(classes)):
        colour = _COLOURS[k % len(_COLOURS)]
        margin = margins[..., k]
        won = np.isfinite(margin) & (margin > 0)
        if won.any():
            ax.contourf(xs, ys, margin, levels=[0.0, math.inf], colors=[colour], alpha=0.22, zorder=0)
        # With two classes, one's boundary is the other's.
        if won.any() and not won.all() and not (len(classes) == 2 and k == 0):
            ax.contour(xs, ys, margin, levels=[0.0], colors=["#404040"], linewidths=1.2, zorder=1)
    for k, (label, name) in enumerate(zip(classes, names, strict=True)):
        members = points[labels == label]
        marker, colour = _MARKERS[k % len(_MARKERS)], _COLOURS[k % len(_COLOURS)]
        ax.scatter(
            members[:, 0], members[:, 1], s=34, c=colour, marker=marker, edgecolors="white", linewidths=0.7, label=name,
            zorder=2,
        )  # fmt: skip
    ax.set(xlabel=feature_names[0], ylabel=feature_names[1], xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]))
    ax.legend(title="class", framealpha=0.9)
    return ax


def plot_history(history: Any, *, ax: Axes | None = None, title: str = "") -> Axes:
    """The losses of a training run, and below them each metric with an axis of its own.

    A metric of the training rows and one of the validation rows that have the same name behind the words "training" and
    "validation" share an axis. The epoch whose parameters were kept is marked.

    Args:
        history: what `fit` returned, or anything with `loss`, a list with the loss of each step. These it may have:
            `epoch_loss`, `validation_loss` and `metrics` (a dict of lists), with one number per epoch, and
            `steps_per_epoch` and `best_epoch`.
        ax: where to draw; its place is divided among the axes. By default a new figure of `matplotlib.pyplot`.
        title: stands above the losses.

    Returns:
        The Matplotlib `Axes` of the losses. They are logarithmic where the losses span orders of magnitude.

    Raises:
        MissingExtraError: if Matplotlib is not installed.
        InputError: if the history holds no loss.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from flatgrad.nn import History
        >>> plot_history(History(loss=[3.0, 2.0, 1.5]), ax=Figure().subplots()).get_ylabel()
        'loss'
    """
    _need_matplotlib()
    loss = _series(history, "loss")
    epoch_loss, validation = _series(history, "epoch_loss"), _series(history, "validation_loss")
    metrics = {str(name): _floats(values) for name, values in (getattr(history, "metrics", None) or {}).items()}
    if not (loss.size or epoch_loss.size or validation.size):
        raise InputError("plot_history: the history is empty; train for at least one step first")
    epochs = max(map(len, (epoch_loss, validation, *metrics.values())))
    per_epoch = float(getattr(history, "steps_per_epoch", 0) or (len(loss) / epochs if epochs else 1.0))
    if not epochs:
        per_epoch = 1.0
    quantities = _quantities(metrics)

    ax = _axes(ax, (6.4, 4.0 + 1.4 * len(quantities)))
    steps = np.arange(1, len(loss) + 1) / per_epoch
    # The losses of single batches jump: where there are epochs of several steps they stay in the background.
    in_background = epoch_loss.size > 0 and per_epoch > 1
    if loss.size:
        label, width, alpha = ("loss of a batch", 0.8, 0.3) if in_background else ("loss", 1.6, 1.0)
        marker = "o" if len(loss) == 1 else ""
        ax.plot(steps, loss, color=_COLOURS[0], marker=marker, linewidth=width, alpha=alpha, label=label)
    if in_background or (epoch_loss.size and not loss.size):
        _plot_epochs(ax, epoch_loss, _COLOURS[0], "loss")
    if validation.size:
        _plot_epochs(ax, validation, _COLOURS[1], "validation loss")
    losses = np.concatenate([loss, epoch_loss, validation])
    losses = losses[np.isfinite(losses)]
    if losses.size and losses.min() > 0 and losses.max() / losses.min() > _LOGARITHMIC_FROM:
        ax.set_yscale("log")
    ax.set(ylabel="loss")
    if title:
        ax.set_title(title)
    panels = [ax, *_below(ax, len(quantities))]
    for panel, (quantity, members) in zip(panels[1:], quantities.items(), strict=True):
        for name, values in members.items():
            _plot_epochs(panel, values, _COLOURS[name.startswith("validation ")], name)
        panel.set(ylabel=quantity)
    best = getattr(history, "best_epoch", None)
    for panel in panels:
        panel.grid(True, color="#e4e4e4", linewidth=0.8)
        panel.set_axisbelow(True)
        if best is not None:
            mark = "kept epoch" if panel is ax else "_kept"  # the legend leaves out what begins so
            panel.axvline(best + 1, color="#606060", linewidth=1.0, linestyle=":", label=mark)
        panel.tick_params(labelbottom=panel is panels[-1])
        # Beside the axes, where no curve is.
        panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, borderaxespad=0.3)
    panels[-1].set(xlabel="epoch" if epochs else "step")
    return ax


def _quantities(metrics: dict[str, Array]) -> dict[str, dict[str, Array]]:
    """The metrics by what they measure: the same of other rows has the same unit."""
    quantities: dict[str, dict[str, Array]] = {}
    for name, values in metrics.items():
        if values.size:
            quantity = name.removeprefix("training ").removeprefix("validation ")
            quantities.setdefault(quantity, {})[name] = values
    return quantities


def _below(ax: Axes, count: int) -> list[Axes]:
    """Axes in the lower part of the place of other axes, which keep the upper part; all have one scale of epochs."""
    if not count:
        return []
    figure: Any = ax.figure
    ratios = [2.0, *[1.0] * count]
    place = ax.get_subplotspec()
    if place is not None:
        grid = place.subgridspec(1 + count, 1, height_ratios=ratios)
        ax.set_subplotspec(grid[0])
        return [figure.add_subplot(grid[k], sharex=ax) for k in range(1, 1 + count)]
    box = ax.get_position()
    unit, gap = box.height / (sum(ratios) + 0.3 * count), 0.3
    ax.set_position((box.x0, box.y1 - 2.0 * unit, box.width, 2.0 * unit))
    tops = [box.y1 - (2.0 + gap + k * (1.0 + gap)) * unit for k in range(count)]
    return [figure.add_axes((box.x0, top - unit, box.width, unit), sharex=ax) for top in tops]


def _plot_epochs(ax: Axes, values: Array, colour: str, label: str) -> None:
    marker = "o" if len(values) == 1 else ""
    ax.plot(np.arange(1, len(values) + 1), values, color=colour, linewidth=1.6, marker=marker, label=label)


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401 - whether it is there, before anything is computed
    except ImportError:
        raise MissingExtraError("pictures need Matplotlib: pip install 'flatgrad[plot]'") from None


def new_figure(width: float, height: float) -> Figure:
    """A Matplotlib figure of a size in inches, without `pyplot`: it opens no window.

    Raises:
        MissingExtraError: if Matplotlib is not installed.
    """
    _need_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=size, layout="constrained")[1]


# --- decision boundaries ------------------------------------------------------------------------------------------


def _points(X: Any) -> Array:
    try:
        points = np.asarray(_tolist(X), dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"plot_decision_boundary: X must hold numbers: {error}") from None
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise InputError(
            f"plot_decision_boundary: X must have shape (n, 2), got {points.shape}; for more features give two of them "
            "and a model of these two, such as lambda x: model([x[0], x[1], 0.0])"
        )
    if not np.isfinite(points).all():
        raise InputError("plot_decision_boundary: X holds NaN or infinity")
    return points


def _grid(points: Array, step: float | tuple[float, float] | None) -> tuple[Array, Array]:
    """The coordinates of the grid along both axes: the range of the points and a margin around it."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    if step is None:
        low, high = low - 0.12 * span, high + 0.12 * span
        return np.linspace(low[0], high[0], _CELLS + 1), np.linspace(low[1], high[1], _CELLS + 1)
    steps = np.broadcast_to(np.asarray(step, dtype=float), (2,))
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise OptionError(f"plot_decision_boundary: step must be positive, got {step}")
    margin = np.maximum(0.12 * span, steps)
    cells = np.ceil((span + 2 * margin) / steps)
    if np.prod(cells + 1) > _LIMIT:
        raise OptionError(
            f"plot_decision_boundary: step={step} makes a grid of {np.prod(cells + 1):,.0f} points; choose a larger one"
        )
    xs, ys = (low[k] - margin[k] + steps[k] * np.arange(int(cells[k]) + 1) for k in range(2))
    return xs, ys


def _scores(model: Callable[[list[float]], Any], xs: Array, ys: Array) -> Array:
    """The model's scores on the grid, an array of shape `(len(ys), len(xs), scores)`."""
    points = [[x, y] for y in ys.tolist() for x in xs.tolist()]

    def scores(x: list[float]) -> Any:  # compiling needs a function; a model may be any callable
        return model(x)

    evaluate: Callable[[list[float]], Any] = jit(scores)
    try:
        evaluate.kernel_for(points[0])  # type: ignore[attr-defined]
    except ProgramError:  # a bug of ours
        raise
    except Exception:
        # It branches on numbers or calls other libraries. Without compiling it works, or raises its own error.
        evaluate = model
    rows = [_floats_of(evaluate(point)) for point in points]
    if len(set(map(len, rows))) != 1:
        raise InputError("plot_decision_boundary: the model returns different numbers of scores for different points")
    return np.array(rows, dtype=float).reshape(len(ys), len(xs), -1)


def _floats_of(scores: Any) -> list[float]:
    if isinstance(scores, np.ndarray):
        scores = scores.ravel().tolist()
    items = scores if isinstance(scores, (list, tuple)) else [scores]
    try:
        return [item.data if isinstance(item, Value) else float(item) for item in items]
    except (TypeError, ValueError):
        raise InputError(
            f"plot_decision_boundary: the model must return a score, or a list of scores, got {type(scores).__name__}"
        ) from None


def _classes(labels: Array, count: int) -> list[Any]:
    """The classes that the model's scores stand for, in order."""
    present: list[Any] = np.unique(labels).tolist()
    indices = list(range(max(count, 2)))
    for classes in [[-1, 1], indices] if count == 1 else [indices]:
        if set(present) <= set(classes):
            return classes
    if len(present) != len(indices):
        what = "one score, which tells two classes apart" if count == 1 else f"{count} scores, one per class"
        raise InputError(f"plot_decision_boundary: the model returns {what}, but y has {len(present)} classes")
    return present


def _margins(scores: Array, threshold: float) -> Array:
    """For each class by how much it wins against the best of the others; negative where it loses."""
    if scores.shape[-1] == 1:
        above = scores - threshold
        return np.concatenate([-above, above], axis=-1)
    margins = np.empty_like(scores)
    for k in range(scores.shape[-1]):
        margins[..., k] = scores[..., k] - np.delete(scores, k, axis=-1).max(axis=-1)
    return margins


# --- histories ----------------------------------------------------------------------------------------------------


def _series(history: Any, name: str) -> Array:
    values = getattr(history, name, None)
    return _floats(values if values is not None else ())


def _floats(values: Iterable[Any]) -> Array:
    return np.array([float(value) for value in values], dtype=float)


def _tolist(items: Any) -> Any:
    """Arrays and frames as they are, lists of `Value`s as their numbers."""
    if isinstance(items, np.ndarray) and items.dtype != object:
        return items
    items = items.tolist() if hasattr(items, "tolist") else items
    if isinstance(items, (list, tuple)):
        return [_tolist(item) for item in items]
    return items.data if isinstance(items, Value) else items
