import hashlib
import json
import os
import pathlib
import tempfile

import numpy as np


def cached_index(name, stamp, make, beside=None):
    """Arrays that take a pass over a dataset to make, made once.

    Kept as `.npz` beside the data where that can be written, or else in the
    user's cache directory, under a name that changes with `stamp`.

    Args:
        name: str. What the index is of.
        stamp: JSON value. What the index depends on, such as file sizes.
        make: callable that returns a dict of NumPy arrays.
        beside: directory of the data. Defaults to none.

    Returns:
        The dict of arrays.
    """
    digest = hashlib.sha256(json.dumps([name, stamp]).encode()).hexdigest()
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    directories = [pathlib.Path(base) / "igpt_keras"]
    if beside is not None:
        directories.insert(0, pathlib.Path(beside))
    file = f"igpt_keras-index-{digest[:16]}.npz"
    for directory in directories:
        if (directory / file).is_file():
            return dict(np.load(directory / file, allow_pickle=False))
    arrays = make()
    for directory in directories:
        try:
            _write(directory / file, arrays)
            break
        except OSError:
            # Shared datasets are often read-only; without a cache the next
            # process makes the index again.
            continue
    return arrays


def _write(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, staged = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with open(descriptor, "wb") as file:
            np.savez(file, **arrays)
        os.replace(staged, path)
    finally:
        pathlib.Path(staged).unlink(missing_ok=True)
