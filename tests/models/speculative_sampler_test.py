"""What is drawn with a draft is distributed as the model's own."""

import itertools

import keras
import numpy as np
import pytest
import reference
import tiny
from scipy import stats
from tiny import array

import igpt_keras
from igpt_keras.layers import SelfAttention
from igpt_keras.layers import TransformerBlock
from igpt_keras.models import sampling
from igpt_keras.models import speculative_sampler
from igpt_keras.models.decoding import extend
from igpt_keras.models.decoding import prefill
from igpt_keras.models.speculative_sampler import replacement

SMALL = {"vocabulary_size": 3, "sequence_length": 4, "num_layers": 1}


def sample(model, *arguments, **keywords):
    return igpt_keras.sample(
        model, *arguments, **keywords, return_acceptance=True
    )


def nearly(model, noise=0.1, **overrides):
    """A draft that is often right: the model with other weights by a little."""
    draft = tiny.model(**overrides)
    generator = np.random.default_rng(3)
    for variable, value in zip(draft.weights, model.get_weights()):
        variable.assign(value + noise * generator.normal(size=value.shape))
    return draft


def probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    """Of `(..., V)`, as the docstring of `sample` has it."""
    found = reference.softmax(logits / temperature)
    order = np.argsort(-found, axis=-1, kind="stable")
    ranked = np.take_along_axis(found, order, axis=-1)
    if top_k is not None:
        ranked[..., top_k:] = 0
        ranked /= ranked.sum(axis=-1, keepdims=True)
    if top_p is not None:
        before = ranked.cumsum(axis=-1) - ranked
        ranked *= (before < top_p) | (np.arange(ranked.shape[-1]) == 0)
        ranked /= ranked.sum(axis=-1, keepdims=True)
    np.put_along_axis(found, order, ranked, axis=-1)
    return found


@pytest.mark.parametrize(
    "draft_tokens, limits",
    [
        pytest.param(1, {}, id="plain"),
        pytest.param(
            2,
            {"temperature": 0.7, "top_k": 2},
            id="top_k",
            marks=pytest.mark.each_backend,
        ),
        pytest.param(4, {"temperature": 1.5, "top_p": 0.8}, id="top_p"),
    ],
)
def test_joint_distribution_is_the_models(draft_tokens, limits):
    """All images of four tokens, by chi-square.

    The draft is another network, whose probabilities are far from the model's.
    """
    model = tiny.model(**SMALL, scale=0.5)
    draft = tiny.model(**SMALL, num_heads=1, hidden_dim=4, scale=1.0)
    images = np.array(list(itertools.product(range(3), repeat=4)), "int32")
    chances, others = (
        np.take_along_axis(
            probabilities(array(x(images)).astype("float64"), **limits),
            images[..., None],
            axis=2,
        ).prod(axis=(1, 2))
        for x in (model, draft)
    )
    np.testing.assert_allclose(chances.sum(), 1, rtol=1e-5)
    count = 10_000
    token_ids, counts = sample(
        model, count, draft=draft, draft_tokens=draft_tokens, **limits
    )
    observed = np.bincount(token_ids @ [27, 9, 3, 1], minlength=81)
    assert not observed[chances == 0].any()
    assert p_value(observed, chances) > 1e-3
    # The draft's own images would not pass.
    assert p_value(observed, others + 1e-6) < 1e-9
    assert 0.03 < counts["accepted"].sum() / counts["drafted"].sum() < 0.95


def p_value(observed, chances):
    """Of a chi-square test; images of few are one class."""
    expected = chances / chances.sum() * observed.sum()
    rare = expected < 10
    classes = [
        np.append(x[~rare], x[rare].sum() + 1e-9) for x in (observed, expected)
    ]
    return stats.chisquare(*classes).pvalue


def test_a_draft_that_is_the_model_is_always_right():
    model = tiny.model(num_layers=1)
    token_ids, counts = sample(model, 3, draft=model)
    # Four drafted and one more each pass; the last one is of a single token.
    assert {k: x.tolist() for k, x in counts.items()} == {
        "drafted": [12] * 3,
        "accepted": [12] * 3,
        "passes": [4] * 3,
    }
    assert len(np.unique(token_ids, axis=0)) == 3


