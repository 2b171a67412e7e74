import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

from igpt_keras.data import image_dataset  # noqa: E402
from igpt_keras.data import load_examples  # noqa: E402
from igpt_keras.data.picture_folder import load_pictures  # noqa: E402


def save(path, size=(20, 12), colour=(200, 30, 60), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_subdirectories_are_classes(tmp_path):
    for label, colour in (("cat", (250, 0, 0)), ("dog", (0, 0, 250))):
        for i in range(20):
            save(tmp_path / label / f"{i}.png", (10 + i, 14), colour)
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    examples = load_examples(f"folder:{tmp_path}", "train", 8)
    assert examples.class_names == ("cat", "dog")
    assert examples.images.shape == (28, 8, 8, 3)
    red = examples.images[:, 0, 0, 0] == 250
    np.testing.assert_array_equal(examples.labels == 0, red)
    sizes = [
        len(load_examples(f"folder:{tmp_path}", split, 8).labels)
        for split in ("validation", "test")
    ]
    assert sizes == [4, 8]


def test_pictures_without_classes_have_no_labels(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i}.jpg")
    dataset = image_dataset(
        f"folder:{tmp_path}",
        split="train",
        input_resolution=8,
        batch_size=4,
        training=True,
    )
    images, labels = next(iter(dataset))
    assert images.shape == (4, 8, 8, 3)
    assert labels.numpy().tolist() == [-1] * 4
    examples = load_examples(f"folder:{tmp_path}", "train", 8)
    assert examples.class_names == ()


def test_short_side_then_centre_crop(tmp_path):
    picture = np.zeros((8, 24, 3), "uint8")
    picture[:, 8:16] = [10, 200, 30]
    Image.fromarray(picture).save(tmp_path / "wide.png")
    images, *_ = load_pictures(tmp_path, 4)
    assert (images[0] == [10, 200, 30]).all()


def test_small_and_grey_pictures_are_converted(tmp_path):
    save(tmp_path / "grey.png", (3, 3), 77, "L")
    save(tmp_path / "opaque.png", (9, 9), (1, 2, 3, 255), "RGBA")
    images, *_ = load_pictures(tmp_path, 8)
    assert (images[0] == 77).all()
    assert (images[1] == [1, 2, 3]).all()


def truncated(path):
    save(path, (64, 64))
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    "make, message",
    [
        (truncated, r"x\.jpg cannot be read as a picture"),
        (lambda p: p.write_bytes(b""), r"x\.jpg cannot be read"),
        (lambda p: p.write_bytes(b"text"), r"x\.jpg cannot be read"),
        (
            lambda p: save(p.with_suffix(".png"), colour=9, mode="I;16"),
            "expected 8 bits a channel",
        ),
        (
            lambda p: save(
                p.with_suffix(".png"), colour=(9, 9, 9, 100), mode="RGBA"
            ),
            "is transparent in places",
        ),
    ],
)
def test_bad_pictures_are_named(make, message, tmp_path):
    make(tmp_path / "x.jpg")
    with pytest.raises(ValueError, match=message):
        load_pictures(tmp_path, 8)


def test_bad_folders(tmp_path):
    with pytest.raises(ValueError, match="No directory at"):
        load_pictures(tmp_path / "none", 8)
    with pytest.raises(ValueError, match="No pictures in"):
        load_pictures(tmp_path, 8)
    save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="too few for a test split"):
        load_examples(f"folder:{tmp_path}", "test", 8)
    save(tmp_path / "cat" / "two.png")
    with pytest.raises(ValueError, match="both directly inside and in"):
        load_examples(f"folder:{tmp_path}/", "train", 4)
