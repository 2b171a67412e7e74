import numpy as np

from igpt_keras import data


def test_size_and_pixels_of_the_images_and_nothing_of_what_they_show():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 200, (5, 4, 4, 3), "uint8")
    altered = data.altered_images(images, seed=1)
    assert list(altered) == ["noise", "upside down", "shuffled"]
    for pictures in altered.values():
        assert pictures.shape == images.shape and pictures.dtype == np.uint8
    np.testing.assert_array_equal(altered["upside down"][:, 0], images[:, 3])
    before, after = (
        x.reshape(5, 16, 3).tolist() for x in (images, altered["shuffled"])
    )
    places = []
    for image, shuffled in zip(before, after):
        # Whole pixels, each once, in an order of the image's own.
        assert sorted(image) == sorted(shuffled)
        places.append([image.index(pixel) for pixel in shuffled])
    assert len(set(map(tuple, places))) == 5
    # All 256 values, and none of the images'.
    assert altered["noise"].max() > 230
    for name, pictures in data.altered_images(images, seed=2).items():
        is_drawn = name != "upside down"
        assert np.any(pictures != altered[name]) == is_drawn
