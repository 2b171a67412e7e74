import os
import threading

import numpy as np
import pytest

from igpt_keras.storage.array_file import open_array
from igpt_keras.storage.array_file import write_array
from igpt_keras.storage.atomic_file import atomic_file
from igpt_keras.storage.json_file import write_json


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("stop", [OSError, KeyboardInterrupt])
def test_a_stop_keeps_what_was_there(stop, shared, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(stop):
        with atomic_file(path, shared=shared) as file:
            file.write(b"half of the n")
            raise stop
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_file(path, shared=shared) as file:
        file.write(b"new")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    """A machine that loses power must not leave an empty file."""
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def record(*arguments, name=name, real=real):
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(os, name, record)
    with atomic_file(tmp_path / "file") as file:
        file.write(b"content")
    assert calls == ["fsync", "replace"]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    with atomic_file(tmp_path / "file") as file:
        name = file.name
    with open(name, "wb") as left:
        left.write(b"a much longer half of a file")
    with atomic_file(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


def test_processes_that_share_a_file_do_not_mix(tmp_path):
    """Both write at the same time; the last to end is what stays, whole."""
    path = tmp_path / "file"
    both = threading.Barrier(2)

    def write(letter):
        with atomic_file(path, shared=True) as file:
            both.wait()
            file.write(letter * 100_000)
            both.wait()

    threads = [threading.Thread(target=write, args=(x,)) for x in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in (b"a" * 100_000, b"b" * 100_000)


def test_json_and_arrays(tmp_path):
    write_json(tmp_path / "value.json", {"a": [1, 2]})
    text = (tmp_path / "value.json").read_text()
    assert text == '{\n  "a": [\n    1,\n    2\n  ]\n}\n'
    with pytest.raises(TypeError):
        write_json(tmp_path / "value.json", {"a": object()})
    assert (tmp_path / "value.json").read_text() == text
    write_array(tmp_path / "array.npy", np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(
        open_array(tmp_path / "array.npy"), [[0, 1, 2], [3, 4, 5]]
    )
    assert os.stat(tmp_path / "array.npy").st_mode & 0o077 == (
        os.stat(tmp_path / "value.json").st_mode & 0o077
    )
