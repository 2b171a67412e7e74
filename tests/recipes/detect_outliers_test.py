import json

import numpy as np
import pytest
import recipe
from PIL import Image

import igpt_keras

pytest.importorskip("tensorflow")


def model_of(path, tokenizer, seed, **sizes):
    """A preset of a network whose logits say something."""
    import keras

    keras.utils.set_random_seed(seed)
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, **sizes}
    sizes = {"sequence_length": 64, **sizes}
    model = igpt_keras.IGPT(16, head="normal", **sizes)
    model.save_to_preset(path, tokenizer=tokenizer)
    return path


@pytest.fixture(scope="module")
def palette():
    train = igpt_keras.data.load_examples("digits", "train", 8)
    return igpt_keras.PaletteTokenizer.fit(train.images, vocabulary_size=16)


def test_each_set_beside_the_models_own(palette, tmp_path, capsys):
    large = model_of(tmp_path / "large", palette, 0)
    small = model_of(tmp_path / "small", palette, 1, hidden_dim=4)
    output = tmp_path / "deep" / "output"
    recipe.run(
        "detect_outliers",
        model=large,
        small=small,
        dataset="digits",
        others="placed_digits",
        images=30,
        output=output,
    )
    text = capsys.readouterr().out
    found = json.loads((output / "outliers.json").read_text())["sets"]
    others = ["placed_digits", "noise", "upside down", "shuffled"]
    assert list(found) == ["digits", *others]
    names = [
        "loss",
        "loss - small model's loss",
        "loss - compressed size",
    ]
    assert "auroc" not in found["digits"]
    page = (output / "outliers.md").read_text()
    for name in others:
        assert list(found[name]["auroc"]) == names
        row = next(x for x in page.split("\n") if x.startswith(f"| {name}"))
        for area in found[name]["auroc"].values():
            assert 0 <= area <= 1 and f"{area:.3f}" in row
        assert name in text
    # Its own nats, by another way.
    test = igpt_keras.data.load_examples("digits", "test", 8)
    token_ids = np.asarray(palette(test.images[:30]))
    model = igpt_keras.IGPT.from_preset(large)
    losses = igpt_keras.evaluation.token_losses(model, token_ids)
    expected = losses.mean()
    assert abs(found["digits"]["nats_per_token"] - expected) < 1e-5
    with Image.open(output / "outliers.png") as picture:
        assert picture.size[0] > 500


def test_models_that_cannot_be_compared(palette, tmp_path):
    large = model_of(tmp_path / "large", palette, 0)
    other = igpt_keras.PaletteTokenizer(palette.palette[::-1])
    small = model_of(tmp_path / "small", other, 1)
    flags = {"dataset": "digits", "output": tmp_path / "output"}
    with pytest.raises(ValueError, match="has other tokens than --model"):
        recipe.run("detect_outliers", model=large, small=small, **flags)
    coarse = model_of(tmp_path / "coarse", palette, 1, sequence_length=16)
    with pytest.raises(ValueError, match="--small has 16 tokens an image"):
        recipe.run("detect_outliers", model=large, small=coarse, **flags)
    bert = model_of(tmp_path / "bert", palette, 0, objective="bert")
    with pytest.raises(ValueError, match="is a BERT model"):
        recipe.run("detect_outliers", model=bert, **flags)
    assert not (tmp_path / "output").exists()


def test_says_that_the_dataset_is_no_other(palette, tmp_path, capsys):
    output = tmp_path / "output"
    recipe.run(
        "detect_outliers",
        model=model_of(tmp_path / "model", palette, 0),
        dataset="digits",
        images=4,
        output=output,
    )
    found = json.loads((output / "outliers.json").read_text())["sets"]
    assert list(found) == ["digits", "noise", "upside down", "shuffled"]
    said = "Leaving digits out of --others: it is --dataset.\n"
    assert said in capsys.readouterr().out
