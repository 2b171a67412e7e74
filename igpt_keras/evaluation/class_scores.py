import keras
import numpy as np
from keras import ops

from igpt_keras.evaluation.mask_ensemble import NUM_MASKS
from igpt_keras.evaluation.mask_ensemble import mask_ensemble
from igpt_keras.evaluation.token_batches import TokenBatches
from igpt_keras.models.checked_model import check_ids
from igpt_keras.probes.chosen_layers import standard_error
from igpt_keras.terminal import verbosity


def class_scores(
    classifier,
    token_ids,
    labels,
    batch_size=64,
    num_masks=NUM_MASKS,
    mask_rate=0.15,
    seed=0,
    verbose=0,
):
    """How well a fine-tuned model classifies (sections 4.3 and 4.6).

    Args:
        classifier: an `IGPTClassifier`.
        token_ids: int array `(M, N)`.
        labels: int array `(M,)` in `[0, num_classes)`.
        batch_size: int. Images at a time. Defaults to 64.
        num_masks: int. BERT: independent masks for each image, whose modal
            prediction counts. Defaults to 5, the paper's.
        mask_rate: float. BERT: share of tokens that are hidden. Defaults to
            0.15.
        seed: int. BERT: of the masks, and of ties. Defaults to 0.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        dict of `accuracy` (of BERT under the first mask), its
        `standard_error`, `class_nats` (the mean of `-log p(class)`), `images`,
        and `masks`: `mask_ensemble` of BERT, or `None`.

    Raises:
        ValueError: for labels that are no classes of the model, or as many as
            there are images.
    """
    check_ids(
        "Labels",
        np.asarray(labels),
        (len(token_ids),),
        classifier.num_classes,
        f"The model classifies {classifier.num_classes} classes: choose the "
        "dataset that it was fine-tuned on.",
    )
    scorer = keras.Model(classifier.input, classifier.output["class_logits"])

    # Any: classes are read off the whole image.
    prefix = 0 if classifier.igpt.takes_prefix else None

    def logits(rate=None, masks=()):
        batches = TokenBatches(token_ids, batch_size, rate, masks, prefix)
        return scorer.predict(batches, verbose=verbosity(verbose))

    masks = None
    if classifier.igpt.objective == "bert":
        under = [logits(mask_rate, (seed, k)) for k in range(num_masks)]
        predictions = np.stack([x.argmax(axis=1) for x in under])
        unmasked = logits(0.0).argmax(axis=1)
        masks = mask_ensemble(predictions, unmasked, labels, seed)
        first = under[0]
    else:
        first = logits()
    accuracy = float((first.argmax(axis=1) == labels).mean())
    nats = ops.sparse_categorical_crossentropy(labels, first, from_logits=True)
    return {
        "accuracy": accuracy,
        "standard_error": standard_error(accuracy, len(labels)),
        "class_nats": float(ops.mean(nats)),
        "images": len(labels),
        "masks": masks,
    }
