import json

import numpy as np
import pytest
import recipe
import tiny
from absl import flags
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

pytest.importorskip("tensorflow")

import igpt_keras  # noqa: E402
from igpt_keras import data  # noqa: E402
from igpt_keras import evaluation  # noqa: E402
from igpt_keras import probes  # noqa: E402

SPLITS = ("train", "validation", "test")
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
# Most of the time is what a pass of the network takes, whatever is in it.
BATCH_SIZE = 1000


def linear_probe(**flags):
    return recipe.run("linear_probe", batch_size=BATCH_SIZE, **flags)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return tiny.save_preset(tmp_path_factory.mktemp("model") / "preset")


@pytest.fixture(scope="module")
def probed(preset, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("results") / "run"
    metrics = linear_probe(
        model=f"keras:{preset}",
        dataset="digits",
        concat=2,
        low_data="4,25",
        seed=3,
        run_dir=run_dir,
    )
    return run_dir, metrics


def features_of(preset, split):
    model, tokenizer = igpt_keras.open_weights(preset)
    sets = data.TokenSets(tokenizer, batch_size=BATCH_SIZE)
    examples = sets.evaluation(data.open_split("digits", split, 4))
    return igpt_keras.extract_features(model, examples.tokens)


def by_scikit_learn(parts):
    """C chosen on validation; accuracy on validation and test."""
    (x, y), *others = parts
    scaler = StandardScaler().fit(x)
    found = []
    for strength in STRENGTHS:
        probe = LogisticRegression(C=strength, max_iter=5000, tol=1e-6)
        probe.fit(scaler.transform(x), y)
        scores = [probe.score(scaler.transform(a), b) for a, b in others]
        found.append((*scores, strength))
    # Of equal ones the stronger regularisation.
    return max(found, key=lambda scores: (scores[0], -scores[-1]))


def test_is_the_optimum_of_scikit_learn(preset, probed):
    """Layer and strength by validation alone, to a tenth of a point."""
    _, metrics = probed
    parts = [features_of(preset, s) for s in ("train", "validation", "test")]
    rows = metrics["probe"]
    assert [row["layer"] for row in rows] == [0, 1, 2, 3]
    for layer, row in enumerate(rows):
        expected = by_scikit_learn([(f[layer], y) for f, y in parts])
        found = row["validation_accuracy"], row["test_accuracy"]
        np.testing.assert_allclose(found, expected[:2], atol=0.0011)
        assert row["regularization"] == expected[2]
        assert row["converged"] and row["gradient_norm"] <= 1e-4
    accuracies = [row["validation_accuracy"] for row in rows]
    chosen = metrics["chosen_layer"]
    assert chosen == int(np.argmax(accuracies))
    difference = rows[chosen]["test_accuracy"] - rows[-1]["test_accuracy"]
    assert metrics["last_layer_loss"] == pytest.approx(difference)
    # Two layers around it, shifted inwards at the end.
    first = min(max(chosen - 1, 0), 2)
    joined = [(np.concatenate(f[first : first + 2], -1), y) for f, y in parts]
    expected = by_scikit_learn(joined)
    wide = metrics["concatenated"]
    assert (wide["layers"], wide["features"]) == (2, 30)
    found = wide["validation_accuracy"], wide["test_accuracy"]
    np.testing.assert_allclose(found, expected[:2], atol=0.0011)


def test_few_labels_are_of_the_chosen_layer(preset, probed):
    """Table 4: five balanced subsets, their mean and deviation."""
    _, metrics = probed
    (features, y), (others, t) = (
        features_of(preset, split) for split in ("train", "test")
    )
    chosen = metrics["chosen_layer"]
    assert [few["labels_per_class"] for few in metrics["low_data"]] == [4, 25]
    for few in metrics["low_data"]:
        expected = igpt_keras.low_data_accuracy(
            features[chosen],
            y,
            others[chosen],
            t,
            labels_per_class=few["labels_per_class"],
            num_subsets=5,
            seed=3,
        )
        found = few["chosen_layer_accuracy"], few["chosen_layer_deviation"]
        np.testing.assert_allclose(found, expected)
        assert few["raw_pixels_accuracy"] > few["chosen_layer_accuracy"]
        assert 0 < few["raw_pixels_deviation"] < 0.1


def test_says_what_stands_beside(probed, capsys):
    run_dir, metrics = probed
    assert metrics["dataset"] == "digits"
    assert metrics["probe_images"] == 1295
    assert (metrics["validation_images"], metrics["test_images"]) == (143, 359)
    # Sixteen greys of a digit say much; a network that has not learned, less.
    raw = metrics["raw_pixels_test_accuracy"]
    assert metrics["chance"] < 0.15 < metrics["untrained_test_accuracy"] < raw
    assert json.loads((run_dir / "metrics.json").read_text()) == metrics
    with Image.open(run_dir / "probe_curve.png") as picture:
        assert min(picture.size) > 300
    text = igpt_keras.reports.linear_probe_summary(metrics, run_dir)
    assert "<- chosen on validation images" in text
    few = metrics["low_data"][1]
    error = f"{1 - few['chosen_layer_accuracy']:.1%}"
    assert "labels a class" in text and error in text
    assert "2 layers, 30 features" in text and "points below layer" in text
    assert "not converged" not in text
    metrics["probe"][1]["converged"] = False
    text = igpt_keras.reports.linear_probe_summary(metrics, run_dir)
    assert "not converged" in text
    metrics["probe"][1]["converged"] = True


def check_other_readings(metrics, preset):
    """Of the same images as the linear probes, with the layers' own numbers."""
    model, tokenizer = igpt_keras.open_weights(preset)
    sets = data.TokenSets(tokenizer, batch_size=BATCH_SIZE)
    splits = {s: data.open_split("digits", s, 4) for s in SPLITS}
    splits["train"] = splits["train"].stratified(200)
    for name in ("validation", "test"):
        splits[name] = splits[name].first(50)
    parts = [
        igpt_keras.extract_features(model, sets.evaluation(splits[s]).tokens)
        for s in SPLITS
    ]
    expected = probes.nearest_neighbors(
        *(a for x, y in parts for a in (x[[1, 3]], y)), neighbors=[1, 7]
    )
    near = metrics["neighbors"]
    assert [row["layer"] for row in near["layers"]] == [1, 3]
    for i, row in enumerate(near["layers"]):
        assert row["neighbors"] == expected.neighbors[i]
        for name in ("validation_accuracy", "test_accuracy"):
            found = getattr(expected, name)[i]
            assert row[name] == pytest.approx(found, abs=0.03)
    assert near["chosen_layer"] == (1, 3)[expected.chosen_layer]
    assert near["raw_pixels_test_accuracy"] > near["test_accuracy"]
    assert near["untrained_test_accuracy"] < near["raw_pixels_test_accuracy"]
    alignment = metrics["alignment"]
    assert alignment["layers"] == [1, 3] and alignment["images"] == 50
    of_validation = probes.centered_kernel_alignment([parts[1][0][[1, 3]]])
    np.testing.assert_allclose(alignment["alignment"], of_validation, rtol=1e-3)
    attentive = metrics["attentive"]
    assert [row["layer"] for row in attentive["probe"]] == [2, 3]
    best = max(attentive["probe"], key=lambda row: row["validation_accuracy"])
    assert attentive["test_accuracy"] == best["test_accuracy"]
    assert attentive["chosen_layer"] == best["layer"]
    for row in attentive["probe"]:
        assert row["validation_accuracy"] == max(row["validation_by_rate"])
    assert (attentive["epochs"], attentive["num_heads"]) == (1, 3)


def test_layers_and_images_that_are_asked_for(preset, tmp_path, capsys):
    metrics = linear_probe(
        model=preset,
        dataset="digits",
        layers="3,1",
        probe_images=200,
        evaluation_images=50,
        neighbors="1,7",
        attentive="2,3",
        attentive_epochs=1,
        alignment=True,
        run_dir=tmp_path / "run",
    )
    check_other_readings(metrics, preset)
    with Image.open(tmp_path / "run" / "alignment.png") as picture:
        assert min(picture.size) > 300
    text = capsys.readouterr().out
    head = next(line for line in text.splitlines() if "gradient" in line)
    assert head.endswith("k   k-NN test   attentive test")
    for name in ("neighbors", "attentive"):
        assert f"{metrics[name]['test_accuracy']:.1%} +-" in text
    assert "alignment.png" in text
    assert [row["layer"] for row in metrics["probe"]] == [1, 3]
    assert metrics["chosen_layer"] in (1, 3)
    assert metrics["concatenated"] is None
    assert metrics["probe_images"] == 200
    assert metrics["validation_images"] == metrics["test_images"] == 50


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"layers": "4"}, "layers must be of 0 to 3"),
        ({"layers": "last"}, "expected all, or layers such as"),
        ({"low_data": "400"}, "images, fewer than labels_per_class=400"),
        ({"low_data": "few"}, "expected labels a class"),
        ({"neighbors": "0"}, "expected numbers, such as"),
        ({"neighbors": "5,2000"}, "neighbors=2000 cannot vote"),
        ({"attentive": "4"}, "layers must be of 0 to 3"),
        ({"attentive": "all"}, "expected layers, such as"),
        (
            {"alignment": True, "evaluation_images": 1},
            "--alignment needs two validation images or more",
        ),
        ({"concat": 5}, "concat=5 layers cannot be joined"),
        ({"palette": "two"}, "has 2 tokens and the model a vocabulary of 11"),
        ({"dataset": "folder"}, "22 of 22 have no label"),
        ({"probe_images": 3}, "probe"),
        ({"model": "openai"}, "in the format 'keras', not 'openai'"),
    ],
)
def test_refuses(changes, message, preset, tmp_path):
    np.save(tmp_path / "two.npy", np.array([[-1.0] * 3, [1.0] * 3]))
    for i in range(30):
        path = tmp_path / "pictures" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (i, i, i)).save(path)
    values = {
        "two": str(tmp_path / "two.npy"),
        "folder": f"folder:{tmp_path / 'pictures'}",
        "openai": f"openai:{preset}",
    }
    changes = {key: values.get(value, value) for key, value in changes.items()}
    arguments = {"model": preset, "dataset": "digits", **changes}
    with pytest.raises((ValueError, flags.Error), match=message):
        linear_probe(**arguments, run_dir=tmp_path / "run")


