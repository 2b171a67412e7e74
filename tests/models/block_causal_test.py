"""Models that predict squares of tokens from the squares before them."""

import keras
import numpy as np
import pytest
import reference
import tiny
from tiny import array

import igpt_keras
from igpt_keras import codec
from igpt_keras.layers import pixel_order
from igpt_keras.models.decoding import decode
from igpt_keras.models.decoding import prefill
from igpt_keras.reports.pictures import first_half

# Of a 4x4 image, row by row.
SQUARES = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
SEQUENCES = {"raster": [0, 1, 2, 3], "spiral": [0, 1, 3, 2]}


def narrow_block(num_heads, num_layers):
    """Knows of no squares."""


def build(order="raster", num_layers=1, **overrides):
    return tiny.model(
        order=order,
        attention="block_causal:2",
        num_layers=num_layers,
        **overrides,
    )


def places_of(order):
    return np.concatenate([SQUARES[i] for i in SEQUENCES[order]])


def expected_of(model, token_ids):
    """Logits in raster order and features, of the reference."""
    places = places_of(model.order)
    weights = tiny.numpy_weights(model)
    weights["wpe"] = weights["wpe"][places]
    found, features = reference.forward(weights, token_ids[:, places], group=4)
    logits = np.empty_like(found)
    logits[:, places] = found
    return logits, features


def test_orders_of_squares():
    for order in SEQUENCES:
        found = pixel_order(order, 16, square_side=2)
        np.testing.assert_array_equal(found, places_of(order))
    # A square in raster order is the image.
    np.testing.assert_array_equal(pixel_order("raster", 16, 4), np.arange(16))
    for length, side in ((16, 3), (8, 2)):
        with pytest.raises(ValueError, match="do not fill an image of"):
            pixel_order("raster", length, side)


@pytest.mark.parametrize("order", SEQUENCES)
def test_logits_match_the_reference(order):
    model, token_ids = build(order, num_layers=2), tiny.token_ids()
    logits, features = expected_of(model, token_ids)
    np.testing.assert_allclose(array(model(token_ids)), logits, atol=1e-4)
    if order == "spiral":
        classifier = igpt_keras.IGPTClassifier(model, 3)
        head = np.random.default_rng(0).normal(size=(15, 3))
        classifier.class_head.kernel.assign(head)
        found = array(classifier(token_ids)["class_logits"])
        np.testing.assert_allclose(found, features[-1] @ head, atol=1e-4)


@pytest.mark.parametrize("order", SEQUENCES)
def test_a_token_moves_all_of_later_squares_and_nothing_else(order):
    model, token_ids = build(order), tiny.token_ids()
    before = array(model(token_ids))
    for i, square in enumerate(SEQUENCES[order]):
        for place in SQUARES[square][::3]:
            changed = token_ids.copy()
            changed[:, place] = (changed[:, place] + 1) % 11
            moved = np.abs(array(model(changed)) - before).max(axis=(0, 2))
            moved = moved[places_of(order)]
            assert (moved[: 4 * i + 4] == 0).all()
            assert (moved[4 * i + 4 :] > 0).all()


def test_squares_of_one_token_are_plain():
    model, token_ids = tiny.model(num_layers=1), tiny.token_ids()
    other = tiny.model(num_layers=1, attention="block_causal:1")
    expected = array(model(token_ids))
    np.testing.assert_allclose(array(other(token_ids)), expected, atol=1e-5)


def test_the_loss_is_of_all_tokens_and_learns():
    model, token_ids = build("spiral"), tiny.token_ids()
    model.compile(keras.optimizers.SGD(0.1))
    losses = [model.train_on_batch(token_ids) for _ in range(4)]
    assert losses[3] < losses[0] - 1e-3
    logits, _ = expected_of(model, token_ids)
    nats = reference.nats(logits, token_ids).mean()
    loss = model.compute_loss(token_ids, token_ids, model(token_ids))
    np.testing.assert_allclose(float(loss), nats, rtol=1e-4)


