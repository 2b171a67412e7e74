import concurrent.futures
import hashlib
import json
import os
import pathlib

import keras
import numpy as np

from igpt_keras.data import augment
from igpt_keras.data.sources.index_cache import cached_index
from igpt_keras.data.sources.picture_file import printable
from igpt_keras.data.sources.picture_file import read_picture

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
            that cannot be used, and directories that cannot be entered.
            Defaults to `False`, which refuses them.

    Attributes:
        hashes: uint8 array `(M, 32)`, sha256 of each path inside `path`.
        labels: int32 array `(M,)`, -1 without labels.
        class_names: tuple of str, empty without labels.
        skipped: tuple of str, why each picture or directory that was left out
            was. A class that has no picture left keeps its number.

    Raises:
        ValueError: if there is no picture, if some have a class and some do
            not, if directories link in a circle or cannot be read, or a
            picture cannot be used.
    """

    default_resolution = 32
    augment = staticmethod(augment.resize_and_crop)
    is_encoded = False

    def __init__(self, path, skip_bad_images=False):
        path = pathlib.Path(path)
        if not path.is_dir():
            raise ValueError(f"No directory at {path}.")
        files, bad = _find_pictures(path)
        if bad and not skip_bad_images:
            raise ValueError(_summary(bad, "directories"))
        if not files:
            left_out = f" Left out: {bad[0]}" if bad else ""
            raise ValueError(
                f"No pictures in {path}: looked for {', '.join(SUFFIXES)} "
                f"there and in its subdirectories.{left_out}"
            )
        reasons = _check_pictures(path, files)
        bad += [reason for reason in reasons if reason]
        if bad and not skip_bad_images:
            raise ValueError(_summary(bad, "pictures"))
        self.skipped = tuple(bad)
        self.files = [f for f, reason in zip(files, reasons) if not reason]
        if not self.files:
            raise ValueError(
                f"None of the {len(files)} pictures in {path} can be used: "
                f"{bad[-1]}"
            )
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
            # Of all pictures, so that which ones are bad changes no label.
            inside = [file.relative_to(path).parts for file in files]
            classes = sorted({parts[0] for parts in inside if parts[1:]})
            self.class_names = tuple(map(printable, classes))
            numbers = {name: i for i, name in enumerate(classes)}
            labels = [numbers[name.parts[0]] for name in names]
            self.labels = np.array(labels, "int32")
        # Names are bytes, and need not be UTF-8.
        digests = [
            hashlib.sha256(os.fsencode(name.as_posix())).digest()
            for name in names
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


def _summary(bad, what):
    more = f" {len(bad)} {what} are like that." if bad[1:] else ""
    return (
        f"{bad[0]}{more} Mend or remove them, or skip them with "
        "skip_bad_images."
    )


def _find_pictures(path):
    """Files in order of their names, through links, not into hidden ones.

    And a list of directories that were not entered, and why.
    """
    files, ancestors, bad = [], {}, []

    def note(error):
        reason = error.strerror or error
        bad.append(printable(f"{error.filename} cannot be read ({reason})."))

    for folder, folders, names in os.walk(path, onerror=note, followlinks=True):
        real = os.path.realpath(folder)
        above = ancestors.get(os.path.dirname(folder), ())
        if real in above:
            bad.append(
                printable(
                    f"{folder} links to a directory that it is inside of "
                    f"({real}). Remove the link."
                )
            )
            folders.clear()
            continue
        ancestors[folder] = (*above, real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        files += [
            pathlib.Path(folder, name)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return sorted(files), bad


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
        bad, checked = {}, 0
        progress = keras.utils.Progbar(len(files), unit_name="picture")
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for reason in pool.map(check, files):
                if reason:
                    bad[checked] = reason
                checked += 1
                progress.update(checked)
        # An array of strings gives every picture the room of the longest.
        return {"bad": np.frombuffer(json.dumps(bad).encode(), "uint8")}

    name = f"pictures in {path.resolve()}"
    index = cached_index(name, [stamp(file) for file in files], make)
    bad = json.loads(index["bad"].tobytes())
    return [bad.get(str(i), "") for i in range(len(files))]
