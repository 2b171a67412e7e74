import numpy as np
import pytest
from PIL import Image

import igpt_keras

pytest.importorskip("tensorflow")

from igpt_keras.data import image_dataset  # noqa: E402
from igpt_keras.data import open_split  # noqa: E402
from igpt_keras.data import open_splits  # noqa: E402


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def read(dataset):
    return [x for x, _ in dataset.as_numpy_iterator()]


def test_one_split_is_read_in_several_ways():
    split = open_split("digits", "train")
    assert len(split) == len(split.labels) == 1295
    assert split.input_resolution == 8 and split.name == "digits"
    whole = np.concatenate(read(split.batches(500)))
    for training, seed in ((False, 0), (True, 3)):
        found = read(split.batches(64, training, seed).take(3))
        expected = image_dataset("digits", "train", 8, 64, training, seed)
        for one, other in zip(found, read(expected.take(3)), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.concatenate(read(split.batches(9))), whole)


def test_the_first_examples():
    split = open_split("digits", "train")
    first = split.first(100)
    batches = read(first.batches(64))
    assert [len(batch) for batch in batches] == [64, 36]
    expected = np.concatenate(read(split.batches(100).take(1)))
    np.testing.assert_array_equal(np.concatenate(batches), expected)
    np.testing.assert_array_equal(first.labels, split.labels[:100])
    # It is not the whole split, and says nothing of it.
    assert first.fingerprint is None and first.with_validation is None
    assert len(split.first(None)) == 1295


@pytest.mark.parametrize("count", [10, 57, 1000])
def test_stratified_gives_each_class_its_share(count):
    split = open_split("digits", "train")
    some = split.stratified(count)
    assert len(some) == count
    shares = count * np.bincount(split.labels) / len(split)
    counts = np.bincount(some.labels, minlength=10)
    assert np.abs(counts - shares).max() < 1
    images, labels = zip(*some.batches(64).as_numpy_iterator())
    images, labels = np.concatenate(images), np.concatenate(labels)
    np.testing.assert_array_equal(labels, some.labels)
    whole = np.concatenate(read(split.batches(500)))
    for label in range(10):
        expected = whole[split.labels == label][: counts[label]]
        np.testing.assert_array_equal(images[labels == label], expected)
    assert split.stratified(2000) is split and split.stratified(None) is split


def test_stratified_tokens(tmp_path):
    for part in ("tr", "va", "te"):
        token_ids = np.arange(20)[:, None] * np.ones((1, 16), "int64")
        np.save(tmp_path / f"x_{part}X.npy", token_ids.astype("int64"))
        one_hot = np.eye(2)[[0] * 5 + [1] * 15]
        np.save(tmp_path / f"x_{part}Y.npy", one_hot)
    split = open_split(f"npy:{tmp_path / 'x'}", "train", 4).stratified(8)
    (token_ids,) = read(split.batches(9))
    assert token_ids[:, 0].tolist() == [0, 1, 5, 6, 7, 8, 9, 10]


def test_with_validation_is_the_folded_split():
    folded = open_split("digits", "train", fold_validation=True)
    same = open_split("digits", "train").with_validation()
    assert same.fingerprint == folded.fingerprint
    np.testing.assert_array_equal(same.labels, folded.labels)
    for one, other in zip(read(same.batches(500)), read(folded.batches(500))):
        np.testing.assert_array_equal(one, other)
    assert open_split("digits", "validation").with_validation is None


def pictures(directory, first, count):
    directory.mkdir(exist_ok=True)
    for i in range(first, first + count):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(directory / f"{i}.png")


def test_pictures_that_were_added_are_seen(tmp_path):
    """In the same process, as in a notebook."""
    pictures(tmp_path / "mine", 0, 20)
    name = f"folder:{tmp_path / 'mine'}"
    assert sum(map(len, open_splits(name).values())) == 20
    pictures(tmp_path / "mine", 20, 10)
    assert sum(map(len, open_splits(name).values())) == 30


def test_default_resolutions(tmp_path):
    assert open_split("digits", "test").input_resolution == 8
    pictures(tmp_path / "mine", 0, 20)
    name = f"folder:{tmp_path / 'mine'}"
    assert open_split(name, "test").input_resolution == 32
    assert open_split(name, "test", 16).input_resolution == 16


def test_tokens_are_of_the_models_resolution(tmp_path):
    for part in ("tr", "va", "te"):
        np.save(tmp_path / f"x_{part}X.npy", np.zeros((3, 16), "int64"))
    name = f"npy:{tmp_path / 'x'}"
    split = open_split(name, "test", 8, model_resolution=4)
    assert split.is_tokens and split.input_resolution == 4
    with pytest.raises(ValueError, match="x_teX.npy has shape"):
        open_split(name, "test", 8)
    # Images are of their own resolution.
    images = open_split("digits", "test", 8, model_resolution=4)
    assert images.input_resolution == 8
    with pytest.raises(ValueError, match="holds tokens already, and images"):
        split.check_images()
    images.check_images()


