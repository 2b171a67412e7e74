from igpt_keras.evaluation.layer_rows import layer_rows
from igpt_keras.probes.nearest_neighbors import nearest_neighbors


def neighbor_report(features, labels, layers, neighbors, verbose=0):
    """Accuracy of nearest neighbours in the features of each layer.

    Args:
        features: dict by split of float `(P, M, D)`, or `(M, D)` of one layer.
        labels: dict by split of int `(M,)`.
        layers: list of `P` int, their numbers.
        neighbors: sequence of int to choose from, see `nearest_neighbors`.
        verbose: 0 or 1. Whether to show progress. Defaults to 0.

    Returns:
        dict: `layers`, for each `layer`, `neighbors` (the number chosen),
        `validation_accuracy` and `test_accuracy`; `chosen_layer`,
        `tied_layers`, `test_accuracy` (of the chosen layer) and
        `test_standard_error`.

    Raises:
        ValueError: as `nearest_neighbors`.
    """
    splits = ("train", "validation", "test")
    pairs = [(features[split], labels[split]) for split in splits]
    result = nearest_neighbors(
        *(array for pair in pairs for array in pair),
        neighbors=neighbors,
        verbose=verbose,
    )
    names = ("neighbors", "validation_accuracy", "test_accuracy")
    rows, chosen = layer_rows(layers, result, names)
    return {"layers": rows, **chosen}
