import pathlib

import numpy as np

from igpt_keras.data.token_file import load_token_file
from igpt_keras.data.token_rows import TokenRows
from igpt_keras.storage.array_file import open_array

FILES = {"train": "tr", "validation": "va", "test": "te"}


class TokenSplit:
    """Random access to a split that OpenAI released as tokens.

    `PREFIX_teX.npy` holds token ids of 512 colours and `PREFIX_teY.npy`
    one-hot labels; `tr` and `va` are the other splits. The tokens stay on
    disk.

    Args:
        prefix: path up to the underscore, such as `"datasets/cifar10"`.
        splits: keys of `FILES`, whose examples follow one another.
        sequence_length: int. Tokens per image, `N`.

    Attributes:
        rows: `TokenRows` of the tokens.
        labels: int32 array `(M,)`, -1 where there is no file of labels.
        class_names: tuple of str, the numbers of the classes.

    Raises:
        ValueError: if a file is not there or not such an array.
    """

    def __init__(self, prefix, splits, sequence_length):
        paths = [f"{prefix}_{FILES[split]}X.npy" for split in splits]
        parts = [
            load_token_file(path, sequence_length=sequence_length)
            for path in paths
        ]
        self.rows = TokenRows(parts)
        labels = [
            _load_labels(f"{path[: -len('X.npy')]}Y.npy", len(part))
            for path, part in zip(paths, parts)
        ]
        self.labels = np.concatenate([values for values, _ in labels])
        num_classes = max(count for _, count in labels)
        self.class_names = tuple(str(i) for i in range(num_classes))


def _load_labels(path, count):
    """int32 labels `(M,)` and the number of classes."""
    if not pathlib.Path(path).exists():
        return np.full(count, -1, "int32"), 0
    one_hot = open_array(path)
    if one_hot.dtype.kind not in "buif":
        raise ValueError(
            f"{path} holds {one_hot.dtype}, expected one-hot labels: numbers."
        )
    if (
        one_hot.ndim != 2
        or len(one_hot) != count
        or one_hot.shape[1] == 0
        or not (np.sum(one_hot, axis=1) == 1).all()
        or not (np.max(one_hot, axis=1) == 1).all()
        or not (np.min(one_hot, axis=1) >= 0).all()
    ):
        raise ValueError(
            f"{path} has shape {one_hot.shape}, expected one-hot labels of "
            f"{count} images: ({count}, classes), a single 1 in each row and "
            "zeros."
        )
    return np.argmax(one_hot, axis=1).astype("int32"), one_hot.shape[1]
