import numpy as np
import pytest

from igpt_keras.data import load_token_file


def test_maps_the_file(tmp_path):
    token_ids = np.arange(12, dtype="uint16").reshape(3, 4)
    np.save(tmp_path / "x.npy", token_ids)
    opened = load_token_file(tmp_path / "x.npy", 12, 4)
    np.testing.assert_array_equal(opened, token_ids)
    assert isinstance(opened, np.memmap)
    assert not opened.flags.writeable


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.array([[Bomb()] * 4]), "no array file: .*never unpickled"),
        (np.zeros((2, 4), "float32"), "float32, expected integer .* Y are lab"),
        (np.zeros((2, 5), "int32"), r"shape \(2, 5\), expected \(images, 4\)"),
        (np.zeros(4, "int32"), r"shape \(4,\)"),
        (np.zeros((0, 4), "int32"), "holds no image"),
        (np.array([[0, 1, 2, -1]]), r"token -1 in image 0.* in \[0, 12\)"),
    ],
)
def test_refuses(array, message, tmp_path):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        load_token_file(tmp_path / "x.npy", 12, 4)


def test_names_the_image_far_into_the_file(tmp_path):
    token_ids = np.zeros((9000, 4), "int16")
    token_ids[8500, 2] = 12
    np.save(tmp_path / "x.npy", token_ids)
    with pytest.raises(ValueError, match="token 12 in image 8500"):
        load_token_file(tmp_path / "x.npy", 12, 4)


def test_refuses_files_that_are_not_whole(tmp_path):
    path = tmp_path / "x.npy"
    with pytest.raises(ValueError, match="No token file at"):
        load_token_file(path, 12, 4)
    np.save(path, np.zeros((50, 4), "int32"))
    content = path.read_bytes()
    for damaged in (
        content[:-1],
        content[:20],
        b"",
        b"hello",
        b"PK\x03\x04",
        content.replace(b"(50, 4)", b"(50, 4,"),
        content.replace(b"(50, 4)", b"(5" + b"0" * 40 + b", 4)"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="no array file"):
            load_token_file(path, 12, 4)
    np.savez(tmp_path / "x.npz", np.zeros((50, 4), "int32"))
    with pytest.raises(ValueError, match="no single .npy array"):
        load_token_file(tmp_path / "x.npz", 12, 4)
