"""Writing files so that a crash at any moment leaves either the old content or all of the new."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file so that readers see either the old content or the new; return its path.

    The content goes to a draft beside the file, is flushed to the disk, and takes the file's name. A symbolic link
    stays one.

    Raises:
        OSError: where the file cannot be written; an older file of that name is still there then.
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
    finally:
        draft.unlink(missing_ok=True)
    return Path(path)
