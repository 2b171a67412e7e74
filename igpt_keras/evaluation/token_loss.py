import math

import keras
import numpy as np
from keras import ops

from igpt_keras.evaluation.token_batches import TokenBatches
from igpt_keras.models.own_network import check_call
from igpt_keras.probes.whole_inputs import token_input
from igpt_keras.terminal import verbosity

# The released script evaluates 8 images on each of 8 GPUs and leaves out what
# does not fill a batch.
RELEASED_BATCH = 64


def token_losses(
    model,
    token_ids,
    batch_size=8,
    num_masks=1,
    mask_rate=0.15,
    seed=0,
    verbose=0,
):
    """Nats per token of each image.

    Of a model of `attention="prefix_causal"` without a prefix: each token given
    those before it, as of any other. For BERT the mean over an image's hidden
    tokens, 0 if there are none. Image `i` has under its `k`-th mask the one of
    `(seed, k, i)`, whatever the batch size.

    Args:
        model: an `IGPT`.
        token_ids: int array `(M, N)`; a mapped file is read in batches.
        batch_size: int. Images at a time. Defaults to 8.
        num_masks: int. BERT: masks drawn for each image. Defaults to 1.
        mask_rate: float. BERT: share of tokens that are hidden. Defaults to
            0.15.
        seed: int. BERT: of the masks. Defaults to 0.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        float64 array `(K, M)`, `K` being 1 but for BERT `num_masks`.

    Raises:
        ValueError: for several masks of a model that is no BERT, and for a
            `mask_rate` that hides nothing.
    """
    check_masks(model, num_masks, mask_rate)
    is_bert = model.objective == "bert"
    scorer = _build_scorer(model)
    losses = []
    for mask in range(num_masks):
        batches = TokenBatches(
            token_ids,
            batch_size,
            mask_rate if is_bert else None,
            (seed, mask),
            _prefix_length(model),
        )
        losses.append(scorer.predict(batches, verbose=verbosity(verbose)))
    return np.stack(losses).astype("float64")


def token_surprise(model, token_ids, batch_size=8):
    """Nats of every token given those before it in the model's order.

    Of a model that predicts squares, given the squares before its own; of one
    with a prefix, without it.

    Args:
        model: an autoregressive `IGPT`.
        token_ids: int array `(M, N)`.
        batch_size: int. Images at a time. Defaults to 8.

    Returns:
        float32 array `(M, N)`, in raster order; its mean is the loss.

    Raises:
        ValueError: for BERT, of which no token is the next.
    """
    if model.objective != "autoregressive":
        raise ValueError(
            "Surprise is of an autoregressive model: BERT predicts the tokens "
            "that a mask hides, and its other tokens cost nothing."
        )
    scorer = keras.Model(model.input, _nats(model))
    batches = TokenBatches(
        token_ids, batch_size, prefix_length=_prefix_length(model)
    )
    return scorer.predict(batches, verbose=0)


def _prefix_length(model):
    """Of the likelihood of a whole image: none is given; `None` for others."""
    return 0 if model.takes_prefix else None


def _nats(model):
    """`-log p` of each token, symbolic float32 `(B, N)`."""
    check_call(model, "the loss of each token")
    return ops.sparse_categorical_crossentropy(
        token_input(model), model.output, from_logits=True
    )


def check_masks(model, num_masks, mask_rate):
    """Raises a `ValueError` unless a model has a loss under these masks.

    Args:
        model: a model, which has to be an `IGPT`.
        num_masks: int. Masks of each image, one if it is not BERT's.
        mask_rate: float. Share of the tokens that a mask hides.
    """
    if not hasattr(model, "objective"):
        raise ValueError(
            "Losses of tokens are those of an IGPT, received a "
            f"{type(model).__name__}."
        )
    is_bert = model.objective == "bert"
    if num_masks > 1 and not is_bert:
        raise ValueError(
            "--num_masks is for BERT, and the model is autoregressive: nothing "
            "is hidden from it."
        )
    if is_bert and mask_rate == 0:
        raise ValueError("--mask_rate=0 hides no token: no loss is left.")


def average_losses(losses, is_palette=True):
    """Metrics by both averaging rules.

    Args:
        losses: float array `(K, M)`, nats per token of each image.
        is_palette: bool. Whether tokens are colours, of three channels.
            Defaults to `True`.

    Returns:
        dict of `all_images`, and `whole_batches`: whole batches of 64, as the
        released script does, or `None` where there is none. Each is a dict of
        `images`, `nats_per_token`, `bits_per_token`, `perplexity`, and for a
        palette `palette_bits_per_dimension`.
    """
    metrics = {"all_images": units(losses, is_palette)}
    whole = losses.shape[1] // RELEASED_BATCH * RELEASED_BATCH
    metrics["whole_batches"] = None
    if whole:
        # Batches are equally large, so the mean of their means is the mean.
        metrics["whole_batches"] = units(losses[:, :whole], is_palette)
    return metrics


def units(losses, is_palette=True):
    """The mean of `losses` in every unit; see `average_losses`."""
    nats = float(losses.mean())
    found = {
        "images": losses.shape[1],
        "nats_per_token": nats,
        "bits_per_token": nats / math.log(2),
        # Infinite beyond 709 nats.
        "perplexity": float(np.exp(np.float64(nats))),
    }
    if is_palette:
        # Three colour channels a token. Not comparable with bits per dimension
        # of RGB images: the palette has thrown most of those bits away.
        found["palette_bits_per_dimension"] = nats / math.log(2) / 3
    return found


def dataset_loss(model, validation, test):
    """Nats per token of a compiled model on the images of a run.

    Args:
        model: a compiled `IGPT`.
        validation: `EvaluationSet`.
        test: `EvaluationSet`.

    Returns:
        dict of float: `validation_nats_per_token`, `test_nats_per_token`, and
        `test_unigram_nats_per_token`, see `unigram_entropy`.
    """
    losses = [
        float(model.evaluate(examples.inputs, verbose=0))
        for examples in (validation, test)
    ]
    token_ids = (x for x, _ in test.tokens.as_numpy_iterator())
    return {
        "validation_nats_per_token": losses[0],
        "test_nats_per_token": losses[1],
        "test_unigram_nats_per_token": unigram_entropy(
            token_ids, model.vocabulary_size
        ),
    }


def unigram_entropy(batches, vocabulary_size):
    """Entropy of the frequencies of token ids, in nats.

    What a model reaches that knows how often each token occurs in these very
    images, and no more.

    Args:
        batches: iterable of int arrays.
        vocabulary_size: int.
    """
    counts = np.zeros(vocabulary_size, "int64")
    for token_ids in batches:
        counts += np.bincount(token_ids.ravel(), minlength=vocabulary_size)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def _build_scorer(model):
    """A Keras model from `model`'s inputs to nats per token, float32 `(B,)`."""
    nats = _nats(model)
    if model.objective == "bert":
        hidden = ops.cast(model.input["mask"], "float32")
        count = ops.maximum(ops.sum(hidden, axis=1), 1.0)
        return keras.Model(model.input, ops.sum(nats * hidden, axis=1) / count)
    return keras.Model(model.input, ops.mean(nats, axis=1))
