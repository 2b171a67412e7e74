import keras
import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras


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


def fit(callbacks, epochs=3, **arguments):
    keras.utils.set_random_seed(0)
    model = igpt_keras.IGPT(**{**tiny.SIZE, "num_layers": 1})
    model.compile(keras.optimizers.Adam(1e-2))
    token_ids = tiny.token_ids(12)
    history = model.fit(
        token_ids,
        token_ids,
        batch_size=4,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,
        **arguments,
    )
    return model, history.history


def probe(**arguments):
    arguments = {"name": "toy", "verbose": 0, **arguments}
    return igpt_keras.LinearProbe(labelled(), labelled(seed=5), **arguments)


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


def test_every_and_at_the_end():
    callback = probe(every=2)
    _, history = fit([callback], epochs=5)
    assert [r["epoch"] for r in callback.history] == [2, 4, 5]
    assert len(history["val_probe_toy_accuracy"]) == 3


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
    for _ in range(2):
        _, history = fit([one, two], epochs=2)
        assert len(one.history) == 2 and len(two.history) == 1
        assert "val_probe_one_accuracy" in history
        assert "val_probe_two_layer" in history


def test_event_files(tmp_path):
    pytest.importorskip("tensorflow")
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

    callback = probe(log_dir=tmp_path / "logs")
    fit([callback])
    tags = read(tmp_path / "logs" / "probe_toy")
    layers = [f"accuracy_probe_toy/layer_{i:02d}" for i in range(2)]
    assert set(tags) == {
        *layers,
        "accuracy_probe_toy/best",
        "accuracy_probe_toy/best_layer",
        "custom_scalars__config__",
    }
    for i, layer in enumerate(layers):
        assert list(tags[layer]) == [3, 6, 9]
        for record in callback.history:
            assert tags[layer][record["step"]] == pytest.approx(
                record["accuracy"][i]
            )
    assert (
        b"accuracy_probe_toy/layer_"
        in tags["custom_scalars__config__"][0].item()
    )
    runs = sorted((tmp_path / "logs" / "probe_toy").glob("after_*"))
    assert [run.name for run in runs] == [
        f"after_step_{step:08d}" for step in (3, 6, 9)
    ]
    by_depth = read(runs[-1])["accuracy_probe_toy/by_depth"]
    assert list(by_depth) == [0, 1]


def test_says_what_it_does(capsys):
    fit([probe(verbose=1)], epochs=1)
    output = capsys.readouterr().out
    assert "Probing toy after step 3" in output
    assert "2/2" in output
    assert "toy: " in output and "at layer" in output and " s\n" in output


def test_without_verbose_says_nothing(capsys):
    fit([probe(verbose=0)], epochs=1)
    assert capsys.readouterr().out == ""


def test_refuses_what_cannot_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="log_dir .* cannot be written"):
        probe(log_dir=tmp_path / "file" / "logs")
    with pytest.raises(ValueError, match="every must be >= 1"):
        probe(every=0)
    with pytest.raises(ValueError, match="layers must be in 0 to 1"):
        fit([probe(layers=[2])])
    token_ids = tiny.token_ids(4)
    for labels, message in (
        (np.zeros(4, int), "at least two classes"),
        (np.array([0, 1, 2, 9]), "4 images of 10 classes"),
        (np.array([0, 0, 0, 1]), "Class 1 has one image"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(
                [
                    igpt_keras.LinearProbe(
                        [(token_ids, labels)], labelled(), verbose=0
                    )
                ]
            )
