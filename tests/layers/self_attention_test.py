import keras
import numpy as np
import pytest
import reference
from tiny import array
from tiny import check_std

from igpt_keras.layers import SelfAttention


@pytest.mark.each_backend
@pytest.mark.parametrize("causal", [True, False])
def test_matches_the_reference(causal):
    layer = SelfAttention(num_heads=3, num_layers=2, causal=causal)
    x = np.random.default_rng(0).normal(size=(2, 7, 15)).astype("float32")
    output = array(layer(x))
    kernels = [
        array(p.kernel)
        for p in (layer.query, layer.key, layer.value, layer.output_projection)
    ]
    expected = reference.attention(x, *kernels, causal=causal)
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_decoding_equals_attending_at_once():
    layer = SelfAttention(num_heads=3, num_layers=2)
    x = np.random.default_rng(0).normal(size=(2, 7, 15)).astype("float32")
    expected = array(layer(x))
    keys = values = keras.ops.zeros((2, 3, 7, 5))
    for i in range(7):
        output, keys, values = layer.decode(x[:, i : i + 1], keys, values, i)
        np.testing.assert_allclose(
            array(output)[:, 0], expected[:, i], atol=1e-6
        )


def test_initial_standard_deviations():
    width, num_layers = 256, 24
    layer = SelfAttention(num_heads=4, num_layers=num_layers)
    layer.build((None, 5, width))
    for projection in (layer.query, layer.key, layer.value):
        check_std(projection.kernel, width**-0.5)
    check_std(layer.output_projection.kernel, (width * num_layers) ** -0.5)
    kernels = [array(p.kernel) for p in (layer.query, layer.key, layer.value)]
    assert not np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[1], kernels[2])


def test_bfloat16_is_finite():
    layer = SelfAttention(num_heads=2, num_layers=1, dtype="mixed_bfloat16")
    x = 100 * np.random.default_rng(0).normal(size=(2, 7, 8))
    output = layer(x.astype("float32"))
    assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
    assert np.isfinite(array(keras.ops.cast(output, "float32"))).all()


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="num_heads=3 does not divide"):
        SelfAttention(num_heads=3, num_layers=1)(np.zeros((1, 2, 8), "float32"))


@pytest.mark.each_backend
def test_config_round_trip():
    layer = SelfAttention(num_heads=2, num_layers=5, causal=False)
    copy = SelfAttention.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
