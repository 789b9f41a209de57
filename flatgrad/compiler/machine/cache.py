"""Compiled objects on the disk, so that a second process starts without compiling.

The entries are machine code, so that one is handed out only if every byte of it is what `ObjectCache.put` wrote, and a
folder to which others may write is not used. Processes share the folder without locks: an entry appears whole, under
the name of its key, and a process that misses one compiles again. What goes wrong here is a warning, one per process.

| variable | effect |
| --- | --- |
| `FLATGRAD_CACHE` | 0, off, no or false: no cache; 1, on, yes or true: as without it |
| `FLATGRAD_CACHE_DIR` | the folder, instead of the one that the system has for caches |
| `FLATGRAD_CACHE_SIZE` | the limit in MB, instead of 256 |
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import secrets
import stat
import struct
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...runtime.errors import InputError, PerformanceWarning
from ...runtime.sites import user_level

#: An entry: magic, version of this format, key, length of the content, SHA-256 of the content; then the content.
_HEADER = struct.Struct(">8sI32sQ32s")
_MAGIC = b"\x89flatgrd"  # not a text in any encoding
_FORMAT = 1
_KEY = re.compile("[0-9a-f]{64}")
_ENTRY = re.compile(r"[0-9a-f]{64}\.object")
_DRAFT = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]+\.part")
#: A process that still writes to a draft after this many seconds has crashed.
_DRAFT_AGE = 3600.0
_MB = 1_000_000
#: Larger entries are not written.
_LARGEST = 1_000 * _MB
#: What `FLATGRAD_CACHE` may be; nothing is "on".
_ON, _OFF = ("", "1", "on", "yes", "true"), ("0", "off", "no", "false")
_DEFAULT_LIMIT = 256 * _MB
#: Making room makes this part of the limit, so that not every new entry of a full cache looks at all the others.
_SLACK = 16
#: Links are not followed and pipes not waited for, where the system can promise it.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)

_warned = False
_warn_lock = threading.Lock()


@dataclass(frozen=True)
class CacheInfo:
    """The state of a cache.

    Attributes:
        path: the folder, which need not exist yet; None if the system has none for caches.
        entries: how many compiled objects are in it.
        bytes: their size together.
        limit: the size in bytes above which the least recently used ones are removed.
        enabled: whether compiled objects are kept and used.
        reason: why not; empty if they are.
    """

    path: Path | None
    entries: int
    bytes: int
    limit: int
    enabled: bool
    reason: str


class ObjectCache:
    """A folder of compiled objects.

    One instance serves all threads of a process. The environment is read at each call.

    Args:
        folder: where the entries are; by default what the environment says, or a folder among the user's caches.
        limit: the size in bytes; by default what the environment says, or 256 MB.

    >>> ObjectCache.key("a program", b"bitcode") == ObjectCache.key("a program", "bitcode")
    True
    >>> ObjectCache.key("ab", "c") == ObjectCache.key("a", "bc")
    False
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, limit: int | None = None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._limit = limit
        #: How many bytes may go to which folder, with which limit, before the next look at what is there. Threads that
        #: change it at the same time lose a few bytes of the count, which the next look finds again.
        self._room: tuple[Path, int, int] | None = None

    @staticmethod
    def key(*parts: bytes | str) -> str:
        """The key of what is made from these parts: all that the content depends on, in a fixed order.

        A SHA-256 over the parts, each behind its length, so that no two lists of parts run into the same bytes.
        """
        digest = hashlib.sha256()
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            digest.update(struct.pack(">Q", len(data)))
            digest.update(data)
        return digest.hexdigest()

    def get(self, key: str) -> bytes | None:
        """The content that was put under a key; None if it is not there, or not exactly as it was written.

        What is there and is not such an entry (cut short, damaged, another's, a link) is removed.

        Raises:
            InputError: if `key` is not one that `ObjectCache.key` returns.
        """
        digest = _digest(key)
        folder, _ = self._usable()
        if folder is None:
            return None
        path = folder / f"{key}.object"
        try:
            content = _load(path, digest)
        except OSError:  # mostly: there is no such file
            return None
        with suppress(OSError):  # neither is needed for the answer
            if content is None:
                path.unlink()
            else:
                os.utime(path)  # the time of the last use
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep a content under a key; then, if the cache is over its limit, remove what was not used for longest.

        Nothing happens if the cache is off, or if the content alone is over the limit.

        Raises:
            InputError: if `key` is not one that `ObjectCache.key` returns.
        """
        digest = _digest(key)
        folder, limit = self._usable()
        if folder is None:
            return
        entry = _HEADER.pack(_MAGIC, _FORMAT, digest, len(content), hashlib.sha256(content).digest()) + content
        if len(entry) > min(limit, _LARGEST):
            return
        try:
            _make_private(folder)
            if reason := _refusal(folder):  # a file system without permissions, or another user was faster
                _warn(reason)
                return
            _write(folder, key, entry)
            self._make_room(folder, limit, f"{key}.object", len(entry))
        except OSError as error:
            _warn(f"{folder} cannot be written ({error.strerror or error})")

    def info(self) -> CacheInfo:
        """What is there, and whether it is used.

        Raises:
            OSError: if there is a folder that cannot be read.
        """
        folder, limit, reason = self._place()
        if _switched_off():
            reason = f"FLATGRAD_CACHE={os.environ['FLATGRAD_CACHE']}"
        sizes = [status.st_size for _, status in _files(folder, _ENTRY)]
        return CacheInfo(folder, len(sizes), sum(sizes), limit, not reason, reason)

    def clear(self) -> int:
        """Remove all entries, also those of a cache that is off; return how many. Other files are left alone.

        Raises:
            OSError: if there is a folder that cannot be read, or an entry that cannot be removed.
        """
        folder, _, _ = self._place()
        removed = 0
        for path, _ in _files(folder, _ENTRY):
            with suppress(FileNotFoundError):  # another process was faster
                path.unlink()
                removed += 1
        _remove_old_drafts(folder)
        self._room = None
        return removed

    def _usable(self) -> tuple[Path | None, int]:
        """The folder, or None if it is not to be used, which may be a warning; the limit in bytes."""
        if _switched_off():
            return None, 0
        folder, limit, reason = self._place()
        if reason:
            _warn(reason)
        return None if reason else folder, limit

    def _place(self) -> tuple[Path | None, int, str]:
        """The folder, the limit in bytes, and why the cache cannot be used: empty if it can."""
        limit, reason = _limit_from_environment() if self._limit is None else (self._limit, "")
        folder = _folder_from_environment() if self._folder is None else self._folder
        if folder is None:
            return None, limit, "there is no home folder to keep it in"
        if _switch() not in (*_ON, *_OFF):
            reason = (
                f"FLATGRAD_CACHE must be one of {', '.join((*_ON[1:], *_OFF))}, got {os.environ['FLATGRAD_CACHE']!r}"
            )
        return folder, limit, reason or _refusal(folder)

    def _make_room(self, folder: Path, limit: int, newest: str, size: int) -> None:
        """Remove the least recently used entries, if those of a folder may be over the limit together.

        `newest` stays: its file has just been written, with `size` bytes.
        """
        if self._room is not None and self._room[:2] == (folder, limit) and size <= self._room[2]:
            self._room = (folder, limit, self._room[2] - size)
            return
        _remove_old_drafts(folder)
        entries = sorted(_files(folder, _ENTRY), key=lambda item: item[1].st_mtime_ns)
        total = sum(status.st_size for _, status in entries)
        if total > limit:
            for path, status in entries:
                if path.name != newest:
                    with suppress(OSError):  # another process was faster, or has it open where that is a hindrance
                        path.unlink()
                        total -= status.st_size
                if total <= limit - limit // _SLACK:
                    break
        # Other processes write, too; hence no more than that part of the limit, however empty the cache is.
        self._room = (folder, limit, min(limit - total, limit // _SLACK))


def _digest(key: str) -> bytes:
    """The bytes of a key. Nothing else becomes the name of a file."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InputError(f"ObjectCache: expected a key made by ObjectCache.key, got {key!r}")
    return bytes.fromhex(key)


