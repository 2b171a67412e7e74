import os

import numpy as np
from PIL import Image

from igpt_keras.data.resize import resize_image
from igpt_keras.data.sources.picture_file import picture_pixels
from igpt_keras.data.sources.picture_file import read_picture
from igpt_keras.data.sources.picture_folder import SUFFIXES
from igpt_keras.storage.user_path import user_path

WHITE = (255, 255, 255)


def picture_files(paths):
    """The pictures that are meant by paths of pictures and of folders.

    Args:
        paths: list of paths. Of a folder, what is called like a picture is
            taken, in order of names, and nothing below.

    Returns:
        list of `pathlib.Path`.

    Raises:
        ValueError: if there is no picture in a folder, or nothing at a path.
    """
    files = []
    for path in map(user_path, paths):
        if not path.exists():
            raise ValueError(
                f"No picture at {path}. Pass a picture or a folder of them."
            )
        if not path.is_dir():
            files.append(path)
            continue
        found = [
            file
            for file in sorted(path.iterdir())
            if file.name.lower().endswith(SUFFIXES)
            and not file.name.startswith(".")
        ]
        if not found:
            raise ValueError(
                f"No pictures in {path}: looked for {', '.join(SUFFIXES)} "
                "there, and not in its subdirectories. Pass another folder."
            )
        files += found
    return files


def open_pictures(pictures, resolution, background=WHITE):
    """Pictures of any size as a model sees them: the centre square, resized.

    Upright by their EXIF orientation, and greyscale as grey colours.

    Args:
        pictures: list of paths and of `PIL.Image.Image`.
        resolution: int. Side of the result, `R`.
        background: colour of three ints that transparent parts are laid over.
            Defaults to white.

    Returns:
        uint8 `(P, R, R, 3)`.

    Raises:
        ValueError: if there are none, or one is no whole picture of 8 bits a
            channel.
    """
    if not isinstance(pictures, (list, tuple)) or not pictures:
        raise ValueError(
            "pictures must be a list of paths or PIL images, at least one, "
            f"received {pictures!r}."
        )
    return np.stack(
        [
            resize_image(_pixels(i, picture, background), resolution).numpy()
            for i, picture in enumerate(pictures)
        ]
    )


def _pixels(number, picture, background):
    if isinstance(picture, Image.Image):
        return picture_pixels(picture, background, f"pictures[{number}]")
    if isinstance(picture, (str, os.PathLike)):
        return read_picture(user_path(picture), background)
    raise ValueError(
        f"pictures[{number}] must be a path or a PIL image, received a "
        f"{type(picture).__name__}. Arrays of one resolution go in one array."
    )
