import io
import os

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")

from igpt_keras.data import image_dataset  # noqa: E402
from igpt_keras.data import load_examples  # noqa: E402
from igpt_keras.data.resize import resize_image  # noqa: E402
from igpt_keras.data.sources import picture_file  # noqa: E402
from igpt_keras.data.sources import picture_folder  # noqa: E402
from igpt_keras.data.sources.picture_folder import PictureFolder  # noqa: E402


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


def sixteen_bit(channels):
    pixels = np.full((8, 8, channels), 65535)
    pixels[..., 0] = 300
    encoded = tf.io.encode_png(tf.constant(pixels, tf.uint16)).numpy()
    return lambda p: p.with_suffix(".png").write_bytes(encoded)


def post_script(path):
    """Which Pillow would have Ghostscript run."""
    Image.new("RGB", (8, 8)).save(path, "EPS")


@pytest.mark.parametrize(
    "make, message",
    [
        (truncated, r"x\.jpg cannot be read as a picture"),
        (lambda p: p.write_bytes(b""), r"x\.jpg cannot be read"),
        (lambda p: p.write_bytes(b"text"), r"x\.jpg cannot be read"),
        (post_script, "cannot identify image file"),
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
        (sixteen_bit(2), "LA;16B pixels, expected 8 bits a channel"),
        (sixteen_bit(3), "RGB;16B pixels, expected 8 bits a channel"),
        (sixteen_bit(4), "RGBA;16B pixels, expected 8 bits a channel"),
        (os.mkfifo, r"x\.jpg is no regular file"),
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
    with pytest.raises(ValueError, match="in none, such as one.png"):
        load_examples(f"folder:{tmp_path}/", "train", 4)


def test_unreadable_files_are_named(tmp_path, monkeypatch):
    """As without the permission to read, which an administrator has."""
    save(tmp_path / "secret.png")
    opened = Image.open

    def refuse(file, formats):
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
    folder = PictureFolder(tmp_path, skip_bad_images=True)
    assert [file.name for file in folder.files] == ["one.png"]
    (reason,) = folder.skipped
    assert "again links to a directory that" in reason


def test_directories_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    """As without the permission to list, which an administrator has."""
    save(tmp_path / "cat" / "one.png")
    save(tmp_path / "dog" / "one.png")
    scan = os.scandir

    def refuse(path):
        if os.path.basename(path) == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    message = r"dog cannot be read \(Permission denied\).*skip_bad_images"
    with pytest.raises(ValueError, match=message):
        PictureFolder(tmp_path)
    folder = PictureFolder(tmp_path, skip_bad_images=True)
    assert len(folder.files) == 1
    assert "dog cannot be read" in folder.skipped[0]


@pytest.mark.parametrize(
    "error", [TypeError("an integer is required"), ValueError("buffer size")]
)
def test_whatever_a_decoder_raises_names_the_file(error, tmp_path, monkeypatch):
    save(tmp_path / "odd.png")

    def fail(image):
        raise error

    monkeypatch.setattr(picture_file.ImageOps, "exif_transpose", fail)
    with pytest.raises(ValueError, match=f"odd.png cannot be read.*{error}"):
        PictureFolder(tmp_path)


def test_a_class_of_bad_pictures_keeps_its_number(tmp_path):
    for name in ("ant", "bee", "cat"):
        save(tmp_path / name / "1.png")
    (tmp_path / "bee" / "1.png").write_bytes(b"")
    folder = PictureFolder(tmp_path, skip_bad_images=True)
    assert folder.class_names == ("ant", "bee", "cat")
    assert folder.labels.tolist() == [0, 2]


def test_jpegs_of_phones_are_no_animation(tmp_path):
    picture = Image.new("RGB", (40, 20), (200, 30, 60))
    preview = picture.resize((4, 2))
    picture.save(
        tmp_path / "phone.jpg",
        format="MPO",
        save_all=True,
        append_images=[preview],
    )
    folder = PictureFolder(tmp_path)
    assert folder._read(0).shape == (20, 40, 3)


def test_names_that_are_no_utf8(tmp_path):
    encoded = io.BytesIO()
    Image.new("RGB", (9, 9)).save(encoded, "PNG")
    for folder, content in ((b"caf\xe9", encoded.getvalue()), (b"bad", b"")):
        folder = os.path.join(os.fsencode(tmp_path), folder)
        os.mkdir(folder)
        with open(os.path.join(folder, b"\xe9.png"), "wb") as file:
            file.write(content)
    folder = PictureFolder(tmp_path, skip_bad_images=True)
    assert folder.class_names == ("bad", r"caf\xe9")
    assert folder._read(0).shape == (9, 9, 3)
    (reason,) = folder.skipped
    # Output that is UTF-8 takes both.
    assert r"bad/\xe9.png cannot be read" in reason.encode().decode()


def test_long_reasons_take_their_own_room(tmp_path, cache):
    (tmp_path / ("x" * 200 + ".png")).write_bytes(b"")
    for i in range(50):
        save(tmp_path / f"{i}.png")
    PictureFolder(tmp_path, skip_bad_images=True)
    (index,) = cache.rglob("*.npz")
    assert index.stat().st_size < 3000


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


def splits_of(path):
    return {
        split: load_examples(f"folder:{path}", split, 8)
        for split in ("train", "validation", "test")
    }


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_directories_of_splits(val, tmp_path):
    """As torchvision and TFDS read them. Red says which split it is."""
    for number, (split, count) in enumerate(
        {"train": 8, val: 3, "test": 2}.items()
    ):
        for label in ("cat", "dog"):
            for i in range(count):
                path = tmp_path / split / label / f"{i}.png"
                save(path, colour=(100 * number, 0, 0))
    # A class that not every split has.
    save(tmp_path / "test" / "bee" / "0.png", colour=(200, 0, 0))
    for number, (name, found) in enumerate(splits_of(tmp_path).items()):
        assert (found.images[..., 0] == 100 * number).all()
        assert found.class_names == ("bee", "cat", "dog")
        counts = [[0, 8, 8], [0, 3, 3], [1, 2, 2]][number]
        assert np.bincount(found.labels, minlength=3).tolist() == counts
    folded = load_examples(
        f"folder:{tmp_path}", "train", 8, fold_validation=True
    )
    assert len(folded.labels) == 22
    assert set(folded.images[..., 0].ravel()) == {0, 100}


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_one_directory_that_is_held_out_is_test(held_out, tmp_path):
    """As the paper has it of ImageNet; validation is a share of train."""
    for split, red, count in (("train", 0, 40), (held_out, 200, 7)):
        for i in range(count):
            save(tmp_path / split / f"{i}.png", colour=(red, 0, 0))
    found = splits_of(tmp_path)
    sizes = {name: len(part.labels) for name, part in found.items()}
    assert sizes == {"train": 36, "validation": 4, "test": 7}
    assert (found["test"].images[..., 0] == 200).all()
    assert not found["validation"].images[..., 0].any()
    assert found["test"].class_names == ()


def test_classes_that_are_called_like_splits(tmp_path):
    for label in ("bus", "test", "train"):
        save(tmp_path / label / "1.png")
    with pytest.raises(ValueError, match="train/, and bus beside them"):
        PictureFolder(tmp_path)
    (tmp_path / "test").rename(tmp_path / "ship")
    assert PictureFolder(tmp_path).class_names == ("bus", "ship", "train")
    assert PictureFolder(tmp_path).splits is None


def test_bad_pictures_of_a_split(tmp_path):
    for split in ("train", "test"):
        for label in ("ant", "bee"):
            save(tmp_path / split / label / "1.png")
    (tmp_path / "test" / "ant" / "1.png").write_bytes(b"")
    folder = PictureFolder(tmp_path, skip_bad_images=True)
    assert folder.splits.tolist() == ["test", "train", "train"]
    assert folder.labels.tolist() == [1, 0, 1]


def test_files_of_other_kinds_are_counted(tmp_path):
    save(tmp_path / "cat" / "1.png")
    for name in ("1.heic", "2.HEIC", "notes.txt", "README", ".hidden"):
        (tmp_path / "cat" / name).touch()
    assert PictureFolder(tmp_path).other_files == (
        "2 .heic files, such as cat/1.heic",
        "1 nameless file, cat/README",
        "1 .txt file, cat/notes.txt",
    )
    (tmp_path / "cat" / "1.png").unlink()
    with pytest.raises(ValueError, match="Found 2 .heic files, such as cat/1"):
        PictureFolder(tmp_path)


def test_a_path_alone_suggests_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "mine" / "1.png")
    for name in (str(tmp_path), "/no/such/path", "mine", "./mine"):
        with pytest.raises(ValueError, match=f"write 'folder:{name}'"):
            image_dataset(name, "train", 8, 4)
    with pytest.raises(ValueError) as caught:
        image_dataset("cifar11", "train", 8, 4)
    assert "folder:cifar11" not in str(caught.value)


def test_nothing_is_written_where_the_pictures_are(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i}.png")
    before = sorted(tmp_path.rglob("*"))
    load_examples(f"folder:{tmp_path}", "train", 8)
    assert sorted(tmp_path.rglob("*")) == before
