"""`training.fit` on one device, on replicas, and with parts of batches."""

import forked
import numpy as np
import pytest

pytest.importorskip("tensorflow")

PROGRAM = """
import contextlib, pathlib, sys
import keras, numpy as np, tensorflow as tf, tiny, igpt_keras
from igpt_keras import training

layout, directory = sys.argv[1], pathlib.Path(sys.argv[2])
scope = contextlib.nullcontext
if layout == "replicas":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
how = {}
if layout == "parts":
    how = {"micro_batches": 2, "steps_per_call": 5}
token_ids = tiny.token_ids(40)
labels = (np.arange(40) % 3).astype("int32")
images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3))
images[4:] //= 4


class Sets:
    # Batches that are a function of the step.
    def __init__(self, *arrays):
        self.arrays = arrays

    def __call__(self, step):
        data = tf.data.Dataset.from_tensor_slices(self.arrays).repeat()
        return data.batch(8, drop_remainder=True).skip(step)


def run(name, model, batches, validation, **options):
    checkpoint = igpt_keras.TrainingCheckpoint(directory / layout / name)
    progress = igpt_keras.Progress(directory / f"{layout}_{name}.json")
    options = {**how, **options}
    training.fit(
        model, batches, 10, 5, checkpoint, progress, verbose=0,
        validation_data=validation, **options,
    )
    found[name] = np.concatenate(
        [tiny.array(v).ravel() for v in model.weights if "seed" not in v.path]
    )
    for key in progress.epochs[0]:
        found[f"{name} {key}"] = [epoch[key] for epoch in progress.epochs]


found = {}
for kind in ("autoregressive", "bert", "classifier", "clipped"):
    keras.utils.set_random_seed(0)
    objective = "bert" if kind == "bert" else "autoregressive"
    inputs, targets = token_ids, token_ids
    if kind == "bert":
        mask = tiny.mask(40).astype("int32")
        inputs = {"token_ids": token_ids, "mask": mask}
    with scope():
        size = {**tiny.SIZE, "num_layers": 1}
        model = igpt_keras.IGPT(**size, objective=objective)
        if kind == "classifier":
            model, targets = igpt_keras.IGPTClassifier(model, 3), labels
        clip_norm = 0.05 if kind == "clipped" else None
        adam = training.SafeAdam(0.01, clip_norm, epsilon=1e-4)
        # Adam's step forgets the scale of its gradients.
        if kind == "clipped":
            adam = training.SafeAdam(0.01, clip_norm, epsilon=1.0)
        model.compile(adam)
    # The last batch of 3: on replicas, of 2 and of 1.
    validation = tf.data.Dataset.from_tensor_slices((inputs, targets))
    validation = validation.take(35).batch(8)
    run(kind, model, Sets(inputs, targets), validation)
if layout != "parts":
    keras.utils.set_random_seed(0)
    with scope():
        quantizer = igpt_keras.layers.VectorQuantizer(16, 8, decay=0.9, seed=0)
        vq_vae = igpt_keras.VQVAE(8, 4, 16, quantizer)
        vq_vae.compile(keras.optimizers.SGD(0.1))
    images = images.astype("uint8")
    vq_vae.adapt(images)
    batches = Sets(images, np.zeros(8, "int32"))
    run("vq_vae", vq_vae, batches, batches(0).take(3))
    found["revived"] = tiny.array(quantizer.revived)
if layout == "replicas":
    # Stopped by a signal in the middle of an epoch, and continued.
    from igpt_keras.program import interrupts

    def dropped(seed, path, callbacks=()):
        keras.utils.set_random_seed(seed)
        with scope():
            size = {**tiny.SIZE, "num_layers": 1, "dropout": 0.3}
            model = igpt_keras.IGPT(**size)
            model.compile(training.SafeAdam(0.01))
        training.fit(
            model, Sets(token_ids, token_ids), 8, 4,
            igpt_keras.TrainingCheckpoint(directory / layout / path),
            igpt_keras.Progress(directory / f"{layout}_{path}.json"),
            callbacks=callbacks, verbose=0,
        )
        variables = (*model.variables, *model.optimizer.variables)
        return [tiny.array(v) for v in variables]

    def stop(batch, logs):
        import os, signal
        if batch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = dropped(0, "whole")
    try:
        with interrupts.handled():
            callback = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
            dropped(0, "stopped", [callback])
    except SystemExit as error:
        assert error.code == 130
    else:
        raise SystemExit("the signal was lost")
    for one, two in zip(whole, dropped(1, "stopped"), strict=True):
        np.testing.assert_array_equal(one, two)
    found["continued"] = 1
np.savez(directory / f"{layout}.npz", **found)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each layout ended with."""
    import os

    from conftest import ROOT

    directory = tmp_path_factory.mktemp("layouts")
    path = f"{ROOT}:{ROOT / 'tests'}"
    environment = {**os.environ, "PYTHONPATH": path}
    processes = {
        layout: forked.Process(
            ["-c", PROGRAM, layout, directory], env=environment
        )
        for layout in ("one", "replicas", "parts")
    }
    for layout, process in processes.items():
        _, errors = process.communicate()
        assert process.returncode == 0, f"{layout}: {errors[-4000:]}"
    return {
        layout: dict(np.load(directory / f"{layout}.npz"))
        for layout in processes
    }


@pytest.mark.parametrize("layout", ["replicas", "parts"])
def test_equals_one_device(layout, found):
    one, other = found["one"], found[layout]
    names = {"autoregressive", "bert", "classifier", "clipped"}
    assert names <= set(other) and (layout == "parts" or "vq_vae" in other)
    for key in other.keys() - {"continued"}:
        # Keras counts a last batch of a few images as much as the others.
        if key.endswith("_logits_loss") and " val_" in key:
            continue
        np.testing.assert_allclose(
            other[key], one[key], rtol=1e-5, atol=1e-5, err_msg=key
        )


def test_stopped_and_continued_is_the_same_to_the_bit(found):
    assert found["replicas"]["continued"]


def test_something_was_compared(found):
    one = found["one"]
    assert one["revived"] > 0
    losses = one["autoregressive loss"]
    assert losses[1] < losses[0]
    assert np.abs(one["clipped"] - one["autoregressive"]).max() > 1e-2
    assert 0 < one["classifier val_class_logits_accuracy"][-1] <= 1