# --- what the environment says ----------------------------------------------------------------------------------------


def _switched_off() -> bool:
    return _switch() in _OFF


def _switch() -> str:
    return os.environ.get("FLATGRAD_CACHE", "").strip().lower()


def _limit_from_environment() -> tuple[int, str]:
    """The limit in bytes, and what is wrong with the variable that says it."""
    text = os.environ.get("FLATGRAD_CACHE_SIZE", "").strip()
    if not text:
        return _DEFAULT_LIMIT, ""
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = math.nan
    if not 0.0 <= megabytes < math.inf:
        return _DEFAULT_LIMIT, f"FLATGRAD_CACHE_SIZE must be a number of MB, got {text!r}"
    return int(min(megabytes * _MB, 2.0**62)), ""


def _folder_from_environment() -> Path | None:
    """The folder; None if the system has no folder for caches."""
    text = os.environ.get("FLATGRAD_CACHE_DIR", "")
    if text:
        folder = Path(os.path.expanduser(text))
        return None if str(folder).startswith("~") else folder  # there is no such user
    import platformdirs  # only here: `import flatgrad` stays cheap

    try:
        folder = platformdirs.user_cache_path("flatgrad", appauthor=False) / "objects"
    except RuntimeError:  # there is no home folder
        return None
    # Older versions do not notice: the path still begins with "~", and would be a folder of that name wherever we are.
    return folder if folder.is_absolute() else None


