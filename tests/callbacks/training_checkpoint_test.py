import contextlib
import json
import shutil

import keras
import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras
from igpt_keras.callbacks import training_checkpoint
from igpt_keras.storage import kept_checkpoints
from igpt_keras.storage.checkpoint_directory import DamagedCheckpoint
from igpt_keras.storage.checkpoint_directory import read_checkpoint


def compiled(learning_rate=1e-2):
    keras.utils.set_random_seed(0)
    model = igpt_keras.IGPT(**tiny.SIZE)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, 20, warmup_target=learning_rate, warmup_steps=4
    )
    model.compile(keras.optimizers.Adam(schedule, 0.9, 0.95))
    return model


def fit(model, checkpoint, epochs, initial_epoch=0):
    # One batch an epoch, a function of the epoch alone.
    class Batches(keras.utils.PyDataset):
        epoch = initial_epoch

        def __len__(self):
            return 1

        def __getitem__(self, index):
            token_ids = tiny.token_ids(seed=self.epoch)
            return token_ids, token_ids

        def on_epoch_end(self):
            self.epoch += 1

    validation = tiny.token_ids(seed=99)
    return model.fit(
        Batches(),
        validation_data=(validation, validation),
        initial_epoch=initial_epoch,
        epochs=epochs,
        shuffle=False,
        callbacks=[checkpoint],
        verbose=0,
    ).history


def state(model):
    return [array(v) for v in (*model.variables, *model.optimizer.variables)]


def assert_equal(one, two):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def ready(directory, **settings):
    """A checkpoint of a model that has all its variables."""
    model = compiled()
    model.optimizer.build(model.trainable_variables)
    checkpoint = igpt_keras.TrainingCheckpoint(directory, **settings)
    checkpoint.set_model(model)
    return model, checkpoint


def end_epoch(checkpoint, epoch, loss):
    """Of weights that say which epoch it was."""
    checkpoint.model.head.kernel.assign(np.full((15, 11), epoch))
    checkpoint.model.optimizer.iterations.assign(epoch)
    checkpoint.on_epoch_end(epoch - 1, {"val_loss": loss})


def test_stopped_and_resumed_equals_uninterrupted(tmp_path):
    whole = compiled()
    whole_history = fit(whole, igpt_keras.TrainingCheckpoint(tmp_path / "a"), 6)
    first = compiled()
    fit(first, igpt_keras.TrainingCheckpoint(tmp_path / "b"), 3)
    resumed = compiled(learning_rate=1e-2)
    resumed.embedding.token_embedding.assign(np.zeros((11, 15)))
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path / "b")
    assert checkpoint.restore(resumed) == 3
    history = fit(resumed, checkpoint, 6, initial_epoch=3)
    assert_equal(state(whole), state(resumed))
    assert history["loss"] == whole_history["loss"][3:]
    assert history["val_loss"] == whole_history["val_loss"][3:]


def test_keeps_two_and_the_best(tmp_path):
    model, checkpoint = ready(tmp_path)
    states = []
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 1.5], start=1):
        end_epoch(checkpoint, epoch, loss)
        states.append(state(model))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "best",
        "step_0000000003",
        "step_0000000004",
    ]
    assert checkpoint.restore_best(model) == 2
    assert_equal(state(model), states[1])
    again = igpt_keras.TrainingCheckpoint(tmp_path)
    assert again.restore(model) == 4
    assert again.best_value == 1.0
    assert_equal(state(model), states[3])


