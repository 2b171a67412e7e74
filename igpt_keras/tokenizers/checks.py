"""What goes into a tokenizer and out of it."""

import keras

from igpt_keras.backend import concrete


def check_images(images):
    """`images` if they are uint8 RGB `(B, R, R, 3)`, or a `ValueError`."""
    if isinstance(images, (list, tuple)):
        raise ValueError(
            "images must be one array (B, R, R, 3), received a "
            f"{type(images).__name__} of {len(images)}. Resize the images to "
            "one resolution and stack them."
        )
    expected = "images must be uint8 RGB of shape (B, R, R, 3), 0 to 255"
    if not (hasattr(images, "shape") and hasattr(images, "dtype")):
        raise ValueError(f"{expected}, received a {type(images).__name__}.")
    shape, dtype = tuple(images.shape), images.dtype
    if len(shape) == 3 and shape[2] != 3:
        raise ValueError(
            f"{expected}, received {shape}. Greyscale images become RGB by "
            "`keras.ops.repeat(images[..., None], 3, axis=-1)`."
        )
    if len(shape) == 3:
        raise ValueError(
            f"{expected}, received {shape}. Add a batch axis with "
            "`images[None]`."
        )
    if len(shape) != 4:
        raise ValueError(f"{expected}, received {shape}.")
    if shape[3] != 3:
        raise ValueError(
            f"{expected}, received {shape}. Greyscale: repeat the channel, "
            "`keras.ops.repeat(images, 3, axis=-1)`. Alpha: flatten it "
            "onto a background first."
        )
    if shape[1] is None or shape[2] is None:
        raise ValueError(
            f"{expected}, received {shape}: the side is not known before "
            "images are read. Resize them to one, or set their shape."
        )
    if shape[1] != shape[2]:
        raise ValueError(f"{expected}, received {shape}. Crop to a square.")
    if keras.backend.standardize_dtype(dtype) != "uint8":
        raise ValueError(
            f"{expected}, received "
            f"{keras.backend.standardize_dtype(dtype)}. Images in [0, 1]: "
            "multiply by 255 and round before casting."
        )
    return images


def token_ids_shape(token_ids):
    """The shape of token ids, a `ValueError` if they are no array."""
    if not (hasattr(token_ids, "shape") and hasattr(token_ids, "dtype")):
        raise ValueError(
            f"token_ids must be an array, received a "
            f"{type(token_ids).__name__}. Convert it with `numpy.asarray`."
        )
    return tuple(token_ids.shape)


def check_token_ids(token_ids, vocabulary_size):
    """A `ValueError` unless they are integers in `[0, vocabulary_size)`.

    Of tensors that are traced the values are not at hand.
    """
    dtype = keras.backend.standardize_dtype(token_ids.dtype)
    if "int" not in dtype:
        raise ValueError(f"token_ids must be integers, received {dtype}.")
    token_ids = concrete(token_ids)
    if token_ids is None:
        return
    if token_ids.size and not (
        0 <= token_ids.min() <= token_ids.max() < vocabulary_size
    ):
        raise ValueError(
            f"token_ids must be in [0, {vocabulary_size}), received "
            f"{token_ids.min()} to {token_ids.max()}."
        )
