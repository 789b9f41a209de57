"""Pictures: what is drawn and how it is labelled, under the Agg backend."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.nn.data import make_moons


@pytest.fixture(autouse=True)
def pyplot():
    """Imported here, since it takes a second, which every process that shares the tests would spend."""
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
HALVES = [0, 0, 1, 1]


def pixels(ax):
    """The picture as the screen has it, and a function from data coordinates to its colour there."""
    ax.figure.canvas.draw()
    image = np.asarray(ax.figure.canvas.buffer_rgba())[..., :3]

    def at(x, y):
        column, row = ax.transData.transform((x, y))
        return tuple(int(c) for c in image[image.shape[0] - 1 - round(row), round(column)])

    return at


def tint(colour):
    """A class colour as it looks on white."""
    parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return tuple(round(255 * (1 - 0.22 * (1 - c))) for c in parts)


BLUE, RED, GREEN = map(tint, ("#0072B2", "#D55E00", "#009E73"))


def assert_close(left, right):
    assert max(abs(a - b) for a, b in zip(left, right, strict=True)) <= 2, (left, right)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_two_classes_from_one_score():
    ax = nn.plot_decision_boundary(lambda x: x[0] - 0.5, SQUARE, HALVES)
    at = pixels(ax)
    for y in (0.2, 0.5):
        assert_close(at(0.3, y), BLUE)
        assert_close(at(0.7, y), RED)
    assert sum(at(0.5, 0.5)) < 400, "a dark line between them"
    assert legend(ax) == ["0", "1"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x1", "x2")
    assert ax.get_xlim()[0] < 0.0 < 1.0 < ax.get_xlim()[1]


def test_several_classes_from_several_scores():
    def model(x):
        return [Value(0.3) - x[0], (x[0] - 0.6) * 1.0, Value(0.0)]

    ax = nn.plot_decision_boundary(model, SQUARE, [0, 0, 1, 2], class_names=["a", "b", "c"], feature_names=["u", "v"])
    at = pixels(ax)
    for x, colour in ((0.1, BLUE), (0.8, RED), (0.45, GREEN)):
        assert_close(at(x, 0.4), colour)
    assert legend(ax) == ["a", "b", "c"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("u", "v")


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([-1, -1, 1, 1], ["-1", "1"]),
        ([1, 1, 1, 1], ["-1", "1"]),
        ([0, 0, 0, 0], ["0", "1"]),
        (["no", "no", "yes", "yes"], ["no", "yes"]),
        ([2, 2, 7, 7], ["2", "7"]),
        ([Value(0), Value(0), Value(1), Value(1)], ["0", "1"]),
        (np.array([[0], [0], [1], [1]]), ["0", "1"]),
        (np.array([False, False, True, True]), ["0", "1"]),
    ],
)
def test_labels_of_every_kind(y, expected):
    ax = nn.plot_decision_boundary(lambda x: x[0] - 0.5, SQUARE.tolist(), y)
    assert legend(ax) == expected
    assert sum(len(points.get_offsets()) for points in ax.collections if points.get_offsets().size > 2) >= 2


@pytest.mark.parametrize(
    "model",
    [
        lambda x: 1.0 if x[0] > 0.5 else -1.0,  # a branch: it cannot be traced
        lambda x: float(np.sign(np.asarray(x, dtype=float)[0] - 0.5)),
        lambda x: np.array([x[0] - 0.5]),
        lambda x: (x[0] - 0.5,),
        lambda x: [0.5 - x[0], x[0] - 0.5],
        lambda x: Value(x[0]) - 0.5,
    ],
)
def test_models_of_every_kind(model):
    at = pixels(nn.plot_decision_boundary(model, SQUARE, HALVES))
    assert_close(at(0.3, 0.5), BLUE)
    assert_close(at(0.7, 0.5), RED)


def test_probabilities_change_class_at_a_half():
    def model(x):
        return (x[0] - 0.5).sigmoid()

    at = pixels(nn.plot_decision_boundary(model, SQUARE, HALVES, threshold=0.5))
    assert_close(at(0.3, 0.5), BLUE)
    assert_close(at(0.7, 0.5), RED)


def test_a_model_that_always_says_the_same():
    at = pixels(nn.plot_decision_boundary(lambda x: x[0] * 0.0 - 1.0, SQUARE, HALVES))
    assert_close(at(0.7, 0.5), BLUE)


def test_a_model_leaves_no_trace(pyplot):
    X, y = make_moons(40, 0.1, np.random.RandomState(0))
    model = nn.MLP(2, [4, 1], seed=0)
    before = model.state_dict()
    figure, ax = pyplot.subplots()
    assert nn.plot_decision_boundary(model, X, y, ax=ax) is ax
    assert pyplot.get_fignums() == [figure.number], "no other figure is made"
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    assert all(p.grad == 0.0 for p in model.parameters())


def test_the_step_of_the_grid():
    seen = []

    def model(x):
        seen.append((float(x[0]), float(x[1])))  # not traceable, so it is called for each point
        return seen[-1][0] - 0.5

    nn.plot_decision_boundary(model, SQUARE, HALVES, step=0.25)
    xs, ys = (sorted({point[k] for point in seen}) for k in range(2))
    assert np.diff(xs) == pytest.approx(0.25)
    assert (xs[0], ys[0]) == (-0.25, -0.25)
    assert xs[-1] >= 1.25
    seen.clear()
    nn.plot_decision_boundary(model, SQUARE * [1.0, 1000.0], HALVES, step=(0.25, 250.0))
    assert len({point[1] for point in seen}) == len(ys)
    seen.clear()
    nn.plot_decision_boundary(model, SQUARE * [1e-6, 1e9], HALVES)
    assert len({point[0] for point in seen}) == len({point[1] for point in seen}) == 81


def score(x):
    return x[0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: (score, np.zeros((3, 3)), [0, 0, 1]), fg.InputError, r"X must have shape \(n, 2\), got \(3, 3\)"),
        (lambda: (score, [], []), fg.InputError, r"X must have shape \(n, 2\)"),
        (lambda: (score, [["a", "b"]], [0]), fg.InputError, "X must hold numbers"),
        (lambda: (score, [[1.0], [1.0, 2.0]], [0, 1]), fg.InputError, "X must hold numbers"),
        (lambda: (score, [[math.nan, 0.0]], [0]), fg.InputError, "X holds NaN or infinity"),
        (lambda: (score, SQUARE, [0, 1]), fg.InputError, r"X has 4 points, but y has shape \(2,\)"),
        (lambda: (score, SQUARE, [0, 1, 2, 3]), fg.InputError, "returns one score, .* but y has 4 classes"),
        (lambda: (lambda x: [x[0]] * 3, SQUARE, [0, 1, 2, 3]), fg.InputError, "returns 3 scores, .* but y has 4"),
        (lambda: (lambda x: "a", SQUARE, HALVES), fg.InputError, "must return a score, or a list of scores, got str"),
        (lambda: (lambda x: [1.0] * (1 + (x[0] > 0.5)), SQUARE, HALVES), fg.InputError, "different numbers of scores"),
        (lambda: (nn.MLP(3, [1]), SQUARE, HALVES), fg.InputError, "expected 3 inputs, got 2"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        nn.plot_decision_boundary(*call())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"step": 0.0}, fg.OptionError, "step must be positive, got 0.0"),
        ({"step": math.nan}, fg.OptionError, "step must be positive"),
        ({"step": 1e-4}, fg.OptionError, "step=0.0001 makes a grid of .* points; choose a larger one"),
        ({"class_names": ["a"]}, fg.InputError, "there are 2 classes, but 1 class_names"),
        ({"feature_names": ["a"]}, fg.InputError, "feature_names are two, got 1"),
    ],
)
def test_wrong_options(options, error, message, pyplot):
    with pytest.raises(error, match=message):
        nn.plot_decision_boundary(score, SQUARE, HALVES, **options)
    assert not pyplot.get_fignums(), "no empty figure is left"


def drawn(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_a_history_of_steps():
    ax = nn.plot_history(SimpleNamespace(loss=[3.0, 2.0, 1.0]))
    assert list(drawn(ax)) == ["loss"]
    assert drawn(ax)["loss"].get_xdata().tolist() == [1, 2, 3]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("step", "loss", "linear")
    assert legend(ax) == ["loss"]


def test_a_history_of_epochs():
    history = SimpleNamespace(
        loss=[8.0, 6.0, 5.0, 3.0], epoch_loss=[7.0, 4.0], validation_loss=[7.5, 5.0], metrics={"accuracy": [0.5, 0.75]},
        steps_per_epoch=2,
    )  # fmt: skip
    ax = nn.plot_history(history)
    lines = drawn(ax)
    assert list(lines) == ["loss of a batch", "loss", "validation loss"]
    assert lines["loss of a batch"].get_xdata().tolist() == [0.5, 1.0, 1.5, 2.0]
    assert lines["validation loss"].get_xdata().tolist() == [1, 2]
    _, below = ax.figure.axes
    assert (below.get_xlabel(), below.get_ylabel()) == ("epoch", "accuracy")
    assert drawn(below)["accuracy"].get_ydata().tolist() == [0.5, 0.75]
    assert (legend(ax), legend(below)) == (["loss of a batch", "loss", "validation loss"], ["accuracy"])


METRICS = {"training RMSE": [6.0, 5.0], "validation RMSE": [9.0, 8.0], "validation R²": [0.1, 0.3]}


@pytest.mark.parametrize("placed", ["subplots", "add_axes"])
def test_each_unit_has_an_axis_and_no_legend_covers_a_curve(placed, pyplot):
    history = SimpleNamespace(loss=[3.0, 2.0], epoch_loss=[3.0, 2.0], metrics=METRICS, best_epoch=1)
    figure = pyplot.figure(figsize=(7, 6), layout="constrained" if placed == "subplots" else None)
    place = figure.subplots() if placed == "subplots" else figure.add_axes((0.1, 0.1, 0.6, 0.8))
    ax = nn.plot_history(history, ax=place, title="y of table.csv")
    figure.canvas.draw()
    assert [each.get_ylabel() for each in figure.axes] == ["loss", "RMSE", "R²"]
    assert [each.get_xlabel() for each in figure.axes] == ["", "", "epoch"]
    assert ax.get_title() == "y of table.csv"
    assert [legend(each) for each in figure.axes] == [
        ["loss", "kept epoch"], ["training RMSE", "validation RMSE"], ["validation R²"]
    ]  # fmt: skip
    boxes = [each.get_window_extent() for each in figure.axes]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    for each, box in zip(figure.axes, boxes, strict=True):
        assert each.get_legend().get_window_extent().x0 >= box.x1
        assert each.get_xlim() == ax.get_xlim()
        assert [line.get_xdata()[0] for line in each.get_lines() if line.get_linestyle() == ":"] == [2]


def test_validation_without_a_number_of_steps():
    ax = nn.plot_history(SimpleNamespace(loss=[4.0, 3.0, 2.0, 1.0], validation_loss=[3.5, 1.5], metrics=None))
    assert drawn(ax)["loss"].get_xdata().tolist() == [0.5, 1.0, 1.5, 2.0]


def test_losses_over_orders_of_magnitude_are_logarithmic():
    assert nn.plot_history(SimpleNamespace(loss=[1.0, 1e-3, math.nan])).get_yscale() == "log"
    assert nn.plot_history(SimpleNamespace(loss=[1.0, 1e-3, 0.0])).get_yscale() == "linear"
    assert nn.plot_history(SimpleNamespace(loss=[1.0, math.inf])).get_yscale() == "linear"


def test_the_history_of_fit(pyplot):
    X, y = make_moons(20, 0.1, np.random.RandomState(0))
    model = nn.MLP(2, [3, 1], seed=0)

    def loss(X, y):
        return nn.hinge([model(x) for x in X], y)

    history = nn.fit(loss, model, nn.SGD(0.1), X, 2 * y - 1, epochs=3, batch_size=8, progress=False, seed=0)
    figure, ax = pyplot.subplots()
    assert history.plot(ax=ax) is ax
    assert drawn(ax)["loss"].get_xdata().tolist() == [1, 2, 3]
    assert len(drawn(ax)["loss of a batch"].get_xdata()) == 9
    assert len(figure.axes) == 1


def test_an_empty_history():
    with pytest.raises(fg.InputError, match="the history is empty"):
        nn.plot_history(SimpleNamespace(loss=[], validation_loss=None, metrics={}))


def test_matplotlib_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for call in (lambda: nn.plot_history(SimpleNamespace(loss=[1.0])),
                 lambda: nn.plot_decision_boundary(score, SQUARE, HALVES)):  # fmt: skip
        with pytest.raises(fg.MissingExtraError, match=r"pip install 'flatgrad\[plot\]'"):
            call()