@pytest.mark.parametrize("name", ["write_checkpoint", "copy_checkpoint"])
@pytest.mark.parametrize(
    "losses, best", [([3.0, 1.0, 4.0, 4.0], 1), ([3.0, 1.0, 2.0, 2.5], 3)]
)
def test_the_best_could_not_be_written(
    losses, best, name, tmp_path, monkeypatch, capsys
):
    """Then it is the best of those that were, and is said."""

    def full(*arguments):
        raise OSError(28, "No space left on device")

    model, checkpoint = ready(tmp_path)
    for epoch, loss in enumerate(losses, start=1):
        with monkeypatch.context() as patch:
            if epoch == 2:
                patch.setattr(kept_checkpoints, name, full)
            # What failed last is an error at the end.
            with contextlib.suppress(OSError), checkpoint.in_background():
                end_epoch(checkpoint, epoch, loss)
    assert checkpoint.best_epoch == 2
    capsys.readouterr()
    again = igpt_keras.TrainingCheckpoint(tmp_path)
    again.restore(model)
    assert again.restore_best(model) == best
    assert (array(model.head.kernel) == best).all()
    said = capsys.readouterr().out
    assert "Epoch 2 was better (1), but" in said
    assert f"of epoch {best} ({losses[best - 1]:g})" in said


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_never_the_best(value, tmp_path):
    model, checkpoint = ready(tmp_path, patience=2)
    end_epoch(checkpoint, 1, value)
    with pytest.raises(ValueError, match="none that is finite"):
        checkpoint.restore_best(model)
    end_epoch(checkpoint, 2, 3.0)
    assert model.stop_training is False
    end_epoch(checkpoint, 3, value)
    assert checkpoint.best_epoch == 2
    assert checkpoint.restore_best(model) == 2


def test_a_checkpoint_that_cannot_be_removed(tmp_path, monkeypatch, capsys):
    """The new one was written all the same."""
    model, checkpoint = ready(tmp_path)

    remove = shutil.rmtree

    def refused(path, **settings):
        if path.name.startswith("step_"):
            raise PermissionError(13, "Permission denied", str(path))
        remove(path, **settings)

    with checkpoint.in_background(), monkeypatch.context() as patch:
        patch.setattr(kept_checkpoints.shutil, "rmtree", refused)
        for epoch in (1, 2, 3):
            end_epoch(checkpoint, epoch, 3.0)
        checkpoint._writer.submit(lambda: None).result()
    said = capsys.readouterr().err
    assert "step_0000000001 is not needed any more" in said
    assert "Permission denied" in said and "No checkpoint" not in said
    assert checkpoint.restore(model) == 3
    end_epoch(checkpoint, 4, 3.0)
    steps = sorted(path.name for path in tmp_path.glob("step_*"))
    assert steps == ["step_0000000003", "step_0000000004"]


def test_patience_counts_across_restarts(tmp_path):
    model = compiled()
    model.optimizer.build(model.trainable_variables)
    stops = []
    for epoch, loss in enumerate([2.0, 1.0, 1.5, 1.2, 0.5]):
        checkpoint = igpt_keras.TrainingCheckpoint(tmp_path, patience=2)
        checkpoint.restore(model)
        checkpoint.set_model(model)
        model.stop_training = False
        model.optimizer.iterations.assign(epoch + 1)
        checkpoint.on_epoch_end(epoch, {"val_loss": loss})
        stops.append(model.stop_training)
    assert stops == [False, False, False, True, False]


def test_patience_waits_for_a_monitor(tmp_path):
    _, checkpoint = ready(tmp_path, monitor="val_probe_accuracy", patience=1)
    with pytest.warns(UserWarning, match="'val_probe_accuracy'.*: val_loss"):
        for epoch in (1, 2, 3):
            end_epoch(checkpoint, epoch, 1.0)
    assert not checkpoint.out_of_patience(3)
    assert not checkpoint.model.stop_training
    # It counts from there.
    for epoch, value in ((4, 0.5), (5, 0.6)):
        checkpoint.model.optimizer.iterations.assign(epoch)
        checkpoint.on_epoch_end(epoch - 1, {"val_probe_accuracy": value})
    assert checkpoint.model.stop_training
    with pytest.raises(ValueError, match="patience=1 needs a monitor"):
        igpt_keras.TrainingCheckpoint(tmp_path, monitor=None, patience=1)


def test_another_fit_has_patience_of_its_own(tmp_path):
    model = compiled(0.0)
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path, patience=2)
    for epochs, first in ((3, 0), (2, 0)):
        losses = fit(model, checkpoint, 9, first)["val_loss"]
        assert len(losses) == epochs and len(set(losses)) == 1


