"""Tests as another processor would run them: `python -m tests.restricted x86-64-v3 [arguments of pytest]`.

Machine code is made for a level of x86-64 (`generic` on other architectures), and NumPy does without the kernels that
need more than that level. A level that this processor does not have becomes the highest one that it has.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy  # noqa: F401 - its features are asked for

import flatgrad as fg
from flatgrad.compiler.machine import native

LEVELS = ["generic", "x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"]


def available(level: str) -> bool:
    """Whether machine code can be made for a level here."""
    try:
        native.Host(level)
    except (fg.OptionError, fg.MissingExtraError):
        return False
    return True


def dispatched(*parts: str) -> list[str]:
    """What NumPy chooses its kernels by, and can be told to do without: the features whose names have these parts."""
    core = sys.modules.get("numpy._core._multiarray_umath") or sys.modules["numpy.core._multiarray_umath"]
    here = [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]
    return [name for name in here if any(part in name for part in parts)]


def environment(level: str) -> dict[str, str]:
    """The variables that restrict a process to a level. NumPy's baseline, some versions' second level, stays."""
    hidden = {"x86-64-v4": [], "x86-64-v3": dispatched("512", "V4")}.get(level, dispatched(""))
    return {"FLATGRAD_CPU": level, "NPY_DISABLE_CPU_FEATURES": " ".join(hidden)}


def main(level: str, *arguments: str) -> int:
    if level not in LEVELS:
        raise SystemExit(f"expected one of {', '.join(LEVELS)}, got {level}")
    level = max((each for each in LEVELS[: LEVELS.index(level) + 1] if available(each)), key=LEVELS.index)
    variables = environment(level)
    print(*(f"{name}={value!r}" for name, value in variables.items()), flush=True)
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
