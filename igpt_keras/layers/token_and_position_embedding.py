import keras
import numpy as np
from keras import initializers
from keras import ops

from igpt_keras.backend import take_rows
from igpt_keras.layers.pixel_order import pixel_order


class TokenAndPositionEmbedding(keras.layers.Layer):
    """Embeds token ids, shifted behind a start token, and adds positions.

    With `shift=True` position 0 holds the learned start token and position
    `i + 1` token `i`; the last token is no input at all. This is the one
    place where the autoregressive shift happens. With `shift=False` (the BERT
    objective) position `i` holds token `i`, and hidden positions hold their
    position embedding alone: the token is zeroed *before* positions are
    added, and there is no vector for "hidden" (released code, `model`).

    Token ids come in raster order. What is embedded is in `order`: it is the
    order that the shift goes along, while row `i` of the position table stays
    that of place `i` of the image.

    Args:
        vocabulary_size: int. Number of tokens, `V`.
        sequence_length: int. Tokens per image, `N`.
        hidden_dim: int. Width, `D`.
        shift: bool. Whether to shift behind a start token.
        order: str, see `pixel_order`. Defaults to `"raster"`.
        square_side: int, `k`. Side of the squares of tokens that the shift
            goes by: the first one's `G = k * k` positions all hold the start
            token, and another's the tokens of the square before it. Defaults
            to 1, token by token.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        token_ids: int tensor `(B, N)` in `[0, V)`.
        hidden: optional bool tensor `(B, N)`, `True` where the token is
            hidden.

    Returns:
        Float tensor `(B, N, D)`, in `order`.

    Example:
    >>> layer = TokenAndPositionEmbedding(16, 4, 8)
    >>> tuple(layer(keras.ops.zeros((3, 4), "int32")).shape)
    (3, 4, 8)
    """

    def __init__(
        self,
        vocabulary_size,
        sequence_length,
        hidden_dim,
        shift=True,
        order="raster",
        square_side=1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.sequence_length = sequence_length
        self.hidden_dim = hidden_dim
        self.shift = shift
        self.order = order
        self.square_side = square_side
        self.permutation = pixel_order(order, sequence_length, square_side)
        raster = np.arange(sequence_length)
        self.is_raster = np.array_equal(self.permutation, raster)

    def build(self, token_ids_shape, hidden_shape=None):
        self.token_embedding = self.add_weight(
            shape=(self.vocabulary_size, self.hidden_dim),
            initializer=initializers.RandomNormal(stddev=0.02),
            # Read as float32, whatever the layer computes in: a row's gradient
            # is a sum over thousands of tokens.
            autocast=False,
            name="token_embedding",
        )
        self.position_embedding = self.add_weight(
            shape=(self.sequence_length, self.hidden_dim),
            initializer=initializers.RandomNormal(stddev=0.01),
            name="position_embedding",
        )
        if self.shift:
            self.start_embedding = self.add_weight(
                shape=(self.hidden_dim,),
                initializer=initializers.RandomNormal(stddev=0.02),
                name="start_embedding",
            )

    def place(self, position):
        """Where in the image the token at a position of the order is.

        Args:
            position: int32 tensor, or int.

        Returns:
            The same in raster order.
        """
        if self.is_raster:
            return position
        return ops.take(self.permutation, position)

    def call(self, token_ids, hidden=None):
        positions = self.position_embedding
        if not self.is_raster:
            token_ids = ops.take(token_ids, self.permutation, axis=1)
            positions = take_rows(positions, self.permutation)
            if hidden is not None:
                hidden = ops.take(hidden, self.permutation, axis=1)
        embedded = ops.cast(
            take_rows(self.token_embedding, token_ids), self.compute_dtype
        )
        if hidden is not None:
            keep = ops.cast(ops.logical_not(hidden), embedded.dtype)
            embedded = embedded * keep[..., None]
        if self.shift:
            start = ops.broadcast_to(
                self.start_embedding,
                (ops.shape(embedded)[0], self.square_side**2, self.hidden_dim),
            )
            embedded = ops.concatenate(
                [start, embedded[:, : -(self.square_side**2)]], axis=1
            )
        return embedded + positions

    def decode(self, previous_token_ids, position):
        """Input at one position of the order, given the token before it.

        Of squares, at the `G` positions of one, given the square before it.

        Args:
            previous_token_ids: int tensor `(B,)`, the tokens at
                `position - 1`, or `(B, G)`, the square before `position`;
                ignored at position 0.
            position: int32 scalar tensor, of squares their first.

        Returns:
            Float tensor `(B, G, D)`; `G` is 1 without squares.
        """
        size = self.square_side**2
        previous = ops.reshape(previous_token_ids, (-1, size))
        positions = position + np.arange(size, dtype="int32")
        return self._embed(previous, positions, position == 0)

    def extend(self, previous_token_ids, positions):
        """Inputs at positions of the order, of each image its own.

        Args:
            previous_token_ids: int tensor `(B, G)`, the tokens before these
                positions; ignored at position 0.
            positions: int32 tensor `(B, G)`.

        Returns:
            Float tensor `(B, G, D)`.
        """
        return self._embed(
            previous_token_ids, positions, (positions == 0)[..., None]
        )

    def _embed(self, previous, positions, is_start):
        """Tokens, or the start where it is one, at positions of the order."""
        token = ops.take(self.token_embedding, previous, axis=0)
        start = ops.convert_to_tensor(self.start_embedding)
        token = ops.where(is_start, start, token)
        here = ops.take(self.position_embedding, self.place(positions), axis=0)
        # Cast before the sum, as `call` does.
        token = ops.cast(token, self.compute_dtype)
        return token + ops.cast(here, self.compute_dtype)

    def compute_output_shape(self, token_ids_shape, hidden_shape=None):
        return (*token_ids_shape, self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "sequence_length": self.sequence_length,
            "hidden_dim": self.hidden_dim,
            "shift": self.shift,
            "order": self.order,
            "square_side": self.square_side,
        }
