import functools

import keras
import numpy as np
from keras import ops

from igpt_keras.backend import compile_rows
from igpt_keras.models.decoding import XLA_STEPS
from igpt_keras.models.decoding import cache_lengths
from igpt_keras.models.decoding import extend
from igpt_keras.models.decoding import lengthen
from igpt_keras.models.decoding import prefill
from igpt_keras.models.draw import distribution
from igpt_keras.models.draw import draw_index

# What the random numbers of a position are for. Each decides once at most:
# what was drafted after a rejected token is as if it had never been.
DRAFTING, ACCEPTING, REPLACING = range(3)


class SpeculativeSampler(keras.Model):
    """The loop over drafts and passes, as a model so that Keras compiles it.

    Speculative sampling (algorithm 1 of Leviathan et al. 2023, algorithm 2 of
    Chen et al. 2023). The draft draws a few tokens `x` from its `q`, one after
    the other; one pass of the model gives its `p` of each and of the next. In
    turn each is accepted with probability `min(1, p(x) / q(x))`. In place of
    the first that is not, one is drawn from what `p` has more than `q`, and
    after all of them, one from `p`. Each token is then distributed as the
    model's own.

    Images accept different numbers of tokens, and each goes on from its own
    position: caches are filled, and seen, up to there. What an image draws
    depends on no other. One that is ahead of a loop's end takes part in its
    passes and stays as it is.

    A window of `W` positions, the draft's tokens and the next, never passes
    the end of the image. Near it, it begins at tokens that are known, which
    stay.

    Args:
        model: an autoregressive `IGPT`.
        draft: one of the same tokens, see `check_draft`.
        draft_tokens: int. Tokens of a draft.
        prompt_length: int. The most tokens that are given of an image.
        top_k: as in `sample`.
        top_p: as in `sample`.

    Call arguments:
        inputs: dict of `token_ids`, int32 `(B, N)` in raster order, `counts`,
            int32 `(B,)`, of which the first so many of the model's order are
            given, `temperature`, float32 `(B,)`, and `uniform`, float32
            `(B, N, 3)` in [0, 1).

    Returns:
        dict of `token_ids`; of each image `drafted` and `accepted` tokens and
        `passes` of the model, int32 `(B,)`; and what was finite, bool `(B,)`.
    """

    def __init__(self, model, draft, draft_tokens, prompt_length, top_k, top_p):
        # The random numbers are not rounded; each layer has its own dtype.
        super().__init__(name="speculative_sampler", dtype="float32")
        self.igpt = model
        self.draft = draft
        self.window = min(draft_tokens, model.sequence_length - 1) + 1
        self.prompt_length = prompt_length
        self.top_k = top_k
        self.top_p = top_p
        # JAX would draw once without compiling, to build what is built.
        self.built = True

    def call(self, inputs):
        if self.igpt.sequence_length - self.prompt_length < XLA_STEPS:
            return self.complete(inputs)
        # A window of an image has several rows.
        return compile_rows(self.complete, inputs, self, least=1)

    def complete(self, inputs):
        """Fills in the tokens after those that are given."""
        length = self.igpt.sequence_length
        order = self.igpt.embedding.permutation
        token_ids, known = inputs["token_ids"], inputs["counts"]
        # Of one position at least, since tensors of none lose their shapes;
        # what is not known yet is filled in again.
        filled = max(self.prompt_length, 1)
        caches = [
            prefill(model, token_ids, filled)
            for model in (self.igpt, self.draft)
        ]
        none, all_finite = ops.zeros_like(known), ops.ones_like(known, "bool")
        state = {
            "token_ids": ops.take(token_ids, order, axis=1),
            "known": known,
            "drafted": none,
            "accepted": none,
            "passes": none,
            "logits_are_finite": all_finite,
            "scaled_are_finite": all_finite,
            "draft_is_finite": all_finite,
        }
        # Two loops, not four: a pass takes longer to compile than a step, and
        # at the end of a loop images wait for each other.
        start = min(self.prompt_length, length - 1)
        for stop in cache_lengths(start, length, parts=2):
            room = min(stop + self.window, length)
            caches = keras.tree.map_structure(
                functools.partial(lengthen, missing=room - filled), caches
            )
            filled = room
            state, caches = ops.while_loop(
                functools.partial(_is_before, stop),
                functools.partial(self.step, inputs, stop),
                (state, caches),
            )
        state["token_ids"] = ops.take(
            state["token_ids"], np.argsort(order), axis=1
        )
        del state["known"]
        return state

    def step(self, inputs, stop, state, caches):
        """A draft and a pass: images before `stop` draw a token at least."""
        known, window = state["known"], self.window
        start = ops.minimum(
            known, min(stop, self.igpt.sequence_length - window)
        )
        positions = start[:, None] + np.arange(window, dtype="int32")
        token_ids, draft_caches, drafted, *draft_finite = self.propose(
            inputs, state["token_ids"], caches[1], known, start
        )
        logits, model_caches = extend(
            self.igpt, token_ids, caches[0], positions
        )
        scaled = logits / inputs["temperature"][:, None, None]
        wanted = self.probabilities(scaled)
        is_known = positions < known[:, None]
        # Nothing is drafted for the last position.
        is_drafted = ~is_known & (np.arange(window) < window - 1)
        accepted = is_known | is_drafted & accept(
            ops.take_along_axis(token_ids, positions, axis=1),
            wanted,
            drafted,
            _numbers(inputs, ACCEPTING, positions),
        )
        kept = ops.sum(ops.cumprod(ops.cast(accepted, "int32"), axis=1), axis=1)
        is_next = np.arange(window) == kept[:, None]
        token = draw_index(
            replacement(_pick(wanted, is_next), _pick(drafted, is_next)),
            _pick(_numbers(inputs, REPLACING, positions), is_next),
        )
        goes_on = known < stop
        token_ids = _put(token_ids, token, start + kept, goes_on)
        # What is after the first token that is not accepted does not count.
        unseen = ~goes_on[:, None] | (np.arange(window) > kept[:, None])
        found = {
            "token_ids": token_ids,
            "known": ops.where(goes_on, start + kept + 1, known),
            "drafted": state["drafted"]
            + ops.where(goes_on, _count(is_drafted), 0),
            "accepted": state["accepted"]
            + ops.where(goes_on, kept - _count(is_known), 0),
            "passes": state["passes"] + 1,
            "logits_are_finite": state["logits_are_finite"]
            & _all_finite(logits, unseen),
            "scaled_are_finite": state["scaled_are_finite"]
            & _all_finite(scaled, unseen)
            & draft_finite[1],
            "draft_is_finite": state["draft_is_finite"] & draft_finite[0],
        }
        return found, [model_caches, draft_caches]

    def propose(self, inputs, token_ids, caches, known, start):
        """Drafts the tokens of a window, but for its last and what is known.

        Returns:
            `(token_ids, caches, drafted, finite, scaled_finite)`: the first
            two with the draft; the probabilities it was drawn by, float32
            `(B, W, V)`, 0 at the last position; and, bool `(B,)`, whether its
            logits were finite, and so when divided by the temperature.
        """

        def put(i, logits, token_ids, drafted, finite, scaled_finite):
            scaled = logits / inputs["temperature"][:, None]
            chances = distribution(scaled, self.top_k, self.top_p)
            positions = (start + i)[:, None]
            uniform = _numbers(inputs, DRAFTING, positions)[:, 0]
            return (
                _put(
                    token_ids,
                    draw_index(chances, uniform),
                    start + i,
                    start + i >= known,
                ),
                ops.slice_update(drafted, (0, i, 0), chances[:, None]),
                finite & ops.all(ops.isfinite(logits), axis=1),
                scaled_finite & ops.all(ops.isfinite(scaled), axis=1),
            )

        def draw(i, state):
            caches, token_ids, *others = state
            logits, caches = extend(
                self.draft, token_ids, caches, (start + i)[:, None]
            )
            return caches, *put(i, logits[:, 0], token_ids, *others)

        shape = ops.shape(token_ids)[0], self.window, self.igpt.vocabulary_size
        finite = ops.ones_like(known, "bool")
        state = token_ids, ops.zeros(shape, "float32"), finite, finite
        if self.window > 1:
            # The token before has no keys and values yet, if it is one more
            # than a draft that was accepted.
            earlier = ops.maximum(start - 1, 0)
            logits, caches = extend(
                self.draft,
                token_ids,
                caches,
                earlier[:, None] + np.arange(2, dtype="int32"),
            )
            logits = ops.where(
                (start == 0)[:, None], logits[:, 0], logits[:, 1]
            )
            state = put(0, logits, *state)
        caches, token_ids, *others = ops.fori_loop(
            1, self.window - 1, draw, (caches, *state)
        )
        return token_ids, caches, *others

    def probabilities(self, scaled):
        """`distribution` of logits `(B, W, V)`."""
        rows = ops.reshape(scaled, (-1, scaled.shape[-1]))
        chances = distribution(rows, self.top_k, self.top_p)
        return ops.reshape(chances, ops.shape(scaled))


