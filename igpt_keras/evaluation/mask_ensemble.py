"""Classes that BERT gives under several masks (section 4.6)."""

import numpy as np

from igpt_keras.probes.labels import check_labels

# The paper's number of masks.
NUM_MASKS = 5


def modal_prediction(predictions, seed=0):
    """The class that most masks give each image.

    Of several that as many masks give, one is drawn at random.

    Args:
        predictions: int array `(K, M)`, the class of each image under each
            mask.
        seed: int. Of the draws. Defaults to 0.

    Returns:
        int array `(M,)`.

    Raises:
        ValueError: unless there are such predictions.
    """
    predictions = np.asarray(predictions)
    if predictions.ndim != 2 or not len(predictions):
        raise ValueError(
            "predictions must be (masks, images), of one mask at least, "
            f"received shape {predictions.shape}."
        )
    votes = predictions[:, None, :] == predictions  # (K, K, M)
    # The draw orders masks; the first of a class that leads has it.
    generator = np.random.default_rng(seed)
    order = generator.random(predictions.shape).argsort(axis=0)
    counts = np.take_along_axis(votes.sum(axis=0), order, axis=0)
    ordered = np.take_along_axis(predictions, order, axis=0)
    return ordered[counts.argmax(axis=0), np.arange(predictions.shape[1])]


def ensemble_of(classes, examples, num_masks, seed=0):
    """`mask_ensemble` of an `EvaluationSet`.

    Args:
        classes: function of a dataset of `(inputs, labels)`, BERT's under a
            mask or not, to the classes `(M,)` that images are given.
        examples: `EvaluationSet`.
        num_masks: int.
        seed: int. Breaks ties of the vote. Defaults to 0.
    """
    masked = [classes(examples.masked(mask)) for mask in range(num_masks)]
    unmasked = classes(examples.tokens)
    return mask_ensemble(masked, unmasked, examples.labels, seed)


def mask_ensemble(predictions, unmasked, labels, seed=0):
    """Accuracies of BERT by what is hidden when it classifies.

    Args:
        predictions: int array `(K, M)`, classes under each of `K` masks.
        unmasked: int array `(M,)`, classes when nothing is hidden.
        labels: int array `(M,)`.
        seed: int. Breaks ties of the vote. Defaults to 0.

    Returns:
        dict of `num_masks`, `one_mask_accuracy` (the mean over masks),
        `one_mask_deviation` (over masks, 0 for one), `ensemble_accuracy` (of
        the class that most masks give) and `no_mask_accuracy`.
    """
    labels = check_labels(labels)
    single = (np.asarray(predictions) == labels).mean(axis=1)
    modal = modal_prediction(predictions, seed)
    return {
        "num_masks": len(single),
        "one_mask_accuracy": float(single.mean()),
        "one_mask_deviation": float(single.std(ddof=min(1, len(single) - 1))),
        "ensemble_accuracy": float((modal == labels).mean()),
        "no_mask_accuracy": float((np.asarray(unmasked) == labels).mean()),
    }