def test_probes_outlast_other_readings_that_fail(preset, tmp_path, monkeypatch):
    def fails(*args):
        raise ValueError("as it should")

    monkeypatch.setattr(evaluation, "layer_alignment", fails)
    with pytest.raises(ValueError, match="as it should"):
        linear_probe(
            model=preset,
            dataset="digits",
            layers="1",
            probe_images=50,
            evaluation_images=20,
            alignment=True,
            run_dir=tmp_path / "run",
        )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [row["layer"] for row in metrics["probe"]] == [1]
    assert metrics["alignment"] is None


def test_bert_votes_under_masks(tmp_path, capsys):
    """What each of the masks gives, by features under it."""
    preset = tiny.save_preset(tmp_path / "preset", "bert")
    metrics = linear_probe(
        model=preset,
        dataset="digits",
        layers="1",
        num_masks=3,
        mask_rate=0.4,
        seed=2,
        run_dir=tmp_path / "run",
    )
    masks = metrics["test_masks"]
    assert masks["num_masks"] == 3
    assert "the class that most of these give" in capsys.readouterr().out
    model, tokenizer = igpt_keras.open_weights(preset)
    sets = data.TokenSets(tokenizer, BATCH_SIZE, "bert", mask_rate=0.4, seed=2)
    train, test = (
        sets.evaluation(data.open_split("digits", split, 4))
        for split in ("train", "test")
    )
    # Masks are of the rate, and of their own.
    hidden = [
        np.concatenate([x["mask"] for x, _ in test.masked(k)]) for k in (0, 1)
    ]
    for mask in hidden:
        assert abs(mask.mean() - 0.4) < 4 * np.sqrt(0.24 / mask.size)
    correlation = np.corrcoef(hidden[0].ravel(), hidden[1].ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(hidden[0].size)
    x, y = igpt_keras.extract_features(model, train.probe_inputs)
    scaler = StandardScaler().fit(x[1])
    strength = metrics["probe"][0]["regularization"]
    probe = LogisticRegression(C=strength, max_iter=5000, tol=1e-6)
    probe.fit(scaler.transform(x[1]), y)
    inputs = [test.tokens, *map(test.masked, range(3))]
    accuracies = []
    for dataset in inputs:
        x, y = igpt_keras.extract_features(model, dataset)
        accuracies.append(probe.score(scaler.transform(x[1]), y))
    np.testing.assert_allclose(
        masks["no_mask_accuracy"], accuracies[0], atol=0.006
    )
    np.testing.assert_allclose(
        masks["one_mask_accuracy"], np.mean(accuracies[1:]), atol=0.006
    )
    # The first of them is the one of the table.
    test_accuracy = metrics["probe"][0]["test_accuracy"]
    np.testing.assert_allclose(test_accuracy, accuracies[1], atol=0.006)


def test_features_on_disk_change_nothing(preset, probed, tmp_path):
    """And do not stay there."""
    run, metrics = probed
    found = linear_probe(
        model=f"keras:{preset}",
        dataset="digits",
        concat=2,
        low_data="4,25",
        seed=3,
        features_on_disk=True,
        run_dir=tmp_path / "run",
    )
    for key in ("probe", "untrained_test_accuracy"):
        if key == "probe":
            one, two = (
                [r["test_accuracy"] for r in m[key]] for m in (found, metrics)
            )
        else:
            one, two = found[key], metrics[key]
        # Batches of another size round otherwise.
        np.testing.assert_allclose(one, two, atol=0.006)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "metrics.json",
        "probe_curve.png",
    }
