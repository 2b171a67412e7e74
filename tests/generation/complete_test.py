import importlib

import keras
import numpy as np
import pytest
import reference
import tiny
from PIL import Image
from tiny import array

import igpt_keras
from igpt_keras import generation

# The package's attribute of this name is the function.
fill = importlib.import_module("igpt_keras.generation.fill_pictures")


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.grey_palette()


@pytest.fixture(scope="module")
def images(tokenizer):
    return array(tokenizer.detokenize(tiny.token_ids(batch=2)))


@pytest.mark.parametrize(
    "keep, rows, columns",
    [("top", 3, 6), (0.5, 3, 6), ("0.34", 2, 6), ("left", 6, 3)],
)
def test_given_tokens(keep, rows, columns):
    expected = np.zeros((6, 6), "bool")
    expected[:rows, :columns] = True
    np.testing.assert_array_equal(generation.given_tokens(keep, 6), expected)


@pytest.mark.parametrize(
    "keep, message",
    [
        ("right", "keep must be 'top', 'left' or a fraction"),
        (None, "received None"),
        ("nan", "received 'nan'"),
        (1.5, "received 1.5"),
        (0.05, "of 4 rows of tokens is 0, and nothing is left to complete f"),
        (0.95, "of 4 rows of tokens is 4, and nothing is left to complete. "),
    ],
)
def test_bad_keep(keep, message, model, tokenizer, images):
    with pytest.raises(ValueError, match=message):
        igpt_keras.complete(model, tokenizer, images, keep=keep)


@pytest.mark.parametrize("keep", [0.25, "left"])
def test_each_token_is_drawn_from_all_before_it(keep, model, tokenizer, images):
    """At temperature 0 each is the reference's most probable one."""
    found = igpt_keras.complete(
        model, tokenizer, images, keep, num_completions=2, temperature=0
    )
    assert found.dtype == "uint8" and found.shape == (2, 2, 4, 4, 3)
    given = generation.given_tokens(keep, 4)
    for i in range(2):
        # What is kept is the picture, and the rest is what one pass over all
        # that was drawn gives.
        np.testing.assert_array_equal(found[:, i][:, given], images[:, given])
        token_ids = array(tokenizer(found[:, i]))
        logits, _ = reference.forward(tiny.numpy_weights(model), token_ids)
        drawn = ~given.reshape(-1)
        expected = logits.argmax(axis=-1)
        np.testing.assert_array_equal(token_ids[:, drawn], expected[:, drawn])


def test_completions_differ_and_are_of_the_seed(model, tokenizer, images):
    draws = [
        igpt_keras.complete(model, tokenizer, images, "top", 4, seed=seed)
        for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    assert len(np.unique(draws[0].reshape(8, -1), axis=0)) == 8


@pytest.mark.large
def test_batches_are_of_one_size_and_other_seeds(
    model, tokenizer, images, monkeypatch
):
    flags = {"keep": "left", "num_completions": 2, "temperature": 0}
    pictures = np.concatenate([images, images[:1]])
    at_once = igpt_keras.complete(model, tokenizer, pictures, **flags)
    sizes, seeds, draw = [], [], fill.sample

    def sample(model, num_samples, prompt, seed, **others):
        sizes.append(num_samples)
        seeds.append(seed)
        return draw(model, num_samples, prompt, seed=seed, **others)

    monkeypatch.setattr(fill, "sample", sample)
    monkeypatch.setattr(fill, "_MOST", 4)
    found = igpt_keras.complete(model, tokenizer, pictures, **flags)
    np.testing.assert_array_equal(found, at_once)
    # Six sequences in two batches, four rows each.
    assert sizes == [3] * 8
    assert len(set(seeds)) == 8
    monkeypatch.setattr(fill, "_CACHE_BYTES", 1)
    assert fill._at_a_time(model) == 1


def test_pictures_of_any_size(model, tokenizer, tmp_path):
    """A file and a picture in memory, as the model's resolution shows them."""
    pixels = np.zeros((8, 12, 3), "uint8")
    pixels[:, 2:10] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    pictures = [str(tmp_path / "wide.png"), Image.fromarray(pixels)]
    found = igpt_keras.complete(
        model, tokenizer, pictures, num_completions=1, temperature=0
    )
    assert found.shape == (2, 1, 4, 4, 3)
    assert (found[:, :, :2] == 255).all()
    np.testing.assert_array_equal(found[0], found[1])


def test_codes_of_a_vq_vae():
    keras.utils.set_random_seed(0)
    tokenizer = igpt_keras.VQVAETokenizer(
        igpt_keras.VQVAE(
            input_resolution=8, model_resolution=4, vocabulary_size=11
        )
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), "uint8")
    found = igpt_keras.complete(
        tiny.model(), tokenizer, images, num_completions=2, temperature=0
    )
    assert found.shape == (2, 2, 8, 8, 3)
    model = tiny.model(sequence_length=9)
    with pytest.raises(ValueError, match="4x4 codes .* model has 3x3 tokens"):
        igpt_keras.complete(model, tokenizer, images)


def test_bad_arguments(model, tokenizer, images):
    for arguments, message in (
        ((model, None, images), "has no tokenizer with it"),
        ((model, tiny.grey_palette(7), images), "7 tokens and the model a voc"),
        ((model, tokenizer, images[:, :3]), r"shape \(P, 4, 4, 3\)"),
        ((model, tokenizer, images / 255), "must be uint8"),
        ((model, tokenizer, images[:0]), "one at least"),
        ((model, tokenizer, []), "at least one, received"),
        ((model, tokenizer, "x.png"), "must be a list of paths"),
        ((model, tokenizer, [images[0]]), r"pictures\[0\] must be a path"),
        ((model, tokenizer, images, "top", 0), "num_completions"),
        ((tiny.model("bert"), tokenizer, images), "needs an autoregressive"),
        (
            (tiny.model(sequence_length=8), tokenizer, images),
            "8 tokens, which are no square",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            igpt_keras.complete(*arguments)
