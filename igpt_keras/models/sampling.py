import keras
import numpy as np
from keras import ops

from igpt_keras.backend import compile_rows
from igpt_keras.backend import model_scope
from igpt_keras.backend import num_replicas
from igpt_keras.backend import predict_batch
from igpt_keras.layers.check_positive_ints import check_positive_ints
from igpt_keras.models.check_draft import check_draft
from igpt_keras.models.decoding import XLA_STEPS
from igpt_keras.models.decoding import cache_lengths
from igpt_keras.models.decoding import decode
from igpt_keras.models.decoding import lengthen
from igpt_keras.models.decoding import prefill
from igpt_keras.models.draw import draw
from igpt_keras.models.own_network import check_decodes
from igpt_keras.models.prompts import read_prompt
from igpt_keras.models.speculative_sampler import SpeculativeSampler


def sample(
    model,
    num_samples=8,
    prompt=None,
    temperature=1.0,
    top_k=None,
    top_p=None,
    seed=0,
    given=None,
    draft=None,
    draft_tokens=4,
    return_acceptance=False,
):
    """Draws images from an autoregressive model, token by token in its order.

    A model of `attention="block_causal:K"` draws a square of tokens at a time.
    One of `attention="prefix_causal"` reads the prompt as its prefix, from both
    sides, and draws what follows as any other; without a prompt it is causal.
    A prompt is one pass of the network. After it keys and values of earlier
    positions are cached, so each position costs one step and not one pass
    over the image. All steps run on the device, as one program for every
    `num_samples`, length of prompt, `top_k` and `top_p`; on TensorFlow XLA
    compiles 32 steps and more. The same seed gives the same tokens; every
    sample has its own random numbers.

    With a `draft` each pass of the model scores several tokens that a smaller
    one drew (Leviathan et al. 2023, Chen et al. 2023). The samples have the
    distribution of the model alone, under `temperature`, `top_k` and `top_p`
    too, which are applied to both. They are others than those of the same
    seed without a draft, unless the most probable token is taken.

    Args:
        model: an `IGPT` with the autoregressive objective, or an
            `IGPTClassifier` around one; or a functional Keras model with the
            parts that decode: `embedding`, a `TokenAndPositionEmbedding`,
            `blocks`, each with `prefill` and `decode`, `final_norm`, `head`,
            `sequence_length` and `vocabulary_size`.
        num_samples: int. Number of images. Defaults to 8.
        prompt: optional int array `(num_samples, P)`, `P <= N`: the first `P`
            tokens row by row, kept as they are. `(P,)` or `(1, P)` is for all
            samples. Half an image gives a completion.
        temperature: finite float >= 0 that divides the logits. 0 takes the
            most probable token. Defaults to 1.0, the paper's.
        top_k: optional int >= 1. Draw from the `top_k` most probable tokens.
        top_p: optional float in [0, 1]. Draw from the fewest most probable
            tokens whose probabilities, after `top_k`, sum to at least
            `top_p`; never fewer than one.
        seed: int. Defaults to 0.
        given: optional bool array `(num_samples, N)`, or `(N,)` for all
            samples: which tokens of a `prompt` of `N` are kept, whose others
            are not read. They must come first in the model's order: the left
            half of an image if that is `"columns"`. Defaults to the `P` of
            `prompt`.
        draft: optional `IGPT` of the same tokens and order as the model, or an
            `IGPTClassifier` around one. It pays where it costs a small part
            of the model and is right about most tokens.
        draft_tokens: int. Tokens that are drafted for a pass. Of more, more
            are drafted in vain. Defaults to 4.
        return_acceptance: bool. Whether to also return how the draft went.
            Defaults to `False`.

    Returns:
        int32 NumPy array `(num_samples, N)`, in raster order. With
        `return_acceptance` a tuple of it and a dict of int32 `(num_samples,)`:
        `"drafted"` tokens; those of them that were `"accepted"`; `"passes"` of
        the model until all samples that are drawn together were whole.

    Raises:
        ValueError: if the model cannot sample, its logits are not finite, as
            after divergence, what is given does not come first in its order,
            the draft is of other tokens, or an argument is out of range.

    Example:
    >>> from igpt_keras import IGPT
    >>> model = IGPT.from_preset("igpt_nano", sequence_length=16)
    >>> sample(model, num_samples=2).shape
    (2, 16)
    """
    model = _check_model(model)
    (num_samples,) = check_positive_ints(num_samples=num_samples)
    temperature = _check_temperature(temperature)
    if top_k is not None:
        (top_k,) = check_positive_ints(top_k=top_k)
    if top_p is not None and not 0 <= top_p <= 1:
        raise ValueError(f"top_p must be in [0, 1], received {top_p}.")
    token_ids, counts = read_prompt(model, num_samples, prompt, given)
    if temperature == 0:
        temperature, top_k = 1.0, 1

    if return_acceptance and draft is None:
        raise ValueError(
            "return_acceptance counts tokens of a draft, and there is none. "
            "Pass draft, a smaller model, or leave out return_acceptance."
        )
    if draft is not None:
        draft = check_draft(model, draft)
        (draft_tokens,) = check_positive_ints(draft_tokens=draft_tokens)
    shape = token_ids.shape if draft is None else (*token_ids.shape, 3)
    inputs = {
        "token_ids": token_ids,
        "uniform": np.random.default_rng(seed).random(shape, dtype="float32"),
        "temperature": np.full(num_samples, temperature, "float32"),
    }
    if _takes_prefix(model) and (counts != counts[0]).any():
        # What is read from both sides has one length in a pass.
        for count in np.unique(counts):
            rows = counts == count
            some = {name: x[rows] for name, x in inputs.items()}
            found = _draw(model, some, counts[rows], top_k, top_p)
            token_ids[rows] = found["token_ids"]
        return token_ids
    found = _draw(model, inputs, counts, top_k, top_p, draft, draft_tokens)
    token_ids = found["token_ids"]
    if not return_acceptance:
        return token_ids
    counted = ("drafted", "accepted", "passes")
    return token_ids, {name: found[name] for name in counted}


