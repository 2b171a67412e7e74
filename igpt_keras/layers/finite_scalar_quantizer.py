import math
import operator

import keras
import numpy as np
from keras import ops

from igpt_keras.backend import concrete
from igpt_keras.layers.quantizer_interface import check_dtype
from igpt_keras.layers.quantizer_interface import check_vectors
from igpt_keras.layers.quantizer_interface import output_spec

# Keeps the outermost levels of the bounding function reachable.
_EPSILON = 1e-3
# With more, rounding leads past the outermost.
_MOST_LEVELS = 1000


def _is_level(level):
    try:
        index = operator.index(level)
    except TypeError:
        return False
    return not isinstance(level, bool) and 2 <= index <= _MOST_LEVELS


@keras.saving.register_keras_serializable(package="igpt_keras")
class FiniteScalarQuantizer(keras.layers.Layer):
    """Rounds each of a few channels to a few levels.

    Mentzer et al. 2023 ("Finite Scalar Quantization: VQ-VAE Made Simple"), an
    alternative to `VectorQuantizer` with the same interface. Its codebook is
    the grid of all combinations: it does not move, so that nothing can collapse
    and nothing is shared between replicas. The gradient of rounding is that of
    the identity; there is no commitment loss.

    Args:
        levels: ints from 2 to 1000, levels of each channel. Defaults to
            (8, 8, 8, 8), 4096 combinations, as many as the paper's codebook
            has.
        **kwargs: Base layer arguments, such as `name`.

    Attributes:
        vocabulary_size: int. The product of `levels`, `V`.
        embedding_dim: int. The number of `levels`, `D`.

    Call arguments:
        inputs: float tensor `(B, height, width, D)`.
        training: ignored.

    Returns:
        `(quantized, token_ids)`: float32 `(B, height, width, D)` in [-1, 1] and
        int32 `(B, height, width)` in `[0, V)`.

    Raises:
        ValueError: if `levels` or the shape of `inputs` is not of that form,
            and for values that are not finite where they are at hand.

    Example:
    >>> quantizer = FiniteScalarQuantizer(levels=(3, 3))
    >>> quantizer.vocabulary_size
    9
    >>> quantized, token_ids = quantizer(ops.zeros((1, 1, 1, 2)))
    >>> ops.convert_to_numpy(token_ids)
    array([[[4]]], dtype=int32)
    """

    def __init__(self, levels=(8, 8, 8, 8), **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        check_dtype(self)
        if not np.iterable(levels) or not all(map(_is_level, levels)):
            raise ValueError(
                f"levels must be ints from 2 to {_MOST_LEVELS}, one for each "
                f"channel, received {levels!r}."
            )
        levels = tuple(map(operator.index, levels))
        if not levels:
            raise ValueError("levels must be at least one int, received none.")
        self.levels = levels
        self.embedding_dim = len(levels)
        self.vocabulary_size = math.prod(levels)
        if self.vocabulary_size > 2**24:
            raise ValueError(
                f"levels={levels} make {self.vocabulary_size} codes; choose "
                "at most 2**24."
            )
        self.built = True

    def call(self, inputs, training=False):
        check_vectors(inputs, self.embedding_dim)
        values = concrete(inputs)
        if values is not None and not np.isfinite(values).all():
            raise ValueError(
                "inputs hold NaN or infinity, which no level is near. Look for "
                "what diverged before the quantizer."
            )
        bounded = self._bound(inputs)
        rounded = bounded + ops.stop_gradient(ops.round(bounded) - bounded)
        digits = ops.cast(ops.round(bounded), "int32") + self._half
        token_ids = ops.sum(digits * self._places, axis=-1)
        return rounded / self._half, ops.cast(token_ids, "int32")

    def commitment(self, inputs, quantized):
        """Zeros, float32 `(B,)`: levels need no commitment loss."""
        return ops.zeros_like(inputs[:, 0, 0, 0])

    def lookup(self, token_ids):
        """Codes of ids, float32 `(..., D)`."""
        digits = token_ids[..., None] // self._places
        digits = digits % np.array(self.levels, "int32") - self._half
        return ops.cast(digits, "float32") / self._half

    def _bound(self, inputs):
        """Squashed to what rounds to one of the levels; 0 stays 0."""
        levels = np.array(self.levels, "float64")
        half = (levels - 1) * (1 + _EPSILON) / 2
        # An even number of levels lies one more below zero than above.
        offset = np.where(levels % 2, 0.0, 0.5)
        shift = np.arctanh(offset / half)
        half, offset, shift = (
            x.astype("float32") for x in (half, offset, shift)
        )
        return ops.tanh(inputs + shift) * half - offset

    @property
    def _half(self):
        return np.array(self.levels, "int32") // 2

    @property
    def _places(self):
        """Worth of each channel's digit in a token id."""
        return np.cumprod((1, *self.levels[:-1])).astype("int32")

    def compute_output_spec(self, inputs, training=False):
        return output_spec(inputs)

    def get_config(self):
        return {**super().get_config(), "levels": list(self.levels)}
