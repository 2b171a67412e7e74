import pathlib

import numpy as np

from igpt_keras.storage.array_file import open_array


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
