import keras
from keras import layers


class ResidualBlock(keras.layers.Layer):
    """Two convolutions beside the identity (van den Oord et al. 2017).

    `x + conv1x1(relu(conv3x3(relu(x))))`.

    Args:
        hidden_channels: int. Channels between the convolutions.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `(B, height, width, C)`.

    Returns:
        Float tensor `(B, height, width, C)`.

    Example:
    >>> block = ResidualBlock(hidden_channels=3)
    >>> tuple(block(keras.random.normal((1, 4, 4, 8))).shape)
    (1, 4, 4, 8)
    """

    def __init__(self, hidden_channels, **kwargs):
        super().__init__(**kwargs)
        self.hidden_channels = hidden_channels

    def build(self, input_shape):
        self.inner = layers.Conv2D(
            self.hidden_channels,
            3,
            padding="same",
            activation="relu",
            dtype=self.dtype_policy,
            name="inner",
        )
        self.outer = layers.Conv2D(
            input_shape[-1], 1, dtype=self.dtype_policy, name="outer"
        )
        self.inner.build(input_shape)
        self.outer.build((*input_shape[:-1], self.hidden_channels))

    def call(self, inputs):
        return inputs + self.outer(self.inner(keras.ops.relu(inputs)))

    def get_config(self):
        return {**super().get_config(), "hidden_channels": self.hidden_channels}
