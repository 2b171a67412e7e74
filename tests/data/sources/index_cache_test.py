import os
import pathlib

import numpy as np
import pytest

from igpt_keras.data.sources import index_cache
from igpt_keras.data.sources.index_cache import cached_index


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg"


class Maker:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"values": np.arange(1000)}


def test_made_once_for_every_stamp_and_format(monkeypatch):
    make = Maker()
    for _ in range(2):
        index = cached_index("x", [1], make)
        assert list(index) == ["values"]
        np.testing.assert_array_equal(index["values"], np.arange(1000))
    assert make.calls == 1
    cached_index("x", [2], make)
    assert make.calls == 2
    monkeypatch.setattr(index_cache, "INDEX_FORMAT", 99)
    cached_index("x", [1], make)
    assert make.calls == 3


def half(path):
    path.write_bytes(path.read_bytes()[:500])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[4000] ^= 1
    path.write_bytes(content)


def foreign(path):
    np.savez(path, values=np.arange(3))


def single_array(path):
    with open(path, "wb") as file:
        np.save(file, np.arange(3))


@pytest.mark.parametrize(
    "damage",
    [
        half,
        flipped,
        foreign,
        single_array,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"text"),
    ],
)
def test_what_is_no_whole_index_is_made_again(damage, cache):
    make = Maker()
    cached_index("x", [1], make)
    (path,) = cache.rglob("*.npz")
    damage(path)
    for _ in range(2):
        assert len(cached_index("x", [1], make)["values"]) == 1000
        assert make.calls == 2


def test_unreadable_is_made_again(cache, monkeypatch):
    make = Maker()
    cached_index("x", [1], make)
    monkeypatch.setattr(np, "load", refuse)
    cached_index("x", [1], make)
    assert make.calls == 2


def refuse(*arguments, **keywords):
    raise PermissionError(13, "Permission denied")


def test_others_may_read_it(cache):
    old = os.umask(0o022)
    try:
        cached_index("x", [1], Maker())
    finally:
        os.umask(old)
    (path,) = cache.rglob("*.npz")
    assert path.stat().st_mode & 0o777 == 0o644


def test_without_a_place_to_keep_it(tmp_path, monkeypatch):
    make = Maker()
    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    cached_index("x", [1], make)
    # As where the user is none that the system knows.
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    cached_index("x", [1], make)
    assert make.calls == 2
    assert not list(tmp_path.rglob("*.npz"))
