"""How well a model's loss tells images apart from those it learned from."""

import math

import numpy as np
from sklearn.metrics import roc_auc_score


def outlier_scores(nats, compressed_bytes, small_nats=None):
    """How unlike the images that a model learned from each image is.

    The loss alone calls simple images familiar, whatever they show. Two
    corrections take away what any image of this complexity costs: the loss of
    a smaller model, which knows textures and little more (Schirrmeister et
    al., 2020, "Understanding Anomaly Detection with Deep Invertible Networks
    through Hierarchies of Distributions and Features"), and the size under a
    general codec (Serra et al., 2020, "Input complexity and
    out-of-distribution detection with likelihood-based generative models").

    Args:
        nats: float array `(M,)`, the loss of an image, summed over its tokens.
        compressed_bytes: int array `(M,)`, of the same images.
        small_nats: float array `(M,)`, the loss of a smaller model. Defaults
            to none, and no such score.

    Returns:
        dict of float64 arrays `(M,)` by the name of the score; higher is less
        alike.
    """
    nats = np.asarray(nats, "float64")
    scores = {"loss": nats}
    if small_nats is not None:
        scores["loss - small model's loss"] = nats - small_nats
    size = 8 * math.log(2) * np.asarray(compressed_bytes, "float64")
    scores["loss - compressed size"] = nats - size
    return scores


def outlier_auroc(inside, outside):
    """Area under the ROC curve of each score.

    The share of pairs, an image of each kind, in which the outlier has the
    higher score, ties counting half: 0.5 is chance, and below it outliers
    look more familiar than what was learned from.

    Args:
        inside: dict of `outlier_scores` of images as those learned from.
        outside: dict of `outlier_scores` of outliers.

    Returns:
        dict of float by the name of the score.
    """
    return {
        name: float(
            roc_auc_score(
                np.repeat([0, 1], [len(scores), len(outside[name])]),
                np.concatenate([scores, outside[name]]),
            )
        )
        for name, scores in inside.items()
    }
