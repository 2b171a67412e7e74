import functools
import hashlib
import math
import os
import pathlib

import keras
import numpy as np
from keras import ops

from igpt_keras.layers.check_positive_ints import check_positive_ints
from igpt_keras.presets import preset_path
from igpt_keras.storage.array_file import open_array
from igpt_keras.storage.array_file import write_array
from igpt_keras.storage.user_path import user_path
from igpt_keras.tokenizers.checks import check_images
from igpt_keras.tokenizers.checks import check_token_ids
from igpt_keras.tokenizers.checks import token_ids_shape

# Pixels compared with their candidates at a time: what a cache holds.
_CHUNK = 1024
# Cells along each side of the colour cube.
_CELLS = 16
# Iterations of k-means between two reports of its error. A round costs one
# iteration more than it makes.
_ROUND = 10
_FILE = "palette.npy"


@keras.saving.register_keras_serializable(package="igpt_keras")
class PaletteTokenizer(keras.layers.Layer):
    """Turns each pixel into the index of the nearest palette colour.

    Section 3.2 of the paper: a palette of `V` colours by k-means over
    (R, G, B), pixels scaled to `x / 127.5 - 1`. Runs eagerly and inside
    `tf.data` with equal results; distances are float32 whatever the dtype
    policy, since bfloat16 moves one token in twenty.

    Args:
        palette: float array `(V, 3)` in [-1, 1], or the path of such an array
            as `.npy`, for example OpenAI's `kmeans_centers.npy`.
        **kwargs: Base layer arguments, such as `name`.

    Call arguments:
        images: uint8 `(B, R, R, 3)`.

    Returns:
        int32 `(B, R * R)` token ids in `[0, V)`, row by row.

    Raises:
        ValueError: if the palette or the images are not of that form.

    Example:
    >>> tokenizer = PaletteTokenizer([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    >>> images = np.array([[[[9, 9, 9], [250, 250, 250]]] * 2], "uint8")
    >>> token_ids = ops.convert_to_numpy(tokenizer(images))
    >>> token_ids
    array([[0, 1, 0, 1]], dtype=int32)
    >>> ops.convert_to_numpy(tokenizer.detokenize(token_ids))[0, 0]
    array([[  0,   0,   0],
           [255, 255, 255]], dtype=uint8)
    """

    def __init__(self, palette, **kwargs):
        super().__init__(**kwargs)
        if isinstance(palette, (str, os.PathLike)):
            palette = _read_palette(palette)
        try:
            palette = np.asarray(palette)
        except ValueError as error:
            raise ValueError(
                "palette must be floats of shape (V, 3), received rows of "
                "different lengths."
            ) from error
        if (
            palette.ndim != 2
            or palette.shape[1] != 3
            or len(palette) == 0
            or not np.issubdtype(palette.dtype, np.floating)
        ):
            raise ValueError(
                "palette must be floats of shape (V, 3), received "
                f"{palette.dtype} of shape {palette.shape}. Scale colours of "
                "0 to 255 with `colours / 127.5 - 1`."
            )
        if not (np.abs(palette) <= 1).all():
            raise ValueError(
                "palette must be finite and in [-1, 1], received values from "
                f"{palette.min()} to {palette.max()}. Scale colours with "
                "`colours / 127.5 - 1`."
            )
        if len(np.unique(palette, axis=0)) != len(palette):
            raise ValueError(
                "palette holds a colour twice; the second could never be "
                "chosen. Remove duplicates."
            )
        self.palette = palette.astype("float32")
        self.vocabulary_size = len(palette)
        # Half-way cases to even and no wrap-around, as the released code.
        self.colours = np.clip(
            np.rint(127.5 * (self.palette + 1)), 0, 255
        ).astype("uint8")
        self.built = True

    @classmethod
    def fit(cls, images, vocabulary_size=512, seed=0, max_pixels=500_000):
        """Fits a palette to images by k-means.

        Distinct colours are clustered, weighted by how often they occur, so
        no cluster can be empty. Images with fewer distinct colours than
        `vocabulary_size` give exactly those colours, and a smaller
        `vocabulary_size`. Pass training images only.

        Args:
            images: uint8 array `(M, R, R, 3)`.
            vocabulary_size: int. Number of colours. Defaults to 512.
            seed: int. The same seed gives the same palette. Defaults to 0.
            max_pixels: int. Pixels drawn at random from `images`. Defaults to
                500,000.

        Returns:
            A `PaletteTokenizer`; colours are sorted from dark to bright.

        Raises:
            ValueError: if images are not uint8 RGB, or there are none.
        """
        check_positive_ints(
            vocabulary_size=vocabulary_size, max_pixels=max_pixels
        )
        pixels = check_images(_as_array(images)).reshape(-1, 3)
        if len(pixels) == 0:
            raise ValueError("A palette needs at least one pixel, received 0.")
        if len(pixels) > max_pixels:
            generator = np.random.default_rng(seed)
            chosen = generator.choice(len(pixels), max_pixels, replace=False)
            pixels = pixels[chosen]
        colours, counts = np.unique(pixels, axis=0, return_counts=True)
        return cls.fit_histogram(
            colours, counts, vocabulary_size, seed, start_pixels=max_pixels
        )

    @classmethod
    def fit_histogram(
        cls,
        colours,
        counts,
        vocabulary_size=512,
        seed=0,
        start_pixels=100_000,
        max_iterations=300,
        on_round=None,
    ):
        """Fits a palette to distinct colours and how often each occurs.

        `fit` for any number of pixels: memory grows with the distinct colours
        only, by about 100 bytes each, which is 1.7 GB if all 2**24 occur.

        Args:
            colours: uint8 array `(D, 3)` without duplicates.
            counts: array `(D,)`, positive; weights need not be whole.
            vocabulary_size: int. Number of colours. Defaults to 512.
            seed: int. The same seed gives the same palette. Defaults to 0.
            start_pixels: int. Of more pixels than this, so many drawn at
                random choose the starting colours (k-means++). All pixels
                take part in the iterations. Defaults to 100,000.
            max_iterations: int. Defaults to 300.
            on_round: called with the iterations made and the mean squared
                error, a channel, in levels of 0 to 255, as k-means proceeds.

        Returns:
            A `PaletteTokenizer`; colours are sorted from dark to bright.

        Raises:
            ValueError: if colours and counts are not of that form.
        """
        check_positive_ints(
            vocabulary_size=vocabulary_size,
            start_pixels=start_pixels,
            max_iterations=max_iterations,
        )
        colours, counts = np.asarray(colours), np.asarray(counts)
        if (
            counts.ndim != 1
            or colours.dtype != "uint8"
            or colours.shape != (len(counts), 3)
            or len(counts) == 0
            or not (counts > 0).all()
        ):
            raise ValueError(
                "A palette needs uint8 colours (D, 3), one at least, and as "
                f"many positive counts, received {colours.dtype} "
                f"{colours.shape} and counts {counts.shape}. Leave out colours "
                "that do not occur."
            )
        colours = colours / 127.5 - 1
        if len(colours) > vocabulary_size:
            start = "k-means++"
            if counts.sum() > start_pixels:
                start = _start(
                    colours, counts, vocabulary_size, seed, start_pixels
                )
            colours = _k_means(
                colours,
                counts,
                start,
                seed,
                vocabulary_size,
                max_iterations,
                on_round,
            )
            colours = np.clip(colours, -1, 1)
        luminance = colours @ [0.299, 0.587, 0.114]
        return cls(colours[np.argsort(luminance, kind="stable")])

    def call(self, images):
        check_images(images)
        pixels = ops.reshape(ops.cast(images, "float32"), (-1, 3))
        count = ops.shape(pixels)[0]
        # The size of a chunk is static even where the batch is not.
        chunk, missing = _CHUNK, -count % _CHUNK
        if isinstance(count, int):
            chunk = max(1, min(_CHUNK, count))
            # One chunk at least, also of no images.
            missing = -count % chunk if count else 1
        pixels = ops.pad(pixels, [[0, missing], [0, 0]])
        chunks = ops.reshape(pixels, (-1, chunk, 3))
        token_ids = ops.map(self._nearest, chunks)
        token_ids = ops.reshape(token_ids, (-1,))[:count]
        return ops.reshape(token_ids, (-1, images.shape[1] * images.shape[2]))

    def _nearest(self, pixels):
        candidates, colours = self._cells
        count = candidates.shape[1]
        cells = ops.cast(pixels, "int32") // (256 // _CELLS)
        cells = (cells[:, 0] * _CELLS + cells[:, 1]) * _CELLS + cells[:, 2]
        colours = ops.take(colours, cells, axis=0)  # (P, 3 K)
        # Three subtractions and not one matrix product, which accelerators
        # round to tf32 or bfloat16.
        pixels = pixels / 127.5 - 1.0
        distance = sum(
            ops.square(
                pixels[:, c, None] - colours[:, c * count : (c + 1) * count]
            )
            for c in range(3)
        )
        nearest = ops.cast(ops.argmin(distance, axis=-1), "int32")
        return ops.take(candidates.reshape(-1), cells * count + nearest)

    @functools.cached_property
    def _cells(self):
        """For each cell of the colour cube what can be nearest in it.

        A colour is no candidate if another is nearer to every point of the
        cell: its least distance is more than the other's greatest. Of OpenAI's
        512 colours ten are left on average, 66 at most.

        Returns:
            int32 `(_CELLS**3, K)`, indices in rising order, so that of two at
            one distance the first is taken (after a cell's own come others,
            which are farther), and their colours, float32 `(_CELLS**3, 3 K)`,
            reds first.
        """
        width = 256 // _CELLS
        low = np.arange(_CELLS)[:, None] * width / 127.5 - 1
        high = low + (width - 1) / 127.5
        channels = self.palette.T[:, None]  # (3, 1, V)
        below, above = low - channels, channels - high  # (3, cells, V)
        least = np.maximum(np.maximum(below, above), 0) ** 2
        most = np.maximum(np.abs(below), np.abs(above)) ** 2

        def cube(x):
            x = x[0][:, None, None] + x[1][:, None] + x[2]
            return x.reshape(_CELLS**3, -1)

        # The margin is far above what float32 rounds.
        bound = cube(most).min(axis=1, keepdims=True) + 1e-5
        excluded = cube(least) > bound
        count = (~excluded).sum(axis=1).max()
        order = np.argsort(excluded, axis=1, kind="stable")
        candidates = order[:, :count].astype("int32")
        colours = self.palette[candidates].transpose(0, 2, 1)
        return candidates, colours.reshape(len(candidates), -1)

    def detokenize(self, token_ids):
        """Colours of token ids, `round(127.5 (c + 1))`.

        Args:
            token_ids: int `(B, N)` in `[0, V)`, `N` a square number.

        Returns:
            uint8 `(B, R, R, 3)`.

        Raises:
            ValueError: for another shape or dtype, and for ids out of range
                where their values are at hand.
        """
        shape = token_ids_shape(token_ids)
        side = math.isqrt(shape[1]) if len(shape) == 2 else 0
        if len(shape) != 2 or side * side != shape[1]:
            raise ValueError(
                "token_ids must have shape (B, N) with N a square number, "
                f"received {shape}."
            )
        check_token_ids(token_ids, self.vocabulary_size)
        # TensorFlow gathers by no ints of few bits.
        token_ids = ops.cast(token_ids, "int32")
        colours = ops.take(self.colours, token_ids, axis=0)
        return ops.reshape(colours, (-1, side, side, 3))

    def compute_output_shape(self, images_shape):
        return (images_shape[0], images_shape[1] * images_shape[2])

    def compute_output_spec(self, images):
        return keras.KerasTensor(
            self.compute_output_shape(images.shape), "int32"
        )

    @property
    def fingerprint(self):
        """sha256 of the palette: tokens of equal ones are interchangeable."""
        return hashlib.sha256(self.palette.tobytes()).hexdigest()

    def save_palette(self, path):
        """Writes the palette as `.npy`, float32 `(V, 3)`, as OpenAI's."""
        write_array(user_path(path), self.palette)

    def save_to_preset(self, directory):
        """Writes the palette beside a model's preset."""
        self.save_palette(pathlib.Path(directory) / _FILE)

    def save_copy(self, directory):
        """Writes the palette of a run, or of tokens, beside them."""
        self.save_to_preset(directory)

    @classmethod
    def from_preset(cls, directory):
        """Opens the palette that `save_to_preset` wrote.

        Args:
            directory: path, or a name of `igpt_keras.presets.PRETRAINED`.
        """
        return cls(preset_path(directory) / _FILE)

    def get_config(self):
        return {**super().get_config(), "palette": self.palette.tolist()}


