import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

pytest.importorskip("tensorflow")

import pretraining  # noqa: E402
import pretraining_data  # noqa: E402

import igpt_keras  # noqa: E402

FLAGS = {
    "dataset": "digits",
    "data_dir": None,
    "skip_bad_images": False,
    "input_resolution": 4,
    "preset": "igpt_nano",
    "objective": "autoregressive",
    "mask_rate": 0.15,
    "vocabulary_size": 4,
    "palette": None,
    "tokenizer": None,
    "steps": 2,
    "batch_size": 64,
    "learning_rate": None,
    "warmup_steps": 1,
    "beta_1": 0.9,
    "beta_2": 0.95,
    "dtype": "float32",
    "period": 1,
    "patience": None,
    "fold_validation": False,
    "probe_images": 128,
    "evaluation_images": 64,
    "seed": 0,
    "strategy": "none",
}


@pytest.fixture(autouse=True)
def two_layers(monkeypatch):
    size = {**igpt_keras.presets.IGPT["igpt_nano"], "num_layers": 2}
    monkeypatch.setitem(igpt_keras.presets.IGPT, "igpt_nano", size)


def run(run_dir, **flags):
    values = {**FLAGS, **flags, "run_dir": str(run_dir)}
    return pretraining.run(pretraining.resolve(values))


def test_two_steps_leave_everything(tmp_path, capsys):
    metrics = run(tmp_path / "run")
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
    output = capsys.readouterr().out
    assert "parameters" in output and "FLOPs per step" in output
    assert "raw pixels" in output and str(run_dir) in output

    tags = read_tags(run_dir / "logs")
    assert "epoch_loss" in tags["train"] & tags["validation"]
    assert "epoch_learning_rate" in tags["train"]
    assert "accuracy_probe_validation/layer_00" in tags["probe_validation"]
    assert {"samples", "completions"} <= tags["pictures"]


def read_tags(logs):
    from tensorboard.backend.event_processing import event_accumulator

    tags = {}
    for run_dir in logs.iterdir():
        events = event_accumulator.EventAccumulator(str(run_dir))
        events.Reload()
        tags[run_dir.name] = set(events.Tags()["tensors"])
    return tags


