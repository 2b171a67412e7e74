"""The layers of a VQ-VAE's encoder and decoder (section A.2)."""

from keras import layers

from igpt_keras.layers.residual_block import ResidualBlock

_CHANNELS = 64
_HIDDEN_CHANNELS = 32
_RESIDUAL_BLOCKS = 2


def encoder_layers(halvings, embedding_dim, dtype):
    """From images to vectors of `embedding_dim`, a halving of the side each."""

    def down(name):
        return layers.Conv2D(
            _CHANNELS,
            4,
            strides=2,
            padding="same",
            activation="relu",
            dtype=dtype,
            name=name,
        )

    return [
        *[down(f"down_{i}") for i in range(halvings)],
        *_residual_blocks(dtype),
        layers.Conv2D(embedding_dim, 1, dtype=dtype, name="output"),
    ]


def decoder_layers(halvings, dtype):
    """The mirror image of the encoder."""

    def up(name, channels, activation):
        return layers.Conv2DTranspose(
            channels,
            4,
            strides=2,
            padding="same",
            activation=activation,
            dtype=dtype,
            name=name,
        )

    return [
        *_residual_blocks(dtype),
        *[up(f"up_{i}", _CHANNELS, "relu") for i in range(halvings - 1)],
        up(f"up_{halvings - 1}", 3, None),
    ]


def _residual_blocks(dtype):
    blocks = [
        ResidualBlock(_HIDDEN_CHANNELS, dtype=dtype, name=f"residual_{i}")
        for i in range(_RESIDUAL_BLOCKS)
    ]
    return [
        layers.Conv2D(_CHANNELS, 3, padding="same", dtype=dtype, name="input"),
        *blocks,
        layers.ReLU(dtype=dtype, name="residual_relu"),
    ]
