"""`flatgrad train` on tables of three sizes: the processor time of the command, and how much of it the steps take."""

from __future__ import annotations

import csv
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.table import Row
from benchmarks.timing import quick, repeated

#: Rows and columns.
SIZES = ((150, 4), (1_000, 8), (20_000, 20))
_SHARE = re.compile(r"the steps took ([\d.]+) of ([\d.]+) s of processor time")


def measure_tables() -> list[Row]:
    """The second run and later ones, which find the compiled code on disk: the median of the shares, and its time."""
    shares = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rows, columns in [(60, 2)] if quick() else SIZES:
            data = _table(folder / "data.csv", rows, columns)
            _trained(data, folder / "model")
            taken = [_trained(data, folder / "model") for _ in repeated(5)]
            steps, seconds = sorted(taken, key=lambda pair: pair[0] / pair[1])[len(taken) // 2]
            least = statistics.median(seconds for _, seconds in taken)
            shares.append(f"{rows:,} x {columns}: **{100 * steps / seconds:.0f} %** of {least:.1f} s")
    return [Row("`flatgrad train`: the steps' share of the processor time", "50 %", ", ".join(shares))]


def _table(path: Path, rows: int, columns: int) -> Path:
    """Three classes, which mostly are the largest of three random sums of the columns."""
    source = np.random.RandomState(rows)
    X = source.normal(size=(rows, columns))
    scores = X @ source.normal(size=(columns, 3)) + 1.4 * np.sin(2.0 * X[:, :1]) + source.normal(size=(rows, 3))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{k}" for k in range(columns)), "y"])
        writer.writerows(
            [*(f"{number:.5f}" for number in row), "abc"[k]] for row, k in zip(X, scores.argmax(1), strict=True)
        )
    return path


def _trained(data: Path, folder: Path) -> tuple[float, float]:
    """The processor seconds of the steps, and of the command."""
    command = [sys.executable, "-m", "flatgrad", "train", data, "--target", "y", "--out", folder, "--overwrite"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    found = _SHARE.search(done.stdout)
    assert found is not None, done.stdout
    return float(found[1]), float(found[2])
