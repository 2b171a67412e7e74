import json

import keras
import numpy as np
import pytest
from gradients import gradient
from keras import ops
from tiny import array

from igpt_keras.layers import VectorQuantizer

SIZE, WIDTH = 6, 3


def build(size=SIZE, width=WIDTH, **arguments):
    quantizer = VectorQuantizer(size, width, seed=0, **arguments)
    quantizer.build((None, None, None, width))
    return quantizer


def vectors(batch=5, seed=0, scale=1.0):
    generator = np.random.default_rng(seed)
    shape = (batch, 2, 3, WIDTH)
    return (scale * generator.normal(size=shape)).astype("float32")


def state(quantizer):
    return {v.name: array(v).astype("float64") for v in quantizer.weights}


def nearest(codebook, inputs):
    difference = inputs[..., None, :].astype("float64") - codebook
    return np.square(difference).sum(axis=-1).argmin(axis=-1)


def numpy_step(before, inputs, decay):
    """One update without revival, by the formulas of the paper it is from."""
    ids = nearest(before["codebook"], inputs).ravel()
    flat = inputs.reshape(-1, WIDTH).astype("float64")
    after = {"counts": [], "sums": []}
    for code in range(SIZE):
        mine = flat[ids == code]
        after["counts"].append(
            decay * before["counts"][code] + (1 - decay) * len(mine)
        )
        after["sums"].append(
            decay * before["sums"][code] + (1 - decay) * mine.sum(axis=0)
        )
    after = {name: np.array(value) for name, value in after.items()}
    total = after["counts"].sum()
    smoothed = (after["counts"] + 1e-5) / (total + SIZE * 1e-5) * total
    after["codebook"] = after["sums"] / smoothed[:, None]
    return after


@pytest.mark.each_backend
def test_takes_the_nearest_code():
    quantizer = build(size=50)
    inputs = vectors(scale=0.5)
    quantized, token_ids = quantizer(inputs)
    codebook = array(quantizer.codebook)
    np.testing.assert_array_equal(array(token_ids), nearest(codebook, inputs))
    assert array(token_ids).dtype == "int32"
    np.testing.assert_allclose(
        array(quantized), codebook[array(token_ids)], atol=1e-6
    )
    np.testing.assert_array_equal(
        array(quantizer.lookup(token_ids)), codebook[array(token_ids)]
    )


@pytest.mark.parametrize("bits", [7, 10])
def test_rounded_products_lose_no_code(bits, monkeypatch):
    """Accelerators round operands to bfloat16 (7 bits) or tf32 (10)."""
    generator = np.random.default_rng(0)
    quantizer = build(size=500)
    quantizer.codebook.assign(3 + 0.1 * generator.normal(size=(500, WIDTH)))
    inputs = 3 + 0.1 * generator.normal(size=(20, 4, 4, WIDTH))
    inputs = inputs.astype("float32")
    expected = nearest(array(quantizer.codebook), inputs)
    matmul = ops.matmul

    def round_operand(x):
        mantissa, exponent = np.frexp(array(x))
        mantissa = np.rint(mantissa * 2 ** (bits + 1)) / 2 ** (bits + 1)
        return np.ldexp(mantissa, exponent).astype("float32")

    def rounded(x, y):
        return matmul(round_operand(x), round_operand(y))

    # By its definition, with rounded products: a test of the test.
    codebook = array(quantizer.codebook)
    products = array(rounded(inputs, codebook.T))
    found = (np.square(codebook).sum(axis=1) - 2 * products).argmin(axis=-1)
    assert (found != expected).mean() > 0.1
    if keras.backend.backend() == "jax":
        # There an argument says so.
        import jax

        program = str(jax.make_jaxpr(quantizer.nearest)(inputs))
        assert "dot_general" in program and "HIGHEST" in program
        assert program.count("dot_general") == 1
    else:
        monkeypatch.setattr(ops, "matmul", rounded)
        monkeypatch.setattr(
            ops, "map", lambda f, xs: ops.stack(list(map(f, xs)))
        )
    found = array(quantizer.nearest(inputs))
    # Two codes at one distance up to what float32 rounds are both right.
    assert (found != expected).mean() < 0.01
    difference = inputs - codebook[found], inputs - codebook[expected]
    distances = [np.square(x.astype("float64")).sum(-1) for x in difference]
    np.testing.assert_allclose(*distances, atol=2e-5)


