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
import pathlib, sys
import jax, keras, numpy as np, tensorflow as tf, tiny, igpt_keras
from igpt_keras import training

layout, directory = sys.argv[1], pathlib.Path(sys.argv[2])
assert len(jax.devices()) == 4
devices = training.Devices(
    data_parallel={"data": 4, "mesh": 2}.get(layout),
    model_parallel={"data": 1, "mesh": 2}.get(layout),
)
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


def run(name, model, batches, validation, steps=10, callbacks=(), **options):
    checkpoint = igpt_keras.TrainingCheckpoint(directory / name)
    progress = igpt_keras.Progress(directory / f"{name}.json")
    training.fit(
        model, batches, steps, 5, checkpoint, progress, callbacks, verbose=0,
        validation_data=validation, **options,
    )
    found[name] = np.concatenate(
        [tiny.array(v).ravel() for v in model.weights if "seed" not in v.path]
    )
    for key in progress.epochs[0]:
        found[f"{name} {key}"] = [epoch[key] for epoch in progress.epochs]


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


def build(kind):
    keras.utils.set_random_seed(0)
    objective = "bert" if kind == "bert" else "autoregressive"
    with devices.scope(8):
        model = igpt_keras.IGPT(**SIZE, objective=objective)
        if kind == "classifier":
            model = igpt_keras.IGPTClassifier(model, 3)
        model.compile(training.SafeAdam(0.01, 0.5, epsilon=1e-4))
    inputs = token_ids
    if kind == "bert":
        mask = tiny.mask(40).astype("int32")
        inputs = {"token_ids": token_ids, "mask": mask}
    return model, inputs, labels if kind == "classifier" else token_ids


found = {}
for kind in ("autoregressive", "bert", "classifier"):
    model, inputs, targets = build(kind)
    # The last batch of 3, for which there are four devices.
    validation = tf.data.Dataset.from_tensor_slices((inputs, targets))
    validation = validation.take(35).batch(8)
    probes = []
    if kind == "autoregressive":
        labelled = tf.data.Dataset.from_tensor_slices((token_ids, labels))
        labelled = labelled.batch(16).take(3)
        probes = [igpt_keras.LinearProbe(labelled, labelled, verbose=0)]
    parts = 2 if kind == "bert" else 1
    run(
        kind, model, Sets(inputs, targets), validation, callbacks=probes,
        micro_batches=parts,
    )
    if probes:
        found["probe"] = probes[0].history[-1]["accuracy"]
        found["samples"] = igpt_keras.sample(model, 3, seed=1)
        if layout == "mesh":
            check_shards(model)
if layout == "data":
    step = training.train_step.train_step(model, 2)
if layout != "mesh":
    keras.utils.set_random_seed(0)
    with devices.scope(8):
        quantizer = igpt_keras.layers.VectorQuantizer(16, 8, decay=0.9, seed=0)
        vq_vae = igpt_keras.VQVAE(8, 4, 16, quantizer)
        vq_vae.compile(keras.optimizers.SGD(0.1))
    images = images.astype("uint8")
    vq_vae.adapt(images)
    batches = Sets(images, np.zeros(8, "int32"))
    run("vq_vae", vq_vae, batches, batches(0).take(3))
    found["revived"] = tiny.array(quantizer.revived)
np.savez(directory / "found.npz", **found)
"""
