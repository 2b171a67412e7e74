"""`training.fit` on meshes of four devices of JAX, and on one."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")
pytest.importorskip("jax")

PROGRAM = """
import pathlib, shutil, sys
import jax, keras, numpy as np, tensorflow as tf, tiny, igpt_keras
from igpt_keras import training

directory = pathlib.Path(sys.argv[1])
assert len(jax.devices()) == 4
token_ids = tiny.token_ids(40)
labels = (np.arange(40) % 3).astype("int32")
images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3))
images[4:] //= 4
SIZE = {**tiny.SIZE, "num_layers": 1, "num_heads": 2, "hidden_dim": 16}


class Sets:
    # Batches that are a function of the step.
    def __init__(self, *arrays):
        self.arrays = arrays

    def __call__(self, step):
        data = tf.data.Dataset.from_tensor_slices(self.arrays).repeat()
        return data.batch(8, drop_remainder=True).skip(step)


def run(model, batches, name, steps=10, **options):
    checkpoint = igpt_keras.TrainingCheckpoint(directory / name)
    progress = igpt_keras.Progress(directory / f"{name}.json")
    training.fit(
        model, batches, steps, 5, checkpoint, progress, verbose=0, **options
    )
    found = {
        key: [epoch[key] for epoch in progress.epochs]
        for key in progress.epochs[0]
    }
    weights = [tiny.array(v).ravel() for v in model.weights]
    return {**found, "weights": np.concatenate(weights)}


def resume(model, batches, source, name):
    # The last five steps after the first five of another layout.
    shutil.copytree(directory / source, directory / name)
    shutil.rmtree(directory / name / "step_0000000010")
    shutil.rmtree(directory / name / "best", ignore_errors=True)
    return run(model, batches, name)["weights"]


def check_shards(model):
    # Of an IGPT on two by two devices.
    block = model.blocks[0]
    slots = {v.path: v for v in model.optimizer.variables}
    for variable, axis in (
        (block.attention.query.kernel, 1),
        (block.attention.output_projection.kernel, 0),
        (block.mlp_up.kernel, 1),
        (block.mlp_down.kernel, 0),
        (model.embedding.token_embedding, 1),
        (model.head.kernel, 0),
    ):
        name = variable.path.replace("/", "_")
        moments = [v for path, v in slots.items() if name in path]
        assert len(moments) == 2, (name, sorted(slots))
        for found in (variable, *moments):
            split = found.value.sharding.spec
            expected = [None] * len(found.shape)
            expected[axis] = "model"
            assert list(split) + [None] * (len(expected) - len(split)) == (
                expected
            ), (found.path, split)
    values = [v.value for v in (*model.weights, *model.optimizer.variables)]
    whole = sum(value.nbytes for value in values)
    here = sum(value.addressable_shards[0].data.nbytes for value in values)
    assert here < 0.6 * whole, (here, whole)


def build(kind, devices):
    keras.utils.set_random_seed(0)
    objective = "bert" if kind == "bert" else "autoregressive"
    with devices.scope(8):
        model = igpt_keras.IGPT(**SIZE, objective=objective)
        if kind == "classifier":
            model = igpt_keras.IGPTClassifier(model, 3)
        model.compile(training.SafeAdam(0.01, 0.5, epsilon=1e-4))
    return model


def train(kind, layout, devices):
    model = build(kind, devices)
    inputs = token_ids
    targets = labels if kind == "classifier" else token_ids
    if kind == "bert":
        mask = tiny.mask(40).astype("int32")
        inputs = {"token_ids": token_ids, "mask": mask}
    batches, name = Sets(inputs, targets), f"{layout} {kind}"
    if kind == "bert":
        found = run(model, batches, name, micro_batches=2)
        flops[layout] = share_of_work(model, next(iter(batches(0))))
        return found
    validation, probes = None, []
    if kind == "classifier":
        # The last batch of 3, for which there are four devices, or two.
        validation = tf.data.Dataset.from_tensor_slices((inputs, targets))
        validation = validation.take(11).batch(8)
    else:
        labelled = [(token_ids, labels), (token_ids[:30], labels[:30])]
        probes = [igpt_keras.LinearProbe(labelled, labelled, verbose=0)]
    found = run(
        model, batches, name, validation_data=validation, callbacks=probes
    )
    if probes:
        found["probe"] = probes[0].history[-1]["accuracy"]
        if layout != "data":
            found["samples"] = igpt_keras.sample(model, 3, seed=1)
        if layout == "mesh":
            check_shards(model)
            found["resumed"] = resume(
                model, batches, f"one {kind}", "one, then mesh"
            )
    return found


