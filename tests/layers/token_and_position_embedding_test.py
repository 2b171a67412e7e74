import gradients
import keras
import numpy as np
import pytest
from tiny import array
from tiny import check_std

from igpt_keras.layers import TokenAndPositionEmbedding


def built(shift):
    layer = TokenAndPositionEmbedding(5, 4, 3, shift=shift)
    layer.build((None, 4))
    return layer


@pytest.mark.each_backend
def test_shifts_behind_the_start_token_then_adds_positions():
    layer = built(shift=True)
    token_ids = np.array([[4, 0, 2, 1]])
    token, position, start = map(
        array,
        (
            layer.token_embedding,
            layer.position_embedding,
            layer.start_embedding,
        ),
    )
    expected = np.stack([start, token[4], token[0], token[2]]) + position
    np.testing.assert_allclose(array(layer(token_ids))[0], expected, atol=1e-7)


@pytest.mark.each_backend
def test_hidden_tokens_are_their_position_alone():
    layer = built(shift=False)
    token_ids = np.array([[4, 0, 2, 1]])
    hidden = np.array([[False, True, False, True]])
    output = array(layer(token_ids, hidden))[0]
    token, position = map(
        array, (layer.token_embedding, layer.position_embedding)
    )
    np.testing.assert_array_equal(output[[1, 3]], position[[1, 3]])
    np.testing.assert_allclose(
        output[[0, 2]], token[[4, 2]] + position[[0, 2]], atol=1e-7
    )
    assert not hasattr(layer, "start_embedding")


def test_decoding_equals_the_whole_sequence():
    layer = built(shift=True)
    token_ids = np.array([[4, 0, 2, 1], [3, 3, 1, 0]])
    expected = array(layer(token_ids))
    for i in range(4):
        step = layer.decode(token_ids[:, max(i - 1, 0)], i)
        np.testing.assert_allclose(array(step)[:, 0], expected[:, i], atol=1e-7)


def test_initial_standard_deviations():
    layer = TokenAndPositionEmbedding(512, 1024, 256)
    layer.build((None, 1024))
    check_std(layer.token_embedding, 0.02)
    check_std(layer.position_embedding, 0.01)


@pytest.mark.each_backend
def test_config_round_trip():
    layer = TokenAndPositionEmbedding(5, 4, 3, shift=False)
    copy = TokenAndPositionEmbedding.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


def test_gradients_of_frequent_tokens_are_summed_in_float32():
    layer = TokenAndPositionEmbedding(5, 1024, 3, dtype="mixed_bfloat16")
    token_ids = np.zeros((5, 1024), "int32")
    layer.build((None, 1024))
    (found,) = gradients.of_variables(
        lambda: keras.ops.sum(keras.ops.cast(layer(token_ids), "float32")),
        [layer.token_embedding],
    )
    # In bfloat16 a sum of ones stops at 256. The last token is no input.
    np.testing.assert_array_equal(found[0], [5 * 1023] * 3)
    np.testing.assert_array_equal(found[1:], 0)


@pytest.mark.each_backend
def test_decoding_computes_in_the_dtype_of_the_layer():
    layer = TokenAndPositionEmbedding(5, 4, 3, dtype="mixed_bfloat16")
    layer.build((None, 4))
    token_ids = np.array([[4, 0, 2, 1]])
    expected = layer(token_ids)
    for i in range(4):
        step = layer.decode(token_ids[:, max(i - 1, 0)], i)
        assert keras.backend.standardize_dtype(step.dtype) == "bfloat16"
        np.testing.assert_array_equal(
            array(keras.ops.cast(step[:, 0], "float32")),
            array(keras.ops.cast(expected[:, i], "float32")),
        )
