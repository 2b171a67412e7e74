"""Every step compiles by XLA, as TPUs need: static shapes, no host code."""

import keras
import numpy as np
import pytest
import tiny

import igpt_keras
from igpt_keras.probes.features import FeatureModel
from igpt_keras.training.train_step import train_step

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.compiled


def build(kind, jit_compile):
    """A compiled model, and a batch."""
    keras.utils.set_random_seed(0)
    token_ids = tiny.token_ids(4)
    if kind == "vq_vae":
        images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3))
        images = images.astype("uint8")
        model = igpt_keras.VQVAE(8, 4, 16)
        model.adapt(images)
        batch = (images, np.zeros(4, "int32"))
    else:
        objective = "bert" if kind == "bert" else "autoregressive"
        size = {**tiny.SIZE, "num_layers": 1, "dropout": 0.1}
        model = igpt_keras.IGPT(**size, objective=objective)
        batch = (token_ids, token_ids)
        if kind == "bert":
            mask = tiny.mask(4).astype("int32")
            batch = ({"token_ids": token_ids, "mask": mask}, token_ids)
        elif kind == "classifier":
            model = igpt_keras.IGPTClassifier(model, 3)
            batch = (token_ids, np.arange(4, dtype="int32") % 3)
    # Adam's step forgets how small a gradient is.
    adam = igpt_keras.training.SafeAdam(0.01, epsilon=1e-3)
    model.compile(adam, jit_compile=jit_compile)
    return model, batch


@pytest.mark.parametrize(
    "kind",
    [
        "bert",
        *(
            pytest.param(kind, marks=pytest.mark.large)
            for kind in ("vq_vae", "classifier")
        ),
    ],
)
def test_steps_are_the_same_compiled(kind):
    found = []
    for jit_compile in (False, True):
        model, batch = build(kind, jit_compile)
        with keras.device("cpu"):
            model._symbolic_build(data_batch=batch)
        step = train_step(model, micro_batches=1 if kind == "vq_vae" else 2)
        data = tf.data.Dataset.from_tensors(batch).repeat()
        iterator = step.iterate(lambda start: data, 0)
        losses = [step(iterator)[0] for _ in range(2)]
        evaluate = tf.function(model.test_step, jit_compile=jit_compile)
        logs = evaluate(tf.nest.map_structure(tf.constant, batch))
        found.append((losses, [float(x) for x in logs.values()]))
    for one, two in zip(*found):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["autoregressive", "bert"])
def test_features_are_the_same_compiled(kind):
    model = tiny.model(kind)
    inputs = {"token_ids": tf.constant(tiny.token_ids(4))}
    if kind == "bert":
        inputs["mask"] = tf.constant(tiny.mask(4).astype("int32"))
    feature_model = FeatureModel(model)

    def features(inputs):
        if kind == "autoregressive":
            inputs = inputs["token_ids"]
        return feature_model.features(inputs)

    plain, compiled = (
        tf.function(features, jit_compile=jit_compile)(inputs)
        for jit_compile in (False, True)
    )
    np.testing.assert_allclose(plain, compiled, rtol=1e-4, atol=1e-4)