def killed(*arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["write_manifest", "copy_checkpoint"])
def test_a_kill_between_writes_loses_nothing(name, tmp_path, monkeypatch):
    """Weights are there before it is known whether they are the best."""
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    fit(model, checkpoint, 1)
    fit(model, igpt_keras.TrainingCheckpoint(tmp_path / "other"), 2, 1)
    checkpoint.set_model(model)
    with monkeypatch.context() as patch:
        patch.setattr(kept_checkpoints, name, killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.on_epoch_end(1, {"val_loss": 0.5})
    again = igpt_keras.TrainingCheckpoint(tmp_path)
    assert again.restore(model) == 2
    was_noted = name == "copy_checkpoint"
    assert again.place["evaluated"] == was_noted
    assert (again.best_value == 0.5) == was_noted
    # It was not copied yet, and is found where it was copied from.
    assert again.restore_best(model) == (2 if was_noted else 1)


def test_nothing_to_restore(tmp_path):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path / "none")
    assert checkpoint.restore(compiled()) == 0
    with pytest.raises(ValueError, match="no epoch reported 'val_loss'"):
        checkpoint.restore_best(compiled())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage, name",
    [
        (flip, "state.npz"),
        (truncate, "state.npz"),
        (empty, "manifest.json"),
        *(
            pytest.param(*case, marks=pytest.mark.large)
            for case in (
                (empty, "state.npz"),
                (flip, "manifest.json"),
                (truncate, "manifest.json"),
            )
        ),
    ],
)
def test_a_damaged_checkpoint_is_never_loaded(damage, name, tmp_path, capsys):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    fit(model, checkpoint, 2)
    damage(tmp_path / "step_0000000002" / name)
    damage(tmp_path / "best" / name)
    # An unfinished write is no checkpoint either.
    half = tmp_path / ".step_0000000003-abc"
    half.mkdir()
    assert checkpoint.restore(model) == 1
    assert not half.exists()
    said = capsys.readouterr().out
    assert f"Removing {half}" in said
    assert f"step_0000000002/{name}" in said and "an earlier" in said
    damage(tmp_path / "step_0000000001" / name)
    before = state(model)
    with pytest.raises(ValueError, match="No whole checkpoint to resume"):
        checkpoint.restore(model)
    with pytest.raises(ValueError, match="No whole checkpoint of the best"):
        checkpoint.restore_best(model)
    assert_equal(before, state(model))


