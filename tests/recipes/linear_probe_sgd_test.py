import shutil

import numpy as np
import pytest
import recipe
import tiny

pytest.importorskip("tensorflow")

import igpt_keras  # noqa: E402
from igpt_keras import data  # noqa: E402
from igpt_keras import evaluation  # noqa: E402
from igpt_keras import probes  # noqa: E402
from igpt_keras import training  # noqa: E402

FLAGS = {
    "dataset": "digits",
    "layers": "0,2",
    "learning_rates": "3,0.1",
    "steps": 40,
    "period": 20,
    "batch_size": 32,
    "evaluation_images": 90,
    "seed": 3,
}


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return tiny.save_preset(tmp_path_factory.mktemp("model") / "preset")


@pytest.fixture(scope="module")
def probed(preset, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    metrics = recipe.run("linear_probe_sgd", model=preset, **FLAGS, run_dir=run)
    return run, metrics


def test_is_a_grid_trained_on_the_same_batches(preset, probed):
    """As the class gives it; rate and layer are chosen on validation."""
    _, metrics = probed
    model, tokenizer = igpt_keras.open_weights(preset)
    sets = data.TokenSets(tokenizer, 32, seed=3)
    grid = probes.ProbeGrid(model, 10, [0, 2], [3, 0.1])
    grid.compile(40)
    train = sets.training(data.open_split("digits", "train", 4), labels=True)
    grid.fit(train, steps_per_epoch=40, verbose=0)
    found = {}
    for split in ("validation", "test"):
        examples = sets.evaluation(data.open_split("digits", split, 4), 90)
        grid.evaluate(examples.probe_inputs, verbose=0)
        found[split] = grid.accuracies
    on_validation, on_test = found["validation"], found["test"]
    for place, row in enumerate(metrics["probe"]):
        by_rate = on_validation[:, place]
        np.testing.assert_allclose(row["validation_by_rate"], by_rate)
        best = by_rate.argmax()
        assert row["learning_rate"] == [3, 0.1][best]
        np.testing.assert_allclose(row["test_accuracy"], on_test[best, place])
    # As they were given, and not rounded.
    assert metrics["learning_rates"] == [3, 0.1]
    place = on_validation.max(axis=0).argmax()
    assert metrics["chosen_layer"] == [0, 2][place]
    assert metrics["test_accuracy"] == metrics["probe"][place]["test_accuracy"]
    assert metrics["feature_bytes"] == 4 * 1295 * 2 * 15
    assert metrics["peak_memory_bytes"] > 2**27


def test_bert_is_scored_under_several_masks(tmp_path, capsys):
    """By the modal prediction, and of test; the paper's section 4.6."""
    preset = tiny.save_preset(tmp_path / "preset", "bert")
    given = {**FLAGS, "period": 40, "layers": "1,3", "learning_rates": "3"}
    given |= {"mask_rate": 0.3, "num_masks": 3}
    metrics = recipe.run(
        "linear_probe_sgd", model=preset, **given, run_dir=tmp_path / "run"
    )
    model, tokenizer = igpt_keras.open_weights(preset)
    sets = data.TokenSets(tokenizer, 32, "bert", mask_rate=0.3, seed=3)
    grid = probes.ProbeGrid(model, 10, [1, 3], [3])
    grid.compile(40)
    train = sets.training(data.open_split("digits", "train", 4), labels=True)
    grid.fit(train, steps_per_epoch=40, verbose=0)
    test = sets.evaluation(data.open_split("digits", "test", 4), 90)
    place = [1, 3].index(metrics["chosen_layer"])

    def predict(dataset):
        inputs = [x for x, _ in dataset.as_numpy_iterator()]
        logits = [tiny.array(grid(x)) for x in inputs]
        return np.concatenate(logits)[:, 0, place].argmax(axis=-1)

    assert metrics["test_masks"] == evaluation.mask_ensemble(
        [predict(test.masked(k)) for k in range(3)],
        predict(test.tokens),
        test.labels,
        seed=3,
    )
    assert metrics["test_masks"]["one_mask_deviation"] > 0
    out = capsys.readouterr().out
    assert "BERT on test: one mask" in out
    # There was one.
    assert "best learning rate is the lowest that was tried" in out


def test_stopped_and_continued_ends_the_same(preset, probed, tmp_path):
    run, metrics = probed
    again = tmp_path / "again"
    shutil.copytree(run, again)
    shutil.rmtree(sorted((again / "checkpoints").glob("step_*"))[1])
    found = recipe.run("linear_probe_sgd", model=preset, **FLAGS, run_dir=again)
    assert found["probe"] == metrics["probe"]


@pytest.mark.large
def test_joined_layers(preset, tmp_path, capsys):
    flags = {**FLAGS, "steps": 4, "period": 4, "concat": True}
    metrics = recipe.run(
        "linear_probe_sgd", model=preset, **flags, run_dir=tmp_path / "run"
    )
    (row,) = metrics["probe"]
    assert row["layer"] is None and metrics["layers"] == [0, 2]
    assert "2 layers joined" in capsys.readouterr().out


def test_refuses_several_workers(preset, tmp_path, monkeypatch):
    class Devices(training.Devices):
        def __init__(self):
            self.num_workers = 2

    monkeypatch.setattr(training, "Devices", Devices)
    with pytest.raises(ValueError, match="TF_CONFIG names 2 workers"):
        recipe.run(
            "linear_probe_sgd", model=preset, **FLAGS, run_dir=tmp_path / "run"
        )


def test_refuses_layers_that_there_are_not(preset, tmp_path):
    flags = {**FLAGS, "layers": "7"}
    with pytest.raises(ValueError, match="layers must be of 0 to 3"):
        recipe.run(
            "linear_probe_sgd", model=preset, **flags, run_dir=tmp_path / "run"
        )


def test_refuses_features_that_are_not_finite(tmp_path):
    model = tiny.model()
    # Finite, as what is saved must be, but their products are not.
    kernel = model.get_layer("block_1").attention.query.kernel
    kernel.assign(np.full(kernel.shape, 3e38))
    preset = tmp_path / "preset"
    model.save_to_preset(preset, tokenizer=tiny.grey_palette())
    with pytest.raises(ValueError, match="layer 2: features are not finite"):
        recipe.run(
            "linear_probe_sgd", model=preset, **FLAGS, run_dir=tmp_path / "run"
        )
