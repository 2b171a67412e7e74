"""Two replicas against one device, in a process each."""

import forked
import numpy as np
import pytest

pytest.importorskip("tensorflow")

# `training.fit` has its own test, `training/layouts_test.py`.
PROGRAM = """
import contextlib, sys
import keras, numpy as np, tensorflow as tf, tiny, igpt_keras

replicas, directory, *cases = sys.argv[1:]
scope = contextlib.nullcontext
if replicas == "2":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    scope = strategy.scope

for case in cases:
    kind, dtype = case.split("-")
    objective = "bert" if kind == "bert" else "autoregressive"
    keras.utils.set_random_seed(0)
    with scope():
        size = {**tiny.SIZE, "num_layers": 1}
        size["attention"] = "prefix_causal" if kind == "prefix" else None
        model = igpt_keras.IGPT(**size, objective=objective, dtype=dtype)
        targets = token_ids = tiny.token_ids(27)
        if kind == "classifier":
            targets = np.arange(27) % 3
            model = igpt_keras.IGPTClassifier(model, 3)
        # Its step from zero gradients, those of a fresh model, is no rounding.
        model.compile(
            keras.optimizers.Adam(0.01, epsilon=1e-4),
            weighted_metrics=["accuracy"],
        )
    labels = np.arange(27) % 3
    inputs = token_ids
    if kind == "prefix":
        lengths = np.arange(27, dtype="int32") % 16
        inputs = {"token_ids": token_ids, "prefix_length": lengths}
    if objective == "bert":
        mask = tiny.mask(27)
        inputs = {"token_ids": token_ids, "mask": mask.astype("int32")}
        if replicas == "2":
            try:
                model.fit({"token_ids": token_ids, "mask": mask}, token_ids)
            except ValueError as error:
                assert "Cast the mask to int32" in str(error)
            else:
                raise SystemExit("a bool mask was taken")
    if replicas == "2":
        few = [
            keras.tree.map_structure(lambda x: x[:7], x)
            for x in (inputs, targets)
        ]
        for method in (model.fit, model.evaluate):
            try:
                method(*few, verbose=0)
            except ValueError as error:
                assert "The first batch has 7 images for 2" in str(error)
            else:
                raise SystemExit("an uneven first batch was taken")
    # The last batch is of three: on two replicas, of three and of none.
    train = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(8)
    probe_set = tf.data.Dataset.from_tensor_slices((token_ids, labels))
    probe_set = probe_set.batch(10)
    probe = igpt_keras.LinearProbe(probe_set, probe_set, name="toy", verbose=0)
    checkpoint = igpt_keras.TrainingCheckpoint(f"{directory}/{case}-{replicas}")
    history = model.fit(
        train,
        validation_data=train,
        epochs=2,
        shuffle=False,
        callbacks=[checkpoint] + [probe] * (kind != "classifier"),
        verbose=0,
    ).history
    assert checkpoint.restore(model) == 2
    if replicas == "2":
        for variable in model.weights:
            copies = strategy.experimental_local_results(variable.value)
            assert len(copies) == 2
            np.testing.assert_array_equal(copies[0].numpy(), copies[1].numpy())
    features, found = igpt_keras.extract_features(model, probe_set)
    np.testing.assert_array_equal(found, labels)
    np.savez(
        f"{directory}/{case}-{replicas}.npz",
        weights=np.concatenate([tiny.array(v).ravel() for v in model.weights]),
        loss=history["loss"],
        val_loss=history["val_loss"],
        accuracy=next(v for k, v in history.items() if "accuracy" in k),
        probe=np.array([r["accuracy"] for r in probe.history]),
        features=features,
    )

# Probes by SGD, on batches of the same sizes.
with scope():
    grid = igpt_keras.probes.ProbeGrid(tiny.model(), 3, [0, 2], [1.0, 0.1])
    grid.compile(8)
labelled = tf.data.Dataset.from_tensor_slices((token_ids, labels)).batch(8)
history = grid.fit(labelled, epochs=2, shuffle=False, verbose=0).history
grid.evaluate(labelled, verbose=0)
np.savez(
    f"{directory}/grid-{replicas}.npz",
    weights=tiny.array(grid.kernel),
    loss=history["loss"],
    accuracy=grid.accuracies,
)
"""


