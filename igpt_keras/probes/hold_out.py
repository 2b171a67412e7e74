import numpy as np

from igpt_keras.probes.labels import check_labels
from igpt_keras.probes.labels import why_no_fit


def hold_out(labels, fraction=1 / 3, seed=0):
    """Splits a probe's training images: to fit on, and to choose on.

    What `probe_layers` and `LinearProbe` choose the layer and the strength of
    regularisation on. Of each class the same share is held out, at least one
    image and never all; a class of a single image is fitted on. A function of
    its arguments alone.

    Args:
        labels: int array `(M,)`.
        fraction: float in (0, 1). Share that is held out. Defaults to a third:
            the chosen probe is fitted on all images afterwards, so that they
            are not lost.
        seed: int. Defaults to 0.

    Returns:
        `(fit, held_out)`: int arrays of indices, sorted, each image in one.

    Raises:
        ValueError: if `why_no_probe(labels)` has a reason, or `fraction` is
            out of range.

    Example:
    >>> fit, held_out = hold_out([0] * 6 + [1] * 3)
    >>> len(fit), len(held_out)
    (6, 3)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be in (0, 1), received {fraction}.")
    reason = why_no_probe(labels)
    if reason:
        raise ValueError(reason)
    labels = check_labels(labels)
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), "bool")
    for label in np.unique(labels):
        of_class = generator.permutation(np.flatnonzero(labels == label))
        count = max(1, round(fraction * len(of_class)))
        held_out[of_class[: min(count, len(of_class) - 1)]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def held_out_sets(features, labels):
    """A probe's training images as those to fit on and those to choose on.

    Args:
        features: float array `(L + 1, M, D)`, or `(M, D)` for a single set.
        labels: int array `(M,)`.

    Returns:
        `(features, labels, held_out_features, held_out_labels)`, as `hold_out`
        splits them.

    Raises:
        ValueError: as `hold_out`, or if shapes disagree.
    """
    labels = check_labels(labels)
    features = np.asarray(features)
    if features.ndim == 2:
        features = features[None]
    fit, held_out = hold_out(labels)
    if features.shape[1:2] != labels.shape:
        raise ValueError(
            f"train: {len(labels)} labels for features of shape "
            f"{features.shape}, expected (layers, {len(labels)}, width)."
        )
    return (
        features[:, fit],
        labels[fit],
        features[:, held_out],
        labels[held_out],
    )


def why_no_probe(train_labels, test_labels=None):
    """Why these images cannot be probed, to be asked before training.

    Args:
        train_labels: int array `(M,)` of the images to fit on.
        test_labels: optional int array of the images to score on.

    Returns:
        A sentence for the user, or `None` if nothing is in the way. Classes
        of one image, or of none, are not.

    Raises:
        ValueError: if labels are no whole numbers, see `check_labels`.

    Example:
    >>> why_no_probe([0, 0, 1]) is None
    True
    >>> why_no_probe([4, 4])
    'A probe needs images of at least two classes, and all 2 have class 4.'
    """
    train_labels = check_labels(train_labels)
    reason = why_no_fit(train_labels)
    if reason:
        return reason
    classes = np.unique(train_labels)
    if len(classes) == len(train_labels):
        return (
            f"A probe has one image of each of {len(classes)} classes to fit "
            "on, and none is left to choose the layer on. Pass two or more "
            "images of some class."
        )
    if test_labels is None:
        return None
    test_labels = check_labels(test_labels)
    if not np.isin(test_labels, classes).any():
        return (
            f"None of the {len(test_labels)} images to score a probe on has a "
            "class that it is fitted on. Are both sets labelled alike?"
        )
    return None
