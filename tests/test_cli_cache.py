"""`flatgrad cache info` and `flatgrad cache clear`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flatgrad.cli import _human, main
from flatgrad.compiler.machine.cache import ObjectCache

COMMAND = [sys.executable, "-m", "flatgrad", "cache"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the cache, which is not there yet."""
    for name in ("FLATGRAD_CACHE", "FLATGRAD_CACHE_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def called(capsys):
    """Call `main` in this process; return the exit status and both streams."""

    def call(*arguments):
        try:
            status = main(("cache", *arguments))
        except SystemExit as error:
            status = error.code
        return (status, *capsys.readouterr())

    return call


def fill(count):
    for k in range(count):
        ObjectCache().put(ObjectCache.key(str(k)), bytes(1_000 - 84))


def test_info(called, folder):
    fill(3)
    expected = f"folder   {folder}\nentries  3\nsize     3 kB of at most 256 MB\nstate    on\n"
    assert called("info") == (0, expected, "")


def test_info_of_nothing(called, folder, monkeypatch):
    monkeypatch.setenv("FLATGRAD_CACHE_SIZE", "1500")
    expected = f"folder   {folder}\nentries  0\nsize     0 bytes of at most 1.50 GB\nstate    on\n"
    assert called("info") == (0, expected, "")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("FLATGRAD_CACHE", "0", "FLATGRAD_CACHE=0"),
        ("FLATGRAD_CACHE_SIZE", "much", "FLATGRAD_CACHE_SIZE must be a number of MB, got 'much'"),
    ],
)
def test_info_says_why_it_is_off(called, folder, monkeypatch, name, text, reason):
    monkeypatch.setenv(name, text)
    status, out, err = called("info")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == f"state    off: {reason}"


@pytest.mark.skipif(os.name != "posix", reason="needs permissions of POSIX")
def test_info_of_a_folder_that_others_may_write(called, folder):
    fill(1)
    folder.chmod(0o777)
    status, out, err = called("info")
    assert (status, err) == (0, "")
    assert out.endswith(f"state    off: {folder} can be written by other users (mode 777, should be 700)\n")


@pytest.mark.parametrize(("count", "text"), [(0, "0 entries"), (1, "1 entry"), (12, "12 entries")])
def test_clear(called, folder, count, text):
    fill(count)
    assert called("clear") == (0, f"removed {text} from {folder}\n", "")
    assert ObjectCache().info().entries == 0


@pytest.mark.skipif(sys.platform != "linux", reason="where a home folder comes from differs")
def test_without_a_home_folder(called, folder, without_home):
    status, out, err = called("info")
    assert (status, err) == (0, "")
    assert out.startswith("folder   none\n")
    assert out.endswith("state    off: there is no home folder to keep it in\n")
    assert called("clear") == (0, "there is nothing to remove: there is no home folder to keep it in\n", "")


def test_what_cannot_be_removed_is_one_line_and_status_2(called, folder, monkeypatch):
    fill(1)

    def clear(_):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(ObjectCache, "clear", clear)
    status, out, err = called("clear")
    assert (status, out) == (2, "")
    assert err == f"flatgrad: Permission denied: {folder}\n"


@pytest.mark.parametrize("arguments", [(), ("frobnicate",), ("info", "clear")])
def test_wrong_arguments(called, folder, arguments):
    status, out, err = called(*arguments)
    assert (status, out) == (2, "")
    assert "usage: flatgrad" in err


def test_help(called):
    status, out, _ = called("--help")
    assert status == 0
    for name in ("FLATGRAD_CACHE=0", "FLATGRAD_CACHE_DIR", "FLATGRAD_CACHE_SIZE"):
        assert name in out.replace("\n", " ")


def test_as_a_process(folder):
    """Also where the terminal cannot show the folder's name."""
    environment = {**os.environ, "FLATGRAD_CACHE_DIR": str(folder / "é☃"), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*COMMAND, "info"], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9\\u2603" in done.stdout


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1 kB"),
        (1_234, "1.23 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (256_000_000, "256 MB"),
        (999_499_999, "999 MB"),
        (999_500_000, "1.00 GB"),
        (1_234_500_000_000, "1,234.50 GB"),
    ],
)
def test_sizes(size, text):
    assert _human(size) == text
