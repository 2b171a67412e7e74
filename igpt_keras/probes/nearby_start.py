import numpy as np
from scipy import linalg
from scipy import optimize


def second_moments(features):
    """Means of products of features and of a constant one, `(D + 1, D + 1)`."""
    means = features.mean(axis=0, dtype="float64")
    moments = np.ones((features.shape[1] + 1,) * 2)
    moments[:-1, :-1] = features.T @ features
    moments[:-1, :-1] /= len(features)
    moments[:-1, -1] = moments[-1, :-1] = means
    return moments


def nearby_start(
    features, places, moments, penalty, tolerance, max_iterations, start=None
):
    """Weights close to those of a logistic regression, found in few passes.

    L-BFGS in coordinates in which the loss curves alike in all directions, as
    it does where all classes are as probable: there the Hessian of one class
    is `(1 - 1 / K) / K` times the second moments, and the penalty (Boehning
    1992). Features that are much alike cost a plain L-BFGS hundreds of passes.

    Args:
        features: float array `(M, D)`.
        places: int array `(M,)`, each image's class, `0` to `K - 1`.
        moments: their `second_moments`.
        penalty: float. The loss is the mean cross-entropy and half of this
            times the squared weights, without those of the constant.
        tolerance: float. Stop when no entry of the gradient is larger.
        max_iterations: int.
        start: optional `(coef, intercept)` of another penalty.

    Returns:
        `(coef, intercept)`, float64 `(K, D)` and `(K,)`; of two classes
        `(1, D)` and `(1,)`, as scikit-learn has them. Where rounding or
        `max_iterations` stop it, the gradient is larger than `tolerance`.
    """
    num_images, width = features.shape
    num_classes = int(places.max()) + 1
    rows = 1 if num_classes == 2 else num_classes
    hessian = moments * ((1 - 1 / num_classes) / num_classes)
    # Moments of float32 are those of no real features, by this much at most.
    rounding = 1e-6 * np.trace(hessian)
    hessian[np.diag_indices(width)] += penalty
    hessian[np.diag_indices(width + 1)] += rounding
    factor = linalg.cholesky(hessian, lower=True)
    images = np.arange(num_images)
    norm = np.inf

    def weights_at(point):
        return linalg.solve_triangular(
            factor, point.reshape(-1, rows), trans="T", lower=True
        )

    def loss_and_gradient(point):
        nonlocal norm
        weights = weights_at(point)
        scores = features @ weights[:-1].astype(features.dtype)
        scores += weights[-1].astype(features.dtype)
        if rows == 1:
            scores = np.concatenate([0 * scores, scores], axis=1)
        scores -= scores.max(axis=1, keepdims=True)
        errors = np.exp(scores)
        sums = errors.sum(axis=1, keepdims=True)
        right = scores[images, places].astype("float64")
        loss = np.log(sums.astype("float64")).mean() - right.mean()
        loss += 0.5 * penalty * np.sum(weights[:-1] ** 2)
        errors /= sums
        errors[images, places] -= 1
        errors = errors[:, -rows:]
        gradient = np.empty_like(weights)
        gradient[:-1] = features.T @ errors / num_images
        gradient[:-1] += penalty * weights[:-1]
        gradient[-1] = errors.mean(axis=0, dtype="float64")
        norm = np.abs(gradient).max()
        found = linalg.solve_triangular(factor, gradient, lower=True)
        return loss, found.ravel()

    def stop(intermediate_result):
        if norm <= tolerance:
            raise StopIteration

    point = np.zeros((width + 1, rows))
    if start is not None:
        coef, intercept = start
        point = factor.T @ np.concatenate([coef, intercept[:, None]], 1).T
    found = optimize.minimize(
        loss_and_gradient,
        point.ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=stop,
        # The rest is left to `tolerance`.
        options={"maxiter": max_iterations, "ftol": 1e-14, "gtol": 0},
    )
    weights = weights_at(found.x)
    return weights[:-1].T, weights[-1]
