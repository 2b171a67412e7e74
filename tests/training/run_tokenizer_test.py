import numpy as np
import pytest
from tiny import array

import igpt_keras
from igpt_keras import training

tf = pytest.importorskip("tensorflow")

GREYS = np.repeat(np.linspace(-1, 1, 5)[:, None], 3, axis=1)


@pytest.fixture
def run(tmp_path):
    run = training.RunDirectory(tmp_path / "run")
    run.make()
    return run


@pytest.fixture(scope="module")
def train():
    return igpt_keras.data.open_split("digits", "train")


def start(run):
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "step_1").mkdir()
    (run / "checkpoints" / "step_1" / "manifest.json").touch()


@pytest.fixture
def palette(tmp_path):
    np.save(tmp_path / "palette.npy", GREYS)
    return str(tmp_path / "palette.npy")


@pytest.fixture
def vq_vae(tmp_path):
    vq_vae = igpt_keras.VQVAE(8, 4, 16)
    generator = np.random.default_rng(0)
    vq_vae.adapt(generator.integers(0, 256, (4, 8, 8, 3)).astype("uint8"))
    vq_vae.save_to_preset(tmp_path / "vq")
    return f"vq_vae:{tmp_path / 'vq'}"


def test_none_is_given(run):
    opened, values = training.open_run_tokenizer(run, "digits")
    assert opened is None
    assert values == {
        "palette": None,
        "tokenizer": None,
        "input_resolution": 8,
        "model_resolution": 8,
        "vocabulary_size": 512,
    }
    _, values = training.open_run_tokenizer(run, "cifar10", vocabulary_size=9)
    assert values["input_resolution"] == values["model_resolution"] == 32
    assert values["vocabulary_size"] == 9


def test_a_palette_brings_its_size(run, palette):
    opened, values = training.open_run_tokenizer(
        run, "digits", palette, input_resolution=4
    )
    np.testing.assert_allclose(opened.palette, GREYS, atol=1e-6)
    assert values["vocabulary_size"] == 5
    assert values["input_resolution"] == values["model_resolution"] == 4


def test_a_vq_vae_brings_both_resolutions(run, vq_vae):
    opened, values = training.open_run_tokenizer(run, "digits", None, vq_vae)
    assert isinstance(opened, igpt_keras.VQVAETokenizer)
    assert values["input_resolution"] == 8 and values["model_resolution"] == 4
    assert values["vocabulary_size"] == 16
    with pytest.raises(ValueError, match="is for images of 8x8"):
        training.open_run_tokenizer(run, "digits", None, vq_vae, 16)


def test_a_token_cache_brings_its_own(run, palette, vq_vae, tmp_path):
    name = f"tokens:{tmp_path}"
    opened, values = training.open_run_tokenizer(run, name)
    assert values["palette"] == palette and values["tokenizer"] is None
    (tmp_path / "vq").rename(tmp_path / "vq_vae")
    opened, values = training.open_run_tokenizer(run, name)
    assert isinstance(opened, igpt_keras.VQVAETokenizer)
    assert values["tokenizer"] == f"vq_vae:{tmp_path / 'vq_vae'}"
    assert values["palette"] is None


@pytest.mark.parametrize(
    "palette, tokenizer, message",
    [
        ("p.npy", "vq_vae:x", "Pass one of them"),
        ("nowhere.npy", None, "No palette at 'nowhere.npy'"),
        (None, "vq_vae:nowhere", "No VQ-VAE at nowhere"),
        (None, "vq_vae:", "--tokenizer=vq_vae: is unknown"),
        (None, "bpe:x", "--tokenizer=bpe:x is unknown"),
    ],
)
def test_refuses(palette, tokenizer, message, run):
    with pytest.raises(ValueError, match=message):
        training.open_run_tokenizer(run, "digits", palette, tokenizer)


def test_a_run_that_goes_on_has_its_copy(run, palette, vq_vae, train):
    given = igpt_keras.PaletteTokenizer(palette)
    kept = training.keep_run_tokenizer(run, train, given)
    assert kept is given
    start(run)
    np.save(palette, GREYS[:3])
    opened, values = training.open_run_tokenizer(run, "digits", palette)
    assert values["vocabulary_size"] == 5
    assert opened.fingerprint == given.fingerprint


def test_fits_a_palette_of_the_first_images_once(run, train, monkeypatch):
    monkeypatch.setattr(training.run_tokenizer, "PALETTE_IMAGES", 100)
    fitted = training.keep_run_tokenizer(
        run, train, vocabulary_size=6, batch_size=64, seed=3
    )
    images = igpt_keras.data.load_examples("digits", "train", 8).images[:128]
    expected = igpt_keras.PaletteTokenizer.fit(images, 6, 3)
    assert fitted.fingerprint == expected.fingerprint
    start(run)
    monkeypatch.setattr(igpt_keras.PaletteTokenizer, "fit", None)
    again = training.keep_run_tokenizer(run, train, vocabulary_size=6)
    assert again.fingerprint == fitted.fingerprint


def test_a_vq_vae_is_copied_whole(run, train, vq_vae):
    given = training.open_vq_vae(vq_vae)
    training.keep_run_tokenizer(run, train, given)
    copy = igpt_keras.VQVAETokenizer.from_preset(run / "vq_vae")
    images = igpt_keras.data.load_examples("digits", "test", 8).images[:4]
    np.testing.assert_array_equal(array(copy(images)), array(given(images)))


def test_tokens_need_their_palette(run, palette, tmp_path):
    for part in ("tr", "va", "te"):
        np.save(tmp_path / f"x_{part}X.npy", np.zeros((3, 16), "int64"))
    name = f"npy:{tmp_path / 'x'}"
    tokens = igpt_keras.data.open_split(name, "train", 4)
    with pytest.raises(ValueError, match="pass the --palette that they were"):
        training.keep_run_tokenizer(run, tokens)
    given = igpt_keras.PaletteTokenizer(palette)
    assert training.keep_run_tokenizer(run, tokens, given) is given
