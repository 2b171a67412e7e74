"""Steps of training a VQ-VAE, however they are run."""

import forked
import keras
import numpy as np
import pytest
from tiny import array

import igpt_keras
from igpt_keras.layers import FiniteScalarQuantizer
from igpt_keras.layers import VectorQuantizer


def build(quantizer=None, **arguments):
    """With a decay that has codes revived in the first steps."""
    keras.utils.set_random_seed(0)
    if quantizer is None:
        quantizer = VectorQuantizer(16, 8, decay=0.5, seed=0, **arguments)
    return igpt_keras.VQVAE(8, 4, 16, quantizer)


def pictures(count=12, seed=0):
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (count, 2, 2, 3))
    return small.repeat(4, axis=1).repeat(4, axis=2).astype("uint8")


def gradients(model, images):
    """Of the loss as `compute_loss` has it, by the backend's own means."""

    def loss(outputs):
        return model.compute_loss(x=images, y_pred=outputs)

    if keras.backend.backend() == "jax":
        import jax

        def of_variables(values, others):
            outputs, _ = model.stateless_call(values, others, images)
            return loss(outputs)

        values = [v.value for v in model.trainable_variables]
        others = [v.value for v in model.non_trainable_variables]
        return [array(g) for g in jax.grad(of_variables)(values, others)]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = loss(model(images))
    found = tape.gradient(value, model.trainable_variables)
    # One slice for each occurrence, which Adam squares one by one.
    assert not any(isinstance(g, tf.IndexedSlices) for g in found)
    return [array(g) for g in found]


@pytest.mark.parametrize("kind", ["ema", "fsq"])
def test_adam_moves_every_variable_as_numpy_does(kind):
    fsq = FiniteScalarQuantizer((4, 4))
    model = build(fsq if kind == "fsq" else None)
    # A loss that is far from 0, so that no gradient is only rounding.
    images = pictures()
    model.adapt(images)
    model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-7))
    weights = [array(v).astype("float64") for v in model.trainable_variables]
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    for step in (1, 2):
        for i, g in enumerate(gradients(model, images)):
            assert np.abs(g).max() > 0
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * np.square(g, dtype=float)
            rate = 1e-3 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            weights[i] -= rate * first[i] / (np.sqrt(second[i]) + 1e-7)
        model.train_on_batch(images)
        for variable, expected in zip(model.trainable_variables, weights):
            np.testing.assert_allclose(
                array(variable), expected, atol=2e-6, err_msg=variable.path
            )


def loss_of(outputs, pixels, loss):
    error = array(outputs["reconstructions"]) - pixels
    return (np.square(error) if loss == "l2" else np.abs(error)).mean()


@pytest.mark.parametrize("loss", ["l2", "l1"])
@pytest.mark.parametrize("cost", [0.0, 0.7])
def test_loss_is_what_was_asked_for(loss, cost):
    """The kind of `loss` and the weight of the commitment, in numbers."""
    names = {"l2": "mean_squared_error", "l1": "mean_absolute_error"}
    images = pictures()
    model = build(commitment_cost=cost)
    model.adapt(images)
    # Far from their codes, so that the commitment counts.
    model.quantizer.codebook.assign(3 + array(model.quantizer.codebook))
    model.compile(loss=names[loss])
    pixels = array(model.normalize(images))
    encodings = array(model.encoder(pixels))
    outputs = model(images)
    codes = array(model.quantizer.lookup(outputs["token_ids"]))
    commitment = cost * np.square(encodings - codes).mean()
    assert commitment > 3 or cost == 0
    found = model.test_on_batch(images, return_dict=True)
    np.testing.assert_allclose(found["commitment"], commitment, rtol=1e-4)
    expected = loss_of(outputs, pixels, loss) + commitment
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-4)


def test_commitment_moves_the_encoder_in_proportion():
    images = pictures()
    steps = []
    for cost in (0.0, 1.0, 3.0):
        model = build(commitment_cost=cost)
        model.adapt(images)
        model.compile(keras.optimizers.SGD(1.0))
        before = array(model.encoder.layers[-1].kernel)
        model.train_on_batch(images)
        steps.append(array(model.encoder.layers[-1].kernel) - before)
    assert np.abs(steps[1] - steps[0]).max() > 1e-4
    np.testing.assert_allclose(
        steps[2] - steps[0], 3 * (steps[1] - steps[0]), atol=1e-6
    )


def trained(**arguments):
    """Weights and codebook after steps that revive codes."""
    model = build()
    model.compile(keras.optimizers.SGD(0.1), **arguments)
    model.fit(pictures(), batch_size=6, epochs=2, shuffle=False, verbose=0)
    return model


@pytest.mark.compiled
def test_a_seed_is_one_run_however_it_is_run():
    expected = trained(jit_compile=True)
    assert array(expected.quantizer.revived) > 2
    for arguments in ({"jit_compile": False}, {"run_eagerly": True}):
        found = trained(**arguments)
        for a, b in zip(found.variables, expected.variables):
            np.testing.assert_allclose(
                array(a), array(b), rtol=1e-4, atol=1e-5, err_msg=a.path
            )


@pytest.mark.large
def test_same_on_tensorflow_and_jax(tmp_path, subprocess_environment):
    """Ten steps of Adam, revived codes among them, from the same weights."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("jax")
    program = (
        "import sys, keras, numpy as np, igpt_keras, tiny\n"
        "from tokenizers.vq_vae_training_test import pictures\n"
        "model = igpt_keras.VQVAE.from_preset(sys.argv[1])\n"
        "model.compile(keras.optimizers.Adam(1e-3))\n"
        "model.fit(pictures(), batch_size=6, epochs=5, shuffle=False,\n"
        "    verbose=0)\n"
        "assert tiny.array(model.quantizer.revived) > 2\n"
        "np.savez(sys.argv[2], *[tiny.array(v) for v in model.weights])\n"
    )
    build().save_to_preset(tmp_path / "preset")
    results = []
    for backend in ("tensorflow", "jax"):
        path = tmp_path / f"{backend}.npz"
        result = forked.run(
            ["-c", program, tmp_path / "preset", path],
            env={**subprocess_environment, "KERAS_BACKEND": backend},
        )
        assert result.returncode == 0, result.stderr[-3000:]
        results.append(np.load(path))
    for key in results[0].files:
        a, b = (result[key] for result in results)
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=key)
