import numpy as np
import pytest

from igpt_keras.data.token_split import TokenSplit

ONE_HOT = np.eye(10, dtype="float32")[np.arange(20) % 10]


def opened(directory):
    np.save(directory / "x_trX.npy", np.zeros((20, 16), "int64"))
    return TokenSplit(directory / "x", ("train",), 16)


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
