import numpy as np

from igpt_keras.probes.labels import check_labels
from igpt_keras.probes.labels import why_no_fit


def check_sets(
    train_features,
    train_labels,
    validation_features,
    validation_labels,
    test_features,
    test_labels,
):
    """The three sets of a probe, checked.

    Args:
        train_features: float array `(L + 1, M, D)`, or `(M, D)` of one layer.
        train_labels: int array `(M,)`.
        validation_features: as `train_features`, other images.
        validation_labels: int array.
        test_features: as `train_features`, other images.
        test_labels: int array.

    Returns:
        dict of `(features, labels)` by `train`, `validation` and `test`, with
        an axis of layers.

    Raises:
        ValueError: if shapes disagree, values are not finite, labels are not
            whole numbers, or train has one class.
    """
    sets = {
        "train": check_set("train", train_features, train_labels),
        "validation": check_set(
            "validation", validation_features, validation_labels
        ),
        "test": check_set("test", test_features, test_labels),
    }
    reason = why_no_fit(sets["train"][1])
    if reason:
        raise ValueError(reason)
    shapes = {name: (x.shape[0], x.shape[2]) for name, (x, _) in sets.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(
            "train, validation and test must have the same layers and width, "
            f"received (layers, width) {shapes}."
        )
    return sets


def check_set(name, features, labels):
    """Features `(L + 1, M, D)` and int32 labels of a set, if nothing is wrong.

    Args:
        name: str. What the error calls it.
        features: float array `(L + 1, M, D)` or `(M, D)`.
        labels: int array `(M,)`.
    """
    features = np.asarray(features)
    if features.ndim == 2:
        features = features[None]
    shape = np.shape(labels)
    if features.ndim != 3 or shape[:1] != features.shape[1:2]:
        raise ValueError(
            f"{name}: features must be (layers, images, width) or (images, "
            "width) with labels (images,), received "
            f"{features.shape} and {shape}."
        )
    if shape[0] == 0:
        raise ValueError(f"{name}: there are no images. Pass at least one.")
    # A layer at a time: features may be a mapped file, larger than memory.
    if not all(np.isfinite(layer).all() for layer in features):
        raise ValueError(
            f"{name}: features are not finite. Did the model diverge?"
        )
    return features, check_labels(labels)
