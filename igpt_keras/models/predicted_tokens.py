import numpy as np
from keras import ops


def predicted_tokens(model, inputs):
    """Which tokens the loss of an `IGPT` is of, where it is not of all.

    Args:
        model: an `IGPT`.
        inputs: what it takes, of `B` images.

    Returns:
        bool `(B, N)`, in raster order: BERT's hidden tokens, or those after
        the prefix. `None` for a model that predicts all.
    """
    if model.objective == "bert":
        return ops.cast(inputs["mask"], "bool")
    if model.takes_prefix:
        place_in_order = np.argsort(model.embedding.permutation)
        prefix_length = ops.cast(inputs["prefix_length"], "int32")
        return place_in_order.astype("int32") >= prefix_length[:, None]
    return None