def _draw(model, inputs, counts, top_k, top_p, draft=None, draft_tokens=None):
    """What a sampler finds, of images of which so many tokens are given."""
    start = int(counts.min() if draft is None else counts.max())
    if draft is not None or (counts > start).any():
        inputs["counts"] = counts
    with model_scope(model):
        sampler = _sampler(
            model, inputs, start, top_k, top_p, draft, draft_tokens
        )
        found = predict_batch(sampler, inputs)
    found = {name: np.asarray(x) for name, x in found.items()}
    _check_finite(found, inputs["temperature"][0])
    return found


def _check_model(model):
    """The autoregressive model to sample from."""
    check_decodes(model)
    model = getattr(model, "igpt", model)
    if getattr(model, "objective", "autoregressive") != "autoregressive":
        raise ValueError(
            "sample needs an autoregressive IGPT. A BERT model predicts "
            "hidden tokens from both sides and defines no order to sample in."
        )
    return model


def _takes_prefix(model):
    return getattr(model, "takes_prefix", False)


def _check_finite(found, temperature):
    if not found["logits_are_finite"].all():
        raise ValueError(
            "The model's logits are not finite: it diverged. Sample from an "
            "earlier checkpoint."
        )
    if not found.get("draft_is_finite", np.True_).all():
        raise ValueError(
            "The draft's logits are not finite: it diverged. Draft with an "
            "earlier checkpoint of it, or leave it out."
        )
    if not found["scaled_are_finite"].all():
        raise ValueError(
            f"temperature={temperature:g} makes the logits infinite. Take a "
            "larger one, or 0 for the most probable token."
        )


def _sampler(model, inputs, start, top_k, top_p, draft, draft_tokens):
    """The sampler of a model, its settings and shapes.

    Kept with the model, since tracing the loop takes longer than running it;
    past Keras, which would take it for a part of the model. What was traced
    for other variables, before LoRA or quantizing, is of no use.
    """
    variables = tuple(map(id, model.variables))
    if model.__dict__.get("_sampled_variables") != variables:
        model.__dict__["_sampled_variables"] = variables
        model.__dict__["_samplers"] = {}
    samplers = model.__dict__["_samplers"]
    # What was traced for the replicas of one strategy is not for another's.
    shapes = (len(inputs["token_ids"]), "counts" in inputs, start)
    key = (*shapes, top_k, top_p, num_replicas(model))
    if draft is not None:
        # The sampler keeps the draft, so that no other has its numbers.
        key = (*key, draft_tokens, *map(id, draft.variables))
    if key not in samplers:
        if draft is None:
            samplers[key] = _Sampler(model, start, top_k, top_p)
        else:
            samplers[key] = SpeculativeSampler(
                model, draft, draft_tokens, start, top_k, top_p
            )
    return samplers[key]


