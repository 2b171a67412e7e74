import hashlib
import json
import os
import pathlib

import numpy as np

from igpt_keras.storage.atomic_file import atomic_file

# Raised whenever what an index says about the same files changes.
INDEX_FORMAT = 2
_DIGEST = "digest"


def cached_index(name, stamp, make):
    """Arrays that take a pass over a dataset to make, made once.

    Kept as `.npz` in the user's cache directory (`$XDG_CACHE_HOME/igpt_keras`
    or `~/.cache/igpt_keras`), never with the data, under a name that changes
    with `stamp`. A file that cannot be read there, or is none of ours, is made
    again.

    Args:
        name: str. What the index is of.
        stamp: JSON value. What the index depends on, such as file sizes.
        make: callable that returns a dict of NumPy arrays.

    Returns:
        The dict of arrays.
    """
    content = json.dumps([INDEX_FORMAT, name, stamp])
    digest = hashlib.sha256(content.encode()).hexdigest()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # Without a home directory the tilde stays.
    if base.startswith("~"):
        return make()
    path = pathlib.Path(base) / "igpt_keras" / f"index-{digest[:16]}.npz"
    arrays = _read(path, digest)
    if arrays is None:
        arrays = make()
        try:
            _write(path, {**arrays, _DIGEST: np.array(digest)})
        except OSError:
            # Read-only, or full: the next process makes the index again.
            pass
    return arrays


def file_stamp(path):
    """What of a file changes when its content does."""
    status = os.stat(path)
    return [os.path.realpath(path), status.st_size, status.st_mtime_ns]


def _read(path, digest):
    """The arrays of an index, or `None` if there is no such whole index."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        whole = arrays.pop(_DIGEST).item() == digest
    except Exception:
        # Not there, no permission, or whatever the many parsers of an archive
        # make of damage: what can be made again must not end a run.
        return None
    return arrays if whole else None


def _write(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, shared=True) as file:
        np.savez(file, **arrays)