def test_stopped_and_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", steps=4)

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.optimizer.iterations.numpy() == 3:
                raise KeyboardInterrupt

    fit = igpt_keras.IGPT.fit

    def interrupted(self, *arguments, callbacks, **options):
        return fit(
            self, *arguments, callbacks=[Interrupt(), *callbacks], **options
        )

    with monkeypatch.context() as patch:
        patch.setattr(igpt_keras.IGPT, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", steps=4)
    resumed = run(tmp_path / "stopped", steps=4)
    for key in whole:
        if key != "train_seconds":
            assert resumed[key] == whole[key], key
    one, two = (
        igpt_keras.IGPT.from_preset(tmp_path / name / "preset").get_weights()
        for name in ("whole", "stopped")
    )
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    history = json.loads((tmp_path / "stopped" / "progress.json").read_text())
    assert [p["step"] for p in history["probes"]] == [1, 2, 3, 4]


def test_a_finished_run_is_evaluated_again(tmp_path, monkeypatch):
    first = run(tmp_path / "run")
    with pytest.raises(ValueError, match="seed: 0 then, 1 here"):
        run(tmp_path / "run", seed=1)
    monkeypatch.setattr(igpt_keras.IGPT, "fit", None)
    assert run(tmp_path / "run") == first


def test_bert(tmp_path):
    metrics = run(tmp_path / "run", objective="bert")
    assert len(metrics["probe"]) == 3
    assert 0 < metrics["test_nats_per_token"] < np.log(4)
    assert not (tmp_path / "run" / "samples.png").exists()


def test_folder_without_classes(tmp_path):
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


def test_fewer_images_than_classes(tmp_path, capsys):
    metrics = run(tmp_path / "run", probe_images=8)
    assert metrics["probe"] == []
    printed = capsys.readouterr().out
    assert "8 probe images of 10 classes are too few" in printed


def test_early_stopping_is_remembered(tmp_path, monkeypatch):
    settings = {"steps": 6, "patience": 1, "learning_rate": 0.0}
    run(tmp_path / "run", **settings)
    history = json.loads((tmp_path / "run" / "progress.json").read_text())
    assert len(history["probes"]) == 2
    monkeypatch.setattr(igpt_keras.IGPT, "fit", None)
    run(tmp_path / "run", **settings)


def test_final_run_trains_on_validation_images_and_keeps_the_end(
    tmp_path, monkeypatch
):
    seen = []
    image_dataset = igpt_keras.data.image_dataset

    def record(name, split, *arguments, **others):
        dataset = image_dataset(name, split, *arguments, **others)
        if others.get("training"):
            # 1,295 + 143 images: what an epoch of both holds.
            _, labels = next(iter(dataset.unbatch().batch(1438)))
            seen.append(np.bincount(labels.numpy()))
        return dataset

    monkeypatch.setattr(igpt_keras.data, "image_dataset", record)
    # A rate that makes the loss of the last step the worse.
    metrics = run(
        tmp_path / "run", fold_validation=True, learning_rate=5.0, steps=3
    )
    assert metrics["steps"] == 3
    both = [
        np.bincount(igpt_keras.data.open_split("digits", split, 8).labels)
        for split in ("train", "validation")
    ]
    np.testing.assert_array_equal(seen, [sum(both)])


def test_divergence_says_what_to_do(tmp_path):
    with pytest.raises(FloatingPointError, match="a lower --learning_rate"):
        run(tmp_path / "run", steps=12, period=12, learning_rate=1e30)


@pytest.mark.parametrize(
    "steps, period", [(100, 20), (300, 50), (37, 37), (1000, 125), (7, 1)]
)
def test_default_period_divides_the_steps(steps, period):
    flags = {**FLAGS, "steps": steps, "period": None, "run_dir": None}
    assert pretraining.resolve(flags).period == period


def test_limits_are_exact(tmp_path):
    settings = pretraining.resolve({**FLAGS, "run_dir": None})
    tokenizer = igpt_keras.PaletteTokenizer([[-1.0, -1, -1], [1.0, 1, 1]])
    examples = pretraining_data.evaluation_set(
        settings, tokenizer, "train", 100
    )
    assert len(examples.images) == len(examples.labels) == 100


def test_learning_rate_warms_up_and_decays_to_zero():
    settings = pretraining.resolve(
        {
            **FLAGS,
            "run_dir": None,
            "steps": 110,
            "period": 10,
            "warmup_steps": 10,
            "learning_rate": 0.5,
        }
    )
    optimizer = pretraining._optimizer(settings)
    rates = [
        float(optimizer._learning_rate(step)) for step in (0, 5, 10, 60, 110)
    ]
    np.testing.assert_allclose(rates, [0, 0.25, 0.5, 0.25, 0], atol=1e-6)
    config = optimizer.get_config()
    assert (config["beta_1"], config["beta_2"]) == (0.9, 0.95)
    assert config["epsilon"] == 1e-8
    assert not config["weight_decay"] and not config["use_ema"]
    for clip in ("clipnorm", "clipvalue", "global_clipnorm"):
        assert config[clip] is None


def test_paper_defaults():
    for name, objective, rate in (
        ("igpt_s", "autoregressive", 0.003),
        ("igpt_s", "bert", 0.01),
        ("igpt_m", "bert", 0.003),
        ("igpt_l", "autoregressive", 0.001),
    ):
        settings = pretraining.resolve(
            {
                **dict.fromkeys(FLAGS),
                **{
                    "preset": name,
                    "objective": objective,
                    "dataset": "digits",
                    "run_dir": None,
                },
            }
        )
        assert settings.learning_rate == rate
        assert settings.batch_size == 128 and settings.steps == 1_000_000


def command(*flags, **options):
    return subprocess.run(
        [sys.executable, ROOT / "recipes" / "pretrain.py", *flags],
        capture_output=True,
        text=True,
        **options,
    )


def test_dry_run_of_the_largest(tmp_path):
    result = command(
        "--dataset=digits",
        "--preset=igpt_xl",
        "--input_resolution=32",
        "--dry_run",
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    rows = dict(
        line.split(None, 1)
        for line in result.stdout.replace("FLOPs per step", "FLOPs").split("\n")
        if line.strip()
    )
    assert rows["parameters"] == "6,801,438,720"
    assert rows["batch_size"] == "64" and rows["learning_rate"] == "0.001"
    assert "tokens per step         65,536" in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"dataset": "cifar11"}, "Unknown dataset 'cifar11'"),
        ({"dataset": "folder:/nowhere"}, "No directory at /nowhere"),
        ({"steps": 5, "period": 2}, "period=2 does not divide steps=5"),
        ({"steps": 5, "warmup_steps": 5}, "leaves nothing of steps=5"),
        ({"palette": "none.npy"}, "No palette at 'none.npy'"),
        ({"fold_validation": True, "patience": 2}, "Leave out --patience"),
    ],
)
def test_refuses_settings_that_do_not_fit(flags, message):
    flags = {"warmup_steps": None, **flags}
    with pytest.raises(ValueError, match=message):
        pretraining.resolve({**FLAGS, "run_dir": None, **flags})


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--preset=igpt_huge"], "igpt_nano"),
        (["--preset=igpt_nano"], "--run_dir says where"),
        (["--preset=igpt_nano", "--run_dir=file/run"], "cannot be written"),
    ],
)
def test_bad_flags_end_in_one_line(flags, message, tmp_path):
    (tmp_path / "file").write_text("")
    result = command("--dataset=digits", *flags, cwd=tmp_path)
    assert result.returncode == 1
    assert message in result.stderr + result.stdout
    assert "Traceback" not in result.stderr


def test_sigterm_stops_and_says_what_continues(tmp_path):
    flags = [
        "--dataset=digits",
        "--preset=igpt_nano",
        "--vocabulary_size=4",
        "--input_resolution=4",
        "--steps=400",
        "--period=1",
        "--batch_size=8",
        "--probe_images=64",
        "--evaluation_images=64",
        "--run_dir=run",
    ]
    program = [sys.executable, str(ROOT / "recipes" / "pretrain.py"), *flags]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            program, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 120
        while not (tmp_path / "run/checkpoints/epoch_00000002.npz").exists():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    text = (tmp_path / "log").read_text()
    assert "The same command continues" in text
    assert "Traceback" not in text
