"""Checkpoints of training runs as files."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.errors import InputError, OptionError
from ..runtime.files import write_atomically

Array = np.ndarray[Any, np.dtype[Any]]


_PARTS = ("parameters", "initial", "state", "loss", "epoch_loss", "validation_loss", "best")


def write_checkpoint(path: Path, about: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Write a checkpoint: a crash at any moment leaves either the old one or the new one."""
    stream = io.BytesIO()
    np.savez(stream, about=np.array(json.dumps(about)), **arrays)
    write_atomically(path, stream.getvalue())


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """What a checkpoint says about its run, and its arrays.

    Raises:
        InputError: if it is damaged, or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            parts = {name: arrays[name] for name in arrays.files if name != "about"}
        fits = about["format"] == 1 and all(parts[name].dtype == float for name in _PARTS)
        fits = fits and isinstance(about["seed"], int) and isinstance(about["step"], int)
        fits = fits and all(f"metric{k}" in parts for k in range(len(about["metrics"])))
        fits = fits and {"fingerprint", "best_epoch", "seconds"} <= set(about)
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, TypeError, LookupError, AttributeError, EOFError,
            RuntimeError, SyntaxError, OverflowError, MemoryError, OSError) as error:  # fmt: skip
        raise InputError(f"{path} is not a checkpoint that can be read: it is damaged, or something else") from error
    if not fits:
        raise InputError(f"{path} is not a checkpoint that can be read: it is damaged, or something else")
    return about, parts


def check_writable(path: Path) -> None:
    """Before anything is computed: whether a checkpoint can be written there."""
    if path.is_dir():
        raise OptionError(f"checkpoint: {path} is a folder; give a file such as {path / 'run.npz'}")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"checkpoint: there is no folder {path.absolute().parent}")
