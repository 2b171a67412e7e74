import operator

import keras
import numpy as np
from keras import initializers
from keras import ops

from igpt_keras.backend import concrete
from igpt_keras.backend import precise_matmul
from igpt_keras.backend import sum_across_replicas
from igpt_keras.layers import threefry
from igpt_keras.layers.check_positive_ints import check_positive_ints
from igpt_keras.layers.quantizer_interface import check_dtype
from igpt_keras.layers.quantizer_interface import check_vectors
from igpt_keras.layers.quantizer_interface import output_spec

# Of the mean usage; at the paper's settings 7.2 of 128 * 48**2 / 4096 = 72.
_DEAD_SHARE = 0.1
# Of the root-mean-square distance between a vector and its code.
_REVIVAL_NOISE = 0.1
# Next to no usage: the first vectors decide where a code goes.
_INITIAL_COUNT = 1e-3
# Sonnet's, as the moving averages are.
_EPSILON = 1e-5


@keras.saving.register_keras_serializable(package="igpt_keras")
class VectorQuantizer(keras.layers.Layer):
    """Replaces each vector by the nearest of a codebook that follows them.

    Section A.2 of the paper. The codebook has no gradient: a code is the moving
    average of the vectors it was nearest to (van den Oord et al. 2017, appendix
    A.1, with Laplace smoothing). The gradient of the output goes to the input
    unchanged; `commitment` is the loss that keeps inputs near their codes.

    A code is dead when its average usage falls below a tenth of the mean usage,
    `vectors in a batch / V`. It is revived beside a live one, chosen in
    proportion to usage, and the two share that one's averages; its own, nearly
    nothing, are dropped. A code that is never used and not revived moves to 0.

    Statistics are summed over the replicas of `tf.distribute`, so that they are
    of the whole batch. Vectors that are not finite, and empty batches, leave
    all state as it was. Computes in float32 whatever the global dtype policy.

    Args:
        vocabulary_size: int. Codes, `V`. The paper has 4096.
        embedding_dim: int. Length of a code, `D`. The paper has 64.
        commitment_cost: float. Defaults to 0.02, the paper's.
        decay: float in [0, 1). Of the averages, a step. Defaults to 0.99; the
            paper does not give it.
        revive: bool. Whether dead codes are revived. Defaults to `True`.
        seed: optional int. Of the first codebook and the revived codes'
            places, the same whether compiled or not.
        **kwargs: Base layer arguments, such as `name`.

    Call arguments:
        inputs: float tensor `(B, height, width, D)`.
        training: bool. Whether the codebook moves, after it was used. It never
            does where `trainable` is `False`.

    Returns:
        `(quantized, token_ids)`: float32 `(B, height, width, D)` and int32
        `(B, height, width)` in `[0, V)`.

    Raises:
        ValueError: if an argument or the shape of `inputs` is not of that form,
            and in training for vectors that are not finite where their values
            are at hand.

    Example:
    >>> quantizer = VectorQuantizer(vocabulary_size=8, embedding_dim=4)
    >>> quantized, token_ids = quantizer(keras.random.normal((2, 3, 5, 4)))
    >>> tuple(quantized.shape), tuple(token_ids.shape)
    ((2, 3, 5, 4), (2, 3, 5))
    """

    def __init__(
        self,
        vocabulary_size,
        embedding_dim,
        commitment_cost=0.02,
        decay=0.99,
        revive=True,
        seed=None,
        **kwargs,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        check_dtype(self)
        self.vocabulary_size, self.embedding_dim = check_positive_ints(
            vocabulary_size=vocabulary_size, embedding_dim=embedding_dim
        )
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), received {decay}.")
        if not 0 <= commitment_cost < float("inf"):
            raise ValueError(
                "commitment_cost must be finite and >= 0, received "
                f"{commitment_cost}."
            )
        self.commitment_cost = commitment_cost
        self.decay = decay
        self.revive = revive
        if isinstance(seed, bool) or not (
            seed is None or hasattr(seed, "__index__")
        ):
            raise ValueError(f"seed must be an int or None, received {seed!r}.")
        self.seed = None if seed is None else operator.index(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape):
        def state(name, shape, initializer):
            # All replicas assign the same; without this their copies would be
            # averaged or kept apart.
            return self.add_weight(
                name=name,
                shape=shape,
                initializer=initializer,
                trainable=False,
                aggregation="only_first_replica",
            )

        size, width = self.vocabulary_size, self.embedding_dim
        # Gives the same values each time it is called.
        start = initializers.RandomNormal(stddev=width**-0.5, seed=self.seed)
        self.codebook = state("codebook", (size, width), start)
        self.counts = state(
            "counts", (size,), initializers.Constant(_INITIAL_COUNT)
        )
        self.sums = state(
            "sums",
            (size, width),
            lambda shape, dtype: _INITIAL_COUNT * start(shape, dtype),
        )
        self.revived = state("revived", (), "zeros")

    def call(self, inputs, training=False):
        check_vectors(inputs, self.embedding_dim)
        training = training and self.trainable
        values = concrete(inputs) if training else None
        if values is not None and not np.isfinite(values).all():
            raise ValueError(
                "inputs hold NaN or infinity. The codebook was left as it was; "
                "look for what diverged before the quantizer."
            )
        vectors = ops.stop_gradient(inputs)
        token_ids = self.nearest(vectors)
        codes = self.lookup(token_ids)
        if training:
            self._update(vectors, vectors - codes, token_ids)
        # Straight through: the value of the code, the gradient of the input.
        return inputs + ops.stop_gradient(codes - inputs), token_ids

    def commitment(self, inputs, quantized):
        """`commitment_cost * mean((input - code)**2)`, a loss of the inputs.

        Not one of `losses`: replicas of `tf.distribute` share that list, and
        mix what is in it while the codebook is summed over them.

        Args:
            inputs: float tensor `(B, height, width, D)`.
            quantized: what `call` made of them.

        Returns:
            float32 `(B,)`.
        """
        error = ops.square(inputs - ops.stop_gradient(quantized))
        return self.commitment_cost * ops.mean(error, axis=(1, 2, 3))

    def nearest(self, vectors):
        """Ids of the nearest codes, int32 `(B, height, width)`."""
        codebook = ops.transpose(self.codebook)
        squares = ops.sum(ops.square(codebook), axis=0)

        def nearest_of_row(row):
            distance = squares - 2 * precise_matmul(row, codebook)
            return ops.cast(ops.argmin(distance, axis=-1), "int32")

        # A row of the grid at a time: all distances of the paper's batch would
        # take 4.8 GB.
        rows = ops.transpose(vectors, (1, 0, 2, 3))
        return ops.transpose(ops.map(nearest_of_row, rows), (1, 0, 2))

    def lookup(self, token_ids):
        """Codes of ids, float32 `(..., D)`."""
        return ops.take(self.codebook, token_ids, axis=0)

    def _update(self, vectors, error, token_ids):
        size, width = self.vocabulary_size, self.embedding_dim
        ones = ops.ones_like(vectors[..., :1])
        squared_error = ops.sum(ops.square(error), axis=-1, keepdims=True)
        columns = ops.concatenate([vectors, ones, squared_error], axis=-1)
        totals = ops.segment_sum(
            ops.reshape(columns, (-1, width + 2)),
            ops.reshape(token_ids, (-1,)),
            num_segments=size,
        )
        totals = sum_across_replicas(totals)
        counts = self._average(self.counts, totals[:, width])
        sums = self._average(self.sums, totals[:, :width])
        revived = ops.zeros((size,), "bool")
        if self.revive:
            mean_square = ops.mean(totals[:, width + 1]) / (
                ops.mean(totals[:, width]) * width
            )
            noise = _REVIVAL_NOISE * ops.sqrt(mean_square)
            counts, sums, revived = self._revive(counts, sums, noise)
        # Laplace smoothing, of a copy: the averages stay what they are.
        total = ops.sum(counts)
        smoothed = (counts + _EPSILON) / (total + size * _EPSILON) * total
        is_usable = ops.logical_and(
            ops.all(ops.isfinite(totals)), ops.sum(totals[:, width]) > 0
        )
        for variable, value in (
            (self.counts, counts),
            (self.sums, sums),
            (self.codebook, sums / smoothed[:, None]),
            (self.revived, self.revived + ops.sum(ops.cast(revived, "int32"))),
        ):
            old = ops.convert_to_tensor(variable)
            variable.assign(ops.where(is_usable, value, old))

    def _average(self, variable, total):
        return self.decay * variable + (1 - self.decay) * total

    def _revive(self, counts, sums, noise):
        """Splits live codes: averages with dead ones in place beside them."""
        size = self.vocabulary_size
        # The mean of the averages is that of vectors in a batch / V, also in
        # the first steps and for batches of changing size.
        dead = counts < _DEAD_SHARE * ops.mean(counts)
        usage = ops.cumsum(ops.where(dead, 0.0, counts))
        # Systematic sampling: one draw, and as many equal steps as are dead.
        rank = ops.cumsum(ops.cast(dead, "float32")) - 1
        start = threefry.uniform((), self.seed_generator.next())
        place = (rank + start) / ops.maximum(rank[-1] + 1, 1)
        parents = ops.searchsorted(usage, place * usage[-1], side="right")
        parents = ops.minimum(ops.cast(parents, "int32"), size - 1)
        # Rounding may lead past the last live code.
        most_used = ops.cast(ops.argmax(counts), "int32")
        parents = ops.where(ops.take(dead, parents), most_used, parents)
        parents = ops.where(dead, parents, ops.arange(size, dtype="int32"))
        sharers = ops.segment_sum(ops.ones((size,)), parents, num_segments=size)
        sharers = ops.maximum(sharers, 1.0)
        counts = ops.take(counts / sharers, parents)
        sums = ops.take(sums / sharers[:, None], parents, axis=0)
        offset = noise * threefry.normal(
            tuple(sums.shape), self.seed_generator.next()
        )
        offset = ops.where(dead[:, None], offset, 0.0)
        return counts, sums + counts[:, None] * offset, dead

    def compute_output_spec(self, inputs, training=False):
        return output_spec(inputs)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_dim": self.embedding_dim,
            "commitment_cost": self.commitment_cost,
            "decay": self.decay,
            "revive": self.revive,
            "seed": self.seed,
        }
