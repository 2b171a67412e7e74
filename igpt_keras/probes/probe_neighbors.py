from igpt_keras.probes.hold_out import held_out_sets
from igpt_keras.probes.nearest_neighbors import NEIGHBORS
from igpt_keras.probes.nearest_neighbors import nearest_neighbors


def probe_neighbors(
    train_features,
    train_labels,
    test_features,
    test_labels,
    neighbors=NEIGHBORS,
    verbose=0,
):
    """`probe_layers` by the vote of nearest neighbours, see that.

    The number of neighbours, and the layer, are chosen on the third of train
    that `hold_out` takes, on which the other two thirds vote; all of train
    votes on test.

    Args:
        train_features: float array `(L + 1, M, D)`, as `extract_features`
            returns, or `(M, D)` for a single set such as raw pixels.
        train_labels: int array `(M,)`.
        test_features: as `train_features`, other images.
        test_labels: int array.
        neighbors: int, or sequence to choose from. Defaults to 1, 5, 20 and
            100.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        A `NeighborResult`.

    Raises:
        ValueError: as `nearest_neighbors`, or if `why_no_probe` has a reason.
    """
    return nearest_neighbors(
        *held_out_sets(train_features, train_labels),
        test_features,
        test_labels,
        neighbors=neighbors,
        refit=True,
        verbose=verbose,
    )
