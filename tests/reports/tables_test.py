import numpy as np

from igpt_keras import data
from igpt_keras import presets
from igpt_keras import reports


def test_columns_are_flush():
    text = reports.table(
        [["", "a", "bb"], ["first", "1", "2"], ["x", "", "33"]]
    )
    assert text.split("\n") == [
        "        a   bb",
        "first   1    2",
        "x           33",
    ]


def test_only_what_is_there_is_listed(tmp_path):
    (tmp_path / "here.png").touch()
    text = reports.files_left(
        tmp_path, {"here.png": "a picture", "gone.json": "numbers"}
    )
    assert text == f"In {tmp_path}:\n  here.png  a picture"


def split(count, **described):
    labels = np.zeros(count, "int32")
    return data.Split("x", labels, fetch=None, input_resolution=8, **described)


def test_splits_and_what_was_left_out():
    classes = ("cat", "dog")
    splits = {
        "train": split(1234, class_names=classes),
        "test": split(5, class_names=classes),
    }
    text = reports.describe_splits(splits)
    assert text == "1,234 train, 5 test images of 2 classes"
    skipped = ("a.png is bad.", "b.png is worse.")
    others = ("3 .heic files, such as c.heic", "1 .txt file, d.txt")
    described = {"skipped": skipped, "other_files": others}
    splits = {"train": split(2, class_names=(), **described)}
    assert reports.describe_splits(splits).split("\n") == [
        "2 train images without labels",
        "Left out 2 pictures:",
        "  a.png is bad.",
        "  b.png is worse.",
        "Not read, as no pictures that are known here:",
        "  3 .heic files, such as c.heic",
        "  1 .txt file, d.txt",
    ]


METRICS = {
    "validation_nats_per_token": 1.23456,
    "test_nats_per_token": 1.5,
    "train_seconds": 61.4,
    "probe_seconds": 30.0,
    "picture_seconds": 8.6,
    "test_unigram_nats_per_token": 2.0,
    "probe": [],
    "probes": {},
}
PROBED = {
    **METRICS,
    "probe": [
        {"layer": 0, "validation_accuracy": 0.25, "test_accuracy": 0.5},
        {"layer": 1, "validation_accuracy": 0.75, "test_accuracy": 0.625},
    ],
    "best_layer": 1,
    "chosen_layer": 1,
    "tied_layers": [0, 1],
    "test_standard_error": 0.02,
    "chance": 0.1,
    "probe_images": 1234,
    "raw_pixels_test_accuracy": 0.4,
    "untrained_test_accuracy": 0.3,
    "low_data": {},
}


def test_pretraining_summary(tmp_path):
    (tmp_path / "preset").mkdir()
    text = reports.pretraining_summary(METRICS, tmp_path)
    assert "validation 1.2346, test 1.5000 nats per token\n" in text
    assert "trained 61 s, probes 30 s (30%), pictures 9 s (9%)" in text
    none = {**METRICS, "probe_seconds": 0.0, "picture_seconds": 0.0}
    text = reports.pretraining_summary(none, tmp_path)
    assert "trained 61 s\n" in text
    assert "localhost" not in text
    assert "frequencies: 2.0000 nats" in text
    assert "layer" not in text and "preset" in text
    text = reports.pretraining_summary(PROBED, tmp_path)
    lines = text.split("\n")
    chosen = [line for line in lines if "<- chosen on training images" in line]
    assert len(chosen) == 1 and chosen[0].split()[:3] == ["1", "75.0%", "62.5%"]
    assert any(line.split() == ["raw", "pixels", "40.0%"] for line in lines)
    assert "best layer" in text and "30.0%" in text
    assert "too few probe images" in text
    assert "no layer is best: 0 within a standard error" in text
    assert "1,234 images to fit" in text and "largest class is 10.0%" in text
    assert "raw pixels do as well" not in text
    folded = reports.pretraining_summary(PROBED, tmp_path, True).split("\n")
    told = [line for line in folded if "validation (trained on) " in line]
    assert [line.split()[0] for line in told] == ["validation", "layer"]
    assert "(trained on)" not in text
    pinned = "pinnedCards=%5B%7B%22plugin%22%3A%22scalars%22%2C"
    assert f"http://localhost:6006/?{pinned}" in text
    assert "smoothing=0#timeseries" in text
    others = {**METRICS, "probes": {"cifar10": PROBED}}
    text = reports.pretraining_summary(others, tmp_path)
    assert "cifar10:\nlayer" in text
    assert "accuracy_probe_cifar10%2Flayers" in text
    assert "accuracy_probe_validation" not in text
    as_well = {**PROBED, "raw_pixels_test_accuracy": 0.625}
    text = reports.pretraining_summary(as_well, tmp_path)
    assert "raw pixels do as well" in text
    low = {
        "labels_per_class": 4,
        "best_layer_mean": 0.5,
        "best_layer_standard_deviation": 0.01,
        "raw_pixels_mean": 0.4,
        "raw_pixels_standard_deviation": 0.02,
    }
    text = reports.pretraining_summary({**PROBED, "low_data": low}, tmp_path)
    assert (
        "4 labels a class: best layer 50.0% +- 1.0%, raw pixels 40.0%" in text
    )


def test_size_and_cost_of_a_run():
    config = {
        "preset": "igpt_l",
        "objective": "autoregressive",
        "input_resolution": 96,
        "model_resolution": 48,
        "vocabulary_size": 4096,
        "batch_size": 128,
        "steps": 1000,
        "learning_rate": 0.003,
        "head": "zeros",
        "seed": 7,
    }
    text = reports.describe_run(config)
    rows = dict(line.split(None, 1) for line in text.split("\n") if line)
    assert rows["parameters"] == "1,375,226,880"
    assert rows["seed"] == "7" and rows["num_layers"] == "48"
    assert f"tokens per step         {128 * 48**2:,}" in text
    assert f"tokens in all           {128_000 * 48**2:,}" in text
    assert "learning rate from      Table 5: igpt_l, autoregressive, 96" in text
    size = presets.architecture("igpt_l", 4096, 48, "autoregressive")
    del size["num_heads"], size["objective"]
    flops = presets.count_training_flops(**size, batch_size=128)
    assert f"FLOPs per step          {flops:.3g}" in text
    text = reports.describe_run({**config, "num_layers": 47})
    assert f"{1_375_226_880 - 12 * 1536**2 - 2 * 1536:,}" in text
    text = reports.describe_run({**config, "learning_rate": 0.1})
    assert "Table 5" not in text
    silent = {**config, "input_resolution": 64}
    text = reports.describe_run({**silent, "learning_rate": 0.01})
    assert "as Table 5 has none of igpt_l, autoregressive, 64 pixels" in text
