import keras
from keras import ops

from igpt_keras.layers.check_positive_ints import check_positive_ints
from igpt_keras.tokenizers.checks import check_token_ids


@keras.saving.register_keras_serializable(package="igpt_keras")
class CodebookUsage(keras.metrics.Metric):
    """How many codes of a codebook were used, and how evenly.

    `perplexity` is `exp` of the entropy of the codes' frequencies, in `[1, V]`;
    `active_codes` were used at least once. Both are of all codes since the last
    reset, an epoch in `fit`, over all replicas.

    Args:
        vocabulary_size: int. Codes, `V`.
        **kwargs: Base metric arguments, such as `name`.

    Raises:
        ValueError: from `update_state` for weights, and for ids that are not
            integers in `[0, V)` where their values are at hand.

    Example:
    >>> usage = CodebookUsage(vocabulary_size=4)
    >>> usage.update_state([0, 0, 3, 3])
    >>> {name: float(value) for name, value in usage.result().items()}
    {'perplexity': 2.0, 'active_codes': 2.0}
    """

    def __init__(self, vocabulary_size, name="codebook_usage", **kwargs):
        super().__init__(name=name, **kwargs)
        (self.vocabulary_size,) = check_positive_ints(
            vocabulary_size=vocabulary_size
        )
        self.counts = self.add_variable(
            (self.vocabulary_size,), initializer="zeros", name="counts"
        )

    def update_state(self, token_ids, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(
                "sample_weight is not for CodebookUsage: a code is used or "
                "not. Leave it out."
            )
        token_ids = ops.reshape(ops.convert_to_tensor(token_ids), (-1,))
        check_token_ids(token_ids, self.vocabulary_size)
        # TensorFlow sums by no ints of few bits.
        token_ids = ops.cast(token_ids, "int32")
        ones = ops.ones_like(token_ids, dtype="float32")
        counts = ops.segment_sum(
            ones, token_ids, num_segments=self.vocabulary_size
        )
        self.counts.assign_add(counts)

    def result(self):
        counts = ops.convert_to_tensor(self.counts)
        share = counts / ops.maximum(ops.sum(counts), 1.0)
        entropy = -ops.sum(share * ops.log(ops.maximum(share, 1e-30)))
        return {
            "perplexity": ops.exp(entropy),
            "active_codes": ops.sum(ops.cast(counts > 0, "float32")),
        }

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
        }
