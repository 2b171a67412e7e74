import dataclasses
import warnings

import joblib
import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

# scikit-learn's C, the inverse of the L2 penalty on the summed loss.
REGULARIZATION = (0.001, 0.01, 0.1, 1.0, 10.0)


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """What `fit_logistic_regression` found, arrays over `L + 1` layers.

    Attributes:
        validation_accuracy: float array, fractions, at the chosen C.
        test_accuracy: float array, fractions, at the chosen C.
        regularization: float array, the chosen C.
        gradient_norm: float array, largest absolute entry of the gradient of
            the mean regularised loss where L-BFGS stopped.
        converged: bool array, whether it stopped at `tolerance` and not at
            `max_iterations`.
        best_layer: int, the layer with the highest validation accuracy.
    """

    validation_accuracy: np.ndarray
    test_accuracy: np.ndarray
    regularization: np.ndarray
    gradient_norm: np.ndarray
    converged: np.ndarray
    best_layer: int


def fit_logistic_regression(
    train_features,
    train_labels,
    validation_features,
    validation_labels,
    test_features,
    test_labels,
    regularization=REGULARIZATION,
    standardize=True,
    max_iterations=1000,
    tolerance=1e-4,
    verbose=0,
):
    """Linear probe: multinomial logistic regression by L-BFGS, per layer.

    Section 3.1 of the paper, with scikit-learn's solver. Every layer is fitted
    on train for each strength of regularisation; the strength, and
    `best_layer`, are chosen on validation; each layer's chosen probe is then
    scored on test once. What standardising needs is computed on train.

    Args:
        train_features: float array `(L + 1, M, D)`, as `extract_features`
            returns, or `(M, D)` for a single set such as raw pixels.
        train_labels: int array `(M,)`, 0 to `C - 1` for `C` classes.
        validation_features: as `train_features`, other images.
        validation_labels: int array.
        test_features: as `train_features`, other images.
        test_labels: int array.
        regularization: sequence of float > 0. Values of scikit-learn's `C` to
            choose from. Defaults to 0.001 to 10 by factors of ten.
        standardize: bool. Whether to scale features to zero mean and unit
            variance first. Defaults to `True`.
        max_iterations: int. L-BFGS iterations at most. Defaults to 1000.
        tolerance: float. Stop when no entry of the gradient is larger.
            Defaults to 1e-4.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        A `ProbeResult`; accuracies are fractions.

    Raises:
        ValueError: if shapes disagree, values are not finite, or train has
            one class or fewer images than classes.

    Example:
    >>> x = np.eye(4, dtype="float32").repeat(3, axis=0)
    >>> y = np.arange(4).repeat(3)
    >>> fit_logistic_regression(x, y, x, y, x, y).test_accuracy
    array([1.])
    """
    sets = {
        "train": _check_set("train", train_features, train_labels),
        "validation": _check_set(
            "validation", validation_features, validation_labels
        ),
        "test": _check_set("test", test_features, test_labels),
    }
    check_classes(sets["train"][1])
    shapes = {name: (x.shape[0], x.shape[2]) for name, (x, _) in sets.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(
            "train, validation and test must have the same layers and width, "
            f"received (layers, width) {shapes}."
        )
    if len(regularization) == 0 or min(regularization) <= 0:
        raise ValueError(
            "regularization must be values of C > 0, received "
            f"{tuple(regularization)}."
        )
    progress = keras.utils.Progbar(
        sets["train"][0].shape[0], unit_name="layer", verbose=verbose
    )
    rows = []
    # A core a layer: BLAS threads fighting over such small products are ten
    # times slower.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Reported as `converged` and `gradient_norm` instead.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = joblib.Parallel(
            n_jobs=-1, prefer="threads", return_as="generator"
        )(
            joblib.delayed(_fit_layer)(
                {name: (x[layer], y) for name, (x, y) in sets.items()},
                regularization,
                standardize,
                max_iterations,
                tolerance,
            )
            for layer in range(sets["train"][0].shape[0])
        )
        for row in fits:
            rows.append(row)
            progress.update(len(rows))
    columns = [np.array(column) for column in zip(*rows)]
    return ProbeResult(*columns, best_layer=int(np.argmax(columns[0])))


def _fit_layer(splits, regularization, standardize, max_iterations, tolerance):
    """Validation and test accuracy, C, gradient norm, converged."""
    train, train_labels = splits["train"]
    scaler = StandardScaler(with_mean=standardize, with_std=standardize)
    train = scaler.fit_transform(train.astype("float64"))
    validation = scaler.transform(splits["validation"][0].astype("float64"))
    best = None
    # From strong to weak, each solution the next one's start.
    coefficients = None
    for c in sorted(regularization):
        probe = LogisticRegression(
            C=c, max_iter=max_iterations, tol=tolerance, warm_start=True
        )
        if coefficients is not None:
            probe.coef_, probe.intercept_, probe.classes_ = coefficients
        probe.fit(train, train_labels)
        coefficients = probe.coef_, probe.intercept_, probe.classes_
        accuracy = probe.score(validation, splits["validation"][1])
        if best is None or accuracy > best[0]:
            best = accuracy, c, probe
    accuracy, c, probe = best
    test = scaler.transform(splits["test"][0].astype("float64"))
    return (
        accuracy,
        probe.score(test, splits["test"][1]),
        c,
        _gradient_norm(probe, train, train_labels),
        bool(probe.n_iter_[0] < max_iterations),
    )


def _gradient_norm(probe, features, labels):
    """Largest entry of d/dw [mean cross-entropy + |w|^2 / (2 C M)]."""
    num_images = len(labels)
    error = probe.predict_proba(features)
    error[np.arange(num_images), np.searchsorted(probe.classes_, labels)] -= 1
    weights = error.T @ features / num_images
    if len(probe.classes_) == 2:
        weights = weights[1:]
    weights += probe.coef_ / (probe.C * num_images)
    return float(max(np.abs(weights).max(), np.abs(error.mean(axis=0)).max()))


def _check_set(name, features, labels):
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim == 2:
        features = features[None]
    if features.ndim != 3 or labels.shape != features.shape[1:2]:
        raise ValueError(
            f"{name}: features must be (layers, images, width) or (images, "
            "width) with labels (images,), received "
            f"{features.shape} and {labels.shape}."
        )
    if not np.isfinite(features).all():
        raise ValueError(
            f"{name}: features are not finite. Did the model diverge?"
        )
    return features, labels


def check_classes(labels):
    """Raises a `ValueError` for labels that no probe can be fitted on."""
    classes = np.unique(labels)
    if len(labels) == 0 or classes[0] < 0:
        raise ValueError(
            "A probe needs labelled images, and these have no labels."
        )
    if len(classes) < 2:
        raise ValueError(
            "A probe needs images of at least two classes, and all "
            f"{len(labels)} have class {classes[0]}."
        )
    # Labels are 0 to C - 1, so a high label speaks of absent classes.
    num_classes = int(classes[-1]) + 1
    if len(labels) < num_classes:
        raise ValueError(
            f"A probe needs at least one image a class, received {len(labels)} "
            f"images of {num_classes} classes. Pass more images."
        )
