"""The cache of compiled objects: what is handed out is what was put, whatever happened to the files in between."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import random
import re
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from flatgrad.compiler.machine import cache as cache_module
from flatgrad.compiler.machine.cache import ObjectCache
from flatgrad.runtime.errors import InputError, PerformanceWarning
from tests.threads import in_threads

KEY = ObjectCache.key("a program", "options")
OTHER = ObjectCache.key("another program", "options")
CONTENT = b"\x7fELF machine code"
HEADER = 84

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs permissions of POSIX")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0
not_root = pytest.mark.skipif(is_root, reason="permissions do not hold root back")
only_root = pytest.mark.skipif(not is_root, reason="only root can give files away")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the cache, which is not there yet."""
    for name in ("FLATGRAD_CACHE", "FLATGRAD_CACHE_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_module, "_warned", False)
    return tmp_path / "cache"


@pytest.fixture
def cache(folder):
    """A cache; every warning fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield ObjectCache()


def path_of(folder, key=KEY):
    return folder / f"{key}.object"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def use_at(folder, key, seconds):
    """Set the time of an entry's last use."""
    os.utime(path_of(folder, key), (seconds, seconds))


def key_of(k):
    return ObjectCache.key(str(k))


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_the_digest_of_the_parts_behind_their_lengths():
    parts = b"\0\0\0\0\0\0\0\2ab" + b"\0\0\0\0\0\0\0\0" + b"\0\0\0\0\0\0\0\1c"
    assert ObjectCache.key("ab", b"", b"c") == hashlib.sha256(parts).hexdigest()


def test_keys_of_different_parts_differ():
    lists = [(), ("",), ("", ""), ("ab",), ("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"), ("a\0b",), ("A", "b")]
    assert len({ObjectCache.key(*parts) for parts in lists}) == len(lists)


def test_texts_are_as_their_bytes_even_those_that_utf_8_does_not_have():
    assert ObjectCache.key("é") == ObjectCache.key("é".encode())
    assert ObjectCache.key("\udc80") != ObjectCache.key("\udc81")


@pytest.mark.parametrize("key", ["", "../../etc/passwd", KEY.upper(), KEY[:-1], KEY + "0", KEY + "\n", KEY.encode(), 0])
def test_nothing_else_is_a_key(cache, folder, key):
    with pytest.raises(InputError, match="expected a key made by"):
        cache.get(key)
    with pytest.raises(InputError, match="expected a key made by"):
        cache.put(key, CONTENT)
    assert not folder.exists()


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\0", CONTENT, bytes(range(256)) * 1000], ids=len)
def test_what_was_put_is_got(cache, folder, content):
    assert cache.get(KEY) is None
    cache.put(KEY, content)
    assert cache.get(KEY) == content
    assert cache.get(OTHER) is None
    assert ObjectCache(folder).get(KEY) == content
    assert names(folder) == [f"{KEY}.object"], "no drafts are left"


def test_looking_makes_no_folder(cache, folder):
    assert cache.get(KEY) is None
    assert cache.info().entries == cache.clear() == 0
    assert not folder.exists()


def test_the_last_content_of_a_key_counts(cache):
    cache.put(KEY, b"old")
    cache.put(KEY, b"new, and longer")
    assert cache.get(KEY) == b"new, and longer"
    assert cache.info().entries == 1


def test_another_process_finds_it(cache, folder):
    cache.put(KEY, CONTENT)
    code = f"from flatgrad.compiler.machine.cache import ObjectCache; print(ObjectCache().get({KEY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (repr(CONTENT), "")


@posix
def test_all_is_for_the_user_alone(cache, folder, monkeypatch):
    """Also the folders above that had to be made, and whatever files are usually for."""
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(folder / "a" / "b"))
    before = os.umask(0)
    try:
        cache.put(KEY, CONTENT)
    finally:
        os.umask(before)
    assert [mode(path) for path in (folder, folder / "a", folder / "a" / "b")] == [0o700] * 3
    assert mode(path_of(folder / "a" / "b")) == 0o600
    assert cache.get(KEY) == CONTENT


