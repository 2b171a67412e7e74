import collections
import time

import keras
import numpy as np

from igpt_keras.models.prompts import first_places
from igpt_keras.models.sampling import sample
from igpt_keras.terminal import verbosity

# What keys and values of the pictures that are drawn at a time may take, and
# how many these are at most.
_CACHE_BYTES = 4 * 2**30
_MOST = 64

_DRAFT = ("acceptance", "tokens_per_pass")


def fill_pictures(
    model,
    tokenizer,
    token_ids,
    given,
    temperature=1.0,
    top_k=None,
    top_p=None,
    seed=0,
    verbose=0,
    draft=None,
    draft_tokens=4,
):
    """Draws the tokens that are not given, and shows the pictures.

    In the model's order, each from all tokens before it: a given token that
    comes after one that is drawn has no part in it. Each run of given tokens
    between drawn ones costs another pass over the picture. A model that
    predicts squares draws one that is given in part without a look at that
    part, which is kept.

    Args:
        model: an autoregressive `IGPT`, or an `IGPTClassifier` around one.
        tokenizer: its tokenizer.
        token_ids: int `(S, N)`, read where they are given.
        given: bool, `N` of them. None of them: samples.
        temperature: as in `sample`, like `top_k` and `top_p`.
        top_k: optional int.
        top_p: optional float.
        seed: int. Defaults to 0.
        verbose: 0 or 1. Whether to show a progress bar of the tokens that are
            drawn, with pictures and tokens per second; of a draft the share of
            its tokens that were accepted, and tokens per pass of the model.
            Defaults to 0.
        draft: as in `sample`.
        draft_tokens: as in `sample`.

    Returns:
        uint8 `(S, R, R, 3)`.

    Raises:
        ValueError: as `sample`.
    """
    count, length = token_ids.shape
    igpt = getattr(model, "igpt", model)
    given = np.reshape(given, -1)
    order = igpt.embedding.permutation
    at_once = igpt.embedding.square_side**2
    runs = _drawn_runs(given[order].reshape(-1, at_once))
    drawn = sum(stop - start for start, stop in runs)
    progress = keras.utils.Progbar(
        count * drawn,
        unit_name="token",
        stateful_metrics=["images_per_second", "tokens_per_second", *_DRAFT],
        verbose=verbosity(verbose),
    )
    # A bar from the start: the first batch takes long.
    progress.update(0, finalize=False)
    begin, done, pictures = time.perf_counter(), 0, []
    totals = collections.Counter()
    # Every batch has as many, so that the loop is traced once.
    batches = -(-count // _at_a_time(model))
    size = -(-count // batches)
    for first in range(0, count, size):
        rows = np.resize(token_ids[first : first + size], (size, length))
        real = min(size, count - first)
        for start, stop in runs:
            # Not one seed for all: `sample` would draw alike each time.
            generator = np.random.default_rng([seed, first, start])
            found = sample(
                model,
                size,
                rows,
                given=first_places(igpt, start),
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                seed=int(generator.integers(2**31)),
                draft=draft,
                draft_tokens=draft_tokens,
                return_acceptance=draft is not None,
            )
            if draft is not None:
                found, counts = found
                totals["drawn"] += size * (length - start)
                totals.update({k: int(x.sum()) for k, x in counts.items()})
            places = order[start:stop]
            places = places[~given[places]]
            rows[:, places] = found[:, places]
            done += real * (stop - start)
            rate = done / (time.perf_counter() - begin)
            values = [
                ("images_per_second", rate / drawn),
                ("tokens_per_second", rate),
                *_acceptance(totals),
            ]
            progress.update(done, values)
        shown = tokenizer.detokenize(rows[:real])
        pictures.append(keras.ops.convert_to_numpy(shown))
    return np.concatenate(pictures)


def _acceptance(totals):
    """What the bar says of a draft, nothing if there is none."""
    if not totals["passes"]:
        return []
    # There are none of an image of one token.
    acceptance = totals["accepted"] / max(totals["drafted"], 1)
    return list(zip(_DRAFT, (acceptance, totals["drawn"] / totals["passes"])))


def _drawn_runs(given):
    """Pairs of start and stop of the tokens that are drawn.

    Args:
        given: bool `(steps, G)`, which of the tokens of each step are given.
    """
    drawn = ~given.all(axis=1)
    # After a step that draws beside what is given, the latter is a prompt.
    ends = drawn & given.any(axis=1)
    before, after = np.zeros((2, len(drawn)), "bool")
    before[1:] = (drawn & ~ends)[:-1]
    after[:-1] = drawn[1:]
    starts = np.flatnonzero(drawn & ~before)
    stops = np.flatnonzero(drawn & (ends | ~after)) + 1
    size = given.shape[1]
    return list(zip((starts * size).tolist(), (stops * size).tolist()))


def _at_a_time(model):
    model = getattr(model, "igpt", model)
    floats = 2 * model.num_layers * model.sequence_length * model.hidden_dim
    return int(min(_MOST, max(1, _CACHE_BYTES // (4 * floats))))
