from keras import initializers
from keras import layers

from igpt_keras.layers.tied_head import TiedHead

HEADS = ("zeros", "normal", "tied")


def output_head(kind, embedding):
    """The layer that gives an `IGPT` its logits.

    Args:
        kind: one of `HEADS`, see `IGPT`.
        embedding: its `TokenAndPositionEmbedding`.

    Raises:
        ValueError: for another `kind`.
    """
    if kind not in HEADS:
        raise ValueError(f"Unknown head {kind!r}; choose one of {HEADS}.")
    if kind == "tied":
        return TiedHead(embedding, dtype="float32", name="head")
    kernel = "zeros"
    if kind == "normal":
        # Not made where it is not used: it takes a seed from the others.
        kernel = initializers.RandomNormal(stddev=0.02)
    return layers.Dense(
        embedding.vocabulary_size,
        use_bias=False,
        kernel_initializer=kernel,
        dtype="float32",
        name="head",
    )
