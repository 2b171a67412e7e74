import copy
import csv
import json
import pickle

import keras
import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras
from igpt_keras.probes import hold_out
from igpt_keras.probes import probe_layers
from igpt_keras.probes import probe_neighbors
from igpt_keras.probes import why_no_probe


def labelled(batch=24, seed=2):
    """Two batches of images whose class is their most frequent token."""
    token_ids = tiny.token_ids(batch, seed)
    labels = np.arange(batch) % 3
    for i, label in enumerate(labels):
        token_ids[i, ::2] = label
    half = batch // 2
    return [
        (token_ids[:half], labels[:half]),
        (token_ids[half:], labels[half:]),
    ]


def noisy(batch, seed):
    """A batch whose classes show in a few tokens only, and 0 most often."""
    token_ids = tiny.token_ids(batch, seed)
    labels = np.random.default_rng(seed).choice(3, batch, p=[0.5, 0.3, 0.2])
    token_ids[:, ::8] = labels[:, None]
    return [(token_ids, labels)]


def fit(callbacks, epochs=3, num_layers=1, **arguments):
    keras.utils.set_random_seed(0)
    model = igpt_keras.IGPT(**{**tiny.SIZE, "num_layers": num_layers})
    model.compile(keras.optimizers.Adam(1e-2))
    token_ids = tiny.token_ids(12)
    arguments = {"batch_size": 4, "verbose": 0, **arguments}
    history = model.fit(
        token_ids, token_ids, epochs=epochs, callbacks=callbacks, **arguments
    )
    return model, history.history


def probe(**arguments):
    arguments = {"name": "toy", "verbose": 0, **arguments}
    return igpt_keras.LinearProbe(labelled(), labelled(seed=5), **arguments)


@pytest.mark.compiled
def test_training_is_bit_identical_with_and_without():
    plain, plain_history = fit([])
    draws = np.random.random(), array(keras.random.uniform((2,)))
    probed, probed_history = fit([probe()])
    assert draws[0] == np.random.random()
    np.testing.assert_array_equal(draws[1], array(keras.random.uniform((2,))))
    assert plain_history["loss"] == probed_history["loss"]
    for a, b in zip(plain.weights, probed.weights, strict=True):
        np.testing.assert_array_equal(array(a), array(b))
    pairs = zip(
        plain.optimizer.variables, probed.optimizer.variables, strict=True
    )
    for a, b in pairs:
        np.testing.assert_array_equal(array(a), array(b))


def test_history_and_logs():
    callback = probe()
    model, history = fit([callback])
    # The probe saw the weights of the moment.
    features, labels = igpt_keras.extract_features(model, labelled(seed=5))
    assert features.shape[1] == len(labels) == 24
    extracted, _ = callback._extract(labelled(seed=5))
    np.testing.assert_array_equal(features, extracted)
    assert [r["step"] for r in callback.history] == [3, 6, 9]
    assert [r["epoch"] for r in callback.history] == [1, 2, 3]
    for record, accuracy, layer in zip(
        callback.history,
        history["val_probe_toy_accuracy"],
        history["val_probe_toy_layer"],
        strict=True,
    ):
        assert len(record["accuracy"]) == model.num_layers + 1
        assert accuracy == record["accuracy"][layer]
        assert record["best_layer"] == layer
    assert history["val_probe_toy_accuracy"][-1] == 1.0