def test_any_flipped_bit_is_seen(tmp_path):
    """A hundred and fifty, in both files."""
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    fit(model, checkpoint, 1)
    generator = np.random.default_rng(0)
    path = tmp_path / "step_0000000001"
    for name, count in (("state.npz", 100), ("manifest.json", 50)):
        whole = (path / name).read_bytes()
        for bit in generator.choice(8 * len(whole), count, replace=False):
            content = bytearray(whole)
            content[bit // 8] ^= 1 << (bit % 8)
            (path / name).write_bytes(content)
            with pytest.raises((DamagedCheckpoint, ValueError)):
                read_checkpoint(path)
        (path / name).write_bytes(whole)
    assert read_checkpoint(path)[1]["epoch"] == 1


@pytest.mark.parametrize(
    "key, value", [("step", -1), ("epoch", "1"), ("variables", None)]
)
def test_an_edited_manifest_is_seen(key, value, tmp_path):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    fit(compiled(), checkpoint, 1)
    path = tmp_path / "step_0000000001" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(DamagedCheckpoint, match="edited or damaged"):
        read_checkpoint(path.parent)


def test_the_best_where_all_others_are_lost(tmp_path):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    fit(model, checkpoint, 1)
    for path in tmp_path.glob("step_*"):
        shutil.rmtree(path)
    again = igpt_keras.TrainingCheckpoint(tmp_path)
    other = compiled()
    assert again.restore(other) == 1
    assert_equal(state(model), state(other))


def test_other_versions_are_said(tmp_path, monkeypatch, capsys):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    fit(model, checkpoint, 1)
    checkpoint.restore(model)
    assert "other versions" not in capsys.readouterr().out
    now = training_checkpoint.versions()
    newer = lambda: {**now, "numpy": "9.9"}  # noqa: E731
    monkeypatch.setattr(training_checkpoint, "versions", newer)
    checkpoint.restore(model)
    assert "9.9 now" in capsys.readouterr().out


def test_another_model_is_refused_and_untouched(tmp_path):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    fit(compiled(), checkpoint, 1)
    other = igpt_keras.IGPT(**{**tiny.SIZE, "hidden_dim": 12})
    other.compile("adam")
    before = [array(v) for v in other.variables]
    with pytest.raises(ValueError, match="belongs to another model"):
        checkpoint.restore(other)
    assert_equal(before, [array(v) for v in other.variables])


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute"
)
def test_restores_under_a_strategy(tmp_path):
    """Before the optimizer has variables."""
    import tensorflow as tf

    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    fit(model, checkpoint, 1)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        other = compiled()
    assert checkpoint.restore(other) == 1
    assert_equal(state(model), state(other))
    fit(model, checkpoint, 2, 1)
    fit(other, checkpoint, 2, 1)
    assert_equal(state(model), state(other))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    fit(model, checkpoint, 1)
    model.head.kernel.assign(np.full((15, 11), np.nan))
    with pytest.raises(FloatingPointError, match="after step") as error:
        checkpoint.on_epoch_end(1, {"val_loss": 0.0})
    assert ".." not in str(error.value) and "--" not in str(error.value)
    assert checkpoint.restore(model) == 1
    assert np.isfinite(array(model.head.kernel)).all()


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch, capsys):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    fit(model, checkpoint, 1)

    def full(file, **arrays):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(file))

    model.optimizer.iterations.assign(2)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.on_epoch_end(1, {"val_loss": 0.0})
        # While training goes on it is said; at the end it is an error.
        with pytest.raises(OSError, match="No space left"):
            with checkpoint.in_background():
                checkpoint.on_epoch_end(1, {"val_loss": 0.0})
        assert not list(tmp_path.glob(".step*"))
    said = capsys.readouterr().err
    assert "No checkpoint was written" in said and str(tmp_path) in said
    assert checkpoint.restore(compiled()) == 1
    with checkpoint.in_background():
        checkpoint.on_epoch_end(1, {"val_loss": 0.0})
    assert checkpoint.restore(compiled()) == 2


def test_a_directory_that_was_deleted_is_written_again_and_said(tmp_path):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path / "checkpoints")
    model = compiled()
    fit(model, checkpoint, 1)
    shutil.rmtree(tmp_path / "checkpoints")
    model.optimizer.iterations.assign(2)
    with pytest.raises(OSError, match="was deleted while training went on"):
        with checkpoint.in_background():
            checkpoint.on_epoch_end(1, {"val_loss": 0.0})
    assert checkpoint.restore(compiled()) == 2


def test_milestones_stay(tmp_path):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path, keep=[1, 2])
    model = compiled()
    fit(model, checkpoint, 5)
    found = sorted(path.name[-1] for path in tmp_path.glob("step_*"))
    assert found == ["1", "2", "4", "5"]


def test_the_best_may_be_the_highest(tmp_path):
    """And patience counts from it, also in another process."""
    values = [0.25, 0.75, 0.5, 0.5]
    model = compiled()
    model.fit(tiny.token_ids(), tiny.token_ids(), verbose=0)

    def checkpoint():
        made = igpt_keras.TrainingCheckpoint(
            tmp_path, "val_accuracy", patience=2, mode="max"
        )
        made.set_model(model)
        return made

    first = checkpoint()
    for epoch, value in enumerate(values[:2]):
        model.optimizer.iterations.assign(epoch + 1)
        first.on_epoch_end(epoch, {"val_accuracy": value})
    second = checkpoint()
    assert second.restore(model) == 2
    assert (second.best_value, second.best_epoch) == (0.75, 2)
    model.stop_training = False
    model.optimizer.iterations.assign(3)
    second.on_epoch_end(2, {"val_accuracy": values[2]})
    assert not model.stop_training
    model.optimizer.iterations.assign(4)
    second.on_epoch_end(3, {"val_accuracy": values[3]})
    assert model.stop_training
    assert second.restore_best(model) == 2
    with pytest.raises(ValueError, match='"min" or "max"'):
        igpt_keras.TrainingCheckpoint(tmp_path, mode="best")