class TurningAttention(SelfAttention):
    """Queries that know their place in the image."""

    def prepare(self, queries, keys, positions):
        angles = keras.ops.cast(positions, "float32")[:, None, None]
        return queries * (1 + keras.ops.cos(angles)), keys


class TurningBlock(TransformerBlock):
    attention_class = TurningAttention


def test_greedy_tokens_are_those_without_a_draft():
    """Through two lengths of caches, from prompts of other lengths each."""
    keras.saving.register_keras_serializable("speculative_test")(TurningBlock)
    overrides = {
        "sequence_length": 81,
        "num_layers": 1,
        "order": "spiral",
        "block": TurningBlock,
    }
    model = tiny.model(**overrides)
    draft = nearly(model, noise=0.04, **overrides)
    prompt = np.random.default_rng(0).integers(0, 11, (5, 81))
    given = np.zeros((5, 81), "bool")
    for row, count in zip(given, (60, 70, 61, 81, 62)):
        row[model.embedding.permutation[:count]] = True
    keywords = {"prompt": prompt, "given": given}
    expected = igpt_keras.sample(model, 5, temperature=0, **keywords)
    token_ids, counts = sample(model, 5, draft=draft, top_k=1, **keywords)
    np.testing.assert_array_equal(token_ids, expected)
    assert 0.2 < counts["accepted"].sum() / counts["drafted"].sum() < 0.9
    assert counts["drafted"][3] == 0


def test_an_image_is_of_its_seed_whatever_is_beside_it():
    size = {"sequence_length": 6, "num_layers": 1}
    model = tiny.model(**size)
    draft = nearly(model, **size)
    one = igpt_keras.sample(model, 1, draft=draft, seed=7)
    many = igpt_keras.sample(model, 6, draft=draft, seed=7)
    np.testing.assert_array_equal(many[:1], one)
    assert len(np.unique(many, axis=0)) == 6
    # Also where others have more tokens to begin with.
    prompt, given = many, np.zeros((6, 6), "bool")
    given[1:, :3] = True
    beside = igpt_keras.sample(
        model, 6, prompt, draft=draft, seed=7, given=given
    )
    np.testing.assert_array_equal(beside[:1], one)
    np.testing.assert_array_equal(beside[:, :3], many[:, :3])


@pytest.mark.parametrize("starts", [(0, 3, 11, 7), (4, 4, 4, 4)])
def test_logits_of_runs_equal_the_full_forward_pass(starts):
    model, token_ids = tiny.model(), tiny.token_ids()
    expected = array(model(token_ids))
    positions = np.array(starts)[:, None] + np.arange(5)
    # Filled past where a run begins, with what must be written over.
    caches = prefill(model, token_ids[:, ::-1], 16)
    right = prefill(model, token_ids, 16)
    before = np.arange(16) < positions[:, :1]
    caches = [
        tuple(
            np.where(before[:, None, :, None], array(a), array(b))
            for a, b in zip(*pair)
        )
        for pair in zip(right, caches)
    ]
    logits, filled = extend(model, token_ids, caches, positions.astype("int32"))
    for i, row in enumerate(positions):
        np.testing.assert_allclose(
            array(logits)[i], expected[i, row], atol=1e-4
        )
        for cache, all_right in zip(filled, right):
            for x, y in zip(cache, all_right):
                np.testing.assert_allclose(
                    array(x)[i, :, : row[-1] + 1],
                    array(y)[i, :, : row[-1] + 1],
                    atol=1e-5,
                )


def test_nothing_is_left_of_probabilities_that_are_the_same():
    p = np.float32([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])
    q = np.float32([[0.25, 0.75], [0.25, 0.75], [0.0, 0.0]])
    expected = [[0.25, 0.75], [0.25, 0.0], [1.0, 0.0]]
    np.testing.assert_array_equal(array(replacement(p, q)), expected)


def test_an_image_of_one_token_has_none_to_draft():
    model = tiny.model(sequence_length=1)
    token_ids, counts = sample(model, 3, temperature=0, draft=model)
    expected = igpt_keras.sample(model, 3, temperature=0)
    np.testing.assert_array_equal(token_ids, expected)
    assert counts["drafted"].tolist() == [0] * 3