def accept(token_ids, wanted, drafted, uniform):
    """Which tokens are accepted, each for itself.

    Args:
        token_ids: int32 `(B, W)`, drawn by `drafted`.
        wanted: float32 `(B, W, V)`, the model's probabilities.
        drafted: float32, as `wanted`, the draft's.
        uniform: float32 `(B, W)` in [0, 1).

    Returns:
        bool `(B, W)`, true with probability `min(1, wanted / drafted)`.
    """
    p, q = (
        ops.take_along_axis(x, token_ids[..., None], axis=2)[..., 0]
        for x in (wanted, drafted)
    )
    return uniform * q < p


def replacement(wanted, drafted):
    """Weights to draw by in place of a token that is not accepted.

    Args:
        wanted: float32 `(B, V)`, the model's probabilities.
        drafted: float32 `(B, V)`, the draft's, or 0 where there is none.

    Returns:
        float32 `(B, V)`, what `wanted` has more.
    """
    more = ops.maximum(wanted - drafted, 0)
    # Of probabilities that are the same but for rounding nothing may be left.
    is_some = ops.any(more > 0, axis=-1, keepdims=True)
    return ops.where(is_some, more, wanted)


def _is_before(stop, state, caches):
    """Whether an image has tokens before `stop` to draw."""
    return ops.any(state["known"] < stop)


def _numbers(inputs, use, positions):
    """Random numbers `(B, W)` for a use at positions `(B, W)`."""
    return ops.take_along_axis(inputs["uniform"][..., use], positions, axis=1)


def _pick(x, mask):
    """The entry of each row of `(B, W, ...)` where the mask is true."""
    mask = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(x.shape) - 2)))
    return ops.sum(ops.where(mask, x, 0), axis=1)


def _put(token_ids, token, position, wanted):
    """Token ids `(B, N)`, with a token `(B,)` at a position where wanted."""
    here = np.arange(token_ids.shape[1]) == position[:, None]
    return ops.where(here & wanted[:, None], token[:, None], token_ids)


def _count(mask):
    return ops.sum(ops.cast(mask, "int32"), axis=1)


def _all_finite(logits, unseen):
    """Whether all logits `(B, W, V)` are, but for positions `(B, W)`."""
    return ops.all(ops.all(ops.isfinite(logits), axis=2) | unseen, axis=1)
