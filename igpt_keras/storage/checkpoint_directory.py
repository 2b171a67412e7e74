"""Checkpoints as directories that are whole, or are known not to be."""

import hashlib
import json
import shutil

import numpy as np

from igpt_keras.storage.atomic_directory import atomic_directory
from igpt_keras.storage.atomic_file import atomic_file
from igpt_keras.storage.digest import file_sha256

FORMAT = 2
_FILES = ("state.npz", "manifest.json")


class DamagedCheckpoint(Exception):
    """What is wrong with a checkpoint that is not whole."""


def write_checkpoint(directory, arrays, manifest):
    """Writes a checkpoint whole or not at all.

    Args:
        directory: path; an earlier checkpoint there is replaced.
        arrays: dict of arrays.
        manifest: dict of JSON values that belong to them.

    Raises:
        OSError: if it cannot be written.
    """
    with atomic_directory(directory, _FILES) as staged:
        np.savez(staged / "state.npz", **arrays)
        manifest = {**manifest, "state": file_sha256(staged / "state.npz")}
        (staged / "manifest.json").write_bytes(_sealed(manifest))


def write_manifest(directory, manifest):
    """Replaces what belongs to the arrays of a checkpoint, and not these.

    Args:
        directory: path of a checkpoint that is whole.
        manifest: dict of JSON values.
    """
    state = read_manifest(directory)["state"]
    with atomic_file(directory / "manifest.json") as file:
        file.write(_sealed({**manifest, "state": state}))


def copy_checkpoint(source, directory):
    """Copies a checkpoint whole or not at all."""
    with atomic_directory(directory, _FILES) as staged:
        for name in _FILES:
            shutil.copyfile(source / name, staged / name)


def read_manifest(directory):
    """What belongs to the arrays of a checkpoint, without reading these.

    Raises:
        DamagedCheckpoint: if it is missing or not what was written.
    """
    path = directory / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        seal = manifest.pop("seal")
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"{path} cannot be read ({error})") from error
    if seal != _seal(manifest):
        raise DamagedCheckpoint(f"{path} was edited or damaged")
    if version != FORMAT:
        raise ValueError(
            f"{directory} has checkpoint format {version}, this version reads "
            f"{FORMAT}."
        )
    return manifest


def read_checkpoint(directory):
    """The arrays of a checkpoint, and what belongs to them.

    Returns:
        `(arrays, manifest)`.

    Raises:
        DamagedCheckpoint: if any bit is not what was written.
    """
    manifest = read_manifest(directory)
    path = directory / "state.npz"
    try:
        if file_sha256(path) != manifest["state"]:
            raise DamagedCheckpoint(f"{path} was edited or damaged")
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}, manifest
    except OSError as error:
        raise DamagedCheckpoint(f"{path} cannot be read ({error})") from error


def read_arrays(directory, prefix):
    """The arrays of a checkpoint whose names begin with `prefix`, a dict.

    Raises:
        DamagedCheckpoint: if they are not there.
    """
    path = directory / "state.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if name.startswith(prefix)]
            return {name: file[name] for name in names}
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(f"{path} cannot be read ({error})") from error


def _sealed(manifest):
    """The bytes of a manifest, which say whether they are all there."""
    manifest = {"format": FORMAT, **manifest}
    sealed = {**manifest, "seal": _seal(manifest)}
    return (json.dumps(sealed, indent=2) + "\n").encode()


def _seal(manifest):
    text = json.dumps(manifest, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
