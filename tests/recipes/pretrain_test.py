import hashlib
import json
import os
import shutil
import signal
import sys
import time
from unittest.mock import Mock

import events
import forked
import numpy as np
import pytest
import recipe
from absl import flags
from PIL import Image

pytest.importorskip("tensorflow")

import igpt_keras  # noqa: E402
from igpt_keras import probes  # noqa: E402
from igpt_keras.storage.directory_lock import directory_lock  # noqa: E402
from igpt_keras.training.tensorflow_step import TensorFlowStep  # noqa: E402

# The function of the same name hides the module in its package.
open_split_module = sys.modules["igpt_keras.data.open_split"]

FLAGS = {
    "dataset": "digits",
    "input_resolution": 4,
    "preset": "igpt_nano",
    "vocabulary_size": 4,
    "steps": 2,
    "batch_size": 64,
    "warmup_steps": 1,
    "period": 2,
    "probe_images": 128,
    "evaluation_images": 64,
    "pictures": 0,
}


# What takes most of the time, for what is not about it.
ALONE = {"probe_images": 0}


@pytest.fixture(autouse=True, scope="module")
def two_layers():
    size = {**igpt_keras.presets.IGPT["igpt_nano"], "num_layers": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(igpt_keras.presets.IGPT, "igpt_nano", size)
        yield


@pytest.fixture(scope="module")
def finished(two_layers, tmp_path_factory):
    """A run that is over, and its metrics."""
    path = tmp_path_factory.mktemp("finished") / "run"
    return path, run(path)


@pytest.fixture
def drawn():
    """For tests of the pictures that a run leaves in the end."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """In others there are none: they take longer than two steps."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(igpt_keras.reports, "draw_samples", Mock())


def run(run_dir, **changes):
    return recipe.run("pretrain", **{**FLAGS, **changes, "run_dir": run_dir})


@pytest.mark.compiled
def test_two_steps_leave_everything(tmp_path, capsys, drawn):
    metrics = run(tmp_path / "run", period=1, pictures=1)
    run_dir = tmp_path / "run"
    assert json.loads((run_dir / "metrics.json").read_text()) == metrics
    assert {row["layer"] for row in metrics["probe"]} == {0, 1, 2}
    assert set(metrics["probe"][0]) == {
        "layer",
        "validation_accuracy",
        "test_accuracy",
    }
    # The first of two steps has learning rate zero.
    assert 0 < metrics["test_nats_per_token"] < np.log(4)
    assert metrics["train_seconds"] > 0
    assert metrics["probe_seconds"] > 0 and metrics["picture_seconds"] > 0
    assert metrics["images"] == {"train": 1295, "validation": 143, "test": 359}
    for key in ("raw_pixels_test_accuracy", "untrained_test_accuracy"):
        assert 0 < metrics[key] <= 1
    assert metrics["low_data"]["labels_per_class"] == 4
    for name in ("probe_curve", "samples", "completions"):
        with Image.open(run_dir / f"{name}.png") as picture:
            assert min(picture.size) > 50
            assert len(picture.convert("L").getcolors()) > 2
    model = igpt_keras.IGPT.from_preset(run_dir / "preset")
    tokenizer = igpt_keras.PaletteTokenizer.from_preset(run_dir / "preset")
    assert model.vocabulary_size == tokenizer.vocabulary_size == 4
    card = (run_dir / "preset" / "README.md").read_text()
    assert f"{metrics['test_nats_per_token']:.4f}" in card
    assert f"| 2 | {metrics['probe'][2]['validation_accuracy']:.1%}" in card
    output = capsys.readouterr().out
    assert "parameters" in output and "FLOPs per step" in output
    assert "raw pixels" in output and str(run_dir) in output

    tags = events.read_runs(run_dir / "logs")
    assert "epoch_loss" in tags["train"].keys() & tags["validation"].keys()
    assert "epoch_learning_rate" in tags["train"]
    assert "accuracy_probe_validation/chosen" in tags["probe_validation"]
    assert {"samples", "completions"} <= tags["pictures"].keys()
    steps = [step for step, _ in tags["validation"]["epoch_loss"]]
    assert steps == [1, 2]
    # Probes have their own run, and nothing is there twice.
    assert "val_probe" not in str(tags["train"].keys())
    # Settings are in the directory's own run.
    assert "run" in events.read(run_dir / "logs")
    assert len(list((run_dir / "logs").glob("events.out*"))) == 1


def test_stopped_and_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    settings = {"steps": 3, "period": 1}
    whole = run(tmp_path / "whole", **settings)

    with recipe.stopped_at(2, monkeypatch):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", **settings)
    resumed = run(tmp_path / "stopped", **settings)
    for key in whole:
        if not key.endswith("_seconds"):
            assert resumed[key] == whole[key], key
    one, two = (
        igpt_keras.IGPT.from_preset(tmp_path / name / "preset").get_weights()
        for name in ("whole", "stopped")
    )
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    history = json.loads((tmp_path / "stopped" / "progress.json").read_text())
    assert [p["step"] for p in history["probes"]] == [1, 2, 3]


def test_a_finished_run_is_evaluated_again(finished, monkeypatch):
    path, first = finished
    with pytest.raises(ValueError, match="seed: 0 then, 1 here"):
        run(path, seed=1)
    monkeypatch.setattr(TensorFlowStep, "__call__", None)
    assert run(path) == first


def test_chosen_by_the_protocol_of_the_callback(finished):
    """On training images; validation and test choose nothing."""
    path, metrics = finished
    model = igpt_keras.IGPT.from_preset(path / "preset")
    tokenizer = igpt_keras.PaletteTokenizer.from_preset(path / "preset")
    sets = igpt_keras.data.TokenSets(tokenizer, batch_size=64)
    splits = igpt_keras.data.open_splits("digits", 4)
    train = sets.evaluation(splits["train"].stratified(128))
    test = sets.evaluation(splits["test"], 64)
    features = [
        igpt_keras.extract_features(model, examples.tokens)[0]
        for examples in (train, test)
    ]
    result = probes.probe_layers(
        features[0], train.labels, features[1], test.labels
    )
    assert metrics["chosen_layer"] == result.chosen_layer
    found = [row["test_accuracy"] for row in metrics["probe"]]
    np.testing.assert_allclose(found, result.test_accuracy)
    # The low-data probe is on that layer.
    low = igpt_keras.low_data_accuracy(
        features[0][result.chosen_layer],
        train.labels,
        features[1][result.chosen_layer],
        test.labels,
        labels_per_class=4,
        seed=0,
    )
    assert metrics["low_data"]["best_layer_mean"] == low[0]


@pytest.mark.parametrize("fold_validation", [False, True])
def test_each_split_is_opened_once(fold_validation, tmp_path, monkeypatch):
    opened = []
    source = open_split_module.Digits

    def count():
        opened.append(True)
        return source()

    count.default_resolution = source.default_resolution
    monkeypatch.setitem(open_split_module._DIGITS, "digits", count)
    run(tmp_path / "run", fold_validation=fold_validation, **ALONE)
    assert len(opened) == 3


def test_bert(tmp_path, drawn):
    metrics = run(tmp_path / "run", objective="bert")
    assert len(metrics["probe"]) == 3
    assert 0 < metrics["test_nats_per_token"] < np.log(4)
    assert not (tmp_path / "run" / "samples.png").exists()


def test_folder_without_classes(tmp_path, drawn):
    generator = np.random.default_rng(0)
    for i in range(40):
        image = generator.integers(0, 256, (9, 7, 3)).astype("uint8")
        (tmp_path / "mine").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "mine" / f"{i}.png")
    metrics = run(
        tmp_path / "run", dataset=f"folder:{tmp_path / 'mine'}", batch_size=8
    )
    assert metrics["probe"] == []
    assert (tmp_path / "run" / "samples.png").is_file()
    assert not (tmp_path / "run" / "probe_curve.png").exists()


