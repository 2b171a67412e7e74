import numpy as np


def check_labels(labels):
    """Class labels as an int32 array `(M,)`.

    Args:
        labels: array or list `(M,)` of whole numbers, of any numeric dtype.
            They need not start at 0 nor be without gaps.

    Raises:
        ValueError: if they are text, fractions, one-hot or beyond int32.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(
            "A probe takes one int label per image, labels of shape (M,), "
            f"received shape {labels.shape}. One-hot labels: take their "
            "argmax. A column (M, 1): take its [:, 0]."
        )
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"Labels must be integers, received {labels.dtype}. Number the "
            "classes, as `np.unique(labels, return_inverse=True)` does."
        )
    whole = np.isfinite(labels) & (labels == np.floor(labels))
    if not whole.all():
        raise ValueError(
            "Labels must be whole numbers, the classes of the images, received "
            f"{labels[~whole][0]}."
        )
    if labels.size:
        limit = np.iinfo("int32")
        low, high = (x.item() for x in (labels.min(), labels.max()))
        if low < limit.min or high > limit.max:
            raise ValueError(
                f"Labels must fit int32, received {low} to {high}. Number the "
                "classes, as `np.unique(labels, return_inverse=True)` does."
            )
    return labels.astype("int32")


def why_no_fit(labels):
    """Why no classifier can be fitted on int labels `(M,)`, or `None`."""
    if len(labels) == 0:
        return "A probe needs labelled images, and there are none."
    without = int((labels < 0).sum())
    if without:
        return (
            f"A probe needs labelled images, and {without} of {len(labels)} "
            "have no label: they have a negative one."
        )
    if (labels == labels[0]).all():
        return (
            "A probe needs images of at least two classes, and all "
            f"{len(labels)} have class {labels[0]}."
        )
    return None


def largest_class_share(labels):
    """Accuracy of always naming the most frequent of int labels `(M,)`."""
    counts = np.unique(labels, return_counts=True)[1]
    return float(counts.max() / len(labels))
