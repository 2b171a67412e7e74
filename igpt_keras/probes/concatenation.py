import numpy as np


def concatenate_layers(features, center, num_layers=11):
    """Joins the features of neighbouring layers, for a wider probe.

    Section 4.4 of the paper: 11 layers around the best one, 16,896 features
    for `igpt_l`. Near the first or last layer the window shifts inwards, so
    there are always `num_layers` of them.

    Args:
        features: float array `(L + 1, M, D)`, as `extract_features` returns.
        center: int. Layer in the middle of the window, 0 to L.
        num_layers: int. Layers in the window. Defaults to the paper's 11.

    Returns:
        float array `(M, num_layers * D)`, lower layers first.

    Raises:
        ValueError: if there is no such layer, or fewer than `num_layers`, or
            features are those of one layer.
    """
    features = np.asarray(features)
    if features.ndim != 3:
        raise ValueError(
            "features must be (layers, images, width), as `extract_features` "
            f"returns, received {features.shape}."
        )
    count = len(features)
    if not 0 <= center < count:
        raise ValueError(
            f"center must be a layer, 0 to {count - 1}, received {center}."
        )
    if not 1 <= num_layers <= count:
        raise ValueError(
            f"num_layers must be 1 to {count}, the layers there are, received "
            f"{num_layers}."
        )
    first = min(max(center - num_layers // 2, 0), count - num_layers)
    return np.concatenate(features[first : first + num_layers], axis=-1)