def _warn(reason: str) -> None:
    """Warn that nothing is kept, once per process."""
    global _warned
    with _warn_lock:
        if _warned:
            return
        _warned = True
    warnings.warn(
        f"flatgrad does not keep compiled code for later processes: {reason}; "
        "set FLATGRAD_CACHE_DIR to a private folder, or FLATGRAD_CACHE=0 to do without",
        PerformanceWarning,
        stacklevel=user_level(),
    )


# --- files ------------------------------------------------------------------------------------------------------------


def _others_may_write(status: os.stat_result) -> str:
    """How other users can change a file or folder; empty if they cannot, or if there are no such users."""
    if not hasattr(os, "geteuid"):
        return ""
    if status.st_uid != os.geteuid():
        return "belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by other users (mode {stat.S_IMODE(status.st_mode):o}, should be 700)"
    return ""


def _refusal(folder: Path) -> str:
    """Why a folder is not used; empty if it is, or if it does not exist yet."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{folder} cannot be read ({error.strerror or error})"
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} is not a folder"
    fault = _others_may_write(status)
    return f"{folder} {fault}" if fault else ""


def _make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for the user alone."""
    missing = [folder]
    while not missing[-1].parent.exists() and missing[-1].parent != missing[-1]:
        missing.append(missing[-1].parent)
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def _load(path: Path, digest: bytes) -> bytes | None:
    """The content of an entry; None if the file is anything but the entry of that key, as it was written.

    Raises:
        OSError: if there is no file, or it cannot be read.
    """
    if not stat.S_ISREG(path.lstat().st_mode):  # opening a pipe or a device may have an effect
        return None
    with open(os.open(path, _READ), "rb") as file:
        status = os.fstat(file.fileno())  # of the open file; another one may have its name by now
        if not stat.S_ISREG(status.st_mode) or _others_may_write(status):
            return None
        header = file.read(_HEADER.size)
        if len(header) != _HEADER.size:
            return None
        magic, version, of_key, length, checksum = _HEADER.unpack(header)
        if (magic, version, of_key, length + len(header)) != (_MAGIC, _FORMAT, digest, status.st_size):
            return None
        if length > _LARGEST:  # a sparse file can claim any size
            return None
        content = file.read(length)
    return content if hashlib.sha256(content).digest() == checksum else None


def _write(folder: Path, key: str, entry: bytes) -> None:
    """Write an entry so that others find all of it or none.

    It is not flushed to the disk: what a power cut leaves of it does not verify.
    """
    path = folder / f"{key}.object"
    draft = folder / f".{key}.{secrets.token_hex(8)}.part"
    try:
        with open(os.open(draft, _CREATE, 0o600), "wb") as file:
            file.write(entry)
        try:
            os.replace(draft, path)
        except PermissionError:  # Windows, where another process is reading the entry: then it need not be written
            if not path.is_file():
                raise
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _files(folder: Path | None, pattern: re.Pattern[str]) -> Iterator[tuple[Path, os.stat_result]]:
    """The files (and links) of a folder whose names match, none if there is no folder."""
    if folder is None:
        return
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):  # another process was faster
                    yield Path(entry.path), entry.stat(follow_symlinks=False)


def _remove_old_drafts(folder: Path | None) -> None:
    """Remove what processes that crashed have left; the drafts of those that run are young."""
    for path, status in _files(folder, _DRAFT):
        if status.st_mtime < time.time() - _DRAFT_AGE:
            with suppress(OSError):
                path.unlink()