def test_a_hit_is_a_use(cache, folder):
    cache.put(KEY, CONTENT)
    use_at(folder, KEY, 1_000)
    assert cache.get(KEY) == CONTENT
    assert path_of(folder).stat().st_mtime > time.time() - 60


def test_a_hit_whose_time_cannot_be_noted_is_a_hit(cache, monkeypatch):
    cache.put(KEY, CONTENT)

    def utime(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "utime", utime)
    assert cache.get(KEY) == CONTENT


# --- what does not verify ---------------------------------------------------------------------------------------------


def test_an_entry_cut_short_anywhere(cache, folder):
    cache.put(KEY, CONTENT)
    whole = path_of(folder).read_bytes()
    assert len(whole) == HEADER + len(CONTENT)
    for length in range(len(whole)):
        path_of(folder).write_bytes(whole[:length])
        assert cache.get(KEY) is None
        assert names(folder) == [], "it was removed"
        cache.put(KEY, CONTENT)
        assert cache.get(KEY) == CONTENT, "and can be put again"


def test_an_entry_with_something_behind_it(cache, folder):
    cache.put(KEY, CONTENT)
    whole = path_of(folder).read_bytes()
    for more in (b"\0", b"\n", whole):
        path_of(folder).write_bytes(whole + more)
        assert cache.get(KEY) is None


def test_any_flipped_bit(cache, folder):
    cache.put(KEY, CONTENT)
    whole = path_of(folder).read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path_of(folder).write_bytes(damaged)
        assert cache.get(KEY) is None, bit
    assert names(folder) == []


@pytest.mark.parametrize("foreign", [b"", b"\0" * 200, CONTENT, b"\x7fELF" + bytes(1000), b"MZ" * 100], ids=len)
def test_a_foreign_file_of_the_right_name(cache, folder, foreign):
    folder.mkdir(0o700)
    path_of(folder).write_bytes(foreign)
    assert cache.get(KEY) is None
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT


def test_an_entry_of_another_key(cache, folder):
    """Sound in itself, and wrong all the same."""
    cache.put(OTHER, b"other machine code")
    path_of(folder, OTHER).rename(path_of(folder))
    assert cache.get(KEY) is None
    assert cache.get(OTHER) is None
    assert names(folder) == []


def test_a_length_beyond_the_file_asks_for_no_memory(cache, folder):
    cache.put(KEY, CONTENT)
    whole = bytearray(path_of(folder).read_bytes())
    whole[44:52] = (2**63).to_bytes(8, "big")
    path_of(folder).write_bytes(whole)
    assert cache.get(KEY) is None


@posix
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_is_not_followed(cache, folder, tmp_path, dangling):
    cache.put(KEY, CONTENT)
    elsewhere = tmp_path / "elsewhere"
    path_of(folder).rename(elsewhere)
    path_of(folder).symlink_to(tmp_path / "nowhere" if dangling else elsewhere)
    assert cache.get(KEY) is None
    assert names(folder) == [], "the link was removed"
    assert elsewhere.exists(), "what it points to was not"


@posix
def test_putting_replaces_a_link_and_not_what_it_points_to(cache, folder, tmp_path):
    folder.mkdir(0o700)
    (tmp_path / "precious").write_bytes(b"precious")
    path_of(folder).symlink_to(tmp_path / "precious")
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(cache, folder):
    folder.mkdir(0o700)
    os.mkfifo(path_of(folder))
    assert cache.get(KEY) is None
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT


def test_a_folder_of_the_name_of_an_entry(folder):
    """It is nobody's entry, and may have something in it."""
    path_of(folder).mkdir(0o700, parents=True)
    folder.chmod(0o700)
    cache = ObjectCache()
    assert cache.get(KEY) is None
    assert (cache.info().entries, cache.clear()) == (0, 0)
    with pytest.warns(PerformanceWarning, match="cannot be written"):
        cache.put(KEY, CONTENT)
    cache.put(OTHER, CONTENT)
    assert cache.get(OTHER) == CONTENT
    assert path_of(folder).is_dir()


