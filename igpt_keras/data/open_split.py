import hashlib
import math
import os

import numpy as np

from igpt_keras.data.mixture import Mixture
from igpt_keras.data.mixture_sources import mixture_sources
from igpt_keras.data.sources.digits import Digits
from igpt_keras.data.sources.openai_tokens import OpenAITokens
from igpt_keras.data.sources.picture_folder import PictureFolder
from igpt_keras.data.sources.placed_digits import PlacedDigits
from igpt_keras.data.sources.tfds_records import LAYOUTS
from igpt_keras.data.sources.tfds_records import TFDSRecords
from igpt_keras.data.sources.token_cache import TokenCache
from igpt_keras.data.split import Split
from igpt_keras.data.split import as_integer
from igpt_keras.data.split_assignment import assign_splits
from igpt_keras.storage.user_path import user_path

_DIGITS = {"digits": Digits, "placed_digits": PlacedDigits}
DATASETS = (
    *(*_DIGITS, *LAYOUTS),
    *("folder:PATH", "npy:PREFIX", "tokens:DIRECTORY"),
)
SPLITS = ("train", "validation", "test")
# Section 3.1 of the paper. Datasets without a test split give a share first.
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
_TOKENS = (OpenAITokens, TokenCache)


def open_split(
    name,
    split,
    input_resolution=None,
    fold_validation=False,
    data_dir=None,
    skip_bad_images=False,
    model_resolution=None,
):
    """Opens one split of a dataset, to be read any number of times.

    An image belongs to a split, and stands in it, by a hash of its name (of
    its content where it has none): neither depends on reading order or the
    machine, and the first images of a split are a random sample of it. Every
    class gives the same share (`assign_splits`).

    Args:
        name: dataset, as `image_dataset` takes it.
        split: `"train"`, `"validation"` or `"test"`.
        input_resolution: int. Side of the images. Defaults to 8 for digits,
            to 12 for placed_digits and to 32 otherwise; of a mixture, to that
            of its first source.
        fold_validation: bool. Whether train includes validation, as
            `Split.with_validation` does. Defaults to `False`.
        data_dir: directory of prepared TFDS datasets. Defaults to TFDS's own.
        skip_bad_images: bool. Whether to leave out pictures of a folder that
            cannot be used. Defaults to `False`.
        model_resolution: int. Side of the grid of tokens, where the dataset
            holds tokens of images of `input_resolution`. Defaults to that.

    Returns:
        A `Split`; of a mixture a `Mixture` for train, else its first source's.

    Raises:
        ValueError: for an unknown name or split, data that is not there or
            cannot be used, and splits that would be empty.
        ImportError: if TensorFlow is not installed, or, for a dataset of
            TFDS, tensorflow_datasets.
    """
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "igpt_keras.data reads images with tf.data, and TensorFlow is not "
            "installed. Install it with `pip install tensorflow`, or train on "
            "arrays of token ids."
        ) from error
    if not isinstance(name, str):
        raise ValueError(f"name must be a str, received {name!r}.")
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}; choose one of {SPLITS}.")
    if fold_validation and split == "validation":
        raise ValueError(
            "With fold_validation=True the validation images are part of "
            "train: there is no validation split."
        )
    if input_resolution is None:
        input_resolution = default_resolution(name)
    if mixture_sources(name):
        return _open_mixture(
            name,
            split,
            input_resolution,
            fold_validation,
            data_dir,
            skip_bad_images,
        )
    source_class = _source_class(name)
    resolution = as_integer("input_resolution", input_resolution, 1)
    if model_resolution is not None and source_class in _TOKENS:
        resolution = as_integer("model_resolution", model_resolution, 1)
    if source_class is OpenAITokens:
        opened = _open_openai_tokens(name, split, resolution)
    elif source_class is TokenCache:
        opened = _open_token_cache(name, split, resolution)
    elif source_class is TFDSRecords:
        layout = LAYOUTS[name]
        if split == "test":
            source = TFDSRecords(name, layout.test, data_dir)
            # All of it.
            opened = _open_images(source, name, split, resolution, "train")
        else:
            source = TFDSRecords(name, layout.train, data_dir)
            share = layout.validation_share
            opened = _open_images(
                source, name, split, resolution, split, validation_share=share
            )
    else:
        if name in _DIGITS:
            source = source_class()
        else:
            source = PictureFolder(_path_of(name), skip_bad_images)
        shares = {
            "test_share": TEST_SHARE,
            "validation_share": VALIDATION_SHARE,
        }
        opened = _open_images(source, name, split, resolution, split, **shares)
    if fold_validation and split == "train":
        return opened.with_validation()
    return opened


def open_splits(
    dataset,
    input_resolution=None,
    data_dir=None,
    skip_bad_images=False,
    model_resolution=None,
):
    """`open_split` of train, validation and test of a dataset.

    Args:
        dataset: as for `open_split`.
        input_resolution: as there.
        data_dir: as there.
        skip_bad_images: as there.
        model_resolution: as there.

    Returns:
        dict of `Split` by `"train"`, `"validation"` and `"test"`.
    """
    return {
        split: open_split(
            dataset,
            split,
            input_resolution,
            data_dir=data_dir,
            skip_bad_images=skip_bad_images,
            model_resolution=model_resolution,
        )
        for split in SPLITS
    }


