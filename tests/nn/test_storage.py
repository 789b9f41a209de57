"""Files of parameters: round trips, damage of every kind, and writes that are interrupted."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.nn import storage

SUFFIXES = [".npz", ".safetensors"]
SPECIAL = [-0.0, 5e-324, float("inf"), -float("inf"), float("nan"), 0.1]


def model(seed=1):
    return nn.MLP(2, [3, 1], seed=seed)


def numbers(module):
    return [p.data for p in module.parameters()]


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"model{request.param}"


def test_what_was_saved_is_loaded(path):
    first, second = model(1), model(2)
    first.save(path)
    second.load(str(path))
    assert numbers(second) == numbers(first)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "no draft is left behind"


def test_every_float_survives(path):
    first, second = nn.Neuron(len(SPECIAL) - 1), nn.Neuron(len(SPECIAL) - 1)
    for parameter, data in zip(first.parameters(), SPECIAL, strict=True):
        parameter.data = data
    first.save(path)
    second.load(path)
    assert struct.pack("<6d", *numbers(second)) == struct.pack("<6d", *SPECIAL)


def test_the_same_numbers_give_the_same_bytes(path):
    model().save(path)
    first = path.read_bytes()
    path.unlink()
    model().save(path)
    assert path.read_bytes() == first


def test_names_and_shapes_of_every_kind(path):
    arrays = {"file": np.ones(2), "wörter.0": np.zeros((2, 3)), "a/b": np.array(1.5), "empty": np.zeros((0, 2))}
    storage.write_arrays(path, arrays)
    loaded = storage.read_arrays(path)
    assert {name: array.tolist() for name, array in loaded.items()} == {n: a.tolist() for n, a in arrays.items()}
    assert {name: array.shape for name, array in loaded.items()} == {n: a.shape for n, a in arrays.items()}
    storage.write_arrays(path, {})
    assert storage.read_arrays(path) == {}


def test_numpy_reads_and_writes_npz(tmp_path):
    path = tmp_path / "model.npz"
    first = model(1)
    first.save(path)
    with np.load(path, allow_pickle=False) as arrays:
        assert sorted(arrays) == sorted(first.state_dict())
        assert all(np.array_equal(arrays[name], array) for name, array in first.state_dict().items())
    second = model(2)
    np.savez_compressed(path, **first.state_dict())
    second.load(path)
    assert numbers(second) == numbers(first)
    np.savez(path, **{name: array.astype(np.float32) for name, array in first.state_dict().items()})
    second.load(path)
    assert numbers(second) == [float(np.float32(x)) for x in numbers(first)]


def test_the_layout_of_safetensors(tmp_path):
    path = tmp_path / "neuron.safetensors"
    neuron = nn.Neuron(2)
    neuron.load_state_dict({"w": [1.0, 2.0], "b": 3.0})
    neuron.save(path)
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    assert size % 8 == 0
    assert json.loads(content[8 : 8 + size]) == {
        "w": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]},
        "b": {"dtype": "F64", "shape": [], "data_offsets": [16, 24]},
    }
    assert struct.unpack("<3d", content[8 + size :]) == (1.0, 2.0, 3.0)


def test_the_safetensors_package_reads_and_writes_the_same(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    first, second = model(1), model(2)
    first.save(path)
    arrays = safetensors.load_file(path)
    assert all(np.array_equal(arrays[name], array) for name, array in first.state_dict().items())
    safetensors.save_file(first.state_dict(), path, metadata={"made": "elsewhere"})
    second.load(path)
    assert numbers(second) == numbers(first)


def header(entries, numbers=b"", size=None):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + numbers


def entry(shape=(1,), offsets=(0, 8), dtype="F64"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


EIGHT = bytes(8)


def test_smaller_floats_are_read(tmp_path):
    path = tmp_path / "a.safetensors"
    data = np.array([1.5], "<f4").tobytes() + np.array([0.25], "<f2").tobytes()
    text = {"__metadata__": {"x": "y"}, "a": entry((1,), (0, 4), "F32"), "b": entry((), (4, 6), "F16")}
    path.write_bytes(header(text, data))
    assert {name: array.tolist() for name, array in storage.read_arrays(path).items()} == {"a": [1.5], "b": 0.25}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its header is incomplete"),
        (b"1234567", "its header is incomplete"),
        (header({}, size=2**63), "its header is incomplete"),
        (header(b"[1, 2"), "its header is no JSON"),
        (header(b"\xff\xfe"), "its header is no JSON"),
        (header(b"[" * 100_000), "its header is no JSON"),
        (header([]), "its header is no table"),
        (header({"a": 1}), "does not describe 'a'"),
        (header({"a": {"dtype": "F64"}}), "does not describe 'a'"),
        (header({"a": entry((1,), (0, 8, 9))}), "does not describe 'a'"),
        (header({"a": entry((-1,))}, EIGHT), "does not describe 'a'"),
        (header({"a": entry((1.0,))}, EIGHT), "does not describe 'a'"),
        (header({"a": entry((1,), (8, 0))}, EIGHT), "does not describe 'a'"),
        (header({"a": entry(dtype="BF16")}, EIGHT), "holds 'a' of type BF16; only F64, F32, F16 can be loaded"),
        (header({"a": entry(dtype=[1])}, EIGHT), "only F64, F32, F16"),
        (header({"a": entry()}, EIGHT[:-1]), "cut short: the numbers of 'a' are not all there"),
        (header({"a": entry((2,))}, EIGHT), "shape and length of 'a' do not agree"),
        (header({"a": entry((2**62, 2**62))}, EIGHT), "shape and length of 'a' do not agree"),
        (header({"a": entry()}, EIGHT + b"x"), "1 bytes belong to no array"),
        (header({"a": entry(), "b": entry()}, EIGHT), "overlap or leave holes"),
        (header({"a": entry((1,), (8, 16))}, 2 * EIGHT), "overlap or leave holes"),
    ],
)
def test_damaged_safetensors(tmp_path, content, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(nn.FileFormatError, match=f"^{re.escape(str(path))} .*{message}"):
        storage.read_arrays(path)


def test_every_truncation_is_noticed(path):
    first = model()
    first.save(path)
    content = path.read_bytes()
    before = numbers(first)
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(nn.FileFormatError, match="cut short"):
            first.load(path)
    assert numbers(first) == before


@given(st.data())
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damage_never_shows_as_a_strange_error(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("damage") / f"a{suffix}"
    nn.Neuron(2, seed=1).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    neuron = nn.Neuron(2, seed=2)
    before = numbers(neuron)
    try:
        neuron.load(path)
    except (nn.FileFormatError, fg.InputError):
        assert numbers(neuron) == before


def test_npz_notices_each_changed_number(tmp_path):
    path = tmp_path / "a.npz"
    neuron = nn.Neuron(1, seed=1)
    neuron.save(path)
    content = path.read_bytes()
    place = content.index(struct.pack("<d", neuron.w[0].data))
    for k in range(8):
        damaged = bytearray(content)
        damaged[place + k] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(nn.FileFormatError, match="damaged"):
            neuron.load(path)


class Bomb:
    def __reduce__(self):
        return os.abort, ()


def test_nothing_in_a_file_is_executed(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, w=np.array([Bomb()], dtype=object))
    with pytest.raises(nn.FileFormatError, match="Object arrays cannot be loaded"):
        nn.Neuron(1).load(path)
    for name in ("b.npz", "b.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps({"w": Bomb}))
        with pytest.raises(nn.FileFormatError, match="is not"):
            nn.Neuron(1).load(tmp_path / name)


def test_other_archives(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(nn.FileFormatError, match=r"holds 'readme.txt', which is not an array"):
        nn.Neuron(1).load(path)
    np.savez(path, w=np.array(["a"]))
    with pytest.raises(nn.FileFormatError, match="of type <U1, where numbers are expected"):
        nn.Neuron(1).load(path)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(nn.FileFormatError, match=r"not an \.npz file"):
        nn.Neuron(1).load(path)


def test_a_file_of_another_model(path):
    nn.MLP(2, [4, 1]).save(path)
    other = model()
    before = numbers(other)
    with pytest.raises(fg.InputError, match=rf"^{re.escape(str(path))}: the state does not fit this MLP: not in the"):
        other.load(path)
    assert numbers(other) == before
    nn.Neuron(2, seed=3).save(path)
    neuron = nn.Neuron(2)
    neuron.extra = Value(1.0)
    neuron.load(path, strict=False)
    assert numbers(neuron) == numbers(nn.Neuron(2, seed=3))


@pytest.mark.parametrize("name", ["model", "model.pkl", "model.pt", ".npz", "model.npz.bak"])
def test_unknown_suffixes(tmp_path, name):
    for action in (model().save, model().load):
        with pytest.raises(fg.OptionError, match=r"unknown suffix '.*'; choose \.npz or \.safetensors"):
            action(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_suffixes_in_capitals(tmp_path):
    first, second = model(1), model(2)
    first.save(tmp_path / "A.NPZ")
    second.load(tmp_path / "A.NPZ")
    assert numbers(second) == numbers(first)


def test_a_missing_file_or_folder(path):
    with pytest.raises(FileNotFoundError):
        model().load(path)
    with pytest.raises(FileNotFoundError):
        model().save(path.parent / "nowhere" / path.name)


@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file(path, monkeypatch, stage):
    model(1).save(path)
    before = path.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, stage, interrupted)
    with pytest.raises(KeyboardInterrupt):
        model(2).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_parameter_named_as_the_metadata(tmp_path):
    module = nn.Module()
    module.__metadata__ = Value(1.0)
    with pytest.raises(fg.InputError, match=r"save as \.npz"):
        module.save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
    module.save(tmp_path / "a.npz")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")
def test_permissions_and_links_are_as_for_any_file(path):
    plain = path.parent / "plain"
    plain.write_bytes(b"")
    model(1).save(path)
    assert path.stat().st_mode == plain.stat().st_mode
    link = path.with_name(f"link{path.suffix}")
    link.symlink_to(path)
    model(2).save(link)
    assert link.is_symlink()
    loaded = model(3)
    loaded.load(path)
    assert numbers(loaded) == numbers(model(2))
