"""Writing files so that a crash at any moment leaves either the old content or all of the new."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file so that readers see either the old content or the new; return its path.

    The content goes to a draft beside the file, is flushed to the disk, and takes the file's name. A symbolic link
    stays one.

    Raises:
        OSError: where the file cannot be written; it names the file. An older file of that name is still there then.
    """
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {os.fspath(path)}: there is no folder {target.parent}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except OSError as error:  # it would name the draft
        raise type(error)(error.errno, f"cannot write {os.fspath(path)}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return Path(path)


def make_folder(path: Path) -> Path:
    """Make a folder, with those above it, unless it is there.

    Raises:
        OSError: where there cannot be one, or nothing can be written into it; it names the folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise type(error)(error.errno, f"cannot write into the folder {path}: {error.strerror}") from None
    return path