def test_is_the_protocol_of_final_probes():
    """The same layer, C and accuracy as `probe_layers` on the weights."""
    train, test = noisy(90, seed=7), noisy(40, seed=11)
    records = []
    for arguments in (
        {},
        {"regularization": [1e-4, 1e-2]},
        {"regularization": 1e-3},
        {"layers": [3, 1]},
        {"layers": 2},
    ):
        callback = igpt_keras.LinearProbe(train, test, verbose=0, **arguments)
        model, _ = fit([callback], epochs=1, num_layers=3)
        features, labels = igpt_keras.extract_features(model, train)
        test_features, test_labels = igpt_keras.extract_features(model, test)
        layers = sorted(np.atleast_1d(arguments.pop("layers", range(4))))
        expected = probe_layers(
            features[layers],
            labels,
            test_features[layers],
            test_labels,
            **arguments,
        )
        (record,) = callback.history
        records.append(record)
        assert record["layers"] == layers
        for key, values in (
            ("accuracy", expected.test_accuracy),
            ("held_out_accuracy", expected.validation_accuracy),
            ("regularization", expected.regularization),
        ):
            assert record[key] == values.tolist(), key
        chosen = layers[int(np.argmax(expected.validation_accuracy))]
        assert record["chosen_layer"] == record["best_layer"] == chosen
        assert record["tied_layers"] == [
            layers[i] for i in expected.tied_layers
        ]
    # There are cases in which a choice on test would be another one.
    assert any(
        max(r["accuracy"])
        > r["accuracy"][r["layers"].index(r["chosen_layer"])] + 1e-9
        for r in records
    )
    assert records[0]["accuracy"] != records[2]["accuracy"]


def test_a_record_says_how_sure_it_is():
    train, test = noisy(90, seed=7), noisy(120, seed=8)
    callback = igpt_keras.LinearProbe(train, test, verbose=0)
    fit([callback], epochs=1)
    (record,) = callback.history
    assert record == json.loads(json.dumps(record))
    assert record["train_images"] == 90 and record["test_images"] == 120
    assert record["held_out_images"] == len(hold_out(train[0][1])[1])
    accuracy = record["accuracy"][record["chosen_layer"]]
    assert 0 < accuracy < 1
    assert record["standard_error"] == pytest.approx(
        np.sqrt(accuracy * (1 - accuracy) / 120)
    )
    assert record["chance"] == np.mean(test[0][1] == 0)


def test_every_and_at_the_end():
    callback = probe(every=2)
    _, history = fit([callback], epochs=5)
    assert [r["epoch"] for r in callback.history] == [2, 4, 5]
    accuracy = [
        r["accuracy"][r["layers"].index(r["chosen_layer"])]
        for r in callback.history
    ]
    layers = [r["chosen_layer"] for r in callback.history]
    # Every epoch has both: the last probe's, and what is worse than any.
    assert history["val_probe_toy_accuracy"] == [
        -np.inf,
        *np.repeat(accuracy, [2, 1, 1])[:3],
        accuracy[2],
    ]
    assert history["val_probe_toy_layer"] == [
        -1,
        layers[0],
        layers[0],
        layers[1],
        layers[2],
    ]


@pytest.mark.parametrize(
    "every, validation_freq",
    [
        (1, 2),
        *(
            pytest.param(*case, marks=pytest.mark.large)
            for case in ((2, 1), (1, None), (2, None), (1, 1), (2, 2))
        ),
    ],
)
def test_nothing_is_pushed_out_of_a_csv_file(tmp_path, every, validation_freq):
    validation = {}
    if validation_freq:
        token_ids = tiny.token_ids(4, seed=9)
        validation = {
            "validation_data": (token_ids, token_ids),
            "validation_freq": validation_freq,
        }
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5",
        monitor="val_probe_toy_accuracy",
        mode="max",
        save_best_only=True,
        save_weights_only=True,
    )
    callback = probe(every=every)
    _, history = fit([callback, log, best], epochs=4, **validation)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for key in ("loss", "val_probe_toy_accuracy", "val_probe_toy_layer"):
        written = [float(row[key]) for row in rows]
        np.testing.assert_allclose(written, history[key])
    if validation_freq:
        written = [row["val_loss"] for row in rows]
        ran = [(i + 1) % validation_freq == 0 for i in range(4)]
        assert [value != "NA" for value in written] == ran
        np.testing.assert_allclose(
            [float(v) for v in written if v != "NA"], history["val_loss"]
        )
    # The first probe is better than no probe, and saved.
    assert (tmp_path / f"{every}.weights.h5").is_file()


