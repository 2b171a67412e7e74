import keras
import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras
from igpt_keras.callbacks import training_checkpoint


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
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    model.optimizer.build(model.trainable_variables)
    checkpoint.set_model(model)
    states = []
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 1.5]):
        model.head.kernel.assign(np.full((15, 11), epoch))
        states.append(state(model))
        checkpoint.on_epoch_end(epoch, {"val_loss": loss})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "best.npz",
        "epoch_00000003.npz",
        "epoch_00000004.npz",
    ]
    assert checkpoint.restore_best(model) == 2
    assert_equal(state(model), states[1])
    again = igpt_keras.TrainingCheckpoint(tmp_path)
    assert again.restore(model) == 4
    assert again.best_value == 1.0
    assert_equal(state(model), states[3])


def test_patience_counts_across_restarts(tmp_path):
    model = compiled()
    model.optimizer.build(model.trainable_variables)
    stops = []
    for epoch, loss in enumerate([2.0, 1.0, 1.5, 1.2, 0.5]):
        checkpoint = igpt_keras.TrainingCheckpoint(tmp_path, patience=2)
        checkpoint.restore(model)
        checkpoint.set_model(model)
        model.stop_training = False
        checkpoint.on_epoch_end(epoch, {"val_loss": loss})
        stops.append(model.stop_training)
    assert stops == [False, False, False, True, False]


def test_a_kill_between_writes_loses_neither(tmp_path, monkeypatch):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    fit(model, checkpoint, 1)
    write = training_checkpoint._write

    def killed(path, *arguments):
        if path.name.startswith("epoch"):
            raise KeyboardInterrupt
        write(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training_checkpoint, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.on_epoch_end(1, {"val_loss": 0.5})
    again = igpt_keras.TrainingCheckpoint(tmp_path)
    assert again.restore(model) == 1 and again.best_value > 0.5
    assert again.restore_best(model) == 2


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


@pytest.mark.parametrize("damage", [flip, truncate])
def test_a_damaged_checkpoint_is_never_loaded(damage, tmp_path):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    fit(model, checkpoint, 2)
    damage(tmp_path / "epoch_00000002.npz")
    # An unfinished write is no checkpoint either.
    (tmp_path / ".epoch_00000003.npz.tmp").write_bytes(b"half")
    assert checkpoint.restore(model) == 1
    damage(tmp_path / "epoch_00000001.npz")
    before = state(model)
    with pytest.raises(ValueError, match="No whole checkpoint to resume"):
        checkpoint.restore(model)
    assert_equal(before, state(model))


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
    with pytest.raises(FloatingPointError, match="after epoch 2"):
        checkpoint.on_epoch_end(1, {"val_loss": 0.0})
    assert checkpoint.restore(model) == 1
    assert np.isfinite(array(model.head.kernel)).all()


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path)
    model = compiled()
    fit(model, checkpoint, 1)

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.on_epoch_end(1, {"val_loss": 0.0})
    assert checkpoint.restore(compiled()) == 1


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
        first.on_epoch_end(epoch, {"val_accuracy": value})
    second = checkpoint()
    assert second.restore(model) == 2
    assert (second.best_value, second.best_epoch) == (0.75, 2)
    model.stop_training = False
    second.on_epoch_end(2, {"val_accuracy": values[2]})
    assert not model.stop_training
    second.on_epoch_end(3, {"val_accuracy": values[3]})
    assert model.stop_training
    assert second.restore_best(model) == 2
    with pytest.raises(ValueError, match='"min" or "max"'):
        igpt_keras.TrainingCheckpoint(tmp_path, mode="best")
