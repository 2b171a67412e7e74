import math

import numpy as np
from keras import ops

from igpt_keras.models import own_network
from igpt_keras.models import preset_directory

# Places after the binary point of what is multiplied, and of attention's
# shares of one. A float64 sums multiples of 2**-n exactly below 2**(53 - n).
_BITS = 18
_SHARE_BITS = 24
# ln 2 in two parts, of which the first has so few digits that its product
# with a power is exact (fdlibm's e_exp.c).
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


class ExactNetwork:
    """The conditionals of an `IGPT`, with the same bits wherever computed.

    A decoder must see the very numbers that the encoder saw, and how a matrix
    product rounds depends on threads, processor, library and batch size. Here
    every factor of one is rounded to a multiple of a power of two, so coarse
    that float64 holds all sums without rounding: their order cannot matter.
    What is left are operations on single elements, which IEEE 754 rounds in
    one way, sums in the order of their index, and an exponential of these. The
    rounding is of about float32's, and moves the loss by as little.

    Positions are computed one by one, in the model's order, from cached keys
    and values, in NumPy.

    Args:
        model: an `IGPT` with the autoregressive objective.

    Raises:
        ValueError: as `check_codable`.
    """

    def __init__(self, model):
        check_codable(model)
        self.num_heads = model.num_heads
        self.sequence_length = model.sequence_length
        self.width = model.hidden_dim
        embedding = model.embedding
        self.tokens = _array(embedding.token_embedding)
        # As the tokens come: in the model's order.
        positions = _array(embedding.position_embedding)
        self.positions = positions[embedding.permutation]
        self.start = _array(embedding.start_embedding)
        self.blocks = [_weights(block, self.width) for block in model.blocks]
        self.gain = _array(model.final_norm.scale)
        self.head = _matrix(model.head.kernel, self.width)

    def begin(self, batch_size):
        """Starts on images of which no token is known yet."""
        heads, length = self.num_heads, self.sequence_length
        shape = (batch_size, heads, length, self.width // heads)
        self._keys = [np.zeros(shape) for _ in self.blocks]
        self._values = [np.zeros(shape) for _ in self.blocks]
        self._position = 0

    def next(self, previous=None):
        """Conditionals of the next position.

        Args:
            previous: int `(B,)`, the tokens of the last position; `None` at
                the first.

        Returns:
            float64 `(B, V)`, positive and not normalised.

        Raises:
            ValueError: if what is multiplied is too large to be summed
                exactly.
        """
        token = self.start if previous is None else self.tokens[previous]
        x = token + self.positions[self._position]
        x = np.broadcast_to(x, (len(self._keys[0]), self.width))
        for i, block in enumerate(self.blocks):
            x = x + self._attend(i, _norm(x, block["attention_gain"]))
            hidden = _product(_norm(x, block["mlp_gain"]), block["up"])
            # `quick_gelu`.
            hidden = hidden / (1 + _exp(-1.702 * hidden))
            x = x + _product(hidden, block["down"])
        self._position += 1
        logits = _product(_norm(x, self.gain), self.head)
        return _exp(logits - logits.max(axis=-1, keepdims=True))

    def _attend(self, i, x):
        block, here = self.blocks[i], self._position
        joined = _round(_product(x, block["query_key_value"]))
        joined = joined.reshape(len(x), 3, self.num_heads, -1)
        query = joined[:, 0, :, :, None]
        self._keys[i][:, :, here] = joined[:, 1]
        self._values[i][:, :, here] = joined[:, 2]
        keys = self._keys[i][:, :, : here + 1]
        values = self._values[i][:, :, : here + 1]
        _check(np.abs(query).sum(axis=-2), np.abs(keys).max())
        scores = (keys @ query)[..., 0] / math.sqrt(keys.shape[-1])
        shares = _exp(scores - scores.max(axis=-1, keepdims=True))
        shares = _round(shares / _sum(shares), _SHARE_BITS)
        _check(_sum(shares), np.abs(values).max(), _SHARE_BITS)
        attended = (shares[:, :, None] @ values).reshape(len(x), -1)
        return _product(attended, block["output"])


def check_codable(model):
    """Raises a `ValueError` for a model whose tokens are not coded.

    BERT, one that predicts squares of tokens, classes of one's own, and LoRA,
    quantized or non-finite weights.

    Args:
        model: an `IGPT`.
    """
    if model.objective != "autoregressive":
        raise ValueError(
            "A codec needs an autoregressive IGPT. A BERT model predicts "
            "hidden tokens from both sides and gives no order to code in."
        )
    if model.embedding.square_side > 1:
        raise ValueError(
            "A codec codes token by token, and a model of attention="
            f"{model.attention!r} predicts squares of them at once. Use one "
            "with causal attention."
        )
    own = own_network.own_classes(model)
    if own:
        raise ValueError(
            f"The model is built from {own[0]}, and a codec computes the plain "
            "network, exactly, in code of its own. If only training differs, "
            "give the weights to an `IGPT` with `set_weights`."
        )
    preset_directory.check_saveable(model)


def _array(variable):
    return ops.convert_to_numpy(variable).astype("float64")


def _matrix(kernel, rows):
    """A rounded kernel `(rows, ...)`, and its largest element."""
    matrix = _round(_array(kernel).reshape(rows, -1))
    return matrix, np.abs(matrix).max()


def _weights(block, width):
    attention = block.attention
    kernels = (attention.query, attention.key, attention.value)
    joined = [_array(layer.kernel).reshape(width, -1) for layer in kernels]
    return {
        "attention_gain": _array(block.attention_norm.scale),
        "query_key_value": _matrix(np.concatenate(joined, axis=1), width),
        "output": _matrix(attention.output_projection.kernel, width),
        "mlp_gain": _array(block.mlp_norm.scale),
        "up": _matrix(block.mlp_up.kernel, width),
        "down": _matrix(block.mlp_down.kernel, 4 * width),
    }


def _round(x, bits=_BITS):
    return np.rint(x * 2.0**bits) * 2.0**-bits


def _product(x, weights):
    """`x @ matrix`, whose sums are exact."""
    matrix, largest = weights
    x = _round(x)
    _check(np.abs(x).sum(axis=-1), largest)
    return x @ matrix


def _check(sums, largest, bits=_BITS):
    """That products of rounded numbers add up without rounding."""
    # Also false of what is not finite; half, since the bound is rounded.
    if not sums.max() * largest < 2.0 ** (52 - bits - _BITS):
        raise ValueError(
            "The network's activations are too large to be summed exactly, or "
            "not finite, so that nothing promises a decoder the encoder's "
            "numbers. Take another checkpoint of the model."
        )


def _sum(x):
    """Sums in the order of the index, as `numpy.sum` does not promise."""
    return np.cumsum(x, axis=-1)[..., -1:]


def _norm(x, gain):
    mean = _sum(x * x) / x.shape[-1]
    return x / np.sqrt(mean + 1e-5) * gain


def _exp(x):
    """`e**x` of operations that IEEE 754 rounds in one way, unlike libm's."""
    x = np.clip(x, -700.0, 700.0)
    power = np.rint(x * (1 / math.log(2)))
    rest = x - power * _LN2_HIGH - power * _LN2_LOW
    result = np.ones_like(x)
    for n in range(14, 0, -1):
        result = 1 + result * rest / n
    return np.ldexp(result, power.astype("int32"))