@posix
@pytest.mark.parametrize("bits", [0o620, 0o602, 0o666, 0o777])
def test_an_entry_that_others_may_write(cache, folder, bits):
    cache.put(KEY, CONTENT)
    path_of(folder).chmod(bits)
    assert cache.get(KEY) is None
    assert names(folder) == []


@only_root
def test_an_entry_of_another_user(cache, folder):
    cache.put(KEY, CONTENT)
    os.chown(path_of(folder), 12345, 12345)
    assert cache.get(KEY) is None
    assert names(folder) == []


@not_root
def test_an_entry_that_cannot_be_read(cache, folder):
    cache.put(KEY, CONTENT)
    path_of(folder).chmod(0o000)
    assert cache.get(KEY) is None
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT


# --- folders that are not used ----------------------------------------------------------------------------------------


def refused(match):
    """One warning per process, and nothing got or put."""
    cache = ObjectCache()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert cache.get(KEY) is None
        cache.put(KEY, CONTENT)
        cache.put(OTHER, CONTENT)
        assert ObjectCache().get(OTHER) is None
    assert [warning.category for warning in warned] == [PerformanceWarning]
    assert re.search(match, str(warned[0].message))
    assert "FLATGRAD_CACHE_DIR" in str(warned[0].message), "what to do"
    assert warned[0].filename == __file__
    return cache


def test_the_warning_names_the_line_of_the_user(tmp_path, monkeypatch, module_from):
    pytest.importorskip("llvmlite")
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(cache_module, "_warned", False)
    (tmp_path / "file").write_text("no folder")
    source = "import flatgrad as fg\n\nslope = fg.grad(lambda x: x * x + 0.125, backend='native')\nslope(1.0)\n"
    with pytest.warns(PerformanceWarning, match="is not a folder") as warned:
        module = module_from(source, "user")
    assert [(Path(each.filename).name, each.lineno) for each in warned] == [(Path(module.__file__).name, 4)]


@posix
@pytest.mark.parametrize("bits", [0o720, 0o702, 0o770, 0o777, 0o1777])
def test_a_folder_that_others_may_write(cache, folder, bits):
    """Even where its entries are sound: others could exchange them."""
    cache.put(KEY, CONTENT)
    folder.chmod(bits)
    refused(rf"{folder.name} can be written by other users \(mode {bits:o}, should be 700\)")
    assert names(folder) == [f"{KEY}.object"], "nothing was removed or added"
    info = cache.info()
    assert (info.entries, info.enabled) == (1, False)
    assert "can be written by other users" in info.reason
    folder.chmod(0o755)
    assert cache.get(KEY) == CONTENT, "others may look"


@posix
def test_a_folder_of_another_user(cache, folder, monkeypatch):
    cache.put(KEY, CONTENT)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    refused("belongs to another user")


@posix
def test_a_folder_that_turns_out_to_be_open_when_made(folder, monkeypatch):
    """As on file systems that know no permissions."""
    make = Path.mkdir

    def mkdir(self, mode=0o777, parents=False, exist_ok=False):
        make(self, 0o777, parents, exist_ok)
        self.chmod(0o777)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    refused("can be written by other users")
    assert names(folder) == []


def test_a_file_in_the_place_of_the_folder(folder):
    folder.write_bytes(b"precious")
    cache = refused("is not a folder")
    assert cache.info().reason.endswith("is not a folder")
    assert cache.clear() == 0
    assert folder.read_bytes() == b"precious"


def test_a_file_in_the_place_of_a_folder_above(folder, monkeypatch):
    folder.write_bytes(b"precious")
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(folder / "below"))
    refused("cannot be read|cannot be written")
    assert ObjectCache().info().entries == 0


