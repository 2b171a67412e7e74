import math

import keras
from keras import layers
from keras import ops


class HeadProjection(layers.EinsumDense):
    """`keras.layers.EinsumDense` between a width and heads, without a bias.

    On TensorFlow Keras multiplies image by image, and the gradient holds a
    kernel for each image. Here all positions are rows of one product. Under
    XLA, on JAX, both are the same.

    Args:
        equation: `"bnd,dhk->bnhk"` or `"bnhk,hkd->bnd"`.
        **kwargs: Arguments of `keras.layers.EinsumDense`.

    Call arguments:
        inputs: float tensor `(B, N, D)` or `(B, N, H, K)`.

    Returns:
        Float tensor `(B, N, H, K)` or `(B, N, D)`.

    Example:
    >>> layer = HeadProjection("bnd,dhk->bnhk", output_shape=(None, 2, 4))
    >>> tuple(layer(keras.ops.zeros((3, 5, 8))).shape)
    (3, 5, 2, 4)
    """

    def call(self, inputs, training=None):
        if keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training)
        kernel = self.kernel
        batch, length = ops.shape(inputs)[:2]
        summed = len(inputs.shape) - 2
        width = math.prod(kernel.shape[:summed])
        rows = ops.reshape(inputs, (-1, width))
        product = ops.matmul(rows, ops.reshape(kernel, (width, -1)))
        return ops.reshape(product, (batch, length, *kernel.shape[summed:]))
