"""What goes into a tokenizer and out of it."""

import keras
import numpy as np

from igpt_keras.backend import concrete


def check_images(images):
    """`images` if they are uint8 RGB `(B, R, R, 3)`, or a `ValueError`."""
    if isinstance(images, (list, tuple)):
        raise ValueError(
            "images must be one array (B, R, R, 3), received a "
            f"{type(images).__name__} of {len(images)}. Resize the images to "
            "one resolution and stack them."
        )
    shape, dtype = tuple(images.shape), images.dtype
    expected = "images must be uint8 RGB of shape (B, R, R, 3), 0 to 255"
    if len(shape) == 3:
        raise ValueError(
            f"{expected}, received {shape}. Add a batch axis with "
            "`images[None]`."
        )
    if len(shape) != 4 or shape[3] != 3:
        raise ValueError(
            f"{expected}, received {shape}. Greyscale: repeat the channel "
            "three times. Alpha: flatten it onto a background first."
        )
    if shape[1] is None or shape[1] != shape[2]:
        raise ValueError(f"{expected}, received {shape}. Crop to a square.")
    if keras.backend.standardize_dtype(dtype) != "uint8":
        raise ValueError(
            f"{expected}, received "
            f"{keras.backend.standardize_dtype(dtype)}. Images in [0, 1]: "
            "multiply by 255 and round before casting."
        )
    return images


def check_token_ids(token_ids, vocabulary_size):
    """A `ValueError` unless they are integers in `[0, vocabulary_size)`.

    Of tensors that are traced the values are not at hand.
    """
    token_ids = concrete(token_ids)
    if token_ids is None:
        return
    if not np.issubdtype(token_ids.dtype, np.integer):
        raise ValueError(
            f"token_ids must be integers, received {token_ids.dtype}."
        )
    if token_ids.size and not (
        0 <= token_ids.min() <= token_ids.max() < vocabulary_size
    ):
        raise ValueError(
            f"token_ids must be in [0, {vocabulary_size}), received "
            f"{token_ids.min()} to {token_ids.max()}."
        )