def test_keys_of_logs_are_plain_text_elsewhere():
    _, history = fit([probe()], epochs=1)
    (key,) = [k for k in history if k.endswith("_accuracy")]
    for copied in (pickle.loads(pickle.dumps(key)), copy.deepcopy(key)):
        assert type(copied) is str and copied == "val_probe_toy_accuracy"


def test_an_igpt_classifier_is_probed():
    model = igpt_keras.IGPTClassifier(tiny.model(), num_classes=3)
    model.compile(keras.optimizers.SGD(0.0))
    train, test = noisy(90, seed=7), noisy(60, seed=8)
    callback = igpt_keras.LinearProbe(train, test, verbose=0)
    model.fit(*train[0], callbacks=[callback], verbose=0)
    expected = igpt_keras.LinearProbe(train, test, verbose=0)
    model.igpt.compile(keras.optimizers.SGD(0.0))
    token_ids = train[0][0]
    model.igpt.fit(token_ids, token_ids, callbacks=[expected], verbose=0)
    assert len(callback.history[0]["accuracy"]) == 4
    assert callback.history[0]["accuracy"] == expected.history[0]["accuracy"]


def test_copies_after_a_fit(tmp_path):
    tf = pytest.importorskip("tensorflow")
    datasets = [
        tf.data.Dataset.from_tensors(batch)
        for batch in (noisy(60, seed=7)[0], noisy(30, seed=8)[0])
    ]
    callback = igpt_keras.LinearProbe(
        *datasets, name="toy", log_dir=tmp_path, verbose=0
    )
    fit([callback], epochs=1)
    copied = copy.deepcopy(callback)
    assert copied.history == callback.history
    fit([copied], epochs=2)
    assert len(copied.history) == 3 and len(callback.history) == 1


def test_probes_when_training_stops_early():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 2

    for every, probed in ((2, [2, 3]), (5, [3])):
        callback = probe(every=every)
        fit([callback, Stop()], epochs=10)
        assert [r["epoch"] for r in callback.history] == probed


def test_chosen_layers():
    callback = probe(layers=[1])
    fit([callback], epochs=1)
    (record,) = callback.history
    assert record["layers"] == [1] and len(record["accuracy"]) == 1
    assert record["best_layer"] == 1


def test_later_callbacks_can_monitor_it(tmp_path):
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.weights.h5",
        monitor="val_probe_toy_accuracy",
        mode="max",
        save_best_only=True,
        save_weights_only=True,
    )
    stop = keras.callbacks.EarlyStopping(
        monitor="val_probe_toy_accuracy", mode="max", baseline=2.0, patience=2
    )
    _, history = fit([probe(), best, stop], epochs=9)
    assert (tmp_path / "best.weights.h5").is_file()
    assert len(history["loss"]) == 2


def test_several_datasets_and_fits():
    one, two = probe(name="one"), probe(name="two", every=2)
    for fits in (1, 2):
        before = list(one.history)
        _, history = fit([one, two], epochs=2)
        assert one.history == before + one.fit_history
        assert len(one.history) == 2 * fits and len(two.history) == fits
        assert len(one.fit_history) == 2 and len(two.fit_history) == 1
        # Not what an earlier fit's last probe had.
        assert history["val_probe_two_accuracy"][0] == float("-inf")
        assert "val_probe_one_accuracy" in history
        assert "val_probe_two_layer" in history


