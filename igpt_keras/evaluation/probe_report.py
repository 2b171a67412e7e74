import math
import sys

import numpy as np

from igpt_keras.evaluation.split_features import few_label_accuracy
from igpt_keras.evaluation.split_features import network_features
from igpt_keras.evaluation.split_features import pixel_features
from igpt_keras.probes.chosen_layers import standard_error
from igpt_keras.probes.labels import largest_class_share
from igpt_keras.probes.probe_layers import probe_layers

LABELS_PER_CLASS = 4


def probe_report(model, untrained, train, validation, test, seed=0, verbose=0):
    """Final probes of a dataset: every layer, both baselines, few labels.

    The protocol is that of `LinearProbe`, see `probe_layers`: regularisation
    and layer are chosen on held-out images of `train`, so that the accuracies
    on validation and test are both of images that chose nothing.

    Args:
        model: an `IGPT`.
        untrained: one of the same shape with fresh weights.
        train: `EvaluationSet` that probes are fitted and chosen on.
        validation: `EvaluationSet`.
        test: `EvaluationSet`.
        seed: int. Of the few labels that are drawn. Defaults to 0.
        verbose: 0 or 1. Whether to show progress. Defaults to 0.

    Returns:
        dict of `probe` (a list of a dict a layer: `layer`,
        `validation_accuracy`, `test_accuracy`), `chosen_layer` (also as
        `best_layer`), `tied_layers`, `test_standard_error`, `chance` (of the
        largest class of test), `probe_images`, `validation_images`,
        `test_images` (how many there were), `raw_pixels_test_accuracy`,
        `untrained_test_accuracy` (of its chosen layer) and `low_data`: mean
        and standard deviation of the accuracy with 4 labels a class, empty if
        a class has fewer.
    """
    sets = {"train": train, "validation": validation, "test": test}
    labels = {split: examples.labels for split, examples in sets.items()}

    def probe(title, features):
        if verbose:
            sys.stdout.write(f"Probing {title}.\n")
            sys.stdout.flush()
        return probe_layers(
            features["train"],
            labels["train"],
            features["test"],
            labels["test"],
            verbose=verbose,
        )

    side = math.isqrt(model.sequence_length)
    features = network_features(model, sets)
    result = probe("the trained network", features)
    on_validation = result.accuracy(
        features["validation"], labels["validation"]
    )
    chosen = result.chosen_layer
    raw = pixel_features(sets, side)
    raw_result = probe("raw pixels", raw)
    low_data = _low_data(
        {
            "best_layer": {split: f[chosen] for split, f in features.items()},
            "raw_pixels": raw,
        },
        labels,
        seed,
    )
    # Features of one network are in memory at a time.
    del features, raw
    fresh = network_features(untrained, sets)
    fresh_result = probe("an untrained network", fresh)
    chosen_accuracy = float(result.test_accuracy[chosen])
    num_test = len(labels["test"])
    return {
        "probe": _rows(on_validation, result.test_accuracy),
        "best_layer": chosen,
        "chosen_layer": chosen,
        "tied_layers": result.tied_layers,
        "test_standard_error": standard_error(chosen_accuracy, num_test),
        "chance": largest_class_share(labels["test"]),
        "probe_images": len(labels["train"]),
        "validation_images": len(labels["validation"]),
        "test_images": num_test,
        "raw_pixels_test_accuracy": float(raw_result.test_accuracy[0]),
        "untrained_test_accuracy": float(
            fresh_result.test_accuracy[fresh_result.chosen_layer]
        ),
        "low_data": low_data,
    }


def probe_reports(model, untrained, probe_sets, own, seed=0, verbose=0):
    """`probe_report` of every dataset that a run probed.

    Args:
        model: an `IGPT`.
        untrained: one of the same shape with fresh weights, which no dataset
            at all does not need.
        probe_sets: list of `ProbeSets`.
        own: str. Name among them of the dataset that was trained on.
        seed: int. Defaults to 0.
        verbose: 0 or 1. Defaults to 0.

    Returns:
        dict: the report of `own`, or an empty `probe`, and `probes`, a dict of
        the others' reports by name.
    """
    found = {}
    for sets in probe_sets:
        if verbose and sets.name != own:
            sys.stdout.write(f"{sets.name}:\n")
        found[sets.name] = probe_report(
            model,
            untrained,
            sets.train,
            sets.validation,
            sets.test,
            seed,
            verbose,
        )
    return {**found.pop(own, {"probe": []}), "probes": found}


def _rows(on_validation, on_test):
    return [
        {
            "layer": layer,
            "validation_accuracy": float(validation_accuracy),
            "test_accuracy": float(test_accuracy),
        }
        for layer, (validation_accuracy, test_accuracy) in enumerate(
            zip(on_validation, on_test)
        )
    ]


def _low_data(features, labels, seed):
    """Mean and deviation of the accuracy of each of `features` by name."""
    counts = np.unique(labels["train"], return_counts=True)[1]
    if counts.min() < LABELS_PER_CLASS:
        return {}
    report = {"labels_per_class": LABELS_PER_CLASS}
    found = few_label_accuracy(features, labels, LABELS_PER_CLASS, seed)
    for name, (mean, deviation) in found.items():
        report[f"{name}_mean"] = mean
        report[f"{name}_standard_deviation"] = deviation
    return report
