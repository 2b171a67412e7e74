import itertools
import json

import numpy as np
import pytest
from gradients import gradient
from keras import ops
from tiny import array

from igpt_keras.layers import FiniteScalarQuantizer


@pytest.mark.parametrize("levels", [(8, 8, 8, 8), (7, 5, 5), (2, 3)])
def test_every_code_is_reached_and_found_again(levels):
    quantizer = FiniteScalarQuantizer(levels)
    size = int(np.prod(levels))
    assert quantizer.vocabulary_size == size
    assert quantizer.embedding_dim == len(levels)
    token_ids = np.arange(size, dtype="int32").reshape(1, 1, size)
    codes = array(quantizer.lookup(token_ids))
    assert len(np.unique(codes[0, 0], axis=0)) == size
    assert codes.min() == -1 and codes.max() <= 1
    axis = np.array([-50, *np.linspace(-3, 3, 61), 50])
    for channel in range(len(levels)):
        inputs = np.zeros((1, 1, len(axis), len(levels)), "float32")
        inputs[..., channel] = axis
        quantized, found = (array(x) for x in quantizer(inputs))
        assert len(np.unique(quantized[..., channel])) == levels[channel]
        np.testing.assert_allclose(
            array(quantizer.lookup(found)), quantized, atol=1e-6
        )
        assert (np.diff(quantized[0, 0], axis=0) >= 0).all()


@pytest.mark.each_backend
def test_token_ids_are_a_mixed_radix_number():
    quantizer = FiniteScalarQuantizer((4, 3, 5))
    token_ids = np.arange(60, dtype="int32").reshape(1, 6, 10)
    codes = array(quantizer.lookup(token_ids)).reshape(60, 3)
    expected = [
        ((first - 2) / 2, (second - 1) / 1, (third - 2) / 2)
        for third, second, first in itertools.product(*map(range, (5, 3, 4)))
    ]
    np.testing.assert_allclose(codes, expected)


@pytest.mark.each_backend
def test_gradient_is_that_of_the_bound():
    """Rounding passes it on: a finite difference of the function before."""
    quantizer = FiniteScalarQuantizer((5, 8))
    inputs = np.random.default_rng(0).normal(size=(2, 2, 2, 2))

    def output(x):
        return ops.sum(quantizer(x)[0])

    half = np.array([4, 7]) * 1.001 / 2
    shift = np.arctanh(np.array([0, 0.5]) / half)
    slope = half / np.cosh(inputs + shift) ** 2 / np.array([2, 4])
    np.testing.assert_allclose(gradient(output, inputs), slope, atol=1e-5)


@pytest.mark.parametrize(
    "levels",
    [
        (),
        (1, 5),
        (2.0,),
        (1001,),
        (900, 900, 900),
        8,
        None,
        "88",
        (8, True),
        (np.True_, 8),
        np.ones((2, 2), "int64") * 3,
    ],
)
def test_refuses_bad_levels(levels):
    with pytest.raises(ValueError, match="levels"):
        FiniteScalarQuantizer(levels)


def test_takes_integers_of_numpy(tmp_path):
    quantizer = FiniteScalarQuantizer(np.array([5, 6]))
    assert quantizer.get_config()["levels"] == [5, 6]
    json.dumps(quantizer.get_config())
    assert type(quantizer.vocabulary_size) is int


def test_refuses_another_width():
    with pytest.raises(ValueError, match=r"\(B, height, width, 2\)"):
        FiniteScalarQuantizer((3, 3))(np.zeros((1, 1, 1, 3), "float32"))


@pytest.mark.each_backend
def test_config_round_trip():
    quantizer = FiniteScalarQuantizer((5, 6))
    copy = FiniteScalarQuantizer.from_config(quantizer.get_config())
    assert copy.get_config() == quantizer.get_config()