@posix
def test_the_folder_may_be_a_link_to_a_private_one(cache, folder, tmp_path):
    (tmp_path / "disk").mkdir(0o700)
    folder.symlink_to(tmp_path / "disk")
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT
    (tmp_path / "disk").chmod(0o777)
    refused("can be written by other users")


@posix
def test_the_folder_may_not_be_a_link_to_nowhere(folder, tmp_path):
    folder.symlink_to(tmp_path / "nowhere")
    refused("cannot be written")


@not_root
@posix
def test_a_read_only_folder_can_be_read(cache, folder):
    cache.put(KEY, CONTENT)
    folder.chmod(0o500)
    try:
        assert cache.get(KEY) == CONTENT
        with pytest.warns(PerformanceWarning, match=r"cannot be written \(Permission denied\)"):
            cache.put(OTHER, CONTENT)
        cache.put(OTHER, CONTENT)
        assert cache.get(KEY) == CONTENT
    finally:
        folder.chmod(0o700)


@not_root
@posix
def test_a_folder_that_cannot_be_looked_into(folder):
    folder.mkdir(0o000)
    try:
        refused("cannot be written")
        with pytest.raises(PermissionError):
            ObjectCache().info()
        with pytest.raises(PermissionError):
            ObjectCache().clear()
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("failing", ["open", "replace", "scandir"])
def test_a_disk_that_fails(folder, monkeypatch, failing):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    cache = ObjectCache()
    with pytest.warns(PerformanceWarning, match=r"cannot be written \(No space left on device\)"):
        cache.put(KEY, CONTENT)
    cache.put(KEY, CONTENT)
    monkeypatch.undo()
    assert [name for name in names(folder) if name.endswith(".part")] == [], "no drafts are left"


def test_a_disk_that_is_full_in_the_middle_of_an_entry(folder, monkeypatch):
    """The draft goes; the old content stays."""
    cache = ObjectCache()
    cache.put(KEY, b"old")
    entry = path_of(folder).read_bytes()

    class Full(io.FileIO):
        def write(self, data):
            super().write(data[:10])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "open", Full, raising=False)
    with pytest.warns(PerformanceWarning, match="No space left"):
        cache.put(KEY, b"new")
    assert names(folder) == [f"{KEY}.object"]
    assert path_of(folder).read_bytes() == entry


# --- the environment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "off", "No", "false"])
def test_switched_off(cache, folder, monkeypatch, text):
    cache.put(KEY, CONTENT)
    monkeypatch.setenv("FLATGRAD_CACHE", text)
    assert cache.get(KEY) is None
    cache.put(OTHER, CONTENT)
    assert names(folder) == [f"{KEY}.object"]
    info = cache.info()
    assert (info.path, info.entries, info.enabled, info.reason) == (folder, 1, False, f"FLATGRAD_CACHE={text}")
    assert cache.clear() == 1, "which does not depend on it"
    monkeypatch.setenv("FLATGRAD_CACHE", "1")
    cache.put(OTHER, CONTENT)
    assert cache.get(OTHER) == CONTENT


@pytest.mark.parametrize("text", ["", " 1", "on", "Yes", "TRUE"])
def test_switched_on(cache, monkeypatch, text):
    monkeypatch.setenv("FLATGRAD_CACHE", text)
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT
    assert cache.info().enabled


@pytest.mark.parametrize("text", ["/home/me/cache", "2", "disabled"])
def test_a_switch_that_is_none(folder, monkeypatch, text):
    """A folder, say: that is another variable, which the warning names."""
    monkeypatch.setenv("FLATGRAD_CACHE", text)
    cache = refused(f"FLATGRAD_CACHE must be one of 1, on, yes, true, 0, off, no, false, got '{text}'")
    assert not cache.info().enabled
    assert not folder.exists()