def open_splits_for(
    tokenizer,
    sequence_length,
    dataset,
    data_dir=None,
    skip_bad_images=False,
):
    """`open_splits` as a model and its tokenizer take the images.

    Args:
        tokenizer: the model's tokenizer.
        sequence_length: int. Tokens of an image, `N`.
        dataset: as for `open_split`.
        data_dir: as for `open_split`.
        skip_bad_images: as for `open_split`.

    Raises:
        ValueError: as `open_split`, for tokens of another tokenizer, and for a
            mixture, which is to pretrain on.
    """
    side = math.isqrt(sequence_length)
    splits = open_splits(
        dataset,
        getattr(tokenizer, "input_resolution", side),
        data_dir,
        skip_bad_images,
        model_resolution=side,
    )
    for split in splits.values():
        split.check_evaluable()
        split.check_tokenizer(tokenizer)
    return splits


def default_resolution(name):
    """Side of the images of a dataset where none is asked for."""
    sources = mixture_sources(name)
    if sources:
        name, _ = sources[0]
    return _source_class(name).default_resolution


def _source_class(name):
    """The class that reads a dataset."""
    if name in _DIGITS:
        return _DIGITS[name]
    if name in LAYOUTS:
        return TFDSRecords
    for prefix, source_class in (
        ("folder:", PictureFolder),
        ("npy:", OpenAITokens),
        ("tokens:", TokenCache),
    ):
        if name.startswith(prefix):
            return source_class
    message = (
        f"Unknown dataset {name!r}; the known ones are {', '.join(DATASETS)}."
    )
    if os.path.isabs(name) or user_path(name).is_dir():
        message += f" For pictures in a directory write 'folder:{name}'."
    raise ValueError(message)


def _open_mixture(name, split, *arguments):
    """Of all sources for training, and of the first one otherwise."""
    datasets, parts = zip(*mixture_sources(name))
    if split != "train":
        return open_split(datasets[0], split, *arguments)
    sources = tuple(open_split(one, split, *arguments) for one in datasets)
    return Mixture(name, sources, parts)


def _open_images(
    source, name, split, resolution, part, test_share=0, validation_share=0
):
    """The examples of a source that `part` is, in order of their hashes."""
    import tensorflow as tf

    # The first eight bytes decide, the others settle ties.
    order = np.lexsort(np.flip(source.hashes.view(">u8"), axis=1).T)
    given = getattr(source, "splits", None)
    parts = assign_splits(
        source.labels[order],
        test_share,
        validation_share,
        None if given is None else given[order],
    )

    def take(*wanted):
        chosen = order[np.isin(parts, wanted)]
        if len(chosen) == 0:
            raise ValueError(
                f"{name} has {len(source.labels)} images, too few for a "
                f"{split} split of its own. Add images (a class needs about "
                "ten)."
            )
        labels = source.labels[chosen]
        digest = hashlib.sha256(source.hashes[chosen].tobytes())
        digest.update(labels.astype("<i4").tobytes())
        # Captured by reference: arrays stay out of the graph.
        indices = tf.constant(chosen)
        return Split(
            name,
            labels,
            source.class_names,
            resolution,
            lambda index: source.fetch(indices[index]),
            augment=source.augment,
            is_encoded=source.is_encoded,
            skipped=getattr(source, "skipped", ()),
            other_files=getattr(source, "other_files", ()),
            fingerprint=digest.hexdigest(),
            with_validation=with_validation,
        )

    with_validation = None
    if split == "train":

        def with_validation():
            return take("train", "validation")

    return take(part)


def _open_openai_tokens(name, split, resolution):
    def take(*splits):
        source = OpenAITokens(_path_of(name), splits, resolution**2)
        return _split_of_tokens(source, name, resolution, with_validation)

    with_validation = None
    if split == "train":

        def with_validation():
            return take("train", "validation")

    return take(split)


def _open_token_cache(name, split, resolution):
    def with_validation():
        raise ValueError(
            "A token cache was split when it was made; fold_validation is not "
            "for it."
        )

    directory = os.path.join(_path_of(name), split)
    source = TokenCache(directory, resolution**2)
    return _split_of_tokens(source, name, resolution, with_validation)


def _split_of_tokens(source, name, resolution, with_validation):
    return Split(
        name,
        source.labels,
        source.class_names,
        resolution,
        source.fetch,
        is_tokens=True,
        fingerprint=source.fingerprint,
        tokenizer=source.tokenizer,
        with_validation=with_validation,
    )


def _path_of(name):
    """What follows `folder:`, `npy:` or `tokens:`."""
    kind, _, path = name.partition(":")
    if not path:
        raise ValueError(
            f"{name!r} names no path. Write it behind the colon; "
            f"'{kind}:.' is the working directory."
        )
    return str(user_path(path))
