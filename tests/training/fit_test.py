import json
import os
import re
import shutil
import signal

import events
import keras
import numpy as np
import pytest
import tiny

import igpt_keras
from igpt_keras import training
from igpt_keras.program import interrupts
from igpt_keras.training.tensorflow_step import TensorFlowStep

tf = pytest.importorskip("tensorflow")

TOKEN_IDS = tiny.token_ids(32)
VALIDATION = tf.data.Dataset.from_tensors((TOKEN_IDS[:8], TOKEN_IDS[:8]))


def batches_from(step, token_ids=TOKEN_IDS):
    data = tf.data.Dataset.from_tensor_slices((token_ids, token_ids))
    return data.repeat().batch(4, drop_remainder=True).skip(step)


def build(seed=0, first_scale=None):
    keras.utils.set_random_seed(seed)
    size = {**tiny.SIZE, "num_layers": 1, "dropout": 0.2}
    model = igpt_keras.IGPT(**size)
    optimizer = training.paper_adam(0.01, steps=12, warmup_steps=2)
    if first_scale is not None:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, first_scale)
    model.compile(optimizer)
    return model


def fit(model, directory, steps=12, **options):
    checkpoint = igpt_keras.TrainingCheckpoint(directory / "checkpoints")
    progress = igpt_keras.Progress(directory / "progress.json")
    options = {
        "batches_from": batches_from,
        "validation_data": VALIDATION,
        "period": 4,
        **options,
    }
    training.fit(
        model,
        steps=steps,
        checkpoint=checkpoint,
        progress=progress,
        **{"verbose": 0, **options},
    )
    return checkpoint, progress


def state(model):
    return [
        tiny.array(v) for v in (*model.variables, *model.optimizer.variables)
    ]


def assert_equal(one, two):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


class Signal(keras.callbacks.Callback):
    """A signal to this process after so many steps."""

    def __init__(self, step, number=signal.SIGTERM):
        super().__init__()
        self.left, self.number = step, number

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def signals():
    """Leaves the handlers as they were."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    # A job in the background is born deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)


@pytest.mark.compiled
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.large)],
)
def test_a_signal_costs_no_step(number, tmp_path, signals):
    """In the middle of an epoch, with dropout, and twice."""
    whole = build()
    _, expected = fit(whole, tmp_path / "whole")
    for step, left, seed in ((6, 6, 0), (9, 3, 1)):
        with pytest.raises(SystemExit) as info, interrupts.handled():
            callbacks = [Signal(left, number)]
            fit(build(seed), tmp_path / "parts", callbacks=callbacks)
        assert info.value.code == 130
        last = max((tmp_path / "parts" / "checkpoints").glob("step_*"))
        assert last.name == f"step_{step:010d}"
    resumed = build(99)
    _, found = fit(resumed, tmp_path / "parts")
    assert_equal(state(resumed), state(whole))
    for one, two in zip(found.epochs, expected.epochs, strict=True):
        assert one == two
    seconds = json.loads((tmp_path / "parts/progress.json").read_text())
    assert seconds["train_seconds"] > 0


def test_a_checkpoint_stands_before_validation(tmp_path, monkeypatch):
    """And what follows an epoch is made up for, without training."""
    whole = build()
    _, expected = fit(whole, tmp_path / "whole", steps=4)

    def killed(*arguments, **others):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(igpt_keras.IGPT, "evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(build(), tmp_path / "parts", steps=4)
    resumed = build(1)

    with monkeypatch.context() as patch:
        patch.setattr(TensorFlowStep, "__call__", killed)
        # With the progress bar, which an epoch begins with.
        checkpoint, found = fit(resumed, tmp_path / "parts", steps=4, verbose=1)
    assert_equal(state(resumed), state(whole))
    assert found.epochs == expected.epochs
    assert checkpoint.place["evaluated"] and checkpoint.best_epoch == 1


def test_periods_of_checkpoints_and_of_logs(tmp_path):
    written = []
    save = igpt_keras.TrainingCheckpoint.save

    class Record(igpt_keras.TrainingCheckpoint):
        def save(self, place):
            written.append(place["step"])
            save(self, place)

    def run(directory, **options):
        written.clear()
        training.fit(
            build(),
            batches_from,
            12,
            6,
            Record(tmp_path / directory),
            igpt_keras.Progress(tmp_path / f"{directory}.json"),
            log_dir=tmp_path / "logs" / directory,
            log_every=4,
            verbose=0,
            **options,
        )
        return list(written)

    assert run("ends") == [6, 12]
    assert run("steps", checkpoint_steps=2) == [2, 4, 6, 8, 10, 12]
    assert run("minutes", checkpoint_minutes=0.0) == list(range(1, 13))
    logs = events.read(tmp_path / "logs" / "steps" / "train")
    assert [step for step, _ in logs["loss"]] == [4, 8, 12]
    assert [step for step, _ in logs["epoch_loss"]] == [6, 12]
    assert logs["loss"][0][1] > logs["loss"][2][1] > 0
    assert logs["learning_rate"][0][1] > logs["learning_rate"][2][1]


def test_steps_taken_again_are_in_the_curves_once(tmp_path):
    """As after a kill: what was written of later steps is left out."""
    fit(build(), tmp_path, log_dir=tmp_path / "logs", log_every=1)
    checkpoints = sorted((tmp_path / "checkpoints").glob("step_*"))
    for path in (checkpoints[-1], tmp_path / "checkpoints" / "best"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    fit(build(), tmp_path, log_dir=tmp_path / "logs", log_every=1)
    for run, tag in (("train", "loss"), ("validation", "epoch_loss")):
        logs = events.read(tmp_path / "logs" / run)[tag]
        every = 1 if tag == "loss" else 4
        steps = [step for step, _ in logs]
        assert steps == list(range(every, 13, every))


def test_steps_that_loss_scaling_skips_are_none_in_the_curves(tmp_path):
    """The optimizer's steps are fewer than those of the run."""
    for again in (False, True):
        model = build(first_scale=3e38)
        fit(model, tmp_path, log_dir=tmp_path / "logs", log_every=1)
        if not again:
            shutil.rmtree(tmp_path / "checkpoints" / "step_0000000012")
            shutil.rmtree(tmp_path / "checkpoints" / "best")
    taken = int(tiny.array(model.optimizer.iterations))
    assert taken < 12
    logs = events.read(tmp_path / "logs" / "train")["loss"]
    # A first step of too large a scale leaves the number as it was.
    steps = [step for step, _ in logs if step > 4]
    assert steps == list(range(5, taken + 1))