@pytest.mark.parametrize(("text", "limit"), [("1", 10**6), ("0.5", 500_000), (" 1e3 ", 10**9), ("", 256 * 10**6)])
def test_the_limit(cache, monkeypatch, text, limit):
    monkeypatch.setenv("FLATGRAD_CACHE_SIZE", text)
    assert cache.info().limit == limit
    assert cache.info().enabled


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf", "1 MB"])
def test_a_limit_that_is_none(folder, monkeypatch, text):
    monkeypatch.setenv("FLATGRAD_CACHE_SIZE", text)
    cache = refused(f"FLATGRAD_CACHE_SIZE must be a number of MB, got '{text}'")
    assert not cache.info().enabled


def test_the_default_folder_is_among_the_users_caches(cache, tmp_path, monkeypatch):
    monkeypatch.delenv("FLATGRAD_CACHE_DIR")
    for name in ("HOME", "XDG_CACHE_HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    path = cache.info().path
    assert path.name == "objects"
    assert path.is_absolute()
    assert "flatgrad" in path.parts
    if sys.platform == "linux":
        assert path == tmp_path / "home" / "flatgrad" / "objects"
        cache.put(KEY, CONTENT)
        assert cache.get(KEY) == CONTENT


@pytest.mark.parametrize("path", ["~/.cache/flatgrad", ".cache/flatgrad"])
def test_versions_of_platformdirs_that_do_not_notice_that_there_is_no_home_folder(folder, monkeypatch, path):
    import platformdirs

    monkeypatch.delenv("FLATGRAD_CACHE_DIR")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: Path(path))
    refused("there is no home folder")


