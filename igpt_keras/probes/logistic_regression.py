import dataclasses
import warnings

import joblib
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from igpt_keras.probes.check_sets import check_set
from igpt_keras.probes.check_sets import check_sets
from igpt_keras.probes.chosen_layers import LayerAccuracies
from igpt_keras.probes.layer_bar import layer_bar
from igpt_keras.probes.nearby_start import nearby_start
from igpt_keras.probes.nearby_start import second_moments

# Of wider features a matrix of their moments takes longer than it saves.
_WIDEST = 4096
# scikit-learn's C, the inverse of the L2 penalty on the summed loss.
REGULARIZATION = (0.001, 0.01, 0.1, 1.0, 10.0)


@dataclasses.dataclass(frozen=True)
class ProbeResult(LayerAccuracies):
    """What `fit_logistic_regression` found, arrays over `L + 1` layers.

    Attributes:
        validation_accuracy: float array, fractions, at the chosen C.
        test_accuracy: float array, fractions, at the chosen C.
        num_validation_images: int.
        num_test_images: int.
        regularization: float array, the chosen C.
        gradient_norm: float array, largest absolute entry of the gradient of
            the mean regularised loss where L-BFGS stopped.
        converged: bool array, whether that is `tolerance` at most, or twice as
            much, which is rounding: L-BFGS also stops at `max_iterations`, and
            where no step makes the loss smaller.
        probes: list, a scikit-learn classifier of features `(M, D)` a layer.
    """

    regularization: np.ndarray
    gradient_norm: np.ndarray
    converged: np.ndarray
    probes: list

    @property
    def best_layer(self):
        """The same as `chosen_layer`."""
        return self.chosen_layer

    def accuracy(self, features, labels):
        """Accuracy of each layer's probe on other images, a float array."""
        features, labels = check_set("features", features, labels)
        if len(features) != len(self.probes):
            raise ValueError(
                f"features must have the {len(self.probes)} layers that were "
                f"probed, received {len(features)}."
            )
        pairs = zip(self.probes, features)
        return np.array([probe.score(x, labels) for probe, x in pairs])


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
    refit=False,
):
    """Linear probe: multinomial logistic regression by L-BFGS, per layer.

    Section 3.1 of the paper, with scikit-learn's solver, which starts where
    `nearby_start` ends. Every layer is fitted on train for each strength of
    regularisation; the strength, and `chosen_layer`, are chosen on validation;
    each layer's chosen probe is then scored on test once. What standardising
    needs is computed on the images that are fitted on. `probe_layers` takes the
    validation images out of train.

    Args:
        train_features: float array `(L + 1, M, D)`, as `extract_features`
            returns, or `(M, D)` for a single set such as raw pixels.
        train_labels: int array `(M,)`, the classes; gaps do no harm.
        validation_features: as `train_features`, other images.
        validation_labels: int array.
        test_features: as `train_features`, other images.
        test_labels: int array.
        regularization: float > 0, or sequence to choose from. Values of
            scikit-learn's `C`. Defaults to 0.001 to 10 by factors of ten.
        standardize: bool. Whether to scale features to zero mean and unit
            variance first. Defaults to `True`.
        max_iterations: int. Iterations of each L-BFGS at most. Defaults to
            1000.
        tolerance: float. Stop when no entry of the gradient is larger.
            Defaults to 1e-4.
        verbose: 0 or 1. Whether to show a progress bar, on a terminal.
            Defaults to 0.
        refit: bool. Whether a layer's probe, once its strength is chosen, is
            fitted again on train and validation together. Defaults to `False`.

    Returns:
        A `ProbeResult`; accuracies are fractions.

    Raises:
        ValueError: if shapes disagree, values are not finite, labels are not
            whole numbers, or train has one class.

    Example:
    >>> x = np.eye(4, dtype="float32").repeat(3, axis=0)
    >>> y = np.arange(4).repeat(3)
    >>> fit_logistic_regression(x, y, x, y, x, y).test_accuracy
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
    regularization = check_regularization(regularization)
    num_layers = len(sets["train"][0])
    progress = layer_bar(num_layers, verbose)
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
                refit,
            )
            for layer in range(num_layers)
        )
        for row in fits:
            rows.append(row)
            progress.update(len(rows))
    *columns, probes = zip(*rows)
    validation, test, chosen, norms, converged = map(np.array, columns)
    return ProbeResult(
        validation_accuracy=validation,
        test_accuracy=test,
        num_validation_images=len(sets["validation"][1]),
        num_test_images=len(sets["test"][1]),
        regularization=chosen,
        gradient_norm=norms,
        converged=converged,
        probes=list(probes),
    )


def _fit_layer(
    splits, regularization, standardize, max_iterations, tolerance, refit
):
    """Validation and test accuracy, C, gradient norm, converged, probe."""
    train, train_labels = splits["train"]
    validation, validation_labels = splits["validation"]
    scaler = _scaler(standardize)
    scaled = scaler.fit_transform(train)
    scaled_validation = scaler.transform(validation)
    best = None
    for probe in _fits(
        scaled, train_labels, sorted(regularization), max_iterations, tolerance
    ):
        accuracy = probe.score(scaled_validation, validation_labels)
        if best is None or accuracy > best[0]:
            best = accuracy, probe
    accuracy, probe = best
    if refit:
        train = np.concatenate([train, validation])
        train_labels = np.concatenate([train_labels, validation_labels])
        scaler = _scaler(standardize)
        scaled = scaler.fit_transform(train)
        (probe,) = _fits(
            scaled, train_labels, [probe.C], max_iterations, tolerance, probe
        )
    layer_probe = make_pipeline(*(step for _, step in scaler.steps), probe)
    norm = _gradient_norm(probe, scaled, train_labels)
    return (
        accuracy,
        layer_probe.score(*splits["test"]),
        probe.C,
        norm,
        norm <= 2 * tolerance,
        layer_probe,
    )


def _scaler(standardize):
    """Makes features float32, of zero mean and unit variance if wanted."""
    return make_pipeline(
        FunctionTransformer(_at_least_float32),
        StandardScaler(with_mean=standardize, with_std=standardize),
        # L-BFGS reads them in every iteration: half the bytes, half the time.
        # Of features far from zero, float32 leaves no gradient to follow.
        FunctionTransformer(_as_float32 if standardize else _as_float64),
    )


def _at_least_float32(features):
    return features.astype(np.promote_types(features.dtype, "float32"))


def _as_float64(features):
    return features.astype("float64", copy=False)


def _as_float32(features):
    return features.astype("float32", copy=False)


def _fits(features, labels, strengths, max_iterations, tolerance, before=None):
    """A fitted probe a strength, each solution the next one's start.

    The first starts from that of `before`, a probe, if one is given. Weak
    penalties are fitted faster from the solutions of strong ones.
    """
    num_images, width = features.shape
    moments = None
    if width <= min(_WIDEST, num_images):
        moments = second_moments(features)
    classes, places = np.unique(labels, return_inverse=True)
    for c in strengths:
        start = None
        if before is not None and np.array_equal(before.classes_, classes):
            start = before.coef_, before.intercept_
        if moments is not None:
            start = nearby_start(
                features,
                places,
                moments,
                1 / (c * num_images),
                # scikit-learn computes it again, with other roundings.
                tolerance / 2,
                max_iterations,
                start,
            )
        before = LogisticRegression(
            C=c, max_iter=max_iterations, tol=tolerance, warm_start=True
        )
        if start is not None:
            before.coef_, before.intercept_ = start
            before.classes_ = classes
        yield before.fit(features, labels)


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


def check_regularization(values):
    """`C` to choose from as a tuple, from a number or a sequence."""
    values = tuple(np.atleast_1d(np.asarray(values)).tolist())
    numbers = all(isinstance(c, (int, float)) for c in values)
    if not values or not numbers or not all(0 < c < np.inf for c in values):
        raise ValueError(
            "regularization must be values of C > 0, a number or a sequence "
            f"of numbers, received {values}."
        )
    return values
