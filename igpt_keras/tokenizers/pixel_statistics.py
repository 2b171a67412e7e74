import math

import keras
import numpy as np

_MOST_IMAGES = 2048


def pixel_statistics(images, check_images):
    """Mean and variance of all pixel values of images.

    Args:
        images: uint8 array `(M, R, R, 3)`, or batches of them, with labels or
            without, of which the first 2,048 images are taken.
        check_images: function that raises a `ValueError` for bad images.

    Returns:
        Number of images, and mean and variance of values of 0 to 255.

    Raises:
        ValueError: if there are none, they are all one value, or their range is
            [0, 1].
    """
    count, total, squares, highest = 0, 0, 0, 0
    for batch in _batches(images):
        if isinstance(batch, (tuple, list)):
            batch = batch[0]
        if not hasattr(batch, "shape"):
            raise ValueError(
                "Batches must be images or (images, labels), received a "
                f"{type(batch).__name__}. Call `adapt` with images before "
                "`fit` where they are distributed."
            )
        check_images(batch)
        pixels = np.asarray(batch)[: _MOST_IMAGES - count]
        count += len(pixels)
        for image in pixels:
            image = image.astype("int64")
            total += int(image.sum())
            squares += int((image**2).sum())
            highest = max(highest, int(image.max()))
        if count == _MOST_IMAGES:
            break
    if count == 0:
        raise ValueError("There are no images to measure.")
    values = count * math.prod(pixels.shape[1:])
    variance = (values * squares - total**2) / values**2
    if variance == 0:
        raise ValueError(
            f"All pixel values of {count} images are {highest}: their "
            "variance is 0, and there is nothing to learn. Look at the "
            "images."
        )
    if highest <= 1:
        raise ValueError(
            f"Pixel values of {count} images are 0 and 1, expected 0 to "
            "255. Multiply images in [0, 1] by 255 and round before "
            "casting."
        )
    return count, total / values, variance


def _batches(images):
    if hasattr(images, "shape"):
        return [images]
    if not hasattr(images, "__iter__"):
        raise ValueError(
            "Expected an array of images, or batches of them, received a "
            f"{type(images).__name__}."
        )
    if isinstance(images, keras.utils.PyDataset):
        return (images[i] for i in range(len(images)))
    if iter(images) is images:
        raise ValueError(
            "An iterator can be read once only. Call `adapt` with images "
            "before `fit`."
        )
    return images
