import dataclasses
import functools
import hashlib
import pathlib

import numpy as np
from sklearn.datasets import load_digits

from igpt_keras.data.picture_folder import load_pictures

DATASETS = ("digits", "cifar10", "folder:PATH")
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images of one split in memory.

    Attributes:
        images: uint8 array `(M, H, H, 3)` at the dataset's own resolution; a
            folder's pictures are at the resolution asked for.
        labels: int32 array `(M,)`; -1 where there are no labels.
        class_names: tuple of str, empty where there are no labels.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple


def load_examples(
    name, split, input_resolution, fold_validation=False, data_dir=None
):
    """Loads one split of a dataset into memory.

    A tenth of train is validation (section 3.1 of the paper); a dataset
    without a test split gives a fifth of each class for it first. An image
    belongs to a split, and stands in it, by a hash of its name: neither depends
    on reading order or the machine, and the first images of a split are a
    random sample of it.

    Args:
        name: `"digits"` (scikit-learn, 1,797 images of 8x8), `"cifar10"`
            (TFDS) or `"folder:PATH"`: a directory of pictures, in class
            subdirectories if they have labels.
        split: `"train"`, `"validation"` or `"test"`.
        input_resolution: int. Side that pictures of a folder are brought to.
        fold_validation: bool. Whether train includes validation, for a final
            run after all choices are made. Defaults to `False`.
        data_dir: directory of prepared TFDS datasets. Defaults to TFDS's own.

    Returns:
        An `Examples`.

    Raises:
        ValueError: for an unknown name or split, data that is not there, and
            splits that would be empty.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}; choose one of {SPLITS}.")
    if fold_validation and split == "validation":
        raise ValueError(
            "With fold_validation=True the validation images are part of "
            "train: there is no validation split."
        )
    if name == "digits":
        images, labels, ids, classes = _load_digits()
        part = "all"
    elif name == "cifar10":
        part = "test" if split == "test" else "train"
        images, labels, ids, classes = _load_tfds(name, part, data_dir)
    elif name.startswith("folder:"):
        path = pathlib.Path(name.removeprefix("folder:"))
        images, labels, ids, classes = load_pictures(path, input_resolution)
        part = "all"
    else:
        raise ValueError(
            f"Unknown dataset {name!r}; the known ones are "
            f"{', '.join(DATASETS)}."
        )
    hashes = [hashlib.sha256(i.encode()).hexdigest() for i in ids]
    order = np.argsort(hashes)
    if part != "test":
        splits = _assign_splits(labels[order], with_test=part == "all")
        fold = fold_validation and split == "train"
        wanted = ("train", "validation") if fold else (split,)
        order = order[np.isin(splits, wanted)]
    if len(order) == 0:
        raise ValueError(
            f"{name} has {len(labels)} images, too few for a {split} split "
            "of its own. Add images (a class needs about ten)."
        )
    return Examples(images[order], labels[order], classes)


def _assign_splits(labels, with_test):
    """Split of each example: the first of each class are test, and so on."""
    splits = np.full(len(labels), "train", dtype="U10")
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        num_test = round(0.2 * len(of_class)) if with_test else 0
        num_validation = round(0.1 * (len(of_class) - num_test))
        splits[of_class[:num_test]] = "test"
        splits[of_class[num_test : num_test + num_validation]] = "validation"
    return splits


@functools.cache
def _load_digits():
    digits = load_digits()
    # Grey levels 0 to 16.
    images = np.rint(digits.images * (255 / 16)).astype("uint8")
    images = np.repeat(images[..., None], 3, axis=-1)
    ids = [f"digits/{i}" for i in range(len(images))]
    classes = tuple(str(i) for i in range(10))
    return images, digits.target.astype("int32"), ids, classes


@functools.cache
def _load_tfds(name, part, data_dir):
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.is_prepared():
        command = f"tfds build {name}"
        if data_dir is not None:
            command += f" --data_dir={data_dir}"
        raise ValueError(
            f"No prepared {name} in {builder.data_path}. Point data_dir at "
            f"the directory that holds {name}/, or download and prepare it "
            f"with `{command}`."
        )
    examples = tfds.as_numpy(builder.as_dataset(split=part, batch_size=-1))
    ids = [f"{name}/{i.decode()}" for i in examples["id"]]
    classes = tuple(builder.info.features["label"].names)
    return examples["image"], examples["label"].astype("int32"), ids, classes