def test_event_files(tmp_path):
    tf = pytest.importorskip("tensorflow")
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.util import tensor_util

    def read(path):
        events = event_accumulator.EventAccumulator(
            str(path), size_guidance={"tensors": 0}
        )
        events.Reload()
        return {
            tag: {
                event.step: tensor_util.make_ndarray(event.tensor_proto)
                for event in events.Tensors(tag)
            }
            for tag in events.Tags()["tensors"]
        }

    train, test = noisy(90, seed=7), noisy(60, seed=8)
    callback = igpt_keras.LinearProbe(
        train,
        test,
        name="toy",
        log_dir=tmp_path / "logs",
        neighbors=5,
        verbose=0,
    )
    fit([callback])
    run, group = tmp_path / "logs" / "probe_toy", "accuracy_probe_toy"
    steps = [3, 6, 9]
    tags = read(run)
    pictures = tags.pop(f"{group}/curve")
    assert list(pictures) == steps
    images = [
        tf.io.decode_png(value[2]).numpy()[..., :3]
        for value in pictures.values()
    ]
    # A line more each time, on white.
    coloured = [(np.ptp(image, axis=-1) > 30).sum() for image in images]
    assert 0 < coloured[0] < coloured[1] < coloured[2]
    assert all((image == 255).mean() > 0.7 for image in images)
    layout = tags.pop("custom_scalars__config__")
    assert f"{group}/layers$".encode() in layout[0].item()
    # A card each, however many layers there are.
    keys = ("chosen", "chosen_layer", "standard_error", "neighbors")
    assert set(tags) == {f"{group}/{key}" for key in keys}
    lines = {name: read(run / name) for name in ("layer_00", "layer_01")}
    lines["chance"] = read(run / "chance")
    for values in lines.values():
        assert list(values) == [f"{group}/layers"]
        assert list(values[f"{group}/layers"]) == steps
    for record in callback.history:
        step = record["step"]
        chosen = record["accuracy"][record["chosen_layer"]]
        for key, value in (
            ("chosen", chosen),
            ("chosen_layer", record["chosen_layer"]),
            ("standard_error", record["standard_error"]),
            (
                "neighbors",
                record["neighbors_accuracy"][record["neighbors_chosen_layer"]],
            ),
        ):
            assert tags[f"{group}/{key}"][step] == pytest.approx(value)
        for name, value in (
            ("layer_00", record["accuracy"][0]),
            ("layer_01", record["accuracy"][1]),
            ("chance", record["chance"]),
        ):
            line = lines[name][f"{group}/layers"]
            assert line[step] == pytest.approx(value)
        depth = read(run / f"after_step_{step:08d}")
        assert list(depth) == [f"{group}/by_depth"]
        by_depth = depth[f"{group}/by_depth"]
        assert list(by_depth) == [0, 1]
        np.testing.assert_allclose(list(by_depth.values()), record["accuracy"])
    assert len(list(run.glob("after_step_*"))) == 3


def test_says_what_it_does(capsys):
    train, test = noisy(90, seed=7), noisy(60, seed=8)
    callback = igpt_keras.LinearProbe(train, test, name="toy")
    fit([callback], epochs=1, num_layers=3)
    output = capsys.readouterr().out
    (record,) = callback.history
    accuracy = record["accuracy"][record["chosen_layer"]]
    error = np.sqrt(accuracy * (1 - accuracy) / 60)
    largest = np.mean(test[0][1] == 0)
    others = [
        str(layer)
        for layer in record["tied_layers"]
        if layer != record["chosen_layer"]
    ]
    assert others
    assert output == (
        "Probing toy after step 3:\n"
        f"toy: {accuracy:.1%} +- {error:.1%} on 60 images at layer "
        f"{record['chosen_layer']} of 3, probed in {record['seconds']:.1f} s\n"
        f"  chance, the largest class, {largest:.1%}; the layer was chosen "
        f"on {record['held_out_images']} training images\n"
        "  no layer is best: within a standard error there also "
        f"{', '.join(others)}\n"
    )


def test_no_word_of_ties_where_there_are_none(capsys):
    fit([probe(verbose=1, layers=1)], epochs=1)
    assert "no layer is best" not in capsys.readouterr().out


def test_its_line_does_not_follow_the_progress_bar(capsys):
    fit([probe(verbose=1)], epochs=2, verbose=1)
    output = capsys.readouterr().out
    assert output.count("\nProbing toy") == 2
    fit([probe(verbose=1)], epochs=2, verbose=2)
    output = capsys.readouterr().out
    assert output.count("Probing toy") == 2 and "\n\n" not in output


def test_without_verbose_says_nothing(capsys):
    fit([probe(verbose=0)], epochs=1)
    assert capsys.readouterr().out == ""


