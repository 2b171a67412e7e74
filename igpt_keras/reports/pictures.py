import math

import keras
import numpy as np

from igpt_keras.models.prompts import first_places
from igpt_keras.models.sampling import sample

COMPLETION_COLUMNS = "what is given, completions by the model, the original"


def sample_pictures(model, tokenizer, images, num_samples, seed=0, each=4):
    """Unconditional samples, and `each` completions of every image.

    Originals are as the tokenizer gives them back, so that completions differ
    from them by what the model drew, and not by the colours of a palette.

    Args:
        model: an autoregressive `IGPT`.
        tokenizer: its tokenizer.
        images: uint8 `(B, R, R, 3)`, of whose tokens those of `first_half`
            are given.
        num_samples: int.
        seed: int. Defaults to 0.
        each: int. Defaults to 4.

    Returns:
        uint8 `(num_samples, R, R, 3)`, `(B, each, R, R, 3)`, and the originals
        `(B, R, R, 3)`.
    """
    samples = sample(model, num_samples, seed=seed)
    token_ids = keras.ops.convert_to_numpy(tokenizer(images))
    completed = sample(
        model,
        len(images) * each,
        prompt=np.repeat(token_ids, each, axis=0),
        seed=seed,
        given=first_half(model).reshape(-1),
    )
    samples, completed, originals = (
        keras.ops.convert_to_numpy(tokenizer.detokenize(x))
        for x in (samples, completed, token_ids)
    )
    completions = completed.reshape(len(images), each, *completed.shape[1:])
    return samples, completions, originals


def first_half(model):
    """The tokens that come first in a model's order, half of them at most.

    Of squares that are predicted at once, whole ones.

    Args:
        model: an `IGPT` of square images.

    Returns:
        bool grid, True for the upper half in raster order.
    """
    side, size = math.isqrt(model.sequence_length), model.embedding.square_side
    squares = model.sequence_length // 2 // size**2
    first = first_places(model, squares * size**2)
    return first.reshape(side, -1)


def completion_rows(images, completions, given=None):
    """A row an image, with `COMPLETION_COLUMNS`.

    Args:
        images: uint8 `(B, R, R, 3)`.
        completions: uint8 `(B, each, R, R, 3)`.
        given: bool grid of the tokens that were given. Defaults to the upper
            half.

    Returns:
        uint8 `(B * (each + 2), R, R, 3)`.
    """
    resolution = images.shape[1]
    if given is None:
        given = np.arange(resolution)[:, None] < [resolution // 2] * resolution
    scale = resolution // len(given)
    given = given.repeat(scale, axis=0).repeat(scale, axis=1)
    kept = np.where(given[..., None], images, np.uint8(128))
    rows = np.concatenate([kept[:, None], completions, images[:, None]], axis=1)
    return rows.reshape(-1, *images.shape[1:])


def palette_squares(colours, side=15):
    """A square for each colour, from dark to bright.

    Args:
        colours: uint8 `(V, 3)`.
        side: int. Pixels of a square. Defaults to 15.

    Returns:
        uint8 `(V, side, side, 3)`.
    """
    luminance = colours @ [0.299, 0.587, 0.114]
    colours = colours[np.argsort(luminance, kind="stable")]
    shape = (len(colours), side, side, 3)
    return np.broadcast_to(colours[:, None, None], shape)


def tile(images, columns):
    """A grid with a pixel of white between images.

    Args:
        images: uint8 `(M, R, R, 3)`.
        columns: int. Images in a row, at most.

    Returns:
        uint8 `(H, W, 3)`, white where the last row has no more images.
    """
    columns = min(columns, len(images))
    blank = -len(images) % columns
    images = np.pad(
        images, [(0, blank), (0, 0), (0, 0), (0, 0)], constant_values=255
    )
    images = np.pad(
        images, [(0, 0), (1, 0), (1, 0), (0, 0)], constant_values=255
    )
    count, height, width, _ = images.shape
    grid = images.reshape(count // columns, columns, height, width, 3)
    grid = grid.swapaxes(1, 2).reshape(-1, columns * width, 3)
    return np.pad(grid, [(0, 1), (0, 1), (0, 0)], constant_values=255)


def enlarge(image, least=512):
    """Repeats pixels, so that viewers do not blur a small picture.

    Args:
        image: uint8 `(H, W, 3)`.
        least: int. Width in pixels to reach. Defaults to 512.

    Returns:
        uint8 `(k H, k W, 3)` of the least whole `k` that does.
    """
    factor = -(-least // image.shape[1])
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