def test_two_steps_of_moving_averages():
    quantizer = build(revive=False, decay=0.9)
    expected = state(quantizer)
    for seed in (1, 2):
        inputs = vectors(seed=seed)
        # What is used is the codebook before it moves.
        _, token_ids = quantizer(inputs, training=True)
        np.testing.assert_array_equal(
            array(token_ids), nearest(expected["codebook"], inputs)
        )
        expected = numpy_step(expected, inputs, 0.9)
        found = state(quantizer)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-6)


@pytest.mark.each_backend
def test_inference_leaves_all_state():
    quantizer = build()
    before = [array(v).copy() for v in quantizer.variables]
    quantizer(vectors(), training=False)
    quantizer(vectors())
    for variable, value in zip(quantizer.variables, before):
        np.testing.assert_array_equal(array(variable), value)
    assert not quantizer.trainable_weights


@pytest.mark.each_backend
def test_gradient_goes_straight_through():
    quantizer = build()
    weights = np.random.default_rng(3).normal(size=(5, 2, 3, WIDTH))

    def output(inputs):
        quantized, _ = quantizer(inputs)
        return ops.sum(quantized * weights.astype("float32"))

    np.testing.assert_allclose(gradient(output, vectors()), weights, atol=1e-6)


@pytest.mark.each_backend
def test_commitment_loss_and_its_gradient():
    quantizer = build(commitment_cost=0.7)
    inputs = vectors()

    def loss(inputs):
        quantized, _ = quantizer(inputs)
        return ops.mean(quantizer.commitment(inputs, quantized))

    codes = array(quantizer.codebook)
    error = inputs - codes[nearest(codes, inputs)]
    value = array(loss(inputs))
    np.testing.assert_allclose(value, 0.7 * np.square(error).mean(), rtol=1e-5)
    np.testing.assert_allclose(
        gradient(loss, inputs), 2 * 0.7 * error / error.size, atol=1e-7
    )


@pytest.mark.parametrize("usage, dead", [(7.1, True), (7.3, False)])
def test_dead_is_a_tenth_of_the_mean_usage(usage, dead):
    """7.2 where the mean is 72 = 128 * 48**2 / 4096, as in the paper."""
    quantizer = build()
    counts = np.full(SIZE, (72 * SIZE - usage / 0.99) / (SIZE - 1))
    counts[2] = usage / 0.99
    codebook = 10 * np.eye(SIZE, WIDTH)
    codebook[3:] *= -1
    codebook[3:, :] = -10 * np.eye(WIDTH)
    quantizer.codebook.assign(codebook)
    quantizer.counts.assign(counts)
    quantizer.sums.assign(codebook * counts[:, None])
    inputs = np.tile(codebook[0], (72 * SIZE // 4, 2, 2, 1)).astype("float32")
    quantizer(inputs, training=True)
    assert float(array(quantizer.revived)) == dead
    np.testing.assert_allclose(array(quantizer.counts).mean(), 72, rtol=0.05)


def test_revived_codes_share_a_live_one_and_stay():
    """One cluster, one live code: all others are revived beside it."""
    quantizer = build(decay=0.5)
    centre = np.array([3.0, -2.0, 1.0])
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(40, 4, 4, WIDTH))
    inputs = (centre + noise).astype("float32")
    codebook = np.full((SIZE, WIDTH), 100.0)
    codebook[4] = centre
    quantizer.codebook.assign(codebook)
    quantizer.sums.assign(1e-3 * codebook)
    quantizer(inputs, training=True)
    assert float(array(quantizer.revived)) == SIZE - 1
    codes, counts, sums = (
        array(v) for v in (quantizer.codebook, quantizer.counts, quantizer.sums)
    )
    # Beside the live one, by a tenth of a vector's distance to its code.
    distance = np.sqrt(np.square(codes - codes[4]).mean(axis=1))
    others = np.arange(SIZE) != 4
    assert (distance[others] > 0.01).all() and (distance < 0.3).all()
    # Usage is shared, none is lost: half of 640 after one step.
    np.testing.assert_allclose(counts, counts[0])
    np.testing.assert_allclose(counts.sum(), 320, rtol=1e-4)
    # Averages are reset to agree with the code, ...
    np.testing.assert_allclose(sums / counts[:, None], codes, rtol=1e-4)
    # ... so that the codes stay with the cluster, and divide it.
    for _ in range(3):
        _, token_ids = quantizer(inputs, training=True)
        codes = array(quantizer.codebook)
        assert np.abs(codes - centre).max() < 3
    assert len(np.unique(array(token_ids))) == SIZE


@pytest.mark.parametrize("vectors_in_batch", [1, 3])
def test_batch_smaller_than_the_codes_to_revive(vectors_in_batch):
    quantizer = build(size=64, decay=0.5)
    inputs = vectors(batch=vectors_in_batch)[:, :1, :1]
    for _ in range(10):
        quantizer(inputs, training=True)
    assert all(np.isfinite(array(v)).all() for v in quantizer.weights)
    assert float(array(quantizer.revived)) > 0
    _, token_ids = quantizer(inputs)
    error = array(quantizer.lookup(token_ids)) - inputs
    assert np.abs(error).max() < 0.1


def test_revival_keeps_more_codes_in_use():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(24, WIDTH)) * 5
    active = {}
    for revive in (True, False):
        quantizer = build(size=32, revive=revive, decay=0.5)
        for seed in range(12):
            generator = np.random.default_rng(seed)
            chosen = centres[generator.integers(0, 24, (16, 4, 4))]
            inputs = chosen + 0.1 * generator.normal(size=chosen.shape)
            _, token_ids = quantizer(inputs.astype("float32"), training=True)
        active[revive] = len(np.unique(array(token_ids)))
    assert active[True] > 22 > 15 > active[False]


