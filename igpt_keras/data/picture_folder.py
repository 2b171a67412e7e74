import concurrent.futures
import functools
import hashlib
import os
import pathlib

import keras
import numpy as np
from PIL import Image
from PIL import ImageOps
from PIL import UnidentifiedImageError

from igpt_keras.data.index_cache import cached_index

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


class PictureFolder:
    """Random access to the pictures of a directory and its subdirectories.

    Pictures directly inside have no labels; pictures in subdirectories are
    labelled by the first one. All are decoded once to see that they can be,
    which is remembered until a file's size or time changes (see
    `cached_index`).

    Args:
        path: directory.
        skip_bad_images: bool. Whether to leave out, count and list pictures
            that cannot be used. Defaults to `False`, which refuses them.

    Attributes:
        hashes: uint8 array `(M, 32)`, sha256 of each path inside `path`.
        labels: int32 array `(M,)`, -1 without labels.
        class_names: tuple of str, empty without labels.
        skipped: tuple of str, why each picture that was left out was.

    Raises:
        ValueError: if there is no picture, if some have a class and some do
            not, if directories link in a circle, or a picture cannot be used.
    """

    def __init__(self, path, skip_bad_images=False):
        path = pathlib.Path(path)
        if not path.is_dir():
            raise ValueError(f"No directory at {path}.")
        files = _find_pictures(path)
        if not files:
            raise ValueError(
                f"No pictures in {path}: looked for {', '.join(SUFFIXES)} "
                "there and in its subdirectories."
            )
        reasons = _check_pictures(path, files)
        bad = [reason for reason in reasons if reason]
        if bad and not skip_bad_images:
            more = f" {len(bad)} pictures are like that." if bad[1:] else ""
            raise ValueError(
                f"{bad[0]}{more} Mend or remove them, or skip them with "
                "skip_bad_images."
            )
        self.skipped = tuple(bad)
        self.files = [f for f, reason in zip(files, reasons) if not reason]
        if not self.files:
            raise ValueError(f"None of the {len(bad)} pictures can be used.")
        names = [file.relative_to(path) for file in self.files]
        with_class = [len(name.parts) > 1 for name in names]
        if any(with_class) and not all(with_class):
            raise ValueError(
                f"{path} has pictures both directly inside and in "
                "subdirectories. Put every picture in a class subdirectory, or "
                "none."
            )
        self.class_names = ()
        self.labels = np.full(len(names), -1, "int32")
        if all(with_class):
            classes = [name.parts[0] for name in names]
            class_names, labels = np.unique(classes, return_inverse=True)
            self.class_names = tuple(class_names.tolist())
            self.labels = labels.astype("int32")
        digests = [
            hashlib.sha256(name.as_posix().encode()).digest() for name in names
        ]
        self.hashes = np.frombuffer(b"".join(digests), "uint8").reshape(-1, 32)

    def fetch(self, index):
        """The picture, uint8 `(H, W, 3)`, inside `tf.data`.

        Args:
            index: int64 scalar tensor.
        """
        import tensorflow as tf

        image = tf.numpy_function(self._read, [index], tf.uint8)
        return tf.ensure_shape(image, (None, None, 3))

    def _read(self, index):
        return read_picture(self.files[index])


@functools.cache
def open_folder(path, skip_bad_images):
    return PictureFolder(path, skip_bad_images)


def read_picture(file):
    """Decodes a picture to uint8 `(H, W, 3)`, upright.

    Greyscale and palettes lose nothing and are converted.

    Raises:
        ValueError: for what is no whole picture of 8-bit RGB colours.
    """
    try:
        with Image.open(file) as picture:
            width, height = picture.size
            if width * height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(
                    f"{file} has {width} x {height} pixels, more than "
                    f"{Image.MAX_IMAGE_PIXELS:,}: it may be made to fill the "
                    "memory. Shrink it first."
                )
            if picture.mode.startswith(("I", "F")):
                raise ValueError(
                    f"{file} has {picture.mode} pixels, expected 8 bits a "
                    "channel. Convert it first."
                )
            if picture.mode not in ("RGB", "RGBA", "L", "LA", "P", "1"):
                raise ValueError(
                    f"{file} has {picture.mode} colours, which are RGB only "
                    "by a colour profile. Convert it to RGB first."
                )
            if getattr(picture, "n_frames", 1) > 1:
                raise ValueError(
                    f"{file} is animated ({picture.n_frames} frames). Save the "
                    "frame that is meant."
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
            f"{file} cannot be read as a picture ({error})."
        ) from error


def _find_pictures(path):
    """Files in order of their names, through links, not into hidden ones."""
    files, ancestors = [], {}
    for folder, folders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        above = ancestors.get(os.path.dirname(folder), ())
        if real in above:
            raise ValueError(
                f"{folder} links to a directory that it is inside of ({real}). "
                "Remove the link."
            )
        ancestors[folder] = (*above, real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        files += [
            pathlib.Path(folder, name)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return sorted(files)


def _check_pictures(path, files):
    """For each picture why it cannot be used, or an empty string."""

    def stamp(file):
        try:
            status = file.stat()
        except OSError:
            return [str(file)]
        readable = os.access(file, os.R_OK)
        return [str(file), status.st_size, status.st_mtime_ns, readable]

    def check(file):
        try:
            read_picture(file)
        except ValueError as error:
            return str(error)
        return ""

    def make():
        reasons = []
        progress = keras.utils.Progbar(len(files), unit_name="picture")
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for reason in pool.map(check, files):
                reasons.append(reason)
                progress.update(len(reasons))
        return {"reasons": np.array(reasons, dtype=str)}

    name = f"pictures in {path.resolve()}"
    reasons = cached_index(name, [stamp(file) for file in files], make)
    return reasons["reasons"].tolist()