def test_tokenize_leaves_tokens_and_maps_images():
    tokenizer = igpt_keras.PaletteTokenizer([[-1.0, -1, -1], [1.0, 1, 1]])
    dataset = open_split("digits", "test").batches(100)
    tokens = igpt_keras.data.tokenize(dataset, tokenizer)
    for token_ids, images in zip(read(tokens), read(dataset), strict=True):
        bright = images.reshape(len(images), 64, 3)[..., 0] > 127
        np.testing.assert_array_equal(token_ids, bright)
    assert igpt_keras.data.tokenize(tokens, None) is tokens


def test_a_tokenizer_is_traced_once_for_images_of_a_shape():
    traced = []

    class Palette(igpt_keras.PaletteTokenizer):
        def call(self, images):
            traced.append(images.shape[0])
            return super().call(images)

    split = open_split("digits", "train", 4)
    tokenizer = Palette([[-1.0, -1, -1], [1.0, 1, 1]])
    sets = igpt_keras.data.TokenSets(tokenizer, batch_size=64)
    for limit in (70, 80):
        evaluated = sets.evaluation(split, limit)
        assert evaluated.token_ids.shape == (limit, 16)
        dataset = sets.training(split)
        # Whole batches have their size, which XLA and replicas need.
        assert dataset.element_spec[0].shape == (64, 16)
    assert traced == [None, 64]


def test_evaluation_sets():
    tokenizer = igpt_keras.PaletteTokenizer([[-1.0, -1, -1], [1.0, 1, 1]])
    split = open_split("digits", "train")
    sets = igpt_keras.data.TokenSets(tokenizer, batch_size=64)
    examples = sets.evaluation(split, 100)
    images = np.concatenate(list(examples.image_batches()))
    assert len(images) == len(examples.labels) == 100
    np.testing.assert_array_equal(examples.first_images(70), images[:70])
    token_ids = np.concatenate(read(examples.tokens))
    assert token_ids.shape == (100, 64)
    for x, y in examples.inputs.as_numpy_iterator():
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_training_continues_from_any_step(objective):
    tokenizer = igpt_keras.PaletteTokenizer([[-1.0, -1, -1], [1.0, 1, 1]])
    split = open_split("digits", "train")
    sets = igpt_keras.data.TokenSets(
        tokenizer, 32, objective, mask_rate=0.3, seed=2
    )
    whole = list(sets.training(split).take(5).as_numpy_iterator())
    rest = list(sets.training(split, 3).take(2).as_numpy_iterator())
    for one, other in zip(whole[3:], rest, strict=True):
        np.testing.assert_equal(one, other)
    inputs, targets = whole[0]
    if objective == "bert":
        assert set(inputs) == {"token_ids", "mask"}
        assert abs(inputs["mask"].mean() - 0.3) < 0.05
        inputs = inputs["token_ids"]
    np.testing.assert_array_equal(inputs, targets)
    other = igpt_keras.data.TokenSets(tokenizer, 32, objective, seed=3)
    changed, _ = next(other.training(split).as_numpy_iterator())
    changed = changed["token_ids"] if objective == "bert" else changed
    assert (changed != inputs).any()


def test_bert_is_probed_under_masks():
    tokenizer = igpt_keras.PaletteTokenizer([[-1.0, -1, -1], [1.0, 1, 1]])
    split = open_split("digits", "test")
    sets = igpt_keras.data.TokenSets(tokenizer, 64, "bert", mask_rate=0.4)
    examples = sets.evaluation(split, 100)
    inputs, labels = zip(*examples.probe_inputs.as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate(labels), examples.labels)
    hidden = np.concatenate([x["mask"] for x in inputs])
    assert abs(hidden.mean() - 0.4) < 0.03
    same = igpt_keras.data.TokenSets(tokenizer, 64).evaluation(split, 100)
    token_ids, _ = next(same.probe_inputs.as_numpy_iterator())
    np.testing.assert_array_equal(token_ids, inputs[0]["token_ids"])


def test_tokens_show_what_they_were_made_of(tmp_path):
    palette = np.linspace(-1, 1, 512)[:, None] * np.ones(3)
    tokenizer = igpt_keras.PaletteTokenizer(palette)
    token_ids = np.random.default_rng(0).integers(0, 512, (6, 16))
    for part in ("tr", "va", "te"):
        np.save(tmp_path / f"x_{part}X.npy", token_ids)
    split = open_split(f"npy:{tmp_path / 'x'}", "test", 4)
    examples = igpt_keras.data.TokenSets(tokenizer, 4).evaluation(split)
    expected = np.asarray(tokenizer.detokenize(token_ids.astype("int32")))
    np.testing.assert_array_equal(examples.first_images(5), expected[:5])
