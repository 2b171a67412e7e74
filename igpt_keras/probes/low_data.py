import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from igpt_keras.probes.labels import check_labels
from igpt_keras.probes.logistic_regression import check_regularization


def draw_balanced_subset(labels, labels_per_class, seed):
    """Indices of `labels_per_class` images of each class, sorted.

    Raises:
        ValueError: if a class has fewer images.
    """
    labels = check_labels(labels)
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        if len(of_class) < labels_per_class:
            raise ValueError(
                f"Class {label} has {len(of_class)} images, fewer than "
                f"labels_per_class={labels_per_class}."
            )
        chosen.append(
            generator.choice(of_class, labels_per_class, replace=False)
        )
    return np.sort(np.concatenate(chosen))


def low_data_accuracy(
    train_features,
    train_labels,
    test_features,
    test_labels,
    labels_per_class=4,
    num_subsets=5,
    seed=0,
    regularization=1.0,
):
    """Accuracy of a linear probe that sees a few labels (Table 4).

    Each subset is balanced, and subset `i` is the same for the same seed
    whatever the features, so that two sets of features compare fairly. C is
    fixed: so few labels leave none to choose it with.

    Args:
        train_features: float array `(M, D)`, one layer.
        train_labels: int array `(M,)`.
        test_features: float array `(M', D)`.
        test_labels: int array `(M',)`.
        labels_per_class: int. Defaults to 4; the paper's CIFAR-10 subsets
            are 4, 25 and 400.
        num_subsets: int. Random subsets. Defaults to 5, as in the paper.
        seed: int. Defaults to 0.
        regularization: float. scikit-learn's `C`. Defaults to 1.

    Returns:
        `(mean, standard_deviation)` of test accuracy over the subsets, as
        fractions; the deviation divides by `num_subsets - 1`.

    Raises:
        ValueError: if a class has fewer than `labels_per_class` images,
            `num_subsets` is less than 2, features are not those of one layer,
            or labels are not whole numbers.
    """
    train_features, test_features = map(
        np.asarray, (train_features, test_features)
    )
    train_labels, test_labels = map(check_labels, (train_labels, test_labels))
    for name, x, y in (
        ("train", train_features, train_labels),
        ("test", test_features, test_labels),
    ):
        if x.ndim != 2 or len(x) != len(y):
            raise ValueError(
                f"{name}: features must be those of one layer, (images, "
                f"width) with labels (images,), received {x.shape} and "
                f"{y.shape}."
            )
    (regularization,) = check_regularization(regularization)
    if num_subsets < 2:
        raise ValueError(
            "num_subsets must be >= 2, or there is no deviation, received "
            f"{num_subsets}."
        )
    accuracies = []
    for i in range(num_subsets):
        subset = draw_balanced_subset(
            train_labels, labels_per_class, seed=(seed, i)
        )
        probe = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=regularization, max_iter=1000),
        )
        # BLAS threads fighting over such small products are slower than one.
        with threadpool_limits(limits=1):
            probe.fit(train_features[subset], train_labels[subset])
        accuracies.append(probe.score(test_features, test_labels))
    return float(np.mean(accuracies)), float(np.std(accuracies, ddof=1))
