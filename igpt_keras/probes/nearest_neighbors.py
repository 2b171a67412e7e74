import dataclasses

import numpy as np
from sklearn.preprocessing import StandardScaler

from igpt_keras.probes.check_sets import check_sets
from igpt_keras.probes.chosen_layers import LayerAccuracies
from igpt_keras.probes.layer_bar import layer_bar

NEIGHBORS = (1, 5, 20, 100)
# Of the votes: Wu et al. 2018, and DINO.
TEMPERATURE = 0.07


@dataclasses.dataclass(frozen=True)
class NeighborResult(LayerAccuracies):
    """What `nearest_neighbors` found, arrays over `L + 1` layers.

    Attributes:
        validation_accuracy: float array, fractions, at the chosen number of
            neighbours.
        test_accuracy: float array, fractions, at that number.
        num_validation_images: int.
        num_test_images: int.
        neighbors: int array, the chosen number of neighbours.
    """

    neighbors: np.ndarray


def nearest_neighbors(
    train_features,
    train_labels,
    validation_features,
    validation_labels,
    test_features,
    test_labels,
    neighbors=NEIGHBORS,
    refit=False,
    verbose=0,
):
    """Accuracy of the vote of the nearest training images, per layer.

    Nothing is trained, so that it says how features lie and not what a
    classifier makes of them. Features are scaled to zero mean and unit
    variance over train, since a few units of a transformer are far larger than
    all others; near is what has a high cosine, and each of the `k` nearest
    votes for its class with the weight `exp(cosine / 0.07)`: the classifier of
    Wu et al. 2018 ("Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination", section 3.4) and of DINO (Caron et al. 2021).
    `k`, and `chosen_layer`, are chosen on validation; test is scored once.

    Args:
        train_features: float array `(L + 1, M, D)`, as `extract_features`
            returns, or `(M, D)` for a single set such as raw pixels.
        train_labels: int array `(M,)`, the classes; gaps do no harm.
        validation_features: as `train_features`, other images.
        validation_labels: int array.
        test_features: as `train_features`, other images.
        test_labels: int array.
        neighbors: int >= 1, or sequence to choose from; of equal ones the
            first. Defaults to 1, 5, 20 and 100.
        refit: bool. Whether validation images vote on test too, once `k` is
            chosen. Defaults to `False`.
        verbose: 0 or 1. Whether to show a progress bar, on a terminal.
            Defaults to 0.

    Returns:
        A `NeighborResult`; accuracies are fractions.

    Raises:
        ValueError: as `fit_logistic_regression`, and for numbers of neighbours
            that there are not.

    Example:
    >>> x = np.eye(4, dtype="float32").repeat(3, axis=0)
    >>> y = np.arange(4).repeat(3)
    >>> nearest_neighbors(x, y, x, y, x, y, neighbors=3).test_accuracy
    array([1.])
    """
    sets = check_sets(
        train_features,
        train_labels,
        validation_features,
        validation_labels,
        test_features,
        test_labels,
    )
    neighbors = check_neighbors(neighbors, len(sets["train"][1]))
    num_layers = len(sets["train"][0])
    progress = layer_bar(num_layers, verbose)
    rows = []
    for layer in range(num_layers):
        of_layer = {name: (x[layer], y) for name, (x, y) in sets.items()}
        rows.append(_accuracies(of_layer, neighbors, refit))
        progress.update(len(rows))
    validation, test, chosen = map(np.array, zip(*rows))
    return NeighborResult(
        validation_accuracy=validation,
        test_accuracy=test,
        num_validation_images=len(sets["validation"][1]),
        num_test_images=len(sets["test"][1]),
        neighbors=chosen,
    )


def _accuracies(sets, neighbors, refit):
    """Validation and test accuracy of a layer, and the chosen number."""
    voters = sets["train"]
    votes = _vote(voters, sets["validation"][0], neighbors)
    scores = [(v == sets["validation"][1]).mean() for v in votes]
    best = int(np.argmax(scores))
    chosen = neighbors[best]
    if refit:
        voters = [
            np.concatenate(pair) for pair in zip(voters, sets["validation"])
        ]
    (classes,) = _vote(voters, sets["test"][0], [chosen])
    return scores[best], (classes == sets["test"][1]).mean(), chosen


def _vote(voters, features, neighbors):
    """Classes that features get, int arrays by number of neighbours."""
    # It takes most of what igpt_keras would add to importing Keras.
    from sklearn.neighbors import NearestNeighbors

    train, labels = voters
    scaler = StandardScaler()
    index = NearestNeighbors(n_neighbors=max(neighbors), metric="cosine")
    index.fit(scaler.fit_transform(train.astype("float32")))
    queries = scaler.transform(features.astype("float32"))
    distances, nearest = index.kneighbors(queries)
    classes, numbers = np.unique(labels, return_inverse=True)
    # The nearest one has weight 1, of whatever cosine: no power overflows.
    weights = np.exp((distances[:, :1] - distances) / TEMPERATURE)
    found = []
    for count in neighbors:
        votes = np.zeros((len(queries), len(classes)))
        rows = np.arange(len(queries))[:, None]
        voted = numbers[nearest[:, :count]]
        np.add.at(votes, (rows, voted), weights[:, :count])
        found.append(classes[votes.argmax(axis=1)])
    return found


def check_neighbors(neighbors, num_images=None):
    """Numbers of neighbours as a tuple of int, from one or a sequence.

    Args:
        neighbors: int, or sequence of int.
        num_images: int. Images that vote. Defaults to `None`, not known yet.

    Raises:
        ValueError: unless they are at least 1, and at most `num_images`.
    """
    given = np.atleast_1d(np.asarray(neighbors))
    if (
        given.ndim != 1
        or not given.size
        or given.dtype.kind not in "iu"
        or given.min() < 1
    ):
        raise ValueError(
            "neighbors must be an int >= 1, or a sequence of them, received "
            f"{neighbors!r}."
        )
    if num_images is not None and given.max() > num_images:
        raise ValueError(
            f"neighbors={given.max()} cannot vote: there are {num_images} "
            "training images. Ask for fewer."
        )
    return tuple(given.tolist())