def test_cached_logits_equal_the_full_forward_pass():
    model, token_ids = build("spiral"), tiny.token_ids()
    expected = array(model(token_ids))
    caches = [(np.zeros((4, 3, 16, 5), "float32"),) * 2]
    seen = np.full_like(token_ids, 10)
    for i, square in enumerate(SEQUENCES["spiral"]):
        places = SQUARES[square]
        logits, caches = decode(model, seen, caches, 4 * i)
        found = array(logits)
        np.testing.assert_allclose(found, expected[:, places], atol=1e-4)
        seen[:, places] = token_ids[:, places]
        (prompt,) = prefill(model, seen, 4 * i + 4)
        for one, whole in zip(prompt, caches[0]):
            whole = array(whole)[:, :, : 4 * i + 4]
            np.testing.assert_allclose(array(one), whole, atol=1e-4)


def test_samples_and_completions():
    model, tokenizer = build("spiral"), tiny.grey_palette()
    prompt = tiny.token_ids(2)
    # One square of the first image, two of the second.
    given = np.zeros((2, 16), "bool")
    given[:, SQUARES[0]] = given[1, SQUARES[1]] = True
    token_ids = igpt_keras.sample(model, 2, prompt, temperature=0, given=given)
    np.testing.assert_array_equal(token_ids[given], prompt[given])
    best = expected_of(model, token_ids)[0].argmax(axis=-1)
    np.testing.assert_array_equal(token_ids[~given], best[~given])
    np.testing.assert_array_equal(
        first_half(model), np.arange(4)[:, None] < [2] * 4
    )
    # A row is a part of two squares.
    images = array(tokenizer.detokenize(prompt))
    found = igpt_keras.complete(model, tokenizer, images, 0.25, 1, 0.0)[:, 0]
    np.testing.assert_array_equal(found[:, :1], images[:, :1])
    token_ids = array(tokenizer(found))
    best = expected_of(model, token_ids)[0].argmax(axis=-1)
    np.testing.assert_array_equal(token_ids[:, 4:], best[:, 4:])
    with pytest.raises(ValueError, match="whole squares, and 6 tokens are gi"):
        first = np.zeros(16, "bool")
        first[places_of("spiral")[:6]] = True
        igpt_keras.sample(model, 2, prompt, given=first)


def test_draws_of_a_square_are_independent_and_follow_the_model():
    model = tiny.model(
        vocabulary_size=2,
        sequence_length=4,
        num_layers=1,
        attention="block_causal:2",
    )
    drawn = igpt_keras.sample(model, 4000)
    shares = reference.softmax(array(model(drawn[:1]))[0])[:, 1]
    expected = np.ones(16)
    for image in range(16):
        for place in range(4):
            one = image >> place & 1
            expected[image] *= shares[place] if one else 1 - shares[place]
    observed = np.bincount(drawn @ [1, 2, 4, 8], minlength=16)
    chi_square = ((observed - 4000 * expected) ** 2 / (4000 * expected)).sum()
    assert chi_square < 37.7  # 15 degrees of freedom, one in a thousand


def test_presets_and_files(tmp_path):
    model, token_ids = build("spiral"), tiny.token_ids()
    model.save_to_preset(tmp_path / "preset")
    copy = igpt_keras.IGPT.from_preset(tmp_path / "preset")
    assert (copy.order, copy.attention) == ("spiral", "block_causal:2")
    expected = array(model(token_ids))
    np.testing.assert_array_equal(array(copy(token_ids)), expected)
    assert tiny.model().get_config()["attention"] is None
    with pytest.raises(ValueError, match=r"\['attention'\] cannot be changed"):
        igpt_keras.IGPT.from_preset(tmp_path / "preset", attention="causal")
    with pytest.raises(ValueError, match="attention='block_causal:2', and wh"):
        igpt_keras.save_huggingface(build(), tmp_path / "huggingface")
    with pytest.raises(ValueError, match="predicts squares of them at once"):
        codec.check_codable(model)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"attention": "prefix"}, "attention='prefix' is none of"),
        ({"attention": "none"}, "attention='none' is none of"),
        ({"attention": "block_causal:0"}, "'block_causal:0' is none of"),
        ({"attention": "block_causal:3"}, "3x3 tokens do not fill an image"),
        (
            {"attention": "block_causal:2", "objective": "bert"},
            "which objective='bert' has",
        ),
        (
            {"attention": "block_causal:2", "block": narrow_block},
            "narrow_block takes no square_side",
        ),
    ],
)
def test_refuses_what_is_no_attention(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.model(**arguments)
    assert tiny.model("bert", attention="none").attention == "none"