def _start(colours, counts, clusters, seed, pixels):
    """Centres that k-means++ chooses among pixels drawn at random."""
    from sklearn.cluster import kmeans_plusplus

    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(pixels, counts / counts.sum())
    if np.count_nonzero(drawn) < clusters:
        return "k-means++"
    chosen = drawn > 0
    centres, _ = kmeans_plusplus(
        colours[chosen],
        clusters,
        sample_weight=drawn[chosen],
        random_state=seed,
    )
    return centres


def _k_means(colours, counts, start, seed, clusters, max_iterations, on_round):
    """Centres after Lloyd's iterations, made in rounds if they are reported."""
    # It takes most of what igpt_keras would add to importing Keras.
    from sklearn.cluster import KMeans

    iterations = 0
    while True:
        limit = max_iterations - iterations
        if on_round is not None:
            limit = min(limit, _ROUND)
        k_means = KMeans(
            clusters, init=start, n_init=1, max_iter=limit, random_state=seed
        )
        k_means.fit(colours, sample_weight=counts)
        start = k_means.cluster_centers_
        iterations += k_means.n_iter_
        if on_round is not None:
            error = k_means.inertia_ / (3 * counts.sum())
            on_round(iterations, 127.5**2 * error)
        if k_means.n_iter_ < limit or iterations == max_iterations:
            return start


def _read_palette(path):
    path = user_path(path)
    if not path.is_file():
        raise ValueError(f"No palette at {os.fspath(path)!r}.")
    try:
        return np.array(open_array(path))
    except ValueError as error:
        raise ValueError(
            f"{os.fspath(path)!r} is no palette, floats of shape (V, 3): "
            f"{error}"
        ) from error


def _as_array(images):
    try:
        return np.asarray(images)
    except ValueError as error:
        raise ValueError(
            "images have different sizes; a palette needs one array "
            "(M, R, R, 3). Resize them to one resolution first."
        ) from error
