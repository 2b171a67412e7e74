"""Prepared datasets whose files are changed, cut or gone."""

import os
import shutil

import pytest

tf = pytest.importorskip("tensorflow")

import prepare_tfds  # noqa: E402

from igpt_keras.data import load_examples  # noqa: E402
from igpt_keras.data import open_split  # noqa: E402

NAME = "imagenet_resized/32x32"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def train(tmp_path, monkeypatch):
    """The one file of a training set of 50."""
    prepare_tfds.prepare(NAME, tmp_path / "data", monkeypatch)
    (path,) = (tmp_path / "data").rglob("*-train.tfrecord*")
    return path


def load(path, split="train"):
    data_dir = str(path.parents[3])
    return load_examples(NAME, split, 32, data_dir=data_dir)


def rewrite(path, compression, order=None):
    """Stores the same pictures as other PNGs."""
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i in order or range(len(records)):
            example = tf.train.Example.FromString(records[i])
            stored = example.features.feature["image"].bytes_list.value
            image = tf.io.decode_png(stored[0])
            encoded = tf.io.encode_png(image, compression=compression)
            stored[0] = encoded.numpy()
            writer.write(example.SerializeToString())


def test_splits_do_not_depend_on_the_png_encoder(train):
    before = load(train, "validation")
    size = train.stat().st_size
    rewrite(train, 1)
    assert train.stat().st_size != size
    after = load(train, "validation")
    assert (before.images == after.images).all()


def test_files_of_the_same_size_are_indexed_again(train):
    """Uncompressed, every record is as long as any other."""
    rewrite(train, 0)
    before = load(train)
    size = train.stat().st_size
    rewrite(train, 0, order=list(range(49, -1, -1)))
    assert train.stat().st_size == size
    # Whatever the resolution of the file system's clock.
    os.utime(train, ns=(0, train.stat().st_mtime_ns + 1))
    after = load(train)
    assert (before.images == after.images).all()
    assert (before.labels == after.labels).all()


def test_damaged_pictures(train):
    records = list(tf.data.TFRecordDataset(str(train)).as_numpy_iterator())
    example = tf.train.Example.FromString(records[0])
    stored = example.features.feature["image"].bytes_list.value
    stored[0] = stored[0][:60]
    records[0] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(train)) as writer:
        for record in records:
            writer.write(record)
    with pytest.raises(ValueError, match=f"{train.name} holds a damaged image"):
        load(train)


@pytest.mark.parametrize("keep", [0, 500])
def test_damaged_jpegs_are_named(keep, tmp_path, monkeypatch):
    prepare_tfds.prepare("imagenet2012", tmp_path / "data", monkeypatch)
    (train,) = (tmp_path / "data").rglob("*-train.tfrecord*")
    records = list(tf.data.TFRecordDataset(str(train)).as_numpy_iterator())
    example = tf.train.Example.FromString(records[7])
    stored = example.features.feature["image"].bytes_list.value
    stored[0] = stored[0][:keep]
    (name,) = example.features.feature["file_name"].bytes_list.value
    records[7] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(train)) as writer:
        for record in records:
            writer.write(record)
    message = f"{name.decode()} in .*{train.name} cannot be decoded"
    with pytest.raises(ValueError, match=message):
        open_split("imagenet2012", "train", 32, data_dir=tmp_path / "data")


def cut(path):
    """Between two records, where nothing else is wrong with it."""
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records[:20]:
            writer.write(record)


@pytest.mark.parametrize(
    "damage, message",
    [
        (cut, "is truncated.*has 20 examples, and 50 were prepared"),
        (os.unlink, "cannot be read .No such file.*Put it back, or prepare"),
        (lambda path: path.write_bytes(b""), "is empty. Prepare imagenet_re"),
    ],
)
def test_files_that_are_not_whole(damage, message, train):
    load(train)
    damage(train)
    with pytest.raises(ValueError, match=f"{train.name} {message}"):
        load(train)


def test_a_copy_has_an_index_of_its_own(train, tmp_path):
    load(train)
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    copy = tmp_path / "copy" / train.relative_to(tmp_path / "data")
    load(copy)
    assert len(list((tmp_path / "xdg").rglob("index-*.npz"))) == 2


def test_nothing_is_written_where_the_data_is(train, tmp_path):
    before = sorted((tmp_path / "data").rglob("*"))
    times = [path.stat().st_mtime_ns for path in before]
    load(train)
    load(train, "test")
    after = sorted((tmp_path / "data").rglob("*"))
    assert after == before
    assert [path.stat().st_mtime_ns for path in after] == times