def test_mixture(tmp_path, capsys):
    """Trained on both, in colours of both; evaluated and probed as digits."""
    (tmp_path / "mine").mkdir()
    for i in range(40):
        picture = Image.new("RGB", (9, 7), (255, 6 * i, 0))
        picture.save(tmp_path / "mine" / f"{i}.png")
    mine = f"folder:{tmp_path / 'mine'}"
    dataset = f"digits:0.5,{mine}:0.5"
    changes = {"dataset": dataset, "fold_validation": True}
    metrics = run(tmp_path / "run", **changes)
    assert 0 < metrics["test_nats_per_token"] < np.log(4)
    assert len(metrics["probe"]) == 3 and metrics["chance"] < 0.2
    assert metrics["images"]["validation"] == 143
    assert metrics["images"]["train"] > 1295
    palette = np.load(tmp_path / "run" / "palette.npy")
    assert (np.ptp(palette, axis=1) < 0.1).any()
    assert (np.ptp(palette, axis=1) > 1).any()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["dataset"] == dataset
    printed = capsys.readouterr().out
    assert f"  50 % {mine}, " in printed and "Probing digits with" in printed
    changes["dataset"] = f"digits:0.6,{mine}:0.4"
    with pytest.raises(ValueError, match="dataset: "):
        run(tmp_path / "run", **changes)
    changes["dataset"] = "tokens:x:0.5,digits:0.5"
    with pytest.raises(ValueError, match="mixes tokens"):
        run(tmp_path / "other", **changes)
    assert not (tmp_path / "other").exists()


