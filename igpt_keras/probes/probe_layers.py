from igpt_keras.probes.hold_out import held_out_sets
from igpt_keras.probes.logistic_regression import REGULARIZATION
from igpt_keras.probes.logistic_regression import fit_logistic_regression


def probe_layers(
    train_features,
    train_labels,
    test_features,
    test_labels,
    regularization=REGULARIZATION,
    verbose=0,
):
    """The protocol of every probe here: of `LinearProbe`, and of final ones.

    Each layer is fitted on two thirds of train for each strength of
    regularisation; the strength, and the layer, are chosen on the third that
    `hold_out` takes; each layer's probe is fitted again on all of train with
    the strength chosen, and scored on test. Nothing is chosen on test.

    Args:
        train_features: float array `(L + 1, M, D)`, as `extract_features`
            returns, or `(M, D)` for a single set such as raw pixels.
        train_labels: int array `(M,)`.
        test_features: as `train_features`, other images.
        test_labels: int array.
        regularization: float, or sequence to choose from. Values of
            scikit-learn's `C`. Defaults to 0.001 to 10 by factors of ten.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        A `ProbeResult`. Its validation images are those held out; score
        another set by its `accuracy`.

    Raises:
        ValueError: as `fit_logistic_regression`, or if `why_no_probe` has a
            reason.

    Example:
    >>> import numpy as np
    >>> x = np.eye(4, dtype="float32").repeat(3, axis=0)
    >>> y = np.arange(4).repeat(3)
    >>> probe_layers(x, y, x, y).test_accuracy
    array([1.])
    """
    return fit_logistic_regression(
        *held_out_sets(train_features, train_labels),
        test_features,
        test_labels,
        regularization=regularization,
        refit=True,
        verbose=verbose,
    )
