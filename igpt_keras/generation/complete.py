import math

import keras
import numpy as np

from igpt_keras.data.open_pictures import open_pictures
from igpt_keras.generation.fill_pictures import fill_pictures
from igpt_keras.generation.given_tokens import given_tokens
from igpt_keras.generation.picture_resolution import picture_resolution
from igpt_keras.layers.check_positive_ints import check_positive_ints

# Pictures that are tokenized at a time.
_BATCH = 64


def complete(
    model,
    tokenizer,
    pictures,
    keep=0.5,
    num_completions=4,
    temperature=1.0,
    top_k=None,
    top_p=None,
    seed=0,
    verbose=0,
    draft=None,
    draft_tokens=4,
):
    """Keeps a part of each picture, and has the model draw the rest.

    Tokens are drawn in the model's order, each from all that are before it. In
    raster order `keep="left"` is what the model can do with a left half, and
    not more: it draws the right half of a row before it has seen the left half
    of the next, and it costs a pass over the picture for each row. A model of
    `order="columns"` draws the right half from all of the left one, in one
    pass, and has that trouble with `"top"`.

    What is kept comes back as the tokenizer shows it: in the colours of its
    palette, or decoded from the codes of its VQ-VAE, where it also depends a
    little on what was drawn beside it.

    Args:
        model: an autoregressive `IGPT`, or an `IGPTClassifier` around one.
        tokenizer: its tokenizer.
        pictures: uint8 `(P, R, R, 3)` of the resolution of the model, or of
            its VQ-VAE; or a list of paths and PIL images of any size, of which
            the centre square is taken, upright by EXIF and transparent parts
            over white. The latter needs TensorFlow.
        keep: `"top"` or `"left"`, that half, or the fraction of the rows that
            is kept from the top, to a whole row of tokens. Defaults to 0.5.
        num_completions: int. Of each picture. Defaults to 4.
        temperature: finite float >= 0. Defaults to 1.0; the paper's samples of
            VQ-VAE codes were drawn at 0.98.
        top_k: as in `sample`.
        top_p: as in `sample`.
        seed: int >= 0. Defaults to 0.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.
        draft: as in `sample`.
        draft_tokens: as in `sample`.

    Returns:
        uint8 `(P, num_completions, R, R, 3)`, nothing chosen or left out.

    Raises:
        ValueError: if the model cannot sample or has no tokenizer, a picture
            is none, or an argument is out of range.

    Example:
    >>> import igpt_keras
    >>> model = igpt_keras.IGPT.from_preset(
    ...     "igpt_nano", vocabulary_size=2, sequence_length=16
    ... )
    >>> tokenizer = igpt_keras.PaletteTokenizer([[-1.0] * 3, [1.0] * 3])
    >>> pictures = np.zeros((1, 4, 4, 3), "uint8")
    >>> complete(model, tokenizer, pictures, num_completions=2).shape
    (1, 2, 4, 4, 3)
    """
    resolution = picture_resolution(model, tokenizer)
    side = math.isqrt(getattr(model, "igpt", model).sequence_length)
    given = given_tokens(keep, side)
    (num_completions,) = check_positive_ints(num_completions=num_completions)
    images = _images(pictures, resolution)
    token_ids = np.concatenate(
        [
            keras.ops.convert_to_numpy(tokenizer(images[i : i + _BATCH]))
            for i in range(0, len(images), _BATCH)
        ]
    )
    completed = fill_pictures(
        model,
        tokenizer,
        np.repeat(token_ids, num_completions, axis=0),
        given,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        verbose=verbose,
        draft=draft,
        draft_tokens=draft_tokens,
    )
    return completed.reshape(-1, num_completions, *completed.shape[1:])


def _images(pictures, resolution):
    if not isinstance(pictures, np.ndarray):
        return open_pictures(pictures, resolution)
    expected = (resolution, resolution, 3)
    if (
        pictures.dtype != "uint8"
        or pictures.shape[1:] != expected
        or not len(pictures)
    ):
        raise ValueError(
            f"pictures must be uint8 of shape (P, {resolution}, {resolution}, "
            f"3), one at least, received {pictures.dtype} of shape "
            f"{pictures.shape}. A list of PIL images or paths may have any "
            "size."
        )
    return pictures