def share_of_work(model, batch):
    # Operations of a device in a training step.
    step = training.train_step.train_step(model, 2)
    state = [[v.value for v in group] for group in step._variables()]
    batch = keras.tree.map_structure(np.asarray, batch)
    if keras.distribution.distribution() is not None:
        batch = igpt_keras.backend.place_batch(batch)
    compiled = step._jitted.lower(state, batch).compile()
    return compiled.cost_analysis()["flops"]


def train_vq_vae(layout, devices):
    keras.utils.set_random_seed(0)
    with devices.scope(8):
        quantizer = igpt_keras.layers.VectorQuantizer(16, 8, decay=0.9, seed=0)
        vq_vae = igpt_keras.VQVAE(8, 4, 16, quantizer)
        vq_vae.compile(keras.optimizers.SGD(0.1))
    pixels = images.astype("uint8")
    batches = Sets(pixels, np.zeros(8, "int32"))
    found = run(vq_vae, batches, f"{layout} vq_vae")
    return {**found, "revived": tiny.array(quantizer.revived)}


found, flops = {}, {}
for layout, sizes in (
    ("one", (None, None)), ("data", (4, 1)), ("mesh", (2, 2))
):
    devices = training.Devices("auto", None, *sizes)
    for kind in ("autoregressive", "bert", "classifier"):
        if (layout, kind) != ("data", "classifier"):
            found[layout, kind] = train(kind, layout, devices)
    if layout != "mesh":
        found[layout, "vq_vae"] = train_vq_vae(layout, devices)
keras.distribution.set_distribution(None)
model = build("autoregressive", training.Devices())
found["one", "resumed"] = {
    "weights": resume(
        model, Sets(token_ids, token_ids), "mesh autoregressive",
        "mesh, then one",
    )
}
np.savez(directory / "found.npz", **{
    f"{layout}/{kind}/{key}": value
    for (layout, kind), values in found.items()
    for key, value in values.items()
}, **{f"flops/{layout}": value for layout, value in flops.items()})
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each layout ended with."""
    directory = tmp_path_factory.mktemp("sharding")
    run(PROGRAM, directory, JAX_COMPILATION_CACHE_DIR=str(directory / "jax"))
    return dict(np.load(directory / "found.npz"))


def run(program, *arguments, **environment):
    """A program on four devices of JAX; what it said in the end."""
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program]
        + [str(argument) for argument in arguments],
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
            # Most of the time is compilation.
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
            **environment,
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


@pytest.mark.parametrize("layout", ["data", "mesh"])
def test_equals_one_device(layout, found):
    """Losses, weights, validation, probes, samples."""
    compared = 0
    for key, value in found.items():
        if not key.startswith("one/") or key == "one/resumed/weights":
            continue
        other = key.replace("one/", f"{layout}/")
        if other not in found:
            assert any(
                part in key for part in ("vq_vae", "samples", "classifier")
            )
            continue
        compared += 1
        np.testing.assert_allclose(
            found[other], value, rtol=1e-5, atol=1e-5, err_msg=other
        )
    assert compared >= 20
    losses = found["one/autoregressive/loss"]
    assert losses[1] < losses[0] - 1e-2
    assert layout == "mesh" or found["one/vq_vae/revived"] > 0


def test_a_run_goes_on_with_other_devices(found):
    """From one to a mesh, and from a mesh to one."""
    weights = found["one/autoregressive/weights"]
    for key in ("mesh/autoregressive/resumed", "one/resumed/weights"):
        np.testing.assert_allclose(found[key], weights, atol=1e-5, err_msg=key)


def test_devices_share_the_work(found):
    """Of a batch in two parts, too."""
    for layout in ("data", "mesh"):
        assert found[f"flops/{layout}"] < 0.4 * found["flops/one"]
