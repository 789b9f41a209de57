"""`flatgrad train` with folds: what a cross-validation measures and chooses, and the model that follows from it."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from flatgrad import RangeError, cli, nn, tabular
from flatgrad.nn.reruns import Reruns
from flatgrad.nn.step import TrainStep
from flatgrad.nn.storage import read_arrays
from flatgrad.tabular import Settings, TabularModel, folds, read_csv, report, training
from tests.test_cli_train import FILES, noisy_rows, number_rows, small_rows, write_rows

QUICK = "--folds", 3, "--epochs", 4, "--hidden", 3


@pytest.fixture
def small(tmp_path):
    return write_rows(tmp_path / "small.csv", small_rows())


@pytest.fixture
def run(tmp_path, capsys):
    """Train; return the exit status, standard output, the errors, and the history that was written."""

    def run(data, target, *options):
        capsys.readouterr()
        arguments = ["train", data, "--target", target, "--out", tmp_path / "model", "--overwrite", *options]
        status = cli.main([str(argument) for argument in arguments])
        path = tmp_path / "model" / "history.json"
        history = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        return status, *capsys.readouterr(), history

    return run


def test_the_rows_left_out_say_how_good_the_model_is_and_how_long_to_train(small, tmp_path, run):
    status, out, err, history = run(small, "kind", *QUICK)
    assert (status, err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == FILES
    assert "40 rows to train on, each left out of one of 3 folds, 10 times (seed 0)" in out
    chosen, measured = history["cross_validation"], history["report"]
    assert (chosen["folds"], chosen["repeats"], chosen["steps"]) == (3, 10, 3 * 10 * 4 * 4 * 3)
    assert chosen["decay"] in tabular.settings.DECAYS
    assert f"the least loss after {chosen['epochs']} epoch" in out
    assert f"weight decay {chosen['decay']:g}" in out
    assert len(history["epoch_loss"]) == chosen["epochs"] == history["best_epoch"] + 1
    assert len(history["loss"]) == 3 * chosen["epochs"]
    losses = history["validation_loss"]
    assert len(losses) == len(history["metrics"]["validation accuracy"]) == 4
    assert losses[history["best_epoch"]] == min(losses) == pytest.approx(measured["validation"]["loss"], rel=1e-12)
    each = measured["folds"]["validation"]["accuracy"]
    assert len(each) == 30
    assert measured["validation"]["accuracy"] == pytest.approx(np.mean(each), rel=1e-12)
    assert f"{np.mean(each):.4g} ± {np.std(each):.2g}" in out
    linear = measured["folds"]["linear"]["accuracy"]
    assert f"better in {sum(a > b for a, b in zip(each, linear, strict=True))} of 30 folds" in out
    assert measured["baseline"]["accuracy"] == pytest.approx(0.5, abs=0.05)
    assert "the steps took " in out


def test_the_written_loop_trains_to_the_written_model_on_all_rows(small, tmp_path, run):
    _, _, _, history = run(small, "kind", *QUICK, "--seed", 5)
    folder, module = tmp_path / "model", {}
    exec((folder / "training_loop.py").read_text(encoding="utf-8"), module)
    assert f"prepare({str(small)!r}, Settings(target='kind', seed=5, folds=3))" in module["__doc__"]
    preprocessing, part, empty = tabular.prepare(small, Settings("kind", seed=5, folds=3))
    assert (len(part), len(empty)) == (40, 0)
    assert preprocessing == TabularModel.load(folder).preprocessing
    steps = list(module["train"](part.inputs, part.targets, steps=len(history["loss"]), seed=5))
    assert [loss for _, loss, *_ in steps] == history["loss"]
    written = [n for array in read_arrays(folder / "model.safetensors").values() for n in array.ravel().tolist()]
    assert steps[-1][2] == written


def test_equal_seeds_give_equal_models(small, tmp_path, run):
    files = []
    for seed in (1, 1, 2):
        run(small, "kind", *QUICK, "--seed", seed)
        files.append((tmp_path / "model" / "model.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


def test_numbers_are_measured_in_their_own_unit(tmp_path, run):
    data = write_rows(tmp_path / "line.csv", number_rows())
    status, out, err, history = run(data, "y", "--folds", 4, "--epochs", 30, "--hidden", "none", "--optimizer", "adam")
    assert (status, err) == (0, "")
    assert history["cross_validation"]["decay"] is None
    assert "weight decay" not in out
    targets = np.array([row[2] for row in number_rows()[1:]])
    means = history["report"]
    assert means["baseline"]["RMSE"] == pytest.approx(targets.std(), rel=0.1)
    assert 3 < means["linear"]["RMSE"] < 8  # the noise has a standard deviation of 5
    assert means["linear"]["RMSE"] < means["validation"]["RMSE"] < 0.5 * targets.std()
    assert means["validation"]["R²"] > 0.7


def test_patience_is_with_the_mean_of_the_folds(tmp_path, run):
    data = write_rows(tmp_path / "noise.csv", noisy_rows())
    options = "--folds", 3, "--epochs", 200, "--hidden", 4, "--lr", 0.05, "--optimizer", "adam", "--patience", 3
    _, out, _, history = run(data, "y", *options)
    losses, best = history["validation_loss"], history["best_epoch"]
    assert len(losses) == best + 1 + 3 < 200
    assert losses[best] == min(losses)
    assert history["stopped_early"]
    assert out.split("\n\n")[1].startswith("stopped early: 30 folds")


def test_ctrl_c_trains_with_what_the_folds_have_shown(small, run, monkeypatch):
    calls, measured = [], folds._measured

    def interrupting(*arguments):
        calls.append(1)
        if len(calls) == 300:  # in the third epoch of 30 runs with 4 weight decays
            raise KeyboardInterrupt
        return measured(*arguments)

    monkeypatch.setattr(folds, "_measured", interrupting)
    status, out, err, history = run(small, "kind", *QUICK)
    assert (status, err) == (130, "flatgrad: interrupted; what was trained until then is written\n")
    assert "interrupted: 30 folds" in out
    assert history["interrupted"]
    assert len(history["validation_loss"]) == 2
    assert len(history["epoch_loss"]) == history["cross_validation"]["epochs"] <= 2


def test_ctrl_c_in_the_first_epoch_writes_nothing(small, tmp_path, run, monkeypatch):
    def interrupting(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(folds, "_measured", interrupting)
    status, _, err, _ = run(small, "kind", *QUICK)
    assert (status, err) == (130, "flatgrad: interrupted\n")
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", -1], "--folds must not be negative, got -1; 0 means no cross-validation"),
        (["--folds", 41], "--folds 41 of 40 rows leaves folds empty"),
        (["--folds", 3, "--validation", 0.2], "give either --folds or --validation"),
        (["--folds", 3, "--lr", 1e200, "--hidden", "none"], "the training diverged: its numbers became too large"),
    ],
)
def test_options_that_make_no_sense(small, run, options, message):
    status, _, err, history = run(small, "kind", *options)
    assert (status, history) == (2, None)
    assert message in err


def test_small_tables_have_folds_if_nobody_says_otherwise(small, monkeypatch):
    def count(**options):
        return training._prepare(read_csv(small), "classify", Settings("kind", **options), str).folds

    assert count() == 10
    assert count(folds=1) == count(validation=0.2) == count(validation=0.0) == count(hidden=(2_000, 2_000)) == 0
    assert count(hidden=(2_000, 2_000), folds=2) == 2
    monkeypatch.setattr(training, "_FOLD_ROWS", 39)
    assert count() == 0
    monkeypatch.setattr(training, "_FOLD_ROWS", 40)
    monkeypatch.setattr(training, "available", lambda: False)
    assert count() == 0


def test_figures_are_those_of_a_plain_computation(tmp_path, run):
    """A linear model, trained on each fold with NumPy alone, from the texts of the table."""
    rows = [[a if k % 7 else "", b, y] for k, (a, b, y) in enumerate(number_rows())]
    rows[0] = number_rows()[0]
    data, count, epochs = write_rows(tmp_path / "gaps.csv", rows), len(rows) - 1, 3
    options = "--folds", 4, "--epochs", epochs, "--hidden", "none", "--optimizer", "sgd", "--seed", 3
    status, _, _, history = run(data, "y", *options)
    assert status == 0
    names = [name for name in rows[0] if name != "y"]
    columns = [np.array([float(t or "nan") for t in read_csv(data).column(name)]) for name in names]
    y, batch = np.array([row[-1] for row in rows[1:]]), 16
    per_epoch = -(-count // batch)
    rate = nn.cosine_decay(0.05, 0.0005, epochs * per_epoch)
    preprocessing, _, _ = tabular.prepare(data, Settings("y", folds=4, seed=3))
    expected, explained = {name: [] for name in ("loss", "RMSE", "linear", "constant")}, []
    for repeat in range(history["cross_validation"]["repeats"]):
        start = TabularModel.new(preprocessing, (), "tanh", folds.start_seed(3, repeat)).parameters
        squares = 0.0
        for k, out in enumerate(folds.partition([range(count)], 4, folds.seed_of(3, "folds", repeat))):
            others = [row for row in range(count) if row not in out]
            scaled = [np.nan_to_num((c - np.nanmean(c[others])) / np.nanstd(c[others])) for c in columns]
            X, t = np.column_stack([*scaled, np.ones(count)]), (y - y[others].mean()) / y[others].std()
            source = np.random.RandomState(folds.seed_of(3, "order", repeat, k))
            passes = -(-epochs * per_epoch * batch // len(others))
            order = np.concatenate([source.permutation(len(others)) for _ in range(passes)])
            w, velocity = np.array(start), np.zeros(len(start))
            for step in range(epochs * per_epoch):
                chosen = np.array(others)[order[step * batch : (step + 1) * batch]]
                velocity = 0.9 * velocity + 2 / batch * X[chosen].T @ (X[chosen] @ w - t[chosen])
                w = w - rate(step) * velocity
            least = np.linalg.lstsq(X[others], t[others], rcond=None)[0]
            errors = {"RMSE": X[out] @ w - t[out], "linear": X[out] @ least - t[out], "constant": t[out]}
            for name, each in errors.items():
                expected[name].append(y[others].std() * np.sqrt(np.mean(each**2)))
            expected["loss"].append(np.mean(errors["RMSE"] ** 2))
            squares += np.sum((y[others].std() * errors["RMSE"]) ** 2)
        explained.append(1 - squares / np.sum((y - y.mean()) ** 2))
    assert history["cross_validation"]["epochs"] == epochs, "so that the last epoch is the one reported"
    measured = history["report"]["folds"]
    assert measured["validation"]["loss"] == pytest.approx(expected["loss"], rel=1e-9)
    assert measured["validation"]["RMSE"] == pytest.approx(expected["RMSE"], rel=1e-9)
    assert measured["validation"]["R²"] == pytest.approx(explained, rel=1e-9)
    assert measured["linear"]["RMSE"] == pytest.approx(expected["linear"], rel=1e-9)
    assert measured["baseline"]["RMSE"] == pytest.approx(expected["constant"], rel=1e-9)


def test_folds_of_single_rows_and_of_equal_targets(tmp_path, run):
    """R² is that of all rows of a partition: alone, a row has none. A fold may leave out the only other target."""
    rows = [["a", "y"], *([k % 3, 7.5 if k == 4 else 7.1] for k in range(12))]
    data = write_rows(tmp_path / "few.csv", rows)
    options = "--folds", 12, "--epochs", 1, "--hidden", "none", "--task", "regress", "--patience", 0
    status, out, err, history = run(data, "y", *options)
    assert (status, err) == (0, "")
    assert "model: 1 -> 1, linear, 2 parameters\nadamw, batches of 11, at most 1 epoch of 2 steps" in out
    for name in ("validation", "baseline", "linear"):
        measured = history["report"]["folds"][name]
        assert len(measured["R²"]) == 10
        assert max(measured["RMSE"]) < 2.0
    losses = history["report"]["folds"]["validation"]["loss"]
    assert max(losses) < 100, "a fold without another target is measured in the unit of all"
    y = np.array([row[1] for row in rows[1:]])
    left_out = [(value - np.delete(y, k).mean()) ** 2 for k, value in enumerate(y)]
    constant = 1 - np.sum(left_out) / np.sum((y - y.mean()) ** 2)
    assert history["report"]["baseline"]["R²"] == pytest.approx(constant, rel=1e-9)


def test_ctrl_c_between_the_last_runs_keeps_the_best_until_then(small, run, monkeypatch):
    calls, measures = [], training.measures

    def interrupting(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measures(*arguments)

    monkeypatch.setattr(training, "measures", interrupting)
    status, _, err, history = run(small, "kind", *QUICK)
    assert (status, err) == (130, "flatgrad: interrupted; what was trained until then is written\n")
    assert history["interrupted"]
    assert len(history["epoch_loss"]) == history["cross_validation"]["epochs"]


# --- parts --------------------------------------------------------------------------------------------------------


def table_with_gaps(tmp_path):
    source = random.Random(2)
    rows = [["a", "b", "c", "y"]]
    for k in range(24):
        a = "" if k % 5 == 0 else source.gauss(3.0, 2.0)
        rows.append([a, source.choice("uv"), "w" if k == 7 else "z", source.gauss(100.0, 10.0)])
    return read_csv(write_rows(tmp_path / "t.csv", rows))


def test_statistics_of_a_fold_come_from_its_training_rows_alone(tmp_path):
    data = table_with_gaps(tmp_path)
    prepared = training._prepare(data, "regress", Settings("y", folds=3), str)
    model = TabularModel.new(prepared.preprocessing, (), "tanh", 0)
    aside = [0, 3, 7, 11]  # the only row with the category "w" is among them
    others = [k for k in range(24) if k not in aside]
    part, rest, scale = folds._Cut(model, prepared.training, prepared.missing).at(aside)
    numbers = np.array([float(text) for text in data.take(others).column("a") if text])
    targets = np.array([float(text) for text in data.column("y")])
    assert scale == pytest.approx(targets[others].std(), rel=1e-12)
    for each, rows in ((part, others), (rest, aside)):
        texts = data.take(rows)
        expected = [(float(t) - numbers.mean()) / numbers.std() if t else 0.0 for t in texts.column("a")]
        assert np.array(each.inputs)[:, 0] == pytest.approx(expected, rel=1e-9)
        assert np.array(each.inputs)[:, 1:3].tolist() == [[float(t == "u"), float(t == "v")] for t in texts.column("b")]
        assert np.array(each.inputs)[:, 3:].tolist() == [[0.0, float(t == "z")] for t in texts.column("c")]
        assert each.targets == pytest.approx((targets[rows] - targets[others].mean()) / scale, rel=1e-9)


def test_each_row_is_left_out_once_and_classes_are_spread():
    groups = [list(range(13)), list(range(13, 20))]
    parts = folds.partition(groups, 4, seed=3)
    assert sorted(row for part in parts for row in part) == list(range(20))
    assert all(sum(row < 13 for row in part) in (3, 4) for part in parts)
    assert folds.partition(groups, 4, seed=4) != parts


@pytest.mark.parametrize("backend", ["native", "python"])
def test_reruns_make_the_steps_of_a_training_step(backend):
    source = np.random.RandomState(0)
    X, y = source.normal(size=(9, 2)), source.normal(size=9)
    order = source.randint(0, 9, size=5 * 3)

    def made(backend):
        w = [nn.MLP(2, [2, 1], activation="tanh", seed=1)]
        optimizer = nn.AdamW(nn.cosine_decay(0.1, 0.01, 5), weight_decay=0.3)
        loss = lambda X, y: nn.mse([w[0](x) for x in X], list(y))  # noqa: E731
        return TrainStep(loss, optimizer, w[0], backend=backend)

    step, model = made("python"), made(backend)
    for k in range(5):
        rows = order[3 * k : 3 * k + 3]
        step(X[rows], y[rows])
    reruns = Reruns(model, 3, 12, 2)
    assert (reruns._code is not None) == (backend == "native")
    numbers = np.array([model.optimizer.step_numbers(k) for k in range(5)])
    for _ in range(2):  # a second run begins afresh
        reruns.load(X, y)
        trained = reruns.begin(model.numbers)
        for few in (slice(0, 2), slice(2, 5)):
            reruns.advance(trained, numbers[few], order[3 * few.start : 3 * few.stop])
        assert trained.tolist() == [*step.numbers, *step.state[0], *step.state[1]]
    with pytest.raises(RangeError):
        reruns.advance(np.full_like(trained, 1e200), numbers, order)


def test_the_mean_of_folds_in_the_report():
    model = TabularModel.new(
        tabular.Preprocessing((tabular.NumberColumn("a", 0.0, 1.0),), tabular.NumberTarget("t", 0.0, 1.0)),
        (),
        "tanh",
        0,
    )
    each = {"validation": {"loss": [1.0, 2.0], "RMSE": [2.0, 4.0], "R²": [0.5, 0.7]}, "linear": {},
            "baseline": {"RMSE": [5.0, 3.0], "R²": [0.0, 0.0]}}  # fmt: skip
    measured = report.Report.of_folds(model, report.Part([[1.0], [2.0]], [0.0, 1.0]), each, 2)
    assert measured.validation == {"loss": 1.5, "RMSE": 3.0, "R²": pytest.approx(0.6)}
    header, _, rmse, _ = measured.rows()
    assert header[1:] == ["training", "rows left out", "always the mean"]
    assert rmse[2:] == ["3 ± 1", "4 ± 1"]
    assert measured.verdict() == (
        "not clearly better than always the mean (RMSE of the rows left out: 3, against 4; better in 1 of 2 folds)"
    )
    each["validation"]["RMSE"], each["baseline"]["RMSE"] = [2.0, 4.0], [5.0, 7.0]
    assert report.Report.of_folds(model, report.Part([[1.0]], [0.0]), each, 2).verdict() == (
        "better than always the mean (RMSE of the rows left out: 3, against 6; better in 2 of 2 folds)"
    )


@pytest.mark.filterwarnings("error")
def test_errors_that_are_too_large_for_floats_are_infinite():
    part = report.Part([[0.0]] * 3, [0.0, 1.0, 2.0])
    target = tabular.NumberTarget("t", 0.0, 1.0)
    for far in (1.2e154, 1e200, np.inf):
        measured = report.measures_of(target, np.array([[0.0, far]] * 3), part, 1.0)
        assert measured["loss"] == measured["RMSE"] == -measured["R²"] == np.inf


def test_a_difference_is_clear_if_it_is_twice_its_corrected_standard_error():
    source = np.random.RandomState(4)
    noise = source.normal(size=100)
    error = np.sqrt((1 / 100 + 1 / 9) * noise.var(ddof=1))  # of ten times ten folds
    for factor, clear in ((1.9, False), (2.1, True), (-2.1, False)):
        assert report.is_clear((noise - noise.mean() + factor * error).tolist(), 10) is clear
    assert report.is_clear([0.5, 0.5], 2)
    assert not report.is_clear([0.0, 0.0], 2)
