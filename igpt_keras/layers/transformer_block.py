import functools

import keras
from keras import initializers
from keras import layers
from keras import ops

from igpt_keras.backend import run_after
from igpt_keras.layers.dropout import Dropout
from igpt_keras.layers.self_attention import SelfAttention


@keras.saving.register_keras_serializable(package="igpt_keras")
def quick_gelu(x):
    """`x * sigmoid(1.702 x)`, the released code's approximation of GELU.

    The backward pass computes the sigmoid again: training keeps `x` alone.
    """
    return _quick_gelu(ops.convert_to_tensor(x))


@ops.custom_gradient
def _quick_gelu(x):
    def gradient(*inputs, upstream=None):
        # PyTorch passes the inputs, the others the upstream gradient.
        upstream = inputs[0] if upstream is None else upstream
        (scaled,) = run_after([upstream], x)
        scaled = 1.702 * scaled
        share = ops.sigmoid(scaled)
        return upstream * (share * (1 + scaled * (1 - share)))

    return x * ops.sigmoid(1.702 * x), gradient


@keras.saving.register_keras_serializable(package="igpt_keras")
class TransformerBlock(keras.layers.Layer):
    """Pre-norm GPT-2 block of Image GPT (section 2.2 of the paper).

    `x += attention(attention_norm(x))`, then
    `x += mlp_down(quick_gelu(mlp_up(mlp_norm(x))))`. As in the released code
    the norms divide by the root mean square with a gain only and epsilon
    1e-5, nothing has a bias, and both MLP matrices start from standard
    deviation 0.02 whatever the depth.

    `attention_norm` is where the paper takes the features of a layer.

    A subclass that sets `attention_class`, or overrides `activation` (float
    `(B, N, 4 D)` to the same), is another network of which `call`, `decode`
    and `extend` are right; one that overrides `call` overrides these with it,
    or is not sampled from, without `extend` not with a draft.

    Args:
        num_heads: int. Number of attention heads.
        num_layers: int. Depth of the network this block is part of.
        causal: bool. Whether attention is causal. Defaults to `True`.
        dropout: float. Share of either branch's outputs that training drops.
            Defaults to 0, the released code's.
        depth_scaled_mlp: bool. Whether `mlp_down` starts from
            `0.02 / sqrt(num_layers)`, as the paper's text has it. Defaults to
            `False`, the released code's.
        remat: bool. Whether training keeps the block's inputs alone, and
            computes what is between again in the backward pass: a third more
            arithmetic, and the memory of one block in place of all. Gradients
            are the same. Defaults to `False`.
        order: str, see `SelfAttention`. Defaults to `"raster"`.
        square_side: int, see `SelfAttention`. Defaults to 1.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `(B, N, D)`.
        training: bool. Whether to drop. Defaults to `False`.
        prefix_length: optional int tensor `(B,)`, see `SelfAttention`.

    Returns:
        Float tensor `(B, N, D)`.

    Example:
    >>> block = TransformerBlock(num_heads=2, num_layers=1)
    >>> tuple(block(keras.random.normal((3, 4, 8))).shape)
    (3, 4, 8)
    """

    attention_class = SelfAttention

    def __init__(
        self,
        num_heads,
        num_layers,
        causal=True,
        dropout=0.0,
        depth_scaled_mlp=False,
        remat=False,
        order="raster",
        square_side=1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_layers = num_layers
        self.causal = causal
        self.depth_scaled_mlp = depth_scaled_mlp
        self.remat = remat
        self.order = order
        self.square_side = square_side
        self.dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, input_shape):
        width = input_shape[-1]

        def norm(name):
            return layers.RMSNormalization(
                epsilon=1e-5, dtype=self.dtype_policy, name=name
            )

        def dense(units, name, activation=None, stddev=0.02):
            return layers.Dense(
                units,
                activation=activation,
                use_bias=False,
                kernel_initializer=initializers.RandomNormal(stddev=stddev),
                dtype=self.dtype_policy,
                name=name,
            )

        # Only what is asked for: `attention_class` may know no other.
        others = {}
        if self.order != "raster":
            others["order"] = self.order
        if self.square_side > 1:
            others["square_side"] = self.square_side
        self.attention_norm = norm("attention_norm")
        self.attention = self.attention_class(
            self.num_heads,
            self.num_layers,
            causal=self.causal,
            **others,
            dtype=self.dtype_policy,
            name="attention",
        )
        self.mlp_norm = norm("mlp_norm")
        self.mlp_up = dense(4 * width, "mlp_up", self.activation)
        depth = self.num_layers if self.depth_scaled_mlp else 1
        self.mlp_down = dense(width, "mlp_down", stddev=0.02 * depth**-0.5)
        for layer in (
            self.attention_norm,
            self.attention,
            self.mlp_norm,
            self.mlp_up,
            self.dropout,
        ):
            layer.build(input_shape)
        self.mlp_down.build((*input_shape[:-1], 4 * width))

    def activation(self, x):
        return quick_gelu(x)

    def call(self, inputs, training=False, prefix_length=None):
        # Drawn here: the backward pass would draw others, for units that the
        # forward pass did not drop.
        seeds = self.dropout.draw_seeds(2, training)
        body = functools.partial(self._body, **_options(prefix_length))
        if training and self.remat:
            return keras.remat(body)(inputs, *seeds)
        return body(inputs, *seeds)

    def _body(
        self, inputs, attention_seed=None, mlp_seed=None, prefix_length=None
    ):
        drop = self.dropout.drop
        attended = self.attention(
            self.attention_norm(inputs), **_options(prefix_length)
        )
        x = inputs + drop(attended, attention_seed)
        mlp = self.mlp_down(self.mlp_up(self.mlp_norm(x)))
        return x + drop(mlp, mlp_seed)

    def prefill(self, inputs, prefix_length=None):
        """`call`, and its keys and values: `SelfAttention.prefill`."""
        attended, keys, values = self.attention.prefill(
            self.attention_norm(inputs), **_options(prefix_length)
        )
        return self._add_branches(inputs, attended), keys, values

    def decode(self, inputs, keys, values, position):
        """One position with cached keys and values: `SelfAttention.decode`."""
        attended, keys, values = self.attention.decode(
            self.attention_norm(inputs), keys, values, position
        )
        return self._add_branches(inputs, attended), keys, values

    def extend(self, inputs, keys, values, positions):
        """Runs of positions with cached keys and values, of each image its own.

        `SelfAttention.extend`.
        """
        attended, keys, values = self.attention.extend(
            self.attention_norm(inputs), keys, values, positions
        )
        return self._add_branches(inputs, attended), keys, values

    def _add_branches(self, inputs, attended):
        x = inputs + attended
        return x + self.mlp_down(self.mlp_up(self.mlp_norm(x)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_layers": self.num_layers,
            "causal": self.causal,
            "dropout": self.dropout.rate,
            "depth_scaled_mlp": self.depth_scaled_mlp,
            "remat": self.remat,
            "order": self.order,
            "square_side": self.square_side,
        }


def _options(prefix_length):
    """What attention is told: one of its own may know no prefix."""
    return {} if prefix_length is None else {"prefix_length": prefix_length}
