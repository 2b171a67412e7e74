import dataclasses
import inspect
import json
import pathlib
import signal
import time
from unittest.mock import Mock

import events
import forked
import numpy as np
import pytest
import recipe
from pretrain_test import FLAGS as PRETRAIN
from tiny import array

import igpt_keras
from igpt_keras import evaluation
from igpt_keras import training
from igpt_keras.training.tensorflow_step import TensorFlowStep

pytest.importorskip("tensorflow")

FLAGS = {
    "dataset": "digits",
    "input_resolution": 8,
    "model_resolution": 4,
    "vocabulary_size": 32,
    "learning_rate": 3e-3,
    "steps": 4,
    "batch_size": 32,
    "period": 2,
    "evaluation_images": 24,
}


def run(run_dir, **changes):
    return recipe.run(
        "train_vq_vae", **{**FLAGS, **changes, "run_dir": run_dir}
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that is over, and its metrics."""
    path = tmp_path_factory.mktemp("finished") / "run"
    return path, run(path)


@pytest.mark.large
def test_side_by_side(tmp_path, capsys):
    names = ["ema", "ema_without_revival", "fsq"]
    metrics = run(
        tmp_path / "run",
        quantizers=names,
        vocabulary_size=4096,
        steps=8,
        period=8,
    )
    assert [row["quantizer"] for row in metrics["quantizers"]] == names
    for row in metrics["quantizers"]:
        assert row["bits_per_pixel"] == 16 / 64 * 12
        assert 0 < row["entropy_bits_per_pixel"] < row["bits_per_pixel"]
        assert 0 < row["psnr"] < 60 and -1 < row["ssim"] < 1
        assert row["active_codes"] == round(4096 * row["active_code_fraction"])
    assert metrics["quantizers"][0]["revived_codes"] > 0
    assert metrics["quantizers"][1]["revived_codes"] == 0
    run_dir = tmp_path / "run"
    for row in metrics["quantizers"]:
        card = run_dir / row["quantizer"] / "preset" / "README.md"
        assert f"| {row['psnr']:.2f} |" in card.read_text()
    assert json.loads((run_dir / "metrics.json").read_text()) == metrics
    assert (run_dir / "reconstructions.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "ema_without_revival" in printed and "perplexity" in printed
    assert f"vq_vae:{run_dir / 'ema' / 'preset'}" in printed

    log = events.read_runs(run_dir / "logs" / "ema")
    expected = {"originals_and_reconstructions", "code_usage", "revived_codes"}
    assert expected <= log["codebook"].keys()
    for part in ("train", "validation"):
        for name in ("reconstruction_error", "perplexity", "active_codes"):
            assert f"epoch_{name}" in log[part]


def test_measures_are_of_the_pictures(tmp_path):
    run(tmp_path / "run")
    vq_vae = igpt_keras.VQVAE.from_preset(tmp_path / "run" / "ema" / "preset")
    images = igpt_keras.data.load_examples("digits", "test", 8).images[:24]
    measured = evaluation.reconstruction_quality(vq_vae, [images])
    reconstructions = array(vq_vae.decode(vq_vae.encode(images)))
    error = np.square(reconstructions.astype("float64") - images)
    psnr = 10 * np.log10(255**2 / error.mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(measured["psnr"], psnr.mean(), rtol=1e-5)
    saved = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert saved["quantizers"][0]["psnr"] == pytest.approx(measured["psnr"])


def test_stopped_and_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    run(tmp_path / "whole")
    with recipe.stopped_at(3, monkeypatch):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts")
    run(tmp_path / "parts")
    checkpoints = [
        np.load(tmp_path / name / "ema/checkpoints/step_0000000004/state.npz")
        for name in ("whole", "parts")
    ]
    for key in checkpoints[0].files:
        np.testing.assert_array_equal(*(c[key] for c in checkpoints))


@pytest.mark.large
@pytest.mark.compiled
def test_learns(tmp_path):
    losses = {}
    for loss in ("l2", "l1"):
        run(tmp_path / loss, loss=loss, steps=60, period=30)
        path = tmp_path / loss / "logs" / "ema" / "validation"
        curve = events.read(path)["epoch_reconstruction_error"]
        losses[loss] = [value for _, value in curve]
    for curve in losses.values():
        assert curve[-1] < 0.5


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("vq_vae")
    run(directory / "run", steps=12, period=12)
    return directory / "run" / "ema" / "preset"


def pretrain(run_dir, **changes):
    values = {
        **PRETRAIN,
        "input_resolution": None,
        "batch_size": 32,
        "evaluation_images": 32,
        "probe_images": 0,
        "pictures": 0,
        "run_dir": run_dir,
    }
    return recipe.run("pretrain", **{**values, **changes})


@pytest.fixture
def two_layers(monkeypatch):
    size = {**igpt_keras.presets.IGPT["igpt_nano"], "num_layers": 2}
    monkeypatch.setitem(igpt_keras.presets.IGPT, "igpt_nano", size)


def test_pretrains_on_codes_and_on_their_cache(
    preset, tmp_path, two_layers, monkeypatch
):
    tokenizer = f"vq_vae:{preset}"
    # Pictures take longer than the rest of it.
    monkeypatch.setattr(igpt_keras.reports, "draw_samples", Mock())
    metrics = pretrain(tmp_path / "images", tokenizer=tokenizer)
    model, opened = igpt_keras.open_weights(tmp_path / "images" / "preset")
    assert isinstance(opened, igpt_keras.VQVAETokenizer)
    assert (model.sequence_length, model.vocabulary_size) == (16, 32)
    # The run has its own copy, which outlives the original.
    moved = preset.rename(preset.with_name("moved"))
    with monkeypatch.context() as patch:
        patch.setattr(TensorFlowStep, "__call__", None)
        pretrain(tmp_path / "images", tokenizer=tokenizer)
    moved.rename(preset)

    images = igpt_keras.data.load_examples("digits", "test", 8).images[:32]
    token_ids = array(opened(images))
    counts = np.bincount(token_ids.ravel())
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * np.log(share)).sum()
    assert metrics["test_unigram_nats_per_token"] == pytest.approx(entropy)
    assert 0 < entropy < np.log(32) < metrics["test_nats_per_token"] * 1.2

    recipe.run(
        "tokenize_dataset",
        dataset="digits",
        tokenizer=tokenizer,
        output=tmp_path / "cache",
    )
    cache = f"tokens:{tmp_path / 'cache'}"
    cached = pretrain(tmp_path / "cached", dataset=cache)
    for key in ("test_nats_per_token", "test_unigram_nats_per_token"):
        assert cached[key] == pytest.approx(metrics[key], rel=0.2)

    recipe.run(
        "evaluate",
        model=tmp_path / "images" / "preset",
        dataset="digits",
        images=32,
        output=tmp_path / "evaluation.json",
    )
    found = json.loads((tmp_path / "evaluation.json").read_text())["all_images"]
    assert found["nats_per_token"] == pytest.approx(
        metrics["test_nats_per_token"], rel=1e-4
    )
    assert "palette_bits_per_dimension" not in found
    # A cache of another VQ-VAE's codes is refused.
    other = tmp_path / "other" / "ema" / "preset"
    run(tmp_path / "other", seed=1, steps=2)
    with pytest.raises(ValueError, match="made with another tokenizer"):
        pretrain(tmp_path / "wrong", dataset=cache, tokenizer=f"vq_vae:{other}")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tokenizer": "vq_vae:nowhere"}, "No VQ-VAE at nowhere"),
        ({"tokenizer": "bpe:nowhere"}, "--tokenizer=bpe:nowhere is unknown"),
        ({"tokenizer": "vq_vae:", "palette": "p.npy"}, "Pass one of them"),
        ({"input_resolution": 12}, "is for images of 8x8"),
    ],
)
def test_pretraining_refuses_tokenizers_that_do_not_fit(
    preset, changes, message, tmp_path
):
    changes = {"tokenizer": f"vq_vae:{preset}", **changes}
    with pytest.raises(ValueError, match=message):
        pretrain(tmp_path / "run", **changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dataset": "npy:tokens"}, "holds tokens already, and images"),
        ({"input_resolution": 10}, "is not 2, 4, 8"),
        ({"steps": 5}, "period=2 does not divide steps=5"),
        ({"quantizers": ["fsq"]}, "The quantizer has 4096 codes"),
        ({"dataset": "cifar11"}, "Unknown dataset 'cifar11'"),
    ],
)
def test_refuses_settings_that_do_not_fit(
    changes, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for split in ("trX", "vaX", "teX"):
        np.save(tmp_path / f"tokens_{split}.npy", np.zeros((3, 16), int))
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", **changes)


@pytest.mark.compiled
def test_divergence_says_what_to_do(tmp_path):
    with pytest.raises(FloatingPointError, match="a lower learning rate"):
        run(tmp_path / "run", learning_rate=1e30, steps=12, period=12)


def test_other_settings_are_refused(finished):
    with pytest.raises(ValueError, match="loss: 'l2' then, 'l1' here"):
        run(finished[0], loss="l1")


def test_a_finished_run_is_measured_again(finished):
    """Which opens its checkpoint."""
    path, first = finished
    again = run(path)
    assert again["quantizers"][0]["psnr"] == first["quantizers"][0]["psnr"]


@pytest.mark.large
def test_a_finished_run_of_replicas_is_measured_again(tmp_path):
    first = run(tmp_path / "run", strategy="mirrored")
    again = run(tmp_path / "run", strategy="mirrored")
    assert again["quantizers"][0]["psnr"] == first["quantizers"][0]["psnr"]


def test_a_changed_dataset_is_refused(finished, monkeypatch):
    opened = igpt_keras.data.open_splits

    def changed(*arguments, **others):
        splits = opened(*arguments, **others)
        train = dataclasses.replace(splits["train"], fingerprint="other")
        return {**splits, "train": train}

    # `program.call` reads the names of its parameters.
    changed.__signature__ = inspect.signature(opened)
    monkeypatch.setattr(igpt_keras.data, "open_splits", changed)
    with pytest.raises(ValueError, match="a run on other training images"):
        run(finished[0])


@pytest.mark.large
def test_sigterm_stops_and_says_what_continues(tmp_path):
    command = recipe.program_of("train_vq_vae")
    command += ["--dataset=digits", "--input_resolution=8"]
    command += ["--model_resolution=4", "--vocabulary_size=32", "--steps=4000"]
    command += ["--period=20", "--batch_size=8", "--evaluation_images=8"]
    command += [f"--run_dir={tmp_path / 'run'}"]
    process = forked.Process(command)
    checkpoints = tmp_path / "run" / "ema" / "checkpoints"
    deadline = time.monotonic() + 120
    while not any(checkpoints.glob("step_*")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 130, errors[-3000:]
    assert "The same command continues" in errors
    assert not pathlib.Path(tmp_path / "run" / "metrics.json").exists()


def test_refuses_several_quantizers_on_several_workers(tmp_path, monkeypatch):
    """Only the first worker goes on after the first of them."""

    class Devices(training.Devices):
        def __init__(self):
            self.num_workers = 2

    monkeypatch.setattr(training, "Devices", Devices)
    with pytest.raises(ValueError, match="--quantizers train on one machine"):
        run(tmp_path / "run", quantizers=["ema", "fsq"], vocabulary_size=4096)