def weighted(step, bad=lambda place: place == 3):
    """Batches with weights, of which one makes the loss NaN."""
    places = tf.data.Dataset.range(step, 2**62)
    data = tf.data.Dataset.zip(places, batches_from(step))
    return data.map(
        lambda place, batch: (
            *batch,
            tf.where(bad(place), float("nan"), tf.ones(4)),
        )
    )


def test_a_batch_that_makes_nan_is_skipped(tmp_path, capsys):
    model = build()
    _, progress = fit(
        model,
        tmp_path,
        batches_from=weighted,
        examples_of=lambda step: f"that of place {step}",
    )
    (event,) = progress.events
    assert event["step"] == 4 and event["skipped"] == 1
    assert event["examples"] == "that of place 3"
    assert "Its batch: that of place 3" in capsys.readouterr().out
    assert all(np.isfinite(array).all() for array in state(model))
    losses = [epoch["loss"] for epoch in progress.epochs]
    assert np.isfinite(losses).all()
    assert int(tiny.array(model.optimizer.iterations)) == 12


def test_nothing_but_nan_ends_training_and_saves_none(tmp_path):
    """What was seen of it is kept."""
    model = build()
    with pytest.raises(FloatingPointError, match="10 steps in a row") as error:
        fit(
            model,
            tmp_path,
            batches_from=lambda step: weighted(step, lambda place: place >= 0),
        )
    assert str(error.value).count("lower learning rate") == 1
    saved = json.loads((tmp_path / "progress.json").read_text())
    assert [e["skipped"] for e in saved["events"]] == list(range(1, 11))
    for path in (tmp_path / "checkpoints").glob("step_*/state.npz"):
        with np.load(path) as file:
            assert all(np.isfinite(file[key]).all() for key in file.files)


def test_weights_that_are_not_finite_are_said_once(tmp_path, monkeypatch):
    model = build()
    monkeypatch.setattr(
        igpt_keras.callbacks.training_checkpoint,
        "training_state",
        lambda model: ({"a": np.array([np.nan])}, {}),
    )
    with pytest.raises(FloatingPointError) as error:
        fit(model, tmp_path)
    text = str(error.value)
    assert text.startswith("Training diverged: weights are not finite after")
    assert text.count("Checkpoints in") == 1 and ".." not in text


def test_the_bar_of_a_run_that_goes_on_is_of_the_steps_left(
    tmp_path, capsys, signals
):
    """Speed and time left are of these steps alone."""
    with pytest.raises(SystemExit), interrupts.handled():
        fit(build(), tmp_path, callbacks=[Signal(7)])
    capsys.readouterr()
    fit(build(), tmp_path, verbose=1)
    bars = re.findall(r"^(\d+/\d+) - ", capsys.readouterr().out, re.MULTILINE)
    assert bars == ["1/1", "4/4"]


def test_a_lost_run_says_that_it_begins_again(tmp_path, capsys):
    fit(build(), tmp_path, steps=4)
    for path in sorted((tmp_path / "checkpoints").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    checkpoint = igpt_keras.TrainingCheckpoint(tmp_path / "checkpoints")
    progress = igpt_keras.Progress(tmp_path / "progress.json")
    training.fit(build(), batches_from, 4, 4, checkpoint, progress)
    assert "No checkpoint is left" in capsys.readouterr().out


def test_steps_of_a_call_divide_a_period(tmp_path):
    with pytest.raises(ValueError, match="steps_per_call=3 does not divide"):
        fit(build(), tmp_path, steps_per_call=3)
