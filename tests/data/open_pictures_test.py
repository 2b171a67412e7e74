import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")

from igpt_keras.data import open_pictures  # noqa: E402
from igpt_keras.data import picture_files  # noqa: E402


def both(picture, path, **save):
    """A picture as a file and as it is in memory, 4x4."""
    picture.save(path, **save)
    with Image.open(path) as opened:
        found = open_pictures([path, opened], 4)
    np.testing.assert_array_equal(found[0], found[1])
    return found[0]


def test_a_phones_photo_is_upright(tmp_path):
    pixels = np.zeros((4, 6, 3), "uint8")
    pixels[:, 3:] = 200
    exif = Image.Exif()
    # Held so that the right of what is stored was down.
    exif[0x0112] = 6
    path = tmp_path / "x.png"
    found = both(Image.fromarray(pixels), path, exif=exif)
    assert (found[:2] == 0).all() and (found[2:] == 200).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white(mode, tmp_path):
    pixels = np.zeros((4, 4, 4), "uint8")
    pixels[..., 3] = 255
    pixels[2:, :, 3] = 0
    picture = Image.fromarray(pixels)
    save = {}
    if mode == "P":
        picture = Image.fromarray(pixels[..., 3] // 255, "L").convert("P")
        picture.putpalette([9, 9, 9, 0, 0, 0])
        save = {"transparency": 0}
    elif mode == "LA":
        picture = picture.convert("LA")
    found = both(picture, tmp_path / "x.png", **save)
    assert (found[:2] == 0).all() and (found[2:] == 255).all()


def test_half_transparent_over_a_colour():
    picture = Image.new("RGBA", (4, 4), (100, 0, 0, 128))
    (found,) = open_pictures([picture], 4, background=(0, 0, 200))
    np.testing.assert_allclose(found[0, 0], [50, 0, 100], atol=1)


def test_greyscale_is_grey_and_16_bit_is_refused(tmp_path):
    assert (both(Image.new("L", (9, 4), 77), tmp_path / "x.png") == 77).all()
    deep = Image.fromarray(np.full((4, 4), 3000, "uint16"))
    with pytest.raises(ValueError, match=r"pictures\[0\] has I;16 pixels"):
        open_pictures([deep], 4)
    pixels = tf.constant(np.full((4, 4, 3), 3000), tf.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(tf.io.encode_png(pixels).numpy())
    with pytest.raises(ValueError, match="deep.png has RGB;16B pixels"):
        open_pictures([path], 4)


def test_no_picture(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("not a picture")
    with pytest.raises(ValueError, match="notes.png cannot be read as a pict"):
        open_pictures([path], 4)
    with pytest.raises(ValueError, match=r"pictures\[0\] must be a path or"):
        open_pictures([3], 4)


def test_files_of_folders(tmp_path):
    for name in ("b.png", "A.JPG", ".hidden.png", "notes.txt", "in/c.png"):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    one = tmp_path / "mine" / "notes.txt"
    found = picture_files([one, tmp_path / "mine"])
    assert [file.name for file in found] == ["notes.txt", "A.JPG", "b.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="No pictures in .*empty: looked for"):
        picture_files([one, tmp_path / "empty"])
    with pytest.raises(ValueError, match="No picture at .*nowhere"):
        picture_files([tmp_path / "nowhere"])