@pytest.mark.skipif(sys.platform != "linux", reason="where a home folder comes from differs")
def test_no_home_folder(folder, without_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = refused("there is no home folder")
    info = cache.info()
    assert (info.path, info.entries, info.enabled) == (None, 0, False)
    assert info.reason == "there is no home folder to keep it in"
    assert cache.clear() == 0
    assert names(tmp_path) == [], "no folder that is called ~"


@pytest.mark.skipif(sys.platform != "linux", reason="where a home folder comes from differs")
def test_a_home_folder_that_cannot_be_made(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("FLATGRAD_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    refused("cannot be read|cannot be written")


def test_the_users_tilde(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", "~/mine")
    assert cache.info().path == tmp_path / "mine"


def test_a_relative_folder(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", "mine/objects")
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT
    assert names(tmp_path / "mine" / "objects") == [f"{KEY}.object"]


def test_arguments_come_before_the_environment(cache, folder, tmp_path):
    mine = ObjectCache(tmp_path / "mine", limit=1_000)
    mine.put(KEY, CONTENT)
    assert mine.get(KEY) == CONTENT
    assert (mine.info().path, mine.info().limit) == (tmp_path / "mine", 1_000)
    assert not folder.exists()


def test_without_the_calls_of_posix(cache, folder, monkeypatch):
    """As on Windows: there are no owners; links are noticed all the same."""
    monkeypatch.delattr(os, "geteuid", raising=False)
    monkeypatch.setattr(cache_module, "_READ", os.O_RDONLY | getattr(os, "O_BINARY", 0))
    folder.mkdir()
    folder.chmod(0o777)
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT
    if hasattr(os, "symlink") and os.name == "posix":
        path_of(folder, OTHER).symlink_to(path_of(folder))
        assert cache.get(OTHER) is None


def test_an_entry_that_another_process_is_reading(cache, folder, monkeypatch):
    """Where a file that is open cannot be replaced: it has the same content, so nothing is missing."""
    cache.put(KEY, CONTENT)

    def replace(*_):
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(os, "replace", replace)
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT
    assert names(folder) == [f"{KEY}.object"]
    with pytest.raises(PerformanceWarning, match="cannot be written"):
        cache.put(OTHER, CONTENT)


def test_the_package_is_imported_without_any_of_it():
    code = "import sys, flatgrad; print('platformdirs' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- the limit --------------------------------------------------------------------------------------------------------


def filled(folder, limit, sizes):
    """A cache with entries of these sizes, headers included; the first was used the longest time ago."""
    for k, size in enumerate(sizes):
        ObjectCache(folder, limit).put(key_of(k), bytes(size - HEADER))
        use_at(folder, key_of(k), 1_000 + k)
    return ObjectCache(folder, limit)


def entries_of(folder, count):
    return [k for k in range(count) if path_of(folder, key_of(k)).exists()]


def test_the_least_recently_used_go_first(cache, folder):
    full = filled(folder, 1_000, [200] * 5)
    assert entries_of(folder, 5) == [0, 1, 2, 3, 4], "exactly full is not over"
    assert full.get(key_of(0)) is not None
    full.put(key_of(5), bytes(200 - HEADER))
    assert entries_of(folder, 6) == [0, 3, 4, 5], "below the limit by a sixteenth, so that the next need not look"
    assert full.info().bytes == 800


def test_the_limit_holds_in_the_long_run(cache, folder):
    written = ObjectCache(folder, 10_000)
    for k in range(300):
        written.put(key_of(k), bytes(random.Random(k).randrange(600)))
        assert written.info().bytes <= 10_000 + 10_000 // 16
    assert written.info().bytes >= 8_000, "and is made use of"
    assert written.get(key_of(299)) is not None


def test_few_of_many_calls_look_at_all_entries(cache, folder, monkeypatch):
    looks = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looks.append(path) or scandir(path))
    written = ObjectCache(folder, 100_000)
    for k in range(1_000):
        written.put(key_of(k), bytes(100))
    assert len(looks) < 100


def test_what_is_too_large_is_not_kept(cache, folder):
    full = filled(folder, 1_000, [200] * 5)
    full.put(KEY, bytes(1_001 - HEADER))
    assert entries_of(folder, 5) == [0, 1, 2, 3, 4]
    assert full.get(KEY) is None
    full.put(KEY, bytes(1_000 - HEADER))
    assert full.get(KEY) is not None, "the newest stays, whatever it costs the others"
    assert entries_of(folder, 5) == []


def test_a_limit_of_nothing(cache, folder, monkeypatch):
    monkeypatch.setenv("FLATGRAD_CACHE_SIZE", "0")
    cache.put(KEY, CONTENT)
    assert not folder.exists()


def test_a_smaller_limit_is_noticed(cache, folder, monkeypatch):
    for k in range(10):
        cache.put(key_of(k), bytes(1_000))
        use_at(folder, key_of(k), 1_000 + k)
    monkeypatch.setenv("FLATGRAD_CACHE_SIZE", "0.004")
    cache.put(key_of(10), bytes(1_000))
    assert entries_of(folder, 11) == [8, 9, 10]


def test_other_files_are_not_counted_and_stay(cache, folder):
    full = filled(folder, 1_000, [200] * 5)
    (folder / "notes.txt").write_bytes(bytes(5_000))
    (folder / f"{KEY}.txt").write_bytes(bytes(5_000))
    full.put(key_of(5), b"")
    assert {"notes.txt", f"{KEY}.txt"} < set(names(folder))
    assert full.info().entries == len(entries_of(folder, 6)) == 5


def test_drafts_of_crashed_processes(cache, folder):
    """Those of the last hour may be somebody's who still writes."""
    folder.mkdir(0o700)
    old, young = (folder / f".{KEY}.{name}.part" for name in ("00", "01"))
    foreign = folder / ".notes.part"
    for path in (old, young, foreign):
        path.write_bytes(b"half an ent")
    for path in (old, foreign):
        os.utime(path, (time.time() - 3_700,) * 2)
    os.utime(young, (time.time() - 3_500,) * 2)
    assert cache.info().entries == 0
    cache.put(OTHER, CONTENT)
    assert names(folder) == sorted([young.name, foreign.name, f"{OTHER}.object"])


# --- info and clear ---------------------------------------------------------------------------------------------------


def test_info(cache, folder):
    cache.put(KEY, CONTENT)
    cache.put(OTHER, b"")
    info = cache.info()
    assert (info.path, info.entries, info.bytes) == (folder, 2, 2 * HEADER + len(CONTENT))
    assert (info.limit, info.enabled, info.reason) == (256_000_000, True, "")


def test_clear(cache, folder, tmp_path):
    for k in range(10):
        cache.put(key_of(k), CONTENT)
    (folder / "notes.txt").touch()
    (folder / "more").mkdir()
    (folder / f"{KEY}.object~").touch()
    assert cache.clear() == 10
    assert names(folder) == sorted(["more", "notes.txt", f"{KEY}.object~"])
    assert cache.clear() == 0
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT


def test_an_entry_that_cannot_be_removed_is_said(cache, monkeypatch):
    cache.put(KEY, CONTENT)

    def unlink(*_, **__):
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(PermissionError):
        cache.clear()


# --- many at once -----------------------------------------------------------------------------------------------------


def content_of(key, version):
    """Recognisably whole, and of that key."""
    body = f"{key} {version} ".encode() * (1 + version * 40)
    return hashlib.sha256(body).digest() + body


def is_whole(content, key):
    return hashlib.sha256(content[32:]).digest() == content[:32] and content[32:].startswith(key.encode())


def work(folder, seed, operations):
    """Put, get and damage entries, and clear; return how many hits there were, and what was wrong."""
    choose = random.Random(seed)
    cache = ObjectCache(folder, limit=60_000)
    hits, wrong = 0, []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(operations):
            key, dice = key_of(choose.randrange(8)), choose.random()
            if dice < 0.4:
                cache.put(key, content_of(key, choose.randrange(10)))
            elif dice < 0.95:
                content = cache.get(key)
                hits += content is not None
                if content is not None and not is_whole(content, key):
                    wrong.append(key)
            elif dice < 0.99:  # what a crash or a full disk leaves
                path_of(Path(folder), key).write_bytes(content_of(key, 3)[: choose.randrange(200)])
            else:
                cache.clear()
    return hits, wrong + [str(warning.message) for warning in warned]


def test_processes_do_not_harm_each_other(cache, folder):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        results = pool.starmap(work, [(str(folder), seed, 400) for seed in range(3)], chunksize=1)
    assert [wrong for _, wrong in results] == [[], [], []]
    assert all(hits > 50 for hits, _ in results)
    assert [name for name in names(folder) if name.endswith(".part")] == []


def test_neither_do_threads(cache, folder):
    contents, wrong = [], []

    def run(seed):
        choose = random.Random(seed)
        for _ in range(150):
            key = key_of(choose.randrange(8))
            if choose.random() < 0.4:
                cache.put(key, content_of(key, choose.randrange(10)))
            elif (content := cache.get(key)) is not None:
                (contents if is_whole(content, key) else wrong).append(key)

    in_threads(run, 4)
    assert not wrong
    assert len(contents) > 100


# --- what others have found -------------------------------------------------------------------------------------------


def test_a_limit_beyond_all_measure(cache, monkeypatch):
    monkeypatch.setenv("FLATGRAD_CACHE_SIZE", "1e308")
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT
    assert cache.info().limit > 10**18


def test_the_home_of_nobody(cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", "~nosuchuser/cache")
    assert not cache.info().enabled
    assert "no home folder" in cache.info().reason
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_claims_to_be_enormous(cache, folder):
    """A sparse one: it takes no room on the disk, but would in memory."""
    cache.put(KEY, CONTENT)
    path = path_of(folder, KEY)
    size = 10**12
    header = cache_module._HEADER.pack(cache_module._MAGIC, cache_module._FORMAT, bytes.fromhex(KEY), size, bytes(32))
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + size)
    assert cache.get(KEY) is None
    assert not path.exists()
