import pathlib

import numpy as np
from PIL import Image

from igpt_keras import reports
from igpt_keras.reports import drawings


def test_pictures_fill_in_by_raster_order():
    """Of codes, squares of two pixels."""
    pictures = np.full((2, 4, 4, 3), 7, "uint8")
    given = np.array([[True, False], [True, False]])
    frames = drawings.filling(pictures, given)
    assert len(frames) == 3
    for frame, rows in zip(frames, (0, 2, 4)):
        assert (frame[:, :, :2] == 7).all()
        assert (frame[:, :rows, 2:] == 7).all()
        assert (frame[:, rows:, 2:] == 128).all()
    given = np.zeros((20, 20), "bool")
    pictures = np.full((1, 20, 20, 3), 9, "uint8")
    frames = drawings.filling(pictures, given)
    # Few enough to look at, and the last one is whole.
    assert len(frames) == 65 and (frames[-1] == 9).all()
    assert not given.any()


def test_rows_show_what_was_given():
    images = np.full((1, 4, 4, 3), 7, "uint8")
    given = np.array([[True, False], [True, False]])
    rows = reports.completion_rows(images, images[None], given)
    assert (rows[0, :, :2] == 7).all() and (rows[0, :, 2:] == 128).all()


def test_names_are_distinct():
    files = ["a/x.png", "b/x.jpg", "x_2.png", "c/x.png", "y.png"]
    names = reports.distinct_names([pathlib.Path(file) for file in files])
    assert names == ["x", "x_2", "x_2_2", "x_3", "y"]


def test_the_last_frame_has_the_colours(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (17, 3), "uint8")
    samples = colours[np.arange(3 * 16) % 17].reshape(3, 4, 4, 3)
    files = reports.write_samples(tmp_path, samples, 4, animate=True)
    assert all((tmp_path / name).is_file() for name in files)
    with Image.open(tmp_path / "samples.png") as grid:
        expected = np.asarray(grid)
    with Image.open(tmp_path / "animation.gif") as animation:
        assert animation.n_frames == 17 and animation.info["loop"] == 0
        animation.seek(16)
        last = np.asarray(animation.convert("RGB"))
    assert last.shape == expected.shape
    difference = np.abs(last.astype(int) - expected)
    assert difference.max() <= 4
