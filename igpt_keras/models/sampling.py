import keras
import numpy as np
from keras import ops

from igpt_keras.backend import compile_rows
from igpt_keras.backend import model_scope
from igpt_keras.backend import num_replicas
from igpt_keras.layers.check_positive_ints import check_positive_ints
from igpt_keras.models.igpt import IGPT
from igpt_keras.models.own_network import check_decodes
from igpt_keras.models.prompts import read_prompt


def sample(
    model,
    num_samples=8,
    prompt=None,
    temperature=1.0,
    top_k=None,
    top_p=None,
    seed=0,
    given=None,
):
    """Draws images from an autoregressive model, token by token in its order.

    A model of `attention="block_causal:K"` draws a square of tokens at a time.
    One of `attention="prefix_causal"` reads the prompt as its prefix, from both
    sides, and draws what follows as any other; without a prompt it is causal.
    A prompt is one pass of the network. After it keys and values of earlier
    positions are cached, so each position costs one step and not one pass
    over the image. All steps run on the device, compiled once for every
    `num_samples`, length of prompt, `top_k` and `top_p`. The same seed gives
    the same tokens; every sample has its own random numbers.

    Args:
        model: an `IGPT` with the autoregressive objective, or an
            `IGPTClassifier` around one.
        num_samples: int. Number of images. Defaults to 8.
        prompt: optional int array `(num_samples, P)`, `P <= N`: the first `P`
            tokens row by row, kept as they are. `(P,)` or `(1, P)` is for all
            samples. Half an image gives a completion.
        temperature: finite float >= 0 that divides the logits. 0 takes the
            most probable token. The paper samples at 1.0.
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

    Returns:
        int32 NumPy array `(num_samples, N)`, in raster order.

    Raises:
        ValueError: if the model cannot sample, its logits are not finite, as
            after divergence, what is given does not come first in its order,
            or an argument is out of range.

    Example:
    >>> from igpt_keras import IGPT
    >>> model = IGPT.from_preset("igpt_nano", sequence_length=16)
    >>> sample(model, num_samples=2).shape
    (2, 16)
    """
    check_decodes(model)
    model = getattr(model, "igpt", model)
    if not isinstance(model, IGPT):
        raise ValueError(
            f"sample needs an IGPT, received a {type(model).__name__}."
        )
    if model.objective != "autoregressive":
        raise ValueError(
            "sample needs an autoregressive IGPT. A BERT model predicts "
            "hidden tokens from both sides and defines no order to sample in."
        )
    (num_samples,) = check_positive_ints(num_samples=num_samples)
    temperature = _check_temperature(temperature)
    if top_k is not None:
        (top_k,) = check_positive_ints(top_k=top_k)
    if top_p is not None and not 0 <= top_p <= 1:
        raise ValueError(f"top_p must be in [0, 1], received {top_p}.")
    token_ids, counts = read_prompt(model, num_samples, prompt, given)
    if temperature == 0:
        temperature, top_k = 1.0, 1

    uniform = np.random.default_rng(seed).random(
        token_ids.shape, dtype="float32"
    )
    inputs = {
        "token_ids": token_ids,
        "uniform": uniform,
        "temperature": np.full(num_samples, temperature, "float32"),
    }
    if not model.takes_prefix or (counts == counts[0]).all():
        return _draw(model, inputs, counts, top_k, top_p)
    # What is read from both sides has one length in a pass.
    for count in np.unique(counts):
        rows = counts == count
        some = {name: x[rows] for name, x in inputs.items()}
        token_ids[rows] = _draw(model, some, counts[rows], top_k, top_p)
    return token_ids


def _draw(model, inputs, counts, top_k, top_p):
    """What `sample` returns, of images of which so many tokens are given."""
    start, rows = int(counts.min()), len(counts)
    if (counts > start).any():
        inputs["counts"] = counts
    with model_scope(model):
        # Not `predict_on_batch`, which gives every replica the whole batch.
        sampler = _sampler(model, inputs, start, top_k, top_p)
        found = sampler.predict(inputs, batch_size=rows, verbose=0)
    if not found["logits_are_finite"].all():
        raise ValueError(
            "The model's logits are not finite: it diverged. Sample from an "
            "earlier checkpoint."
        )
    if not found["scaled_are_finite"].all():
        raise ValueError(
            f"temperature={inputs['temperature'][0]:g} makes the logits "
            "infinite. Take a larger one, or 0 for the most probable token."
        )
    return np.asarray(found["token_ids"])


def _sampler(model, inputs, prompt_length, top_k, top_p):
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
    shapes = (len(inputs["token_ids"]), "counts" in inputs, prompt_length)
    key = (*shapes, top_k, top_p, num_replicas(model))
    if key not in samplers:
        samplers[key] = _Sampler(model, prompt_length, top_k, top_p)
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


# Of fewer steps XLA's compilation takes longer than all of them.
XLA_STEPS = 128


