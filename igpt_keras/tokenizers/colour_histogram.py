"""How often colours occur, of any number of images in the same memory."""

import keras
import numpy as np

from igpt_keras.terminal import verbosity
from igpt_keras.tokenizers.palette_tokenizer import PaletteTokenizer

# Levels, as a standard deviation, and draws of the prior. In cross-validation
# over 307 images of ImageNet 16 to 32 levels gave much the same.
PRIOR_DEVIATION = 24
PRIOR_PIXELS = 500_000


def count_colours(batches, num_pixels, verbose=0):
    """How often each of the 2**24 colours occurs.

    Takes 134 MB, however many pixels there are.

    Args:
        batches: iterable of uint8 `(B, R, R, 3)`.
        num_pixels: int. Pixels to count; batches must have as many.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        int64 array `(2**24,)`; colour (r, g, b) is `r << 16 | g << 8 | b`.
    """
    histogram = np.zeros(2**24, "int64")
    progress = keras.utils.Progbar(
        num_pixels, interval=1, unit_name="pixel", verbose=verbosity(verbose)
    )
    seen = 0
    for images in batches:
        pixels = images.reshape(-1, 3)[: num_pixels - seen]
        np.add.at(histogram, _indices(pixels), 1)
        seen += len(pixels)
        progress.update(seen)
        if seen == num_pixels:
            return histogram


def add_prior(histogram, share, seed):
    """Gives a share of the weight to colours near those that occur.

    A few hundred images have some colours by chance; k-means spends entries on
    those, and other images miss theirs. The prior is what the pixels would be
    with normal noise, inside the colour cube.

    Args:
        histogram: int array `(2**24,)`.
        share: float. Weight of the prior.
        seed: int. Of the noise.

    Returns:
        float64 array `(2**24,)` with the sum of `histogram`.
    """
    generator = np.random.default_rng(seed)
    colours, counts = distinct_colours(histogram)
    total = counts.sum()
    drawn = generator.multinomial(PRIOR_PIXELS, counts / total)
    pixels = np.repeat(colours, drawn, axis=0)
    pixels = np.rint(generator.normal(pixels, PRIOR_DEVIATION))
    pixels = pixels[((pixels >= 0) & (pixels <= 255)).all(axis=1)]
    weights = (1 - share) * histogram
    np.add.at(weights, _indices(pixels), share * total / len(pixels))
    return weights


def distinct_colours(histogram):
    """Colours that occur, uint8 `(D, 3)`, and how often, `(D,)`."""
    indices = np.flatnonzero(histogram)
    colours = np.empty((len(indices), 3), "uint8")
    for channel, shift in enumerate((16, 8, 0)):
        colours[:, channel] = indices >> shift & 255
    return colours, histogram[indices]


def fit_palette(
    histogram,
    vocabulary_size,
    seed=0,
    max_iterations=50,
    on_round=None,
    verbose=0,
):
    """The palette of a histogram, and how k-means came to it.

    Args:
        histogram: array `(2**24,)`, of `count_colours` or `add_prior`.
        vocabulary_size: int. Colours, at most.
        seed: int. Of the colours to start from. Defaults to 0.
        max_iterations: int. Defaults to 50.
        on_round: function without arguments, called after every few
            iterations. Defaults to none.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        `(tokenizer, history)`: a `PaletteTokenizer`, and a list of dicts of
        `iterations` and `mean_squared_error`, in levels of 0 to 255, empty
        where there are no more colours than the palette has.
    """
    history = []
    name = "mean squared error"
    progress = keras.utils.Progbar(
        max_iterations,
        stateful_metrics=[name],
        unit_name="iteration",
        verbose=verbosity(verbose),
    )

    def show(iterations, error):
        history.append({"iterations": iterations, "mean_squared_error": error})
        progress.update(iterations, [(name, error)])
        if on_round is not None:
            on_round()

    tokenizer = PaletteTokenizer.fit_histogram(
        *distinct_colours(histogram),
        vocabulary_size,
        seed,
        max_iterations=max_iterations,
        on_round=show,
    )
    if history and history[-1]["iterations"] < max_iterations:
        progress.update(history[-1]["iterations"], finalize=True)
    return tokenizer, history


def _indices(pixels):
    red, green, blue = pixels.astype("int64").T
    return red << 16 | green << 8 | blue