@pytest.mark.parametrize(
    "cases",
    [
        ["bert-float32"],
        pytest.param(
            [
                "prefix-float32",
                "classifier-float32",
                "autoregressive-mixed_bfloat16",
            ],
            marks=pytest.mark.large,
        ),
    ],
)
def test_two_replicas_equal_one(cases, tmp_path, subprocess_environment):
    for replicas in ("1", "2"):
        result = forked.run(
            ["-c", PROGRAM, replicas, tmp_path, *cases],
            env=subprocess_environment,
        )
        assert result.returncode == 0, result.stderr[-4000:]
    for case in cases:
        tolerance = 2e-2 if case.endswith("bfloat16") else 1e-5
        one, two = (np.load(tmp_path / f"{case}-{n}.npz") for n in (1, 2))
        assert np.isfinite(one["weights"]).all()
        for key in ("weights", "loss", "val_loss", "accuracy", "features"):
            np.testing.assert_allclose(
                two[key], one[key], atol=tolerance, err_msg=f"{case} {key}"
            )
        if case.endswith("float32"):
            np.testing.assert_array_equal(one["probe"], two["probe"])
    one, two = (np.load(tmp_path / f"grid-{n}.npz") for n in (1, 2))
    assert np.abs(one["weights"]).max() > 0.1
    for key in ("weights", "loss", "accuracy"):
        np.testing.assert_allclose(
            two[key], one[key], rtol=1e-4, atol=1e-5, err_msg=f"grid {key}"
        )


VQ_VAE_PROGRAM = """
import contextlib, os, sys
import keras, numpy as np, tiny, igpt_keras
from igpt_keras.layers import VectorQuantizer

replicas, path = int(sys.argv[1]), sys.argv[2]
scope = contextlib.nullcontext
if keras.backend.backend() == "jax":
    if replicas == 2:
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        assert len(keras.distribution.list_devices()) == 2
elif replicas == 2:
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    scope = strategy.scope
keras.utils.set_random_seed(0)
# The second half, the second replica's, is darker.
images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3))
images[4:] //= 4
images = images.astype("uint8")
with scope():
    quantizer = VectorQuantizer(16, 8, decay=0.9, seed=0)
    vq_vae = igpt_keras.VQVAE(8, 4, 16, quantizer)
    vq_vae.compile(keras.optimizers.SGD(0.1))
found = {}
for steps in (1, 4):
    history = vq_vae.fit(
        images, batch_size=8, epochs=steps, shuffle=False, verbose=0
    ).history
    if keras.backend.backend() == "tensorflow" and replicas == 2:
        for variable in vq_vae.weights:
            a, b = strategy.experimental_local_results(variable.value)
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    for variable in quantizer.weights:
        found[f"{variable.name} after {steps}"] = tiny.array(variable)
    for name, values in history.items():
        found[f"{name} after {steps}"] = values
    found[f"weights after {steps}"] = np.concatenate(
        [tiny.array(v).ravel() for v in vq_vae.trainable_weights]
    )
before = [tiny.array(v) for v in quantizer.weights]
found["evaluated"] = list(
    vq_vae.evaluate(images, batch_size=8, verbose=0, return_dict=True).values()
)
for variable, value in zip(quantizer.weights, before):
    np.testing.assert_array_equal(tiny.array(variable), value)
# Last batches of 3 and 1: a replica has more than the other, or nothing.
for count in (7, 5):
    few = images[-count:]

    def refused(method, message, *arguments, **options):
        before = [tiny.array(v) for v in vq_vae.variables]
        try:
            method(*arguments, **options)
        except ValueError as error:
            assert message in str(error), error
        else:
            raise SystemExit(f"{message}: no error")
        for variable, value in zip(vq_vae.variables, before):
            np.testing.assert_array_equal(tiny.array(variable), value)

    if replicas == 2:
        uneven = "images for 2 replicas"
        refused(vq_vae.fit, uneven, few, batch_size=8)
        refused(vq_vae.evaluate, uneven, few, batch_size=8)
        validation = {"validation_data": (few, None), "batch_size": 8}
        refused(vq_vae.fit, uneven, images, **validation)
        if keras.backend.backend() == "jax":
            refused(vq_vae.fit, "The last batch has", few, batch_size=4)
            continue
        dataset = tf.data.Dataset.from_tensor_slices(few).batch(8)
        refused(vq_vae.fit, uneven, dataset)
        refused(vq_vae.train_on_batch, "once for each", images)
    elif keras.backend.backend() == "jax":
        continue
    options = {"batch_size": 4, "verbose": 0}
    history = vq_vae.fit(few, epochs=2, shuffle=False, **options).history
    for name, values in history.items():
        found[f"{name} of {count}"] = values
    for variable in vq_vae.weights:
        found[f"{variable.path} of {count}"] = tiny.array(variable)
    logs = vq_vae.evaluate(few, return_dict=True, **options)
    found[f"evaluated {count}"] = list(logs.values())
    logs = vq_vae.test_on_batch(few, return_dict=True)
    found[f"test_on_batch {count}"] = list(logs.values())
    # One value of all images, whatever the batches.
    np.testing.assert_allclose(
        found[f"test_on_batch {count}"], found[f"evaluated {count}"], rtol=1e-4
    )
np.savez(path, **found)
"""


