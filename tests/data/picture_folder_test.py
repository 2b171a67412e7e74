import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")

from igpt_keras.data import image_dataset  # noqa: E402
from igpt_keras.data import load_examples  # noqa: E402
from igpt_keras.data import picture_folder  # noqa: E402
from igpt_keras.data.picture_folder import PictureFolder  # noqa: E402
from igpt_keras.data.resize import resize_image  # noqa: E402


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    return directory


def pictures(path, resolution=8):
    """All pictures of a folder, as evaluation sees them."""
    folder = PictureFolder(path)
    return [
        resize_image(folder._read(i), resolution).numpy()
        for i in range(len(folder.files))
    ]


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
    images = pictures(tmp_path, 4)
    assert (images[0] == [10, 200, 30]).all()


def test_small_and_grey_pictures_are_converted(tmp_path):
    save(tmp_path / "grey.png", (3, 3), 77, "L")
    save(tmp_path / "opaque.png", (9, 9), (1, 2, 3, 255), "RGBA")
    images = pictures(tmp_path)
    assert (images[0] == 77).all()
    assert (images[1] == [1, 2, 3]).all()


def truncated(path):
    save(path, (64, 64))
    path.write_bytes(path.read_bytes()[:-40])


def animated(path):
    frames = [Image.new("RGB", (8, 8), (60 * i, 0, 0)) for i in range(3)]
    path = path.with_suffix(".gif")
    frames[0].save(path, save_all=True, append_images=frames[1:])


def bomb(path):
    """A small file of 100 million white pixels."""
    Image.new("1", (10000, 10000), 1).save(path.with_suffix(".png"))


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
        (lambda p: save(p, colour=(9, 9, 9, 9), mode="CMYK"), "CMYK colours"),
        (animated, r"is animated \(3 frames\)"),
        (lambda p: p.symlink_to(p), "cannot be read as a picture"),
        (bomb, "10000 x 10000 pixels, more than"),
    ],
)
def test_bad_pictures_are_named(make, message, tmp_path):
    make(tmp_path / "x.jpg")
    with pytest.raises(ValueError, match=message):
        PictureFolder(tmp_path)
    save(tmp_path / "good.png")
    opened = PictureFolder(tmp_path, skip_bad_images=True)
    assert [file.name for file in opened.files] == ["good.png"]
    (reason,) = opened.skipped
    assert "x." in reason


def test_bad_folders(tmp_path):
    with pytest.raises(ValueError, match="No directory at"):
        PictureFolder(tmp_path / "none")
    with pytest.raises(ValueError, match="No pictures in"):
        PictureFolder(tmp_path)
    save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="too few for a test split"):
        load_examples(f"folder:{tmp_path}", "test", 8)
    save(tmp_path / "cat" / "two.png")
    with pytest.raises(ValueError, match="both directly inside and in"):
        load_examples(f"folder:{tmp_path}/", "train", 4)


def test_unreadable_files_are_named(tmp_path, monkeypatch):
    """As without the permission to read, which an administrator has."""
    save(tmp_path / "secret.png")
    opened = Image.open

    def refuse(file):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ValueError, match="secret.png cannot be read.*denied"):
        PictureFolder(tmp_path)
    monkeypatch.setattr(Image, "open", opened)


def test_directories_that_link_in_a_circle(tmp_path):
    save(tmp_path / "cat" / "one.png")
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="again links to a directory that"):
        PictureFolder(tmp_path)


def test_links_to_other_directories_are_followed(tmp_path):
    save(tmp_path / "elsewhere" / "one.png")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat").symlink_to(tmp_path / "elsewhere")
    folder = PictureFolder(tmp_path / "pictures")
    assert folder.class_names == ("cat",)


def test_pictures_are_checked_once(tmp_path, cache, monkeypatch):
    for i in range(3):
        save(tmp_path / f"{i}.png")
    PictureFolder(tmp_path)
    read = picture_folder.read_picture
    calls = []
    monkeypatch.setattr(
        picture_folder,
        "read_picture",
        lambda file: calls.append(file) or read(file),
    )
    PictureFolder(tmp_path)
    assert not calls
    save(tmp_path / "1.png", (30, 30))
    PictureFolder(tmp_path)
    assert len(calls) == 3


def test_a_picture_damaged_later_is_named_while_reading(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i}.jpg", (64, 64))
    name = f"folder:{tmp_path}"
    dataset = image_dataset(name, "train", 8, 4)
    for path in tmp_path.glob("*.jpg"):
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(tf.errors.OpError, match=r"\.jpg cannot be read"):
        list(dataset)
