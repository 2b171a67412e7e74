import concurrent.futures
import hashlib
import json
import os
import pathlib

import keras
import numpy as np

from igpt_keras.data import augment
from igpt_keras.data.sources.folder_layout import FolderLayout
from igpt_keras.data.sources.index_cache import cached_index
from igpt_keras.data.sources.picture_file import printable
from igpt_keras.data.sources.picture_file import read_picture
from igpt_keras.terminal import verbosity

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


class PictureFolder:
    """Random access to the pictures of a directory and its subdirectories.

    Subdirectories are classes, or splits of them (see `FolderLayout`). All
    pictures are decoded once to see that they can be, which is remembered
    until a file's size or time changes (see `cached_index`).

    Args:
        path: directory.
        skip_bad_images: bool. Whether to leave out, count and list pictures
            that cannot be used, and directories that cannot be entered.
            Defaults to `False`, which refuses them.

    Attributes:
        hashes: uint8 array `(M, 32)`, sha256 of each path inside `path`.
        splits: array of str `(M,)`, the split that each picture is of, or
            `None` if the folder does not say.
        labels: int32 array `(M,)`, -1 without labels.
        class_names: tuple of str, empty without labels.
        skipped: tuple of str, why each picture or directory that was left out
            was. A class that has no picture left keeps its number.
        other_files: tuple of str, for each kind of file that is not read how
            many there are.

    Raises:
        ValueError: if there is no picture, if some have a class or a split and
            some do not, if directories link in a circle or cannot be read, or
            a picture cannot be used.
    """

    default_resolution = 32
    augment = staticmethod(augment.resize_and_crop)
    is_encoded = False

    def __init__(self, path, skip_bad_images=False):
        path = pathlib.Path(path)
        if not path.is_dir():
            raise ValueError(f"No directory at {path}.")
        files, others, bad = _find_pictures(path)
        self.other_files = _kinds(path, others)
        if bad and not skip_bad_images:
            raise ValueError(_summary(bad, "directories"))
        if not files:
            found = "".join(f" Left out: {line}" for line in bad[:1])
            found += "".join(f" Found {line}." for line in self.other_files)
            raise ValueError(
                f"No pictures in {path}: looked for {', '.join(SUFFIXES)} "
                f"there and in its subdirectories.{found}"
            )
        reasons = _check_pictures(path, files)
        bad += [reason for reason in reasons if reason]
        if bad and not skip_bad_images:
            raise ValueError(_summary(bad, "pictures"))
        self.skipped = tuple(bad)
        good = np.array([not reason for reason in reasons])
        self.files = [file for file, is_good in zip(files, good) if is_good]
        if not self.files:
            raise ValueError(
                f"None of the {len(files)} pictures in {path} can be used: "
                f"{bad[-1]}"
            )
        # Of all pictures, so that which ones are bad changes no label.
        layout = FolderLayout(path, [file.relative_to(path) for file in files])
        self.class_names = layout.class_names
        self.labels = layout.labels[good]
        self.splits = layout.splits
        if self.splits is not None:
            self.splits = self.splits[good]
        names = [file.relative_to(path) for file in self.files]
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

    Then those of other kinds, and a list of directories that were not entered,
    and why.
    """
    files, others, ancestors, bad = [], [], {}, []

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
        for name in names:
            if not name.startswith("."):
                is_picture = name.lower().endswith(SUFFIXES)
                found = files if is_picture else others
                found.append(pathlib.Path(folder, name))
    return sorted(files), sorted(others), bad


def _kinds(path, files):
    """A line for each kind of file, the most frequent one first."""
    kinds = {}
    for file in files:
        kinds.setdefault(file.suffix.lower(), []).append(file)
    lines = []
    for suffix, those in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
        first = printable(those[0].relative_to(path))
        name = suffix or "nameless"
        if len(those) == 1:
            lines.append(f"1 {name} file, {first}")
        else:
            lines.append(f"{len(those):,} {name} files, such as {first}")
    return tuple(lines)


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
        progress = keras.utils.Progbar(
            len(files), unit_name="picture", verbose=verbosity()
        )
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
