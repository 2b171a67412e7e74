import pathlib

import numpy as np

from igpt_keras.data.sources.token_rows import TokenRows
from igpt_keras.storage.array_file import open_array

FILES = {"train": "tr", "validation": "va", "test": "te"}


class OpenAITokens:
    """Random access to a split that OpenAI released as tokens.

    `PREFIX_teX.npy` holds token ids of 512 colours and `PREFIX_teY.npy`
    one-hot labels; `tr` and `va` are the other splits. The tokens stay on
    disk.

    Args:
        prefix: path up to the underscore, such as `"datasets/cifar10"`.
        splits: keys of `FILES`, whose examples follow one another.
        sequence_length: int. Tokens per image, `N`.

    Attributes:
        labels: int32 array `(M,)`, -1 where there is no file of labels.
        class_names: tuple of str, the numbers of the classes.
        rows: `TokenRows` of the tokens.
        fetch: its `fetch`.

    Raises:
        ValueError: if a file is not there or not such an array.
    """

    default_resolution = 32
    # What they are of, and what made them, the files do not say.
    fingerprint = tokenizer = None

    def __init__(self, prefix, splits, sequence_length):
        paths = [f"{prefix}_{FILES[split]}X.npy" for split in splits]
        parts = [
            load_token_file(path, sequence_length=sequence_length)
            for path in paths
        ]
        self.rows = TokenRows(parts)
        self.fetch = self.rows.fetch
        labels = [
            _load_labels(f"{path[: -len('X.npy')]}Y.npy", len(part))
            for path, part in zip(paths, parts)
        ]
        self.labels = np.concatenate([values for values, _ in labels])
        num_classes = max(count for _, count in labels)
        self.class_names = tuple(str(i) for i in range(num_classes))


def load_token_file(path, vocabulary_size=512, sequence_length=1024):
    """Opens token ids from a `.npy` file, such as OpenAI's `cifar10_teX.npy`.

    The file is mapped, not read into memory, and never unpickled. Every id is
    checked once.

    Args:
        path: path of an integer array `(M, N)`.
        vocabulary_size: int. Number of tokens, `V`. Defaults to 512.
        sequence_length: int. Tokens per image, `N`. Defaults to 1024.

    Returns:
        NumPy integer array `(M, N)`, read-only, of the file's own dtype.

    Raises:
        ValueError: if the file is not there, is no such array, is empty, or
            holds an id outside `[0, V)`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"No token file at {path}.")
    token_ids = open_array(path)
    if not np.issubdtype(token_ids.dtype, np.integer):
        raise ValueError(
            f"{path} holds {token_ids.dtype}, expected integer token ids. The "
            "files ending in Y are labels; tokens are in those ending in X."
        )
    if token_ids.ndim != 2 or token_ids.shape[1] != sequence_length:
        raise ValueError(
            f"{path} has shape {token_ids.shape}, expected (images, "
            f"{sequence_length}): that many tokens is what the model takes."
        )
    if len(token_ids) == 0:
        raise ValueError(f"{path} holds no image.")
    rows = 4096
    for start in range(0, len(token_ids), rows):
        chunk = token_ids[start : start + rows]
        wrong = (chunk < 0) | (chunk >= vocabulary_size)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"{path} holds token {chunk[row, column]} in image "
                f"{start + row}, and tokens are in [0, {vocabulary_size}). The "
                "file belongs to another palette, or is damaged."
            )
    return token_ids


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
