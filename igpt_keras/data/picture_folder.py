import functools
import pathlib

import keras
import numpy as np
from PIL import Image
from PIL import ImageOps
from PIL import UnidentifiedImageError

from igpt_keras.data.resize import resize_image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


@functools.cache
def load_pictures(path, resolution):
    """Reads a directory of pictures, each resized to one square resolution.

    Args:
        path: `pathlib.Path`. Pictures directly inside have no labels;
            pictures in subdirectories are labelled by the subdirectory.
        resolution: int. Side of the result, `R`.

    Returns:
        `(images, labels, ids, class_names)`: uint8 `(M, R, R, 3)`, int32
        `(M,)` (-1 without labels), names relative to `path`, class names.

    Raises:
        ValueError: if there is no picture, if some have a class and some do
            not, or a file cannot be read as a picture.
    """
    if not path.is_dir():
        raise ValueError(f"No directory at {path}.")
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and file.suffix.lower() in SUFFIXES
        and not any(p.startswith(".") for p in file.relative_to(path).parts)
    )
    if not files:
        raise ValueError(
            f"No pictures in {path}: looked for {', '.join(SUFFIXES)} there "
            "and in its subdirectories."
        )
    parents = [file.relative_to(path).parts[:-1] for file in files]
    if all(parents):
        class_names = tuple(sorted({parts[0] for parts in parents}))
        labels = [class_names.index(parts[0]) for parts in parents]
    elif any(parents):
        raise ValueError(
            f"{path} has pictures both directly inside and in subdirectories. "
            "Put every picture in a class subdirectory, or none."
        )
    else:
        class_names = ()
        labels = [-1] * len(files)
    images = np.empty((len(files), resolution, resolution, 3), "uint8")
    progress = keras.utils.Progbar(len(files), unit_name="picture")
    for i, file in enumerate(files):
        images[i] = resize_image(_read_picture(file), resolution)
        progress.update(i + 1)
    ids = [str(pathlib.PurePosixPath(f.relative_to(path))) for f in files]
    return images, np.array(labels, "int32"), ids, class_names


def _read_picture(file):
    try:
        with Image.open(file) as picture:
            if picture.mode.startswith(("I", "F")):
                raise ValueError(
                    f"{file} has {picture.mode} pixels, expected 8 bits a "
                    "channel. Convert it first."
                )
            alpha = picture.has_transparency_data
            if alpha and picture.convert("RGBA").getextrema()[3][0] < 255:
                raise ValueError(
                    f"{file} is transparent in places, where it has no "
                    "colour. Flatten it onto a background first."
                )
            # Cameras store how they were held beside the pixels.
            upright = ImageOps.exif_transpose(picture)
            return np.asarray(upright.convert("RGB"))
    except (
        OSError,
        SyntaxError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(
            f"{file} cannot be read as a picture ({error}). Remove or "
            "replace it."
        ) from error
