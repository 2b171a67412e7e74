import importlib
import io

import numpy as np
import pytest
import tiny
from PIL import Image

from igpt_keras import codec

others = importlib.import_module("igpt_keras.codec.other_sizes")


@pytest.mark.parametrize("vocabulary_size", [256, 400])
def test_nothing_is_left_out(vocabulary_size):
    """Random tokens need their entropy, and not much more."""
    generator = np.random.default_rng(0)
    token_ids = generator.integers(0, vocabulary_size, (70, 64))
    colours = generator.integers(0, 256, (vocabulary_size, 3), "uint8")
    sizes = codec.other_sizes(token_ids, vocabulary_size, colours)
    assert list(sizes) == ["PNG", "WebP lossless", "bz2", "xz"]
    least = token_ids.size * np.log2(vocabulary_size) / 8
    for size in sizes.values():
        assert least < size < 4 * least


def test_codes_are_no_colours():
    assert list(codec.other_sizes(tiny.token_ids(), 11)) == ["bz2", "xz"]


@pytest.mark.parametrize("vocabulary_size", [11, 300])
def test_the_sheet_is_of_the_pictures(vocabulary_size, monkeypatch):
    shown = []
    save = Image.Image.save

    def kept(self, file, kind, **options):
        save(self, file, kind, **options)
        with Image.open(io.BytesIO(file.getvalue())) as picture:
            shown.append(np.asarray(picture.convert("RGB")))

    monkeypatch.setattr(Image.Image, "save", kept)
    token_ids = tiny.token_ids(5)
    colours = tiny.grey_palette(vocabulary_size).colours
    codec.other_sizes(token_ids, vocabulary_size, colours)
    pictures = colours[token_ids].reshape(5, 4, 4, 3)
    for sheet in shown:
        assert sheet.shape == (8, 12, 3)
        for i, picture in enumerate(pictures):
            row, column = divmod(i, 3)
            cell = sheet[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            np.testing.assert_array_equal(cell, picture)
    assert len(shown) == 2


def test_a_sheet_too_large_for_webp_is_left_out(monkeypatch):
    monkeypatch.setattr(others, "_WEBP_SIDE", 7)
    colours = tiny.grey_palette().colours
    sizes = codec.other_sizes(tiny.token_ids(), 11, colours)
    assert list(sizes) == ["PNG", "bz2", "xz"]


def test_the_least_size_of_each_image():
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 256, (256, 3), "uint8")
    token_ids = generator.integers(0, 256, (3, 256))
    # One colour, in the middle.
    token_ids[1] = 7
    sizes = codec.least_sizes(token_ids, 256, colours)
    assert sizes[1] < 80 and sizes[0] > 200 and sizes[2] > 200
    for size, image in zip(sizes, token_ids):
        found = codec.other_sizes(image[None], 256, colours)
        assert size == min(found.values())
