import json
import shutil

import numpy as np
import pytest
import recipe
import tiny
from absl import flags
from PIL import Image

pytest.importorskip("tensorflow")

import igpt_keras  # noqa: E402
from igpt_keras import data  # noqa: E402
from igpt_keras import probes  # noqa: E402

FLAGS = {
    "dataset": "digits",
    "steps": 12,
    "period": 6,
    "batch_size": 32,
    "evaluation_images": 60,
    "learning_rate": 3e-3,
}

HEAD_LAYER = 2


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return tiny.save_preset(tmp_path_factory.mktemp("model") / "preset")


@pytest.fixture(scope="module")
def finetuned(preset, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "finetuned"
    flags = {**FLAGS, "head_layer": HEAD_LAYER}
    metrics = recipe.run("finetune", model=preset, **flags, run_dir=run)
    return run, metrics


def weights(directory):
    model = igpt_keras.IGPTClassifier.from_preset(directory / "preset")
    return [tiny.array(v) for v in model.weights]


def test_leaves_what_it_says(finetuned, capsys):
    run, metrics = finetuned
    assert [point["step"] for point in metrics["curve"]] == [6, 12]
    images = metrics["images"]
    epochs = [point["epochs"] for point in metrics["curve"]]
    np.testing.assert_allclose(
        epochs, [n * 32 / images["train"] for n in (6, 12)]
    )
    best = max(point["validation_accuracy"] for point in metrics["curve"])
    np.testing.assert_allclose(metrics["validation_accuracy"], best)
    assert metrics["test_masks"] is None and metrics["num_classes"] == 10
    for name in ("accuracy.png", "logs", "config.json"):
        assert (run / name).exists()
    with Image.open(run / "accuracy.png") as picture:
        assert picture.width > 500
    card = (run / "preset" / "README.md").read_text()
    accuracy, test = metrics["validation_accuracy"], metrics["test_accuracy"]
    assert f"| accuracy | {accuracy:.1%} | {test:.1%} |" in card


def test_other_images_than_the_model_was_trained_on(preset, tmp_path, capsys):
    given = {**FLAGS, "steps": 6, "input_resolution": 6}
    with pytest.raises(ValueError, match="--interpolate_positions to resize"):
        recipe.run("finetune", model=preset, **given, run_dir=tmp_path / "no")
    recipe.run(
        "finetune",
        model=preset,
        **given,
        interpolate_positions=True,
        run_dir=tmp_path,
    )
    found = igpt_keras.IGPTClassifier.from_preset(tmp_path / "preset")
    assert found.igpt.sequence_length == 36


def test_evaluate_scores_it(finetuned, tmp_path, capsys):
    run, metrics = finetuned
    recipe.run(
        "evaluate",
        model=run / "preset",
        dataset="digits",
        images=60,
        output=tmp_path / "scores.json",
    )
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["classes"]["accuracy"] == metrics["test_accuracy"]
    found = scores["all_images"]["nats_per_token"]
    np.testing.assert_allclose(found, metrics["test_nats_per_token"], rtol=1e-5)
    assert "nats of the class" in capsys.readouterr().out


def test_stopped_and_continued_ends_the_same(finetuned, preset, tmp_path):
    """As of a process that was killed after its first period."""
    run, metrics = finetuned
    again = tmp_path / "again"
    shutil.copytree(run, again)
    first, second = sorted((again / "checkpoints").glob("step_*"))
    shutil.rmtree(second)
    shutil.rmtree(again / "checkpoints" / "best")
    shutil.copytree(first, again / "checkpoints" / "best")
    shutil.rmtree(again / "preset")
    flags = {**FLAGS, "head_layer": HEAD_LAYER}
    found = recipe.run("finetune", model=preset, **flags, run_dir=again)
    assert found["curve"] == metrics["curve"]
    for one, two in zip(weights(again), weights(run), strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match="other settings .learning_rate"):
        changed = {**flags, "learning_rate": 1e-3}
        recipe.run("finetune", model=preset, **changed, run_dir=again)


def test_from_scratch_beside_it(finetuned, preset, tmp_path, capsys):
    run, metrics = finetuned
    found = recipe.run(
        "finetune",
        model=preset,
        **{**FLAGS, "steps": 2, "period": 2},
        from_scratch=True,
        dropout=0.1,
        seed=1,
        beside=run,
        run_dir=tmp_path / "scratch",
    )
    assert "fresh weights on digits" in capsys.readouterr().out
    assert found["from_scratch"]
    model = igpt_keras.IGPTClassifier.from_preset(tmp_path / "scratch/preset")
    assert model.igpt.dropout == 0.1
    # Gains of the preset are spread around one; two steps move them little.
    gains = tiny.array(model.igpt.blocks[1].mlp_norm.scale)
    assert np.abs(gains - 1).max() < 0.02
    with pytest.raises(ValueError, match="no fine-tuning run that is over"):
        recipe.run(
            "finetune",
            model=preset,
            **FLAGS,
            beside=tmp_path,
            run_dir=tmp_path / "other",
        )


def test_bert_votes_under_masks(tmp_path, capsys):
    preset = tiny.save_preset(tmp_path / "bert", "bert")
    metrics = recipe.run(
        "finetune",
        model=preset,
        **FLAGS,
        num_masks=3,
        mask_rate=0.4,
        run_dir=tmp_path / "run",
    )
    assert metrics["test_masks"]["num_masks"] == 3
    assert "the class that most of these give" in capsys.readouterr().out
    with pytest.raises(ValueError, match="hides no token"):
        recipe.run(
            "finetune",
            model=preset,
            **FLAGS,
            mask_rate=0,
            run_dir=tmp_path / "none",
        )


def test_few_labels_are_the_probes_subset(preset, tmp_path, monkeypatch):
    split = data.open_split("digits", "train", 4)
    expected = probes.low_data.draw_balanced_subset(split.labels, 4, (5, 0))
    found = []
    training = data.TokenSets.training
    monkeypatch.setattr(
        data.TokenSets,
        "training",
        lambda self, split, *args, **kwargs: (
            found.append(split) or training(self, split, *args, **kwargs)
        ),
    )
    metrics = recipe.run(
        "finetune",
        model=preset,
        dataset="digits",
        labels_per_class=4,
        seed=5,
        steps=3,
        period=3,
        evaluation_images=60,
        run_dir=tmp_path / "run",
    )
    assert metrics["images"]["train"] == 40
    np.testing.assert_array_equal(found[0].labels, split.labels[expected])
    shown = next(iter(found[0].batches(40)))[0].numpy()
    images = next(iter(split.subset(expected).batches(40)))[0].numpy()
    np.testing.assert_array_equal(shown, images)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["batch_size"] == 40


def test_folded_validation_keeps_the_last_weights(preset, tmp_path, capsys):
    flags = {**FLAGS, "steps": 4, "period": 2, "fold_validation": True}
    run = tmp_path / "run"
    metrics = recipe.run("finetune", model=preset, **flags, run_dir=run)
    split = data.open_split("digits", "train", 4)
    assert metrics["steps"] == 4
    assert metrics["images"]["train"] == len(split.with_validation())
    assert " validation (trained on) " in capsys.readouterr().out
    last = np.load(run / "checkpoints" / "step_0000000004" / "state.npz")
    model = igpt_keras.IGPTClassifier.from_preset(run / "preset")
    np.testing.assert_array_equal(
        tiny.array(model.variables[0]), last["model_00000"]
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"fold_validation": True, "steps": None}, "needs --steps"),
        ({"fold_validation": True, "patience": 3}, "Leave out --patience"),
        ({"labels_per_class": 0}, "labels_per_class"),
    ],
)
def test_refuses_flags(changes, message):
    with pytest.raises(flags.Error, match=message):
        recipe.parse("finetune", model="x", **{**FLAGS, **changes})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"labels_per_class": 4000}, "fewer than labels_per_class=4000"),
        ({"labels_per_class": 4, "fold_validation": True}, "Leave one out"),
        ({"head_layer": 4}, "head_layer=4 is none of 0 to 3"),
    ],
)
def test_refuses_what_cannot_be(changes, message, preset, tmp_path):
    with pytest.raises(ValueError, match=message):
        recipe.run(
            "finetune",
            model=preset,
            **{**FLAGS, **changes},
            run_dir=tmp_path / "run",
        )


