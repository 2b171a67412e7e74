"""Resizing by area, against Keras, keras-cv and NumPy."""

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from igpt_keras.data.resize import resize_image  # noqa: E402


def picture(height, width, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, 3), "uint8")


@pytest.mark.parametrize("size", [(224, 224), (97, 97), (64, 64)])
def test_equals_keras_cv(size):
    keras_cv = pytest.importorskip("keras_cv")
    image = picture(*size)
    layer = keras_cv.layers.Resizing(32, 32, interpolation="area")
    expected = np.rint(np.asarray(layer(image.astype("float32"))))
    resized = resize_image(image, 32).numpy().astype(int)
    assert np.abs(resized - expected).max() <= 1


@pytest.mark.parametrize("size", [(61, 90), (90, 61), (33, 33), (101, 16)])
def test_shrinks_as_keras_does(size):
    image = picture(*size)
    layer = keras.layers.Resizing(
        8, 8, interpolation="area", crop_to_aspect_ratio=True
    )
    (expected,) = tf.data.Dataset.from_tensors(image).map(layer)
    resized = resize_image(image, 8).numpy().astype(float)
    assert np.abs(resized - expected.numpy()).max() <= 0.5


def test_averages_blocks():
    image = picture(96, 96)
    blocks = image.reshape(32, 3, 32, 3, 3).mean(axis=(1, 3))
    resized = resize_image(image, 32).numpy()
    assert np.abs(resized - blocks).max() <= 0.5


@pytest.mark.parametrize("size", [(225, 300), (300, 225), (224, 500)])
def test_centre_crop(size):
    """A column and a row of colour in the middle stay in the middle."""
    image = np.zeros((*size, 3), "uint8")
    image[size[0] // 2 - 20 : size[0] // 2 + 20, :, 0] = 255
    image[:, size[1] // 2 - 20 : size[1] // 2 + 20, 1] = 255
    resized = resize_image(image, 32).numpy().astype(float)
    for channel, axis in ((0, 1), (1, 0)):
        profile = resized[..., channel].mean(axis=axis)
        centre = (profile * (np.arange(32) + 0.5)).sum() / profile.sum()
        assert abs(centre - 16) < 0.2


@pytest.mark.parametrize("size", [(50, 70), (32, 32), (40, 32), (20, 24)])
def test_sizes_that_are_unknown_inside_tf_data(size):
    image = picture(*size)
    encoded = tf.io.encode_png(image)
    dataset = tf.data.Dataset.from_tensors(encoded).map(
        lambda x: resize_image(tf.io.decode_png(x), 32)
    )
    inside = next(iter(dataset))
    assert inside.shape == (32, 32, 3)
    np.testing.assert_array_equal(inside, resize_image(image, 32))


def test_enlarging_and_the_same_size():
    image = picture(8, 8)
    np.testing.assert_array_equal(resize_image(image, 8), image)
    flat = np.full((5, 5, 3), 77, "uint8")
    assert (resize_image(flat, 16).numpy() == 77).all()