class _Sampler(keras.Model):
    """The loop over positions, as a model so that `predict` compiles it."""

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
        return compile_rows(self.complete, inputs, self.igpt)

    def complete(self, inputs):
        """Fills in the tokens after the prompt."""
        token_ids, size = inputs["token_ids"], self.size
        start = self.prompt_length // size
        stop = self.igpt.sequence_length // size
        finite = ops.ones_like(token_ids[:, 0], "bool")
        # Of one step at least, since tensors of none lose their shapes; the
        # step fills it in again.
        known, prefix_length = max(start, 1) * size, None
        if self.igpt.takes_prefix:
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
                tuple(_lengthen(part, missing) for part in cache)
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


def cache_lengths(start, stop):
    """Lengths that the caches grow through from `start` to `stop`.

    A step reads the whole cache. Quarters of the image leave it little more
    to read than is filled, and few loops to compile.
    """
    block = max(64, -(-stop // 4))
    return [
        min(end, stop)
        for end in range(block, stop + block, block)
        if end > start and start < stop
    ]


def _lengthen(cache, missing):
    return ops.pad(cache, ((0, 0), (0, 0), (0, missing), (0, 0)))


def prefill(model, token_ids, length, prefix_length=None):
    """Caches of the first positions of a model's order, in one pass.

    Args:
        model: an autoregressive `IGPT`.
        token_ids: int32 `(B, N)` in raster order; only what is before `length`
            in the model's is read.
        length: int, `P >= 1`, of whole squares if the model predicts these.
        prefix_length: int tensor `(B,)` if the model has prefixes: below `P`,
            or positions after these would be missing from what they see.

    Returns:
        For each block `(keys, values)`, float `(B, H, P, K)`.
    """
    x = model.embedding(token_ids)[:, :length]
    caches = []
    told = {} if prefix_length is None else {"prefix_length": prefix_length}
    for block in model.blocks:
        x, keys, values = block.prefill(x, **told)
        caches.append((keys, values))
    return caches


def decode(model, token_ids, caches, position):
    """Logits of one position from the tokens before it and their caches.

    Args:
        model: an autoregressive `IGPT`.
        token_ids: int32 `(B, N)` in raster order; only what is before
            `position` in the model's is read.
        caches: for each block `(keys, values)`, float `(B, H, M, K)` with
            `M > position`, filled below it. Each is an array of its own,
            which a loop updates in place.
        position: int32 scalar, in the model's order; the first of a square if
            the model predicts these.

    Returns:
        `(logits, caches)`: float32 `(B, G, V)`, `G` being 1 or the tokens of a
        square, and the caches with these positions.
    """
    size = model.embedding.square_side**2
    earlier = ops.maximum(position - size, 0)
    places = model.embedding.place(earlier + np.arange(size, dtype="int32"))
    previous = ops.take(token_ids, places, axis=1)
    x = model.embedding.decode(previous, position)
    filled = []
    for block, (keys, values) in zip(model.blocks, caches):
        x, keys, values = block.decode(x, keys, values, position)
        filled.append((keys, values))
    return model.head(model.final_norm(x)), filled


def draw(logits, uniform, top_k=None, top_p=None):
    """Draws one token a row by inverting the cumulative distribution.

    Args:
        logits: float `(B, V)`, already divided by the temperature.
        uniform: float `(B,)` in [0, 1).
        top_k: as in `sample`; ties go to the lower token id.
        top_p: as in `sample`; applied after `top_k`.

    Returns:
        int32 `(B,)`.
    """
    probabilities = ops.softmax(ops.cast(logits, "float32"))
    # Most probable first; a stable sort, so rank 0 is what argmax returns.
    order = ops.argsort(-probabilities, axis=-1)
    ranked = ops.take_along_axis(probabilities, order, axis=-1)
    rank = ops.arange(ranked.shape[-1])
    kept = ops.ones_like(ranked, "bool")
    if top_k is not None:
        kept = ops.logical_and(kept, rank < top_k)
        ranked = ranked * ops.cast(kept, ranked.dtype)
        ranked = ranked / ops.sum(ranked, axis=-1, keepdims=True)
    if top_p is not None:
        before = ops.cumsum(ranked, axis=-1) - ranked
        kept = ops.logical_and(kept, ops.logical_or(before < top_p, rank == 0))
        ranked = ranked * ops.cast(kept, ranked.dtype)
    cumulative = ops.cumsum(ranked, axis=-1)
    # Just under the total, so that rounding cannot pass the last kept token.
    threshold = uniform[:, None] * cumulative[:, -1:] * (1 - 1e-6)
    passed = ops.logical_and(cumulative > threshold, ranked > 0)
    chosen = ops.argmax(ops.cast(passed, "int32"), axis=-1)
    token_ids = ops.take_along_axis(order, chosen[:, None], axis=-1)[:, 0]
    return ops.cast(token_ids, "int32")