def test_refuses_what_cannot_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="log_dir .* cannot be written"):
        probe(log_dir=tmp_path / "file" / "logs")
    for arguments, message in (
        ({"every": 0}, "every must be >= 1"),
        ({"every": 1.5}, "every must be an int, epochs, received 1.5"),
        ({"every": True}, "every must be an int"),
        ({"layers": []}, "layers is empty"),
        ({"layers": [1.5]}, "layers must be an int, a layer, or a sequence"),
        ({"layers": "1"}, "layers must be an int"),
        ({"regularization": 0}, "regularization must be values of C > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            probe(**arguments)
    for layers in (2, [0, 2], -1):
        with pytest.raises(ValueError, match="layers must be in 0 to 1"):
            fit([probe(layers=layers)])


@pytest.mark.parametrize(
    "labels, test_labels",
    [
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([0, 1, 2, 9], [0, 1, 2, 9]),
        ([-1, -1, -1, -1], [-1, -1, -1, -1]),
        ([0, 0, 1, 1], [2, 2, 2, 2]),
    ],
)
def test_labels_that_cannot_be_probed_are_refused_before_training(
    labels, test_labels
):
    steps = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)
    )
    token_ids = tiny.token_ids(4)
    reason = why_no_probe(labels, test_labels)
    assert reason
    callback = igpt_keras.LinearProbe(
        [(token_ids, labels)], [(token_ids, test_labels)], verbose=0
    )
    with pytest.raises(ValueError) as error:
        fit([callback, count])
    assert str(error.value) == reason and not steps


@pytest.mark.parametrize("labels", [[0, 0, 0, 1], [0, 5, 5, 700]])
def test_small_classes_and_gaps_do_not_end_a_run(labels):
    data = [(tiny.token_ids(4), labels)]
    assert why_no_probe(labels, labels) is None
    callback = igpt_keras.LinearProbe(data, data, verbose=0)
    fit([callback], epochs=1)
    assert len(callback.history) == 1


def test_bad_batches_are_refused_before_training():
    token_ids, labels = tiny.token_ids(4), [0, 0, 1, 1]
    good = (token_ids, labels)
    for bad, message in (
        ((token_ids, [0, 0, 1, 1.5]), "whole numbers"),
        ((token_ids + 11, labels), r"in \[0, 11\)"),
        ((token_ids, labels[:3]), "4 images and 3 labels"),
    ):
        for sets in (([good, bad], [good]), ([good], [good, bad])):
            with pytest.raises(ValueError, match=message):
                fit([igpt_keras.LinearProbe(*sets, verbose=0)])


def test_nearest_neighbours_beside(tmp_path, capsys):
    """On the same features; what was there is as without them."""
    train, test = noisy(90, seed=7), noisy(40, seed=11)
    records = []
    for neighbors in (None, [1, 9]):
        callback = igpt_keras.LinearProbe(
            train, test, layers=[0, 1], neighbors=neighbors
        )
        model, _ = fit([callback], epochs=1)
        records.append(callback.history[0])
    plain, near = records
    features, labels = igpt_keras.extract_features(model, train)
    others = igpt_keras.extract_features(model, test)
    expected = probe_neighbors(features, labels, *others, neighbors=[1, 9])
    assert near["neighbors_accuracy"] == expected.test_accuracy.tolist()
    held_out = expected.validation_accuracy.tolist()
    assert near["neighbors_held_out_accuracy"] == held_out
    assert near["neighbors"] == expected.neighbors.tolist()
    chosen = near["neighbors_chosen_layer"]
    assert chosen == expected.chosen_layer
    assert {k: near[k] for k in plain if k != "seconds"} == {
        k: v for k, v in plain.items() if k != "seconds"
    }
    said = f"nearest neighbours {expected.test_accuracy[chosen]:.1%} at layer"
    assert said in capsys.readouterr().out


def test_neighbours_that_there_are_not():
    with pytest.raises(ValueError, match="must be an int >= 1"):
        probe(neighbors=0)
    # Two thirds of 24 vote on the rest; said before training.
    with pytest.raises(ValueError, match="neighbors=17 cannot vote"):
        fit([probe(neighbors=17)])
