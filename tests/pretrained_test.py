"""The weights that come with the package."""

import math
import re

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from tiny import array

import igpt_keras
from igpt_keras import evaluation
from igpt_keras import presets


@pytest.fixture(scope="module", params=presets.PRETRAINED)
def opened(request):
    """Name, model, tokenizer."""
    return request.param, *igpt_keras.open_weights(request.param)


def photos(count, side):
    """Patches of scikit-learn's two photos, uint8 `(count, side, side, 3)`."""
    generator = np.random.default_rng(0)
    patches = []
    for number in range(count):
        photo = load_sample_images().images[number % 2]
        size = generator.integers(64, 400)
        top, left = (generator.integers(0, x - size) for x in photo.shape[:2])
        patch = photo[top : top + size, left : left + size]
        patches.append(np.asarray(Image.fromarray(patch).resize([side] * 2)))
    return np.stack(patches)


def nats_per_token(model, tokenizer, images):
    token_ids = array(tokenizer(images))
    return evaluation.token_losses(model, token_ids, batch_size=50).mean()


def test_the_parts_open_by_name(opened):
    name, model, tokenizer = opened
    again = igpt_keras.IGPT.from_preset(name)
    palette = igpt_keras.PaletteTokenizer.from_preset(name)
    assert palette.fingerprint == tokenizer.fingerprint
    for old, new in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(array(old), array(new))
    size = sum(p.stat().st_size for p in presets.preset_path(name).iterdir())
    assert size < 4_000_000
    with pytest.raises(ValueError, match="holds no class head"):
        igpt_keras.IGPTClassifier.from_preset(name)


def test_it_learned_what_pictures_look_like(opened):
    """Photos cost far less than pixels of them in another order."""
    _, model, tokenizer = opened
    side = math.isqrt(model.sequence_length)
    images = photos(20, side)
    nats = nats_per_token(model, tokenizer, images)
    shuffled = igpt_keras.data.altered_images(images)["shuffled"]
    assert nats < 0.8 * nats_per_token(model, tokenizer, shuffled)
    assert nats < 0.8 * math.log(model.vocabulary_size)


@pytest.mark.large
def test_the_card_says_what_it_costs(opened, shared):
    """The first 100 test images, within three standard errors."""
    pytest.importorskip("tensorflow_datasets")
    name, model, tokenizer = opened
    card = (presets.preset_path(name) / "README.md").read_text()
    row = re.search(r"nats per token \| [\d.]+ \| (\d\.\d{4}) ", card)
    test = igpt_keras.data.load_examples(
        "cifar10",
        "test",
        input_resolution=math.isqrt(model.sequence_length),
        data_dir=shared / "data" / "tfds",
    )
    token_ids = array(tokenizer(test.images[:100]))
    (losses,) = evaluation.token_losses(model, token_ids, batch_size=50)
    error = losses.std() / math.sqrt(len(losses))
    assert error < 0.1
    assert abs(losses.mean() - float(row[1])) < 3 * error


@pytest.mark.large
@pytest.mark.compiled
def test_completes_a_picture(opened):
    _, model, tokenizer = opened
    side = math.isqrt(model.sequence_length)
    picture = photos(1, side)
    completed = igpt_keras.complete(model, tokenizer, picture)
    kept = array(tokenizer.detokenize(tokenizer(picture)))[:, : side // 2]
    for completion in completed[0]:
        np.testing.assert_array_equal(completion[: side // 2], kept[0])
    lower = completed[0][:, side // 2 :]
    assert len(np.unique(lower.reshape(len(lower), -1), axis=0)) == len(lower)


def test_a_directory_of_that_name_is_not_passed_over(tmp_path, monkeypatch):
    name = presets.PRETRAINED[0]
    model = igpt_keras.IGPT(5, 4, num_layers=1, num_heads=1, hidden_dim=4)
    model.save_to_preset(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for open_it in (igpt_keras.IGPT.from_preset, igpt_keras.open_weights):
        with pytest.raises(ValueError, match=f"Pass './{name}' for the dir"):
            open_it(name)
    assert igpt_keras.IGPT.from_preset(f"./{name}").vocabulary_size == 5


def test_unknown_names_hear_the_known_ones():
    name = presets.PRETRAINED[0]
    for open_it in (igpt_keras.IGPT.from_preset, igpt_keras.open_weights):
        with pytest.raises(ValueError, match=name):
            open_it("igpt_micro_cifar100")
