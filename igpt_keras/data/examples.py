import dataclasses
import functools
import hashlib
import os
import typing

import numpy as np
from sklearn.datasets import load_digits

from igpt_keras.data.picture_folder import open_folder
from igpt_keras.data.tfds_records import LAYOUTS
from igpt_keras.data.tfds_records import open_tfds
from igpt_keras.data.token_cache import open_token_cache
from igpt_keras.data.token_split import TokenSplit

DATASETS = ("digits", *LAYOUTS, "folder:PATH", "npy:PREFIX", "tokens:DIRECTORY")
SPLITS = ("train", "validation", "test")
# Section 3.1 of the paper. Datasets without a test split give a share first.
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images of one split in memory.

    Attributes:
        images: uint8 array `(M, R, R, 3)`.
        labels: int32 array `(M,)`; -1 where there are no labels.
        class_names: tuple of str, empty where there are no labels.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple


@dataclasses.dataclass(frozen=True)
class Split:
    """Where the examples of one split are, without reading them.

    Attributes:
        labels: int32 array `(M,)`; -1 where there are no labels.
        class_names: tuple of str, empty where there are no labels.
        fetch: function of an int64 scalar tensor in `[0, M)` to the image,
            uint8 `(H, W, 3)` or a JPEG as a string, inside `tf.data`; of
            tokens, of int64 `(B,)` to int32 `(B, N)`.
        skipped: tuple of str, why pictures were left out.
        fingerprint: str, sha256 of the names of the images, in order, and of
            their labels; of a token cache, of its manifest; `None` of `npy:`.
        is_tokens: bool. Whether there are tokens in place of images.
        tokenizer: str, fingerprint of the tokenizer that made the tokens, or
            `None` where that is not known.
    """

    labels: np.ndarray
    class_names: tuple
    fetch: typing.Callable
    skipped: tuple = ()
    fingerprint: str | None = None
    is_tokens: bool = False
    tokenizer: str | None = None


def open_split(
    name,
    split,
    input_resolution,
    fold_validation=False,
    data_dir=None,
    skip_bad_images=False,
):
    """Opens one split of a dataset, as `image_dataset` takes it.

    An image belongs to a split, and stands in it, by a hash of its name (of
    its content where it has none): neither depends on reading order or the
    machine, and the first images of a split are a random sample of it. Every
    class gives the same share (`assign_splits`).

    Returns:
        A `Split`.

    Raises:
        ValueError: for an unknown name or split, data that is not there or
            cannot be used, and splits that would be empty.
    """
    import tensorflow as tf

    if not isinstance(name, str):
        raise ValueError(f"name must be a str, received {name!r}.")
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}; choose one of {SPLITS}.")
    if fold_validation and split == "validation":
        raise ValueError(
            "With fold_validation=True the validation images are part of "
            "train: there is no validation split."
        )
    wanted = (split,)
    if fold_validation and split == "train":
        wanted = ("train", "validation")
    test_share, validation_share = TEST_SHARE, VALIDATION_SHARE
    if name == "digits":
        source = _Digits()
    elif name in LAYOUTS:
        layout = LAYOUTS[name]
        part = layout.test if split == "test" else layout.train
        source = open_tfds(name, part, data_dir)
        test_share, validation_share = 0, layout.validation_share
        if split == "test":
            wanted, validation_share = ("train",), 0
    elif name.startswith("folder:"):
        source = open_folder(_path_of(name), skip_bad_images)
    elif name.startswith("npy:"):
        source = TokenSplit(_path_of(name), wanted, input_resolution**2)
        return Split(
            source.labels, source.class_names, source.rows.fetch, is_tokens=True
        )
    elif name.startswith("tokens:"):
        if fold_validation:
            raise ValueError(
                "A token cache was split when it was made; fold_validation is "
                "not for it."
            )
        directory = os.path.join(_path_of(name), split)
        source = open_token_cache(directory, input_resolution**2)
        return Split(
            source.labels,
            source.class_names,
            source.rows.fetch,
            fingerprint=source.fingerprint,
            is_tokens=True,
            tokenizer=source.tokenizer,
        )
    else:
        raise ValueError(
            f"Unknown dataset {name!r}; the known ones are "
            f"{', '.join(DATASETS)}."
        )
    # The first eight bytes decide, the others settle ties.
    order = np.lexsort(np.flip(source.hashes.view(">u8"), axis=1).T)
    splits = assign_splits(source.labels[order], test_share, validation_share)
    order = order[np.isin(splits, wanted)]
    if len(order) == 0:
        raise ValueError(
            f"{name} has {len(source.labels)} images, too few for a {split} "
            "split of its own. Add images (a class needs about ten)."
        )

    labels = source.labels[order]
    digest = hashlib.sha256(source.hashes[order].tobytes())
    digest.update(labels.astype("<i4").tobytes())
    # Captured by reference: arrays stay out of the graph.
    order_tensor = tf.constant(order)
    return Split(
        labels,
        source.class_names,
        lambda index: source.fetch(order_tensor[index]),
        getattr(source, "skipped", ()),
        digest.hexdigest(),
    )


