import math
import sys

import numpy as np

from igpt_keras.probes.features import extract_features
from igpt_keras.probes.logistic_regression import fit_logistic_regression
from igpt_keras.probes.low_data import low_data_accuracy

LABELS_PER_CLASS = 4


def probe_report(model, untrained, train, validation, test, seed=0, verbose=0):
    """Final probes: every layer, both baselines, few labels.

    Args:
        model: an `IGPT`.
        untrained: one of the same shape with fresh weights.
        train: `EvaluationSet` that probes are fitted on.
        validation: `EvaluationSet` that layer and regularisation are chosen
            on.
        test: `EvaluationSet` that accuracies are of.
        seed: int. Of the few labels that are drawn. Defaults to 0.
        verbose: 0 or 1. Whether to show progress. Defaults to 0.

    Returns:
        dict of `probe` (a list of a dict a layer: `layer`,
        `validation_accuracy`, `test_accuracy`), `best_layer`,
        `raw_pixels_test_accuracy`, `untrained_test_accuracy` (of its best
        layer) and `low_data`: mean and standard deviation of the accuracy with
        4 labels a class, empty if a class has fewer.
    """
    sets = {"train": train, "validation": validation, "test": test}
    labels = {split: examples.labels for split, examples in sets.items()}

    def features_of(network):
        return {
            split: extract_features(network, examples.tokens)[0]
            for split, examples in sets.items()
        }

    def probe(title, features):
        if verbose:
            sys.stdout.write(f"Probing {title}.\n")
            sys.stdout.flush()
        return fit_logistic_regression(
            features["train"],
            labels["train"],
            features["validation"],
            labels["validation"],
            features["test"],
            labels["test"],
            verbose=verbose,
        )

    side = math.isqrt(model.sequence_length)
    features = features_of(model)
    result = probe("the trained network", features)
    best = result.best_layer
    raw = {
        split: raw_pixels(examples.image_batches(), side)
        for split, examples in sets.items()
    }
    raw_result = probe("raw pixels", raw)
    low_data = _low_data(
        {
            "best_layer": {split: f[best] for split, f in features.items()},
            "raw_pixels": raw,
        },
        labels,
        seed,
    )
    # Features of one network are in memory at a time.
    del features, raw
    fresh_result = probe("an untrained network", features_of(untrained))
    return {
        "probe": [
            {
                "layer": layer,
                "validation_accuracy": float(validation_accuracy),
                "test_accuracy": float(test_accuracy),
            }
            for layer, (validation_accuracy, test_accuracy) in enumerate(
                zip(result.validation_accuracy, result.test_accuracy)
            )
        ],
        "best_layer": best,
        "raw_pixels_test_accuracy": float(raw_result.test_accuracy[0]),
        "untrained_test_accuracy": float(
            fresh_result.test_accuracy[fresh_result.best_layer]
        ),
        "low_data": low_data,
    }


def probe_obstacle(labels, class_names):
    """Why a probe cannot be fitted on images, or `None` if it can.

    Args:
        labels: int array `(M,)` of the images it is to be fitted on.
        class_names: of their dataset; empty if it has no labels.
    """
    if not class_names:
        return "The pictures have no labels"
    if len(labels) < len(class_names):
        return (
            f"{len(labels)} probe images of {len(class_names)} classes are too "
            "few"
        )
    return None


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


def _low_data(features, labels, seed):
    """Mean and deviation of the accuracy of each of `features` by name."""
    counts = np.unique(labels["train"], return_counts=True)[1]
    if counts.min() < LABELS_PER_CLASS:
        return {}
    report = {"labels_per_class": LABELS_PER_CLASS}
    for name, sets in features.items():
        mean, deviation = low_data_accuracy(
            sets["train"],
            labels["train"],
            sets["test"],
            labels["test"],
            labels_per_class=LABELS_PER_CLASS,
            seed=seed,
        )
        report[f"{name}_mean"] = mean
        report[f"{name}_standard_deviation"] = deviation
    return report
