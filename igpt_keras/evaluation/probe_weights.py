import math
import sys

import numpy as np

from igpt_keras.evaluation.layer_rows import layer_rows
from igpt_keras.evaluation.mask_ensemble import NUM_MASKS
from igpt_keras.evaluation.mask_ensemble import ensemble_of
from igpt_keras.evaluation.neighbor_report import neighbor_report
from igpt_keras.evaluation.split_features import few_label_accuracy
from igpt_keras.evaluation.split_features import network_features
from igpt_keras.evaluation.split_features import pixel_features
from igpt_keras.probes.check_layers import check_layers
from igpt_keras.probes.concatenation import concatenate_layers
from igpt_keras.probes.features import extract_features
from igpt_keras.probes.labels import largest_class_share
from igpt_keras.probes.logistic_regression import fit_logistic_regression
from igpt_keras.probes.low_data import draw_balanced_subset
from igpt_keras.probes.nearest_neighbors import check_neighbors
from igpt_keras.probes.whole_inputs import token_input


def probe_weights(
    model,
    untrained,
    sets,
    layers=None,
    concat=None,
    low_data=(),
    num_masks=NUM_MASKS,
    directory=None,
    neighbors=(),
    seed=0,
    verbose=0,
):
    """Linear probes of a model's layers, as the paper reports them.

    Sections 2.4, 4.2 and 4.4: logistic regression by L-BFGS to convergence on
    all of train; the strength of regularisation, and the layer, are chosen on
    validation; test chooses nothing.

    Args:
        model: an `IGPT`.
        untrained: one of the same shape with fresh weights.
        sets: `ProbeSets`.
        layers: sequence of int, 0 to L. Defaults to all.
        concat: int. Layers around the chosen one to join for one wider probe.
            Defaults to none.
        low_data: sequence of int. Labels a class for probes of the chosen
            layer, each on five subsets (Table 4). Defaults to none.
        num_masks: int. BERT: masks of each test image, whose modal prediction
            counts (section 4.6). Defaults to 5, the paper's.
        directory: path to keep features in meanwhile, where memory does not
            hold them. Defaults to none.
        neighbors: sequence of int. Numbers of nearest neighbours to choose from
            for `neighbor_report` on the same features. Defaults to none.
        seed: int. Of those subsets, and of ties among masks. Defaults to 0.
        verbose: 0 or 1. Whether to show progress. Defaults to 0.

    Returns:
        dict: `probe`, for each layer `layer`, `regularization`,
        `validation_accuracy`, `test_accuracy`, `gradient_norm` and
        `converged`; `chosen_layer`, `tied_layers`, `test_standard_error`;
        `last_layer_loss`, how much worse than the chosen the last layer is on
        test; `concatenated` (`None`, or `layers`, `features` and both
        accuracies); `low_data`, a dict each: `labels_per_class`, and for
        `chosen_layer` and `raw_pixels` `_accuracy` and `_deviation` over the
        subsets; `test_masks`, of BERT's chosen layer, see `mask_ensemble`, or
        `None`; `raw_pixels_test_accuracy`, `untrained_test_accuracy` (of
        its chosen layer) and `untrained_layer`; `chance`, the largest class of
        test; `probe_images`, `validation_images`, `test_images`; `neighbors`
        (`None`, or the dict of `neighbor_report`, with
        `raw_pixels_test_accuracy` and `untrained_test_accuracy`).

    Raises:
        ValueError: for layers that there are not, for more labels than a class
            has, and as `fit_logistic_regression`.
    """
    names = ("train", "validation", "test")
    splits = {name: getattr(sets, name) for name in names}
    labels = {split: examples.labels for split, examples in splits.items()}
    layers = check_layers(model, layers)
    _check_concat(model, concat)
    for number in low_data:
        # Raises before anything is computed.
        draw_balanced_subset(labels["train"], number, seed)

    if neighbors:
        check_neighbors(neighbors, len(labels["train"]))
    fit = _Reading(labels, neighbors, verbose)

    features = network_features(model, splits, directory)
    result, near = fit("the layers", _select(features, layers), layers)
    chosen = layers[result.chosen_layer]
    concatenated = _concatenated(fit.linear, features, chosen, concat)
    test_masks = None
    if getattr(model, "objective", None) == "bert":
        probe = result.probes[result.chosen_layer]
        test_masks = _test_masks(
            model, sets.test, probe, chosen, num_masks, directory, seed
        )
    # Features of one network are in memory at a time.
    features = {split: np.array(f[chosen]) for split, f in features.items()}
    side = math.isqrt(token_input(model).shape[1])
    raw = pixel_features(splits, side)
    raw_result, raw_near = fit("raw pixels", raw)
    sources = {"chosen_layer": features, "raw_pixels": raw}
    few = [_low_data(sources, labels, number, seed) for number in low_data]
    fresh = network_features(untrained, splits, directory)
    fresh_result, fresh_near = fit(
        "an untrained network", _select(fresh, layers), layers
    )
    if neighbors:
        near["raw_pixels_test_accuracy"] = raw_near["test_accuracy"]
        near["untrained_test_accuracy"] = fresh_near["test_accuracy"]
    return {
        **_of_layers(layers, result),
        "concatenated": concatenated,
        "low_data": few,
        "test_masks": test_masks,
        "raw_pixels_test_accuracy": float(raw_result.test_accuracy[0]),
        "untrained_test_accuracy": float(
            fresh_result.test_accuracy[fresh_result.chosen_layer]
        ),
        "untrained_layer": layers[fresh_result.chosen_layer],
        "chance": largest_class_share(labels["test"]),
        "probe_images": len(labels["train"]),
        "validation_images": len(labels["validation"]),
        "test_images": len(labels["test"]),
        "neighbors": near,
    }


