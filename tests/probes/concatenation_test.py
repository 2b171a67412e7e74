import numpy as np
import pytest

from igpt_keras import concatenate_layers


def test_windows_shift_inwards_at_the_edges():
    # A feature tells its layer.
    features = np.arange(49.0)[:, None, None] * np.ones((1, 2, 1536))
    for center, first in ((0, 0), (3, 0), (20, 15), (46, 38), (48, 38)):
        joined = concatenate_layers(features, center)
        assert joined.shape == (2, 16_896)
        layers = joined[0].reshape(11, 1536)
        np.testing.assert_array_equal(
            layers[:, 0], np.arange(first, first + 11)
        )
        assert (layers == layers[:, :1]).all()


def test_one_layer_is_itself():
    features = np.random.default_rng(0).normal(size=(4, 3, 2))
    np.testing.assert_array_equal(
        concatenate_layers(features, 2, num_layers=1), features[2]
    )


def test_refuses_what_is_not_there():
    features = np.zeros((4, 3, 2))
    with pytest.raises(ValueError, match="center must be a layer, 0 to 3"):
        concatenate_layers(features, 4, num_layers=1)
    with pytest.raises(ValueError, match="num_layers must be 1 to 4"):
        concatenate_layers(features, 2)
    with pytest.raises(ValueError, match=r"features must be \(layers, images"):
        concatenate_layers(features[0], 2, num_layers=1)