def test_fewer_images_than_classes(tmp_path, capsys):
    metrics = run(tmp_path / "run", probe_images=8)
    assert metrics["probe"] == []
    printed = capsys.readouterr().out
    assert "Training without probes of digits. " in printed


def test_without_probes_and_pictures(tmp_path, capsys):
    metrics = run(tmp_path / "run", **ALONE)
    assert metrics["probe"] == []
    assert metrics["picture_seconds"] == metrics["probe_seconds"] == 0
    assert not events.read(tmp_path / "run" / "logs" / "pictures")
    printed = capsys.readouterr().out
    assert "Sampling pictures" not in printed
    assert "Training without probes of digits. " in printed


def test_probes_of_other_datasets(tmp_path):
    """A run without labels, followed by what others' pictures are."""
    generator = np.random.default_rng(0)
    for name, count in (("mine/0", 40), ("pair/dark", 30), ("pair/light", 30)):
        (tmp_path / name).mkdir(parents=True)
        low = 128 * (name == "pair/light")
        for i in range(count):
            image = generator.integers(low, low + 128, (4, 4, 3), "uint8")
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    metrics = run(
        tmp_path / "run",
        dataset=f"folder:{tmp_path / 'mine' / '0'}",
        probe_datasets=f"digits,folder:{tmp_path / 'pair'}",
        batch_size=20,
        steps=2,
        period=1,
        probe_every=1,
        probe_layers="0,2",
    )
    assert metrics["probe"] == []
    assert list(metrics["probes"]) == ["digits", "pair"]
    digits, pair = metrics["probes"].values()
    assert (digits["probe_images"], digits["test_images"]) == (128, 64)
    assert (pair["probe_images"], pair["test_images"]) == (44, 12)
    assert len(digits["probe"]) == 3
    # Their classes are their own: two, told apart by brightness.
    assert pair["chance"] == 0.5 and digits["chance"] < 0.2
    assert pair["raw_pixels_test_accuracy"] > 0.9
    progress = json.loads((tmp_path / "run" / "progress.json").read_text())
    probes = [(p["name"], p["step"], p["layers"]) for p in progress["probes"]]
    assert sorted(probes) == [
        (name, step, [0, 2]) for name in ("digits", "pair") for step in (1, 2)
    ]
    for name in ("digits", "pair"):
        tags = events.read(tmp_path / "run" / "logs" / f"probe_{name}")
        assert f"accuracy_probe_{name}/chosen" in tags
        curve = tmp_path / "run" / f"probe_curve_{name}.png"
        assert curve.stat().st_size > 10_000
    assert not (tmp_path / "run" / "probe_curve.png").exists()