def _check_temperature(temperature):
    try:
        number = float(temperature)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise ValueError(
            f"temperature must be >= 0 and finite, received {temperature!r}."
        )
    if number > 0 and np.float32(number) == 0:
        raise ValueError(
            f"temperature={number} is 0 in float32. Take a larger one, or 0 "
            "for the most probable token."
        )
    return number


class _Sampler(keras.Model):
    """The loop over positions, as a model so that Keras compiles it."""

    def __init__(self, model, prompt_length, top_k, top_p):
        # The random numbers are not rounded; each layer has its own dtype.
        super().__init__(name="sampler", dtype="float32")
        self.igpt = model
        # Tokens that are drawn at a time.
        self.size = model.embedding.square_side**2
        self.prompt_length = prompt_length
        self.top_k = top_k
        self.top_p = top_p

    def call(self, inputs):
        rest = self.igpt.sequence_length - self.prompt_length
        if rest // self.size < XLA_STEPS:
            return self.complete(inputs)
        return compile_rows(self.complete, inputs, self.igpt, least=2)

    def complete(self, inputs):
        """Fills in the tokens after the prompt."""
        token_ids, size = inputs["token_ids"], self.size
        start = self.prompt_length // size
        stop = self.igpt.sequence_length // size
        finite = ops.ones_like(token_ids[:, 0], "bool")
        # Of one step at least, since tensors of none lose their shapes; the
        # step fills it in again.
        known, prefix_length = max(start, 1) * size, None
        if _takes_prefix(self.igpt):
            # With the position that holds its last token, to which all of the
            # prefix attends; the first step fills in the same once more.
            known = min(start + 1, stop)
            prefix_length = ops.zeros_like(token_ids[:, 0]) + start
        caches = prefill(self.igpt, token_ids, known, prefix_length)
        state = token_ids, caches, finite, finite
        for length in cache_lengths(start, stop):
            token_ids, caches, *finites = state
            # By so many: they may begin with more than the image's positions.
            missing = length * size - known
            caches = [
                tuple(lengthen(part, missing) for part in cache)
                for cache in caches
            ]
            known = length * size
            state = ops.fori_loop(
                start,
                length,
                lambda i, state: self.step(inputs, i * size, state),
                (token_ids, caches, *finites),
            )
            start = length
        return {
            "token_ids": state[0],
            "logits_are_finite": state[2],
            "scaled_are_finite": state[3],
        }

    def step(self, inputs, position, state):
        """Draws the tokens of one position, or of the square that begins it."""
        token_ids, caches, finite, scaled_finite = state
        logits, caches = decode(self.igpt, token_ids, caches, position)
        scaled = logits / inputs["temperature"][:, None, None]
        finite = finite & ops.all(ops.isfinite(logits), axis=(1, 2))
        scaled_finite &= ops.all(ops.isfinite(scaled), axis=(1, 2))
        positions = position + np.arange(self.size, dtype="int32")
        uniform = ops.take(inputs["uniform"], positions, axis=1)
        drawn = draw(
            ops.reshape(scaled, (-1, scaled.shape[-1])),
            ops.reshape(uniform, (-1,)),
            self.top_k,
            self.top_p,
        )
        drawn = ops.reshape(drawn, (-1, self.size))
        places = self.igpt.embedding.place(positions)
        if "counts" in inputs:
            known = ops.take(token_ids, places, axis=1)
            given = positions < inputs["counts"][:, None]
            drawn = ops.where(given, known, drawn)
        for i in range(self.size):
            token_ids = ops.slice_update(
                token_ids, (0, places[i]), drawn[:, i : i + 1]
            )
        return token_ids, caches, finite, scaled_finite
