import dataclasses

import numpy as np

from igpt_keras.data.open_split import open_split


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
        ValueError: as `open_split`, and for a dataset of tokens.
    """
    opened = open_split(
        name,
        split,
        input_resolution,
        fold_validation,
        data_dir,
        skip_bad_images,
    )
    opened.check_images()
    images = [x for x, _ in opened.batches(256).as_numpy_iterator()]
    return Examples(np.concatenate(images), opened.labels, opened.class_names)
