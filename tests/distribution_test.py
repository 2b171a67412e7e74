"""Two replicas against one device, each in a process of its own."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow")

PROGRAM = """
import contextlib, sys
import keras, numpy as np, tensorflow as tf, tiny, igpt_keras

replicas, objective, dtype, path = sys.argv[1:]
keras.utils.set_random_seed(0)
scope = contextlib.nullcontext()
if replicas == "2":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    scope = strategy.scope()
with scope:
    size = {**tiny.SIZE, "num_layers": 2}
    model = igpt_keras.IGPT(**size, objective=objective, dtype=dtype)
    model.compile(keras.optimizers.SGD(0.5))
token_ids = tiny.token_ids(24)
labels = np.arange(24) % 3
inputs = token_ids
if objective == "bert":
    mask = tiny.mask(24)
    inputs = {"token_ids": token_ids, "mask": mask.astype("int32")}
    if replicas == "2":
        try:
            model.fit({"token_ids": token_ids, "mask": mask}, token_ids)
        except ValueError as error:
            assert "Cast the mask to int32" in str(error)
        else:
            raise SystemExit("a bool mask was taken")
train = tf.data.Dataset.from_tensor_slices((inputs, token_ids)).batch(8)
probe_set = tf.data.Dataset.from_tensor_slices((token_ids, labels)).batch(10)
probe = igpt_keras.LinearProbe(probe_set, probe_set, name="toy", verbose=0)
history = model.fit(
    train,
    validation_data=train,
    epochs=2,
    shuffle=False,
    callbacks=[probe, igpt_keras.TrainingCheckpoint(path + ".checkpoints")],
    verbose=0,
).history
resumed = igpt_keras.TrainingCheckpoint(path + ".checkpoints")
assert resumed.restore(model) == 2
weights = np.concatenate([tiny.array(v).ravel() for v in model.weights])
if replicas == "2":
    for variable in model.weights:
        copies = strategy.experimental_local_results(variable.value)
        assert len(copies) == 2
        np.testing.assert_array_equal(copies[0].numpy(), copies[1].numpy())
features, found = igpt_keras.extract_features(model, probe_set)
np.testing.assert_array_equal(found, labels)
np.savez(
    path,
    weights=weights,
    loss=history["loss"],
    val_loss=history["val_loss"],
    probe=np.array([r["accuracy"] for r in probe.history]),
    features=features,
)
"""


def run(replicas, objective, dtype, path, environment):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(replicas), objective, dtype, path],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return np.load(f"{path}.npz")


@pytest.mark.parametrize(
    "objective, dtype, tolerance",
    [
        ("autoregressive", "float32", 1e-5),
        ("bert", "float32", 1e-5),
        ("autoregressive", "mixed_bfloat16", 2e-2),
    ],
)
def test_two_replicas_equal_one(
    objective, dtype, tolerance, tmp_path, subprocess_environment
):
    one, two = (
        run(n, objective, dtype, str(tmp_path / f"{n}"), subprocess_environment)
        for n in (1, 2)
    )
    for key in ("weights", "loss", "val_loss", "features"):
        np.testing.assert_allclose(
            two[key], one[key], atol=tolerance, err_msg=key
        )
    assert np.isfinite(one["weights"]).all()
    if dtype == "float32":
        np.testing.assert_array_equal(one["probe"], two["probe"])