class _Reading:
    """Fits probes on features of every split, and says so."""

    def __init__(self, labels, neighbors, verbose):
        self.labels = labels
        self.neighbors = neighbors
        self.verbose = verbose

    def __call__(self, title, features, layers=(None,)):
        """A `ProbeResult`, and `neighbor_report` or `None`."""
        result = self.linear(title, features)
        if not self.neighbors:
            return result, None
        self._say(f"Nearest neighbours in {title}.")
        return result, neighbor_report(
            features, self.labels, layers, self.neighbors, self.verbose
        )

    def linear(self, title, features):
        self._say(f"Probing {title}.")
        pairs = [(features[split], y) for split, y in self.labels.items()]
        return fit_logistic_regression(
            *(array for pair in pairs for array in pair), verbose=self.verbose
        )

    def _say(self, text):
        if self.verbose:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


def _concatenated(fit, features, center, concat):
    """What a probe of joined layers gives, or `None` if none are to be."""
    if concat is None:
        return None
    joined = {
        split: concatenate_layers(f, center, concat)
        for split, f in features.items()
    }
    wide = fit(f"{concat} layers around layer {center}", joined)
    return {
        "layers": concat,
        "features": joined["test"].shape[1],
        "validation_accuracy": float(wide.validation_accuracy[0]),
        "test_accuracy": float(wide.test_accuracy[0]),
    }


def _check_concat(model, concat):
    if concat is not None and not 1 <= concat <= len(model.blocks) + 1:
        raise ValueError(
            f"concat={concat} layers cannot be joined: the model has features "
            f"of {len(model.blocks) + 1}."
        )


def _select(features, layers):
    """These layers' features of each split; all of them without a copy."""
    return {
        split: array if len(layers) == len(array) else array[layers]
        for split, array in features.items()
    }


def _low_data(sources, labels, labels_per_class, seed):
    """Mean accuracy and deviation with few labels, of each of `sources`."""
    found = {"labels_per_class": labels_per_class}
    accuracies = few_label_accuracy(sources, labels, labels_per_class, seed)
    for name, (mean, deviation) in accuracies.items():
        found |= {f"{name}_accuracy": mean, f"{name}_deviation": deviation}
    return found


def _test_masks(model, test, probe, layer, num_masks, directory, seed):
    """`mask_ensemble` of a layer's probe."""
    path = directory and directory / "masked.npy"

    def classes(dataset):
        return probe.predict(extract_features(model, dataset, path)[0][layer])

    return ensemble_of(classes, test, num_masks, seed)


def _of_layers(layers, result):
    """What `probe_weights` says of the layers alone."""
    names = (
        "regularization",
        "validation_accuracy",
        "test_accuracy",
        "gradient_norm",
        "converged",
    )
    rows, chosen = layer_rows(layers, result, names)
    accuracy = chosen.pop("test_accuracy")
    return {
        "probe": rows,
        **chosen,
        "last_layer_loss": accuracy - float(result.test_accuracy[-1]),
    }
