import keras
from keras import ops

from igpt_keras.backend import replica_id
from igpt_keras.layers import threefry


class Dropout(keras.layers.Layer):
    """Zeroes a share of its inputs in training, and scales the others up.

    Unlike `keras.layers.Dropout`, replicas of `tf.distribute` drop different
    units, and the seed means the same units with XLA and without it.

    Args:
        rate: float in [0, 1). Share that is dropped; with 0 the layer has no
            state and does nothing.
        seed: optional int. Defaults to one drawn by Keras, which
            `keras.utils.set_random_seed` fixes.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor.
        training: bool. Whether to drop. Defaults to `False`.

    Returns:
        Float tensor of the inputs' shape.

    Raises:
        ValueError: if `rate` is not in [0, 1).

    Example:
    >>> x = keras.ops.ones((2, 3))
    >>> bool(keras.ops.all(Dropout(0.5)(x, training=False) == x))
    True
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(rate, (int, float)) or not 0 <= rate < 1:
            raise ValueError(f"dropout must be in [0, 1), received {rate!r}.")
        self.rate = rate
        self.seed = seed
        if rate:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        pass

    def call(self, inputs, training=False):
        return self.drop(inputs, *self.draw_seeds(1, training))

    def draw_seeds(self, count, training=True):
        """A list of seeds for `drop`; empty where nothing is dropped.

        Args:
            count: int. Number of seeds.
            training: bool. Whether to drop. Defaults to `True`.
        """
        if not (training and self.rate):
            return []
        return [self.seed_generator.next() for _ in range(count)]

    def drop(self, inputs, seed=None):
        """Drops the units that a seed means; none without a seed.

        Args:
            inputs: float tensor.
            seed: int tensor `(2,)` of `draw_seeds`. Defaults to `None`.

        Returns:
            Float tensor of the inputs' shape.
        """
        if seed is None:
            return inputs
        uniform = threefry.uniform(ops.shape(inputs), seed, replica_id())
        kept = ops.cast(uniform >= self.rate, inputs.dtype)
        return inputs * kept / (1 - self.rate)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
