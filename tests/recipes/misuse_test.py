"""What no probe and no fine-tuning can be done with."""

import numpy as np
import pytest
import recipe
import tiny
from PIL import Image

pytest.importorskip("tensorflow")

from igpt_keras import probes  # noqa: E402

RECIPES = ("linear_probe", "linear_probe_sgd", "finetune")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return tiny.save_preset(tmp_path_factory.mktemp("model") / "preset")


@pytest.fixture(scope="module")
def other_tokens(tmp_path_factory):
    """A cache of digits in other colours."""
    directory = tmp_path_factory.mktemp("cache")
    np.save(directory / "palette.npy", tiny.grey_palette(7).colours / 127.5 - 1)
    recipe.run(
        "tokenize_dataset",
        dataset="digits",
        input_resolution=4,
        crops=1,
        palette=directory / "palette.npy",
        output=directory / "tokens",
    )
    return f"tokens:{directory / 'tokens'}"


@pytest.fixture(scope="module")
def long_tokens(tmp_path_factory):
    """OpenAI's files, of images of 8x8."""
    prefix = tmp_path_factory.mktemp("npy") / "digits"
    generator = np.random.default_rng(0)
    for split in ("tr", "va", "te"):
        token_ids = generator.integers(0, 11, (20, 64))
        np.save(f"{prefix}_{split}X.npy", token_ids)
        np.save(f"{prefix}_{split}Y.npy", np.eye(2, dtype="int64")[[0, 1] * 10])
    return f"npy:{prefix}"


def run(name, directory, **flags):
    return recipe.run(name, **flags, run_dir=directory / "run")


@pytest.mark.parametrize("name", RECIPES)
def test_tokens_of_another_tokenizer(name, preset, other_tokens, tmp_path):
    with pytest.raises(ValueError, match="made with another tokenizer"):
        run(name, tmp_path, model=preset, dataset=other_tokens)


def test_probed_tokens_of_another_tokenizer(other_tokens, tmp_path):
    """Than that of the run, which fits one of its own."""
    with pytest.raises(ValueError, match="made with another tokenizer"):
        run(
            "pretrain",
            tmp_path,
            dataset="digits",
            input_resolution=4,
            vocabulary_size=11,
            preset="igpt_nano",
            steps=2,
            probe_datasets=other_tokens,
        )


@pytest.mark.parametrize("name", RECIPES)
def test_tokens_of_another_resolution(name, preset, long_tokens, tmp_path):
    with pytest.raises(
        ValueError, match=r"has shape \(20, 64\), expected \(images, 16\)"
    ):
        run(name, tmp_path, model=preset, dataset=long_tokens)


@pytest.mark.parametrize("name", RECIPES)
def test_a_palette_of_another_size(name, preset, tmp_path):
    np.save(
        tmp_path / "palette.npy",
        np.eye(5, 3)[:5] - np.linspace(0, 0.5, 5)[:, None],
    )
    flags = {"model": preset, "palette": tmp_path / "palette.npy"}
    with pytest.raises(ValueError, match="5 tokens and the model a vocabulary"):
        run(name, tmp_path, **flags, dataset="digits")


@pytest.mark.parametrize("name", RECIPES)
def test_pictures_of_one_class(name, preset, tmp_path):
    (tmp_path / "pictures" / "only").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(60):
        pixels = generator.integers(0, 256, (8, 8, 3)).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / "pictures/only" / f"{i}.png")
    dataset = f"folder:{tmp_path / 'pictures'}"
    with pytest.raises(ValueError, match="one class|two classes"):
        run(name, tmp_path, model=preset, dataset=dataset)


@pytest.mark.parametrize(
    "fit", [probes.probe_layers, probes.fit_logistic_regression]
)
def test_features_that_are_not_finite_or_too_few(fit):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 12, 3)).astype("float32")
    y = np.arange(12) % 3
    others = [x, y] * (1 if fit is probes.probe_layers else 2)
    bad = x.copy()
    bad[1, 5, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fit(bad, y, *others)
    with pytest.raises(ValueError, match="labels|images"):
        fit(x, y[:-1], *others)
    with pytest.raises(ValueError, match="one class|two classes"):
        fit(x, np.zeros_like(y), *others)


def test_nothing_is_chosen_on_test():
    """Other test images change the accuracy on test, and no choice."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 60, 4)).astype("float32")
    y = generator.integers(0, 3, 60)
    found = []
    for seed in (1, 2):
        other = np.random.default_rng(seed)
        test = other.normal(size=(3, 40, 4)), other.integers(0, 3, 40)
        found.append(probes.fit_logistic_regression(x, y, x, y, *test))
    one, two = found
    assert one.chosen_layer == two.chosen_layer
    np.testing.assert_array_equal(one.regularization, two.regularization)
    assert (one.test_accuracy != two.test_accuracy).any()
