import json
import time
import types

import numpy as np
import pytest
import tiny

import igpt_keras
from igpt_keras.callbacks import linear_probe


def read(path):
    return json.loads(path.read_text())


def after_steps(steps):
    optimizer = types.SimpleNamespace(iterations=np.int64(steps))
    return types.SimpleNamespace(optimizer=optimizer)


def test_keeps_probes_and_the_loss_of_their_epochs(tmp_path):
    token_ids = tiny.token_ids(batch=8)
    labels = np.arange(8, dtype="int32") % 2
    model = tiny.model()
    model.compile("adam")
    probe = igpt_keras.LinearProbe(
        [(np.repeat(token_ids, 5, 0), np.repeat(labels, 5))],
        [(token_ids, labels)],
        every=2,
        verbose=0,
    )
    path = tmp_path / "progress.json"
    progress = igpt_keras.Progress(path, [probe])
    history = model.fit(
        token_ids,
        token_ids,
        epochs=4,
        validation_data=(token_ids, token_ids),
        callbacks=[probe, progress],
        verbose=0,
    )
    saved = read(path)
    steps = [(logs["epoch"], logs["step"]) for logs in saved["epochs"]]
    assert steps == [(1, 1), (2, 2), (3, 3), (4, 4)]
    for key in ("loss", "val_loss"):
        logged = [logs[key] for logs in saved["epochs"]]
        np.testing.assert_allclose(logged, history.history[key])
    assert saved["train_seconds"] == progress.seconds["train_seconds"] > 0
    # Each second is counted once.
    probing = sum(record["seconds"] for record in probe.history)
    assert saved["probe_seconds"] == probing > 0
    assert saved["picture_seconds"] == 0
    assert [p["epoch"] for p in saved["probes"]] == [2, 4]
    losses = [p["validation_loss"] for p in saved["probes"]]
    np.testing.assert_allclose(losses, history.history["val_loss"][1::2])
    assert saved["probes"] == progress.probes

    # Another fit, with the same callbacks, adds its own probes.
    model.fit(token_ids, epochs=2, callbacks=[probe, progress], verbose=0)
    assert [p["epoch"] for p in read(path)["probes"]] == [2, 4, 2]
    assert len(probe.history) == 3
    probing = sum(record["seconds"] for record in probe.history)
    assert read(path)["probe_seconds"] == pytest.approx(probing)


def test_goes_on_and_forgets_probes_after_the_checkpoint(tmp_path):
    path = tmp_path / "progress.json"
    before = [{"epoch": epoch, "step": 10 * epoch} for epoch in (1, 2, 3)]
    seconds = {"train_seconds": 100.0, "picture_seconds": 1.0}
    seconds["probe_seconds"] = 0.0
    epochs = [{"epoch": e, "step": 10 * e, "val_loss": 1.0} for e in (1, 2, 3)]
    saved = {**seconds, "epochs": epochs, "probes": before, "events": []}
    path.write_text(json.dumps(saved))
    probe = types.SimpleNamespace(fit_history=[], seconds=5.0)
    pictures = types.SimpleNamespace(seconds=2.0)
    progress = igpt_keras.Progress(path, [probe], [pictures])
    progress.restore(2)
    assert progress.probes == before[:2]
    progress.set_model(after_steps(30))
    progress.on_train_begin()
    probe.fit_history.append({"epoch": 3, "step": 30})
    progress.on_epoch_end(2, {"val_loss": 0.5})
    saved = read(path)
    expected = {**probe.fit_history[0], "validation_loss": 0.5}
    last = {"epoch": 3, "step": 30, "val_loss": 0.5}
    assert saved["epochs"] == [*epochs[:2], last]
    assert saved["probes"] == [*before[:2], expected]
    # Of no time at all the probe took five seconds, the pictures two.
    assert 93 < saved["train_seconds"] < 103
    assert (saved["probe_seconds"], saved["picture_seconds"]) == (5, 3)


def test_goes_on_in_the_first_epoch(tmp_path):
    """From a step of which there is a checkpoint, without later events."""
    path = tmp_path / "progress.json"
    progress = igpt_keras.Progress(path)
    progress.set_model(after_steps(6))
    progress.on_train_begin()
    progress.seconds["train_seconds"] = 7.0
    events = [{"kind": "loss_spike", "step": step} for step in (4, 5, 6)]
    progress.events += events
    progress.on_train_begin()
    progress.save()
    again = igpt_keras.Progress(path)
    again.restore(0, 5)
    assert again.seconds["train_seconds"] >= 7
    assert again.events == events[:2]


def test_what_is_not_finite_is_null_in_the_file(tmp_path):
    path = tmp_path / "progress.json"
    progress = igpt_keras.Progress(path)
    progress.set_model(after_steps(1))
    progress.on_train_begin()
    logs = {"loss": np.float32(0.5), "probe": -np.inf, "val_loss": np.nan}
    progress.on_epoch_end(0, logs)

    def refuse(text):
        raise ValueError(f"{text} is not JSON")

    saved = json.loads(path.read_text(), parse_constant=refuse)
    expected = {"epoch": 1, "step": 1, "loss": 0.5}
    assert saved["epochs"] == [{**expected, "probe": None, "val_loss": None}]


def test_seconds_of_what_was_interrupted_are_its_own(tmp_path, monkeypatch):
    token_ids = tiny.token_ids(batch=16)
    data = [(token_ids, np.arange(16) % 2)]
    model = tiny.model()
    model.compile("adam")
    probe = igpt_keras.LinearProbe(data, data, verbose=0)
    progress = igpt_keras.Progress(tmp_path / "progress.json", [probe])

    def interrupted(*arguments, **options):
        time.sleep(0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr(linear_probe, "probe_layers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(token_ids, callbacks=[probe, progress], verbose=0)
    progress.save()
    assert progress.seconds["probe_seconds"] >= 0.5


def test_a_fresh_run_reads_nothing(tmp_path):
    path = tmp_path / "progress.json"
    path.write_text(json.dumps({"train_seconds": 9.0, "probes": [{}]}))
    progress = igpt_keras.Progress(path)
    progress.restore(0)
    assert progress.seconds["train_seconds"] == 0 and progress.probes == []


def test_a_probe_at_the_end_of_training_is_kept(tmp_path):
    """As where training stopped early, on an epoch without a probe."""
    probe = types.SimpleNamespace(fit_history=[], seconds=0.0)
    progress = igpt_keras.Progress(tmp_path / "progress.json", [probe])
    progress.set_model(after_steps(1))
    progress.on_train_begin()
    progress.on_epoch_end(0, {"val_loss": 0.25})
    probe.fit_history.append({"epoch": 1, "seconds": 0.0})
    progress.on_train_end()
    expected = [{"epoch": 1, "seconds": 0.0, "validation_loss": 0.25}]
    assert read(tmp_path / "progress.json")["probes"] == expected


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"epochs": [', "null"])
def test_a_damaged_file_is_said_and_stops_nothing(text, tmp_path, capsys):
    path = tmp_path / "progress.json"
    path.write_text(text)
    progress = igpt_keras.Progress(path)
    progress.restore(3)
    assert progress.epochs == progress.probes == []
    assert f"{path} is damaged" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path, capsys):
    progress = igpt_keras.Progress(tmp_path / "none" / "progress.json")
    progress.set_model(after_steps(1))
    progress.on_train_begin()
    progress.on_epoch_end(0, {"loss": 1.0})
    assert "It only shows how the run goes" in capsys.readouterr().err