@pytest.mark.compiled
def test_not_finite_vectors_leave_all_state():
    quantizer = build()
    before = state(quantizer)
    inputs = vectors()
    inputs[1, 1, 1, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantizer(inputs, training=True)
    # Compiled, where values cannot be looked at.
    entry = keras.Input((2, 3, WIDTH))
    model = keras.Model(entry, quantizer(entry)[0])
    model.compile(keras.optimizers.SGD(0.0), loss="mean_squared_error")
    model.train_on_batch(inputs, inputs)
    for name, value in state(quantizer).items():
        np.testing.assert_array_equal(value, before[name])
    model.train_on_batch(vectors(), vectors())
    assert (state(quantizer)["counts"] != before["counts"]).all()


def test_no_vectors_leave_all_state():
    quantizer = build()
    counts = np.ones(len(array(quantizer.counts)), "float32")
    counts[1] = 1e-6
    quantizer.counts.assign(counts)
    before = state(quantizer)
    quantizer(vectors()[:0], training=True)
    for name, value in state(quantizer).items():
        np.testing.assert_array_equal(value, before[name])


def test_mixed_precision_computes_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        quantized, _ = build()(vectors())
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(quantized.dtype) == "float32"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"vocabulary_size": 0}, "vocabulary_size must be a positive int"),
        ({"vocabulary_size": True}, "vocabulary_size must be a positive int"),
        ({"seed": 0.5}, "seed must be an int or None, received 0.5"),
        ({"seed": True}, "seed must be an int or None, received True"),
        ({"embedding_dim": 2.5}, "embedding_dim must be a positive int"),
        ({"decay": 1.0}, r"decay must be in \[0, 1\)"),
        ({"commitment_cost": -1}, "commitment_cost must be finite and >= 0"),
        ({"commitment_cost": float("nan")}, "commitment_cost must be finite"),
        ({"dtype": "mixed_bfloat16"}, "dtype must be float32, received mixed"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    arguments = {"vocabulary_size": 4, "embedding_dim": 2, **arguments}
    with pytest.raises(ValueError, match=message):
        VectorQuantizer(**arguments)


def test_refuses_another_width():
    with pytest.raises(ValueError, match=r"\(B, height, width, 3\)"):
        build()(np.zeros((2, 2, 2, 4), "float32"))
    with pytest.raises(ValueError, match=r"\(B, height, width, 3\)"):
        build()(np.zeros((2, 3), "float32"))


def test_takes_integers_of_numpy():
    quantizer = VectorQuantizer(
        np.arange(SIZE).max() + 1, np.int32(WIDTH), seed=np.uint8(3)
    )
    config = quantizer.get_config()
    assert json.loads(json.dumps(config)) == config
    assert (config["vocabulary_size"], config["seed"]) == (SIZE, 3)
    quantizer(vectors(), training=True)


@pytest.mark.each_backend
def test_config_round_trip():
    quantizer = build(decay=0.5, commitment_cost=0.3, revive=False)
    copy = VectorQuantizer.from_config(quantizer.get_config())
    assert copy.get_config() == quantizer.get_config()
