import sys

import keras
import numpy as np
import pytest
import tiny

import igpt_keras
from igpt_keras import reports

CONFIG = {
    "dataset": "digits",
    "steps": 30,
    "batch_size": 7,
    "learning_rate": 0.003,
    "seed": 5,
}
REPORT = {
    "probe": [
        {"layer": 0, "validation_accuracy": 0.1, "test_accuracy": 0.2},
        {"layer": 1, "validation_accuracy": 0.3, "test_accuracy": 0.4},
    ],
    "chosen_layer": 1,
    "probe_images": 1001,
    "test_standard_error": 0.015,
    "chance": 0.11,
    "raw_pixels_test_accuracy": 0.35,
    "untrained_test_accuracy": 0.25,
}
METRICS = {
    "steps": 20,
    "images": {"train": 1295, "validation": 143, "test": 359},
    "validation_nats_per_token": 1.23456,
    "test_nats_per_token": 1.5,
    "test_unigram_nats_per_token": 2.25,
    **REPORT,
    "probes": {},
}


def card(directory, config=CONFIG, metrics=METRICS, command="python x.py"):
    reports.write_model_card(directory, config, metrics, command)
    return (directory / "README.md").read_text()


def rows(text):
    """Cells of each row of its tables, by the first one."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells}


@pytest.fixture
def preset(tmp_path):
    return tiny.save_preset(tmp_path / "preset")


def test_card_of_a_pretrained_model(preset):
    before = igpt_keras.IGPT.from_preset(preset).get_weights()
    text = card(preset)
    # The hub's metadata: a block of YAML above all.
    _, metadata, _ = text.split("---\n", 2)
    assert metadata.splitlines()[0] == "library_name: igpt_keras"
    found = rows(text)
    assert found["data"] == ["`digits`"]
    assert found["images"] == ["1,295 train, 143 validation, 359 test"]
    model = igpt_keras.IGPT.from_preset(preset)
    assert found["network"] == [
        f"3 layers, 3 heads, width 15, {model.count_params():,} weights"
    ]
    assert found["objective"][0].startswith("autoregressive")
    assert found["image resolution"] == ["4x4 pixels"]
    assert found["model resolution"] == ["4x4 tokens"]
    assert found["tokens"] == ["11 colours of a palette"]
    assert found["training"] == [
        "weights of step 20 of 30, 7 images a step, learning rate 0.003, seed 5"
    ]
    versions = found["versions"][0]
    for name, version in (
        ("igpt_keras", igpt_keras.__version__),
        ("Python", sys.version.split()[0]),
        ("Keras", keras.__version__),
        ("NumPy", np.__version__),
    ):
        assert f"{name} {version}" in versions
    assert keras.backend.backend() in versions
    assert found["nats per token"] == ["1.2346", "1.5000"]
    assert found["entropy of the tokens' frequencies"] == ["", "2.2500"]
    assert found["0"] == ["10.0%", "20.0%"] and found["1"] == ["30.0%", "40.0%"]
    assert found["raw pixels"] == ["", "35.0%"]
    assert "largest class" not in found
    assert found["untrained"] == ["", "25.0%"]
    assert "Layer 1 was chosen" in text and "1,001" in text
    assert "```bash\npython x.py\n```" in text
    assert "must not be used for" in text and "biases" in text
    assert "MIT licence" in text
    # What it says to open the preset with does so.
    opened, tokenizer = igpt_keras.open_weights(preset)
    assert tokenizer.vocabulary_size == 11
    for a, b in zip(before, opened.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not [p for p in preset.iterdir() if p.name.startswith(".")]


def test_other_datasets_have_their_own_probes(preset):
    other = {**REPORT, "raw_pixels_test_accuracy": 0.77}
    metrics = {**METRICS, "probe": [], "probes": {"stl10": other}}
    text = card(preset, {**CONFIG, "fold_validation": True}, metrics)
    assert "Linear probes of stl10" in text and "own images" not in text
    assert rows(text)["raw pixels"] == ["", "77.0%"]
    assert "trained on validation too" in text


def test_card_of_a_fine_tuned_model(tmp_path):
    classifier = igpt_keras.IGPTClassifier(tiny.model("bert"), 10)
    classifier.save_to_preset(
        tmp_path / "preset", tokenizer=tiny.grey_palette()
    )
    metrics = {
        "steps": 20,
        "images": METRICS["images"],
        "from_scratch": True,
        "validation_accuracy": 0.5,
        "test_accuracy": 0.625,
        "test_standard_error": 0.015,
        "chance": 0.11,
    }
    config = {**CONFIG, "labels_per_class": 4}
    text = card(tmp_path / "preset", config, metrics)
    found = rows(text)
    assert found["started from"] == ["fresh weights"]
    assert found["tokens"] == ["11 colours of a palette"]
    assert found["objective"][0].startswith("BERT")
    assert found["network"][0].endswith(" weights, 10 classes")
    assert found["images"][0].endswith("; 4 labels a class")
    assert found["accuracy"] == ["50.0%", "62.5%"]
    assert found["largest class"] == ["", "11.0%"]
    metrics |= {"from_scratch": False, "model": "runs/digits"}
    (tmp_path / "preset" / "palette.npy").unlink()
    found = rows(card(tmp_path / "preset", config, metrics))
    assert found["started from"] == ["`runs/digits`"]
    assert found["tokens"] == ["11 colours of a palette, which is not here"]
    assert "Linear probes" not in text


def test_card_of_codes(tmp_path):
    vq_vae = igpt_keras.VQVAE(8, 4, 16)
    vq_vae.save_to_preset(tmp_path / "vq_vae")
    metrics = {"steps": 20, "images": METRICS["images"], "psnr": 28.125}
    text = card(tmp_path / "vq_vae", metrics=metrics)
    found = rows(text)
    assert found["image resolution"] == ["8x8 pixels"]
    assert found["model resolution"] == ["4x4 tokens"]
    assert found["tokens"][0].startswith("16 codes of a VQ-VAE")
    assert found["PSNR, dB"] == ["", "28.12"]
    assert "igpt_keras.VQVAE.from_preset" in text
    igpt_keras.VQVAE.from_preset(tmp_path / "vq_vae")
    # A card is of the weights beside it, and goes with them.
    vq_vae.save_to_preset(tmp_path / "vq_vae")
    assert not (tmp_path / "vq_vae" / "README.md").exists()
    # Beside a model, codes are what its tokens are.
    size = {**tiny.SIZE, "vocabulary_size": 16}
    tokenizer = igpt_keras.VQVAETokenizer(vq_vae)
    igpt_keras.IGPT(**size).save_to_preset(tmp_path / "model", tokenizer)
    found = rows(card(tmp_path / "model"))
    assert found["tokens"][0].startswith("16 codes of a VQ-VAE")
    assert found["image resolution"] == ["8x8 pixels"]


def test_replaces_its_own_card_and_no_other(preset, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["/home/me/recipes/pretrain.py", "--x=a b"]
    )
    text = card(preset, command=None)
    assert "python recipes/pretrain.py '--x=a b'" in text
    assert "/home/me" not in text
    tiny.save_preset(preset)
    assert not (preset / "README.md").exists()
    (preset / "README.md").write_text("My notes.")
    with pytest.raises(ValueError, match=r"holds other files \(README.md\)"):
        tiny.save_preset(preset)
    assert (preset / "README.md").read_text() == "My notes."


def test_order_and_attention_are_named_where_they_are_not_the_usual(tmp_path):
    plain = rows(card(tiny.save_preset(tmp_path / "plain")))
    assert not {"order", "attention"} & set(plain)
    model = tiny.model(order="spiral")
    model.save_to_preset(tmp_path / "own", tokenizer=tiny.grey_palette())
    assert rows(card(tmp_path / "own"))["order"] == ["spiral"]
    model = tiny.model(attention="block_causal:2")
    model.save_to_preset(tmp_path / "own", tokenizer=tiny.grey_palette())
    assert rows(card(tmp_path / "own"))["attention"] == ["block_causal:2"]


def test_a_card_says_of_how_many_images_scores_are(preset):
    text = card(preset, {**CONFIG, "evaluation_images": 1234})
    images = rows(text)["images"][0]
    assert images.endswith("at most 1,234 of validation and of test")
    assert "scored" not in card(preset)
