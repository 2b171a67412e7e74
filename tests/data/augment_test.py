"""What training images go through, by its statistics and to the pixel."""

import numpy as np
import pytest
from scipy import stats

tf = pytest.importorskip("tensorflow")

from igpt_keras.data import augment  # noqa: E402
from igpt_keras.data.open_split import Digits  # noqa: E402
from igpt_keras.data.open_split import PictureFolder  # noqa: E402
from igpt_keras.data.sources.tfds_records import LAYOUTS  # noqa: E402

# What would happen by chance in one run of ten thousand is taken for a fault;
# draws are the same in every run.
LEAST = 1e-4


def drawn(function, image, count, resolution=32):
    """What a function makes of an image with `count` seeds."""
    dataset = tf.data.Dataset.range(count).map(
        lambda i: function(image, resolution, tf.stack([7, i]))
    )
    return next(iter(dataset.batch(count))).numpy()


def picture(height, width):
    """No two pixels, and no two rows or columns mirrored, are alike."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack(
        [rows, columns, (rows * 7 + columns * 3) % 256], axis=-1
    ).astype("uint8")


def offsets(images, padded, size):
    """Where in `padded` each image was cut out, `(count, 2)`."""
    found = []
    for image in images:
        windows = [
            (top, left)
            for top in range(padded.shape[0] - size + 1)
            for left in range(padded.shape[1] - size + 1)
            if (padded[top, left] == image[0, 0]).all()
            and (padded[top : top + size, left : left + size] == image).all()
        ]
        assert len(windows) == 1
        found += windows
    return np.array(found)


def assert_uniform(counts):
    assert stats.chisquare(np.ravel(counts)).pvalue > LEAST


@pytest.mark.parametrize("size", [16, 32, 64])
def test_padded_crops_reach_every_place_alike(size):
    """An eighth of reflection each way: 4 pixels of 32, without the edge."""
    margin = size // 8
    image = picture(size, size)
    padded = np.pad(image, [(margin,) * 2, (margin,) * 2, (0, 0)], "reflect")
    images = drawn(augment.crop, image, 1500)
    places = offsets(images, padded, size)
    side = 2 * margin + 1
    counts = np.zeros((side, side))
    np.add.at(counts, tuple(places.T), 1)
    # Both axes, and each apart from the other.
    assert_uniform(counts.sum(0))
    assert_uniform(counts.sum(1))
    assert abs(np.corrcoef(places.T)[0, 1]) < 4 / np.sqrt(len(places))


def test_every_other_image_is_flipped_wherever_it_was_cut():
    image = picture(32, 32)
    padded = np.pad(image, [(4, 4), (4, 4), (0, 0)], "reflect")
    crops = drawn(augment.crop, image, 600)
    images = drawn(augment.crop_and_flip, image, 600)
    flipped = []
    for plain, image in zip(crops, images):
        # The same place as without flips.
        assert (image == plain).all() or (image == plain[:, ::-1]).all()
        flipped.append((image == plain[:, ::-1]).all())
    share = np.mean(flipped)
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(600)
    lefts = offsets(crops, padded, 32)[:, 1]
    assert abs(np.corrcoef(flipped, lefts)[0, 1]) < 4 / np.sqrt(600)


def test_pictures_are_resized_before_they_are_padded():
    image = picture(48, 32)
    images = drawn(augment.resize_and_crop, image, 200, resolution=16)
    resized = image[8:40].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    resized = np.rint(resized).astype("uint8")
    padded = np.pad(resized, [(2, 2), (2, 2), (0, 0)], "reflect").astype(int)
    places = set()
    for found in images.astype(int):
        (place,) = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if np.abs(padded[top : top + 16, left : left + 16] - found).max()
            <= 1
        ]
        places.add(place)
    assert len(places) == 25


def test_digits_are_shifted_by_up_to_a_pixel_into_black():
    image = picture(8, 8) + np.uint8(1)
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)])
    places = set()
    for found in drawn(augment.shift, image, 200):
        places |= {
            (top, left)
            for top in range(3)
            for left in range(3)
            if (padded[top : top + 8, left : left + 8] == found).all()
        }
    assert len(places) == 9


# So large that every short side has a crop of its own size.
HEIGHT, WIDTH = 1200, 1680


@pytest.fixture(scope="module")
def windows():
    """(top, left, side) of 3,000 crops of an ImageNet picture."""
    jpeg = tf.io.encode_jpeg(picture(HEIGHT, WIDTH))

    def window(image, resolution, seed):
        return augment.crop_jpeg(image, resolution, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            augment,
            "decode_crop",
            lambda jpeg, corner, side: tf.concat([corner, [side]], 0),
        )
        return drawn(window, jpeg, 3000).astype(int)


def test_imagenet_short_sides_are_uniform_in_256_to_384(windows):
    """A crop of 224 of a short side S is 224 / S of the picture's."""
    sides = windows[:, 2]
    assert sides.min() == round(224 * HEIGHT / 384)
    assert sides.max() == round(224 * HEIGHT / 256)
    short = 224 * HEIGHT / sides
    # Rounding moves a number by less than two.
    found = stats.kstest(short, stats.uniform(255.5, 129).cdf)
    assert found.statistic < 1.95 / np.sqrt(len(short)) + 2 / 129
    assert abs(short.mean() - 320) < 4 * 37.4 / np.sqrt(len(short)) + 0.5


def test_imagenet_crops_reach_every_edge_alike(windows):
    top, left, side = windows.T
    uniform = []
    for place, size in ((top, HEIGHT), (left, WIDTH)):
        room = size - side
        assert (place >= 0).all() and (place <= room).all()
        # Both ends occur, as often as what is between.
        expected = (1 / (room + 1)).sum()
        for end in (0, room):
            times = (place == end).sum()
            assert times
            assert abs(times - expected) < 4 * np.sqrt(expected)
        uniform.append((place + 0.5) / (room + 1))
        counts, _ = np.histogram(uniform[-1], 10, (0, 1))
        assert_uniform(counts)
    # Place and size, rows and columns, are drawn apart from one another.
    correlations = np.corrcoef([*uniform, side])
    others = correlations[~np.eye(3, dtype=bool)]
    assert np.abs(others).max() < 4 / np.sqrt(len(side))


def test_imagenet_crops_are_cut_out_of_the_jpeg():
    """Rows are rows, columns are columns."""
    jpeg = tf.io.encode_jpeg(picture(HEIGHT, WIDTH), quality=100)
    whole = tf.io.decode_jpeg(jpeg).numpy()
    window = augment.decode_crop(jpeg, [40, 100], 77).numpy()
    np.testing.assert_array_equal(window, whole[40:117, 100:177])


def test_what_each_dataset_goes_through():
    """Section 3.1 of the paper: flips for CIFAR and STL-10 alone."""
    found = {name: layout.augment for name, layout in LAYOUTS.items()}
    assert found == {
        "cifar10": augment.crop_and_flip,
        "cifar100": augment.crop_and_flip,
        "stl10": augment.crop_and_flip,
        "imagenet2012": augment.crop_jpeg,
        "imagenet_resized/32x32": augment.crop,
        "downsampled_imagenet/32x32": augment.crop,
        "downsampled_imagenet/64x64": augment.crop,
    }
    assert Digits.augment is augment.shift
    assert PictureFolder.augment is augment.resize_and_crop
