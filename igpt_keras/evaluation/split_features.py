"""Features of every split of a dataset, and what few labels make of them.

`sets` are dicts of `EvaluationSet` by split.
"""

import numpy as np

from igpt_keras.probes.features import extract_features
from igpt_keras.probes.low_data import low_data_accuracy


def network_features(network, sets, directory=None):
    """Features of an `IGPT` of each split, float32 `(L + 1, M, D)`.

    With a directory they are files in it, which are mapped.
    """
    features = {}
    for split, examples in sets.items():
        path = directory and directory / f"{split}.npy"
        inputs = examples.probe_inputs
        features[split], _ = extract_features(network, inputs, path)
    return features


def pixel_features(sets, side):
    """`raw_pixels` of each split."""
    return {
        split: raw_pixels(examples.image_batches(), side)
        for split, examples in sets.items()
    }


def raw_pixels(batches, side):
    """Pixels as features, averaged to as many as there are tokens.

    Args:
        batches: iterable of uint8 `(B, R, R, 3)`.
        side: int that divides `R`.

    Returns:
        float32 `(M, side * side * 3)`.
    """

    def average(images):
        block = images.shape[1] // side
        blocks = images.reshape(len(images), side, block, side, block, 3)
        pixels = blocks.mean(axis=(2, 4), dtype="float32")
        return pixels.reshape(len(images), -1)

    return np.concatenate([average(images) for images in batches])


def few_label_accuracy(features, labels, labels_per_class, seed):
    """`low_data_accuracy` of several features of the same images.

    Args:
        features: dict by name of dicts by split of float `(M, D)`.
        labels: dict by split of int `(M,)`.
        labels_per_class: int.
        seed: int.

    Returns:
        dict by name of `(mean, standard_deviation)`.
    """
    return {
        name: low_data_accuracy(
            splits["train"],
            labels["train"],
            splits["test"],
            labels["test"],
            labels_per_class=labels_per_class,
            seed=seed,
        )
        for name, splits in features.items()
    }