@pytest.mark.parametrize(
    "backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.large)]
)
def test_codebook_is_that_of_the_whole_batch(
    backend, tmp_path, subprocess_environment
):
    pytest.importorskip(backend)
    found = []
    for replicas in (1, 2):
        path = tmp_path / f"{replicas}.npz"
        flag = f"--xla_force_host_platform_device_count={replicas}"
        result = forked.run(
            ["-c", VQ_VAE_PROGRAM, str(replicas), path],
            env={
                **subprocess_environment,
                "KERAS_BACKEND": backend,
                "XLA_FLAGS": flag,
            },
        )
        assert result.returncode == 0, result.stderr[-4000:]
        found.append(np.load(path))
    one, two = found
    assert one["revived after 4"] > 0
    for key in one.files:
        tolerance = 1e-6 if key.endswith("after 1") else 1e-5
        np.testing.assert_allclose(
            two[key], one[key], rtol=1e-5, atol=tolerance, err_msg=key
        )


SAMPLING_PROGRAM = """
import sys
import keras, numpy as np, tensorflow as tf, tiny, igpt_keras

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
alone = tiny.model(num_layers=1)
with strategy.scope():
    spread = tiny.model(num_layers=1)
prompt = tiny.token_ids(5)[:, :8]
expected = igpt_keras.sample(alone, 5, seed=1)
completed = igpt_keras.sample(alone, 5, prompt=prompt)



def check_both(expected):
    for model in (spread, alone):
        with strategy.scope():
            inside = igpt_keras.sample(model, len(expected), seed=1)
        outside = igpt_keras.sample(model, len(expected), seed=1)
        np.testing.assert_array_equal(inside, expected)
        np.testing.assert_array_equal(outside, expected)


check_both(expected)
found = igpt_keras.sample(spread, 5, prompt=prompt)
np.testing.assert_array_equal(found, completed)
# Fewer images than replicas.
found = igpt_keras.sample(spread, 1, seed=1)
np.testing.assert_array_equal(found, expected[:1])
if sys.argv[1:] != ["all"]:
    sys.exit()
np.testing.assert_array_equal(
    igpt_keras.sample(alone, 5, prompt=prompt), completed
)
check_both(igpt_keras.sample(alone, 1, seed=1))
# Compiled by XLA, as long images are.
from igpt_keras.models import sampling
sampling.XLA_STEPS = 1
spread.__dict__["_samplers"].clear()
found = igpt_keras.sample(spread, 5, seed=1)
np.testing.assert_array_equal(found, expected)
"""


@pytest.mark.parametrize(
    "how", [[], pytest.param(["all"], marks=pytest.mark.large)]
)
def test_sampling_is_the_same_inside_and_outside_of_a_strategy(
    how, subprocess_environment
):
    result = forked.run(
        ["-c", SAMPLING_PROGRAM, *how], env=subprocess_environment
    )
    assert result.returncode == 0, result.stderr[-4000:]
