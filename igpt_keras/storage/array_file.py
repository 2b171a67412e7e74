import pathlib
import tokenize
import zipfile

import numpy as np

from igpt_keras.storage.atomic_file import atomic_file

# What `np.load` raises for files that are no array, or claim to be a huge one.
_NOT_AN_ARRAY = (
    ValueError,
    OSError,
    EOFError,
    OverflowError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)


def open_array(path):
    """Opens a `.npy` file, mapped and never unpickled.

    A header that lies about its size allocates nothing.

    Raises:
        ValueError: if there is no single array.
    """
    path = pathlib.Path(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _NOT_AN_ARRAY as error:
        raise ValueError(
            f"{path} is no array file: {error}. Expected a .npy array of "
            "numbers; Python objects are never unpickled."
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is no single .npy array.")
    return array


def write_array(path, array):
    """Writes a `.npy` file whole or not at all."""
    with atomic_file(path) as file:
        np.save(file, array, allow_pickle=False)