def write_pictures(directory, names):
    generator = np.random.default_rng(0)
    for name in names:
        (directory / name).mkdir(parents=True)
        for i in range(40):
            pixels = generator.integers(0, 256, (8, 8, 3)).astype("uint8")
            Image.fromarray(pixels).save(directory / name / f"{i}.png")
    return f"folder:{directory}"


def test_refuses_data_without_classes(preset, finetuned, tmp_path):
    run = tmp_path / "run"
    for names, message in (
        (["a"], "are of one class: there is nothing to tell apart"),
        (["a", "b"], "was fine-tuned on 10 classes, and the dataset has 2"),
    ):
        dataset = write_pictures(tmp_path / "-".join(names), names)
        model = preset if len(names) == 1 else finetuned[0] / "preset"
        with pytest.raises(ValueError, match=message):
            recipe.run("finetune", model=model, dataset=dataset, run_dir=run)
    dataset = write_pictures(tmp_path / "plain", [""])
    with pytest.raises(ValueError, match="has no labels for its train images"):
        recipe.run("finetune", model=preset, dataset=dataset, run_dir=run)


def test_goes_on_from_a_fine_tuned_model(finetuned, tmp_path):
    """With its class head, on the layer that it is on."""
    run, _ = finetuned
    flags = {**FLAGS, "steps": 1, "period": 1, "learning_rate": 1e-9}
    recipe.run(
        "finetune",
        model=run / "preset",
        **flags,
        dtype="mixed_float16",
        weight_decay=0.1,
        run_dir=tmp_path / "more",
    )
    for one, two in zip(weights(tmp_path / "more"), weights(run), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    opened = igpt_keras.IGPTClassifier.from_preset(tmp_path / "more/preset")
    assert opened.head_layer == HEAD_LAYER
    with pytest.raises(ValueError, match="reads layer 2, and --head_layer=1"):
        recipe.run(
            "finetune",
            model=run / "preset",
            **flags,
            head_layer=1,
            run_dir=tmp_path / "third",
        )
