import keras
import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras

# The fixture takes 120 steps.
pytestmark = pytest.mark.compiled


@pytest.fixture(scope="module")
def tokenizer():
    """Over a VQ-VAE that knows 64 patches apart."""
    keras.utils.set_random_seed(0)
    vq_vae = igpt_keras.VQVAE(8, 4, 16)
    vq_vae.compile(keras.optimizers.Adam(1e-2))
    vq_vae.fit(pictures(64), batch_size=8, epochs=15, verbose=0)
    return igpt_keras.VQVAETokenizer(vq_vae)


def pictures(count, seed=0):
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (count, 2, 2, 3))
    return small.repeat(4, axis=1).repeat(4, axis=2).astype("uint8")


def test_tokens_are_the_codes_row_by_row(tokenizer):
    images = pictures(5, seed=1)
    token_ids = array(tokenizer(images))
    assert token_ids.shape == (5, 16) and token_ids.dtype == "int32"
    codes = array(tokenizer.vq_vae.encode(images))
    np.testing.assert_array_equal(token_ids, codes.reshape(5, 16))
    assert len(np.unique(token_ids)) > 4
    decoded = array(tokenizer.detokenize(token_ids))
    np.testing.assert_array_equal(
        decoded, array(tokenizer.vq_vae.decode(codes))
    )
    assert decoded.dtype == "uint8" and decoded.shape == images.shape
    # Closer to its own picture than to any other.
    distance = np.square(decoded[:, None] - images.astype("float32"))
    nearest = distance.mean(axis=(2, 3, 4)).argmin(axis=1)
    np.testing.assert_array_equal(nearest, np.arange(5))


def test_a_batch_is_its_images(tokenizer):
    images = pictures(5, seed=1)
    whole = array(tokenizer(images))
    for i in range(5):
        np.testing.assert_array_equal(
            array(tokenizer(images[i : i + 1])), whole[i : i + 1]
        )


def test_inside_tf_data(tokenizer):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data traces the TensorFlow backend only")
    images = pictures(6, seed=2)
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(4)
    found = list(dataset.map(tokenizer).as_numpy_iterator())
    np.testing.assert_array_equal(
        np.concatenate(found), array(tokenizer(images))
    )


def test_model_keeps_it(tokenizer, tmp_path):
    model = tiny.model(vocabulary_size=16)
    model.save_to_preset(tmp_path / "preset", tokenizer=tokenizer)
    copy, opened = igpt_keras.open_weights(tmp_path / "preset")
    assert isinstance(opened, igpt_keras.VQVAETokenizer)
    assert opened.fingerprint == tokenizer.fingerprint
    images = pictures(3)
    token_ids = array(tokenizer(images))
    np.testing.assert_array_equal(array(opened(images)), token_ids)
    np.testing.assert_array_equal(
        array(copy(token_ids)), array(model(token_ids))
    )
    # Another tokenizer in its place leaves nothing of the old one.
    palette = np.random.default_rng(0).uniform(-1, 1, (16, 3))
    palette = igpt_keras.PaletteTokenizer(palette)
    model.save_to_preset(tmp_path / "preset", tokenizer=palette)
    _, opened = igpt_keras.open_weights(tmp_path / "preset")
    assert isinstance(opened, igpt_keras.PaletteTokenizer)
    with pytest.raises(ValueError, match="knows colours only"):
        igpt_keras.save_huggingface(model, tmp_path / "theirs", tokenizer)


def test_config_round_trip(tokenizer):
    copy = igpt_keras.VQVAETokenizer.from_config(tokenizer.get_config())
    assert copy.vocabulary_size == 16 and copy.model_resolution == 4


def test_keras_file(tokenizer, tmp_path):
    entry = keras.Input((8, 8, 3), dtype="uint8")
    keras.Model(entry, tokenizer(entry)).save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    images = pictures(3)
    np.testing.assert_array_equal(array(copy(images)), array(tokenizer(images)))


@pytest.mark.parametrize(
    "token_ids, message",
    [
        (np.zeros((2, 15), "int32"), r"\(B, 16\), received \(2, 15\)"),
        (np.zeros((2, 4, 4), "int32"), r"received \(2, 4, 4\)"),
        (np.full((1, 16), 16), r"must be in \[0, 16\)"),
        (np.zeros((1, 16)), "must be integers"),
        (keras.ops.full((1, 16), 16, "int32"), r"must be in \[0, 16\)"),
    ],
)
def test_refuses_bad_token_ids(tokenizer, token_ids, message):
    with pytest.raises(ValueError, match=message):
        tokenizer.detokenize(token_ids)


def test_refuses_bad_images_and_models(tokenizer):
    with pytest.raises(ValueError, match="takes 8x8"):
        tokenizer(np.zeros((1, 16, 16, 3), "uint8"))
    with pytest.raises(ValueError, match="must be a VQVAE, received a str"):
        igpt_keras.VQVAETokenizer("runs/vq_vae")
