import numpy as np
import pytest
import reference
import tiny
from tiny import array

import igpt_keras
from igpt_keras import evaluation
from igpt_keras import presets
from igpt_keras import reports


def test_losses_of_an_autoregressive_model():
    model, token_ids = tiny.model(), tiny.token_ids(batch=9)
    logits, _ = reference.forward(tiny.numpy_weights(model), token_ids, None)
    expected = reference.nats_per_token(logits, token_ids)
    for batch_size in (4, 9):
        found = evaluation.token_losses(model, token_ids, batch_size)
        assert found.shape == (1, 9) and found.dtype == np.float64
        np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_losses_under_masks_are_those_of_seed_mask_and_image():
    model, token_ids = tiny.model("bert"), tiny.token_ids(batch=9)
    arguments = {"num_masks": 2, "mask_rate": 0.4, "seed": 5}
    found = evaluation.token_losses(model, token_ids, 4, **arguments)
    for number in range(2):
        draws = [
            np.random.default_rng((5, number, image)).random(16)
            for image in range(9)
        ]
        mask = np.stack(draws) < 0.4
        logits = array(model({"token_ids": token_ids, "mask": mask}))
        expected = reference.nats_per_token(logits, token_ids, mask)
        np.testing.assert_allclose(found[number], expected, atol=1e-5)


def test_masks_that_leave_no_loss():
    with pytest.raises(ValueError, match="--num_masks is for BERT"):
        evaluation.token_losses(tiny.model(), tiny.token_ids(), num_masks=2)
    with pytest.raises(ValueError, match="hides no token"):
        evaluation.token_losses(
            tiny.model("bert"), tiny.token_ids(), mask_rate=0
        )


def test_both_averages():
    losses = np.random.default_rng(0).random((3, 150)) + 1
    metrics = evaluation.average_losses(losses)
    for key, images in (("all_images", 150), ("whole_batches", 128)):
        nats = losses[:, :images].mean()
        found = metrics[key]
        assert found["images"] == images
        assert np.isclose(found["nats_per_token"], nats)
        assert np.isclose(found["perplexity"], np.exp(nats))
        bits = nats / np.log(2)
        assert np.isclose(found["bits_per_token"], bits)
        assert np.isclose(found["palette_bits_per_dimension"], bits / 3)
    few = evaluation.average_losses(losses[:, :63], is_palette=False)
    assert few["whole_batches"] is None
    assert "palette_bits_per_dimension" not in few["all_images"]


def test_unigram_entropy():
    batches = [np.array([[0, 1], [1, 3]]), np.array([[3, 3]])]
    share = np.array([1, 2, 3]) / 6
    expected = -(share * np.log(share)).sum()
    assert np.isclose(evaluation.unigram_entropy(batches, 5), expected)


def test_released_losses_stand_beside_the_sizes_they_are_of():
    released = {}
    for name in ("igpt_s", "igpt_m", "igpt_l", "igpt_nano"):

        class Model:
            objective = "autoregressive"

        for key, value in presets.IGPT[name].items():
            setattr(Model, key, value)
        released[name] = presets.released_nats_per_token(Model)
        Model.objective = "bert"
        assert presets.released_nats_per_token(Model) is None
    assert released == {
        "igpt_s": 2.0895,
        "igpt_m": 2.0614,
        "igpt_l": 2.0466,
        "igpt_nano": None,
    }
    table = reports.loss_summary(
        {
            "objective": "autoregressive",
            "classes": None,
            **evaluation.average_losses(np.full((1, 64), 2.0895)),
            "released_nats_per_token": 2.0895,
        },
        evaluation.RELEASED_BATCH,
    )
    assert "released code, step 1,000,000, whole batches: 2.0895" in table
    assert "whole batches of 64" in table
    # The other units of the same number, from the released README.
    for number in ("3.0145", "1.0048", "8.081"):
        assert number in table


def test_loss_of_a_run():
    """Through Keras as through the reference."""
    pytest.importorskip("tensorflow")
    splits = igpt_keras.data.open_splits("digits", 4)
    palette = np.linspace(-1, 1, 33).reshape(11, 3)
    tokenizer = igpt_keras.PaletteTokenizer(palette)
    sets = igpt_keras.data.TokenSets(tokenizer, batch_size=32)
    validation = sets.evaluation(splits["validation"], 40)
    test = sets.evaluation(splits["test"])
    model = tiny.model()
    model.compile()
    found = evaluation.dataset_loss(model, validation, test)
    for name, examples in (("validation", validation), ("test", test)):
        batches = [x for x, _ in examples.tokens.as_numpy_iterator()]
        token_ids = np.concatenate(batches)
        logits = array(model(token_ids))
        expected = reference.nats_per_token(logits, token_ids).mean()
        assert abs(found[f"{name}_nats_per_token"] - expected) < 1e-5
    expected = evaluation.unigram_entropy([token_ids], 11)
    assert np.isclose(found["test_unigram_nats_per_token"], expected)