def test_early_stopping_is_remembered(tmp_path, monkeypatch):
    settings = {"steps": 6, "patience": 1, "learning_rate": 0.0, **ALONE}
    run(tmp_path / "run", **settings)
    history = json.loads((tmp_path / "run" / "progress.json").read_text())
    assert len(history["epochs"]) == 2
    monkeypatch.setattr(TensorFlowStep, "__call__", None)
    run(tmp_path / "run", **settings)


def test_final_run_trains_on_validation_images_and_keeps_the_end(
    tmp_path, monkeypatch, capsys
):
    seen = []
    batches = igpt_keras.data.Split.batches

    def record(split, batch_size, training=False, *arguments, **others):
        dataset = batches(split, batch_size, training, *arguments, **others)
        if training:
            # 1,295 + 143 images: what an epoch of both holds.
            _, labels = next(iter(dataset.unbatch().batch(1438)))
            seen.append(np.bincount(labels.numpy()))
        return dataset

    monkeypatch.setattr(igpt_keras.data.Split, "batches", record)
    # A rate that makes the loss of the last step the worse.
    metrics = run(
        tmp_path / "run",
        fold_validation=True,
        learning_rate=5.0,
        steps=3,
        period=1,
        **ALONE,
    )
    assert "validation (trained on) " in capsys.readouterr().out
    assert metrics["steps"] == 3
    both = [
        np.bincount(igpt_keras.data.open_split("digits", split, 8).labels)
        for split in ("train", "validation")
    ]
    assert seen
    for found in seen:
        np.testing.assert_array_equal(found, sum(both))


def test_divergence_says_what_to_do(tmp_path):
    with pytest.raises(FloatingPointError, match="a lower learning rate"):
        run(tmp_path / "run", steps=12, period=12, learning_rate=1e30, **ALONE)


def test_dry_run_of_the_largest(tmp_path):
    result = recipe.command(
        "pretrain",
        "--dataset=digits",
        "--preset=igpt_xl",
        "--input_resolution=32",
        "--dry_run",
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    )
    assert result.returncode == 0, result.stderr
    assert "harmless; TF_CPP_MIN_LOG_LEVEL=3 hides them.\n" in result.stderr
    rows = dict(
        line.split(None, 1)
        for line in result.stdout.replace("FLOPs per step", "FLOPs").split("\n")
        if line.strip()
    )
    assert rows["parameters"] == "6,801,438,720"
    assert rows["batch_size"] == "64" and rows["learning_rate"] == "0.001"
    assert "tokens per step         65,536" in result.stdout
    images = "1,295 train, 143 validation, 359 test images of 10 classes\n"
    assert images in result.stdout
    assert "The fitted palette may have fewer colours." in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dataset": "cifar11"}, "Unknown dataset 'cifar11'"),
        ({"dataset": "folder:/nowhere"}, "No directory at /nowhere"),
        ({"steps": 5, "period": 2}, "period=2 does not divide steps=5"),
        ({"steps": 5, "warmup_steps": 5}, "leaves nothing of steps=5"),
        ({"period": 2, "pictures": 3}, "pictures=3 is no multiple of period=2"),
        ({"probe_datasets": "cifar11"}, "Unknown dataset 'cifar11'"),
        ({"probe_layers": "first"}, "expected layers, such as"),
        ({"palette": "none.npy"}, "No palette at 'none.npy'"),
        ({"fold_validation": True, "patience": 2}, "Leave out --patience"),
        ({"objective": "bert", "mask_rate": 0}, "hides no token"),
        ({"objective": "bert", "mask_rate": "nan"}, "hides no token"),
    ],
)
def test_refuses_settings_that_do_not_fit(changes, message):
    changes = {"warmup_steps": None, "run_dir": None, **changes}
    with pytest.raises((ValueError, flags.Error), match=message):
        recipe.run("pretrain", **{**FLAGS, **changes, "dry_run": True})