def _path_of(name):
    """What follows `folder:`, `npy:` or `tokens:`."""
    kind, _, path = name.partition(":")
    if not path:
        raise ValueError(
            f"{name!r} names no path. Write it behind the colon; "
            f"'{kind}:.' is the working directory."
        )
    return os.path.expanduser(path)


def load_examples(
    name,
    split,
    input_resolution,
    fold_validation=False,
    data_dir=None,
    skip_bad_images=False,
):
    """Loads one split of a dataset into memory: `open_split`, and all images.

    Args:
        name: dataset, as `image_dataset` takes it, of images.
        split: `"train"`, `"validation"` or `"test"`.
        input_resolution: int. Side of the images, `R`.
        fold_validation: bool. Whether train includes validation, for a final
            run after all choices are made. Defaults to `False`.
        data_dir: directory of prepared TFDS datasets. Defaults to TFDS's own.
        skip_bad_images: bool. Whether to leave out pictures of a folder that
            cannot be used. Defaults to `False`.

    Returns:
        An `Examples`.

    Raises:
        ValueError: as `open_split`.
    """
    # `image_dataset` builds on this module.
    from igpt_keras.data.image_dataset import image_dataset

    arguments = (fold_validation, data_dir, skip_bad_images)
    opened = open_split(name, split, input_resolution, *arguments)
    dataset = image_dataset(
        name,
        split,
        input_resolution,
        batch_size=256,
        fold_validation=fold_validation,
        data_dir=data_dir,
        skip_bad_images=skip_bad_images,
    )
    images = [images for images, _ in dataset.as_numpy_iterator()]
    return Examples(np.concatenate(images), opened.labels, opened.class_names)


def assign_splits(labels, test_share, validation_share):
    """Split of each example: the first of each class are test, and so on.

    Every class gives its share, rounded. Where that leaves a class without
    validation, what has been given up to and including each class is rounded
    instead, so that small classes give their share together; where no class
    is large enough to give any, they are split as if they were one.
    """
    splits = np.full(len(labels), "train", dtype="U10")
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = np.array([len(group) for group in groups], dtype="int64")
    if np.rint(validation_share * sizes.max(initial=0)) == 0:
        groups, sizes = [np.arange(len(labels))], np.array([len(labels)])
    tests = np.rint(test_share * sizes).astype(int)
    validations = np.rint(validation_share * (sizes - tests)).astype(int)
    if len(sizes) > 1 and validations.min() == 0:
        tests = _round_together(test_share * sizes)
        validations = _round_together(validation_share * (sizes - tests))
    for group, num_test, num_validation in zip(groups, tests, validations):
        splits[group[:num_test]] = "test"
        splits[group[num_test : num_test + num_validation]] = "validation"
    return splits


def _round_together(shares):
    """Integers that are no further than 1 from `shares`, as are their sums."""
    return np.diff(np.rint(np.cumsum(shares)), prepend=0).astype(int)


class _Digits:
    """scikit-learn's 1,797 handwritten digits of 8x8."""

    def __init__(self):
        import tensorflow as tf

        images, self.labels, self.hashes = _load_digits()
        self.images = tf.constant(images)
        self.class_names = tuple(str(i) for i in range(10))

    def fetch(self, index):
        return self.images[index]


@functools.cache
def _load_digits():
    digits = load_digits()
    # Grey levels 0 to 16.
    images = np.rint(digits.images * (255 / 16)).astype("uint8")
    images = np.repeat(images[..., None], 3, axis=-1)
    digests = [
        hashlib.sha256(f"digits/{i}".encode()).digest()
        for i in range(len(images))
    ]
    hashes = np.frombuffer(b"".join(digests), "uint8").reshape(-1, 32)
    return images, digits.target.astype("int32"), hashes
