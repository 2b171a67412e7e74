import keras
import numpy as np
from keras import initializers
from keras import ops

from igpt_keras.backend import batch_matmul
from igpt_keras.layers.blocked_attention import attend
from igpt_keras.layers.blocked_attention import swap_heads
from igpt_keras.layers.head_projection import HeadProjection
from igpt_keras.layers.pixel_order import check_order
from igpt_keras.layers.pixel_order import pixel_order


class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention of Image GPT: no biases, no dropout of weights.

    Queries, keys and values start from a normal of standard deviation
    `1 / sqrt(D)`, the output projection from `1 / sqrt(D * num_layers)`
    (released code, `attn`; `keras.layers.MultiHeadAttention` has one
    initializer for all four and cannot express it).

    Args:
        num_heads: int. Number of heads, `H`. Must divide the width `D`.
        num_layers: int. Depth of the network this layer is part of; scales
            the initial output projection.
        causal: bool. Whether position `i` attends to positions `<= i` only.
            Defaults to `True`; the BERT objective attends everywhere.
        order: str. What the inputs are in the order of, see `pixel_order`.
            Only `prepare` asks. Defaults to `"raster"`.
        square_side: int, `k`. Where attention is causal, it is so by squares
            of `k` x `k` tokens, `k * k` neighbours in the sequence: positions
            of one attend to each other and to all squares before it (XTRA's
            Block Causal Mask, Amrani et al. 2024). Defaults to 1, token by
            token.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `(B, N, D)`.
        prefix_length: optional int tensor `(B,)`, `P`. Where attention is
            causal, positions `<= P`, at which the start token and the `P`
            tokens of the prefix are, attend to each other, and only those
            after them to what is before (PrefixLM, Raffel et al. 2020; AIM,
            El-Nouby et al. 2024, section 3.2). 0 is causal, `N` is no mask.

    Returns:
        Float tensor `(B, N, D)`.

    Raises:
        ValueError: if `num_heads` does not divide `D`.

    Example:
    >>> layer = SelfAttention(num_heads=2, num_layers=1)
    >>> tuple(layer(keras.random.normal((3, 4, 8))).shape)
    (3, 4, 8)
    """

    def __init__(
        self,
        num_heads,
        num_layers,
        causal=True,
        order="raster",
        square_side=1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_order(order)
        self.num_heads = num_heads
        self.num_layers = num_layers
        self.causal = causal
        self.order = order
        self.square_side = square_side

    def build(self, input_shape):
        width = input_shape[-1]
        if self.order != "raster" or self.square_side > 1:
            self.permutation = pixel_order(
                self.order, input_shape[1], self.square_side
            )
        if width % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} does not divide hidden_dim="
                f"{width}. Every head takes an equal share of the width: "
                "choose a num_heads that divides hidden_dim."
            )
        head_dim = width // self.num_heads

        def projection(name):
            layer = HeadProjection(
                "bnd,dhk->bnhk",
                output_shape=(None, self.num_heads, head_dim),
                kernel_initializer=initializers.RandomNormal(
                    stddev=width**-0.5
                ),
                dtype=self.dtype_policy,
                name=name,
            )
            layer.build(input_shape)
            return layer

        self.query = projection("query")
        self.key = projection("key")
        self.value = projection("value")
        self.output_projection = HeadProjection(
            "bnhk,hkd->bnd",
            output_shape=(None, width),
            kernel_initializer=initializers.RandomNormal(
                stddev=(width * self.num_layers) ** -0.5
            ),
            dtype=self.dtype_policy,
            name="output_projection",
        )
        self.output_projection.build(
            (*input_shape[:-1], self.num_heads, head_dim)
        )

    def prepare(self, queries, keys, positions):
        """Queries and keys before their products, for subclasses to change.

        A layer with rotary positions or norms here is right in `call`,
        `prefill` and `decode`.

        Args:
            queries: float tensor `(B, n, H, K)`.
            keys: float tensor, as `queries`.
            positions: int32 tensor `(n,)`, where in the image, row by row, the
                tokens are that they predict.

        Returns:
            `(queries, keys)`; here as they are.
        """
        return queries, keys

    def call(self, inputs, prefix_length=None):
        if prefix_length is None:
            return self.prefill(inputs)[0]
        return self.prefill(inputs, prefix_length)[0]

    def prefill(self, inputs, prefix_length=None):
        """`call`, and what `decode` needs to go on from there.

        Args:
            inputs: float tensor `(B, P, D)`.
            prefix_length: as for `call`.

        Returns:
            `(outputs, keys, values)`: `(B, P, D)`, and twice `(B, H, P, K)`.
        """
        queries, keys = self.prepare(
            self.query(inputs),
            self.key(inputs),
            self._places(ops.arange(ops.shape(inputs)[1], dtype="int32")),
        )
        values = self.value(inputs)
        if self.causal and self.square_side > 1:
            squares = ops.arange(ops.shape(inputs)[1]) // self.square_side**2
            mask = (squares[:, None] >= squares)[None, None]
            attended = ops.dot_product_attention(
                queries, keys, values, mask=mask
            )
        else:
            attended = attend(queries, keys, values, self.causal, prefix_length)
        outputs = self.output_projection(attended)
        return outputs, swap_heads(keys), swap_heads(values)

    def decode(self, inputs, keys, values, position):
        """Attends from new positions to each other and to all before them.

        Args:
            inputs: float tensor `(B, G, D)`, the input at `position`, `G`
                being 1, or at the square that begins there.
            keys: float tensor `(B, H, M, K)`, filled below `position`, which
                is below `M`. All of it is read. Heads come first, so that
                neither product copies it.
            values: float tensor, as `keys`.
            position: int32 scalar tensor.

        Returns:
            `(outputs, keys, values)`: `(B, G, D)`, and the two caches with
            these positions filled in.
        """
        count = inputs.shape[1]
        query, key = self.prepare(
            self.query(inputs),
            self.key(inputs),
            self._places(position + np.arange(count, dtype="int32")),
        )
        start = (0, 0, position, 0)
        keys = ops.slice_update(keys, start, swap_heads(key))
        values = ops.slice_update(values, start, swap_heads(self.value(inputs)))
        visible = ops.arange(keys.shape[2]) < position + count
        return self._attend(query, keys, values, visible), keys, values

    def extend(self, inputs, keys, values, positions):
        """Attends from runs of new positions, of each image its own.

        Each position sees those before it, and itself: what a network computes
        that scores tokens of a draft.

        Args:
            inputs: float tensor `(B, G, D)`, the inputs at `positions`.
            keys: float tensor `(B, H, M, K)`, filled below each image's first
                position. All of it is read.
            values: float tensor, as `keys`.
            positions: int32 tensor `(B, G)`, of each image neighbours below
                `M`.

        Returns:
            `(outputs, keys, values)`: `(B, G, D)`, and the two caches with
            these positions filled in.
        """
        query, key = self.query(inputs), self.key(inputs)
        shape = ops.shape(query)
        # As of one image: `prepare` knows positions that all images share.
        query, key = self.prepare(
            ops.reshape(query, (1, -1, *shape[2:])),
            ops.reshape(key, (1, -1, *shape[2:])),
            self._places(ops.reshape(positions, (-1,))),
        )
        query, key = ops.reshape(query, shape), ops.reshape(key, shape)
        keys = _fill(keys, swap_heads(key), positions)
        values = _fill(values, swap_heads(self.value(inputs)), positions)
        visible = ops.arange(keys.shape[2]) <= positions[:, None, :, None]
        return self._attend(query, keys, values, visible), keys, values

    def _attend(self, query, keys, values, visible):
        """Outputs of queries `(B, G, H, K)` that see a part of the caches."""
        query = swap_heads(query)
        scores = batch_matmul(query, keys, transpose_y=True)
        scores = ops.cast(scores, "float32") * query.shape[-1] ** -0.5
        scores = ops.where(visible, scores, -1e30)
        # `ops.softmax` warns where there is one position.
        weights = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        weights = weights / ops.sum(weights, axis=-1, keepdims=True)
        attended = ops.matmul(ops.cast(weights, values.dtype), values)
        return self.output_projection(swap_heads(attended))

    def _places(self, positions):
        """Places in the image of positions in the order."""
        if self.order == "raster" and self.square_side == 1:
            return positions
        return ops.take(self.permutation, positions)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_layers": self.num_layers,
            "causal": self.causal,
            "order": self.order,
            "square_side": self.square_side,
        }


def _fill(cache, new, positions):
    """A cache `(B, H, M, K)` with `new` `(B, H, G, K)` at `positions`."""
    shape = ops.shape(cache)
    rows = ops.arange(shape[0] * shape[1], dtype="int32")
    rows = ops.reshape(rows, (-1, shape[1], 1))
    indices = rows * shape[2] + positions[:, None, :]
    filled = ops.scatter_update(
        ops.reshape(cache, (-1, shape[3])),
        ops.reshape(indices, (-1, 1)),
        ops.reshape(new, (-1, shape[3])),
    )
    return ops.reshape(filled, shape)