@pytest.mark.parametrize(
    "words, message",
    [
        (["--preset=igpt_nano", "--run_dir=file/run"], "cannot be written"),
        *(
            pytest.param(*case, marks=pytest.mark.large)
            for case in (
                (["--preset=igpt_huge"], "igpt_nano"),
                (["--preset=igpt_nano"], "--run_dir says where"),
            )
        ),
    ],
)
def test_bad_flags_end_in_one_line(words, message, tmp_path):
    (tmp_path / "file").write_text("")
    result = recipe.command(
        "pretrain", "--dataset=digits", *words, cwd=tmp_path
    )
    assert result.returncode == 1
    assert message in result.stderr + result.stdout
    assert "Traceback" not in result.stderr


def test_sigterm_stops_and_says_what_continues(tmp_path):
    words = [
        "--dataset=digits",
        "--preset=igpt_nano",
        "--vocabulary_size=4",
        "--input_resolution=4",
        "--num_layers=1",
        "--steps=400",
        "--period=1",
        "--batch_size=8",
        "--probe_images=0",
        "--evaluation_images=64",
        "--run_dir=run",
    ]
    program = recipe.program_of("pretrain", *words)
    process = forked.Process(program, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/checkpoints/step_0000000002").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command continues" in output + errors
    assert "Traceback" not in output + errors


def test_two_processes_in_one_directory_are_refused(tmp_path):
    """A lock is of an open file, here this process's own."""
    path = tmp_path / "run"
    with directory_lock(path / "checkpoints"):
        with pytest.raises(ValueError, match="Another process writes to"):
            run(path, **ALONE)
    assert not list((path / "checkpoints").glob("step_*"))
    run(path, **ALONE)


def test_starts_from_weights(finished, tmp_path, capsys):
    """With a new optimizer; goes on without them, and not from others."""
    path, first = finished
    source = tmp_path / "source"
    shutil.copytree(path / "preset", source)
    flags = {
        "init": f"keras:{source}",
        "preset": None,
        "input_resolution": None,
        "learning_rate": 1e-9,
    }
    metrics = run(tmp_path / "run", **flags)
    # After steps that move nothing these are the weights of the source.
    for key in ("validation_nats_per_token", "test_nats_per_token"):
        assert metrics[key] == pytest.approx(first[key], rel=1e-4)
    # And the untrained network is of its shape, and fresh.
    key = "untrained_test_accuracy"
    assert metrics[key] == pytest.approx(first[key], abs=0.01)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    weights = (source / "model.safetensors").read_bytes()
    assert config["init_sha256"] == hashlib.sha256(weights).hexdigest()
    assert config["preset"] == "igpt_nano" and config["input_resolution"] == 4
    one, two = (
        igpt_keras.open_weights(p)[1].fingerprint
        for p in (source, tmp_path / "run")
    )
    assert one == two
    with pytest.raises(ValueError, match="init: 'keras:.* then, None here"):
        run(tmp_path / "run", **{**flags, "init": None, "preset": "igpt_nano"})
    moved = igpt_keras.IGPT.from_preset(path / "preset")
    moved.head.kernel.assign(moved.head.kernel + 1)
    moved.save_to_preset(source, tokenizer=igpt_keras.open_weights(source)[1])
    with pytest.raises(ValueError, match="init_sha256: '"):
        run(tmp_path / "run", **flags)
    shutil.rmtree(source)
    assert run(tmp_path / "run", **flags) == metrics


def test_best_weights_open_while_a_run_goes_on(tmp_path, monkeypatch):
    """Those of the best validation so far, with the tokenizer."""
    path = tmp_path / "run"
    with recipe.stopped_at(2, monkeypatch):
        with pytest.raises(KeyboardInterrupt):
            run(path, **ALONE, steps=3, period=1)
    assert not (path / "metrics.json").exists()
    model, tokenizer = igpt_keras.open_weights(path)
    assert tokenizer.vocabulary_size == 4
    with np.load(path / "checkpoints" / "best" / "state.npz") as file:
        arrays = [file[k] for k in sorted(file.files) if "model_" in k]
    for one, two in zip(model.get_weights(), arrays, strict=True):
        np.testing.assert_array_equal(one, two)
