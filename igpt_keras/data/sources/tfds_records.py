import dataclasses
import hashlib
import io
import os
import pathlib
import typing

import keras
import numpy as np
from PIL import Image

from igpt_keras.data import augment
from igpt_keras.data.sources.index_cache import cached_index
from igpt_keras.data.sources.index_cache import file_stamp
from igpt_keras.terminal import verbosity


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the paper makes of a TFDS dataset (section 3.1).

    Attributes:
        train: TFDS split that train and validation come from.
        test: TFDS split that is test.
        validation_share: float. Share of `train` that is validation.
        key: feature that names an example, or `None`: its pixels do, or the
            file if it is a JPEG, of which decoders differ.
        augment: function of `data/augment.py`.
        is_encoded: bool. Whether images are fetched as JPEGs.
    """

    train: str
    test: str
    validation_share: float
    key: str | None = None
    augment: typing.Callable = augment.crop
    is_encoded: bool = False


LAYOUTS = {
    "cifar10": Layout("train", "test", 0.1, "id", augment.crop_and_flip),
    "cifar100": Layout("train", "test", 0.1, "id", augment.crop_and_flip),
    # Its 100,000 unlabelled images are another TFDS split, which is not used.
    "stl10": Layout("train", "test", 0.1, None, augment.crop_and_flip),
    "imagenet2012": Layout(
        "train", "validation", 0.04, "file_name", augment.crop_jpeg, True
    ),
    "imagenet_resized/32x32": Layout("train", "validation", 0.04),
    "downsampled_imagenet/32x32": Layout("train", "validation", 0.04),
    "downsampled_imagenet/64x64": Layout("train", "validation", 0.04),
}


class TFDSRecords:
    """Random access to the examples of a prepared TFDS dataset.

    The TFRecord files stay on disk. Where each example begins, its label and
    a hash of its name are an index in memory, 56 bytes an example; the index
    is made once, reading all files, and kept (see `cached_index`). ImageNet's
    JPEGs, which TFDS stores as they came, are decoded for it.

    Args:
        name: key of `LAYOUTS`.
        part: TFDS split.
        data_dir: directory of prepared TFDS datasets. Defaults to TFDS's own.

    Attributes:
        hashes: uint8 array `(M, 32)`, sha256 of each example's name.
        labels: int32 array `(M,)`, -1 without labels.
        class_names: tuple of str, empty without labels.
        augment: function that training images go through.
        is_encoded: bool. Whether `fetch` gives JPEGs.

    Raises:
        ValueError: if the dataset is not prepared there, a file is missing,
            damaged or truncated, or it has labels that are none of its classes
            or JPEGs that cannot be decoded.
    """

    default_resolution = 32

    def __init__(self, name, part, data_dir=None):
        self.name = name
        self.augment = LAYOUTS[name].augment
        self.is_encoded = LAYOUTS[name].is_encoded
        self.builder = _prepared_builder(name, data_dir)
        info = self.builder.info
        self.files = [str(path) for path in info.splits[part].filepaths]
        self.class_names = ()
        if "label" in info.features:
            self.class_names = tuple(info.features["label"].names)
        # How many examples TFDS wrote into each file.
        self.lengths = info.splits[part].shard_lengths
        index = cached_index(
            f"{name} {part} {info.version}",
            [[self._stamp(f) for f in self.files], self.lengths],
            self._make_index,
        )
        self.shards, self.starts = index["shards"], index["starts"]
        self.sizes, self.labels = index["sizes"], index["labels"]
        self.hashes = index["hashes"]
        limit = len(self.class_names)
        wrong = (self.labels < 0) | (self.labels >= limit)
        if limit and wrong.any():
            first = np.flatnonzero(wrong)[0]
            raise ValueError(
                f"Example {first} of {name} ({part}) has label "
                f"{self.labels[first]}, and there are {limit} classes. Prepare "
                "the dataset again."
            )

    def fetch(self, index):
        """The image, uint8 `(H, W, 3)`, inside `tf.data`.

        ImageNet's comes encoded, a scalar string: of its JPEGs only a crop
        need be decoded.

        Args:
            index: int64 scalar tensor.
        """
        import tensorflow as tf

        record = tf.numpy_function(self._read, [index], tf.string)
        image = tf.io.parse_single_example(
            tf.ensure_shape(record, ()),
            {"image": tf.io.FixedLenFeature((), tf.string)},
        )["image"]
        if self.is_encoded:
            return image
        image = tf.io.decode_image(image, channels=3, expand_animations=False)
        return tf.ensure_shape(image, (None, None, 3))

    def _read(self, index):
        path = self.files[self.shards[index]]
        with open(path, "rb") as file:
            record = os.pread(
                file.fileno(), self.sizes[index], self.starts[index]
            )
        if len(record) != self.sizes[index]:
            raise ValueError(f"{path} is truncated. Prepare {self.name} again.")
        return record

    def _stamp(self, path):
        try:
            stamp = file_stamp(path)
        except OSError as error:
            raise ValueError(
                f"{path} cannot be read ({error.strerror}). Put it back, or "
                f"prepare {self.name} again."
            ) from error
        if stamp[1] == 0:
            raise ValueError(f"{path} is empty. Prepare {self.name} again.")
        return stamp

    def _make_index(self):
        import tensorflow as tf

        key = LAYOUTS[self.name].key
        features = {"image": tf.io.FixedLenFeature((), tf.string)}
        if key is not None:
            features[key] = tf.io.FixedLenFeature((), tf.string)
        if self.class_names:
            features["label"] = tf.io.FixedLenFeature((), tf.int64)

        def parse(record):
            parsed = tf.io.parse_single_example(record, features)
            label = parsed.get("label", tf.constant(-1, tf.int64))
            image = parsed["image"]
            size = tf.constant(0)
            if self.is_encoded:
                # An eighth of the size, which is faster, needs all the bytes.
                size = tf.size(tf.io.decode_jpeg(image, channels=3, ratio=8))
            name = image if key is None else parsed[key]
            return tf.strings.length(record), label, name, size

        columns = {"shards": [], "starts": [], "sizes": [], "labels": []}
        hashes = []
        bar = keras.utils.Progbar(
            len(self.files), unit_name="file", verbose=verbosity()
        )
        for shard, path in enumerate(self.files):
            records = tf.data.TFRecordDataset(path)
            parsed = records.map(parse, os.cpu_count())
            start, count = 0, 0
            for size, label, name, _ in self._whole(parsed, records, path):
                # A record is its length and that number's checksum, 12 bytes,
                # the example, and its checksum, 4 bytes.
                columns["shards"].append(shard)
                columns["starts"].append(start + 12)
                columns["sizes"].append(size)
                columns["labels"].append(label)
                if key is not None:
                    name = f"{self.name}/{name.decode()}".encode()
                else:
                    name = self._content(name, path)
                hashes.append(hashlib.sha256(name).digest())
                start += 12 + size + 4
                count += 1
            if count != self.lengths[shard]:
                raise ValueError(
                    f"{path} is truncated, or not of this version: it has "
                    f"{count} examples, and {self.lengths[shard]} were "
                    f"prepared. Prepare {self.name} again."
                )
            bar.update(shard + 1)
        dtypes = {"shards": "int32", "labels": "int32"}
        arrays = {
            name: np.array(values, dtypes.get(name, "int64"))
            for name, values in columns.items()
        }
        # Not "S32", which drops zeros at the end.
        hashes = np.frombuffer(b"".join(hashes), "uint8").reshape(-1, 32)
        return {**arrays, "hashes": hashes}

    def _content(self, image, path):
        """Bytes that are the same however losslessly an image is stored."""
        if not image.startswith(b"\x89PNG"):
            return image
        try:
            with Image.open(io.BytesIO(image)) as picture:
                pixels = np.asarray(picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"{path} holds a damaged image ({error}). Prepare {self.name} "
                "again."
            ) from error
        return f"{pixels.shape} ".encode() + pixels.tobytes()

    def _whole(self, parsed, records, path):
        """The records of a file, or an error that names it, or a JPEG there."""
        import tensorflow as tf

        try:
            yield from parsed.as_numpy_iterator()
        except tf.errors.OpError as error:
            if self.is_encoded:
                self._check_jpegs(records, path)
            raise ValueError(
                f"{path} is damaged ({error.message}). Prepare {self.name} "
                "again."
            ) from error

    def _check_jpegs(self, records, path):
        import tensorflow as tf

        features = {
            name: tf.io.FixedLenFeature((), tf.string)
            for name in ("file_name", "image")
        }
        for record in records.ignore_errors():
            parsed = tf.io.parse_single_example(record, features)
            try:
                tf.io.decode_jpeg(parsed["image"], channels=3)
            except tf.errors.OpError as error:
                name = parsed["file_name"].numpy().decode()
                # Between the names of functions and of the operation.
                reason = error.message.split("}} ")[-1].split(" [Op:")[0]
                raise ValueError(
                    f"{name} in {path} cannot be decoded ({reason}). Replace "
                    "it in the archive that it came from, and prepare "
                    f"{self.name} again."
                ) from error


def _prepared_builder(name, data_dir):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"{name} is a dataset of TFDS, which cannot be imported "
            f"({error}). Install it: `pip install tensorflow-datasets`."
        ) from error

    builder = tfds.builder(name, data_dir=data_dir)
    if builder.is_prepared():
        return builder
    command = f"tfds build {name}"
    if data_dir is not None:
        command += f" --data_dir={data_dir}"
    advice = f"download and prepare it with `{command}`, which needs a network"
    if name == "imagenet2012":
        folder = pathlib.Path(builder.data_path).parents[1]
        advice = (
            "put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, from "
            f"image-net.org, into {folder / 'downloads' / 'manual'} and "
            f"prepare them with `{command}`"
        )
    raise ValueError(
        f"No prepared {name} in {builder.data_path}. Point data_dir at the "
        f"directory that holds {name.split('/')[0]}/, or {advice}. An "
        "interrupted `tfds build` starts again when it is given again."
    )
