import keras
from keras import ops


class TiedHead(keras.layers.Layer):
    """Logits of tokens by the products with their embeddings.

    Args:
        embedding: `TokenAndPositionEmbedding`, whose token table it is.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `(B, N, D)`.

    Returns:
        Float tensor `(B, N, V)`, the sum over `D` in float32.

    Example:
    >>> from igpt_keras.layers import TokenAndPositionEmbedding
    >>> embedding = TokenAndPositionEmbedding(16, 4, 8)
    >>> hidden = embedding(keras.ops.zeros((3, 4), "int32"))
    >>> tuple(TiedHead(embedding)(hidden).shape)
    (3, 4, 16)
    """

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    @property
    def kernel(self):
        """Float tensor `(D, V)`, as the kernel of an untied head."""
        return ops.transpose(self.embedding.token_embedding)

    def build(self, input_shape):
        pass

    def call(self, inputs):
        return ops.matmul(ops.cast(inputs, "float32"), self.kernel)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.embedding.vocabulary_size)
