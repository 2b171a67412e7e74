import numpy as np
import pytest

from igpt_keras.data import load_token_file
from igpt_keras.data.sources.openai_tokens import OpenAITokens

ONE_HOT = np.eye(10, dtype="float32")[np.arange(20) % 10]


def opened(directory):
    np.save(directory / "x_trX.npy", np.zeros((20, 16), "int64"))
    return OpenAITokens(directory / "x", ("train",), 16)


def with_row(row):
    changed = ONE_HOT.copy()
    changed[7] = row + (10 - len(row)) * [0]
    return changed


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
def test_labels(dtype, tmp_path):
    np.save(tmp_path / "x_trY.npy", ONE_HOT.astype(dtype))
    split = opened(tmp_path)
    np.testing.assert_array_equal(split.labels, np.arange(20) % 10)
    assert len(split.class_names) == 10


@pytest.mark.parametrize(
    "array, message",
    [
        (
            with_row([1, 1, -1]),
            r"has shape .20, 10., expected one-hot labels of 20",
        ),
        (
            with_row([0.5, 0.5]),
            r"has shape .20, 10., expected one-hot labels of 20",
        ),
        (np.arange(20), r"has shape \(20,\), expected one-hot"),
        (np.zeros((20, 0)), r"has shape \(20, 0\), expected one-hot"),
        (ONE_HOT.astype("U3"), "holds <U3, expected one-hot labels: numbers"),
        (np.array([{}] * 20), "is no array file: .*never unpickled"),
    ],
)
def test_labels_that_are_not_one_hot(array, message, tmp_path):
    np.save(tmp_path / "x_trY.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=f"x_trY.npy {message}"):
        opened(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"junk"])
def test_label_files_that_are_no_array(content, tmp_path):
    (tmp_path / "x_trY.npy").write_bytes(content)
    with pytest.raises(ValueError, match="x_trY.npy is no array file"):
        opened(tmp_path)


def test_label_files_of_other_kinds(tmp_path):
    (tmp_path / "x_trY.npy").mkdir()
    with pytest.raises(ValueError, match="x_trY.npy is no array file"):
        opened(tmp_path)
    (tmp_path / "x_trY.npy").rmdir()
    with open(tmp_path / "x_trY.npy", "wb") as file:
        np.savez(file, ONE_HOT)
    with pytest.raises(ValueError, match="x_trY.npy is no single .npy array"):
        opened(tmp_path)


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