@pytest.mark.parametrize("has_draft", [False, True])
@pytest.mark.parametrize("length, compiles", [(31, False), (32, True)])
def test_images_of_32_steps_are_compiled(
    length, compiles, has_draft, monkeypatch
):
    """Of fewer, compilation takes longer than it saves."""
    compiled = []

    def compile_rows(function, inputs, *arguments, **keywords):
        compiled.append(function)
        return function(inputs)

    for module in (sampling, speculative_sampler):
        monkeypatch.setattr(module, "compile_rows", compile_rows)
    model = tiny.model(sequence_length=length, num_layers=1)
    draft = model if has_draft else None
    igpt_keras.sample(model, 1, temperature=0, draft=draft)
    assert bool(compiled) == compiles


@pytest.mark.large
@pytest.mark.compiled
def test_long_images_are_compiled_once_with_a_draft():
    """By XLA, rows that do not divide into two parts."""
    model = tiny.model(sequence_length=150, num_layers=1)
    draft = nearly(model, 0.04, sequence_length=150, num_layers=1)
    expected = igpt_keras.sample(model, num_samples=3, temperature=0)
    for seed in (0, 1):
        token_ids, counts = sample(
            model, 3, temperature=0, draft=draft, seed=seed
        )
        np.testing.assert_array_equal(token_ids, expected)
    assert (counts["passes"] < 120).all()
    assert len(model.__dict__["_samplers"]) == 2


class DecodingBlock(TransformerBlock):
    """Right in `call`, `prefill` and `decode`, and not in `extend`."""

    def call(self, inputs, training=False):
        return super().call(inputs) + inputs

    def prefill(self, inputs):
        x, keys, values = super().prefill(inputs)
        return x + inputs, keys, values

    def decode(self, inputs, keys, values, position):
        x, keys, values = super().decode(inputs, keys, values, position)
        return x + inputs, keys, values


@pytest.mark.parametrize(
    "draft, message",
    [
        ({"vocabulary_size": 10}, "vocabulary_size=11 and draft 10. Pass a"),
        ({"sequence_length": 4}, "sequence_length=16 and draft 4. Pass a"),
        ({"order": "columns"}, "order='raster' and draft 'columns'. Pass a"),
        ({"objective": "bert"}, "draft is a BERT model.* Pass an autoregr"),
        ({"attention": "block_causal:2"}, "draft has attention='block_causal"),
        ({"block": DecodingBlock}, "DecodingBlock has a `decode` and no `ext"),
    ],
)
def test_refuses_drafts_of_other_tokens(draft, message):
    keras.saving.register_keras_serializable("speculative_test")(DecodingBlock)
    with pytest.raises(ValueError, match=message):
        igpt_keras.sample(tiny.model(), draft=tiny.model(**draft))


def test_refuses_what_a_draft_cannot_be_for():
    model = tiny.model()
    with pytest.raises(ValueError, match="draft must be an IGPT, received a S"):
        igpt_keras.sample(model, draft=keras.Sequential())
    squares = tiny.model(attention="block_causal:2")
    with pytest.raises(ValueError, match="The model has .* Leave out draft"):
        igpt_keras.sample(squares, draft=model)
    with pytest.raises(ValueError, match="draft_tokens must be a positive int"):
        igpt_keras.sample(model, draft=model, draft_tokens=0)
    with pytest.raises(ValueError, match="there is none. Pass draft"):
        igpt_keras.sample(model, return_acceptance=True)


def test_refuses_a_draft_that_diverged():
    model, draft = tiny.model(**SMALL), tiny.model(**SMALL)
    draft.head.kernel.assign(np.full((15, 3), np.nan))
    prompt = [0, 1, 2]
    # The draft of one token before the last.
    with pytest.raises(ValueError, match="The draft's logits are not finite"):
        igpt_keras.sample(model, 2, prompt[:2], draft=draft)
    with pytest.raises(ValueError, match="The model's logits are not finite"):
        igpt_keras.sample(draft, 2, prompt, draft=model)
    with pytest.raises(ValueError, match="makes the logits infinite. Take a"):
        igpt_keras.sample(model, 2, prompt, draft=model, temperature=1e-38)


def test_the_model_of_a_classifier_drafts():
    model = tiny.model(**SMALL)
    draft = nearly(model, **SMALL)
    expected = igpt_keras.sample(model, 2, draft=draft)
    found = igpt_keras.sample(
        igpt_keras.IGPTClassifier(model, 3),
        2,
        draft=igpt_keras.IGPTClassifier(draft, 3),
    )
    np.testing.assert_array_equal(found, expected)
